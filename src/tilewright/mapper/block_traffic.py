"""The least traffic of a layer through three buffers, one for each operand, with proof.

Owns: `least_block_traffic`, for a machine whose operands each have a buffer of their own, as the
convolution block has, and whose unfinished sums are wider than its results.

The classes of mappings are those of `docs/traffic.md`: each of its moves makes no tile of any
operand larger and moves no operand more often, so they hold for buffers of their own as for a
shared one; an option is dropped only if another is as good in every operand's tile and words.

Non-goals: a shared buffer (`mapper/traffic.py`), more levels, energies, cycles.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from tilewright.errors import InputError, Problem
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Mapping
from tilewright.ir.verify import verify_mapping
from tilewright.ir.workload import Workload
from tilewright.mapper.compiled import compiled
from tilewright.mapper.result import Status
from tilewright.mapper.traffic import _doubtful_passes, _passes
from tilewright.mapper.traffic_mapping import Choice, write_mapping, write_variants
from tilewright.mapper.traffic_options import ClassSpace, Options
from tilewright.mapper.traffic_search import Factors, Ints, Query, Sums, prepare
from tilewright.mapper.traffic_subject import Subject, make_subject, order_classes
from tilewright.model.cost import Cost
from tilewright.model.evaluate import make_evaluator
from tilewright.model.limit import operand_words

_SLICE = 16
"""Options of the first coordinate between two looks at the clock."""

_UNKNOWN = 1 << 62


@dataclass(frozen=True, slots=True)
class BlockTraffic:
    """The least traffic of a layer through buffers of its operands.

    Attributes:
        cost: of the mapping found; `cost.mapping` is the mapping.
        weighted_words: what it moves to and from memory, sums weighed.
        lower_bound: no mapping of the mapspace moves fewer; 0 if the time ran out.
        status: `OPTIMAL` if the bound is what it moves.
    """

    cost: Cost
    weighted_words: int
    lower_bound: int
    status: Status


@dataclass(frozen=True, slots=True)
class Limits:
    """What tiles must obey beside the buffers.

    Attributes:
        rooms: the words that each operand's buffer holds.
        reaches: by a dim of the output, how many coordinates of its rank of the sliding operand
            one tile may span.
        granules: by dim, what all tiles of it must be a multiple of, if not the whole dim; they
            take room for whole granules; the sliding operand, of sums of dims, for what they are.
    """

    rooms: dict[str, int]
    reaches: dict[str, int] = field(default_factory=dict[str, int])
    granules: dict[str, int] = field(default_factory=dict[str, int])


def weighted_words(cost: Cost, work: Workload, sum_weight: int) -> int:
    """Words to and from the outermost memory, where a sum that is not finished weighs more."""
    outermost = cost.mapping.blocks[0].memory
    total = 0
    for operand in work.operands:
        count = cost.counts[outermost, operand.name]
        total += count.reads + count.updates
        if operand is work.output:
            results = operand_words(operand, work)
            total += (sum_weight - 1) * (count.reads + count.updates - results)
    return total


def least_block_traffic(  # noqa: PLR0913
    work: Workload,
    hardware: Hardware,
    limits: Limits,
    *,
    sum_weight: int = 2,
    seconds: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> BlockTraffic | None:
    """Find the mapping that moves the least, uneven and imperfect, every operand kept.

    Args:
        work: what `mapper/traffic.py` covers.
        hardware: two memories, the inner one with a buffer for each operand.
        limits: what fits.
        sum_weight: what a sum that is sent or read back counts for; a result counts for one.
        seconds: stop after about that long.
        should_stop: asked now and then; the same happens if it says so.

    Returns: the mapping, or `None` if the time ran out before any was found, or none fits.

    Raises: `InputError` for a workload that the proof does not cover.

    Source: `docs/traffic.md`.
    """
    subject = make_subject(work)
    if len(subject.operands) != 3:
        what = f"{len(subject.operands)} operands: three are covered"
        raise InputError(Problem(what, "use least_traffic", work.name))
    deadline = None if seconds is None else time.monotonic() + seconds
    query = _Search(subject, limits, sum_weight, deadline, should_stop)
    ended = query.climb(_passes)
    if query.choice is None:
        return None
    doubts = query.copy()
    ended = ended and doubts.climb(_doubtful_passes)
    return _answer(query, doubts, hardware, ended=ended)


@dataclass(slots=True)
class _Search:
    """The least known, and how it is reached."""

    subject: Subject
    limits: Limits
    sum_weight: int
    deadline: float | None
    should_stop: Callable[[], bool]
    best: int = _UNKNOWN
    choice: Choice | None = None

    def copy(self) -> "_Search":
        return _Search(
            self.subject, self.limits, self.sum_weight, self.deadline, self.should_stop,
            self.best, self.choice,
        )  # fmt: skip

    def climb(self, passes: Callable[[ClassSpace], Iterator[list[Options]]]) -> bool:
        """Search all classes; whether that came to its end."""
        if not self.subject.axes:
            return False
        for imperfect in (False, True):
            for order_class in order_classes(self.subject, uneven=True):
                if len(order_class.kept) < 3:
                    continue
                space = ClassSpace(self.subject, order_class, imperfect)
                sums = self._sums(space)
                if sum(sums.weights) + sums.constant >= self.best:
                    continue
                for coordinates in passes(space):
                    if not self._search(space, coordinates, sums):
                        return False
        return True

    def _sums(self, space: ClassSpace) -> Sums:
        """How products are weighed: all but the first and last moves of an output are of sums."""
        plain, work = space.sums(), self.subject.workload
        at = next(i for i, o in enumerate(work.operands) if o is work.output)
        weights = list(plain.weights)
        weights[at] *= self.sum_weight
        constant = plain.constant * (2 * self.sum_weight - 1)
        return Sums(plain.bits, (weights[0], weights[1], weights[2]), constant)

    def _search(self, space: ClassSpace, coordinates: list[Options], sums: Sums) -> bool:
        allowed = [self._allowed(space, options) for options in coordinates]
        if any(len(options.kinds) == 0 for options in allowed):
            return True
        ordered = sorted(allowed, key=lambda options: len(options.kinds))
        query = prepare([options.factors for options in ordered], sums)
        names = [operand.name for operand in self.subject.operands]
        rooms = np.array([self.limits.rooms[name] for name in names], np.int64)
        chosen = np.full(len(ordered), -1, np.int64)
        for begin in range(0, query.width, _SLICE):
            if self._is_late():
                return False
            span = (begin, min(query.width, begin + _SLICE))
            self.best = int(_run(query, rooms, self.best, chosen, span))
        if chosen[0] >= 0:
            pairs = zip(ordered, chosen.tolist(), strict=True)
            picked = tuple(options.pick(row) for options, row in pairs)
            self.choice = Choice(space.order_class, picked)
        return True

    def _allowed(self, space: ClassSpace, options: Options) -> Options:
        """The options of a coordinate that obey the limits."""
        shape = options.axis.shape
        if shape is None:
            granule = self.limits.granules.get(options.axis.dims[0], 1)
            return options if granule == 1 else self._in_granules(space, options, granule)
        options = self._pixels_in_granules(space, options)
        limit = next((n for dim, n in self.limits.reaches.items() if dim in options.axis.dims), 0)
        if not limit:
            return options
        first, second = space.tiles(options.axis, options.spans)
        steps = shape.coefficients
        reach = steps[0] * (first - 1) + steps[1] * (second - 1) + 1
        return options.only(np.minimum(reach, shape.high - shape.low) <= limit)

    def _in_granules(self, space: ClassSpace, options: Options, granule: int) -> Options:
        """The same chains over granules: the dim then counts granules, not indices."""
        (dim,) = options.axis.dims
        size = self.subject.sizes[dim]
        whole = -(-options.spans // granule) * granule
        spans = np.unique(np.minimum(whole, size), axis=0)
        costs, tiles = (np.ones((len(spans), 3), np.int64) for _ in range(2))
        for block, operand in enumerate(space.order_class.order):
            span = spans[:, 0, block]
            if self.subject.indexes(operand, dim):
                tiles[:, operand] = -(-span // granule) * granule
            else:
                costs[:, operand] = -(-size // span)
        kinds = np.zeros(len(spans), np.int64)
        return Options(options.axis, spans, kinds, Factors(tiles, costs)).undominated()

    def _pixels_in_granules(self, space: ClassSpace, options: Options) -> Options:
        """The options of a rank in which granules lie whole in all tiles of other operands.

        Blocks further in than the sliding operand's are rounded up: nothing of it depends on them.
        """
        found = [i for i, dim in enumerate(options.axis.dims) if dim in self.limits.granules]
        number = found[0] if found else 0
        dim = options.axis.dims[number]
        granule, size = self.limits.granules.get(dim, 1), self.subject.sizes[dim]
        if granule == 1:
            return options
        spans = options.spans.copy()
        inner = spans[:, number, space.place + 1 :]
        spans[:, number, space.place + 1 :] = np.minimum(-(-inner // granule) * granule, size)
        fixed = spans[:, number, : space.place + 1]
        allowed = ((fixed % granule == 0) | (fixed == size)).all(axis=1)
        spans, kept = spans[allowed], options.only(allowed)
        tiles, costs = kept.factors.tiles.copy(), kept.factors.costs.copy()
        for block, operand in enumerate(space.order_class.order):
            if operand == self.subject.sliding:
                continue
            tiles[:, operand], costs[:, operand] = 1, 1
            for each, name in enumerate(options.axis.dims):
                span = spans[:, each, block]
                if self.subject.indexes(operand, name):
                    padded = -(-span // granule) * granule if name == dim else span
                    tiles[:, operand] *= padded
                else:
                    costs[:, operand] *= -(-self.subject.sizes[name] // span)
        return Options(options.axis, spans, kept.kinds, Factors(tiles, costs)).undominated()

    def _is_late(self) -> bool:
        late = self.deadline is not None and time.monotonic() > self.deadline
        return late or self.should_stop()


def _answer(found: _Search, doubts: _Search, hardware: Hardware, *, ended: bool) -> BlockTraffic:
    """Price what was found, and say how far it is proved."""
    work = found.subject.workload
    outer, inner = (level.memory for level in hardware.levels)
    assert found.choice is not None
    mappings = [write_mapping(found.subject, found.choice, outer, inner)]
    if doubts.best < found.best and doubts.choice is not None:
        mappings += write_variants(found.subject, doubts.choice, outer, inner)
    costs = list(_priced(mappings, work, hardware))
    cost = min(costs, key=lambda each: weighted_words(each, work, found.sum_weight))
    words = weighted_words(cost, work, found.sum_weight)
    if words > found.best:
        what = f"{words} words instead of {found.best}"
        raise AssertionError(
            f"a class of docs/traffic.md is priced wrongly: {what}\n{cost.mapping}"
        )
    lower = min(doubts.best, words) if ended else 0
    status = Status.OPTIMAL if lower == words else Status.BEST_FOUND
    return BlockTraffic(cost, words, lower, status)


def _priced(mappings: list[Mapping], work: Workload, hardware: Hardware) -> Iterator[Cost]:
    evaluator = make_evaluator(work, hardware)
    for mapping in mappings:
        verify_mapping(work, hardware, mapping)
        yield evaluator.price(mapping)


def _run(query: Query, rooms: Ints, best: int, chosen: Ints, span: tuple[int, int]) -> int:
    sums = query.sums
    return _search_rooms(
        query.tiles,
        query.costs,
        query.starts,
        query.least_tiles,
        query.least_costs,
        (sums.weights, sums.constant),
        rooms,
        best,
        chosen,
        span,
    )


@compiled
def _search_rooms(  # noqa: PLR0913, PLR0917 - one loop, flat for the compiler
    tiles: Ints,
    costs: Ints,
    starts: Ints,
    least_tiles: Ints,
    least_costs: Ints,
    sums: tuple[tuple[int, int, int], int],
    rooms: Ints,
    best: int,
    chosen: Ints,
    span: tuple[int, int],
) -> int:
    (weight_0, weight_1, weight_2), constant = sums
    count = len(starts) - 1
    tile = np.ones((count + 1, 3), np.int64)
    cost = np.ones((count + 1, 3), np.int64)
    option = np.zeros(count, np.int64)
    option[0] = span[0] - 1
    depth = 0
    while depth >= 0:
        option[depth] += 1
        stop = span[1] if depth == 0 else starts[depth + 1]
        if option[depth] >= stop:
            depth -= 1
            continue
        at, below = option[depth], depth + 1
        fits = True
        for operand in range(3):
            tile[below, operand] = tile[depth, operand] * tiles[at, operand]
            if tile[below, operand] * least_tiles[below, operand] > rooms[operand]:
                fits = False
        if not fits:
            continue
        for operand in range(3):
            cost[below, operand] = cost[depth, operand] * costs[at, operand]
        total = (
            constant
            + weight_0 * cost[below, 0] * least_costs[below, 0]
            + weight_1 * cost[below, 1] * least_costs[below, 1]
            + weight_2 * cost[below, 2] * least_costs[below, 2]
        )
        if total >= best:
            continue
        if below < count:
            option[below] = starts[below] - 1
            depth = below
            continue
        best = total
        for coordinate in range(count):
            chosen[coordinate] = option[coordinate] - starts[coordinate]
    return best
