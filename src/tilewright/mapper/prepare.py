"""Preparation of the search: a workload on a chip as arrays, and every choice of bypasses.

Owns: `Preparation`, which makes the `Problem` once and a `Template` for every choice.

Non-goals: the search itself (`mapper/kernels.py`).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from tilewright.errors import InputError
from tilewright.errors import Problem as Fault
from tilewright.ir.fix import Fix
from tilewright.ir.hardware import AXES, Hardware, Level
from tilewright.ir.workload import Operand, Rank, Workload
from tilewright.mapper import kernels, lattice, listing, sliding
from tilewright.mapper.pins import Pins
from tilewright.mapper.problem import Floats, Integers, Mask, Problem, Template
from tilewright.mapspace.space import Mapspace
from tilewright.model.evaluate import Evaluator
from tilewright.model.limit import operand_words

MOST_TILES = 3_000_000
MOST_POSITIONS = 400_000
"""Sizes beyond which tables would take too long or too much memory."""

Small = NDArray[np.int16]
Blocks = tuple[tuple[frozenset[str], ...], ...]
"""By level, outermost first: the operands that each of its blocks keeps, outermost first."""
Tables = TypeVar("Tables", Problem, Template)
Answer = TypeVar("Answer")
Run = Callable[[Callable[[Integers], None]], None]
"""Runs long work, which returns early once the array that it is given is not 0."""
MOST_LISTED = 30_000_000
"""Tiles that are remembered for other choices of bypasses."""
LONG = 20_000
"""Tiles from which on work on a list of them counts as long."""


_BARE = 300_000
"""Tiles of a mapspace from which on stages leave loops to the next one: see `Template.bare`.

With fewer there is little to gain, and which of equally good mappings is found would change."""


class UncoveredError(InputError):
    """The best mapping of a workload is not proved by this mapper."""


@dataclass(frozen=True, slots=True)
class Spreads:
    """The unrollings of a fan-out.

    Attributes:
        vectors: (M, D + 1) indices of the extent of every dim.
        x_parts: (M, D) the part of each extent that lies on axis x.
    """

    vectors: Small
    x_parts: Integers

    def along_x(self, vector: Integers) -> Integers:
        """The part of an unrolling that lies on axis x."""
        (row,) = np.nonzero((self.vectors == vector).all(axis=1))[0][:1]
        return self.x_parts[row]


@dataclass(frozen=True, slots=True, eq=False)
class _TileList:
    """Some tiles of the lattice, by their numbers: see `listing.Table`."""

    numbers: listing.Numbers
    table: listing.Table

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def tiles(self) -> Small:
        return self.table.tiles[self.numbers]

    def words(self, operand: int) -> Floats:
        return self.table.words[operand][self.numbers]

    def moving(self, operand: int) -> Floats:
        return self.table.moving[operand][self.numbers]

    def staying(self, operand: int) -> Floats:
        return self.table.staying[operand][self.numbers]

    def of_all(self, column: Callable[[int], Floats]) -> Floats:
        """(N, O) a column for every operand."""
        return np.column_stack([column(o) for o in range(len(self.table.words))])

    def chosen(self, rows: Mask | Integers) -> "_TileList":
        """Some of them."""
        return _TileList(self.numbers[rows], self.table)


def run_at_once(work: Callable[[Integers], None]) -> None:
    """Do work to its end."""
    work(np.zeros(1, np.int64))


def reject_uncovered(workload: Workload) -> None:
    """Raise `UncoveredError` for a workload whose optimum is not proved.

    Covered: ranks of one or two dims, the output's of one, and dims that all operands but one use.
    """
    for operand in workload.operands:
        longest = 1 if operand == workload.output else 2
        for rank in operand.ranks:
            moving = [term for term in rank.terms if workload.sizes[term.dim] > 1]
            if len(moving) > longest:
                what = f"rank {rank} of {operand.name} sums {len(moving)} dims"
                raise UncoveredError(Fault(what, "the best mapping is proved for fewer only"))
            positions = math.prod(workload.sizes[term.dim] for term in moving)
            if (len(moving) > 1 or rank.data) and positions > MOST_POSITIONS:
                what = f"rank {rank} of {operand.name} has {positions:,} positions"
                raise UncoveredError(Fault(what, f"at most {MOST_POSITIONS:,} are tabulated"))
            if operand == workload.output and rank.data is not None:
                what = f"rank {rank} of the output is padded"
                raise UncoveredError(Fault(what, "the best mapping is proved without only"))
    for dim, size in workload.sizes.items():
        away = [operand.name for operand in workload.operands if dim not in operand.dims]
        if size > 1 and len(away) > 1:
            what = f"dim {dim} indexes neither of {', '.join(away)}"
            raise UncoveredError(Fault(what, "the best mapping is proved if it misses one only"))


class Preparation:
    """The tables of one workload on one chip, for mappings that contain a fix.

    Raises `UncoveredError` when made, for a workload that `reject_uncovered` rejects or whose tiles
    are too many to list.
    """

    def __init__(
        self, evaluator: Evaluator, fix: Fix | None = None, *, uneven: bool = False
    ) -> None:
        reject_uncovered(evaluator.workload)
        self.workload: Workload = evaluator.workload
        self.hardware: Hardware = evaluator.hardware
        self.space = Mapspace(self.workload, self.hardware, uneven=uneven, fix=fix)
        self.dims = [dim for dim, size in self.workload.sizes.items() if size > 1]
        self.divisors = [_divisors(self.workload.sizes[dim]) for dim in self.dims]
        self.pins = Pins(fix, self.hardware, self.dims, self.divisors)
        lattice = math.prod(map(len, self.divisors))
        if lattice > MOST_TILES:
            what = f"{self.workload.name} has {lattice:,} tiles"
            raise UncoveredError(Fault(what, f"at most {MOST_TILES:,} are listed"))
        self.run: Run = run_at_once
        self._tiles: dict[tuple[int, tuple[bool, ...]], _TileList] = {}
        self._spreads: dict[int, Spreads] = {}
        self.counted: dict[tuple[int, tuple[bool, ...]], int] = {}
        self.least_edges: dict[tuple[object, ...], float] = {}

    @cached_property
    def counts(self) -> Integers:
        """How many divisors each dim's size has."""
        return np.array([len(divisors) for divisors in self.divisors], np.int64)

    @cached_property
    def table(self) -> listing.Table:
        """What is known of all tiles, whatever memory they are for."""
        tiles, operands = int(np.prod(self.counts)), len(self.workload.operands)
        return listing.Table(
            np.zeros(tiles, np.bool_),
            np.zeros((tiles, len(self.dims) + 1), np.int16),
            *(np.zeros((operands, tiles)) for _ in range(3)),
        )

    @cached_property
    def problem(self) -> Problem:
        """The workload on the chip, for the kernels."""
        made = _Maker(
            self.workload, self.hardware, self.dims, self.divisors, self.any_order_counts
        ).problem()
        return _in_order(made)

    @cached_property
    def shares(self) -> list[tuple[Floats, Floats]]:
        """Of every sliding rank: see `listing.rank_shares`, 0 where nothing is known."""
        found: list[tuple[Floats, Floats]] = []
        problem, (count, width) = self.problem, self.problem.val.shape
        sizes = [*map(len, self.divisors), 1]
        for rank in range(len(problem.rank_op)):
            tables = np.zeros((width, width)), np.zeros((width, width))
            n, m = sizes[int(problem.rank_a[rank])], sizes[int(problem.rank_b[rank])]
            if problem.padded[rank] and problem.rank_b[rank] < count - 1:
                made = listing.rank_shares(*_share_inputs(problem, rank, n, m))
                for table, values in zip(tables, made, strict=True):
                    table[:n, :m] = np.where(np.isfinite(values), values, 0.0)
            found.append(tables)
        return found

    def recharged(self, share: float, word_pj: float) -> "Preparation":
        """The same with a share of all energies, and so many pJ for every word of DRAM.

        With a share of 0 and 1 pJ the energy of a mapping is its DRAM words.
        """
        other = copy(self)
        other.least_edges = {}
        made = self.problem
        read, update = made.read * share, made.update * share
        read[0] += word_pj
        update[0] += word_pj
        other.problem = made._replace(
            read=read,
            write=made.write * share,
            update=update,
            hop=made.hop * share,
            mac_pj=made.mac_pj * share,
            leak=made.leak * share,
            rebate=1.0 if share else 0.0,
        )
        return other

    @cached_property
    def any_order_counts(self) -> bool:
        """Whether classes of orders do not say where tiles stand still: see *Loose prices*."""
        return self.pins.any_order

    def copies(self) -> int:
        """Multiply-accumulates that can run at once."""
        return math.prod(level.fanout.copies for level in self.hardware.levels)

    def choices(self) -> Iterator[Blocks]:
        """Every choice of what the levels keep, and of the order of their blocks."""
        for keeps in self._kept():
            inner = [_arrangements(names, uneven=self.space.uneven) for names in keeps[1:]]
            for blocks in itertools.product(*inner):
                yield ((keeps[0],), *blocks)

    def _kept(self) -> Iterator[tuple[frozenset[str], ...]]:
        options: list[list[frozenset[str]]] = []
        for forced, free in zip(self.space.forced, self.space.optional, strict=True):
            names = sorted(free)
            picks = itertools.product((True, False), repeat=len(names))
            options.append(
                [
                    forced | {n for n, kept in zip(names, pick, strict=True) if kept}
                    for pick in picks
                ]
            )
        yield from itertools.product(*options)

    def spreads(self, fan: int) -> Spreads:
        """Every unrolling of the fan-out below a level."""
        if fan not in self._spreads:
            self._spreads[fan] = self._list_spreads(fan)
        return self._spreads[fan]

    def _list_spreads(self, fan: int) -> Spreads:
        level = self.hardware.levels[fan]
        rows: list[Integers] = []
        for axis in AXES:
            allowed = level.fanout.allowed_dims(axis)
            room = level.fanout.extent(axis)
            extents = [
                self.pins.unrolled(
                    fan,
                    axis,
                    dim,
                    [d for d in divisors if d <= room and (allowed is None or dim in allowed)]
                    or [1],
                )
                for dim, divisors in zip(self.dims, self.divisors, strict=True)
            ]
            rows.append(_products_up_to(extents, room))
        along_x, along_y = rows
        sizes = np.array([divisors[-1] for divisors in self.divisors], np.int64)
        seen: dict[bytes, tuple[Integers, Integers]] = {}
        for x in along_x:
            both = along_y * x
            fits = np.all(sizes % both == 0, axis=1)
            for vector in both[fits]:
                seen.setdefault(vector.tobytes(), (vector, x))
        if not seen:  # an axis has no room for what must be unrolled there
            width = len(self.dims)
            return Spreads(np.zeros((0, width + 1), np.int16), np.zeros((0, width), np.int64))
        vectors = np.array([vector for vector, _ in seen.values()]).reshape(len(seen), -1)
        order = np.argsort(-vectors.prod(axis=1), kind="stable")
        codes = np.zeros((len(seen), len(self.dims) + 1), np.int16)
        for index, divisors in enumerate(self.divisors):
            codes[:, index] = np.searchsorted(divisors, vectors[order, index])
        xs = np.array([x for _, x in seen.values()]).reshape(len(seen), -1)
        return Spreads(codes, xs[order])

    def tiles(self, level: int, keeps: tuple[bool, ...]) -> _TileList:
        """Every tile that fits a level."""
        key = (level, keeps)
        found = self._tiles.pop(key, None)
        if found is None:
            kept, table = np.array(keeps), self.table
            numbers = self.long(
                len(table.known),
                lambda stop: listing.fitting_tiles(
                    self.problem, level, kept, self.counts, table, stop
                ),
            )
            found = _TileList(numbers, table)
        room = MOST_LISTED - len(found)
        while self._tiles and sum(map(len, self._tiles.values())) > room:
            del self._tiles[next(iter(self._tiles))]  # not asked for since long
        self._tiles[key] = found
        self.counted[key] = len(found)
        return found

    def stages(self, blocks: Blocks) -> "list[Stage]":
        """The stages of a choice of blocks; levels without tile and fan-out have none.

        A level whose loops are given has a stage of its own.
        """
        stages: list[Stage] = []
        for index, level in enumerate(self.hardware.levels):
            fan = index if level.fanout.copies > 1 else -1
            alone = self.pins.apart(index) or (stages and self.pins.apart(stages[-1].level))
            if stages and not blocks[index] and stages[-1].fan < 0 and not alone:
                stages[-1] = replace(stages[-1], fan=fan)
                continue
            kept = blocks[index] or (frozenset(),)
            stages += [Stage(index, -1, names) for names in kept[:-1]]
            stages.append(Stage(index, fan, kept[-1]))
        return stages

    def long(self, count: int, work: Callable[[Integers], Answer]) -> Answer:
        """Do work on so many tiles, so that it can be stopped if they are many."""
        found: list[Answer] = []
        run = self.run if count >= LONG else run_at_once
        run(lambda stop: found.append(work(stop)))
        return found[0]

    def template(
        self,
        blocks: Blocks,
        by_cycles: bool,
        most: float = math.inf,
        rents: tuple[float, ...] = (),
    ) -> Template | None:
        """The template of one choice; `None` if something cannot fit.

        `by_cycles` classes the unrollings of the largest fan-out by the cycles that they take.
        Tiles whose edges alone make a chain dearer than `most` pJ, MACs themselves left out, are
        not listed.
        `rents` are pJ per bit, by level, that bounds charge for room.
        """
        maker = self._maker(blocks, by_cycles, most, rents)
        if maker is None:
            return None
        return replace(maker, lists=list(maker.lists)).template()

    def least_energy(self, blocks: Blocks) -> float:
        """A bound of the energy of all edges and MACs' words of one choice, known without tables.

        Every boundary counts for itself, at its cheapest tile; infinite if something cannot fit.
        """
        maker = self._maker(blocks, False, math.inf, ())
        return math.inf if maker is None else maker.least_energy()

    def _maker(
        self, blocks: Blocks, by_cycles: bool, most: float, rents: tuple[float, ...]
    ) -> "_TemplateMaker | None":
        stages = self.stages(blocks)
        names = [operand.name for operand in self.workload.operands]
        kept = np.array([[name in s.keeps for name in names] for s in stages])
        lists = _Lists(self, stages, kept)
        if not lists.is_complete:
            return None
        spreads = [self.spreads(s.fan) if s.fan >= 0 else None for s in stages]
        if any(spread is not None and len(spread.vectors) == 0 for spread in spreads):
            return None
        return _TemplateMaker(self, stages, kept, lists, spreads, by_cycles, most, rents)


@dataclass(frozen=True, slots=True, eq=False)
class _Lists(Sequence[_TileList]):
    """The tiles of every boundary of a choice from the first on, listed when they are asked for."""

    preparation: Preparation
    stages: "list[Stage]"
    kept: Mask

    def __len__(self) -> int:
        return len(self.stages) - 1

    @overload
    def __getitem__(self, index: int) -> _TileList: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_TileList]: ...
    def __getitem__(self, index: int | slice) -> _TileList | Sequence[_TileList]:
        if isinstance(index, slice):
            return [self[at] for at in range(len(self))[index]]
        if not 0 <= index < len(self):
            raise IndexError(index)
        found, pins = self.preparation.tiles(*self.key(index)), self.preparation.pins
        if pins.fix is None:
            return found
        rows = pins.fitting(self.stages, index + 1, found.tiles)
        return found if rows is None else found.chosen(rows)

    def key(self, index: int) -> tuple[int, tuple[bool, ...]]:
        """What decides which tiles there are, without a fix: the memory and what it holds."""
        boundary = index + 1
        outside = self.kept[_first_block(self.stages, boundary) : boundary + 1]
        return self.stages[boundary].level, tuple(bool(column.any()) for column in outside.T)

    @property
    def is_complete(self) -> bool:
        """Whether every boundary has a tile that fits."""
        known, is_free = self.preparation.counted, self.preparation.pins.fix is None
        keys = map(self.key, range(len(self)))
        return all(
            known[key] > 0 if is_free and key in known else len(self[index]) > 0
            for index, key in enumerate(keys)
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """Loops between two boundaries.

    Attributes:
        level: the memory whose tiles stand at the outer one.
        fan: the level below which the fan-out lies that the stage ends with; -1 for none.
        keeps: the operands kept at the outer one.
    """

    level: int
    fan: int
    keeps: frozenset[str]


def _arrangements(names: frozenset[str], *, uneven: bool) -> list[tuple[frozenset[str], ...]]:
    """The blocks of a level that keeps some operands, outermost first.

    Uneven, each operand has its own: blocks of several are those with no loops in between.
    """
    if not names:
        return [()]
    if not uneven:
        return [(names,)]
    orders = itertools.permutations(sorted(names))
    return [tuple(frozenset({name}) for name in order) for order in orders]


def _first_block(stages: list[Stage], index: int) -> int:
    """The outermost block of a block's memory: what all of them keep holds the block's tile."""
    while index > 0 and stages[index - 1].level == stages[index].level:
        index -= 1
    return index


def _in_order(tables: Tables) -> Tables:
    """Arrays with their rows one after the other, so that kernels are compiled for one layout."""
    arrays = {
        name: np.ascontiguousarray(value)
        for name, value in tables._asdict().items()
        if np.ndim(value) > 0
    }
    return tables._replace(**arrays)


def _divisors(size: int) -> list[int]:
    small = [d for d in range(1, math.isqrt(size) + 1) if size % d == 0]
    return sorted({*small, *(size // d for d in small)})


def _products_up_to(choices: list[list[int]], room: int) -> Integers:
    """All vectors of choices whose product is at most `room`."""
    vectors = np.ones((1, 0), np.int64)
    products = np.ones(1, np.int64)
    for options in choices:
        grown = products[:, None] * np.array(options)[None, :]
        rows, columns = np.nonzero(grown <= room)
        chosen = np.array(options)[columns]
        vectors = np.column_stack([vectors[rows], chosen])
        products = grown[rows, columns]
    return vectors


def _lattice(
    divisors: list[list[int]], shape: tuple[int, ...]
) -> tuple[Integers, Integers, Integers, Integers, int]:
    """`Problem.place`, `packed`, `fields`, `axes`, `guards`; of so many tiles 62 bits hold any."""
    place, packed = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    fields = np.zeros(shape[0], np.int64)
    axes: list[tuple[int, int, int]] = []
    stride, bit, guards = 1, 0, 0
    for dim, options in enumerate(divisors):
        for prime, power in _prime_powers(options[-1]):
            exponents = np.array([_exponent(d, prime) for d in options], np.int64)
            place[dim, : len(options)] += exponents * stride
            packed[dim, : len(options)] += exponents << bit
            axes.append((dim, power + 1, stride))
            stride *= power + 1
            fields[dim] |= (1 << power.bit_length()) - 1 << bit
            bit += power.bit_length() + 1
            guards |= 1 << (bit - 1)
    return place, packed, fields, np.array(axes, np.int64).reshape(-1, 3), guards


def _prime_powers(size: int) -> Iterator[tuple[int, int]]:
    prime = 2
    while size > 1:
        if prime * prime > size:
            prime = size
        power = _exponent(size, prime)
        if power:
            yield prime, power
        size //= prime**power
        prime += 1


def _exponent(number: int, prime: int) -> int:
    power = 0
    while number % prime == 0:
        number //= prime
        power += 1
    return power


@dataclass(frozen=True, slots=True)
class _Sliding:
    """A rank of two dims, or of one that is padded, with its tables."""

    operand: int
    a: int
    b: int
    steps: tuple[int, int]
    padded: bool
    largest: Floats
    visits: Floats
    spills: Mask
    within: Mask
    placed: Integers
    start: Integers
    floor: Floats
    stay_floor: Floats
    kept_a: Floats
    kept_b: Floats
    joint: Floats
    single: Floats
    joint_a: Floats
    joint_b: Floats


@dataclass(frozen=True, slots=True)
class _Maker:
    workload: Workload
    hardware: Hardware
    dims: list[str]
    divisors: list[list[int]]
    any_order_counts: bool

    def problem(self) -> Problem:
        operands, levels = self.workload.operands, self.hardware.levels
        values = max([len(d) for d in self.divisors], default=1)
        val = np.zeros((len(self.dims) + 1, values), np.int64)
        quo = np.full((len(self.dims) + 1, values, values), -1, np.int64)
        for index, divisors in enumerate([*self.divisors, [1]]):
            val[index, : len(divisors)] = divisors
            for i, outer in enumerate(divisors):
                for j, inner in enumerate(divisors):
                    if outer % inner == 0:
                        quo[index, i, j] = divisors.index(outer // inner)
        place, packed, fields, axes, guards = _lattice(self.divisors, val.shape)
        ranks = [
            self.rank(index, rank)
            for index, operand in enumerate(operands)
            for rank in operand.ranks
            if self.slides(rank)
        ]
        slides = 0
        for rank in ranks:
            if rank.b < len(self.dims):
                slides |= 1 << rank.a | 1 << rank.b
        sliders = {r.operand for r in ranks if r.b < len(self.dims)}
        bits = [float(o.bits) for o in self.workload.inputs] + [float(self.workload.psum_bits)]
        words = np.array([level.word_bits for level in levels], float)[:, None]
        share = np.array(bits)[None, :] / words
        reads = np.array([level.read_pj or 0.0 for level in levels])[:, None] * share
        writes = np.array([level.write_pj or 0.0 for level in levels])[:, None] * share
        updates = [
            (level.write_pj or 0.0) if level.update_pj is None else level.update_pj
            for level in levels
        ]
        output = self.workload.output
        rooms, shared = self.rooms()
        return Problem(
            sizes=np.array([d[-1] for d in self.divisors], float),
            val=val,
            quo=quo,
            place=place,
            axes=axes,
            packed=packed,
            fields=fields,
            guards=guards,
            uses=np.array([self.uses(operand) for operand in operands], np.int64),
            slides=slides,
            slider=-2 if len(sliders) > 1 or self.any_order_counts else max(sliders, default=-1),
            plain=np.array([self.plain(operand) for operand in operands]),
            distinct=np.array([float(operand_words(o, self.workload)) for o in operands]),
            rank_op=np.array([r.operand for r in ranks], np.int64),
            rank_a=np.array([r.a for r in ranks], np.int64),
            rank_b=np.array([r.b for r in ranks], np.int64),
            step_a=np.array([r.steps[0] for r in ranks], np.int64),
            step_b=np.array([r.steps[1] for r in ranks], np.int64),
            padded=np.array([r.padded for r in ranks], np.bool_),
            largest=_stack([r.largest for r in ranks], 2),
            visits=_stack([r.visits for r in ranks], 2),
            spills=_stack([r.spills.astype(float) for r in ranks], 2) > 0,
            spills_within=_stack([r.within.astype(float) for r in ranks], 2) > 0,
            spilling=any(bool(r.spills.any()) for r in ranks),
            placed=np.concatenate([np.zeros(0, np.int64), *(r.placed for r in ranks)]),
            placed_start=_places(ranks),
            floor=_stack([r.floor for r in ranks], 2),
            stay_floor=_stack([r.stay_floor for r in ranks], 2),
            kept_a=_stack([r.kept_a for r in ranks], 4),
            kept_b=_stack([r.kept_b for r in ranks], 4),
            joint=_stack([r.joint for r in ranks], 4),
            single=_stack([r.single for r in ranks], 4),
            joint_a=_stack([r.joint_a for r in ranks], 5),
            joint_b=_stack([r.joint_b for r in ranks], 5),
            read=reads,
            write=writes,
            update=np.array(updates)[:, None] * share,
            finished=1.0 - output.bits / self.workload.psum_bits,
            rebate=1.0,
            hop=np.array([level.fanout.hop_pj for level in levels]),
            multicast=np.array([level.fanout.multicast for level in levels]),
            reduction=np.array([level.fanout.reduction for level in levels]),
            bits=np.array(bits),
            read_width=_widths(levels, [level.read_bandwidth for level in levels]),
            write_width=_widths(levels, [level.write_bandwidth for level in levels]),
            width=_widths(levels, [level.bandwidth for level in levels]),
            room=rooms,
            shared=shared,
            store_bits=np.array(
                [float(min(o.bits, b)) for o, b in zip(operands, bits, strict=True)]
            ),
            macs=float(self.workload.macs),
            mac_pj=float(self.workload.macs * (self.hardware.compute.pj or 0)),
            leak=math.fsum(
                level.leak_pj_per_cycle * self.hardware.instances(i)
                for i, level in enumerate(levels)
            ),
        )

    def slides(self, rank: Rank) -> bool:
        return rank.data is not None or len(self.moving(rank)) > 1

    def moving(self, rank: Rank) -> list[tuple[int, int]]:
        """Dims of a rank with a size above 1, as (index, coefficient)."""
        return [(self.dims.index(t.dim), t.coefficient) for t in rank.terms if t.dim in self.dims]

    def uses(self, operand: Operand) -> int:
        return sum(1 << i for i, dim in enumerate(self.dims) if dim in operand.dims)

    def plain(self, operand: Operand) -> float:
        indices = [
            index
            for rank in operand.ranks
            if not self.slides(rank)
            for index, _ in self.moving(rank)
        ]
        return float(math.prod(self.divisors[index][-1] for index in indices))

    def rooms(self) -> tuple[Floats, Floats]:
        operands = self.workload.operands
        room = np.full((len(self.hardware.levels), len(operands)), np.inf)
        shared = np.full(len(self.hardware.levels), np.inf)
        for index, level in enumerate(self.hardware.levels):
            if isinstance(level.capacity, tuple):
                room[index] = [float(level.usable_bits(o.name) or 0) for o in operands]
            elif level.capacity is not None:
                shared[index] = float(level.usable_bits() or 0)
        return room, shared

    def rank(self, operand: int, rank: Rank) -> _Sliding:
        dims = self.moving(rank)
        dims += [(len(self.dims), 1)] * (2 - len(dims))
        lists = [*self.divisors, [1]]
        dims.sort(key=lambda pair: -len(lists[pair[0]]))
        (a, step_a), (b, step_b) = dims[0], dims[1]
        own, other = np.array(lists[a], np.int64), np.array(lists[b], np.int64)
        reach = step_a * (int(own[-1]) - 1) + step_b * (int(other[-1]) - 1) + 1
        data = rank.data or (0, reach)
        steps, turned = (step_a, step_b), (step_b, step_a)
        largest, visits, spills, placed, start = sliding.tile_tables(own, other, steps, data)
        kept_a = sliding.kept_table(own, other, steps, data)
        kept_b = sliding.kept_table(other, own, turned, data)
        most = self.most_copies(), self.most_copies()
        joint = single = np.zeros((1,) * 4)
        joint_a = joint_b = np.zeros((1,) * 5)
        if rank.data is not None:  # else instances with equal tiles have equal words
            joint, single, joint_a = sliding.joint_tables(own, other, steps, data, most)
            _, _, joint_b = sliding.joint_tables(other, own, turned, data, most)
        distinct = float(largest[-1, -1])
        floor, stay_floor = listing.rank_floors(
            own, other, steps, distinct, visits, largest, kept_a, kept_b
        )
        within = _or_inside(spills, own, other)
        floor[spills] = stay_floor[within] = distinct
        return _Sliding(
            operand, a, b, steps, rank.data is not None, largest, visits, spills, within, placed,
            start, floor, stay_floor, kept_a, kept_b, joint, single, joint_a, joint_b,
        )  # fmt: skip

    def most_copies(self) -> int:
        """Copies that a dim may be unrolled to, at most."""
        return max((level.fanout.copies for level in self.hardware.levels), default=1)


def _or_inside(flags: Mask, own: Integers, other: Integers) -> Mask:
    """(t, s) whether a flag is set for a tile of `own[t]` by `other[s]` or for one inside."""
    along_a, along_b = own[:, None] % own[None, :] == 0, other[:, None] % other[None, :] == 0
    return along_a.astype(np.int64) @ flags.astype(np.int64) @ along_b.astype(np.int64).T > 0


def _stack(tables: list[Floats], axes: int) -> Floats:
    """Tables of one kind in one array, 0 beyond their own sizes."""
    if not tables:
        return np.zeros((0,) + (1,) * axes)
    shape = tuple(max(table.shape[axis] for table in tables) for axis in range(axes))
    stacked = np.zeros((len(tables), *shape))
    for index, table in enumerate(tables):
        stacked[(index, *(slice(0, length) for length in table.shape))] = table
    return stacked


def _places(ranks: list[_Sliding]) -> Integers:
    """Where the words of a tile's size begin in `Problem.placed`, -1 for ranks without padding."""
    ends = np.cumsum([0, *(len(r.placed) for r in ranks)])
    starts = [
        (r.start + end if r.padded else np.full_like(r.start, -1)).astype(float)
        for r, end in zip(ranks, ends[:-1], strict=True)
    ]
    return _stack(starts, 2).astype(np.int64)


def _share_inputs(
    problem: Problem, rank: int, n: int, m: int
) -> tuple[
    Integers,
    Integers,
    tuple[int, int],
    float,
    tuple[Floats, Floats, Floats, Mask],
    Floats,
    Floats,
    Floats,
    Floats,
]:
    """The tables of one rank, of dims with n and m divisors, for `listing.rank_shares`."""
    own, other = problem.val[problem.rank_a[rank], :n], problem.val[problem.rank_b[rank], :m]
    steps = int(problem.step_a[rank]), int(problem.step_b[rank])
    largest = problem.largest[rank, :n, :m]
    tables = problem.floor[rank], problem.visits[rank], problem.largest[rank], problem.spills[rank]
    return (
        own,
        other,
        steps,
        float(largest[-1, -1]),
        tables,
        problem.joint[rank],
        problem.joint_a[rank],
        problem.joint_b[rank],
        problem.single[rank],
    )


def _widths(levels: tuple[Level, ...], bandwidths: list[float | None]) -> Floats:
    return np.array(
        [
            math.inf if bandwidth is None else bandwidth * level.word_bits
            for level, bandwidth in zip(levels, bandwidths, strict=True)
        ]
    )


def _least_inside(template: Template, stage: int, distinct: Floats) -> float:
    """The least of `kernels.inner_floor` over all tiles of a boundary."""
    low, high = template.tile_start[stage], template.tile_start[stage + 1]
    least = float(template.moving[stage].min())
    for o in range(template.keeps.shape[1]):
        stays = template.staying[stage, o].min() + template.stay_offset[stage, o]
        held = template.may_wait[low:high, o]
        arriving = np.where(held, distinct[o], template.still[low:high, o]).min()
        least = min(least, float(stays + template.stay_slope[stage, o] * arriving))
    return least


def root_floors(template: Template, problem: Problem) -> Floats:
    """(G,) the least energy of all edges and of the MACs' words, by class of cycles."""
    if len(template.level) == 1:
        return template.moving[0].copy()
    stays = template.stay_slope[0] * problem.distinct + template.stay_offset[0]
    return np.minimum(template.moving[0], (template.staying[0] + stays[:, None]).min(axis=0))


def without_classes(template: Template, kept: Mask, problem: Problem) -> Template:
    """A template with some classes of cycles only, and the unrollings in them.

    Args:
        template: with a fan-out whose unrollings are classed.
        kept: (G,) the classes to keep.
        problem: what it was made for.
    """
    starts, primary = template.spread_start, template.primary
    chosen = np.ones(len(template.group), np.bool_)
    chosen[starts[primary] : starts[primary + 1]] = kept[
        template.group[starts[primary] : starts[primary + 1]]
    ]
    group = template.group.copy()
    group[starts[primary] : starts[primary + 1]] = (np.cumsum(kept) - 1)[
        group[starts[primary] : starts[primary + 1]]
    ]
    of_unrollings = {
        name: getattr(template, name)[chosen]
        for name in (
            "spreads",
            "copies",
            "phis",
            "saved",
            "mac_floor",
            "missed",
            "cycles",
            "leading",
        )
    }
    ends = np.concatenate([[0], np.cumsum(chosen)])[starts]
    macs = template.least_macs.copy()
    macs[primary] = of_unrollings["mac_floor"][ends[primary] : ends[primary + 1]].min()
    narrow = template._replace(
        **of_unrollings,
        spread_start=ends.astype(np.int64),
        group=group[chosen],
        group_cycles=template.group_cycles[kept],
        moving=template.moving[:, kept],
        staying=template.staying[:, :, kept],
        row_best=template.row_best[:0, :, kept],
        row_known=template.row_known[:0],
        inside=template.inside[:0, :, kept],
        least_macs=macs,
        least_inside=template.least_inside.copy(),
    )
    narrow = _in_order(narrow)
    for stage in range(1, len(template.level)):
        narrow.least_inside[stage] = _least_inside(narrow, stage, problem.distinct)
    return narrow


def alike_spreads(
    template: Template, problem: Problem, stage: int, most_cycles: float
) -> lattice.Alike | None:
    """The unrollings of a stage that do not take too many cycles; `None` if all do.

    They are put together by what they unroll along dims without a loop in the stage, then by all
    that bounds of edges look at.
    """
    low, high = int(template.spread_start[stage]), int(template.spread_start[stage + 1])
    none, one = np.zeros(1, np.int64), np.arange(2)
    if low == high:
        return lattice.Alike(none, none, one, one, none - 1, none, none)
    spread = low + np.nonzero(template.cycles[low:high] <= most_cycles)[0]
    if not len(spread):
        return None
    dims = np.arange(len(problem.sizes))
    bare = dims[template.bare[stage] >> dims & 1 > 0]
    vectors = template.spreads[spread]
    codes, places, bare_codes, bare_places = (
        sum((table[dim, vectors[:, dim]] for dim in which), np.zeros(len(spread), np.int64))
        for which in (dims, bare)
        for table in (problem.packed, problem.place)
    )
    looked_at = np.column_stack(
        [
            bare_places,
            template.mac_floor[spread],
            template.phis[spread],
            template.saved[spread],
            template.group[spread],
        ]
    )
    others = looked_at[:, 2:] @ _WEIGHTS[: looked_at.shape[1] - 2]
    order = np.lexsort((others, looked_at[:, 1], looked_at[:, 0]))
    looked_at = looked_at[order]
    new = np.append(True, (looked_at[1:] != looked_at[:-1]).any(axis=1))
    start = np.nonzero(new)[0]
    parts = np.nonzero(np.append(True, np.diff(looked_at[start, 0]) != 0))[0]
    heads = order[start[parts]]
    return lattice.Alike(
        bare_codes[heads],
        bare_places[heads],
        np.append(parts, len(start)),
        np.append(start, len(order)),
        spread[order],
        codes[order],
        places[order],
    )


_OF_TILES = ("tiles", "fills", "quick", "quick_total", "front", "rent")


def with_tiles(template: Template, chosen: Mask) -> Template:
    """A template with some of its tiles only."""
    whole = np.append(chosen, True)  # the workload itself, outside of all tiles
    counts = np.concatenate([[0], np.cumsum(chosen)])
    room = template.inside[chosen] if len(template.inside) else template.inside
    return _in_order(
        template._replace(
            **{name: getattr(template, name)[chosen] for name in _OF_TILES},
            still=template.still[whole],
            may_wait=template.may_wait[whole],
            tile_start=counts[template.tile_start],
            row_best=template.row_best[:0],
            row_known=template.row_known[:0],
            inside=room,
        )
    )


def with_bounds(template: Template) -> Template:
    """A template with room for the bounds of single tiles that it lacks."""
    tiles, (_, sums, groups) = len(template.tiles), template.row_best.shape
    room = template.inside
    return template._replace(
        row_best=np.empty((tiles, sums, groups)),
        row_known=np.zeros(tiles, np.bool_),
        inside=room if len(room) == tiles else np.empty((tiles, room.shape[1], groups)),
    )


_WEIGHTS = np.sqrt(np.arange(2.0, 66.0))
"""Of what bounds look at, in a sum that hardly any two unrollings that differ share."""

_Moves = tuple[float, list[Floats]]
"""A bound of words that move, all unrollings being at their best, and by stage what each adds."""


def _least_product(times: float, factors: list[Floats]) -> _Moves:
    """The least product of one factor of each list, and what each adds to it beside the others.

    Π aₖ is at least Π bₖ + Σₖ (aₖ − bₖ)·Πⱼ≠ₖ bⱼ where a ≥ b ≥ 0.
    """
    least = [float(values.min(initial=math.inf)) if len(values) else 1.0 for values in factors]
    whole = times * math.prod(least)
    return whole, [whole * (v / b - 1.0) for v, b in zip(factors, least, strict=True)]


def _most_product(times: float, factors: list[Floats]) -> _Moves:
    """The largest product of one factor of each list, and what each takes from it at least."""
    most = [float(values.max(initial=1.0)) for values in factors]
    least = [float(values.min()) if len(values) else 1.0 for values in factors]
    fewer = [
        times * math.prod(least) / b * (a - v) for a, b, v in zip(most, least, factors, strict=True)
    ]
    return times * math.prod(most), fewer


def _without_firsts(reads: _Moves, firsts: _Moves, primary: int) -> _Moves:
    """The fewest reads of partial sums, as first touches read none, and what each adds to them.

    If they may all be first touches, one fan-out alone can be charged.
    """
    least = reads[0] - firsts[0]
    more = [a + b for a, b in zip(reads[1], firsts[1], strict=True)]
    if least >= 0:
        return least, more
    charged = [np.zeros(len(mine)) for mine in more]
    if primary >= 0:
        charged[primary] = np.maximum(0.0, least + more[primary])
    return 0.0, charged


class _Features(NamedTuple):
    """What bounds use of every unrolling of a stage.

    Attributes:
        phis: (M, O) copies of an operand's words.
        shares: (M, O) the smallest share of its words that is read, wherever they go.
        near: (M, O) the same for tiles next to the fan-out; macs: (M, O) for MACs.
        copies: (M,) instances in use.
        vectors: (M, D + 1) indices of the extent of every dim.
    """

    phis: Floats
    shares: Floats
    near: Floats
    macs: Floats
    copies: Floats
    vectors: Small

    def chosen(self, rows: Integers) -> "_Features":
        """Some of them."""
        return _Features(
            self.phis[rows],
            self.shares[rows],
            self.near[rows],
            self.macs[rows],
            self.copies[rows],
            self.vectors[rows],
        )


@dataclass(frozen=True, slots=True)
class _TemplateMaker:
    preparation: Preparation
    stages: list[Stage]
    keeps: NDArray[np.bool_]
    lists: Sequence[_TileList]
    spreads: list[Spreads | None]
    by_cycles: bool
    most: float
    rents: tuple[float, ...]

    @property
    def problem(self) -> Problem:
        return self.preparation.problem

    def template(self) -> Template | None:
        problem, count = self.problem, len(self.stages)
        operands = len(problem.uses)
        spread_start = np.cumsum([0, *(0 if s is None else len(s.vectors) for s in self.spreads)])
        features = [self.features(k) for k in range(count)]
        primary = self.primary()
        features = self.cheapest_first(features, primary)
        phis = np.concatenate([f.phis for f in features])
        saved = np.concatenate([f.near for f in features])
        group, cycles, each = self.groups(features, primary)
        coefficients = self.coefficients(features)
        mac_floor, constant = self.mac_floors(features, primary)
        missed = np.concatenate([self.missed(k, features) for k in range(count)])
        leading = self.leading(phis, saved, mac_floor, group, spread_start)
        tiles = [np.zeros((0, len(problem.sizes) + 1), np.int16)]
        fills, still, quick = ([np.zeros((0, operands))] for _ in range(3))
        waiting, fronts, owed = (
            [np.zeros((0, operands), np.bool_)],
            [np.zeros(0, np.bool_)],
            [np.zeros(0)],
        )
        least_macs = [
            0.0 if spread is None else float(mac_floor[low:high].min())
            for spread, (low, high) in zip(
                self.spreads, itertools.pairwise(spread_start), strict=True
            )
        ]
        slopes, offsets = self.stay_lines(coefficients)
        spare = self.most - constant - sum(least_macs)
        lists = self.affordable(features, coefficients, (slopes, offsets), spare)
        if not all(map(len, lists)):
            return None
        tile_start = np.cumsum([0, 0, *map(len, lists)])
        for c, listed in enumerate(lists, start=1):
            cheap, rent = self.edge_costs(c, listed, features, coefficients), self.rent(c, listed)
            order = np.argsort(cheap.sum(axis=1) + rent, kind="stable")
            found = listed.chosen(order)
            tiles.append(found.tiles)
            fills.append(found.of_all(found.moving))
            still.append(found.of_all(found.staying))
            waiting.append(self.may_wait(c, found))
            quick.append(cheap[order])
            owed.append(rent[order])
            arrived = np.where(waiting[-1], problem.distinct, still[-1])
            looked_at = np.column_stack([quick[-1][:, self.keeps[c]], arrived, owed[-1]])
            fronts.append(
                self.preparation.long(
                    len(found), partial(listing.front, np.ascontiguousarray(looked_at))
                )
            )
        groups = len(cycles)
        still.append(problem.distinct[None, :])  # the whole workload, outside of everything
        waiting.append(np.ones((1, operands), np.bool_))
        template = Template(
            level=np.array([s.level for s in self.stages], np.int64),
            fan=np.array([s.fan for s in self.stages], np.int64),
            fixed=self.preparation.pins.extents(self.stages),
            order=self.preparation.pins.orders(self.stages),
            bare=self.bare(),
            may_stay=self.may_stay(),
            keeps=self.keeps,
            tile_start=np.array(tile_start, np.int64),
            tiles=np.concatenate(tiles).astype(np.int64),
            fills=np.concatenate(fills),
            still=np.concatenate(still),
            may_wait=np.concatenate(waiting),
            fan_copies=np.array([self.fan_copies(k) for k in range(count)]),
            spread_start=np.array(spread_start, np.int64),
            spreads=np.concatenate([f.vectors for f in features]).astype(np.int64),
            copies=np.concatenate([f.copies for f in features]),
            phis=phis,
            saved=saved,
            mac_floor=mac_floor,
            missed=missed,
            group=group,
            cycles=each,
            least_cycles=self.least_cycles(features),
            group_cycles=cycles,
            primary=primary,
            quick=np.ascontiguousarray(np.concatenate(quick)),
            row_best=np.empty((0, operands + 1, groups)),
            row_known=np.zeros(0, np.bool_),
            quick_total=np.concatenate(quick).sum(axis=1) + np.concatenate(owed),
            least_inside=np.zeros(count + 1),
            front=np.concatenate(fronts),
            leading=leading,
            least_macs=np.array(least_macs),
            moving=np.full((count, groups), np.inf),
            staying=np.full((count, operands, groups), np.inf),
            inside=np.empty((0, 2 * operands + 1, groups)),
            stay_slope=slopes,
            stay_offset=offsets,
            idle_words=self.idle_words(),
            rent=np.concatenate(owed),
            **coefficients,
            **self.mac_bits(features, primary),
        )
        template = _in_order(template)
        template.moving[count - 1, :] = constant
        if self.spreads[-1] is not None:
            low, high = spread_start[-2], spread_start[-1]
            for g in range(groups):
                mine = mac_floor[low:high]
                if primary == count - 1:
                    mine = mine[group[low:high] == g]
                template.moving[count - 1, g] = constant + mine.min()
        for stage in range(count - 1, 0, -1):
            template.least_inside[stage] = _least_inside(template, stage, problem.distinct)
            room = np.zeros(groups), np.zeros(operands)
            self.preparation.long(
                len(template.tiles),
                partial(kernels.stage_floors, problem, template, stage - 1, *room),
            )
        return template

    def least_energy(self) -> float:
        """See `Preparation.least_energy`."""
        features = [self.features(k) for k in range(len(self.stages))]
        primary = self.primary()
        coefficients = self.coefficients(features)
        macs, constant = self.mac_floors(features, primary)
        ends = np.cumsum([len(f.copies) for f in features])[:-1].tolist()
        least = constant + sum(float(mine.min()) for mine in np.split(macs, ends) if len(mine))
        slopes, offsets = self.stay_lines(coefficients)
        for c in range(1, len(self.stages)):
            tables = [values[c] for values in coefficients.values()]
            near = features[c - 1]
            key = (
                self.boundary(c),
                self.keeps[c].tobytes(),
                b"".join(values.tobytes() for values in tables),
                near.phis.max(axis=0, initial=0.0).tobytes(),
                near.near.min(axis=0, initial=1.0).tobytes(),
                self.stages[c - 1].fan,
                slopes[c - 1].tobytes() + offsets[c - 1].tobytes(),
            )
            known = self.preparation.least_edges
            if key not in known:
                floors = self.edge_floors(c, features, coefficients, (slopes, offsets))
                known[key] = float(floors.min())
            least += known[key]
        return least

    def boundary(self, c: int) -> object:
        """What decides which tiles a boundary has."""
        if isinstance(self.lists, _Lists) and self.preparation.pins.fix is None:
            return self.lists.key(c - 1)
        return tuple(self.stages), c  # of all fixes this is the one

    def edge_costs(
        self,
        c: int,
        found: _TileList,
        features: list[_Features],
        coefficients: dict[str, Floats],
    ) -> Floats:
        """The least energy of every operand's edge into tiles, whatever is unrolled."""
        lines = self.edge_lines(c, features[c - 1], coefficients)
        return listing.edge_costs(found.numbers, found.table.moving, lines)

    def edge_floors(
        self,
        c: int,
        features: list[_Features],
        coefficients: dict[str, Floats],
        lines: tuple[Floats, Floats],
    ) -> Floats:
        """The least energy of the edges into every tile of a boundary; one operand may stay.

        `lines` are slopes and offsets: see `stay_lines`.
        """
        found, (slopes, offsets) = self.lists[c - 1], lines
        stays = slopes[c - 1] * self.problem.distinct + offsets[c - 1]
        moving = self.edge_lines(c, features[c - 1], coefficients)
        return listing.edge_floors(found.numbers, found.table.moving, moving, stays)

    def rent(self, c: int, found: _TileList) -> Floats:
        """What each tile is charged for its room, less its share of what there is."""
        level = self.stages[c].level
        blocks = sum(stage.level == level for stage in self.stages)
        if not self.rents or not self.rents[level] or blocks == 1:
            return np.zeros(len(found))
        words = found.of_all(found.words)
        taken = words[:, self.keeps[c]] @ self.problem.store_bits[self.keeps[c]]
        return self.rents[level] * (taken - self.problem.shared[level] / blocks)

    def affordable(
        self,
        features: list[_Features],
        coefficients: dict[str, Floats],
        lines: tuple[Floats, Floats],
        most: float,
    ) -> Sequence[_TileList]:
        """The tiles whose edges leave enough for those of all others."""
        if most == math.inf:
            return self.lists
        floors = [
            self.edge_floors(c, features, coefficients, lines) for c in range(1, len(self.stages))
        ]
        spare = most - sum(float(floor.min()) for floor in floors)
        return [
            found.chosen(np.nonzero(floor - floor.min() <= spare)[0])
            for found, floor in zip(self.lists, floors, strict=True)
        ]

    def features(self, stage: int) -> _Features:
        """Of every unrolling: copies of operands, share read, instances, and the vectors."""
        problem, spread = self.problem, self.spreads[stage]
        operands, dims = len(problem.uses), len(problem.sizes)
        if spread is None:
            empty = np.zeros((0, operands))
            none = np.zeros((0, dims + 1), np.int16)
            return _Features(empty, empty, empty, empty, np.zeros(0), none)
        extents = np.stack(
            [problem.val[dim][spread.vectors[:, dim]] for dim in range(dims)], axis=1
        ).astype(float) if dims else np.ones((len(spread.vectors), 0))  # fmt: skip
        phis = np.ones((len(extents), operands))
        for operand in range(operands):
            free = [dim for dim in range(dims) if not problem.uses[operand] >> dim & 1]
            phis[:, operand] = extents[:, free].prod(axis=1)
        copies = extents.prod(axis=1)
        if not problem.multicast[self.stages[stage].fan]:
            ones = np.ones_like(phis)
            return _Features(phis, ones, ones, ones, copies, spread.vectors)
        shares = 1.0 / phis
        near, macs = shares.copy(), shares.copy()
        for rank, operand in enumerate(problem.rank_op):
            a, b = problem.rank_a[rank], problem.rank_b[rank]
            if b == dims:
                continue
            x, y = extents[:, a], extents[:, b]
            if self.unrolled_elsewhere(stage, a) or self.unrolled_elsewhere(stage, b):
                # Instances of other fan-outs stand at one place, too: at most √(x·y) of each.
                for share in (shares, near, macs):
                    share[:, operand] /= np.sqrt(x * y)
                continue
            both = (x > 1) & (y > 1)
            few = 1.0 / np.minimum(x, y) if problem.padded[rank] else (x + y - 1) / (x * y)
            shares[:, operand] *= np.where(both, few, 1.0)
            here, there = self.padded_shares(rank, stage)
            at = spread.vectors[:, a], spread.vectors[:, b]
            near[:, operand] *= np.where(both, np.maximum(few, here[at]), 1.0)
            macs[:, operand] *= np.where(both, np.maximum(few, there[at]), 1.0)
        return _Features(phis, shares, near, macs, copies, spread.vectors)

    def unrolled_elsewhere(self, stage: int, dim: int) -> bool:
        """Whether another fan-out that multicasts may unroll a dim."""
        return any(
            spread is not None and bool((self.problem.val[dim][spread.vectors[:, dim]] > 1).any())
            for other, spread in enumerate(self.spreads)
            if other != stage and self.problem.multicast[self.stages[other].fan]
        )

    def padded_shares(self, rank: int, stage: int) -> tuple[Floats, Floats]:
        """(A, B) by extents: the smallest share that is read next to a fan-out, and for MACs.

        0 where nothing better is known than how many instances there are at one place.
        """
        moved, alone = self.preparation.shares[rank]
        none = np.zeros_like(moved)
        if sum(s.fan >= 0 for s in self.stages) > 1:
            return none, none  # instances of others may stand at the same place
        return moved, moved if stage == len(self.stages) - 1 else alone

    def cheapest_first(self, features: list[_Features], primary: int) -> list[_Features]:
        """The unrollings of every stage, those first whose MACs' words cost the least."""
        floors, _ = self.mac_floors(features, primary)
        ends = np.cumsum([len(f.copies) for f in features])
        orders = [np.argsort(mine, kind="stable") for mine in np.split(floors, ends[:-1].tolist())]
        return [f.chosen(order) for f, order in zip(features, orders, strict=True)]

    def primary(self) -> int:
        fans = [k for k, s in enumerate(self.stages) if s.fan >= 0]
        levels = self.preparation.hardware.levels
        return max(fans, key=lambda k: levels[self.stages[k].fan].fanout.copies, default=-1)

    def groups(self, features: list[_Features], primary: int) -> tuple[Integers, Floats, Floats]:
        """Classes of the primary fan-out's unrollings, their least cycles, and everyone's."""
        most = [float(f.copies.max()) if len(f.copies) else 1.0 for f in features]
        least = self.compulsory_cycles()
        rows = [
            np.maximum(
                least, np.ceil(self.problem.macs / (f.copies * math.prod(most) / most[k]) - 1e-6)
            )
            for k, f in enumerate(features)
        ]
        groups = [np.zeros(len(f.copies), np.int64) for f in features]
        whole = math.ceil(self.problem.macs / math.prod(most) - 1e-6)
        cycles = np.array([max(least, whole)], float)
        if primary >= 0 and self.by_cycles:
            cycles, groups[primary] = np.unique(rows[primary], return_inverse=True)
        return np.concatenate(groups), cycles, np.concatenate(rows)

    def compulsory_cycles(self) -> float:
        """Cycles in which the outermost memory's ports move every word once."""
        problem = self.problem
        bits = problem.distinct * problem.bits
        bits[-1] *= 1.0 - problem.finished
        read, write = float(bits[:-1].sum()), float(bits[-1])
        ports = (
            read / problem.read_width[0],
            write / problem.write_width[0],
            (read + write) / problem.width[0],
        )
        return math.ceil(max(ports) - 1e-6)

    def least_cycles(self, features: list[_Features]) -> Floats:
        most = [float(f.copies.max()) if len(f.copies) else 1.0 for f in features]
        return np.array(
            [self.problem.macs / math.prod(most[k:]) for k in range(len(self.stages) + 1)]
        )

    def parent(self, c: int, operand: int) -> int:
        return max(k for k in range(c) if self.keeps[k, operand])

    def coefficients(self, features: list[_Features]) -> dict[str, Floats]:
        """Energy per word of every edge in pJ, fan-outs not next to the child at their best."""
        problem, count = self.problem, len(self.stages)
        operands = len(problem.uses)
        names = ("fill", "load", "merge", "first_fill", "first_load", "discount")
        found = {name: np.zeros((count + 1, operands)) for name in names}
        for c in range(1, count):
            down = self.stages[c].level
            for o in range(operands):
                if not self.keeps[c, o]:
                    continue
                parent = self.parent(c, o)
                up = self.stages[parent].level
                share = merged = spread_out = 1.0
                outside = 1.0
                for k in range(c - 1):
                    if len(features[k].phis):
                        spread_out *= float(features[k].phis[:, o].max())
                        if k >= parent:
                            share *= float(features[k].shares[:, o].min())
                            if problem.reduction[self.stages[k].fan]:
                                merged /= float(features[k].phis[:, o].max())
                        else:
                            outside *= float(features[k].phis[:, o].max())
                found["fill"][c, o] = problem.write[down, o]
                found["load"][c, o] = problem.read[up, o] * share
                if o == operands - 1:
                    found["merge"][c, o] = problem.update[up, o] * merged
                    found["first_fill"][c, o] = problem.distinct[o] * spread_out
                    found["first_load"][c, o] = problem.distinct[o] * spread_out
                    found["discount"][c, o] = (
                        problem.finished
                        * problem.rebate
                        * problem.distinct[o]
                        * (problem.read[down, o] + problem.update[up, o])
                    )
        return found

    def mac_floors(self, features: list[_Features], primary: int) -> tuple[Floats, float]:
        """The least energy of the MACs' words, by unrolling, and what no unrolling changes.

        Each unrolling is charged for what it makes dearer, all others being at their best.
        """
        rows, constant = [np.zeros(len(f.copies)) for f in features], 0.0
        for o in range(len(self.problem.uses)):
            for pj, (least, more) in self.mac_moves(o, features, primary):
                constant += pj * least
                rows = [row + pj * mine for row, mine in zip(rows, more, strict=True)]
        rows = [row + self.missed(k, features).sum(axis=1) for k, row in enumerate(rows)]
        return np.concatenate(rows), constant

    def mac_bits(self, features: list[_Features], primary: int) -> dict[str, Floats]:
        """`Template.mac_reads` and `mac_writes`."""
        found = np.zeros((2, len(self.problem.width)))
        for o, bits in enumerate(self.problem.bits):
            up = self.stages[self.parent(len(self.stages), o)].level
            for port, (_, (least, _)) in enumerate(self.mac_moves(o, features, primary)):
                found[port, up] += bits * least
        return {"mac_reads": found[0], "mac_writes": found[1]}

    def mac_moves(
        self, operand: int, features: list[_Features], primary: int
    ) -> Iterator[tuple[float, _Moves]]:
        """What MACs read of an operand, and of the output update, with the energy per word."""
        problem, words = self.problem, self.mac_words(operand)
        parent = self.parent(len(self.stages), operand)
        up = self.stages[parent].level
        one = [np.ones(len(f.copies)) for f in features]
        shares = [*one[:parent], *(f.macs[:, operand] for f in features[parent:])]
        reads = _least_product(words, shares)
        if operand < len(problem.uses) - 1:
            yield float(problem.read[up, operand]), reads
            return
        merged, apart = [*one], [f.phis[:, operand] for f in features]
        for k, stage in enumerate(self.stages):
            if k >= parent and stage.fan >= 0 and problem.reduction[stage.fan]:
                merged[k] = 1.0 / features[k].phis[:, operand]
            if k >= parent and stage.fan >= 0 and problem.multicast[stage.fan]:
                apart[k] = one[k]
        firsts = _most_product(problem.distinct[operand], apart)
        yield float(problem.read[up, operand]), _without_firsts(reads, firsts, primary)
        yield float(problem.update[up, operand]), _least_product(words, merged)

    def missed(self, stage: int, features: list[_Features]) -> Floats:
        """(M, K + 1) what an unrolling adds to edges further inside that take it at its best."""
        problem, output = self.problem, len(self.problem.uses) - 1
        phis, saved = features[stage].phis, features[stage].shares
        more = np.zeros((len(phis), len(self.stages) + 1))
        for c in range(stage + 2, len(self.stages) if len(phis) else 0):
            for o in range(output + 1):
                if not self.keeps[c, o]:
                    continue
                if o == output:
                    more[:, c] += self.fewer_firsts(stage, c, features)
                if self.parent(c, o) > stage:
                    continue
                words = problem.distinct[o] * phis[:, o]  # each copy of a word arrives once
                if self.stages[c].level == self.stages[c - 1].level:  # it never stays
                    words = np.maximum(words, float(self.lists[c - 1].moving(o).min()))
                others = [k for k in range(self.parent(c, o), c) if k != stage]
                up = self.stages[self.parent(c, o)].level
                if o < output:
                    words *= self.least_share(others, o, features) * problem.read[up, o]
                    more[:, c] += words * (saved[:, o] - saved[:, o].min())
                elif problem.reduction[self.stages[stage].fan]:
                    words *= self.least_merged(others, o, features) * problem.update[up, o]
                    more[:, c] += words * (1.0 / phis[:, o] - 1.0 / phis[:, o].max())
        return more

    def fewer_firsts(self, stage: int, c: int, features: list[_Features]) -> Floats:
        """(M,) what an unrolling lets an output's edge save less than the best, further inside.

        Every copy of a word has a first touch, which neither loads nor fills; only where there is
        no copy is a finished word narrower.
        """
        output = len(self.problem.uses) - 1
        phis, edges = features[stage].phis[:, output], self.coefficients(features)
        a_first = self.problem.distinct[output] * float(
            edges["fill"][c, output] + edges["load"][c, output]
        )
        charge = a_first * (phis.max() - phis)
        copying = [k for k in range(c) if features[k].phis[:, output].max(initial=1.0) > 1.0]
        if copying == [stage]:
            charge += np.where(phis > 1.0, edges["discount"][c, output], 0.0)
        return charge

    def least_share(
        self,
        stages: list[int],
        operand: int,
        features: list[_Features],
    ) -> float:
        """The smallest share of an operand's words that is read for fan-outs of some stages."""
        shares = [features[k].shares[:, operand].min() for k in stages if len(features[k].phis)]
        return math.prod(map(float, shares))

    def least_merged(
        self,
        stages: list[int],
        operand: int,
        features: list[_Features],
    ) -> float:
        """The smallest share of an operand's updates that fan-outs of some stages leave."""
        most = [
            features[k].phis[:, operand].max()
            for k in stages
            if len(features[k].phis) and self.problem.reduction[self.stages[k].fan]
        ]
        return 1.0 / math.prod(map(float, most))

    def mac_words(self, operand: int) -> float:
        problem = self.problem
        free = [
            size for dim, size in enumerate(problem.sizes) if not problem.uses[operand] >> dim & 1
        ]
        words = float(problem.plain[operand]) * math.prod(free)
        for rank, of in enumerate(problem.rank_op):
            if of == operand:
                words *= float(problem.visits[rank, 0, 0])
        return words

    def leading(
        self, phis: Floats, saved: Floats, macs: Floats, group: Integers, starts: Integers
    ) -> Mask:
        """Of the unrollings of a class, those that no other betters in all that bounds use."""
        chosen = np.zeros(len(group), np.bool_)
        copying = np.where(
            phis[:, -1:] > 1.0, 1.0, 0.0
        )  # where none is, finished words are narrower
        looked_at = np.column_stack([saved, -phis[:, -1:], copying, macs])
        for k in range(len(self.stages)):
            low, high = starts[k], starts[k + 1]
            for g in np.unique(group[low:high]):
                rows = low + np.nonzero(group[low:high] == g)[0]
                best = self.preparation.long(
                    len(rows), partial(listing.front, np.ascontiguousarray(looked_at[rows]))
                )
                chosen[rows[best]] = True
        return chosen

    def edge_lines(self, c: int, outside: _Features, coefficients: dict[str, Floats]) -> Floats:
        """(O, 11) what the energy of edges into a boundary is made from: `listing._edge_cost`."""
        problem = self.problem
        operands = len(problem.uses)
        fan = self.stages[c - 1].fan
        phi = outside.phis.max(axis=0) if len(outside.phis) else np.ones(operands)
        share = outside.near.min(axis=0) if len(outside.near) else np.ones(operands)
        fold = 1.0 / phi if fan >= 0 and problem.reduction[fan] else np.ones(operands)
        first = coefficients["first_fill"][c]
        columns = (
            self.keeps[c],
            coefficients["fill"][c],
            coefficients["load"][c],
            share,
            first * phi,
            coefficients["first_load"][c] * phi,
            first <= problem.distinct,
            problem.read[self.stages[c].level],
            fold,
            coefficients["merge"][c],
            coefficients["discount"][c],
        )
        return np.stack([np.asarray(column, float) for column in columns], axis=1)

    def may_wait(self, c: int, found: _TileList) -> Mask:
        """Whether what is next inside can hold all of an operand's tile, so that it may wait."""
        problem = self.problem
        held = np.zeros((len(found), len(problem.uses)), np.bool_)
        for o in range(len(problem.uses)):
            inside = [k for k in range(c + 1, len(self.stages)) if self.keeps[k, o]]
            if inside:
                copies = math.prod(self.fan_copies(k) for k in range(c, inside[0]))
                most = float(self.lists[inside[0] - 1].words(o).max()) * copies
                held[:, o] = found.words(o) <= most
        return held

    def fan_copies(self, stage: int) -> float:
        fan = self.stages[stage].fan
        return 1.0 if fan < 0 else float(self.preparation.hardware.levels[fan].fanout.copies)

    def stay_lines(self, coefficients: dict[str, Floats]) -> tuple[Floats, Floats]:
        """Energy per arrival of an operand that stays in a stage, and the offset."""
        problem, count = self.problem, len(self.stages)
        operands = len(problem.uses)
        slopes = np.zeros((count, operands))
        offsets = np.zeros((count, operands))
        for k in range(count - 1):
            c = k + 1
            fill, load = coefficients["fill"][c], coefficients["load"][c]
            slopes[k] = fill + load
            o = operands - 1
            down = self.stages[c].level
            if self.keeps[c, o]:
                slopes[k, o] += problem.read[down, o] + coefficients["merge"][c, o]
                offsets[k, o] = (
                    -coefficients["first_fill"][c, o] * fill[o]
                    - coefficients["first_load"][c, o] * load[o]
                    - coefficients["discount"][c, o]
                )
            if self.stages[c].level == self.stages[k].level:
                offsets[k, self.keeps[c]] = np.inf  # a block inside another's never stays
        return slopes, offsets

    def bare(self) -> Integers:
        """(K,) bit mask of the dims whose loops a stage leaves to the next one: see Lemma 11."""
        problem, masks = self.problem, np.zeros(len(self.stages), np.int64)
        preparation = self.preparation
        is_free = preparation.pins.fix is None and not preparation.space.uneven
        if not is_free or len(self.stages) < 2 or int(np.prod(preparation.counts)) < _BARE:
            return masks
        kept = problem.uses[self.keeps[-1]]
        for dim in range(len(preparation.dims)):
            sliding = bool((problem.rank_a == dim).any() or (problem.rank_b == dim).any())
            if not sliding and not (kept >> dim & 1).any():
                masks[-2] |= 1 << dim
        return masks

    def may_stay(self) -> Mask:
        """(K, O) whether a loop that a stage may have misses an operand."""
        dims = (1 << len(self.preparation.dims)) - 1
        return (dims & ~self.bare()[:, None] & ~self.problem.uses[None, :]) != 0

    def idle_words(self) -> Floats:
        """Words of the outermost memory for edges into boundaries further inside."""
        problem, count = self.problem, len(self.stages)
        words = np.zeros(count + 1)
        for k in range(count):
            for o in range(len(problem.uses)):
                if not any(self.keeps[c, o] for c in range(1, k + 1)):
                    words[k] += problem.distinct[o]
        return words
