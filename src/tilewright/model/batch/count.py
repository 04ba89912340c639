"""The counts of `spec/model.md §3` in matrix form, for all mappings of a batch at once.

Owns: formulas (B5) to (B16) of `docs/batch-model.md`, and the verb `count_batch`; the pass over
temporal loops is in `loops.py`. Nothing here looks at `walk` or `exact`: it is a third witness.

Non-goals: imperfect factors and padding (`encode.py` refuses them), and any price (`price.py`).
Loops, levels and relevance are numbers in arrays, so that one compilation serves all mappings and
layers of a shape, and the gradient of a product over a mask is written by hand.
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from dataclasses import dataclass
from functools import reduce
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np

from tilewright.model.batch.loops import (
    Loop,
    Loops,
    grown,
    inner,
    moves_alone,
    of_sums,
    over_loops,
    pass_loops,
    short_sum,
    step_of,
)
from tilewright.model.batch.nouns import OUTPUT, Array, Batch, BatchCounts, Shape
from tilewright.model.batch.overlap import shared, shared_along, words
from tilewright.model.batch.precision import in_precision_of
from tilewright.model.convention import Reuse


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


def _count_all(batch: Batch) -> BatchCounts:
    view = _make_view(batch)
    fills = _fills(view)
    joins = jnp.stack([batch.networks.multicast, batch.networks.reduction])
    spread = _spread(view, joins)
    covered = _covered(view)
    steps = view.steps
    child_fills = _of_child(fills, jnp.broadcast_to(steps, fills[:, 0].shape), view)
    reads = spread.moved[0] * child_fills
    first = spread.apart[0, OUTPUT] * covered
    elides = view.batch.shape.convention.elides_first_read
    if elides:
        reads = _to_output(reads, -first)
    updates = spread.moved[1, OUTPUT] * child_fills[OUTPUT]
    inside = (jnp.arange(len(covered)) > 0)[:, None]
    drains = fills[OUTPUT] * inside
    kept = view.keeps[OUTPUT]
    entered = (_to_output(fills, -covered) if elides else fills) * inside
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


_count = jax.jit(_count_all)


@dataclass(frozen=True, slots=True)
class _View:
    """What several counts need. Axes as in `nouns.py`."""

    batch: Batch
    loops: Loops
    visits: Array
    """[O, V, B], temporal steps of the loops that move a tile."""
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
    edges: Array
    """[O, V, V, B], which fan-outs lie between each store and its child."""
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

    copies: Array
    """[S, K, V, B], by how much the fan-out below a level unrolls the dim."""
    copies_inside: Array
    """[S, K, V, B], by how much all fan-outs inside a level do."""
    whole: Array
    """[S, K, B], steps that all temporal loops take along the dim."""
    spans: Array
    """[S, V, K, B], steps that the loops inside a block take along the dim."""
    lengths: Array
    """[S, V, R, G, B]."""
    rank_words: Array
    """[S, V, R, B]."""


def _make_view(batch: Batch) -> _View:
    nests, works = batch.nests, batch.works
    unrolled = masked_product(jnp.moveaxis(nests.unrolled, 1, 2), jnp.asarray(True))  # [V, D, B]
    bits = jnp.arange(unrolled.shape[1], dtype=works.indexing.dtype)[:, None]
    indexes_dim = (works.indexing[:, None] >> bits) & 1 > 0  # [O, D, B*]
    alone_dim = (works.alone[:, None] >> bits) & 1 > 0
    is_term = (works.terms[:, :, None] == bits)[:, :, None]  # [S, K, 1, D, B*]
    of_terms = masked_product(unrolled, is_term)  # [S, K, V, B]
    copies_inside = _inwards(of_terms)
    loops = pass_loops(batch, copies_inside)
    sums = _make_sums(batch, loops, of_terms, copies_inside)
    alone_copies = _inwards(masked_product(unrolled, alone_dim[:, None]))
    alone_tiles = loops.tiles * alone_copies
    of_summed = of_sums(batch.shape, alone_tiles) * _whole(sums.rank_words)
    tiles = _with_sums(batch.shape, alone_tiles, of_summed)
    copies = masked_product(unrolled, jnp.asarray(True))
    return _View(
        batch,
        loops,
        loops.visits,
        loops.steps,
        copies,
        masked_product(unrolled, indexes_dim[:, None]),
        masked_product(unrolled, ~indexes_dim[:, None]),
        _outwards(copies),
        nests.keeps,
        _edges(nests.keeps),
        alone_copies,
        alone_tiles,
        sums,
        tiles,
    )


def _make_sums(batch: Batch, loops: Loops, copies: Array, copies_inside: Array) -> _Sums:
    works = batch.works
    spans = loops.spans * jnp.moveaxis(copies_inside, 2, 1)
    lengths = _lengths(works.weights, spans)
    ratio = works.ratio[:, None]
    both = (lengths[:, :, :, 0], lengths[:, :, :, 1])
    rank_words = words(both, (ratio[:, :, :, 0], ratio[:, :, :, 1]))
    return _Sums(copies, copies_inside, loops.whole, spans, lengths, rank_words)


def _lengths(weights: Array, spans: Array) -> Array:
    """[S, V, R, G, B], steps that each group of terms takes in a tile."""
    return 1 + _grouped(weights, spans - 1)


def _grouped(weights: Array, of_term: Array) -> Array:
    """Sum [S, V, K, B] over the terms of each group of each rank: [S, V, R, G, B]."""
    return short_sum(weights[:, None] * of_term[:, :, None, None], axis=-2)


def _whole(parts: Array) -> Array:
    """The product over the last axis but one, which is short."""
    return reduce(jnp.multiply, [parts[..., i, :] for i in range(parts.shape[-2])])


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
    shape, loops = view.batch.shape, view.loops
    tiles, before = inner(shape, view.tiles), inner(shape, loops.before)
    more = inner(shape, loops.taken) - 1
    slides = shape.convention.reuse is Reuse.SLIDING
    kept = _slid(view) if slides else jnp.zeros_like(tiles)
    return before * (tiles + more * (tiles - kept)) - tiles * _still_steps(view)


def _still_steps(view: _View) -> Array:
    """[S, V-1, B], steps at which an outer loop moves a tile back to where it was: (B9)."""
    return view.loops.of_blocks.still


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


def _slid(view: _View) -> Array:
    """[S, V-1, B], words that a tile keeps at a step of the innermost loop that moves it: (B8)."""
    sums, works, of_blocks = view.sums, view.batch.works, view.loops.of_blocks
    taken = works.terms[:, None] == of_blocks.dim[:, :, None]  # [S, V-1, K, B]
    level = of_blocks.level[:, :, None, None]  # [S, V-1, 1, 1, B]
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
    return jnp.where(taken.any(axis=2), inner(view.batch.shape, view.alone_tiles) * _whole(kept), 0)


def _turned(pair: tuple[Array, Array], turn: Array) -> tuple[Array, Array]:
    return jnp.where(turn, pair[1], pair[0]), jnp.where(turn, pair[0], pair[1])


def _fills_of_delta(view: _View) -> Array:
    """[S, V-1, B], where every loop keeps what the tiles before and after its step share."""
    sums, batch = view.sums, view.batch
    shape, works = batch.shape, batch.works
    tiles = inner(shape, view.alone_tiles)
    groups = works.weights.shape[1:3]
    lengths = sums.lengths[:, 1:, :, 0], sums.lengths[:, 1:, :, 1]
    ratio = works.ratio[:, None, :, 0], works.ratio[:, None, :, 1]

    def met(state: _Delta, loop: Loop, _: None) -> tuple[_Delta, None]:
        outside = ~inner(shape, loop.inside)
        moves = outside & (of_sums(shape, loop.indexes) & (loop.extent > 1))[:, None]
        seen, alone = state.seen | moves, state.alone | moves_alone(shape, loop, outside)
        steps = works.weights * step_of(state.whole, sums.copies_inside, loop)[:, None, None]
        step = short_sum(steps, axis=3)[:, None]  # [S, 1, R, G, B]
        move = step - state.rewound
        kept = tiles * _whole(shared(lengths, (move[:, :, :, 0], move[:, :, :, 1]), ratio))
        after = _Delta(
            grown(state.whole, loop),
            seen,
            alone,
            state.rewound + jnp.where(outside[:, :, None, None], step * loop.more, 0),
            state.saved * loop.extent + jnp.where(seen & ~alone, loop.more * kept, 0),
        )
        return after, None

    never = jnp.zeros(tiles.shape, dtype=bool)
    rewound = jnp.zeros_like(tiles, shape=(*tiles.shape[:2], *groups, tiles.shape[-1]))
    start = _Delta(jnp.ones_like(sums.whole), never, never, rewound, jnp.zeros_like(tiles))
    state, _ = over_loops(batch, met, start)
    return inner(shape, view.tiles * view.visits) - state.saved


@dataclass(frozen=True, slots=True)
class _Delta:
    """What the loops met so far, the innermost first, keep of tiles in the convention `ideal`."""

    whole: Array
    """[S, K, B], steps along a dim of a sum."""
    seen: Array
    """[S, V-1, B], whether a loop outside a block has moved its tile."""
    alone: Array
    """[S, V-1, B], whether one has moved a rank of one dim."""
    rewound: Array
    """[S, V-1, R, G, B], how far they move each group of each rank."""
    saved: Array
    """[S, V-1, B], words that need no fill."""


jax.tree_util.register_dataclass(_Delta, list(_Delta.__dataclass_fields__), [])


@dataclass(frozen=True, slots=True)
class _Spread:
    """How edges multiply what one child takes, on J networks: (B11)."""

    moved: Array
    """[J, O, V, B], children that are served apart."""
    apart: Array
    """[J, O, V, B], those of them that differ only in dims that do not index the operand."""


def _spread(view: _View, joins: Array) -> _Spread:
    """The children of every store; `joins` [J, V, B*] says where networks join equal tiles."""
    apart = jnp.where(joins[:, None], 1, view.other_copies)
    along = _along(apart, view.edges)
    own = jnp.broadcast_to(_along(view.own_copies, view.edges), along.shape)
    shape = view.batch.shape
    if shape.places and shape.sums:
        at = [of_sums(shape, each) for each in own]
        places = _places(view, joins, jnp.stack(at))
        own = jnp.stack([_with_sums(shape, *pair) for pair in zip(own, places, strict=True)])
    return _Spread(own * along, along)


def _edges(keeps: Array) -> Array:
    """[O, V, V, B], whether the edge from a store to its child crosses the fan-out below a level.

    It does if the level is the store's own or inside it, and no level from there on keeps the
    operand.
    """
    levels = range(keeps.shape[1])
    never = jnp.zeros_like(keeps[:, 0])
    return jnp.stack(
        [
            jnp.stack(
                [~keeps[:, v + 1 : w + 1].any(axis=1) if w >= v else never for w in levels], axis=1
            )
            for v in levels
        ],
        axis=1,
    )


def _along(of_level: Array, edges: Array) -> Array:
    """The product over the fan-outs that each edge crosses; [..., O, V, B]."""
    return masked_product(of_level[..., None, :, :], edges)


def _of_child(of_store: Array, of_macs: Array, view: _View, *, output: bool = False) -> Array:
    """What the child of each store has: the next store inwards, or the MACs; [O, V, B]."""
    edges = view.edges[OUTPUT:] if output else view.edges
    keeps = view.keeps[OUTPUT:] if output else view.keeps
    found = jnp.where(edges[:, :, -1], of_macs[:, None], 0)
    for level in range(1, keeps.shape[1]):
        is_child = edges[:, :, level - 1] & keeps[:, None, level]
        found = jnp.where(is_child, of_store[:, None, level], found)
    return found


def _places(view: _View, joins: Array, copies: Array) -> Array:
    """Of copies [J, S, V, B], those at different places, equal tiles being served at once: (B12).

    At most two dims of a rank are unrolled on the joined fan-outs of an edge.
    """
    sums, works = view.sums, view.batch.works
    edges = of_sums(view.batch.shape, view.edges)[:, None]  # [S, 1, V, V, B]
    joined = jnp.where(joins[:, None, None], sums.copies, 1)  # [J, S, K, V, B]
    extents = masked_product(joined[:, :, :, None], edges)
    strides = works.coefficients[:, :, None] * _edge_steps(view, joined, edges)
    room = view.batch.shape.terms
    for start in range(0, extents.shape[2], room):
        terms = range(start, start + room)
        whole = reduce(jnp.multiply, [extents[:, :, term] for term in terms])
        less = jnp.zeros_like(whole)
        for one, other in combinations(terms, 2):
            pair = extents[:, :, one], extents[:, :, other]
            less += _twice(pair, (strides[:, :, one], strides[:, :, other]))
        copies = copies / whole * (whole - less)
    return copies


def _twice(extents: tuple[Array, Array], strides: tuple[Array, Array]) -> Array:
    """Pairs `(i, j)` whose `i·stride + j·stride'` another pair has, too, but for one each."""
    whole = [jnp.round(jax.lax.stop_gradient(stride)) for stride in strides]
    common = jnp.maximum(_gcd(*whole), 1)
    first, second = (each / common for each in whole)
    found = jnp.maximum(extents[0] - second, 0) * jnp.maximum(extents[1] - first, 0)
    return jnp.where((extents[0] > 1) & (extents[1] > 1), found, 0)


def _gcd(one: Array, other: Array) -> Array:
    """By Euclid, of whole numbers that are floats: integers have no division on many at once."""

    def left(pair: tuple[Array, Array]) -> Array:
        return (pair[1] > 0).any()

    def shorter(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        long, short = pair
        rest = long - short * jnp.floor(long / jnp.maximum(short, 1))
        return jnp.where(short > 0, short, long), jnp.where(short > 0, rest, 0)

    return jax.lax.while_loop(left, shorter, (one, other))[0]


def _edge_steps(view: _View, joined: Array, edges: Array) -> Array:
    """[J, S, K, V, B], by how much an edge's innermost joined unrolling of a dim advances it."""
    sums = view.sums
    levels = jnp.arange(joined.shape[3], dtype=view.batch.nests.levels.dtype)[:, None]
    steps = view.loops.deeper * sums.copies_inside / sums.copies
    present = edges & (joined > 1)[:, :, :, None]  # [J, S, K, V, V, B]
    innermost = jnp.where(present, levels + 1, 0).max(axis=-2, keepdims=True)
    return jnp.where(levels + 1 == innermost, steps[:, :, None], 0).max(axis=-2)


def _covered(view: _View) -> Array:
    """[V, B], words of the output that one instance touches in the whole run: (B13)."""
    batch, sums, own = view.batch, view.sums, view.loops.own_steps
    if batch.shape.operands - 1 not in batch.shape.sums:
        return own * _inwards(view.own_copies[OUTPUT])
    s = batch.shape.sums.index(batch.shape.operands - 1)
    spans = sums.whole[s] * _whole(sums.copies[s])
    lengths = 1 + short_sum(batch.works.weights[s] * (spans - 1), axis=-2)  # [R, G, B]
    ratio = batch.works.ratio[s]
    of_ranks = words((lengths[:, 0], lengths[:, 1]), (ratio[:, 0], ratio[:, 1]))
    return own * view.alone_copies[OUTPUT] * _whole(of_ranks)


def _finished(view: _View, covered: Array) -> tuple[Array, Array]:
    """[V, B] each, finished updates and drains: (B15)."""
    single = _outwards(view.other_copies[OUTPUT]) <= 1
    wide = view.batch.works.psum_bits != view.batch.works.bits[OUTPUT]
    inside = jnp.arange(len(covered))[:, None] > 0
    drains = jnp.where(single & wide & inside, covered, 0)
    final = jnp.where(single, 1, 0)[None]
    child = _of_child(final, jnp.zeros_like(final[:, 0]), view, output=True)[0] > 0
    return jnp.where(child & wide, covered, 0), drains


def _hop_words(view: _View, child_fills: Array, covered: Array) -> Array:
    """[V, B], words times receivers and senders on each fan-out: (B16)."""
    if not view.batch.shape.hops:
        return jnp.zeros_like(covered)
    networks, count = view.batch.networks, len(covered)
    deeper = (np.arange(count) > np.arange(count)[:, None])[:, :, None]  # [J, V, 1]
    inwards = _spread(view, networks.multicast & deeper)
    outwards = _spread(view, networks.reduction & deeper)
    first = inwards.apart[:, OUTPUT] * covered
    elided = first if view.batch.shape.convention.elides_first_read else 0
    of_output = outwards.moved[:, OUTPUT] * child_fills[OUTPUT] - elided
    moved = inwards.moved * child_fills
    crossing = jnp.moveaxis(view.edges, 2, 0) & view.keeps  # [J, O, V, B]
    of_all = short_sum(jnp.where(crossing, moved, 0), axis=1)
    of_all += jnp.where(crossing[:, OUTPUT], of_output, 0)
    return short_sum(of_all * view.instances, axis=1)
