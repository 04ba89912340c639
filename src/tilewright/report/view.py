"""What a page shows of a document: facts, designs, layers, rows of charts.

Owns: the view of every kind of document. A *design* is a chip with its layers' mappings; `map` has
one, a front or a curve has several, of which a page shows the one that is chosen.

Non-goals: HTML (`report/page.py`); reading documents (`report/document.py`).
"""

from collections.abc import Callable, Iterable
from typing import Any

from tilewright.report import view_programs, view_studies
from tilewright.report.document import entries, entry, kind_of
from tilewright.report.view_layers import (
    chart_specs,
    chip_of,
    design_of,
    fact,
    lowered,
    percent,
    rules_of,
)

Json = dict[str, Any]


def view_of(document: Json) -> Json:
    """The view of a document, as a JSON object that the page's script draws.

    Raises: `InputError` if no command wrote the document.
    """
    kind = kind_of(document)
    view = _VIEWS[kind](document)
    view["kind"] = kind
    view["rules"] = rules_of(document)
    view["meta"] = _meta(document, kind)
    view["notes"] = [*view.get("notes", []), *_notes(document)]
    view.setdefault("charts", [])
    view["specs"] = chart_specs(view["designs"])
    return view


def _map(document: Json) -> Json:
    design = design_of(document, chip_of(document), entries(document, "layers"))
    total = entry(document, "total")
    facts = [
        _certificate(design["layers"]),
        fact("Energy", "energy", total.get("energy_pj"), _per_mac(design, total)),
        fact("Time", "cycles", total.get("cycles"), _duration(total.get("latency_s"))),
        _traffic(total.get("dram_words"), total.get("dram_limit_words")),
        fact("MAC units busy", "percent", total.get("utilization")),
        fact("EDP", "number", total.get("edp"), "pJ·cycles"),
    ]
    title = f"{document.get('workload', 'network')} on {document.get('hardware', 'a chip')}"
    return {"title": title, "facts": list(filter(None, facts)), "designs": [design]}


def _evaluate(document: Json) -> Json:
    layer = {
        "name": document.get("workload", "layer"),
        "repeat": 1,
        "mapping": document["mapping"],
        "cost": document,
        "work": document.get("work"),
        "status": "given",
    }
    design = design_of(document, chip_of(document), [layer])
    facts = [
        fact("Energy", "energy", document.get("energy_pj"), _per_mac(design, document)),
        fact("Time", "cycles", document.get("cycles"), _duration(document.get("latency_s"))),
        _traffic(document.get("dram_words"), document.get("dram_limit_words")),
        fact("MAC units busy", "percent", document.get("utilization")),
        fact("Power", "watt", document.get("power_w")),
        fact("Area", "area", document.get("area_mm2")),
    ]
    title = f"{document.get('workload', 'layer')} on {document.get('hardware', 'a chip')}"
    return {"title": title, "facts": list(filter(None, facts)), "designs": [design]}


def _design(document: Json) -> Json:
    view = view_studies.design(document)
    view["facts"].append(_certificate(view["designs"][0]["layers"]) if view["designs"] else None)
    view["facts"] = [each for each in view["facts"] if each]
    return view


_VIEWS: dict[str, Callable[[Json], Json]] = {
    "map": _map,
    "evaluate": _evaluate,
    "design": _design,
    "codesign": view_studies.codesign,
    "curve": view_studies.curve,
    "cores": view_studies.cores,
    "hwc": view_programs.hwc,
    "compile": view_programs.compiled,
}


def _per_mac(design: Json, total: Json) -> str:
    macs = sum((layer["macs"] or 0) * layer["repeat"] for layer in design["layers"])
    return f"{total['energy_pj'] / macs:.3g} pJ per MAC" if macs and total.get("energy_pj") else ""


def _duration(seconds: float | None) -> str:
    from tilewright.report.tables import duration

    return duration(seconds) if seconds else ""


def _traffic(words: float | None, limit: float | None) -> Json | None:
    note = f"{words / limit:.2f} × the physical limit" if words and limit else ""
    return fact(
        "DRAM words", "count", words, note, share=limit / words if words and limit else None
    )


def _certificate(layers: Iterable[Json]) -> Json | None:
    """How many layers are proved, and how far the others may at most be improved."""
    known = [layer for layer in layers if layer["status"] in ("optimal", "best_found")]
    if not known:
        return None
    proved = sum(layer["status"] == "optimal" for layer in known)
    gaps = [layer["gap"] for layer in known if layer["status"] != "optimal"]
    if not gaps:
        note, tone = "no mapping of the mapspace is better", "good"
    elif None in gaps:
        note, tone = "for some no bound is known", "warn"
    else:
        note, tone = f"the others within {percent(max(gaps))}", "warn"
    found = fact("Proved optimal", "text", f"{proved} of {len(known)} layers", note)
    return None if found is None else found | {"tone": tone}


def _meta(document: Json, kind: str) -> list[str]:
    found = [f"tilewright {kind}"]
    for key, label in (("objective", "least"), ("convention", "convention"), ("seed", "seed")):
        if document.get(key) is not None:
            found.append(f"{label} {document[key]}")
    if document.get("seconds") is not None and kind != "compile":
        found.append(f"found in {document['seconds']:.1f} s")
    if document.get("version"):
        found.append(f"version {document['version']}")
    return found


def _notes(document: Json) -> list[str]:
    notes: list[str] = []
    if document.get("interrupted"):
        notes.append("The run was stopped: this is what was found until then.")
    if document.get("mapspace"):
        notes.append(f"Mapspace: {document['mapspace']}.")
    if document.get("fix"):
        notes.append(f"Every mapping contains: {lowered(document['fix'])}.")
    left_out = [f"{each['op']} {each['count']}" for each in entries(document, "not_costed")]
    if left_out:
        notes.append(f"Not costed: {', '.join(left_out)}.")
    for name, origin in entry(document, "tables").items():
        source = entry({"": origin}, "")
        if source:
            notes.append(f"{name}: energy {source.get('energy')}, area {source.get('area')}.")
    for name, digest in entry(document, "inputs").items():
        notes.append(f"SHA-256 of {name}: {digest}")
    return notes
