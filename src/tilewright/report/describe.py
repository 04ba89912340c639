"""What a document must say of its layers and its chip, so that a page can draw them.

Owns: the keys `work` and `chip` of documents: a workload and a chip as JSON objects.

Non-goals: reading them back; the page (`report/page.py`) only draws.
"""

from collections.abc import Iterable
from typing import Any

from tilewright.ir.hardware import Hardware, Level
from tilewright.ir.workload import Network, Operand, Workload
from tilewright.model.cost import Cost

Json = dict[str, Any]


def describe_work(workload: Workload) -> Json:
    """A workload as a JSON object: sizes of dims, and the affine sums that index each operand.

    >>> from tilewright.ir.workload import einsum
    >>> layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    >>> describe_work(layer)["operands"][0]["ranks"]
    [{'terms': {'M': 1}, 'data': None}, {'terms': {'K': 1}, 'data': None}]
    """
    return {
        "name": workload.name,
        "einsum": workload.einsum,
        "sizes": workload.sizes,
        "macs": workload.macs,
        "psum_bits": workload.psum_bits,
        "operands": [_operand(each, workload.output) for each in workload.operands],
    }


def _operand(operand: Operand, output: Operand) -> Json:
    return {
        "name": operand.name,
        "bits": operand.bits,
        "output": operand == output,
        "ranks": [
            {
                "terms": {term.dim: term.coefficient for term in rank.terms},
                "data": None if rank.data is None else list(rank.data),
            }
            for rank in operand.ranks
        ],
    }


def describe_chip(hardware: Hardware) -> Json:
    """A chip as a JSON object: its levels, outermost first, with instances and fan-outs."""
    return {
        "name": hardware.name,
        "clock_ghz": hardware.clock_ghz,
        "mac_units": hardware.mac_units,
        "compute": hardware.compute.name,
        "levels": [
            _level(level, hardware.instances(index)) for index, level in enumerate(hardware.levels)
        ],
    }


def _level(level: Level, instances: int) -> Json:
    shares = dict(level.capacity) if isinstance(level.capacity, tuple) else level.capacity
    fanout = level.fanout
    return {
        "memory": level.memory,
        "instances": instances,
        "capacity_bits": shares,
        "usable_bits": level.usable_bits(),
        "double_buffered": level.double_buffered,
        "word_bits": level.word_bits,
        "bandwidth": level.bandwidth,
        "read_bandwidth": level.read_bandwidth,
        "write_bandwidth": level.write_bandwidth,
        "read_pj": level.read_pj,
        "write_pj": level.write_pj,
        "area_mm2": level.area_mm2,
        "fanout": {
            "x": fanout.x,
            "y": fanout.y,
            "multicast": fanout.multicast,
            "reduction": fanout.reduction,
        },
    }


def describe_cost(cost: Cost) -> Json:
    """The layer, the chip and the convention of a priced mapping."""
    return {
        "convention": cost.convention.name,
        "work": describe_work(cost.workload),
        "chip": describe_chip(cost.hardware),
    }


def describe_network(network: Network) -> Json:
    """Every layer of a network, by name."""
    return {
        "work": {layer.workload.name: describe_work(layer.workload) for layer in network.layers}
    }


def add_work(layers: Any, workloads: Iterable[Workload]) -> None:
    """Give every entry of a document's `layers` its `work`; both in the same order."""
    for layer, workload in zip(layers, workloads, strict=True):
        layer["work"] = describe_work(workload)
