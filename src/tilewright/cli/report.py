"""The verb `report`: a document or a run in, one HTML page out."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tilewright.cli.options import JsonOption
from tilewright.cli.output import (
    check_report,
    print_json,
    print_problem,
    print_text,
    stamp,
    write_report,
)
from tilewright.errors import InputError, Problem
from tilewright.report.document import read_run

EXAMPLE = "Example: tilewright report run.json; `map … --json > run.json` made the file"


def report_command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="What a command printed with --json: a file, or `-` for standard input; "
            "or the folder of codesign --run.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Where to; beside RUN if left out, and on standard output if RUN is `-`.",
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Make one HTML page of a run, that needs no network and no other file."""
    path = out or _beside(run)
    if path is None and json:
        raise InputError(Problem("--json, but the page goes to standard output", "add --out FILE"))
    if path is not None:
        if run != "-" and path.resolve() == Path(run).resolve():
            raise InputError(Problem(f"{path} is the run itself", "write --out FILE.html"))
        check_report(path)
    document = read_run(run, sys.stdin.read)
    if path is None:
        from tilewright.report.page import build_page

        print_text(build_page(document))
        return 0
    size = write_report(path, document)
    if json:
        inputs: dict[str, str] = {} if run == "-" or Path(run).is_dir() else {"run": run}
        written: dict[str, object] = {"file": str(path), "bytes": size, "tables": {}}
        print_json(written | stamp(inputs))
    else:
        print_problem(f"wrote {path}")
    return 0


def _beside(run: str) -> Path | None:
    if run == "-":
        return None
    path = Path(run)
    return path / "report.html" if path.is_dir() else path.with_name(f"{path.stem}.html")
