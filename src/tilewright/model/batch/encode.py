"""From workloads, chips and mappings to arrays.

Owns: which shape they need, the encoding, and the refusal of what has no matrix form.

Non-goals: whether a mapping suits a workload and a chip at all (`verify_mapping`). Nothing here
counts, and all arrays are NumPy's.
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any, cast

import jax
import numpy as np
from numpy.typing import DTypeLike, NDArray

from tilewright.errors import InputError, Problem
from tilewright.ir.hardware import AXES, Hardware, Level
from tilewright.ir.mapping import Mapping
from tilewright.ir.nest import Nest, flatten
from tilewright.ir.workload import Operand, Rank, Workload
from tilewright.model.batch.nouns import Array, Batch, Chips, Nests, Networks, Shape, Works
from tilewright.model.convention import DEFAULT, Convention, Footprint, Reuse
from tilewright.tech import apply_technology

MOST_DIMS = 31
"""Sets of dims are the bits of a 32-bit integer."""
_GROUPS = 2
_NO_SHARE_BITS = 0.5
"""A share that no word fits, but nothing does; 0 would divide 0 by 0."""


def shape_for(
    workloads: Iterable[Workload],
    hardware: Hardware,
    mappings: Iterable[Mapping] = (),
    *,
    loops: int = 0,
    convention: Convention = DEFAULT,
) -> Shape:
    """The smallest shape that has room for all of them.

    Args:
        workloads: the layers.
        hardware: the chip, or the one of several with the most levels.
        mappings: of any of the layers.
        loops: room for at least so many temporal loops.
        convention: the rules to count by; any but `timeloop`.

    Raises: `InputError` for the convention `timeloop`, which has no matrix form.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> from tilewright.ir.workload import conv2d
    >>> chip = Hardware("chip", (Level("DRAM"), Level("RF")))
    >>> shape_for([conv2d("layer", K=8, C=4, P=6, Q=6, R=3, S=3)], chip, loops=12)
    ... # doctest: +ELLIPSIS
    Shape(loops=12, levels=2, dims=7, inputs=2, sums=(1,), ranks=2, terms=2, places=False, ...
    """
    if convention.reuse is Reuse.TIMELOOP:
        what = "the convention `timeloop` has no matrix form"
        raise InputError(Problem(what, "count in the convention `default`"))
    layers = list(workloads)
    nests = [flatten(mapping, hardware) for mapping in mappings]
    temporal = [sum(not loop.spatial for loop in nest.loops) for nest in nests]
    inputs = max(len(layer.inputs) for layer in layers)
    sums, ranks, terms = set[int](), 1, 1
    for layer in layers:
        for position, operand in _placed(layer, inputs):
            summed = _summed(operand, convention)
            sums |= {position} if summed else set()
            ranks = max(ranks, len(summed))
            terms = max([terms, *(len(rank.terms) for rank in summed)])
    return Shape(
        loops=max([1, loops, *temporal]),
        levels=len(hardware.levels),
        dims=max(len(layer.dims) for layer in layers),
        inputs=inputs,
        sums=tuple(sorted(sums)),
        ranks=ranks,
        terms=terms,
        places=any(_may_meet(layer, nest) for layer in layers for nest in nests),
        hops=any(level.fanout.hop_pj > 0 for level in hardware.levels),
        convention=convention,
    )


def _placed(workload: Workload, inputs: int) -> Iterator[tuple[int, Operand]]:
    """The operands and their positions, of which the last is the output's."""
    yield from enumerate(workload.inputs)
    yield inputs, workload.output


def _summed(operand: Operand, convention: Convention) -> list[Rank]:
    """The ranks of which tiles may overlap in part, or are no plain product of extents."""
    box = convention.footprint is Footprint.BOX
    return [
        rank
        for rank in operand.ranks
        if len(rank.terms) > 1 or (box and any(term.coefficient > 1 for term in rank.terms))
    ]


def _may_meet(workload: Workload, nest: Nest) -> bool:
    """Whether two dims of one rank are unrolled."""
    unrolled = {loop.dim for loop in nest.loops if loop.spatial}
    ranks = [rank for operand in workload.operands for rank in operand.ranks]
    return any(len(unrolled & {term.dim for term in rank.terms}) > 1 for rank in ranks)


def encode(  # noqa: PLR0913
    workload: Workload,
    hardware: Hardware,
    mappings: Sequence[Mapping],
    *,
    shape: Shape | None = None,
    convention: Convention = DEFAULT,
    padding_as_words: bool = False,
    dtype: DTypeLike = np.float64,
) -> Batch:
    r"""Encode mappings of one layer on one chip; `join` puts several such batches into one.

    Args:
        workload: the layer.
        hardware: the chip; here its levels and networks matter, not its energies.
        mappings: mappings that `verify_mapping` accepts.
        shape: room for loops, dims and so on; the smallest that fits by default.
        convention: the rules to count by, if no shape says so; any but `timeloop`.
        padding_as_words: count coordinates that are padding as if they were data; words are then
            those of a layer without padding on an input as large as input and padding together,
            never fewer than there are.
        dtype: 64-bit floats count exactly below 2⁵³; 32-bit floats only below 2²⁴.

    Returns: the batch, in NumPy arrays.

    Raises: `InputError` for what has no matrix form: padding, imperfect factors, ranks of more than
        two different coefficients, an output whose rank is a sum unrolled outside a block of it or
        in the footprint `box`, three unrolled loops of one rank served at once; and for what the
        shape has no room for.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> from tilewright.ir.mapping import parse_mapping
    >>> from tilewright.ir.workload import einsum
    >>> layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    >>> chip = Hardware("chip", (Level("DRAM"), Level("RF")))
    >>> batch = encode(layer, chip, [parse_mapping("DRAM[W I O]: M4\nRF[I O]: K8")])
    >>> batch.nests.extents[:, 0].tolist(), batch.nests.depths[:, 1, 0].tolist()
    ([4.0, 8.0], [0, 1, 1])

    Source: `spec/model.md §3`, Matrix form.
    """
    if shape is None:
        shape = shape_for([workload], hardware, mappings, convention=convention)
    bare = bare_of_padding(workload) if padding_as_words else workload
    problems = [*_check_layer(bare, shape), *_check_room(bare, hardware, shape)]
    nests = [flatten(mapping, hardware) for mapping in mappings]
    for mapping, nest in zip(mappings, nests, strict=True):
        found = _check_nest(bare, hardware, nest, shape)
        problems += [replace(p, where=f"mapping `{_one_line(mapping)}`") for p in found]
    if problems:
        raise InputError(problems)
    drawn = [
        _draw(bare, hardware, mapping, nest, shape)
        for mapping, nest in zip(mappings, nests, strict=True)
    ]
    stacked: Nests = jax.tree.map(lambda *leaves: np.stack(leaves, axis=-1), *drawn)
    batch = Batch(stacked, encode_work(bare, shape), encode_networks(hardware), shape)
    return cast_floats(batch, dtype)


def _one_line(mapping: Mapping) -> str:
    return "; ".join(map(str, mapping.blocks))


def bare_of_padding(workload: Workload) -> Workload:
    def bare(operand: Operand) -> Operand:
        return replace(operand, ranks=tuple(replace(rank, data=None) for rank in operand.ranks))

    inputs = tuple(map(bare, workload.inputs))
    return replace(workload, output=bare(workload.output), inputs=inputs)


def _check_layer(workload: Workload, shape: Shape) -> Iterable[Problem]:
    """What of a layer has no matrix form."""
    if shape.convention.footprint is Footprint.BOX:
        for rank in _summed(workload.output, shape.convention):
            # What all tiles touch together is then no box, and differs from level to level.
            what = f"rank {rank} of the output in the footprint `box` has no matrix form"
            yield Problem(what, "count in the convention `default`", workload.name)
    for operand in workload.operands:
        for rank in operand.ranks:
            clips = rank.data is not None and shape.convention.footprint is Footprint.WORDS
            if clips:
                what = f"rank {rank} of {operand.name} has padding, which has no matrix form"
                fix = "pass padding_as_words=True to count it as data, or use `evaluate`"
                yield Problem(what, fix, workload.name)
            different = {term.coefficient for term in rank.terms}
            if len(different) > _GROUPS and shape.convention.footprint is Footprint.WORDS:
                what = f"rank {rank} of {operand.name} has {len(different)} different coefficients"
                fix = f"the matrix form knows {_GROUPS}; use `evaluate`"
                yield Problem(what, fix, workload.name)


def _check_room(workload: Workload, hardware: Hardware, shape: Shape) -> Iterable[Problem]:
    """What of a layer and a chip the shape has no room for."""
    need = shape_for([workload], hardware, convention=shape.convention)
    for label in ("dims", "inputs", "ranks", "terms"):
        have, want = getattr(shape, label), getattr(need, label)
        if want > have:
            yield Problem(f"{want} {label}, the shape has room for {have}", "", workload.name)
    if len(workload.dims) > MOST_DIMS:
        what = f"{len(workload.dims)} dims: the matrix form knows up to {MOST_DIMS}"
        yield Problem(what, "use `evaluate`", workload.name)
    if need.levels != shape.levels:
        what = f"{need.levels} levels, the shape is for {shape.levels}"
        yield Problem(what, "make a shape for this chip", hardware.name)
    if need.hops and not shape.hops:
        what = "hops cost energy, but the shape does not count them"
        yield Problem(what, "set hops=True in the shape", hardware.name)
    if len(workload.inputs) <= shape.inputs:
        for position, operand in _placed(workload, shape.inputs):
            if position not in shape.sums and _summed(operand, shape.convention):
                what = f"{operand} has a rank that is a sum, and the shape no room for it"
                fix = f"add {position} to the shape's sums"
                yield Problem(what, fix, workload.name)


def _check_nest(
    workload: Workload, hardware: Hardware, nest: Nest, shape: Shape
) -> Iterable[Problem]:
    """What of a mapping has no matrix form, or no room in the shape."""
    for dim, size in workload.sizes.items():
        covered = math.prod(loop.extent for loop in nest.loops if loop.dim == dim)
        if covered != size:
            what = f"the factors of {dim} make {covered}, its size is {size}"
            yield Problem(f"{what}: imperfect factors have no matrix form", "use `evaluate`")
    temporal = sum(not loop.spatial for loop in nest.loops)
    if temporal > shape.loops:
        what = f"{temporal} temporal loops, the shape has room for {shape.loops}"
        yield Problem(what, f"set loops={temporal} in the shape")
    if _may_meet(workload, nest) and not shape.places:
        what = "two dims of one rank are unrolled, and the shape does not look for equal tiles"
        yield Problem(what, "set places=True in the shape")
    yield from _check_output(workload.output, nest, shape)
    for operand in workload.operands:
        for rank in operand.ranks:
            yield from _check_meeting(operand, rank, hardware, nest)


def _check_output(output: Operand, nest: Nest, shape: Shape) -> Iterable[Problem]:
    innermost = nest.stores[output.name][-1].level
    for rank in _summed(output, shape.convention):
        dims = {term.dim for term in rank.terms}
        outer = [
            loop
            for loop in nest.loops
            if loop.spatial and loop.dim in dims and loop.level < innermost
        ]
        if outer and len(rank.terms) > 1:
            what = f"{outer[0].dim} of rank {rank} of the output is unrolled outside a block of it"
            yield Problem(f"{what}: this has no matrix form", "use `evaluate`")


def _check_meeting(
    operand: Operand, rank: Rank, hardware: Hardware, nest: Nest
) -> Iterable[Problem]:
    """Three digits of one rank on one edge have no closed form for their different sums."""
    dims = {term.dim for term in rank.terms}
    levels = [store.level for store in nest.stores[operand.name]] + [len(hardware.levels)]
    for outer, inner in pairwise(levels):
        for label in ("multicast", "reduction"):
            joined = [v for v in range(outer, inner) if getattr(hardware.levels[v].fanout, label)]
            if len(dims) > 1 and _digits(nest, dims, joined) > _GROUPS:
                what = f"three unrolled loops of rank {rank} of {operand.name} are served at once"
                yield Problem(f"{what}: this has no matrix form", "use `evaluate`")
                return


def _digits(nest: Nest, dims: set[str], levels: list[int]) -> int:
    """How many digits the joined copies of a rank have; loops that continue each other make one.

    With one dim alone there is nothing to meet.
    """
    count, unrolled = 0, set[str]()
    for dim in dims:
        loops = [
            loop for loop in nest.loops if loop.spatial and loop.dim == dim and loop.level in levels
        ]
        unrolled |= {dim} if loops else set()
        count += bool(loops)
        count += sum(outer.step != inner.step * inner.extent for outer, inner in pairwise(loops))
    return count if len(unrolled) > 1 else 0


def _draw(
    workload: Workload, hardware: Hardware, mapping: Mapping, nest: Nest, shape: Shape
) -> Nests:
    """One mapping, without the axis B."""
    number = {dim: index for index, dim in enumerate(workload.sizes)}
    temporal = [loop for loop in nest.loops if not loop.spatial]
    missing = shape.loops - len(temporal)
    unrolled = np.ones((shape.levels, len(AXES), shape.dims))
    for block in mapping.blocks:
        level = hardware.level_index(block.memory)
        for loop in block.spatial:
            unrolled[level, AXES.index(loop.axis or ""), number[loop.dim]] *= loop.extent
    keeps = np.zeros((shape.operands, shape.levels), dtype=bool)
    depths = np.zeros((shape.operands, shape.levels), dtype=np.int32)
    for position, operand in _placed(workload, shape.inputs):
        for store in nest.stores[operand.name]:
            keeps[position, store.level] = True
            outside = nest.loops[: store.depth]
            depths[position, store.level] = sum(not loop.spatial for loop in outside)
    parts: list[NDArray[Any]] = [
        np.array([loop.extent for loop in temporal] + [1] * missing, dtype=float),
        np.array([number[loop.dim] for loop in temporal] + [0] * missing, dtype=np.int32),
        np.array([loop.level for loop in temporal] + [shape.levels - 1] * missing, dtype=np.int32),
        unrolled,
        keeps,
        depths,
    ]
    return Nests(*(cast("Array", part) for part in parts))


def encode_work(workload: Workload, shape: Shape) -> Works:
    """Encode a layer, in NumPy arrays with 1 for B."""
    number = {dim: index for index, dim in enumerate(workload.sizes)}
    indexing = np.zeros(shape.operands, dtype=np.int32)
    alone = np.zeros(shape.operands, dtype=np.int32)
    bits = np.zeros(shape.operands)
    sums = _SumArrays(shape)
    for position, operand in _placed(workload, shape.inputs):
        summed = _summed(operand, shape.convention)
        bits[position] = operand.bits
        for rank in operand.ranks:
            mask = sum(1 << number[term.dim] for term in rank.terms)
            indexing[position] |= mask
            alone[position] |= 0 if rank in summed else mask
        if position in shape.sums:
            sums.fill(shape.sums.index(position), summed, number)
    whole = [indexing, alone, sums.terms, sums.weights, sums.ratio, sums.coefficients, bits]
    whole.append(np.array(float(workload.psum_bits)))
    return Works(*(cast("Array", part[..., None]) for part in whole))


class _SumArrays:
    """The ranks that are sums, being written down."""

    def __init__(self, shape: Shape) -> None:
        count, ranks, terms = len(shape.sums), shape.ranks, shape.ranks * shape.terms
        self.room = shape.terms
        self.in_box = shape.convention.footprint is Footprint.BOX
        self.terms = np.full((count, terms), -1, dtype=np.int32)
        self.weights = np.zeros((count, ranks, _GROUPS, terms))
        self.ratio = np.ones((count, ranks, _GROUPS))
        self.coefficients = np.zeros((count, terms))

    def fill(self, at: int, ranks: list[Rank], number: dict[str, int]) -> None:
        for index, rank in enumerate(ranks):
            groups = sorted({term.coefficient for term in rank.terms})
            common = math.gcd(*groups)
            for place, term in enumerate(rank.terms, start=index * self.room):
                group = 0 if self.in_box else groups.index(term.coefficient)
                self.terms[at, place] = number[term.dim]
                self.coefficients[at, place] = term.coefficient
                self.weights[at, index, group, place] = term.coefficient if self.in_box else 1
            if not self.in_box:
                for group, coefficient in enumerate(groups):
                    self.ratio[at, index, group] = coefficient // common


def encode_networks(hardware: Hardware) -> Networks:
    """Encode what fan-outs can do, in NumPy arrays with 1 for B."""
    fanouts = [level.fanout for level in hardware.levels]
    return Networks(
        cast("Array", np.array([[fanout.multicast] for fanout in fanouts])),
        cast("Array", np.array([[fanout.reduction] for fanout in fanouts])),
    )


def encode_chip(
    hardware: Hardware, workload: Workload, shape: Shape, *, dtype: DTypeLike = np.float64
) -> Chips:
    """Encode what prices depend on, in NumPy arrays with 1 for B.

    Args:
        hardware: the chip; energies and areas that are not given come from its technology.
        workload: names the operands, of which memories may have shares.
        shape: that of the batch to be priced.
        dtype: of the floats.
    """
    priced, _ = apply_technology(hardware)
    levels = priced.levels
    unit = priced.compute

    def each(values: Iterable[float | None], missing: float = math.inf) -> Array:
        array = np.array([[missing if value is None else value] for value in values])
        return cast("Array", array.astype(dtype))

    def one(value: float | None) -> Array:
        return cast("Array", np.array([value or 0.0], dtype=dtype))

    return Chips(
        read_pj=each((level.read_pj for level in levels), 0),
        write_pj=each((level.write_pj for level in levels), 0),
        update_pj=each(map(_update_pj, levels), 0),
        word_bits=each(level.word_bits for level in levels),
        read_bandwidth=each(level.read_bandwidth for level in levels),
        write_bandwidth=each(level.write_bandwidth for level in levels),
        bandwidth=each(level.bandwidth for level in levels),
        leak_pj_per_cycle=each(level.leak_pj_per_cycle for level in levels),
        area_mm2=each((level.area_mm2 for level in levels), 0),
        hop_pj=each(level.fanout.hop_pj for level in levels),
        copies=_copies(levels, dtype),
        capacity_bits=each(
            None if isinstance(level.capacity, tuple) else level.usable_bits() for level in levels
        ),
        share_bits=_shares(levels, workload, shape, dtype),
        mac_pj=one(unit.pj),
        mac_area_mm2=one(unit.area_mm2),
        clock_ghz=one(priced.clock_ghz),
    )


def _update_pj(level: Level) -> float | None:
    return level.write_pj if level.update_pj is None else level.update_pj


def _copies(levels: Sequence[Level], dtype: DTypeLike) -> Array:
    copies = [[[level.fanout.extent(axis)] for axis in AXES] for level in levels]
    return cast("Array", np.array(copies, dtype=dtype))


def _shares(levels: Sequence[Level], workload: Workload, shape: Shape, dtype: DTypeLike) -> Array:
    shares = np.full((shape.operands, shape.levels, 1), math.inf, dtype=dtype)
    for position, operand in _placed(workload, shape.inputs):
        for index, level in enumerate(levels):
            if isinstance(level.capacity, tuple):
                shares[position, index] = level.usable_bits(operand.name) or _NO_SHARE_BITS
    return cast("Array", shares)


def cast_floats(noun: Any, dtype: DTypeLike) -> Any:
    """The same noun with its floats in another precision."""

    def cast_one(leaf: NDArray[Any]) -> NDArray[Any]:
        return leaf.astype(dtype) if np.issubdtype(leaf.dtype, np.floating) else leaf

    return jax.tree.map(cast_one, noun)


def unrolled_pairs(workload: Workload) -> list[tuple[str, str]]:
    """Pairs of dims that index one rank, whose unrolling together needs a shape with `places`."""
    ranks = [rank for operand in workload.operands for rank in operand.ranks]
    return [(one.dim, other.dim) for rank in ranks for one, other in combinations(rank.terms, 2)]
