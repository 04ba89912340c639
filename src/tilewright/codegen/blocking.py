"""Choosing a blocking: register tile, chunk of input channels, blocks of rows, order.

Owns: `choose_blocking`: every candidate is priced by a stated model of time or of accesses
(`docs/compile.md`), the least is taken.

Non-goals: certificates. The candidates are one family of nests; what no nest can undercut is
printed beside the prediction (`model.limit`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import product

from tilewright.codegen.cpu import Cpu
from tilewright.codegen.sets import expected_lines
from tilewright.codegen.shape import Shape
from tilewright.codegen.targets import Target
from tilewright.codegen.tiling import (
    Blocking,
    Layout,
    Plan,
    balanced,
    is_unrolled,
    row_tiles,
    vector_groups,
)
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
MOST_THREADS = 1024
_VECTORS = (1, 2, 3, 4, 6, 8)
_MOST_WIDTH = 14
_BEST_TILES = 4
"""Register tiles that are looked at with all their chunks and blocks."""
_CHECKED = 300
"""Of the candidates for fewest accesses: so many are looked at set by set."""
_LEAN_TILES = 6
"""The same for fewest accesses, whose caches may ask for another shape than arithmetic does."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The blocking taken.

    Attributes:
        plan: the shape, cut by it.
        traffic: predicted.
        expected: lines that each cache fetches with conflicts, L1 first.
        cycles: modelled, of all threads' longest; a figure to rank by.
        candidates: how many were priced.
        objective: what was minimised.
    """

    plan: Plan
    traffic: Traffic
    expected: tuple[int, ...]
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
    plans = [
        Plan(shape, target, replace(blocking, threads=threads))
        for blocking in _candidates(shape, layout, cpu, target, objective)
    ]
    if objective == "time":
        plan = min(plans, key=lambda plan: modelled_cycles(plan, cpu, estimate(plan, cpu)))
    else:
        plan = _leanest(plans, cpu)
    cycles = modelled_cycles(plan, cpu, estimate(plan, cpu))
    traffic, expected = predict(plan, cpu), expected_lines(plan, cpu)
    return Choice(plan, traffic, expected, cycles, len(plans), objective)


def _leanest(plans: Sequence[Plan], cpu: Cpu) -> Plan:
    """Of those of the least quick estimate that which fetches least, conflicts included."""

    def lines_and_cycles(plan: Plan, lines: tuple[int, ...]) -> tuple[float, float]:
        return sum(lines), modelled_cycles(plan, cpu, lines)

    few = nsmallest(_CHECKED, plans, key=lambda plan: lines_and_cycles(plan, estimate(plan, cpu)))
    return min(few, key=lambda plan: lines_and_cycles(plan, expected_lines(plan, cpu)))


def check_threads(threads: int, where: str = "") -> None:
    """Refuse numbers of threads that no CPU has. Raises `InputError`."""
    if threads < 1:
        raise InputError(Problem(f"{threads} threads: at least 1", "", where))
    if threads > MOST_THREADS:
        fix = "give as many as there are cores"
        raise InputError(Problem(f"{threads:,} threads, the limit is {MOST_THREADS:,}", fix, where))


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
    across, _ = row_tiles(shape.columns, blocking)
    parts = {"K": -(-layout.out_blocks // blocking.vectors), "P": rows * across, "C": 1}
    outside, inside = blocking.order.split("C")
    if not outside:
        return math.prod(parts[letter] for letter in inside)
    return shape.batch * layout.groups * math.prod(parts[letter] for letter in outside)


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
    shape: Shape, layout: Layout, cpu: Cpu, target: Target, objective: str
) -> Iterator[Blocking]:
    """Whole rows in the orders that suit time; for fewest accesses parts of rows in every order."""
    if shape.per_channel:
        width = balanced(shape.columns.places, _window_width(shape, target))
        for rows in _row_blocks(shape):
            yield Blocking(1, width, 1, rows)
        return
    lean = objective == "accesses"
    for vectors, width in _register_tiles(shape, layout, cpu, target, lean=lean):
        cuts = _row_parts(shape, vectors, width) if lean else [0]
        for chunk in _chunk_sizes(layout, fine=lean):
            for rows, tiles in product(_row_blocks(shape), cuts):
                cut = rows < shape.rows.places or tiles > 0
                for order in _orders(cut=cut, chunked=chunk < layout.elements, lean=lean):
                    yield Blocking(vectors, width, chunk, rows, order, tiles)


def _orders(*, cut: bool, chunked: bool, lean: bool) -> list[str]:
    """Of the loops around blocks; a loop that runs once stands where it does not matter."""
    if not chunked:
        return ["KPC", "PKC"] if cut else ["KPC"]
    if not cut:
        return ["KPC", "CKP"]
    return ["KPC", "PKC", "CKP", "CPK", *(["KCP", "PCK"] if lean else [])]


def _row_parts(shape: Shape, vectors: int, width: int) -> list[int]:
    """Register tiles of a block: those of all of a row, of half of it, … of a sixteenth."""
    if not is_unrolled(shape.columns, width, vectors):
        return [0]
    tiles = -(-shape.columns.places // width)
    halves = {-(-tiles // parts) for parts in (2, 4, 8, 16)} - {tiles}
    return [0, *sorted(halves, reverse=True)]


def _window_width(shape: Shape, target: Target) -> int:
    """Pixels at once, so that they and the weights stay in registers where they can."""
    room = target.registers - 2 - (0 if shape.pool else min(shape.taps, target.registers // 2))
    return max(1, min(8, room))


def _register_tiles(
    shape: Shape, layout: Layout, cpu: Cpu, target: Target, *, lean: bool
) -> list[tuple[int, int]]:
    """The register tiles of least arithmetic, best first; more of them for fewest accesses."""
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
    if not lean:
        return ranked[:_BEST_TILES]
    narrow = next(tile for tile in ranked if tile[0] == 1)  # whose weights take least of L1
    return list(dict.fromkeys([*ranked[:_LEAN_TILES], narrow]))


def _chunk_sizes(layout: Layout, *, fine: bool) -> list[int]:
    """Whole blocks of channels, doubling, up to all of them; `fine` also half way between."""
    sizes = {layout.in_lanes * layout.in_blocks}
    size = layout.in_lanes
    while size < layout.elements:
        sizes.add(size)
        if fine and 3 * size < layout.elements:
            sizes.add(3 * size)
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
