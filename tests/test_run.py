"""Saved runs: read back, older ones brought up to date, broken ones refused with a message."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from test_cost import CHIP, MAPPING, SMALL

from tilewright.analysis.run import MAX_DEPTH, SCHEMA, parse_run, read_run
from tilewright.cli.main import run
from tilewright.errors import InputError

Json = dict[str, Any]

OLD_MAP = {
    "workload": "small",
    "hardware": "toy",
    "convention": "default",
    "objective": "energy",
    "mapspace": "even, perfect factors, any order, any bypass",
    "layers": [
        {
            "name": "fc",
            "repeat": 2,
            "mapping": "DRAM[W I O]: M4\nRF[I O]: K8",
            "cost": {
                "workload": "fc",
                "hardware": "toy",
                "convention": "default",
                "mapping": "DRAM[W I O]: M4\nRF[I O]: K8",
                "macs": 32,
                "cycles": 32,
                "energy_pj": 6432.0,
                "edp": 205824.0,
                "area_mm2": None,
                "utilization": 1.0,
                "compute_cycles": 32,
                "ramp_cycles": 0,
                "overlap": "perfect",
                "dram_words": 32,
                "levels": [
                    {
                        "memory": "DRAM",
                        "instances": 1,
                        "cycles": 0,
                        "operands": {
                            "W": {
                                "tile_words": 32,
                                "reads": 32,
                                "fills": 0,
                                "updates": 0,
                                "drains": 0,
                                "energy_pj": 6400.0,
                            }
                        },
                    }
                ],
                "compute": {"energy_pj": 32.0},
            },
            "status": "optimal",
            "lower_bound": 6432.0,
            "gap": 0.0,
        }
    ],
    "total": {"energy_pj": 12864.0, "cycles": 64, "edp": 823296.0},
    "seconds": 0.1,
    "version": "0.1.0",
    "inputs": {"workload": "0" * 64},
    "seed": 0,
}
"""As 0.1.0 wrote it: no `schema`, and the command is not named."""
OLD_MAP_TEXT = json.dumps(OLD_MAP)


def test_an_older_document_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(OLD_MAP))
    found = read_run(path)
    assert (found.command, found.written_as, found.document["schema"]) == ("map", 1, SCHEMA)
    (layer,) = found.layers
    assert (layer.name, layer.repeat, layer.status) == ("fc", 2, "optimal")
    assert found.document["total"] == OLD_MAP["total"]


def test_an_older_document_can_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dearer = copy.deepcopy(OLD_MAP)
    cost: Json = dearer["layers"][0]["cost"]  # type: ignore[index]
    cost["energy_pj"] = 12832.0
    cost["levels"][0]["operands"]["W"]["energy_pj"] = 12800.0
    for name, document in (("a", OLD_MAP), ("b", dearer)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    assert run(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"]["energy_pj"] == {"a": 12864.0, "b": 25664.0, "change": 12800 / 12864}
    assert found["parts"][0]["by_price_pj"] == pytest.approx(12800.0)
    assert found["parts"][0]["by_words_pj"] == 0


@pytest.mark.parametrize(
    "command",
    [
        "map LAYER CHIP",
        "evaluate LAYER CHIP MAPPING",
        "show LAYER CHIP MAPPING",
        "show LAYER",
        "curve LAYER --from 64B --to 128B --points 2",
        "cores LAYER CHIP --cores 1",
        "design LAYER --capacity 1KiB --from 512B --to 1KiB --levels 1 --words 64",
        "zoo",
    ],
)
def test_every_command_is_told_without_its_name(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The upgrade finds the command that the document now names: one is checked by the other."""
    (tmp_path / "layer.yaml").write_text(SMALL)
    (tmp_path / "chip.yaml").write_text(CHIP)
    words = {
        "LAYER": str(tmp_path / "layer.yaml"),
        "CHIP": str(tmp_path / "chip.yaml"),
        "MAPPING": MAPPING,
    }
    assert run([*(words.get(word, word) for word in command.split()), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == SCHEMA
    assert document.pop("command") == command.split(maxsplit=1)[0]
    del document["schema"]
    assert parse_run(json.dumps(document)).command == command.split(maxsplit=1)[0]


WRONG = {
    "nothing": ("", "this is not JSON"),
    "text": ("name: x", "this is not JSON"),
    "list": ("[]", "expected one JSON object"),
    "nan": ('{"points": NaN}', "NaN is no number of JSON"),
    "deep": ('{"points": ' + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1) + "}", "nested deeper"),
    "very deep": ("[" * 200_000, "nested deeper|not JSON"),
    "newer": ('{"schema": 99, "command": "map"}', "newer than this program"),
    "no schema": ('{"schema": "x"}', "schema `x` is none"),
    "stranger": ('{"hello": 1}', "no document of tilewright"),
    "failed": ('{"error": {"kind": "input"}}', "a command that failed"),
    "without command": ('{"schema": 2}', "does not say its `command`"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_run_is_refused(name: str) -> None:
    text, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        parse_run(text)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("layers", 3, "layers: expected a list"),
        ("layers.0", [], r"layers\[0\]: expected an object"),
        ("layers.0.name", 7, r"layers\[0\].name: expected a text"),
        ("layers.0.cost", "dear", r"layers\[0\].cost: expected an object"),
        ("layers.0.cost.levels.0.operands.W.reads", "many", r"operands.W.reads: expected a number"),
    ],
)
def test_a_wrong_field_is_named(path: str, value: object, message: str) -> None:
    document: Any = copy.deepcopy(OLD_MAP)
    *steps, last = path.split(".")
    inner = document
    for step in steps:
        inner = inner[int(step) if step.isdecimal() else step]
    inner[int(last) if last.isdecimal() else last] = value
    with pytest.raises(InputError, match=message):
        parse_run(json.dumps(document)).to_frame()


def test_a_missing_file_and_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tilewright.analysis import run as module

    with pytest.raises(InputError, match="cannot read: No such file"):
        read_run(tmp_path / "none.json")
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    (tmp_path / "large.json").write_text(json.dumps(OLD_MAP))
    with pytest.raises(InputError, match="too large"):
        read_run(tmp_path / "large.json")


def test_a_frame_has_every_level_and_operand() -> None:
    frame = parse_run(json.dumps(OLD_MAP)).to_frame()
    assert list(frame["memory"]) == ["DRAM"]
    assert list(frame["reads"]) == [32]
    assert list(frame["repeat"]) == [2]


def test_a_parquet_file_reads_back(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    found = parse_run(json.dumps(OLD_MAP))
    found.to_parquet(tmp_path / "run.parquet")
    table = parquet.read_table(tmp_path / "run.parquet")
    assert table.to_pylist() == found.to_frame().to_dict("records")
    origin = json.loads(table.schema.metadata[b"tilewright"])
    assert (origin["command"], origin["schema"], origin["seed"]) == ("map", SCHEMA, 0)
