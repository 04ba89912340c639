"""The block's bandwidth against a baseline's, and every convention against what it moved.

Writes docs/hwc-bandwidth.md and its figure: schedules proved, words modelled for four networks at
five sizes, and measured on the RTL in Verilator at one of them.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import log2, log10
from pathlib import Path

import tilewright
from tilewright.errors import InputError, TilewrightError
from tilewright.hwc.baseline import CONFIG as BASELINE
from tilewright.hwc.baseline import PLANES, baseline_mapping
from tilewright.hwc.config import CONFIGS, HwcConfig
from tilewright.hwc.convolution import fit_widths, read_convolution
from tilewright.hwc.schedule import SUM_WEIGHT, find_schedule
from tilewright.hwc.study import Plan, Study, crop_plan, run_baseline, study_layer
from tilewright.ir.hardware import Hardware, Level
from tilewright.ir.workload import Workload
from tilewright.mapper.block_traffic import BlockTraffic, weighted_words
from tilewright.mapper.result import Status
from tilewright.model.convention import CONVENTIONS
from tilewright.model.evaluate import evaluate
from tilewright.model.limit import dram_limit
from tilewright.zoo import load_network

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "hwc-bandwidth.md"
FIGURE = ROOT / "docs" / "figures" / "hwc-bandwidth.svg"
NETWORKS = ("alexnet", "vgg16", "resnet18", "mobilenetv2")
SIZES_KIB = (1, 2, 4, 8, 16)
MEASURED_KIB = 4
WHOLE = ("alexnet",)
"""Networks of which every layer is simulated whole, however long it is."""

CROPPED_STEPS = 1_000_000
BASELINE_STEPS = 60_000
OPEN = Hardware("open", (Level("DRAM"), Level("BUF")))
"""No capacity: some conventions ask for more room than a schedule takes."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution of a network, and how often it comes."""

    network: str
    repeat: int
    work: Workload


@dataclass(frozen=True, slots=True)
class Modelled:
    """A layer on one block: 16-bit words, of the schedule, the baselines, and the limit."""

    layer: Layer
    answer: BlockTraffic
    baselines: dict[int, int]
    limit: float


@dataclass(frozen=True, slots=True)
class Measured:
    """A layer that ran: the study, and the words of the baselines that ran (planes: words)."""

    layer: Layer
    study: Study
    baselines: dict[int, tuple[int, int]]
    seconds: float


def progress(message: str) -> None:
    sys.stderr.write(f"[{time.process_time():6.1f} s] {message}\n")
    sys.stderr.flush()


def block(kib: int) -> HwcConfig:
    return CONFIGS[f"{kib}KiB"]


def layers_of(network: str) -> list[Layer]:
    """The layers whose windows slide; products with a matrix are none."""
    return [
        Layer(network, layer.repeat, fit_widths(layer.workload, block(MEASURED_KIB)))
        for layer in load_network(network).layers
        if any(dim.name == "P" for dim in layer.workload.dims)
    ]


def model(layer: Layer, kib: int) -> Modelled:
    config = block(kib)
    answer = find_schedule(layer.work, config)
    if answer is None:
        raise InputError([])
    # The limit is for all that the block can hold, whatever it is used for.
    limit = dram_limit(layer.work, replace(config, doubled="").to_hardware())
    return Modelled(layer, answer, baselines_of(layer.work), limit.words)


def baselines_of(work: Workload) -> dict[int, int]:
    """16-bit words of the baseline's nests, as the model counts them."""
    convolution, found = read_convolution(work), dict[int, int]()
    for planes in PLANES:
        cost = evaluate(work, BASELINE.to_hardware(), baseline_mapping(convolution, planes))
        found[planes] = weighted_words(cost, work, SUM_WEIGHT)
    return found


def measure(layer: Layer, answer: BlockTraffic) -> Measured:
    """Run the schedule and the baselines on the RTL; stop if a result or a word is wrong."""
    began = time.process_time()
    plan = Plan(layer.work, block(MEASURED_KIB), answer.cost, answer.status.value)
    name = f"{layer.network}:{layer.work.name}"
    steps = sys.maxsize if layer.network in WHOLE else CROPPED_STEPS
    study = study_layer(plan, simulator="verilator", most_steps=steps)
    if not (study.run.is_correct and study.agrees):
        sys.exit(f"{name}: {study.run.wrong} results are wrong, or words")
    small, _ = crop_plan(plan, BASELINE_STEPS // block(MEASURED_KIB).multipliers)
    expected = baselines_of(small.layer)
    found: dict[int, tuple[int, int]] = {}
    for planes in PLANES:
        run = run_baseline(small.layer, planes)
        if not run.is_correct or run.port_words_16 != expected[planes]:
            sys.exit(f"{name}: the baseline moved {run.words}")
        found[planes] = run.port_words_16, expected[planes]
    return Measured(layer, study, found, time.process_time() - began)


# The page.


def megabytes(words: float) -> str:
    return f"{words * 2 / 1e6:,.1f}"


def total(rows: Sequence[Modelled], planes: int = 0) -> int:
    return sum(
        row.layer.repeat * (row.baselines[planes] if planes else row.answer.weighted_words)
        for row in rows
    )


def limit_of(rows: Sequence[Modelled]) -> float:
    return sum(row.layer.repeat * row.limit for row in rows)


def bandwidth_table(found: dict[tuple[str, int], list[Modelled]]) -> Iterator[str]:
    yield "| network | block | moves, MB | n = 1 | n = 2 | n = 3 | n = 4 | × limit | schedules |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for network in NETWORKS:
        for kib in SIZES_KIB:
            rows = found[network, kib]
            ours = total(rows)
            ratios = " | ".join(f"{total(rows, planes) / ours:.2f}" for planes in PLANES)
            proved = sum(row.answer.status is Status.OPTIMAL for row in rows)
            yield (
                f"| {network} | {kib} KiB | {megabytes(ours)} | {ratios} "
                f"| {ours / limit_of(rows):.2f} | {proved} of {len(rows)} proved |"
            )


def measured_table(measured: Sequence[Measured]) -> Iterator[str]:
    yield (
        "| network | layers | of which whole | multiply-accumulates run | words measured "
        "| model | results wrong | multipliers busy |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for network in NETWORKS:
        rows = [each for each in measured if each.layer.network == network]
        whole = sum(not each.study.cropped for each in rows)
        macs = sum(each.study.plan.layer.macs for each in rows)
        words = sum(each.study.run.port_words_16 for each in rows)
        expected = sum(each.study.plan.words_16 for each in rows)
        slots = sum(each.study.run.cycles * each.study.plan.config.multipliers for each in rows)
        wrong = sum(each.study.run.wrong for each in rows)
        yield (
            f"| {network} | {len(rows)} | {whole} | {macs:,} | {words:,} | {expected:,} "
            f"| {wrong} | {macs / slots:.1%} |"
        )


def accuracy_table(measured: Sequence[Measured]) -> Iterator[str]:
    yield "| convention | schedules | exact | mean error | worst error | all words |"
    yield "|---|---|---|---|---|---|"
    for name in CONVENTIONS:
        errors: list[float] = []
        predicted = moved = 0
        for each in measured:
            words = prediction(each, name)
            if words is None:
                continue
            real = sum(each.study.run.words.values())
            errors.append(words / real - 1)
            predicted, moved = predicted + words, moved + real
        if not errors:
            yield f"| {name} | 0 | – | – | – | – |"
            continue
        sizes = [abs(error) for error in errors]
        worst = max(errors, key=abs)
        yield (
            f"| {name} | {len(errors)} | {sum(size == 0 for size in sizes)} "
            f"| {sum(sizes) / len(sizes):.1%} | {worst:+.1%} | {predicted / moved - 1:+.1%} |"
        )


def prediction(each: Measured, convention: str) -> int | None:
    """Words to and from memory as a convention counts them; `None` where it counts nothing."""
    work, mapping = each.study.plan.layer, each.study.plan.cost.mapping
    try:
        return evaluate(work, OPEN, mapping, convention=convention).dram_words
    except TilewrightError:
        return None


def cycles_table(measured: Sequence[Measured]) -> Iterator[str]:
    yield "| layer | size run | cycles | model | difference | multipliers busy |"
    yield "|---|---|---|---|---|---|"
    for each in measured:
        study = each.study
        cycles, expected = study.run.cycles, study.plan.model_cycles
        cut = " ".join(f"{dim}{size}" for dim, size in study.cropped.items()) or "whole"
        yield (
            f"| {each.layer.network}:{each.layer.work.name} | {cut} | {cycles:,} | {expected:,} "
            f"| {cycles / expected - 1:+.1%} | {study.utilization:.1%} |"
        )


def within(measured: Sequence[Measured], share: float) -> str:
    close = sum(
        abs(each.study.run.cycles / each.study.plan.model_cycles - 1) <= share for each in measured
    )
    return f"{close} of {len(measured)}"


def page(found: dict[tuple[str, int], list[Modelled]], measured: Sequence[Measured]) -> str:
    vgg = {kib: found["vgg16", kib] for kib in SIZES_KIB}
    best = {kib: total(rows, 1) / total(rows) for kib, rows in vgg.items()}
    runs = len(measured) * (1 + len(PLANES))
    whole = sum(not each.study.cropped for each in measured)
    cycles = sum(each.study.run.cycles for each in measured)
    config = block(MEASURED_KIB)
    plain = plain_ratio(vgg[4])
    return f"""# The block's bandwidth, and how right the model is about it

Written by `make hwc-bandwidth`: tilewright {tilewright.__version__}, seed 0 of operands.

A schedule of least traffic for every convolution of four networks, on blocks with
{", ".join(str(kib) for kib in SIZES_KIB)} KiB of buffers ([hwc.md](hwc.md)), against a block of the
class of HWCE that sends partial sums through memory ([what that is](hwc.md#the-baseline)).

**On VGG-16 the baseline with one output plane moves {best[4]:.1f} times as much as the block with
4 KiB**; with two and four planes {total(vgg[4], 2) / total(vgg[4]):.1f} and
{total(vgg[4], 4) / total(vgg[4]):.1f} times as much; against 2 KiB it is {best[2]:.1f},
{total(vgg[2], 2) / total(vgg[2]):.1f} and {total(vgg[2], 4) / total(vgg[2]):.1f}. **The model was
right to the word** in all {runs} runs of the RTL.

- Words have 16 bits on both sides. A sum of 32 bits that crosses a port counts as two, on both
  sides; a result as one. If a sum counted as one word, {best[4]:.1f} would be {plain:.1f}: the
  baseline sends sums, the block hardly does.
- Sizes are those of all buffers together. An eighth holds inputs and a sixteenth weights, two tiles
  of each, so that the next one comes while one is worked on; the rest holds one tile of sums. The
  baseline's line buffer, filters and sums are not counted against it.
- Padding is made, not fetched, on both sides. Fully connected layers are left out.
- *Moves* and the ratios are **modelled**: words of whole networks by `exact`, in the convention
  `default`. What was **measured** to support them is below.
- *× limit*: over the physical limit ([spec/model.md §6](spec/model.md)) of a chip with such buffers
  and four multipliers, in words of 16 bits.
- *proved*: no uneven schedule with any tiles moves less through these buffers, ragged ones left out
  ([traffic.md](traffic.md)), among those that keep the four multipliers at work.

## Bandwidth

{chr(10).join(bandwidth_table(found))}

![Traffic of four networks by block size, baseline and limit](figures/hwc-bandwidth.svg)

Depthwise layers have one input channel for an output: there the baseline spills nothing, and both
move about the same. What MobileNetV2 gains, it gains in 1×1 layers, where the baseline sends and
fetches a sum for every product.

## What was measured

At {MEASURED_KIB} KiB ({config.input_words} words for inputs, {config.weight_words} for weights,
{config.sum_words} sums) every layer ran in Verilator, {cycles:,} cycles in all, {whole} of
{len(measured)} whole. The others were cropped to whole tiles of rows, columns and output channels,
with the schedule of the whole layer (the last table says to which size). Every result was compared
with a plain integer convolution, every port with the model.

{chr(10).join(measured_table(measured))}

The baselines ran for n = 1, 2, 3 and 4 on the same RTL with that block's buffers, on a
corner of every layer ({BASELINE_STEPS:,} steps at most): {len(measured) * len(PLANES)} runs, all
results right, all words those of the model.

## Accuracy of conventions

What each convention ([spec/model.md §5](spec/model.md)) predicts for the {len(measured)} schedules
that ran, against the words measured on all ports (a sum counts once here). `peemen2015` and
`zhang2015` were made for one block for all operands and a fixed order; here they are what their
rules say of these schedules ([where they differ](model-accuracy.md)). `timeloop` counts even
mappings with perfect factors only; nearly all of these keep operands at loops of their own.

{chr(10).join(accuracy_table(measured))}

## Cycles

The model, at a word a cycle and port: the larger of the words on the port of inputs or weights,
and the steps with the transfers of sums, for which the multipliers wait (there is one tile of
sums); and the first tiles before it.
{within(measured, 0.05)} layers are within 5% of it, {within(measured, 0.1)} within 10%. It knows
nothing of bursts: where a tile changes all at once after many small slides, or is smaller than what
it takes to begin a transfer, the block waits longer. The lanes work on output channels: in a
depthwise layer, which has one in each group, three of four multipliers are idle.

{chr(10).join(cycles_table(measured))}
"""


def plain_ratio(rows: Sequence[Modelled]) -> float:
    """The ratio for one plane if a sum crossed a port as one word."""
    ours = theirs = 0
    for row in rows:
        work = row.layer.work
        mapping = baseline_mapping(read_convolution(work), 1)
        theirs += row.layer.repeat * evaluate(work, BASELINE.to_hardware(), mapping).dram_words
        ours += row.layer.repeat * row.answer.cost.dram_words
    return theirs / ours


# The figure.

WIDTH, HEIGHT, LEFT, TOP, PANEL, TALL, GAP = 900, 330, 60, 60, 170, 210, 40
STYLE = """
text { font: 12px sans-serif; fill: #222; } .title { font-size: 14px; font-weight: bold; }
.ground { fill: #fff; } .axis { stroke: #888; } .grid { stroke: #ddd; }
.ours { fill: none; stroke: #0b5fa5; stroke-width: 2.5; }
.limit { fill: none; stroke: #888; stroke-width: 1.5; stroke-dasharray: 5 4; }
.base1 { stroke: #b5431c; stroke-width: 2; } .base4 { stroke: #d99a2b; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd; } .ground { fill: #181818; } .grid { stroke: #333; }
  .ours { stroke: #5fb0f0; }
}
"""
LABELS = {"ours": "block", "base1": "baseline n = 1", "base4": "n = 4", "limit": "limit"}


@dataclass(frozen=True, slots=True)
class Panel:
    """A network's panel: where it stands, and the megabytes at its foot and its top, as logs."""

    left: float
    low: float
    high: float

    def point(self, kib: float, words: float) -> tuple[float, float]:
        """Where so many words at such a size are drawn."""
        share = (log10(words * 2 / 1e6) - self.low) / (self.high - self.low)
        return self.left + PANEL * log2(kib) / log2(SIZES_KIB[-1]), TOP + TALL * (1 - share)

    def axes(self) -> Iterator[str]:
        foot, right = TOP + TALL, self.left + PANEL
        yield line("axis", self.left, foot, right, foot)
        yield line("axis", self.left, TOP, self.left, foot)
        for megabytes in (digit * 10**exponent for exponent in range(5) for digit in (1, 2, 5)):
            if self.low <= log10(megabytes) <= self.high:
                x, y = self.point(1, megabytes * 1e6 / 2)
                yield line("grid", x, y, right, y)
                yield text(x - 6, y + 4, f"{megabytes:,}", "", "end")
        for kib in SIZES_KIB:
            yield text(self.point(kib, 1e6)[0], foot + 18, str(kib), "", "middle")

    def curve(self, style: str, words: dict[int, float]) -> str:
        points = (self.point(kib, each) for kib, each in words.items())
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        return f'<polyline class="{style}" fill="none" points="{drawn}"/>'


def panel(number: int, network: str, found: dict[tuple[str, int], list[Modelled]]) -> Iterator[str]:
    rows = {kib: found[network, kib] for kib in SIZES_KIB}
    curves: dict[str, dict[int, float]] = {
        "base1": dict.fromkeys(SIZES_KIB, total(rows[1], 1)),
        "base4": dict.fromkeys(SIZES_KIB, total(rows[1], 4)),
        "ours": {kib: total(each) for kib, each in rows.items()},
        "limit": {kib: limit_of(each) for kib, each in rows.items()},
    }
    values = [log10(words * 2 / 1e6) for curve in curves.values() for words in curve.values()]
    drawn = Panel(LEFT + number * (PANEL + GAP), min(values) - 0.05, max(values) + 0.05)
    yield from drawn.axes()
    for style, words in curves.items():
        yield drawn.curve(style, words)
    yield text(drawn.left + PANEL / 2, TOP - 10, f"{network}, MB", "", "middle")


def picture(found: dict[tuple[str, int], list[Modelled]]) -> str:
    """A panel for each network: MB against block size, both on log scales."""
    body = [text(16, 28, "Words of 16 bits to and from memory", "title")]
    for column, (style, label) in enumerate(LABELS.items()):
        x = 420 + 120 * column
        body += [line(style, x, 24, x + 24, 24), text(x + 30, 28, label)]
    for number, network in enumerate(NETWORKS):
        body += panel(number, network, found)
    body.append(text(WIDTH / 2, HEIGHT - 10, "buffers of the block, KiB", "", "middle"))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            'aria-label="Bandwidth of the convolution block">',
            f"<style>{STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
            *body,
            "</svg>",
            "",
        ]
    )


def line(style: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def main() -> None:
    found: dict[tuple[str, int], list[Modelled]] = {}
    for network in NETWORKS:
        for kib in SIZES_KIB:
            found[network, kib] = [model(layer, kib) for layer in layers_of(network)]
        progress(f"{network}: schedules found")
    measured: list[Measured] = []
    for network in NETWORKS:
        for row in found[network, MEASURED_KIB]:
            measured.append(measure(row.layer, row.answer))
            last = measured[-1]
            progress(
                f"{network}:{row.layer.work.name}: {last.study.run.cycles:,} cycles, "
                f"{last.study.utilization:.1%} busy, {last.seconds:.1f} s"
            )
    FIGURE.write_text(picture(found), encoding="utf-8")
    PAGE.write_text(page(found, measured), encoding="utf-8")
    progress(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
