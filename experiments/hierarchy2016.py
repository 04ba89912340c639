"""DianNao and hierarchies designed in its place; writes docs/hierarchy2016.md and its figures.

The blocking paper of 2016 re-blocks DianNao and designs hierarchies of 1 MB and 8 MB for its
benchmark layers and for networks. Here the same is asked of `design`: what is least, on a stated
grid, in energy; one hierarchy for all layers of a network, and one for each layer. The paper's
figures stand beside ours as recalled, not as its own.
"""

import argparse
import math
import multiprocessing
import platform
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

import numba
import numpy as np

import tilewright
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.quantity import format_bytes
from tilewright.ir.workload import Layer, Network, Workload
from tilewright.mapper.design import (
    KIB,
    DesignGrid,
    DesignPoint,
    DesignResult,
    Known,
    design_hierarchy,
)
from tilewright.mapper.layer import find_mapping
from tilewright.mapper.result import LayerResult, Status
from tilewright.model.cost import Cost
from tilewright.model.evaluate import evaluate
from tilewright.report.design import draw_points
from tilewright.tech import find_technology
from tilewright.zoo import load_hardware, load_network

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "hierarchy2016.md"
FIGURES = ROOT / "docs" / "figures"

NETWORKS = ("yang2016", "alexnet", "vgg16")
BUDGETS_KIB = (1024, 8192)
PAPER = {1024: ("about 10×", "about 6×"), 8192: ("about 13×", "about 45×")}
"""By KiB: memory energy below DianNao's, and area, as recalled."""
GRID_KIB = (1, 4, 16, 64, 256, 1024, 4096)
ABOVE_KIB = 64
"""So much above the round budget an inner level may lie."""
AREA_TABLE = "fitted45"
LAYER_SHARE = 0.7
"""Of the time, for DianNao and for each layer's own hierarchies; the rest is for shared ones."""


@dataclass(frozen=True, slots=True)
class Alone:
    """One layer: on DianNao, blocked plainly and best, and on its own hierarchy of each budget."""

    network: str
    repeat: int
    plain: Cost
    best: LayerResult
    designs: tuple[DesignResult, ...]
    known: Known = field(repr=False)

    @property
    def name(self) -> str:
        return self.best.workload.name


@dataclass(frozen=True, slots=True)
class Study:
    """A network: its layers by themselves, and the hierarchy of each budget for all of them."""

    name: str
    layers: tuple[Alone, ...]
    shared: tuple[DesignResult, ...]


def memory_pj(cost: Cost | None) -> float:
    return math.nan if cost is None else math.fsum(level.energy_pj for level in cost.levels)


def memory_area(hardware: Hardware) -> float:
    """The area of the on-chip memories, in mm²: the energies' table knows none."""
    table = find_technology(AREA_TABLE)
    return math.fsum(table.memory_mm2(level.usable_bits()) or 0.0 for level in hardware.levels[1:])


def plain_mapping(workload: Workload, chip: Hardware) -> Mapping:
    """A blocking without a search: a result at a time per adder tree, everything from DRAM.

    Only sums stay on the chip; the array is as full as divisors allow.
    """
    fanout, sizes = chip.levels[-1].fanout, workload.sizes
    spread = [
        Loop(dim, _divisor(sizes[dim], fanout.extent(axis)), axis)
        for axis in ("x", "y")
        for dim in fanout.allowed_dims(axis) or ()
        if dim in sizes
    ]
    inside = {loop.dim: loop.extent for loop in spread}
    last = [dim for dim in sizes if dim not in workload.output.dims]
    order = [dim for dim in sizes if dim not in last] + last
    loops = tuple(
        Loop(d, sizes[d] // inside.get(d, 1)) for d in order if sizes[d] > inside.get(d, 1)
    )
    names = [operand.name for operand in workload.operands]
    blocks = [Block(chip.levels[0].memory, tuple(names), loops)]
    for level in chip.levels[1:]:
        kept = tuple(name for name in names if level.may_keep(name))
        inner = tuple(spread) if level is chip.levels[-1] else ()
        blocks.append(Block(level.memory, kept, tuple(x for x in inner if x.extent > 1)))
    return Mapping(tuple(blocks))


def _divisor(size: int, most: int) -> int:
    return max(d for d in range(1, most + 1) if size % d == 0)


def grid_of(budget_kib: int) -> DesignGrid:
    sizes = tuple(KIB * kib for kib in GRID_KIB if kib <= budget_kib)
    return DesignGrid((1, 2), sizes, capacity_bits=(budget_kib + ABOVE_KIB) * KIB)


def study_layer(network: str, layer: Layer, seconds: float) -> Alone:
    """DianNao with half of the time, then both budgets with what is left, for one layer."""
    work, chip = layer.workload, load_hardware("diannao")
    ends = time.monotonic() + seconds
    known: Known = {}
    plain = evaluate(work, chip, plain_mapping(work, chip))
    best = find_mapping(work, chip, seconds=seconds / 2).repeated(layer.repeat)
    if best.cost is None or best.cost.energy_pj > plain.energy_pj:
        best = replace(best, cost=plain)  # the search was cut short
    designs: list[DesignResult] = []
    for left, kib in zip((2, 1), BUDGETS_KIB, strict=True):
        share = max(1.0, (ends - time.monotonic()) / left)
        alone = Network(work.name, (Layer(work),))
        designs.append(design_hierarchy(alone, grid_of(kib), chip, seconds=share, known=known))
    gaps = [_proof(design.gap) for design in designs]
    print(f"{network}:{work.name}: DianNao {_proof(best.gap)}, own {', '.join(gaps)}", flush=True)
    return Alone(network, layer.repeat, plain, best, tuple(designs), known)


def study_shared(network: Network, known: Known, seconds: float) -> tuple[DesignResult, ...]:
    """The hierarchy of each budget for all layers, each with half of the time."""
    chip = load_hardware("diannao")
    found = [
        design_hierarchy(network, grid_of(kib), chip, seconds=seconds / 2, known=known)
        for kib in BUDGETS_KIB
    ]
    said = (f"{d.best and d.best.hierarchy} {_proof(d.gap)}" for d in found)
    print(f"{network.name}: {', '.join(said)}", flush=True)
    return tuple(found)


def run(networks: Sequence[Network], seconds: float, jobs: int) -> list[Study]:
    """Layers side by side, then networks side by side: what is known of layers is used again."""
    context = multiprocessing.get_context("spawn")
    began = time.monotonic()
    with ProcessPoolExecutor(jobs, context) as pool:
        alone = _layers(pool, networks, began + seconds * LAYER_SHARE, jobs)
        mine = [
            [alone[network.name, layer.workload.name] for layer in network.layers]
            for network in networks
        ]
        left = max(30.0, began + seconds - time.monotonic())
        each = left * min(jobs, len(networks)) / len(networks)
        asked = [
            pool.submit(study_shared, network, _merged(part), each)
            for network, part in zip(networks, mine, strict=True)
        ]
        return [
            Study(network.name, tuple(part), future.result())
            for network, part, future in zip(networks, mine, asked, strict=True)
        ]


def _layers(
    pool: ProcessPoolExecutor, networks: Sequence[Network], ends: float, jobs: int
) -> dict[tuple[str, str], Alone]:
    """All layers, small ones first: the time that they leave is for the others."""
    waiting = [(network.name, layer) for network in networks for layer in network.layers]
    waiting.sort(key=lambda pair: -pair[1].workload.macs)
    running: set[Future[Alone]] = set()
    found: dict[tuple[str, str], Alone] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            share = (ends - time.monotonic()) * jobs / (len(waiting) + len(running))
            name, layer = waiting.pop()
            running.add(pool.submit(study_layer, name, layer, max(3.0, share)))
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            one = future.result()
            found[one.network, one.name] = one
    return found


def _merged(layers: list[Alone]) -> Known:
    found: Known = {}
    for layer in layers:
        found |= layer.known
    return found


HEAD = """# Hierarchies in DianNao's place

The blocking paper of 2016 (arXiv 1606.04209) re-blocks DianNao and designs memories in its place.
Written by `make hierarchy`. Everything of the paper here is **as recalled**: layers, energies per
access, results. Energies are those of memories only, areas those of on-chip memories only, by
`fitted45`, whatever the width of a word.

*Blocked plainly*: a blocking of **ours** without a search, one result at a time per adder tree and
only sums kept; the paper's baseline is not known to us. *Re-blocked*: the best mapping on DianNao
as built. *Designed*: one or two levels of powers of four from 1 KiB above DianNao's 16 × 16 MACs,
for all layers of the network (*shared*) or for each layer by itself (*own*). *Proved*: no mapping,
and for designs no hierarchy of the grid, takes less energy, MACs included; *≤ x %* says by how much
the energy could at most be less.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One way to run a network: memory energy by layer, once, and by memory, all; what is proved.

    `gap` is by what share energy could at most be less, MACs included.
    """

    name: str
    results: tuple[Cost, ...]
    repeats: tuple[int, ...]
    area_mm2: float | None
    gap: float | None

    @property
    def pj(self) -> float:
        pairs = zip(self.results, self.repeats, strict=True)
        return math.fsum(memory_pj(cost) * repeat for cost, repeat in pairs)

    def by_memory(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for cost, repeat in zip(self.results, self.repeats, strict=True):
            for level in cost.levels:
                found[level.memory] = found.get(level.memory, 0.0) + repeat * level.energy_pj
        return found


def lines_of(study: Study) -> list[Line]:
    repeats = tuple(layer.repeat for layer in study.layers)
    area = memory_area(load_hardware("diannao"))
    plain = tuple(layer.plain for layer in study.layers)
    best = tuple(_cost(layer.best) for layer in study.layers)
    found = [
        Line("DianNao, blocked plainly (ours)", plain, repeats, area, None),
        Line("DianNao, re-blocked", best, repeats, area, _gap_of([x.best for x in study.layers])),
    ]
    for place, kib in enumerate(BUDGETS_KIB):
        shared = study.shared[place]
        if shared.best is not None:
            costs = tuple(_cost(result) for result in shared.best.layers)
            name = f"{kib // 1024} MB, shared: {shared.best.hierarchy}"
            found.append(Line(name, costs, repeats, memory_area(shared.best.hardware), shared.gap))
        own = [layer.designs[place] for layer in study.layers]
        points = [design.best for design in own if design.best is not None]
        if len(points) == len(own):
            costs = tuple(_cost(point.layers[0]) for point in points)
            name = f"{kib // 1024} MB, each layer its own"
            found.append(Line(name, costs, repeats, None, _gap_of_designs(own, repeats)))
    return found


def _cost(result: LayerResult) -> Cost:
    assert result.cost is not None
    return result.cost


def _gap_of(results: list[LayerResult]) -> float:
    value = math.fsum(_cost(x).energy_pj * x.repeat for x in results)
    return max(0.0, 1 - math.fsum((x.lower_bound or 0.0) * x.repeat for x in results) / value)


def _gap_of_designs(designs: list[DesignResult], repeats: tuple[int, ...]) -> float:
    pairs = list(zip(designs, repeats, strict=True))
    value = math.fsum((design.value or 0.0) * repeat for design, repeat in pairs)
    return max(0.0, 1 - math.fsum(d.lower_bound * repeat for d, repeat in pairs) / value)


def _proof(gap: float | None) -> str:
    if gap is None:
        return "not searched"
    return "proved" if gap < 1e-9 else f"≤ {gap:.1%}"


def _short(pj: float) -> str:
    return f"{pj / 1e9:.4g}"


def page(studies: list[Study], took: float, how: str) -> str:
    parts = [HEAD.rstrip(), "\n".join(_beside_the_paper(studies))]
    parts += ["\n".join(_section(study)) for study in studies]
    parts.append("\n".join(_searched(studies)))
    parts.append(
        f"Made by tilewright {tilewright.__version__} with Python {platform.python_version()}, "
        f"NumPy {np.__version__} and\nNumba {numba.__version__} on {platform.machine()} in "
        f"{took:.0f} s ({how}).\nNothing is random but the fallback of a search that finds nothing "
        "in time, with seed 0."
    )
    return "\n\n".join(parts) + "\n"


def _beside_the_paper(studies: list[Study]) -> Iterator[str]:
    yield "## Beside the paper"
    yield ""
    lines = {study.name: lines_of(study) for study in studies}
    head = "| budget | against | paper (as recalled) | " + " | ".join(lines) + " |"
    yield from [head, "|---|---|---|" + "---|" * len(lines)]
    for kib in BUDGETS_KIB:
        for base, words in ((0, "blocked plainly"), (1, "re-blocked")):
            for kind in ("shared", "each layer"):
                cells = [
                    next(
                        (
                            f"{rows[base].pj / row.pj:.1f}×"
                            for row in rows[2:]
                            if row.name.startswith(f"{kib // 1024} MB, {kind}")
                        ),
                        "–",
                    )
                    for rows in lines.values()
                ]
                said = f"{PAPER[kib][0]} less"
                yield (
                    f"| {kib // 1024} MB, {kind}{'' if kind == 'shared' else ' its own'} "
                    f"| energy less than DianNao, {words} | {said} | {' | '.join(cells)} |"
                )
        areas = [
            next(
                (
                    f"{row.area_mm2 / (rows[0].area_mm2 or 1.0):.1f}×"
                    for row in rows[2:]
                    if row.area_mm2 is not None and row.name.startswith(f"{kib // 1024} MB")
                ),
                "–",
            )
            for rows in lines.values()
        ]
        yield (
            f"| {kib // 1024} MB, shared | area of memories, DianNao's | {PAPER[kib][1]} "
            f"| {' | '.join(areas)} |"
        )


def _section(study: Study) -> Iterator[str]:
    lines = lines_of(study)
    start = lines[1].pj
    names = [layer.name for layer in study.layers]
    yield f"## {study.name}"
    yield ""
    yield f"Layers: {', '.join(names)}; summed as often as they occur."
    yield "" if study.name != "yang2016" else "LRN has no einsum and is left out.\n"
    yield "| | memory energy, mJ | × less than re-blocked | area, mm² | energy |"
    yield "|---|---|---|---|---|"
    for line in lines:
        area = "–" if line.area_mm2 is None else f"{line.area_mm2:.3f}"
        yield (
            f"| {line.name} | {_short(line.pj)} | {start / line.pj:.2f} | {area} "
            f"| {_proof(line.gap)} |"
        )
    yield ""
    yield "By memory, mJ:"
    yield ""
    for line in lines:
        parts = ", ".join(f"{memory} {_short(pj)}" for memory, pj in line.by_memory().items())
        yield f"- {line.name}: {parts}"
    yield ""
    yield from _by_layer(study, lines)
    yield ""
    yield f"![energy against area](figures/hierarchy2016-{study.name}.svg)"


def _by_layer(study: Study, lines: list[Line]) -> Iterator[str]:
    yield "By layer, memory energy in mJ, once:"
    yield ""
    heads = [line.name.split(":")[0] for line in lines]
    budgets = [f"own, {kib // 1024} MB" for kib in BUDGETS_KIB]
    yield f"| layer | × | {' | '.join(heads)} | re-blocked | {' | '.join(budgets)} |"
    yield "|---|---|" + "---|" * (len(heads) + 1 + len(budgets))
    for place, layer in enumerate(study.layers):
        cells = [_short(memory_pj(line.results[place])) for line in lines]
        own = [
            f"{design.best and design.best.hierarchy}, {_proof(design.gap)}"
            for design in layer.designs
        ]
        row = [layer.name, str(layer.repeat), *cells, _proof(layer.best.gap), *own]
        yield f"| {' | '.join(row)} |"


def _searched(studies: list[Study]) -> Iterator[str]:
    yield "## What was searched"
    yield ""
    for place, kib in enumerate(BUDGETS_KIB):
        grid = grid_of(kib)
        sizes = ", ".join(format_bytes(bits) for bits in sorted(grid.capacities))
        count = studies[0].layers[0].designs[place].candidates
        own = [layer.designs[place] for study in studies for layer in study.layers]
        proved = sum(design.status is Status.OPTIMAL for design in own)
        shared = sum(study.shared[place].status is Status.OPTIMAL for study in studies)
        yield (
            f"- {kib // 1024} MB (and {ABOVE_KIB} KiB, so that an inner level fits beside the "
            f"outer one): one or two levels of {sizes}, {count} hierarchies. Proved least: "
            f"{proved} of {len(own)} layers' own, {shared} of {len(studies)} shared."
        )
    every = [layer.best for study in studies for layer in study.layers]
    proved = sum(result.status is Status.OPTIMAL for result in every)
    yield f"- DianNao re-blocked: {proved} of {len(every)} layers proved."
    yield ""
    yield "A word is as wide as the table's widest, whose energy per bit is least, and partly used"
    yield "words are not charged more. What is not proved was cut short by the time given"
    yield "(`--seconds`)."


def picture(study: Study) -> str:
    results = study.shared
    every = {point.hierarchy: point for result in results for point in result.points}
    front: list[DesignPoint] = []
    for point in sorted(every.values(), key=lambda p: (p.area_mm2 or 0.0, p.energy_pj)):
        if not front or point.energy_pj < front[-1].energy_pj:
            front.append(point)
    title = f"{study.name} (as recalled)" if study.name == "yang2016" else study.name
    return draw_points(
        f"{title}: energy of hierarchies", list(every.values()), front, results[-1].best
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=840.0, help="for all together")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    told = parser.parse_args()
    began = time.monotonic()
    names = told.networks.split(",")
    networks = [load_network(name) for name in names]
    find_mapping(networks[0].layers[-1].workload, load_hardware("diannao"), seconds=1.0)  # compile
    studies = run(networks, told.seconds, told.jobs)
    FIGURES.mkdir(exist_ok=True)
    for study in studies:
        if study.shared[-1].best is not None:
            path = FIGURES / f"hierarchy2016-{study.name}.svg"
            path.write_text(picture(study), encoding="utf-8")
    how = f"{told.seconds:g} s asked for, {told.jobs} processes"
    PAGE.write_text(page(studies, time.monotonic() - began, how), encoding="utf-8")


if __name__ == "__main__":
    main()
