"""How fast the mapper proves, layer by layer: writes benchmarks/MAPPER.md.

One process, kernels compiled and cached, every distinct layer once after a first one to warm up.
Times are CPU seconds of the process, and a layer's budget counts them, too, so that other work on
the machine changes little; the rows for the budget alone are wall time.
Run: python benchmarks/mapper.py [--seconds S for each layer]
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from tilewright import zoo
from tilewright.ir.hardware import Fanout, Hardware, Level
from tilewright.ir.workload import Workload, conv2d
from tilewright.mapper import optimal
from tilewright.mapper.optimal import find_optimal
from tilewright.mapper.result import Status

NETWORKS = ("resnet18", "vgg16", "mobilenetv2")
CHIPS = ("eyeriss", "gemmini", "tpu")
OBJECTIVES = ("energy", "edp")


@dataclass(frozen=True)
class Case:
    """Layers on a chip, and the target: median and worst CPU seconds a layer."""

    title: str
    hardware: Hardware
    layers: tuple[Workload, ...]
    median_s: float
    worst_s: float


@dataclass(frozen=True)
class Row:
    case: Case
    objective: str
    seconds: list[float]
    proved: int
    widest_gap: float

    @property
    def is_met(self) -> bool:
        quick = statistics.median(self.seconds) <= self.case.median_s
        return quick and max(self.seconds) <= self.case.worst_s and self.proved == self.count

    @property
    def count(self) -> int:
        return len(self.seconds)

    def __str__(self) -> str:
        case = self.case
        return (
            f"| {case.title} | {self.objective} | {self.proved} of {self.count} | "
            f"{case.median_s:g} | {statistics.median(self.seconds):.3f} | "
            f"{case.worst_s:g} | {max(self.seconds):.2f} | {self.widest_gap:.1%} | "
            f"{'yes' if self.is_met else 'no'} |"
        )


def cases() -> Iterator[Case]:
    """What is asked for, in the order of the report."""
    for chip in CHIPS:
        for network in NETWORKS:
            title = f"{network} on {chip}"
            yield Case(title, zoo.load_hardware(chip), layers_of(network), 0.1, 1.0)
    resnet = layers_of("resnet18")
    yield Case("resnet18, four memories", four_memories(), resnet, 1.0, 10.0)
    yield Case("resnet18, 128×128 array", wide_array(), resnet, 10.0, 10.0)
    yield Case("very divisible sizes", three_memories(), (very_divisible(),), 10.0, 10.0)


def layers_of(network: str) -> tuple[Workload, ...]:
    return tuple(layer.workload for layer in zoo.load_network(network).layers)


def four_memories() -> Hardware:
    """Eyeriss with a buffer of 8 KiB between the global one and the processing elements."""
    eyeriss = zoo.load_hardware("eyeriss")
    outer, buffer, inner = eyeriss.levels
    second = Level("L1", 8 * 1024 * 8, word_bits=16, read_pj=2, write_pj=2, fanout=buffer.fanout)
    levels = (outer, replace(buffer, fanout=Fanout()), second, inner)
    return replace(eyeriss, name="eyeriss, two buffers", levels=levels)


def wide_array() -> Hardware:
    """The TPU-like chip with a smaller array that any dim may be unrolled on."""
    chip = zoo.load_hardware("tpu")
    levels = (
        replace(level, fanout=Fanout(128, 128)) if level.fanout.copies > 1 else level
        for level in chip.levels
    )
    return replace(chip, name="128×128", levels=tuple(levels))


def three_memories() -> Hardware:
    levels = (
        Level("DRAM", read_pj=200, write_pj=200, bandwidth=4),
        Level("GLB", 2**20, read_pj=6, write_pj=6, fanout=Fanout(16, 16)),
        Level("RF", 4096, read_pj=1, write_pj=1),
    )
    return Hardware("three memories", levels)


def very_divisible() -> Workload:
    return conv2d("divisible", N=16, K=720, C=240, P=48, Q=48, R=3, S=3, padding=1)


def huge() -> Iterator[tuple[str, Workload, Hardware]]:
    """Mapspaces that no budget is enough for, and such with few divisors."""
    many = conv2d("4096", N=8, K=4096, C=4096, P=64, Q=64, R=3, S=3, padding=1)
    prime = conv2d("997", K=997, C=997, P=997, Q=997, R=3, S=3, padding=1)
    yield "K = C = 4096, four memories", many, four_memories()
    yield "K = C = 4096, three memories", many, three_memories()
    yield "batch 16, 240→720, three memories", very_divisible(), three_memories()
    yield "K = C = P = Q = 997, four memories", prime, four_memories()


def measure(case: Case, objective: str, seconds: float) -> Row:
    times: list[float] = []
    gaps: list[float] = []
    proved = 0
    for workload in case.layers:
        began = time.process_time()
        with patch.object(optimal.time, "monotonic", time.process_time):
            found = find_optimal(workload, case.hardware, objective=objective, seconds=seconds)
        times.append(time.process_time() - began)
        proved += found.status is Status.OPTIMAL
        gaps.append(found.gap or 0.0)
    return Row(case, objective, times, proved, max(gaps))


def overruns() -> Iterator[str]:
    """How long runs take that are told to end: one line for each."""
    for title, workload, hardware in huge():
        for budget in (2.0, 10.0):
            began = time.monotonic()
            found = find_optimal(workload, hardware, seconds=budget)
            took = time.monotonic() - began
            met = "yes" if took <= 1.1 * budget else "no"
            status = found.status.value.replace("_", " ")
            gap = "" if found.gap is None else f"{found.gap:.1%}"
            yield f"| {title} | {budget:g} | {took:.2f} | {status} | {gap} | {met} |"


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    find_optimal(zoo.load_network("resnet18").layers[-1].workload, zoo.load_hardware("eyeriss"))
    rows: list[str] = []
    for case in cases():
        for objective in OBJECTIVES:
            rows.append(str(measure(case, objective, seconds)))
            print(rows[-1], file=sys.stderr, flush=True)
    memory = peak_gib()
    budgets: list[str] = []
    for row in overruns():
        budgets.append(row)
        print(row, file=sys.stderr, flush=True)
    text = [
        "# How fast the mapper proves",
        "",
        "Written by `make bench-mapper`: one process, two shared cores, kernels cached;",
        "every distinct layer, even mappings, perfect factors, all bypasses. CPU seconds.",
        f"At most {seconds:g} s a layer. Peak memory {memory:.2f} GiB (target 2 GiB).",
        "",
        "| layers | objective | proved | median: target s | measured | worst: target s | measured "
        "| widest gap | met |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        "## Budgets",
        "",
        "A run that is told to end after S seconds of wall time ends within 1.1·S.",
        f"Peak memory with these runs {peak_gib():.2f} GiB.",
        "",
        "| mapspace | S | took s | status | gap | met |",
        "|---|---|---|---|---|---|",
        *budgets,
    ]
    (Path(__file__).parent / "MAPPER.md").write_text("\n".join(text) + "\n", "utf-8")


if __name__ == "__main__":
    main()
