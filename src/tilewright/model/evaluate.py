"""The price of one mapping: verify it, count it, check that it fits, price it.

Owns: the verb `evaluate`, and the comparison of the closed form with the walk.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tilewright.errors import InfeasibleError, InputError, Problem, did_you_mean
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Mapping, parse_mapping
from tilewright.ir.nest import flatten
from tilewright.ir.verify import axis_violations, verify_mapping
from tilewright.ir.workload import Workload
from tilewright.model import exact, timeloop
from tilewright.model.capacity import capacity_violations
from tilewright.model.convention import DEFAULT, Convention, Reuse, find_convention
from tilewright.model.cost import OVERLAPS, Cost, price
from tilewright.model.counts import TALLY_FIELDS, Counts
from tilewright.tech import Provenance, apply_technology


def evaluate(
    workload: Workload,
    hardware: Hardware,
    mapping: Mapping | str,
    *,
    convention: str | Convention = DEFAULT,
    overlap: str = "perfect",
) -> Cost:
    r"""Count and price one mapping of a workload on a chip.

    Args:
        workload: what to run.
        hardware: on what; energies and areas that are not given come from its technology table.
        mapping: how, as a noun or in the notation of `spec/model.md §2`.
        convention: the rules to count by; see `CONVENTIONS`.
        overlap: `perfect` hides the first loads and last stores behind the work, `serial` adds
            them.

    Returns: the cost, with every part of it.

    Raises:
        InputError: the mapping is not one for this workload and chip.
        InfeasibleError: it does not fit a capacity or an axis.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> from tilewright.ir.workload import einsum
    >>> layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    >>> chip = Hardware("chip", (Level("DRAM", read_pj=200), Level("RF", capacity=1024)))
    >>> evaluate(layer, chip, "DRAM[W I O]: M4\nRF[I O]: K8").dram_words
    44

    Source: `spec/model.md`.
    """
    evaluator = make_evaluator(workload, hardware, convention=convention, overlap=overlap)
    nest = parse_mapping(mapping) if isinstance(mapping, str) else mapping
    verify_mapping(workload, hardware, nest)
    return evaluator.price(nest)


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Prices many mappings of one workload on one chip.

    Attributes:
        workload: what is run.
        hardware: on what, with all energies filled in.
        convention: the rules to count by.
        overlap: `perfect` or `serial`.
        tables: where energies and areas come from.
    """

    workload: Workload
    hardware: Hardware
    convention: Convention
    overlap: str
    tables: dict[str, Provenance]

    def price(self, mapping: Mapping) -> Cost:
        """Price a mapping that `verify_mapping` accepts.

        Raises: `InfeasibleError` if it does not fit a capacity or an axis.
        """
        violations = axis_violations(self.hardware, mapping)
        counts = count_mapping(self.workload, self.hardware, mapping, self.convention)
        violations += capacity_violations(self.workload, self.hardware, counts, self.convention)
        if violations:
            raise InfeasibleError(violations)
        return price(
            self.workload,
            self.hardware,
            mapping,
            counts,
            convention=self.convention,
            overlap=self.overlap,
            tables=self.tables,
        )


def make_evaluator(
    workload: Workload,
    hardware: Hardware,
    *,
    convention: str | Convention = DEFAULT,
    overlap: str = "perfect",
) -> Evaluator:
    """Prepare the pricing of mappings: find the rules, fill in energies and areas.

    Raises: `InputError` for an unknown convention, overlap model or technology.
    """
    rules = find_convention(convention)
    if overlap not in OVERLAPS:
        fix = did_you_mean(overlap, OVERLAPS)
        raise InputError(Problem(f"there is no overlap model `{overlap}`", fix))
    priced, tables = apply_technology(hardware)
    return Evaluator(workload, priced, rules, overlap, tables)


def count_mapping(
    workload: Workload, hardware: Hardware, mapping: Mapping, convention: Convention
) -> Counts:
    """Count a mapping that has been verified, by the rules of a convention."""
    if convention.reuse is Reuse.TIMELOOP:
        return timeloop.count(workload, hardware, mapping)
    return exact.count(workload, hardware, mapping, convention)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A figure on which two witnesses differ."""

    place: str
    exact: int
    walked: int

    def to_json(self) -> dict[str, object]:
        """The mismatch as a JSON object."""
        return {"place": self.place, "exact": self.exact, "walk": self.walked}


def compare_with_walk(
    cost: Cost, on_progress: Callable[[float], None] = lambda _: None
) -> list[Mismatch]:
    """Run the nest of a priced mapping and list every figure on which the walk differs.

    `on_progress` is told now and then what share of the way lies behind. Raises `InputError` for
    the convention `timeloop`, which has no walk.
    """
    if cost.convention.reuse is Reuse.TIMELOOP:
        what = "the convention `timeloop` has no walk: its second witness is Timeloop itself"
        raise InputError(Problem(what, "walk in the convention `default`"))
    from tilewright.model.walk import LONGEST, length, walk  # NumPy: the closed form needs none

    steps = length(flatten(cost.mapping, cost.hardware))
    if steps > LONGEST:
        what = f"the walk would take {steps:,} steps; the limit is {LONGEST:,}"
        raise InputError(Problem(what, "walk a smaller layer with the same kind of mapping"))
    walked = walk(cost.workload, cost.hardware, cost.mapping, cost.convention, on_progress)
    pairs = [
        ("macs", cost.counts.macs, walked.macs),
        ("cycles", cost.counts.steps, walked.steps),
    ]
    for memory, operand in cost.counts.kept():
        ours, theirs = cost.counts[memory, operand], walked[memory, operand]
        place = f"{memory}.{operand}"
        key = memory, operand
        tiles = cost.counts.tile_words[key], walked.tile_words[key]
        pairs.append((f"{place}.tile_words", *tiles))
        pairs += [
            (f"{place}.{name}", getattr(ours, name), getattr(theirs, name)) for name in TALLY_FIELDS
        ]
    return [Mismatch(place, ours, theirs) for place, ours, theirs in pairs if ours != theirs]
