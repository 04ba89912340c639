"""AccelForge's workload files, as networks.

Owns: `read_accelforge`: einsums as texts or as tensor accesses, sizes of ranks and of rank
variables, and the plainest of templates (`{% set X = X | default(1) %}` and `{{X}}`).

Non-goals: architectures and mappings of AccelForge, other templates, renames (which serve its
architectures).
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tilewright.errors import InputError, Problem, Source
from tilewright.frontend.foreign import Document, Imported, Item, calculate, entries_of
from tilewright.ir.workload import (
    DEFAULT_BITS,
    Layer,
    Rank,
    Term,
    Workload,
    gather_network,
    make_workload,
)
from tilewright.ir.write import in_usual_order

_SET = re.compile(r"\{%-?\s*set\s+(\w{1,80})\s*=\s*([^%{}\n]{1,80}?)\s*-?%\}")
_DEFAULT = re.compile(r"(\w+)\s*\|\s*default\(([^()]*)\)")
_USE = re.compile(r"\{\{\s*(\w{1,80})\s*\}\}")
_OPERAND = re.compile(r"\s*([A-Za-z]\w*)\s*\[([^\[\]]*)\]\s*")
_RANGE = re.compile(r"\s*0\s*<=\s*(\w+)\s*<\s*(\d{1,15})\s*")
_TERM = re.compile(r"\s*(?:(\d{1,15})\s*\*\s*)?([A-Za-z]\w*)(?:\s*\*\s*(\d{1,15}))?\s*")

Access = tuple[str, list[tuple[str, str]]]
"""A tensor, and for each of its ranks the rank's name and what indexes it."""


def is_template(source: Source) -> bool:
    """Whether a text is a template of a workload of AccelForge, and no YAML yet."""
    has_marks = "{%" in source.text or "{{" in source.text
    return has_marks and "workload:" in source.text and "einsums:" in source.text


def is_accelforge(item: Item) -> bool:
    """Whether a document is a workload of AccelForge."""
    workload = item.get("workload")
    return workload is not None and workload.get("einsums") is not None


@dataclass(slots=True)
class _Sizes:
    ranks: dict[str, int] = field(default_factory=dict[str, int])
    variables: dict[str, int] = field(default_factory=dict[str, int])
    bits: dict[str, int] = field(default_factory=dict[str, int])


def read_accelforge(source: Source, values: Mapping[str, str] | None = None) -> Imported:
    """Read a workload.

    Args:
        source: its text.
        values: of variables of a template; they win over its defaults.

    Products of two or more tensors, and sums over one, become layers; copies and elementwise
    operations on one tensor are listed as not costed. Rank variables become dims: `p0` is P, or P
    with a letter for the number where an einsum has several of them (n0 and n1: N_a and N_b).

    Raises: `InputError`, with every problem, for what cannot be said in our words.
    """
    rendered, notes = _render(source, values or {})
    document, top = Document.parse(rendered)
    document.warnings += notes
    workload = top.get("workload")
    top.get("renames")  # names for its architectures
    top.rest()
    einsums = None if workload is None else workload.get("einsums")
    if workload is None or einsums is None:
        top.refuse("has no `workload` with `einsums`")
        document.check()
    assert workload is not None
    assert einsums is not None
    sizes = _read_sizes(workload)
    workload.rest()
    layers: list[Layer] = []
    others: Counter[str] = Counter()
    for entry in einsums.items():
        for work, operator in _read_einsum(entry, sizes):
            if work is not None:
                layers.append(Layer(work))
            elif operator:
                others[operator] += 1
    document.check()
    if not layers:
        einsums.refuse("has no product and no sum")
        document.check()
    name = Path(source.name).stem or "accelforge"
    network = gather_network(name, layers, others, f"AccelForge workload {Path(source.name).name}")
    return Imported("accelforge", network=network, warnings=tuple(document.warnings))


def _render(source: Source, values: Mapping[str, str]) -> tuple[Source, list[Problem]]:
    """Fill in variables that have a default; anything else of a template is refused."""
    known: dict[str, str] = {}
    for name, value in _SET.findall(source.text):
        default = _DEFAULT.fullmatch(value)
        known[name] = default[2].strip() if default else value
    known |= values
    text = _SET.sub("", source.text)
    names = set(_USE.findall(text))
    missing = sorted(names - set(known))
    if missing or "{%" in text:
        what = f"the template's `{missing[0]}` has no value" if missing else "this is a template"
        fix = f"--set {missing[0]}=1" if missing else "render it first: loops are not worked out"
        raise InputError(Problem(what, fix, source.name))
    text = _USE.sub(lambda match: known[match[1]], text)
    used = [
        Problem(f"{name} is {known[name]}, its default", f"--set {name}=…", source.name)
        for name in names - set(values)
    ]
    return Source(source.name, text), sorted(used, key=lambda problem: problem.what)


def _read_sizes(workload: Item) -> _Sizes:
    sizes = _Sizes()
    ranks, space = workload.get("rank_sizes"), workload.get("iteration_space_shape")
    for name, item in entries_of(ranks):
        sizes.ranks[name] = item.integer()
    if space is not None:
        sizes.variables |= dict(_ranges(space))
    bits = workload.get("bits_per_value")
    for name, item in entries_of(bits):
        if re.fullmatch(r"\w+", name):
            sizes.bits[name] = item.integer()
        else:
            item.warn(f"the set `{name}` is not worked out: {DEFAULT_BITS} bits, or those of All")
    return sizes


def _ranges(space: Item) -> Iterator[tuple[str, int]]:
    items = space.items() if space.is_list else [item for _, item in space.entries()]
    for item in items:
        match = _RANGE.fullmatch(item.text())
        if match is None:
            item.refuse(f"`{item.text()[:40]}` is no range from 0", "write 0 <= p < 28")
        else:
            yield match[1], int(match[2])


def _read_einsum(entry: Item, sizes: _Sizes) -> Iterator[tuple[Workload | None, str]]:
    own = _Sizes(dict(sizes.ranks), dict(sizes.variables), dict(sizes.bits))
    accesses: list[Access] = []
    named = entry.get("name")
    stated = entry.get("einsum") if entry.is_mapping else entry
    copies = entry.get("is_copy_operation")
    listed = entry.get("tensor_accesses")
    space = entry.get("iteration_space_shape")
    entry.get("renames")
    if space is not None:
        own.variables |= dict(_ranges(space))
    if stated is not None and _adds(stated.text()):
        yield None, "Add"
        return
    if listed is not None:
        accesses = list(_listed(listed, own))
    elif stated is not None:
        accesses = list(_written(stated))
    entry.rest()
    if len(accesses) < 2:
        if not entry.document.problems:
            entry.refuse("an einsum has an output and an input")
        return
    output, *inputs = accesses
    name = named.text() if named is not None else output[0]
    outside = {index for _, ranks in inputs for _, index in ranks}
    is_sum = outside != {index for _, index in output[1]}
    if (copies is not None and copies.flag()) or (len(inputs) == 1 and not is_sum):
        yield None, "Copy" if copies is not None else "Elementwise"
        return
    yield _workload(entry, name, output, inputs, own), ""


def _listed(listed: Item, own: _Sizes) -> Iterator[Access]:
    """Accesses as a list of mappings; the output first."""
    found: list[tuple[bool, Access]] = []
    for access in listed.items():
        named, projection = access.get("name"), access.get("projection")
        written, bits = access.get("output"), access.get("bits_per_value")
        access.rest()
        if named is None or projection is None:
            access.refuse("a tensor access needs `name` and `projection`")
            continue
        if bits is not None:
            own.bits[named.text()] = bits.integer()
        if projection.is_list:
            ranks = [(item.text().upper(), item.text()) for item in projection.items()]
        else:
            ranks = [(rank, item.text()) for rank, item in projection.entries()]
        is_output = written is not None and written.flag()
        found.append((is_output, (named.text(), ranks)))
    if sum(is_output for is_output, _ in found) != 1 and not listed.document.problems:
        listed.refuse("one tensor is the output")
    yield from (access for _, access in sorted(found, key=lambda pair: not pair[0]))


def _written(stated: Item) -> Iterator[Access]:
    """Accesses of a text such as `Z[b, m] = A[b, k] * B[k, M: m]`; the output first."""
    left, equals, right = stated.text().partition("=")
    if not equals:
        stated.refuse(f"`{stated.text()[:60]}` is no einsum", "write Z[m] = A[m, k] * B[k]")
        return
    depth, pieces = 0, [""]
    for char in right:
        depth += (char == "[") - (char == "]")
        if char == "*" and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += char
    for piece in (left, *pieces):
        match = _OPERAND.fullmatch(piece)
        if match is None:
            stated.refuse(f"`{piece.strip()[:40]}` is no tensor", "write A[m, k]")
            continue
        yield match[1], [_indexed(part) for part in match[2].split(",") if part.strip()]


def _adds(text: str) -> bool:
    """Whether an einsum adds tensors: a sign that stands outside of brackets."""
    return "+" in re.sub(r"\[[^\[\]]*\]", "", text)


def _indexed(part: str) -> tuple[str, str]:
    rank, colon, index = part.partition(":")
    return (rank.strip(), index.strip()) if colon else (part.strip().upper(), part.strip())


def _workload(
    entry: Item, name: str, output: Access, inputs: list[Access], own: _Sizes
) -> Workload | None:
    accesses = [output, *inputs]
    parsed = {index: _terms(entry, index) for _, ranks in accesses for _, index in ranks}
    if entry.document.problems:
        return None
    sizes = _variable_sizes(entry, accesses, parsed, own)
    if entry.document.problems:
        return None
    dims = _dim_names(list(sizes))
    operands: list[tuple[str, tuple[Rank, ...]]] = []
    for tensor, ranks in accesses:
        made = [
            Rank(tuple(Term(dims[variable], step) for variable, step in parsed[index].items()))
            for _, index in ranks
        ]
        operands.append((tensor, tuple(made)))
        _reaches(entry, tensor, ranks, parsed, sizes, own)
    bits = {
        tensor: own.bits.get(tensor, own.bits.get("All", DEFAULT_BITS)) for tensor, _ in accesses
    }
    if entry.document.problems:
        return None
    try:
        counts = {dims[variable]: size for variable, size in sizes.items()}
        return in_usual_order(make_workload(name, counts, operands[0], operands[1:], bits))
    except InputError as error:
        entry.document.problems += error.problems
        return None


def _terms(entry: Item, index: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for piece in index.split("+"):
        match = _TERM.fullmatch(piece)
        if match is None:
            entry.refuse(f"index `{index[:40]}` is no sum of rank variables", "write p * 2 + r")
            continue
        step = calculate(f"{match[1] or 1} * {match[3] or 1}") or 1
        found[match[2]] = found.get(match[2], 0) + int(step)
    return found


def _variable_sizes(
    entry: Item, accesses: list[Access], parsed: dict[str, dict[str, int]], own: _Sizes
) -> dict[str, int]:
    """The size of every rank variable: its own range, else that of a rank that it alone indexes."""
    sizes: dict[str, int] = {}
    for _, ranks in accesses:
        for rank, index in ranks:
            for variable in parsed[index]:
                alone = parsed[index] == {variable: 1}
                known = own.variables.get(variable)
                if known is None and alone:
                    known = own.ranks.get(rank, own.ranks.get(variable.upper()))
                if known is not None:
                    sizes.setdefault(variable, known)
    named = {variable for terms in parsed.values() for variable in terms}
    for variable in sorted(named - set(sizes)):
        known = own.ranks.get(variable.upper())
        if known is None:
            entry.refuse(f"`{variable}` has no size", "add it to rank_sizes")
        else:
            sizes[variable] = known
    return sizes


def _reaches(  # noqa: PLR0913, PLR0917
    entry: Item,
    tensor: str,
    ranks: list[tuple[str, str]],
    parsed: dict[str, dict[str, int]],
    sizes: dict[str, int],
    own: _Sizes,
) -> None:
    """Warn where indices pass the end of a rank: AccelForge leaves those out, we do not."""
    for rank, index in ranks:
        reach = 1 + sum(step * (sizes.get(v, 1) - 1) for v, step in parsed[index].items())
        if rank in own.ranks and reach > own.ranks[rank]:
            what = f"{tensor}[{rank}: {index}] reaches {reach} of {own.ranks[rank]} coordinates"
            entry.warn(f"{what}: all are counted as data here")


def _dim_names(variables: list[str]) -> dict[str, str]:
    """Dims of letters for rank variables that may end in numbers.

    >>> _dim_names(["p0", "n0", "n1"])
    {'p0': 'P', 'n0': 'N_a', 'n1': 'N_b'}
    """
    plain = {variable: variable.rstrip("0123456789").upper() for variable in variables}
    shared = Counter(plain.values())
    return {
        variable: name if shared[name] == 1 else f"{name}_{_letters(variable[len(name) :])}"
        for variable, name in plain.items()
    }


def _letters(number: str) -> str:
    return "".join(chr(ord("a") + int(digit)) for digit in number) or "x"
