"""Why no mapping that contains a fix fits: which of what is given, and which limit.

Owns: the words that put a fix beside a violated limit.

Non-goals: finding out that nothing fits (`mapper/`), the limits themselves (`model/capacity.py`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tilewright.errors import Violation
from tilewright.ir.fix import Fix, FixedBlock, Pin
from tilewright.ir.hardware import AXES
from tilewright.mapspace.space import Mapspace


def full_axes(space: Mapspace) -> tuple[Violation, ...]:
    """The axes that have no room for what the fix unrolls there."""
    found: list[Violation] = []
    for level in space.hardware.levels if space.fix is not None else ():
        assert space.fix is not None
        for axis in AXES:
            pins = [p for p in space.fix.pins(level.memory, axis) if (p.extent or 1) > 1]
            used, room = math.prod(p.extent or 1 for p in pins), level.fanout.extent(axis)
            if used > room:
                given = " ".join(map(str, pins))
                what = f"given is {given}, {used} copies of axis {axis}; the fan-out has {room}"
                fix = f"give {room} steps at most, or the fan-out {axis}: {used}"
                found.append(Violation(level.memory, what, fix))
    return tuple(found)


def explain_fix(space: Mapspace, violations: Sequence[Violation]) -> tuple[Violation, ...]:
    """Why nothing fits, in words that name what the fix gives.

    Args:
        space: in which nothing fits.
        violations: of its first draft.

    Returns: the violations as they are without a fix, or where it has no part in them.
    """
    if space.fix is None:
        return tuple(violations)
    full = full_axes(space)
    if full:
        return full
    if not space.is_smallest_first or not violations:
        return tuple(_example(space, violations))
    return tuple(_put_beside(space, violation) for violation in violations)


def _example(space: Mapspace, violations: Sequence[Violation]) -> Iterator[Violation]:
    """What hinders the first draft, where others differ in more than one way from it."""
    assert space.fix is not None
    what = f"nothing that contains `{space.fix.title}` fits"
    fix = "leave more of it free"
    if not violations:
        yield Violation(space.fix.blocks[0].memory, what, fix)
    for violation in violations:
        example = f"{what}; for example, {violation.what}"
        yield replace(violation, what=example, fix=f"{fix}: {violation.fix}")


def _put_beside(space: Mapspace, violation: Violation) -> Violation:
    level = space.hardware.level_index(violation.memory)
    dims = {
        dim
        for operand in space.workload.operands
        if operand.name in violation.operands
        for dim in operand.dims
    }
    parts = [block for block in _parts(space, level, dims) if block is not None]
    if not parts:
        return violation
    given = Fix(tuple(parts)).title
    what = f"{violation.what}, at the smallest tiles with `{given}`"
    return replace(violation, what=what, fix=f"leave some of it free: {violation.fix}")


def _parts(space: Mapspace, level: int, dims: set[str]) -> Iterator[FixedBlock | None]:
    """What of the fix has a part in how large a level's tiles are, or which it keeps."""
    assert space.fix is not None
    for block in space.fix.blocks:
        index = space.hardware.level_index(block.memory)
        if index < level:
            continue
        operands = block.operands if index == level else None
        temporal = tuple(pin for pin in block.temporal if _enlarges(pin, dims))
        spatial = tuple(pin for pin in block.spatial if _enlarges(pin, dims))
        is_there = operands is not None or temporal or spatial
        yield FixedBlock(block.memory, operands, temporal, spatial) if is_there else None


def _enlarges(pin: Pin, dims: set[str]) -> bool:
    return pin.dim in dims and (pin.extent or 1) > 1
