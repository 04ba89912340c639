"""The counts of `spec/model.md §3` in matrix form, for all mappings of a batch at once.

Owns: formulas (B5) to (B16) of `docs/batch-model.md`, and the verb `count_batch`. Nothing here
looks at `walk` or `exact`: it is a third witness.

Non-goals: imperfect factors and padding (`encode.py` refuses them), and any price (`price.py`).
Loops, levels and relevance are numbers in arrays, so that one compilation serves all mappings and
layers of a shape, and the gradient of a product over loops is written by hand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np

from tilewright.model.batch.nouns import OUTPUT, Array, Batch, BatchCounts, Shape
from tilewright.model.batch.overlap import shared, shared_along, words
from tilewright.model.batch.precision import in_precision_of
from tilewright.model.convention import Reuse

_STILL = 1e-6
"""Coordinates by which a tile that does not move may seem to, extents being exponentials."""


def count_batch(batch: Batch) -> BatchCounts:
    r"""Count all mappings of a batch.

    Args:
        batch: as `encode` returns it, or with other extents, also between integers.

    Returns: words and steps, exact below 2⁵³ if the batch holds 64-bit floats and whole extents.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> from tilewright.ir.mapping import parse_mapping
    >>> from tilewright.ir.workload import einsum
    >>> from tilewright.model.batch import encode
    >>> layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    >>> chip = Hardware("chip", (Level("DRAM"), Level("RF")))
    >>> nests = [parse_mapping(f"DRAM[W I O]: M{m}\nRF[I O]: M{4 // m} K8") for m in (1, 2, 4)]
    >>> count_batch(encode(layer, chip, nests)).reads[1, 0].tolist()  # of I at DRAM
    [8.0, 8.0, 8.0]

    Source: `spec/model.md §3`, Matrix form.
    """
    with in_precision_of(batch.nests.extents):
        return _count(batch)


@jax.custom_jvp
def masked_product(values: Array, mask: Array) -> Array:
    """The product of the values where the mask is set, over the last axis but one: (B5)."""
    return jnp.prod(jnp.where(mask, values, 1), axis=-2)


@masked_product.defjvp
def _masked_product_slope(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    """The slope of a product is the product times the sum of relative slopes."""
    values, mask = primals
    found = masked_product(values, mask)
    return found, found * jnp.where(mask, tangents[0] / values, 0).sum(axis=-2)


@jax.jit
def _count(batch: Batch) -> BatchCounts:
    view = _make_view(batch)
    fills = _fills(view)
    spread = _spread(view, batch.networks.multicast)
    merged = _spread(view, batch.networks.reduction)
    covered = _covered(view)
    steps = view.steps
    child_fills = _of_child(fills, jnp.broadcast_to(steps, fills[:, 0].shape), view.keeps)
    reads = spread.moved * child_fills
    first = spread.apart[OUTPUT] * covered
    elides = view.batch.shape.convention.elides_first_read
    if elides:
        reads = _to_output(reads, -first)
    updates = merged.moved[OUTPUT] * child_fills[OUTPUT]
    inside = (jnp.arange(len(covered)) > 0)[:, None]
    drains = fills[OUTPUT] * inside
    kept = view.keeps[OUTPUT]
    entered = _to_output(fills, -covered if elides else 0) * inside
    final = _finished(view, covered)
    return BatchCounts(
        macs=steps * _whole(view.unrolled_steps),
        steps=steps,
        instances=view.instances,
        tile_words=view.tiles * view.keeps,
        reads=reads * view.keeps,
        fills=entered * view.keeps,
        updates=updates * kept,
        drains=drains * kept,
        finished_updates=final[0] * kept,
        finished_drains=final[1] * kept,
        hop_words=_hop_words(view, child_fills, covered),
        output_words=covered[0],
    )


@dataclass(frozen=True, slots=True)
class _View:
    """What several counts need.

    Axes as in `nouns.py`; `position` is [L, 1].
    """

    batch: Batch
    position: Array
    indexes: Array
    """[O, L, B], whether a loop's dim indexes the operand."""
    alone: Array
    """[O, L, B], whether it does in a rank of its own."""
    last: Array
    """[O, V, B], loops outside a block up to the innermost that indexes the operand: (B6)."""
    visits: Array
    """[O, V, B], temporal steps of those loops."""
    steps: Array
    """[B], of all temporal loops."""
    unrolled_steps: Array
    """[V, B], copies used of the fan-out below a level."""
    own_copies: Array
    """[O, V, B], those along dims that index the operand."""
    other_copies: Array
    """[O, V, B], those along dims that do not."""
    instances: Array
    """[V, B]."""
    keeps: Array
    alone_copies: Array
    """[O, V, B], copies inside a level along dims with a rank of their own."""
    alone_tiles: Array
    """[O, V, B], words of a tile over the ranks of one dim."""
    sums: "_Sums"
    tiles: Array
    """[O, V, B], words of a tile: (B7)."""


@dataclass(frozen=True, slots=True)
class _Sums:
    """The operands that have room for ranks which are sums."""

    own: Array
    """[S, K, L, B], whether a loop is over a dim of such a rank."""
    copies: Array
    """[S, K, V, B], by how much the fan-out below a level unrolls the dim."""
    spans: Array
    """[S, V, K, B], steps that the loops inside a block take along the dim."""
    lengths: Array
    """[S, V, R, G, B]."""
    rank_words: Array
    """[S, V, R, B]."""


def _make_view(batch: Batch) -> _View:
    nests, works = batch.nests, batch.works
    extents = nests.extents
    position = jnp.arange(extents.shape[0], dtype=nests.depths.dtype)[:, None]
    unrolled = masked_product(jnp.moveaxis(nests.unrolled, 1, 2), jnp.asarray(True))  # [V, D, B]
    bits = jnp.arange(unrolled.shape[1], dtype=works.indexing.dtype)[:, None]
    indexes_dim = (works.indexing[:, None] >> bits) & 1 > 0  # [O, D, B*]
    alone_dim = (works.alone[:, None] >> bits) & 1 > 0
    indexes = (works.indexing[:, None] >> nests.dims) & 1 > 0
    alone = (works.alone[:, None] >> nests.dims) & 1 > 0
    inside = position >= nests.depths[:, :, None]  # [O, V, L, B]
    moving = ~inside & (indexes & (extents > 1))[:, None]
    last = jnp.where(moving, position + 1, 0).max(axis=-2)
    alone_copies = _inwards(masked_product(unrolled, alone_dim[:, None]))
    alone_tiles = masked_product(extents, inside & alone[:, None]) * alone_copies
    sums = _make_sums(batch, unrolled, inside)
    of_sums = _of_sums(batch.shape, alone_tiles) * _whole(sums.rank_words)
    tiles = _with_sums(batch.shape, alone_tiles, of_sums)
    copies = masked_product(unrolled, jnp.asarray(True))
    return _View(
        batch,
        position,
        indexes,
        alone,
        last,
        masked_product(extents, position < last[:, :, None]),
        masked_product(extents, jnp.asarray(True)),
        copies,
        masked_product(unrolled, indexes_dim[:, None]),
        masked_product(unrolled, ~indexes_dim[:, None]),
        _outwards(copies),
        nests.keeps,
        alone_copies,
        alone_tiles,
        sums,
        tiles,
    )


def _make_sums(batch: Batch, unrolled: Array, inside: Array) -> _Sums:
    works, nests = batch.works, batch.nests
    own = works.terms[:, :, None] == nests.dims  # [S, K, L, B]
    dims = jnp.arange(unrolled.shape[1], dtype=works.terms.dtype)[:, None]
    is_term = (works.terms[:, :, None] == dims)[:, :, None]  # [S, K, 1, D, B*]
    copies = masked_product(unrolled, is_term)  # [S, K, V, B]
    within = own[:, None] & _of_sums(batch.shape, inside)[:, :, None]  # [S, V, K, L, B]
    spans = masked_product(nests.extents, within) * jnp.moveaxis(_inwards(copies), 2, 1)
    lengths = _lengths(works.weights, spans)
    ratio = works.ratio[:, None]
    both = (lengths[:, :, :, 0], lengths[:, :, :, 1])
    rank_words = words(both, (ratio[:, :, :, 0], ratio[:, :, :, 1]))
    return _Sums(own, copies, spans, lengths, rank_words)


def _lengths(weights: Array, spans: Array) -> Array:
    """[S, V, R, G, B], steps that each group of terms takes in a tile."""
    return 1 + _grouped(weights, spans - 1)


def _grouped(weights: Array, of_term: Array) -> Array:
    """Sum [S, V, K, B] over the terms of each group of each rank: [S, V, R, G, B]."""
    return _sum(weights[:, None] * of_term[:, :, None, None], axis=-2)


def _whole(parts: Array) -> Array:
    """The product over the last axis but one, which is short."""
    return reduce(jnp.multiply, [parts[..., i, :] for i in range(parts.shape[-2])])


def _sum(parts: Array, axis: int) -> Array:
    """The sum over a short axis, one term after another: compilers make one loop of it."""
    parts = jnp.moveaxis(parts, axis, 0)
    return reduce(jnp.add, [parts[i] for i in range(parts.shape[0])])


def _inwards(of_level: Array) -> Array:
    """The products over this level and all inside it; levels on the last axis but one."""
    inner = np.triu(np.ones((of_level.shape[-2],) * 2, dtype=bool))[:, :, None]
    return masked_product(of_level[..., None, :, :], inner)


def _outwards(of_level: Array) -> Array:
    """The products over all levels outside a level; levels on the last axis but one."""
    outer = np.tril(np.ones((of_level.shape[-2],) * 2, dtype=bool), -1)[:, :, None]
    return masked_product(of_level[..., None, :, :], outer)


def _fills(view: _View) -> Array:
    """[O, V, B], words that enter one instance's tiles, as if every visit filled: (B10).

    Nothing enters the outermost level: what stands there is not used.
    """
    plain = view.tiles * view.visits
    if not view.batch.shape.sums or view.batch.shape.levels == 1:
        return plain
    reuse = view.batch.shape.convention.reuse
    of_sums = _fills_of_delta(view) if reuse is Reuse.DELTA else _fills_of_tiles(view)
    return _with_sums(view.batch.shape, plain, of_sums, level=1)


def _fills_of_tiles(view: _View) -> Array:
    """[S, V-1, B], where only the innermost loop that moves a tile may keep a part of it."""
    extents = view.batch.nests.extents
    tiles, last = _inner(view, view.tiles), _inner(view, view.last)
    taker = view.position == last[:, :, None] - 1  # [S, V, L, B]
    more = jnp.where(taker, extents, 1).max(axis=-2) - 1
    before = masked_product(extents, view.position < last[:, :, None] - 1)
    slides = view.batch.shape.convention.reuse is Reuse.SLIDING
    kept = _slid(view, taker) if slides else jnp.zeros_like(tiles)
    return before * (tiles + more * (tiles - kept)) - tiles * jax.lax.stop_gradient(
        _still_steps(view)
    )


def _inner(view: _View, of_store: Array) -> Array:
    """Of [O, V, ...] the operands with sums and the levels inside the outermost: [S, V-1, ...]."""
    return _of_sums(view.batch.shape, of_store)[:, 1:]


def _of_sums(shape: Shape, of_operand: Array) -> Array:
    """Of [O, ...] the operands with sums: [S, ...]. Static slices: gathering is slow."""
    pieces = [of_operand[at : at + 1] for at in shape.sums]
    return jnp.concatenate(pieces) if pieces else of_operand[:0]


def _with_sums(shape: Shape, of_operand: Array, of_sums: Array, level: int = 0) -> Array:
    """[O, V, B] with the operands with sums replaced, from a level on."""
    for index, at in enumerate(shape.sums):
        piece = of_sums[index : index + 1]
        of_operand = jax.lax.dynamic_update_slice(of_operand, piece, (at, level, 0))
    return of_operand


def _to_output(of_operand: Array, of_output: Array) -> Array:
    """[O, V, B] with something added to the output."""
    whole = of_operand[-1:] + of_output
    return jax.lax.dynamic_update_slice(of_operand, whole, (of_operand.shape[0] - 1, 0, 0))


def _slid(view: _View, taker: Array) -> Array:
    """[S, V-1, B], words that a tile keeps at a step of the innermost loop that moves it: (B8)."""
    sums, works, nests = view.sums, view.batch.works, view.batch.nests
    taken = (sums.own[:, None] & taker[:, :, None]).any(axis=-2)  # [S, V-1, K, B]
    level = jnp.where(taker, nests.levels, 0).max(axis=-2)[:, :, None, None]  # [S, V-1, 1, 1, B]
    levels = jnp.arange(1 + level.shape[1], dtype=level.dtype)
    between = (levels[:, None] >= level) & (levels[:, None] < levels[1:, None, None, None])
    gap = masked_product(sums.copies[:, None], between)  # [S, V-1, K, B]
    move = _grouped(works.weights, jnp.where(taken, sums.spans[:, 1:] * gap, 0))
    second = move[:, :, :, 1] > 0
    lengths = (sums.lengths[:, 1:, :, 0], sums.lengths[:, 1:, :, 1])
    ratio = (works.ratio[:, None, :, 0], works.ratio[:, None, :, 1])
    kept = shared_along(
        _turned(lengths, second),
        jnp.where(second, move[:, :, :, 1], move[:, :, :, 0]),
        _turned(ratio, second),
    )
    return jnp.where(taken.any(axis=2), _inner(view, view.alone_tiles) * _whole(kept), 0)


def _turned(pair: tuple[Array, Array], turn: Array) -> tuple[Array, Array]:
    return jnp.where(turn, pair[1], pair[0]), jnp.where(turn, pair[0], pair[1])


def _step_of_loops(view: _View) -> Array:
    """[S, K, L, B], by how much a step of a loop advances a dim of a sum; 0 for other dims."""
    nests, sums, position = view.batch.nests, view.sums, view.position
    later = position < position.T  # [L, L], whether the second stands inside the first
    alike = (nests.dims[:, None] == nests.dims) & later[:, :, None]
    steps = masked_product(nests.extents, alike)  # [L, B]
    inner = _inwards(sums.copies)
    levels = range(inner.shape[2])
    placed = (jnp.where(nests.levels == v, inner[:, :, v, None], 0) for v in levels)
    return jnp.where(sums.own, steps * reduce(jnp.add, placed), 0)


def _rewound(view: _View, reach: Array) -> Array:
    """How far the loops inside each loop, but outside a block, move its tile.

    `reach`, [S, ..., L, B], is how far each loop does; returns [S, V-1, ..., L, B]: what is inside
    the loop, less what is inside the block.
    """
    position = view.position
    later = (position < position.T).astype(reach.dtype)
    inside = jnp.einsum("lj,...jb->...lb", later, reach, precision=jax.lax.Precision.HIGHEST)
    depths = _inner(view, view.batch.nests.depths)
    depths = depths.reshape(*depths.shape[:2], *[1] * (reach.ndim - 2), depths.shape[-1])
    within = jnp.where(position >= depths, reach[:, None], 0).sum(axis=-2, keepdims=True)
    return inside[:, None] - within


def _last_alone(view: _View) -> Array:
    """[S, V-1, 1, B], loops outside a block up to the innermost that moves a rank of one dim."""
    extents, depths = view.batch.nests.extents, _inner(view, view.batch.nests.depths)
    moving = (view.position < depths[:, :, None]) & (
        _of_sums(view.batch.shape, view.alone) & (extents > 1)
    )[:, None]
    return jnp.where(moving, view.position + 1, 0).max(axis=-2, keepdims=True)


def _still_steps(view: _View) -> Array:
    """[S, V-1, B], steps at which an outer loop moves a tile back to where it was: (B9)."""
    works, extents = view.batch.works, view.batch.nests.extents
    in_rank = (works.weights > 0).any(axis=2)[:, :, :, None]  # [S, R, K, 1, B*]
    strides = in_rank * (works.coefficients[:, :, None] * _step_of_loops(view))[:, None]
    stride = _sum(strides, axis=2)  # [S, R, L, B]
    move = stride[:, None] - _rewound(view, stride * (extents - 1))  # [S, V-1, R, L, B]
    still = (jnp.abs(move) < _STILL).all(axis=2)
    still &= view.position >= _last_alone(view)
    still &= view.position < _inner(view, view.last)[:, :, None] - 1
    return jnp.where(still, _steps_before(view) * (extents - 1), 0).sum(axis=-2)


def _steps_before(view: _View) -> Array:
    """[L, B], temporal steps of the loops outside each."""
    extents, position = view.batch.nests.extents, view.position
    return masked_product(extents, (position > position.T)[:, :, None])


def _fills_of_delta(view: _View) -> Array:
    """[S, V-1, B], where every loop keeps what the tiles before and after its step share."""
    sums, works, extents = view.sums, view.batch.works, view.batch.nests.extents
    steps = works.weights[:, :, :, :, None] * _step_of_loops(view)[:, None, None]
    step = _sum(steps, axis=3)  # [S, R, G, L, B]
    move = step[:, None] - _rewound(view, step * (extents - 1))  # [S, V-1, R, G, L, B]
    kept = shared(
        (sums.lengths[:, 1:, :, 0, None], sums.lengths[:, 1:, :, 1, None]),
        (move[:, :, :, 0], move[:, :, :, 1]),
        (works.ratio[:, None, :, 0, None], works.ratio[:, None, :, 1, None]),
    )  # [S, V-1, R, L, B]
    kept = reduce(jnp.multiply, [kept[:, :, r] for r in range(kept.shape[2])])
    kept = kept * _inner(view, view.alone_tiles)[:, :, None]
    outside = view.position >= _last_alone(view)
    outside &= view.position < _inner(view, view.last)[:, :, None]
    saved = jnp.where(outside, _steps_before(view) * (extents - 1) * kept, 0)
    return _inner(view, view.tiles * view.visits) - saved.sum(axis=-2)


@dataclass(frozen=True, slots=True)
class _Spread:
    """How an edge multiplies what one child takes: (B11)."""

    moved: Array
    """[O, V, B], children that are served apart."""
    apart: Array
    """[O, V, B], those of them that differ only in dims that do not index the operand."""


def _spread(view: _View, joins: Array) -> _Spread:
    """The children of every store, as a network that joins equal tiles at some levels has them."""
    apart = jnp.where(joins, 1, view.other_copies)
    along = _along_edges(apart, view.keeps)
    if not (view.batch.shape.places and view.batch.shape.sums):
        return _Spread(_along_edges(view.own_copies, view.keeps) * along, along)
    own = _along_edges(view.own_copies, view.keeps)
    places = _places(view, joins, _of_sums(view.batch.shape, own))
    return _Spread(_with_sums(view.batch.shape, own, places) * along, along)


def _along_edges(of_level: Array, keeps: Array) -> Array:
    """The product over the fan-outs between each store and its child; [O, V, B]."""
    found = [of_level[:, -1]]
    for level in range(of_level.shape[1] - 2, -1, -1):
        beyond = jnp.where(keeps[:, level + 1], 1, found[-1])
        found.append(of_level[:, level] * beyond)
    return jnp.stack(found[::-1], axis=1)


def _of_child(of_store: Array, of_macs: Array, keeps: Array) -> Array:
    """What the child of each store has; [O, V, B]."""
    found = [of_macs]
    for level in range(of_store.shape[1] - 1, 0, -1):
        found.append(jnp.where(keeps[:, level], of_store[:, level], found[-1]))
    return jnp.stack(found[::-1], axis=1)


def _places(view: _View, joins: Array, places: Array) -> Array:
    """Of copies [S, V, B], those at different places, where equal tiles are served at once: (B12).

    At most two dims of a rank are unrolled on the joined fan-outs of an edge.
    """
    sums, works = view.sums, view.batch.works
    keeps = _of_sums(view.batch.shape, view.keeps)
    joined = jnp.where(joins, sums.copies, 1)  # [S, K, V, B]
    terms = range(joined.shape[1])
    extents = [_along_edges(joined[:, k], keeps) for k in terms]
    strides = [works.coefficients[:, k, None] * _edge_step(view, joined, k) for k in terms]
    in_rank = (works.weights > 0).any(axis=2)  # [S, R, K, B*]
    for one in terms:
        for other in range(one):
            meet = (in_rank[:, :, one] & in_rank[:, :, other]).any(axis=1)[:, None]
            pair = (extents[one], extents[other])
            twice = jnp.where(meet, _twice(pair, (strides[one], strides[other])), 0)
            places = places - places / (pair[0] * pair[1]) * twice
    return places


def _twice(extents: tuple[Array, Array], strides: tuple[Array, Array]) -> Array:
    """Pairs `(i, j)` whose `i·stride + j·stride'` another pair has, too, but for one each."""
    whole = [jnp.round(stride).astype(jnp.int32) for stride in strides]
    common = jnp.maximum(jnp.gcd(*whole), 1)
    first, second = (jax.lax.stop_gradient(each // common) for each in whole)
    found = jnp.maximum(extents[0] - second, 0) * jnp.maximum(extents[1] - first, 0)
    return jnp.where((extents[0] > 1) & (extents[1] > 1), found, 0)


def _edge_step(view: _View, joined: Array, term: int) -> Array:
    """[S, V, B], by how much the innermost joined unrolling of a dim on an edge advances it."""
    sums, nests = view.sums, view.batch.nests
    levels = jnp.arange(joined.shape[2], dtype=nests.levels.dtype)[:, None, None]
    deeper = sums.own[:, term, None] & (nests.levels > levels)  # [S, V, L, B]
    inner = jnp.concatenate(
        [_inwards(sums.copies[:, term])[:, 1:], jnp.ones_like(joined[:, term, :1])], axis=1
    )
    steps = masked_product(nests.extents, deeper) * inner
    keeps = _of_sums(view.batch.shape, view.keeps)
    own = joined[:, term] > 1
    found = [jnp.where(own[:, -1], steps[:, -1], 0)]
    for level in range(joined.shape[2] - 2, -1, -1):
        beyond = jnp.where(keeps[:, level + 1], 0, found[-1])
        here = jnp.where(own[:, level], steps[:, level], 0)
        found.append(jnp.where(beyond > 0, beyond, here))
    return jnp.stack(found[::-1], axis=1)


def _covered(view: _View) -> Array:
    """[V, B], words of the output that one instance touches in the whole run: (B13)."""
    batch, sums = view.batch, view.sums
    extents = batch.nests.extents
    if batch.shape.operands - 1 not in batch.shape.sums:
        own = masked_product(extents, view.indexes[OUTPUT])
        return own * _inwards(view.own_copies[OUTPUT])
    own = masked_product(extents, view.alone[OUTPUT])
    s = batch.shape.sums.index(batch.shape.operands - 1)
    spans = masked_product(extents, sums.own[s]) * _whole(sums.copies[s])
    lengths = 1 + _sum(batch.works.weights[s] * (spans - 1), axis=-2)  # [R, G, B]
    ratio = batch.works.ratio[s]
    of_ranks = words((lengths[:, 0], lengths[:, 1]), (ratio[:, 0], ratio[:, 1]))
    return own * view.alone_copies[OUTPUT] * _whole(of_ranks)


def _finished(view: _View, covered: Array) -> tuple[Array, Array]:
    """[V, B] each, finished updates and drains: (B15)."""
    single = _outwards(view.other_copies[OUTPUT]) <= 1
    wide = view.batch.works.psum_bits != view.batch.works.bits[OUTPUT]
    inside = jnp.arange(len(covered))[:, None] > 0
    drains = jnp.where(single & wide & inside, covered, 0)
    child = _of_child(single[None], jnp.zeros_like(single[None, 0]), view.keeps[OUTPUT:])[0]
    return jnp.where(child & wide, covered, 0), drains


def _hop_words(view: _View, child_fills: Array, covered: Array) -> Array:
    """[V, B], words times receivers and senders on each fan-out: (B16)."""
    if not view.batch.shape.hops:
        return jnp.zeros_like(covered)
    levels = len(covered)
    networks = view.batch.networks
    crosses = _crossings(view.keeps)
    elides = view.batch.shape.convention.elides_first_read
    found: list[Array] = []
    for fanout in range(levels):
        deeper = (jnp.arange(levels) > fanout)[:, None]
        inwards = _spread(view, networks.multicast & deeper)
        outwards = _spread(view, networks.reduction & deeper)
        crossing = inwards.moved * child_fills
        of_output = outwards.moved[OUTPUT] * child_fills[OUTPUT]
        if elides:
            of_output = of_output - inwards.apart[OUTPUT] * covered
        crossing = _to_output(crossing, of_output)
        found.append((crossing * view.instances * crosses(fanout)).sum(axis=(0, 1)))
    return jnp.stack(found)


def _crossings(keeps: Array) -> Callable[[int], Array]:
    """For a fan-out: which edges cross it, [O, V, B], by their outer store."""

    def crosses(fanout: int) -> Array:
        reaches = [
            keeps[:, level] & ~keeps[:, level + 1 : fanout + 1].any(axis=1)
            if level <= fanout
            else jnp.zeros_like(keeps[:, level])
            for level in range(keeps.shape[1])
        ]
        return jnp.stack(reaches, axis=1)

    return crosses
