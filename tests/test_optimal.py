"""The mapper that proves: held to all mappings of tiny spaces, one by one."""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from enumeration import (
    Best,
    Key,
    Space,
    count_and_best,
    count_mappings,
    mappings,
    signature,
)
from mapper_contract import Case, MapperContract
from tiny_spaces import Kind, random_space

from tilewright.errors import InfeasibleError
from tilewright.ir.hardware import Fanout, Hardware, Level
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.verify import axis_violations, verify_mapping
from tilewright.ir.workload import Workload, conv2d, einsum
from tilewright.mapper.layer import find_mapping
from tilewright.mapper.optimal import find_optimal
from tilewright.mapper.result import LayerResult, Objective, Status
from tilewright.mapper.search import search_mapping
from tilewright.model.evaluate import Evaluator, make_evaluator

KINDS = [
    Kind("two levels", (2,)),
    Kind("three levels", (3,)),
    Kind("fan-out", (2, 3), fanout=True),
    Kind("bypass", (2, 3), free=True),
]
RELAXED = [
    Kind("uneven", (2, 3), uneven=True),
    Kind("uneven fan-out", (2, 3), fanout=True, uneven=True),
    Kind("imperfect", (2, 3), imperfect=True),
    Kind("imperfect fan-out", (2, 3), fanout=True, imperfect=True),
    Kind("imperfect bypass", (2, 3), free=True, imperfect=True),
    Kind("uneven, imperfect", (2, 3), imperfect=True, uneven=True),
]
PROVEN: list[Kind] = [*KINDS, *(k for k in RELAXED if not (k.imperfect and k.uneven))]
"""What the mapper is held to; the rest of `RELAXED` joins as soon as it proves those too."""
FEW, BATCH, BATCHES = 6, 20, 10


def solve(
    space: Space, objective: str | Objective = Objective.ENERGY, seconds: float | None = None
) -> LayerResult:
    from tilewright.mapper.optimal import find_optimal

    if space.imperfect:
        return find_mapping(
            space.workload,
            space.hardware,
            objective=objective,
            imperfect=True,
            uneven=space.uneven,
            seconds=seconds,
        )
    return find_optimal(
        space.workload,
        space.hardware,
        objective=Objective(objective).value,
        uneven=space.uneven,
        seconds=seconds,
    )


class TestOptimal(MapperContract):
    def solve(
        self, workload: Workload, hardware: Hardware, case: Case, seconds: float | None = None
    ) -> LayerResult:
        space = Space(workload, hardware, case.imperfect, case.uneven)
        if case.uneven and seconds is None:
            seconds = 5.0  # proofs of uneven mappings are held to the enumeration, further down
        return solve(space, case.objective, seconds)


@pytest.mark.parametrize("seed", range(FEW))
@pytest.mark.parametrize("kind", PROVEN, ids=str)
def test_no_mapping_is_better(kind: Kind, seed: int) -> None:
    compare(random_space(kind, seed, 4_000))


def test_instances_that_padding_loads_unevenly() -> None:
    """R unrolled: one instance has more of the input's data, and its port is busy for longer."""
    compare(random_space(KINDS[2], 1050, 6_000))


def test_instances_of_two_fan_outs_that_share_a_word() -> None:
    """P unrolled on one fan-out and R on another: a word serves instances of both."""
    compare(random_space(KINDS[2], 12, 20_000))


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("kind", PROVEN, ids=str)
def test_no_mapping_of_many_spaces_is_better(kind: Kind, batch: int) -> None:
    for seed in range(FEW + batch * BATCH, FEW + (batch + 1) * BATCH):
        compare(random_space(kind, seed, 20_000))


def compare(space: Space) -> None:
    """Hold the mapper to the best of all mappings, for every objective."""
    count, best = count_and_best(space)
    for objective in Objective:
        found = solve(space, objective)
        said = _describe(space, objective, best.get(objective), found)
        assert count <= found.mapspace_size, said
        if not best:
            assert found.status is Status.INFEASIBLE, said
            assert found.cost is None, said
            assert found.violations, said
            continue
        assert found.cost is not None, said
        assert found.status is Status.OPTIMAL, said
        assert alike(objective.key(found.cost), best[objective].key), said
        assert found.lower_bound == objective.of(found.cost), said
        verify_mapping(space.workload, space.hardware, found.cost.mapping)
        priced = make_evaluator(space.workload, space.hardware).price(found.cost.mapping)
        assert objective.key(priced) == objective.key(found.cost), said


def alike(one: Key, other: Key) -> bool:
    return all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(one, other, strict=True))


def _describe(space: Space, objective: Objective, best: Best | None, found: LayerResult) -> str:
    """All that is needed to look at a difference by hand."""
    ours = "none fits" if best is None else f"{best.key}\n{best.mapping}"
    cost = found.cost
    theirs = found.reason if cost is None else f"{objective.key(cost)}\n{cost.mapping}"
    work = f"{space.workload.einsum} {space.workload.sizes}"
    return (
        f"{objective.value}: {work}\n{space}\n"
        f"all mappings: {ours}\nmapper ({found.status.value}): {theirs}"
    )


# The enumeration is held to numbers counted by hand, to a blunt search, and to the random search.

TINY = einsum("tiny", "O[M] += W[M] * I[M]", {"M": 4})
PRODUCT = einsum("product", "O[M] += W[M,K] * I[K]", {"M": 3, "K": 2})
TWO = Hardware("two", (Level("DRAM", read_pj=64, write_pj=64), Level("RF", 96, read_pj=1)))
HELD = Hardware("held", (Level("DRAM"), Level("RF", keeps=frozenset("WIO"))))
SPREAD = Hardware("spread", (Level("DRAM", fanout=Fanout(2, 2, y_dims=("K",))), Level("RF")))


@pytest.mark.parametrize(
    ("space", "count"),
    [
        # 4·1, 2·2, 1·4; I, O, W kept inside or not.
        (Space(TINY, TWO), 3 * 2**3),
        (Space(TINY, HELD), 3),
        # With a loop inside, any of the blocks but not all may stand inside it.
        (Space(TINY, HELD, uneven=True), 1 + (1 + 6) + (1 + 6)),
        # The same for any 3, 2, 1 or no operands kept.
        (Space(TINY, TWO, uneven=True), 2**3 + 2 * (7 + 3 * 3 + 3 * 1 + 1)),
        # Extents inside 1 to 4, with 4, 2, 2 and 1 outside.
        (Space(TINY, HELD, imperfect=True), 4),
        # Both loops outside or both inside: 2 orders each; one outside: 1, twice.
        (Space(PRODUCT, HELD), 2 + 2 + 1 + 1),
        # 3 as 1·3, 2·2, 3·1, with both loops outside unless their extent there is 1.
        (Space(PRODUCT, HELD, imperfect=True), 2 + 1 + 2 + 2 + 1 + 2),
        # K outside, on x, on y, inside; M (3 steps) finds no room on 2 copies.
        (Space(PRODUCT, SPREAD), (2 + 1 + 1 + 1 + 1 + 1 + 1 + 2) * 2**3),
    ],
)
def test_the_enumeration_counts_as_by_hand(space: Space, count: int) -> None:
    written = [str(mapping) for mapping in mappings(space)]
    assert len(set(written)) == len(written) == count_mappings(space) == count


@pytest.mark.parametrize("kind", [*KINDS, *RELAXED], ids=str)
def test_every_mapping_is_legal_and_none_comes_twice(kind: Kind) -> None:
    space = random_space(kind, 0, 3_000)
    written: set[str] = set()
    for number, mapping in enumerate(mappings(space)):
        written.add(str(mapping))
        if number % 10 == 0:
            verify_mapping(space.workload, space.hardware, mapping)
            assert axis_violations(space.hardware, mapping) == []
    assert len(written) == count_mappings(space)


@pytest.mark.parametrize("kind", [*KINDS, *RELAXED], ids=str)
def test_mappings_with_one_signature_cost_the_same(kind: Kind) -> None:
    """What lets the enumeration price the first of them alone."""
    space = random_space(kind, 1, 2_000)
    evaluator = make_evaluator(space.workload, space.hardware)
    known: dict[object, dict[Objective, Key] | None] = {}
    for mapping in mappings(space):
        keys = _keys(evaluator, mapping)
        assert known.setdefault(signature(mapping, space.hardware), keys) == keys


def _keys(evaluator: Evaluator, mapping: Mapping) -> dict[Objective, Key] | None:
    try:
        cost = evaluator.price(mapping)
    except InfeasibleError:
        return None
    return {objective: objective.key(cost) for objective in Objective}


def test_superfluous_steps_never_help() -> None:
    """The enumeration leaves out loops that are longer than needed. None of them is better."""
    layer = conv2d("row", K=2, C=1, P=5, Q=1, R=2)
    outer = Level("DRAM", read_pj=64, write_pj=64, bandwidth=1, fanout=Fanout(3, x_dims=("P",)))
    inner = Level("RF", 112, read_pj=1, write_pj=1, keeps=frozenset("WIO"))
    chip = Hardware("row", (outer, inner))
    best = dict[Objective, Key]()
    for mapping in _all_that_cover(layer):
        verify_mapping(layer, chip, mapping)
        keys = _keys(make_evaluator(layer, chip), mapping) or {}
        best |= {goal: min(key, best.get(goal, key)) for goal, key in keys.items()}
    _, found = count_and_best(Space(layer, chip, imperfect=True))
    assert {goal: one.key for goal, one in found.items()} == best


def _all_that_cover(layer: Workload) -> Iterator[Mapping]:
    """Every extent up to the size of K, P and R, outside and inside, and of P on 3 copies."""
    dims = "KPR"
    sizes = [layer.sizes[dim] for dim in dims]
    extents = list(product(*(range(1, size + 1) for size in sizes)))
    for outside, inside, copies in product(extents, extents, range(1, 4)):
        spans = [
            a * b * (copies if dim == "P" else 1)
            for dim, a, b in zip(dims, outside, inside, strict=True)
        ]
        if all(span >= size for span, size in zip(spans, sizes, strict=True)):
            below = tuple(map(Loop, dims, inside))
            for order in permutations(map(Loop, dims, outside)):
                yield Mapping(
                    (
                        Block("DRAM", ("W", "I", "O"), order, (Loop("P", copies, "x"),)),
                        Block("RF", ("W", "I", "O"), below),
                    )
                )


@pytest.mark.parametrize("kind", [*KINDS, *RELAXED], ids=str)
def test_the_search_is_never_better_than_all_mappings(kind: Kind) -> None:
    space = random_space(kind, 2, 2_000)
    _, best = count_and_best(space)
    for objective in Objective:
        found = search_mapping(
            space.workload,
            space.hardware,
            objective=objective,
            imperfect=space.imperfect,
            uneven=space.uneven,
            seconds=0.2,
        )
        assert (found.cost is None) == (objective not in best)
        if found.cost is not None:
            assert objective.key(found.cost) >= best[objective].key


def test_a_space_in_which_nothing_fits_has_no_best() -> None:
    tight = Hardware("tight", (Level("DRAM"), Level("RF", 40, keeps=frozenset("WIO"))))
    assert count_and_best(Space(TINY, tight)) == (3, {})


def test_mappings_are_made_one_by_one() -> None:
    large = conv2d("large", K=8, C=8, P=56, Q=56, R=3, S=3)
    assert next(mappings(Space(large, TWO, imperfect=True)))


@pytest.mark.parametrize("kind", [KINDS[2], RELAXED[1]], ids=str)
def test_a_bound_that_is_too_high_is_seen(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison notices a mapper that leaves out what it must not."""
    from tilewright.mapper.prepare import Blocks, Preparation
    from tilewright.mapper.problem import Template

    make = Preparation.template

    def too_high(
        self: Preparation,
        blocks: Blocks,
        by_cycles: bool,
        most: float,
        rents: tuple[float, ...] = (),
    ) -> Template | None:
        template = make(self, blocks, by_cycles, most, rents)
        if template is not None:
            template.mac_floor[:] *= 1.5
            for bound in (template.fills, template.quick, template.quick_total):
                bound[:] *= 1.5
        return template

    monkeypatch.setattr(Preparation, "template", too_high)
    spaces = [random_space(kind, seed, 4_000) for seed in range(FEW)]
    with pytest.raises(AssertionError):
        list(map(compare, spaces))


def test_a_class_of_cycles_that_is_left_out_wrongly_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tilewright.mapper import optimal, prepare
    from tilewright.mapper.problem import Floats, Problem, Template

    def too_high(template: Template, problem: Problem) -> Floats:
        return prepare.root_floors(template, problem) * 1.5

    monkeypatch.setattr(optimal, "root_floors", too_high)
    spaces = [random_space(KINDS[2], seed, 4_000) for seed in range(FEW)]
    with pytest.raises(AssertionError):
        list(map(compare, spaces))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_tiles_that_are_too_dear_are_not_missed(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists are cut short by a mapping that is found at once, as they are where they are long."""
    from tilewright.mapper import optimal

    monkeypatch.setattr(optimal, "_PATIENT", 0.0)
    monkeypatch.setattr(optimal, "_MOST_HELD", 0)
    for seed in range(FEW):
        compare(random_space(kind, seed, 4_000))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_hard_searches_find_the_best_too(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every search counts as hard: it dives, stops and goes on with new bounds."""
    from tilewright.mapper import optimal

    monkeypatch.setattr(optimal, "_QUICK_NODES", 2)
    monkeypatch.setattr(optimal, "_DIVE_NODES", 2)
    for seed in range(FEW):
        compare(random_space(kind, seed, 4_000))


# Layers whose best mappings leave tiles in place: rows that the loop over R has passed are there
# when the next step of P begins.
STANDING = [
    conv2d("padded", G=2, K=1, C=1, P=8, Q=1, R=3, padding=(1, 0)),
    conv2d("plain", K=2, C=1, P=4, Q=1, R=3),
    einsum("pool", "O[C,P] += I[C,P+R]", {"C": 2, "P": 8, "R": 3}),
    einsum("apart", "O[P,C] += A[2P+R,C]", {"P": 4, "R": 2, "C": 4}),
    einsum("sliders", "O[P] += A[P+R] * B[P+2R]", {"P": 8, "R": 3}),
]


def standing_chip(levels: int) -> Hardware:
    """Room for a few words only, so that R is outside."""
    inner = [Level("GLB", 160, read_pj=4, write_pj=4), Level("RF", 96, read_pj=1, write_pj=1)]
    return Hardware("rows", (Level("DRAM", read_pj=64, write_pj=64), *inner[: levels - 1]))


@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("layer", STANDING, ids=[layer.name for layer in STANDING])
def test_tiles_that_stay_in_place_are_free(layer: Workload, levels: int) -> None:
    compare(Space(layer, standing_chip(levels)))


def watch_prices(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """The energies of chains in the search, as far as they are not loose, and those by `exact`."""
    hunt: Any = import_module("tilewright.mapper.optimal")
    seen: list[tuple[float, float]] = []
    take: Callable[..., None] = hunt._Hunt._take

    def watched(self: Any, choice: Any, *rest: object) -> None:
        path = choice.path
        if path.best[4]:
            chain = hunt._Chain(path.best_tile, path.best_spread, path.best_class)
            (mapping,) = self._mappings(choice, chain, loose=False)
            seen.append((path.best[1], self._charged(self.evaluator.price(mapping))))
        take(self, choice, *rest)

    monkeypatch.setattr(hunt._Hunt, "_take", watched)
    return seen


def find_all_best() -> None:
    for layer in STANDING[:4]:
        for levels in (2, 3):
            for objective in Objective:
                solve(Space(layer, standing_chip(levels)), objective)


def test_prices_in_the_search_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch_prices(monkeypatch)
    find_all_best()
    assert len(seen) > 30
    assert all(math.isclose(priced, exact, rel_tol=1e-9) for priced, exact in seen), seen


def test_words_that_do_not_stay_in_place_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A price that takes more words for standing than there are is not exact."""
    from tilewright.mapper import sliding

    make = sliding.tile_tables

    def doubled(*args: object) -> tuple[object, ...]:
        largest, visits, spills, placed, start = make(*args)  # type: ignore[arg-type]
        return largest, visits, spills, 2 * placed, start

    seen = watch_prices(monkeypatch)
    monkeypatch.setattr(sliding, "tile_tables", doubled)
    find_all_best()
    assert any(priced < exact * 0.99 for priced, exact in seen)


# Uneven blocks that are not next to the fan-out whose instances they stand in, P and R unrolled
# together: some instances have the same rows, with padding not the same number of them.
UNROLLED = [
    conv2d("plain", K=2, C=2, P=4, Q=1, R=3),
    conv2d("padded", K=2, C=2, P=4, Q=1, R=3, padding=(1, 0)),
    conv2d("strided", K=2, C=1, P=4, Q=1, R=4, stride=(2, 1), padding=(1, 0)),
    einsum("pool", "O[C,P] += I[C,P+R]", {"C": 2, "P": 4, "R": 3}),
]


def unrolled_chip() -> Hardware:
    """Instances that have the same rows are served together, at a price that makes it pay."""
    fanout = Fanout(2, 3, x_dims=("P",), y_dims=("R",))
    levels = (
        Level("DRAM", read_pj=64, write_pj=64),
        Level("GLB", 480, read_pj=16, write_pj=16, fanout=fanout),
        Level("RF", 80, read_pj=1, write_pj=1),
    )
    return Hardware("unrolled", levels)


def find_all_unrolled() -> None:
    for layer in UNROLLED:
        for uneven in (False, True):
            for objective in (Objective.ENERGY, Objective.DRAM):
                solve(Space(layer, unrolled_chip(), uneven=uneven), objective)


def test_prices_where_instances_have_the_same_rows_are_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = watch_prices(monkeypatch)
    find_all_unrolled()
    assert len(seen) > 20
    assert all(math.isclose(priced, exact, rel_tol=1e-9) for priced, exact in seen), seen


def test_time_and_stopping_leave_a_bound() -> None:
    """Whenever the search ends, its bound is below what it found."""
    layer = conv2d("deep", N=4, K=240, C=240, P=48, Q=48, R=3, S=3, padding=1)
    levels = (
        Level("DRAM", read_pj=200, write_pj=200, bandwidth=4),
        Level("GLB", 2**20, read_pj=6, write_pj=6, fanout=Fanout(16, 16)),
        Level("RF", 4096, read_pj=1, write_pj=1),
    )
    from tilewright.mapper.optimal import find_optimal

    chip = Hardware("chip", levels)
    late = find_optimal(layer, chip, objective="edp", seconds=0.5)
    stopped = find_optimal(layer, chip, should_stop=lambda: True)
    for found in (late, stopped):
        assert found.status is Status.BEST_FOUND
        assert found.cost is not None
        assert found.lower_bound is not None
        assert found.lower_bound <= found.objective.of(found.cost)
    assert stopped.interrupted


def fail_to_agree(kind: Kind) -> None:
    spaces = [random_space(kind, seed, 4_000) for seed in range(FEW)]
    with pytest.raises(AssertionError):
        list(map(compare, spaces))


def test_a_charge_for_edges_further_inside_that_is_too_high_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tilewright.mapper import prepare

    maker: Any = prepare._TemplateMaker
    right = maker.missed

    def too_high(self: Any, stage: int, features: Any) -> Any:
        return 20.0 * right(self, stage, features)

    monkeypatch.setattr(maker, "missed", too_high)
    fail_to_agree(RELAXED[1])


def test_tiles_of_blocks_that_are_left_out_wrongly_are_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Blocks that are taken to hold what all memories further out keep have too few tiles."""
    from tilewright.mapper import prepare

    def outermost(stages: object, index: int) -> int:
        del stages, index
        return 0

    monkeypatch.setattr(prepare, "_first_block", outermost)
    fail_to_agree(RELAXED[0])


def test_shares_of_padded_ranks_that_are_too_large_are_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tilewright.mapper import listing

    fanout = Fanout(2, 3, x_dims=("P",), y_dims=("R",))
    outer = Level("DRAM", read_pj=64, write_pj=64, fanout=fanout)
    inner = Level("RF", 80, read_pj=1, write_pj=1, keeps=frozenset("WIO"))
    spaces = [Space(layer, Hardware("padded", (outer, inner))) for layer in PADDED]
    list(map(compare, spaces))
    right: Callable[..., Any] = listing.rank_shares

    def too_high(*args: object) -> tuple[Any, Any]:
        moved, alone = right(*args)
        return 3.0 * moved, 3.0 * alone

    monkeypatch.setattr(listing, "rank_shares", too_high)
    with pytest.raises(AssertionError):
        list(map(compare, spaces))


# The first is best with P and R unrolled together, by a few percent.
PADDED = [
    conv2d("padded", K=1, C=1, P=6, Q=1, R=3, padding=(1, 0)),
    conv2d("channels", K=2, C=1, P=4, Q=1, R=3, padding=(1, 0)),
    conv2d("strided", K=1, C=2, P=4, Q=1, R=3, stride=(2, 1), padding=(1, 0)),
]


@pytest.mark.parametrize("kind", [KINDS[1], KINDS[2], RELAXED[1]], ids=str)
def test_a_bound_of_what_is_outside_that_is_too_high_is_seen(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tilewright.mapper import lattice

    right: Callable[..., None] = lattice.fill_outside

    def too_high(*args: Any) -> None:
        right(*args)
        args[5].moving[:] *= 1.5

    monkeypatch.setattr(lattice, "fill_outside", too_high)
    fail_to_agree(kind)


def test_bits_on_ports_that_macs_do_not_need_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from tilewright.mapper import prepare

    maker: Any = prepare._TemplateMaker
    right: Callable[..., Any] = maker.mac_bits

    def more(self: Any, *args: Any) -> Any:
        return {name: 1.5 * bits for name, bits in right(self, *args).items()}

    monkeypatch.setattr(maker, "mac_bits", more)
    fail_to_agree(KINDS[2])


@pytest.mark.parametrize("fault", ["half more", "one boundary more"])
@pytest.mark.parametrize("kind", [KINDS[1], KINDS[2], RELAXED[1]], ids=str)
def test_a_bound_of_all_that_is_inside_that_is_too_high_is_seen(
    kind: Kind, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tilewright.mapper import prepare

    right: Callable[..., float] = prepare._least_inside

    def too_high(template: Any, stage: int, distinct: Any) -> float:
        least = right(template, stage, distinct)
        if fault == "half more":
            return 1.5 * least
        low, high = template.tile_start[stage : stage + 2]
        return least + float(template.quick_total[low:high].min())  # edges into the tile itself

    monkeypatch.setattr(prepare, "_least_inside", too_high)
    fail_to_agree(kind)


def charge_much(monkeypatch: pytest.MonkeyPatch, part: float) -> None:
    """Charge all blocks that share a memory for room, whether that raises bounds or not."""
    from tilewright.mapper import optimal

    def tune(self: Any, choice: Any, listed: Any, objective: Objective) -> Any:
        choice.is_tuned = True
        free, shared = [math.inf] * 5, self.preparation.problem.shared
        allowed = float(self._allowed(listed.template, objective, free).max())
        rents = [0.0] * len(shared)
        for level in choice.divided:
            if math.isfinite(allowed) and math.isfinite(shared[level]):
                rents[level] = part * allowed / shared[level]
        template = self._template(choice.blocks, free, tuple(rents))
        return listed if template is None else replace(listed, template=template)

    monkeypatch.setattr(optimal._Hunt, "_tune", tune)


@pytest.mark.parametrize("fault", [False, True])
def test_any_rent_leaves_a_bound(fault: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is charged for room: unless what there is of it is not taken back."""
    from tilewright.mapper import prepare

    maker: Any = prepare._TemplateMaker
    right: Callable[..., Any] = maker.rent

    def one_sided(self: Any, c: int, found: Any) -> Any:
        owed = right(self, c, found)
        return owed - owed.min() if len(owed) else owed

    charge_much(monkeypatch, 2.0)
    if not fault:
        compare(OVERLAPPING)
        return
    monkeypatch.setattr(maker, "rent", one_sided)
    with pytest.raises(AssertionError):
        compare(OVERLAPPING)


def test_operands_that_are_not_expected_to_wait_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from tilewright.mapper.prepare import Preparation

    make: Callable[..., Any] = Preparation.template

    def never(self: Preparation, *args: object) -> Any:
        template = make(self, *args)
        if template is not None:
            template.may_wait[:] = False
        return template

    monkeypatch.setattr(Preparation, "template", never)
    fail_to_agree(KINDS[1])


@pytest.mark.parametrize("size", ["_ORDERED", "_LARGE"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_choices_that_are_ordered_first_are_not_missed(
    kind: Kind, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every mapspace counts as large: choices are ordered, and left out, by their own bound."""
    from tilewright.mapper import optimal

    monkeypatch.setattr(optimal, size, 0)
    for seed in range(FEW):
        compare(random_space(kind, seed, 4_000))


@pytest.mark.parametrize("size", ["_ORDERED", "_LARGE"])
def test_choices_that_are_left_out_wrongly_are_seen(
    size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tilewright.mapper import optimal
    from tilewright.mapper.prepare import Blocks, Preparation

    right = Preparation.least_energy

    def too_high(self: Preparation, blocks: Blocks) -> float:
        return 1.5 * right(self, blocks)

    monkeypatch.setattr(optimal, size, 0)
    monkeypatch.setattr(Preparation, "least_energy", too_high)
    fail_to_agree(KINDS[3])


def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every mapspace searched as the largest are: put off, class by class of cycles."""
    from tilewright.mapper import optimal

    for name, value in (("_LARGE", 0), ("_MOST_ENTRIES", 1), ("_QUICK_NODES", 1)):
        monkeypatch.setattr(optimal, name, value)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_choices_that_are_put_off_are_not_missed(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_pieces(monkeypatch)
    for seed in range(FEW):
        compare(random_space(kind, seed, 4_000))


def test_what_is_put_off_for_ever_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from tilewright.mapper import optimal

    hunt: Any = optimal._Hunt
    search: Callable[..., Any] = hunt._go_through_part

    def forgetful(self: Any, *args: Any) -> None:
        search(self, *args)

    in_small_pieces(monkeypatch)
    monkeypatch.setattr(optimal, "_LONG_DIVE_NODES", 1)
    monkeypatch.setattr(hunt, "_go_through_part", forgetful)
    fail_to_agree(KINDS[1])


@pytest.mark.parametrize("kind", [KINDS[1], KINDS[2]], ids=str)
def test_tiles_that_are_left_out_once_bounds_are_known_are_seen(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tilewright.mapper import lattice

    right: Callable[..., int] = lattice.fill_inside

    def halved(problem: Any, template: Any, stage: int, *args: Any) -> int:
        count = right(problem, template, stage, *args)
        low, high = template.tile_start[stage : stage + 2]
        template.inside[low : low + (high - low + 1) // 2] = np.inf
        return count

    monkeypatch.setattr(lattice, "fill_inside", halved)
    fail_to_agree(kind)


def test_tiles_that_are_taken_to_divide_less_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles are looked up by their exponents: here as if they divided the whole workload alone."""
    from tilewright.mapper import lattice

    right: Callable[..., int] = lattice.fill_inside

    def whole(problem: Any, *args: Any) -> int:
        count = right(problem, *args)
        args[-1].code[:] = problem.packed.max(axis=1).sum()
        return count

    monkeypatch.setattr(lattice, "fill_inside", whole)
    fail_to_agree(KINDS[1])


def in_bare_stages(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Have stages leave loops to the next one in small mapspaces, too; notes where any does."""
    from tilewright.mapper import prepare

    maker: Any = prepare._TemplateMaker
    right: Callable[..., Any] = maker.bare
    found: list[bool] = []

    def watched(self: Any) -> Any:
        found.append(bool(right(self).any()))
        return right(self)

    monkeypatch.setattr(prepare, "_BARE", 0)
    monkeypatch.setattr(maker, "bare", watched)
    return found


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_loops_that_the_next_stage_has_are_not_missed(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = in_bare_stages(monkeypatch)
    for seed in range(FEW):
        compare(random_space(kind, seed, 4_000))
    assert any(found)


def test_loops_that_are_left_to_the_next_stage_wrongly_are_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here also those of dims that index what is kept, of which the other operands have more."""
    from tilewright.mapper import prepare

    maker: Any = prepare._TemplateMaker

    def all_but_ranks(self: Any) -> Any:
        problem, masks = self.problem, np.zeros(len(self.stages), np.int64)
        sliding = {*problem.rank_a.tolist(), *problem.rank_b.tolist()}
        if len(masks) > 1:
            masks[-2] = sum(1 << d for d in range(len(problem.sizes)) if d not in sliding)
        return masks

    monkeypatch.setattr(maker, "bare", all_but_ranks)
    fail_to_agree(KINDS[1])


def test_operands_that_are_taken_never_to_stay_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from tilewright.mapper import prepare

    maker: Any = prepare._TemplateMaker
    right: Callable[..., Any] = maker.may_stay

    def never(self: Any) -> Any:
        return np.zeros_like(right(self))

    monkeypatch.setattr(maker, "may_stay", never)
    fail_to_agree(KINDS[1])


ALIKE = conv2d("alike", N=2, K=12, C=8, P=6, Q=6, R=3, S=3, padding=1)
ALIKE_CHIP = Hardware(
    "alike",
    (
        Level("DRAM", read_pj=200, write_pj=200, bandwidth=4),
        Level("GLB", 2**13, read_pj=6, write_pj=6, fanout=Fanout(6, 4)),
        Level("RF", 512, read_pj=1, write_pj=1),
    ),
)
"""Too large to try all mappings, but with many unrollings outside the innermost memory."""


def solve_alike(objective: Objective) -> tuple[float | None, str]:
    found = find_optimal(ALIKE, ALIKE_CHIP, objective=objective)
    assert found.status is Status.OPTIMAL
    assert found.cost is not None
    return found.lower_bound, str(found.cost.mapping)


def in_classes(monkeypatch: pytest.MonkeyPatch, *, one: bool) -> list[int]:
    """Have unrollings be a class each, or all in one as if its dearest; how many there were."""
    from tilewright.mapper import optimal

    right: Callable[..., Any] = optimal.alike_spreads
    counts: list[int] = []

    def others(*args: Any) -> Any:
        found = right(*args)
        if found is None:
            return None
        counts.append(len(found.start) - 1)
        start = np.array([0, len(found.spread)]) if one else np.arange(len(found.spread) + 1)
        order = slice(None, None, -1 if one else 1)
        return found._replace(
            first=np.array([0, len(start) - 1]),
            start=start,
            spread=found.spread[order].copy(),
            codes=found.codes[order].copy(),
            places=found.places[order].copy(),
        )

    monkeypatch.setattr(optimal, "alike_spreads", others)
    return counts


@pytest.mark.parametrize("objective", [Objective.ENERGY, Objective.EDP])
def test_unrollings_that_are_alike_are_bounded_as_each_alone_is(
    objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = solve_alike(objective)
    counts = in_classes(monkeypatch, one=False)
    assert solve_alike(objective) == together
    assert max(counts) > 10


def test_unrollings_that_are_taken_for_alike_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = solve_alike(Objective.ENERGY)
    in_classes(monkeypatch, one=True)
    assert solve_alike(Objective.ENERGY) != right


@pytest.mark.parametrize("near", [1, 24, 16_384])
@pytest.mark.parametrize("outwards", [True, False])
def test_places_have_the_least_of_all_that_they_divide(
    near: int, outwards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces that fit a cache or not: compared with a look at every pair of places."""
    from tilewright.mapper import lattice, optimal

    layer = conv2d("lattice", N=4, K=12, C=6, P=2, Q=1, R=3, S=1)
    chip = Hardware("lattice", (Level("DRAM"), Level("GLB", 512)))
    problem = optimal.Preparation(make_evaluator(layer, chip)).problem
    lengths = problem.axes[::-1, 1]
    exponents = np.array(list(np.ndindex(*lengths)))[:, ::-1]  # by axis, in the order of places
    equal = 1 << int(problem.axes[1, 0])
    same = problem.axes[:, 0] == problem.axes[1, 0]
    width, places = 3, len(exponents)
    values = np.random.default_rng(1).random(2 * places * width)
    expected = values.copy().reshape(2, places, width)
    for place, own in enumerate(exponents):
        beyond = (exponents >= own) if outwards else (exponents <= own)
        chosen = (beyond | same).all(axis=1) & (exponents == own)[:, same].all(axis=1)
        expected[1, place] = values.reshape(2, places, width)[1, chosen].min(axis=0)
    spread: Any = lattice._spread
    along: Any = lattice._spread_along
    monkeypatch.setattr(lattice, "_spread_along", along.py_func)
    monkeypatch.setattr(lattice, "_NEAR", near)
    stop = np.zeros(1, np.int64)
    spread.py_func(problem, values, places * width, width, equal, outwards, stop)
    assert (values.reshape(2, places, width) == expected).all()


def test_too_much_outside_of_any_tile_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from tilewright.mapper import lattice

    right: Callable[..., None] = lattice.fill_outside

    def too_high(*args: Any) -> None:
        right(*args)
        args[5].least[:] *= 1.5

    monkeypatch.setattr(lattice, "fill_outside", too_high)
    fail_to_agree(KINDS[1])


@pytest.mark.parametrize("stretched", [1.0, 1.5])
def test_a_search_that_is_stopped_early_has_a_bound(
    stretched: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Choices to come bound what is not found, as soon as they are ordered; too much is seen."""
    from tilewright.mapper import optimal
    from tilewright.mapper.prepare import Blocks, Preparation

    layer = conv2d("row", K=8, C=8, P=8, Q=8, R=3, S=3)
    outer = Level("DRAM", read_pj=64, write_pj=64, fanout=Fanout(4, 4))
    chip = Hardware("rows", (outer, Level("RF", 512, read_pj=16, write_pj=16)))
    whole = optimal.find_optimal(layer, chip)
    begun: list[Blocks] = []
    make, right = Preparation.template, Preparation.least_energy

    def stopping(self: Preparation, blocks: Blocks, *args: Any) -> Any:
        begun.append(blocks)
        return make(self, blocks, *args)

    def stretch(self: Preparation, blocks: Blocks) -> float:
        return stretched * right(self, blocks)

    monkeypatch.setattr(optimal, "_LARGE", 0)
    monkeypatch.setattr(Preparation, "template", stopping)
    monkeypatch.setattr(Preparation, "least_energy", stretch)
    early = optimal.find_optimal(layer, chip, should_stop=lambda: len(begun) == 1)
    assert early.status is Status.BEST_FOUND
    assert early.lower_bound is not None
    assert whole.lower_bound is not None
    assert early.lower_bound >= 0.9 * whole.lower_bound
    assert (early.lower_bound <= whole.lower_bound) == (stretched == 1.0)


# Lemma 7 is for tiles that do not overlap. Here the second block of the input saves words, just
# outside the loop over P: rows stay in it from one step to the next.
OVERLAPPING = Space(
    conv2d("rows", K=1, C=2, P=4, Q=1, R=3),
    Hardware(
        "rows",
        (
            Level("DRAM", read_pj=64, write_pj=64),
            Level("RF", 112, read_pj=1, write_pj=1, keeps=frozenset("WIO")),
        ),
    ),
    uneven=True,
)


# Sums stand in a memory of their own, not next to the fan-out that decides how many copies there
# are of them, and what of that is merged.
def far_sums(reduction: bool, psum: int) -> Space:
    layer = einsum("product", "Z[M,N] += A[M,K] * B[K,N]", {"M": 2, "N": 2, "K": 6}, {"psum": psum})
    fanout = Fanout(4, 3, reduction=reduction)
    levels = (
        Level("DRAM", read_pj=8, write_pj=8, fanout=fanout),
        Level("FIFO", 32, read_pj=1, write_pj=1, keeps=frozenset("A")),
        Level("SUMS", 48, read_pj=2, write_pj=2, keeps=frozenset("Z")),
    )
    return Space(layer, Hardware("far", levels))


FAR = [far_sums(reduction, psum) for reduction in (True, False) for psum in (16, 24)]


def test_sums_that_are_not_next_to_the_fan_out() -> None:
    list(map(compare, FAR))


@pytest.mark.parametrize("name", ["fewer_firsts", "missed"])
def test_charges_for_sums_that_are_too_high_are_seen(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tilewright.mapper import prepare

    maker: Any = prepare._TemplateMaker
    right: Callable[..., Any] = getattr(maker, name)

    def too_high(self: Any, *args: Any) -> Any:
        return 1.5 * right(self, *args)

    monkeypatch.setattr(maker, name, too_high)
    with pytest.raises(AssertionError):
        list(map(compare, FAR))


@pytest.mark.parametrize("name", ["_least_product", "_most_product", "_without_firsts"])
def test_charges_for_words_of_macs_that_are_too_high_are_seen(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tilewright.mapper import prepare

    right: Callable[..., Any] = getattr(prepare, name)

    def too_high(*args: Any) -> Any:
        whole, charges = right(*args)
        return whole, [2.0 * charge for charge in charges]

    monkeypatch.setattr(prepare, name, too_high)
    with pytest.raises(AssertionError):
        list(map(compare, [FAR[1], random_space(KINDS[2], 2, 4_000)]))


# What waits in the buffer's stage has the tile there that all of its instances hold together.
WAITING = Space(
    einsum("outer", "Z[M,N] += A[M] * B[N]", {"M": 6, "N": 4}),
    Hardware(
        "waiting",
        (
            Level("DRAM", read_pj=16, write_pj=64),
            Level("GLB", 128, read_pj=8, write_pj=8, fanout=Fanout(4), keeps=frozenset("ABZ")),
            Level("RF", 48, read_pj=1, write_pj=2, keeps=frozenset("ABZ")),
        ),
    ),
)


@pytest.mark.parametrize(
    ("fault", "space"),
    [
        ("", "OVERLAPPING"),
        ("", "WAITING"),
        ("move all tiles", "OVERLAPPING"),
        ("one instance waits", "WAITING"),
        ("more enters", "OVERLAPPING"),
    ],
)
def test_faults_in_what_is_compiled_are_seen(fault: str, space: str) -> None:
    """What is compiled cannot be exchanged: the search runs as plain Python, in a process apart."""
    code = f"import test_optimal as t; t.compare_uncompiled(t.{space}, {fault!r})"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    seen = ended.returncode == 1 and "AssertionError" in ended.stderr
    assert seen if fault else ended.returncode == 0, ended.stderr


def compare_uncompiled(space: Space, fault: str) -> None:
    """Hold the uncompiled mapper to all mappings, with a fault: that all tiles may be moved, that
    what waits is bounded by the tile of one instance, that more enters tiles than Lemma 10 says.
    """
    kernels: Any = import_module("tilewright.mapper.kernels")
    lattice: Any = import_module("tilewright.mapper.lattice")
    optimal: Any = import_module("tilewright.mapper.optimal")
    optimal.compile_kernels = _compile_nothing
    around: Callable[..., float] = lattice._around
    entering: Callable[..., float] = kernels._entering
    if fault == "move all tiles":
        kernels._lone_kept = _last_kept
    if fault == "one instance waits":

        def of_one(*args: Any) -> float:
            return around(*args[:-1], True)

        lattice._around = of_one
    if fault == "more enters":

        def more(*args: Any) -> float:
            return 1.5 * entering(*args)

        kernels._entering = more
    compare(space)


def _compile_nothing(should_stop: object) -> bool:
    del should_stop
    return True


def _last_kept(problem: Any, template: Any, boundary: int) -> int:
    kept = [o for o in range(len(problem.uses)) if template.keeps[boundary, o]]
    return kept[-1] if kept else -1


@pytest.mark.parametrize("objective", Objective)
def test_lists_are_let_go_at_the_end(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large lists of one layer are not kept until Python looks for circles of references."""
    import gc
    import weakref

    from tilewright.mapper.prepare import Preparation

    begun: list[weakref.ref[Preparation]] = []
    right = Preparation.stages

    def noting(self: Preparation, *args: Any) -> Any:
        begun.append(weakref.ref(self))
        return right(self, *args)

    monkeypatch.setattr(Preparation, "stages", noting)
    gc.disable()
    try:
        solve(FAR[0], objective)
        assert begun
        assert not any(made() for made in begun)
    finally:
        gc.enable()
