"""The text of a whole network's program: its kernels, its steps, its entry points; and its header.

Owns: the order of the parts, where weights lie, the names that a C program sees.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.arena import ALIGNED, Arena
from tilewright.codegen.blocking import Choice
from tilewright.codegen.emit import (
    c_name,
    emit_blocks,
    emit_loops,
    emit_weight_packing,
    safe_comment,
)
from tilewright.codegen.emit_steps import step_functions
from tilewright.codegen.shape import Shape
from tilewright.codegen.steps import (
    AddStep,
    KernelStep,
    MoveStep,
    NormStep,
    Ref,
    ScaleStep,
    SoftmaxStep,
    Step,
    Steps,
)
from tilewright.codegen.targets import Target, preamble
from tilewright.codegen.text import Text
from tilewright.ir.quantity import format_bytes

BYTES = 4


@dataclass(frozen=True, slots=True)
class NetworkText:
    """A generated network.

    Attributes:
        name: the prefix of its functions.
        source: the text of the `.c` file, complete in itself.
        header: the text of the `.h` file.
        declarations: the functions, for a foreign function interface.
        raw_elements: of the weights as the file beside it has them.
        packed_elements: of the weights as the program reads them.
        workspace_elements: between the steps.
    """

    name: str
    source: str
    header: str
    declarations: str
    raw_elements: int
    packed_elements: int
    workspace_elements: int


def network_name(name: str) -> str:
    """The name of a network's functions; those of its parts begin otherwise.

    >>> network_name("resnet50-v1.5"), network_name("kernel3")
    ('resnet50_v1_5', 'net_kernel3')
    """
    plain = c_name(name)
    return f"net_{plain}" if plain.startswith(("kernel", "step_", "pack_")) else plain


def raw_weights(steps: tuple[Step, ...]) -> Iterator[NDArray[np.float32]]:
    """The arrays of the file of weights, in order; the program packs them."""
    for step in steps:
        for array in _raw_arrays(step):
            yield np.ascontiguousarray(array, np.float32)


def _raw_arrays(step: Step) -> tuple[NDArray[np.generic], ...]:
    if isinstance(step, KernelStep) and step.weights is not None and step.bias is not None:
        return step.weights, step.bias
    if isinstance(step, ScaleStep):
        return step.factor, step.shift
    return ()


def emit_network(  # noqa: PLR0913, PLR0917
    network: Steps,
    arena: Arena,
    choices: Mapping[Shape, Choice],
    target: Target,
    comments: Mapping[Shape, str],
    head: str,
) -> NetworkText:
    """Write the program of a network.

    `choices` has a plan for every shape, each with a prefix of its own; `comments` say what they
    are, `head` what the whole is.
    """
    return _Emitter(network, arena, choices, target).write(comments, head)


class _Emitter:
    def __init__(
        self, network: Steps, arena: Arena, choices: Mapping[Shape, Choice], target: Target
    ) -> None:
        self.network, self.arena, self.choices, self.target = network, arena, choices, target
        self.name = network_name(network.name)
        steps = arena.steps
        raw = [sum(array.size for array in _raw_arrays(step)) for step in steps]
        packed = [_aligned(self._packed(step)) for step in steps]
        self.raw_at = dict(enumerate(accumulate(raw, initial=0)))
        self.packed_at = dict(enumerate(accumulate(packed, initial=0)))
        norms = [step for step in steps if isinstance(step, NormStep)]
        scratch = max((s.form.per_group * s.form.lanes + s.size for s in norms), default=0)
        self.scratch_at = arena.elements
        self.workspace = arena.elements + _aligned(scratch)

    def _packed(self, step: Step) -> int:
        if isinstance(step, KernelStep):
            return self.choices[step.shape].plan.layout.weight_elements
        if isinstance(step, ScaleStep):
            return 2 * step.form.per_group * step.form.lanes
        return 0

    def write(self, comments: Mapping[Shape, str], head: str) -> NetworkText:
        text, steps = Text(), self.arena.steps
        text.line("/*\n" + safe_comment(head) + " */")
        text.line("#include <math.h>")
        text.line("#include <string.h>")
        text.line(preamble(self.target, "float32", per_channel=False, max_pool=True))
        for shape, choice in self.choices.items():
            self._kernel(text, choice, comments[shape])
        text.line(step_functions(steps))
        self._pack(text)
        self._run(text)
        self._whole(text)
        declarations = "".join(f"{signature};\n" for signature in self._signatures().values())
        return NetworkText(
            self.name,
            str(text),
            self._header(head, declarations),
            declarations,
            self.raw_at[len(steps)],
            max(self.packed_at[len(steps)], ALIGNED),
            max(self.workspace, ALIGNED),
        )

    def _kernel(self, text: Text, choice: Choice, comment: str) -> None:
        plan, name = choice.plan, choice.plan.prefix
        text.line("\n/*\n" + safe_comment(comment) + " */")
        emit_blocks(plan, text)
        arguments = "const element *image, const element *weights, element *output"
        text.line()
        with text.block(f"static void {name}run({arguments})"):
            emit_loops(plan, text)
        if plan.shape.pool:
            return
        arguments = "const float *weights, const float *bias, element *packed"
        text.line()
        with text.block(f"static void {name}pack({arguments})"):
            emit_weight_packing(plan, text)

    def _signatures(self) -> dict[str, str]:
        given = [f"const float *in_{c_name(name)}" for name in self.network.inputs]
        made = [f"float *out_{c_name(name)}" for name in self.network.outputs]
        weights, lead = "const float *weights", f"void {self.name}"
        return {
            "pack": f"{lead}_pack_weights({weights}, float *packed)",
            "run": f"{lead}_run({', '.join([*given, 'const float *packed', *made])}, "
            "float *workspace)",
            "all": f"int {self.name}({', '.join([*given, weights, *made])})",
        }

    def _place(self, ref: Ref) -> str:
        buffer = self.network.buffers[ref.buffer]
        if not buffer.user:
            return f"workspace + {self.arena.offsets[ref.buffer] + ref.offset}L"
        is_output = any(ref.buffer == step.target.buffer for step in self.arena.steps)
        name = f"{'out' if is_output else 'in'}_{c_name(buffer.user)}"
        return f"{name} + {ref.offset}L" if ref.offset else name

    def _pack(self, text: Text) -> None:
        text.line()
        with text.block(self._signatures()["pack"]):
            text.line("(void)weights, (void)packed;")
            for index, step in enumerate(self.arena.steps):
                at, to = self.raw_at[index], self.packed_at[index]
                if isinstance(step, KernelStep) and step.weights is not None:
                    name = self.choices[step.shape].plan.prefix
                    behind = at + step.weights.size
                    call = f"{name}pack(weights + {at}L, weights + {behind}L, packed + {to}L);"
                    text.line(f"{call} /* {_quoted(step.node)} */")
                elif isinstance(step, ScaleStep):
                    behind = at + step.factor.size
                    text.line(
                        f"pack_scale(weights + {at}L, weights + {behind}L, packed + {to}L, "
                        f"{step.form.channels}); /* {_quoted(step.node)} */"
                    )

    def _run(self, text: Text) -> None:
        text.line()
        with text.block(self._signatures()["run"]):
            text.line("(void)packed, (void)workspace;")
            for index, step in enumerate(self.arena.steps):
                text.line(f"/* {_quoted(step.node)} */")
                for line in self._calls(index, step):
                    text.line(line)

    def _calls(self, index: int, step: Step) -> Iterator[str]:
        sources = [self._place(ref) for ref in step.sources]
        target = self._place(step.target)
        numbers = f"packed + {self.packed_at[index]}L"
        if isinstance(step, KernelStep):
            name = self.choices[step.shape].plan.prefix
            yield f"{name}run({sources[0]}, {numbers}, {target});"
            return
        if isinstance(step, MoveStep):
            yield from _move(step, sources[0], target)
            return
        form = step.form
        sizes = f"{form.batch}, {form.channels}, {form.pixels}, {form.plane}"
        if isinstance(step, ScaleStep):
            limits = f"{_number(step.low, '-')}, {_number(step.high)}"
            blocks = f"{form.batch}, {form.per_group}, {form.pixels}, {form.plane}"
            yield f"step_scale({sources[0]}, {target}, {numbers}, {blocks}, {limits});"
        elif isinstance(step, AddStep):
            function = "step_multiply" if step.product else "step_add"
            yield f"{function}({', '.join(sources)}, {target}, {form.elements}, {int(step.relu)});"
        elif isinstance(step, NormStep):
            scratch = f"workspace + {self.scratch_at}L"
            values = f"{_number(step.alpha)}, {_number(step.beta)}, {_number(step.bias)}"
            more = f"{sizes}, {step.size}, {values}, {scratch}"
            yield f"step_norm({sources[0]}, {target}, {more});"
        else:
            assert isinstance(step, SoftmaxStep)
            yield f"step_softmax({sources[0]}, {target}, {sizes});"

    def _whole(self, text: Text) -> None:
        packed = max(self.packed_at[len(self.arena.steps)], ALIGNED)
        given = [f"in_{c_name(name)}" for name in self.network.inputs]
        made = [f"out_{c_name(name)}" for name in self.network.outputs]
        text.line()
        with text.block(self._signatures()["all"]):
            text.line(f"float *packed = aligned_alloc(64, {packed * BYTES}L);")
            workspace = max(self.workspace, ALIGNED) * BYTES
            text.line(f"float *workspace = aligned_alloc(64, {workspace}L);")
            text.line("const int failed = !packed || !workspace;")
            with text.block("if (!failed)"):
                text.line(f"{self.name}_pack_weights(weights, packed);")
                arguments = ", ".join([*given, "packed", *made, "workspace"])
                text.line(f"{self.name}_run({arguments});")
            text.line("free(packed), free(workspace);")
            text.line("return failed;")

    def _header(self, head: str, declarations: str) -> str:
        network, name = self.network, self.name
        tensors = [*network.inputs.items(), *network.outputs.items()]
        arrays = "\n".join(
            f" *   {c_name(tensor)}: {' × '.join(map(str, dims))}" for tensor, dims in tensors
        )
        guard = f"TILEWRIGHT_{name.upper()}_H"
        return f"""/*
{safe_comment(head.partition(chr(10) * 2)[0])} *
 * Arrays of float, as the graph has them:
{arrays}
 * weights: the contents of {name}.weights.
 *
 * {name} packs the weights, allocates the workspace and runs; it returns 0, or 1 without memory.
 * To pack once and run often: pack_weights, then run. The enum gives the elements of the arrays
 * that these need; align packed weights and workspace to 64 bytes. Calls share nothing else, so
 * several may run at once, each with its own workspace.
 */
#ifndef {guard}
#define {guard}

#ifdef __cplusplus
extern "C" {{
#endif

#define {name}_weight_elements {self.raw_at[len(self.arena.steps)]}L
#define {name}_packed_elements {max(self.packed_at[len(self.arena.steps)], ALIGNED)}L
#define {name}_workspace_elements {max(self.workspace, ALIGNED)}L /* {
            format_bytes(8 * BYTES * self.workspace)
        } */

{declarations}
#ifdef __cplusplus
}}
#endif

#endif
"""


def _aligned(elements: int) -> int:
    return -(-elements // ALIGNED) * ALIGNED


def _quoted(name: str) -> str:
    return safe_comment(name).removeprefix(" * ").strip()


def _number(value: float | None, sign: str = "") -> str:
    if value is None:
        return f"{sign}INFINITY"
    return f"{value!r}f" if "." in repr(value) or "e" in repr(value) else f"{value!r}.0f"


def _move(step: MoveStep, source: str, target: str) -> Iterator[str]:
    x, y = step.source_form, step.target_form
    count = x.groups * x.channels
    layouts = f"{x.channels}, {x.lanes}, {x.plane}, {y.channels}, {y.lanes}, {y.plane}"
    order = f"{step.first}, {step.split}"
    if x.batch == 1:
        yield f"step_move({source}, {target}, {count}, {x.pixels}, {layouts}, {order});"
        return
    yield f"for (long n = 0; n < {x.batch}; n++)"
    steps = f"{source} + n * {x.image_elements}L, {target} + n * {y.image_elements}L"
    yield f"    step_move({steps}, {count}, {x.pixels}, {layouts}, {order});"
