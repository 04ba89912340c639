"""Mappings of one layer as arrays that moves can change: factors as atoms in slots.

Owns: the nouns `Frame`, `LayerArrays`, `Genes`, their random and simplest values, and the way to
`Nests` of the batch model and to `Mapping`.

A size is a product of primes, the *atoms*. Each atom stands in a *slot*: the temporal loops of a
level, or an axis of a fan-out. So every state is a perfect factorization, and a move of an atom
leads to another one. Axes: Z atom, V level, A axis, D dim, O operand, B design.

Non-goals: uneven and imperfect mappings; which mapping is good.
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import numpy as np
from numpy.typing import NDArray

from tilewright.ir.hardware import AXES, Hardware
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.workload import Operand, Workload
from tilewright.joint.space import Space
from tilewright.joint.variable import Field
from tilewright.model.batch import Shape, encode_networks, encode_work, shape_for
from tilewright.model.batch.encode import bare_of_padding, cast_floats
from tilewright.model.batch.nouns import Array, Networks, Works

Ints = NDArray[np.integer[Any]]
FLOATS = np.float32
"""Ranks designs; what is reported comes from `exact`."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What all layers and chips of a study share: one compiled program serves them.

    Attributes:
        shape: of the batch model.
        atoms: Z, room for atoms.
        slots: level and axis of every slot, the axis -1 for temporal loops; those come first.
        axes: how many slots are spatial.
    """

    shape: Shape
    atoms: int
    slots: tuple[tuple[int, int], ...]

    @property
    def levels(self) -> int:
        """V."""
        return self.shape.levels

    @property
    def dims(self) -> int:
        """D."""
        return self.shape.dims


@dataclass(frozen=True, slots=True)
class LayerArrays:
    """One layer, for the moves and for the batch model. Arrays with 1 for B.

    Attributes:
        works: as the batch model wants them, padding counted as words.
        dim: [Z] the dim of each atom.
        prime: [Z] its prime; 1 for room that is not used.
        allowed: [slots, D] whether a slot may have loops of a dim.
        may_keep: [O, V] whether a level may keep an operand.
        must_keep: [O, V] whether it must.
    """

    works: Works
    dim: Array
    prime: Array
    allowed: Array
    may_keep: Array
    must_keep: Array


@dataclass(frozen=True, slots=True)
class Genes:
    """Mappings of one layer.

    Attributes:
        slot: [Z, B] where each atom stands.
        order: [V, D, B] dims, the outermost loop of each level first.
        keeps: [O, V, B] booleans.
    """

    slot: Any
    order: Any
    keeps: Any

    @property
    def count(self) -> int:
        """B."""
        return self.slot.shape[-1]

    def take(self, columns: Any) -> "Genes":
        """Some of them, by their places."""
        return Genes(self.slot[:, columns], self.order[:, :, columns], self.keeps[:, :, columns])


for _noun in (LayerArrays, Genes):
    jax.tree_util.register_dataclass(_noun, list(_noun.__dataclass_fields__), [])


def primes_of(size: int) -> list[int]:
    """The prime factors of a size, the greatest first.

    >>> primes_of(28)
    [7, 2, 2]
    """
    found: list[int] = []
    divisor = 2
    while divisor * divisor <= size:
        while size % divisor == 0:
            found.append(divisor)
            size //= divisor
        divisor += 1
    return sorted([*found, size] if size > 1 else found, reverse=True)


def trimmed(workload: Workload) -> Workload:
    """The layer without padding, and without dims of size 1: fewer loops to look at."""
    bare = bare_of_padding(workload)
    real = {dim.name for dim in workload.dims if dim.size > 1}

    def trim(operand: Operand) -> Operand:
        ranks = tuple(
            replace(rank, terms=tuple(term for term in rank.terms if term.dim in real))
            for rank in operand.ranks
        )
        return replace(operand, ranks=tuple(rank for rank in ranks if rank.terms))

    return replace(
        bare,
        dims=tuple(dim for dim in bare.dims if dim.name in real),
        output=trim(bare.output),
        inputs=tuple(map(trim, bare.inputs)),
    )


def make_frame(workloads: Sequence[Workload], space: Space) -> Frame:
    """The frame that has room for all layers on all chips of a space."""
    full = space.template
    bare = [trimmed(workload) for workload in workloads]
    shape = shape_for(bare, full)
    shape = replace(shape, loops=shape.levels * shape.dims, places=bool(shape.sums))
    atoms = max(sum(len(primes_of(dim.size)) for dim in work.dims) for work in workloads)
    varied = {(v.memory, v.field) for v in space.variables}
    slots = [(level, -1) for level in range(len(full.levels))]
    for index, level in enumerate(full.levels):
        for axis, (name, field) in enumerate(zip(AXES, (Field.X, Field.Y), strict=True)):
            if level.fanout.extent(name) > 1 or (level.memory, field) in varied:
                slots.append((index, axis))
    return Frame(shape, max(1, atoms), tuple(slots))


def make_layer(workload: Workload, space: Space, frame: Frame) -> LayerArrays:
    """The arrays of one layer."""
    workload = trimmed(workload)
    number = {dim.name: index for index, dim in enumerate(workload.dims)}
    atoms = [(number[d.name], prime) for d in workload.dims for prime in primes_of(d.size)]
    atoms += [(0, 1)] * (frame.atoms - len(atoms))
    levels = space.template.levels
    allowed = np.ones((len(frame.slots), frame.dims), dtype=bool)
    for slot, (level, axis) in enumerate(frame.slots):
        names = None if axis < 0 else levels[level].fanout.allowed_dims(AXES[axis])
        if names is not None:
            allowed[slot] = [False] * frame.dims
            allowed[slot, [number[name] for name in names if name in number]] = True
    may = np.zeros((frame.shape.operands, frame.levels), dtype=bool)
    must = np.zeros_like(may)
    inputs = workload.inputs
    for place, operand in [*enumerate(inputs), (frame.shape.inputs, workload.output)]:
        for index, level in enumerate(levels):
            may[place, index] = index == 0 or level.may_keep(operand.name)
            fixed = level.keeps is not None and operand.name in level.keeps
            must[place, index] = index == 0 or fixed
    works = cast_floats(encode_work(workload, frame.shape), FLOATS)
    dims, primes = np.array(atoms).T
    return LayerArrays(
        works,
        cast("Array", dims.astype(np.int32)),
        cast("Array", primes.astype(FLOATS)),
        cast("Array", allowed),
        cast("Array", may),
        cast("Array", must & may),
    )


def networks_of(space: Space) -> Networks:
    """What the fan-outs of the space can do."""
    return encode_networks(space.template)


def simplest(layer: LayerArrays, frame: Frame, count: int) -> Genes:
    """All loops at the outermost level, everything kept that may be: it nearly always fits."""
    order = np.tile(np.arange(frame.dims, dtype=np.int8)[None, :, None], (frame.levels, 1, count))
    keeps = np.repeat(np.asarray(layer.may_keep)[:, :, None], count, axis=-1)
    return Genes(np.zeros((frame.atoms, count), dtype=np.int8), order, keeps)


def drawn(layer: LayerArrays, frame: Frame, count: int, random: np.random.Generator) -> Genes:
    """Mappings with every atom, order and bypass at random."""
    weight = np.asarray(layer.allowed)[:, np.asarray(layer.dim)].T.astype(float)  # [Z, slots]
    edges = np.cumsum(weight / weight.sum(axis=1, keepdims=True), axis=1)
    draw = random.random((frame.atoms, count, 1))
    slot = (draw > edges[:, None, :-1]).sum(axis=-1).astype(np.int8)
    places = random.random((frame.levels, frame.dims, count))
    order = np.argsort(places, axis=1).astype(np.int8)
    may, must = (np.asarray(x)[:, :, None] for x in (layer.may_keep, layer.must_keep))
    keeps = must | (may & (random.random((*may.shape[:2], count)) < 0.7))
    return Genes(slot, order, keeps)


def spread(
    genes: Genes,
    layer: LayerArrays,
    frame: Frame,
    copies: np.ndarray,
    random: np.random.Generator,
) -> Genes:
    """Mappings with atoms at random moved to axes of fan-outs, [V, A, B], as long as they fit."""
    slot = genes.slot.copy()
    allowed, dims = np.asarray(layer.allowed), np.asarray(layer.dim)
    primes = np.asarray(layer.prime)
    axes = [at for at, (_, axis) in enumerate(frame.slots) if axis >= 0]
    slot[np.isin(slot, axes)] = 0
    room = {at: copies[frame.slots[at]].astype(float) for at in axes}
    order = random.permuted(np.tile(np.arange(frame.atoms)[:, None], (1, genes.count)), axis=0)
    columns = np.arange(genes.count)
    for atoms in order:  # [B], another atom of each mapping
        prime = primes[atoms]
        left = prime > 1
        for at in random.permutation(axes).tolist():
            fits = left & allowed[at, dims[atoms]] & (room[at] >= prime)
            room[at] = np.where(fits, room[at] / prime, room[at])
            slot[atoms[fits], columns[fits]] = at
            left &= ~fits
    return Genes(slot, genes.order, genes.keeps)


def join_genes(parts: Sequence[Genes]) -> Genes:
    """Several, one after another."""
    return Genes(
        np.concatenate([part.slot for part in parts], axis=-1),
        np.concatenate([part.order for part in parts], axis=-1),
        np.concatenate([part.keeps for part in parts], axis=-1),
    )


def as_mapping(  # noqa: PLR0913, PLR0917
    genes: Genes,
    column: int,
    workload: Workload,
    hardware: Hardware,
    present: Sequence[bool],
    frame: Frame,
) -> Mapping:
    """One of them as a mapping; `hardware` is the chip without absent levels.

    Levels that are absent must have no loops: then `price_genes` says that the mapping fits.
    """
    workload = trimmed(workload)
    number = [dim.name for dim in workload.dims]
    extents = np.ones((len(frame.slots), frame.dims), dtype=int)
    atoms = [prime for dim in workload.dims for prime in primes_of(dim.size)]
    dims = [at for at, dim in enumerate(workload.dims) for _ in primes_of(dim.size)]
    for atom, (prime, dim) in enumerate(zip(atoms, dims, strict=True)):
        extents[int(genes.slot[atom, column]), dim] *= prime
    names = [operand.name for operand in workload.inputs]
    rows = [*range(len(names)), frame.shape.inputs]
    names.append(workload.output.name)
    memories = iter(level.memory for level in hardware.levels)
    blocks: list[Block] = []
    for level in range(frame.levels):
        temporal = tuple(
            Loop(number[dim], int(extents[level, dim]))
            for dim in genes.order[level, :, column]
            if dim < len(number) and extents[level, dim] > 1
        )
        if not present[level]:
            continue
        spatial = tuple(
            Loop(number[dim], int(extents[slot, dim]), AXES[axis])
            for slot, (at, axis) in enumerate(frame.slots)
            if at == level and axis >= 0
            for dim in range(len(number))
            if extents[slot, dim] > 1
        )
        kept = [
            name
            for name, row in zip(names, rows, strict=True)
            if level == 0 or genes.keeps[row, level, column]
        ]
        blocks.append(Block(next(memories), tuple(kept), temporal, spatial))
    last = blocks[-1]
    if not last.operands and not last.loops:
        blocks.pop()
    return Mapping(tuple(blocks))


def as_genes(mapping: Mapping, workload: Workload, space: Space, frame: Frame) -> Genes:
    """A mapping with perfect factors, one block per memory, as genes with 1 for B."""
    workload = trimmed(workload)
    number = {dim.name: index for index, dim in enumerate(workload.dims)}
    names = [level.memory for level in space.template.levels]
    slot_of = {where: slot for slot, where in enumerate(frame.slots)}
    left: dict[int, list[tuple[int, int]]] = {}
    order = np.tile(np.arange(frame.dims, dtype=np.int8)[:, None], (frame.levels, 1, 1))
    keeps = np.zeros((frame.shape.operands, frame.levels, 1), dtype=bool)
    operands = {operand.name: index for index, operand in enumerate(workload.inputs)}
    operands[workload.output.name] = frame.shape.inputs
    for block in mapping.blocks:
        level = names.index(block.memory)
        keeps[[operands[name] for name in block.operands], level] = True
        for loop in block.loops:
            slot = slot_of[level, -1 if loop.axis is None else AXES.index(loop.axis)]
            for prime in primes_of(loop.extent):
                left.setdefault(number[loop.dim], []).append((prime, slot))
        first = list(dict.fromkeys(number[loop.dim] for loop in block.temporal))
        order[level, :, 0] = [*first, *(d for d in range(frame.dims) if d not in first)]
    slot = np.zeros((frame.atoms, 1), dtype=np.int8)
    atoms = [(number[d.name], prime) for d in workload.dims for prime in primes_of(d.size)]
    for atom, (dim, prime) in enumerate(atoms):
        pairs = left[dim]
        at = next(i for i, pair in enumerate(pairs) if pair[0] == prime)
        slot[atom, 0] = pairs.pop(at)[1]
    return Genes(slot, order, keeps)
