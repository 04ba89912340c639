"""How busy the block's multipliers are, layer by layer, on the configuration that suits the layer.

Writes docs/hwc-busy.md: schedules proved, cycles of whole layers by the model, and of the same
schedules on the RTL in Verilator.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from experiments.hwc_bandwidth import CROPPED_STEPS, NETWORKS, ROOT, Layer, layers_of, progress

import tilewright
from tilewright.hwc.config import CONFIGS
from tilewright.hwc.convolution import fit_widths
from tilewright.hwc.study import Plan, Study, plan_layer, study_layer

PAGE = ROOT / "docs" / "hwc-busy.md"
ASKED = 0.9
"""Multiply-accumulates per multiplier and cycle, where multipliers are what bounds a layer."""
NEAR = 0.05
"""How far the model's cycles may be from the run's."""


@dataclass(frozen=True, slots=True)
class Busy:
    """A layer on the configuration that suits it: whole by the model, and as it ran."""

    layer: Layer
    plan: Plan
    study: Study

    @property
    def bound(self) -> float:
        """The most that multipliers can be busy, by the model of the whole layer."""
        return self.plan.layer.macs / (self.plan.model_cycles * self.plan.config.multipliers)

    @property
    def port(self) -> str:
        """The port that bounds the layer; empty if the multipliers do."""
        name, words = max(self.plan.words.items(), key=lambda item: item[1])
        return name if words > self.plan.steps else ""

    @property
    def delay(self) -> float:
        """By what share the run took longer than the model says."""
        return self.study.run.cycles / self.study.plan.model_cycles - 1

    @property
    def idle(self) -> float:
        """The share of multipliers without work in a step: what the array's shape leaves over."""
        return 1 - self.plan.layer.macs / (self.plan.steps * self.plan.config.multipliers)

    @property
    def by(self) -> str:
        """What bounds the layer, in words."""
        if self.port:
            return f"the port of {self.port}"
        return f"the array's shape: {self.idle:.1%} idle" if self.idle > 0.005 else "multipliers"


def is_depthwise(layer: Layer) -> bool:
    """Whether a group has one input and one output channel."""
    sizes = layer.work.sizes
    return sizes.get("G", 1) > 1 and sizes.get("K", 1) == sizes.get("C", 1) == 1


def measure(layer: Layer) -> Busy:
    """Plan a layer and run it; stop if a result or a word is wrong."""
    config = CONFIGS["planes" if is_depthwise(layer) else "steady"]
    plan = plan_layer(fit_widths(layer.work, config), config)
    study = study_layer(plan, simulator="verilator", most_steps=CROPPED_STEPS)
    if not (study.run.is_correct and study.agrees):
        sys.exit(f"{layer.work.name}: {study.run.wrong} results are wrong, or words")
    return Busy(layer, plan, study)


def rows(found: Sequence[Busy]) -> Iterator[str]:
    yield (
        "| layer | block | words of 16 bits | bound | by | size run | cycles | model | difference "
        "| reached |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for each in found:
        run, model = each.study.run, each.study.plan.model_cycles
        cut = " ".join(f"{dim}{size}" for dim, size in each.study.cropped.items()) or "whole"
        yield (
            f"| {each.layer.network}:{each.layer.work.name} | {each.plan.config.name} "
            f"| {each.plan.words_16:,} | {each.bound:.1%} | {each.by} | {cut} | {run.cycles:,} "
            f"| {model:,} | {each.delay:+.1%} | {each.study.utilization:.1%} |"
        )


def page(found: Sequence[Busy]) -> str:
    bound = [each for each in found if not each.port]
    reached = [each for each in bound if each.study.utilization >= ASKED]
    whole = [each for each in bound if each.idle <= 0.005]
    least = min(each.study.utilization for each in whole)
    late = [each for each in found if abs(each.delay) > NEAR]
    if any(not each.port for each in late):
        sys.exit("a layer that no port bounds takes other cycles than the model's")
    proved = sum(each.plan.status == "optimal" for each in found)
    return f"""# How busy the multipliers are

Written by `make hwc-busy`: tilewright {tilewright.__version__}, seed 0 of operands.

Every convolution of four networks on a block of 4 KiB with four multipliers and two tiles of every
operand, so that transfers hide behind work: `steady` has four output channels in parallel, `planes`
four pixels of a row, for depthwise layers. A port moves a word a cycle.

**{len(reached)} of the {len(bound)} layers that no port bounds keep the multipliers at work in at
least {ASKED:.0%} of all cycles**, measured; the {len(whole)} of them that fill the array in
{least:.1%} at least. The others have rows that four pixels do not divide.

- *Words* and *bound* are the model's, of the whole layer: what the ports move, and the most that
  multipliers can be busy, by what bounds it.
- *Size run*, *cycles* and *reached* are measured on the RTL in Verilator, {CROPPED_STEPS:,} steps
  at most (longer layers cropped to whole tiles). *Model* is the model's cycles of what ran:
  {len(found) - len(late)} of {len(found)} are within {NEAR:.0%} of it. All results are
  those of a plain integer convolution, all words on all ports the model's. The others wait: a
  port bounds them, and a unit makes its lists of rows and columns before it asks for words.
- {proved} of {len(found)} schedules are proved to move least on their block.
- `small`, with one tile of sums of twice the size, moves fewer words and is less busy
  ([every layer](hwc-bandwidth.md#cycles); [why](hwc.md#how-busy-the-multipliers-are)).

{chr(10).join(rows(found))}
"""


def main() -> None:
    found: list[Busy] = []
    for network in NETWORKS:
        for layer in layers_of(network):
            found.append(measure(layer))
            last = found[-1]
            progress(
                f"{network}:{layer.work.name}: bound {last.bound:.1%} by {last.by}, "
                f"reached {last.study.utilization:.1%}"
            )
    PAGE.write_text(page(found), encoding="utf-8")
    progress(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
