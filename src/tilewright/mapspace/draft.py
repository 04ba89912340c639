"""A mapping in the making: easy to change at one place, always covering the workload.

Owns: the noun `Draft` and the random steps from one draft to a neighbour.

Non-goals: which step is an improvement (`mapper/`).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from random import Random

from tilewright.ir.fix import FixedBlock, room_of
from tilewright.ir.hardware import AXES
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.mapspace.space import Mapspace, Slot, primes

Factors = tuple[tuple[int, ...], ...]
Step = Callable[["Draft", Mapspace, Random], "Draft"]
"""From a draft to a neighbour."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A point of a mapspace.

    Attributes:
        factors: by dim, then by slot of the mapspace: the extent there.
        orders: by level: all dims, in the order of the level's temporal loops, outermost first.
        keeps: by level: the operands kept.
        places: by level: for every operand kept there, how many of the level's temporal loops stand
            outside its block; all 0 in an even mapping.
    """

    factors: Factors
    orders: tuple[tuple[int, ...], ...]
    keeps: tuple[frozenset[str], ...]
    places: tuple[tuple[tuple[str, int], ...], ...]


def to_mapping(draft: Draft, space: Mapspace) -> Mapping:
    """Write a draft out as a mapping."""
    blocks: list[Block] = []
    for index in range(len(space.hardware.levels)):
        blocks += _blocks(draft, space, index)
    return Mapping(tuple(blocks))


def to_draft(mapping: Mapping, space: Mapspace) -> Draft | None:
    """The draft of a mapping; `None` if a memory has two temporal loops over one dim."""
    dims = [dim.name for dim in space.workload.dims]
    factors = [[1] * len(space.slots) for _ in dims]
    orders: list[tuple[int, ...]] = []
    keeps: list[frozenset[str]] = []
    places: list[tuple[tuple[str, int], ...]] = []
    for index, level in enumerate(space.hardware.levels):
        blocks = [block for block in mapping.blocks if block.memory == level.memory]
        temporal = [loop for block in blocks for loop in block.temporal if loop.extent > 1]
        order = [dims.index(loop.dim) for loop in temporal]
        if len(order) > len(set(order)):
            return None
        for loop in [*temporal, *(loop for block in blocks for loop in block.spatial)]:
            factors[dims.index(loop.dim)][space.slots.index(Slot(index, loop.axis))] *= loop.extent
        orders.append((*order, *(dim for dim in range(len(dims)) if dim not in order)))
        stands: dict[str, int] = {}
        outside = 0
        for block in blocks:
            stands |= dict.fromkeys(block.operands, outside)
            outside += sum(loop.extent > 1 for loop in block.temporal)
        keeps.append(frozenset(stands))
        places.append(tuple(sorted(stands.items())))
    return Draft(tuple(map(tuple, factors)), tuple(orders), tuple(keeps), tuple(places))


def _blocks(draft: Draft, space: Mapspace, index: int) -> Iterator[Block]:
    """The blocks of a level: one at every place where an operand is kept."""
    level = space.hardware.levels[index]
    temporal = _loops(draft, space, Slot(index), draft.orders[index])
    spatial: list[Loop] = []
    for axis in AXES:
        if level.fanout.extent(axis) > 1:
            spatial += _loops(draft, space, Slot(index, axis), draft.orders[index])
    kept: dict[int, list[str]] = {0: []}
    places = dict(draft.places[index])
    if space.uneven and space.fix is not None:
        places |= _written_places(space.fix.of(level.memory), temporal, places)
        first = 0  # where its loops stand is given
    else:
        first = min((places.get(name, 0) for name in draft.keeps[index]), default=0)
    for operand in space.workload.operands:
        if operand.name in draft.keeps[index]:
            place = min(places.get(operand.name, 0) - first, len(temporal))
            kept.setdefault(place, []).append(operand.name)
    starts = sorted(kept)
    for start, stop in zip(starts, [*starts[1:], len(temporal)], strict=True):
        last = start == starts[-1]
        unrolled = tuple(spatial) if last else ()
        if kept[start] or stop > start or unrolled:
            yield Block(level.memory, tuple(kept[start]), tuple(temporal[start:stop]), unrolled)


def _written_places(
    fixed: tuple[FixedBlock, ...], temporal: list[Loop], places: dict[str, int]
) -> dict[str, int]:
    """Where operands whose blocks are written stand: together, near the place of the first."""
    found: dict[str, int] = {}
    least = 0
    for at, block in enumerate(fixed):
        low, high = room_of(fixed, at, [loop.dim for loop in temporal])
        wanted = places.get(block.operands[0], 0) if block.operands else 0
        least = min(max(wanted, low, least), high)
        found |= dict.fromkeys(block.operands or (), least)
    return found


def _loops(draft: Draft, space: Mapspace, slot: Slot, order: Iterable[int]) -> list[Loop]:
    column, dims = space.slots.index(slot), space.workload.dims
    return [
        Loop(dims[dim].name, draft.factors[dim][column], slot.axis)
        for dim in order
        if draft.factors[dim][column] > 1
    ]


def first_draft(space: Mapspace) -> Draft:
    """The draft with the smallest tiles: all loops outermost, nothing kept that need not be.

    With a fix, what it gives, and all that is free as far out as it may be.
    """
    count = len(space.workload.dims)
    factors = tuple(_first_factors(space, dim.name, dim.size) for dim in space.workload.dims)
    levels = range(len(space.hardware.levels))
    orders = tuple(space.arrange(level, tuple(range(count))) for level in levels)
    inside = count if space.uneven and space.fix is not None else 0  # of the loops that are given
    return Draft(factors, orders, space.forced, _even(space.forced, inside))


def _first_factors(space: Mapspace, dim: str, size: int) -> tuple[int, ...]:
    row = [space.pinned(slot, dim) or 1 for slot in space.slots]
    home = space.home(dim)
    if space.pinned(space.slots[home], dim) is None:
        row[home] = -(-size // math.prod(row))
    return tuple(row)


def random_draft(space: Mapspace, random: Random) -> Draft:
    """A random draft: fan-outs filled first, then factors dealt to the levels."""
    dims = list(range(len(space.workload.dims)))
    factors = [list(row) for row in first_draft(space).factors]
    for column, slot in enumerate(space.slots):
        room = space.room(slot)
        if room is not None:
            room //= math.prod(row[column] for row in factors)
            for dim in random.sample(dims, len(dims)):
                if room and _is_free(space, column, dim):
                    home = space.home(space.workload.dims[dim].name)
                    room //= _unroll(factors[dim], home, column, room, space, random)
    for dim in dims:
        temporal = [
            column
            for column, slot in enumerate(space.slots)
            if slot.axis is None and _is_free(space, column, dim)
        ]
        home = space.home(space.workload.dims[dim].name)
        for prime in list(primes(factors[dim][home])) if temporal else ():
            column = random.choice(temporal)
            factors[dim][home] //= prime
            factors[dim][column] *= prime
    keeps = tuple(
        forced | {name for name in sorted(free) if random.random() < 0.8}
        for forced, free in zip(space.forced, space.optional, strict=True)
    )
    levels = range(len(space.hardware.levels))
    orders = tuple(space.arrange(i, tuple(random.sample(dims, len(dims)))) for i in levels)
    return Draft(tuple(map(tuple, factors)), orders, keeps, _even(keeps))


def _is_free(space: Mapspace, column: int, dim: int) -> bool:
    """Whether the extent of a dim in a slot is for the search to choose."""
    slot, name = space.slots[column], space.workload.dims[dim].name
    return space.admits(slot, name) and space.pinned(slot, name) is None


def _unroll(  # noqa: PLR0913, PLR0917
    row: list[int], home: int, column: int, room: int, space: Mapspace, random: Random
) -> int:
    """Unroll a random part of what is left of a dim; returns the extent."""
    if column == home:
        return 1  # what is left is there already
    if space.imperfect:
        extent = random.randint(1, min(room, row[home]))
        row[home] = -(-row[home] // extent)
    else:
        fitting = [extent for extent in _divisors(row[home]) if extent <= room]
        extent = random.choice(fitting[-2:])
        row[home] //= extent
    row[column] *= extent
    return extent


def _divisors(number: int) -> list[int]:
    found = {1}
    for prime in primes(number):
        found |= {prime * divisor for divisor in found}
    return sorted(found)


def neighbour(draft: Draft, space: Mapspace, random: Random) -> Draft:
    """A draft that differs in one or two places."""
    steps: list[Step] = [_move_factor, _move_factor, _move_factor, _trade_factors, _reorder]
    if any(space.optional):
        steps.append(_toggle)
    if space.uneven:
        steps.append(_shift_block)
    changed = random.choice(steps)(draft, space, random)
    if random.random() < 0.3:
        changed = random.choice(steps)(changed, space, random)
    return changed


def _move_factor(draft: Draft, space: Mapspace, random: Random) -> Draft:
    """Move a factor of a dim from one slot to another."""
    movable = [dim for dim, row in enumerate(draft.factors) if max(row) > 1]
    if not movable:
        return draft
    dim = random.choice(movable)
    row = list(draft.factors[dim])
    sources = [c for c, extent in enumerate(row) if extent > 1 and _is_free(space, c, dim)]
    if not sources:
        return draft
    source = random.choice(sources)
    targets = [c for c in range(len(row)) if c != source and _is_free(space, c, dim)]
    if not targets:
        return draft
    target = random.choice(targets)
    if space.imperfect:
        row[source] = random.randint(1, row[source])
        row[target] = 1
        row[target] = -(-space.workload.dims[dim].size // math.prod(row))
    else:
        prime = random.choice(list(primes(row[source])))
        row[source] //= prime
        row[target] *= prime
    return _with_factors(draft, space, dim, row)


def _with_factors(draft: Draft, space: Mapspace, dim: int, row: list[int]) -> Draft:
    """The draft with new factors of a dim, if the fan-outs have room for them."""
    factors = (*draft.factors[:dim], tuple(row), *draft.factors[dim + 1 :])
    for column, slot in enumerate(space.slots):
        room = space.room(slot)
        if room is not None and math.prod(other[column] for other in factors) > room:
            return draft
    return replace(draft, factors=factors)


def _trade_factors(draft: Draft, space: Mapspace, random: Random) -> Draft:
    """Move two factors, so that one makes room for the other."""
    return _move_factor(_move_factor(draft, space, random), space, random)


def _reorder(draft: Draft, space: Mapspace, random: Random) -> Draft:
    """Put one loop of a level to another place."""
    level = random.randrange(len(draft.orders))
    order = list(draft.orders[level])
    order.insert(random.randrange(len(order)), order.pop(random.randrange(len(order))))
    arranged = space.arrange(level, tuple(order))
    orders = (*draft.orders[:level], arranged, *draft.orders[level + 1 :])
    return replace(draft, orders=orders)


def _toggle(draft: Draft, space: Mapspace, random: Random) -> Draft:
    """Keep an operand somewhere, or no longer."""
    level = random.choice([i for i, names in enumerate(space.optional) if names])
    name = random.choice(sorted(space.optional[level]))
    keeps = (*draft.keeps[:level], draft.keeps[level] ^ {name}, *draft.keeps[level + 1 :])
    return replace(draft, keeps=keeps)


def _shift_block(draft: Draft, _: Mapspace, random: Random) -> Draft:
    """Put the block of an operand to another place among its level's loops."""
    levels = [i for i, names in enumerate(draft.keeps) if names and i > 0]
    if not levels:
        return draft
    level = random.choice(levels)
    places = dict(draft.places[level])
    places[random.choice(sorted(draft.keeps[level]))] = random.randint(0, len(draft.orders[level]))
    row = tuple(sorted(places.items()))
    return replace(draft, places=(*draft.places[:level], row, *draft.places[level + 1 :]))


def _even(
    keeps: tuple[frozenset[str], ...], place: int = 0
) -> tuple[tuple[tuple[str, int], ...], ...]:
    return tuple(tuple((name, place) for name in sorted(names)) for names in keeps)
