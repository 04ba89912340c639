"""Timeloop's runs, as recorded, in our own nouns.

Owns: reading a record of an architecture, a problem and a mapping (levels and loops innermost
first, as Timeloop writes them) into hardware, workload and mapping.

Non-goals: running Timeloop; judging its results (`model/timeloop.py` and the tests do).
"""

from collections.abc import Mapping as Dict
from typing import Any

from tilewright.ir.hardware import Compute, Fanout, Hardware, Level
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.workload import Workload, conv2d

OPERANDS = {"Weights": "W", "Inputs": "I", "Outputs": "O"}
Json = Dict[str, Any]


def read_problem(problem: Json) -> Workload:
    """The workload of a record. Timeloop's W axis (P, R) becomes our height: nothing changes."""
    dims = {key: problem[key] for key in ("N", "G", "K", "C", "P", "Q", "R", "S")}
    return conv2d(
        problem["name"],
        **dims,
        stride=(problem["Wstride"], problem["Hstride"]),
        dilation=(problem["Wdilation"], problem["Hdilation"]),
    )


def read_architecture(arch: Json) -> Hardware:
    """The hardware of a record. Energies per access of a block become energies per word."""
    levels: list[Level] = []
    inner = arch["mac"]
    for level in arch["levels"]:
        fanout = Fanout(
            inner["meshX"] // level["meshX"],
            inner["meshY"] // level["meshY"],
            hop_pj=level["energy_per_hop"] or 0.0,
        )
        levels.append(_level(level, fanout))
        inner = level
    mac = Compute(arch["mac"]["name"], pj=arch["mac"]["energy"], bits=arch["mac"]["word_bits"])
    return Hardware(arch["name"], tuple(reversed(levels)), mac)


def _level(level: Json, fanout: Fanout) -> Level:
    access = level["vector_access_energy"]
    energies = level["ert"] or {"read": access, "write": access, "update": access}
    block, bits = level["block_size"], level["word_bits"]
    entries = level["entries"]
    return Level(
        level["name"],
        capacity=None if entries is None else int(entries / level["multiple_buffering"]) * bits,
        word_bits=bits,
        read_pj=energies["read"] / block,
        write_pj=energies["write"] / block,
        update_pj=energies["update"] / block,
        read_bandwidth=level["read_bandwidth"],
        write_bandwidth=level["write_bandwidth"],
        bandwidth=level["shared_bandwidth"],
        block_words=block,
        fanout=fanout,
    )


def read_mapping(mapping: Json) -> Mapping:
    """The mapping of a record, outermost first."""
    return Mapping(tuple(_block(level) for level in reversed(mapping["levels"])))


def _block(level: Json) -> Block:
    return Block(
        level["level"],
        tuple(OPERANDS[name] for name in level["keep"]),
        _loops(level["temporal"], None),
        _loops(level["spatial_y"], "y") + _loops(level["spatial_x"], "x"),
    )


def _loops(loops: list[tuple[str, int, int]], axis: str | None) -> tuple[Loop, ...]:
    return tuple(Loop(dim, extent, axis) for dim, extent, _ in reversed(loops) if extent > 1)
