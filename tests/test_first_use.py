"""Kernels are compiled in a process of their own, that can be stopped."""

import _thread
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tilewright.mapper.first_use import compile_apart

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


def _marks(folder: Path) -> list[Path]:
    """What says that a module was compiled."""
    kept = (folder / "cache" / "kernels").iterdir()
    return [path for path in kept if path.suffix != ".lock"]
