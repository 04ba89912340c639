"""Small ONNX files that stand for enormous graphs are refused before anything is unfolded."""

# ONNX's messages are protobuf objects, for which no complete types exist.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_onnx import make, operator

from tilewright.errors import InputError
from tilewright.frontend.onnx import read_onnx


def refused(model: onnx.ModelProto, folder: Path, message: str) -> None:
    onnx.save(model, folder / "bomb.onnx")
    assert (folder / "bomb.onnx").stat().st_size < 20_000
    began = time.process_time()
    with pytest.raises(InputError, match=message):
        read_onnx(folder / "bomb.onnx")
    assert time.process_time() - began < 5


def doubling(times: int) -> onnx.ModelProto:
    nodes = [operator("Concat", f"c{i} c{i}", f"c{i + 1}", axis=0) for i in range(times)]
    nodes += [operator("Reshape", f"x c{times}", "r"), operator("MatMul", "x r", "y")]
    model = make(nodes, {"x": (1, 4)})
    model.graph.initializer.append(numpy_helper.from_array(np.array([4, 1]), "c0"))
    return model


def test_a_constant_doubled_sixty_times(tmp_path: Path) -> None:
    refused(doubling(60), tmp_path, "join constants of more than 10,000,000 words")


def test_a_doubling_inside_a_branch(tmp_path: Path) -> None:
    inner = doubling(60).graph
    del inner.input[:]
    branch = {"then_branch": inner, "else_branch": inner}
    model = make(
        [operator("If", "k", "z", **branch), operator("MatMul", "x w", "y")],
        {"x": (1, 4)},
        {"w": (4, 4)},
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "k"))
    refused(model, tmp_path, "join constants")


def with_functions(bodies: list[list[str]]) -> onnx.ModelProto:
    """Functions f0, f1, … whose bodies call others one after the other."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions: list[Any] = []
    for place, body in enumerate(bodies):
        nodes = [
            helper.make_node(
                op,
                ["x" if step == 0 else f"t{step - 1}"],
                ["y" if step == len(body) - 1 else f"t{step}"],
                domain="own" if op.startswith("f") else "",
            )
            for step, op in enumerate(body)
        ]
        functions.append(helper.make_function("own", f"f{place}", ["x"], ["y"], nodes, opsets))
    call = helper.make_node(f"f{len(bodies) - 1}", ["x"], ["z"], domain="own")
    graph = helper.make_graph(
        [call, helper.make_node("MatMul", ["z", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)


def test_functions_that_double(tmp_path: Path) -> None:
    bodies = [["Relu", "Relu"], *([f"f{i}", f"f{i}"] for i in range(40))]
    refused(with_functions(bodies), tmp_path, "written out it has more than 1,000,000 nodes")


def test_functions_in_a_circle(tmp_path: Path) -> None:
    refused(with_functions([["Relu", "f1"], ["Relu", "f0"]]), tmp_path, "in a circle")


def test_what_is_small_passes(tmp_path: Path) -> None:
    onnx.save(with_functions([["Relu", "Relu"], ["f0", "f0"]]), tmp_path / "small.onnx")
    assert read_onnx(tmp_path / "small.onnx").macs == 16
    # Features joined again and again, as in DenseNet, are no constants that grow.
    nodes: list[onnx.NodeProto] = []
    for i in range(40):
        nodes.append(operator("Relu", f"x{i}", f"n{i}"))
        nodes.append(operator("Concat", f"x{i} n0", f"x{i + 1}", axis=1))
    nodes.append(operator("GlobalAveragePool", "x40", "y"))
    onnx.save(make(nodes, {"x0": (1, 4, 5, 5)}), tmp_path / "dense.onnx")
    assert read_onnx(tmp_path / "dense.onnx").layers[0].workload.sizes["C"] == 4 * 41
