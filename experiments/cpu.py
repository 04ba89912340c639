"""Memory accesses of our C programs against im2col with OpenBLAS: writes docs/cpu-accesses.md.

What the paper's last figure shows: accesses to L2 and L3 of a convolution, blocked as a whole,
against a copy and a matrix product. Line fetches from cold caches, geometry of the paper's kind.
Ours are counted by the project's simulator, from the addresses of the program itself, and once more
by callgrind (where valgrind is), from its instructions; OpenBLAS's by callgrind, its AVX2 kernels:
valgrind knows no AVX-512, so all here is AVX2.
Run: python experiments/cpu.py [--layers a,b] (pip install scipy-openblas64; apt install valgrind)
"""

import argparse
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from benchmarks.cpu import conv_of

import tilewright as tw
from tilewright.codegen.build import find_compiler
from tilewright.codegen.cpu import Cache, Cpu
from tilewright.codegen.kernel import Generated, generate
from tilewright.codegen.shape import read_shape
from tilewright.codegen.simulate import simulate
from tilewright.codegen.targets import AVX2, AVX512
from tilewright.codegen.tiling import Blocking, Plan
from tilewright.codegen.traffic import (
    _count,
    _span,
    elements_workload,
    nest_of,
    tile_lines,
    write_mapping,
)

ROOT = Path(__file__).parent.parent
PAPER = (Cache(1, 32 << 10, 8), Cache(2, 256 << 10, 8), Cache(3, 12 << 20, 16))
CPU = Cpu("paper", PAPER, flags=frozenset({*AVX2.needs, *AVX512.needs}))
LAYERS = (
    "alexnet:conv3",
    "alexnet:conv5",
    "resnet18:layer1.0.conv1",
    "resnet18:layer2.0.conv2",
    "resnet18:layer3.0.conv2",
    "resnet18:layer4.0.conv2",
    "resnet18:layer2.0.downsample",
)
SHARED = ("resnet18:layer1.0.conv1", "resnet18:layer3.0.conv2")

MAIN = r"""
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
{include}
static float *numbers(size_t count)
{{
    float *p = aligned_alloc(64, (count * 4 + 63) / 64 * 64);
    for (size_t i = 0; i < count; i++) p[i] = (float)(i % 17) / 17;
    return p;
}}
int main(void)
{{
{body}
    return 0;
}}
"""


@dataclass(frozen=True)
class Row:
    layer: str
    predicted: tuple[int, ...]
    simulated: tuple[int, ...]
    lean: tuple[int, ...]
    callgrind: tuple[int, int] | None
    openblas: tuple[int, int] | None

    def __str__(self) -> str:
        cells = [self.layer]
        for level in (0, 1):
            cells += [f"{self.predicted[level]:,}", f"{self.simulated[level]:,}"]
            cells.append(f"{self.callgrind[level]:,}" if self.callgrind else "–")
            cells.append(f"{self.lean[level]:,}")
            cells.append(f"{self.openblas[level]:,}" if self.openblas else "–")
            cells.append(self.less(level))
        return "| " + " | ".join(cells) + " |"

    def less(self, level: int) -> str:
        ratio = self.ratio(level)
        return f"{ratio - 1:+.1%}" if ratio else "–"

    def ratio(self, level: int) -> float | None:
        """Of the program with the fewest accesses."""
        return self.lean[level] / self.openblas[level] if self.openblas else None


def made_for(name: str, objective: str) -> Generated:
    return generate(tw.load_layer(name), cpu=CPU, target="avx2", objective=objective)


def measure(name: str) -> Row:
    fast, lean = made_for(name, "time"), made_for(name, "accesses")
    counted = [simulate(made, PAPER) for made in (fast, lean)]
    assert counted[0] is not None
    assert counted[1] is not None
    return Row(
        name,
        tuple(part.total_lines for part in fast.choice.traffic.caches),
        counted[0].lines,
        counted[1].lines,
        callgrind_of_ours(fast),
        callgrind_of_openblas(lean),
    )


def callgrind_of_ours(made: Generated) -> tuple[int, int] | None:
    layout, program = made.choice.plan.layout, made.program
    sizes = (layout.image_elements, layout.weight_elements, layout.output_elements)
    arrays = ", ".join(f"numbers({size})" for size in sizes)
    body = f"    {program.name}_run({arrays});"
    sources = {"kernel.c": program.source}
    return callgrind(f"{program.name}_run", program.declarations, body, sources, made.flags)


def callgrind_of_openblas(made: Generated) -> tuple[int, int] | None:
    if not find_spec("scipy_openblas64"):
        return None
    folder = Path(import_module("scipy_openblas64").get_lib_dir())
    conv = conv_of(made)
    values = [getattr(conv, field) for field, *_ in conv._fields_]
    depth = conv.inputs * conv.taps_r * conv.taps_s
    pixels = conv.rows * conv.columns
    image = conv.batch * conv.groups * conv.inputs * conv.height * conv.width
    outputs = conv.batch * conv.groups * conv.outputs * pixels
    sizes = (image, conv.groups * conv.outputs * depth, depth * pixels, outputs)
    arrays = ", ".join(f"numbers({size})" for size in sizes)
    library = folder / "libscipy_openblas64_.so"
    body = f"""    void *blas = dlopen("{library}", RTLD_NOW);
    if (!blas) return 1;
    void *sgemm = dlsym(blas, "scipy_cblas_sgemm64_");
    const int64_t c[] = {{{", ".join(map(str, values))}}};
    im2col_run(c, sgemm, {arrays});"""
    declared = "void im2col_run(const void *, void *, float *, float *, float *, float *);"
    sources = {"peers.c": (ROOT / "benchmarks" / "cpu_peers.c").read_text("utf-8")}
    return callgrind("im2col_run", declared, body, sources, AVX2.flags)


def callgrind(
    function: str, include: str, body: str, sources: dict[str, str], flags: tuple[str, ...]
) -> tuple[int, int] | None:
    """Lines fetched into L1 and L2 while a function runs: misses of reads and of writes."""
    if not shutil.which("valgrind"):
        return None
    folder = Path(tempfile.mkdtemp())
    texts = sources | {"main.c": MAIN.format(include=include, body=body)}
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    files = [str(folder / name) for name in texts]
    build = [find_compiler(), "-O2", "-w", *flags, *files, "-ldl", "-o", str(folder / "run")]
    subprocess.run(build, check=True)
    options = ["--tool=callgrind", "--cache-sim=yes", f"--toggle-collect={function}"]
    for label, cache in zip(("D1", "LL"), PAPER, strict=False):
        options.append(f"--{label}={cache.capacity_bytes},{cache.ways},{cache.line_bytes}")
    out = folder / "callgrind.out"
    command = ["valgrind", *options, f"--callgrind-out-file={out}", str(folder / "run")]
    quiet = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, env=os.environ | quiet)
    text = out.read_text("utf-8")
    events = re.search(r"^events: (.*)$", text, re.MULTILINE)
    totals = re.search(r"^(?:totals|summary): (.*)$", text, re.MULTILINE)
    assert events is not None
    assert totals is not None
    counts = dict(zip(events[1].split(), map(int, totals[1].split()), strict=False))
    shutil.rmtree(folder)
    return counts["D1mr"] + counts["D1mw"], counts["DLmr"] + counts["DLmw"]


def shares() -> list[tuple[float, float]]:
    """For many blockings: how much of L1 a row's tile takes, and simulated over predicted lines."""
    found: list[tuple[float, float]] = []
    for name in SHARED:
        shape, _ = read_shape(tw.load_layer(name))
        for cache in (Cache(1, 32 << 10, 8), Cache(1, 48 << 10, 12)):
            for vectors in (1, 2, 4):
                for chunk in (16, 32, 64):
                    blocking = Blocking(vectors, 8, chunk, shape.rows.places)
                    found.append(share_of(name, Plan(shape, AVX512, blocking), cache))
    return sorted(found)


def share_of(name: str, plan: Plan, cache: Cache) -> tuple[float, float]:
    from tilewright.codegen.emit import emit

    nest, depth = nest_of(plan), 6  # inside the loop over rows
    inside = [*nest.outer[depth:], *nest.inner, *nest.unrolled, nest.lanes]
    lines = tile_lines(plan.shape, plan.layout, _span(inside), cache.line_bytes)
    used = sum(lines.values()) * cache.line_bytes / cache.capacity_bytes
    work = elements_workload(plan.shape, plan.layout)
    mapping = write_mapping(work, nest, [depth], streams=False)
    (moved,) = _count(work, mapping, [cache], nest.lanes[1])
    made = generate(tw.load_layer(name), cpu=CPU, target="avx512")
    program = emit(plan, "a program to be counted")
    made = replace(made, program=program, choice=replace(made.choice, plan=plan))
    counted = simulate(made, [cache])
    assert counted is not None
    return used, counted.lines[0] / sum(moved.values())


def share_table(found: list[tuple[float, float]]) -> list[str]:
    bounds = (0.0, 0.5, 0.7, 0.85, 1.0, 1.3, 2.0, math.inf)
    lines = ["| tile of a row, of L1 | programs | least | median | most |", "|---|---|---|---|---|"]
    for low, high in pairwise(bounds):
        some = sorted(ratio for used, ratio in found if low < used <= high)
        if some:
            middle = some[len(some) // 2]
            cells = f"{len(some)} | {some[0]:.2f} | {middle:.2f} | {some[-1]:.2f}"
            lines.append(f"| {low:g} to {high:g} | {cells} |")
    return lines


def report(rows: list[Row], found: list[tuple[float, float]]) -> str:
    head = ["layer"]
    for level in ("L2", "L3"):
        head += [f"{level} predicted", "simulated", "callgrind", "leanest", "im2col + OpenBLAS"]
        head.append("leanest against it")
    lines = [
        "# Accesses of the C programs, and of im2col with OpenBLAS",
        "",
        "Written by `make cpu-accesses`. Lines fetched from cold caches, reads, write-allocates:",
        "accesses to L2 are what L1 fetches, accesses to L3 what L2 fetches. Geometry of the 2016",
        f"paper's kind: {CPU.geometry}. All programs are AVX2: callgrind knows no AVX-512.",
        "*Predicted*, *simulated* and *callgrind* are the program made for time; *leanest* is the",
        "one made for fewest L2 accesses, simulated. Packing of our arrays is not counted (weights",
        "once for a model, activations stay packed between layers); im2col's copy and the packing",
        "inside OpenBLAS, which happen on every call, are. callgrind has two levels of caches.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *map(str, rows),
        "",
        *goals(rows),
        "",
        "## The share of a cache",
        "",
        "For blockings of two layers (AVX-512, L1 of 32 and 48 KiB, 1, 2 and 4 vectors, chunks of",
        "16, 32 and 64): what the loops inside the one over rows touch, as a share of L1, and the",
        "lines fetched as simulated over those predicted if L1 held just that.",
        "",
        *share_table(found),
    ]
    return "\n".join(lines) + "\n"


def goals(rows: list[Row]) -> list[str]:
    large = [row for row in rows if "downsample" not in row.layer and row.openblas]
    if not large:
        return ["OpenBLAS or valgrind is not installed: no comparison."]
    lines = ["| 3×3 layers, accesses to | geometric mean | best | worst | goal |"]
    lines.append("|---|---|---|---|---|")
    for level, label, goal in ((0, "L2", "−85 %, best −90 %"), (1, "L3", "−75 %, best −90 %")):
        ratios = [ratio for row in large if (ratio := row.ratio(level))]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        cells = [f"{value - 1:+.1%}" for value in (mean, min(ratios), max(ratios))]
        lines.append(f"| {label} | {' | '.join(cells)} | {goal} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", default=",".join(LAYERS))
    rows: list[Row] = []
    for name in parser.parse_args().layers.split(","):
        rows.append(measure(name))
        print(rows[-1], file=sys.stderr, flush=True)
    (ROOT / "docs" / "cpu-accesses.md").write_text(report(rows, shares()), "utf-8")


if __name__ == "__main__":
    main()
