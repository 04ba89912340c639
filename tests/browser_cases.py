"""Documents and a browser, for the tests of pages. The browser is Chromium, where there is one."""

import copy
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_cost import MAPPING, chip_of, cost_of, layer_of

from tilewright.ir.hardware import Hardware
from tilewright.ir.workload import Workload, conv2d
from tilewright.mapper.curve import traffic_curve
from tilewright.model.evaluate import evaluate
from tilewright.report.describe import describe_chip, describe_cost, describe_work

Json = dict[str, Any]
CHIP = """
name: small-chip
levels:
  - {memory: DRAM, read_pj: 200, write_pj: 200, bandwidth: 2}
  - {memory: GLB, capacity: 4KiB, read_pj: 6, write_pj: 6, fanout: {x: 4}}
  - {memory: RF, capacity: 64B, read_pj: 1, write_pj: 1}
compute: {pj: 1}
"""
CONV = conv2d("conv", K=8, C=4, P=6, Q=6, R=3, S=3, padding=(1, 1), in_height=6, in_width=6)
CONV_MAPPING = "DRAM[W I O]: K2 P3 C2\nGLB[I O]: C2 Q6 | K4@x\nRF[W I O]: P2 R3 S3"
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&\x00\x1b[31m\u202e" + "long" * 100


def evaluated() -> Json:
    cost = cost_of()
    return cost.to_json() | describe_cost(cost) | {"version": "0", "seed": None}


def layer_entry(work: Workload, chip: Hardware, mapping: str, **more: object) -> Json:
    cost = evaluate(work, chip, mapping)
    return {
        "name": work.name,
        "repeat": 1,
        "mapping": mapping,
        "cost": cost.to_json(),
        "status": "optimal",
        "lower_bound": cost.energy_pj,
        "gap": 0.0,
        "dram_words": cost.dram_words,
        "dram_limit_words": cost.limit.words,
        "work": describe_work(work),
        **more,
    }


def mapped() -> Json:
    chip = chip_of(CHIP)
    layers = [
        layer_entry(CONV, chip, CONV_MAPPING),
        layer_entry(layer_of(_SMALL), chip, MAPPING, repeat=3, status="best_found", gap=0.25),
    ]
    energy = sum(layer["cost"]["energy_pj"] * layer["repeat"] for layer in layers)
    cycles = sum(layer["cost"]["cycles"] * layer["repeat"] for layer in layers)
    return {
        "workload": "two layers",
        "hardware": chip.name,
        "convention": "default",
        "objective": "energy",
        "mapspace": "even, perfect factors, any order, any bypass",
        "layers": layers,
        "total": {
            "energy_pj": energy,
            "cycles": cycles,
            "edp": energy * cycles,
            "latency_s": cycles / 1e9,
            "dram_words": sum(layer["dram_words"] * layer["repeat"] for layer in layers),
            "dram_limit_words": sum(
                layer["dram_limit_words"] * layer["repeat"] for layer in layers
            ),
            "utilization": 0.5,
        },
        "not_costed": [{"op": "Relu", "count": 2}],
        "tables": {"GLB": {"energy": "given", "area": "none"}},
        "inputs": {"workload": "0" * 64},
        "seconds": 1.5,
        "seed": 0,
        "chip": describe_chip(chip),
    }


_SMALL = """
name: small
einsum: "O[K,P] += W[K,C,R] * I[C,2P+R]"
sizes: {K: 8, C: 4, P: 6, R: 3}
"""


def curved() -> Json:
    work = layer_of(_SMALL)
    curves = [traffic_curve(work, [16 * 24, 16 * 64, 16 * 256], uneven=u) for u in (False, True)]
    document = curves[-1].to_json()
    document["curves"] = [curve.to_json() for curve in curves]
    return document | {"work": {work.name: describe_work(work)}}


def codesigned() -> Json:
    chips = [chip_of(CHIP), chip_of(CHIP.replace("4KiB", "8KiB").replace("small-chip", "larger"))]
    front: list[Json] = []
    for number, chip in enumerate(chips):
        layers = [layer_entry(CONV, chip, CONV_MAPPING, proved=True, weight=1.0)]
        energy, cycles = layers[0]["cost"]["energy_pj"], layers[0]["cost"]["cycles"]
        front.append(
            {
                "latency_s": cycles / 1e9,
                "energy_pj": energy - number * 1000,
                "power_w": energy * 1e-3 / cycles,
                "area_mm2": 1.0 + number,
                "edp": energy * cycles,
                "objective": "energy",
                "hardware": describe_chip(chip),
                "certified": number == 0,
                "proved_on_chip": True,
                "lower_bound_on_chip": energy,
                "layers": layers,
            }
        )
    return {
        "networks": [{"name": "two layers", "weight": 1.0}],
        "space": {"name": "small-space", "template": "small-chip", "chips": 2, "variables": []},
        "objective": "energy",
        "bounds": {"power_w": 2.0},
        "versus": "area",
        "front": front,
        "evaluations": 1000,
        "solved": 2,
        "seconds": 2.0,
        "seed": 0,
    }


def designed() -> Json:
    document = mapped()
    levels = [{"memory": "L1", "capacity_bytes": 4096, "word_bits": 64}]
    point = {"levels": levels, "energy_pj": 5.0e6, "area_mm2": 0.5, "capacity_bytes": 4096}
    other = {"levels": levels, "energy_pj": 4.0e6, "area_mm2": 0.9, "capacity_bytes": 8192}
    kept = {key: document[key] for key in ("workload", "objective", "layers", "chip")}
    return kept | {
        "levels": levels,
        "energy_pj": 5.0e6,
        "cycles": 1000,
        "area_mm2": 0.5,
        "status": "optimal",
        "gap": 0.0,
        "grid": {"hierarchies": 12},
        "front": [point, other],
        "points": [point, other],
    }


def on_block() -> Json:
    cost = evaluate(CONV, chip_of(CHIP), CONV_MAPPING)
    ports = {name: {"words": 10, "model_words": 10} for name in ("I", "W", "O")}
    return describe_cost(cost) | {
        "layer": "conv",
        "config": "small",
        "buffer_bytes": 2048,
        "mapping": CONV_MAPPING,
        "status": "optimal",
        "macs": CONV.macs,
        "model_cycles": 100,
        "cycles": 101,
        "correct": True,
        "ports": ports,
        "ratio": 3.5,
        "dram_limit_words": 300.0,
    }


def programs() -> Json:
    layer = {
        "name": "conv",
        "repeat": 1,
        "macs": CONV.macs,
        "mapping": CONV_MAPPING,
        "work": describe_work(CONV),
        "accesses": {"predicted": {"l2": 120, "dram": 40}, "ours": {"l2": 125, "dram": 40}},
        "gflops": 12.5,
        "peak_gflops": 50.0,
    }
    whole = {"cpu": "a CPU", "geometry": "L1 32KiB/8", "workload": "conv", "correct": True}
    return whole | {"layers": [layer], "gflops": 12.5, "peak_gflops": 50.0, "max_error": 1e-6}


DOCUMENTS = {
    "evaluate": evaluated,
    "map": mapped,
    "curve": curved,
    "codesign": codesigned,
    "design": designed,
    "hwc": on_block,
    "compile": programs,
}


def hostile(document: Json) -> Json:
    """The document with every name in it replaced by one that would like to be markup."""
    found = copy.deepcopy(document)
    for key in ("workload", "hardware", "objective", "mapspace"):
        if isinstance(found.get(key), str):
            found[key] = HOSTILE
    for layer in found["layers"]:
        layer["name"] = HOSTILE
        layer["work"]["einsum"] = HOSTILE
    found["chip"]["name"] = HOSTILE
    return found


CHROMIUM = next(
    filter(
        None, (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    ),
    None,
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")


def _note_complaints(page: Any, complaints: list[str]) -> None:
    def in_console(message: Any) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def in_dialog(dialog: Any) -> None:
        complaints.append("a dialog opened")
        dialog.dismiss()

    def thrown(error: object) -> None:
        complaints.append(str(error))

    page.on("console", in_console)
    page.on("dialog", in_dialog)
    page.on("pageerror", thrown)


@contextmanager
def open_page(place: Path | str, **how: Any) -> Generator[tuple[Any, list[str]]]:
    """A page in Chromium, ready, and a list that complaints in its console are added to."""
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    start: Any = sync_playwright
    with start() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page: Any = browser.new_context(**how).new_page()
        _note_complaints(page, complaints)
        page.goto(place if isinstance(place, str) else place.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        yield page, complaints
        browser.close()
