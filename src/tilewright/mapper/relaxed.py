"""Imperfect mappings, and uneven ones not covered: proved if time allows, and always bounded.

Owns: `find_relaxed`: the proved best of the mappings with perfect factors, which are among them,
the search that proves even imperfect ones, a seeded search for a better one, and a bound of all.

Non-goals: the proofs (`mapper/optimal.py`, `mapper/imperfect.py`), the search (`mapper/search.py`).
"""

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tilewright.ir.fix import Fix
from tilewright.ir.hardware import Hardware
from tilewright.ir.workload import Workload
from tilewright.mapper.floor import least_of, meets
from tilewright.mapper.result import (
    LayerResult,
    Objective,
    Status,
    Stop,
    find_objective,
    limit_of_all,
)
from tilewright.mapper.search import search_mapping
from tilewright.mapspace.space import Mapspace
from tilewright.model.evaluate import make_evaluator

if TYPE_CHECKING:
    from tilewright.mapper.imperfect import Found
    from tilewright.mapper.optimal import OnProgress

_SHARE = 0.5
"""The share of the time left that even mappings with perfect factors may take, then uneven ones."""
_NEAR_SHARE, _NEAR_SECONDS = 0.05, 0.5
"""How long a better mapping is looked for near the best even one: a share, and at most."""
_PROOF_SHARE = 0.6
"""The share of what is left then that the proof for imperfect mappings may take."""
TIES_SHARE = 0.1
"""The share of its time that a search may take that can only decide ties."""
PROOF_SECONDS = 10.0
"""How long that proof is tried for a layer if nothing is said."""


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
    least = least_of(make_evaluator(workload, hardware), goal)
    quick = None
    if uneven and fix is None:
        quick = _find_at_bound(
            workload, hardware, goal, least, imperfect, seconds, seed, should_stop, on_progress
        )
        if quick is not None and quick.status is Status.OPTIMAL:
            return quick
    proved = _Proved(goal, uneven and fix is None, fix, least)
    spent = 0.0 if quick is None else quick.seconds
    rest = None if seconds is None else max(0.0, seconds - spent)
    perfect = proved.find(workload, hardware, rest, should_stop, on_progress)
    if uneven and perfect is not None and perfect.cost is not None:
        value = goal.of(perfect.cost)
        if meets(value, least):  # of even ones ties are decided, too
            return replace(
                perfect,
                status=Status.OPTIMAL,
                lower_bound=value,
                mapspace_size=_size(workload, hardware, imperfect=imperfect),
                seconds=time.monotonic() - began,
            )
    clipped = None
    if imperfect and fix is None:
        clipped = _try_imperfect(
            workload,
            hardware,
            goal,
            perfect,
            began,
            seconds,
            should_stop,
            on_progress,
            least,
            uneven,
        )
        if clipped is not None and clipped.is_proved and not uneven:
            return _proved_result(workload, hardware, goal, clipped, perfect, began)
    earlier = [r for r in (quick, perfect, clipped) if r is not None]
    interrupted = any(r.interrupted for r in earlier)
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
        starts=[r.cost.mapping for r in earlier if r.cost is not None and fix is None],
        enough=least,
        should_stop=lambda: should_stop() or interrupted,
    )
    costs = [r.cost for r in (*earlier, found) if r.cost is not None]
    cost = min(costs, key=goal.key, default=None)
    evaluated = sum(r.evaluated for r in (*earlier, found))
    found = replace(
        found,
        cost=cost,
        evaluated=evaluated,
        seconds=time.monotonic() - began,
        interrupted=found.interrupted or interrupted,
    )
    if cost is None:
        return found
    bound = max(least, limit_of_all(cost, goal) or least)
    if clipped is not None and not uneven:
        bound = max(bound, clipped.bound)
    bound = goal.of(cost) if meets(goal.of(cost), bound) else bound
    status = Status.OPTIMAL if bound == goal.of(cost) else Status.BEST_FOUND
    return replace(found, status=status, lower_bound=bound, violations=())


def _find_at_bound(  # noqa: PLR0913, PLR0917
    workload: Workload,
    hardware: Hardware,
    goal: Objective,
    least: float,
    imperfect: bool,
    seconds: float | None,
    seed: int,
    should_stop: Stop,
    on_progress: "OnProgress",
) -> LayerResult | None:
    """The best even mapping, or a few steps from it a better one: `OPTIMAL` if it meets the bound.

    `None` for a workload that is not covered, or if nothing was found.
    """
    even = _Proved(goal, uneven=False, fix=None, least=least)
    found = even.find(workload, hardware, seconds, should_stop, on_progress)
    if found is None or found.cost is None:
        return None
    cost, evaluated, took = found.cost, found.evaluated, found.seconds
    if not found.interrupted and not meets(goal.of(cost), least):
        near = search_mapping(
            workload,
            hardware,
            objective=goal,
            imperfect=imperfect,
            uneven=True,
            seconds=_NEAR_SECONDS if seconds is None else min(_NEAR_SECONDS, seconds * _NEAR_SHARE),
            seed=seed,
            starts=[cost.mapping],
            enough=least,
            should_stop=should_stop,
        )
        evaluated, took = evaluated + near.evaluated, took + near.seconds
        cost = min((c for c in (cost, near.cost) if c is not None), key=goal.key)
    is_least = meets(goal.of(cost), least)
    return replace(
        found,
        status=Status.OPTIMAL if is_least else Status.BEST_FOUND,
        cost=cost,
        lower_bound=goal.of(cost) if is_least else least,
        mapspace_size=_size(workload, hardware, imperfect=imperfect),
        evaluated=evaluated,
        seconds=took,
    )


def _size(workload: Workload, hardware: Hardware, *, imperfect: bool) -> float:
    return Mapspace(workload, hardware, imperfect=imperfect, uneven=True).size()


def _try_imperfect(  # noqa: PLR0913, PLR0917
    workload: Workload,
    hardware: Hardware,
    goal: Objective,
    perfect: LayerResult | None,
    began: float,
    seconds: float | None,
    should_stop: Stop,
    on_progress: "OnProgress",
    least: float,
    uneven: bool,
) -> "Found | None":
    """Even imperfect mappings, as far as the time goes; `None` if the layer is not covered.

    `least` is a bound of uneven ones, too, which is told instead of the search's, if they are
    sought. Where the best perfect mapping meets it, ties are all there is to decide.
    """
    from tilewright.mapper.imperfect import Found, ImperfectSearch, compile_kernels
    from tilewright.mapper.optimal import Progress
    from tilewright.mapper.prepare import UncoveredError

    def tell(best: float | None, bound: float, evaluated: int) -> None:
        on_progress(Progress(best, least if uneven else bound, evaluated))

    if perfect is None or perfect.interrupted:
        return None
    waited = time.monotonic()
    if not compile_kernels(should_stop):
        return Found(perfect.cost, 0.0, is_proved=False, evaluated=0, interrupted=True)
    now = time.monotonic()
    began += now - waited  # no budget pays for compiling
    rest = PROOF_SECONDS if seconds is None else (began + seconds - now) * _PROOF_SHARE
    if perfect.cost is not None and meets(goal.of(perfect.cost), least):
        rest *= TIES_SHARE
    search = ImperfectSearch(
        make_evaluator(workload, hardware),
        goal,
        best=perfect.cost,
        deadline=now + rest,
        should_stop=should_stop,
        tell=tell,
    )
    try:
        return search.run()
    except UncoveredError:
        return None


def _proved_result(  # noqa: PLR0913, PLR0917
    workload: Workload,
    hardware: Hardware,
    goal: Objective,
    clipped: "Found",
    perfect: LayerResult | None,
    began: float,
) -> LayerResult:
    """What is proved of even imperfect mappings."""
    assert perfect is not None
    cost = clipped.cost
    return replace(
        perfect,
        status=Status.INFEASIBLE if cost is None else Status.OPTIMAL,
        cost=cost,
        lower_bound=None if cost is None else goal.of(cost),
        mapspace_size=Mapspace(workload, hardware, imperfect=True).size(),
        evaluated=perfect.evaluated + clipped.evaluated,
        seconds=time.monotonic() - began,
    )


@dataclass(frozen=True, slots=True)
class _Proved:
    """What is asked of the mapper that proves; it takes uneven mappings or a fix, not both.

    `least` is a bound of all mappings, also those that it does not look at.
    """

    objective: Objective
    uneven: bool
    fix: Fix | None
    least: float

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
            on_progress(replace(progress, lower_bound=self.least))  # its own is of perfect factors

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
