"""One mapping a layer from those on the shelves: the best sum that a chip's layers make.

Owns: the noun `Blend` and the verb `blend`.

What a picojoule is worth against a cycle is the same for all layers of the best design, up to one
layer's step (Lagrange): so directions of worth are swept, first all, then finer around the best,
and then single layers take another mapping. A slower one may be better, where power is bounded.

Non-goals: what stands on the shelves (`joint/shelf.py`), which chips (`joint/population.py`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from tilewright.joint.goal import EXCESS_WEIGHT, Goal, Metric, Numbers, Totals

_FIRST, _FINER = 16, 9
"""Directions looked at for a chip, and around the best of them."""
_ENDS = (-math.pi / 4, math.pi / 2)
"""From cycles being worth less than nothing to energy being worth nothing."""
_TURNS = 2
"""How often it is looked closer."""
_SWAPS = 3
"""How many layers take another mapping in the end."""
_LEAST, _SLOWEST = 1e-3, -0.5
"""What a saving is worth at least; and where power is minimised."""


@dataclass(frozen=True, slots=True)
class Blend:
    """The best designs of known mappings on C chips.

    Attributes:
        at: [layers, C], the mapping of every layer, by its place.
        merit: [C], for the goal; worse where a layer fits nowhere.
        worth: [2, C], what a relative saving of energy and of cycles is worth to each: which of
            them mappings are to be improved in. A slower mapping counts as better only where
            power is minimised.
    """

    at: np.ndarray
    merit: Numbers
    worth: Numbers


def blend(
    prices: Sequence[tuple[Numbers, Numbers, Numbers]],
    weights: Numbers,
    areas: Numbers,
    clock_ghz: float,
    goal: Goal,
) -> Blend:
    """Choose one mapping of every layer for every chip.

    Args:
        prices: for every layer [M, C] each, energy in pJ, cycles and excess of M mappings.
        weights: how often each layer runs.
        areas: [C], in mm².
        clock_ghz: of all chips.
        goal: what is minimised, and the bounds.

    Returns: the best that the directions swept have found.

    >>> from tilewright.joint.goal import Metric
    >>> fast, frugal = np.array([[9.0], [4.0]]), np.array([[1.0], [2.0]])
    >>> offer = (1e9 * fast, 1e6 * frugal, np.ones((2, 1)))
    >>> goal = Goal(Metric.LATENCY, ((Metric.POWER, 5.0),))  # both fast: 9 W; both frugal: 2 W
    >>> blend([offer, offer], np.ones(2), np.ones(1), 1.0, goal).at.ravel().tolist()
    [0, 1]
    """
    limits = [np.maximum(1, excess.min(axis=0)) for _, _, excess in prices]
    fits = [excess <= limit for (_, _, excess), limit in zip(prices, limits, strict=True)]
    over = EXCESS_WEIGHT * np.log(np.stack(limits)).sum(axis=0)
    parts = [
        (w * energy.astype(float), w * cycles.astype(float))
        for w, (energy, cycles, _) in zip(weights, prices, strict=True)
    ]

    def merits(goal: Goal, energy: Numbers, cycles: Numbers) -> Numbers:
        found = goal.merit(Totals(energy, cycles, areas, clock_ghz)) + over
        return np.where(np.isfinite(found), found, np.inf)

    wanted = goal_of_mappings(goal)
    merit_of = partial(merits, wanted)
    best = _swept(parts, fits, merit_of, _SLOWEST if wanted.objective is Metric.POWER else _LEAST)
    for _ in range(_SWAPS):
        best = _swapped(best, parts, fits, merit_of)
    return best if wanted is goal else replace(best, merit=merits(goal, *_totals(best, parts)))


def goal_of_mappings(goal: Goal) -> Goal:
    """What mappings on a chip are chosen for.

    That is the goal, unless power is minimised and nothing bounds the latency: then the slower the
    better, without end, and the least energy is taken.
    """
    if goal.objective is Metric.POWER and Metric.LATENCY not in dict(goal.bounds):
        return replace(goal, objective=Metric.ENERGY)
    return goal


MeritOf = Callable[[Numbers, Numbers], Numbers]


def _swept(
    parts: Sequence[tuple[Numbers, Numbers]],
    fits: Sequence[np.ndarray],
    merit_of: MeritOf,
    least_worth: float,
) -> Blend:
    """The best of the directions."""
    scales = [np.sum([part[i].min(axis=0) for part in parts], axis=0) for i in (0, 1)]
    count = scales[0].shape[0]
    columns = np.arange(count, dtype=np.intp)
    angles = np.repeat(np.linspace(*_ENDS, _FIRST)[:, None], count, axis=1)
    width = (_ENDS[1] - _ENDS[0]) / (_FIRST - 1)
    least = np.full(count, np.inf)
    best = np.zeros((len(parts), count), dtype=int)
    worth = np.ones((2, count))
    for _ in range(1 + _TURNS):
        worths = np.cos(angles) / scales[0], np.sin(angles) / scales[1]
        at, energy, cycles = _chosen(parts, fits, worths)
        merits = merit_of(energy, cycles)
        leading = merits.argmin(axis=0)
        better = merits[leading, columns] < least
        least = np.where(better, merits[leading, columns], least)
        best = np.where(better, at[:, leading, columns], best)
        shares = np.stack([worths[0] * energy, worths[1] * cycles])[:, leading, columns]
        shares = np.maximum(shares / np.abs(shares).max(axis=0), least_worth)
        worth = np.where(better, shares, worth)
        angles = angles[leading, columns] + width * np.linspace(-1, 1, _FINER)[:, None]
        width *= 2 / (_FINER - 1)
    return Blend(best, least, worth)


def _chosen(
    parts: Sequence[tuple[Numbers, Numbers]],
    fits: Sequence[np.ndarray],
    worths: tuple[Numbers, Numbers],
) -> tuple[np.ndarray, Numbers, Numbers]:
    """For every direction and chip, [K, C], the mapping of each layer, and totals."""
    places: list[np.ndarray] = []
    totals = [np.zeros_like(worths[0]), np.zeros_like(worths[0])]
    columns = np.arange(worths[0].shape[1], dtype=np.intp)
    for (energy, cycles), fit in zip(parts, fits, strict=True):
        costs = worths[0][:, None] * energy + worths[1][:, None] * cycles
        at = np.where(fit, costs, np.inf).argmin(axis=1)
        places.append(at)
        totals[0] += energy[at, columns]
        totals[1] += cycles[at, columns]
    return np.stack(places), totals[0], totals[1]


def _totals(design: Blend, parts: Sequence[tuple[Numbers, Numbers]]) -> tuple[Numbers, Numbers]:
    """Energy and cycles on every chip."""
    columns = np.arange(design.at.shape[1], dtype=np.intp)
    own = [[part[at, columns] for part in both] for both, at in zip(parts, design.at, strict=True)]
    energy, cycles = np.sum(own, axis=0)
    return energy, cycles


def _swapped(
    now: Blend,
    parts: Sequence[tuple[Numbers, Numbers]],
    fits: Sequence[np.ndarray],
    merit_of: MeritOf,
) -> Blend:
    """The design with the mapping of one layer exchanged, if that is better."""
    columns = np.arange(now.at.shape[1], dtype=np.intp)
    own = [(e[at, columns], c[at, columns]) for (e, c), at in zip(parts, now.at, strict=True)]
    energy, cycles = _totals(now, parts)
    best, least = now.at.copy(), now.merit.copy()
    for layer, ((e, c), fit) in enumerate(zip(parts, fits, strict=True)):
        merits = merit_of(energy - own[layer][0] + e, cycles - own[layer][1] + c)
        merits = np.where(fit, merits, np.inf)
        at = merits.argmin(axis=0)
        better = merits[at, columns] < least
        best = np.where(better, now.at, best)
        best[layer] = np.where(better, at, best[layer])
        least = np.where(better, merits[at, columns], least)
    return Blend(best, least, now.worth)
