"""ZigZag's accelerator and workload files, as hardware and networks.

Owns: `read_zigzag_hardware`, `read_zigzag_workload`: the files of ZigZag 3 (one core).

Non-goals: mapping files (a mapping is found here), in-memory compute, CACTI.

A word of a memory is what one access moves: the width of its read port, for ZigZag prices accesses.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tilewright.errors import InputError, Source
from tilewright.frontend.foreign import Document, Imported, Item
from tilewright.ir.hardware import Compute, Fanout, Hardware, Level
from tilewright.ir.workload import Layer, Rank, Term, Workload, gather_network, make_workload
from tilewright.ir.write import in_usual_order

MEMORY_OPERANDS = {"I1": "I", "I2": "W", "O": "O"}
"""ZigZag's own links of memory operands to those of a layer."""
_DIMS = {"B": "N", "OY": "P", "OX": "Q", "FY": "R", "FX": "S"}
"""Dims of a convolution; K, C and G are called alike."""
_EQUATION = re.compile(r"(\w+)((?:\[\w*\])+)")
_RELATION = re.compile(
    r"(\w+)\s*=\s*(?:(\d{1,15})\s*\*\s*)?(\w+)\s*\+\s*(?:(\d{1,15})\s*\*\s*)?(\w+)"
)
_NOT_COSTED = ("Add", "Max")


def is_zigzag_hardware(item: Item) -> bool:
    """Whether a document is an accelerator of ZigZag."""
    return item.is_mapping and {"memories", "operational_array"} <= set(item.keys())


def is_zigzag_workload(item: Item) -> bool:
    """Whether a document is a workload of ZigZag: a list of layers with equations."""
    return item.is_list and any(entry.get("equation") is not None for entry in item.items()[:1])


def read_zigzag_workload(source: Source) -> Imported:
    """Read a workload: a list of layers.

    Convolutions, matrix products and pooling become layers, in our names of dims; additions and
    maxima are listed as not costed.

    Raises: `InputError`, with every problem, for what cannot be said in our words.
    """
    document, top = Document.parse(source)
    layers: list[Layer] = []
    others: Counter[str] = Counter()
    for entry in top.items():
        operator = entry.get("operator_type")
        kind = "" if operator is None else operator.text()
        if kind in _NOT_COSTED:
            others[kind] += 1
            continue
        work = _read_layer(entry)
        if work is not None:
            layers.append(Layer(work))
    document.check()
    if not layers:
        top.refuse("has no convolution, matrix product or pooling")
        document.check()
    name = Path(source.name).stem or "zigzag"
    network = gather_network(name, layers, others, f"ZigZag workload {Path(source.name).name}")
    return Imported("zigzag", network=network, warnings=tuple(document.warnings))


def _read_layer(entry: Item) -> Workload | None:
    equation, dims, sizes = entry.get("equation"), entry.get("loop_dims"), entry.get("loop_sizes")
    precision = entry.get("operand_precision")
    if equation is None or dims is None or sizes is None or precision is None:
        entry.refuse("a layer needs equation, loop_dims, loop_sizes and operand_precision")
        return None
    named, number = entry.get("name"), entry.get("id")
    name = named.text() if named is not None and not named.is_empty else ""
    name = name or f"layer{number.text() if number is not None else ''}"
    names, counts = dims.texts(), [size.integer() for size in sizes.items()]
    if len(names) != len(counts):
        dims.refuse(f"{len(names)} loop dims have {len(counts)} sizes")
        return None
    loops = {_dim(dim): count for dim, count in zip(names, counts, strict=True)}
    entry.get("operand_source")  # who reads whose output: layers are costed one by one
    entry.get("memory_operand_links")
    padding = dict(_paddings(entry))
    relations = dict(_relations(entry))
    bits = {key: item.integer(at_least=0) for key, item in precision.entries()}
    entry.rest()
    operands = _operands(equation, relations, padding, loops)
    if entry.document.problems or not operands:
        return None
    (output, ranks), *inputs = operands
    inputs = [pair for pair in inputs if bits.get(pair[0], 1) > 0]  # pooling has no weights
    inputs.sort(key=lambda pair: pair[0] != "W")
    used = {t.dim for _, op in [(output, ranks), *inputs] for rank in op for t in rank.terms}
    for dim, size in loops.items():
        if dim not in used and size > 1:
            entry.refuse(f"dim {dim} indexes no operand")
    widths = {key: bits[key] for key, _ in inputs if key in bits}
    widths |= {output: bits.get("O_final", bits.get("O", 16)), "psum": bits.get("O", 16)}
    try:
        kept = {dim: size for dim, size in loops.items() if dim in used}
        return in_usual_order(make_workload(name, kept, (output, ranks), inputs, widths))
    except InputError as error:
        entry.document.problems += error.problems
        return None


def _dim(name: str) -> str:
    return _DIMS.get(name.upper(), name.upper())


def _relations(entry: Item) -> Iterator[tuple[str, dict[str, int]]]:
    stated = entry.get("dimension_relations")
    for item in stated.items() if stated is not None else []:
        match = _RELATION.fullmatch(item.text())
        if match is None:
            item.refuse(f"relation `{item.text()[:40]}`", "write ix=2*ox+1*fx")
            continue
        name, first, left, second, right = match.groups()
        yield name.upper(), {_dim(left): int(first or 1), _dim(right): int(second or 1)}


def _paddings(entry: Item) -> Iterator[tuple[str, tuple[int, int]]]:
    dims, padding = entry.get("pr_loop_dims"), entry.get("padding")
    entry.get("pr_loop_sizes")
    if dims is None or padding is None or dims.is_empty or padding.is_empty:
        return
    for dim, pair in zip(dims.texts(), padding.items(), strict=False):
        sides = [side.integer(at_least=0) for side in pair.items()]
        if len(sides) == 2:
            yield dim.upper(), (sides[0], sides[1])


def _operands(
    equation: Item,
    relations: dict[str, dict[str, int]],
    padding: dict[str, tuple[int, int]],
    loops: dict[str, int],
) -> list[tuple[str, tuple[Rank, ...]]]:
    found: list[tuple[str, tuple[Rank, ...]]] = []
    for name, indices in _EQUATION.findall(equation.text()):
        ranks: list[Rank] = []
        for index in re.findall(r"\[(\w*)\]", indices):
            if not index:
                continue
            steps = relations.get(index.upper(), {_dim(index): 1})
            unknown = [dim for dim in steps if dim not in loops]
            if unknown:
                equation.refuse(f"`{index[:20]}` is no loop dim and has no relation")
                continue
            ranks.append(_rank(index, steps, padding, loops))
        found.append((name, tuple(ranks)))
    if len(found) < 2:
        equation.refuse(f"`{equation.text()[:60]}` names no operands", "write O[k]+=W[k][c]*I[c]")
    return found


def _rank(
    index: str,
    steps: dict[str, int],
    padding: dict[str, tuple[int, int]],
    loops: dict[str, int],
) -> Rank:
    terms = tuple(Term(dim, step) for dim, step in steps.items())
    before, after = padding.get(index.upper(), (0, 0))
    reach = 1 + sum(step * (loops[dim] - 1) for dim, step in steps.items())
    stop = reach - after
    data = None if before == after == 0 or before >= stop else (before, stop)
    return Rank(terms, data)


@dataclass(slots=True)
class _Memory:
    name: str
    item: Item
    level: Level
    operands: frozenset[str]
    served: frozenset[str]


def read_zigzag_hardware(source: Source) -> Imported:
    """Read an accelerator: memories from the lowest to the highest, and an array of units.

    Raises: `InputError`, with every problem, for what cannot be said in our words: memories that
        are no chain of levels, in-memory compute.
    """
    document, top = Document.parse(source)
    named, memories = top.get("name"), top.get("memories")
    array = top.get("operational_array")
    if memories is None or array is None:
        top.refuse("an accelerator needs `memories` and `operational_array`")
        document.check()
    assert memories is not None
    assert array is not None
    sizes, compute = _array(array)
    found = [_memory(name, item) for name, item in memories.entries()]
    flows = top.get("dataflows")
    if flows is not None and not flows.is_empty:
        flows.warn("is not read: pin a dataflow with map --fix")
    top.rest()
    chain = found[::-1]
    document.check()
    levels = list(_chain(chain, sizes, memories))
    document.check()
    name = "zigzag" if named is None else named.text()
    hardware = Hardware(
        name, tuple(levels), compute, source=f"ZigZag accelerator {Path(source.name).name}"
    )
    return Imported("zigzag", hardware=hardware, warnings=tuple(document.warnings))


def _array(array: Item) -> tuple[dict[str, int], Compute]:
    imc = array.get("is_imc")
    if imc is not None and imc.flag():
        imc.refuse("in-memory compute cannot be said here")
    for name in ("imc_type", "adc_resolution", "bit_serial_precision"):
        array.get(name)
    dims, sizes = array.get("dimensions"), array.get("sizes")
    found: dict[str, int] = {}
    if dims is None or sizes is None:
        array.refuse("an array needs `dimensions` and `sizes`")
    else:
        counts = [size.integer() for size in sizes.items()]
        found = dict(zip(dims.texts(), counts, strict=False))
    energy, area = array.get("unit_energy"), array.get("unit_area")
    systolic = array.get("systolic_dimensions")
    if systolic is not None and not systolic.is_empty:
        systolic.warn("is not read: words reach all units at once")
    precision = array.get("input_precision")
    if precision is not None:
        precision.warn("is not read: word sizes are those of the layers")
    if area is not None:
        area.warn("is not read: it has no unit")
    array.rest()
    return found, Compute(pj=None if energy is None else energy.number())


def _memory(name: str, item: Item) -> _Memory:
    size, stated, served = item.get("size"), item.get("operands"), item.get("served_dimensions")
    if size is None or stated is None or served is None:
        item.refuse("a memory needs `size`, `operands` and `served_dimensions`")
    names = () if stated is None else stated.texts()
    for operand in names:
        if operand not in MEMORY_OPERANDS:
            item.refuse(f"operand `{operand[:20]}`", "I1, I2 and O are known")
    operands = frozenset(MEMORY_OPERANDS[o] for o in names if o in MEMORY_OPERANDS)
    (reads, writes, shared), (word, written) = _ports(item)
    read, write = item.get("r_cost"), item.get("w_cost")
    prices = [None if cost is None or cost.is_empty else cost.number() for cost in (read, write)]
    if None in prices:
        item.warn(f"the energies of {name} come from CACTI there: 0 pJ here", "add a technology")
    automatic = item.get("auto_cost_extraction")
    if automatic is not None and automatic.flag():
        automatic.warn("is not read: the energies are those given")
    double = item.get("force_double_buffering")
    _unread(item)
    level = Level(
        name,
        capacity=None if size is None else size.integer(),
        double_buffered=double is not None and double.flag(),
        keeps=operands,
        word_bits=word,
        read_pj=prices[0],
        # A write moves as much as its own port is wide.
        write_pj=None if prices[1] is None else prices[1] * word / written,
        read_bandwidth=reads / word if reads and not shared else None,
        write_bandwidth=writes / word if writes and not shared else None,
        bandwidth=shared / word if shared else None,
    )
    where = frozenset(() if served is None else served.texts())
    return _Memory(name, item, level, operands, where)


def _unread(item: Item) -> None:
    latency, area = item.get("latency"), item.get("area")
    item.get("mem_type")
    if latency is not None and latency.text() not in ("0", "1"):
        latency.warn("is not read: accesses take as long as ports need")
    if area is not None and not area.is_empty and area.number() > 0:
        area.warn("is not read: it has no unit")
    item.rest()


def _ports(item: Item) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Bits per cycle of all read ports, all write ports, all ports for both; bits of an access.

    An access is as wide as the first port that reads, or writes: it is what the prices are for.
    """
    widths = {"read": 0, "write": 0, "read_write": 0}
    first: dict[str, int] = {}
    stated = item.get("ports")
    ports = stated.items() if stated is not None else []
    for port in ports:
        kind, most, least = port.get("type"), port.get("bandwidth_max"), port.get("bandwidth_min")
        port.get("name")
        port.get("allocation")
        port.rest()
        if kind is None or kind.text() not in widths or most is None:
            port.refuse("a port needs `type` (read, write, read_write) and `bandwidth_max`")
            continue
        widths[kind.text()] += most.integer()
        first.setdefault(kind.text(), most.integer())
        if least is not None and least.integer() != most.integer():
            least.warn("is not read: a port moves its full width when it moves anything")
    shared = widths["read_write"]
    if shared and (widths["read"] or widths["write"]):
        item.warn("ports for both beside ports for one: taken together as ports for both")
        shared += widths["read"] + widths["write"]
    per_kind = Counter(port_kind.text() for p in ports if (port_kind := p.get("type")))
    if max(per_kind.values(), default=0) > 1:
        item.warn("several ports of a kind are taken together: operands share them")
    both = first.get("read_write", 16)
    access = first.get("read", both), first.get("write", both)
    return (widths["read"], widths["write"], shared), access


def _chain(chain: list[_Memory], sizes: dict[str, int], memories: Item) -> Iterator[Level]:
    """The levels, outermost first, with the fan-outs that the served dimensions say."""
    if not chain:
        memories.refuse("has no memories")
        return
    outermost = chain[0]
    if outermost.operands != frozenset(MEMORY_OPERANDS.values()):
        outermost.item.refuse(f"{outermost.name}, the highest, does not keep every operand")
    if outermost.served != frozenset(sizes):
        outermost.item.refuse(f"{outermost.name}, the highest, does not serve the whole array")
    for place, memory in enumerate(chain):
        unknown = sorted(memory.served - set(sizes))
        if unknown:
            memory.item.refuse(f"serves `{unknown[0][:20]}`, which the array does not have")
        inner = chain[place + 1].served if place + 1 < len(chain) else frozenset[str]()
        if not inner <= memory.served:
            what = f"{memory.name} and {chain[place + 1].name} serve the array in different ways"
            memory.item.refuse(what, "a chip is one chain of levels")
        across = [dim for dim in sizes if dim in memory.served - inner and sizes[dim] > 1]
        if len(across) > 2:
            what = f"the fan-out below {memory.name} has {len(across)} dimensions"
            memory.item.refuse(what, "x and y are two")
        copies = [sizes[dim] for dim in across] + [1, 1]
        fanout = Fanout(copies[0], copies[1])
        keeps = None if place == 0 else memory.operands
        yield replace(memory.level, keeps=keeps, fanout=fanout)
