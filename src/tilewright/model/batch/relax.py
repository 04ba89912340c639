"""Factors between integers, and gradients.

Owns: formulas (B24) and (B25) of `docs/batch-model.md`: the way from logarithms of factors to a
batch, gradients of a cost in them and in the chip, and energies that follow capacities.

Non-goals: searching with them.
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp

from tilewright.model.batch.nouns import Array, Batch, BatchCost, Chips
from tilewright.model.batch.precision import in_precision_of
from tilewright.model.batch.price import evaluate_chunk
from tilewright.tech.curve import Curve
from tilewright.tech.technology import Technology


@dataclass(frozen=True, slots=True)
class LogFactors:
    """Natural logarithms of the factors of a batch.

    Attributes:
        temporal: [L, B]; 0 is no loop.
        unrolled: [V, A, D, B].
    """

    temporal: Array
    unrolled: Array


jax.tree_util.register_dataclass(LogFactors, ["temporal", "unrolled"], [])


def log_factors(batch: Batch) -> LogFactors:
    """The logarithms of a batch's factors."""
    with in_precision_of(batch.nests.extents):
        return LogFactors(jnp.log(batch.nests.extents), jnp.log(batch.nests.unrolled))


def with_log_factors(batch: Batch, factors: LogFactors) -> Batch:
    """The batch with other factors: (B24). Orders, blocks and layers stay."""
    nests = replace(
        batch.nests, extents=jnp.exp(factors.temporal), unrolled=jnp.exp(factors.unrolled)
    )
    return replace(batch, nests=nests)


Objective = Callable[[BatchCost], Array]


def gradients(
    batch: Batch, factors: LogFactors, chips: Chips, objective: Objective
) -> tuple[Array, LogFactors, Chips]:
    r"""An objective of every mapping, and its slopes.

    Args:
        batch: orders, blocks and layers.
        factors: where to look; any real numbers. At 0 a loop comes or goes, which may be a jump.
        chips: one for each mapping; with one for all, slopes in the chip are summed over mappings.
        objective: from costs to [B]; the same function each time, or it is compiled anew.

    Returns: the objective [B], its slope in every logarithm of a factor, and in every number of
        the chip. Cycles are not rounded up, and a tile that does not move at an outer loop's step
        because an inner one rewinds as far is a point of no slope.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> from tilewright.ir.mapping import parse_mapping
    >>> from tilewright.ir.workload import einsum
    >>> from tilewright.model.batch import encode, encode_chip
    >>> layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    >>> chip = Hardware("chip", (Level("DRAM", read_pj=200), Level("RF", capacity=1024)))
    >>> batch = encode(layer, chip, [parse_mapping("DRAM[W I O]: M4\nRF[I O]: K8")])
    >>> chips = encode_chip(chip, layer, batch.shape)
    >>> words, slope, _ = gradients(batch, log_factors(batch), chips, lambda cost: cost.dram_words)
    >>> slope.temporal[:, 0].round(3).tolist()  # of W[M,K] 32, of I 8, of O 4
    [36.0, 40.0]
    """
    with in_precision_of(batch.nests.extents):
        return _gradients(batch, factors, chips, objective)


@partial(jax.jit, static_argnames="objective")
def _gradients(
    batch: Batch, factors: LogFactors, chips: Chips, objective: Objective
) -> tuple[Array, LogFactors, Chips]:
    def total(factors: LogFactors, chips: Chips) -> tuple[Array, Array]:
        cost = evaluate_chunk(with_log_factors(batch, factors), chips, whole_cycles=False)
        each = objective(cost)
        return each.sum(), each

    (_, each), slopes = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(factors, chips)
    return each, *slopes


def access_pj(technology: Technology, capacity_bits: Array, word_bits: int) -> Array:
    """What an access of a memory costs, in pJ, as its capacity varies: (B25).

    `Technology.access_pj` for arrays, with slopes; `word_bits` is fixed.

    >>> import numpy as np
    >>> from tilewright.tech import find_technology
    >>> table = find_technology("yang2016")
    >>> round(access_pj(table, np.float32(8 * 1024 * 8), 16).item(), 5)
    3.19
    """
    widths = [float(width) for width, _ in technology.access]
    curves = [curve_at(curve, capacity_bits) for _, curve in technology.access]
    narrow = sum(width <= word_bits for width in widths)
    if narrow == 0:
        per_bit = curves[0]
    elif narrow == len(widths):
        per_bit = curves[-1]
    else:
        left, right = widths[narrow - 1], widths[narrow]
        share = math.log(word_bits / left, right / left)
        per_bit = curves[narrow - 1] ** (1 - share) * curves[narrow] ** share
    per_bit = jnp.minimum(per_bit, technology.dram_pj_per_bit)
    if technology.largest_bits is not None:
        off_chip = capacity_bits > technology.largest_bits
        per_bit = jnp.where(off_chip, technology.dram_pj_per_bit, per_bit)
    return word_bits * per_bit


def curve_at(curve: Curve, size: Array) -> Array:
    """A curve of a technology at any sizes: straight lines where both axes are logarithmic."""
    found = curve.points[0][1] * (size / curve.points[0][0]) ** curve.below
    for index, (left, low) in enumerate(curve.points):
        slope = curve.above
        if index + 1 < len(curve.points):
            right, high = curve.points[index + 1]
            slope = math.log(high / low, right / left)
        found = jnp.where(size >= left, low * (size / left) ** slope, found)
    return found
