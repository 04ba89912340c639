"""What a study minimises, and what it keeps within bounds.

Owns: the nouns `Metric`, `Goal`, `Totals`, and merits of many designs at once.

Non-goals: where energies and cycles come from.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilewright.errors import InputError, Problem, did_you_mean

Numbers = NDArray[np.floating[Any]]
EXCESS_WEIGHT = 20.0
"""What a capacity overrun by a factor e costs, in factors of e of the objective."""
BOUND_WEIGHT = 12.0
"""The same for a bound."""
_SLACK = 1e-9


class Metric(Enum):
    """A total of a network on a chip."""

    LATENCY = "latency"
    ENERGY = "energy"
    POWER = "power"
    AREA = "area"
    EDP = "edp"

    @property
    def unit(self) -> str:
        """The unit of its values."""
        return _UNITS[self]

    @property
    def key(self) -> str:
        """What JSON documents call it."""
        return _KEYS[self]


_UNITS = {
    Metric.LATENCY: "s",
    Metric.ENERGY: "pJ",
    Metric.POWER: "W",
    Metric.AREA: "mm²",
    Metric.EDP: "pJ·cycles",
}
_KEYS = {
    Metric.LATENCY: "latency_s",
    Metric.ENERGY: "energy_pj",
    Metric.POWER: "power_w",
    Metric.AREA: "area_mm2",
    Metric.EDP: "edp",
}


def find_metric(name: "str | Metric") -> Metric:
    """The metric of that name. Raises `InputError`, with the nearest name, if there is none."""
    names = [metric.value for metric in Metric]
    if not isinstance(name, Metric) and name not in names:
        what = f"there is no objective `{name}`"
        raise InputError(Problem(what, did_you_mean(name, names)))
    return Metric(name)


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of one design, or of many: numbers, or arrays of one shape.

    Attributes:
        energy_pj: of all layers, as often as they occur.
        cycles: likewise.
        area_mm2: of the chip; 0 if not known.
        clock_ghz: of the chip.
    """

    energy_pj: Any
    cycles: Any
    area_mm2: Any
    clock_ghz: float

    def of(self, metric: Metric) -> Any:
        """A metric's value, in its unit."""
        seconds = self.cycles / (self.clock_ghz * 1e9)
        if metric is Metric.LATENCY:
            return seconds
        if metric is Metric.ENERGY:
            return self.energy_pj
        if metric is Metric.POWER:
            return self.energy_pj * 1e-12 / seconds
        return self.area_mm2 if metric is Metric.AREA else self.energy_pj * self.cycles

    def to_json(self) -> dict[str, object]:
        """All metrics by their keys."""
        return {metric.key: float(self.of(metric)) for metric in Metric}


@dataclass(frozen=True, slots=True)
class Goal:
    """Minimise one metric, with the others at most at their bounds.

    >>> goal = Goal(Metric.LATENCY, ((Metric.POWER, 0.5),))
    >>> goal.excess(Totals(1e9, 1e6, 2.0, 1.0))  # 1 mJ in 1 ms is 1 W
    {<Metric.POWER: 'power'>: 2.0}
    """

    objective: Metric
    bounds: tuple[tuple[Metric, float], ...] = ()

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise InputError(problems)

    def _problems(self) -> Iterable[Problem]:
        for metric, bound in self.bounds:
            if not math.isfinite(bound) or bound <= 0:
                what = f"at most {bound} {metric.unit} of {metric.value}: it must be above 0"
                yield Problem(what, "leave it out for no bound")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The objective and what is bounded."""
        return (self.objective, *(metric for metric, _ in self.bounds))

    def bounded(self, metric: Metric, bound: float) -> "Goal":
        """The goal with one more bound, or a tighter one."""
        others = tuple(pair for pair in self.bounds if pair[0] is not metric)
        old = dict(self.bounds).get(metric, math.inf)
        return Goal(self.objective, (*others, (metric, min(bound, old))))

    def excess(self, totals: Totals) -> dict[Metric, float]:
        """By what factor each bound that is broken is exceeded."""
        shares = {metric: float(totals.of(metric) / bound) for metric, bound in self.bounds}
        return {metric: share for metric, share in shares.items() if share > 1 + _SLACK}

    def merit(self, totals: Totals) -> Numbers:
        """Less is better: the logarithm of the objective, and of all that exceeds a bound."""
        found = np.log(np.maximum(totals.of(self.objective), 1e-300))
        for metric, bound in self.bounds:
            share = np.maximum(totals.of(metric), 1e-300) / bound
            found = found + BOUND_WEIGHT * np.maximum(np.log(share), 0)
        # Ties: less of everything.
        rest = totals.energy_pj * totals.cycles * np.maximum(totals.area_mm2, 1e-9)
        return found + 1e-4 * np.log(rest)

    def slopes(self, totals: Totals) -> tuple[Numbers, Numbers]:
        """What a relative saving of energy and of cycles is worth, while no design is known.

        Later that is asked of the best designs (`joint/blend.py`). A slower mapping does not count
        as better, though it lessens the power, unless power is the objective and the latency is
        bounded.
        """
        energy, cycles = _WORTH[self.objective]
        if self.objective is Metric.POWER and Metric.LATENCY in dict(self.bounds):
            cycles = -1.0
        first, second = energy + np.zeros_like(totals.cycles), cycles + np.zeros_like(totals.cycles)
        for metric, _ in self.bounds:
            energy, cycles = _WORTH[metric]
            first = first + energy
            second = second + cycles
        return first, second


_WORTH = {
    Metric.LATENCY: (1e-3, 1.0),
    Metric.ENERGY: (1.0, 1e-3),
    Metric.POWER: (1.0, 1e-3),
    Metric.AREA: (1e-3, 1e-3),
    Metric.EDP: (1.0, 1.0),
}
