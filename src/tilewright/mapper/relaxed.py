"""Imperfect mappings, and uneven ones not covered: found, not proved, and bounded from below.

Owns: `find_relaxed`: the proved best of the mappings with perfect factors, which are among them, a
seeded search for a better one, and a bound of all.

Non-goals: the proofs (`mapper/optimal.py`), the search (`mapper/search.py`).
"""

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tilewright.ir.fix import Fix
from tilewright.ir.hardware import Hardware
from tilewright.ir.workload import Workload
from tilewright.mapper.floor import least_of
from tilewright.mapper.result import LayerResult, Objective, Status, Stop, find_objective
from tilewright.mapper.search import search_mapping
from tilewright.model.evaluate import make_evaluator

if TYPE_CHECKING:
    from tilewright.mapper.optimal import OnProgress

_SHARE = 0.5
"""The share of the time that the mappings with perfect factors may take."""


def find_relaxed(  # noqa: PLR0913
    workload: Workload,
    hardware: Hardware,
    *,
    objective: str | Objective,
    imperfect: bool,
    uneven: bool,
    fix: Fix | None = None,
    seconds: float | None = None,
    seed: int = 0,
    should_stop: Stop = lambda: False,
    on_progress: "OnProgress" = lambda _: None,
) -> LayerResult:
    """Find a good imperfect or uneven mapping, with a bound, in the convention `default`.

    Args: those of `find_mapping`.

    Returns: a mapping that is no worse than the best with perfect factors. `OPTIMAL` if it meets
        the bound.
    """
    began = time.monotonic()
    goal = find_objective(objective)
    proved = _Proved(goal, uneven and fix is None, fix)
    perfect = proved.find(workload, hardware, seconds, should_stop, on_progress)
    rest = None if seconds is None else max(0.0, began + seconds - time.monotonic())
    found = search_mapping(
        workload,
        hardware,
        objective=goal,
        imperfect=imperfect,
        uneven=uneven,
        fix=fix,
        seconds=rest,
        seed=seed,
        should_stop=lambda: should_stop() or (perfect is not None and perfect.interrupted),
    )
    costs = [r.cost for r in (perfect, found) if r is not None and r.cost is not None]
    cost = min(costs, key=goal.key, default=None)
    evaluated = found.evaluated + (0 if perfect is None else perfect.evaluated)
    found = replace(
        found,
        cost=cost,
        evaluated=evaluated,
        seconds=time.monotonic() - began,
        interrupted=found.interrupted or (perfect is not None and perfect.interrupted),
    )
    if cost is None:
        return found
    bound = min(least_of(make_evaluator(workload, hardware), goal), goal.of(cost))
    status = Status.OPTIMAL if bound == goal.of(cost) else Status.BEST_FOUND
    return replace(found, status=status, lower_bound=bound, violations=())


@dataclass(frozen=True, slots=True)
class _Proved:
    """What is asked of the mapper that proves; it takes uneven mappings or a fix, not both."""

    objective: Objective
    uneven: bool
    fix: Fix | None

    def find(
        self,
        workload: Workload,
        hardware: Hardware,
        seconds: float | None,
        should_stop: Stop,
        on_progress: "OnProgress",
    ) -> LayerResult | None:
        """The best mapping with perfect factors; `None` for a workload that is not covered."""
        from tilewright.mapper.optimal import Progress, find_optimal
        from tilewright.mapper.prepare import UncoveredError

        def tell(progress: Progress) -> None:
            on_progress(replace(progress, lower_bound=0.0))  # it holds for perfect factors only

        try:
            found = find_optimal(
                workload,
                hardware,
                objective=self.objective,
                uneven=self.uneven,
                fix=self.fix,
                seconds=None if seconds is None else seconds * _SHARE,
                should_stop=should_stop,
                on_progress=tell,
            )
        except UncoveredError:
            return None
        cost = found.cost
        if cost is not None and self.fix is not None and not self.fix.is_in(cost.mapping):
            return None  # several blocks of a memory are given, which no even mapping has
        return found
