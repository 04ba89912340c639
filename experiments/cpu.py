"""Memory accesses of our C programs against im2col with a BLAS, and oneDNN: docs/cpu-accesses.md.

What the paper's last figure shows: accesses to L2 and L3 of a convolution, blocked as a whole,
against a copy and a matrix product. Line fetches from cold caches, in the geometry of the paper's
kind and in this machine's. Ours are counted by the project's simulator, from the addresses of the
program itself, and once more by callgrind (where valgrind is), from its instructions; the others by
callgrind, their AVX2 kernels: valgrind knows no AVX-512, so all here is AVX2.
Run: python -m experiments.cpu [--layers a,b] [--peers openblas,onednn]
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

    `ours` has `fast` and `lean`: made for time, and for few accesses. `predicted` and `checked` (by
    callgrind) are those of the same two.
    """

    layer: str
    taps: int
    depthwise: bool
    geometry: str
    ours: dict[str, Counts]
    predicted: dict[str, Counts]
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


def measure(name: str, work: tw.Workload, label: str, cpu: Cpu, peers: Sequence[str]) -> Row:
    programs = {"fast": made_for(work, cpu, "time"), "lean": made_for(work, cpu, "accesses")}
    ours, predicted, checked = dict[str, Counts](), dict[str, Counts](), dict[str, Counts]()
    for kind, made in programs.items():
        counted = simulate(made, cpu.caches)
        assert counted is not None
        ours[kind] = counted.lines[0], counted.lines[1]
        lines = [part.total_lines for part in made.choice.traffic.caches]
        predicted[kind] = lines[0], lines[1]
        if 2 * work.macs < MOST_TWICE and "openblas" in peers:
            again = count_ours(made, cpu.caches)
            checked |= {kind: again} if again else {}
    found = {peer: count_peer(peer, programs["lean"], cpu.caches) for peer in peers}
    shape = programs["lean"].shape
    theirs = {peer: counts for peer, counts in found.items() if counts}
    return Row(name, shape.taps, shape.per_channel, label, ours, predicted, checked, theirs)


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
