"""ONNX graphs for tests of whole networks: real ones with random weights, and small ones.

The real graphs are those of the onnx wheel. Their weights are all 0.02, so that any channel could
stand for any other: here each gets random ones of the same shape, scaled so that activations stay
finite.
"""

# pyright: reportUnknownMemberType=false

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
REAL = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)


def real_graph(name: str, seed: int = 0) -> onnx.ModelProto:
    """A real graph with random weights; what goes into a softmax is an output, too."""
    model = onnx.load(str(LIGHT / f"light_{name}.onnx"))
    graph, rng = model.graph, np.random.default_rng(seed)
    sizes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    fillers = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    fresh: list[onnx.TensorProto] = []
    for node in fillers:
        shape = tuple(int(size) for size in sizes[node.input[0]])
        values = _draw(rng, shape, *_use(graph, node.output[0]))
        fresh.append(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    graph.initializer.extend(fresh)
    for node in graph.node:
        if node.op_type == "Softmax":
            value = helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, None)
            graph.output.insert(0, value)
    return model


def _use(graph: onnx.GraphProto, tensor: str) -> tuple[str, int]:
    """The operator that reads a weight, and as which of its inputs."""
    for node in graph.node:
        if tensor in node.input:
            if node.op_type == "Unsqueeze":
                return _use(graph, node.output[0])
            return node.op_type, list(node.input).index(tensor)
    return "", 0


def _draw(rng: np.random.Generator, shape: tuple[int, ...], op: str, place: int) -> Array:
    if op in ("Conv", "Gemm") and place == 1:
        fan_in = float(np.prod(shape[1:]))
        return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
    if op == "Mul" or (op == "BatchNormalization" and place in (1, 4)):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (0.1 * rng.standard_normal(shape)).astype(np.float32)


class Net:
    """A small graph, grown node by node; weights are random."""

    def __init__(self, *dims: int | str, opset: int = 17) -> None:
        self.rng = np.random.default_rng(7)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)]
        self.opset, self.last = opset, "x"

    def weight(self, *dims: int, low: float | None = None) -> str:
        name = f"w{len(self.weights)}"
        values = self.rng.standard_normal(dims).astype(np.float32)
        if low is not None:
            values = self.rng.uniform(low, low + 1, dims).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def constant(self, dtype: type[np.generic], values: object) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def add(self, op: str, *more: str, given: str | None = None, **attributes: Any) -> str:
        """Add a node behind the last one, or behind `given`; returns its output."""
        name = f"{op.lower()}{len(self.nodes)}"
        inputs = [self.last if given is None else given, *more]
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n_{name}", **attributes))
        self.last = name
        return name

    def conv(self, outputs: int, inputs: int, taps: int = 3, **attributes: Any) -> str:
        weights, bias = self.weight(outputs, inputs, taps, taps), self.weight(outputs)
        return self.add("Conv", weights, bias, **attributes)

    def conv1(self, outputs: int, inputs: int, taps: int, **attributes: Any) -> str:
        return self.add("Conv", self.weight(outputs, inputs, taps), **attributes)

    def normalize(self, channels: int) -> str:
        numbers = [self.weight(channels) for _ in range(3)]
        return self.add("BatchNormalization", *numbers, self.weight(channels, low=0.5))

    def model(self, *outputs: str) -> onnx.ModelProto:
        made = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in outputs or (self.last,)
        ]
        graph = helper.make_graph(self.nodes, "net", self.inputs, made, self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _residual() -> onnx.ModelProto:
    net = Net(1, 3, 15, 18)
    net.conv(20, 3, strides=[2, 2], pads=[1, 1, 1, 1])
    net.normalize(20)
    trunk = net.add("Relu")
    net.add("MaxPool", kernel_shape=[3, 3], strides=[2, 1], pads=[1, 1, 1, 1])
    first = net.conv(20, 20, pads=[1, 1, 1, 1], strides=[1, 1])
    net.last = trunk
    second = net.add("AveragePool", kernel_shape=[3, 3], strides=[2, 1], pads=[1, 1, 1, 1])
    total = net.add("Add", first, given=second)
    net.add("Relu")
    return net.model(total, net.last)


def _joined() -> onnx.ModelProto:
    net = Net(2, 32, 9, 7)
    a, b, c = (net.conv(channels, 32, 1, given="x") for channels in (16, 32, 5))
    net.add("Concat", b, "x", c, given=a, axis=1)
    net.normalize(85)  # behind a joined tensor: nothing to fold it into
    net.add("Relu")
    net.conv(7, 85)
    net.add("Clip", net.constant(np.float32, -1.5), net.constant(np.float32, 6.0))
    return net.model()


def _nested() -> onnx.ModelProto:
    """Joined in place, one part twice, one within another."""
    net = Net(1, 32, 8, 8)
    a, b = net.conv(16, 32, 1), net.conv(16, 16, 1)
    inner = net.add("Concat", b, given=a, axis=1)
    outer = net.add("Concat", a, given=inner, axis=1)
    net.conv(16, 48, 1)
    return net.model(net.last, outer)


def _shuffled() -> onnx.ModelProto:
    net = Net(1, 24, 6, 6)
    net.conv(24, 8, 1, group=3)
    net.add("Reshape", net.constant(np.int64, [1, 3, 8, 6, 6]))
    net.add("Transpose", perm=[0, 2, 1, 3, 4])
    net.add("Reshape", net.constant(np.int64, [1, 24, 6, 6]))
    net.conv(24, 1, group=24, pads=[1, 1, 1, 1])
    net.conv(30, 8, 1, group=3)
    net.add("GlobalAveragePool")
    net.add("Flatten")
    net.add("Softmax")
    return net.model()


def _dense() -> onnx.ModelProto:
    net = Net("batch", 19, 5, 6, opset=11)
    net.add("LRN", size=5, alpha=0.5, beta=0.75, bias=1.5)
    net.add("LRN", size=3, alpha=0.5, beta=0.6)
    net.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    net.add("Reshape", net.constant(np.int64, [-1, 19 * 9]))
    net.add("Gemm", net.weight(40, 19 * 9), net.weight(40), transB=1, alpha=0.5, beta=2.0)
    net.add("Relu")
    net.add("MatMul", net.weight(40, 11))
    net.add("Mul", net.weight(1, 11))
    net.add("Sub", net.weight(1, 11))
    return net.model()


def _mixed() -> onnx.ModelProto:
    net = Net(1, 17, 7, 7)
    a = net.add("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    b = net.conv(17, 1, 3, group=17, auto_pad="SAME_LOWER", dilations=[1, 1])
    c = net.add("Mul", a, given=b)
    net.add("Sum", a, b, given=c)
    net.add("Identity")
    net.add("Dropout")
    net.add("GlobalMaxPool")
    return net.model(net.last, c)


def _line() -> onnx.ModelProto:
    """One axis."""
    net = Net(1, 16, 40)
    net.conv1(33, 16, 5, pads=[2, 2], strides=[3])
    net.add("Relu")
    net.add("ReduceMean", axes=[2], keepdims=0)
    return net.model()


def _shared() -> onnx.ModelProto:
    """A tensor that is read with and without its ReLU."""
    net = Net(1, 16, 4, 4)
    before = net.conv(16, 16, 1)
    same = net.add("Identity")
    after = net.add("Relu")
    net.add("Add", before, given=after)
    return net.model(net.last, same)


SMALL = {
    "residual": _residual,
    "joined": _joined,
    "nested": _nested,
    "shuffled": _shuffled,
    "dense": _dense,
    "mixed": _mixed,
    "line": _line,
    "shared": _shared,
}
"""Small graphs that together have every operator, and edges of each."""
