"""A nest as a picture: one SVG, readable on light and dark ground, without any script.

Owns: drawing what `nest_lines` says. Names come from users and are escaped.

Non-goals: deciding what is in the nest (`report/nest.py`).
"""

from collections.abc import Iterator
from html import escape

from tilewright.ir.quantity import format_bytes
from tilewright.model.cost import Cost
from tilewright.report.nest import NestLine, Tile, nest_lines

LINE, INDENT, LEFT, WIDTH = 26, 18, 16, 920
"""Height of a loop's line, width of an indent, left margin and width of the picture, in pixels."""

_BLOCK = 56
_BAR_LEFT, _BAR_WIDTH = 540, 340
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Operands, in the order of the workload; told apart by readers who see few colours, too."""

_STYLE = """
text { font: 14px ui-monospace, Menlo, Consolas, monospace; fill: #1b1f24 }
.memory { font-weight: 700 } .small { font-size: 12px; fill: #57606a }
.box { fill: #f6f8fa; stroke: #d0d7de } .room { fill: none; stroke: #8c959f }
.guide { stroke: #d0d7de } .parallel { fill: #8250df; font-weight: 700 } .inside { fill: #fff }
.ground { fill: #fff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .box { fill: #161b22; stroke: #3d444d }
  .room { stroke: #9198a1 } .guide { stroke: #3d444d } .parallel { fill: #d2a8ff }
  .ground { fill: #0d1117 }
}
"""


def draw_nest(cost: Cost) -> str:
    """Draw the nest of a priced mapping.

    Returns: an SVG document: loops indented as they nest, and for every block a bar of what its
    tiles take of the memory.
    """
    lines = nest_lines(cost)
    colour_of = {
        operand.name: _COLOURS[index % len(_COLOURS)]
        for index, operand in enumerate(cost.workload.operands)
    }
    body: list[str] = []
    y = 44
    for line in lines:
        body += _loop(line, y) if line.memory is None else _block(line, y, colour_of)
        y += LINE if line.memory is None else _BLOCK
    depth = 1 + max((line.depth for line in lines if line.memory is None), default=-1)
    body.append(_text(LEFT + INDENT * depth, y + 17, cost.workload.einsum))
    title = f"{cost.workload.name} on {cost.hardware.name}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 40}" '
            f'role="img" aria-label="{escape(title)}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{y + 40}"/>',
            _text(LEFT, 26, title, "memory"),
            *body,
            "</svg>",
        ]
    )


def _text(x: float, y: float, text: str, style: str = "", extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{style}"{extra}>{escape(text)}</text>'


def _guides(depth: int, y: int, height: int) -> Iterator[str]:
    for level in range(depth):
        x = LEFT + INDENT * level + 5
        yield f'<line class="guide" x1="{x}" y1="{y}" x2="{x}" y2="{y + height}"/>'


def _loop(line: NestLine, y: int) -> Iterator[str]:
    yield from _guides(line.depth, y, LINE)
    where = f" on {line.axis}" if line.axis else ""
    words = f"{'parallel-for' if line.axis else 'for'} {line.dim} in {line.extent}{where}"
    yield _text(LEFT + INDENT * line.depth, y + 17, words, "parallel" if line.axis else "")


def _block(line: NestLine, y: int, colour_of: dict[str, str]) -> Iterator[str]:
    yield from _guides(line.depth, y, _BLOCK)
    x = LEFT + INDENT * line.depth
    yield f'<rect class="box" x="{x}" y="{y + 3}" width="{WIDTH - 20 - x}" height="50" rx="6"/>'
    yield _text(x + 10, y + 23, line.memory or "", "memory")
    used = sum(tile.bits for tile in line.tiles)
    if line.room_bits is None:
        room, share = used, f"{format_bytes(used)}, unlimited"
    else:
        room, share = line.room_bits, f"{format_bytes(used)} of {format_bytes(line.room_bits)}"
    words = "  ".join(f"{tile.operand} {tile.words:,}" for tile in line.tiles)
    yield _text(x + 10, y + 43, f"{words} words" if words else "keeps nothing", "small")
    if line.tiles:
        yield from _bar(line.tiles, room, y, colour_of)
        yield _text(_BAR_LEFT, y + 47, share, "small")


def _bar(tiles: tuple[Tile, ...], room: int, y: int, colour_of: dict[str, str]) -> Iterator[str]:
    x = float(_BAR_LEFT)
    for tile in tiles:
        width = _BAR_WIDTH * tile.bits / max(room, 1)
        yield (
            f'<rect x="{x:.1f}" y="{y + 11}" width="{width:.1f}" height="20" '
            f'fill="{colour_of[tile.operand]}"><title>{escape(tile.operand)}: {tile.words:,} words'
            "</title></rect>"
        )
        if width > 14:
            style = ' style="fill:#fff"'
            yield _text(x + 4, y + 26, tile.operand[: int(width // 9)], "", style)
        x += width
    yield f'<rect class="room" x="{_BAR_LEFT}" y="{y + 11}" width="{_BAR_WIDTH}" height="20"/>'
