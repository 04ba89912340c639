"""The memory hierarchy of least energy under a budget, proved best of a stated grid.

Owns: the nouns `DesignGrid`, `Hierarchy`, `DesignPoint`, `DesignResult`, and `design_hierarchy`.

The layers of the hierarchy with the least bound are solved, one after the other, each until it is
proved or its bound excludes the hierarchy; every certificate raises the bounds of the hierarchies
that it relaxes; the search ends when none is below the best: for the whole front, below the best of
those that are no larger.

Non-goals: bounds (`mapper/design_bounds.py`), mapping a layer (`mapper/layer.py`).
"""

import math
import multiprocessing
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from itertools import accumulate, combinations
from threading import Event as ThreadEvent

from tilewright.errors import InfeasibleError, InputError, Problem, Violation
from tilewright.ir.hardware import Compute, Fanout, Hardware, Level
from tilewright.ir.quantity import format_bytes
from tilewright.ir.workload import Network, Workload
from tilewright.mapper.design_bounds import Floor, Prices, layer_floor, prices_of, relaxed_bound
from tilewright.mapper.processes import (
    make_pool,
    solve_in_process,
    solve_until,
    stop_on_interrupt,
)
from tilewright.mapper.question import Question
from tilewright.mapper.result import LayerResult, Objective, Status, find_objective
from tilewright.mapper.solved import SolvedLayers
from tilewright.model.cost import Cost
from tilewright.model.evaluate import evaluate
from tilewright.tech import apply_technology, find_technology

KIB = 1024 * 8
MOST_HIERARCHIES = 20_000
AREA_TABLE = "fitted45"
"""Where areas, and energies of MACs, come from if the technology knows none."""
_MOST_TRIES = 3
"""How often a layer is tried whose search was cut short."""
_SLACK = 1e-9
"""By what share a bound may stay below the best and still exclude: rounding of sums."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """On-chip memories, outermost first: capacities and words, in bits."""

    capacities: tuple[int, ...]
    word_bits: tuple[int, ...]

    @property
    def capacity_bits(self) -> int:
        """All levels together."""
        return sum(self.capacities)

    @property
    def memories(self) -> tuple[str, ...]:
        """Their names: L1 is the innermost."""
        return tuple(f"L{n}" for n in range(len(self.capacities), 0, -1))

    def __str__(self) -> str:
        return " + ".join(map(format_bytes, self.capacities))

    def to_json(self) -> list[dict[str, object]]:
        """The levels as in `spec/formats.md`, Results."""
        return [
            {"memory": memory, "capacity_bytes": capacity // 8, "word_bits": bits}
            for memory, capacity, bits in zip(
                self.memories, self.capacities, self.word_bits, strict=True
            )
        ]


@dataclass(frozen=True, slots=True)
class DesignGrid:
    """The hierarchies to choose from, and the budget.

    Attributes:
        levels: the numbers of on-chip levels.
        capacities: of one level, in bits; every level is larger than the next one inwards.
        word_bits: of a level; of those that cost the same area only the cheapest is tried.
        technology: the table of energies.
        area_mm2: the most that memories and MAC units may take; `None` for no limit.
        capacity_bits: the most that all levels may hold; `None` for no limit.

    Raises `InputError`, with all problems, when made.

    >>> grid = DesignGrid((1, 2), (8 * KIB, 64 * KIB), capacity_bits=64 * KIB)
    >>> [str(hierarchy) for hierarchy in grid.hierarchies()]
    ['8 KiB', '64 KiB', '64 KiB + 8 KiB']
    """

    levels: tuple[int, ...] = (1, 2)
    capacities: tuple[int, ...] = tuple(KIB * 2**n for n in range(11))
    word_bits: tuple[int, ...] = (64, 128, 256, 512)
    technology: str = "yang2016"
    area_mm2: float | None = None
    capacity_bits: int | None = None

    def __post_init__(self) -> None:
        find_technology(self.technology)
        problems = list(self._problems())
        if problems:
            raise InputError(problems)

    def _problems(self) -> Iterator[Problem]:
        if not self.levels or min(self.levels, default=1) < 1 or max(self.levels, default=1) > 3:
            what = f"levels {', '.join(map(str, self.levels))}: from 1 to 3 on the chip"
            yield Problem(what, "1..2 is usual")
        if not self.capacities or min(self.capacities) < 1:
            yield Problem("a level of the grid holds nothing", "start at 1KiB")
        if not self.word_bits or min(self.word_bits) < 1:
            yield Problem("a word has at least 1 bit", "64, 128, 256 and 512 are usual")
        if self.area_mm2 is not None and not (math.isfinite(self.area_mm2) and self.area_mm2 > 0):
            what = f"an area of {self.area_mm2} mm²: it must be above 0"
            yield Problem(what, "10 is one")
        if self.capacity_bits is not None and self.capacity_bits < 1:
            yield Problem("a total capacity that holds nothing", "1MiB is one")
        count = sum(math.comb(len(set(self.capacities)), n) for n in self.levels if n > 0)
        if count > MOST_HIERARCHIES:
            what = f"the grid has {count:,} hierarchies: at most {MOST_HIERARCHIES:,}"
            yield Problem(what, "fewer levels, or wider steps between capacities")
        elif self.capacities and self.levels and not count:
            sizes = len(set(self.capacities))
            what = f"{sizes} capacities are too few for {min(self.levels)} levels"
            yield Problem(what, "a wider range, or fewer levels")

    @property
    def area_table(self) -> str:
        """The table that areas come from: the technology, if it knows any."""
        known = find_technology(self.technology).memory_area is not None
        return self.technology if known else AREA_TABLE

    def hierarchies(self) -> Iterator[Hierarchy]:
        """Every hierarchy of the grid, whatever the budget, each level with its cheapest word."""
        rising = sorted(set(self.capacities))
        for count in sorted(set(self.levels)):
            for chosen in combinations(rising, count):
                falling = chosen[::-1]
                yield Hierarchy(falling, tuple(self._cheapest_word(c) for c in falling))

    def _cheapest_word(self, capacity: int) -> int:
        table = find_technology(self.technology)
        return min(
            sorted(set(self.word_bits)), key=lambda bits: table.access_pj(capacity, bits) / bits
        )

    def chip(self, hierarchy: Hierarchy, base: Hardware) -> Hardware:
        """The chip with that hierarchy above the MAC units of `base`."""
        areas = find_technology(self.area_table)
        inner = [
            Level(
                name,
                capacity=capacity,
                word_bits=bits,
                technology=self.technology,
                area_mm2=areas.memory_mm2(capacity),
            )
            for name, capacity, bits in zip(
                hierarchy.memories, hierarchy.capacities, hierarchy.word_bits, strict=True
            )
        ]
        inner[-1] = replace(inner[-1], fanout=_fanout(base))
        outer = replace(base.levels[0], technology=self.technology, fanout=Fanout())
        chip = replace(base, name=str(hierarchy), levels=(outer, *inner))
        return apply_technology(chip)[0]

    def to_json(self) -> dict[str, object]:
        """The grid as a JSON object."""
        return {
            "levels": sorted(set(self.levels)),
            "capacities_bytes": sorted({bits // 8 for bits in self.capacities}),
            "word_bits": sorted(set(self.word_bits)),
            "technology": self.technology,
            "area_technology": self.area_table,
            "area_mm2": self.area_mm2,
            "capacity_bytes": None if self.capacity_bits is None else self.capacity_bits // 8,
        }


def mac_array(x: int, y: int, *, technology: str = "yang2016", bits: int = 16) -> Hardware:
    """A chip to start from: MAC units in an array, any dim on any axis, and memory off the chip.

    >>> mac_array(16, 16).mac_units
    256
    """
    has_macs = find_technology(technology).mac_energy is not None
    compute = Compute(bits=bits, technology=technology if has_macs else AREA_TABLE)
    outer = Level("DRAM", technology=technology, fanout=Fanout(x=x, y=y))
    return Hardware(f"{x}x{y} MACs", (outer,), compute)


def _fanout(base: Hardware) -> Fanout:
    return next((v.fanout for v in base.levels if v.fanout.copies > 1), Fanout())


@dataclass(frozen=True, slots=True)
class DesignPoint:
    """A hierarchy whose layers are all mapped.

    Attributes:
        hierarchy: its levels.
        hardware: the chip with it.
        layers: the best mapping of each layer, in the order of the network.
        area_mm2: of memories and MAC units; `None` if not known.
    """

    hierarchy: Hierarchy
    hardware: Hardware
    layers: tuple[LayerResult, ...]
    area_mm2: float | None

    @property
    def energy_pj(self) -> float:
        """Of the whole network, in pJ."""
        return math.fsum(c.energy_pj * n for n, c in self._priced())

    @property
    def cycles(self) -> int:
        """Of the whole network."""
        return sum(c.cycles * n for n, c in self._priced())

    @property
    def proved(self) -> bool:
        """Whether every layer's mapping is proved to be the best there."""
        return all(layer.status is Status.OPTIMAL for layer in self.layers)

    def _priced(self) -> list[tuple[int, Cost]]:
        return [(layer.repeat, layer.cost) for layer in self.layers if layer.cost is not None]

    def level_pj(self) -> dict[str, float]:
        """Energy by memory, and of the MAC units, in pJ."""
        found: dict[str, float] = {}
        for repeat, cost in self._priced():
            for level in cost.levels:
                found[level.memory] = found.get(level.memory, 0.0) + repeat * level.energy_pj
            name = self.hardware.compute.name
            found[name] = found.get(name, 0.0) + repeat * cost.compute_pj
        return found

    def to_json(self) -> dict[str, object]:
        """The point of a front."""
        return {
            "levels": self.hierarchy.to_json(),
            "energy_pj": self.energy_pj,
            "cycles": self.cycles,
            "area_mm2": self.area_mm2,
            "capacity_bytes": self.hierarchy.capacity_bits // 8,
            "certified": self.proved,
        }


@dataclass(frozen=True, slots=True)
class DesignResult:
    """The best hierarchy found, and what is known of the others.

    Attributes:
        network: what was designed for.
        grid: what was chosen from, and the budget.
        objective: what was minimised: the sum over layers, as often as they occur.
        best: the best; `None` if the search was stopped before the first was done.
        lower_bound: no hierarchy of the grid within the budget is better.
        points: every hierarchy whose layers were all mapped, as they came.
        candidates: hierarchies within the budget.
        solved: layers that were mapped, over all hierarchies.
        seconds: that it took.
        interrupted: whether it was stopped.
        front_proved: whether every hierarchy within the budget is on the front, or proved to be
            beaten by one that is no larger.
    """

    network: Network
    grid: DesignGrid
    objective: Objective
    best: DesignPoint | None
    lower_bound: float
    points: tuple[DesignPoint, ...]
    candidates: int
    solved: int
    seconds: float
    interrupted: bool
    front_proved: bool = False

    @property
    def value(self) -> float | None:
        """The objective at the best hierarchy, in its unit."""
        return None if self.best is None else _score(self.best.layers, self.objective)

    @property
    def status(self) -> Status:
        """`OPTIMAL` if every layer is proved there, and every other hierarchy is excluded."""
        value = self.value
        proved = self.best is not None and self.best.proved
        if value is None or not proved or self.lower_bound < value * (1 - _SLACK):
            return Status.BEST_FOUND
        return Status.OPTIMAL

    @property
    def front(self) -> tuple[DesignPoint, ...]:
        """Hierarchies found that no other one found beats in both area and energy, by area."""
        found: list[DesignPoint] = []
        for point in sorted(self.points, key=lambda p: (_size(p), p.energy_pj)):
            if not found or point.energy_pj < found[-1].energy_pj * (1 - _SLACK):
                found.append(point)
        return tuple(found)

    @property
    def gap(self) -> float | None:
        """By what share the best could at most be improved."""
        value = self.value
        if not value:
            return value
        return max(0.0, 1 - self.lower_bound / value)

    def to_json(self) -> dict[str, object]:
        """The document of `design --json` (`spec/formats.md`, Results)."""
        best = self.best
        document: dict[str, object] = {
            "workload": self.network.name,
            "objective": self.objective.value,
            "levels": [] if best is None else best.hierarchy.to_json(),
            "energy_pj": None if best is None else best.energy_pj,
            "cycles": None if best is None else best.cycles,
            "area_mm2": None if best is None else best.area_mm2,
            "status": self.status.value,
            "value": self.value,
            "lower_bound": self.lower_bound,
            "gap": self.gap,
            "level_energy_pj": {} if best is None else best.level_pj(),
            "layers": [] if best is None else [layer.to_json() for layer in best.layers],
            "grid": self.grid.to_json() | {"hierarchies": self.candidates},
            "front": [point.to_json() for point in self.front],
            "front_certified": self.front_proved,
            "points": [point.to_json() for point in self.points],
            "solved": self.solved,
            "seconds": self.seconds,
        }
        if self.interrupted:
            document["interrupted"] = True
        return document


def _size(point: DesignPoint) -> float:
    return _size_of(point.hierarchy, point.hardware)


def _size_of(hierarchy: Hierarchy, chip: Hardware) -> float:
    """What a hierarchy is weighed by against its energy: mm², or bits where areas are unknown."""
    area = _area(chip)
    return hierarchy.capacity_bits if area is None else area


def _score(layers: tuple[LayerResult, ...], objective: Objective) -> float:
    return math.fsum(objective.of(x.cost) * x.repeat for x in layers if x.cost is not None)


@dataclass(frozen=True, slots=True)
class DesignProgress:
    """How far a search has come: values in the objective's unit, hierarchies, layers mapped."""

    best: float | None
    lower_bound: float
    excluded: int
    candidates: int
    solved: int


OnProgress = Callable[[DesignProgress], None]
Known = dict[tuple[Workload, Hardware], LayerResult]
"""Mappings of earlier searches, by layer and chip."""


def design_hierarchy(  # noqa: PLR0913
    network: Network,
    grid: DesignGrid,
    base: Hardware,
    *,
    objective: str | Objective = Objective.ENERGY,
    whole_front: bool = False,
    seconds: float | None = None,
    jobs: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: OnProgress = lambda _: None,
    known: Known | None = None,
    solved: SolvedLayers | None = None,
) -> DesignResult:
    """Choose the memories of least energy for a network, and every layer's blocking on them.

    Args:
        network: its layers.
        grid: the hierarchies to choose from, and the budget.
        base: the chip to start from: its outermost memory, MAC units and clock stay; the memories
            between them are chosen. All are above the MAC array, without limits of bandwidth.
        objective: `energy`, or `edp`: the sum of the layers' own products.
        whole_front: search on until the front of energy and area is proved, too: a hierarchy is
            excluded only by one that is no larger.
        seconds: for all; afterwards the best found, with a bound.
        jobs: processes that map layers.
        should_stop: asked now and then; the best found is returned if it says so.
        on_progress: told after every layer.
        known: mappings of earlier searches with the same objective, of other networks or budgets:
            they are not searched again, and what is found is added.
        solved: where answers are kept on disk; mappings that it knows are not searched again.

    Returns: `OPTIMAL` only if every hierarchy of the grid within the budget was either mapped with
    a certificate for every layer, or is excluded by a bound.

    Raises:
        InputError: a chip with more than one fan-out, an objective without a bound, or a front of
            another one than energy.
        InfeasibleError: no hierarchy is within the budget; it names the smallest.

    >>> from tilewright.ir.workload import Layer, einsum
    >>> layer = einsum("mm", "O[M,N] += A[M,K] * B[K,N]", {"M": 8, "N": 8, "K": 8})
    >>> grid = DesignGrid((1,), (KIB // 4, KIB, 4 * KIB))
    >>> found = design_hierarchy(Network("mm", (Layer(layer),)), grid, mac_array(1, 1))
    >>> found.status.value, str(found.best.hierarchy)
    ('optimal', '256 B')
    """
    began = time.monotonic()
    goal = find_objective(objective)
    _check_base(base, goal)
    if whole_front and goal is not Objective.ENERGY:
        what = f"a front of `{goal.value}`: it is one of energy and area"
        raise InputError(Problem(what, "leave --front out, or --objective energy"))
    within = _within_budget(grid, base)
    deadline = None if seconds is None else began + seconds
    memory: Known = {} if known is None else known
    rivals = [_Rival(h, chip) for h, chip in within]
    hunt = _Hunt(network, goal, rivals, deadline, on_progress, solved, memory, whole_front)
    hunt.recall()
    if jobs > 1:
        interrupted = _hunt_in_processes(hunt, jobs, should_stop)
    else:
        interrupted = _hunt_here(hunt, should_stop)
    return DesignResult(
        network,
        grid,
        goal,
        hunt.best,
        hunt.lower_bound,
        tuple(hunt.points),
        len(within),
        hunt.solved,
        time.monotonic() - began,
        interrupted,
        whole_front and hunt.settled(),
    )


def _check_base(base: Hardware, objective: Objective) -> None:
    problems: list[Problem] = []
    if objective not in (Objective.ENERGY, Objective.EDP):
        what = f"a hierarchy is not designed for `{objective.value}`"
        problems.append(Problem(what, "one of: energy, edp"))
    fans = [level.memory for level in base.levels if level.fanout.copies > 1]
    if len(fans) > 1:
        what = f"{base.name} has fan-outs below {' and '.join(fans)}: one MAC array is wanted"
        problems.append(Problem(what, "start from an array instead: --macs 16x16"))
    if problems:
        raise InputError(problems)


def _area(chip: Hardware) -> float | None:
    areas = [level.area_mm2 for level in chip.levels[1:]]
    units = chip.compute.area_mm2
    known = [area for area in areas if area is not None]
    if len(known) < len(areas) or units is None:
        return None
    return math.fsum([*known, units * chip.mac_units])


def _within_budget(grid: DesignGrid, base: Hardware) -> list[tuple[Hierarchy, Hardware]]:
    """The hierarchies within the budget. Raises `InfeasibleError` if there is none."""
    every = [(h, grid.chip(h, base)) for h in grid.hierarchies()]
    if grid.area_mm2 is not None and any(_area(chip) is None for _, chip in every):
        what = f"{base.name}: no area of its {base.compute.name} units is known"
        raise InputError(Problem(what, "give them an area, or start from --macs 16x16"))
    fitting = [
        (h, chip)
        for h, chip in every
        if (grid.capacity_bits is None or h.capacity_bits <= grid.capacity_bits)
        and (grid.area_mm2 is None or (_area(chip) or 0.0) <= grid.area_mm2)
    ]
    if not fitting:
        raise InfeasibleError(_too_small(grid, every))
    return fitting


def _too_small(grid: DesignGrid, every: list[tuple[Hierarchy, Hardware]]) -> Iterator[Violation]:
    """What the budget lacks: the smallest hierarchy of the grid is smallest in both ways."""
    least, chip = min(every, key=lambda pair: pair[0].capacity_bits)
    if grid.capacity_bits is not None and least.capacity_bits > grid.capacity_bits:
        size = format_bytes(least.capacity_bits)
        what = f"no hierarchy of the grid has at most {format_bytes(grid.capacity_bits)}"
        fix = f"the smallest, {least}, has {size}: --capacity {size.replace(' ', '')}"
        needed = (least.capacity_bits // 8, grid.capacity_bits // 8)
        yield Violation(least.memories[0], what, fix, (), *needed)
    area = _area(chip)
    if grid.area_mm2 is not None and area is not None and area > grid.area_mm2:
        what = f"no hierarchy of the grid takes at most {grid.area_mm2:g} mm², MAC units included"
        up = math.ceil(area * 1e4) / 1e4
        fix = f"the smallest, {least}, takes {area:.4f} mm²: --area {up:g}"
        yield Violation(least.memories[0], what, fix)


@dataclass(slots=True)
class _Rival:
    """A hierarchy in the search: bounds of its layers, and the mappings found so far."""

    hierarchy: Hierarchy
    chip: Hardware
    size: float = field(init=False)
    prices: Prices = field(init=False)
    floors: list[Floor] = field(default_factory=list[Floor])
    bounds: list[float] = field(default_factory=list[float])
    found: dict[int, LayerResult] = field(default_factory=dict[int, LayerResult])
    tries: dict[int, int] = field(default_factory=dict[int, int])
    total: float = 0.0

    def __post_init__(self) -> None:
        self.size = _size_of(self.hierarchy, self.chip)
        self.prices = prices_of(self.chip)


_Task = tuple[_Rival, int]


@dataclass(slots=True)
class _Hunt:
    """The search: what to solve next, and what follows from what was solved."""

    network: Network
    objective: Objective
    rivals: list[_Rival]
    deadline: float | None
    on_progress: OnProgress
    solved_before: SolvedLayers | None
    known: Known = field(default_factory=dict[tuple[Workload, Hardware], LayerResult])
    whole_front: bool = False
    points: list[DesignPoint] = field(default_factory=list[DesignPoint])
    best: DesignPoint | None = None
    value: float = math.inf
    solved: int = 0
    stairs: tuple[Sequence[float], Sequence[float]] = ((), ())
    """Sizes of what was mapped, rising, and the best value up to each."""

    def __post_init__(self) -> None:
        for rival in self.rivals:
            for layer in self.network.layers:
                floor = layer_floor(layer.workload, rival.chip, self.objective)
                rival.floors.append(floor)
                rival.bounds.append(floor.value(rival.prices))
            self._sum(rival)

    def recall(self) -> None:
        """Take over what earlier searches have found."""
        for rival in self.rivals:
            for index, layer in enumerate(self.network.layers):
                result = self.known.get((layer.workload, rival.chip))
                if result is not None:
                    self._note((rival, index), result)

    @property
    def lower_bound(self) -> float:
        """What no hierarchy can beat."""
        return min(self.value, *(rival.total for rival in self.rivals))

    def to_beat(self, rival: _Rival) -> float:
        """What excludes a hierarchy: the best value, for a front of those that are no larger."""
        if not self.whole_front:
            return self.value
        sizes, values = self.stairs
        place = bisect_right(sizes, rival.size)
        return values[place - 1] if place else math.inf

    def is_excluded(self, rival: _Rival) -> bool:
        """Whether a hierarchy is proved to be no better than what was mapped."""
        return rival.total >= self.to_beat(rival) * (1 - _SLACK)

    @property
    def seconds_left(self) -> float | None:
        return None if self.deadline is None else self.deadline - time.monotonic()

    def share(self, task: _Task) -> float | None:
        """Seconds for one layer: of what is left an eighth at first, later more."""
        left, (rival, index) = self.seconds_left, task
        if left is None:
            return None
        tries = rival.tries.get(index, 0)
        open_layers = len(self.network.layers) - len(rival.found)
        return max(0.0, left) / (max(8, open_layers) if tries == 0 else 2)

    def question(self, task: _Task) -> Question:
        """What is asked of a mapper for a layer of a hierarchy."""
        rival, index = task
        workload = self.network.layers[index].workload
        return Question(workload, rival.chip, self.objective, seconds=self.share(task))

    def take_known(self, task: _Task) -> bool:
        """Record a layer that was solved before; whether it was."""
        before = self.solved_before
        known = None if before is None else before.find(self.question(task))
        if known is not None:
            self.record(task, known)
        return known is not None

    def keep_proved(self, task: _Task, result: LayerResult) -> None:
        """Keep what is proved; the rest holds for a share of time that does not come again."""
        if self.solved_before is not None and result.status is not Status.BEST_FOUND:
            self.solved_before.keep(self.question(task), result)

    def enough(self, task: _Task) -> float:
        """A bound of one layer that excludes its hierarchy: it need not be solved any further."""
        rival, index = task
        repeat = self.network.layers[index].repeat
        others = rival.total - rival.bounds[index] * repeat
        return (self.to_beat(rival) - others) / repeat

    def next_task(self, busy: list[_Task]) -> _Task | None:
        """The layer that costs most of the hierarchy of the least bound; `None` if all is done.

        Until one hierarchy is complete, the one that was begun goes on.
        """
        taken = {(id(rival), index) for rival, index in busy}
        begun = [r for r in self.rivals if r.found or any(r is b for b, _ in busy)]
        if self.best is None and begun:
            task = self._open_layer(max(begun, key=lambda r: len(r.found)), taken)
            if task is not None:
                return task
        for rival in sorted(self.rivals, key=lambda r: r.total):
            if self.is_excluded(rival):
                continue
            task = self._open_layer(rival, taken) or self._cut_layer(rival, taken)
            if task is not None:
                return task
        return None

    def _cut_layer(self, rival: _Rival, taken: set[tuple[int, int]]) -> _Task | None:
        """A layer that was cut short, to be tried again with more time."""
        for index, result in rival.found.items():
            cut = result.status is Status.BEST_FOUND and rival.tries[index] < _MOST_TRIES
            if cut and (id(rival), index) not in taken:
                return rival, index
        return None

    def _open_layer(self, rival: _Rival, taken: set[tuple[int, int]]) -> _Task | None:
        layers = self.network.layers
        waiting = [
            index
            for index in range(len(layers))
            if index not in rival.found and (id(rival), index) not in taken
        ]
        if not waiting:
            return None
        return rival, max(waiting, key=lambda i: rival.bounds[i] * layers[i].repeat)

    def record(self, task: _Task, result: LayerResult) -> None:
        """Note a layer's result, raise what it bounds, and see whether its hierarchy is done."""
        self.solved += 1
        self._note(task, result)
        self._share_out(*task)
        excluded = sum(map(self.is_excluded, self.rivals))
        best = None if self.best is None else self.value
        self.on_progress(
            DesignProgress(best, self.lower_bound, excluded, len(self.rivals), self.solved)
        )

    def _note(self, task: _Task, result: LayerResult) -> None:
        """Note a layer's result, and raise what it bounds."""
        rival, index = task
        rival.tries[index] = rival.tries.get(index, 0) + 1
        if result.lower_bound is not None:
            rival.bounds[index] = max(rival.bounds[index], result.lower_bound)
            self._sum(rival)
            self._relax(rival, index)
        self._keep(rival, index, self._better(rival.found.get(index), result, index))

    def _share_out(self, rival: _Rival, index: int) -> None:
        """Try a layer's mappings on other hierarchies, where searches were cut short."""
        for other in self.rivals:
            if other is not rival and index in other.found:
                mine, theirs = rival.found[index], other.found[index]
                self._keep(rival, index, self._try_on(rival, mine, theirs))
                self._keep(other, index, self._try_on(other, theirs, mine))

    def _try_on(self, rival: _Rival, mine: LayerResult, theirs: LayerResult) -> LayerResult:
        """A result that is not proved, with another hierarchy's mapping if that is better here."""
        if mine.status is not Status.BEST_FOUND or theirs.cost is None:
            return mine
        names = {level.memory for level in rival.chip.levels}
        if any(block.memory not in names for block in theirs.cost.mapping.blocks):
            return mine
        try:
            cost = evaluate(mine.workload, rival.chip, theirs.cost.mapping)
        except InfeasibleError:
            return mine
        if mine.cost is not None and self.objective.key(mine.cost) <= self.objective.key(cost):
            return mine
        return replace(mine, cost=cost)

    def _keep(self, rival: _Rival, index: int, result: LayerResult) -> None:
        changed = rival.found.get(index) is not result
        rival.found[index] = result
        self.known[self.network.layers[index].workload, rival.chip] = result
        if changed and len(rival.found) == len(self.network.layers):
            self._complete(rival)

    def _better(self, old: LayerResult | None, new: LayerResult, index: int) -> LayerResult:
        """The new result of a layer, unless an earlier one, cut short, was better."""
        if old is not None and old.cost is not None:
            was = self.objective.of(old.cost)
            if new.cost is None or was < self.objective.of(new.cost):
                return old
        return new.repeated(self.network.layers[index].repeat)

    def _relax(self, solved: _Rival, index: int) -> None:
        certificate = solved.bounds[index]
        for rival in self.rivals:
            if rival is solved or index in rival.found:
                continue
            bound = relaxed_bound(rival.prices, rival.floors[index], solved.prices, certificate)
            if bound > rival.bounds[index]:
                rival.bounds[index] = bound
                self._sum(rival)

    def _sum(self, rival: _Rival) -> None:
        pairs = zip(rival.bounds, self.network.layers, strict=True)
        rival.total = math.fsum(bound * layer.repeat for bound, layer in pairs)

    def _complete(self, rival: _Rival) -> None:
        layers = tuple(rival.found[i] for i in range(len(self.network.layers)))
        if any(layer.cost is None for layer in layers):
            return
        cut = any(layer.status is Status.BEST_FOUND for layer in layers)
        if cut and self.is_excluded(rival):
            return  # excluded before its mappings were worth showing
        point = DesignPoint(rival.hierarchy, rival.chip, layers, _area(rival.chip))
        self.points = [p for p in self.points if p.hierarchy != point.hierarchy] + [point]
        value = _score(layers, self.objective)
        if self.best is None or (value, _size(point)) < (self.value, _size(self.best)):
            self.best, self.value = point, value
        self._build_stairs()

    def _build_stairs(self) -> None:
        points = sorted(self.points, key=_size)
        values = (_score(point.layers, self.objective) for point in points)
        self.stairs = [_size(point) for point in points], list(accumulate(values, min))

    def settled(self) -> bool:
        """Whether nothing can be better than what was found."""
        return all(map(self.is_excluded, self.rivals))

    def late(self) -> bool:
        """Whether the time is spent."""
        left = self.seconds_left
        return left is not None and left <= 0


def _hunt_here(hunt: _Hunt, should_stop: Callable[[], bool]) -> bool:
    """Solve one layer after the other; returns whether it was stopped."""
    stop = ThreadEvent()
    with stop_on_interrupt(stop):

        def stopped() -> bool:
            return stop.is_set() or should_stop()

        while not hunt.late():
            task = hunt.next_task([])
            if task is None or stopped():
                break
            if hunt.take_known(task):
                continue
            result = solve_until(hunt.question(task), enough=hunt.enough(task), should_stop=stopped)
            hunt.keep_proved(task, result)
            hunt.record(task, result)
        return stopped()


def _hunt_in_processes(hunt: _Hunt, jobs: int, should_stop: Callable[[], bool]) -> bool:
    """Solve several layers side by side; returns whether it was stopped."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with (
        make_pool(jobs, context, stop) as pool,
        stop_on_interrupt(stop),
    ):
        running: dict[Future[LayerResult], _Task] = {}
        while not (stop.is_set() or hunt.late() or hunt.settled()):
            while len(running) < jobs:
                task = hunt.next_task(list(running.values()))
                if task is None:
                    break
                if hunt.take_known(task):
                    continue
                future = pool.submit(solve_in_process, hunt.question(task), hunt.enough(task))
                running[future] = task
            if not running:
                break
            done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                task, result = running.pop(future), future.result()
                hunt.keep_proved(task, result)
                hunt.record(task, result)
            if should_stop():
                stop.set()
        interrupted = stop.is_set()
        stop.set()  # what is still running is of no use any more
        for future, task in running.items():
            if not future.cancel() and future.result().cost is not None and interrupted:
                hunt.record(task, future.result())
        return interrupted
