"""The best mapping, closed in on way by way to unroll dims.

Owns: `narrow_down`: ways that cannot beat the best known are ruled out, mappings are sought that
unroll as the others do, and what is found rules out more.

Non-goals: the bound of a way (`mapper/by_way.py`), mappings of a way (`mapper/padded.py`).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from tilewright.mapper.by_way import Refinement, refine
from tilewright.mapper.floor import meets
from tilewright.mapper.outer_loops import FEW_PLACES
from tilewright.mapper.padded import deal, find_padded, pad
from tilewright.mapper.result import Objective, Stop
from tilewright.model.evaluate import Cost, Evaluator

_MOST_WAYS, _MOST_SOUGHT = 4_000, 10
"""Ways that are looked at closer, and in how many mappings are sought before the next look."""
_MOST_OPEN = 200
"""Ways at most that are left for the longest look."""
_LOOKS = (None, (False, FEW_PLACES), (True, FEW_PLACES), (True, 3_000))
"""Look after look: whether edges further in are looked at by themselves, and at how many places of
a nest; first mappings are sought in the ways whose bound is least."""


@dataclass(frozen=True, slots=True)
class Narrowed:
    """How far it came.

    Attributes:
        cost: of the best mapping.
        bound: what no mapping undercuts, in the objective's unit.
        sought: in how many ways mappings were sought.
    """

    cost: Cost
    bound: float
    sought: int


def narrow_down(  # noqa: PLR0913
    evaluator: Evaluator,
    objective: Objective,
    best: Cost,
    *,
    imperfect: bool,
    uneven: bool,
    seconds: float | None = None,
    should_stop: Stop = lambda: False,
    tell: Callable[[float, float], None] = lambda _best, _bound: None,
) -> Narrowed | None:
    """Close in on the best mapping, even or uneven, from the best one that is known.

    Args:
        evaluator: of the layer on the chip, in the convention `default`.
        objective: what is minimised.
        best: a mapping's cost.
        imperfect: whether tiles may be clipped.
        uneven: whether operands may be kept at different loops of a level.
        seconds: stop after about that long.
        should_stop: asked now and then.
        tell: told the best and the bound now and then.

    Returns: a mapping no worse, and a bound of all mappings; `None` if ways are not listed.
    """
    refinement = refine(evaluator, objective)
    if refinement is None:
        return None
    deadline = None if seconds is None else time.monotonic() + seconds

    def left() -> float | None:
        return None if deadline is None else deadline - time.monotonic()

    def over() -> bool:
        rest = left()
        return should_stop() or (rest is not None and rest <= 0)

    sought: set[int] = set()
    for look in _LOOKS:
        if look is not None:
            _rule_out(refinement, objective.of(best), over, *look)
        tell(objective.of(best), refinement.least)
        for way in _plan(evaluator, refinement, objective.of(best), sought):
            if over():
                break
            if meets(objective.of(best), float(refinement.bounds[way])):
                continue
            sought.add(way)
            found = find_padded(
                evaluator,
                objective,
                refinement.extents(way),
                keeps=refinement.keeps(way),
                imperfect=imperfect,
                uneven=uneven,
                seconds=left(),
                should_stop=should_stop,
            )
            if found is not None and objective.key(found) < objective.key(best):
                best = found
                tell(objective.of(best), refinement.least)
    return Narrowed(best, min(refinement.least, objective.of(best)), len(sought))


def _rule_out(
    refinement: Refinement, value: float, over: Stop, every_edge: bool, places: int
) -> None:
    """Raise the bounds of the ways that may undercut a value."""
    ways = refinement.below(value)[:_MOST_WAYS]
    if places > FEW_PLACES and len(ways) > _MOST_OPEN:
        return
    for way in ways:
        if over():
            return
        refinement.raise_bound(way, value, every_edge=every_edge, places=places)


def _plan(
    evaluator: Evaluator, refinement: Refinement, value: float, sought: set[int]
) -> list[int]:
    """The ways in which mappings are sought next, those with a low bound and little padding first.

    Of ways with the same bound and padding, as dims that play the same part give, one is taken.
    """
    fans = [level.fanout for level in evaluator.hardware.levels if level.fanout.copies > 1]
    if len(fans) != 1:
        return []
    workload = evaluator.workload
    rated: dict[tuple[float, float], int] = {}
    for way in refinement.below(value)[:_MOST_WAYS]:
        dealt = deal(workload, fans[0], refinement.extents(way))
        if dealt is not None and way not in sought and refinement.is_possible(way):
            bound, work = float(refinement.bounds[way]), pad(workload, dealt).macs / workload.macs
            rated.setdefault((round(bound / value * math.sqrt(work), 9), work), way)
    return [rated[key] for key in sorted(rated)[:_MOST_SOUGHT]]
