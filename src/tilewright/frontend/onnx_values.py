"""ONNX graphs with the values of their constants: what a compiler of whole networks reads.

Owns: `read_graph`: nodes in order, the shapes between them, and the weights as arrays.

Non-goals: what the operators mean (`codegen/`), loop nests (`frontend/onnx.py`).
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# Protobuf objects have no complete types: see `frontend/onnx_graph.py`.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError, Problem, visible
from tilewright.frontend.onnx_folding import fold_constants, run_operator
from tilewright.frontend.onnx_graph import (
    Graph,
    describe_producer,
    drop_weights,
    fed_inputs,
    infer_graph,
    load_whole_model,
)
from tilewright.frontend.onnx_inputs import fix_inputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

    Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class ValuedGraph:
    """A graph and its constants.

    Attributes:
        name: of the file.
        graph: nodes and shapes.
        inputs: what a caller feeds, in the file's order, with the name of its type.
        outputs: what it returns, in the file's order.
        opset: the version of ONNX's own operators.
        producer: the tool that wrote the file.
        constants: the values of weights, by name.
    """

    name: str
    graph: Graph
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    opset: int
    producer: str
    constants: "Constants"


@dataclass(frozen=True, slots=True)
class Constants:
    """The values of tensors that no input changes; those of nodes are computed when asked for."""

    _model: "ModelProto"
    _tensors: "Mapping[str, TensorProto]"
    _makers: "Mapping[str, NodeProto]"
    _known: "dict[str, Array]" = field(default_factory=dict[str, Any])

    def get(self, tensor: str) -> "Array | None":
        """The value of a tensor; `None` if it is no constant or ONNX's reference fails on it."""
        if tensor not in self._known:
            value = self._find(tensor)
            if value is None:
                return None
            self._known[tensor] = value
        return self._known[tensor]

    def _find(self, tensor: str) -> "Array | None":
        from onnx.numpy_helper import to_array

        if tensor in self._tensors:
            return to_array(self._tensors[tensor])
        node = self._makers.get(tensor)
        if node is None:
            return None
        inputs: dict[str, Array] = {}
        for name in filter(None, node.input):
            value = self.get(name)
            if value is None:
                return None
            inputs[name] = value
        results = run_operator(self._model, node, inputs)
        return None if results is None else results[list(node.output).index(tensor)]


def read_graph(
    path: Path | str,
    *,
    batch: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> ValuedGraph:
    """Read an ONNX file with its weights.

    Args:
        path: the file; weights in files beside it are read, too.
        batch: the first size of every input that leaves it open.
        shapes: the sizes of inputs, by name, where the file leaves them open.

    Raises: `InputError` if the file cannot be read or a shape contradicts it.

    >>> import onnx.backend.test
    >>> folder = Path(onnx.backend.test.__file__).parent / "data" / "light"
    >>> graph = read_graph(folder / "light_squeezenet.onnx")
    >>> graph.inputs, graph.outputs, graph.constants.get("conv1_w_0").shape
    ({'data_0': 'FLOAT'}, ('softmaxout_1',), (64, 3, 3, 3))
    """
    path = Path(path)
    model = load_whole_model(path)
    _load_outside(model, path)
    problems = fix_inputs(model, batch, shapes or {})
    if problems:
        raise InputError(Problem(p.what, p.fix, str(path)) for p in problems)
    tensors = dict(_copies(model.graph))
    drop_weights(model.graph)
    graph = infer_graph(model, path)
    while _has_open_shape(graph) and fold_constants(model, graph):
        graph = infer_graph(model, path)
    makers = {output: node for node in model.graph.node for output in node.output}
    return ValuedGraph(
        name=path.stem,
        graph=graph,
        inputs=dict(_types(model.graph)),
        outputs=tuple(value.name for value in model.graph.output),
        opset=max(
            (o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1
        ),
        producer=describe_producer(model),
        constants=Constants(model, tensors, makers),
    )


def _load_outside(model: "ModelProto", path: Path) -> None:
    from onnx import load_external_data_for_model

    try:
        load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx raises what it likes.
        what = f"its weights in other files cannot be read: {visible(str(error))[:300]}"
        raise InputError(Problem(what, "put them beside the file", str(path))) from None


def _copies(graph: "GraphProto") -> "Iterator[tuple[str, TensorProto]]":
    """The constants of a graph, before their data is dropped."""
    from onnx import TensorProto

    for tensor in graph.initializer:
        copy = TensorProto()
        copy.CopyFrom(tensor)
        yield tensor.name, copy
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            copy = TensorProto()
            copy.CopyFrom(node.attribute[0].t)
            yield node.output[0], copy


def _has_open_shape(graph: Graph) -> bool:
    return any(graph.sizes(name) is None for node in graph.nodes for name in node.outputs if name)


def _types(graph: "GraphProto") -> Iterator[tuple[str, str]]:
    from onnx import TensorProto

    for value in fed_inputs(graph):
        yield value.name, TensorProto.DataType.Name(value.type.tensor_type.elem_type)
