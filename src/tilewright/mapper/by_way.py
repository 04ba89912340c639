"""The bound of all mappings, raised way by way to unroll dims.

Owns: `Refinement`: the ways that may still beat a mapping that is known, and what no mapping that
unrolls in one of them undercuts, with what passes again because of loops outside of blocks.

`mapper/floor.py` bounds all ways at once; a mapping that is known leaves few of them, and these
are worth a closer look (`mapper/outer_loops.py`).

Non-goals: finding mappings (`mapper/padded.py`).
"""

import itertools
import math
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np

from tilewright.ir.hardware import AXES, Fanout
from tilewright.ir.workload import Operand, Rank, Workload
from tilewright.mapper.copies import Floats, copies_beside_words, spread_of, tiles_meet
from tilewright.mapper.floor import BELOW, ROUNDING, Floor, Ways, update_pj
from tilewright.mapper.outer_loops import FEW_PLACES, Nest, Passing, Rows
from tilewright.mapper.result import Objective
from tilewright.mapper.sharing import list_unrollings
from tilewright.model.evaluate import Evaluator
from tilewright.model.limit import real_pairs

Path = tuple[int, ...]
"""The levels that keep an operand, outermost first."""
_SHORT = 3
"""Values of a part up to which an open dim has no loop inside of the fan-out: two steps inside and
two outside need more than twice as many values as there are parts."""
_MOST_MEETING = 1 << 16
"""Coordinates of a rank up to which it is looked at which ones chunks share."""


def refine(evaluator: Evaluator, objective: Objective) -> "Refinement | None":
    """All ways to unroll dims of a layer on a chip; `None` if they are not listed.

    Energy and EDP only: the others are not bounded by ways.
    """
    if objective not in {Objective.ENERGY, Objective.EDP}:
        return None
    floor = Floor(evaluator)
    listed = list_unrollings(floor.workload, floor.hardware)
    if listed is None:
        return None
    return Refinement(Ways.of(floor, listed, by_cycles=objective is Objective.EDP))


@dataclass(frozen=True, slots=True)
class Dealing:
    """How the values of dims are dealt to places.

    Attributes:
        closed: dims that have no loop outside of the fan-out: they are dealt in runs.
        opened: split dims that have no loop inside of it.
        uneven: dims whose rounds need not deal a value to every place.
        inside: by dim, how many values at most the loops inside of the fan-out go through.
    """

    closed: frozenset[int] = frozenset()
    opened: frozenset[int] = frozenset()
    uneven: frozenset[int] = frozenset()
    inside: tuple[int, ...] = ()


@dataclass
class Refinement:
    """What no mapping undercuts, by way to unroll dims.

    Attributes:
        ways: to unroll dims.
        bounds: by way, raised when it is looked at.
        paths: by way that was looked at, the levels that keep each operand at that bound.
    """

    ways: Ways
    bounds: Floats = field(init=False)
    paths: dict[int, tuple[Path, ...]] = field(init=False)
    _passings: dict[tuple[object, ...], Passing] = field(init=False)

    def __post_init__(self) -> None:
        self.bounds = self.ways.by_way()
        self.paths = {}
        self._passings = {}

    @property
    def least(self) -> float:
        """What no mapping undercuts, in the objective's unit."""
        return float(self.bounds.min())

    def below(self, value: float) -> list[int]:
        """The ways whose bound is below a value, but for rounding, the least first."""
        found = np.nonzero(self.bounds * (1 + ROUNDING) < value)[0]
        return found[np.argsort(self.bounds[found], kind="stable")].tolist()

    def extents(self, way: int) -> dict[str, int]:
        """By dim longer than 1, over how many places a way deals its values."""
        return dict(zip(self.ways.listed.dims, self.ways.listed.extents[way].tolist(), strict=True))

    def is_possible(self, way: int) -> bool:
        """Whether the fan-out can deal values to just as many places."""
        return bool(self._dealings(way))

    def keeps(self, way: int) -> dict[str, tuple[str, ...]]:
        """By memory on the chip, the operands that it keeps at a way's bound."""
        floor = self.ways.floor
        paths = self.paths.get(way) or self._choices(way)[0][1]
        pairs = list(zip(floor.workload.operands, paths, strict=True))
        return {
            level.memory: tuple(operand.name for operand, path in pairs if index in path)
            for index, level in enumerate(floor.hardware.levels)
            if index > 0
        }

    def raise_bound(
        self, way: int, enough: float, *, every_edge: bool, places: int = FEW_PLACES
    ) -> None:
        """Look at a way closer, as far as its bound can reach `enough`.

        With `every_edge`, edges further in are looked at by themselves, which takes longer, as more
        `places` in nests do.
        """
        cycles = float(self.ways.cycles[way]) if self.ways.by_cycles else 1.0
        most = enough / cycles / BELOW
        for dealing in self._dealings(way):
            for pj, picked in self._choices(way, dealing):
                if pj >= most:
                    break
                again = 0.0
                for each in (False, True) if every_edge else (False,):
                    if pj + again < most:
                        nest = self._nest(way, picked, dealing, every_edge=each)
                        nest.places = places
                        again = max(again, nest.least_pj(self._sizes, most - pj))
                if pj + again < most:
                    most, self.paths[way] = pj + again, picked
        self.bounds[way] = max(self.bounds[way], most * cycles * BELOW)

    def _dealings(self, way: int) -> list[Dealing]:
        """How the values of dims may be dealt to the places of a way."""
        split = {at: n for at, n in enumerate(self.ways.listed.extents[way].tolist()) if n > 1}
        if self._fan is None:
            return [Dealing(frozenset(), frozenset(), frozenset(split))]
        options = [
            [closed for closed in (False, True) if _may_deal(self._sizes[at], n, closed=closed)]
            for at, n in split.items()
        ]
        found: list[Dealing] = []
        for picked in itertools.product(*options):
            closed = frozenset(at for at, each in zip(split, picked, strict=True) if each)
            wanted = {self.ways.listed.dims[at]: (n, at in closed) for at, n in split.items()}
            if _fits(self._fan, wanted):
                opened = frozenset(
                    at
                    for at, n in split.items()
                    if at not in closed and self._sizes[at] - n + 1 <= _SHORT
                )
                inside = list(self._sizes)
                for at in split.keys() - closed:
                    size, places = self._sizes[at], split[at]
                    inside[at] = places if at in opened else (size - 1) // places * places
                uneven = frozenset(at for at in closed if self._sizes[at] % split[at])
                found.append(Dealing(closed, opened, uneven, tuple(inside)))
        return found

    @cached_property
    def _fan(self) -> Fanout | None:
        """The only fan-out of the chip, if it has one."""
        fans = [level.fanout for level in self.ways.floor.hardware.levels]
        found = [fan for fan in fans if fan.copies > 1]
        return found[0] if len(found) == 1 else None

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(self.ways.floor.workload.sizes[dim] for dim in self.ways.listed.dims)

    @cached_property
    def _paths(self) -> list[list[Path]]:
        """By operand, the levels that may keep it."""
        floor = self.ways.floor
        return [list(floor.paths(operand)) for operand in floor.workload.operands]

    @cached_property
    def _pj(self) -> list[list[Floats]]:
        """By operand, path and way: the least energy if no word passes again."""
        ways, listed = self.ways, self.ways.listed
        none = np.zeros(len(listed.steps))
        return [
            [
                ways.floor.way_pj(operand, path, ways.spreads[at], listed.shares[:, at]) + none
                for path in self._paths[at]
            ]
            for at, operand in enumerate(ways.floor.workload.operands)
        ]

    def _pj_of(self, way: int, dealing: Dealing) -> list[list[float]]:
        """By operand and path: the least energy if no word passes again."""
        ways, listed = self.ways, self.ways.listed
        runs = frozenset(listed.dims[at] for at in dealing.closed)
        found: list[list[float]] = []
        for at, operand in enumerate(ways.floor.workload.operands):
            if not any(_is_strided(rank, runs, listed.dims) for rank in operand.ranks):
                found.append([float(by_way[way]) for by_way in self._pj[at]])
                continue
            extents, shares = listed.extents[[way]], listed.shares[[way], at]
            spread = spread_of(operand, ways.floor.workload, extents, listed.dims, runs)
            energies = (
                ways.floor.way_pj(operand, path, spread, shares) for path in self._paths[at]
            )
            found.append([float(np.max(pj)) for pj in energies])
        return found

    def _choices(
        self, way: int, dealing: Dealing | None = None
    ) -> list[tuple[float, tuple[Path, ...]]]:
        """What is kept where, and the least energy if no word passes again, the least first."""
        floor = self.ways.floor
        fixed = floor.fixed_pj + floor.leak_pj * float(self.ways.cycles[way])
        energies = self._pj_of(way, dealing or Dealing())
        picks = itertools.product(*(range(len(paths)) for paths in self._paths))
        found = [
            (
                fixed + math.fsum(energies[at][k] for at, k in enumerate(pick)),
                tuple(self._paths[at][k] for at, k in enumerate(pick)),
            )
            for pick in picks
        ]
        return sorted(found)

    def _nest(
        self, way: int, paths: tuple[Path, ...], dealing: Dealing, *, every_edge: bool
    ) -> Nest:
        """What may pass again: every edge by itself, or all edges of an operand with the first."""
        passings: list[Passing] = []
        rooms: dict[int, float] = {}
        later: list[tuple[int, int]] = []
        for at, path in enumerate(paths):
            if len(path) == 1 or not self._is_covered(at):
                continue
            after = -1
            for place in range(1, len(path) if every_edge else 2):
                key, room = self._room(at, path[place])
                if room is None:
                    continue
                rooms[key] = room
                last = place + 1 if every_edge else len(path)
                found = self._passing(way, at, path[place - 1 : last])
                if found.is_own:
                    found = replace(found, copied=self._copied(way, at, dealing))
                passings.append(replace(found, memory=key, after=after))
                after = len(passings) - 1
            if not every_edge:
                later += [(self._room(at, level)[0], self._bits(at)) for level in path[2:]]
        for key, bits in later:
            if key in rooms:
                rooms[key] -= bits  # a word of it at least
        extents = tuple(self.ways.listed.extents[way].tolist())
        return Nest(extents, tuple(passings), rooms, *astuple(dealing))

    def _copied(self, way: int, at: int, dealing: Dealing) -> tuple[int, ...]:
        """By rank of an operand, copies that memories of single MACs have beside its words."""
        listed, work = self.ways.listed, self.ways.floor.workload
        runs = frozenset(listed.dims[dim] for dim in dealing.closed)
        places = dict(zip(listed.dims, listed.extents[way].tolist(), strict=True))
        return tuple(
            copies_beside_words(rank, work, places, runs) for rank in work.operands[at].ranks
        )

    def _is_covered(self, at: int) -> bool:
        """Whether it is plain when an operand's tiles differ."""
        operand, work = self.ways.floor.workload.operands[at], self.ways.floor.workload
        long = [[t.dim for t in r.terms if work.sizes[t.dim] > 1] for r in operand.ranks]
        dims = [dim for rank in long for dim in rank]
        if len(dims) > len(set(dims)) or any(len(rank) > 2 for rank in long):
            return False
        return not any(tiles_meet(rank, work) for rank in operand.ranks)

    def _bits(self, at: int) -> int:
        floor = self.ways.floor
        operand = floor.workload.operands[at]
        return floor.finished_bits if operand == floor.workload.output else operand.bits

    def _room(self, at: int, index: int) -> tuple[int, float | None]:
        """A number for the room that an operand has in a level, and its bits."""
        floor = self.ways.floor
        level, count = floor.hardware.levels[index], len(floor.workload.operands) + 1
        if isinstance(level.capacity, tuple):
            name = floor.workload.operands[at].name
            return index * count + at + 1, level.usable_bits(name)
        return index * count, level.usable_bits()

    def _passing(self, way: int, at: int, path: Path) -> Passing:
        """An operand at the first edge of a path; its words pass all other edges, too."""
        floor, index = self.ways.floor, path[1]
        instances, is_own = floor.hardware.instances(index), floor.is_own(index)
        if is_own:
            instances = min(instances, int(self.ways.spreads[at].distinct[way]))
        key = at, path, instances
        if key not in self._passings:
            self._passings[key] = self._make_passing(at, path, instances)
        return self._passings[key]

    def _make_passing(self, at: int, path: Path, instances: int) -> Passing:
        floor, dims = self.ways.floor, self.ways.listed.dims
        operand = floor.workload.operands[at]
        ranks = tuple(_rows_of(rank, floor.workload, dims) for rank in operand.ranks)
        pj = filled_pj = sent_pj = halo_pj = 0.0
        for outer, inner in itertools.pairwise(path):
            read_pj, fill_pj = self._edge_pj(operand, outer, inner)
            halo_pj = halo_pj or read_pj + fill_pj
            if floor.is_own(inner) and operand != floor.workload.output:
                sent_pj, filled_pj = sent_pj + read_pj, filled_pj + fill_pj
            else:
                pj += read_pj + fill_pj
        return Passing(
            ranks,
            pj,
            filled_pj,
            sent_pj,
            halo_pj,
            0,
            self._bits(at),
            instances,
            floor.is_own(path[1]),
            floor.hardware.instances(path[1]) > 1,
        )

    def _edge_pj(self, operand: Operand, outer: int, inner: int) -> tuple[float, float]:
        """What a word that passes an edge again costs in the outer level, and in the inner one."""
        floor = self.ways.floor
        out, into = floor.hardware.levels[outer], floor.hardware.levels[inner]
        read = (out.read_pj or 0.0) / out.word_bits
        fill = (into.write_pj or 0.0) / into.word_bits
        if operand != floor.workload.output:
            return read * operand.bits, fill * operand.bits
        drain = (into.read_pj or 0.0) / into.word_bits
        bits = floor.workload.psum_bits
        return (read + update_pj(out)) * bits, (fill + drain) * bits


def _may_deal(size: int, places: int, *, closed: bool) -> bool:
    """Whether a dim's values can be dealt to so many places, with loops outside or without."""
    if not closed:
        return places < size
    return -(-size // -(-size // places)) == places


def _fits(fanout: Fanout, wanted: dict[str, tuple[int, bool]]) -> bool:
    """Whether dims can be unrolled over so many places: just as many, or at least, if closed."""
    rooms = {(fanout.extent("x"), fanout.extent("y"))}
    for dim, (places, is_closed) in wanted.items():
        most_x, most_y = (
            fanout.extent(axis)
            if fanout.allowed_dims(axis) is None or dim in (fanout.allowed_dims(axis) or ())
            else 1
            for axis in AXES
        )
        left: set[tuple[int, int]] = set()
        for along_x in range(1, min(most_x, places) + 1):
            along_y = -(-places // along_x)
            if along_y <= most_y and (is_closed or along_x * along_y == places):
                left |= {
                    (x // along_x, y // along_y) for x, y in rooms if along_x <= x and along_y <= y
                }
        rooms = left
    return bool(rooms)


def _is_strided(rank: Rank, runs: frozenset[str], dims: tuple[str, ...]) -> bool:
    """Whether a rank's windows are wider if its dims are dealt in runs."""
    terms = [term for term in rank.terms if term.dim in dims]
    names = {term.dim for term in terms}
    return len(terms) > 1 and len({t.coefficient for t in terms}) > 1 and not names.isdisjoint(runs)


def _rows_of(rank: Rank, workload: Workload, dims: tuple[str, ...]) -> Rows:
    terms = [term for term in rank.terms if term.dim in dims]
    steps = tuple(term.coefficient for term in terms)
    sizes = tuple(workload.sizes[term.dim] for term in terms)
    reach = 1 + sum(step * (size - 1) for step, size in zip(steps, sizes, strict=True))
    low, high = rank.data or (0, reach)
    columns = tuple(dims.index(term.dim) for term in terms)
    return Rows(
        columns,
        steps,
        sizes,
        max(0, low) + max(0, reach - high),
        math.prod(sizes) - real_pairs(rank, workload.sizes),
        _meeting(steps, sizes, low, high),
    )


@lru_cache(maxsize=256)
def _meeting(
    steps: tuple[int, ...], sizes: tuple[int, ...], low: int, high: int
) -> tuple[int, ...]:
    """By dim: coordinates of data that two chunks share at least, wherever they meet."""
    if len(steps) < 2 or math.prod(sizes) > _MOST_MEETING:
        return (0,) * len(steps)
    found: list[int] = []
    for side in (0, 1):
        step, other, size = steps[side], steps[1 - side], sizes[1 - side]
        rows = {other * i for i in range(size)}
        shared = [step + row for row in rows if step + row in rows]  # with the row before
        starts = range(0, step * (sizes[side] - 1), step)
        found.append(min(sum(low <= at + start < high for at in shared) for start in starts))
    return tuple(found)
