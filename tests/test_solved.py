"""Layers that were solved before: found again, never trusted, never an error."""

import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

import tilewright as tw
from tilewright.analysis import explain as explain_module
from tilewright.analysis.explain import Explanation, explain
from tilewright.cli.main import run as run_program
from tilewright.ir.workload import Layer, Network
from tilewright.mapper import network, processes
from tilewright.mapper import solved as module
from tilewright.mapper.cores import CoreStudy, map_on_cores
from tilewright.mapper.design import DesignGrid, DesignResult, design_hierarchy, mac_array
from tilewright.mapper.layer import find_mapping
from tilewright.mapper.question import Question
from tilewright.mapper.solved import SolvedLayers

LAYER = tw.einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
CHIP = tw.Hardware("chip", (tw.Level("DRAM", read_pj=200), tw.Level("RF", capacity=1024)))
QUESTION = Question(LAYER, CHIP)
OTHERS: list[Callable[[Question], Question]] = [
    lambda q: replace(q, workload=tw.einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 9})),
    lambda q: replace(q, hardware=tw.Hardware("chip", (CHIP.levels[0], tw.Level("RF", 512)))),
    lambda q: replace(q, objective=tw.Objective.EDP),
    lambda q: replace(q, convention=tw.CONVENTIONS["timeloop"]),
    lambda q: replace(q, imperfect=True),
    lambda q: replace(q, uneven=True),
    lambda q: replace(q, fix=tw.parse_fix("DRAM: K4")),
]


@pytest.fixture
def kept(tmp_path: Path) -> SolvedLayers:
    return SolvedLayers(tmp_path / "layers.sqlite", on_trouble=pytest.fail)


def test_what_was_solved_is_found(kept: SolvedLayers) -> None:
    assert kept.find(QUESTION) is None
    answer = find_mapping(LAYER, CHIP)
    kept.keep(QUESTION, answer)
    assert kept.find(QUESTION) == replace(answer, is_from_cache=True)


def test_names_seconds_and_seed_do_not_matter_to_what_is_proved(kept: SolvedLayers) -> None:
    kept.keep(QUESTION, find_mapping(LAYER, CHIP))
    renamed = replace(LAYER, name="other"), replace(CHIP, name="other")
    other = replace(QUESTION, workload=renamed[0], hardware=renamed[1], seconds=3.0, seed=7)
    found = kept.find(other)
    assert found is not None
    assert found.workload.name == "other"
    assert found.cost is not None
    assert found.cost.hardware.name == "other"


@pytest.mark.parametrize("other", OTHERS)
def test_all_that_decides_matters(
    kept: SolvedLayers, other: Callable[[Question], Question]
) -> None:
    kept.keep(QUESTION, find_mapping(LAYER, CHIP))
    assert kept.find(other(QUESTION)) is None


def test_every_process_gives_the_same_name() -> None:
    code = (
        "import tilewright as tw\n"
        "from tests.test_solved import QUESTION, module, replace\n"
        "chip = tw.load_hardware('eyeriss')\n"
        "print(module.question_key(replace(QUESTION, hardware=chip), proved=False))"
    )
    names = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(names) == 1


def test_other_code_solves_anew(kept: SolvedLayers, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.keep(QUESTION, find_mapping(LAYER, CHIP))
    monkeypatch.setattr(module, "_sources", lambda: "another version")
    assert kept.find(QUESTION) is None


def test_what_is_not_proved_holds_for_its_time_and_seed(kept: SolvedLayers) -> None:
    answer = replace(find_mapping(LAYER, CHIP), status=tw.Status.BEST_FOUND)
    asked = replace(QUESTION, seconds=1.0)
    kept.keep(asked, answer)
    assert kept.find(asked) == replace(answer, is_from_cache=True)
    assert kept.find(replace(asked, seconds=2.0)) is None
    assert kept.find(replace(asked, seed=1)) is None
    assert kept.find(QUESTION) is None


def test_interrupted_ones_are_not_kept(kept: SolvedLayers) -> None:
    kept.keep(QUESTION, replace(find_mapping(LAYER, CHIP), interrupted=True))
    assert kept.find(QUESTION) is None


def test_what_does_not_fit_is_found_with_its_reasons(kept: SolvedLayers) -> None:
    tight = tw.Hardware("tight", (tw.Level("DRAM"), tw.Level("RF", 4, keeps=frozenset("WIO"))))
    answer = find_mapping(LAYER, tight)
    assert answer.status is tw.Status.INFEASIBLE
    asked = replace(QUESTION, hardware=tight)
    kept.keep(asked, answer)
    assert kept.find(asked) == replace(answer, is_from_cache=True)


@pytest.mark.parametrize(
    ("was", "is_now"),
    [('"lower_bound": ', '"lower_bound": 1'), ("K8", "K7"), ("RF[", "XX["), ("{", "")],
)
def test_an_answer_that_is_not_what_was_proved_is_not_used(
    kept: SolvedLayers, was: str, is_now: str
) -> None:
    kept.keep(QUESTION, find_mapping(LAYER, CHIP))
    with sqlite3.connect(kept.file) as database:
        database.execute("UPDATE solved SET answer = replace(answer, ?, ?)", [was, is_now])
    database.close()
    assert kept.find(QUESTION) is None


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\0" + b"x" * 9000]
)
def test_a_corrupt_file_is_set_aside(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "layers.sqlite"
    file.write_bytes(content)
    told: list[str] = []
    kept = SolvedLayers(file, on_trouble=told.append)
    answer = find_mapping(LAYER, CHIP)
    kept.keep(QUESTION, answer)
    assert len(told) == 1
    assert "layers.corrupt" in told[0]
    assert file.with_suffix(".corrupt").read_bytes() == content
    kept.keep(QUESTION, answer)
    assert kept.find(QUESTION) == replace(answer, is_from_cache=True)


def test_a_folder_that_cannot_be_made_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told: list[str] = []
    kept = SolvedLayers(tmp_path / "file" / "layers.sqlite", on_trouble=told.append)
    assert kept.find(QUESTION) is None
    kept.keep(QUESTION, find_mapping(LAYER, CHIP))
    assert len(told) == 1
    assert "not kept" in told[0]


def test_old_answers_are_dropped(kept: SolvedLayers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ANSWERS", 3)
    answer = replace(find_mapping(LAYER, CHIP), status=tw.Status.BEST_FOUND)
    for seed in range(5):
        kept.keep(replace(QUESTION, seed=seed), answer)
    assert [kept.find(replace(QUESTION, seed=seed)) is None for seed in range(5)] == [
        True, True, False, False, False,
    ]  # fmt: skip


def _keep_many(file: Path, first: int) -> None:
    kept = SolvedLayers(file, on_trouble=sys.exit)
    answer = replace(find_mapping(LAYER, CHIP), status=tw.Status.BEST_FOUND)
    for seed in range(first, first + 20):
        kept.keep(replace(QUESTION, seed=seed), answer)


def test_processes_write_side_by_side(kept: SolvedLayers) -> None:
    context = multiprocessing.get_context("spawn")
    starts = range(0, 80, 20)
    writers = [context.Process(target=_keep_many, args=(kept.file, first)) for first in starts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert all(kept.find(replace(QUESTION, seed=seed)) for seed in range(80))


def test_map_solves_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.delenv("TILEWRIGHT_NO_CACHE")
    command = [sys.executable, "-m", "tilewright", "map", "resnet18:fc", "eyeriss", "--json"]

    def run(*options: str) -> dict[str, object]:
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
        layer = json.loads(done.stdout)["layers"][0]
        assert layer["status"] == "optimal"
        return layer

    first, again, anew = run(), run(), run("--no-cache")
    assert [layer.pop("cached") for layer in (first, again, anew)] == [False, True, False]
    assert first == again
    assert first["cost"] == anew["cost"]


# Every command that maps layers: the second time nothing is searched, and the answer is the same.

MATMUL = tw.einsum("mm", "O[M,N] += A[M,K] * B[K,N]", {"M": 4, "N": 8, "K": 8})
NETWORK = Network("tiny", (Layer(MATMUL, 3), Layer(LAYER)))
SMALL_CHIP = tw.Hardware("small", (tw.Level("DRAM", read_pj=200), tw.Level("BUF", capacity=2048)))


def spread(kept: SolvedLayers | None, jobs: int = 1) -> CoreStudy:
    return map_on_cores(NETWORK, SMALL_CHIP, (1, 2), solved=kept, jobs=jobs)


def designed(kept: SolvedLayers | None, jobs: int = 1) -> DesignResult:
    grid = DesignGrid((1, 2), tuple(8 * 32 * 4**n for n in range(3)))
    return design_hierarchy(NETWORK, grid, mac_array(2, 1), solved=kept, jobs=jobs)


def explained(kept: SolvedLayers | None) -> Explanation:
    return explain(MATMUL, SMALL_CHIP, solved=kept)


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*_: object, **__: object) -> None:
        pytest.fail("a layer that was solved before is searched again")

    for searcher in (processes, network, explain_module):
        monkeypatch.setattr(searcher, "solve_layer", search)


def alike(answer: object) -> object:
    """An answer as JSON, without what tells a search from a memory of it."""

    def strip(value: object) -> object:
        if isinstance(value, dict):
            told = ("seconds", "evaluated", "cached", "solved")
            entries = cast("dict[str, object]", value)
            return {name: strip(v) for name, v in entries.items() if name not in told}
        if isinstance(value, list):
            return [strip(v) for v in cast("list[object]", value)]
        return value

    assert isinstance(answer, CoreStudy | DesignResult | Explanation)
    return strip(answer.to_json())


@pytest.mark.parametrize("jobs", [1, 2])
def test_cores_are_not_searched_again(
    kept: SolvedLayers, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    anew, first = spread(None), spread(kept, jobs)
    forbid(monkeypatch)
    again = spread(kept, jobs)
    assert alike(anew) == alike(first) == alike(again)
    choices = [c for point in again.points for layer in point.layers for c in layer]
    assert len(choices) == 8
    assert all(choice.result.is_from_cache for choice in choices)


def test_gains_are_not_searched_again(kept: SolvedLayers, monkeypatch: pytest.MonkeyPatch) -> None:
    anew, first = explained(None), explained(kept)
    forbid(monkeypatch)
    assert alike(anew) == alike(first) == alike(explained(kept))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_design_is_found_again(kept: SolvedLayers, jobs: int) -> None:
    anew, first, again = designed(None), designed(kept, jobs), designed(kept)
    for found in (first, again):
        assert found.best is not None
        assert anew.best is not None
        assert found.value == anew.value
        assert found.status is tw.Status.OPTIMAL
        assert found.best.hierarchy == anew.best.hierarchy
    assert again.best is not None
    assert all(layer.is_from_cache for layer in again.best.layers)


def test_bounds_that_excluded_a_hierarchy_are_not_kept_as_answers(kept: SolvedLayers) -> None:
    designed(kept)
    with sqlite3.connect(kept.file) as database:
        rows = [json.loads(text) for (text,) in database.execute("SELECT answer FROM solved")]
    database.close()
    assert rows
    assert {row["status"] for row in rows} == {"optimal"}


def test_an_answer_of_one_command_serves_another(kept: SolvedLayers) -> None:
    tw.map_network(NETWORK, SMALL_CHIP, jobs=1, solved=kept)
    one_core = spread(kept).points[0].layers
    assert [choices[0].result.is_from_cache for choices in one_core] == [True, True]
    assert explained(kept).best.is_from_cache


def test_what_was_tampered_with_is_searched_again(kept: SolvedLayers) -> None:
    first = spread(kept)
    with sqlite3.connect(kept.file) as database:
        database.execute("""UPDATE solved SET answer = replace(answer, '"lower_bound": ', '9')""")
    database.close()
    assert alike(spread(kept)) == alike(first)


COMMANDS = {
    "cores": ["cores", "resnet18:fc", "eyeriss", "--cores", "1"],
    "explain": ["explain", "resnet18:fc", "eyeriss"],
    "compare": ["compare", "eyeriss", "eyeriss", "--workload", "resnet18:fc", "--jobs", "1"],
    "design": [
        "design", "resnet18:fc", "--capacity", "64KiB", "--levels", "1", "--from", "64KiB",
        "--to", "64KiB",
    ],
}  # fmt: skip


@pytest.mark.parametrize("verb", COMMANDS)
def test_commands_keep_what_they_solve_unless_told_not_to(
    verb: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.delenv("TILEWRIGHT_NO_CACHE")
    file = tmp_path / "solved" / "layers.sqlite"
    assert run_program([*COMMANDS[verb], "--json", "--no-cache"]) == 0
    assert not file.exists()
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no database at all" * 100)
    assert run_program([*COMMANDS[verb], "--json"]) == 0
    assert "layers.corrupt" in capsys.readouterr().err
    with sqlite3.connect(file) as database:
        ((count,),) = database.execute("SELECT count(*) FROM solved")
    database.close()
    assert count > 0
    forbid(monkeypatch)
    assert run_program([*COMMANDS[verb], "--json"]) == 0


def _spread_in_process(file: Path, expected: object) -> None:
    for _ in range(3):
        assert alike(spread(SolvedLayers(file, on_trouble=sys.exit))) == expected


def test_processes_search_and_remember_side_by_side(kept: SolvedLayers) -> None:
    expected = alike(spread(None))
    context = multiprocessing.get_context("spawn")
    each = [context.Process(target=_spread_in_process, args=(kept.file, expected)) for _ in "123"]
    for process in each:
        process.start()
    for process in each:
        process.join()
    assert [process.exitcode for process in each] == [0, 0, 0]
