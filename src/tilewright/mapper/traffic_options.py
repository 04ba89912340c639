"""The options of every coordinate of a class: what dims span in blocks, and what that costs.

Owns: the tables of `docs/traffic.md`, from roles of dims to chains of tile sizes, and what an
option does to tiles and to words moved.

Non-goals: searching the options (`mapper/traffic_search.py`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tilewright.mapper.traffic_ranks import (
    RankTables,
    ranges,
    rank_tables,
    tangle,
    tile_sizes,
)
from tilewright.mapper.traffic_search import Factors, Sums, undominated
from tilewright.mapper.traffic_subject import (
    NOBODY,
    Axis,
    OrderClass,
    Subject,
    bypassed_words,
)
from tilewright.model.limit import operand_words

Ints = NDArray[np.int64]
STILL, ALONG, SWEEP = 0, 1, 3
"""Kinds of options: nothing slides; ALONG + dim slides along it; SWEEP + the outer dim sweeps."""

_CHAINS = {
    (0, 0): "t11",
    (0, 1): "S11",
    (0, 2): "tt1",
    (0, 3): "rtt",
    (1, 0): "rt1",
    (1, 1): "St1",
    (1, 2): "tt1",
    (1, 3): "rtt",
    (2, 0): "rrt",
    (2, 1): "Srt",
    (2, 2): "rrt",
    (2, 3): "ttt",
}
"""By the sliding operand's place and a dim's role, what the dim spans inside the three blocks: its
size, a tile, the reach of a loop over tiles, or 1."""

_PLAIN_CHAINS = {0: "111", 1: "S11", 2: "tt1", 3: "ttt"}
"""The same for a dim of which the sliding operand's tiles are disjoint, whatever the place."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a coordinate may be.

    Attributes:
        axis: the coordinate.
        spans: `[option, dim, block]`: what each dim spans inside each block, outermost first.
        kinds: `[option]`: what slides; see `STILL`.
        factors: what an option does to tiles and costs, by operand.
    """

    axis: Axis
    spans: Ints
    kinds: Ints
    factors: Factors

    def only(self, rows: Ints | NDArray[np.bool_]) -> "Options":
        """The options of some rows."""
        factors = Factors(self.factors.tiles[rows], self.factors.costs[rows])
        return Options(self.axis, self.spans[rows], self.kinds[rows], factors)

    def with_cost(self, operand: int, value: int) -> "Options":
        """The same options if they cost an operand no more than `value`."""
        costs = self.factors.costs.copy()
        costs[:, operand] = value
        return replace(self, factors=Factors(self.factors.tiles, costs))

    def pick(self, row: int) -> tuple[Axis, tuple[tuple[int, ...], ...], int]:
        """One option: the coordinate, what its dims span, and what slides."""
        spans = tuple(tuple(chain) for chain in self.spans[row].tolist())
        return self.axis, spans, int(self.kinds[row])

    def undominated(self) -> "Options":
        """Those of which no other is at least as good."""
        return self.only(undominated(self.factors)) if len(self.kinds) else self


@dataclass(frozen=True, slots=True)
class ClassSpace:
    """One class and one mapspace: every coordinate with all of its options."""

    subject: Subject
    order_class: OrderClass
    imperfect: bool

    @property
    def place(self) -> int:
        """Which block, outermost first, is the sliding operand's."""
        return self.order_class.order.index(self.subject.sliding)

    def sums(self) -> Sums:
        """How products are weighed.

        The cost is the words that enter, of the output twice those less what is first touched;
        operands that bypass cost a word for each MAC.
        """
        work, bits, weights = self.subject.workload, [0] * 3, [0] * 3
        constant = 0
        accumulates = work.macs > operand_words(work.output, work)
        for number, operand in enumerate(work.operands):
            is_output = operand is work.output
            constant -= operand_words(operand, work) if is_output else 0
            if number in self.order_class.kept:
                bits[number] = work.psum_bits if is_output and accumulates else operand.bits
                weights[number] = self.subject.base_words[number] * (2 if is_output else 1)
            else:
                constant += bypassed_words(self.subject, number) * (2 if is_output else 1)
        return Sums((bits[0], bits[1], bits[2]), (weights[0], weights[1], weights[2]), constant)

    def chains(self, dim: str, *, plain: bool) -> Ints:
        """What a dim may span inside the three blocks; `[chain, block]`. See `docs/traffic.md`."""
        role = self.role(dim) if not self.order_class.even else 0
        pattern = _PLAIN_CHAINS[role] if plain else _CHAINS[self.place, role]
        if self.order_class.even:
            pattern = "ttt"
        return _chain_table(pattern, self.subject.sizes[dim], plain, self.imperfect)

    def role(self, dim: str) -> int:
        """Which block, from 1, belongs to the operand that a dim does not index; 0 for none."""
        stranger = self.subject.stranger[dim]
        return 0 if stranger == NOBODY else 1 + self.order_class.order.index(stranger)

    def options(self, axis: Axis, *, moving: bool) -> Options:
        """All options of a coordinate; with `moving` also those in which tiles slide."""
        if axis.shape is None:
            spans = self.chains(axis.dims[0], plain=True)[:, None, :]
            return self._weigh(axis, spans, np.zeros(len(spans), np.int64), None)
        chains = [self.chains(dim, plain=False) for dim in axis.dims]
        tables, spans, found = (
            rank_tables(axis.shape, self.imperfect),
            _pairs(chains),
            _Gathered(axis),
        )
        visits = tables.visits[self.tiles(axis, spans)]
        found.add(spans, STILL, visits)
        for number, dim in enumerate(axis.dims if moving else ()):
            if self._may_slide(dim):
                place = (*self.tiles(axis, spans), self._reach(axis, spans, number))
                found.add(spans, ALONG + number, visits - tables.slid[number][place])
        for kind, rows, kept in self._sweeps(axis, tables, chains) if moving else ():
            tiles, inner = self.tiles(axis, rows), 1 - (kind - SWEEP)
            slid = tables.slid[inner][(*tiles, self._reach(axis, rows, inner))]
            found.add(rows, kind, tables.visits[tiles] - slid - kept)
        return self._weigh(axis, *found.joined())

    def bare_options(self, axis: Axis, *, blocks: int = 1) -> Options:
        """Options of a coordinate that let a sweep reach over `blocks` blocks.

        None has a loop between the sliding operand's block and the one so far out that moves it.
        """
        chains = [self._bare_chains(dim, blocks, plain=axis.shape is None) for dim in axis.dims]
        spans = _pairs(chains)
        if axis.shape is None:
            return self._weigh(axis, spans, np.zeros(len(spans), np.int64), None)
        words = rank_tables(axis.shape, self.imperfect).visits[self.tiles(axis, spans)]
        return self._weigh(axis, spans, np.zeros(len(spans), np.int64), words)

    def _bare_chains(self, dim: str, blocks: int, *, plain: bool) -> Ints:
        chains = self.chains(dim, plain=plain)
        if not self.subject.indexes(self.subject.sliding, dim):
            return chains
        if self.place > blocks and self.role(dim) == 1 and plain:
            return chains  # its loop stands further out
        tiles = np.array(tile_sizes(self.subject.sizes[dim], self.imperfect), np.int64)
        inner = tiles if self.place == 2 or self.role(dim) == 3 else np.ones_like(tiles)
        outer = tiles
        if self.place > blocks and self.role(dim) == 1:
            outer = np.full_like(tiles, self.subject.sizes[dim])
        return np.stack([outer, tiles, inner], axis=1)

    def crossing_options(self, axis: Axis, *, blocks: int = 1) -> Options:
        """Sweeps whose outer loop stands `blocks` blocks further out than their inner loop.

        The other coordinates must be bare, so that nothing moves the tile between the two loops.
        """
        assert axis.shape is not None
        tables = rank_tables(axis.shape, self.imperfect)
        found = _Gathered(axis)
        for outer, a, b, reach_a, reach_b, kept in tables.sweep_rows():
            tile, reach = (a, b), (reach_a, reach_b)
            outside = self._far_chain(axis.dims[outer], tile[outer], reach[outer], blocks)
            inner = axis.dims[1 - outer]
            chains = self.chains(inner, plain=False)
            inside = self._swept(inner, chains, tile[1 - outer], reach[1 - outer])
            if len(outside) and len(inside):
                rows = _pairs([outside, inside] if outer == 0 else [inside, outside])
                slid = int(tables.slid[1 - outer][a, b, reach[1 - outer]])
                words = int(tables.visits[a, b]) - slid - kept
                found.add(rows, SWEEP + outer, np.full(len(rows), words))
        return self._weigh(axis, *found.joined())

    def _far_chain(self, dim: str, tile: int, reach: int, blocks: int) -> Ints:
        """A chain whose only loop outside the sliding operand's block is `blocks` further out."""
        role, whole = self.role(dim), reach == self.subject.sizes[dim]
        if self.place == blocks:
            last = 1 if self.place == 1 and role != 3 else tile
            return _rows([(tile, tile, last)] if whole else [])
        return _rows([(reach, tile, tile)] if role != 1 or whole else [])

    def _may_slide(self, dim: str) -> bool:
        slides = self.order_class.slides
        own = self.subject.stranger[dim] != self.subject.sliding
        return own and (slides is None or dim in slides)

    def tangled_options(self, axis: Axis, *, blocks: int) -> Options:
        """A bound on what loops of a rank save together, in any number, over so many blocks."""
        assert axis.shape is not None
        found = _Gathered(axis)
        if len(axis.dims) == 1:
            return self._weigh(axis, *found.joined())
        tables = rank_tables(axis.shape, self.imperfect)
        for a, b in sorted({(row[1], row[2]) for row in tables.sweep_rows()}):
            chains = [self._any_chains(dim, t) for dim, t in zip(axis.dims, (a, b), strict=True)]
            rows = _pairs(chains)
            near_a, near_b = rows[:, 0, self.place - 1], rows[:, 1, self.place - 1]
            far_a, far_b = (self._far(axis, rows, number, blocks) for number in (0, 1))
            bound = tangle(axis.shape, self.imperfect, (a, b))
            saved = bound.savings((near_a, near_b), (far_a, far_b))
            alone = np.maximum(tables.slid[0][a, b, near_a], tables.slid[1][a, b, near_b])
            wanted = (saved > alone) & ((near_a > a) | (near_b > b))
            # once the loops that take part are through, all that they touched has entered
            words = np.maximum(tables.visits[a, b] - saved, tables.visits[far_a, far_b])
            found.add(rows[wanted], STILL, words[wanted])
        return self._weigh(axis, *found.joined())

    def _any_chains(self, dim: str, tile: int) -> Ints:
        """All chains with a tile of the sliding operand, however their loops are split."""
        size = self.subject.sizes[dim]
        near = ranges(size, tile, self.imperfect)
        if self.place == 1:
            return _rows((reach, tile, tile if self.role(dim) == 3 else 1) for reach in near)
        return _rows((far, r, tile) for r in near for far in ranges(size, r, self.imperfect))

    def _far(self, axis: Axis, rows: Ints, number: int, blocks: int) -> Ints:
        """How far the loops of a dim reach that stand up to so many blocks further out."""
        if blocks < self.place:
            return rows[:, number, self.place - 1 - blocks]
        return np.full(len(rows), self.subject.sizes[axis.dims[number]])

    def tiles(self, axis: Axis, spans: Ints) -> tuple[Ints, Ints]:
        """What the dims of a rank span inside the sliding operand's block."""
        first = spans[:, 0, self.place]
        return first, spans[:, 1, self.place] if len(axis.dims) > 1 else np.ones_like(first)

    def _reach(self, axis: Axis, spans: Ints, number: int) -> Ints:
        """How far the loop just outside the sliding operand's block reaches."""
        if self.order_class.even or self.place == 0:
            return np.full(len(spans), self.subject.sizes[axis.dims[number]])
        return spans[:, number, self.place - 1]

    def _sweeps(
        self, axis: Axis, tables: RankTables, chains: list[Ints]
    ) -> Iterator[tuple[int, Ints, int]]:
        """The sweeps of a rank: their kind, what the dims span, and the words kept."""
        wanted = self.order_class.sweeps
        for outer, a, b, reach_a, reach_b, kept in tables.sweep_rows():
            if wanted and (axis.dims[outer], axis.dims[1 - outer]) != wanted:
                continue
            if self.order_class.even and not wanted:
                continue
            rows = [
                self._swept(dim, chain, tile, reach)
                for dim, chain, tile, reach in zip(
                    axis.dims, chains, (a, b), (reach_a, reach_b), strict=True
                )
            ]
            if all(len(each) for each in rows):
                yield SWEEP + outer, _pairs(rows), kept

    def _swept(self, dim: str, chain: Ints, tile: int, reach: int) -> Ints:
        """Chains with a tile, and a loop just outside it, as a sweep wants them."""
        whole = reach == self.subject.sizes[dim]
        if self.order_class.even or self.place == 0:
            return chain[(chain[:, self.place] == tile) & whole]
        if self.place == 1 and self.role(dim) == 1:
            return _rows([(reach, tile, 1)])
        return chain[(chain[:, self.place] == tile) & (chain[:, self.place - 1] == reach)]

    def _weigh(self, axis: Axis, spans: Ints, kinds: Ints, words: Ints | None) -> Options:
        """Work out what options do.

        Tiles are spans of the dims that index an operand, costs counts of those that do not; the
        sliding operand's come from its tables.
        """
        order, kept = self.order_class.order, self.order_class.kept
        tiles, costs = (np.ones((len(spans), 3), np.int64) for _ in range(2))
        for block, operand in enumerate(order):
            if operand not in kept:
                continue
            for number, dim in enumerate(axis.dims):
                span = spans[:, number, block]
                if self.subject.indexes(operand, dim):
                    tiles[:, operand] *= span
                elif (operand, dim) not in self.order_class.free:
                    costs[:, operand] *= -(-self.subject.sizes[dim] // span)
        sliding = self.subject.sliding
        if words is not None and axis.shape is not None and sliding in kept:
            tables = rank_tables(axis.shape, self.imperfect)
            tiles[:, sliding] = np.maximum(tables.largest[self.tiles(axis, spans)], 0)
            costs[:, sliding] = words
        return Options(axis, spans, kinds, Factors(tiles, costs))


@dataclass(slots=True)
class _Gathered:
    """Options of a rank on their way together: what its dims span, kinds, and words."""

    axis: Axis
    spans: list[Ints] = field(default_factory=list[Ints])
    kinds: list[Ints] = field(default_factory=list[Ints])
    words: list[Ints] = field(default_factory=list[Ints])

    def add(self, spans: Ints, kind: int, words: Ints) -> None:
        self.spans.append(spans)
        self.kinds.append(np.full(len(spans), kind, np.int64))
        self.words.append(words)

    def joined(self) -> tuple[Ints, Ints, Ints]:
        none = np.zeros((0, len(self.axis.dims), 3), np.int64)
        return (
            np.concatenate([none, *self.spans]),
            np.concatenate([none[:, 0, 0], *self.kinds]),
            np.concatenate([none[:, 0, 0], *self.words]),
        )


@lru_cache(maxsize=4096)
def _chain_table(pattern: str, size: int, plain: bool, imperfect: bool) -> Ints:
    """All chains of a pattern of `_CHAINS`; of a plain dim with the least tiles only."""
    tiles = _least_tiles(size, imperfect) if plain else list(tile_sizes(size, imperfect))
    found: dict[tuple[int, int, int], None] = {}
    for tile in tiles if "t" in pattern else [1]:
        for reach in ranges(size, tile, imperfect) if "r" in pattern else [tile]:
            spans = {"S": size, "t": tile, "r": reach, "1": 1}
            outer, middle, inner = (spans[letter] for letter in pattern)
            found[outer, middle, inner] = None
    table = _rows(found)
    table.flags.writeable = False
    return table


def _rows(rows: Iterable[tuple[int, int, int]]) -> Ints:
    return np.array(list(rows), np.int64).reshape(-1, 3)


def _pairs(chains: list[Ints]) -> Ints:
    """Every combination of the chains of one or two dims: `[pair, dim, block]`."""
    if len(chains) == 1:
        return chains[0][:, None, :]
    first, second = chains
    left = np.repeat(first, len(second), axis=0)
    right = np.tile(second, (len(first), 1))
    return np.stack([left, right], axis=1)


def _least_tiles(size: int, imperfect: bool) -> list[int]:
    """Of the tile sizes with equally many tiles only the smallest."""
    return [t for t in tile_sizes(size, imperfect) if t == 1 or -(-size // (t - 1)) > -(-size // t)]
