"""The nest that a mapping spells out: every loop with its step, every block with its place.

Owns: flattening a mapping. Loops of extent 1 do nothing and are dropped.

Non-goals: counting. Both witnesses read this and share nothing else.
"""

from dataclasses import dataclass

from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Mapping


@dataclass(frozen=True, slots=True)
class NestLoop:
    """A loop of the nest.

    Attributes:
        dim: the dim that it advances.
        extent: how many steps it takes, as written.
        step: by how much a step advances the dim: the product of the dim's extents inside.
        level: the index of the level whose block it stands in.
        spatial: whether it is unrolled on the fan-out below that level.
    """

    dim: str
    extent: int
    step: int
    level: int
    spatial: bool


@dataclass(frozen=True, slots=True)
class Store:
    """A block as one operand sees it: its level, and how many loops of the nest are outside."""

    level: int
    depth: int


@dataclass(frozen=True, slots=True)
class Nest:
    """All loops, outermost first, and for every operand its stores, outermost first."""

    loops: tuple[NestLoop, ...]
    stores: dict[str, tuple[Store, ...]]


def flatten(mapping: Mapping, hardware: Hardware) -> Nest:
    """Spell a mapping out as one list of loops and the stores among them.

    The mapping must have passed `verify_mapping`. Source: `spec/model.md §2`.
    """
    places: list[tuple[str, int, int, bool]] = []
    stores: dict[str, list[Store]] = {}
    for block in mapping.blocks:
        level = hardware.level_index(block.memory)
        for operand in block.operands:
            stores.setdefault(operand, []).append(Store(level, len(places)))
        places += [
            (loop.dim, loop.extent, level, loop.axis is not None)
            for loop in block.loops
            if loop.extent > 1
        ]
    steps: dict[str, int] = {}
    loops: list[NestLoop] = []
    for dim, extent, level, spatial in reversed(places):
        step = steps.get(dim, 1)
        loops.append(NestLoop(dim, extent, step, level, spatial))
        steps[dim] = step * extent
    return Nest(tuple(reversed(loops)), {name: tuple(kept) for name, kept in stores.items()})
