"""The constants of an ONNX graph that its shape inference cannot compute itself.

Owns: evaluating the arithmetic on shapes that exporters leave in a graph (take the shape, pick a
size, halve it, join, reshape to that), with ONNX's own reference implementation.

Non-goals: large tensors, and operators that are not plumbing: the network is never run.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# Protobuf objects have no complete types: see `frontend/onnx_graph.py`.

import math
from typing import TYPE_CHECKING, Any

from tilewright.frontend.onnx_graph import SMALL, Graph, is_small

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

    Values = dict[str, NDArray[np.generic]]

SOURCES = {"Constant", "ConstantOfShape", "Range", "Shape", "Size"}
ARITHMETIC = {
    "Abs",
    "Add",
    "Ceil",
    "Clip",
    "Div",
    "Floor",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Sub",
}
COMPARISONS = {"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or"}
CHOICES = {"Cast", "Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze"}
REDUCTIONS = {"ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Unsqueeze", "Where"}

FOLDED = SOURCES | ARITHMETIC | COMPARISONS | CHOICES | REDUCTIONS
"""The operators with which exporters compute shapes."""


def fold_constants(model: "ModelProto", graph: Graph) -> bool:
    """Replace operators on small constants by their results, in place.

    Args:
        model: the model.
        graph: the same, with the shapes that are known by now.

    Returns: whether there was one.
    """
    values = _small_values(model.graph)
    nodes: list[NodeProto] = []
    is_changed = False
    for node in model.graph.node:
        is_done = values.keys() >= set(node.output)
        results = None if is_done else _evaluate(model, node, graph, values)
        if results is None:
            nodes.append(node)
            continue
        values |= results
        nodes += [_constant(name, value) for name, value in results.items()]
        is_changed = True
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return is_changed


def _small_values(graph: "GraphProto") -> "Values":
    """The values of small weights, and of what was folded before."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            tensors |= dict.fromkeys(node.output, node.attribute[0].t)
    found = {name: _array(tensor) for name, tensor in tensors.items() if is_small(tensor)}
    return {name: value for name, value in found.items() if value is not None}


def _array(tensor: "TensorProto") -> "NDArray[np.generic] | None":
    from onnx.numpy_helper import to_array

    try:
        return to_array(tensor)
    except Exception:  # Its data does not fit its shape: then it is as unknown as a large one.
        return None


def _constant(name: str, value: "NDArray[np.generic]") -> "NodeProto":
    from onnx.helper import make_node
    from onnx.numpy_helper import from_array

    return make_node("Constant", [], [name], name=name, value=from_array(value))


def _evaluate(
    model: "ModelProto", node: "NodeProto", graph: Graph, values: "Values"
) -> "Values | None":
    if node.domain not in ("", "ai.onnx") or node.op_type not in FOLDED:
        return None
    # Small operands can have a large result: it is not computed to find out.
    if not all(_is_few(graph, name) for name in node.output):
        return None
    inputs: Values = {}
    for name in filter(None, node.input):
        value = _stand_in(graph, name) if node.op_type in ("Shape", "Size") else values.get(name)
        if value is None:
            return None
        inputs[name] = value
    results = run_operator(model, node, inputs)
    return None if results is None else dict(zip(node.output, results, strict=True))


def _stand_in(graph: Graph, tensor: str) -> "NDArray[np.generic] | None":
    """An array of the tensor's shape. It is a view of one element: no shape takes memory."""
    import numpy as np

    sizes = graph.sizes(tensor)
    try:
        return None if sizes is None else np.broadcast_to(np.int8(0), sizes)
    except ValueError:  # Sizes below 0, or more words than can be addressed.
        return None


def _is_few(graph: Graph, tensor: str) -> bool:
    sizes = graph.sizes(tensor)
    return sizes is not None and math.prod(sizes) <= SMALL


def run_operator(
    model: "ModelProto", node: "NodeProto", inputs: "Values"
) -> "list[NDArray[np.generic]] | None":
    """What one operator makes of arrays, by ONNX's reference; `None` if it cannot."""
    from onnx import TensorProto, ValueInfoProto, helper
    from onnx.reference import ReferenceEvaluator

    # The arrays carry their own types: the declared one is not looked at.
    given = [helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in inputs]
    results = [ValueInfoProto(name=name) for name in node.output]
    alone = helper.make_graph([node], "constant", given, results)
    operator = helper.make_model(alone, opset_imports=list(model.opset_import))
    try:
        results: Any = ReferenceEvaluator(operator).run(None, dict(inputs))
    except Exception:  # Whatever it was: the node stays, and shape inference says what is wrong.
        return None
    return list(results)
