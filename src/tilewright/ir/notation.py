"""The notation of mappings: text into blocks and loops, every one with its place in the text.

Owns: `read_blocks`, for whole mappings (`ir/mapping.py`) and for partly given ones (`ir/fix.py`),
which may leave out brackets and extents.

Non-goals: what blocks and loops mean.
"""

import re
from dataclasses import dataclass

from tilewright.errors import InputError, Problem, Source, Span

_LOOP = re.compile(r"([A-Za-z_]+)(\d*)(?:@(\w*))?")
_OPERAND = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Grammar:
    """What must be written, and how messages put it.

    Attributes:
        noun: what the text is called.
        form: of a line, for messages.
        line, first: examples: of a line, and of one to begin with.
        whole: whether brackets and extents must be there.
    """

    noun: str
    form: str
    line: str
    first: str
    whole: bool

    @property
    def header(self) -> re.Pattern[str]:
        """What a line begins with: a memory and, in brackets, operands."""
        return _WHOLE_HEADER if self.whole else _HEADER


_WHOLE_HEADER = re.compile(r"\s*([^\s\[\]:|#]+)\s*\[([^\[\]]*)\]\s*:")
_HEADER = re.compile(r"\s*([^\s\[\]:|#]+)\s*(?:\[([^\[\]]*)\]\s*)?:")

MAPPING = Grammar(
    "mapping",
    "MEMORY[operands]: loops | spatial loops",
    "GLB[I O]: C8 Q28 | K4@y",
    "DRAM[W I O]: K4 C2",
    whole=True,
)
PARTIAL = Grammar(
    "fix", "MEMORY: loops | spatial loops", "GLB: C8 Q | K@y", "GLB: | K@x C@y", whole=False
)


@dataclass(frozen=True, slots=True)
class WrittenLoop:
    """A loop as written: its extent and its axis where there are any."""

    dim: str
    extent: int | None
    axis: str | None
    where: Span


@dataclass(frozen=True, slots=True)
class WrittenBlock:
    """A line as written: its operands if there are brackets."""

    memory: str
    operands: tuple[str, ...] | None
    temporal: tuple[WrittenLoop, ...]
    spatial: tuple[WrittenLoop, ...]
    where: Span


def read_blocks(text: str, name: str, grammar: Grammar) -> list[WrittenBlock]:
    """Read the lines of a text. `name` is what messages call it, a file's name for example.

    Raises: `InputError` with every problem, each placed in the text.

    >>> (block,) = read_blocks("GLB: C8 Q | K@y", "fix", PARTIAL)
    >>> block.operands, [loop.extent for loop in block.temporal], block.spatial[0].axis
    (None, [8, None], 'y')

    Source: `spec/model.md §2`.
    """
    source, problems, blocks = Source(name, text), list[Problem](), list[WrittenBlock]()
    start = 0
    for line in text.split("\n"):
        code = line.partition("#")[0].rstrip()
        if code.strip():
            indent = len(code) - len(code.lstrip())
            span = Span(source, start + indent, start + len(code))
            block = _read_block(span, grammar, problems)
            blocks += [block] if block else []
        start += len(line) + 1
    if not blocks and not problems:
        where = Span(source, 0, 0)
        problems.append(Problem(f"the {grammar.noun} is empty", f"write {grammar.first}", where))
    if problems:
        raise InputError(problems)
    return blocks


def _read_block(span: Span, grammar: Grammar, problems: list[Problem]) -> WrittenBlock | None:
    text = span.source.text[span.start : span.end]
    match = grammar.header.match(text)
    if match is None:
        problems.append(Problem(f"expected `{grammar.form}`", f"write {grammar.line}", span))
        return None
    operands = None if match[2] is None else tuple(match[2].split())
    for name in operands or ():
        if not _OPERAND.fullmatch(name):
            where = span.within(match.start(2), match.end(2))
            problems.append(Problem(f"`{name}` is no operand's name", "use spaces between", where))
    left, bar, right = text[match.end() :].partition("|")
    inside = span.within(match.end(), len(text))
    temporal = _read_loops(left, inside, grammar, problems, spatial=False)
    after = match.end() + len(left) + len(bar)
    inside = span.within(after, len(text))
    spatial = _read_loops(right, inside, grammar, problems, spatial=True)
    return WrittenBlock(match[1], operands, temporal, spatial, span)


def _read_loops(
    text: str, span: Span, grammar: Grammar, problems: list[Problem], *, spatial: bool
) -> tuple[WrittenLoop, ...]:
    loops: list[WrittenLoop] = []
    for token in re.finditer(r"\S+", text):
        where = span.within(token.start(), token.end())
        try:
            loops.append(_read_loop(token[0], where, grammar, spatial=spatial))
        except ValueError as error:
            what, _, fix = str(error).partition("; ")
            problems.append(Problem(what, fix, where))
    return tuple(loops)


def _read_loop(token: str, where: Span, grammar: Grammar, *, spatial: bool) -> WrittenLoop:
    match = _LOOP.fullmatch(token)
    if match is None or (grammar.whole and not match[2]):
        axis = "@x" if spatial else ""
        what = f"a dim and its extent, K4{axis}"
        what = what if grammar.whole else f"{what}, or the dim alone, K{axis}"
        raise ValueError(f"`{token}` is no loop; write {what}")
    dim, digits, axis = match.groups()
    if spatial and not axis:
        raise ValueError(f"`{token}` stands right of `|` without an axis; write {dim}{digits}@x")
    if not spatial and axis is not None:
        raise ValueError(f"`{token}` is unrolled but stands left of `|`; write | {token}")
    if digits and (len(digits) > _MAX_DIGITS or int(digits) < 1):
        raise ValueError(f"`{token}`: an extent is from 1 to {10**_MAX_DIGITS - 1}")
    return WrittenLoop(dim, int(digits) if digits else None, axis, where)
