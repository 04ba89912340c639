"""Several cores on one chip: which part of a layer each one takes, and which buffers they share.

Owns: `Split`, `Buffers`, `split_dims`, the transformation `spread_over_cores`, and `map_on_cores`,
which maps every layer for both splits with both kinds of buffers, with the nouns of its answer.

A chip of P cores is a hardware like any other: a fan-out of P above what is replicated. So counts,
costs and certificates are those of the mapper.

Non-goals: mapping (`mapper/layer.py`), tables (`report/cores.py`).
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import product

from tilewright.errors import InputError, Problem
from tilewright.ir.hardware import Fanout, Hardware, Level
from tilewright.ir.mapping import Block, Mapping
from tilewright.ir.workload import Layer, Network, Operand, Workload
from tilewright.mapper.processes import solve_all
from tilewright.mapper.question import Question
from tilewright.mapper.result import LayerResult, Objective, Status, Stop, find_objective
from tilewright.mapper.solved import SolvedLayers
from tilewright.mapspace.space import Mapspace
from tilewright.model.convention import DEFAULT
from tilewright.model.cost import Cost
from tilewright.model.evaluate import evaluate

MOST_CORES = 1024
CORE = "CORE"
"""The name of a place between two fan-outs, which keeps nothing."""
CHOICE_SECONDS = 10.0
"""For one layer divided in one way, where no time is given: bounds are weak below two fan-outs."""
_WEIGHTS = "W"


class Split(Enum):
    """What is divided among the cores."""

    IMAGE = "image"
    KERNELS = "kernels"


class Buffers(Enum):
    """Whether the last-level buffers are one for all cores, or a part of it at each."""

    SHARED = "shared"
    PRIVATE = "private"


def split_dims(workload: Workload, split: Split) -> tuple[str, ...]:
    """The dims that are divided among cores by a split.

    Both divide outputs, so that no sum is spread over cores. Dims that do not index the weights are
    the image's: all cores use the same weights. The others are the kernels'. The weights are the
    operand `W`, or else the first of two inputs; a layer of one input has none, and only an image.

    >>> from tilewright.ir.workload import conv2d
    >>> layer = conv2d("conv", K=8, C=4, P=6, Q=6, R=3, S=3)
    >>> split_dims(layer, Split.IMAGE), split_dims(layer, Split.KERNELS)
    (('N', 'P', 'Q'), ('K',))

    Source: the 2016 blocking paper, multi-core (as recalled; `docs/spec/papers.md` A).
    """
    weights = _weights(workload)
    own = frozenset[str]() if weights is None else frozenset(weights.dims)
    output = frozenset(workload.output.dims)
    wanted = output & own if split is Split.KERNELS else output - own
    return tuple(dim for dim in workload.sizes if dim in wanted)


def _weights(workload: Workload) -> Operand | None:
    if len(workload.inputs) < 2:
        return None
    named = (operand for operand in workload.inputs if operand.name == _WEIGHTS)
    return next(named, workload.inputs[0])


def last_level(hardware: Hardware) -> range:
    """Where the last-level buffers stand among a chip's levels, as indices.

    The outermost memory on the chip; and those just inside it, if no fan-out lies between and they
    are for other operands, like the three buffers of DianNao.

    Raises: `InputError` for a chip without memory.

    >>> from tilewright import zoo
    >>> (
    ...     list(last_level(zoo.load_hardware("diannao"))),
    ...     list(last_level(zoo.load_hardware("eyeriss"))),
    ... )
    ([1, 2, 3], [1])
    """
    if len(hardware.levels) < 2:
        what = f"{hardware.name} has no memory on the chip: there is nothing to share or to divide"
        raise InputError(Problem(what, "give it a level below the outermost"))
    stop, held = 2, _named(hardware.levels[1])
    while stop < len(hardware.levels) and hardware.levels[stop - 1].fanout.copies == 1:
        mine = _named(hardware.levels[stop])
        if held is None or mine is None or held & mine:
            break
        held, stop = held | mine, stop + 1
    return range(1, stop)


def _named(level: Level) -> frozenset[str] | None:
    """The operands that a level is for; `None` if it does not say."""
    if level.keeps is not None:
        return level.keeps
    return frozenset(dict(level.capacity)) if isinstance(level.capacity, tuple) else None


def spread_over_cores(
    hardware: Hardware, cores: int, dims: Sequence[str], buffers: Buffers, *, hop_pj: float = 0.0
) -> Hardware:
    """Make a chip of several cores out of a chip of one.

    Args:
        hardware: the chip; all of it but the outermost memory and the last-level buffers is a core.
        cores: how many; 1 leaves the chip as it is.
        dims: that may be divided among them; see `split_dims`.
        buffers: `SHARED` leaves the last-level buffers above the cores. `PRIVATE` gives each core
            its own with a part of the capacity, so that they hold as much in all.
        hop_pj: energy of a word for each core that receives or sends it, in pJ.

    Returns: the chip. The network to the cores multicasts and adds nothing up. A fan-out that is
        already there stays, below a place named `CORE` that keeps nothing. Of a private buffer,
        energies that a technology gives are those of the smaller capacity, given ones stay; a given
        area and leakage are divided; bandwidths stay, so that all private ports together are wider.

    Raises: `InputError` for a chip without memory, or if a part of the capacity holds nothing.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> chip = Hardware("chip", (Level("DRAM"), Level("GLB", 8192)))
    >>> halves = spread_over_cores(chip, 2, ("K",), Buffers.PRIVATE)
    >>> halves.levels[0].fanout.copies, halves.levels[1].capacity, halves.mac_units
    (2, 4096, 2)
    """
    places = last_level(hardware)
    _check_cores(cores)
    if cores == 1:
        return hardware
    levels = list(hardware.levels)
    above = places[0] - 1
    if buffers is Buffers.SHARED:
        above = places[-1]
    else:
        for place in places:
            levels[place] = _part(levels[place], cores)
    fanout = Fanout(x=cores, reduction=False, hop_pj=hop_pj, x_dims=tuple(dims), y_dims=())
    inside = [] if levels[above].fanout.copies == 1 else [_core(hardware, levels[above].fanout)]
    levels[above : above + 1] = [replace(levels[above], fanout=fanout), *inside]
    return replace(hardware, name=f"{hardware.name} × {cores} cores", levels=tuple(levels))


def _check_cores(cores: int) -> None:
    if not 1 <= cores <= MOST_CORES:
        what = f"{cores} cores: from 1 to {MOST_CORES:,} are possible"
        raise InputError(Problem(what, "1, 2, 4 and 8 are usual"))


def _core(hardware: Hardware, fanout: Fanout) -> Level:
    """A place that holds nothing, for the loops between two fan-outs."""
    name, taken = CORE, {level.memory for level in hardware.levels}
    while name in taken:
        name += "_"
    return Level(name, (), keeps=frozenset(), area_mm2=0.0, fanout=fanout)


def _part(level: Level, cores: int) -> Level:
    """One of the private buffers that a shared one is divided into."""
    if isinstance(level.capacity, tuple):
        capacity = tuple((operand, bits // cores) for operand, bits in level.capacity)
    else:
        capacity = None if level.capacity is None else level.capacity // cores
    area = None if level.area_mm2 is None else level.area_mm2 / cores
    leak = level.leak_pj_per_cycle / cores
    return replace(level, capacity=capacity, area_mm2=area, leak_pj_per_cycle=leak)


def _empties(hardware: Hardware, cores: int) -> list[str]:
    """The last-level buffers of which a core's part would hold nothing."""
    found: list[str] = []
    for level in (hardware.levels[place] for place in last_level(hardware)):
        halves = 2 if level.double_buffered else 1
        shares = dict(level.capacity) if isinstance(level.capacity, tuple) else {"": level.capacity}
        if any(bits is not None and bits // cores // halves < 1 for bits in shares.values()):
            found.append(level.memory)
    return found


def private_notes(hardware: Hardware, counts: Sequence[int]) -> list[str]:
    """What private buffers cost and where they cannot be, memory by memory, in words."""
    notes = [
        f"{memory}: a {cores}th of it holds nothing, private buffers are left out there"
        for cores in counts
        for memory in _empties(hardware, cores)
    ]
    for level in (hardware.levels[place] for place in last_level(hardware)):
        if level.technology is None or level.read_pj is not None:
            notes.append(f"{level.memory}: private parts keep the energy that is given")
        else:
            what = f"energy of private parts from {level.technology}, at their own capacity"
            notes.append(f"{level.memory}: {what}")
    return notes


@dataclass(frozen=True, slots=True)
class CoreChoice:
    """A layer on some cores, divided and buffered in one way.

    Attributes:
        cores: how many the chip has.
        split: what is divided; `None` on one core.
        buffers: shared or private; `None` on one core.
        hardware: the chip.
        result: the best mapping there, with its certificate.
    """

    cores: int
    split: Split | None
    buffers: Buffers | None
    hardware: Hardware
    result: LayerResult

    @property
    def label(self) -> str:
        """The choice in words: `image, shared`; on one core, `one core`."""
        if self.split is None or self.buffers is None:
            return "one core"
        return f"{self.split.value}, {self.buffers.value}"

    @property
    def busy(self) -> int:
        """The cores that have a part of the layer: factors are perfect, so it may not be all."""
        cost = self.result.cost
        if cost is None or self.split is None:
            return 0 if cost is None else 1
        above = last_level(self.hardware)[0] - 1
        if self.buffers is Buffers.SHARED:
            above = last_level(self.hardware)[-1]
        memory = self.hardware.levels[above].memory
        blocks = [block for block in cost.mapping.blocks if block.memory == memory]
        return math.prod(loop.extent for block in blocks for loop in block.spatial)

    def to_json(self) -> dict[str, object]:
        """What was chosen, and the layer's entry as of `map --json`, as one JSON object."""
        return {
            "split": None if self.split is None else self.split.value,
            "buffers": None if self.buffers is None else self.buffers.value,
            "cores": self.cores,
            "busy": self.busy,
            **self.result.to_json(),
        }


@dataclass(frozen=True, slots=True)
class CoreTotal:
    """What all layers cost together on some cores.

    Attributes:
        label: how they were divided and buffered, in words.
        choices: that of each layer, in the order of the network.
    """

    label: str
    choices: tuple[CoreChoice, ...]

    @property
    def energy_pj(self) -> float:
        """Of the whole network, in pJ."""
        return math.fsum(cost.energy_pj * repeat for repeat, cost in self._priced())

    @property
    def cycles(self) -> int:
        """Of all layers, one after the other."""
        return sum(cost.cycles * repeat for repeat, cost in self._priced())

    @property
    def dram_words(self) -> int:
        """Words to and from the outermost level."""
        return sum(cost.dram_words * repeat for repeat, cost in self._priced())

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(cost.counts.macs * repeat for repeat, cost in self._priced())

    @property
    def energy_per_mac_pj(self) -> float:
        """Energy of the whole over its multiply-accumulates, in pJ."""
        return self.energy_pj / self.macs

    @property
    def proved(self) -> bool:
        """Whether each layer's mapping is proved the best of its choice."""
        return all(choice.result.status is Status.OPTIMAL for choice in self.choices)

    def value(self, objective: Objective) -> float:
        """The sum of the layers' objectives, in its unit."""
        return math.fsum(objective.of(cost) * repeat for repeat, cost in self._priced())

    def _priced(self) -> Iterator[tuple[int, Cost]]:
        for choice in self.choices:
            if choice.result.cost is not None:
                yield choice.result.repeat, choice.result.cost

    def to_json(self, single: "CoreTotal | None") -> dict[str, object]:
        """The total as a JSON object; `single` is that of one core, to compare with."""
        return {
            "choice": self.label,
            "energy_pj": self.energy_pj,
            "energy_per_mac_pj": self.energy_per_mac_pj,
            "cycles": self.cycles,
            "edp": self.energy_pj * self.cycles,
            "dram_words": self.dram_words,
            "speedup": None if single is None else single.cycles / self.cycles,
            "proved": self.proved,
        }


@dataclass(frozen=True, slots=True)
class CorePoint:
    """A network on a number of cores.

    Attributes:
        cores: how many.
        objective: what was minimised.
        layers: for each layer of the network, every choice that was mapped, the best first;
            those without a mapping last.
    """

    cores: int
    objective: Objective
    layers: tuple[tuple[CoreChoice, ...], ...]

    @property
    def feasible(self) -> bool:
        """Whether every layer has a mapping for some choice."""
        return all(choices[0].result.cost is not None for choices in self.layers)

    @property
    def proved(self) -> bool:
        """Whether no layer can do better by any choice: all its choices are proved, or bounded."""
        return all(_is_proved(choices, self.objective) for choices in self.layers)

    @property
    def best(self) -> CoreTotal | None:
        """Each layer divided and buffered as is best for it; `None` if one has no mapping."""
        if not self.feasible:
            return None
        return CoreTotal("each layer its own", tuple(choices[0] for choices in self.layers))

    def with_buffers(self) -> list[CoreTotal]:
        """For both kinds of buffers, which are the chip's, each layer split as is best; best first.

        A kind on which a layer has no mapping is left out.
        """
        found: list[CoreTotal] = []
        for buffers in Buffers:
            total = self._total(f"each its own split, {buffers.value}", None, buffers)
            found += [] if total is None else [total]
        return sorted(found, key=lambda total: total.value(self.objective))

    def single(self) -> list[CoreTotal]:
        """One choice for the whole network, for every choice that all layers have; best first."""
        found: list[CoreTotal] = []
        for split, buffers in product(Split, Buffers):
            total = self._total(f"all {split.value}, {buffers.value}", split, buffers)
            found += [] if total is None else [total]
        return sorted(found, key=lambda total: total.value(self.objective))

    def _total(self, label: str, split: Split | None, buffers: Buffers) -> CoreTotal | None:
        picked: list[CoreChoice] = []
        for choices in self.layers:
            mine = [
                choice
                for choice in choices
                if choice.result.cost is not None
                and choice.buffers is buffers
                and split in (None, choice.split)
            ]
            picked += mine[:1]
        return CoreTotal(label, tuple(picked)) if len(picked) == len(self.layers) else None

    def to_json(self, alone: "CorePoint | None") -> dict[str, object]:
        """The point as a JSON object; `alone` is that of one core, to compare with."""
        single = None if alone is None else alone.best
        best = self.best
        return {
            "cores": self.cores,
            "status": "optimal" if self.proved else "best_found" if best else "infeasible",
            "total": None if best is None else best.to_json(single),
            "by_buffers": [total.to_json(single) for total in self.with_buffers()],
            "single": [total.to_json(single) for total in self.single()],
            "layers": [
                {
                    "name": choices[0].result.workload.name,
                    "repeat": choices[0].result.repeat,
                    "best": choices[0].label,
                    "speedup": _speedup(place, choices[0], alone),
                    "choices": [choice.to_json() for choice in choices],
                }
                for place, choices in enumerate(self.layers)
            ],
        }


def _speedup(place: int, choice: CoreChoice, alone: CorePoint | None) -> float | None:
    one = None if alone is None else alone.layers[place][0].result.cost
    mine = choice.result.cost
    return None if one is None or mine is None else one.cycles / mine.cycles


def _is_proved(choices: tuple[CoreChoice, ...], objective: Objective) -> bool:
    """Whether the first choice is the best: every other is proved not to be better."""
    best = choices[0].result
    if best.cost is None or best.status is not Status.OPTIMAL:
        return False
    value = objective.of(best.cost)
    others = (choice.result for choice in choices[1:])
    return all(
        other.status is not Status.BEST_FOUND
        or (other.lower_bound is not None and other.lower_bound >= value)
        for other in others
    )


@dataclass(frozen=True, slots=True)
class CoreStudy:
    """A network on several numbers of cores.

    Attributes:
        network: what was mapped.
        hardware: the chip with one core.
        objective: what was minimised, layer by layer.
        points: by the number of cores, rising; the first is one core. After an interruption those
            of which every layer has at least one choice mapped.
        seconds: that it took.
        interrupted: whether it was stopped before its end.
    """

    network: Network
    hardware: Hardware
    objective: Objective
    points: tuple[CorePoint, ...]
    seconds: float
    interrupted: bool = False

    @property
    def alone(self) -> CorePoint | None:
        """One core; `None` if the study was stopped before it was done."""
        return self.points[0] if self.points and self.points[0].cores == 1 else None

    @property
    def feasible(self) -> bool:
        """Whether every layer has a mapping for every number of cores."""
        return all(point.feasible for point in self.points)

    @property
    def mapspace(self) -> str:
        """What is searched for each choice, in words."""
        return Mapspace(self.network.layers[0].workload, self.hardware).title

    def to_json(self) -> dict[str, object]:
        """The document of `cores --json` (`docs/cores.md`)."""
        document: dict[str, object] = {
            "workload": self.network.name,
            "hardware": self.hardware.name,
            "convention": DEFAULT.name,
            "objective": self.objective.value,
            "mapspace": self.mapspace,
            "points": [point.to_json(self.alone) for point in self.points],
            "notes": private_notes(self.hardware, [point.cores for point in self.points]),
            "seconds": self.seconds,
            "status": "done" if self.feasible else "infeasible",
        }
        if self.interrupted:
            document["interrupted"] = True
        return document


def map_on_cores(  # noqa: PLR0913
    network: Network,
    hardware: Hardware,
    cores: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    *,
    objective: str | Objective = Objective.ENERGY,
    hop_pj: float = 0.0,
    seconds: float | None = None,
    jobs: int = 1,
    solved: SolvedLayers | None = None,
    should_stop: Stop = lambda: False,
    on_choice: Callable[[CoreChoice], None] = lambda _: None,
) -> CoreStudy:
    """Divide a network's layers over cores in the best of four ways, for several numbers of cores.

    Args:
        network: its layers.
        hardware: the chip with one core; see `spread_over_cores`.
        cores: how many there may be; 1 is always among them, to compare with.
        objective: `energy`, `cycles`, `edp` or `dram`, of each layer.
        hop_pj: energy of a word for each core that receives or sends it, in pJ.
        seconds: for all together, in equal shares; if left out, as long as one core takes, and
            `CHOICE_SECONDS` at most for each other choice.
        jobs: processes.
        solved: where answers are kept; choices that it knows are not searched again.
        should_stop: asked now and then.
        on_choice: called with every layer's choice when it is mapped.

    Returns: for every number of cores and every layer, the image or the kernels split, with shared
        or private buffers, each with the best mapping and its certificate.

    Raises: `InputError` for a chip without memory, or a number of cores out of range.

    >>> from tilewright.ir.workload import conv2d
    >>> layer = conv2d("conv", K=8, C=4, P=4, Q=4, R=3, S=3)
    >>> levels = (
    ...     Level("DRAM", read_pj=200, write_pj=200),
    ...     Level("BUF", 8192, read_pj=6, write_pj=6),
    ... )
    >>> chip = Hardware("chip", levels)
    >>> study = map_on_cores(Network("conv", (Layer(layer),)), chip, (1, 4))
    >>> [(p.cores, p.best.choices[0].label, p.best.choices[0].busy) for p in study.points]
    [(1, 'one core', 1), (4, 'image, shared', 4)]

    Source: `docs/cores.md`; the 2016 blocking paper, multi-core (as recalled).
    """
    began = time.monotonic()
    goal = find_objective(objective)
    counts = sorted({1, *cores})
    asked = [
        (layer, choice)
        for count in counts
        for layer in network.layers
        for choice in _choices(layer.workload, hardware, count, hop_pj)
    ]
    done: dict[int, CoreChoice] = {}

    def note(place: int, result: LayerResult) -> None:
        layer, (count, split, buffers, chip) = asked[place]
        choice = CoreChoice(count, split, buffers, chip, result.repeated(layer.repeat))
        done[place] = choice
        on_choice(choice)

    share = None if seconds is None else seconds * min(jobs, len(asked)) / len(asked)
    limits = [
        CHOICE_SECONDS if seconds is None and count > 1 else share for _, (count, *_) in asked
    ]
    stopped = solve_all(
        [
            Question(layer.workload, chip, goal, seconds=limit)
            for (layer, (_, _, _, chip)), limit in zip(asked, limits, strict=True)
        ],
        jobs=jobs,
        solved=solved,
        should_stop=should_stop,
        on_result=note,
    )
    found = _carried([(asked[place][0], done[place]) for place in sorted(done)], goal)
    points = tuple(_points(network, counts, found, goal))
    return CoreStudy(network, hardware, goal, points, time.monotonic() - began, stopped)


def _carried(
    found: list[tuple[Layer, CoreChoice]], objective: Objective
) -> list[tuple[Layer, CoreChoice]]:
    """Use mappings of fewer cores where a search that was cut short found nothing as good.

    With shared buffers nothing is smaller than with fewer cores, so they fit: some cores are idle.
    """
    best: dict[tuple[int, Split | None], Mapping] = {}
    carried: list[tuple[Layer, CoreChoice]] = []
    for layer, choice in found:
        mine = choice
        if choice.buffers is Buffers.SHARED and choice.result.status is Status.BEST_FOUND:
            for key in ((id(layer), None), (id(layer), choice.split)):
                if key in best:
                    mine = _no_worse(mine, best[key], objective)
        if mine.result.cost is not None and mine.buffers is not Buffers.PRIVATE:
            best[id(layer), mine.split] = _on_more_cores(mine)
        carried.append((layer, mine))
    return carried


def _no_worse(choice: CoreChoice, mapping: Mapping, objective: Objective) -> CoreChoice:
    """The choice, or the same with a mapping that is better."""
    result = choice.result
    cost = evaluate(result.workload, choice.hardware, mapping)
    if result.cost is not None and objective.key(result.cost) <= objective.key(cost):
        return choice
    return replace(choice, result=replace(result, cost=cost))


def _on_more_cores(choice: CoreChoice) -> Mapping:
    """A mapping, as it is written for a chip of more cores with shared buffers."""
    cost = choice.result.cost
    assert cost is not None
    if choice.cores > 1:
        return cost.mapping
    inner = choice.hardware.levels[last_level(choice.hardware)[-1]]
    if inner.fanout.copies == 1:
        return cost.mapping
    name = _core(choice.hardware, inner.fanout).memory
    blocks: list[Block] = []
    for block in cost.mapping.blocks:
        blocks.append(block)
        if block.memory == inner.memory and block.spatial:
            blocks[-1:] = [replace(block, spatial=()), Block(name, (), (), block.spatial)]
    return Mapping(tuple(blocks))


_Way = tuple[int, Split | None, Buffers | None, Hardware]


def _choices(workload: Workload, hardware: Hardware, cores: int, hop_pj: float) -> Iterator[_Way]:
    """The ways to divide a layer: splits without dims, and parts that hold nothing, are left out.

    A layer without any dim to divide runs on one of the cores.
    """
    _check_cores(cores)
    last_level(hardware)
    if cores == 1:
        yield 1, None, None, hardware
        return
    splits = [split for split in Split if split_dims(workload, split)] or [Split.IMAGE]
    kinds = [Buffers.SHARED] if _empties(hardware, cores) else list(Buffers)
    for split, buffers in product(splits, kinds):
        dims = split_dims(workload, split)
        yield (
            cores,
            split,
            buffers,
            spread_over_cores(hardware, cores, dims, buffers, hop_pj=hop_pj),
        )


def _points(
    network: Network,
    counts: Sequence[int],
    found: list[tuple[Layer, CoreChoice]],
    objective: Objective,
) -> Iterator[CorePoint]:
    def rank(choice: CoreChoice) -> tuple[float, ...]:
        cost = choice.result.cost
        return (math.inf,) if cost is None else objective.key(cost)

    for count in counts:
        layers: list[tuple[CoreChoice, ...]] = []
        for layer in network.layers:
            mine = [choice for owner, choice in found if owner is layer and choice.cores == count]
            if mine:
                layers.append(tuple(sorted(mine, key=rank)))
        if len(layers) == len(network.layers):
            yield CorePoint(count, objective, tuple(layers))
