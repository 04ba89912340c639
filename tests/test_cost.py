"""What counts cost: the specification's own example, each term by itself, and that parts sum up."""

import math
import sys
from typing import Any

import pytest
from hypothesis import given
from strategies import Triple, triples

from tilewright.errors import InfeasibleError, InputError, MissingToolError, Source
from tilewright.ir.files import parse_hardware, parse_network
from tilewright.ir.hardware import Compute, Fanout, Hardware, Level
from tilewright.ir.workload import Workload, conv2d, einsum
from tilewright.model.convention import CONVENTIONS
from tilewright.model.cost import Cost
from tilewright.model.evaluate import compare_with_walk, evaluate
from tilewright.model.limit import (
    dram_limit,
    limit_for_words,
    operand_words,
    real_macs,
)

SMALL = """
name: small
einsum: "O[K,P] += W[K,C,R] * I[C,2P+R]"
sizes: {K: 8, C: 4, P: 6, R: 3}
"""
CHIP = """
name: small-chip
levels:
  - {memory: DRAM, read_pj: 200, write_pj: 200}
  - {memory: GLB, read_pj: 6, write_pj: 6, fanout: {x: 4}}
  - {memory: RF, read_pj: 1, write_pj: 1}
compute: {pj: 1}
"""
MAPPING = "DRAM[W I O]: K2 P3\nGLB[I O]: C4 | K4@x\nRF[W I O]: P2 R3"


def layer_of(text: str) -> Workload:
    return parse_network(Source("layer", text)).layers[0].workload


def chip_of(text: str) -> Hardware:
    return parse_hardware(Source("chip", text))


def cost_of(chip: str = CHIP, mapping: str = MAPPING, layer: str = SMALL, **how: str) -> Cost:
    return evaluate(layer_of(layer), chip_of(chip), mapping, **how)


def test_the_specifications_example() -> None:
    """`spec/formats.md`, Results: every figure of the document that stands there."""
    document = cost_of().to_json()
    assert document["energy_pj"] == 93568.0
    assert document["edp"] == 13473792.0
    assert (document["macs"], document["cycles"], document["utilization"]) == (576, 144, 1.0)
    assert document["area_mm2"] is None
    assert document["compute"] == {"energy_pj": 576.0, "area_mm2": None}
    levels: Any = document["levels"]
    assert [(level["memory"], level["instances"], level["cycles"]) for level in levels] == [
        ("DRAM", 1, 0),
        ("GLB", 1, 0),
        ("RF", 4, 0),
    ]
    assert levels[2]["operands"]["O"] == {
        "tile_words": 2,
        "reads": 528,
        "fills": 0,
        "updates": 576,
        "drains": 48,
        "energy_pj": 1152.0,
    }


@given(triples())
def test_parts_sum_to_the_total(triple: Triple) -> None:
    levels = tuple(
        Level(
            level.memory,
            read_pj=10.0 - index,
            write_pj=9.0 - index,
            update_pj=0.25,
            leak_pj_per_cycle=0.5,
            area_mm2=0.1,
            fanout=level.fanout,
            bandwidth=3 if index else None,
        )
        for index, level in enumerate(triple.hardware.levels)
    )
    chip = Hardware("chip", levels, Compute(pj=0.75, area_mm2=0.01))
    try:
        cost = evaluate(triple.workload, chip, triple.mapping)
    except InputError:
        return
    operands = [part.energy_pj for level in cost.levels for part in level.operands.values()]
    others = [level.network_pj + level.leak_pj for level in cost.levels]
    assert math.isclose(cost.energy_pj, sum(operands) + sum(others) + cost.compute_pj)
    areas = [level.area_mm2 or 0.0 for level in cost.levels]
    assert math.isclose(cost.area_mm2 or 0.0, sum(areas) + 0.01 * chip.mac_units)
    longest = max(cycles for name, cycles in cost.waterfall if name != "ramp")
    assert cost.cycles == longest
    assert cost.utilization <= 1
    assert math.isclose(cost.power_w * cost.latency_s, cost.energy_pj * 1e-12)
    assert compare_with_walk(cost) == []


def test_a_drain_costs_a_read_and_an_update_its_own() -> None:
    chip = CHIP.replace("read_pj: 6, write_pj: 6", "read_pj: 10, write_pj: 100, update_pj: 1000")
    glb = cost_of(chip).levels[1]
    assert glb.operands["O"].moves.drains == 48  # no reads, 48 updates
    assert glb.operands["O"].energy_pj == 48 * 10 + 48 * 1000
    assert glb.operands["I"].energy_pj == 120 * 10 + 104 * 100


def test_energy_goes_with_the_bits_of_a_word() -> None:
    narrow = cost_of(layer=SMALL + "bits: {W: 8, I: 4}\n")
    wide = cost_of()
    assert narrow.levels[2].operands["W"].energy_pj == wide.levels[2].operands["W"].energy_pj / 2
    assert narrow.levels[2].operands["I"].energy_pj == wide.levels[2].operands["I"].energy_pj / 4


def test_partial_sums_are_wider_until_they_are_finished() -> None:
    """C stands outside: sums leave RF unfinished but for the last time, and come back."""
    chip = (
        "levels: [{memory: DRAM, read_pj: 1, write_pj: 1}, {memory: RF, read_pj: 1, write_pj: 1}]"
    )
    layer = "einsum: O[K] += W[K,C] * I[C]\nsizes: {K: 4, C: 6}\nbits: {O: 16, psum: 32}"
    cost = cost_of(chip, "DRAM[W I O]: C3 K2\nRF[O]: K2 C2", layer)
    dram, register = cost.counts["DRAM", "O"], cost.counts["RF", "O"]
    assert (dram.updates, dram.finished_updates, dram.reads) == (12, 4, 8)
    assert (register.drains, register.finished_drains) == (12, 4)
    assert cost.levels[0].operands["O"].energy_pj == 8 * 2 + 8 * 2 + 4 * 1
    rf_moves = (register.reads + register.fills + register.updates) * 2 + 8 * 2 + 4
    assert cost.levels[1].operands["O"].energy_pj == rf_moves
    assert compare_with_walk(cost) == []


def test_a_sum_split_over_instances_is_not_finished_when_it_leaves_them() -> None:
    chip = "levels: [{memory: DRAM, fanout: {x: 3}}, {memory: RF}]"
    layer = "einsum: O[K] += W[K,C] * I[C]\nsizes: {K: 4, C: 6}\nbits: {O: 16, psum: 32}"
    split = cost_of(chip, "DRAM[W I O]: K4 | C3@x\nRF[O]: C2", layer).counts
    whole = cost_of(chip, "DRAM[W I O]: | K3@x\nRF[O]: C6 K2", layer).counts
    assert (split["RF", "O"].drains, split["RF", "O"].finished_drains) == (12, 0)
    assert (split["DRAM", "O"].updates, split["DRAM", "O"].finished_updates) == (4, 0)
    assert whole["RF", "O"].finished_drains == whole["RF", "O"].drains == 4


def test_partial_sums_take_their_width_of_capacity() -> None:
    layer = "einsum: O[K] += W[K,C] * I[C]\nsizes: {K: 4, C: 6}\nbits: {O: 8, psum: 32}"
    chip = "levels: [{{memory: DRAM}}, {{memory: GLB, capacity: {}B}}, {{memory: RF}}]"
    once = "DRAM[W I O]: K4\nGLB[O]:\nRF[O]: C6"  # a word is updated once in GLB: it is finished
    often = "DRAM[W I O]: K4\nGLB[O]: C6\nRF[]:"
    cost_of(chip.format(1), once, layer)
    cost_of(chip.format(4), often, layer)
    with pytest.raises(InfeasibleError, match="tiles need 4 B"):
        cost_of(chip.format(3), often, layer)


def test_ports() -> None:
    """DRAM reads 288 + 104 and takes 48; GLB reads 120, drains 48, takes 104 + 48."""
    ports = {
        "DRAM, read": ("bandwidth: 4", "DRAM", 110),
        "GLB, both": ("bandwidth: 0.25", "GLB", 1280),
        "GLB, read": ("read_bandwidth: 0.1", "GLB", 1680),
        "GLB, write": ("write_bandwidth: 3", "GLB", 51),
    }
    for port, memory, cycles in ports.values():
        chip = CHIP.replace(f"{{memory: {memory},", f"{{memory: {memory}, {port},")
        cost = cost_of(chip)
        assert {level.memory: level.cycles for level in cost.levels}[memory] == cycles
        assert cost.cycles == max(144, cycles)


def test_the_busiest_instance_decides() -> None:
    """Seven outputs on four instances of two: the last has one."""
    chip = "levels: [{memory: DRAM, fanout: {x: 4}}, {memory: RF, read_bandwidth: 1}]"
    layer = "einsum: O[K] += W[K,C] * I[C]\nsizes: {K: 7, C: 5}"
    cost = cost_of(chip, "DRAM[W I O]: | K4@x\nRF[W O]: K2 C5", layer)
    assert [group.instances for group in cost.counts.groups["RF"]] == [3, 1]
    # Two outputs: 10 weights, 10 sums less the 2 first ones, and 2 drains.
    assert cost.levels[1].cycles == 10 + 8 + 2


def test_ramp() -> None:
    """First tiles in, last tile out, at the slower of two ports."""
    chip = CHIP.replace("{memory: DRAM,", "{memory: DRAM, bandwidth: 4,").replace(
        "{memory: RF,", "{memory: RF, write_bandwidth: 0.5, read_bandwidth: 1,"
    )
    cost = cost_of(chip)
    # GLB: 20 words of I from DRAM at 4; 8 of O to DRAM at 4. RF: W from DRAM at 0.5, I from GLB at
    # 0.5, O to GLB at 1.
    assert cost.ramp_cycles == 5 + 2 + 6 + 10 + 2
    assert cost_of(chip, overlap="serial").cycles == cost.cycles + 25


def test_hops_and_leakage() -> None:
    chip = CHIP.replace("fanout: {x: 4}", "fanout: {x: 4, hop_pj: 0.5}, leak_pj_per_cycle: 2")
    glb = cost_of(chip).levels[1]
    # Every word that RF is filled with, and every sum that it drains, crosses the fan-out once.
    assert glb.network_pj == 0.5 * (288 + 480 + 48)
    assert glb.leak_pj == 2 * 144


def test_violations_name_memory_operands_and_bytes() -> None:
    chip = CHIP.replace("{memory: RF,", "{memory: RF, capacity: 8B,")
    with pytest.raises(InfeasibleError) as caught:
        cost_of(chip)
    (violation,) = caught.value.violations
    assert violation.to_json() == {
        "memory": "RF",
        "operands": ["W", "I", "O"],
        "needed_bytes": 20,
        "capacity_bytes": 8,
        "what": "tiles need 20 B (W 6 B, I 10 B, O 4 B), 8 B are there",
        "fix": "smaller tiles, or a capacity of 20B",
    }


@pytest.mark.parametrize(("operand", "room", "fits"), [("W", 6, True), ("I", 8, False)])
def test_partitions_are_checked_one_by_one(operand: str, room: int, fits: bool) -> None:
    shares = {"W": 100, "I": 100, "O": 100} | {operand: room}
    given_shares = ", ".join(f"{name}: {size}B" for name, size in shares.items())
    chip = CHIP.replace("{memory: RF,", f"{{memory: RF, capacity: {{{given_shares}}},")
    if fits:
        cost_of(chip)
    else:
        with pytest.raises(InfeasibleError, match=r"tiles need 10 B \(I 10 B\), 8 B are there"):
            cost_of(chip)


def test_double_buffering_halves_the_capacity() -> None:
    single = CHIP.replace("{memory: RF,", "{memory: RF, capacity: 39B,")
    cost_of(single)
    with pytest.raises(InfeasibleError, match="a capacity of 40B"):
        cost_of(single.replace("39B,", "39B, double_buffered: true,"))


VGG_CONV1_2 = conv2d("conv1_2", K=64, C=64, P=224, Q=224, R=3, S=3, padding=1)


def test_padding_is_no_work_for_the_limit() -> None:
    """Of 224 + 2 rows 2 are padding: 3·224 − 2 pairs of rows and filter rows are real."""
    assert real_macs(VGG_CONV1_2) == 64 * 64 * (3 * 224 - 2) ** 2
    assert operand_words(VGG_CONV1_2.inputs[1], VGG_CONV1_2) == 64 * 224 * 224


def test_the_limit_is_the_best_of_all_phases() -> None:
    """Try every phase length: none gives more than the search found."""
    limit = limit_for_words(VGG_CONV1_2, 2000)
    macs, root = real_macs(VGG_CONV1_2), 3.0

    def bound(phase: int) -> float:
        full = root * ((4000 + phase) / 3) ** 1.5 + root * (phase / 3) ** 1.5
        return phase * (2 * macs / full - 2)

    assert math.isclose(limit.words, max(bound(phase) for phase in range(1, 30_000)))
    assert limit.words >= 1.9245 * macs / math.sqrt(9 * 2000) - 5 * 2000


def test_legal_schedules_may_beat_the_formula_that_circulates() -> None:
    """VGG conv1_2 with 128 KiB of 16-bit words moves 7.165 M words; 2V/√(RM) + |O| says more."""
    chip = Hardware("chip", (Level("DRAM"), Level("SRAM", capacity=128 * 8192)))
    limit = dram_limit(VGG_CONV1_2, chip)
    assert limit.on_chip_words == 65536 + 3
    assert limit.words < 7.165e6 < 2 * VGG_CONV1_2.macs / math.sqrt(9 * 65539) + 64 * 224 * 224


@pytest.mark.parametrize(
    ("stride", "dilation", "overlap"), [(1, 1, 3), (2, 1, 2), (2, 2, 3), (3, 1, 1), (1, 2, 3)]
)
def test_the_limit_knows_stride_and_dilation(stride: int, dilation: int, overlap: int) -> None:
    layer = conv2d(
        "c", K=64, C=64, P=50, Q=50, R=3, S=3, stride=(stride, 1), dilation=(dilation, 1)
    )
    plain = conv2d("c", K=64, C=64, P=50, Q=50, R=3, S=3)
    assert plain.macs == layer.macs
    # The bound falls as 1/√R, and R = overlap · 3 here against 9.
    ratio = limit_for_words(layer, 500).words / limit_for_words(plain, 500).words
    assert math.isclose(ratio, math.sqrt(9 / (3 * overlap)), rel_tol=0.02)


@pytest.mark.parametrize(
    "text",
    ["O[C,P] += I[C,2P+R]", "D[M] += A[M] * B[J]", "Z[M] += A[M,J] * B[M,J] * E[J]"],
)
def test_without_a_lemma_the_compulsory_words_are_the_limit(text: str) -> None:
    dims = {dim: 9 for dim in "CPRMJ" if dim in text}
    limit = limit_for_words(einsum("e", text, dims), 3)
    assert limit.words == limit.compulsory_words


@given(triples())
def test_no_mapping_beats_the_limit(triple: Triple) -> None:
    """Every tile is on the chip, so the chip that holds just these tiles cannot do with less."""
    try:
        counts = evaluate(triple.workload, triple.hardware, triple.mapping).counts
    except InputError:
        return
    names = [level.memory for level in triple.hardware.levels]
    held = sum(
        words * triple.hardware.instances(names.index(memory))
        for (memory, _), words in counts.tile_words.items()
        if memory != names[0]
    )
    held += 3 * triple.hardware.mac_units
    moved = [counts[names[0], operand.name] for operand in triple.workload.operands]
    words = sum(tally.reads + tally.updates for tally in moved)
    assert words >= limit_for_words(triple.workload, held).words


def test_every_convention_prices() -> None:
    for name in CONVENTIONS:
        cost = cost_of(convention=name)
        assert cost.convention.name == name
        assert cost.energy_pj > 0


def test_the_walk_cannot_check_timeloop() -> None:
    with pytest.raises(InputError, match="has no walk"):
        compare_with_walk(cost_of(convention="timeloop"))


def test_multicast_off_is_paid_for() -> None:
    chip = chip_of(CHIP)
    glb = chip.levels[1]
    alone = Level("GLB", read_pj=6, write_pj=6, fanout=Fanout(4, multicast=False, reduction=False))
    dear = Hardware("dear", (chip.levels[0], alone, chip.levels[2]), chip.compute)
    layer = layer_of(SMALL)
    with_multicast = evaluate(layer, chip, MAPPING).counts["GLB", "I"].reads
    assert evaluate(layer, dear, MAPPING).counts["GLB", "I"].reads == 4 * with_multicast
    assert glb.fanout.multicast


def test_a_cost_is_a_frame() -> None:
    frame = cost_of().to_frame()
    assert list(frame.columns[:3]) == ["memory", "operand", "tile_words"]
    assert len(frame) == 8


def test_a_frame_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingToolError) as caught:
        cost_of().to_frame()
    (problem,) = caught.value.problems
    assert problem.fix == "pip install 'tilewright[pandas]'"
    assert caught.value.exit_code == 3


def test_a_cost_shows_as_a_table_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    cost = cost_of()
    lines = str(cost).split("\n")
    assert lines[1].split()[:3] == ["memory", "operand", "tile_words"]
    assert len(lines) == 2 + 8
    assert "small on small-chip (default): 0.094 µJ, 144 cycles" in str(cost)
    assert "<table" in cost._repr_html_()
