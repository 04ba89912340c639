"""A mapping in the making: easy to change at one place, always covering the workload.

Owns: the noun `Draft` and the random steps from one draft to a neighbour.

Non-goals: which step is an improvement (`mapper/`).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from random import Random

from tilewright.ir.hardware import AXES
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.mapspace.space import Mapspace, Slot, primes

Factors = tuple[tuple[int, ...], ...]


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


def _loops(draft: Draft, space: Mapspace, slot: Slot, order: Iterable[int]) -> list[Loop]:
    column, dims = space.slots.index(slot), space.workload.dims
    return [
        Loop(dims[dim].name, draft.factors[dim][column], slot.axis)
        for dim in order
        if draft.factors[dim][column] > 1
    ]


def first_draft(space: Mapspace) -> Draft:
    """The draft with the smallest tiles: all loops outermost, nothing kept that need not be."""
    count = len(space.workload.dims)
    inner = (1,) * (len(space.slots) - 1)
    factors = tuple((dim.size, *inner) for dim in space.workload.dims)
    orders = (tuple(range(count)),) * len(space.hardware.levels)
    return Draft(factors, orders, space.forced, _even(space.forced))


def random_draft(space: Mapspace, random: Random) -> Draft:
    """A random draft: fan-outs filled first, then factors dealt to the levels."""
    dims = list(range(len(space.workload.dims)))
    factors = [list(row) for row in first_draft(space).factors]
    for column, slot in enumerate(space.slots):
        room = space.room(slot)
        if room is not None:
            for dim in random.sample(dims, len(dims)):
                if space.admits(slot, space.workload.dims[dim].name):
                    room //= _unroll(factors[dim], column, room, space, random)
    temporal = [column for column, slot in enumerate(space.slots) if slot.axis is None]
    for dim in dims:
        for prime in list(primes(factors[dim][0])):
            column = random.choice(temporal)
            factors[dim][0] //= prime
            factors[dim][column] *= prime
    keeps = tuple(
        forced | {name for name in sorted(free) if random.random() < 0.8}
        for forced, free in zip(space.forced, space.optional, strict=True)
    )
    orders = tuple(tuple(random.sample(dims, len(dims))) for _ in space.hardware.levels)
    return Draft(tuple(map(tuple, factors)), orders, keeps, _even(keeps))


def _unroll(row: list[int], column: int, room: int, space: Mapspace, random: Random) -> int:
    """Unroll a random part of what is left of a dim; returns the extent."""
    if space.imperfect:
        extent = random.randint(1, min(room, row[0]))
        row[0] = -(-row[0] // extent)
    else:
        fitting = [extent for extent in _divisors(row[0]) if extent <= room]
        extent = random.choice(fitting[-2:])
        row[0] //= extent
    row[column] *= extent
    return extent


def _divisors(number: int) -> list[int]:
    found = {1}
    for prime in primes(number):
        found |= {prime * divisor for divisor in found}
    return sorted(found)


def neighbour(draft: Draft, space: Mapspace, random: Random) -> Draft:
    """A draft that differs in one or two places."""
    steps = [_move_factor, _move_factor, _move_factor, _trade_factors, _reorder]
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
    source = random.choice([column for column, extent in enumerate(row) if extent > 1])
    name = space.workload.dims[dim].name
    targets = [c for c, s in enumerate(space.slots) if c != source and space.admits(s, name)]
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


def _reorder(draft: Draft, _: Mapspace, random: Random) -> Draft:
    """Put one loop of a level to another place."""
    level = random.randrange(len(draft.orders))
    order = list(draft.orders[level])
    order.insert(random.randrange(len(order)), order.pop(random.randrange(len(order))))
    orders = (*draft.orders[:level], tuple(order), *draft.orders[level + 1 :])
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


def _even(keeps: tuple[frozenset[str], ...]) -> tuple[tuple[tuple[str, int], ...], ...]:
    return tuple(tuple((name, 0) for name in sorted(names)) for names in keeps)
