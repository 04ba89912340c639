"""How far proved least traffic is from what no schedule can do without; writes docs/limit-ratio.md.

For every layer of some networks, through one buffer: the fewest DRAM words of any mapping of a wide
mapspace, proved, over the physical limit and over the tighter bound. What is between them is either
a better schedule that no mapping describes, or a better bound that is not known.
"""

import platform
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tilewright
from tilewright.mapper.result import Status
from tilewright.mapper.traffic import LeastTraffic, least_traffic
from tilewright.zoo import load_network

PAGE = Path(__file__).parent.parent / "docs" / "limit-ratio.md"
NETWORKS = ("vgg16", "alexnet", "resnet18", "mobilenetv2")
BUFFERS_KIB = (1, 4, 16, 64, 128, 512)
DETAIL = "vgg16"
SECONDS = 240.0
"""For one layer; what is not proved by then is marked."""


@dataclass(frozen=True, slots=True)
class Found:
    """One layer: how often it comes, and its least traffic by buffer."""

    network: str
    name: str
    repeat: int
    slides: bool
    answers: tuple[LeastTraffic, ...]


def find(network: str) -> list[Found]:
    """The least traffic of all layers of a network."""
    found: list[Found] = []
    for layer in load_network(network).layers:
        work, began = layer.workload, time.monotonic()
        sizes = [8192 * kib for kib in BUFFERS_KIB]
        answers = least_traffic(work, sizes, uneven=True, imperfect=True, seconds=SECONDS)
        slides = any(dim.name == "P" for dim in work.dims)
        found.append(Found(network, work.name, layer.repeat, slides, answers))
        sys.stderr.write(f"{network}:{work.name} {time.monotonic() - began:.1f} s\n")
    return found


def ratios(layers: Iterable[Found], rung: int) -> tuple[str, str]:
    """Words over the limit and over the bound, layers summed."""
    chosen = [(layer.repeat, layer.answers[rung]) for layer in layers]
    words = sum(repeat * answer.words for repeat, answer in chosen)
    limit = sum(repeat * answer.cost.limit.words for repeat, answer in chosen)
    bound = sum(repeat * answer.cost.limit.bound_words for repeat, answer in chosen)
    mark = "" if all(answer.status is Status.OPTIMAL for _, answer in chosen) else "≤ "
    return f"{mark}{words / limit:.3f}", f"{mark}{words / bound:.3f}"


def row(title: str, layers: list[Found]) -> str:
    cells = (" → ".join(ratios(layers, rung)) for rung in range(len(BUFFERS_KIB)))
    return f"| {title} | {' | '.join(cells)} |"


def table(head: str, rows: Iterable[str]) -> str:
    sizes = " | ".join(f"{kib} KiB" for kib in BUFFERS_KIB)
    return "\n".join([f"| {head} | {sizes} |", "|---" * (len(BUFFERS_KIB) + 1) + "|", *rows])


def largest_gaps(layers: list[Found]) -> list[str]:
    """By buffer: the layers of which most words lie between schedule and bound."""
    lines: list[str] = []
    for rung, kib in enumerate(BUFFERS_KIB):
        gaps = {
            layer.name: layer.repeat * (a.words - a.cost.limit.bound_words)
            for layer in layers
            for a in [layer.answers[rung]]
        }
        total = sum(gaps.values())
        most = sorted(gaps, key=lambda name: -gaps[name])[:3]
        shares = ", ".join(f"{name} {gaps[name] / total:.0%}" for name in most if gaps[name] > 0)
        lines.append(f"- {kib} KiB: {total:,.0f} words; {shares or 'none'}")
    return lines


def page(found: dict[str, list[Found]]) -> str:
    convolutions = {
        name: [each for each in layers if each.slides] for name, layers in found.items()
    }
    detail = convolutions[DETAIL]
    return f"""# Least DRAM traffic over what no schedule can do without

Written by `make limits`: tilewright {tilewright.__version__}, Python {platform.python_version()}.

One buffer that all operands share, 16-bit words. Each entry is *words over the physical limit →
words over the tighter bound*. Words: the fewest of all uneven, imperfect mappings
([traffic.md](traffic.md)), proved but where marked ≤. Physical limit:
[spec/model.md §6](spec/model.md). Tighter bound: [small-dims-limit.md](small-dims-limit.md). Layers
are summed as often as they occur, before dividing.

## Convolutions

{table("network", (row(name, layers) for name, layers in convolutions.items()))}

## All layers

{table("network", (row(name, layers) for name, layers in found.items()))}

Fully connected layers move every weight once, whatever is done; they hide the rest.

## The convolutions of {DETAIL}

{table("layer", (row(layer.name, [layer]) for layer in detail))}

Where the words between schedule and bound are:

{chr(10).join(largest_gaps(detail))}

Whether these are in the bound or in the schedules is not known. The schedules are the best of a
mapspace that leaves out ragged mappings and orders that are no loop nests; of the bound it is known
what it gives away ([small-dims-limit.md](small-dims-limit.md), What is left).
"""


def main() -> None:
    PAGE.write_text(page({network: find(network) for network in NETWORKS}), encoding="utf-8")


if __name__ == "__main__":
    main()
