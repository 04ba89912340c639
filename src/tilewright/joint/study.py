"""Hardware and mappings found together: the study, from start to proved finish.

Owns: `codesign`, the nouns `Study` and `StudyProgress`, and what a run directory's journal says.

Non-goals: one round of the search (`joint/population.py`), one finish (`joint/finish.py`).
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import jax
import numpy as np

from tilewright.errors import InfeasibleError, InputError, Problem, Violation
from tilewright.folders import cache_folder
from tilewright.ir.mapping import Mapping as Mapping_
from tilewright.ir.workload import Layer, Network
from tilewright.joint.crew import Crew, Solved, make_crew
from tilewright.joint.exhaustive import MOST_CHIPS, certify_fastest, solve_space
from tilewright.joint.finish import Finisher, Point, SolveKey
from tilewright.joint.genome import as_genes, as_mapping, join_genes, simplest
from tilewright.joint.goal import Goal, Metric, find_metric
from tilewright.joint.journal import Journal
from tilewright.joint.population import (
    COLUMNS,
    WORTHS,
    Columns,
    Population,
    Start,
    StoppedError,
    Task,
    begin,
    drawn_starts,
    evaluations_of_round,
    gathered,
    make_task,
    population_of,
    price_on,
    run_round,
    shelve,
    with_goals,
)
from tilewright.joint.relaxed import gradients_of_starts, relaxed_starts
from tilewright.joint.shelf import best_for
from tilewright.joint.sites import area_of
from tilewright.joint.space import Space
from tilewright.mapper.processes import stop_on_interrupt

SEATS = 16
EVALUATIONS = 10_000_000
"""Mappings priced by a study that is bounded by nothing else."""
FORMAT = 4
_SEARCH_SHARE = 0.5
"""Of a stage's time; the rest is for its finish."""
_RESERVE = 0.02
"""Of all time, kept for what cannot be stopped."""
_PATIENCE = 1.2
"""By how much the finish of one chip may exceed its share of the time."""
_LEAST_SECONDS = 0.5
_PAUSE_S = 0.05
_SIMPLE_CHIPS = 4
_RELAXED = 2**31 - 1
"""The round that begins from relaxed starts."""
_RELAXED_EVALUATIONS, _RELAXED_SECONDS = 5_000_000, 120.0
"""From which size of a study on gradients are worth their compilation."""
_FINISHED = 3
"""Chips that are finished for one goal."""
_LAYER_SECONDS = 20.0
"""For one layer on one chip, in a study bounded by time."""


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """How far a study has come.

    Attributes:
        stage: what it does.
        done: the part that is done, from 0 to 1.
        evaluations: mappings priced so far.
        best: the objective of the best design known, in its unit; `None` if there is none.
    """

    stage: str
    done: float
    evaluations: int
    best: float | None


OnProgress = Callable[[StudyProgress], None]


@dataclass(frozen=True, slots=True)
class Study:
    """What was found.

    Attributes:
        networks: names and weights.
        space: what was searched.
        goal: what was minimised, and the bounds.
        versus: the metric whose bound was swept; `None` for one point.
        points: finished designs, all of them.
        evaluations: mappings priced in batches.
        solved: layers that the mapper mapped.
        seconds: that it took.
        seed: of the random choices.
        interrupted: whether it was stopped.
    """

    networks: tuple[tuple[str, float], ...]
    space: Space
    goal: Goal
    versus: Metric | None
    points: tuple[Point, ...]
    evaluations: int
    solved: int
    seconds: float
    seed: int
    interrupted: bool = False

    @property
    def best(self) -> Point | None:
        """The best for the goal that keeps its bounds."""
        found = [p for p in self.points if not self.goal.excess(p.totals)]
        return min(found, key=lambda p: (p.value_of(self.goal.objective), *p.key()), default=None)

    @property
    def front(self) -> tuple[Point, ...]:
        """Points that no other beats, by the objective and the swept metric; or the best."""
        if self.versus is None:
            return () if self.best is None else (self.best,)
        kept = [p for p in self.points if not self.goal.excess(p.totals)]
        return front_of(kept, self.versus, self.goal.objective)

    def to_json(self) -> dict[str, object]:
        """The document of `codesign --json` (`docs/codesign.md`, Results)."""
        document: dict[str, object] = {
            "networks": [{"name": name, "weight": weight} for name, weight in self.networks],
            "space": self.space.to_json(),
            "objective": self.goal.objective.value,
            "bounds": {metric.key: bound for metric, bound in self.goal.bounds},
            "versus": None if self.versus is None else self.versus.value,
            "front": [point.to_json() for point in self.front],
            "evaluations": self.evaluations,
            "solved": self.solved,
            "seconds": self.seconds,
        }
        return document | ({"interrupted": True} if self.interrupted else {})


def front_of(points: Sequence[Point], first: Metric, second: Metric) -> tuple[Point, ...]:
    """Those that no other beats in both metrics, in order of the first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.totals.of(first), p.totals.of(second))):
        if not found or point.totals.of(second) < found[-1].totals.of(second):
            found.append(point)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a study ends: after so many mappings priced, or so many seconds."""

    evaluations: int | None = None
    seconds: float | None = None


def codesign(  # noqa: PLR0913
    networks: Network | Sequence[tuple[Network, float]],
    space: Space,
    *,
    objective: str | Metric = Metric.LATENCY,
    bounds: Mapping[str, float] | None = None,
    points: int = 1,
    versus: str | Metric | None = None,
    evaluations: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    jobs: int = 1,
    cluster: str | None = None,
    run: Path | str | None = None,
    exhaustive: bool | None = None,
    on_progress: OnProgress = lambda _: None,
) -> Study:
    """Find a chip of a space, and a mapping of every layer on it, for networks.

    Args:
        networks: one, or several with weights: their energies and cycles, times the weights, add.
        space: the chips.
        objective: `latency`, `energy`, `power`, `area` or `edp`: what is minimised.
        bounds: the most that others may be, by name: seconds, pJ, W, mm², pJ · cycles.
        points: how many points of a front to look for.
        versus: the metric whose bound is swept for them; power if left out, or latency.
        evaluations: mappings to price in batches; 10 million if no time is given either. The same
            seed then gives the same answer.
        seconds: for all together.
        seed: of the random choices.
        jobs: processes that map layers, and batches side by side.
        cluster: the address of a Dask scheduler, whose workers map layers.
        run: a directory to keep a journal in; with the one of an earlier study that was killed,
            that study goes on.
        exhaustive: map on every chip that no bound excludes, so that the answer is certified; what
            small spaces get if nothing is said. Fronts then are against the area.
        on_progress: told now and then how far it has come.

    Returns: the finished designs. Every number of theirs is by `exact`. After Ctrl-C, those that
        there are, `interrupted`.

    Raises:
        InputError: for a bound that is no bound, or an area that is not known.
        InfeasibleError: no chip of the space was found that keeps the bounds; names the bound that
            fails, and by how much.

    >>> import tilewright as tw
    >>> study = codesign(tw.load("resnet18"), tw.load_space("eyeriss-space"))  # doctest: +SKIP

    Source: `docs/codesign.md`.
    """
    began = time.monotonic()
    keep_programs()
    pairs = [(networks, 1.0)] if isinstance(networks, Network) else list(networks)
    goal = make_goal(objective, bounds or {})
    against = _versus(goal, versus, points)
    check_area(space, goal, against)
    layers = gather_layers(pairs)
    limits = Limits(evaluations, seconds)
    if evaluations is None and seconds is None:
        limits = Limits(EVALUATIONS, None)
    whole = _whole(space, against, exhaustive)
    header = _header(pairs, space, goal, against, points, limits, seed) | {"exhaustive": whole}
    stop = Event()
    folder = None if run is None else Path(run)
    with (
        Journal(folder, header) as journal,
        make_crew(jobs, cluster) as crew,
        stop_on_interrupt(stop),
    ):
        work = _Work(make_task(space, layers, jobs), goal, limits, seed, journal, stop, on_progress)
        work.began = began - work.spent_before()
        if whole:
            found = work.enumerate(crew, against)
        else:
            found = certify_fastest(work.search(crew, against, points), space, layers)
    study = Study(
        tuple((network.name, weight) for network, weight in pairs),
        space,
        goal,
        against,
        tuple(found),
        work.evaluations,
        len(work.solved),
        time.monotonic() - began,
        seed,
        stop.is_set(),
    )
    if study.best is None and not study.interrupted:
        raise InfeasibleError(explain(work.task, goal, found, work.last))
    return study


def keep_programs() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX was told where, or not to."""
    settings: Any = jax.config
    if settings.jax_compilation_cache_dir is not None or not settings.jax_enable_compilation_cache:
        return
    with suppress(OSError):
        folder = cache_folder("jax")
        folder.mkdir(parents=True, exist_ok=True)
        settings.update("jax_compilation_cache_dir", str(folder))


def make_goal(objective: str | Metric, bounds: Mapping[str, float]) -> Goal:
    """The goal of names and numbers. Raises `InputError` for what is no metric or no bound."""
    return Goal(
        find_metric(objective),
        tuple((find_metric(name), float(bound)) for name, bound in sorted(bounds.items())),
    )


def _versus(goal: Goal, versus: str | Metric | None, points: int) -> Metric | None:
    if points < 1:
        raise InputError(Problem(f"{points} points: at least 1", "write 10"))
    if points == 1:
        return None
    if versus is None:
        return Metric.LATENCY if goal.objective is not Metric.LATENCY else Metric.POWER
    found = find_metric(versus)
    if found is goal.objective:
        what = f"the bound of {found.value} is swept, but it is the objective"
        raise InputError(Problem(what, "sweep another metric"))
    return found


def _whole(space: Space, versus: Metric | None, exhaustive: bool | None) -> bool:
    """Whether the space is solved to its end."""
    possible = not space.continuous and versus in (None, Metric.AREA)
    if exhaustive and not possible:
        what = (
            "a space with continuous ranges, or a front against anything but the area, has no end"
        )
        raise InputError(Problem(what, "give steps (times: 2), and sweep the area"))
    return possible and space.size <= MOST_CHIPS if exhaustive is None else exhaustive


def check_area(space: Space, goal: Goal, versus: Metric | None) -> None:
    """Refuse to ask for an area that is not known."""
    wanted = Metric.AREA in (*goal.metrics, versus)
    if wanted and area_of(space.chip([0] * len(space.variables))) is None:
        what = f"areas of {space.name} are not known"
        raise InputError(Problem(what, "name a `technology` in the space, fitted45 for one"))


def gather_layers(pairs: Sequence[tuple[Network, float]]) -> list[tuple[Layer, float]]:
    """The layers of all networks with their weights; equal ones of different networks apart."""
    problems = [
        Problem(f"the weight of {network.name} is {weight}: it must be above 0", "write 1")
        for network, weight in pairs
        if not (math.isfinite(weight) and weight > 0)
    ]
    if problems or not pairs:
        raise InputError(problems or Problem("no network is given", "resnet18 is one"))
    return [(layer, float(weight)) for network, weight in pairs for layer in network.layers]


def _header(  # noqa: PLR0913, PLR0917
    pairs: Sequence[tuple[Network, float]],
    space: Space,
    goal: Goal,
    versus: Metric | None,
    points: int,
    limits: Limits,
    seed: int,
) -> dict[str, Any]:
    """What the first line of a journal says: all that the answer depends on."""
    layers = repr([(network.layers, weight) for network, weight in pairs])
    return {
        "kind": "study",
        "format": FORMAT,
        "networks": [network.name for network, _ in pairs],
        "layers": hashlib.sha256(layers.encode()).hexdigest(),
        "space": hashlib.sha256(repr((space.template, space.variables)).encode()).hexdigest(),
        "objective": goal.objective.value,
        "bounds": {metric.key: bound for metric, bound in goal.bounds},
        "versus": None if versus is None else versus.value,
        "points": points,
        "evaluations": limits.evaluations,
        "seconds": limits.seconds,
        "seed": seed,
    }


@dataclass(slots=True)
class _Work:
    """A study at work."""

    task: Task
    goal: Goal
    limits: Limits
    seed: int
    journal: Journal
    stop: Event
    on_progress: OnProgress
    evaluations: int = 0
    began: float = 0.0
    solved: dict[SolveKey, Solved] = field(default_factory=dict[SolveKey, Solved])
    rounds: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    last: Population | None = None

    def spent_before(self) -> float:
        """Seconds that a study bounded by time had worked before it was killed."""
        if self.limits.seconds is None or not self.journal.earlier:
            return 0.0
        return min(float(self.journal.earlier[-1]["spent"]), self.limits.seconds)

    def _note(self, record: dict[str, Any]) -> None:
        """Into the journal, with the time that is spent if that bounds the study."""
        bounded = self.limits.seconds is not None
        spent = {"spent": round(time.monotonic() - self.began, 3)} if bounded else {}
        self.journal.append(record | spent)

    def _finisher(self, crew: Crew) -> Finisher:
        recalled = self._recall()
        task, known = self.task, self.solved
        if self.limits.seconds is not None:  # what is known is used, whenever it became known
            known.update(recalled)
        return Finisher(task.space, task.layers, crew, None, recalled, known, self._note_solved)

    def enumerate(self, crew: Crew, versus: Metric | None) -> list[Point]:
        """Every chip that no bound excludes."""

        def told(done: int, of: int, points: list[Point]) -> None:
            values = [point.value for point in points if point.feasible]
            progress = StudyProgress("solving chips", done / of, 0, min(values, default=None))
            self.on_progress(progress)

        return solve_space(
            self._finisher(crew),
            self.goal,
            front=versus is not None,
            stop=self.stop.is_set,
            on_chip=told,
        )

    def search(self, crew: Crew, versus: Metric | None, points: int) -> list[Point]:
        """Rounds of local search from cheap starts, and finishes in between."""
        finisher = self._finisher(crew)
        if versus is None:
            stages = [([self.goal] * SEATS, 0.6), ([self.goal] * SEATS, 0.4)]
            return self._run(stages, finisher, _FINISHED)
        ends = [self.goal] * (SEATS // 2) + [Goal(versus, self.goal.bounds)] * (SEATS // 2)
        now = self._rounds(None, ends, 0.0, 0.25, 1.0)
        if now is None:
            return self._simplest(finisher, ends)
        goals = swept(self.task, now, self.goal, versus, points)
        stages = [(goals, 0.45), (goals, 0.3)]
        return self._run(stages, finisher, 1, now, 0.25)

    def _run(
        self,
        stages: Sequence[tuple[list[Goal], float]],
        finisher: Finisher,
        finished: int,
        now: Population | None = None,
        share: float = 0.0,
    ) -> list[Point]:
        """Search and finish in turns; what is proved goes back into the search."""
        found: list[Point] = []
        for goals, part in stages:
            now = self._rounds(now, goals, share, part)
            share += part
            if now is None:
                return self._simplest(finisher, goals)
            fresh = self._finish(now, finisher, finished, share)
            found += fresh
            if not self._halted():
                now = seated(self.task, now, fresh, 1 + round(1e6 * share))
        self.last = now
        return found

    def _recall(self) -> dict[SolveKey, Solved]:
        """Notes the rounds of the journal; returns the layers that were mapped."""
        found: dict[SolveKey, Solved] = {}
        for record in self.journal.earlier:
            if record["kind"] == "round":
                self.rounds[record["round"]] = record
            elif record["kind"] == "solved":
                choice, layer, objective = record["key"]
                found[tuple(choice), layer, objective] = Solved(*record["found"])
        return found

    def _note_solved(self, key: SolveKey, solved: Solved) -> None:
        choice, layer, objective = key
        self._note(
            {"kind": "solved", "key": [list(choice), layer, objective], "found": solved.to_json()}
        )
        if self.evaluations:
            self._report("mapping layers", None)

    def _rounds(
        self,
        now: Population | None,
        goals: list[Goal],
        share: float,
        part: float,
        busy: float = _SEARCH_SHARE,
    ) -> Population | None:
        """The rounds of a stage: those of `part` of all, `share` being done before.

        In a study bounded by time they get the share `busy` of the part's.
        """
        if now is None:
            now = self._first(goals)
        elif now.goals != goals:
            now = with_goals(self.task, now, goals)
        if now is None:
            return None
        for number in self._numbers(share, part, busy):
            if self._halted() and number not in self.rounds:
                break
            after = self._round(now, number)
            if after is None:
                break
            now = after
        return now

    def _round(
        self, now: Population, number: int, starts: Columns | None = None
    ) -> Population | None:
        """A round, or the one of the journal; `None` if it was stopped."""
        record = self.rounds.get(number)
        if record is not None:
            now = population_of(record["state"], now.goals, self.task, now, number)
        else:
            try:
                now = run_round(
                    self.task, now, self.seed, number, should_stop=self._halted, starts=starts
                )
            except StoppedError:
                return None
            self._note_round(number, now)
        self.evaluations += evaluations_of_round(self.task, whole=number == _RELAXED)
        self._report("searching", now)
        return now

    def _first(self, goals: list[Goal]) -> Population | None:
        """The first designs; `None` if it was stopped before there were any."""
        random = np.random.default_rng([self.seed, 0])
        starts = drawn_starts(self.task, goals, random)
        record = self.rounds.get(0)
        halted = self._halted if record is None else self.stop.is_set
        if not self._alone(lambda: warm(self.task, starts), halted):
            return None
        if record is not None:
            now = population_of(record["state"], goals, self.task, None, 0)
        else:
            try:
                now = begin(self.task, goals, starts, self.seed, self._halted)
            except StoppedError:
                return None
            self._note_round(0, now)
        self.evaluations += evaluations_of_round(self.task, first=True)
        self._report("searching", now)
        return self._relaxed(now) if self._relaxes() else now

    def _relaxes(self) -> bool:
        """Whether there is so much to do that gradients are worth their compilation."""
        if self.limits.evaluations is not None:
            return self.limits.evaluations >= _RELAXED_EVALUATIONS
        return (self.limits.seconds or 0.0) >= _RELAXED_SECONDS

    def _relaxed(self, now: Population) -> Population:
        """A round from relaxed starts; the same population if it was stopped before its end."""
        found: list[Start] = []
        if _RELAXED not in self.rounds:
            random = np.random.default_rng([self.seed, _RELAXED])
            goals = now.goals
            starts = partial(relaxed_starts, self.task, goals, random)
            if not self._alone(lambda: found.extend(starts()), self._halted):
                return now
        self.evaluations += gradients_of_starts(self.task)
        return self._round(now, _RELAXED, gathered(found) if found else None) or now

    @staticmethod
    def _alone(work: Callable[[], object], halted: Callable[[], bool]) -> bool:
        """Do what cannot be stopped, such as compiling, in a thread; whether it came to its end.

        If it is stopped, nobody waits for the thread.
        """
        failed: list[BaseException] = []

        def run() -> None:
            try:
                work()
            except BaseException as error:
                failed.append(error)

        thread = Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_PAUSE_S)
            if thread.is_alive() and halted():
                return False
        if failed:
            raise failed[0]
        return True

    def _halted(self) -> bool:
        """Whether nothing more may be begun: Ctrl-C, or nearly no time is left."""
        return self.stop.is_set() or time.monotonic() > self._clock(1 - 2 * _RESERVE)

    def _simplest(self, finisher: Finisher, goals: Sequence[Goal]) -> list[Point]:
        """Points of a study that was stopped before its first round: the simplest mappings."""
        starts = drawn_starts(self.task, goals, np.random.default_rng([self.seed, 0]))
        found: list[Point] = []
        for goal in dict.fromkeys(goals):
            for choice in starts[0][:_SIMPLE_CHIPS]:
                chip, (_, present) = self.task.space.chip(choice), self.task.space.levels(choice)
                drafts = [
                    [
                        as_mapping(
                            simplest(arrays, self.task.frame, 1),
                            0,
                            layer.workload,
                            chip,
                            present,
                            self.task.frame,
                        )
                    ]
                    for arrays, (layer, _) in zip(self.task.arrays, self.task.layers, strict=True)
                ]
                point = finisher.as_known(goal, choice, drafts)
                found += [] if point is None else [point]
        return found

    def _note_round(self, number: int, now: Population) -> None:
        self._note({"kind": "round", "round": number, "state": now.to_json()})

    def _numbers(self, share: float, part: float, busy: float) -> Iterator[int]:
        """Numbers of the rounds of a stage; at least one."""
        if self.limits.evaluations is not None:
            left = self.limits.evaluations - evaluations_of_start(
                self.task, relaxed=self._relaxes()
            )
            whole = max(2, left // evaluations_of_round(self.task))
            yield from range(1 + round(whole * share), 1 + round(whole * (share + part)))
            return
        end = self._clock(share + part * busy)
        number = 1 + round(1e6 * share)
        yield number
        while time.monotonic() < end or number + 1 in self.rounds:
            number += 1
            yield number

    def _finish(self, now: Population, finisher: Finisher, count: int, share: float) -> list[Point]:
        """The best chips of every goal, mapped by the optimal mapper while there is time."""
        if self._halted():
            count = 1
        ends = self._clock(share - _RESERVE)
        chosen = [
            (goal, seat)
            for goal in dict.fromkeys(now.goals)
            for seat in self._ranked(now, finisher, goal)[:count]
        ]
        found: list[Point] = []
        for number, (goal, seat) in enumerate(chosen):
            left = (ends - time.monotonic()) / (len(chosen) - number)
            choice = now.choices[seat]
            drafts = drafts_of(self.task, now, seat, whole=not self._halted())
            if self.stop.is_set() or left < _LEAST_SECONDS:
                point = finisher.as_known(goal, choice, drafts)
            else:
                if self.limits.seconds is not None:
                    finisher.seconds = self._layer_seconds(left)
                late = time.monotonic() + left * _PATIENCE
                point = finisher.finish(goal, choice, drafts, self._stop_at(late))
            found += [] if point is None else [point]
        return found

    def _stop_at(self, late: float) -> Callable[[], bool]:
        return lambda: self.stop.is_set() or time.monotonic() > late

    def _layer_seconds(self, left: float) -> float:
        """For one layer, if all layers of a chip are to be mapped in so much time."""
        share = left * self.task.jobs / len(self.task.layers)
        return min(_LAYER_SECONDS, max(_LEAST_SECONDS, share))

    def _clock(self, share: float) -> float:
        """When so much of the study's time is spent; never, if it is not bounded by time."""
        return math.inf if self.limits.seconds is None else self.began + self.limits.seconds * share

    def _ranked(self, now: Population, finisher: Finisher, goal: Goal) -> list[int]:
        """The seats of a goal with different chips, the best by `exact` first."""
        seats = [seat for seat in range(now.seats) if now.goals[seat] == goal]
        first = {now.choices[seat]: seat for seat in reversed(seats)}
        if len(first) == 1 or self._halted():
            return list(first.values())
        keys: dict[int, tuple[float, ...]] = {}
        for choice, seat in first.items():
            point = finisher.as_known(goal, choice, drafts_of(self.task, now, seat, whole=False))
            keys[seat] = (math.inf,) if point is None else point.key()
        return sorted(keys, key=lambda seat: (keys[seat], seat))

    def _report(self, stage: str, now: Population | None) -> None:
        best: float | None = None
        if now is not None:
            totals = self.task.totals(now.choices, now.energy, now.cycles)
            values = np.where((now.excess <= 1).all(axis=0), totals.of(self.goal.objective), np.inf)
            best = float(values.min()) if np.isfinite(values.min()) else None
        if self.limits.seconds is not None:
            done = (time.monotonic() - self.began) / self.limits.seconds
        else:
            done = self.evaluations / (self.limits.evaluations or 1)
        self.on_progress(StudyProgress(stage, min(1.0, done), self.evaluations, best))


def evaluations_of_start(task: Task, *, relaxed: bool = False) -> int:
    """Mappings that are priced, or whose gradient is taken, before the first numbered round."""
    first = evaluations_of_round(task, first=True)
    more = gradients_of_starts(task) + evaluations_of_round(task, whole=True)
    return first + more if relaxed else first


def warm(task: Task, starts: Columns) -> None:
    """Compile what a search runs."""
    price_on(task, 0, starts[1][0], task.sites.site(starts[0]))


def drafts_of(task: Task, now: Population, seat: int, *, whole: bool) -> list[list[Mapping_]]:
    """Mappings for every layer: the seat's, and with `whole` the best ones on the shelf."""
    choice = now.choices[seat]
    chip = task.space.chip(choice)
    _, present = task.space.levels(choice)
    chips = task.sites.chips([choice])
    found: list[list[Mapping_]] = []
    for index, (layer, _) in enumerate(task.layers):
        offers = [now.genes[index].take([seat])] if now.excess[index, seat] <= 1 else []
        if whole:
            shelf = now.shelves[index]
            at, _, _, excess = best_for(shelf.uses, *chips, WORTHS)
            places = np.unique(at[excess <= 1])
            offers += [shelf.genes.take([place]) for place in places]
        made = [as_mapping(genes, 0, layer.workload, chip, present, task.frame) for genes in offers]
        found.append(list(dict.fromkeys(made)))
    return found


def seated(task: Task, now: Population, found: Sequence[Point], round_: int) -> Population:
    """The population with the mappings of finished designs on its shelves."""
    if not found:
        return now
    columns = [found[at % len(found)] for at in range(COLUMNS)]
    site = task.sites.site([point.choice for point in columns])
    shelves = list(now.shelves)
    for index, shelf in enumerate(shelves):
        genes = join_genes(
            [
                as_genes(x.cost.mapping, x.layer.workload, task.space, task.frame)
                for x in (point.layers[index] for point in columns)
            ]
        )
        shelves[index] = shelve(shelf, price_on(task, index, genes, site), round_)
    return replace(now, shelves=shelves)


def swept(task: Task, now: Population, goal: Goal, versus: Metric, points: int) -> list[Goal]:
    """Goals with the bound of a metric from where the objective is least to where it is least."""
    totals = task.totals(now.choices, now.energy, now.cycles)
    values = totals.of(versus)
    merits = now.merits(task)
    half = [seat for seat in range(now.seats) if now.goals[seat] == goal]
    rest = [seat for seat in range(now.seats) if now.goals[seat] != goal]
    high = float(values[min(half, key=lambda seat: merits[seat])])
    low = float(values[min(rest, key=lambda seat: merits[seat])])
    low, high = min(low, high), max(low, high)
    bounds = [high] if low == high else list(np.geomspace(low * 1.02, high * 1.02, points))
    return [goal.bounded(versus, float(bound)) for bound in bounds]


def explain(
    task: Task, goal: Goal, points: Sequence[Point], now: Population | None
) -> list[Violation]:
    """Which bound no design found keeps, and by how much; or which layers fit no chip found."""
    smallest = area_of(task.space.chip([0] * len(task.space.variables)))
    room = dict(goal.bounds).get(Metric.AREA, math.inf)
    if smallest is not None and smallest > room:
        what = (
            f"area: at most {room:g} mm² is asked, the smallest chip of the space has "
            f"{smallest:.6g}, {smallest / room:.4g} times as much"
        )
        return [Violation(task.space.name, what, f"allow {smallest * 1.001:.4g} mm²")]
    if not points:
        worst = math.inf if now is None else float(now.excess.max(axis=0).min())
        what = f"no chip of {task.space.name} was found that every layer fits"
        if math.isfinite(worst) and worst > 1:
            what += f": the nearest is overrun {worst:.3g}-fold"
        return [Violation(task.space.name, what, "allow larger capacities")]
    least = min(points, key=Point.key)
    found: list[Violation] = []
    for metric, share in goal.excess(least.totals).items():
        bound = dict(goal.bounds)[metric]
        value = float(least.totals.of(metric))
        alone = min(float(point.totals.of(metric)) for point in points)
        what = (
            f"{metric.value}: at most {bound:g} {metric.unit} is asked, the nearest design has "
            f"{value:.6g}, {share:.4g} times as much"
        )
        if alone < value:
            what += f"; the least of any design found is {alone:.6g}"
        found.append(Violation(task.space.name, what, f"allow {value * 1.001:.4g} {metric.unit}"))
    return found
