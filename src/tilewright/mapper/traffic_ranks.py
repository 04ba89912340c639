"""What the tiles of one rank move: tables over all tile sizes of its two dims.

Owns: the sums over all tiles of a rank that `docs/traffic.md` names: words of all visits, words of
the largest tile, words that slide along one loop, words that a diagonal sweep keeps.

Non-goals: which loops stand where (`mapper/traffic_options.py`). Padding and clipped tiles are
looked at position by position, so the tables are exact.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tilewright.mapper.compiled import compiled

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RankShape:
    """A rank `first·a + second·b` with data in `[low, high)`; a dim of size 1 fills a gap.

    Attributes:
        sizes: of the two dims.
        coefficients: of the two dims.
        low: the first coordinate that is a word.
        high: one after the last coordinate that is a word.
    """

    sizes: tuple[int, int]
    coefficients: tuple[int, int]
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class RankTables:
    """Words by tile sizes `[a, b]`; entries for tile sizes that are not used are 0.

    Attributes:
        tiles: the tile sizes of each dim.
        visits: of all tiles together.
        largest: of the largest tile.
        slid: `[dim][a, b, range]`: words that tiles share with the one before when the innermost
            loop that moves them is over that dim, with `range` indices per round of the loop.
        sweeps: rows (outer dim, a, b, range of a, range of b, words): words kept, beside those that
            slide, because a step of the outer dim undoes all steps of the inner one.
        swept: `[outer dim][a, b]`: such words for all ranges of the inner dim together.
        covering: `[a, b]`: whether padding makes two tiles equal that lie apart.
        covered: words of the whole rank.
    """

    tiles: tuple[tuple[int, ...], tuple[int, ...]]
    visits: Ints
    largest: Ints
    slid: tuple[Ints, Ints]
    sweeps: Ints
    swept: tuple[Ints, Ints]
    covering: NDArray[np.bool_]
    covered: int

    def sweep_rows(self) -> list[tuple[int, int, int, int, int, int]]:
        """The sweeps as tuples."""
        return [(o, a, b, ra, rb, kept) for o, a, b, ra, rb, kept in self.sweeps.tolist()]


def tile_sizes(size: int, imperfect: bool) -> tuple[int, ...]:
    """The tile sizes of a dim: all, or those that divide it.

    >>> tile_sizes(6, False)
    (1, 2, 3, 6)
    """
    return tuple(t for t in range(1, size + 1) if imperfect or size % t == 0)


def ranges(size: int, tile: int, imperfect: bool) -> list[int]:
    """How far loops over tiles of a dim may reach: multiples of the tile, and the whole dim."""
    count = -(-size // tile)
    return [*(k * tile for k in range(1, count) if imperfect or size % (k * tile) == 0), size]


@lru_cache(maxsize=256)
def rank_tables(shape: RankShape, imperfect: bool) -> RankTables:
    """Tabulate a rank for all tile sizes, or for those that divide if not `imperfect`."""
    size_a, size_b = shape.sizes
    tiles = tile_sizes(size_a, imperfect), tile_sizes(size_b, imperfect)
    visits, largest = (np.zeros((size_a + 1, size_b + 1), np.int64) for _ in range(2))
    swept_a, swept_b = (np.zeros((size_a + 1, size_b + 1), np.int64) for _ in range(2))
    covering = np.zeros((size_a + 1, size_b + 1), np.bool_)
    slid_a = np.zeros((size_a + 1, size_b + 1, size_a + 1), np.int64)
    slid_b = np.zeros((size_a + 1, size_b + 1, size_b + 1), np.int64)
    rows: list[tuple[int, ...]] = []
    for tile_a in tiles[0]:
        reach_a = np.array(ranges(size_a, tile_a, imperfect), np.int64)
        for tile_b in tiles[1]:
            reach_b = np.array(ranges(size_b, tile_b, imperfect), np.int64)
            numbers = (*shape.sizes, *shape.coefficients, shape.low, shape.high, tile_a, tile_b)
            tally = _measure(numbers, reach_a, reach_b)
            (visits[tile_a, tile_b], largest[tile_a, tile_b], covers), along_a, along_b, kept = (
                tally
            )
            slid_a[tile_a, tile_b, reach_a] = along_a
            slid_b[tile_a, tile_b, reach_b] = along_b
            covering[tile_a, tile_b] = bool(covers)
            swept_a[tile_a, tile_b] = kept[0, -1].sum()
            swept_b[tile_a, tile_b] = kept[1, :, -1].sum()
            for outer, a, b in zip(*(index.tolist() for index in kept.nonzero()), strict=True):
                spans = int(reach_a[a]), int(reach_b[b])
                rows.append((outer, tile_a, tile_b, *spans, int(kept[outer, a, b])))
    sweeps = np.array(rows, np.int64).reshape(-1, 6)
    covered = int(visits[size_a, size_b])
    slid = slid_a, slid_b
    return RankTables(tiles, visits, largest, slid, sweeps, (swept_a, swept_b), covering, covered)


@dataclass(frozen=True, slots=True)
class Tangle:
    """A bound on what loops over the two dims of a rank save together, for one pair of tiles.

    Attributes:
        near: `[near of a, near of b]`: words saved by loops that reach so far, interleaved in the
            best way; the innermost slides, others sweep.
        kept: by outer dim: `[reach of the outer dim, reach of the other]`, words its steps keep.

    Source: `docs/traffic.md`, Coincidences.
    """

    near: Ints
    kept: tuple[Ints, Ints]

    def savings(self, near: tuple[Ints, Ints], far: tuple[Ints, Ints]) -> Ints:
        """Words saved, if loops further out reach `far`, outside all that reach `near`."""
        saved = self.near[near]
        for outer, kept in enumerate(self.kept):
            for reach in np.flatnonzero(kept.any(axis=0)).tolist():
                more = np.maximum(0, kept[far[outer], reach] - kept[near[outer], reach])
                inside = (near[1 - outer] <= reach) & (reach <= far[1 - outer])
                saved = saved + np.where(inside, more, 0)
        return saved


@lru_cache(maxsize=256)
def tangle(shape: RankShape, imperfect: bool, tiles: tuple[int, int]) -> Tangle:
    """Bound what interleaved loops over tiles of a rank save."""
    tables = rank_tables(shape, imperfect)
    kept = np.zeros((2, *tables.visits.shape), np.int64)
    rows = tables.sweeps[(tables.sweeps[:, 1:3] == tiles).all(axis=1)]
    kept[rows[:, 0], rows[:, 3], rows[:, 4]] = rows[:, 5]
    by_a, by_b = kept[0], np.ascontiguousarray(kept[1].T)
    reach_a, reach_b = (
        np.array(ranges(size, tile, imperfect), np.int64)
        for size, tile in zip(shape.sizes, tiles, strict=True)
    )
    of_a = _interleaved(tables.slid[0][tiles], by_b, by_a, reach_a, reach_b)
    of_b = _interleaved(tables.slid[1][tiles], by_a, by_b, reach_b, reach_a)
    return Tangle(np.maximum(of_a, of_b.T), (by_a, by_b))


@compiled
def _interleaved(slid: Ints, by_d: Ints, by_e: Ints, reach_e: Ints, reach_d: Ints) -> Ints:
    """`[near of e, near of d]`: the most saved with an innermost loop over e.

    `by_d[reach of d, reach of e]` is kept by steps of d, `by_e[reach of e, reach of d]` of e.
    """
    best = np.zeros((reach_e[-1] + 1, reach_d[-1] + 1), np.int64)
    undoing_e = [reach for reach in reach_e if by_d[:, reach].any()]
    undoing_d = [reach for reach in reach_d if by_e[:, reach].any()]
    for near_e in reach_e:
        for near_d in reach_d:
            for inner in reach_e[reach_e <= near_e]:
                for middle in reach_d[reach_d <= near_d]:
                    # e up to `inner`, then d up to `middle`, then what is left of both
                    saved = slid[inner] + by_d[middle, inner]
                    for reach in undoing_e:
                        if inner < reach <= near_e:
                            saved += max(0, by_d[near_d, reach] - by_d[middle, reach])
                    for reach in undoing_d:
                        if middle <= reach <= near_d:
                            saved += max(0, by_e[near_e, reach] - by_e[inner, reach])
                    best[near_e, near_d] = max(best[near_e, near_d], saved)
    return best


Numbers = tuple[int, int, int, int, int, int, int, int]
"""Sizes, coefficients, data range and tiles of a rank."""
Measured = tuple[tuple[int, int, int], Ints, Ints, Ints]


@compiled
def _measure(numbers: Numbers, reach_a: Ints, reach_b: Ints) -> Measured:
    """(words of all tiles, of the largest, whether some cover), slid along a, along b, kept."""
    size_a, size_b, step_a, step_b, _, _, tile_a, tile_b = numbers
    count_a, count_b = -(-size_a // tile_a), -(-size_b // tile_b)
    marks = np.zeros(step_a * (size_a - 1) + step_b * (size_b - 1) + 1, np.int64)
    seen = np.zeros((count_a, count_b, 3), np.int64)  # words, first, last
    shared_a, shared_b = np.zeros(count_a, np.int64), np.zeros(count_b, np.int64)
    for i in range(count_a):
        for j in range(count_b):
            found, first, last, _ = _compare(numbers, i, j, -1, -1, marks)
            seen[i, j, 0], seen[i, j, 1], seen[i, j, 2] = found, first, last
            if i > 0:
                shared_a[i] += _compare(numbers, i, j, i - 1, j, marks)[3]
            if j > 0:
                shared_b[j] += _compare(numbers, i, j, i, j - 1, marks)[3]
    along_a, along_b = _along(shared_a, reach_a, tile_a), _along(shared_b, reach_b, tile_b)
    kept = _undone(numbers, reach_a, reach_b, seen, marks)
    covers = _some_cover(numbers, seen, marks)
    return (seen[:, :, 0].sum(), seen[:, :, 0].max(), covers), along_a, along_b, kept


@compiled
def _compare(  # noqa: PLR0913, PLR0917
    numbers: Numbers, i: int, j: int, k: int, m: int, marks: Ints
) -> tuple[int, int, int, int]:
    """Words of tile (i, j), its first and its last, and words shared with tile (k, m), if any."""
    size_a, size_b, step_a, step_b, low, high, tile_a, tile_b = numbers
    marks[:] = 0
    if k >= 0:
        for a in range(k * tile_a, min(size_a, (k + 1) * tile_a)):
            for b in range(m * tile_b, min(size_b, (m + 1) * tile_b)):
                marks[step_a * a + step_b * b] = 1
    found, shared, first, last = 0, 0, len(marks), -1
    for a in range(i * tile_a, min(size_a, (i + 1) * tile_a)):
        for b in range(j * tile_b, min(size_b, (j + 1) * tile_b)):
            at = step_a * a + step_b * b
            if low <= at < high and marks[at] < 2:
                found, shared = found + 1, shared + marks[at]
                first, last = min(first, at), max(last, at)
                marks[at] = 2
    return found, first, last, shared


@compiled
def _along(shared: Ints, reaches: Ints, tile: int) -> Ints:
    """Words shared with the tile before, for loops that start afresh after every reach."""
    totals = np.zeros(len(reaches), np.int64)
    for r in range(len(reaches)):
        each = -(-reaches[r] // tile)
        for step in range(len(shared)):
            if step % each:
                totals[r] += shared[step]
    return totals


@compiled
def _undone(numbers: Numbers, reach_a: Ints, reach_b: Ints, seen: Ints, marks: Ints) -> Ints:
    """`[outer, reach of a, reach of b]`: words of tiles that a step of the outer dim leaves."""
    count_a, count_b = seen.shape[:2]
    kept = np.zeros((2, len(reach_a), len(reach_b)), np.int64)
    for ra in range(len(reach_a)):
        for rb in range(len(reach_b)):
            each_a, each_b = -(-reach_a[ra] // numbers[6]), -(-reach_b[rb] // numbers[7])
            if each_a < 2 or each_b < 2:
                continue
            for i in range(count_a):
                for j in range(count_b):
                    if i % each_a and j % each_b == 0:
                        end = min(count_b, j + each_b) - 1
                        if _equal(numbers, seen, (i - 1, end), (i, j), marks):
                            kept[0, ra, rb] += seen[i, j, 0]
                    if j % each_b and i % each_a == 0:
                        end = min(count_a, i + each_a) - 1
                        if _equal(numbers, seen, (end, j - 1), (i, j), marks):
                            kept[1, ra, rb] += seen[i, j, 0]
    return kept


@compiled
def _some_cover(numbers: Numbers, seen: Ints, marks: Ints) -> int:
    """Whether two tiles, the later in no dim the earlier, are equal: only padding does that."""
    _, _, step_a, step_b, low, _, tile_a, tile_b = numbers
    count_a, count_b = seen.shape[:2]
    for i in range(count_a):
        for j in range(count_b):
            if step_a * i * tile_a + step_b * j * tile_b >= low:
                break  # its first coordinate is a word, which no later tile has
            for k in range(i, count_a):
                for m in range(j, count_b):
                    if (k, m) != (i, j) and _equal(numbers, seen, (i, j), (k, m), marks):
                        return 1
    return 0


@compiled
def _equal(
    numbers: Numbers, seen: Ints, one: tuple[int, int], other: tuple[int, int], marks: Ints
) -> bool:
    """Whether two tiles are the same words, and not none."""
    (i, j), (k, m) = one, other
    for part in range(3):
        if seen[i, j, part] != seen[k, m, part]:
            return False
    words = seen[i, j, 0]
    return words > 0 and _compare(numbers, i, j, k, m, marks)[3] == words
