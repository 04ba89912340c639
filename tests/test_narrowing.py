"""Ways to unroll dims: what none of their mappings undercuts, and good mappings of each.

The bounds are held against every mapping of tiny spaces, whose prices come from `exact`; faults
planted in what they rest on are seen.
"""

from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from benchmarks.relaxed import GENERIC
from enumeration import Space, count_and_best, count_mappings
from test_optimal import KINDS, RELAXED
from tiny_spaces import Kind, random_space

from tilewright import zoo
from tilewright.ir.hardware import Compute, Fanout, Hardware, Level
from tilewright.ir.mapping import parse_mapping
from tilewright.ir.verify import verify_mapping
from tilewright.ir.workload import Workload, conv2d, einsum
from tilewright.mapper import by_way, narrowing
from tilewright.mapper.by_way import Dealing, refine
from tilewright.mapper.floor import least_of, meets
from tilewright.mapper.layer import find_mapping
from tilewright.mapper.narrowing import narrow_down
from tilewright.mapper.outer_loops import Box, Nest, Passing, Rows, list_chunks
from tilewright.mapper.padded import deal, find_padded, pad
from tilewright.mapper.result import Objective, Status
from tilewright.model.evaluate import make_evaluator

GOALS = (Objective.ENERGY, Objective.EDP)
EINSUMS = (
    "Z[M,N] += A[M,K] * B[K,N]",
    "O[K,P] += W[K,C,R] * I[C,P+R]",
    "O[K,P] += W[K,R] * I[P+R]",
    "O[P] += W[C,R] * I[C,P+R]",
    "O[K,P] += W[K,R] * I[2P+R]",
    "O[C,P] += W[C,R] * I[C,2P+R]",
    "O[P,Q] += W[R,S] * I[P+R,Q+S]",
)


def tight_space(seed: int, most: int) -> Space:
    """Uneven, imperfect mappings onto memories of a few words each, which hold next to nothing.

    So words pass again in nearly all of them, and places are dealt values unevenly.
    """
    random = Random(f"tight {seed}")
    while True:
        text = random.choice(EINSUMS)
        dims = sorted({char for char in text if char in "CKMNPQRS"})
        sizes = {
            dim: random.choice((2, 3)) if dim in "RS" else random.choice((2, 3, 3, 4, 5))
            for dim in dims
        }
        work = einsum("tight", text, sizes)
        space = Space(work, _tight_chip(random, work), True, True)
        if 300 <= count_mappings(space, most) <= most:
            return space


def _tight_chip(random: Random, work: Workload) -> Hardware:
    fan = Fanout(
        random.choice((2, 2, 3)),
        random.choice((1, 1, 2)),
        multicast=random.random() < 0.8,
        reduction=random.random() < 0.8,
    )
    if random.random() < 0.5:
        levels = (_level("DRAM", 64, None, fan), _level("RF", 1, random.randint(2, 6), Fanout()))
    else:
        levels = (
            _level("DRAM", 64, None, Fanout()),
            _level("GLB", 4, random.randint(4, 10), fan),
            _level("RF", 0.5, random.randint(2, 4), Fanout()),
        )
    names = [operand.name for operand in work.operands]
    kept = (frozenset(random.sample(names, random.choice((2, 3, 3)))) for _ in levels)
    levels = (levels[0], *(replace(level, keeps=next(kept)) for level in levels[1:]))
    return Hardware("chip", levels, Compute(pj=1.0))


def _level(name: str, pj: float, words: int | None, fan: Fanout) -> Level:
    room = None if words is None else 16 * words
    return Level(name, room, word_bits=16, read_pj=pj, write_pj=pj, fanout=fan)


def _undercut(space: Space, *, closely: bool) -> list[Objective]:
    """The objectives whose bound, way by way, some mapping undercuts."""
    evaluator = make_evaluator(space.workload, space.hardware)
    _, best = count_and_best(space)
    found: list[Objective] = []
    for goal in GOALS:
        refinement = refine(evaluator, goal)
        if goal not in best or refinement is None:
            continue
        value = best[goal].key[0]
        enough = value * (1.01 if closely else 1.5)
        for way in refinement.below(enough):
            refinement.raise_bound(way, enough, every_edge=True)
        if not meets(refinement.least, value):
            found.append(goal)
    return found


@pytest.mark.parametrize("seed", range(50, 52))
@pytest.mark.parametrize("kind", [*KINDS, *RELAXED], ids=str)
def test_no_mapping_undercuts_the_bound_of_its_way(kind: Kind, seed: int) -> None:
    assert _undercut(random_space(kind, seed, 2_000), closely=seed % 2 == 0) == []


@pytest.mark.parametrize("seed", range(40, 56))
def test_no_mapping_undercuts_it_where_memories_hold_a_few_words(seed: int) -> None:
    assert _undercut(tight_space(seed, 3_000), closely=seed % 2 == 0) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 400))
def test_no_mapping_undercuts_it_thoroughly(seed: int) -> None:
    assert _undercut(tight_space(seed, 8_000), closely=seed % 2 == 0) == []


_room, _again, _dealings = Passing.room, Passing.again_pj, by_way.Refinement._dealings


def _twice_the_room(self: Passing, box: Box, extents: tuple[int, ...]) -> float:
    return 2 * _room(self, box, extents)


def _twice_the_energy(self: Passing, box: Box, extents: tuple[int, ...]) -> float:
    return 2 * _again(self, box, extents) + 1


def _all_open(self: Any, way: int) -> list[Dealing]:
    return [each for each in _dealings(self, way) if not each.closed]


@pytest.mark.parametrize(
    ("owner", "name", "fault"),
    [
        (Passing, "room", _twice_the_room),
        (Passing, "again_pj", _twice_the_energy),
        (by_way.Refinement, "_dealings", _all_open),
    ],
)
def test_bounds_that_are_too_high_are_seen(
    owner: type, name: str, fault: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that take too much room, words that cost too much, and too few cases."""
    monkeypatch.setattr(owner, name, fault)
    assert any(_undercut(tight_space(seed, 3_000), closely=seed % 2 == 0) for seed in range(10, 40))


def _windows_space(einsum_text: str, sizes: dict[str, int]) -> Space:
    """A layer on two register files of four words each."""
    levels = (_level("DRAM", 64, None, Fanout(2)), _level("RF", 1, 4, Fanout()))
    kept = replace(levels[1], keeps=frozenset("WIO"))
    chip = Hardware("chip", (levels[0], kept), Compute(pj=1.0))
    return Space(einsum("windows", einsum_text, sizes), chip, True, True)


SHARED = _windows_space("O[K,P] += W[K,R] * I[P+R]", {"K": 1, "P": 4, "R": 3})
STRIDED = _windows_space("O[C,P] += W[C,R] * I[C,2P+R]", {"C": 1, "P": 2, "R": 3})


@pytest.mark.parametrize("space", [SHARED, STRIDED], ids=["shared", "strided"])
def test_windows_over_two_places_are_not_undercut(space: Space) -> None:
    assert _undercut(space, closely=True) == []


def _none_copied(*_: Any) -> tuple[int, ...]:
    return ()


def _whatever_it_indexes(self: Nest, place: Any, at: int) -> bool:
    """As if a block could not be moved past loops that do not index its operand."""
    return all(left <= most for left, most in zip(place.box.sizes, self.inside, strict=True))


def _moved_by_any_loop(*_: Any) -> tuple[()]:
    """As if loops over one rank could not undo each other."""
    return ()


@pytest.mark.parametrize(
    ("space", "owner", "name", "fault"),
    [
        (SHARED, by_way.Refinement, "_copied", _none_copied),
        (STRIDED, Nest, "_may_block", _whatever_it_indexes),
        (STRIDED, Nest, "_still_due", _moved_by_any_loop),
    ],
    ids=["copies counted twice", "blocks held back", "tiles that stay"],
)
def test_windows_that_are_too_dear_are_seen(
    space: Space, owner: type, name: str, fault: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, fault)
    assert _undercut(space, closely=True)


def product_chip(room: int) -> tuple[Workload, Hardware]:
    """A product whose inner dim is dealt to two places, one of them with a single value."""
    work = einsum("product", "Z[M,N] += A[M,K] * B[K,N]", {"M": 4, "N": 2, "K": 3})
    levels = (
        Level("DRAM", read_pj=200, write_pj=200, word_bits=16, fanout=Fanout(2)),
        Level("RF", 16 * room, read_pj=1, write_pj=1, word_bits=16),
    )
    return work, Hardware("two places", levels)


def test_a_place_that_sees_one_step_keeps_its_tile() -> None:
    """The loop over N does not index A, but the second place has nothing else to fetch."""
    work, chip = product_chip(40)
    mapping = parse_mapping("DRAM[A B Z]: N2 K2 | K2@x\nRF[A B]: M4")
    assert make_evaluator(work, chip).price(mapping).counts["DRAM", "A"].reads == 20


def _even(self: Nest, place: Any, dim: int) -> int:
    """As if all places saw every step."""
    return place.box.sizes[dim]


def test_places_that_are_taken_to_be_even_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of ResNet-18's layer2.0.conv1 would be above a mapping that is known."""
    layer = zoo.load_network("resnet18").layer("layer2.0.conv1")
    text = """
        DRAM[W I O]: Q2
        GLB[O]: C3 Q14
        GLB[I]: | C5@x C5@y R3@y S3@x
        RF[W]: P28
        RF[I]: K128
    """
    evaluator = make_evaluator(layer, GENERIC)
    known = evaluator.price(parse_mapping(text))
    better = find_padded(
        evaluator,
        Objective.ENERGY,
        {"K": 2, "C": 40, "S": 3},
        keeps={"GLB": ("I", "O"), "RF": ("W", "I")},
        imperfect=True,
        uneven=True,
    )
    assert better is not None
    assert better.energy_pj < known.energy_pj

    def bound() -> float:
        refinement = refine(evaluator, Objective.ENERGY)
        assert refinement is not None
        for way in refinement.below(known.energy_pj):
            refinement.raise_bound(way, known.energy_pj, every_edge=False)
        return refinement.least

    assert bound() <= better.energy_pj
    monkeypatch.setattr(Nest, "_moved", _even)
    assert bound() > better.energy_pj


@pytest.mark.parametrize("size", [1, 2, 7, 28, 100])
@pytest.mark.parametrize("least", [1, 2, 3, 16])
def test_every_chunk_is_in_a_case(size: int, least: int) -> None:
    cases = list_chunks(size, least)
    for chunk in range(least, size, least):
        (case,) = [case for case in cases if case[0] <= chunk <= case[1]]
        low, high, rounds, rest = case
        assert low % least == high % least == 0
        assert rounds <= -(-size // chunk)
        assert rest <= size - (-(-size // chunk) - 1) * chunk


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_rows_count_what_boxes_touch(stride: int, window: int) -> None:
    """Words of runs of positions and windows, at least and at most; what two chunks share."""
    size = 6
    rows = Rows((0, 1), (stride, 1), (size, window), 0, 0, (max(0, window - stride), 0))
    for p in range(1, size + 1):
        for r in range(1, window + 1):
            box = Box((p, r))
            touched = {stride * i + j for i in range(p) for j in range(r)}
            assert rows.words(box) <= len(touched) <= rows.most(box)
    whole = Box((size, window))
    for chunk in range(1, size):
        parts = [
            {stride * i + j for i in range(at, min(size, at + chunk)) for j in range(window)}
            for at in range(0, size, chunk)
        ]
        twice = sum(map(len, parts)) - len(set[int]().union(*parts))
        assert rows.repeated(whole, 0, chunk, len(parts)) <= twice
        shared = [len(a & b) for a, b in pairwise(parts)]
        assert max(shared) <= rows.beside(whole, 0, (chunk, chunk, len(parts)))


def test_extents_are_dealt_to_axes_with_the_least_padding() -> None:
    layer = conv2d("layer", K=64, C=3, P=112, Q=112, R=7, S=7, stride=2, padding=3)
    dealt = deal(layer, Fanout(16, 16), {"C": 3, "R": 7, "S": 7})
    assert dealt is not None
    assert sorted(a * b for a, b in dealt.values()) == [3, 7, 8]
    assert pad(layer, dealt).macs * 7 == layer.macs * 8
    assert deal(layer, Fanout(16, 16), {"K": 64, "C": 3, "R": 7}) is None
    narrow = Fanout(16, 16, x_dims=("K",), y_dims=("C",))
    assert deal(layer, narrow, {"K": 8, "C": 3}) == {"K": (8, 1), "C": (1, 3)}
    assert deal(layer, narrow, {"R": 7}) is None


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("imperfect", [False, True])
def test_padded_mappings_are_of_the_kind_asked_for(uneven: bool, imperfect: bool) -> None:
    layer = conv2d("layer", K=6, C=5, P=8, Q=8, R=3, S=3, padding=1)
    found = find_padded(
        make_evaluator(layer, GENERIC),
        Objective.ENERGY,
        {"K": 4, "C": 5},
        imperfect=imperfect,
        uneven=uneven,
    )
    assert (found is None) == (not imperfect)  # 4 does not divide 6
    if found is not None:
        verify_mapping(layer, GENERIC, found.mapping)
        assert any(loop.extent == 4 for block in found.mapping.blocks for loop in block.spatial)


@pytest.mark.parametrize(
    ("name", "objective", "pj"),
    [("conv1", "energy", 558_416_372.0), ("layer2.0.conv1", "edp", 271_399_936.0)],
)
def test_ways_are_narrowed_down_to_a_proof(name: str, objective: str, pj: float) -> None:
    """The best even mapping is beaten by one that no bound of a way is below."""
    layer = zoo.load_network("resnet18").layer(name)
    goal = Objective(objective)
    even = find_mapping(layer, GENERIC, objective=goal).cost
    assert even is not None
    evaluator = make_evaluator(layer, GENERIC)
    found = narrow_down(evaluator, goal, even, imperfect=True, uneven=True)
    assert found is not None
    assert goal.of(found.cost) < goal.of(even)
    assert found.cost.energy_pj == pj
    assert meets(goal.of(found.cost), found.bound)
    assert found.bound >= least_of(evaluator, goal) * (1 - 1e-12)
    whole = find_mapping(layer, GENERIC, objective=goal, imperfect=True, uneven=True, seconds=60)
    assert whole.status is Status.OPTIMAL
    assert whole.cost is not None
    assert whole.lower_bound == goal.of(whole.cost) == goal.of(found.cost)


def test_narrowing_stops_when_told_and_keeps_what_is_known() -> None:
    layer = zoo.load_network("resnet18").layer("layer2.0.conv1")
    even = find_mapping(layer, GENERIC).cost
    assert even is not None
    evaluator = make_evaluator(layer, GENERIC)
    found = narrow_down(
        evaluator, Objective.ENERGY, even, imperfect=True, uneven=True, should_stop=lambda: True
    )
    assert found is not None
    assert (found.cost, found.sought) == (even, 0)
    least = least_of(evaluator, Objective.ENERGY)
    assert found.bound == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("imperfect", [False, True])
@pytest.mark.parametrize("name", ["_rule_out", "find_padded"])
def test_ctrl_c_returns_what_is_known(
    name: str, imperfect: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(narrowing, name, press)
    layer = zoo.load_network("resnet18").layer("layer3.0.conv1")
    even = find_mapping(layer, GENERIC).cost
    assert even is not None
    evaluator = make_evaluator(layer, GENERIC)
    found = narrow_down(evaluator, Objective.ENERGY, even, imperfect=imperfect, uneven=True)
    assert found is not None
    assert (found.cost, found.interrupted) == (even, True)
    if imperfect:
        whole = find_mapping(layer, GENERIC, imperfect=True, uneven=True)
        assert whole.interrupted
        assert whole.status is Status.BEST_FOUND
        assert whole.cost is not None
        assert whole.lower_bound is not None
        assert whole.lower_bound < whole.cost.energy_pj == even.energy_pj


def test_ways_are_not_listed_for_other_objectives() -> None:
    evaluator = make_evaluator(zoo.load_network("resnet18").layer("fc"), GENERIC)
    assert refine(evaluator, Objective.CYCLES) is None
