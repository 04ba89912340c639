"""What every verb needs to speak: JSON on stdout, tables on stdout, everything else on stderr.

Owns: the two streams, and the keys that all documents share.
"""

import json
import os
import sys
from contextvars import ContextVar
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.analysis.run import SCHEMA
from tilewright.errors import InputError, MissingToolError, Problem
from tilewright.loading import digest

if TYPE_CHECKING:
    from rich.console import RenderableType

COMMAND: ContextVar[str | None] = ContextVar("command", default=None)
"""The verb at work."""
WIDTH_OF_FILES = 160
"""Columns of a table that goes to a file or a pipe instead of a terminal."""


def version() -> str:
    """The version of the package."""
    return metadata.version("tilewright")


def json_text(document: dict[str, object]) -> str:
    """A document as one line of JSON."""
    return json.dumps(document, allow_nan=False) + "\n"


def print_json(document: dict[str, object]) -> None:
    """Print one JSON document, and nothing else, on stdout."""
    sys.stdout.write(json_text(document))
    sys.stdout.flush()


def print_text(text: str) -> None:
    """Print a text on stdout as it is."""
    sys.stdout.write(text)
    sys.stdout.flush()


def print_problem(text: str) -> None:
    """Print a message on stderr."""
    sys.stderr.write(text + "\n")


def print_report(renderable: "RenderableType") -> None:
    """Print a table or a text on stdout."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES, highlight=False)
    console.print(renderable, soft_wrap=True)


def output_width() -> int:
    """How many columns stdout has."""
    from rich.console import Console

    return Console().width if sys.stdout.isatty() else WIDTH_OF_FILES


def stamp(inputs: dict[str, str], *, seed: int | None = None) -> dict[str, object]:
    """The keys that say where a document comes from.

    `inputs` are the arguments as given, by what they are; their SHA-256 is noted.
    """
    return {
        "schema": SCHEMA,
        "command": COMMAND.get(),
        "version": version(),
        "inputs": {name: digest(argument) for name, argument in inputs.items()},
        "seed": seed,
    }


def check_report(path: Path) -> None:
    """See, before long work begins, that a page can be made and put where it shall go.

    Raises: `MissingToolError` without the extra `report`, `InputError` for a wrong place.
    """
    if find_spec("vl_convert") is None:
        what = "pages need vl-convert, whose wheel has the script that draws charts"
        raise MissingToolError(Problem(what, "pip install 'tilewright[report]'"))
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        what = f"the page cannot be written to {path}"
        raise InputError(Problem(what, "name a file in a folder that is there"))


def write_report(path: Path, document: dict[str, Any]) -> int:
    """Write the page of a document, whole or not at all; returns its size in bytes.

    The document is read as if from a file: what it says is shown as text, whoever wrote it.
    """
    from tilewright.report.document import read_document
    from tilewright.report.files import write_atomically
    from tilewright.report.page import build_page

    page = build_page(read_document(json_text(document), "the result"))
    try:
        write_atomically(path, page)
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror}"
        raise InputError(Problem(what, "name a file in a folder that is there")) from None
    return len(page.encode())
