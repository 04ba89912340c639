"""Timeloop's architecture files and Accelergy's energy tables, as hardware.

Owns: both forms of an architecture (`nodes` with tags, as version 0.4 is written by hand, and
`subtree` with `local`, as Timeloop's own parser reads it), the attributes of a storage, and the
tables of energies (ERT).

Non-goals: problems and mappings (`frontend/timeloop_nest.py`), compound components, constraints of
a mapspace.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tilewright.errors import InputError
from tilewright.frontend.foreign import Item
from tilewright.frontend.timeloop_names import OPERANDS
from tilewright.ir.hardware import Compute, Fanout, Hardware, Level

WORD_BITS = 16
"""Of a storage that does not say: Timeloop's own default."""
_COUNTED = re.compile(r"(.*?)\[(\d{1,15})\.\.(\d{1,15})\]")
_NETWORKS = ("network", "multicast", "reduction", "legacy", "noc", "wire")
_DUMMY = "dummy_storage"
_PARALLEL, _SEQUENTIAL = "!Parallel", ("!Hierarchical", "!Container")


@dataclass(slots=True)
class _Part:
    """A storage or the compute unit, and how many there are along both axes of the chip."""

    name: str
    item: Item
    x: int
    y: int
    parallel: bool = False


@dataclass(slots=True)
class Architecture:
    """What an architecture file says.

    Attributes:
        hardware: the chip.
        homes: the memory whose fan-out a container or a dummy storage stands for, by name; the
            memories by their own names, too.
    """

    hardware: Hardware
    homes: dict[str, str]


@dataclass(slots=True)
class _Walk:
    parts: list[_Part] = field(default_factory=list[_Part])
    homes: dict[str, int] = field(default_factory=dict[str, int])
    clock_ghz: float = 1.0

    def note_home(self, name: str) -> None:
        """Spatial loops of a container belong to the storage before it."""
        self.homes[name] = len(self.parts) - 1
        self.homes[f"inter_{name}_spatial"] = len(self.parts) - 1


def read_architecture_item(
    item: Item,
    tables: Item | None,
    operands: Mapping[str, str] | None = None,
    kept: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] | None = None,
) -> Architecture | None:
    """Read `architecture:`.

    Args:
        item: its value.
        tables: the value of `ERT:`.
        operands: our names by those of data spaces; those of a convolution if left out.
        kept: what constraints elsewhere say of storages: kept and bypassed data spaces, by name.

    Returns: `None`, with problems noted, if it cannot be said in our words.
    """
    names = dict(operands or OPERANDS)
    walk = _Walk()
    _version(item)
    nodes, tree = item.get("nodes"), item.get("subtree")
    if nodes is not None:
        _walk_nodes(nodes, walk, 1, 1, parallel=False)
    elif tree is not None:
        _walk_tree(tree, walk, 1)
    else:
        item.refuse("has neither `nodes` nor `subtree`", "write version 0.2 to 0.4 of the format")
        return None
    item.rest()
    if len(walk.parts) < 2:
        item.refuse("has no storage above a compute unit", "list storages, then the compute unit")
        return None
    energies = {} if tables is None else read_energies(tables)
    *storages, compute = walk.parts
    levels = [_level(part, names, energies, kept or {}) for part in storages]
    unit = _compute(compute, energies)
    fanned = list(_with_fanouts(walk.parts, levels))
    if tables is not None:
        _unused_tables(tables, energies, [part.name for part in walk.parts])
    if item.document.problems:
        return None
    return _hardware(item, fanned, unit, walk)


def _hardware(item: Item, levels: list[Level], unit: Compute, walk: _Walk) -> Architecture | None:
    stated = item.get("name")
    name = stated.text() if stated is not None else "timeloop"
    source = f"Timeloop architecture of {Path(item.document.source.name).name}"
    try:
        hardware = Hardware(name, tuple(levels), unit, walk.clock_ghz, source)
    except InputError as error:
        item.document.problems += error.problems
        return None
    memories = [level.memory for level in levels]
    homes = {name: memories[max(0, index)] for name, index in walk.homes.items()}
    return Architecture(hardware, homes | {memory: memory for memory in memories})


def _version(item: Item) -> None:
    version = item.get("version")
    if version is not None and version.text() not in ("0.2", "0.3", "0.4"):
        version.refuse(f"version {version.text()[:20]} is not known", "0.2 to 0.4 are read")


def _walk_nodes(nodes: Item, walk: _Walk, x: int, y: int, *, parallel: bool) -> tuple[int, int]:
    for node in nodes.items():
        name = _name(node)
        inner = node.get("nodes")
        x, y = _spread(node, x, y)
        if inner is not None:
            _clock(node, walk)
            in_parallel = node.tag == _PARALLEL
            if node.tag and not in_parallel and node.tag not in _SEQUENTIAL:
                node.refuse(f"`{node.tag}` cannot be said here", "list its parts one by one")
            after = _walk_nodes(inner, walk, x, y, parallel=in_parallel)
            if parallel and after != (x, y):
                node.refuse("a branch with a fan-out of its own", "a chip is one chain of levels")
            x, y = after
        elif node.tag == "!Container" or (not node.tag and node.get("class") is None):
            walk.note_home(name)
            _clock(node, walk)
            _constraints(node)
        elif node.tag in ("", "!Component"):
            if parallel and (node.get("spatial") is not None):
                node.refuse("a branch with a fan-out of its own", "a chip is one chain of levels")
            _add(node, name, walk, (x, y), parallel)
        elif node.tag != "!Nothing":
            node.refuse(f"`{node.tag}` cannot be said here", "use containers and components")
        node.rest()
    return x, y


def _spread(node: Item, x: int, y: int) -> tuple[int, int]:
    spatial = node.get("spatial")
    if spatial is None:
        return x, y
    across, down = spatial.get("meshX"), spatial.get("meshY")
    spatial.rest()
    return x * (across.integer() if across else 1), y * (down.integer() if down else 1)


def _walk_tree(tree: Item, walk: _Walk, count: int) -> None:
    branches = tree.items()
    if len(branches) > 1:
        tree.refuse("has several branches", "a chip is one chain of levels")
    for branch in branches[:1]:
        _, own = _counted(branch)
        _clock(branch, walk)
        local, inner = branch.get("local"), branch.get("subtree")
        for part in local.items() if local is not None else []:
            name, copies = _counted(part)
            instances = count * own * copies
            _add(part, name, walk, _mesh(part, instances), parallel=False)
            part.rest()
        branch.rest()
        if inner is not None:
            _walk_tree(inner, walk, count * own)


def _name(item: Item) -> str:
    return _counted(item)[0]


def _counted(item: Item) -> tuple[str, int]:
    """A name such as `PE[0..167]`, and how many it stands for."""
    stated = item.get("name")
    text = stated.text() if stated is not None else ""
    match = _COUNTED.fullmatch(text)
    if match is None:
        return text, 1
    count = int(match[3]) - int(match[2]) + 1
    if stated is not None and not 0 < count <= 2**32:
        stated.refuse(f"`{text[:40]}` stands for {count:,} copies")
    return match[1], max(1, count)


def _mesh(part: Item, instances: int) -> tuple[int, int]:
    attributes = part.get("attributes") or part
    across, down = attributes.get("meshX"), attributes.get("meshY")
    stated = attributes.get("instances")
    instances = stated.integer() if stated is not None else instances
    x = across.integer() if across is not None else None
    y = down.integer() if down is not None else None
    x = x if x is not None else max(1, instances // (y or 1))
    y = y if y is not None else max(1, instances // x)
    if x * y != instances:
        part.refuse(f"meshX {x} × meshY {y} are not its {instances} instances")
    return x, y


def _clock(item: Item, walk: _Walk) -> None:
    attributes = item.get("attributes")
    if attributes is None:
        return
    cycle = attributes.get("global_cycle_seconds")
    if cycle is not None:
        seconds = cycle.number()
        if seconds > 0:
            walk.clock_ghz = round(1e-9 / seconds, 9)
    for known in ("version", "technology"):
        attributes.get(known)  # energies come from tables
    attributes.rest()


def _add(item: Item, name: str, walk: _Walk, mesh: tuple[int, int], parallel: bool) -> None:
    stated = item.get("class") or item.get("subclass")
    item.get("subclass")
    kind = stated.text() if stated is not None else ""
    item.get("required_actions")  # says what Accelergy is to price
    for later in ("attributes", "constraints"):
        item.get(later)
    enabled = item.get("enabled")
    if enabled is not None and not enabled.flag():
        item.refuse(f"`{name}` is not enabled", "leave it out")
    if kind == _DUMMY:
        walk.homes[name] = len(walk.parts) - 1
        return
    if any(word in kind.casefold() for word in _NETWORKS):
        item.warn(f"the network `{name}` is not read: fan-outs multicast and reduce")
        return
    walk.parts.append(_Part(name, item, *mesh, parallel))


def _with_fanouts(parts: list[_Part], levels: list[Level]) -> Iterator[Level]:
    outermost = parts[0]
    if (outermost.x, outermost.y) != (1, 1):
        outermost.item.refuse(f"the outermost storage stands {outermost.x * outermost.y} times")
    for outer, inner, level in zip(parts, parts[1:], levels, strict=False):
        if inner.x % outer.x or inner.y % outer.y:
            what = f"{inner.x} × {inner.y} copies below {outer.x} × {outer.y} are no fan-out"
            inner.item.refuse(what, "multiples of the outer storage's mesh are")
        copies = Fanout(max(1, inner.x // outer.x), max(1, inner.y // outer.y))
        yield replace(level, fanout=replace(copies, hop_pj=level.fanout.hop_pj))


_SILENT = (
    "meshX",
    "meshY",
    "instances",
    "technology",
    "n_banks",
    "num_banks",
    "num_ports",
    "n_ports",
    "n_rdwr_ports",
    "type",
    "has_power_gating",
    "power_gated_at",
    "global_cycle_seconds",
    "update_fifo_depth",
    "network_word_bits",
)
"""Attributes that decide energies and areas, which come from tables, and nothing else."""
_NEUTRAL = {
    "min_utilization": "0",
    "allow_overbooking": "false",
    "reduction_supported": "true",
    "router_energy": "0",
    "wire_energy": "0",
    "addr_gen_energy": "0",
}
"""Attributes that we cannot say, with the value that changes nothing."""


def _level(
    part: _Part,
    names: Mapping[str, str],
    energies: Mapping[str, Mapping[str, float]],
    kept: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]],
) -> Level:
    held = part.item.get("attributes") or part.item
    word_bits = _integer(held, WORD_BITS, "word_bits", "word_width", "datawidth")
    block = _block_words(held, word_bits)
    double, capacity = _capacity(held, word_bits, block)
    bandwidths = _bandwidths(held)
    access = held.get("vector_access_energy")
    given = energies.get(part.name, {})
    prices = _prices(part, given, None if access is None else access.number())
    hop = held.get("energy_per_hop")
    for name in _SILENT:
        held.get(name)
    _neutral(held)
    if held is not part.item:
        held.rest()
    return Level(
        part.name,
        capacity=capacity,
        double_buffered=double,
        keeps=_keeps(part, names, kept.get(part.name)),
        word_bits=word_bits,
        read_pj=None if prices is None else prices[0] / block,
        write_pj=None if prices is None else prices[1] / block,
        update_pj=None if prices is None else prices[2] / block,
        leak_pj_per_cycle=given.get("leak", 0.0),
        block_words=block,
        read_bandwidth=bandwidths.get("read_bandwidth"),
        write_bandwidth=bandwidths.get("write_bandwidth"),
        bandwidth=bandwidths.get("bandwidth"),
        fanout=Fanout(hop_pj=0.0 if hop is None else hop.number()),
        where=part.item.span,
    )


def _neutral(held: Item) -> None:
    for name, value in _NEUTRAL.items():
        found = held.get(name)
        if found is not None and not found.is_empty and not _is_neutral(found.text(), value):
            found.warn(f"is not read: here it is as if it were {value}")


def _is_neutral(text: str, value: str) -> bool:
    if value == "true":
        return text.casefold() in ("true", "yes")
    if value == "false":
        return text.casefold() in ("false", "no")
    try:
        return float(text) <= 0
    except ValueError:
        return False


def _integer(held: Item, default: int, *names: str) -> int:
    found = held.get(*names)
    return default if found is None else found.integer()


def _block_words(held: Item, word_bits: int) -> int:
    """Words of one access: given, or as many as fit the width of a line."""
    stated = held.get("block_size", "n_words")
    cluster = _integer(held, 1, "cluster_size")
    width = held.get("width", "memory_width", "data_storage_width")
    if stated is not None:
        return stated.integer()
    if width is None:
        return 1
    bits = width.integer()
    if bits % (word_bits * cluster):
        width.refuse(f"a line of {bits} bits is no multiple of words of {word_bits} bits")
    return max(1, bits // (word_bits * cluster))


def _capacity(held: Item, word_bits: int, block: int) -> tuple[bool, int | None]:
    """Whether half of it is used, and the capacity in bits."""
    entries, kilobytes = held.get("entries"), held.get("sizeKB")
    depth = held.get("depth", "memory_depth", "data_storage_depth")
    buffering = held.get("multiple_buffering")
    times = 1.0 if buffering is None else buffering.number(at_least=1.0)
    if entries is not None and not entries.is_empty:
        words = entries.integer()
    elif depth is not None and not depth.is_empty and depth.text().casefold() != "inf":
        words = depth.integer() * block
    elif kilobytes is not None and not kilobytes.is_empty:
        words = kilobytes.integer() * 1024 * 8 // word_bits
    else:
        return False, None
    if times == 2 and words % 2 == 0:
        return True, words * word_bits
    return False, int(words / times) * word_bits


def _bandwidths(held: Item) -> dict[str, float]:
    """In words per cycle and instance, as Timeloop has them."""
    found: dict[str, float] = {}
    shared = held.get("shared_bandwidth", "rw_bandwidth")
    both = held.get("bandwidth")
    read, write = held.get("read_bandwidth"), held.get("write_bandwidth")
    stated = {"read_bandwidth": read, "write_bandwidth": write, "bandwidth": shared}
    for name, item in stated.items():
        if item is not None and not item.is_empty and item.text().casefold() != "inf":
            found[name] = item.number()
    if both is not None:
        half = both.number() / 2
        both.warn("Timeloop takes half of it for reads and half for writes, and so do we")
        found.setdefault("read_bandwidth", half)
        found.setdefault("write_bandwidth", half)
    if "bandwidth" in found and len(found) > 1:
        held.refuse(
            "a shared bandwidth beside one for reads or writes", "give one port, or two ports"
        )
        del found["bandwidth"]
    return found


def _prices(
    part: _Part, given: Mapping[str, float], access: float | None
) -> tuple[float, float, float] | None:
    """Energies of an access of a block: reads, writes, updates; `None` if nothing is given."""
    known = [given[name] for name in given if name != "leak"]
    fallback = max(known) if known else access
    if fallback is None:
        part.item.warn(f"no energies of `{part.name}` are given: 0 pJ", "import its ERT, too")
        return None
    write = given.get("write", fallback)
    return given.get("read", fallback), write, given.get("update", write)


def _keeps(
    part: _Part,
    names: Mapping[str, str],
    elsewhere: tuple[tuple[str, ...], tuple[str, ...]] | None,
) -> frozenset[str] | None:
    """The operands that it keeps, if its constraints leave no choice."""
    keep, bypass = elsewhere or ((), ())
    exact = False
    rules = part.item.get("constraints")
    space = None if rules is None else rules.get("dataspace")
    if space is not None:
        only = space.get("keep_only")
        exact = only is not None
        for item in (space.get("keep"), only):
            keep += () if item is None else item.texts()
        passed = space.get("bypass")
        bypass += () if passed is None else passed.texts()
        space.rest("is a constraint that is not read")
    if rules is not None:
        rules.rest("is a constraint that is not read: pin it with map --fix")
    unknown = [name for name in (*keep, *bypass) if name not in names]
    if unknown:
        part.item.warn(f"keeps `{unknown[0]}`, which is no data space of the problem")
    kept = {names[name] for name in keep if name in names}
    passed_by = {names[name] for name in bypass if name in names}
    exact = exact or (part.parallel and bool(keep))
    if not exact and kept | passed_by != set(names.values()):
        if keep or bypass:
            part.item.warn("keeps only some data spaces by rule; what it keeps is left free")
        return None
    return None if kept == set(names.values()) and not exact else frozenset(kept)


def _constraints(node: Item) -> None:
    rules = node.get("constraints")
    if rules is not None:
        rules.warn("is a constraint that is not read: pin it with map --fix")


_COMPUTE = ("compute", "random_compute", "mac_random", "mac", "mult_random", "mult")


def _compute(part: _Part, energies: Mapping[str, Mapping[str, float]]) -> Compute:
    held = part.item.get("attributes") or part.item
    bits = _integer(held, WORD_BITS, "datawidth", "word_bits", "word_width", "multiplier_width")
    for name in (*_SILENT, "adder_width", "width", "num_pipeline_stages"):
        held.get(name)
    stated = held.get("energy", "energy_per_op", "vector_access_energy")
    given = energies.get(part.name, {})
    named = [given[name] for name in _COMPUTE if name in given]
    rest = [pj for name, pj in given.items() if name not in ("leak", "idle")]
    pj = named[0] if named else max(rest) if rest else None
    if pj is None and stated is not None:
        pj = stated.number()
    if pj is None:
        part.item.warn(f"no energy of `{part.name}` is given: 0 pJ", "import its ERT, too")
    if given.get("leak"):
        part.item.warn(f"the leakage of `{part.name}` is not read")
    _constraints(part.item)
    if held is not part.item:
        held.rest()
    return Compute(part.name, pj=pj, bits=bits)


def read_energies(tables: Item) -> dict[str, dict[str, float]]:
    """Read `ERT:`: energies in pJ of an access, by component and action.

    Of an action with several energies (by arguments) the largest stands, as in Timeloop.
    """
    found: dict[str, dict[str, float]] = {}
    version = tables.get("version")
    if version is not None and version.text() not in ("0.2", "0.3", "0.4"):
        version.refuse(f"version {version.text()[:20]} is not known", "0.2 to 0.4 are read")
    listed = tables.get("tables")
    if listed is None:
        tables.refuse("has no `tables`", "this is no energy reference table of Accelergy")
        return {}
    for table in listed.items():
        name = _counted(table)[0].rpartition(".")[2] or _counted(table)[0]
        actions = table.get("actions")
        prices: dict[str, float] = {}
        for action in actions.items() if actions is not None else []:
            verb, price = action.get("name"), action.get("energy")
            action.get("arguments")
            action.rest()
            if verb is None or price is None:
                action.refuse("an action needs `name` and `energy`")
                continue
            label = _ACTIONS.get(verb.text(), verb.text())
            prices[label] = max(price.number(), prices.get(label, 0.0))
        table.rest()
        found[name] = prices
    tables.rest()
    return found


_ACTIONS = {
    "random_read": "read",
    "random_write": "write",
    "random_fill": "write",
    "fill": "write",
    "random_update": "update",
}
"""Other names of the actions of a storage."""


def _unused_tables(
    tables: Item, energies: Mapping[str, Mapping[str, float]], names: list[str]
) -> None:
    for name in energies:
        if name not in names and any(energies[name].values()):
            tables.warn(f"the energies of `{name}` are not used: no storage is called so")


def apply_energies(hardware: Hardware, tables: Item) -> Hardware:
    """Put the energies of a table into a chip, memory by memory, by their names.

    A memory or compute unit that the table does not have keeps what it has; that is warned of.
    """
    energies = read_energies(tables)
    levels: list[Level] = []
    for level in hardware.levels:
        given = energies.get(level.memory)
        if given is None:
            tables.warn(f"has no energies of {level.memory}: they stay as they are")
            levels.append(level)
            continue
        part = _Part(level.memory, tables, 1, 1)
        prices = _prices(part, given, None)
        block = level.block_words
        if prices is None:
            levels.append(level)
            continue
        read, write, update = (price / block for price in prices)
        leak = given.get("leak", level.leak_pj_per_cycle)
        priced = replace(level, read_pj=read, write_pj=write, update_pj=update)
        levels.append(replace(priced, leak_pj_per_cycle=leak))
    unit = hardware.compute
    given = energies.get(unit.name, {})
    named = [given[name] for name in _COMPUTE if name in given]
    if named:
        unit = replace(unit, pj=named[0])
    else:
        tables.warn(f"has no energy of {unit.name}: it stays as it is")
    _unused_tables(tables, energies, [*(level.memory for level in levels), unit.name])
    return replace(hardware, levels=tuple(levels), compute=unit)
