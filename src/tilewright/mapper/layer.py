"""The best mapping of one layer: proved where a proof is known, else the best that a search finds.

Owns: `find_mapping` and `solve_layer`, which choose the mapper.

Non-goals: the mappers themselves (`mapper/optimal.py`, `mapper/search.py`).
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tilewright.ir.fix import Fix, parse_fix
from tilewright.ir.hardware import Hardware
from tilewright.ir.verify_fix import verify_fix
from tilewright.ir.workload import Workload
from tilewright.mapper.question import Question
from tilewright.mapper.result import LayerResult, Objective, Status, Stop, find_objective
from tilewright.mapper.search import search_mapping
from tilewright.model.convention import DEFAULT, Convention, find_convention

if TYPE_CHECKING:
    from tilewright.mapper.optimal import OnProgress

UNEVEN_SECONDS = 60.0
"""How long uneven mappings of a layer are searched if nothing is said: some take very long."""
_NARROW_SHARE = 0.3
"""The share of what even ones leave of it that is kept to rule out ways to unroll dims."""


def find_mapping(  # noqa: PLR0913
    workload: Workload,
    hardware: Hardware,
    *,
    objective: str | Objective = Objective.ENERGY,
    convention: str | Convention = DEFAULT,
    imperfect: bool = False,
    uneven: bool = False,
    fix: str | Fix | None = None,
    seconds: float | None = None,
    seed: int = 0,
    should_stop: Stop = lambda: False,
    on_progress: "OnProgress" = lambda _: None,
) -> LayerResult:
    """Find the best mapping of a layer on a chip.

    Args:
        workload: the layer.
        hardware: the chip.
        objective: `energy`, `cycles`, `edp` or `dram`. Ties go to fewer cycles, then less energy,
            then fewer DRAM words.
        convention: the rules to count by.
        imperfect: also use tiles that are clipped.
        uneven: also keep operands at different places of one level's loops.
        fix: what the mapping must contain, in mapping notation; what is not written is free
            (`docs/fix.md`).
        seconds: stop after that long; uneven mappings after `UNEVEN_SECONDS` if left out.
        seed: of random choices, where a search has to make them.
        should_stop: asked now and then; the best found so far is returned when it says yes.
        on_progress: told now and then what has been found and what is proved.

    Returns: `OPTIMAL` with a proof for mappings with perfect factors, even or uneven, in the
        convention `default`, of workloads that `prepare.reject_uncovered` accepts; `BEST_FOUND`
        otherwise, with a bound if one is known, and for imperfect mappings never worse than those.
        A mapping that meets the bound of all mappings (`floor.least_of`) is `OPTIMAL`, too, even if
        the search was cut short; then a tie may be undecided. If an even one meets it, uneven and
        imperfect ones are searched for better ties only, for a tenth of the time or not at all.
        `INFEASIBLE` with the reasons.

    Raises: `InputError` if the fix cannot be a part of a mapping of this layer on this chip.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> from tilewright.ir.workload import einsum
    >>> layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    >>> chip = Hardware("chip", (Level("DRAM", read_pj=200), Level("RF", capacity=1024)))
    >>> found = find_mapping(layer, chip)
    >>> found.status.value, found.cost.dram_words
    ('optimal', 44)
    >>> print(find_mapping(layer, chip, fix="DRAM: K4").cost.mapping)
    DRAM[W I O]: K4
    RF[W I O]: M4 K2
    """
    given = parse_fix(fix) if isinstance(fix, str) else fix
    if given is not None:
        verify_fix([workload], hardware, given, imperfect=imperfect, uneven=uneven)
    goal, rules = find_objective(objective), find_convention(convention)
    asked = Question(
        workload, hardware, goal, rules, imperfect, uneven, given, seconds=seconds, seed=seed
    )
    return solve_layer(asked, should_stop=should_stop, on_progress=on_progress)


def solve_layer(
    question: Question,
    *,
    should_stop: Stop = lambda: False,
    on_progress: "OnProgress" = lambda _: None,
) -> LayerResult:
    """Answer a question whose fix has been verified. See `find_mapping`."""
    q = question
    if q.uneven and q.seconds is None and q.convention == DEFAULT:
        q = replace(q, seconds=UNEVEN_SECONDS)
    if q.convention == DEFAULT and not q.imperfect and not (q.uneven and q.fix):
        from tilewright.mapper.optimal import find_optimal
        from tilewright.mapper.prepare import UncoveredError

        def find(*, uneven: bool, seconds: float | None) -> LayerResult:
            return find_optimal(
                q.workload,
                q.hardware,
                objective=q.objective,
                fix=q.fix,
                uneven=uneven,
                seconds=seconds,
                should_stop=should_stop,
                on_progress=on_progress if uneven == q.uneven else lambda _: None,
            )

        try:
            if q.uneven:
                return _find_uneven(q, find, should_stop)
            return _raise_bound(find(uneven=False, seconds=q.seconds), q)
        except UncoveredError:
            pass
    if q.convention == DEFAULT and (q.imperfect or q.uneven):
        from tilewright.mapper.relaxed import find_relaxed

        return find_relaxed(q, should_stop=should_stop, on_progress=on_progress)
    return search_mapping(
        q.workload,
        q.hardware,
        objective=q.objective,
        convention=q.convention,
        imperfect=q.imperfect,
        uneven=q.uneven,
        fix=q.fix,
        seconds=q.seconds,
        seed=q.seed,
        should_stop=should_stop,
    )


def _find_uneven(
    question: Question, find: Callable[..., LayerResult], should_stop: Stop
) -> LayerResult:
    """The best uneven mapping; if an even one meets the bound of all, ties alone are searched.

    Where the proof does not come to its end, ways to unroll dims are ruled out.
    """
    from tilewright.mapper.floor import least_of, meets
    from tilewright.mapper.narrowing import narrow_down
    from tilewright.mapper.relaxed import TIES_SHARE
    from tilewright.model.evaluate import make_evaluator

    goal, seconds = question.objective, question.seconds
    even = find(uneven=False, seconds=seconds)
    if even.cost is None or even.interrupted:
        return _raise_bound(find(uneven=True, seconds=seconds), question)
    began = time.monotonic() - even.seconds
    best, evaluator = even.cost, make_evaluator(question.workload, question.hardware)
    least = least_of(evaluator, goal)

    def rest() -> float | None:
        return None if seconds is None else max(0.0, began + seconds - time.monotonic())

    left = rest()
    share = TIES_SHARE if meets(goal.of(best), least) else 1 - _NARROW_SHARE
    found = find(uneven=True, seconds=None if left is None else left * share)
    best = min((cost for cost in (best, found.cost) if cost is not None), key=goal.key)
    is_open = found.status is not Status.OPTIMAL and not meets(goal.of(best), least)
    if is_open and not found.interrupted and not should_stop():
        narrowed = narrow_down(
            evaluator,
            goal,
            best,
            imperfect=False,
            uneven=True,
            seconds=rest(),
            should_stop=should_stop,
        )
        if narrowed is not None:
            best, least = narrowed.cost, max(least, narrowed.bound)
            found = replace(found, interrupted=narrowed.interrupted)
    found = replace(
        found,
        cost=best,
        evaluated=even.evaluated + found.evaluated,
        seconds=time.monotonic() - began,
    )
    return _raise_bound(found, question, least)


def _raise_bound(found: LayerResult, question: Question, least: float = 0.0) -> LayerResult:
    """A search that was cut short is bounded by what holds for all mappings, too.

    `least` is such a bound, if one is known that may be better than `floor.least_of`.
    """
    if found.status is not Status.BEST_FOUND or found.cost is None:
        return found
    from tilewright.mapper.floor import least_of, meets
    from tilewright.model.evaluate import make_evaluator

    goal, value = question.objective, question.objective.of(found.cost)
    least = least or least_of(make_evaluator(question.workload, question.hardware), goal)
    if meets(value, least):
        return replace(found, status=Status.OPTIMAL, lower_bound=value)
    return replace(found, lower_bound=max(found.lower_bound or 0.0, least))
