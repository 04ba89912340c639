"""What limits a layer: the gains are those of the mapper, the limits those of the model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_cost import MAPPING, SMALL, chip_of, layer_of
from test_messages import CHIP

from tilewright.analysis import explain as module
from tilewright.analysis.explain import Explanation, explain
from tilewright.cli.main import run
from tilewright.ir.hardware import Hardware
from tilewright.mapper.layer import find_mapping
from tilewright.mapper.result import Status
from tilewright.model.evaluate import evaluate

Json = dict[str, Any]
PORTED = CHIP.replace("read_pj: 200", "bandwidth: 1\n    read_pj: 200")


def with_level(chip: Hardware, index: int, **fields: Any) -> Hardware:
    level = replace(chip.levels[index], **fields)
    return replace(chip, levels=(*chip.levels[:index], level, *chip.levels[index + 1 :]))


def gain_of(found: Explanation, name: str) -> module.Gain:
    return next(gain for gain in found.gains if gain.name == name)


def test_gains_are_those_of_a_chip_with_the_number_doubled() -> None:
    layer, chip = layer_of(SMALL), chip_of(PORTED)
    found = explain(layer, chip)
    assert {gain.name for gain in found.gains} == {
        "DRAM bandwidth",
        "GLB capacity",
        "RF capacity",
    }
    before = find_mapping(layer, chip).cost
    assert before is not None
    for index, name in ((1, "GLB capacity"), (2, "RF capacity")):
        bits = chip.levels[index].capacity
        assert isinstance(bits, int)
        after = find_mapping(layer, with_level(chip, index, capacity=bits * 2))
        assert after.cost is not None
        gain = gain_of(found, name)
        assert gain.is_proved
        assert gain.saved == (before.energy_pj - after.cost.energy_pj) / before.energy_pj
        assert gain.at_most == pytest.approx(gain.saved)


def test_a_doubled_number_never_costs_more_where_prices_are_given() -> None:
    for objective in ("energy", "cycles", "dram", "edp"):
        found = explain(layer_of(SMALL), chip_of(PORTED), objective=objective)
        assert all((gain.saved or 0) >= -1e-12 for gain in found.gains)


def test_the_slow_port_is_the_limit_and_gains() -> None:
    found = explain(layer_of(SMALL), chip_of(PORTED), objective="cycles")
    assert found.bound_by == "DRAM ports"
    best = found.gains[0]
    assert best.name == "DRAM bandwidth"
    assert best.is_proved
    cost = found.best.cost
    assert cost is not None
    wider = find_mapping(
        layer_of(SMALL), with_level(chip_of(PORTED), 0, bandwidth=2.0), objective="cycles"
    )
    assert wider.cost is not None
    assert best.saved == (cost.cycles - wider.cost.cycles) / cost.cycles
    assert "twice the DRAM bandwidth (1 words/cycle to 2 words/cycle) saves" in found.sentences[1]


def test_compute_is_the_limit_without_bandwidths() -> None:
    found = explain(layer_of(SMALL), chip_of(CHIP), MAPPING)
    assert found.bound_by == "compute"
    assert found.cycles_of["compute"] == 144
    (axis,) = found.axes
    assert (axis.memory, axis.axis, axis.used, axis.copies, axis.loops) == (
        "GLB",
        "x",
        4,
        4,
        "K4@x",
    )


def test_a_given_mapping_is_put_beside_the_best() -> None:
    layer, chip = layer_of(SMALL), chip_of(CHIP)
    found = explain(layer, chip, MAPPING)
    best, given = find_mapping(layer, chip), evaluate(layer, chip, MAPPING)
    assert best.cost is not None
    assert found.excess == (given.energy_pj - best.cost.energy_pj) / given.energy_pj
    assert found.cost == given


def test_rooms_are_the_tiles_of_the_mapping() -> None:
    found = explain(layer_of(SMALL), chip_of(CHIP), MAPPING)
    rooms = {room.memory: room for room in found.rooms}
    assert rooms["RF"].operands == {"W": 3 * 16, "I": 5 * 16, "O": 2 * 16}
    assert rooms["GLB"].operands == {"I": 20 * 16, "O": 8 * 16}
    assert rooms["GLB"].capacity_bits == chip_of(CHIP).levels[1].usable_bits()


TIGHT = CHIP.replace("capacity: 32B", "capacity: 4B\n    keeps: [W, I, O]")


def test_what_is_infeasible_says_what_would_do() -> None:
    layer, chip = layer_of(SMALL), chip_of(TIGHT)
    found = explain(layer, chip)
    assert found.cost is None
    (need,) = found.needs
    assert (need.violation.memory, need.violation.needed_bytes) == ("RF", 6)
    assert need.suffices
    assert need.is_least
    # Asked of the mapper here as well: six bytes do, five do not.
    assert find_mapping(layer, with_level(chip, 2, capacity=6 * 8)).status is Status.OPTIMAL
    assert find_mapping(layer, with_level(chip, 2, capacity=5 * 8)).status is Status.INFEASIBLE
    assert "6 B of RF suffice, and a byte less is proved too little" in found.sentences


def test_a_mapping_that_does_not_fit_is_explained() -> None:
    large = "DRAM[W I O]:\nGLB[I O]: | K4@x\nRF[W I O]: C4 P6 R3 K2"
    found = explain(layer_of(SMALL), chip_of(CHIP), large)
    assert found.cost is None
    assert found.violations[0].memory == "RF"
    assert found.best.cost is not None
    assert found.gains
    assert "the mapping does not fit RF" in found.sentences[0]


def test_a_table_prices_the_larger_memory_anew() -> None:
    text = CHIP.replace("    capacity: 32B\n    read_pj: 1\n    write_pj: 1", "    capacity: 32B")
    chip = replace_technology(chip_of(text), 2, "yang2016")
    found = explain(layer_of(SMALL), chip)
    assert "yang2016" in gain_of(found, "RF capacity").pricing
    assert gain_of(found, "GLB capacity").pricing == "given"


def replace_technology(chip: Hardware, index: int, table: str) -> Hardware:
    return with_level(chip, index, technology=table, read_pj=None, write_pj=None, update_pj=None)


def test_stopping_returns_what_was_found() -> None:
    asked: list[str] = []
    found = explain(
        layer_of(SMALL),
        chip_of(PORTED),
        should_stop=lambda: len(asked) > 2,
        on_step=lambda what, _, __: asked.append(what),
    )
    assert found.interrupted
    assert len(found.gains) < 3


@pytest.fixture
def nouns(tmp_path: Path) -> list[str]:
    (tmp_path / "layer.yaml").write_text(SMALL)
    (tmp_path / "chip.yaml").write_text(PORTED)
    (tmp_path / "tight.yaml").write_text(TIGHT)
    return [str(tmp_path / name) for name in ("layer.yaml", "chip.yaml", "tight.yaml")]


def test_the_command(capsys: pytest.CaptureFixture[str], nouns: list[str]) -> None:
    assert run(["explain", *nouns[:2], "--json"]) == 0
    found: Json = json.loads(capsys.readouterr().out)
    assert found["command"] == "explain"
    assert found["best"]["status"] == "optimal"
    assert [gain["proved"] for gain in found["gains"]] == [True, True, True]
    assert run(["explain", *nouns[:2], MAPPING, "--objective", "cycles"]) == 0
    shown = capsys.readouterr().out
    assert "◂ limit" in shown
    assert "the best mapping" in shown
    assert run(["explain", nouns[0], nouns[2], "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["needs"][0]["suffices"] is True
