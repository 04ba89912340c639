"""What a fix leaves to the proving search: extents, unrollings and orders, stage by stage.

Owns: `Pins`, which puts a fix into the words of `docs/optimal-mapper.md`.

Non-goals: the search (`mapper/kernels.py`), what a fix means (`ir/fix.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import permutations, product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tilewright.ir.fix import Fix
from tilewright.ir.hardware import AXES, Hardware
from tilewright.mapper.problem import Integers, Mask

Small = NDArray[np.int16]
FREE = -1
"""In arrays: an extent that is not given, or no further dim in an order."""


class Place(Protocol):
    """A stage: the level whose loops it has, and the level below which its fan-out lies or -1."""

    @property
    def level(self) -> int: ...
    @property
    def fan(self) -> int: ...


@dataclass(frozen=True)
class Pins:
    """A fix for one workload on one chip; without one, all is free.

    Attributes:
        fix: what is given.
        hardware: the chip.
        dims: those of size above 1, by name.
        divisors: of every dim's size, ascending.
    """

    fix: Fix | None
    hardware: Hardware
    dims: list[str]
    divisors: list[list[int]]
    _reached: dict[tuple[object, ...], frozenset[int]] = field(
        default_factory=dict[tuple[object, ...], frozenset[int]], repr=False, compare=False
    )

    def apart(self, level: int) -> bool:
        """Whether a level's loops must be told from those of its neighbours."""
        if self.fix is None:
            return False
        pins = self.fix.pins(self.hardware.levels[level].memory, None)
        return len(pins) > 1 or any(pin.extent is not None for pin in pins)

    @property
    def any_order(self) -> bool:
        """Whether the relative order of some loops is given."""
        if self.fix is None:
            return False
        return any(len(self.fix.order(level.memory)) > 1 for level in self.hardware.levels)

    def unrolled(self, level: int, axis: str, dim: str, extents: list[int]) -> list[int]:
        """Of the extents to which a dim may be unrolled on an axis, those that the fix allows."""
        if self.fix is None:
            return extents
        extent = self.fix.extent(self.hardware.levels[level].memory, axis, dim)
        return extents if extent is None else [e for e in extents if e == extent]

    def extents(self, stages: Sequence[Place]) -> Integers:
        """(K, D) index of the extent that a dim's temporal loop must have, or `FREE`."""
        found = np.full((len(stages), len(self.dims)), FREE, np.int64)
        for k, stage in enumerate(stages) if self.fix is not None else ():
            assert self.fix is not None
            for d, dim in enumerate(self.dims):
                extent = self.fix.extent(self.hardware.levels[stage.level].memory, None, dim)
                if extent is not None and self.apart(stage.level):
                    found[k, d] = self.divisors[d].index(extent)
        return found

    def orders(self, stages: Sequence[Place]) -> Integers:
        """(K, D) the dims whose relative order is given, outermost first, then `FREE`."""
        found = np.full((len(stages), len(self.dims)), FREE, np.int64)
        for k, stage in enumerate(stages) if self.fix is not None else ():
            assert self.fix is not None
            written = self.fix.order(self.hardware.levels[stage.level].memory)
            order = [self.dims.index(dim) for dim in written if dim in self.dims]
            found[k, : len(order)] = order
        return found

    def fitting(self, stages: Sequence[Place], boundary: int, tiles: Small) -> Mask | None:
        """Which tiles of a boundary leave extents to the loops outside and inside that are given.

        `None` stands for all.
        """
        if self.fix is None:
            return None
        chosen = np.ones(len(tiles), np.bool_)
        for d, divisors in enumerate(self.divisors):
            outside = self._reachable(stages[:boundary], d)
            inside = self._reachable(stages[boundary:], d)
            size = divisors[-1]
            allowed = [t in inside and size // t in outside for t in divisors]
            chosen &= np.array(allowed)[tiles[:, d]]
        return chosen

    def _reachable(self, stages: Sequence[Place], d: int) -> frozenset[int]:
        """The products that a dim's loops in some stages may have."""
        key = (d, *((stage.level, stage.fan) for stage in stages))
        if key not in self._reached:  # the same stages are asked about for every choice of blocks
            found, divisors = {1}, frozenset(self.divisors[d])
            for stage in stages:
                for choices in self._choices(stage, d):
                    found = {a * b for a, b in product(found, choices)} & divisors
            self._reached[key] = frozenset(found)
        return self._reached[key]

    def _choices(self, stage: Place, d: int) -> list[list[int]]:
        """The extents of a dim's loops in a stage: the temporal one, those on axes."""
        assert self.fix is not None
        dim, divisors = self.dims[d], self.divisors[d]
        extent = self.fix.extent(self.hardware.levels[stage.level].memory, None, dim)
        given = extent is not None and self.apart(stage.level)
        choices = [[extent] if extent is not None and given else divisors]
        if stage.fan >= 0:
            fanout = self.hardware.levels[stage.fan].fanout
            for axis in AXES:
                allowed = fanout.allowed_dims(axis)
                there = divisors if allowed is None or dim in allowed else [1]
                there = [e for e in there if e <= fanout.extent(axis)]
                choices.append(self.unrolled(stage.fan, axis, dim, there))
        return choices


def blocked(order: Sequence[int], moved: Sequence[int], uses: int) -> frozenset[int]:
    """Loops that miss an operand but must stand outside one that indexes it, the order being given.

    Args:
        order: dims in the order that is given, outermost first.
        moved: dims that have a loop.
        uses: bit mask of the dims that index the operand.
    """
    found: set[int] = set()
    waiting: set[int] = set()
    for dim in order:
        if dim not in moved:
            continue
        if uses >> dim & 1:
            found |= waiting
            waiting = set()
        else:
            waiting.add(dim)
    return frozenset(found)


def in_order(dims: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """Dims, those of which an order is given put in that order."""
    ranked = iter([dim for dim in order if dim in dims])
    return tuple(next(ranked) if dim in order else dim for dim in dims)


@cache
def allowed_orders(
    moved: tuple[int, ...], order: tuple[int, ...], uses: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
    """All orders of loops that obey the given one, of those that count the same only one.

    What an operand keeps is decided by the loops up to the second that indexes it, seen from
    inside (`docs/optimal-mapper.md`, Lemma 1 and the note on tiles that do not move).
    """
    given = [dim for dim in order if dim in moved]
    found: dict[tuple[object, ...], tuple[int, ...]] = {}
    for candidate in permutations(moved):
        if [dim for dim in candidate if dim in given] == given:
            found.setdefault(tuple(_seen_by(candidate, mask) for mask in uses), candidate)
    return tuple(found.values())


def _seen_by(order: tuple[int, ...], uses: int) -> tuple[object, ...]:
    """What of an order decides how many words of an operand arrive."""
    found: list[object] = []
    free: set[int] = set()
    indexed = 0
    for dim in reversed(order):
        if not uses >> dim & 1:
            free.add(dim)
            continue
        found += [frozenset(free), dim]
        free, indexed = set[int](), indexed + 1
        if indexed == 2:
            return tuple(found)
    return (*found, frozenset(free))
