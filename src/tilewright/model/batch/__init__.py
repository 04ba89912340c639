"""Counts and costs of many mappings, layers and chips at once, and their gradients.

Owns: the third witness, on JAX, an extra that is imported only with this package.

Non-goals: imperfect factors, padding, and the convention `timeloop`; `evaluate` has them.

Source: `docs/batch-model.md`; `spec/model.md §3`, Matrix form.
"""

from importlib.util import find_spec

from tilewright.errors import MissingToolError, Problem

if find_spec("jax") is None:
    raise MissingToolError(
        Problem(
            "evaluating batches needs JAX, which is not installed",
            "pip install 'tilewright[codesign]'",
        )
    )

from tilewright.model.batch.count import count_batch
from tilewright.model.batch.encode import (
    encode,
    encode_chip,
    encode_networks,
    encode_work,
    shape_for,
)
from tilewright.model.batch.nouns import Batch, BatchCost, BatchCounts, Chips, Shape, join
from tilewright.model.batch.price import (
    CHUNK,
    evaluate_batch,
    evaluate_chunk,
    moved_bits,
    price_batch,
    tile_bits,
)
from tilewright.model.batch.relax import (
    LogFactors,
    access_pj,
    gradients,
    log_factors,
    with_log_factors,
)

__all__ = [
    "CHUNK",
    "Batch",
    "BatchCost",
    "BatchCounts",
    "Chips",
    "LogFactors",
    "Shape",
    "access_pj",
    "count_batch",
    "encode",
    "encode_chip",
    "encode_networks",
    "encode_work",
    "evaluate_batch",
    "evaluate_chunk",
    "gradients",
    "join",
    "log_factors",
    "moved_bits",
    "price_batch",
    "shape_for",
    "tile_bits",
    "with_log_factors",
]
