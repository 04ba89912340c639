"""The exception tree, and how problems are shown.

Owns: what a problem is (where, what was found, one fix), the exceptions that carry problems, and
their text. Every exit code of the command line belongs to one exception.

Non-goals: deciding what is a problem (the layers above do), printing (only the command line does).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

MAX_SHOWN_LINE = 160

INTERRUPTED = 130
"""The exit code of a command that was stopped (`spec/formats.md`, Commands)."""
"""Longer lines of user text are cut around the caret: a hostile file cannot flood a screen."""


@dataclass(frozen=True, slots=True)
class Source:
    """A text that somebody wrote: a file's name (or what stands for it) and its content."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch `[start, end)` of a source's text, in characters."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        """The line it starts on, counted from 1."""
        return self.source.text.count("\n", 0, self.start) + 1

    @property
    def column(self) -> int:
        """The column it starts in, counted from 1."""
        return self.start - self._line_start + 1

    @property
    def _line_start(self) -> int:
        return self.source.text.rfind("\n", 0, self.start) + 1

    def within(self, start: int, end: int) -> "Span":
        """The part from `start` to `end` of this span's own text."""
        return Span(self.source, self.start + start, self.start + end)

    def picture(self) -> str:
        """The line it stands on, with carets under it."""
        stop = self.source.text.find("\n", self.start)
        stop = len(self.source.text) if stop < 0 else stop
        first = max(self._line_start, self.start - MAX_SHOWN_LINE // 2)
        last = min(stop, first + MAX_SHOWN_LINE)
        shown = visible(self.source.text[first:last])
        carets = "^" * max(1, min(self.end, last) - self.start)
        gutter = f"{self.line:>5} | "
        return f"{gutter}{shown}\n{' ' * len(gutter)}{' ' * (self.start - first)}{carets}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    `what` says what was found and the limit, with its unit; `fix` is one thing that would mend it;
    `where` is the place in the user's own text, or the name of what was built in Python; `field`
    names what is at fault of something that has fields, as `sizes.K`, so that whoever knows the
    text can find the place.
    """

    what: str
    fix: str = ""
    where: Span | str | None = None
    field: str = ""

    def __str__(self) -> str:
        place, picture = "", ""
        if isinstance(self.where, Span):
            place = f"{visible(self.where.source.name)}:{self.where.line}:{self.where.column}: "
            picture = f"\n{self.where.picture()}"
        elif self.where:
            place = f"{visible(self.where)}: "
        fix = f"\n      fix: {visible(self.fix)}" if self.fix else ""
        return f"{place}{visible(self.what)}{picture}{fix}"

    def to_json(self) -> dict[str, object]:
        """The problem as a JSON object: `what`, `fix`, `file`, `line`, `column`."""
        spot = self.where if isinstance(self.where, Span) else None
        name = spot.source.name if spot else self.where
        return {
            "what": self.what,
            "fix": self.fix,
            "file": name,
            "line": spot.line if spot else None,
            "column": spot.column if spot else None,
        }


@dataclass(frozen=True, slots=True)
class Violation:
    """One limit of the hardware that a mapping breaks, or that no mapping can keep.

    For a capacity `needed_bytes` and `capacity_bytes` are set; for an axis of a fan-out they are
    `None`, and `what` names the axis and its steps.
    """

    memory: str
    what: str
    fix: str
    operands: tuple[str, ...] = ()
    needed_bytes: int | None = None
    capacity_bytes: int | None = None

    def __str__(self) -> str:
        return f"{self.memory}: {self.what}\n      fix: {self.fix}"

    def to_json(self) -> dict[str, object]:
        """The violation as a JSON object (`spec/formats.md`, Commands)."""
        return {
            "memory": self.memory,
            "operands": list(self.operands),
            "needed_bytes": self.needed_bytes,
            "capacity_bytes": self.capacity_bytes,
            "what": self.what,
            "fix": self.fix,
        }


class TilewrightError(Exception):
    """Every error that the package raises on purpose."""

    exit_code = 70


class InputError(TilewrightError):
    """What was given is wrong. Carries every problem that was found, not only the first."""

    exit_code = 2
    kind = "input"

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InfeasibleError(TilewrightError):
    """The answer is no: a mapping does not fit, or no mapping does."""

    exit_code = 1

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("\n".join(str(violation) for violation in self.violations))


class MissingToolError(TilewrightError):
    """A tool or an extra that this job needs is not installed, or failed."""

    exit_code = 3
    kind = "tool"

    def __init__(self, problem: Problem) -> None:
        self.problems = (problem,)
        super().__init__(str(problem))


class SimulationError(TilewrightError):
    """A simulated block is stuck, or contradicts what stands at its ports."""

    exit_code = 1
    kind = "simulation"

    def __init__(self, problem: Problem) -> None:
        self.problems = (problem,)
        super().__init__(str(problem))


def visible(text: str) -> str:
    """The text with control characters replaced, so that it cannot steer a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A fix that names the nearest known word, or all of them.

    >>> did_you_mean("fanot", ["fanout", "keeps"])
    'did you mean `fanout`?'
    >>> did_you_mean("zzz", ["x", "y"])
    'one of: x, y'
    """
    near = get_close_matches(word, known, n=1)
    if not near:
        folded = {name.casefold(): name for name in known}
        near = [folded[word.casefold()]] if word.casefold() in folded else []
    return f"did you mean `{near[0]}`?" if near else f"one of: {', '.join(known)}"
