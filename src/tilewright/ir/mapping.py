"""Mappings: which loops run where, and which memory keeps what between them.

Owns: the nouns `Mapping`, `Block`, `Loop`, and `parse_mapping`, `format_mapping`.

Non-goals: how the notation is read (`ir/notation.py`), whether a mapping suits a workload and a
chip (`ir/verify.py`).
"""

from dataclasses import dataclass, field

from tilewright.errors import Span
from tilewright.ir.notation import MAPPING, WrittenLoop, read_blocks


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop over a dim: temporal without an axis, else unrolled on that axis of a fan-out."""

    dim: str
    extent: int
    axis: str | None = None
    where: Span | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.dim}{self.extent}" + (f"@{self.axis}" if self.axis else "")


@dataclass(frozen=True, slots=True)
class Block:
    """A memory, the operands that it keeps at this place of the nest, and the loops below it.

    The spatial loops, on the fan-out below the memory, stand inside the temporal ones.
    """

    memory: str
    operands: tuple[str, ...]
    temporal: tuple[Loop, ...] = ()
    spatial: tuple[Loop, ...] = ()
    where: Span | None = field(default=None, compare=False, repr=False)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """All loops of the block, outermost first."""
        return (*self.temporal, *self.spatial)

    def __str__(self) -> str:
        parts = [f"{self.memory}[{' '.join(self.operands)}]:", *map(str, self.temporal)]
        if self.spatial:
            parts += ["|", *map(str, self.spatial)]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Mapping:
    """A loop nest: its blocks, outermost first. Source: `spec/model.md §2`."""

    blocks: tuple[Block, ...]

    def __str__(self) -> str:
        return format_mapping(self)


def format_mapping(mapping: Mapping) -> str:
    """Print a mapping, one line per block. `parse_mapping` reads it back unchanged."""
    return "\n".join(map(str, mapping.blocks))


def parse_mapping(text: str, name: str = "mapping") -> Mapping:
    r"""Read a mapping from its notation.

    Args:
        text: one line per block, `MEMORY[operands]: temporal loops | spatial loops`; `#` starts a
            comment.
        name: what messages call the text; a file's name, for example.

    Raises: `InputError` with every problem, each placed in the text.

    >>> mapping = parse_mapping("DRAM[W I O]: K4 P2\nGLB[I O]: C8 | K4@y  # on chip")
    >>> mapping.blocks[1].spatial[0].extent
    4
    >>> print(mapping)
    DRAM[W I O]: K4 P2
    GLB[I O]: C8 | K4@y

    Source: `spec/model.md §2`.
    """
    blocks = (
        Block(
            block.memory,
            block.operands or (),
            tuple(map(_loop, block.temporal)),
            tuple(map(_loop, block.spatial)),
            block.where,
        )
        for block in read_blocks(text, name, MAPPING)
    )
    return Mapping(tuple(blocks))


def _loop(written: WrittenLoop) -> Loop:
    assert written.extent is not None
    return Loop(written.dim, written.extent, written.axis, written.where)
