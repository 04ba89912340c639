"""What every mapper must do, whatever it is made of."""

from dataclasses import dataclass

import pytest

from tilewright.ir.hardware import Compute, Fanout, Hardware, Level
from tilewright.ir.verify import axis_violations, verify_mapping
from tilewright.ir.workload import Workload, conv2d, einsum
from tilewright.mapper.result import LayerResult, Status
from tilewright.mapper.search import search_mapping
from tilewright.model.evaluate import evaluate

CHIP = Hardware(
    "contract",
    (
        Level("DRAM", read_pj=200, write_pj=200, bandwidth=4),
        Level("GLB", 4096, read_pj=6, write_pj=6, fanout=Fanout(4, 2, y_dims=("C",))),
        Level("RF", (("W", 256), ("O", 64)), read_pj=1, write_pj=1),
    ),
    Compute(pj=1),
)
CONV = conv2d("conv", K=8, C=4, P=6, Q=6, R=3, S=3, stride=2)


@dataclass(frozen=True)
class Case:
    objective: str = "energy"
    imperfect: bool = False
    uneven: bool = False


CASES = [
    Case(),
    Case("cycles"),
    Case("edp"),
    Case("dram"),
    Case(imperfect=True),
    Case(uneven=True),
    Case("dram", imperfect=True, uneven=True),
]


class MapperContract:
    """Inherit this, give `solve`, and the suite runs against that mapper."""

    def solve(
        self, workload: Workload, hardware: Hardware, case: Case, seconds: float | None = None
    ) -> LayerResult:
        return search_mapping(
            workload,
            hardware,
            objective=case.objective,
            imperfect=case.imperfect,
            uneven=case.uneven,
            seconds=seconds,
        )

    @pytest.mark.parametrize("case", CASES)
    def test_the_mapping_is_legal_and_costs_what_it_says(self, case: Case) -> None:
        found = self.solve(CONV, CHIP, case)
        assert found.cost is not None
        verify_mapping(CONV, CHIP, found.cost.mapping)
        assert axis_violations(CHIP, found.cost.mapping) == []
        assert evaluate(CONV, CHIP, found.cost.mapping).to_json() == found.cost.to_json()

    def test_perfect_means_perfect(self) -> None:
        found = self.solve(CONV, CHIP, Case())
        assert found.cost is not None
        covered = dict.fromkeys(CONV.sizes, 1)
        for block in found.cost.mapping.blocks:
            for loop in block.loops:
                covered[loop.dim] *= loop.extent
        assert covered == CONV.sizes

    def test_even_means_one_block_per_memory(self) -> None:
        found = self.solve(CONV, CHIP, Case())
        assert found.cost is not None
        memories = [block.memory for block in found.cost.mapping.blocks]
        assert len(memories) == len(set(memories))

    def test_the_same_seed_gives_the_same_answer(self) -> None:
        first, second = (self.solve(CONV, CHIP, Case("edp")) for _ in range(2))
        assert first.cost is not None
        assert second.cost is not None
        assert first.cost.mapping == second.cost.mapping

    def test_optimal_is_said_only_with_a_bound(self) -> None:
        found = self.solve(CONV, CHIP, Case())
        assert found.cost is not None
        if found.status is Status.OPTIMAL:
            assert found.lower_bound == found.cost.energy_pj
        else:
            assert found.status is Status.BEST_FOUND
            assert found.lower_bound is None or found.lower_bound <= found.cost.energy_pj

    def test_no_mapping_below_the_physical_limit(self) -> None:
        found = self.solve(CONV, CHIP, Case("dram"))
        assert found.cost is not None
        assert found.cost.dram_words >= found.cost.limit.words

    def test_the_budget_holds(self) -> None:
        found = self.solve(CONV, CHIP, Case(), seconds=0.5)
        assert found.cost is not None
        assert found.seconds < 1.0  # a generous share for a busy machine

    def test_what_cannot_be_mapped_says_why(self) -> None:
        tight = Hardware(
            "tight", (Level("DRAM"), Level("RF", 40, keeps=frozenset({"W", "I", "O"})))
        )
        found = self.solve(CONV, tight, Case())
        assert found.status is Status.INFEASIBLE
        assert found.cost is None
        (violation,) = found.violations
        assert violation.memory == "RF"
        assert violation.operands == ("W", "I", "O")
        assert (violation.needed_bytes, violation.capacity_bytes) == (6, 5)
        assert "a capacity of 6B" in violation.fix

    def test_a_workload_of_one_iteration(self) -> None:
        one = einsum("one", "O[M] += W[M,K] * I[K]", {"M": 1, "K": 1})
        assert self.solve(one, CHIP, Case()).cost is not None

    def test_primes_and_large_sizes_end(self) -> None:
        layer = einsum("big", "O[M,N] += W[M,K] * I[K,N]", {"M": 997, "N": 4096, "K": 4096})
        found = self.solve(layer, CHIP, Case(imperfect=True), seconds=0.5)
        assert found.cost is not None
