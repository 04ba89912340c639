"""How large a convolution block is, and the same block as a chip that mappers can price.

Owns: the noun `HwcConfig`, the named configurations, reading one from YAML, `to_hardware`.

Non-goals: the RTL (`hwc/rtl`), and what a mapping needs of a block (`hwc/program.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tilewright.errors import InputError, Problem, did_you_mean
from tilewright.ir.document import Reader, read_document
from tilewright.ir.files import read_source
from tilewright.ir.hardware import Compute, Fanout, Hardware, Level
from tilewright.ir.quantity import parse_capacity

SUM_BITS = 32
DATA_BITS = (8, 16)
MOST_MULTIPLIERS = 64
LARGEST_BUFFER_WORDS = 1 << 20


@dataclass(frozen=True, slots=True)
class HwcConfig:
    """The parameters of one block.

    Attributes:
        name: what messages and files call it.
        input_words: of the input buffer, in data words.
        weight_words: of the weight buffer, in data words.
        sum_words: of the buffer of partial sums, in 32-bit words.
        lanes: output channels that are worked on in parallel. A power of two.
        channels: input channels in parallel; their products are added up. A power of two.
        pixels: outputs of a row in parallel. A power of two. Each has a copy of the inputs.
        doubled: operands whose buffer holds two tiles, so that the next one is fetched, or the last
            one sent, while the multipliers are at the other.
        data_bits: of inputs, weights and results: 8 or 16.
        loops: the longest nest that a program may have.
        rows: the longest stretch of input rows that one tile may reach over. A power of two.
        columns: likewise for columns.
        count_bits: of loop counters; every dim is smaller than 2 to that power.
        address_bits: of an address on a memory port.
    """

    name: str
    input_words: int
    weight_words: int
    sum_words: int
    lanes: int = 1
    channels: int = 1
    pixels: int = 1
    doubled: str = "IW"
    data_bits: int = 16
    loops: int = 16
    rows: int = 64
    columns: int = 256
    count_bits: int = 12
    address_bits: int = 28

    def __post_init__(self) -> None:
        problems = list(_check(self))
        if problems:
            raise InputError(problems)

    @property
    def buffer_bytes(self) -> int:
        """The bytes of the three buffers together."""
        data = (self.input_words + self.weight_words) * self.data_bits
        return (data + self.sum_words * SUM_BITS) // 8

    @property
    def usable_words(self) -> dict[str, int]:
        """The words that a tile of each operand may have."""
        words = {
            "I": self.input_words // self.pixels,
            "W": self.weight_words,
            "O": self.sum_words,
        }
        return {name: each // (1 + (name in self.doubled)) for name, each in words.items()}

    @property
    def multipliers(self) -> int:
        """How many there are."""
        return self.lanes * self.channels * self.pixels

    def to_hardware(self) -> Hardware:
        """The block as a chip: unlimited memory, three buffers, a row of multipliers.

        >>> load_config("small").to_hardware().mac_units
        4
        """
        usable = self.usable_words
        shares = (
            ("W", usable["W"] * self.data_bits),
            ("I", usable["I"] * self.data_bits),
            ("O", usable["O"] * SUM_BITS),
        )
        across = self.channels * self.pixels
        fanout = Fanout(x=self.lanes, y=across, x_dims=("K",), y_dims=("C", "Q"))
        keeps = frozenset("WIO")
        return Hardware(
            f"hwc-{self.name}",
            (
                Level("DRAM", word_bits=self.data_bits),
                Level("BUF", shares, keeps=keeps, word_bits=self.data_bits, fanout=fanout),
            ),
            Compute("MAC"),
        )


def _check(config: HwcConfig) -> Iterable[Problem]:
    where = f"configuration {config.name}"
    for field in ("lanes", "channels", "pixels", "rows", "columns"):
        value = getattr(config, field)
        if value < 1 or value & (value - 1):
            yield Problem(f"{field} is {value}: expected a power of two", "4 is one", where)
    if config.multipliers > MOST_MULTIPLIERS:
        what = f"{config.multipliers} multipliers: the limit is {MOST_MULTIPLIERS}"
        yield Problem(what, "write array: [4, 4, 4]", where)
    if not set(config.doubled) <= set("IWO"):
        yield Problem(f"doubled is {config.doubled!r}: operands are I, W, O", "write IW", where)
    if config.data_bits not in DATA_BITS:
        yield Problem(f"data_bits is {config.data_bits}: 8 or 16 are built", "write 16", where)
    parts = {
        "I": config.channels * config.pixels,
        "W": config.lanes * config.channels,
        "O": config.lanes * config.pixels,
    }
    for name, field in (("I", "input_words"), ("W", "weight_words"), ("O", "sum_words")):
        words, unit = getattr(config, field), parts[name] * (1 + (name in config.doubled))
        if not 2 <= words <= LARGEST_BUFFER_WORDS or words % unit:
            what = f"{field} is {words} words: from 2 to {LARGEST_BUFFER_WORDS:,}, a multiple of"
            yield Problem(f"{what} {unit}", "512 is usual", where)
    for field, low, high in (("loops", 2, 32), ("count_bits", 4, 16), ("address_bits", 8, 32)):
        value = getattr(config, field)
        if not low <= value <= high:
            yield Problem(f"{field} is {value}: from {low} to {high}", "", where)


def _named(name: str, buffer_bytes: int) -> HwcConfig:
    """A block of 16-bit data with four multipliers.

    An eighth of its buffers is for inputs, a sixteenth for weights, the rest for sums: schedules of
    least traffic keep a tile of sums as large as can be, and little else.
    """
    words = buffer_bytes // 2
    inputs, weights = words // 8, words // 16
    sums = (words - inputs - weights) // 2
    return HwcConfig(name, inputs, weights, sums, lanes=4, loops=12)


_TINY = HwcConfig(
    "tiny", 256, 64, 64, lanes=2, channels=2, pixels=2, doubled="IWO",
    loops=14, rows=32, columns=32, count_bits=8,
)  # fmt: skip

CONFIGS = {
    config.name: config
    for config in (
        _TINY,
        _named("small", 4096),
        replace(_named("steady", 4096), doubled="IWO"),
        HwcConfig("planes", 1024, 128, 448, pixels=4, doubled="IWO", loops=12),
        HwcConfig("wide", 512, 512, 1024, channels=2, lanes=4, pixels=2, doubled="IWO", loops=12),
        *(_named(f"{kib}KiB", 1024 * kib) for kib in (1, 2, 4, 8, 16)),
    )
}
"""Blocks that have a name. `small` is the one to start with; `steady` is as large and holds two
smaller tiles of sums, so that no transfer makes it wait; `planes` works on pixels, for layers that
have one input and one output channel in a group."""


def load_config(name: str) -> HwcConfig:
    """The configuration of that name, or the one in a YAML file.

    Raises: `InputError` if there is neither, or it is wrong.

    >>> load_config("small").buffer_bytes
    4096

    Source: `docs/hwc.md`.
    """
    if name in CONFIGS:
        return CONFIGS[name]
    path = Path(name)
    if not path.is_file():
        what = f"`{name}` is no file, and no configuration has that name"
        raise InputError(Problem(what, did_you_mean(name, list(CONFIGS))))
    return _parse(read_document(read_source(path)), path.stem)


_COUNTS = ("loops", "rows", "columns", "count_bits", "address_bits")


def _parse(reader: Reader, stem: str) -> HwcConfig:
    """Read a configuration: its buffers, its array, and the widths of its counters."""
    name = reader.name("name", stem)
    data_bits = reader.integer("data_bits", 16)
    words = _buffer_words(reader, data_bits)
    array = reader.integer_list("array", (3,), at_least=1) or [1, 1, 1]
    channels, lanes, pixels = array
    doubled = reader.name_list("doubled")
    small = CONFIGS["small"]
    counts = {key: reader.integer(key, getattr(small, key)) for key in _COUNTS}
    reader.finish()
    if reader.problems:
        raise InputError(reader.problems)
    return HwcConfig(
        name,
        words["I"],
        words["W"],
        words["O"],
        lanes=lanes,
        channels=channels,
        pixels=pixels,
        doubled="IW" if doubled is None else "".join(doubled),
        data_bits=data_bits,
        **counts,
    )


def _buffer_words(reader: Reader, data_bits: int) -> dict[str, int]:
    buffers = reader.child("buffers")
    if buffers is None:
        reader.report(None, "`buffers` is missing", "write buffers: {I: 1KiB, W: 1KiB, O: 2KiB}")
        return dict.fromkeys("IWO", 2)
    words: dict[str, int] = {}
    for operand, bits in (("I", data_bits), ("W", data_bits), ("O", SUM_BITS)):
        text = buffers.text(operand)
        try:
            words[operand] = parse_capacity(text, bits) // bits
        except ValueError as error:
            buffers.report(operand, f"buffer {operand}: {error}", f"write {operand}: 1KiB")
            words[operand] = 2
    buffers.finish()
    return words
