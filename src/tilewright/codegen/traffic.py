"""The nest of a program as a mapping, and the lines that its caches fetch, as the model has it.

Owns: `nest_of`: the loops of a program, outermost first; `predict`: which loops each cache holds
(`docs/compile.md`, The cache model), the mapping that says so, and its price by `model.evaluate`.

Non-goals: choosing the loops (`blocking.py`); counting what really moves (`simulate.py`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tilewright.codegen.cpu import Cache, Cpu
from tilewright.codegen.shape import Shape, Window
from tilewright.codegen.tiling import Layout, Plan, row_tiles
from tilewright.ir.hardware import Compute, Fanout, Hardware, Level
from tilewright.ir.mapping import Block, Loop
from tilewright.ir.mapping import Mapping as Nest
from tilewright.ir.workload import Operand, Workload, conv2d, make_workload
from tilewright.model.convention import DEFAULT, find_convention
from tilewright.model.evaluate import count_mapping

SHARE = 0.85
"""Of a cache that the tiles of a block may take. The rest is lost to conflicts of lines and to what
is fetched ahead; where this number comes from is written in `docs/compile.md`."""

ELEMENT_BYTES = 4
OPERAND_DIMS = {"I": "NGCPQRS", "W": "GKCRS", "O": "NGKPQ"}
_DIMS = ("N", "G", "K", "C", "P", "Q", "R", "S")


@dataclass(frozen=True, slots=True)
class CacheTraffic:
    """What one cache holds and fetches.

    Attributes:
        cache: which.
        tile_bytes: what it holds of all operands, in whole lines.
        fits: whether that is within its share.
        lines: fetched from the next cache, or from DRAM, by operand; reads and write-allocates.
    """

    cache: Cache
    tile_bytes: int
    fits: bool
    lines: Mapping[str, int]

    @property
    def total_lines(self) -> int:
        """Lines fetched, of all operands."""
        return sum(self.lines.values())


@dataclass(frozen=True, slots=True)
class Traffic:
    """The prediction for a program: its mapping, and each cache's traffic, L1 first."""

    workload: Workload
    mapping: Nest
    caches: tuple[CacheTraffic, ...]


def elements_workload(shape: Shape, layout: Layout) -> Workload:
    """The layer in elements of the packed arrays: C counts pairs of channels for int8."""
    rows, columns = shape.rows, shape.columns
    top, height, bottom = _sides(rows)
    left, width, right = _sides(columns)
    bits = {"W": 32, "I": 32, "O": 32}
    work = conv2d(
        shape.name,
        N=shape.batch,
        G=shape.groups,
        K=shape.outputs,
        C=1 if shape.per_channel else layout.elements,
        R=rows.taps,
        S=columns.taps,
        stride=(rows.stride, columns.stride),
        dilation=(rows.dilation, columns.dilation),
        padding=(top, left, bottom, right),
        in_height=height,
        in_width=width,
        bits=bits,
    )
    return _without_weights(work) if shape.pool else work


def _sides(axis: Window) -> tuple[int, int, int]:
    """Padding before, pixels, padding after, so that just what is touched is there."""
    touched = (axis.places - 1) * axis.stride + (axis.taps - 1) * axis.dilation + 1
    size = max(min(axis.size, touched - axis.before), 1)
    return axis.before, size, max(touched - axis.before - size, 0)


def _without_weights(work: Workload) -> Workload:
    image, output = work.operand("I"), work.output

    def only(operand: Operand, kept: str) -> Operand:
        ranks = tuple(rank for rank in operand.ranks if rank.terms[0].dim in kept)
        return Operand(operand.name, ranks, operand.bits)

    x, y = only(image, "NGPQRS"), only(output, "NGPQ")
    used = set(x.dims)
    sizes = {dim: size for dim, size in work.sizes.items() if dim in used}
    bits = {"I": 32, "O": 32}
    return make_workload(work.name, sizes, ("O", y.ranks), [("I", x.ranks)], bits)


@dataclass(frozen=True, slots=True)
class LoopNest:
    """The loops of a program, outermost first: around the register tile, inside it, its lanes."""

    outer: tuple[tuple[str, int], ...]
    inner: tuple[tuple[str, int], ...]
    unrolled: tuple[tuple[str, int], ...]
    lanes: tuple[str, int]


def nest_of(plan: Plan) -> LoopNest:
    """The loops of a program as it runs them."""
    shape, layout, blocking = plan.shape, plan.layout, plan.blocking
    rows, columns = shape.rows, shape.columns
    blocks = -(-rows.places // blocking.rows)
    if shape.per_channel:
        tiles = -(-columns.places // blocking.width)
        outer = [("N", shape.batch), ("G", layout.out_blocks), ("P", blocks), ("P", blocking.rows)]
        inner = (("R", rows.taps), ("S", columns.taps))
        pixels = (("Q", blocking.width),)
        return LoopNest((*outer, ("Q", tiles)), inner, pixels, ("G", layout.lanes))
    vectors = -(-layout.out_blocks // blocking.vectors)
    across, tiles = row_tiles(columns, blocking)
    chunks = -(-layout.elements // blocking.chunk)
    blocks_of = {"K": [("K", vectors)], "P": [("P", blocks), ("Q", across)], "C": [("C", chunks)]}
    chunk_blocks = -(-blocking.chunk // layout.in_lanes)
    outer = [
        ("N", shape.batch),
        ("G", layout.groups),
        *(loop for letter in blocking.order for loop in blocks_of[letter]),
        ("P", blocking.rows),
        ("Q", tiles),
    ]
    inner = (
        ("C", chunk_blocks),
        ("R", rows.taps),
        ("C", layout.in_lanes),
        ("S", columns.taps),
    )
    unrolled = (("Q", blocking.width), ("K", blocking.vectors))
    return LoopNest(tuple(outer), inner, unrolled, ("K", layout.lanes))


def tile_lines(shape: Shape, layout: Layout, span: Mapping[str, int], line: int) -> dict[str, int]:
    """Lines of each operand's tile; `span` is what each dim spans inside it."""
    t = clipped_span(shape, layout, span)
    rows = _touched(shape.rows, t["P"], t["R"])
    lanes = layout.lanes
    channels = t["G"] if shape.per_channel else t["C"]
    out_channels = t["G"] if shape.per_channel else t["K"]
    groups = 1 if shape.per_channel else t["G"]
    image = t["N"] * groups * -(-channels // layout.in_lanes)
    row_lines = _row_lines(shape.columns, t["Q"], t["S"], layout.in_lanes * ELEMENT_BYTES, line)
    out_row = -(-t["Q"] * lanes * ELEMENT_BYTES // line)
    output = t["N"] * groups * -(-out_channels // lanes) * t["P"] * out_row
    lines = {"I": image * rows * row_lines, "O": output}
    if not shape.pool:
        filters = groups * -(-out_channels // lanes) * lanes * t["R"] * t["S"]
        filters *= 1 if shape.per_channel else t["C"]
        lines["W"] = -(-filters * ELEMENT_BYTES // line)
    return lines


def clipped_span(shape: Shape, layout: Layout, span: Mapping[str, int]) -> dict[str, int]:
    """What each dim spans inside a tile, no more than there is."""
    sizes = _dim_sizes(shape, layout)
    return {dim: min(span.get(dim, 1), size) for dim, size in zip(_DIMS, sizes, strict=True)}


def _dim_sizes(shape: Shape, layout: Layout) -> tuple[int, ...]:
    inputs = 1 if shape.per_channel else layout.elements
    rows, columns = shape.rows, shape.columns
    sizes = (shape.batch, shape.groups, shape.outputs, inputs, rows.places, columns.places)
    return (*sizes, rows.taps, columns.taps)


def _row_lines(axis: Window, places: int, taps: int, pixel: int, line: int) -> int:
    """Lines of a row of the image; pixels that a stride skips lie in lines that it fetches."""
    box = min((places - 1) * axis.stride + (taps - 1) * axis.dilation + 1, axis.size)
    whole = -(-box * pixel // line)
    return min(whole, _touched(axis, places, taps) * -(-pixel // line))


def _touched(axis: Window, places: int, taps: int) -> int:
    box = (places - 1) * axis.stride + (taps - 1) * axis.dilation + 1
    return min(box, places * taps, axis.size)


@dataclass(frozen=True, slots=True)
class Residence:
    """Which loops each cache holds.

    Attributes:
        depths: the loops outside each cache's tile, L1 first.
        tiles: bytes of the tile of each cache, and whether it fits the cache's share.
    """

    depths: tuple[int, ...]
    tiles: tuple[tuple[int, bool], ...]

    def streams(self, shape: Shape) -> int:
        """Through how many caches, L1 first, weights and image of a tile pass: they fit none."""
        return 0 if shape.per_channel else sum(not fits for _, fits in self.tiles)


def reside(plan: Plan, cpu: Cpu) -> Residence:
    """For each cache, the outermost loop inside which everything fits its share."""
    nest, depths, tiles = nest_of(plan), list[int](), list[tuple[int, bool]]()
    held = {line: _tile_bytes(plan, nest, line) for line in {c.line_bytes for c in cpu.caches}}
    deepest = len(nest.outer)
    for cache in cpu.caches:
        room, used = usable_bytes(cache, plan.blocking.threads), held[cache.line_bytes]
        fitting = (depth for depth in range(deepest) if used[depth] <= room)
        deepest = next(fitting, deepest)
        depths.append(deepest)
        tiles.append((used[deepest], used[deepest] <= room))
    return Residence(tuple(depths), tuple(tiles))


def predict(plan: Plan, cpu: Cpu) -> Traffic:
    """Say which loops each cache holds, and what it fetches, by the project's own counts."""
    residence, nest = reside(plan, cpu), nest_of(plan)
    work = elements_workload(plan.shape, plan.layout)
    streams = residence.streams(plan.shape)
    mapping = write_mapping(work, nest, residence.depths, streams=streams)
    lines = list(_count(work, mapping, cpu.caches, nest.lanes[1]))
    for cache, moved in zip(cpu.caches, lines, strict=True):
        moved["I"] = math.ceil(moved["I"] * _line_waste(plan, cache))
    parts = zip(cpu.caches, residence.tiles, lines, strict=True)
    caches = tuple(CacheTraffic(cache, *tile, moved) for cache, tile, moved in parts)
    return Traffic(work, mapping, caches)


def _line_waste(plan: Plan, cache: Cache) -> float:
    """Bytes fetched of a row of the image for each byte that is read of it: strides skip pixels."""
    columns, pixel = plan.shape.columns, plan.layout.in_lanes * ELEMENT_BYTES
    box = (columns.places - 1) * columns.stride + (columns.taps - 1) * columns.dilation + 1
    read = _touched(columns, columns.places, columns.taps)
    fetched = min(min(box, columns.size) * pixel, read * max(pixel, cache.line_bytes))
    return max(1.0, fetched / (read * pixel))


def estimate(plan: Plan, cpu: Cpu) -> tuple[int, ...]:
    """Lines that each cache fetches, L1 first: quicker than `predict`, for ranking candidates.

    A tile is fetched once for each round of the loops outside, down to the innermost that moves
    it; along a loop over rows or columns only what is new is fetched.
    """
    residence, nest = reside(plan, cpu), nest_of(plan)
    streams = residence.streams(plan.shape)
    return tuple(
        lines_held_inside(plan, nest, depth, cache, passing=level < streams)
        for level, (depth, cache) in enumerate(zip(residence.depths, cpu.caches, strict=True))
    )


def lines_held_inside(
    plan: Plan, nest: LoopNest, depth: int, cache: Cache, *, passing: bool = False
) -> int:
    """Lines that a cache fetches which keeps what is inside so many loops; see `estimate`.

    With `passing` not even what a register tile reads of weights and image: for every tile anew.
    """
    inside = [*nest.outer[depth:], *nest.inner, *nest.unrolled, nest.lanes]
    sizes: dict[str, int] = dict(zip(_DIMS, _dim_sizes(plan.shape, plan.layout), strict=True))
    sizes["K"] = plan.layout.out_blocks * plan.layout.lanes
    total = 0.0
    for name, dims in OPERAND_DIMS.items():
        if name == "W" and plan.shape.pool:
            continue
        around, within = list(nest.outer[:depth]), inside
        if passing and name != "O":
            around = list(nest.outer)
        else:
            while around and (around[-1][1] == 1 or around[-1][0] not in dims):
                around.pop()
            if name == "I" and around and around[-1][0] in "PQ":
                within = [around.pop(), *inside]
        span = _span(within)
        tile = tile_lines(plan.shape, plan.layout, span, cache.line_bytes)[name]
        moved = [loop for loop in around if loop[0] in dims]
        total += tile * math.prod(extent for _, extent in around) * _present(span, moved, sizes)
    return round(total)


def _present(
    span: Mapping[str, int], around: Sequence[tuple[str, int]], sizes: Mapping[str, int]
) -> float:
    """The share of what the loops around tiles run over that is there: last tiles are smaller."""
    share = 1.0
    for dim in {dim for dim, _ in around if dim in "CKPQ"}:
        steps = math.prod(extent for other, extent in around if other == dim)
        share *= min(1.0, sizes[dim] / (steps * min(span.get(dim, 1), sizes[dim])))
    return share


def usable_bytes(cache: Cache, threads: int) -> int:
    """What the tiles of one core may take of a cache."""
    return int(cache.capacity_bytes * SHARE) // sharing_cores(cache, threads)


def sharing_cores(cache: Cache, threads: int) -> int:
    """Threads that run on cores with this one cache."""
    return min(max(threads, 1), cache.sharers)


def span_inside(nest: LoopNest, depth: int) -> dict[str, int]:
    """What each dim spans inside so many of the outer loops."""
    return _span([*nest.outer[depth:], *nest.inner, *nest.unrolled, nest.lanes])


def _tile_bytes(plan: Plan, nest: LoopNest, line: int) -> list[int]:
    """What the tiles of all operands take, in whole lines, inside each number of outer loops."""
    found: list[int] = []
    for depth in range(len(nest.outer) + 1):
        if depth and nest.outer[depth - 1][1] == 1:
            found.append(found[-1])
            continue
        lines = tile_lines(plan.shape, plan.layout, span_inside(nest, depth), line)
        found.append(sum(lines.values()) * line)
    return found


def _span(loops: Sequence[tuple[str, int]]) -> dict[str, int]:
    span: dict[str, int] = {}
    for dim, extent in loops:
        span[dim] = span.get(dim, 1) * extent
    return span


def write_mapping(work: Workload, nest: LoopNest, depths: Sequence[int], *, streams: int) -> Nest:
    """The nest in the notation of mappings.

    `depths` are the loops outside each cache's tile, L1 first. Through so many caches as the nest
    `streams`, weights and image pass: what a register tile reads is gone before the next one.
    They stand in blocks of their own, inside a loop that has run through all of a tile by then.
    """
    present = set(work.sizes)
    operands = tuple(operand.name for operand in work.operands)
    blocks: list[Block] = []
    bounds = [0, *reversed(depths), len(nest.outer)]
    levels = range(len(depths), 0, -1)
    names = ["DRAM", *(f"L{level}" for level in levels)]
    passed = [f"L{level}" for level in levels if level <= streams]
    for memory, start, stop in zip(names, bounds[:-1], bounds[1:], strict=True):
        kept = (work.output.name,) if memory in passed else operands
        blocks.append(Block(memory, kept, _loops(nest.outer[start:stop], present)))
    lanes = tuple(Loop(dim, extent, "x") for dim, extent in [nest.lanes] if dim in present)
    if not streams:
        inside = _loops((*nest.inner, *nest.unrolled), present)
        return Nest((*blocks, Block("REG", ("O",), inside, lanes)))
    cut = next((at for at, (_, extent) in enumerate(nest.inner, 1) if extent > 1), 0)
    blocks.append(Block("REG", ("O",), _loops(nest.inner[:cut], present)))
    blocks += [Block(memory, ("I",), ()) for memory in passed]
    blocks.append(Block("REG", (), _loops(nest.inner[cut:], present)))
    blocks += [Block(memory, ("W",), ()) for memory in passed]
    return Nest((*blocks, Block("REG", (), _loops(nest.unrolled, present), lanes)))


def _loops(loops: Sequence[tuple[str, int]], present: set[str]) -> tuple[Loop, ...]:
    return tuple(Loop(dim, extent) for dim, extent in loops if extent > 1 and dim in present)


def machine(caches: Sequence[Cache], lanes: int) -> Hardware:
    """The CPU as hardware: DRAM, the caches, registers and the lanes of their vectors.

    Capacities are not given: `predict` has looked at them, in lines.
    """
    levels = [Level("DRAM", word_bits=32)]
    levels += [Level(f"L{cache.level}", word_bits=32) for cache in reversed(caches)]
    levels.append(Level("REG", word_bits=32, fanout=Fanout(x=lanes)))
    return Hardware("cpu", tuple(levels), Compute("FMA", bits=32))


def _count(
    work: Workload, mapping: Nest, caches: Sequence[Cache], lanes: int
) -> Iterator[dict[str, int]]:
    """Lines that each cache fetches. A visit of an output tile fetches it, the first one too."""
    counts = count_mapping(work, machine(caches, lanes), mapping, find_convention(DEFAULT))
    for cache in caches:
        words: dict[str, int] = {}
        for group in counts.groups[f"L{cache.level}"]:
            for name, tally in group.tallies.items():
                moved = tally.drains if name == work.output.name else tally.fills
                words[name] = words.get(name, 0) + moved * group.instances
        per_line = cache.line_bytes // ELEMENT_BYTES
        yield {name: math.ceil(moved / per_line) for name, moved in words.items()}
