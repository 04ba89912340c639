"""The schedule of a layer for a block: the one that moves the least, with proof.

Owns: what a block asks of a schedule, as limits of the mapper; choosing, among schedules that move
the same, one whose tiles move seldom.

Non-goals: the search (`mapper/block_traffic.py`).
"""

from dataclasses import replace
from itertools import chain
from math import prod

from tilewright.errors import InfeasibleError
from tilewright.hwc.config import HwcConfig
from tilewright.hwc.program import lower
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.nest import flatten
from tilewright.ir.workload import Workload
from tilewright.mapper.block_traffic import (
    BlockTraffic,
    Limits,
    least_block_traffic,
    weighted_words,
)
from tilewright.model.cost import Cost
from tilewright.model.evaluate import Evaluator, make_evaluator

SUM_WEIGHT = 2
"""Ports are 16 bits wide in what is reported: a sum of 32 bits counts for two words."""


def find_schedule(
    layer: Workload, config: HwcConfig, *, seconds: float | None = None
) -> BlockTraffic | None:
    """Find the schedule that moves the fewest words of 16 bits, sums counted as two.

    Of those that keep every multiplier at work: tiles hold whole groups of the array's channels.
    Of the schedules that move the same, one with large tiles: each tile takes time to begin.

    Args:
        layer: with the block's word sizes (`fit_widths`).
        config: the block.
        seconds: stop after about that long.

    Returns: `None` if the layer is a single multiplication, or the time ran out at once.

    Raises: `InputError` for a layer that the proof does not cover.

    Source: `docs/traffic.md`, `docs/hwc.md`.
    """
    tiles = 1 + ("I" in config.doubled)
    limits = Limits(
        rooms=config.usable_words,
        reaches={"P": config.rows // tiles, "Q": config.columns // tiles},
        granules={"K": config.lanes, "C": config.channels, "Q": config.pixels},
    )
    hardware = config.to_hardware()
    found = least_block_traffic(layer, hardware, limits, sum_weight=SUM_WEIGHT, seconds=seconds)
    if found is None:
        return None
    return replace(found, cost=_widen(found.cost, layer, config))


def _widen(cost: Cost, layer: Workload, config: HwcConfig) -> Cost:
    """The same nest with every tile kept as far out as fits and costs no word more."""
    hardware = config.to_hardware()
    evaluator = make_evaluator(layer, hardware)
    nest = flatten(cost.mapping, hardware)
    loops = [Loop(loop.dim, loop.extent) for loop in nest.loops]
    depths = {operand: stores[-1].depth for operand, stores in nest.stores.items()}
    for operand in ("I", "W", "O"):
        for depth in range(depths[operand]):
            wider = _try(_write(loops, depths | {operand: depth}), cost, config, evaluator)
            if wider is not None:
                cost, depths[operand] = wider, depth
                break
    return cost


def _try(mapping: Mapping, cost: Cost, config: HwcConfig, evaluator: Evaluator) -> Cost | None:
    """The cost of a mapping, if the block runs it with as few words and as many multipliers."""
    layer = evaluator.workload
    try:
        program, before = (lower(each, layer, config) for each in (mapping, cost.mapping))
        found = evaluator.price(mapping)
    except InfeasibleError:
        return None
    fewer = prod(program.steps.values()) < prod(before.steps.values())
    words, known = (weighted_words(each, layer, SUM_WEIGHT) for each in (found, cost))
    return None if fewer or words > known else found


def _write(loops: list[Loop], depths: dict[str, int]) -> Mapping:
    """The mapping with each operand's block at a depth of the nest."""
    places = sorted({0, *depths.values()})
    blocks: list[Block] = []
    for start, stop in zip(places, chain(places[1:], [len(loops)]), strict=True):
        own = tuple(loops[start:stop])
        kept = tuple(operand for operand in "WIO" if depths[operand] == start)
        if start == 0:
            blocks.append(Block("DRAM", ("W", "I", "O"), () if kept else own))
        if kept:
            blocks.append(Block("BUF", kept, own))
    return Mapping(tuple(blocks))
