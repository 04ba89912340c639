"""What words and steps cost: energy, cycles, utilization, power, area.

Owns: the formulas of `spec/model.md §4` and the noun `Cost`, whose parts sum to its totals.

Non-goals: counting, and whether a mapping is legal (`model/evaluate.py`). Numbers such as (F19) are
those of `docs/model-formulas.md`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from tilewright.ir.hardware import Hardware, Level
from tilewright.ir.mapping import Mapping, format_mapping
from tilewright.ir.workload import Operand, Workload
from tilewright.model import timeloop
from tilewright.model.convention import Convention, Reuse
from tilewright.model.counts import Counts, Group, Tally
from tilewright.model.limit import DramLimit, dram_limit
from tilewright.model.table import Row, as_frame, as_html, as_text
from tilewright.tech import Provenance

if TYPE_CHECKING:
    import pandas as pd

OVERLAPS = ("perfect", "serial")


@dataclass(frozen=True, slots=True)
class OperandCost:
    """What one operand costs at one level: its largest tile, its moves, their energy in pJ."""

    tile_words: int
    moves: Tally
    energy_pj: float

    def to_json(self) -> dict[str, int | float]:
        """The words moved and their energy, by name."""
        return {
            "tile_words": self.tile_words,
            "reads": self.moves.reads,
            "fills": self.moves.fills,
            "updates": self.moves.updates,
            "drains": self.moves.drains,
            "energy_pj": self.energy_pj,
        }


@dataclass(frozen=True, slots=True)
class LevelCost:
    """What one level costs.

    Attributes:
        memory: its name.
        instances: how many the chip has.
        cycles: that its busiest port is busy.
        operands: by name, those that it keeps.
        network_pj: energy of the hops on the fan-out below.
        leak_pj: leakage of all instances over the run.
        area_mm2: of all instances; `None` if not known.
    """

    memory: str
    instances: int
    cycles: int
    operands: dict[str, OperandCost]
    network_pj: float
    leak_pj: float
    area_mm2: float | None

    @property
    def access_pj(self) -> float:
        """Energy of all accesses."""
        return math.fsum(cost.energy_pj for cost in self.operands.values())

    @property
    def energy_pj(self) -> float:
        """Energy of accesses, hops and leakage."""
        return math.fsum((self.access_pj, self.network_pj, self.leak_pj))


@dataclass(frozen=True, slots=True)
class Cost:
    """What a mapping costs, with everything that it is made of.

    Attributes:
        workload: what was run.
        hardware: on what, energies and areas from tables filled in.
        mapping: how.
        convention: by which rules it was counted.
        overlap: `perfect`, or `serial` if the ramp is added.
        counts: the words.
        levels: one entry per level, outermost first.
        compute_pj: energy of the multiply-accumulates.
        compute_area_mm2: area of all MAC units; `None` if not known.
        ramp_cycles: cycles of loading the first tiles and storing the last.
        tables: where energies and areas come from, by memory, and by the compute unit's name.

    Shows as a table when printed, and in a notebook.
    """

    workload: Workload
    hardware: Hardware
    mapping: Mapping
    convention: Convention
    overlap: str
    counts: Counts = field(repr=False)
    levels: tuple[LevelCost, ...]
    compute_pj: float
    compute_area_mm2: float | None
    ramp_cycles: int
    tables: dict[str, Provenance]

    @property
    def energy_pj(self) -> float:
        """Energy of the whole run, in pJ (F19)."""
        return math.fsum([level.energy_pj for level in self.levels] + [self.compute_pj])

    @property
    def compute_cycles(self) -> int:
        """Temporal steps that exist."""
        return self.counts.steps

    @property
    def cycles(self) -> int:
        """Cycles of the whole run: the slowest of compute and ports, the ramp if serial (F21)."""
        busiest = max(self.compute_cycles, *(level.cycles for level in self.levels))
        return busiest + (self.ramp_cycles if self.overlap == "serial" else 0)

    @property
    def edp(self) -> float:
        """Energy times delay, in pJ · cycles (F25)."""
        return self.energy_pj * self.cycles

    @property
    def utilization(self) -> float:
        """Multiply-accumulates over those that all units could do in the same cycles (F23)."""
        return self.counts.macs / (self.cycles * self.hardware.mac_units)

    @property
    def latency_s(self) -> float:
        """Seconds that the run takes (F24)."""
        return self.cycles / (self.hardware.clock_ghz * 1e9)

    @property
    def power_w(self) -> float:
        """Energy over time, in W (F24)."""
        return self.energy_pj * 1e-12 / self.latency_s

    @property
    def area_mm2(self) -> float | None:
        """Area of all parts whose area is known (F26); `None` if none is."""
        areas = [*(level.area_mm2 for level in self.levels), self.compute_area_mm2]
        known = [area for area in areas if area is not None]
        return math.fsum(known) if known else None

    @property
    def dram_words(self) -> int:
        """Words to and from the outermost level (F27)."""
        moves = [cost.moves for cost in self.levels[0].operands.values()]
        return sum(tally.reads + tally.updates for tally in moves)

    @property
    def limit(self) -> DramLimit:
        """The physical limit of those words."""
        return dram_limit(self.workload, self.hardware)

    @property
    def waterfall(self) -> tuple[tuple[str, int], ...]:
        """What the cycles are made of: compute, each level's ports, and the ramp."""
        ports = ((f"{level.memory} ports", level.cycles) for level in self.levels)
        return (("compute", self.compute_cycles), *ports, ("ramp", self.ramp_cycles))

    def to_json(self) -> dict[str, object]:
        """The document of `spec/formats.md`, Results."""
        return {
            "workload": self.workload.name,
            "hardware": self.hardware.name,
            "convention": self.convention.name,
            "mapping": format_mapping(self.mapping),
            "macs": self.counts.macs,
            "cycles": self.cycles,
            "energy_pj": self.energy_pj,
            "edp": self.edp,
            "area_mm2": self.area_mm2,
            "utilization": self.utilization,
            "power_w": self.power_w,
            "latency_s": self.latency_s,
            "compute_cycles": self.compute_cycles,
            "ramp_cycles": self.ramp_cycles,
            "overlap": self.overlap,
            "dram_words": self.dram_words,
            "dram_limit_words": self.limit.words,
            "dram_bound_words": self.limit.bound_words,
            "levels": [_level_json(level) for level in self.levels],
            "compute": {"energy_pj": self.compute_pj, "area_mm2": self.compute_area_mm2},
            "tables": {name: provenance.to_json() for name, provenance in self.tables.items()},
        }

    def to_frame(self) -> "pd.DataFrame":
        """One row per level and operand as a pandas frame, words and pJ.

        Raises: `MissingToolError` if pandas, an extra, is not installed.
        """
        return as_frame(self._rows())

    def _rows(self) -> list[Row]:
        return [
            {"memory": level.memory, "operand": name} | cost.to_json()
            for level in self.levels
            for name, cost in level.operands.items()
        ]

    def __str__(self) -> str:
        return f"{self._headline()}\n{as_text(self._rows())}"

    def _repr_html_(self) -> str:
        from html import escape

        table = as_html(self._rows())
        return f"<p>{escape(self._headline())}</p><pre>{escape(str(self.mapping))}</pre>{table}"

    def _headline(self) -> str:
        return (
            f"{self.workload.name} on {self.hardware.name} ({self.convention.name}): "
            f"{self.energy_pj / 1e6:,.3f} µJ, {self.cycles:,} cycles, "
            f"{self.utilization:.1%} of the MAC units"
        )


def price(  # noqa: PLR0913
    workload: Workload,
    hardware: Hardware,
    mapping: Mapping,
    counts: Counts,
    *,
    convention: Convention,
    overlap: str,
    tables: dict[str, Provenance],
) -> Cost:
    """Put a price on counts.

    Args:
        workload: what was run.
        hardware: with all energies given, as `apply_technology` returns it.
        mapping: how it was run.
        counts: of that mapping.
        convention: the rules by which they were counted.
        overlap: `perfect` or `serial`.
        tables: where energies and areas come from.

    Source: `spec/model.md §4`.
    """
    pricing = _Pricing(workload, hardware, counts, convention)
    ports = pricing.port_cycles()
    ramp = pricing.ramp_cycles()
    cycles = max(counts.steps, *ports.values()) + (ramp if overlap == "serial" else 0)
    levels = tuple(
        pricing.level_cost(index, ports[level.memory], cycles)
        for index, level in enumerate(hardware.levels)
    )
    unit = hardware.compute.area_mm2
    return Cost(
        workload,
        hardware,
        mapping,
        convention,
        overlap,
        counts,
        levels,
        counts.macs * (hardware.compute.pj or 0.0),
        None if unit is None else unit * hardware.mac_units,
        ramp,
        tables,
    )


@dataclass(frozen=True, slots=True)
class _Pricing:
    workload: Workload
    hardware: Hardware
    counts: Counts
    convention: Convention

    def level_cost(self, index: int, port_cycles: int, cycles: int) -> LevelCost:
        level, instances = self.hardware.levels[index], self.hardware.instances(index)
        hop_words = sum(
            words for (memory, _), words in self.counts.hop_words.items() if memory == level.memory
        )
        return LevelCost(
            level.memory,
            instances,
            port_cycles,
            {operand.name: self._operand_cost(level, operand) for operand in self._kept(level)},
            level.fanout.hop_pj * hop_words,
            level.leak_pj_per_cycle * instances * cycles,
            None if level.area_mm2 is None else level.area_mm2 * instances,
        )

    def _kept(self, level: Level) -> Iterator[Operand]:
        kept = self.counts.tile_words
        return (o for o in self.workload.operands if (level.memory, o.name) in kept)

    def _operand_cost(self, level: Level, operand: Operand) -> OperandCost:
        energy = math.fsum(
            group.instances * self._energy(level, operand, group.tallies[operand.name])
            for group in self.counts.groups[level.memory]
            if operand.name in group.tallies
        )
        words = self.counts.tile_words[level.memory, operand.name]
        return OperandCost(words, self.counts[level.memory, operand.name], energy)

    def _energy(self, level: Level, operand: Operand, tally: Tally) -> float:
        """Energy of the moves of one instance, in pJ (F18)."""
        read_pj, write_pj = level.read_pj or 0.0, level.write_pj or 0.0
        update_pj = write_pj if level.update_pj is None else level.update_pj
        if self.convention.reuse is Reuse.TIMELOOP:
            reads, fills, updates = (
                math.ceil(words / level.block_words) * level.block_words
                for words in (tally.reads, tally.fills, tally.updates)
            )
            return reads * read_pj + fills * write_pj + updates * update_pj
        bits = self._bits(operand, tally)
        drains = bits.drains if self.convention.charges_drains else 0
        whole = (bits.reads + drains) * read_pj + bits.fills * write_pj + bits.updates * update_pj
        return whole / level.word_bits

    def _bits(self, operand: Operand, tally: Tally) -> Tally:
        """The moves of an instance in bits: partial sums are as wide as `psum_bits` (F17)."""
        if operand != self.workload.output:
            return tally * operand.bits
        partial, finished = self.workload.psum_bits, operand.bits
        return Tally(
            tally.reads * partial,
            tally.fills * partial,
            tally.updates * partial - tally.finished_updates * (partial - finished),
            tally.drains * partial - tally.finished_drains * (partial - finished),
        )

    def port_cycles(self) -> dict[str, int]:
        """The cycles that the busiest port of the busiest instance of every level is busy (F20)."""
        if self.convention.reuse is Reuse.TIMELOOP:
            return timeloop.level_cycles(self.hardware, self.counts)
        return {
            level.memory: max(
                (
                    self._instance_cycles(level, group)
                    for group in self.counts.groups.get(level.memory, ())
                ),
                default=0,
            )
            for level in self.hardware.levels
        }

    def _instance_cycles(self, level: Level, group: Group) -> int:
        moved = [
            self._bits(self.workload.operand(name), tally) for name, tally in group.tallies.items()
        ]
        drains = sum(bits.drains for bits in moved) if self.convention.charges_drains else 0
        read = sum(bits.reads for bits in moved) + drains
        write = sum(bits.fills + bits.updates for bits in moved)
        return max(
            _cycles(read, level, level.read_bandwidth),
            _cycles(write, level, level.write_bandwidth),
            _cycles(read + write, level, level.bandwidth),
        )

    def ramp_cycles(self) -> int:
        """Cycles of loading the first tiles of every memory, and storing the last outputs (F22)."""
        return sum(
            self._ramp_of(level, index) for index, level in enumerate(self.hardware.levels) if index
        )

    def _ramp_of(self, level: Level, index: int) -> int:
        inwards: dict[str, int] = {}
        outwards: dict[str, int] = {}
        for operand in self.workload.operands:
            words = self.counts.ramp_words.get((level.memory, operand.name))
            if words is not None:
                ways = outwards if operand == self.workload.output else inwards
                parent = self._parent(operand, index).memory
                ways[parent] = ways.get(parent, 0) + words * operand.bits
        total = 0
        for ways, source_reads in ((inwards, False), (outwards, True)):
            for parent, bits in ways.items():
                other = self.hardware.levels[self.hardware.level_index(parent)]
                source, sink = (level, other) if source_reads else (other, level)
                total += _transfer_cycles(bits, source, sink)
        return total

    def _parent(self, operand: Operand, index: int) -> Level:
        """The next level outwards that keeps an operand."""
        kept = self.counts.tile_words
        outer = (level for level in reversed(self.hardware.levels[:index]))
        return next(level for level in outer if (level.memory, operand.name) in kept)


def _cycles(bits: int, level: Level, bandwidth: float | None) -> int:
    if bandwidth is None:
        return 0
    return math.ceil(Fraction(bits, level.word_bits) / Fraction(repr(bandwidth)))


def _transfer_cycles(bits: int, source: Level, sink: Level) -> int:
    """Cycles of moving bits from one memory to another, at the slower of the two ports."""
    ports = [
        Fraction(repr(bandwidth)) * level.word_bits
        for level, bandwidth in (
            (source, source.read_bandwidth or source.bandwidth),
            (sink, sink.write_bandwidth or sink.bandwidth),
        )
        if bandwidth is not None
    ]
    return math.ceil(bits / min(ports)) if ports else 0


def _level_json(level: LevelCost) -> dict[str, object]:
    return {
        "memory": level.memory,
        "instances": level.instances,
        "cycles": level.cycles,
        "operands": {name: cost.to_json() for name, cost in level.operands.items()},
        "network_pj": level.network_pj,
        "leak_pj": level.leak_pj,
        "area_mm2": level.area_mm2,
    }
