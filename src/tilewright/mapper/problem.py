"""A workload on a chip, and a choice of what is kept where, as arrays for the compiled search.

Owns: the nouns `Problem` (workload and chip) and `Template` (what the chain of boundaries is, for
one choice of bypasses, with the tiles and unrollings to try). `docs/optimal-mapper.md` explains
the words used here: boundary, stage, arrivals.

Non-goals: making them (`mapper/prepare.py`), searching (`mapper/kernels.py`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Problem(NamedTuple):
    """Arrays over D dims of size > 1, O operands (the output last), L levels, R sliding ranks.

    Tiles are vectors of indices into `val`; dim D is a dummy of size 1.

    Attributes:
        sizes: (D,) of the dims.
        val: (D + 1, V) divisors of a size, ascending; 0 behind the last.
        quo: (D + 1, V, V) index of the quotient of two divisors, -1 where there is none.
        place: (D + 1, V) where a divisor stands in the lattice of all tiles, whose axes are the
            primes of the dims: the places of a product are the sum.
        axes: (A, 3) of the lattice: dim, places along it, how far they are apart.
        packed: (D + 1, V) the exponents of a divisor's primes, each with a bit above it, those in
            `guards`: a tile divides another if guards + other - tile keeps them all.
        fields: (D + 1,) the bits of `packed` that a dim's exponents take.
        uses: (O,) bit mask of the dims that index an operand.
        slides: bit mask of the dims of sliding ranks.
        plain: (O,) product of the sizes of dims that index an operand by themselves.
        distinct: (O,) words of an operand.
        slider: the one operand with ranks of two dims; -1 for none, -2 for several, or if
            orders are priced one by one wherever tiles may stand still.
        rank_op, rank_a, rank_b, step_a, step_b: (R,) of a rank: operand, dims, coefficients.
        padded: (R,) whether some coordinates are no words.
        largest, visits: (R, A, B) see `sliding.tile_tables`.
        spills: (R, A, B) whether tiles at different places may hold the same words.
        spills_within: (R, A, B) whether those do or tiles inside them.
        spilling: whether any do.
        placed: words of single tiles of padded ranks; placed_start: (R, A, B) where those of a
            tile's size begin, -1 where all tiles have the same words.
        floor: (R, A, B) the fewest words that may enter tiles, whatever slides.
        stay_floor: (R, A, B) the same for all tiles inside that are kept still in between.
        kept_a, kept_b: (R, A, A, A, B), (R, B, B, B, A) see `sliding.kept_table`.
        joint, single: (R, A, A, B, B) see `sliding.joint_tables`.
        joint_a, joint_b: (R, A, A, A, B, B), (R, B, B, B, A, A) likewise.
        read, write, update: (L, O) pJ per word, of partial sums for the output.
        finished: by what share a finished output word is narrower than a partial sum.
        rebate: 1 if it costs less energy by that share; 0 if it costs the same.
        hop: (L,) pJ per word and receiver on the fan-out below a level.
        multicast, reduction: (L,) of that fan-out.
        bits: (O,) of a word that moves; the output's are partial sums.
        read_width, write_width, width: (L,) bits per cycle of the ports of an instance.
        room: (L, O) bits for the tiles of one operand; shared: (L,) bits for all.
        store_bits: (O,) of a word that is stored, a finished one of the output.
        macs, mac_pj, leak: multiply-accumulates, their energy, pJ per cycle.
    """

    sizes: Floats
    val: Integers
    quo: Integers
    place: Integers
    axes: Integers
    packed: Integers
    fields: Integers
    guards: int
    uses: Integers
    slides: int
    slider: int
    plain: Floats
    distinct: Floats
    rank_op: Integers
    rank_a: Integers
    rank_b: Integers
    step_a: Integers
    step_b: Integers
    padded: Mask
    largest: Floats
    visits: Floats
    spills: Mask
    spills_within: Mask
    spilling: bool
    placed: Integers
    placed_start: Integers
    floor: Floats
    stay_floor: Floats
    kept_a: Floats
    kept_b: Floats
    joint: Floats
    single: Floats
    joint_a: Floats
    joint_b: Floats
    read: Floats
    write: Floats
    update: Floats
    finished: float
    rebate: float
    hop: Floats
    multicast: Mask
    reduction: Mask
    bits: Floats
    read_width: Floats
    write_width: Floats
    width: Floats
    room: Floats
    shared: Floats
    store_bits: Floats
    macs: float
    mac_pj: float
    leak: float


class Template(NamedTuple):
    """A choice of what is kept where: K stages, each a memory's loops and the fan-out inside.

    Attributes:
        level: (K,) the memory whose tiles stand at the stage's outer boundary.
        fan: (K,) the level below which the stage's fan-out lies; -1 for none.
        fixed: (K, D) index of the extent that a loop must have, -1 if it is free.
        order: (K, D) the dims whose relative order is given, outermost first; then -1.
        bare: (K,) bit mask of the dims without a loop in a stage, which the next one has as well.
        may_stay: (K, O) whether a stage may have loops that miss an operand.
        keeps: (K, O) what is kept at the boundary; everything at the first.
        tile_start: (K + 1,) where the tiles of boundary k begin in `tiles`, from k = 1.
        tiles: (N, D + 1) tiles that fit; the best first.
        fills: (N, O) the fewest words that enter a tile of an operand that nothing keeps still.
        still: (N, O) the fewest arrivals of an operand that loops inside keep still.
        may_wait: (N, O) whether instances inside may hold all of the operand's tile.
        fan_copies: (K,) instances of the stage's fan-out.
        spread_start: (K + 1,) where the unrollings of a stage begin in `spreads`.
        spreads: (M, D + 1) unrollings of the fan-outs.
        copies: (M,) instances in use.
        phis: (M, O) instances that an operand's words are copied to.
        saved: (M, O) the smallest share of words that is read for what is filled.
        mac_floor: (M,) the least energy of words that pass between memories and MACs, and what
            edges further inside take more than if it were the best for them.
        missed: (M, K + 1) the second part, by the boundary that the edges lead into.
        group: (M,) to which class of cycles an unrolling belongs.
        cycles: (M,) the least cycles with an unrolling.
        least_cycles: (K + 1,) the same of all, times the instances outside a boundary.
        group_cycles: (G,) the least cycles of a class.
        primary: the stage whose unrollings are classed; -1 without fan-outs.
        quick: (N, O) the least energy of an operand that moves at a tile.
        row_best: (N, O + 1, G) the least energy of a tile's edges if an operand stays, or none, by
            class of cycles of the stage outside; row_known: (N,) whether it has been computed.
            They and `inside` are empty until the template is searched.
        quick_total: (N,) the sum over operands.
        least_inside: (K + 1,) the least energy of all edges inside a boundary.
        front: (N,) whether no other tile of the boundary is as good in all that bounds look at.
        leading: (M,) whether no other unrolling of the same class is.
        least_macs: (K,) the least of `mac_floor` in a stage.
        fill, load, merge: (K + 1, O) pJ per word of an edge: at the child; at the parent per word
            read; per word updated.
        first_fill, first_load: (K + 1, O) words that an output saves there by first touches.
        discount: (K + 1, O) pJ that finished words save, at most.
        moving, staying: (K, G), (K, O, G) the least energy of all boundaries inside a stage.
        inside: (N, 2·O + 1, G) the same inside a tile, if an operand stays there, or none, or if
            an operand waits there.
        stay_slope, stay_offset: (K, O) energy per arrival of an operand that stays, and beside.
        mac_reads, mac_writes: (L,) bits that MACs read and update at least, over all instances.
        idle_words: (K,) words that pass the outermost memory for boundaries inside, at least.
        rent: (N,) pJ that bounds charge a tile for its room, where blocks share a memory; of all
            blocks together never above 0.
    """

    level: Integers
    fan: Integers
    fixed: Integers
    order: Integers
    bare: Integers
    may_stay: Mask
    keeps: Mask
    tile_start: Integers
    tiles: Integers
    fills: Floats
    still: Floats
    may_wait: Mask
    fan_copies: Floats
    spread_start: Integers
    spreads: Integers
    copies: Floats
    phis: Floats
    saved: Floats
    mac_floor: Floats
    missed: Floats
    group: Integers
    cycles: Floats
    least_cycles: Floats
    group_cycles: Floats
    primary: int
    quick: Floats
    row_best: Floats
    row_known: Mask
    quick_total: Floats
    least_inside: Floats
    front: Mask
    leading: Mask
    least_macs: Floats
    fill: Floats
    load: Floats
    merge: Floats
    first_fill: Floats
    first_load: Floats
    discount: Floats
    moving: Floats
    staying: Floats
    inside: Floats
    stay_slope: Floats
    stay_offset: Floats
    mac_reads: Floats
    mac_writes: Floats
    idle_words: Floats
    rent: Floats
