"""The compiled search of imperfect mappings: tiles of any size, the last ones clipped.

Owns: the counts of a chain of tiles, unrollings and classes of orders, exact or from below, and
`search`, branch and bound over chains from inside out. `docs/imperfect.md` proves what is said
here. All in one file, as the cache of compiled code looks at the file of a function only.

Non-goals: tables (`mapper/imperfect_tables.py`), time and thresholds (`mapper/imperfect.py`).
"""

from typing import NamedTuple

import numpy as np

from tilewright.mapper.compiled import compiled, compiled_inside
from tilewright.mapper.problem import Floats, Integers, Mask

TIE = 1e-12
LESS = 0.6
"""What is left of an operand's words, at least, in the second of the tables `Plan.staying`."""
MOST_SIZES = 64
"""Tiles of a class that are looked at one by one when classes are rated."""
ENERGY, CYCLES, EDP, WORDS = range(4)
UNROLL, LIST, ENTRY, TILE = range(4)
"""What is next in a stage: another unrolling, the list of tiles, its next entry, its next tile."""
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
        served, merged, held: (K, O) by how much a fan-out may lessen the reads of an operand, and
            its updates, at most; and to how many instances it may copy its words.
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
    served: Floats
    merged: Floats
    held: Floats
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
        sizes: of the rank's dims.
        steps: their coefficients.
        data: the coordinates that are words, as a half-open range.
        tile: extents of a tile.
        grid: of how many tiles those at the same place count once, along both dims.
        slide: 0 or 1 for the dim whose loop keeps what overlaps, -1 for none.
        span: by how much that loop steps.
        sweep: after how much it begins anew.
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
def _iterations(start: int, ea: int, eb: int, steps: tuple[int, int], data: tuple[int, int]) -> int:
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
    x = i // tile[0] % grid[0]
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
    return a // _gcd(a, b) * b


@compiled_inside
def may_stand(layer: Layer, rank: int, own: int, other: int) -> int:
    """After how many tiles of a sweep another loop may move a tile as far back; 0 for never.

    Args:
        layer: of the rank.
        rank: of two dims.
        own: how far along the rank the loop over its first dim steps.
        other: how far that over its second dim does.
    """
    a, b = layer.rank_a[rank], layer.rank_b[rank]
    common = _lcm(own, other)
    if common > layer.step_a[rank] * (layer.size[a] - 1):
        return 0
    if common > layer.step_b[rank] * (layer.size[b] - 1):
        return 0
    # one loop's step undone by another's m - 1: the fewer, the more is spared
    return int(max(2, min(common // own, common // other) + 1))


@compiled_inside
def _takes(chain: Chain, size: int, stage: int, dim: int, back: int, step: int) -> bool:
    """Whether a loop, full or cut short, may rewind by so much; `step` is one of its steps."""
    if back % step != 0 or back == 0:
        return False
    count = back // step + 1
    whole, span = chain.tile[stage, dim], chain.span[stage, dim]
    rest = size - (-(-size // whole) - 1) * whole
    last = -(-rest // span)
    if count == last or (count == chain.extent[stage, dim] and whole < size):
        return True
    return bool(count == last - 1 and rest % span != 0)


@compiled_inside
def _spared(layer: Layer, chain: Chain, rank: int, c: int, stage: int, slide: int) -> float:
    """The most words of tiles that stand still: loops outside move them by what `slide` rewinds."""
    a, b = layer.rank_a[rank], layer.rank_b[rank]
    if b < 0:
        return 0.0
    own, other, step, step_other = a, b, layer.step_a[rank], layer.step_b[rank]
    if slide == b:
        own, other, step, step_other = b, a, step_other, step
    ta, tb = min(chain.tile[c, a], layer.size[a]), min(chain.tile[c, b], layer.size[b])
    sweeps = -(-layer.size[other] // chain.tile[c, other])
    sweeps *= -(-layer.size[own] // chain.tile[stage, own])
    unrolled = chain.span[stage, own] // chain.tile[c, own]
    most = (
        sweeps * max(1, unrolled) * layer.largest[layer.start[rank] + ta * layer.width[rank] + tb]
    )
    pair = 1 << a | 1 << b
    uses = layer.uses[layer.rank_op[rank]]
    pace, total = step * chain.span[stage, own], step * (layer.size[own] - 1)
    if chain.moved[stage] >> other & 1:
        back = step_other * chain.span[stage, other]
        if _takes(chain, int(layer.size[own]), stage, own, back, pace):
            return most
        total += step_other * (layer.size[other] - 1)
        pace = _gcd(pace, back)
    if chain.moved[stage] & uses & ~pair:
        return 0.0
    for k in range(stage - 1, -1, -1):
        for turn in range(2):
            dim = own if turn == 0 else other
            if chain.moved[k] >> dim & 1:
                back = (step if turn == 0 else step_other) * chain.span[k, dim]
                if back % pace == 0 and back <= total:
                    return most
        if chain.moved[k] & uses & ~pair:
            return 0.0
    return 0.0


@compiled_inside
def _gcd(a: int, b: int) -> int:
    x, y = a, b
    while y:
        x, y = y, x % y
    return x


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
    fewest = 1.0 / min(xa, xb) if xa > 1 and xb > 1 else 1.0
    if spills(layer, rank, ta, tb):
        chain.loose[0] = ANY_ORDER
        return float(distinct * fewest)
    if slide == -2:
        words = layer.floor[at]
        own, other = _paces(layer, chain, rank, c, first)
        tiles = may_stand(layer, rank, own, other) if own > 0 and other > 0 else 0
        if tiles > 0:
            number = -(-layer.size[a] // ta) * -(-size_b // tb)
            words = max(distinct, words - np.ceil(number / tiles) * layer.largest[at])
        if xa > 1 and xb > 1 and not layer.padded[rank]:
            fewest = (xa + xb - 1) / (xa * xb)
        return float(words * fewest)
    along, span, sweep = -1, 1, 1
    if slide >= 0 and slide in (a, b):
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
            return float(layer.floor[at] / min(xa, xb))
        ga, gb = xa, xb
    if along < 0 and (ga <= 1 or gb <= 1):
        words = layer.visits[at]
    else:
        words = _all_positions(layer, chain, rank, (ta, tb), (ga, gb), along, span, sweep, single)
    if slide >= 0 and slide in (a, b):
        spared = _spared(layer, chain, rank, c, stage, slide)
        if spared > 0:
            chain.loose[0] = ANY_ORDER
            words = max(distinct * fewest, words - spared)
    return float(words)


@compiled_inside
def _paces(layer: Layer, chain: Chain, rank: int, c: int, first: int) -> tuple[int, int]:
    """How far the innermost loops over a rank's dims outside `c` step; 0 where there is none."""
    a, b = layer.rank_a[rank], layer.rank_b[rank]
    if b < 0:
        return 0, 0
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
    return own, other


@compiled_inside
def _all_positions(
    layer: Layer,
    chain: Chain,
    rank: int,
    tile: tuple[int, int],
    grid: tuple[int, int],
    along: int,
    span: int,
    sweep: int,
    single: bool,
) -> float:
    """`rank_total` of a layer's rank."""
    size_b = layer.size[layer.rank_b[rank]] if layer.rank_b[rank] >= 0 else 1
    return rank_total(
        chain.words,
        (int(layer.size[layer.rank_a[rank]]), int(size_b)),
        (layer.step_a[rank], layer.step_b[rank]),
        (layer.low[rank], layer.high[rank]),
        tile,
        grid,
        along,
        span,
        sweep,
        single,
    )


@compiled_inside
def _ragged(layer: Layer, chain: Chain, dim: int, stage: int, c: int) -> int:
    """How much of a dim lies in rounds of a stage that are a single step, for some instances."""
    if not chain.moved[stage] >> dim & 1:
        return 0
    size, whole, span = layer.size[dim], chain.tile[stage, dim], chain.span[stage, dim]
    rest = size - (-(-size // whole) - 1) * whole
    return single_steps(chain, dim, stage, c, rest, span)


@compiled_inside
def single_steps(chain: Chain, dim: int, stage: int, c: int, rest: int, span: int) -> int:
    """How much of a last round lies in instances that take one step of it only."""
    last = rest - span
    if last <= 0:
        return rest
    if last >= span:
        return 0
    inner = chain.spread[stage, dim]
    for k in range(stage + 1, c):
        if chain.spread[k, dim] > 1:
            return span - last
    if inner == 1:
        return 0
    tile = chain.tile[stage + 1, dim]
    return max(0, (inner - (-(-last // tile))) * tile)


@compiled_inside
def _held_along(size: int, chain: Chain, dim: int, c: int, merged: int, first: int) -> float:
    """How many instances of boundary `c` a dim is copied to, if all temporal loops are free."""
    whole = size if first == 0 else min(size, chain.tile[first, dim])  # of a loop outside, too
    return visits(whole, chain, dim, c, (1 << c) - 1, merged, first)


@compiled_inside
def _share_of_rest(layer: Layer, chain: Chain, operand: int, dim: int, c: int, rest: int) -> float:
    """At most this share of an operand's words enters there."""
    if rest == 0:
        return 0.0
    for rank in range(len(layer.rank_op)):
        a, b = layer.rank_a[rank], layer.rank_b[rank]
        if layer.rank_op[rank] != operand or (dim not in (a, b)):
            continue
        other = b if dim == a else a
        ta, tb = min(chain.tile[c, a], layer.size[a]), 1
        if b >= 0:
            tb = min(chain.tile[c, b], layer.size[b])
        along = 1 if other < 0 else -(-layer.size[other] // chain.tile[c, other])
        at = layer.start[rank] + ta * layer.width[rank] + tb
        tiles = -(-rest // chain.tile[c, dim]) * along
        if layer.floor[at] <= 0:
            return 1.0
        return min(1.0, tiles * layer.largest[at] / layer.floor[at])
    return min(1.0, rest / layer.size[dim])


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
    if c < macs and stage >= 0:
        share, share_all = (0.0, 1.0) if block < 0 else (1.0, 1.0)
        met = False
        for dim in range(dims):
            if (chain.moved[stage] & layer.uses[operand]) >> dim & 1:
                rest = _ragged(layer, chain, dim, stage, c)
                part = _share_of_rest(layer, chain, operand, dim, c, rest)
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
                times_all *= _held_along(size, chain, dim, c, merged, first)
    if share > 0:
        pairs = False  # tiles may stand still in the rounds that are cut short
        for rank in range(len(layer.rank_op)):
            pairs = pairs or (layer.rank_op[rank] == operand and layer.rank_b[rank] >= 0)
        times *= 1 - share
        if not pairs:
            times += (share - share_all) * times_stage + share_all * times_all
    for rank in range(len(layer.rank_op)):
        if layer.rank_op[rank] == operand:
            times *= _rank_words(layer, chain, rank, c, stage, slide, merged, first)
    return times


@compiled_inside
def copies(layer: Layer, chain: Chain, c: int, operand: int, merged: int, first: int) -> float:
    """Instances outside boundary `c` that hold the same words of an operand, at one time or not."""
    times = 1.0
    for dim in range(len(layer.size)):
        if not layer.uses[operand] >> dim & 1:
            times *= _held_along(layer.size[dim], chain, dim, c, merged, first)
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

    Arguments as of `count`, and by what share its counts are reduced. Unknown stages are taken to
    merge all they can, and to have as many instances as there are.
    """
    parent, macs = chain.parent[c, operand], len(chain.moved)
    is_output = operand == len(layer.uses) - 1
    multicast, reduced = _mask(layer.multicast, parent, c), _mask(layer.reduction, parent, c)
    served, merged, held = 1.0, 1.0, 1.0
    for k in range(first):
        held *= layer.held[k, operand]
        if k >= parent:
            served *= layer.served[k, operand]
            merged *= layer.merged[k, operand]
    words = least * count(layer, chain, c, operand, stage, stays, block, slide, 0, first)
    reads = count(layer, chain, c, operand, stage, stays, block, slide, multicast, first)
    reads *= least / served
    for k in range(macs):
        chain.reads[k] = chain.writes[k] = 0.0
    reads = max(reads, layer.distinct[operand]) if first > 0 or least < 1.0 else reads
    bits, updates, finished, fills = layer.bits[operand], 0.0, 0.0, words
    energy = 0.0
    if is_output:
        distinct = layer.distinct[operand]
        apart = distinct * copies(layer, chain, c, operand, 0, first) * held
        once = distinct * copies(layer, chain, c, operand, multicast, first) * held
        updates = count(layer, chain, c, operand, stage, stays, block, slide, reduced, first)
        updates = max(distinct, updates * least / merged)
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
        held *= layer.held[j, operand]
    words -= layer.distinct[operand] * copies(layer, chain, c, operand, down, first) * held
    up = _mask(layer.reduction, k + 1, c)
    return max(0.0, words) + count(layer, chain, c, operand, stage, stays, block, slide, up, first)


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
    return float(words)


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


class Plan(NamedTuple):
    """What may be tried, for one choice of what is kept where: K stages, D dims, O operands.

    Attributes:
        spread_start: (K + 1,) where a stage's unrollings begin.
        spreads, along_y: (M, D) extents on both axes together, and on axis y.
        list_start: (K + 1,) where the classes of tiles of a boundary begin.
        cell: (N,) where in the tables: a class of the tile's size in each dim.
        by_words: whether they are sorted by DRAM words, not by energy.
        stay_cell: (K - 2, 2, O, M) the same sorted by `stay_at`.
        counts: (D,) classes of a dim.
        tiles: (D, C) in how many tiles of a class a dim falls apart, ascending.
        smallest, largest: (D, C) tiles of a class.
        class_of: (D, V) the class of a tile's size.
        stride: (D,) of a class in the tables that follow.
        at, at_words: (K, P) the least energy, and DRAM words, of all edges into a tile of a class
            at a boundary and into boundaries outside.
        moving, moving_words: (K, P) the least of that of all tiles that hold one of a class.
        stay_at: (K - 2, 2, O, P) `at` with what an operand costs at the next boundary inside, if it
            stays while loops just inside that tile move the others; then with less, as its last
            round may be cut short. wait_at: (K - 2, O, P) the same if those loops do not move it.
        staying, waiting: the least of that of all tiles that hold one of a class; if it waits, of
            those that are as long in its dims.
        shares, merged, copied: (M, O) of an unrolling: the least share of words that is read for
            what is filled, that updates are of drains; to how many instances words are copied.
        used: (M,) instances.
        mac_floor: (M,) the least energy of words that pass between memories and MACs, ascending in
            every stage; least_macs: (K + 1,) the same with stages from there on known to be none.
    """

    spread_start: Integers
    spreads: Integers
    along_y: Integers
    list_start: Integers
    cell: Integers
    by_words: bool
    stay_cell: Integers
    counts: Integers
    tiles: Integers
    smallest: Integers
    largest: Integers
    class_of: Integers
    stride: Integers
    at: Floats
    at_words: Floats
    moving: Floats
    moving_words: Floats
    stay_at: Floats
    staying: Floats
    wait_at: Floats
    waiting: Floats
    shares: Floats
    merged: Floats
    copied: Floats
    used: Floats
    mac_floor: Floats
    least_macs: Floats


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
        step, spread, entry, option: (K,) where the search stands in a stage.
        unrolled: (K, D), cell: (K,) the classes of what is unrolled.
        is_bare: (K,) whether `bare` is known; floor: (K,) energy that is certain outside it.
        known, mac_words, moved_rest, bound, bound_words, cycles: (K,) of an unrolling: energy that
            is certain, words of MACs, energy of what moves but for the dearest, the least energy,
            words and cycles.
        counts: (4,) chains priced, unrollings tried, loose chains, and whether to stop: 1 from
            outside, 2 if there is no room for more loose chains.
        moves: (O,) energy of an operand's edges looked at; kinds, paid: (K, O) what may be cut
            short of it in a stage, and that energy; moving, sure: (K,) of all, of those that no
            cut makes free; bare: (K, O) words; cuts: (K, O, D, S) shares that are cut short.
        pick, low, high: (K, D) extents; number, chosen: (K,) classes of orders.
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
    option: Integers
    unrolled: Integers
    cell: Integers
    is_bare: Integers
    floor: Floats
    known: Floats
    mac_words: Floats
    moved_rest: Floats
    bound: Floats
    bound_words: Floats
    cycles: Floats
    counts: Integers
    moves: Floats
    bare: Floats
    cuts: Floats
    kinds: Integers
    paid: Floats
    moving: Floats
    sure: Floats
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
                    price_edge(layer, chain, c, operand, stage, stays, block, along, 0, 1.0)
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
    if partial & ~1 & ~roomy and loose < 2:
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
def _set_extent(chain: Chain, k: int, dim: int, extent: int) -> None:
    chain.extent[k, dim] = extent
    chain.tile[k, dim] = extent * chain.span[k, dim]
    if extent > 1:
        chain.moved[k] |= 1 << dim
    else:
        chain.moved[k] &= ~(1 << dim)


@compiled_inside
def _worst_rest(size: int, span: int, unrolled: int, tile: int) -> int:
    """How much of a dim may lie in rounds that are a single step, however a stage is tiled."""
    rounds = -(-size // span)
    last = size - (rounds - 1) * span
    worst = last if rounds > 2 else 0
    if rounds > 1 and unrolled > 1 and last < span:
        worst = max(worst, (unrolled - (-(-last // tile))) * tile)
    return worst


@compiled_inside
def _most_ragged(layer: Layer, chain: Chain, operand: int, k: int) -> float:
    """At least this share of an operand's words enters, whatever is cut short in stage `k`."""
    most = 0.0
    for dim in range(len(layer.size)):
        if layer.uses[operand] >> dim & 1:
            unrolled, tile = chain.spread[k, dim], chain.tile[k + 1, dim]
            for j in range(k + 1, len(chain.moved)):
                if chain.spread[j, dim] > 1:
                    unrolled, tile = chain.span[k, dim], 1
            rest = _worst_rest(layer.size[dim], chain.span[k, dim], unrolled, tile)
            most = max(most, _share_of_rest(layer, chain, operand, dim, k + 1, rest))
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
    """Put the words that enter boundary `k` + 1, were no round cut short, into `bare`.

    And what share cutting short may spare into `cuts`, by dim and unrolling. Returns whether that
    is known.
    """
    c = k + 1
    if c == len(chain.moved):
        return False
    for operand in range(len(layer.uses)):
        state.bare[k, operand] = 0.0
        if not chain.keeps[c, operand]:
            continue
        times = 1.0
        for dim in range(len(layer.size)):
            if layer.plain[operand] >> dim & 1:
                times *= layer.size[dim]
            elif not layer.uses[operand] >> dim & 1:
                times *= -(-layer.size[dim] // chain.tile[c, dim])
        for rank in range(len(layer.rank_op)):
            if layer.rank_op[rank] == operand:
                a, b = layer.rank_a[rank], layer.rank_b[rank]
                ta, tb = min(chain.tile[c, a], layer.size[a]), 1
                if b >= 0:
                    tb = min(chain.tile[c, b], layer.size[b])
                times *= layer.floor[layer.start[rank] + ta * layer.width[rank] + tb]
        state.bare[k, operand] = times
        for dim in range(len(layer.size)):
            if layer.uses[operand] >> dim & 1:
                tile, finer = chain.tile[c, dim], False
                for j in range(c, len(chain.moved)):
                    finer = finer or chain.spread[j, dim] > 1
                for unrolled in range(1, state.cuts.shape[3]):
                    span = unrolled * tile
                    parts, part = (span, 1) if finer else (unrolled, tile)
                    rest = _worst_rest(layer.size[dim], span, parts, part)
                    state.cuts[k, operand, dim, unrolled] = _share_of_rest(
                        layer, chain, operand, dim, c, rest
                    )
    return True


@compiled_inside
def _may_pay(layer: Layer, plan: Plan, chain: Chain, state: State, k: int, spread: int) -> bool:
    """Whether an unrolling may be part of a better chain: a quick look before a close one."""
    c, output = k + 1, len(layer.uses) - 1
    cell = 0
    for dim in range(len(layer.size)):
        span = min(chain.tile[c, dim] * plan.spreads[spread, dim], layer.size[dim])
        cell += plan.stride[dim] * plan.class_of[dim, span]
    total = 0.0
    for operand in range(output + 1):
        state.moves[operand], state.kinds[k, operand] = 0.0, 0
        if not chain.keeps[c, operand] or mover(layer, chain, c, operand, c) >= 0:
            continue
        parent, cut = chain.parent[c, operand], 0.0
        for dim in range(len(layer.size)):
            if layer.uses[operand] >> dim & 1:
                cut = max(cut, state.cuts[k, operand, dim, plan.spreads[spread, dim]])
        words = state.bare[k, operand] * (1.0 - cut)
        state.kinds[k, operand] = 0 if cut == 0 else 1 if 1.0 - cut >= LESS else 2
        share = plan.shares[spread, operand]
        merged = plan.merged[spread, operand]
        if parent < k:
            for j in range(parent, k):
                share /= layer.served[j, operand]
                merged /= layer.merged[j, operand]
        distinct = layer.distinct[operand]
        if operand < output:
            reads = max(words * share, distinct)
            energy = words * layer.write[c, operand] + reads * layer.read[parent, operand]
        else:
            first = distinct * plan.copied[spread, operand]
            for j in range(k):
                first *= layer.held[j, operand]
            energy = words * layer.read[c, operand]
            energy += max(words * merged, distinct) * layer.update[parent, operand]
            energy -= (
                distinct * layer.finished * (layer.read[c, operand] + layer.update[parent, operand])
            )
            energy += max(0.0, words - first) * layer.write[c, operand]
            energy += max(0.0, words * share - first) * layer.read[parent, operand]
            energy = max(0.0, energy)
        state.moves[operand] = energy
        total += energy
    bound = total + plan.moving[k, cell]
    for operand in range(output + 1):
        held = _held_still(plan, state.kinds[k, operand], k, operand, cell)
        bound = min(bound, total - state.moves[operand] + held)
    cycles = layer.macs / plan.used[spread]
    for j in range(len(chain.moved)):
        if j != k:
            cycles /= layer.fan_copies[j]
    energy = state.inside[c] + layer.mac_pj + layer.leak * cycles + bound
    state.value[ENERGY], state.value[CYCLES] = energy + plan.mac_floor[spread], cycles
    state.value[WORDS] = state.inside_words[c] + plan.moving_words[k, cell]
    return _is_worth(state)


@compiled_inside
def _walk(layer: Layer, plan: Plan, chain: Chain, state: State) -> None:
    """Try all chains, stage by stage from inside out; `step` says what is next in a stage."""
    stages = len(chain.moved)
    k = stages - 1
    state.spread[k], state.step[k] = -1, UNROLL
    state.floor[k] = layer.mac_pj
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
                state.option[k], state.entry[k] = 0, -1
                if k == stages - 1:
                    state.entry[k] += state.rows[0]
                elif not plan.by_words:
                    least = state.known[k] + state.sure[k] + plan.moving[k, state.cell[k]]
                    if least > state.limits[ENERGY]:
                        state.step[k] = ENTRY if _next_option(layer, plan, state, k) else UNROLL
            continue
        elif state.step[k] == ENTRY:
            there = _next_entry(layer, plan, chain, state, k)
            if there < 0:
                state.step[k] = UNROLL
                if _next_option(layer, plan, state, k):
                    state.step[k] = ENTRY
            elif _extents(layer, plan, chain, state, k, there):
                state.step[k] = TILE
            continue
        else:
            for dim in range(len(layer.size)):
                _set_extent(chain, k, dim, state.pick[k, dim])
            if not _next_pick(state, k, len(layer.size)):
                state.step[k] = ENTRY
            if chain.moved[k] == 0 or not _may_go_on(layer, plan, chain, state, k, False):
                continue
        k -= 1
        state.spread[k], state.step[k] = -1, UNROLL
        state.is_bare[k] = 0
        _set_floor(layer, plan, chain, state, k)
        if k > 0 and plan.spread_start[k + 1] > plan.spread_start[k]:
            state.is_bare[k] = 1 if _bare_words(layer, chain, state, k) else 0


@compiled_inside
def _set_floor(layer: Layer, plan: Plan, chain: Chain, state: State, k: int) -> None:
    """Put what is certain, whatever is unrolled in a stage, into `floor`."""
    state.floor[k] = state.inside[k + 1] + layer.mac_pj
    if k == 0 or k + 1 == len(chain.moved):
        return
    cell = 0
    for dim in range(len(layer.size)):
        size = min(chain.tile[k + 1, dim], layer.size[dim])
        cell += plan.stride[dim] * plan.class_of[dim, size]
    state.floor[k] += plan.moving[k, cell]


@compiled_inside
def _next_spread(plan: Plan, state: State, k: int) -> bool:
    """Go to the next unrolling of a stage; the only one is -1 without a fan-out."""
    begin, end = plan.spread_start[k], plan.spread_start[k + 1]
    if end == begin:
        state.spread[k] -= 1
        return bool(state.spread[k] == -2)
    state.spread[k] = begin if state.spread[k] < 0 else state.spread[k] + 1
    if state.spread[k] >= end:
        return False
    # unrollings that follow let more words pass to MACs
    least = state.floor[k] + plan.mac_floor[state.spread[k]]
    return bool(least <= state.limits[ENERGY])


@compiled_inside
def _enter_spread(layer: Layer, plan: Plan, chain: Chain, state: State, k: int) -> bool:
    """Unroll a stage and bound what is outside; whether that may be worth it."""
    dims, operands, macs = len(layer.size), len(layer.uses), len(chain.moved)
    spread = -1 if plan.spread_start[k + 1] == plan.spread_start[k] else state.spread[k]
    if state.is_bare[k] and not _may_pay(layer, plan, chain, state, k, spread):
        return False
    _unroll(layer, plan, chain, k, spread)
    state.counts[1] += 1
    cell = 0
    for dim in range(dims):
        span = chain.span[k, dim]
        _set_extent(chain, k, dim, -(-layer.size[dim] // span))
        state.unrolled[k, dim] = plan.class_of[dim, min(span, layer.size[dim])]
        cell += plan.stride[dim] * state.unrolled[k, dim]
    if k == 0:
        return True
    state.cell[k] = cell
    cycles = steps(layer, chain, k)
    known = state.inside[k + 1] + layer.mac_pj + layer.leak * cycles
    known += max(_macs_energy(layer, chain, state, k), plan.least_macs[k])
    mac_words = state.value[WORDS]
    moving, most = 0.0, 0.0
    for operand in range(operands):
        state.moves[operand], state.kinds[k, operand] = 0.0, 0
        for c in range(k + 1, macs):
            if not chain.keeps[c, operand] or mover(layer, chain, c, operand, k + 1) >= 0:
                continue
            least = _most_ragged(layer, chain, operand, k)
            state.kinds[k, operand] = 0 if least == 1 else 1 if least >= LESS else 2
            price_edge(layer, chain, c, operand, k, False, -1, -2, k, least)
            state.moves[operand] += chain.sums[0]
        moving += state.moves[operand]
        most = max(most, state.moves[operand])
    bound = moving + plan.moving[k, cell]
    for operand in range(operands):
        state.paid[k, operand] = state.moves[operand]
        if k < macs - 1:
            held = _held_still(plan, state.kinds[k, operand], k, operand, cell)
            bound = min(bound, moving - state.moves[operand] + held)
    state.known[k], state.mac_words[k] = known, mac_words
    state.moved_rest[k], state.moving[k], state.sure[k] = moving - most, moving, moving
    for operand in range(operands):
        if state.kinds[k, operand] > 1:  # it may stay at next to no cost
            state.sure[k] = min(state.sure[k], moving - state.moves[operand])
    state.bound[k], state.cycles[k] = known + bound, cycles
    state.bound_words[k] = state.inside_words[k + 1] + mac_words + plan.moving_words[k, cell]
    return True


@compiled_inside
def _held_still(plan: Plan, kind: int, k: int, operand: int, cell: int) -> float:
    """The least outside of any tile that holds one of a class, if an operand stays or waits."""
    stays = plan.moving[k, cell] if kind > 1 else plan.staying[k - 1, kind, operand, cell]
    return float(min(stays, plan.waiting[k - 1, operand, cell]))


@compiled_inside
def _next_option(layer: Layer, plan: Plan, state: State, k: int) -> bool:
    """Go on to tiles outside of which another operand stays, or waits."""
    operands = len(layer.uses)
    if k == len(state.step) - 1 or plan.by_words:
        return False
    state.entry[k] = -1
    while True:
        state.option[k] += 1
        if state.option[k] > 2 * operands:
            return False
        operand = (state.option[k] - 1) % operands
        if state.paid[k, operand] <= 0:
            continue
        rest = state.known[k] + state.moving[k] - state.paid[k, operand]
        cell = state.cell[k]
        if state.option[k] > operands:
            if rest + plan.waiting[k - 1, operand, cell] <= state.limits[ENERGY]:
                return True
        elif state.kinds[k, operand] <= 1:
            kind = state.kinds[k, operand]
            if rest + plan.staying[k - 1, kind, operand, cell] <= state.limits[ENERGY]:
                return True


@compiled_inside
def _next_entry(layer: Layer, plan: Plan, chain: Chain, state: State, k: int) -> int:
    """The next class of tiles that may be worth it with the option looked at; -1 if none is left.

    Of several options the cheapest counts.
    """
    stages, operands = len(chain.moved), len(layer.uses)
    option, high = state.option[k], plan.list_start[k + 1] - plan.list_start[k]
    if k == stages - 1:
        high = min(high, state.rows[1])
    operand = (option - 1) % operands
    if option > operands:
        high = 1
        for dim in range(len(layer.size)):
            if not layer.uses[operand] >> dim & 1:
                high *= plan.counts[dim]
    state.value[CYCLES] = state.cycles[k]
    while True:
        state.entry[k] += 1
        at = state.entry[k]
        if at >= high:
            return -1
        if option == 0:
            there = int(plan.cell[plan.list_start[k] + at])
        elif option <= operands:
            there = int(plan.stay_cell[k - 1, state.kinds[k, operand], operand, at])
        else:
            there = _waiting_cell(layer, plan, chain, k, operand, at)
        state.value[WORDS] = state.inside_words[k + 1] + state.mac_words[k]
        state.value[WORDS] += plan.at_words[k, there]
        own = _with_option(plan, state, k, option, operand, there)
        state.value[ENERGY] = own
        if not _is_worth(state):
            if plan.by_words:
                if state.value[WORDS] > state.limits[WORDS]:
                    return -1
            elif option <= operands and own > state.limits[ENERGY]:
                return -1
            continue
        if k == stages - 1 or _is_cheapest(layer, plan, state, k, option, there, own):
            return int(there)


@compiled_inside
def _waiting_cell(layer: Layer, plan: Plan, chain: Chain, k: int, operand: int, number: int) -> int:
    """A class of tiles as long in an operand's dims as what is unrolled."""
    cell, rest = 0, number
    for dim in range(len(layer.size)):
        if layer.uses[operand] >> dim & 1:
            kind = plan.class_of[dim, min(chain.span[k, dim], layer.size[dim])]
        else:
            kind = rest % plan.counts[dim]
            rest //= plan.counts[dim]
        cell += plan.stride[dim] * kind
    return int(cell)


@compiled_inside
def _with_option(plan: Plan, state: State, k: int, option: int, operand: int, there: int) -> float:
    """The least energy with a class of tiles: all move, or an operand stays, or waits."""
    if option == 0:
        rest = state.moved_rest[k] if plan.by_words else state.sure[k]
        return float(state.known[k] + rest + plan.at[k, there])
    rest = state.known[k] + state.moving[k] - state.paid[k, operand]
    if option > state.paid.shape[1]:
        return float(rest + plan.wait_at[k - 1, operand, there])
    return float(rest + plan.stay_at[k - 1, state.kinds[k, operand], operand, there])


@compiled_inside
def _is_cheapest(
    layer: Layer, plan: Plan, state: State, k: int, option: int, there: int, own: float
) -> bool:
    """Whether no other option, looked at before or cheaper, is in charge of a class of tiles."""
    operands = len(layer.uses)
    if plan.by_words:
        return True
    for other in range(2 * operands + 1):
        operand = (other - 1) % operands
        if other == option or (other > 0 and state.paid[k, operand] <= 0):
            continue
        if 0 < other <= operands and state.kinds[k, operand] > 1:
            continue
        if other > operands and not _waits_there(layer, plan, state, k, operand, there):
            continue
        cost = _with_option(plan, state, k, other, operand, there)
        if cost < own or (cost == own and other < option):
            return False
    return True


@compiled_inside
def _waits_there(layer: Layer, plan: Plan, state: State, k: int, operand: int, there: int) -> bool:
    """Whether a class of tiles is as long in an operand's dims as what is unrolled."""
    for dim in range(len(layer.size)):
        kind = there // plan.stride[dim] % plan.counts[dim]
        if layer.uses[operand] >> dim & 1 and kind != state.unrolled[k, dim]:
            return False
    return True


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
def _extents(layer: Layer, plan: Plan, chain: Chain, state: State, k: int, there: int) -> bool:
    """The extents of a stage's loops with which its tile is of some classes."""
    for dim in range(len(layer.size)):
        size, span = layer.size[dim], chain.span[k, dim]
        kind = there // plan.stride[dim] % plan.counts[dim]
        low = max(1, -(-plan.smallest[dim, kind] // span))
        high = min(plan.largest[dim, kind] // span, -(-size // span))
        if plan.tiles[dim, kind] == 1:
            low = high = -(-size // span)
        if low > high:
            return False
        state.low[k, dim], state.high[k, dim], state.pick[k, dim] = low, high, low
    return True


@compiled_inside
def _may_go_on(layer: Layer, plan: Plan, chain: Chain, state: State, k: int, idle: bool) -> bool:
    """Whether a tile at boundary `k`, or none but what is unrolled there, may be worth it."""
    dims, operands, macs = len(layer.size), len(layer.uses), len(chain.moved)
    cell = 0
    for dim in range(dims):
        if idle:
            _set_extent(chain, k, dim, 1)
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
    waits, outside = 0, plan.at[k, cell]
    for operand in range(operands if k < macs - 1 else 0):
        if chain.keeps[k + 1, operand] and mover(layer, chain, k + 1, operand, k) < 0:
            waits += 1
            outside = plan.wait_at[k - 1, operand, cell]
    if waits > 1:
        outside = plan.at[k, cell]
    if idle and k < macs - 1:  # all is as it is outside, where one operand may stay
        outside = state.moving[k] + plan.at[k, cell]
        for operand in range(operands):
            rest = state.moving[k] - state.paid[k, operand]
            outside = min(outside, rest + plan.wait_at[k - 1, operand, cell])
    state.value[ENERGY] = state.known[k] + energy + outside
    state.value[CYCLES] = steps(layer, chain, k)
    state.value[WORDS] = state.inside_words[k] + state.mac_words[k] + plan.at_words[k, cell]
    return _is_worth(state)


@compiled
def rate_rows(layer: Layer, plan: Plan, chain: Chain, state: State, rates: Floats) -> None:
    """Put the least energy of all chains by the class of their innermost tile into `rates`.

    Where a fan-out lies just outside it; unrollings are tried by what they leave to MACs.
    """
    k, dims, inner = len(chain.moved) - 2, len(layer.size), len(chain.moved) - 1
    begin, end = plan.spread_start[k], plan.spread_start[k + 1]
    state.inside[inner] = 0.0
    for row in range(len(rates)):
        entry = plan.list_start[inner] + row
        if row % 64 == 0 and state.counts[3] != 0:
            return
        for dim in range(dims):
            chain.spread[inner, dim] = 1
            chain.span[inner, dim] = 1
        rates[row] = plan.at[inner, plan.cell[entry]] + layer.mac_pj
        more = _extents(layer, plan, chain, state, inner, int(plan.cell[entry]))
        sizes = 1.0
        for dim in range(dims):
            sizes *= state.high[inner, dim] - state.low[inner, dim] + 1
        if not more or sizes > MOST_SIZES:
            continue
        least = np.inf
        while more:
            if state.counts[3] != 0:
                return
            for dim in range(dims):
                _set_extent(chain, inner, dim, state.pick[inner, dim])
            _set_floor(layer, plan, chain, state, k)
            if _bare_words(layer, chain, state, k):
                for spread in range(begin, end):
                    if state.floor[k] + plan.mac_floor[spread] >= least:
                        break
                    _may_pay(layer, plan, chain, state, k, spread)
                    least = min(least, state.value[ENERGY])
            more = _next_pick(state, inner, dims)
        rates[row] = max(least, rates[row])


@compiled
def search(layer: Layer, plan: Plan, chain: Chain, state: State) -> None:
    """Try all chains whose tile in the innermost memory is one of `state.rows`."""
    for dim in range(len(layer.size)):
        chain.tile[len(chain.moved), dim] = 1
    _walk(layer, plan, chain, state)
