"""The program as tests from outside drive it: documents, streams, exit codes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_cost import CHIP, MAPPING, SMALL, cost_of

from tilewright import zoo
from tilewright.cli import main as program
from tilewright.cli import start
from tilewright.cli.main import main, run
from tilewright.ir.fix import parse_fix
from tilewright.ir.mapping import parse_mapping
from tilewright.model import evaluate as evaluation
from tilewright.report.nest import format_nest
from tilewright.report.picture import draw_nest

Json = dict[str, Any]
Golden = Callable[[str, str], None]


@pytest.fixture
def nouns(tmp_path: Path) -> list[str]:
    (tmp_path / "layer.yaml").write_text(SMALL)
    (tmp_path / "chip.yaml").write_text(CHIP)
    return [str(tmp_path / "layer.yaml"), str(tmp_path / "chip.yaml"), MAPPING]


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Json:
    """The one JSON document that a command prints on stdout."""
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_evaluate(capsys: pytest.CaptureFixture[str], nouns: list[str]) -> None:
    found = document(capsys, "evaluate", *nouns, "--walk")
    assert found["energy_pj"] == 93568.0
    assert found["mapping"] == MAPPING
    assert found["walk"] == {"agrees": True, "mismatches": []}
    assert set(found["inputs"]) == {"workload", "hardware", "mapping"}
    assert all(len(digest) == 64 for digest in found["inputs"].values())
    assert found["tables"]["GLB"] == {"energy": "given", "area": "none"}
    assert found["seed"] is None
    assert found["version"]


def test_a_mapping_from_a_file_and_from_standard_input(
    capsys: pytest.CaptureFixture[str],
    nouns: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import io

    path = tmp_path / "mapping.txt"
    path.write_text(MAPPING + "  # as in the specification\n")
    from_file = document(capsys, "evaluate", *nouns[:2], str(path))
    monkeypatch.setattr("sys.stdin", io.StringIO(MAPPING))
    from_stdin = document(capsys, "evaluate", *nouns[:2], "-")
    assert from_file["energy_pj"] == from_stdin["energy_pj"] == 93568.0
    assert from_file["mapping"] == from_stdin["mapping"] == MAPPING


def test_the_same_inputs_have_the_same_digests(
    capsys: pytest.CaptureFixture[str], nouns: list[str]
) -> None:
    import hashlib

    found = document(capsys, "evaluate", *nouns)["inputs"]
    for name, path in zip(("workload", "hardware"), nouns, strict=False):
        assert found[name] == hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_serial_overlap(capsys: pytest.CaptureFixture[str], nouns: list[str]) -> None:
    Path(nouns[1]).write_text(CHIP.replace("{memory: DRAM,", "{memory: DRAM, bandwidth: 4,"))
    found = document(capsys, "evaluate", *nouns, "--overlap", "serial")
    assert found["ramp_cycles"] == 5 + 2 + 1  # I and O of GLB, W of RF; W passes GLB by
    assert found["cycles"] == found["compute_cycles"] + found["ramp_cycles"]


def test_a_walk_that_differs_is_a_failed_check(
    capsys: pytest.CaptureFixture[str], nouns: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tilewright.model import exact

    def share_nothing(_before: int, now: int, _move: int) -> tuple[int, int, int]:
        return now, 0, 0

    monkeypatch.setattr(exact, "_share_interval", share_nothing)
    found = document(capsys, "evaluate", *nouns, "--walk", code=1)
    assert not found["walk"]["agrees"]
    assert {"place", "exact", "walk"} == set(found["walk"]["mismatches"][0])
    assert evaluation.compare_with_walk.__module__ == "tilewright.model.evaluate"


def test_what_does_not_fit(capsys: pytest.CaptureFixture[str], nouns: list[str]) -> None:
    Path(nouns[1]).write_text(CHIP.replace("{memory: RF,", "{memory: RF, capacity: 8B,"))
    found = document(capsys, "evaluate", *nouns, code=1)
    assert found["status"] == "infeasible"
    (violation,) = found["violations"]
    assert violation["memory"] == "RF"
    assert violation["operands"] == ["W", "I", "O"]
    assert (violation["needed_bytes"], violation["capacity_bytes"]) == (20, 8)


def test_wrong_input(capsys: pytest.CaptureFixture[str], nouns: list[str]) -> None:
    Path(nouns[0]).write_text(SMALL.replace("K: 8", "K: 0"))
    found = document(capsys, "evaluate", *nouns, code=2)
    assert found["error"]["kind"] == "input"
    (problem,) = found["error"]["problems"]
    assert (problem["line"], problem["column"]) == (4, 12)
    assert "expected a whole number of at least 1" in problem["what"]


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, "nothing", code=2)["error"]["kind"] == "usage"


def test_a_bug_is_no_traceback(
    capsys: pytest.CaptureFixture[str], nouns: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr("tilewright.cli.evaluate.evaluate", fail)
    found = document(capsys, "evaluate", *nouns, code=70)
    assert found["error"]["kind"] == "bug"
    assert "RuntimeError: planted" in found["error"]["problems"][0]["what"]
    monkeypatch.setenv("TILEWRIGHT_DEBUG", "1")
    run(["evaluate", *nouns])
    assert "Traceback" in capsys.readouterr().err


def test_what_is_not_installed_is_named(
    capsys: pytest.CaptureFixture[str], nouns: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask_for_a_frame(*_: object, **__: object) -> None:
        cost_of().to_frame()

    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setattr("tilewright.cli.evaluate.evaluate", ask_for_a_frame)
    found = document(capsys, "evaluate", *nouns, code=3)
    assert found["error"]["kind"] == "tool"
    assert found["error"]["problems"][0]["fix"] == "pip install 'tilewright[pandas]'"


def test_show_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "show", "vgg16")
    assert found["macs"] == zoo.load_network("vgg16").macs
    assert set(found["layers"][0]) >= {"name", "repeat", "macs", "einsum", "sizes"}
    assert found["not_costed"] == []
    total = sum(layer["macs"] * layer["repeat"] for layer in found["layers"])
    assert total == found["macs"]


def test_show_one_layer(capsys: pytest.CaptureFixture[str]) -> None:
    """conv3_3 equals conv3_2 and is counted under its name, but can be asked for by its own."""
    found = document(capsys, "show", "vgg16:conv3_3")
    assert [layer["name"] for layer in found["layers"]] == ["conv3_3"]


def test_show_a_nest(capsys: pytest.CaptureFixture[str], nouns: list[str], tmp_path: Path) -> None:
    picture = tmp_path / "nest.svg"
    found = document(capsys, "show", *nouns, "--svg", str(picture))
    assert [line["memory"] for line in found["nest"] if "memory" in line] == ["DRAM", "GLB", "RF"]
    assert picture.read_text().startswith("<svg")


def test_zoo(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "zoo")
    assert {"resnet18", "vgg16"} <= {entry["name"] for entry in found["networks"]}
    assert {"eyeriss", "tpu"} <= {entry["name"] for entry in found["hardware"]}
    assert {"yang2016", "interstellar"} <= {entry["name"] for entry in found["technologies"]}
    assert all(entry["source"] for kind in ("networks", "hardware") for entry in found[kind])


def test_a_zoo_entry_is_a_file_to_start_from(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["zoo", "eyeriss"]) == 0
    path = tmp_path / "mine.yaml"
    path.write_text(capsys.readouterr().out)
    found = document(
        capsys,
        "evaluate",
        "vgg16:conv5_1",
        str(path),
        "DRAM[W I O]: K512 C512 P14 Q14 R3 S3\nGLB[I O]:\nRF[W]:",
    )
    assert found["macs"] == 512 * 512 * 14 * 14 * 9


def test_map(capsys: pytest.CaptureFixture[str], nouns: list[str]) -> None:
    found = document(capsys, "map", nouns[0], nouns[1], "--jobs", "1")
    (layer,) = found["layers"]
    assert layer["status"] == "optimal"
    assert layer["lower_bound"] == layer["cost"]["energy_pj"]
    assert layer["gap"] == 0.0
    assert layer["cost"]["mapping"] == layer["mapping"]
    assert layer["dram_words"] >= layer["dram_limit_words"]
    assert found["total"]["energy_pj"] == layer["cost"]["energy_pj"]
    assert found["mapspace"] == "even, perfect factors, any order, any bypass"
    assert found["seed"] == 0
    parse_mapping(layer["mapping"])


FIX = "GLB: C2 K | P@x  # by hand\nRF[W]:"
PRINTED = "GLB: C2 K | P@x\nRF[W]:"


def test_a_fix_as_text_from_a_file_and_from_standard_input(
    capsys: pytest.CaptureFixture[str],
    nouns: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import io

    (tmp_path / "fix.txt").write_text(FIX)
    found: list[Json] = []
    for given in (FIX, str(tmp_path / "fix.txt"), "-"):
        monkeypatch.setattr("sys.stdin", io.StringIO(FIX))
        found.append(document(capsys, "map", *nouns[:2], "--jobs", "1", "--fix", given))
    for one in found:
        (layer,) = one["layers"]
        assert one["fix"] == PRINTED
        assert one["mapspace"] == (
            "even, perfect factors, any order, any bypass, with: GLB: C2 K | P@x; RF[W]:"
        )
        assert len(one["inputs"]["fix"]) == 64
        assert layer["status"] == "optimal"
        assert layer["lower_bound"] == layer["cost"]["energy_pj"]
        assert parse_fix(FIX).is_in(parse_mapping(layer["mapping"]))
    assert len({one["layers"][0]["mapping"] for one in found}) == 1
    free = document(capsys, "map", *nouns[:2], "--jobs", "1")
    assert "fix" not in free
    assert free["total"]["energy_pj"] <= found[0]["total"]["energy_pj"]


def test_a_fix_for_a_network_in_processes(
    capsys: pytest.CaptureFixture[str], nouns: list[str], tmp_path: Path
) -> None:
    one, two = SMALL, 'name: fc\neinsum: "O[K,N] += W[K,C] * I[C,N]"\nsizes: {K: 4, C: 4, N: 2}\n'
    layers = "".join("  - " + text.strip().replace("\n", "\n    ") + "\n" for text in (one, two))
    (tmp_path / "net.yaml").write_text("name: net\nlayers:\n" + layers)
    net = str(tmp_path / "net.yaml")
    found = document(capsys, "map", net, nouns[1], "--jobs", "2", "--fix", "GLB: | P@x")
    for layer in found["layers"]:
        assert layer["status"] == "optimal"
        assert parse_fix("GLB: | P@x").is_in(parse_mapping(layer["mapping"]))


def test_a_fix_under_which_nothing_fits(
    capsys: pytest.CaptureFixture[str], nouns: list[str]
) -> None:
    found = document(capsys, "map", *nouns[:2], "--jobs", "1", "--fix", "GLB: | K8@x", code=1)
    assert found["status"] == "infeasible"
    assert found["layers"][0]["cost"] is None
    assert "K8@x, 8 copies of axis x; the fan-out has 4" in found["layers"][0]["reason"]


def test_map_prints_a_table(capsys: pytest.CaptureFixture[str], nouns: list[str]) -> None:
    assert run(["map", nouns[0], nouns[1], "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "optimal" in printed
    assert "DRAM[W I O]:" in printed
    assert "total" in printed


def test_an_infeasible_layer_is_an_answer(
    capsys: pytest.CaptureFixture[str], nouns: list[str]
) -> None:
    keeps = "{memory: RF, capacity: 4B, keeps: [W, I, O],"
    Path(nouns[1]).write_text(CHIP.replace("{memory: RF,", keeps))
    found = document(capsys, "map", nouns[0], nouns[1], "--jobs", "1", code=1)
    assert found["status"] == "infeasible"
    assert found["violations"][0]["memory"] == "RF"
    assert found["layers"][0]["cost"] is None
    assert "tiles need 6 B" in found["layers"][0]["reason"]
    assert run(["map", nouns[0], nouns[1], "--jobs", "1"]) == 1
    assert "cannot be mapped: RF: tiles need 6 B" in capsys.readouterr().out


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_prints_what_was_found(jobs: str) -> None:
    command = [sys.executable, "-m", "tilewright", "map", "vgg16", "eyeriss", "--json"]
    with subprocess.Popen(
        [*command, "--jobs", jobs, "--seconds", "120", "--imperfect"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        time.sleep(6)
        os.kill(process.pid, signal.SIGINT)
        printed, complaints = process.communicate(timeout=30)
    assert process.returncode == 130, complaints
    found = json.loads(printed)
    assert found["interrupted"] is True
    assert len(found["layers"]) >= 1
    assert all(layer["cost"] for layer in found["layers"])


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m tilewright show resnet50 | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, tilewright; "
        "print([m for m in ('numpy', 'onnx', 'pandas', 'numba', 'jax', 'rich', 'typer') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_program_starts_without_a_compiler() -> None:
    code = (
        "import sys; import tilewright.cli.main; "
        "print([m for m in ('onnx', 'pandas', 'numba', 'jax', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    verbs = [command.name for command in program.app.registered_commands]
    assert len(verbs) >= 10
    for verb in verbs:
        assert verb
        assert run([verb, "--help"]) == 0
        assert f"Example: tilewright {verb}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tilewright ")
    assert program.main.__doc__


UNEVEN = "DRAM[W I O]: K2\nGLB[]: P3\nGLB[I O]: C4 | K4@x\nRF[W]: P2\nRF[I O]: R3"


@pytest.mark.parametrize(("name", "mapping"), [("even", MAPPING), ("uneven", UNEVEN)])
def test_nests(name: str, mapping: str, golden: Golden) -> None:
    cost = cost_of(CHIP.replace("{memory: RF,", "{memory: RF, capacity: 24B,"), mapping)
    golden(f"nest/{name}.txt", format_nest(cost) + "\n")
    golden(f"nest/{name}.svg", draw_nest(cost) + "\n")


def test_names_in_a_picture_are_text() -> None:
    hostile = SMALL.replace("small", '"<script>alert(1)</script>"')
    picture = draw_nest(cost_of(layer=hostile))
    assert "<script>" not in picture
    assert "&lt;script&gt;" in picture


def test_evaluate_prints_everything(
    capsys: pytest.CaptureFixture[str], nouns: list[str], golden: Golden
) -> None:
    assert run(["evaluate", *nouns, "--walk"]) == 0
    golden("cli/evaluate.txt", capsys.readouterr().out)


@pytest.mark.parametrize(
    "verb", ["curve", "cores", "design", "codesign", "compile", "hwc", "explain"]
)
def test_what_is_proved_by_one_convention_takes_no_other(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`spec/formats.md`: every command takes `--convention`."""
    words = {"cores": 2, "codesign": 2, "explain": 2}.get(verb, 1)
    arguments = [verb, *["resnet18:fc", "eyeriss"][:words], "--convention", "timeloop"]
    assert run(arguments) == 2
    assert f"`{verb}` searches and proves by `default` only" in capsys.readouterr().err


def test_cores_takes_the_default_convention_and_makes_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], nouns: list[str]
) -> None:
    page = tmp_path / "cores.html"
    options = ["--cores", "1,2", "--convention", "default", "--report", str(page)]
    assert run(["cores", *nouns[:2], *options]) == 0
    assert "small" in page.read_text("utf-8")


def test_work_that_nobody_waits_for_does_not_spoil_the_exit() -> None:
    code = (
        "import atexit, sys, threading\n"
        "from tilewright.cli.main import main\n"
        "atexit.register(print, 'torn down')\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "sys.argv[1:] = ['show', 'no-such-network'] if {fails} else ['zoo']\n"
        "main()"
    )
    for fails, expected in ((False, 0), (True, 2)):
        done = subprocess.run(
            [sys.executable, "-c", code.format(fails=fails)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == expected
        assert "torn down" not in done.stdout
        assert ("no-such-network" in done.stderr) if fails else ("resnet18" in done.stdout)


def test_stopped_while_it_loads_it_leaves_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(types.ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "tilewright.cli.main", Interrupted("tilewright.cli.main"))
    with pytest.raises(SystemExit) as left:
        start.main()
    assert left.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


def test_called_from_python_it_leaves_other_threads_alone() -> None:
    """Threads that belong to the caller do not end the caller's process."""
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    with pytest.raises(SystemExit) as left:
        main(["zoo"])
    assert left.value.code == 0
