"""The end of a study: every layer proved or improved on the chosen chip, priced by `exact`.

Owns: the nouns `LayerChoice`, `Point` and `Finisher`, and the choice of one mapping per layer.

Non-goals: choosing chips (`joint/study.py`), who maps (`joint/crew.py`).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from tilewright.errors import InfeasibleError
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Mapping, format_mapping
from tilewright.ir.verify import verify_mapping
from tilewright.ir.workload import Layer
from tilewright.joint.crew import Ask, Crew, Solved, Stop
from tilewright.joint.goal import Goal, Metric, Totals
from tilewright.joint.sites import area_of
from tilewright.joint.space import Choice, Space
from tilewright.joint.variable import Field
from tilewright.mapper.floor import least_of
from tilewright.mapper.result import Objective
from tilewright.model.cost import Cost
from tilewright.model.evaluate import evaluate, make_evaluator

_MOST_PARTIAL = 4000
"""Combinations of mappings kept from layer to layer; the front of energy and cycles is thinned."""
_SLACK = 1e-9
_MOST_TURNS = 8
"""How often a least power is bettered; it has settled after three or four."""
SolveKey = tuple[Choice, int, str]


@dataclass(frozen=True, slots=True)
class LayerChoice:
    """One layer's mapping in a design.

    Attributes:
        layer: the layer, and how often it occurs, weights included.
        cost: by `exact`.
        proved: whether no mapping of the layer is better for what this one minimises.
    """

    layer: Layer
    weight: float
    cost: Cost
    proved: bool


@dataclass(frozen=True, slots=True)
class Point:
    """A chip, a mapping for every layer, and what all of it costs, by `exact`.

    Attributes:
        goal: what it was made for.
        choice: the chip's place in the space.
        hardware: the chip.
        layers: the mappings.
        totals: energy, cycles and area of all of it.
        lower_bound: no mappings on this chip are better for the goal, in the objective's unit.
        certified: whether no chip of the space with any mappings is better.
    """

    goal: Goal
    choice: Choice
    hardware: Hardware
    layers: tuple[LayerChoice, ...]
    totals: Totals
    lower_bound: float
    certified: bool = False

    @property
    def value(self) -> float:
        """The objective, in its unit."""
        return float(self.totals.of(self.goal.objective))

    def value_of(self, metric: Metric) -> float:
        """Any metric, in its unit."""
        return float(self.totals.of(metric))

    @property
    def proved_on_chip(self) -> bool:
        """Whether no other mappings on this chip are better for the goal."""
        return self.feasible and self.value <= self.lower_bound * (1 + _SLACK)

    @property
    def feasible(self) -> bool:
        """Whether every bound is kept."""
        return not self.goal.excess(self.totals)

    def key(self) -> tuple[float, ...]:
        """Points of one goal are compared by: bounds, the objective, energy, cycles and area."""
        over = math.fsum(math.log(share) for share in self.goal.excess(self.totals).values())
        totals = self.totals
        rest = (totals.energy_pj, totals.cycles, totals.area_mm2)
        return over, self.value, *map(float, rest)

    def to_json(self) -> dict[str, object]:
        """The point as in `docs/codesign.md`, Results."""
        return {
            **self.totals.to_json(),
            "objective": self.goal.objective.value,
            "bounds": {metric.key: bound for metric, bound in self.goal.bounds},
            "hardware": hardware_json(self.hardware),
            "certified": self.certified,
            "proved_on_chip": self.proved_on_chip,
            "lower_bound_on_chip": self.lower_bound,
            "layers": [
                {
                    "name": layer.layer.workload.name,
                    "repeat": layer.layer.repeat,
                    "weight": layer.weight,
                    "mapping": str(layer.cost.mapping),
                    "energy_pj": layer.cost.energy_pj,
                    "cycles": layer.cost.cycles,
                    "proved": layer.proved,
                }
                for layer in self.layers
            ],
        }


def hardware_json(hardware: Hardware) -> dict[str, object]:
    """A chip in the words of its file."""
    return {
        "name": hardware.name,
        "clock_ghz": hardware.clock_ghz,
        "levels": [
            {
                "memory": level.memory,
                "capacity_bits": dict(level.capacity)
                if isinstance(level.capacity, tuple)
                else level.capacity,
                "word_bits": level.word_bits,
                "bandwidth": level.bandwidth,
                "read_bandwidth": level.read_bandwidth,
                "write_bandwidth": level.write_bandwidth,
                "read_pj": level.read_pj,
                "write_pj": level.write_pj,
                "area_mm2": level.area_mm2,
                "fanout": {"x": level.fanout.x, "y": level.fanout.y},
            }
            for level in hardware.levels
        ],
        "mac_units": hardware.mac_units,
    }


@dataclass(slots=True)
class Finisher:
    """Maps layers on chips of a space, each layer and chip once.

    Attributes:
        space: the chips.
        layers: of all networks, with their weights.
        crew: who maps.
        seconds: for one layer; `None` until it is proved.
        recalled: what a study that was killed had mapped; known only once it is asked for again, so
            that what comes before goes as it went then.
        known: what has been mapped.
        on_solved: told what is mapped, as it comes.
        least: mappings that were found and need no mapper, for no mapping undercuts them.
    """

    space: Space
    layers: Sequence[tuple[Layer, float]]
    crew: Crew
    seconds: float | None = None
    recalled: dict[SolveKey, Solved] = field(default_factory=dict[SolveKey, Solved])
    known: dict[SolveKey, Solved] = field(default_factory=dict[SolveKey, Solved])
    on_solved: Callable[[SolveKey, Solved], None] = lambda _, __: None
    least: dict[SolveKey, Solved] = field(default_factory=dict[SolveKey, Solved])

    def solve(self, choices: Iterable[Choice], objectives: Sequence[Objective], stop: Stop) -> None:
        """Map every layer on every one of the chips for every one of the objectives."""
        keys = [
            (choice, index, objective.value)
            for choice in dict.fromkeys(choices)
            for index in range(len(self.layers))
            for objective in objectives
        ]
        for key in keys:
            if key in self.recalled:
                self.known[key] = self.recalled[key]
        missing = [key for key in keys if key not in self.known and key not in self.least]
        chips = {choice: self.space.chip(choice) for choice, _, _ in missing}
        asks = [
            Ask(self.layers[index][0].workload, chips[choice], Objective(name), self.seconds)
            for choice, index, name in missing
        ]
        for place, solved in self.crew.solve(asks, stop):
            self.known[missing[place]] = solved
            self.on_solved(missing[place], solved)

    def finish(
        self, goal: Goal, choice: Choice, drafts: Sequence[Sequence[Mapping]], stop: Stop
    ) -> Point | None:
        """The best design on a chip: of proved mappings and those that a search found.

        Args:
            goal: what to minimise, and the bounds.
            choice: the chip.
            drafts: mappings found for each layer.
            stop: asked now and then.

        Returns: the point, or `None` if a layer has no mapping or it was stopped.
        """
        found: Point | None = None
        for objective in objectives_of(goal):
            if objective is Objective.CYCLES:
                self._note_least(choice, drafts)
            self.solve([choice], [objective], stop)
            found = self._best(goal, choice, drafts)
            if found is None or found.proved_on_chip or stop():
                break
        return None if found is None else self._trimmed(found)

    def _known(self, key: tuple[Choice, int, Objective]) -> Solved | None:
        """What is known of a layer on a chip."""
        named = (*key[:2], key[2].value)
        return self.known.get(named) or self.least.get(named)

    def _note_least(self, choice: Choice, drafts: Sequence[Sequence[Mapping]]) -> None:
        """Note drafts that no mapping undercuts: of each layer the one of least energy."""
        chip = self.space.chip(choice)
        for index, (layer, _) in enumerate(self.layers):
            key = (choice, index, Objective.CYCLES.value)
            if key in self.known or key in self.recalled:
                continue
            floor = least_of(make_evaluator(layer.workload, chip), Objective.CYCLES)
            costs = [_priced(layer, chip, draft) for draft in drafts[index]]
            fastest = [cost for cost in costs if cost is not None and cost.cycles <= floor]
            if fastest:
                best = min(fastest, key=lambda cost: cost.energy_pj)
                text = format_mapping(best.mapping)
                self.least[key] = Solved(text, best.energy_pj, best.cycles, floor, proved=True)

    def as_known(
        self, goal: Goal, choice: Choice, drafts: Sequence[Sequence[Mapping]]
    ) -> Point | None:
        """The best design on a chip of the mappings that there are, without mapping more."""
        found = self._best(goal, choice, drafts)
        return None if found is None else self._trimmed(found)

    def _best(
        self, goal: Goal, choice: Choice, drafts: Sequence[Sequence[Mapping]]
    ) -> Point | None:
        chip = self.space.chip(choice)
        offers: list[list[tuple[Cost, bool]]] = []
        for index, (layer, _) in enumerate(self.layers):
            found = [
                (evaluate(layer.workload, chip, solved.mapping), solved.proved)
                for objective in objectives_of(goal)
                for solved in [self._known((choice, index, objective))]
                if solved is not None and solved.mapping is not None
            ]
            costs = [_priced(layer, chip, draft) for draft in drafts[index]]
            found += [(cost, False) for cost in costs if cost is not None]
            if not found:
                return None
            offers.append(found)
        return self._choose(goal, choice, chip, offers)

    def _choose(
        self,
        goal: Goal,
        choice: Choice,
        chip: Hardware,
        offers: Sequence[Sequence[tuple[Cost, bool]]],
    ) -> Point:
        """The best of all choices of one offer a layer.

        Power is at most P where energy less P for each cycle is at most 0: then a slower mapping
        may be the better one, and the front is of that against cycles. Where power is minimised and
        latency bounded, P is the least so far, until there is no less (Dinkelbach).
        """

        def best(power_w: float) -> Point:
            per_cycle = power_w * 1e3 / chip.clock_ghz
            points = self._combined(goal, choice, chip, offers, per_cycle)
            return min(points, key=Point.key)

        found = best(0.0)
        bounds = dict(goal.bounds)
        limit = bounds.get(Metric.POWER)
        if limit is not None:
            found = min(found, best(limit), key=Point.key)
        slower_counts = goal.objective is Metric.POWER and Metric.LATENCY in bounds
        for _ in range(_MOST_TURNS if slower_counts else 0):
            better = best(found.value)
            if better.key() >= found.key():
                break
            found = better
        return found

    def _combined(
        self,
        goal: Goal,
        choice: Choice,
        chip: Hardware,
        offers: Sequence[Sequence[tuple[Cost, bool]]],
        per_cycle: float,
    ) -> Iterator[Point]:
        """Points on the front of cycles and of energy less `per_cycle`, in pJ, for each."""
        weights = [layer.repeat * weight for layer, weight in self.layers]
        pairs = [
            [(w * (c.energy_pj - per_cycle * c.cycles), w * c.cycles) for c, _ in offer]
            for w, offer in zip(weights, offers, strict=True)
        ]
        area = area_of(chip) or 0.0
        bound = self._bound(goal, choice)
        for _, cycles, taken in combinations(pairs):
            layers = tuple(
                LayerChoice(layer, weight, *offer[at])
                for (layer, weight), offer, at in zip(self.layers, offers, taken, strict=True)
            )
            energy = math.fsum(w * x.cost.energy_pj for w, x in zip(weights, layers, strict=True))
            totals = Totals(energy, cycles, area, chip.clock_ghz)
            yield Point(goal, choice, chip, layers, totals, bound)

    def _bound(self, goal: Goal, choice: Choice) -> float:
        """What no mappings on the chip undercut, in the objective's unit; 0 if not known."""
        energy = self._sum_of_bounds(choice, Objective.ENERGY)
        cycles = self._sum_of_bounds(choice, Objective.CYCLES)
        chip = self.space.chip(choice)
        least = Totals(energy, cycles, area_of(chip) or 0.0, chip.clock_ghz)
        if goal.objective is Metric.POWER:
            slowest = dict(goal.bounds).get(Metric.LATENCY)
            return 0.0 if slowest is None else energy * 1e-12 / slowest
        if goal.objective is Metric.EDP:
            # (Σ e)·(Σ c) ≥ (Σ √(e·c))², Cauchy and Schwarz.
            roots = self._sum_of_bounds(choice, Objective.EDP, math.sqrt)
            return max(float(least.of(Metric.EDP)), roots**2)
        return float(least.of(goal.objective))

    def _sum_of_bounds(
        self, choice: Choice, objective: Objective, of: Callable[[float], float] = float
    ) -> float:
        found = [
            (layer.repeat * weight, self._known((choice, index, objective)))
            for index, (layer, weight) in enumerate(self.layers)
        ]
        return math.fsum(w * of(solved.lower_bound) for w, solved in found if solved is not None)

    def _trimmed(self, point: Point) -> Point:
        """The point with continuous capacities as small as its mappings allow."""
        names = {
            (v.memory, v.operand)
            for v in self.space.variables
            if v.continuous and v.field is Field.CAPACITY
        }
        if not names:
            return point
        costs = [layer.cost for layer in point.layers]
        chip = shrunk(point.hardware, costs, names, self.space.template)
        layers = tuple(
            replace(x, cost=evaluate(x.layer.workload, chip, x.cost.mapping), proved=False)
            for x in point.layers
        )
        pairs = [(x.layer.repeat * x.weight, x.cost) for x in layers]
        totals = Totals(
            math.fsum(w * cost.energy_pj for w, cost in pairs),
            math.fsum(w * cost.cycles for w, cost in pairs),
            area_of(chip) or 0.0,
            chip.clock_ghz,
        )
        smaller = replace(point, hardware=chip, layers=layers, totals=totals, lower_bound=0.0)
        return min(point, smaller, key=Point.key)


def _priced(layer: Layer, chip: Hardware, mapping: Mapping) -> Cost | None:
    """The cost by `exact`, if the mapping fits after all."""
    verify_mapping(layer.workload, chip, mapping)
    try:
        return make_evaluator(layer.workload, chip).price(mapping)
    except InfeasibleError:
        return None


def objectives_of(goal: Goal) -> tuple[Objective, ...]:
    """What layers are mapped for, one after the other, until the goal is proved on the chip."""
    metrics = set(goal.metrics)
    first = _FIRST[goal.objective]
    if goal.objective is Metric.AREA and Metric.ENERGY in metrics:
        first = Objective.ENERGY
    both = bool(metrics & {Metric.POWER, Metric.EDP}) or {Metric.ENERGY, Metric.LATENCY} <= metrics
    if not both:
        return (first,)
    # Least cycles are proved last: it may take a hundred times as long.
    quick = (Objective.ENERGY, Objective.EDP, Objective.CYCLES)
    if first is Objective.CYCLES:
        return quick
    return (first, *(objective for objective in quick if objective is not first))


_FIRST = {
    Metric.LATENCY: Objective.CYCLES,
    Metric.ENERGY: Objective.ENERGY,
    Metric.POWER: Objective.ENERGY,
    Metric.AREA: Objective.CYCLES,
    Metric.EDP: Objective.EDP,
}


Partial = tuple[float, float, tuple[int, ...]]


def combinations(pairs: Sequence[Sequence[tuple[float, float]]]) -> list[Partial]:
    """The front of total energy and cycles over one offer per layer, and the offers taken.

    >>> combinations([[(1.0, 9.0), (5.0, 2.0), (6.0, 3.0)], [(1.0, 1.0)]])
    [(2.0, 10.0, (0, 0)), (6.0, 3.0, (1, 0))]
    """
    front: list[Partial] = [(0.0, 0.0, ())]
    for offers in pairs:
        sums = [
            (energy + more, cycles + longer, (*taken, at))
            for energy, cycles, taken in front
            for at, (more, longer) in enumerate(offers)
        ]
        front = _front(sums)
        if len(front) > _MOST_PARTIAL:
            step = len(front) / _MOST_PARTIAL
            kept = sorted({*(int(i * step) for i in range(_MOST_PARTIAL)), len(front) - 1})
            front = [front[i] for i in kept]
    return front


def _front(sums: list[Partial]) -> list[Partial]:
    found: list[Partial] = []
    for item in sorted(sums):
        if not found or item[1] < found[-1][1]:
            found.append(item)
    return found


def shrunk(
    chip: Hardware, costs: Sequence[Cost], names: set[tuple[str, str | None]], template: Hardware
) -> Hardware:
    """The chip with the named capacities reduced to whole bytes that the mappings need.

    Energies and areas that the template does not give are those of the smaller memories.
    """
    from tilewright.model.capacity import word_bits
    from tilewright.tech import apply_technology

    levels = list(chip.levels)
    for at, level in enumerate(levels):
        need: dict[str, int] = {}
        whole = 0
        for cost in costs:
            used = {
                operand.name: cost.counts.tile_words[level.memory, operand.name]
                * word_bits(cost.workload, level, operand, cost.counts, cost.convention)
                for operand in cost.workload.operands
                if (level.memory, operand.name) in cost.counts.tile_words
            }
            need = {name: max(need.get(name, 0), used.get(name, 0)) for name in {*need, *used}}
            whole = max(whole, sum(used.values()))
        twice = 2 if level.double_buffered else 1

        def least(bits: int, had: int, twice: int = twice) -> int:
            return min(had, max(8, -(-bits // 8) * 8 * twice))

        capacity = level.capacity
        if isinstance(capacity, tuple):
            capacity = tuple(
                (name, least(need.get(name, 0), had) if (level.memory, name) in names else had)
                for name, had in capacity
            )
        elif capacity is not None and (level.memory, None) in names:
            capacity = least(whole, capacity)
        if capacity != level.capacity:
            given = template.levels[template.level_index(level.memory)]
            levels[at] = replace(
                level,
                capacity=capacity,
                read_pj=given.read_pj,
                write_pj=given.write_pj,
                area_mm2=given.area_mm2,
            )
    return apply_technology(replace(chip, levels=tuple(levels)))[0]
