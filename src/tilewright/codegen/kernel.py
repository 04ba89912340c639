"""A layer as a function on numpy arrays: generated, compiled, loaded.

Owns: `compile_layer` (`tilewright.compile`) and the `Kernel` that it returns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen import cpu as cpus
from tilewright.codegen.blocking import Choice, check_threads, choose_blocking
from tilewright.codegen.build import build_library, compiler_flags
from tilewright.codegen.cpu import Cpu
from tilewright.codegen.describe import describe
from tilewright.codegen.emit import Program, emit
from tilewright.codegen.shape import Arrays, Ranks, Shape, read_shape
from tilewright.codegen.targets import AVX512, AVX512_VNNI, TARGETS, VNNI, Target
from tilewright.codegen.tiling import Layout
from tilewright.errors import InputError, MissingToolError, Problem, did_you_mean
from tilewright.ir.workload import Workload

if TYPE_CHECKING:
    from cffi import FFI

Array = NDArray[Any]
ALIGNMENT_BYTES = 64
INSTALL_CFFI = "pip install 'tilewright[compile]'"
_GIVEN = {"float32": np.float32, "int8": np.int8}
_SUMS = {"float32": np.float32, "int8": np.int32}


@dataclass(frozen=True, slots=True)
class Generated:
    """A program with all that it was made from.

    Attributes:
        workload: the layer.
        shape: as the generator sees it.
        arrays: how the user's arrays map to it.
        cpu: that it is blocked for.
        target: its instruction set.
        choice: the blocking, and the traffic that the model predicts.
        program: its text.
    """

    workload: Workload
    shape: Shape
    arrays: Arrays
    cpu: Cpu
    target: Target
    choice: Choice
    program: Program

    @property
    def flags(self) -> tuple[str, ...]:
        """What the compiler is told."""
        return compiler_flags(self.target, threads=self.choice.blocking.threads)

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write the `.c` and the `.h` file into a folder; returns their paths.

        Raises: `InputError` if that cannot be done.
        """
        place = Path(folder)
        files = (place / f"{self.program.name}.c", place / f"{self.program.name}.h")
        try:
            place.mkdir(parents=True, exist_ok=True)
            for path, text in zip(files, (self.program.source, self.program.header), strict=True):
                path.write_text(text, "utf-8")
        except OSError as error:
            what = f"{place} cannot be written: {error.strerror}"
            raise InputError(Problem(what, "name another folder")) from None
        return files


def generate(  # noqa: PLR0913
    workload: Workload,
    *,
    cpu: Cpu | None = None,
    target: str = "native",
    dtype: str = "float32",
    relu: bool = False,
    pool: str = "sum",
    threads: int = 1,
    objective: str = "time",
) -> Generated:
    """Write the C program of a layer, blocked for the caches of a CPU. Nothing is compiled.

    Args:
        workload: a convolution, a matrix product, or a pooling.
        cpu: whose caches and registers; this machine if left out.
        target: `native`, or the name of an instruction set: `avx512`, `avx2`, `neon`, `portable`.
        dtype: `float32`, or `int8` with 32-bit sums.
        relu: results below 0 become 0.
        pool: what pooling does: `sum`, `average` (of what is no padding) or `max`.
        threads: cores that share the work.
        objective: `time`, or `accesses` for the fewest lines fetched into all caches together.

    Raises: `InputError` for what is not supported, or a layer of absurd size.

    >>> from tilewright.ir.workload import conv2d
    >>> layer = conv2d("small", K=32, C=16, P=8, Q=8, R=3, S=3)
    >>> generate(layer, target="portable").program.name
    'small'

    Source: `docs/compile.md`.
    """
    machine = cpu or cpus.host()
    shape, arrays = read_shape(workload, dtype=dtype, relu=relu, pool=pool)
    chosen = find_target(machine, target)
    if dtype == "int8" and chosen is AVX512 and VNNI in machine.flags:
        chosen = AVX512_VNNI
    check_threads(threads, workload.name)
    choice = choose_blocking(shape, machine, chosen, objective=objective, threads=threads)
    program = emit(choice.plan, describe(workload, machine, choice))
    return Generated(workload, shape, arrays, machine, chosen, choice, program)


def find_target(cpu: Cpu, name: str) -> Target:
    """The instruction set of that name; `native` is the CPU's best. Raises `InputError`."""
    if name == "native":
        return cpu.native()
    if name not in TARGETS:
        fix = did_you_mean(name, ["native", *TARGETS])
        raise InputError(Problem(f"`{name}` is no target", fix))
    return TARGETS[name]


def compile_layer(  # noqa: PLR0913
    workload: Workload,
    *,
    cpu: Cpu | None = None,
    target: str = "native",
    dtype: str = "float32",
    relu: bool = False,
    pool: str = "sum",
    threads: int = 1,
    objective: str = "time",
) -> "Kernel":
    """Compile a layer for this machine; returns a function on numpy arrays.

    Args: see `generate`.

    Raises:
        InputError: for what is not supported, or a target that this machine does not run.
        MissingToolError: there is no compiler, or it fails, or cffi is not installed.

    >>> import numpy as np
    >>> from tilewright.ir.workload import conv2d
    >>> kernel = compile_layer(conv2d("ones", K=2, C=3, P=4, Q=4, R=3, S=3))
    >>> kernel(np.ones((1, 3, 6, 6), np.float32), np.ones((2, 3, 3, 3), np.float32))[0, 1, 2, 3]
    np.float32(27.0)

    Source: `docs/compile.md`.
    """
    made = generate(
        workload,
        cpu=cpu,
        target=target,
        dtype=dtype,
        relu=relu,
        pool=pool,
        threads=threads,
        objective=objective,
    )
    return load_kernel(made)


def load_kernel(made: Generated) -> "Kernel":
    """Compile a generated program, unless the cache has it, and load it.

    Raises: see `compile_layer`.
    """
    machine = cpus.host()
    if not machine.supports(made.target):
        what = f"this machine ({machine.name}) does not run {made.target.name}"
        raise InputError(Problem(what, f"use {machine.native().name}", made.workload.name))
    ffi = make_ffi()
    library = build_library(made.program.name, made.program.source, made.flags)
    ffi.cdef(made.program.declarations)
    return Kernel(made, library, ffi, ffi.dlopen(str(library)))


def make_ffi() -> "FFI":
    """A foreign function interface. Raises `MissingToolError` without cffi."""
    try:
        from cffi import FFI
    except ImportError:
        raise MissingToolError(Problem("cffi is not installed", INSTALL_CFFI)) from None
    return FFI()


@dataclass(frozen=True, slots=True)
class Kernel:
    """A compiled layer: `kernel(image, weights, bias)` returns the output.

    To pack once and run often: `pack_weights`, `pack_image`, `run`, `unpack_output`.

    Attributes:
        made: the program and what it was made from.
        library: the shared library.
    """

    made: Generated
    library: Path
    _ffi: Any = field(repr=False)
    _lib: Any = field(repr=False)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of the image, as users have it."""
        return self.made.arrays.user_shape(self.made.arrays.image)

    @property
    def weight_shape(self) -> tuple[int, ...] | None:
        """The shape of the weights; `None` for pooling."""
        ranks = self.made.arrays.weights
        return None if ranks is None else self.made.arrays.user_shape(ranks)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the output."""
        return self.made.arrays.user_shape(self.made.arrays.output)

    def __call__(
        self, image: Array, weights: Array | None = None, bias: Array | None = None
    ) -> Array:
        """Compute the layer.

        Args:
            image: of `image_shape`; rows and columns that no filter reaches may be there, too.
            weights: of `weight_shape`; none for pooling.
            bias: one for each output channel, of all groups; none for pooling.

        Returns: the output, float32, or int32 for int8.

        Raises: `InputError` if a shape or a type does not fit.
        """
        packed = self.pack_weights(weights, bias)
        return self.unpack_output(self.run(self.pack_image(image), packed))

    def pack_image(self, image: Array) -> Array:
        """Bring an image into the layout of the program."""
        given = self.canonical_image(image)
        packed = self._empty(self._layout.image_elements)
        self._call("pack_image", given, packed)
        return packed

    def pack_weights(self, weights: Array | None, bias: Array | None = None) -> Array:
        """Bring weights and biases into the order in which the program reads them."""
        shape, ranks = self.made.shape, self.made.arrays.weights
        if (weights is None) != (ranks is None) or (ranks is None and bias is not None):
            need = "no weights and no bias" if ranks is None else "weights"
            raise InputError(Problem(f"the layer takes {need}", "", shape.name))
        packed = self._empty(max(self._layout.weight_elements, 1))
        if weights is None or ranks is None:
            return packed
        given = self.canonical_weights(weights)
        self._call("pack_weights", given, self._bias(bias), packed)
        return packed

    def _bias(self, bias: Array | None) -> Array | None:
        if bias is None:
            return None
        shape, wanted = self.made.shape, _SUMS[self.made.shape.dtype]
        if bias.size != shape.groups * shape.outputs or bias.dtype != wanted:
            what = f"a bias of {bias.size} {bias.dtype}, expected {shape.groups * shape.outputs} "
            raise InputError(Problem(f"{what}{np.dtype(wanted)}", "", shape.name))
        return np.ascontiguousarray(bias)

    def run(self, image: Array, weights: Array, output: Array | None = None) -> Array:
        """Compute on packed arrays; returns the packed output.

        Args:
            image: from `pack_image`.
            weights: from `pack_weights`.
            output: where to put the output; a new array if left out.

        Raises: `InputError` if an array is not one of these.
        """
        layout = self._layout
        result = self._empty(layout.output_elements) if output is None else output
        sizes = (layout.image_elements, max(layout.weight_elements, 1), layout.output_elements)
        for array, size, what in zip(
            (image, weights, result), sizes, ("image", "weights", "output"), strict=True
        ):
            if array.size != size or array.dtype != _SUMS[self.made.shape.dtype]:
                found = f"the packed {what} has {array.size} {array.dtype}, expected {size}"
                raise InputError(Problem(found, f"use pack_{what}", self.made.shape.name))
        self._call("run", image, weights, result)
        return result

    def bound_run(self, image: Array, weights: Array, output: Array) -> Callable[[], None]:
        """`run` on these packed arrays as a function without arguments, to be timed."""
        self.run(image, weights, output)
        function = getattr(self._lib, f"{self.made.program.name}_run")
        pointers = [
            self._ffi.from_buffer(_pointer(array), array) for array in (image, weights, output)
        ]

        def call(owner: Kernel = self) -> None:  # it must outlive the library
            del owner
            function(*pointers)

        return call

    def unpack_output(self, packed: Array) -> Array:
        """Bring a packed output into the user's shape."""
        shape = self.made.shape
        plain = np.empty(shape.output_shape, _SUMS[shape.dtype])
        self._call("unpack_output", packed, plain)
        return self.from_canonical(plain)

    def canonical_image(self, image: Array) -> Array:
        """The image as [batch, group, channel, row, column], checked."""
        return self._canonical(image, "image", self.made.arrays.image, "NGCPQ")

    def canonical_weights(self, weights: Array) -> Array:
        """The weights as [group, output, input, filter row, filter column], checked."""
        ranks = self.made.arrays.weights
        assert ranks is not None  # pooling has none, and says so before
        return self._canonical(weights, "weights", ranks, "GKCRS")

    def from_canonical(self, output: Array) -> Array:
        """An output [batch, group, channel, row, column] in the user's shape."""
        ranks = self.made.arrays.output
        return _from_canonical(output, ranks, "NGKPQ").reshape(self.output_shape)

    @property
    def _layout(self) -> Layout:
        return self.made.choice.plan.layout

    def _empty(self, elements: int) -> Array:
        """An array that begins at a line of the caches."""
        return empty_aligned(elements, np.dtype(_SUMS[self.made.shape.dtype]))

    def _call(self, function: str, *arrays: Array | None) -> None:
        pointers = [
            self._ffi.NULL if array is None else self._ffi.from_buffer(_pointer(array), array)
            for array in arrays
        ]
        getattr(self._lib, f"{self.made.program.name}_{function}")(*pointers)

    def _canonical(self, array: Array, what: str, ranks: Ranks, order: str) -> Array:
        shape, arrays = self.made.shape, self.made.arrays
        wanted, sizes = _GIVEN[shape.dtype], ranks[1]
        if array.dtype != wanted:
            found = f"the {what} is {array.dtype}, the program takes {np.dtype(wanted)}"
            raise InputError(Problem(found, f"{what}.astype({np.dtype(wanted)})", shape.name))
        fitting = _cropped(array, arrays, shape) if what == "image" else array
        if fitting.shape not in (sizes, arrays.user_shape(ranks)):
            found = f"the {what} has shape {array.shape}, expected {arrays.user_shape(ranks)}"
            raise InputError(Problem(found, "", shape.name))
        return _to_canonical(fitting.reshape(sizes), ranks[0], order)


def empty_aligned(elements: int, dtype: np.dtype[Any]) -> Array:
    """An array that begins at a line of the caches."""
    raw = np.empty(elements * dtype.itemsize + ALIGNMENT_BYTES, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT_BYTES
    return raw[start : start + elements * dtype.itemsize].view(dtype)


def _pointer(array: Array) -> str:
    return {"float32": "float[]", "int8": "int8_t[]", "int32": "int32_t[]"}[array.dtype.name]


def _cropped(array: Array, arrays: Arrays, shape: Shape) -> Array:
    """The image without the last rows and columns that no filter reaches.

    A workload keeps what is touched; an image of 56 rows read with stride 2 may have one more.
    """
    slack = {"P": shape.rows.stride - 1, "Q": shape.columns.stride - 1}
    letters, sizes = arrays.letters(arrays.image), arrays.user_shape(arrays.image)
    if array.ndim == len(arrays.image[1]):
        letters, sizes = arrays.image
    if len(letters) != array.ndim:
        return array
    pairs = zip(letters, array.shape, sizes, strict=True)
    cuts = [
        slice(size) if 0 < have - size <= slack.get(letter, 0) else slice(None)
        for letter, have, size in pairs
    ]
    return array[tuple(cuts)]


def _to_canonical(array: Array, letters: str, order: str) -> Array:
    """Transpose to the generator's order, dims of one role together, roles that lack as 1."""
    axes = [axis for role in order for axis, letter in enumerate(letters) if letter == role]
    sizes = [
        math.prod(size for size, letter in zip(array.shape, letters, strict=True) if letter == role)
        for role in order
    ]
    return np.ascontiguousarray(array.transpose(axes)).reshape(sizes)


def _from_canonical(array: Array, ranks: Ranks, order: str) -> Array:
    letters, sizes = ranks
    axes = [axis for role in order for axis, letter in enumerate(letters) if letter == role]
    split = array.reshape([sizes[axis] for axis in axes])
    return np.ascontiguousarray(split.transpose(np.argsort(axes)))
