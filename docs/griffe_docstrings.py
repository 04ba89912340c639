"""Docstrings as the project writes them, as Markdown: doctests fenced, one-line sections bold."""

import re
from typing import Any

import griffe

_LABEL = re.compile(r"^(Returns|Raises|Source): (.+)$")


class Docstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for every object that it loads."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    r"""Fence doctests, and set one-line `Returns:`, `Raises:` and `Source:` apart.

    >>> print(as_markdown("One.\n\nReturns: a,\n    b.\n\n>>> 1 + 1\n2"))
    One.
    <BLANKLINE>
    **Returns:** a,
    b.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    return "\n\n".join(_paragraph(part) for part in re.split(r"\n\n+", text))


def _paragraph(part: str) -> str:
    if part.startswith(">>> "):
        return f"```pycon\n{part}\n```"
    first, *others = part.split("\n")
    match = _LABEL.match(first)
    if match is None:
        return part
    return "\n".join([f"**{match[1]}:** {match[2]}", *(line.strip() for line in others)])
