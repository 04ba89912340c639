"""Generated programs compute what an independent reference computes, under sanitizers too."""

import ctypes.util
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from codegen_cases import TINY, Array, Case, draw_case, reference, windows

import tilewright as tw
from tilewright.codegen import cpu as cpus
from tilewright.codegen.build import find_compiler
from tilewright.codegen.emit import emit
from tilewright.codegen.kernel import Generated, generate, load_kernel
from tilewright.codegen.targets import TARGETS

pytestmark = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("cc", "gcc", "clang")), reason="no C compiler"
)
HOST = cpus.host()
RUNNABLE = [name for name, target in TARGETS.items() if HOST.supports(target) and name != "neon"]


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["TILEWRIGHT_CACHE"] = str(tmp_path_factory.mktemp("kernels"))


def made_of(case: Case, target: str) -> Generated:
    """Every other one is cut for tiny caches, into many blocks."""
    blocked_for = replace(TINY, flags=HOST.flags) if case.seed % 2 else None
    return generate(
        case.workload(), target=target, dtype=case.dtype, relu=case.relu, cpu=blocked_for
    )


def check(case: Case, got: Array) -> None:
    want, bound = reference(case)
    assert got.shape == want.shape
    if case.dtype == "int8":
        np.testing.assert_array_equal(got, want)
        return
    wrong = np.abs(got - want) > bound
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size} results are off"


@pytest.mark.parametrize("target", RUNNABLE)
@pytest.mark.parametrize("seed", range(12))
def test_kernels_agree_with_the_reference(seed: int, target: str) -> None:
    case = draw_case(seed)
    check(case, load_kernel(made_of(case, target))(*case.data()))


@pytest.mark.skipif("avx512_vnni" not in HOST.flags, reason="needs AVX-512 VNNI")
@pytest.mark.parametrize("seed", [s for s in range(60) if draw_case(s).dtype == "int8"][:12])
def test_fours_of_int8_agree_with_the_reference(seed: int) -> None:
    """And pairs, which are for CPUs without these instructions."""
    case = draw_case(seed)
    fours = made_of(case, "avx512")
    pairs = generate(
        case.workload(),
        target="avx512",
        dtype="int8",
        relu=case.relu,
        cpu=replace(HOST, flags=HOST.flags - {"avx512_vnni"}),
    )
    assert ("vpdpbusd" in fours.program.source) != fours.shape.per_channel
    assert "vpdpbusd" not in pairs.program.source
    for made in (fours, pairs):
        check(case, load_kernel(made)(*case.data()))


@pytest.mark.skipif("avx512_vnni" not in HOST.flags, reason="needs AVX-512 VNNI")
def test_a_wrong_shift_of_int8_is_seen() -> None:
    """127 times the weights are taken off, not 128 times."""
    case = base(dtype="int8")
    made = generate(case.workload(), target="avx512", dtype="int8")
    broken = made.program.source.replace("sum += 128 *", "sum += 127 *")
    assert broken != made.program.source
    wrong = replace(made, program=replace(made.program, source=broken))
    with pytest.raises(AssertionError):
        check(case, load_kernel(wrong)(*case.data()))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 400))
def test_many_kernels_agree_with_the_reference(seed: int) -> None:
    case = draw_case(seed)
    for target in RUNNABLE:
        check(case, load_kernel(made_of(case, target))(*case.data()))


def base(**changes: object) -> Case:
    fields: dict[str, object] = {
        "name": "plain",
        "batch": 1,
        "groups": 1,
        "inputs": 20,
        "outputs": 40,
        "size": (9, 17),
        "taps": (3, 3),
        "stride": (1, 1),
        "dilation": (1, 1),
        "padding": (1, 1, 1, 1),
        "dtype": "float32",
        "relu": False,
        "seed": 7,
    }
    return Case(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"size": (1, 1)},  # one pixel: only the middle tap is real
        {"size": (1, 1), "taps": (1, 1), "padding": (0, 0, 0, 0)},
        {"stride": (5, 4), "taps": (2, 2), "padding": (0, 0, 0, 0)},  # stride beyond the filter
        {"taps": (1, 45), "padding": (0, 22, 0, 22), "size": (2, 60)},  # taps as a loop
        {"taps": (31, 31), "padding": (15,) * 4, "groups": 18, "inputs": 1, "outputs": 1},
        {"padding": (3, 3, 3, 3), "size": (2, 2)},  # places that see nothing but padding
        {"groups": 3, "inputs": 16, "outputs": 16, "relu": True},
        {"inputs": 130, "outputs": 70, "dtype": "int8"},
        {"groups": 33, "inputs": 1, "outputs": 1, "dtype": "int8", "stride": (2, 2)},
    ],
)
def test_corners(changes: dict[str, object]) -> None:
    case = base(**changes)
    for target in RUNNABLE:
        check(case, load_kernel(made_of(case, target))(*case.data()))


@pytest.mark.skipif("avx512" not in RUNNABLE, reason="needs AVX-512")
def test_pixels_that_no_register_is_left_for() -> None:
    case = base(inputs=3, outputs=32, size=(35, 67), taps=(11, 11), stride=(4, 4))
    made = made_of(case, "avx512")
    again = "splat_again(xr + "
    assert again in made.program.source
    check(case, load_kernel(made)(*case.data()))
    broken = made.program.source.replace(again, f"{again}1 + ")
    wrong = replace(made, program=replace(made.program, source=broken))
    with pytest.raises(AssertionError, match="results are off"):
        check(case, load_kernel(wrong)(*case.data()))


def test_int8_sums_do_not_saturate() -> None:
    case = base(inputs=64, dtype="int8")
    image, weights, _ = case.data()
    image[:], weights[:] = -128, -128  # each pair of products is 2 · 2^14
    for target in RUNNABLE:
        got = load_kernel(made_of(case, target))(image, weights)
        assert got[0, 0, 4, 8] == 64 * 9 * 128 * 128


@pytest.mark.parametrize(
    ("changes", "edit"),
    [
        ({}, ("h + r", "h + r + (r == 2)")),  # a filter row that reads the wrong row
        ({}, ("c < some", "c < some - 1")),  # a channel left out
        ({"relu": True}, ("if (last)", "if (first)")),  # ReLU on partial sums
    ],
)
def test_a_planted_fault_is_seen(changes: dict[str, object], edit: tuple[str, str]) -> None:
    case = replace(base(**changes), inputs=100, size=(12, 17), padding=(0, 0, 0, 0))
    made = generate(case.workload(), target="portable", relu=case.relu, cpu=TINY)
    broken = made.program.source.replace(*edit)
    assert broken != made.program.source
    assert made.choice.blocking.chunk < 100
    wrong = replace(made, program=replace(made.program, source=broken))
    with pytest.raises(AssertionError, match="results are off"):
        check(case, load_kernel(wrong)(*case.data()))


@pytest.mark.parametrize("pool", ["max", "average", "sum"])
def test_pooling(pool: str) -> None:
    text = "O[N,C,P,Q] += I[N,C,2P+R,2Q+S]"
    layer = tw.einsum("pool", text, {"N": 2, "C": 21, "P": 6, "Q": 11, "R": 3, "S": 2})
    kernel = tw.compile(layer, pool=pool)
    image = np.random.default_rng(0).standard_normal((2, 21, 13, 22), np.float32)
    case = base(taps=(3, 2), stride=(2, 2), padding=(0, 0, 0, 0))
    seen = windows(image.astype(np.float64), case, 0)
    want = {"max": seen.max((4, 5)), "average": seen.mean((4, 5)), "sum": seen.sum((4, 5))}[pool]
    np.testing.assert_allclose(kernel(image), want, rtol=1e-5, atol=1e-5)


def test_products_in_any_order_of_ranks() -> None:
    rng = np.random.default_rng(1)
    scores = tw.einsum(
        "scores",
        "O[B,H,M,N] += Q[B,H,M,D] * K[B,H,N,D]",
        {"B": 2, "H": 3, "M": 7, "N": 20, "D": 33},
    )
    q, k = (rng.standard_normal((2, 3, n, 33), np.float32) for n in (7, 20))
    kernel = tw.compile(scores)
    want = np.einsum("bhmd,bhnd->bhmn", q.astype(np.float64), k)
    assert (kernel.image_shape, kernel.weight_shape) == (k.shape, q.shape)
    np.testing.assert_allclose(kernel(k, q), want, rtol=1e-4, atol=1e-4)
    turned = tw.einsum("t", "O[N,K] += W[C,K] * I[N,C]", {"N": 5, "K": 40, "C": 21})
    w, x = rng.standard_normal((21, 40), np.float32), rng.standard_normal((5, 21), np.float32)
    np.testing.assert_allclose(tw.compile(turned)(x, w), x @ w, rtol=1e-4, atol=1e-4)


def test_one_row_more_than_is_touched() -> None:
    """A 1×1 filter of stride 2 does not reach the last of 14 rows; the image has it anyway."""
    layer = tw.load_layer("resnet18:layer3.0.downsample")
    kernel = tw.compile(layer)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((1, 128, 28, 28), np.float32)
    w = rng.standard_normal((256, 128, 1, 1), np.float32)
    want = np.einsum("kc,cpq->kpq", w[:, :, 0, 0], x[0, :, ::2, ::2])
    np.testing.assert_allclose(kernel(x, w)[0], want, rtol=1e-3, atol=1e-3)
    with pytest.raises(tw.InputError, match="expected"):
        kernel(np.zeros((1, 128, 30, 28), np.float32), w)


@pytest.mark.parametrize("changes", [{}, {"groups": 70, "inputs": 1, "outputs": 1}])
def test_threads_give_the_same_result(changes: dict[str, object]) -> None:
    case = base(**({"outputs": 70, "size": (20, 17)} | changes))
    kernel = tw.compile(case.workload(), threads=3)
    assert kernel.made.choice.blocking.threads == 3
    assert "-fopenmp" in kernel.made.flags
    check(case, kernel(*case.data()))


def in_order(made: Generated, order: str, *, rows: int = 4, tiles: int = 0) -> Generated:
    """The same layer with its blocks in another order: sums may leave after every chunk."""
    plan = made.choice.plan
    chunk = plan.layout.in_lanes
    blocking = replace(plan.blocking, chunk=chunk, rows=rows, order=order, tiles=tiles)
    changed = replace(plan, blocking=blocking)
    program = emit(changed, order)
    return replace(made, program=program, choice=replace(made.choice, plan=changed))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("tiles", [0, 1])
@pytest.mark.parametrize("order", ["KPC", "PKC", "CKP", "CPK", "KCP", "PCK"])
@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": 100, "outputs": 150, "relu": True},
        {"inputs": 70, "outputs": 33, "groups": 2, "batch": 2, "stride": (2, 1)},
        {"inputs": 150, "outputs": 90, "size": (1, 1), "taps": (1, 1), "padding": (0,) * 4},
        {"inputs": 130, "outputs": 70, "dtype": "int8"},
    ],
)
def test_blocks_may_stand_in_any_order(
    changes: dict[str, object], order: str, tiles: int, threads: int
) -> None:
    case = base(**changes)
    for target in RUNNABLE:
        made = generate(
            case.workload(), target=target, dtype=case.dtype, relu=case.relu, threads=threads
        )
        other = in_order(made, order, tiles=tiles)
        inside = other.choice.blocking.chunks_inside
        assert inside or "long g, long c," in other.program.source
        assert not tiles or "long q0" in other.program.source or case.size == (1, 1)
        check(case, load_kernel(other)(*case.data()))


def test_sums_that_do_not_come_back_are_seen() -> None:
    case = base(inputs=100)
    made = generate(case.workload(), target="portable")
    made = in_order(made, "CKP")
    broken = made.program.source.replace("first = c == 0", "first = 1")
    assert broken != made.program.source
    wrong = replace(made, program=replace(made.program, source=broken))
    with pytest.raises(AssertionError, match="results are off"):
        check(case, load_kernel(wrong)(*case.data()))


# --- sanitizers -------------------------------------------------------------------------------

HARNESS = r"""
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
{declarations}
static void *block(size_t bytes)
{{
    void *p = NULL;
    return posix_memalign(&p, 64, bytes) ? NULL : p;
}}
static void *read_all(const char *path, size_t bytes)
{{
    void *p = block(bytes);
    FILE *f = fopen(path, "rb");
    if (!p || !f || fread(p, 1, bytes, f) != bytes) exit(9);
    fclose(f);
    return p;
}}
int main(int count, char **files)
{{
    if (count != 5) return 8;
    void *image = read_all(files[1], {image_bytes}), *weights = read_all(files[2], {weight_bytes});
    void *bias = read_all(files[3], {bias_bytes}), *output = block({output_bytes});
    void *x = block({packed_image}), *w = block({packed_weights}), *y = block({packed_output});
    {name}_pack_image(image, x);
    {name}_pack_weights(weights, bias, w);
    {name}_run(x, w, y);
    {name}_unpack_output(y, output);
    if ({name}(image, weights, bias, output)) return 7;
    FILE *f = fopen(files[4], "wb");
    if (!f || fwrite(output, 1, {output_bytes}, f) != {output_bytes}) return 6;
    fclose(f), free(image), free(weights), free(bias), free(output), free(x), free(w), free(y);
    return 0;
}}
"""


WATCH = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g")
CROSS, EMULATOR = "aarch64-linux-gnu-gcc", ("qemu-aarch64-static", "qemu-aarch64")


def run_sanitized(case: Case, target: str, folder: Path, edit: tuple[str, str] = ("", "")) -> Array:
    """Run the program alone, with exactly the memory that it may touch."""
    return run_alone(case, target, folder, [find_compiler(), *WATCH], edit=edit)


def run_alone(  # noqa: PLR0917
    case: Case,
    target: str,
    folder: Path,
    compiler: list[str],
    runner: tuple[str, ...] = (),
    edit: tuple[str, str] = ("", ""),
) -> Array:
    made = made_of(case, target)
    image, weights, bias = case.data()
    rows, columns = made.shape.rows.size, made.shape.columns.size
    image = np.ascontiguousarray(
        image[:, :, :rows, :columns]
    )  # what no filter reaches is not given
    layout = made.choice.plan.layout
    output = np.empty(made.shape.output_shape, bias.dtype)
    program = made.program
    text = HARNESS.format(
        declarations=program.declarations,
        name=program.name,
        image_bytes=image.nbytes,
        weight_bytes=weights.nbytes,
        bias_bytes=bias.nbytes,
        output_bytes=output.nbytes,
        packed_image=4 * layout.image_elements,
        packed_weights=4 * layout.weight_elements,
        packed_output=4 * layout.output_elements,
    )
    folder.mkdir(exist_ok=True)
    for name, array in (("image", image), ("weights", weights), ("bias", bias)):
        array.tofile(folder / name)
    (folder / "main.c").write_text(text)
    (folder / "kernel.c").write_text(program.source.replace(*edit) if edit[0] else program.source)
    flags = [flag for flag in made.flags if flag != "-O2"]
    sources = [str(folder / "main.c"), str(folder / "kernel.c")]
    command = [*compiler, *flags, *sources, "-o", str(folder / "run")]
    subprocess.run(command, check=True)
    files = [str(folder / name) for name in ("image", "weights", "bias", "output")]
    done = subprocess.run(
        [*runner, str(folder / "run"), *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[:2000]
    return np.fromfile(folder / "output", bias.dtype).reshape(case_shape(case))


def case_shape(case: Case) -> tuple[int, ...]:
    return reference(case)[0].shape


def sanitizers_work() -> bool:
    return ctypes.util.find_library("c") is not None and "clang" not in find_compiler()


@pytest.mark.parametrize("seed", range(20, 26))
def test_programs_are_clean_under_sanitizers(seed: int, tmp_path: Path) -> None:
    target = RUNNABLE[seed % len(RUNNABLE)]
    case = draw_case(seed)
    check(case, run_sanitized(case, target, tmp_path))


@pytest.mark.skipif(
    not shutil.which(CROSS) or not any(map(shutil.which, EMULATOR)),
    reason="no cross compiler for aarch64, or no emulator (apt: gcc-aarch64-linux-gnu, qemu-user)",
)
@pytest.mark.parametrize("seed", range(30, 36))
def test_neon_programs_run_in_an_emulator(seed: int, tmp_path: Path) -> None:
    case = draw_case(seed)
    emulator = next(filter(None, map(shutil.which, EMULATOR)))
    got = run_alone(case, "neon", tmp_path, [CROSS, "-O2", "-static"], (emulator,))
    check(case, got)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(400, 500))
def test_many_programs_are_clean_under_sanitizers(seed: int, tmp_path: Path) -> None:
    case = draw_case(seed)
    for target in RUNNABLE:
        check(case, run_sanitized(case, target, tmp_path / target))


def test_the_sanitizer_sees_a_planted_overrun(tmp_path: Path) -> None:
    case = base(padding=(0, 0, 0, 0))
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        run_sanitized(case, "portable", tmp_path, ("long r = r0; r < r1", "long r = r0; r <= r1"))
