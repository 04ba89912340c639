"""Uneven and imperfect mappings where the best is not proved: no worse than proved, and bounded."""

import pytest
from enumeration import count_and_best
from test_optimal import RELAXED
from tiny_spaces import Kind, random_space

from tilewright import zoo
from tilewright.ir.workload import Operand, Workload, conv2d
from tilewright.mapper import floor
from tilewright.mapper.layer import find_mapping
from tilewright.mapper.result import Objective, Status
from tilewright.mapper.search import search_mapping
from tilewright.model.evaluate import make_evaluator

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


@pytest.mark.parametrize("seed", range(10, 14))
@pytest.mark.parametrize("kind", RELAXED, ids=str)
def test_no_mapping_undercuts_the_bound(kind: Kind, seed: int) -> None:
    assert _undercut(kind, seed) == []


def test_a_bound_that_is_too_high_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    words = floor.operand_words

    def too_many(operand: Operand, workload: Workload) -> int:
        return 4 * words(operand, workload)

    monkeypatch.setattr(floor, "operand_words", too_many)
    assert any(_undercut(kind, seed) for kind in RELAXED for seed in range(10, 14))


def _undercut(kind: Kind, seed: int) -> list[Objective]:
    """The objectives whose bound a mapping undercuts."""
    space = random_space(kind, seed, 2_000)
    evaluator = make_evaluator(space.workload, space.hardware)
    _, best = count_and_best(space)
    return [goal for goal, found in best.items() if found.key[0] < floor.least_of(evaluator, goal)]
