"""Partly given mappings, completed: held to all mappings of tiny spaces that contain them."""

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
from enumeration import Best, Space, mappings, signature
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from strategies import Triple, triples
from test_optimal import KINDS, RELAXED, alike
from tiny_spaces import Kind, random_space

from tilewright.cli.main import run
from tilewright.errors import InfeasibleError, InputError
from tilewright.ir.fix import Fix, FixedBlock, Pin, format_fix, parse_fix
from tilewright.ir.hardware import AXES, Fanout, Hardware, Level
from tilewright.ir.mapping import Loop, Mapping, format_mapping, parse_mapping
from tilewright.ir.verify import verify_mapping
from tilewright.ir.verify_fix import verify_fix
from tilewright.ir.workload import conv2d, einsum
from tilewright.mapper.layer import find_mapping
from tilewright.mapper.pins import FREE, Pins, Place
from tilewright.mapper.problem import Integers
from tilewright.mapper.result import LayerResult, Objective, Status
from tilewright.mapper.search import search_mapping
from tilewright.model.evaluate import Evaluator, make_evaluator

FEW, BATCH, BATCHES = 11, 13, 4
MOST = 4_000
NOTHING = Fix((FixedBlock("DRAM"),))


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
        compare(random_space(kind, 1000 + seed, 6_000), Random(f"{kind} {seed}"))


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


def _none(pins: Pins, stages: Sequence[Place]) -> Integers:
    return np.full((len(stages), len(pins.dims)), FREE, np.int64)


Fault = Callable[..., object]
FAULTS: dict[str, tuple[Fault, Kind, int]] = {
    "orders": (_none, KINDS[2], 0),
    "extents": (_none, KINDS[2], 2),
    "fitting": (lambda *given: np.arange(len(given[-1])) % 2 == 0, KINDS[3], 0),
    "unrolled": (lambda *given: given[-1], KINDS[2], 1),
    "apart": (lambda *_: False, KINDS[3], 0),
}
"""Of what is replaced in `Pins`: by what, and the first space whose fixes show it."""


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison notices a mapper that ignores a part of a fix, or leaves out what fits."""
    wrong, kind, seed = FAULTS[fault]
    monkeypatch.setattr(Pins, fault, wrong)
    with pytest.raises(AssertionError):
        compare(random_space(kind, 1000 + seed, MOST), Random(f"{kind} {seed}"))


def test_fixes_are_drawn_that_matter() -> None:
    """Some cost something, some change nothing, under some nothing fits."""
    seen = {"dearer": 0, "free": 0, "none": 0}
    for seed in range(4):
        for kind in KINDS:
            space = random_space(kind, 1000 + seed, MOST)
            random, everything = Random(f"{kind} {seed}"), list(mappings(space))
            fixes = [random_fix(random.choice(everything), space, random) for _ in range(4)]
            fixes += [_spoilt(fixes[0], space, random), NOTHING]
            *best, free = best_of(space, everything, fixes)
            for found in best:
                for goal in Objective:
                    worse = goal in found and found[goal].key > free[goal].key
                    seen["none" if goal not in found else "dearer" if worse else "free"] += 1
                    assert goal not in found or found[goal].key >= free[goal].key
    assert min(seen.values()) > 10, seen


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", RELAXED, ids=str)
def test_the_search_obeys(kind: Kind, seed: int) -> None:
    """Where nothing is proved, what is found contains the fix, and is not better than the best."""
    space = random_space(kind, 1000 + seed, 2_000)
    random, everything = Random(f"{kind} {seed}"), list(mappings(space))
    evaluator = make_evaluator(space.workload, space.hardware)
    for objective in random.sample(list(Objective), 2):
        fix = random_fix(random.choice(everything), space, random)
        if not _is_legal(space, fix):
            continue
        found = search_mapping(
            space.workload,
            space.hardware,
            objective=objective,
            imperfect=space.imperfect,
            uneven=space.uneven,
            fix=fix,
            seconds=0.1,
        )
        containing = [mapping for mapping in everything if fix.is_in(mapping)]
        keys = [key for key in (_key(evaluator, m, objective) for m in containing) if key]
        if found.cost is None:
            assert not keys or found.status is Status.BEST_FOUND, (fix, space)
            continue
        assert found.status is Status.BEST_FOUND
        assert found.lower_bound is None or found.lower_bound <= min(keys)[0]
        verify_mapping(space.workload, space.hardware, found.cost.mapping)
        assert fix.is_in(found.cost.mapping), f"{fix}\n\n{found.cost.mapping}"
        if not space.uneven:
            assert contains(found.cost.mapping, fix)
        # A fix may ask for steps that no best mapping has, and uneven, for loops outside all blocks
        # of a memory, which are not enumerated.
        if not space.imperfect and not space.uneven:
            assert objective.key(found.cost) >= min(keys)


def _is_legal(space: Space, fix: Fix) -> bool:
    try:
        verify_fix(
            [space.workload],
            space.hardware,
            fix,
            imperfect=space.imperfect,
            uneven=space.uneven,
        )
    except InputError:
        return False
    return True


def _key(evaluator: Evaluator, mapping: Mapping, objective: Objective) -> tuple[float, ...]:
    try:
        return objective.key(evaluator.price(mapping))
    except InfeasibleError:
        return ()


LAYER = conv2d("small", K=8, C=4, P=6, Q=2, R=3, S=1, stride=(2, 1))
CHIP = Hardware(
    "chip",
    (
        Level("DRAM", read_pj=200, write_pj=200, bandwidth=4),
        Level("GLB", 4096, read_pj=6, write_pj=6, fanout=Fanout(4, 2, y_dims=("C",))),
        Level("RF", 512, read_pj=1, write_pj=1),
    ),
)


@pytest.mark.parametrize("objective", Objective)
def test_the_best_mapping_as_a_fix_costs_what_it_costs(objective: Objective) -> None:
    free = find_mapping(LAYER, CHIP, objective=objective)
    assert free.cost is not None
    whole = find_mapping(LAYER, CHIP, objective=objective, fix=str(free.cost.mapping))
    assert whole.cost is not None
    assert objective.key(whole.cost) == objective.key(free.cost)
    assert whole.status is Status.OPTIMAL
    assert whole.lower_bound == objective.of(whole.cost)
    assert whole.mapspace_size < free.mapspace_size


@pytest.mark.parametrize(
    "fix",
    [
        "GLB: | K@x",
        "GLB: | K4@x C2@y",
        "GLB: C2 K P",
        "DRAM: P Q K C\nRF: R3",
        "GLB[I]:",
        "GLB[]: Q2",
        "RF: K1 C1 P1 Q1 R1 S1",
    ],
)
def test_a_fix_never_makes_it_cheaper(fix: str) -> None:
    for objective in Objective:
        free = find_mapping(LAYER, CHIP, objective=objective).cost
        fixed = find_mapping(LAYER, CHIP, objective=objective, fix=fix).cost
        assert free is not None
        assert fixed is not None
        assert objective.key(fixed) >= objective.key(free)
        assert contains(fixed.mapping, parse_fix(fix))


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("K4 P4 Q4", 4 + 64 + 64),  # weights stay in P and Q
        ("P4 K4 Q4", 16 + 64 + 64),  # in Q alone: P stands outside K
        ("P4 Q4 K4", 64 + 16 + 64),  # inputs stay in K, weights do not
        ("P4 Q4 K", 64 + 16 + 64),
        ("K P Q", 4 + 64 + 64),
    ],
)
def test_an_order_costs_what_is_counted_by_hand(order: str, words: int) -> None:
    layer = einsum("outer", "O[K,P,Q] += W[K] * I[P,Q]", {"K": 4, "P": 4, "Q": 4})
    chip = Hardware("two", (Level("DRAM", read_pj=64), Level("RF", 48, keeps=frozenset("WIO"))))
    found = find_mapping(layer, chip, objective="dram", fix=f"DRAM: {order}")
    assert found.status is Status.OPTIMAL
    assert found.cost is not None
    assert found.cost.dram_words == words
    dims = [loop.dim for loop in found.cost.mapping.blocks[0].temporal]
    assert dims == [token[0] for token in order.split()]


PAGE = (Path(__file__).parent.parent / "docs" / "fix.md").read_text("utf-8")
CONSOLES = re.findall(
    r'\$ (tilewright map resnet18:.*? "(?:.*?)")\n(layer2.*?)```', PAGE, re.DOTALL
)


@pytest.mark.parametrize(("command", "output"), CONSOLES)
def test_the_page_shows_what_is_printed(
    command: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run([*shlex.split(command)[1:], "--jobs", "1"])
    printed = [line.rstrip() for line in capsys.readouterr().out.split("\n")]
    shown = [
        line for line in output.split("$ tilewright", maxsplit=1)[0].strip().split("\n") if line
    ]
    assert [line for line in shown if "mapspace:" not in line and line not in printed] == []


def test_the_page_has_commands_to_check() -> None:
    assert len(CONSOLES) >= 4


IS_IN = [
    ("GLB: K2 C", "GLB[I]: K2 C3", True),
    ("GLB: C K2", "GLB[I]: K2 C3", False),
    ("GLB: K1", "GLB[I]: C3", True),
    ("GLB: K1", "GLB[I]: K2", False),
    ("GLB: K C1 P", "GLB[I]: K2 P3", True),
    ("GLB:", "RF[I]: K2", True),
    ("GLB[]:", "RF[I]: K2", True),
    ("GLB[I]:", "RF[I]: K2", False),
    ("GLB[I O]:", "GLB[O I]: K2", True),
    ("GLB: | K@x", "GLB[I]: | K4@x C2@y", True),
    ("GLB: | K@x", "GLB[I]: | K4@x C2@x", False),
    ("GLB: | K4@x", "GLB[I]: | K4@x C2@x", True),
    ("GLB: | K@x C2@x", "GLB[I]: | K4@x", False),
    ("GLB: | K@y", "GLB[I]: | K4@x", True),
    # Uneven: operands stand between the loops that are written.
    ("GLB[W]: P7\nGLB[I O]: Q8", "GLB[W]: P7\nGLB[I O]: Q8", True),
    ("GLB[W]: P7\nGLB[I O]: Q8", "GLB[W]: K2 P7 C2\nGLB[I O]: Q8", True),
    ("GLB[W]: P7\nGLB[I O]: Q8", "GLB[W I O]: P7 Q8", False),
    ("GLB[W]: P7\nGLB[I O]: Q8", "GLB[W]: P7\nGLB[I]: C2\nGLB[O]: Q8", False),
    ("GLB[W I]: P7", "GLB[W]: K2\nGLB[I]: P7", False),
    ("GLB[W I]: P7", "GLB[]: K2\nGLB[W I]: P7", True),
    ("GLB: P7", "GLB[W]: K2\nGLB[I]: P7", True),
    ("GLB[]: P7\nGLB[I]: Q8", "GLB[]: P7\nGLB[I]: Q8", True),
    ("GLB[]: P7\nGLB[I]: Q8", "GLB[I]: P7 Q8", False),
]


@pytest.mark.parametrize(("fix", "mapping", "is_in"), IS_IN)
def test_what_contains_a_fix(fix: str, mapping: str, is_in: bool) -> None:
    assert parse_fix(fix).is_in(parse_mapping(mapping)) is is_in


def test_the_search_keeps_uneven_blocks_where_they_are_written() -> None:
    text = "GLB[W]: P\nGLB[I O]: Q2"
    for seed in range(4):
        found = find_mapping(LAYER, CHIP, uneven=True, fix=text, seed=seed, seconds=0.3)
        assert found.cost is not None
        assert parse_fix(text).is_in(found.cost.mapping), str(found.cost.mapping)


@pytest.mark.parametrize("convention", ["blocking2016", "timeloop"])
def test_other_conventions_obey(convention: str) -> None:
    text = "GLB: C2 K | P@x"
    found = find_mapping(LAYER, CHIP, convention=convention, fix=text)
    assert found.status is Status.BEST_FOUND
    assert found.cost is not None
    assert contains(found.cost.mapping, parse_fix(text))


NAMES = st.from_regex(r"[A-Za-z_]{1,3}", fullmatch=True)
EXTENTS = st.none() | st.integers(1, 10**18 - 1)


@st.composite
def fixes(draw: DrawFn) -> Fix:
    blocks = [
        FixedBlock(
            draw(st.from_regex(r"[A-Z0-9_.]{1,4}", fullmatch=True)),
            draw(
                st.none() | st.lists(st.from_regex(r"[A-Z][a-z0-9_]*", fullmatch=True)).map(tuple)
            ),
            tuple(Pin(draw(NAMES), draw(EXTENTS)) for _ in range(draw(st.integers(0, 3)))),
            tuple(
                Pin(draw(NAMES), draw(EXTENTS), draw(st.sampled_from(AXES)))
                for _ in range(draw(st.integers(0, 3)))
            ),
        )
        for _ in range(draw(st.integers(1, 4)))
    ]
    return Fix(tuple(blocks))


@given(fixes())
def test_a_fix_is_read_as_it_is_printed(fix: Fix) -> None:
    assert parse_fix(format_fix(fix)) == fix


@given(triples())
def test_a_whole_mapping_is_in_itself(triple: Triple) -> None:
    fix = parse_fix(format_mapping(triple.mapping))
    assert fix.is_in(triple.mapping) or _has_twice(triple.mapping)


def _has_twice(mapping: Mapping) -> bool:
    """Whether a memory has two loops over a dim at one place, which no fix can say."""
    loops = [
        (block.memory, loop.axis, loop.dim)
        for block in mapping.blocks
        for loop in block.loops
        if loop.extent > 1
    ]
    return len(set(loops)) < len(loops)


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
