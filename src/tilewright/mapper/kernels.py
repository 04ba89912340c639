"""The compiled search: branch and bound over chains of tiles, unrollings and classes of orders.

Owns: the exact price of a chain, the bound of a part of one, and the depth-first search. Why the
classes suffice and the bounds are bounds is proved in `docs/optimal-mapper.md`.

Non-goals: preparing tables (`mapper/prepare.py`), time and progress (`mapper/optimal.py`).
"""

from typing import NamedTuple, cast

import numpy as np

from tilewright.mapper.compiled import compiled_in_place, compiled_inside
from tilewright.mapper.problem import Floats, Integers, Mask, Problem, Template

ENERGY, CYCLES, EDP, DRAM = range(4)
# Numba compiles a function that is given a literal once more for it, with all that it calls.
_ROOT, _NONE = cast(int, np.int64(0)), cast(int, np.int64(-1))
_AT_ONCE = 512
"""Pairs that are looked at together."""
TIE = 1e-12
"""Relative difference below which two sums of the same energies in another order are equal."""


class Pairs(NamedTuple):
    """Tiles and unrollings that may be part of a chain worth finding.

    Attributes:
        row, spread: (P,) of the tile and of the unrolling outside it, -1 for none.
        key: (P,) the least energy of the tile's edges and of what is inside, ascending.
        floors: (P, O + 1) the same if an operand stays, without its own edge, or if none does.
        code: (P,) `Problem.packed` of what all instances hold together.
        start: (K + 1,) where those of a stage begin; a stage without any tries all tiles. While a
            list is filled, the first one says whether to stop.
        chosen: (P,) of a stage's, room for those that divide the tile outside.
    """

    row: Integers
    spread: Integers
    key: Floats
    floors: Floats
    code: Integers
    start: Integers
    chosen: Integers


class Path(NamedTuple):
    """Where the search stands: one row per boundary or stage, and what has been found.

    Attributes:
        tile: (K + 1, D + 1) tiles, outermost first.
        spread: (K, D + 1) unrollings.
        span: (K, D + 1) tiles times unrolling: what all instances hold together.
        moved: (K,) bit mask of the dims with a temporal loop in a stage.
        stay: (K,) the operand that stays in the innermost loops; -1 for none.
        slide, glide: (K,) the dim whose loop is innermost; the one that moves the staying operand.
        blocked: (K,) bit mask of the dims that miss the staying operand and yet are not free, as
            the order that is given puts them outside a loop that indexes it.
        near: (K,) the dim whose loop is next outside the innermost that moves the slider, -1 for
            any; if it moves what stays, the innermost loop is the only free one.
        energy, words: (K + 1,) pJ and words of the outermost memory for all edges so far.
        reads, writes: (K + 1, L) bits on the ports of all instances.
        copies: (K + 1,) instances in use.
        ahead: (K + 1,) the least energy of MACs' words, known once the fan-out is; with what edges
            further inside take more for it.
        due: (K, K + 1) that part of a stage's unrolling, by the boundary that the edges lead into.
        loose: (K + 1,) 1 if the price may be below the real one, 2 if other orders may differ.
        row: (K + 1,) the tile's row; group: (K + 1,) class of cycles, -1 if not yet known.
        limits: (5,) most energy, cycles, words and EDP, and the search's threshold.
        best: (5,) objective, energy, cycles, words of the best chain; 1 if there is one.
        best_tile, best_spread, best_class: its tiles, unrollings and (K, 4) classes.
        buffer_tile, buffer_spread, buffer_class, buffer_value, buffer_loose: chains whose price is
            loose.
        allowed: (K,) energy that edges inside may take; stays: (K, O) that of what stays.
        carry: (K + 1, O) the fewest arrivals of operands at a boundary.
        trial, edge, waits: (O,) room to work in.
        is_worth: (K, O + 1) whether an operand may stay in a stage, at last none, for all that the
            tile inside and the unrolling say.
        is_open: (K, G) classes of cycles that may still hold a better chain.
        next_row, next_spread, next_class, class_count: (K,) how far the search has come.
        choosing: (K, 3) how many of a stage's pairs divide the tile outside, of so many that have
            been looked at; and that tile's row.
        classes: (K, 64, 4) of the orders of a stage: stay, slide, glide, near.
        counts: (6,) chains priced, loose chains, the flag that stops the search (1 from outside, 2
            and 3 by the limits that follow), nodes, and how many loose chains and nodes stop it.
    """

    tile: Integers
    spread: Integers
    span: Integers
    moved: Integers
    stay: Integers
    slide: Integers
    glide: Integers
    blocked: Integers
    near: Integers
    energy: Floats
    words: Floats
    reads: Floats
    writes: Floats
    copies: Floats
    ahead: Floats
    due: Floats
    loose: Integers
    row: Integers
    group: Integers
    limits: Floats
    best: Floats
    best_tile: Integers
    best_spread: Integers
    best_class: Integers
    buffer_tile: Integers
    buffer_spread: Integers
    buffer_class: Integers
    buffer_value: Floats
    buffer_loose: Integers
    allowed: Floats
    stays: Floats
    carry: Floats
    trial: Floats
    edge: Floats
    waits: Mask
    is_worth: Mask
    is_open: Mask
    next_row: Integers
    next_spread: Integers
    next_class: Integers
    class_count: Integers
    choosing: Integers
    classes: Integers
    counts: Integers


@compiled_inside
def copied(problem: Problem, spread: Integers, operand: int) -> float:
    """To how many instances an unrolling copies the words of an operand."""
    times = 1.0
    for dim in range(len(problem.sizes)):
        if not problem.uses[operand] >> dim & 1:
            times *= problem.val[dim, spread[dim]]
    return times


@compiled_inside
def rewinds(problem: Problem, path: Path, stage: int, rank: int, first: bool) -> bool:
    """Whether a loop further out may move a tile by what the sliding loop rewinds it.

    `first` says which of the rank's two dims slides.
    """
    own, other = problem.rank_a[rank], problem.rank_b[rank]
    step, step_other = problem.step_a[rank], problem.step_b[rank]
    if not first:
        own, other, step, step_other = other, own, step_other, step
    val = problem.val
    back = step * (val[own, path.tile[stage, own]] - val[own, path.span[stage, own]])
    total = back
    for k in range(stage, -1, -1):
        span_own, span_other = val[own, path.span[k, own]], val[other, path.span[k, other]]
        more = step * (val[own, path.tile[k, own]] - span_own) if k < stage else 0
        more_other = step_other * (val[other, path.tile[k, other]] - span_other)
        for rewound in (back, total, total + more, total + more_other):
            if more_other > 0 and step_other * span_other == rewound:
                return True
            if more > 0 and step * span_own == rewound:
                return True
        total += more + more_other
    return False


@compiled_inside
def _plain_rank(problem: Problem, path: Path, rank: int, c: int, stage: int, slide: int) -> float:
    """Words of a rank that enter tiles at boundary `c`, instances counted one by one."""
    a, b = problem.rank_a[rank], problem.rank_b[rank]
    at, bt = path.tile[c, a], path.tile[c, b]
    words = problem.visits[rank, at, bt]
    if slide == a:
        words -= problem.kept_a[rank, path.tile[stage, a], path.span[stage, a], at, bt]
    elif slide == b:
        words -= problem.kept_b[rank, path.tile[stage, b], path.span[stage, b], bt, at]
    return words


@compiled_inside
def _joint_rank(
    problem: Problem, path: Path, rank: int, c: int, stage: int, slide: int, j: int
) -> float:
    """The same, tiles at one place counted once, both dims being unrolled in stage `j`."""
    a, b = problem.rank_a[rank], problem.rank_b[rank]
    at, bt = path.tile[j + 1, a], path.tile[j + 1, b]
    au, bu = path.span[j, a], path.span[j, b]
    if c == len(path.stay) and c > j + 1:
        return problem.single[rank, au, at, bu, bt]
    words = problem.joint[rank, au, at, bu, bt]
    if slide == a:
        words -= problem.joint_a[rank, path.tile[stage, a], au, at, bu, bt]
    elif slide == b:
        words -= problem.joint_b[rank, path.tile[stage, b], bu, bt, au, at]
    return words


@compiled_inside
def _standing_words(problem: Problem, path: Path, c: int, stage: int, rank: int) -> float:
    """Words of a rank in tiles that a loop does not move, as loops inside rewind as much.

    Relative to how often loops that do not index the operand repeat the words of other tiles.
    Source: `docs/optimal-mapper.md`, Tiles that do not move.
    """
    operand, a, b = problem.rank_op[rank], problem.rank_a[rank], problem.rank_b[rank]
    uses, val = problem.uses[operand], problem.val
    own = 1 << a | 1 << b
    rewound, share, words = 0, 1.0, 0.0
    for k in range(stage, -1, -1):
        stays = path.stay[k] == operand
        idle = 1.0
        for dim in range(len(problem.sizes)):
            if not uses >> dim & 1:
                idle *= val[dim, path.tile[k, dim]] / val[dim, path.span[k, dim]]
        if stays and k < stage:
            share /= idle
        moved = path.moved[k] & uses
        if moved != 0:
            for turn in range(2):
                dim = path.near[k] if turn > 0 else path.glide[k] if stays else path.slide[k]
                if dim < 0:
                    break
                if not own >> dim & 1:
                    return words
                step = problem.step_a[rank] if dim == a else problem.step_b[rank]
                if rewound > 0 and step * val[dim, path.span[k, dim]] == rewound:
                    words += share * _words_at(problem, path, c, stage, rank, k, dim)
                rewound += step * (val[dim, path.tile[k, dim]] - val[dim, path.span[k, dim]])
            if moved & ~own:
                return words
        if not stays:
            share /= idle
    return words


@compiled_inside
def _words_at(
    problem: Problem, path: Path, c: int, stage: int, rank: int, k: int, mover: int
) -> float:
    """Words of a rank at all steps that the loop over `mover` in stage `k` takes."""
    a, b = problem.rank_a[rank], problem.rank_b[rank]
    other = b if mover == a else a
    at, bt = path.tile[c, a], path.tile[c, b]
    val = problem.val
    first, last = val[a, at], val[b, bt]
    along_a = val[a, path.tile[0, a]] // first
    along_b = val[b, path.tile[0, b]] // last
    begin = problem.placed_start[rank, at, bt]
    inner = path.near[k] == mover  # then the other loop of the stage is inside
    words = 0.0
    if begin < 0:
        words += problem.largest[rank, at, bt] * along_a * along_b
        for j in range(k, stage + 1):
            if j > k or inner:
                words *= val[other, path.span[j, other]] / val[other, path.tile[j, other]]
            whole, part = val[mover, path.tile[j, mover]], val[mover, path.span[j, mover]]
            words *= part / whole if j > k else (whole - part) / whole
        return words
    for i in range(along_a):
        for n in range(along_b):
            here = (i * first, n * last) if mover == a else (n * last, i * first)
            taken = True
            for j in range(k, stage + 1):
                past = here[0] % val[mover, path.tile[j, mover]] >= val[mover, path.span[j, mover]]
                if past != (j == k):
                    taken = False
                if (j > k or inner) and here[1] % val[other, path.tile[j, other]] >= val[
                    other, path.span[j, other]
                ]:
                    taken = False
            if taken:
                words += problem.placed[begin + i * along_b + n]
    return float(words)


@compiled_inside
def _skips(problem: Problem, path: Path, rank: int, j: int) -> tuple[int, int]:
    """How many instances of stage `j`'s fan-out apart along both dims two have the same tile."""
    a, b = problem.rank_a[rank], problem.rank_b[rank]
    along_a = problem.step_a[rank] * problem.val[a, path.tile[j + 1, a]]
    along_b = problem.step_b[rank] * problem.val[b, path.tile[j + 1, b]]
    common, rest = along_a, along_b
    while rest > 0:
        common, rest = rest, common % rest
    return along_b // common, along_a // common


@compiled_inside
def _different_places(problem: Problem, path: Path, rank: int, j: int) -> tuple[float, int]:
    """Where the instances of stage `j`'s fan-out have their tiles along a rank.

    Returns: the share of the instances that have different places, and the most at one place.
    Source: `docs/spec/model.md §3`, how many values a sum of two progressions has.
    """
    x = problem.val[problem.rank_a[rank], path.spread[j, problem.rank_a[rank]]]
    y = problem.val[problem.rank_b[rank], path.spread[j, problem.rank_b[rank]]]
    skip_a, skip_b = _skips(problem, path, rank, j)
    places = x * y - max(0, x - skip_a) * max(0, y - skip_b)
    most = 1 + min((x - 1) // skip_a, (y - 1) // skip_b)
    return float(places) / float(x * y), int(most)


@compiled_inside
def _is_listed(
    problem: Problem, path: Path, rank: int, c: int, stage: int, slide: int, j: int
) -> bool:
    """Whether `_joint_rank` knows the words: tiles are those that stage `j` unrolls."""
    a, b = problem.rank_a[rank], problem.rank_b[rank]
    if c == len(path.stay):
        return True
    if path.tile[c, a] != path.tile[j + 1, a] or path.tile[c, b] != path.tile[j + 1, b]:
        return False
    return slide not in (a, b) or (stage <= j and path.span[stage, slide] == path.span[j, slide])


@compiled_inside
def _words_at_places(problem: Problem, path: Path, rank: int, c: int, j: int) -> float:
    """Words of a padded rank in all tiles of boundary `c`, instances at one place counted once."""
    a, b = problem.rank_a[rank], problem.rank_b[rank]
    at, bt, val = path.tile[c, a], path.tile[c, b], problem.val
    first, last = val[a, at], val[b, bt]
    along_a, along_b = val[a, path.tile[0, a]] // first, val[b, path.tile[0, b]] // last
    part_a, part_b = val[a, path.tile[j + 1, a]], val[b, path.tile[j + 1, b]]
    whole_a, whole_b = val[a, path.span[j, a]], val[b, path.span[j, b]]
    skip_a, skip_b = _skips(problem, path, rank, j)
    begin, words = problem.placed_start[rank, at, bt], 0
    for i in range(along_a):
        x = i * first % whole_a // part_a
        for n in range(along_b):
            y = n * last % whole_b // part_b
            if x < skip_a or y + skip_b >= whole_b // part_b:  # no other one is further on
                words += problem.placed[begin + i * along_b + n]
    return float(words)


@compiled_inside
def rank_words(
    problem: Problem,
    template: Template,
    path: Path,
    rank: int,
    c: int,
    stage: int,
    slide: int,
    parent: int,
) -> float:
    """Words of a sliding rank that enter tiles at boundary `c`.

    Loops of `stage` move the tile, the one over `slide` innermost. Instances along multicasting
    fan-outs of stages from `parent` on count once where they have the same tile.
    """
    a, b = problem.rank_a[rank], problem.rank_b[rank]
    at, bt = path.tile[c, a], path.tile[c, b]
    if problem.spills[rank, at, bt]:
        path.loose[c] = 2
        return problem.floor[rank, at, bt]
    copies_a, copies_b, joint = 1, 1, _NONE
    for j in range(parent, c):
        fan = template.fan[j]
        if fan >= 0 and problem.multicast[fan]:
            here_a = problem.val[a, path.spread[j, a]]
            here_b = problem.val[b, path.spread[j, b]]
            copies_a *= here_a
            copies_b *= here_b
            if here_a > 1 and here_b > 1:
                joint = j
    words = _plain_rank(problem, path, rank, c, stage, slide)
    known, share = True, 1.0
    if copies_a > 1 and copies_b > 1:
        known = joint >= 0
        if known:
            known = (
                problem.val[a, path.spread[joint, a]] == copies_a
                and problem.val[b, path.spread[joint, b]] == copies_b
            )
        most = min(copies_a, copies_b)
        if known:
            share, most = _different_places(problem, path, rank, joint)
        unequal = known and most > 1 and problem.padded[rank]
        listed = unequal and _is_listed(problem, path, rank, c, stage, slide, joint)
        if listed:
            words, share = _joint_rank(problem, path, rank, c, stage, slide, joint), 1.0
            known = False  # where tiles stand still
        elif unequal and words == problem.visits[rank, at, bt]:  # nothing is kept
            words, share = _words_at_places(problem, path, rank, c, joint), 1.0
            known = False
        elif unequal or not known:
            known, share = False, 1.0 / float(most)
            path.loose[c] = max(path.loose[c], 1)
    if slide not in (a, b):
        return words * share
    if problem.slider == problem.rank_op[rank]:
        stood = _standing_words(problem, path, c, stage, rank)
        if stood > 0 and not known:
            path.loose[c] = max(path.loose[c], 1)
        return max(0.0, words - stood) * share
    if (slide == a and rewinds(problem, path, stage, rank, True)) or (
        slide == b and rewinds(problem, path, stage, rank, False)
    ):
        path.loose[c] = 2
        own, other = (a, b) if slide == a else (b, a)
        val = problem.val
        sweeps = (
            problem.sizes[own]
            / val[own, path.tile[stage, own]]
            * (val[own, path.span[stage, own]] / val[own, path.tile[c, own]])
        )
        if other < len(problem.sizes):
            sweeps *= problem.sizes[other] / val[other, path.tile[c, other]]
        words = max(0.0, words - sweeps * problem.largest[rank, at, bt])
    return words * share


@compiled_inside
def arrivals(
    problem: Problem, template: Template, path: Path, c: int, operand: int, parent: int
) -> tuple[float, float]:
    """Words of an operand that enter tiles at boundary `c`.

    Returns: counted at every instance, and counted once where instances have the same tile for
    another reason than that the operand is copied (see `rank_words`).
    """
    stage, slide, times = c - 1, -1, 1.0
    if c == len(path.stay):
        for dim in range(len(problem.sizes)):
            if not problem.uses[operand] >> dim & 1:
                times *= problem.sizes[dim]
    else:
        while stage >= 0 and path.moved[stage] & problem.uses[operand] == 0:
            times *= copied(problem, path.spread[stage], operand)
            stage -= 1
        if stage >= 0:
            stays = path.stay[stage] == operand
            slide = path.glide[stage] if stays else path.slide[stage]
            near = path.near[stage]
            alone = near >= 0 and problem.uses[operand] >> near & 1 and operand != problem.slider
            for dim in range(len(problem.sizes)):
                if problem.uses[operand] >> dim & 1:
                    continue
                times *= problem.sizes[dim]
                free = stays and not path.blocked[stage] >> dim & 1
                if free and (dim == path.slide[stage] or not alone):
                    times /= problem.val[dim, path.tile[stage, dim]]
                    times *= problem.val[dim, path.spread[stage, dim]]
                else:
                    times /= problem.val[dim, path.tile[stage + 1, dim]]
    words = problem.plain[operand] * times
    grouped = words
    for rank in range(len(problem.rank_op)):
        if problem.rank_op[rank] == operand:
            words *= rank_words(problem, template, path, rank, c, stage, slide, c)
            grouped *= rank_words(problem, template, path, rank, c, stage, slide, parent)
    return words, grouped


@compiled_inside
def add_edge(problem: Problem, template: Template, path: Path, c: int, operand: int) -> None:
    """Add energy, port bits and words of an operand's moves into boundary `c`."""
    stages = len(path.stay)
    parent = c - 1
    while not template.keeps[parent, operand]:
        parent -= 1
    words, grouped = arrivals(problem, template, path, c, operand, parent)
    is_output = operand == len(problem.uses) - 1
    outside, multicast, reduced, apart = 1.0, 1.0, 1.0, 1.0
    for j in range(c):
        if template.fan[j] >= 0:
            times = copied(problem, path.spread[j], operand)
            if j < parent:
                outside *= times
                continue
            if problem.multicast[template.fan[j]]:
                multicast *= times
            else:
                apart *= times
            if problem.reduction[template.fan[j]]:
                reduced *= times
    reads = grouped / multicast
    updates = 0.0
    up = template.level[parent]
    if is_output:
        reads -= problem.distinct[operand] * outside * apart
        updates = words / reduced
    finished = 0.0
    if is_output and outside * apart * multicast == 1.0 and c < stages:
        finished = problem.distinct[operand] * problem.finished
    bits = problem.bits[operand]
    energy = reads * problem.read[up, operand]
    if is_output:
        energy += (updates - finished * problem.rebate) * problem.update[up, operand]
    path.reads[c, up] += reads * bits
    path.writes[c, up] += (updates - finished) * bits
    if parent == 0:
        path.words[c] += reads + updates
    if c < stages:
        down = template.level[c]
        fills = words
        if is_output:
            fills -= problem.distinct[operand] * outside * apart * multicast
            energy += (words - finished * problem.rebate) * problem.read[down, operand]
            path.reads[c, down] += (words - finished) * bits
        energy += fills * problem.write[down, operand]
        path.writes[c, down] += fills * bits
    for j in range(parent, c):
        fan = template.fan[j]
        if fan >= 0 and problem.hop[fan] > 0:
            hops = _hop_words(problem, template, path, c, operand, j, words)
            energy += problem.hop[fan] * hops
    path.energy[c] += energy


@compiled_inside
def _hop_words(
    problem: Problem,
    template: Template,
    path: Path,
    c: int,
    operand: int,
    stage: int,
    words: float,
) -> float:
    """Words times receivers on the fan-out of a stage."""
    inner, inner_reduced, apart = 1.0, 1.0, 1.0
    for j in range(c):
        if template.fan[j] >= 0:
            times = copied(problem, path.spread[j], operand)
            joins = j > stage and problem.multicast[template.fan[j]]
            if joins:
                inner *= times
            else:
                apart *= times
            if j > stage and problem.reduction[template.fan[j]]:
                inner_reduced *= times
    if operand < len(problem.uses) - 1:
        _, grouped = arrivals(problem, template, path, c, operand, min(stage + 1, c))
        return grouped / inner
    return words / inner - problem.distinct[operand] * apart + words / inner_reduced


@compiled_inside
def edge_floor(
    problem: Problem, template: Template, c: int, operand: int, words: float, spread: int
) -> float:
    """The least energy of an edge into boundary `c` that moves so many words.

    `spread` is the unrolling of the stage outside, -1 without one.
    """
    share, copies, merged = 1.0, 1.0, 1.0
    if spread >= 0:
        fan = template.fan[c - 1]
        copies = template.phis[spread, operand]
        if problem.multicast[fan]:
            share = template.saved[spread, operand]
        if problem.reduction[fan]:
            merged = 1.0 / copies
    if operand < len(problem.uses) - 1:
        return words * (template.fill[c, operand] + template.load[c, operand] * share)
    down = template.level[c]
    fills = words - template.first_fill[c, operand] * copies
    loads = words * share - template.first_load[c, operand] * (copies * share)
    if template.first_fill[c, operand] <= problem.distinct[operand]:
        fills, loads = max(fills, 0.0), max(loads, 0.0)
    # else fan-outs further out are charged for the copies that they do not make (`missed`)
    return (
        words * problem.read[down, operand]
        + fills * problem.write[down, operand]
        + loads * template.load[c, operand]
        + words * merged * template.merge[c, operand]
        - (template.discount[c, operand] if copies == 1.0 else 0.0)
    )


@compiled_inside
def inner_floor(template: Template, stage: int, row: int, group: int, carry: Floats) -> float:
    """The least energy of all edges into boundaries inside the tile of a row.

    `carry` (O,) are the fewest arrivals of operands that no loop of the stage moves.
    """
    operands = template.staying.shape[1]
    least = template.inside[row, operands, group]
    for operand in range(operands):
        slope, arriving = template.stay_slope[stage, operand], template.still[row, operand]
        offset = template.stay_offset[stage, operand]
        stays = template.inside[row, operand, group] + slope * arriving + offset
        least = min(least, stays)
        if template.may_wait[row, operand]:
            waits = template.inside[row, operands + 1 + operand, group]
            least = min(least, waits + slope * min(arriving, carry[operand]) + offset)
    return least


@compiled_inside
def _rents(template: Template, path: Path, c: int) -> float:
    """What the blocks up to boundary `c` pay for their room, if others of the memory follow."""
    total, k = 0.0, c
    if c + 1 < len(path.stay) and template.level[c + 1] == template.level[c]:
        while k > 0 and template.level[k] == template.level[c]:
            total += template.rent[path.row[k]]
            k -= 1
    return float(total)


@compiled_in_place
def stage_floors(
    problem: Problem,
    template: Template,
    stage: int,
    inside: Floats,
    costs: Floats,
    stop: Integers,
) -> None:
    """Fill `moving` and `staying` of a stage, those of the stages inside being known.

    `inside` (G,) and `costs` (O,) are room to work in; `stop` (1,) is not 0 as soon as the answer
    is no longer asked for.
    """
    operands, c = len(problem.uses), stage + 1
    groups = len(template.group_cycles)
    low, high = template.spread_start[stage], template.spread_start[stage + 1]
    none = high == low
    for row in range(template.tile_start[c], template.tile_start[c + 1]):
        if not template.front[row]:
            continue
        if stop[0] != 0:
            return
        for group in range(groups):
            inside[group] = template.moving[c, group]
            for operand in range(operands):
                arriving = template.still[row, operand]
                if template.may_wait[row, operand]:
                    arriving = min(arriving, problem.distinct[operand])
                stays = template.stay_slope[c, operand] * arriving
                stays += template.staying[c, operand, group] + template.stay_offset[c, operand]
                inside[group] = min(inside[group], stays)
        for spread in range(low, max(high, low + 1)):
            if not none and not template.leading[spread]:
                continue
            total = template.rent[row] + (0.0 if none else template.mac_floor[spread])
            for operand in range(operands):
                costs[operand] = 0.0
                if template.keeps[c, operand]:
                    words = template.fills[row, operand]
                    which = -1 if none else spread
                    costs[operand] = edge_floor(problem, template, c, operand, words, which)
                    total += costs[operand]
            first, last = 0, groups
            if stage == template.primary:
                first = template.group[spread]
                last = first + 1
            for group in range(first, last):
                whole = total + inside[group]
                template.moving[stage, group] = min(template.moving[stage, group], whole)
                for operand in range(operands):
                    if template.keeps[c, operand]:
                        least = template.staying[stage, operand, group]
                        least = min(least, whole - costs[operand])
                        template.staying[stage, operand, group] = least


@compiled_in_place
def objective_of(objective: int, energy: float, cycles: float, words: float) -> float:
    """The value that is minimised."""
    if objective == ENERGY:
        return energy
    if objective == CYCLES:
        return cycles
    return energy * cycles if objective == EDP else words


@compiled_inside
def _admits(path: Path, objective: int, energy: float, cycles: float, words: float) -> float:
    """The objective's value, or infinity where a limit or the best one found is in the way."""
    limits = path.limits
    if energy > limits[0] or cycles > limits[1] or words > limits[2]:
        return np.inf
    if energy * cycles > limits[3]:
        return np.inf
    value = objective_of(objective, energy, cycles, words)
    if value > limits[4] or value >= path.best[0] * (1 - TIE):
        return np.inf
    return value


@compiled_inside
def _port_cycles(problem: Problem, template: Template, path: Path, c: int) -> float:
    """The least cycles that ports need for the edges into boundaries up to `c`, and for MACs."""
    cycles, instances = 0.0, 1.0
    for k in range(len(path.stay)):
        if k > c:
            break
        level = template.level[k]
        if k > 0:
            instances = path.copies[k]
        reads, writes = path.reads[c, level], path.writes[c, level]
        if c < len(path.stay):
            reads += template.mac_reads[level]
            writes += template.mac_writes[level]
        reads, writes = reads / instances, writes / instances
        cycles = max(cycles, reads / problem.read_width[level])
        cycles = max(cycles, writes / problem.write_width[level])
        cycles = max(cycles, (reads + writes) / problem.width[level])
    return np.ceil(cycles - 1e-6)


@compiled_inside
def node_floor(problem: Problem, template: Template, path: Path, c: int, objective: int) -> float:
    """The least objective of all chains that begin like the path, up to boundary `c`."""
    ports = _port_cycles(problem, template, path, c)
    words = path.words[c] + template.idle_words[c]
    known = path.group[c]
    first, last = (known, known + 1) if known >= 0 else (0, len(template.group_cycles))
    if template.primary < c:
        ports = max(ports, np.ceil(template.least_cycles[c] / path.copies[c] - 1e-6))
    least = np.inf
    for group in range(first, last):
        cycles = max(ports, template.group_cycles[group])
        energy = path.energy[c] + path.ahead[c] + problem.mac_pj + problem.leak * cycles
        energy += inner_floor(template, c, path.row[c], group, path.carry[c])
        energy += _rents(template, path, c)
        least = min(least, _admits(path, objective, energy, cycles, words))
    return least


@compiled_inside
def _enter(problem: Problem, path: Path, c: int) -> None:
    """Begin the sums of boundary `c` with those of the boundary outside."""
    path.energy[c] = path.energy[c - 1]
    path.words[c] = path.words[c - 1]
    path.loose[c] = path.loose[c - 1]
    for level in range(len(problem.width)):
        path.reads[c, level] = path.reads[c - 1, level]
        path.writes[c, level] = path.writes[c - 1, level]


@compiled_inside
def _overflows(problem: Problem, template: Template, path: Path) -> bool:
    """Whether tiles do not fit now that it is known where outputs are partial sums."""
    stages, output = len(path.stay), len(problem.uses) - 1
    need = 0.0
    for k in range(1, stages):
        level = template.level[k]
        if level != template.level[k - 1]:
            need = 0.0  # else another block of the same memory
        for operand in range(output + 1):
            if not template.keeps[k, operand]:
                continue
            words = _held_words(problem, path, k, operand)
            bits = problem.store_bits[operand]
            if operand == output and _accumulates(problem, template, path, k):
                bits = problem.bits[operand]
            if words * bits > problem.room[level, operand]:
                return True
            need += words * bits
        if need > problem.shared[level]:
            return True
    return False


@compiled_inside
def _unless_sliding(problem: Problem, path: Path, k: int, operand: int, dim: int) -> float:
    """The tile's size along a dim, or 1 if the dim is one of a sliding rank of the operand."""
    for rank in range(len(problem.rank_op)):
        if problem.rank_op[rank] == operand and (
            problem.rank_a[rank] == dim or problem.rank_b[rank] == dim
        ):
            return 1.0
    return float(problem.val[dim, path.tile[k, dim]])


@compiled_inside
def _accumulates(problem: Problem, template: Template, path: Path, k: int) -> bool:
    """Whether words of the output are updated more than once at boundary `k`."""
    output, stages = len(problem.uses) - 1, len(path.stay)
    c = k + 1
    while c < stages and not template.keeps[c, output]:
        c += 1
    updates, _ = arrivals(problem, template, path, c, output, c)
    for j in range(k, c):
        if template.fan[j] >= 0 and problem.reduction[template.fan[j]]:
            updates /= copied(problem, path.spread[j], output)
    return updates > problem.distinct[output]


@compiled_inside
def _set_spread(problem: Problem, template: Template, path: Path, stage: int, spread: int) -> bool:
    """Unroll a stage, both its tiles being known; whether that divides."""
    dims = len(problem.sizes)
    path.moved[stage] = 0
    copies = 1.0
    for dim in range(dims):
        extent = 0 if spread < 0 else template.spreads[spread, dim]
        outer = path.tile[stage, dim]
        quotient = problem.quo[dim, outer, path.tile[stage + 1, dim]]
        if quotient < 0:
            return False
        loop = problem.quo[dim, quotient, extent]
        if loop > 0 and template.bare[stage] >> dim & 1:
            return False  # the next stage has that loop
        if loop < 0 or (template.fixed[stage, dim] >= 0 and loop != template.fixed[stage, dim]):
            return False
        path.spread[stage, dim] = extent
        path.span[stage, dim] = problem.quo[dim, outer, loop]
        if loop > 0:
            path.moved[stage] |= 1 << dim
        copies *= problem.val[dim, extent]
    path.copies[stage + 1] = path.copies[stage] * copies
    return _is_worth_blocks(problem, template, path, stage)


@compiled_inside
def _is_worth_blocks(problem: Problem, template: Template, path: Path, stage: int) -> bool:
    """Whether the loops of a stage stand well among the blocks of an uneven memory.

    A dim has one loop among them, and a block stands just inside a loop that indexes its operand.
    """
    if _is_loose_block(problem, template, path, stage):
        return False
    k = stage
    while k > 0 and template.level[k] == template.level[k - 1]:
        k -= 1
        if path.moved[stage] & path.moved[k]:
            return False
    c = stage + 1
    if c == len(path.stay) or template.level[c] != template.level[stage]:
        return True
    for operand in range(len(problem.uses)):
        if template.keeps[c, operand] and path.moved[stage] != 0:
            return bool(path.moved[stage] & problem.uses[operand] != 0)
    return True


@compiled_inside
def _is_loose_block(problem: Problem, template: Template, path: Path, stage: int) -> bool:
    """Whether the block that heads a stage may as well stand further inside.

    All loops of the stage index its operand; or, inside all blocks, where no order counts, some do.
    Source: `docs/optimal-mapper.md`, Uneven mappings.
    """
    if stage == 0 or template.level[stage] != template.level[stage - 1]:
        return False
    kept = _lone_kept(problem, template, stage)
    if kept < 0 or path.moved[stage] & problem.uses[kept] == 0:
        return False
    return bool(path.moved[stage] & ~problem.uses[kept] == 0 or stage + 1 == len(path.stay))


@compiled_inside
def _lone_kept(problem: Problem, template: Template, k: int) -> int:
    """The operand that a boundary keeps, if no tile of it slides; else -1."""
    found = -1
    for operand in range(len(problem.uses)):
        if template.keeps[k, operand]:
            found = operand
    for rank in range(len(problem.rank_op)):
        if problem.rank_op[rank] == found:
            found = -1
    return found


@compiled_inside
def _is_movable(problem: Problem, template: Template, path: Path, stage: int) -> bool:
    """Whether a loop of the stage that a block heads may as well stand outside the block.

    Source: `docs/optimal-mapper.md`, Uneven mappings.
    """
    if stage == 0 or template.level[stage] != template.level[stage - 1]:
        return False
    kept = _lone_kept(problem, template, stage)
    if kept < 0 or problem.slider == -2 or problem.spilling:
        return False
    stay, near, fixed = path.stay[stage], path.near[stage], 0
    for dim in range(len(problem.sizes)):
        if dim in (path.slide[stage], near):
            fixed |= 1 << dim
    if stay >= 0:
        alone = near >= 0 and problem.uses[stay] >> near & 1 and stay != problem.slider
        if not alone:
            fixed |= path.moved[stage] & ~problem.uses[stay]
        if stay != kept and path.glide[stage] >= 0:
            fixed |= 1 << path.glide[stage]
    return bool(path.moved[stage] & problem.uses[kept] & ~fixed != 0)


@compiled_inside
def _is_crowded(problem: Problem, template: Template, path: Path, c: int) -> bool:
    """Whether the blocks of an uneven memory up to boundary `c` leave no room for those inside."""
    level, first = template.level[c], c
    while template.level[first - 1] == level:
        first -= 1
    last = c
    while last + 1 < len(path.stay) and template.level[last + 1] == level:
        last += 1
    if first == last:
        return False
    need = 0.0
    for operand in range(len(problem.uses)):
        for k in range(first, last + 1):
            if template.keeps[k, operand]:
                words = 0.0
                if k <= c:
                    words = _held_words(problem, path, k, operand)
                need += words * problem.store_bits[operand]
    return bool(need > problem.shared[level])


@compiled_inside
def _held_words(problem: Problem, path: Path, k: int, operand: int) -> float:
    """The words of the largest tile of an operand at boundary `k`."""
    words = 1.0
    for dim in range(len(problem.sizes)):
        if problem.uses[operand] >> dim & 1:
            words *= _unless_sliding(problem, path, k, operand, dim)
    for rank in range(len(problem.rank_op)):
        if problem.rank_op[rank] == operand:
            a, b = problem.rank_a[rank], problem.rank_b[rank]
            words *= problem.largest[rank, path.tile[k, a], path.tile[k, b]]
    return words


@compiled_inside
def _copy_rows(source: Integers, target: Integers) -> None:
    for row in range(source.shape[0]):
        for column in range(source.shape[1]):
            target[row, column] = source[row, column]


@compiled_inside
def _save_classes(path: Path, target: Integers) -> None:
    for k in range(len(path.stay)):
        target[k, 0] = path.stay[k]
        target[k, 1] = path.slide[k]
        target[k, 2] = path.glide[k]
        target[k, 3] = path.near[k]


@compiled_inside
def _finish(problem: Problem, template: Template, path: Path, objective: int) -> None:
    """Price whole chains: the last stage's unrollings, and the MACs' words."""
    stages = len(path.stay)
    low, high = template.spread_start[stages - 1], template.spread_start[stages]
    for spread in range(low if high > low else -1, high if high > low else 0):
        if not _set_spread(problem, template, path, stages - 1, spread):
            continue
        path.stay[stages - 1] = path.slide[stages - 1] = path.glide[stages - 1] = -1
        path.near[stages - 1] = -1
        _enter(problem, path, stages)
        for operand in range(len(problem.uses)):
            add_edge(problem, template, path, stages, operand)
        cycles = max(
            problem.macs / path.copies[stages], _port_cycles(problem, template, path, stages)
        )
        energy = path.energy[stages] + problem.mac_pj + problem.leak * cycles
        words = path.words[stages]
        path.counts[0] += 1
        value = _admits(path, objective, energy, cycles, words)
        if value == np.inf or _overflows(problem, template, path):
            continue
        if path.loose[stages] or _may_be_uneven(problem, template, path, objective, cycles):
            _remember_loose(path, value)
            continue
        path.best[0], path.best[1], path.best[2], path.best[3] = value, energy, cycles, words
        path.best[4] = 1
        _copy_rows(path.tile, path.best_tile)
        _copy_rows(path.spread, path.best_spread)
        _save_classes(path, path.best_class)


@compiled_inside
def _may_be_uneven(
    problem: Problem, template: Template, path: Path, objective: int, cycles: float
) -> bool:
    """Whether padding may keep one instance's ports busy for longer than is counted, if it matters.

    Cycles are counted for instances that share all words equally. Where dims of a padded rank are
    unrolled some have more of the data than others, at most what all these instances have.
    """
    counted = objective in (CYCLES, EDP) or problem.leak > 0
    if not counted and path.limits[1] == np.inf and path.limits[3] == np.inf:
        return False
    copies, stages = 1.0, len(path.stay)
    for k in range(1, stages):
        for rank in range(len(problem.rank_op)):
            if problem.padded[rank]:
                a, b = problem.rank_a[rank], problem.rank_b[rank]
                copies *= problem.val[a, path.spread[k - 1, a]]
                copies *= problem.val[b, path.spread[k - 1, b]]
        if copies > 1.0:
            level, share = template.level[k], copies / path.copies[k]
            reads, writes = path.reads[stages, level] * share, path.writes[stages, level] * share
            busy = max(reads / problem.read_width[level], writes / problem.write_width[level])
            if max(busy, (reads + writes) / problem.width[level]) > cycles:
                return True
    return False


@compiled_inside
def _remember_loose(path: Path, value: float) -> None:
    """Put a chain aside whose price is a bound only.

    If all its orders are to be looked at, the same tiles are kept once, with the least.
    """
    count = path.counts[1]
    if count > 0 and path.loose[len(path.stay)] == 2:
        last = count - 1
        same = path.buffer_loose[last] == 2
        for k in range(len(path.stay)):
            for dim in range(path.tile.shape[1]):
                if (
                    path.buffer_tile[last, k, dim] != path.tile[k, dim]
                    or path.buffer_spread[last, k, dim] != path.spread[k, dim]
                ):
                    same = False
        if same:
            path.buffer_value[last] = min(value, path.buffer_value[last])
            return
    path.buffer_value[count] = value
    path.buffer_loose[count] = path.loose[len(path.stay)]
    _copy_rows(path.tile, path.buffer_tile[count])
    _copy_rows(path.spread, path.buffer_spread[count])
    _save_classes(path, path.buffer_class[count])
    path.counts[1] += 1
    if path.counts[1] >= path.counts[4]:
        path.counts[2] = 2


@compiled_inside
def _classes(problem: Problem, template: Template, path: Path, stage: int, found: Integers) -> int:
    """All classes of orders of a stage's loops: (stay, slide, glide, near) rows.

    The relative order of the dims in `template.order` is given, outermost first.

    Source: `docs/optimal-mapper.md`, Classes of orders.
    """
    count, moved, slider, order = 0, path.moved[stage], problem.slider, template.order[stage]
    given = last = 0
    for place in range(len(order)):
        if order[place] >= 0 and moved >> order[place] & 1:
            last = 1 << order[place]
            given |= last
    innermost = moved & ~given | last
    for operand in range(len(problem.uses)):
        free = innermost & ~problem.uses[operand]
        if free == 0:
            continue
        inner = free & problem.slides
        inner = inner if inner else free & -free
        rest = moved & problem.uses[operand] & ~given
        for place in range(len(order) - 1, -1, -1):
            if order[place] >= 0 and moved & problem.uses[operand] >> order[place] & 1:
                rest |= 1 << order[place]
                break
        own = 0
        for rank in range(len(problem.rank_op)):
            if problem.rank_op[rank] == operand:
                own |= 1 << problem.rank_a[rank] | 1 << problem.rank_b[rank]
        outer = rest & own
        outer = outer if outer else rest & -rest
        for slide in range(len(problem.sizes)):
            if not inner >> slide & 1:
                continue
            near = -1 if operand == slider else _beside(problem, moved, slide)
            if near >= 0 and rest >> near & 1:
                if free != 1 << slide:
                    if _may_stand(problem, template, path, stage, slide, near):
                        count = _add_class(found, count, operand, slide, near, near)
                    near = -1
                else:
                    count = _add_class(found, count, operand, slide, near, near)
                    continue
            for glide in range(len(problem.sizes)):
                if outer >> glide & 1:
                    beside = _beside(problem, moved, glide) if operand == slider else near
                    count = _add_class(found, count, operand, slide, glide, beside)
            if outer == 0:
                count = _add_class(found, count, operand, slide, _NONE, near)
    common = innermost
    for operand in range(len(problem.uses)):
        common &= problem.uses[operand]
    common &= problem.slides if common & problem.slides else common & -common
    if common & problem.slides == 0 and count > 0:
        return count
    for slide in range(len(problem.sizes)):
        if common >> slide & 1:
            near = _beside(problem, moved, slide)
            count = _add_class(found, count, _NONE, slide, _NONE, near)
    if count == 0:
        count = _add_class(found, count, _NONE, _NONE, _NONE, _NONE)
    return count


@compiled_inside
def _blocked(problem: Problem, template: Template, path: Path, stage: int) -> int:
    """Dims that miss the staying operand but stand outside one that indexes it, as is given."""
    found = waiting = 0
    for place in range(template.order.shape[1]):
        dim = template.order[stage, place]
        if path.stay[stage] < 0 or dim < 0:
            break
        if not path.moved[stage] >> dim & 1:
            continue
        if problem.uses[path.stay[stage]] >> dim & 1:
            found |= waiting
            waiting = 0
        else:
            waiting |= 1 << dim
    return found


@compiled_inside
def _add_class(found: Integers, count: int, stay: int, slide: int, glide: int, near: int) -> int:
    found[count, 0], found[count, 1], found[count, 2], found[count, 3] = stay, slide, glide, near
    return count + 1


@compiled_inside
def _beside(problem: Problem, moved: int, dim: int) -> int:
    """The dim that a rank of the slider sums with `dim`, if it has a loop, too; else -1."""
    for rank in range(len(problem.rank_op)):
        if problem.rank_op[rank] == problem.slider:
            a, b = problem.rank_a[rank], problem.rank_b[rank]
            if dim == a and moved >> b & 1:
                return b
            if dim == b and moved >> a & 1:
                return a
    return -1


@compiled_inside
def _may_stand(
    problem: Problem, template: Template, path: Path, stage: int, slide: int, near: int
) -> bool:
    """Whether the loop over `near`, next outside that over `slide`, may leave a tile in place."""
    for rank in range(len(problem.rank_op)):
        a, b = problem.rank_a[rank], problem.rank_b[rank]
        if problem.rank_op[rank] != problem.slider or slide not in (a, b) or near not in (a, b):
            continue
        own, other = problem.step_a[rank], problem.step_b[rank]
        if slide == b:
            own, other = other, own
        span = problem.val[slide, path.span[stage, slide]]
        reach = problem.val[near, path.span[stage, near]]
        lacks = other * reach - own * (problem.val[slide, path.tile[stage, slide]] - span)
        if lacks == 0:
            return True
        if 0 < lacks <= own * (span - 1) + other * (reach - 1):
            for c in range(stage + 2, len(path.stay)):
                if template.keeps[c, problem.slider]:
                    return True
    return False


@compiled_inside
def _learn_row(problem: Problem, template: Template, stage: int, row: int) -> None:
    """Note the least energy of the edges into a tile, by class of cycles and by what stays."""
    operands, c = len(problem.uses), stage + 1
    low, high = template.spread_start[stage], template.spread_start[c]
    groups = len(template.group_cycles) if stage == template.primary else 1
    for stay in range(operands + 1):
        for group in range(groups):
            template.row_best[row, stay, group] = np.inf
    for spread in range(low if high > low else -1, high if high > low else 0):
        group, macs = 0, 0.0
        if spread >= 0:
            if not template.leading[spread]:
                continue
            macs = template.mac_floor[spread]
            group = template.group[spread] if groups > 1 else 0
        total = template.rent[row]
        for operand in range(operands):
            if template.keeps[c, operand]:
                words = template.fills[row, operand]
                total += edge_floor(problem, template, c, operand, words, spread)
        for stay in range(operands + 1):
            rest = total
            if stay < operands:
                if not template.keeps[c, stay]:
                    continue
                words = template.fills[row, stay]
                rest -= edge_floor(problem, template, c, stay, words, spread)
            best = template.row_best[row, stay, group]
            template.row_best[row, stay, group] = min(best, rest + macs)
    template.row_known[row] = True


@compiled_inside
def _row_floor(
    problem: Problem, template: Template, path: Path, stage: int, row: int, objective: int
) -> float:
    """A bound of all chains that go on with the tile of a row, whatever is unrolled before it.

    Notes in the path which classes of cycles may still hold a better one.
    """
    operands, c = len(problem.uses), stage + 1
    if not template.row_known[row]:
        _learn_row(problem, template, stage, row)
    ports = _port_cycles(problem, template, path, stage)
    words = path.words[stage] + template.idle_words[stage]
    known = path.group[stage]
    first, last = (known, known + 1) if known >= 0 else (0, len(template.group_cycles))
    base = path.energy[stage] + path.ahead[stage] + problem.mac_pj
    base += _rents(template, path, stage)
    least = np.inf
    for group in range(first, last):
        path.is_open[stage, group] = False
    fan = template.fan[stage]
    copies = 1.0 if fan < 0 else template.fan_copies[stage]
    for operand in range(operands):
        steps = 1.0
        for dim in range(len(problem.sizes)):
            if problem.uses[operand] >> dim & 1:
                steps *= problem.val[dim, path.tile[stage, dim]]
                steps /= problem.val[dim, template.tiles[row, dim]]
        path.waits[operand] = steps <= copies
    for stay in range(operands + 1):
        cost = 0.0
        if stay < operands and template.keeps[c, stay]:
            may_wait = path.waits[stay] and template.may_wait[path.row[stage], stay]
            arriving = _least_arriving(template, path, stage, stay, may_wait)
            if arriving == np.inf:
                continue
            cost = template.stay_slope[stage, stay] * arriving
            cost += template.stay_offset[stage, stay]
        for operand in range(operands):
            path.trial[operand] = template.still[row, operand]
            if path.waits[operand]:
                path.trial[operand] = min(path.trial[operand], path.carry[stage, operand])
            if operand == stay:
                path.trial[operand] = min(
                    path.trial[operand], template.still[path.row[stage], operand]
                )
        best = stay if stay < operands and template.keeps[c, stay] else operands
        for group in range(first, last):
            mine = group if stage == template.primary else 0
            edges = template.row_best[row, best, mine] + cost
            cycles = max(ports, template.group_cycles[group])
            energy = base + edges + problem.leak * cycles
            energy += inner_floor(template, c, row, group, path.trial)
            value = _admits(path, objective, energy, cycles, words)
            if value < np.inf:
                path.is_open[stage, group] = True
            least = min(least, value)
    return least


@compiled_inside
def _spread_floor(
    problem: Problem,
    template: Template,
    path: Path,
    stage: int,
    row: int,
    spread: int,
    objective: int,
) -> float:
    """A bound of all chains that go on with a tile and an unrolling, both being set."""
    operands, c = len(problem.uses), stage + 1
    total = template.rent[row] + _rents(template, path, stage)
    for operand in range(operands):
        path.edge[operand] = 0.0
        if template.keeps[c, operand]:
            words = _entering(problem, path, stage, operand, _NONE)
            words = max(words, template.fills[row, operand])
            path.edge[operand] = edge_floor(problem, template, c, operand, words, spread)
            total += path.edge[operand]
    group = int(path.group[stage])
    if stage == template.primary:
        group = int(template.group[spread])
    path.is_worth[stage, :] = group < 0
    if group < 0:
        return 0.0
    base = path.energy[stage] + path.ahead[stage] + problem.mac_pj
    ports = _port_cycles(problem, template, path, stage)
    cycles = max(ports, template.group_cycles[group])
    if spread >= 0:
        base += template.mac_floor[spread]
        cycles = max(cycles, template.cycles[spread])
    idle = path.words[stage] + template.idle_words[stage]
    least = np.inf
    for stay in range(operands + 1):
        edges = total
        if stay < operands and template.keeps[c, stay]:
            may_wait = path.moved[stage] & problem.uses[stay] == 0
            arriving = _least_arriving(template, path, stage, stay, may_wait)
            if arriving == np.inf:
                continue
            stays = template.stay_slope[stage, stay] * arriving
            stays += template.stay_offset[stage, stay]
            words = _entering(problem, path, stage, stay, stay)
            if words > 0:
                stays = max(stays, edge_floor(problem, template, c, stay, words, spread))
            edges += stays - path.edge[stay]
        _carry_on(problem, template, path, stage, row, stay, path.trial)
        energy = base + edges + problem.leak * cycles
        energy += inner_floor(template, c, row, group, path.trial)
        value = _admits(path, objective, energy, cycles, idle)
        path.is_worth[stage, stay] = value < np.inf
        least = min(least, value)
    if path.moved[stage] == 0:
        path.is_worth[stage, :] = True  # what waits is not said by the class of orders
    return least


@compiled_inside
def _least_arriving(
    template: Template, path: Path, stage: int, operand: int, may_wait: bool
) -> float:
    """The fewest arrivals of an operand that the innermost loop of a stage does not move.

    Returns: infinity if every loop that the stage may have moves it, and it does not wait.
    """
    arriving = np.inf
    if template.may_stay[stage, operand]:
        arriving = template.still[path.row[stage], operand]
    if may_wait:
        arriving = min(arriving, path.carry[stage, operand])
    return float(arriving)


@compiled_inside
def _entering(problem: Problem, path: Path, stage: int, operand: int, stay: int) -> float:
    """The fewest words that enter a tile inside a stage, its loops and what stays being set.

    Returns: 0 if no loop indexes the operand, or if tables do not say.

    Source: `docs/optimal-mapper.md`, Lemma 10.
    """
    c, moved, least = stage + 1, path.moved[stage], 1.0
    if moved & problem.uses[operand] == 0:
        return 0.0
    words = problem.plain[operand]
    for dim in range(len(problem.sizes)):
        if problem.uses[operand] >> dim & 1:
            continue
        words *= problem.sizes[dim]
        if stay == operand:  # its loops are free
            words /= problem.val[dim, path.tile[stage, dim]]
            words *= problem.val[dim, path.spread[stage, dim]]
        else:
            words /= problem.val[dim, path.tile[c, dim]]
    for rank in range(len(problem.rank_op)):
        if problem.rank_op[rank] != operand:
            continue
        a, b = problem.rank_a[rank], problem.rank_b[rank]
        at, bt = path.tile[c, a], path.tile[c, b]
        both = path.spread[stage, a] > 0 and path.spread[stage, b] > 0
        if problem.spills[rank, at, bt] or (both and problem.padded[rank]):
            return 0.0
        visits = problem.visits[rank, at, bt]
        words *= visits
        for dim in (a, b):
            if moved >> dim & 1:
                left = _plain_rank(problem, path, rank, c, stage, dim)
                if rewinds(problem, path, stage, rank, dim == a):
                    left = min(left, problem.floor[rank, at, bt])
                least = min(least, left / visits)
    return float(words * least)


@compiled_inside
def _carry_on(
    problem: Problem,
    template: Template,
    path: Path,
    stage: int,
    row: int,
    stay: int,
    carry: Floats,
) -> None:
    """The fewest arrivals of operands at the boundary inside a stage, its loops being set."""
    for operand in range(len(problem.uses)):
        times = copied(problem, path.spread[stage], operand)
        if path.moved[stage] & problem.uses[operand] == 0:
            carry[operand] = path.carry[stage, operand] * times
        elif operand == stay:
            carry[operand] = template.still[path.row[stage], operand] * times
        else:
            carry[operand] = template.still[row, operand]


@compiled_inside
def _allowance(
    problem: Problem, template: Template, path: Path, stage: int, objective: int
) -> float:
    """How much energy the edges into the next boundary may take at most, for a node.

    From above: what `_row_floor` adds beside them is taken at its least.
    """
    known = path.group[stage]
    cycles = template.group_cycles[known if known >= 0 else 0]
    cycles = max(cycles, _port_cycles(problem, template, path, stage))
    energy = path.limits[0]
    if cycles > 0:
        energy = min(energy, path.limits[3] / cycles)
    best = min(path.limits[4], path.best[0])
    if objective == ENERGY:
        energy = min(energy, best)
    elif objective == EDP and cycles > 0:
        energy = min(energy, best / cycles)
    energy -= path.energy[stage] + path.ahead[stage] + problem.mac_pj + problem.leak * cycles
    energy -= _rents(template, path, stage)
    return energy - template.least_macs[stage] - template.least_inside[stage + 1]


@compiled_inside
def _is_dear(template: Template, path: Path, stage: int, row: int) -> bool:
    """Whether the edges into a tile take more energy than a node allows."""
    gain = 0.0
    for operand in range(template.quick.shape[1]):
        gain = max(gain, template.quick[row, operand] - path.stays[stage, operand])
    return template.quick_total[row] - gain > path.allowed[stage]


@compiled_inside
def _prepare_node(
    problem: Problem, template: Template, path: Path, stage: int, objective: int
) -> None:
    """Note what is the same for all tiles inside a stage's boundary."""
    path.allowed[stage] = _allowance(problem, template, path, stage, objective)
    for operand in range(len(problem.uses)):
        path.stays[stage, operand] = np.inf
        if template.keeps[stage + 1, operand]:
            may_wait = template.may_wait[path.row[stage], operand]
            arriving = _least_arriving(template, path, stage, operand, may_wait)
            if arriving == np.inf:
                continue
            path.stays[stage, operand] = (
                template.stay_slope[stage, operand] * arriving
                + template.stay_offset[stage, operand]
            )


@compiled_inside
def _open_tile(
    problem: Problem, template: Template, path: Path, stage: int, row: int, objective: int
) -> bool:
    """Stand at the tile of a row at the boundary inside a stage, if that may lead anywhere."""
    if _is_dear(template, path, stage, row):
        return False
    for dim in range(len(problem.sizes)):
        inner = template.tiles[row, dim]
        if problem.quo[dim, path.tile[stage, dim], inner] < 0:
            return False
    if _row_floor(problem, template, path, stage, row, objective) == np.inf:
        return False
    for dim in range(len(problem.sizes)):
        path.tile[stage + 1, dim] = template.tiles[row, dim]
    if _is_crowded(problem, template, path, stage + 1):
        return False
    path.row[stage + 1] = row
    path.next_spread[stage] = template.spread_start[stage]
    path.class_count[stage] = 0
    path.next_class[stage] = 0
    return True


@compiled_inside
def _next_spread(
    problem: Problem, template: Template, path: Path, stage: int, objective: int
) -> bool:
    """Take the next unrolling that may lead anywhere, and list its classes of orders."""
    c = stage + 1
    low, high = template.spread_start[stage], template.spread_start[c]
    alone = low == high
    while path.next_spread[stage] < (high + 1 if alone else high):
        spread = -1 if alone else path.next_spread[stage]
        path.next_spread[stage] += 1
        classed = not alone and stage == template.primary
        if classed and not path.is_open[stage, template.group[spread]]:
            continue
        if not _set_spread(problem, template, path, stage, spread):
            continue
        path.is_worth[stage, :] = True
        if not alone:
            row = path.row[c]
            floor = _spread_floor(problem, template, path, stage, row, spread, objective)
            if floor == np.inf:
                continue
        _list_classes(problem, template, path, stage, spread)
        return True
    return False


@compiled_inside
def _next_pair(
    problem: Problem, template: Template, path: Path, pairs: Pairs, stage: int, objective: int
) -> bool:
    """Take the next tile and unrolling of a stage's list that may lead anywhere."""
    c, operands = stage + 1, len(problem.uses)
    budget = path.allowed[stage] + template.least_macs[stage] + template.least_inside[c]
    first = int(pairs.start[stage])
    while path.counts[2] == 0:
        if path.next_row[stage] == path.choosing[stage, 0] and not _choose_more(
            problem, template, path, pairs, stage, budget
        ):
            return False
        at = int(pairs.chosen[first + path.next_row[stage]])
        if pairs.key[at] > budget:
            return False
        path.next_row[stage] += 1
        least = pairs.floors[at, operands]
        for stay in range(operands):
            least = min(least, pairs.floors[at, stay] + path.stays[stage, stay])
        if least > budget:
            continue
        row, spread = pairs.row[at], pairs.spread[at]
        for dim in range(len(problem.sizes)):
            path.tile[c, dim] = template.tiles[row, dim]
        if not _set_spread(problem, template, path, stage, spread):
            continue
        if _is_crowded(problem, template, path, c):
            continue
        path.row[c] = row
        if _spread_floor(problem, template, path, stage, row, spread, objective) == np.inf:
            continue
        _list_classes(problem, template, path, stage, spread)
        return True
    return False


@compiled_inside
def _choose_more(
    problem: Problem, template: Template, path: Path, pairs: Pairs, stage: int, budget: float
) -> bool:
    """Look for more pairs of a stage that divide the tile outside; whether there are any.

    They are the same for all orders of the loops outside.
    """
    guards = outer = problem.guards
    same = 0
    for dim in range(len(problem.sizes)):
        outer += problem.packed[dim, path.tile[stage, dim]]
        if template.bare[stage] >> dim & 1:
            same |= problem.fields[dim]
    count, at = int(path.choosing[stage, 0]), int(path.choosing[stage, 1])
    first, end, known = int(pairs.start[stage]), int(pairs.start[stage + 1]), count
    while at < end and count == known and pairs.key[at] <= budget:
        for which in range(at, min(at + _AT_ONCE, end)):
            left = outer - pairs.code[which]
            pairs.chosen[first + count] = which
            count += (left & guards == guards) & (left & same == 0)
        at = min(at + _AT_ONCE, end)
    path.choosing[stage, 0], path.choosing[stage, 1] = count, at
    return count > known


@compiled_inside
def _list_classes(
    problem: Problem, template: Template, path: Path, stage: int, spread: int
) -> None:
    """Note what an unrolling decides, and list the classes of orders that are left."""
    c = stage + 1
    path.group[c] = path.group[stage]
    path.ahead[c] = path.ahead[stage]
    for outside in range(stage):
        path.ahead[c] -= path.due[outside, c]
    for inside in range(path.due.shape[1]):
        path.due[stage, inside] = template.missed[spread, inside] if spread >= 0 else 0.0
    if spread >= 0:
        path.ahead[c] += template.mac_floor[spread]
        if stage == template.primary:
            path.group[c] = template.group[spread]
    path.class_count[stage] = _classes(problem, template, path, stage, path.classes[stage])
    path.next_class[stage] = 0


@compiled_inside
def _next_class(
    problem: Problem, template: Template, path: Path, stage: int, objective: int
) -> bool:
    """Take the next class of orders of a stage that may lead anywhere."""
    c = stage + 1
    while path.next_class[stage] < path.class_count[stage] and path.counts[2] == 0:
        which = path.next_class[stage]
        path.next_class[stage] += 1
        path.stay[stage] = path.classes[stage, which, 0]
        path.slide[stage] = path.classes[stage, which, 1]
        path.glide[stage] = path.classes[stage, which, 2]
        stay = path.stay[stage]
        if not path.is_worth[stage, stay]:  # -1 is the last
            continue
        if stay >= 0 and template.level[c] == template.level[stage] and template.keeps[c, stay]:
            continue  # its block stands outside the loops that do not move it
        path.blocked[stage] = _blocked(problem, template, path, stage)
        path.near[stage] = path.classes[stage, which, 3]
        if _is_movable(problem, template, path, stage):
            continue
        _enter(problem, path, c)
        for operand in range(len(problem.uses)):
            if template.keeps[c, operand]:
                add_edge(problem, template, path, c, operand)
        path.counts[3] += 1
        if path.counts[3] >= path.counts[5]:
            path.counts[2] = 3
            return False
        _carry_on(problem, template, path, stage, path.row[c], path.stay[stage], path.carry[c])
        if node_floor(problem, template, path, c, objective) < np.inf:
            return True
    return False


@compiled_inside
def _next_tile(
    problem: Problem, template: Template, path: Path, stage: int, objective: int
) -> bool:
    """Stand at the next tile inside a stage that may lead anywhere."""
    while path.next_row[stage] < template.tile_start[stage + 2] and path.counts[2] == 0:
        row = path.next_row[stage]
        path.next_row[stage] += 1
        if _open_tile(problem, template, path, stage, row, objective):
            return True
    return False


@compiled_inside
def _advance(
    problem: Problem, template: Template, path: Path, pairs: Pairs, stage: int, objective: int
) -> bool:
    """Take the next tile, unrolling and class of orders of a stage that may lead anywhere."""
    paired = pairs.start[stage] < pairs.start[stage + 1]
    while path.counts[2] == 0:
        if _next_class(problem, template, path, stage, objective):
            return True
        if paired:
            if not _next_pair(problem, template, path, pairs, stage, objective):
                return False
        elif not _next_spread(problem, template, path, stage, objective) and (
            stage == 0 or not _next_tile(problem, template, path, stage, objective)
        ):
            return False
    return False


@compiled_inside
def _enter_stage(
    problem: Problem, template: Template, path: Path, pairs: Pairs, stage: int, objective: int
) -> None:
    """Begin with the tiles inside a stage."""
    _prepare_node(problem, template, path, stage, objective)
    paired = pairs.start[stage] < pairs.start[stage + 1]
    path.next_row[stage] = 0 if paired else template.tile_start[stage + 1]
    if path.choosing[stage, 2] != path.row[stage]:
        path.choosing[stage, 0], path.choosing[stage, 1] = 0, pairs.start[stage]
        path.choosing[stage, 2] = path.row[stage]
    path.class_count[stage] = 0
    path.next_class[stage] = 0
    alone = template.spread_start[stage] == template.spread_start[stage + 1]
    path.next_spread[stage] = template.spread_start[stage + 1] + alone


@compiled_inside
def try_tile(
    problem: Problem, template: Template, path: Path, pairs: Pairs, row: int, objective: int
) -> None:
    """Search all chains through a tile of the outermost boundary, depth first."""
    stage, last = _ROOT, len(path.stay) - 1
    _prepare_node(problem, template, path, stage, objective)
    if not _open_tile(problem, template, path, stage, row, objective):
        return
    while path.counts[2] == 0:
        if not _advance(problem, template, path, pairs, stage, objective):
            if stage == 0:
                return
            stage -= 1
        elif stage + 1 == last:
            _finish(problem, template, path, objective)
        else:
            stage += 1
            _enter_stage(problem, template, path, pairs, stage, objective)


@compiled_in_place
def try_tiles(
    problem: Problem,
    template: Template,
    path: Path,
    pairs: Pairs,
    rows: Integers,
    first: int,
    last: int,
    objective: int,
) -> int:
    """Try tiles of the outermost boundary, in the order of `rows`; returns how many were tried."""
    for at in range(first, last):
        try_tile(problem, template, path, pairs, rows[at], objective)
        if path.counts[2] != 0:
            return at - first
    return last - first


@compiled_in_place
def root_floors(
    problem: Problem, template: Template, path: Path, floors: Floats, objective: int
) -> None:
    """A bound for every tile of the outermost boundary."""
    start, root = template.tile_start[1], _ROOT
    _prepare_node(problem, template, path, root, objective)
    for row in range(start, template.tile_start[2]):
        floors[row - start] = np.inf
        if path.counts[2] != 0:
            return
        if _is_dear(template, path, root, row):
            continue
        floors[row - start] = _row_floor(problem, template, path, root, row, objective)


@compiled_in_place
def finish_alone(problem: Problem, template: Template, path: Path, objective: int) -> None:
    """Search a chain of one stage, which has no boundary to choose."""
    _finish(problem, template, path, objective)
