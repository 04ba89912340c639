"""The compiled search of imperfect mappings: branch and bound over chains, from inside out.

Owns: `search`, depth first over unrollings and tiles of every memory, the innermost first; what is
left out costs more than what is allowed. `docs/imperfect.md` says why.

Non-goals: prices (`mapper/imperfect_kernels.py`), tables (`imperfect_tables.py`).
"""

from typing import NamedTuple

import numpy as np

from tilewright.mapper.compiled import compiled, compiled_inside
from tilewright.mapper.imperfect_kernels import (
    SAME_ORDER,
    Chain,
    Layer,
    fits,
    instances,
    mover,
    price_edge,
    steps,
)
from tilewright.mapper.problem import Floats, Integers

TIE = 1e-12
LESS = 0.6
"""What is left of an operand's words, at least, in the second of the tables `Plan.staying`."""
ENERGY, CYCLES, EDP, WORDS = range(4)
UNROLL, LIST, ENTRY, TILE = range(4)
"""What is next in a stage: another unrolling, the list of tiles, its next entry, its next tile."""


class Plan(NamedTuple):
    """What may be tried, for one choice of what is kept where: K stages, D dims, O operands.

    Attributes:
        spread_start: (K + 1,) where a stage's unrollings begin.
        spreads, along_y: (M, D) extents on both axes together, and on axis y.
        list_start: (K + 1,) where the classes of tiles of a boundary begin.
        entries: (N, D) class of the tile's size in each dim; cell: (N,) where in the tables.
        by_words: whether they are sorted by DRAM words, not by energy.
        tiles: (D, C) in how many tiles of a class a dim falls apart, ascending.
        smallest, largest: (D, C) tiles of a class.
        class_of: (D, V) the class of a tile's size.
        stride: (D,) of a class in the tables that follow.
        at, at_words: (K, P) the least energy, and DRAM words, of all edges into a tile of a class
            at a boundary and into boundaries outside.
        moving, moving_words: (K, P) the least of that of all tiles that hold one of a class.
        staying: (K, 2, O, P) the same with what an operand costs that stays further inside; then
            with less, if its last round may be cut short.
        shares, merged, copied: (M, O) of an unrolling: the least share of words that is read for
            what is filled, that updates are of drains; to how many instances words are copied.
        used: (M,) instances.
    """

    spread_start: Integers
    spreads: Integers
    along_y: Integers
    list_start: Integers
    entries: Integers
    cell: Integers
    by_words: bool
    tiles: Integers
    smallest: Integers
    largest: Integers
    class_of: Integers
    stride: Integers
    at: Floats
    at_words: Floats
    moving: Floats
    moving_words: Floats
    staying: Floats
    shares: Floats
    merged: Floats
    copied: Floats
    used: Floats


class State(NamedTuple):
    """How far the search has come.

    Attributes:
        inside, inside_words: (K + 1,) energy and DRAM words of edges that are decided, by the
            outermost stage that is known.
        value: (4,) energy, cycles, EDP and DRAM words looked at.
        limits: (4,) what they may be; best: (4,) of the best chain.
        order: (4,) by which of them chains are compared, first to last; -1 behind.
        found: (1,) whether there is a best chain.
        best_extent, best_spread: (K, D) of it; best_class: (K, 3).
        buffer_*: chains whose price is loose, and that price.
        rows: (2,) which tiles of the innermost memory to try.
        step, spread, entry: (K,) where the search stands in a stage.
        is_bare: (K,) whether `bare` is known.
        known, mac_words, moved_rest, bound, bound_words, cycles: (K,) of an unrolling: energy that
            is certain, words of MACs, energy of what moves but for the dearest, the least energy,
            words and cycles.
        counts: (6,) chains priced, nodes, loose chains, whether to stop, nodes that stop it.
        moves, kinds: (O,), bare: (K, O), pick, low, high: (K, D), number, chosen: (K,) room to
            work in.
        classes: (K, 64, 3), class_sums: (K, 64, 4), class_reads, class_writes: (K, 64, K) of the
            classes of a stage: energy, words, loose, boundaries where outputs are partial sums.
    """

    inside: Floats
    inside_words: Floats
    value: Floats
    limits: Floats
    best: Floats
    order: Integers
    found: Integers
    best_extent: Integers
    best_spread: Integers
    best_class: Integers
    buffer_extent: Integers
    buffer_spread: Integers
    buffer_class: Integers
    buffer_value: Floats
    buffer_loose: Integers
    rows: Integers
    step: Integers
    spread: Integers
    entry: Integers
    is_bare: Integers
    known: Floats
    mac_words: Floats
    moved_rest: Floats
    bound: Floats
    bound_words: Floats
    cycles: Floats
    counts: Integers
    moves: Floats
    bare: Floats
    kinds: Integers
    pick: Integers
    low: Integers
    high: Integers
    number: Integers
    chosen: Integers
    classes: Integers
    class_sums: Floats
    class_reads: Floats
    class_writes: Floats
    base_reads: Floats
    base_writes: Floats


@compiled_inside
def _is_worth(state: State) -> bool:
    """Whether chains with at least these values may be better than the best."""
    value = state.value
    value[EDP] = value[ENERGY] * value[CYCLES]
    for i in range(4):
        if value[i] > state.limits[i]:
            return False
    if state.found[0] == 0:
        return True
    for i in range(4):
        which = state.order[i]
        if which < 0:
            return False
        mine, best = value[which], state.best[which]
        if mine < best * (1 - TIE):
            return True
        if mine > best * (1 + TIE):
            return False
    return False


@compiled_inside
def _classes(layer: Layer, chain: Chain, state: State, stage: int) -> None:
    """List who may stay in a stage, which loop is innermost, and which moves what stays."""
    dims, moved = len(layer.size), chain.moved[stage]
    number = 0
    if moved == 0:
        state.classes[stage, 0, 0] = state.classes[stage, 0, 1] = state.classes[stage, 0, 2] = -1
        state.number[stage] = 1
        return
    ranked = 0
    for rank in range(len(layer.rank_op)):
        if layer.rank_b[rank] >= 0:
            ranked |= 1 << layer.rank_a[rank] | 1 << layer.rank_b[rank]
    seen_plain = 0  # bit o + 1: a loop innermost that misses o and slides nothing
    for slide in range(dims):
        if not moved >> slide & 1:
            continue
        stay = layer.misses[slide]
        if not ranked >> slide & 1:
            if seen_plain >> (stay + 1) & 1:
                continue
            seen_plain |= 1 << (stay + 1)
        others = moved & layer.uses[stay] if stay >= 0 else 0
        if others == 0:
            state.classes[stage, number, 0] = -1
            state.classes[stage, number, 1] = slide
            state.classes[stage, number, 2] = -1
            number += 1
            continue
        any_plain = False
        for glide in range(dims):
            if not others >> glide & 1:
                continue
            own = False
            for rank in range(len(layer.rank_op)):
                if layer.rank_op[rank] == stay and layer.rank_b[rank] >= 0:
                    own = own or glide in (layer.rank_a[rank], layer.rank_b[rank])
            if not own:
                if any_plain:
                    continue
                any_plain = True
            state.classes[stage, number, 0] = stay
            state.classes[stage, number, 1] = slide
            state.classes[stage, number, 2] = glide
            number += 1
    state.number[stage] = number


@compiled_inside
def _innermost(layer: Layer, chain: Chain, stage: int, stay: int, slide: int) -> int:
    """Bit mask of the dims whose loops a class puts innermost in a stage."""
    if stay < 0:
        return 1 << slide if slide >= 0 else 0
    return chain.moved[stage] & ~layer.uses[stay]


@compiled_inside
def _sum_classes(layer: Layer, chain: Chain, state: State) -> None:
    """Add up, for every class of every stage, the edges that the stage decides."""
    macs, operands = len(chain.moved), len(layer.uses)
    output = operands - 1
    for stage in range(macs - 1):
        _classes(layer, chain, state, stage)
        for i in range(state.number[stage]):
            stay, slide = state.classes[stage, i, 0], state.classes[stage, i, 1]
            glide = state.classes[stage, i, 2]
            block = _innermost(layer, chain, stage, stay, slide)
            for k in range(macs):
                state.class_reads[stage, i, k] = state.class_writes[stage, i, k] = 0.0
            energy, words, partial = 0.0, 0.0, 0
            chain.loose[0] = 0
            for c in range(stage + 1, macs):
                for operand in range(operands):
                    if not chain.keeps[c, operand] or mover(layer, chain, c, operand, 0) != stage:
                        continue
                    stays = stay == operand
                    along = glide if stays else slide
                    price_edge(
                        layer, chain, c, operand, stage, stays, block, along, 0, 1.0
                    )
                    energy += chain.sums[0]
                    words += chain.sums[1]
                    if operand == output and chain.sums[2] > layer.distinct[output]:
                        partial |= 1 << chain.parent[c, operand]
                    for k in range(macs):
                        state.class_reads[stage, i, k] += chain.reads[k]
                        state.class_writes[stage, i, k] += chain.writes[k]
            state.class_sums[stage, i, 0] = energy
            state.class_sums[stage, i, 1] = words
            state.class_sums[stage, i, 2] = chain.loose[0]
            state.class_sums[stage, i, 3] = partial


@compiled_inside
def _finish(layer: Layer, chain: Chain, state: State) -> None:
    """Price a whole chain with every class of orders."""
    macs, operands = len(chain.moved), len(layer.uses)
    output = operands - 1
    state.counts[0] += 1
    compute = steps(layer, chain, 0)
    for k in range(macs):
        state.base_reads[k] = state.base_writes[k] = 0.0
    energy, words, partial = layer.mac_pj, 0.0, 0
    chain.loose[0] = 0
    for c in range(1, macs + 1):
        for operand in range(operands):
            if c < macs and (
                not chain.keeps[c, operand] or mover(layer, chain, c, operand, 0) >= 0
            ):
                continue
            price_edge(layer, chain, c, operand, -1, False, 0, -1, 0, 1.0)
            energy += chain.sums[0]
            words += chain.sums[1]
            if operand == output and chain.sums[2] > layer.distinct[output]:
                partial |= 1 << chain.parent[c, operand]
            for k in range(macs):
                state.base_reads[k] += chain.reads[k]
                state.base_writes[k] += chain.writes[k]
    loose = chain.loose[0]
    _sum_classes(layer, chain, state)
    least = energy + layer.leak * compute
    for stage in range(macs - 1):
        lowest = np.inf
        for i in range(state.number[stage]):
            lowest = min(lowest, state.class_sums[stage, i, 0])
        least += lowest
        state.chosen[stage] = 0
    state.value[ENERGY], state.value[CYCLES], state.value[WORDS] = least, compute, 0.0
    if not _is_worth(state):
        return
    roomy = 0  # bit k: partial sums fit
    for k in range(1, macs):
        if fits(layer, chain, k, layer.bits[output]):
            roomy |= 1 << k
    while True:
        _try(layer, chain, state, energy, words, partial, loose, compute, roomy)
        stage = 0
        while stage < macs - 1:
            state.chosen[stage] += 1
            if state.chosen[stage] < state.number[stage]:
                break
            state.chosen[stage] = 0
            stage += 1
        if stage == macs - 1:
            return


@compiled_inside
def _try(
    layer: Layer,
    chain: Chain,
    state: State,
    energy: float,
    words: float,
    partial: int,
    loose: int,
    compute: float,
    roomy: int,
) -> None:
    """Compare a chain with the chosen classes with the best."""
    macs = len(chain.moved)
    for stage in range(macs - 1):
        i = state.chosen[stage]
        energy += state.class_sums[stage, i, 0]
        words += state.class_sums[stage, i, 1]
        loose = max(loose, int(state.class_sums[stage, i, 2]))
        partial |= int(state.class_sums[stage, i, 3])
    state.value[ENERGY], state.value[CYCLES] = energy + layer.leak * compute, compute
    state.value[WORDS] = words
    if not _is_worth(state):
        return
    if partial & ~1 & ~roomy and loose < 2:  # noqa: PLR2004
        return
    cycles, uneven = compute, False
    for k in range(macs):
        reads, writes = state.base_reads[k], state.base_writes[k]
        for stage in range(macs - 1):
            i = state.chosen[stage]
            reads += state.class_reads[stage, i, k]
            writes += state.class_writes[stage, i, k]
        used = instances(layer, chain, k)
        busy = max(reads / layer.read_width[k], writes / layer.write_width[k])
        busy = max(busy, (reads + writes) / layer.width_bits[k]) / used
        cycles = max(cycles, np.ceil(busy - 1e-6))
        uneven = uneven or (used > 1 and busy * _imbalance(layer, chain, k) > compute)
    if uneven:
        loose = max(loose, SAME_ORDER)
    state.value[ENERGY], state.value[CYCLES] = energy + layer.leak * cycles, cycles
    if not _is_worth(state):
        return
    if loose:
        _remember(state, chain, loose)
        return
    state.found[0] = 1
    for i in range(4):
        state.best[i] = state.value[i]
    first = state.order[0]
    state.limits[first] = min(state.limits[first], state.best[first] * (1 + TIE))
    _copy(chain, state, state.best_extent, state.best_spread, state.best_class)


@compiled_inside
def _imbalance(layer: Layer, chain: Chain, k: int) -> float:
    """How many times the mean of the words of instances of boundary `k` one may have, at most."""
    ratio = 1.0
    for dim in range(len(layer.size)):
        here, even = 1, True
        for j in range(k):
            here *= chain.spread[j, dim]
            if chain.spread[j, dim] > 1:
                even = even and layer.size[dim] % chain.span[j, dim] == 0
        for rank in range(len(layer.rank_op)):
            if layer.padded[rank] and dim in (layer.rank_a[rank], layer.rank_b[rank]):
                even = False
        if here > 1 and not even:
            ratio *= here
    return ratio


@compiled_inside
def _copy(
    chain: Chain, state: State, extent: Integers, spread: Integers, classes: Integers
) -> None:
    for k in range(len(chain.moved)):
        for dim in range(chain.extent.shape[1]):
            extent[k, dim] = chain.extent[k, dim]
            spread[k, dim] = chain.spread[k, dim]
        for i in range(3):
            classes[k, i] = -1
            if k < len(chain.moved) - 1:
                classes[k, i] = state.classes[k, state.chosen[k], i]


@compiled_inside
def _remember(state: State, chain: Chain, loose: int) -> None:
    """Put a chain aside whose price is a bound only."""
    at = state.counts[2]
    state.counts[2] += 1
    if at >= len(state.buffer_loose):
        state.counts[3] = 2
        return
    _copy(chain, state, state.buffer_extent[at], state.buffer_spread[at], state.buffer_class[at])
    for i in range(4):
        state.buffer_value[at, i] = state.value[i]
    state.buffer_loose[at] = loose


@compiled_inside
def _unroll(layer: Layer, plan: Plan, chain: Chain, k: int, spread: int) -> None:
    """Unroll a stage; steps beyond the size of a dim do not exist and do no harm."""
    for dim in range(len(layer.size)):
        extent = 1 if spread < 0 else plan.spreads[spread, dim]
        chain.spread[k, dim] = extent
        chain.span[k, dim] = extent * chain.tile[k + 1, dim]


@compiled_inside
def _set_extent(layer: Layer, chain: Chain, k: int, dim: int, extent: int) -> None:
    chain.extent[k, dim] = extent
    chain.tile[k, dim] = extent * chain.span[k, dim]
    if extent > 1:
        chain.moved[k] |= 1 << dim
    else:
        chain.moved[k] &= ~(1 << dim)


@compiled_inside
def _most_ragged(layer: Layer, chain: Chain, operand: int, k: int) -> float:
    """At least this share of an operand's words enters, whatever is cut short in stage `k`."""
    most = 0.0
    for dim in range(len(layer.size)):
        if not layer.uses[operand] >> dim & 1:
            continue
        size, span = layer.size[dim], chain.span[k, dim]
        rounds = -(-size // span)
        if rounds < 3:  # noqa: PLR2004
            continue
        rest = size - (rounds - 1) * span
        share = rest / size
        for rank in range(len(layer.rank_op)):
            a, b = layer.rank_a[rank], layer.rank_b[rank]
            if layer.rank_op[rank] != operand or dim not in (a, b):
                continue
            other = b if dim == a else a
            ta, tb = min(chain.tile[k + 1, a], layer.size[a]), 1
            if b >= 0:
                tb = min(chain.tile[k + 1, b], layer.size[b])
            along = 1 if other < 0 else -(-layer.size[other] // chain.tile[k + 1, other])
            at = layer.start[rank] + ta * layer.width[rank] + tb
            tiles = -(-rest // chain.tile[k + 1, dim]) * along
            share = 1.0
            if layer.floor[at] > 0:
                share = min(1.0, tiles * layer.largest[at] / layer.floor[at])
        most = max(most, share)
    return 1.0 - most


@compiled_inside
def _macs_energy(layer: Layer, chain: Chain, state: State, k: int) -> float:
    """The least energy of words that pass between memories and MACs; words into `value`."""
    macs, energy, words = len(chain.moved), 0.0, 0.0
    for operand in range(len(layer.uses)):
        price_edge(layer, chain, macs, operand, -1, False, 0, -1, k, 1.0)
        energy += chain.sums[0]
        words += chain.sums[1]
    state.value[WORDS] = words
    return energy


@compiled_inside
def _bare_words(layer: Layer, chain: Chain, state: State, k: int) -> bool:
    """Put the words that enter boundary `k` + 1 at least into `bare`; whether that is known."""
    c = k + 1
    if c == len(chain.moved):
        return False
    for operand in range(len(layer.uses)):
        state.bare[k, operand] = 0.0
        if not chain.keeps[c, operand]:
            continue
        times, cut = 1.0, 0.0
        for dim in range(len(layer.size)):
            if layer.plain[operand] >> dim & 1:
                times *= layer.size[dim]
            elif not layer.uses[operand] >> dim & 1:
                times *= -(-layer.size[dim] // chain.tile[c, dim])
            if layer.plain[operand] >> dim & 1:
                cut = max(cut, layer.cut[dim, min(chain.tile[c, dim], layer.size[dim])])
        for rank in range(len(layer.rank_op)):
            if layer.rank_op[rank] == operand:
                a, b = layer.rank_a[rank], layer.rank_b[rank]
                ta, tb, rounds_b = min(chain.tile[c, a], layer.size[a]), 1, 1
                rounds_a = -(-layer.size[a] // ta)
                if b >= 0:
                    tb = min(chain.tile[c, b], layer.size[b])
                    rounds_b = -(-layer.size[b] // tb)
                at = layer.start[rank] + ta * layer.width[rank] + tb
                times *= layer.floor[at]
                tiles = np.ceil(layer.cut[a, ta] * layer.size[a] / ta) * rounds_b
                if b >= 0:
                    last = np.ceil(layer.cut[b, tb] * layer.size[b] / tb)
                    tiles = max(tiles, last * rounds_a)
                if layer.floor[at] > 0:
                    cut = max(cut, min(1.0, tiles * layer.largest[at] / layer.floor[at]))
                elif tiles > 0:
                    cut = 1.0
        state.bare[k, operand] = times * (1.0 - cut)
    return True


@compiled_inside
def _may_pay(
    layer: Layer, plan: Plan, chain: Chain, state: State, k: int, spread: int
) -> bool:
    """Whether an unrolling may be part of a better chain: a quick look before a close one."""
    c, output = k + 1, len(layer.uses) - 1
    cell = 0
    for dim in range(len(layer.size)):
        cell += plan.stride[dim] * plan.class_of[dim, min(chain.tile[c, dim], layer.size[dim])]
    total, most = 0.0, 0.0
    for operand in range(output + 1):
        if not chain.keeps[c, operand] or mover(layer, chain, c, operand, c) >= 0:
            continue
        parent, words = chain.parent[c, operand], state.bare[k, operand]
        share = plan.shares[spread, operand]
        merged = plan.merged[spread, operand]
        if parent < k:
            for j in range(parent, k):
                share /= layer.fan_copies[j]
                merged /= layer.fan_copies[j]
        if operand < output:
            energy = words * (layer.write[c, operand] + share * layer.read[parent, operand])
        else:
            first = layer.distinct[operand] * plan.copied[spread, operand]
            for j in range(k):
                first *= layer.fan_copies[j]
            energy = words * layer.read[c, operand] + words * merged * layer.update[parent, operand]
            energy -= layer.distinct[operand] * layer.finished * (
                layer.read[c, operand] + layer.update[parent, operand]
            )
            energy += max(0.0, words - first) * layer.write[c, operand]
            energy += max(0.0, words * share - first) * layer.read[parent, operand]
            energy = max(0.0, energy)
        total += energy
        most = max(most, energy)
    cycles = layer.macs / plan.used[spread]
    for j in range(len(chain.moved)):
        if j != k:
            cycles /= layer.fan_copies[j]
    energy = state.inside[c] + layer.mac_pj + layer.leak * cycles + total - most
    state.value[ENERGY], state.value[CYCLES] = energy + plan.moving[k, cell], cycles
    state.value[WORDS] = state.inside_words[c] + plan.moving_words[k, cell]
    return _is_worth(state)


@compiled_inside
def _walk(layer: Layer, plan: Plan, chain: Chain, state: State) -> None:
    """Try all chains, stage by stage from inside out; numbered steps say what is next in a stage."""
    stages = len(chain.moved)
    k = stages - 1
    state.spread[k], state.step[k] = -1, UNROLL
    while state.counts[3] == 0:
        if state.step[k] == UNROLL:
            if not _next_spread(plan, state, k):
                k += 1
                if k == stages:
                    return
                continue
            if not _enter_spread(layer, plan, chain, state, k):
                continue
            if k == 0:
                _finish(layer, chain, state)
                continue
            state.step[k] = LIST
            fresh = k < stages - 1 or state.rows[0] == 0
            if not fresh or not _may_go_on(layer, plan, chain, state, k, True):
                continue
        elif state.step[k] == LIST:
            state.value[ENERGY], state.value[CYCLES] = state.bound[k], state.cycles[k]
            state.value[WORDS] = state.bound_words[k]
            state.step[k] = UNROLL
            if _is_worth(state):
                state.step[k] = ENTRY
                state.entry[k] = plan.list_start[k] - 1
                if k == stages - 1:
                    state.entry[k] += state.rows[0]
            continue
        elif state.step[k] == ENTRY:
            if not _next_entry(layer, plan, state, k, stages):
                state.step[k] = UNROLL
            elif _extents(layer, plan, chain, state, k, state.entry[k]):
                state.step[k] = TILE
            continue
        else:
            for dim in range(len(layer.size)):
                _set_extent(layer, chain, k, dim, state.pick[k, dim])
            if not _next_pick(state, k, len(layer.size)):
                state.step[k] = ENTRY
            if chain.moved[k] == 0 or not _may_go_on(layer, plan, chain, state, k, False):
                continue
        k -= 1
        state.spread[k], state.step[k] = -1, UNROLL
        state.is_bare[k] = 0
        if k > 0 and plan.spread_start[k + 1] > plan.spread_start[k]:
            state.is_bare[k] = 1 if _bare_words(layer, chain, state, k) else 0


@compiled_inside
def _next_spread(plan: Plan, state: State, k: int) -> bool:
    """Go to the next unrolling of a stage; the only one is -1 without a fan-out."""
    begin, end = plan.spread_start[k], plan.spread_start[k + 1]
    if end == begin:
        state.spread[k] -= 1
        return bool(state.spread[k] == -2)  # noqa: PLR2004
    state.spread[k] = begin if state.spread[k] < 0 else state.spread[k] + 1
    return bool(state.spread[k] < end)


@compiled_inside
def _enter_spread(layer: Layer, plan: Plan, chain: Chain, state: State, k: int) -> bool:
    """Unroll a stage and bound what is outside; whether that may be worth it."""
    dims, operands, macs = len(layer.size), len(layer.uses), len(chain.moved)
    spread = -1 if plan.spread_start[k + 1] == plan.spread_start[k] else state.spread[k]
    if state.is_bare[k] and not _may_pay(layer, plan, chain, state, k, spread):
        return False
    _unroll(layer, plan, chain, k, spread)
    state.counts[1] += 1
    if state.counts[1] > state.counts[4]:
        state.counts[3] = 3
    cell = 0
    for dim in range(dims):
        span = chain.span[k, dim]
        _set_extent(layer, chain, k, dim, -(-layer.size[dim] // span))
        cell += plan.stride[dim] * plan.class_of[dim, min(span, layer.size[dim])]
    if k == 0:
        return True
    cycles = steps(layer, chain, k)
    known = state.inside[k + 1] + layer.mac_pj + layer.leak * cycles
    known += _macs_energy(layer, chain, state, k)
    mac_words = state.value[WORDS]
    moving, most = 0.0, 0.0
    for operand in range(operands):
        state.moves[operand], state.kinds[operand] = 0.0, 0
        for c in range(k + 1, macs):
            if not chain.keeps[c, operand] or mover(layer, chain, c, operand, k + 1) >= 0:
                continue
            least = _most_ragged(layer, chain, operand, k)
            state.kinds[operand] = 0 if least == 1 else 1 if least >= LESS else 2
            price_edge(layer, chain, c, operand, k, False, -1, -2, k, least)
            state.moves[operand] += chain.sums[0]
        moving += state.moves[operand]
        most = max(most, state.moves[operand])
    bound = moving + plan.moving[k, cell]
    for operand in range(operands):
        kind = state.kinds[operand]
        held = plan.moving[k, cell] if kind > 1 else plan.staying[k, kind, operand, cell]
        bound = min(bound, moving - state.moves[operand] + held)
    state.known[k], state.mac_words[k] = known, mac_words
    state.moved_rest[k], state.bound[k], state.cycles[k] = moving - most, known + bound, cycles
    state.bound_words[k] = state.inside_words[k + 1] + mac_words + plan.moving_words[k, cell]
    return True


@compiled_inside
def _next_entry(layer: Layer, plan: Plan, state: State, k: int, stages: int) -> bool:
    """Go to the next class of tiles that may be worth it."""
    high = plan.list_start[k + 1]
    if k == stages - 1:
        high = min(high, plan.list_start[k] + state.rows[1])
    state.entry[k] += 1
    while state.entry[k] < high:
        there = plan.cell[state.entry[k]]
        state.value[ENERGY] = state.known[k] + state.moved_rest[k] + plan.at[k, there]
        state.value[CYCLES] = state.cycles[k]
        state.value[WORDS] = state.inside_words[k + 1] + state.mac_words[k]
        state.value[WORDS] += plan.at_words[k, there]
        if _is_worth(state):
            return True
        sorted_by = WORDS if plan.by_words else ENERGY
        if state.value[sorted_by] > state.limits[sorted_by]:
            return False
        state.entry[k] += 1
    return False


@compiled_inside
def _next_pick(state: State, k: int, dims: int) -> bool:
    """Go to the next extents with which a tile is of the classes of an entry."""
    for dim in range(dims):
        state.pick[k, dim] += 1
        if state.pick[k, dim] <= state.high[k, dim]:
            return True
        state.pick[k, dim] = state.low[k, dim]
    return False


@compiled_inside
def _extents(
    layer: Layer, plan: Plan, chain: Chain, state: State, k: int, entry: int
) -> bool:
    """The extents of a stage's loops with which its tile is of the classes of an entry."""
    for dim in range(len(layer.size)):
        size, span = layer.size[dim], chain.span[k, dim]
        kind = plan.entries[entry, dim]
        low = max(1, -(-plan.smallest[dim, kind] // span))
        high = min(plan.largest[dim, kind] // span, -(-size // span))
        if plan.tiles[dim, kind] == 1:
            low = high = -(-size // span)
        if low > high:
            return False
        state.low[k, dim], state.high[k, dim], state.pick[k, dim] = low, high, low
    return True


@compiled_inside
def _may_go_on(
    layer: Layer, plan: Plan, chain: Chain, state: State, k: int, idle: bool
) -> bool:
    """Whether a tile at boundary `k`, or none but what is unrolled there, may be worth it."""
    dims, operands, macs = len(layer.size), len(layer.uses), len(chain.moved)
    cell = 0
    for dim in range(dims):
        if idle:
            _set_extent(layer, chain, k, dim, 1)
        cell += plan.stride[dim] * plan.class_of[dim, min(chain.tile[k, dim], layer.size[dim])]
    if not fits(layer, chain, k, layer.store_bits[operands - 1]):
        return False
    energy, words, most = 0.0, 0.0, 0.0
    for operand in range(operands):
        moves = stays = 0.0
        for c in range(k + 1, macs):
            if not chain.keeps[c, operand] or mover(layer, chain, c, operand, k) != k:
                continue
            price_edge(layer, chain, c, operand, k, False, -1, -2, k, 1.0)
            moves += chain.sums[0]
            price_edge(layer, chain, c, operand, k, True, -1, -2, k, 1.0)
            words += chain.sums[1]
            stays += chain.sums[0]
        energy += moves
        most = max(most, moves - stays)
    energy -= most
    state.inside[k] = state.inside[k + 1] + energy
    state.inside_words[k] = state.inside_words[k + 1] + words
    state.value[ENERGY] = state.known[k] + energy + plan.at[k, cell]
    state.value[CYCLES] = steps(layer, chain, k)
    state.value[WORDS] = state.inside_words[k] + state.mac_words[k] + plan.at_words[k, cell]
    return _is_worth(state)


@compiled
def search(layer: Layer, plan: Plan, chain: Chain, state: State) -> None:
    """Try all chains whose tile in the innermost memory is one of `state.rows`."""
    for dim in range(len(layer.size)):
        chain.tile[len(chain.moved), dim] = 1
    _walk(layer, plan, chain, state)
