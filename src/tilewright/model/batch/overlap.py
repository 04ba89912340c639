"""Words of a rank that is a sum of dims, and words that two of its tiles share.

Owns: formulas (B1) to (B4) of `docs/batch-model.md`. A tile is the set `{a·i + b·j}` with i below
A and j below B, `a` and `b` without a common factor; lengths and shifts may be any real numbers,
and between integers the results are what lies between.

Non-goals: which tiles, and where they are (`count.py`).
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

import jax.numpy as jnp

from tilewright.model.batch.nouns import Array


def words(lengths: tuple[Array, Array], ratio: tuple[Array, Array]) -> Array:
    """How many words a tile has: (B1).

    Args:
        lengths: A and B, how many steps each group of terms takes; any shape.
        ratio: a and b, positive and without a common factor.

    >>> import numpy as np
    >>> words((np.float32(4), np.float32(3)), (np.float32(2), np.float32(1))).item()  # 2p + r
    9.0

    Source: `spec/model.md §3`, Closed form.
    """
    (long, short), (a, b) = lengths, ratio
    twice = jnp.maximum(long - b, 0) * jnp.maximum(short - a, 0)
    return long * short - twice


def shared(
    lengths: tuple[Array, Array], shift: tuple[Array, Array], ratio: tuple[Array, Array]
) -> Array:
    """How many words a tile shares with itself moved by `a·U + b·V`: (B2).

    Args:
        lengths: A and B; any shape.
        shift: U and V, of any sign.
        ratio: a and b, positive and without a common factor.

    >>> import numpy as np
    >>> one, two, three, four = np.float32(1), np.float32(2), np.float32(3), np.float32(4)
    >>> shared((four, three), (one, np.float32(0)), (two, one)).item()  # 2p + r, one p further
    7.0
    """
    (long, short), (a, b) = lengths, ratio
    turns = jnp.floor(shift[1] / a)
    row = shift[1] - a * turns
    move = shift[0] + b * turns
    full = jnp.floor(short / a)
    rest = short - a * full

    def of_rows(before: Array, now: Array, moved: Array) -> Array:
        return _shared_runs(before, now, moved, long, b)

    straight = (
        jnp.maximum(rest - row, 0) * of_rows(full + 1, full + 1, move)
        + jnp.maximum(jnp.minimum(a, rest + row) - jnp.maximum(row, rest), 0)
        * of_rows(full, full + 1, move)
        + jnp.maximum(a - rest - row, 0) * of_rows(full, full, move)
    )
    wrapped = (
        jnp.maximum(rest + row - a, 0) * of_rows(full + 1, full + 1, move + b)
        + jnp.maximum(jnp.minimum(rest, row) - jnp.maximum(rest + row - a, 0), 0)
        * of_rows(full + 1, full, move + b)
        + jnp.maximum(row - rest, 0) * of_rows(full, full, move + b)
    )
    return straight + wrapped


def shared_along(lengths: tuple[Array, Array], move: Array, ratio: tuple[Array, Array]) -> Array:
    """What `shared` gives for a shift along the first group alone, V = 0: (B3).

    >>> import numpy as np
    >>> one, two, three, four = np.float32(1), np.float32(2), np.float32(3), np.float32(4)
    >>> shared_along((four, three), one, (two, one)).item()
    7.0
    """
    (long, short), (a, b) = lengths, ratio
    full = jnp.floor(short / a)
    rest = short - a * full
    more = _shared_runs(full + 1, full + 1, move, long, b)
    return rest * more + (a - rest) * _shared_runs(full, full, move, long, b)


def _shared_runs(before: Array, now: Array, move: Array, length: Array, period: Array) -> Array:
    """What two rows of runs share: (B4).

    `before` runs begin at 0 and every `period`, `now` runs at `move` and every `period`; each is
    `length` long. Runs that touch make one.
    """
    some = (before > 0) & (now > 0)
    end_before = length + period * (before - 1)
    end_now = move + length + period * (now - 1)
    joined = jnp.minimum(end_before, end_now) - jnp.maximum(move, 0)
    turns = jnp.floor(move / period)
    rest = move - period * turns
    same = _pairs(before, now, turns) * jnp.maximum(length - rest, 0)
    next_one = _pairs(before, now, turns + 1) * jnp.maximum(length - (period - rest), 0)
    return jnp.where(some, jnp.where(length >= period, jnp.maximum(joined, 0), same + next_one), 0)


def _pairs(before: Array, now: Array, ahead: Array) -> Array:
    """How many runs meet if run k of those now lies upon run k + `ahead` of those before."""
    return jnp.maximum(jnp.minimum(before, now + ahead) - jnp.maximum(ahead, 0), 0)
