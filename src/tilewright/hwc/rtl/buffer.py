"""A buffer: parts of as many banks as there are lanes, neighbours in neighbouring banks.

A part serves one input channel, or one pixel, of those that are worked on in parallel. When none
are, the parts follow one another and make one buffer.
"""

# Amaranth's stubs leave much unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeArgument=false

from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory


class Buffer(Elaboratable):
    """Words that are read and written one by one, or a word of every bank at once.

    Attributes:
        is_parallel: the parts are read at the same address; else they follow one another.
        read: the address that is read; the words are there in the next cycle.
        enable: whether it is read at all; if not, the words read before stay.
        read_part: with `is_parallel`, the part that `word` is of.
        words: what was read, by part and bank.
        banks_words: the words of the part that the address named, by bank.
        word: the one of them that the address named.
        bank: which bank that is.
        put: a word is written.
        place: its address.
        put_part: with `is_parallel`, the part that it goes to.
        data: the word.
        put_banks: by part and bank: a word is written there, at the row of `bank_place`.
        bank_place: an address in that row.
        bank_data: the words, by part and bank.
        bank_part: without `is_parallel`: the part that `bank_place` names.
    """

    def __init__(self, words: int, bits: int, banks: int, parts: int = 1) -> None:
        self.part_words = words // parts
        self.depth, self.bits, self.banks, self.parts = words // banks // parts, bits, banks, parts
        address = (words - 1).bit_length() + 1
        part = max(1, (parts - 1).bit_length())
        self.is_parallel = Signal()
        self.read = Signal(address)
        self.enable = Signal(init=1)
        self.read_part = Signal(part)
        self.words = [
            [Signal(signed(bits), name=f"word{p}_{i}") for i in range(banks)] for p in range(parts)
        ]
        self.banks_words = [Signal(signed(bits), name=f"bank_word{i}") for i in range(banks)]
        self.word = Signal(signed(bits))
        self.bank = Signal(max(1, (banks - 1).bit_length()))
        self.put = Signal()
        self.place = Signal(address)
        self.put_part = Signal(part)
        self.data = Signal(signed(bits))
        self.put_banks = [Signal(banks, name=f"put_banks{p}") for p in range(parts)]
        self.bank_place = Signal(address)
        self.bank_part = Signal(part)
        self.bank_data = [
            [Signal(signed(bits), name=f"bank_data{p}_{i}") for i in range(banks)]
            for p in range(parts)
        ]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shift = (self.banks - 1).bit_length()
        bank = self.bank
        put_bank = Signal(max(1, shift))
        part = Signal(len(self.read_part))
        read, read_part = self._locate(m, "read", self.read, self.read_part)
        place, put_part = self._locate(m, "put", self.place, self.put_part)
        bank_place, self_part = self._locate(m, "bank", self.bank_place, Signal(len(part)))
        m.d.comb += self.bank_part.eq(self_part)
        with m.If(self.enable):
            m.d.sync += [bank.eq(read[:shift]), part.eq(read_part)]
        m.d.comb += put_bank.eq(place[:shift])
        for p in range(self.parts):
            for i in range(self.banks):
                memory = Memory(shape=signed(self.bits), depth=self.depth, init=[])
                m.submodules[f"bank{p}_{i}"] = memory
                write = memory.write_port()
                ahead = memory.read_port(transparent_for=(write,))
                is_put = self.put & (put_bank == i) & (put_part == p)
                m.d.comb += [
                    ahead.addr.eq(read[shift:]),
                    ahead.en.eq(self.enable),
                    self.words[p][i].eq(ahead.data),
                    write.en.eq(is_put | self.put_banks[p][i]),
                    write.addr.eq(bank_place[shift:]),
                    write.data.eq(self.bank_data[p][i]),
                ]
                with m.If(is_put):
                    m.d.comb += [write.addr.eq(place[shift:]), write.data.eq(self.data)]
        for i in range(self.banks):
            of_bank = Array([self.words[p][i] for p in range(self.parts)])
            m.d.comb += self.banks_words[i].eq(of_bank[part])
        m.d.comb += self.word.eq(Array(self.banks_words)[bank])
        return m

    def _locate(self, m: Module, name: str, address: Signal, part: Signal) -> tuple[Signal, Signal]:
        """The address in a part, and which part."""
        inside = Signal(len(address), name=f"{name}_inside")
        chosen = Signal(len(part), name=f"{name}_chosen")
        reached = [address >= self.part_words * p for p in range(1, self.parts)]
        linear: Value = Cat(*reached)
        first = Signal(len(address), name=f"{name}_first")
        number = Signal(len(part), name=f"{name}_number")
        for p in range(1, self.parts):
            with m.If(linear[p - 1]):
                m.d.comb += [first.eq(self.part_words * p), number.eq(p)]
        m.d.comb += [
            inside.eq(address - Mux(self.is_parallel, 0, first)),
            chosen.eq(Mux(self.is_parallel, part, number)),
        ]
        return inside, chosen
