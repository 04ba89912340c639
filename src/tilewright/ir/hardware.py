"""Hardware: memory levels, outermost first, the fan-outs between them, and the MAC units.

Owns: the nouns `Hardware`, `Level`, `Fanout`, `Compute`, `Capacity` and their checks.

Non-goals: files (`ir/files.py`); where energies come from when none are given (`tech/`). Nothing
here knows the name of a chip, an operand or a dim.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tilewright.errors import InputError, Problem, Span

AXES = ("x", "y")
LARGEST_AXIS = 65_536
"""Copies along one axis of a fan-out; instances at an edge are looked at one by one."""
_SIGNS = frozenset("[]:|#")
"""What the notation of mappings uses, and a memory's name may not have."""

Capacity = int | tuple[tuple[str, int], ...] | None
"""In bits: shared by all operands, or one share per operand (name, bits), or unlimited."""


@dataclass(frozen=True, slots=True)
class Fanout:
    """How often all that is inside a level is replicated below it, and by what network.

    Attributes:
        x: copies along the x axis.
        y: copies along the y axis.
        multicast: one read serves all copies that want the same tile.
        reduction: updates of the same tile by several copies merge into one.
        hop_pj: energy of a word for each copy that receives or sends it, in pJ.
        x_dims: the dims that may be unrolled on x; `None` for all.
        y_dims: the dims that may be unrolled on y; `None` for all.
    """

    x: int = 1
    y: int = 1
    multicast: bool = True
    reduction: bool = True
    hop_pj: float = 0.0
    x_dims: tuple[str, ...] | None = None
    y_dims: tuple[str, ...] | None = None

    @property
    def copies(self) -> int:
        """How many copies there are in all."""
        return self.x * self.y

    def extent(self, axis: str) -> int:
        """The number of copies along an axis."""
        return self.x if axis == "x" else self.y

    def allowed_dims(self, axis: str) -> tuple[str, ...] | None:
        """The dims that may be unrolled along an axis; `None` for all."""
        return self.x_dims if axis == "x" else self.y_dims


@dataclass(frozen=True, slots=True)
class Level:
    """One memory of the hierarchy.

    Attributes:
        memory: its name.
        capacity: of one instance, in bits; see `Capacity`.
        double_buffered: only half the capacity may be used, rounded down.
        keeps: the operands that it keeps, exactly; `None` leaves the choice to the mapping.
        word_bits: size of a word of this memory; energies and bandwidths are per word.
        read_pj: energy of reading a word; `None` until a technology table gives it, or 0.
        write_pj: energy of writing a word.
        update_pj: energy of an update; that of a write if `None`.
        read_bandwidth: words per cycle and instance; `None` is unlimited.
        write_bandwidth: likewise.
        bandwidth: likewise, reads and writes together.
        leak_pj_per_cycle: of one instance.
        area_mm2: of one instance; `None` if not known.
        technology: the table that energies and area come from where they are not given.
        block_words: words that one access moves; only Timeloop's accounting looks at it.
        fanout: what lies below.
        where: the place in the file that it was read from.
    """

    memory: str
    capacity: Capacity = None
    double_buffered: bool = False
    keeps: frozenset[str] | None = None
    word_bits: int = 16
    read_pj: float | None = None
    write_pj: float | None = None
    update_pj: float | None = None
    read_bandwidth: float | None = None
    write_bandwidth: float | None = None
    bandwidth: float | None = None
    leak_pj_per_cycle: float = 0.0
    area_mm2: float | None = None
    technology: str | None = None
    block_words: int = 1
    fanout: Fanout = Fanout()
    where: Span | None = field(default=None, compare=False, repr=False)

    def may_keep(self, operand: str) -> bool:
        """Whether the level's description lets it keep the operand at all."""
        if self.keeps is not None and operand not in self.keeps:
            return False
        return not isinstance(self.capacity, tuple) or operand in dict(self.capacity)

    def usable_bits(self, operand: str | None = None) -> int | None:
        """Bits of one instance that tiles may take; `None` is unlimited.

        With a partitioned capacity, that of the operand's share, 0 if it has none; without an
        operand, that of all shares.
        """
        if isinstance(self.capacity, tuple):
            shares = dict(self.capacity)
            bits = sum(shares.values()) if operand is None else shares.get(operand, 0)
        elif self.capacity is None:
            return None
        else:
            bits = self.capacity
        return bits // 2 if self.double_buffered else bits


@dataclass(frozen=True, slots=True)
class Compute:
    """The MAC units: energy of a MAC, area of a unit. `None` until a technology table gives it."""

    name: str = "MAC"
    pj: float | None = None
    area_mm2: float | None = None
    bits: int = 16
    technology: str | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """A chip: its levels, outermost first, its MAC units and its clock.

    Raises `InputError` when made, if levels are missing, named twice, or hold nothing.

    >>> chip = Hardware("toy", (Level("DRAM"), Level("GLB", capacity=8192, fanout=Fanout(x=4))))
    >>> chip.instances(1), chip.mac_units
    (1, 4)

    Source: `spec/formats.md`, Hardware.
    """

    name: str
    levels: tuple[Level, ...]
    compute: Compute = Compute()
    clock_ghz: float = 1.0
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        problems = [replace(p, where=p.where or self.name) for p in _check(self)]
        if problems:
            raise InputError(problems)

    def level_index(self, memory: str) -> int:
        """The position of a memory, 0 the outermost. Raises `KeyError` if there is none."""
        for index, level in enumerate(self.levels):
            if level.memory == memory:
                return index
        raise KeyError(memory)

    def instances(self, index: int) -> int:
        """How many instances of a level the chip has."""
        return math.prod(level.fanout.copies for level in self.levels[:index])

    @property
    def mac_units(self) -> int:
        """How many MAC units the chip has."""
        return self.instances(len(self.levels))


def _check(hardware: Hardware) -> Iterable[Problem]:
    if not hardware.levels:
        yield Problem("no levels", "give at least one memory, the outermost")
    if not _is_amount(hardware.clock_ghz) or hardware.clock_ghz == 0:
        yield Problem(f"clock_ghz is {hardware.clock_ghz}: it must be above 0 GHz", "1.0 is usual")
    names = [level.memory for level in hardware.levels]
    for index, level in enumerate(hardware.levels):
        if level.memory in names[:index]:
            what = f"memory {level.memory} stands twice"
            yield Problem(what, "give each level a name of its own", level.where)
        yield from _check_level(level)
    if hardware.levels and hardware.levels[0].keeps is not None:
        what = f"{names[0]} has `keeps`, but the outermost level keeps every operand"
        yield Problem(what, "remove `keeps` there", hardware.levels[0].where)


def _check_level(level: Level) -> Iterable[Problem]:
    yield from _check_capacity(level)
    yield from _check_amounts(level)
    name = level.memory
    if not name or any(sign.isspace() or sign in _SIGNS for sign in name):
        what = f"`{name}` is no name for a memory: no spaces, and none of [ ] : | #"
        yield Problem(what, "GLB is one", level.where)
    for axis in AXES:
        copies = level.fanout.extent(axis)
        if not 1 <= copies <= LARGEST_AXIS:
            what = f"fan-out {axis} of {name} is {copies}: from 1 to {LARGEST_AXIS:,} copies"
            yield Problem(what, "1 is no fan-out", level.where)
    if level.word_bits < 1 or level.block_words < 1:
        yield Problem(f"{name}: a word has at least 1 bit, an access 1 word", "", level.where)
    for label in ("read_bandwidth", "write_bandwidth", "bandwidth"):
        value = getattr(level, label)
        if value is not None and (not _is_amount(value) or value == 0):
            what = f"{label} of {name} is {value} words per cycle: it must be above 0"
            yield Problem(what, "leave it out for an unlimited one", level.where)
    if level.bandwidth is not None and (level.read_bandwidth or level.write_bandwidth):
        what = f"{name} has `bandwidth` beside `read_bandwidth` or `write_bandwidth`"
        yield Problem(what, "give one shared port, or two", level.where)


def _check_amounts(level: Level) -> Iterable[Problem]:
    for label in ("read_pj", "write_pj", "update_pj", "leak_pj_per_cycle", "area_mm2"):
        value = getattr(level, label)
        if value is not None and not _is_amount(value):
            what = f"{label} of {level.memory} is {value}: expected 0 or more"
            yield Problem(what, "", level.where)


def _check_capacity(level: Level) -> Iterable[Problem]:
    name = level.memory
    shares = level.capacity if isinstance(level.capacity, tuple) else ((name, level.capacity),)
    for label, bits in shares:
        usable = bits if bits is None else (bits // 2 if level.double_buffered else bits)
        if usable is not None and usable < 1:
            what = f"the capacity of {label} in {name} holds nothing"
            yield Problem(what, "leave it out for an unlimited one", level.where)


def _is_amount(value: float) -> bool:
    return math.isfinite(value) and value >= 0
