"""The least words that a number of multiply-accumulates touches.

Owns: the formulas (3) to (11) of `docs/small-dims-limit.md`, from below and for many numbers at
once.

Non-goals: what follows for schedules (`model/small_dims.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tilewright.model.small_dims import Shape

Floats = NDArray[np.float64]

_SHARES = np.array([0.25, 0.36, 0.42, 0.45, 0.48, 0.5, 0.56, 0.7, 1.0])
"""θ·|W| over the MACs, of the planes (9) that are tried."""

_NEAR = np.exp(np.linspace(math.log(1 / 6), math.log(6), 35))
_FAR = np.exp(np.linspace(math.log(6), math.log(1e6), 13))
_STEPS = np.concatenate((1 / _FAR[:0:-1], _NEAR, _FAR[1:]))
"""The |W| that are tried, over what would be best with all dims large."""

_FINE = 1.02
_FINEST, _COARSEST = 150, 2000
"""θ is tried at the powers of `_FINE` from −`_FINEST` up to `_COARSEST`."""

_LEAST_PRICE = 1e-30
"""A ψ that stands for 0: a greater one is only weaker."""


@dataclass(frozen=True, slots=True)
class _Loss:
    """What sets of `taps` taps fall short of taps·g pairs (7): by `edge`·sqrt(g), or a factor."""

    taps: int
    edge: float
    thin: float


def least_touched(shape: Shape, macs: Sequence[int]) -> Floats:
    """A bound from below on the distinct words that so many MACs touch, whichever they are (11).

    >>> product = Shape((), (4096,) * 3, (4096,) * 3, (64,) * 3, (64, 64))
    >>> least_touched(product, [1, 4096, 64**3]).round().tolist()
    [3.0, 767.0, 12288.0]
    """
    wanted = np.array(macs, np.float64)
    cells = _make_cells(shape, wanted)
    theta, psi = _planes(shape, wanted[:, None] / np.sqrt(cells.low * cells.high))
    ends = [_three_words(shape, cells, theta, psi, words) for words in (cells.low, cells.high)]
    below = cells.macs - theta * cells.high[:, :, None] >= 0
    curved = np.where(
        below, np.maximum(*(np.minimum(*pair) for pair in zip(*ends, strict=True))), 0
    )
    flat = cells.low + (cells.x_least + cells.y_least)
    return np.maximum(flat, curved.max(axis=2)).min(axis=1)


@dataclass(frozen=True, slots=True)
class _Cells:
    """Ranges of |W| that together hold all that so many MACs may touch; axes: macs, cell."""

    macs: Floats
    low: Floats
    high: Floats
    x_least: Floats
    y_least: Floats


def _make_cells(shape: Shape, macs: Floats) -> _Cells:
    x_least, w_least, y_least = (
        np.maximum(1.0, macs / each)[:, None] for each in shape.macs_per_word
    )
    usual = (macs * macs / math.prod(shape.taps)) ** (1 / 3)
    w_most = np.maximum(w_least, shape.compulsory[1])
    inner = np.clip(usual[:, None] * _STEPS, w_least, w_most)
    edges = np.concatenate((w_least, inner, w_most), axis=1)
    return _Cells(macs[:, None, None], edges[:, :-1], edges[:, 1:], x_least, y_least)


def _planes(shape: Shape, macs_per_weight: Floats) -> tuple[Floats, Floats]:
    """θ and ψ(θ) of the planes to try for each cell; one more axis."""
    table = _price_table(shape)
    places = np.log(macs_per_weight[:, :, None] * _SHARES) / math.log(_FINE)
    rows = np.clip(np.rint(places).astype(np.int64) + _FINEST, 0, len(table.theta) - 1)
    return table.theta[rows], table.psi[rows]


def _three_words(
    shape: Shape, cells: _Cells, theta: Floats, psi: Floats, words: Floats
) -> tuple[Floats, Floats]:
    """|W| + |X| + |Y| at one end of every cell, by what X and by what Y must be at least (10)."""
    w = words[:, :, None]
    pairs = (cells.macs - theta * w) / psi
    x_most, _, y_most = shape.group_words
    by_x = w + _sum_for(pairs, cells.x_least[:, :, None], x_most)
    return by_x, w + _sum_for(pairs, cells.y_least[:, :, None], y_most)


def _sum_for(pairs: Floats, least: Floats, most: float) -> Floats:
    """The least a + pairs/a, with the a at most `most` and the first summand at least `least`."""
    a = np.clip(np.sqrt(np.maximum(pairs, 0.0)), np.minimum(least, most), most)
    return np.maximum(a, least) + pairs / a


@dataclass(frozen=True, slots=True)
class _PriceTable:
    """ψ for a range of θ."""

    theta: Floats
    psi: Floats


@lru_cache(maxsize=512)
def _price_table(shape: Shape) -> _PriceTable:
    theta = _FINE ** np.arange(-_FINEST, _COARSEST, dtype=np.float64)
    return _PriceTable(theta, pair_price(shape, theta))


def pair_price(shape: Shape, theta: Floats) -> Floats:
    """ψ(θ): with it no set of MACs is larger than θ·|W| + ψ·Σ|X_g|·|Y_g| (9)."""
    largest = math.sqrt(shape.pixels[0] * shape.pixels[1])
    psi = np.full_like(theta, _LEAST_PRICE)
    for loss in _losses(shape.taps):
        psi = np.maximum(psi, _price_of(loss, theta, largest))
    return psi


def _price_of(loss: _Loss, theta: Floats, largest: float) -> Floats:
    """The greatest (N(g) − taps·θ)/g² for g up to `largest`, N as in (7)."""
    taps, edge = loss.taps, loss.edge
    share = 1 / math.sqrt(1 + 2 * loss.thin / taps)
    g = np.minimum(2 * theta / share, largest)
    thin = taps * (share * g - theta) / g**2
    if not edge:
        return thin
    g = np.minimum(2 * theta, largest)
    plain = taps * (g - theta) / g**2
    inside = np.maximum(0.0, 2 * taps**2 * theta - 7 / 16 * edge**2)
    g = np.minimum(((0.75 * edge + np.sqrt(inside)) / taps) ** 2, largest)
    fat = (taps * (g - theta) - edge * np.sqrt(g) + edge**2 / (2 * taps)) / g**2
    fat = np.where(theta > edge**2 / (2 * taps**2), np.minimum(fat, plain), plain)
    return np.maximum(thin, fat)


@lru_cache(maxsize=64)
def _losses(taps: tuple[int, ...]) -> tuple[_Loss, ...]:
    """For every number of taps what its sets lose at their edges; none but in two axes (6)."""
    sliding = [each for each in taps if each > 1]
    total = math.prod(taps)
    if len(sliding) != 2:
        return (_Loss(total, 0.0, 0.0),)
    first, second = sliding
    found = [_partial_loss(first, second, count) for count in range(1, total)]
    last = _partial_loss(first, second, total)
    return (*found, _Loss(total, _box_edge(first, second), last.thin))


def _partial_loss(first: int, second: int, count: int) -> _Loss:
    along, across = _least_squares(count, second), _least_squares(count, first)
    thin = min(along, across) / (2 * max(first - 1, second - 1))
    return _Loss(count, math.sqrt(along * across), thin)


def _least_squares(count: int, lines: int) -> int:
    """The least Σ⌊w²/4⌋ over `lines` numbers w that add up to `count`."""
    each, more = divmod(count, lines)
    return (lines - more) * (each * each // 4) + more * ((each + 1) ** 2 // 4)


def _box_edge(first: int, second: int) -> float:
    """sqrt(AB) of (5): what a full box of taps loses, over the fourth root of the sizes."""
    along = across = 0.0
    for i in range(1 - first, first, 2):
        for j in range(1 - second, second, 2):
            left, right = abs(i) * (second - 1), abs(j) * (first - 1)
            share = 0.5 if left == right else float(left > right)
            along += share * abs(i)
            across += (1 - share) * abs(j)
    return math.sqrt(along * across)
