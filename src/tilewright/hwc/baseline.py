"""The baseline: a block of the class of HWCE, which sends partial sums through memory.

For every group of n output channels and every input channel it streams the input plane through a
line buffer and reads and writes the sums of n planes. That is one fixed nest, so the baseline is
this block's own RTL with HWCE's buffers (filter rows of input, n filters, n sums) and that nest:
its words are counted by the same ports.

Owns: the baseline's configuration and mapping, and the formula that its words must obey.
"""

from math import ceil, prod

from tilewright.hwc.config import HwcConfig
from tilewright.hwc.convolution import Convolution
from tilewright.ir.mapping import Mapping, parse_mapping

PLANES = (1, 2, 3, 4)
"""Output planes that a baseline works on at once."""

CONFIG = HwcConfig(
    "hwce", input_words=4096, weight_words=512, sum_words=4, doubled="", rows=64, columns=256
)
"""Buffers for four filters of up to 11×11 and eleven rows of 256 words."""


def baseline_mapping(convolution: Convolution, planes: int) -> Mapping:
    """The nest of a baseline with so many output planes."""
    size = convolution.sizes
    present = [dim for dim in ("N", "G") if size[dim] > 1]
    outer = [f"{dim}{size[dim]}" for dim in present]
    groups = ceil(size["K"] / planes)
    return parse_mapping(
        f"DRAM[W I O]: {' '.join(outer)} K{groups} C{size['C']}\n"
        f"BUF[W]: P{size['P']}\n"
        f"BUF[I]: Q{size['Q']}\n"
        f"BUF[O]: K{planes} R{size['R']} S{size['S']}",
        "baseline",
    )


def baseline_words(convolution: Convolution, planes: int) -> dict[str, int]:
    """Words on the baseline's ports by the formula, without running it.

    Sums are counted as one word here. Holds for filters without dilation whose windows leave no
    row or column of the input out.

    Source: `docs/spec/papers.md`, B.
    """
    size = convolution.sizes
    results = prod(convolution.shape("O"))
    plane = convolution.rows.length * convolution.columns.length
    channels = size["N"] * size["G"] * size["C"]
    return {
        "I": channels * ceil(size["K"] / planes) * plane,
        "W": size["N"] * prod(convolution.shape("W")),
        "O": (2 * size["C"] - 1) * results,
    }


def baseline_words_16(convolution: Convolution, planes: int) -> int:
    """All of them in words of 16 bits: a sum is two, a result one."""
    words = baseline_words(convolution, planes)
    return sum(words.values()) + words["O"] - prod(convolution.shape("O"))
