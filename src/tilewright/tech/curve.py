"""Quantities against size: power laws, the curves between published points, and their fits.

Owns: `PowerLaw`, `Curve`, and least squares in log space.

Non-goals: what the quantities are and where the points come from (`tech/tables.py`). Plain Python:
a table has a handful of points, and importing the package must stay fast.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """A quantity that grows as `scale · size ** exponent`.

    Attributes:
        scale: its value at size 1.
        exponent: the slope where both axes are logarithmic.
        residual: the worst of |law / point - 1| over the points that it was fitted to.
    """

    scale: float
    exponent: float
    residual: float = 0.0

    def at(self, size: float) -> float:
        """Its value at a size."""
        return self.scale * size**self.exponent

    def times(self, factor: float) -> "PowerLaw":
        """The same law, everywhere `factor` times as large."""
        return replace(self, scale=self.scale * factor)


@dataclass(frozen=True, slots=True)
class Curve:
    """A quantity between points: straight lines where both axes are logarithmic.

    Attributes:
        points: (size, value), by increasing size; sizes and values above 0.
        below: the exponent below the first point.
        above: the exponent above the last point.

    >>> curve = Curve(((1.0, 2.0), (4.0, 8.0)), below=0.0, above=0.5)
    >>> curve.at(0.5), curve.at(2.0), curve.at(16.0)
    (2.0, 4.0, 16.0)
    """

    points: tuple[Point, ...]
    below: float
    above: float

    def at(self, size: float) -> float:
        """Its value at a size."""
        first, last = self.points[0], self.points[-1]
        if size <= first[0]:
            return first[1] * (size / first[0]) ** self.below
        for (left, low), (right, high) in pairwise(self.points):
            if size < right:
                slope = math.log(high / low) / math.log(right / left)
                return low * (size / left) ** slope
        return last[1] * (size / last[0]) ** self.above


def fit_power_law(points: Sequence[Point]) -> PowerLaw:
    """Fit a power law to two or more (size, value) points, by least squares of their logarithms.

    >>> law = fit_power_law([(1.0, 3.0), (4.0, 6.0)])
    >>> round(law.scale, 9), round(law.exponent, 9)
    (3.0, 0.5)
    """
    sizes = [math.log(size) for size, _ in points]
    values = [math.log(value) for _, value in points]
    size_mean, value_mean = math.fsum(sizes) / len(points), math.fsum(values) / len(points)
    spread = math.fsum((size - size_mean) ** 2 for size in sizes)
    together = math.fsum(
        (size - size_mean) * (value - value_mean) for size, value in zip(sizes, values, strict=True)
    )
    exponent = together / spread
    law = PowerLaw(math.exp(value_mean - exponent * size_mean), exponent)
    return replace(law, residual=max(abs(law.at(size) / value - 1) for size, value in points))
