"""Least DRAM traffic against buffer capacity; writes docs/traffic-curves.md and its figures.

Four networks, each summed over its layers, and three single layers: even and uneven mappings,
perfect and imperfect tiles, 11 buffers from 1 KiB to 1 MiB, beside the physical limit.
"""

import argparse
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import tilewright
from tilewright.ir.quantity import format_bytes
from tilewright.loading import load
from tilewright.mapper.curve import TrafficCurve, traffic_curve
from tilewright.report.curve import draw_curves, short_title

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "traffic-curves.md"
FIGURES = ROOT / "docs" / "figures"

NETWORKS = ("alexnet", "vgg16", "resnet18", "mobilenetv2")
LAYERS = ("vgg16:conv3_2", "alexnet:conv2", "resnet18:conv1")
CAPACITIES = tuple(1024 * 8 * 2**n for n in range(11))
KINDS = ((False, False), (False, True), (True, False), (True, True))
"""Uneven, imperfect."""
TELLING = 0.01
"""From which saving on a layer is named."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A network or a layer with its four curves, in the order of `KINDS`."""

    name: str
    curves: tuple[TrafficCurve, ...]

    @property
    def picture(self) -> str:
        return f"traffic-{self.name.replace(':', '-')}.svg"

    @property
    def proved(self) -> int:
        return sum(p.status.value == "optimal" for curve in self.curves for p in curve.points)

    def words(self, kind: int, rung: int) -> int:
        return self.curves[kind].points[rung].words

    def saving(self, kind: int, rung: int) -> float:
        """By what share a mapspace moves less than even, perfect mappings do."""
        return 1 - self.words(kind, rung) / self.words(0, rung)


def of_network(name: str) -> Subject:
    network = load(name)
    return Subject(
        name, tuple(traffic_curve(network, CAPACITIES, uneven=u, imperfect=i) for u, i in KINDS)
    )


def layers_of(network: Subject) -> list[Subject]:
    """The distinct layers of a network."""
    found: list[Subject] = []
    for row in zip(*(curve.layers for curve in network.curves), strict=True):
        name = f"{network.name}:{row[0][1].name}"
        found.append(Subject(name, tuple(replace(curve, name=name) for _, curve in row)))
    return found


HEAD = """# Traffic curves

The least words to and from DRAM for one buffer that all operands share, 16-bit words: *even*
mappings (all operands at the same loops) or *uneven* ones (each at its own), with *perfect* factors
or *imperfect* tiles. How they are found and proved: [traffic.md](traffic.md). Written by
`make curves`; `tilewright curve NETWORK --all` prints the same. A network is the sum over its
layers, each as often as it occurs, with nothing kept from one layer to the next; the physical limit
likewise. `≤`: at least one layer is the best found there, and not proved least. *Saved* are words
of the last mapspace against the first.
"""


def page(subjects: list[Subject], layers: list[Subject], took: float) -> str:
    parts = [HEAD.rstrip()]
    parts += ["\n".join(_section(x)) for x in subjects]
    parts.append("\n".join(_winners(subjects, layers)))
    parts.append("\n".join(_end(subjects, layers, took)))
    return "\n\n".join(parts) + "\n"


def _section(x: Subject) -> Iterator[str]:
    yield f"## {x.name}"
    yield ""
    titles = [short_title(curve) for curve in x.curves]
    yield "| buffer | " + " | ".join(titles) + " | physical limit | best / limit | saved |"
    yield "|---|" + "---|" * (len(titles) + 3)
    for rung, bits in enumerate(CAPACITIES):
        points = [curve.points[rung] for curve in x.curves]
        cells = [
            f"{'' if p.status.value == 'optimal' else '≤ '}{p.words / 1e6:,.3f} M" for p in points
        ]
        limit, best = points[0].limit_words, points[-1].words
        yield (
            f"| {format_bytes(bits)} | {' | '.join(cells)} | {limit / 1e6:,.3f} M "
            f"| {best / limit:.3f} | {x.saving(3, rung):.1%} |"
        )
    yield ""
    yield f"![{x.name}](figures/{x.picture})"


def _winners(subjects: list[Subject], layers: list[Subject]) -> Iterator[str]:
    """Where which freedom pays, buffer by buffer."""
    yield "## Where uneven and imperfect mappings win"
    yield ""
    yield "The paper of 2019 (arXiv 1902.01492) finds that *non-trivial* schedules, each array"
    yield "buffered at its own loop, move least under tight buffers. Words saved against even,"
    yield "perfect mappings, by network and buffer:"
    yield ""
    shown = [0, 2, 4, 6, 8, 10]
    sizes = " | ".join(format_bytes(CAPACITIES[rung]) for rung in shown)
    yield f"| network | freedom | {sizes} |"
    yield "|---|---|" + "---|" * len(shown)
    for x in subjects:
        if ":" in x.name:
            continue
        for kind in (1, 2, 3):
            cells = " | ".join(f"{x.saving(kind, rung):.1%}" for rung in shown)
            yield f"| {x.name} | {short_title(x.curves[kind])} | {cells} |"
    yield ""
    yield f"Layers in which that saves {TELLING:.0%} or more, of all distinct layers of the four"
    yield "networks, and the greatest saving:"
    yield ""
    yield "| buffer | uneven, perfect | uneven, imperfect | greatest | in |"
    yield "|---|---|---|---|---|"
    for rung, bits in enumerate(CAPACITIES):
        counts = [sum(x.saving(kind, rung) >= TELLING for x in layers) for kind in (2, 3)]
        savings = [(x.saving(3, rung), x.name) for x in layers]
        most, name = max(savings)
        yield (
            f"| {format_bytes(bits)} | {counts[0]} of {len(layers)} | {counts[1]} of {len(layers)} "
            f"| {most:.1%} | {name if most > 0 else '–'} |"
        )


def _end(subjects: list[Subject], layers: list[Subject], took: float) -> Iterator[str]:
    count = len(layers) * len(KINDS) * len(CAPACITIES)
    yield "## What is proved"
    yield ""
    yield f"{sum(x.proved for x in layers):,} of the {count:,} points of all distinct layers are"
    yield "proved least in their mapspace; uneven and imperfect that is the one without *ragged*"
    yield "mappings ([traffic.md](traffic.md)). In the tables above not proved are:"
    open_points = [
        f"{x.name} {short_title(curve)} at {format_bytes(p.capacity_bits)}: at most "
        f"{1 - p.lower_bound / p.words:.2%} lower"
        for x in subjects
        for curve in x.curves
        for p in curve.points
        if p.status.value != "optimal"
    ]
    if open_points:
        yield ""
        yield from (f"- {text}" for text in open_points)
    yield ""
    yield f"Made by tilewright {tilewright.__version__} with Python {platform.python_version()} on"
    yield f"{platform.machine()} in {took:.0f} s. Nothing is random: there is no seed."


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    began = time.monotonic()
    networks = [of_network(name) for name in NETWORKS]
    layers = [layer for network in networks for layer in layers_of(network)]
    subjects = networks + [layer for layer in layers if layer.name in LAYERS]
    FIGURES.mkdir(exist_ok=True)
    for x in subjects:
        (FIGURES / x.picture).write_text(draw_curves(x.curves), encoding="utf-8")
    PAGE.write_text(page(subjects, layers, time.monotonic() - began), encoding="utf-8")


if __name__ == "__main__":
    main()
