"""What a generated program computes: a convolution, a matrix product, or a pooling, by its sizes.

Owns: recognising these in a workload's ranks, and the arrays that users give and get.

Non-goals: names. Dims are told apart by the operands that they index, never by their letters.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tilewright.errors import InputError, Problem
from tilewright.ir.workload import Operand, Rank, Workload

POOLS = ("sum", "average", "max")
DTYPES = ("float32", "int8")
MOST_BYTES = 1 << 36
"""Arrays of more than 64 GiB in all are refused: that is no layer, that is a slip of the pen."""
MOST_TAPS_INT8 = (2**31 - 1) // (128 * 128)
"""Products of two bytes that surely fit into a sum of 32 bits."""


@dataclass(frozen=True, slots=True)
class Window:
    """One axis of the image: what a filter of `taps` sees of `size` pixels, `places` times."""

    size: int = 1
    places: int = 1
    taps: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0

    def valid(self, place: int) -> range:
        """The taps that fall on a pixel, not on padding, at one place."""
        start = place * self.stride - self.before
        first = max(0, -(start // self.dilation))
        stop = min(self.taps, (self.size - 1 - start) // self.dilation + 1)
        return range(first, max(first, stop))


@dataclass(frozen=True, slots=True)
class Shape:
    """A layer as the generator sees it: O[n,g,k,p,q] += W[g,k,c,r,s] * I[n,g,c,row,column].

    Attributes:
        name: of the layer.
        batch: images.
        groups: groups of channels that do not mix; the channels, for pooling.
        outputs: output channels of a group.
        inputs: input channels of a group.
        rows: the vertical axis.
        columns: the horizontal axis.
        pool: `sum`, `average` or `max` for pooling; empty for products.
        dtype: `float32`, or `int8` with 32-bit sums.
        relu: results below 0 become 0.
    """

    name: str
    batch: int
    groups: int
    outputs: int
    inputs: int
    rows: Window
    columns: Window
    pool: str = ""
    dtype: str = "float32"
    relu: bool = False

    @property
    def per_channel(self) -> bool:
        """Whether every channel is by itself: depthwise convolution and pooling."""
        return self.outputs == self.inputs == 1 and (self.groups > 1 or bool(self.pool))

    @property
    def taps(self) -> int:
        """Taps of the filter."""
        return self.rows.taps * self.columns.taps

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(batch, groups, inputs, height, width)."""
        return (self.batch, self.groups, self.inputs, self.rows.size, self.columns.size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(groups, outputs, inputs, filter height, filter width)."""
        return (self.groups, self.outputs, self.inputs, self.rows.taps, self.columns.taps)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(batch, groups, outputs, height, width)."""
        return (self.batch, self.groups, self.outputs, self.rows.places, self.columns.places)

    @property
    def macs(self) -> int:
        """Multiply-accumulates, those on padding included."""
        return math.prod(self.output_shape) * self.inputs * self.taps

    @property
    def real_macs(self) -> int:
        """Multiply-accumulates on pixels."""
        rows = sum(len(self.rows.valid(place)) for place in range(self.rows.places))
        columns = sum(len(self.columns.valid(place)) for place in range(self.columns.places))
        return self.batch * self.groups * self.outputs * self.inputs * rows * columns


Ranks = tuple[str, tuple[int, ...]]
"""The ranks of an array: a letter for the role of each, and their sizes."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """How the user's arrays become those of a `Shape`, by the roles of their ranks.

    Roles: N batch, G group, K output channel, C input channel, P row, Q column, R and S those of
    the filter.

    Attributes:
        image: the ranks of the image.
        weights: those of the weights; `None` for pooling.
        output: those of the output.
        merged: a group's rank and the channels behind it are one, as users of numpy have it.
    """

    image: Ranks
    weights: Ranks | None
    output: Ranks
    merged: bool

    def letters(self, ranks: Ranks) -> str:
        """The roles of an array's ranks, as users have them.

        >>> image = ("NGCPQ", (1, 2, 48, 27, 27))
        >>> Arrays(image, None, image, merged=True).letters(image)
        'NCPQ'
        """
        letters = ranks[0]
        return letters.replace("GC", "C").replace("GK", "K") if self.merged else letters

    def user_shape(self, ranks: Ranks) -> tuple[int, ...]:
        """The shape of an array, as users have it.

        >>> image = ("NGCPQ", (1, 2, 48, 27, 27))
        >>> Arrays(image, None, image, merged=True).user_shape(image)
        (1, 96, 27, 27)
        """
        letters, sizes = ranks
        shape: list[int] = []
        for place, (letter, size) in enumerate(zip(letters, sizes, strict=True)):
            if self.merged and letter in "KC" and place and letters[place - 1] == "G":
                shape[-1] *= size
            else:
                shape.append(size)
        return tuple(shape)


def read_shape(
    workload: Workload, *, dtype: str = "float32", relu: bool = False, pool: str = "sum"
) -> tuple[Shape, Arrays]:
    """Recognise what a workload computes.

    Args:
        workload: a convolution with up to two axes, a matrix product, or a pooling.
        dtype: of the image and the weights; `int8` is summed in 32 bits.
        relu: results below 0 become 0.
        pool: what pooling does with a window; a workload says only what it touches.

    Returns: the shape, and how the user's arrays map to it.

    Raises: `InputError`, naming what is not supported, or the memory that the arrays would need.

    >>> from tilewright.ir.workload import conv2d
    >>> shape, _ = read_shape(conv2d("c", K=8, C=4, P=6, Q=6, R=3, S=3, stride=2))
    >>> shape.rows
    Window(size=13, places=6, taps=3, stride=2, dilation=1, before=0)
    """
    problems = list(_option_problems(workload, dtype, pool))
    if len(workload.inputs) > 2:
        what = f"{len(workload.inputs)} operands are multiplied: programs multiply two"
        problems.append(Problem(what, "split it into products of two", workload.name))
    if problems:
        raise InputError(problems)
    reading = _Reading(workload)
    reading.check()
    shape = reading.shape(dtype, relu, pool)
    problems = list(_size_problems(shape))
    if problems:
        raise InputError(problems)
    return shape, reading.arrays(shape)


def _option_problems(workload: Workload, dtype: str, pool: str) -> Iterable[Problem]:
    if dtype not in DTYPES:
        yield Problem(f"type `{dtype}` is not supported", f"one of: {', '.join(DTYPES)}")
    if pool not in POOLS:
        yield Problem(f"pooling `{pool}` is not known", f"one of: {', '.join(POOLS)}")
    if dtype == "int8" and not workload.multiplies:
        what = "pooling of int8 is not supported"
        yield Problem(what, "compile it for float32", workload.name)


def _size_problems(shape: Shape) -> Iterable[Problem]:
    words = math.prod(shape.image_shape) + math.prod(shape.output_shape)
    words += 0 if shape.pool else math.prod(shape.weight_shape)
    if 4 * words > MOST_BYTES:
        what = f"its arrays need {4 * words / 2**30:,.0f} GiB, the limit is {MOST_BYTES >> 30} GiB"
        yield Problem(what, "make the layer or its batch smaller", shape.name)
    if shape.dtype == "int8" and shape.inputs * shape.taps > MOST_TAPS_INT8:
        what = f"a result sums {shape.inputs * shape.taps:,} products of int8"
        what += f": beyond {MOST_TAPS_INT8:,} a sum of 32 bits may overflow"
        yield Problem(what, "compile it for float32", shape.name)


class _Reading:
    """The roles of a workload's dims and ranks."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.sizes = workload.sizes
        sliding = [op for op in workload.inputs if any(_slides(rank) for rank in op.ranks)]
        self.sliding = sliding
        self.image: Operand = sliding[0] if sliding else workload.inputs[-1]
        others = [op for op in workload.inputs if op is not self.image]
        self.weights: Operand | None = others[0] if others else None
        self.output = workload.output
        self.axes = [rank for rank in self.image.ranks if _slides(rank)]

    def check(self) -> None:
        """Raise `InputError` with everything that no program here computes."""
        name, problems = self.workload.name, list[Problem]()
        if len(self.sliding) > 1:
            what = f"windows slide over {' and '.join(op.name for op in self.sliding)}"
            problems.append(Problem(f"{what}: over one operand only", "", name))
        if any(len(rank.terms) > 1 or rank.data for rank in self.output.ranks):
            what = f"the output {self.output} is scattered, as by a transposed convolution"
            problems.append(Problem(what, "only forward convolutions are compiled", name))
        if len(self.axes) > 2:
            what = f"the window slides along {len(self.axes)} axes: at most 2 are compiled"
            problems.append(Problem(what, "", name))
        for rank in self.image.ranks:
            if len(rank.terms) > 2:
                problems.append(Problem(f"rank {rank} of {self.image.name} sums 3 dims", "", name))
        for dim in self.sizes:
            if not self._role(dim):
                what = f"dim {dim} of {self.workload.einsum} has no role in a convolution"
                problems.append(Problem(what, "only products that share dims are compiled", name))
        if problems:
            raise InputError(problems)

    def _role(self, dim: str) -> str:
        """N, G, K, C for a dim; P and Q for places, R and S for taps; empty for none of them."""
        inside = (
            self.weights is not None and dim in self.weights.dims,
            dim in self.image.dims,
            dim in self.output.dims,
        )
        for index, axis in enumerate(self.axes):
            if dim in [term.dim for term in axis.terms]:
                letters = ("PR", "QS")[index + 2 - len(self.axes)]
                return letters[0] if inside[2] else letters[1]
        if self.weights is None:
            return "G" if inside == (False, True, True) else ""
        pixel = "N" if self.axes else "Q"
        roles = {
            (True, True, True): "G",
            (False, True, True): pixel,
            (True, False, True): "K",
            (True, True, False): "C",
        }
        return roles.get(inside, "")

    def _total(self, role: str) -> int:
        return math.prod(size for dim, size in self.sizes.items() if self._role(dim) == role)

    def shape(self, dtype: str, relu: bool, pool: str) -> Shape:
        """The sizes by role."""
        windows = [self._window(rank) for rank in self.axes]
        if not windows:
            pixels = self._total("Q")
            windows = [Window(size=pixels, places=pixels)]
        rows, columns = [Window(), *windows][-2:]
        return Shape(
            self.workload.name,
            batch=self._total("N"),
            groups=self._total("G"),
            outputs=self._total("K"),
            inputs=self._total("C"),
            rows=rows,
            columns=columns,
            pool=pool if self.weights is None else "",
            dtype=dtype,
            relu=relu,
        )

    def _window(self, rank: Rank) -> Window:
        places = next((t for t in rank.terms if t.dim in self.output.dims), None)
        taps = next((t for t in rank.terms if t.dim not in self.output.dims), None)
        steps = (self.sizes[places.dim], places.coefficient) if places else (1, 1)
        reach = (self.sizes[taps.dim], taps.coefficient) if taps else (1, 1)
        touched = (steps[0] - 1) * steps[1] + (reach[0] - 1) * reach[1] + 1
        first, stop = rank.data or (0, touched)
        return Window(stop - first, steps[0], reach[0], steps[1], reach[1], first)

    def arrays(self, shape: Shape) -> Arrays:
        """The roles of all ranks, in the order in which the workload writes them."""
        weights = None if self.weights is None else self._ranks(self.weights, shape)
        image, output = self._ranks(self.image, shape), self._ranks(self.output, shape)
        return Arrays(image, weights, output, merged=bool(self.axes))

    def _ranks(self, operand: Operand, shape: Shape) -> Ranks:
        found = [self._rank(operand, rank, shape) for rank in operand.ranks]
        return "".join(role for role, _ in found), tuple(size for _, size in found)

    def _rank(self, operand: Operand, rank: Rank, shape: Shape) -> tuple[str, int]:
        role = self._role(rank.terms[0].dim)
        if operand is not self.image or rank not in self.axes:
            return role, self.sizes[rank.terms[0].dim]
        return ("P", shape.rows.size) if role in "PR" else ("Q", shape.columns.size)


def _slides(rank: Rank) -> bool:
    strided = any(term.coefficient > 1 for term in rank.terms)
    return strided or len(rank.terms) > 1 or rank.data is not None
