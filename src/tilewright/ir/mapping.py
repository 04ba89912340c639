"""Mappings: which loops run where, and which memory keeps what between them.

Owns: the nouns `Mapping`, `Block`, `Loop`, and the notation: `parse_mapping`, `format_mapping`.

Non-goals: whether a mapping suits a workload and a chip (`ir/verify.py`).
"""

import re
from dataclasses import dataclass, field

from tilewright.errors import InputError, Problem, Source, Span


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop over a dim: temporal without an axis, else unrolled on that axis of a fan-out."""

    dim: str
    extent: int
    axis: str | None = None
    where: Span | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.dim}{self.extent}" + (f"@{self.axis}" if self.axis else "")


@dataclass(frozen=True, slots=True)
class Block:
    """A memory, the operands that it keeps at this place of the nest, and the loops below it.

    The spatial loops, on the fan-out below the memory, stand inside the temporal ones.
    """

    memory: str
    operands: tuple[str, ...]
    temporal: tuple[Loop, ...] = ()
    spatial: tuple[Loop, ...] = ()
    where: Span | None = field(default=None, compare=False, repr=False)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """All loops of the block, outermost first."""
        return (*self.temporal, *self.spatial)

    def __str__(self) -> str:
        parts = [f"{self.memory}[{' '.join(self.operands)}]:", *map(str, self.temporal)]
        if self.spatial:
            parts += ["|", *map(str, self.spatial)]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Mapping:
    """A loop nest: its blocks, outermost first. Source: `spec/model.md §2`."""

    blocks: tuple[Block, ...]

    def __str__(self) -> str:
        return format_mapping(self)


def format_mapping(mapping: Mapping) -> str:
    """Print a mapping, one line per block. `parse_mapping` reads it back unchanged."""
    return "\n".join(map(str, mapping.blocks))


_HEADER = re.compile(r"\s*([^\s\[\]:|#]+)\s*\[([^\[\]]*)\]\s*:")
_LOOP = re.compile(r"([A-Za-z_]+)(\d+)(?:@(\w*))?")
_OPERAND = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MAX_DIGITS = 18


def parse_mapping(text: str, name: str = "mapping") -> Mapping:
    r"""Read a mapping from its notation.

    Args:
        text: one line per block, `MEMORY[operands]: temporal loops | spatial loops`; `#` starts a
            comment.
        name: what messages call the text; a file's name, for example.

    Raises: `InputError` with every problem, each placed in the text.

    >>> mapping = parse_mapping("DRAM[W I O]: K4 P2\nGLB[I O]: C8 | K4@y  # on chip")
    >>> mapping.blocks[1].spatial[0].extent
    4
    >>> print(mapping)
    DRAM[W I O]: K4 P2
    GLB[I O]: C8 | K4@y

    Source: `spec/model.md §2`.
    """
    source, problems, blocks = Source(name, text), list[Problem](), list[Block]()
    start = 0
    for line in text.split("\n"):
        code = line.partition("#")[0].rstrip()
        if code.strip():
            indent = len(code) - len(code.lstrip())
            block = _parse_block(Span(source, start + indent, start + len(code)), problems)
            blocks += [block] if block else []
        start += len(line) + 1
    if not blocks and not problems:
        where = Span(source, 0, 0)
        problems.append(Problem("the mapping is empty", "write DRAM[W I O]: K4 C2", where))
    if problems:
        raise InputError(problems)
    return Mapping(tuple(blocks))


def _parse_block(span: Span, problems: list[Problem]) -> Block | None:
    text = span.source.text[span.start : span.end]
    match = _HEADER.match(text)
    if match is None:
        what = "expected `MEMORY[operands]: loops | spatial loops`"
        problems.append(Problem(what, "write GLB[I O]: C8 Q28 | K4@y", span))
        return None
    operands = tuple(match[2].split())
    for name in operands:
        if not _OPERAND.fullmatch(name):
            where = span.within(match.start(2), match.end(2))
            problems.append(Problem(f"`{name}` is no operand's name", "use spaces between", where))
    left, bar, right = text[match.end() :].partition("|")
    temporal = _parse_loops(left, span.within(match.end(), len(text)), problems, spatial=False)
    after = match.end() + len(left) + len(bar)
    spatial = _parse_loops(right, span.within(after, len(text)), problems, spatial=True)
    return Block(match[1], operands, temporal, spatial, span)


def _parse_loops(
    text: str, span: Span, problems: list[Problem], *, spatial: bool
) -> tuple[Loop, ...]:
    loops: list[Loop] = []
    for token in re.finditer(r"\S+", text):
        where = span.within(token.start(), token.end())
        try:
            loops.append(_parse_loop(token[0], where, spatial=spatial))
        except ValueError as error:
            what, _, fix = str(error).partition("; ")
            problems.append(Problem(what, fix, where))
    return tuple(loops)


def _parse_loop(token: str, where: Span, *, spatial: bool) -> Loop:
    match = _LOOP.fullmatch(token)
    if match is None:
        example = "K4@x" if spatial else "K4"
        raise ValueError(f"`{token}` is no loop; write a dim and its extent, {example}")
    dim, digits, axis = match.groups()
    if spatial and not axis:
        raise ValueError(f"`{token}` stands right of `|` without an axis; write {token}@x")
    if not spatial and axis is not None:
        raise ValueError(f"`{token}` is unrolled but stands left of `|`; write | {token}")
    if len(digits) > _MAX_DIGITS or int(digits) < 1:
        raise ValueError(f"`{token}`: an extent is from 1 to {10**_MAX_DIGITS - 1}")
    return Loop(dim, int(digits), axis, where)
