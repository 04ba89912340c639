"""A buffer: as many banks as there are lanes, neighbours in neighbouring banks."""

# Amaranth's stubs leave much unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeArgument=false

from amaranth.hdl import Array, Elaboratable, Module, Signal, signed
from amaranth.lib.memory import Memory


class Buffer(Elaboratable):
    """Words that are read and written one by one, or a word of every bank at once.

    Attributes:
        read: the address that is read; the words are there in the next cycle.
        enable: whether it is read at all; if not, the words read before stay.
        words: what was read, by bank.
        word: the one of them that the address named.
        put: a word is written.
        place: its address.
        data: the word.
        put_banks: a word is written to each of these banks, at the row of `bank_place`.
        bank_place: an address in that row.
        bank_data: the words, by bank.
    """

    def __init__(self, words: int, bits: int, banks: int) -> None:
        self.depth, self.bits, self.banks = words // banks, bits, banks
        address = (words - 1).bit_length() + 1
        self.read = Signal(address)
        self.enable = Signal(init=1)
        self.words = [Signal(signed(bits), name=f"word{i}") for i in range(banks)]
        self.word = Signal(signed(bits))
        self.put = Signal()
        self.place = Signal(address)
        self.data = Signal(signed(bits))
        self.put_banks = Signal(banks)
        self.bank_place = Signal(address)
        self.bank_data = [Signal(signed(bits), name=f"bank_data{i}") for i in range(banks)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shift = (self.banks - 1).bit_length()
        bank = Signal(max(1, shift))
        put_bank = Signal(max(1, shift))
        with m.If(self.enable):
            m.d.sync += bank.eq(self.read[:shift])
        m.d.comb += put_bank.eq(self.place[:shift])
        for i in range(self.banks):
            memory = Memory(shape=signed(self.bits), depth=self.depth, init=[])
            m.submodules[f"bank{i}"] = memory
            write = memory.write_port()
            read = memory.read_port(transparent_for=(write,))
            is_put = self.put & (put_bank == i)
            m.d.comb += [
                read.addr.eq(self.read[shift:]),
                read.en.eq(self.enable),
                self.words[i].eq(read.data),
                write.en.eq(is_put | self.put_banks[i]),
                write.addr.eq(self.bank_place[shift:]),
                write.data.eq(self.bank_data[i]),
            ]
            with m.If(is_put):
                m.d.comb += [write.addr.eq(self.place[shift:]), write.data.eq(self.data)]
        m.d.comb += self.word.eq(Array(self.words)[bank])
        return m
