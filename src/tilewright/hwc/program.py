"""From a mapping to what the block reads: its program.

Owns: the noun `Program`, `lower`, the registers that a program is written to and their widths, and
every limit of the block, which is checked here and nowhere later.

Non-goals: running it (`hwc/simulate.py`), and any count of words: the block finds them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from tilewright.errors import InfeasibleError, Violation
from tilewright.hwc.config import SUM_BITS, HwcConfig
from tilewright.hwc.convolution import (
    DIMS,
    LAYOUT,
    REDUCED,
    Axis,
    Convolution,
    read_convolution,
    strides,
)
from tilewright.ir.mapping import Mapping
from tilewright.ir.nest import Nest, NestLoop, flatten
from tilewright.ir.verify import verify_mapping
from tilewright.ir.workload import Workload

MOVED_BY = {"W": "GKCRS", "I": "NGCPQRS", "O": "NGKPQ"}
"""The dims whose loops move a tile of each operand."""

PARALLEL = ("K", "C", "Q")
"""The dims that the array may work on in parallel."""

BUFFER = "BUF"


@dataclass(frozen=True, slots=True)
class LoopEntry:
    """One loop of a program.

    Attributes:
        dim: what it advances.
        extent: its steps.
        step: by how much a step advances the dim.
        outside: the operands whose tile lies inside it, as letters.
    """

    dim: str
    extent: int
    step: int
    outside: str


@dataclass(frozen=True, slots=True)
class Program:
    """What the block runs: a nest, a buffering depth per operand, and where words lie.

    Attributes:
        convolution: the layer.
        loops: the nest, outermost first.
        slide: the loop along which the input tile slides; `None` if no loop does.
        spans: the largest tile of each operand, by dim.
        pitches: the distance in the buffer between neighbours along a dim, by operand and dim.
        slots: the most rows and columns of input that a tile holds.
        parallel: the dims that are worked on in parallel, of K, C and Q.
        apart: the axis of the input on which two tiles at once need slots of their own: `row` or
            `column`; empty if the buffer holds one tile.
        steps: by dim in parallel, how many indices a step works on.
        shift: how far a sum is shifted right to become a result.
        relu: whether results below 0 become 0.
        bias: whether each output channel's bias is added to its sums.
    """

    convolution: Convolution
    loops: tuple[LoopEntry, ...]
    slide: int | None
    spans: dict[str, dict[str, int]]
    pitches: dict[str, dict[str, int]]
    slots: tuple[int, int]
    parallel: str
    apart: str
    steps: dict[str, int]
    shift: int = 0
    relu: bool = False
    bias: bool = False

    def __str__(self) -> str:
        lines = [
            f"{loop.dim:>3} {loop.extent:>5} steps of {loop.step:<5} outside {loop.outside or '-'}"
            + ("  input slides" if number == self.slide else "")
            for number, loop in enumerate(self.loops)
        ]
        return "\n".join(lines)

    @property
    def steps_taken(self) -> int:
        """The steps of the nest, those of clipped tiles that do not exist left out."""
        total = 1
        for dim, size in self.convolution.sizes.items():
            total *= count_steps([loop for loop in self.loops if loop.dim == dim], size)
        return total

    @property
    def bias_words(self) -> int:
        """The biases that are fetched: one for each channel of every tile that is finished."""
        if not self.bias:
            return 0
        size, tile = self.convolution.sizes, self.spans["O"]
        tiles = prod(-(-size[dim] // tile[dim]) for dim in "PQ")
        return size["N"] * size["G"] * size["K"] * tiles

    def registers(self, config: HwcConfig) -> dict[str, int]:
        """Every register's value, by name, in the order of `register_widths`."""
        values = dict.fromkeys(register_widths(config), 0)
        nothing = config.loops
        for number in range(config.loops):
            values |= {f"loop{number}.extent": 1, f"loop{number}.parent": nothing}
        for number, loop in enumerate(self.loops):
            values |= {f"loop{number}.{key}": value for key, value in self._loop(loop)}
            outer = [i for i in range(number) if self.loops[i].dim == loop.dim]
            values[f"loop{number}.parent"] = outer[-1] if outer else nothing
        values["slide"] = nothing if self.slide is None else self.slide
        for dim in DIMS:
            of_dim = [i for i, loop in enumerate(self.loops) if loop.dim == dim]
            values[f"last.{dim}"] = of_dim[-1] if of_dim else nothing
            values[f"size.{dim}"] = self.convolution.sizes[dim]
        for operand, layout in LAYOUT.items():
            distances = strides(self.convolution.shape(operand))
            for dim, distance in zip(layout, distances, strict=False):
                values[f"{operand}.{dim}.span"] = self.spans[operand][dim]
                values[f"{operand}.{dim}.pitch"] = self.pitches[operand][dim]
                values[f"{operand}.{dim}.stride"] = distance
        most = (1 << config.count_bits) - 1
        for name, axis in (("row", self.convolution.rows), ("column", self.convolution.columns)):
            outer, inner = axis.repeat
            values[f"{name}.outer_span"] = self.spans["I"][axis.outer]
            values[f"{name}.inner_span"] = self.spans["I"][axis.inner]
            values[f"{name}.outer_step"] = axis.stride
            values[f"{name}.inner_step"] = axis.dilation
            values[f"{name}.outer_repeat"] = min(most, outer)
            values[f"{name}.inner_repeat"] = min(most, inner)
            values[f"{name}.padding"] = axis.padding
            values[f"{name}.length"] = axis.length
            values[f"{name}.apart"] = int(name == self.apart)
        values["row.pitch"] = self.slots[1]
        values |= {f"parallel.{dim}": int(dim in self.parallel) for dim in PARALLEL}
        values["shift"], values["relu"] = self.shift, int(self.relu)
        values["bias"] = int(self.bias)
        return values

    def _loop(self, loop: LoopEntry) -> Iterator[tuple[str, int]]:
        yield "extent", loop.extent
        yield "step", loop.step
        yield "limit", self.convolution.sizes[loop.dim]
        for operand in "WIO":
            moves = loop.dim in MOVED_BY[operand] and operand in loop.outside
            inside = loop.dim in self.pitches[operand] and operand not in loop.outside
            yield f"moves_{operand}", int(moves)
            yield f"outside_{operand}", int(operand in loop.outside)
            step = loop.step // self.steps.get(loop.dim, 1)
            if loop.dim == "K":  # lanes of output channels are neighbours in the buffer
                step = loop.step
            yield f"add_{operand}", step * self.pitches[operand][loop.dim] if inside else 0
        for name, axis in (("row", self.convolution.rows), ("column", self.convolution.columns)):
            coordinate = {axis.outer: axis.stride, axis.inner: axis.dilation}
            yield f"add_{name}", loop.step * coordinate.get(loop.dim, 0)
        yield "reduces", int(loop.dim in REDUCED)


def register_widths(config: HwcConfig) -> dict[str, int]:
    """The registers of a block, in the order of their addresses, and the bits of each."""
    count, index = config.count_bits, config.loops.bit_length()
    room = {"W": config.weight_words, "I": config.input_words, "O": config.sum_words}
    local = {operand: (words - 1).bit_length() + 1 for operand, words in room.items()}
    widths: dict[str, int] = {}
    for number in range(config.loops):
        fields = {"extent": count, "step": count, "limit": count, "parent": index}
        fields |= {f"moves_{operand}": 1 for operand in "WIO"}
        fields |= {f"outside_{operand}": 1 for operand in "WIO"}
        fields |= {f"add_{operand}": bits for operand, bits in local.items()}
        fields |= {"add_row": count, "add_column": count, "reduces": 1}
        widths |= {f"loop{number}.{name}": bits for name, bits in fields.items()}
    widths["slide"] = index
    widths |= {f"last.{dim}": index for dim in DIMS}
    widths |= {f"size.{dim}": count for dim in DIMS}
    for operand, layout in LAYOUT.items():
        for dim in layout:
            widths[f"{operand}.{dim}.span"] = count
            widths[f"{operand}.{dim}.pitch"] = local[operand]
            widths[f"{operand}.{dim}.stride"] = config.address_bits
    for name in ("row", "column"):
        fields = ("outer_span", "inner_span", "outer_step", "inner_step")
        fields += ("outer_repeat", "inner_repeat", "padding", "length")
        widths |= {f"{name}.{item}": count for item in fields} | {f"{name}.apart": 1}
    widths |= {"row.pitch": local["I"], "shift": 5, "relu": 1, "bias": 1}
    widths |= {f"parallel.{dim}": 1 for dim in PARALLEL}
    return widths


def count_steps(loops: list[LoopEntry], size: int) -> int:
    """The steps of loops over one dim, outermost first, of which only those below `size` exist.

    >>> count_steps([LoopEntry("P", 2, 4, ""), LoopEntry("P", 4, 1, "")], 7)
    7
    """
    if not loops:
        return 1
    first, rest = loops[0], loops[1:]
    starts = range(0, min(size, first.extent * first.step), first.step)
    return sum(count_steps(rest, size - start) for start in starts)


def lower(  # noqa: PLR0913
    mapping: Mapping,
    layer: Workload,
    config: HwcConfig,
    *,
    shift: int = 0,
    relu: bool = False,
    bias: bool = False,
) -> Program:
    r"""Turn a mapping of a convolution into the block's program.

    Args:
        mapping: of the layer on `config.to_hardware()`.
        layer: a convolution with operands W, I and O.
        config: the block.
        shift: how far sums are shifted right, rounding half up, to become results.
        relu: whether results below 0 become 0.
        bias: whether each output channel's bias is added to its sums.

    Raises:
        InputError: the layer is no convolution, or the mapping none for it and the block.
        InfeasibleError: the block cannot run it; says the limit and what block would do.

    >>> from tilewright.hwc.config import load_config
    >>> from tilewright.ir.mapping import parse_mapping
    >>> from tilewright.ir.workload import conv2d
    >>> layer = conv2d("c", K=2, C=3, P=4, Q=4, R=3, S=3)
    >>> nest = "DRAM[W I O]: K2\nBUF[W]: P4\nBUF[I O]: Q4 C3 R3 S3"
    >>> print(lower(parse_mapping(nest), layer, load_config("tiny")))
      K     2 steps of 1     outside WIO
      P     4 steps of 1     outside IO  input slides
      Q     2 steps of 2     outside -
      C     3 steps of 1     outside -
      R     3 steps of 1     outside -
      S     3 steps of 1     outside -

    Source: `docs/hwc.md`.
    """
    convolution = read_convolution(layer)
    hardware = config.to_hardware()
    verify_mapping(layer, hardware, mapping)
    nest = flatten(mapping, hardware)
    program = _lower(nest, layer, convolution, config)
    return replace(program, shift=shift, relu=relu, bias=bias)


def _lower(
    nest: Nest,
    layer: Workload,
    convolution: Convolution,
    config: HwcConfig,
) -> Program:
    depths = {
        operand: _outermost(nest, operand, stores[-1].depth)
        for operand, stores in nest.stores.items()
    }
    spans = {operand: _spans(nest, depth, convolution) for operand, depth in depths.items()}
    slots = [
        _most_words(convolution.rows, spans["I"], convolution),
        _most_words(convolution.columns, spans["I"], convolution),
    ]
    apart = ""
    if "I" in config.doubled:
        apart = "column" if _slides_along(nest, depths["I"], layer) in ("Q", "S") else "row"
        slots[apart == "column"] *= 2
    steps = _parallel_steps(nest, max(depths.values()), (spans, prod(slots)), config)
    shared = _share(nest, max(depths.values()), steps)
    loops, slide = _loops(shared, depths, layer, convolution)
    program = Program(
        convolution,
        loops,
        slide,
        spans,
        _all_pitches(spans, prod(slots), steps),
        (slots[0], slots[1]),
        "".join(steps),
        apart,
        steps,
    )
    violations = list(_violations(program, config))
    if violations:
        raise InfeasibleError(violations)
    return program


def _outermost(nest: Nest, operand: str, depth: int) -> int:
    """How far out a tile may be kept: past the loops that do not move it."""
    while depth and nest.loops[depth - 1].dim not in MOVED_BY[operand]:
        depth -= 1
    return depth


def _slides_along(nest: Nest, depth: int, layer: Workload) -> str:
    """The dim of the innermost loop outside that moves the input tile, if any."""
    image = layer.operand("I").dims
    return next((loop.dim for loop in reversed(nest.loops[:depth]) if loop.dim in image), "")


def _all_pitches(
    spans: dict[str, dict[str, int]], plane: int, steps: dict[str, int]
) -> dict[str, dict[str, int]]:
    """The distance in each buffer between neighbours along each dim.

    Output channels in parallel are neighbours; input channels and pixels in parallel lie at the
    same address of buffers of their own.
    """

    def share(operand: str, dims: str) -> dict[str, int]:
        extents = {dim: spans[operand][dim] for dim in dims}
        for dim, step in steps.items():
            if dim in extents:
                groups = -(-extents[dim] // step)
                extents[dim] = groups * step if dim == "K" else groups
        return extents

    return {
        "W": _pitches(share("W", "KSRCG")),
        "O": _pitches(share("O", "KQPGN")),
        "I": _pitches({"": plane} | share("I", "CGN")),
    }


def _spans(nest: Nest, depth: int, convolution: Convolution) -> dict[str, int]:
    """The extent of a full tile along each dim."""
    spans: dict[str, int] = dict.fromkeys(DIMS, 1)
    for loop in nest.loops[depth:]:
        spans[loop.dim] *= loop.extent
    return {dim: min(span, convolution.sizes[dim]) for dim, span in spans.items()}


def _most_words(axis: Axis, spans: dict[str, int], convolution: Convolution) -> int:
    """The most coordinates on an axis that are words and in one tile."""
    most = 0
    for first in range(0, convolution.sizes[axis.outer], spans[axis.outer]):
        outputs = range(first, min(first + spans[axis.outer], convolution.sizes[axis.outer]))
        for begin in range(0, convolution.sizes[axis.inner], spans[axis.inner]):
            filters = range(begin, min(begin + spans[axis.inner], convolution.sizes[axis.inner]))
            found = {
                x
                for p in outputs
                for r in filters
                if 0 <= (x := p * axis.stride + r * axis.dilation - axis.padding) < axis.length
            }
            most = max(most, len(found))
    return most


def _parallel_steps(
    nest: Nest, inside: int, tiles: tuple[dict[str, dict[str, int]], int], config: HwcConfig
) -> dict[str, int]:
    """By dim that is worked on in parallel, by how many indices.

    A dim is if the loops inside all tiles, whose order moves no word on any port, can be shared out
    without leaving the tile, and if tiles fit with whole groups. If not, one index is worked on at
    a time: the words on the ports are the same.
    """
    steps: dict[str, int] = {}
    for dim, lanes in (("K", config.lanes), ("C", config.channels), ("Q", config.pixels)):
        indices = prod(loop.extent for loop in nest.loops[inside:] if loop.dim == dim)
        goes_on = any(loop.dim == dim for loop in nest.loops[:inside])
        if lanes == 1 or indices == 1 or (goes_on and indices % lanes):
            continue
        if _fits_in_groups(*tiles, config, steps | {dim: lanes}):
            steps[dim] = lanes
    return steps


def _share(nest: Nest, inside: int, steps: dict[str, int]) -> tuple[NestLoop, ...]:
    """The loops, those inside all tiles over parallel dims made one over whole groups each."""
    inner = nest.loops[inside:]
    groups: list[NestLoop] = []
    for dim, lanes in steps.items():
        indices = prod(loop.extent for loop in inner if loop.dim == dim)
        level = inner[0].level
        groups.append(NestLoop(dim, -(-indices // lanes), lanes, level, spatial=False))
    others = tuple(loop for loop in inner if loop.dim not in steps)
    return (*nest.loops[:inside], *groups, *others)


def _fits_in_groups(
    spans: dict[str, dict[str, int]], plane: int, config: HwcConfig, steps: dict[str, int]
) -> bool:
    """Whether tiles fit with their dims rounded up to whole groups."""
    needed = {
        operand: prod(_padded(spans[operand][dim], steps.get(dim, 1)) for dim in dims)
        for operand, dims in (("W", "GKCRS"), ("O", "NGKPQ"), ("I", "NGC"))
    }
    needed["I"] *= plane
    return all(needed[operand] <= room for operand, room in _rooms(config).items())


def _rooms(config: HwcConfig) -> dict[str, int]:
    """The words that a tile may take; of inputs, both tiles if there are two at once."""
    return config.usable_words | {"I": config.input_words // config.pixels}


def _padded(extent: int, lanes: int) -> int:
    return -(-extent // lanes) * lanes


def _pitches(extents: dict[str, int]) -> dict[str, int]:
    """The distance between neighbours along each dim, the first dim innermost."""
    pitch, found = 1, dict[str, int]()
    for dim, extent in extents.items():
        found[dim] = pitch
        pitch *= extent
    return found


def _loops(
    nest: tuple[NestLoop, ...],
    depths: dict[str, int],
    layer: Workload,
    convolution: Convolution,
) -> tuple[tuple[LoopEntry, ...], int | None]:
    """The loops that take a step at all, and the one along which the input slides."""
    image = layer.operand("I").dims
    indexing = [i for i, loop in enumerate(nest[: depths["I"]]) if loop.dim in image]
    found: list[LoopEntry] = []
    slide: int | None = None
    for position, loop in enumerate(nest):
        size = convolution.sizes[loop.dim]
        extent = min(loop.extent, -(-size // loop.step))
        if extent == 1:
            continue
        if indexing and position == indexing[-1]:
            slide = len(found)
        outside = "".join(o for o in "WIO" if position < depths[o])
        found.append(LoopEntry(loop.dim, extent, loop.step, outside))
    return tuple(found), slide


def _violations(program: Program, config: HwcConfig) -> Iterator[Violation]:
    convolution = program.convolution
    yield from _buffer_violations(program, config)
    if len(program.loops) > config.loops:
        yield _limit("loops", "the nest is {} loops long", len(program.loops), config.loops)
    for name, axis in zip(("rows", "columns"), _axes(convolution), strict=True):
        reach = axis.reach(program.spans["I"])
        reach, most = min(reach, axis.length), getattr(config, name)
        if reach > most:
            power = 1 << (reach - 1).bit_length()
            yield _limit(name, f"an input tile reaches over {{}} {name}", reach, most, power)
            continue
        slots = program.slots[name == "columns"]
        if slots > most:
            power = 1 << (slots - 1).bit_length()
            yield _limit(name, f"two input tiles take {{}} {name}", slots, most, power)
    largest = max(*convolution.sizes.values(), *map(_largest_coordinate, _axes(convolution)))
    if largest >= 1 << config.count_bits:
        bits = largest.bit_length()
        what = f"a counter reaches {largest:,}: {bits} bits, the block's have {config.count_bits}"
        yield Violation("HWC", what, f"a configuration with count_bits: {bits}")
    for operand in "WIO":
        words = prod(convolution.shape(operand))
        if words > 1 << config.address_bits:
            bits = (words - 1).bit_length()
            what = f"{operand} has {words:,} words: an address has {config.address_bits} bits"
            yield Violation("HWC", what, f"a configuration with address_bits: {bits}", (operand,))


def _axes(convolution: Convolution) -> tuple[Axis, Axis]:
    return convolution.rows, convolution.columns


def _largest_coordinate(axis: Axis) -> int:
    """The largest number that is counted to on an axis."""
    return axis.padding + max(axis.length, axis.last) + max(axis.stride, axis.dilation)


def _limit(name: str, what: str, found: int, limit: int, enough: int | None = None) -> Violation:
    fix = f"a configuration with {name}: {enough or found}"
    return Violation("HWC", f"{what.format(found)}, the block's limit is {limit}", fix)


def _buffer_violations(program: Program, config: HwcConfig) -> Iterator[Violation]:
    bits = {"W": config.data_bits, "I": config.data_bits, "O": SUM_BITS}
    for operand, room in _rooms(config).items():
        spans = program.spans[operand]
        if operand == "I":
            words = prod(program.slots) * prod(spans[dim] for dim in "NGC")
            copies, two = config.pixels, "two tiles" if program.apart else "the tile"
        else:
            words = prod(spans[dim] for dim in MOVED_BY[operand])
            copies, two = 1 + (operand in config.doubled), "the tile"
        if words > room:
            need, held = (copies * count * bits[operand] // 8 for count in (words, room))
            takes = "take" if two == "two tiles" else "is"
            what = f"{two} of {operand} {takes} {words:,} words, its buffer holds {room:,}"
            fix = f"smaller tiles, or a configuration with buffers: {{{operand}: {need}B}}"
            yield Violation(BUFFER, what, fix, (operand,), need, held)
