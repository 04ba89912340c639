"""The price of an imperfect mapping, compiled: tiles of any size, the last ones clipped.

Owns: the counts of a chain of tiles, unrollings and classes of orders, exact or from below, and
from them energy, words and cycles. `docs/imperfect.md` proves what is said here.

Non-goals: which chains are tried (`mapper/imperfect_search.py`), tables (`imperfect_tables.py`).
"""

from typing import NamedTuple

import numpy as np

from tilewright.mapper.compiled import compiled_inside
from tilewright.mapper.problem import Floats, Integers, Mask

SAME_ORDER, ANY_ORDER = 1, 2
"""How a price may be below the real one: for the class's order, or in that another is better."""


class Layer(NamedTuple):
    """A workload on a chip: D dims of size > 1, O operands (the output last), K levels, R ranks.

    Attributes:
        size: (D,) of the dims.
        uses, plain: (O,) bit masks of the dims that index an operand; that do so by themselves.
        misses: (D,) the operand that a dim does not index, -1 for none.
        distinct: (O,) words of an operand.
        rank_op, rank_a, rank_b, step_a, step_b, low, high: (R,) of ranks that sum two dims or are
            padded: operand, dims (b is -1 if there is none), coefficients, the words there are.
        padded: (R,) whether some coordinates are no words.
        start, width: (R,) where a rank's tables begin, and how long their rows are, by tile size.
        visits, largest, floor: the words of all tiles of a size, of the largest one, and the
            fewest that enter, whatever slides.
        cut: (D, V) the largest share of a dim that a last round of a single step may be, if steps
            are no smaller than that.
        others: see `problem.Problem`.
    """

    size: Integers
    uses: Integers
    plain: Integers
    misses: Integers
    distinct: Floats
    rank_op: Integers
    rank_a: Integers
    rank_b: Integers
    step_a: Integers
    step_b: Integers
    low: Integers
    high: Integers
    padded: Mask
    start: Integers
    width: Integers
    visits: Floats
    largest: Floats
    floor: Floats
    cut: Floats
    read: Floats
    write: Floats
    update: Floats
    finished: float
    hop: Floats
    fan_copies: Floats
    multicast: Mask
    reduction: Mask
    bits: Floats
    read_width: Floats
    write_width: Floats
    width_bits: Floats
    room: Floats
    shared: Floats
    store_bits: Floats
    macs: float
    mac_pj: float
    leak: float


class Chain(NamedTuple):
    """Tiles, outermost first, and the loops between them.

    Attributes:
        keeps: (K, O) what is kept at a boundary, everything at the first.
        parent: (K + 1, O) the next boundary outside that keeps an operand; -1 where there is no
            edge; K stands for the MACs.
        tile: (K + 1, D) products of all extents inside; may exceed the size.
        span: (K, D) tiles times unrolling.
        extent, spread: (K, D) of temporal loops and of unrollings.
        moved: (K,) bit mask of the dims with a temporal loop in a stage.
        sums: (4,) energy, DRAM words, and two of room, of the edge looked at last.
        reads, writes: (K,) bits on the ports of all instances, of the edge looked at last.
        loose: (1,) how the last price may be below the real one.
        words: (N,) room for coordinates.
    """

    keeps: Mask
    parent: Integers
    tile: Integers
    span: Integers
    extent: Integers
    spread: Integers
    moved: Integers
    sums: Floats
    reads: Floats
    writes: Floats
    loose: Integers
    words: Integers


@compiled_inside
def visits(size: int, chain: Chain, dim: int, c: int, free: int, merged: int, first: int) -> float:
    """How often tiles at boundary `c` are visited along a dim.

    Temporal loops of stages in `free`, and unrollings of stages in `merged`, count once. Stages
    outside `first` are not known and count as if they had no loops but one over what is left.
    """
    rest, total = size, 0.0
    if first > 0:  # one loop over the tiles of boundary `first`
        step = chain.tile[first, dim]
        count = -(-rest // step)
        inner = _inner_steps(chain, dim, first, c, free, merged)
        total += (count - 1) * inner
        rest -= (count - 1) * step
    for k in range(first, c):
        for spatial in range(2):
            if spatial:
                step, once = chain.tile[k + 1, dim], merged >> k & 1
            else:
                step, once = chain.span[k, dim], free >> k & 1
            if once:
                rest = min(rest, step)
                continue
            count = -(-rest // step)
            if count > 1:
                inner = _inner_steps(chain, dim, k + 1, c, free, merged)
                if not spatial and not merged >> k & 1:
                    inner *= chain.spread[k, dim]
                total += (count - 1) * inner
                rest -= (count - 1) * step
    return total + 1.0


@compiled_inside
def _inner_steps(chain: Chain, dim: int, first: int, c: int, free: int, merged: int) -> float:
    """Steps of all loops from stage `first` to boundary `c` that count, none of them clipped."""
    steps = 1.0
    for k in range(first, c):
        if not free >> k & 1:
            steps *= chain.extent[k, dim]
        if not merged >> k & 1:
            steps *= chain.spread[k, dim]
    return steps


@compiled_inside
def _fill_bits(words: Integers, begin: int, step_a: int, step_b: int, ea: int, eb: int) -> int:
    """Mark the coordinates of a tile of `ea` by `eb`; how far they reach."""
    reach = step_a * (ea - 1) + step_b * (eb - 1) + 1
    for at in range(reach):
        words[begin + at] = 0
    for p in range(ea):
        for q in range(eb):
            words[begin + step_a * p + step_b * q] = 1
    return reach


@compiled_inside
def _within(words: Integers, begin: int, reach: int, start: int, low: int, high: int) -> int:
    """How many marks, running sums of which begin there, lie in [low, high)."""
    i, j = min(max(low - start, 0), reach), min(max(high - start, 0), reach)
    return words[begin + j] - words[begin + i] if j > i else 0


@compiled_inside
def rank_total(
    words: Integers,
    sizes: tuple[int, int],
    steps: tuple[int, int],
    data: tuple[int, int],
    tile: tuple[int, int],
    grid: tuple[int, int],
    slide: int,
    span: int,
    sweep: int,
    single: bool,
) -> float:
    """Words of a rank that enter its tiles at all positions.

    Args:
        words: room for three times the coordinates of a tile, and three.
        sizes, steps, data: of the rank's dims; the coordinates that are words.
        tile: extents of a tile.
        grid: of how many tiles those at the same place count once, along both dims.
        slide: 0 or 1 for the dim whose loop keeps what overlaps, -1 for none.
        span: by how much that loop steps; sweep: after how much it begins anew.
        single: whether every iteration reads its word.
    """
    total = 0.0
    room = steps[0] * (tile[0] - 1) + steps[1] * (tile[1] - 1) + 2
    for tail_a in range(2):
        last_a = (sizes[0] - 1) // tile[0] * tile[0]
        ea = tile[0] if tail_a == 0 else sizes[0] - last_a
        if tail_a == 1 and ea == tile[0]:
            continue
        for tail_b in range(2):
            last_b = (sizes[1] - 1) // tile[1] * tile[1]
            eb = tile[1] if tail_b == 0 else sizes[1] - last_b
            if tail_b == 1 and eb == tile[1]:
                continue
            reach = _fill_bits(words, 0, steps[0], steps[1], ea, eb)
            # marks that the tile before has, too
            if slide >= 0:
                back = steps[slide] * span
                pa, pb = (tile[0], eb) if slide == 0 else (ea, tile[1])
                before = _fill_bits(words, room, steps[0], steps[1], pa, pb)
                for at in range(reach):
                    kept = at + back < before and words[room + at + back] == 1
                    words[2 * room + at] = 1 if kept and words[at] == 1 else 0
                _run(words, 2 * room, reach)
            _run(words, 0, reach)
            from_a = last_a if tail_a == 1 else 0
            to_a = sizes[0] - ea + 1
            from_b = last_b if tail_b == 1 else 0
            to_b = sizes[1] - eb + 1
            for i in range(from_a, to_a, tile[0]):
                for j in range(from_b, to_b, tile[1]):
                    if _is_repeated(i, j, sizes, steps, tile, grid):
                        continue
                    start = steps[0] * i + steps[1] * j
                    if single:
                        total += _iterations(start, ea, eb, steps, data)
                        continue
                    total += _within(words, 0, reach, start, data[0], data[1])
                    at = i if slide == 0 else j
                    if slide >= 0 and at % sweep >= span:
                        total -= _within(words, 2 * room, reach, start, data[0], data[1])
    return total


@compiled_inside
def _iterations(
    start: int, ea: int, eb: int, steps: tuple[int, int], data: tuple[int, int]
) -> int:
    """Iterations of a tile that read a word."""
    reading = 0
    for p in range(ea):
        for q in range(eb):
            reading += data[0] <= start + steps[0] * p + steps[1] * q < data[1]
    return reading


@compiled_inside
def _run(words: Integers, begin: int, reach: int) -> None:
    """Turn marks into running sums."""
    total = 0
    for at in range(reach + 1):
        mark = words[begin + at] if at < reach else 0
        words[begin + at] = total
        total += mark


@compiled_inside
def _is_repeated(
    i: int,
    j: int,
    sizes: tuple[int, int],
    steps: tuple[int, int],
    tile: tuple[int, int],
    grid: tuple[int, int],
) -> bool:
    """Whether another tile of the same grid stands at the same place and has been counted."""
    if grid[0] <= 1 or grid[1] <= 1:
        return False
    x, y = i // tile[0] % grid[0], j // tile[1] % grid[1]
    start = steps[0] * i + steps[1] * j
    for before in range(x):
        rest = start - steps[0] * (i - (x - before) * tile[0])
        if rest % (steps[1] * tile[1]) == 0:
            other = rest // steps[1]
            along = other // tile[1]
            if along // grid[1] == j // tile[1] // grid[1] and other < sizes[1]:
                return True
    return False


@compiled_inside
def _lcm(a: int, b: int) -> int:
    x, y = a, b
    while y:
        x, y = y, x % y
    return a // x * b


@compiled_inside
def _stands(layer: Layer, chain: Chain, rank: int, c: int, first: int) -> bool:
    """Whether loops over both dims may move a tile by the same, so that it may stand still."""
    a, b = layer.rank_a[rank], layer.rank_b[rank]
    if b < 0:
        return False
    own = other = 0
    for k in range(c - 1, first - 1, -1):
        if own == 0 and chain.moved[k] >> a & 1:
            own = layer.step_a[rank] * chain.span[k, a]
        if other == 0 and chain.moved[k] >> b & 1:
            other = layer.step_b[rank] * chain.span[k, b]
    if first > 0:
        if own == 0 and chain.tile[first, a] < layer.size[a]:
            own = layer.step_a[rank] * chain.tile[first, a]
        if other == 0 and chain.tile[first, b] < layer.size[b]:
            other = layer.step_b[rank] * chain.tile[first, b]
    if own == 0 or other == 0:
        return False
    common = _lcm(own, other)
    return bool(
        common <= layer.step_a[rank] * (layer.size[a] - 1)
        and common <= layer.step_b[rank] * (layer.size[b] - 1)
    )


@compiled_inside
def spills(layer: Layer, rank: int, ta: int, tb: int) -> bool:
    """Whether tiles at different places may hold the same words, as padding is none."""
    if not layer.padded[rank]:
        return False
    reach = layer.step_a[rank] * (ta - 1) + layer.step_b[rank] * (tb - 1) + 1
    gap = max(layer.step_a[rank] if ta > 1 else 0, layer.step_b[rank] if tb > 1 else 0)
    return bool(reach + 2 * gap >= layer.high[rank] - layer.low[rank])


@compiled_inside
def _rank_words(
    layer: Layer, chain: Chain, rank: int, c: int, stage: int, slide: int, merged: int, first: int
) -> float:
    """Words of a rank that enter tiles at boundary `c`; `slide` -2 for the least of any."""
    a, b = layer.rank_a[rank], layer.rank_b[rank]
    ta = min(chain.tile[c, a], layer.size[a])
    tb, size_b = 1, 1
    xa, xb, joint, apart = 1, 1, -1, False
    if b >= 0:
        tb, size_b = min(chain.tile[c, b], layer.size[b]), layer.size[b]
    for k in range(first, c):
        if merged >> k & 1 and b >= 0:
            xa *= chain.spread[k, a]
            xb *= chain.spread[k, b]
            if chain.spread[k, a] > 1 or chain.spread[k, b] > 1:
                apart = apart or joint >= 0
                joint = k
    at = layer.start[rank] + ta * layer.width[rank] + tb
    distinct = layer.floor[layer.start[rank] + layer.size[a] * layer.width[rank] + size_b]
    if spills(layer, rank, ta, tb) or _stands(layer, chain, rank, c, first):
        chain.loose[0] = ANY_ORDER
        share = 1.0
        if xa > 1 and xb > 1:
            share = 1.0 / min(xa, xb)
        return distinct * share
    if slide == -2:
        share = 1.0
        if xa > 1 and xb > 1:
            share = 1.0 / min(xa, xb) if layer.padded[rank] else (xa + xb - 1) / (xa * xb)
        return layer.floor[at] * share
    along, span, sweep = -1, 1, 1
    if slide >= 0 and (slide == a or slide == b):
        along = 0 if slide == a else 1
        span, sweep = chain.span[stage, slide], chain.tile[stage, slide]
        back = (layer.step_a[rank] if slide == a else layer.step_b[rank]) * span
        if back > layer.step_a[rank] * (ta - 1) + layer.step_b[rank] * (tb - 1):
            along = -1
    ga, gb, single = 1, 1, False
    if xa > 1 and xb > 1:
        single = c == len(chain.moved)
        if single:
            ta = min(chain.tile[joint + 1, a], layer.size[a])
            tb = min(chain.tile[joint + 1, b], layer.size[b])
        known = not apart and (single or joint == c - 1)
        known = known and (along < 0 or span == chain.span[joint, slide])
        if not known or layer.size[a] % ta != 0 or size_b % tb != 0:
            chain.loose[0] = max(chain.loose[0], SAME_ORDER)
        if not known:
            return layer.floor[at] / min(xa, xb)
        ga, gb = xa, xb
    if along < 0 and (ga <= 1 or gb <= 1):
        return layer.visits[at]
    return rank_total(
        chain.words,
        (layer.size[a], size_b),
        (layer.step_a[rank], layer.step_b[rank]),
        (layer.low[rank], layer.high[rank]),
        (ta, tb),
        (ga, gb),
        along,
        span,
        sweep,
        single,
    )


@compiled_inside
def _ragged(layer: Layer, chain: Chain, dim: int, stage: int) -> int:
    """The size of a dim's last round in a stage if it is a single step there; else 0."""
    size, whole = layer.size[dim], chain.tile[stage, dim]
    if whole >= size or not chain.moved[stage] >> dim & 1:
        return 0
    rest = size - (-(-size // whole) - 1) * whole
    return rest if rest <= chain.span[stage, dim] else 0


@compiled_inside
def _ragged_share(layer: Layer, chain: Chain, operand: int, dim: int, stage: int, c: int) -> float:
    """At most this share of an operand's words enters in a dim's last round, of a single step."""
    rest = _ragged(layer, chain, dim, stage)
    if rest == 0:
        return 0.0
    for rank in range(len(layer.rank_op)):
        if layer.rank_op[rank] != operand:
            continue
        a, b = layer.rank_a[rank], layer.rank_b[rank]
        if dim not in (a, b):
            continue
        other = b if dim == a else a
        ta = min(chain.tile[c, a], layer.size[a])
        tb, along = 1, 1
        if b >= 0:
            tb = min(chain.tile[c, b], layer.size[b])
        if other >= 0:
            along = -(-layer.size[other] // chain.tile[c, other])
        at = layer.start[rank] + ta * layer.width[rank] + tb
        tiles = -(-rest // chain.tile[c, dim]) * along
        if layer.floor[at] <= 0:
            return 1.0
        return min(1.0, tiles * layer.largest[at] / layer.floor[at])
    return rest / layer.size[dim]


@compiled_inside
def count(
    layer: Layer,
    chain: Chain,
    c: int,
    operand: int,
    stage: int,
    stays: bool,
    block: int,
    slide: int,
    merged: int,
    first: int,
) -> float:
    """Words of an operand that enter tiles at boundary `c`, those of merged unrollings once.

    Args:
        layer: the workload on the chip.
        chain: tiles and loops; of stages from `first` on.
        c: the boundary; K for the MACs.
        operand: which.
        stage: the innermost outside that moves it, -1 for none.
        stays: whether that stage's loops that miss it are free.
        block: bit mask of the dims whose loops are known to be innermost there; -1 if any may be.
        slide: the dim whose loop moves it innermost, -2 if any may be.
        merged: bit mask of stages.
        first: the outermost stage that is known.

    Returns: that, or less, and then `chain.loose` says so.
    """
    dims, macs = len(layer.size), len(chain.moved)
    free = 0
    if c < macs:
        for k in range(max(stage, 0), c):
            if k > stage or (stays and k == stage) or stage < 0:
                free |= 1 << k
    share, share_all = 0.0, 0.0
    if c < macs and stage > 0:
        share, share_all = (0.0, 1.0) if block < 0 else (1.0, 1.0)
        met = False
        for dim in range(dims):
            if chain.moved[stage] & layer.uses[operand] >> dim & 1:
                part = _ragged_share(layer, chain, operand, dim, stage, c)
                share_all *= part
                if block < 0:
                    share = max(share, part)
                elif block >> dim & 1:
                    share *= part
                    met = True
        if block >= 0 and not met:
            share = 0.0
        share = max(share, share_all)
        if stays:
            share = share_all
        if share > 0:
            chain.loose[0] = ANY_ORDER
    times, times_stage, times_all = 1.0, 1.0, 1.0
    every = (1 << c) - 1
    for dim in range(dims):
        size = layer.size[dim]
        if layer.plain[operand] >> dim & 1:
            times *= size
            times_stage *= size
            times_all *= size
        elif not layer.uses[operand] >> dim & 1:
            times *= visits(size, chain, dim, c, free, merged, first)
            if share > 0:
                times_stage *= visits(size, chain, dim, c, free | 1 << stage, merged, first)
                if first > 0:  # loops further out may be free, too
                    lone = visits(min(size, chain.tile[first, dim]), chain, dim, c, every, merged, first)
                    times_all *= lone
                else:
                    times_all *= visits(size, chain, dim, c, every, merged, first)
    if share > 0:
        times = (1 - share) * times + (share - share_all) * times_stage + share_all * times_all
    for rank in range(len(layer.rank_op)):
        if layer.rank_op[rank] == operand:
            times *= _rank_words(layer, chain, rank, c, stage, slide, merged, first)
    return times


@compiled_inside
def copies(layer: Layer, chain: Chain, c: int, operand: int, merged: int, first: int) -> float:
    """Instances outside boundary `c` that hold the same words of an operand, at one time or not."""
    times, every = 1.0, (1 << c) - 1
    for dim in range(len(layer.size)):
        if not layer.uses[operand] >> dim & 1:
            size = layer.size[dim]
            times *= visits(size, chain, dim, c, every, merged, first) if first == 0 else visits(
                min(size, chain.tile[first, dim]), chain, dim, c, every, merged, first
            )
    return times


@compiled_inside
def instances(layer: Layer, chain: Chain, c: int) -> float:
    """Instances of boundary `c` that are in use."""
    times, every = 1.0, (1 << c) - 1
    for dim in range(len(layer.size)):
        times *= visits(layer.size[dim], chain, dim, c, every, 0, 0)
    return times


@compiled_inside
def steps(layer: Layer, chain: Chain, first: int) -> float:
    """Cycles in which something is computed."""
    macs = len(chain.moved)
    times, every = 1.0, (1 << macs) - 1
    for dim in range(len(layer.size)):
        times *= visits(layer.size[dim], chain, dim, macs, 0, every, first)
    for k in range(first):
        times /= layer.fan_copies[k]
    return times


@compiled_inside
def _mask(flags: Mask, low: int, high: int) -> int:
    mask = 0
    for k in range(low, high):
        if flags[k]:
            mask |= 1 << k
    return mask


@compiled_inside
def price_edge(
    layer: Layer,
    chain: Chain,
    c: int,
    operand: int,
    stage: int,
    stays: bool,
    block: int,
    slide: int,
    first: int,
    least: float,
) -> None:
    """Put energy, words and port bits of an operand's moves into boundary `c` into `chain`.

    Arguments as of `count`, and by what share its counts are reduced. Unknown stages are taken to merge all they can, and to have as many
    instances as there are.
    """
    parent, macs = chain.parent[c, operand], len(chain.moved)
    is_output = operand == len(layer.uses) - 1
    multicast, reduced = _mask(layer.multicast, parent, c), _mask(layer.reduction, parent, c)
    served, merged, held = 1.0, 1.0, 1.0
    for k in range(first):
        held *= layer.fan_copies[k]
        if k >= parent and layer.multicast[k]:
            served *= layer.fan_copies[k]
        if k >= parent and layer.reduction[k]:
            merged *= layer.fan_copies[k]
    words = least * count(layer, chain, c, operand, stage, stays, block, slide, 0, first)
    reads = count(layer, chain, c, operand, stage, stays, block, slide, multicast, first)
    reads *= least / served
    for k in range(macs):
        chain.reads[k] = chain.writes[k] = 0.0
    bits, updates, finished, fills = layer.bits[operand], 0.0, 0.0, words
    energy = 0.0
    if is_output:
        distinct = layer.distinct[operand]
        apart = distinct * copies(layer, chain, c, operand, 0, first) * held
        once = distinct * copies(layer, chain, c, operand, multicast, first) * held
        updates = count(layer, chain, c, operand, stage, stays, block, slide, reduced, first)
        updates *= least / merged
        reads, fills = max(0.0, reads - once), max(0.0, words - apart)
        if c < macs and apart == distinct:
            finished = distinct * layer.finished
        energy += (updates - finished) * layer.update[parent, operand]
    energy += reads * layer.read[parent, operand]
    chain.reads[parent] += reads * bits
    chain.writes[parent] += (updates - finished) * bits
    if c < macs:
        if is_output:
            energy += (words - finished) * layer.read[c, operand]
            chain.reads[c] += (words - finished) * bits
        energy += fills * layer.write[c, operand]
        chain.writes[c] += fills * bits
    for k in range(max(parent, first), c):
        if layer.hop[k] > 0 and layer.fan_copies[k] > 1:
            energy += layer.hop[k] * _hops(
                layer, chain, c, operand, stage, stays, block, slide, first, k
            )
    chain.sums[0] = energy
    chain.sums[1] = reads + updates if parent == 0 else 0.0
    chain.sums[2] = updates


@compiled_inside
def _hops(
    layer: Layer,
    chain: Chain,
    c: int,
    operand: int,
    stage: int,
    stays: bool,
    block: int,
    slide: int,
    first: int,
    k: int,
) -> float:
    """Words times receivers on the fan-out of stage `k`."""
    down = _mask(layer.multicast, k + 1, c)
    words = count(layer, chain, c, operand, stage, stays, block, slide, down, first)
    if operand < len(layer.uses) - 1:
        return words
    held = 1.0
    for j in range(first):
        held *= layer.fan_copies[j]
    words -= layer.distinct[operand] * copies(layer, chain, c, operand, down, first) * held
    up = _mask(layer.reduction, k + 1, c)
    return max(0.0, words) + count(
        layer, chain, c, operand, stage, stays, block, slide, up, first
    )


@compiled_inside
def held_words(layer: Layer, chain: Chain, k: int, operand: int) -> float:
    """The words of the largest tile of an operand at boundary `k`."""
    words = 1.0
    for dim in range(len(layer.size)):
        if layer.plain[operand] >> dim & 1:
            words *= min(chain.tile[k, dim], layer.size[dim])
    for rank in range(len(layer.rank_op)):
        if layer.rank_op[rank] == operand:
            a, b = layer.rank_a[rank], layer.rank_b[rank]
            ta = min(chain.tile[k, a], layer.size[a])
            tb = min(chain.tile[k, b], layer.size[b]) if b >= 0 else 1
            words *= layer.largest[layer.start[rank] + ta * layer.width[rank] + tb]
    return words


@compiled_inside
def fits(layer: Layer, chain: Chain, k: int, output_bits: float) -> bool:
    """Whether the tiles at boundary `k` fit, with so many bits for a word of the output."""
    need, output = 0.0, len(layer.uses) - 1
    for operand in range(output + 1):
        if chain.keeps[k, operand]:
            bits = output_bits if operand == output else layer.store_bits[operand]
            room = held_words(layer, chain, k, operand) * bits
            if room > layer.room[k, operand]:
                return False
            need += room
    return bool(need <= layer.shared[k])


@compiled_inside
def mover(layer: Layer, chain: Chain, c: int, operand: int, first: int) -> int:
    """The innermost stage from `first` on, outside `c`, with a loop over an operand's dims."""
    stage = c - 1
    while stage >= first and chain.moved[stage] & layer.uses[operand] == 0:
        stage -= 1
    return stage if stage >= first else -1
