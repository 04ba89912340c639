"""Timeloop's files together: an architecture, a problem and a mapping may stand in any of them.

Owns: `read_timeloop`: which key stands where, and what is said of those that are not read.
"""

from collections.abc import Sequence
from dataclasses import replace

from tilewright.errors import InputError, Source
from tilewright.frontend.foreign import Document, Imported, Item
from tilewright.frontend.timeloop_arch import (
    Architecture,
    apply_energies,
    read_architecture_item,
)
from tilewright.frontend.timeloop_nest import Problem, read_mapping_item, read_problem_item
from tilewright.ir.hardware import Hardware
from tilewright.ir.workload import Layer, Workload, gather_network

KEYS = ("architecture", "problem", "mapping", "ERT")
_CONSTRAINTS = ("architecture_constraints", "constraints", "mapspace_constraints")
_NOT_READ = {
    "mapper": "is not read: how to search is said to map",
    "sparse_optimizations": "is not read: words and MACs are those of dense data",
    "components": "is not read: energies come from the ERT",
    "compound_components": "is not read: energies come from the ERT",
    "ART": "is not read: areas are not taken from it",
    "variables": "is not read: write the numbers out",
}
_HANDLED = ("dumped_by_timeloop_front_end", "globals", "mapspace")


def is_timeloop(item: Item) -> bool:
    """Whether a document has one of Timeloop's keys at its top."""
    return item.is_mapping and not set(KEYS).isdisjoint(item.keys())


def read_timeloop(sources: Sequence[Source], hardware: Hardware | None = None) -> Imported:
    """Read Timeloop's files.

    Args:
        sources: their texts; each may have some of `architecture`, `problem`, `mapping`, `ERT`.
        hardware: a chip that a table of energies alone is for.

    Returns: the chip, the layer and the mapping that there are. A mapping needs the other two.

    Raises: `InputError`, with every problem, for what cannot be said in our words.

    Source: `docs/interchange.md`, Timeloop.
    """
    documents: list[Document] = []
    top: dict[str, Item] = {}
    for source in sources:
        document, item = Document.parse(source)
        documents.append(document)
        _gather(item, top)
    found = _read(top, hardware)
    problems = [problem for document in documents for problem in document.problems]
    if problems:
        raise InputError(problems)
    warnings = tuple(warning for document in documents for warning in document.warnings)
    return Imported("timeloop", found.network, found.hardware, found.mapping, warnings)


def _gather(item: Item, top: dict[str, Item]) -> None:
    for key, value in item.entries():
        if key in KEYS or key in _CONSTRAINTS:
            if key in top:
                value.refuse(f"`{key}` stands in two files", "name one of them")
            top[key] = value
        elif key in _NOT_READ:
            if not value.is_empty:
                value.warn(_NOT_READ[key])
        elif key not in _HANDLED:
            value.warn("is not read")


def _read(top: dict[str, Item], hardware: Hardware | None) -> Imported:
    arch, tables = top.get("architecture"), top.get("ERT")
    stated = top.get("problem")
    first = None if stated is None else read_problem_item(stated)
    names = None if first is None else first.names
    kept = _kept(top)
    read: Architecture | None = None
    if arch is not None:
        read = read_architecture_item(arch, tables, names, kept)
        hardware = None if read is None else read.hardware
    elif tables is not None:
        if hardware is None:
            tables.refuse("a table of energies alone", "name the architecture, or --hardware CHIP")
        else:
            hardware = apply_energies(hardware, tables)
    else:
        hardware = None
    problem = _with_bits(first, read)
    nest = top.get("mapping")
    mapping = None
    if nest is not None:
        if problem is None or read is None:
            nest.refuse("a mapping needs its problem and its architecture", "name them, too")
        else:
            mapping = read_mapping_item(nest, problem, read.hardware, read.homes)
    network = None
    if problem is not None:
        work = problem.workload
        network = gather_network(work.name, [Layer(work)], source="Timeloop problem")
    return Imported("timeloop", network, hardware, mapping)


def _with_bits(problem: Problem | None, arch: Architecture | None) -> Problem | None:
    """Operands as wide as the words of the storages, if those are all as wide."""
    if problem is None or arch is None:
        return problem
    widths = {level.word_bits for level in arch.hardware.levels}
    if len(widths) != 1:
        return problem
    (bits,) = widths
    return Problem(_widened(problem, bits), problem.names)


def _widened(problem: Problem, bits: int) -> Workload:
    work = problem.workload
    return replace(
        work,
        output=replace(work.output, bits=bits),
        inputs=tuple(replace(operand, bits=bits) for operand in work.inputs),
        psum_bits=bits,
    )


def _kept(top: dict[str, Item]) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """What constraints say that storages keep and bypass; others are warned of."""
    found: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for key in _CONSTRAINTS:
        item = top.get(key)
        if item is None:
            continue
        targets = item.get("targets") or item
        item.rest("is a constraint that is not read")
        for target in targets.items() if targets.is_list else []:
            kind, name = target.get("type"), target.get("target")
            if (
                kind is None
                or name is None
                or kind.text() not in ("bypass", "datatype", "dataspace")
            ):
                target.warn("is a constraint that is not read: pin it with map --fix")
                continue
            keep, bypass = target.get("keep"), target.get("bypass")
            target.rest("is a constraint that is not read")
            found[name.text()] = (
                () if keep is None else keep.texts(),
                () if bypass is None else bypass.texts(),
            )
    return found
