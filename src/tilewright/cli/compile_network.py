"""The verb `compile` for a whole ONNX file: one C program with a single entry point.

Owns: what is built, checked, measured and printed for a network. Which it is says `compile_.py`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.cli.output import print_json, print_problem, print_report, stamp, write_report
from tilewright.report.describe import Json

if TYPE_CHECKING:
    from tilewright.codegen.network import GeneratedNetwork

WRONG = 1


def is_whole(workload: str) -> bool:
    """Whether an argument names an ONNX file, not one of its layers."""
    return Path(workload).suffix.lower() == ".onnx" and Path(workload).is_file()


def compile_whole(  # noqa: PLR0913
    workload: str,
    made: "GeneratedNetwork",
    *,
    run: bool,
    bench: bool,
    seconds: float,
    out: Path | None,
    report: Path | None,
    json: bool,
) -> int:
    """Write, build, check and measure a network's program; returns the exit code."""
    from rich.console import Console

    from tilewright.codegen.network_result import (
        NetworkProgram,
        examine_network,
        summarise_network,
    )

    files = made.write(out) if out else ()
    program = NetworkProgram(made)
    if run or bench or not out:
        with Console(stderr=True).status(f"compiling {made.steps.name}"):
            program = examine_network(
                made, workload, check=run or bench, bench=bench, seconds=seconds
            )
    document: Json = summarise_network(program) | {"files": [str(path) for path in files]}
    document |= stamp({"workload": workload}, seed=0)
    if json:
        print_json(document)
    else:
        from tilewright.report.programs import network_report

        print_report(network_report(program))
        if files:
            print_problem(f"wrote {', '.join(path.name for path in files)} to {out}")
    if report is not None:
        write_report(report, document)
    return WRONG if program.check and not program.check.correct else 0
