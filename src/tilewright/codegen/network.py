"""A whole network as one C program, and as a function on numpy arrays.

Owns: `generate_network`, `compile_network` (`tilewright.compile_network`), the `CompiledNetwork`
that it returns.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen import cpu as cpus
from tilewright.codegen.arena import Arena, place_buffers
from tilewright.codegen.blocking import Choice, check_threads, choose_blocking
from tilewright.codegen.build import build_library, compiler_flags
from tilewright.codegen.cpu import Cpu
from tilewright.codegen.describe import describe
from tilewright.codegen.emit_network import NetworkText, emit_network, raw_weights
from tilewright.codegen.kernel import empty_aligned, find_target, make_ffi
from tilewright.codegen.lower import lower
from tilewright.codegen.shape import MOST_BYTES, Shape
from tilewright.codegen.steps import KernelStep, MoveStep, Steps
from tilewright.codegen.targets import Target
from tilewright.errors import InputError, Problem
from tilewright.frontend.onnx_values import read_graph
from tilewright.ir.quantity import format_bytes

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class GeneratedNetwork:
    """A network's program with all that it was made from.

    Attributes:
        steps: the network, before buffers were placed.
        arena: the steps that the program takes, and where their buffers lie.
        cpu: that it is blocked for.
        target: its instruction set.
        choices: the blocking of each different shape.
        threads: cores that share the work of a step.
        text: the program.
        seconds: that generating it took.
    """

    steps: Steps
    arena: Arena
    cpu: Cpu
    target: Target
    choices: Mapping[Shape, Choice]
    threads: int
    text: NetworkText
    seconds: float = field(compare=False, default=0.0)

    @property
    def kernels(self) -> list[KernelStep]:
        """The convolutions, products and poolings, in order."""
        return [step for step in self.arena.steps if isinstance(step, KernelStep)]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and products, those on padding included."""
        return sum(step.shape.macs for step in self.kernels if not step.shape.pool)

    @property
    def copies(self) -> list[MoveStep]:
        """The steps that only move data; those at the inputs and outputs are among them."""
        return [step for step in self.arena.steps if isinstance(step, MoveStep)]

    @property
    def flags(self) -> tuple[str, ...]:
        """What the compiler is told."""
        flags = compiler_flags(self.target, threads=self.threads)
        return (*flags, "-fno-math-errno", "-lm")

    def weights(self) -> NDArray[np.float32]:
        """The contents of the file of weights."""
        arrays = [array.ravel() for array in raw_weights(self.arena.steps)]
        return np.concatenate(arrays) if arrays else np.zeros(0, np.float32)

    def write(self, folder: str | Path) -> tuple[Path, ...]:
        """Write the `.c`, `.h` and `.weights` files into a folder; returns their paths.

        Raises: `InputError` if that cannot be done.
        """
        place, name = Path(folder), self.text.name
        files = tuple(place / f"{name}.{kind}" for kind in ("c", "h", "weights"))
        try:
            place.mkdir(parents=True, exist_ok=True)
            files[0].write_text(self.text.source, "utf-8")
            files[1].write_text(self.text.header, "utf-8")
            with files[2].open("wb") as file:
                for array in raw_weights(self.arena.steps):
                    file.write(array.astype("<f4").tobytes())
        except OSError as error:
            what = f"{place} cannot be written: {error.strerror}"
            raise InputError(Problem(what, "name another folder")) from None
        return files


def generate_network(  # noqa: PLR0913
    path: Path | str,
    *,
    batch: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    cpu: Cpu | None = None,
    target: str = "native",
    threads: int = 1,
    objective: str = "time",
) -> GeneratedNetwork:
    """Write the C program of a whole ONNX network, blocked for a CPU's caches.

    Args:
        path: the ONNX file, with its weights.
        batch: the first size of every input that leaves it open.
        shapes: the sizes of inputs, by name, where the file leaves them open.
        cpu: whose caches and registers; this machine if left out.
        target: `native`, or the name of an instruction set.
        threads: cores that share the work of each convolution.
        objective: `time`, or `accesses`, of each convolution.

    Raises: `InputError`, naming every node that is not supported, before anything is written.

    Source: `docs/compile.md`, Whole networks.
    """
    start = time.perf_counter()
    machine = cpu or cpus.host()
    chosen = find_target(machine, target)
    check_threads(threads)
    steps = lower(read_graph(path, batch=batch, shapes=shapes), chosen.lanes)
    arena = place_buffers(steps)
    choices = _choices(arena, machine, chosen, objective, threads)
    comments = {shape: _comment(arena, shape, machine, choice) for shape, choice in choices.items()}
    head = _head(steps, arena, machine, chosen, choices)
    text = emit_network(steps, arena, choices, chosen, comments, head)
    needed = (text.packed_elements + text.workspace_elements) * 4
    if needed > MOST_BYTES:
        what = f"it needs {needed / 2**30:,.0f} GiB, the limit is {MOST_BYTES >> 30} GiB"
        raise InputError(Problem(what, "make the network or its batch smaller", steps.name))
    seconds = time.perf_counter() - start
    return GeneratedNetwork(steps, arena, machine, chosen, choices, threads, text, seconds)


def _choices(
    arena: Arena, cpu: Cpu, target: Target, objective: str, threads: int
) -> dict[Shape, Choice]:
    """A blocking for each different shape."""
    found: dict[Shape, Choice] = {}
    for step in arena.steps:
        if isinstance(step, KernelStep) and step.shape not in found:
            choice = choose_blocking(step.shape, cpu, target, objective=objective, threads=threads)
            plan = replace(choice.plan, prefix=f"kernel{len(found)}_")
            found[step.shape] = replace(choice, plan=plan)
    return found


def _comment(arena: Arena, shape: Shape, cpu: Cpu, choice: Choice) -> str:
    """What stands before a kernel: the nodes that use it, its nest, its traffic."""
    nodes = [
        step.node for step in arena.steps if isinstance(step, KernelStep) and step.shape == shape
    ]
    named = replace(choice.traffic.workload, name=", ".join(nodes))
    return describe(named, cpu, choice)


def _head(
    steps: Steps, arena: Arena, cpu: Cpu, target: Target, choices: Mapping[Shape, Choice]
) -> str:
    kernels = [step for step in arena.steps if isinstance(step, KernelStep)]
    macs = sum(step.shape.macs for step in kernels if not step.shape.pool)
    return "\n".join(
        [
            f"{steps.name}, a network of {steps.producer}",
            f"{macs:,} multiply-accumulates in {len(kernels)} convolutions, products and poolings",
            f"float32; {target.name}; for {cpu.name}, {cpu.geometry}; written by tilewright",
            "",
            f"{len(choices)} different kernels, {len(arena.steps)} steps, a workspace of "
            f"{format_bytes(32 * arena.elements)}.",
            f"Between steps channels stand in blocks of {steps.lanes}: "
            "[image][block][row][column][lane].",
        ]
    )


def compile_network(  # noqa: PLR0913
    path: Path | str,
    *,
    batch: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    cpu: Cpu | None = None,
    target: str = "native",
    threads: int = 1,
    objective: str = "time",
) -> "CompiledNetwork":
    """Compile a whole ONNX network for this machine; returns a function on numpy arrays.

    Args: see `generate_network`.

    Returns: a function of the graph's inputs, which returns its output, or a tuple of them.

    Raises:
        InputError: for nodes that are not supported, or a target that this machine does not run.
        MissingToolError: there is no compiler, or it fails, or cffi is not installed.

    >>> import onnx.backend.test, numpy as np
    >>> folder = Path(onnx.backend.test.__file__).parent / "data" / "simple"
    >>> network = compile_network(folder / "test_single_relu_model" / "model.onnx")
    >>> network(np.array([[-1, 2]], np.float32))
    array([[0., 2.]], dtype=float32)

    Source: `docs/compile.md`, Whole networks.
    """
    made = generate_network(
        path,
        batch=batch,
        shapes=shapes,
        cpu=cpu,
        target=target,
        threads=threads,
        objective=objective,
    )
    return load_network(made)


def load_network(made: GeneratedNetwork) -> "CompiledNetwork":
    """Compile a generated network, unless the cache has it, load it and pack its weights.

    Raises: see `compile_network`.
    """
    machine = cpus.host()
    if not machine.supports(made.target):
        what = f"this machine ({machine.name}) does not run {made.target.name}"
        raise InputError(Problem(what, f"use {machine.native().name}", made.steps.name))
    ffi = make_ffi()
    start = time.perf_counter()
    library = build_library(made.text.name, made.text.source, made.flags)
    seconds = time.perf_counter() - start
    ffi.cdef(made.text.declarations)
    loaded = ffi.dlopen(str(library))
    packed: Any = empty_aligned(made.text.packed_elements, np.dtype(np.float32))
    weights: Any = made.weights()
    pack = getattr(loaded, f"{made.text.name}_pack_weights")
    pack(ffi.from_buffer("float[]", weights), ffi.from_buffer("float[]", packed))
    workspace = empty_aligned(made.text.workspace_elements, np.dtype(np.float32))
    return CompiledNetwork(made, library, seconds, packed, workspace, ffi, loaded)


@dataclass(frozen=True, slots=True)
class CompiledNetwork:
    """A compiled network: `network(*inputs)` returns its output, or a tuple of outputs.

    Not to be called from several threads at once: it has one workspace.

    Attributes:
        made: the program and what it was made from.
        library: the shared library.
        seconds: that compiling took; next to nothing if the cache had it.
    """

    made: GeneratedNetwork
    library: Path
    seconds: float
    _packed: Array = field(repr=False)
    _workspace: Array = field(repr=False)
    _ffi: Any = field(repr=False)
    _lib: Any = field(repr=False)

    def __call__(self, *inputs: Array) -> Array | tuple[Array, ...]:
        """Run the network.

        Args:
            inputs: in the graph's order, float32, of its shapes.

        Raises: `InputError` if their number, a shape or a type does not fit.
        """
        given = self.checked(inputs)
        made = [np.empty(dims, np.float32) for dims in self.made.steps.outputs.values()]
        self._call(given, made)
        return made[0] if len(made) == 1 else tuple(made)

    def checked(self, inputs: tuple[Array, ...]) -> list[Array]:
        """The inputs, contiguous. Raises `InputError` if they are not what the graph takes."""
        wanted, name = self.made.steps.inputs, self.made.steps.name
        if len(inputs) != len(wanted):
            what = f"{len(inputs)} inputs, the network takes {len(wanted)}: {', '.join(wanted)}"
            raise InputError(Problem(what, "", name))
        for array, (tensor, dims) in zip(inputs, wanted.items(), strict=True):
            if array.dtype != np.float32:
                what = f"input {tensor} is {array.dtype}, the program takes float32"
                raise InputError(Problem(what, f"{tensor}.astype('float32')", name))
            if array.shape != dims:
                what = f"input {tensor} has shape {array.shape}, expected {dims}"
                raise InputError(Problem(what, "", name))
        return [np.ascontiguousarray(array) for array in inputs]

    def bound_run(self, *inputs: Array) -> Any:
        """A function without arguments that runs the network on these inputs, to be timed."""
        given = self.checked(inputs)
        made = [np.empty(dims, np.float32) for dims in self.made.steps.outputs.values()]
        return lambda: self._call(given, made)

    def _call(self, given: list[Array], made: list[Array]) -> None:
        arrays = [*given, self._packed, *made, self._workspace]
        pointers = [self._ffi.from_buffer("float[]", array) for array in arrays]
        getattr(self._lib, f"{self.made.text.name}_run")(*pointers)
