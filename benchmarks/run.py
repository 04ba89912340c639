"""Measure what the project promises of speed and size; writes benchmarks/RESULTS.md.

Medians of several runs on this machine; nothing here is a test. `python benchmarks/run.py --quick`
leaves out what takes minutes.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tilewright as tw
from tilewright.ir.mapping import Mapping, parse_mapping
from tilewright.model import exact
from tilewright.model.walk import walk

PAGE = Path(__file__).parent / "RESULTS.md"
ROOT = Path(__file__).parent.parent
RES3_1 = tw.conv2d("res3_1", K=128, C=64, P=28, Q=28, R=3, S=3, stride=2)
NEST = "DRAM[W I O]: K4 P2 C4\nGLB[I O]: C8 Q28 | K4@y R3@y P14@x\nRF[W I O]: C2 K8 S3"


@dataclass(frozen=True)
class Figure:
    """One measured figure beside what is promised."""

    what: str
    measured: str
    promised: str


def median_seconds(job: Callable[[], object], runs: int) -> float:
    """The median time of a job, after one run to warm up."""
    job()
    times: list[float] = []
    for _ in range(runs):
        began = time.perf_counter()
        job()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def command_seconds(*arguments: str, runs: int = 5) -> float:
    """The median time of a whole command of this interpreter."""

    def run() -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    return median_seconds(run, runs)


def closed_form() -> Iterator[Figure]:
    chip = tw.load_hardware("eyeriss")
    perfect = parse_mapping(NEST)
    seconds = median_seconds(lambda: exact.count(RES3_1, chip, perfect), 300)
    yield Figure("`exact`, ResNet-18 res3_1, three levels", f"{seconds * 1e3:.2f} ms", "≤ 1 ms")
    clipped = parse_mapping(NEST.replace("P14@x", "P13@x").replace("S3", "S3 P2"))
    seconds = median_seconds(lambda: exact.count(RES3_1, chip, clipped), 300)
    yield Figure("the same with clipped tiles", f"{seconds * 1e3:.2f} ms", "–")
    for name, workload, mapping in _large_mappings():
        seconds = median_seconds(lambda w=workload, m=mapping: exact.count(w, _big_chip(), m), 50)
        yield Figure(f"`exact`, {name}", f"{seconds * 1e3:.2f} ms", "≤ 10 ms")


def _big_chip() -> tw.Hardware:
    return tw.Hardware(
        "big", (tw.Level("DRAM"), tw.Level("GLB", fanout=tw.Fanout(16, 16)), tw.Level("RF"))
    )


def _large_mappings() -> Iterator[tuple[str, tw.Workload, Mapping]]:
    product = tw.einsum("product", "O[N,K] += W[K,C] * I[N,C]", {"N": 4096, "K": 4096, "C": 4096})
    nest = "DRAM[W I O]: N37 K53 C11\nGLB[W I O]: N10 K10 C100 | N12@x K8@y\nRF[W I O]: C5"
    yield "matrix product of 4,096, clipped", product, parse_mapping(nest)
    conv = tw.conv2d("conv", K=4096, C=4096, P=4096, Q=4096, R=3, S=3)
    nest = (
        "DRAM[W I O]: K41 P1025 C4\nGLB[I O]: C8 Q4099 | K4@y R3@y P2@x\nRF[W I O]: C200 K30 S3 P3"
    )
    yield "convolution of 4,096 in every dim, clipped", conv, parse_mapping(nest)
    padded = tw.conv2d("conv", K=4096, C=4096, P=4096, Q=4096, R=3, S=3, padding=1)
    yield "the same with padding", padded, parse_mapping(nest)


def walking() -> Iterator[Figure]:
    chip = tw.load_hardware("eyeriss")
    layer = tw.conv2d("part", K=16, C=8, P=14, Q=14, R=3, S=3)
    mapping = parse_mapping(
        "DRAM[W I O]: K2 P2 C2\nGLB[I O]: C2 Q14 P7 | K4@y S3@y C2@x\nRF[W I O]: K2 R3"
    )
    steps = _block_steps(layer, chip, mapping)
    seconds = median_seconds(lambda: walk(layer, chip, mapping), 5)
    yield Figure(
        f"`walk`, {layer.macs:,} MACs, {steps:,} block steps",
        f"{steps / seconds:,.0f} steps/s",
        "≥ 100,000 steps/s",
    )


def _block_steps(layer: tw.Workload, chip: tw.Hardware, mapping: Mapping) -> int:
    """Steps times instances of every block that has a parent."""
    from tilewright.ir.nest import flatten

    nest, total = flatten(mapping, chip), 0
    for operand in layer.operands:
        for store in nest.stores[operand.name][1:]:
            steps = 1
            for loop in nest.loops[: store.depth]:
                steps *= loop.extent
            total += steps
    return total


def commands() -> Iterator[Figure]:
    seconds = command_seconds("-c", "import tilewright") - command_seconds("-c", "pass")
    yield Figure("`import tilewright`", f"{seconds * 1e3:.0f} ms", "≤ 200 ms")
    seconds = command_seconds(
        "-m", "tilewright", "evaluate", "resnet18:layer2.0.conv1", "eyeriss", NEST
    )
    yield Figure("`tilewright evaluate` as a command", f"{seconds:.2f} s", "≤ 1 s")


def graphs() -> Iterator[Figure]:
    import onnx

    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for path in sorted(folder.glob("*.onnx")):
        code = f"import tilewright; tilewright.load({str(path)!r})"
        seconds = command_seconds("-c", code, runs=3)
        yield Figure(f"import of `{path.name}`, a process of its own", f"{seconds:.2f} s", "≤ 3 s")


def size() -> Iterator[Figure]:
    """What a default install takes, beside an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        empty = _bytes(Path(folder))
        pip = [str(Path(folder) / "bin" / "python"), "-m", "pip", "install", "--quiet", str(ROOT)]
        subprocess.run(pip, check=True, capture_output=True)
        megabytes = (_bytes(Path(folder)) - empty) / 1e6
    yield Figure("default install", f"{megabytes:,.0f} MB", "≤ 400 MB")


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out what takes minutes")
    quick = parser.parse_args().quick
    parts = [closed_form, walking, commands, graphs, *([] if quick else [size])]
    figures: list[Figure] = []
    for part in parts:
        for figure in part():
            figures.append(figure)
            print(f"{figure.what}: {figure.measured} (promised {figure.promised})")
    if not quick:
        PAGE.write_text(_page(figures), encoding="utf-8")


def _page(figures: list[Figure]) -> str:
    rows = [f"| {f.what} | {f.measured} | {f.promised} |" for f in figures]
    return "\n".join(
        [
            "# Speed and size",
            "",
            f"Written by `make bench` on {machine_name()}.",
            "Medians; commands are whole processes.",
            "",
            "| | measured | promised |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def machine_name() -> str:
    """The processor, how many of it this process may use, and the interpreter."""
    name = _cpu_name() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} processors, Python {platform.python_version()}"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    main()
