"""The best mapping, closed in on way by way to unroll dims.

Owns: `narrow_down`: ways that cannot beat the best known are ruled out, mappings are sought that
unroll as the others do, and what is found rules out more.

Non-goals: the bound of a way (`mapper/by_way.py`), mappings of a way (`mapper/padded.py`).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

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
        interrupted: whether Ctrl-C was pressed.
    """

    cost: Cost
    bound: float
    sought: int
    interrupted: bool = False


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
    deadline = None if seconds is None else time.monotonic() + seconds
    hunt = _Hunt(evaluator, objective, best, imperfect, uneven, deadline, should_stop, tell)
    interrupted = False
    try:
        hunt.run()
    except KeyboardInterrupt:
        interrupted = True
    if hunt.refinement is None and not interrupted:
        return None
    return Narrowed(hunt.best, hunt.bound, len(hunt.sought), interrupted)


@dataclass(slots=True)
class _Hunt:
    """What is asked, and how far it has come."""

    evaluator: Evaluator
    objective: Objective
    best: Cost
    imperfect: bool
    uneven: bool
    deadline: float | None
    should_stop: Stop
    tell: Callable[[float, float], None]
    refinement: Refinement | None = None
    sought: set[int] = field(default_factory=set[int])

    @property
    def value(self) -> float:
        return self.objective.of(self.best)

    @property
    def bound(self) -> float:
        """What no mapping undercuts; 0 if nothing is known yet."""
        return 0.0 if self.refinement is None else min(self.refinement.least, self.value)

    def left(self) -> float | None:
        """The seconds that are left."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def is_over(self) -> bool:
        rest = self.left()
        return self.should_stop() or (rest is not None and rest <= 0)

    def run(self) -> None:
        """Rule out ways and seek mappings in the others, by turns."""
        self.refinement = refinement = refine(self.evaluator, self.objective)
        if refinement is None:
            return
        for look in _LOOKS:
            if look is not None:
                _rule_out(refinement, self.value, self.is_over, *look)
            self.tell(self.value, self.bound)
            for way in _plan(self.evaluator, refinement, self.value, self.sought, self.is_over):
                if self.is_over():
                    return
                if not meets(self.value, float(refinement.bounds[way])):
                    self.seek(refinement, way)

    def seek(self, refinement: Refinement, way: int) -> None:
        """Seek a better mapping that unrolls in a way."""
        self.sought.add(way)
        found = find_padded(
            self.evaluator,
            self.objective,
            refinement.extents(way),
            keeps=refinement.keeps(way),
            imperfect=self.imperfect,
            uneven=self.uneven,
            seconds=self.left(),
            should_stop=self.should_stop,
        )
        if found is not None and self.objective.key(found) < self.objective.key(self.best):
            self.best = found
            self.tell(self.value, self.bound)


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
    evaluator: Evaluator, refinement: Refinement, value: float, sought: set[int], over: Stop
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
        if over():
            break
        dealt = deal(workload, fans[0], refinement.extents(way))
        if dealt is not None and way not in sought and refinement.is_possible(way):
            bound, work = float(refinement.bounds[way]), pad(workload, dealt).macs / workload.macs
            rated.setdefault((round(bound / value * math.sqrt(work), 9), work), way)
    return [rated[key] for key in sorted(rated)[:_MOST_SOUGHT]]
