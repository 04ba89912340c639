"""Install the wheel and the sdist into empty environments, and run what a new user runs.

    python release/check.py [--python 3.11 3.12 3.13] [--quick]

For every interpreter that is found, and the lowest and the newest dependencies that
`pyproject.toml` allows, an environment is made outside the source tree, the distribution is
installed there and `SMOKE` is run. The table of all outcomes is printed and written to
`release/INSTALLS.md`. Needs `build` and `uv`, which `make release` installs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "release" / "INSTALLS.md"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
SHOWN = ("numba", "numpy", "onnx", "PyYAML", "rich", "typer", "filelock")
MAPPING = "DRAM[W I O]: K10\nGLB[I O]: C25 | K10@x\nRF[W I O]: C8"


class CheckError(Exception):
    """A command of the installed package did not do what it should."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one installation."""

    python: str
    kind: str
    dependencies: str
    says: str
    packages: str = ""
    megabytes: int = 0
    seconds: float = 0.0


def main() -> None:
    """Check all installations; exit 1 if one fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--python", nargs="*", default=list(VERSIONS), help="which interpreters")
    parser.add_argument("--quick", action="store_true", help="compile no kernels")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel, sdist = _build(Path(folder))
        versions: list[str] = options.python
        cases = [(version, wheel, name) for version in versions for name in RESOLUTIONS]
        cases.append((versions[0], sdist, "newest"))
        outcomes: list[Outcome] = []
        check = partial(_check, quick=options.quick)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # kernels are compiled on one core
            for outcome in pool.map(check, *zip(*cases, strict=True)):
                outcomes.append(outcome)
                sys.stdout.write(f"{outcome}\n")
                sys.stdout.flush()
    page = _page(outcomes, quick=options.quick)
    sys.stdout.write(page)
    if not options.quick:
        PAGE.write_text(page, "utf-8")
    sys.exit(any(not o.says.startswith(("works", "no interpreter")) for o in outcomes))


def _build(folder: Path) -> tuple[Path, Path]:
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def _check(version: str, file: Path, dependencies: str, *, quick: bool) -> Outcome:
    kind = "wheel" if file.suffix == ".whl" else "sdist"
    found = _find(version)
    if found is None:
        return Outcome(version, kind, dependencies, "no interpreter: untested")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            python = _install(found, version, file, RESOLUTIONS[dependencies], folder)
            _smoke(python, folder, quick=quick)
        except CheckError as error:
            return Outcome(version, kind, dependencies, f"fails: {error}")
        size = sum(f.stat().st_size for f in (folder / "env").rglob("*") if f.is_file())
        return Outcome(
            _run([str(python), "-c", "import platform; print(platform.python_version())"]).strip(),
            kind,
            dependencies,
            "works, no kernels" if quick else "works",
            _packages(python),
            size >> 20,
            time.monotonic() - began,
        )


def _find(version: str) -> str | None:
    """An interpreter of that version, on the path or where pyenv keeps them."""
    homes = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    names = [f"python{version}", *map(str, homes)]
    for name in names:
        path = shutil.which(name)
        works = path and subprocess.run([path, "-c", ""], capture_output=True, check=False)
        if works and works.returncode == 0:
            return path
    return None


def _install(python: str, version: str, file: Path, resolution: str, folder: Path) -> Path:
    env = folder / "env"
    uv = [sys.executable, "-m", "uv"]
    _run([*uv, "venv", "--quiet", "--python", python, str(env)])
    inside = env / "bin" / "python"
    pins = folder / "pins.txt"
    pin = [*uv, "pip", "compile", "--quiet", "--python-version", version, "-o", str(pins)]
    _run([*pin, "--resolution", resolution, str(ROOT / "pyproject.toml")])
    install = [*uv, "pip", "install", "--quiet", "--python", str(inside)]
    _run([*install, "--constraint", str(pins), str(file)])
    return inside


def _smoke(python: Path, folder: Path, *, quick: bool) -> None:
    """What a new user runs, outside the source tree, with nothing kept from before."""
    program = [str(python.with_name("tilewright"))]
    _run([*program, "--version"], folder)
    _run([*program, "zoo"], folder)
    evaluate = ["evaluate", "yang2016:FC1", "eyeriss", MAPPING, "--walk", "--json"]
    if not json.loads(_run([*program, *evaluate], folder))["walk"]["agrees"]:
        raise CheckError("the walk of a nest counts differently")
    _run(
        [str(python), "-c", "import doctest, tilewright; 1 / (not doctest.testmod(tilewright)[0])"]
    )
    graphs = "backend/test/data/light/light_resnet50.onnx"
    find = f"import onnx, pathlib; print(pathlib.Path(onnx.__file__).parent / '{graphs}')"
    graph = _run([str(python), "-c", find]).strip()
    if json.loads(_run([*program, "show", graph, "--json"], folder))["macs"] < 4 * 10**9:
        raise CheckError("ResNet-50's graph has too few MACs")
    if quick:
        return
    found = json.loads(_run([*program, "map", "resnet18", "eyeriss", "--json"], folder))
    if any(layer["status"] != "optimal" for layer in found["layers"]):
        raise CheckError("not every layer of ResNet-18 is proved")


def _packages(python: Path) -> str:
    code = (
        "from importlib.metadata import version\n"
        f"print(', '.join(f'{{n}} {{version(n)}}' for n in {SHOWN}))"
    )
    return _run([str(python), "-c", code]).strip()


def _run(command: list[str], folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CheckError(f"{Path(command[0]).name} {command[1]}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _page(outcomes: list[Outcome], *, quick: bool) -> str:
    what = "priced a mapping, imported ONNX" + (
        "" if quick else ", proved every layer of ResNet-18"
    )
    lines = [
        "# Installations that were tried",
        "",
        f"`make release` installed the package into empty environments and {what}, outside the",
        "source tree. Seconds include installing and compiling the kernels.",
        "",
        "| Python | from | dependencies | outcome | MB | s | versions |",
        "|---|---|---|---|---|---|---|",
    ]
    for o in outcomes:
        cells = (
            o.python,
            o.kind,
            o.dependencies,
            o.says,
            o.megabytes or "",
            f"{o.seconds:.0f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} | {o.packages} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
