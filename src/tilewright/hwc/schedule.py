"""The schedule of a layer for a block: the one that moves the least, with proof.

Owns: what a block asks of a schedule, as limits of the mapper.

Non-goals: the search (`mapper/block_traffic.py`).
"""

from tilewright.hwc.config import HwcConfig
from tilewright.ir.workload import Workload
from tilewright.mapper.block_traffic import BlockTraffic, Limits, least_block_traffic

SUM_WEIGHT = 2
"""Ports are 16 bits wide in what is reported: a sum of 32 bits counts for two words."""


def find_schedule(
    layer: Workload, config: HwcConfig, *, seconds: float | None = None
) -> BlockTraffic | None:
    """Find the schedule that moves the fewest words of 16 bits, sums counted as two.

    Of those that keep every multiplier at work: tiles hold whole groups of the array's channels.

    Args:
        layer: with the block's word sizes (`fit_widths`).
        config: the block.
        seconds: stop after about that long.

    Returns: `None` if the layer is a single multiplication, or the time ran out at once.

    Raises: `InputError` for a layer that the proof does not cover.

    Source: `docs/traffic.md`, `docs/hwc.md`.
    """
    usable = config.usable_words
    limits = Limits(
        rooms=usable,
        reaches={"P": config.rows, "Q": config.columns},
        granules={"K": config.lanes},
    )
    return least_block_traffic(
        layer, config.to_hardware(), limits, sum_weight=SUM_WEIGHT, seconds=seconds
    )
