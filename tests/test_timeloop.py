"""The convention `timeloop` reproduces Timeloop's own runs, to the last word."""

import math
from unittest.mock import patch

import pytest
from conftest import Json, read_records

from tilewright.errors import InputError
from tilewright.frontend.timeloop import (
    OPERANDS,
    read_architecture,
    read_mapping,
    read_problem,
)
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Mapping
from tilewright.ir.verify import axis_violations, verify_mapping
from tilewright.ir.workload import Workload
from tilewright.model import timeloop
from tilewright.model.capacity import capacity_violations
from tilewright.model.convention import CONVENTIONS
from tilewright.model.cost import Cost
from tilewright.model.evaluate import evaluate

RECORDS = read_records("timeloop.jsonl.gz")
PERFECT = [record for record in RECORDS if record["kind"] == "perfect"]
VALIDITY = read_records("timeloop_validity.jsonl.gz")


def nouns_of(record: Json) -> tuple[Workload, Hardware, Mapping]:
    return (
        read_problem(record["problem"]),
        read_architecture(record["arch"]),
        read_mapping(record["mapping"]),
    )


def differences(record: Json) -> list[str]:
    """Every figure of a record that our result does not equal."""
    return differences_of(record, nouns_of(record))


def differences_of(record: Json, nouns: tuple[Workload, Hardware, Mapping]) -> list[str]:
    """The same for nouns that stand for those of the record."""
    out = record["out_nolink"] or record["out"]
    cost = evaluate(*nouns, convention="timeloop")
    found = [text for level in out["levels"] for text in _level_differences(cost, level)]
    kept = {(level["name"], OPERANDS[o]) for level in out["levels"] for o in level["dataspaces"]}
    if kept != set(cost.counts.kept()):
        found.append(f"kept {kept} {set(cost.counts.kept())}")
    if cost.cycles != out["cycles"]:
        found.append(f"cycles {cost.cycles} {out['cycles']}")
    # Timeloop prints each level's energy to 0.01 pJ; the sum of a record is as exact as that.
    if not math.isclose(cost.energy_pj, out["energy_pJ"], rel_tol=1e-9, abs_tol=0.2):
        found.append(f"energy {cost.energy_pj} {out['energy_pJ']}")
    return found


def _level_differences(cost: Cost, level: Json) -> list[str]:
    name = level["name"]
    ours = next(part for part in cost.levels if part.memory == name)
    (group,) = cost.counts.groups[name]
    found = [f"{name} cycles"] if ours.cycles != level["cycles"] else []
    for tensor, figures in level["dataspaces"].items():
        tally = group.tallies[OPERANDS[tensor]]
        pairs = {
            "reads": tally.reads,
            "fills": tally.fills,
            "updates": tally.updates,
            "utilized_capacity": cost.counts.tile_words[name, OPERANDS[tensor]],
            "utilized_instances": group.instances,
        }
        found += [f"{name} {tensor} {key}" for key, mine in pairs.items() if mine != figures[key]]
        ours_energy, energy = ours.operands[OPERANDS[tensor]].energy_pj, figures["energy_pJ"]
        if not math.isclose(ours_energy, energy, rel_tol=1e-9, abs_tol=0.006 * group.instances):
            found.append(f"{name} {tensor} energy {ours_energy} {energy}")
    return found


def test_every_perfect_record_is_reproduced() -> None:
    assert len(PERFECT) == 907
    wrong = {record["id"]: found for record in PERFECT if (found := differences(record))}
    assert wrong == {}


def test_a_planted_fault_is_seen() -> None:
    """Without the overlap of neighbouring tiles, many records must fail."""

    def share_nothing(*_: object) -> int:
        return 0

    with patch.object(timeloop, "_shared", share_nothing):
        assert sum(bool(differences(record)) for record in PERFECT[:100]) > 10


def test_imperfect_records_are_refused() -> None:
    record = next(record for record in RECORDS if record["kind"] == "imperfect")
    nouns = nouns_of(record)
    with pytest.raises(InputError, match="counts perfect factors only"):
        timeloop.count(*nouns)


@pytest.mark.parametrize("record", VALIDITY, ids=lambda record: f"{record['id']}-{record['kind']}")
def test_what_timeloop_accepts_fits(record: Json) -> None:
    levels = [level for level in record["arch"]["levels"] if level["entries"] is not None]
    if any(level["entries"] < level["multiple_buffering"] for level in levels):
        assert not record["valid"]  # to us not even a chip: a memory that holds nothing
        with pytest.raises(InputError, match="holds nothing"):
            nouns_of(record)
        return
    workload, hardware, mapping = nouns_of(record)
    verify_mapping(workload, hardware, mapping)
    rules = CONVENTIONS["timeloop"]
    counts = timeloop.count(workload, hardware, mapping)
    violations = axis_violations(hardware, mapping)
    violations += capacity_violations(workload, hardware, counts, rules)
    assert (not violations) == record["valid"]


def test_an_uneven_mapping_is_refused() -> None:
    from tilewright.ir.hardware import Level
    from tilewright.ir.mapping import parse_mapping
    from tilewright.ir.workload import einsum

    layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    chip = Hardware("chip", (Level("DRAM"), Level("RF")))
    mapping = parse_mapping("DRAM[W I O]: M4\nRF[W]: K2\nRF[I O]: K4")
    with pytest.raises(InputError, match="RF heads 2 blocks"):
        timeloop.count(layer, chip, mapping)
