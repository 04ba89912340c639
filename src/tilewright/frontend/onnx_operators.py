"""ONNX operators as workloads.

Owns: which operators are costed, and the loop nest of each.

Non-goals: files and graphs (`frontend/onnx_graph.py`); what is computed beside the products, such
as a bias, a scale or an activation, which costs nothing here.

Dims are named so that a chip written for convolutions runs everything: N K C P Q R S, with Z and T
for the depth of three-dimensional ones, G for groups and B for the batch of a matrix product. A
fully connected layer is a 1×1 convolution without its P and Q.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tilewright.errors import InputError
from tilewright.frontend.onnx_windows import (
    Call,
    Range,
    Sizes,
    Window,
    read_auto_pad,
    read_slides,
    read_windows,
)
from tilewright.ir.workload import ParsedOperand, Rank, Term, Workload, conv2d, make_workload

AXES = (("Z", "T"), ("P", "R"), ("Q", "S"))
"""The output's and the filter's letter of depth, height and width; the last ones are used."""

QUANTIZED = (("W", 8), ("I", 8), ("O", 8), ("psum", 32))
INTEGER = (("W", 8), ("I", 8), ("O", 32), ("psum", 32))


@dataclass(frozen=True, slots=True)
class Operator:
    """How an operator is costed.

    `operands` are the places of I, and of W if it has weights, among its inputs; `bits` are word
    sizes that its definition fixes.
    """

    make: Callable[[Call], Workload]
    operands: tuple[int, ...]
    bits: tuple[tuple[str, int], ...] = ()


def convolution(call: Call) -> Workload:
    """Conv: `O[N,K,P,Q] += W[K,C,R,S] * I[N,C,P+R,Q+S]`, with one, two or three axes.

    One axis is a convolution of height 1. Padding is not data.
    """
    image, weights, groups = _image_and_weights(call)
    if image[1] != weights[1] * groups or weights[0] % groups:
        raise _misfit(call, groups)
    windows = read_windows(call, image[2:], weights[2:])
    channels = {"N": image[0], "G": groups, "K": weights[0] // groups, "C": weights[1]}
    if len(windows) < len(AXES):
        return _flat_convolution(call, channels, windows)
    steps, taps = _letters(windows)
    places = tuple(window.steps for window in windows)
    sizes = channels | dict(zip(steps + taps, places + weights[2:], strict=True))
    output = ("O", (*_plain("NGK"), *_plain(steps)))
    filters = ("W", (*_plain("GKC"), *_plain(taps)))
    inputs = ("I", (*_plain("NGC"), *_ranks(windows, places, _unpadded(windows))))
    return _without_groups(call, sizes, output, [filters, inputs])


def _flat_convolution(call: Call, sizes: Mapping[str, int], windows: list[Window]) -> Workload:
    row, column = [Window(1, 1, 1, 1, 0, 0), *windows][-2:]
    return conv2d(
        call.name,
        N=sizes["N"],
        G=sizes["G"],
        K=sizes["K"],
        C=sizes["C"],
        R=row.taps,
        S=column.taps,
        stride=(row.stride, column.stride),
        dilation=(row.dilation, column.dilation),
        padding=(row.before, column.before, row.after, column.after),
        in_height=row.size,
        in_width=column.size,
        bits=call.bits,
    )


def transposed_convolution(call: Call) -> Workload:
    """ConvTranspose: `O[N,K,P+R,Q+S] += W[C,K,R,S] * I[N,C,P,Q]`, with one, two or three axes.

    P and Q are places of the input. Every word of it meets every tap, and all these products are
    counted, those too whose sum the padding cuts off the output; what is cut off is not data.
    """
    image, weights, groups = _image_and_weights(call)
    if image[1] != weights[0] or weights[0] % groups:
        raise _misfit(call, groups)
    places, taps = image[2:], weights[2:]
    windows = read_slides(call, places, taps)
    steps, letters = _letters(windows)
    sizes = {"N": image[0], "G": groups, "K": weights[1], "C": weights[0] // groups}
    sizes |= dict(zip(steps + letters, places + taps, strict=True))
    output = ("O", (*_plain("NGK"), *_ranks(windows, places, _uncropped(call, windows))))
    filters = ("W", (*_plain("GCK"), *_plain(letters)))
    inputs = ("I", (*_plain("NGC"), *_plain(steps)))
    return _without_groups(call, sizes, output, [filters, inputs])


def _uncropped(call: Call, windows: list[Window]) -> list[Range]:
    """Where the output lies in what the products touch (ONNX's page on ConvTranspose)."""
    zeros = (0,) * len(windows)
    mode, extra = read_auto_pad(call), call.integers("output_padding", zeros)
    touched = [window.span(window.size) + more for window, more in zip(windows, extra, strict=True)]
    if "output_shape" in call.attributes or mode.startswith("SAME"):
        sizes = call.integers("output_shape", tuple(w.size * w.stride for w in windows))
        cut = [max(all_of_it - size, 0) for all_of_it, size in zip(touched, sizes, strict=True)]
        firsts = [total // 2 if mode == "SAME_UPPER" else total - total // 2 for total in cut]
    else:
        pads = zeros * 2 if mode == "VALID" else call.integers("pads", zeros * 2)
        firsts, lasts = pads[: len(zeros)], pads[len(zeros) :]
        numbers = zip(touched, firsts, lasts, strict=True)
        sizes = tuple(all_of_it - first - last for all_of_it, first, last in numbers)
    for first, size, window in zip(firsts, sizes, windows, strict=True):
        if size < 1 or not 0 <= first < window.span(window.size):
            raise call.problem("its padding leaves nothing of the output", "use less padding")
    return [(first, first + size) for first, size in zip(firsts, sizes, strict=True)]


def pooling(call: Call) -> Workload:
    """MaxPool, AveragePool, LpPool: `O[N,C,P,Q] += I[N,C,P+R,Q+S]`, with one, two or three axes.

    Padding is not data, whether an average counts it or not.
    """
    (image,) = call.shapes
    kernel = call.attributes.get("kernel_shape")
    if not isinstance(kernel, tuple) or len(kernel) != len(image) - 2:
        raise call.problem(f"kernel_shape {kernel!r} does not fit an input of {list(image)}")
    return _pool(call, read_windows(call, image[2:], kernel))


def global_pooling(call: Call) -> Workload:
    """GlobalMaxPool and its kin: a pooling whose filter is as large as the input."""
    (image,) = call.shapes
    return _pool(call, [Window(size, size, 1, 1, 0, 0) for size in image[2:]])


def _pool(call: Call, windows: list[Window]) -> Workload:
    (image,) = call.shapes
    _check_axes(call, len(windows))
    steps, taps = _letters(windows)
    places = tuple(window.steps for window in windows)
    sizes = dict(zip("NC", image[:2], strict=True))
    sizes |= dict(zip(steps, places, strict=True))
    sizes |= {letter: window.taps for letter, window in zip(taps, windows, strict=True)}
    output = ("O", (*_plain("NC"), *_plain(steps)))
    inputs = ("I", (*_plain("NC"), *_ranks(windows, places, _unpadded(windows))))
    return make_workload(call.name, sizes, output, [inputs], call.bits)


def product(call: Call) -> Workload:
    """MatMul: `O[N,K] += W[K,C] * I[N,C]`, the first input being I and the second W.

    Leading dims are broadcast: those of both become one dim B, `O[B,N,K] += W[B,C,K] * I[B,N,C]`;
    those of the first alone are rows like N, those of the second alone columns like K.
    """
    first, second = call.shapes
    if not first or not second:
        raise call.problem(f"a product of {_format_shapes(call)}: one is a scalar")
    rows, columns = first if len(first) > 1 else (1, *first), second
    columns = second if len(second) > 1 else (*second, 1)
    sizes = {"B": 1, "N": rows[-2], "K": columns[-1], "C": _reduced(call, rows[-1], columns[-2])}
    length = max(len(rows), len(columns))
    padded = [(1,) * (length - len(shape)) + shape for shape in (rows, columns)]
    for left, right in zip(padded[0][:-2], padded[1][:-2], strict=True):
        if left != right and 1 not in (left, right):
            raise call.problem(f"{_format_shapes(call)} cannot be broadcast")
        sizes["B" if left == right else "N" if right == 1 else "K"] *= max(left, right)
    if sizes["B"] == 1:
        return _matrix_product(call, sizes["N"], sizes["K"], sizes["C"])
    output, inputs = ("O", _plain("BNK")), [("W", _plain("BCK")), ("I", _plain("BNC"))]
    return make_workload(call.name, sizes, output, inputs, call.bits)


def general_product(call: Call) -> Workload:
    """Gemm: as `product`, of two matrices that may be transposed; the third, added, is free."""
    if any(len(shape) != 2 for shape in call.shapes):
        raise call.problem(f"expected two matrices, found {_format_shapes(call)}")
    rows, columns = call.shapes
    rows = rows[::-1] if call.integer("transA", 0) else rows
    columns = columns[::-1] if call.integer("transB", 0) else columns
    return _matrix_product(call, rows[0], columns[1], _reduced(call, rows[1], columns[0]))


def _matrix_product(call: Call, rows: int, columns: int, reduced: int) -> Workload:
    sizes = {"N": rows, "K": columns, "C": reduced}
    inputs = [("W", _plain("KC")), ("I", _plain("NC"))]
    return make_workload(call.name, sizes, ("O", _plain("NK")), inputs, call.bits)


def _reduced(call: Call, left: int, right: int) -> int:
    if left != right:
        what = f"{_format_shapes(call)} do not match: {left} columns meet {right} rows"
        raise call.problem(what)
    return left


def _format_shapes(call: Call) -> str:
    return " and ".join(str(list(shape)) for shape in call.shapes)


def _image_and_weights(call: Call) -> tuple[Sizes, Sizes, int]:
    """The shapes of I and W, and the groups."""
    image, weights = call.shapes
    if len(image) != len(weights):
        raise call.problem(f"weights {list(weights)} do not fit an input of {list(image)}")
    _check_axes(call, len(image) - 2)
    kernel = call.integers("kernel_shape", weights[2:])
    if kernel != weights[2:]:
        raise call.problem(f"kernel_shape {list(kernel)} contradicts weights {list(weights)}")
    groups = call.integer("group", 1)
    if groups < 1:
        raise call.problem(f"group is {groups}: the least is 1")
    return image, weights, groups


def _check_axes(call: Call, count: int) -> None:
    if not 1 <= count <= len(AXES):
        what = f"an input of {list(call.shapes[0])} has {max(count, 0)} axes to slide along"
        raise call.problem(what, f"1 to {len(AXES)} axes are read")


def _misfit(call: Call, groups: int) -> InputError:
    image, weights = call.shapes
    what = f"weights {list(weights)} in {groups} groups do not fit {image[1]} input channels"
    return call.problem(what)


def _letters(windows: list[Window]) -> tuple[str, str]:
    """The letters of the output's and of the filter's axes."""
    axes = AXES[-len(windows) :]
    return "".join(step for step, _ in axes), "".join(tap for _, tap in axes)


def _plain(letters: str) -> tuple[Rank, ...]:
    return tuple(Rank((Term(letter),)) for letter in letters)


def _unpadded(windows: list[Window]) -> list[Range]:
    return [(window.before, window.before + window.size) for window in windows]


def _ranks(windows: list[Window], places: Sizes, data: list[Range]) -> tuple[Rank, ...]:
    steps, taps = _letters(windows)
    numbers = zip(windows, steps, taps, places, data, strict=True)
    return tuple(window.rank(step, tap, many, real) for window, step, tap, many, real in numbers)


def _without_groups(
    call: Call, sizes: dict[str, int], output: ParsedOperand, inputs: list[ParsedOperand]
) -> Workload:
    """Make the workload; one group is none."""
    if sizes["G"] > 1:
        return make_workload(call.name, sizes, output, inputs, call.bits)
    del sizes["G"]
    group = _plain("G")[0]
    (key, ranks), *rest = [
        (key, tuple(rank for rank in ranks if rank != group)) for key, ranks in (output, *inputs)
    ]
    return make_workload(call.name, sizes, (key, ranks), rest, call.bits)


OPERATORS = {
    "Conv": Operator(convolution, (0, 1)),
    "ConvInteger": Operator(convolution, (0, 1), INTEGER),
    "ConvTranspose": Operator(transposed_convolution, (0, 1)),
    "QLinearConv": Operator(convolution, (0, 3), QUANTIZED),
    "Gemm": Operator(general_product, (0, 1)),
    "MatMul": Operator(product, (0, 1)),
    "MatMulInteger": Operator(product, (0, 1), INTEGER),
    "QLinearMatMul": Operator(product, (0, 3), QUANTIZED),
    "AveragePool": Operator(pooling, (0,)),
    "LpPool": Operator(pooling, (0,)),
    "MaxPool": Operator(pooling, (0,)),
    "GlobalAveragePool": Operator(global_pooling, (0,)),
    "GlobalLpPool": Operator(global_pooling, (0,)),
    "GlobalMaxPool": Operator(global_pooling, (0,)),
}
"""The operators that are costed. Everything else is listed, not costed."""
