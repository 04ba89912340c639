"""The project's own YAML files: layers, networks and hardware.

Owns: the fields of these files and what they mean (`spec/formats.md`). Formats of other tools are
read in `frontend/`.
"""

import math
from dataclasses import replace
from pathlib import Path

from tilewright.errors import InputError, Problem, Source, Span
from tilewright.ir.document import MAX_CHARACTERS, Reader, read_document
from tilewright.ir.hardware import AXES, Capacity, Compute, Fanout, Hardware, Level
from tilewright.ir.quantity import EXPECTED, parse_capacity
from tilewright.ir.workload import (
    Layer,
    Network,
    Workload,
    conv2d,
    einsum,
    gather_network,
)

VERSION = 1


def read_source(path: Path) -> Source:
    """Read a text file. Raises `InputError` if it is missing, too large, or no text."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except UnicodeDecodeError:
        raise InputError(Problem("this is not a text file (UTF-8)", where=str(path))) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(Problem(f"cannot read: {reason}", where=str(path))) from None
    return Source(str(path), text)


def parse_network(source: Source) -> Network:
    r"""Read a workload file: one layer, or `layers:` with a list of them.

    Raises: `InputError` with every problem in the file.

    >>> layer = "name: fc\neinsum: O[M] += W[M,K] * I[K]\nsizes: {M: 10, K: 20}"
    >>> parse_network(Source("fc.yaml", layer)).macs
    200

    Source: `spec/formats.md`, Workload.
    """
    reader = read_document(source)
    _check_version(reader)
    origin = reader.text("source")
    if reader.has("layers"):
        name = reader.name("name", Path(source.name).stem)
        layers = [_layer(child, index) for index, child in enumerate(reader.children("layers"))]
        reader.finish()
    else:
        layers = [_layer(reader, 0)]
        name = layers[0].workload.name if layers[0] else ""
    if reader.problems:
        raise InputError(reader.problems)
    return gather_network(name, [layer for layer in layers if layer], source=origin)


def parse_hardware(source: Source) -> Hardware:
    """Read a hardware file.

    Raises: `InputError` with every problem in the file.

    Source: `spec/formats.md`, Hardware.
    """
    reader = read_document(source)
    _check_version(reader)
    name = reader.name("name", Path(source.name).stem)
    origin = reader.text("source")
    clock = reader.number("clock_ghz", 1.0, positive=True)
    technology = reader.name("technology") or None
    levels = [_level(child, technology) for child in reader.children("levels")]
    compute = reader.child("compute")
    units = _compute(compute, technology) if compute else Compute(technology=technology)
    reader.finish()
    if not reader.has("levels"):
        reader.report(None, "`levels` is missing", "list the memories, outermost first")
    problems = list(reader.problems)
    try:
        hardware = Hardware(name, tuple(levels), units, 1.0 if clock is None else clock, origin)
    except InputError as error:
        problems += error.problems if not problems else ()
        hardware = None
    if problems or hardware is None:
        raise InputError(problems)
    return hardware


def _check_version(reader: Reader) -> None:
    version = reader.integer("version", VERSION)
    if version != VERSION:
        reader.report("version", f"version {version} is not known", f"this program reads {VERSION}")


def _layer(reader: Reader, index: int) -> Layer | None:
    name = reader.name("name", f"layer{index + 1}")
    repeat = reader.integer("repeat", 1)
    bits = reader.integer_map("bits")
    before = len(reader.problems)
    forms = [form for form in ("conv2d", "einsum") if reader.has(form)]
    workload = None
    if len(forms) != 1:
        what = f"a layer is written as `conv2d` or as `einsum`; `{name}` has "
        reader.report(None, what + ("both" if forms else "neither"), "give one of them")
        reader.has("sizes")
    elif forms == ["conv2d"]:
        workload = _conv2d(reader, name, bits, before)
    else:
        workload = _einsum(reader, name, bits, before)
    reader.finish()
    return Layer(workload, repeat) if workload else None


def _einsum(reader: Reader, name: str, bits: dict[str, int], before: int) -> Workload | None:
    text = reader.text("einsum")
    sizes = reader.integer_map("sizes")
    if not reader.has("sizes"):
        reader.report(None, "an einsum needs `sizes`", "add sizes: {K: 8, …}")
    if len(reader.problems) > before:
        return None
    try:
        return einsum(name, text, sizes, bits)
    except InputError as error:
        reader.problems += [_placed(problem, reader, "einsum") for problem in error.problems]
        return None


def _conv2d(reader: Reader, name: str, bits: dict[str, int], before: int) -> Workload | None:
    fields = reader.child("conv2d")
    if fields is None:
        return None
    required = ("in_channels", "out_channels", "kernel")
    for key in required:
        if not fields.has(key):
            fields.report(None, f"conv2d needs `{key}`", f"add {key}")
    in_channels, out_channels = fields.integer("in_channels", 1), fields.integer("out_channels", 1)
    groups = fields.integer("groups", 1)
    for key, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % groups:
            what = f"{key} {channels} is not a multiple of groups {groups}"
            fields.report(key, what, f"use {math.gcd(channels, groups)} groups")
    kernel = fields.integer_list("kernel", (2,), at_least=1) or [1, 1]
    stride = fields.integer_list("stride", (2,), at_least=1) or [1, 1]
    dilation = fields.integer_list("dilation", (2,), at_least=1) or [1, 1]
    padding = fields.integer_list("padding", (2, 4), at_least=0)
    batch = fields.integer("batch", 1)
    out_height, out_width = _optional(fields, "out_height"), _optional(fields, "out_width")
    in_height, in_width = _optional(fields, "in_height"), _optional(fields, "in_width")
    fields.finish()
    if len(reader.problems) > before:
        return None
    try:
        return conv2d(
            name,
            N=batch,
            K=out_channels // groups,
            C=in_channels // groups,
            G=groups,
            P=out_height,
            Q=out_width,
            R=kernel[0],
            S=kernel[1],
            stride=(stride[0], stride[1]),
            dilation=(dilation[0], dilation[1]),
            padding=tuple(padding) or None,
            in_height=in_height,
            in_width=in_width,
            bits=bits,
        )
    except InputError as error:
        reader.problems += [_placed(problem, reader, "conv2d") for problem in error.problems]
        return None


def _optional(fields: Reader, key: str) -> int | None:
    return fields.integer(key) or None


def _placed(problem: Problem, reader: Reader, key: str) -> Problem:
    """The problem, at its place in the file instead of in the text that was cut out of it."""
    parts = problem.field.split(".")
    if parts[0] and reader.has(parts[0]):
        child = reader.child(parts[0]) if len(parts) > 1 else None
        return replace(problem, where=child.span(parts[1]) if child else reader.span(parts[0]))
    span = reader.span(key)
    if isinstance(problem.where, Span):
        # The text may be quoted: its characters then begin one later.
        quoted = span.source.text[span.start : span.start + 1] in "\"'"
        span = span.within(problem.where.start + quoted, problem.where.end + quoted)
    return replace(problem, where=span)


def _level(reader: Reader, technology: str | None) -> Level:
    memory = reader.name("memory", "?")
    if not reader.has("memory"):
        reader.report(None, "a level needs `memory`, its name", "add memory: GLB")
    keeps = reader.name_list("keeps")
    word_bits = reader.integer("word_bits", 16)
    level = Level(
        memory=memory,
        capacity=_capacity(reader, word_bits),
        double_buffered=reader.flag("double_buffered", default=False),
        keeps=None if keeps is None else frozenset(keeps),
        word_bits=word_bits,
        read_pj=reader.number("read_pj"),
        write_pj=reader.number("write_pj"),
        update_pj=reader.number("update_pj"),
        read_bandwidth=reader.number("read_bandwidth", positive=True),
        write_bandwidth=reader.number("write_bandwidth", positive=True),
        bandwidth=reader.number("bandwidth", positive=True),
        leak_pj_per_cycle=reader.number("leak_pj_per_cycle", 0.0) or 0.0,
        area_mm2=reader.number("area_mm2"),
        technology=reader.name("technology") or technology,
        block_words=reader.integer("block_words", 1),
        fanout=_fanout(reader),
        where=reader.span("memory"),
    )
    reader.finish()
    return level


def _capacity(reader: Reader, word_bits: int) -> Capacity:
    if not reader.has("capacity"):
        return None
    if not reader.is_mapping("capacity"):
        return _bits(reader, "capacity", word_bits)
    shares = reader.child("capacity")
    if shares is None:
        return None
    if not shares.names():
        reader.report("capacity", "the partitioned capacity names no operand", "write {W: 448B}")
    return tuple((operand, _bits(shares, operand, word_bits)) for operand in shares.names())


def _bits(reader: Reader, key: str, word_bits: int) -> int:
    text = reader.text(key, "1B")
    try:
        bits = parse_capacity(text, word_bits)
    except ValueError as error:
        reader.report(key, f"`{text[:80]}` is no capacity: {error}", f"write {EXPECTED}")
        return word_bits
    if bits == 0:
        reader.report(key, f"a capacity of {text} holds nothing", "leave it out for unlimited")
        return word_bits
    return bits


def _fanout(reader: Reader) -> Fanout:
    fields = reader.child("fanout")
    if fields is None:
        return Fanout()
    fanout = Fanout(
        x=fields.integer("x", 1),
        y=fields.integer("y", 1),
        multicast=fields.flag("multicast", default=True),
        reduction=fields.flag("reduction", default=True),
        hop_pj=fields.number("hop_pj", 0.0) or 0.0,
        **{f"{axis}_dims": fields.name_list(f"{axis}_dims") for axis in AXES},
    )
    fields.finish()
    return fanout


def _compute(reader: Reader, technology: str | None) -> Compute:
    compute = Compute(
        name=reader.name("name", "MAC"),
        pj=reader.number("pj"),
        area_mm2=reader.number("area_mm2"),
        bits=reader.integer("bits", 16),
        technology=reader.name("technology") or technology,
    )
    reader.finish()
    return compute
