"""Timeloop's problems and mappings, as workloads and mappings.

Owns: `problem:` (a shape and its instance) and `mapping:` (a list of directives).

Non-goals: architectures (`frontend/timeloop_arch.py`), sparsity, residual factors.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tilewright.errors import InputError
from tilewright.frontend.foreign import Item
from tilewright.frontend.timeloop_names import operand_names
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Block, Loop
from tilewright.ir.mapping import Mapping as LoopNest
from tilewright.ir.workload import Rank, Term, Workload, make_workload
from tilewright.ir.write import in_usual_order

_FACTOR = re.compile(r"([A-Za-z_]+)\s*=?\s*(\d{1,15})")
_DIM = re.compile(r"[A-Za-z_]+")
_BUILT_IN = ("cnn-layer", "cnn_layer")
_UNUSED = ("H", "W", "Hpad", "Wpad")
"""Sizes that Timeloop's own examples give and its shapes do not use."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What a problem file says: the workload, and our names of its data spaces."""

    workload: Workload
    names: dict[str, str]


@dataclass(slots=True)
class _Shape:
    name: str
    dims: tuple[str, ...]
    defaults: dict[str, int]
    spaces: dict[str, list[list[list[str]]]]
    written: list[str]


def read_problem_item(item: Item, bits: Mapping[str, int] | int | None = None) -> Problem | None:
    """Read `problem:`.

    Args:
        item: its value.
        bits: of a word of every operand; 16 if left out. Timeloop knows no width but a storage's.

    Returns: `None`, with problems noted, if it cannot be said in our words.
    """
    version = item.get("version")
    if version is not None and version.text() not in ("0.2", "0.3", "0.4"):
        version.refuse(f"version {version.text()[:20]} is not known", "0.2 to 0.4 are read")
    stated = item.get("shape")
    shape = _read_shape(stated, item) if stated is not None else None
    instance = item.get("instance") or item
    if shape is None:
        if stated is None:
            item.refuse("has no `shape`", "write its dimensions and data spaces out")
        return None
    sizes = _sizes(instance, shape)
    densities = instance.get("densities")
    if densities is not None and not densities.is_empty:
        densities.warn("is not read: words and MACs are those of dense data")
    for name in _UNUSED:
        unused = instance.get(name)
        pads = name.endswith("pad") and unused is not None and unused.text() not in ("0", "")
        if pads and unused is not None:
            unused.warn("is not read: Timeloop's shapes have no padding")
    instance.rest()
    if instance is not item:
        item.rest()
    if item.document.problems:
        return None
    return _workload(item, shape, sizes, bits)


def _read_shape(item: Item, problem: Item) -> _Shape | None:
    if not item.is_mapping:
        if item.text() in _BUILT_IN:
            return _cnn_layer()
        item.refuse(f"shape `{item.text()[:40]}` is not known", "write its data spaces out")
        return None
    dimensions = item.get("dimensions")
    spaces = item.get("data_spaces")
    if dimensions is None or spaces is None:
        problem.refuse("a shape needs `dimensions` and `data_spaces`")
        return None
    named = item.get("name")
    shape = _Shape("" if named is None else named.text(), dimensions.texts(), {}, {}, [])
    for dim in shape.dims:
        if not _DIM.fullmatch(dim):
            dimensions.refuse(f"dim `{dim[:20]}`", "a dim is letters and _ here: rename it")
    coefficients = item.get("coefficients")
    for entry in coefficients.items() if coefficients is not None else []:
        name, default = entry.get("name"), entry.get("default")
        if name is not None:
            shape.defaults[name.text()] = 1 if default is None else default.integer()
        entry.rest()
    for space in spaces.items():
        _read_space(space, shape)
    item.rest()
    return shape


def _read_space(space: Item, shape: _Shape) -> None:
    named, projection = space.get("name"), space.get("projection")
    written = space.get("read_write")
    space.rest()
    if named is None or projection is None:
        space.refuse("a data space needs `name` and `projection`")
        return
    name = named.text()
    if written is not None and written.flag():
        shape.written.append(name)
    shape.spaces[name] = [
        [list(term.texts()) for term in rank.items()] for rank in projection.items()
    ]


def _cnn_layer() -> _Shape:
    """The shape that older versions have built in."""
    across = [["R", "Wdilation"], ["P", "Wstride"]]
    down = [["S", "Hdilation"], ["Q", "Hstride"]]
    spaces = {
        "Weights": [[["C"]], [["K"]], [["R"]], [["S"]]],
        "Inputs": [[["N"]], [["C"]], across, down],
        "Outputs": [[["N"]], [["K"]], [["Q"]], [["P"]]],
    }
    ones: dict[str, int] = dict.fromkeys(("Wstride", "Hstride", "Wdilation", "Hdilation"), 1)
    return _Shape("cnn-layer", tuple("RSPQCKN"), ones, spaces, ["Outputs"])


def _sizes(instance: Item, shape: _Shape) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name in (*shape.dims, *shape.defaults):
        stated = instance.get(name)
        if stated is not None:
            sizes[name] = stated.integer()
        elif name in shape.defaults:
            sizes[name] = shape.defaults[name]
        else:
            instance.refuse(f"dim {name} has no size", f"add {name} to the instance")
    return sizes


def _workload(
    item: Item, shape: _Shape, sizes: dict[str, int], bits: Mapping[str, int] | int | None
) -> Problem | None:
    if len(shape.written) != 1:
        listed = ", ".join(shape.written) or "none"
        item.refuse(f"one data space is written here, found: {listed}", "set read_write at one")
        return None
    names = operand_names(shape.spaces)
    ranks = {
        names[name]: tuple(_rank(item, rank, sizes) for rank in projection)
        for name, projection in shape.spaces.items()
    }
    used = {term.dim for operand in ranks.values() for rank in operand for term in rank.terms}
    for dim in shape.dims:
        if dim not in used and sizes[dim] > 1:
            item.refuse(f"dim {dim} indexes no data space", "a loop that repeats work is not said")
    if item.document.problems:
        return None
    output = names[shape.written[0]]
    inputs = [(name, operand) for name, operand in ranks.items() if name != output]
    # Weights before inputs, as everywhere here.
    inputs.sort(key=lambda pair: ("W", "I").index(pair[0]) if pair[0] in ("W", "I") else 0)
    kept = {dim: sizes[dim] for dim in shape.dims if dim in used}
    stated = item.get("name")
    name = stated.text() if stated is not None else shape.name or "problem"
    width = dict.fromkeys(ranks, bits) if isinstance(bits, int) else dict(bits or {})
    try:
        made = make_workload(name, kept, (output, ranks[output]), inputs, width)
        return Problem(in_usual_order(made), names)
    except InputError as error:
        item.document.problems += error.problems
        return None


def _rank(item: Item, terms: list[list[str]], sizes: Mapping[str, int]) -> Rank:
    found: dict[str, int] = {}
    for term in terms:
        if not term or term[0] not in sizes:
            item.refuse(f"a projection's term `{' '.join(term)[:40]}` names no dim")
            continue
        coefficient = 1
        for name in term[1:]:
            if name not in sizes:
                item.refuse(f"coefficient `{name[:20]}` has no value", "add it to the instance")
            coefficient *= sizes.get(name, 1)
        found[term[0]] = found.get(term[0], 0) + coefficient
    return Rank(tuple(Term(dim, coefficient) for dim, coefficient in found.items()))


@dataclass(slots=True)
class _Place:
    """What is said of one storage, loops innermost first."""

    bypass: set[str] = field(default_factory=set[str])
    temporal: list[Loop] = field(default_factory=list[Loop])
    spatial: list[Loop] = field(default_factory=list[Loop])


def read_mapping_item(
    item: Item, problem: Problem, hardware: Hardware, homes: Mapping[str, str]
) -> LoopNest | None:
    """Read `mapping:`.

    Args:
        item: its value: a list of directives.
        problem: what is mapped.
        hardware: on what.
        homes: our memory for every name that a directive may target.

    Returns: `None`, with problems noted, if it cannot be said in our words.
    """
    places = {level.memory: _Place() for level in hardware.levels}
    covered = dict.fromkeys(problem.workload.sizes, 1)
    open_loops: list[tuple[_Place, str, int]] = []
    for directive in item.items():
        _read_directive(directive, problem, homes, hardware, places, covered, open_loops)
    _fill_rest(item, problem, covered, open_loops)
    for dim, size in problem.workload.sizes.items():
        if covered[dim] != size:
            what = f"the factors of {dim} give {covered[dim]}, its size is {size}"
            item.refuse(what, "residual factors are not read")
    top = hardware.levels[0].memory
    if places[top].bypass:
        item.refuse(f"{top}, the outermost storage, bypasses {min(places[top].bypass)}")
    if item.document.problems:
        return None
    operands = [operand.name for operand in problem.workload.operands]
    blocks = [_block(memory, place, operands) for memory, place in places.items()]
    return LoopNest(tuple(block for block in blocks if block.operands or block.loops))


def _block(memory: str, place: _Place, operands: list[str]) -> Block:
    def outermost_first(loops: list[Loop]) -> tuple[Loop, ...]:
        return tuple(loop for loop in reversed(loops) if loop.extent > 1)

    kept = tuple(name for name in operands if name not in place.bypass)
    return Block(memory, kept, outermost_first(place.temporal), outermost_first(place.spatial))


def _read_directive(  # noqa: PLR0913, PLR0917
    directive: Item,
    problem: Problem,
    homes: Mapping[str, str],
    hardware: Hardware,
    places: dict[str, _Place],
    covered: dict[str, int],
    open_loops: list[tuple[_Place, str, int]],
) -> None:
    target, kind = directive.get("target"), directive.get("type")
    if target is None or kind is None:
        directive.refuse("a directive needs `target` and `type`")
        return
    memory = homes.get(target.text())
    if memory is None:
        target.refuse(f"the architecture has no `{target.text()[:40]}`")
        return
    place = places[memory]
    if kind.text() in ("bypass", "datatype", "dataspace"):
        _read_keeps(directive, problem, place)
    elif kind.text() in ("temporal", "spatial"):
        loops = _read_loops(directive, problem, covered)
        if kind.text() == "temporal":
            if target.text() != memory and any(extent != 1 for _, extent in loops):
                target.refuse("has temporal loops, but stores nothing", "give them to a storage")
            into, axes = place.temporal, [None] * len(loops)
        else:
            into, axes = place.spatial, _axes(directive, hardware, memory, len(loops))
        made = [Loop(dim, extent, axis) for (dim, extent), axis in zip(loops, axes, strict=True)]
        # Directives stand outermost first: a later one of the same memory is inside.
        into[:0] = made
        for dim, extent in loops:
            if extent == 0:
                open_loops.append((place, dim, id(into)))
            else:
                covered[dim] *= extent
    else:
        kind.refuse(f"type `{kind.text()[:20]}`", "temporal, spatial and bypass are known")
    directive.rest()


def _read_keeps(directive: Item, problem: Problem, place: _Place) -> None:
    keep, bypass = directive.get("keep"), directive.get("bypass")
    for item, is_kept in ((keep, True), (bypass, False)):
        for name in () if item is None else item.texts():
            if name not in problem.names:
                directive.refuse(f"the problem has no data space `{name[:40]}`")
            elif is_kept:
                place.bypass.discard(problem.names[name])
            else:
                place.bypass.add(problem.names[name])


def _read_loops(
    directive: Item, problem: Problem, covered: Mapping[str, int]
) -> list[tuple[str, int]]:
    """The loops innermost first; an extent of 0 stands for what is left of the dim."""
    stated, order = directive.get("factors"), directive.get("permutation")
    extents: dict[str, int] = {}
    for text in () if stated is None else _factor_texts(stated):
        match = _FACTOR.fullmatch(text)
        if match is None:
            directive.refuse(f"factor `{text[:40]}`", "write C=4; residual factors are not read")
            continue
        dim, extent = match[1], int(match[2])
        if dim not in covered:
            if extent > 1:
                directive.refuse(f"the problem has no dim {dim[:20]}")
            continue
        if dim in extents:
            directive.refuse(f"{dim} has two factors")
        extents[dim] = extent
    dims = () if order is None else _permutation(order, problem)
    missing = [dim for dim, extent in extents.items() if dim not in dims and extent != 1]
    if len(missing) > (0 if dims else 1):
        directive.refuse(f"the permutation does not place {missing[0]}", "name every dim")
    return [(dim, extents[dim]) for dim in (*dims, *missing) if extents.get(dim, 1) != 1]


def _factor_texts(item: Item) -> tuple[str, ...]:
    if item.is_list:
        return tuple(entry.text() for entry in item.items())
    text = re.sub(r"\s*=\s*", "=", item.text())
    # `P=7,2` is a residual factor; a comma before a letter only separates.
    return tuple(re.sub(r",\s*(?=[A-Za-z_])", " ", text).split())


def _permutation(order: Item, problem: Problem) -> tuple[str, ...]:
    """Dims innermost first: a list, or a text of names or of single letters."""
    known = problem.workload.sizes
    names = order.texts()
    if len(names) == 1 and names[0] not in known:
        names = tuple(names[0])
    if len(set(names)) < len(names):
        order.refuse("names a dim twice")
    return tuple(name for name in names if name in known)


def _axes(directive: Item, hardware: Hardware, memory: str, count: int) -> list[str | None]:
    """The axis of every loop, innermost first: the first `split` dims of the order lie on x."""
    fanout = hardware.levels[hardware.level_index(memory)].fanout
    split = directive.get("split")
    order = directive.get("permutation")
    if split is None:
        if count and fanout.x > 1 and fanout.y > 1:
            directive.warn("has no `split`: all its loops lie on x")
        return ["x" if fanout.x > 1 or fanout.y == 1 else "y"] * count
    first = split.integer(at_least=0)
    written = _written(order)
    dims = [dim for dim in written if _extent(directive, dim) != 1]
    on_x = set(written[:first])
    axes: list[str | None] = ["x" if dim in on_x else "y" for dim in dims]
    return axes[:count] + ["y"] * (count - len(dims))


def _written(order: Item | None) -> tuple[str, ...]:
    names = () if order is None else order.texts()
    if len(names) == 1 and len(names[0]) > 1:
        return tuple(names[0])
    return names


def _extent(directive: Item, dim: str) -> int:
    stated = directive.get("factors")
    for text in () if stated is None else _factor_texts(stated):
        match = _FACTOR.fullmatch(text)
        if match is not None and match[1] == dim:
            return int(match[2])
    return 1


def _fill_rest(
    item: Item,
    problem: Problem,
    covered: dict[str, int],
    open_loops: list[tuple[_Place, str, int]],
) -> None:
    """Give factors of 0 what is left of their dims."""
    for place, dim, where in open_loops:
        if sum(other == dim for _, other, _ in open_loops) > 1:
            item.refuse(f"two factors of {dim} are 0", "one stands for what is left")
            return
        left, remainder = divmod(problem.workload.sizes[dim], covered[dim])
        if remainder:
            item.refuse(f"the factors of {dim} do not divide {problem.workload.sizes[dim]}")
            left = 1
        covered[dim] *= left
        loops = place.temporal if id(place.temporal) == where else place.spatial
        loops[:] = [
            Loop(loop.dim, left, loop.axis) if loop.dim == dim and loop.extent == 0 else loop
            for loop in loops
        ]
