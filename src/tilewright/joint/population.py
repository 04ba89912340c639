"""The designs that a study works on, and a round of the search.

Owns: the nouns `Task`, `Population`, and the verbs `begin`, `run_round`, `reseed`.

A *seat* is a place for one design, a chip and a mapping for every layer, with a goal of its own. A
round proposes several chips for each seat, improves all layers' mappings on all of them in batches,
and gives every seat the best that was found for its goal.

Non-goals: when to stop, and the finish (`joint/study.py`).
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from tilewright.ir.workload import Layer
from tilewright.joint.genome import (
    FLOATS,
    Frame,
    Genes,
    LayerArrays,
    drawn,
    join_genes,
    make_frame,
    make_layer,
    simplest,
)
from tilewright.joint.goal import EXCESS_WEIGHT, Goal, Metric, Numbers, Totals
from tilewright.joint.local import Priced, improve
from tilewright.joint.sites import SiteTable
from tilewright.joint.space import Choice, Space

COLUMNS = 128
"""Designs that are improved together."""
NEIGHBOURS = 8
_STEPS, _FIRST_STEPS = 8, 64
_STRAIN_UP, _STRAIN_DOWN, _STRAIN_ENDS = 1.35, 0.9, (0.02, 50.0)


@dataclass(frozen=True, slots=True)
class Task:
    """What is searched: layers with weights, on chips of a space.

    Attributes:
        space: the chips.
        layers: of all networks, each with its network's weight.
        frame: what one compiled program is for.
        arrays: one entry per layer.
        sites: the chips as arrays.
        jobs: batches that run side by side.
    """

    space: Space
    layers: tuple[tuple[Layer, float], ...]
    frame: Frame
    arrays: tuple[LayerArrays, ...]
    sites: SiteTable
    jobs: int = 1

    @property
    def weights(self) -> Numbers:
        """[layers], by how much each layer counts."""
        return np.array([layer.repeat * weight for layer, weight in self.layers])

    def totals(self, choices: Sequence[Choice], energy: Numbers, cycles: Numbers) -> Totals:
        """Totals over the layers, [B] each, of [layers, B]."""
        weights = self.weights
        clock = self.space.template.clock_ghz
        return Totals(weights @ energy, weights @ cycles, self.sites.areas(choices), clock)


def make_task(space: Space, layers: Sequence[tuple[Layer, float]], jobs: int = 1) -> Task:
    """Prepare a search."""
    works = [layer.workload for layer, _ in layers]
    frame = make_frame(works, space)
    arrays = tuple(make_layer(work, space, frame) for work in works)
    return Task(space, tuple(layers), frame, arrays, SiteTable(space, works[0], frame), jobs)


@dataclass(slots=True)
class Population:
    """Designs in their seats, S of them.

    Attributes:
        goals: of each seat.
        choices: the chip of each.
        genes: for every layer, the mappings of all seats.
        energy: [layers, S], of one run.
        cycles: likewise.
        excess: likewise, used over usable.
        strain: for each seat, how heavily each bound weighs on the choice of mappings.
    """

    goals: list[Goal]
    choices: list[Choice]
    genes: list[Genes]
    energy: Numbers
    cycles: Numbers
    excess: Numbers
    strain: list[dict[Metric, float]] = field(default_factory=list[dict[Metric, float]])

    @property
    def seats(self) -> int:
        """S."""
        return len(self.goals)

    def merits(self, task: Task) -> Numbers:
        """[S], of each seat's design for its own goal."""
        totals = task.totals(self.choices, self.energy, self.cycles)
        each = [
            goal.merit(_column(totals, seat)) + _overrun(self.excess[:, seat])
            for seat, goal in enumerate(self.goals)
        ]
        return np.array(each)

    def fits(self, seat: int) -> bool:
        """Whether every layer of a seat's design fits its chip, as far as the batch model knows."""
        return bool((self.excess[:, seat] <= 1).all())

    def to_json(self) -> dict[str, Any]:
        """All but the goals, to go on from."""
        return {
            "choices": [list(choice) for choice in self.choices],
            "genes": [
                [_packed(g.slot), _packed(g.order), _packed(g.keeps.astype(np.int8))]
                for g in self.genes
            ],
            "prices": [x.tolist() for x in (self.energy, self.cycles, self.excess)],
            "strain": [{m.value: x for m, x in one.items()} for one in self.strain],
        }


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=np.int8).tobytes()).decode()


def population_of(record: dict[str, Any], goals: list[Goal], task: Task) -> Population:
    """A population that was written down."""
    frame, seats = task.frame, len(goals)
    shapes = (
        (frame.atoms, seats),
        (frame.levels, frame.dims, seats),
        (frame.shape.operands, frame.levels, seats),
    )

    def unpacked(texts: list[str]) -> Genes:
        slot, order, keeps = (
            np.frombuffer(base64.b64decode(text), dtype=np.int8).reshape(shape).copy()
            for text, shape in zip(texts, shapes, strict=True)
        )
        return Genes(slot, order, keeps.astype(bool))

    energy, cycles, excess = (np.array(x, dtype=np.float64) for x in record["prices"])
    return Population(
        goals,
        [tuple(choice) for choice in record["choices"]],
        [unpacked(texts) for texts in record["genes"]],
        energy,
        cycles,
        excess,
        [{Metric(name): x for name, x in one.items()} for one in record["strain"]],
    )


def _column(totals: Totals, at: int) -> Totals:
    return Totals(totals.energy_pj[at], totals.cycles[at], totals.area_mm2[at], totals.clock_ghz)


def _overrun(excess: Numbers) -> Numbers:
    """What layers that do not fit cost, over the first axis."""
    return EXCESS_WEIGHT * np.log(np.maximum(excess, 1)).sum(axis=0)


def evaluations_of_round(task: Task, *, first: bool = False) -> int:
    """Mappings that a round prices."""
    steps = _FIRST_STEPS if first else _STEPS
    return COLUMNS * NEIGHBOURS * steps * len(task.arrays)


Start = tuple[Choice, list[Genes]]
"""A chip, and a mapping of every layer with 1 for B."""


def drawn_starts(task: Task, random: np.random.Generator) -> list[Start]:
    """Random chips with random mappings; every fourth with the simplest ones."""
    found: list[Start] = []
    for at in range(COLUMNS):
        choice = tuple(int(random.integers(len(v.values))) for v in task.space.variables)
        genes = [
            simplest(layer, task.frame, 1) if at % 4 == 0 else drawn(layer, task.frame, 1, random)
            for layer in task.arrays
        ]
        found.append((choice, genes))
    return found


def begin(task: Task, goals: Sequence[Goal], starts: Sequence[Start], seed: int) -> Population:
    """Improve all starts, and give every seat the best for its goal."""
    count = len(goals)
    seat_of = np.arange(COLUMNS) % count
    starts = [starts[at % len(starts)] for at in range(COLUMNS)]
    choices = [choice for choice, _ in starts]
    genes = [join_genes([start[1][layer] for start in starts]) for layer in range(len(task.arrays))]
    even: dict[Metric, Any] = {metric: 1.0 for goal in goals for metric, _ in goal.bounds}
    one = Totals(np.ones(1), np.ones(1), np.ones(1), 1.0)
    worth = np.concatenate(
        [np.stack(goals[seat].slopes(one, even)) for seat in seat_of.tolist()], axis=-1
    ).astype(FLOATS)
    found = _improved(task, choices, genes, worth, (seed, 0), _FIRST_STEPS)
    strain: list[dict[Metric, float]] = [{m: 1.0 for m, _ in goal.bounds} for goal in goals]
    merits = _merits(task, choices, found, goals)
    offered = _seated(goals, choices, found, list(range(COLUMNS)), strain)
    return _chosen(offered, goals, merits)


def _seated(
    goals: Sequence[Goal],
    choices: Sequence[Choice],
    found: Sequence[Priced],
    taken: Sequence[int],
    strain: list[dict[Metric, float]],
) -> Population:
    at = np.array(taken)
    return Population(
        list(goals),
        [choices[column] for column in taken],
        [priced.genes.take(at) for priced in found],
        _stacked(found, "energy_pj")[:, at],
        _stacked(found, "cycles")[:, at],
        _stacked(found, "excess")[:, at],
        strain,
    )


def _stacked(found: Sequence[Priced], name: str) -> Numbers:
    return np.stack([np.asarray(getattr(priced, name), dtype=np.float64) for priced in found])


def _improved(  # noqa: PLR0913, PLR0917
    task: Task,
    choices: Sequence[Choice],
    genes: Sequence[Genes],
    worth: Numbers,
    seed: tuple[int, int],
    steps: int,
) -> list[Priced]:
    """Every layer's mappings on every chip, improved."""
    site = task.sites.site(choices)
    temperature = np.zeros(len(choices), dtype=FLOATS)
    key = jax.random.fold_in(jax.random.key(seed[0]), seed[1])

    def one(index: int) -> Priced:
        found = improve(
            genes[index],
            task.arrays[index],
            site,
            worth,
            temperature,
            jax.random.fold_in(key, index),
            steps,
            task.frame,
            NEIGHBOURS,
        )
        return jax.tree.map(np.asarray, found)

    first = one(0)  # compiles for all
    with ThreadPoolExecutor(task.jobs) as pool:
        return [first, *pool.map(one, range(1, len(task.arrays)))]


def _merits(
    task: Task, choices: Sequence[Choice], found: Sequence[Priced], goals: Sequence[Goal]
) -> Numbers:
    """[S, columns], of every design for every goal; one that is no number is the worst."""
    totals = task.totals(choices, _stacked(found, "energy_pj"), _stacked(found, "cycles"))
    over = _overrun(_stacked(found, "excess"))
    known = {goal: goal.merit(totals) + over for goal in dict.fromkeys(goals)}
    merits = np.stack([known[goal] for goal in goals])
    return np.where(np.isfinite(merits), merits, np.inf)


def run_round(task: Task, now: Population, seed: int, number: int) -> Population:
    """One round: chips proposed, mappings improved, the best seated. Nothing gets worse."""
    random = np.random.default_rng([seed, number])
    seats = now.seats
    seat_of = np.arange(COLUMNS) % seats
    choices, source = _proposed(task.space, now, seat_of, random)
    genes = [layer.take(source) for layer in now.genes]
    totals = task.totals(now.choices, now.energy, now.cycles)
    worth = np.stack(
        [
            np.array(goal.slopes(_column(totals, seat), dict(now.strain[seat])))
            for seat, goal in enumerate(now.goals)
        ],
        axis=-1,
    )[:, seat_of].astype(FLOATS)
    found = _improved(task, choices, genes, worth, (seed, number), _STEPS)
    merits = _merits(task, choices, found, now.goals)
    offered = _seated(now.goals, choices, found, list(range(COLUMNS)), now.strain)
    pool = _pooled(now, offered)
    ranks = np.concatenate([_own_merits(task, now), merits], axis=1)
    return _strained(task, _chosen(pool, now.goals, ranks))


def _own_merits(task: Task, now: Population) -> Numbers:
    """[S, S], of the seats' designs for each seat's goal; those of other goals are not offered.

    A design that another goal's seat holds is among the columns, where its mappings are improved.
    """
    totals = task.totals(now.choices, now.energy, now.cycles)
    over = _overrun(now.excess)
    merits = np.stack([goal.merit(totals) + over for goal in now.goals])
    alike = np.array([[a == b for b in now.goals] for a in now.goals])
    return np.where(alike & np.isfinite(merits), merits, np.inf)


def _pooled(now: Population, offered: Population) -> Population:
    """Both, one after the other."""
    return Population(
        now.goals,
        [*now.choices, *offered.choices],
        [join_genes(pair) for pair in zip(now.genes, offered.genes, strict=True)],
        np.concatenate([now.energy, offered.energy], axis=1),
        np.concatenate([now.cycles, offered.cycles], axis=1),
        np.concatenate([now.excess, offered.excess], axis=1),
        now.strain,
    )


def _chosen(pool: Population, goals: Sequence[Goal], merits: Numbers) -> Population:
    """For every goal the best designs on different chips, as many as it has seats."""
    taken = [0] * len(goals)
    for goal in dict.fromkeys(goals):
        seats = [seat for seat, other in enumerate(goals) if other == goal]
        order = [int(at) for at in np.argsort(merits[seats[0]], kind="stable")]
        best: dict[Choice, int] = {}
        for at in order:
            best.setdefault(pool.choices[at], at)
            if len(best) == len(seats):
                break
        found = list(best.values())
        for place, seat in enumerate(seats):
            taken[seat] = found[place % len(found)]
    at = np.array(taken)
    return Population(
        list(goals),
        [pool.choices[column] for column in taken],
        [genes.take(at) for genes in pool.genes],
        pool.energy[:, at],
        pool.cycles[:, at],
        pool.excess[:, at],
        pool.strain,
    )


def _proposed(
    space: Space, now: Population, seat_of: np.ndarray, random: np.random.Generator
) -> tuple[list[Choice], np.ndarray]:
    """A chip for every column, and the seat whose mappings it starts from."""
    choices: list[Choice] = []
    source = seat_of.copy()
    for column, seat in enumerate(seat_of):
        if column < now.seats:
            choices.append(now.choices[seat])  # the chip as it is: only mappings improve
            continue
        if random.random() < 0.1:
            source[column] = random.integers(now.seats)
        choices.append(_stepped(space, now.choices[source[column]], random))
    return choices, source


def _stepped(space: Space, choice: Choice, random: np.random.Generator) -> Choice:
    """A chip one or more steps away."""
    found = list(choice)
    for _ in range(min(len(found), int(random.geometric(0.55)))):
        at = int(random.integers(len(found)))
        most = len(space.variables[at].values) - 1
        if random.random() < 0.15:
            found[at] = int(random.integers(most + 1))
        else:
            step = int(random.geometric(0.6)) * (1 if random.random() < 0.5 else -1)
            found[at] = min(most, max(0, found[at] + step))
    return tuple(found)


def _strained(task: Task, now: Population) -> Population:
    """Bounds that are broken weigh more from now on, those that are kept a little less."""
    totals = task.totals(now.choices, now.energy, now.cycles)
    low, high = _STRAIN_ENDS
    strain: list[dict[Metric, float]] = []
    for seat, goal in enumerate(now.goals):
        broken = goal.excess(_column(totals, seat))
        strain.append(
            {
                metric: float(
                    np.clip(weight * (_STRAIN_UP if metric in broken else _STRAIN_DOWN), low, high)
                )
                for metric, weight in now.strain[seat].items()
            }
        )
    return Population(now.goals, now.choices, now.genes, now.energy, now.cycles, now.excess, strain)


def with_goals(task: Task, now: Population, goals: Sequence[Goal]) -> Population:
    """Seats for other goals, each with the best of the designs that there are."""
    totals = task.totals(now.choices, now.energy, now.cycles)
    over = _overrun(now.excess)
    taken = [int(np.argmin(goal.merit(totals) + over)) for goal in goals]
    at = np.array(taken)
    return Population(
        list(goals),
        [now.choices[seat] for seat in taken],
        [genes.take(at) for genes in now.genes],
        now.energy[:, at],
        now.cycles[:, at],
        now.excess[:, at],
        [{m: 1.0 for m, _ in goal.bounds} for goal in goals],
    )
