"""What stands at the head of a generated program: what it computes, its nest, its traffic."""

from collections.abc import Iterator

from tilewright.codegen.blocking import Choice
from tilewright.codegen.cpu import Cpu
from tilewright.codegen.traffic import SHARE
from tilewright.ir.mapping import format_mapping
from tilewright.ir.quantity import format_bytes
from tilewright.ir.workload import Workload

TOLD = 0.02
"""A share of the lines: if what is expected set by set is farther from them, it is said."""


def describe(workload: Workload, cpu: Cpu, choice: Choice) -> str:
    """The comment at the head of a program, plain text."""
    return "\n".join([*_what(workload, choice), "", *_nest(choice), "", *_traffic(cpu, choice)])


def _what(workload: Workload, choice: Choice) -> Iterator[str]:
    shape = choice.plan.shape
    kind = f"{shape.pool} pooling" if shape.pool else "product"
    after = ", then ReLU" if shape.relu else ""
    yield f"{workload.name}: {workload.einsum}"
    yield " ".join(f"{dim}{size}" for dim, size in workload.sizes.items())
    yield f"{shape.dtype}, {kind}{after}; {choice.plan.target.name}; written by tilewright"


def _nest(choice: Choice) -> Iterator[str]:
    blocking = choice.blocking
    yield f"The nest, as a mapping of {choice.traffic.workload.einsum}"
    if choice.plan.layout.per_element > 1:
        some = {2: "pairs", 4: "fours"}[choice.plan.layout.per_element]
        yield f"(C counts {some} of channels):"
    yield ""
    yield from format_mapping(choice.traffic.mapping).split("\n")
    yield ""
    names = {"K": "output channels", "P": "blocks of places" if blocking.tiles else "rows"}
    names |= {"C": "input channels"}
    outer = blocking.order.removesuffix("C")
    order = ", then ".join(names[letter] for letter in outer)
    yield f"Least {choice.objective} of {choice.candidates} candidates; outer loops: {order}."
    if blocking.threads > 1:
        yield f"{blocking.threads} threads share the outer loops."


def _traffic(cpu: Cpu, choice: Choice) -> Iterator[str]:
    yield f"Predicted for {cpu.name}, {cpu.geometry}, of which tiles take {SHARE:.0%} at most."
    yield "Lines fetched, cold start, reads and write-allocates:"
    for part, expected in zip(choice.traffic.caches, choice.expected, strict=True):
        origin = f"L{part.cache.level + 1}" if part is not choice.traffic.caches[-1] else "DRAM"
        split = ", ".join(f"{name} {lines:,}" for name, lines in part.lines.items())
        yield f"  {origin} to L{part.cache.level}: {part.total_lines:,} ({split})"
        if abs(expected - part.total_lines) > TOLD * part.total_lines:
            yield f"    {expected:,} expected, as some sets hold less and some more"
        held = format_bytes(8 * part.tile_bytes)
        passing = part is choice.traffic.caches[0] and not choice.plan.shape.per_channel
        why = "more than its share: " + ("it passes through" if passing else "a lower bound")
        yield f"    inside that loop it holds {held}" + ("" if part.fits else f", {why}")
