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
        unrolled: whether the lanes work on output channels in parallel.
        shift: how far a sum is shifted right to become a result.
        relu: whether results below 0 become 0.
    """

    convolution: Convolution
    loops: tuple[LoopEntry, ...]
    slide: int | None
    spans: dict[str, dict[str, int]]
    pitches: dict[str, dict[str, int]]
    slots: tuple[int, int]
    unrolled: bool
    shift: int = 0
    relu: bool = False

    def __str__(self) -> str:
        lines = [
            f"{loop.dim:>3} {loop.extent:>5} steps of {loop.step:<5} outside {loop.outside or '-'}"
            + ("  input slides" if number == self.slide else "")
            for number, loop in enumerate(self.loops)
        ]
        return "\n".join(lines)

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
        values["row.pitch"] = self.slots[1]
        values["unrolled"] = int(self.unrolled)
        values["shift"], values["relu"] = self.shift, int(self.relu)
        return values

    def _loop(self, loop: LoopEntry) -> Iterator[tuple[str, int]]:
        yield "extent", loop.extent
        yield "step", loop.step
        yield "limit", self.convolution.sizes[loop.dim]
        for operand in "WIO":
            moves = loop.dim in MOVED_BY[operand] and operand in loop.outside
            inside = loop.dim in self.pitches[operand] and operand not in loop.outside
            yield f"moves_{operand}", int(moves)
            yield f"add_{operand}", loop.step * self.pitches[operand][loop.dim] if inside else 0
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
        widths |= {f"{name}.{item}": count for item in fields}
    widths |= {"row.pitch": local["I"], "unrolled": 1, "shift": 5, "relu": 1}
    return widths


def lower(
    mapping: Mapping, layer: Workload, config: HwcConfig, *, shift: int = 0, relu: bool = False
) -> Program:
    r"""Turn a mapping of a convolution into the block's program.

    Args:
        mapping: of the layer on `config.to_hardware()`.
        layer: a convolution with operands W, I and O.
        config: the block.
        shift: how far sums are shifted right, rounding half up, to become results.
        relu: whether results below 0 become 0.

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
      Q     4 steps of 1     outside -
      C     3 steps of 1     outside -
      R     3 steps of 1     outside -
      S     3 steps of 1     outside -

    Source: `docs/hwc.md`.
    """
    convolution = read_convolution(layer)
    hardware = config.to_hardware()
    verify_mapping(layer, hardware, mapping)
    nest = flatten(mapping, hardware)
    return _lower(nest, layer, convolution, config, replace_with=(shift, relu))


def _lower(
    nest: Nest,
    layer: Workload,
    convolution: Convolution,
    config: HwcConfig,
    replace_with: tuple[int, bool],
) -> Program:
    depths = {operand: stores[-1].depth for operand, stores in nest.stores.items()}
    spans = {operand: _spans(nest, depth, convolution) for operand, depth in depths.items()}
    slots = (
        _most_words(convolution.rows, spans["I"], convolution),
        _most_words(convolution.columns, spans["I"], convolution),
    )
    shared = _share_channels(nest, max(depths.values()), config)
    unrolled = shared is not None and _fits_in_lanes(spans, config)
    loops, slide = _loops(shared if shared and unrolled else nest.loops, depths, layer, convolution)
    channels = spans["O"]["K"] if not unrolled else _padded(spans["O"]["K"], config.lanes)
    filters = spans["W"]["K"] if not unrolled else _padded(spans["W"]["K"], config.lanes)
    pitches = {
        "W": _pitches({"K": filters} | {dim: spans["W"][dim] for dim in "SRCG"}),
        "O": _pitches({"K": channels} | {dim: spans["O"][dim] for dim in "QPGN"}),
        "I": _pitches({"": prod(slots)} | {dim: spans["I"][dim] for dim in "CGN"}),
    }
    shift, relu = replace_with
    program = Program(
        convolution, loops, slide, spans, pitches, slots, unrolled, shift=shift, relu=relu
    )
    violations = list(_violations(program, config))
    if violations:
        raise InfeasibleError(violations)
    return program


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


def _share_channels(nest: Nest, inside: int, config: HwcConfig) -> tuple[NestLoop, ...] | None:
    """The loops with one over whole groups of lanes in the place of those over output channels.

    That is done to the loops inside all tiles, whose order moves no word on any port; `None` if the
    channels there cannot be shared out to lanes without leaving the tile.
    """
    inner = nest.loops[inside:]
    channels = prod(loop.extent for loop in inner if loop.dim == "K")
    goes_on = any(loop.dim == "K" for loop in nest.loops[:inside])
    if config.lanes == 1 or channels == 1 or (goes_on and channels % config.lanes):
        return None
    level = inner[0].level
    groups = NestLoop("K", -(-channels // config.lanes), config.lanes, level, spatial=False)
    others = tuple(loop for loop in inner if loop.dim != "K")
    return (*nest.loops[:inside], groups, *others)


def _fits_in_lanes(spans: dict[str, dict[str, int]], config: HwcConfig) -> bool:
    """Whether tiles fit with their output channels rounded up to whole lanes.

    If not, the lanes work one after the other: the words on the ports are the same.
    """
    for operand, room in (("W", config.weight_words), ("O", config.sum_words)):
        extents = spans[operand]
        others = prod(extents[dim] for dim in MOVED_BY[operand] if dim != "K")
        if others * _padded(extents["K"], config.lanes) > room:
            return False
    return True


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
    rooms = {
        "W": (config.weight_words, config.data_bits),
        "I": (config.input_words, config.data_bits),
        "O": (config.sum_words, SUM_BITS),
    }
    for operand, (room, bits) in rooms.items():
        spans = program.spans[operand]
        if operand == "I":
            words = prod(program.slots) * prod(spans[dim] for dim in "NGC")
        else:
            words = prod(spans[dim] for dim in MOVED_BY[operand])
        if words > room:
            what = f"the tile of {operand} is {words:,} words, its buffer holds {room:,}"
            need = words * bits // 8
            fix = f"smaller tiles, or a configuration with buffers: {{{operand}: {need}B}}"
            yield Violation(BUFFER, what, fix, (operand,), need, room * bits // 8)


def with_requantisation(program: Program, *, shift: int, relu: bool) -> Program:
    """The same program with another way out for its results."""
    return replace(program, shift=shift, relu=relu)
