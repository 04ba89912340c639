"""How a shape is cut: vectors, chunks, tiles of pixels, and which taps each tile has.

Owns: the nouns `Blocking` and `Layout`, and what follows from them for loops and arrays. The
generator (`emit*.py`) and the model of its traffic (`traffic.py`) both read it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tilewright.codegen.shape import Shape, Window
from tilewright.codegen.targets import Target

MOST_UNROLLED = 640
"""Multiply-accumulates written out in one tile; beyond, taps are a loop."""
LINE_ELEMENTS = 16
"""Of 32 bits in a line of 64 bytes."""
SPREAD_LINES = 8
"""So many lines apart neighbouring blocks begin in a cache whose sets are a multiple of them."""
SMALLEST_SPREAD = 40
"""Lines: smaller blocks stay as they are."""
BLOCK_LANES = (4, 8, 16)
MOST_PATTERNS = 8
"""Different edges of one axis that are written out; beyond, edge pixels are done one by one."""


@dataclass(frozen=True, slots=True)
class Blocking:
    """The free choices of a program.

    Attributes:
        vectors: of output channels in a register tile.
        width: pixels of a row in a register tile.
        chunk: input elements (pairs of channels for int8) summed before the next row.
        rows: of a block; blocks are the outer loops.
        order: of the outer loops, outermost first: blocks of output channels `K`, of places `P`,
            chunks `C`. Unless chunks stand last, sums come back for each of them.
        tiles: register tiles of a block, side by side; 0 if its rows are whole.
        threads: that share the blocks.
    """

    vectors: int
    width: int
    chunk: int
    rows: int
    order: str = "KPC"
    tiles: int = 0
    threads: int = 1

    @property
    def chunks_inside(self) -> bool:
        """Whether all chunks of a block are summed before the next block."""
        return self.order.endswith("C")

    @property
    def chunk_major(self) -> bool:
        """Whether weights are read chunk by chunk, each for all output channels."""
        return self.order.index("C") < self.order.index("K")


def plane_pixels(pixels: int, lanes: int) -> int:
    """Pixels from one block of channels to the next: a few more than an image has.

    Blocks that a tile reads side by side would otherwise begin at the same sets of a cache, where
    image sizes are multiples of powers of two, and push one another out. An odd multiple of 8 lines
    spreads 8 blocks evenly over 64 sets.

    >>> plane_pixels(56 * 56, 16), plane_pixels(7 * 7, 16), plane_pixels(1, 16)
    (3144, 56, 1)
    """
    lines = -(-pixels * lanes // LINE_ELEMENTS)
    if lanes not in BLOCK_LANES or lines < SMALLEST_SPREAD:
        return pixels
    lines += (SPREAD_LINES - lines) % (2 * SPREAD_LINES)  # an odd multiple of it
    return lines * LINE_ELEMENTS // lanes


@dataclass(frozen=True, slots=True)
class Layout:
    """Packed arrays: channels in blocks of `lanes` stand together, pixel by pixel.

    Image [batch][group][block][row][column][in_lanes], output likewise with `lanes`; weights in
    the order in which the program reads them, biases behind. Blocks stand `plane_pixels` apart.
    """

    shape: Shape
    lanes: int
    packed_int8: int = 2

    @property
    def per_element(self) -> int:
        """Channels of the image in one element."""
        shape = self.shape
        return self.packed_int8 if shape.dtype == "int8" and not shape.per_channel else 1

    @property
    def is_shifted(self) -> bool:
        """Whether the image is 128 more than it is, so that it is unsigned."""
        return self.per_element == 4

    @property
    def bias_elements(self) -> int:
        """Elements of the biases of a block; 128 times each tap's weights behind, if shifted."""
        return self.lanes * (1 + self.shape.taps * self.is_shifted)

    @property
    def elements(self) -> int:
        """Elements of the channels of a group of the image, without those that only fill up."""
        return -(-self.shape.inputs // self.per_element)

    @property
    def in_lanes(self) -> int:
        """Elements of the image that stand together."""
        return self.lanes if self.shape.per_channel else min(self.lanes, self.elements)

    @property
    def in_blocks(self) -> int:
        """Blocks of channels of the image, of a group."""
        if self.shape.per_channel:
            return -(-self.shape.groups // self.lanes)
        return -(-self.elements // self.in_lanes)

    @property
    def out_blocks(self) -> int:
        """Blocks of output channels, of a group."""
        channels = self.shape.groups if self.shape.per_channel else self.shape.outputs
        return -(-channels // self.lanes)

    @property
    def groups(self) -> int:
        """Groups that are packed apart; with one channel each they are packed as channels."""
        return 1 if self.shape.per_channel else self.shape.groups

    @property
    def image_plane(self) -> int:
        """Pixels from one block of the image to the next."""
        return plane_pixels(self.shape.rows.size * self.shape.columns.size, self.in_lanes)

    @property
    def output_plane(self) -> int:
        """Pixels from one block of the output to the next."""
        return plane_pixels(self.shape.rows.places * self.shape.columns.places, self.lanes)

    @property
    def image_elements(self) -> int:
        """Elements of the packed image."""
        return self.shape.batch * self.groups * self.in_blocks * self.image_plane * self.in_lanes

    @property
    def output_elements(self) -> int:
        """Elements of the packed output."""
        return self.shape.batch * self.groups * self.out_blocks * self.output_plane * self.lanes

    @property
    def filter_elements(self) -> int:
        """Elements of the packed weights, without the biases."""
        if self.shape.pool:
            return 0
        per_output = self.shape.taps * (1 if self.shape.per_channel else self.elements)
        return self.groups * self.out_blocks * self.lanes * per_output

    @property
    def weight_elements(self) -> int:
        """Elements of the packed weights with the biases."""
        if self.shape.pool:
            return 0
        return self.filter_elements + self.groups * self.out_blocks * self.bias_elements


@dataclass(frozen=True, slots=True)
class Run:
    """Tiles of an axis that look alike: `count` of them, each `width` places, from `start` on.

    `taps[i]` are the taps of the i-th place that fall on pixels.
    """

    start: int
    count: int
    width: int
    taps: tuple[range, ...]

    @property
    def full(self) -> bool:
        """Whether no tap falls on padding."""
        return len(set(self.taps)) == 1 and self.taps[0].start == 0


def runs(axis: Window, width: int) -> list[Run]:
    """Cut the places of an axis into tiles, and put neighbours that look alike together.

    >>> [(run.start, run.count, run.width) for run in runs(Window(28, 28, 3, 1, 1, 1), 7)]
    [(0, 1, 7), (7, 2, 7), (21, 1, 7)]
    """
    found: list[Run] = []
    for start in range(0, axis.places, width):
        wide = min(width, axis.places - start)
        taps = tuple(axis.valid(start + place) for place in range(wide))
        last = found[-1] if found else None
        if last and last.taps == taps:
            found[-1] = Run(last.start, last.count + 1, wide, taps)
        else:
            found.append(Run(start, 1, wide, taps))
    return found


def balanced(places: int, most: int) -> int:
    """The width of tiles when as few as possible, at most `most` wide, share the places evenly.

    >>> balanced(13, 8)
    7
    """
    return -(-places // -(-places // most))


def is_unrolled(axis: Window, width: int, per_tap: int) -> bool:
    """Whether the taps of a tile are written out; `per_tap` is what one of them costs."""
    patterns = {run.taps for run in runs(axis, width)}
    return axis.taps * width * per_tap <= MOST_UNROLLED and len(patterns) <= MOST_PATTERNS


def row_tiles(axis: Window, blocking: Blocking) -> tuple[int, int]:
    """How a row of places is cut: (blocks of tiles, register tiles of each).

    >>> row_tiles(Window(56, 56, 3, 1, 1, 1), Blocking(2, 4, 32, 14, tiles=4))
    (4, 4)
    """
    tiles = -(-axis.places // blocking.width)
    some = min(blocking.tiles or tiles, tiles)
    return -(-tiles // some), some


def vector_groups(layout: Layout, blocking: Blocking) -> list[tuple[int, int]]:
    """Groups of output channel blocks that a register tile covers: (how many, vectors)."""
    whole, rest = divmod(layout.out_blocks, blocking.vectors)
    return [group for group in ((whole, blocking.vectors), (1, rest)) if group[0] and group[1]]


def chunks(layout: Layout, blocking: Blocking) -> Iterator[tuple[int, int]]:
    """The chunks of input elements: (first element, how many)."""
    for first in range(0, layout.elements, blocking.chunk):
        yield first, min(blocking.chunk, layout.elements - first)


@dataclass(frozen=True, slots=True)
class Plan:
    """A shape, cut for a target: all that a program's text follows from.

    `prefix` stands before the names of its functions, where several share a file.
    """

    shape: Shape
    target: Target
    blocking: Blocking
    prefix: str = ""

    @property
    def layout(self) -> Layout:
        """The packed arrays."""
        return Layout(self.shape, self.target.lanes, self.target.packed_int8)
