"""Every mapping of a tiny workload on a tiny chip, and the best of them: what a proof is held to.

It knows the notation and the price of one mapping, and nothing of how mappings are searched.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product

from tilewright.errors import InfeasibleError
from tilewright.ir.hardware import AXES, Hardware, Level
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.nest import flatten
from tilewright.ir.workload import Workload
from tilewright.mapper.result import Objective
from tilewright.model.evaluate import make_evaluator

Slot = tuple[int, str | None]
"""A level, and an axis of the fan-out below it; without an axis, its temporal loops."""
Factors = tuple[tuple[int, ...], ...]
"""By dim, then by slot: the extent of the loop there; 1 is no loop."""
Key = tuple[float, ...]
"""What mappings are compared by: the objective, cycles, energy in pJ, DRAM words."""


@dataclass(frozen=True)
class Space:
    """The mappings to go through.

    Attributes:
        workload: what is mapped.
        hardware: on what.
        imperfect: with every extent of which no step is superfluous, not divisors alone.
        uneven: with every block of the inner levels at every place among its level's loops, the
            first one outside of them all.
    """

    workload: Workload
    hardware: Hardware
    imperfect: bool = False
    uneven: bool = False

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Every place for loops, outermost first."""
        axes = (None, *AXES)
        return tuple((index, axis) for index in range(len(self.hardware.levels)) for axis in axes)

    def room(self, slot: Slot, dim: str) -> float:
        """The most steps that loops over a dim may take in a slot."""
        level, axis = slot
        if axis is None:
            return math.inf
        fanout = self.hardware.levels[level].fanout
        allowed = fanout.allowed_dims(axis)
        return fanout.extent(axis) if allowed is None or dim in allowed else 1


@dataclass(frozen=True)
class Best:
    """The least key that a mapping has, and the first mapping that has it."""

    key: Key
    mapping: Mapping


def count_and_best(
    space: Space, objectives: Iterable[Objective] = tuple(Objective)
) -> tuple[int, dict[Objective, Best]]:
    """Price every mapping of a space.

    Returns: how many mappings there are, those that do not fit included, and the best for each
    objective; nothing if none fits.

    Raises: `InputError` if one of them has no closed form.
    """
    evaluator = make_evaluator(space.workload, space.hardware)
    goals, best = tuple(objectives), dict[Objective, Best]()
    seen: set[object] = set()
    count = 0
    for mapping in mappings(space):
        count += 1
        same = signature(mapping, space.hardware)
        if same in seen:
            continue
        seen.add(same)
        try:
            cost = evaluator.price(mapping)
        except InfeasibleError:
            continue
        for goal in goals:
            key = goal.key(cost)
            if goal not in best or key < best[goal].key:
                best[goal] = Best(key, mapping)
    return count, best


def signature(mapping: Mapping, hardware: Hardware) -> object:
    """Something that only mappings share that run the same steps and keep the same tiles.

    Under which level a temporal loop is written does not matter, only what lies inside it. Inside
    all blocks the order of loops over different dims does not either: MACs keep nothing.
    """
    nest = flatten(mapping, hardware)
    loops = [(loop.dim, loop.extent, loop.level if loop.spatial else -1) for loop in nest.loops]
    inmost = max(stores[-1].depth for stores in nest.stores.values())
    tail = sorted(loops[inmost:], key=lambda loop: loop[0])
    return tuple(loops[:inmost]), tuple(tail), tuple(nest.stores.values())


def mappings(space: Space) -> Iterator[Mapping]:
    """Every mapping of a space, whether it fits the capacities or not, none twice."""
    levels = range(len(space.hardware.levels))
    for factors in factorizations(space):
        for blocks in product(*(tuple(_level_blocks(space, index, factors)) for index in levels)):
            yield Mapping(tuple(block for level in blocks for block in level))


def count_mappings(space: Space, most: float = math.inf) -> int:
    """How many mappings a space has, by a formula for each factorization; stops beyond `most`."""
    total = 0
    for factors in factorizations(space):
        total += math.prod(
            _count_of_level(space, index, _temporal_loops(space, index, factors))
            for index in range(len(space.hardware.levels))
        )
        if total > most:
            break
    return total


def _temporal_loops(space: Space, index: int, factors: Factors) -> int:
    column = space.slots.index((index, None))
    return sum(row[column] > 1 for row in factors)


def _count_of_level(space: Space, index: int, loops: int) -> int:
    places = loops + 1 if space.uneven and index else 1
    choices = [_choices(space.hardware, index, o.name) for o in space.workload.operands]
    ways = 0
    for kept in map(sum, product(*choices)):
        ways += places**kept - ((places - 1) ** kept if kept else 0)
    return math.factorial(loops) * ways


def _choices(hardware: Hardware, index: int, operand: str) -> tuple[bool, ...]:
    """Whether a level keeps an operand: what the hardware leaves open."""
    level = hardware.levels[index]
    if index == 0:
        return (True,)
    if level.keeps is not None:
        return (operand in level.keeps,)
    return (True, False) if level.may_keep(operand) else (False,)


def factorizations(space: Space) -> Iterator[Factors]:
    """Every choice of extents for which the axes have room."""
    dims, slots = space.workload.dims, space.slots
    rows = [_rows(space, dim.name, dim.size) for dim in dims]
    copies = tuple(
        math.inf if axis is None else space.hardware.levels[level].fanout.extent(axis)
        for level, axis in slots
    )

    def extend(chosen: Factors, used: tuple[int, ...]) -> Iterator[Factors]:
        if len(chosen) == len(dims):
            yield chosen
            return
        for row in rows[len(chosen)]:
            together = tuple(a * b for a, b in zip(used, row, strict=True))
            if all(
                taken <= room or room == math.inf
                for taken, room in zip(together, copies, strict=True)
            ):
                yield from extend((*chosen, row), together)

    return extend((), (1,) * len(slots))


def _rows(space: Space, dim: str, size: int) -> tuple[tuple[int, ...], ...]:
    rooms = tuple(space.room(slot, dim) for slot in space.slots)
    split = _clipped_splits if space.imperfect else _splits
    return tuple(split(size, rooms))


@lru_cache(maxsize=1024)
def _splits(size: int, rooms: tuple[float, ...]) -> list[tuple[int, ...]]:
    """The ways to write a size as a product of one extent per slot."""
    if not rooms:
        return [()] if size == 1 else []
    return [
        (extent, *rest)
        for extent in range(1, size + 1)
        if size % extent == 0 and extent <= rooms[0]
        for rest in _splits(size // extent, rooms[1:])
    ]


@lru_cache(maxsize=1024)
def _clipped_splits(size: int, rooms: tuple[float, ...]) -> list[tuple[int, ...]]:
    """The ways to cover a size with one extent per slot, all steps of every loop needed.

    From the innermost slot outwards: with an extent e inside, ceil(size / e) tiles are to be
    covered, and a loop over them has at most so many steps that exist. An order of the axes of one
    fan-out is as good as the other: they unroll the same set of tiles.
    """
    if len(rooms) == 1:
        return [(size,)] if size <= rooms[0] else []
    return [
        (*rest, extent)
        for extent in range(1, size + 1)
        if extent <= rooms[-1]
        for rest in _clipped_splits(-(-size // extent), rooms[:-1])
    ]


def _level_blocks(space: Space, index: int, factors: Factors) -> Iterator[tuple[Block, ...]]:
    """Every order of a level's loops, with every choice of what it keeps, and where."""
    level, dims = space.hardware.levels[index], space.workload.dims
    column = space.slots.index((index, None))
    temporal = [
        Loop(dim.name, row[column])
        for dim, row in zip(dims, factors, strict=True)
        if row[column] > 1
    ]
    spatial = tuple(
        Loop(dim.name, row[column + 1 + at], axis)
        for dim, row in zip(dims, factors, strict=True)
        for at, axis in enumerate(AXES)
        if row[column + 1 + at] > 1
    )
    placings = list(_placings(space, index, len(temporal)))
    for order in permutations(temporal):
        for placing in placings:
            yield tuple(_write(level, placing, order, spatial))


def _placings(space: Space, index: int, loops: int) -> Iterator[dict[int, tuple[str, ...]]]:
    """By the number of the level's loops outside: the operands kept there."""
    names = [operand.name for operand in space.workload.operands]
    anywhere = range(loops + 1) if space.uneven and index else range(1)
    options: list[list[int | None]] = [
        [
            place
            for kept in _choices(space.hardware, index, name)
            for place in (anywhere if kept else (None,))
        ]
        for name in names
    ]
    for places in product(*options):
        pairs = list(zip(names, places, strict=True))
        used = sorted({place for place in places if place is not None})
        if used and used[0] > 0:
            continue
        yield {at: tuple(name for name, place in pairs if place == at) for at in used}


def _write(
    level: Level,
    placing: dict[int, tuple[str, ...]],
    temporal: tuple[Loop, ...],
    spatial: tuple[Loop, ...],
) -> Iterator[Block]:
    starts = sorted({0, *placing})
    for start, stop in zip(starts, [*starts[1:], len(temporal)], strict=True):
        operands, unrolled = placing.get(start, ()), spatial if start == starts[-1] else ()
        if operands or stop > start or unrolled:
            yield Block(level.memory, operands, temporal[start:stop], unrolled)
