"""Random layers with random schedules for the convolution block."""

import math
from dataclasses import dataclass
from random import Random

from tilewright.errors import InfeasibleError, InputError
from tilewright.hwc.config import HwcConfig
from tilewright.hwc.convolution import fit_widths
from tilewright.hwc.program import Program, lower
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.workload import Workload, conv2d


@dataclass(frozen=True)
class Case:
    layer: Workload
    mapping: Mapping
    program: Program

    def __str__(self) -> str:
        data = [rank.data for rank in self.layer.operand("I").ranks if rank.data]
        return f"{self.layer.einsum} {self.layer.sizes} data {data}\n{self.mapping}"

    @property
    def kinds(self) -> set[str]:
        """What is special about it."""
        axes = (self.program.convolution.rows, self.program.convolution.columns)
        sizes = self.layer.sizes
        found = {
            "strides": any(axis.stride > 1 for axis in axes),
            "dilation": any(axis.dilation > 1 for axis in axes),
            "padding": any(axis.padding > 0 for axis in axes),
            "groups": sizes.get("G", 1) > 1,
        }
        loops = self.program.loops
        for dim, size in sizes.items():
            covered = math.prod(loop.extent for loop in loops if loop.dim == dim)
            found["clipped"] = found.get("clipped", False) or covered > size
        depths = {operand: sum(operand in loop.outside for loop in loops) for operand in "WIO"}
        found["uneven"] = len(set(depths.values())) > 1
        return {name for name, present in found.items() if present}


def draw_case(random: Random, config: HwcConfig, most_macs: int = 3000) -> Case:
    """A case that the block can run; those that do not fit are drawn anew."""
    while True:
        layer = _draw_layer(random, most_macs)
        if layer is None:
            continue
        layer = fit_widths(layer, config)
        for _ in range(4):
            mapping = _draw_mapping(random, layer, config)
            try:
                return Case(layer, mapping, lower(mapping, layer, config, shift=4))
            except InfeasibleError:
                continue


def _draw_layer(random: Random, most_macs: int) -> Workload | None:
    groups = random.choice([1, 1, 1, 2, 3])
    depthwise = groups > 1 and random.random() < 0.5
    padding = None
    if random.random() < 0.6:
        padding = tuple(random.randint(0, 3) for _ in range(4))
    try:
        layer = conv2d(
            "random",
            N=random.choice([1, 1, 2]),
            G=groups,
            K=1 if depthwise else random.randint(1, 6),
            C=1 if depthwise else random.randint(1, 5),
            P=random.randint(1, 9),
            Q=random.randint(1, 9),
            R=random.choice([1, 2, 3, 3, 5]),
            S=random.choice([1, 2, 3, 3, 4]),
            stride=(random.randint(1, 3), random.randint(1, 3)),
            dilation=(random.choice([1, 1, 2, 3]), random.choice([1, 1, 2])),
            padding=padding,
        )
    except InputError:
        return None
    return layer if layer.macs <= most_macs else None


def _draw_mapping(random: Random, layer: Workload, config: HwcConfig) -> Mapping:
    """Any order of any factors, clipped or not, and a depth of its own for every operand."""
    spatial: tuple[Loop, ...] = ()
    loops: list[Loop] = []
    inmost: list[Loop] = []
    parallel = {"K": config.lanes, "C": config.channels, "Q": config.pixels}
    for dim, size in layer.sizes.items():
        left, lanes = size, parallel.get(dim, 1)
        if lanes > 1 and size > 1 and random.random() < 0.7:
            extent = min(lanes * random.randint(1, 2), random.choice([lanes, lanes, size]))
            if dim == "K" and extent <= lanes:
                spatial = (Loop("K", extent, "x"),)
            else:
                inmost.append(Loop(dim, extent))
            left = math.ceil(size / extent)
        while left > 1:
            extent = random.randint(2, left) if random.random() < 0.7 else left
            if random.random() < 0.5 and left % extent:
                continue
            loops.append(Loop(dim, extent))
            left = math.ceil(left / extent)
        if random.random() < 0.1:
            loops.append(Loop(dim, 2))
    random.shuffle(loops)
    outside = len(loops)
    random.shuffle(inmost)
    loops += inmost
    depths = {operand: random.randint(0, outside) for operand in "WIO"}
    blocks: list[Block] = []
    starts = sorted({0, *depths.values()})
    for number, start in enumerate(starts):
        stop = starts[number + 1] if number + 1 < len(starts) else len(loops)
        kept = tuple(operand for operand in "WIO" if depths[operand] == start)
        own = tuple(loops[start:stop])
        if start == 0:
            blocks.append(Block("DRAM", ("W", "I", "O"), () if kept else own))
        if kept:
            blocks.append(Block("BUF", kept, own))
    last = blocks[-1]
    blocks[-1] = Block(last.memory, last.operands, last.temporal, spatial)
    return Mapping(tuple(blocks))
