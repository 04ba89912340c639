"""How fast uneven and imperfect mappings are proved, layer by layer: writes benchmarks/RELAXED.md.

One process, kernels compiled and cached, every distinct layer of ResNet-18. Times are CPU seconds
of the process, which a busy machine does not stretch; limits are seconds of the clock.
Run: python benchmarks/relaxed.py [--seconds S for each layer] [--layers N]
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tilewright import zoo
from tilewright.ir.hardware import Compute, Fanout, Hardware, Level
from tilewright.mapper.layer import find_mapping
from tilewright.mapper.result import Status

GENERIC = Hardware(
    "generic",
    (
        Level("DRAM", word_bits=16, read_pj=200, write_pj=200, bandwidth=4),
        Level("GLB", 2**20, word_bits=16, read_pj=6, write_pj=6, fanout=Fanout(16, 16)),
        Level("RF", 4096, word_bits=16, read_pj=1, write_pj=1),
    ),
    Compute(pj=1),
)
"""DRAM, 128 KiB, 16 × 16 register files of 512 B; any operand may pass any memory."""
KINDS = {"uneven": (True, False), "imperfect": (False, True), "both": (True, True)}
OBJECTIVES = ("energy", "edp")


@dataclass(frozen=True)
class Row:
    chip: str
    kind: str
    objective: str
    seconds: list[float]
    gains: list[float]
    gaps: list[float]
    proved: list[bool]

    def __str__(self) -> str:
        return (
            f"| {self.chip} | {self.kind} | {self.objective} | {sum(self.proved)} of "
            f"{len(self.seconds)} | {statistics.median(self.seconds):.2f} | "
            f"{max(self.seconds):.2f} | "
            f"{statistics.median(self.gaps):.1%} | {max(self.gaps):.1%} | "
            f"{statistics.median(self.gains):.1%} | {max(self.gains):.1%} |"
        )


def measure(hardware: Hardware, kind: str, objective: str, seconds: float, most: int) -> Row:
    uneven, imperfect = KINDS[kind]
    row = Row(hardware.name, kind, objective, [], [], [], [])
    for layer in zoo.load_network("resnet18").layers[:most]:
        even = find_mapping(layer.workload, hardware, objective=objective, seconds=seconds)
        began = time.process_time()
        found = find_mapping(
            layer.workload,
            hardware,
            objective=objective,
            uneven=uneven,
            imperfect=imperfect,
            seconds=seconds,
        )
        row.seconds.append(time.process_time() - began)
        row.gaps.append(found.gap or 0.0)
        assert even.cost is not None
        assert found.cost is not None
        goal = found.objective
        row.gains.append(1 - goal.of(found.cost) / goal.of(even.cost))
        row.proved.append(found.status is Status.OPTIMAL)
    return row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--layers", type=int, default=99)
    asked = parser.parse_args()
    find_mapping(zoo.load_network("resnet18").layers[-1].workload, zoo.load_hardware("eyeriss"))
    rows: list[Row] = []
    for chip in (zoo.load_hardware("eyeriss"), GENERIC):
        for kind in KINDS:
            for objective in OBJECTIVES:
                rows.append(measure(chip, kind, objective, asked.seconds, asked.layers))
                print(rows[-1], file=sys.stderr, flush=True)
    text = [
        "# How fast uneven and imperfect mappings are proved",
        "",
        "Written by `make bench-relaxed`: ResNet-18's distinct layers, one process, kernels",
        f"cached; CPU seconds. At most {asked.seconds:g} s of the clock a layer. Gain is over the",
        "best even mapping with perfect factors; gap is what the bound leaves open.",
        "",
        "| chip | kind | objective | proved | median s | worst s | median gap | widest gap "
        "| median gain | most gain |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *map(str, rows),
    ]
    (Path(__file__).parent / "RELAXED.md").write_text("\n".join(text) + "\n", "utf-8")


if __name__ == "__main__":
    main()
