"""A workload read as a convolution, as far as the block can run it.

Owns: finding stride, dilation, padding and groups in a workload's operands; where a word of an
operand lies in memory.

Non-goals: mappings (`hwc/program.py`).
"""

from dataclasses import dataclass, replace
from math import gcd

from tilewright.errors import InputError, Problem
from tilewright.hwc.config import SUM_BITS, HwcConfig
from tilewright.ir.workload import Operand, Rank, Workload

DIMS = ("N", "G", "K", "C", "P", "Q", "R", "S")
REDUCED = ("C", "R", "S")
"""The dims whose iterations add to the same word of the output."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of the image.

    Attributes:
        outer: the dim of the output on this axis, P or Q.
        inner: the dim of the filter, R or S.
        stride: input words from an output to the next.
        dilation: input words from a filter word to the next.
        padding: coordinates before the first word.
        length: the words there are.
        last: the last coordinate that is touched, padding included.
    """

    outer: str
    inner: str
    stride: int
    dilation: int
    padding: int
    length: int
    last: int

    def reach(self, spans: dict[str, int]) -> int:
        """Over how many coordinates a tile of these extents reaches."""
        return self.stride * (spans[self.outer] - 1) + self.dilation * (spans[self.inner] - 1) + 1

    @property
    def repeat(self) -> tuple[int, int]:
        """After how many outputs, and how many filter words, the same coordinate comes again."""
        common = gcd(self.stride, self.dilation)
        return self.dilation // common, self.stride // common


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution: its sizes by dim (all eight of `DIMS`), and its two axes."""

    name: str
    sizes: dict[str, int]
    rows: Axis
    columns: Axis

    def shape(self, operand: str) -> tuple[int, ...]:
        """The extents of an operand in memory; the last one is contiguous."""
        size = self.sizes
        if operand == "I":
            return (size["N"], size["G"], size["C"], self.rows.length, self.columns.length)
        return tuple(size[dim] for dim in LAYOUT[operand])


LAYOUT = {"W": ("G", "K", "C", "R", "S"), "O": ("N", "G", "K", "P", "Q"), "I": ("N", "G", "C")}
"""How words lie in memory, slowest dim first; rows and columns of the input come after."""


def strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The words from one index of each dim to the next.

    >>> strides((2, 3, 4))
    (12, 4, 1)
    """
    found = [1]
    for extent in reversed(shape[1:]):
        found.append(found[-1] * extent)
    return tuple(reversed(found))


def read_convolution(workload: Workload) -> Convolution:
    """Find the convolution in a workload.

    Raises: `InputError` if it is none that the block can run: other operands than W, I and O, or
    other ranks than `O[N,G,K,P,Q] += W[G,K,C,R,S] * I[N,G,C,sP+dR,sQ+dS]`, dims of size 1 left
    out or not.

    >>> from tilewright.ir.workload import conv2d
    >>> layer = conv2d("c", K=2, C=1, P=4, Q=4, R=3, S=3, stride=2, padding=1, in_height=8)
    >>> read_convolution(layer).rows
    Axis(outer='P', inner='R', stride=2, dilation=1, padding=1, length=8, last=8)
    """
    names = sorted(operand.name for operand in workload.operands)
    sizes = dict.fromkeys(DIMS, 1) | workload.sizes
    if names != ["I", "O", "W"] or set(sizes) != set(DIMS) or workload.output.name != "O":
        raise InputError(_no_convolution(workload))
    image = workload.operand("I")
    rows, columns = _axis(image, "P", "R", sizes), _axis(image, "Q", "S", sizes)
    if rows is None or columns is None or not _is_plain(workload, image):
        raise InputError(_no_convolution(workload))
    return Convolution(workload.name, sizes, rows, columns)


def fit_widths(workload: Workload, config: HwcConfig) -> Workload:
    """The same layer with the block's word sizes.

    A layer with one multiply-accumulate per output has no partial sums, but the block keeps its
    results as sums all the same.
    """
    sizes = dict.fromkeys(DIMS, 1) | workload.sizes
    summed = any(sizes[dim] > 1 for dim in REDUCED)
    inputs = tuple(replace(operand, bits=config.data_bits) for operand in workload.inputs)
    output = replace(workload.output, bits=config.data_bits if summed else SUM_BITS)
    return replace(workload, inputs=inputs, output=output, psum_bits=SUM_BITS)


def _axis(image: Operand, outer: str, inner: str, sizes: dict[str, int]) -> Axis | None:
    rank = next(
        (rank for rank in image.ranks if {outer, inner} & {t.dim for t in rank.terms}), None
    )
    if rank is None:
        return Axis(outer, inner, 1, 1, 0, 1, 0) if sizes[outer] == sizes[inner] == 1 else None
    step = {term.dim: term.coefficient for term in rank.terms}
    if not set(step) <= {outer, inner}:
        return None
    if any(dim not in step and sizes[dim] > 1 for dim in (outer, inner)):
        return None
    stride, dilation = step.get(outer, 1), step.get(inner, 1)
    reach = 1 + stride * (sizes[outer] - 1) + dilation * (sizes[inner] - 1)
    first, stop = (0, reach) if rank.data is None else rank.data
    return Axis(outer, inner, stride, dilation, first, stop - first, reach - 1)


def _is_plain(workload: Workload, image: Operand) -> bool:
    """Whether all ranks but the rows and columns of the input are one dim each, as expected."""
    plain = [rank for rank in image.ranks if not {t.dim for t in rank.terms} & set("PQRS")]
    expected = {"I": {"N", "G", "C"}, "W": set(LAYOUT["W"]), "O": set(LAYOUT["O"])}
    ranks = {"I": plain, "W": workload.operand("W").ranks, "O": workload.output.ranks}
    return all(
        all(_is_dim(rank) and rank.terms[0].dim in expected[name] for rank in ranks[name])
        and _covers(workload, {r.terms[0].dim for r in ranks[name]}, expected[name])
        for name in expected
    )


def _covers(workload: Workload, dims: set[str], expected: set[str]) -> bool:
    return all(workload.sizes.get(dim, 1) == 1 for dim in expected - dims)


def _is_dim(rank: Rank) -> bool:
    return len(rank.terms) == 1 and rank.terms[0].coefficient == 1 and rank.data is None


def _no_convolution(workload: Workload) -> Problem:
    what = f"the block runs convolutions, and this is none: {workload.einsum}"
    fix = "write O[N,K,P,Q] += W[K,C,R,S] * I[N,C,P+R,Q+S], with groups G if any"
    return Problem(what, fix, workload.name)
