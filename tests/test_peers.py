"""What we find is never worse than what other mappers found, by equal rules."""

import pytest
from benchmarks.peer_cases import (
    Case,
    all_cases,
    energy_with_first_reads,
    value_of,
    zigzag_mapping,
)

import tilewright as tw

CASES = all_cases()
QUICK = {
    ("ZigZag", "conv4_2"),
    ("ZigZag", "conv5_2"),
    ("AccelForge", "conv4_2"),
    ("AccelForge", "conv5_2"),
    ("Timeloop mapper", "resnet18.conv4_x"),
    ("Timeloop mapper", "resnet18.conv5_x"),
    ("Timeloop mapper", "resnet18.fc"),
    *(("Interstellar", case.layer) for case in CASES if case.peer == "Interstellar"),
}
CHOSEN = [case for case in CASES if (case.peer, case.layer) in QUICK]


def named(case: Case) -> str:
    return f"{case.title}, {case.layer}"


def objective_of(case: Case, cost: tw.Cost) -> float:
    return value_of(case.objective, cost.energy_pj, cost.cycles)


@pytest.mark.parametrize("case", CHOSEN, ids=named)
def test_ours_is_proved_and_never_worse(case: Case) -> None:
    found = tw.find_mapping(case.workload, case.hardware, objective=case.objective)
    assert found.status is tw.Status.OPTIMAL
    assert found.cost is not None
    ours = objective_of(case, found.cost)
    if case.mapping is not None:
        theirs = tw.evaluate(case.workload, case.hardware, case.mapping)
        assert ours <= objective_of(case, theirs) * (1 + 1e-9)
    if case.peer == "AccelForge":  # counts as we do; prints seven digits
        assert ours == pytest.approx(case.figure, rel=1e-6)


@pytest.mark.parametrize("case", [c for c in CASES if c.peer == "Timeloop mapper"], ids=named)
def test_timeloop_counts_its_mappings_as_we_do_by_its_rules(case: Case) -> None:
    assert case.mapping is not None
    assert case.recount is not None
    cost = tw.evaluate(case.workload, case.hardware, case.mapping)
    assert case.recount(cost) == pytest.approx(case.figure, rel=1e-9)


@pytest.mark.parametrize("layer", ["conv2", "conv3_ds", "conv4_2"])
def test_zigzag_counts_its_mappings_as_we_do_but_for_first_reads(layer: str) -> None:
    (case,) = (c for c in CASES if c.title == "ZigZag, tpu_like, energy" and c.layer == layer)
    assert case.mapping is not None
    cost = tw.evaluate(case.workload, case.hardware, case.mapping)
    assert cost.energy_pj < energy_with_first_reads(cost)
    assert energy_with_first_reads(cost) == pytest.approx(case.figure, rel=1e-9)


def test_a_mapping_of_zigzag_in_our_notation() -> None:
    temporal = {
        "W": [[["C", 16], ["FY", 3], ["OY", 7]], [["K", 16]]],
        "I": [[["C", 16], ["FY", 3], ["OY", 7], ["K", 16]], []],
        "O": [[["C", 16], ["FY", 3]], [["OY", 7], ["K", 16]], []],
    }
    lines = zigzag_mapping(temporal, {"K": 32, "C": 32}).splitlines()
    assert lines == [
        "DRAM[W I O]: ",
        "SRAM[I O]: K16 | K32@x C32@y",
        "RF_W[W]: P7",
        "RF_O[O]: R3 C16",
    ]
