"""Studies with several designs as a page shows them: fronts, curves, numbers of cores.

Owns: the views of `codesign`, `design`, `curve` and `cores`, and the chart that one chooses from.
"""

from collections.abc import Callable
from typing import Any

from tilewright.ir.quantity import format_bytes
from tilewright.report import charts
from tilewright.report.document import entries, entry
from tilewright.report.tables import duration, energy
from tilewright.report.view_layers import chip_of, design_of, fact, percent

Json = dict[str, Any]

METRICS = {
    "latency_s": "latency in s",
    "energy_pj": "energy in pJ",
    "power_w": "power in W",
    "area_mm2": "area in mm²",
    "edp": "EDP in pJ·cycles",
}
_WRITTEN: dict[str, Callable[[float], str]] = {
    "latency_s": duration,
    "energy_pj": energy,
    "power_w": lambda watt: f"{watt:.3g} W",
    "area_mm2": lambda area: f"{area:.3g} mm²",
    "edp": lambda edp: f"{edp:.3g} pJ·cycles",
}
_KEYS = {
    "latency": "latency_s",
    "energy": "energy_pj",
    "power": "power_w",
    "area": "area_mm2",
    "edp": "edp",
}


def codesign(document: Json) -> Json:
    """The front; a point has its chip, its layers, their mappings."""
    points = entries(document, "front")
    first = _KEYS.get(document.get("versus") or "area", "area_mm2")
    second = _KEYS.get(document.get("objective", ""), "latency_s")
    first = first if first != second else "power_w"
    designs = [
        _point(document, point, f"{number}: {_named_by(point, first, second)}")
        for number, point in enumerate(points, start=1)
    ]
    networks = ", ".join(str(each.get("name")) for each in entries(document, "networks"))
    space = entry(document, "space")
    certified = sum(bool(point.get("certified")) for point in points)
    proved = sum(bool(point.get("proved_on_chip")) for point in points)
    facts = [
        fact("Points of the front", "count", len(points)),
        fact("Best of the whole space", "text", f"{certified} of {len(points)}", "certified"),
        fact("Mappings proved", "text", f"{proved} of {len(points)}", "no others on that chip"),
        fact("Chips in the space", "count", space.get("chips")),
        fact("Mappings priced", "count", document.get("evaluations")),
        fact("Layers proved by the mapper", "count", document.get("solved")),
    ]
    bounds = entry(document, "bounds")
    notes = [_bound_note(METRICS.get(key, key), bound) for key, bound in bounds.items()]
    return {
        "title": f"{networks or 'networks'} on {space.get('name', 'a space of chips')}",
        "facts": [each for each in facts if each],
        "designs": designs,
        "choice": _front_choice(points, designs, first, second),
        "notes": notes,
    }


def _bound_note(metric: str, bound: float) -> str:
    name, _, unit = metric.partition(" in ")
    return f"{name[:1].upper()}{name[1:]} is at most {bound:g} {unit}.".replace(" .", ".")


def _named_by(point: Json, *metrics: str) -> str:
    """A point by its metrics, in words; the chip's own name is long."""
    parts = [_WRITTEN[metric](point[metric]) for metric in metrics if point.get(metric) is not None]
    return ", ".join(parts) or "a chip"


def _point(document: Json, point: Json, name: str) -> Json:
    chip = _with_instances(entry(point, "hardware"))
    design = design_of(document, chip, entries(point, "layers"), name)
    status = "best of the space" if point.get("certified") else "best found"
    if point.get("proved_on_chip") and not point.get("certified"):
        status = "mappings proved on this chip"
    found = [
        fact("Latency", "text", _if(point.get("latency_s"), duration)),
        fact("Energy", "energy", point.get("energy_pj")),
        fact("Power", "watt", point.get("power_w")),
        fact("Area", "area", point.get("area_mm2") or None),
        fact("EDP", "number", point.get("edp"), "pJ·cycles"),
        fact("Certificate", "text", status, _chip_gap(point)),
    ]
    design["facts"] = [each for each in found if each]
    return design


def _if(value: float | None, written: Any) -> str | None:
    return None if value is None else written(value)


def _chip_gap(point: Json) -> str:
    key = _KEYS.get(point.get("objective", ""), "")
    value, bound = point.get(key), point.get("lower_bound_on_chip")
    if not value or not bound or bound >= value:
        return ""
    return f"on this chip at most {percent(1 - bound / value)} better"


def _with_instances(chip: Json) -> Json:
    """The chip with the number of instances of every level, which its file does not say."""
    instances, levels = 1, list[Json]()
    for level in entries(chip, "levels"):
        levels.append({"instances": instances, **level})
        fanout = entry(level, "fanout")
        instances *= int(fanout.get("x") or 1) * int(fanout.get("y") or 1)
    return {"compute": "MAC", **chip, "name": str(chip.get("name", "chip")), "levels": levels}


def _front_choice(points: list[Json], designs: list[Json], first: str, second: str) -> Json | None:
    if not points:
        return None
    shown = [key for key in METRICS if any(point.get(key) for point in points)]
    rows: list[Json] = []
    for number, (point, design) in enumerate(zip(points, designs, strict=True)):
        text = f"{energy(point.get('energy_pj') or 0.0)}, {duration(point.get('latency_s') or 0.0)}"
        row = {"design": number, "label": design["name"], "text": text, "on": True}
        rows.append(row | {key: point.get(key) for key in shown})
    first = first if first in shown else shown[0]
    second = second if second in shown else shown[-1]
    return {
        "title": "The Pareto front",
        "noun": "point",
        "note": "Choose a point: the chip, the layers and the mappings below are its own.",
        "rows": rows,
        "spec": charts.front(first, second, METRICS),
        "axes": {key: METRICS[key] for key in shown},
        "first": first,
        "second": second,
        "chosen": 0,
    }


def design(document: Json) -> Json:
    """The chosen hierarchy with its layers; the others in the plane of area and energy."""
    chosen = design_of(
        document, chip_of(document), entries(document, "layers"), "the chosen hierarchy"
    )
    sizes = [_level_text(level) for level in entries(document, "levels")]
    gap = document.get("gap")
    proof = "no hierarchy of the grid is better" if gap == 0 else ""
    proof = proof or ("" if gap is None else f"at most {percent(gap)} better is possible")
    facts = [
        fact("On-chip memories", "text", " + ".join(sizes) or None, f"{len(sizes)} levels"),
        fact("Energy", "energy", document.get("energy_pj")),
        fact("Time", "cycles", document.get("cycles")),
        fact("Area", "area", document.get("area_mm2")),
        fact("Hierarchy", "text", str(document.get("status")).replace("_", " "), proof),
        fact("Hierarchies in the budget", "count", entry(document, "grid").get("hierarchies")),
    ]
    return {
        "title": f"Memories for {document.get('workload', 'a network')}",
        "facts": facts,
        "designs": [chosen] if chosen["layers"] else [],
        "charts": _hierarchies(document),
    }


def _level_text(level: Json) -> str:
    return format_bytes(8 * int(level.get("capacity_bytes") or 0))


def _hierarchies(document: Json) -> list[Json]:
    points = [point for point in entries(document, "points") if point.get("energy_pj")]
    if not points:
        return []
    known = all(point.get("area_mm2") for point in points)
    first = "area_mm2" if known else "capacity_bytes"
    titles = METRICS | {"capacity_bytes": "capacity in bytes"}
    front = {_identity(point) for point in entries(document, "front")}
    best = [level.get("capacity_bytes") for level in entries(document, "levels")]
    rows: list[Json] = []
    for number, point in enumerate(points):
        label = " + ".join(_level_text(level) for level in entries(point, "levels"))
        sizes = [level.get("capacity_bytes") for level in entries(point, "levels")]
        chosen = sizes == best and point["energy_pj"] == document.get("energy_pj")
        text = energy(point["energy_pj"]) + (", chosen" if chosen else "")
        row = {"design": 0 if chosen else number + 1, "label": label, "text": text}
        row |= {"on": _identity(point) in front, "energy_pj": point["energy_pj"]}
        rows.append(row | {first: point.get(first)})
    spec = charts.front(first, "energy_pj", titles)
    spec["params"][0]["value"] = 0
    joined = "the proved front" if document.get("front_certified") else "those that no other beats"
    note = f"Every hierarchy whose layers were all mapped; joined: {joined}."
    chart = {"id": "hierarchies", "title": "Hierarchies found", "note": note}
    columns = {"label": "memories", first: titles[first], "energy_pj": "energy in pJ"}
    return [chart | {"spec": spec, "rows": rows, "columns": columns}]


def _identity(point: Json) -> tuple[Any, ...]:
    levels = entries(point, "levels")
    sizes = tuple((level.get("capacity_bytes"), level.get("word_bits")) for level in levels)
    return (*sizes, point.get("energy_pj"))


def curve(document: Json) -> Json:
    """Every point of every mapspace; a point has the layers' mappings on a chip of one buffer."""
    curves = entries(document, "curves") or [document]
    rows: list[Json] = []
    designs: list[Json] = []
    names = _curve_names(curves)
    for name, each in zip(names, curves, strict=True):
        for index, point in enumerate(entries(each, "points")):
            row = _curve_row(name, point, len(designs))
            designs.append(_curve_design(document, each, index, row))
            rows.append(row)
    rows += [
        {
            "x": point["capacity_bytes"],
            "y": point["dram_limit_words"],
            "kind": "physical limit",
            "design": -1,
            "label": format_bytes(int(8 * point["capacity_bytes"])),
            "text": f"no schedule moves fewer than {point['dram_limit_words']:,.0f} words",
        }
        for point in entries(curves[0], "points")
    ]
    proved = sum(
        point["status"] == "optimal" for each in curves for point in entries(each, "points")
    )
    ratios = [p["dram_words"] / p["dram_limit_words"] for p in entries(curves[-1], "points")]
    facts = [
        fact("Points proved least", "text", f"{proved} of {len(designs)}"),
        fact("Nearest to the physical limit", "text", f"{min(ratios):.3f} ×"),
        fact("Farthest from it", "text", f"{max(ratios):.3f} ×"),
    ]
    choice = {
        "title": "Traffic against capacity",
        "noun": "point",
        "note": "Choose a point: the nests below are those that reach it. No schedule, however "
        "clever, goes below the dashed line.",
        "rows": rows,
        "spec": charts.curve(names),
        "chosen": len(entries(curves[0], "points")) // 2,
    }
    title = f"Least DRAM traffic of {document.get('workload', 'a layer')}"
    return {"title": title, "facts": facts, "designs": designs, "choice": choice}


def _curve_names(curves: list[Json]) -> list[str]:
    names: list[str] = []
    for each in curves:
        kind = "uneven" if each.get("uneven") else "even"
        name = f"{kind}, {'imperfect' if each.get('imperfect') else 'perfect'}"
        names.append(name if name not in names else f"{name} ({len(names) + 1})")
    return names


def _curve_row(name: str, point: Json, design_number: int) -> Json:
    ratio = point["dram_words"] / point["dram_limit_words"]
    proof = "proved least" if point["status"] == "optimal" else "best found"
    size = format_bytes(int(8 * point["capacity_bytes"]))
    return {
        "x": point["capacity_bytes"],
        "y": point["dram_words"],
        "kind": name,
        "design": design_number,
        "label": f"{size}, {name}",
        "text": f"{point['dram_words']:,} words, {ratio:.3f} × the limit, {proof}",
    }


def _curve_design(document: Json, each: Json, index: int, row: Json) -> Json:
    point = entries(each, "points")[index]
    parts = entry(point, "mapping") or {str(document.get("workload", "layer")): point["mapping"]}
    layers = {layer["name"]: layer for layer in entries(each, "layers")}
    shown = [
        _curve_layer(name, text, layers.get(name), index, point) for name, text in parts.items()
    ]
    bits = int(8 * point["capacity_bytes"])
    levels = [
        {"memory": "DRAM", "instances": 1, "capacity_bits": None, "usable_bits": None},
        {"memory": _buffer(parts), "instances": 1, "capacity_bits": bits, "usable_bits": bits},
    ]
    chip = {"name": f"one buffer of {format_bytes(bits)}", "levels": levels}
    found = design_of(document, chip, shown, row["label"])
    found["facts"] = [
        fact("Buffer", "text", format_bytes(bits)),
        fact("DRAM words", "count", point["dram_words"], row["text"].split(", ", 1)[1]),
        fact("Physical limit", "count", point["dram_limit_words"], "words"),
    ]
    return found


def _buffer(parts: Json) -> str:
    """What the mappings call the buffer."""
    for text in parts.values():
        names = [line.partition("[")[0].strip() for line in str(text).splitlines()]
        if len(names) > 1:
            return names[-1]
    return "BUF"


def _curve_layer(name: str, mapping: str, layer: Json | None, index: int, point: Json) -> Json:
    own = point if layer is None else entries(layer, "points")[index]
    return {
        "name": name,
        "repeat": 1 if layer is None else layer.get("repeat"),
        "mapping": mapping,
        "status": own["status"],
        "dram_words": own["dram_words"],
        "dram_limit_words": own["dram_limit_words"],
    }


def cores(document: Json) -> Json:
    """Every number of cores; each has the best choice of every layer."""
    points = [point for point in entries(document, "points") if point.get("total")]
    designs: list[Json] = []
    rows: list[Json] = []
    for number, point in enumerate(points):
        name, total = (
            "one core" if point["cores"] == 1 else f"{point['cores']} cores",
            point["total"],
        )
        layers = [
            {"name": layer["name"]} | _best_choice(layer) for layer in entries(point, "layers")
        ]
        found = design_of(document, chip_of(point), layers, name)
        found["facts"] = [
            fact("Energy", "energy", total["energy_pj"]),
            fact("Time", "cycles", total["cycles"], f"{total.get('speedup') or 1:.2f} × one core"),
            fact("DRAM words", "count", total["dram_words"]),
        ]
        designs.append(found)
        text = f"{energy(total['energy_pj'])}, {total['cycles']:,} cycles"
        row = {"design": number, "label": name, "text": text, "on": True}
        rows.append(row | {"cycles": total["cycles"], "energy_pj": total["energy_pj"]})
    axes = {"cycles": "cycles", "energy_pj": "energy in pJ"}
    choice = {
        "title": "Energy and time by number of cores",
        "noun": "number of cores",
        "note": "Choose a number of cores: the layers below are divided for it.",
        "rows": rows,
        "spec": charts.front("cycles", "energy_pj", axes, steps=False),
        "chosen": 0,
    }
    facts = [fact("Numbers of cores", "count", len(points))]
    title = f"{document.get('workload', 'network')} on cores of {document.get('hardware', '')}"
    return {"title": title, "facts": facts, "designs": designs, "choice": choice if rows else None}


def _best_choice(layer: Json) -> Json:
    best: Json = (entries(layer, "choices") or [Json()])[0]
    kept = ("mapping", "cost", "status", "gap", "reason")
    return {"repeat": layer.get("repeat"), **{key: best.get(key) for key in kept}}
