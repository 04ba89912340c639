"""Random workloads, chips and mappings, small enough to be walked."""

import math
from dataclasses import dataclass, replace

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tilewright.errors import InputError
from tilewright.ir.hardware import AXES, Fanout, Hardware, Level
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.verify import axis_violations, verify_mapping
from tilewright.ir.workload import Workload, conv2d, einsum

MAX_ITERATIONS = 1500


@dataclass(frozen=True)
class Triple:
    workload: Workload
    hardware: Hardware
    mapping: Mapping

    def __repr__(self) -> str:
        fanouts = {
            level.memory: level.fanout for level in self.hardware.levels if level.fanout != Fanout()
        }
        bits = [operand.bits for operand in self.workload.operands]
        data = [rank.data for operand in self.workload.inputs for rank in operand.ranks]
        return (
            f"{self.workload.einsum} {self.workload.sizes} bits {bits} "
            f"psum {self.workload.psum_bits} data {data}\n{fanouts}\n{self.mapping}"
        )


def sizes(limit: int) -> st.SearchStrategy[int]:
    return st.integers(1, limit)


@st.composite
def convolutions(draw: DrawFn) -> Workload:
    stride = (draw(sizes(3)), draw(sizes(3)))
    dilation = (draw(sizes(3)), draw(sizes(2)))
    padding = draw(st.none() | st.tuples(*[st.integers(0, 3)] * 4))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    depthwise = groups > 1 and draw(st.booleans())
    try:
        return conv2d(
            "conv",
            N=draw(sizes(2)),
            G=groups,
            K=1 if depthwise else draw(sizes(6)),
            C=1 if depthwise else draw(sizes(5)),
            P=draw(sizes(9)),
            Q=draw(sizes(5)),
            R=draw(sizes(4)),
            S=draw(sizes(3)),
            stride=stride,
            dilation=dilation,
            padding=padding,
            bits=draw(st.sampled_from([None, {"O": 8, "psum": 24}, {"W": 8, "I": 4}])),
        )
    except InputError:
        assume(False)
        raise


@st.composite
def einsums(draw: DrawFn) -> Workload:
    text = draw(
        st.sampled_from(
            [
                "Z[M,J] += A[M,L] * X[L,J]",
                "Z[B,M,J] += A[B,M,L] * X[B,L,J]",
                "O[N,C,P,Q] += I[N,C,2P+R,2Q+S]",
                "O[N,C,P] += I[N,C,3P+2R]",
                "O[C,X,Y,Z] += W[C,R,S,T] * I[C,X+R,2Y+S,Z+2T]",
                "O[P] += A[P+R+S] * B[R]",
                "O[K,2P+R] += W[C,K,R] * I[C,P]",
                "O[2P+3R,Q] += W[R] * I[P,Q]",
                "D[] += A[M] * B[M]",
            ]
        )
    )
    dims = sorted({char for char in text if char.isupper()} & set("MJLBNCPQRSTXYZK"))
    used = [dim for dim in dims if any(dim in piece for piece in _ranks(text))]
    workload = einsum("einsum", text, {dim: draw(sizes(8)) for dim in used})
    return _cropped(draw, workload) if draw(st.booleans()) else workload


def _cropped(draw: DrawFn, workload: Workload) -> Workload:
    """Cut the borders off ranks of the output that slide, as padding of a transposed one does."""
    ranks = [
        replace(rank, data=(draw(st.integers(0, 2)), draw(st.integers(3, 9))))
        if len(rank.terms) > 1
        else rank
        for rank in workload.output.ranks
    ]
    return replace(workload, output=replace(workload.output, ranks=tuple(ranks)))


def _ranks(text: str) -> list[str]:
    return [piece.split("]")[0] for piece in text.split("[")[1:]]


workloads = convolutions() | einsums()


@st.composite
def chips(draw: DrawFn) -> Hardware:
    memories = ["DRAM", "GLB", "SPM", "RF"][: draw(st.integers(2, 4))]
    levels: list[Level] = []
    for memory in memories:
        fanout = Fanout()
        if draw(st.booleans()):
            fanout = Fanout(
                draw(sizes(4)),
                draw(sizes(3)),
                multicast=draw(st.sampled_from([True, True, False])),
                reduction=draw(st.sampled_from([True, True, False])),
                hop_pj=draw(st.sampled_from([0.0, 0.5])),
            )
        levels.append(Level(memory, fanout=fanout))
    return Hardware("chip", tuple(levels))


@st.composite
def mappings(draw: DrawFn, workload: Workload, hardware: Hardware, *, perfect: bool) -> Mapping:
    shells = _draw_blocks(draw, workload, hardware)
    temporal: list[list[Loop]] = [[] for _ in shells]
    spatial: list[list[Loop]] = [[] for _ in shells]
    room = {
        (level.memory, axis): level.fanout.extent(axis)
        for level in hardware.levels
        for axis in AXES
    }
    for dim, size in draw(st.permutations(list(workload.sizes.items()))):
        left = size
        while left > 1:
            place = draw(st.integers(0, len(shells) - 1))
            axis = draw(st.sampled_from([None, None, "x", "y"]))
            limit = left if axis is None else min(left, room[shells[place][0], axis])
            extents = [e for e in range(2, limit + 1) if not perfect or left % e == 0]
            if not extents:
                place, axis, extents = draw(st.integers(0, len(shells) - 1)), None, [left]
            extent = draw(st.sampled_from(extents))
            (temporal if axis is None else spatial)[place].append(Loop(dim, extent, axis))
            if axis is not None:
                room[shells[place][0], axis] //= extent
            left = left // extent if perfect else -(-left // extent)
    if not perfect and draw(st.integers(0, 4)) == 0:  # an extent beyond what the size needs
        dim = draw(st.sampled_from(list(workload.sizes)))
        temporal[draw(st.integers(0, len(shells) - 1))].append(Loop(dim, draw(sizes(2)) + 1))
    return Mapping(
        tuple(
            Block(memory, operands, tuple(draw(st.permutations(loops))), tuple(unrolled))
            for (memory, operands), loops, unrolled in zip(shells, temporal, spatial, strict=True)
        )
    )


def _draw_blocks(
    draw: DrawFn, workload: Workload, hardware: Hardware
) -> list[tuple[str, tuple[str, ...]]]:
    names = tuple(operand.name for operand in workload.operands)
    shells = [(hardware.levels[0].memory, names)]
    for level in hardware.levels[1:]:
        kept = [name for name in names if draw(st.integers(0, 3))]
        if draw(st.booleans()):  # uneven: a block for each of up to three parts
            part = {name: draw(st.integers(0, 2)) for name in kept}
            groups = [tuple(n for n in kept if part[n] == index) for index in range(3)]
            shells += [(level.memory, group) for group in groups if group]
        else:
            shells.append((level.memory, tuple(kept)))
    for i in range(1, len(shells) - 1):  # memories may interleave where operands are disjoint
        if not set(shells[i][1]) & set(shells[i + 1][1]) and draw(st.integers(0, 3)) == 0:
            shells[i], shells[i + 1] = shells[i + 1], shells[i]
    return shells


@st.composite
def triples(draw: DrawFn) -> Triple:
    """A workload, a chip and a mapping of one on the other, with every feature mixed in."""
    workload, hardware = draw(workloads), draw(chips())
    mapping = draw(mappings(workload, hardware, perfect=draw(st.booleans())))
    loops = [loop for block in mapping.blocks for loop in block.loops]
    assume(math.prod(loop.extent for loop in loops) <= MAX_ITERATIONS)
    try:
        verify_mapping(workload, hardware, mapping)
    except InputError:
        assume(False)
    assume(not axis_violations(hardware, mapping))
    return Triple(workload, hardware, mapping)
