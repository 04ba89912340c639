"""What limits a layer on a chip: compute, a port, a capacity; and what twice as much would gain.

Owns: `explain` and the nouns `Explanation`, `Room`, `Gain`, `Need`.

Every gain is asked of the mapper, on a chip that differs in one number: it is proved where both
mappings are.

Non-goals: mapping (`mapper/`), pricing (`model/`), tables (`report/explain.py`).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tilewright.errors import InfeasibleError, Violation
from tilewright.ir.hardware import AXES, Capacity, Hardware, Level
from tilewright.ir.mapping import Mapping, format_mapping, parse_mapping
from tilewright.ir.quantity import format_bytes
from tilewright.ir.workload import Workload
from tilewright.mapper.layer import find_mapping
from tilewright.mapper.result import LayerResult, Objective, Status, Stop, find_objective
from tilewright.model.capacity import word_bits
from tilewright.model.cost import Cost
from tilewright.model.evaluate import evaluate

PORTS = ("bandwidth", "read_bandwidth", "write_bandwidth")
TIMES = 2
"""What `explain` multiplies a capacity or a bandwidth by."""


@dataclass(frozen=True, slots=True)
class Room:
    """How full one instance of a memory is, or an operand's share of it.

    Attributes:
        memory: its name.
        operands: whose tiles share the room, with the bits of each.
        capacity_bits: that may be used; `None` is unlimited.
    """

    memory: str
    operands: dict[str, int]
    capacity_bits: int | None

    @property
    def used_bits(self) -> int:
        """Of all tiles together."""
        return sum(self.operands.values())

    def to_json(self) -> dict[str, object]:
        """The room as a JSON object."""
        return {
            "memory": self.memory,
            "operands": {name: bits / 8 for name, bits in self.operands.items()},
            "used_bytes": self.used_bits / 8,
            "capacity_bytes": None if self.capacity_bits is None else self.capacity_bits / 8,
        }


@dataclass(frozen=True, slots=True)
class Axis:
    """How much of an axis of a fan-out is used."""

    memory: str
    axis: str
    used: int
    copies: int
    loops: str

    def to_json(self) -> dict[str, object]:
        """The axis as a JSON object."""
        return {
            "memory": self.memory,
            "axis": self.axis,
            "used": self.used,
            "copies": self.copies,
            "loops": self.loops,
        }


@dataclass(frozen=True, slots=True)
class Gain:
    """What one number of the chip, doubled, does to the best mapping.

    Attributes:
        memory: where.
        what: `capacity`, `bandwidth`, `read_bandwidth` or `write_bandwidth`.
        operand: whose share of a partitioned capacity; `""` for all.
        now: the number, as people write it.
        then: doubled.
        before: the best mapping on the chip as it is.
        after: the best mapping with the number doubled.
        pricing: where the energies of the memory come from: a table prices the larger memory anew.
    """

    memory: str
    what: str
    operand: str
    now: str
    then: str
    before: LayerResult
    after: LayerResult
    pricing: str

    @property
    def name(self) -> str:
        """What is doubled, in words."""
        operand = f" of {self.operand}" if self.operand else ""
        return f"{self.memory} {self.what.replace('_', ' ')}{operand}"

    @property
    def saved(self) -> float | None:
        """By what share the objective falls; negative if it rises; `None` without a mapping."""
        pair = _values(self.before, self.after)
        return None if pair is None or not pair[0] else (pair[0] - pair[1]) / pair[0]

    @property
    def is_proved(self) -> bool:
        """Whether both mappings are proved the best of their chip."""
        return self.before.status is self.after.status is Status.OPTIMAL

    @property
    def at_most(self) -> float | None:
        """No mapping found later saves a larger share of what was found; `None` if not known."""
        pair, bound = _values(self.before, self.after), self.after.lower_bound
        return None if pair is None or bound is None or not pair[0] else 1 - bound / pair[0]

    def to_json(self) -> dict[str, object]:
        """The gain as a JSON object."""
        after = self.after.cost
        return {
            "memory": self.memory,
            "what": self.what,
            "operand": self.operand or None,
            "now": self.now,
            "then": self.then,
            "saved": self.saved,
            "saved_at_most": self.at_most,
            "proved": self.is_proved,
            "status": self.after.status.value,
            "energy_pj": None if after is None else after.energy_pj,
            "cycles": None if after is None else after.cycles,
            "dram_words": None if after is None else after.dram_words,
            "mapping": None if after is None else format_mapping(after.mapping),
            "energies": self.pricing,
        }


@dataclass(frozen=True, slots=True)
class Need:
    """A limit that no mapping can keep, and what would do.

    Attributes:
        violation: the limit, and the bytes that are needed.
        suffices: whether there is a mapping once every such limit is what is needed.
        is_least: whether one word less than needed is proved too little.
    """

    violation: Violation
    suffices: bool
    is_least: bool

    def to_json(self) -> dict[str, object]:
        """The need as a JSON object."""
        known = {"suffices": self.suffices, "is_least": self.is_least}
        return {**self.violation.to_json(), **known}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What limits a layer on a chip.

    Attributes:
        workload: the layer.
        hardware: the chip.
        objective: what the best mapping minimises.
        given: the cost of the mapping that was given; `None` if none was, or it does not fit.
        violations: why the given mapping does not fit.
        best: the best mapping of the chip as it is.
        gains: what each doubled number gains, the largest first.
        needs: what makes the layer infeasible.
        interrupted: whether the gains were not all found.
    """

    workload: Workload
    hardware: Hardware
    objective: Objective
    given: Cost | None
    violations: tuple[Violation, ...]
    best: LayerResult
    gains: tuple[Gain, ...]
    needs: tuple[Need, ...]
    interrupted: bool = False

    @property
    def cost(self) -> Cost | None:
        """What is explained: the given mapping, else the best one."""
        return self.given or (None if self.violations else self.best.cost)

    @property
    def bound_by(self) -> str | None:
        """What sets the cycles: `compute`, or a memory's ports."""
        fall = self.cycles_of
        return max(fall, key=lambda name: fall[name]) if fall else None

    @property
    def cycles_of(self) -> dict[str, int]:
        """The cycles that compute and every memory's ports take, compute first."""
        return {} if self.cost is None else dict(self.cost.waterfall[:-1])

    @property
    def rooms(self) -> tuple[Room, ...]:
        """How full every memory is."""
        return () if self.cost is None else tuple(_rooms(self.cost))

    @property
    def axes(self) -> tuple[Axis, ...]:
        """How much of every fan-out is used."""
        return () if self.cost is None else tuple(_axes(self.cost))

    @property
    def excess(self) -> float | None:
        """By what share of its own cost the best mapping is better than the given one."""
        if self.given is None or self.best.cost is None or not self.objective.of(self.given):
            return None
        given = self.objective.of(self.given)
        return (given - self.objective.of(self.best.cost)) / given

    @property
    def sentences(self) -> tuple[str, ...]:
        """The answer in words, what matters most first."""
        return tuple(_sentences(self))

    def to_json(self) -> dict[str, object]:
        """The document of `explain --json` (`docs/compare.md`)."""
        cost = self.cost
        return {
            "workload": self.workload.name,
            "hardware": self.hardware.name,
            "objective": self.objective.value,
            "status": "infeasible" if cost is None else "done",
            "sentences": list(self.sentences),
            "cost": None if cost is None else cost.to_json(),
            "best": self.best.to_json(),
            "given_worse_by": self.excess,
            "bound_by": self.bound_by,
            "cycles_of": self.cycles_of,
            "capacities": [room.to_json() for room in self.rooms],
            "axes": [axis.to_json() for axis in self.axes],
            "gains": [gain.to_json() for gain in self.gains],
            "needs": [need.to_json() for need in self.needs],
            "violations": [violation.to_json() for violation in self.violations],
            **({"interrupted": True} if self.interrupted else {}),
        }


def explain(  # noqa: PLR0913
    workload: Workload,
    hardware: Hardware,
    mapping: Mapping | str | None = None,
    *,
    objective: str | Objective = Objective.ENERGY,
    seconds: float | None = None,
    should_stop: Stop = lambda: False,
    on_step: Callable[[str, int, int], None] = lambda _, __, ___: None,
) -> Explanation:
    r"""Say what limits a layer on a chip, and what twice the capacity or bandwidth would gain.

    Args:
        workload: the layer.
        hardware: the chip.
        mapping: explain this one, and how far it is from the best; the best one if left out.
        objective: what is minimised: `energy`, `cycles`, `edp` or `dram`.
        seconds: for each search; the answer then holds what was found and how far it may be off.
        should_stop: asked now and then; what was found so far is returned when it says yes.
        on_step: told what is searched, how many searches are done, and of how many.

    Returns: limits of the mapping; the gain of every finite capacity and bandwidth, doubled one at
        a time; for a layer without a mapping, what it needs.

    Raises: `InputError` if the mapping is not one for this layer and chip.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> from tilewright.ir.workload import einsum
    >>> layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 64, "K": 64})
    >>> chip = Hardware("chip", (Level("DRAM", read_pj=200, bandwidth=1), Level("RF", 256)))
    >>> explain(layer, chip).bound_by
    'DRAM ports'

    Source: `docs/compare.md`, Explain.
    """
    goal = find_objective(objective)
    given, violations = _price(workload, hardware, mapping)

    def solve(chip: Hardware) -> LayerResult:
        return find_mapping(
            workload, chip, objective=goal, seconds=seconds, should_stop=should_stop
        )

    on_step("the chip as it is", 0, 1)
    best = solve(hardware)
    gains: list[Gain] = []
    needs: tuple[Need, ...] = ()
    if best.status is Status.INFEASIBLE:
        needs = tuple(_needs(best, hardware, solve))
    else:
        doubled = list(_doubled(hardware))
        for done, (level, what, operand, chip) in enumerate(doubled, start=1):
            on_step(f"{level.memory} {what} doubled", done, len(doubled) + 1)
            if should_stop():
                break
            gains.append(_gain(level, what, operand, best, solve(chip), chip))
    gains.sort(key=lambda gain: -(gain.saved or 0.0))
    stopped = should_stop()
    return Explanation(
        workload, hardware, goal, given, violations, best, tuple(gains), needs, stopped
    )


def _price(
    workload: Workload, hardware: Hardware, mapping: Mapping | str | None
) -> tuple[Cost | None, tuple[Violation, ...]]:
    if mapping is None:
        return None, ()
    nest = parse_mapping(mapping) if isinstance(mapping, str) else mapping
    try:
        return evaluate(workload, hardware, nest), ()
    except InfeasibleError as error:
        return None, error.violations


Doubled = tuple[Level, str, str, Hardware]


def _doubled(hardware: Hardware) -> Iterator[Doubled]:
    """The chip with one number doubled: every finite capacity, share of one, and bandwidth."""
    for index, level in enumerate(hardware.levels):
        if isinstance(level.capacity, tuple):
            for operand, _ in level.capacity:
                larger = tuple(
                    (name, bits * (TIMES if name == operand else 1))
                    for name, bits in level.capacity
                )
                yield level, "capacity", operand, with_capacity(hardware, index, larger)
        elif level.capacity is not None:
            larger = level.capacity * TIMES
            yield level, "capacity", "", with_capacity(hardware, index, larger)
        for port in PORTS:
            width: float | None = getattr(level, port)
            if width is not None:
                wider = replace(level, **{port: width * TIMES})
                yield level, port, "", _with_level(hardware, index, wider)


def with_capacity(hardware: Hardware, index: int, capacity: Capacity) -> Hardware:
    """The chip with another capacity of one level; a table prices it anew."""
    return _with_level(hardware, index, replace(hardware.levels[index], capacity=capacity))


def _with_level(hardware: Hardware, index: int, level: Level) -> Hardware:
    levels = (*hardware.levels[:index], level, *hardware.levels[index + 1 :])
    return replace(hardware, levels=levels)


def _gain(  # noqa: PLR0913, PLR0917
    level: Level, what: str, operand: str, before: LayerResult, after: LayerResult, chip: Hardware
) -> Gain:
    larger = chip.levels[chip.level_index(level.memory)]
    said = [_amount(each, what, operand) for each in (level, larger)]
    table = None if after.cost is None else after.cost.tables.get(level.memory)
    pricing = "none" if table is None else table.energy
    return Gain(level.memory, what, operand, said[0], said[1], before, after, pricing)


def _amount(level: Level, what: str, operand: str) -> str:
    if what != "capacity":
        return f"{getattr(level, what):g} words/cycle"
    bits = dict(level.capacity)[operand] if isinstance(level.capacity, tuple) else level.capacity
    return format_bytes(bits or 0)


def _values(before: LayerResult, after: LayerResult) -> tuple[float, float] | None:
    if before.cost is None or after.cost is None:
        return None
    return before.objective.of(before.cost), before.objective.of(after.cost)


def _rooms(cost: Cost) -> Iterator[Room]:
    for level in cost.hardware.levels:
        bits = {
            operand.name: cost.counts.tile_words[level.memory, operand.name]
            * word_bits(cost.workload, level, operand, cost.counts, cost.convention)
            for operand in cost.workload.operands
            if (level.memory, operand.name) in cost.counts.tile_words
        }
        if isinstance(level.capacity, tuple):
            for name, used in bits.items():
                yield Room(level.memory, {name: used}, level.usable_bits(name))
        else:
            yield Room(level.memory, bits, level.usable_bits())


def _axes(cost: Cost) -> Iterator[Axis]:
    for level in cost.hardware.levels:
        for axis in AXES:
            loops = [
                loop
                for block in cost.mapping.blocks
                if block.memory == level.memory
                for loop in block.spatial
                if loop.axis == axis and loop.extent > 1
            ]
            copies = level.fanout.extent(axis)
            if copies > 1:
                used = math.prod(loop.extent for loop in loops)
                yield Axis(level.memory, axis, used, copies, " ".join(map(str, loops)))


def _needs(
    best: LayerResult, hardware: Hardware, solve: Callable[[Hardware], LayerResult]
) -> Iterator[Need]:
    """What would make the layer feasible, checked by asking the mapper again."""
    sized = [v for v in best.violations if v.needed_bytes is not None]
    mended = hardware
    for violation in sized:
        mended = _mend(mended, violation, 0)
    suffices = bool(sized) and solve(mended).status is not Status.INFEASIBLE
    for violation in best.violations:
        is_least = False
        if violation.needed_bytes is not None and suffices:
            is_least = solve(_mend(mended, violation, 1)).status is Status.INFEASIBLE
        yield Need(violation, suffices, is_least)


def _mend(hardware: Hardware, violation: Violation, less: int) -> Hardware:
    """The chip with the capacity that a violation asks for, `less` bytes taken off."""
    index = hardware.level_index(violation.memory)
    level = hardware.levels[index]
    bytes_wanted = max(1, (violation.needed_bytes or 0) - less)
    bits = bytes_wanted * 8 * (2 if level.double_buffered else 1)
    if isinstance(level.capacity, tuple):
        shares = tuple(
            (name, bits if name in violation.operands else share) for name, share in level.capacity
        )
        return with_capacity(hardware, index, shares)
    return with_capacity(hardware, index, bits)


_SLACK = 1e-9
"""A share below this is nothing: sums of floats in another order."""


def _sentences(found: Explanation) -> Iterator[str]:
    if found.cost is None:
        yield from _why_not(found)
        return
    yield _what_sets_cycles(found)
    worse = found.excess
    if worse is not None:
        proof = "proved" if found.best.status is Status.OPTIMAL else "found, not proved the best"
        how = (
            f"spends {worse:.1%} less {_noun(found.objective)}" if worse > _SLACK else "is as good"
        )
        yield f"the best mapping {how} ({proof})"
    gaining = [gain for gain in found.gains if (gain.saved or 0) > _SLACK]
    for gain in gaining[:3]:
        proof = "proved" if gain.is_proved else "found, not proved"
        yield (
            f"twice the {gain.name} ({gain.now} to {gain.then}) saves {gain.saved or 0:.1%} of "
            f"{_noun(found.objective)} ({proof})"
        )
    idle = [gain for gain in found.gains if gain not in gaining]
    if idle and not found.interrupted:
        proof = "proved" if all(gain.is_proved for gain in idle) else "as far as found"
        names = ", ".join(gain.name for gain in idle)
        yield f"twice as much of these gains no {_noun(found.objective)} ({proof}): {names}"


def _noun(objective: Objective) -> str:
    names = {Objective.EDP: "EDP", Objective.DRAM: "DRAM traffic"}
    return names.get(objective, objective.value)


def _why_not(found: Explanation) -> Iterator[str]:
    if found.violations:
        for violation in found.violations:
            yield f"the mapping does not fit {violation.memory}: {violation.what}"
    for need in found.needs:
        violation = need.violation
        yield f"no mapping fits {violation.memory}: {violation.what}"
        if need.suffices:
            proof = ", and a byte less is proved too little" if need.is_least else ""
            yield f"{violation.needed_bytes:,} B of {violation.memory} suffice{proof}"


def _what_sets_cycles(found: Explanation) -> str:
    fall, bound = found.cycles_of, found.bound_by
    assert bound is not None
    rest = sorted((name for name in fall if name != bound), key=lambda name: -fall[name])
    text = f"{bound} sets the cycles: {fall[bound]:,}"
    if rest and fall[rest[0]]:
        text += f"; next {rest[0]}, busy for {fall[rest[0]] / fall[bound]:.0%} of them"
    if bound == "compute" and found.cost is not None and found.cost.utilization < 1 - _SLACK:
        text += f"; {found.cost.utilization:.1%} of the MAC units are used"
    return text
