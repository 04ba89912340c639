"""ONNX files as networks.

Owns: `read_onnx`: which nodes of a graph are layers, what they are called, which operators are
folded into others, and what is said about shapes that are not known.

Non-goals: ONNX's own objects (`frontend/onnx_graph.py`), the loop nest of an operator
(`frontend/onnx_operators.py`), running the network.

What is a layer: convolutions, matrix products and pooling. What costs nothing and is not listed:
nodes that only work on constants (weights, shapes), and a batch normalization that can be folded
into the weights before it. Every other node is listed by operator, with its count.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.errors import InputError, Problem, did_you_mean, visible
from tilewright.frontend.onnx_folding import fold_constants
from tilewright.frontend.onnx_graph import (
    Graph,
    Node,
    describe_producer,
    explain_inference,
    format_shape,
    infer_graph,
    load_model,
)
from tilewright.frontend.onnx_inputs import fix_inputs
from tilewright.frontend.onnx_operators import OPERATORS
from tilewright.frontend.onnx_windows import Call
from tilewright.ir.workload import Layer, Network, Workload, gather_network

if TYPE_CHECKING:
    from onnx import ModelProto

MAX_NAMES = 8
"""So many names of nodes or operators at most are shown in a message."""

FOLDS_NORMALIZATION = ("Conv", "ConvTranspose", "Gemm")

WIDTHS = ("W", "I", "O", "psum")


def read_onnx(
    path: Path | str,
    *,
    batch: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    bits: Mapping[str, int] | None = None,
    node: str | None = None,
) -> Network:
    """Read an ONNX file. Weights are not read, only their shapes.

    Args:
        path: the file.
        batch: the first size of every input that leaves it open.
        shapes: the sizes of inputs, by name, where the file leaves them open.
        bits: word sizes of W, I, O and `psum`; 16 for what is left out, except in operators on
            8-bit integers.
        node: take this node only; a node without a name is called as its output is.

    Returns: the network, with equal layers together under the first one's name.

    Raises: `InputError` if the file cannot be read, a shape is not known, an operator contradicts
        its shapes, or there is nothing to cost.

    >>> import onnx.backend.test
    >>> folder = Path(onnx.backend.test.__file__).parent / "data" / "light"
    >>> network = read_onnx(folder / "light_squeezenet.onnx")
    >>> network.macs, network.layers[0].workload.name
    (349151936, 'n0')

    Source: `spec/formats.md`, Workload.
    """
    path = Path(path)
    _raise_all(_check_bits(bits or {}), path)
    model = load_model(path)
    _raise_all(fix_inputs(model, batch, shapes or {}), path)
    graph = infer_graph(model, path)
    costed = _select(_costed(graph), graph, node, path)
    while _unknown(costed, graph) and fold_constants(model, graph):
        graph = infer_graph(model, path)
    workloads = _workloads(costed, graph, model, bits or {}, path)
    source = f"ONNX file {visible(path.name)} ({describe_producer(model)})"
    layers = [Layer(workload) for workload in workloads]
    if node is not None:
        return gather_network(f"{path.stem}:{node}", layers, source=source)
    return gather_network(path.stem, layers, _not_costed(graph, costed), source)


def _raise_all(problems: Iterable[Problem], path: Path) -> None:
    """Raise what was found, if anything, each with its file."""
    placed = [
        Problem(f"{problem.where}: {problem.what}" if problem.where else problem.what, problem.fix)
        for problem in problems
    ]
    if placed:
        raise InputError(Problem(problem.what, problem.fix, str(path)) for problem in placed)


def _check_bits(bits: Mapping[str, int]) -> Iterator[Problem]:
    for name, width in bits.items():
        if name not in WIDTHS:
            yield Problem(f"bits of {name}: there is no such operand", did_you_mean(name, WIDTHS))
        if width < 1:
            yield Problem(f"bits of {name} are {width}: the least is 1", "16 is usual")


def _costed(graph: Graph) -> dict[str, Node]:
    """The nodes that become layers, by a name that no other has."""
    named: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op in OPERATORS and not graph.is_constant(node):
            named[_unique(_name(node), named)] = node
    return named


def _name(node: Node) -> str:
    return node.name or next((visible(output) for output in node.outputs if output), node.op)


def _unique(name: str, taken: Mapping[str, Node]) -> str:
    count, made = 1, name
    while made in taken:
        count += 1
        made = f"{name}_{count}"
    return made


def _select(
    costed: dict[str, Node], graph: Graph, wanted: str | None, path: Path
) -> dict[str, Node]:
    """The nodes to cost: all, or the one that is wanted. Raises `InputError` if there is none."""
    if not costed:
        found = Counter(node.op for node in graph.nodes).most_common(MAX_NAMES)
        names = ", ".join(f"{op} ×{count}" for op, count in found)
        what = f"the graph has no convolution, matrix product or pooling; it has {names}"
        raise InputError(Problem(what, "choose a file with one of them", str(path)))
    if wanted is None:
        return costed
    if wanted in costed:
        return {wanted: costed[wanted]}
    other = next((node for node in graph.nodes if wanted in (_name(node), *node.outputs)), None)
    what = f"the graph has no node `{visible(wanted)}`"
    if other is not None:
        what = f"node `{visible(wanted)}` is a {other.op}, which is not costed"
    near = get_close_matches(wanted, costed, n=MAX_NAMES) or list(costed)[:MAX_NAMES]
    raise InputError(Problem(what, did_you_mean(wanted, near), str(path)))


def _operands(node: Node) -> tuple[str, ...]:
    """The tensors whose shapes decide what it costs; one that is left out has no name."""
    count = len(node.inputs)
    places = OPERATORS[node.op].operands
    return tuple(node.inputs[place] if place < count else "" for place in places)


def _unknown(costed: Mapping[str, Node], graph: Graph) -> list[tuple[str, str]]:
    """The tensors without known shape that nodes need: the node's name, the tensor's."""
    return [
        (name, tensor)
        for name, node in costed.items()
        for tensor in _operands(node)
        if graph.sizes(tensor) is None
    ]


def _workloads(
    costed: Mapping[str, Node],
    graph: Graph,
    model: "ModelProto",
    bits: Mapping[str, int],
    path: Path,
) -> list[Workload]:
    unknown = _unknown(costed, graph)
    skipped = {name for name, _ in unknown}
    workloads, problems = list[Workload](), list(_check_reshapes(graph))
    for name, node in costed.items():
        if name in skipped:
            continue
        try:
            workloads.append(_workload(name, node, graph, bits))
        except InputError as error:
            problems += error.problems
    # An operator that contradicts its shapes is why those after it are not known.
    if unknown and not problems:
        problems.append(_explain(unknown, costed, graph, model))
    _raise_all(problems, path)
    return workloads


def _workload(name: str, node: Node, graph: Graph, bits: Mapping[str, int]) -> Workload:
    operator = OPERATORS[node.op]
    shapes = tuple(graph.sizes(tensor) or () for tensor in _operands(node))
    present = WIDTHS if len(shapes) > 1 else WIDTHS[1:]
    widths = {key: width for key, width in bits.items() if key in present}
    return operator.make(Call(name, node.attributes, shapes, dict(operator.bits) | widths))


def _check_reshapes(graph: Graph) -> Iterator[Problem]:
    """A target that is fixed for other input sizes: ONNX's inference believes it."""
    for node in graph.nodes:
        if node.op != "Reshape" or not node.inputs or not node.outputs:
            continue
        given, made = graph.sizes(node.inputs[0]), graph.sizes(node.outputs[0])
        if given is None or made is None or math.prod(given) == math.prod(made):
            continue
        what = f"Reshape `{_name(node)}` makes {list(made)} of {list(given)}"
        words = f"{math.prod(made)} words of {math.prod(given)}"
        yield Problem(f"{what}: {words}", "give the sizes that the graph is made for")


def _explain(
    unknown: list[tuple[str, str]], costed: Mapping[str, Node], graph: Graph, model: "ModelProto"
) -> Problem:
    """One problem for all shapes that are not known: the first, why, and how to set it."""
    name, tensor = unknown[0]
    if not tensor:
        return Problem(f"{costed[name].op} `{name}` has too few inputs", "export it anew")
    shape = graph.shapes.get(tensor)
    found = f"shape {format_shape(shape)}" if shape is not None else "a shape that is not known"
    what = f"{costed[name].op} `{name}`: its input `{visible(tensor)}` has {found}"
    count = len({other for other, _ in unknown}) - 1
    more = f" (and {count} more like it)" if count else ""
    before = _before([lost for _, lost in unknown], graph)
    is_open = [name for name in graph.inputs if name in before and graph.sizes(name) is None]
    if is_open:
        return Problem(what + more, _options(is_open, graph))
    reason = explain_inference(model)
    stop = next((node for node in graph.nodes if _stops(node, graph, before)), None)
    if stop is not None:
        what += f": it does not follow from {stop.op} `{_name(stop)}`"
    what += f" ({reason})" if reason else ""
    return Problem(what + more, "store the shape of that tensor in the file (value_info)")


def _before(tensors: list[str], graph: Graph) -> set[str]:
    """The tensors and all that they are computed from."""
    makers = {output: node for node in graph.nodes for output in node.outputs}
    seen, left = set[str](), list(tensors)
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            left += makers[name].inputs if name in makers else ()
    return seen


def _stops(node: Node, graph: Graph, before: set[str]) -> bool:
    """Whether shapes are known before the node, but not after it."""
    is_lost = any(name in before and graph.sizes(name) is None for name in node.outputs)
    return is_lost and all(graph.sizes(name) is not None for name in node.inputs if name)


def _options(inputs: list[str], graph: Graph) -> str:
    """The options that fix these inputs, as they are typed."""
    shapes = [graph.shapes.get(name) for name in inputs]
    if all(shape and all(isinstance(size, int) for size in shape[1:]) for shape in shapes):
        return "give --batch 1, or another size"
    examples = (
        f"--shape {visible(name)}={','.join(map(str, _example(shape)))}"
        for name, shape in zip(inputs, shapes, strict=True)
    )
    return f"give {' '.join(examples)}, or other sizes"


def _example(shape: tuple[int | str, ...] | None) -> tuple[int, ...]:
    if shape is None:
        return (1, 3, 224, 224)
    usual = (1, 3, 224, 224) if len(shape) == 4 else (1, *(128 for _ in shape[1:]))
    numbers = zip(shape, usual, strict=True)
    return tuple(size if isinstance(size, int) else example for size, example in numbers)


def _not_costed(graph: Graph, costed: Mapping[str, Node]) -> Counter[str]:
    """The operators that are work but no layer, those inside of branches and loops too."""
    layers = {node.outputs for node in costed.values()}
    folded = set(_folded_normalizations(graph))
    counts = Counter[str]()
    for node in graph.nodes:
        if node.outputs in layers | folded or graph.is_constant(node):
            continue
        counts[node.op] += 1
        counts.update(_inside(node))
    return counts


def _inside(node: Node) -> Iterator[str]:
    for inner in node.bodies:
        if inner.op != "Constant":
            yield f"{inner.op} in {node.op}"
        yield from _inside(inner)


def _folded_normalizations(graph: Graph) -> Iterator[tuple[str, ...]]:
    """The outputs of normalizations whose constants can go into constant weights before them."""
    makers = {
        output: node
        for node in graph.nodes
        for output in node.outputs
        if node.op in FOLDS_NORMALIZATION and graph.constants.issuperset(node.inputs[1:])
    }
    reads = Counter(tensor for node in graph.nodes for tensor in node.reads())
    reads.update(graph.outputs)
    for node in graph.nodes:
        if node.op != "BatchNormalization" or node.attributes.get("training_mode"):
            continue
        scaled, constants = node.inputs[0], node.inputs[1:]
        if scaled in makers and reads[scaled] == 1 and graph.constants.issuperset(constants):
            yield node.outputs
