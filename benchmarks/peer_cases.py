"""The recorded runs of other mappers, in our own nouns.

Owns: reading `benchmarks/data` into layers, chips and, where a mapping was recorded, mappings in
our notation; what of a peer's rules of counting differs from ours.

Non-goals: solving or reporting anything (`benchmarks/peers.py`).
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as Dict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tilewright as tw
from tilewright.frontend.timeloop import OPERANDS, read_architecture

DATA = Path(__file__).parent / "data"
Json = dict[str, Any]
Recount = Callable[[tw.Cost], float]
"""The objective of one of our results, counted as the peer counts."""


@dataclass(frozen=True)
class Case:
    """One optimum that a peer found.

    Attributes:
        peer: who found it.
        chip: on what, in words.
        layer: the layer's name.
        objective: what was minimised, as `find_mapping` calls it.
        workload: the layer.
        hardware: the chip.
        figure: the objective's value as the peer printed it; `None` if the peer found no mapping.
        mapping: the peer's mapping in our notation; `None` if none was recorded.
        recount: our result by the peer's rules; `None` where no such count is at hand.
        seconds: what the run took, in CPU seconds unless `wall` is set.
        wall: whether `seconds` are wall seconds, on two threads.
        remark: what differs.
    """

    peer: str
    chip: str
    layer: str
    objective: str
    workload: tw.Workload
    hardware: tw.Hardware
    figure: float | None
    mapping: str | None = None
    recount: Recount | None = None
    seconds: float | None = None
    wall: bool = False
    remark: str = ""

    @property
    def title(self) -> str:
        """The group of cases whose times are summed."""
        return f"{self.peer}, {self.chip}, {self.objective}"


def all_cases() -> list[Case]:
    """Every recorded case that can be said in our nouns."""
    return [*array_cases(), *timeloop_cases(), *interstellar_cases()]


def value_of(objective: str, energy_pj: float, cycles: float) -> float:
    """The value of an objective, in pJ or pJ · cycles."""
    return energy_pj * cycles if objective == "edp" else energy_pj


def _read(name: str) -> Json:
    return json.loads((DATA / name).read_text(encoding="utf-8"))


# ZigZag and AccelForge: six layers of ResNet-18 on a chip like a TPU.


def array_layer(name: str) -> tw.Workload:
    """A layer of ResNet-18 with 8-bit operands and 16-bit sums and results."""
    return _array_layer(name, _read("tpu_like.json")["layers"][name])


def _array_layer(name: str, sizes: Json) -> tw.Workload:
    return tw.conv2d(name, **sizes, bits={"W": 8, "I": 8, "O": 16})


def array_chip(rows: tuple[str, ...], shared_port: bool) -> tw.Hardware:
    """32 × 32 units, 2 MiB of SRAM for inputs and outputs; weights go straight to the units.

    Args:
        rows: the dims that may be unrolled along the reduction axis.
        shared_port: whether reads and fills of the weights' registers share a port.
    """
    weights = tw.Level(
        "RF_W", 1024, keeps=frozenset("W"), word_bits=8, read_pj=0.095, write_pj=0.095
    )
    weights = (
        replace(weights, bandwidth=1)
        if shared_port
        else replace(weights, read_bandwidth=1, write_bandwidth=1)
    )
    sram = tw.Level(
        "SRAM",
        16 * 2**20,
        keeps=frozenset("IO"),
        word_bits=2048,
        read_pj=416.16,
        write_pj=378.4,
        read_bandwidth=1,
        write_bandwidth=1,
        fanout=tw.Fanout(32, 32, x_dims=("K",), y_dims=rows),
    )
    dram = tw.Level("DRAM", word_bits=64, read_pj=700, write_pj=750, bandwidth=1)
    sums = tw.Level("RF_O", 16, keeps=frozenset("O"), word_bits=16, read_pj=0.021, write_pj=0.021)
    return tw.Hardware("tpu_like", (dram, sram, weights, sums), tw.Compute(pj=0.04))


def array_cases() -> Iterator[Case]:
    """The runs of ZigZag and AccelForge."""
    document = _read("tpu_like.json")
    layers = {name: _array_layer(name, sizes) for name, sizes in document["layers"].items()}
    for run in document["runs"]:
        make = _zigzag_case if run["tool"] == "zigzag" else _accelforge_case
        yield make(run, layers[run["layer"]])


def _zigzag_case(run: Json, layer: tw.Workload) -> Case:
    energy = run["objective"] == "energy"
    return Case(
        "ZigZag",
        "tpu_like",
        run["layer"],
        run["objective"],
        layer,
        array_chip(("C",), shared_port=False),
        value_of(run["objective"], run["energy_pj"], run["cycles"]),
        zigzag_mapping(run["temporal_innermost_first"], run["spatial"]),
        energy_with_first_reads if energy else None,
        run["cpu_s"],
        remark="" if energy else "its cycles add the first load and the last store",
    )


def energy_with_first_reads(cost: tw.Cost) -> float:
    """Energy as ZigZag counts: the first update of a partial sum reads its register, too."""
    counts = cost.counts
    first = counts.macs - counts["RF_O", "O"].reads
    return cost.energy_pj + 0.021 * first


def _accelforge_case(run: Json, layer: tw.Workload) -> Case:
    strided = layer.name == "conv3_ds" and not run.get("subsampled", False)
    # Our cycles are whole; its are not.
    cycles = math.ceil(run["cycles"])
    return Case(
        "AccelForge",
        "tpu_like",
        layer.name + (", as given" if strided else ""),
        run["objective"],
        layer,
        array_chip(("C", "R", "S"), shared_port=True),
        value_of(run["objective"], run["energy_pj"], cycles),
        None,
        None if strided else lambda cost: value_of(run["objective"], cost.energy_pj, cost.cycles),
        run["cpu_s"],
        remark="it fetches the hull of a strided 1×1: other rules" if strided else "",
    )


ZIGZAG_DIMS = {"B": "N", "OY": "P", "OX": "Q", "FY": "R", "FX": "S"}
ZIGZAG_MEMORIES = {"W": ("RF_W", "DRAM"), "I": ("SRAM", "DRAM"), "O": ("RF_O", "SRAM", "DRAM")}


def zigzag_mapping(temporal: Dict[str, list[list[Any]]], spatial: Dict[str, int]) -> str:
    """A temporal mapping of ZigZag (per operand, memory by memory, innermost first) as ours."""
    loops = [loop for memory in temporal["W"] for loop in memory]
    starts: dict[tuple[int, str], list[str]] = {}
    for operand, memories in ZIGZAG_MEMORIES.items():
        depth = 0
        for memory, inside in zip(memories, temporal[operand], strict=True):
            depth += len(inside)
            starts.setdefault((depth, memory), []).append(operand)
    order = ("DRAM", "SRAM", "RF_W", "RF_O")
    heads = sorted(starts, key=lambda head: (-head[0], order.index(head[1])))
    unrolled = " ".join(f"{d}{n}@{'x' if d == 'K' else 'y'}" for d, n in spatial.items())
    lines: list[str] = []
    for head, below in zip(heads, [*(depth for depth, _ in heads[1:]), 0], strict=True):
        depth, memory = head
        inside = " ".join(f"{ZIGZAG_DIMS.get(d, d)}{n}" for d, n in reversed(loops[below:depth]))
        fan = f" | {unrolled}" if memory == "SRAM" else ""
        lines.append(f"{memory}[{' '.join(starts[head])}]: {inside}{fan}")
    return "\n".join(lines)


# Timeloop's mapper.


def timeloop_cases() -> Iterator[Case]:
    """The best run of every architecture, layer and metric."""
    document = _read("timeloop_mapper.json")
    for run in document["runs"]:
        chip = timeloop_chip(document, run["arch"])
        objective = run["metric"]
        yield Case(
            "Timeloop mapper",
            run["arch"],
            run["layer"],
            objective,
            timeloop_layer(run["problem"], chip.levels[0].word_bits),
            chip,
            run["best_edp_pJ_cycles"] if objective == "edp" else run["best_energy_pJ"],
            timeloop_mapping(run["best_mapping"]),
            timeloop_value(objective),
            run["wall_s"],
            wall=True,
        )


def timeloop_value(objective: str) -> Recount:
    """The objective of our mapping by Timeloop's own rules."""

    def recount(cost: tw.Cost) -> float:
        again = tw.evaluate(cost.workload, cost.hardware, cost.mapping, convention="timeloop")
        return value_of(objective, again.energy_pj, again.cycles)

    return recount


def timeloop_layer(problem: Json, bits: int) -> tw.Workload:
    """A problem of Timeloop; every word is one of all memories."""
    dims = {key: problem[key] for key in ("N", "G", "K", "C", "P", "Q", "R", "S")}
    stride = problem["Wstride"], problem["Hstride"]
    return tw.conv2d(problem["name"], **dims, stride=stride, bits=dict.fromkeys("WIO", bits))


def timeloop_chip(document: Json, name: str) -> tw.Hardware:
    """An architecture with what it keeps and may unroll.

    Timeloop converts no word widths between levels, so all words have those of the outermost.
    """
    chip = read_architecture(document["archs"][name])
    bits = chip.levels[0].word_bits
    keeps = [frozenset(OPERANDS[t] for t in kept) for kept in reversed(document["keep"][name])]
    bound = name in document["mapspace_constraints"]
    levels = [
        replace(
            level,
            keeps=None if index == 0 else kept,
            word_bits=bits,
            capacity=_rescaled(level, bits),
            fanout=_bound_fanout(level.fanout) if bound else level.fanout,
        )
        for index, (level, kept) in enumerate(zip(chip.levels, keeps, strict=True))
    ]
    return replace(chip, levels=tuple(levels))


def _rescaled(level: tw.Level, bits: int) -> int | None:
    assert not isinstance(level.capacity, tuple)
    return None if level.capacity is None else level.capacity // level.word_bits * bits


def _bound_fanout(fanout: tw.Fanout) -> tw.Fanout:
    """The systolic array: input channels on its rows, output channels on its columns."""
    return replace(fanout, x_dims=("K",), y_dims=("C",))


_HEAD = re.compile(r"(\S+) \[ (.*)\]")
_LOOP = re.compile(r"\|\s*for (\w) in \[0:(\d+)\)(?: \(Spatial-(\w)\))?")


def timeloop_mapping(text: str) -> str:
    """A mapping as Timeloop prints it, outermost first, as ours."""
    lines: list[str] = []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            kept = [OPERANDS[word.split(":")[0]] for word in head[2].split() if ":" in word]
            lines.append(f"{head[1]}[{' '.join(kept)}]:")
        elif loop := _LOOP.match(line):
            bar = " |" if loop[3] and "|" not in lines[-1] else ""
            axis = f"@{loop[3].lower()}" if loop[3] else ""
            lines[-1] += f"{bar} {loop[1]}{loop[2]}{axis}"
    return "\n".join(lines)


# Interstellar.

INTERSTELLAR_DIMS = {"ON": "N", "OC": "K", "IC": "C", "OY": "P", "OX": "Q", "FY": "R", "FX": "S"}
INTERSTELLAR_MEMORIES = ("DRAM", "BUF", "RF")


def interstellar_cases() -> Iterator[Case]:
    """The twelve cases of Interstellar; for two of them its pruning leaves no mapping."""
    for case in _read("interstellar.json")["cases"]:
        output = case["output"]
        found = bool(output["feasible"])
        unrolled = _unrolled(case["schedule_hint"])
        yield Case(
            "Interstellar",
            "array of 256" if unrolled else "serial",
            case["name"],
            "energy",
            interstellar_layer(case["name"], case["layer"]),
            interstellar_chip(case["memory"], unrolled),
            output["optimal_energy"] if found else None,
            interstellar_mapping(output) if found else None,
            None,
            output["cpu_s"] if found else None,
            remark="" if found else "its half-full rule leaves no mapping",
        )


def interstellar_layer(name: str, layer: Json) -> tw.Workload:
    """A layer of Interstellar; its map is the output's."""
    return tw.conv2d(
        name,
        N=layer["batch_size"],
        K=layer["output_fmap_channel"],
        C=layer["input_fmap_channel"],
        P=layer["fmap_height"],
        Q=layer["fmap_width"],
        R=layer["window_height"],
        S=layer["window_width"],
        stride=(layer["stride_height"], layer["stride_width"]),
    )


def interstellar_chip(memory: Json, unrolled: Iterable[str]) -> tw.Hardware:
    """Three memories that keep everything; the array unrolls the hinted dims only."""
    fanout = tw.Fanout(
        memory["parallel_count"][0],
        hop_pj=memory["parallel_cost_per_hop"][0] if unrolled else 0.0,
        x_dims=tuple(unrolled),
    )
    entries, costs = memory["capacity_elems_per_bank"], memory["access_cost_per_elem"]
    bits = memory["precision_bits"]
    levels = [
        tw.Level(
            name,
            None if name == "DRAM" else entries[inner] * bits,
            keeps=None if name == "DRAM" else frozenset("WIO"),
            word_bits=bits,
            read_pj=costs[inner],
            write_pj=costs[inner],
            fanout=fanout if name == "BUF" else tw.Fanout(),
        )
        for name, inner in zip(INTERSTELLAR_MEMORIES, (2, 1, 0), strict=True)
    ]
    return tw.Hardware("interstellar", tuple(levels), tw.Compute(pj=0.0))


def _unrolled(hint: Json | None) -> tuple[str, ...]:
    loops: Json = hint["schedule_hint"] if hint else {}
    return tuple(
        INTERSTELLAR_DIMS[dim]
        for dim, levels in loops.items()
        if levels["level0"].get("partitioning_size", 1) > 1
    )


def interstellar_mapping(output: Json) -> str:
    """Blockings, orders (0 is the innermost) and partitions of Interstellar as our notation."""
    blockings = output["loop_blockings[L0,L1,L2]"]
    orders = output["loop_orders(0=innermost,6=absent/outermost)"]
    partitions = output["loop_partitionings"]
    lines: list[str] = []
    for memory, level in zip(INTERSTELLAR_MEMORIES, (2, 1, 0), strict=True):
        dims = sorted(blockings, key=lambda dim: -orders[dim][level])
        loops = " ".join(
            f"{INTERSTELLAR_DIMS[dim]}{blockings[dim][level]}"
            for dim in dims
            if blockings[dim][level] > 1
        )
        copies = " ".join(
            f"{INTERSTELLAR_DIMS[dim]}{parts[0]}@x"
            for dim, parts in partitions.items()
            if parts[0] > 1
        )
        fan = f" | {copies}" if copies and memory == "BUF" else ""
        lines.append(f"{memory}[W I O]: {loops}{fan}")
    return "\n".join(lines)
