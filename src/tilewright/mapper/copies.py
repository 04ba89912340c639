"""How many copies of an operand's words there are where every MAC has a memory of its own.

Owns: `spread_of`: by way to unroll dims, in how many of these memories a word is needed, and how
many of them can be served at once; `ends_meet`; and the noun `Spread`.

A dim that indexes an operand splits its words, one that does not copies them, and of the two dims
of a rank each copies what the windows of the other have in common. The proof stands in
`docs/imperfect.md`, "What no mapping undercuts".

Non-goals: ways to unroll dims (`mapper/sharing.py`), what words cost (`mapper/floor.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from tilewright.ir.workload import Operand, Rank, Workload
from tilewright.model.limit import data_bits, rank_words, real_pairs
from tilewright.model.tiles import touched

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_MOST_TILES = 20_000
"""Tiles of a padded rank that are compared one by one."""


@dataclass(frozen=True, slots=True)
class Spread:
    """An operand's words in memories that serve one MAC each, by way to unroll dims.

    Attributes:
        least: memories in which a word is touched ever, at least, on average.
        most: the same, at most.
        together: memories at most that hold the same tile in a step, if it holds any word.
        distinct: memories at most that touch other words than each other.
    """

    least: Floats
    most: Floats
    together: Floats
    distinct: Floats


def spread_of(
    operand: Operand, workload: Workload, extents: Integers, dims: Sequence[str]
) -> Spread:
    """What ways to unroll dims make of an operand's words.

    Args:
        operand: of the workload.
        workload: the layer.
        extents: by way and dim, over how many places the values of the dim are split: not fewer
            than one, nor more than the dim is long.
        dims: those longer than 1, in the order of the columns.

    >>> from tilewright.ir.workload import conv2d
    >>> layer = conv2d("c", K=4, C=1, P=6, Q=1, R=3, S=1)
    >>> ways = np.array([[2, 1, 1], [1, 3, 1], [1, 1, 3], [1, 6, 3]])
    >>> found = spread_of(layer.operand("I"), layer, ways, ["K", "P", "R"])
    >>> found.least.tolist(), found.together.tolist()
    ([2.0, 1.5, 2.25, 2.25], [2.0, 1.0, 1.0, 3.0])
    """
    at = {dim: column for column, dim in enumerate(dims)}
    sliding = {term.dim for rank in operand.ranks for term in rank.terms if len(rank.terms) > 1}
    copied, most, distinct = (np.ones(len(extents)) for _ in range(3))
    for dim, column in at.items():
        extent = extents[:, column]
        longest = extent if dim in sliding else _longest(workload.sizes[dim], extent)
        if dim in operand.dims:
            distinct *= longest
        else:
            copied *= extent
            most *= longest
    terms = [term.dim for rank in operand.ranks for term in rank.terms]
    least = together = np.ones(len(extents))
    if len(terms) > len(set(terms)):  # ranks that move together: words are no product
        every = most * distinct
        return Spread(least, every, every, distinct)
    for rank in operand.ranks:
        long = [at[term.dim] for term in rank.terms if term.dim in at]
        if len(long) < 2:
            continue
        a, b = extents[:, long[0]], extents[:, long[1]]
        of_rank = rank_words(rank, workload.sizes)
        if of_rank:
            least = least * np.maximum(_windows(workload, rank, a, b) / of_rank, 1.0)
        most = most * (a * b)
        together = together * (a * b if _may_coincide(workload, rank) else np.minimum(a, b))
    return Spread(least * copied, most, together * copied, distinct)


def _longest(size: int, extents: Integers) -> Integers:
    """The longest extents that leave a dim as many rounds as these."""
    rounds = -(-size // extents)
    return np.where(rounds > 1, (size - 1) // np.maximum(rounds - 1, 1), size)


def _windows(workload: Workload, rank: Rank, first: Integers, second: Integers) -> Floats:
    """The words of a rank's windows, if its two dims are split into so many parts, at least."""
    a, b = (term for term in rank.terms if workload.sizes[term.dim] > 1)
    sizes = workload.sizes[a.dim], workload.sizes[b.dim]
    common = math.gcd(a.coefficient, b.coefficient)
    in_class = (
        math.ceil(sizes[0] / (b.coefficient // common)),
        math.ceil(sizes[1] / (a.coefficient // common)),
    )
    padding = math.prod(sizes) - real_pairs(rank, workload.sizes)
    by_second = np.maximum(second, math.ceil(sizes[1] / in_class[1]))
    by_first = np.maximum(first, math.ceil(sizes[0] / in_class[0]))
    one = (sizes[0] - first) * by_second + sizes[1] * first
    other = (sizes[1] - second) * by_first + sizes[0] * second
    return np.maximum(one, other).astype(float) - padding


def _may_coincide(workload: Workload, rank: Rank) -> bool:
    """Whether padding may make tiles at two places equal, one dim being at the same."""
    if rank.data is None:
        return False
    a, b = (term for term in rank.terms if workload.sizes[term.dim] > 1)
    sizes = workload.sizes[a.dim], workload.sizes[b.dim]
    steps, real = (a.coefficient, b.coefficient), data_bits(rank)
    if math.prod(sum(math.ceil(n / t) for t in range(1, n + 1)) for n in sizes) > _MOST_TILES:
        return True
    return any(
        _coincide(sizes, steps, (tile_a, tile_b), real)
        for tile_a in range(1, sizes[0] + 1)
        for tile_b in range(1, sizes[1] + 1)
    )


def ends_meet(operand: Operand, workload: Workload) -> bool:
    """Whether padding may make the first of some tiles and the last, at another place, equal.

    >>> from tilewright.ir.workload import conv2d
    >>> layer = conv2d("c", K=4, C=1, P=6, Q=1, R=3, S=1, padding=(1, 0))
    >>> ends_meet(layer.operand("I"), layer)
    False
    """
    return any(
        _ends_meet(rank, workload.sizes)
        for rank in operand.ranks
        if rank.data is not None and len(rank.terms) > 1
    )


def _ends_meet(rank: Rank, sizes: dict[str, int]) -> bool:
    steps, real = tuple(term.coefficient for term in rank.terms), data_bits(rank)
    lengths = [sizes[term.dim] for term in rank.terms]
    if math.prod(lengths) > _MOST_TILES:
        return True
    for tile in product(*(range(1, length + 1) for length in lengths)):
        bases = [(length - 1) // side * side for length, side in zip(lengths, tile, strict=True)]
        rest = tuple(length - base for length, base in zip(lengths, bases, strict=True))
        shift = sum(step * base for step, base in zip(steps, bases, strict=True))
        first = touched(steps, tile, False) & real
        if shift and first and first == touched(steps, rest, False) << shift & real:
            return True
    return False


def _coincide(
    sizes: tuple[int, int], steps: tuple[int, int], tile: tuple[int, int], real: int
) -> bool:
    """Whether two tiles of a size, one dim being at the same place, have the same words."""
    seen: set[tuple[int, int, int]] = set()
    for i in range(0, sizes[0], tile[0]):
        for j in range(0, sizes[1], tile[1]):
            lengths = min(tile[0], sizes[0] - i), min(tile[1], sizes[1] - j)
            words = touched(steps, lengths, False) << (i * steps[0] + j * steps[1]) & real
            places = (0, i, words), (1, j, words)
            if words and not seen.isdisjoint(places):
                return True
            seen.update(places)
    return False
