"""Compiling the search's kernels when they are first used, in a process of its own.

Owns: `compile_apart`. Numba keeps what it compiles on disk, so another process may do it: then
Ctrl-C ends the waiting at once, which it cannot where the compiler runs, and what compiling takes
of memory goes back. One process compiles while others that need the same wait.

Non-goals: what is compiled (`mapper/optimal.py`, `mapper/imperfect.py`).
"""

import os
import subprocess
import sys
from contextlib import suppress
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from platform import machine, processor

from filelock import FileLock

from tilewright.folders import cache_folder
from tilewright.mapper.result import Stop

_KERNELS = (
    "imperfect_kernels.py",
    "imperfect_tables.py",
    "kernels.py",
    "lattice.py",
    "listing.py",
    "problem.py",
    "sliding.py",
)
"""What is compiled, and the types that it is compiled for."""
_SECONDS_BETWEEN_LOOKS = 0.1


def compile_apart(module: str, should_stop: Stop) -> bool:
    """Have another process compile what `solve_smallest` of a module needs.

    Nothing is done if that was done before with these sources.

    Returns: false when it was told to stop, by `should_stop` or Ctrl-C, before all was compiled.
    """
    done = cache_folder("kernels") / f"{module.rpartition('.')[2]}-{_digest()}"
    if done.exists() or not sys.executable:
        return True
    call = f"from tilewright.mapper.first_use import fill_cache; fill_cache({module!r})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", call],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this process, which ends that one
    ) as process:
        if _has_ended(process, should_stop):
            return True  # where it failed, this process compiles and says why
        process.kill()
        return False


def fill_cache(module: str) -> None:
    """Compile what a module's `solve_smallest` needs, unless another process has just done it."""
    from importlib import import_module

    done = cache_folder("kernels") / f"{module.rpartition('.')[2]}-{_digest()}"
    done.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{done}.lock"):
        if not done.exists():
            import_module(module).solve_smallest()
            done.touch()


def _has_ended(process: subprocess.Popen[bytes], should_stop: Stop) -> bool:
    try:
        while not should_stop():
            with suppress(subprocess.TimeoutExpired):
                process.wait(_SECONDS_BETWEEN_LOOKS)
                return True
    except KeyboardInterrupt:
        pass
    return False


def _digest() -> str:
    """A name for what decides whether Numba takes what is on disk."""
    sources = [Path(__file__).with_name(name) for name in _KERNELS]
    parts = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in sources]
    parts += [sys.version, metadata.version("numba"), machine(), processor()]
    return sha256("\n".join(parts).encode()).hexdigest()[:24]
