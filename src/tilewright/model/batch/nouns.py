"""Mappings, layers and chips as arrays: many of each, with the mappings on the last axis.

Owns: the nouns `Shape`, `Nests`, `Works`, `Networks`, `Batch`, `Chips`, `BatchCounts`,
`BatchCost`, their axes and units.

Non-goals: making them (`encode.py`), and any formula (`count.py`, `price.py`).

Axes have one letter everywhere: B mapping, L temporal loop, V level, A axis of a fan-out, D dim,
O operand; of operands with sums as ranks: S which one, R rank, G group of terms with one
coefficient, K dim in such a rank. Outermost first. B is last, so that the mappings of a batch lie
side by side and one instruction serves several. Where an axis says `B*`, 1 stands for "the same for
all mappings".
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from tilewright.model.convention import DEFAULT, Convention

Array = jax.Array
"""NumPy arrays are taken as well."""

OUTPUT = -1
"""The output is the last operand."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a program is compiled for: mappings, layers and chips of one shape share it.

    Attributes:
        loops: L, room for temporal loops; unused ones have extent 1.
        levels: V, memories of the chip.
        dims: D, room for dims.
        inputs: room for input operands; O is one more.
        sums: the operands, by position, that have room for ranks which are sums of dims.
        ranks: R, room for such ranks in one operand.
        terms: room for dims in one such rank; K is R times as much.
        places: whether mappings may unroll two dims of one rank on networks that serve equal tiles
            at once, so that equal tiles must be found.
        hops: whether words that cross fan-outs are counted.
        convention: the rules to count by.

    >>> Shape(loops=12, levels=3, dims=7, inputs=2, sums=(1,), ranks=2, terms=2).operands
    3
    """

    loops: int
    levels: int
    dims: int
    inputs: int
    sums: tuple[int, ...]
    ranks: int
    terms: int
    places: bool = False
    hops: bool = False
    convention: Convention = DEFAULT

    @property
    def operands(self) -> int:
        """O, room for operands."""
        return self.inputs + 1


@dataclass(frozen=True, slots=True)
class Nests:
    """Loop nests.

    Attributes:
        extents: [L, B], of the temporal loops.
        dims: [L, B] integers, the dim of each, from 0.
        levels: [L, B] integers, the level of the block that each stands in.
        unrolled: [V, A, D, B], by how much the fan-out below a level unrolls a dim on an axis.
        keeps: [O, V, B] booleans, whether a level keeps an operand.
        depths: [O, V, B] integers, how many of the L temporal loops stand outside that block.
    """

    extents: Array
    dims: Array
    levels: Array
    unrolled: Array
    keeps: Array
    depths: Array


@dataclass(frozen=True, slots=True)
class Works:
    """Layers.

    Attributes:
        indexing: [O, B*] integers, bit d is set if dim d indexes the operand.
        alone: [O, B*] integers, bit d is set if dim d indexes it in a rank of its own.
        terms: [S, K, B*] integers, the dims in ranks that are sums, rank by rank; -1 for none.
        weights: [S, R, G, K, B*], 1 if the dim is a term of that group of that rank; with the
            footprint `box` there is one group, and its terms weigh their coefficients.
        ratio: [S, R, G, B*], the coefficients of the two groups, divided by what they have in
            common.
        coefficients: [S, K, B*], of the dims as written.
        bits: [O, B*], of a word; 0 for an operand that is not there.
        psum_bits: [B*], of a word of output before it is finished.
    """

    indexing: Array
    alone: Array
    terms: Array
    weights: Array
    ratio: Array
    coefficients: Array
    bits: Array
    psum_bits: Array


@dataclass(frozen=True, slots=True)
class Networks:
    """What fan-outs can do.

    Attributes:
        multicast: [V, B*] booleans, one read serves all children that want the same tile.
        reduction: [V, B*] booleans, updates of the same tile by several children merge.
    """

    multicast: Array
    reduction: Array


@dataclass(frozen=True, slots=True)
class Batch:
    """Mappings of layers on chips, encoded: what counts depend on."""

    nests: Nests
    works: Works
    networks: Networks
    shape: Shape

    @property
    def mappings(self) -> int:
        """B, how many mappings there are."""
        return self.nests.extents.shape[-1]


@dataclass(frozen=True, slots=True)
class Chips:
    """What prices depend on. Every attribute is [V, B*] unless it says otherwise.

    Attributes:
        read_pj: energy of reading a word of the memory, in pJ.
        write_pj: of writing one.
        update_pj: of an update.
        word_bits: of a word of the memory.
        read_bandwidth: words per cycle and instance; infinite without a limit.
        write_bandwidth: likewise.
        bandwidth: of reads and writes together.
        leak_pj_per_cycle: of one instance.
        area_mm2: of one instance; 0 if not known.
        hop_pj: energy of a word for each copy that receives or sends it, on the fan-out below.
        copies: [V, A, B*], of the fan-out below, by axis.
        capacity_bits: usable by all operands together; infinite without a limit.
        share_bits: [O, V, B*], usable by one operand; infinite without a limit.
        mac_pj: [B*], energy of a multiply-accumulate.
        mac_area_mm2: [B*], of one unit; 0 if not known.
        clock_ghz: [B*].
    """

    read_pj: Array
    write_pj: Array
    update_pj: Array
    word_bits: Array
    read_bandwidth: Array
    write_bandwidth: Array
    bandwidth: Array
    leak_pj_per_cycle: Array
    area_mm2: Array
    hop_pj: Array
    copies: Array
    capacity_bits: Array
    share_bits: Array
    mac_pj: Array
    mac_area_mm2: Array
    clock_ghz: Array


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """Words and steps. Moves are those of one instance: with perfect factors all move the same.

    Attributes:
        macs: [B], iterations.
        steps: [B], temporal steps; the compute cycles.
        instances: [V, B], of each level that have work.
        tile_words: [O, V, B], of a tile; 0 where a level does not keep the operand, here and below.
        reads: [O, V, B], words handed inwards.
        fills: [O, V, B], words that entered from the parent.
        updates: [V, B], words of the output received from inside.
        drains: [V, B], words of the output sent outwards.
        finished_updates: [V, B], those of the updates that are results.
        finished_drains: [V, B], those of the drains.
        hop_words: [V, B], words times receivers or senders on the fan-out below, of all instances;
            zeros unless the shape has `hops`.
        output_words: [B], distinct words of the output.
    """

    macs: Array
    steps: Array
    instances: Array
    tile_words: Array
    reads: Array
    fills: Array
    updates: Array
    drains: Array
    finished_updates: Array
    finished_drains: Array
    hop_words: Array
    output_words: Array


@dataclass(frozen=True, slots=True)
class BatchCost:
    """What mappings cost. Every attribute is [B] unless it says otherwise.

    Attributes:
        energy_pj: of the whole run.
        level_pj: [V, B], of accesses, hops and leakage of a level.
        cycles: of the whole run.
        compute_cycles: temporal steps.
        port_cycles: [V, B], that the busiest port of a level is busy.
        dram_words: to and from the outermost level.
        used_bits: [V, B], of one instance, that tiles take.
        excess: how far the worst capacity or axis is overrun: used over usable, 0 if nothing is
            limited; a mapping fits if it is at most 1.
        fits: booleans, whether every tile fits its memory and every unrolling its axis.
        utilization: multiply-accumulates over those that all units could do.
        power_w: energy over time.
        area_mm2: of all parts whose area is known.
        edp: energy times delay, in pJ · cycles.
    """

    energy_pj: Array
    level_pj: Array
    cycles: Array
    compute_cycles: Array
    port_cycles: Array
    dram_words: Array
    used_bits: Array
    excess: Array
    fits: Array
    utilization: Array
    power_w: Array
    area_mm2: Array
    edp: Array


for _noun in (Nests, Works, Networks, Chips, BatchCounts, BatchCost):
    jax.tree_util.register_dataclass(_noun, list(_noun.__dataclass_fields__), [])
jax.tree_util.register_dataclass(Batch, ["nests", "works", "networks"], ["shape"])


def join(batches: Sequence[Batch]) -> Batch:
    """Put batches of one shape into one, their mappings one after another.

    Raises: `ValueError` if their shapes differ.
    """
    first = batches[0]
    if any(batch.shape != first.shape for batch in batches):
        raise ValueError("batches to be joined have different shapes")
    whole = [_spread_out(batch) for batch in batches]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *whole)


def _spread_out(batch: Batch) -> Batch:
    """The batch with B wherever 1 stood for it."""
    count = batch.mappings
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (*leaf.shape[:-1], count)), batch)
