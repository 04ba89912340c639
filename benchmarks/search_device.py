"""How fast an accelerator searches: neighbours priced per second by `codesign`'s local search.

`python benchmarks/search_device.py [--designs 1024,4096] [--neighbours 32] [--steps 20]`: ResNet-18
on chips of eyeriss-space, all layers, 32-bit floats; some mappings found are priced by `exact`.
Needs NumPy, JAX and PyYAML only. Writes `$OUT/search_device.json` if OUT is set.
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import jax
import numpy as np

import tilewright as tw
from tilewright.joint.genome import as_mapping, drawn, make_frame, make_layer, trimmed
from tilewright.joint.local import improve
from tilewright.joint.sites import SiteTable

CHECKED = 8


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--designs", default="1024,4096,16384")
    parser.add_argument("--neighbours", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    device = jax.devices()[0]
    print(f"JAX {jax.__version__} on {device.device_kind} ({device.platform})", flush=True)
    works = [layer.workload for layer in tw.load("resnet18").layers]
    space = tw.load_space("eyeriss-space")
    frame = make_frame(works, space)
    table = SiteTable(space, works[0], frame)
    layers = [make_layer(work, space, frame) for work in works]
    rows: list[dict[str, object]] = []
    for count in map(int, options.designs.split(",")):
        random = np.random.default_rng(count)
        choices = [
            tuple(int(random.integers(len(v.values))) for v in space.variables)
            for _ in range(min(count, 512))
        ]
        choices = [choices[at % len(choices)] for at in range(count)]
        site = jax.device_put(table.site(choices))
        worth = jax.device_put(np.ones((2, count), dtype=np.float32))
        still = jax.device_put(np.zeros(count, dtype=np.float32))
        starts = [jax.device_put(drawn(layer, frame, count, random)) for layer in layers]
        times: list[float] = []
        worst, fit = 0.0, 0.0
        for at in (0, *range(len(layers))):  # the first compiles
            key = jax.random.key(at)
            began = time.perf_counter()
            found = improve(
                starts[at],
                layers[at],
                site,
                worth,
                still,
                key,
                options.steps,
                frame,
                options.neighbours,
            )
            jax.block_until_ready(found)
            times.append(time.perf_counter() - began)
            host = jax.tree.map(np.asarray, found)
            fit += float((host.excess <= 1).mean()) / (len(layers) + 1)
            work = trimmed(works[at])
            for column in np.flatnonzero(host.excess <= 1)[:CHECKED].tolist():
                chip = space.chip(choices[column])
                mapping = as_mapping(host.genes, column, work, chip, [True] * 3, frame)
                exact = tw.evaluate(work, chip, mapping)
                for have, want in (
                    (host.energy_pj[column], exact.energy_pj),
                    (host.cycles[column], exact.cycles),
                ):
                    worst = max(worst, abs(float(have) - want) / want)
        priced = count * options.neighbours * options.steps
        row: dict[str, object] = {
            "designs": count,
            "neighbours": options.neighbours,
            "per_second": priced / statistics.median(times[1:]),
            "compile_s": times[0],
            "worst_relative_difference_to_exact": worst,
            "share_that_fits": fit,
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    report = {"jax": jax.__version__, "device": device.device_kind, "rows": rows}
    if "OUT" in os.environ:
        out = Path(os.environ["OUT"]) / "search_device.json"
        out.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
