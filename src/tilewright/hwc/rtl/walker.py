"""The walker: every word of a box, one a cycle, with its address in memory and in the buffer."""

# Amaranth's stubs leave much unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeArgument=false

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal, Value

from tilewright.hwc.config import HwcConfig
from tilewright.hwc.convolution import LAYOUT


class Walker(Elaboratable):
    """Walks the box of an operand's tile, in the order of memory.

    Attributes:
        set_up: begins to find the box of the tile at `at`, clipped to the layer; takes as many
            cycles as there are dims.
        rewind: goes to the first word of the same box.
        step: goes to the next word.
        is_ready: the box is found.
        is_last: the present word is the last.
        memory: address of the present word in the operand's memory.
        buffer: address of the present word in the buffer.
        index: where in the box the present word is, by dim.
        crosses: the next word, if there is one, differs in another dim than the last two.
        part: of a dim that is worked on in parallel: which lane's the present word is.
    """

    def __init__(
        self,
        config: HwcConfig,
        registers: dict[str, Signal],
        at: dict[str, Signal],
        operand: str,
        parallel: tuple[str, Signal, int] | None = None,
    ) -> None:
        self.dims = LAYOUT[operand]
        self.parallel = parallel
        self.at = [at[dim] for dim in self.dims]
        of_dim = {
            key: [registers[f"{operand}.{dim}.{key}"] for dim in self.dims]
            for key in ("span", "pitch", "stride")
        }
        self.spans, self.pitches, self.strides = of_dim["span"], of_dim["pitch"], of_dim["stride"]
        self.sizes = [registers[f"size.{dim}"] for dim in self.dims]
        self.count_bits = config.count_bits
        self.set_up = Signal()
        self.rewind = Signal()
        self.step = Signal()
        self.is_ready = Signal()
        self.is_last = Signal()
        self.memory = Signal(config.address_bits)
        self.buffer = Signal(len(self.pitches[0]))
        self.index = {dim: Signal(config.count_bits, name=f"index_{dim}") for dim in self.dims}
        self.crosses = Signal()
        self.part = Signal(max(1, (parallel[2] - 1).bit_length() if parallel else 0))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rank = len(self.dims)
        lengths = [Signal(self.count_bits, name=f"length{i}") for i in range(rank)]
        origin = Signal(len(self.memory))
        number = Signal(range(rank + 1), init=rank)
        room = Signal(self.count_bits)
        chosen = Signal(self.count_bits)
        m.d.comb += chosen.eq(Array(self.at)[number])
        m.d.comb += room.eq(Array(self.sizes)[number] - chosen)
        m.d.comb += self.is_ready.eq(number == rank)
        with m.If(self.set_up):
            m.d.sync += [number.eq(0), origin.eq(0)]
        with m.Elif(~self.is_ready):
            span = Array(self.spans)[number]
            m.d.sync += [
                number.eq(number + 1),
                origin.eq(origin + chosen * Array(self.strides)[number]),
                Array(lengths)[number].eq(Mux(span < room, span, room)),
            ]
        self._walk(m, lengths, origin)
        return m

    def _walk(self, m: Module, lengths: list[Signal], origin: Signal) -> None:
        rank = len(self.dims)
        index = list(self.index.values())
        more = [index[i] + 1 < lengths[i] for i in range(rank)]
        takes = [more[i] & ~Cat(*more[i + 1 :]).any() for i in range(rank)]
        inside = [Cat(*takes[:i]).any() for i in range(rank)]
        with m.If(self.rewind):
            m.d.sync += [i.eq(0) for i in index]
        with m.Elif(self.step):
            for i in range(rank):
                stays = Mux(inside[i], 0, index[i])
                m.d.sync += index[i].eq(Mux(takes[i], index[i] + 1, stays))
        for address, first, distances in (
            (self.memory, origin, self.strides),
            (self.buffer, 0, self._part(m, index)),
        ):
            places = [Signal(len(address), name=f"{address.name}{i}") for i in range(rank)]
            pairs = list(zip(takes, places, distances, strict=True))
            after = Signal(len(address), name=f"{address.name}_after")
            sums = [Mux(take, place + distance, 0) for take, place, distance in pairs]
            m.d.comb += after.eq(reduce(or_, sums))
            for i, place in enumerate(places):
                with m.If(self.rewind):
                    m.d.sync += place.eq(first)
                with m.Elif(self.step & (takes[i] | inside[i])):
                    m.d.sync += place.eq(after)
            m.d.comb += address.eq(places[-1])
        m.d.comb += self.is_last.eq(~Cat(*takes).any())
        m.d.comb += self.crosses.eq(~Cat(*takes[-2:]).any())

    def _part(self, m: Module, index: list[Signal]) -> list[Value]:
        """The distances in the buffer: neighbours of a dim that is parallel share an address."""
        distances: list[Value] = list(self.pitches)
        if self.parallel is None or self.parallel[2] == 1:
            return distances
        dim, is_parallel, lanes = self.parallel
        at = self.dims.index(dim)
        low = index[at][: len(self.part)]
        m.d.comb += self.part.eq(Mux(is_parallel, low, 0))
        distances[at] = Mux(is_parallel & (low != lanes - 1), 0, distances[at])
        return distances
