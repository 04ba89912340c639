"""Hierarchies designed under a budget: against trying all, and what the command line says."""

import json
import math
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tilewright.cli.main import run
from tilewright.errors import InfeasibleError, InputError
from tilewright.ir.hardware import Compute, Fanout, Hardware, Level
from tilewright.ir.workload import Layer, Network, Workload, conv2d, einsum
from tilewright.mapper import design
from tilewright.mapper.design import DesignGrid, DesignResult, design_hierarchy, mac_array
from tilewright.mapper.design_bounds import Floor, layer_floor, prices_of, relaxed_bound
from tilewright.mapper.optimal import find_optimal
from tilewright.mapper.processes import solve_until
from tilewright.mapper.question import Question
from tilewright.mapper.result import LayerResult, Objective, Status
from tilewright.model.evaluate import evaluate
from tilewright.report.design import draw_front

CONV = einsum("conv", "O[K,P] += W[K,C,R] * I[C,P+R]", {"K": 4, "C": 4, "P": 4, "R": 3})
MATMUL = einsum("mm", "O[M,N] += A[M,K] * B[K,N]", {"M": 4, "N": 8, "K": 8})
NETWORK = Network("tiny", (Layer(CONV, 3), Layer(MATMUL)))
SIZES = tuple(8 * 32 * 4**n for n in range(3))
GRID = DesignGrid((1, 2), SIZES)
ARRAY = mac_array(2, 1)


def try_all(grid: DesignGrid, base: Hardware, objective: Objective) -> dict[str, float]:
    """The least of every hierarchy within the budget, each layer solved there."""
    found: dict[str, float] = {}
    for hierarchy in grid.hierarchies():
        if grid.capacity_bits is not None and hierarchy.capacity_bits > grid.capacity_bits:
            continue
        chip = grid.chip(hierarchy, base)
        total = 0.0
        for layer in NETWORK.layers:
            cost = find_optimal(layer.workload, chip, objective=objective).cost
            assert cost is not None
            total += layer.repeat * objective.of(cost)
        found[str(hierarchy)] = total
    return found


@pytest.mark.parametrize("objective", [Objective.ENERGY, Objective.EDP])
@pytest.mark.parametrize("capacity", [None, 8 * 256])
def test_agrees_with_trying_all(objective: Objective, capacity: int | None) -> None:
    grid = DesignGrid((1, 2), SIZES, capacity_bits=capacity)
    every = try_all(grid, ARRAY, objective)
    found = design_hierarchy(NETWORK, grid, ARRAY, objective=objective)
    assert found.status is Status.OPTIMAL
    assert found.best is not None
    assert found.value == pytest.approx(min(every.values()))
    assert every[str(found.best.hierarchy)] == pytest.approx(found.value)
    assert found.candidates == len(every)
    assert found.solved < 2 * len(every), "bounds exclude something"


def test_what_is_known_is_not_searched_again() -> None:
    known: design.Known = {}
    first = design_hierarchy(NETWORK, GRID, ARRAY, known=known)
    assert len(known) == first.solved
    again = design_hierarchy(NETWORK, GRID, ARRAY, known=known)
    assert again.solved == 0
    assert (again.status, again.value) == (Status.OPTIMAL, first.value)
    alone = Network("one", NETWORK.layers[:1])
    fresh = design_hierarchy(alone, GRID, ARRAY)
    reused = design_hierarchy(alone, GRID, ARRAY, known=known)
    assert reused.solved < fresh.solved
    assert reused.value == pytest.approx(fresh.value)


def test_mappings_of_other_hierarchies_help_searches_that_are_cut_short() -> None:
    network, found = Network("mm", (Layer(MATMUL),)), dict[tuple[Workload, Hardware], LayerResult]()
    grid = DesignGrid((1,), SIZES)
    chips = [grid.chip(hierarchy, ARRAY) for hierarchy in grid.hierarchies()]
    small = find_optimal(MATMUL, chips[0])
    poor = find_optimal(MATMUL, chips[1], seconds=0.0)
    assert poor.status is Status.BEST_FOUND
    assert small.cost is not None
    assert poor.cost is not None
    hunt = design._Hunt(
        network,
        Objective.ENERGY,
        [design._Rival(h, c) for h, c in zip(grid.hierarchies(), chips, strict=True)],
        None,
        lambda _: None,
        None,
        found,
    )
    hunt.record((hunt.rivals[1], 0), poor)
    hunt.record((hunt.rivals[0], 0), small)
    better = hunt.rivals[1].found[0].cost
    assert better is not None
    here = evaluate(MATMUL, chips[1], small.cost.mapping)
    assert better.energy_pj == min(poor.cost.energy_pj, here.energy_pj)
    assert hunt.rivals[0].found[0].cost == small.cost


def test_a_layer_is_solved_until_its_bound_is_enough() -> None:
    (chip,) = [GRID.chip(h, ARRAY) for h in GRID.hierarchies() if str(h) == "512 B + 32 B"]
    least = find_optimal(MATMUL, chip).cost
    assert least is not None
    question = Question(MATMUL, chip)
    found = solve_until(question, enough=2 * least.energy_pj, should_stop=lambda: False)
    assert found.status is Status.OPTIMAL
    # So large that the first bound is there long before the end.
    large = conv2d("large", K=240, C=240, P=48, Q=48, R=3, S=3)
    found = solve_until(Question(large, chip), enough=0.0, should_stop=lambda: False)
    assert found.status is Status.BEST_FOUND
    assert found.lower_bound is not None
    assert found.cost is None or found.lower_bound < found.cost.energy_pj


def test_three_levels_are_no_worse() -> None:
    network = Network("mm", (Layer(MATMUL),))
    two = design_hierarchy(network, GRID, ARRAY)
    three = design_hierarchy(network, DesignGrid((1, 2, 3), SIZES), ARRAY)
    assert three.status is Status.OPTIMAL
    assert (three.value or 0) <= (two.value or 0) * (1 + 1e-9)


def test_bounds_are_below_every_optimum() -> None:
    chips = [GRID.chip(hierarchy, ARRAY) for hierarchy in GRID.hierarchies()]
    for objective, layer in product((Objective.ENERGY, Objective.EDP), NETWORK.layers):
        solved: list[tuple[Hardware, float]] = []
        for chip in chips:
            cost = find_optimal(layer.workload, chip, objective=objective).cost
            assert cost is not None
            solved.append((chip, objective.of(cost)))
        for chip, least in solved:
            prices, floor = prices_of(chip), layer_floor(layer.workload, chip, objective)
            assert floor.value(prices) <= least * (1 + 1e-9)
            for other, certificate in solved:
                bound = relaxed_bound(prices, floor, prices_of(other), certificate)
                assert bound <= least * (1 + 1e-9), (chip.name, other.name)


def test_units_that_share_words_are_fed_once() -> None:
    fanout = Fanout(x=4, y=4, x_dims=("C",), y_dims=("K",))
    base = Hardware("array", (Level("DRAM", technology="yang2016", fanout=fanout),), Compute(pj=1))
    for hierarchy in GRID.hierarchies():
        chip = GRID.chip(hierarchy, base)
        cost = find_optimal(CONV, chip).cost
        assert cost is not None
        bound = layer_floor(CONV, chip, Objective.ENERGY).value(prices_of(chip))
        assert bound <= cost.energy_pj


def test_a_planted_fault_in_the_bound_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    every = try_all(GRID, ARRAY, Objective.ENERGY)
    honest = Floor.value

    def too_high(self: Floor, prices: design.Prices) -> float:
        return honest(self, prices) * (1 if prices.capacities == (SIZES[0],) else 1e3)

    monkeypatch.setattr(Floor, "value", too_high)
    found = design_hierarchy(NETWORK, GRID, ARRAY)
    assert found.value is not None
    assert found.value > min(every.values()) * 1.01


def test_the_front_has_no_point_that_another_beats() -> None:
    found = design_hierarchy(NETWORK, GRID, ARRAY)
    front = found.front
    assert found.best in front
    for point, other in product(front, found.points):
        beaten = (other.area_mm2 or 0) < (point.area_mm2 or 0)
        assert not (beaten and other.energy_pj < point.energy_pj)
    picture = ElementTree.fromstring(draw_front(found))
    circles = [e for e in picture.iter() if e.tag.endswith("circle")]
    assert len(circles) == len(found.points)


def true_front(every: dict[str, float]) -> dict[str, float]:
    """The hierarchies that none of no more area beats, by trying all; by area."""
    sizes = {
        str(hierarchy): sum(level.area_mm2 or 0.0 for level in GRID.chip(hierarchy, ARRAY).levels)
        for hierarchy in GRID.hierarchies()
    }
    front: dict[str, float] = {}
    for name in sorted(every, key=lambda name: (sizes[name], every[name])):
        if every[name] < min(front.values(), default=math.inf) * (1 - 1e-9):
            front[name] = every[name]
    return front


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_whole_front_agrees_with_trying_all(jobs: int) -> None:
    every = try_all(GRID, ARRAY, Objective.ENERGY)
    found = design_hierarchy(NETWORK, GRID, ARRAY, whole_front=True, jobs=jobs)
    expected = true_front(every)
    assert len(expected) > 1
    assert {str(p.hierarchy): p.energy_pj for p in found.front} == pytest.approx(expected)
    assert found.front_proved
    assert found.status is Status.OPTIMAL
    assert all(point.proved for point in found.front)
    assert len(found.points) < len(every), "bounds exclude something"


def test_without_it_the_front_is_not_said_to_be_proved() -> None:
    found = design_hierarchy(NETWORK, GRID, ARRAY)
    assert not found.front_proved
    front = {str(point.hierarchy) for point in found.front}
    assert front < set(true_front(try_all(GRID, ARRAY, Objective.ENERGY)))


def test_a_front_cut_short_is_not_said_to_be_proved() -> None:
    found = design_hierarchy(NETWORK, GRID, ARRAY, whole_front=True, seconds=0.0)
    assert not found.front_proved


def test_a_front_is_of_energy_and_area() -> None:
    with pytest.raises(InputError, match="a front of `edp`"):
        design_hierarchy(NETWORK, GRID, ARRAY, objective="edp", whole_front=True)


def test_energies_of_levels_sum_to_the_whole() -> None:
    best = design_hierarchy(NETWORK, GRID, ARRAY).best
    assert best is not None
    assert math.fsum(best.level_pj().values()) == pytest.approx(best.energy_pj)


def test_words_of_least_energy_are_taken() -> None:
    assert {bits for h in GRID.hierarchies() for bits in h.word_bits} == {512}
    narrow = DesignGrid((1,), SIZES, word_bits=(64,))
    assert {bits for h in narrow.hierarchies() for bits in h.word_bits} == {64}


def test_area_is_a_budget() -> None:
    whole = design_hierarchy(NETWORK, GRID, ARRAY).best
    assert whole is not None
    assert whole.area_mm2 is not None
    smaller = DesignGrid((1, 2), SIZES, area_mm2=whole.area_mm2 * 0.999)
    found = design_hierarchy(NETWORK, smaller, ARRAY).best
    assert found is not None
    assert (found.area_mm2 or 0) < whole.area_mm2
    assert found.energy_pj >= whole.energy_pj


def test_too_small_a_budget_names_the_smallest_that_would_do() -> None:
    with pytest.raises(InfeasibleError) as caught:
        design_hierarchy(NETWORK, DesignGrid((1, 2), SIZES, capacity_bits=8 * 16), ARRAY)
    (violation,) = caught.value.violations
    assert violation.needed_bytes == 32
    assert "--capacity 32B" in violation.fix
    with pytest.raises(InfeasibleError) as caught:
        design_hierarchy(NETWORK, DesignGrid((1, 2), SIZES, area_mm2=1e-4), ARRAY)
    area = float(caught.value.violations[0].fix.split("--area ")[1])
    enough = DesignGrid((1, 2), SIZES, area_mm2=area)
    assert design_hierarchy(NETWORK, enough, ARRAY).status is Status.OPTIMAL


def test_no_time_gives_a_bound_and_no_certificate() -> None:
    found = design_hierarchy(NETWORK, GRID, ARRAY, seconds=0.0)
    assert found.status is Status.BEST_FOUND
    assert found.lower_bound > 0


def test_stopped_in_the_middle_keeps_what_there_is() -> None:
    seen: list[int] = []
    found = design_hierarchy(
        NETWORK,
        GRID,
        ARRAY,
        should_stop=lambda: len(seen) >= 2,
        on_progress=lambda now: seen.append(now.solved),
    )
    assert found.interrupted
    assert found.best is not None
    assert found.lower_bound <= (found.value or 0)
    assert found.to_json()["interrupted"] is True


def test_processes_find_the_same() -> None:
    alone: DesignResult = design_hierarchy(NETWORK, GRID, ARRAY)
    together = design_hierarchy(NETWORK, GRID, ARRAY, jobs=2)
    assert together.status is Status.OPTIMAL
    assert together.value == pytest.approx(alone.value)


def test_wrong_grids_and_chips() -> None:
    with pytest.raises(InputError) as caught:
        DesignGrid((0, 4), (0,), word_bits=(), area_mm2=math.nan, capacity_bits=0)
    assert len(caught.value.problems) >= 5
    two = Hardware("two", (Level("DRAM", fanout=Fanout(x=2)), Level("RF", 64, fanout=Fanout(x=2))))
    with pytest.raises(InputError, match="--macs"):
        design_hierarchy(NETWORK, GRID, two)
    with pytest.raises(InputError, match="energy, edp"):
        design_hierarchy(NETWORK, GRID, ARRAY, objective="cycles")


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    path = tmp_path / "mm.yaml"
    path.write_text('name: mm\neinsum: "O[M,N] += A[M,K] * B[K,N]"\nsizes: {M: 4, N: 8, K: 8}\n')
    return str(path)


def test_the_command(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "front.svg"
    options = ["--from", "64B", "--to", "4KiB", "--step", "8", "--macs", "2x1"]
    told = ["design", tiny, "--capacity", "4KiB", *options, "--plot", str(plot), "--json"]
    assert run(told) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "optimal"
    assert {"memory", "capacity_bytes", "word_bits"} <= document["levels"][0].keys()
    assert document["energy_pj"] == pytest.approx(document["lower_bound"])
    assert document["layers"][0]["status"] == "optimal"
    assert document["area_mm2"] > 0
    assert document["grid"]["capacities_bytes"] == [64, 512, 4096]
    assert document["front"]
    assert "as recalled" in document["tables"]["on chip"]["energy"]
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")
    assert run(told[:-1]) == 0
    text = capsys.readouterr().out
    assert "proved least of the grid" in text
    assert "L1" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no budget"),
        (["--capacity", "0B"], "holds nothing"),
        (["--capacity", "much"], "--capacity 1MiB"),
        (["--area", "nan"], "above 0"),
        (["--area", "1", "--levels", "2..5"], "--levels 1..2"),
        (["--area", "1", "--from", "3KiB"], "power of two"),
        (["--area", "1", "--from", "2MiB"], "is more than"),
        (["--area", "1", "--step", "3"], "--step 2"),
        (["--area", "1", "--words", "x"], "--words"),
        (["--area", "1", "--macs", "16"], "--macs 16x16"),
        (["--area", "1", "--macs", "2x2", "--like", "diannao"], "drop one"),
        (["--area", "1", "--technology", "yang"], "yang2016"),
        (["--area", "1", "--objective", "edq"], "edp"),
        (["--area", "1", "--like", "simba"], "fan-outs"),
    ],
)
def test_bad_input(
    tiny: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["design", tiny, *options]) == 2
    assert message in capsys.readouterr().err


def test_an_infeasible_budget_exits_with_1(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["design", tiny, "--capacity", "512B", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "infeasible"
    assert document["violations"][0]["needed_bytes"] == 1024
