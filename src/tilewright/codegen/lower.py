"""From the nodes of an ONNX graph to the steps of a program.

Owns: which operators are compiled, and what becomes of them: normalizations are folded into the
convolutions before them, ReLU into whatever comes before it, reshapes cost nothing, fully connected
layers are convolutions with the whole image as filter, so that activations stay in blocks.

Non-goals: loop nests and C. Everything that is not supported is named with its node, all at once.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.shape import MOST_BYTES, Shape, Window
from tilewright.codegen.steps import (
    AddStep,
    Blocks,
    Buffer,
    KernelStep,
    MoveStep,
    NormStep,
    Ref,
    ScaleStep,
    SoftmaxStep,
    Step,
    Steps,
    blocks,
)
from tilewright.errors import InputError, Problem, visible
from tilewright.frontend.onnx_graph import Node, format_shape
from tilewright.frontend.onnx_values import ValuedGraph

Array = NDArray[Any]
Dims = tuple[int, ...]


class _Unsupported(Exception):  # noqa: N818 - it never leaves this module
    """Why a node is not compiled, and what to do."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


@dataclass(frozen=True, slots=True)
class _Value:
    """A tensor of the graph: where and how it is stored, and its shape as the graph has it.

    `stored` is (batch, channels, height, width); `dims` may differ: reshapes move nothing.
    `maker` is the step that a following one may be folded into.
    """

    ref: Ref
    form: Blocks
    stored: tuple[int, int, int, int]
    dims: Dims
    maker: int | None = None


def lower(valued: ValuedGraph, lanes: int) -> Steps:
    """Turn a graph into steps.

    Args:
        valued: the graph with its weights, all sizes known.
        lanes: of the vectors: channels are stored in blocks of so many.

    Raises: `InputError`, with every node that is not supported.

    Source: `docs/compile.md`, Whole networks.
    """
    return _Lowering(valued, lanes).run()


class _Lowering:
    def __init__(self, valued: ValuedGraph, lanes: int) -> None:
        self.valued, self.graph, self.lanes = valued, valued.graph, lanes
        self.steps: list[Step] = []
        self.buffers: list[Buffer] = []
        self.values: dict[str, _Value] = {}
        self.nodes = list(_needed(valued))
        self.uses = Counter(name for node in self.nodes for name in node.inputs)
        self.uses.update(valued.outputs)
        self.name = ""

    def run(self) -> Steps:
        problems = list(self._inputs())
        # What follows a failure is not at fault, but for operators that are not compiled anywhere.
        lost = {name for name in self.valued.inputs if name not in self.values}
        for node in self.nodes:
            follows = bool(lost.intersection(node.inputs))
            self.name = visible(node.name) or visible(node.outputs[0])
            try:
                if not follows or node.op not in OPERATORS:
                    self._node(node)
            except _Unsupported as stop:
                problems.append(Problem(f"{node.op} `{self.name}`: {stop.what}", stop.fix))
                follows = True
            if follows:
                lost.update(node.outputs)
        outputs: dict[str, Dims] = {}
        for name in self.valued.outputs:
            if name not in lost and not problems:
                outputs |= self._output(name)
        if problems:
            raise InputError(replace(p, where=self.valued.name) for p in problems)
        inputs = {name: self.graph.sizes(name) or () for name in self.valued.inputs}
        return Steps(
            self.valued.name,
            self.valued.producer,
            tuple(self.steps),
            tuple(self.buffers),
            inputs,
            outputs,
            self.lanes,
        )

    def _inputs(self) -> Iterator[Problem]:
        if not self.valued.outputs:
            yield Problem("the graph has no output", "export it anew")
        for name, kind in self.valued.inputs.items():
            dims = self.graph.sizes(name)
            shown = visible(name)
            if dims is None:
                known = self.graph.shapes.get(name) or ()
                only_batch = known and all(isinstance(size, int) for size in known[1:])
                fix = "give --batch 1" if only_batch else f"give --shape {shown}=1,3,224,224"
                yield Problem(f"input `{shown}` has shape {format_shape(known)}", fix)
            elif kind != "FLOAT":
                what = f"input `{shown}` is {kind}: whole networks are compiled for float32"
                yield Problem(what, "export it with float32")
            elif math.prod(dims) * 4 > MOST_BYTES or 0 in dims or not dims:
                what = f"input `{shown}` has shape {format_shape(dims)}: "
                what += f"{math.prod(dims) * 4 / 2**30:,.1f} GiB, the limit is {MOST_BYTES >> 30}"
                yield Problem(what, "give a smaller --batch or --shape")
            else:
                stored = _stored(dims)
                form = self._plain(stored)
                ref = self._buffer(form.elements, name)
                self.values[name] = _Value(ref, form, stored, dims)

    def _output(self, name: str) -> dict[str, Dims]:
        if name not in self.values:
            constant = self.valued.constants.get(name)
            why = "is a constant" if constant is not None else "is made by no node"
            raise InputError(Problem(f"output `{visible(name)}` {why}", "", self.valued.name))
        value = self.values[name]
        form = self._plain(value.stored)
        target = self._buffer(form.elements, name)
        self.name = visible(name)
        self._add(MoveStep(self.name, value.form, form, (value.ref,), target))
        return {name: value.dims}

    # --- what every operator uses --------------------------------------------------------------

    def _add(self, step: Step) -> int:
        self.steps.append(step)
        return len(self.steps) - 1

    def _buffer(self, elements: int, user: str = "") -> Ref:
        if elements * 4 > MOST_BYTES:
            what = f"a tensor of it needs {elements * 4 / 2**30:,.1f} GiB"
            raise _Unsupported(f"{what}, the limit is {MOST_BYTES >> 30} GiB", "make it smaller")
        self.buffers.append(Buffer(elements, user))
        return Ref(len(self.buffers) - 1)

    def _plain(self, stored: tuple[int, int, int, int]) -> Blocks:
        batch, channels, height, width = stored
        return blocks(batch, 1, channels, 1, height * width)

    def _standard(self, stored: tuple[int, int, int, int]) -> Blocks:
        batch, channels, height, width = stored
        return Blocks(batch, 1, channels, self.lanes, height * width)

    def _moved(self, value: _Value, form: Blocks) -> _Value:
        """The value in another layout: itself, or a copy."""
        if _same(value.form, form):
            return replace(value, form=form)
        target = self._buffer(form.elements)
        self._add(MoveStep(self.name, value.form, form, (value.ref,), target))
        return replace(value, ref=target, form=form)

    def _image(self, tensor: str) -> _Value:
        """A value whose dims are as they are stored, up to dims of 1."""
        value = self._value(tensor)
        wanted = _stored(value.dims)
        if value.stored == wanted:
            return value
        batch, channels, height, width = value.stored
        if height == width == 1 and wanted == (batch, channels, 1, 1):
            return value
        # The order of all elements is that of the plain layout.
        flat = self._moved(value, self._plain(value.stored))
        return replace(flat, form=self._plain(wanted), stored=wanted, maker=None)

    def _blocked(self, tensor: str) -> _Value:
        value = self._image(tensor)
        return self._moved(value, self._standard(value.stored))

    def _value(self, tensor: str) -> _Value:
        if tensor not in self.values:
            raise _Unsupported(f"its input `{visible(tensor)}` is a constant", "fold it before")
        return self.values[tensor]

    def _constant(self, node: Node, place: int, what: str) -> Array:
        tensor = node.inputs[place] if place < len(node.inputs) else ""
        value = self.valued.constants.get(tensor) if tensor else None
        if value is None:
            shown = visible(tensor) or "(none)"
            raise _Unsupported(f"its {what} `{shown}` are not constant", "make them initializers")
        return np.asarray(value)

    def _weights(self, node: Node, place: int, what: str = "weights") -> Array:
        value = self._constant(node, place, what)
        if value.dtype != np.float32:
            raise _Unsupported(f"its {what} are {value.dtype}: only float32 is compiled")
        return value

    def _done(self, node: Node, value: _Value) -> None:
        self.values[node.outputs[0]] = value

    def _alone(self, tensor: str) -> int | None:
        """The step that makes a tensor which nobody else reads."""
        return self._value(tensor).maker if self.uses[tensor] == 1 else None

    # --- operators -----------------------------------------------------------------------------

    def _node(self, node: Node) -> None:
        if any(node.outputs[1:]) and any(self.uses[name] for name in node.outputs[1:]):
            raise _Unsupported("only its first output is compiled")
        OPERATORS.get(node.op, _unknown)(self, node)

    def convolution(self, node: Node) -> None:
        image, weights = self._image(node.inputs[0]), self._weights(node, 1)
        batch, channels, height, width = image.stored
        groups = _integer(node, "group", 1)
        spatial = weights.ndim - 2
        if spatial not in (1, 2) or len(image.dims) != weights.ndim:
            raise _Unsupported(f"it has {spatial} axes: 1 or 2 are compiled")
        if groups < 1 or channels != weights.shape[1] * groups or weights.shape[0] % groups:
            what = f"{channels} channels, weights {format_shape(weights.shape)}, {groups} groups"
            raise _Unsupported(f"{what} do not fit")
        sizes = (height, width)[-spatial:]
        windows = _windows(node, sizes, weights.shape[2:])
        shape = Shape(
            "",
            batch,
            groups,
            weights.shape[0] // groups,
            weights.shape[1],
            *_two(windows),
        )
        bias = self._bias(node, weights.shape[0])
        dims = (batch, weights.shape[0], *(window.places for window in windows))
        self._kernel(node, image, shape, dims, weights.reshape(shape.weight_shape), bias)

    def _bias(self, node: Node, channels: int) -> Array:
        if len(node.inputs) < 3 or not node.inputs[2]:
            return np.zeros(channels, np.float32)
        bias = self._weights(node, 2, "biases").ravel()
        return np.broadcast_to(bias, (channels,)) if bias.size == 1 else bias

    def _kernel(  # noqa: PLR0913, PLR0917
        self,
        node: Node,
        image: _Value,
        shape: Shape,
        dims: Dims,
        weights: Array | None = None,
        bias: Array | None = None,
    ) -> None:
        lanes, pixels = self.lanes, shape.rows.size * shape.columns.size
        channels, outputs, groups = shape.inputs, shape.outputs, shape.groups
        if shape.per_channel:
            channels, outputs, groups = shape.groups, shape.groups, 1
        in_lanes = lanes if shape.per_channel else min(lanes, channels)
        moved = self._moved(image, blocks(shape.batch, groups, channels, in_lanes, pixels))
        out_pixels = shape.rows.places * shape.columns.places
        form = blocks(shape.batch, groups, outputs, lanes, out_pixels)
        ref = self._buffer(form.elements)
        maker = self._add(KernelStep(self.name, shape, (moved.ref,), ref, weights, bias))
        stored = (shape.batch, groups * outputs, shape.rows.places, shape.columns.places)
        value = _Value(ref, form, stored, dims, maker)
        self._done(node, self._moved(value, self._standard(stored)))

    def product(self, node: Node) -> None:
        """Gemm and MatMul: a convolution whose filter is as large as the image."""
        is_gemm = node.op == "Gemm"
        if is_gemm and _integer(node, "transA", 0):
            raise _Unsupported("transA is not compiled")
        weights = self._weights(node, 1)
        value = self._value(node.inputs[0])
        if weights.ndim != 2 or len(value.dims) != 2:
            raise _Unsupported(f"it multiplies {format_shape(value.dims)} by {weights.shape}")
        matrix = weights if is_gemm and _integer(node, "transB", 0) else weights.T
        batch, channels, height, width = value.stored
        if batch != value.dims[0] or matrix.shape[1] != channels * height * width:
            value = self._image(node.inputs[0])
            batch, channels, height, width = value.stored
        if matrix.shape[1] != channels * height * width:
            raise _Unsupported(f"{format_shape(value.dims)} and {matrix.shape} do not fit")
        if is_gemm and node.numbers.get("alpha", 1.0) != 1:
            matrix = matrix * np.float32(node.numbers["alpha"])
        outputs = matrix.shape[0]
        bias = self._bias(node, outputs) if is_gemm else np.zeros(outputs, np.float32)
        if bias.size != outputs:
            raise _Unsupported(f"its bias has {bias.size} elements, not {outputs}")
        bias = bias * np.float32(node.numbers.get("beta", 1.0))
        rows, columns = Window(height, 1, height), Window(width, 1, width)
        shape = Shape("", batch, 1, outputs, channels, rows, columns)
        self._kernel(node, value, shape, (batch, outputs), matrix.reshape(shape.weight_shape), bias)

    def pooling(self, node: Node) -> None:
        image = self._image(node.inputs[0])
        batch, channels, height, width = image.stored
        spatial = len(image.dims) - 2
        if spatial not in (1, 2):
            raise _Unsupported(f"it has {spatial} axes: 1 or 2 are compiled")
        sizes = (height, width)[-spatial:]
        taps = _tuple(node, "kernel_shape", ())
        if len(taps) != spatial:
            raise _Unsupported(f"its kernel_shape is {taps}")
        windows = _windows(node, sizes, taps)
        kind = "max" if node.op == "MaxPool" else "average"
        counted = kind == "average" and _integer(node, "count_include_pad", 0)
        padded = any(len(w.valid(q)) < w.taps for w in windows for q in range(w.places))
        if counted and padded and _integer(node, "ceil_mode", 0):
            raise _Unsupported("ceil_mode with padding that is counted is not compiled")
        pool = "sum" if counted and padded else kind
        shape = Shape("", batch, channels, 1, 1, *_two(windows), pool=pool)
        dims = (batch, channels, *(window.places for window in windows))
        self._kernel(node, image, shape, dims)
        if pool == "sum":
            factor = np.full(channels, 1 / math.prod(taps), np.float32)
            self._scaled(node.outputs[0], node, factor, np.zeros(channels, np.float32))

    def global_pooling(self, node: Node) -> None:
        image = self._image(node.inputs[0])
        batch, channels, height, width = image.stored
        kind = "max" if node.op == "GlobalMaxPool" else "average"
        kept = (batch, channels, *(1 for _ in image.dims[2:]))
        rows, columns = Window(height, 1, height), Window(width, 1, width)
        shape = Shape("", batch, channels, 1, 1, rows, columns, pool=kind)
        self._kernel(node, image, shape, kept)

    def mean(self, node: Node) -> None:
        """ReduceMean over all pixels is a global pooling."""
        rank = len(self._value(node.inputs[0]).dims)
        axes = _tuple(node, "axes", ())
        if len(node.inputs) > 1 and node.inputs[1]:
            axes = tuple(map(int, self._constant(node, 1, "axes").ravel()))
        if rank < 3 or sorted(axis % rank for axis in axes) != list(range(2, rank)):
            raise _Unsupported(f"its axes are {axes}: only all pixels are compiled")
        self.global_pooling(node)
        if not _integer(node, "keepdims", 1):
            value = self.values[node.outputs[0]]
            self._done(node, replace(value, dims=value.dims[:2]))

    def normalization(self, node: Node) -> None:
        if _integer(node, "training_mode", 0):
            raise _Unsupported("training_mode is not compiled", "export it for inference")
        factor, shift, mean, variance = (
            self._constant(node, place, what).astype(np.float64).ravel()
            for place, what in enumerate(("scale", "bias", "mean", "variance"), 1)
        )
        a = factor / np.sqrt(variance + node.numbers.get("epsilon", 1e-5))
        self._scaled(node.inputs[0], node, a, shift - mean * a)

    def _scaled(self, tensor: str, node: Node, factor: Array, shift: Array) -> None:
        """`factor · x + shift` by channel: folded into the step before, or a step."""
        maker = self._alone(tensor) if tensor != node.outputs[0] else None
        step = None if maker is None else self.steps[maker]
        value = self._value(tensor)
        channels = value.dims[1] if len(value.dims) > 1 else 0
        if factor.size != channels or shift.size != channels:
            raise _Unsupported(f"{factor.size} factors for {channels} channels")
        if isinstance(step, KernelStep) and not step.shape.relu and step.weights is not None:
            assert maker is not None
            assert step.bias is not None
            column = factor.reshape(step.weights.shape[0], -1, 1, 1, 1)
            weights = (step.weights * column).astype(np.float32)
            bias = (step.bias * factor + shift).astype(np.float32)
            self.steps[maker] = replace(step, weights=weights, bias=bias)
            self._done(node, value)
            return
        if isinstance(step, ScaleStep) and step.low is None and step.high is None:
            assert maker is not None
            new = replace(step, factor=step.factor * factor, shift=step.shift * factor + shift)
            self.steps[maker] = new
            self._done(node, value)
            return
        self._scale(node, self._blocked(tensor), factor, shift)

    def _scale(  # noqa: PLR0913, PLR0917
        self,
        node: Node,
        value: _Value,
        factor: Array,
        shift: Array,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        ref = self._buffer(value.form.elements)
        step = ScaleStep(self.name, value.form, (value.ref,), ref, factor, shift, low, high)
        self._done(node, replace(value, ref=ref, maker=self._add(step)))

    def relu(self, node: Node) -> None:
        tensor = node.inputs[0]
        value = self._value(tensor)
        maker = self._alone(tensor)
        step = None if maker is None else self.steps[maker]
        new: Step | None = None
        if isinstance(step, KernelStep):
            new = replace(step, shape=replace(step.shape, relu=True))
        elif isinstance(step, AddStep):
            new = replace(step, relu=True)
        elif isinstance(step, ScaleStep) and step.high is None:
            new = replace(step, low=max(step.low or 0.0, 0.0))
        if new is None or maker is None:
            self._limited(node, 0.0, None)
            return
        self.steps[maker] = new
        self._done(node, value)

    def _limited(self, node: Node, low: float | None, high: float | None) -> None:
        value = self._blocked(node.inputs[0])
        channels = value.stored[1]
        one, zero = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        self._scale(node, value, one, zero, low, high)

    def clip(self, node: Node) -> None:
        limits: list[float | None] = [node.numbers.get("min"), node.numbers.get("max")]
        for place, what in enumerate(("min", "max")):
            if len(node.inputs) > place + 1 and node.inputs[place + 1]:
                limits[place] = float(self._constant(node, place + 1, what).reshape(-1)[0])
        self._limited(node, *limits)

    def arithmetic(self, node: Node) -> None:
        """Add, Sum, Mul, Sub, Div: of tensors of one shape, or with constants by channel."""
        tensors = [name for name in node.inputs if name in self.values]
        if len(tensors) < len(node.inputs):
            self._with_constant(node, tensors)
            return
        if node.op not in ("Add", "Sum", "Mul"):
            raise _Unsupported("only with a constant is it compiled")
        if len({self._value(name).dims for name in tensors}) > 1:
            shapes = ", ".join(format_shape(self._value(name).dims) for name in tensors)
            raise _Unsupported(f"it spreads one of {shapes}: only equal shapes are compiled")
        total = self._blocked(tensors[0])
        for name in tensors[1:]:
            other = self._moved(self._image(name), total.form)
            ref = self._buffer(total.form.elements)
            product = node.op == "Mul"
            sources = (total.ref, other.ref)
            step = AddStep(self.name, total.form, sources, ref, product=product)
            total = replace(total, ref=ref, maker=self._add(step))
        if len(tensors) == 1:
            total = replace(total, maker=None)
        self._done(node, total)

    def _with_constant(self, node: Node, tensors: list[str]) -> None:
        if len(tensors) != 1 or len(node.inputs) != 2:
            raise _Unsupported("only one constant and one tensor are compiled")
        place = node.inputs.index(tensors[0])
        value = self._value(tensors[0])
        if len(value.dims) < 2:
            raise _Unsupported(f"its input has shape {format_shape(value.dims)}")
        constant = self._weights(node, 1 - place, "constant").astype(np.float64)
        by_channel = _by_channel(constant, value.dims)
        if by_channel is None:
            what = f"a constant of shape {format_shape(constant.shape)}"
            raise _Unsupported(f"{what}: only one number for each channel is compiled")
        one, zero = np.ones_like(by_channel), np.zeros_like(by_channel)
        pairs = {
            ("Add", 0): (one, by_channel),
            ("Add", 1): (one, by_channel),
            ("Sum", 0): (one, by_channel),
            ("Sum", 1): (one, by_channel),
            ("Mul", 0): (by_channel, zero),
            ("Mul", 1): (by_channel, zero),
            ("Sub", 0): (one, -by_channel),
            ("Sub", 1): (-one, by_channel),
        }
        if node.op == "Div" and place == 0:
            pairs["Div", 0] = (1 / by_channel, zero)
        if (node.op, place) not in pairs:
            raise _Unsupported("only a tensor divided by a constant is compiled")
        self._scaled(tensors[0], node, *pairs[node.op, place])

    def response(self, node: Node) -> None:
        value = self._blocked(node.inputs[0])
        ref = self._buffer(value.form.elements)
        numbers = (node.numbers.get(key, usual) for key, usual in _RESPONSE.items())
        size = _integer(node, "size", 0)
        if size < 1:
            raise _Unsupported("its size is missing")
        step = NormStep(self.name, value.form, (value.ref,), ref, size, *numbers)
        self._add(step)
        self._done(node, replace(value, ref=ref, maker=None))

    def softmax(self, node: Node) -> None:
        value = self._value(node.inputs[0])
        rank, old = len(value.dims), self.valued.opset < 13
        axis = _integer(node, "axis", 1 if old else -1) % rank
        trailing = value.dims[axis + 1 :]
        if axis != 1 or (old and math.prod(trailing) > 1):
            what = f"axis {axis} of {format_shape(value.dims)}"
            raise _Unsupported(f"{what}: only channels are compiled")
        blocked = self._blocked(node.inputs[0])
        ref = self._buffer(blocked.form.elements)
        self._add(SoftmaxStep(self.name, blocked.form, (blocked.ref,), ref))
        self._done(node, replace(blocked, ref=ref, dims=value.dims, maker=None))

    def concat(self, node: Node) -> None:
        parts = [self._image(name) for name in node.inputs]
        rank = len(parts[0].dims)
        if _integer(node, "axis", 1) % rank != 1:
            raise _Unsupported("only channels are joined")
        batch, _, height, width = parts[0].stored
        if any(part.stored[2:] != (height, width) for part in parts):
            raise _Unsupported("its inputs differ in height or width")
        channels = sum(part.stored[1] for part in parts)
        form = self._standard((batch, channels, height, width))
        ref, first = self._buffer(form.elements), 0
        for part in parts:
            source = part.ref
            self._add(MoveStep(self.name, part.form, form, (source,), ref, first))
            first += part.stored[1]
        dims = (batch, channels, *parts[0].dims[2:])
        self._done(node, _Value(ref, form, (batch, channels, height, width), dims))

    def reshape(self, node: Node) -> None:
        """Nothing moves: the next operator sees whether it needs the elements in another order."""
        value = self._value(node.inputs[0])
        dims = self.graph.sizes(node.outputs[0])
        if dims is None or math.prod(dims) != math.prod(value.dims):
            raise _Unsupported("the shape that it makes is not known")
        is_flat = _is_flat(value.dims) and _is_flat(dims) and value.dims[:2] == dims[:2]
        maker = self._alone(node.inputs[0]) if is_flat else None
        self._done(node, replace(value, dims=dims, maker=maker))

    def transpose(self, node: Node) -> None:
        """What a channel shuffle does: the two halves of split channels change places."""
        value = self._value(node.inputs[0])
        order = _tuple(node, "perm", tuple(reversed(range(len(value.dims)))))
        if order == tuple(range(len(value.dims))):
            self.nothing(node)
            return
        batch, channels, height, width = value.stored
        outer, inner = (*value.dims, 0, 0, 0)[1:3]
        is_split = value.dims == (batch, outer, inner, height, width)
        if not is_split or outer * inner != channels or order != (0, 2, 1, 3, 4):
            what = f"axes {order} of {format_shape(value.dims)}"
            raise _Unsupported(f"{what}: only channel shuffles are compiled")
        form = self._standard(value.stored)
        ref = self._buffer(form.elements)
        self._add(MoveStep(self.name, value.form, form, (value.ref,), ref, split=inner))
        dims = (batch, inner, outer, height, width)
        self._done(node, _Value(ref, form, value.stored, dims))

    def nothing(self, node: Node) -> None:
        """Identity, and dropout when it is not trained."""
        value = self._value(node.inputs[0])
        self._done(node, replace(value, maker=self._alone(node.inputs[0])))


Rule = Callable[[_Lowering, Node], None]

_RESPONSE = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}

OPERATORS: Mapping[str, Rule] = {
    "Add": _Lowering.arithmetic,
    "AveragePool": _Lowering.pooling,
    "BatchNormalization": _Lowering.normalization,
    "Clip": _Lowering.clip,
    "Concat": _Lowering.concat,
    "Conv": _Lowering.convolution,
    "Div": _Lowering.arithmetic,
    "Dropout": _Lowering.nothing,
    "Flatten": _Lowering.reshape,
    "Gemm": _Lowering.product,
    "GlobalAveragePool": _Lowering.global_pooling,
    "GlobalMaxPool": _Lowering.global_pooling,
    "Identity": _Lowering.nothing,
    "LRN": _Lowering.response,
    "MatMul": _Lowering.product,
    "MaxPool": _Lowering.pooling,
    "Mul": _Lowering.arithmetic,
    "ReduceMean": _Lowering.mean,
    "Relu": _Lowering.relu,
    "Reshape": _Lowering.reshape,
    "Softmax": _Lowering.softmax,
    "Squeeze": _Lowering.reshape,
    "Sub": _Lowering.arithmetic,
    "Sum": _Lowering.arithmetic,
    "Transpose": _Lowering.transpose,
    "Unsqueeze": _Lowering.reshape,
}
"""The operators that whole networks may have."""


def _unknown(_: _Lowering, _node: Node) -> None:
    names = ", ".join(OPERATORS)
    raise _Unsupported("this operator is not compiled", f"compiled are: {names}")


def _needed(valued: ValuedGraph) -> Iterator[Node]:
    """The nodes that outputs depend on and inputs change, in order."""
    wanted, kept = set(valued.outputs), list[Node]()
    for node in reversed(valued.graph.nodes):
        if wanted.intersection(node.outputs) and not valued.graph.is_constant(node):
            kept.append(node)
            wanted.update(node.reads())
    yield from reversed(kept)


def _stored(dims: Dims) -> tuple[int, int, int, int]:
    """(batch, channels, height, width) of a shape as graphs have it."""
    batch, channels, *pixels = (*dims, 1, 1)[: max(len(dims), 2)]
    if len(pixels) <= 2:
        height, width = (1, 1, *pixels)[-2:]
        return batch, channels, height, width
    return batch, channels, pixels[0], math.prod(pixels[1:])


def _same(one: Blocks, other: Blocks) -> bool:
    """Whether elements stand in the same order."""
    if one == other:
        return True
    # One pixel, whole vectors: the order of channels is the same.
    flat = one.pixels == other.pixels == 1 and one.groups == other.groups == 1
    same = (one.batch, one.channels) == (other.batch, other.channels)
    whole = one.image_elements == other.image_elements
    fills = one.batch == 1 and one.image_elements > other.image_elements
    return flat and same and (whole or fills)


def _is_flat(dims: Dims) -> bool:
    return math.prod(dims[2:]) == 1


def _integer(node: Node, key: str, usual: int) -> int:
    value = node.attributes.get(key, usual)
    return value if isinstance(value, int) else usual


def _tuple(node: Node, key: str, usual: Dims) -> Dims:
    value = node.attributes.get(key, usual)
    return value if isinstance(value, tuple) else usual


def _two(windows: list[Window]) -> tuple[Window, Window]:
    rows, columns = [Window(), *windows][-2:]
    return rows, columns


def _windows(node: Node, sizes: Dims, taps: Dims) -> list[Window]:
    """The axes of a convolution or pooling."""
    count = len(sizes)
    strides = _tuple(node, "strides", (1,) * count)
    dilations = _tuple(node, "dilations", (1,) * count)
    pads = _tuple(node, "pads", (0,) * 2 * count)
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if min(*strides, *dilations, *taps, 1) < 1 or len(strides) != count or len(pads) != 2 * count:
        raise _Unsupported(f"strides {strides}, dilations {dilations}, filter {taps} make no sense")
    return [
        _window(node, sizes[i], taps[i], strides[i], dilations[i], pads[i::count], automatic)
        for i in range(count)
    ]


def _window(  # noqa: PLR0913, PLR0917
    node: Node, size: int, taps: int, stride: int, dilation: int, pads: Dims, automatic: object
) -> Window:
    reach = dilation * (taps - 1) + 1
    before, after = pads
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        places = -(-size // stride)
        total = max((places - 1) * stride + reach - size, 0)
        before = total // 2 if automatic == "SAME_UPPER" else -(-total // 2)
        after = total - before
    elif automatic == "VALID":
        before = after = 0
    room = size + before + after - reach
    if room < 0 or min(before, after) < 0:
        raise _Unsupported(
            f"a filter of {reach} on an image of {size}, padded by {before} and {after}"
        )
    places = room // stride + 1
    if _integer(node, "ceil_mode", 0):
        places = -(-room // stride) + 1
        if (places - 1) * stride >= size + before:  # a window must begin inside
            places -= 1
    return Window(size, places, taps, stride, dilation, before)


def _by_channel(constant: Array, dims: Dims) -> Array | None:
    """A constant as one number for each channel, if spreading it over `dims` makes it that."""
    channels = dims[1]
    if constant.size == 1:
        return np.full(channels, constant.reshape(()))
    padded = (1,) * (len(dims) - constant.ndim) + constant.shape
    if len(padded) == len(dims) and padded == (1, channels, *(1 for _ in dims[2:])):
        return constant.ravel()
    return None
