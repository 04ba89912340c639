"""The project's own YAML files, written: what `ir/files.py` reads.

Owns: `format_network`, `format_hardware`. What they write reads back as an equal noun.

Non-goals: mappings, whose text is `ir/mapping.py`'s.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import yaml

from tilewright.errors import InputError, Problem
from tilewright.ir.hardware import Capacity, Fanout, Hardware, Level
from tilewright.ir.workload import DEFAULT_BITS, Dim, Layer, Network, Rank, Workload, conv2d

Json = dict[str, object]


def format_network(network: Network) -> str:
    """Print a network, or its only layer, as a workload file.

    Raises: `InputError` for a layer with padding that is no convolution: no file can say it.

    >>> from tilewright.ir.workload import einsum
    >>> fc = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    >>> print(format_network(Network("net", (Layer(fc),))), end="")
    name: fc
    einsum: O[M] += W[M,K] * I[K]
    sizes: {M: 4, K: 8}

    Source: `spec/formats.md`, Workload.
    """
    document: Json
    if len(network.layers) == 1 and network.layers[0].repeat == 1:
        document = _layer(network.layers[0])
    else:
        layers = [_layer(layer) for layer in network.layers]
        document = {"name": network.name, "layers": layers}
    origin: Json = {"source": network.source} if network.source else {}
    return dump_yaml(origin | document)


def format_hardware(hardware: Hardware) -> str:
    """Print a chip as a hardware file.

    >>> print(format_hardware(Hardware("toy", (Level("DRAM", read_pj=200.0),))), end="")
    name: toy
    clock_ghz: 1.0
    levels:
    - {memory: DRAM, word_bits: 16, read_pj: 200.0}
    compute: {name: MAC, bits: 16}

    Source: `spec/formats.md`, Hardware.
    """
    unit = hardware.compute
    compute: Json = {"name": unit.name, "bits": unit.bits}
    _put(compute, pj=unit.pj, area_mm2=unit.area_mm2, technology=unit.technology)
    document: Json = {"name": hardware.name}
    if hardware.source:
        document["source"] = hardware.source
    document |= {
        "clock_ghz": hardware.clock_ghz,
        "levels": [_level(level) for level in hardware.levels],
        "compute": compute,
    }
    return dump_yaml(document)


def dump_yaml(document: Mapping[str, object]) -> str:
    """Print a document as YAML: keys in their order, short values on one line."""
    untyped = cast("Any", yaml)  # its stubs are not complete
    return untyped.safe_dump(
        document, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True
    )


def _put(into: Json, **fields: object) -> None:
    into |= {name: value for name, value in fields.items() if value is not None}


def _layer(layer: Layer) -> Json:
    work = layer.workload
    document: Json = {"name": work.name}
    if layer.repeat > 1:
        document["repeat"] = layer.repeat
    convolution = _conv2d(work)
    if convolution is not None:
        document["conv2d"] = convolution
    elif any(rank.data is not None for operand in work.operands for rank in operand.ranks):
        what = f"{work.name} has padding, and is no convolution: no file can say it"
        raise InputError(Problem(what, "leave the padding out"))
    else:
        document |= {"einsum": work.einsum, "sizes": work.sizes}
    bits = {operand.name: operand.bits for operand in work.operands}
    bits["psum"] = work.psum_bits
    if set(bits.values()) != {DEFAULT_BITS}:
        document["bits"] = bits
    return document


def _conv2d(work: Workload) -> Json | None:
    """The fields of `conv2d`, if they say the workload exactly."""
    needed = {"N", "K", "C", "P", "Q", "R", "S"}
    if {operand.name for operand in work.operands} != {"W", "I", "O"}:
        return None
    if not needed <= set(work.sizes) <= needed | {"G"}:
        return None
    rows, columns = work.operand("I").ranks[-2:]
    down, across = _steps(rows, "P", "R"), _steps(columns, "Q", "S")
    if down is None or across is None:
        return None
    sizes, groups = work.sizes, work.sizes.get("G", 1)
    fields: Json = {
        "batch": sizes["N"],
        "in_channels": sizes["C"] * groups,
        "out_channels": sizes["K"] * groups,
        "out_height": sizes["P"],
        "out_width": sizes["Q"],
        "kernel": [sizes["R"], sizes["S"]],
        "stride": [down[0], across[0]],
        "dilation": [down[1], across[1]],
        "groups": groups,
    }
    top, height = _padding(rows, sizes["P"], sizes["R"], down)
    left, width = _padding(columns, sizes["Q"], sizes["S"], across)
    reach_h, reach_w = _reach(sizes["P"], sizes["R"], down), _reach(sizes["Q"], sizes["S"], across)
    bottom, right = max(0, reach_h - top - height), max(0, reach_w - left - width)
    if top or left or bottom or right:
        fields["padding"] = [top, left, bottom, right]
        fields |= {"in_height": height, "in_width": width}
    padded = bool(top or left or bottom or right)
    made = _made(work, down, across, (top, left, bottom, right), (height, width), padded=padded)
    return fields if made == work else None


def in_usual_order(work: Workload) -> Workload:
    """The same work with its dims in the order that our own files give them.

    The order means nothing, but two workloads are equal only if it is the same.
    """
    appearance = [dim for o in (work.output, *work.inputs) for dim in o.dims]
    ordered = {dim: work.sizes[dim] for dim in dict.fromkeys(appearance)}
    plain = replace(work, dims=tuple(Dim(dim, size) for dim, size in ordered.items()))
    usual = [dim for dim in "NGKCPQRS" if dim in work.sizes]
    if set(usual) != set(work.sizes):
        return plain
    as_conv = replace(work, dims=tuple(Dim(dim, work.sizes[dim]) for dim in usual))
    return plain if _conv2d(as_conv) is None else as_conv


def _made(  # noqa: PLR0913
    work: Workload,
    down: tuple[int, int],
    across: tuple[int, int],
    padding: tuple[int, int, int, int],
    data: tuple[int, int],
    *,
    padded: bool,
) -> Workload | None:
    """What the fields make again; `None` if they contradict one another."""
    bits = {operand.name: operand.bits for operand in work.operands} | {"psum": work.psum_bits}
    try:
        return conv2d(
            work.name,
            **{dim: work.sizes[dim] for dim in "NKCPQRS"},
            G=work.sizes.get("G", 1),
            stride=(down[0], across[0]),
            dilation=(down[1], across[1]),
            padding=padding if padded else None,
            in_height=data[0] if padded else None,
            in_width=data[1] if padded else None,
            bits=bits,
        )
    except InputError:
        return None


def _steps(rank: Rank, window: str, tap: str) -> tuple[int, int] | None:
    """Stride and dilation of a rank that slides."""
    steps = {term.dim: term.coefficient for term in rank.terms}
    return (steps[window], steps[tap]) if set(steps) == {window, tap} else None


def _reach(windows: int, taps: int, steps: tuple[int, int]) -> int:
    return (windows - 1) * steps[0] + (taps - 1) * steps[1] + 1


def _padding(rank: Rank, windows: int, taps: int, steps: tuple[int, int]) -> tuple[int, int]:
    """What lies before the data, and how much data there is."""
    if rank.data is None:
        return 0, _reach(windows, taps, steps)
    return rank.data[0], rank.data[1] - rank.data[0]


def _level(level: Level) -> Json:
    fields: Json = {"memory": level.memory}
    if level.capacity is not None:
        fields["capacity"] = _capacity(level.capacity, level.word_bits)
    if level.double_buffered:
        fields["double_buffered"] = True
    if level.keeps is not None:
        fields["keeps"] = sorted(level.keeps)
    fields["word_bits"] = level.word_bits
    _put(
        fields,
        read_pj=level.read_pj,
        write_pj=level.write_pj,
        update_pj=level.update_pj,
        read_bandwidth=level.read_bandwidth,
        write_bandwidth=level.write_bandwidth,
        bandwidth=level.bandwidth,
        leak_pj_per_cycle=level.leak_pj_per_cycle or None,
        area_mm2=level.area_mm2,
        technology=level.technology,
        block_words=level.block_words if level.block_words > 1 else None,
        fanout=_fanout(level.fanout),
    )
    return fields


def _capacity(capacity: Capacity, word_bits: int) -> object:
    if isinstance(capacity, tuple):
        return {name: _size(bits, word_bits) for name, bits in capacity}
    return _size(capacity or 0, word_bits)


def _size(bits: int, word_bits: int) -> str:
    if bits % 8 == 0:
        return f"{bits // 8}B"
    if bits % word_bits == 0:
        return f"{bits // word_bits} words"
    # Eighths of a byte are exact in decimals.
    return f"{bits / 8}B"


def _fanout(fanout: Fanout) -> Json | None:
    if fanout == Fanout():
        return None
    fields: Json = {"x": fanout.x, "y": fanout.y}
    if not fanout.multicast:
        fields["multicast"] = False
    if not fanout.reduction:
        fields["reduction"] = False
    _put(
        fields,
        hop_pj=fanout.hop_pj or None,
        x_dims=None if fanout.x_dims is None else list(fanout.x_dims),
        y_dims=None if fanout.y_dims is None else list(fanout.y_dims),
    )
    return fields
