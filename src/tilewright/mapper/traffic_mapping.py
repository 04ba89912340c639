"""From a choice of options to a mapping.

Owns: writing out where the loops of a class stand.

Non-goals: which choice (`mapper/traffic.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product

from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.mapper.traffic_options import ALONG, SWEEP
from tilewright.mapper.traffic_subject import Axis, OrderClass, Subject


@dataclass(frozen=True, slots=True)
class Choice:
    """One option for every coordinate of a class: (coordinate, spans of its dims, kind)."""

    order_class: OrderClass
    picks: tuple[tuple[Axis, tuple[tuple[int, ...], ...], int], ...]


def write_mapping(subject: Subject, choice: Choice, outer: str, inner: str) -> Mapping:
    """Write a choice out as a mapping of the memories `outer` and `inner`."""
    if choice.order_class.even:
        return _write_even(subject, choice, (outer, inner))
    place, movers = choice.order_class.order.index(subject.sliding), _movers(choice)
    # further out, what is left of the inner dim's loops must not come between the two that sweep
    by_segment = [movers if segment == place else movers[::-1] for segment in range(3)]
    return _write_uneven(subject, choice, (outer, inner), by_segment)


def write_variants(subject: Subject, choice: Choice, outer: str, inner: str) -> Iterator[Mapping]:
    """Write a choice out with the two dims of each rank innermost, in every order.

    Which order saves most is left to whoever prices them.
    """
    for axis, _, _ in choice.picks:
        if len(axis.dims) < 2:
            continue
        orders = list(permutations(axis.dims))
        for movers in product(orders, repeat=3):
            if choice.order_class.even:
                yield _write_even(subject, choice, (outer, inner), movers[0])
            else:
                yield _write_uneven(subject, choice, (outer, inner), movers)


def _spans(choice: Choice) -> dict[str, tuple[int, ...]]:
    """What every dim spans inside the blocks."""
    return {
        dim: span
        for axis, chain, _ in choice.picks
        for dim, span in zip(axis.dims, chain, strict=True)
    }


def _write_uneven(
    subject: Subject,
    choice: Choice,
    memories: tuple[str, str],
    movers: Sequence[Sequence[str]],
) -> Mapping:
    """A block for each operand; in segments outside the sliding one's, `movers` are innermost."""
    spans = _spans(choice)
    names = [operand.name for operand in subject.operands]
    kept = [names[i] for i in choice.order_class.order if i in choice.order_class.kept]
    place = choice.order_class.order.index(subject.sliding)
    blocks: list[Block] = []
    for segment in range(4):
        extents = {dim: _extent(size, spans[dim], segment) for dim, size in subject.sizes.items()}
        loops = [Loop(dim, extent) for dim, extent in extents.items() if extent > 1]
        if segment <= place:
            loops = _innermost_last(loops, movers[segment])
        keeps = names if segment == 0 else kept[segment - 1 : segment]
        blocks.append(Block(memories[segment > 0], tuple(keeps), tuple(loops)))
    return Mapping(_joined(blocks))


def _joined(blocks: list[Block]) -> tuple[Block, ...]:
    """The blocks, without those that keep nothing: their loops join the block before."""
    found: list[Block] = []
    for block in blocks:
        if block.operands:
            found.append(block)
        else:
            found[-1] = replace(found[-1], temporal=(*found[-1].temporal, *block.temporal))
    return tuple(found)


def _extent(size: int, spans: tuple[int, ...], segment: int) -> int:
    """The extent of a dim's loop in a segment of the nest: outside the first block is segment 0."""
    if segment == len(spans):
        return spans[-1]
    whole = size if segment == 0 else spans[segment - 1]
    return -(-whole // spans[segment])


def _movers(choice: Choice) -> list[str]:
    """The dims whose loops stand innermost outside the sliding operand's block."""
    for axis, _, kind in choice.picks:
        if kind >= SWEEP:
            return [axis.dims[kind - SWEEP], axis.dims[1 - (kind - SWEEP)]]
        if kind >= ALONG:
            return [axis.dims[kind - ALONG]]
    return []


def _innermost_last(loops: list[Loop], movers: Sequence[str]) -> list[Loop]:
    rank = {dim: 1 + place for place, dim in enumerate(movers)}
    return sorted(loops, key=lambda loop: rank.get(loop.dim, 0))


def _write_even(
    subject: Subject,
    choice: Choice,
    memories: tuple[str, str],
    movers: Sequence[str] = (),
) -> Mapping:
    """One block below all loops over tiles; what stays stays in the innermost of them."""
    spans = _spans(choice)
    free = {dim for _, dim in choice.order_class.free}
    stays = {operand for operand, _ in choice.order_class.free}
    movers = movers or _movers(choice)
    around = [
        Loop(dim, -(-size // spans[dim][0]))
        for dim, size in subject.sizes.items()
        if spans[dim][0] < size
    ]
    if subject.sliding in stays:
        ranking = {dim: 1 + place for place, dim in enumerate(movers)} | dict.fromkeys(free, 9)
    elif choice.order_class.sweeps:
        run = dict.fromkeys(free, 1)
        ranking = run | {dim: 2 + place for place, dim in enumerate(movers)}
    else:
        ranking = dict.fromkeys(free, 1) | dict.fromkeys(movers, 2)
    around.sort(key=lambda loop: ranking.get(loop.dim, 0))
    names = [operand.name for operand in subject.operands]
    inside = tuple(Loop(dim, spans[dim][0]) for dim in spans if spans[dim][0] > 1)
    kept = tuple(name for i, name in enumerate(names) if i in choice.order_class.kept)
    outermost = Block(memories[0], tuple(names), tuple(around))
    return Mapping(_joined([outermost, Block(memories[1], kept, inside)]))
