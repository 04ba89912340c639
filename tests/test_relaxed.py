"""Uneven and imperfect mappings where the best is not proved: no worse than proved, and bounded."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest
from benchmarks.relaxed import GENERIC
from enumeration import Space, count_and_best
from numpy.typing import NDArray
from test_optimal import RELAXED
from tiny_spaces import Kind, random_space

from tilewright import zoo
from tilewright.ir.hardware import Fanout, Hardware, Level
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.workload import Operand, Workload, conv2d, einsum
from tilewright.mapper import floor, sharing
from tilewright.mapper.copies import Spread, spread_of
from tilewright.mapper.layer import UNEVEN_SECONDS, find_mapping
from tilewright.mapper.result import Objective, Status
from tilewright.mapper.rounds import Parts, list_parts, stay_share
from tilewright.mapper.search import EVALUATIONS, search_mapping
from tilewright.mapper.sharing import Demand, least_joint_pj, list_unrollings, shape_of
from tilewright.mapspace.draft import neighbour, random_draft, to_draft, to_mapping
from tilewright.mapspace.space import Mapspace
from tilewright.model.evaluate import make_evaluator
from tilewright.model.limit import operand_words

SMALL = conv2d("small", K=8, C=4, P=6, Q=6, R=3, S=1)
LAYER = conv2d("layer", K=64, C=32, P=14, Q=14, R=3, S=3, padding=1)


@pytest.mark.parametrize("uneven", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("objective", Objective)
def test_wider_spaces_are_never_worse(objective: Objective, uneven: bool) -> None:
    """The even mappings with perfect factors are among them; the search alone misses the best."""
    chip = zoo.eyeriss()
    layer, seconds = (SMALL, 40.0) if uneven else (LAYER, None)
    even = find_mapping(layer, chip, objective=objective)
    wide = find_mapping(
        layer, chip, objective=objective, imperfect=True, uneven=uneven, seconds=seconds
    )
    assert even.cost is not None
    assert wide.cost is not None
    assert wide.lower_bound is not None
    assert objective.key(wide.cost) <= objective.key(even.cost)
    assert 0 < wide.lower_bound <= objective.of(wide.cost)
    assert (wide.status is Status.OPTIMAL) == (wide.lower_bound == objective.of(wide.cost))


def test_the_search_alone_is_worse() -> None:
    """What the test above would not see if the search were as good."""
    chip = zoo.eyeriss()
    even = find_mapping(LAYER, chip)
    alone = search_mapping(LAYER, chip, imperfect=True, uneven=True)
    assert even.cost is not None
    assert alone.cost is not None
    assert alone.cost.energy_pj > even.cost.energy_pj


FANS = [
    Kind("fan-out", (2, 3), fanout=True),
    Kind("free fan-out", (2, 3), fanout=True, free=True, imperfect=True),
    Kind("all", (2, 3), fanout=True, imperfect=True, uneven=True),
]
"""What competes for copies: more of it than the mappers are held to."""


@pytest.mark.parametrize("seed", range(10, 14))
@pytest.mark.parametrize("kind", [*RELAXED, *FANS], ids=str)
def test_no_mapping_undercuts_the_bound(kind: Kind, seed: int) -> None:
    assert _undercut(kind, seed) == []


@pytest.mark.parametrize("seed", range(10, 14))
@pytest.mark.parametrize("kind", FANS, ids=str)
def test_no_mapping_undercuts_the_bound_by_prices(
    kind: Kind, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for arrays that have too many unrollings to list."""
    monkeypatch.setattr(sharing, "_MOST_WAYS", 0)
    assert _undercut(kind, seed) == []


@pytest.mark.slow
@pytest.mark.parametrize("ways", [0, 200_000])
@pytest.mark.parametrize("seed", range(100, 140))
@pytest.mark.parametrize("kind", FANS, ids=str)
def test_no_mapping_undercuts_the_bound_thoroughly(
    kind: Kind, seed: int, ways: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "_MOST_WAYS", ways)
    assert _undercut(kind, seed) == []


def _no_share(size: int, most: int) -> float:
    return 1.0


def _no_fibers(
    whole: tuple[int, int], most: tuple[int, int], steps: tuple[int, int]
) -> NDArray[np.float64]:
    return np.full(most, 0.5)


def _all_full(way: Sequence[int], limits: Sequence[int], copies: int) -> bool:
    return math.prod(way) == 1


@pytest.mark.parametrize(
    ("name", "fault", "ways"),
    [
        ("_rounds", _no_share, 0),
        ("_fibers", _no_fibers, 0),
        ("_fibers", _no_fibers, 200_000),
        ("_is_full", _all_full, 200_000),
    ],
)
def test_too_little_sharing_is_seen(
    name: str, fault: object, ways: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operands share less than some mapping lets them: its bound is undercut."""
    monkeypatch.setattr(sharing, "_MOST_WAYS", ways)
    monkeypatch.setattr(sharing, name, fault)
    assert any(_undercut(kind, seed) for kind in FANS for seed in range(10, 30))


def _doubled(spread: Spread) -> Spread:
    return replace(spread, least=2 * spread.least)


def _one_by_one(spread: Spread) -> Spread:
    return replace(spread, together=np.ones_like(spread.together))


@pytest.mark.parametrize("fault", [_doubled, _one_by_one])
def test_too_many_copies_are_seen(
    fault: Callable[[Spread], Spread], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memories of single MACs get more words, or serve fewer, than some mapping lets them."""

    def with_fault(*asked: Any) -> Spread:
        return fault(spread_of(*asked))

    monkeypatch.setattr(floor, "spread_of", with_fault)
    assert any(_undercut(kind, seed) for kind in FANS for seed in range(10, 40))


def _all_again(
    self: Any, operand: Operand, _: tuple[int, ...], spread: Spread, stay: Any
) -> object:
    """Even what a memory has room for."""
    return float(operand_words(operand, self.workload)) * np.ones(len(spread.least))


def _always(self: Any) -> set[frozenset[int]]:
    """Even where the outermost loop indexes the operand."""
    return {frozenset(range(len(self.workload.operands)))}


@pytest.mark.parametrize(
    ("name", "fault"), [("again_words", _all_again), ("passed_again", _always)]
)
def test_too_many_rounds_are_seen(
    name: str, fault: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words pass the outermost edge again that some mapping keeps on the chip."""
    monkeypatch.setattr(floor.Floor, name, fault)
    assert any(_undercut(kind, seed) for kind in FANS for seed in range(10, 40))


def _stays_too_much(random: Random, fault: Callable[[Spread], Spread] = lambda s: s) -> bool:
    """Whether more of an operand stays than its bound says, if parts are dealt at random."""
    padding, held = random.choice(((0, 0), (1, 0))), random.randint(1, 12)
    layer = conv2d(
        "c",
        K=1,
        C=random.randint(2, 5),
        P=random.randint(2, 5),
        Q=1,
        R=3,
        S=1,
        stride=random.choice((1, 2)),
        padding=padding,
    )
    operand, dims = layer.operand("I"), ["C", "P", "R"]
    height = operand.ranks[2]
    step, real = height.terms[0].coefficient, set(range(*(height.data or (0, 99))))
    sizes = [layer.sizes[dim] for dim in dims]
    places = [
        [random.randint(0, random.randint(0, size - 1)) for _ in range(size)] for size in sizes
    ]
    touched: dict[tuple[int, ...], set[tuple[int, int]]] = {}
    for c, p, r in product(*map(range, sizes)):
        if step * p + r in real:
            part = places[0][c], places[1][p], places[2][r]
            touched.setdefault(part, set()).add((c, step * p + r))
    passing = set[tuple[int, int]]().union(*(w for w in touched.values() if len(w) > held))
    extents = np.array([[len(set(place)) for place in places]])
    spread = fault(spread_of(operand, layer, extents, dims))
    cases: list[Parts] = []
    for column, (dim, size) in enumerate(zip(dims, sizes, strict=True)):
        longest = max(places[column].count(place) for place in places[column])
        if longest > math.ceil(size / extents[0, column]):
            cases += [
                parts
                for parts in list_parts(dim, size, extents[:, column])
                if parts.rounds[0] <= longest <= parts.longest[0]
            ]
    cases = cases or [Parts(None, extents[:, 0], extents[:, 0])]
    words = operand_words(operand, layer)
    return any(
        len(passing)
        < words * (1 - stay_share(operand, layer, extents, dims, spread, case, held)[0]) - 1e-9
        for case in cases
    )


def test_what_stays_is_bounded_for_parts_of_any_size() -> None:
    random = Random(0)
    assert not any(_stays_too_much(random) for _ in range(4_000))


def test_too_little_that_stays_is_seen() -> None:
    random = Random(0)
    assert any(
        _stays_too_much(random, lambda spread: replace(spread, full=np.ones(1)))
        for _ in range(4_000)
    )


def test_what_does_not_fit_on_the_chip_passes_again() -> None:
    """The best mapping of a product whose operands all exceed the only buffer, met exactly."""
    work = einsum("mm", "Z[M,N] += A[M,K] * B[K,N]", {"M": 4, "N": 4, "K": 4})
    chip = Hardware(
        "chip", (Level("DRAM", read_pj=64), Level("GLB", 14 * 16, keeps=frozenset("ABZ")))
    )
    best = count_and_best(Space(work, chip, uneven=True))[1][Objective.ENERGY].key[0]
    least = floor.least_of(make_evaluator(work, chip), Objective.ENERGY)
    assert 2 * 16 * 64 < least <= best  # inputs once
    assert floor.meets(best, least)


def test_first_updates_read_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide sums in memories of single MACs; a bound in which first updates read is seen."""
    work = einsum("mm", "Z[M,N] += A[M,K] * B[K,N]", {"M": 2, "N": 2, "K": 3}, {"psum": 32})
    levels = (
        Level("DRAM", read_pj=4, write_pj=4, fanout=Fanout(3)),
        Level("RF", 1024, keeps=frozenset("ABZ"), read_pj=1, write_pj=0.25, update_pj=0),
    )
    chip = Hardware("chip", levels)
    best = count_and_best(Space(work, chip, imperfect=True))[1][Objective.ENERGY].key[0]
    evaluator = make_evaluator(work, chip)
    assert floor.least_of(evaluator, Objective.ENERGY) <= best

    def without_first(*asked: Any) -> Spread:
        return replace(spread_of(*asked), most=np.zeros(1))

    monkeypatch.setattr(floor, "spread_of", without_first)
    assert floor.least_of(evaluator, Objective.ENERGY) > best


@pytest.mark.parametrize("seed", range(20))
def test_copies_are_bounded_for_every_way_to_split(seed: int) -> None:
    """Against random values for every place: words of a window, padding left out."""
    random = Random(seed)
    p, r, stride, dilation = (random.randint(*most) for most in ((2, 9), (2, 4), (1, 3), (1, 2)))
    padding = random.choice((0, 0, 1, 2))
    layer = conv2d(
        "row", K=1, C=1, P=p, Q=1, R=r, S=1, stride=stride, dilation=dilation, padding=(padding, 0)
    )
    operand = layer.operand("I")
    height = next(rank for rank in operand.ranks if str(rank).count("P"))
    real = set(range(*(height.data or (0, 99))))
    for _ in range(200):
        places = [random.randint(0, 4) for _ in range(p)], [random.randint(0, 2) for _ in range(r)]
        held = {
            (place_p, place_r, stride * i + dilation * j)
            for (i, place_p), (j, place_r) in product(*map(enumerate, places))
            if stride * i + dilation * j in real
        }
        ways = np.array([[len(set(places[0])), len(set(places[1]))]])
        least = spread_of(operand, layer, ways, ["P", "R"]).least[0]
        assert least * operand_words(operand, layer) <= len(held) + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_sharing_is_bounded_for_every_unrolling(seed: int) -> None:
    """Against all extents: a product of matrices, where shares are products of extents."""
    random = Random(seed)
    sizes = {dim: random.randint(1, 12) for dim in "MNK"}
    work = einsum("mm", "Z[M,N] += A[M,K] * B[K,N]", sizes)
    axes = random.randint(1, 4), random.randint(1, 4)
    chip = Hardware("chip", (Level("DRAM", fanout=Fanout(*axes)),))
    demands = [
        Demand(((random.uniform(1, 100), random.choice((2.0, 64.0)), random.uniform(0, 5)),))
        for _ in work.operands
    ]
    shape, listed = shape_of(work, chip), list_unrollings(work, chip)
    assert shape is not None
    assert listed is not None
    bound = least_joint_pj(shape, demands, chip.mac_units)
    best = math.inf
    for extents in product(*(range(1, sizes[dim] + 1) for dim in "MNK")):
        if math.prod(extents) <= chip.mac_units:
            at = dict(zip("MNK", extents, strict=True))
            energies = [
                demand.pj(np.array(_average(sizes, at, operand)))
                for demand, operand in zip(demands, work.operands, strict=True)
            ]
            best = min(best, float(sum(energies)))
    assert 0.5 * best <= bound <= best * (1 + 1e-12)
    over_all = sum(demand.pj(listed.shares[:, o]) for o, demand in enumerate(demands))
    assert bound <= np.min(over_all) * (1 + 1e-12) <= best * (1 + 2e-12)


def _average(sizes: dict[str, int], extents: dict[str, int], operand: Operand) -> float:
    """How many MACs share a word of an operand: extents, last rounds included."""
    dims = [dim for dim in sizes if dim not in operand.dims]
    return math.prod(sizes[dim] / math.ceil(sizes[dim] / extents[dim]) for dim in dims)


def test_a_layer_of_many_mappings_may_be_proved_by_the_bound_alone() -> None:
    layer = zoo.load_network("resnet18").layer("layer2.0.downsample")
    found = find_mapping(layer, zoo.eyeriss(), imperfect=True, uneven=True, seconds=40)
    assert found.status is Status.OPTIMAL
    assert found.cost is not None
    assert found.lower_bound == found.cost.energy_pj


def test_a_search_cut_short_is_bounded_by_what_holds_for_all() -> None:
    layer = conv2d("large", N=16, K=720, C=240, P=48, Q=48, R=3, S=3)
    chip, seen = zoo.eyeriss(), list[float | None]()
    found = find_mapping(
        layer,
        chip,
        should_stop=lambda: any(best is not None for best in seen),
        on_progress=lambda progress: seen.append(progress.incumbent),
    )
    assert found.status is Status.BEST_FOUND
    assert found.lower_bound is not None
    assert found.cost is not None
    least = floor.least_of(make_evaluator(layer, chip), Objective.ENERGY)
    assert least <= found.lower_bound < found.cost.energy_pj


def test_a_bound_that_is_too_high_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    words = floor.operand_words

    def too_many(operand: Operand, workload: Workload) -> int:
        return 4 * words(operand, workload)

    monkeypatch.setattr(floor, "operand_words", too_many)
    assert any(_undercut(kind, seed, ordered=False) for kind in RELAXED for seed in range(10, 14))


def _undercut(kind: Kind, seed: int, *, ordered: bool = True) -> list[Objective]:
    """The objectives whose bound a mapping undercuts; that of all operands together is tighter."""
    space = random_space(kind, seed, 2_000)
    evaluator = make_evaluator(space.workload, space.hardware)
    _, best = count_and_best(space)
    least = {goal: floor.least_of(evaluator, goal) for goal in best}
    for goal, bound in least.items() if ordered else ():
        assert floor.least_of(evaluator, goal, joint=False) <= bound * (1 + 1e-12)
    return [goal for goal, found in best.items() if found.key[0] < least[goal]]


@pytest.mark.parametrize("seed", range(40))
def test_a_mapping_is_found_in_its_draft(seed: int) -> None:
    """Steps begin at mappings that are known: what a draft says is what was written."""
    space = Mapspace(SMALL, zoo.eyeriss(), imperfect=True, uneven=True)
    random = Random(seed)
    draft = random_draft(space, random)
    for _ in range(20):
        draft = neighbour(draft, space, random)
    mapping = to_mapping(draft, space)
    found = to_draft(mapping, space)
    assert found is not None
    assert _sorted(to_mapping(found, space)) == _sorted(mapping)
    doubled = Mapping((Block("DRAM", ("W", "I", "O"), (Loop("K", 2), Loop("K", 4))),))
    assert to_draft(doubled, space) is None


def _sorted(mapping: Mapping) -> list[Block]:
    """The blocks, unrolled loops in any order."""
    return [
        replace(block, spatial=tuple(sorted(block.spatial, key=str))) for block in mapping.blocks
    ]


def test_a_known_mapping_is_improved_until_it_is_enough() -> None:
    layer = zoo.load_network("resnet18").layer("layer2.0.downsample")
    even = find_mapping(layer, GENERIC, objective="edp").cost
    assert even is not None
    least = floor.least_of(make_evaluator(layer, GENERIC), Objective.EDP)
    assert even.edp > least * (1 + 1e-6)
    near = search_mapping(
        layer,
        GENERIC,
        objective="edp",
        imperfect=True,
        uneven=True,
        starts=[even.mapping],
        enough=least * (1 + 1e-9),
    )
    assert near.cost is not None
    assert near.cost.edp < even.edp
    assert (near.cost.edp <= least * (1 + 1e-9)) == (near.evaluated < EVALUATIONS)


@pytest.mark.parametrize("objective", ["energy", "edp"])
def test_no_search_is_needed_where_an_even_mapping_meets_the_bound(objective: str) -> None:
    layer = zoo.load_network("resnet18").layer("layer4.0.downsample")
    found = find_mapping(layer, GENERIC, objective=objective, imperfect=True, uneven=True)
    assert found.cost is not None
    assert found.status is Status.OPTIMAL
    assert found.lower_bound == found.objective.of(found.cost)
    assert found.seconds < UNEVEN_SECONDS / 4
