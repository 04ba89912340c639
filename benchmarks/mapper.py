"""How fast the mapper proves, layer by layer: writes benchmarks/MAPPER.md.

One process, kernels compiled and cached, every distinct layer once after a first one to warm up.
Run: python benchmarks/mapper.py [--seconds S for each layer]
"""

import argparse
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tilewright import zoo
from tilewright.mapper.optimal import find_optimal
from tilewright.mapper.result import Status

NETWORKS = ("resnet18", "vgg16", "mobilenetv2")
CHIPS = ("eyeriss", "gemmini", "tpu")
OBJECTIVES = ("energy", "edp")


@dataclass(frozen=True)
class Row:
    chip: str
    network: str
    objective: str
    seconds: list[float]
    proved: int
    widest_gap: float

    def __str__(self) -> str:
        return (
            f"| {self.chip} | {self.network} | {self.objective} | {self.proved} of "
            f"{len(self.seconds)} | {statistics.median(self.seconds):.3f} | "
            f"{max(self.seconds):.2f} | {self.widest_gap:.1%} |"
        )


def measure(chip: str, network: str, objective: str, seconds: float) -> Row:
    hardware, layers = zoo.load_hardware(chip), zoo.load_network(network).layers
    times: list[float] = []
    gaps: list[float] = []
    proved = 0
    for layer in layers:
        began = time.perf_counter()
        found = find_optimal(layer.workload, hardware, objective=objective, seconds=seconds)
        times.append(time.perf_counter() - began)
        proved += found.status is Status.OPTIMAL
        gaps.append(found.gap or 0.0)
    return Row(chip, network, objective, times, proved, max(gaps))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    find_optimal(zoo.load_network("resnet18").layers[-1].workload, zoo.load_hardware("eyeriss"))
    rows: list[Row] = []
    for chip in CHIPS:
        for network in NETWORKS:
            for objective in OBJECTIVES:
                rows.append(measure(chip, network, objective, seconds))
                print(rows[-1], file=sys.stderr, flush=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    head = "| chip | network | objective | proved | median s | worst s | widest gap |"
    text = [
        "# How fast the mapper proves",
        "",
        "Written by `make bench-mapper`: one process, two shared cores, kernels cached;",
        "every distinct layer, even mappings, perfect factors, all bypasses.",
        f"At most {seconds:g} s a layer. Peak memory {memory:.2f} GiB.",
        "",
        head,
        "|---|---|---|---|---|---|---|",
        *map(str, rows),
    ]
    (Path(__file__).parent / "MAPPER.md").write_text("\n".join(text) + "\n", "utf-8")


if __name__ == "__main__":
    main()
