"""Pages of documents: what stands on them, and that nothing else gets in or out."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser_cases import DOCUMENTS, HOSTILE, Json, evaluated, hostile, mapped

from tilewright.cli import output
from tilewright.cli.main import run
from tilewright.errors import InputError
from tilewright.report import files, page
from tilewright.report.document import MAX_BYTES, read_document, read_run
from tilewright.report.page import build_page, safe_view
from tilewright.report.vega import charts_script
from tilewright.report.view_layers import cycle_parts


def view_in(html: str) -> Json:
    """The view that a page was given."""
    found = re.search(r'<script type="application/json" id="view">(.*?)</script>', html, re.S)
    assert found
    return json.loads(found[1])


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_every_kind_of_document_has_a_page(kind: str) -> None:
    html = build_page(read_document(json.dumps(DOCUMENTS[kind]()), kind))
    view = view_in(html)
    assert view["kind"] == kind
    assert view["designs"]
    assert view["designs"][0]["layers"]
    assert len(html) < 5_000_000


def test_a_page_loads_nothing() -> None:
    """No element or rule of the page names anything outside it."""
    html = build_page(mapped())
    shell = html.replace(charts_script(), "")
    assert not re.findall(r"""(?:src|href|action|data)\s*=\s*["']?(?!data:)[\w/.]+:?//""", shell)
    assert not re.findall(r"@import|url\(", shell)
    assert "default-src 'none'" in html
    assert "unsafe-eval" not in html
    assert "script-src 'sha256-" in html


def test_figures_are_the_documents() -> None:
    document = mapped()
    view = safe_view(document)
    facts = {fact["label"]: fact["value"] for fact in view["facts"]}
    assert facts["Energy"] == document["total"]["energy_pj"]
    assert facts["Time"] == document["total"]["cycles"]
    assert facts["DRAM words"] == document["total"]["dram_words"]
    assert facts["Proved optimal"] == "1 of 2 layers"
    rows = view["designs"][0]["rows"]
    energy = sum(row["value"] for row in rows["energy"])
    unit = view["specs"]["energy"]["encoding"]["x"]["title"].rpartition(" ")[2]
    scale = {"µJ": 1e6, "nJ": 1e3, "pJ": 1.0}[unit]
    assert energy * scale == pytest.approx(document["total"]["energy_pj"], rel=1e-12)
    assert sum(row["value"] for row in rows["cycles"]) == document["total"]["cycles"]
    for layer, shown in zip(document["layers"], view["designs"][0]["layers"], strict=True):
        assert shown["levels"] == layer["cost"]["levels"]
        assert shown["work"] == layer["work"]


def test_the_parts_of_the_cycles_sum_to_them() -> None:
    serial: Json = {"cycles": 37, "compute_cycles": 20, "ramp_cycles": 7, "macs": 60, "levels": []}
    serial["levels"] = [{"memory": "DRAM", "cycles": 30}, {"memory": "GLB", "cycles": 25}]
    parts = dict(cycle_parts(serial, 4))
    assert sum(parts.values()) == 37
    assert parts["waiting for DRAM"] == 10


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_the_front_and_the_curve_show_every_point(kind: str) -> None:
    document = DOCUMENTS[kind]()
    view = safe_view(document)
    if kind == "codesign":
        assert [row["energy_pj"] for row in view["choice"]["rows"]] == [
            point["energy_pj"] for point in document["front"]
        ]
        assert len(view["designs"]) == len(document["front"])
    if kind == "curve":
        shown = {(row["x"], row["y"]) for row in view["choice"]["rows"]}
        for point in document["points"]:
            assert (point["capacity_bytes"], point["dram_words"]) in shown
            assert (point["capacity_bytes"], point["dram_limit_words"]) in shown


def test_hostile_names_are_text() -> None:
    html = build_page(read_document(json.dumps(hostile(mapped())), "hostile"))
    assert html.count("<script") == html.count("</script>") == 3
    assert "<img src=x" not in html
    assert not [char for char in html.replace("\n", "") if ord(char) < 32 and char != "\t"]
    assert "longlonglong" in html
    assert "long" * 100 not in html
    title = re.search(r"<title>(.*?)</title>", html, re.S)
    assert title
    assert "&lt;/script&gt;" in title[1]
    assert HOSTILE[:20] in view_in(html)["title"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{}",
        '{"layers": NaN, "total": {}}',
        '{"layers": [], "total": {"energy_pj": 1e999}}',
        '{"error": {"kind": "input"}}',
        '{"status": "infeasible", "violations": []}',
        "[" * 100_000,
        '{"layers": ' + "[" * 60 + "]" * 60 + ', "total": {}}',
    ],
)
def test_what_is_no_document_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_document(text, "run.json")


BROKEN: list[Json] = [
    {"layers": [{"name": 1, "cost": {"energy_pj": "x"}}], "total": {}},
    {"layers": [{"cost": {"levels": [{}], "cycles": 3}}], "total": {}},
    {"points": [{"capacity_bytes": 0}]},
    {"points": [{"capacity_bytes": 8, "dram_words": 1, "dram_limit_words": 0, "mapping": 1}]},
    {"front": [{"hardware": {"levels": [{"fanout": {"x": "many"}}]}}], "space": 1},
    {"config": 1, "ports": {"I": 3}},
    {"grid": {}, "levels": [{"capacity_bytes": "x"}], "layers": []},
]


@pytest.mark.parametrize("document", BROKEN)
def test_a_broken_document_ends_in_a_message(document: Json) -> None:
    with pytest.raises(InputError):
        build_page(document)


def test_documents_of_older_versions_are_drawn_as_far_as_they_say() -> None:
    document = mapped()
    del document["chip"]
    for layer in document["layers"]:
        del layer["work"]
    view = safe_view(document)
    assert view["designs"][0]["chip"] is None
    assert view["designs"][0]["layers"][0]["blocks"]


def test_equal_names_are_told_apart() -> None:
    document = mapped()
    for layer in document["layers"]:
        layer["name"] = "same"
    labels = [layer["label"] for layer in safe_view(document)["designs"][0]["layers"]]
    assert labels == ["same", "same (2)"]


def test_a_folder_without_a_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run directory"):
        read_run(str(tmp_path), str)
    (tmp_path / "journal.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="has not ended"):
        read_run(str(tmp_path), str)
    (tmp_path / "result.json").write_text(json.dumps(evaluated()))
    assert read_run(str(tmp_path), str)["energy_pj"] == evaluated()["energy_pj"]


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match="the limit is"):
        read_run(str(path), str)


# ---------------------------------------------------------------------------- the command


def test_the_verb_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(mapped()))
    assert run(["report", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"] == str(tmp_path / "run.html")
    html = (tmp_path / "run.html").read_text()
    assert found["bytes"] == len(html.encode())
    assert view_in(html)["title"] == "two layers on small-chip"
    assert run(["report", str(path), "--out", str(path)]) == 2
    assert run(["report", str(tmp_path / "none.json")]) == 2
    assert run(["report", str(path), "--out", str(tmp_path / "no" / "where.html")]) == 2
    assert json.loads(path.read_text()) == mapped()


def test_a_page_on_standard_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(evaluated())))
    assert run(["report", "-"]) == 0
    assert capsys.readouterr().out.startswith("<!doctype html>")


def _nothing(_: str) -> None:
    return None


SMALL_RUNS: dict[str, list[str]] = {
    "evaluate": ["evaluate", "layer.yaml", "chip.yaml", "mapping.txt"],
    "map": ["map", "layer.yaml", "chip.yaml", "--jobs", "1"],
    "curve": ["curve", "layer.yaml", "--from", "64B", "--to", "256B"],
    "hwc": ["hwc", "conv.yaml"],
    "compile": ["compile", "conv.yaml", "--out", "programs", "--target", "portable"],
}


@pytest.mark.parametrize("verb", SMALL_RUNS)
def test_the_option_report(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page of a command is that of the document which the command prints."""
    from test_cost import CHIP, MAPPING, SMALL

    monkeypatch.chdir(tmp_path)
    Path("layer.yaml").write_text(SMALL)
    Path("chip.yaml").write_text(CHIP)
    Path("mapping.txt").write_text(MAPPING)
    conv = "{in_channels: 4, out_channels: 4, out_height: 4, out_width: 4, kernel: [3, 3]}"
    Path("conv.yaml").write_text(f"name: conv\nconv2d: {conv}\n")
    assert run([*SMALL_RUNS[verb], "--json", "--report", "page.html"]) == 0
    document = json.loads(capsys.readouterr().out)
    shown = view_in(Path("page.html").read_text())
    assert shown == view_in(build_page(read_document(json.dumps(document), "run")))
    assert shown["kind"] == verb
    layer = shown["designs"][shown.get("choice", {}).get("chosen", 0)]["layers"][0]
    assert layer["blocks"]
    assert layer["work"]["einsum"]


def test_a_place_that_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        output.check_report(tmp_path / "no" / "page.html")
    assert run(["map", "resnet18", "eyeriss", "--report", str(tmp_path / "no" / "p.html")]) == 2


def test_a_page_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    path.write_text("before")

    def break_off(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", break_off)
    with pytest.raises(InputError, match="No space left"):
        output.write_report(path, mapped())
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text(json.dumps(evaluated()))
    monkeypatch.setattr(output, "find_spec", _nothing)
    assert run(["report", str(tmp_path / "run.json")]) == 3
    assert "pip install 'tilewright[report]'" in capsys.readouterr().err
    assert not (tmp_path / "run.html").exists()


def test_the_script_is_kept_and_a_spoilt_copy_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = charts_script()
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    assert charts_script() == script
    (kept,) = (tmp_path / "report").iterdir()
    whole = kept.read_text()
    kept.write_text(whole[:-100])
    assert charts_script() == script
    assert kept.read_text() == whole


def test_the_licence_of_the_script_stands_in_it() -> None:
    start = charts_script()[:300]
    assert "Copyright (c) 2015-2023, University of Washington Interactive Data Lab" in start


def test_every_asset_is_in_the_package() -> None:
    names: list[str] = ["page.html", "report.css", *page.SCRIPTS]
    texts: list[Callable[[], Any]] = [lambda name=name: page.asset(name) for name in names]
    assert all(len(text()) > 200 for text in texts)
