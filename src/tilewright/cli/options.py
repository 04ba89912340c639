"""Options that several verbs share, so that they are spelled and explained once."""

from pathlib import Path
from typing import Annotated

import typer

from tilewright.errors import InputError, Problem
from tilewright.model.convention import CONVENTIONS, DEFAULT, find_convention

WorkloadArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORKLOAD",
        help="A zoo name, a YAML file or an ONNX file; NAME:LAYER for one layer.",
    ),
]
LayerArgument = Annotated[
    str, typer.Argument(metavar="LAYER", help="One layer: NETWORK:LAYER, or a file with one layer.")
]
HardwareArgument = Annotated[
    str, typer.Argument(metavar="HARDWARE", help="A zoo name or a YAML file.")
]
MappingArgument = Annotated[
    str,
    typer.Argument(metavar="MAPPING", help="A file, `-` for standard input, or the text itself."),
]
FixOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="What every mapping must contain, such as 'GLB: | K@x C@y': the text itself, a file, "
        "or `-` for standard input.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else.")
]
NoCacheOption = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        envvar="TILEWRIGHT_NO_CACHE",
        help="Solve every layer, also those that were solved before, and keep nothing.",
    ),
]
ConventionOption = Annotated[
    str, typer.Option(help=f"The rules to count by: {', '.join(CONVENTIONS)}.")
]
ReportOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.html", help="Also write the result as one HTML page."),
]
DefaultConventionOption = Annotated[
    str, typer.Option(help="The rules to count by; what is searched here is counted by `default`.")
]
BatchOption = Annotated[
    int | None, typer.Option(min=1, help="Fixes the symbolic batch of an ONNX graph.")
]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option(metavar="INPUT=1,3,224,224", help="Fixes the shape of an ONNX graph's input."),
]


def parse_shapes(given: list[str] | None) -> dict[str, tuple[int, ...]]:
    """Read `--shape INPUT=1,3,224,224` options."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in given or []:
        name, _, sizes = text.rpartition("=")
        numbers = sizes.split(",")
        if not name or not all(number.strip().isdecimal() for number in numbers):
            what = f"--shape {text}: expected a name and sizes"
            raise InputError(Problem(what, "write --shape INPUT=1,3,224,224"))
        shapes[name] = tuple(int(number) for number in numbers)
    return shapes


def require_default(convention: str, verb: str) -> None:
    """See that a verb whose proofs hold for one convention is asked for that one.

    Raises: `InputError` if it is another, or none.
    """
    if find_convention(convention) != DEFAULT:
        what = f"--convention {convention}: `{verb}` searches and proves by `default` only"
        fix = "leave it out, and price what is found with `tilewright evaluate --convention`"
        raise InputError(Problem(what, fix))
