"""The sequencer: the loop nest, one step a cycle.

Every loop keeps its index, the base of its dim up to itself, and running sums (addresses in the
buffers, row and column of the input) over all loops up to itself. A step is taken by the innermost
loop that has a next iteration that exists; all loops inside take over its sums.
"""

# Amaranth's stubs leave much unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeArgument=false

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed

from tilewright.hwc.config import HwcConfig
from tilewright.hwc.convolution import DIMS, REDUCED

SUMS = ("W", "O", "I", "row", "column")
"""What every loop adds up: an address in each buffer, and a coordinate on each axis."""


class Sequencer(Elaboratable):
    """Runs the nest; with `tiles_of`, only the loops outside that operand's tile.

    Attributes:
        restart: goes to the first step.
        advance: goes to the next step.
        sums: of the present step, by `SUMS`.
        at: the present iteration, by dim.
        begins: whether no iteration before adds to the same output word.
        ends: whether none after does.
        is_last: whether there is no next step.
        moves: whether the next step may move a tile, by operand.
        slides: whether the loop along which the input slides takes the next step.
    """

    def __init__(
        self,
        config: HwcConfig,
        registers: dict[str, Signal],
        *,
        tiles_of: str = "",
        sums: tuple[str, ...] = SUMS,
    ) -> None:
        self.config, self.registers = config, registers
        self.tiles_of, self.wanted = tiles_of, sums
        self.restart = Signal()
        self.advance = Signal()
        local = {name: len(registers[f"loop0.add_{name}"]) for name in self.wanted}
        self.shapes = {
            name: signed(bits + 2) if name in ("row", "column") else bits
            for name, bits in local.items()
        }
        self.sums = {name: Signal(shape, name=f"sum_{name}") for name, shape in self.shapes.items()}
        self.at = {dim: Signal(config.count_bits, name=f"at_{dim}") for dim in DIMS}
        self.begins = Signal()
        self.ends = Signal()
        self.is_last = Signal()
        self.moves = {operand: Signal(name=f"moves_{operand}") for operand in "WIO"}
        self.slides = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        loops, count = self.config.loops, self.config.count_bits
        index = [Signal(count, name=f"index{i}") for i in range(loops)]
        base = [Signal(count, name=f"base{i}") for i in range(loops)]
        clear = [Signal(name=f"clear{i}") for i in range(loops)]
        takes, inside = self._find_taker(m, index, base)
        self._step_bases(m, index, base, takes, inside)
        self._step_sums(m, takes, inside)
        self._step_clear(m, clear, takes, inside)
        self._watch_tiles(m, index, takes, inside)
        for dim in DIMS:
            places = Array([*base, Const(0, count)])
            m.d.comb += self.at[dim].eq(places[self.registers[f"last.{dim}"]])
        m.d.comb += self.begins.eq(clear[-1])
        at_once = {"C": Mux(self.registers["parallel.C"], self.config.channels, 1)}
        done = [
            self.at[dim] + at_once.get(dim, 1) >= self.registers[f"size.{dim}"] for dim in REDUCED
        ]
        m.d.comb += self.ends.eq(Cat(*done).all())
        m.d.comb += self.is_last.eq(~Cat(*takes).any())
        return m

    def _of(self, number: int, field: str) -> Signal:
        return self.registers[f"loop{number}.{field}"]

    def _find_taker(
        self, m: Module, index: list[Signal], base: list[Signal]
    ) -> tuple[list[Signal], list[Signal]]:
        """Which loop takes the next step (one hot), and which lie inside it."""
        loops = range(self.config.loops)
        can = [Signal(name=f"can{i}") for i in loops]
        takes = [Signal(name=f"takes{i}") for i in loops]
        inside = [Signal(name=f"inside{i}") for i in loops]
        for i in loops:
            more = index[i] + 1 < self._of(i, "extent")
            exists = base[i] + self._of(i, "step") < self._of(i, "limit")
            runs = self._of(i, f"outside_{self.tiles_of}") if self.tiles_of else Const(1)
            m.d.comb += can[i].eq(more & exists & runs)
            m.d.comb += takes[i].eq(can[i] & ~Cat(*can[i + 1 :]).any())
            if i:
                m.d.comb += inside[i].eq(inside[i - 1] | takes[i - 1])
        return takes, inside

    def _step_bases(
        self,
        m: Module,
        index: list[Signal],
        base: list[Signal],
        takes: list[Signal],
        inside: list[Signal],
    ) -> None:
        count = self.config.count_bits
        following: list[Value] = []
        for i in range(self.config.loops):
            after = Signal(count, name=f"base_after{i}")
            outer = Array([*following, *[Const(0, count)] * (self.config.loops + 1 - i)])
            taken = base[i] + self._of(i, "step")
            kept = Mux(inside[i], outer[self._of(i, "parent")], base[i])
            m.d.comb += after.eq(Mux(takes[i], taken, kept))
            following.append(after)
            with m.If(self.restart):
                m.d.sync += [index[i].eq(0), base[i].eq(0)]
            with m.Elif(self.advance):
                m.d.sync += base[i].eq(after)
                m.d.sync += index[i].eq(Mux(takes[i], index[i] + 1, Mux(inside[i], 0, index[i])))

    def _step_sums(self, m: Module, takes: list[Signal], inside: list[Signal]) -> None:
        first = {name: -self.registers[f"{name}.padding"] for name in ("row", "column")}
        for name in self.wanted:
            shape = self.shapes[name]
            sums = [Signal(shape, name=f"sum{i}_{name}") for i in range(self.config.loops)]
            adds = [self._of(i, f"add_{name}") for i in range(self.config.loops)]
            after = Signal(shape, name=f"after_{name}")
            m.d.comb += after.eq(_chosen(takes, sums) + _chosen(takes, adds))
            for i, total in enumerate(sums):
                with m.If(self.restart):
                    m.d.sync += total.eq(first.get(name, 0))
                with m.Elif(self.advance & (takes[i] | inside[i])):
                    m.d.sync += total.eq(after)
            m.d.comb += self.sums[name].eq(sums[-1])

    def _step_clear(
        self, m: Module, clear: list[Signal], takes: list[Signal], inside: list[Signal]
    ) -> None:
        """Keep for every loop whether all indices up to it that reduce are 0."""
        reduces = [self._of(i, "reduces") for i in range(self.config.loops)]
        after = Signal()
        m.d.comb += after.eq(_chosen(takes, clear) & ~_chosen(takes, reduces))
        for i, flag in enumerate(clear):
            with m.If(self.restart):
                m.d.sync += flag.eq(1)
            with m.Elif(self.advance & (takes[i] | inside[i])):
                m.d.sync += flag.eq(after)

    def _watch_tiles(
        self, m: Module, index: list[Signal], takes: list[Signal], inside: list[Signal]
    ) -> None:
        """A tile moves if a loop outside it that indexes the operand changes its index."""
        for operand in "WIO":
            changes = [
                self._of(i, f"moves_{operand}") & (takes[i] | (inside[i] & (index[i] != 0)))
                for i in range(self.config.loops)
            ]
            m.d.comb += self.moves[operand].eq(Cat(*changes).any())
        chosen = Array([*takes, Const(0)])
        m.d.comb += self.slides.eq(chosen[self.registers["slide"]])


def _chosen(takes: Sequence[Signal], values: Sequence[Signal]) -> Value:
    """The value of the loop that takes the step."""
    shape = values[0].shape()
    gated = [Mux(take, value, Const(0, shape)) for take, value in zip(takes, values, strict=True)]
    return reduce(or_, gated)
