"""What a small ONNX file grows to once it is unfolded.

Owns: `explosions`: constants that are joined to themselves again and again, which ONNX's shape
inference writes out, and functions that call one another, which are written out where they are
called. A few lines can stand for more than any memory holds.
"""

# ONNX's messages are protobuf objects, for which no complete types exist.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

MOST_WORDS = 10_000_000
"""Of a constant that is joined from others."""
MOST_NODES = 1_000_000
"""Of a graph with its functions written out."""

_INTEGERS = (6, 7)
"""INT32 and INT64: the constants that shapes are made of."""
_PASSES = frozenset(
    ("Identity", "Cast", "Squeeze", "Unsqueeze", "Slice", "Gather", "Add", "Sub", "Mul", "Div")
)
"""Operators through which ONNX follows the values of shapes; none makes them longer."""


def explosions(model: "ModelProto") -> Iterator[str]:
    """What of a model grows too large; nothing if it stays small.

    The bounds are generous: a real network joins thousands of words, not millions.
    """
    if _joined_words(model.graph, {}) > MOST_WORDS:
        yield f"its Concats join constants of more than {MOST_WORDS:,} words"
    nodes = _unfolded_nodes(model)
    if nodes is None:
        yield "its functions call one another in a circle"
    elif nodes > MOST_NODES:
        yield f"with its functions written out it has more than {MOST_NODES:,} nodes"


def _joined_words(graph: "GraphProto", words: dict[str, int]) -> int:
    """The longest constant that Concats make; the words of tensors are noted in `words`."""
    most = 0
    for tensor in graph.initializer:
        words[tensor.name] = math.prod(tensor.dims) if tensor.data_type in _INTEGERS else 1
    for node in graph.node:
        counts = [words.get(name, 1) for name in node.input]
        if node.op_type == "Constant":
            count = _constant_words(node)
        elif node.op_type == "Concat":
            count = min(sum(counts), MOST_WORDS + 1)
            most = max(most, count)
        else:
            count = max(counts, default=1) if node.op_type in _PASSES else 1
        words |= dict.fromkeys(node.output, count)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                most = max(most, _joined_words(attribute.g, words))
    return most


def _constant_words(node: "NodeProto") -> int:
    sizes = [
        max(len(attribute.ints), math.prod(attribute.t.dims) if attribute.HasField("t") else 1)
        for attribute in node.attribute
    ]
    return max(sizes, default=1)


Key = tuple[str, str]


def _unfolded_nodes(model: "ModelProto") -> int | None:
    """The nodes with every function written out; `None` if functions call themselves."""
    functions = {(made.domain, made.name): made for made in model.functions}
    known: dict[Key, int | None] = {}
    if not functions:
        return len(model.graph.node)
    return _count(model.graph, functions, known)


def _count(
    body: "GraphProto | FunctionProto",
    functions: "dict[Key, FunctionProto]",
    known: dict[Key, int | None],
) -> int | None:
    total = 0
    for node in body.node:
        key = node.domain, node.op_type
        count: int | None = 1
        if key in functions:
            if key not in known:
                known[key] = None  # at work: meeting it again is a circle
                known[key] = _count(functions[key], functions, known)
            count = known[key]
        if count is None:
            return None
        total = min(total + count, MOST_NODES + 1)
        for attribute in node.attribute:
            inner = _count(attribute.g, functions, known) if attribute.HasField("g") else 0
            if inner is None:
                return None
            total = min(total + inner, MOST_NODES + 1)
    return total
