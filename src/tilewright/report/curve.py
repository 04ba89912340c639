"""Traffic curves as a table and as a picture: words against capacity, both on logarithmic axes.

Owns: what `curve` prints, and its SVG, readable on light and dark ground. Names come from users and
are escaped.

Non-goals: finding the curves (`mapper/curve.py`).
"""

import math
from collections.abc import Iterator, Sequence
from html import escape

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tilewright.ir.mapping import format_mapping
from tilewright.ir.quantity import format_bytes
from tilewright.mapper.curve import TrafficCurve, TrafficPoint
from tilewright.mapper.result import Status

WIDTH, HEIGHT = 760, 480
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 24, 54, 56
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_SHAPES = ("circle", "square", "triangle", "diamond")
"""Curves are told apart by colour and by the shape of their points."""

_STYLE = """
text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: #1b1f24 }
.title { font-size: 15px; font-weight: 700 } .small { font-size: 12px; fill: #57606a }
.ground { fill: #fff } .grid { stroke: #e1e4e8 } .frame { fill: none; stroke: #8c959f }
.curve { fill: none; stroke-width: 2 } .limit { stroke: #57606a; stroke-dasharray: 6 4 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .ground { fill: #0d1117 }
  .grid { stroke: #2a313c } .frame { stroke: #656c76 } .limit { stroke: #9198a1 }
}
"""


def short_title(curve: TrafficCurve) -> str:
    """The mapspace in two words.

    >>> short_title(TrafficCurve("layer", True, False, (), 0.0))
    'uneven, perfect'
    """
    kind = "uneven" if curve.uneven else "even"
    return f"{kind}, {'imperfect' if curve.imperfect else 'perfect'}"


def curve_report(curves: Sequence[TrafficCurve]) -> RenderableType:
    """The table of curves with the same capacities: words, and how far above the limit.

    A point whose mapping is not proved to be the best is marked with `≤`.
    """
    head = curves[0]
    table = Table(
        title=f"{head.name}: least words to and from DRAM",
        title_justify="left",
        header_style="bold",
        box=None,
    )
    columns = ["buffer", *(c for curve in curves for c in (short_title(curve), "× limit"))]
    for column in (*columns, "physical limit", "tighter bound"):
        table.add_column(Text(column), justify="right", no_wrap=True)
    for rung, point in enumerate(head.points):
        cells = [cell for curve in curves for cell in _cells(curve.points[rung])]
        floors = f"{point.limit_words:,.0f}", f"{point.bound_words:,.0f}"
        table.add_row(format_bytes(point.capacity_bits), *cells, *floors)
    parts: list[RenderableType] = [table]
    if head.layers:
        parts += [Text(""), _layers_table(curves[-1])]
    elif len(curves) == 1:
        parts += [_mapping(point) for point in head.points]
    return Group(*parts, Text(""), _notes(curves))


def _layers_table(curve: TrafficCurve) -> Table:
    """The words of every layer of a network, once."""
    table = Table(
        title=f"by layer, once: {short_title(curve)}",
        title_justify="left",
        header_style="bold",
        box=None,
    )
    table.add_column("layer", no_wrap=True)
    for column in ("×", *(format_bytes(point.capacity_bits) for point in curve.points)):
        table.add_column(column, justify="right", no_wrap=True)
    for repeat, layer in curve.layers:
        table.add_row(layer.name, str(repeat), *(_cells(point)[0] for point in layer.points))
    return table


def _cells(point: TrafficPoint) -> tuple[str, str]:
    mark = "" if point.status is Status.OPTIMAL else "≤ "
    return f"{mark}{point.words:,}", f"{point.words / point.limit_words:.3f}"


def _mapping(point: TrafficPoint) -> Text:
    ((_, mapping),) = point.mappings
    text = Text(f"\n{format_bytes(point.capacity_bits)}\n", style="bold")
    return text.append(format_mapping(mapping), style="cyan")


def _notes(curves: Sequence[TrafficCurve]) -> Text:
    seconds = sum(curve.seconds for curve in curves)
    proved = all(curve.proved for curve in curves)
    end = "every point is proved least" if proved else "≤: the best found, not proved least"
    return Text(f"mapspace: {'; '.join(curve.title for curve in curves)}\n{end}; {seconds:.1f} s")


def draw_curves(curves: Sequence[TrafficCurve]) -> str:
    """Draw curves with the same capacities, and the physical limit, on logarithmic axes.

    Returns: an SVG document.
    """
    points = [point for curve in curves for point in curve.points]
    scale = _Scale(
        [point.capacity_bits / 8 for point in points],
        [words for point in points for words in (point.words, point.limit_words)],
    )
    title = f"{curves[0].name}: least words to and from DRAM"
    limit = [(point.capacity_bits / 8, point.limit_words) for point in curves[0].points]
    body = [*scale.axes(), _line(scale, limit, "limit", "")]
    for number, curve in enumerate(curves):
        reached = [(point.capacity_bits / 8, float(point.words)) for point in curve.points]
        colour = _COLOURS[number % len(_COLOURS)]
        body.append(_line(scale, reached, "", f' stroke="{colour}"'))
        for point in curve.points:
            at = scale.x(point.capacity_bits / 8), scale.y(point.words)
            share = f"{point.words / point.limit_words:.3f} × the limit"
            words = f"{format_bytes(point.capacity_bits)}: {point.words:,} words, {share}"
            body.append(_marker(*at, number, f"{short_title(curve)}, {words}"))
    body += _legend(curves)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'role="img" aria-label="{escape(title)}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
            _text(_LEFT, 28, title, "title"),
            *body,
            "</svg>",
        ]
    )


class _Scale:
    """Where words and bytes lie on the picture."""

    def __init__(self, sizes: list[float], words: list[float]) -> None:
        low, high = math.log2(min(sizes)), math.log2(max(sizes))
        self.left, self.right = (low, high) if high > low else (low - 1, high + 1)
        self.floor = math.log10(max(1.0, min(words))) - 0.08
        self.ceiling = math.log10(max(1.0, *words)) + 0.08

    def x(self, size: float) -> float:
        share = (math.log2(size) - self.left) / (self.right - self.left)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, words: float) -> float:
        share = (math.log10(max(1.0, words)) - self.floor) / (self.ceiling - self.floor)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def axes(self) -> Iterator[str]:
        for words in self._round_words():
            y = self.y(words)
            yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
            yield _text(_LEFT - 8, y + 4, _short(words), "small", ' text-anchor="end"')
        for power in self._powers():
            x = self.x(2.0**power)
            label = format_bytes(8 * 2**power) if power >= 0 else f"{2.0**power:g} B"
            yield f'<path class="grid" d="M{x:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>'
            yield _text(x, HEIGHT - _BOTTOM + 18, label, "small", ' text-anchor="middle"')
        width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
        yield f'<rect class="frame" x="{_LEFT}" y="{_TOP}" width="{width}" height="{height}"/>'
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        yield _text(middle, HEIGHT - 14, "buffer", "small", ' text-anchor="middle"')
        yield _text(16, _TOP - 8, "words", "small")

    def _powers(self) -> list[int]:
        first, last = math.ceil(self.left - 1e-9), math.floor(self.right + 1e-9)
        step = max(1, math.ceil((last - first + 1) / 11))
        return list(range(first, last + 1, step))

    def _round_words(self) -> list[float]:
        decades = range(math.floor(self.floor), math.ceil(self.ceiling) + 1)
        for leads in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
            found = [lead * 10.0**d for d in decades for lead in leads]
            found = [w for w in found if self.floor <= math.log10(w) <= self.ceiling]
            if len(found) >= 3:
                break
        return found


def _short(words: float) -> str:
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if words >= scale:
            return f"{words / scale:g} {unit}"
    return f"{words:g}"


def _line(scale: _Scale, points: list[tuple[float, float]], style: str, extra: str) -> str:
    places = " ".join(f"{scale.x(size):.1f},{scale.y(words):.1f}" for size, words in sorted(points))
    return f'<polyline class="curve {style}" points="{places}"{extra}/>'


def _marker(x: float, y: float, number: int, words: str) -> str:
    colour, shape = _COLOURS[number % len(_COLOURS)], _SHAPES[number % len(_SHAPES)]
    hint = f"<title>{escape(words)}</title>"
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}">{hint}</circle>'
    corners = {
        "square": ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        "triangle": ((0, -5), (5, 4), (-5, 4)),
        "diamond": ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)),
    }[shape]
    places = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{places}" fill="{colour}">{hint}</polygon>'


def _legend(curves: Sequence[TrafficCurve]) -> Iterator[str]:
    x, y = WIDTH - _RIGHT - 180, _TOP + 20
    for number, curve in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        yield f'<path class="curve" stroke="{colour}" d="M{x} {y - 4}h28"/>'
        yield _marker(x + 14, y - 4, number, short_title(curve))
        yield _text(x + 38, y, short_title(curve))
        y += 20
    yield f'<path class="curve limit" d="M{x} {y - 4}h28"/>'
    yield _text(x + 38, y, "physical limit")


def _text(x: float, y: float, text: str, style: str = "", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}"{extra}>{escape(text)}</text>'
