"""C as text: lines with indents."""

from collections.abc import Generator
from contextlib import contextmanager
from textwrap import indent

_INDENT = "    "
_LONGEST = 100


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
    """Break a long line of C at spaces; what follows is indented once more."""
    lines, current = list[str](), lead
    for word in text.split(" "):
        if len(current) + len(word) > _LONGEST and current.strip():
            lines.append(current.rstrip())
            current = lead + _INDENT
        current += word + " "
    return "\n".join([*lines, current.rstrip()])
