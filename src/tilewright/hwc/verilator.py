"""The block in Verilator: compiled once per configuration, and kept.

Owns: building the simulator, keeping it, running a job in it.
"""

import json
import platform
import shutil
import subprocess
import tempfile
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from importlib import metadata, resources
from pathlib import Path

import numpy as np

from tilewright.errors import MissingToolError, Problem
from tilewright.folders import cache_folder
from tilewright.hwc.config import HwcConfig
from tilewright.hwc.simulate import NOTHING, Job, Outcome
from tilewright.hwc.verilog import TOP, convert_block, missing_amaranth

_PORTS = ("", "inputs", "weights", "sums", "biases")
_PROGRAM = "Vtestbench"
_NO_WORD = -(1 << 31)
_BENCH = ("testbench.cpp", "testbench.sv")
_SOURCES = ("config.py", "convolution.py", "program.py", "verilator.py", *_BENCH)
"""What the block's parameters and the simulator are made of, beside the RTL."""


def run_compiled(job: Job, vcd: Path | None = None) -> Outcome:
    """Run a job in the compiled simulator; with `vcd`, write the waveforms there."""
    program = build(job.config, trace=vcd is not None)
    with tempfile.TemporaryDirectory() as folder:
        given, results = Path(folder, "job"), Path(folder, "results")
        _write_job(job, given)
        command = [str(program), str(given), str(results), *([str(vcd)] if vcd else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            what = f"the simulator ended with code {done.returncode}: {done.stderr[-500:]}"
            raise MissingToolError(Problem(what, "remove its folder, so that it is built anew"))
        outputs = np.fromfile(results, dtype=np.int32).astype(np.int64)
    told = json.loads(done.stdout)
    outputs[outputs == _NO_WORD] = NOTHING
    return Outcome(outputs, told["counters"], told["moved"], bool(told["is_done"]))


def build(config: HwcConfig, *, trace: bool = False) -> Path:
    """Compile the block's simulator, or find it compiled; returns the program.

    Raises: `MissingToolError` if Verilator or a C++ compiler is missing or fails.
    """
    if shutil.which("verilator") is None:
        what = "Verilator is not installed"
        raise MissingToolError(Problem(what, "apt-get install verilator, or a small layer without"))
    folder = cache_folder("hwc") / _key(config, trace=trace)
    program = folder / _PROGRAM
    if program.is_file():
        return program
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        _compile(Path(work), convert_block(replace(config, name=TOP)), trace=trace)
        folder.mkdir(exist_ok=True)
        # Moved in one step: two builds at once both end with a whole program.
        Path(work, "obj", _PROGRAM).replace(program)
    return program


def _key(config: HwcConfig, *, trace: bool) -> str:
    """A name for all that the simulator follows from: sources, parameters and tools.

    The Verilog is not asked for: writing it takes longer than a short run.
    """
    try:
        amaranth = metadata.version("amaranth")
    except metadata.PackageNotFoundError:
        raise missing_amaranth() from None
    parts = [_verilator_version(), amaranth, str(trace), repr(replace(config, name=TOP))]
    parts += [_processor(), _sources()]
    return sha256("\n".join(parts).encode()).hexdigest()[:24]


def _processor() -> str:
    """What the program is compiled for: it may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


@lru_cache(maxsize=1)
def _sources() -> str:
    """The texts of all sources; read once, for the modules of this process do not change either."""
    here = resources.files("tilewright.hwc")
    sources = [*map(here.joinpath, _SOURCES), *here.joinpath("rtl").iterdir()]
    return "\n".join(item.read_text("utf-8") for item in sorted(sources, key=str) if item.is_file())


@lru_cache(maxsize=1)
def _verilator_version() -> str:
    return subprocess.run(
        ["verilator", "--version"], capture_output=True, text=True, check=False
    ).stdout


def _on_both_edges(text: str) -> str:
    """Every change of the clock is a cycle: half as many evaluations. For waveforms it is not."""
    return text.replace("always @(posedge clk)", "always @(posedge clk or negedge clk)")


# Split into functions, or the compiler takes minutes over one that is thousands of lines long.
def _compile(work: Path, text: str, *, trace: bool) -> None:
    texts = {f"{TOP}.v": text}
    texts |= {name: resources.files("tilewright.hwc").joinpath(name).read_text() for name in _BENCH}
    for name, each in texts.items():
        (work / name).write_text(each if trace else _on_both_edges(each), encoding="utf-8")
    command = [
        "verilator", "--cc", "--exe", "--build", "-O3", "--x-assign", "fast", "--x-initial",
        "fast", "--noassert", "--output-split", "200000", "--output-split-cfuncs", "3000",
        "-Wno-fatal", "-Wno-lint", "-MAKEFLAGS", "OPT_FAST=-O2 OPT_GLOBAL=-O1",
        "-CFLAGS", "-march=native", *(["--trace", "-CFLAGS", "-DWITH_TRACE"] if trace else []),
        "--top-module", "testbench", "--Mdir", str(work / "obj"), *(str(work / n) for n in texts),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=work)
    if done.returncode:
        what = f"Verilator could not build the block: {(done.stderr or done.stdout)[-800:]}"
        raise MissingToolError(Problem(what, "install verilator, g++ and make"))


def _write_job(job: Job, path: Path) -> None:
    registers = list(job.program.registers(job.config).values())
    tensors, memories = job.tensors, job.memories
    outputs = int(np.prod(job.program.convolution.shape("O")))
    head = [
        len(registers), len(tensors.inputs), len(tensors.weights), outputs,
        memories.latency_cycles - 1, memories.stall_percent, _PORTS.index(memories.dead),
        memories.seed, memories.patience_cycles, len(tensors.biases),
    ]  # fmt: skip
    words = np.concatenate(
        [np.array([*head, *registers]), tensors.inputs, tensors.weights, tensors.biases]
    )
    words.astype(np.uint32).tofile(path)
