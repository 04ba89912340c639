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

import pytest

import tilewright as tw
from tilewright.mapper import solved as module
from tilewright.mapper.layer import find_mapping
from tilewright.mapper.solved import Question, SolvedLayers
from tilewright.model.convention import DEFAULT

LAYER = tw.einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
CHIP = tw.Hardware("chip", (tw.Level("DRAM", read_pj=200), tw.Level("RF", capacity=1024)))
QUESTION = Question(LAYER, CHIP, tw.Objective.ENERGY, DEFAULT, False, False, None, None, 0)
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
        "from tests.test_solved import QUESTION, replace\n"
        "chip = tw.load_hardware('eyeriss')\n"
        "print(replace(QUESTION, hardware=chip).key(proved=False))"
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
