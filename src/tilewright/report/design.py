"""A designed hierarchy as tables, and the hierarchies found as a picture of energy against area.

Owns: what `design` prints, and its SVG, readable on light and dark ground.

Non-goals: designing (`mapper/design.py`).
"""

import math
from collections.abc import Iterator, Sequence
from html import escape

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tilewright.ir.mapping import format_mapping
from tilewright.ir.quantity import format_bytes
from tilewright.mapper.design import DesignPoint, DesignResult
from tilewright.mapper.result import Status
from tilewright.report.tables import energy, figures_table

WIDTH, HEIGHT = 760, 480
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 24, 54, 56

_STYLE = """
text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: #1b1f24 }
.title { font-size: 15px; font-weight: 700 } .small { font-size: 12px; fill: #57606a }
.ground { fill: #fff } .grid { stroke: #e1e4e8 } .frame { fill: none; stroke: #8c959f }
.front { fill: none; stroke: #0072b2; stroke-width: 2 } .on { fill: #0072b2 }
.off { fill: none; stroke: #8c959f } .best { fill: #d55e00 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .ground { fill: #0d1117 }
  .grid { stroke: #2a313c } .frame { stroke: #656c76 } .off { stroke: #656c76 }
}
"""


def design_report(result: DesignResult) -> RenderableType:
    """The hierarchy, where its energy goes, the layers' blockings, and the front."""
    best = result.best
    if best is None:
        return Text("stopped before the first hierarchy was done", style="yellow")
    title = f"memories for {result.network.name}, least {result.objective.value}"
    parts: list[RenderableType] = [
        _level_table(best, title),
        Text(""),
        _layer_table(best),
        *(_blocking(layer_name, text) for layer_name, text in _blockings(best)),
        Text(""),
        _front_table(result),
        Text(""),
        _notes(result),
    ]
    return Group(*parts)


def _level_table(best: DesignPoint, title: str) -> Table:
    table = figures_table("level", "capacity", "word", "area", "energy", "share", title=title)
    spent, whole = best.level_pj(), best.energy_pj or 1.0
    for index, level in enumerate(best.hardware.levels):
        bits = level.usable_bits()
        pj = spent.get(level.memory, 0.0)
        table.add_row(
            level.memory,
            "unlimited" if bits is None else format_bytes(bits),
            f"{level.word_bits} bits",
            "" if level.area_mm2 is None or index == 0 else f"{level.area_mm2:.4f} mm²",
            energy(pj),
            f"{pj / whole:.1%}",
        )
    unit = best.hardware.compute
    area = "" if unit.area_mm2 is None else f"{unit.area_mm2 * best.hardware.mac_units:.4f} mm²"
    pj = spent.get(unit.name, 0.0)
    table.add_row(unit.name, "", f"{unit.bits} bits", area, energy(pj), f"{pj / whole:.1%}")
    table.add_row("total", "", "", _area(best), energy(best.energy_pj), "100.0%", style="bold")
    return table


def _area(point: DesignPoint) -> str:
    return "not known" if point.area_mm2 is None else f"{point.area_mm2:.4f} mm²"


def _layer_table(best: DesignPoint) -> Table:
    table = figures_table("layer", "×", "energy", "cycles", "DRAM words", "status")
    for layer in best.layers:
        cost = layer.cost
        if cost is None:
            continue
        row = (energy(cost.energy_pj), f"{cost.cycles:,}", f"{cost.dram_words:,}")
        status = "optimal" if layer.status is Status.OPTIMAL else "best found"
        table.add_row(layer.workload.name, str(layer.repeat), *row, status)
    return table


def _blockings(best: DesignPoint) -> Iterator[tuple[str, str]]:
    for layer in best.layers:
        if layer.cost is not None:
            yield layer.workload.name, format_mapping(layer.cost.mapping)


def _blocking(name: str, mapping: str) -> Text:
    return Text(f"\n{name}\n", style="bold").append(mapping, style="cyan")


def _front_table(result: DesignResult) -> Table:
    name = "front, proved" if result.front_proved else "front of those mapped"
    table = figures_table(name, "total", "area", "energy", "")
    for point in result.front:
        mark = "chosen" if point is result.best else ""
        size = format_bytes(point.hierarchy.capacity_bits)
        table.add_row(str(point.hierarchy), size, _area(point), energy(point.energy_pj), mark)
    return table


def _notes(result: DesignResult) -> Text:
    grid = result.grid
    budgets = [
        *([] if grid.area_mm2 is None else [f"{grid.area_mm2:g} mm²"]),
        *([] if grid.capacity_bits is None else [format_bytes(grid.capacity_bits)]),
    ]
    low, high = format_bytes(min(grid.capacities)), format_bytes(max(grid.capacities))
    proof = "proved least of the grid"
    if result.status is not Status.OPTIMAL:
        proof = f"best found, at most {result.gap or 0.0:.1%} above the least of the grid"
    stopped = "; stopped" if result.interrupted else ""
    counts = sorted(set(grid.levels))
    levels = f"{', '.join(map(str, counts))} {'level' if counts == [1] else 'levels'}"
    return Text(
        f"{proof}{stopped}\n"
        f"grid: {levels}, each of {len(set(grid.capacities))} capacities from {low} to "
        f"{high}, words of {', '.join(map(str, sorted(set(grid.word_bits))))} bits; "
        f"{result.candidates:,} hierarchies within {' and '.join(budgets) or 'no budget'}, "
        f"{len(result.points)} of them mapped, {result.solved} layers in all\n"
        f"energies {grid.technology}, areas {grid.area_table}; {result.seconds:.1f} s"
    )


def draw_front(result: DesignResult) -> str:
    """Draw energy against area, or against capacity where an area is not known.

    Returns: an SVG document. Both axes are logarithmic; the front is a staircase, the chosen
    hierarchy has its own colour.

    Raises `ValueError` if no hierarchy was mapped.
    """
    title = f"{result.network.name}: energy of the hierarchies that were mapped"
    return draw_points(title, result.points, result.front, result.best)


def draw_points(
    title: str,
    points: Sequence[DesignPoint],
    front: Sequence[DesignPoint],
    best: DesignPoint | None,
) -> str:
    """Draw energy against area: see `draw_front`."""
    known = all(point.area_mm2 is not None for point in points)

    def size(point: DesignPoint) -> float:
        return point.area_mm2 or 0.0 if known else point.hierarchy.capacity_bits / 8192

    plane = _Plane([size(p) for p in points], [p.energy_pj for p in points])
    body = list(plane.axes("area, mm²" if known else "capacity, KiB"))
    steps = [(size(point), point.energy_pj) for point in front]
    body.append(plane.staircase(steps))
    on = {id(point) for point in front}
    for point in points:
        kind = "best" if point is best else "on" if id(point) in on else "off"
        hint = f"{point.hierarchy}: {energy(point.energy_pj)}, {_area(point)}"
        x, y = plane.x(size(point)), plane.y(point.energy_pj)
        radius = 6 if kind == "best" else 4
        body.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
            f"<title>{escape(hint)}</title></circle>"
        )
        if kind == "best":
            body.append(_text(x, y - 12, str(point.hierarchy), "", ' text-anchor="middle"'))
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


class _Plane:
    """Where sizes and energies lie on the picture."""

    def __init__(self, sizes: Sequence[float], energies: Sequence[float]) -> None:
        self.low, self.high = _ends(sizes)
        self.floor, self.ceiling = _ends(energies)

    def x(self, size: float) -> float:
        share = (math.log10(size) - self.low) / (self.high - self.low)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, pj: float) -> float:
        share = (math.log10(pj) - self.floor) / (self.ceiling - self.floor)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def axes(self, name: str) -> Iterator[str]:
        for value in _round(self.floor, self.ceiling):
            y = self.y(value)
            yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
            yield _text(_LEFT - 8, y + 4, energy(value), "small", ' text-anchor="end"')
        for value in _round(self.low, self.high):
            x = self.x(value)
            yield f'<path class="grid" d="M{x:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>'
            anchor = ' text-anchor="middle"'
            yield _text(x, HEIGHT - _BOTTOM + 18, f"{value:g}", "small", anchor)
        width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
        yield f'<rect class="frame" x="{_LEFT}" y="{_TOP}" width="{width}" height="{height}"/>'
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        yield _text(middle, HEIGHT - 14, name, "small", ' text-anchor="middle"')

    def staircase(self, steps: Sequence[tuple[float, float]]) -> str:
        moves = [f"M{self.x(steps[0][0]):.1f} {self.y(steps[0][1]):.1f}"] if steps else []
        moves += [f"H{self.x(size):.1f}V{self.y(pj):.1f}" for size, pj in steps[1:]]
        return f'<path class="front" d="{"".join(moves)}"/>'


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.04, 0.06 * (high - low))
    return low - margin, high + margin


def _round(low: float, high: float) -> list[float]:
    decades = range(math.floor(low), math.ceil(high) + 1)
    for leads in ((1,), (1, 2, 5), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)):
        found = [lead * 10.0**d for d in decades for lead in leads]
        found = [value for value in found if low <= math.log10(value) <= high]
        if len(found) >= 3:
            break
    return found


def _text(x: float, y: float, text: str, style: str = "", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}"{extra}>{escape(text)}</text>'
