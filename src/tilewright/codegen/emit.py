"""The whole text of a program: head, packing, kernel, entry points; and its header.

Owns: the order of the parts, the packing functions, the names that a C program sees.
"""

import re
from contextlib import nullcontext
from dataclasses import dataclass

from tilewright.codegen.emit_product import block_calls, emit_product
from tilewright.codegen.emit_window import emit_window, window_calls
from tilewright.codegen.targets import ELEMENT, preamble
from tilewright.codegen.text import Text
from tilewright.codegen.tiling import Plan, chunks, vector_groups

GIVEN = {"float32": "float", "int8": "int8_t"}
"""What the user's image and weights consist of."""


@dataclass(frozen=True, slots=True)
class Program:
    """A generated program.

    Attributes:
        name: the prefix of its functions.
        source: the text of the `.c` file, complete in itself.
        header: the text of the `.h` file.
        declarations: the functions, for a foreign function interface.
        plan: what it was made from.
    """

    name: str
    source: str
    header: str
    declarations: str
    plan: Plan


def c_name(name: str) -> str:
    """A name for C: letters, digits and underlines.

    >>> c_name("layer1.0.conv1"), c_name("3x3")
    ('layer1_0_conv1', 'l_3x3')
    """
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)[:80]
    return plain if re.match(r"[A-Za-z]", plain) else f"l_{plain.lstrip('_')}"


def emit(plan: Plan, comment: str) -> Program:
    """Write the program of a plan; `comment` stands at its head, in plain text."""
    name, shape = c_name(plan.shape.name), plan.shape
    text = Text()
    text.line("/*\n" + safe_comment(comment) + " */")
    head = preamble(
        plan.target, shape.dtype, per_channel=shape.per_channel, max_pool=shape.pool == "max"
    )
    text.line(head)
    text.line()
    emit_blocks(plan, text)
    _emit_packing(plan, text, name)
    _emit_run(plan, text, name)
    declarations = _declarations(plan, name)
    return Program(name, str(text), _header(plan, name, declarations, comment), declarations, plan)


def emit_blocks(plan: Plan, text: Text) -> None:
    """Write the functions that compute a block of a plan."""
    if plan.shape.per_channel:
        emit_window(plan, text)
    else:
        emit_product(plan, text)


def safe_comment(comment: str) -> str:
    """The comment, so that nothing in it ends it."""
    kept = comment.replace("*/", "* /").replace("/*", "/ *")
    lines = ("".join(c if c.isprintable() else "?" for c in line) for line in kept.split("\n"))
    return "".join(f" * {line}".rstrip() + "\n" for line in lines)


def _signatures(plan: Plan, name: str) -> dict[str, str]:
    given, element = GIVEN[plan.shape.dtype], ELEMENT[plan.shape.dtype]
    return {
        "pack_image": f"void {name}_pack_image(const {given} *image, {element} *packed)",
        "pack_weights": f"void {name}_pack_weights(const {given} *weights, "
        f"const {element} *bias, {element} *packed)",
        "run": f"void {name}_run(const {element} *image, const {element} *weights, "
        f"{element} *output)",
        "unpack_output": f"void {name}_unpack_output(const {element} *packed, {element} *output)",
        "all": f"int {name}(const {given} *image, const {given} *weights, "
        f"const {element} *bias, {element} *output)",
    }


def _declarations(plan: Plan, name: str) -> str:
    return "".join(f"{signature};\n" for signature in _signatures(plan, name).values())


def _header(plan: Plan, name: str, declarations: str, comment: str) -> str:
    layout = plan.layout
    guard = f"TILEWRIGHT_{name.upper()}_H"
    first = safe_comment(comment.partition("\n\n")[0])
    return f"""/*
{first} *
 * {name} takes arrays as they come: image [batch][group][channel][row][column], weights
 * [group][output channel][input channel][row][column], bias [group][output channel] or NULL,
 * output [batch][group][output channel][row][column]. It returns 0, or 1 without memory.
 *
 * To pack once and run often: pack_weights, pack_image, run, unpack_output. The enum gives the
 * elements of the packed arrays; align them to 64 bytes.
 */
#ifndef {guard}
#define {guard}

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

enum {{
    {name}_image_elements = {layout.image_elements},
    {name}_weight_elements = {max(layout.weight_elements, 1)},
    {name}_output_elements = {layout.output_elements}
}};

{declarations}
#ifdef __cplusplus
}}
#endif

#endif
"""


def _emit_packing(plan: Plan, text: Text, name: str) -> None:
    signatures = _signatures(plan, name)
    text.line()
    with text.block(signatures["pack_image"]):
        _pack_image(plan, text)
    text.line()
    with text.block(signatures["pack_weights"]):
        emit_weight_packing(plan, text)
    text.line()
    with text.block(signatures["unpack_output"]):
        _unpack_output(plan, text)


def emit_weight_packing(plan: Plan, text: Text) -> None:
    """Write the body of a function of `weights`, `bias` and `packed`."""
    if plan.shape.pool:
        text.line("(void)weights, (void)bias, (void)packed;")
    elif plan.shape.per_channel:
        _pack_depthwise(plan, text)
    else:
        _pack_weights(plan, text)


def _pack_image(plan: Plan, text: Text) -> None:
    shape, layout = plan.shape, plan.layout
    pixels = shape.rows.size * shape.columns.size
    channels = shape.groups if shape.per_channel else shape.inputs
    blocks = shape.batch * layout.groups * layout.in_blocks
    step = f"packed += {layout.image_plane * layout.in_lanes}L"
    with (
        text.block(f"for (long i = 0; i < {blocks}; i++, {step})"),
        text.block(f"for (long pixel = 0; pixel < {pixels}; pixel++)"),
        text.block(f"for (long lane = 0; lane < {layout.in_lanes}; lane++)"),
    ):
        text.line(f"const long group = i / {layout.in_blocks};")
        text.line(f"const long e = i % {layout.in_blocks} * {layout.in_lanes} + lane;")
        each = f"image[(group * {channels} + {{c}}) * {pixels} + pixel]"
        value = _element(plan, each, channels)
        text.line(f"packed[pixel * {layout.in_lanes} + lane] = {value};")


def _element(plan: Plan, each: str, channels: int) -> str:
    """The C of one packed element; `each` reads the user's array at channel `{c}`."""
    if plan.layout.per_element == 1:
        return f"e < {channels} ? {each.format(c='e')} : 0"
    if plan.layout.is_shifted:
        return _four(each, channels)
    low = f"2 * e < {channels} ? {each.format(c='2 * e')} : 0"
    high = f"2 * e + 1 < {channels} ? {each.format(c='(2 * e + 1)')} : 0"
    return f"(element)((uint32_t)(uint16_t)({low}) | (uint32_t)(uint16_t)({high}) << 16)"


def _four(each: str, channels: int) -> str:
    """Four channels in one element; the image is brought from -128..127 to 0..255."""
    flip = "" if each.startswith("weights") else " ^ 0x80"
    parts: list[str] = []
    for place in range(4):
        c = f"(4 * e + {place})" if place else "4 * e"
        value = f"(uint8_t){each.format(c=c)}{flip}"
        byte = f"(uint32_t)({c} < {channels} ? {value} : 0)"
        parts.append(f"{byte} << {8 * place}" if place else byte)
    return f"(element)({' | '.join(parts)})"


def _pack_weights(plan: Plan, text: Text) -> None:
    """In the order in which the kernel reads them."""
    shape, layout = plan.shape, plan.layout
    groups, lanes = vector_groups(layout, plan.blocking), layout.in_lanes
    number = sum(count for count, _ in groups)
    vectors = plan.blocking.vectors
    wide = str(groups[0][1])
    if len(groups) > 1:
        wide = f"(k < {groups[0][0]} ? {vectors} : {groups[1][1]})"
    pieces = [part for chunk in chunks(layout, plan.blocking) for part in _blocks(*chunk, lanes)]
    some = f"{layout.elements} - c0 < {lanes} ? {layout.elements} - c0 : {lanes}"
    taps = f"{shape.rows.taps} * {shape.columns.taps}"
    each = f"weights[(o * {shape.inputs} + {{c}}) * {taps} + r * {shape.columns.taps} + s]"
    first, stop, chunk = "0", str(layout.elements), nullcontext()
    if plan.blocking.chunk_major:
        size, first = plan.blocking.chunk, "first"
        stop = f"first + {size} && c0 < {layout.elements}"
        chunk = text.block(f"for (long first = 0; first < {layout.elements}; first += {size})")
    with (
        text.block(f"for (long g = 0; g < {layout.groups}; g++)"),
        chunk,
        text.block(f"for (long k = 0; k < {number}; k++)"),
        text.block(f"for (long c0 = {first}; c0 < {stop}; c0 += {lanes})"),
    ):
        assert [first for first, _ in pieces] == list(range(0, layout.elements, lanes))
        text.line(f"const long some = {some};")
        with (
            text.block(f"for (long r = 0; r < {shape.rows.taps}; r++)"),
            text.block("for (long e = c0; e < c0 + some; e++)"),
            text.block(f"for (long s = 0; s < {shape.columns.taps}; s++)"),
            text.block(f"for (long lane = 0; lane < {wide} * LANES; lane++)"),
        ):
            text.line(f"const long out = k * {vectors} * LANES + lane;")
            text.line(f"const long o = g * {shape.outputs} + out;")
            value = _element(plan, each, shape.inputs)
            text.line(f"*packed++ = out < {shape.outputs} ? {value} : 0;")
    if layout.is_shifted:
        _pack_shifted_bias(plan, text)
    else:
        _pack_bias(plan, text, shape.outputs)


def _pack_shifted_bias(plan: Plan, text: Text) -> None:
    """Behind the biases of each block: 128 times the sum of each tap's weights."""
    shape, layout = plan.shape, plan.layout
    with (
        text.block(f"for (long i = 0; i < {layout.groups * layout.out_blocks}; i++)"),
        text.block(f"for (long tap = -1; tap < {shape.taps}; tap++)"),
        text.block("for (long lane = 0; lane < LANES; lane++)"),
    ):
        text.line(f"const long g = i / {layout.out_blocks};")
        text.line(f"const long k = i % {layout.out_blocks} * LANES + lane;")
        text.line(f"const long o = g * {shape.outputs} + k;")
        text.line(f"element sum = bias && tap < 0 && k < {shape.outputs} ? bias[o] : 0;")
        loop = f"for (long c = 0; c < {shape.inputs} && tap >= 0 && k < {shape.outputs}; c++)"
        text.line(loop)
        text.line(f"    sum += 128 * weights[(o * {shape.inputs} + c) * {shape.taps} + tap];")
        text.line("*packed++ = sum;")


def _blocks(first: int, some: int, lanes: int) -> list[tuple[int, int]]:
    return [(c, min(lanes, first + some - c)) for c in range(first, first + some, lanes)]


def _pack_bias(plan: Plan, text: Text, channels: int) -> None:
    layout = plan.layout
    with (
        text.block(f"for (long g = 0; g < {layout.groups}; g++)"),
        text.block(f"for (long k = 0; k < {layout.out_blocks} * LANES; k++)"),
    ):
        text.line(f"*packed++ = bias && k < {channels} ? bias[g * {channels} + k] : 0;")


def _pack_depthwise(plan: Plan, text: Text) -> None:
    shape = plan.shape
    with (
        text.block(f"for (long k = 0; k < {plan.layout.out_blocks}; k++)"),
        text.block(f"for (long tap = 0; tap < {shape.taps}; tap++)"),
        text.block("for (long c = k * LANES; c < (k + 1) * LANES; c++)"),
    ):
        text.line(f"*packed++ = c < {shape.groups} ? weights[c * {shape.taps} + tap] : 0;")
    _pack_bias(plan, text, shape.groups)


def _unpack_output(plan: Plan, text: Text) -> None:
    shape, layout = plan.shape, plan.layout
    pixels = shape.rows.places * shape.columns.places
    channels = shape.groups if shape.per_channel else shape.outputs
    with (
        text.block(f"for (long i = 0; i < {shape.batch * layout.groups}; i++)"),
        text.block(f"for (long c = 0; c < {channels}; c++)"),
    ):
        text.line(
            f"const element *from = packed + (i * {layout.out_blocks} + c / LANES)"
            f" * {layout.output_plane}L * LANES + c % LANES;"
        )
        with text.block(f"for (long pixel = 0; pixel < {pixels}; pixel++)"):
            text.line("*output++ = from[pixel * LANES];")


def emit_loops(plan: Plan, text: Text) -> None:
    """Write the outer loops, in a function of `image`, `weights` and `output`."""
    *loops, call = window_calls(plan) if plan.shape.per_channel else block_calls(plan)
    start, stop = _shared(plan, loops)
    for depth, loop in enumerate(loops):
        if depth == start and plan.blocking.threads > 1:
            text.line(
                f"#pragma omp parallel for collapse({stop - start}) schedule(static) "
                f"num_threads({plan.blocking.threads})"
            )
        text.line(loop)
    text.line(f"    {call}")


def _shared(plan: Plan, loops: list[str]) -> tuple[int, int]:
    """From which loop to which threads share them: a chunk adds to what the chunk before left.

    So they share what is inside a chunk, where chunks stand outermost, and else what is outside.
    """
    if plan.shape.per_channel or plan.blocking.chunks_inside:
        return 0, len(loops)
    chunk = next(depth for depth, loop in enumerate(loops) if loop.startswith("for (long c "))
    return (chunk + 1, len(loops)) if plan.blocking.order.startswith("C") else (0, chunk)


def _emit_run(plan: Plan, text: Text, name: str) -> None:
    signatures, layout = _signatures(plan, name), plan.layout
    text.line()
    with text.block(signatures["run"]):
        emit_loops(plan, text)
    sizes = (layout.image_elements, layout.weight_elements, layout.output_elements)
    padded = [-(-max(size, 1) // 16) * 16 for size in sizes]
    text.line()
    with text.block(signatures["all"]):
        text.line(f"element *x = aligned_alloc(64, {padded[0] * 4}L);")
        text.line(f"element *w = aligned_alloc(64, {padded[1] * 4}L);")
        text.line(f"element *y = aligned_alloc(64, {padded[2] * 4}L);")
        with text.block("if (x && w && y)"):
            text.line(f"{name}_pack_image(image, x);")
            text.line(f"{name}_pack_weights(weights, bias, w);")
            text.line(f"{name}_run(x, w, y);")
            text.line(f"{name}_unpack_output(y, output);")
        text.line("const int failed = !(x && w && y);")
        text.line("free(x), free(w), free(y);")
        text.line("return failed;")
