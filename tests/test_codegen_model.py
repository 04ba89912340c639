"""The CPU as hardware, the blocking, its predicted traffic, and what is refused."""

import json
import multiprocessing
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codegen_cases import TINY, draw_case
from hypothesis import given
from hypothesis import strategies as st

import tilewright as tw
from tilewright.cli.main import run
from tilewright.codegen import build, sets, tiling
from tilewright.codegen import cpu as cpus
from tilewright.codegen import reference as checking
from tilewright.codegen.blocking import choose_blocking
from tilewright.codegen.cpu import Cache, Cpu, load_cpu
from tilewright.codegen.emit import emit
from tilewright.codegen.kernel import Generated, generate, load_kernel
from tilewright.codegen.sets import expected_lines
from tilewright.codegen.shape import Shape, Window, read_shape
from tilewright.codegen.simulate import simulate
from tilewright.codegen.targets import AVX2, AVX512, TARGETS
from tilewright.codegen.tiling import Blocking, Plan, plane_pixels, runs
from tilewright.codegen.traffic import (
    LoopNest,
    estimate,
    machine,
    predict,
    span_inside,
    tile_lines,
)
from tilewright.errors import Source
from tilewright.ir.mapping import parse_mapping
from tilewright.model.evaluate import compare_with_walk

ZEN5 = Cpu("zen5", (Cache(1, 48 << 10, 12), Cache(2, 1 << 20, 16), Cache(3, 32 << 20, 16)))


def test_the_caches_of_a_folder_of_sysfs(tmp_path: Path) -> None:
    for index, (kind, level, size, ways) in enumerate(
        [
            ("Data", 1, "48K", 12),
            ("Instruction", 1, "32K", 8),
            ("Unified", 2, "1024K", 16),
            ("Unified", 3, "100K", 0),  # a virtual machine that hides the ways
        ]
    ):
        entry = tmp_path / f"index{index}"
        entry.mkdir()
        lines = {"type": kind, "level": level, "size": size, "ways_of_associativity": ways}
        lines |= {"coherency_line_size": 64, "shared_cpu_list": "0-1,7"}
        for name, value in lines.items():
            (entry / name).write_text(f"{value}\n")
    assert cpus._read_caches(tmp_path) == (
        Cache(1, 48 << 10, 12, 64, 3),
        Cache(2, 1 << 20, 16, 64, 3),
    )
    assert cpus._read_caches(tmp_path / "missing") == ()


def test_a_cpu_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(
        "isa: avx2\ncores: 4\nfma_per_cycle: 1\ncaches:\n"
        "  - {capacity: 32KiB, ways: 8}\n  - {capacity: 256KiB, ways: 4, sharers: 2}\n"
    )
    found = load_cpu(path)
    assert found.name == "old"
    assert found.native().name == "avx2"
    assert found.caches[1] == Cache(2, 256 << 10, 4, 64, 2)
    assert (found.cores, found.fma_per_cycle) == (4, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x", "`caches` is missing"),
        ("caches: [{capacity: 32KB}]", "unknown unit `KB`"),
        ("caches: [{capacity: 33KiB, ways: 7}]", "no whole number of sets"),
        ("caches: [{capacity: 32KiB}, {capacity: 16KiB}]", "smaller than an inner one"),
        ("isa: sse9\ncaches: [{capacity: 32KiB}]", "`sse9` is no instruction set"),
        ("caches: [{capacity: 32KiB, lines: 3}]", "unknown key `lines`"),
    ],
)
def test_a_wrong_cpu_is_refused(text: str, message: str) -> None:
    with pytest.raises(tw.InputError, match=message):
        cpus.parse_cpu(Source("cpu.yaml", text))


def test_windows_know_their_real_taps() -> None:
    axis = Window(size=5, places=5, taps=3, stride=1, dilation=2, before=2)
    real = [
        [tap for tap in range(3) if 0 <= place - 2 + 2 * tap < 5] for place in range(axis.places)
    ]
    assert [list(axis.valid(place)) for place in range(5)] == real


@pytest.mark.parametrize("width", [1, 2, 3, 7, 20])
def test_runs_cover_every_place_once(width: int) -> None:
    axis = Window(size=17, places=19, taps=5, stride=1, dilation=1, before=3)
    seen = [
        run.start + tile * run.width + place
        for run in runs(axis, width)
        for tile in range(run.count)
        for place in range(run.width)
    ]
    assert seen == list(range(19))


def small(**changes: object) -> tw.Workload:
    sizes: dict[str, object] = {"K": 32, "C": 8, "R": 3, "S": 3, "padding": 1}
    sizes |= {"in_height": 6, "in_width": 7} | changes
    return tw.conv2d("small", **sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "layer",
    [
        small(),
        small(stride=2),
        small(G=2, K=8, C=4),
        small(G=20, K=1, C=1),
        small(C=20, in_width=9),
    ],
)
def test_the_mapping_in_the_comment_is_what_the_walk_counts(layer: tw.Workload) -> None:
    """The text is read back, walked, and its words are the lines of the prediction."""
    made = generate(layer, cpu=replace(TINY, flags=cpus.host().flags), target="portable")
    traffic = made.choice.traffic
    comment = made.program.source.partition("*/")[0]
    text = [line.removeprefix(" * ") for line in comment.split("\n") if "]:" in line]
    mapping = parse_mapping("\n".join(text))
    assert mapping == traffic.mapping
    hardware = machine(made.cpu.caches, made.target.lanes)
    cost = tw.evaluate(traffic.workload, hardware, mapping)
    assert compare_with_walk(cost) == []
    for part in traffic.caches:
        tally = cost.counts[f"L{part.cache.level}", "I"]
        assert part.lines["I"] == -(-tally.fills * 4 // part.cache.line_bytes)


@pytest.mark.parametrize("network", ["resnet18", "alexnet"])
def test_the_quick_estimate_ranks_by_what_is_then_predicted(network: str) -> None:
    """They differ by rows of which a stride skips pixels and by channels that only fill up."""
    for layer in tw.load(network).layers:
        shape, _ = read_shape(layer.workload)
        choice = choose_blocking(shape, ZEN5, AVX512)
        exact = [part.total_lines for part in choice.traffic.caches]
        for guessed, counted in zip(estimate(choice.plan, ZEN5), exact, strict=True):
            assert counted * 0.99 <= guessed <= counted * 1.05


def test_a_published_count() -> None:
    """The lines of a 3×3 layer that a cache simulator and callgrind counted: 620,544."""
    shape, _ = read_shape(tw.load_layer("yang2016:Conv4"))
    padded = replace(shape, rows=Window(56, 56, 3, 1, 1, 1), columns=Window(56, 56, 3, 1, 1, 1))
    plan = Plan(padded, AVX512, Blocking(vectors=2, width=8, chunk=16, rows=56))
    lines = predict(plan, ZEN5).caches[0].lines
    assert lines["I"] == 8 * 128 * 56 * 56 // 16
    assert lines["W"] == 256 * 128 * 9 // 16
    assert lines["O"] == 8 * 256 * 56 * 56 // 16
    assert sum(lines.values()) == 620_544


@pytest.mark.parametrize("objective", ["time", "accesses"])
@pytest.mark.parametrize(
    "name",
    ["alexnet:conv1", "resnet18:conv1", "resnet18:layer1.0.conv1", "resnet18:layer3.0.conv2"],
)
def test_lines_are_expected_set_by_set(name: str, objective: str) -> None:
    """Never much less than what is fetched; more, as a set that overflows keeps something still."""
    made = made_for(PAPER, name, objective)
    found = simulate(made, PAPER)
    assert found is not None
    for expected, counted in zip(made.choice.expected, found.lines, strict=True):
        assert 0.96 * counted <= expected <= 1.35 * counted


def test_the_leanest_may_have_one_vector() -> None:
    """Two vectors of 16 lanes have 46 KB of weights, which pass through L1 for every tile."""
    shape, _ = read_shape(tw.load_layer("alexnet:conv1"))
    lean = choose_blocking(shape, Cpu("paper", PAPER), AVX512, objective="accesses")
    fast = choose_blocking(shape, Cpu("paper", PAPER), AVX512)
    assert lean.blocking.vectors == 1 < fast.blocking.vectors
    assert lean.expected[0] < 0.8 * fast.expected[0]


def test_conflicts_that_are_left_out_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that take 5.7 of 8 ways beside rows of three channels: sets overflow."""
    made = made_for(PAPER, "alexnet:conv1")
    blocking = Blocking(vectors=4, width=5, chunk=3, rows=7, order="PKC")
    plan = replace(made.choice.plan, blocking=blocking)
    program = emit(plan, "too much for some sets")
    made = replace(made, program=program, choice=replace(made.choice, plan=plan))
    found = simulate(made, PAPER)
    assert found is not None
    assert expected_lines(plan, made.cpu)[0] > 0.95 * found.lines[0]
    monkeypatch.setattr(sets, "_share_kept", _kept_by_size)
    assert expected_lines(plan, made.cpu)[0] < 0.6 * found.lines[0]


def _kept_by_size(plan: Plan, nest: LoopNest, depth: int, cache: Cache) -> float:
    tile = tile_lines(plan.shape, plan.layout, span_inside(nest, depth), cache.line_bytes)
    return float(sum(tile.values()) * cache.line_bytes <= cache.capacity_bytes)


def test_the_leanest_fetch_less_and_take_longer() -> None:
    """But for the percent that parts of rows, which only they may have, are modelled to gain."""
    machine, less = Cpu("paper", PAPER), 0
    for layer in tw.load("resnet18").layers:
        shape, _ = read_shape(layer.workload)
        fast, lean = (
            choose_blocking(shape, machine, AVX2, objective=goal) for goal in ("time", "accesses")
        )
        moved = [sum(choice.expected) for choice in (lean, fast)]
        assert moved[0] <= moved[1]
        assert fast.cycles <= 1.01 * lean.cycles
        less += moved[0] < moved[1]
    assert less > 3


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        (small(), {"dtype": "float16"}, "`float16` is not supported"),
        (small(), {"target": "avx"}, "`avx` is no target"),
        (small(), {"objective": "joy"}, "no objective `joy`"),
        (small(), {"threads": 0}, "0 threads"),
        (small(K=10**6, C=10**6), {}, "its arrays need 33,528 GiB, the limit is 64 GiB"),
        (small(C=20_000), {"dtype": "int8"}, "sums 180,000 products of int8"),
        (
            tw.einsum("three", "O[M] += A[M,K] * B[K] * C[K]", {"M": 4, "K": 4}),
            {},
            "3 operands are multiplied",
        ),
        (
            tw.einsum("back", "O[P+R] += W[R] * I[P]", {"P": 4, "R": 3}),
            {},
            "transposed convolution",
        ),
        (
            tw.einsum(
                "deep",
                "O[K,D,P,Q] += W[K,T,R,S] * I[D+T,P+R,Q+S]",
                {"K": 2, "D": 2, "P": 2, "Q": 2, "T": 2, "R": 2, "S": 2},
            ),
            {},
            "slides along 3 axes",
        ),
        (
            tw.einsum("pool", "O[C,P] += I[C,2P+R]", {"C": 4, "P": 4, "R": 2}),
            {"dtype": "int8"},
            "pooling of int8",
        ),
    ],
)
def test_what_is_not_compiled_is_named(
    layer: tw.Workload, options: dict[str, object], message: str
) -> None:
    with pytest.raises(tw.InputError, match=message):
        generate(layer, **options)  # type: ignore[arg-type]


def test_wrong_arrays_are_named() -> None:
    kernel = tw.compile(small())
    x, w = np.zeros((1, 8, 6, 7), np.float32), np.zeros((32, 8, 3, 3), np.float32)
    with pytest.raises(tw.InputError, match=r"the image has shape \(1, 8, 6, 9\), expected"):
        kernel(np.zeros((1, 8, 6, 9), np.float32), w)
    with pytest.raises(tw.InputError, match="the image is float64"):
        kernel(x.astype(np.float64), w)
    with pytest.raises(tw.InputError, match="takes weights"):
        kernel(x)
    with pytest.raises(tw.InputError, match="a bias of 31"):
        kernel(x, w, np.zeros(31, np.float32))
    with pytest.raises(tw.InputError, match="the packed image has 3"):
        kernel.run(np.zeros(3, np.float32), kernel.pack_weights(w))


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(tw.MissingToolError, match="there is no C compiler"):
        tw.compile(small())
    monkeypatch.setenv("CC", "no-such-cc")
    with pytest.raises(tw.MissingToolError, match="no-such-cc"):
        tw.compile(small())


def test_compilers_that_are_no_single_word_or_say_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "cc -O1")
    with pytest.raises(tw.MissingToolError, match="without options"):
        tw.compile(small())
    monkeypatch.setenv("CC", "false")
    with pytest.raises(tw.MissingToolError, match="exit code 1: it says nothing"):
        tw.compile(small())


def test_absurd_numbers_of_threads_are_refused() -> None:
    for threads in (0, -1, 1_000_000):
        with pytest.raises(tw.InputError, match=f"{threads:,} threads"):
            generate(small(), threads=threads)


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    made = generate(small())
    broken = replace(made, program=replace(made.program, source="int f( {"))
    with pytest.raises(tw.MissingToolError, match=r"failed with exit code 1: .*error"):
        load_kernel(broken)
    assert not list(tmp_path.rglob("*.so"))


def test_a_target_that_the_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    old = replace(cpus.host(), flags=frozenset())
    monkeypatch.setattr(cpus, "host", lambda: old)
    with pytest.raises(tw.InputError, match="does not run avx512"):
        tw.compile(small(), target="avx512")


def _compile_once(folder: str) -> str:
    os.environ["TILEWRIGHT_CACHE"] = folder
    return str(tw.compile(small(C=9)).library)


def test_processes_share_the_cache(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        paths = pool.map(_compile_once, [str(tmp_path)] * 3)
    assert len(set(paths)) == 1
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".so"]


def test_a_cache_hit_starts_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    first = tw.compile(small()).library

    def refuse(*_: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(build, "run_compiler", refuse)
    assert tw.compile(small()).library == first
    with pytest.raises(AssertionError, match="compiled again"):
        tw.compile(small(), relu=True)


@pytest.mark.parametrize("target", list(TARGETS))
def test_programs_are_the_same_text_every_time(target: str) -> None:
    case = draw_case(3)
    texts = {generate(case.workload(), cpu=TINY, target=target).program.source for _ in range(2)}
    assert len(texts) == 1


def test_hostile_names_stay_inside_the_comment() -> None:
    layer = tw.conv2d('evil */ int main(){} "\n#error', K=2, C=2, P=2, Q=2)
    made = generate(layer)
    assert made.program.name.isidentifier()
    assert made.program.source.index("*/") == made.program.source.index(" */\n") + 1
    load_kernel(made)


# --- simulated accesses -------------------------------------------------------------------------

PAPER = (Cache(1, 32 << 10, 8), Cache(2, 256 << 10, 8), Cache(3, 12 << 20, 16))


def made_for(caches: tuple[Cache, ...], name: str, objective: str = "time") -> Generated:
    layer, cpu = tw.load_layer(name), replace(cpus.host(), caches=caches)
    return generate(layer, cpu=cpu, target="portable", objective=objective)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18:layer2.0.downsample",
        "alexnet:conv3",
        "resnet18:fc",
        "mobilenetv2:features.17.conv.2",
    ],
)
def test_predicted_lines_are_those_of_the_simulated_program(name: str) -> None:
    made = made_for(PAPER, name)
    found = simulate(made, PAPER)
    assert found is not None
    predicted = [part.total_lines for part in made.choice.traffic.caches]
    for counted, expected in zip(found.lines, predicted, strict=True):
        assert 0.9 * expected <= counted <= 1.1 * expected


@pytest.mark.parametrize(
    ("name", "openblas"),
    [("resnet18:layer4.0.conv1", 107_640), ("mobilenetv2:features.17.conv.2", 29_082)],
)
@pytest.mark.parametrize("objective", ["time", "accesses"])
def test_an_image_that_does_not_stay_is_read_by_chunks(
    name: str, openblas: int, objective: str
) -> None:
    """Image and weights exceed L2: without chunks outside it was read for each block of outputs.

    im2col with OpenBLAS fetches so many lines from L3, counted by callgrind (cpu-accesses.md).
    """
    machine = replace(cpus.host(), caches=PAPER)
    made = generate(tw.load_layer(name), cpu=machine, target="portable", objective=objective)
    assert made.choice.blocking.chunk_major
    found = simulate(made, PAPER)
    assert found is not None
    assert found.lines[1] < openblas


def test_what_fits_no_cache_is_read_for_every_tile() -> None:
    """All channels of a fully connected layer at once: weights and image pass through L1 and L2."""
    made = made_for(PAPER, "yang2016:FC2")
    plan = made.choice.plan
    blocking = replace(plan.blocking, vectors=8, width=1, chunk=4096, order="KPC")
    whole = replace(plan, blocking=blocking)
    traffic = predict(whole, made.cpu)
    program = emit(whole, "all channels at once")
    bad = replace(made, program=program, choice=replace(made.choice, plan=whole, traffic=traffic))
    found = simulate(bad, PAPER)
    assert found is not None
    tiles, image = 4096 // (8 * 4), 4096 // 16
    assert traffic.caches[0].lines["I"] == traffic.caches[1].lines["I"] == tiles * image
    for part, counted in zip(traffic.caches[:2], found.lines, strict=False):
        assert not part.fits
        assert part.total_lines == pytest.approx(counted, rel=0.002)


def test_blocks_side_by_side_would_push_one_another_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planes of 13 × 13 pixels as they are: a tenth more lines than the model says."""
    monkeypatch.setattr(tiling, "SMALLEST_SPREAD", 1 << 60)
    made = made_for(PAPER, "alexnet:conv3")
    found = simulate(made, PAPER)
    assert found is not None
    assert found.lines[0] > 1.09 * made.choice.traffic.caches[0].total_lines


@given(
    pixels=st.integers(1, 300_000),
    lanes=st.sampled_from([1, 3, 4, 8, 16]),
)
def test_planes_are_spread_over_sets(pixels: int, lanes: int) -> None:
    plane = plane_pixels(pixels, lanes)
    lines = -(-pixels * lanes // 16)
    assert pixels <= plane <= pixels + 16 * 16 // lanes
    if lanes in (4, 8, 16) and lines >= 40:
        starts = sorted(n * plane * lanes // 16 % 64 for n in range(8))
        assert starts == list(range(0, 64, 8))


def test_the_simulator_sees_a_worse_nest() -> None:
    """A chunk of all channels pushes its own weights out of L1 again and again."""
    made = made_for(PAPER, "alexnet:conv3")
    plan = made.choice.plan
    worse = replace(plan, blocking=replace(plan.blocking, chunk=plan.layout.elements))
    program = emit(worse, "all channels at once")
    bad = replace(made, program=program, choice=replace(made.choice, plan=worse))
    good, poor = simulate(made, PAPER), simulate(bad, PAPER)
    assert good is not None
    assert poor is not None
    assert poor.lines[0] > 2 * good.lines[0]


def test_cold_misses_of_a_stream_are_its_lines() -> None:
    """With caches that hold everything each line comes once: image, weights, biases, output."""
    huge = (Cache(1, 1 << 26, 16),)
    made = made_for(huge, "resnet18:layer4.0.downsample")
    layout = made.choice.plan.layout
    read = layout.image_elements // 4  # stride 2 in both directions: a quarter of the pixels,
    read *= 4 if layout.in_lanes < 16 else 1  # or all lines of every other row, if lines hold more
    found = simulate(made, huge)
    assert found is not None
    rest = (layout.weight_elements + layout.output_elements) * 4 // 64
    assert found.lines[0] <= rest + read * 4 // 64
    assert found.lines[0] >= rest + layout.image_elements // 4 * 4 // 64


# --- the command line ---------------------------------------------------------------------------


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_compile_checks_and_measures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ("compile", "resnet18:layer4.0.downsample", "--bench", "--seconds", "0.05")
    found = document(capsys, *arguments, "--out", str(tmp_path))
    assert found["correct"] is True
    assert 0 < found["max_error"] < found["allowed_error"]
    assert found["gflops"] > 0
    assert found["peers"] == {}
    assert found["accesses"]["geometry"] == cpus.host().geometry
    for counts in (found["accesses"]["ours"], found["accesses"]["predicted"]):
        assert counts["dram"] > 0
    files = [Path(name) for name in found["files"]]
    assert [path.name for path in files] == ["layer4_0_downsample.c", "layer4_0_downsample.h"]
    assert found["mapping"].split("\n")[0] in files[0].read_text()
    assert {"version", "inputs", "seed"} <= set(found)


def test_a_header_is_enough_for_a_c_program(tmp_path: Path) -> None:
    layer = tw.conv2d("twice", K=1, C=1, P=2, Q=2)
    generate(layer, target="portable").write(tmp_path)
    main = """#include <stdio.h>
#include "twice.h"
int main(void)
{
    const float image[4] = {1, 2, 3, 4}, weights[1] = {2};
    float output[4];
    if (twice(image, weights, NULL, output)) return 1;
    if (twice_image_elements != 4) return 2; /* one lane in use, four pixels */
    printf("%g %g %g %g", output[0], output[1], output[2], output[3]);
    return 0;
}
"""
    (tmp_path / "main.c").write_text(main)
    build_line = [build.find_compiler(), "-std=c11", "main.c", "twice.c", "-o", "main"]
    subprocess.run(build_line, cwd=tmp_path, check=True)
    done = subprocess.run([str(tmp_path / "main")], capture_output=True, text=True, check=True)
    assert done.stdout == "2 4 6 8"


def test_every_layer_of_a_network_gets_its_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "net.yaml"
    conv = "conv2d: {in_channels: %d, out_channels: 4, kernel: [1, 1], in_height: 3, in_width: 3}"
    names = (("a.b", 3), ("a_b", 4))
    path.write_text("layers:\n" + "".join(f"  - {{name: {n}, {conv % c}}}\n" for n, c in names))
    found = document(capsys, "compile", str(path), "--out", str(tmp_path / "out"))
    assert [layer["library"] for layer in found["layers"]] == [None, None]
    written = sorted(entry.name for entry in (tmp_path / "out").iterdir())
    assert written == ["a_b.c", "a_b.h", "a_b_2.c", "a_b_2.h"]


def test_one_wrong_layer_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(
        "layers:\n"
        '  - {name: good, einsum: "O[M] += W[M,K] * I[K]", sizes: {M: 4, K: 4}}\n'
        '  - {name: bad, einsum: "O[P+R] += W[R] * I[P]", sizes: {P: 4, R: 3}}\n'
    )
    out = tmp_path / "out"
    found = document(capsys, "compile", str(path), "--out", str(out), code=2)
    assert [problem["file"] for problem in found["error"]["problems"]] == ["bad"]
    assert not out.exists()


def test_no_compiler_is_exit_3(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    found = document(capsys, "compile", "resnet18:fc", code=3)
    assert found["error"]["kind"] == "tool"
    assert "install gcc" in found["error"]["problems"][0]["fix"]


def test_a_wrong_output_is_exit_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of `--run` is seen to fail: the reference gets other weights."""
    original = checking._compute

    def off(shape: Shape, image: Any, weights: Any) -> Any:
        return original(shape, image, weights * np.float32(1.001))

    monkeypatch.setattr(checking, "_compute", off)
    found = document(capsys, "compile", "resnet18:fc", "--run", code=1)
    assert found["correct"] is False


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compile", "resnet18:fc", "--run", "--target", "portable"]) == 0
    printed = capsys.readouterr().out
    assert "portable programs for" in printed
    assert "lines from L2" in printed
