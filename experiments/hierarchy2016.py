"""DianNao and hierarchies designed in its place; writes docs/hierarchy2016.md and its figure.

The blocking paper of 2016 re-blocks DianNao and designs hierarchies of 1 MB and 8 MB for its
benchmark layers. Here the same is asked of `design`: what is least, on a stated grid, in memory
energy. The paper's figures stand beside ours as recalled, not as its own.
"""

import argparse
import math
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tilewright
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.quantity import format_bytes
from tilewright.ir.workload import Layer, Network, Workload
from tilewright.mapper.design import (
    KIB,
    DesignGrid,
    DesignPoint,
    DesignProgress,
    DesignResult,
    design_hierarchy,
)
from tilewright.mapper.layer import find_mapping
from tilewright.mapper.result import Status
from tilewright.model.cost import Cost
from tilewright.model.evaluate import evaluate
from tilewright.report.design import draw_points
from tilewright.tech import find_technology
from tilewright.zoo import load_hardware, load_network

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "hierarchy2016.md"
PICTURE = ROOT / "docs" / "figures" / "hierarchy2016.svg"

BENCHMARK = ("Conv5", "FC1", "FC2", "Pool")
BUDGETS_KIB = (1024, 8192)
PAPER = {1024: ("about 10×", "about 6×"), 8192: ("about 13×", "about 45×")}
"""By KiB: memory energy below DianNao's, and area, as recalled."""
GRID_KIB = tuple(4**n for n in range(6))
AREA_TABLE = "fitted45"


@dataclass(frozen=True, slots=True)
class Spent:
    """Memory energy of the benchmark, in pJ: by memory, and of all."""

    name: str
    by_memory: dict[str, float]
    by_layer: dict[str, float]
    area_mm2: float
    proved: bool

    @property
    def memory_pj(self) -> float:
        return math.fsum(self.by_memory.values())


def spent(name: str, costs: list[tuple[int, Cost]], area_mm2: float, *, proved: bool) -> Spent:
    by_memory: dict[str, float] = {}
    by_layer: dict[str, float] = {}
    for repeat, cost in costs:
        for level in cost.levels:
            pj = repeat * level.energy_pj
            by_memory[level.memory] = by_memory.get(level.memory, 0.0) + pj
            layer = cost.workload.name
            by_layer[layer] = by_layer.get(layer, 0.0) + pj
    return Spent(name, by_memory, by_layer, area_mm2, proved)


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


def diannao(network: Network) -> tuple[Spent, Spent]:
    """DianNao's buffers, blocked plainly and blocked best."""
    chip = load_hardware("diannao")
    area, proved = memory_area(chip), True
    plain: list[tuple[int, Cost]] = []
    best: list[tuple[int, Cost]] = []
    for layer in network.layers:
        work = layer.workload
        plain.append((layer.repeat, evaluate(work, chip, plain_mapping(work, chip))))
        found = find_mapping(work, chip)
        assert found.cost is not None
        proved &= found.status is Status.OPTIMAL
        best.append((layer.repeat, found.cost))
    return (
        spent("DianNao, blocked plainly", plain, area, proved=False),
        spent("DianNao, re-blocked", best, area, proved=proved),
    )


def designed(
    network: Network, budget_kib: int, seconds: float, say: Callable[[str], None]
) -> DesignResult:
    sizes = tuple(KIB * kib for kib in (*GRID_KIB, 4096) if kib <= budget_kib)
    grid = DesignGrid((1, 2), sizes, capacity_bits=(budget_kib + 64) * KIB)

    def tell(now: DesignProgress) -> None:
        say(
            f"{budget_kib} KiB: {now.solved} layers mapped, "
            f"{now.excluded} of {now.candidates} hierarchies excluded"
        )

    base = load_hardware("diannao")
    return design_hierarchy(network, grid, base, seconds=seconds, on_progress=tell)


def of_design(result: DesignResult) -> Spent:
    best = result.best
    assert best is not None
    name = f"designed, {best.hierarchy}"
    costs = [(layer.repeat, layer.cost) for layer in best.layers if layer.cost is not None]
    return spent(name, costs, memory_area(best.hardware), proved=result.status is Status.OPTIMAL)


def page(results: list[DesignResult], rows: list[Spent], named: list[str], took: float) -> str:
    start = rows[1]
    left_out = [x.workload.name for x in load_network("yang2016").layers]
    left_out = [name for name in left_out if name not in named]
    lines = [
        "# Hierarchies in DianNao's place",
        "",
        "The blocking paper of 2016 (arXiv 1606.04209) re-blocks DianNao and designs memories in",
        "its place. Written by `make hierarchy`. Everything of the paper here is **as recalled**:",
        "layers, energies per access, results. Energies of memories only; areas of on-chip",
        f"memories only, by `{AREA_TABLE}`, whatever the width of a word.",
        "",
        f"Layers: {', '.join(named)} of `yang2016`, summed. Left out for time:",
        f"{', '.join(left_out)}, AlexNet and VGG-16. LRN has no einsum.",
        "",
        "| | memory energy | × less than re-blocked | area of memories | × its area | proved |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio, area = start.memory_pj / row.memory_pj, row.area_mm2 / start.area_mm2
        proved = "yes" if row.proved else "no"
        lines.append(
            f"| {row.name} | {row.memory_pj / 1e9:.3f} mJ | {ratio:.2f} | {row.area_mm2:.3f} mm² "
            f"| {area:.1f} | {proved} |"
        )
    lines += ["", "## Beside the paper", ""]
    lines += ["| budget | energy, paper (as recalled) | ours | area, paper (as recalled) | ours |"]
    lines += ["|---|---|---|---|---|"]
    for kib, row in zip(BUDGETS_KIB, rows[2:], strict=False):
        energy, area = PAPER[kib]
        lines.append(
            f"| {kib // 1024} MB | {energy} less "
            f"| {rows[0].memory_pj / row.memory_pj:.1f}× less than blocked plainly, "
            f"{start.memory_pj / row.memory_pj:.1f}× than re-blocked "
            f"| {area} | {row.area_mm2 / start.area_mm2:.1f}× |"
        )
    lines += ["", "## Energy by memory, mJ", ""]
    for row in rows:
        parts = ", ".join(f"{memory} {pj / 1e9:.3f}" for memory, pj in row.by_memory.items())
        lines.append(f"- {row.name}: {parts}")
    lines += ["", "## Memory energy by layer, mJ", "", "| | " + " | ".join(named) + " |"]
    lines += ["|---|" + "---|" * len(named)]
    for row in rows:
        cells = " | ".join(f"{row.by_layer[name] / 1e9:.4g}" for name in named)
        lines.append(f"| {row.name} | {cells} |")
    lines += ["", "Times less than re-blocked, layer by layer:", ""]
    lines += [f"- {row.name}: {_ratios(row, start, named)}" for row in rows[2:]]
    lines += [
        "",
        "The sum is held up by FC1, FC2 and Pool, which move hardly more than every word once",
    ]
    lines += ["off the chip even on DianNao: memories on the chip can save little there."]
    lines += ["", "## What was searched", ""]
    lines += [said for result in results for said in _searched(result)]
    lines += ["", "![energy against area](figures/hierarchy2016.svg)", "", *_caveats(), ""]
    lines += [
        f"Made by tilewright {tilewright.__version__} on {platform.machine()} in {took:.0f} s."
    ]
    return "\n".join(lines) + "\n"


def _ratios(row: Spent, start: Spent, named: list[str]) -> str:
    pairs = ((name, start.by_layer[name] / row.by_layer[name]) for name in named)
    return ", ".join(f"{name} {ratio:.2f}" for name, ratio in pairs)


def _searched(result: DesignResult) -> Iterator[str]:
    sizes = ", ".join(format_bytes(bits) for bits in sorted(result.grid.capacities))
    end = "proved least of them"
    if result.status is not Status.OPTIMAL:
        end = f"best found; the least of them is at most {result.gap or 0.0:.1%} lower"
    yield (
        f"- up to {format_bytes(result.grid.capacity_bits or 0)}: one or two levels of {sizes}, "
        f"{result.candidates} hierarchies, of which {len(result.points)} were mapped: {end} "
        "(energy of MACs included)"
    )


def _caveats() -> list[str]:
    return [
        "What differs from the paper: the hierarchy is shared by all layers, not one for each;",
        "the budget has 64 KiB above the round figure, so that an inner level fits beside the",
        "outer one; the plain blocking is ours (one result a time per adder tree, nothing but sums",
        "kept), the paper's baseline is not known to us; levels are powers of four; a word is as",
        "wide as the table's widest, whose energy per bit is least, and partly used words are not",
        "charged more.",
    ]


def points_of(results: list[DesignResult]) -> tuple[list[DesignPoint], list[DesignPoint]]:
    every = {point.hierarchy: point for result in results for point in result.points}
    front: list[DesignPoint] = []
    for point in sorted(every.values(), key=lambda p: (p.area_mm2 or 0.0, p.energy_pj)):
        if not front or point.energy_pj < front[-1].energy_pj:
            front.append(point)
    return list(every.values()), front


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=90.0, help="for each of the two designs")
    parser.add_argument("--layers", default=",".join(BENCHMARK), help="of yang2016")
    told = parser.parse_args()
    began, named = time.monotonic(), told.layers.split(",")
    whole = load_network("yang2016")
    layers = tuple(Layer(layer.workload) for layer in whole.layers if layer.workload.name in named)
    network = Network("yang2016", layers)
    rows = list(diannao(network))
    results = [designed(network, kib, told.seconds, print) for kib in BUDGETS_KIB]
    rows += [of_design(result) for result in results]
    points, front = points_of(results)
    title = "Benchmark layers of 2016 (as recalled): energy of hierarchies"
    PICTURE.write_text(draw_points(title, points, front, results[-1].best), encoding="utf-8")
    PAGE.write_text(page(results, rows, named, time.monotonic() - began), encoding="utf-8")


if __name__ == "__main__":
    main()
