"""The designs that a study works on, and a round of the search.

Owns: the nouns `Task`, `Population`, and the verbs `begin`, `run_round`, `with_goals`.

A *seat* is a place for one design, a chip and a mapping for every layer, with a goal of its own.
Mappings that were found stand on shelves, one for each layer, with what they use (`joint/uses.py`).
A round improves mappings of some layers in batches, each on a chip near a seat's, and puts them on
the shelves; then it prices everything on the shelves on hundreds of chips, and gives every seat the
best design for its goal.

Non-goals: when to stop, and the finish (`joint/study.py`).
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

import base64
import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import jax
import numpy as np

from tilewright.ir.workload import Layer
from tilewright.joint.blend import blend
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
    spread,
)
from tilewright.joint.goal import EXCESS_WEIGHT, Goal, Metric, Numbers, Totals
from tilewright.joint.local import Found, Site, improve
from tilewright.joint.shelf import Shelf, best_for, join_shelves, make_shelf, swept
from tilewright.joint.sites import SiteTable
from tilewright.joint.space import Choice, Space
from tilewright.joint.uses import price_uses
from tilewright.mapper.floor import least_of
from tilewright.mapper.result import Objective
from tilewright.model.evaluate import make_evaluator
from tilewright.model.limit import operand_words

COLUMNS = 128
"""Designs that are improved together."""
NEIGHBOURS = 8
STEPS, FIRST_STEPS = 16, 4
CANDIDATES = 768
"""Chips that are looked at in a round."""
_SHARE_OF_LAYERS = 1 / 3
"""Of a network's layers, those whose mappings a round improves."""
_FEW_LAYERS = 3
_NOISE, _TEMPERATURE = 0.05, 0.01
WORTHS = ((1e-3, 1.0), (0.1, 1.0), (0.3, 1.0), (1.0, 1.0), (1.0, 0.3), (1.0, 0.1), (1.0, 1e-3))
"""Of a relative saving of energy and of cycles: what mappings are chosen by, for every chip."""
SLOW = ((1.0, -0.5), (1.0, -0.95))
"""The same where power is minimised: a slower mapping needs less."""


class StoppedError(Exception):
    """A round was stopped before its end; nothing of it counts."""


Stop = Callable[[], bool]


def _never() -> bool:
    return False


_FLOORS = (Objective.ENERGY, Objective.CYCLES)


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
        floors: bounds of chips that were asked for.
    """

    space: Space
    layers: tuple[tuple[Layer, float], ...]
    frame: Frame
    arrays: tuple[LayerArrays, ...]
    sites: SiteTable
    jobs: int = 1
    floors: dict[Choice, Numbers] = field(default_factory=dict[Choice, Numbers])

    def floor_of(self, choice: Choice) -> Numbers:
        """[2, layers], energy and cycles that no mapping on a chip undercuts."""
        if choice not in self.floors:
            chip = self.space.chip(choice)
            pairs = [make_evaluator(layer.workload, chip) for layer, _ in self.layers]
            self.floors[choice] = np.array(
                [[least_of(x, objective, joint=False) for x in pairs] for objective in _FLOORS]
            )
        return self.floors[choice]

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
        worth: [2, S], what a relative saving of energy and of cycles is worth to each.
        shelves: of each layer, mappings that are known.
        noted: of the round that made it, what a journal needs to repeat it.
    """

    goals: list[Goal]
    choices: list[Choice]
    genes: list[Genes]
    energy: Numbers
    cycles: Numbers
    excess: Numbers
    worth: Numbers
    shelves: list[Shelf]
    noted: dict[str, Any] = field(default_factory=dict[str, Any])

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
            "worth": self.worth.tolist(),
            **self.noted,
        }


def _packed(array: np.ndarray, kind: Any = np.int8) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array, kind).tobytes(), 1)).decode()


def _unpacked(text: str, shape: tuple[int, ...], kind: Any = np.int8) -> np.ndarray:
    data = zlib.decompress(base64.b64decode(text))
    return np.frombuffer(data, dtype=kind).reshape(shape).copy()


def _packed_genes(genes: Genes) -> list[str]:
    parts = (genes.slot, genes.order, np.asarray(genes.keeps))
    return [_packed(np.asarray(part).astype(np.int8)) for part in parts]


def _unpacked_genes(texts: list[str], count: int, frame: Frame) -> Genes:
    shapes = (
        (frame.atoms, count),
        (frame.levels, frame.dims, count),
        (frame.shape.operands, frame.levels, count),
    )
    slot, order, keeps = map(_unpacked, texts, shapes)
    return Genes(slot, order, keeps.astype(bool))


def population_of(
    record: dict[str, Any], goals: list[Goal], task: Task, before: "Population | None", round_: int
) -> Population:
    """A population that was written down, by what came before it."""
    energy, cycles, excess = (np.array(x, dtype=np.float64) for x in record["prices"])
    now = Population(
        goals,
        [tuple(choice) for choice in record["choices"]],
        [_unpacked_genes(texts, len(goals), task.frame) for texts in record["genes"]],
        energy,
        cycles,
        excess,
        np.array(record["worth"]),
        [],
    )
    columns = [tuple(choice) for choice in record["columns"]]
    site = task.sites.site(columns)
    for index, (texts, taken) in enumerate(zip(record["offered"], record["taken"], strict=True)):
        shelf = None if before is None else before.shelves[index]
        if texts is not None:
            genes = _unpacked_genes(texts, len(columns), task.frame)
            shelf = shelve(shelf, price_on(task, index, genes, site), round_)
        assert shelf is not None
        places = _unpacked(taken, (-1,), np.int16)
        now.shelves.append(swept(shelf, places[places < shelf.count], round_))
    return now


def _column(totals: Totals, at: int) -> Totals:
    return Totals(totals.energy_pj[at], totals.cycles[at], totals.area_mm2[at], totals.clock_ghz)


def _overrun(excess: Numbers) -> Numbers:
    """What layers that do not fit cost, over the first axis."""
    return EXCESS_WEIGHT * np.log(np.maximum(excess, 1)).sum(axis=0)


def evaluations_of_round(task: Task, *, first: bool = False, whole: bool = False) -> int:
    """Mappings that a round prices, those on shelves apart; `whole`: of all layers."""
    layers = len(task.arrays) if first or whole else layers_of_round(task)
    return COLUMNS * NEIGHBOURS * ((FIRST_STEPS if first else STEPS) + 1) * layers


def layers_of_round(task: Task) -> int:
    """How many layers a round works on."""
    count = len(task.arrays)
    return count if count <= _FEW_LAYERS else max(_FEW_LAYERS, round(count * _SHARE_OF_LAYERS))


Start = tuple[Choice, list[Genes]]
"""A chip, and a mapping of every layer with 1 for B."""


Columns = tuple[list[Choice], list[Genes]]
"""Chips, and for every layer mappings, one for each chip."""


def gathered(starts: Sequence[Start]) -> Columns:
    """Starts side by side, repeated until there are enough."""
    found = [starts[at % len(starts)] for at in range(COLUMNS)]
    layers = range(len(found[0][1]))
    return [one[0] for one in found], [join_genes([one[1][at] for one in found]) for at in layers]


def drawn_starts(task: Task, goals: Sequence[Goal], random: np.random.Generator) -> Columns:
    """Chips whose floors are good for the goals, with random mappings that fill their arrays.

    Of eight mappings one is the simplest, which nearly always fits, and one is altogether random.
    """
    drawn_chips = [drawn_choice(task.space, random) for _ in range(_DRAWN_CHIPS)]
    chips, _ = task.sites.chips(drawn_chips)
    floors = _rough_floors(task, chips, task.sites.areas(drawn_chips))
    ranks = {goal: np.argsort(goal.merit(floors), kind="stable") for goal in dict.fromkeys(goals)}
    taken = [
        int(random.choice(ranks[goals[at % len(goals)]][: _DRAWN_CHIPS // 8]))
        for at in range(COLUMNS)
    ]
    copies = np.asarray(chips.copies)[:, :, taken]
    kinds = np.arange(COLUMNS) // len(goals) % 8
    genes: list[Genes] = []
    for layer in task.arrays:
        simple = simplest(layer, task.frame, COLUMNS)
        some = drawn(layer, task.frame, COLUMNS, random)
        full = spread(some, layer, task.frame, copies, random)
        parts = join_genes([simple, some, full])
        genes.append(parts.take(np.minimum(kinds, 2) * COLUMNS + np.arange(COLUMNS)))
    return [drawn_chips[at] for at in taken], genes


_DRAWN_CHIPS = 1024


def drawn_choice(space: Space, random: np.random.Generator) -> Choice:
    """Any chip of a space."""
    return tuple(int(random.integers(len(v.values))) for v in space.variables)


def _rough_floors(task: Task, chips: Any, areas: Numbers) -> Totals:
    """Totals that no mappings undercut: MACs on all units, and what the outermost ports move."""
    units = np.asarray(chips.copies, dtype=float).prod(axis=(0, 1))
    outermost = task.space.template.levels[0]
    energy = np.zeros(len(units))
    cycles = np.zeros(len(units))
    for layer, weight in task.layers:
        work = layer.workload
        bits = sum(operand_words(operand, work) * operand.bits for operand in work.operands)
        widest = outermost.bandwidth or math.inf
        moving = bits / (widest * outermost.word_bits)
        times = layer.repeat * weight
        cycles += times * np.maximum(work.macs / units, moving)
        mac_pj = np.asarray(chips.mac_pj, dtype=float)
        pj = np.asarray(chips.read_pj, dtype=float)[0] / outermost.word_bits
        energy += times * (work.macs * mac_pj + bits * pj)
    return Totals(energy, cycles, areas, task.space.template.clock_ghz)


def begin(  # noqa: PLR0913, PLR0917
    task: Task,
    goals: Sequence[Goal],
    starts: Columns,
    seed: int,
    should_stop: Stop = _never,
    on_sweep: "OnSweep | None" = None,
) -> Population:
    """Improve all starts, and give every seat the best for its goal.

    Raises: `StoppedError` if it was stopped.
    """
    worth = _first_worth(goals)[:, np.arange(COLUMNS) % len(goals)].astype(FLOATS)
    batch = _Batch(starts[0], dict(enumerate(starts[1])), worth, FIRST_STEPS)
    random = np.random.default_rng([seed, 0, 1])
    return _round(task, list(goals), None, batch, (seed, 0), random, should_stop, on_sweep)


def _first_worth(goals: Sequence[Goal]) -> Numbers:
    """[2, S], before anything is known."""
    one = Totals(np.ones(1), np.ones(1), np.ones(1), 1.0)
    return np.concatenate([np.stack(goal.slopes(one)) for goal in goals], axis=-1)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What a round improves: chips, mappings of some layers, worth of energy and cycles, steps."""

    choices: list[Choice]
    genes: dict[int, Genes]
    worth: Numbers
    steps: int


def run_round(  # noqa: PLR0913
    task: Task,
    now: Population,
    seed: int,
    number: int,
    *,
    should_stop: Stop = _never,
    on_sweep: "OnSweep | None" = None,
    starts: Columns | None = None,
) -> Population:
    """One round: mappings improved, chips looked at, the best seated. No seat gets worse.

    Args:
        task: layers and space.
        now: what there is.
        seed: of random choices.
        number: of the round; the same again gives the same.
        should_stop: asked between batches.
        on_sweep: told what all designs that were looked at are.
        starts: designs to improve in place of those that there are.

    Raises: `StoppedError` if it was stopped.
    """
    random = np.random.default_rng([seed, number])
    seat_of = np.arange(COLUMNS) % now.seats
    worth = now.worth[:, seat_of].astype(FLOATS)
    if starts is not None:
        choices, genes = starts[0], dict(enumerate(starts[1]))
    else:
        choices = _proposed(task.space, now, seat_of, random)
        chips = task.sites.chips(choices)
        genes = {
            layer: _picked(now.shelves[layer], chips, worth, now.seats, random)
            for layer in _layers(task, now, worth, random)
        }
    batch = _Batch(choices, genes, worth, STEPS)
    return _round(task, now.goals, now, batch, (seed, number), random, should_stop, on_sweep)


def _layers(task: Task, now: Population, worth: Numbers, random: np.random.Generator) -> list[int]:
    """The layers to work on: more often those that are farthest from what no mapping undercuts."""
    count = layers_of_round(task)
    if count == len(task.arrays):
        return list(range(count))
    gaps = np.zeros(len(task.arrays))
    weights = task.weights
    for seat in {goal: seat for seat, goal in enumerate(now.goals)}.values():
        floors = task.floor_of(now.choices[seat])
        for row, have in enumerate((now.energy[:, seat], now.cycles[:, seat])):
            share = weights * np.maximum(have - floors[row], 0) / (weights @ have)
            gaps += share * max(0.0, float(worth[row, seat]))
    gaps += 0.1 * gaps.mean() + 1e-12
    return sorted(random.choice(len(gaps), count, replace=False, p=gaps / gaps.sum()).tolist())


def _picked(
    shelf: Shelf, chips: Any, worth: Numbers, exact: int, random: np.random.Generator
) -> Genes:
    """For every column one of the best mappings for its chip; the very best for the first."""
    energy, cycles, excess = price_uses(shelf.uses, *chips)
    merits = worth[0] * np.log(energy) + worth[1] * np.log(cycles)
    merits += EXCESS_WEIGHT * np.log(np.maximum(excess, 1))
    noise = random.gumbel(0.0, _NOISE, merits.shape)
    noise[:, :exact] = 0
    return shelf.genes.take((merits - noise).argmin(axis=0))


OnSweep = Callable[[list[Choice], Totals, Any], None]
"""Told chips, C of them, and of designs on them, [W, C], the totals and whether they fit."""


def price_on(task: Task, layer: int, genes: Genes, site: Site) -> Found:
    """Mappings of a layer as they are, COLUMNS of them, with what they use and cost."""
    worth = np.ones((2, COLUMNS), dtype=FLOATS)
    return improved(task, layer, genes, site, worth, jax.random.key(0), 0)


def improved(  # noqa: PLR0913, PLR0917
    task: Task, layer: int, genes: Genes, site: Site, worth: Numbers, key: Any, steps: int
) -> Found:
    """Improve mappings of a layer: always the same compiled program."""
    heat = np.where(np.arange(COLUMNS) < COLUMNS // 2, 0, _TEMPERATURE).astype(FLOATS)
    arrays = task.arrays[layer]
    found = improve(genes, arrays, site, worth, heat, key, steps, task.frame, NEIGHBOURS)
    return jax.tree.map(np.asarray, found)


def shelve(shelf: Shelf | None, found: Found, round_: int) -> Shelf:
    """The shelf with mappings that were found."""
    first = 0 if shelf is None else int(shelf.number.max()) + 1
    new = make_shelf(found.genes, found.uses, round_, first)
    return join_shelves(new.take([0]) if shelf is None else shelf, new)


def _round(  # noqa: PLR0913, PLR0917
    task: Task,
    goals: list[Goal],
    now: Population | None,
    batch: _Batch,
    seed: tuple[int, int],
    random: np.random.Generator,
    should_stop: Stop,
    on_sweep: OnSweep | None,
) -> Population:
    """Improve, shelve, look at chips, seat."""
    found = _improved(task, batch, seed, should_stop)
    shelves: list[Shelf] = []
    for index in range(len(task.arrays)):
        shelf = None if now is None else now.shelves[index]
        if index in found:
            shelf = shelve(shelf, found[index], seed[1])
        assert shelf is not None
        shelves.append(shelf)
    held = [] if now is None else now.choices
    candidates = _candidates(task.space, held, batch.choices, random)
    seen = _look(task, shelves, candidates, _worths(goals), should_stop)
    if on_sweep is not None:
        on_sweep(candidates, seen.totals, (seen.excess <= 1).all(axis=0))
    blends = {
        goal: _blended(task, shelves, seen, goal, goals.count(goal))
        for goal in dict.fromkeys(goals)  # seats share goals
    }
    taken = [_taken(seen, blends.values(), index) for index in range(len(shelves))]
    kept = [swept(s, at, seed[1]) for s, at in zip(shelves, taken, strict=True)]
    fresh = _seated(task, goals, now, shelves, blends, kept)
    fresh.noted = {
        "columns": [list(choice) for choice in batch.choices],
        "offered": [
            _packed_genes(found[index].genes) if index in found else None
            for index in range(len(task.arrays))
        ],
        "taken": [_packed(at, np.int16) for at in taken],
    }
    return fresh


def _improved(
    task: Task, batch: _Batch, seed: tuple[int, int], should_stop: Stop
) -> dict[int, Found]:
    """Mappings of the layers on the chips, improved."""
    site = task.sites.site(batch.choices)
    key = jax.random.fold_in(jax.random.key(seed[0]), seed[1])

    def one(index: int) -> Found:
        if should_stop():
            raise StoppedError
        own = jax.random.fold_in(key, index)
        return improved(task, index, batch.genes[index], site, batch.worth, own, batch.steps)

    with ThreadPoolExecutor(task.jobs) as pool:
        return dict(zip(batch.genes, pool.map(one, batch.genes), strict=True))


def _candidates(
    space: Space, held: Sequence[Choice], columns: Sequence[Choice], random: np.random.Generator
) -> list[Choice]:
    """Chips to look at: those in hand, their neighbours, and others."""
    if space.size <= CANDIDATES:
        return list(product(*(range(len(v.values)) for v in space.variables)))
    found = dict.fromkeys([*held, *columns])
    for choice in dict.fromkeys(held):
        for at, variable in enumerate(space.variables):
            for step in (-2, -1, 1, 2):
                if 0 <= choice[at] + step < len(variable.values):
                    found[*choice[:at], choice[at] + step, *choice[at + 1 :]] = None
    sources = list(dict.fromkeys(held))
    while len(found) < CANDIDATES:
        if sources and random.random() < 0.7:
            choice = _stepped(space, sources[int(random.integers(len(sources)))], random)
        else:
            choice = drawn_choice(space, random)
        found[choice] = None
    return list(found)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The best designs on chips, C of them, for W worths.

    Attributes:
        choices: the chips.
        at: [layers, W, C], places on the shelves.
        energy: likewise, of one run of a layer.
        cycles: likewise.
        excess: likewise.
        totals: [W, C].
    """

    choices: list[Choice]
    at: np.ndarray
    energy: Numbers
    cycles: Numbers
    excess: Numbers
    totals: Totals


def _worths(goals: Sequence[Goal]) -> tuple[tuple[float, float], ...]:
    powers = any(goal.objective is Metric.POWER for goal in goals)
    return (*WORTHS, *SLOW) if powers else WORTHS


def _look(
    task: Task,
    shelves: Sequence[Shelf],
    choices: list[Choice],
    worths: Sequence[tuple[float, float]],
    should_stop: Stop,
) -> _Seen:
    """Price everything on the shelves on all these chips, and keep the best for each."""
    chips = task.sites.chips(choices)

    def one(shelf: Shelf) -> tuple[np.ndarray, Numbers, Numbers, Numbers]:
        if should_stop():
            raise StoppedError
        return best_for(shelf.uses, *chips, worths)

    with ThreadPoolExecutor(task.jobs) as pool:
        found = list(pool.map(one, shelves))
    at, energy, cycles, excess = (np.stack(part) for part in zip(*found, strict=True))
    areas = task.sites.areas(choices)
    totals = Totals(
        np.tensordot(task.weights, energy, 1),
        np.tensordot(task.weights, cycles, 1),
        areas,
        task.space.template.clock_ghz,
    )
    return _Seen(choices, at, energy, cycles, excess, totals)


@dataclass(frozen=True, slots=True)
class _Offers:
    """The best designs for a goal on some chips, C of them.

    Attributes:
        choices: the chips.
        at: [layers, C], places on the shelves.
        prices: [3, layers, C], energy, cycles and excess of one run of a layer.
        merit: [C].
        worth: [2, C], what savings of energy and of cycles are worth to each.
    """

    choices: list[Choice]
    at: np.ndarray
    prices: Numbers
    merit: Numbers
    worth: Numbers


def _blended(task: Task, shelves: Sequence[Shelf], seen: _Seen, goal: Goal, seats: int) -> _Offers:
    """Designs for a goal on the chips that are best for it by the worths that all are priced by."""
    merits = goal.merit(seen.totals) + _overrun(seen.excess)
    least = np.nan_to_num(merits, nan=np.inf).min(axis=0)
    chosen = np.argsort(least, kind="stable")[: _OFFERS * seats]
    choices = [seen.choices[at] for at in chosen.tolist()]
    chips = task.sites.chips(choices)
    prices = [price_uses(shelf.uses, *chips) for shelf in shelves]
    areas, clock = task.sites.areas(choices), task.space.template.clock_ghz
    best = blend(prices, task.weights, areas, clock, goal)
    rows = np.arange(len(choices))
    of_each = [[part[at, rows] for part in each] for each, at in zip(prices, best.at, strict=True)]
    by_kind = np.array(of_each, dtype=float).swapaxes(0, 1)
    return _Offers(choices, best.at, by_kind, best.merit, best.worth)


def _taken(seen: _Seen, offers: Iterable[_Offers], layer: int) -> np.ndarray:
    """Places on a layer's shelf of all that was the best for something."""
    found = [seen.at[layer].ravel(), *(each.at[layer] for each in offers)]
    return np.unique(np.concatenate(found))


def _seated(  # noqa: PLR0913, PLR0917
    task: Task,
    goals: list[Goal],
    now: Population | None,
    shelves: Sequence[Shelf],
    offers: dict[Goal, _Offers],
    kept: list[Shelf],
) -> Population:
    """For every goal the best designs on different chips, as many as it has seats."""
    old = None if now is None else _own_merits(task, now)
    parts: dict[int, tuple[Choice, list[Genes], np.ndarray, np.ndarray]] = {}
    for goal in dict.fromkeys(goals):
        seats = [seat for seat, other in enumerate(goals) if other == goal]
        new = offers[goal]
        ranked = [(float(merit), 1, at) for at, merit in enumerate(new.merit)]
        if now is not None and old is not None:
            ranked += [(float(old[seats[0], seat]), 0, seat) for seat in range(now.seats)]
        best: dict[Choice, tuple[int, int]] = {}
        for _, kind, place in sorted(ranked):
            choice = new.choices[place] if kind or now is None else now.choices[place]
            best.setdefault(choice, (kind, place))
            if len(best) == len(seats):
                break
        found = list(best.items())
        for number, seat in enumerate(seats):
            choice, (kind, place) = found[number % len(found)]
            if kind or now is None:
                genes = [
                    s.genes.take([at]) for s, at in zip(shelves, new.at[:, place], strict=True)
                ]
                parts[seat] = (choice, genes, new.prices[:, :, place], new.worth[:, place])
            else:
                parts[seat] = (choice, *_from_seat(now, place), now.worth[:, place])
    ordered = [parts[seat] for seat in range(len(goals))]
    prices = np.stack([part[2] for part in ordered], axis=-1)  # [3, layers, S]
    genes = [join_genes([part[1][at] for part in ordered]) for at in range(len(shelves))]
    choices = [part[0] for part in ordered]
    worth = np.stack([part[3] for part in ordered], axis=-1)
    return Population(goals, choices, genes, prices[0], prices[1], prices[2], worth, kept)


_OFFERS = 3
"""Chips for each seat of a goal whose layers are chosen anew, finer than by the few worths."""


def _from_seat(now: Population, seat: int) -> tuple[list[Genes], np.ndarray]:
    each = (now.energy, now.cycles, now.excess)
    return [genes.take([seat]) for genes in now.genes], np.stack([x[:, seat] for x in each])


def _own_merits(task: Task, now: Population) -> Numbers:
    """[S, S], of the seats' designs for each seat's goal."""
    totals = task.totals(now.choices, now.energy, now.cycles)
    over = _overrun(now.excess)
    merits = np.stack([goal.merit(totals) + over for goal in now.goals])
    return np.where(np.isfinite(merits), merits, np.inf)


def _proposed(
    space: Space, now: Population, seat_of: np.ndarray, random: np.random.Generator
) -> list[Choice]:
    """A chip for every column: the seat's own, or one that is some steps away."""
    choices: list[Choice] = []
    for column, seat in enumerate(seat_of.tolist()):
        choice = now.choices[seat]
        if column >= now.seats and random.random() < 0.1:
            choice = now.choices[int(random.integers(now.seats))]
        stays = column < now.seats or random.random() < 0.4
        choices.append(choice if stays else _stepped(space, choice, random))
    return choices


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


def with_goals(task: Task, now: Population, goals: Sequence[Goal]) -> Population:
    """Seats for other goals, each with the best of the designs that there are."""
    totals = task.totals(now.choices, now.energy, now.cycles)
    over = _overrun(now.excess)
    taken = [int(np.argmin(goal.merit(totals) + over)) for goal in goals]
    at = np.array(taken)
    return replace(
        now,
        goals=list(goals),
        choices=[now.choices[seat] for seat in taken],
        genes=[genes.take(at) for genes in now.genes],
        energy=now.energy[:, at],
        cycles=now.cycles[:, at],
        excess=now.excess[:, at],
        worth=_first_worth(goals),
    )
