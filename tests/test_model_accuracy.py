"""The formulas of the accuracy experiment are the library's counts, for any tiling and order."""

import random
from dataclasses import replace

import numpy as np
import pytest
from experiments import model_accuracy
from experiments.model_accuracy import (
    ANY_ORDER,
    NETWORKS,
    OURS,
    PAGE,
    REAL,
    RULES,
    Integers,
    Space,
    chip,
    choose,
    network_table,
    outcomes_of,
    predict,
    price,
    space_of,
)

from tilewright.ir.workload import Layer, Workload, conv2d, einsum
from tilewright.model.convention import CONVENTIONS, Convention, Reuse
from tilewright.model.evaluate import compare_with_walk, evaluate
from tilewright.zoo import load_network

PLAIN = conv2d("plain", K=6, C=4, P=8, Q=6, R=3, S=3, padding=1)
STRIDED = conv2d("strided", G=2, K=2, C=3, P=4, Q=6, R=5, S=1, stride=(2, 3), padding=(2, 0))
HOLES = conv2d("holes", K=4, C=4, P=6, Q=6, R=1, S=2, stride=2, dilation=3)
PRODUCT = einsum("product", "O[N,K] += W[K,C] * I[N,C]", {"N": 1, "K": 6, "C": 8})
LARGE_KIB = 1024


def candidates(workload: Workload, count: int) -> list[tuple[Space, str, int]]:
    pick, space = random.Random(workload.name), space_of(workload)
    tilings = len(space.tile["K"])
    return [(space, pick.choice(ANY_ORDER), pick.randrange(tilings)) for _ in range(count)]


def differences(workload: Workload, count: int) -> list[str]:
    """Random candidates that the formulas and the library count differently, by convention."""
    return [
        f"{name}, {ours} here, {theirs} in the library\n{space.mapping(order, index)}"
        for space, order, index in candidates(workload, count)
        for name in RULES
        for ours, theirs in [count_both(space, order, index, CONVENTIONS[name])]
        if ours != theirs
    ]


def count_both(
    space: Space, order: str, index: int, rules: Convention
) -> tuple[tuple[int, int], tuple[int, int]]:
    """DRAM words and words of a tile, by the formulas and by the library."""
    mapping = space.mapping(order, index)
    cost = evaluate(space.workload, chip(LARGE_KIB), mapping, convention=rules)
    tiles = [words for (memory, _), words in cost.counts.tile_words.items() if memory == "BUF"]
    words, held = predict(space, order, rules), space.tile_words(rules.footprint)
    return (int(words[index]), int(held[index])), (cost.dram_words, sum(tiles))


@pytest.mark.parametrize("workload", [PLAIN, STRIDED, HOLES, PRODUCT], ids=lambda work: work.name)
def test_the_formulas_count_as_the_library(workload: Workload) -> None:
    assert differences(workload, 60) == []


def test_what_moves_is_what_the_walk_counts() -> None:
    for space, order, index in candidates(PLAIN, 6):
        mapping = space.mapping(order, index)
        for name in RULES:
            cost = evaluate(PLAIN, chip(LARGE_KIB), mapping, convention=name)
            assert compare_with_walk(cost) == []


def test_a_wrong_formula_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output is said to be indexed by the input channels, so that it never comes back."""
    monkeypatch.setitem(model_accuracy.INDEXING, "O", "KCPQ")
    assert differences(PLAIN, 20)


def test_a_forgotten_halo_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where the rules keep it is it missed."""
    count = model_accuracy.input_words

    def forgetful(space: Space, order: str, rules: Convention) -> Integers:
        return count(space, order, replace(rules, reuse=Reuse.REFETCH))

    monkeypatch.setattr(model_accuracy, "input_words", forgetful)
    wrong = {text.split(",")[0] for text in differences(PLAIN, 20)}
    assert wrong == {"peemen2015", REAL}


def test_a_choice_that_the_library_counts_otherwise_is_refused() -> None:
    outcome = next(outcomes_of("none", Layer(PLAIN)))
    wrong = replace(outcome, words=outcome.words | {REAL: outcome.real + 1})
    with pytest.raises(AssertionError, match="in the library"):
        price(wrong, REAL)


def test_choices_fit_and_are_counted_alike() -> None:
    for outcome in outcomes_of("none", Layer(STRIDED)):
        for name in (outcome.model.name, REAL):
            assert price(outcome, name).dram_words == outcome.words[name]


def test_a_model_chooses_what_it_finds_best() -> None:
    predicted, real = np.array([[5, 3, 3, 1]]), np.array([[5, 9, 4, 1]])
    fits = np.array([True, True, True, False])
    assert choose(predicted, real, fits) == (0, 2, 9)


def test_no_model_beats_the_best_schedule_of_its_orders() -> None:
    for outcome in outcomes_of("none", Layer(PLAIN)):
        assert outcome.any_words <= outcome.best_words <= outcome.real <= outcome.tied_words
        if outcome.model == OURS:
            assert outcome.real == outcome.any_words == outcome.predicted


def test_tiles_that_stand_still_are_refused() -> None:
    """The padding is so large that two tiles touch the same rows."""
    still = conv2d("still", K=2, C=2, P=2, Q=4, R=3, S=1, padding=(1, 0))
    with pytest.raises(ValueError, match="do not all move"):
        space_of(still)


def test_work_that_is_no_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="no layer for one image"):
        space_of(conv2d("batch", K=2, C=2, P=2, Q=2, N=2))


@pytest.mark.parametrize("network", ["alexnet", "resnet18"])
def test_the_page_shows_what_is_found(network: str) -> None:
    outcomes = [o for layer in load_network(network).layers for o in outcomes_of(network, layer)]
    assert "\n".join(network_table(outcomes, network)) in PAGE.read_text("utf-8")


def test_rows_and_columns_may_change_places() -> None:
    """The page says so: the templates have rows outside columns."""
    for network in NETWORKS:
        for layer in load_network(network).layers:
            sizes = layer.workload.sizes
            assert sizes.get("P", 1) == sizes.get("Q", 1)
