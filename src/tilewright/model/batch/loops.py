"""One pass over the temporal loops of all mappings of a batch, from the innermost outwards.

Owns: formulas (B6), (B9) and the products over loops of (B5), (B7), (B8), (B10), (B12), (B13) of
`docs/batch-model.md`; the noun `Loops` and the verb `pass_loops`.

Non-goals: unrolled loops, which need no order (`count.py`). A pass keeps what the loops met so far
make, so that a loop costs the same however many there are; masks of loops by loops, which JAX would
compute anew wherever they are used, cost their square.
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from tilewright.model.batch.nouns import OUTPUT, Array, Batch, Shape
from tilewright.model.convention import Reuse

_STILL = 1e-6
"""Coordinates by which a tile that does not move may seem to, extents being exponentials."""


@dataclass(frozen=True, slots=True)
class Loops:
    """What the temporal loops met so far make; in the end, what all of them do.

    The loop `a` is the innermost one outside a block that moves the tile there.

    Attributes:
        steps: [B], of all loops.
        own_steps: [B], of those that index the output in a rank of its own.
        seen: [O, V, B], whether a block has met its loop `a`.
        before: [O, V, B], steps of the loops outside `a`.
        taken: [O, V, B], the extent of `a`; 1 if there is none.
        tiles: [O, V, B], the steps of loops inside a block over ranks of one dim.
        whole: [S, K, B], steps along a dim of a sum.
        spans: [S, V, K, B], those of loops inside a block.
        deeper: [S, K, V, B], those of loops at levels inside a level, if the shape has `places`.
        of_blocks: of the blocks inside the outermost level of operands with sums.
    """

    steps: Array
    own_steps: Array
    seen: Array
    before: Array
    taken: Array
    tiles: Array
    whole: Array
    spans: Array
    deeper: Array
    of_blocks: "Blocks"

    @property
    def visits(self) -> Array:
        """[O, V, B], temporal steps of the loops up to `a`: (B6)."""
        return self.before * self.taken


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of operands with sums, but for those of the outermost level.

    Attributes:
        dim: [S, V-1, B], that of the loop `a`; -2 if there is none.
        level: [S, V-1, B], that of the loop `a`.
        alone: [S, V-1, B], whether a loop outside the block has moved a rank of one dim.
        rewound: of each rank [S, V-1, B], how far the loops met outside the block move it.
        still: [S, V-1, B], steps at which an outer loop moves the tile back to where it was: (B9).
    """

    dim: Array
    level: Array
    alone: Array
    rewound: tuple[Array, ...]
    still: Array


for _noun in (Loops, Blocks):
    jax.tree_util.register_dataclass(_noun, list(_noun.__dataclass_fields__), [])


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop of every mapping, and what it does.

    Attributes:
        extent: [B].
        more: [B], steps it takes beyond the first.
        dim: [B].
        level: [B].
        inside: [O, V, B], whether it stands inside a block.
        indexes: [O, B], whether its dim indexes the operand.
        alone: [O, B], whether it does in a rank of its own.
        own: [S, K, B], whether it is a dim of a sum.
    """

    extent: Array
    more: Array
    dim: Array
    level: Array
    inside: Array
    indexes: Array
    alone: Array
    own: Array


def _loop_at(batch: Batch, extent: Array, dim: Array, level: Array, position: Array) -> Loop:
    """The loops at one position."""
    works = batch.works
    return Loop(
        extent,
        extent - 1,
        dim,
        level,
        position >= batch.nests.depths,
        (works.indexing >> dim) & 1 > 0,
        (works.alone >> dim) & 1 > 0,
        works.terms == dim,
    )


Step = Callable[[Any, Loop, Any], tuple[Any, Any]]
"""From a state, a loop, and what another pass said of it, to the next state and what is said."""


def over_loops(batch: Batch, step: Step, start: Any, said: Any = None) -> tuple[Any, Any]:
    """Let every loop change a state, the innermost first.

    Returns: the state in the end, and what was said of the loops, which is [L, ...].
    """
    nests = batch.nests
    positions = jnp.arange(nests.extents.shape[0], dtype=nests.depths.dtype)

    def one(state: Any, each: tuple[tuple[Array, ...], Any]) -> tuple[Any, Any]:
        return step(state, _loop_at(batch, *each[0]), each[1])

    each = (nests.extents, nests.dims, nests.levels, positions)
    return jax.lax.scan(one, start, (each, said), reverse=True)


def pass_loops(batch: Batch, copies: Array) -> Loops:
    """Meet all loops.

    Args:
        batch: what is counted.
        copies: [S, K, V, B], by how much the fan-outs inside a level unroll the dim of a sum.

    Source: `spec/model.md §3`, Closed form.
    """
    whole, strides = _strides(batch, copies)

    def step(state: Loops, loop: Loop, strides: tuple[Array, ...]) -> tuple[Loops, None]:
        return _met(batch.shape, state, loop, strides), None

    return over_loops(batch, step, _none_met(batch, whole), strides)[0]


def _strides(batch: Batch, copies: Array) -> tuple[Array, tuple[Array, ...]]:
    """[S, K, B], steps along the dims of sums; and of each rank [L, S, B], how far a loop moves it.

    Computed ahead, for a pass looks at them several times.
    """
    shape, works = batch.shape, batch.works
    reach = jax.lax.stop_gradient(works.coefficients[:, :, None] * copies)
    starts = range(0, reach.shape[1], shape.terms) if slides(shape) else ()

    def step(whole: Array, loop: Loop, _: None) -> tuple[Array, tuple[Array, ...]]:
        moved = step_of(jax.lax.stop_gradient(whole), reach, loop)
        ranks = ([moved[:, at + term] for term in range(shape.terms)] for at in starts)
        return grown(whole, loop), tuple(reduce(jnp.add, rank) for rank in ranks)

    return over_loops(batch, step, jnp.ones_like(reach[:, :, 0]))


def grown(whole: Array, loop: Loop) -> Array:
    """[S, K, B], steps along the dims of sums, with one more loop."""
    return whole * jnp.where(loop.own, loop.extent, 1)


def _none_met(batch: Batch, whole: Array) -> Loops:
    nests, shape = batch.nests, batch.shape
    ones = jnp.ones_like(nests.extents, shape=(nests.extents.shape[-1],))
    sums, terms = batch.works.terms.shape[:2]
    operands, levels = nests.depths.shape[:2]
    blocks = max(0, levels - 1) if slides(shape) else 0

    def filled(value: float, *axes: int, dtype: Any = ones.dtype) -> Array:
        return jnp.broadcast_to(jnp.asarray(value, dtype), (*axes, *ones.shape))

    ints, ranks = nests.dims.dtype, batch.works.weights.shape[1]
    return Loops(
        ones,
        ones,
        filled(0, operands, levels, dtype=bool),
        filled(1, operands, levels),
        filled(1, operands, levels),
        filled(1, operands, levels),
        whole,
        filled(1, sums, levels, terms),
        filled(1, sums, terms, levels if shape.places else 0),
        Blocks(
            filled(-2, sums, blocks, dtype=ints),
            filled(0, sums, blocks, dtype=nests.levels.dtype),
            filled(0, sums, blocks, dtype=bool),
            tuple(filled(0, sums, blocks) for _ in range(ranks)),
            filled(0, sums, blocks),
        ),
    )


def slides(shape: Shape) -> bool:
    """Whether fills are those of the loop `a`."""
    return bool(shape.sums) and shape.convention.reuse is not Reuse.DELTA


def _met(shape: Shape, state: Loops, loop: Loop, strides: tuple[Array, ...]) -> Loops:
    """The state after one more loop outwards."""
    extent = loop.extent
    moves = ~loop.inside & (loop.indexes & (extent > 1))[:, None]
    first = moves & ~state.seen
    of_output = loop.indexes if shape.operands - 1 not in shape.sums else loop.alone
    inside = of_sums(shape, loop.inside)
    return Loops(
        state.steps * extent,
        state.own_steps * jnp.where(of_output[OUTPUT], extent, 1),
        state.seen | moves,
        state.before * jnp.where(state.seen, extent, 1),
        jnp.where(first, extent, state.taken),
        state.tiles * jnp.where(loop.inside & loop.alone[:, None], extent, 1),
        state.whole,
        state.spans * jnp.where(loop.own[:, None] & inside[:, :, None], extent, 1),
        _deeper(state.deeper, loop),
        _blocks(shape, state, loop, strides) if slides(shape) else state.of_blocks,
    )


def _deeper(deeper: Array, loop: Loop) -> Array:
    levels = jnp.arange(deeper.shape[2], dtype=loop.level.dtype)[:, None]
    return deeper * jnp.where(loop.own[:, :, None] & (loop.level > levels), loop.extent, 1)


def _blocks(shape: Shape, state: Loops, loop: Loop, strides: tuple[Array, ...]) -> Blocks:
    old = state.of_blocks
    seen, outside = inner(shape, state.seen), ~inner(shape, loop.inside)
    first = outside & ~seen & (of_sums(shape, loop.indexes) & (loop.extent > 1))[:, None]
    extent, more = (jax.lax.stop_gradient(each) for each in (loop.extent, loop.more))
    alone = old.alone | moves_alone(shape, loop, outside)
    both = [(one[:, None], back) for one, back in zip(strides, old.rewound, strict=True)]
    still = reduce(jnp.logical_and, [jnp.abs(stride - back) < _STILL for stride, back in both])
    return Blocks(
        jnp.where(first, loop.dim, old.dim),
        jnp.where(first, loop.level, old.level),
        alone,
        tuple(back + jnp.where(outside, stride * more, 0) for stride, back in both),
        old.still * extent + jnp.where(seen & ~alone & still, more, 0),
    )


def moves_alone(shape: Shape, loop: Loop, outside: Array) -> Array:
    """[S, V-1, B], whether a loop moves a rank of one dim of the tiles of blocks inside it."""
    return outside & (of_sums(shape, loop.alone) & (loop.extent > 1))[:, None]


def step_of(whole: Array, copies: Array, loop: Loop) -> Array:
    """[S, K, B], by how much a step of a loop advances a dim of a sum; 0 for other dims.

    Args:
        whole: [S, K, B], steps along the dim of the loops inside.
        copies: as for `pass_loops`.
        loop: the loop.
    """
    levels = range(copies.shape[2])
    placed = [jnp.where(loop.level == v, copies[:, :, v], 0) for v in levels]
    return jnp.where(loop.own, whole * reduce(jnp.add, placed), 0)


def short_sum(parts: Array, axis: int) -> Array:
    """The sum over a short axis, one term after another: compilers make one loop of it."""
    parts = jnp.moveaxis(parts, axis, 0)
    return reduce(jnp.add, [parts[i] for i in range(parts.shape[0])])


def of_sums(shape: Shape, of_operand: Array) -> Array:
    """Of [O, ...] the operands with sums: [S, ...]. Static slices: gathering is slow."""
    pieces = [of_operand[at : at + 1] for at in shape.sums]
    return jnp.concatenate(pieces) if pieces else of_operand[:0]


def inner(shape: Shape, of_store: Array) -> Array:
    """Of [O, V, ...] the operands with sums and the levels inside the outermost: [S, V-1, ...]."""
    return of_sums(shape, of_store)[:, 1:]
