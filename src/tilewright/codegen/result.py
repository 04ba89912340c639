"""What became of a layer: its program, whether it is right, how fast it is, what it fetches.

Owns: `examine`, and the documents of `tilewright compile --json` (`docs/spec/formats.md`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilewright.codegen.cpu import Cpu
from tilewright.codegen.kernel import Generated, load_kernel
from tilewright.codegen.measure import Speed, measure_kernel, measure_peak
from tilewright.codegen.reference import Check, check_kernel
from tilewright.codegen.simulate import Accesses, simulate
from tilewright.ir.mapping import format_mapping

_NAMES = ("l2", "l3", "dram")


@dataclass(frozen=True, slots=True)
class LayerProgram:
    """A program, and what is known of it.

    Attributes:
        made: the program.
        repeat: how many equal layers the network has.
        library: where it is built; `None` if it is not.
        check: how its output compares; `None` if it was not run.
        speed: `None` if it was not measured.
        peak_gflops: of a core, multiply-adds in registers; `None` if not measured or not known.
        accesses: simulated; `None` if they were not, or are too many.
    """

    made: Generated
    repeat: int = 1
    library: Path | None = None
    check: Check | None = None
    speed: Speed | None = None
    peak_gflops: float | None = None
    accesses: Accesses | None = None


def examine(
    made: Generated, repeat: int = 1, *, check: bool, bench: bool, seconds: float = 1.0
) -> LayerProgram:
    """Build a program; run it against numpy and measure it, if asked for.

    Raises: see `kernel.load_kernel`.
    """
    kernel = load_kernel(made)
    result = check_kernel(kernel) if check else None
    if not bench:
        return LayerProgram(made, repeat, kernel.library, result)
    speed = measure_kernel(kernel, seconds=seconds)
    peak = measure_peak(made.target) if made.shape.dtype == "float32" else None
    accesses = simulate(made, made.cpu.caches)
    return LayerProgram(made, repeat, kernel.library, result, speed, peak, accesses)


def summarise(cpu: Cpu, programs: Sequence[LayerProgram]) -> dict[str, Any]:
    """The document of all layers; with one layer its own keys stand at the top, too."""
    layers = [_layer(cpu, program) for program in programs]
    checks = [program.check for program in programs if program.check]
    whole: dict[str, Any] = dict(layers[0]) if len(layers) == 1 else {}
    if checks:
        whole["correct"] = all(check.correct for check in checks)
        whole["max_error"] = max(check.max_error for check in checks)
    timed = [(program, program.speed) for program in programs if program.speed]
    if timed:
        seconds = sum(speed.seconds * program.repeat for program, speed in timed)
        work = sum(2 * program.made.shape.macs * program.repeat for program, _ in timed)
        whole |= {"gflops": work / seconds / 1e9, "seconds": seconds}
        whole["peak_gflops"] = timed[0][0].peak_gflops
    return whole | {"cpu": cpu.name, "geometry": cpu.geometry, "layers": layers}


def _layer(cpu: Cpu, program: LayerProgram) -> dict[str, Any]:
    made, blocking = program.made, program.made.choice.blocking
    traffic = made.choice.traffic
    document: dict[str, Any] = {
        "name": made.workload.name,
        "repeat": program.repeat,
        "target": made.target.name,
        "dtype": made.shape.dtype,
        "macs": made.shape.macs,
        "mapping": format_mapping(traffic.mapping),
        "objective": made.choice.objective,
        "blocking": {
            "vectors": blocking.vectors,
            "width": blocking.width,
            "chunk": blocking.chunk,
            "rows": blocking.rows,
            "tiles": blocking.tiles,
            "order": list(blocking.order),
            "threads": blocking.threads,
        },
        "library": None if program.library is None else str(program.library),
        "accesses": {
            "geometry": cpu.geometry,
            "predicted": by_level([part.total_lines for part in traffic.caches]),
            "expected": by_level(made.choice.expected),
        },
    }
    if program.accesses:
        document["accesses"]["ours"] = by_level(program.accesses.lines)
    if program.check:
        document |= {"correct": program.check.correct, "max_error": program.check.max_error}
        document["allowed_error"] = program.check.allowed_error
    if program.speed:
        document |= {"gflops": program.speed.gflops, "seconds": program.speed.seconds}
        document |= {"clock": program.speed.clock, "samples": program.speed.samples}
        document |= {"peak_gflops": program.peak_gflops, "peers": {}}
    return document


def by_level(lines: Sequence[int]) -> dict[str, int]:
    """Lines by where they come from: what L1 fetches are accesses to L2, and so on outwards."""
    names = [*_NAMES[: len(lines) - 1], "dram"]
    return dict(zip(names, lines, strict=False))
