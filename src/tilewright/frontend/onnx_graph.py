"""ONNX files as plain nodes and shapes.

Owns: reading a file, inferring shapes, and finding which tensors are constants.

Non-goals: setting sizes (`frontend/onnx_inputs.py`), computing them (`frontend/onnx_folding.py`),
what an operator costs (`frontend/onnx_operators.py`); the data of large weights, which is dropped
at once and, if it lies in other files, never opened.
"""

# ONNX's messages are protobuf objects, for which no complete types exist. Nothing of them leaves
# this module, `frontend/onnx_inputs.py` and `frontend/onnx_folding.py`.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false

import math
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.errors import InputError, Problem, visible
from tilewright.frontend.onnx_growth import explosions

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto
    from onnx.onnx_ml_pb2 import TensorShapeProto

MAX_BYTES = 2**31 - 1
"""Protobuf's own limit: larger models keep their weights in other files."""

SMALL = 256
"""Tensors of at most so many elements keep their values: targets of a reshape, scales, axes."""

MAX_EXPLANATION = 300
"""Longer messages of the shape inference are cut."""

UNNAMED = "?"
"""A size that the file leaves open and gives no name."""

RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}

Shape = tuple[int | str, ...]
"""The sizes of a tensor; a text stands for a size that is not known."""

Attribute = int | str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of a graph.

    `op` has its domain in front if that is not ONNX's own (`com.microsoft::FusedConv`); `bodies`
    are the nodes of its subgraphs (branches, loop bodies); `numbers` its attributes that are
    floating-point.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    bodies: tuple["Node", ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])

    def reads(self) -> Iterator[str]:
        """The tensors that it and its subgraphs read."""
        yield from self.inputs
        for node in self.bodies:
            yield from node.reads()


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in the order of the file, and what is known of the tensors between them.

    `inputs` are those that a caller feeds, `constants` the tensors that do not depend on them once
    shapes are fixed.
    """

    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]
    inputs: tuple[str, ...]
    outputs: frozenset[str]
    constants: frozenset[str]

    def sizes(self, tensor: str) -> tuple[int, ...] | None:
        """The sizes of a tensor; `None` if one of them, or their number, is not known."""
        return _sizes(self.shapes.get(tensor))

    def is_constant(self, node: Node) -> bool:
        """Whether a node's results are constants: then it is no work."""
        return bool(node.outputs) and self.constants.issuperset(node.outputs)


def load_model(path: Path) -> "ModelProto":
    """Read an ONNX file, without the data of large tensors and of those in other files.

    Raises: see `load_whole_model`.
    """
    model = load_whole_model(path)
    drop_weights(model.graph)
    return model


def load_whole_model(path: Path) -> "ModelProto":
    """Read an ONNX file. Data in other files is not read.

    Raises: `InputError` if it is missing, too large, cut off, no ONNX file, or grows too large when
    it is unfolded.
    """
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    try:
        model = ModelProto.FromString(_read(path))
    except DecodeError:
        what = "this is not an ONNX file, or it is cut off"
        raise InputError(Problem(what, "export it anew, or copy it whole", str(path))) from None
    if not model.graph.node:
        what = "the file holds no graph: it is not an ONNX file, or it is cut off"
        raise InputError(Problem(what, "export it anew, or copy it whole", str(path)))
    if model.ir_version >= 3 and not model.opset_import:
        what = "the file names no operator set: it is cut off"
        raise InputError(Problem(what, "export it anew, or copy it whole", str(path)))
    if not all(isinstance(text, str) for text in _texts(model)):
        what = "names in the file are not text (UTF-8): it is damaged"
        raise InputError(Problem(what, "export it anew, or copy it whole", str(path)))
    for what in explosions(model):
        raise InputError(Problem(what, "export it anew", str(path)))
    return _inlined(model)


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(Problem("cannot read: this is not a file", where=str(path)))
        if status.st_size > MAX_BYTES:
            size = f"{status.st_size:,} bytes, the limit is {MAX_BYTES:,}"
            fix = "save the model with its weights in a file beside it (external data)"
            raise InputError(Problem(f"the file is too large: {size}", fix, str(path)))
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(Problem(f"cannot read: {reason}", where=str(path))) from None


def _texts(model: "ModelProto") -> Iterator[object]:
    """All names in a model. Protobuf hands out bytes where one is not UTF-8."""
    yield from (model.producer_name, model.producer_version)
    yield from _texts_of(model.graph)


def _texts_of(graph: "GraphProto") -> Iterator[object]:
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
        for body in _bodies(node):
            yield from _texts_of(body)
    for value in (*graph.input, *graph.value_info, *graph.output):
        yield value.name
        yield from (dim.dim_param for dim in dims_of(value))
    yield from (tensor.name for tensor in graph.initializer)
    yield from (sparse.values.name for sparse in graph.sparse_initializer)


def drop_weights(graph: "GraphProto") -> None:
    """Empty large tensors: only their shapes are needed, and inference would copy their data."""
    from onnx import TensorProto

    attributes = (attribute for node in graph.node for attribute in node.attribute)
    tensors = [*graph.initializer, *(a.t for a in attributes if a.HasField("t"))]
    for tensor in tensors:
        if math.prod(tensor.dims) > SMALL:
            empty = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
            tensor.CopyFrom(empty)


def _inlined(model: "ModelProto") -> "ModelProto":
    """The model with calls of its own functions replaced by their bodies, if that can be done."""
    if not model.functions:
        return model
    from onnx.inliner import inline_local_functions

    try:
        return inline_local_functions(model)
    except Exception:  # C++ raises what it likes. The calls are then listed by name.
        return model


def describe_producer(model: "ModelProto") -> str:
    """The tool that wrote a model and the operator set that it uses."""
    versions = [str(entry.version) for entry in model.opset_import if not entry.domain]
    tool = " ".join(filter(None, [model.producer_name, model.producer_version])) or "unknown"
    return visible(f"producer {tool}, operator set {' '.join(versions) or 'unknown'}")


def fed_inputs(graph: "GraphProto") -> "list[ValueInfoProto]":
    """The inputs that are no weights: old files list both."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def dims_of(value: "ValueInfoProto") -> "list[TensorShapeProto.Dimension]":
    """The sizes of a tensor, as objects that can be set; none if their number is not known."""
    return list(value.type.tensor_type.shape.dim)


def infer_graph(model: "ModelProto", path: Path) -> Graph:
    """Infer shapes and return the graph.

    Raises: `InputError` if the graph makes no sense to ONNX itself.
    """
    from onnx.shape_inference import infer_shapes

    try:
        inferred = infer_shapes(model, data_prop=True).graph
    except Exception as error:  # C++ raises what it likes.
        what = f"ONNX cannot infer its shapes: {_first_words(error)}"
        raise InputError(Problem(what, "export it anew", str(path))) from None
    shapes = dict(_known_shapes(inferred))
    nodes = tuple(_node(node) for node in model.graph.node)
    return Graph(
        nodes=nodes,
        shapes=shapes,
        inputs=tuple(value.name for value in fed_inputs(model.graph)),
        outputs=frozenset(value.name for value in model.graph.output),
        constants=_constants(nodes, shapes, _weight_names(model.graph)),
    )


def explain_inference(model: "ModelProto") -> str:
    """What ONNX's shape inference says against a graph; empty if nothing."""
    from onnx.shape_inference import infer_shapes

    try:
        infer_shapes(model, strict_mode=True, data_prop=True)
    except Exception as error:  # C++ raises what it likes.
        return _first_words(error)
    return ""


def _first_words(error: Exception) -> str:
    text = visible(" ".join(str(error).split()))
    return text if len(text) <= MAX_EXPLANATION else f"{text[:MAX_EXPLANATION]}…"


def _known_shapes(graph: "GraphProto") -> Iterator[tuple[str, Shape]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            yield value.name, shape_of(value)
    for tensor in graph.initializer:
        yield tensor.name, tuple(tensor.dims)
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, tuple(sparse.dims)


def shape_of(value: "ValueInfoProto") -> Shape:
    """The sizes of a tensor, as the file states them."""
    return tuple(_size(dim) for dim in dims_of(value))


def _size(dim: "TensorShapeProto.Dimension") -> int | str:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return dim.dim_value
    # `unk__0` is the inference's own name for what has none.
    is_named = dim.dim_param and not dim.dim_param.startswith("unk__")
    return visible(dim.dim_param) if is_named else UNNAMED


def _sizes(shape: Shape | None) -> tuple[int, ...] | None:
    sizes = tuple(size for size in shape or () if isinstance(size, int))
    return sizes if shape is not None and len(sizes) == len(shape) else None


def format_shape(shape: Shape) -> str:
    """A shape as messages show it.

    >>> format_shape(("N", 3, 224, 224))
    '[N, 3, 224, 224]'
    """
    return f"[{', '.join(map(str, shape))}]"


def _weight_names(graph: "GraphProto") -> Iterator[str]:
    for tensor in graph.initializer:
        yield tensor.name
    for sparse in graph.sparse_initializer:
        yield sparse.values.name


def _constants(
    nodes: Iterable[Node], shapes: Mapping[str, Shape], weights: Iterable[str]
) -> frozenset[str]:
    """The tensors that no input changes.

    They are weights, what is computed from constants alone, and the shape of a tensor, which is
    fixed here.
    """
    constants = {*weights, ""}  # An optional input that is left out has an empty name.
    for node in nodes:
        if node.bodies or "::" in node.op or node.op in RANDOM:
            continue
        is_known = all(_sizes(shapes.get(name)) is not None for name in node.inputs)
        is_fixed = node.op in ("Shape", "Size") and is_known
        if is_fixed or constants.issuperset(node.inputs):
            constants.update(node.outputs)
    return frozenset(constants)


def _node(node: "NodeProto") -> Node:
    domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}::"
    return Node(
        name=visible(node.name),
        op=visible(f"{domain}{node.op_type}"),
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes=dict(_attributes(node.attribute)),
        bodies=tuple(_node(inner) for body in _bodies(node) for inner in body.node),
        numbers={a.name: a.f for a in node.attribute if a.type == a.FLOAT},
    )


def _attributes(attributes: "Iterable[AttributeProto]") -> Iterator[tuple[str, Attribute]]:
    for attribute in attributes:
        if attribute.type == attribute.INT:
            yield attribute.name, attribute.i
        elif attribute.type == attribute.INTS:
            yield attribute.name, tuple(attribute.ints)
        elif attribute.type == attribute.STRING:
            yield attribute.name, attribute.s.decode("utf-8", "replace")


def _bodies(node: "NodeProto") -> "Iterator[GraphProto]":
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def is_small(tensor: "TensorProto") -> bool:
    """Whether the values of a tensor are at hand."""
    return math.prod(tensor.dims) <= SMALL and tensor.data_location != tensor.EXTERNAL
