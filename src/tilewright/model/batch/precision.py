"""The precision that arrays ask for. JAX rounds to 32 bits unless it is told not to."""

from contextlib import AbstractContextManager

import jax
import numpy as np

from tilewright.model.batch.nouns import Array


def in_precision_of(array: Array) -> AbstractContextManager[None]:
    """A context in which JAX computes in 64 bits if the array has them, else in 32."""
    return jax.enable_x64(array.dtype == np.float64)
