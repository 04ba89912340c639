"""The verbs `import` and `export`: files of other tools in and out."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tilewright.analysis.interchange import export_files, import_files
from tilewright.cli.options import (
    BatchOption,
    HardwareArgument,
    JsonOption,
    LayerArgument,
    ShapeOption,
    parse_shapes,
)
from tilewright.cli.output import print_json, print_problem, stamp
from tilewright.errors import InputError, Problem
from tilewright.loading import load_hardware, load_layer, load_mapping

IMPORT_EXAMPLE = "Example: tilewright import arch.yaml problem.yaml mapping.yaml --out mine"
EXPORT_EXAMPLE = "Example: tilewright export resnet18:conv1 eyeriss map.txt --to timeloop --out tl"
OutOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where to write the files; on stdout if left out."),
]


def import_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Timeloop's architecture, problem, mapping, ERT (in one or more files); "
            "ZigZag's accelerator or workload; AccelForge's workload.",
        ),
    ],
    out: OutOption = None,
    hardware: Annotated[
        str | None,
        typer.Option(metavar="HARDWARE", help="A chip that an ERT alone is put into."),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A variable of AccelForge's templates."),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Read files of Timeloop, Accelergy, ZigZag or AccelForge, and write ours.

    What they say and ours do not is named on stderr; what cannot be said at all ends the import.
    """
    chip = None if hardware is None else load_hardware(hardware)
    found = import_files(files, chip, dict(_values(values)))
    named = {f"file{place}": str(path) for place, path in enumerate(files, start=1)}
    document: dict[str, object] = {
        "tool": found.tool,
        "warnings": [warning.to_json() for warning in found.warnings],
    }
    for warning in found.warnings:
        print_problem(f"warning: {warning}")
    _deliver(found.files, out, document | stamp(named), as_json=json)
    return 0


def _values(given: list[str] | None) -> Iterator[tuple[str, str]]:
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier() or not value.strip():
            what = f"--set {text}: expected a name and a value"
            raise InputError(Problem(what, "write --set BATCH_SIZE=1"))
        yield name.strip(), value.strip()


def export_command(  # noqa: PLR0913, PLR0917
    layer: LayerArgument,
    hardware: HardwareArgument,
    mapping: Annotated[
        str | None,
        typer.Argument(metavar="[MAPPING]", help="A file, `-`, or the text itself."),
    ] = None,
    to: Annotated[str, typer.Option(help="Whose files: timeloop.")] = "timeloop",
    out: OutOption = None,
    batch: BatchOption = None,
    shape: ShapeOption = None,
    json: JsonOption = False,
) -> int:
    """Write a layer, a chip and a mapping as files of another tool.

    What its files cannot say is named on stderr; a mapping that it has no word for is refused.
    """
    text = sys.stdin.read() if mapping == "-" else mapping
    work = load_layer(layer, batch=batch, shapes=parse_shapes(shape))
    chip = load_hardware(hardware)
    nest = None if text is None else load_mapping(text)
    found = export_files(work, chip, nest, to=to)
    inputs = {"workload": layer, "hardware": hardware}
    inputs |= {} if text is None else {"mapping": text}
    document: dict[str, object] = {"tool": to, "warnings": list(found.warnings)}
    for warning in found.warnings:
        print_problem(f"warning: {warning}")
    _deliver(found.files, out, document | stamp(inputs), as_json=json)
    return 0


def _deliver(
    files: dict[str, str], out: Path | None, document: dict[str, object], *, as_json: bool
) -> None:
    """Write the files into a folder, or show them; with JSON they stand in the document."""
    written = [] if out is None else _write(files, out)
    if as_json:
        shown = {"files": files, "written": written}
        print_json(document | shown)
        return
    if out is None:
        _show(files)
    for path in written:
        print_problem(f"wrote {path}")


def _write(files: dict[str, str], out: Path) -> list[str]:
    paths = [(out / name, text) for name, text in files.items()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text in paths:
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        what = f"cannot write: {error.strerror}"
        raise InputError(Problem(what, "name a folder that can be written", str(out))) from None
    return [str(path) for path, _ in paths]


def _show(files: dict[str, str]) -> None:
    for name, text in files.items():
        sys.stdout.write(f"# {name}\n{text}" if len(files) > 1 else text)
