"""The least traffic through buffers of their own, against enumeration."""

import math
import random
from dataclasses import replace
from itertools import permutations
from operator import le

import pytest
from test_curve import Enumeration, Loops, Spans

from tilewright.errors import InfeasibleError
from tilewright.hwc.config import CONFIGS, HwcConfig
from tilewright.hwc.convolution import fit_widths
from tilewright.hwc.program import lower
from tilewright.hwc.schedule import find_schedule
from tilewright.ir.hardware import Hardware, Level
from tilewright.ir.workload import Workload, conv2d
from tilewright.mapper.block_traffic import Limits, least_block_traffic
from tilewright.mapper.result import Status
from tilewright.mapper.traffic_options import ClassSpace

FIELD = 1 << 16
"""Tiles of three operands are written into one number, as digits of this base."""


class OwnBuffers(Enumeration):
    """Every mapping that keeps all operands, with the words of each tile apart."""

    granules: dict[str, int]
    sum_weight: int

    def entering(
        self, name: str, outside: Loops, dims: tuple[str, ...], inside: Spans
    ) -> tuple[int, int]:
        names = [operand.name for operand in self.workload.operands]
        bits, words = super().entering(name, outside, dims, inside)
        is_output = name == self.workload.output.name
        room = bits // (32 if is_output else 16)
        if is_output:
            results = count_results(self.workload)
            words = self.sum_weight * words - (self.sum_weight - 1) * results
        spans = dict(zip(dims, inside, strict=True))
        for dim, granule in self.granules.items():
            span, size = spans.get(dim, 1), self.workload.sizes.get(dim, 1)
            if dim not in spans or dim not in self.workload.operand(name).dims:
                continue
            if span % granule and span != size:
                room = FIELD - 1
            else:
                room = room // span * (-(-span // granule) * granule)
        return room * FIELD ** names.index(name), words

    def staircase_of_rooms(self) -> dict[tuple[int, ...], int]:
        """The least words by the rooms that the three tiles take."""
        found: dict[int, int] = {}
        for order in permutations(operand.name for operand in self.workload.operands):
            for code, words in self.of_order(order):
                found[code] = min(words, found.get(code, words))
        return {
            tuple(code // FIELD**place % FIELD for place in range(3)): words
            for code, words in found.items()
        }


def count_results(work: Workload) -> int:
    return math.prod(work.sizes[dim] for dim in work.output.dims)


LAYERS = (
    conv2d("row", K=2, C=1, P=4, Q=1, R=3, S=1),
    conv2d("channels", K=2, C=2, P=3, Q=1, R=2, S=1, padding=(1, 0)),
    conv2d("strided", K=2, C=1, P=4, Q=1, R=3, S=1, stride=2),
    conv2d("gaps", K=2, C=1, P=4, Q=1, R=2, S=1, stride=2, dilation=3),
    conv2d("window", K=1, C=2, P=2, Q=2, R=2, S=2),
    conv2d("depthwise", G=2, K=1, C=1, P=4, Q=1, R=3, S=1),
    conv2d("point", K=5, C=3, P=2, Q=1, R=1, S=1),
)


def disagreements(layer: Workload, *, granule: int = 1) -> tuple[list[str], int, int]:
    """Where the least differs from enumeration; how many points were compared, and not proved."""
    work = fit_widths(layer, HwcConfig("any", 64, 64, 64))
    everything = OwnBuffers(work, uneven=True, imperfect=True)
    everything.granules = {"K": granule} if granule > 1 else {}
    everything.sum_weight = 2 if work.output.bits < 32 else 1
    stairs = everything.staircase_of_rooms()
    pick, wrong, unproved, names = random.Random(7), list[str](), 0, [o.name for o in work.operands]
    for _ in range(12):
        rooms = {name: granule * pick.choice([1, 2, 3, 4, 6]) for name in names}
        levels = Level("DRAM"), Level("BUF", tuple((n, 32 * w) for n, w in rooms.items()))
        found = least_block_traffic(
            work,
            Hardware("open", levels),
            Limits(rooms, granules=everything.granules),
            sum_weight=everything.sum_weight,
        )
        assert found is not None
        fits = [w for tiles, w in stairs.items() if all(map(le, tiles, rooms.values()))]
        least, proved = min(fits), found.status is Status.OPTIMAL
        unproved += not proved
        right = found.lower_bound <= least <= found.weighted_words
        if not right or (proved and found.weighted_words != least):
            wrong.append(
                f"{work.einsum} {work.sizes} {rooms}: {found.weighted_words} words, "
                f"bound {found.lower_bound}, enumeration {least}\n{found.cost.mapping}"
            )
    return wrong, 12, unproved


@pytest.mark.parametrize("granule", [1, 2])
def test_the_least_is_what_enumeration_finds(granule: int) -> None:
    compared = unproved = 0
    for layer in LAYERS:
        wrong, points, open_points = disagreements(layer, granule=granule)
        assert wrong == []
        compared, unproved = compared + points, unproved + open_points
    assert compared == 84
    assert unproved <= 12  # where loops of a rank may save together, the bound is loose


def never(*_: object) -> bool:
    return False


def test_a_planted_fault_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClassSpace, "_may_slide", never)
    assert any(disagreements(layer)[0] for layer in LAYERS)


def test_tiles_that_reach_too_far_are_not_chosen() -> None:
    wide, narrow = CONFIGS["1KiB"], replace(CONFIGS["1KiB"], columns=2, rows=2)
    work = fit_widths(conv2d("wide", K=64, C=8, P=16, Q=16, R=3, S=3), wide)
    free, held = find_schedule(work, wide), find_schedule(work, narrow)
    assert free is not None
    assert held is not None
    assert held.weighted_words > free.weighted_words
    lower(held.cost.mapping, work, narrow)
    with pytest.raises(InfeasibleError, match="reaches over"):
        lower(free.cost.mapping, work, narrow)
