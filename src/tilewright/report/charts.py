"""Charts as Vega-Lite specifications, without data: a page binds the rows of what is chosen.

Owns: what is drawn how. Colours are CSS variables, so that light, dark and print need no redrawing.

Non-goals: the rows (`report/view.py`).
"""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]
PALETTE = tuple(f"var(--s{number})" for number in range(1, 9))
ROW_HEIGHT = 22


def breakdown(
    description: str, parts: Sequence[str], unit: str, colours: Sequence[str] = PALETTE
) -> Json:
    """Stacked bars, one per layer: rows have `key`, `label`, `part`, `order`, `value`, `text`."""
    order = [*parts]
    return {
        "description": description,
        "width": "container",
        "height": {"step": ROW_HEIGHT},
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"name": "rows"},
        "params": [{"name": "chosen", "value": -1}],
        "mark": {"type": "bar", "strokeWidth": 1.5, "cursor": "pointer"},
        "encoding": {
            "y": {
                "field": "key",
                "type": "ordinal",
                "sort": None,
                "axis": {
                    "title": None,
                    "labelExpr": "names[datum.value]",
                    "labelLimit": 170,
                    "ticks": False,
                    "domain": False,
                },
            },
            "x": {
                "field": "value",
                "type": "quantitative",
                "title": unit,
                "stack": "zero",
                "axis": {"format": "~s", "tickCount": 6},
            },
            "color": {
                "field": "part",
                "type": "nominal",
                "title": None,
                "sort": order,
                "scale": {
                    "domain": order,
                    "range": [colours[n % len(colours)] for n in range(len(order))],
                },
                "legend": {
                    "orient": "top",
                    "columns": {"expr": "width < 420 ? 2 : 5"},
                    "symbolType": "square",
                },
            },
            "order": {"field": "order", "type": "quantitative"},
            "stroke": {
                "condition": {"test": "datum.key === chosen", "value": "var(--ink)"},
                "value": None,
            },
            "tooltip": [
                {"field": "label", "title": "layer"},
                {"field": "part", "title": "part"},
                {"field": "text", "title": unit.partition(" in ")[0]},
                {"field": "share", "title": "share of the layer"},
            ],
        },
    }


def roofline(unit: str) -> Json:
    """Points under a roof: rows have `kind` (`roof`, `layer`, `limit`), `x`, `y`, `label`."""
    log = {"type": "log", "nice": False, "padding": 14}
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": log,
        "title": f"MACs per {unit}",
        "axis": {"format": "~s", "tickCount": 6},
    }
    y = {
        "field": "y",
        "type": "quantitative",
        "scale": log,
        "title": "MACs per cycle",
        "axis": {"format": "~s", "tickCount": 5},
    }
    tip = [
        {"field": "label", "title": "layer"},
        {"field": "xtext", "title": f"MACs per {unit}"},
        {"field": "ytext", "title": "MACs per cycle"},
        {"field": "limittext", "title": "at the physical limit"},
    ]
    return {
        "description": "Roofline: the MACs per cycle that each layer reaches, against its MACs per "
        f"{unit}; the roof is what the MAC units and the outermost memory allow.",
        "width": "container",
        "height": 320,
        "data": {"name": "rows"},
        "params": [{"name": "chosen", "value": -1}],
        "encoding": {"x": x, "y": y},
        "layer": [
            {
                "transform": [{"filter": "datum.kind === 'roof'"}],
                "mark": {"type": "line", "stroke": "var(--ink)", "strokeWidth": 2},
                "encoding": {"order": {"field": "x"}},
            },
            {
                "transform": [{"filter": "datum.kind === 'layer' && isValid(datum.limit)"}],
                "mark": {"type": "rule", "stroke": "var(--s1)", "strokeOpacity": 0.35},
                "encoding": {"x2": {"field": "limit"}},
            },
            {
                "transform": [{"filter": "datum.kind === 'layer' && isValid(datum.limit)"}],
                "mark": {"type": "tick", "color": "var(--s1)", "opacity": 0.6, "height": 9},
                "encoding": {"x": {**x, "field": "limit"}},
            },
            {
                "transform": [{"filter": "datum.kind === 'layer'"}],
                "mark": {
                    "type": "point",
                    "filled": True,
                    "opacity": 0.9,
                    "stroke": "var(--paper)",
                    "strokeWidth": 1,
                    "cursor": "pointer",
                },
                "encoding": {
                    "color": {
                        "condition": {"test": "datum.key === chosen", "value": "var(--s2)"},
                        "value": "var(--s1)",
                    },
                    "size": {
                        "condition": {"test": "datum.key === chosen", "value": 190},
                        "value": 80,
                    },
                    "tooltip": tip,
                },
            },
        ],
    }


def curve(mapspaces: Sequence[str]) -> Json:
    """Words against capacity: rows have `x`, `y`, `label`, `kind`, `design` (-1: a limit)."""
    names = [*mapspaces, "physical limit"]
    return {
        "description": "Least words to and from DRAM against the capacity of the buffer, with the "
        "physical limit below which no schedule goes.",
        "width": "container",
        "height": 340,
        "data": {"name": "rows"},
        "params": [{"name": "chosen", "value": -1}],
        "encoding": {
            "x": {
                "field": "x",
                "type": "quantitative",
                "scale": {"type": "log", "base": 2, "nice": False, "padding": 16},
                "title": "capacity of the buffer",
                "axis": {"labelExpr": "bytes(datum.value)", "tickCount": 8},
            },
            "y": {
                "field": "y",
                "type": "quantitative",
                "scale": {"type": "log", "nice": True},
                "title": "words to and from DRAM",
                "axis": {"format": "~s", "tickCount": 6},
            },
            "color": {
                "field": "kind",
                "type": "nominal",
                "title": None,
                "sort": names,
                "scale": {"domain": names, "range": [*PALETTE[: len(mapspaces)], "var(--muted)"]},
                "legend": {
                    "orient": "top",
                    "columns": {"expr": "width < 420 ? 1 : 5"},
                    "symbolType": "stroke",
                },
            },
        },
        "layer": [
            {
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": {
                    "strokeDash": {
                        "condition": {"test": "datum.kind === 'physical limit'", "value": [6, 4]},
                        "value": [1, 0],
                    }
                },
            },
            {
                "transform": [{"filter": "datum.design >= 0"}],
                "mark": {
                    "type": "point",
                    "filled": True,
                    "opacity": 1,
                    "stroke": "var(--paper)",
                    "strokeWidth": 1,
                    "cursor": "pointer",
                },
                "encoding": _points(),
            },
        ],
    }


def front(first: str, second: str, titles: dict[str, str]) -> Json:
    """Designs in the plane of two metrics: rows have every metric, `label`, `design`, `on`.

    The signals `first` and `second` name the metrics that are drawn.
    """
    return {
        "description": "Designs by two of their metrics; no design found beats one of the front "
        "in both metrics that were swept.",
        "width": "container",
        "height": 340,
        "data": {"name": "rows"},
        "params": [
            {"name": "chosen", "value": -1},
            {"name": "first", "value": first},
            {"name": "second", "value": second},
        ],
        "transform": [
            {"calculate": "datum[first]", "as": "x"},
            {"calculate": "datum[second]", "as": "y"},
            {"filter": "isValid(datum.x) && isValid(datum.y)"},
        ],
        "encoding": {
            "x": _metric("x", "first", titles[first]),
            "y": _metric("y", "second", titles[second]),
        },
        "layer": [
            {
                "transform": [{"filter": "datum.on"}],
                "mark": {"type": "line", "stroke": "var(--s1)", "strokeOpacity": 0.5},
                "encoding": {"order": {"field": "x"}},
            },
            {
                "mark": {
                    "type": "point",
                    "filled": True,
                    "opacity": 1,
                    "stroke": "var(--paper)",
                    "strokeWidth": 1,
                    "cursor": "pointer",
                },
                "encoding": _points()
                | {
                    "color": {
                        "condition": [
                            {"test": "datum.design === chosen", "value": "var(--s2)"},
                            {"test": "datum.on", "value": "var(--s1)"},
                        ],
                        "value": "var(--muted)",
                    }
                },
            },
        ],
    }


def _metric(field: str, signal: str, title: str) -> Json:
    plain = f"{signal} === 'area_mm2' || {signal} === 'power_w'"
    return {
        "field": field,
        "type": "quantitative",
        "scale": {"zero": False, "nice": True, "padding": 14},
        "title": title,
        "axis": {
            "labelExpr": f"format(datum.value, {plain} ? '.3~g' : '.4~s')",
            "tickCount": 6,
        },
    }


def _points() -> Json:
    chosen = "datum.design === chosen"
    return {
        "size": {"condition": {"test": chosen, "value": 260}, "value": 90},
        "tooltip": [{"field": "label", "title": "point"}, {"field": "text", "title": "figures"}],
    }


def bars(description: str, unit: str, parts: Sequence[str]) -> Json:
    """Bars side by side for each layer: rows as those of `breakdown`."""
    spec = breakdown(description, parts, unit)
    spec["encoding"]["x"]["stack"] = None
    spec["encoding"]["yOffset"] = {"field": "part", "sort": [*parts]}
    spec["height"] = {"step": 14}
    del spec["encoding"]["order"]
    del spec["encoding"]["tooltip"][-1]
    return spec
