"""Rows of figures as a table: plain text, HTML for notebooks, a pandas frame.

Owns: how results show themselves. pandas is an extra: only `as_frame` needs it.

Non-goals: which figures stand in a row (the results know), and the command line's tables
(`report/tables.py`).
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from tilewright.errors import MissingToolError, Problem

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, object]
"""Figures by column; all rows of a table have the same columns."""


def as_text(rows: Sequence[Row]) -> str:
    """The rows under their columns, text to the left, figures to the right.

    >>> print(as_text([{"memory": "DRAM", "reads": 1200}, {"memory": "RF", "reads": 7}]))
    memory  reads
    DRAM    1,200
    RF          7
    """
    if not rows:
        return ""
    columns = [_column(name, [row[name] for row in rows]) for name in rows[0]]
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))


def _column(name: str, values: Sequence[object]) -> list[str]:
    cells = [name, *map(_cell, values)]
    width = max(map(len, cells))
    is_text = any(isinstance(value, str) for value in values)
    return [cell.ljust(width) if is_text else cell.rjust(width) for cell in cells]


def as_html(rows: Sequence[Row]) -> str:
    """The rows as an HTML table, with everything that users have named escaped.

    >>> as_html([{"memory": "<RF>"}])
    '<table><thead><tr><th>memory</th></tr></thead><tbody><tr><td>&lt;RF&gt;</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in (rows[0] if rows else ()))
    body = "".join(f"<tr>{''.join(map(_html_cell, row.values()))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _html_cell(value: object) -> str:
    return f"<td>{escape(_cell(value))}</td>"


def _cell(value: object) -> str:
    """A figure as it is read: whole numbers in full, others to two places, nothing for `None`."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def as_frame(rows: Sequence[Row]) -> "pd.DataFrame":
    """The rows as a pandas frame.

    Raises: `MissingToolError` if pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        what = "a frame needs pandas, which is not installed"
        raise MissingToolError(Problem(what, "pip install 'tilewright[pandas]'")) from error
    return pd.DataFrame([dict(row) for row in rows])
