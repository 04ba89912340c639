"""Hardware and mappings together: against enumeration, `exact`, and being killed."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any

import codesign_cases as cases
import jax
import numpy as np
import pytest

import tilewright as tw
from tilewright.cli.main import run
from tilewright.errors import InfeasibleError, InputError, Source
from tilewright.joint import crew as crews
from tilewright.joint import finish as finishing
from tilewright.joint import study as studying
from tilewright.joint.blend import blend
from tilewright.joint.crew import Solved, make_crew
from tilewright.joint.exhaustive import certify_fastest, least_latency
from tilewright.joint.files import load_space, parse_space
from tilewright.joint.finish import Point, combinations
from tilewright.joint.genome import (
    Frame,
    Genes,
    LayerArrays,
    as_genes,
    as_mapping,
    drawn,
    make_frame,
    make_layer,
    trimmed,
)
from tilewright.joint.goal import Goal, Metric, Totals
from tilewright.joint.journal import FILE, Journal
from tilewright.joint.local import improve, merit_of, price_genes
from tilewright.joint.shelf import MOST, join_shelves, make_shelf, swept
from tilewright.joint.sites import SiteTable, area_of
from tilewright.joint.space import Choice, Space
from tilewright.joint.study import Study, StudyProgress, codesign
from tilewright.joint.uses import price_uses
from tilewright.mapper.floor import least_of
from tilewright.mapper.result import Objective
from tilewright.model.batch import encode_chip
from tilewright.model.evaluate import make_evaluator
from tilewright.zoo import space_names

EVALUATIONS = 400_000


def study(network: tw.Network = cases.NETWORK, **given: Any) -> Study:
    """A search, though the space is small enough to enumerate."""
    options: dict[str, Any] = {"evaluations": EVALUATIONS, "seed": 1, "exhaustive": False}
    options |= given
    return codesign(network, cases.SPACE, **options)


# Spaces


@pytest.mark.parametrize("name", space_names())
def test_spaces_of_the_zoo_have_areas_and_differ(name: str) -> None:
    space = load_space(name)
    first, last = (
        space.chip([0] * len(space.variables)),
        space.chip([len(v.values) - 1 for v in space.variables]),
    )
    assert first.mac_units < last.mac_units
    assert all(level.area_mm2 is not None for level in first.levels[1:])


BAD = """name: bad
template: eyeriss
vary:
  - memory: GLBB
    capacity: [1KiB]
  - memory: GLB
    capacity: {W: [1KiB]}
    read_bandwidth: [0, 4]
    optional: true
  - memory: RF
    capacity: {W: [1KiB], X: [1KiB]}
    word_bits: {from: 8, to: 64}
  - memory: DRAM
    capacity: {from: 1KiB, to: 4KiB, times: 1}
    fanout: {x: {from: 4, to: 2}}
    colour: red
"""


def test_everything_that_does_not_match_is_said_with_its_line() -> None:
    with pytest.raises(InputError) as caught:
        parse_space(Source("bad.yaml", BAD))
    found = {
        (problem.where.line, problem.what)  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
        for problem in caught.value.problems
    }
    assert found == {
        (4, "the template eyeriss has no memory `GLBB`"),
        (7, "the capacity of GLB is shared in the template, not partitioned"),
        (8, "`0`: expected a number above 0"),
        (9, "GLB has a fan-out below it, so it cannot be left out"),
        (11, "RF of the template has no share for `X`"),
        (12, "a word's width cannot be continuous"),
        (14, "`times` is 1: it must be above 1"),
        (15, "the range ends before it begins"),
        (16, "unknown key `colour`"),
    }


def test_a_continuous_range_is_searched_finely_and_a_step_is_kept() -> None:
    text = "template: gemmini\nvary:\n  - memory: SPAD\n    capacity: {from: 32KiB, to: 64KiB}\n"
    (variable,) = parse_space(Source("s.yaml", text)).variables
    assert variable.continuous
    assert len(variable.values) == 9
    stepped = text.replace("64KiB}", "96KiB, plus: 32KiB}")
    (variable,) = parse_space(Source("s.yaml", stepped)).variables
    assert [value / 8192 for value in variable.values] == [32, 64, 96]


# Genes


def setting(
    space: Space, work: tw.Workload, count: int, seed: int
) -> tuple[Frame, LayerArrays, SiteTable, list[Choice], Genes]:
    random = np.random.default_rng(seed)
    frame = make_frame([layer.workload for layer in cases.NETWORK.layers], space)
    layer = make_layer(work, space, frame)
    table = SiteTable(space, work, frame)
    places = [
        tuple(int(random.integers(len(v.values))) for v in space.variables) for _ in range(count)
    ]
    return frame, layer, table, places, drawn(layer, frame, count, random)


OPTIONAL = replace(
    cases.SPACE,
    variables=(tw.Variable("GLB2", tw.Field.PRESENT, (0.0, 1.0)), *cases.SPACE.variables),
    template=replace(
        cases.CHIP,
        levels=(
            cases.CHIP.levels[0],
            tw.Level("GLB2", capacity=8192, technology="fitted45", leak_pj_per_cycle=0.5),
            *cases.CHIP.levels[1:],
        ),
    ),
)


@pytest.mark.parametrize("space", [cases.SPACE, OPTIONAL, load_space("gemmini-space")])
def test_batches_of_genes_cost_what_exact_says_of_their_mappings(space: Space) -> None:
    work = replace(trimmed(cases.FIRST), name="bare")
    frame, layer, table, places, genes = setting(space, work, 128, 3)
    worth = np.ones((2, 128), dtype=np.float32)
    still = np.zeros(128, dtype=np.float32)
    key = jax.random.key(0)
    found = improve(genes, layer, table.site(places), worth, still, key, 12, frame, 8)
    fitting = [at for at in range(128) if found.excess[at] <= 1]
    absent = 0
    assert len(fitting) > 50
    for at in fitting[::2]:
        chip, (_, present) = space.chip(places[at]), space.levels(places[at])
        mapping = as_mapping(found.genes, at, work, chip, present, frame)
        cost = tw.evaluate(work, chip, mapping)
        absent += not all(present)
        assert float(found.energy_pj[at]) == pytest.approx(cost.energy_pj, rel=1e-5)
        assert float(found.cycles[at]) == pytest.approx(cost.cycles, rel=1e-6)
        again = as_genes(mapping, work, space, frame)
        priced = price_genes(again, layer, table.site([places[at]]), frame)
        assert float(priced.energy_pj[0]) == pytest.approx(cost.energy_pj, rel=1e-5)
    assert absent or space is not OPTIONAL


def test_genes_that_say_they_overrun_do_not_fit() -> None:
    frame, layer, table, places, genes = setting(cases.SPACE, trimmed(cases.FIRST), 128, 5)
    priced = price_genes(genes, layer, table.site(places), frame)
    over = [at for at in range(128) if priced.excess[at] > 1]
    assert over
    for at in over[:20]:
        chip = cases.SPACE.chip(places[at])
        mapping = as_mapping(genes, at, trimmed(cases.FIRST), chip, [True] * 3, frame)
        with pytest.raises((InfeasibleError, InputError)):  # an axis of one copy is none
            tw.evaluate(trimmed(cases.FIRST), chip, mapping)


def test_improving_never_worsens_and_keeps_sizes_and_what_must_be_kept() -> None:
    space = cases.SPACE
    frame, layer, table, places, genes = setting(space, cases.FIRST, 128, 7)
    site = table.site(places)
    worth = np.ones((2, 128), dtype=np.float32)
    before = price_genes(genes, layer, site, frame)
    after = improve(genes, layer, site, worth, worth[0] * 0, jax.random.key(1), 40, frame, 8)
    merits = [np.asarray(merit_of(x.energy_pj, x.cycles, x.excess, worth)) for x in (before, after)]
    assert (merits[1] <= merits[0] + 1e-4).all()
    assert (merits[1] < merits[0] - 0.1).mean() > 0.9
    keeps = np.asarray(after.genes.keeps)
    assert (keeps | ~np.asarray(layer.must_keep)[:, :, None]).all()
    assert (~keeps | np.asarray(layer.may_keep)[:, :, None]).all()


# Mappings on shelves


def test_what_is_used_prices_a_mapping_on_any_chip_as_the_batch_model_does() -> None:
    for space in (cases.SPACE, OPTIONAL, load_space("gemmini-space"), load_space("eyeriss-space")):
        work = replace(trimmed(cases.FIRST), name="bare")
        frame, layer, table, places, genes = setting(space, work, 128, 11)
        worth = np.ones((2, 128), dtype=np.float32)
        given = (layer, table.site(places), worth, worth[0] * 0, jax.random.key(2), 4, frame, 8)
        found = jax.tree.map(np.asarray, improve(genes, *given))
        chips, there = table.chips(places)
        energy, cycles, excess = price_uses(found.uses, chips, there)
        checked = 0
        for chip in range(0, 128, 5):
            on = table.site([places[chip]] * 128)
            priced = price_genes(found.genes, layer, on, frame)
            same = (found.uses.there == there[:, [chip]]).all(axis=0)
            fits = same & (np.asarray(priced.excess) <= 1)
            assert ((excess[:, chip] <= 1) == fits)[same].all()
            assert (excess[~same, chip] > 1).all()
            np.testing.assert_allclose(energy[fits, chip], priced.energy_pj[fits], rtol=2e-6)
            np.testing.assert_array_equal(cycles[fits, chip], priced.cycles[fits])
            checked += int(fits.sum())
        assert checked > 200


def test_steps_of_none_only_price() -> None:
    frame, layer, table, places, genes = setting(cases.SPACE, cases.FIRST, 128, 7)
    site, worth = table.site(places), np.ones((2, 128), dtype=np.float32)
    found = improve(genes, layer, site, worth, worth[0] * 0, jax.random.key(1), 0, frame, 8)
    priced = price_genes(genes, layer, site, frame)
    assert (np.asarray(found.genes.slot) == genes.slot).all()
    assert (np.asarray(found.genes.keeps) == genes.keeps).all()
    np.testing.assert_array_equal(found.energy_pj, priced.energy_pj)


def test_chips_put_together_are_those_encoded_one_by_one() -> None:
    space = load_space("gemmini-space")
    frame, _, table, places, _ = setting(space, trimmed(cases.FIRST), 64, 2)
    chips, there = table.chips(places)
    areas = table.areas(places)
    assert there.all()
    for at in range(0, 64, 7):
        full, _ = space.full_chip(places[at])
        alone = encode_chip(full, trimmed(cases.FIRST), frame.shape, dtype=np.float32)
        for name in alone.__dataclass_fields__:
            have, want = (np.asarray(getattr(x, name)) for x in (chips, alone))
            column = have[..., min(at, have.shape[-1] - 1)]
            np.testing.assert_array_equal(column, want[..., 0], err_msg=name)
        assert areas[at] == area_of(space.chip(places[at]))


def test_shelves_forget_what_was_not_chosen_for_the_longest() -> None:
    _, layer, table, places, genes = setting(cases.SPACE, cases.FIRST, 128, 9)
    frame = make_frame([layer.workload for layer in cases.NETWORK.layers], cases.SPACE)
    worth = np.ones((2, 128), dtype=np.float32)
    given = (layer, table.site(places), worth, worth[0] * 0, jax.random.key(1), 0, frame, 8)
    found = jax.tree.map(np.asarray, improve(genes, *given))
    shelf = make_shelf(found.genes, found.uses, 1)
    again = join_shelves(shelf, make_shelf(found.genes, found.uses, 2, 128))
    assert again.count == join_shelves(shelf.take([0]), shelf).count  # nothing stands there twice
    whole = again
    copies = 0
    while whole.count <= MOST:  # other steps: other mappings
        copies += 1
        other = replace(found.uses, steps=found.uses.steps + copies)
        whole = join_shelves(whole, make_shelf(found.genes, other, 2, 1000 * copies))
    kept = swept(whole, np.array([0, 5]), 3)
    assert kept.count == MOST
    assert {int(whole.number[0]), int(whole.number[5])} <= set(kept.number.tolist())
    assert min(kept.chosen[2:]) >= 1


# Choosing one mapping per layer


def test_combinations_are_the_front_of_all_sums() -> None:
    random = np.random.default_rng(0)
    pairs = [[(float(e), float(c)) for e, c in random.integers(1, 30, (4, 2))] for _ in range(4)]
    sums = {
        (sum(p[0] for p in taken), sum(p[1] for p in taken)) for taken in itertools.product(*pairs)
    }
    front = {
        (e, c) for e, c in sums if not any(a <= e and b <= c and (a, b) != (e, c) for a, b in sums)
    }
    assert {(e, c) for e, c, _ in combinations(pairs)} == front


# Studies


@pytest.mark.parametrize("goal", cases.GOALS, ids=lambda goal: goal.objective.value)
@pytest.mark.parametrize("exhaustive", [True, False])
def test_a_study_finds_what_enumeration_finds(goal: Goal, exhaustive: bool) -> None:
    bounds = {metric.value: bound for metric, bound in goal.bounds}
    network = cases.PADDED if exhaustive else cases.NETWORK  # the search sees padding as words
    best = study(network, objective=goal.objective, bounds=bounds, exhaustive=exhaustive).best
    assert best is not None
    assert best.value == pytest.approx(cases.least(goal, network), rel=1e-9)
    assert best.proved_on_chip
    assert best.certified == exhaustive
    for layer in best.layers:
        again = tw.evaluate(layer.layer.workload, best.hardware, str(layer.cost.mapping))
        assert again.energy_pj == layer.cost.energy_pj
        assert again.cycles == layer.cost.cycles


def test_a_latency_that_no_chip_undercuts_is_certified_without_enumeration() -> None:
    layers = [(layer, 1.0) for layer in cases.NETWORK.layers]
    least = least_latency(cases.SPACE, layers)
    assert least <= cases.least(Goal(Metric.LATENCY)) * (1 + 1e-9)
    for choice in cases.choices():
        chip = cases.SPACE.chip(choice)
        cycles = sum(
            layer.repeat * least_of(make_evaluator(layer.workload, chip), Objective.CYCLES)
            for layer in cases.NETWORK.layers
        )
        assert least <= cycles * 1e-9 * (1 + 1e-9)
    point = study(bounds={"area": cases.area_bound()}).best
    assert point is not None
    near = replace(point, totals=replace(point.totals, cycles=least * 1e9), certified=False)
    over = replace(point, totals=replace(point.totals, cycles=least * 1.001e9), certified=False)
    found = certify_fastest([near, over], cases.SPACE, layers)
    assert [x.certified for x in found] == [True, False]


def test_a_certified_front_is_that_of_all_chips() -> None:
    found = study(points=2, versus="area", exhaustive=True, objective="energy")
    assert all(point.certified for point in found.front)
    assert len(found.points) == len(cases.choices())
    alone = Goal(Metric.ENERGY)
    for point in found.front:
        bound = ((Metric.AREA, float(point.totals.area_mm2)),)
        assert point.value == pytest.approx(cases.least(replace(alone, bounds=bound)), rel=1e-9)
    others = [point for point in found.points if point not in found.front]
    assert others
    assert not any(point.certified for point in others if _beaten(point, found))


def _beaten(point: Point, found: Study) -> bool:
    return any(
        other.totals.area_mm2 <= point.totals.area_mm2 and other.value < point.value * (1 - 1e-6)
        for other in found.points
    )


def test_what_has_no_end_is_not_enumerated() -> None:
    with pytest.raises(InputError, match="has no end"):
        study(points=3, versus="power", exhaustive=True)


def test_enumeration_sees_a_study_that_does_not_look() -> None:
    """The check above fails for a chip that is not the best."""
    worst = max(
        (finishing.Objective.CYCLES.of(c), choice)
        for choice in cases.choices()
        for c in [tw.find_mapping(cases.FIRST, cases.SPACE.chip(choice), objective="cycles").cost]
        if c is not None
    )
    assert worst[0] > 1.05 * cases.least(cases.GOALS[0]) * 1e9 / 2


def test_a_front_is_one_and_keeps_its_order() -> None:
    found = study(points=4, versus="area", evaluations=2 * EVALUATIONS)
    areas = [point.totals.area_mm2 for point in found.front]
    latencies = [point.totals.cycles for point in found.front]
    assert len(areas) >= 3
    assert areas == sorted(areas)
    assert latencies == sorted(latencies, reverse=True)


def test_weights_count_layers_more_often() -> None:
    pairs = [(cases.NETWORK, 1.0), (cases.NETWORK, 2.0)]
    heavy = codesign(pairs, cases.SPACE, objective="energy", exhaustive=True).best
    single = study(objective="energy", exhaustive=True).best
    assert heavy is not None
    assert single is not None
    assert heavy.value == pytest.approx(3 * single.value, rel=1e-9)


def test_a_bound_that_nothing_keeps_is_named_with_its_factor() -> None:
    with pytest.raises(InfeasibleError) as caught:
        study(bounds={"power": 1e-6, "area": 1e3})
    (violation,) = caught.value.violations
    assert violation.what.startswith("power: at most 1e-06 W is asked, the nearest design has ")
    assert "times as much" in violation.what


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf])
def test_bounds_that_are_none_are_refused(bound: float) -> None:
    with pytest.raises(InputError):
        Goal(Metric.ENERGY, ((Metric.AREA, bound),))


def test_areas_that_are_not_known_are_not_minimised() -> None:
    bare = replace(cases.CHIP, compute=tw.Compute())
    with pytest.raises(InputError, match="areas of"):
        codesign(cases.NETWORK, replace(cases.SPACE, template=bare), bounds={"area": 1.0})


def test_a_continuous_capacity_shrinks_to_what_is_used() -> None:
    variable = tw.Variable("GLB", tw.Field.CAPACITY, (1024.0, 2048.0, 65536.0), continuous=True)
    space = tw.Space("wide", cases.CHIP, (variable,))
    layers = [(layer, 1.0) for layer in cases.NETWORK.layers]
    with make_crew() as crew:
        finisher = finishing.Finisher(space, layers, crew)
        found = finisher.finish(Goal(Metric.ENERGY), (2,), [[], []], lambda: False)
    assert found is not None
    whole = tw.map_network(cases.NETWORK, space.chip((2,)), jobs=1)
    assert found.value < whole.energy_pj
    glb = found.hardware.levels[1]
    assert (glb.usable_bits() or 0) < 65536
    for layer in found.layers:
        tw.evaluate(layer.layer.workload, found.hardware, layer.cost.mapping)  # still fits
    tighter = replace(glb, capacity=(glb.usable_bits() or 0) - 8)
    smaller = replace(
        found.hardware, levels=(found.hardware.levels[0], tighter, found.hardware.levels[2])
    )
    with pytest.raises(InfeasibleError):
        _ = [
            tw.evaluate(layer.layer.workload, smaller, layer.cost.mapping) for layer in found.layers
        ]


def offers_of(random: np.random.Generator, layers: int, count: int) -> list[Any]:
    """Random prices of mappings on one chip, [M, 1] each: fast ones need more energy."""
    found: list[Any] = []
    for _ in range(layers):
        cycles = random.uniform(1.0, 20.0, (count, 1)).round() * 1e5
        energy = 1e9 * random.uniform(0.5, 2.0, (count, 1)) / np.sqrt(cycles / 1e5)
        found.append((energy, cycles, random.choice([0.5, 1.0, 1.5], (count, 1))))
    return found


def least_merit(offers: list[Any], goal: Goal) -> float:
    """Of all choices of one mapping a layer that fit."""
    fitting = [np.flatnonzero(excess[:, 0] <= 1) for _, _, excess in offers]
    return min(
        float(
            goal.merit(
                Totals(
                    sum(o[0][at, 0] for o, at in zip(offers, chosen, strict=True)),
                    sum(o[1][at, 0] for o, at in zip(offers, chosen, strict=True)),
                    1.0,
                    1.0,
                )
            )
        )
        for chosen in itertools.product(*fitting)
    )


BLENDED_GOALS = [
    Goal(Metric.LATENCY),
    Goal(Metric.LATENCY, ((Metric.POWER, 0.8),)),
    Goal(Metric.ENERGY, ((Metric.LATENCY, 2e-3),)),
    Goal(Metric.POWER, ((Metric.LATENCY, 3e-3),)),
    Goal(Metric.EDP),
]


@pytest.mark.parametrize("goal", BLENDED_GOALS, ids=str)
def test_a_blend_is_nearly_the_best_of_all_choices(goal: Goal) -> None:
    """Never better than enumeration, its merit is that of its choice, and mostly it is the best."""
    random = np.random.default_rng(0)
    met = 0
    for _ in range(60):
        offers = offers_of(random, layers=4, count=7)
        found = blend(offers, np.ones(4), np.ones(1), 1.0, goal)
        if any((excess > 1).all() for _, _, excess in offers):
            continue
        chosen = [(o[0][at, 0], o[1][at, 0]) for o, at in zip(offers, found.at[:, 0], strict=True)]
        energy, cycles = (sum(x[i] for x in chosen) for i in (0, 1))
        own = float(goal.merit(Totals(energy, cycles, 1.0, 1.0)))
        least = least_merit(offers, goal)
        assert found.merit[0] == pytest.approx(own, rel=1e-12)
        assert found.merit[0] >= least - 1e-12
        met += found.merit[0] <= least + 1e-9
    assert met >= 40


def test_where_nothing_bounds_latency_slower_is_not_better() -> None:
    """Power is energy over time: the least of it alone would be the slowest of all mappings."""
    fast_and_slow = (np.array([[1.0e9], [1.1e9]]), np.array([[1e5], [2e5]]), np.ones((2, 1)))
    goals = (Goal(Metric.POWER), Goal(Metric.POWER, ((Metric.LATENCY, 1.0),)))
    free, bounded = (blend([fast_and_slow], np.ones(1), np.ones(1), 1.0, goal) for goal in goals)
    assert free.at.tolist() == [[0]]
    assert bounded.at.tolist() == [[1]]
    assert free.merit[0] == pytest.approx(float(goals[0].merit(Totals(1e9, 1e5, 1.0, 1.0))))


def test_a_blend_says_what_savings_are_worth() -> None:
    """Where only latency counts energy is worth next to nothing; where power binds, both count."""
    offers = offers_of(np.random.default_rng(1), layers=4, count=7)
    free = blend(offers, np.ones(4), np.ones(1), 1.0, Goal(Metric.LATENCY)).worth[:, 0]
    assert free[1] == 1
    bound = ((Metric.POWER, 0.8),)
    bounded = blend(offers, np.ones(4), np.ones(1), 1.0, Goal(Metric.LATENCY, bound)).worth[:, 0]
    assert bounded[0] > free[0]


def test_a_blend_of_layers_that_fit_nowhere_is_worse_than_any() -> None:
    offers = offers_of(np.random.default_rng(2), layers=2, count=3)
    whole = [(e, c, np.ones_like(x)) for e, c, x in offers]
    overrun = [(e, c, 2 * np.ones_like(x)) for e, c, x in offers]
    goal = Goal(Metric.LATENCY)
    merits = [blend(each, np.ones(2), np.ones(1), 1.0, goal).merit[0] for each in (whole, overrun)]
    assert math.isfinite(merits[1])
    assert merits[1] > merits[0] + 1


def test_a_slower_mapping_keeps_a_bound_on_power() -> None:
    """It needs no less energy, so no front of energy and cycles has it."""
    layer = cases.NETWORK.layers[1]
    space = tw.Space("one", cases.CHIP, (tw.Variable("GLB", tw.Field.X, (1.0, 2.0)),))
    chip = space.chip((1,))
    texts = (
        "DRAM[W I O]: M4\nGLB[W I O]: K8 | M2@x\nRF[W I O]:",
        "DRAM[W I O]: M4\nGLB[W I O]: K8 M2\nRF[W I O]:",
    )
    fast, slow = (tw.evaluate(layer.workload, chip, tw.parse_mapping(text)) for text in texts)
    assert fast.cycles < slow.cycles
    assert fast.energy_pj <= slow.energy_pj
    watts = [cost.energy_pj / cost.cycles * chip.clock_ghz * 1e-3 for cost in (fast, slow)]
    assert watts[0] > 1.01 * watts[1]
    goal = Goal(Metric.LATENCY, ((Metric.POWER, sum(watts) / 2),))
    with make_crew() as crew:
        finisher = finishing.Finisher(space, [(layer, 1.0)], crew)
        found = finisher.as_known(goal, (1,), [[fast.mapping, slow.mapping]])
        slowest = Goal(Metric.POWER, ((Metric.LATENCY, 1.0),))
        least = finisher.as_known(slowest, (1,), [[fast.mapping, slow.mapping]])
    assert found is not None
    assert found.feasible
    assert found.totals.cycles == slow.cycles
    assert least is not None
    assert least.totals.cycles == slow.cycles


def test_totals() -> None:
    totals = Totals(2e9, 1e6, 3.0, 0.5)
    assert [totals.of(metric) for metric in Metric] == [2e-3, 2e9, 1.0, 3.0, 2e15]


# Being killed


def test_a_journal_drops_a_line_that_was_cut_off(tmp_path: Path) -> None:
    with Journal(tmp_path, {"seed": 1}) as journal:
        for number in range(3):
            journal.append({"n": number})
    path = tmp_path / FILE
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with Journal(tmp_path, {"seed": 1}) as journal:
            assert len(journal.earlier) == max(0, whole[:cut].count(b"\n") - 1)
            journal.append({"n": "more"})
        assert path.read_bytes().endswith(b'{"n": "more"}\n')


def test_a_journal_of_another_study_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path, {"seed": 1, "space": "a"}).close()
    with pytest.raises(InputError, match="seed differ"):
        Journal(tmp_path, {"seed": 2, "space": "a"})


def answer(found: Study) -> str:
    document = found.to_json()
    del document["seconds"]
    return json.dumps(document, sort_keys=True)


def test_cut_anywhere_a_study_goes_on_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"run": tmp_path, "bounds": {"power": 0.1}, "evaluations": 200_000}
    whole = study(**given)
    text = (tmp_path / FILE).read_bytes()
    random = np.random.default_rng(4)
    mapped: list[Any] = []
    find_mapping = crews.find_mapping

    def counted(*given: Any, **options: Any) -> Any:
        mapped.append(given)
        return find_mapping(*given, **options)

    monkeypatch.setattr(crews, "find_mapping", counted)
    for cut in random.integers(len(text), size=10):
        (tmp_path / FILE).write_bytes(text[: int(cut)])
        whole_lines = text[: int(cut)].split(b"\n")[:-1]
        lines = [json.loads(line) for line in whole_lines]
        done = sum(record["kind"] == "solved" for record in lines)
        mapped.clear()
        again = study(**given)
        assert answer(again) == answer(whole)
        assert len(mapped) == whole.solved - done  # nothing that was finished is done again
        assert (tmp_path / FILE).read_bytes() == text


CHILD = """
import sys
from test_codesign import answer, study
print(answer(study(run=sys.argv[1], bounds={"power": 0.1})))
"""


def start(folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled")}
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        cwd=Path(__file__).parent,
    )


def kill_and_resume(folder: Path, kills: int) -> None:
    """Kill studies at random times, at most three times each; they end as one left alone."""
    began = time.monotonic()
    expected = start(folder / "whole").communicate()[0]
    spent = time.monotonic() - began
    assert '"front"' in expected
    random = np.random.default_rng(0)
    done, number = 0, 0
    while done < kills:
        number += 1
        for _ in range(3):
            child = start(folder / f"killed{number}")
            try:
                child.wait(timeout=float(random.uniform(0.1, 1.0)) * spent)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                done += 1
            child.communicate()
        assert start(folder / f"killed{number}").communicate()[0] == expected


@pytest.mark.slow
def test_sigkill_at_twenty_random_times(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, 20)


# The command


SMALL = """template: eyeriss
technology: fitted45
vary:
  - memory: GLB
    capacity: [32KiB, 64KiB]
    fanout: {x: [8, 14]}
"""


def test_the_command_prints_its_document(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    space = tmp_path / "small.yaml"
    space.write_text(SMALL)
    given = ["codesign", "yang2016:FC1", str(space), "--json", "--run", str(tmp_path / "run")]
    assert run([*given, "--max-area", "3", "--objective", "energy"]) == 0
    document = json.loads(capsys.readouterr().out)
    (point,) = document["front"]
    assert {"latency_s", "power_w", "area_mm2", "energy_pj", "edp", "hardware"} <= set(point)
    assert point["certified"]
    assert point["area_mm2"] <= 3
    assert point["power_w"] == pytest.approx(point["energy_pj"] * 1e-12 / point["latency_s"])
    assert document["seed"] == 0
    assert document["space"]["chips"] == 4
    assert run([*given[:3], "--max-area", "0.01"]) == 1
    assert "at most 0.01 mm² is asked" in capsys.readouterr().err


def test_the_command_refuses_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["codesign", "resnet18", "eyeriss-spice"]) == 2
    assert "did you mean `eyeriss-space`?" in capsys.readouterr().err
    assert run(["codesign", "resnet18", "eyeriss-space", "--objective", "speed"]) == 2
    assert "there is no objective `speed`" in capsys.readouterr().err
    assert run(["codesign", "resnet18", "eyeriss-space", "--also", "vgg16=x"]) == 2


def test_solved_keeps_what_a_journal_says() -> None:
    solved = Solved("DRAM[W I O]: K4", 1.5, 3, 1.25, proved=True)
    assert Solved(*json.loads(json.dumps(solved.to_json()))) == solved


def test_two_processes_find_what_one_finds() -> None:
    given: dict[str, Any] = {"points": 2, "versus": "area", "exhaustive": True}
    assert answer(study(**given, jobs=2)) == answer(study(**given))


def test_a_study_that_is_stopped_hands_in_what_it_has() -> None:
    stopped: list[float] = []

    def interrupt(progress: StudyProgress) -> None:
        if progress.stage == "searching" and progress.done > 0.8 and not stopped:
            stopped.append(progress.done)
            os.kill(os.getpid(), signal.SIGINT)

    found = study(on_progress=interrupt)
    assert stopped
    assert found.interrupted
    assert found.to_json()["interrupted"] is True
    assert found.best is not None
    assert found.solved == 0 or not found.best.certified


@pytest.mark.parametrize("seconds", [4.0, 10.0])
def test_a_study_in_seconds_ends_in_them(seconds: float) -> None:
    study(evaluations=20_000)  # compiles
    began = time.monotonic()
    found = study(points=3, versus="power", evaluations=None, seconds=seconds)
    assert found.front
    assert found.seconds <= time.monotonic() - began <= 1.1 * seconds
    assert found.evaluations > 0


def compile_long(*_: object) -> None:
    time.sleep(30)


def test_time_that_compiling_takes_is_the_study_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studying, "warm", compile_long)
    found = study(evaluations=None, seconds=3.0)
    assert found.seconds <= 3.3
    assert found.best is not None  # of the simplest mappings
    assert found.evaluations == 0


@pytest.mark.parametrize("points", [1, 5])
def test_ctrl_c_while_it_compiles_ends_it_in_two_seconds(
    monkeypatch: pytest.MonkeyPatch, points: int
) -> None:
    monkeypatch.setattr(studying, "warm", compile_long)
    stopped: list[float] = []

    def interrupt() -> None:
        stopped.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    Timer(0.7, interrupt).start()
    found = study(points=points, versus="power" if points > 1 else None)
    assert time.monotonic() - stopped[0] < 2.0
    assert found.interrupted
    assert found.front


def test_a_resumed_study_gets_the_time_that_is_left(tmp_path: Path) -> None:
    given: dict[str, Any] = {"run": tmp_path, "evaluations": None, "seconds": 6.0}
    first = study(**given)
    again = study(**given)
    assert first.best is not None
    assert again.best is not None
    assert again.seconds < 0.7 * first.seconds
    assert again.best.value <= first.best.value
    records = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()[1:]]
    assert 0 < records[0]["spent"] <= records[-1]["spent"] <= 6.6


def test_a_seat_never_gets_worse_and_the_first_one_stands_soon() -> None:
    values: list[float] = []
    first: list[int] = []

    def note(progress: StudyProgress) -> None:
        if progress.stage == "searching" and progress.best is not None:
            values.append(progress.best)
            first.append(progress.evaluations)

    study(on_progress=note, bounds={"power": 0.1, "area": 0.02})
    assert values == sorted(values, reverse=True)
    assert first[0] <= 128 * 8 * 5 * 2  # of five steps of two layers
