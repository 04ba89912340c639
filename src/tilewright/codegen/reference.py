"""A layer computed plainly with numpy, to check a program's output by.

Owns: `check_kernel`, which runs a program on seeded random arrays and compares.

Non-goals: speed. The tests have a reference of their own, which shares nothing with this one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.kernel import Kernel
from tilewright.codegen.shape import Shape, Window

Array = NDArray[Any]
_ROUNDING = 2.0**-24


@dataclass(frozen=True, slots=True)
class Check:
    """How a program's output compares.

    Attributes:
        correct: int8: equal; float32: every result within the error bound of its sum.
        max_error: the largest difference.
        allowed_error: the bound where the difference is largest.
    """

    correct: bool
    max_error: float
    allowed_error: float


def check_kernel(kernel: Kernel, seed: int = 0) -> Check:
    """Run a program on random arrays and compare with numpy in double precision.

    The bound of a sum of n products in single precision is n · 2⁻²⁴ · Σ|x·w|, in any order
    (N. Higham, Accuracy and Stability of Numerical Algorithms, §3.1).
    """
    shape = kernel.made.shape
    rng = np.random.default_rng(seed)
    image = _random(rng, kernel.image_shape, shape)
    weights = None if kernel.weight_shape is None else _random(rng, kernel.weight_shape, shape)
    got = kernel(image, weights)
    x = kernel.canonical_image(image)
    w = None if weights is None else kernel.canonical_weights(weights)
    want, magnitude = (kernel.from_canonical(part) for part in _compute(shape, x, w))
    terms = shape.inputs * shape.taps + 1
    bound = magnitude * (terms + 1) * _ROUNDING if shape.dtype == "float32" else 0 * magnitude
    error = np.abs(got - want)
    worst = np.unravel_index(int(np.argmax(error)), error.shape)
    return Check(bool((error <= bound).all()), float(error[worst]), float(bound[worst]))


def _random(rng: np.random.Generator, sizes: tuple[int, ...], shape: Shape) -> Array:
    if shape.dtype == "int8":
        return rng.integers(-128, 128, sizes, np.int8)
    return rng.standard_normal(sizes, np.float32)


def _compute(shape: Shape, image: Array, weights: Array | None) -> tuple[Array, Array]:
    """The exact output, and the sums of the sizes of all terms; a tap at a time."""
    wide = np.int64 if shape.dtype == "int8" else np.float64
    out = np.full(shape.output_shape, -np.inf if shape.pool == "max" else 0, wide)
    size, count = np.zeros(shape.output_shape, wide), np.zeros(shape.output_shape[-2:])
    for r in range(shape.rows.taps):
        to_p, from_h = _places(shape.rows, r)
        for s in range(shape.columns.taps):
            to_q, from_w = _places(shape.columns, s)
            x = image[:, :, :, from_h, from_w].astype(wide)
            here = (..., to_p, to_q)
            if weights is None:
                out[here] = np.maximum(out[here], x) if shape.pool == "max" else out[here] + x
                size[here] += np.abs(x)
                count[to_p, to_q] += 1
                continue
            w = weights[:, :, :, r, s].astype(wide)
            out[here] += np.einsum("ngcpq,gkc->ngkpq", x, w, optimize=True)
            size[here] += np.einsum("ngcpq,gkc->ngkpq", abs(x), abs(w), optimize=True)
    if shape.pool == "average":
        out = out / np.maximum(count, 1)
    return (np.maximum(out, 0) if shape.relu else out), size


def _places(axis: Window, tap: int) -> tuple[slice, slice]:
    """The places at which a tap is real, and the pixels that it sees there."""
    places = [place for place in range(axis.places) if tap in axis.valid(place)]
    if not places:
        return slice(0, 0), slice(0, 0)
    start = places[0] * axis.stride - axis.before + tap * axis.dilation
    stop = start + (len(places) - 1) * axis.stride + 1
    return slice(places[0], places[-1] + 1), slice(start, stop, axis.stride)
