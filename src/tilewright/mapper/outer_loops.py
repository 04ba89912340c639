"""What passes again because of loops outside of blocks, for one way to unroll dims.

Owns: `Nest`, which bounds from below what words cost that pass an edge more than once, whatever
the loops are; and the nouns `Rows` and `Passing`.

A nest is read from outside in. Next comes either a loop over a dim, or the block of an operand,
which must have room for all its words in the box of iterations that is left. A loop that does not
index an operand makes its words pass again in every round, unless its block stands outside. The
proof stands in `docs/imperfect.md`, "Loops outside of blocks".

Non-goals: what passes once (`mapper/floor.py`), ways to unroll dims (`mapper/sharing.py`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

Extents = tuple[int, ...]
"""By dim: to how many places its values are dealt."""
FEW_PLACES = 200
"""Places in a nest that are looked at if nothing is said; what is not costs nothing."""
_SMALL, _FEW_ROUNDS = 8, 6
"""Dims whose chunks are all looked at, and rounds in which each number is looked at by itself."""
_CLOSE, _APART = 0.92, 0.75
"""How far sizes of chunks that are looked at together lie apart: in few rounds, in many."""


@dataclass(frozen=True, slots=True)
class Box:
    """The iterations that the loops further in go through.

    Attributes:
        sizes: by dim, how many of its values are left.
        broken: dims whose values need not be a run, as a loop inside of the fan-out has split them.
    """

    sizes: tuple[int, ...]
    broken: frozenset[int] = frozenset()

    def cut(self, dim: int, size: int) -> "Box":
        """The same with fewer values of a dim."""
        return Box(_with(self.sizes, dim, size), self.broken)


@dataclass(frozen=True, slots=True)
class Rows:
    """A rank of an operand, as far as its dims are longer than 1.

    Attributes:
        dims: one or two columns of the box; none if all its dims are 1.
        steps: the coefficients of these dims.
        sizes: of these dims, in the whole layer.
        padding: coordinates at most that are no data.
        padded: combinations of values at most whose coordinate is no data.
        meeting: by dim, coordinates of data at least that two chunks share that lie side by side.
    """

    dims: tuple[int, ...]
    steps: tuple[int, ...]
    sizes: tuple[int, ...]
    padding: int
    padded: int
    meeting: tuple[int, ...]

    def words(self, box: Box) -> int:
        """Coordinates of data at least that a box has."""
        return self._least(self._lengths(box), self._are_runs(box))

    def in_one(self, box: Box, extents: Extents) -> int:
        """The same of the memory that serves most values of every dim, if each serves one MAC."""
        parts = tuple(-(-box.sizes[dim] // extents[dim]) for dim in self.dims)
        runs = self._are_runs(box)
        whole = [run and extents[dim] == 1 for dim, run in zip(self.dims, runs, strict=True)]
        return self._least(parts, whole)

    def copies(self, box: Box, extents: Extents) -> tuple[float, float]:
        """Coordinates at least that memories of single MACs are filled with, and that are sent."""
        words = self.words(box)
        if len(self.dims) < 2:
            return words, words
        a, b = self._lengths(box)
        split_a, split_b = (min(extents[dim], box.sizes[dim]) for dim in self.dims)
        one = (a - split_a) * self._classes(1, split_b, is_run=False) + b * split_a
        other = (b - split_b) * self._classes(0, split_a, is_run=False) + a * split_b
        lost = min(self.padded, self.padding * split_a * split_b)
        filled = max(words, max(one, other) - lost)
        return filled, max(words, filled / min(split_a, split_b))

    def most(self, box: Box) -> int:
        """Coordinates at most that a box has."""
        lengths = self._lengths(box)
        if len(self.dims) < 2 or not all(self._are_runs(box)):
            return math.prod(lengths)
        (a, b), (step_a, step_b) = lengths, self.steps
        return min(a * b, step_a * (a - 1) + step_b * (b - 1) + 1)

    def repeated(self, box: Box, dim: int, chunk: int, rounds: int) -> int:
        """Coordinates of data at least that rounds over chunks of a dim touch more than once."""
        if len(self.dims) < 2:
            return 0
        side = self.dims.index(dim)
        length = box.sizes[self.dims[1 - side]]
        if length == 1 or not box.broken.isdisjoint(self.dims):
            return 0
        found = (rounds - 1) * self.meeting[side] if length == self.sizes[1 - side] else 0
        if box.sizes[dim] <= _SMALL:
            twice = _touched_twice(box.sizes[dim], chunk, length, self._steps(side))
            found = max(found, twice - (rounds - 1) * self.padding)
        return found

    def beside(self, box: Box, dim: int, chunks: tuple[int, int, int]) -> int:
        """Coordinates at most that a chunk of a dim shares with the one beside it."""
        low, high, rounds = chunks
        side = self.dims.index(dim)
        if not box.broken.isdisjoint(self.dims):
            return self.most(box)
        shared = _shared(high, box.sizes[self.dims[1 - side]], self._steps(side))
        if rounds > 2:
            return shared
        return min(shared, self.most(box.cut(dim, min(high, box.sizes[dim] - low))))

    def _lengths(self, box: Box) -> tuple[int, ...]:
        return tuple(box.sizes[dim] for dim in self.dims)

    def _steps(self, side: int) -> tuple[int, int]:
        return self.steps[side], self.steps[1 - side]

    def _are_runs(self, box: Box) -> list[bool]:
        """By dim, whether its values in a box are a run."""
        return [dim not in box.broken for dim in self.dims]

    def _least(self, lengths: tuple[int, ...], runs: list[bool]) -> int:
        """Coordinates of data at least of so many values of the dims."""
        if len(lengths) < 2:
            return max(1, math.prod(lengths) - self.padding)
        a, b = lengths
        one = self._classes(1, b, is_run=runs[1]) * (a - 1) + b
        other = self._classes(0, a, is_run=runs[0]) * (b - 1) + a
        return max(1, max(one, other) - self.padding)

    def _classes(self, side: int, count: int, *, is_run: bool) -> int:
        """Of so many values of a dim: classes of which no two share a coordinate, at least."""
        modulus = self.steps[1 - side] // math.gcd(*self.steps)
        return min(count, modulus) if is_run else -(-count // -(-self.sizes[side] // modulus))


@lru_cache(maxsize=4096)
def _touched_twice(size: int, chunk: int, other: int, steps: tuple[int, int]) -> int:
    """Coordinates of the chunks of a dim, each chunk counted alone, over those of the whole dim."""
    parts = [
        _coordinates(start, min(size, start + chunk), other, steps)
        for start in range(0, size, chunk)
    ]
    return sum(map(len, parts)) - len(set[int]().union(*parts))


@lru_cache(maxsize=4096)
def _shared(chunk: int, other: int, steps: tuple[int, int]) -> int:
    """Coordinates that two chunks side by side have in common."""
    first = _coordinates(0, chunk, other, steps)
    return len(first & _coordinates(chunk, 2 * chunk, other, steps))


def _coordinates(start: int, stop: int, other: int, steps: tuple[int, int]) -> set[int]:
    return {steps[0] * i + steps[1] * j for i in range(start, stop) for j in range(other)}


@dataclass(frozen=True, slots=True)
class Passing:
    """An operand at an edge that its words may pass again.

    Attributes:
        ranks: of the operand.
        pj: of a word that passes again.
        filled_pj: of a copy that is filled again into a memory of a single MAC.
        sent_pj: of a copy that is sent again to such memories.
        halo_pj: of a word that is fetched again as chunks share it.
        memory: inside of the edge.
        bits: of a word there.
        instances: over which words are spread there.
        is_own: whether each of these memories serves a single MAC.
        is_inside: whether it lies inside of the fan-out.
        after: the number of the operand's edge further out, whose block stands outside; or -1.
        copied: by rank, coordinates that are counted once more already, as places share them.
    """

    ranks: tuple[Rows, ...]
    pj: float
    filled_pj: float
    sent_pj: float
    halo_pj: float
    memory: int
    bits: int
    instances: int
    is_own: bool
    is_inside: bool
    after: int = -1
    copied: tuple[int, ...] = ()

    def indexes(self, dim: int) -> bool:
        return any(dim in rank.dims for rank in self.ranks)

    def is_plain(self, dim: int) -> bool:
        """Whether a dim is a rank of its own."""
        return any(rank.dims == (dim,) for rank in self.ranks)

    def room(self, box: Box, extents: Extents) -> float:
        """Bits at least that a block of all words of a box takes in some instance."""
        words = math.prod(rank.words(box) for rank in self.ranks) / self.instances
        if self.is_own:
            words = max(words, math.prod(rank.in_one(box, extents) for rank in self.ranks))
        return words * self.bits

    def again_pj(self, box: Box, extents: Extents) -> float:
        """What all words of a box cost if they pass again."""
        pj = self.pj * math.prod(rank.words(box) for rank in self.ranks)
        if self.filled_pj or self.sent_pj:
            copies = [rank.copies(box, extents) for rank in self.ranks]
            pj += self.filled_pj * math.prod(filled for filled, _ in copies)
            pj += self.sent_pj * math.prod(sent for _, sent in copies)
        return pj

    def most(self, box: Box) -> int:
        """Words at most that a box has."""
        return math.prod(rank.most(box) for rank in self.ranks)

    def excess_pj(self, box: Box, kept: float) -> float:
        """What the words of a box cost that pass again, but for so many."""
        words = math.prod(rank.words(box) for rank in self.ranks)
        return max(0.0, words - kept) * (self.pj + self.filled_pj + self.sent_pj)

    def halo_of(self, box: Box, dim: int, chunks: tuple[int, int, int]) -> tuple[float, float]:
        """What rounds over chunks of a dim fetch again, at least; and what tiles save, at most.

        What stays in a step is in the chunk before and in the one after it.
        """
        _, chunk, rounds = chunks
        rank, others = self._split(dim)
        rows = rank.repeated(box, dim, chunk, rounds)
        if self.copied:
            rows -= self.copied[self.ranks.index(rank)]
        if rows <= 0 or not self.halo_pj:
            return 0.0, 0.0
        pj = rows * math.prod(each.words(box) for each in others) * self.halo_pj
        shared = rank.beside(box, dim, chunks) * math.prod(each.most(box) for each in others)
        return pj, (rounds - 1) * shared * self.halo_pj

    def kept_pj(self, box: Box) -> float:
        """What a block of all words of a box saves if its tile stays."""
        return self.halo_pj * self.most(box)

    def are_one_rank(self, dim: int, other: int) -> bool:
        return any(dim in rank.dims and other in rank.dims for rank in self.ranks)

    def step(self, dim: int) -> int:
        """By how many coordinates a tile moves if an index of a dim rises by one."""
        rank, _ = self._split(dim)
        return rank.steps[rank.dims.index(dim)]

    def share(self, box: Box, dim: int, count: int) -> float:
        """The share of the words of a box that have so many of a dim's values, at least."""
        rank, _ = self._split(dim)
        return rank.words(box.cut(dim, count)) / rank.most(box)

    def _split(self, dim: int) -> tuple[Rows, list[Rows]]:
        """The rank that a dim is part of, and the others."""
        at = next(at for at, rank in enumerate(self.ranks) if dim in rank.dims)
        return self.ranks[at], [rank for i, rank in enumerate(self.ranks) if i != at]


@dataclass(frozen=True, slots=True)
class _Step:
    """A step of a loop in which a tile may slide, or stay, if no loop further in moves it away.

    Attributes:
        dim: of the loop.
        pj: what the step costs otherwise.
        span: by how many coordinates at most loops further in must rewind so that the tile stays.
        is_last: whether no loop further in moves the operand, so that its tile slides.
        is_alone: whether no loop over the other dim of the rank stands further in.
    """

    dim: int
    pj: float
    span: int
    is_last: bool = True
    is_alone: bool = True


Due = tuple[_Step, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in a nest.

    Attributes:
        box: the iterations inside, at least.
        certain: by dim, the places to which values in the box are dealt, at least.
        waiting: whose block stands inside.
        rooms: bits that are left for each, in the fullest instance.
        due: of each, if no block keeps what it shares with other rounds.
        last: the dim of the loop just outside; -1 if a block stands there.
        cut: dims that have a loop outside.
    """

    box: Box
    certain: Extents
    waiting: tuple[int, ...]
    rooms: tuple[float, ...]
    due: tuple[Due, ...]
    last: int = -1
    cut: frozenset[int] = frozenset()


@dataclass(slots=True)
class Nest:
    """What passes again in nests that unroll dims in one way.

    Attributes:
        extents: by dim, over how many places its values are dealt.
        operands: those that may pass again, edge by edge.
        rooms: by memory, in bits of an instance.
        closed: dims that have no loop outside of the fan-out.
        opened: dims that are split and have no loop inside of it.
        uneven: dims whose values may be dealt unevenly to places in all rounds but the first.
        inside: by dim, how many values at most the loops inside of the fan-out go through.
        places: in nests that are looked at; what is not costs nothing.

    Eight words and four, each with a dim of its own, where five have room: all four stay.

    >>> eight = Rows((0,), (1,), (8,), 0, 0, (0,))
    >>> four = replace(eight, dims=(1,), sizes=(4,))
    >>> each = Passing((eight,), 1.0, 0.0, 0.0, 0.0, 1, 1, 1, is_own=False, is_inside=True)
    >>> both = each, replace(each, ranks=(four,))
    >>> Nest((1, 1), both, {1: 5}).least_pj((8, 4), 100.0)
    0.0

    Where four have room, a part of them stays, and the eight pass again.

    >>> Nest((1, 1), both, {1: 4}).least_pj((8, 4), 100.0)
    8.0
    """

    extents: Extents
    operands: tuple[Passing, ...]
    rooms: dict[int, float]
    closed: frozenset[int] = frozenset()
    opened: frozenset[int] = frozenset()
    uneven: frozenset[int] = frozenset()
    inside: Extents = ()
    places: int = FEW_PLACES
    known: dict[_Place, tuple[float, float]] = field(
        default_factory=dict[_Place, tuple[float, float]]
    )

    def least_pj(self, sizes: tuple[int, ...], enough: float) -> float:
        """What passes again costs at least, in pJ, or `enough` if that is less."""
        everyone = tuple(range(len(self.operands)))
        rooms = tuple(float(self.rooms[operand.memory]) for operand in self.operands)
        box = Box(sizes, frozenset() if self.inside else self.uneven)
        due: tuple[Due, ...] = ((),) * len(everyone)
        return self._least(_Place(box, self.extents, everyone, rooms, due), enough)

    def _least(self, place: _Place, most: float) -> float:
        """The same from a place on."""
        if any(place.rooms[at] < self.operands[at].bits for at in place.waiting):
            return most  # not even a word has room
        if most <= 0 or self._is_free(place) or len(self.known) >= self.places:
            return 0.0
        value, limit = self.known.get(place, (0.0, 0.0))
        if limit >= most or value < limit:
            return min(value, most)
        best = most
        for at in place.waiting:
            best = min(best, self._with_block(place, at, best))
        for dim in range(len(self.extents)):
            if dim != place.last and best > 0 and self._may_loop(place, dim):
                best = min(best, self._with_loop(place, dim, best))
        self.known[place] = best, most
        return best

    def _may_loop(self, place: _Place, dim: int) -> bool:
        """Whether a loop over a dim may come next."""
        return dim not in self.closed or all(self.operands[at].is_inside for at in place.waiting)

    def _may_block(self, place: _Place, at: int) -> bool:
        """Whether loops that index an operand and must stand outside of its memory do.

        Past others its block may be moved outwards: its tile stays the same.
        """
        operand = self.operands[at]
        return not operand.is_inside or all(
            left <= most
            for dim, (left, most) in enumerate(zip(place.box.sizes, self.inside, strict=False))
            if operand.indexes(dim)
        )

    def _is_free(self, place: _Place) -> bool:
        """Whether it is plain that nothing need pass again."""
        if len(place.waiting) == 1:
            return not place.due[place.waiting[0]]
        if not all(self._may_block(place, at) for at in place.waiting):
            return False
        needs = dict.fromkeys((self.operands[at].memory for at in place.waiting), 0.0)
        for at in place.waiting:
            operand = self.operands[at]
            needs[operand.memory] += operand.room(place.box, self.extents)
            if needs[operand.memory] > place.rooms[at] or self._unkept_pj(place, at):
                return False
        return True

    def _unkept_pj(self, place: _Place, at: int) -> float:
        """What steps of loops further out cost if the block of an operand stands here."""
        kept = self.operands[at].kept_pj(place.box) if place.due[at] else 0.0
        return math.fsum(
            max(0.0, step.pj - (0.0 if step.is_alone else kept))
            for step in place.due[at]
            if not step.is_last
        )

    def _with_block(self, place: _Place, at: int, most: float) -> float:
        """The least if the block of an operand comes next."""
        operand = self.operands[at]
        need = operand.room(place.box, self.extents)
        if need > place.rooms[at] or operand.after in place.waiting:
            return most
        if not self._may_block(place, at):
            return most
        left = tuple(
            room - need if other.memory == operand.memory else room
            for other, room in zip(self.operands, place.rooms, strict=True)
        )
        others = tuple(other for other in place.waiting if other != at)
        due = (*place.due[:at], (), *place.due[at + 1 :])
        paid = self._unkept_pj(place, at)
        inside = _Place(place.box, place.certain, others, left, due, -1, place.cut)
        return paid + self._least(inside, most - paid) if paid < most else most

    def _with_loop(self, place: _Place, dim: int, most: float) -> float:
        """The least if a loop over a dim comes next."""
        box = place.box
        round_pj = math.fsum(
            self._again_pj(place, at) for at in place.waiting if not self.operands[at].indexes(dim)
        )
        best = most
        for low, high, rounds, rest in list_chunks(box.sizes[dim], self.extents[dim]):
            cost = (rounds - 1) * round_pj
            if cost >= best:
                break  # more rounds cost more
            paid, fresh, still = self._halos(place, dim, (low, high, rounds))
            cost += paid
            if cost >= best:
                continue
            full = replace(
                place,
                box=self._cut(place, dim, low),
                due=fresh,
                last=dim,
                cut=place.cut | {dim},
            )
            times = 1 if dim in self.uneven else rounds - 1
            each = self._least(full, (best - cost) / times)
            total = cost + times * each
            if total < best and any(still):
                due = tuple(one + other for one, other in zip(still, fresh, strict=True))
                total += self._least(replace(full, due=due), best - total + each) - each
            if total < best and rest and dim not in self.uneven:
                total += self._least(self._rest(place, dim, rest), best - total)
            best = min(best, total)
        return best

    def _again_pj(self, place: _Place, at: int) -> float:
        """What an operand's words cost that pass again in every round of a loop that misses it.

        A memory keeps its tile if it sees a single step of every loop further in that moves it.
        Where dims are split unevenly, some may; loops over some of these dims are sure to stand
        there, others may be the only ones.
        """
        operand, box = self.operands[at], place.box
        if not operand.is_own and operand.instances > 1:
            return operand.excess_pj(
                box, self.rooms[operand.memory] / operand.bits * operand.instances
            )
        outer, uneven = self._outer_dims(place, at), list(self._uneven(place, at))
        if not uneven or not set(outer) <= set(uneven):
            return operand.again_pj(box, place.certain)
        moved = self._least_moved(place, at, uneven)
        if moved is None:
            return operand.again_pj(box, place.certain)
        few = {
            dim: operand.again_pj(box.cut(dim, moved[dim]), _with(place.certain, dim, 1))
            for dim in uneven
        }
        if not outer:
            return min(few.values())
        staying = box
        for dim in outer:
            staying = staying.cut(dim, max(1, box.sizes[dim] - moved[dim]))
        return max(*(few[dim] for dim in outer), operand.excess_pj(box, operand.most(staying)))

    def _least_moved(self, place: _Place, at: int, uneven: list[int]) -> dict[int, int] | None:
        """By uneven dim, how many values at least are at places that see two steps of it or more.

        `None` if no block fits that loops over these dims alone leave: then another dim's loop
        moves all.
        """
        cases = {dim: list(self._uneven_cases(place, dim)) for dim in uneven}
        inside = place.box
        for dim, options in cases.items():
            inside = inside.cut(dim, min(kept for kept, _ in options))
        if not self._has_room(inside, at):
            return None
        return {
            dim: min(moved for kept, moved in options if self._has_room(inside.cut(dim, kept), at))
            for dim, options in cases.items()
        }

    def _uneven_cases(self, place: _Place, dim: int) -> Iterator[tuple[int, int]]:
        """If some places see one step of a dim: values in a block; values where two are seen."""
        size, places = place.box.sizes[dim], self.extents[dim]
        if dim in place.cut or not self.inside:
            yield min(size, places), -(-size // places)
        elif dim in self.closed:
            longest = -(-size // places)
            shortest = size - (places - 1) * longest
            yield places * shortest, size - shortest
        else:  # a chunk, and one that is shorter
            for each in range(-(-size // (2 * places)), -(-size // places)):
                rest = size - places * each
                yield places * each, min(size, each * -(-rest // each) + rest)

    def _has_room(self, box: Box, at: int) -> bool:
        """Whether a block of all words of a box fits, with a word of each of the others."""
        operand = self.operands[at]
        others = math.fsum(
            other.bits
            for i, other in enumerate(self.operands)
            if i != at and other.memory == operand.memory
        )
        return operand.room(box, self.extents) + others <= self.rooms[operand.memory]

    def _outer_dims(self, place: _Place, at: int) -> list[int]:
        """The split dims of an operand that still must have a loop outside of its memory."""
        operand = self.operands[at]
        if not self.inside or not operand.is_inside:
            return []
        return [
            dim
            for dim, places in enumerate(self.extents)
            if places > 1
            and dim not in self.closed
            and dim not in place.cut
            and operand.indexes(dim)
        ]

    def _uneven(self, place: _Place, at: int) -> Iterator[int]:
        """The dims of an operand of which not all places need have equally many values."""
        if self.operands[at].instances == 1:
            return
        for dim, places in enumerate(self.extents):
            if places == 1 or not self.operands[at].indexes(dim):
                continue
            if self._moved(place, dim) < place.box.sizes[dim]:
                yield dim

    def _moved(self, place: _Place, dim: int) -> int:
        """Values of a split dim at least that are at places which see two steps of it or more."""
        size, places = place.box.sizes[dim], self.extents[dim]
        if dim in place.cut and place.certain[dim] > 1 and dim not in self.uneven:
            return size  # whole rounds deal as many to each
        if dim in place.cut or not self.inside:
            return -(-size // places)
        if dim in self.closed:
            longest = -(-size // places)
            return size if longest * places == size or longest == 1 else (places - 1) * longest
        return min(size, 2 * (size % places)) or size

    def _halos(
        self, place: _Place, dim: int, chunks: tuple[int, int, int]
    ) -> tuple[float, tuple[Due, ...], tuple[Due, ...]]:
        """Of a loop over chunks of a dim: what it costs as chunks share words; what is then due.

        Returns: pJ; what is due in every whole round; what is due in one of them beside that.
        """
        rounds = chunks[2]
        paid, fresh, still = 0.0, list[Due](), list[Due]()
        for at, operand in enumerate(self.operands):
            due = place.due[at]
            fresh.append(())
            still.append(due)
            if at not in place.waiting or not operand.indexes(dim):
                continue
            left = self._still_due(place, at, dim, chunks)
            paid += math.fsum(step.pj for step in due) - math.fsum(step.pj for step in left)
            still[at] = left
            if operand.is_plain(dim) or self._breaks(place, dim):
                continue
            pj, saved = operand.halo_of(place.box, dim, chunks)
            words = place.rooms[at] / operand.bits * operand.instances
            saved = min(pj, saved, (rounds - 1) * words * operand.halo_pj)
            paid += pj - saved
            if saved:
                span = operand.step(dim) * chunks[1]
                fresh[at] = (_Step(dim, saved / (rounds - 1), span),)
        return paid, tuple(fresh), tuple(still)

    def _still_due(self, place: _Place, at: int, dim: int, chunks: tuple[int, int, int]) -> Due:
        """What may be saved in steps of loops further out with a loop over a dim further in."""
        operand, found = self.operands[at], list[_Step]()
        is_uneven = dim in self._uneven(place, at)
        low, _, rounds = chunks
        for step in place.due[at]:
            if operand.are_one_rank(step.dim, dim):
                # The tile stays only if loops further in rewind by just what the step moves it.
                chunk = low // self.extents[dim] if self._breaks(place, dim) else low
                rewound = 0 if is_uneven else operand.step(dim) * chunk * (rounds - 1)
                alone = step.is_alone and step.dim == dim and not is_uneven
                left = replace(step, span=step.span - rewound, is_last=False, is_alone=alone)
                if left.span >= 0:
                    found.append(left)
            elif is_uneven:  # all that see two steps of it have moved
                share = operand.share(place.box, dim, self._moved(place, dim))
                found.append(replace(step, pj=step.pj * (1 - share)))
        return tuple(found)

    def _cut(self, place: _Place, dim: int, size: int) -> Box:
        """The box inside of a loop over a dim."""
        box = place.box.cut(dim, size)
        return Box(box.sizes, box.broken | {dim}) if self._breaks(place, dim) else box

    def _breaks(self, place: _Place, dim: int) -> bool:
        """Whether a loop over a dim may stand inside of the fan-out and leave no runs of values."""
        if self.extents[dim] == 1 or dim in self.opened:
            return False
        return all(self.operands[at].is_inside for at in place.waiting)

    def _rest(self, place: _Place, dim: int, rest: int) -> _Place:
        """The last round of a loop over a dim, in which not all places need have a value."""
        return replace(
            place,
            box=self._cut(place, dim, rest),
            certain=_with(place.certain, dim, 1),
            due=((),) * len(place.due),
            last=dim,
            cut=place.cut | {dim},
        )


def _with(sizes: tuple[int, ...], dim: int, size: int) -> tuple[int, ...]:
    return (*sizes[:dim], size, *sizes[dim + 1 :])


@lru_cache(maxsize=4096)
def list_chunks(size: int, least: int) -> tuple[tuple[int, int, int, int], ...]:
    """Chunks of a dim in cases, the largest first: from, to, rounds and the last round at least.

    All are multiples of the least.

    >>> list_chunks(5, 2)
    ((4, 4, 2, 1), (2, 2, 3, 1))
    """
    return tuple(_list_chunks(size, least))


def _list_chunks(size: int, least: int) -> Iterator[tuple[int, int, int, int]]:
    high = (size - 1) // least * least
    while high >= least:
        rounds = -(-size // high)
        low, rest = high * _APART, 0
        if size // least <= _SMALL:
            low = high
        if size // least <= _SMALL or rounds <= _FEW_ROUNDS:
            low = max(low, -(-size // rounds), high * _CLOSE)
            rest = size - (rounds - 1) * high
        low = max(least, math.ceil(low / least) * least)
        yield low, high, rounds, rest
        high = low - least
