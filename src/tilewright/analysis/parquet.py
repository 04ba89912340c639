"""Rows of figures as Parquet files.

Owns: `write_parquet`. pyarrow is an extra.

Non-goals: which rows (`analysis/run.py`).
"""

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tilewright.errors import InputError, MissingToolError, Problem
from tilewright.model.table import Row


def write_parquet(rows: Sequence[Row], path: Path, origin: Mapping[str, object]) -> None:
    """Write rows as a Parquet file; `origin` stands as JSON in its metadata, under `tilewright`.

    Raises: `MissingToolError` if pyarrow is not installed; `InputError` if the file cannot be
    written.
    """
    try:
        arrow: Any = import_module("pyarrow")
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        what = "Parquet needs pyarrow, which is not installed"
        raise MissingToolError(Problem(what, "pip install 'tilewright[parquet]'")) from error
    table = arrow.Table.from_pylist([dict(row) for row in rows])
    table = table.replace_schema_metadata({"tilewright": json.dumps(origin)})
    try:
        parquet.write_table(table, path)
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        raise InputError(
            Problem(what, "name a file in a folder that is there", str(path))
        ) from None
