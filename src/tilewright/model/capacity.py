"""Whether tiles fit: what a mapping needs of every memory, and what there is.

Owns: the capacity rule of `spec/model.md §4`, and how a violation is explained.

Non-goals: axes and names (`ir/verify.py`).
"""

from collections.abc import Iterator

from tilewright.errors import Violation
from tilewright.ir.hardware import Hardware, Level
from tilewright.ir.mapping import Mapping
from tilewright.ir.nest import Nest, flatten
from tilewright.ir.quantity import format_bytes
from tilewright.ir.workload import Operand, Workload
from tilewright.model.convention import Convention, Footprint, Reuse
from tilewright.model.counts import Counts
from tilewright.model.limit import operand_words
from tilewright.model.tiles import touched


def word_bits(
    workload: Workload, level: Level, operand: Operand, counts: Counts, convention: Convention
) -> int:
    """Bits that a word of an operand takes in a level.

    A word of the output that is updated more than once there is a partial sum. Timeloop knows no
    width but the level's.
    """
    if convention.reuse is Reuse.TIMELOOP:
        return level.word_bits
    if operand == workload.output and _accumulates(workload, level, counts, convention):
        return workload.psum_bits
    return operand.bits


def capacity_violations(
    workload: Workload, hardware: Hardware, counts: Counts, convention: Convention
) -> list[Violation]:
    """Every memory whose tiles do not fit, with the bytes needed and there (F28)."""
    return [
        violation
        for level in hardware.levels
        for violation in _violations(workload, level, counts, convention)
    ]


def surely_overflows(workload: Workload, hardware: Hardware, mapping: Mapping) -> bool:
    """Whether a mapping needs more than a capacity, seen at its tiles alone, without counting.

    A quick look for mappers: it may miss that a mapping does not fit, but never wrongs one.
    """
    nest = flatten(mapping, hardware)
    need: dict[int, dict[str, int]] = {}
    for operand in workload.operands:
        for store in nest.stores[operand.name]:
            words = _least_tile_words(workload, operand, nest, store.depth)
            need.setdefault(store.level, {})[operand.name] = words * operand.bits
    for index, bits in need.items():
        level = hardware.levels[index]
        if isinstance(level.capacity, tuple):
            if any(used > (level.usable_bits(name) or 0) for name, used in bits.items()):
                return True
        elif level.capacity is not None and sum(bits.values()) > (level.usable_bits() or 0):
            return True
    return False


def _least_tile_words(workload: Workload, operand: Operand, nest: Nest, depth: int) -> int:
    """The words of the largest tile, or fewer where padding may take some."""
    spans = dict.fromkeys(operand.dims, 1)
    for loop in nest.loops[depth:]:
        if loop.dim in spans:
            spans[loop.dim] *= loop.extent
    words = 1
    for rank in operand.ranks:
        lengths = tuple(min(spans[t.dim], workload.sizes[t.dim]) for t in rank.terms)
        found = touched(tuple(t.coefficient for t in rank.terms), lengths, False).bit_count()
        if rank.data is not None:
            reach = 1 + sum(t.coefficient * (workload.sizes[t.dim] - 1) for t in rank.terms)
            first, stop = rank.data
            found -= reach - (min(stop, reach) - first)
        words *= max(1, found)
    return words


def _violations(
    workload: Workload, level: Level, counts: Counts, convention: Convention
) -> Iterator[Violation]:
    kept = [o for o in workload.operands if (level.memory, o.name) in counts.tile_words]
    need = {
        o.name: counts.tile_words[level.memory, o.name]
        * word_bits(workload, level, o, counts, convention)
        for o in kept
    }
    shares = [[name] for name in need] if isinstance(level.capacity, tuple) else [list(need)]
    for names in shares:
        room = level.usable_bits(names[0] if isinstance(level.capacity, tuple) else None)
        needed = sum(need[name] for name in names)
        if room is not None and needed > room:
            yield _explain(level, {name: need[name] for name in names}, room)


def _explain(level: Level, need: dict[str, int], room: int) -> Violation:
    needed = sum(need.values())
    parts = ", ".join(f"{name} {format_bytes(bits)}" for name, bits in need.items())
    usable = "usable of a double buffer" if level.double_buffered else "there"
    what = f"tiles need {format_bytes(needed)} ({parts}), {format_bytes(room)} are {usable}"
    whole = needed * (2 if level.double_buffered else 1)
    fix = f"smaller tiles, or a capacity of {-(-whole // 8)}B"
    return Violation(level.memory, what, fix, tuple(need), -(-needed // 8), room // 8)


def _accumulates(workload: Workload, level: Level, counts: Counts, convention: Convention) -> bool:
    """Whether a word of the output is updated more than once in a level."""
    in_box = convention.footprint is Footprint.BOX
    words = operand_words(workload.output, workload, in_box=in_box)
    return counts[level.memory, workload.output.name].updates > words
