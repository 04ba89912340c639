"""The blocking strings of the 2016 blocking paper: `Fw Fh X0 Y0 C0 K0 C1 K1 X1 Y1`.

Owns: reading such a string, spelling it out as a mapping with the buffers that the paper places,
and printing it from a mapping.

Non-goals: packing those buffers into a given hierarchy. The notation is as recalled
(`spec/papers.md`, A).
"""

import re
from dataclasses import dataclass

from tilewright.errors import InputError, Problem, Source, Span
from tilewright.ir.hardware import Hardware, Level
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.workload import Workload

DIM_OF = {"Fw": "S", "Fh": "R", "X": "Q", "Y": "P", "C": "C", "K": "K", "N": "N", "G": "G"}
"""The paper's letters and the dims that they stand for."""

_LETTER_OF = {dim: letter for letter, dim in DIM_OF.items()}
_TOKEN = re.compile(r"(Fw|Fh|[XYCKNG])(\d*)(?:=(\d+))?")


@dataclass(frozen=True, slots=True)
class Blocking:
    """A blocking: (dim, extent reached) of every loop, innermost first."""

    loops: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return _print(self.loops)

    def hierarchy(self, workload: Workload) -> Hardware:
        """The buffers that the blocking asks for.

        There is one below every loop that does not index an operand. They are levels of unlimited
        capacity under `DRAM`, named after their operand and numbered from the outermost: `W0`,
        `I0`, `O0`, …
        """
        names = [name for name, _, _ in self._buffers(workload)]
        levels = (Level("DRAM"), *(Level(name) for name in names))
        return Hardware(f"buffers of {workload.name}", levels)

    def mapping(self, workload: Workload) -> Mapping:
        """The blocking as a mapping onto its `hierarchy`."""
        loops = self._loops()
        starts = {0: [("DRAM", tuple(operand.name for operand in workload.operands))]}
        for name, operand, depth in self._buffers(workload):
            starts.setdefault(depth, []).append((name, (operand,)))
        blocks: list[Block] = []
        cuts = sorted({*starts, len(loops)})
        for cut, stop in zip(cuts, [*cuts[1:], len(loops)], strict=True):
            for memory, operands in starts.get(cut, []):
                last = (memory, operands) == starts[cut][-1]
                blocks.append(Block(memory, operands, loops[cut:stop] if last else ()))
        return Mapping(tuple(blocks))

    def _loops(self) -> tuple[Loop, ...]:
        """The loops, outermost first, by their own extents."""
        reached: dict[str, int] = {}
        loops: list[Loop] = []
        for dim, extent in self.loops:
            loops.append(Loop(dim, -(-extent // reached.get(dim, 1))))
            reached[dim] = extent
        return tuple(reversed(loops))

    def _buffers(self, workload: Workload) -> list[tuple[str, str, int]]:
        """(name, operand, loops outside) of every buffer, outermost first."""
        found: list[tuple[str, str, int]] = []
        counts: dict[str, int] = {}
        for depth, loop in enumerate(self._loops(), start=1):
            for operand in workload.operands:
                if loop.dim not in operand.dims:
                    number = counts.get(operand.name, 0)
                    counts[operand.name] = number + 1
                    found.append((f"{operand.name}{number}", operand.name, depth))
        return found


def parse_blocking(text: str, workload: Workload) -> Blocking:
    """Read a blocking string.

    Args:
        text: loops from the innermost to the outermost, each with the extent that its dim has
            reached once the loop is complete: `X0=8`. The extent may be left out at the last loop
            of a dim, which reaches the layer's size.
        workload: a convolution, with the dims of `conv2d`.

    Raises: `InputError` with every problem, placed in the text.

    >>> from tilewright.ir.workload import conv2d
    >>> layer = conv2d("conv", K=16, C=8, P=8, Q=8, R=3, S=3)
    >>> print(parse_blocking("Fw Fh X0 Y0 C0=4 K0=4 C1 K1", layer))
    Fw=3 Fh=3 X0=8 Y0=8 C0=4 K0=4 C1=8 K1=16

    Source: `spec/papers.md`, A (as recalled).
    """
    source, problems = Source("blocking", text), list[Problem]()
    tokens = list(re.finditer(r"\S+", text))
    letters = [match[1] for token in tokens if (match := _TOKEN.fullmatch(token[0]))]
    reached = dict.fromkeys(workload.sizes, 1)
    loops: list[tuple[str, int]] = []
    for place, token in enumerate(tokens):
        where = Span(source, token.start(), token.end())
        match = _TOKEN.fullmatch(token[0])
        dim = DIM_OF[match[1]] if match else ""
        if match is None or dim not in workload.sizes:
            what = f"`{token[0]}` is no loop of {workload.name}"
            problems.append(Problem(what, "write Fw, Fh, X0=8, Y0=8, C0=4, K0=16", where))
            continue
        last = match[1] not in letters[place + 1 :]
        extent = int(match[3]) if match[3] else workload.sizes[dim]
        problem = _check(token[0], extent, reached[dim], workload.sizes[dim], last=last)
        if not match[3] and not last:
            problem = Problem(f"`{token[0]}` needs the extent that it reaches", f"{token[0]}=8")
        if problem:
            problems.append(Problem(problem.what, problem.fix, where))
        reached[dim] = extent
        loops.append((dim, extent))
    problems += [
        Problem(f"no loop reaches {dim} {size}", f"add {_LETTER_OF.get(dim, dim)}", "blocking")
        for dim, size in workload.sizes.items()
        if reached[dim] < size and not problems
    ]
    if problems:
        raise InputError(problems)
    return Blocking(tuple(loops))


def _check(token: str, extent: int, before: int, size: int, *, last: bool) -> Problem | None:
    if extent < before or extent > size:
        what = f"`{token}` reaches {extent}: it must be from {before}, reached before, to {size}"
        return Problem(what, "extents grow from the innermost loop to the outermost")
    if last and extent != size:
        return Problem(f"`{token}` reaches {extent}, the size is {size}", "leave the extent out")
    return None


def format_blocking(mapping: Mapping) -> str:
    r"""Print a mapping's loops as a blocking string; which memory keeps what is not part of it.

    Raises: `InputError` for spatial loops and for dims that the notation has no letter for.

    >>> from tilewright.ir.mapping import parse_mapping
    >>> format_blocking(parse_mapping("DRAM[W I O]: K4 C2\nRF[W I O]: K4 S3"))
    'Fw=3 K0=4 C0=2 K1=16'
    """
    loops = [loop for block in mapping.blocks for loop in block.loops if loop.extent > 1]
    problems = [
        Problem(f"`{loop}` has no place in a blocking string", "only temporal convolution loops do")
        for loop in loops
        if loop.axis is not None or loop.dim not in _LETTER_OF
    ]
    if problems:
        raise InputError(problems)
    reached: dict[str, int] = {}
    found: list[tuple[str, int]] = []
    for loop in reversed(loops):
        reached[loop.dim] = reached.get(loop.dim, 1) * loop.extent
        found.append((loop.dim, reached[loop.dim]))
    return _print(tuple(found))


def _print(loops: tuple[tuple[str, int], ...]) -> str:
    counts: dict[str, int] = {}
    words: list[str] = []
    for dim, extent in loops:
        number = counts.get(dim, 0)
        counts[dim] = number + 1
        letter = _LETTER_OF[dim]
        several = letter not in ("Fw", "Fh") or [d for d, _ in loops].count(dim) > 1
        words.append(f"{letter}{number if several else ''}={extent}")
    return " ".join(words)
