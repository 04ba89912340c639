"""Where the buffers of a network lie in its workspace.

Owns: `place_buffers`: tensors that are only joined are written where they belong in the joined one;
buffers that are not alive at the same time share memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tilewright.codegen.steps import Buffer, MoveStep, Ref, Step, Steps

ALIGNED = 16
"""Elements: buffers begin at a line of the caches."""


@dataclass(frozen=True, slots=True)
class Arena:
    """The plan of the memory.

    Attributes:
        steps: those that are left, with the places that they read and write.
        offsets: of each buffer in the workspace, in elements; none for those of the user.
        elements: of the workspace.
    """

    steps: tuple[Step, ...]
    offsets: dict[int, int]
    elements: int


def place_buffers(network: Steps) -> Arena:
    """Plan the memory of a network."""
    steps = _join_in_place(network)
    spans = _spans(steps, network.buffers)
    offsets, elements = _pack(spans, network.buffers)
    return Arena(steps, offsets, elements)


def _join_in_place(network: Steps) -> tuple[Step, ...]:
    """Leave out the copies of joined tensors that can be written in their place at once."""
    places: dict[int, Ref] = {}
    left = list[Step]()
    for step in reversed(network.steps):  # a joined tensor may itself be part of a larger one
        if isinstance(step, MoveStep) and _is_slice(step, network.buffers, places):
            offset = step.first * step.target_form.plane
            target = _resolved(step.target, places)
            places[step.sources[0].buffer] = Ref(target.buffer, target.offset + offset)
        else:
            left.append(step)
    return tuple(_moved(step, places) for step in reversed(left))


def _is_slice(step: MoveStep, buffers: tuple[Buffer, ...], places: dict[int, Ref]) -> bool:
    """Whether a copy puts whole blocks of one image in order into a larger tensor."""
    source, target = step.source_form, step.target_form
    alike = source.lanes == target.lanes and source.pixels == target.pixels
    whole = source.channels % source.lanes == 0 and step.first % target.lanes == 0
    single = source.batch == source.groups == target.groups == 1
    own = not buffers[step.sources[0].buffer].user and not buffers[step.target.buffer].user
    free = step.sources[0].buffer not in places and step.sources[0].offset == 0
    return alike and whole and single and own and free and step.split == 1


def _resolved(ref: Ref, places: dict[int, Ref]) -> Ref:
    while ref.buffer in places:
        outer = places[ref.buffer]
        ref = Ref(outer.buffer, outer.offset + ref.offset)
    return ref


def _moved(step: Step, places: dict[int, Ref]) -> Step:
    sources = tuple(_resolved(ref, places) for ref in step.sources)
    return replace(step, sources=sources, target=_resolved(step.target, places))


def _spans(steps: Iterable[Step], buffers: tuple[Buffer, ...]) -> dict[int, tuple[int, int]]:
    """The first and the last step that touches each buffer of the workspace."""
    spans: dict[int, tuple[int, int]] = {}
    for time, step in enumerate(steps):
        for ref in (*step.sources, step.target):
            if not buffers[ref.buffer].user:
                first, _ = spans.get(ref.buffer, (time, time))
                spans[ref.buffer] = (first, time)
    return spans


def _pack(
    spans: dict[int, tuple[int, int]], buffers: tuple[Buffer, ...]
) -> tuple[dict[int, int], int]:
    """Largest first, each at the lowest place that is free for as long as it lives."""
    offsets: dict[int, int] = {}
    order = sorted(spans, key=lambda buffer: (-buffers[buffer].elements, spans[buffer]))
    for buffer in order:
        first, last = spans[buffer]
        others = sorted(
            (offsets[other], offsets[other] + _size(buffers[other]))
            for other in offsets
            if spans[other][0] <= last and first <= spans[other][1]
        )
        at = 0
        for start, stop in others:
            if start - at >= _size(buffers[buffer]):
                break
            at = max(at, stop)
        offsets[buffer] = at
    total = max((offsets[b] + _size(buffers[b]) for b in offsets), default=0)
    return offsets, total


def _size(buffer: Buffer) -> int:
    return -(-buffer.elements // ALIGNED) * ALIGNED
