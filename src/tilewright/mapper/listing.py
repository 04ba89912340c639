"""Lists that the search goes through: tiles that fit, and which of them bounds need to look at.

Owns: compiled enumeration over the lattice of divisor vectors.

Non-goals: what tiles cost (`mapper/kernels.py`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilewright.mapper.compiled import compiled
from tilewright.mapper.problem import Floats, Integers, Mask, Problem

Tiles = NDArray[np.int16]
Numbers = NDArray[np.int32]


@compiled
def tile_words(problem: Problem, tile: Integers, operand: int) -> float:
    """Words of the largest tile of an operand."""
    words = 1.0
    sliding = 0
    for rank in range(len(problem.rank_op)):
        if problem.rank_op[rank] == operand:
            a, b = problem.rank_a[rank], problem.rank_b[rank]
            sliding |= 1 << a | 1 << b
            words *= problem.largest[rank, tile[a], tile[b]]
    for dim in range(len(problem.sizes)):
        if problem.uses[operand] >> dim & 1 and not sliding >> dim & 1:
            words *= problem.val[dim, tile[dim]]
    return float(words)


@compiled
def arriving_words(problem: Problem, tile: Integers, operand: int, staying: bool) -> float:
    """The fewest words that enter tiles of this size, every loop outside repeating them."""
    words = problem.plain[operand]
    for dim in range(len(problem.sizes)):
        if not problem.uses[operand] >> dim & 1:
            words *= problem.sizes[dim] / problem.val[dim, tile[dim]]
    table = problem.stay_floor if staying else problem.floor
    twice = problem.spills_within if staying else problem.spills
    least = -1.0
    for slid in range(-1, len(problem.rank_op)):  # tiles overlap along one rank at most
        if slid >= 0 and problem.rank_op[slid] != operand:
            continue
        factor = 1.0
        for rank in range(len(problem.rank_op)):
            if problem.rank_op[rank] == operand:
                a, b = tile[problem.rank_a[rank]], tile[problem.rank_b[rank]]
                kept = rank == slid or twice[rank, a, b]
                factor *= table[rank, a, b] if kept else problem.visits[rank, a, b]
        least = factor if least < 0 else min(least, factor)
    return words * least


class Table(NamedTuple):
    """What is known of the tiles of a lattice of T, by the number of a tile.

    Attributes:
        known: (T,) whether anything is.
        tiles: (T, D + 1) indices of the divisors.
        words: (O, T) words of one tile of an operand.
        moving, staying: (O, T) `arriving_words`.
    """

    known: Mask
    tiles: Tiles
    words: Floats
    moving: Floats
    staying: Floats


@compiled
def fitting_tiles(
    problem: Problem, level: int, keeps: Mask, counts: Integers, table: Table, stop: Integers
) -> Numbers:
    """All tiles that fit a memory, output words being finished.

    Args:
        problem: workload and chip.
        level: the memory.
        keeps: (O,) the operands whose tiles it holds.
        counts: (D,) divisors of every dim.
        table: of the lattice; what it lacks of these tiles is added.
        stop: (1,) not 0 as soon as the answer is no longer asked for.

    Returns: the numbers of the tiles, ascending.
    """
    dims, operands = len(problem.sizes), len(problem.uses)
    total = len(table.known)
    tile = np.zeros(dims + 1, np.int64)
    chosen = np.empty(total, np.int32)
    found = 0
    for code in range(total):
        if stop[0] != 0:
            break
        need, fits = 0.0, True
        for operand in range(operands):
            if keeps[operand]:
                bits = tile_words(problem, tile, operand) * problem.store_bits[operand]
                need += bits
                fits = fits and bits <= problem.room[level, operand]
        if fits and need <= problem.shared[level]:
            chosen[found] = code
            found += 1
            if not table.known[code]:
                table.known[code] = True
                for dim in range(dims):
                    table.tiles[code, dim] = tile[dim]
                for operand in range(operands):
                    table.words[operand, code] = tile_words(problem, tile, operand)
                    table.moving[operand, code] = arriving_words(problem, tile, operand, False)
                    table.staying[operand, code] = arriving_words(problem, tile, operand, True)
        for dim in range(dims):
            tile[dim] += 1
            if tile[dim] < counts[dim]:
                break
            tile[dim] = 0
    return chosen[:found].copy()


@compiled
def edge_costs(numbers: Numbers, moving: Floats, lines: Floats) -> Floats:
    """The least energy of every operand's edge into every tile, whatever is unrolled.

    Args:
        numbers: (N,) of the tiles.
        moving: (O, T) see `Table`.
        lines: (O, 11) see `_edge_cost`.

    Returns: (N, O).
    """
    count, operands = len(numbers), len(lines)
    costs = np.empty((count, operands))
    for row in range(count):
        for operand in range(operands):
            words = moving[operand, numbers[row]]
            costs[row, operand] = _edge_cost(words, lines, operand)
    return costs


@compiled
def edge_floors(numbers: Numbers, moving: Floats, lines: Floats, stays: Floats) -> Floats:
    """The least energy of all edges into every tile; one operand may stay, for so much at least."""
    count, operands = len(numbers), len(lines)
    floors = np.empty(count)
    for row in range(count):
        total = gain = 0.0
        for operand in range(operands):
            if lines[operand, 0] > 0.0:
                cost = _edge_cost(moving[operand, numbers[row]], lines, operand)
                total += cost
                gain = max(gain, cost - stays[operand])
        floors[row] = total - gain
    return floors


@compiled
def _edge_cost(words: float, lines: Floats, operand: int) -> float:
    """The least energy of an edge that moves so many words.

    `lines` has whether the operand is kept; per word fill and load; the share that is read; first
    touches that save fills, and loads; whether neither can be more than there are; and, of an
    output, reads, the share that is merged, updates, and what finished words save.
    """
    if lines[operand, 0] == 0.0:
        return 0.0
    fill, load, share = lines[operand, 1], lines[operand, 2], lines[operand, 3]
    if operand < len(lines) - 1:
        return float(words * (fill + load * share))
    fills, loads = words - lines[operand, 4], words * share - lines[operand, 5]
    if lines[operand, 6] > 0.0:  # see `kernels.edge_floor`
        fills, loads = max(fills, 0.0), max(loads, 0.0)
    return (
        words * lines[operand, 7]
        + fills * fill
        + loads * load
        + words * lines[operand, 8] * lines[operand, 9]
        - lines[operand, 10]
    )


@compiled
def front(features: Floats, stop: Integers) -> Mask:
    """Which rows no other row is below or equal to in every column; of equal rows the first.

    `stop` (1,) is not 0 as soon as the answer is no longer asked for.
    """
    count, width = features.shape
    order = np.argsort(features.sum(axis=1))
    kept = np.empty(count, np.int64)
    found = 0
    chosen = np.zeros(count, np.bool_)
    for at in order:
        if stop[0] != 0:
            break
        dominated = False
        for other in range(found):
            below = True
            for column in range(width):
                if features[kept[other], column] > features[at, column]:
                    below = False
                    break
            if below:
                dominated = True
                break
        if not dominated:
            kept[found] = at
            found += 1
            chosen[at] = True
    return chosen


@compiled
def rank_floors(
    own: Integers,
    other: Integers,
    steps: tuple[int, int],
    distinct: float,
    visits: Floats,
    largest: Floats,
    kept_a: Floats,
    kept_b: Floats,
) -> tuple[Floats, Floats]:
    """The fewest words that may enter tiles of a sliding rank: moving, and with tiles inside kept.

    Allows for every loop that may move a tile by as much as the sliding one rewinds it.
    """
    floor = visits.copy()
    inside = np.full(visits.shape, np.inf)
    _slide_floors(own, other, steps[0], steps[1], distinct, largest, kept_a, visits, floor, inside)
    _slide_floors(
        other, own, steps[1], steps[0], distinct, largest.T, kept_b, visits.T, floor.T, inside.T
    )
    return floor, np.minimum(floor, inside)


@compiled
def rank_shares(
    own: Integers,
    other: Integers,
    steps: tuple[int, int],
    distinct: float,
    tables: tuple[Floats, Floats, Floats, Mask],
    joint: Floats,
    kept_a: Floats,
    kept_b: Floats,
    single: Floats,
) -> tuple[Floats, Floats]:
    """The smallest share of a padded rank's words that is read where both dims are unrolled.

    Args:
        own: divisors of the first dim's size, ascending.
        other: those of the second dim's.
        steps: coefficients of the two dims.
        distinct: words of the rank.
        tables: `floor`, `visits`, `largest` and `spills` of the rank.
        joint: this and the others see `sliding.joint_tables`.
        kept_a: words kept when the first dim's loop slides.
        kept_b: those kept when the second's does, with the dims exchanged.
        single: words at single iterations.

    Returns: (x, y) by extents on the fan-out next to tiles, of what enters them, be it `visits` or
    `floor`; and of what MACs need, the fan-out being anywhere. Infinite where nothing is known.
    """
    floor, visits, largest, spills = tables
    n, m = len(own), len(other)
    moved, alone = np.full((n, m), np.inf), np.full((n, m), np.inf)
    for t in range(n):
        for s in range(m):
            first = _ever_rewinds(own, other, steps[0], steps[1], t, s)
            second = _ever_rewinds(other, own, steps[1], steps[0], s, t)
            sweep = largest[t, s] / own[t] / other[s] * own[-1] * other[-1]
            for u in range(t + 1, n):
                for v in range(s + 1, m):
                    words = joint[u, t, v, s]
                    if words == 0.0:
                        continue  # more copies than there are, or no divisor
                    x = y = 0
                    while own[x] * own[t] < own[u]:
                        x += 1
                    while other[y] * other[s] < other[v]:
                        y += 1
                    alone[x, y] = min(alone[x, y], single[u, t, v, s] / visits[0, 0])
                    if spills[t, s]:
                        continue  # every word is read once, and that is what `floor` says
                    slid = words
                    for whole in range(u + 1, n):
                        if own[whole] % own[u] == 0:
                            spared = sweep * own[u] / own[whole] if first else 0.0
                            slid = min(slid, words - kept_a[whole, u, t, v, s] - spared)
                    for whole in range(v + 1, m):
                        if other[whole] % other[v] == 0:
                            spared = sweep * other[v] / other[whole] if second else 0.0
                            slid = min(slid, words - kept_b[whole, v, s, u, t] - spared)
                    share = min(words / visits[t, s], max(distinct, slid) / floor[t, s])
                    moved[x, y] = min(moved[x, y], share)
    return moved, alone


@compiled
def _ever_rewinds(
    own: Integers, other: Integers, step: int, step_other: int, t: int, s: int
) -> bool:
    """Whether some loop may undo what one over the first dim rewinds tiles."""
    for whole in range(t, len(own)):
        for u in range(t, whole):
            divides = own[whole] % own[u] == 0 and own[u] % own[t] == 0
            if divides and _may_rewind(own, other, step, step_other, u, whole, s):
                return True
    return False


@compiled
def _slide_floors(
    own: Integers,
    other: Integers,
    step: int,
    step_other: int,
    distinct: float,
    largest: Floats,
    kept: Floats,
    visits: Floats,
    floor: Floats,
    inside: Floats,
) -> None:
    """Lower `floor` and `inside` by what sliding along one dim may keep."""
    n, m = len(own), len(other)
    for t in range(n):
        for s in range(m):
            rewinding = _ever_rewinds(own, other, step, step_other, t, s)
            for whole in range(t, n):
                for u in range(t, whole):
                    if own[whole] % own[u] != 0 or own[u] % own[t] != 0:
                        continue
                    words = visits[t, s] - kept[whole, u, t, s]
                    if rewinding:
                        sweeps = own[-1] / own[whole] * (own[u] / own[t])
                        sweeps *= other[-1] / other[s]
                        words = max(distinct, words - sweeps * largest[t, s])
                        for above in range(s, m):
                            inside[whole, above] = min(inside[whole, above], words)
                    floor[t, s] = min(floor[t, s], words)


@compiled
def _may_rewind(
    own: Integers, other: Integers, step: int, step_other: int, u: int, whole: int, tile: int
) -> bool:
    """Whether some loop over the other dim, or one further out, may undo a rewind."""
    back = step * (own[whole] - own[u])
    for v in range(tile, len(other)):
        if other[v] % other[tile] != 0 or v == len(other) - 1:
            continue
        if step_other * other[v] == back:
            return True
        for far in range(v + 1, len(other)):
            if other[far] % other[v] != 0:
                continue
            more = back + step_other * (other[far] - other[v])
            for reach in range(whole, len(own)):
                if own[reach] % own[whole] == 0 and step * own[reach] == more:
                    return True
            if far < len(other) - 1 and step_other * other[far] == more:
                return True
    return False
