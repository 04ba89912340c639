"""The least DRAM traffic of a layer through one buffer, with proof.

Owns: `least_traffic`: for several capacities at once, a mapping of the machine DRAM, one buffer
that all operands share, MACs, that moves the fewest words to and from DRAM, and the bound that
says so. What is searched, and why nothing else needs to be, is written in `docs/traffic.md`.

Non-goals: hierarchies with more levels, energies, cycles: that is `mapper/search.py`'s business.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tilewright.errors import InputError, Problem
from tilewright.ir.hardware import Hardware, Level
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.verify import verify_mapping
from tilewright.ir.workload import Workload
from tilewright.mapper.result import Status
from tilewright.mapper.traffic_mapping import Choice, write_mapping, write_variants
from tilewright.mapper.traffic_options import ClassSpace, Options
from tilewright.mapper.traffic_ranks import rank_tables
from tilewright.mapper.traffic_search import Ints, Query, Sums, prepare, search
from tilewright.mapper.traffic_subject import (
    Axis,
    OrderClass,
    Subject,
    bypassed_words,
    make_subject,
    order_classes,
)
from tilewright.model.cost import Cost
from tilewright.model.evaluate import make_evaluator
from tilewright.model.limit import operand_words

DRAM, BUFFER = "DRAM", "BUF"
"""The memories of the machine, as its mappings call them."""

_SLICE = 16
"""Options of the first coordinate between two looks at the clock."""

_LARGEST = 1 << 52
"""Counts are whole numbers of 64 bits; a layer with more MACs than this is refused."""


@dataclass(frozen=True, slots=True)
class LeastTraffic:
    """The least DRAM traffic through a buffer of one capacity.

    Attributes:
        capacity_bits: of the buffer.
        cost: of the mapping found; `cost.mapping` is the mapping.
        lower_bound: words; no mapping of the mapspace moves fewer.
        status: `OPTIMAL` if the bound is the cost.
    """

    capacity_bits: int
    cost: Cost
    lower_bound: float
    status: Status

    @property
    def words(self) -> int:
        """Words to and from DRAM."""
        return self.cost.dram_words


def buffer_machine(capacity_bits: int) -> Hardware:
    """The machine: DRAM, a buffer of that capacity that all operands share, one MAC unit."""
    levels = Level(DRAM, read_pj=1.0, write_pj=1.0), Level(BUFFER, capacity_bits)
    return Hardware(f"a buffer of {capacity_bits} bits", levels)


def mapspace_title(*, uneven: bool, imperfect: bool) -> str:
    """What is searched, in words."""
    kind = "uneven" if uneven else "even"
    factors = "any tile sizes" if imperfect else "perfect factors"
    ragged = ", none ragged" if uneven and imperfect else ""
    return f"{kind}, {factors}{ragged}, any order, any bypass"


def least_traffic(  # noqa: PLR0913
    workload: Workload,
    capacities: Sequence[int],
    *,
    uneven: bool = False,
    imperfect: bool = False,
    seconds: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[LeastTraffic, ...]:
    """Find the least DRAM traffic for several capacities of the buffer, in one pass.

    Args:
        workload: a convolution, a matrix product, a pooling: see Raises.
        capacities: of the buffer, in bits.
        uneven: operands may have blocks of the buffer at different loops of the nest.
        imperfect: tiles may be clipped.
        seconds: stop after about that long; then bounds may lie below costs.
        should_stop: asked now and then; the same happens if it says so.

    Returns: one result for each capacity, in the order given.

    Raises: `InputError` for a workload that the proof does not cover: more than three operands, a
        dim that does not index two of them, more than one operand with overlapping tiles, or the
        output, or a rank of three dims.

    >>> from tilewright.ir.workload import einsum
    >>> product = einsum("product", "Z[M,N] += A[M,K] * B[K,N]", {"M": 8, "N": 8, "K": 8})
    >>> (found,) = least_traffic(product, [16 * 24], uneven=True)
    >>> found.words, found.status.value
    (320, 'optimal')

    Source: `docs/traffic.md`.
    """
    _check(workload, capacities)
    subject = make_subject(workload)
    deadline = None if seconds is None else time.monotonic() + seconds
    clock = _Clock(deadline, should_stop)
    rungs = np.array(sorted(set(capacities)), np.int64)
    start = np.full(len(rungs), _all_bypassed(subject), np.int64)
    ladder = _Ladder(subject, rungs, start, [None] * len(rungs))
    ended = False
    for stage in dict.fromkeys(((False, False), (uneven, False), (uneven, imperfect))):
        ended = ladder.climb(_passes, uneven=stage[0], imperfect=stage[1], clock=clock)
    doubts = ladder.copy()
    ended &= doubts.climb(_doubtful_passes, uneven=uneven, imperfect=imperfect, clock=clock)
    answers = {
        capacity: _answer(ladder, doubts if ended else None, rung)
        for rung, capacity in enumerate(rungs.tolist())
    }
    return tuple(answers[capacity] for capacity in capacities)


def _check(workload: Workload, capacities: Sequence[int]) -> None:
    problems = [
        Problem(f"a capacity of {capacity} bits holds nothing", "1KiB is usual", workload.name)
        for capacity in capacities
        if capacity < 1
    ]
    if workload.macs > _LARGEST:
        problems.append(Problem(f"{workload.macs:,} MACs: too many to count", "", workload.name))
    if problems:
        raise InputError(problems)


@dataclass(frozen=True, slots=True)
class _Clock:
    """When to stop."""

    deadline: float | None
    should_stop: Callable[[], bool]

    def over(self) -> bool:
        late = self.deadline is not None and time.monotonic() > self.deadline
        return late or self.should_stop()


_Passes = Callable[[ClassSpace], Iterator[list[Options]]]


@dataclass(slots=True)
class _Ladder:
    """The least words known for each capacity, and how they are reached."""

    subject: Subject
    capacities: Ints
    best: Ints
    choices: list[Choice | None]

    def copy(self) -> "_Ladder":
        return _Ladder(self.subject, self.capacities, self.best.copy(), list(self.choices))

    def climb(self, passes: _Passes, *, uneven: bool, imperfect: bool, clock: _Clock) -> bool:
        """Search the passes of all classes of a mapspace; whether that came to its end."""
        if not self.subject.axes:  # one iteration: whatever is done moves every word once
            return True
        for order_class in order_classes(self.subject, uneven=uneven):
            space = ClassSpace(self.subject, order_class, imperfect)
            sums = space.sums()
            if self._hopeless(sums):
                continue
            for coordinates in passes(space):
                if not self._search(order_class, coordinates, sums, clock):
                    return False
        return True

    def _hopeless(self, sums: Sums) -> bool:
        """Whether the compulsory words of a class already reach what is known."""
        return sum(sums.weights) + sums.constant >= int(self.best.max())

    def _search(
        self, order_class: OrderClass, coordinates: list[Options], sums: Sums, clock: _Clock
    ) -> bool:
        """Search one pass; whether it came to its end."""
        if any(len(options.kinds) == 0 for options in coordinates):
            return True
        ordered = sorted(coordinates, key=lambda options: len(options.kinds))
        query = prepare([options.factors for options in ordered], sums)
        chosen = np.full((len(self.capacities), len(ordered)), -1, np.int64)
        ended = _run(query, self.capacities, self.best, chosen, clock)
        for rung, picks in enumerate(chosen.tolist()):
            if picks[0] >= 0:
                pairs = zip(ordered, picks, strict=True)
                picked = tuple(options.pick(row) for options, row in pairs)
                self.choices[rung] = Choice(order_class, picked)
        return ended


def _run(query: Query, capacities: Ints, best: Ints, chosen: Ints, clock: _Clock) -> bool:
    for begin in range(0, query.width, _SLICE):
        if clock.over():
            return False
        search(query, capacities, best, chosen, (begin, min(query.width, begin + _SLICE)))
    return True


def _all_bypassed(subject: Subject) -> int:
    """Words if nothing is kept: the buffer is always large enough for that."""
    work = subject.workload
    words = -operand_words(work.output, work)
    for number, operand in enumerate(work.operands):
        words += bypassed_words(subject, number) * (2 if operand is work.output else 1)
    return words


def _passes(space: ClassSpace) -> Iterator[list[Options]]:
    """The products that make up a class: in each, the tiles of at most one coordinate slide."""
    axes = space.subject.axes
    still = {axis: space.options(axis, moving=False).undominated() for axis in axes}
    ranks = _sliding_axes(space)
    for mover in ranks:
        moving = space.options(mover, moving=True).undominated()
        yield [moving if axis is mover else still[axis] for axis in axes]
        for blocks in _crossed(space):
            crossing = space.crossing_options(mover, blocks=blocks).undominated()
            others = [space.bare_options(each, blocks=blocks) for each in axes if each != mover]
            yield [crossing, *(each.undominated() for each in others)]
    if not ranks:
        yield list(still.values())


def _sliding_axes(space: ClassSpace) -> list[Axis]:
    if space.subject.sliding not in space.order_class.kept:
        return []
    return [axis for axis in space.subject.axes if axis.shape is not None]


def _doubtful_passes(space: ClassSpace) -> Iterator[list[Options]]:
    """Products that are no mappings, but bound from below those that no class describes.

    These are mappings in which a tile does not move although loops over its dims step: sweeps
    across blocks, and padding that hides the move (`docs/traffic.md`, Coincidences).
    """
    sliding = space.subject.sliding
    for axis in _sliding_axes(space):
        assert axis.shape is not None
        tables = rank_tables(axis.shape, space.imperfect)
        others = [each for each in space.subject.axes if each is not axis]
        own = space.options(axis, moving=False).with_cost(sliding, tables.covered)
        if tables.covering.any():
            covering = own.only(tables.covering[space.tiles(axis, own.spans)])
            loose = [space.options(each, moving=False) for each in others]
            least = [each.with_cost(sliding, _covered(space, each.axis)) for each in loose]
            yield [covering.undominated(), *(each.undominated() for each in least)]
        if not space.order_class.even and space.place > 0:
            tangled = space.tangled_options(axis, blocks=0)
            rest = [space.options(each, moving=False) for each in others]
            yield [tangled.undominated(), *(each.undominated() for each in rest)]
        for blocks in _crossed(space):
            tangled = space.tangled_options(axis, blocks=blocks)
            bare = [space.bare_options(each, blocks=blocks) for each in others]
            yield [tangled.undominated(), *(each.undominated() for each in bare)]


def _crossed(space: ClassSpace) -> range:
    """How many blocks a sweep may reach over."""
    return range(1, 1 + (0 if space.order_class.even else space.place))


def _covered(space: ClassSpace, axis: Axis) -> int:
    if axis.shape is None:
        return 1
    return rank_tables(axis.shape, space.imperfect).covered


def _answer(ladder: _Ladder, doubts: _Ladder | None, rung: int) -> LeastTraffic:
    """Price what was found for a capacity, and say how far it is proved.

    `doubts` are the bounds from below on what no class describes; `None` if they are not known.
    """
    capacity, words = int(ladder.capacities[rung]), int(ladder.best[rung])
    cost = min(_priced(ladder, doubts, rung), key=lambda cost: cost.dram_words)
    if cost.dram_words > words:
        found = f"{cost.dram_words} words instead of {words}"
        raise AssertionError(
            f"a class of docs/traffic.md is priced wrongly: {found}\n{cost.mapping}"
        )
    lower: float = cost.limit.bound_words
    bound = None if doubts is None else int(doubts.best[rung])
    if bound is not None and bound <= cost.dram_words:  # a ragged mapping may undercut the bound
        lower = max(lower, bound)
    status = Status.OPTIMAL if lower == cost.dram_words else Status.BEST_FOUND
    return LeastTraffic(capacity, cost, lower, status)


def _priced(ladder: _Ladder, doubts: _Ladder | None, rung: int) -> Iterator[Cost]:
    """The mapping found; where the bound is lower, also those that might reach it."""
    work, machine = ladder.subject.workload, buffer_machine(int(ladder.capacities[rung]))
    choice = ladder.choices[rung]
    mappings = [_bypass_mapping(work)]
    if choice is not None:
        mappings = [write_mapping(ladder.subject, choice, DRAM, BUFFER)]
    if doubts is not None and doubts.best[rung] < ladder.best[rung]:
        doubt = doubts.choices[rung]
        assert doubt is not None  # a bound that was lowered was lowered by a choice
        mappings += write_variants(ladder.subject, doubt, DRAM, BUFFER)
    evaluator = make_evaluator(work, machine)
    for mapping in mappings:
        verify_mapping(work, machine, mapping)
        yield evaluator.price(mapping)


def _bypass_mapping(workload: Workload) -> Mapping:
    """The mapping that keeps nothing."""
    loops = tuple(Loop(dim, size) for dim, size in workload.sizes.items() if size > 1)
    names = tuple(operand.name for operand in workload.operands)
    return Mapping((Block(DRAM, names, loops),))
