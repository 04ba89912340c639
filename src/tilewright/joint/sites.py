"""Chips of a space as arrays, many at once.

Owns: `SiteTable`, which encodes each chip once, and areas.

Non-goals: pricing with them.
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import jax
import numpy as np

from tilewright.ir.hardware import Hardware
from tilewright.ir.workload import Workload
from tilewright.joint.genome import FLOATS, Frame, networks_of
from tilewright.joint.local import Site
from tilewright.joint.space import Choice, Space
from tilewright.model.batch import Chips, encode_chip
from tilewright.model.batch.nouns import Array

_MOST_KEPT = 50_000


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

    Operands' shares differ by layer only in their names, which layers of one study share.
    """

    space: Space
    workload: Workload
    frame: Frame
    known: dict[Choice, tuple[Chips, np.ndarray, float]] = field(
        default_factory=dict[Choice, tuple[Chips, np.ndarray, float]]
    )

    def site(self, choices: Sequence[Choice]) -> Site:
        """The chips of choices, one after another."""
        found = [self._one(choice) for choice in choices]
        columns = [chips for chips, _, _ in found]
        chips = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *columns)
        present = np.stack([present for _, present, _ in found], axis=-1)
        return Site(chips, networks_of(self.space), cast("Array", present))

    def areas(self, choices: Sequence[Choice]) -> np.ndarray:
        """[B], in mm²; 0 if not known."""
        return np.array([self._one(choice)[2] for choice in choices])

    def _one(self, choice: Choice) -> tuple[Chips, np.ndarray, float]:
        found = self.known.get(choice)
        if found is None:
            full, present = self.space.full_chip(choice)
            chips = encode_chip(full, self.workload, self.frame.shape, dtype=FLOATS)
            # What is absent takes no area and leaks nothing; nothing is kept in it.
            there = np.array(present)
            absent = ~there[:, None]
            leak = np.where(absent, 0, np.asarray(chips.leak_pj_per_cycle)).astype(FLOATS)
            chips = replace(chips, leak_pj_per_cycle=cast("Array", leak))
            found = chips, there, area_of(self.space.chip(choice)) or 0.0
            if len(self.known) >= _MOST_KEPT:
                self.known.clear()
            self.known[choice] = found
        return found
