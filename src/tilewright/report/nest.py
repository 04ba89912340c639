"""A mapping as a nest of loops: which loop runs inside which, and what stays where between them.

Owns: the nest as data (`nest_lines`) and as indented text (`format_nest`).

Non-goals: the picture (`report/picture.py`); what a mapping costs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tilewright.ir.mapping import Block
from tilewright.ir.quantity import format_bytes
from tilewright.model.capacity import word_bits
from tilewright.model.cost import Cost


@dataclass(frozen=True, slots=True)
class Tile:
    """What one residency of an operand in a memory takes."""

    operand: str
    words: int
    bits: int


@dataclass(frozen=True, slots=True)
class NestLine:
    """One line of a nest, `depth` loops deep.

    A line is either a block (`memory` with its `tiles`) or a loop (`dim`, `extent`, `axis`).
    `room_bits` is what one instance of the memory may hold; `None` if unlimited.
    """

    depth: int
    memory: str | None = None
    tiles: tuple[Tile, ...] = ()
    room_bits: int | None = None
    dim: str | None = None
    extent: int = 1
    axis: str | None = None

    def __str__(self) -> str:
        indent = "  " * self.depth
        if self.memory is None:
            if self.axis is None:
                return f"{indent}for {self.dim} in {self.extent}"
            return f"{indent}parallel-for {self.dim} in {self.extent} on {self.axis}"
        tiles = ", ".join(f"{t.operand} {t.words:,}" for t in self.tiles)
        used = sum(tile.bits for tile in self.tiles)
        of = f" of {format_bytes(self.room_bits)}" if self.room_bits is not None else ""
        holds = f"{tiles} words = {format_bytes(used)}{of}" if self.tiles else "nothing"
        return f"{indent}{self.memory} holds {holds}"

    def to_json(self) -> dict[str, object]:
        """The line as a JSON object."""
        if self.memory is None:
            return {
                "depth": self.depth,
                "dim": self.dim,
                "extent": self.extent,
                "axis": self.axis,
            }
        return {
            "depth": self.depth,
            "memory": self.memory,
            "capacity_bytes": None if self.room_bits is None else self.room_bits // 8,
            "tiles": {tile.operand: tile.words for tile in self.tiles},
        }


def nest_lines(cost: Cost) -> list[NestLine]:
    """The nest of a priced mapping, outermost first.

    Loops of extent 1 are left out.
    """
    lines: list[NestLine] = []
    depth = 0
    for block in cost.mapping.blocks:
        lines.append(_block_line(cost, block, depth))
        for loop in block.loops:
            if loop.extent > 1:
                lines.append(NestLine(depth, dim=loop.dim, extent=loop.extent, axis=loop.axis))
                depth += 1
    return lines


def format_nest(cost: Cost) -> str:
    """The nest as indented text, innermost line the multiply-accumulate."""
    lines = nest_lines(cost)
    last = 1 + max((line.depth for line in lines if line.memory is None), default=-1)
    return "\n".join([*map(str, lines), f"{'  ' * last}{cost.workload.einsum}"])


def _block_line(cost: Cost, block: Block, depth: int) -> NestLine:
    level = cost.hardware.levels[cost.hardware.level_index(block.memory)]
    return NestLine(depth, block.memory, tuple(_tiles(cost, block)), level.usable_bits())


def _tiles(cost: Cost, block: Block) -> Iterator[Tile]:
    level = cost.hardware.levels[cost.hardware.level_index(block.memory)]
    for name in block.operands:
        operand = cost.workload.operand(name)
        words = cost.counts.tile_words[block.memory, name]
        bits = word_bits(cost.workload, level, operand, cost.counts, cost.convention)
        yield Tile(name, words, words * bits)
