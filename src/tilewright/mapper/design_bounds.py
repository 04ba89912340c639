"""What a layer costs at least on a hierarchy, before it is solved there.

Owns: `Prices`, what bounds know of a hierarchy; `Floor`, the bound from physics; `relaxed_bound`,
the bound from a certificate of another hierarchy.

A mapping's counts do not depend on energies: on every hierarchy that it fits it moves the same
words, at other prices. So the certificate of one hierarchy bounds all that are no larger.

Non-goals: choosing what to solve (`mapper/design.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from tilewright.ir.hardware import AXES, Fanout, Hardware
from tilewright.ir.workload import Operand, Workload
from tilewright.mapper.result import Objective
from tilewright.model.limit import dram_limit, operand_words, real_macs


@dataclass(frozen=True, slots=True)
class Prices:
    """What bounds know of a hierarchy: its on-chip levels, outermost first.

    Attributes:
        capacities: in bits.
        pj_per_bit: of one access, the cheaper of a read and a write.
        dram_pj_per_bit: likewise, of the memory off the chip.
    """

    capacities: tuple[int, ...]
    pj_per_bit: tuple[float, ...]
    dram_pj_per_bit: float


def prices_of(hardware: Hardware) -> Prices:
    """The prices of a chip whose energies are filled in (`apply_technology`).

    >>> from tilewright.ir.hardware import Level
    >>> outer = Level("DRAM", read_pj=320, write_pj=320)
    >>> inner = Level("L1", 8192, word_bits=64, read_pj=16, write_pj=32)
    >>> prices_of(Hardware("chip", (outer, inner)))
    Prices(capacities=(8192,), pj_per_bit=(0.25,), dram_pj_per_bit=20.0)
    """
    per_bit: list[float] = []
    capacities: list[int] = []
    for level in hardware.levels:
        ways = (level.read_pj, level.write_pj, level.update_pj)
        per_bit.append(min(pj for pj in ways if pj is not None) / level.word_bits)
        capacities.append(level.usable_bits() or 0)
    return Prices(tuple(capacities[1:]), tuple(per_bit[1:]), per_bit[0])


@dataclass(frozen=True, slots=True)
class Floor:
    """The least that a layer needs on a chip, whatever its mapping.

    Attributes:
        compute_pj: of all multiply-accumulates.
        dram_bits: to and from the memory off the chip.
        feed_bits: between the MAC units and the memories that feed them, wherever these are.
        cycles: with every unit busy; 1 if the objective has no use for cycles.
    """

    compute_pj: float
    dram_bits: float
    feed_bits: float
    cycles: float

    def value(self, prices: Prices) -> float:
        """The bound: in pJ, or in pJ · cycles."""
        return self.priced(self.compute_pj, prices.dram_pj_per_bit, min(prices.pj_per_bit))

    def priced(self, compute_pj: float, dram_pj_per_bit: float, chip_pj_per_bit: float) -> float:
        """The same with prices of one's own.

        What the MAC units get straight from off the chip is among the words moved there.
        """
        feed = max(0.0, self.feed_bits - self.dram_bits)
        cheapest = min(chip_pj_per_bit, dram_pj_per_bit)
        return self.cycles * (compute_pj + self.dram_bits * dram_pj_per_bit + feed * cheapest)


def layer_floor(workload: Workload, hardware: Hardware, objective: Objective) -> Floor:
    """What no mapping of the layer on the chip can do without.

    Args:
        workload: the layer.
        hardware: with energies filled in; its memories are above all fan-outs.
        objective: `energy` or `edp`.

    Off the chip: every word once, or the bound for the chip's whole capacity. At the MAC
    units: every operand of every multiply-accumulate, read once for all units that can share it.

    Source: `spec/model.md §3, §4, §6`, `docs/small-dims-limit.md`.
    """
    limit = dram_limit(workload, hardware)
    widths = [*(o.bits for o in workload.operands), workload.psum_bits]
    compulsory = sum(operand_words(o, workload) * o.bits for o in workload.operands)
    steps = -(-workload.macs // hardware.mac_units)
    return Floor(
        workload.macs * (hardware.compute.pj or 0.0),
        max(compulsory, limit.bound_words * min(widths)),
        _feed_bits(workload, hardware),
        steps if objective is Objective.EDP else 1.0,
    )


def _feed_bits(workload: Workload, hardware: Hardware) -> float:
    macs, total = real_macs(workload), 0.0
    for operand in workload.operands:
        accesses = macs / _sharers(operand, workload, hardware)
        if operand == workload.output:  # an update each, and a read each but for the first
            reads = max(0.0, accesses - operand_words(operand, workload))
            total += (accesses + reads) * min(operand.bits, workload.psum_bits)
        else:
            total += accesses * operand.bits
    return total


def _sharers(operand: Operand, workload: Workload, hardware: Hardware) -> int:
    """How many MAC units can at most be served by one access."""
    fanouts = [level.fanout for level in hardware.levels]
    return math.prod(
        fanout.extent(axis)
        for fanout in fanouts
        for axis in AXES
        if _may_share(operand, workload, fanout, axis)
    )


def _may_share(operand: Operand, workload: Workload, fanout: Fanout, axis: str) -> bool:
    """Whether unrolling along an axis can give several units the same word of an operand."""
    allowed = fanout.allowed_dims(axis)
    dims = workload.sizes if allowed is None else allowed
    alone = {rank.terms[0].dim for rank in operand.ranks if len(rank.terms) == 1}
    return any(dim not in alone for dim in dims if workload.sizes.get(dim, 1) > 1)


def relaxed_bound(wanted: Prices, floor: Floor, solved: Prices, certificate: float) -> float:
    """What a layer costs at least on a hierarchy, by its certificate on another.

    Args:
        wanted: the hierarchy to bound.
        floor: of the layer there.
        solved: another hierarchy of the same chip, with at least as many levels.
        certificate: no mapping is better there.

    Returns: the bound; 0 if the other hierarchy does not hold all mappings of this one.

    Let its levels lie, in their order, in levels of the other that are no smaller (the rest are
    bypassed), and let ρ ≤ 1 be such that none of its prices is below ρ times the other's. Then a
    mapping costs at least ρ times what it costs there, and what is left of the prices of what it
    needs in any case.

    >>> small = Prices((8,), (0.5,), 20.0)
    >>> large = Prices((16,), (1.0,), 20.0)
    >>> floor = Floor(compute_pj=10, dram_bits=2, feed_bits=2, cycles=1)
    >>> relaxed_bound(small, floor, large, certificate=100.0)
    75.0
    >>> relaxed_bound(large, floor, small, certificate=100.0)
    0.0
    """
    places = combinations(range(len(solved.capacities)), len(wanted.capacities))
    return max(
        (_bound_placed(wanted, floor, solved, certificate, place) for place in places), default=0.0
    )


def _bound_placed(
    wanted: Prices, floor: Floor, solved: Prices, certificate: float, place: Sequence[int]
) -> float:
    if any(solved.capacities[p] < c for p, c in zip(place, wanted.capacities, strict=True)):
        return 0.0
    theirs = [solved.pj_per_bit[p] for p in place]
    ratios = [mine / other for mine, other in zip(wanted.pj_per_bit, theirs, strict=True) if other]
    share = min(1.0, *ratios, 1.0)
    pairs = zip(wanted.pj_per_bit, theirs, strict=True)
    left = max(0.0, min(mine - share * other for mine, other in pairs))
    rest = 1.0 - share
    return share * certificate + floor.priced(
        rest * floor.compute_pj, rest * wanted.dram_pj_per_bit, left
    )
