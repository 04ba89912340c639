"""Memory accesses of our C programs against im2col with a BLAS, and oneDNN: docs/cpu-accesses.md.

What the paper's last figure shows: accesses to L2 and L3 of a convolution, blocked as a whole,
against a copy and a matrix product. Line fetches from cold caches, in the geometry of the paper's
kind and in this machine's. Ours are counted by the project's simulator, from the addresses of the
program itself, and once more by callgrind (where valgrind is), from its instructions; the others by
callgrind, their AVX2 kernels: valgrind knows no AVX-512, so all here is AVX2.
Run: python -m experiments.cpu [--networks a,b] [--peers openblas,onednn] [--kept]
(pip install scipy-openblas64 mkl; apt install valgrind libdnnl-dev). An hour; counts are kept.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from itertools import pairwise
from pathlib import Path

from experiments.callgrind import PEERS, Counts, count_ours, count_peer

import tilewright as tw
from tilewright.codegen import cpu as cpus
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
FIGURE = ROOT / "docs" / "figures" / "cpu-accesses.svg"
PAPER = (Cache(1, 32 << 10, 8), Cache(2, 256 << 10, 8), Cache(3, 12 << 20, 16))
FLAGS = frozenset({*AVX2.needs, *AVX512.needs})
CPU = Cpu("paper", PAPER, flags=FLAGS)
NETWORKS = ("yang2016", "alexnet", "vgg16", "resnet18", "mobilenetv2")
TOO_LARGE = {"yang2016:Conv1": None, "yang2016:Conv2": 24}
"""1.56 TFLOP would take callgrind half a day: left out. Of Conv2 so many rows are counted."""
MOST_TWICE = 4e8
"""Ours of more operations than that are not counted by callgrind, only simulated."""
SHARED = ("resnet18:layer1.0.conv1", "resnet18:layer3.0.conv2")


@dataclass(frozen=True)
class Row:
    """One layer in one geometry: accesses to L2 and to L3, of each program.

    `ours` has `fast` and `lean`: made for time, and for few accesses. `predicted`, `expected` (set
    by set) and `checked` (by callgrind) are those of the same two.
    """

    layer: str
    taps: int
    depthwise: bool
    geometry: str
    ours: dict[str, Counts]
    predicted: dict[str, Counts]
    expected: dict[str, Counts]
    checked: dict[str, Counts]
    peers: dict[str, Counts] = field(default_factory=dict[str, Counts])

    def ratio(self, level: int, program: str, peer: str = "") -> float | None:
        """Of our accesses and the peer's; without one, of the better BLAS's."""
        blas = [self.peers[p][level] for p in ("openblas", "mkl") if p in self.peers]
        if peer:
            blas = [self.peers[peer][level]] if peer in self.peers else []
        return self.ours[program][level] / min(blas) if blas else None


def layers_of(networks: Sequence[str]) -> Iterator[tuple[str, tw.Workload]]:
    """The convolutions and products; huge ones cut to some of their rows."""
    for network in networks:
        for layer in tw.load(network).layers:
            name = f"{network}:{layer.workload.name}"
            work = _cut(name, layer.workload)
            if work is not None and len(work.inputs) > 1:
                yield name, work


def _cut(name: str, work: tw.Workload) -> tw.Workload | None:
    if name not in TOO_LARGE:
        return work
    rows = TOO_LARGE[name]
    if rows is None:
        return None
    size = work.sizes
    return tw.conv2d(
        f"{work.name}_{rows}_rows", K=size["K"], C=size["C"], P=rows, Q=size["Q"], R=size["R"],
        S=size["S"],
    )  # fmt: skip


def made_for(work: tw.Workload, cpu: Cpu, objective: str) -> Generated:
    return generate(work, cpu=cpu, target="avx2", objective=objective)


def measure(  # noqa: PLR0913
    name: str,
    work: tw.Workload,
    label: str,
    cpu: Cpu,
    peers: Sequence[str],
    *,
    kept: bool = False,
) -> Row | None:
    """Count a layer; with `kept`, nothing anew, and `None` where no peer was counted before."""
    programs = {"fast": made_for(work, cpu, "time"), "lean": made_for(work, cpu, "accesses")}
    found = {peer: count_peer(peer, programs["lean"], cpu.caches, kept=kept) for peer in peers}
    theirs = {peer: counts for peer, counts in found.items() if counts}
    if kept and not theirs:
        return None
    ours, predicted = dict[str, Counts](), dict[str, Counts]()
    expected, checked = dict[str, Counts](), dict[str, Counts]()
    for kind, made in programs.items():
        counted = simulate(made, cpu.caches)
        assert counted is not None
        ours[kind] = counted.lines[0], counted.lines[1]
        lines = [part.total_lines for part in made.choice.traffic.caches]
        predicted[kind] = lines[0], lines[1]
        expected[kind] = made.choice.expected[0], made.choice.expected[1]
        if 2 * work.macs < MOST_TWICE:
            again = count_ours(made, cpu.caches, kept=kept)
            checked |= {kind: again} if again else {}
    shape = programs["lean"].shape
    counts = (ours, predicted, expected, checked, theirs)
    return Row(name, shape.taps, shape.per_channel, label, *counts)


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
    mapping = write_mapping(work, nest, [depth], streams=0)
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


# --- the page -----------------------------------------------------------------------------------


def whole_table(rows: Sequence[Row]) -> list[str]:
    head = ["layer"]
    for level in ("L2", "L3"):
        head += [f"{level}: fastest", "leanest", "OpenBLAS", "MKL", "oneDNN"]
        head += ["fastest against BLAS", "leanest"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row.layer]
        for level in (0, 1):
            cells += [f"{row.ours[kind][level]:,}" for kind in ("fast", "lean")]
            cells += [f"{row.peers[peer][level]:,}" if peer in row.peers else "–" for peer in PEERS]
            cells += [_less(row.ratio(level, kind)) for kind in ("fast", "lean")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _less(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio - 1:+.1%}"


def goals(rows: Sequence[Row]) -> list[str]:
    """Geometric means over layers with filters of 3×3 and more, and the extremes of all."""
    lines = [
        "| accesses to | program | against | 3×3 and larger | layers | best | worst of all "
        "| goal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for level, label, goal in ((0, "L2", "−85 %"), (1, "L3", "−75 %")):
        for kind, called in (("fast", "fastest"), ("lean", "leanest")):
            for peer, against in (("", "the better BLAS"), ("openblas", "OpenBLAS")):
                known = {row.layer: row.ratio(level, kind, peer) for row in rows}
                ratios = {layer: ratio for layer, ratio in known.items() if ratio is not None}
                large = [ratios[r.layer] for r in rows if r.taps >= 9 and not r.depthwise]
                if not large:
                    continue
                ends = [
                    f"{_less(ratios[layer])} ({layer})"
                    for layer in (
                        min(ratios, key=ratios.__getitem__),
                        max(ratios, key=ratios.__getitem__),
                    )
                ]
                mean = f"{geomean(large) - 1:+.1%}"
                asked = f"{goal}, best −90 %, worst +1 %"
                cells = [label, called, against, mean, str(len(large)), *ends, asked]
                lines.append("| " + " | ".join(cells) + " |")
    large = [row for row in rows if row.taps >= 9 and not row.depthwise]
    mkl = sum("mkl" in row.peers for row in large)
    lines += ["", f"MKL was counted on {mkl} of these {len(large)} layers, OpenBLAS on all."]
    return lines


def geomean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def errors(rows: Sequence[Row]) -> list[str]:
    """How far the prediction is from the simulated program, and that from callgrind."""
    pairs = {
        "predicted over simulated": [
            row.predicted[kind][level] / row.ours[kind][level]
            for row in rows
            for kind in row.ours
            for level in (0, 1)
        ],
        "expected set by set over simulated": [
            row.expected[kind][level] / row.ours[kind][level]
            for row in rows
            for kind in row.ours
            for level in (0, 1)
        ],
        "callgrind over simulated": [
            row.checked[kind][level] / row.ours[kind][level]
            for row in rows
            for kind in row.checked
            for level in (0, 1)
        ],
    }
    lines = ["| | pairs | least | median | most | within 5 % |", "|---|---|---|---|---|---|"]
    for label, values in pairs.items():
        if values:
            some = sorted(values)
            near = sum(abs(value - 1) <= 0.05 for value in some) / len(some)
            middle = some[len(some) // 2]
            cells = f"{len(some)} | {some[0]:.3f} | {middle:.3f} | {some[-1]:.3f} | {near:.0%}"
            lines.append(f"| {label} | {cells} |")
    return lines


def missing(rows: Sequence[Row], layers: Sequence[str]) -> list[str]:
    """Which layers no BLAS was counted for, in each geometry."""
    lines: list[str] = []
    for label in dict.fromkeys(row.geometry for row in rows):
        counted = {row.layer for row in rows if row.geometry == label}
        left = [name for name in layers if name not in counted]
        if left:
            lines += [
                f"Not counted for *{label}*, as callgrind takes minutes: {', '.join(left)}.",
                "",
            ]
    return lines


def page(rows: Sequence[Row], found: list[tuple[float, float]], layers: Sequence[str] = ()) -> str:
    lines = [
        "# Accesses of the C programs, of im2col with a BLAS, and of oneDNN",
        "",
        "Written by `make cpu-accesses`. Lines fetched from cold caches, reads, write-allocates:",
        "accesses to L2 are what L1 fetches, accesses to L3 what L2 fetches. All programs are",
        "AVX2: callgrind knows no AVX-512. *Fastest* is the program made for time, *leanest* the",
        "one made for fewest accesses: ours, simulated from their own addresses. The others are",
        "counted by callgrind from their instructions, oneDNN being Debian's 2.6.3. Packing of our",
        "arrays and of oneDNN's is not counted (weights once for a model, activations stay packed",
        "between layers); im2col's copy and the packing inside a BLAS, on every call, are.",
        "*Against BLAS* is against the better one. – was not counted: callgrind takes half a",
        "minute for a GFLOP on a quiet core. `make cpu-accesses` goes on where it stopped. Of",
        "yang2016's Conv2 24 rows are counted, as all do the same; Conv1, 1.56 TFLOP, is left out.",
        "",
        "![accesses by layer](figures/cpu-accesses.svg)",
    ]
    for label in dict.fromkeys(row.geometry for row in rows):
        some = [row for row in rows if row.geometry == label]
        lines += ["", f"## {label}", "", *goals(some), "", *whole_table(some)]
    lines += [
        "",
        "What every program must fetch, weights, image and output once, is out of these goals'",
        "reach where it is most of the total: 1×1 and fully connected layers, and in L3 the deep",
        "3×3 layers whose weights alone are several times the L2 (layer4.0.conv2: 174,000 lines of",
        "OpenBLAS's 203,000). Image and weights that do not fit L2 together are read in chunks of",
        "input channels, outermost, whose sums come back: before, layers like layer4.0.conv1 and",
        "MobileNetV2's features.17.conv.2 fetched the image for each block of output channels,",
        "up to 67 % more than OpenBLAS. *Leanest* is the least sum of lines from L2, L3 and DRAM",
        "that is expected with conflicts, set by set (docs/compile.md, Conflicts); its blocks may",
        "be parts of rows, in any order.",
        "",
        *missing(rows, layers),
        "",
        "## How far off the prediction is",
        "",
        *errors(rows),
        "",
        "*Predicted* is what the mapping at the program's head fetches: a rule of thumb says what",
        "a cache holds, which misses most where a tile comes near it (AlexNet's conv1, made for",
        "time, fetches 2.5 times what is predicted). *Expected* looks at each set, and errs up, as",
        "a set that holds one line too many is taken to lose all of its lines. callgrind's program",
        "has its arrays at other places, and so in other sets.",
    ]
    if not found:
        return "\n".join(lines) + "\n"
    lines += [
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


_COLOURS = {"fast": "#56b4e9", "lean": "#0072b2", "blas": "#d55e00"}
_ROW, _LEFT, _BAR = 34, 250, 300


def picture(rows: Sequence[Row]) -> str:
    """Bars for each layer: our accesses as shares of the better BLAS's, L2 left, L3 right."""
    known = [row for row in rows if row.ratio(0, "lean") is not None and not row.depthwise]
    width, height = _LEFT + 2 * (_BAR + 60) + 20, 70 + _ROW * len(known)
    body = [_text(16, 24, f"{known[0].geometry}: accesses, im2col + the better BLAS = 100 %")]
    for level, label in ((0, "L2"), (1, "L3")):
        x = _LEFT + level * (_BAR + 60)
        body.append(_text(x, 46, f"{label}: fastest (light), leanest (dark)"))
        body.append(f'<path d="M{x + _BAR} 52V{height - 10}" stroke="{_COLOURS["blas"]}"/>')
    for index, row in enumerate(known):
        y = 56 + _ROW * index
        body.append(_text(16, y + 18, row.layer))
        for level in (0, 1):
            x = _LEFT + level * (_BAR + 60)
            for place, kind in enumerate(("fast", "lean")):
                ratio = row.ratio(level, kind) or 0.0
                long = min(ratio, 1.1) * _BAR
                top = y + 3 + 13 * place
                body.append(
                    f'<rect x="{x}" y="{top}" width="{long:.1f}" height="11" '
                    f'fill="{_COLOURS[kind]}"/>'
                )
                body.append(_text(x + long + 4, top + 10, f"{ratio:.0%}", "small"))
    style = "text { font: 13px sans-serif; fill: #1b1f24 } .small { font-size: 10px }"
    style += " .ground { fill: #fff } @media (prefers-color-scheme: dark) "
    style += "{ text { fill: #e6edf3 } .ground { fill: #0d1117 } }"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            'aria-label="accesses to L2 and L3 by layer">',
            f"<style>{style}</style>",
            f'<rect class="ground" width="{width}" height="{height}"/>',
            *body,
            "</svg>",
        ]
    )


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{name}>{escape(text)}</text>'


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--kept", action="store_true", help="count nothing anew: write the page")
    options = parser.parse_args()
    host = cpus.host()
    machines = {
        f"The paper's kind of caches: {CPU.geometry}": CPU,
        f"This machine's: {host.geometry}": Cpu("host", host.caches, flags=FLAGS),
    }
    rows: list[Row] = []
    for label, cpu in machines.items():
        for name, work in sorted(layers_of(options.networks.split(",")), key=_size):
            row = measure(name, work, label, cpu, options.peers.split(","), kept=options.kept)
            if row:
                rows.append(row)
                print(name, row.ours, row.peers, file=sys.stderr, flush=True)
    order = [name for name, _ in layers_of(options.networks.split(","))]
    first = next(iter(machines))
    rows.sort(key=lambda row: (row.geometry != first, order.index(row.layer)))
    FIGURE.write_text(picture([row for row in rows if row.geometry == first]), "utf-8")
    (ROOT / "docs" / "cpu-accesses.md").write_text(
        page(rows, [] if options.kept else shares(), order), "utf-8"
    )


def _size(layer: tuple[str, tw.Workload]) -> int:
    return layer[1].macs


if __name__ == "__main__":
    main()
