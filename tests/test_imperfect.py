"""The search of imperfect mappings: bounds that a planted fault breaks, time that runs out."""

import time

import pytest
from enumeration import count_and_best
from test_optimal import KINDS, RELAXED, alike
from tiny_spaces import random_space

from tilewright import zoo
from tilewright.ir.workload import conv2d
from tilewright.mapper import imperfect_tables
from tilewright.mapper.imperfect import ImperfectSearch
from tilewright.mapper.imperfect_tables import Costs, PlanMaker
from tilewright.mapper.layer import find_mapping
from tilewright.mapper.problem import Floats
from tilewright.mapper.result import Objective, Status
from tilewright.model.evaluate import make_evaluator

IMPERFECT = [kind for kind in RELAXED if kind.imperfect and not kind.uneven]
SEVENS = conv2d("sevens", K=7, C=5, P=7, Q=1, R=3, S=1)


def test_a_bound_that_is_too_high_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    edge = PlanMaker.edge

    def dear(  # noqa: PLR0917
        self: PlanMaker,
        costs: Costs,
        parent: int,
        c: int,
        operand: int,
        words: Floats,
        fans: int | None = None,
    ) -> Floats:
        return 3 * edge(self, costs, parent, c, operand, words, fans)

    assert all(_is_right(seed) for seed in range(8))
    monkeypatch.setattr(imperfect_tables.PlanMaker, "edge", dear)
    assert not all(_is_right(seed) for seed in range(8))


def _is_right(seed: int) -> bool:
    """Whether the search finds the least energy of all mappings."""
    space = random_space(IMPERFECT[0], seed, 2_000)
    _, best = count_and_best(space, (Objective.ENERGY,))
    evaluator = make_evaluator(space.workload, space.hardware)
    found = ImperfectSearch(evaluator, Objective.ENERGY).run()
    if found.cost is None or not best:
        return found.cost is None and not best
    return alike(Objective.ENERGY.key(found.cost), best[Objective.ENERGY].key)


def test_sizes_without_divisors_gain() -> None:
    """A dim of 7 has no perfect tile but 1 and 7; the proof says how much others save."""
    chip = zoo.load_hardware("eyeriss")
    perfect = find_mapping(SEVENS, chip)
    found = find_mapping(SEVENS, chip, imperfect=True)
    assert found.cost is not None
    assert perfect.cost is not None
    assert found.cost.energy_pj <= perfect.cost.energy_pj
    assert found.lower_bound is not None
    assert found.lower_bound <= found.cost.energy_pj


def test_time_that_runs_out_leaves_a_bound() -> None:
    layer = conv2d("large", K=64, C=64, P=56, Q=56, R=3, S=3, padding=1)
    evaluator = make_evaluator(layer, zoo.load_hardware("eyeriss"))
    best = find_mapping(layer, zoo.load_hardware("eyeriss")).cost
    assert best is not None
    began = time.monotonic()
    search = ImperfectSearch(evaluator, Objective.ENERGY, best=best, deadline=began + 2.0)
    found = search.run()
    assert found.cost is not None
    assert not found.is_proved
    assert 0 < found.bound <= found.cost.energy_pj


def test_status_says_what_is_proved() -> None:
    space = random_space(KINDS[0], 3, 2_000)
    found = find_mapping(space.workload, space.hardware, imperfect=True)
    assert (found.status is Status.OPTIMAL) == (
        found.cost is not None and found.lower_bound == found.cost.energy_pj
    )
