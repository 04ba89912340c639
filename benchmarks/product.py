"""Measure how fast the program around the model is; writes benchmarks/PRODUCT.md.

Start, a network found again, a report and its page in Chromium, the explorer beside a search.
Medians on this machine; nothing here is a test. Solved layers and kernels are those of the user's
cache: the first run ever takes minutes more, and is not counted.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.run import Figure, command_seconds, machine_name

import tilewright as tw
from tilewright import zoo
from tilewright.ir.workload import Layer, Network
from tilewright.mapper.solved import SolvedLayers
from tilewright.report.describe import add_work, describe_chip

PAGE = Path(__file__).parent / "PRODUCT.md"
NETWORK, CHIP = "resnet50", "eyeriss"
PROGRAM = ("-m", "tilewright")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ASKED = 200
"""Requests to the explorer of each kind."""


def starting(runs: int) -> Iterator[Figure]:
    empty = command_seconds("-c", "pass", runs=runs)
    seconds = command_seconds("-c", "import tilewright", runs=runs) - empty
    yield Figure("`import tilewright`, beyond an empty interpreter", _ms(seconds), "≤ 200 ms")
    seconds = command_seconds(*PROGRAM, "zoo", runs=runs)
    yield Figure("`tilewright zoo` as a command", _ms(seconds), "–")


def found_again(runs: int) -> Iterator[Figure]:
    seconds = command_seconds(*PROGRAM, "map", NETWORK, CHIP, runs=runs)
    what = f"`tilewright map {NETWORK} {CHIP}`, solved before"
    yield Figure(what, f"{seconds:.2f} s", "≤ 2 s")


def long_document() -> dict[str, Any]:
    """Every layer of the network on its own, as `map --json` says it."""
    layers = [
        Layer(replace(layer.workload, name=f"{layer.workload.name} {number}"))
        for layer in tw.load(NETWORK).layers
        for number in range(1, layer.repeat + 1)
    ]
    chip = tw.load_hardware(CHIP)
    result = tw.map_network(Network(NETWORK, tuple(layers)), chip, solved=SolvedLayers())
    document: dict[str, Any] = result.to_json() | {"command": "map", "schema": 2}
    add_work(document["layers"], [layer.workload for layer in result.layers])
    return document | {"chip": describe_chip(chip)}


def reports(runs: int) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        run, page = Path(folder) / "run.json", Path(folder) / "page.html"
        document = long_document()
        run.write_text(json.dumps(document), encoding="utf-8")
        count = len(document["layers"])
        seconds = command_seconds(*PROGRAM, "report", str(run), "--out", str(page), runs=runs)
        yield Figure(f"`tilewright report` of {count} layers", f"{seconds:.2f} s", "≤ 3 s")
        yield Figure("its size", f"{page.stat().st_size / 1e6:.2f} MB", "≤ 5 MB")
        ready = interactive_seconds(page, runs)
        shown = "no Chromium here" if ready is None else f"{ready:.2f} s"
        yield Figure("the page, until it answers, in headless Chromium", shown, "≤ 2 s")


def interactive_seconds(page: Path, runs: int) -> float | None:
    """The median time until a new tab has drawn a page, and a layer that is chosen is shown."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        return None
    from playwright.sync_api import sync_playwright

    times: list[float] = []
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for _ in range(runs + 1):  # the first warms up
            tab: Any = browser.new_page()
            began = time.perf_counter()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready]", state="attached")
            tab.click("#layers tbody tr:nth-child(2) button")
            tab.wait_for_selector("#layers tbody tr:nth-child(2).picked")
            times.append(time.perf_counter() - began)
            tab.close()
        browser.close()
    return statistics.median(times[1:])


@contextmanager
def explorer() -> Generator[int]:
    """A running explorer, which keeps nothing; its port."""
    command = [sys.executable, *PROGRAM, "serve", "--port", "0", "--no-cache"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r":(\d+)/", line)
        assert found, line
        try:
            yield int(found[1])
        finally:
            process.send_signal(signal.SIGINT)


def ask(port: int, path: str, body: object = None, method: str = "") -> tuple[float, Any]:
    """Seconds that an answer took, in a connection of its own, and what it says."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sent = None if body is None else json.dumps(body)
    connection.request(method or ("GET" if sent is None else "POST"), path, sent)
    answer = connection.getresponse().read()
    connection.close()
    return time.perf_counter() - began, json.loads(answer)


def answers(_: int) -> Iterator[Figure]:
    text = zoo.entry_text(CHIP)
    job = {"verb": "map", "network": NETWORK, "imperfect": True, "chip": text, "seconds": 600}
    with explorer() as port:
        key = ask(port, "/api/jobs", job)[1]["key"]
        place, running = f"/api/jobs/{key}", dict[str, Any]()
        while "gap" not in str(running.get("progress")):  # it imports before it searches
            running = ask(port, place)[1]
            assert running["state"] in ("waiting", "running"), running
            time.sleep(0.1)
        for what, path, body in (
            ("a job's progress", place, None),
            ("a chip that is checked", "/api/check", {"text": text}),
        ):
            times = sorted(ask(port, path, body)[0] for _ in range(ASKED))
            shown = f"{_ms(statistics.median(times))}, 99 % within {_ms(times[ASKED * 99 // 100])}"
            yield Figure(f"`serve` beside a search: {what}", shown, "≤ 100 ms")
        assert ask(port, place)[1]["state"] == "running", "the search ended too early"
        ask(port, place, method="DELETE")


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="of each command and page")
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    busy = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "not known"
    figures: list[Figure] = []
    for part in (starting, found_again, reports, answers):
        for figure in part(options.runs):
            figures.append(figure)
            print(f"{figure.what}: {figure.measured} (promised {figure.promised})")
    rows = [f"| {f.what} | {f.measured} | {f.promised} |" for f in figures]
    head = [
        "# Speed of the program",
        "",
        f"Written by `make bench-product` on {machine_name()}.",
        f"Medians of {options.runs} runs on the clock, of {ASKED} requests of the explorer;",
        "commands are whole processes.",
        f"Load average of the machine when it began: {busy}; beyond its processors, all is slower.",
        "",
        "| | measured | promised |",
        "|---|---|---|",
    ]
    options.out.write_text("\n".join([*head, *rows, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
