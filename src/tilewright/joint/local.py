"""Parallel local search: thousands of neighbours of many designs in one batch.

Owns: `improve`, one compiled program for all layers and chips of a study, and `price_genes`.

A step draws K neighbours of each of N mappings, each of N on a chip of its own: one or two atoms go
to other slots, loops of a level change places, an operand passes a level by or is kept. The best of
K is taken if it is no worse, or by less than the temperature.

Non-goals: which chips (`joint/study.py`).
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tilewright.joint.genome import Frame, Genes, LayerArrays
from tilewright.joint.goal import EXCESS_WEIGHT
from tilewright.joint.uses import Uses, uses_of
from tilewright.model.batch import Batch, Chips, count_batch, price_batch
from tilewright.model.batch.nouns import Array, Nests, Networks

_TWO_ATOMS, _NO_ATOM, _SWAP, _REORDER, _BYPASS = 0.4, 0.2, 0.5, 0.4, 0.15
"""How often a neighbour has two moved atoms, none, the second in the first one's place, …"""
_DRAWS = 11
_QUIET = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], dtype=np.float32)
"""Draws that change nothing."""


@dataclass(frozen=True, slots=True)
class Priced:
    """Mappings with their prices, [B] each.

    Attributes:
        genes: the mappings.
        energy_pj: of one run of the layer.
        cycles: likewise.
        excess: used over usable, of the worst capacity or axis; they fit if it is at most 1.
    """

    genes: Genes
    energy_pj: Array
    cycles: Array
    excess: Array


@dataclass(frozen=True, slots=True)
class Found:
    """Mappings with what they use and their prices on the chips they were improved on, [B] each."""

    genes: Genes
    uses: Uses
    energy_pj: Array
    cycles: Array
    excess: Array


@dataclass(frozen=True, slots=True)
class Site:
    """Where mappings run: chips, networks, and which levels are there, [V, B]."""

    chips: Chips
    networks: Networks
    present: Array


@dataclass(frozen=True, slots=True)
class _Trial:
    """Mappings to be priced in the next step, [.., K, N].

    A step leaves them to the next one with all that is looked at often, so that it is written once;
    what is computed in the step itself is computed anew wherever it is used.
    """

    genes: Genes
    factors: Array
    extents: Array


_State = tuple[Genes, Array, Found, Array, _Trial]
"""Where a search is, its merit, the best seen, its merit, what is tried next."""

for _noun in (Priced, Found, Site, _Trial):
    jax.tree_util.register_dataclass(_noun, list(_noun.__dataclass_fields__), [])


def factors_of(genes: Genes, layer: LayerArrays, frame: Frame) -> Array:
    """[slots, D, B], the extents that the atoms in each slot make."""
    slots = jnp.arange(len(frame.slots))[:, None, None]
    own_dim = layer.dim[None, :] == jnp.arange(frame.dims)[:, None]  # [D, Z]
    here = genes.slot[None] == slots  # [slots, Z, B]
    chosen = here[:, None] & own_dim[None, :, :, None]
    return jnp.prod(jnp.where(chosen, layer.prime[:, None], 1), axis=2)


def extents_of(factors: Array, order: Array, frame: Frame) -> Array:
    """[V, D, ...], the extents of the temporal loops, where they stand."""
    levels = frame.levels
    each = (jnp.where(order == dim, factors[:levels, None, dim], 0) for dim in range(frame.dims))
    return reduce(jnp.add, each)


def nests_of(
    factors: Array, order: Array, keeps: Array, frame: Frame, extents: Array | None = None
) -> Nests:
    """The nests of the batch model; `extents` as `extents_of` returns them, if they are known."""
    levels, dims, count = frame.levels, frame.dims, factors.shape[-1]
    if extents is None:
        extents = extents_of(factors, order, frame)
    unrolled = [[jnp.ones((dims, count), factors.dtype)] * 2 for _ in range(levels)]
    for slot, (level, axis) in enumerate(frame.slots):
        if axis >= 0:
            unrolled[level][axis] = factors[slot]
    depths = np.arange(levels)[None, :, None] * dims
    return Nests(
        extents.reshape(levels * dims, count),
        order.reshape(levels * dims, count).astype(jnp.int32),
        jnp.broadcast_to(
            jnp.repeat(jnp.arange(levels, dtype=jnp.int32), dims)[:, None], (levels * dims, count)
        ),
        jnp.stack([jnp.stack(axes) for axes in unrolled]),
        keeps,
        jnp.broadcast_to(jnp.asarray(depths, dtype=jnp.int32), keeps.shape),
    )


def price_factors(  # noqa: PLR0913, PLR0917
    factors: Array,
    order: Array,
    keeps: Array,
    layer: LayerArrays,
    site: Site,
    frame: Frame,
    *,
    whole_cycles: bool = True,
) -> tuple[Array, Array, Array]:
    """Energy, cycles and excess, [B] each. An absent level keeps nothing and has no loops."""
    _, *priced = _used(factors, order, keeps, layer, site, frame, whole_cycles)
    return priced[0], priced[1], priced[2]


def _used(  # noqa: PLR0913, PLR0917
    factors: Array,
    order: Array,
    keeps: Array,
    layer: LayerArrays,
    site: Site,
    frame: Frame,
    whole_cycles: bool,
    extents: Array | None = None,
) -> tuple[Uses, Array, Array, Array]:
    """What mappings use, energy, cycles and excess."""
    there = site.present
    nests = nests_of(factors, order, keeps & there, frame, extents)
    batch = Batch(nests, layer.works, site.networks, frame.shape)
    counts = count_batch(batch)
    cost = price_batch(batch, counts, site.chips, whole_cycles=whole_cycles)
    astray = jnp.prod(jnp.where(there, 1, jnp.prod(factors[: frame.levels], axis=1)), axis=0)
    uses = uses_of(batch, counts, there, astray)
    return uses, cost.energy_pj, cost.cycles, jnp.maximum(cost.excess, astray)


@partial(jax.jit, static_argnames="frame")
def price_genes(genes: Genes, layer: LayerArrays, site: Site, frame: Frame) -> Priced:
    """Price mappings as they are."""
    factors = factors_of(genes, layer, frame)
    energy, cycles, excess = price_factors(factors, genes.order, genes.keeps, layer, site, frame)
    return Priced(genes, energy, cycles, excess)


def merit_of(energy: Array, cycles: Array, excess: Array, worth: Any) -> Array:
    """Less is better. `worth` [2, B]: of a relative saving of energy, and of cycles."""
    found = worth[0] * jnp.log(energy) + worth[1] * jnp.log(cycles)
    return found + EXCESS_WEIGHT * jnp.log(jnp.maximum(excess, 1))


@partial(jax.jit, static_argnames=("frame", "neighbours"))
def improve(  # noqa: PLR0913, PLR0917
    genes: Genes,
    layer: LayerArrays,
    site: Site,
    worth: Array,
    temperature: Array,
    key: Array,
    steps: Array,
    frame: Frame,
    neighbours: int,
) -> Found:
    """Improve N mappings of one layer, each on its own chip.

    Args:
        genes: where to start, [.., N].
        layer: the layer.
        site: the chips, with N on the last axis.
        worth: [2, N], of a relative saving of energy and of cycles.
        temperature: [N], by how much worse a neighbour may be and still be taken.
        key: of random choices.
        steps: how many; no new program is compiled for another number. None only prices.
        frame: of the study.
        neighbours: K, tried in a step for each.

    Returns: the best that was seen of each, never worse than the start.
    """
    count = genes.count
    wide = jax.tree.map(lambda leaf: _widened(leaf, count, neighbours), site)

    def step(at: Array, state: _State) -> _State:
        now, merit, best, least, trial = state
        found = _priced(trial, layer, wide, frame)
        merits = merit_of(found.energy_pj, found.cycles, found.excess, worth[:, None])
        chosen = jnp.argmin(merits, axis=0)
        found_merit = _pick(merits, chosen)
        offered = jax.tree.map(lambda leaf: _pick(leaf, chosen), found)
        take = (found_merit <= merit + temperature) | (at == 0)
        now = jax.tree.map(lambda a, b: jnp.where(take, a, b), offered.genes, now)
        merit = jnp.where(take, found_merit, merit)
        better = (found_merit < least) | (at == 0)
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), offered, best)
        draws = jax.random.uniform(jax.random.fold_in(key, at), (_DRAWS, neighbours, count))
        trial = _neighbours(now, layer, draws, frame)
        return now, merit, best, jnp.where(better, found_merit, least), trial

    worst = jnp.full(count, jnp.inf, dtype=worth.dtype)
    quiet = jnp.broadcast_to(_QUIET[:, None, None], (_DRAWS, neighbours, count))
    first = _neighbours(genes, layer, quiet, frame)  # the start itself: it is priced, too
    start = (genes, worst, _nothing(genes, layer, site, frame), worst, first)
    return jax.lax.fori_loop(0, steps + 1, step, start)[2]


def _nothing(genes: Genes, layer: LayerArrays, site: Site, frame: Frame) -> Found:
    """What is found before anything is, of the right shapes."""

    def priced() -> Found:
        factors = factors_of(genes, layer, frame)
        return Found(genes, *_used(factors, genes.order, genes.keeps, layer, site, frame, True))

    shapes = jax.eval_shape(priced)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def _widened(leaf: Array, count: int, neighbours: int) -> Array:
    """[.., N] once for each neighbour, [.., K·N]; 1 stays 1."""
    if not leaf.shape[-1] == count > 1:
        return leaf
    return _flat(jnp.broadcast_to(leaf[..., None, :], (*leaf.shape[:-1], neighbours, count)))


def _pick(leaf: Array, chosen: Array) -> Array:
    """Of [.., K, N] the chosen of each N."""
    at = jnp.broadcast_to(chosen, (*leaf.shape[:-2], 1, leaf.shape[-1]))
    return jnp.take_along_axis(leaf, at, axis=-2)[..., 0, :]


def _neighbours(genes: Genes, layer: LayerArrays, draws: Array, frame: Frame) -> _Trial:
    """K neighbours of each mapping, [.., K, N]."""
    factors = factors_of(genes, layer, frame)[..., None, :]
    slot = jnp.broadcast_to(genes.slot[..., None, :], (frame.atoms, *draws.shape[1:]))
    slot, factors = _move_atoms(slot, factors, layer, draws, frame)
    order = _reordered(genes.order[..., None, :], draws, frame)
    keeps = _bypassed(genes.keeps[..., None, :], layer, draws)
    extents = extents_of(factors, order, frame)
    return _Trial(Genes(slot, order, keeps), factors, extents)


def _priced(trial: _Trial, layer: LayerArrays, wide: Site, frame: Frame) -> Found:
    """What neighbours use and cost, [.., K, N]."""
    genes = trial.genes
    flat = (_flat(trial.factors), _flat(genes.order), _flat(genes.keeps))
    priced = _used(*flat, layer, wide, frame, True, _flat(trial.extents))
    both = trial.factors.shape[-2:]
    return Found(genes, *jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:-1], *both), priced))


def _flat(leaf: Array) -> Array:
    return leaf.reshape(*leaf.shape[:-2], -1)


def _move_atoms(
    slot: Array, factors: Array, layer: LayerArrays, draws: Array, frame: Frame
) -> tuple[Array, Array]:
    room = jnp.maximum((layer.prime > 1).sum(), 1)
    number = jnp.arange(frame.atoms)[:, None, None]
    one, two = (jnp.floor(draws[i] * room).astype(jnp.int32) for i in (0, 1))
    first_from = jnp.take_along_axis(slot, one[None], axis=0)[0]
    first_to = jnp.floor(draws[2] * len(frame.slots)).astype(slot.dtype)
    elsewhere = jnp.floor(draws[3] * len(frame.slots)).astype(slot.dtype)
    second_to = jnp.where(draws[4] < _SWAP, first_from, elsewhere)
    moves = (
        (one, first_to, draws[5] > _NO_ATOM),
        (two, second_to, (draws[5] > 1 - _TWO_ATOMS) & (one != two)),
    )
    slots = jnp.arange(len(frame.slots))[:, None, None, None]
    dims = jnp.arange(frame.dims)[:, None, None]
    for atom, to, wanted in moves:
        source = jnp.take_along_axis(slot, atom[None], axis=0)[0]
        dim, prime = layer.dim[atom], layer.prime[atom]
        moves_it = wanted & layer.allowed[to, dim] & (to != source)
        prime = jnp.where(moves_it, prime, 1)
        own = dims == dim
        factors = factors * jnp.where((slots == to) & own, prime, 1)
        factors = factors / jnp.where((slots == source) & own, prime, 1)
        slot = jnp.where((number == atom) & moves_it, to, slot)
    return slot, jnp.round(factors)


def _reordered(order: Array, draws: Array, frame: Frame) -> Array:
    """Two loops of one level change places."""
    level = jnp.floor(draws[6] * frame.levels).astype(jnp.int32)
    here = jnp.floor(draws[7] * frame.dims).astype(jnp.int32)
    there = jnp.floor(draws[8] * frame.dims).astype(jnp.int32)
    wanted = draws[9] < _REORDER
    place = jnp.arange(frame.dims)[:, None, None]
    at_level = (jnp.arange(frame.levels)[:, None, None, None] == level) & wanted
    first = jnp.where(place == here, order, 0).sum(axis=1, keepdims=True).astype(order.dtype)
    second = jnp.where(place == there, order, 0).sum(axis=1, keepdims=True).astype(order.dtype)
    swapped = jnp.where(place == here, second, jnp.where(place == there, first, order))
    return jnp.where(at_level, swapped, order)


def _bypassed(keeps: Array, layer: LayerArrays, draws: Array) -> Array:
    """An operand passes a level by that kept it, or the other way round."""
    operands, levels = keeps.shape[:2]
    choice = draws[10] / _BYPASS * (operands * levels)
    at = jnp.floor(choice).astype(jnp.int32)  # from operands · levels on: no change
    number = jnp.arange(operands * levels).reshape(operands, levels)[..., None, None]
    free = (layer.may_keep & ~layer.must_keep)[..., None, None]
    return jnp.where((number == at) & free, ~keeps, keeps)
