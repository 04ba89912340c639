"""What mappings use of any chip, so that a mapping known is priced on another chip in no time.

Owns: the noun `Uses`, `uses_of`, and the verb `price_uses`: every mapping on every chip.

Counts depend on a mapping and its layer alone; chips only put prices and limits on them. So what a
mapping reads, fills and updates, the steps it takes and the room it needs are noted once.

Non-goals: which mappings are kept (`joint/shelf.py`).

Source: `docs/batch-model.md`, Costs.
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tilewright.joint.goal import Numbers
from tilewright.model.batch import Batch, BatchCounts, Chips, moved_bits, tile_bits


@dataclass(frozen=True, slots=True)
class Uses:
    """What mappings of one layer use, B of them, whatever the chip.

    Attributes:
        reads: [V, B], bits that all instances together read.
        fills: [V, B], bits that they are filled with.
        updates: [V, B], bits that they are updated with.
        own_reads: [V, B], bits that one instance reads.
        own_writes: [V, B], bits that are written to one.
        hops: [V, B], words times receivers or senders on the fan-out below.
        steps: [B], compute cycles.
        shared: [V, B], bits of one instance that tiles take.
        parts: [O, V, B], those of each operand.
        axes: [V, A, B], copies.
        there: [V, B], whether the level was there; a mapping is priced on such chips only.
        astray: [B], steps of loops at levels that were not there; above 1 it fits nowhere.
        macs: [B].
    """

    reads: Any
    fills: Any
    updates: Any
    own_reads: Any
    own_writes: Any
    hops: Any
    steps: Any
    shared: Any
    parts: Any
    axes: Any
    there: Any
    astray: Any
    macs: Any

    @property
    def count(self) -> int:
        """B."""
        return self.steps.shape[-1]

    def take(self, columns: Any) -> "Uses":
        """Some of them, by their places."""
        return jax.tree.map(lambda leaf: leaf[..., columns], self)


jax.tree_util.register_dataclass(Uses, list(Uses.__dataclass_fields__), [])


def uses_of(batch: Batch, counts: BatchCounts, there: Any, astray: Any) -> Uses:
    """What counted mappings use; inside a compiled program."""
    reads, fills, updates = moved_bits(batch, counts)
    of_inputs, of_output = tile_bits(batch, counts)
    parts = jnp.concatenate([of_inputs, of_output[None]])
    unrolled = batch.nests.unrolled
    axes = unrolled[:, :, 0]
    for dim in range(1, unrolled.shape[2]):
        axes = axes * unrolled[:, :, dim]
    shared = parts[0]
    for part in parts[1:]:
        shared = shared + part
    return Uses(
        reads * counts.instances,
        fills * counts.instances,
        updates * counts.instances,
        reads,
        fills + updates,
        jnp.broadcast_to(counts.hop_words, reads.shape),
        counts.steps,
        shared,
        parts,
        axes,
        jnp.broadcast_to(there, reads.shape),
        jnp.broadcast_to(astray, counts.steps.shape),
        counts.macs,
    )


def join_uses(parts: list[Uses]) -> Uses:
    """Several, one after another."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)


def price_uses(uses: Uses, chips: Chips, there: np.ndarray) -> tuple[Numbers, Numbers, Numbers]:
    """Price M mappings on C chips each.

    Args:
        uses: of the mappings.
        chips: with C on the last axis.
        there: [V, C], which levels the chips have.

    Returns: energies in pJ, cycles, and used over usable of what is overrun most, [M, C] each;
        infinite on chips with other levels.

    Source: `docs/batch-model.md`, (B18) to (B21).
    """
    chips = jax.tree.map(np.asarray, chips)
    copies = chips.copies.prod(axis=1)  # [V, C]
    instances = np.cumprod(np.concatenate([np.ones_like(copies[:1]), copies]), axis=0)[:-1]
    cycles = _cycles(uses, chips)
    energy = uses.reads.T @ (chips.read_pj / chips.word_bits)
    energy += uses.fills.T @ (chips.write_pj / chips.word_bits)
    energy += uses.updates.T @ (chips.update_pj / chips.word_bits)
    energy += uses.macs[:, None] * chips.mac_pj
    if chips.hop_pj.any():
        energy += uses.hops.T @ chips.hop_pj
    leak = (chips.leak_pj_per_cycle * instances).sum(axis=0)
    if leak.any():
        energy += leak * cycles
    return energy, cycles, _excess(uses, chips, there)


def _cycles(uses: Uses, chips: Chips) -> Numbers:
    slack = 1 - 8 * np.finfo(uses.steps.dtype).eps
    cycles = np.repeat(uses.steps[:, None], chips.copies.shape[-1], axis=1)
    moved = (
        (uses.own_reads, chips.read_bandwidth),
        (uses.own_writes, chips.write_bandwidth),
        (uses.own_reads + uses.own_writes, chips.bandwidth),
    )
    for bits, bandwidth in moved:
        for level in range(len(bits)):
            if np.isfinite(bandwidth[level]).any():
                rate = slack / (bandwidth[level] * chips.word_bits[level])
                np.maximum(cycles, np.ceil(bits[level][:, None] * rate), out=cycles)
    return cycles


def _excess(uses: Uses, chips: Chips, there: np.ndarray) -> Numbers:
    found = np.repeat(uses.astray[:, None], chips.copies.shape[-1], axis=1)
    found[found <= 1] = 0

    def limit(used: Any, usable: Any, least: float = 0.0) -> None:
        if np.isfinite(usable).any():
            share = used[:, None] / usable
            np.maximum(found, np.where(share > least, share, 0) if least else share, out=found)

    for level in range(len(uses.shared)):
        limit(uses.shared[level], chips.capacity_bits[level])
        for operand in range(len(uses.parts)):
            limit(uses.parts[operand, level], chips.share_bits[operand, level])
        for axis in range(uses.axes.shape[1]):
            if (uses.axes[level, axis] > 1).any():
                limit(uses.axes[level, axis], chips.copies[level, axis], 1.0)
        if not (uses.there.all() and there.all()):
            found[uses.there[level][:, None] != there[level][None]] = np.inf
    return found
