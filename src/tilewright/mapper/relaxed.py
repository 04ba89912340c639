"""Imperfect mappings, and uneven ones not covered: proved if time allows, and always bounded.

Owns: `find_relaxed`: the proved best of the mappings with perfect factors, which are among them,
the search that proves even imperfect ones, a seeded search for a better one, and a bound of all.

Non-goals: the proofs (`mapper/optimal.py`, `mapper/imperfect.py`, `mapper/narrowing.py`), the
search (`mapper/search.py`).
"""

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tilewright.ir.mapping import Mapping
from tilewright.mapper.floor import ROUNDING, least_of, meets
from tilewright.mapper.narrowing import narrow_down
from tilewright.mapper.question import Question
from tilewright.mapper.result import LayerResult, Objective, Status, Stop, limit_of_all
from tilewright.mapper.search import search_mapping
from tilewright.mapspace.space import Mapspace
from tilewright.model.cost import Cost
from tilewright.model.evaluate import Evaluator, make_evaluator

if TYPE_CHECKING:
    from tilewright.mapper.imperfect import Found
    from tilewright.mapper.optimal import OnProgress

_SHARE = 0.5
"""The share of the time left that even mappings with perfect factors may take, then uneven ones."""
_NARROW_SHARE = 0.5
"""The share of what is left then in which ways to unroll dims may be ruled out."""
_NEAR_SHARE, _NEAR_SECONDS = 0.05, 0.5
"""How long a better mapping is looked for near the best known: a share, and at most."""
_PROOF_SHARE = 0.6
"""The share of what is left then that the proof for even imperfect mappings may take."""
TIES_SHARE = 0.1
"""The share of its time that a search may take that can only decide ties."""
PROOF_SECONDS = 10.0
"""How long that proof is tried for a layer if nothing is said."""


def find_relaxed(
    question: Question,
    *,
    should_stop: Stop = lambda: False,
    on_progress: "OnProgress" = lambda _: None,
) -> LayerResult:
    """Find a good imperfect or uneven mapping, with a bound, in the convention `default`.

    Args:
        question: what is asked; see `find_mapping`.
        should_stop: asked now and then.
        on_progress: told now and then what has been found and what is proved.

    Returns: a mapping that is no worse than the best with perfect factors. `OPTIMAL` if it meets
        the bound.
    """
    began = time.monotonic()
    evaluator = make_evaluator(question.workload, question.hardware)
    least = least_of(evaluator, question.objective)
    asked = _Relaxed(question, evaluator, should_stop, on_progress, least, began)
    if question.uneven and question.fix is None:
        return asked.find_uneven()
    return asked.find_imperfect()


@dataclass(slots=True)
class _Relaxed:
    """What is asked, and what is known so far.

    Attributes:
        question: what is asked.
        evaluator: of the layer on the chip.
        should_stop: asked now and then.
        on_progress: told now and then.
        least: what no mapping undercuts, even or uneven, perfect or not.
        began: when, in seconds of a clock.
        costs: of the mappings found.
        evaluated: how many were priced.
        interrupted: whether it was told to stop.
    """

    question: Question
    evaluator: Evaluator
    should_stop: Stop
    on_progress: "OnProgress"
    least: float
    began: float
    costs: list[Cost] = field(default_factory=list[Cost])
    evaluated: int = 0
    interrupted: bool = False

    @property
    def goal(self) -> Objective:
        return self.question.objective

    @property
    def best(self) -> Cost | None:
        return min(self.costs, key=self.goal.key, default=None)

    @property
    def is_met(self) -> bool:
        """Whether the best mapping known is no worse than what no mapping undercuts."""
        return self.best is not None and meets(self.goal.of(self.best), self.least)

    def find_uneven(self) -> LayerResult:
        """The best even mapping; then what may be better, until the bound of all is met."""
        even = self._prove(uneven=False)
        if self.is_met and self.best is not None:
            return self._answer(bound=self.goal.of(self.best))
        if even is not None and not self.interrupted:
            for step in (self._narrow, self._search_near):
                step()
                if self.is_met or self.interrupted:
                    return self._answer(self.least)
        if not self.interrupted:
            self._prove(uneven=True)
        if not self.is_met and self.question.imperfect:
            self._prove_imperfect(even)
        return self._search_on()

    def find_imperfect(self) -> LayerResult:
        """The best even mapping with perfect factors, then imperfect ones, unless loops are given.

        Mappings that contain a fix are searched, even or uneven.
        """
        perfect = self._prove(uneven=False)
        bound = self.least
        if self.question.imperfect and self.question.fix is None:
            if perfect is not None and not self.is_met and not self.interrupted:
                self._narrow()
            clipped = self._prove_imperfect(perfect)
            if clipped is not None:
                if clipped.is_proved and perfect is not None:
                    return self._proved(perfect, clipped)
                bound = max(bound, clipped.bound)
        return self._search_on(bound)

    def _rest(self) -> float | None:
        """The seconds that are left."""
        seconds = self.question.seconds
        return None if seconds is None else max(0.0, self.began + seconds - time.monotonic())

    def _note(self, found: LayerResult) -> None:
        if found.cost is not None:
            self.costs.append(found.cost)
        self.evaluated += found.evaluated
        self.interrupted |= found.interrupted

    def _prove(self, *, uneven: bool) -> LayerResult | None:
        """The best mapping with perfect factors; `None` if the layer is not covered."""
        from tilewright.mapper.optimal import Progress, find_optimal
        from tilewright.mapper.prepare import UncoveredError

        def tell(progress: Progress) -> None:  # its own bound is of perfect factors
            self.on_progress(replace(progress, lower_bound=self.least))

        asked, rest = self.question, self._rest()
        try:
            found = find_optimal(
                asked.workload,
                asked.hardware,
                objective=self.goal,
                uneven=uneven,
                fix=asked.fix,
                seconds=None if rest is None else rest * _SHARE,
                should_stop=self.should_stop,
                on_progress=tell,
            )
        except UncoveredError:
            return None
        cost, fix = found.cost, asked.fix
        if cost is not None and fix is not None and not fix.is_in(cost.mapping):
            return None  # several blocks of a memory are given, which no even mapping has
        self._note(found)
        return found

    def _narrow(self) -> None:
        """Rule out ways to unroll dims, and seek mappings in the others."""
        from tilewright.mapper.optimal import Progress

        rest, best = self._rest(), self.best
        if best is None:
            return
        narrowed = narrow_down(
            self.evaluator,
            self.goal,
            best,
            imperfect=self.question.imperfect,
            uneven=self.question.uneven,
            seconds=None if rest is None else rest * _NARROW_SHARE,
            should_stop=self.should_stop,
            tell=lambda value, bound: self.on_progress(Progress(value, bound, self.evaluated)),
        )
        if narrowed is not None:
            self.costs.append(narrowed.cost)
            self.least = max(self.least, narrowed.bound)
            self.interrupted |= narrowed.interrupted

    def _search_near(self) -> None:
        """Look for a better mapping a few steps from the best known."""
        rest, best = self._rest(), self.best
        if best is not None:
            seconds = _NEAR_SECONDS if rest is None else min(_NEAR_SECONDS, rest * _NEAR_SHARE)
            self._note(self._search([best.mapping], seconds))

    def _search(self, starts: list[Mapping], seconds: float | None) -> LayerResult:
        asked = self.question
        return search_mapping(
            asked.workload,
            asked.hardware,
            objective=self.goal,
            imperfect=asked.imperfect,
            uneven=asked.uneven,
            fix=asked.fix,
            seconds=seconds,
            seed=asked.seed,
            starts=starts,
            enough=self.least * (1 + ROUNDING),
            should_stop=lambda: self.should_stop() or self.interrupted,
        )

    def _prove_imperfect(self, perfect: LayerResult | None) -> "Found | None":
        """Even imperfect mappings, as far as the time goes; `None` if the layer is not covered.

        Where the best mapping known meets the bound of all, ties are all there is to decide.
        """
        from tilewright.mapper.imperfect import Found, ImperfectSearch, compile_kernels
        from tilewright.mapper.optimal import Progress
        from tilewright.mapper.prepare import UncoveredError

        def tell(best: float | None, bound: float, evaluated: int) -> None:
            told = self.least if self.question.uneven else bound
            self.on_progress(Progress(best, told, evaluated))

        if perfect is None or self.interrupted:
            return None
        waited = time.monotonic()
        if not compile_kernels(self.should_stop):
            self.interrupted = True
            return Found(perfect.cost, 0.0, is_proved=False, evaluated=0, interrupted=True)
        now = time.monotonic()
        self.began += now - waited  # no budget pays for compiling
        rest = self._rest()
        seconds = PROOF_SECONDS if rest is None else rest * _PROOF_SHARE
        search = ImperfectSearch(
            self.evaluator,
            self.goal,
            best=self.best,
            deadline=now + seconds * (TIES_SHARE if self.is_met else 1.0),
            should_stop=self.should_stop,
            tell=tell,
        )
        try:
            found = search.run()
        except UncoveredError:
            return None
        if found.cost is not None:
            self.costs.append(found.cost)
        self.evaluated += found.evaluated
        self.interrupted |= found.interrupted
        return found

    def _search_on(self, bound: float = 0.0) -> LayerResult:
        """Search for the rest of the time, from all that was found, if that may be worth it."""
        if self.is_met:
            return self._answer(self.least)
        starts = [cost.mapping for cost in self.costs] if self.question.fix is None else []
        found = self._search(starts, self._rest())
        self._note(found)
        best = self.best
        if best is None:
            return replace(found, evaluated=self.evaluated, interrupted=self.interrupted)
        return self._answer(max(bound, self.least, limit_of_all(best, self.goal) or 0.0))

    def _answer(self, bound: float) -> LayerResult:
        """The best found, proved if it meets a bound."""
        best, asked = self.best, self.question
        assert best is not None
        value = self.goal.of(best)
        bound = value if meets(value, bound) else bound
        return LayerResult(
            asked.workload,
            1,
            Status.OPTIMAL if bound == value else Status.BEST_FOUND,
            best,
            bound,
            self.goal,
            self._size(),
            self.evaluated,
            time.monotonic() - self.began,
            (),
            self.interrupted,
        )

    def _size(self) -> float:
        asked = self.question
        space = Mapspace(asked.workload, asked.hardware, asked.imperfect, asked.uneven, asked.fix)
        return space.size()

    def _proved(self, perfect: LayerResult, clipped: "Found") -> LayerResult:
        """What is proved of even imperfect mappings."""
        cost = clipped.cost
        return replace(
            perfect,
            status=Status.INFEASIBLE if cost is None else Status.OPTIMAL,
            cost=cost,
            lower_bound=None if cost is None else self.goal.of(cost),
            mapspace_size=self._size(),
            evaluated=self.evaluated,
            seconds=time.monotonic() - self.began,
        )
