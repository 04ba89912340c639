"""The best mapping of a layer, with the proof: branch and bound over every choice of bypasses.

Owns: `find_optimal`: the order of the search, its threshold, time, interruption, certificates.

The search asks for mappings below a threshold that it raises until one is found; everything that
a bound excludes is then known to cost more. Proofs: `docs/optimal-mapper.md`.

Non-goals: counting and bounding (`mapper/kernels.py`), networks (`mapper/network.py`).
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import islice, permutations, product

import numpy as np

from tilewright.errors import InfeasibleError, Violation
from tilewright.ir.fix import Fix
from tilewright.ir.hardware import Fanout, Hardware, Level
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.workload import Workload, conv2d
from tilewright.mapper import kernels, lattice
from tilewright.mapper.first_use import compile_apart
from tilewright.mapper.pins import allowed_orders, blocked, in_order
from tilewright.mapper.prepare import (
    LONG,
    Blocks,
    Preparation,
    Stage,
    alike_spreads,
    reject_uncovered,
    root_floors,
    run_at_once,
    with_bounds,
    with_tiles,
    without_classes,
)
from tilewright.mapper.problem import Floats, Integers, Mask, Template
from tilewright.mapper.result import (
    LayerResult,
    Objective,
    Status,
    Stop,
    find_objective,
    limit_of_all,
)
from tilewright.mapper.search import search_mapping
from tilewright.mapspace.draft import first_draft, to_mapping
from tilewright.mapspace.reason import explain_fix
from tilewright.mapspace.space import Mapspace
from tilewright.model.cost import Cost
from tilewright.model.evaluate import Evaluator, make_evaluator

OnProgress = Callable[["Progress"], None]
Watch = Callable[[Callable[[], None], Callable[[], None]], None]
"""Runs work that can be stopped by calling the second argument."""

_CODES = {
    Objective.ENERGY: kernels.ENERGY,
    Objective.CYCLES: kernels.CYCLES,
    Objective.EDP: kernels.EDP,
    Objective.DRAM: kernels.DRAM,
}
_TIES = {
    Objective.ENERGY: (Objective.CYCLES, Objective.DRAM),
    Objective.CYCLES: (Objective.ENERGY, Objective.DRAM),
    Objective.EDP: (Objective.CYCLES, Objective.DRAM),
    Objective.DRAM: (Objective.CYCLES, Objective.ENERGY),
}
"""What decides between mappings that are equally good, in order."""
_WIDER = (1.01, 1.05, 1.12, 1.25, 1.6, 2.5, 6.0, 50.0, np.inf)
"""Thresholds of the search, relative to the first bound."""
_STEP, _STEPS = 1.015, 80
"""The same for uneven mappings: by how much each is larger than the last, and how many."""
_RENTS = (0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
"""What all the room of a memory is charged together in bounds, relative to the best found."""
_PATIENCE, _LOOSE = 64, 16_384
"""Chains with a loose price: after how many the search pauses to price them, how many may wait."""
_FEW_PAIRS, _MOST_PAIRS = 50_000, 4_000_000
"""Tiles with unrollings that are listed: at first, or as many as there are tiles; and at most, as
beyond all are tried."""
_TIE_NODES, _ENDLESS = 20_000, 2**62
"""How far ties are followed below each choice of bypasses, in nodes; the best is proved then."""
_QUICK_NODES, _DIVE_NODES = 20_000, 4_000
"""Nodes below each choice of bypasses: when a search counts as hard, and while it looks for a first
mapping then."""
_LONG_DIVE_NODES = 300_000
"""The same for a first mapping where lists take longer to make than nodes to visit."""
_ALMOST = 0.95
"""Thresholds above that share of the best found are not worth a search of their own."""
_ALMOST_UNEVEN = 0.985
"""The same for uneven mappings, whose search takes longer the higher the threshold."""
_BETTER = 0.998
"""A best found below that share of the last one makes bounds worth computing again."""
_MOST_HELD = 1_000_000
"""Tiles that are held for all choices together; others are listed when a choice is searched."""
_ORDERED, _LARGE = 1_000, 300_000
"""Tiles of a mapspace from which on choices of bypasses are ordered before their lists are made;
and from which on a first mapping is looked for longer."""
_MOST_ENTRIES = 25_000_000
"""Bounds by place in the lattice, way and class of cycles that are filled at once, 200 MB: choices
with more are searched in several parts."""
_NO_LIMITS = [np.inf] * 4
"""Of energy, cycles, words and EDP."""
_PATIENT = 0.5
"""Seconds of preparation after which a first mapping is looked for, to keep further lists short."""
_PAUSE = 0.5
"""Seconds between reports while the search is deep in one choice of bypasses."""
_RESERVE = 0.08
"""The share of the time that is kept for finding any mapping, should the search find none."""
_EVEN_SHARE = 0.3
"""The share of the time that even mappings may take before the uneven ones are searched."""
_SLACK = 1e-9
"""What the energy of a tie may exceed the best by: rounding of sums in another order."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search has come: the best value found, the bound, chains priced."""

    incumbent: float | None
    lower_bound: float
    evaluated: int

    @property
    def gap(self) -> float | None:
        """By what share of its value the incumbent could at most be improved."""
        if self.incumbent is None:
            return None
        return (self.incumbent - self.lower_bound) / self.incumbent if self.incumbent else 0.0


class _OutOfTimeError(Exception):
    """The budget is spent, or the search is told to stop."""


def find_optimal(  # noqa: PLR0913
    workload: Workload,
    hardware: Hardware,
    *,
    objective: str | Objective = Objective.ENERGY,
    fix: Fix | None = None,
    uneven: bool = False,
    seconds: float | None = None,
    should_stop: Stop = lambda: False,
    on_progress: OnProgress = lambda _: None,
) -> LayerResult:
    """Find the best mapping of a layer on a chip and prove that there is no better one.

    Args:
        workload: the layer.
        hardware: the chip.
        objective: `energy`, `cycles`, `edp` or `dram`. Ties go to fewer cycles, then less energy,
            then fewer DRAM words.
        fix: what the mapping must contain; it must have passed `verify_fix`.
        uneven: also keep operands at different places of one level's loops; not with a fix.
        seconds: stop after that long with the best found and a bound.
        should_stop: asked now and then; the best found so far is returned when it says yes.
        on_progress: told now and then what has been found.

    Returns: the best of all even or uneven mappings with perfect factors, in any order, with any
        bypass that the chip allows, that contain the fix, counted by the convention `default`:
        `OPTIMAL` with its proof, or `BEST_FOUND` with a bound if time ran out; or, if none fits,
        why.

    Raises: `InputError` for a workload that is not covered; see `prepare.reject_uncovered`.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> from tilewright.ir.workload import einsum
    >>> layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    >>> chip = Hardware("chip", (Level("DRAM", read_pj=200), Level("RF", capacity=1024)))
    >>> found = find_optimal(layer, chip)
    >>> found.status.value, found.cost.dram_words, found.gap
    ('optimal', 44, 0.0)
    """
    goal = find_objective(objective)
    evaluator = make_evaluator(workload, hardware)
    reject_uncovered(workload)
    if not compile_kernels(should_stop):
        found = search_mapping(workload, hardware, objective=goal, fix=fix, seconds=0.0)
        return replace(found, interrupted=True)
    preparation = Preparation(evaluator, fix, uneven=uneven)
    return _prove(preparation, evaluator, goal, seconds, should_stop, on_progress)


def compile_kernels(should_stop: Stop = lambda: False) -> bool:
    """Load or compile the kernels, so that no budget pays for it; false if told to stop first."""
    if not compile_apart(__name__, should_stop):
        return False
    solve_smallest()
    return True


@cache
def solve_smallest() -> None:
    """Solve the smallest problem that uses every kernel."""
    layer = conv2d("smallest", K=2, C=2, P=4, Q=1, R=3, S=1, padding=(1, 0))
    levels = (Level("DRAM"), Level("GLB", 512, fanout=Fanout(2)), Level("RF", 256))
    evaluator = make_evaluator(layer, Hardware("smallest", levels))
    preparation = Preparation(evaluator)
    _prove(preparation, evaluator, Objective.ENERGY, None, lambda: False, lambda _: None)


def _prove(  # noqa: PLR0913, PLR0917
    preparation: Preparation,
    evaluator: Evaluator,
    goal: Objective,
    seconds: float | None,
    should_stop: Stop,
    on_progress: OnProgress,
) -> LayerResult:
    began = time.monotonic()
    deadline = None if seconds is None else began + seconds * (1 - _RESERVE)
    workload, hardware = evaluator.workload, evaluator.hardware
    hunt = _Hunt(preparation, evaluator, goal, deadline, should_stop, on_progress, preparation)
    hunt.began = began
    if preparation.space.uneven:  # even mappings are among them, and found sooner
        share = None if seconds is None else seconds * _EVEN_SHARE
        even = Preparation(evaluator, preparation.space.fix)
        hunt.best = _prove(even, evaluator, goal, share, should_stop, lambda _: None).cost
    proved = interrupted = False
    try:
        hunt.run()
        proved = True
    except KeyboardInterrupt:
        interrupted = True
    except _OutOfTimeError:
        pass
    finally:
        hunt.let_go()
    cost = hunt.best
    bound = None
    if cost is not None:
        bound = goal.of(cost) if hunt.is_proved else min(hunt.bound, goal.of(cost))
    status = Status.OPTIMAL if hunt.is_proved else Status.BEST_FOUND
    if cost is None:
        status = Status.INFEASIBLE if proved else Status.BEST_FOUND
    if cost is None and status is Status.BEST_FOUND:
        rest = 0.0 if seconds is None else seconds * _RESERVE
        cost = search_mapping(
            workload, hardware, objective=goal, fix=preparation.space.fix, seconds=rest
        ).cost
        bound = None if cost is None else min(hunt.bound, goal.of(cost))
    if cost is not None and bound is not None:
        bound = max(bound, limit_of_all(cost, goal) or bound)
    return LayerResult(
        workload,
        1,
        status,
        cost,
        bound,
        goal,
        preparation.space.size(),
        hunt.evaluated,
        time.monotonic() - began,
        _reasons(preparation.space, evaluator) if status is Status.INFEASIBLE else (),
        interrupted or should_stop(),
    )


def _reasons(space: Mapspace, evaluator: Evaluator) -> tuple[Violation, ...]:
    """Why nothing fits, seen at the smallest tiles."""
    violations: tuple[Violation, ...] = ()
    try:
        evaluator.price(to_mapping(first_draft(space), space))
    except InfeasibleError as error:
        violations = error.violations
    return explain_fix(space, violations)


@dataclass(slots=True, eq=False)
class _Choice:
    """One choice of bypasses, ready to be searched."""

    blocks: Blocks
    stages: list[Stage]
    template: Template
    path: kernels.Path
    pairs: kernels.Pairs
    lacks_lists: bool
    floors: Floats
    """(G,) the least energy of all edges and of the MACs' words, by class of cycles."""
    rents: tuple[float, ...] = ()
    is_tuned: bool = False
    reach: Floats | None = None
    """(G,) energy of edges and MACs' words up to which the bounds of single tiles hold."""

    @property
    def divided(self) -> list[int]:
        """The levels that several blocks share."""
        levels = [stage.level for stage in self.stages]
        return sorted({level for level in levels if levels.count(level) > 1})


@dataclass(slots=True)
class _Hunt:
    """The search and what it has found."""

    preparation: Preparation
    evaluator: Evaluator
    objective: Objective
    deadline: float | None
    should_stop: Stop
    on_progress: OnProgress
    whole: Preparation
    best: Cost | None = None
    share: float = 1.0
    word_pj: float = 0.0
    bound: float = 0.0
    evaluated: int = 0
    is_proved: bool = False
    is_first: bool = False
    reported: float = 0.0
    began: float = 0.0
    choices: list[_Choice] = field(default_factory=list[_Choice])
    put_off: list[_Choice] = field(default_factory=list[_Choice])
    kept: list[_Choice] | None = None
    known: set[bytes] = field(default_factory=set[bytes])
    rooms: tuple[lattice.Outside, lattice.Inside] | None = None
    paths: dict[tuple[int, int], kernels.Path] = field(
        default_factory=dict[tuple[int, int], kernels.Path]
    )

    def run(self) -> None:
        """Search for the best, then, among equally good ones, for what decides ties."""
        self.preparation.run = self._run
        if self.objective is Objective.DRAM:
            self._charge(0.0, 1.0)
        limits = [*_NO_LIMITS]
        self.bound = self._compulsory()
        if self._is_ordered and not self.preparation.space.uneven:
            self._search_one_by_one(limits)
        else:
            self._list_choices(limits)
            self._search(self.objective, limits)
        if self.best is None:
            return
        self.is_proved = True
        goals = [self.objective]
        for tie in _TIES[self.objective]:
            if self.objective is Objective.DRAM and tie is Objective.ENERGY:
                self._charge_for_more()
                limits[0] = np.inf  # it was in other units
            for goal in goals:
                self._limit(limits, goal)
            self._search(tie, limits)
            goals.append(tie)

    def let_go(self) -> None:
        """End the circle of references that would keep lists of tiles until Python looks for it."""
        self.preparation.run = self.whole.run = run_at_once

    def _list_choices(self, limits: list[float]) -> None:
        """Make the lists of all choices that may be worth searching."""
        held = 0
        for choice in self._prepare():
            least = self._least(choice, self.objective, limits)
            if least > self._value(self.objective) * (1 + _SLACK):
                continue
            held += len(choice.template.tiles)
            self.choices.append(choice if held <= _MOST_HELD else _without_lists(choice))
            patient = time.monotonic() - self.began <= _PATIENT and not self._is_large
            if self.best is None and not patient:
                self._find_any([(least, choice)], self.objective, limits, least)

    def _search_one_by_one(self, limits: list[float]) -> None:
        """Search every choice as soon as its lists are made, the most promising first.

        One that takes many nodes is put off until the others may have found a better mapping.
        Of every choice that is kept which parts may hold mappings as good as the best.
        """
        objective, parts, held = self.objective, list[_Choice](), 0
        for choice in self._prepare():
            least = self._least(choice, objective, limits)
            if self.best is None:
                kept = self._begin(choice, objective, limits, least)
                if self.best is None:
                    self.put_off.append(_without_lists(choice))
                    continue
            elif least > self._value(objective) * (1 + _SLACK):
                continue
            elif least < self._value(objective):
                self.kept = kept = []
                whole = [*limits, np.inf]
                self.put_off += self._go_through(choice, objective, whole, _QUICK_NODES)
                self.kept = None
            else:
                kept = [choice]
            held += sum(len(part.template.tiles) for part in kept)
            parts += kept if held <= _MOST_HELD else [_without_lists(choice)]
        if self.best is None:  # few chains fit, or none
            self.choices, self.put_off = self.put_off, []
            self._search(objective, limits)
            return
        self.put_off.sort(key=lambda part: self._least(part, objective, limits))
        while self.put_off:
            part = self.put_off[0]
            least = self._least(part, objective, limits)
            self.bound = max(self.bound, min(least, self._value(objective)))
            listed = self._with_lists(part, limits)
            if least < self._value(objective) and listed is not None:
                self._go_through(listed, objective, [*limits, np.inf], _ENDLESS)
            del self.put_off[0]
        self.bound = max(self.bound, self._value(objective))
        self.choices = parts

    def _begin(
        self, choice: _Choice, objective: Objective, limits: list[float], least: float
    ) -> list[_Choice]:
        """Find a first mapping in a choice, below ever higher thresholds, and put off the rest.

        Returns: the parts that may hold mappings as good as the best.
        """
        for wider in self._first_steps:
            self.kept = kept = list[_Choice]()
            self.is_first = True
            threshold = max(least, 1e-30) * wider
            left = self._go_through(choice, objective, [*limits, threshold], self._first_nodes)
            self.is_first = False
            self.kept = None
            if self.best is not None:
                self.put_off += left
                return kept
        return []

    def _compulsory(self) -> float:
        """A bound that needs no lists: every word passes the outermost memory once."""
        problem, output = self.preparation.problem, self.preparation.problem.uses.shape[0] - 1
        words = problem.distinct.copy()
        energy = float((words * problem.read[0])[:output].sum()) + problem.mac_pj
        energy += (
            words[output] * problem.update[0, output] * (1 - problem.finished * problem.rebate)
        )
        cycles = problem.macs / self.preparation.copies()
        if self._code(self.objective) == kernels.ENERGY:
            return float(energy)
        if self.objective is Objective.CYCLES:
            return cycles
        return float(energy) * cycles if self.objective is Objective.EDP else float(words.sum())

    def _most_energy(self, limits: list[float]) -> float:
        """What edges and MACs' words of a chain within limits may take that may be worth it."""
        problem, most = self.preparation.problem, limits[0]
        least = problem.macs / self.preparation.copies()
        value = np.inf if self.is_proved else self._value(self.objective)
        if self._code(self.objective) == kernels.ENERGY:
            most = min(most, value)
        elif self.objective is Objective.EDP:
            most = min(most, limits[3] / least, value / least)
        return most * (1 + _SLACK) - problem.mac_pj - problem.leak * least

    def _charge(self, share: float, word_pj: float) -> None:
        """Let the kernels see a share of the energies, and every DRAM word at a price."""
        self.share, self.word_pj = share, word_pj
        self.preparation = self.preparation.recharged(share, word_pj)

    def _charge_for_more(self) -> None:
        """Go back to energies, with a price on DRAM words that excludes more of them."""
        assert self.best is not None
        self.preparation = self.whole
        if self.whole.problem.finished == 0.0:
            self._charge(1.0, self.best.energy_pj)
        else:  # narrower finished words would be charged less
            self.share, self.word_pj = 1.0, 0.0
        self.choices = list(self._prepare())

    def _charged(self, cost: Cost) -> float:
        """The energy of a mapping as the kernels see it."""
        return self.share * cost.energy_pj + self.word_pj * cost.dram_words

    def _code(self, objective: Objective) -> int:
        """What the kernels minimise: words are energy while they are charged as such."""
        if objective is Objective.DRAM and self.share == 0.0:
            return kernels.ENERGY
        return _CODES[objective]

    def _limit(self, limits: list[float], goal: Objective) -> None:
        """Admit nothing that is worse than the best in a goal that has been reached."""
        assert self.best is not None
        if self.word_pj:
            limits[0] = self._charged(self.best) * (1 + _SLACK)
        if goal is Objective.ENERGY:
            limits[0] = self._charged(self.best) * (1 + _SLACK)
        elif goal is Objective.CYCLES:
            limits[1] = self.best.cycles
        elif goal is Objective.DRAM:
            limits[2] = self.best.dram_words
        else:
            limits[3] = self.best.edp * (1 + _SLACK)

    @property
    def _is_ordered(self) -> bool:
        """Whether lists of tiles are so long that it pays to order choices before making any."""
        if self._is_large or self.preparation.space.uneven:
            return self._is_large
        several = len(list(islice(self.preparation.choices(), 2))) > 1
        return several and int(np.prod(self.preparation.counts)) >= _ORDERED

    @property
    def _is_large(self) -> bool:
        """Whether lists of tiles take longer to make than searches that find a first mapping."""
        return int(np.prod(self.preparation.counts)) >= _LARGE

    def _ordered(self) -> Iterator[Blocks]:
        """Every choice; in large mapspaces the most promising first, without the hopeless ones."""
        if not self._is_ordered:
            yield from self.preparation.choices()
            return
        floors: list[tuple[float, Blocks]] = []
        for blocks in self.preparation.choices():
            self._check_time()
            floors.append((self.preparation.least_energy(blocks), blocks))
        floors.sort(key=lambda pair: pair[0])
        for floor, blocks in floors:
            self._raise_bound(floor)
            if floor <= self._most_energy(_NO_LIMITS):
                yield blocks

    def _raise_bound(self, floor: float) -> None:
        """Note that choices still to come take so much energy for their edges and MACs' words."""
        problem = self.preparation.problem
        cycles = problem.macs / self.preparation.copies()
        value = floor + problem.mac_pj + problem.leak * cycles
        if self.objective is Objective.EDP:
            value *= cycles
        elif self._code(self.objective) != kernels.ENERGY:
            return
        limits = _NO_LIMITS
        begun = self.choices + self.put_off
        ready = [self._least(choice, self.objective, limits) for choice in begun]
        if not self.is_proved:
            least = min([value, self._value(self.objective), *ready])
            self.bound = max(self.bound, float(least))

    def _prepare(self) -> Iterator[_Choice]:
        seen: set[tuple[Stage, ...]] = set()
        for blocks in self._ordered():
            self._check_time()
            stages = self.preparation.stages(blocks)
            if tuple(stages) in seen:
                continue
            seen.add(tuple(stages))
            template = self._template(blocks, _NO_LIMITS)
            if template is not None:
                operands = len(self.preparation.problem.uses)
                path, pairs = self._path(template), _no_pairs(len(stages), operands)
                floors = root_floors(template, self.preparation.problem)
                yield _Choice(blocks, stages, template, path, pairs, False, floors)

    def _template(
        self, blocks: Blocks, limits: list[float], rents: tuple[float, ...] = ()
    ) -> Template | None:
        """The template of a choice, without tiles that are too dear; `None` if nothing is left."""
        by_cycles = self.objective is Objective.EDP
        return self.preparation.template(blocks, by_cycles, self._most_energy(limits), rents)

    def _with_lists(self, choice: _Choice, limits: list[float]) -> _Choice | None:
        """A choice, with what is worth looking at by now if its lists were not held."""
        if not choice.lacks_lists:
            return choice
        template = self._template(choice.blocks, limits, choice.rents)
        return None if template is None else replace(choice, template=template)

    def _path(self, template: Template) -> kernels.Path:
        """Room for the search: one for all choices of the same shape, searched one by one."""
        shape = len(template.level), len(template.group_cycles)
        if shape not in self.paths:
            self.paths[shape] = _make_path(self.preparation.problem, template)
        return self.paths[shape]

    def _check_time(self) -> None:
        late = self.deadline is not None and time.monotonic() >= self.deadline
        if late or self.should_stop():
            raise _OutOfTimeError

    def _value(self, objective: Objective) -> float:
        """The best found, in the kernels' units."""
        if self.best is None:
            return np.inf
        if self._code(objective) == kernels.ENERGY:
            return self._charged(self.best)
        return objective.of(self.best)

    def _search(self, objective: Objective, limits: list[float]) -> None:
        """Find the best within limits; the first objective's bound is kept."""
        primary = objective is self.objective
        self.known.clear()
        starts = [(self._least(choice, objective, limits), choice) for choice in self.choices]
        starts.sort(key=lambda pair: pair[0])
        first = starts[0][0] if starts else np.inf
        if primary:
            self.bound = max(self.bound, float(first))
        if first == np.inf:
            return
        if not primary:
            self.choices = list(self._break_ties(starts, objective, limits))
            return
        hard = False
        for wider in self._steps():
            threshold = self._worthwhile(max(first, 1e-30) * wider)
            if not hard:
                hard = not self._pass(starts, objective, [*limits, threshold], _QUICK_NODES)
                if hard and self._value(objective) > threshold:
                    self._dive(starts, objective, limits, first)
                    threshold = self._worthwhile(threshold)
            if hard:
                self._pass(starts, objective, [*limits, threshold], _ENDLESS)
            self.bound = max(self.bound, min(threshold, self._value(objective)))
            self._report()
            if self._value(objective) <= threshold:
                return

    def _worthwhile(self, threshold: float) -> float:
        """A threshold, or none if it is too close to the best found for a search of its own."""
        almost = _ALMOST_UNEVEN if self.preparation.space.uneven else _ALMOST
        return np.inf if threshold > self._value(self.objective) * almost else threshold

    def _break_ties(
        self, starts: list[tuple[float, _Choice]], objective: Objective, limits: list[float]
    ) -> Iterator[_Choice]:
        """Search every choice for the best within limits, among few chains.

        Yields: what may hold others within these limits, with the bounds that were made.
        """
        for least, choice in starts:
            if least >= self._value(objective):
                yield choice
                continue
            self.kept = kept = list[_Choice]()
            self._pass([(least, choice)], objective, [*limits, np.inf], _TIE_NODES)
            self.kept = None
            small = sum(len(part.template.tiles) for part in kept) <= len(choice.template.tiles)
            yield from kept if small else [choice]

    def _tune(self, choice: _Choice, listed: _Choice, objective: Objective) -> _Choice:
        """Charge the blocks that share a memory for room, as far as that raises the bound.

        Returns: the choice with its lists; what is charged is noted in `choice`.
        """
        choice.is_tuned = listed.is_tuned = True
        if self._code(objective) not in (kernels.ENERGY, kernels.EDP):
            return listed
        free = [np.inf] * 5
        allowed = self._allowed(listed.template, objective, free).max()
        shared = self.preparation.problem.shared
        for level in choice.divided:
            if not np.isfinite(allowed) or not np.isfinite(shared[level]):
                continue
            for part in _RENTS:
                rents = [*(listed.rents or [0.0] * len(shared))]
                rents[level] = part * allowed / shared[level]
                self._check_time()
                template = self._template(choice.blocks, _NO_LIMITS, tuple(rents))
                if template is None:
                    break
                floors = root_floors(template, self.preparation.problem)
                other = replace(listed, template=template, floors=floors, rents=tuple(rents))
                if self._least(other, objective, free) <= self._least(listed, objective, free):
                    break
                listed = other
        choice.floors, choice.rents = listed.floors, listed.rents
        if not choice.lacks_lists:
            choice.template = listed.template
        return listed

    def _steps(self) -> Iterable[float]:
        """Thresholds, relative to the first bound.

        In small steps where each costs little beside what lies above it.
        """
        if not self.preparation.space.uneven:
            return _WIDER
        return (*(_STEP**power for power in range(1, _STEPS)), *_WIDER[-3:])

    def _pass(
        self,
        starts: list[tuple[float, _Choice]],
        objective: Objective,
        limits: list[float],
        nodes: int,
    ) -> bool:
        """Search every choice within limits; whether none has taken more nodes than it may."""
        whole = True
        for least, choice in starts:
            if whole and nodes == _ENDLESS and objective is self.objective and not self.is_proved:
                # the best come first: all that may take less has been searched
                self.bound = max(self.bound, min(least, limits[4], self._value(objective)))
            if least > limits[4] or least >= self._value(objective):
                continue
            listed = self._with_lists(choice, limits)
            if listed is not None and choice.divided and not choice.is_tuned:
                listed = self._tune(choice, listed, objective)
            if listed is not None and self._least(listed, objective, limits) <= limits[4]:
                whole = not self._go_through(listed, objective, limits, nodes) and whole
        return whole

    def _dive(
        self,
        starts: list[tuple[float, _Choice]],
        objective: Objective,
        limits: list[float],
        first: float,
    ) -> None:
        """Find a good mapping: any one, then better ones, among few chains each time."""
        self._find_any(starts, objective, limits, first)
        before = np.inf
        while self._value(objective) < before * _BETTER:
            before = self._value(objective)
            self._pass(starts, objective, [*limits, np.inf], _DIVE_NODES)

    def _find_any(
        self,
        starts: list[tuple[float, _Choice]],
        objective: Objective,
        limits: list[float],
        first: float,
    ) -> None:
        """Find a mapping: look at few chains below ever higher thresholds."""
        for wider in self._first_steps:
            if self.best is None:
                threshold = max(first, 1e-30) * wider
                self._pass(starts, objective, [*limits, threshold], self._first_nodes)

    @property
    def _first_steps(self) -> tuple[float, ...]:
        """Thresholds below which a first mapping is looked for, relative to the first bound."""
        return _WIDER[3:] if self._is_large else _WIDER

    @property
    def _first_nodes(self) -> int:
        """Nodes below each choice while a first mapping is looked for."""
        return _LONG_DIVE_NODES if self._is_large else _DIVE_NODES

    def _least(self, choice: _Choice, objective: Objective, limits: list[float]) -> float:
        """A bound of all chains of a choice within limits."""
        template, problem = choice.template, self.preparation.problem
        cycles = template.group_cycles
        energy = choice.floors + problem.mac_pj + problem.leak * cycles
        words = np.full_like(cycles, template.idle_words[0])
        admitted = (energy <= limits[0]) & (cycles <= limits[1]) & (words <= limits[2])
        admitted &= energy * cycles <= limits[3]
        code = self._code(objective)
        values = {
            kernels.ENERGY: energy, kernels.CYCLES: cycles, kernels.EDP: energy * cycles
        }.get(code, words)  # fmt: skip
        return float(values[admitted].min(initial=np.inf))

    def _narrowed(
        self, choice: _Choice, objective: Objective, limits: list[float]
    ) -> _Choice | None:
        """A choice without the classes of cycles that bounds exclude; `None` if they do all."""
        template = choice.template
        allowed = self._allowed(template, objective, limits)
        spare = _SLACK * np.abs(allowed + self.preparation.problem.mac_pj)
        kept = choice.floors <= allowed + 4 * spare
        if kept.all():
            return choice
        if not kept.any():
            return None
        return self._of_classes(choice, kept)

    def _refine(self, choice: _Choice, objective: Objective, limits: list[float]) -> _Choice | None:
        """Bound what is inside every single tile, for chains within limits.

        Returns: the choice with these bounds, with the tiles only that are left by them; `None` if
        none are.
        """
        problem, cycles = self.preparation.problem, choice.template.group_cycles
        allowed = self._allowed(choice.template, objective, limits)
        spare = _SLACK * np.abs(allowed + problem.mac_pj + problem.leak * cycles)
        if choice.reach is not None:
            holds = (allowed + spare <= choice.reach) & (allowed >= _BETTER * choice.reach)
            if holds.all():
                return choice
        allowed += 4 * spare  # sums in another order, ties
        template = with_bounds(choice.template)
        self.preparation.long(len(template.tiles), partial(lattice.reset_inside, template))
        pairs = _no_pairs(len(choice.stages), len(problem.uses))
        if not np.isfinite(allowed).all() or len(choice.stages) < 3:
            return replace(choice, template=template, pairs=pairs, reach=None)
        lists = self._meet(choice, template, allowed, float(limits[1]))
        if lists is None:
            return None
        rows = [pairs.row for pairs in lists]
        left = np.empty(len(template.tiles), np.bool_)
        lattice.lead_on(template, left)
        for stage in range(1, len(choice.stages) - 1):
            if len(rows[stage]):  # else all tiles are tried
                low, high = template.tile_start[stage + 1 : stage + 3]
                found = np.zeros(high - low, np.bool_)
                found[rows[stage] - low] = True
                left[low:high] &= found
        places = np.cumsum(left) - 1
        lists = [
            pairs._replace(row=places[pairs.row]) for pairs in map(partial(_among, left), lists)
        ]
        template = with_bounds(with_tiles(template, left))
        return replace(choice, template=template, pairs=_join_pairs(lists), reach=allowed)

    def _meet(
        self, choice: _Choice, template: Template, allowed: Floats, cycles: float
    ) -> list[kernels.Pairs] | None:
        """Fill the bounds of what is inside every tile, from the innermost stage outwards.

        Returns: by stage, the tiles and unrollings that are left; `None` if a stage has none.
        """
        problem = self.preparation.problem
        tiles, operands = int(np.prod(self.preparation.counts)), len(problem.uses)
        outside, inside = self._lattices(len(template.group_cycles))
        outer = np.cumsum([0.0, *self._least_edges(template)])
        most = float(allowed.max())
        lists = [_no_pairs(0, operands)] * len(choice.stages)
        for stage in range(len(choice.stages) - 2, 0, -1):
            self._check_time()
            before = float(outer[stage - 1])
            bound = partial(lattice.fill_outside, problem, template, stage, before, most, outside)
            self.preparation.long(tiles, bound)
            alike = alike_spreads(template, problem, stage, cycles)
            if alike is None:
                return None
            fill = partial(
                lattice.fill_inside, problem, template, stage, allowed, outside, inside, alike
            )
            count, lists[stage] = _list_pairs(self._watch, fill, operands, max(_FEW_PAIRS, tiles))
            if count == 0:
                return None
        return lists

    def _lattices(self, groups: int) -> tuple[lattice.Outside, lattice.Inside]:
        """Room for the bounds of what is outside and inside, for so many classes of cycles.

        It is kept for the next time: clearing fresh memory takes as long as filling it.
        """
        tiles, operands = int(np.prod(self.preparation.counts)), len(self.preparation.problem.uses)
        outside, inside = self.rooms or (None, None)
        if outside is None or inside is None or len(inside.inner) < groups:
            self.rooms = outside, inside = (
                lattice.Outside(
                    np.empty(tiles * (operands + 1)),
                    np.empty(tiles * operands),
                    np.empty(2 * operands + 1),
                ),
                lattice.Inside(
                    np.empty(groups * tiles * (operands + 1)),
                    np.empty(groups * tiles * operands),
                    np.zeros((groups, operands + 1), np.bool_),
                    np.empty(operands),
                    np.empty(operands + 1),
                    np.empty(operands + 1),
                    np.empty(operands + 1),
                    np.empty(groups),
                ),
            )
        return outside, inside

    def _allowed(self, template: Template, objective: Objective, limits: list[float]) -> Floats:
        """Energy that a chain worth finding may take at most, by class of cycles."""
        problem, cycles = self.preparation.problem, template.group_cycles
        best = min(limits[4], self._value(objective))
        allowed = np.minimum(np.full(len(cycles), limits[0]), limits[3] / cycles)
        if self._code(objective) == kernels.ENERGY:
            allowed = np.minimum(allowed, best)
        elif objective is Objective.EDP:
            allowed = np.minimum(allowed, best / cycles)
        return allowed - problem.mac_pj - problem.leak * cycles

    def _least_edges(self, template: Template) -> Iterator[float]:
        """The least energy of the edges into each boundary."""
        for c in range(1, len(template.level)):
            yield lattice.least_edges(self.preparation.problem, template, c)

    def _roots(
        self, choice: _Choice, objective: Objective, limits: list[float]
    ) -> tuple[Integers, Floats]:
        """The tiles of the outermost boundary that bounds do not exclude, the best first."""
        self._check_time()
        template, path, code = choice.template, choice.path, self._code(objective)
        _restart(self.preparation, template, path, limits, self._best_row(code))
        start, stop = template.tile_start[1], template.tile_start[2]
        floors = np.empty(stop - start)

        def bound() -> None:
            kernels.root_floors(self.preparation.problem, template, path, floors, code)

        def stop_bounding() -> None:
            path.counts[2] = 1

        if stop - start < LONG:
            bound()
        else:
            self._watch(bound, stop_bounding)
        order = np.argsort(floors, kind="stable")
        order = order[: int(np.searchsorted(floors[order], np.inf))]
        return order + start, floors[order]

    def _best_row(self, code: int) -> list[float]:
        if self.best is None:
            return [np.inf, np.inf, np.inf, np.inf, 0.0]
        cost = self.best
        parts = [self._charged(cost), float(cost.cycles), float(cost.dram_words)]
        return [kernels.objective_of(code, *parts), *parts, 0.0]

    def _go_through(
        self, choice: _Choice, objective: Objective, limits: list[float], nodes: int
    ) -> list[_Choice]:
        """Search all chains of a choice that bounds do not exclude.

        Returns: what is left to be searched, if that takes more than so many nodes for a part.
        """
        if len(choice.stages) == 1:
            self._keep([choice])
            self._try(choice, objective, limits, np.zeros(0, np.int64), 0, nodes)
            return []
        left: list[_Choice] = []
        for part in self._parts(choice, objective, limits):
            rest = self._go_through_part(part, objective, limits, nodes)
            left += [] if rest is None else [rest]
        return left

    def _keep(self, parts: list[_Choice]) -> None:
        """Note what may hold mappings as good as the best found."""
        if self.kept is not None:
            self.kept += parts

    def _parts(
        self, choice: _Choice, objective: Objective, limits: list[float]
    ) -> Iterator[_Choice]:
        """The classes of cycles that bounds do not exclude, so many at once as there is room for.

        Those that may be best come first.
        """
        template, problem = choice.template, self.preparation.problem
        entries = int(np.prod(self.preparation.counts)) * (2 * len(problem.uses) + 1)
        most, groups = max(1, _MOST_ENTRIES // entries), len(template.group_cycles)
        least = choice.floors + problem.mac_pj + problem.leak * template.group_cycles
        order = np.argsort(least * template.group_cycles, kind="stable")
        for first in range(0, groups, most):
            part = choice
            if groups > most:
                kept = np.zeros(groups, np.bool_)
                kept[order[first : first + most]] = True
                part = self._of_classes(choice, kept)
            narrowed = self._narrowed(part, objective, limits)
            if narrowed is not None:
                yield narrowed

    def _of_classes(self, choice: _Choice, kept: Mask) -> _Choice:
        """A choice with some classes of cycles only."""
        template = without_classes(choice.template, kept, self.preparation.problem)
        return replace(choice, template=template, floors=choice.floors[kept], reach=None)

    def _go_through_part(
        self, choice: _Choice, objective: Objective, limits: list[float], nodes: int
    ) -> _Choice | None:
        """Search all chains of a choice; what is left of it after so many nodes.

        Bounds are computed again, and exclude more, whenever much better ones have been found.
        """
        pause, noted, rest = _QUICK_NODES, False, choice
        while True:
            narrowed = self._narrowed(rest, objective, limits)
            if narrowed is None:
                return None
            before = self._value(objective)
            refined = self._refine(narrowed, objective, limits)
            if not noted and refined is not None:
                self._keep([refined])
            noted = True
            if refined is None:
                return None
            rows, _ = self._roots(refined, objective, limits)
            if not len(rows):
                return None
            at = 0
            while True:
                tried, taken = self._try(refined, objective, limits, rows, at, min(pause, nodes))
                at += tried
                nodes -= taken
                if refined.path.counts[2] == 0:
                    return None
                pause *= 4
                if nodes <= 0 or self._value(objective) < before * _BETTER:
                    break
            begun = self.is_first and self.best is not None  # others may have better ones
            left = np.ones(len(refined.template.tiles), np.bool_)
            left[: refined.template.tile_start[2]] = False
            left[rows[at:]] = True
            rest = replace(refined, template=with_tiles(refined.template, left), reach=None)
            if nodes <= 0 or begun:
                return rest

    def _try(  # noqa: PLR0913, PLR0917
        self,
        choice: _Choice,
        objective: Objective,
        limits: list[float],
        rows: Integers,
        first: int,
        nodes: int,
    ) -> tuple[int, int]:
        """Search below tiles of the outermost boundary, from the first on, within so many nodes.

        Returns: below how many of them all is done, and the nodes that it took.
        """
        code, at, taken, patience = self._code(objective), first, 0, _PATIENCE
        while True:
            _restart(self.preparation, choice.template, choice.path, limits, self._best_row(code))
            choice.path.counts[4] = patience
            choice.path.counts[5] = nodes - taken
            done = self._kernel(choice, rows, at, code)
            self._take(choice, objective, limits)
            at += done
            taken += int(choice.path.counts[3])
            if choice.path.counts[2] in (0, 3):
                return at - first, taken
            patience = _PATIENCE if done else min(_LOOSE, 4 * patience)
            if not done and choice.path.counts[1] >= _LOOSE:
                raise _OutOfTimeError  # more loose chains below one tile than can be told apart

    def _kernel(self, choice: _Choice, rows: Integers, first: int, code: int) -> int:
        """Run the search in a thread, so that time and Ctrl-C can stop it."""
        problem, path, done = self.preparation.problem, choice.path, [0]

        def work() -> None:
            if len(choice.stages) == 1:
                kernels.finish_alone(problem, choice.template, path, code)
            else:
                done[0] = kernels.try_tiles(
                    problem, choice.template, path, choice.pairs, rows, first, len(rows), code
                )

        def stop() -> None:
            path.counts[2] = 1

        try:
            self._watch(work, stop)
        except BaseException:
            self._take(choice, self.objective, None)
            raise
        self.evaluated += int(path.counts[0])
        return done[0]

    def _run(self, work: Callable[[Integers], None]) -> None:
        """Do long work on lists in a thread."""
        flag = np.zeros(1, np.int64)

        def stop() -> None:
            flag[0] = 1

        self._watch(partial(work, flag), stop)

    def _watch(self, work: Callable[[], None], stop: Callable[[], None]) -> None:
        """Run compiled work in a thread; stop it when time is over or Ctrl-C is pressed."""
        thread = threading.Thread(target=work)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.02)
                self._check_time()
                self._report(pause=_PAUSE)
        except BaseException:
            stop()
            thread.join()
            raise

    def _take(self, choice: _Choice, objective: Objective, limits: list[float] | None) -> None:
        """Price what the kernel has found, exactly."""
        path = choice.path
        if path.best[4]:
            chain = _Chain(path.best_tile, path.best_spread, path.best_class)
            self._offer(objective, limits, self._mappings(choice, chain, loose=False))
        passes = (False, True) if limits is not None else (False,)
        for loose in passes:  # orders of the class first: often they cost what is bounded
            for value, chain, level in _waiting(path):
                if value >= self._value(objective) * (1 - kernels.TIE):
                    break
                if loose and level < 2:
                    continue
                key = chain.key(choice.stages, ordered=not loose)
                if key not in self.known:
                    self._offer(objective, limits, self._mappings(choice, chain, loose=loose))
                    self.known.add(key)

    def _offer(
        self, objective: Objective, limits: list[float] | None, mappings: Iterable[Mapping]
    ) -> None:
        """Price mappings and keep the best."""
        for mapping in mappings:
            if limits is not None:
                self._check_time()
            try:
                cost = self.evaluator.price(mapping)
            except InfeasibleError:
                continue
            self.evaluated += 1
            parts = self._charged(cost), cost.cycles, cost.dram_words, cost.edp
            if limits is not None and any(
                part > most for part, most in zip(parts, limits[:4], strict=True)
            ):
                continue
            if self.best is None or objective.of(cost) < objective.of(self.best):
                self.best = cost

    def _report(self, pause: float = 0.0) -> None:
        """Tell how far the search has come, unless that was told within the last seconds."""
        if time.monotonic() - self.reported < pause:
            return
        self.reported = time.monotonic()
        incumbent = None if self.best is None else self.objective.of(self.best)
        self.on_progress(Progress(incumbent, self.bound, self.evaluated))

    def _mappings(self, choice: _Choice, chain: "_Chain", *, loose: bool) -> Iterator[Mapping]:
        """The mapping of a chain; where its price is loose, with every order that may matter."""
        orders = [
            list(self._orders(choice, chain, stage, loose=loose))
            for stage in range(len(choice.stages))
        ]
        for chosen in product(*orders):
            yield self._mapping(choice, chain, chosen)

    def _orders(
        self, choice: _Choice, chain: "_Chain", stage: int, *, loose: bool
    ) -> Iterator[tuple[int, ...]]:
        problem = self.preparation.problem
        stay, slide, glide, near = (int(value) for value in chain.classes[stage])
        moved = [
            dim
            for dim in range(len(problem.sizes))
            if self._extent(chain, stage, dim) > 1
        ]  # fmt: skip
        given = tuple(int(d) for d in choice.template.order[stage] if d in moved)
        if loose and stage < len(chain.classes) - 1:
            if len(given) > 1:
                yield from allowed_orders(tuple(moved), given, tuple(map(int, problem.uses)))
                return
            yield from _representatives(moved, problem.uses)
            return
        outside = blocked(given, moved, int(problem.uses[stay])) if stay >= 0 else ()
        free = [d for d in moved if stay >= 0 and not problem.uses[stay] >> d & 1 and d != slide]
        if given:
            free = [d for d in free if d not in outside]
            inner = [d for d in (slide,) if d in moved]
            outer = [d for d in (glide,) if d in moved and d not in inner and d not in free]
            rest = [d for d in moved if d not in inner and d not in free and d not in outer]
            yield (*in_order(rest, given), *outer, *in_order(free, given), *inner)
            return
        if stay == problem.slider:
            last = (near, glide, *free, slide)
        elif near in free:
            last = (glide, *(d for d in free if d != near), near, slide)
        elif near >= 0:
            last = (near, slide)
        else:
            last = (glide, *free, slide)
        last = tuple(d for d in last if d in moved)
        yield (*(d for d in moved if d not in last), *dict.fromkeys(last))

    def _extent(self, chain: "_Chain", stage: int, dim: int) -> int:
        val = self.preparation.problem.val[dim]
        outer, inner = val[chain.tiles[stage, dim]], val[chain.tiles[stage + 1, dim]]
        return int(outer // (inner * val[chain.spreads[stage, dim]]))

    def _mapping(
        self, choice: _Choice, chain: "_Chain", orders: tuple[tuple[int, ...], ...]
    ) -> Mapping:
        names, levels = self.preparation.dims, self.preparation.hardware.levels
        blocks: list[Block] = []
        for k, stage in enumerate(choice.stages):
            temporal = tuple(Loop(names[d], self._extent(chain, k, d)) for d in orders[k])
            spatial = self._spatial(choice, chain, k) if stage.fan >= 0 else ()
            kept = tuple(
                o.name for o in self.preparation.workload.operands if o.name in stage.keeps
            )
            head = levels[stage.level].memory
            if stage.fan in (-1, stage.level):
                blocks.append(Block(head, kept, temporal, spatial))
            else:
                blocks.append(Block(head, kept, temporal))
                blocks.append(Block(levels[stage.fan].memory, (), (), spatial))
        return Mapping(tuple(blocks))

    def _spatial(self, choice: _Choice, chain: "_Chain", stage: int) -> tuple[Loop, ...]:
        problem, names = self.preparation.problem, self.preparation.dims
        vector = chain.spreads[stage]
        along_x = self.preparation.spreads(choice.stages[stage].fan).along_x(vector)
        loops: list[Loop] = []
        for dim, name in enumerate(names):
            x = int(along_x[dim])
            y = int(problem.val[dim, vector[dim]]) // x
            loops += [Loop(name, extent, axis) for extent, axis in ((x, "x"), (y, "y"))]
        return tuple(loop for loop in loops if loop.extent > 1)


@dataclass(frozen=True, slots=True)
class _Chain:
    """Tiles, unrollings and classes of orders: what a mapping is made from."""

    tiles: Integers
    spreads: Integers
    classes: Integers

    def key(self, stages: list[Stage], *, ordered: bool) -> bytes:
        kept = ";".join(f"{s.level} {','.join(sorted(s.keeps))}" for s in stages).encode()
        orders = self.classes.tobytes() if ordered else b"any"
        return self.tiles.tobytes() + self.spreads.tobytes() + orders + kept


def _waiting(path: kernels.Path) -> Iterator[tuple[float, _Chain, int]]:
    """The chains whose price is loose, the least first, and how loose it is."""
    values = path.buffer_value[: int(path.counts[1])]
    for index in np.argsort(values, kind="stable"):
        chain = _Chain(path.buffer_tile[index], path.buffer_spread[index], path.buffer_class[index])
        yield float(values[index]), chain, int(path.buffer_loose[index])


def _representatives(moved: list[int], uses: Integers) -> Iterator[tuple[int, ...]]:
    """Orders, outermost first, one for every way in which tiles can be kept.

    What an operand keeps is decided by the loops up to the second that indexes it, seen from
    inside: orders that agree there, for every operand, count the same.
    """
    if len(moved) <= 3:
        yield from permutations(moved)
        return
    seen: set[tuple[int, ...]] = set()
    for inner in permutations(moved, 3):
        rest = tuple(d for d in moved if d not in inner)
        for free in _free_runs(rest, uses):
            order = (*(d for d in rest if d not in free), *inner[:1], *free, *inner[1:])
            for candidate in (order, (*(d for d in rest if d not in free), *inner, *free)):
                if candidate not in seen:
                    seen.add(candidate)
                    yield candidate


def _free_runs(rest: tuple[int, ...], uses: Integers) -> Iterator[tuple[int, ...]]:
    yield ()
    for mask in uses:
        run = tuple(d for d in rest if not int(mask) >> d & 1)
        if run:
            yield run


def _without_lists(choice: _Choice) -> _Choice:
    """A choice that holds what is needed to tell when it is worth searching."""
    none = np.zeros(0, np.int64)
    lists = ("tiles", "fills", "still", "may_wait", "quick", "row_best", "row_known", "quick_total")
    empty = dict.fromkeys((*lists, "front", "inside", "rent"), none)
    return replace(choice, template=choice.template._replace(**empty), lacks_lists=True)


def _no_pairs(stages: int, operands: int, room: int = 0) -> kernels.Pairs:
    row, spread, code = (np.empty(room, np.int64) for _ in range(3))
    floors, start = np.empty((room, operands + 1)), np.zeros(stages + 1, np.int64)
    return kernels.Pairs(row, spread, np.empty(room), floors, code, start, start[:0])


def _list_pairs(
    watch: Watch, fill: Callable[[kernels.Pairs], int], operands: int, few: int
) -> tuple[int, kernels.Pairs]:
    """Have a list filled, with room for a few at first; how many there are, and those that fit."""
    room = _no_pairs(0, operands, few)
    count = _fill_list(watch, fill, room)
    if count > _MOST_PAIRS:
        return count, _no_pairs(0, operands)
    if count > few:
        room = _no_pairs(0, operands, count)
        _fill_list(watch, fill, room)
    order = np.argsort(room.key[:count], kind="stable")
    return count, _chosen_pairs(room, order)


def _chosen_pairs(pairs: kernels.Pairs, which: Integers | Mask) -> kernels.Pairs:
    return kernels.Pairs(
        pairs.row[which],
        pairs.spread[which],
        pairs.key[which],
        pairs.floors[which],
        pairs.code[which],
        pairs.start,
        pairs.chosen,
    )


def _among(rows: Mask, pairs: kernels.Pairs) -> kernels.Pairs:
    """Those whose tiles are among some."""
    return _chosen_pairs(pairs, rows[pairs.row])


def _fill_list(watch: Watch, fill: Callable[[kernels.Pairs], int], room: kernels.Pairs) -> int:
    found = [0]

    def work() -> None:
        found[0] = fill(room)

    def stop() -> None:
        room.start[0] = 1

    watch(work, stop)
    return found[0]


def _join_pairs(lists: list[kernels.Pairs]) -> kernels.Pairs:
    start = np.cumsum([0, *(len(pairs.key) for pairs in lists)])
    return kernels.Pairs(
        np.concatenate([pairs.row for pairs in lists]),
        np.concatenate([pairs.spread for pairs in lists]),
        np.concatenate([pairs.key for pairs in lists]),
        np.concatenate([pairs.floors for pairs in lists]),
        np.concatenate([pairs.code for pairs in lists]),
        start,
        np.empty(start[-1] + 1, np.int64),
    )


def _make_path(problem: kernels.Problem, template: Template) -> kernels.Path:
    stages, dims, levels = len(template.level), len(problem.sizes), len(problem.width)

    def whole(*shape: int) -> Integers:
        return np.zeros(shape, np.int64)

    return kernels.Path(
        tile=whole(stages + 1, dims + 1),
        spread=whole(stages, dims + 1),
        span=whole(stages, dims + 1),
        moved=whole(stages),
        stay=whole(stages),
        slide=whole(stages),
        glide=whole(stages),
        blocked=whole(stages),
        near=whole(stages),
        energy=np.zeros(stages + 1),
        words=np.zeros(stages + 1),
        reads=np.zeros((stages + 1, levels)),
        writes=np.zeros((stages + 1, levels)),
        copies=np.ones(stages + 1),
        ahead=np.zeros(stages + 1),
        due=np.zeros((stages, stages + 1)),
        loose=whole(stages + 1),
        row=whole(stages + 1),
        group=whole(stages + 1),
        limits=np.zeros(5),
        best=np.zeros(5),
        best_tile=whole(stages + 1, dims + 1),
        best_spread=whole(stages, dims + 1),
        best_class=whole(stages, 4),
        buffer_tile=whole(_LOOSE, stages + 1, dims + 1),
        buffer_spread=whole(_LOOSE, stages, dims + 1),
        buffer_class=whole(_LOOSE, stages, 4),
        buffer_value=np.zeros(_LOOSE),
        buffer_loose=whole(_LOOSE),
        allowed=np.zeros(stages),
        stays=np.zeros((stages, len(problem.uses))),
        carry=np.zeros((stages + 1, len(problem.uses))),
        trial=np.zeros(len(problem.uses)),
        edge=np.zeros(len(problem.uses)),
        waits=np.zeros(len(problem.uses), np.bool_),
        is_worth=np.ones((stages, len(problem.uses) + 1), np.bool_),
        is_open=np.ones((stages, len(template.group_cycles)), np.bool_),
        next_row=whole(stages),
        next_spread=whole(stages),
        next_class=whole(stages),
        class_count=whole(stages),
        choosing=whole(stages, 3),
        classes=whole(stages, 64, 4),
        counts=whole(6),
    )


def _restart(
    preparation: Preparation,
    template: Template,
    path: kernels.Path,
    limits: list[float],
    best: list[float],
) -> None:
    """Put a path back to its beginning: the whole workload as the outermost tile."""
    dims = len(preparation.problem.sizes)
    path.tile[0, :dims] = preparation.counts - 1
    path.row[0] = len(template.still) - 1
    path.carry[0] = preparation.problem.distinct
    path.group[:] = -1 if template.primary >= 0 else 0
    path.loose[:] = 0
    path.choosing[:, 2] = -1
    path.limits[:] = limits
    path.best[:] = best
    path.counts[:] = 0
