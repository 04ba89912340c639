"""The block in Verilator: compiled once per configuration, and kept.

Owns: building the simulator, keeping it, running a job in it. For long jobs it is compiled with a
profile of the job's beginning: the program is moves and branches that exceed the instruction
cache, and runs a fifth faster once the compiler knows which are taken.
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
_PROFILED = "Vtestbench-profiled"
_LEARNT_CYCLES = 300_000
PROFILED_STEPS = 10_000_000
"""From so many steps on a job is worth a profile, which takes twice as long to build."""

_NO_WORD = -(1 << 31)
_BENCH = ("testbench.cpp", "testbench.sv")
_SOURCES = ("config.py", "convolution.py", "program.py", "verilator.py", *_BENCH)
"""What the block's parameters and the simulator are made of, beside the RTL."""


def run_compiled(job: Job, vcd: Path | None = None) -> Outcome:
    """Run a job in the compiled simulator; with `vcd`, write the waveforms there."""
    with tempfile.TemporaryDirectory() as folder:
        given, results = Path(folder, "job"), Path(folder, "results")
        _write_job(job, given)
        program = build(job.config, trace=vcd is not None, learn_from=_lesson(job, vcd, folder))
        command = [str(program), str(given), str(results), *([str(vcd)] if vcd else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            what = f"the simulator ended with code {done.returncode}: {done.stderr[-500:]}"
            raise MissingToolError(Problem(what, f"remove {program.parent}: it is built anew"))
        outputs = np.fromfile(results, dtype=np.int32).astype(np.int64)
    told = json.loads(done.stdout)
    outputs[outputs == _NO_WORD] = NOTHING
    return Outcome(outputs, told["counters"], told["moved"], bool(told["is_done"]))


def _lesson(job: Job, vcd: Path | None, folder: str) -> Path | None:
    """The beginning of a job, if it is long enough to pay for a profile."""
    if vcd is not None or job.program.steps_taken < PROFILED_STEPS:
        return None
    lesson = Path(folder, "lesson")
    _write_job(job, lesson, cycles=_LEARNT_CYCLES)
    return lesson


def build(config: HwcConfig, *, trace: bool = False, learn_from: Path | None = None) -> Path:
    """Compile the block's simulator, or find it compiled; returns the program.

    Args:
        config: the block.
        trace: whether it can write waveforms.
        learn_from: a short job; the program is then compiled with a profile of it. If the compiler
            cannot do that, it is compiled without. One that has a profile serves all jobs.

    Raises: `MissingToolError` if Verilator or a C++ compiler is missing or fails.
    """
    if shutil.which("verilator") is None:
        what = "Verilator is not installed"
        fix = "apt-get install verilator; a layer of 3,000 steps needs only --simulator amaranth"
        raise MissingToolError(Problem(what, fix))
    folder = cache_folder("hwc") / _key(config, trace=trace)
    profiled, plain = folder / _PROFILED, folder / _PROGRAM
    if profiled.is_file():
        return profiled
    if plain.is_file() and learn_from is None:
        return plain
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        made = _translate(Path(work), convert_block(replace(config, name=TOP)), trace=trace)
        found = learn_from is not None and _compile_twice(made, learn_from)
        if not found:
            if plain.is_file():
                return plain
            _compile(made)
        folder.mkdir(exist_ok=True)
        # Moved in one step: two builds at once both end with a whole program.
        kept = profiled if found else plain
        (made / _PROGRAM).replace(kept)
    return kept


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
def _translate(work: Path, text: str, *, trace: bool) -> Path:
    """Have Verilator write C++ and a makefile; returns their folder."""
    texts = {f"{TOP}.v": text}
    texts |= {name: resources.files("tilewright.hwc").joinpath(name).read_text() for name in _BENCH}
    for name, each in texts.items():
        (work / name).write_text(each if trace else _on_both_edges(each), encoding="utf-8")
    made = work / "obj"
    command = [
        "verilator", "--cc", "--exe", "-O3", "--x-assign", "fast", "--x-initial", "fast",
        "--noassert", "--output-split", "200000", "--output-split-cfuncs", "3000",
        "-Wno-fatal", "-Wno-lint", "-CFLAGS", "-march=native",
        *(["--trace", "-CFLAGS", "-DWITH_TRACE"] if trace else []),
        "--top-module", "testbench", "--Mdir", str(made), *(str(work / n) for n in texts),
    ]  # fmt: skip
    _must(command, work)
    return made


def _compile(made: Path, flags: str = "", link: str = "") -> None:
    """Have the makefile build the program."""
    options = [f"OPT_FAST=-O2 {flags}", f"OPT_GLOBAL=-O1 {flags}", f"LDFLAGS={link}"]
    _must(["make", "-f", f"{_PROGRAM}.mk", *options], made)


def _compile_twice(made: Path, lesson: Path) -> bool:
    """Build the program with a profile of a short job; whether that could be done."""
    try:
        _compile(made, "-fprofile-generate", "-fprofile-generate")
        _must([f"./{_PROGRAM}", str(lesson), str(made / "learnt")], made)
        _clean(made)
        has_profile = any(made.glob("*.gcda"))
        if has_profile:
            _compile(made, "-fprofile-use")
    except MissingToolError:
        has_profile = False
    _clean(made, keep=_PROGRAM if has_profile else "")
    return has_profile


def _clean(made: Path, keep: str = "") -> None:
    """Remove what was compiled, so that it is compiled anew."""
    for path in (*made.glob("*.o"), *made.glob("*.a"), made / _PROGRAM):
        if path.name != keep:
            path.unlink(missing_ok=True)


def _must(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    except FileNotFoundError:
        what = f"{command[0]} is not installed, and Verilator's output is built with it"
        raise MissingToolError(Problem(what, "apt-get install make g++")) from None
    if done.returncode:
        what = f"the block could not be built for Verilator: {(done.stderr or done.stdout)[-800:]}"
        raise MissingToolError(Problem(what, "apt-get install verilator g++ make"))


def _write_job(job: Job, path: Path, *, cycles: int = 0) -> None:
    """Write what the simulator reads; with `cycles`, it ends after so many."""
    registers = list(job.program.registers(job.config).values())
    tensors, memories = job.tensors, job.memories
    outputs = int(np.prod(job.program.convolution.shape("O")))
    head = [
        len(registers), len(tensors.inputs), len(tensors.weights), outputs,
        memories.latency_cycles - 1, memories.stall_percent, _PORTS.index(memories.dead),
        memories.seed, memories.patience_cycles, len(tensors.biases), cycles,
    ]  # fmt: skip
    words = np.concatenate(
        [np.array([*head, *registers]), tensors.inputs, tensors.weights, tensors.biases]
    )
    words.astype(np.uint32).tofile(path)
