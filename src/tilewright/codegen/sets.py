"""The lines that caches fetch when their sets are looked at one by one: conflicts included.

Owns: `expected_lines`. A cache of so many sets and ways is so many small caches, each as large as
its ways. A set keeps what a loop leaves alone if no more of its lines than it has ways are touched
until the next iteration comes back to them. Each set holds the outermost loop that it can; what is
fetched is the mean over all sets.

Non-goals: which mapping a program is (`traffic.py`); counting what really moves (`simulate.py`).

Source: `docs/compile.md`, Conflicts.
"""

from functools import reduce

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.cpu import Cache, Cpu
from tilewright.codegen.shape import Shape, Window
from tilewright.codegen.tiling import Layout, Plan
from tilewright.codegen.traffic import (
    ELEMENT_BYTES,
    OPERAND_DIMS,
    LoopNest,
    clipped_span,
    lines_held_inside,
    nest_of,
    sharing_cores,
    span_inside,
    tile_lines,
)

SURELY_KEPT = 0.1
"""Of a cache: a tile that takes no more has no conflicts worth looking for."""
SURELY_LOST = 1.6
"""Of a cache: of a tile that takes more no set keeps anything."""
Shares = NDArray[np.float64]
"""By number: the share of sets that have so many lines."""
Numbers = NDArray[np.int64]


def expected_lines(plan: Plan, cpu: Cpu) -> tuple[int, ...]:
    """Lines that each cache fetches, L1 first, conflicts included.

    Args:
        plan: a program.
        cpu: its caches.

    Returns: reads and write-allocates of all operands, from cold caches.

    >>> from tilewright.codegen.cpu import host
    >>> from tilewright.codegen.kernel import generate
    >>> from tilewright.ir.workload import conv2d
    >>> plan = generate(conv2d("one", K=16, C=16, P=4, Q=4), target="portable").choice.plan
    >>> expected_lines(plan, Cpu("small", (Cache(1, 32768, 8),)))  # 16 lines of each operand
    (48,)

    Source: `docs/compile.md`, Conflicts.
    """
    nest = nest_of(plan)
    return tuple(_expected(plan, nest, cache) for cache in cpu.caches)


def _expected(plan: Plan, nest: LoopNest, cache: Cache) -> int:
    total = kept = 0.0
    innermost = len(nest.outer)
    for depth in range(innermost + 1):
        if 0 < depth < innermost and nest.outer[depth - 1][1] == 1:
            continue
        share = _share_kept(plan, nest, depth, cache)
        if share > kept:
            total += (share - kept) * lines_held_inside(plan, nest, depth, cache)
            kept = share
        if kept == 1:
            break
    if kept < 1:
        total += (1 - kept) * lines_held_inside(plan, nest, innermost, cache, passing=True)
    return round(total)


def _share_kept(plan: Plan, nest: LoopNest, depth: int, cache: Cache) -> float:
    """Of the lines of what is inside `depth`: how many lie in sets that keep all of theirs."""
    span, line = span_inside(nest, depth), cache.line_bytes
    ways = max(1, cache.ways // sharing_cores(cache, plan.blocking.threads))
    sets = cache.capacity_bytes // (line * cache.ways)
    tile = sum(tile_lines(plan.shape, plan.layout, span, line).values())
    if tile <= SURELY_KEPT * ways * sets:
        return 1.0
    if tile > SURELY_LOST * ways * sets:
        return 0.0
    passing = _passing_lines(plan, nest, depth, line)
    parts = [*_loads(plan.shape, plan.layout, span, line, sets), _spread(passing, sets)]
    shares = reduce(np.convolve, parts)
    lines = np.arange(len(shares)) * shares
    return float(lines[: ways + 1].sum() / lines.sum())


def _passing_lines(plan: Plan, nest: LoopNest, depth: int, line: int) -> float:
    """What the next iteration of the loop outside brings while lines of the last wait to leave.

    An operand that is gone through in step with what is kept, as the loops just inside move it too,
    has only a step's part of both at once; one that those leave alone is there twice.
    """
    outside = [loop for loop in nest.outer[:depth] if loop[1] > 1]
    if not outside:
        return 0.0
    dim, _ = outside[-1]
    span = span_inside(nest, depth)
    now = tile_lines(plan.shape, plan.layout, span, line)
    both = tile_lines(plan.shape, plan.layout, span | {dim: 2 * span.get(dim, 1)}, line)
    return sum(
        (both[name] - lines) / _steps(nest, depth, OPERAND_DIMS[name])
        for name, lines in now.items()
        if dim in OPERAND_DIMS[name]
    )


def _steps(nest: LoopNest, depth: int, dims: str) -> int:
    """Iterations of the loops just inside, as long as they move an operand of these dims."""
    steps = 1
    for dim, extent in nest.outer[depth:]:
        if extent > 1 and dim not in dims:
            break
        steps *= extent
    return steps


def _spread(lines: float, sets: int) -> Shares:
    """Of lines one behind the other: all sets have as many, or one more."""
    least, rest = divmod(lines, sets)
    shares = np.zeros(int(least) + 2)
    shares[-2:] = 1 - rest / sets, rest / sets
    return shares


def _loads(
    shape: Shape, layout: Layout, span: dict[str, int], line: int, sets: int
) -> list[Shares]:
    """For the tile of each operand: the share of sets that have so many of its lines."""
    t = clipped_span(shape, layout, span)
    images = t["N"] * (1 if shape.per_channel else t["G"])
    inputs, outputs = ("G", "G") if shape.per_channel else ("C", "K")
    # Tiles begin at a line, but for the padding: the image's first tile would begin before it.
    rows = _pixels(shape.rows, t["P"], t["R"]) * shape.columns.size - shape.columns.before
    width = int(_pixels(shape.columns, t["Q"], t["S"])[-1]) + 1
    planes = np.arange(images * -(-t[inputs] // layout.in_lanes)) * layout.image_plane
    image = _lines(planes, rows, width, layout.in_lanes * ELEMENT_BYTES, line)
    rows = np.arange(t["P"]) * shape.columns.places
    planes = np.arange(images * -(-t[outputs] // layout.lanes)) * layout.output_plane
    output = _lines(planes, rows, t["Q"], layout.lanes * ELEMENT_BYTES, line)
    in_sets = [np.bincount(found % sets, minlength=sets) for found in (image, output)]
    weights = tile_lines(shape, layout, span, line).get("W", 0)
    return [*(np.bincount(loads) / sets for loads in in_sets), _spread(weights, sets)]


def _pixels(axis: Window, places: int, taps: int) -> Numbers:
    """Of an axis of the image, from the first on: those that so many places and taps touch."""
    reads = np.arange(places)[:, None] * axis.stride + np.arange(taps) * axis.dilation
    return np.unique(np.minimum(reads, axis.size - 1))


def _lines(planes: Numbers, rows: Numbers, width: int, pixel: int, line: int) -> Numbers:
    """The lines of some rows of some planes, each so many pixels of so many bytes wide."""
    starts = ((planes[:, None] + rows) * pixel).ravel()
    first, last = starts // line, (starts + width * pixel - 1) // line
    found = first[:, None] + np.arange(int((last - first).max()) + 1)
    return found[found <= last[:, None]]
