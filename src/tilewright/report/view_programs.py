"""Blocks and programs as a page shows them: `hwc` and `compile`.

Owns: their views; what they measured stands beside what the model says.
"""

from typing import Any

from tilewright.report import charts
from tilewright.report.document import entries, entry
from tilewright.report.view_layers import chip_of, design_of, fact

Json = dict[str, Any]
MEASURED, MODEL = "measured", "by the model"


def hwc(document: Json) -> Json:
    """The schedule of a layer on the block, and the words on its ports."""
    layer = {
        "name": document.get("layer", "layer"),
        "mapping": document.get("mapping"),
        "status": document.get("status"),
        "macs": document.get("macs"),
        "cost": document.get("cost"),
        "work": document.get("work"),
    }
    design = design_of({}, chip_of(document), [layer])
    simulated = document.get("cycles") is not None
    correct = _verdict(document, "as a plain convolution gives")
    facts = [
        fact("Cycles", "cycles", document.get("cycles"), _model_cycles(document)),
        None if simulated else fact("Cycles by the model", "cycles", document.get("model_cycles")),
        fact("Results", "text", correct),
        fact("Buffers", "bytes", document.get("buffer_bytes")),
        fact("Multipliers busy", "percent", document.get("utilization")),
        fact("Baseline's traffic", "text", _times(document.get("ratio")), "one plane at a time"),
        fact("Physical limit", "count", document.get("dram_limit_words"), "words"),
    ]
    notes = [] if simulated else ["Not simulated: hwc --simulate runs the RTL."]
    title = f"{layer['name']} on block {document.get('config')}"
    shown = [each for each in facts if each]
    ports = [_ports(document)]
    return {"title": title, "facts": shown, "designs": [design], "charts": ports, "notes": notes}


def _model_cycles(document: Json) -> str:
    found = document.get("model_cycles")
    return "" if found is None else f"{found:,} by the model"


def _times(ratio: float | None) -> str | None:
    return None if ratio is None else f"{ratio:.1f} × as much"


def _ports(document: Json) -> Json:
    names = {"I": "inputs", "W": "weights", "O": "sums and results"}
    rows: list[Json] = []
    for key, (port, words) in enumerate(entry(document, "ports").items()):
        for part, value in ((MEASURED, words.get("words")), (MODEL, words.get("model_words"))):
            if value is not None:
                row = {"key": key, "label": names.get(port, port), "part": part}
                rows.append(row | {"order": 0, "value": value, "text": f"{value:,}"})
    parts = sorted({row["part"] for row in rows}, reverse=True)
    text = "Words on the ports of the block, measured in simulation and by the model."
    return {
        "id": "ports",
        "title": "Words on the ports",
        "note": "What the simulated block moved must be what the model says, word for word.",
        "spec": charts.bars(text, "words", parts),
        "rows": rows,
        "columns": {"label": "port", "part": "", "text": "words"},
    }


def compiled(document: Json) -> Json:
    """Programs with their blockings, lines fetched and speed."""
    layers = [layer | {"status": "given"} for layer in entries(document, "layers")]
    design = design_of(document, None, layers)
    facts = [
        fact("CPU", "text", document.get("cpu"), str(document.get("geometry") or "")),
        fact("Programs", "count", len(layers)),
        fact("Speed", "text", _speed(document), _of_peak(document)),
        fact("Output", "text", _verdict(document, "correct"), _error(document)),
        fact("Weights", "bytes", document.get("weight_bytes")),
        fact("Workspace", "bytes", document.get("workspace_bytes")),
    ]
    found = [chart for chart in (_lines(document), _speeds(document)) if chart]
    title = f"C programs for {document.get('name') or document.get('workload') or 'layers'}"
    shown = [each for each in facts if each]
    return {"title": title, "facts": shown, "designs": [design], "charts": found}


def _speed(document: Json) -> str | None:
    return None if document.get("gflops") is None else f"{document['gflops']:.1f} GF/s"


def _of_peak(document: Json) -> str:
    peak = document.get("peak_gflops")
    return f"of {peak:.1f} GF/s" if peak else ""


def _verdict(document: Json, good: str) -> str | None:
    if document.get("correct") is None:
        return None
    return good if document["correct"] else "WRONG"


def _error(document: Json) -> str:
    found = document.get("max_error")
    return "" if found is None else f"differs by {found:.1e} at most"


def _lines(document: Json) -> Json | None:
    rows: list[Json] = []
    for key, layer in enumerate(entries(document, "layers")):
        accesses = entry(layer, "accesses")
        for how, word in (("predicted", "predicted"), ("ours", "simulated")):
            for level, value in entry(accesses, how).items():
                if value is not None:
                    part = f"from {level.upper()}, {word}"
                    row = {"key": key, "label": layer["name"], "part": part, "order": 0}
                    rows.append(row | {"value": value, "text": f"{value:,}"})
    if not rows:
        return None
    parts = sorted({row["part"] for row in rows})
    text = "Cache lines that each program fetches, by the level that they come from."
    return {
        "id": "lines",
        "title": "Cache lines fetched",
        "note": "Predicted with cold caches; simulated with the program's own addresses.",
        "spec": charts.bars(text, "lines", parts),
        "rows": rows,
        "columns": {"label": "layer", "part": "lines", "text": "number"},
    }


def _speeds(document: Json) -> Json | None:
    rows = [
        {
            "key": key,
            "label": layer["name"],
            "part": "reached",
            "order": 0,
            "value": layer["gflops"],
            "text": f"{layer['gflops']:.1f}",
        }
        for key, layer in enumerate(entries(document, "layers"))
        if layer.get("gflops") is not None
    ]
    if not rows:
        return None
    peak = next(
        (x["peak_gflops"] for x in entries(document, "layers") if x.get("peak_gflops")), None
    )
    note = f"One core of this CPU does at most {peak:.1f} GF/s." if peak else ""
    text = "Speed that each program reaches, in 10^9 operations per second."
    return {
        "id": "speed",
        "title": "Speed",
        "note": note,
        "spec": charts.bars(text, "GF/s", ["reached"]),
        "rows": rows,
        "columns": {"label": "layer", "text": "GF/s"},
    }
