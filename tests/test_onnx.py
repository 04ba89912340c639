"""ONNX files: real graphs against a count of their own, operators against ONNX's reference."""

# ONNX's messages are protobuf objects, for which no complete types exist.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

import itertools
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tilewright.errors import InputError
from tilewright.frontend import onnx as frontend
from tilewright.frontend import onnx_folding, onnx_graph
from tilewright.frontend.onnx import read_onnx
from tilewright.ir.workload import Network, Operand, Workload

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"
Array = NDArray[np.float32]
Ints = tuple[int, ...]

# Multiply-accumulates in units of 10⁹ as publications and torchvision print them, from memory, and
# how far these files may be off: they take 224×224 images and round their pooling down, which not
# all of those do. The exact count is below.
PUBLISHED = {
    "bvlc_alexnet": (0.724, 0.10),  # Sze et al. 2017, Table II, with 227×227 images
    "densenet121": (2.83, 0.005),  # torchvision
    "inception_v1": (1.58, 0.10),  # counters of Caffe's model, with 28×28 where this has 27×27
    "inception_v2": (2.03, 0.02),  # counters of BN-Inception
    "resnet50": (4.09, 0.001),  # torchvision
    "shufflenet": (0.137, 0.10),  # Zhang et al. 2017, 1× with three groups
    "squeezenet": (0.349, 0.001),  # torchvision, version 1.1
    "vgg19": (19.6, 0.005),  # torchvision
    "zfnet512": (1.48, 0.01),  # no publication has this variant: only held in place here
}


# ------------------------------------------------------------------ real graphs, counted anew


Attributes = dict[str, Any]


def slide(shape: Ints, kernel: Ints, attributes: Attributes) -> Ints:
    known = {"strides", "pads", "kernel_shape", "group", "count_include_pad"}
    assert set(attributes) <= known
    strides, pads = attributes.get("strides", [1, 1]), attributes.get("pads", [0] * 4)
    return tuple(
        (shape[2 + axis] + pads[axis] + pads[2 + axis] - kernel[axis]) // strides[axis] + 1
        for axis in (0, 1)
    )


def pooled(shapes: list[Ints], attributes: Attributes) -> Ints:
    return (*shapes[0][:2], *slide(shapes[0], attributes["kernel_shape"], attributes))


def unchanged(shapes: list[Ints], _: Attributes) -> Ints:
    return shapes[0]


def broadcast(shapes: list[Ints], _: Attributes) -> Ints:
    return np.broadcast_shapes(*shapes)


# The shape after every operator of the nine graphs, from its definition; another one fails.
SHAPE_AFTER: dict[str, Callable[[list[Ints], Attributes], Ints]] = {
    "Conv": lambda s, a: (s[0][0], s[1][0], *slide(s[0], s[1][2:], a)),
    "Gemm": lambda s, a: (s[0][0], s[1][0 if a["transB"] else 1]),
    "MaxPool": pooled,
    "AveragePool": pooled,
    "GlobalAveragePool": lambda s, _: (*s[0][:2], 1, 1),
    "Concat": lambda s, _: (s[0][0], sum(shape[1] for shape in s), *s[0][2:]),
    "Transpose": lambda s, a: np.empty(s[0], dtype=bool).transpose(a["perm"]).shape,
    "Unsqueeze": lambda s, a: np.expand_dims(np.empty(s[0]), a["axes"]).shape,
    "Add": broadcast,
    "Mul": broadcast,
    "Sum": broadcast,
    "Relu": unchanged,
    "LRN": unchanged,
    "Dropout": unchanged,
    "Softmax": unchanged,
    "BatchNormalization": unchanged,
}


def count_macs(model: onnx.ModelProto) -> Counter[int]:
    """How many convolutions and products have so many multiply-accumulates."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    shapes: dict[str, Ints] = {name: value.shape for name, value in values.items()}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        shapes.setdefault(value.name, tuple(dim.dim_value for dim in dims))
    macs = Counter[int]()
    for node in model.graph.node:
        given = [shapes[name] for name in node.input]
        if node.op_type == "ConstantOfShape":
            result = tuple(int(size) for size in values[node.input[0]])
        elif node.op_type == "Reshape":
            target = [size or given[0][axis] for axis, size in enumerate(values[node.input[1]])]
            result = np.empty(given[0], dtype=bool).reshape(target).shape
        else:
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            result = SHAPE_AFTER[node.op_type](given, attributes)
        shapes[node.output[0]] = result
        if node.op_type in ("Conv", "Gemm"):
            reduced = math.prod(given[1][1:])
            macs[math.prod(result) * reduced] += 1
    return macs


def layer_macs(network: Network) -> Counter[int]:
    """How many layers have so many multiply-accumulates."""
    found = Counter[int]()
    for layer in network.layers:
        if layer.workload.multiplies:
            found[layer.workload.macs] += layer.repeat
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_graphs_have_the_macs_of_their_definition(name: str) -> None:
    path = LIGHT / f"light_{name}.onnx"
    network = read_onnx(path)
    model = onnx.load(path)
    assert layer_macs(network) == count_macs(model)
    published, tolerance = PUBLISHED[name]
    assert network.macs / 1e9 == pytest.approx(published, rel=tolerance)
    pools = sum(node.op_type.endswith("Pool") for node in model.graph.node)
    layers = sum(node.op_type in ("Conv", "Gemm") for node in model.graph.node)
    assert sum(layer.repeat for layer in network.layers) == layers + pools


def test_the_count_of_real_graphs_can_disagree(tmp_path: Path) -> None:
    model = onnx.load(LIGHT / "light_squeezenet.onnx")
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    next(a for a in first.attribute if a.name == "strides").ints[:] = [3, 3]
    onnx.save(model, tmp_path / "wider.onnx")
    macs = layer_macs(read_onnx(tmp_path / "wider.onnx"))
    assert macs == count_macs(model)
    assert macs != layer_macs(read_onnx(LIGHT / "light_squeezenet.onnx"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_graphs_drop_no_operator_silently(name: str) -> None:
    path = LIGHT / f"light_{name}.onnx"
    listed = dict(read_onnx(path).not_costed)
    found = Counter(node.op_type for node in onnx.load(path).graph.node)
    for op in ("Relu", "LRN", "Dropout", "Softmax", "Concat", "Sum", "Add", "Mul", "Transpose"):
        assert listed.pop(op, 0) == found[op], op
    assert listed.pop("Reshape", 0) <= found["Reshape"]  # some work on weights only
    assert listed.pop("BatchNormalization", 0) == (62 if name == "densenet121" else 0)
    assert not listed


def test_real_graphs_are_read_quickly() -> None:
    """All nine in one process, imports included, in the time that one may take."""
    root = Path(frontend.__file__).parents[2]
    code = (
        "import sys, time; from pathlib import Path; from tilewright.frontend.onnx import read_onnx"
        "\nassert 'onnx' not in sys.modules, 'importing must stay fast'"
        "\nfor path in Path(sys.argv[1]).glob('*.onnx'): read_onnx(path)"
        "\nprint(time.process_time())"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    command = [sys.executable, "-c", code, str(LIGHT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert 0 < float(done.stdout) < 3


def test_source_names_file_and_producer() -> None:
    network = read_onnx(LIGHT / "light_vgg19.onnx")
    assert network.name == "light_vgg19"
    assert network.source == ("ONNX file light_vgg19.onnx (producer onnx-caffe2, operator set 9)")


# ------------------------------------------------------------------ small models


Tensors = Mapping[str, Sequence[int | str | None] | None]


def make(
    nodes: Sequence[onnx.NodeProto],
    inputs: Tensors,
    weights: Mapping[str, Sequence[int] | NDArray[Any]] | None = None,
    *,
    outputs: Sequence[str] = (),
    opset: int = 17,
    **model: Any,
) -> onnx.ModelProto:
    """A model; a weight is given by its shape, or by its values as an array."""
    rng = np.random.default_rng(0)
    arrays = {
        name: given
        if isinstance(given, np.ndarray)
        else rng.integers(1, 5, tuple(given)).astype(np.float32)
        for name, given in (weights or {}).items()
    }
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs or nodes[-1].output[:1]],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("custom", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **model)


def operator(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node; the tensors are named in one text."""
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def conv(name: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return operator("Conv", inputs, output, name=name, **attributes)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Network]:
    """Save a model and read it back."""

    def save_and_read(model: onnx.ModelProto, **options: Any) -> Network:
        onnx.save(model, tmp_path / "model.onnx")
        return read_onnx(tmp_path / "model.onnx", **options)

    return save_and_read


@pytest.fixture
def complaint(tmp_path: Path) -> Callable[..., str]:
    """Save a model, read it, and return what is wrong with it, without the path."""

    def save_and_fail(model: onnx.ModelProto, **options: Any) -> str:
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        with pytest.raises(InputError) as error:
            read_onnx(path, **options)
        text = str(error.value)
        assert all(str(problem).startswith(f"{path}: ") for problem in error.value.problems)
        return text.replace(f"{path}: ", "")

    return save_and_fail


Read = Callable[..., Network]
Complaint = Callable[..., str]


def only(network: Network) -> Workload:
    (layer,) = network.layers
    assert layer.repeat == 1
    return layer.workload


def coordinate(operand: Operand, at: Mapping[str, int]) -> Ints | None:
    """Where an iteration touches the stored tensor; `None` in padding."""
    place: list[int] = []
    for rank in operand.ranks:
        index = sum(term.coefficient * at[term.dim] for term in rank.terms)
        first, stop = rank.data or (0, index + 1)
        if not first <= index < stop:
            return None
        place.append(index - first)
    return tuple(place)


def run_nest(
    workload: Workload,
    given: Mapping[str, Array],
    shape: Ints,
    join: Callable[[float, float], float],
    start: float = 0.0,
) -> Array:
    """Run the loop nest on numbers: what the workload computes, word by word."""
    result = np.full(shape, start, dtype=np.float32)
    names = list(workload.sizes)
    for indices in itertools.product(*map(range, workload.sizes.values())):
        at = dict(zip(names, indices, strict=True))
        target = coordinate(workload.output, at)
        sources = [(given[o.name], coordinate(o, at)) for o in workload.inputs]
        if target is not None and all(place is not None for _, place in sources):
            value = math.prod(float(array[place]) for array, place in sources)
            result[target] = join(float(result[target]), value)
    return result


def expected_of(model: onnx.ModelProto, image: Array) -> Array:
    results: Any = ReferenceEvaluator(model).run(None, {"x": image})
    return np.asarray(results[0])


def numbers(shape: Sequence[int]) -> Array:
    return np.random.default_rng(1).integers(1, 9, tuple(shape)).astype(np.float32)


def ungrouped(array: Array, axis: int, groups: int) -> Array:
    """Split an axis of channels into groups and channels, if there is more than one group."""
    shape = array.shape
    split = (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    return array.reshape(split) if groups > 1 else array


CONVOLUTIONS: dict[str, tuple[Ints, Ints, dict[str, Any]]] = {
    "plain": ((2, 3, 5, 6), (4, 3, 3, 2), {}),
    "stride": ((1, 2, 7, 8), (3, 2, 3, 3), {"strides": [2, 3]}),
    "dilation": ((1, 2, 7, 8), (2, 2, 3, 2), {"dilations": [2, 3]}),
    "asymmetric pads": ((1, 2, 5, 5), (2, 2, 3, 3), {"pads": [0, 1, 2, 0], "strides": [2, 1]}),
    "same upper": ((1, 1, 6, 7), (1, 1, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    "same lower": ((1, 1, 6, 7), (1, 1, 3, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
    "same, dilated": ((1, 1, 6, 7), (1, 1, 3, 2), {"auto_pad": "SAME_UPPER", "dilations": [2, 3]}),
    "same, strides beyond": (
        (1, 1, 5, 7),
        (1, 1, 1, 2),
        {"auto_pad": "SAME_LOWER", "strides": [3, 4]},
    ),
    "valid": ((1, 1, 6, 7), (1, 1, 3, 4), {"auto_pad": "VALID", "strides": [2, 3]}),
    "groups": ((1, 6, 4, 4), (4, 3, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ((1, 4, 5, 5), (4, 1, 3, 3), {"group": 4, "strides": [2, 2]}),
    "one axis": ((2, 3, 9), (4, 3, 3), {"strides": [2], "pads": [1, 2]}),
    "one axis, groups": ((2, 4, 9), (4, 2, 3), {"group": 2}),
    "three axes": (
        (1, 2, 4, 5, 3),
        (2, 2, 2, 3, 2),
        {"strides": [1, 2, 1], "pads": [0, 1, 0, 1, 1, 1]},
    ),
    "three axes, groups": ((1, 4, 3, 3, 3), (4, 2, 2, 2, 2), {"group": 2}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_computes_what_onnx_computes(case: str, read: Read) -> None:
    image, weights, attributes = CONVOLUTIONS[case]
    model = make([operator("Conv", "x w", "y", **attributes)], {"x": image}, {"w": weights})
    workload = only(read(model))
    filters = numpy_helper.to_array(model.graph.initializer[0])
    x, groups = numbers(image), attributes.get("group", 1)
    expected = expected_of(model, x)
    given = {"I": ungrouped(x, 1, groups), "W": ungrouped(filters, 0, groups)}
    target = ungrouped(expected, 1, groups)
    if len(image) == 3:  # the height of 1
        given = {name: np.expand_dims(array, -2) for name, array in given.items()}
        target = np.expand_dims(target, -2)
    found = run_nest(workload, given, target.shape, lambda old, new: old + new)
    assert np.array_equal(found, target)
    assert workload.macs == expected.size * math.prod(weights[1:])


def test_valid_padding_is_none_whatever_else_is_said(read: Read) -> None:
    node = conv("conv", "x w", "y", auto_pad="VALID", pads=[1, 1, 1, 1])
    workload = only(read(make([node], {"x": (1, 3, 8, 8)}, {"w": (4, 3, 3, 3)})))
    assert workload.sizes["P"] == 6
    assert all(rank.data is None for rank in workload.operand("I").ranks)


def test_the_comparison_with_onnx_can_fail(read: Read) -> None:
    image, weights, _ = CONVOLUTIONS["asymmetric pads"]
    attributes = {"pads": [2, 0, 0, 1], "strides": [2, 1]}  # as large, but on the other sides
    model = make([operator("Conv", "x w", "y", **attributes)], {"x": image}, {"w": weights})
    workload = only(read(model))
    right = CONVOLUTIONS["asymmetric pads"][2]
    other = make([operator("Conv", "x w", "y", **right)], {"x": image}, {"w": weights})
    x, filters = numbers(image), numpy_helper.to_array(model.graph.initializer[0])
    expected = expected_of(other, x)
    found = run_nest(workload, {"I": x, "W": filters}, expected.shape, lambda old, new: old + new)
    assert not np.array_equal(found, expected)


TRANSPOSED: dict[str, tuple[Ints, Ints, dict[str, Any]]] = {
    "plain": ((2, 3, 4, 3), (3, 2, 3, 2), {}),
    "stride": ((1, 2, 3, 4), (2, 3, 3, 2), {"strides": [2, 3]}),
    "pads": ((1, 2, 4, 4), (2, 1, 3, 4), {"strides": [2, 2], "pads": [1, 0, 1, 2]}),
    "output padding": ((1, 1, 3, 3), (1, 1, 3, 3), {"strides": [2, 2], "output_padding": [1, 0]}),
    "padding both": (
        (1, 1, 3, 3),
        (1, 1, 3, 3),
        {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]},
    ),
    "dilation": ((1, 1, 3, 3), (1, 1, 2, 3), {"dilations": [2, 2], "pads": [0, 1, 1, 0]}),
    "same upper": ((1, 1, 3, 4), (1, 1, 4, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "same lower": ((1, 1, 3, 4), (1, 1, 4, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    "one axis": ((1, 2, 5), (2, 3, 3), {"strides": [2], "pads": [1, 0]}),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolution_computes_what_onnx_computes(case: str, read: Read) -> None:
    image, weights, attributes = TRANSPOSED[case]
    node = operator("ConvTranspose", "x w", "y", **attributes)
    model = make([node], {"x": image}, {"w": weights})
    workload = only(read(model))
    filters, x = numpy_helper.to_array(model.graph.initializer[0]), numbers(image)
    expected = expected_of(model, x)
    found = run_nest(workload, {"I": x, "W": filters}, expected.shape, lambda old, new: old + new)
    assert np.array_equal(found, expected)
    assert workload.macs == x.size * math.prod(weights[1:])


def test_transposed_convolution_in_groups(read: Read) -> None:
    """ONNX's reference knows one output channel per group only: it is asked for each group."""
    attributes = {"strides": [2, 1], "pads": [1, 0, 0, 1]}
    node = operator("ConvTranspose", "x w", "y", group=2, **attributes)
    model = make([node], {"x": (2, 4, 3, 4)}, {"w": (4, 3, 2, 3)})
    workload = only(read(model))
    assert workload.einsum == "O[N,G,K,2P+R,Q+S] += W[G,C,K,R,S] * I[N,G,C,P,Q]"
    x, filters = numbers((2, 4, 3, 4)), numpy_helper.to_array(model.graph.initializer[0])
    alone = operator("ConvTranspose", "x w", "y", **attributes)
    halves = [
        expected_of(make([alone], {"x": None}, {"w": filters[part]}), x[:, part])
        for part in (slice(0, 2), slice(2, 4))
    ]
    expected = np.stack(halves, axis=1)
    given = {"I": ungrouped(x, 1, 2), "W": ungrouped(filters, 0, 2)}
    found = run_nest(workload, given, expected.shape, lambda old, new: old + new)
    assert np.array_equal(found, expected)
    assert workload.macs == x.size * math.prod(filters.shape[1:])


def test_transposed_convolution_of_a_given_size(read: Read) -> None:
    """As ONNX's page says: what is too much is cut off, its larger half before the output."""
    cut = {"output_shape": [8, 9], "strides": [2, 2]}
    for upper, data in ((True, (0, 8)), (False, (1, 9))):
        attributes = cut | ({"auto_pad": "SAME_UPPER"} if upper else {})
        node = operator("ConvTranspose", "x w", "y", **attributes)
        rows, columns = only(
            read(make([node], {"x": (1, 1, 4, 4)}, {"w": (1, 1, 3, 3)}))
        ).output.ranks[2:]
        assert (rows.data, columns.data) == (data, None)
    larger = operator("ConvTranspose", "x w", "y", output_shape=[11, 9], strides=[2, 2])
    ranks = only(read(make([larger], {"x": (1, 1, 4, 4)}, {"w": (1, 1, 3, 3)}))).output.ranks
    assert [rank.data for rank in ranks] == [None] * 4


POOLS: dict[str, tuple[Ints, dict[str, Any]]] = {
    "plain": ((1, 2, 6, 7), {"kernel_shape": [2, 3]}),
    "stride and pads": (
        (2, 2, 6, 7),
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1]},
    ),
    "rounded down": ((1, 1, 6, 6), {"kernel_shape": [3, 3], "strides": [2, 2]}),
    "rounded up": ((1, 1, 6, 6), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "rounded up, not into padding": (
        (1, 1, 4, 4),
        {"kernel_shape": [1, 2], "strides": [2, 3], "pads": [0, 0, 1, 1], "ceil_mode": 1},
    ),
    "dilation": ((1, 1, 7, 7), {"kernel_shape": [2, 3], "dilations": [3, 2]}),
    "same": ((1, 1, 6, 7), {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "one axis": ((1, 2, 8), {"kernel_shape": [3], "strides": [2]}),
    "three axes": ((1, 2, 4, 4, 5), {"kernel_shape": [2, 2, 3], "strides": [2, 1, 2]}),
}


@pytest.mark.parametrize("case", POOLS)
def test_pooling_computes_what_onnx_computes(case: str, read: Read) -> None:
    image, attributes = POOLS[case]
    model = make([operator("MaxPool", "x", "y", **attributes)], {"x": image}, opset=22)
    network, x = read(model), numbers(image)
    workload, expected = only(network), expected_of(model, x)
    found = run_nest(workload, {"I": x}, expected.shape, max)
    assert np.array_equal(found, expected)
    assert workload.macs == expected.size * math.prod(attributes["kernel_shape"])
    assert (workload.multiplies, network.macs) == (False, 0)


@pytest.mark.parametrize("op", ["AveragePool", "LpPool", "MaxPool"])
def test_every_pooling_is_a_layer(op: str, read: Read) -> None:
    node = operator(op, "x", "y", kernel_shape=[3, 3], strides=[2, 2])
    workload = only(read(make([node], {"x": (1, 8, 9, 9)})))
    assert workload.einsum == "O[N,C,P,Q] += I[N,C,2P+R,2Q+S]"
    assert workload.sizes == {"N": 1, "C": 8, "P": 4, "Q": 4, "R": 3, "S": 3}


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"])
def test_global_pooling_takes_all(op: str, read: Read) -> None:
    workload = only(read(make([operator(op, "x", "y")], {"x": (2, 8, 7, 5)})))
    assert workload.sizes == {"N": 2, "C": 8, "P": 1, "Q": 1, "R": 7, "S": 5}


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm_is_a_one_by_one_convolution(trans_a: int, trans_b: int, read: Read) -> None:
    node = operator("Gemm", "x w c", "y", transA=trans_a, transB=trans_b)
    image, weights = [(5, 7), (7, 5)][trans_a], [(7, 3), (3, 7)][trans_b]
    workload = only(read(make([node], {"x": image}, {"w": weights, "c": (3,)})))
    assert workload.einsum == "O[N,K] += W[K,C] * I[N,C]"
    assert workload.sizes == {"N": 5, "K": 3, "C": 7}


PRODUCTS: dict[str, tuple[Ints, Ints, dict[str, int]]] = {
    "matrices": ((5, 7), (7, 3), {"N": 5, "K": 3, "C": 7}),
    "weights shared by a batch": ((2, 4, 5, 7), (7, 3), {"N": 40, "K": 3, "C": 7}),
    "batch of ones": ((2, 4, 5, 7), (1, 1, 7, 3), {"N": 40, "K": 3, "C": 7}),
    "both in batches": ((2, 4, 5, 7), (2, 4, 7, 3), {"B": 8, "N": 5, "K": 3, "C": 7}),
    "second in batches": ((5, 7), (4, 7, 3), {"N": 5, "K": 12, "C": 7}),
    "partly": ((2, 4, 5, 7), (4, 7, 3), {"B": 4, "N": 10, "K": 3, "C": 7}),
    "crosswise": ((2, 1, 5, 7), (1, 4, 7, 3), {"N": 10, "K": 12, "C": 7}),
    "vector first": ((7,), (7, 3), {"N": 1, "K": 3, "C": 7}),
    "vector second": ((4, 5, 7), (7,), {"N": 20, "K": 1, "C": 7}),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_products_are_broadcast(case: str, read: Read) -> None:
    first, second, sizes = PRODUCTS[case]
    node = operator("MatMul", "a b", "y")
    workload = only(read(make([node], {"a": first, "b": second})))
    assert workload.sizes == sizes
    batched = "O[B,N,K] += W[B,C,K] * I[B,N,C]"
    assert workload.einsum == (batched if "B" in sizes else "O[N,K] += W[K,C] * I[N,C]")
    result = np.matmul(np.ones(first), np.ones(second))
    words = {"I": math.prod(first), "W": math.prod(second), "O": result.size}
    assert workload.macs == result.size * first[-1]
    for operand in workload.operands:
        assert math.prod(sizes[dim] for dim in operand.dims) == words[operand.name]


QUANTIZED = {
    "ConvInteger": (["x", "w"], (1, 2, 5, 5), (3, 2, 3, 3), 32),
    "MatMulInteger": (["x", "w"], (4, 6), (6, 5), 32),
    "QLinearConv": (["x", "s", "z", "w", "s", "z", "s", "z"], (1, 2, 5, 5), (3, 2, 3, 3), 8),
    "QLinearMatMul": (["x", "s", "z", "w", "s", "z", "s", "z"], (4, 6), (6, 5), 8),
}


@pytest.mark.parametrize("op", QUANTIZED)
def test_integer_operators_have_bytes(op: str, read: Read) -> None:
    inputs, image, weights, out_bits = QUANTIZED[op]
    given = {
        "w": np.ones(weights, np.uint8),
        "s": np.array(1, np.float32),
        "z": np.array(0, np.uint8),
    }
    model = make([helper.make_node(op, inputs, ["y"])], {"x": image}, given)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    workload = only(read(model))
    assert {o.name: o.bits for o in workload.operands} == {"W": 8, "I": 8, "O": out_bits}
    assert workload.psum_bits == 32
    assert workload.operand("I").dims[0] == "N"
    assert math.prod(workload.sizes[d] for d in workload.operand("W").dims) == math.prod(weights)
    assert only(read(model, bits={"I": 4})).operand("I").bits == 4


def test_bits_are_those_that_are_given(read: Read) -> None:
    nodes = [
        operator("Conv", "x w", "a"),
        operator("MaxPool", "a", "y", kernel_shape=[2, 2]),
    ]
    network = read(make(nodes, {"x": (1, 3, 8, 8)}, {"w": (4, 3, 3, 3)}), bits={"W": 8, "psum": 24})
    convolution, pool = (layer.workload for layer in network.layers)
    assert [operand.bits for operand in convolution.operands] == [8, 16, 16]
    assert [operand.bits for operand in pool.operands] == [16, 16]
    assert (convolution.psum_bits, pool.psum_bits) == (24, 24)


# ------------------------------------------------------------------ graphs


SMALL = {"x": (1, 3, 8, 8)}


def test_equal_layers_are_counted_once_under_the_first_name(read: Read) -> None:
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        conv("first", "x w1", "a", **pads),
        conv("other", "a w2", "b"),
        conv("again", "x w3", "c", **pads),
    ]
    weights = {"w1": (3, 3, 3, 3), "w2": (3, 3, 3, 3), "w3": (3, 3, 3, 3)}
    network = read(make(nodes, SMALL, weights, outputs=["b", "c"]))
    assert [(layer.workload.name, layer.repeat) for layer in network.layers] == [
        ("first", 2),
        ("other", 1),
    ]
    assert network.macs == 2 * 8 * 8 * 81 + 6 * 6 * 81


def test_nameless_and_equal_names_become_unique(read: Read) -> None:
    nodes = [
        conv("", "x w", "a"),
        conv("a", "a w", "b"),
        conv("a_2", "b w", "c"),
        conv("a", "x v", "d"),
    ]
    network = read(make(nodes, SMALL, {"w": (3, 3, 3, 3), "v": (3, 3, 1, 1)}, outputs=["c", "d"]))
    assert [layer.workload.name for layer in network.layers] == ["a", "a_2", "a_2_2", "a_3"]


def test_one_node_is_selected_even_if_merged_or_nameless(read: Read) -> None:
    nodes = [conv("one", "x w", "a"), conv("two", "x v", "b"), conv("", "x v", "c")]
    model = make(nodes, SMALL, {"w": (3, 3, 3, 3), "v": (3, 3, 3, 3)}, outputs=["a", "b", "c"])
    for node in ("one", "two", "c"):
        network = read(model, node=node)
        assert (network.name, only(network).name) == (f"model:{node}", node)


def test_selecting_a_node_needs_no_other_shape(read: Read, complaint: Complaint) -> None:
    nodes = [conv("known", "x w", "a"), conv("open", "y w", "b")]
    model = make(nodes, {**SMALL, "y": (1, 3, "H", "W")}, {"w": (3, 3, 3, 3)}, outputs=["a", "b"])
    assert only(read(model, node="known")).sizes["P"] == 6
    assert "Conv `open`: its input `y` has shape [1, 3, H, W]" in complaint(model)


def test_a_wrong_node_is_answered_with_near_names(complaint: Complaint) -> None:
    nodes = [conv("conv1", "x w", "a"), operator("Relu", "a", "b", name="relu1")]
    model = make(nodes, SMALL, {"w": (3, 3, 3, 3)})
    assert complaint(model, node="cnv1") == (
        "the graph has no node `cnv1`\n      fix: did you mean `conv1`?"
    )
    assert complaint(model, node="relu1") == (
        "node `relu1` is a Relu, which is not costed\n      fix: one of: conv1"
    )


def test_weights_of_constant_of_shape_are_known_and_not_listed(read: Read) -> None:
    nodes = [
        operator("Constant", "", "four", value_ints=[4, 3, 5, 5]),
        operator("ConstantOfShape", "four", "w0"),
        operator("Identity", "w0", "w"),
        conv("conv", "x w", "y"),
    ]
    network = read(make(nodes, SMALL))
    assert only(network).sizes == {"N": 1, "K": 4, "C": 3, "P": 4, "Q": 4, "R": 5, "S": 5}
    assert network.not_costed == ()


def flattening(blocks: int, *, first: int = 0) -> onnx.ModelProto:
    """Products of what is flattened each time, to sizes computed from the shape: [N, words / N].

    ONNX's own inference does not divide.
    """
    nodes: list[onnx.NodeProto] = []
    for block in range(blocks):
        source = f"y{block - 1}" if block else "x"
        nodes += [
            operator("Shape", source, f"shape{block}"),
            operator("Gather", f"shape{block} first", f"n{block}"),
            operator("Size", source, f"words{block}"),
            operator("Div", f"words{block} n{block}", f"rest{block}"),
            operator("Concat", f"n{block} rest{block}", f"target{block}", axis=0),
            operator("Reshape", f"{source} target{block}", f"flat{block}", name=f"reshape{block}"),
            operator("MatMul", f"flat{block} w", f"y{block}", name=f"fc{block}"),
        ]
    return make(nodes, {"x": ("N", 3, 4, 4)}, {"w": (48, 48), "first": np.array([first])})


def test_targets_of_a_reshape_follow_from_shapes(read: Read) -> None:
    nodes = [
        operator("Shape", "x", "shape"),
        operator("Gather", "shape zero", "n"),
        operator("Concat", "n minus", "target", axis=0),
        operator("Reshape", "x target", "flat"),
        operator("MatMul", "flat w", "y"),
    ]
    given = {"w": (48, 10), "zero": np.array([0]), "minus": np.array([-1])}
    network = read(make(nodes, {"x": ("N", 3, 4, 4)}, given), batch=2)
    assert only(network).sizes == {"N": 2, "K": 10, "C": 48}
    assert network.not_costed == (("Reshape", 1),)


def test_constants_are_folded_where_inference_gives_up(read: Read) -> None:
    network = read(flattening(3), batch=2)
    (layer,) = network.layers
    assert (layer.repeat, layer.workload.sizes) == (3, {"N": 2, "K": 48, "C": 48})
    assert network.not_costed == (("Reshape", 3),)


UNFOLDED = (
    "MatMul `fc0`: its input `flat0` has shape [?, ?]: it does not follow from Reshape `reshape0`"
)


def test_large_constants_are_not_computed(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    model = flattening(1)
    model.graph.initializer.append(numpy_helper.from_array(np.array([10**12]), "many"))
    model.graph.node.insert(0, operator("ConstantOfShape", "many", "huge"))
    evaluated: list[str] = []
    run = onnx_folding.run_operator

    def record(model: onnx.ModelProto, node: onnx.NodeProto, inputs: Any) -> Any:
        evaluated.append(node.op_type)
        return run(model, node, inputs)

    monkeypatch.setattr(onnx_folding, "run_operator", record)
    assert only(read(model, batch=2)).sizes["C"] == 48
    assert "Div" in evaluated
    assert "ConstantOfShape" not in evaluated


def test_inference_alone_would_not_do(
    complaint: Complaint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(*_: object) -> bool:
        return False

    monkeypatch.setattr(frontend, "fold_constants", give_up)
    assert complaint(flattening(1), batch=2) == (
        f"{UNFOLDED.replace('?, ?', '2, ?')}\n"
        "      fix: store the shape of that tensor in the file (value_info)"
    )


def test_folding_that_fails_leaves_the_graph_as_it_is(complaint: Complaint) -> None:
    found = complaint(flattening(1, first=7), batch=2)
    assert found.startswith(UNFOLDED)
    assert "indices must be in" in found  # what ONNX says of Gather
    model = flattening(1)
    damaged = next(tensor for tensor in model.graph.initializer if tensor.name == "first")
    damaged.raw_data = b""
    model.graph.initializer.append(TensorProto(name="odd", dims=[-1], data_type=TensorProto.INT64))
    model.graph.node.insert(0, operator("Shape", "odd", "odder"))
    assert complaint(model, batch=2).startswith(UNFOLDED)


def normalized(**training: int) -> onnx.NodeProto:
    return operator("BatchNormalization", "a scale shift mean variance", "b", **training)


NORM: dict[str, Ints] = dict.fromkeys(("scale", "shift", "mean", "variance"), (4,))


def test_normalization_after_a_convolution_is_folded(read: Read) -> None:
    nodes = [conv("conv", "x w", "a"), normalized(), operator("Relu", "b", "y")]
    network = read(make(nodes, SMALL, {"w": (4, 3, 3, 3), **NORM}))
    assert network.not_costed == (("Relu", 1),)


def test_normalization_is_listed_where_it_cannot_be_folded(read: Read) -> None:
    head, relu = conv("conv", "x w", "a"), operator("Relu", "a", "r")
    weights = {"w": (4, 3, 3, 3), **NORM}
    listed = ("BatchNormalization", 1)
    twice_read = make([head, normalized(), relu], SMALL, weights, outputs=["b", "r"])
    assert listed in read(twice_read).not_costed
    is_result = make([head, normalized()], SMALL, weights, outputs=["a", "b"])
    assert listed in read(is_result).not_costed
    for name in ("mean", "w"):
        fixed = {other: shape for other, shape in weights.items() if other != name}
        is_fed = make([head, normalized()], {**SMALL, name: weights[name]}, fixed)
        assert listed in read(is_fed).not_costed
    not_after = make(
        [normalized(), conv("conv", "b w", "y")],
        {"a": (1, 4, 8, 8)},
        {**NORM, "w": (4, 4, 3, 3)},
    )
    assert listed in read(not_after).not_costed
    training = normalized(training_mode=1)
    training.output.extend(["m", "v"])
    assert listed in read(make([head, training], SMALL, weights)).not_costed


def test_everything_else_is_listed_with_its_domain(read: Read) -> None:
    innermost = helper.make_graph(
        [operator("Tanh", "c", "t")], "innermost", [], [onnx.ValueInfoProto(name="t")]
    )
    branch = helper.make_graph(
        [
            operator("Constant", "", "one", value_float=1.0),
            operator("Conv", "a w", "c"),
            operator("Relu", "c", "d"),
            operator("If", "flag", "e", then_branch=innermost, else_branch=innermost),
        ],
        "branch",
        [],
        [onnx.ValueInfoProto(name="d")],
    )
    nodes = [
        conv("conv", "x w", "a"),
        operator("Relu", "a", "r1"),
        operator("Relu", "r1", "r2"),
        operator("Fused", "r2", "f", domain="custom"),
        operator("RandomNormal", "", "noise", shape=[1]),
        operator("If", "flag", "i", then_branch=branch, else_branch=branch),
    ]
    weights = {"w": (3, 3, 1, 1), "flag": np.array(True)}
    network = read(make(nodes, SMALL, weights, outputs=["f", "i", "noise"]))
    assert network.not_costed == (
        ("Conv in If", 2),
        ("If", 1),
        ("If in If", 2),
        ("RandomNormal", 1),
        ("Relu", 2),
        ("Relu in If", 2),
        ("Tanh in If", 4),
        ("custom::Fused", 1),
    )


def model_with_function() -> onnx.ModelProto:
    block = helper.make_function(
        "custom",
        "Block",
        ["a", "w"],
        ["c"],
        [operator("Conv", "a w", "b"), operator("Relu", "b", "c")],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        operator("Block", "x w", "y", domain="custom"),
        operator("Block", "y w", "z", domain="custom"),
        conv("last", "z w", "r"),
    ]
    return make(nodes, SMALL, {"w": (3, 3, 3, 3)}, functions=[block])


def test_functions_of_the_model_are_looked_into(read: Read) -> None:
    network = read(model_with_function())
    assert [layer.workload.sizes["P"] for layer in network.layers] == [6, 4, 2]
    assert network.not_costed == (("Relu", 2),)


def test_functions_that_cannot_be_inlined_are_listed(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: onnx.ModelProto) -> onnx.ModelProto:
        raise RuntimeError("no")

    monkeypatch.setattr("onnx.inliner.inline_local_functions", refuse)
    network = read(model_with_function(), node="last")
    assert only(network).sizes["P"] == 2
    assert read(model_with_function()).not_costed == (("custom::Block", 2),)


def test_old_files_list_weights_among_inputs(read: Read) -> None:
    model = make([conv("conv", "x w", "y")], {**SMALL, "w": (4, 3, 3, 3)}, {"w": (4, 3, 3, 3)})
    model.ir_version = 3
    assert only(read(model, batch=1)).sizes["K"] == 4


def test_sparse_weights_are_constants(read: Read) -> None:
    model = make([conv("conv", "x w", "a"), normalized()], SMALL, NORM)
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0]),
            helper.make_tensor("places", TensorProto.INT64, [2], [0, 7]),
            [4, 3, 3, 3],
        )
    )
    network = read(model)
    assert only(network).sizes["K"] == 4
    assert network.not_costed == ()


def test_missing_external_weights_do_not_matter(tmp_path: Path) -> None:
    model = make([conv("conv", "x w", "y")], SMALL, {"w": (64, 3, 3, 3)})
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    assert only(read_onnx(path)).sizes["K"] == 64


# ------------------------------------------------------------------ sizes that a file leaves open


def open_batch(first: int | str | None = "N") -> onnx.ModelProto:
    nodes = [conv("conv1", "x w", "a"), conv("conv2", "a w", "b")]
    return make(nodes, {"x": (first, 3, 8, 8)}, {"w": (3, 3, 3, 3)})


@pytest.mark.parametrize("first", ["N", None, 0, -1])
def test_batch_sets_what_is_open(first: int | str | None, read: Read, complaint: Complaint) -> None:
    assert [layer.workload.sizes["N"] for layer in read(open_batch(first), batch=5).layers] == [
        5,
        5,
    ]
    assert complaint(open_batch(first)) == (
        f"Conv `conv1`: its input `x` has shape [{first or '?' if first != -1 else '?'}, 3, 8, 8]"
        " (and 1 more like it)\n      fix: give --batch 1, or another size"
    )


def test_batch_must_not_contradict(read: Read, complaint: Complaint) -> None:
    assert read(open_batch(1), batch=1).layers[0].workload.sizes["N"] == 1
    assert complaint(open_batch(1), batch=4) == (
        "a batch of 4: the first dim of input `x` is 1\n"
        "      fix: only sizes that the file leaves open can be set"
    )
    assert complaint(open_batch(), batch=0) == (
        "a batch of 0: it is 1 to 2,147,483,647\n      fix: give --batch 1 or more"
    )


def test_batch_leaves_other_inputs_alone(read: Read) -> None:
    nodes = [conv("conv", "x w", "a"), operator("Mul", "a factor", "b")]
    model = make(nodes, {"x": ("N", 3, 8, 8), "factor": (1,)}, {"w": (3, 3, 3, 3)})
    assert only(read(model, batch=3)).sizes["N"] == 3


def test_a_name_has_one_size_everywhere(read: Read, complaint: Complaint) -> None:
    node = operator("MatMul", "a b", "y", name="product")
    model = make([node], {"a": ("N", "D"), "b": ("D", 4)})
    assert only(read(model, shapes={"a": (2, 8)})).sizes == {"N": 2, "K": 4, "C": 8}
    assert complaint(model, shapes={"a": (2, 8), "b": (9, 4)}) == (
        "input `b` is [D, 4] in the file, not 9,4: D is 8 already\n"
        "      fix: only sizes that the file leaves open can be set"
    )
    assert complaint(model) == (
        "MatMul `product`: its input `a` has shape [N, D]\n"
        "      fix: give --shape a=1,128 --shape b=1,4, or other sizes"
    )


def test_shapes_set_what_is_open(read: Read, complaint: Complaint) -> None:
    model = make([conv("conv", "x w", "y")], {"x": ("N", 3, "H", "W")}, {"w": (4, 3, 3, 3)})
    sizes = only(read(model, shapes={"x": (2, 3, 9, 7)})).sizes
    assert (sizes["N"], sizes["P"], sizes["Q"]) == (2, 7, 5)
    found = complaint(model, batch=1)
    assert found == (
        "Conv `conv`: its input `x` has shape [1, 3, H, W]\n"
        "      fix: give --shape x=1,3,224,224, or other sizes"
    )


def test_all_open_inputs_are_told_at_once(complaint: Complaint) -> None:
    nodes = [conv("one", "x w", "a"), operator("Relu", "y", "r"), conv("two", "r w", "b")]
    inputs: Tensors = {"x": (1, 3, "H", 8), "y": ("N", 3, None, None), "unused": ("M",)}
    assert complaint(make(nodes, inputs, {"w": (4, 3, 3, 3)}, outputs=["a", "b"])) == (
        "Conv `one`: its input `x` has shape [1, 3, H, 8] (and 1 more like it)\n"
        "      fix: give --shape x=1,3,224,8 --shape y=1,3,224,224, or other sizes"
    )


def test_an_input_without_any_shape_can_be_given_one(read: Read, complaint: Complaint) -> None:
    model = make([conv("conv", "x w", "y")], {"x": None}, {"w": (4, 3, 3, 3)})
    assert only(read(model, shapes={"x": (2, 3, 9, 7)})).sizes["P"] == 7
    assert complaint(model) == (
        "Conv `conv`: its input `x` has a shape that is not known\n"
        "      fix: give --shape x=1,3,224,224, or other sizes"
    )
    assert complaint(model, batch=1) == (
        "a batch of 1: no input has a first dim\n      fix: give --shape INPUT=1,3,32"
    )


def test_all_wrong_options_are_told_at_once(complaint: Complaint) -> None:
    model = make([conv("conv", "image w", "y")], {"image": ("N", 3, 8, 8)}, {"w": (4, 3, 3, 3)})
    shapes = {"imag": (1, 3, 8, 8), "image": (1, 3, 8)}
    assert complaint(model, batch=-1, shapes=shapes) == (
        "the graph has no input `imag`\n      fix: did you mean `image`?\n"
        "input `image` is [N, 3, 8, 8] in the file, not 1,3,8\n"
        "      fix: give one size for each of its dims\n"
        "a batch of -1: it is 1 to 2,147,483,647\n      fix: give --batch 1 or more"
    )
    assert complaint(model, shapes={"image": (0, 3, 8, 2**70)}) == (
        f"shape 0,3,8,{2**70} of input `image`: a size is 1 to 2,147,483,647\n"
        "      fix: write one size for each dim, as in 1,3,224,224"
    )
    assert complaint(model, shapes={"image": (1, 4, 8, 9)}) == (
        "input `image` is [N, 3, 8, 8] in the file, not 1,4,8,9\n"
        "      fix: only sizes that the file leaves open can be set"
    )
    assert complaint(model, bits={"w": 8, "I": 0}) == (
        "bits of w: there is no such operand\n      fix: did you mean `W`?\n"
        "bits of I are 0: the least is 1\n      fix: 16 is usual"
    )


def test_the_node_that_loses_the_shape_is_named(complaint: Complaint) -> None:
    nodes = [
        operator("Fused", "x", "f", domain="custom", name="fused1"),
        conv("conv", "f w", "y"),
    ]
    assert complaint(make(nodes, SMALL, {"w": (4, 3, 3, 3)})) == (
        "Conv `conv`: its input `f` has a shape that is not known: it does not follow from "
        "custom::Fused `fused1`\n"
        "      fix: store the shape of that tensor in the file (value_info)"
    )


def test_a_shape_that_the_file_states_is_believed(read: Read, complaint: Complaint) -> None:
    nodes = [operator("Fused", "x", "f", domain="custom"), conv("conv", "f w", "y")]
    model = make(nodes, {"x": ("N", 3, 8, 8)}, {"w": (4, 3, 3, 3)})
    stated = helper.make_tensor_value_info("f", TensorProto.FLOAT, ("N", 3, 5, 5))
    model.graph.value_info.append(stated)
    sizes = only(read(model, batch=6)).sizes
    assert (sizes["N"], sizes["P"]) == (6, 3)
    model.graph.value_info[0].type.tensor_type.shape.dim[2].dim_value = -1
    assert "its input `f` has shape [6, 3, ?, 5]" in complaint(model, batch=6)


def test_what_onnx_says_against_a_graph_is_passed_on(complaint: Complaint) -> None:
    nodes = [
        operator("Reshape", "x target", "r", name="reshape"),
        conv("conv", "r w", "y"),
    ]
    found = complaint(make(nodes, SMALL, {"w": (4, 3, 3, 3), "target": np.array([1, 3, -1, 5])}))
    assert "it does not follow from Reshape `reshape` (" in found
    assert "Dimension could not be inferred" in found


# ------------------------------------------------------------------ bad files


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read: No such file"):
        read_onnx(tmp_path / "absent.onnx")
    with pytest.raises(InputError, match="cannot read: this is not a file"):
        read_onnx(tmp_path)
    with pytest.raises(InputError, match="cannot read: embedded null byte"):
        read_onnx("a\0b.onnx")


@pytest.mark.parametrize(
    "content", [b"", b"layers:\n  - name: conv1\n", b"\x89PNG\r\n\x1a\n" + bytes(50), bytes(100)]
)
def test_files_that_are_no_onnx(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(InputError, match="not an ONNX file, or it is cut off"):
        read_onnx(tmp_path / "model.onnx")


def test_files_that_are_cut_off_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = open_batch(1)
    del model.opset_import[1:]  # without the last of two, the file would be whole
    content = model.SerializeToString()
    path.write_bytes(content)
    assert read_onnx(path).macs > 0
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="cut off"):
            read_onnx(path)


def test_damaged_names_are_told(tmp_path: Path) -> None:
    content = open_batch(1).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content.replace(b"conv2", b"conv\xff"))
    with pytest.raises(InputError, match=r"not text \(UTF-8\): it is damaged"):
        read_onnx(tmp_path / "model.onnx")


def test_huge_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)  # a hole: it takes no space
    began = time.process_time()
    with pytest.raises(InputError, match=r"2,147,483,648 bytes, the limit is 2,147,483,647"):
        read_onnx(path)
    assert time.process_time() - began < 1


def test_large_weights_are_dropped_at_once(tmp_path: Path) -> None:
    nodes = [conv("conv", "x w", "a"), conv("more", "a v", "b")]
    constant = operator(
        "Constant", "", "v", value=numpy_helper.from_array(np.ones((64, 64, 3, 3), np.float32))
    )
    model = make([constant, *nodes], SMALL, {"w": (64, 3, 5, 5)})
    onnx.save(model, tmp_path / "model.onnx")
    assert model.ByteSize() > 100_000
    assert onnx_graph.load_model(tmp_path / "model.onnx").ByteSize() < 1000
    assert read_onnx(tmp_path / "model.onnx").layers[1].workload.sizes["C"] == 64


def test_graphs_without_layers(complaint: Complaint) -> None:
    nodes = [operator("Relu", "x", "a"), operator("Add", "a a", "b")]
    assert complaint(make(nodes, SMALL)) == (
        "the graph has no convolution, matrix product or pooling; it has Relu ×1, Add ×1\n"
        "      fix: choose a file with one of them"
    )


def test_graphs_that_onnx_refuses(complaint: Complaint) -> None:
    nodes = [operator("Relu", "", "a", name="relu"), conv("conv", "a w", "y")]
    found = complaint(make(nodes, SMALL, {"w": (4, 3, 3, 3)}))
    assert found.startswith("ONNX cannot infer its shapes: ")
    assert "Relu, node name: relu): Input 0 is out of bounds" in found


def test_nodes_that_lack_inputs(complaint: Complaint) -> None:
    found = complaint(make([conv("conv", "x", "y")], SMALL))
    assert found == "Conv `conv` has too few inputs\n      fix: export it anew"


WRONG_NODES: dict[str, tuple[onnx.NodeProto, Tensors, str]] = {
    "channels": (
        conv("c", "x w", "y"),
        {"x": (1, 5, 8, 8), "w": (4, 3, 3, 3)},
        "c: weights [4, 3, 3, 3] in 1 groups do not fit 5 input channels",
    ),
    "groups": (
        conv("c", "x w", "y", group=3),
        {"x": (1, 9, 8, 8), "w": (4, 3, 3, 3)},
        "c: weights [4, 3, 3, 3] in 3 groups do not fit 9 input channels",
    ),
    "no groups": (
        conv("c", "x w", "y", group=0),
        {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3)},
        "c: group is 0: the least is 1",
    ),
    "transposed channels": (
        operator("ConvTranspose", "x w", "y", name="c"),
        {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3)},
        "c: weights [4, 3, 3, 3] in 1 groups do not fit 3 input channels",
    ),
    "all is cropped": (
        operator("ConvTranspose", "x w", "y", name="c", pads=[5, 5, 5, 5]),
        {"x": (1, 3, 8, 8), "w": (3, 3, 3, 3)},
        "c: its padding leaves nothing of the output\n      fix: use less padding",
    ),
    "rank": (
        conv("c", "x w", "y"),
        {"x": (1, 3, 8), "w": (4, 3, 3, 3)},
        "c: weights [4, 3, 3, 3] do not fit an input of [1, 3, 8]",
    ),
    "four axes": (
        conv("c", "x w", "y"),
        {"x": (1, 3, 8, 8, 8, 8), "w": (4, 3, 3, 3, 3, 3)},
        "c: an input of [1, 3, 8, 8, 8, 8] has 4 axes to slide along\n"
        "      fix: 1 to 3 axes are read",
    ),
    "kernel_shape": (
        conv("c", "x w", "y", kernel_shape=[3, 2]),
        {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3)},
        "c: kernel_shape [3, 2] contradicts weights [4, 3, 3, 3]",
    ),
    "strides": (
        conv("c", "x w", "y", strides=[2]),
        {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3)},
        "c: attribute strides is (2,): expected 2 whole numbers",
    ),
    "stride of 0": (
        conv("c", "x w", "y", strides=[1, 0]),
        {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3)},
        "c: sizes [8, 8], kernel [3, 3], strides [1, 0], dilations [1, 1]: the least of each is 1",
    ),
    "attribute": (
        conv("c", "x w", "y", group="two"),
        {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3)},
        "c: attribute group is 'two': expected a whole number",
    ),
    "negative pads": (
        conv("c", "x w", "y", pads=[0, -1, 0, 0]),
        {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3)},
        "c: pads are [0, -1, 0, 0]: the least is 0",
    ),
    "too large a filter": (
        conv("c", "x w", "y", pads=[1, 0, 1, 0]),
        {"x": (1, 3, 8, 8), "w": (4, 3, 3, 9)},
        "c: a filter that reaches over 9 does not fit an input of 8, padding included\n"
        "      fix: use a larger input or more padding",
    ),
    "only padding": (
        operator("MaxPool", "x", "y", name="c", kernel_shape=[1, 1], strides=[9, 9], pads=[2] * 4),
        {"x": (1, 3, 4, 4)},
        "c: the padding [2, 2] is all that the filter meets\n      fix: use less padding",
    ),
    "auto_pad": (
        conv("c", "x w", "y", auto_pad="SAME_UPER"),
        {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3)},
        "c: auto_pad is 'SAME_UPER'\n      fix: did you mean `SAME_UPPER`?",
    ),
    "kernel of a pool": (
        operator("MaxPool", "x", "y", name="c", kernel_shape=[2]),
        {"x": (1, 3, 8, 8)},
        "c: kernel_shape (2,) does not fit an input of [1, 3, 8, 8]",
    ),
    "matrices": (
        operator("MatMul", "x w", "y", name="c"),
        {"x": (2, 3), "w": (4, 5)},
        "c: [2, 3] and [4, 5] do not match: 3 columns meet 4 rows",
    ),
    "scalar": (
        operator("MatMul", "x w", "y", name="c"),
        {"x": (2, 3), "w": ()},
        "c: a product of [2, 3] and []: one is a scalar",
    ),
    "batches": (
        operator("MatMul", "x w", "y", name="c"),
        {"x": (2, 4, 3), "w": (3, 3, 5)},
        "c: [2, 4, 3] and [3, 3, 5] cannot be broadcast",
    ),
    "three dims in a Gemm": (
        operator("Gemm", "x w", "y", name="c"),
        {"x": (2, 3, 4), "w": (4, 5)},
        "c: expected two matrices, found [2, 3, 4] and [4, 5]",
    ),
    "nothing in a batch": (
        operator("GlobalMaxPool", "a", "y", name="c"),
        {"a": (1, 3)},
        "c: an input of [1, 3] has 0 axes to slide along\n      fix: 1 to 3 axes are read",
    ),
}


@pytest.mark.parametrize("case", WRONG_NODES)
def test_operators_that_contradict_their_shapes(case: str, complaint: Complaint) -> None:
    node, inputs, message = WRONG_NODES[case]
    assert complaint(make([node], inputs)) == message


def test_every_contradiction_is_told_and_hides_what_follows(complaint: Complaint) -> None:
    nodes = [
        conv("conv", "x w", "c"),
        operator("MatMul", "a v", "p", name="one"),
        operator("MatMul", "p v", "q", name="two"),
    ]
    model = make(
        nodes, {**SMALL, "a": (3, 4)}, {"w": (4, 5, 3, 3), "v": (5, 5)}, outputs=["c", "q"]
    )
    assert complaint(model) == (
        "conv: weights [4, 5, 3, 3] in 1 groups do not fit 3 input channels\n"
        "one: [3, 4] and [5, 5] do not match: 4 columns meet 5 rows"
    )


def test_a_reshape_that_loses_words_is_told(read: Read, complaint: Complaint) -> None:
    """A graph that is made for one image: with four, its products would be those of one."""
    nodes = [
        operator("Reshape", "x target", "flat", name="flatten"),
        operator("MatMul", "flat w", "y", name="fc"),
    ]
    given = {"w": (192, 10), "target": np.array([1, 192])}
    model = make(nodes, {"x": ("N", 3, 8, 8)}, given)
    assert only(read(model, batch=1)).sizes["N"] == 1
    assert complaint(model, batch=4) == (
        "Reshape `flatten` makes [1, 192] of [4, 3, 8, 8]: 192 words of 768\n"
        "      fix: give the sizes that the graph is made for"
    )
