"""What counted mappings cost on chips: `spec/model.md §4` for a whole batch.

Owns: formulas (B17) to (B23) of `docs/batch-model.md`, and the verbs `price_batch` and
`evaluate_batch`.

Non-goals: the ramp: loads and stores are taken to overlap the work.
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np

from tilewright.model.batch.count import count_batch
from tilewright.model.batch.nouns import OUTPUT, Array, Batch, BatchCost, BatchCounts, Chips
from tilewright.model.batch.precision import in_precision_of

CHUNK = 1024
"""Mappings evaluated together: what they need then stays in a core's cache."""


def price_batch(
    batch: Batch, counts: BatchCounts, chips: Chips, *, whole_cycles: bool = True
) -> BatchCost:
    """Put prices on counts.

    Args:
        batch: what was counted.
        counts: as `count_batch` returns them.
        chips: one for all mappings, or one for each.
        whole_cycles: round the cycles of every port up; without, they have a slope.

    Returns: energies in pJ, cycles, and whether mappings fit.

    Source: `spec/model.md §4`.
    """
    with in_precision_of(batch.nests.extents):
        return _price(batch, counts, chips, whole_cycles)


@partial(jax.jit, static_argnames="whole_cycles")
def _price(batch: Batch, counts: BatchCounts, chips: Chips, whole_cycles: bool) -> BatchCost:
    reads, fills, updates = moved_bits(batch, counts)
    instances = _instances(chips)
    accesses = reads * chips.read_pj + fills * chips.write_pj + updates * chips.update_pj
    ports = _port_cycles(chips, reads, fills + updates, whole_cycles)
    cycles = jnp.maximum(counts.steps, _greatest(ports))
    level_pj = (
        accesses * counts.instances / chips.word_bits
        + chips.hop_pj * counts.hop_words
        + chips.leak_pj_per_cycle * instances[:-1] * cycles
    )
    energy = _over_operands(level_pj) + counts.macs * chips.mac_pj
    used, excess = _capacity(batch, counts, chips)
    words = counts.reads[:, 0].sum(axis=0) + counts.updates[0]
    area = _over_operands(instances[:-1] * chips.area_mm2) + instances[-1] * chips.mac_area_mm2
    excess = jnp.maximum(excess, _axis_use(batch, chips))
    return BatchCost(
        energy_pj=energy,
        level_pj=level_pj,
        cycles=cycles,
        compute_cycles=counts.steps,
        port_cycles=ports,
        dram_words=words,
        used_bits=used,
        excess=excess,
        fits=excess <= 1,
        utilization=counts.macs / (cycles * instances[-1]),
        power_w=energy * chips.clock_ghz / cycles * 1e-3,
        area_mm2=jnp.broadcast_to(area, energy.shape),
        edp=energy * cycles,
    )


def moved_bits(batch: Batch, counts: BatchCounts) -> tuple[Array, Array, Array]:
    """[V, B] each, bits that one instance reads, is filled with, and is updated with: (B17)."""
    bits, psum = batch.works.bits, batch.works.psum_bits
    wide = psum - bits[OUTPUT]
    charged = batch.shape.convention.charges_drains
    inputs = bits[:OUTPUT, None]
    reads = _over_operands(counts.reads[:OUTPUT] * inputs) + counts.reads[OUTPUT] * psum
    drains = counts.drains * psum - counts.finished_drains * wide
    reads += drains if charged else 0
    fills = _over_operands(counts.fills[:OUTPUT] * inputs) + counts.fills[OUTPUT] * psum
    return reads, fills, counts.updates * psum - counts.finished_updates * wide


def tile_bits(batch: Batch, counts: BatchCounts) -> tuple[Array, Array]:
    """Bits that tiles take in one instance: [inputs, V, B], and [V, B] of the output: (B20)."""
    bits, psum = batch.works.bits, batch.works.psum_bits
    often = counts.updates * counts.instances > counts.output_words
    of_inputs = counts.tile_words[:OUTPUT] * bits[:OUTPUT, None]
    return of_inputs, counts.tile_words[OUTPUT] * jnp.where(often, psum, bits[OUTPUT])


def _over_operands(of_each: Array) -> Array:
    """The sum over the first axis, which is short."""
    total = of_each[0]
    for each in of_each[1:]:
        total = total + each
    return total


def _greatest(of_each: Array) -> Array:
    """The maximum over the first axis, which is short: a reduction would do one after another."""
    return reduce(jnp.maximum, [of_each[at] for at in range(of_each.shape[0])])


def _instances(chips: Chips) -> Array:
    """[V+1, B*], instances of every level of the chip, and its MAC units."""
    found = [jnp.ones_like(chips.copies[0, 0])]
    for level in range(chips.copies.shape[0]):
        found.append(found[-1] * chips.copies[level, 0] * chips.copies[level, 1])
    return jnp.stack(found)


def _port_cycles(chips: Chips, read: Array, written: Array, whole_cycles: bool) -> Array:
    """[V, B], that the busiest port of an instance is busy; `read` and `written` in bits."""
    words = (read / chips.read_bandwidth, written / chips.write_bandwidth)
    longest = jnp.maximum(jnp.maximum(*words), (read + written) / chips.bandwidth)
    cycles = longest / chips.word_bits
    if not whole_cycles:
        return cycles
    # A division that comes out even may be a few units in the last place above a whole number.
    slack = 8 * jnp.finfo(cycles.dtype).eps
    return jnp.ceil(cycles * (1 - slack))


def _capacity(batch: Batch, counts: BatchCounts, chips: Chips) -> tuple[Array, Array]:
    """[V, B], bits that tiles take, and [B], the greatest of used over usable bits."""
    of_inputs, of_output = tile_bits(batch, counts)
    used = _over_operands(of_inputs) + of_output
    shared = _greatest(used / chips.capacity_bits)
    own = _greatest(_greatest(of_inputs / chips.share_bits[:OUTPUT]))
    return used, jnp.maximum(shared, jnp.maximum(own, _greatest(of_output / chips.share_bits[-1])))


def _axis_use(batch: Batch, chips: Chips) -> Array:
    """[B], 1 if every unrolling fits its axis, else the greatest of used over copies."""
    unrolled = batch.nests.unrolled
    used = unrolled[:, :, 0]
    for dim in range(1, unrolled.shape[2]):
        used = used * unrolled[:, :, dim]
    return _greatest(_greatest(jnp.where(used > chips.copies, used / chips.copies, 0)))


def evaluate_batch(
    batch: Batch,
    chips: Chips,
    *,
    whole_cycles: bool = True,
    chunk: int = CHUNK,
    threads: int = 1,
) -> BatchCost:
    r"""Count and price all mappings of a batch, a chunk at a time, so that memory is bounded.

    Args:
        batch: as `encode` or `join` return it, on the host.
        chips: one for all mappings, or one for each.
        whole_cycles: round the cycles of every port up.
        chunk: mappings evaluated together; one compilation serves all chunks.
        threads: chunks evaluated at the same time.

    Returns: the costs, in NumPy arrays.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> from tilewright.ir.mapping import parse_mapping
    >>> from tilewright.ir.workload import einsum
    >>> from tilewright.model.batch import encode, encode_chip
    >>> layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    >>> chip = Hardware("chip", (Level("DRAM", read_pj=200), Level("RF", capacity=1024)))
    >>> batch = encode(layer, chip, [parse_mapping("DRAM[W I O]: M4\nRF[I O]: K8")])
    >>> evaluate_batch(batch, encode_chip(chip, layer, batch.shape)).dram_words.tolist()
    [44.0]
    """

    def evaluate(part: tuple[Batch, Chips]) -> BatchCost:
        return jax.tree.map(np.asarray, _evaluate_chunk(*part, whole_cycles))

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(evaluate, _chunks(batch, chips, chunk)))
    whole: BatchCost = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)
    return jax.tree.map(lambda leaf: leaf[..., : batch.mappings], whole)


def _evaluate_chunk(batch: Batch, chips: Chips, whole_cycles: bool) -> BatchCost:
    with in_precision_of(batch.nests.extents):
        return evaluate_chunk(batch, chips, whole_cycles)


@partial(jax.jit, static_argnames="whole_cycles")
def evaluate_chunk(batch: Batch, chips: Chips, whole_cycles: bool = True) -> BatchCost:
    """Count and price a chunk in one program; for use inside `jax.jit`, `jax.vmap`, `jax.grad`."""
    return price_batch(batch, count_batch(batch), chips, whole_cycles=whole_cycles)


def _chunks(batch: Batch, chips: Chips, chunk: int) -> Iterator[tuple[Batch, Chips]]:
    """Pieces of equal size; the last mapping is repeated until the last piece is full."""
    count = batch.mappings
    size = min(chunk, count)
    for start in range(0, count, size):
        at = np.minimum(np.arange(start, start + size), count - 1)
        if start + size <= count:
            at = slice(start, start + size)

        def piece(leaf: Array, at: slice | np.ndarray = at) -> Array:
            return leaf[..., at] if leaf.shape[-1] == count and count > 1 else leaf

        yield (
            replace(
                batch,
                nests=jax.tree.map(piece, batch.nests),
                works=jax.tree.map(piece, batch.works),
                networks=jax.tree.map(piece, batch.networks),
            ),
            jax.tree.map(piece, chips),
        )
