"""The set of legal mappings of a workload on a chip.

Owns: which loops may stand where, what may be kept where, how large the set is, and how it is
described.

Non-goals: choosing a mapping (`mapper/`), what one costs (`model/`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tilewright.ir.fix import Fix
from tilewright.ir.hardware import AXES, Hardware
from tilewright.ir.workload import Workload


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for loops: the temporal loops of a level's block, or an axis of its fan-out."""

    level: int
    axis: str | None = None


@dataclass(frozen=True)
class Mapspace:
    """All mappings that are searched.

    Attributes:
        workload: what is mapped.
        hardware: on what.
        imperfect: whether tiles may be clipped, so that any extent may be used.
        uneven: whether operands may be kept at different places of one level's loops.
        fix: what all of them contain; it must have passed `verify_fix`.
    """

    workload: Workload
    hardware: Hardware
    imperfect: bool = False
    uneven: bool = False
    fix: Fix | None = None

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Every place where a loop may stand, outermost first."""
        slots: list[Slot] = []
        for index, level in enumerate(self.hardware.levels):
            slots.append(Slot(index))
            slots += [Slot(index, axis) for axis in AXES if level.fanout.extent(axis) > 1]
        return tuple(slots)

    def room(self, slot: Slot) -> int | None:
        """How far loops may be unrolled in a slot; `None` for temporal loops."""
        if slot.axis is None:
            return None
        return self.hardware.levels[slot.level].fanout.extent(slot.axis)

    def admits(self, slot: Slot, dim: str) -> bool:
        """Whether loops over a dim may stand in a slot."""
        if slot.axis is None:
            return True
        allowed = self.hardware.levels[slot.level].fanout.allowed_dims(slot.axis)
        return allowed is None or dim in allowed

    def pinned(self, slot: Slot, dim: str) -> int | None:
        """The extent that the fix gives a dim's loop in a slot; `None` if it is free."""
        if self.fix is None:
            return None
        return self.fix.extent(self.hardware.levels[slot.level].memory, slot.axis, dim)

    def home(self, dim: str) -> int:
        """The outermost slot where a dim's loop is free, a temporal one if there is any."""
        if self.fix is None:
            return 0
        free = [
            (slot.axis is not None, column)
            for column, slot in enumerate(self.slots)
            if self.admits(slot, dim) and self.pinned(slot, dim) is None
        ]
        return min(free, default=(False, 0))[1]

    def arrange(self, level: int, order: tuple[int, ...]) -> tuple[int, ...]:
        """The order of a level's dims, those that the fix writes put in the order written."""
        if self.fix is None:
            return order
        names = [dim.name for dim in self.workload.dims]
        written = self.fix.order(self.hardware.levels[level].memory)
        ranked = iter([names.index(name) for name in written if name in names])
        return tuple(next(ranked) if names[dim] in written else dim for dim in order)

    @cached_property
    def is_smallest_first(self) -> bool:
        """Whether the first draft has the smallest tiles: all that is free stands outermost."""
        return all(self.home(dim.name) == 0 for dim in self.workload.dims)

    def _pinned_keeps(self, level: int) -> frozenset[str] | None:
        return None if self.fix is None else self.fix.keeps(self.hardware.levels[level].memory)

    @cached_property
    def forced(self) -> tuple[frozenset[str], ...]:
        """Per level, the operands that it must keep."""
        names = frozenset(operand.name for operand in self.workload.operands)
        inner = (level.keeps or frozenset[str]() for level in self.hardware.levels[1:])
        keeps = (names, *(keeps & names for keeps in inner))
        pinned = map(self._pinned_keeps, range(len(keeps)))
        return tuple(k if p is None else p for k, p in zip(keeps, pinned, strict=True))

    @cached_property
    def optional(self) -> tuple[frozenset[str], ...]:
        """Per level, the operands that it may keep or let pass."""
        names = [operand.name for operand in self.workload.operands]
        free: list[frozenset[str]] = []
        for index, level in enumerate(self.hardware.levels):
            chosen = () if index == 0 or level.keeps is not None else names
            chosen = chosen if self._pinned_keeps(index) is None else ()
            free.append(frozenset(name for name in chosen if level.may_keep(name)))
        return tuple(free)

    @property
    def title(self) -> str:
        """What the set is, in words, as results say it."""
        kind = "uneven (one loop per dim and memory)" if self.uneven else "even"
        factors = "imperfect" if self.imperfect else "perfect"
        told = "" if self.fix is None else f", with: {self.fix.title}"
        return f"{kind}, {factors} factors, any order, any bypass{told}"

    def size(self) -> float:
        """How many mappings there are, before capacities: factors × orders × choices of keeping.

        Orders of loops of extent 1 are counted as if they mattered, so this is from above.
        """
        total = 1.0
        for dim, size in self.workload.sizes.items():
            pins = [self.pinned(slot, dim) for slot in self.slots if self.admits(slot, dim)]
            places = max(1, pins.count(None))
            if self.imperfect:
                total *= float(size) ** (places - 1)
            else:
                rest = size // math.gcd(size, math.prod(pin or 1 for pin in pins))
                for exponent in prime_exponents(rest).values():
                    total *= math.comb(exponent + places - 1, places - 1)
        moving = sum(size > 1 for size in self.workload.sizes.values())
        total *= float(math.factorial(moving)) ** len(self.hardware.levels)
        for level in self.hardware.levels if self.fix is not None else ():
            total /= math.factorial(self._ordered(level.memory))
        choices = sum(len(names) for names in self.optional)
        total *= 2.0**choices
        if self.uneven:
            kept = choices + sum(len(names) for names in self.forced[1:])
            total *= float(moving + 1) ** kept
        return total

    def _ordered(self, memory: str) -> int:
        """How many of a level's loops stand in a given order."""
        order = self.fix.order(memory) if self.fix is not None else ()
        return sum(self.workload.sizes.get(dim, 1) > 1 for dim in order)


def prime_exponents(number: int) -> dict[int, int]:
    """The prime factors of a number with their exponents.

    >>> prime_exponents(56)
    {2: 3, 7: 1}
    """
    found: dict[int, int] = {}
    for prime in primes(number):
        found[prime] = found.get(prime, 0) + 1
    return found


def primes(number: int) -> Iterator[int]:
    """The prime factors of a number, smallest first, each as often as it divides."""
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            yield divisor
            number //= divisor
        divisor += 1
    if number > 1:
        yield number
