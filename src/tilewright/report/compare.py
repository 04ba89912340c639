"""Two runs side by side, as tables for a terminal.

Owns: what `compare` prints.

Non-goals: what differs and why (`analysis/difference.py`).
"""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tilewright.analysis.difference import Change, Comparison, LayerChange, PartChange
from tilewright.report.tables import duration, energy, figures_table

MOST_ROWS = 12
"""Rows of a table at most; what is left out is counted below it."""


def comparison_report(comparison: Comparison) -> RenderableType:
    """Totals, reasons, levels and operands, layers, settings; what is equal is left out."""
    a, b = comparison.names
    parts: list[RenderableType] = [Text(f"A  {a}\nB  {b}", style="bold"), Text("")]
    if comparison.is_same:
        return Group(*parts, Text("nothing differs"))
    sections = (
        _settings(comparison),
        _totals(comparison),
        _reasons(comparison),
        _parts(comparison),
        _layers(comparison),
        _points(comparison),
        _figures(comparison),
        _mappings(comparison),
        _missing(comparison),
    )
    for section in sections:
        found = list(section)
        parts += [*found, Text("")] if found else []
    return Group(*parts[:-1])


def share(change: Change) -> str:
    """A change as a signed share of A.

    >>> share(Change(4, 3)), share(Change(4, 4)), share(Change(None, 4))
    ('−25.0%', '=', 'only B')
    """
    if change.a is None or change.b is None:
        return "–" if change.a is change.b else ("only B" if change.a is None else "only A")
    if change.is_equal:
        return "="
    if change.share is None:
        return "from 0"
    if change.share >= 10:
        return f"× {change.share + 1:,.1f}"
    return f"{change.share:+.1%}".replace("-", "−")


def _figure(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    if key == "energy_pj":
        return energy(value)
    if key == "latency_s":
        return duration(value)
    return f"{value:.4g}" if key in ("edp", "power_w", "area_mm2") else f"{value:,.0f}"


_LABELS = {
    "energy_pj": "energy",
    "cycles": "cycles",
    "edp": "EDP, pJ·cycles",
    "dram_words": "DRAM words",
    "dram_limit_words": "physical limit",
    "latency_s": "latency",
    "power_w": "power",
    "area_mm2": "area, mm²",
}


def _totals(comparison: Comparison) -> Iterator[RenderableType]:
    if not comparison.totals:
        return
    table = figures_table("total", "A", "B", "change")
    for key, change in comparison.totals.items():
        figures = (_figure(key, change.a), _figure(key, change.b))
        table.add_row(_LABELS[key], *figures, share(change))
    yield table


def _reasons(comparison: Comparison) -> Iterator[RenderableType]:
    if comparison.reasons:
        yield Text("why", style="bold")
        yield Text("\n".join(f"  {reason}" for reason in comparison.reasons))


def _parts(comparison: Comparison) -> Iterator[RenderableType]:
    changed = [part for part in comparison.parts if not _is_settled(part)]
    if not changed:
        return
    with_tiles = any(part.tile_words.a is not None for part in changed)
    head = ("energy by level", "A", "B", "change", "by words", "by price", "words A", "words B")
    table = figures_table(*head, *(("tile A", "tile B") if with_tiles else ()))
    for part in changed[:MOST_ROWS]:
        table.add_row(*_part_row(part, with_tiles))
    yield table
    yield from _left_out(len(changed))


def _is_settled(part: PartChange) -> bool:
    return part.energy_pj.is_equal and part.words.is_equal and part.tile_words.is_equal


def _part_row(part: PartChange, with_tiles: bool) -> list[str]:
    both = [_figure("energy_pj", value) for value in (part.energy_pj.a, part.energy_pj.b)]
    split = [_signed(value) for value in (part.by_words_pj, part.by_price_pj)]
    moves = part.words if part.words.a or part.words.b else Change(None, None)
    words = [_figure("", value) for value in (moves.a, moves.b)]
    tiles = [_figure("", value) for value in (part.tile_words.a, part.tile_words.b)]
    return [part.name, *both, share(part.energy_pj), *split, *words, *(tiles if with_tiles else [])]


def _signed(pj: float) -> str:
    if not pj:
        return ""
    return f"{'+' if pj > 0 else '−'}{energy(abs(pj))}"


def _layers(comparison: Comparison) -> Iterator[RenderableType]:
    if len(comparison.layers) < 2:
        yield from _waterfall(comparison.layers)
        return
    head = ("layer", "×", "energy A", "energy B", "change", "cycles A", "cycles B", "change")
    table = figures_table(*head, "set by")
    changed = [layer for layer in comparison.layers if not _is_alike(layer)]
    for layer in changed[:MOST_ROWS]:
        pj, cycles = layer.figures["energy_pj"], layer.figures["cycles"]
        table.add_row(
            layer.name,
            str(layer.repeat),
            *(_figure("energy_pj", value) for value in (pj.a, pj.b)),
            share(pj),
            *(_figure("cycles", value) for value in (cycles.a, cycles.b)),
            share(cycles),
            " → ".join(dict.fromkeys(layer.bound)),
        )
    table.columns[-1].justify = "left"
    if changed:
        yield table
        yield from _left_out(len(changed))
    alike = len(comparison.layers) - len(changed)
    if alike:
        yield Text(f"{alike} layers cost the same in both")


def _is_alike(layer: LayerChange) -> bool:
    return all(change.is_equal for change in layer.figures.values())


def _waterfall(layers: tuple[LayerChange, ...]) -> Iterator[RenderableType]:
    for layer in layers:
        table = figures_table("cycles", "A", "B", "change")
        for name, change in layer.waterfall.items():
            marks = [name == bound for bound in layer.bound]
            figures = [
                _figure("cycles", value) + (" ◂" if mark else "")
                for value, mark in zip((change.a, change.b), marks, strict=True)
            ]
            table.add_row(name, *figures, share(change))
        yield table


def _points(comparison: Comparison) -> Iterator[RenderableType]:
    if not comparison.points:
        return
    keys = list(comparison.points[0][1])
    table = figures_table(
        "at", *(f"{_LABELS[key]} {side}" for key in keys for side in ("A", "B", "change"))
    )
    for at, figures in comparison.points:
        row = [
            text
            for key in keys
            for change in [figures[key]]
            for text in (_figure(key, change.a), _figure(key, change.b), share(change))
        ]
        table.add_row(at, *row)
    yield table


def _figures(comparison: Comparison) -> Iterator[RenderableType]:
    if not comparison.figures:
        return
    table = figures_table("figure", "A", "B", "change")
    for name, change in comparison.figures[:MOST_ROWS]:
        sides = ("–" if value is None else f"{value:,.6g}" for value in (change.a, change.b))
        table.add_row(Text(name), *sides, share(change))
    yield table
    yield from _left_out(len(comparison.figures))


def _settings(comparison: Comparison) -> Iterator[RenderableType]:
    if not comparison.settings:
        return
    table = figures_table("said otherwise", "A", "B")
    for setting in comparison.settings:
        table.add_row(*(Text(text) for text in (setting.name, setting.a, setting.b)))
    yield table


def _mappings(comparison: Comparison) -> Iterator[RenderableType]:
    """The mappings of a layer, if one layer is compared and they differ."""
    if len(comparison.layers) != 1:
        return
    (layer,) = comparison.layers
    if layer.mapping[0] != layer.mapping[1]:
        table = Table(header_style="bold", box=None)
        for side in ("mapping A", "mapping B"):
            table.add_column(side, no_wrap=True, style="cyan")
        table.add_row(*(Text(mapping) for mapping in layer.mapping))
        yield table


def _missing(comparison: Comparison) -> Iterator[RenderableType]:
    if comparison.missing:
        yield Text("not compared: " + "; ".join(comparison.missing), style="yellow")


def _left_out(count: int) -> Iterator[RenderableType]:
    if count > MOST_ROWS:
        yield Text(f"and {count - MOST_ROWS} more; all of them with --json")
