"""Tables for the search of imperfect mappings: words of tiles of every size, bounds by their class.

Owns: `make_layer`, a workload on a chip as arrays; `make_plan`, what may be tried for one choice of
what is kept where, with the least that is yet to be paid outside of a tile.

Non-goals: the search (`mapper/imperfect_kernels.py`), the choice (`mapper/imperfect.py`).
"""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tilewright.errors import Problem as Fault
from tilewright.ir.hardware import AXES, Hardware
from tilewright.ir.workload import Operand, Rank, Workload
from tilewright.mapper.compiled import compiled
from tilewright.mapper.imperfect_kernels import LESS, Layer, Plan
from tilewright.mapper.prepare import UncoveredError, reject_uncovered
from tilewright.mapper.problem import Floats, Integers, Mask
from tilewright.model.limit import operand_words

MOST_CELLS = 400_000
"""Cells of a table of bounds; classes of tiles are merged to stay within."""
MOST_SPREADS = 400_000
"""Unrollings of a fan-out beyond which the best is not proved."""
MOST_SIZES = 120_000
"""Pairs of tile sizes of a rank beyond which its words are not tabulated."""


@compiled
def _rank_tables(
    size_a: int, size_b: int, step_a: int, step_b: int, low: int, high: int
) -> tuple[Floats, Floats, Floats]:
    """Words of all tiles of a size, of the largest one, and the fewest that enter if one slides."""
    visits = np.zeros((size_a + 1, size_b + 1))
    largest = np.zeros((size_a + 1, size_b + 1))
    floor = np.zeros((size_a + 1, size_b + 1))
    for ta in range(1, size_a + 1):
        for tb in range(1, size_b + 1):
            kept_a = kept_b = 0
            for tail in range(4):
                last_a, last_b = (size_a - 1) // ta * ta, (size_b - 1) // tb * tb
                ea = size_a - last_a if tail & 1 else ta
                eb = size_b - last_b if tail & 2 else tb
                if (tail & 1 and ea == ta) or (tail & 2 and eb == tb):
                    continue
                reach = step_a * (ea - 1) + step_b * (eb - 1) + 1
                marks = np.zeros(reach, np.int64)
                for p in range(ea):
                    for q in range(eb):
                        marks[step_a * p + step_b * q] = 1
                before_a = np.zeros(step_a * (ta - 1) + step_b * (eb - 1) + 1, np.int64)
                for p in range(ta):
                    for q in range(eb):
                        before_a[step_a * p + step_b * q] = 1
                before_b = np.zeros(step_a * (ea - 1) + step_b * (tb - 1) + 1, np.int64)
                for p in range(ea):
                    for q in range(tb):
                        before_b[step_a * p + step_b * q] = 1
                sums = np.zeros((3, reach + 1), np.int64)
                for at in range(reach):
                    back_a, back_b = at + step_a * ta, at + step_b * tb
                    same_a = back_a < len(before_a) and before_a[back_a] == 1
                    same_b = back_b < len(before_b) and before_b[back_b] == 1
                    sums[0, at + 1] = sums[0, at] + marks[at]
                    sums[1, at + 1] = sums[1, at] + (marks[at] if same_a else 0)
                    sums[2, at + 1] = sums[2, at] + (marks[at] if same_b else 0)
                for i in range(last_a if tail & 1 else 0, size_a - ea + 1, ta):
                    for j in range(last_b if tail & 2 else 0, size_b - eb + 1, tb):
                        start = step_a * i + step_b * j
                        x = min(max(low - start, 0), reach)
                        y = max(x, min(max(high - start, 0), reach))
                        words = sums[0, y] - sums[0, x]
                        visits[ta, tb] += words
                        largest[ta, tb] = max(largest[ta, tb], words)
                        if i > 0:
                            kept_a += sums[1, y] - sums[1, x]
                        if j > 0:
                            kept_b += sums[2, y] - sums[2, x]
            floor[ta, tb] = visits[ta, tb] - max(kept_a, kept_b)
    return visits, largest, floor


@compiled
def _least_before(table: Floats, counts: Integers, dims: Mask) -> None:
    """Give every cell the least of all cells whose classes in these dims are no further on."""
    stride = len(table)
    for dim in range(len(counts)):
        count = counts[dim]
        stride //= count
        if not dims[dim]:
            continue
        for cell in range(len(table)):
            if cell // stride % count > 0:
                table[cell] = min(table[cell], table[cell - stride])


@dataclass(frozen=True, slots=True)
class _RankTable:
    operand: int
    a: int
    b: int
    steps: tuple[int, int]
    data: tuple[int, int]
    padded: bool
    visits: Floats
    largest: Floats
    floor: Floats


def make_layer(
    workload: Workload, hardware: Hardware, spreads: "tuple[Spreads | None, ...]"
) -> Layer:
    """A workload on a chip as arrays, with the unrollings of every level's fan-out.

    Raises `UncoveredError` for a workload that `reject_uncovered` rejects, whose ranks share dims
    or whose ranks are too long.
    """
    reject_uncovered(workload)
    return _LayerMaker(workload, hardware).layer(spreads)


@dataclass(frozen=True)
class _LayerMaker:
    workload: Workload
    hardware: Hardware

    @cached_property
    def dims(self) -> list[str]:
        return [dim for dim, size in self.workload.sizes.items() if size > 1]

    def mask(self, names: set[str]) -> int:
        return sum(1 << index for index, dim in enumerate(self.dims) if dim in names)

    def ranked(self, rank: Rank) -> bool:
        return rank.data is not None or sum(t.dim in self.dims for t in rank.terms) > 1

    def plain(self, operand: Operand) -> set[str]:
        return {t.dim for rank in operand.ranks if not self.ranked(rank) for t in rank.terms}

    def misses(self, dim: str) -> int:
        away = [i for i, o in enumerate(self.workload.operands) if dim not in o.dims]
        return away[0] if away else -1

    def rank(self, operand: int, rank: Rank) -> _RankTable:
        sizes = self.workload.sizes
        terms = sorted(
            ((self.dims.index(t.dim), t.coefficient) for t in rank.terms if t.dim in self.dims),
            key=lambda term: -sizes[self.dims[term[0]]],
        )
        terms += [(-1, 1)] * (2 - len(terms))
        (a, step_a), (b, step_b) = terms
        size_a = sizes[self.dims[a]] if a >= 0 else 1
        size_b = sizes[self.dims[b]] if b >= 0 else 1
        if size_a * size_b > MOST_SIZES:
            what = f"rank {rank} has {size_a * size_b:,} sizes of tiles"
            raise UncoveredError(Fault(what, f"at most {MOST_SIZES:,} are tabulated"))
        reach = step_a * (size_a - 1) + step_b * (size_b - 1) + 1
        data = rank.data or (0, reach)
        tables = _rank_tables(size_a, size_b, step_a, step_b, data[0], data[1])
        return _RankTable(operand, a, b, (step_a, step_b), data, rank.data is not None, *tables)

    def ranks(self) -> list[_RankTable]:
        return [
            self.rank(index, rank)
            for index, operand in enumerate(self.workload.operands)
            for rank in operand.ranks
            if self.ranked(rank) and any(t.dim in self.dims for t in rank.terms)
        ]

    def layer(self, spreads: "tuple[Spreads | None, ...]") -> Layer:
        workload, levels = self.workload, self.hardware.levels
        operands, output = workload.operands, workload.output
        for operand in operands:
            used = [t.dim for rank in operand.ranks for t in rank.terms if t.dim in self.dims]
            if len(used) != len(set(used)):
                what = f"{operand.name} uses a dim twice"
                raise UncoveredError(Fault(what, "the best imperfect mapping is proved without"))
        sizes = np.array([workload.sizes[dim] for dim in self.dims], np.int64)
        ranks = self.ranks()
        flat = [
            np.concatenate([np.zeros(0), *(getattr(r, name).ravel() for r in ranks)])
            for name in ("visits", "largest", "floor")
        ]
        starts = np.cumsum([0, *(r.visits.size for r in ranks)])[:-1]
        bits = np.array([*(float(o.bits) for o in workload.inputs), float(workload.psum_bits)])
        share = bits[None, :] / np.array([level.word_bits for level in levels], float)[:, None]
        updates = [
            (level.write_pj or 0.0) if level.update_pj is None else level.update_pj
            for level in levels
        ]
        rooms = np.full((len(levels), len(operands)), np.inf)
        shared = np.full(len(levels), np.inf)
        for index, level in enumerate(levels):
            if isinstance(level.capacity, tuple):
                rooms[index] = [float(level.usable_bits(o.name) or 0) for o in operands]
            elif level.capacity is not None:
                shared[index] = float(level.usable_bits() or 0)

        def widths(name: str) -> Floats:
            given = [getattr(level, name) for level in levels]
            return np.array(
                [
                    math.inf if width is None else width * level.word_bits
                    for level, width in zip(levels, given, strict=True)
                ]
            )

        uses = np.array([self.mask(set(o.dims)) for o in operands], np.int64)
        served, merged, held = np.ones((3, len(levels), len(operands)))
        for k, unrolled in enumerate(spreads):
            if unrolled is None:
                continue
            for o in range(len(operands)):
                away = [d for d in range(len(sizes)) if not int(uses[o]) >> d & 1]
                copied = unrolled.vectors[:, away].prod(axis=1)
                held[k, o] = copied.max()
                joint = np.ones(len(copied))
                for rank in ranks:
                    if rank.operand == o and rank.b >= 0:
                        x, y = unrolled.vectors[:, rank.a], unrolled.vectors[:, rank.b]
                        most = np.minimum(x, y) if rank.padded else x * y / (x + y - 1)
                        joint = joint * np.where((x > 1) & (y > 1), most, 1.0)
                if levels[k].fanout.multicast:
                    served[k, o] = (copied * joint).max()
                if levels[k].fanout.reduction:
                    merged[k, o] = copied.max()
        return Layer(
            size=sizes,
            uses=uses,
            served=served,
            merged=merged,
            held=held,
            plain=np.array([self.mask(self.plain(o)) for o in operands], np.int64),
            misses=np.array([self.misses(dim) for dim in self.dims], np.int64),
            distinct=np.array([float(operand_words(o, workload)) for o in operands]),
            rank_op=np.array([r.operand for r in ranks], np.int64),
            rank_a=np.array([r.a for r in ranks], np.int64),
            rank_b=np.array([r.b for r in ranks], np.int64),
            step_a=np.array([r.steps[0] for r in ranks], np.int64),
            step_b=np.array([r.steps[1] for r in ranks], np.int64),
            low=np.array([r.data[0] for r in ranks], np.int64),
            high=np.array([r.data[1] for r in ranks], np.int64),
            padded=np.array([r.padded for r in ranks], np.bool_),
            start=np.array(starts, np.int64),
            width=np.array([r.visits.shape[1] for r in ranks], np.int64),
            visits=flat[0],
            largest=flat[1],
            floor=flat[2],
            read=np.array([level.read_pj or 0.0 for level in levels])[:, None] * share,
            write=np.array([level.write_pj or 0.0 for level in levels])[:, None] * share,
            update=np.array(updates)[:, None] * share,
            finished=1.0 - min(1.0, output.bits / workload.psum_bits),
            hop=np.array([level.fanout.hop_pj for level in levels]),
            fan_copies=np.array([float(level.fanout.copies) for level in levels]),
            multicast=np.array([level.fanout.multicast for level in levels]),
            reduction=np.array([level.fanout.reduction for level in levels]),
            bits=bits,
            read_width=widths("read_bandwidth"),
            write_width=widths("write_bandwidth"),
            width_bits=widths("bandwidth"),
            room=rooms,
            shared=shared,
            store_bits=np.minimum(np.array([float(o.bits) for o in operands]), bits),
            macs=float(workload.macs),
            mac_pj=float(workload.macs * (self.hardware.compute.pj or 0)),
            leak=math.fsum(
                level.leak_pj_per_cycle * self.hardware.instances(index)
                for index, level in enumerate(levels)
            ),
        )


def _worst_rests(size: int, width: int, inner: bool, unrolled: int) -> Floats:
    """By the size of a tile: how much of a dim may lie in rounds that are a single step."""
    rests, most = np.zeros(width), 0.0
    for span in range(size, 0, -1):
        rounds = -(-size // span)
        last = size - (rounds - 1) * span
        if inner and rounds > 2:
            most = max(most, float(last))
        if unrolled > 1 and rounds > 1 and last < span:
            most = max(most, float(span - last))
        rests[span] = most
    return rests


@dataclass(frozen=True, slots=True)
class Spreads:
    """The unrollings of a fan-out: (M, D) extents on both axes together, and on axis y."""

    vectors: Integers
    along_y: Integers


def list_spreads(workload: Workload, hardware: Hardware, level: int) -> Spreads:
    """Every unrolling of the fan-out below a level, the largest first.

    Raises `UncoveredError` if there are too many.
    """
    fanout = hardware.levels[level].fanout
    dims = [(dim, size) for dim, size in workload.sizes.items() if size > 1]
    parts: list[Integers] = []
    for axis in AXES:
        allowed, room = fanout.allowed_dims(axis), fanout.extent(axis)
        vectors, products = np.ones((1, 0), np.int64), np.ones(1, np.int64)
        for dim, size in dims:
            most = min(room, size) if allowed is None or dim in allowed else 1
            options = np.arange(1, most + 1)
            rows, columns = np.nonzero(products[:, None] * options[None, :] <= room)
            vectors = np.column_stack([vectors[rows], options[columns]])
            products = products[rows] * options[columns]
            if len(vectors) > MOST_SPREADS:
                raise UncoveredError(
                    Fault(
                        f"axis {axis} of {hardware.levels[level].memory} has over "
                        f"{MOST_SPREADS:,} unrollings",
                        "the best imperfect mapping is proved for fewer: say `x_dims` and `y_dims`",
                    )
                )
        parts.append(vectors)
    along_x, along_y = parts
    if len(along_x) * len(along_y) > 4 * MOST_SPREADS:
        what = f"{hardware.levels[level].memory} has {len(along_x) * len(along_y):,} unrollings"
        raise UncoveredError(Fault(what, f"at most {4 * MOST_SPREADS:,} are tried"))
    both = (along_x[:, None, :] * along_y[None, :, :]).reshape(-1, len(dims))
    ys = np.broadcast_to(along_y[None, :, :], (len(along_x), *along_y.shape)).reshape(both.shape)
    sizes = np.array([size for _, size in dims], np.int64)
    needed = np.all((both // ys - 1) * ys < sizes, axis=1)  # others have a step too many along x
    both, ys = both[needed], ys[needed]
    base = np.ones(len(dims), np.int64)
    for index in range(len(dims) - 2, -1, -1):
        base[index] = base[index + 1] * (int(both[:, index + 1].max(initial=1)) + 1)
    # of one product along both axes, any way to write it that steps along y most is kept
    code = both @ base
    order = np.lexsort([-ys.sum(axis=1), code])
    both, ys, code = both[order], ys[order], code[order]
    first = np.concatenate([[True], code[1:] != code[:-1]])
    both, ys = both[first], ys[first]
    order = np.argsort(-both.prod(axis=1), kind="stable")
    return Spreads(np.ascontiguousarray(both[order]), np.ascontiguousarray(ys[order]))


@dataclass(frozen=True)
class Classes:
    """Sizes of tiles that a dim falls apart into equally many of.

    Attributes:
        tiles, smallest, largest: (D, C) how many, and the sizes; class_of: (D, V) of a size.
        counts: (D,) classes of a dim.
    """

    tiles: Integers
    smallest: Integers
    largest: Integers
    class_of: Integers
    counts: Integers

    @property
    def stride(self) -> Integers:
        """Of a class in tables with a cell for every combination."""
        strides = np.ones(len(self.counts), np.int64)
        for index in range(len(self.counts) - 2, -1, -1):
            strides[index] = strides[index + 1] * self.counts[index + 1]
        return strides

    @property
    def cells(self) -> int:
        """Combinations of classes."""
        return int(np.prod(self.counts))


def list_classes(layer: Layer, most: int = MOST_CELLS) -> Classes:
    """The classes of all dims; neighbours are merged where there would be too many cells."""
    groups = [_by_tiles(int(size)) for size in layer.size]
    while math.prod(map(len, groups)) > most:
        longest = max(range(len(groups)), key=lambda index: len(groups[index]))
        groups[longest] = _merged(groups[longest])
    width, values = max(map(len, groups), default=1), int(layer.size.max(initial=1)) + 1
    tiles = np.zeros((len(groups), width), np.int64)
    smallest, largest = np.zeros_like(tiles), np.zeros_like(tiles)
    class_of = np.zeros((len(groups), values), np.int64)
    for index, group in enumerate(groups):
        for kind, (count, low, high) in enumerate(group):
            tiles[index, kind], smallest[index, kind], largest[index, kind] = count, low, high
            class_of[index, low : high + 1] = kind
    counts = np.array([len(group) for group in groups], np.int64)
    return Classes(tiles, smallest, largest, class_of, counts)


def _by_tiles(size: int) -> list[tuple[int, int, int]]:
    """Tiles, smallest and largest size of every class, the fewest tiles first."""
    found: list[tuple[int, int, int]] = []
    high = size
    while high > 0:
        count = -(-size // high)
        low = -(-size // count)
        found.append((count, low, high))
        high = low - 1
    return found


def _merged(group: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Half as many classes, those with one tile and with tiles of one iteration left alone."""
    inner = group[1:-1]
    pairs = [inner[i : i + 2] for i in range(0, len(inner), 2)]
    return [group[0], *((p[0][0], p[-1][1], p[0][2]) for p in pairs), *group[-1:]]


@dataclass(frozen=True)
class PlanMaker:
    """Makes the plans of a layer, one for every choice of what is kept where.

    Attributes:
        layer: the workload on the chip; classes: of its tiles.
        spreads: by level, the unrollings of its fan-out; `None` without one.
    """

    layer: Layer
    classes: Classes
    spreads: tuple[Spreads | None, ...]

    def column(self, values: Floats | Integers, dim: int) -> Floats:
        """Values by class of a dim, shaped to be spread over all cells."""
        counts = self.classes.counts
        shape = [1] * len(counts)
        shape[dim] = int(counts[dim])
        return np.asarray(values[: counts[dim]], float).reshape(shape)

    @cached_property
    def repeats(self) -> list[Floats]:
        """By operand: how often its words are repeated by loops outside that miss it."""
        return [self.product(~int(uses)) for uses in self.layer.uses]

    def product(self, dims: int) -> Floats:
        product = np.ones(tuple(self.classes.counts))
        for dim in range(len(self.classes.counts)):
            if dims >> dim & 1:
                product = product * self.column(self.classes.tiles[dim], dim)
        return product

    @cached_property
    def entering(self) -> list[Floats]:
        """By operand: the fewest words of all its tiles."""
        return [self.ranks(o, "floor") * self.plain(o) for o in range(self.operands)]

    @cached_property
    def still(self) -> list[Mask]:
        """By operand: whether one tile holds all of it, so that it never moves."""
        return [self.product(int(uses)) == 1 for uses in self.layer.uses]

    @property
    def operands(self) -> int:
        return len(self.layer.uses)

    def plain(self, operand: int) -> float:
        mask = int(self.layer.plain[operand])
        return float(np.prod([s for d, s in enumerate(self.layer.size) if mask >> d & 1] or [1]))

    def ranks(self, operand: int, name: str) -> Floats:
        """The product over ranks of the least in a table of all sizes of the classes."""
        layer, counts = self.layer, self.classes.counts
        product = np.ones(tuple(counts))
        for rank in range(len(layer.rank_op)):
            if layer.rank_op[rank] != operand:
                continue
            product = product * self.spread_rank(rank, self.least_of_rank(rank, name))
        return product

    def rank_table(self, rank: int, name: str) -> Floats:
        layer = self.layer
        rows = int(layer.size[layer.rank_a[rank]]) + 1
        columns = int(layer.width[rank])
        start = int(layer.start[rank])
        return getattr(layer, name)[start : start + rows * columns].reshape(rows, columns)

    def least_of_rank(self, rank: int, name: str) -> Floats:
        layer, classes = self.layer, self.classes
        table = self.rank_table(rank, name)
        if name == "floor":
            table = self.if_standing(rank, table)
        table = _least_of_classes(table, classes, int(layer.rank_a[rank]), 0)
        b = int(layer.rank_b[rank])
        return _least_of_classes(table, classes, b, 1) if b >= 0 else table[:, 1:2]

    def if_standing(self, rank: int, table: Floats) -> Floats:
        """The distinct words where tiles may stand still or hold the same words."""
        layer = self.layer
        step_a, step_b = int(layer.step_a[rank]), int(layer.step_b[rank])
        b = int(layer.rank_b[rank])
        size_a, size_b = table.shape[0] - 1, table.shape[1] - 1
        distinct = table[size_a, size_b]
        ta, tb = _sizes(size_a)[:, None], _sizes(size_b)[None, :]
        words = table
        if b >= 0:
            # steps are multiples of tiles: of all of them, two tiles a sweep spare most
            common = np.lcm(step_a * ta, step_b * tb)
            stands = (common <= step_a * (size_a - 1)) & (common <= step_b * (size_b - 1))
            number = -(-size_a // ta) * -(-size_b // tb)
            spared = np.ceil(number / 2) * self.rank_table(rank, "largest")
            words = np.where(stands, np.maximum(distinct, table - spared), words)
        if layer.padded[rank]:
            reach = step_a * (ta - 1) + step_b * (tb - 1) + 1
            gap = np.maximum(np.where(ta > 1, step_a, 0), np.where(tb > 1, step_b, 0))
            words = np.where(reach + 2 * gap >= layer.high[rank] - layer.low[rank], distinct, words)
        return words

    def spread_rank(self, rank: int, table: Floats) -> Floats:
        counts = self.classes.counts
        a, b = int(self.layer.rank_a[rank]), int(self.layer.rank_b[rank])
        shape = [1] * len(counts)
        shape[a] = int(counts[a])
        if b < 0:
            return table.reshape(shape)
        shape[b] = int(counts[b])
        return (table if a < b else table.T).reshape(shape)

    def lost(self, inner: bool, unrolled: int) -> list[Floats]:
        """By operand: what share of its words may be spared by rounds that are cut short.

        `inner` says whether several stages lie outside, `unrolled` how far dims may be there.
        """
        cuts = np.zeros((len(self.layer.size), int(self.layer.size.max(initial=1)) + 1))
        if inner or unrolled > 1:
            for dim, size in enumerate(self.layer.size):
                cuts[dim] = _worst_rests(int(size), cuts.shape[1], inner, unrolled)
        return [self.cuts(operand, cuts) for operand in range(self.operands)]

    def cuts(self, operand: int, rests: Floats) -> Floats:
        layer, classes = self.layer, self.classes
        share = np.zeros(tuple(classes.counts))
        for dim in range(len(classes.counts)):
            if int(layer.plain[operand]) >> dim & 1:
                parts = rests[dim] / layer.size[dim]
                worst = [
                    parts[low : high + 1].max(initial=0.0)
                    for low, high in zip(classes.smallest[dim], classes.largest[dim], strict=True)
                ]
                share = np.maximum(share, self.column(np.array(worst), dim))
        for rank in range(len(layer.rank_op)):
            if layer.rank_op[rank] == operand:
                share = np.maximum(share, self.spread_rank(rank, self.rank_cuts(rank, rests)))
        return np.minimum(share, 1.0)

    def rank_cuts(self, rank: int, rests: Floats) -> Floats:
        layer, classes = self.layer, self.classes
        a, b = int(layer.rank_a[rank]), int(layer.rank_b[rank])
        largest, floor = self.rank_table(rank, "largest"), self.rank_table(rank, "floor")
        ta, tb = _sizes(largest.shape[0] - 1), _sizes(largest.shape[1] - 1)
        rounds_a, rounds_b = -(-(len(ta) - 1) // ta), -(-(len(tb) - 1) // tb)
        last_a = np.ceil(rests[a, ta] / ta)
        tiles = last_a[:, None] * rounds_b[None, :]
        if b >= 0:
            last_b = np.ceil(rests[b, tb] / tb)
            tiles = np.maximum(tiles, last_b[None, :] * rounds_a[:, None])
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(tiles == 0, 0.0, np.minimum(1.0, tiles * largest / floor))
        kept = 1.0 - np.nan_to_num(share, nan=1.0)
        kept = _least_of_classes(kept, classes, a, 0)
        kept = _least_of_classes(kept, classes, b, 1) if b >= 0 else kept[:, 1:2]
        return 1.0 - kept

    def held(self, keeps: Mask, level: int) -> Mask:
        """Whether the smallest tiles of a class fit."""
        layer, classes = self.layer, self.classes
        need, fits = np.zeros(tuple(classes.counts)), np.ones(tuple(classes.counts), np.bool_)
        for operand in range(self.operands):
            if not keeps[operand]:
                continue
            words = np.ones(tuple(classes.counts))
            for dim in range(len(classes.counts)):
                if int(layer.plain[operand]) >> dim & 1:
                    words = words * self.column(classes.smallest[dim], dim)
            for rank in range(len(layer.rank_op)):
                if layer.rank_op[rank] == operand:
                    words = words * self.spread_rank(rank, self.least_of_rank(rank, "largest"))
            room = words * layer.store_bits[operand]
            fits &= room <= layer.room[level, operand]
            need += room
        return fits & (need <= layer.shared[level])

    def edge(
        self,
        costs: "Costs",
        parent: int,
        c: int,
        operand: int,
        words: Floats,
        fans: int | None = None,
    ) -> Floats:
        """The least cost of an edge into boundary `c` through which so many words enter.

        `fans` is the boundary whose instances these words are counted for, if it is not `c`.
        """
        layer = self.layer
        fans = c if fans is None else fans
        served = float(np.prod(layer.served[parent:fans, operand]))
        merged = float(np.prod(layer.merged[parent:fans, operand]))
        held = float(np.prod(layer.held[:fans, operand]))
        distinct = layer.distinct[operand]
        inner = costs.write[c, operand] if c < len(layer.fan_copies) else 0.0
        if operand < self.operands - 1:
            return (
                words * inner + np.maximum(words / served, distinct) * costs.read[parent, operand]
            )
        drain = costs.read[c, operand] if c < len(layer.fan_copies) else 0.0
        first = layer.distinct[operand] * held
        finished = layer.distinct[operand] * costs.finished if drain or inner else 0.0
        if c == len(layer.fan_copies):
            finished = 0.0
        cost = words * drain + np.maximum(words / merged, distinct) * costs.update[parent, operand]
        cost = cost - finished * (drain + costs.update[parent, operand])
        cost = cost + np.maximum(0.0, words - first) * inner
        cost = cost + np.maximum(0.0, words / served - first) * costs.read[parent, operand]
        return np.maximum(0.0, cost)

    def macs(self, costs: "Costs", parent: Integers) -> float:
        """The least cost of all words that pass between memories and MACs."""
        last = len(self.layer.fan_copies)
        return math.fsum(
            float(self.edge(costs, int(parent[last, o]), last, o, np.array(self.mac_words(o))))
            for o in range(self.operands)
        )

    @cached_property
    def unrollings(self) -> tuple[Integers, Integers, Integers, Floats, Floats, Floats]:
        """Of all stages: extents, those along y, where a stage begins, shares, merged, copied."""
        layer = self.layer
        dims, operands = len(layer.size), self.operands
        vectors = [s.vectors for s in self.spreads if s is not None]
        along_y = [s.along_y for s in self.spreads if s is not None]
        none = np.zeros((0, dims), np.int64)
        spreads = np.concatenate([none, *vectors])
        spread_start = np.cumsum([0, *(0 if s is None else len(s.vectors) for s in self.spreads)])
        shares = np.ones((len(spreads), operands))
        merged, copied = np.ones_like(shares), np.ones_like(shares)
        for o in range(operands):
            away = [d for d in range(dims) if not int(layer.uses[o]) >> d & 1]
            copied[:, o] = spreads[:, away].prod(axis=1)
        for k, (low, high) in enumerate(itertools.pairwise(spread_start)):
            if layer.reduction[k]:
                merged[low:high] = 1.0 / copied[low:high]
            if layer.multicast[k]:
                shares[low:high] = 1.0 / copied[low:high]
                for rank in range(len(layer.rank_op)):
                    a, b, o = layer.rank_a[rank], layer.rank_b[rank], layer.rank_op[rank]
                    if b < 0:
                        continue
                    x, y = spreads[low:high, a], spreads[low:high, b]
                    joint = 1.0 / np.minimum(x, y) if layer.padded[rank] else (x + y - 1) / (x * y)
                    shares[low:high, o] *= np.where((x > 1) & (y > 1), joint, 1.0)
        ys = np.concatenate([none, *along_y])
        return spreads, ys, spread_start.astype(np.int64), shares, merged, copied

    def least_macs(self, parent: Integers) -> list[float]:
        """The least energy of words for MACs, with every stage's fan-out in turn."""
        _, _, starts, shares, merged, copied = self.unrollings
        found = [self.macs(energies(self.layer), parent)]
        for k, (low, high) in enumerate(itertools.pairwise(starts)):
            if high > low:
                part = slice(int(low), int(high))
                floor = self.macs_with(parent, k, shares[part], merged[part], copied[part])
                found.append(float(floor.min()))
        return found

    def macs_with(
        self, parent: Integers, k: int, shares: Floats, merged: Floats, copied: Floats
    ) -> Floats:
        """(M,) the same with every unrolling of the fan-out of a level, others at their best."""
        layer, last = self.layer, len(self.layer.fan_copies)
        total = np.zeros(len(shares))
        for o in range(self.operands):
            p, words = int(parent[last, o]), self.mac_words(o)
            inner = [j for j in range(p, last) if j != k]
            served = float(np.prod(layer.served[inner, o]))
            reduced = float(np.prod(layer.merged[inner, o]))
            share = shares[:, o] if k >= p else np.ones(len(shares))
            merge = merged[:, o] if k >= p else np.ones(len(shares))
            distinct = layer.distinct[o]
            if o < self.operands - 1:
                total += np.maximum(words * share / served, distinct) * layer.read[p, o]
                continue
            others = float(np.prod([layer.held[j, o] for j in range(last) if j != k]))
            first = distinct * copied[:, o] * others
            total += np.maximum(words * merge / reduced, distinct) * layer.update[p, o]
            total += np.maximum(0.0, words * share / served - first) * layer.read[p, o]
        return total

    def mac_words(self, operand: int) -> float:
        """Words of an operand that MACs use, one for each."""
        layer, words = self.layer, self.plain(operand)
        for dim, size in enumerate(layer.size):
            if not int(layer.uses[operand]) >> dim & 1:
                words *= float(size)
        for rank in range(len(layer.rank_op)):
            if layer.rank_op[rank] == operand:
                words *= float(self.rank_table(rank, "visits")[1, 1])
        return words

    def bounds(self, costs: "Costs", keeps: Mask, parent: Integers) -> "Bounds":
        """What is paid outside of a tile at every boundary, at least."""
        levels, shape = len(keeps), tuple(self.classes.counts)
        cells = self.classes.cells
        at = np.full((levels, cells), np.inf)
        moving = np.zeros((levels, cells))
        inner = max(levels - 2, 1)
        stay_at = np.full((inner, 2, self.operands, cells), np.inf)
        wait_at = np.full((inner, self.operands, cells), np.inf)
        for k in range(1, levels):
            base = moving[k - 1].reshape(shape) if k > 1 else np.zeros(shape)
            unrolled = max(s.vectors.max() if s else 1 for s in self.spreads[:k])
            lost = self.lost(k > 1, int(unrolled))
            moves = [
                np.where(
                    self.still[o],
                    self.layer.distinct[o],
                    self.entering[o] * self.repeats[o] * (1.0 - lost[o]),
                )
                for o in range(self.operands)
            ]
            paid = [
                self.edge(costs, int(parent[k, o]), k, o, moves[o])
                if keeps[k, o]
                else np.zeros(shape)
                for o in range(self.operands)
            ]
            least = [
                self.edge(costs, int(parent[k, o]), k, o, np.array(self.layer.distinct[o]))
                if keeps[k, o]
                else np.array(0.0)
                for o in range(self.operands)
            ]
            fits, everything = self.held(keeps[k], k), np.sum(paid, axis=0)
            options = [everything + base]
            options += [everything - paid[o] + least[o] + base for o in range(self.operands)]
            options = [np.where(fits, option, np.inf) for option in options]
            at[k] = np.min(options, axis=0).ravel()
            moving[k] = at[k]
            _least_before(moving[k], self.classes.counts, np.ones(len(shape), np.bool_))
            for o in range(self.operands if k + 1 < levels else 0):
                if not keeps[k + 1, o]:
                    stay_at[k - 1, :, o] = wait_at[k - 1, o] = at[k]
                    continue
                p, distinct = int(parent[k + 1, o]), self.layer.distinct[o]
                for turn, factor in enumerate((1.0, LESS)):
                    words = distinct * self.repeats[o] * factor
                    further = self.edge(costs, p, k + 1, o, words, k)
                    stay_at[k - 1, turn, o] = at[k] + further.ravel()
                others = np.min([x for i, x in enumerate(options) if i != o + 1], axis=0)
                waits = others + self.edge(costs, p, k + 1, o, moves[o], k)
                itself = options[o + 1] + self.edge(costs, p, k + 1, o, np.array(distinct), k)
                wait_at[k - 1, o] = np.minimum(waits, itself).ravel()
        staying, waiting = stay_at.copy(), wait_at.copy()
        every = np.ones(len(self.classes.counts), np.bool_)
        for k in range(inner):
            for o in range(self.operands):
                for turn in range(2):
                    _least_before(staying[k, turn, o], self.classes.counts, every)
                away = np.array(
                    [not int(self.layer.uses[o]) >> d & 1 for d in range(len(every))], np.bool_
                )
                _least_before(waiting[k, o], self.classes.counts, away)
        return Bounds(at, moving, stay_at, staying, wait_at, waiting)


@dataclass(frozen=True, slots=True)
class Costs:
    """(K, O) of a word that is read, written, updated; by what share finished words cost less."""

    read: Floats
    write: Floats
    update: Floats
    finished: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """See `Plan`."""

    at: Floats
    moving: Floats
    stay_at: Floats
    staying: Floats
    wait_at: Floats
    waiting: Floats


def _sizes(size: int) -> Integers:
    """Sizes of tiles by their index; none is smaller than 1."""
    return np.array([1, *range(1, size + 1)], np.int64)


def _least_of_classes(table: Floats, classes: Classes, dim: int, axis: int) -> Floats:
    """The least of all sizes of every class."""
    count = int(classes.counts[dim])
    parts = [
        np.take(
            table,
            range(int(classes.smallest[dim, kind]), int(classes.largest[dim, kind]) + 1),
            axis=axis,
        ).min(axis=axis, keepdims=True)
        for kind in range(count)
    ]
    return np.concatenate(parts, axis=axis)


def energies(layer: Layer) -> Costs:
    """Energies: pJ per word."""
    return Costs(layer.read, layer.write, layer.update, layer.finished)


def dram_words(layer: Layer) -> Costs:
    """One for every word that passes the outermost memory."""
    read, write = np.zeros_like(layer.read), np.zeros_like(layer.write)
    read[0] = 1.0
    return Costs(read, write, read.copy(), 0.0)


def make_plan(maker: PlanMaker, keeps: Mask, parent: Integers, by_words: bool) -> Plan:
    """What may be tried if every level keeps these operands.

    Args:
        maker: of the layer.
        keeps: (K, O) what each level keeps.
        parent: (K + 1, O) the next level outside that keeps an operand.
        by_words: whether tiles are tried by DRAM words, not by energy.
    """
    layer, classes, levels = maker.layer, maker.classes, len(keeps)
    pj = maker.bounds(energies(layer), keeps, parent)
    words = maker.bounds(dram_words(layer), keeps, parent)
    cells, starts = [np.zeros(0, np.int64)], [0, 0]
    for k in range(1, levels):
        finite = np.nonzero(np.isfinite(pj.at[k]))[0]
        order = np.argsort((words if by_words else pj).at[k][finite], kind="stable")
        cells.append(finite[order])
        starts.append(starts[-1] + len(finite))
    cell = np.concatenate(cells)
    listed = [cells[k + 1] for k in range(levels - 2)]
    most = max((len(cells) for cells in listed), default=0)
    stay_cell = np.zeros((max(levels - 2, 1), 2, len(layer.uses), most), np.int64)
    for k, there in enumerate(listed):
        for turn in range(2):
            for o in range(len(layer.uses)):
                order = np.argsort(pj.stay_at[k, turn, o, there], kind="stable")
                stay_cell[k, turn, o, : len(there)] = there[order]
    spreads, ys, spread_start, shares, merged, copied = maker.unrollings
    spreads, ys = spreads.copy(), ys.copy()
    shares, merged, copied = shares.copy(), merged.copy(), copied.copy()
    floors = np.zeros(len(spreads))
    least_macs = np.full(levels + 1, maker.macs(energies(layer), parent))
    for k, (low, high) in enumerate(itertools.pairwise(spread_start)):
        if high > low:
            part = slice(low, high)
            floor = maker.macs_with(parent, k, shares[part], merged[part], copied[part])
            order = np.argsort(floor, kind="stable")
            floors[part] = floor[order]
            spreads[part], ys[part] = spreads[part][order], ys[part][order]
            shares[part], merged[part] = shares[part][order], merged[part][order]
            copied[part] = copied[part][order]
            least_macs[k + 1 :] = np.maximum(least_macs[k + 1 :], floors[low])
    return Plan(
        spread_start=np.array(spread_start, np.int64),
        spreads=spreads,
        along_y=ys,
        list_start=np.array(starts, np.int64),
        cell=cell,
        by_words=by_words,
        stay_cell=stay_cell,
        counts=classes.counts,
        tiles=classes.tiles,
        smallest=classes.smallest,
        largest=classes.largest,
        class_of=classes.class_of,
        stride=classes.stride,
        at=pj.at,
        at_words=words.at,
        moving=pj.moving,
        moving_words=words.moving,
        stay_at=pj.stay_at,
        staying=pj.staying,
        wait_at=pj.wait_at,
        waiting=pj.waiting,
        shares=shares,
        merged=merged,
        copied=copied,
        used=spreads.prod(axis=1).astype(float),
        mac_floor=floors,
        least_macs=least_macs,
    )
