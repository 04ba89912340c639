"""A seeded search for a good mapping. It finds; it proves nothing.

Owns: `search_mapping`, for one layer, where the best mapping is not proved.

Non-goals: bounds and certificates: what it returns is `BEST_FOUND`.
"""

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from tilewright.errors import InfeasibleError, InputError, Problem, Violation
from tilewright.ir.fix import Fix
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Mapping
from tilewright.ir.workload import Workload
from tilewright.mapper.result import (
    LayerResult,
    Objective,
    Status,
    Stop,
    find_objective,
    limit_of_all,
)
from tilewright.mapspace.draft import (
    Draft,
    first_draft,
    neighbour,
    random_draft,
    to_draft,
    to_mapping,
)
from tilewright.mapspace.reason import explain_fix
from tilewright.mapspace.space import Mapspace
from tilewright.model.capacity import surely_overflows
from tilewright.model.convention import DEFAULT, Convention, Reuse, find_convention
from tilewright.model.cost import Cost
from tilewright.model.evaluate import Evaluator, make_evaluator

EVALUATIONS = 3000
"""Mappings priced per layer when no time is given: the answer then depends on the seed alone."""

_STARTS = 0.3
"""The share of the evaluations that goes to random mappings, before the best are improved."""
_PARENTS = 6
"""How many of the best starts are improved."""


def search_mapping(  # noqa: PLR0913
    workload: Workload,
    hardware: Hardware,
    *,
    objective: str | Objective = Objective.ENERGY,
    convention: str | Convention = DEFAULT,
    imperfect: bool = False,
    uneven: bool = False,
    fix: Fix | None = None,
    seconds: float | None = None,
    seed: int = 0,
    starts: Sequence[Mapping] = (),
    enough: float = 0.0,
    should_stop: Stop = lambda: False,
) -> LayerResult:
    """Find a good mapping of a layer on a chip.

    Args:
        workload: the layer.
        hardware: the chip.
        objective: `energy`, `cycles`, `edp` or `dram`. Ties go to fewer cycles, then less energy,
            then fewer DRAM words.
        convention: the rules to count by.
        imperfect: also use tiles that are clipped.
        uneven: also keep operands at different places of one level's loops.
        fix: what the mapping must contain; see `verify_fix`.
        seconds: stop after that long; without it, after a fixed number of mappings.
        seed: of the random choices; without `seconds`, the same seed gives the same answer.
        starts: mappings that are known, which are improved first.
        enough: a value of the objective at which nothing better is looked for.
        should_stop: asked between mappings; the best found so far is returned when it says yes.

    Returns: the best mapping found, for DRAM words with the bound that holds for all schedules,
    otherwise without one; or, if none fits, why.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> from tilewright.ir.workload import einsum
    >>> layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    >>> chip = Hardware("chip", (Level("DRAM", read_pj=200), Level("RF", capacity=1024)))
    >>> search_mapping(layer, chip).cost.dram_words
    44
    """
    began = time.monotonic()
    deadline = None if seconds is None else began + seconds
    goal = find_objective(objective)
    rules = find_convention(convention)
    if rules.reuse is Reuse.TIMELOOP and (imperfect or uneven):
        what = "the convention `timeloop` counts even mappings with perfect factors only"
        raise InputError(Problem(what, "use `default`"))
    space = Mapspace(workload, hardware, imperfect, uneven, fix)
    evaluator = make_evaluator(workload, hardware, convention=rules)
    hunt = _Hunt(space, goal, evaluator, Random(f"{seed} {workload.einsum}"))

    known = [draft for start in starts if (draft := to_draft(start, space)) is not None]

    def over() -> bool:
        late = deadline is not None and time.monotonic() >= deadline
        found = hunt.best is not None and goal.of(hunt.best) <= enough
        return late or found or should_stop()

    interrupted = False
    try:
        hunt.run(EVALUATIONS if seconds is None else None, over, known)
    except KeyboardInterrupt:
        interrupted = True
    return LayerResult(
        workload,
        1,
        Status.INFEASIBLE if hunt.is_infeasible else Status.BEST_FOUND,
        hunt.best,
        None if hunt.best is None else limit_of_all(hunt.best, goal),
        goal,
        space.size(),
        hunt.evaluated,
        time.monotonic() - began,
        explain_fix(space, hunt.violations) if hunt.is_infeasible else (),
        interrupted or should_stop(),
    )


@dataclass(slots=True)
class _Hunt:
    space: Mapspace
    objective: Objective
    evaluator: Evaluator
    random: Random
    best: Cost | None = None
    evaluated: int = 0
    violations: tuple[Violation, ...] = ()
    is_infeasible: bool = False
    known: dict[Draft, tuple[float, ...] | None] = field(
        default_factory=dict[Draft, tuple[float, ...] | None]
    )

    def run(
        self, evaluations: int | None, over: Callable[[], bool], known: Sequence[Draft] = ()
    ) -> None:
        """Price random drafts, then walk from known ones and the best to better neighbours."""
        smallest = first_draft(self.space)
        if self.value(smallest) is None and self.space.is_smallest_first:
            self.is_infeasible = True  # nothing needs less room than the smallest tiles
            return
        rounds = 1 if evaluations is not None else 10**9
        budget = evaluations or EVALUATIONS
        for _ in range(rounds):
            for draft in known:
                self._improve(draft, budget, over)
            parents = self._starts(smallest, int(budget * _STARTS), over)
            share = (budget - int(budget * _STARTS)) // max(1, len(parents))
            for parent in parents:
                self._improve(parent, share, over)
            if over():
                return

    def value(self, draft: Draft) -> tuple[float, ...] | None:
        """What a draft is compared by; `None` if it does not fit."""
        if draft not in self.known:
            if len(self.known) > 200_000:  # memory stays bounded on long searches
                self.known.clear()
            self.known[draft] = self._price(draft)
        return self.known[draft]

    def _price(self, draft: Draft) -> tuple[float, ...] | None:
        mapping = to_mapping(draft, self.space)
        if surely_overflows(self.space.workload, self.space.hardware, mapping) and self.best:
            return None
        self.evaluated += 1
        try:
            cost = self.evaluator.price(mapping)
        except InfeasibleError as error:
            self.violations = self.violations or error.violations
            return None
        except InputError:  # one of the few mappings that have no closed form
            return None
        if self.best is None or self.objective.key(cost) < self.objective.key(self.best):
            self.best = cost
        return self.objective.key(cost)

    def _starts(self, smallest: Draft, count: int, over: Callable[[], bool]) -> list[Draft]:
        found: list[tuple[tuple[float, ...], int, Draft]] = []
        for number in range(count):
            if over():
                break
            draft = self._make_fit(random_draft(self.space, self.random))
            value = self.value(draft)
            if value is not None:
                found.append((value, number, draft))
        best = heapq.nsmallest(_PARENTS, found)
        return [draft for _, _, draft in best] or [smallest]

    def _make_fit(self, draft: Draft) -> Draft:
        """Move factors until the draft fits, or give up."""
        for _ in range(4):
            if self.value(draft) is not None:
                break
            draft = neighbour(draft, self.space, self.random)
        return draft

    def _improve(self, draft: Draft, steps: int, over: Callable[[], bool]) -> None:
        """Take every step that is no worse."""
        value = self.value(draft)
        for _ in range(steps):
            if over():
                return
            other = neighbour(draft, self.space, self.random)
            found = self.value(other)
            if found is not None and (value is None or found <= value):
                draft, value = other, found
