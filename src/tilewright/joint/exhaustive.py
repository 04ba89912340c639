"""Small spaces, to their end: every chip that a bound does not exclude, mapped to its proof.

Owns: `solve_space`, and when a point is certified.

Non-goals: large and continuous spaces (`joint/study.py`).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

from tilewright.ir.mapping import Mapping
from tilewright.ir.workload import Layer
from tilewright.joint.finish import Finisher, Point, objectives_of
from tilewright.joint.goal import Goal, Metric, Totals
from tilewright.joint.sites import area_of
from tilewright.joint.space import Choice, Space
from tilewright.mapper.floor import least_of
from tilewright.mapper.result import Objective
from tilewright.model.evaluate import make_evaluator

MOST_CHIPS = 24
"""Spaces up to this size are solved to their end if nothing else is said."""
_SLACK = 1e-9
OnChip = Callable[[int, int, list[Point]], None]
"""Told how many chips are done, of how many, and the points that there are."""


def choices_of(space: Space) -> Iterator[Choice]:
    """Every chip of a space."""
    yield from product(*(range(len(variable.values)) for variable in space.variables))


def floor_of(finisher: Finisher, goal: Goal, choice: Choice) -> float:
    """What no mappings on a chip undercut, in the objective's unit, without mapping anything.

    Infinite if the chip breaks a bound whatever its mappings.
    """
    chip = finisher.space.chip(choice)
    sums = dict.fromkeys((Objective.ENERGY, Objective.CYCLES), 0.0)
    for layer, weight in finisher.layers:
        evaluator = make_evaluator(layer.workload, chip)
        for objective in sums:
            sums[objective] += layer.repeat * weight * least_of(evaluator, objective, joint=False)
    area = area_of(chip) or 0.0
    least = Totals(sums[Objective.ENERGY], sums[Objective.CYCLES], area, chip.clock_ghz)
    for metric, bound in goal.bounds:
        if metric is not Metric.POWER and least.of(metric) > bound * (1 + _SLACK):
            return math.inf
    return 0.0 if goal.objective is Metric.POWER else float(least.of(goal.objective))


def least_latency(space: Space, layers: Sequence[tuple[Layer, float]]) -> float:
    """Seconds that no mappings on any chip of a space undercut.

    Every bound of `least_of` for cycles falls as arrays and bandwidths grow, and depends on nothing
    else of a chip, so that of the largest holds for all.
    """
    largest = space.chip([len(variable.values) - 1 for variable in space.variables])
    cycles = math.fsum(
        layer.repeat * weight * least_of(make_evaluator(layer.workload, largest), Objective.CYCLES)
        for layer, weight in layers
    )
    return cycles / (largest.clock_ghz * 1e9)


def certify_fastest(
    points: Sequence[Point], space: Space, layers: Sequence[tuple[Layer, float]]
) -> list[Point]:
    """The points, those for the least latency `certified` that no chip undercuts."""
    if not any(point.goal.objective is Metric.LATENCY for point in points):
        return list(points)
    least = least_latency(space, layers) * (1 + _SLACK)
    return [
        replace(p, certified=True)
        if p.goal.objective is Metric.LATENCY and p.feasible and p.value <= least
        else p
        for p in points
    ]


def solve_space(
    finisher: Finisher,
    goal: Goal,
    *,
    front: bool,
    stop: Callable[[], bool],
    on_chip: OnChip = lambda _, __, ___: None,
) -> list[Point]:
    """Solve a space for a goal, or for its front against the area.

    Args:
        finisher: the space, the layers, and who maps.
        goal: what to minimise, and the bounds.
        front: whether all chips that may be on the front against the area are wanted.
        stop: asked now and then.
        on_chip: told how far it is.

    Returns: a point for every chip that was solved. A point is `certified` if every other chip (of
        no greater area, for a front) has a bound that says that it is no better.
    """
    floors = {choice: floor_of(finisher, goal, choice) for choice in choices_of(finisher.space)}
    order = sorted(floors, key=lambda choice: (floors[choice], choice))
    points: list[Point] = []
    known = dict(floors)
    for number, choice in enumerate(order):
        if stop():
            break
        if math.isinf(floors[choice]) or (not front and _beaten(floors[choice], points)):
            continue
        drafts: list[list[Mapping]] = [[] for _ in finisher.layers]
        point = finisher.finish(goal, choice, drafts, stop)
        on_chip(number + 1, len(order), points)
        if point is None:
            known[choice] = math.inf if _unmappable(finisher, goal, choice) else floors[choice]
            continue
        known[choice] = max(point.lower_bound, floors[choice])
        points.append(point)
    return [replace(p, certified=_certified(p, known, finisher, front)) for p in points]


def _unmappable(finisher: Finisher, goal: Goal, choice: Choice) -> bool:
    """Whether it is proved of a layer that it has no mapping on a chip."""
    name = objectives_of(goal)[0].value
    found = [finisher.known.get((choice, at, name)) for at in range(len(finisher.layers))]
    return any(x is not None and x.mapping is None and x.proved for x in found)


def _beaten(floor: float, points: list[Point]) -> bool:
    return any(point.feasible and point.value <= floor * (1 + _SLACK) for point in points)


def _certified(point: Point, known: dict[Choice, float], finisher: Finisher, front: bool) -> bool:
    if not point.feasible:
        return False
    area = float(point.totals.area_mm2)
    rivals = [
        bound
        for choice, bound in known.items()
        if not front or (area_of(finisher.space.chip(choice)) or 0.0) <= area * (1 + _SLACK)
    ]
    return point.value <= min(rivals) * (1 + _SLACK)
