"""Partly given mappings: what is written must be in the mapping, all else is free.

Owns: the nouns `Fix`, `FixedBlock`, `Pin`, `parse_fix`, `format_fix`, and when a mapping contains a
fix. `docs/fix.md` says what can be written.

Non-goals: whether a fix suits a workload and a chip (`ir/verify_fix.py`), finding the rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tilewright.errors import Span
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.notation import PARTIAL, WrittenLoop, read_blocks


@dataclass(frozen=True, slots=True)
class Pin:
    """A loop as far as it is given: its dim and its place, and its extent unless that is free."""

    dim: str
    extent: int | None = None
    axis: str | None = None
    where: Span | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        extent = "" if self.extent is None else str(self.extent)
        return f"{self.dim}{extent}" + (f"@{self.axis}" if self.axis else "")


@dataclass(frozen=True, slots=True)
class FixedBlock:
    """What is given of a memory's block.

    Attributes:
        memory: its name.
        operands: what is kept there, exactly; `None` leaves it free.
        temporal: loops below it, in this order among each other, outermost first.
        spatial: loops on the fan-out below it.
        where: its place in the text that it was read from.
    """

    memory: str
    operands: tuple[str, ...] | None = None
    temporal: tuple[Pin, ...] = ()
    spatial: tuple[Pin, ...] = ()
    where: Span | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        head = "" if self.operands is None else f"[{' '.join(self.operands)}]"
        parts = [f"{self.memory}{head}:", *map(str, self.temporal)]
        if self.spatial:
            parts += ["|", *map(str, self.spatial)]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Fix:
    """A partly given mapping: blocks, outermost first. Source: `docs/fix.md`."""

    blocks: tuple[FixedBlock, ...]

    def __str__(self) -> str:
        return format_fix(self)

    @property
    def title(self) -> str:
        """The fix on one line, for the name of a mapspace."""
        return "; ".join(map(str, self.blocks))

    def of(self, memory: str) -> tuple[FixedBlock, ...]:
        """The blocks of a memory."""
        return tuple(block for block in self.blocks if block.memory == memory)

    def keeps(self, memory: str) -> frozenset[str] | None:
        """What a memory keeps; `None` if that is free."""
        written = [block.operands for block in self.of(memory) if block.operands is not None]
        return frozenset(name for names in written for name in names) if written else None

    def order(self, memory: str) -> tuple[str, ...]:
        """The dims whose temporal loops are written, outermost first."""
        return tuple(pin.dim for block in self.of(memory) for pin in block.temporal)

    def pins(self, memory: str, axis: str | None) -> tuple[Pin, ...]:
        """The loops that are written for a memory: temporal ones, or those on an axis."""
        return tuple(
            pin
            for block in self.of(memory)
            for pin in (block.temporal if axis is None else block.spatial)
            if pin.axis == axis
        )

    def extent(self, memory: str, axis: str | None, dim: str) -> int | None:
        """How far a dim's loop goes there; `None` if that is free.

        An axis with a dim that has no extent is a dataflow: what is not written there is not
        unrolled there.
        """
        pins = self.pins(memory, axis)
        written = [pin for pin in pins if pin.dim == dim]
        if written:
            return written[0].extent
        is_dataflow = axis is not None and any(pin.extent is None for pin in pins)
        return 1 if is_dataflow else None

    def is_in(self, mapping: Mapping) -> bool:
        r"""Whether a mapping contains what is given.

        >>> from tilewright.ir.mapping import parse_mapping
        >>> mapping = parse_mapping("DRAM[W I O]: K4 C2\nGLB[I O]: C8 Q28 | K4@y")
        >>> parse_fix("GLB: C Q28 | K@y").is_in(mapping), parse_fix("GLB: Q C").is_in(mapping)
        (True, False)
        """
        memories = dict.fromkeys(block.memory for block in self.blocks)
        return all(
            _contains([b for b in mapping.blocks if b.memory == memory], self, memory)
            for memory in memories
        )


def format_fix(fix: Fix) -> str:
    """Print a fix, one line per block. `parse_fix` reads it back unchanged."""
    return "\n".join(map(str, fix.blocks))


def parse_fix(text: str, name: str = "fix") -> Fix:
    r"""Read a partly given mapping from the notation of mappings.

    Args:
        text: one line per block, `MEMORY[operands]: temporal loops | spatial loops`. Brackets may
            be left out, and so may extents; `#` starts a comment.
        name: what messages call the text; a file's name, for example.

    Raises: `InputError` with every problem, each placed in the text.

    >>> fix = parse_fix("GLB[I O]: C8 Q | K@y  # K on y alone\nRF: K8")
    >>> fix.keeps("GLB") == {"I", "O"}, fix.keeps("RF")
    (True, None)
    >>> [fix.extent("GLB", axis, "C") for axis in (None, "x", "y")]
    [8, None, 1]

    Source: `docs/fix.md`.
    """
    blocks = (
        FixedBlock(
            block.memory,
            block.operands,
            tuple(map(_pin, block.temporal)),
            tuple(map(_pin, block.spatial)),
            block.where,
        )
        for block in read_blocks(text, name, PARTIAL)
    )
    return Fix(tuple(blocks))


def _pin(written: WrittenLoop) -> Pin:
    return Pin(written.dim, written.extent, written.axis, written.where)


def _contains(blocks: list[Block], fix: Fix, memory: str) -> bool:
    """Whether a memory's blocks contain what is given of it."""
    loops = [loop for block in blocks for loop in block.loops if loop.extent > 1]
    kept = frozenset(name for block in blocks for name in block.operands)
    keeps = fix.keeps(memory)
    if not _obeys(loops, fix, memory) or (keeps is not None and keeps != kept):
        return False
    written, dims = fix.order(memory), [loop.dim for loop in loops if loop.axis is None]
    inside = [dim for dim in dims if dim in written]
    if inside != [dim for dim in written if dim in dims]:
        return False
    return _stands(blocks, fix.of(memory), dims)


def _obeys(loops: list[Loop], fix: Fix, memory: str) -> bool:
    """Whether a memory's loops have the extents that are given."""
    extents: dict[tuple[str | None, str], int] = {}
    for block in fix.of(memory):
        extents |= {(pin.axis, pin.dim): 1 for pin in (*block.temporal, *block.spatial)}
    extents |= {(loop.axis, loop.dim): 1 for loop in loops}
    for loop in loops:
        extents[loop.axis, loop.dim] *= loop.extent
    return all(
        fix.extent(memory, axis, dim) in (None, extent) for (axis, dim), extent in extents.items()
    )


def _stands(blocks: list[Block], fixed: tuple[FixedBlock, ...], dims: list[str]) -> bool:
    """Whether operands are kept at the places, among the loops, where they are written.

    Operands of one block stand together, inside the loops of earlier blocks and outside their own.
    """
    depths = dict(_depths(blocks))
    for depth, names in zip(_places(fixed, dims, depths), fixed, strict=True):
        if any(depths[name] != depth for name in names.operands or ()):
            return False
    return True


def _places(
    fixed: tuple[FixedBlock, ...], dims: list[str], depths: dict[str, int]
) -> Iterator[int]:
    """Where the operands of every block may stand: where the first stands, within the limits."""
    least = 0
    for at, block in enumerate(fixed):
        low, high = room_of(fixed, at, dims)
        wanted = depths[block.operands[0]] if block.operands else low
        least = min(max(wanted, low, least), high)
        yield least


def room_of(fixed: tuple[FixedBlock, ...], at: int, dims: list[str]) -> tuple[int, int]:
    """Between which of a memory's temporal loops, `dims`, a written block may stand.

    Returns: the fewest and the most loops outside of it.
    """
    outer = {pin.dim for block in fixed[:at] for pin in block.temporal}
    inner = {pin.dim for block in fixed[at:] for pin in block.temporal}
    low = max([place + 1 for place, dim in enumerate(dims) if dim in outer], default=0)
    high = min([place for place, dim in enumerate(dims) if dim in inner], default=len(dims))
    return low, high


def _depths(blocks: list[Block]) -> Iterator[tuple[str, int]]:
    """Every operand, and how many of the memory's temporal loops stand outside its block."""
    depth = 0
    for block in blocks:
        yield from ((name, depth) for name in block.operands)
        depth += sum(loop.extent > 1 for loop in block.temporal)
