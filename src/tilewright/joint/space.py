"""A space of chips: a template, and what of it varies.

Owns: the noun `Space`, its checks against its template, and making one of its chips.

Non-goals: files (`joint/files.py`), searching.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from tilewright.errors import InputError, Problem, did_you_mean
from tilewright.ir.hardware import LARGEST_AXIS, Fanout, Hardware, Level
from tilewright.joint.variable import BANDWIDTHS, WHOLE, Field, Variable
from tilewright.tech import apply_technology

Choice = tuple[int, ...]
"""One chip of a space: the place of each variable's value among its values."""
MOST_VALUES = 4096


@dataclass(frozen=True, slots=True)
class Space:
    """Chips that differ from a template in some fields.

    Attributes:
        name: what to call it.
        template: the chip that says everything that does not vary.
        variables: what varies; choices name values in this order.
        source: where its ranges come from.

    Raises `InputError`, with every problem, when the variables do not match the template.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> chip = Hardware("toy", (Level("DRAM"), Level("GLB", capacity=8192)))
    >>> space = Space("toy-space", chip, (Variable("GLB", Field.CAPACITY, (8192, 16384)),))
    >>> space.size, space.chip((1,)).levels[1].capacity
    (2, 16384)

    Source: `docs/codesign.md`, Spaces.
    """

    name: str
    template: Hardware
    variables: tuple[Variable, ...]
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        problems = [problem for v in self.variables for problem in check(v, self.template)]
        names = [variable.name for variable in self.variables]
        twice = sorted({name for name in names if names.count(name) > 1})
        problems += [Problem(f"{name} varies twice", "keep one of them") for name in twice]
        if not self.variables:
            problems.append(Problem("nothing varies", "give a memory a range, or use `map`"))
        if problems:
            raise InputError([replace(p, where=p.where or self.name) for p in problems])

    @property
    def size(self) -> int:
        """How many chips there are; of continuous ranges, the points that are searched."""
        return math.prod(len(variable.values) for variable in self.variables)

    @property
    def continuous(self) -> bool:
        """Whether any variable is."""
        return any(variable.continuous for variable in self.variables)

    def chip(self, choice: Sequence[int]) -> Hardware:
        """The chip of a choice, energies and areas filled in, absent levels left out."""
        levels, present = self.levels(choice)
        kept = [level for level, there in zip(levels, present, strict=True) if there]
        chip = replace(self.template, name=self.label(choice), levels=tuple(kept))
        return apply_technology(chip)[0]

    def full_chip(self, choice: Sequence[int]) -> tuple[Hardware, tuple[bool, ...]]:
        """The same with absent levels in their places, and which levels are there."""
        levels, present = self.levels(choice)
        return apply_technology(replace(self.template, levels=levels))[0], present

    def levels(self, choice: Sequence[int]) -> tuple[tuple[Level, ...], tuple[bool, ...]]:
        """All levels of a choice, and which of them are there."""
        levels = {level.memory: level for level in self.template.levels}
        absent: set[str] = set()
        for variable, at in zip(self.variables, choice, strict=True):
            value = variable.values[at]
            levels[variable.memory] = variable.apply(levels[variable.memory], value)
            if variable.field is Field.PRESENT and not value:
                absent.add(variable.memory)
        return tuple(levels.values()), tuple(name not in absent for name in levels)

    def label(self, choice: Sequence[int]) -> str:
        """A short name for a choice: `GLB.capacity 64 KiB, GLB.fanout.x 14`."""
        pairs = zip(self.variables, choice, strict=True)
        return ", ".join(variable.describe(at) for variable, at in pairs)

    def to_json(self) -> dict[str, object]:
        """The space as a JSON object: bits, words per cycle, copies."""
        return {
            "name": self.name,
            "template": self.template.name,
            "chips": self.size,
            "variables": [
                {"name": v.name, "values": list(v.values), "continuous": v.continuous}
                for v in self.variables
            ],
        }


def check(variable: Variable, template: Hardware) -> Iterable[Problem]:
    """What of a variable does not match the template."""
    names = [level.memory for level in template.levels]
    if variable.memory not in names:
        what = f"the template {template.name} has no memory `{variable.memory}`"
        yield Problem(what, did_you_mean(variable.memory, names), field="memory")
        return
    level = template.levels[names.index(variable.memory)]
    yield from _check_values(variable)
    yield from _check_field(variable, level, outermost=names[0] == level.memory)


def _check_values(variable: Variable) -> Iterable[Problem]:
    values, label = variable.values, variable.field.value
    low = 0 if variable.field is Field.PRESENT else min(1e-9, *values, 1)
    if not values or not all(math.isfinite(x) and x >= low and x >= 0 for x in values):
        yield Problem(f"{variable.name}: expected finite values above 0", "", field=label)
    elif list(values) != sorted(set(values)) or len(values) > MOST_VALUES:
        what = f"{variable.name}: expected up to {MOST_VALUES:,} different values, rising"
        yield Problem(what, "sort them", field=label)
    elif variable.field in WHOLE and any(x < 1 or x != round(x) for x in values):
        yield Problem(f"{variable.name}: expected whole numbers from 1", "", field=label)
    elif variable.field in (Field.X, Field.Y) and values[-1] > LARGEST_AXIS:
        what = f"{variable.name} goes up to {values[-1]:,.0f}: at most {LARGEST_AXIS:,} copies"
        yield Problem(what, "a smaller array", field=label)


def _check_field(variable: Variable, level: Level, *, outermost: bool) -> Iterable[Problem]:
    memory, label = level.memory, variable.field.value
    if variable.field is Field.CAPACITY:
        yield from _check_capacity(variable, level)
    elif variable.field in BANDWIDTHS:
        split = level.read_bandwidth is not None or level.write_bandwidth is not None
        if split and variable.field is Field.BANDWIDTH:
            what = f"{memory} of the template has a port for reads and one for writes"
            yield Problem(what, "vary read_bandwidth or write_bandwidth", field=label)
        if level.bandwidth is not None and variable.field is not Field.BANDWIDTH:
            what = f"{memory} of the template has one port for reads and writes"
            yield Problem(what, "vary `bandwidth`", field=label)
    elif variable.field in (Field.X, Field.Y):
        if level.fanout == Fanout():
            what = f"{memory} of the template has no fan-out, so no array below it can vary"
            yield Problem(what, "give the template's level a `fanout`", field=label)
    elif variable.field is Field.PRESENT and outermost:
        yield Problem(f"{memory} is the outermost memory: it must be there", "", field=label)
    elif variable.field is Field.PRESENT and level.fanout.copies > 1:
        what = f"{memory} has a fan-out below it, so it cannot be left out"
        yield Problem(what, "move the fan-out to another level of the template", field=label)


def _check_capacity(variable: Variable, level: Level) -> Iterable[Problem]:
    memory = level.memory
    if level.capacity is None:
        what = f"{memory} of the template is unlimited, so its capacity cannot vary"
        yield Problem(what, "give the template's level a capacity", field="capacity")
    elif variable.operand is None and isinstance(level.capacity, tuple):
        shares = ", ".join(name for name, _ in level.capacity)
        what = f"the capacity of {memory} is partitioned in the template: {shares}"
        yield Problem(what, "vary the shares: capacity: {W: [448B, 896B]}", field="capacity")
    elif variable.operand is not None and not isinstance(level.capacity, tuple):
        what = f"the capacity of {memory} is shared in the template, not partitioned"
        yield Problem(what, "write capacity: [64KiB, 128KiB]", field="capacity")
    elif isinstance(level.capacity, tuple) and variable.operand not in dict(level.capacity):
        names = [name for name, _ in level.capacity]
        what = f"{memory} of the template has no share for `{variable.operand}`"
        yield Problem(what, did_you_mean(variable.operand or "", names), field="capacity")
