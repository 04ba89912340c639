"""Words of a rank that sums two dims, for every tile: tables that the search looks up.

Owns: `sliding_tables`, the totals over all positions of a tile, padding left out, exactly as the
closed form counts them (`docs/optimal-mapper.md`, Tables).

Non-goals: which tiles are tried (`mapper/kernels.py`).
"""

import numpy as np
from numpy.typing import NDArray

from tilewright.mapper.compiled import compiled

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


@compiled
def _touched(first: int, second: int, extent_a: int, extent_b: int) -> Integers:
    """Which coordinates `first·i + second·j` a tile touches: 1 or 0 for each."""
    reach = first * (extent_a - 1) + second * (extent_b - 1) + 1
    bits = np.zeros(reach, np.int64)
    for i in range(extent_a):
        for j in range(extent_b):
            bits[first * i + second * j] = 1
    return bits


@compiled
def _sums(bits: Integers, shift: int) -> Integers:
    """Running counts of the coordinates that a tile has in common with itself moved by a shift."""
    total = np.zeros(len(bits) + 1, np.int64)
    for at in range(len(bits)):
        common = bits[at] if at >= shift and bits[at - shift] == 1 else 0
        total[at + 1] = total[at] + common
    return total


@compiled
def _within(sums: Integers, start: int, low: int, high: int) -> int:
    """How many of a tile's coordinates, from `start`, lie in [low, high)."""
    last = len(sums) - 1
    begin = min(max(low - start, 0), last)
    end = min(max(high - start, 0), last)
    return sums[end] - sums[begin] if end > begin else 0


@compiled
def _places(step_a: int, count_a: int, step_b: int, count_b: int) -> Integers:
    """The different values of `step_a·i + step_b·j`."""
    found = np.zeros(step_a * (count_a - 1) + step_b * (count_b - 1) + 1, np.int64)
    for i in range(count_a):
        for j in range(count_b):
            found[step_a * i + step_b * j] = 1
    return np.nonzero(found)[0]


@compiled
def tile_tables(
    own: Integers, other: Integers, steps: tuple[int, int], data: tuple[int, int]
) -> tuple[Floats, Floats, Mask, Integers, Integers]:
    """Of every tile: the words of the largest one, and the words of all together.

    Args:
        own: divisors of the first dim's size, ascending.
        other: those of the second dim's.
        steps: coefficients of the two dims.
        data: the coordinates that are words, as a half-open range.

    Returns: (t, s) both, and whether tiles at different places may hold the same words, not none;
    then the words of every single tile, and (t, s) where those of a size begin.
    """
    largest = np.zeros((len(own), len(other)))
    visits = np.zeros((len(own), len(other)))
    spills = np.zeros((len(own), len(other)), np.bool_)
    start = np.zeros((len(own), len(other)), np.int64)
    size_a, size_b = own[-1], other[-1]
    total = 0
    for a in range(len(own)):
        for b in range(len(other)):
            start[a, b] = total
            total += (size_a // own[a]) * (size_b // other[b])
    placed = np.zeros(total, np.int64)
    for a in range(len(own)):
        for b in range(len(other)):
            bits = _touched(steps[0], steps[1], own[a], other[b])
            sums = _sums(bits, 0)
            at = start[a, b]
            for i in range(0, size_a, own[a]):
                for j in range(0, size_b, other[b]):
                    words = _within(sums, steps[0] * i + steps[1] * j, data[0], data[1])
                    largest[a, b] = max(largest[a, b], words)
                    visits[a, b] += words
                    placed[at] = words
                    at += 1
            spills[a, b] = _spills(bits, size_a, own[a], size_b, other[b], steps, data)
    return largest, visits, spills, placed, start


@compiled
def _spills(
    bits: Integers,
    size_a: int,
    tile_a: int,
    size_b: int,
    tile_b: int,
    steps: tuple[int, int],
    data: tuple[int, int],
) -> bool:
    """Whether tiles at two places may hold the same words: the same first one and last one."""
    reach, span = len(bits), data[1] - data[0]
    if steps[0] * (size_a - tile_a) + steps[1] * (size_b - tile_b) + reach <= span:
        return False
    codes = np.empty((size_a // tile_a) * (size_b // tile_b), np.int64)
    places = np.empty(len(codes), np.int64)
    found = 0
    for i in range(0, size_a, tile_a):
        for j in range(0, size_b, tile_b):
            base = steps[0] * i + steps[1] * j
            first, last = max(base, data[0]), min(base + reach, data[1]) - 1
            while first <= last and bits[first - base] == 0:
                first += 1
            while first <= last and bits[last - base] == 0:
                last -= 1
            if first <= last:
                codes[found] = (first - data[0]) * span + last - data[0]
                places[found] = base
                found += 1
    order = np.argsort(codes[:found])
    begin = 0
    for at in range(1, found):
        if codes[order[at]] != codes[order[begin]]:
            begin = at
        elif places[order[at]] != places[order[begin]]:
            return True
    return False


@compiled
def kept_table(
    own: Integers, other: Integers, steps: tuple[int, int], data: tuple[int, int]
) -> Floats:
    """Words kept when the loop over the first dim slides, over all steps and instances.

    Returns (T, U, t, s): the loop sweeps blocks of `own[T]`, each step moves by `own[U]`, tiles
    are `own[t]` by `other[s]`.
    """
    count = len(own)
    kept = np.zeros((count, count, count, len(other)))
    size_a, size_b = own[-1], other[-1]
    for t in range(count):
        for s in range(len(other)):
            bits = _touched(steps[0], steps[1], own[t], other[s])
            for u in range(t, count):
                if own[u] % own[t] != 0 or steps[0] * own[u] >= len(bits):
                    continue
                sums = _sums(bits, steps[0] * own[u])
                shift = steps[0] * own[u]
                for i in range(own[u], size_a, own[t]):
                    words = 0
                    for j in range(0, size_b, other[s]):
                        # the coordinates of the earlier tile that the later one has, too
                        start = steps[0] * i + steps[1] * j - shift
                        words += _within(sums, start, data[0], data[1])
                    for whole in range(u + 1, count):
                        if own[whole] % own[u] == 0 and i % own[whole] >= own[u]:
                            kept[whole, u, t, s] += words
    return kept


@compiled
def joint_tables(
    own: Integers,
    other: Integers,
    steps: tuple[int, int],
    data: tuple[int, int],
    most: tuple[int, int],
) -> tuple[Floats, Floats, Floats]:
    """Words that instances are served together, both dims being unrolled on one fan-out.

    Args:
        own: divisors of the first dim's size, ascending.
        other: those of the second dim's.
        steps: coefficients of the two dims.
        data: the coordinates that are words, as a half-open range.
        most: copies that each dim may be unrolled to.

    Returns: (U, t, V, s) the words of all visits, then the words at single iterations, and
    (T, U, t, V, s) the words kept when the first dim's loop slides. Tiles are `own[t]` by
    `other[s]`, instances together span `own[U]` by `other[V]`. Tiles at the same place count once.
    """
    n, m = len(own), len(other)
    visits = np.zeros((n, n, m, m))
    single = np.zeros((n, n, m, m))
    kept = np.zeros((n, n, n, m, m))
    word = np.array([0, 1])
    for t in range(n):
        for u in range(t + 1, n):
            if own[u] % own[t] != 0 or own[u] // own[t] > most[0]:
                continue
            for s in range(m):
                bits = _touched(steps[0], steps[1], own[t], other[s])
                full, slid = _sums(bits, 0), _sums(bits, steps[0] * own[u])
                for v in range(s + 1, m):
                    if other[v] % other[s] != 0 or other[v] // other[s] > most[1]:
                        continue
                    places = _places(
                        steps[0] * own[t],
                        own[u] // own[t],
                        steps[1] * other[s],
                        other[v] // other[s],
                    )
                    for i in range(0, own[-1], own[u]):
                        for j in range(0, other[-1], other[v]):
                            base = steps[0] * i + steps[1] * j
                            stayed = 0
                            for place in places:
                                at = base + place
                                visits[u, t, v, s] += _within(full, at, data[0], data[1])
                                stayed += _within(slid, at - steps[0] * own[u], data[0], data[1])
                                for p in range(own[t]):
                                    for q in range(other[s]):
                                        inner = at + steps[0] * p + steps[1] * q
                                        single[u, t, v, s] += _within(word, inner, data[0], data[1])
                            for whole in range(u + 1, n):
                                if own[whole] % own[u] == 0 and i % own[whole] >= own[u]:
                                    kept[whole, u, t, v, s] += stayed
    return visits, single, kept
