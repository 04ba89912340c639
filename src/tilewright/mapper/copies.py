"""How many copies of an operand's words there are where every MAC has a memory of its own.

Owns: `spread_of`: by way to unroll dims, in how many of these memories a word is needed, and how
many of them can be served at once; `tiles_meet`; and the noun `Spread`.

A dim that indexes an operand splits its words, one that does not copies them, and of the two dims
of a rank each copies what the windows of the other have in common. The proof stands in
`docs/imperfect.md`, "What no mapping undercuts".

Non-goals: ways to unroll dims (`mapper/sharing.py`), what words cost (`mapper/floor.py`).
"""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
        part: words at least that a memory touches in which the parts of all dims are as long as
            they must be, if no dim takes more rounds than it must.
        full: the share of the words that such memories touch, at least.
    """

    least: Floats
    most: Floats
    together: Floats
    distinct: Floats
    part: Floats
    full: Floats


def spread_of(
    operand: Operand,
    workload: Workload,
    extents: Integers,
    dims: Sequence[str],
    runs: frozenset[str] = frozenset(),
) -> Spread:
    """What ways to unroll dims make of an operand's words.

    Args:
        operand: of the workload.
        workload: the layer.
        extents: by way and dim, over how many places the values of the dim are split: not fewer
            than one, nor more than the dim is long.
        dims: those longer than 1, in the order of the columns.
        runs: dims whose values are dealt in runs, all of a length but the last.

    >>> from tilewright.ir.workload import conv2d
    >>> layer = conv2d("c", K=4, C=1, P=6, Q=1, R=3, S=1)
    >>> ways = np.array([[2, 1, 1], [1, 3, 1], [1, 1, 3], [1, 6, 3]])
    >>> found = spread_of(layer.operand("I"), layer, ways, ["K", "P", "R"])
    >>> found.least.tolist(), found.together.tolist()
    ([2.0, 1.5, 2.25, 2.25], [2.0, 1.0, 1.0, 3.0])
    """
    at = {dim: column for column, dim in enumerate(dims)}
    copied, distinct, least, together, part, full = (np.ones(len(extents)) for _ in range(6))
    for dim, column in at.items():
        if dim in operand.dims:
            distinct *= extents[:, column]
        else:
            copied *= extents[:, column]
    for rank in operand.ranks:
        long = [(workload.sizes[dim], extents[:, at[dim]]) for dim in _long(rank, at)]
        padding = math.prod(size for size, _ in long) - real_pairs(rank, workload.sizes)
        words = max(1, rank_words(rank, workload.sizes))
        if len(long) == 2:
            (_, a), (_, b) = long
            least = least * np.maximum(_windows(workload, rank, a, b, runs) / words, 1.0)
            together = together * (a * b if tiles_meet(rank, workload) else np.minimum(a, b))
        if long:
            longest = [-(-size // extent) for size, extent in long]
            in_full = [
                (size - extent * (length - 1)) * length
                for (size, extent), length in zip(long, longest, strict=True)
            ]
            part = part * np.maximum(sum(longest) - len(long) + 1 - padding, 0)
            share = np.maximum(np.max(in_full, axis=0) - padding, 0) / words
            evenly = math.prod(in_full) == math.prod(size for size, _ in long)
            full = full * np.where(evenly, 1.0, share)
    terms = [term.dim for rank in operand.ranks for term in rank.terms]
    if len(terms) > len(set(terms)):  # ranks that move together: words are no product
        none = np.zeros(len(extents))
        return Spread(none + 1, copied * distinct, copied * distinct, distinct, none, none)
    most = copied * np.prod([_pairs(rank, at, extents) for rank in operand.ranks], axis=0)
    return Spread(least * copied, most, together * copied, distinct, part, full)


def _long(rank: Rank, at: dict[str, int]) -> list[str]:
    """The dims of a rank that have a column."""
    return [term.dim for term in rank.terms if term.dim in at]


def _pairs(rank: Rank, at: dict[str, int], extents: Integers) -> Integers:
    """The pairs of parts of a rank's two dims, 1 for a rank of one."""
    columns = [at[dim] for dim in _long(rank, at)]
    return extents[:, columns].prod(axis=1) if len(columns) > 1 else np.ones_like(extents[:, 0])


def _windows(
    workload: Workload, rank: Rank, first: Integers, second: Integers, runs: frozenset[str]
) -> Floats:
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
    if b.dim in runs:
        by_second = np.maximum(
            by_second, _classes_of_runs(sizes[1], second, a.coefficient // common)
        )
    if a.dim in runs:
        by_first = np.maximum(by_first, _classes_of_runs(sizes[0], first, b.coefficient // common))
    one = (sizes[0] - first) * by_second + sizes[1] * first
    other = (sizes[1] - second) * by_first + sizes[0] * second
    return np.maximum(one, other).astype(float) - padding


def copies_beside_words(
    rank: Rank, workload: Workload, places: Mapping[str, int], runs: frozenset[str]
) -> int:
    """Coordinates that memories of single MACs hold beside one copy of each, as `spread_of` counts.

    Args:
        rank: of an operand.
        workload: the layer.
        places: by dim longer than 1, over how many places its values are split.
        runs: dims whose values are dealt in runs.
    """
    long = [term.dim for term in rank.terms if term.dim in places]
    if len(long) != 2:
        return 0
    a, b = (np.array([places[dim]]) for dim in long)
    copies = float(_windows(workload, rank, a, b, runs)[0])
    return max(0, math.ceil(copies) - rank_words(rank, workload.sizes))


def _classes_of_runs(size: int, parts: Integers, modulus: int) -> Integers:
    """Classes modulo a number that values of a dim meet in runs, summed over all runs."""
    longest = -(-size // parts)
    return (parts - 1) * np.minimum(longest, modulus) + 1


def tiles_meet(rank: Rank, workload: Workload) -> bool:
    """Whether padding may make tiles of a size at two places equal.

    >>> from tilewright.ir.workload import conv2d
    >>> wide, usual = (conv2d("c", K=1, C=1, P=6, Q=1, R=3, S=1, padding=(p, 0)) for p in (2, 1))
    >>> [tiles_meet(layer.operand("I").ranks[2], layer) for layer in (wide, usual)]
    [True, False]
    """
    if rank.data is None or len(rank.terms) == 1:
        return False
    return _tiles_meet(rank, tuple(workload.sizes[term.dim] for term in rank.terms))


@lru_cache(maxsize=256)
def _tiles_meet(rank: Rank, lengths: tuple[int, ...]) -> bool:
    steps, real = tuple(term.coefficient for term in rank.terms), data_bits(rank)
    if math.prod(sum(math.ceil(n / t) for t in range(1, n + 1)) for n in lengths) > _MOST_TILES:
        return True
    for tile in product(*(range(1, length + 1) for length in lengths)):
        seen: dict[int, int] = {}
        for base in product(*map(range, [0] * len(tile), lengths, tile)):
            sides = map(min, tile, map(operator.sub, lengths, base))
            place = sum(map(operator.mul, steps, base))
            words = touched(steps, tuple(sides), False) << place & real
            if words and seen.setdefault(words, place) != place:
                return True
    return False
