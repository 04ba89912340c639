"""C as text: lines with indents."""

from collections.abc import Generator
from contextlib import contextmanager
from textwrap import indent

_INDENT = "    "
_LONGEST = 100
_BREAKS = ("; ", ", ")
"""Where a line is broken if it can be."""


class Text:
    """Lines of C that grow; blocks are indented."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    def line(self, text: str = "") -> None:
        """Add a line, or several."""
        lead = "" if text.startswith("#") else _INDENT * self._depth
        long = len(lead + text) > _LONGEST and "\n" not in text and not text.startswith("#")
        self._lines.append(fold(text, lead) if long else indent(text, lead))

    def open(self, head: str) -> None:
        """Begin a block: `head {`, or only a brace."""
        if head and len(head) + len(_INDENT) * self._depth > _LONGEST - 2:
            self.line(head)
            head = ""
        self.line(f"{head} {{" if head else "{")
        self._depth += 1

    def close(self) -> None:
        """End a block."""
        self._depth -= 1
        self.line("}")

    @contextmanager
    def block(self, head: str) -> Generator[None]:
        """A block around what is written inside."""
        self.open(head)
        yield
        self.close()

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"


def fold(text: str, lead: str = "") -> str:
    """Break a long line of C behind a semicolon, a comma or an operator's right side.

    What follows is indented once more.
    """
    lines, rest, indent_ = list[str](), text, lead
    while len(indent_ + rest) > _LONGEST:
        room = _LONGEST - len(indent_)
        cut = max((rest.rfind(sign, 0, room) + len(sign) - 1 for sign in _BREAKS), default=0)
        if cut < room // 2:
            cut = rest.rfind(" ", 0, room)
        if cut <= 0:
            break
        lines.append(indent_ + rest[:cut].rstrip())
        rest, indent_ = rest[cut:].lstrip(), lead + _INDENT
    return "\n".join([*lines, indent_ + rest])
