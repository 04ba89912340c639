"""Choosing a blocking: register tile, chunk of input channels, blocks of rows, order.

Owns: `choose_blocking`: every candidate is priced by a stated model of time or of accesses
(`docs/compile.md`), the least is taken.

Non-goals: certificates. The candidates are one family of nests; what no nest can undercut is
printed beside the prediction (`model.limit`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tilewright.codegen.cpu import Cpu
from tilewright.codegen.shape import Shape
from tilewright.codegen.targets import Target
from tilewright.codegen.tiling import Blocking, Layout, Plan, balanced, vector_groups
from tilewright.codegen.traffic import Traffic, estimate, predict
from tilewright.errors import InputError, Problem, did_you_mean

OBJECTIVES = ("time", "accesses")
LINE_CYCLES = (2.0, 6.0, 14.0)
"""Cycles that a line from L2, from L3, from DRAM costs beyond what is hidden; further caches like
DRAM. Chosen once, on VGG-16's layers, to rank candidates; they are no latencies."""
TILE_CYCLES = 12.0
"""Calling a register tile: arguments, loop ends, a mispredicted branch now and then."""
SUMS_SHARE = 0.75
"""Of the registers that sums may take: with more, compilers begin to move them to the stack."""
SPARE_REGISTERS = 3
"""Beside sums, weights and a pixel, for the same reason: gcc 12 loads ahead."""
_VECTORS = (1, 2, 3, 4, 6, 8)
_MOST_WIDTH = 14
_BEST_TILES = 4
"""Register tiles that are looked at with all their chunks and blocks."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The blocking taken.

    Attributes:
        plan: the shape, cut by it.
        traffic: predicted.
        cycles: modelled, of all threads' longest; a figure to rank by.
        candidates: how many were priced.
        objective: what was minimised.
    """

    plan: Plan
    traffic: Traffic
    cycles: float
    candidates: int
    objective: str

    @property
    def blocking(self) -> Blocking:
        """The free choices."""
        return self.plan.blocking


def choose_blocking(
    shape: Shape, cpu: Cpu, target: Target, *, objective: str = "time", threads: int = 1
) -> Choice:
    """Price every candidate, take the least.

    Raises: `InputError` for an unknown objective.

    Source: `docs/compile.md`, The blocking.
    """
    if objective not in OBJECTIVES:
        fix = did_you_mean(objective, OBJECTIVES)
        raise InputError(Problem(f"there is no objective `{objective}`", fix))
    layout = Layout(shape, target.lanes, target.packed_int8)
    best: tuple[tuple[float, float], Plan] | None = None
    candidates = 0
    for blocking in _candidates(shape, layout, cpu, target, threads):
        plan = Plan(shape, target, blocking)
        lines = estimate(plan, cpu)
        candidates += 1
        cycles = modelled_cycles(plan, cpu, lines)
        key = (cycles, 0.0) if objective == "time" else (fetching_cycles(lines), cycles)
        if best is None or key < best[0]:
            best = (key, plan)
    assert best is not None  # there is always the smallest tile
    key, plan = best
    cycles = key[0] if objective == "time" else key[1]
    return Choice(plan, predict(plan, cpu), cycles, candidates, objective)


def modelled_cycles(plan: Plan, cpu: Cpu, lines: tuple[int, ...]) -> float:
    """Arithmetic and tile overheads of the busiest thread, plus what its lines cost."""
    blocks, share = _parallel_blocks(plan), 1.0
    threads = plan.blocking.threads
    if threads > 1:
        share = math.ceil(blocks / threads) / blocks
    return share * (_arithmetic_cycles(plan, cpu) + fetching_cycles(lines))


def fetching_cycles(lines: Sequence[int]) -> float:
    """What the lines that each cache fetches cost, L1 first; the last cache's come from DRAM."""
    costs = [*LINE_CYCLES[: len(lines) - 1], *[LINE_CYCLES[-1]] * len(lines)]
    return sum(cost * moved for cost, moved in zip(costs, lines, strict=False))


def _parallel_blocks(plan: Plan) -> int:
    shape, layout, blocking = plan.shape, plan.layout, plan.blocking
    rows = -(-shape.rows.places // blocking.rows)
    if shape.per_channel:
        return shape.batch * rows * layout.out_blocks
    blocks = rows * -(-layout.out_blocks // blocking.vectors)
    return blocks if blocking.chunks_outside else shape.batch * layout.groups * blocks


def _arithmetic_cycles(plan: Plan, cpu: Cpu) -> float:
    shape, layout, blocking = plan.shape, plan.layout, plan.blocking
    tiles = -(-shape.columns.places // blocking.width)
    lines = shape.batch * shape.rows.places * tiles
    if shape.per_channel:
        work = shape.taps * max(blocking.width / cpu.fma_per_cycle, 1)
        return lines * layout.out_blocks * (work + TILE_CYCLES)
    chunks = -(-layout.elements // blocking.chunk)
    steps = layout.elements * shape.taps
    total = 0.0
    for count, vectors in vector_groups(layout, blocking):
        per_step = step_cycles(vectors, blocking.width, cpu)
        moves = 2 * vectors * blocking.width / cpu.loads_per_cycle
        total += count * (steps * per_step + chunks * (TILE_CYCLES + moves))
    return lines * layout.groups * total


def step_cycles(vectors: int, width: int, cpu: Cpu) -> float:
    """Cycles of one tap of one channel for a register tile: what the busiest unit needs."""
    arithmetic = vectors * width / cpu.fma_per_cycle
    loads = (vectors + width) / cpu.loads_per_cycle
    return max(arithmetic, loads, float(cpu.fma_latency))


def _candidates(
    shape: Shape, layout: Layout, cpu: Cpu, target: Target, threads: int
) -> Iterator[Blocking]:
    if shape.per_channel:
        width = balanced(shape.columns.places, _window_width(shape, target))
        for rows in _row_blocks(shape):
            yield Blocking(1, width, 1, rows, threads=threads)
        return
    for vectors, width in _register_tiles(shape, layout, cpu, target):
        for chunk in _chunk_sizes(layout):
            for rows in _row_blocks(shape):
                orders = [(True, False)]
                if rows < shape.rows.places:
                    orders.append((False, False))
                if chunk < layout.elements:
                    orders += [(outside, True) for outside, _ in orders]
                for outside, chunks_outside in orders:
                    yield Blocking(vectors, width, chunk, rows, outside, chunks_outside, threads)


def _window_width(shape: Shape, target: Target) -> int:
    """Pixels at once, so that they and the weights stay in registers where they can."""
    room = target.registers - 2 - (0 if shape.pool else min(shape.taps, target.registers // 2))
    return max(1, min(8, room))


def _register_tiles(
    shape: Shape, layout: Layout, cpu: Cpu, target: Target
) -> list[tuple[int, int]]:
    """The register tiles of least arithmetic, best first."""
    tiles: dict[tuple[int, int], float] = {}
    for vectors in _VECTORS:
        if vectors > layout.out_blocks and vectors > 1:
            continue
        for most in range(1, _MOST_WIDTH + 1):
            width = balanced(shape.columns.places, most)
            sums, rest = vectors * width, vectors + 1 + SPARE_REGISTERS
            if sums > target.registers * SUMS_SHARE or sums + rest > target.registers:
                break
            plan = Plan(shape, target, Blocking(vectors, width, layout.in_lanes, 1))
            tiles[vectors, width] = _arithmetic_cycles(plan, cpu)
    # Among equals the one with fewer vectors: its weights take less of L1.
    ranked = sorted(tiles, key=lambda tile: (round(tiles[tile] * 50 / min(tiles.values())), tile))
    return ranked[:_BEST_TILES]


def _chunk_sizes(layout: Layout) -> list[int]:
    """Whole blocks of channels, doubling, up to all of them."""
    sizes = {layout.in_lanes * layout.in_blocks}
    size = layout.in_lanes
    while size < layout.elements:
        sizes.add(size)
        size *= 2
    return sorted(sizes)


def _row_blocks(shape: Shape) -> list[int]:
    """All rows, halves, quarters, … of them."""
    sizes = {shape.rows.places}
    parts = 2
    while parts <= min(shape.rows.places, 16):
        sizes.add(-(-shape.rows.places // parts))
        parts *= 2
    return sorted(sizes, reverse=True)
