"""A bound of what any mapping costs, even or uneven, perfect or imperfect.

Owns: `least_of`, from the words that must move and the work that must be done, whatever the loops.

Non-goals: a bound of one choice of tiles or bypasses (`mapper/kernels.py`).
"""

import itertools
import math
from collections.abc import Iterator

from tilewright.ir.hardware import Level
from tilewright.ir.workload import Operand
from tilewright.mapper.result import Objective
from tilewright.mapper.sharing import Demand, least_joint_pj, shape_of
from tilewright.mapspace.space import Mapspace
from tilewright.model.evaluate import Evaluator
from tilewright.model.limit import dram_limit, operand_touches, operand_words

_ROUNDING = 1e-11


def least_of(evaluator: Evaluator, objective: Objective) -> float:
    """What no mapping of the layer on the chip undercuts, in the objective's unit.

    Every word of an operand crosses every edge on its way at least once, whatever is kept where;
    every MAC reads its words, one read serving as many MACs as the networks between reach and as
    one way to unroll dims lets all operands share (`mapper/sharing.py`); a cycle does as many MACs
    as there are units, and the outermost ports move every word once.

    Holds in the convention `default`. Source: `spec/model.md §3, §4, §6`.
    """
    floor = _Floor(evaluator)
    if objective is Objective.DRAM:
        limit = dram_limit(evaluator.workload, evaluator.hardware).words
        return float(math.ceil(limit - 1e-6))
    if objective is Objective.CYCLES:
        return floor.cycles()
    return floor.energy_pj() * (floor.cycles() if objective is Objective.EDP else 1.0)


def meets(value: float, bound: float) -> bool:
    """Whether a value is no worse than a bound of `least_of`, but for sums in another order.

    >>> meets(1.0, 1 - 1e-12), meets(1.0, 0.999)
    (True, False)
    """
    return value <= bound * (1 + _ROUNDING)


class _Floor:
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

    def energy_pj(self) -> float:
        moved = self.moves_pj()
        leak = sum(
            level.leak_pj_per_cycle * self.hardware.instances(index)
            for index, level in enumerate(self.hardware.levels)
        )
        work = self.workload.macs * (self.hardware.compute.pj or 0.0)
        return (moved + work + leak * self.cycles()) * (1 - 1e-12)

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

    def moves_pj(self) -> float:
        """The least energy of all moves, whichever memories are the operands' innermost."""
        operands, units = self.workload.operands, self.hardware.mac_units
        shape = shape_of(self.workload, self.hardware)
        ways = [
            [(pj, self.demand(operand, innermost)) for innermost, pj in self.ways_pj(operand)]
            for operand in operands
        ]
        choices: list[tuple[float, float, list[Demand]]] = []
        for chosen in itertools.product(*ways):
            demands = [demand for _, demand in chosen]
            alone = sum(demand.least_pj() for demand in demands)
            choices.append((sum(pj for pj, _ in chosen), alone, demands))
        best = math.inf
        for between, alone, demands in sorted(choices, key=lambda choice: choice[0] + choice[1]):
            if between + alone >= best:
                break  # even if every operand shares as much as the networks reach
            joint = alone if shape is None else least_joint_pj(shape, demands, units)
            best = min(best, between + max(alone, joint))
        return best

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
                total += bits * (_update_pj(parent) + (child.read_pj or 0.0) / child.word_bits)
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
        updates = touches * bits * _update_pj(level), min(float(merged), often), 0.0
        return Demand(((touches * bits * read_pj, float(served), first * bits * read_pj), updates))


def _update_pj(level: Level) -> float:
    """Energy per bit of an update."""
    pj = level.write_pj if level.update_pj is None else level.update_pj
    return (pj or 0.0) / level.word_bits
