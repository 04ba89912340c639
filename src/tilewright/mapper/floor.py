"""A bound of what any mapping costs, even or uneven, perfect or imperfect.

Owns: `least_of`, from the words that must move and the work that must be done, whatever the loops.

Non-goals: a bound of one choice of tiles or bypasses (`mapper/kernels.py`).
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tilewright.ir.hardware import Level
from tilewright.ir.workload import Operand
from tilewright.mapper.copies import Floats, Spread, spread_of, tiles_meet
from tilewright.mapper.result import Objective
from tilewright.mapper.rounds import Parts, list_parts, stay_share
from tilewright.mapper.sharing import (
    Demand,
    Unrollings,
    least_joint_pj,
    list_unrollings,
    shape_of,
)
from tilewright.mapspace.space import Mapspace
from tilewright.model.evaluate import Evaluator
from tilewright.model.limit import dram_limit, operand_touches, operand_words

StayShare = Callable[[int], Floats]
"""The share of an operand's words that stays at most, by the words that an instance holds."""
ROUNDING = 2e-12
"""How far a value that meets a bound may lie above it."""
BELOW = 1 - 1e-12
"""Sums in another order are not above."""


def least_of(evaluator: Evaluator, objective: Objective, *, joint: bool = True) -> float:
    """What no mapping of the layer on the chip undercuts, in the objective's unit.

    Every word of an operand crosses every edge on its way at least once, whatever is kept where,
    and more often where it is copied (`mapper/copies.py`) or cannot stay (`mapper/rounds.py`);
    every MAC reads its words, one read serving as many MACs as the networks between reach and as
    one way to unroll dims lets all operands share (`mapper/sharing.py`); a cycle does as many MACs
    as there are units, and the outermost ports move every word once.

    Without `joint`, operands are bounded one by one: a hundred times as quick, and lower.

    Holds in the convention `default`. Source: `spec/model.md §3, §4, §6`.
    """
    floor = Floor(evaluator)
    if objective is Objective.DRAM:
        limit = dram_limit(evaluator.workload, evaluator.hardware).words
        return float(math.ceil(limit - 1e-6))
    if objective is Objective.CYCLES:
        return floor.cycles()
    by_cycles = objective is Objective.EDP
    return floor.joint(by_cycles=by_cycles) if joint else floor.alone(by_cycles=by_cycles)


def meets(value: float, bound: float) -> bool:
    """Whether a value is no worse than a bound of `least_of`, but for sums in another order.

    >>> meets(1.0, 1 - 1e-12), meets(1.0, 0.999)
    (True, False)
    """
    return value <= bound * (1 + ROUNDING)


class Floor:
    """What a layer's operands cost on a chip at least, by the memories that keep them."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.workload, self.hardware = evaluator.workload, evaluator.hardware
        self.space = Mapspace(self.workload, self.hardware)

    def cycles(self) -> float:
        work = math.ceil(self.workload.macs / self.hardware.mac_units - 1e-6)
        level, output = self.hardware.levels[0], self.workload.output
        reads = sum(operand_words(o, self.workload) * o.bits for o in self.workload.inputs)
        writes = operand_words(output, self.workload) * self.finished_bits
        ports = [
            bits / (width * level.word_bits)
            for bits, width in (
                (reads, level.read_bandwidth),
                (writes, level.write_bandwidth),
                (reads + writes, level.bandwidth),
            )
            if width is not None
        ]
        return float(max([work, *(math.ceil(port - 1e-6) for port in ports)]))

    @property
    def finished_bits(self) -> int:
        return min(self.workload.output.bits, self.workload.psum_bits)

    @property
    def fixed_pj(self) -> float:
        """What MACs take, wherever their words come from."""
        return self.workload.macs * (self.hardware.compute.pj or 0.0)

    @property
    def leak_pj(self) -> float:
        """What memories lose in a cycle."""
        return sum(
            level.leak_pj_per_cycle * self.hardware.instances(index)
            for index, level in enumerate(self.hardware.levels)
        )

    def choices(self) -> list[tuple[float, float, list[Demand]]]:
        """By the operands' innermost memories: energy between memories, least to MACs, demands."""
        operands = self.workload.operands
        ways = [
            [(pj, self.demand(operand, innermost)) for innermost, pj in self.ways_pj(operand)]
            for operand in operands
        ]
        found: list[tuple[float, float, list[Demand]]] = []
        for chosen in itertools.product(*ways):
            demands = [demand for _, demand in chosen]
            alone = sum(demand.least_pj() for demand in demands)
            found.append((sum(pj for pj, _ in chosen), alone, demands))
        return sorted(found, key=lambda choice: choice[0] + choice[1])

    def alone(self, *, by_cycles: bool) -> float:
        """The least of energy, or of EDP, if every operand shares as much as the networks reach."""
        between, alone, _ = self.choices()[0]
        cycles = self.cycles()
        pj = between + alone + self.fixed_pj + self.leak_pj * cycles
        return pj * (cycles if by_cycles else 1.0) * BELOW

    def joint(self, *, by_cycles: bool) -> float:
        """The least of energy, or of EDP, over the ways to unroll dims."""
        listed = list_unrollings(self.workload, self.hardware)
        if listed is None:
            return self.joint_by_prices(by_cycles=by_cycles)
        ways = Ways.of(self, listed, by_cycles=by_cycles)
        once = ways.once()
        best = math.inf
        for passed in self.passed_again():
            best = min(best, ways.least(passed, once, best))
        return best * BELOW

    def passed_again(self) -> set[frozenset[int]]:
        """The places of operands that the outermost temporal loop does not index, by its dim.

        None at all if every MAC may be done in one step.
        """
        found = {
            frozenset(at for at, o in enumerate(self.workload.operands) if dim not in o.dims)
            for dim, size in self.workload.sizes.items()
            if size > 1
        }
        every = math.prod(self.workload.sizes.values())
        return found | ({frozenset[int]()} if every <= self.hardware.mac_units else set())

    def again_pj(
        self, operand: Operand, path: tuple[int, ...], spread: Spread, stay: StayShare
    ) -> Floats:
        """What words take that pass the outermost edge again, in every round of a loop.

        The loop is the outermost one, and does not index the operand.
        """
        again = self.again_words(operand, path, spread, stay)
        if len(path) == 1:
            return again
        outer, inner = (self.hardware.levels[index] for index in path[:2])
        read = (outer.read_pj or 0.0) / outer.word_bits
        written = (inner.write_pj or 0.0) / inner.word_bits
        if operand == self.workload.output:
            drained = (inner.read_pj or 0.0) / inner.word_bits + update_pj(outer)
            return again * self.workload.psum_bits * (read + written + drained)
        if self.is_own(path[-1]) and len(path) == 2:
            words = operand_words(operand, self.workload)
            sent = np.maximum(0.0, again - words * (self.sent(operand, path, spread) - 1))
            filled = np.maximum(0.0, again - words * (spread.least - 1))
            return (sent * read + filled * written) * operand.bits
        return again * operand.bits * (read + written)

    def again_words(
        self, operand: Operand, path: tuple[int, ...], spread: Spread, stay: StayShare
    ) -> Floats:
        """Words that no memory can have kept from one round of such a loop to the next."""
        none = np.zeros(len(spread.distinct))
        if len(path) == 1:
            return none
        index, level = path[1], self.hardware.levels[path[1]]
        words, is_output = operand_words(operand, self.workload), operand == self.workload.output
        partitioned = isinstance(level.capacity, tuple)
        room = level.usable_bits(operand.name if partitioned else None)
        if room is None:
            return none
        held = room // (self.finished_bits if is_output else operand.bits)
        copies = self.hardware.instances(index)
        meet = any(tiles_meet(rank, self.workload) for rank in operand.ranks)
        if copies == 1 and not meet:
            return none + (words if words > held else 0)
        if is_output:
            return none
        if not self.is_own(index):
            return np.maximum(0.0, words - held * copies) + none
        kept = np.minimum(held * np.minimum(copies, spread.distinct), words)
        return words - (kept if meet else np.minimum(kept, words * stay(held)))

    def is_own(self, index: int) -> bool:
        """Whether every instance of a level serves a single MAC."""
        return all(level.fanout.copies == 1 for level in self.hardware.levels[index:])

    def way_pj(
        self, operand: Operand, path: tuple[int, ...], spread: Spread, shares: Floats
    ) -> Floats:
        """The least energy of an operand that some levels keep, by way to unroll dims."""
        innermost = path[-1]
        if len(path) == 1 or not self.is_own(innermost):
            return self.path_pj(operand, path) + self.demand(operand, innermost).pj(shares)
        words = operand_words(operand, self.workload)
        sent = words * self.sent(operand, path, spread) * self.sent_pj(operand, path[-2])
        pj = self.path_pj(operand, path[:-1]) + sent
        if operand == self.workload.output:
            places = words * np.minimum(spread.most, self.hardware.mac_units)
            return pj + self.sums_pj(operand, innermost, places)
        level, touches = self.hardware.levels[innermost], operand_touches(operand, self.workload)
        filled = words * spread.least * (level.write_pj or 0.0)
        read = touches * (level.read_pj or 0.0)
        return pj + (filled + read) * operand.bits / level.word_bits

    def sent(self, operand: Operand, path: tuple[int, ...], spread: Spread) -> Floats:
        """How often a word is sent to memories of single MACs at least, or to their parent."""
        is_output = operand == self.workload.output
        fans = [level.fanout for level in self.hardware.levels[path[-2] : path[-1]]]
        reach = math.prod(
            fan.copies for fan in fans if (fan.reduction if is_output else fan.multicast)
        )
        return np.maximum(1.0, spread.least / np.minimum(spread.together, reach))

    def sent_pj(self, operand: Operand, index: int) -> float:
        """The energy of a word that a level sends inwards, or, of the output, receives."""
        level = self.hardware.levels[index]
        if operand == self.workload.output:
            return self.finished_bits * update_pj(level)
        return operand.bits * (level.read_pj or 0.0) / level.word_bits

    def sums_pj(self, output: Operand, index: int, places: Floats) -> Floats:
        """What a level that serves single MACs takes for the output, but for what it is filled.

        What the first update of a word does not read is drained later.
        """
        level, bits = self.hardware.levels[index], self.workload.psum_bits
        touches = operand_touches(output, self.workload)
        read_pj = (level.read_pj or 0.0) / level.word_bits
        again = np.maximum(0.0, touches - places) * (bits - self.finished_bits)
        return touches * bits * update_pj(level) + (touches * self.finished_bits + again) * read_pj

    def joint_by_prices(self, *, by_cycles: bool) -> float:
        """The same for arrays with more ways than are listed."""
        shape = shape_of(self.workload, self.hardware)
        if shape is None:
            return self.alone(by_cycles=by_cycles)
        best = math.inf
        for between, alone, demands in self.choices():
            if between + alone >= best:
                break
            joint = least_joint_pj(shape, demands, self.hardware.mac_units)
            best = min(best, between + max(alone, joint))
        cycles = self.cycles()
        pj = best + self.fixed_pj + self.leak_pj * cycles
        return pj * (cycles if by_cycles else 1.0) * BELOW

    def paths(self, operand: Operand) -> Iterator[tuple[int, ...]]:
        """Every choice of levels that keep an operand, outermost first."""
        options = [
            (True,)
            if operand.name in forced
            else (True, False)
            if operand.name in free
            else (False,)
            for forced, free in zip(self.space.forced, self.space.optional, strict=True)
        ]
        for kept in itertools.product(*options):
            yield tuple(index for index, keeps in enumerate(kept) if keeps)

    def ways_pj(self, operand: Operand) -> list[tuple[int, float]]:
        """By the innermost level that keeps an operand: the least energy between levels."""
        found: dict[int, float] = {}
        for path in self.paths(operand):
            found[path[-1]] = min(found.get(path[-1], math.inf), self.path_pj(operand, path))
        return list(found.items())

    def path_pj(self, operand: Operand, path: tuple[int, ...]) -> float:
        """The least energy of an operand's moves between the levels that keep it."""
        levels = [self.hardware.levels[index] for index in path]
        words = operand_words(operand, self.workload)
        total = 0.0
        for parent, child in itertools.pairwise(levels):
            if operand == self.workload.output:
                bits = words * self.finished_bits
                total += bits * (update_pj(parent) + (child.read_pj or 0.0) / child.word_bits)
            else:
                bits = words * operand.bits
                total += bits * (
                    (parent.read_pj or 0.0) / parent.word_bits
                    + (child.write_pj or 0.0) / child.word_bits
                )
        return total

    def demand(self, operand: Operand, index: int) -> Demand:
        """What the innermost level that keeps an operand moves for MACs."""
        level = self.hardware.levels[index]
        inside = [inner.fanout for inner in self.hardware.levels[index:]]
        served = math.prod(fanout.copies for fanout in inside if fanout.multicast)
        merged = math.prod(fanout.copies for fanout in inside if fanout.reduction)
        words = operand_words(operand, self.workload)
        touches = operand_touches(operand, self.workload)
        often = touches / words if words else 1.0
        read_pj = (level.read_pj or 0.0) / level.word_bits
        if operand != self.workload.output:
            pj = touches * operand.bits * read_pj
            return Demand(((pj, min(float(served), often), 0.0),))
        first = words * self.hardware.mac_units / served
        bits = self.workload.psum_bits
        updates = touches * bits * update_pj(level), min(float(merged), often), 0.0
        return Demand(((touches * bits * read_pj, float(served), first * bits * read_pj), updates))


@dataclass(frozen=True, slots=True)
class Ways:
    """Ways to unroll dims, and the least that operands take in each.

    Attributes:
        floor: of the layer on the chip.
        listed: the ways.
        spreads: by operand, of all ways.
        by_cycles: whether EDP is bounded, not energy.
    """

    floor: Floor
    listed: Unrollings
    spreads: list[Spread]
    by_cycles: bool

    @classmethod
    def of(cls, floor: Floor, listed: Unrollings, *, by_cycles: bool) -> "Ways":
        """All that is listed."""
        work, extents, dims = floor.workload, listed.extents, listed.dims
        spreads = [spread_of(operand, work, extents, dims) for operand in work.operands]
        return cls(floor, listed, spreads, by_cycles)

    @property
    def cycles(self) -> Floats:
        """By way, the cycles that it takes at least."""
        return np.maximum(self.listed.steps, self.floor.cycles())

    def once(self) -> list[Floats]:
        """By operand and way, the least energy if no word passes again."""
        places = range(len(self.floor.workload.operands))
        return [self.least_pj(at, None, passes=False) for at in places]

    def by_way(self) -> Floats:
        """By way, the least energy or EDP: `Floor.joint` is the least of all."""
        once = self.once()
        best = np.full(len(self.listed.steps), math.inf)
        for passed in self.floor.passed_again():
            even = Parts(None, self.listed.extents[:, 0], self.listed.extents[:, 0])
            best = np.minimum(best, self.values(self.cycles, self.energies(passed, once, even)))
            for parts in self.longer_parts(passed):
                energies = self.energies(passed, once, parts)
                energies.append(np.where(parts.is_possible, 0.0, math.inf))
                cycles = np.maximum(self.listed.steps * self.longer(parts), self.floor.cycles())
                best = np.minimum(best, self.values(cycles, energies))
        return best * BELOW

    def least(self, passed: frozenset[int], once: list[Floats], best: float) -> float:
        """The least energy or EDP if some operands pass again, or no less than `best`."""
        even = Parts(None, self.listed.extents[:, 0], self.listed.extents[:, 0])
        best = min(best, self.value(self.listed.steps, self.energies(passed, once, even)))
        if self.value(self.listed.steps, self.energies(passed, once, None)) >= best:
            return best  # whatever the parts
        for parts in self.longer_parts(passed):
            energies = self.energies(passed, once, parts)
            energies.append(np.where(parts.is_possible, 0.0, math.inf))
            best = min(best, self.value(self.listed.steps * self.longer(parts), energies))
        return best

    def longer_parts(self, passed: frozenset[int]) -> Iterator[Parts]:
        """The cases in which a dim that indexes an operand that passes again has a long part."""
        indexing = {dim for at in passed for dim in self.floor.workload.operands[at].dims}
        for column, dim in enumerate(self.listed.dims):
            if dim in indexing:
                size = self.floor.workload.sizes[dim]
                yield from list_parts(dim, size, self.listed.extents[:, column])

    def longer(self, parts: Parts) -> Floats | float:
        """By how much more rounds than it must the dim with the longer part takes."""
        if parts.dim is None:
            return 1.0
        extents = self.listed.extents[:, self.listed.dims.index(parts.dim)]
        return parts.rounds / -(-self.floor.workload.sizes[parts.dim] // extents)

    def energies(
        self, passed: frozenset[int], once: list[Floats], parts: Parts | None
    ) -> list[Floats]:
        """By operand: its least energy in a case of parts, or whatever the parts."""
        dim = None if parts is None else parts.dim
        return [
            self.least_pj(at, parts, passes=at in passed)
            if at in passed or (dim is not None and dim not in operand.dims)
            else once[at]
            for at, operand in enumerate(self.floor.workload.operands)
        ]

    def least_pj(self, at: int, parts: Parts | None, *, passes: bool) -> Floats:
        """The least energy of an operand, over the memories that may keep it."""
        operand, spread = self.floor.workload.operands[at], self.spreads[at]
        shares = self.listed.shares[:, at]
        if parts is not None and parts.dim not in operand.dims:
            shares = shares / self.longer(parts)
        found: list[Floats] = []
        for path in self.floor.paths(operand):
            pj = self.floor.way_pj(operand, path, spread, shares)
            if passes:
                pj = pj + self.floor.again_pj(operand, path, spread, self.stay(at, parts))
            found.append(pj)
        return np.min(found, axis=0)

    def stay(self, at: int, parts: Parts | None) -> StayShare:
        """What share of an operand's words stays at most in memories of so many words."""
        if parts is None:
            return lambda _: np.ones(1)
        operand, workload = self.floor.workload.operands[at], self.floor.workload
        extents, dims = self.listed.extents, self.listed.dims
        return lambda held: stay_share(
            operand, workload, extents, dims, self.spreads[at], parts, held
        )

    def value(self, steps: Floats, energies: list[Floats]) -> float:
        """The least energy or EDP, by the steps and the operands' energies of every way."""
        return float(self.values(np.maximum(steps, self.floor.cycles()), energies).min())

    def values(self, cycles: Floats, energies: list[Floats]) -> Floats:
        """By way, the energy or EDP."""
        pj = self.floor.fixed_pj + self.floor.leak_pj * cycles + np.sum(energies, axis=0)
        return pj * (cycles if self.by_cycles else 1.0)


def update_pj(level: Level) -> float:
    """Energy per bit of an update."""
    pj = level.write_pj if level.update_pj is None else level.update_pj
    return (pj or 0.0) / level.word_bits
