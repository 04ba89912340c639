"""What may vary in a chip: one field of one memory, and its values.

Owns: the nouns `Variable` and `Field`, and setting a value in a level.

Non-goals: files (`joint/files.py`), whole chips (`joint/space.py`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from tilewright.ir.hardware import Capacity, Level
from tilewright.ir.quantity import format_bytes

POINTS_PER_DOUBLING = 8
"""How finely a continuous range is searched."""


class Field(Enum):
    """The field of a level that varies."""

    CAPACITY = "capacity"
    WORD_BITS = "word_bits"
    BANDWIDTH = "bandwidth"
    READ_BANDWIDTH = "read_bandwidth"
    WRITE_BANDWIDTH = "write_bandwidth"
    X = "fanout.x"
    Y = "fanout.y"
    PRESENT = "optional"


BANDWIDTHS = (Field.BANDWIDTH, Field.READ_BANDWIDTH, Field.WRITE_BANDWIDTH)
WHOLE = (Field.CAPACITY, Field.WORD_BITS, Field.X, Field.Y)
"""Fields that are whole numbers."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A field of a memory, and its values in rising order.

    Attributes:
        memory: the level's name.
        field: what of it varies.
        values: bits, words per cycle, copies; 0 and 1 for a level that may be left out.
        operand: whose share, if the capacity is partitioned.
        continuous: whether everything between the ends is allowed; `values` are then the points
            that are searched, and a capacity may shrink in the end to what is used.

    >>> Variable("GLB", Field.CAPACITY, (8192.0, 16384.0)).describe(1)
    'GLB.capacity 2 KiB'
    """

    memory: str
    field: Field
    values: tuple[float, ...]
    operand: str | None = None
    continuous: bool = False

    @property
    def name(self) -> str:
        """What messages and results call it."""
        return f"{self.memory}.{self.field.value}" + (f".{self.operand}" if self.operand else "")

    def describe(self, choice: int) -> str:
        """The variable with one of its values."""
        value = self.values[choice]
        text = format_bytes(round(value)) if self.field is Field.CAPACITY else f"{value:g}"
        return f"{self.name} {text}"

    def apply(self, level: Level, value: float) -> Level:
        """The level with that value; one that is left out stays as it is."""
        if self.field is Field.PRESENT:
            return level
        if self.field is Field.CAPACITY:
            return replace(level, capacity=_with_share(level.capacity, self.operand, round(value)))
        if self.field in (Field.X, Field.Y):
            axis = "x" if self.field is Field.X else "y"
            return replace(level, fanout=replace(level.fanout, **{axis: round(value)}))
        number = round(value) if self.field in WHOLE else value
        return replace(level, **{self.field.value: number})


def _with_share(capacity: Capacity, operand: str | None, bits: int) -> Capacity:
    if operand is None or not isinstance(capacity, tuple):
        return bits
    return tuple((name, bits if name == operand else share) for name, share in capacity)


def points_between(low: float, high: float, *, whole: bool) -> tuple[float, ...]:
    """Points of a continuous range, both ends included, evenly apart where the axis is logarithmic.

    >>> points_between(4, 6, whole=True)
    (4.0, 5.0, 6.0)
    """
    steps = max(1, math.ceil(POINTS_PER_DOUBLING * math.log2(high / low)))
    found = [low * (high / low) ** (step / steps) for step in range(steps + 1)]
    found[-1] = high
    return tuple(sorted({float(round(x)) if whole else x for x in found}))


def steps_of(
    low: float, high: float, *, plus: float | None, times: float | None
) -> Iterator[float]:
    """The values from low to high, a step apart.

    >>> list(steps_of(4, 12, plus=4, times=None)), list(steps_of(4, 20, plus=None, times=2))
    ([4, 8, 12], [4, 8, 16])
    """
    value = low
    while value <= high * (1 + 1e-12):
        yield value
        value = value + (plus or 0.0) if times is None else value * times
