"""The closed form: every count of the walk, without walking.

Owns: counting by formula, for every convention but `timeloop` (`spec/model.md §3`), perfect and
imperfect factors alike. Why it is right is written in `docs/closed-form.md`; numbers such as (F7)
are those of `docs/model-formulas.md`.

Non-goals: Timeloop's rules (`model/timeloop.py`). Steps are never enumerated: time grows with the
number of loops, not with their extents.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product

from tilewright.errors import InputError, Problem
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Mapping
from tilewright.ir.nest import Nest, NestLoop, Store, flatten
from tilewright.ir.workload import Operand, Rank, Workload
from tilewright.model.convention import DEFAULT, Convention, Footprint, Reuse
from tilewright.model.counts import Counts, Group, Tally
from tilewright.model.tiles import (
    UNBOUNDED,
    Digit,
    Line,
    Row,
    all_tiles,
    count_up_to,
    greatest,
    offsets,
    overlap,
    touched,
)

Origins = dict[str, int]
"""Where an instance's share of each dim begins; 0 for dims left out."""


def count(
    workload: Workload, hardware: Hardware, mapping: Mapping, convention: Convention = DEFAULT
) -> Counts:
    """Count a mapping in closed form.

    Args:
        workload: the nest's dims and operands.
        hardware: the levels and fan-outs; capacities do not matter here.
        mapping: a mapping that `verify_mapping` accepts.
        convention: any but `timeloop`.

    Returns: the same totals as `walk`, integer for integer; instances that move the same are in
    one group, and instances without work in none.

    Raises: `InputError` where there is no closed form: two dims of one rank of the output unrolled
    on the same network, so that its words are spread over instances in overlapping tiles.

    Source: `spec/model.md §3`, Closed form.
    """
    return _Question(workload, hardware, flatten(mapping, hardware), convention).answer()


_Place = tuple[int, int, tuple[tuple[str, int], ...], int, bool]


class _Question:
    """The three nouns, spelled out, and the rules to count by."""

    def __init__(
        self, workload: Workload, hardware: Hardware, nest: Nest, convention: Convention
    ) -> None:
        self.workload, self.hardware, self.nest = workload, hardware, nest
        self.convention = convention
        self.sizes = workload.sizes
        self.loops_of: dict[str, list[tuple[int, NestLoop]]] = {dim: [] for dim in self.sizes}
        for position, loop in enumerate(nest.loops):
            self.loops_of[loop.dim].append((position, loop))
        self.indexing = {operand.name: operand.dims for operand in workload.operands}
        self.forms = {
            operand.name: [
                _RankForm(rank, self.sizes, convention)
                for rank in operand.ranks
                if not self.is_unit(rank)
            ]
            for operand in workload.operands
        }
        fanouts = [level.fanout for level in hardware.levels]
        self.networks_are_alike = all(fanout.multicast == fanout.reduction for fanout in fanouts)
        self.known_lines: dict[_Place, dict[str, Line]] = {}

    def is_unit(self, rank: Rank) -> bool:
        """Whether a rank has one coordinate and no loop, so that it multiplies everything by 1."""
        return rank.data is None and all(
            self.sizes[term.dim] == 1 and not self.loops_of[term.dim] for term in rank.terms
        )

    def answer(self) -> Counts:
        names = [level.memory for level in self.hardware.levels]
        tiles: dict[tuple[int, str], int] = {}
        ramps: dict[tuple[str, str], int] = {}
        hops: dict[tuple[str, str], int] = {}
        for operand in self.workload.operands:
            for store in self.nest.stores[operand.name]:
                view = self.view(operand, store.depth, 0, {})
                tiles[store.level, operand.name] = view.largest()
                if store.level > 0:
                    ramps[names[store.level], operand.name] = view.ramp()
            for edge in self.edges(operand):
                for level in range(edge.parent.level, edge.level):
                    if self.hardware.levels[level].fanout.hop_pj > 0:
                        hops[names[level], operand.name] = self.crossing(edge, level)
        levels = sorted({level for level, _ in tiles})
        return Counts(
            self.workload.macs,
            self.steps(),
            {(names[level], operand): tiles[level, operand] for level, operand in sorted(tiles)},
            ramps,
            {names[level]: tuple(self.groups(level)) for level in levels},
            hops,
        )

    def edges(self, operand: Operand) -> "Iterator[_Edge]":
        """What every store of an operand serves: the next store inwards, or the MACs."""
        stores = self.nest.stores[operand.name]
        for parent, child in pairwise(stores):
            yield _Edge(operand, parent, child.depth, child.level)
        yield _Edge(operand, stores[-1], len(self.nest.loops), len(self.hardware.levels), True)

    def steps(self) -> int:
        """The temporal steps at which an iteration exists (F14)."""
        everything = len(self.nest.loops)
        lines = self.lines(everything, everything, {}, apart=-1, reading=True).values()
        return math.prod(line.combinations(len(line.temporal), stepping=False) for line in lines)

    def lines(
        self, depth: int, fixed: int, origins: Origins, *, apart: int, reading: bool
    ) -> dict[str, Line]:
        """All dims as seen by tiles at `depth`.

        The first `fixed` loops lead to the place that looks; its shares begin at `origins`.
        Instances along spatial loops of levels up to `apart` count one by one.
        """
        key = (depth, fixed, tuple(origins.items()), apart, reading or self.networks_are_alike)
        if key not in self.known_lines:
            self.known_lines[key] = {
                dim: self.line(dim, depth, fixed, origins.get(dim, 0), apart, reading)
                for dim in self.sizes
            }
        return self.known_lines[key]

    def line(  # noqa: PLR0913, PLR0917
        self, dim: str, depth: int, fixed: int, origin: int, apart: int, reading: bool
    ) -> Line:
        """One dim as seen by tiles at `depth`; spans and steps are those of (F1)."""
        temporal: list[tuple[int, int, int]] = []
        alone: list[Digit] = []
        together: list[Digit] = []
        span = 1
        for position, loop in self.loops_of[dim]:
            if position >= depth:
                span *= loop.extent
            elif not loop.spatial:
                temporal.append((position, loop.extent, loop.step))
            elif position >= fixed:
                joined = loop.level > apart and self.joins(loop, reading)
                (together if joined else alone).append((loop.extent, loop.step))
        room = self.sizes[dim] - origin
        return Line(origin, room, span, tuple(temporal), tuple(alone), tuple(together))

    def joins(self, loop: NestLoop, reading: bool) -> bool:
        fanout = self.hardware.levels[loop.level].fanout
        return fanout.multicast if reading else fanout.reduction

    def view(  # noqa: PLR0913
        self,
        operand: Operand,
        depth: int,
        fixed: int,
        origins: Origins,
        *,
        apart: int = -1,
        reading: bool = True,
    ) -> "_View":
        """The tiles of an operand at `depth`, as seen from a place; see `lines`."""
        lines = self.lines(depth, fixed, origins, apart=apart, reading=reading)
        return _View(self, operand, depth, lines)

    def crossing(self, edge: "_Edge", level: int) -> int:
        """Words times receivers or senders on the fan-out below a level (F15)."""
        depth = edge.parent.depth
        return sum(
            instances * (self.reads(edge, origins, level) + self.updates(edge, origins, level))
            for instances, origins in self.instance_classes(depth)
        )

    def reads(self, edge: "_Edge", origins: Origins, apart: int = -1) -> int:
        """Words that pass inwards along an edge, from the instance at `origins` (F9).

        Receivers on fan-outs of levels up to `apart` count one by one.
        """
        view = self.view(edge.operand, edge.depth, edge.parent.depth, origins, apart=apart)
        words = view.entering(every_step=edge.to_macs)
        if edge.operand is self.workload.output and self.convention.elides_first_read:
            words -= view.first_words(merged=edge.to_macs)
        return words

    def updates(self, edge: "_Edge", origins: Origins, apart: int = -1) -> int:
        """Words of the output that pass outwards along an edge, to one instance (F11)."""
        if edge.operand is not self.workload.output:
            return 0
        depth = edge.parent.depth
        view = self.view(edge.operand, edge.depth, depth, origins, apart=apart, reading=False)
        return view.entering(every_step=edge.to_macs)

    def groups(self, level: int) -> Iterator[Group]:
        """The instances of a level, in groups that move the same."""
        edges = [
            edge
            for operand in self.workload.operands
            for edge in self.edges(operand)
            if edge.parent.level == level
        ]
        depth = edges[0].parent.depth
        for instances, origins in self.instance_classes(depth):
            yield Group(instances, {e.operand.name: self.tally(e, origins) for e in edges})

    def tally(self, edge: "_Edge", origins: Origins) -> Tally:
        """What one instance moves of one operand: as the parent of an edge, and as a child."""
        operand, depth = edge.operand, edge.parent.depth
        reads, updates = self.reads(edge, origins), self.updates(edge, origins)
        fills = drains = finished_updates = finished_drains = 0
        if updates and not edge.to_macs:
            inner = self.view(operand, edge.depth, depth, origins)
            finished_updates = inner.finished_words()
        if edge.parent.level > 0:
            own = self.view(operand, depth, depth, origins)
            fills = own.entering()
            if operand is self.workload.output:
                drains, finished_drains = fills, own.finished_words()
                fills -= own.first_words() if self.convention.elides_first_read else 0
        return Tally(reads, fills, updates, drains, finished_updates, finished_drains)

    def instance_classes(self, depth: int) -> Iterator[tuple[int, Origins]]:
        """Instances at a depth that cannot be told apart: how many, and where one begins."""
        choices = [self.shares(dim, depth) for dim in self.sizes]
        for combination in product(*choices):
            instances = math.prod(times for times, _ in combination)
            yield (
                instances,
                dict(zip(self.sizes, (origin for _, origin in combination), strict=True)),
            )

    def shares(self, dim: str, depth: int) -> list[tuple[int, int]]:
        """The shares of a dim that instances have: how many are alike, and where one begins.

        Shares that reach equally far are alike, unless one of them reaches into padding.
        """
        loops = self.loops_of[dim]
        own = [(loop.extent, loop.step) for at, loop in loops if loop.spatial and at < depth]
        if not own:
            return [(1, 0)]
        size = self.sizes[dim]
        others = [(loop.extent, loop.step) for at, loop in loops if at >= depth or not loop.spatial]
        first, stop = self.inner_window(dim)
        end = 1 + sum((extent - 1) * step for extent, step in (*own, *others))
        if (first, stop) == UNBOUNDED and end <= size:
            return [(math.prod(extent for extent, _ in own), 0)]
        found: dict[tuple[int, int], tuple[int, int]] = {}
        for origin in offsets(own):
            if origin >= size:
                break
            reach = greatest(others, size - 1 - origin)
            inside = first <= origin and origin + reach < stop
            key = (reach, -1 if inside else origin)
            times, begins = found.get(key, (0, origin))
            found[key] = (times + 1, begins)
        return list(found.values())

    def inner_window(self, dim: str) -> tuple[int, int]:
        """The indices of a dim at which no operand touches padding."""
        windows = [
            _window(rank, dim, self.sizes)
            for operand in self.workload.operands
            for rank in operand.ranks
            if any(term.dim == dim for term in rank.terms) and _is_clipped(rank, self.convention)
        ]
        return max((w[0] for w in windows), default=UNBOUNDED[0]), min(
            (w[1] for w in windows), default=UNBOUNDED[1]
        )


@dataclass(frozen=True, slots=True)
class _Edge:
    """A store of an operand and what it serves: tiles at a depth, or single words of MACs."""

    operand: Operand
    parent: Store
    depth: int
    level: int
    to_macs: bool = False


def _is_clipped(rank: Rank, convention: Convention) -> bool:
    return rank.data is not None and convention.footprint is Footprint.WORDS


def _window(rank: Rank, dim: str, sizes: dict[str, int]) -> tuple[int, int]:
    """The indices of a dim at which a rank touches no padding, whatever its other dims do.

    Only the dim that reaches furthest has such a window: see `_RankView`.
    """
    if rank.data is None or dim != _furthest(rank, sizes):
        return (0, 0)
    first, stop = rank.data
    own = next(term.coefficient for term in rank.terms if term.dim == dim)
    others = sum(t.coefficient * (sizes[t.dim] - 1) for t in rank.terms if t.dim != dim)
    return -(-first // own), (stop - 1 - others) // own + 1


def _furthest(rank: Rank, sizes: dict[str, int]) -> str:
    return max(rank.terms, key=lambda term: term.coefficient * sizes[term.dim]).dim


class _RankForm:
    """What a rank is, wherever it is looked at from."""

    def __init__(self, rank: Rank, sizes: dict[str, int], convention: Convention) -> None:
        clipped = _is_clipped(rank, convention)
        self.dims = tuple(term.dim for term in rank.terms)
        self.coefficients = tuple(term.coefficient for term in rank.terms)
        self.windows = tuple(
            _window(rank, dim, sizes) if clipped else UNBOUNDED for dim in self.dims
        )
        self.data = rank.data if clipped else None
        self.in_box = convention.footprint is Footprint.BOX


class _RankView:
    """One rank of an operand: its coefficients and the lines of its dims."""

    def __init__(self, form: "_RankForm", lines: dict[str, Line]) -> None:
        self.dims, self.coefficients, self.windows = form.dims, form.coefficients, form.windows
        self.data, self.in_box = form.data, form.in_box
        self.lines = [lines[dim] for dim in form.dims]
        several = 0
        for line in self.lines:
            several += bool(line.together)
        self.grouped = several > 1 or (several == 1 and self._may_cover_data())
        """Whether instances may have equal tiles although their indices differ."""

    def _may_cover_data(self) -> bool:
        """Whether a tile may reach over all that is no padding.

        If none does, two tiles that begin at different coordinates differ: one of their ends is
        inside.
        """
        if self.data is None:
            return False
        pairs = zip(self.coefficients, self.lines, strict=True)
        extent = 1 + sum(coefficient * (line.span - 1) for coefficient, line in pairs)
        return extent >= self.data[1] - self.data[0]

    def visits(self) -> int:
        """The words of all tiles, over all steps of the rank's own loops."""
        if len(self.lines) == 1 and self.coefficients[0] == 1 and self.data is None:
            return self.lines[0].covered()
        states = [(len(line.temporal), False) for line in self.lines]
        return self._sum(states)[0]

    def moves_always(self, position: int, dim: str) -> bool:
        """Whether it is plain that no tile stays where it was at the steps of a loop."""
        if len(self.lines) > 1 or self.data is not None:
            return False
        line = self.lines[0]
        return line.moves_always(line.outside(position), stepping=self.dims[0] == dim)

    def measure(self, position: int, dim: str) -> tuple[int, int, int]:
        """Sum the tiles over all rows and groups at the steps of the loop at a position.

        `dim` is the loop's dim. Returns the words, the words shared
        with the tile before, and the words of tiles that did not move.
        """
        return self._sum(
            [
                (line.outside(position), name == dim)
                for name, line in zip(self.dims, self.lines, strict=True)
            ]
        )

    def _sum(self, states: list[tuple[int, bool]]) -> tuple[int, int, int]:
        rows = [
            line.rows(outer, window, stepping=steps, grouped=self.grouped)
            for line, window, (outer, steps) in zip(self.lines, self.windows, states, strict=True)
        ]
        words = shared = equal = 0
        for combination in product(*rows):
            times = math.prod(row.count for row in combination)
            found = self._group(combination) if self.grouped else self._single(combination)
            words += times * found[0]
            shared += times * found[1]
            equal += times * found[2]
        return words, shared, equal

    def _single(self, rows: tuple[Row, ...]) -> tuple[int, int, int]:
        """A tile of one instance."""
        if self._clips(rows):
            return self._group(rows)
        entries = [row.entries[0] for row in rows]
        before: list[int] = []
        now: list[int] = []
        move = 0
        for coefficient, entry in zip(self.coefficients, entries, strict=True):
            assert entry is not None  # a row of one instance exists because the instance does
            first_before, length_before, first, length = entry
            before.append(length_before)
            now.append(length)
            move += coefficient * (first - first_before)
        if len(now) == 1 and not self.in_box:
            coefficient = self.coefficients[0]
            return _share_interval(before[0], now[0], move // coefficient)
        words, shared, equal = overlap(
            self.coefficients, tuple(before), tuple(now), move, self.in_box
        )
        return words, shared, words if equal else 0

    def _clips(self, rows: tuple[Row, ...]) -> bool:
        """Whether padding may matter: not if the dim that reaches furthest stays clear of it."""
        return self.data is not None and all(row.absolute for row in rows)

    def _group(self, rows: tuple[Row, ...]) -> tuple[int, int, int]:
        """The tiles of instances that are served at once where they are equal."""
        if self.data is None and all(line.is_even for line in self.lines):
            words, shared, equal = self._single(rows)
            places = self._distinct_places()
            return words * places, shared * places, equal * places
        clip = self._bits(*self.data) if self.data and self._clips(rows) else -1
        groups: dict[int, tuple[int, bool]] = {}
        chosen = [
            entries for entries in product(*(row.entries for row in rows)) if None not in entries
        ]
        placed = [self._place(entries) for entries in chosen]
        lowest = 0 if clip != -1 else min(min(start, held) for start, _, held, _ in placed)
        for start, lengths, start_before, lengths_before in placed:
            tile = touched(self.coefficients, lengths, self.in_box) << (start - lowest) & clip
            held = (
                touched(self.coefficients, lengths_before, self.in_box) << (start_before - lowest)
            ) & clip
            kept, still = groups.get(tile, (tile, True))
            groups[tile] = kept & held, still and held == tile
        words = sum(tile.bit_count() for tile in groups)
        shared = sum(kept.bit_count() for kept, _ in groups.values())
        equal = sum(tile.bit_count() for tile, (_, still) in groups.items() if still)
        return words, shared, equal

    def _distinct_places(self) -> int:
        """How many different tiles the instances of one step have, all tiles being full."""
        places = {0}
        for coefficient, line in zip(self.coefficients, self.lines, strict=True):
            steps = [coefficient * offset for offset in offsets(line.together)]
            places = {place + step for place in places for step in steps}
        return len(places)

    def _place(
        self, entries: tuple[tuple[int, int, int, int] | None, ...]
    ) -> tuple[int, tuple[int, ...], int, tuple[int, ...]]:
        """The first coordinate and the lengths of a tile, and of the one before."""
        pairs = [(c, e) for c, e in zip(self.coefficients, entries, strict=True) if e is not None]
        return (
            sum(c * e[2] for c, e in pairs),
            tuple(e[3] for _, e in pairs),
            sum(c * e[0] for c, e in pairs),
            tuple(e[1] for _, e in pairs),
        )

    @staticmethod
    def _bits(first: int, stop: int) -> int:
        return (1 << stop) - (1 << first)

    def largest(self) -> int:
        """The words of the largest tile."""
        if self.data is None:
            return self.tile_words((0,) * len(self.lines))
        rows = [
            line.rows(len(line.temporal), window, stepping=False, grouped=False)
            for line, window in zip(self.lines, self.windows, strict=True)
        ]
        return max(self._single(combination)[0] for combination in product(*rows))

    def tile_words(self, bases: tuple[int, ...]) -> int:
        """The words of the tile that begins at `bases`."""
        lengths = tuple(
            min(line.span, line.room - base) for line, base in zip(self.lines, bases, strict=True)
        )
        if self.coefficients == (1,) and self.data is None:
            return lengths[0]
        start = sum(c * base for c, base in zip(self.coefficients, bases, strict=True))
        tile = touched(self.coefficients, lengths, self.in_box)
        return (tile if self.data is None else tile << start & self._bits(*self.data)).bit_count()

    def covered(self, shares: tuple[int, ...]) -> int:
        """All coordinates that one instance ever touches, as a bit set.

        `shares` says by how much its share of each dim begins after the place's.
        """
        bits = 0
        tiles = [
            all_tiles([digit[1:] for digit in line.temporal], line.span, line.room - share)
            for line, share in zip(self.lines, shares, strict=True)
        ]
        begins = [line.origin + share for line, share in zip(self.lines, shares, strict=True)]
        for combination in product(*map(list, tiles)):
            lengths = tuple(length for _, length in combination)
            bases = (begin + base for begin, (base, _) in zip(begins, combination, strict=True))
            start = sum(c * base for c, base in zip(self.coefficients, bases, strict=True))
            bits |= touched(self.coefficients, lengths, self.in_box) << start
        return bits if self.data is None else bits & self._bits(*self.data)

    def shares(self) -> list[tuple[int, ...]]:
        """The shares of all instances that meet here."""
        own = [
            [share for share in offsets((*line.apart, *line.together)) if share < line.room]
            for line in self.lines
        ]
        return list(product(*own))


def _share_interval(before: int, now: int, move: int) -> tuple[int, int, int]:
    """Two runs of indices, `before` and `now` long, the second beginning `move` later."""
    shared = max(0, min(before, now + move) - max(0, move))
    return now, shared, now if move == 0 and before == now else 0


class _View:
    """The tiles of one operand at one depth of the nest, as seen from where instances meet."""

    def __init__(
        self, question: _Question, operand: Operand, depth: int, lines: dict[str, Line]
    ) -> None:
        self.question, self.operand, self.depth, self.lines = question, operand, depth, lines
        self.is_output = operand is question.workload.output
        self.ranks = [_RankView(form, lines) for form in question.forms[operand.name]]
        indexing = question.indexing[operand.name]
        self.others = [
            (dim, line) for dim, line in lines.items() if dim not in indexing and not line.is_whole
        ]
        self.slides_on = -1
        """The position of the innermost temporal loop outside that indexes the operand."""
        for dim in indexing:
            if lines[dim].temporal:
                self.slides_on = max(self.slides_on, lines[dim].temporal[-1][0])

    def entering(self, *, every_step: bool = False) -> int:
        """Words that enter the tiles over the run, as if every visit filled (F7).

        With `every_step` the tiles are single words of MACs, which keep nothing (F12).
        """
        if every_step:
            return self._visits(self.depth)
        self._refuse_overlapping_outputs()
        words = self._visits(self.slides_on + 1)
        for position, loop in enumerate(self.question.nest.loops[: self.slides_on + 1]):
            if not loop.spatial:
                words -= self._kept(position, loop.dim)
        return words

    def _visits(self, depth: int) -> int:
        """The words of all tiles at all steps of the loops outside a depth."""
        words = 1
        for _, line in self.others:
            words *= line.combinations(line.outside(depth), stepping=False)
        for rank in self.ranks:
            words *= rank.visits()
        return words

    def _kept(self, position: int, dim: str) -> int:
        """Words that need not enter at the steps of a loop: the tile before had them (F8)."""
        reuse = self.question.convention.reuse
        slides = reuse is Reuse.SLIDING and position == self.slides_on
        which = 1 if slides or reuse is Reuse.DELTA else 2
        if which == 2 and any(rank.moves_always(position, dim) for rank in self.ranks):
            return 0
        kept = 1
        for rank in self.ranks:
            kept *= rank.measure(position, dim)[which]
            if not kept:
                return 0
        for name, line in self.others:
            kept *= line.combinations(line.outside(position), stepping=name == dim)
        return kept

    def first_words(self, *, merged: bool = False) -> int:
        """Words of the output that enter a tile for the first time in its instance (F10).

        With `merged`, the first time at the place where the instances meet.
        """
        times = math.prod(line.combinations(0, stepping=False) for _, line in self.others)
        return times * math.prod(self._first(rank, merged) for rank in self.ranks)

    def finished_words(self) -> int:
        """Drains of finished words: those whose instance does all of their work (F13)."""
        if self.question.workload.psum_bits == self.question.workload.output.bits:
            return 0
        others = set(self.lines) - set(self.question.indexing[self.operand.name])
        if any(self._instances_along(dim) > 1 for dim in others):
            return 0
        whole = self.question.view(self.operand, self.depth, 0, {})
        pairs = zip(self.ranks, whole.ranks, strict=True)
        return math.prod(self._exclusive(own, every) for own, every in pairs)

    def largest(self) -> int:
        """The words of the largest tile of one instance."""
        return math.prod(rank.largest() for rank in self.ranks)

    def ramp(self) -> int:
        """The words of the first instance's first tile; of its last for the output."""
        first = dict.fromkeys(self.lines, 0)
        last = {
            dim: greatest([digit[1:] for digit in line.temporal], line.room - 1)
            for dim, line in self.lines.items()
        }
        bases = last if self.is_output else first
        return math.prod(
            rank.tile_words(tuple(bases[dim] for dim in rank.dims)) for rank in self.ranks
        )

    def _first(self, rank: _RankView, merged: bool) -> int:
        if len(rank.lines) == 1:
            return rank.visits()
        shares = rank.shares()
        if merged:
            self._refuse_scattered_outputs(rank)
            return _union(rank.covered(share) for share in shares).bit_count()
        return sum(rank.covered(share).bit_count() for share in shares)

    def _exclusive(self, own: _RankView, every: _RankView) -> int:
        """Words of the rank that no other instance of the chip touches."""
        if len(own.lines) == 1:
            return own.visits()
        once = several = 0
        for share in every.shares():
            bits = every.covered(share)
            once, several = once | bits, several | once & bits
        return sum((own.covered(share) & once & ~several).bit_count() for share in own.shares())

    def _instances_along(self, dim: str) -> int:
        """How many instances of the chip have work along a dim."""
        loops = self.question.nest.loops[: self.depth]
        digits = [(loop.extent, loop.step) for loop in loops if loop.spatial and loop.dim == dim]
        return count_up_to(digits, self.question.sizes[dim] - 1)

    def _refuse_overlapping_outputs(self) -> None:
        for rank in self.ranks:
            if self.is_output and rank.grouped:
                raise InputError(_no_closed_form(self.operand, rank.dims))

    def _refuse_scattered_outputs(self, rank: _RankView) -> None:
        unrolled = [line for line in rank.lines if line.apart or line.together]
        if len(unrolled) > 1 and any(line.apart for line in unrolled):
            raise InputError(_no_closed_form(self.operand, rank.dims))


def _no_closed_form(operand: Operand, dims: tuple[str, ...]) -> Problem:
    what = f"{' and '.join(dims)} index one rank of {operand} and are both unrolled"
    return Problem(
        f"{what}: instances would hold overlapping tiles of the output",
        f"unroll one of {', '.join(dims)}, or count with the walk",
    )


def _union(sets: Iterable[int]) -> int:
    bits = 0
    for each in sets:
        bits |= each
    return bits
