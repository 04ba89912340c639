"""The walk: run the nest and count. This is the definition of every count.

Owns: counting by enumeration, for every convention but `timeloop` (`spec/model.md §3`). A set of
words is a Python integer used as a bit set: bit `a` stands for the word with address `a`.

Non-goals: speed beyond what moderate layers need, and any formula: what is counted is what
happens, step by step.
"""

import math
import operator
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Mapping
from tilewright.ir.nest import Nest, NestLoop, Store, flatten
from tilewright.ir.workload import Operand, Workload
from tilewright.model.convention import DEFAULT, Convention, Footprint, Reuse
from tilewright.model.counts import Counts, Group, Tally

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

Indices = tuple[int, ...]
Words = int
"""A set of words, one bit each."""

_CACHE_BITS = 1 << 29
"""Tiles that are kept to be found again take no more memory than this, in bits."""

LONGEST = 10**10
"""Steps that are still walked: some hours."""

_CHUNK = 1 << 18
"""Multiply-accumulates looked at together, so that memory is bounded."""


def walk(
    workload: Workload,
    hardware: Hardware,
    mapping: Mapping,
    convention: Convention = DEFAULT,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Counts:
    """Count a mapping by running its nest.

    Args:
        workload: the nest's dims and operands.
        hardware: the levels and fan-outs; capacities do not matter here.
        mapping: a mapping that `verify_mapping` accepts.
        convention: any but `timeloop`, which has no walk.
        on_progress: told now and then what share of the way lies behind.

    Returns: the counts, with every instance in a group of its own.

    Source: `spec/model.md §3`, "the walk is the definition".
    """
    nest = flatten(mapping, hardware)
    journey = _Journey(workload, hardware, nest, convention, on_progress, length(nest))
    for operand in workload.operands:
        _walk_operand(journey, operand)
    return journey.counts()


def length(nest: Nest) -> int:
    """The steps of all instances, of all blocks and of the MACs."""
    depths = [store.depth for stores in nest.stores.values() for store in stores[1:]]
    depths += [len(nest.loops)] * len(nest.stores)
    return sum(math.prod(loop.extent for loop in nest.loops[:depth]) for depth in depths)


@dataclass(slots=True)
class _Ledger:
    """A tally that is being written."""

    reads: int = 0
    fills: int = 0
    updates: int = 0
    drains: int = 0
    finished_updates: int = 0
    finished_drains: int = 0


@dataclass(slots=True)
class _Journey:
    """What is walked, and everything counted on the way."""

    workload: Workload
    hardware: Hardware
    nest: Nest
    convention: Convention
    on_progress: Callable[[float], None]
    length: int
    walked: int = 0
    ledgers: defaultdict[tuple[int, int, str], _Ledger] = field(
        default_factory=lambda: defaultdict(_Ledger)
    )
    tiles: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])
    ramps: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])
    hops: defaultdict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))

    def ledger(self, level: int, instance: int, operand: Operand) -> _Ledger:
        return self.ledgers[level, instance, operand.name]

    def hop_levels(self, outer: int, inner: int) -> list[int]:
        """The fan-outs between two levels whose hops cost energy."""
        return [k for k in range(outer, inner) if self.hardware.levels[k].fanout.hop_pj > 0]

    def advance(self, steps: int) -> None:
        """So many steps of so many instances are done."""
        self.walked += steps
        self.on_progress(min(1.0, self.walked / self.length))

    def counts(self) -> Counts:
        names = [level.memory for level in self.hardware.levels]
        instances: dict[int, dict[int, dict[str, Tally]]] = {}
        for (level, instance, operand), ledger in sorted(self.ledgers.items()):
            moved = Tally(*(getattr(ledger, name) for name in _Ledger.__slots__))
            instances.setdefault(level, {}).setdefault(instance, {})[operand] = moved
        macs, steps = _count_iterations(self.workload, self.nest)
        return Counts(
            macs,
            steps,
            {
                (names[level], operand): words
                for (level, operand), words in sorted(self.tiles.items())
            },
            {(names[level], operand): words for (level, operand), words in self.ramps.items()},
            {
                names[level]: tuple(Group(1, tallies) for tallies in of_level.values())
                for level, of_level in instances.items()
            },
            {(names[level], operand): words for (level, operand), words in self.hops.items()},
        )


def _walk_operand(journey: _Journey, operand: Operand) -> None:
    space = _Space(journey.workload, operand, journey.convention)
    stores = journey.nest.stores[operand.name]
    for store in stores:
        home = _Residence(journey.workload, journey.nest, store, space)
        journey.tiles[store.level, operand.name] = home.largest_tile()
        for instance in range(len(home.positions)):
            journey.ledger(store.level, instance, operand)  # also one that never moves a word
    for parent, child in pairwise(stores):
        _Edge(journey, space, parent, child).run()
    _feed_macs(journey, space, stores[-1])


class _Space:
    """The words of one operand: which coordinates are words, and at which address."""

    def __init__(self, workload: Workload, operand: Operand, convention: Convention) -> None:
        self.operand = operand
        self.is_output = operand == workload.output
        self.in_box = convention.footprint is Footprint.BOX
        sizes = workload.sizes
        extents = [
            1 + sum(term.coefficient * (sizes[term.dim] - 1) for term in rank.terms)
            for rank in operand.ranks
        ]
        self.strides = [math.prod(extents[i + 1 :]) for i in range(len(extents))]
        self.words = math.prod(extents)

    def touched(self, box: dict[str, range]) -> Integers:
        """The addresses of the words that the iterations of a box touch."""
        addresses = np.zeros(1, dtype=np.int64)
        for rank, stride in zip(self.operand.ranks, self.strides, strict=True):
            coordinates: Integers = np.zeros(1, dtype=np.int64)
            for term in rank.terms:
                steps = term.coefficient * np.asarray(box[term.dim], dtype=np.int64)
                coordinates = (coordinates[:, None] + steps).ravel()
            if self.in_box:
                coordinates = np.arange(int(coordinates.min()), int(coordinates.max()) + 1)
            elif rank.data is not None:
                first, stop = rank.data
                coordinates = coordinates[(coordinates >= first) & (coordinates < stop)]
            addresses = (addresses[:, None] + coordinates * stride).ravel()
        return addresses

    def locate(self, at: dict[str, Integers]) -> tuple[Integers, Mask]:
        """The address of the word that each iteration touches, and whether it is data."""
        shape = next(iter(at.values())).shape
        address, is_data = np.zeros(shape, dtype=np.int64), np.ones(shape, dtype=bool)
        for rank, stride in zip(self.operand.ranks, self.strides, strict=True):
            coordinate = np.zeros(shape, dtype=np.int64)
            for term in rank.terms:
                coordinate += term.coefficient * at[term.dim]
            address += stride * coordinate
            if rank.data is not None and not self.in_box:
                is_data &= (coordinate >= rank.data[0]) & (coordinate < rank.data[1])
        return address, is_data


def _pack(addresses: Integers, words: int) -> Words:
    present = np.zeros(words, dtype=bool)
    present[addresses] = True
    return int.from_bytes(np.packbits(present, bitorder="little").tobytes(), "little")


class _Residence:
    """A place in the nest: the loops outside it, its instances, and the boxes that are inside."""

    def __init__(self, workload: Workload, nest: Nest, store: Store, space: _Space) -> None:
        self.sizes = workload.sizes
        self.limits = tuple(self.sizes.values())
        self.space = space
        outside, inside = nest.loops[: store.depth], nest.loops[store.depth :]
        self.temporal = [loop for loop in outside if not loop.spatial]
        self.spatial = [loop for loop in outside if loop.spatial]
        self.spans = dict.fromkeys(self.sizes, 1)
        for loop in inside:
            self.spans[loop.dim] *= loop.extent
        self.positions = _positions(self.spatial)
        self.offsets = [self._reached(self.spatial, position) for position in self.positions]
        self.indexes = [dim in space.operand.dims for dim in self.sizes]
        self.tile_at = lru_cache(maxsize=max(64, _CACHE_BITS // space.words))(self._tile_at)

    def largest_tile(self) -> int:
        """The words of the largest tile that is ever held."""
        dims = self.space.operand.dims
        bases = [
            range(0, size, self.spans[dim]) if dim in dims else range(1)
            for dim, size in self.sizes.items()
        ]
        return max(self.tile_at(base).bit_count() for base in product(*bases))

    def tile(self, base: Indices) -> Words:
        """The words that the box beginning at `base` touches."""
        # Dims that do not index the operand do not matter: at 0, an equal tile is found again.
        return self.tile_at(tuple(map(operator.mul, base, self.indexes)))

    def box(self, base: Indices) -> dict[str, range]:
        """The iterations that exist in the box beginning at `base`."""
        return {
            dim: range(first, min(first + self.spans[dim], size))
            for (dim, size), first in zip(self.sizes.items(), base, strict=True)
        }

    def exists(self, base: Indices) -> bool:
        """Whether the box beginning at `base` has an iteration."""
        return all(map(operator.lt, base, self.limits))

    def steps(self) -> Iterator[tuple[NestLoop | None, Indices]]:
        """The temporal steps at which an iteration exists: the loop that took it, and the base."""
        before: Indices | None = None
        for now in product(*(range(loop.extent) for loop in self.temporal)):
            base = self._reached(self.temporal, now)
            if self.exists(base):
                yield self._taker(before, now), base
                before = now

    def _taker(self, before: Indices | None, now: Indices) -> NestLoop | None:
        """The outermost loop whose index differs from the step before."""
        if before is None:
            return None
        pairs = zip(self.temporal, before, now, strict=True)
        return next(loop for loop, old, new in pairs if old != new)

    def _reached(self, loops: Sequence[NestLoop], indices: Indices) -> Indices:
        """The iteration that the loops have advanced to."""
        at = dict.fromkeys(self.sizes, 0)
        for loop, index in zip(loops, indices, strict=True):
            at[loop.dim] += loop.step * index
        return tuple(at.values())

    def _tile_at(self, base: Indices) -> Words:
        return _pack(self.space.touched(self.box(base)), self.space.words)


def _positions(spatial: Sequence[NestLoop]) -> list[Indices]:
    """Every instance, as its indices of the spatial loops outside."""
    return list(product(*(range(loop.extent) for loop in spatial)))


@dataclass(frozen=True, slots=True)
class _Meeting:
    """Where children are served together: at their parent, or at a fan-out on the way to it.

    `place` is the meeting that each child comes to. Children of one `reading` (`updating`) group
    differ only along axes of fan-outs with multicast (reduction).
    """

    place: list[int]
    reading: list[int]
    updating: list[int]


def _meet(hardware: Hardware, spatial: Sequence[NestLoop], outside: int) -> _Meeting:
    """The children of all spatial loops, the first `outside` of which lead to their place."""
    multicast = [hardware.levels[loop.level].fanout.multicast for loop in spatial]
    reduction = [hardware.levels[loop.level].fanout.reduction for loop in spatial]

    def number(together: list[bool]) -> list[int]:
        """Number the groups of children that agree in every index that keeps them apart."""
        known: dict[Indices, int] = {}
        apart = [i for i in range(len(spatial)) if i < outside or not together[i]]
        keys = [tuple(position[i] for i in apart) for position in _positions(spatial)]
        return [known.setdefault(key, len(known)) for key in keys]

    return _Meeting(number([True] * len(spatial)), number(multicast), number(reduction))


class _Edge:
    """The traffic of one operand between a block and its parent block."""

    def __init__(self, journey: _Journey, space: _Space, parent: Store, child: Store) -> None:
        self.journey, self.space = journey, space
        self.parent, self.child = parent, child
        self.home = _Residence(journey.workload, journey.nest, child, space)
        hardware, spatial = journey.hardware, self.home.spatial
        outside = sum(loop.spatial for loop in journey.nest.loops[: parent.depth])
        self.meeting = _meet(hardware, spatial, outside)
        self.hops = {
            level: _meet(hardware, spatial, sum(loop.level <= level for loop in spatial))
            for level in journey.hop_levels(parent.level, child.level)
        }
        for level in self.hops:
            journey.hops[level, space.operand.name] += 0  # crossed, if perhaps by nothing
        count = len(self.home.positions)
        self.ledgers = [journey.ledger(child.level, i, space.operand) for i in range(count)]
        self.held: list[Words | None] = [None] * count
        self.updated: list[Words] = [0] * count
        workload = journey.workload
        widens = space.is_output and workload.psum_bits != workload.output.bits
        self.progress = _Progress(workload, self.home) if widens else None

    def run(self) -> None:
        """Walk all steps, then let every instance drain."""
        home, reuse = self.home, self.journey.convention.reuse
        slides_on = self._innermost_index()
        first: int | None = None
        for taker, base in home.steps():
            partial = reuse is Reuse.DELTA or (reuse is Reuse.SLIDING and taker is slides_on)
            wanted: list[tuple[int, Words, Words]] = []
            sent: list[tuple[int, Words, Words]] = []
            for i, offset in enumerate(home.offsets):
                at = tuple(map(operator.add, base, offset))
                if home.exists(at):
                    self._step(i, at, wanted, sent, partial=partial)
            first = (self.held[0] or 0).bit_count() if first is None else first
            self._serve(wanted)
            self._collect(sent)
            self.journey.advance(len(home.offsets))
        last = [(i, tile, tile) for i, tile in enumerate(self.held) if tile is not None]
        if self.space.is_output:
            self._collect(last)
            first = (self.held[0] or 0).bit_count()
        self.journey.ramps[self.child.level, self.space.operand.name] = first or 0

    def _step(
        self,
        i: int,
        at: Indices,
        wanted: list[tuple[int, Words, Words]],
        sent: list[tuple[int, Words, Words]],
        *,
        partial: bool,
    ) -> None:
        """Exchange the tile of one instance; note what it wants and what it sends."""
        needed, old = self.home.tile(at), self.held[i]
        entering, leaving = _exchange(old, needed, partial=partial)
        if self.space.is_output:
            if old is not None and leaving:
                sent.append((i, old, leaving))
            if self.journey.convention.elides_first_read:
                entering &= self.updated[i]
            self.updated[i] |= needed
        if entering:
            wanted.append((i, needed, entering))
        self.held[i] = needed
        if self.progress:
            self.progress.add(i, at)

    def _serve(self, wanted: list[tuple[int, Words, Words]]) -> None:
        """Fill what the instances want; a group with equal tiles is served by one read."""
        for i, _, words in wanted:
            self.ledgers[i].fills += words.bit_count()
        for level, meeting in ((None, self.meeting), *self.hops.items()):
            served: dict[tuple[int, Words], Words] = {}
            place: dict[tuple[int, Words], int] = {}
            for i, tile, words in wanted:
                key = (meeting.reading[i], tile)
                served[key] = served.get(key, 0) | words
                place[key] = meeting.place[i]
            for key, words in served.items():
                if level is None:
                    self._at_parent(place[key]).reads += words.bit_count()
                else:
                    self.journey.hops[level, self.space.operand.name] += words.bit_count()

    def _collect(self, sent: list[tuple[int, Words, Words]]) -> None:
        """Drain what the instances send; a group with equal tiles makes one update."""
        finished = [
            words & self.progress.finished(i) if self.progress else 0 for i, _, words in sent
        ]
        for (i, _, words), final in zip(sent, finished, strict=True):
            self.ledgers[i].drains += words.bit_count()
            self.ledgers[i].finished_drains += final.bit_count()
        for level, meeting in ((None, self.meeting), *self.hops.items()):
            merged: dict[tuple[int, Words], tuple[Words, Words]] = {}
            place: dict[tuple[int, Words], int] = {}
            for (i, tile, words), final in zip(sent, finished, strict=True):
                key = (meeting.updating[i], tile)
                before = merged.get(key, (0, 0))
                merged[key] = (before[0] | words, before[1] | final)
                place[key] = meeting.place[i]
            for key, (words, final) in merged.items():
                if level is None:
                    self._at_parent(place[key]).updates += words.bit_count()
                    self._at_parent(place[key]).finished_updates += final.bit_count()
                else:
                    self.journey.hops[level, self.space.operand.name] += words.bit_count()

    def _at_parent(self, instance: int) -> _Ledger:
        return self.journey.ledger(self.parent.level, instance, self.space.operand)

    def _innermost_index(self) -> NestLoop | None:
        """The innermost loop outside the block that indexes the operand."""
        dims = self.space.operand.dims
        return next((loop for loop in reversed(self.home.temporal) if loop.dim in dims), None)


def _exchange(old: Words | None, needed: Words, *, partial: bool) -> tuple[Words, Words]:
    """What enters and leaves when the tile becomes `needed`: (F6) of `docs/model-formulas.md`."""
    if old is None:
        return needed, 0
    if partial:
        return needed & ~old, old & ~needed
    return (0, 0) if needed == old else (needed, old)


class _Progress:
    """How many of each output word's multiply-accumulates every instance has done."""

    def __init__(self, workload: Workload, home: _Residence) -> None:
        self.home = home
        self.total = self._visits({dim: range(size) for dim, size in workload.sizes.items()})
        self.done = [np.zeros_like(self.total) for _ in home.positions]

    def add(self, instance: int, base: Indices) -> None:
        """The instance does the iterations of the box beginning at `base`."""
        self.done[instance] += self._visits(self.home.box(base))

    def finished(self, instance: int) -> Words:
        """The words of which the instance has done all that there is to do, anywhere."""
        complete = np.flatnonzero((self.done[instance] == self.total) & (self.total > 0))
        return _pack(complete, self.home.space.words)

    def _visits(self, box: dict[str, range]) -> Integers:
        """How many iterations of a box touch each word."""
        space = self.home.space
        addresses = np.zeros(1, dtype=np.int64)
        for rank, stride in zip(space.operand.ranks, space.strides, strict=True):
            for term in rank.terms:
                steps = term.coefficient * stride * np.asarray(box[term.dim], dtype=np.int64)
                addresses = (addresses[:, None] + steps).ravel()
        times = math.prod(len(steps) for dim, steps in box.items() if dim not in space.operand.dims)
        return np.bincount(addresses, minlength=space.words) * times


def _iterations(
    workload: Workload, nest: Nest
) -> Iterator[tuple[Integers, dict[str, Integers], Mask]]:
    """All temporal steps and units in chunks: step numbers, the iteration of each, its existence.

    Arrays have shape (steps, units).
    """
    temporal = [loop for loop in nest.loops if not loop.spatial]
    spatial = [loop for loop in nest.loops if loop.spatial]
    extents = tuple(loop.extent for loop in temporal) or (1,)
    positions = _positions(spatial)
    units = np.array(positions, dtype=np.int64).reshape(len(positions), len(spatial))
    count, rows = math.prod(extents), max(1, _CHUNK // len(units))
    for start in range(0, count, rows):
        step = np.arange(start, min(start + rows, count))
        at = {dim: np.zeros((len(step), len(units)), dtype=np.int64) for dim in workload.sizes}
        for loop, index in zip(temporal, np.unravel_index(step, extents), strict=False):
            at[loop.dim] += loop.step * index[:, None]
        for loop, index in zip(spatial, units.T, strict=True):
            at[loop.dim] += loop.step * index[None, :]
        exists = np.ones((len(step), len(units)), dtype=bool)
        for dim, size in workload.sizes.items():
            exists &= at[dim] < size
        yield step, at, exists


def _count_iterations(workload: Workload, nest: Nest) -> tuple[int, int]:
    """The iterations that exist, and the temporal steps that have one."""
    macs = steps = 0
    for _, _, exists in _iterations(workload, nest):
        macs += int(exists.sum())
        steps += int(exists.any(axis=1).sum())
    return macs, steps


def _feed_macs(journey: _Journey, space: _Space, store: Store) -> None:
    """The traffic of one operand between the innermost memory that keeps it and the MACs."""
    nest, hardware = journey.nest, journey.hardware
    spatial = [loop for loop in nest.loops if loop.spatial]
    outside = sum(loop.spatial for loop in nest.loops[: store.depth])
    meeting = _meet(hardware, spatial, outside)
    hops = {
        level: _meet(hardware, spatial, sum(loop.level <= level for loop in spatial))
        for level in journey.hop_levels(store.level, len(hardware.levels))
    }
    place = np.array(meeting.place)
    updated = np.full((place.max() + 1, space.words), _NEVER, dtype=np.int64)
    for step, at, exists in _iterations(journey.workload, nest):
        address, is_data = space.locate(at)
        touched = np.where(exists & is_data, address, _NOTHING)
        asked = touched
        if space.is_output:
            for instance, words in _distinct(touched, meeting.updating, meeting.place):
                journey.ledger(store.level, instance, space.operand).updates += words
            if journey.convention.elides_first_read:
                before = _updated_before(touched, step, place, updated)
                asked = np.where(before, touched, _NOTHING)
        for instance, words in _distinct(asked, meeting.reading, meeting.place):
            journey.ledger(store.level, instance, space.operand).reads += words
        for level, hop in hops.items():
            crossing = sum(words for _, words in _distinct(asked, hop.reading, hop.place))
            if space.is_output:
                crossing += sum(words for _, words in _distinct(touched, hop.updating, hop.place))
            journey.hops[level, space.operand.name] += crossing
        journey.advance(touched.size)


_NOTHING = -1
"""The address that a unit touches at a step at which it does nothing, or nothing real."""
_NEVER = np.iinfo(np.int64).max


def _distinct(touched: Integers, groups: list[int], places: list[int]) -> Iterator[tuple[int, int]]:
    """For each group of units: its place, and its words, each counted once a step.

    `touched` has shape (steps, units).
    """
    group = np.array(groups)
    for number in range(max(groups) + 1):
        units = np.flatnonzero(group == number)
        words = np.sort(touched[:, units], axis=1)
        is_new = words != _NOTHING
        is_new[:, 1:] &= words[:, 1:] != words[:, :-1]
        yield places[units[0]], int(is_new.sum())


def _updated_before(touched: Integers, step: Integers, place: Integers, updated: Integers) -> Mask:
    """Whether each word touched had an update at an earlier step at its place.

    `updated` holds the first step at which that was so, by (place, word); those of now are noted.
    """
    row, unit = np.nonzero(touched != _NOTHING)
    key = place[unit] * updated.shape[1] + touched[row, unit]
    first = updated.ravel()
    fresh = np.flatnonzero(first[key] == _NEVER)[::-1]
    first[key[fresh]] = step[row[fresh]]  # of several steps the last written stays: the earliest
    before = np.zeros(touched.shape, dtype=bool)
    before[row, unit] = step[row] > first[key]
    return before
