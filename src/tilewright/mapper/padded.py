"""Good mappings that unroll dims in a given way, whether or not it divides their sizes.

Owns: `find_padded`: the layer is padded to multiples of what is unrolled, the best mapping of that
with perfect factors is proved, and its loops, clipped, are a mapping of the layer.

Non-goals: which way to unroll (`mapper/narrowing.py`); a bound.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tilewright.errors import InfeasibleError, InputError
from tilewright.ir.fix import Fix, FixedBlock, Pin
from tilewright.ir.hardware import AXES, Fanout
from tilewright.ir.workload import Dim, Workload
from tilewright.mapper.result import Objective, Stop
from tilewright.model.evaluate import Cost, Evaluator

Dealt = tuple[int, int]
"""Over how many places a dim is unrolled on each axis."""
_MOST_DEALS = 20_000
"""Ways to deal extents to the axes that are looked at."""


def find_padded(  # noqa: PLR0913
    evaluator: Evaluator,
    objective: Objective,
    extents: Mapping[str, int],
    *,
    keeps: Mapping[str, tuple[str, ...]] | None = None,
    imperfect: bool,
    uneven: bool,
    seconds: float | None = None,
    should_stop: Stop = lambda: False,
) -> Cost | None:
    """Find a good mapping that unrolls dims over as many places as asked, or some more.

    Args:
        evaluator: of the layer on the chip, in the convention `default`.
        objective: what is minimised.
        extents: by dim, over how many places its values are dealt; 1 if left out.
        keeps: by memory on the chip, the operands that it keeps; any if left out.
        imperfect: whether tiles may be clipped; else only extents that divide are taken.
        uneven: whether operands may be kept at different loops of a level.
        seconds: stop after that long.
        should_stop: asked now and then.

    Returns: the mapping's cost; `None` if the chip has not one fan-out, if that has no room, if
        nothing was found, or for a layer that `prepare.reject_uncovered` rejects.

    Raises: `KeyboardInterrupt` if Ctrl-C was pressed.
    """
    from tilewright.mapper.optimal import find_optimal

    workload, hardware = evaluator.workload, evaluator.hardware
    fans = [level for level in hardware.levels if level.fanout.copies > 1]
    if len(fans) != 1:
        return None
    dealt = deal(workload, fans[0].fanout, extents)
    if dealt is None:
        return None
    padded = pad(workload, dealt)
    if not imperfect and padded.sizes != workload.sizes:
        return None
    pins = tuple(
        Pin(dim, extent, axis)
        for dim, both in dealt.items()
        for axis, extent in zip(AXES, both, strict=True)
        if extent > 1
    )
    blocks = tuple(
        FixedBlock(
            level.memory,
            None if keeps is None else keeps.get(level.memory),
            (),
            pins if level is fans[0] else (),
        )
        for level in hardware.levels
    )
    try:
        found = find_optimal(
            padded,
            hardware,
            objective=objective,
            fix=Fix(blocks),
            uneven=uneven,
            seconds=seconds,
            should_stop=should_stop,
        )
        if found.interrupted and not should_stop():
            raise KeyboardInterrupt  # for who asked
        return None if found.cost is None else evaluator.price(found.cost.mapping)
    except (InputError, InfeasibleError):  # not covered
        return None


def pad(workload: Workload, dealt: Mapping[str, Dealt]) -> Workload:
    """The layer with all sizes multiples of what is unrolled.

    >>> from tilewright.ir.workload import conv2d
    >>> layer = conv2d("c", K=8, C=3, P=4, Q=4, R=3, S=3)
    >>> pad(layer, {"C": (2, 1), "R": (1, 2)}).sizes["C"]
    4
    """
    sizes = {
        name: size if name not in dealt else _padded(size, dealt[name])
        for name, size in workload.sizes.items()
    }
    return replace(workload, dims=tuple(Dim(dim.name, sizes[dim.name]) for dim in workload.dims))


def _padded(size: int, both: Dealt) -> int:
    return math.prod(both) * -(-size // math.prod(both))


def deal(workload: Workload, fanout: Fanout, extents: Mapping[str, int]) -> dict[str, Dealt] | None:
    """Split extents over the two axes of a fan-out, some rounded up; `None` if they do not fit.

    Of the ways that fit it takes one that pads the layer least.

    >>> from tilewright.ir.workload import conv2d
    >>> layer = conv2d("c", K=8, C=3, P=4, Q=4, R=7, S=7)
    >>> dealt = deal(layer, Fanout(16, 16), {"C": 3, "R": 7, "S": 7})
    >>> sorted(along_x * along_y for along_x, along_y in dealt.values())
    [3, 7, 8]
    """
    wanted = {dim: extent for dim, extent in extents.items() if extent > 1}
    options = [list(_splits(fanout, dim, extent)) for dim, extent in wanted.items()]
    best: tuple[float, tuple[Dealt, ...]] | None = None
    for picked in itertools.islice(itertools.product(*options), _MOST_DEALS):
        along_x, along_y = (math.prod(both[axis] for both in picked) for axis in (0, 1))
        if along_x > fanout.extent("x") or along_y > fanout.extent("y"):
            continue
        work = math.prod(
            _padded(workload.sizes[dim], both) / workload.sizes[dim]
            for dim, both in zip(wanted, picked, strict=True)
        )
        if best is None or (work, picked) < best:
            best = work, picked
    return None if best is None else dict(zip(wanted, best[1], strict=True))


def _splits(fanout: Fanout, dim: str, extent: int) -> Iterator[Dealt]:
    """Places on each axis that are as many as asked, or just more."""
    most = [
        fanout.extent(axis)
        if fanout.allowed_dims(axis) is None or dim in (fanout.allowed_dims(axis) or ())
        else 1
        for axis in AXES
    ]
    for along_x in range(1, min(most[0], extent) + 1):
        along_y = -(-extent // along_x)
        if along_y <= most[1] and -(-extent // along_y) == along_x:
            yield along_x, along_y
