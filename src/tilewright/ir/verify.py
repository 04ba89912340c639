"""Whether a mapping is one for this workload and this chip.

Owns: the rules of the notation that need all three nouns: names, coverage of every dim, the order
of memories, the place and the room of spatial loops, what a level may keep.

Non-goals: capacities, which need footprints (`model/`).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tilewright.errors import InputError, Problem, Span, Violation, did_you_mean
from tilewright.ir.hardware import AXES, Hardware
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.workload import Workload


def verify_mapping(workload: Workload, hardware: Hardware, mapping: Mapping) -> None:
    """Check that a mapping says what to do with this workload on this chip.

    Raises: `InputError` with every problem: unknown names, factors that miss a size, operands that
    the outermost level does not keep, memories out of order, spatial loops where no fan-out is.
    Whether it fits is asked of `axis_violations` and of the model.

    Source: `spec/model.md §2`.
    """
    checker = _Checker(workload, hardware, mapping)
    problems = list(checker.names())
    if not problems:
        problems = [*checker.coverage(), *checker.order(), *checker.spatial(), *checker.keeps()]
    if problems:
        raise InputError(problems)


def axis_violations(hardware: Hardware, mapping: Mapping) -> list[Violation]:
    """The axes on which a mapping unrolls more steps than the fan-out has copies."""
    found: list[Violation] = []
    for level in hardware.levels:
        for axis in AXES:
            loops = list(_spatial_loops(mapping, level.memory, axis))
            used, room = math.prod(loop.extent for loop in loops), level.fanout.extent(axis)
            if used > room:
                listed = " ".join(map(str, loops))
                what = f"{listed} takes {used} copies of axis {axis}, the fan-out has {room}"
                fix = f"unroll {room} steps at most, or give the fan-out {axis}: {used}"
                found.append(Violation(level.memory, what, fix))
    return found


def _spatial_loops(mapping: Mapping, memory: str, axis: str) -> Iterator[Loop]:
    for block in mapping.blocks:
        if block.memory == memory:
            yield from (loop for loop in block.spatial if loop.axis == axis)


@dataclass(frozen=True, slots=True)
class _Checker:
    workload: Workload
    hardware: Hardware
    mapping: Mapping

    def names(self) -> Iterable[Problem]:
        memories = [level.memory for level in self.hardware.levels]
        operands = [operand.name for operand in self.workload.operands]
        dims = list(self.workload.sizes)
        for block in self.mapping.blocks:
            if block.memory not in memories:
                fix = did_you_mean(block.memory, memories)
                what = f"{self.hardware.name} has no memory {block.memory}"
                yield Problem(what, fix, _place(block))
            for name in block.operands:
                if name not in operands:
                    what = f"{self.workload.name} has no operand {name}"
                    yield Problem(what, did_you_mean(name, operands), _place(block))
            for loop in block.loops:
                if loop.dim not in dims:
                    what = f"{self.workload.name} has no dim {loop.dim}"
                    yield Problem(what, did_you_mean(loop.dim, dims), _place(loop))
                if loop.extent < 1:
                    what = f"the extent of {loop.dim} is {loop.extent}: the least is 1"
                    yield Problem(what, "leave the loop out", _place(loop))

    def coverage(self) -> Iterable[Problem]:
        loops = [loop for block in self.mapping.blocks for loop in block.loops]
        for dim, size in self.workload.sizes.items():
            of_dim = [loop for loop in loops if loop.dim == dim]
            covered = math.prod(loop.extent for loop in of_dim)
            if covered < size:
                factors = " × ".join(str(loop.extent) for loop in of_dim) or "no loop"
                what = f"the factors of {dim} miss its size: {factors} = {covered}, size {size}"
                fix = f"add {dim}{math.ceil(size / covered)} to a block"
                yield Problem(what, fix, _place(of_dim[-1] if of_dim else self.mapping.blocks[-1]))

    def order(self) -> Iterable[Problem]:
        outermost = self.hardware.levels[0].memory
        for operand in self.workload.operands:
            keeping = [block for block in self.mapping.blocks if operand.name in block.operands]
            levels = [self.hardware.level_index(block.memory) for block in keeping]
            if not levels:
                what = f"no memory keeps {operand.name}"
                yield Problem(what, f"list it in {outermost}[…]", _place(self.mapping.blocks[0]))
            elif levels[0] != 0:
                what = f"{outermost}, the outermost level, does not keep {operand.name}"
                yield Problem(what, f"list it in {outermost}[…]", _place(keeping[0]))
            for outer, inner, block in zip(levels, levels[1:], keeping[1:], strict=False):
                if inner <= outer:
                    yield Problem(*self._disorder(operand.name, outer, inner), _place(block))
            for block in keeping:
                if block.operands.count(operand.name) > 1:
                    what = f"{operand.name} is listed twice in {block.memory}"
                    yield Problem(what, "list it once", _place(block))

    def _disorder(self, operand: str, outer: int, inner: int) -> tuple[str, str]:
        above, below = self.hardware.levels[outer].memory, self.hardware.levels[inner].memory
        if inner == outer:
            return f"{operand} is kept twice in {above}", "keep it in one block of a memory"
        return (
            f"{operand} is kept in {below} inside {above}, but {below} is the outer memory",
            "list blocks in the order of the hardware, outermost first",
        )

    def spatial(self) -> Iterable[Problem]:
        for index, block in enumerate(self.mapping.blocks):
            unrolled = [loop for loop in block.spatial if loop.extent > 1]
            for loop in unrolled:
                yield from self._axis(block, loop)
            if unrolled:
                yield from self._place_of_fanout(index, unrolled[0])

    def _axis(self, block: Block, loop: Loop) -> Iterable[Problem]:
        fanout = self.hardware.levels[self.hardware.level_index(block.memory)].fanout
        present = [axis for axis in AXES if fanout.extent(axis) > 1]
        if loop.axis not in present:
            what = f"{loop}: there is no axis {loop.axis} below {block.memory}"
            have = f"its axes are {', '.join(present)}" if present else "it has no fan-out"
            yield Problem(f"{what}; {have}", "unroll on an axis that is there", _place(loop))
            return
        allowed = fanout.allowed_dims(loop.axis or "")
        if allowed is not None and loop.dim not in allowed:
            what = f"{loop}: {loop.dim} may not be unrolled on axis {loop.axis} of {block.memory}"
            yield Problem(what, f"allowed there: {', '.join(allowed) or 'none'}", _place(loop))

    def _place_of_fanout(self, index: int, loop: Loop) -> Iterable[Problem]:
        """Spatial loops stand after all blocks above their fan-out, before all below."""
        level = self.hardware.level_index(self.mapping.blocks[index].memory)
        memory = self.hardware.levels[level].memory
        for other, block in enumerate(self.mapping.blocks):
            inner = self.hardware.level_index(block.memory) > level
            if inner and other < index:
                what = f"{block.memory} lies below the fan-out of {memory}, but stands before it"
                yield Problem(what, f"put it after {loop}", _place(block))
            if not inner and other > index:
                what = (
                    f"{block.memory} lies above the fan-out of {memory}, but stands inside {loop}"
                )
                yield Problem(what, f"unroll in the last block of {memory}", _place(block))

    def keeps(self) -> Iterable[Problem]:
        names = [operand.name for operand in self.workload.operands]
        for level in self.hardware.levels[1:]:
            blocks = [block for block in self.mapping.blocks if block.memory == level.memory]
            kept = {name for block in blocks for name in block.operands}
            where = _place(blocks[0] if blocks else self.mapping.blocks[-1])
            for name in sorted(kept):
                if not level.may_keep(name):
                    what = f"{level.memory} may not keep {name}: {_reason(level.keeps)}"
                    yield Problem(what, f"remove {name} from {level.memory}[…]", where)
            for name in names:
                if level.keeps is not None and name in level.keeps and name not in kept:
                    what = f"{level.memory} must keep {name}: {_reason(level.keeps)}"
                    yield Problem(what, f"list {name} in {level.memory}[…]", where)


def _reason(keeps: frozenset[str] | None) -> str:
    if keeps is None:
        return "its partitioned capacity names no share for it"
    return f"the hardware says `keeps: [{', '.join(sorted(keeps))}]`"


def _place(noun: Block | Loop) -> Span | str:
    return noun.where or f"mapping, `{noun}`"
