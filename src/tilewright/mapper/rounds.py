"""How much of an operand stays in memories of single MACs while the outermost loop takes a step.

Owns: `Parts`, what is known of how long the parts are into which unrolling splits a dim, and
`stay_share`: the share of an operand's words that such memories can keep.

A memory keeps all that it touches in a round, or nothing: its tile moves through all the rest. The
proof stands in `docs/imperfect.md`, "What passes again".

Non-goals: what it costs to move words again (`mapper/floor.py`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.ir.workload import Operand, Rank, Workload
from tilewright.mapper.copies import Spread
from tilewright.model.limit import rank_words, real_pairs

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_WIDER = (1.25, 2.0)
"""How much longer than it must be a part is taken to be, at most: some cases, and all others."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A case of how the values of dims are split by unrolling, by way to unroll.

    Attributes:
        dim: that has a part longer than it must be; `None` if no dim has.
        rounds: the least of its longest part, so that it takes as many rounds.
        longest: the most of its longest part.
    """

    dim: str | None
    rounds: Integers
    longest: Integers

    @property
    def is_possible(self) -> NDArray[np.bool_]:
        """By way: whether there are such parts."""
        return self.rounds <= self.longest


def list_parts(dim: str, size: int, extents: Integers) -> Iterator[Parts]:
    """The cases in which a dim has a part longer than it must be, every part having a value.

    >>> [(p.rounds.tolist(), p.longest.tolist()) for p in list_parts("K", 8, np.array([2]))]
    [([5], [5]), ([6], [7]), ([8], [7])]
    """
    shortest, most = -(-size // extents), size - extents + 1
    low = shortest
    for wider in (*_WIDER, math.inf):
        high = most if wider == math.inf else np.minimum(most, (wider * shortest).astype(int))
        high = np.maximum(high, low)
        yield Parts(dim, low + 1, np.minimum(high, most))
        low = high


def stay_share(  # noqa: PLR0913, PLR0917
    operand: Operand,
    workload: Workload,
    extents: Integers,
    dims: Sequence[str],
    spread: Spread,
    parts: Parts,
    held: int,
) -> Floats:
    """The share of an operand's words that stay at most, in memories of `held` words."""
    if parts.dim is None:
        return np.where(spread.part > held, 1 - spread.full, 1.0)
    at = {dim: column for column, dim in enumerate(dims)}
    ranks = [[term.dim for term in rank.terms if term.dim in at] for rank in operand.ranks]
    if [parts.dim] not in ranks or sum(parts.dim in rank for rank in ranks) > 1:
        return np.ones(len(extents))
    others = np.ones(len(extents))
    for rank, long in zip(operand.ranks, ranks, strict=True):
        if parts.dim not in long:
            others *= _least_in_part(rank, workload, [extents[:, at[dim]] for dim in long], long)
    own = operand.ranks[ranks.index([parts.dim])]
    words, size = rank_words(own, workload.sizes), workload.sizes[parts.dim]
    fitting, pieces = held // others, extents[:, at[parts.dim]]
    lacking = np.maximum(0, size - pieces * fitting)
    longer = np.ceil(lacking / np.maximum(1, parts.longest - fitting))
    staying = np.maximum(0, pieces - longer) * fitting
    padding = size - real_pairs(own, workload.sizes)
    bound = 1 - np.maximum(0, size - staying - padding) / max(1, words)
    return np.where(parts.longest > fitting, bound, 1.0)


def _least_in_part(
    rank: Rank, workload: Workload, extents: list[Integers], dims: list[str]
) -> Floats | float:
    """The least coordinates of a rank in a part of its dims: all, where a dim is in one part."""
    if not dims:
        return 1.0
    sizes = [workload.sizes[dim] for dim in dims]
    padding = math.prod(sizes) - real_pairs(rank, workload.sizes)
    one_part = [
        np.where(extent == 1, max(1, size - padding), 1)
        for extent, size in zip(extents, sizes, strict=True)
    ]
    whole = np.all([extent == 1 for extent in extents], axis=0)
    every = max(1, rank_words(rank, workload.sizes))
    return np.where(whole, every, np.max(one_part, axis=0)).astype(float)
