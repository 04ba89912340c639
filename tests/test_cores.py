"""Several cores on a chip: by hand, by the walk, against every mapping, and the command line."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from enumeration import Space, count_and_best
from rich.console import Console

from tilewright.cli.cores import parse_cores
from tilewright.cli.main import run
from tilewright.errors import InputError
from tilewright.ir.hardware import Compute, Fanout, Hardware, Level
from tilewright.ir.workload import Layer, Network, Workload, conv2d, einsum
from tilewright.mapper import cores as module
from tilewright.mapper.cores import (
    Buffers,
    CoreStudy,
    Split,
    last_level,
    map_on_cores,
    split_dims,
    spread_over_cores,
)
from tilewright.mapper.optimal import find_optimal
from tilewright.mapper.result import Objective, Status
from tilewright.model.cost import Cost
from tilewright.model.evaluate import compare_with_walk, evaluate
from tilewright.report.cores import cores_report
from tilewright.zoo import load_hardware

PRODUCT = einsum("product", "O[N,K] += W[K,C] * I[N,C]", {"N": 4, "K": 6, "C": 5})
CHIP = Hardware(
    "chip",
    (
        Level("DRAM", read_pj=200, write_pj=200),
        Level("BUF", 16 * 96, read_pj=6, write_pj=6),
    ),
    Compute(pj=1.0),
)
WAYS = list(product(Split, Buffers))


def words(cost: Cost, memory: str, operand: str) -> tuple[int, int, int, int]:
    tally = cost.counts[memory, operand]
    return tally.reads, tally.fills, tally.updates, tally.drains


def walked(workload: Workload, chip: Hardware, mapping: str) -> Cost:
    """The price of a mapping whose closed form agrees with running the nest."""
    cost = evaluate(workload, chip, mapping)
    assert compare_with_walk(cost) == []
    return cost


# By hand: 4 × 5 inputs, 6 × 5 weights, 4 × 6 outputs, on two cores.


def test_private_buffers_of_an_image_split_get_all_weights_by_broadcast() -> None:
    chip = spread_over_cores(CHIP, 2, split_dims(PRODUCT, Split.IMAGE), Buffers.PRIVATE)
    cost = walked(PRODUCT, chip, "DRAM[W I O]: K6 | N2@x\nBUF[W I O]: N2 C5")
    assert words(cost, "DRAM", "W") == (30, 0, 0, 0)  # read once for both
    assert words(cost, "BUF", "W")[1] == 60  # and filled in each
    assert words(cost, "DRAM", "I") == (20, 0, 0, 0)  # each its own half
    assert words(cost, "BUF", "I")[1] == 20
    assert words(cost, "DRAM", "O") == (0, 0, 24, 0)


def test_private_buffers_of_a_kernel_split_get_all_inputs_by_broadcast() -> None:
    chip = spread_over_cores(CHIP, 2, split_dims(PRODUCT, Split.KERNELS), Buffers.PRIVATE)
    cost = walked(PRODUCT, chip, "DRAM[W I O]: N4 | K2@x\nBUF[W I O]: K3 C5")
    assert words(cost, "DRAM", "I") == (20, 0, 0, 0)
    assert words(cost, "BUF", "I")[1] == 40
    assert words(cost, "DRAM", "W") == (30, 0, 0, 0)  # it stays while N goes on
    assert words(cost, "BUF", "W")[1] == 30
    assert words(cost, "DRAM", "O") == (0, 0, 24, 0)


def test_a_shared_buffer_is_read_once_for_all_cores() -> None:
    for split, loop, shared in ((Split.IMAGE, "N2@x", "W"), (Split.KERNELS, "K2@x", "I")):
        chip = spread_over_cores(CHIP, 2, split_dims(PRODUCT, split), Buffers.SHARED)
        inner = "N2 K6 C5" if split is Split.IMAGE else "N4 K3 C5"
        cost = walked(PRODUCT, chip, f"DRAM[W I O]:\nBUF[W I O]: {inner} | {loop}")
        other = "I" if shared == "W" else "W"
        assert words(cost, "BUF", shared)[0] == 120 // 2  # a read serves both
        assert words(cost, "BUF", other)[0] == 120
        assert words(cost, "BUF", "W")[1] == 30  # nothing is there twice
        assert words(cost, "BUF", "I")[1] == 20
        assert cost.cycles == 60


def test_without_broadcast_the_counts_by_hand_do_not_hold() -> None:
    """The planted fault: a network to the cores that does not multicast."""
    chip = spread_over_cores(CHIP, 2, split_dims(PRODUCT, Split.IMAGE), Buffers.PRIVATE)
    outer = replace(chip.levels[0], fanout=replace(chip.levels[0].fanout, multicast=False))
    faulty = replace(chip, levels=(outer, *chip.levels[1:]))
    cost = walked(PRODUCT, faulty, "DRAM[W I O]: K6 | N2@x\nBUF[W I O]: N2 C5")
    assert words(cost, "DRAM", "W")[0] == 60


def test_hops_are_charged_for_every_core() -> None:
    dims = split_dims(PRODUCT, Split.IMAGE)
    mapping = "DRAM[W I O]: K6 | N2@x\nBUF[W I O]: N2 C5"
    free, hops = (
        walked(PRODUCT, spread_over_cores(CHIP, 2, dims, Buffers.PRIVATE, hop_pj=pj), mapping)
        for pj in (0.0, 3.0)
    )
    # 30 weights to both, 20 inputs and 24 outputs to and from one
    assert hops.energy_pj - free.energy_pj == pytest.approx(3.0 * (60 + 20 + 24))


# What a chip of several cores is.


def test_private_buffers_hold_as_much_in_all() -> None:
    chip = load_hardware("eyeriss")
    for cores in (2, 4, 8):
        spread = spread_over_cores(chip, cores, ("K",), Buffers.PRIVATE)
        place = spread.level_index("GLB")
        bits = spread.levels[place].capacity
        assert isinstance(bits, int)
        assert bits * spread.instances(place) == chip.levels[1].capacity
        assert spread.mac_units == cores * chip.mac_units


def test_an_array_stays_below_the_cores() -> None:
    chip = load_hardware("eyeriss")
    spread = spread_over_cores(chip, 4, ("K",), Buffers.SHARED)
    assert [level.memory for level in spread.levels] == ["DRAM", "GLB", "CORE", "RF"]
    assert spread.levels[1].fanout.copies == 4
    assert spread.levels[2].fanout == chip.levels[1].fanout
    assert spread.levels[1].capacity == chip.levels[1].capacity


def test_a_fan_out_of_dram_stays() -> None:
    outer = replace(CHIP.levels[0], fanout=Fanout(x=3))
    chip = replace(CHIP, levels=(outer, *CHIP.levels[1:]))
    spread = spread_over_cores(chip, 2, ("N",), Buffers.PRIVATE)
    assert [level.fanout.copies for level in spread.levels] == [2, 3, 1]
    assert spread.levels[1].memory == "CORE"
    mapping = "DRAM[W I O]: | N2@x\nCORE[]: | K3@x\nBUF[W I O]: N2 K2 C5"
    assert walked(PRODUCT, spread, mapping).counts["DRAM", "W"].reads == 30


def test_buffers_of_three_operands_are_one_last_level() -> None:
    chip = load_hardware("diannao")
    assert list(last_level(chip)) == [1, 2, 3]
    spread = spread_over_cores(chip, 2, ("K",), Buffers.PRIVATE)
    assert [level.capacity for level in spread.levels[1:]] == [8192, 131072, 8192]


def test_energies_of_a_technology_follow_the_capacity_and_given_ones_stay() -> None:
    levels = (Level("DRAM", read_pj=200), Level("BUF", 64 * 8192, technology="yang2016"))
    derived = Hardware("derived", levels)
    whole = evaluate(PRODUCT, derived, "DRAM[W I O]:\nBUF[W I O]: N4 K6 C5").hardware
    part = spread_over_cores(derived, 4, ("N",), Buffers.PRIVATE)
    priced = evaluate(PRODUCT, part, "DRAM[W I O]: | N4@x\nBUF[W I O]: K6 C5").hardware
    assert whole.levels[1].read_pj == 8.10
    assert priced.levels[1].read_pj == 4.36  # that of 16 KiB
    kept = spread_over_cores(CHIP, 4, ("N",), Buffers.PRIVATE)
    assert kept.levels[1].read_pj == 6
    (said,) = module.private_notes(derived, [4])
    assert "yang2016" in said
    (said,) = module.private_notes(CHIP, [4])
    assert "given" in said


def test_areas_and_leakage_are_divided() -> None:
    level = replace(CHIP.levels[1], area_mm2=4.0, leak_pj_per_cycle=2.0)
    chip = replace(CHIP, levels=(CHIP.levels[0], level))
    part = spread_over_cores(chip, 4, ("N",), Buffers.PRIVATE).levels[1]
    assert (part.area_mm2, part.leak_pj_per_cycle) == (1.0, 0.5)


def test_groups_are_kernels_and_layers_of_one_input_have_none() -> None:
    grouped = conv2d("g", G=4, K=2, C=2, P=4, Q=4, R=3, S=3)
    assert set(split_dims(grouped, Split.KERNELS)) == {"G", "K"}
    assert set(split_dims(grouped, Split.IMAGE)) == {"N", "P", "Q"}
    pool = einsum("pool", "O[C,P] += I[C,2P+R]", {"C": 4, "P": 3, "R": 2})
    assert split_dims(pool, Split.KERNELS) == ()
    assert set(split_dims(pool, Split.IMAGE)) == {"C", "P"}


# The best of four ways, against every mapping of each.


@pytest.mark.parametrize("objective", [Objective.ENERGY, Objective.EDP])
def test_no_way_and_no_mapping_is_better(objective: Objective) -> None:
    layer = einsum("conv", "O[K,P] += W[K,C,R] * I[C,P+R]", {"K": 2, "C": 2, "P": 4, "R": 2})
    small = replace(CHIP, levels=(CHIP.levels[0], replace(CHIP.levels[1], capacity=16 * 20)))
    study = map_on_cores(Network("conv", (Layer(layer),)), small, (2,), objective=objective)
    choices = {(c.split, c.buffers): c for c in study.points[1].layers[0]}
    values: list[float] = []
    for split, buffers in WAYS:
        dims = split_dims(layer, split)
        chip = spread_over_cores(small, 2, dims, buffers)
        _, best = count_and_best(Space(layer, chip), [objective])
        mine = choices[split, buffers].result
        assert mine.cost is not None
        assert mine.status is Status.OPTIMAL
        assert objective.key(mine.cost) == pytest.approx(best[objective].key)
        values.append(best[objective].key[0])
    first = study.points[1].layers[0][0].result
    assert first.cost is not None
    assert objective.of(first.cost) == pytest.approx(min(values))
    assert study.points[1].proved


def test_a_split_along_other_dims_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: both splits confused."""
    right = map_on_cores(Network("p", (Layer(PRODUCT),)), CHIP, (2,))
    true = split_dims

    def confused(workload: Workload, split: Split) -> tuple[str, ...]:
        return true(workload, Split.IMAGE if split is Split.KERNELS else Split.KERNELS)

    monkeypatch.setattr(module, "split_dims", confused)
    wrong = map_on_cores(Network("p", (Layer(PRODUCT),)), CHIP, (2,))
    assert _unrolled(right) == {"image": {"N"}, "kernels": {"K"}}
    assert _unrolled(wrong) != _unrolled(right)


def _unrolled(study: CoreStudy) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for choice in study.points[1].layers[0]:
        assert choice.split is not None
        assert choice.result.cost is not None
        blocks = choice.result.cost.mapping.blocks
        dims = {loop.dim for block in blocks for loop in block.spatial}
        found.setdefault(choice.split.value, set()).update(dims)
    return found


def test_one_core_is_what_map_finds() -> None:
    study = map_on_cores(Network("p", (Layer(PRODUCT),)), CHIP, (1, 2))
    (choice,) = study.points[0].layers[0]
    alone = find_optimal(PRODUCT, CHIP)
    assert choice.result.cost is not None
    assert alone.cost is not None
    assert choice.result.cost.mapping == alone.cost.mapping
    assert choice.result.cost.energy_pj == alone.cost.energy_pj


def test_cores_are_busy_as_far_as_divisors_go() -> None:
    study = map_on_cores(Network("p", (Layer(PRODUCT),)), CHIP, (4,), objective="cycles")
    busy = {(c.split, c.buffers): c.busy for c in study.points[1].layers[0]}
    assert busy[Split.IMAGE, Buffers.SHARED] == 4  # N is 4
    assert busy[Split.KERNELS, Buffers.SHARED] == 3  # K is 6


def test_a_network_chooses_layer_by_layer_and_as_a_whole() -> None:
    image = einsum("image", "O[N,K] += W[K,C] * I[N,C]", {"N": 8, "K": 2, "C": 4})
    kernels = einsum("kernels", "O[N,K] += W[K,C] * I[N,C]", {"N": 2, "K": 8, "C": 4})
    network = Network("both", (Layer(image, 3), Layer(kernels)))
    study = map_on_cores(network, CHIP, (4,), objective="cycles")
    point = study.points[1]
    assert point.best is not None
    totals = [point.best, *point.with_buffers(), *point.single()]
    assert len(totals) == 1 + 2 + 4
    least = [total.value(Objective.CYCLES) for total in totals]
    assert least[0] == min(least)
    assert least[0] <= least[1] <= least[3]
    assert point.best.macs == 3 * 64 + 64
    assert point.best.cycles == sum(
        choice.result.repeat * choice.result.cost.cycles
        for choice in point.best.choices
        if choice.result.cost is not None
    )


def test_what_a_search_cut_short_finds_is_no_worse_than_with_fewer_cores() -> None:
    chip = load_hardware("eyeriss")
    layer = conv2d("conv", K=16, C=16, P=14, Q=14, R=3, S=3, padding=1)
    study = map_on_cores(Network("conv", (Layer(layer),)), chip, (4,), seconds=0.5)
    one = study.points[0].layers[0][0].result.cost
    assert one is not None
    for choice in study.points[1].layers[0]:
        if choice.buffers is Buffers.SHARED:
            assert choice.result.cost is not None
            assert choice.result.cost.energy_pj <= one.energy_pj * (1 + 1e-9)


def test_parts_that_hold_nothing_are_left_out() -> None:
    tiny = replace(CHIP, levels=(CHIP.levels[0], replace(CHIP.levels[1], capacity=16 * 3)))
    study = map_on_cores(Network("p", (Layer(PRODUCT),)), tiny, (64,))
    choices = study.points[1].layers[0]
    assert {choice.buffers for choice in choices} == {Buffers.SHARED}
    assert any("holds nothing" in note for note in module.private_notes(tiny, [64]))


def test_a_layer_without_a_dim_to_divide_runs_on_one_core() -> None:
    dot = einsum("dot", "D[] += A[M,N] * B[M,N]", {"M": 4, "N": 4})
    study = map_on_cores(Network("dot", (Layer(dot),)), CHIP, (2,))
    assert study.points[1].layers[0][0].busy == 1


def test_a_chip_without_memory_and_odd_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="no memory on the chip"):
        last_level(Hardware("bare", (Level("DRAM"),)))
    with pytest.raises(InputError, match="from 1 to"):
        spread_over_cores(CHIP, 0, ("N",), Buffers.SHARED)
    with pytest.raises(InputError, match="neither a number nor a range"):
        parse_cores("two")
    with pytest.raises(InputError, match="not within"):
        parse_cores("8..2")
    assert parse_cores("3..20") == [1, 3, 4, 8, 16, 20]


# The command line.


@pytest.fixture
def nouns(tmp_path: Path) -> list[str]:
    (tmp_path / "net.yaml").write_text(
        """name: net
layers:
  - {name: one, einsum: "O[N,K] += W[K,C] * I[N,C]", sizes: {N: 4, K: 6, C: 5}, repeat: 2}
  - {name: two, einsum: "O[N,K] += W[K,C] * I[N,C]", sizes: {N: 2, K: 8, C: 4}}
"""
    )
    (tmp_path / "chip.yaml").write_text(
        """name: chip
levels:
  - {memory: DRAM, read_pj: 200, write_pj: 200}
  - {memory: BUF, capacity: 128B, read_pj: 6, write_pj: 6}
compute: {pj: 1}
"""
    )
    return [str(tmp_path / "net.yaml"), str(tmp_path / "chip.yaml")]


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str], nouns: list[str]) -> None:
    assert run(["cores", *nouns, "--cores", "1,4", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    one, four = document["points"]
    assert one["cores"] == 1
    assert one["total"]["speedup"] == 1.0
    assert four["status"] == "optimal"
    assert four["total"]["speedup"] > 1
    assert len(four["single"]) == 4
    assert len(four["by_buffers"]) == 2
    for layer in four["layers"]:
        assert len(layer["choices"]) == 4
        for choice in layer["choices"]:
            assert choice["status"] == "optimal"
            assert 1 <= choice["busy"] <= 4
    assert document["version"]
    assert run(["map", *nouns, "--json", "--jobs", "1"]) == 0
    mapped = json.loads(capsys.readouterr().out)
    assert one["total"]["energy_pj"] == mapped["total"]["energy_pj"]
    assert one["total"]["cycles"] == mapped["total"]["cycles"]


def test_the_command_prints_tables(capsys: pytest.CaptureFixture[str], nouns: list[str]) -> None:
    assert run(["cores", *nouns, "--cores", "2"]) == 0
    out = capsys.readouterr().out
    assert "each layer its own" in out
    assert "all kernels, shared" in out
    assert "BUF: private parts keep the energy that is given" in out
    assert run(["cores", f"{nouns[0]}:two", nouns[1], "--cores", "2"]) == 0
    out = capsys.readouterr().out
    assert "image, private" in out
    assert "no choice is better than the first: proved" in out


def test_a_layer_that_does_not_fit_is_said(
    capsys: pytest.CaptureFixture[str], nouns: list[str]
) -> None:
    chip = Path(nouns[1])
    text = chip.read_text().replace("capacity: 128B", "capacity: 4B, keeps: [W, I, O]")
    chip.write_text(text)
    assert run(["cores", *nouns, "--cores", "2", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "infeasible"
    assert document["points"][1]["total"] is None
    assert run(["cores", *nouns, "--cores", "two"]) == 2


def test_a_study_that_is_stopped_has_what_was_found() -> None:
    asked: list[int] = []

    def stop() -> bool:
        return len(asked) >= 3

    network = Network("p", (Layer(PRODUCT),))
    study = map_on_cores(
        network, CHIP, (2, 4), should_stop=stop, on_choice=lambda c: asked.append(c.cores)
    )
    assert study.interrupted
    assert study.points[0].cores == 1
    Console(quiet=True).print(cores_report(study))
    assert study.to_json()["interrupted"] is True
