"""Meeting in the middle: bounds of what is outside and inside a stage, over the lattice of tiles.

Owns: `fill_outside`, `fill_inside`, which also lists the tiles and unrollings worth trying. The
lattice has an axis for every prime of every dim (`Problem.axes`): what divides is further along.

Non-goals: what edges cost, the search (`mapper/kernels.py`). Proofs: `docs/optimal-mapper.md`,
Lattice.
"""

from typing import NamedTuple

import numpy as np

from tilewright.mapper.compiled import compiled_in_place, compiled_inside
from tilewright.mapper.kernels import Pairs, edge_floor, inner_floor
from tilewright.mapper.problem import Floats, Integers, Mask, Problem, Template

_NEAR, _TOGETHER = 16_384, 64
"""Values that stay in the nearest cache, and how many next to one another are read from afar."""


class Outside(NamedTuple):
    """The least energy outside of what the instances of a stage hold together, by place.

    Attributes:
        moving: (T·(O + 1),) T rows: where an operand stays in the stage, at last where none does.
        waiting: (O·T,) O rows: where an operand waits in the stage.
        least: (2·O + 1,) the least of all places, `moving` first.
    """

    moving: Floats
    waiting: Floats
    least: Floats


class Alike(NamedTuple):
    """The unrollings of a stage: what edges cost is the same for all of a class.

    Attributes:
        code, place: (P,) `Problem.packed` and `Problem.place` of what they unroll along dims that
            have no loop in the stage.
        first: (P + 1,) where the classes begin that unroll those dims so, cheapest MACs first.
        start: (C + 1,) where those of a class begin; one of -1 if nothing is unrolled.
        spread: (M,) the unrollings; codes, places: (M,) `packed` and `place` of them.
    """

    code: Integers
    place: Integers
    first: Integers
    start: Integers
    spread: Integers
    codes: Integers
    places: Integers


class Inside(NamedTuple):
    """The same for what is inside, by class of cycles first.

    Attributes:
        moving: (G·T·(O + 1),) see `Outside`.
        waiting: (G·O·T,) likewise.
        entered: (G, O + 1) whether anything is below infinity in a class, of what waits and, at
            last, of what moves.
        edges, around, rest, floors, inner: (O,), (O + 1,), (O + 1,), (O + 1,), (G,) room to
            work in.
    """

    moving: Floats
    waiting: Floats
    entered: Mask
    edges: Floats
    around: Floats
    rest: Floats
    floors: Floats
    inner: Floats


@compiled_in_place
def reset_inside(template: Template, stop: Integers) -> None:
    """Put the bounds that hold for every tile of a boundary in place of those of single tiles.

    `stop` (1,) is not 0 as soon as the answer is no longer asked for.
    """
    operands = template.staying.shape[1]
    for stage in range(1, len(template.level)):
        for row in range(template.tile_start[stage], template.tile_start[stage + 1]):
            if stop[0] != 0:
                return
            for group in range(len(template.group_cycles)):
                template.inside[row, operands, group] = template.moving[stage, group]
                for operand in range(operands):
                    floor = template.staying[stage, operand, group]
                    stays = floor if template.may_stay[stage, operand] else np.inf
                    template.inside[row, operand, group] = stays
                    template.inside[row, operands + 1 + operand, group] = floor


@compiled_in_place
def lead_on(template: Template, left: Mask) -> None:
    """Note in `left` (N,) the tiles inside of which some way is below infinity."""
    for row in range(len(left)):
        left[row] = False
        for way in range(template.inside.shape[1]):
            for group in range(template.inside.shape[2]):
                left[row] |= template.inside[row, way, group] < np.inf


@compiled_in_place
def least_edges(problem: Problem, template: Template, c: int) -> float:
    """The least energy of the edges into a boundary; one operand may be kept still."""
    least = np.inf
    for row in range(template.tile_start[c], template.tile_start[c + 1]):
        gain = 0.0
        for operand in range(len(problem.uses)):
            gain = max(gain, _stay_gain(problem, template, c, row, operand))
        least = min(least, template.quick_total[row] - gain)
    return least


@compiled_in_place
def fill_outside(
    problem: Problem,
    template: Template,
    stage: int,
    before: float,
    most: float,
    outside: Outside,
    stop: Integers,
) -> None:
    """Bound what is outside of anything that the instances of a stage hold together.

    Args:
        problem: workload and chip.
        template: with the tiles of the stage's outer boundary.
        stage: the one outside of which edges are bounded.
        before: the least energy of the edges into boundaries further out.
        most: energy of all edges that a chain worth finding may have at most.
        outside: room for the least energy.
        stop: (1,) not 0 as soon as the answer is no longer asked for.
    """
    operands, width = len(problem.uses), len(problem.uses) + 1
    places = len(outside.moving) // width
    outside.moving[:] = np.inf
    outside.waiting[:] = np.inf
    outside.least[:] = np.inf
    for row in range(template.tile_start[stage], template.tile_start[stage + 1]):
        gain = 0.0
        for operand in range(operands):
            gain = max(gain, _stay_gain(problem, template, stage, row, operand))
        edges = before + template.quick_total[row]
        if edges - gain + template.least_inside[stage] > most:
            continue
        at = place_of(problem, template, row)
        _lower(outside.moving, at * width + operands, edges - gain)
        _lower(outside.least, operands, edges - gain)
        for operand in range(operands):
            if not template.keeps[stage + 1, operand]:
                continue
            slope = template.stay_slope[stage, operand]
            offset = template.stay_offset[stage, operand]
            if template.may_stay[stage, operand]:
                stays = edges - gain + slope * template.still[row, operand] + offset
                _lower(outside.moving, at * width + operand, stays)
                _lower(outside.least, operand, stays)
            if template.may_wait[row, operand]:
                own = max(0.0, _stay_gain(problem, template, stage, row, operand))
                waits = edges - own + slope * problem.distinct[operand] + offset
                _lower(outside.waiting, operand * places + at, waits)
                _lower(outside.least, width + operand, waits)
    _spread(problem, outside.moving, 0, width, template.bare[stage], True, stop)
    for operand in range(operands):
        if outside.least[width + operand] < np.inf:
            equal = template.bare[stage] | problem.uses[operand]
            _spread(problem, outside.waiting, operand * places, 1, equal, True, stop)


@compiled_inside
def place_of(problem: Problem, template: Template, row: int) -> int:
    """Where the tile of a row stands in the lattice."""
    at = 0
    for dim in range(len(problem.sizes)):
        at += problem.place[dim, template.tiles[row, dim]]
    return at


@compiled_inside
def _lower(values: Floats, at: int, value: float) -> None:
    values[at] = min(values[at], value)


@compiled_inside
def _stay_gain(problem: Problem, template: Template, stage: int, row: int, operand: int) -> float:
    """By how much an operand's edge into a tile costs less, at most, if loops keep it still."""
    if not template.keeps[stage, operand]:
        return 0.0
    least = template.stay_slope[stage - 1, operand] * problem.distinct[operand]
    return template.quick[row, operand] - least - template.stay_offset[stage - 1, operand]


@compiled_inside
def _spread(
    problem: Problem,
    values: Floats,
    first: int,
    width: int,
    equal: int,
    outwards: bool,
    stop: Integers,
) -> None:
    """Let every place have the least of all that it divides, or inwards, that divide it.

    There are so many values at each place. Along dims of the mask `equal` places are the same.
    What is near one another is gone through together, as it would leave the cache in between.
    """
    axes, near, places = len(problem.axes), 0, 1
    block = width
    for axis in range(axes):
        places *= problem.axes[axis, 1]
        if near == axis and places * width <= _NEAR:
            near, block = axis + 1, places * width
    for low in range(first, first + places * width, block):
        if stop[0] != 0:
            return
        for axis in range(near):
            dim, length, stride = problem.axes[axis]
            if not equal >> dim & 1:
                run = stride * width
                _spread_along(values, low, block, length, run, run, 0, run, outwards)
    for low in range(0, block, _TOGETHER):
        if stop[0] != 0:
            return
        high = min(low + _TOGETHER, block)
        for axis in range(near, axes):
            dim, length, stride = problem.axes[axis]
            if not equal >> dim & 1:
                run = stride * width
                _spread_along(
                    values, first, places * width, length, run, block, low, high, outwards
                )


@compiled_inside
def _spread_along(
    values: Floats,
    first: int,
    count: int,
    length: int,
    run: int,
    block: int,
    low: int,
    high: int,
    outwards: bool,
) -> None:
    """Lower values along an axis of so many places, a run of values at each.

    Of every block of a run, those from `low` on up to `high`.
    """
    for start in range(first, first + count, length * run):
        for step in range(1, length):
            here = length - 1 - step if outwards else step
            beyond = here + 1 if outwards else here - 1
            for at in range(0, run, block):
                mine, other = start + here * run + at, start + beyond * run + at
                lowered, known = (
                    values[mine + low : mine + high],
                    values[other + low : other + high],
                )
                for value in range(high - low):
                    lowered[value] = min(lowered[value], known[value])


@compiled_in_place
def fill_inside(
    problem: Problem,
    template: Template,
    stage: int,
    allowed: Floats,
    outside: Outside,
    lattice: Inside,
    alike: Alike,
    pairs: Pairs,
) -> int:
    """Bound what is inside every tile of the boundary outside a stage, minding divisibility.

    Args:
        problem: workload and chip.
        template: with room in `inside` for the bounds.
        stage: the one whose tiles and unrollings are gone through.
        allowed: (G,) energy of all edges that a chain worth finding may have at most.
        outside: see `fill_outside`.
        lattice: room for all places and classes of cycles.
        alike: the unrollings that a chain worth finding may have.
        pairs: room for the tiles and unrollings that are worth it.

    Returns: how many of those there are, be there room or not.
    """
    operands, width = len(problem.uses), len(problem.uses) + 1
    groups, places = len(template.group_cycles), len(outside.moving) // width
    lattice.moving[: groups * places * width] = np.inf
    lattice.waiting[: groups * places * operands] = np.inf
    lattice.entered[:, :] = False
    count = _scatter(problem, template, stage, allowed, outside, lattice, alike, pairs)
    for group in range(groups):
        equal, first = template.bare[stage], group * places
        if lattice.entered[group, operands]:
            _spread(problem, lattice.moving, first * width, width, equal, False, pairs.start)
        for operand in range(operands):
            if lattice.entered[group, operand]:
                first = (group * operands + operand) * places
                equal = template.bare[stage] | problem.uses[operand]
                _spread(problem, lattice.waiting, first, 1, equal, False, pairs.start)
    for row in range(template.tile_start[stage], template.tile_start[stage + 1]):
        at = place_of(problem, template, row)
        for group in range(groups):
            base = group * places
            for way in range(width):
                template.inside[row, way, group] = lattice.moving[(base + at) * width + way]
            base *= operands
            for way in range(operands):
                least = lattice.waiting[base + way * places + at]
                template.inside[row, width + way, group] = least
    return count


@compiled_inside
def _scatter(
    problem: Problem,
    template: Template,
    stage: int,
    allowed: Floats,
    outside: Outside,
    lattice: Inside,
    alike: Alike,
    pairs: Pairs,
) -> int:
    """Enter every tile and unrolling that is worth it where all instances together stand."""
    count, c, guards = 0, stage + 1, problem.guards
    most, whole = allowed[0], guards + _code_of_all(problem)
    for group in range(1, len(allowed)):
        most = max(most, allowed[group])
    for row in range(template.tile_start[c], template.tile_start[c + 1]):
        if pairs.start[0] != 0:
            return 0  # told to stop
        inner = np.inf
        for group in range(len(allowed)):
            lattice.inner[group] = inner_floor(template, c, row, group, problem.distinct)
            inner = min(inner, lattice.inner[group])
        anywhere = _anywhere(problem, template, stage, row, outside) + inner
        if anywhere + template.least_macs[stage] > most:
            continue
        at, code = place_of(problem, template, row), 0
        for dim in range(len(problem.sizes)):
            code += problem.packed[dim, template.tiles[row, dim]]
        for part in range(len(alike.place)):
            room = whole - code - alike.code[part]
            if room & guards != guards:
                continue
            least = inner + _around(
                problem, template, stage, row, outside, lattice.around, at + alike.place[part],
                alike.spread[0] < 0,
            )  # fmt: skip
            for which in range(alike.first[part], alike.first[part + 1]):
                spread = int(alike.spread[alike.start[which]])
                macs = 0.0 if spread < 0 else template.mac_floor[spread]
                if least + macs > most:
                    break  # they come cheapest first
                if not _is_worth(problem, template, stage, row, spread, allowed, lattice):
                    continue
                for member in range(alike.start[which], alike.start[which + 1]):
                    if (whole - code - alike.codes[member]) & guards != guards:
                        continue
                    here = at + alike.places[member]
                    key = _enter(problem, template, stage, spread, here, allowed, outside, lattice)
                    if key == np.inf:
                        continue
                    if count < len(pairs.key):
                        pairs.key[count] = key
                        pairs.row[count] = row
                        pairs.spread[count] = alike.spread[member]
                        pairs.code[count] = code + alike.codes[member]
                        for way in range(len(lattice.floors)):
                            pairs.floors[count, way] = lattice.floors[way]
                    count += 1
    return count


@compiled_inside
def _code_of_all(problem: Problem) -> int:
    """`Problem.packed` of the whole workload."""
    code = 0
    for dim in range(len(problem.sizes)):
        most = problem.packed[dim, 0]
        for index in range(problem.packed.shape[1]):
            if problem.val[dim, index] == problem.sizes[dim]:
                most = problem.packed[dim, index]
        code += most
    return code


@compiled_inside
def _is_worth(
    problem: Problem,
    template: Template,
    stage: int,
    row: int,
    spread: int,
    allowed: Floats,
    lattice: Inside,
) -> bool:
    """Whether a tile with a class of unrollings may be part of a chain worth finding.

    Notes, for every way that may be, what the edges into the tile cost, infinity for the others.
    """
    operands, width, c = len(problem.uses), len(problem.uses) + 1, stage + 1
    total = template.rent[row] + (0.0 if spread < 0 else template.mac_floor[spread])
    for operand in range(operands):
        lattice.edges[operand] = 0.0
        if template.keeps[c, operand]:
            words = template.fills[row, operand]
            edge = edge_floor(problem, template, c, operand, words, spread)
            lattice.edges[operand] = edge
            total += edge
    first, last = 0, len(allowed)
    if stage == template.primary:
        first = template.group[spread]
        last = first + 1
    found = False
    for stay in range(width):
        lattice.rest[stay] = np.inf
        if stay < operands and not template.keeps[c, stay]:
            continue
        rest = total - (lattice.edges[stay] if stay < operands else 0.0)
        for group in range(first, last):
            if rest + lattice.inner[group] + lattice.around[stay] <= allowed[group]:
                lattice.rest[stay] = rest
                found = True
    return found


@compiled_inside
def _enter(
    problem: Problem,
    template: Template,
    stage: int,
    spread: int,
    at: int,
    allowed: Floats,
    outside: Outside,
    lattice: Inside,
) -> float:
    """Enter a tile and an unrolling, of a class that is worth it, for every way that is.

    Returns: the least energy of the tile's edges and of what is inside; infinite if no way is.
    """
    operands, width = len(problem.uses), len(problem.uses) + 1
    places = len(outside.moving) // width
    first, last = 0, len(allowed)
    if stage == template.primary:
        first = template.group[spread]
        last = first + 1
    key = np.inf
    for stay in range(width):
        lattice.floors[stay] = np.inf
        if lattice.rest[stay] == np.inf:
            continue
        moves, waits = outside.moving[at * width + stay], np.inf
        if stay < operands:
            waits = outside.waiting[stay * places + at]
        for group in range(first, last):
            floor = lattice.rest[stay] + lattice.inner[group]
            if floor + min(moves, waits) > allowed[group]:
                continue
            stays = 0.0
            if stay < operands:
                stays = template.stay_slope[stage, stay] * problem.distinct[stay]
                stays += template.stay_offset[stage, stay]
            key = min(key, floor + stays)
            lattice.floors[stay] = min(lattice.floors[stay], floor)
            if floor + moves <= allowed[group]:
                lattice.entered[group, operands] = True
                _lower(lattice.moving, (group * places + at) * width + stay, floor)
            if floor + waits <= allowed[group]:
                lattice.entered[group, stay] = True
                _lower(lattice.waiting, (group * operands + stay) * places + at, floor)
    return key


@compiled_inside
def _anywhere(
    problem: Problem, template: Template, stage: int, row: int, outside: Outside
) -> float:
    """The least energy of the edges into a tile inside a stage, and of all further out."""
    operands, c = len(problem.uses), stage + 1
    least = outside.least[operands]
    for operand in range(operands):
        if template.keeps[c, operand]:
            around = min(outside.least[operand], outside.least[operands + 1 + operand])
            least = min(least, around - template.quick[row, operand])
    return least + template.quick_total[row]


@compiled_inside
def _around(
    problem: Problem,
    template: Template,
    stage: int,
    row: int,
    outside: Outside,
    around: Floats,
    at: int,
    is_whole: bool,
) -> float:
    """The least energy of the edges into a tile inside a stage, and of all further out.

    `at` is where all instances together stand in `outside`, or else, not `is_whole`, what they hold
    unless they unroll more dims that may have a loop in the stage: then the bound is one for all
    such unrollings, as are those of what is outside alone, in `around`.
    """
    operands, c, width = len(problem.uses), stage + 1, len(problem.uses) + 1
    places = len(outside.moving) // width
    least = around[operands] = outside.moving[at * width + operands]
    for operand in range(operands):
        if not template.keeps[c, operand]:
            continue
        if is_whole:
            waits = outside.waiting[operand * places + at]
        else:  # what waits has as large a tile outside as all instances together have
            waits = template.stay_slope[stage, operand] * problem.distinct[operand]
            waits += template.stay_offset[stage, operand] + outside.moving[at * width + operands]
            waits = max(waits, outside.least[width + operand])
        around[operand] = min(outside.moving[at * width + operand], waits)
        least = min(least, around[operand] - template.quick[row, operand])
    return least + template.quick_total[row]
