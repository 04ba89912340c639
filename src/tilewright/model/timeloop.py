"""Counts by Timeloop's rules, so that its results can be compared to the last word.

Owns: the convention `timeloop`: the legacy nest analysis of NVlabs/timeloop 4cf6d4c (2025-03-31,
link transfers off), for perfect factors and one block per memory.

Non-goals: being right where Timeloop is not. It looks only at the first two iterations of each
loop, counts holes and padding as data, charges no drains, and widens no partial sums. Its second
witness is its own recorded runs, not the walk. Numbers such as (F36) are those of
`docs/model-formulas.md`.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import product

from tilewright.errors import InputError, Problem
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Mapping
from tilewright.ir.nest import Nest, NestLoop, flatten
from tilewright.ir.workload import Operand, Workload
from tilewright.model.counts import Counts, Group, Tally

Vector = tuple[int, ...]


def count(workload: Workload, hardware: Hardware, mapping: Mapping) -> Counts:
    """Count a mapping as Timeloop does.

    Args:
        workload: the nest's dims and operands; padding is counted as data.
        hardware: the levels and fan-outs.
        mapping: a mapping that `verify_mapping` accepts, with perfect factors and at most one
            block per memory.

    Returns: reads, fills and updates of every level; there are no drains. `hop_words` are words
    times hops on the mesh below each level whose hops cost energy.

    Raises: `InputError` for imperfect factors and for memories with two blocks.
    """
    problems = [*_imperfect(workload, mapping), *_uneven(mapping)]
    if problems:
        raise InputError(problems)
    nest = flatten(mapping, hardware)
    names = [level.memory for level in hardware.levels]
    used = [
        math.prod(_extents(nest, level, spatial=True, upto=True)) for level in range(len(names))
    ]
    tallies: dict[int, dict[str, Tally]] = {}
    tiles: dict[tuple[str, str], int] = {}
    hops: dict[tuple[str, str], float] = {}
    for operand in workload.operands:
        traffic = _Traffic(workload, hardware, nest, operand)
        for level in traffic.kept:
            tallies.setdefault(level, {})[operand.name] = traffic.tally(level)
            tiles[names[level], operand.name] = _words(traffic.tile(level))
        for level in range(len(names)):
            if hardware.levels[level].fanout.hop_pj > 0 and traffic.crosses(level):
                words = traffic.content(level) * used[level]
                # A product of halves: hops are counted from the middle of an even mesh.
                hops[names[level], operand.name] = words * traffic.hops(level)
    return Counts(
        workload.macs,
        math.prod(loop.extent for loop in nest.loops if not loop.spatial),
        {key: tiles[key] for key in sorted(tiles, key=lambda k: names.index(k[0]))},
        {},
        {names[level]: (Group(used[level], tallies[level]),) for level in sorted(tallies)},
        hops,
    )


def level_cycles(hardware: Hardware, counts: Counts) -> dict[str, int]:
    """The cycles of every level, in Timeloop's own order of floating-point operations (F40)."""
    cycles: dict[str, int] = {}
    for level in hardware.levels:
        read = write = 0.0
        for group in counts.groups.get(level.memory, ()):
            for tally in group.tallies.values():
                read += tally.reads / counts.steps
                write += (tally.fills + tally.updates) / counts.steps
        demands = (
            (level.read_bandwidth, read),
            (level.write_bandwidth, write),
            (level.bandwidth, read + write),
        )
        slowdowns = [width / need for width, need in demands if width is not None and need > 0]
        cycles[level.memory] = math.ceil(counts.steps / min([1.0, *slowdowns]))
    return cycles


def _imperfect(workload: Workload, mapping: Mapping) -> list[Problem]:
    covered = dict.fromkeys(workload.sizes, 1)
    for block in mapping.blocks:
        for loop in block.loops:
            covered[loop.dim] *= loop.extent
    return [
        Problem(
            f"the factors of {dim} give {covered[dim]}, its size is {size}",
            "the convention `timeloop` counts perfect factors only; use `default`",
            "mapping",
        )
        for dim, size in workload.sizes.items()
        if covered[dim] != size
    ]


def _uneven(mapping: Mapping) -> list[Problem]:
    memories = [block.memory for block in mapping.blocks]
    return [
        Problem(
            f"{memory} heads {memories.count(memory)} blocks",
            "the convention `timeloop` counts even mappings only; use `default`",
            "mapping",
        )
        for memory in dict.fromkeys(memories)
        if memories.count(memory) > 1
    ]


def _extents(nest: Nest, level: int, *, spatial: bool, upto: bool) -> list[int]:
    return [
        loop.extent
        for loop in nest.loops
        if loop.spatial == spatial and (loop.level < level if upto else loop.level == level)
    ]


def _words(extents: Vector) -> int:
    return math.prod(extents)


@dataclass(frozen=True, slots=True)
class _Traffic:
    """One operand on its way through the levels, seen by one instance of each."""

    workload: Workload
    hardware: Hardware
    nest: Nest
    operand: Operand

    @property
    def kept(self) -> list[int]:
        """The levels that keep the operand, outermost first."""
        return [store.level for store in self.nest.stores[self.operand.name]]

    def tally(self, level: int) -> Tally:
        """What one instance of a level moves (F39)."""
        content, share = self.content(level), self.partition(level)
        is_backing = level == self.kept[0]
        delivered = 0 if is_backing else self.delivered(level - 1)
        if self.operand is not self.workload.output:
            return Tally(reads=content, fills=delivered)
        fills = 0 if is_backing else delivered - share
        return Tally(reads=content - share, fills=fills, updates=content)

    def content(self, level: int) -> int:
        """Accesses of one instance, those that inner levels pass through included (F37)."""
        inner = level + 1
        if inner == len(self.hardware.levels) or inner in self.kept:
            arriving = self.delivered(level)
        else:
            arriving = self.content(inner)
        return arriving * len(self.groups(level))

    def crosses(self, level: int) -> bool:
        """Whether words pass a network below a level: there is none to a single child."""
        return any(loop.spatial and loop.level == level for loop in self.nest.loops)

    def delivered(self, level: int) -> int:
        """Words that a level delivers to one child over the run, by moves (F35): (F36)."""
        loops = [
            loop for loop in reversed(self.nest.loops) if not loop.spatial and loop.level <= level
        ]
        if level + 1 == len(self.hardware.levels):
            return math.prod(loop.extent for loop in self.nest.loops if not loop.spatial)
        tile = self.tile(level + 1)
        steps = [self.move(loop) for loop in loops]
        moves = [_minus(steps[i], _sum(steps[:i], len(tile))) for i in range(len(loops))]
        first = next((move for move in moves if any(move)), None)
        whole = _words(tile)
        words, outer = whole, math.prod(loop.extent for loop in loops)
        for loop, move in zip(loops, moves, strict=True):
            outer //= loop.extent
            if any(move):
                fresh = whole - _shared(tile, move) if move == first else whole
                words += (loop.extent - 1) * outer * fresh
        return words

    def move(self, loop: NestLoop) -> Vector:
        """By how much a step of a loop moves the operand's box."""
        return tuple(
            sum(t.coefficient * loop.step for t in rank.terms if t.dim == loop.dim)
            for rank in self.operand.ranks
        )

    def tile(self, level: int, *, temporal: bool = True) -> Vector:
        """The box of all loops of a level and inside it; without its temporal loops on request."""
        spans = dict.fromkeys(self.workload.sizes, 1)
        for loop in self.nest.loops:
            if loop.level > level or (loop.level == level and (loop.spatial or temporal)):
                spans[loop.dim] *= loop.extent
        return tuple(
            1 + sum(term.coefficient * (spans[term.dim] - 1) for term in rank.terms)
            for rank in self.operand.ranks
        )

    def partition(self, level: int) -> int:
        """Words of the operand that fall to one instance of a level (F38)."""
        share = _words(self.tile(-1))
        for outer in range(level):
            united = _words(self.tile(outer, temporal=False))
            share = share * _words(self.tile(outer + 1)) // united
        return share

    def groups(self, level: int) -> dict[Vector, list[Vector]]:
        """The children of one instance by the offset of their tiles in the operand."""
        loops = [loop for loop in self.nest.loops if loop.spatial and loop.level == level]
        groups: dict[Vector, list[Vector]] = defaultdict(list)
        for position in product(*(range(loop.extent) for loop in loops)):
            moved = [
                tuple(index * part for part in self.move(loop))
                for index, loop in zip(position, loops, strict=True)
            ]
            groups[_sum(moved, len(self.operand.ranks))].append(position)
        return groups

    def hops(self, level: int) -> float:
        """Hops of a word on the mesh below a level, on average over groups of children (F41)."""
        fanout = self.hardware.levels[level].fanout
        loops = [loop for loop in self.nest.loops if loop.spatial and loop.level == level]
        middle = (fanout.y - 1) / 2
        total = 0.0
        groups = self.groups(level)
        for members in groups.values():
            columns: dict[int, list[int]] = defaultdict(list)
            for position in members:
                row, column = divmod(_linear(position, loops), fanout.x)
                columns[column].append(row)
            total += max(columns)
            for rows in columns.values():
                total += max(0, middle - min(rows)) + max(0, max(rows) - middle)
        return total / len(groups)


def _linear(position: Vector, loops: list[NestLoop]) -> int:
    """The number of a child, the innermost loop running fastest."""
    number = 0
    for index, loop in zip(position, loops, strict=True):
        number = number * loop.extent + index
    return number


def _sum(vectors: list[Vector], ranks: int) -> Vector:
    return tuple(sum(vector[rank] for vector in vectors) for rank in range(ranks))


def _minus(left: Vector, right: Vector) -> Vector:
    return tuple(a - b for a, b in zip(left, right, strict=True))


def _shared(tile: Vector, move: Vector) -> int:
    return math.prod(max(0, extent - abs(step)) for extent, step in zip(tile, move, strict=True))
