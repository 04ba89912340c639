"""What every verb needs to speak: JSON on stdout, tables on stdout, everything else on stderr.

Owns: the two streams, and the keys that all documents share.
"""

import json
import sys
from contextvars import ContextVar
from importlib import metadata
from typing import TYPE_CHECKING

from tilewright.analysis.run import SCHEMA
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


def print_json(document: dict[str, object]) -> None:
    """Print one JSON document, and nothing else, on stdout."""
    sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")
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
