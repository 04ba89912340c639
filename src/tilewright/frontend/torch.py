"""PyTorch modules as networks, through `torch.export`.

Owns: `from_torch`: which operators of an exported graph are layers, and what they are called.

Non-goals: loop nests (`frontend/onnx_operators.py` has them for ONNX's operators, which are the
same), weights, training. PyTorch is an extra and is imported when it is used.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, cast

from tilewright.errors import InputError, MissingToolError, Problem, visible
from tilewright.frontend.onnx_graph import Attribute
from tilewright.frontend.onnx_operators import (
    convolution,
    global_pooling,
    pooling,
    product,
    transposed_convolution,
)
from tilewright.frontend.onnx_windows import Call, Sizes
from tilewright.ir.workload import Layer, Network, Workload, gather_network

_Reading = tuple[Callable[[Call], Workload], dict[str, Attribute], tuple[Sizes, ...]]
"""The loop nest of an operator, its attributes in ONNX's words, and the shapes of its operands."""


def from_torch(
    module: object,
    example_inputs: tuple[object, ...],
    *,
    name: str | None = None,
    bits: Mapping[str, int] | None = None,
) -> Network:
    """Read a PyTorch module.

    The module is exported and reduced to PyTorch's core operators. Convolutions, matrix products,
    attention and pooling become layers, called after the submodule that they stand in; all other
    operators are listed as not costed, but for those that work on weights alone.

    Args:
        module: a `torch.nn.Module`, in the mode (`eval`) that it is to be costed in.
        example_inputs: tensors as its `forward` takes them; their shapes are the network's.
        name: of the network; the class's if left out.
        bits: word sizes of W, I, O and `psum`; 16 for what is left out.

    Returns: the network, with equal layers together under the first one's name.

    Raises:
        InputError: the module cannot be exported, a shape is not fixed, or nothing is costed.
        MissingToolError: PyTorch is not installed.

    >>> import torch  # doctest: +SKIP
    >>> conv = torch.nn.Conv2d(3, 8, 3, padding=1)  # doctest: +SKIP
    >>> from_torch(conv, (torch.zeros(1, 3, 16, 16),)).macs  # doctest: +SKIP
    55296

    Source: `docs/interchange.md`, PyTorch.
    """
    torch = _import_torch()
    called = name or type(module).__name__
    graph = _export(torch, module, example_inputs, called).graph
    fixed = _fixed_nodes(graph.nodes)
    layers: list[Layer] = []
    others: Counter[str] = Counter()
    taken: set[str] = set()
    for node in graph.nodes:
        if node.op != "call_function" or node in fixed:
            continue
        found = list(_read(node))
        for suffix, make, attributes, shapes in found:
            title = _unique(_title(node, called) + suffix, taken)
            layers.append(Layer(make(Call(title, attributes, shapes, bits or {}))))
        operator = _operator(node)
        if not found and operator not in _FREE:
            others[operator] += 1
    if not layers:
        listed = ", ".join(f"{operator} ×{count}" for operator, count in others.most_common(8))
        what = (
            f"{called} has no convolution, matrix product or pooling; found: {listed or 'nothing'}"
        )
        raise InputError(Problem(what, "cost a module that has one", called))
    return gather_network(called, layers, others, f"PyTorch module {visible(called)}")


def _import_torch() -> Any:
    try:
        return import_module("torch")
    except ImportError as error:
        what = "reading modules needs PyTorch, which is not installed"
        raise MissingToolError(Problem(what, "pip install 'tilewright[torch]'")) from error


def _export(torch: Any, module: Any, example_inputs: tuple[object, ...], called: str) -> Any:
    """The module as a graph of core operators."""
    if not isinstance(module, torch.nn.Module):
        what = f"{called} is no torch.nn.Module"
        raise InputError(Problem(what, "give a module and a tuple of example inputs", called))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch's own parts
            return torch.export.export(module, example_inputs).run_decompositions()
    except Exception as error:  # PyTorch raises whatever the module's code leads to
        first = visible(str(error).strip().partition("\n")[0])[:200]
        what = f"torch.export cannot export it: {type(error).__name__}: {first}"
        raise InputError(Problem(what, "see PyTorch's page on torch.export", called)) from error


_FREE = ("getitem", "alias", "detach", "clone", "sym_size", "lift_fresh_copy")
"""Operators that do nothing that costs."""


def _fixed_nodes(nodes: Iterable[Any]) -> set[Any]:
    """The nodes that depend on no input of the user: weights, and what is made of them."""
    fixed: set[Any] = set()
    for node in nodes:
        if node.op in ("placeholder", "get_attr"):
            is_input = node.op == "placeholder" and not str(node.target).startswith(
                ("p_", "b_", "c_")
            )
            if not is_input:
                fixed.add(node)
        elif node.op == "call_function" and all(made in fixed for made in node.all_input_nodes):
            fixed.add(node)
    return fixed


def _operator(node: Any) -> str:
    """The name of the operator, without namespace and overload."""
    text = getattr(node.target, "_schema", None)
    name = (
        text.name.partition("::")[2] if text is not None else getattr(node.target, "__name__", "")
    )
    return str(name or node.name)


def _title(node: Any, called: str) -> str:
    """The path of the submodule that an operator stands in."""
    stack: Any = node.meta.get("nn_module_stack") or {}
    paths = [str(path) for path, _ in stack.values()]
    return visible(paths[-1]) if paths and paths[-1] else f"{called}.{node.name}"


def _unique(name: str, taken: set[str]) -> str:
    count, made = 1, name
    while made in taken:
        count += 1
        made = f"{name}_{count}"
    taken.add(made)
    return made


def _read(node: Any) -> Iterator[tuple[str, *_Reading]]:
    """The layers of an operator: none, one, or the two products of attention."""
    operator, given = _operator(node), list(node.args)
    if operator == "convolution":
        yield "", *_convolution(node, given)
    elif operator in ("mm", "bmm"):
        yield "", product, {}, (_shape(node, given[0]), _shape(node, given[1]))
    elif operator in ("addmm", "baddbmm"):
        yield "", product, {}, (_shape(node, given[1]), _shape(node, given[2]))
    elif "scaled_dot_product" in operator and "attention" in operator:
        yield from _attention(node, given)
    elif operator in _POOLS:
        yield "", *_pooling(node, given, operator)
    elif operator in ("_adaptive_avg_pool2d", "_adaptive_avg_pool3d"):
        shape = _shape(node, given[0])
        if all(size == 1 for size in _integers(given[1])):
            yield "", global_pooling, {}, (shape,)


def _convolution(node: Any, given: list[Any]) -> _Reading:
    image, weights = _shape(node, given[0]), _shape(node, given[1])
    axes = len(weights) - 2
    pads = _spread(given[4], axes)
    attributes: dict[str, Attribute] = {
        "strides": _spread(given[3], axes),
        "pads": pads * 2,
        "dilations": _spread(given[5], axes),
        "group": int(given[8]),
    }
    if not given[6]:
        return convolution, attributes, (_batched(image, axes), weights)
    attributes["output_padding"] = _spread(given[7], axes)
    return transposed_convolution, attributes, (_batched(image, axes), weights)


_POOLS = {
    "max_pool1d": (2, 3, 4, 5),
    "max_pool2d": (2, 3, 4, 5),
    "max_pool3d": (2, 3, 4, 5),
    "max_pool2d_with_indices": (2, 3, 4, 5),
    "max_pool3d_with_indices": (2, 3, 4, 5),
    "avg_pool1d": (2, 3, None, 4),
    "avg_pool2d": (2, 3, None, 4),
    "avg_pool3d": (2, 3, None, 4),
}
"""Where strides, padding, dilations and the rounding stand among an operator's arguments."""


def _pooling(node: Any, given: list[Any], operator: str) -> _Reading:
    kernel = _integers(given[1])
    shape = _shape(node, given[0])
    axes = int(operator[operator.index("pool") + 4])
    stride, padding, dilation, rounding = _POOLS[operator]
    kernel = _spread(kernel, axes)
    strides = _integers(_argument(given, stride, ())) or kernel
    attributes: dict[str, Attribute] = {
        "kernel_shape": kernel,
        "strides": _spread(strides, axes),
        "pads": _spread(_argument(given, padding, 0), axes) * 2,
        "dilations": _spread(_argument(given, dilation, 1), axes),
        "ceil_mode": int(bool(_argument(given, rounding, False))),
    }
    return pooling, attributes, (_batched(shape, axes),)


def _attention(node: Any, given: list[Any]) -> Iterator[tuple[str, *_Reading]]:
    """Scores and context: `Q·Kᵀ` and what it weights of V."""
    query, key, value = (_shape(node, each) for each in given[:3])
    turned = (*key[:-2], key[-1], key[-2])
    yield ".scores", product, {}, (query, turned)
    scores = (*query[:-1], key[-2])
    yield ".context", product, {}, (scores, value)


def _argument(given: list[Any], place: int | None, default: object) -> Any:
    return given[place] if place is not None and place < len(given) else default


def _integers(value: Any) -> Sizes:
    if not isinstance(value, list | tuple):
        return (int(value),)
    return tuple(int(each) for each in cast("list[int]", value))


def _spread(value: Any, axes: int) -> Sizes:
    """One number for every axis."""
    numbers = _integers(value)
    return numbers * axes if len(numbers) == 1 else numbers


def _batched(shape: Sizes, axes: int) -> Sizes:
    """The shape with a batch, which PyTorch lets one leave out."""
    return shape if len(shape) == axes + 2 else (1, *shape)


def _shape(node: Any, value: Any) -> Sizes:
    found = value.meta["val"].shape
    if not all(isinstance(size, int) for size in found):
        what = f"{node.name}: the shape {tuple(map(str, found))} is not fixed"
        raise InputError(Problem(what, "export with example inputs alone, no dynamic shapes"))
    return tuple(found)
