"""Whole networks as C programs: outputs against other runtimes, memory, messages."""

# pyright: reportUnknownMemberType=false

import json
import subprocess
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import network_cases as cases
import numpy as np
import onnx
import pytest
from network_cases import LIGHT, REAL, Array, Net, real_graph
from numpy.typing import NDArray
from onnx import TensorProto, helper

import tilewright as tw
from tilewright.cli.main import run
from tilewright.codegen import cpu as cpus
from tilewright.codegen.arena import ALIGNED, place_buffers
from tilewright.codegen.build import find_compiler
from tilewright.codegen.lower import lower
from tilewright.codegen.network import (
    CompiledNetwork,
    GeneratedNetwork,
    generate_network,
    load_network,
)
from tilewright.codegen.steps import KernelStep, MoveStep
from tilewright.codegen.targets import TARGETS
from tilewright.frontend.onnx_values import read_graph

RUNNABLE = [name for name, target in TARGETS.items() if cpus.host().supports(target)]
SMALL = {name: make() for name, make in cases.SMALL.items()}
TOLERANCE = 2e-5
"""Of the largest output: the real graphs differ by 1e-7 to 4e-6 of it, by the order of sums."""


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(model, str(path))
    return path


def random_input(made: GeneratedNetwork, seed: int = 1) -> Array:
    (dims,) = made.steps.inputs.values()
    return np.random.default_rng(seed).standard_normal(dims, np.float32)


def outputs(network: CompiledNetwork, image: Array) -> list[Array]:
    found = network(image)
    return list(found) if isinstance(found, tuple) else [found]


def expected(path: Path, image: Array) -> list[Array]:
    """What onnxruntime makes of the same file."""
    onnxruntime: Any = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image})


def check(got: list[Array], want: list[Array]) -> None:
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert one.shape == other.shape
        assert np.isfinite(other).all()
        assert np.ptp(other) > 1e-3 * np.abs(other).max(), "the outputs do not tell channels apart"
        worst = np.abs(one - other).max() / np.abs(other).max()
        assert worst < TOLERANCE, f"results are off by {worst:.1e} of the largest"


# --- small graphs -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SMALL))
def test_small_graphs_agree_with_onnxruntime(name: str, tmp_path: Path) -> None:
    path = saved(SMALL[name], tmp_path)
    for target in RUNNABLE:
        made = generate_network(path, target=target, batch=3 if name == "dense" else None)
        image = random_input(made)
        check(outputs(load_network(made), image), expected(path, image))


def test_several_threads_give_the_same(tmp_path: Path) -> None:
    path = saved(SMALL["residual"], tmp_path)
    alone, shared = (generate_network(path, threads=threads) for threads in (1, 3))
    assert "-fopenmp" in shared.flags
    image = random_input(alone)
    check(outputs(load_network(shared), image), outputs(load_network(alone), image))


def steps_of(model: onnx.ModelProto, folder: Path, lanes: int = 16) -> Any:
    return place_buffers(lower(read_graph(saved(model, folder)), lanes))


def test_normalization_relu_and_reshapes_cost_no_step(tmp_path: Path) -> None:
    net = Net(1, 16, 6, 6)
    net.conv(16, 16)
    net.normalize(16)
    net.add("Relu")
    net.add("Flatten")
    net.add("Gemm", net.weight(256, 9))
    arena = steps_of(net.model(), tmp_path)
    kinds = [type(step).__name__ for step in arena.steps]
    assert kinds == ["MoveStep", "KernelStep", "KernelStep", "MoveStep"]
    assert arena.steps[1].shape.relu


def test_joined_tensors_are_written_in_place(tmp_path: Path) -> None:
    """The part that is joined twice is copied once."""
    arena = steps_of(SMALL["nested"], tmp_path)
    assert len([step for step in arena.steps if isinstance(step, MoveStep)]) == 4  # in, out, out, 1


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "inception_v1", "shufflenet"])
def test_buffers_that_are_alive_do_not_overlap(name: str) -> None:
    """Played through: whenever a step reads a place, what it reads is what was written there."""
    network = lower(read_graph(LIGHT / f"light_{name}.onnx"), 16)
    arena = place_buffers(network)
    owner = np.full(arena.elements // ALIGNED, -1)
    for time, step in enumerate(arena.steps):
        for ref in step.sources:
            if not network.buffers[ref.buffer].user:
                part = span(arena, network, ref.buffer)
                assert (owner[part] == ref.buffer).all(), f"step {time} reads what was overwritten"
        if not network.buffers[step.target.buffer].user:
            owner[span(arena, network, step.target.buffer)] = step.target.buffer
    apart = sum(buffer.elements for buffer in network.buffers if not buffer.user)
    assert arena.elements < apart / 3


def span(arena: Any, network: Any, buffer: int) -> slice:
    start = arena.offsets[buffer] // ALIGNED
    return slice(start, start + -(-network.buffers[buffer].elements // ALIGNED))


# --- real graphs --------------------------------------------------------------------------------


def real(name: str, folder: Path) -> tuple[GeneratedNetwork, Path, Array]:
    path = saved(real_graph(name), folder)
    made = generate_network(path)
    return made, path, random_input(made)


@pytest.mark.parametrize("name", ["squeezenet"])
def test_real_graphs_agree_with_onnxruntime(name: str, tmp_path: Path) -> None:
    made, path, image = real(name, tmp_path)
    check(outputs(load_network(made), image), expected(path, image))


def check_softmax(logits: Array, got: Array) -> None:
    """Against the softmax of the program's own logits."""
    powers = np.exp(logits.astype(np.float64) - logits.max())
    np.testing.assert_allclose(got, powers / powers.sum(), rtol=1e-5, atol=1e-9)


def check_probabilities(got: list[Array], want: list[Array]) -> None:
    """Logits, then probabilities: these may differ by what differences of logits make of them.

    If no logit differs by more than d, no probability differs by more than exp(2 d) - 1 of itself:
    numerator and sum are each off by a factor of exp(d) at most. VGG-19's largest logit is 18.
    """
    check(got[:1], want[:1])
    check_softmax(got[0], got[1])
    apart = np.expm1(2 * float(np.max(np.abs(got[0] - want[0]))))
    np.testing.assert_allclose(got[1], want[1], rtol=apart + 1e-5, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_all_real_graphs_agree_with_onnxruntime(name: str, tmp_path: Path) -> None:
    made, path, image = real(name, tmp_path)
    got, want = outputs(load_network(made), image), expected(path, image)
    if len(got) > 1:
        check_probabilities(got, want)
    else:
        check(got, want)


def test_a_wrong_softmax_is_seen() -> None:
    logits = np.array([[1.0, 2.0, 3.0]], np.float32)
    powers = np.exp(logits - 3)
    right = powers / powers.sum()
    check_softmax(logits, right)
    check_probabilities([logits, right], [logits, right])
    with pytest.raises(AssertionError, match="Mismatched"):
        check_probabilities([logits, right], [logits, right * np.float32(1.001)])
    with pytest.raises(AssertionError, match="Mismatched"):
        check_softmax(logits, powers)


def test_resnet50_is_right_in_a_minute_and_a_swapped_channel_is_seen(tmp_path: Path) -> None:
    made, path, image = real("resnet50", tmp_path)
    network = load_network(made)
    assert made.seconds + network.seconds < 60
    want = expected(path, image)
    check(outputs(network, image), want)
    place = [n for n, step in enumerate(made.arena.steps) if isinstance(step, KernelStep)][20]
    step = made.arena.steps[place]
    assert isinstance(step, KernelStep)
    assert step.weights is not None
    order = [1, 0, *range(2, step.weights.shape[1])]
    swapped = replace(step, weights=step.weights[:, order])
    steps = (*made.arena.steps[:place], swapped, *made.arena.steps[place + 1 :])
    wrong = replace(made, arena=replace(made.arena, steps=steps))
    with pytest.raises(AssertionError, match="results are off"):
        check(outputs(load_network(wrong), image), want)


# --- sanitizers ---------------------------------------------------------------------------------

HARNESS = """
#include <stdio.h>
#include <stdlib.h>
#include "{name}.h"
static float *read_all(const char *path, size_t count)
{{
    float *p = malloc(count * 4 + 1);
    FILE *f = fopen(path, "rb");
    if (!p || !f || fread(p, 4, count, f) != count) exit(9);
    fclose(f);
    return p;
}}
int main(void)
{{
    float *x = read_all("x", {inputs}), *w = read_all("{name}.weights", {name}_weight_elements);
    float *y = malloc({results} * 4);
    if ({name}(x, w, y)) return 7;
    FILE *f = fopen("y", "wb");
    if (!f || fwrite(y, 4, {results}, f) != {results}) return 6;
    fclose(f), free(x), free(w), free(y);
    return 0;
}}
"""


def run_sanitized(
    model: onnx.ModelProto, folder: Path, target: str, edit: tuple[str, str] = ("", "")
) -> tuple[NDArray[np.float32], Array]:
    made = generate_network(saved(model, folder), target=target, cpu=cpus.host(), batch=None)
    made.write(folder)
    image, name = random_input(made), made.text.name
    image.tofile(folder / "x")
    (dims,) = made.steps.outputs.values()
    results = int(np.prod(dims))
    (folder / "main.c").write_text(HARNESS.format(name=name, inputs=image.size, results=results))
    if edit[0]:
        source = (folder / f"{name}.c").read_text()
        assert edit[0] in source
        (folder / f"{name}.c").write_text(source.replace(*edit))
    flags = [flag for flag in made.flags if flag not in ("-O2", "-lm")]
    watch = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g"]
    command = [find_compiler(), *flags, *watch, "main.c", f"{name}.c", "-lm", "-o", "run"]
    subprocess.run(command, cwd=folder, check=True)
    done = subprocess.run(["./run"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    return np.fromfile(folder / "y", np.float32).reshape(dims), image


@pytest.mark.parametrize("name", ["joined", "shuffled"])
def test_networks_are_clean_under_sanitizers(name: str, tmp_path: Path) -> None:
    """The written files alone are enough, and no step touches more than its memory."""
    got, image = run_sanitized(SMALL[name], tmp_path, RUNNABLE[0])
    check([got], expected(tmp_path / "net.onnx", image))


def test_the_sanitizer_sees_a_step_that_goes_too_far(tmp_path: Path) -> None:
    edit = ("c < count; c++", "c < count + 1; c++")
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        run_sanitized(SMALL["shuffled"], tmp_path, "portable", edit)


# --- messages -----------------------------------------------------------------------------------


def refused(net: Net | onnx.ModelProto, folder: Path) -> list[str]:
    model = net if isinstance(net, onnx.ModelProto) else net.model()
    with pytest.raises(tw.InputError) as caught:
        generate_network(saved(model, folder))
    return [problem.what for problem in caught.value.problems]


def test_every_node_that_is_not_supported_is_named(tmp_path: Path) -> None:
    net = Net(1, 16, 6, 6)
    net.add("Sigmoid")
    net.add("Relu")  # what follows a node that failed is not reported
    net.last = "x"
    net.add("Resize", "", net.constant(np.float32, [1, 1, 2, 2]))
    net.last = "x"
    net.add("Transpose", perm=[0, 2, 3, 1])
    model = net.model("relu1", "resize2", "transpose3")
    found = refused(model, tmp_path)
    assert found == [
        "Sigmoid `n_sigmoid0`: this operator is not compiled",
        "Resize `n_resize2`: this operator is not compiled",
        "Transpose `n_transpose3`: axes (0, 2, 3, 1) of [1, 16, 6, 6]: "
        "only channel shuffles are compiled",
    ]


def test_other_types_are_named(tmp_path: Path) -> None:
    net = Net(1, 16, 6, 6)
    net.conv(16, 16)
    model = net.model()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    assert "input `x` is FLOAT16" in refused(model, tmp_path)[0]


def test_weights_that_are_fed_are_named(tmp_path: Path) -> None:
    net = Net(1, 16, 6, 6)
    net.inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, (16, 16, 3, 3)))
    net.add("Conv", "w")
    assert refused(net, tmp_path) == ["Conv `n_conv0`: its weights `w` are not constant"]


def test_sizes_are_asked_for_or_refused(tmp_path: Path) -> None:
    net = Net("n", 16, 6, 6)
    net.conv(16, 16)
    assert "input `x` has shape [n, 16, 6, 6]" in refused(net, tmp_path)[0]
    with pytest.raises(tw.InputError, match="GiB, the limit is 64"):
        generate_network(saved(net.model(), tmp_path), batch=10**9)


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    network = tw.compile_network(saved(SMALL["nested"], tmp_path), target="portable")
    with pytest.raises(tw.InputError, match="0 inputs, the network takes 1: x"):
        network()
    with pytest.raises(tw.InputError, match="input x is float64"):
        network(np.zeros((1, 32, 8, 8)))
    with pytest.raises(tw.InputError, match=r"input x has shape \(1, 32, 8, 9\), expected"):
        network(np.zeros((1, 32, 8, 9), np.float32))


# --- the command line ---------------------------------------------------------------------------


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_compile_of_a_file_is_one_program(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, out = saved(SMALL["shuffled"], tmp_path), tmp_path / "out"
    arguments = ("compile", str(path), "--target", "portable", "--out", str(out))
    found = document(capsys, *arguments, "--bench", "--seconds", "0.05")
    assert found["correct"] is True
    assert found["reference"].startswith("onnxruntime")
    assert 0 < found["max_error"] < found["allowed_error"]
    assert found["seconds"] > 0
    assert sorted(Path(name).name for name in found["files"]) == ["net.c", "net.h", "net.weights"]
    assert (out / "net.weights").stat().st_size == found["weight_bytes"]
    assert found["layers"][0]["name"] == "n_conv0"
    assert found["layers"][0]["accesses"]["predicted"]["l2"] > 0
    assert run(["compile", str(path), "--target", "portable", "--run"]) == 0
    assert "agrees with onnxruntime" in capsys.readouterr().out


def test_layers_of_a_file_are_still_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, out = saved(SMALL["nested"], tmp_path), tmp_path / "out"
    arguments = ("compile", str(path), "--target", "portable", "--out", str(out))
    found = document(capsys, *arguments, "--per-layer")
    assert len(found["layers"]) == len(list(out.glob("*.c"))) == 3


def test_nothing_is_written_if_a_node_is_not_supported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    net = Net(1, 16, 6, 6)
    net.add("Sigmoid")
    path, out = saved(net.model(), tmp_path), tmp_path / "out"
    found = document(capsys, "compile", str(path), "--out", str(out), code=2)
    assert "Sigmoid `n_sigmoid0`" in found["error"]["problems"][0]["what"]
    assert not out.exists()
    found = document(capsys, "compile", str(path), "--dtype", "int8", code=2)
    assert "--per-layer" in found["error"]["problems"][0]["fix"]


def test_a_wrong_network_is_exit_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = GeneratedNetwork.weights

    def off(made: GeneratedNetwork) -> Array:
        return original(made) * np.float32(1.001)

    monkeypatch.setattr(GeneratedNetwork, "weights", off)
    path = saved(SMALL["nested"], tmp_path)
    found = document(capsys, "compile", str(path), "--run", "--target", "portable", code=1)
    assert found["correct"] is False
