"""Partly given mappings, completed: held to all mappings of tiny spaces that contain them."""

from random import Random

import pytest
from enumeration import Best, Space, mappings, signature
from test_optimal import KINDS, alike
from tiny_spaces import Kind, random_space

from tilewright.errors import InfeasibleError, InputError
from tilewright.ir.fix import Fix, FixedBlock, Pin
from tilewright.ir.hardware import AXES
from tilewright.ir.mapping import Loop, Mapping
from tilewright.ir.verify import verify_mapping
from tilewright.ir.verify_fix import verify_fix
from tilewright.mapper.result import LayerResult, Objective, Status
from tilewright.model.evaluate import make_evaluator

FEW, BATCH, BATCHES = 11, 13, 4
MOST = 4_000


def solve(space: Space, fix: Fix | None, objective: Objective) -> LayerResult:
    from tilewright.mapper.optimal import find_optimal

    return find_optimal(space.workload, space.hardware, objective=objective, fix=fix)


@pytest.mark.parametrize("seed", range(FEW))
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_completion_is_better(kind: Kind, seed: int) -> None:
    compare(random_space(kind, 1000 + seed, MOST), Random(f"{kind} {seed}"))


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_completion_is_better_in_many_spaces(kind: Kind, batch: int) -> None:
    for seed in range(FEW + batch * BATCH, FEW + (batch + 1) * BATCH):
        compare(random_space(kind, 1000 + seed, 12_000), Random(f"{kind} {seed}"), fixes=6)


def compare(space: Space, random: Random, fixes: int = 4) -> None:
    """Hold completions of random fixes to the best of all mappings that contain them."""
    everything = list(mappings(space))
    drawn = [random_fix(random.choice(everything), space, random) for _ in range(fixes)]
    drawn.append(_spoilt(drawn[0], space, random))
    best = best_of(space, everything, drawn)
    for fix, expected in zip(drawn, best, strict=True):
        objectives = random.sample(list(Objective), 2) if len(everything) > MOST else Objective
        for objective in objectives:
            _compare(space, fix, objective, expected.get(objective))


def _compare(space: Space, fix: Fix, objective: Objective, best: Best | None) -> None:
    try:
        verify_fix([space.workload], space.hardware, fix)
    except InputError:
        assert best is None
        return
    found = solve(space, fix, objective)
    said = describe(space, fix, objective, best, found)
    if best is None:
        assert found.status is Status.INFEASIBLE, said
        assert found.cost is None, said
        assert found.violations, said
        return
    assert found.cost is not None, said
    assert found.status is Status.OPTIMAL, said
    assert found.lower_bound == objective.of(found.cost), said
    assert alike(objective.key(found.cost), best.key), said
    mapping = found.cost.mapping
    verify_mapping(space.workload, space.hardware, mapping)
    assert contains(mapping, fix), said
    assert fix.is_in(mapping), said
    priced = make_evaluator(space.workload, space.hardware).price(mapping)
    assert objective.key(priced) == objective.key(found.cost), said


def best_of(
    space: Space, everything: list[Mapping], fixes: list[Fix]
) -> list[dict[Objective, Best]]:
    """For every fix and objective the best of all mappings that contain it."""
    evaluator = make_evaluator(space.workload, space.hardware)
    known: dict[object, dict[Objective, tuple[float, ...]]] = {}
    best: list[dict[Objective, Best]] = [{} for _ in fixes]
    for mapping in everything:
        containing = [i for i, fix in enumerate(fixes) if contains(mapping, fix)]
        assert containing == [i for i, fix in enumerate(fixes) if fix.is_in(mapping)]
        if not containing:
            continue
        same = signature(mapping, space.hardware)
        if same not in known:
            try:
                cost = evaluator.price(mapping)
                known[same] = {goal: goal.key(cost) for goal in Objective}
            except InfeasibleError:
                known[same] = {}
        for goal, key in known[same].items():
            for i in containing:
                if goal not in best[i] or key < best[i][goal].key:
                    best[i][goal] = Best(key, mapping)
    return best


def describe(
    space: Space, fix: Fix, objective: Objective, best: Best | None, found: LayerResult
) -> str:
    ours = "none fits" if best is None else f"{best.key}\n{best.mapping}"
    cost = found.cost
    theirs = found.reason if cost is None else f"{objective.key(cost)}\n{cost.mapping}"
    work = f"{space.workload.einsum} {space.workload.sizes}"
    return (
        f"{objective.value}: {work}\n{space}\nfix:\n{fix}\n"
        f"all mappings: {ours}\nmapper ({found.status.value}, {found.lower_bound}): {theirs}"
    )


def contains(mapping: Mapping, fix: Fix) -> bool:
    """Whether an even mapping contains a fix, as `docs/fix.md` says it, told anew."""
    for written in fix.blocks:
        at_memory = [block for block in mapping.blocks if block.memory == written.memory]
        kept = {name for block in at_memory for name in block.operands}
        if written.operands is not None and set(written.operands) != kept:
            return False
        temporal = {loop.dim: loop.extent for block in at_memory for loop in block.temporal}
        for pin in written.temporal:
            if pin.extent is not None and temporal.get(pin.dim, 1) != pin.extent:
                return False
        order = [dim for dim in temporal if any(pin.dim == dim for pin in written.temporal)]
        if order != [pin.dim for pin in written.temporal if pin.dim in temporal]:
            return False
        for axis in AXES:
            unrolled = {
                loop.dim: loop.extent
                for block in at_memory
                for loop in block.spatial
                if loop.axis == axis
            }
            pins = {pin.dim: pin.extent for pin in written.spatial if pin.axis == axis}
            if any(e is not None and unrolled.get(d, 1) != e for d, e in pins.items()):
                return False
            if None in pins.values() and not set(unrolled) <= set(pins):
                return False
    return True


def random_fix(mapping: Mapping, space: Space, random: Random) -> Fix:
    """Parts of a mapping, so that at least that one contains them."""
    blocks: list[FixedBlock] = []
    for level in space.hardware.levels:
        there = [block for block in mapping.blocks if block.memory == level.memory]
        if random.random() < 0.25:
            continue
        kept = tuple(name for block in there for name in block.operands)
        operands = kept if random.random() < 0.4 else None
        loops = [loop for block in there for loop in block.temporal]
        temporal = _some_pins(loops, space, random)
        spatial: list[Pin] = []
        for axis in AXES:
            mine = [loop for block in there for loop in block.spatial if loop.axis == axis]
            if level.fanout.extent(axis) > 1:
                spatial += _axis_pins(mine, axis, level.fanout.allowed_dims(axis), space, random)
        blocks.append(FixedBlock(level.memory, operands, tuple(temporal), tuple(spatial)))
    return Fix(tuple(blocks)) if blocks else Fix((FixedBlock(space.hardware.levels[0].memory),))


def _some_pins(loops: list[Loop], space: Space, random: Random) -> list[Pin]:
    """Some of the loops, with or without extent, and dims that have no loop here."""
    share = random.choice((0.0, 0.3, 0.6, 1.0))
    free = random.choice((0.0, 0.5, 1.0))
    pins = [
        Pin(loop.dim, None if random.random() < free else loop.extent)
        for loop in loops
        if random.random() < share
    ]
    for dim in space.workload.sizes:
        if dim not in [loop.dim for loop in loops] and random.random() < share / 2:
            pin = Pin(dim, None if random.random() < free else 1)
            pins.insert(random.randint(0, len(pins)), pin)
    return pins


def _axis_pins(
    loops: list[Loop],
    axis: str,
    allowed: tuple[str, ...] | None,
    space: Space,
    random: Random,
) -> list[Pin]:
    """Nothing, some extents, or a dataflow: all dims that are unrolled, and perhaps another."""
    kind = random.choice(("nothing", "extents", "dataflow"))
    if kind == "nothing":
        return []
    if kind == "extents":
        return [Pin(p.dim, p.extent, axis) for p in loops if random.random() < 0.7]
    dims = [loop.dim for loop in loops]
    others = [d for d in space.workload.sizes if d not in dims and (not allowed or d in allowed)]
    if others and (not dims or random.random() < 0.5):
        dims.append(random.choice(others))
    extents = {loop.dim: loop.extent for loop in loops}
    pins = [Pin(d, extents.get(d) if random.random() < 0.3 else None, axis) for d in dims]
    return [pin for pin in pins if pin.extent != 1]


def _spoilt(fix: Fix, space: Space, random: Random) -> Fix:
    """A fix with one extent more, which may leave nothing that fits."""
    memory = random.choice(space.hardware.levels[1:]).memory
    dim = random.choice([d for d, size in space.workload.sizes.items() if size > 1] or ["-"])
    more = Pin(dim, space.workload.sizes.get(dim, 1))
    blocks = [block for block in fix.blocks if block.memory != memory]
    blocks.append(FixedBlock(memory, None, (more,)))
    names = [level.memory for level in space.hardware.levels]
    return Fix(tuple(sorted(blocks, key=lambda block: names.index(block.memory))))
