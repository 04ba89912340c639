"""A plain integer convolution, to compare the block's results with.

Owns: random images and filters, and what must come out. It shares nothing with the block, its
program or the model: it does not know of tiles.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.hwc.convolution import Convolution

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tensors:
    """The operands in memory, flat.

    Attributes:
        inputs: shape N·G·C·rows·columns.
        weights: shape G·K·C·R·S.
        biases: shape G·K, of 32 bits.
    """

    inputs: Words
    weights: Words
    biases: Words


def random_tensors(convolution: Convolution, bits: int, seed: int) -> Tensors:
    """Full-range random words."""
    source = np.random.default_rng(seed)
    low, high = -(1 << (bits - 1)), 1 << (bits - 1)

    def draw(operand: str) -> Words:
        return source.integers(low, high, size=int(np.prod(convolution.shape(operand))))

    channels = convolution.sizes["G"] * convolution.sizes["K"]
    images, filters = draw("I"), draw("W")
    return Tensors(images, filters, source.integers(-(1 << 30), 1 << 30, size=channels))


def convolve(convolution: Convolution, tensors: Tensors) -> Words:
    """The sums, of shape N·G·K·P·Q flat, wrapped to 32 bits as the block's adders do."""
    size, rows, columns = convolution.sizes, convolution.rows, convolution.columns
    image = tensors.inputs.reshape(convolution.shape("I"))
    filters = tensors.weights.reshape(convolution.shape("W"))
    height = rows.stride * (size["P"] - 1) + rows.dilation * (size["R"] - 1) + 1
    width = columns.stride * (size["Q"] - 1) + columns.dilation * (size["S"] - 1) + 1
    shape = (*image.shape[:3], max(height, rows.padding + rows.length),
             max(width, columns.padding + columns.length))  # fmt: skip
    padded = np.zeros(shape, dtype=np.int64)
    padded[
        ...,
        rows.padding : rows.padding + rows.length,
        columns.padding : columns.padding + columns.length,
    ] = image
    total = np.zeros(convolution.shape("O"), dtype=np.int64)
    for r in range(size["R"]):
        for s in range(size["S"]):
            y, x = r * rows.dilation, s * columns.dilation
            window = padded[
                ...,
                y : y + rows.stride * (size["P"] - 1) + 1 : rows.stride,
                x : x + columns.stride * (size["Q"] - 1) + 1 : columns.stride,
            ]
            total += np.einsum("ngcpq,gkc->ngkpq", window, filters[..., r, s])
    return _wrap(total.ravel())


def add_biases(convolution: Convolution, sums: Words, biases: Words) -> Words:
    """Add each output channel's bias, wrapped to 32 bits."""
    size = convolution.sizes
    shape = (size["N"], size["G"] * size["K"], size["P"] * size["Q"])
    return _wrap((sums.reshape(shape) + biases[None, :, None]).ravel())


def requantise(sums: Words, *, bits: int, shift: int, relu: bool) -> Words:
    """Shift right, rounding half up; cut off below 0 if asked; saturate."""
    half = (1 << shift) >> 1
    low = 0 if relu else -(1 << (bits - 1))
    return np.clip((sums + half) >> shift, low, (1 << (bits - 1)) - 1)


def _wrap(words: Words) -> Words:
    return (words + (1 << 31)) % (1 << 32) - (1 << 31)
