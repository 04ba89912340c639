"""Random layers for the generator, and what they compute, written a second time.

The reference shares nothing with the generator: it pads, takes sliding windows by numpy, and sums
in double precision (or in 64-bit integers, for int8).
"""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

import tilewright as tw
from tilewright.codegen.cpu import Cache, Cpu

Array = NDArray[Any]
TINY = Cpu("tiny", (Cache(1, 2048, 4), Cache(2, 16384, 8), Cache(3, 131072, 8)))
"""Small caches, so that small layers are cut into many blocks."""


@dataclass(frozen=True)
class Case:
    name: str
    batch: int
    groups: int
    inputs: int  # of a group
    outputs: int
    size: tuple[int, int]
    taps: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    dtype: str
    relu: bool
    seed: int

    def workload(self) -> tw.Workload:
        return tw.conv2d(
            self.name,
            N=self.batch,
            G=self.groups,
            K=self.outputs,
            C=self.inputs,
            R=self.taps[0],
            S=self.taps[1],
            stride=self.stride,
            dilation=self.dilation,
            padding=self.padding,
            in_height=self.size[0],
            in_width=self.size[1],
        )

    def data(self) -> tuple[Array, Array, Array]:
        rng = np.random.default_rng(self.seed)
        image = (self.batch, self.groups * self.inputs, *self.size)
        weights = (self.groups * self.outputs, self.inputs, *self.taps)
        bias = self.groups * self.outputs
        if self.dtype == "int8":
            return (
                rng.integers(-128, 128, image, np.int8),
                rng.integers(-128, 128, weights, np.int8),
                rng.integers(-1000, 1000, bias, np.int32),
            )
        return (
            rng.standard_normal(image, np.float32),
            rng.standard_normal(weights, np.float32),
            rng.standard_normal(bias, np.float32),
        )


def draw_case(seed: int) -> Case:
    """A layer with odd sizes: edges of every kind come up within a few dozen seeds."""
    rng = random.Random(seed)
    while True:
        case = _draw(rng, seed)
        try:
            case.workload()
        except tw.InputError:  # its padding covers all the filter reaches
            continue
        return case


def _draw(rng: random.Random, seed: int) -> Case:
    taps = rng.choice([(1, 1), (3, 3), (3, 3), (5, 2), (1, 7), (2, 2), (7, 7)])
    stride = rng.choice([(1, 1), (1, 1), (2, 2), (1, 3), (4, 3), (9, 8)])
    dilation = rng.choice([(1, 1), (1, 1), (2, 1), (3, 2)])
    reach = [d * (t - 1) + 1 for d, t in zip(dilation, taps, strict=True)]
    most = [rng.randint(0, r) for r in reach]
    padding = (most[0], most[1], rng.randint(0, reach[0]), rng.randint(0, reach[1]))
    size = (rng.choice([1, 2, 7, 13, 19]), rng.choice([1, 3, 8, 14, 23, 40]))
    size = (max(size[0], reach[0] - padding[0] - padding[2]), size[1])
    size = (size[0], max(size[1], reach[1] - padding[1] - padding[3]))
    groups, inputs, outputs = (
        1,
        rng.choice([1, 3, 4, 16, 19, 33, 50]),
        rng.choice([1, 5, 16, 40, 67]),
    )
    kind = rng.random()
    if kind < 0.25:
        groups, inputs, outputs = rng.choice([2, 5, 16, 21, 35]), 1, 1
    elif kind < 0.45:
        groups, inputs, outputs = (
            rng.choice([2, 3]),
            rng.choice([2, 17, 32]),
            rng.choice([1, 4, 18]),
        )
    dtype = "int8" if rng.random() < 0.35 else "float32"
    batch = rng.choice([1, 1, 2])
    relu = rng.random() < 0.5
    return Case(
        f"case{seed}",
        batch,
        groups,
        inputs,
        outputs,
        size,
        taps,
        stride,
        dilation,
        padding,
        dtype,
        relu,
        seed,
    )


def windows(image: Array, case: Case, fill: float) -> Array:
    """[batch, channel, row, column, tap row, tap column] of the padded image."""
    top, left, bottom, right = case.padding
    padded = np.pad(image, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    reach = tuple(d * (t - 1) + 1 for d, t in zip(case.dilation, case.taps, strict=True))
    seen = sliding_window_view(padded, reach, (2, 3))  # type: ignore[arg-type]
    (sh, sw), (dh, dw) = case.stride, case.dilation
    return seen[:, :, ::sh, ::sw, ::dh, ::dw]


def reference(case: Case) -> tuple[Array, Array]:
    """The exact output, and for float32 how far a sum in single precision may be from it."""
    image, weights, bias = case.data()
    wide = np.int64 if case.dtype == "int8" else np.float64
    exact = _convolve(image.astype(wide), weights.astype(wide), bias.astype(wide), case)
    large = [np.abs(part.astype(wide)) for part in (image, weights, bias)]
    sizes = _convolve(large[0], large[1], large[2], case)
    terms = case.inputs * case.taps[0] * case.taps[1] + 1
    bound = sizes * (terms + 1) * 2.0**-24 * 1.01
    return (np.maximum(exact, 0) if case.relu else exact), bound


def _convolve(image: Array, weights: Array, bias: Array, case: Case) -> Array:
    seen = windows(image, case, 0)
    n, _, p, q, r, s = seen.shape
    grouped = seen.reshape(n, case.groups, case.inputs, p, q, r, s)
    filters = weights.reshape(case.groups, case.outputs, case.inputs, r, s)
    out = np.einsum("ngcpqrs,gkcrs->ngkpq", grouped, filters)
    out += bias.reshape(1, case.groups, case.outputs, 1, 1)
    return out.reshape(n, case.groups * case.outputs, p, q)
