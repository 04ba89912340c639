"""A layer, a chip and a mapping as Timeloop's files.

Owns: `write_timeloop`: the architecture in the form that Timeloop's own parser reads (version 0.4,
`subtree` and `local`), the energies as a table (ERT), the problem, the mapping; and what cannot be
said there.

Non-goals: running Timeloop; its counts are `model/timeloop.py`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tilewright.errors import InputError, Problem
from tilewright.frontend.timeloop_names import data_space_names
from tilewright.ir.hardware import AXES, Fanout, Hardware, Level
from tilewright.ir.mapping import Loop
from tilewright.ir.mapping import Mapping as LoopNest
from tilewright.ir.workload import Operand, Workload
from tilewright.ir.write import dump_yaml

VERSION = "0.4"
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Exported:
    """Files of another tool, by name, and what they do not say."""

    files: dict[str, str]
    warnings: tuple[str, ...]


def write_timeloop(
    workload: Workload, hardware: Hardware, mapping: LoopNest | None = None
) -> Exported:
    """Write a layer, a chip and a mapping as Timeloop's files.

    Args:
        workload: the layer.
        hardware: the chip, with all energies given (`apply_technology` fills them in).
        mapping: of the layer on the chip; no mapping file if left out.

    Returns: `arch.yaml`, `problem.yaml` and `mapping.yaml`, and what is not said in them.

    Raises: `InputError`, with every reason, if Timeloop has no word for the mapping or the chip:
        uneven mappings, clipped tiles, names with dots or brackets.

    Source: `docs/interchange.md`, Timeloop.
    """
    problems = [*_bad_names(hardware), *_bad_mapping(workload, mapping)]
    if problems:
        raise InputError(problems)
    chip, split = _split_partitions(hardware)
    names = data_space_names(operand.name for operand in workload.operands)
    files = {
        "arch.yaml": dump_yaml(_architecture(chip, workload, names) | _energies(chip)),
        "problem.yaml": dump_yaml({"problem": _problem(workload, names)}),
    }
    if mapping is not None:
        directives = _directives(workload, chip, mapping, names, split)
        files["mapping.yaml"] = dump_yaml({"mapping": directives})
    warnings = [
        *_warn_of_chip(hardware),
        *_warn_of_splits(hardware, split),
        *_warn_of_layer(workload, hardware),
    ]
    return Exported(files, tuple(warnings))


def _bad_names(hardware: Hardware) -> Iterator[Problem]:
    for name in (*(level.memory for level in hardware.levels), hardware.compute.name):
        if any(sign in ".[]" for sign in name) or not name.isprintable():
            yield Problem(f"Timeloop cannot call a level `{name}`", "no dots and no brackets")


def _bad_mapping(workload: Workload, mapping: LoopNest | None) -> Iterator[Problem]:
    if mapping is None:
        return
    memories = [block.memory for block in mapping.blocks]
    for memory in dict.fromkeys(memories):
        if memories.count(memory) > 1:
            what = f"{memory} heads {memories.count(memory)} blocks: Timeloop's mappings are even"
            yield Problem(what, "export an even mapping", "mapping")
    for dim, size in workload.sizes.items():
        loops = [loop for block in mapping.blocks for loop in block.loops if loop.dim == dim]
        covered = math.prod(loop.extent for loop in loops)
        if covered != size:
            what = f"the factors of {dim} give {covered}, its size is {size}: tiles are clipped"
            yield Problem(what, "export a mapping with perfect factors", "mapping")


Split = dict[str, dict[str, str]]
"""By memory, the storage that stands for each operand's share of it."""


def _split_partitions(hardware: Hardware) -> tuple[Hardware, Split]:
    """One storage for each share of a partitioned memory: Timeloop's storages are shared."""
    split: Split = {}
    levels: list[Level] = []
    for level in hardware.levels:
        if not isinstance(level.capacity, tuple):
            levels.append(level)
            continue
        split[level.memory] = {name: f"{level.memory}_{name}" for name, _ in level.capacity}
        for place, (operand, bits) in enumerate(level.capacity):
            last = place == len(level.capacity) - 1
            levels.append(_share(level, split[level.memory][operand], operand, bits, last=last))
    return Hardware(hardware.name, tuple(levels), hardware.compute, hardware.clock_ghz), split


def _share(level: Level, memory: str, operand: str, bits: int, *, last: bool) -> Level:
    return replace(
        level,
        memory=memory,
        capacity=bits,
        keeps=frozenset([operand]),
        leak_pj_per_cycle=level.leak_pj_per_cycle if last else 0.0,
        area_mm2=None,
        fanout=level.fanout if last else Fanout(),
    )


def _architecture(hardware: Hardware, workload: Workload, names: Mapping[str, str]) -> Json:
    local: list[Json] = []
    x = y = 1
    for index, level in enumerate(hardware.levels):
        local.append(_storage(level, x, y, outermost=index == 0))
        x, y = x * level.fanout.x, y * level.fanout.y
    local.append(
        {
            "name": f"{hardware.compute.name}[1..{x * y}]",
            "class": "intmac",
            "attributes": {"datawidth": hardware.compute.bits, "meshX": x, "meshY": y},
        }
    )
    seconds = 1e-9 / hardware.clock_ghz
    tree = {
        "name": "system_top_level",
        "attributes": {"global_cycle_seconds": seconds},
        "local": local,
    }
    document: Json = {
        "architecture": {"version": VERSION, "name": hardware.name, "subtree": [tree]}
    }
    targets = list(_keep_targets(hardware, workload, names))
    return document | ({"architecture_constraints": {"targets": targets}} if targets else {})


def _storage(level: Level, x: int, y: int, *, outermost: bool) -> Json:
    assert not isinstance(level.capacity, tuple)
    attributes: Json = {"datawidth": level.word_bits, "block_size": level.block_words}
    if level.capacity is not None:
        attributes["entries"] = level.capacity // level.word_bits
    if level.double_buffered:
        attributes["multiple_buffering"] = 2
    for ours, theirs in (
        ("read_bandwidth", "read_bandwidth"),
        ("write_bandwidth", "write_bandwidth"),
        ("bandwidth", "shared_bandwidth"),
    ):
        width = getattr(level, ours)
        if width is not None:
            attributes[theirs] = width
    if level.fanout.hop_pj:
        attributes["energy-per-hop"] = level.fanout.hop_pj
    attributes |= {"meshX": x, "meshY": y}
    kind = "DRAM" if outermost and level.capacity is None else "smartbuffer_SRAM"
    return {"name": f"{level.memory}[1..{x * y}]", "class": kind, "attributes": attributes}


def _keep_targets(
    hardware: Hardware, workload: Workload, names: Mapping[str, str]
) -> Iterator[Json]:
    for level in hardware.levels:
        if level.keeps is not None:
            ours = [operand.name for operand in workload.operands]
            yield {
                "target": level.memory,
                "type": "bypass",
                "keep": [names[name] for name in ours if name in level.keeps],
                "bypass": [names[name] for name in ours if name not in level.keeps],
            }


def _energies(hardware: Hardware) -> Json:
    """Accelergy's table: energies in pJ of an access of a block."""
    tables: list[Json] = []
    for index, level in enumerate(hardware.levels):
        write = level.write_pj or 0.0
        update = write if level.update_pj is None else level.update_pj
        prices = {"read": level.read_pj or 0.0, "write": write, "update": update}
        actions = [_action(name, _of_block(pj, level.block_words)) for name, pj in prices.items()]
        if level.leak_pj_per_cycle:
            actions.append(_action("leak", level.leak_pj_per_cycle))
        count = hardware.instances(index)
        tables.append({"name": f"system_top_level.{level.memory}[1..{count}]", "actions": actions})
    unit = hardware.compute
    action = _action("compute", unit.pj or 0.0)
    name = f"system_top_level.{unit.name}[1..{hardware.mac_units}]"
    tables.append({"name": name, "actions": [action]})
    return {"ERT": {"version": VERSION, "tables": tables}}


def _action(name: str, energy: float) -> Json:
    arguments: Json = {}
    return {"name": name, "arguments": arguments, "energy": energy}


def _of_block(pj: float, words: int) -> float:
    """The energy of a block that gives the energy of a word back when it is divided."""
    whole = pj * words
    near = (whole, math.nextafter(whole, math.inf), math.nextafter(whole, -math.inf))
    return next((value for value in near if value / words == pj), whole)


def _problem(workload: Workload, names: Mapping[str, str]) -> Json:
    coefficients: dict[str, int] = {}
    spaces = [_data_space(o, workload, names, coefficients) for o in workload.operands]
    return {
        "version": VERSION,
        "name": workload.name,
        "shape": {
            "name": "layer",
            "dimensions": list(workload.sizes),
            "coefficients": [{"name": name, "default": 1} for name in coefficients],
            "data_spaces": spaces,
        },
        "instance": {**workload.sizes, **coefficients},
    }


def _data_space(
    operand: Operand,
    workload: Workload,
    names: Mapping[str, str],
    coefficients: dict[str, int],
) -> Json:
    projection: list[list[list[str]]] = []
    for rank in operand.ranks:
        terms: list[list[str]] = []
        for term in rank.terms:
            name = f"stride_of_{term.dim}_{operand.name}"
            if term.coefficient != 1:
                coefficients[name] = term.coefficient
            terms.append([term.dim] if term.coefficient == 1 else [term.dim, name])
        projection.append(terms)
    written = {"read_write": True} if operand == workload.output else {}
    return {"name": names[operand.name], "projection": projection, **written}


def _directives(
    workload: Workload,
    hardware: Hardware,
    mapping: LoopNest,
    names: Mapping[str, str],
    split: Split,
) -> list[Json]:
    blocks = {block.memory: block for block in mapping.blocks}
    homes = {share: memory for memory, shares in split.items() for share in shares.values()}
    found: list[Json] = []
    for level in hardware.levels:
        memory = homes.get(level.memory, level.memory)
        block = blocks.get(memory)
        shares = split.get(memory)
        innermost = shares is None or list(shares.values())[-1] == level.memory
        kept = set(block.operands if block else ())
        if shares is not None:
            kept &= {name for name, share in shares.items() if share == level.memory}
        ours = [operand.name for operand in workload.operands]
        found.append(
            {
                "target": level.memory,
                "type": "bypass",
                "keep": [names[name] for name in ours if name in kept],
                "bypass": [names[name] for name in ours if name not in kept],
            }
        )
        # The loops of a partitioned memory stand below the last of its shares.
        temporal = block.temporal if block and innermost else ()
        spatial = block.spatial if block and innermost else ()
        found.append({"target": level.memory, "type": "temporal", **_loops(temporal, workload)})
        if level.fanout.copies > 1:
            found.append(
                {"target": level.memory, "type": "spatial", **_unrolled(spatial, workload)}
            )
    return found


def _unrolled(spatial: tuple[Loop, ...], workload: Workload) -> Json:
    """All loops on x lie inside those on y; the first dims of the order lie on x."""
    on_x = tuple(loop for loop in spatial if loop.axis == AXES[0] and loop.extent > 1)
    on_y = tuple(loop for loop in spatial if loop.axis != AXES[0] and loop.extent > 1)
    both = sorted({loop.dim for loop in on_x} & {loop.dim for loop in on_y})
    if both:
        what = f"{both[0]} is unrolled on both axes of a fan-out"
        fix = "Timeloop has one factor a dim there: map with --fix 'MEMORY: | K@x C@y'"
        raise InputError(Problem(what, fix, "mapping"))
    return {**_loops((*on_y, *on_x), workload), "split": len(on_x)}


def _loops(loops: tuple[Loop, ...], workload: Workload) -> Json:
    """Factors and order, innermost first; every dim stands in both."""
    extents = dict.fromkeys(workload.sizes, 1)
    for loop in loops:
        if extents[loop.dim] > 1 and loop.extent > 1:
            what = f"{loop.dim} stands twice in one block"
            raise InputError(Problem(what, "Timeloop has one factor a dim and level", "mapping"))
        extents[loop.dim] *= loop.extent
    order = [loop.dim for loop in reversed(loops) if loop.extent > 1]
    order += [dim for dim in extents if dim not in order]
    factors = [f"{dim}={extent}" for dim, extent in extents.items()]
    return {"factors": factors, "permutation": order}


def _warn_of_chip(hardware: Hardware) -> Iterator[str]:
    for level in hardware.levels:
        fanout, memory = level.fanout, level.memory
        if fanout.copies > 1 and not (fanout.multicast and fanout.reduction):
            lacks = " and ".join(
                word
                for word, there in (
                    ("multicast", fanout.multicast),
                    ("reduction", fanout.reduction),
                )
                if not there
            )
            yield f"{memory}: its fan-out has no {lacks}; Timeloop's fan-outs always have"
        if fanout.x_dims is not None or fanout.y_dims is not None:
            yield f"{memory}: `x_dims` and `y_dims` are not written"
        if level.area_mm2 is not None:
            yield f"{memory}: its area is not written"
        if level.bandwidth is not None:
            yield f"{memory}: `shared_bandwidth` is read by versions of Timeloop since 2024 only"
    if hardware.compute.area_mm2 is not None:
        yield f"{hardware.compute.name}: its area is not written"


def _warn_of_splits(hardware: Hardware, split: Split) -> Iterator[str]:
    for level in hardware.levels:
        if level.memory in split:
            listed = ", ".join(split[level.memory].values())
            yield f"{level.memory} is partitioned: written as the storages {listed}"
            if level.bandwidth or level.read_bandwidth or level.write_bandwidth:
                yield f"{level.memory}: each of them has the whole bandwidth"


def _warn_of_layer(workload: Workload, hardware: Hardware) -> Iterator[str]:
    if any(rank.data is not None for operand in workload.operands for rank in operand.ranks):
        yield f"{workload.name}: padding is not written; Timeloop counts it as data"
    widths = {operand.bits for operand in workload.operands} | {workload.psum_bits}
    words = {level.word_bits for level in hardware.levels}
    if widths != words or len(words) > 1:
        yield (
            f"{workload.name}: its word sizes are not written; a word of Timeloop is as wide as "
            "the storage says"
        )
