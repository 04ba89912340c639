"""How many MACs one word can serve at once, for all operands together: a bound of energy.

Owns: `list_unrollings`, every way to unroll dims over a small array; `least_joint_pj`, a bound for
arrays too large for that; and the nouns `Demand`, `Unrollings` and `Shape`.

Unrolling dims over `copies` MACs lets a word serve as many of them as the extents of the dims that
do not index its operand allow; the copies are there only once, so operands compete for them.
The proof stands in `docs/imperfect.md`, "What no mapping undercuts".

Non-goals: words that must move whatever is unrolled (`mapper/floor.py`).
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.ir.hardware import Hardware
from tilewright.ir.workload import Rank, Workload
from tilewright.model.limit import real_pairs

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_PRICES, _AROUND = 25, 17
"""Prices of a copy that are tried, and again around the best: each gives a bound."""
_LEAST, _MOST = -5.0, 0.5
"""The least and the most of these prices, as powers of ten of the dearest demand."""
_MOST_ON_AXIS, _MOST_WAYS = 8_000, 200_000
"""Ways to unroll dims on one axis, and on all, that are listed."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What an operand's innermost memory moves for MACs: a sum of parts, each shared by many.

    A part of `(pj, most, free)` costs `max(0, pj / min(share, most) - free)` in pJ: `pj` if every
    MAC is served alone, at most `most` of them together.
    """

    parts: tuple[tuple[float, float, float], ...]

    def pj(self, share: Floats) -> Floats:
        """The energy if so many MACs share a word, in pJ."""
        total = np.zeros(np.shape(share))
        for pj, most, free in self.parts:
            total += np.maximum(0.0, pj / np.minimum(share, most) - free)
        return total

    def least_pj(self) -> float:
        """The energy if as many share a word as the networks reach, in pJ."""
        return sum(max(0.0, pj / most - free) for pj, most, free in self.parts)

    def turns(self, price: Floats) -> Iterator[Floats]:
        """Shares where energy plus the price of their logarithm may be least, ends left out."""
        for count in range(1, len(self.parts) + 1):
            for chosen in itertools.combinations(self.parts, count):
                yield sum(pj for pj, _, _ in chosen) / price
        for pj, most, free in self.parts:
            yield np.full(np.shape(price), most)
            if free > 0:
                yield np.full(np.shape(price), pj / free)


@dataclass(frozen=True, slots=True)
class Unrollings:
    """Ways to unroll dims.

    Attributes:
        dims: those longer than 1.
        extents: by way and dim, the places over which the values of the dim are split.
        shares: by way and operand, how many MACs share a word at most, on average.
        steps: by way, the steps that the nest takes at least.
    """

    dims: tuple[str, ...]
    extents: Integers
    shares: Floats
    steps: Floats


def list_unrollings(workload: Workload, hardware: Hardware) -> Unrollings | None:
    """Every way to unroll dims over the MACs; `None` if there are too many, or a rank has 3 dims.

    >>> from tilewright.ir.hardware import Fanout, Level
    >>> from tilewright.ir.workload import einsum
    >>> layer = einsum("mm", "Z[M,N] += A[M,K] * B[K,N]", {"M": 4, "N": 3, "K": 5})
    >>> found = list_unrollings(layer, Hardware("chip", (Level("DRAM", fanout=Fanout(4)),)))
    >>> sorted(zip(found.steps.tolist(), found.shares.round(2).tolist()))[:2]
    [(15.0, [1.0, 4.0, 1.0]), (18.0, [1.0, 2.0, 1.67])]

    Operands stand in the order of the workload.
    """
    sizes = {dim: size for dim, size in workload.sizes.items() if size > 1}
    ranks = [(place, r) for place, o in enumerate(workload.operands) for r in o.ranks]
    paired = [(place, rank) for place, rank in ranks if len(_long(rank, sizes)) > 1]
    if any(len(_long(rank, sizes)) > 2 for _, rank in paired):
        return None
    extents = _list_extents(sizes, list(_axes(hardware)))
    if extents is None:
        return None
    extents = _with_shorter(extents, sizes)
    whole = np.array(list(sizes.values()), dtype=float)
    rounds = np.ceil(whole / extents)
    at = {dim: column for column, dim in enumerate(sizes)}
    shares = np.ones((len(extents), len(workload.operands)))
    for place, operand in enumerate(workload.operands):
        for dim, column in at.items():
            if dim not in operand.dims:
                shares[:, place] *= whole[column] / rounds[:, column]
    for place, rank in paired:
        a, b = (at[dim] for dim in _long(rank, sizes))
        table = _rank_shares(workload, rank, (int(extents[:, a].max()), int(extents[:, b].max())))
        shares[:, place] *= table[extents[:, a] - 1, extents[:, b] - 1]
    return Unrollings(tuple(sizes), extents, shares, rounds.prod(axis=1))


def _with_shorter(extents: Integers, sizes: dict[str, int]) -> Integers:
    """All extents up to those given."""
    for column in range(len(sizes)):
        times = extents[:, column]
        starts = np.repeat(np.cumsum(times) - times, times)
        extents = extents[np.repeat(np.arange(len(extents)), times)]
        extents[:, column] = np.arange(len(extents)) - starts + 1
        extents = _without_twins(extents, sizes)
    return extents


def _without_twins(extents: Integers, sizes: dict[str, int]) -> Integers:
    """The rows, each once."""
    code = np.zeros(len(extents), dtype=np.int64)
    for column, size in enumerate(sizes.values()):
        code = code * (size + 1) + extents[:, column]
    return extents[np.unique(code, return_index=True)[1]]


def _list_extents(
    sizes: dict[str, int], axes: Sequence[tuple[int, tuple[str, ...] | None]]
) -> NDArray[np.int64] | None:
    """By way: the extents of the dims; `None` if there are too many."""
    found = np.ones((1, len(sizes)), dtype=np.int64)
    most = np.array(list(sizes.values()), dtype=np.int64)
    for copies, allowed in axes:
        limits = [n if allowed is None or dim in allowed else 1 for dim, n in sizes.items()]
        ways = list(itertools.islice(_fill(limits, copies), _MOST_ON_AXIS + 1))
        full = [way for way in ways if _is_full(way, limits, copies)]
        if len(ways) > _MOST_ON_AXIS or len(found) * len(full) > _MOST_WAYS:
            return None
        found = (found[:, None, :] * np.array(full, dtype=np.int64)[None, :, :]).reshape(
            -1, len(sizes)
        )
        found = np.unique(np.minimum(found, most), axis=0)
    return found


def _fill(limits: Sequence[int], copies: int) -> Iterator[tuple[int, ...]]:
    """Extents up to the limits whose product is at most so many copies."""
    if not limits:
        yield ()
        return
    for extent in range(1, min(limits[0], copies) + 1):
        for others in _fill(limits[1:], copies // extent):
            yield (extent, *others)


def _is_full(way: Sequence[int], limits: Sequence[int], copies: int) -> bool:
    """Whether no extent can be longer by one."""
    taken = math.prod(way)
    return all(
        extent == limit or taken // extent * (extent + 1) > copies
        for extent, limit in zip(way, limits, strict=True)
    )


def _rank_shares(workload: Workload, rank: Rank, most: tuple[int, int]) -> Floats:
    """By extents of a rank's two dims: how many MACs share a word at most, on average."""
    first, second = (term for term in rank.terms if workload.sizes[term.dim] > 1)
    sizes = workload.sizes[first.dim], workload.sizes[second.dim]
    real, whole = real_pairs(rank, workload.sizes), sizes[0] * sizes[1]
    fibers = _fibers(sizes, most, (first.coefficient, second.coefficient))
    p = np.arange(1, most[0] + 1, dtype=float)[:, None]
    r = np.arange(1, most[1] + 1, dtype=float)[None, :]
    return real / np.maximum(whole / fibers - (whole - real), real / np.minimum(p, r))


@dataclass(frozen=True, slots=True)
class Window:
    """Ways to unroll the two dims of a rank: in each the extents lie between two corners.

    Attributes:
        copies: by way, the MACs taken at least.
        shares: by way and operand, how many MACs share a word at most for these two dims.
    """

    copies: Floats
    shares: Floats


@dataclass(frozen=True, slots=True)
class Shape:
    """What the dims of a workload let operands share, operands in the order of the workload.

    Attributes:
        spare: by operand, over how many MACs the dims that do not index it and that stand in no
            window can be unrolled, on average.
        windows: the ranks of two dims.
    """

    spare: tuple[float, ...]
    windows: tuple[Window, ...]


def shape_of(workload: Workload, hardware: Hardware) -> Shape | None:
    """The shape of a workload on a chip; `None` where operands share in ways not covered.

    Covered are dims that at most one operand is not indexed by, and ranks of one or two dims.

    >>> from tilewright.ir.workload import conv2d
    >>> from tilewright.zoo import load_hardware
    >>> shape = shape_of(conv2d("c", K=8, C=4, P=6, Q=6, R=3, S=3), load_hardware("eyeriss"))
    >>> shape.spare, len(shape.windows), shape.windows[0].shares.max(axis=0).tolist()
    ((1.0, 8.0, 4.0), 2, [6.0, 2.25, 3.0])
    """
    operands, axes = workload.operands, list(_axes(hardware))
    sizes = {d: min(n, _reach(axes, [d])) for d, n in workload.sizes.items()}
    away = {dim: [i for i, o in enumerate(operands) if dim not in o.dims] for dim in sizes}
    if any(len(places) > 1 and sizes[dim] > 1 for dim, places in away.items()):
        return None
    ranks = [
        (place, rank)
        for place, operand in enumerate(operands)
        for rank in operand.ranks
        if len(_long(rank, workload.sizes)) > 1
    ]
    paired = [dim for _, rank in ranks for dim in _long(rank, workload.sizes)]
    if len(set(paired)) < len(paired) or len(paired) > 2 * len(ranks):
        return None
    spare: list[float] = []
    for place in range(len(operands)):
        dims = [d for d, places in away.items() if place in places and d not in paired]
        spare.append(_rounds(math.prod(workload.sizes[d] for d in dims), _reach(axes, dims)))
    copies = hardware.mac_units
    windows = [_window(workload, rank, o, away, sizes, copies) for o, rank in ranks]
    return Shape(tuple(spare), tuple(windows))


def _axes(hardware: Hardware) -> Iterator[tuple[int, tuple[str, ...] | None]]:
    """The axes of all fan-outs: copies, and the dims that may be unrolled there."""
    for level in hardware.levels:
        for axis in "xy":
            yield level.fanout.extent(axis), level.fanout.allowed_dims(axis)


def _reach(axes: Sequence[tuple[int, tuple[str, ...] | None]], dims: Sequence[str]) -> int:
    """Over how many MACs some dims can be unrolled together."""
    return math.prod(
        copies for copies, allowed in axes if allowed is None or not set(allowed).isdisjoint(dims)
    )


def _long(rank: Rank, sizes: dict[str, int]) -> list[str]:
    """The dims of a rank that are longer than 1."""
    return [term.dim for term in rank.terms if sizes.get(term.dim, 1) > 1]


def _window(  # noqa: PLR0913, PLR0917
    workload: Workload,
    rank: Rank,
    owner: int,
    away: dict[str, list[int]],
    sizes: dict[str, int],
    copies: int,
) -> Window:
    """The ways to unroll a rank's two dims, whose extents are at most `sizes`."""
    first, second = _long(rank, workload.sizes)
    table = _rank_shares(workload, rank, (sizes[first], sizes[second]))
    used: list[float] = []
    shares: list[list[float]] = []
    for (low_a, high_a), (low_b, high_b) in itertools.product(
        _cells(sizes[first]), _cells(sizes[second])
    ):
        if low_a * low_b > copies:
            continue
        served_a = _rounds(workload.sizes[first], high_a)
        served_b = _rounds(workload.sizes[second], high_b)
        row = [
            served_a ** (place in away[first]) * served_b ** (place in away[second])
            for place in range(len(workload.operands))
        ]
        row[owner] *= table[high_a - 1, high_b - 1]
        used.append(float(low_a * low_b))
        shares.append(row)
    return Window(np.array(used), np.array(shares))


def _rounds(size: int, most: int) -> float:
    """Of so many iterations, at most so many at once: how many at once on average, at most."""
    return size / math.ceil(size / most)


def _cells(most: int) -> Iterator[tuple[int, int]]:
    """Ranges of extents, from one by one to a quarter wide."""
    low = 1
    while low <= most:
        high = min(most, max(low, low * 5 // 4 - 1))
        yield low, high
        low = high + 1


def _fibers(whole: tuple[int, int], most: tuple[int, int], steps: tuple[int, int]) -> Floats:
    """By extents of two dims of a rank: how many pairs share a coordinate at most, on average.

    `p` values of one dim and `r` of the other give at least `p + r - 1` coordinates; those of the
    second fall into classes that share none, of so many values each at most, and so do the first.
    """
    common = math.gcd(*steps)
    p = np.arange(1, most[0] + 1, dtype=float)[:, None]
    r = np.arange(1, most[1] + 1, dtype=float)[None, :]
    classes_r = np.ceil(r / math.ceil(whole[1] / (steps[0] // common)))
    classes_p = np.ceil(p / math.ceil(whole[0] / (steps[1] // common)))
    distinct = np.maximum(classes_r * (p - 1) + r, classes_p * (r - 1) + p)
    # Clipped tiles are smaller, and may share more.
    return np.maximum.accumulate(np.maximum.accumulate(p * r / distinct, axis=0), axis=1)


def least_joint_pj(shape: Shape, demands: Sequence[Demand], copies: int) -> float:
    """The least of the demands' sum over all ways to unroll dims over so many MACs, in pJ.

    Args:
        shape: of the workload, on as many MACs.
        demands: by operand.
        copies: MAC units of the chip.

    Returns: a bound from below, by Lagrange: any price of a copy gives one.

    >>> one = Demand(((100.0, 16.0, 0.0),))
    >>> shape = Shape((64.0, 64.0, 64.0), ())
    >>> round(least_joint_pj(shape, [one, Demand(()), Demand(())], 16), 3)
    6.25
    >>> round(least_joint_pj(shape, [one, one, Demand(())], 16), 1)
    50.0
    """
    dearest = max((pj for demand in demands for pj, _, _ in demand.parts), default=0.0)
    if dearest <= 0:
        return 0.0
    used, least = _ways(shape, len(demands), copies)
    rest = np.log(np.maximum(1.0, copies / used))[:, None]
    ranges = [
        (least[:, place][:, None], least[:, place][:, None] * spare)
        for place, spare in enumerate(shape.spare)
    ]
    prices = dearest * np.logspace(_LEAST, _MOST, _PRICES)[None, :]
    first = _bounds(demands, ranges, rest, prices)
    step = 10 ** ((_MOST - _LEAST) / (_PRICES - 1))
    around = prices[0, first.argmax(axis=1)][:, None] * step ** np.linspace(-1, 1, _AROUND)
    second = _bounds(demands, ranges, rest, around)
    return float(np.maximum(first.max(axis=1), second.max(axis=1)).min())


def _ways(shape: Shape, operands: int, copies: int) -> tuple[Floats, Floats]:
    """All ways to unroll the dims of windows: the copies taken, and the shares by operand."""
    used, shares = np.ones(1), np.ones((1, operands))
    for window in shape.windows:
        used = (used[:, None] * window.copies).ravel()
        shares = (shares[:, None] * window.shares).reshape(-1, operands)
        fits = used <= copies
        used, shares = used[fits], shares[fits]
    return used, shares


def _bounds(
    demands: Sequence[Demand], ranges: list[tuple[Floats, Floats]], rest: Floats, prices: Floats
) -> Floats:
    """By row of windows and by price: what no unrolling undercuts."""
    total = -prices * rest
    for demand, (least, most) in zip(demands, ranges, strict=True):
        found = np.full(np.broadcast_shapes(least.shape, prices.shape), np.inf)
        for turn in (least, most, *demand.turns(prices)):
            share = np.clip(turn, least, most)
            found = np.minimum(found, demand.pj(share) + prices * np.log(share / least))
        total = total + found
    return total
