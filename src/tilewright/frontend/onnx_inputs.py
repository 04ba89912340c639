"""The sizes that an ONNX file leaves open, and setting them.

Owns: what `--batch` and `--shape` mean for a graph's inputs, and what is said where they contradict
it.

Non-goals: the shapes that follow (`frontend/onnx_graph.py` infers them).
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# Protobuf objects have no complete types: see `frontend/onnx_graph.py`.

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from tilewright.errors import Problem, did_you_mean, visible
from tilewright.frontend.onnx_graph import dims_of, fed_inputs, format_shape, shape_of

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto
    from onnx.onnx_ml_pb2 import TensorShapeProto

MAX_SIZE = 2**31 - 1
"""More words along one axis than any memory has; ONNX itself has room for 63 bits."""

ONLY_OPEN = "only sizes that the file leaves open can be set"


def fix_inputs(
    model: "ModelProto", batch: int | None, shapes: Mapping[str, tuple[int, ...]]
) -> list[Problem]:
    """Set the sizes that the inputs leave open, and whatever bears the same name in the graph.

    Args:
        model: the model, which is changed.
        batch: the first size of every input that leaves it open.
        shapes: the sizes of inputs, by name.

    Returns: what stands against it: unknown inputs, contradictions with sizes that are fixed.
    """
    inputs = {value.name: value for value in fed_inputs(model.graph)}
    for value in inputs.values():
        _open_placeholders(value)
    sizes = dict[str, int]()
    problems = [
        problem
        for name, shape in shapes.items()
        for problem in _fix_shape(name, shape, inputs, sizes)
    ]
    if batch is not None:
        problems += _fix_batch(batch, inputs.values(), sizes)
    values = [*inputs.values(), *model.graph.value_info, *model.graph.output]
    for dim in (dim for value in values for dim in dims_of(value)):
        if dim.dim_param in sizes:
            dim.dim_value = sizes[dim.dim_param]
    return problems


def _open_placeholders(value: "ValueInfoProto") -> None:
    """Some exporters write 0 or −1 for a size that they leave open."""
    for dim in dims_of(value):
        if dim.HasField("dim_value") and dim.dim_value < 1:
            dim.ClearField("dim_value")


def _fix_shape(
    name: str, shape: tuple[int, ...], inputs: "Mapping[str, ValueInfoProto]", sizes: dict[str, int]
) -> Iterator[Problem]:
    if name not in inputs:
        fix = did_you_mean(name, sorted(inputs)) if inputs else ""
        yield Problem(f"the graph has no input `{visible(name)}`", fix)
        return
    text, value = ",".join(map(str, shape)), inputs[name]
    if any(not 1 <= size <= MAX_SIZE for size in shape):
        what = f"shape {text} of input `{visible(name)}`: a size is 1 to {MAX_SIZE:,}"
        yield Problem(what, "write one size for each dim, as in 1,3,224,224")
        return
    if not value.type.tensor_type.HasField("shape"):
        value.type.tensor_type.shape.dim.extend(_new_dims(shape))
        return
    found = f"input `{visible(name)}` is {format_shape(shape_of(value))} in the file, not {text}"
    if len(shape) != len(dims_of(value)):
        yield Problem(found, "give one size for each of its dims")
        return
    for dim, size in zip(dims_of(value), shape, strict=True):
        fixed = _fix_dim(dim, size, sizes)
        if fixed != size:
            elsewhere = f": {visible(dim.dim_param)} is {fixed} already" if dim.dim_param else ""
            yield Problem(found + elsewhere, ONLY_OPEN)
            return


def _new_dims(shape: tuple[int, ...]) -> "list[TensorShapeProto.Dimension]":
    from onnx import TensorShapeProto

    return [TensorShapeProto.Dimension(dim_value=size) for size in shape]


def _fix_dim(dim: "TensorShapeProto.Dimension", size: int, sizes: dict[str, int]) -> int:
    """Set a size that is open. Returns what it is then: something else if it was fixed before."""
    if dim.HasField("dim_value"):
        return dim.dim_value
    if dim.dim_param:
        return sizes.setdefault(dim.dim_param, size)
    dim.dim_value = size
    return size


def _fix_batch(
    batch: int, inputs: "Iterable[ValueInfoProto]", sizes: dict[str, int]
) -> Iterator[Problem]:
    if not 1 <= batch <= MAX_SIZE:
        yield Problem(f"a batch of {batch}: it is 1 to {MAX_SIZE:,}", "give --batch 1 or more")
        return
    firsts = [(value, dims_of(value)[0]) for value in inputs if dims_of(value)]
    if not firsts:
        yield Problem(f"a batch of {batch}: no input has a first dim", "give --shape INPUT=1,3,32")
    is_open = [(value, dim) for value, dim in firsts if not dim.HasField("dim_value")]
    for value, dim in is_open or firsts:
        fixed = _fix_dim(dim, batch, sizes)
        if fixed != batch:
            what = f"a batch of {batch}: the first dim of input `{visible(value.name)}` is {fixed}"
            yield Problem(what, ONLY_OPEN)
