"""A network and a space small enough to enumerate."""

import itertools
import math

import tilewright as tw
from tilewright.joint.finish import objectives_of
from tilewright.joint.goal import Goal, Metric, Totals
from tilewright.joint.sites import area_of
from tilewright.joint.space import Choice

FIRST = tw.conv2d("first", K=4, C=2, P=4, Q=4, R=3, S=3)
PADDED_FIRST = tw.conv2d("padded", K=4, C=2, P=4, Q=4, R=3, S=3, padding=1, in_height=4, in_width=4)
SECOND = tw.einsum("second", "O[M] += W[M,K] * I[K]", {"M": 8, "K": 8})
NETWORK = tw.Network("tiny", (tw.Layer(FIRST, 2), tw.Layer(SECOND, 1)))
PADDED = tw.Network("padded", (tw.Layer(PADDED_FIRST, 2), tw.Layer(SECOND, 1)))
CHIP = tw.Hardware(
    "tiny-chip",
    (
        tw.Level("DRAM", bandwidth=2.0, technology="fitted45"),
        tw.Level("GLB", capacity=4096, bandwidth=8.0, technology="fitted45", fanout=tw.Fanout(x=2)),
        tw.Level("RF", capacity=128, technology="fitted45"),
    ),
    tw.Compute(technology="fitted45"),
)
SPACE = tw.Space(
    "tiny-space",
    CHIP,
    (
        tw.Variable("GLB", tw.Field.CAPACITY, (1024.0, 4096.0)),
        tw.Variable("GLB", tw.Field.X, (1.0, 2.0, 4.0)),
        tw.Variable("RF", tw.Field.CAPACITY, (64.0, 256.0)),
    ),
)


def choices() -> list[Choice]:
    """All chips of the space."""
    return list(itertools.product(*(range(len(v.values)) for v in SPACE.variables)))


def least(goal: Goal, network: tw.Network = NETWORK) -> float:
    """The least latency, or energy, by enumeration of chips; bounds on the area only."""
    objective = objectives_of(goal)[0]
    found = math.inf
    for choice in choices():
        chip = SPACE.chip(choice)
        costs = [
            (layer.repeat, tw.find_mapping(layer.workload, chip, objective=objective).cost)
            for layer in network.layers
        ]
        assert all(cost is not None for _, cost in costs)
        totals = Totals(
            math.fsum(n * cost.energy_pj for n, cost in costs if cost),
            math.fsum(n * cost.cycles for n, cost in costs if cost),
            area_of(chip),
            chip.clock_ghz,
        )
        if not goal.excess(totals):
            found = min(found, float(totals.of(goal.objective)))
    return found


def area_bound() -> float:
    """An area that some chips keep and others do not."""
    areas = sorted(area_of(SPACE.chip(choice)) or 0.0 for choice in choices())
    return areas[len(areas) // 2]


GOALS = [
    Goal(Metric.LATENCY, ((Metric.AREA, area_bound()),)),
    Goal(Metric.ENERGY, ((Metric.AREA, area_bound()),)),
]
