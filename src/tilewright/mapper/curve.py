"""DRAM traffic against the capacity of the buffer: the least that mappings reach, point by point.

Owns: the nouns `TrafficPoint` and `TrafficCurve`, their JSON, and summing layers to a network.

Non-goals: finding one point (`mapper/traffic.py`), drawing (`report/curve.py`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tilewright.ir.mapping import Mapping, format_mapping
from tilewright.ir.workload import Layer, Network, Workload
from tilewright.mapper.result import Status

if TYPE_CHECKING:
    from tilewright.mapper.traffic import LeastTraffic


@dataclass(frozen=True, slots=True)
class TrafficPoint:
    """One capacity of a traffic curve.

    Attributes:
        capacity_bits: of the buffer, shared by all operands.
        words: to and from DRAM, by the mappings found.
        lower_bound: words; no mapping of the mapspace moves fewer.
        limit_words: the physical limit of a chip with that buffer: no schedule moves fewer.
        bound_words: the tighter bound of `docs/small-dims-limit.md`: no schedule moves fewer.
        mappings: by layer, in the order of the network; one for a single layer.
        status: `OPTIMAL` if every layer's mapping is proved to be.
    """

    capacity_bits: int
    words: int
    lower_bound: float
    limit_words: float
    bound_words: float
    mappings: tuple[tuple[str, Mapping], ...]
    status: Status

    @property
    def capacity_bytes(self) -> float:
        """The capacity in bytes; a whole number unless the bits are no whole bytes."""
        return self.capacity_bits // 8 if self.capacity_bits % 8 == 0 else self.capacity_bits / 8

    def to_json(self) -> dict[str, object]:
        """The point as in `spec/formats.md`, Results; of a network `mapping` is an object."""
        texts = {name: format_mapping(mapping) for name, mapping in self.mappings}
        return {
            "capacity_bytes": self.capacity_bytes,
            "dram_words": self.words,
            "dram_limit_words": self.limit_words,
            "dram_bound_words": self.bound_words,
            "lower_bound": self.lower_bound,
            "mapping": next(iter(texts.values())) if len(texts) == 1 else texts,
            "status": self.status.value,
        }


@dataclass(frozen=True, slots=True)
class TrafficCurve:
    """Least DRAM traffic against capacity.

    Attributes:
        name: of the layer or the network.
        uneven: whether operands may be kept at different loops.
        imperfect: whether tiles may be clipped.
        points: in the order of the capacities asked for.
        seconds: that it took.
        layers: of a network, each distinct layer's own curve, once, and how often it occurs.
    """

    name: str
    uneven: bool
    imperfect: bool
    points: tuple[TrafficPoint, ...]
    seconds: float
    layers: tuple[tuple[int, "TrafficCurve"], ...] = ()

    @property
    def title(self) -> str:
        """The mapspace, in words."""
        from tilewright.mapper.traffic import mapspace_title

        return mapspace_title(uneven=self.uneven, imperfect=self.imperfect)

    @property
    def proved(self) -> bool:
        """Whether every point is."""
        return all(point.status is Status.OPTIMAL for point in self.points)

    def to_json(self) -> dict[str, object]:
        """The document of `curve --json` (`spec/formats.md`, Results); a network has `layers`."""
        document: dict[str, object] = {
            "workload": self.name,
            "mapspace": self.title,
            "uneven": self.uneven,
            "imperfect": self.imperfect,
            "points": [point.to_json() for point in self.points],
            "seconds": self.seconds,
        }
        if self.layers:
            document["layers"] = [
                {
                    "name": curve.name,
                    "repeat": repeat,
                    "points": [p.to_json() for p in curve.points],
                }
                for repeat, curve in self.layers
            ]
        return document


def traffic_curve(  # noqa: PLR0913
    workload: Workload | Network,
    capacities: Sequence[int],
    *,
    uneven: bool = False,
    imperfect: bool = False,
    seconds: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_layer: Callable[[str], None] = lambda _: None,
) -> TrafficCurve:
    """Find the least DRAM traffic of a layer or a network for several capacities of one buffer.

    Args:
        workload: a layer; or a network, whose layers run one after the other and are summed as
            often as they occur.
        capacities: of the buffer, in bits.
        uneven: operands may have blocks of the buffer at different loops of the nest.
        imperfect: tiles may be clipped.
        seconds: for all together; afterwards points are the best found so far.
        should_stop: asked now and then; the same happens if it says so.
        on_layer: called with every layer's name when it is done.

    Raises: `InputError` for layers that the proof does not cover; see `least_traffic`.

    >>> from tilewright.ir.workload import einsum
    >>> product = einsum("product", "Z[M,N] += A[M,K] * B[K,N]", {"M": 8, "N": 8, "K": 8})
    >>> curve = traffic_curve(product, [16 * 8, 16 * 24, 16 * 256], uneven=True)
    >>> [point.words for point in curve.points]
    [576, 320, 192]

    Source: `docs/traffic.md`.
    """
    from tilewright.mapper.traffic import least_traffic

    began = time.monotonic()
    layers = workload.layers if isinstance(workload, Network) else (Layer(workload),)
    found: list[tuple[Layer, tuple[LeastTraffic, ...]]] = []
    curves: list[tuple[int, TrafficCurve]] = []
    for number, layer in enumerate(layers):
        started = time.monotonic()
        share = None
        if seconds is not None:
            left = max(0.0, seconds - (time.monotonic() - began))
            share = left / (len(layers) - number)
        answers = least_traffic(
            layer.workload,
            capacities,
            uneven=uneven,
            imperfect=imperfect,
            seconds=share,
            should_stop=should_stop,
        )
        found.append((layer, answers))
        alone = _points(capacities, [(Layer(layer.workload), answers)])
        name, took = layer.workload.name, time.monotonic() - started
        curves.append((layer.repeat, TrafficCurve(name, uneven, imperfect, alone, took)))
        on_layer(name)
    return TrafficCurve(
        workload.name,
        uneven,
        imperfect,
        _points(capacities, found),
        time.monotonic() - began,
        tuple(curves) if isinstance(workload, Network) else (),
    )


def _points(
    capacities: Sequence[int], found: "list[tuple[Layer, tuple[LeastTraffic, ...]]]"
) -> tuple[TrafficPoint, ...]:
    return tuple(
        _point(capacity, [(layer, answers[rung]) for layer, answers in found])
        for rung, capacity in enumerate(capacities)
    )


def _point(capacity: int, parts: "list[tuple[Layer, LeastTraffic]]") -> TrafficPoint:
    proved = all(found.status is Status.OPTIMAL for _, found in parts)
    return TrafficPoint(
        capacity,
        sum(found.words * layer.repeat for layer, found in parts),
        sum(found.lower_bound * layer.repeat for layer, found in parts),
        sum(found.cost.limit.words * layer.repeat for layer, found in parts),
        sum(found.cost.limit.bound_words * layer.repeat for layer, found in parts),
        tuple((layer.workload.name, found.cost.mapping) for layer, found in parts),
        Status.OPTIMAL if proved else Status.BEST_FOUND,
    )
