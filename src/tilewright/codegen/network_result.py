"""What became of a network: its program, whether it is right, how fast it is.

Owns: `examine_network`, which runs a compiled network against onnxruntime, or ONNX's own reference
where that is not installed; the document of `tilewright compile NET.onnx --json`.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.network import CompiledNetwork, GeneratedNetwork, load_network
from tilewright.codegen.result import by_level
from tilewright.codegen.steps import KernelStep
from tilewright.errors import MissingToolError, Problem
from tilewright.ir.mapping import format_mapping

Array = NDArray[Any]
TOLERANCE = 1e-4
"""Of the largest output: what the order of sums may change, over many layers."""
MOST_SAMPLES = 101


@dataclass(frozen=True, slots=True)
class NetworkCheck:
    """How the outputs compare.

    Attributes:
        correct: finite, and within the tolerance everywhere.
        max_error: the largest difference.
        allowed_error: `TOLERANCE` times the largest output.
        reference: what it was compared with.
        telling: whether the outputs differ from one another: constant weights make them equal.
    """

    correct: bool
    max_error: float
    allowed_error: float
    reference: str
    telling: bool = True


@dataclass(frozen=True, slots=True)
class NetworkProgram:
    """A network's program, and what is known of it.

    Attributes:
        made: the program.
        library: where it is built; `None` if it is not.
        compile_seconds: that building took.
        check: how its outputs compare; `None` if it was not run.
        seconds: of one run, the median; `None` if it was not measured.
        samples: how many were taken.
    """

    made: GeneratedNetwork
    library: Path | None = None
    compile_seconds: float | None = None
    check: NetworkCheck | None = None
    seconds: float | None = None
    samples: int = 0


def examine_network(
    made: GeneratedNetwork,
    path: Path | str,
    *,
    check: bool = False,
    bench: bool = False,
    seconds: float = 1.0,
) -> NetworkProgram:
    """Build a network's program; run it against a reference and measure it, if asked for.

    Raises: see `network.load_network`.
    """
    network = load_network(made)
    inputs = random_inputs(made.steps.inputs)
    compared = compare(network, path, inputs) if check else None
    times = _times(network, inputs, seconds) if bench else []
    median = statistics.median(times) if times else None
    return NetworkProgram(made, network.library, network.seconds, compared, median, len(times))


def random_inputs(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> list[Array]:
    """Inputs from a normal distribution."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(dims, np.float32) for dims in shapes.values()]


def compare(network: CompiledNetwork, path: Path | str, inputs: list[Array]) -> NetworkCheck:
    """Run a network and a reference on the same inputs."""
    run, name = find_reference(path)
    found = network(*inputs)
    got = found if isinstance(found, tuple) else (found,)
    want = run(dict(zip(network.made.steps.inputs, inputs, strict=True)))
    error, allowed, correct, telling = 0.0, 0.0, True, True
    for one, other in zip(got, want, strict=True):
        exact = np.asarray(other, np.float64).reshape(one.shape)
        finite = bool(np.isfinite(one).all() and np.isfinite(exact).all())
        correct = correct and finite
        telling = telling and (exact.size == 1 or float(np.ptp(exact)) > 0)
        if finite:
            error = max(error, float(np.abs(one - exact).max()))
            allowed = max(allowed, TOLERANCE * float(np.abs(exact).max()))
            correct = correct and error <= allowed
    return NetworkCheck(correct, error, allowed, name, telling)


def find_reference(path: Path | str) -> tuple[Callable[[dict[str, Array]], Any], str]:
    """A function from inputs by name to all outputs, and what it is."""
    if find_spec("onnxruntime"):
        runtime: Any = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, inputs), f"onnxruntime {runtime.__version__}"
    onnx: Any = import_module("onnx")
    if any(node.op_type == "LRN" for node in onnx.load(str(path), False).graph.node):
        what = "onnxruntime is not installed, and ONNX's own reference of LRN is wrong"
        raise MissingToolError(Problem(what, "pip install onnxruntime"))
    evaluator: Any = import_module("onnx.reference").ReferenceEvaluator(str(path))
    return lambda inputs: evaluator.run(None, inputs), f"onnx {onnx.__version__}'s reference"


def _times(network: CompiledNetwork, inputs: list[Array], seconds: float) -> list[float]:
    clock = time.perf_counter if network.made.threads > 1 else time.thread_time
    run = network.bound_run(*inputs)
    run()
    times: list[float] = []
    deadline = time.monotonic() + seconds
    while len(times) < MOST_SAMPLES and (len(times) < 3 or time.monotonic() < deadline):
        start = clock()
        run()
        times.append(clock() - start)
    return times


def summarise_network(program: NetworkProgram) -> dict[str, Any]:
    """The document of a network."""
    made = program.made
    document: dict[str, Any] = {
        "name": made.steps.name,
        "cpu": made.cpu.name,
        "geometry": made.cpu.geometry,
        "target": made.target.name,
        "dtype": "float32",
        "macs": made.macs,
        "function": made.text.name,
        "kernels": len(made.choices),
        "steps": len(made.arena.steps),
        "workspace_bytes": 4 * made.text.workspace_elements,
        "weight_bytes": 4 * made.text.raw_elements,
        "library": None if program.library is None else str(program.library),
        "generate_seconds": made.seconds,
        "compile_seconds": program.compile_seconds,
        "layers": [_layer(made, step) for step in made.kernels],
    }
    if program.check:
        check = program.check
        document |= {"correct": check.correct, "max_error": check.max_error}
        document |= {"allowed_error": check.allowed_error, "reference": check.reference}
        document["telling"] = check.telling
    if program.seconds:
        document |= {"seconds": program.seconds, "samples": program.samples}
        document["gflops"] = 2 * made.macs / program.seconds / 1e9
        document["clock"] = "wall" if made.threads > 1 else "cpu"
    return document


def _layer(made: GeneratedNetwork, step: KernelStep) -> dict[str, Any]:
    choice = made.choices[step.shape]
    blocking = choice.blocking
    return {
        "name": step.node,
        "function": f"{choice.plan.prefix}run",
        "macs": step.shape.macs,
        "mapping": format_mapping(choice.traffic.mapping),
        "objective": choice.objective,
        "blocking": {
            "vectors": blocking.vectors,
            "width": blocking.width,
            "chunk": blocking.chunk,
            "rows": blocking.rows,
            "tiles": blocking.tiles,
            "order": list(blocking.order),
            "threads": blocking.threads,
        },
        "accesses": {
            "geometry": made.cpu.geometry,
            "predicted": by_level([part.total_lines for part in choice.traffic.caches]),
            "expected": by_level(choice.expected),
        },
    }
