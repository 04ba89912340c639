"""Two runs side by side: the parts sum to the whole, and what is said is what was changed."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from strategies import Triple, triples
from test_cost import MAPPING, SMALL
from test_messages import CHIP

from tilewright.analysis import difference
from tilewright.analysis.difference import Comparison, chip_settings, compare_runs
from tilewright.analysis.run import Run, parse_run, run_of
from tilewright.cli.main import run
from tilewright.errors import InputError
from tilewright.ir.hardware import Hardware, Level
from tilewright.model.cost import Cost
from tilewright.model.evaluate import evaluate

Json = dict[str, Any]
OTHER = "DRAM[W I O]: P3 K2\nGLB[I O]: C4 | K4@x\nRF[W I O]: P2 R3"


@pytest.fixture
def nouns(tmp_path: Path) -> list[str]:
    (tmp_path / "layer.yaml").write_text(SMALL)
    (tmp_path / "chip.yaml").write_text(CHIP)
    return [str(tmp_path / "layer.yaml"), str(tmp_path / "chip.yaml")]


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Json:
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def as_run(cost: Cost, name: str) -> Run:
    """The run of a cost, through the text of its document, as a file would hold it."""
    text = json.dumps(cost.to_json() | {"schema": 2, "command": "evaluate"})
    return parse_run(text, name)


def unexplained(found: Comparison) -> float:
    """The change of energy that the parts do not account for, in pJ."""
    parts = math.fsum(part.by_words_pj + part.by_price_pj for part in found.parts)
    return found.totals["energy_pj"].difference - parts


def on_a_dearer_chip(triple: Triple) -> Cost:
    """The mapping's cost where every word costs something else."""
    chip = triple.hardware
    levels = tuple(
        replace(level, read_pj=3.5 * index + 0.25, write_pj=1.5 * index + 2, update_pj=None)
        for index, level in enumerate(chip.levels)
    )
    return evaluate(triple.workload, replace(chip, levels=levels), triple.mapping)


@settings(max_examples=100)
@given(triples())
def test_words_and_prices_account_for_every_pj(triple: Triple) -> None:
    try:
        a = evaluate(triple.workload, triple.hardware, triple.mapping)
        b = on_a_dearer_chip(triple)
    except InputError:  # outputs that overlap between instances have no closed form
        return
    found = compare_runs(as_run(a, "a"), as_run(b, "b"))
    whole = found.totals["energy_pj"].difference
    assert whole == pytest.approx(b.energy_pj - a.energy_pj)
    assert abs(unexplained(found)) <= 1e-9 * max(a.energy_pj, b.energy_pj, 1.0)


def test_a_split_that_loses_something_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from test_cost import cost_of

    a, b = cost_of(), cost_of(mapping=OTHER)
    whole = difference._split

    def lose(*sides: Any) -> tuple[float, float]:
        return whole(*sides)[0] * 0.5, whole(*sides)[1]

    assert abs(unexplained(compare_runs(as_run(a, "a"), as_run(b, "b")))) < 1e-6
    monkeypatch.setattr(difference, "_split", lose)
    assert abs(unexplained(compare_runs(as_run(a, "a"), as_run(b, "b")))) > 100


def test_two_mappings(capsys: pytest.CaptureFixture[str], nouns: list[str]) -> None:
    options = ("--workload", nouns[0], "--hardware", nouns[1])
    found = document(capsys, "compare", MAPPING, OTHER, *options)
    assert found["kind"] == "mappings"
    assert found["command"] == "compare"
    priced = [document(capsys, "evaluate", *nouns, mapping) for mapping in (MAPPING, OTHER)]
    for key in ("energy_pj", "cycles", "edp", "dram_words"):
        assert [found["total"][key][side] for side in "ab"] == [each[key] for each in priced]
    moves = ("reads", "fills", "updates", "drains")
    kept = {(level["memory"], name) for level in priced[0]["levels"] for name in level["operands"]}
    said = {(part["memory"], part["operand"]): part for part in found["parts"]}
    for memory, name in kept:
        figures = [
            next(level for level in each["levels"] if level["memory"] == memory)["operands"][name]
            for each in priced
        ]
        words = [sum(each[move] for move in moves) for each in figures]
        if words[0] == words[1]:  # what does not change is left out
            assert (memory, name) not in said
        else:
            assert [said[memory, name]["words"][side] for side in "ab"] == words
            pair = [each["energy_pj"] for each in figures]
            assert [said[memory, name]["energy_pj"][side] for side in "ab"] == pair
    assert said
    assert any(reason.startswith("DRAM I: ") for reason in found["reasons"])
    assert found["layers"][0]["mapping"] == {"a": MAPPING, "b": OTHER}


def test_equal_mappings_do_not_differ(capsys: pytest.CaptureFixture[str], nouns: list[str]) -> None:
    options = ("--workload", nouns[0], "--hardware", nouns[1])
    assert document(capsys, "compare", MAPPING, MAPPING, *options)["same"] is True
    assert run(["compare", MAPPING, MAPPING, *options]) == 0
    assert "nothing differs" in capsys.readouterr().out


def test_two_chips(capsys: pytest.CaptureFixture[str], nouns: list[str], tmp_path: Path) -> None:
    larger = tmp_path / "larger.yaml"
    larger.write_text(CHIP.replace("capacity: 32B", "capacity: 64B"))
    found = document(capsys, "compare", nouns[1], str(larger), "--workload", nouns[0])
    assert found["kind"] == "chips"
    assert {"name": "RF.capacity", "a": "32 B", "b": "64 B"} in found["settings"]
    mapped = [document(capsys, "map", nouns[0], chip) for chip in (nouns[1], str(larger))]
    pair = [found["total"]["energy_pj"][side] for side in "ab"]
    assert pair == [each["total"]["energy_pj"] for each in mapped]
    assert pair[1] <= pair[0]  # a larger memory of the same price never costs more
    assert found["layers"][0]["status"] == {"a": "optimal", "b": "optimal"}


def test_what_only_one_side_keeps_is_said(
    capsys: pytest.CaptureFixture[str], nouns: list[str]
) -> None:
    bypass = "DRAM[W I O]: K2 P3\nGLB[I]: C4 | K4@x\nRF[W I O]: P2 R3"
    options = ("--workload", nouns[0], "--hardware", nouns[1])
    found = document(capsys, "compare", MAPPING, bypass, *options)
    assert any("A keeps O in GLB, B does not" in reason for reason in found["reasons"])


def test_a_mapping_that_does_not_fit_says_which(
    capsys: pytest.CaptureFixture[str], nouns: list[str]
) -> None:
    large = "DRAM[W I O]:\nGLB[I O]: | K4@x\nRF[W I O]: C4 P6 R3 K2"
    options = ("--workload", nouns[0], "--hardware", nouns[1])
    assert run(["compare", MAPPING, large, *options]) == 1
    assert "mapping B: tiles need" in capsys.readouterr().err


def saved(capsys: pytest.CaptureFixture[str], path: Path, *arguments: str) -> str:
    path.write_text(json.dumps(document(capsys, *arguments)))
    return str(path)


def test_runs_of_map(capsys: pytest.CaptureFixture[str], nouns: list[str], tmp_path: Path) -> None:
    a = saved(capsys, tmp_path / "a.json", "map", *nouns)
    b = saved(capsys, tmp_path / "b.json", "map", *nouns, "--objective", "dram")
    found = document(capsys, "compare", a, b)
    assert {"name": "objective", "a": "energy", "b": "dram"} in found["settings"]
    totals = [json.loads(Path(path).read_text())["total"] for path in (a, b)]
    for key in ("energy_pj", "cycles", "dram_words", "edp"):
        assert [found["total"][key][side] for side in "ab"] == [each[key] for each in totals]


def test_runs_of_curve(
    capsys: pytest.CaptureFixture[str], nouns: list[str], tmp_path: Path
) -> None:
    sizes = ("--from", "64B", "--to", "256B", "--points", "3")
    a = saved(capsys, tmp_path / "a.json", "curve", nouns[0], *sizes)
    b = saved(capsys, tmp_path / "b.json", "curve", nouns[0], *sizes, "--uneven")
    found = document(capsys, "compare", a, b)
    points = json.loads(Path(a).read_text())["points"]
    assert [point["dram_words"]["a"] for point in found["points"]] == [
        point["dram_words"] for point in points
    ]
    assert all(point["dram_words"]["change"] <= 0 for point in found["points"])
    assert run(["compare", a, b]) == 0
    assert "256 B" in capsys.readouterr().out


def test_other_runs_by_their_figures() -> None:
    a = run_of({"cycles": 100, "ports": {"I": {"words": 50}}, "seconds": 1.0}, "hwc", "a")
    b = run_of({"cycles": 100, "ports": {"I": {"words": 75}}, "seconds": 2.0}, "hwc", "b")
    found = compare_runs(a, b)
    assert [(name, change.share) for name, change in found.figures] == [("ports.I.words", 0.5)]


def test_fronts_of_codesign_by_their_places() -> None:
    def front(*energies: float) -> Run:
        points = [
            {"energy_pj": pj, "hardware": {"levels": [{"memory": "GLB", "capacity_bits": pj * 8}]}}
            for pj in energies
        ]
        return run_of({"front": points, "space": {}}, "codesign", "study")

    found = compare_runs(front(100.0, 50.0), front(80.0))
    assert [(at, figures["energy_pj"].share) for at, figures in found.points] == [
        ("chip 1 of the front", -0.2)
    ]
    assert found.missing == ("chip 2 of the front is in A only",)
    assert [setting.name for setting in found.settings] == ["chip.levels[0].capacity_bits"]


def test_runs_that_say_different_things_are_refused() -> None:
    with pytest.raises(InputError, match="A was made by `hwc`, B by `compile`"):
        compare_runs(run_of({}, "hwc", "a"), run_of({}, "compile", "b"))


def test_layers_that_only_one_run_has_are_named() -> None:
    from test_cost import cost_of

    cost = cost_of().to_json()

    def network(*names: str) -> Run:
        layers = [
            {"name": name, "repeat": 1, "status": "optimal", "mapping": "", "cost": cost}
            for name in names
        ]
        return run_of({"layers": layers}, "map", "+".join(names))

    found = compare_runs(network("one", "two", "three"), network("one", "two", "four"))
    assert found.missing == ("three is in A only", "four is in B only")
    assert len(found.layers) == 2
    assert not found.is_same


def test_chips_are_compared_field_by_field() -> None:
    a = Hardware("a", (Level("DRAM", bandwidth=4), Level("GLB", 8192, keeps=frozenset({"I"}))))
    b = Hardware("b", (Level("DRAM", bandwidth=8), Level("GLB", (("I", 8192),))), clock_ghz=2.0)
    said = {setting.name: (setting.a, setting.b) for setting in chip_settings(a, b)}
    assert said == {
        "clock_ghz": ("1", "2"),
        "DRAM.bandwidth": ("4", "8"),
        "GLB.capacity": ("1 KiB", "I 1 KiB"),
        "GLB.keeps": ("I", "–"),
    }


def test_the_table(
    capsys: pytest.CaptureFixture[str], nouns: list[str], golden: Callable[[str, str], None]
) -> None:
    options = ("--workload", nouns[0], "--hardware", nouns[1])
    assert run(["compare", MAPPING, OTHER, *options]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.split("\n")]
    golden("cli/compare.txt", "\n".join(lines))


def test_missing_options_are_asked_for(
    capsys: pytest.CaptureFixture[str], nouns: list[str]
) -> None:
    assert run(["compare", nouns[1], nouns[1]]) == 2
    assert "--workload is missing" in capsys.readouterr().err
