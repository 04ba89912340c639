"""Kernels are compiled in a process of their own, that can be stopped."""

import _thread
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from numba import typeof  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

import tilewright as tw
from tilewright.mapper.first_use import compile_apart
from tilewright.mapper.imperfect_tables import make_layer
from tilewright.mapper.prepare import Preparation
from tilewright.model.evaluate import make_evaluator

SLOW = "tilewright_slow_kernels"


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Write the module whose kernels are wanted; returns the folder of what was compiled."""
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def write(body: str) -> Path:
        (tmp_path / f"{SLOW}.py").write_text(f"import time\ndef solve_smallest():\n    {body}\n")
        return tmp_path

    return write


def test_what_was_compiled_is_not_compiled_again(compiling: Callable[[str], Path]) -> None:
    folder = compiling("open(__file__ + '.log', 'a').write('once ')")
    assert compile_apart(SLOW, lambda: False)
    assert compile_apart(SLOW, lambda: False)
    assert (folder / f"{SLOW}.py.log").read_text() == "once "


def test_two_at_once_compile_once(compiling: Callable[[str], Path]) -> None:
    folder = compiling("open(__file__ + '.log', 'a').write('once '); time.sleep(1)")
    both = [threading.Thread(target=compile_apart, args=(SLOW, lambda: False)) for _ in "ab"]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert (folder / f"{SLOW}.py.log").read_text() == "once "


@pytest.mark.parametrize("how", ["told", "ctrl-c"])
def test_waiting_can_be_stopped(compiling: Callable[[str], Path], how: str) -> None:
    folder = compiling("open(__file__ + '.begun', 'w'); time.sleep(60)")
    began = time.monotonic()

    def stop() -> bool:
        if not (folder / f"{SLOW}.py.begun").exists():
            return False
        if how == "ctrl-c":
            _thread.interrupt_main()
        return how == "told"

    assert not compile_apart(SLOW, stop)
    assert time.monotonic() - began < 30
    left = subprocess.run(["pgrep", "-f", f"fill_cache.'{SLOW}'"], capture_output=True, check=False)
    assert left.stdout == b""
    assert not _marks(folder)


def test_a_process_that_fails_leaves_the_compiling_to_this_one(
    compiling: Callable[[str], Path],
) -> None:
    folder = compiling("raise OSError('disk full')")
    assert compile_apart(SLOW, lambda: False)
    assert not _marks(folder)


@pytest.mark.parametrize("parts", ["problem", "layer"])
def test_whole_numbers_compile_no_kernel_anew(parts: str) -> None:
    """Numba compiles once for each type that it is given: an energy of 1 pJ must not be an int."""
    workload = tw.conv2d("layer", K=4, C=4, P=6, Q=1, R=3, S=1)
    kinds: list[object] = []
    for read, hop, mac in ((1, 2, 3), (0.5, 2.5, 0.25)):
        levels = (
            tw.Level("DRAM", read_pj=read, write_pj=read, update_pj=read, bandwidth=read),
            tw.Level("GLB", 512, read_pj=read, fanout=tw.Fanout(2, hop_pj=hop)),
            tw.Level("RF", 64, read_pj=read, leak_pj_per_cycle=hop),
        )
        chip = tw.Hardware("chip", levels, tw.Compute(pj=mac))
        evaluator = make_evaluator(workload, chip)
        if parts == "problem":
            kinds.append(typeof(Preparation(evaluator).problem))
        else:
            kinds.append(typeof(make_layer(workload, chip, (None, None, None))))
    assert kinds[0] == kinds[1]


def _marks(folder: Path) -> list[Path]:
    """What says that a module was compiled."""
    kept = (folder / "cache" / "kernels").iterdir()
    return [path for path in kept if path.suffix != ".lock"]
