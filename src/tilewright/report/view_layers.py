"""Layers and designs as a page shows them, with the rows of their charts.

Owns: `design_of`, which every kind of document comes to, and how a cycle total is divided.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from tilewright.errors import InputError
from tilewright.ir.mapping import parse_mapping
from tilewright.model.convention import DEFAULT, find_convention
from tilewright.report import charts
from tilewright.report.document import entries, entry

Json = dict[str, Any]


def fact(
    label: str, form: str, value: Any, note: str = "", *, share: float | None = None
) -> Json | None:
    """A figure of the summary; `form` says how the page writes it. `None` without a value."""
    if value is None:
        return None
    return {"label": label, "form": form, "value": value, "note": note, "share": share}


def percent(share: float) -> str:
    """A share in percent, short."""
    return f"{share:.1%}" if share >= 0.001 else f"{share:.2g}"


def lowered(text: str) -> str:
    """A mapping's text on one line."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


def rules_of(document: Json) -> Json:
    """The rules of the document's convention that a drawn nest must know."""
    try:
        rules = find_convention(document.get("convention") or DEFAULT.name)
    except InputError:  # of another version
        rules = DEFAULT
    return {
        "convention": rules.name,
        "reuse": rules.reuse.value,
        "box": rules.footprint.value == "box",
        "elides": rules.elides_first_read,
    }


def chip_of(document: Json) -> Json | None:
    """The chip of a document, if it has one with levels."""
    found = entry(document, "chip")
    return found if entries(found, "levels") else None


def design_of(document: Json, chip: Json | None, layers: Sequence[Json], name: str = "") -> Json:
    """A chip with its layers, and the rows of the charts that show them."""
    works = entry(document, "work")
    shown = [_layer(layer, works) for layer in layers]
    _tell_apart(shown)
    return {
        "name": name,
        "chip": chip,
        "facts": [],
        "layers": shown,
        "rows": {
            "energy": _energy_rows(shown, chip),
            "cycles": _cycle_rows(shown, chip),
            "roofline": _roofline_rows(shown, chip),
        },
    }


def _layer(layer: Json, works: Json) -> Json:
    cost: Json = entry(layer, "cost")
    work = entry(layer, "work") or entry(works, str(layer.get("name")))
    text = layer.get("mapping") or cost.get("mapping")
    return {
        "name": str(layer.get("name", "layer")),
        "repeat": layer.get("repeat") or 1,
        "status": layer.get("status") or ("optimal" if layer.get("proved") else "best_found"),
        "gap": layer.get("gap"),
        "reason": layer.get("reason"),
        "macs": cost.get("macs") or layer.get("macs") or work.get("macs"),
        "energy_pj": cost.get("energy_pj", layer.get("energy_pj")),
        "cycles": cost.get("cycles", layer.get("cycles")),
        "compute_cycles": cost.get("compute_cycles"),
        "ramp_cycles": cost.get("ramp_cycles") if cost.get("overlap") == "serial" else 0,
        "utilization": cost.get("utilization"),
        "dram_words": cost.get("dram_words", layer.get("dram_words")),
        "dram_limit_words": cost.get("dram_limit_words", layer.get("dram_limit_words")),
        "levels": entries(cost, "levels"),
        "compute_pj": entry(cost, "compute").get("energy_pj"),
        "mapping": text,
        "blocks": _blocks(text),
        "work": work if entries(work, "operands") else None,
    }


def _blocks(text: str | None) -> list[Json] | None:
    """The blocks of a mapping; `None` if there is none that can be read."""
    if not text:
        return None
    try:
        blocks = parse_mapping(text).blocks
    except InputError:
        return None
    return [
        {
            "memory": block.memory,
            "operands": list(block.operands),
            "loops": [[loop.dim, loop.extent, loop.axis] for loop in block.loops],
        }
        for block in blocks
    ]


def _tell_apart(layers: list[Json]) -> None:
    """Give equal names a number, and every layer its place."""
    seen: dict[str, int] = {}
    for key, layer in enumerate(layers):
        name = layer["name"]
        seen[name] = seen.get(name, 0) + 1
        layer["key"] = key
        layer["label"] = name if seen[name] == 1 else f"{name} ({seen[name]})"


def level_pj(level: Json) -> float:
    """Energy of a level: its accesses, the hops below it, its leakage."""
    accesses = sum(each.get("energy_pj") or 0.0 for each in entry(level, "operands").values())
    return accesses + (level.get("network_pj") or 0.0) + (level.get("leak_pj") or 0.0)


def _row(layer: Json, part: str, order: int, value: float, text: str = "") -> Json:
    whole = layer["cycles"] if text else layer["energy_pj"]
    return {
        "key": layer["key"],
        "label": layer["label"],
        "part": part,
        "order": order,
        "value": value * layer["repeat"],
        "share": percent(value / whole) if whole else "",
        "text": text,
    }


def _energy_rows(layers: Iterable[Json], chip: Json | None) -> list[Json]:
    """Energy of every layer, as often as it occurs, by level; in pJ; see `scale_energy`."""
    rows: list[Json] = []
    name = (chip or {}).get("compute") or "compute"
    for layer in layers:
        parts = [(level["memory"], level_pj(level)) for level in layer["levels"]]
        if layer["compute_pj"] is not None:
            parts.append((name, layer["compute_pj"]))
        if not parts and layer["energy_pj"] is not None:
            parts = [("energy", layer["energy_pj"])]
        for order, (part, value) in enumerate(parts):
            rows.append(_row(layer, part, order, value))
    return rows


def _cycle_rows(layers: Iterable[Json], chip: Json | None) -> list[Json]:
    """Cycles of every layer, as often as it occurs, by what they are spent on."""
    rows: list[Json] = []
    for layer in layers:
        if layer["cycles"] is None:
            continue
        for part, value in cycle_parts(layer, (chip or {}).get("mac_units")):
            text = f"{value * layer['repeat']:,.0f}"
            order = CYCLE_ORDER.index(part) if part in CYCLE_ORDER else len(rows)
            rows.append(_row(layer, part, order, value, text))
    return rows


FULL, IDLE, RAMP = "all MAC units at work", "some MAC units idle", "first loads, last stores"
CYCLE_ORDER = (FULL, IDLE)


def cycle_parts(layer: Json, mac_units: int | None) -> list[tuple[str, float]]:
    """What the cycles of a layer are spent on; the parts sum to the cycles.

    Were all units at work in every cycle, the MACs would take `MACs / units`. Steps beyond these
    leave units idle. What the slowest memory needs beyond the steps, the units wait for it.

    >>> layer = {
    ...     "cycles": 30,
    ...     "compute_cycles": 20,
    ...     "ramp_cycles": 0,
    ...     "macs": 40,
    ...     "levels": [{"memory": "DRAM", "cycles": 30}],
    ... }
    >>> cycle_parts(layer, 4)
    [('all MAC units at work', 10.0), ('some MAC units idle', 10.0), ('waiting for DRAM', 10.0)]
    """
    steps = layer["compute_cycles"]
    if steps is None:
        return [("cycles", float(layer["cycles"]))]
    ramp = float(layer["ramp_cycles"] or 0)
    full = min(float(steps), layer["macs"] / mac_units) if mac_units and layer["macs"] else None
    parts = [("compute", float(steps))] if full is None else [(FULL, full), (IDLE, steps - full)]
    slowest = max(layer["levels"], key=lambda level: level.get("cycles") or 0, default=None)
    waiting = layer["cycles"] - steps - ramp
    if slowest is not None and waiting > 0:
        parts.append((f"waiting for {slowest['memory']}", waiting))
    return [part for part in [*parts, (RAMP, ramp)] if part[1] > 0]


def _roofline_rows(layers: Iterable[Json], chip: Json | None) -> list[Json]:
    rows = [row for layer in layers if (row := _roofline_point(layer)) is not None]
    if not rows or chip is None or not chip.get("mac_units"):
        return rows
    peak, bandwidth = chip["mac_units"], outer_bandwidth(chip)
    xs = [row[key] for row in rows for key in ("x", "limit") if row[key]]
    low, high = min(xs) / 1.6, max(xs) * 1.6
    if bandwidth is None:
        return [*rows, _roof(low, peak), _roof(high, peak)]
    ridge = peak / bandwidth
    low, high = min(low, ridge / 2), max(high, ridge * 2)
    return [*rows, _roof(low, low * bandwidth), _roof(ridge, peak), _roof(high, peak)]


def _roof(x: float, y: float) -> Json:
    return {"kind": "roof", "x": x, "y": y, "key": -1}


def outer_bandwidth(chip: Json) -> float | None:
    """Words per cycle to and from the outermost memory, both ways together."""
    outer = entries(chip, "levels")[0]
    if outer.get("bandwidth"):
        return float(outer["bandwidth"])
    read, write = outer.get("read_bandwidth"), outer.get("write_bandwidth")
    return float(read + write) if read and write else None


def _roofline_point(layer: Json) -> Json | None:
    macs, words, cycles = layer["macs"], layer["dram_words"], layer["cycles"]
    if not (macs and words and cycles):
        return None
    limit = macs / layer["dram_limit_words"] if layer["dram_limit_words"] else None
    return {
        "kind": "layer",
        "key": layer["key"],
        "label": layer["label"],
        "x": macs / words,
        "y": macs / cycles,
        "limit": limit,
        "xtext": f"{macs / words:,.1f}",
        "ytext": f"{macs / cycles:,.1f}",
        "limittext": "not known" if limit is None else f"{limit:,.1f}",
    }


_UNITS = (("J", 1e12), ("mJ", 1e9), ("µJ", 1e6), ("nJ", 1e3), ("pJ", 1.0))


def scale_energy(designs: Sequence[Json]) -> str:
    """Bring the energy rows of all designs to one unit, that of the costliest layer; returns it."""
    rows = [row for design in designs for row in design["rows"]["energy"]]
    most = max((row["value"] for row in rows), default=0.0)
    unit, scale = next((each for each in _UNITS if most >= each[1]), _UNITS[-1])
    for row in rows:
        row["value"] /= scale
        row["text"] = f"{row['value']:,.4g} {unit}"
    return unit


def chart_specs(designs: Sequence[Json]) -> Json:
    """The charts that show a design's layers; those that no design has rows for are left out."""
    found: Json = {}
    parts = _parts(designs, "energy")
    if parts:
        text = "Energy of every layer, as often as it occurs, by memory level and MAC units."
        found["energy"] = charts.breakdown(text, parts, f"energy in {scale_energy(designs)}")
    parts = _parts(designs, "cycles")
    if parts:
        text = "Cycles of every layer, as often as it occurs, by what they are spent on."
        waits = ("var(--s2)", "var(--s4)", "var(--s5)", "var(--s6)")
        colours = ("var(--s3)", "var(--s7)", *waits) if FULL in parts else charts.PALETTE
        found["cycles"] = charts.breakdown(text, parts, "cycles", colours)
    if any(design["rows"]["roofline"] for design in designs):
        outer = next((d["chip"]["levels"][0]["memory"] for d in designs if d["chip"]), "DRAM")
        found["roofline"] = charts.roofline(f"{outer} word")
    return found


def _parts(designs: Sequence[Json], chart: str) -> list[str]:
    found: dict[str, int] = {}
    for design in designs:
        for row in design["rows"][chart]:
            found.setdefault(row["part"], row["order"])
    return sorted(found, key=lambda part: found[part])
