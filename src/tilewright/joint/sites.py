"""Chips of a space as arrays, many at once.

Owns: `SiteTable`, which encodes each chip once, and areas.

Non-goals: pricing with them.
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import jax
import numpy as np

from tilewright.ir.hardware import Hardware
from tilewright.ir.workload import Workload
from tilewright.joint.genome import FLOATS, Frame, networks_of
from tilewright.joint.local import Site
from tilewright.joint.space import Choice, Space
from tilewright.joint.variable import Field
from tilewright.model.batch import Chips, encode_chip
from tilewright.model.batch.nouns import Array

_MOST_KEPT = 50_000
_ARRAYS = (Field.X, Field.Y)


def area_of(hardware: Hardware) -> float | None:
    """Area of a chip with areas filled in, memory off the chip left out; `None` if not known."""
    levels = hardware.levels[1:]
    unit = hardware.compute.area_mm2
    if unit is None or any(level.area_mm2 is None for level in levels):
        return None
    inside = sum(
        hardware.instances(index) * (level.area_mm2 or 0.0)
        for index, level in enumerate(levels, start=1)
    )
    return inside + hardware.mac_units * unit


@dataclass(slots=True)
class SiteTable:
    """The chips of a space as the batch model wants them.

    What a level is depends on its own variables alone, so levels are made once for each of their
    values, and chips are put together from them. Operands' shares differ by layer only in their
    names, which layers of one study share.
    """

    space: Space
    workload: Workload
    frame: Frame
    known: list[dict[Choice, tuple[Chips, float]]] = field(
        default_factory=list[dict[Choice, tuple[Chips, float]]]
    )

    def site(self, choices: Sequence[Choice]) -> Site:
        """The chips of choices, one after another."""
        chips, there = self.chips(choices)
        return Site(chips, networks_of(self.space), cast("Array", there))

    def areas(self, choices: Sequence[Choice]) -> np.ndarray:
        """[B], in mm²; 0 if not known."""
        first = area_of(self.space.chip([0] * len(self.space.variables)))
        if first is None:
            return np.zeros(len(choices))
        chips, there = self.chips(choices)
        return _areas(chips, there, self._exact_areas(choices), self._mac_area())

    def _exact_areas(self, choices: Sequence[Choice]) -> np.ndarray:
        """[V, B], of one instance, in 64 bits: a bound may be met to the last of them."""
        rows = np.array(choices, dtype=int).reshape(len(choices), len(self.space.variables))
        found: list[np.ndarray] = []
        for index in range(len(self.space.template.levels)):
            own = self._own(index)
            values, inverse = np.unique(rows[:, own], axis=0, return_inverse=True)
            each = [self._level(index, tuple(map(int, row)))[1] for row in values]
            found.append(np.array(each)[inverse.reshape(-1)])
        return np.stack(found)

    def _mac_area(self) -> float:
        full, _ = self.space.full_chip([0] * len(self.space.variables))
        return full.compute.area_mm2 or 0.0

    def _own(self, index: int) -> list[int]:
        """The variables of a level, but those of the array below it."""
        memory = self.space.template.levels[index].memory
        variables = enumerate(self.space.variables)
        return [at for at, v in variables if v.memory == memory and v.field not in _ARRAYS]

    def chips(self, choices: Sequence[Choice]) -> tuple[Chips, np.ndarray]:
        """The chips, and [V, B] which levels are there; what is absent leaks nothing."""
        rows = np.array(choices, dtype=int).reshape(len(choices), len(self.space.variables))
        levels = self.space.template.levels
        parts: list[Chips] = []
        there = np.ones((len(levels), len(choices)), dtype=bool)
        for index in range(len(levels)):
            own = self._own(index)
            found, inverse = np.unique(rows[:, own], axis=0, return_inverse=True)
            made = [self._level(index, tuple(map(int, row)))[0] for row in found]
            inverse = inverse.reshape(-1)
            parts.append(_joined(made, inverse))
            for at in own:
                if self.space.variables[at].field is Field.PRESENT:
                    there[index] = np.array(self.space.variables[at].values)[rows[:, at]] > 0
        return self._with_copies(_put_together(parts, there), rows), there

    def _with_copies(self, chips: Chips, rows: np.ndarray) -> Chips:
        """The chips with their own arrays; nothing else of a level depends on them."""
        copies = np.array(chips.copies)
        for at, variable in enumerate(self.space.variables):
            if variable.field in _ARRAYS:
                level = self.space.template.level_index(variable.memory)
                values = np.array(variable.values, dtype=copies.dtype)
                copies[level, _ARRAYS.index(variable.field)] = values[rows[:, at]]
        return replace(chips, copies=cast("Array", copies))

    def _level(self, index: int, values: Choice) -> tuple[Chips, float]:
        """A chip with these values of a level's variables, the first of all others; its area."""
        while len(self.known) <= index:
            self.known.append({})
        known = self.known[index]
        if values not in known:
            choice = [0] * len(self.space.variables)
            for at, value in zip(self._own(index), values, strict=True):
                choice[at] = value
            full, _ = self.space.full_chip(choice)
            if len(known) >= _MOST_KEPT:
                known.clear()
            chips = encode_chip(full, self.workload, self.frame.shape, dtype=FLOATS)
            known[values] = chips, full.levels[index].area_mm2 or 0.0
        return known[values]


def _joined(made: Sequence[Chips], columns: np.ndarray) -> Chips:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1)[..., columns], *made)


def _put_together(parts: Sequence[Chips], there: np.ndarray) -> Chips:
    """Every level from the part that was made for it."""
    last = parts[-1]
    found: dict[str, Any] = {}
    for name in Chips.__dataclass_fields__:
        leaves: list[Any] = [getattr(part, name) for part in parts]
        if leaves[0].ndim == 1:
            found[name] = getattr(last, name)
        elif name == "share_bits":
            found[name] = np.stack([leaf[:, at] for at, leaf in enumerate(leaves)], axis=1)
        else:
            found[name] = np.stack([leaf[at] for at, leaf in enumerate(leaves)])
    found["leak_pj_per_cycle"] = np.where(there, found["leak_pj_per_cycle"], 0).astype(FLOATS)
    return Chips(**found)


def _areas(chips: Chips, there: np.ndarray, of_level: np.ndarray, of_unit: float) -> np.ndarray:
    """[B], memories on the chip that are there and MAC units, in mm²."""
    copies = np.asarray(chips.copies, dtype=float).prod(axis=1)
    instances = np.cumprod(np.concatenate([np.ones_like(copies[:1]), copies]), axis=0)
    return (instances[:-1] * there * of_level)[1:].sum(axis=0) + instances[-1] * of_unit
