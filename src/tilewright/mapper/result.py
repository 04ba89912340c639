"""What a mapper answers, for a layer and for a network.

Owns: the nouns `LayerResult` and `NetworkResult`, their totals and their JSON.

Non-goals: finding anything.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from tilewright.errors import InputError, Problem, Violation, did_you_mean
from tilewright.ir.fix import Fix, format_fix
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import format_mapping
from tilewright.ir.workload import Network, Workload
from tilewright.model.convention import Convention
from tilewright.model.cost import Cost
from tilewright.model.table import Row, as_frame, as_html, as_text

if TYPE_CHECKING:
    import pandas as pd


Stop = Callable[[], bool]
"""Asked by mappers now and then: whether to end with what has been found."""


class Objective(Enum):
    """What a mapper minimises."""

    ENERGY = "energy"
    CYCLES = "cycles"
    EDP = "edp"
    DRAM = "dram"

    def of(self, cost: Cost) -> float:
        """The objective's value, in its own unit: pJ, cycles, pJ · cycles, or words."""
        if self is Objective.ENERGY:
            return cost.energy_pj
        if self is Objective.CYCLES:
            return cost.cycles
        return cost.edp if self is Objective.EDP else cost.dram_words

    def key(self, cost: Cost) -> tuple[float, ...]:
        """What mappings are compared by: the objective, then cycles, energy and DRAM words."""
        return self.of(cost), cost.cycles, cost.energy_pj, cost.dram_words


def find_objective(name: str | Objective) -> Objective:
    """The objective of that name. Raises `InputError`, with the nearest name, if there is none.

    >>> find_objective("edp")
    <Objective.EDP: 'edp'>
    """
    names = [objective.value for objective in Objective]
    if not isinstance(name, Objective) and name not in names:
        what = f"there is no objective `{name}`"
        raise InputError(Problem(what, did_you_mean(name, names)))
    return Objective(name)


def limit_of_all(cost: Cost, objective: Objective) -> float | None:
    """What no schedule of any kind is better than, in the objective's unit; `None` if not known.

    Known are DRAM words, unless the convention leaves some uncharged (`docs/small-dims-limit.md`).
    """
    known = objective is Objective.DRAM and cost.convention.charges_drains
    return cost.limit.bound_words if known else None


class Status(Enum):
    """How much is known of a result."""

    OPTIMAL = "optimal"
    BEST_FOUND = "best_found"
    INFEASIBLE = "infeasible"


@dataclass(frozen=True, slots=True)
class LayerResult:
    """The best mapping of one layer.

    Attributes:
        workload: the layer.
        repeat: how many equal ones the network has.
        status: `OPTIMAL` only with a proof.
        cost: of the best mapping; `None` if there is none.
        lower_bound: no mapping of the mapspace is better, in the objective's unit; `None` if no
            bound is known.
        objective: what was minimised.
        mapspace_size: how many mappings there are.
        evaluated: how many were priced.
        seconds: that the search took.
        violations: why there is no mapping.
        interrupted: whether the search was stopped before its end.
        is_from_cache: whether it was solved before (`mapper/solved.py`); `evaluated` and `seconds`
            are of then.
    """

    workload: Workload
    repeat: int
    status: Status
    cost: Cost | None
    lower_bound: float | None
    objective: Objective
    mapspace_size: float
    evaluated: int
    seconds: float
    violations: tuple[Violation, ...] = ()
    interrupted: bool = False
    is_from_cache: bool = False

    @property
    def gap(self) -> float | None:
        """By what share of its cost the mapping could at most be improved; `None` if not known."""
        if self.cost is None or self.lower_bound is None:
            return None
        cost = self.objective.of(self.cost)
        return (cost - self.lower_bound) / cost if cost else 0.0

    @property
    def reason(self) -> str | None:
        """Why there is no mapping."""
        return "; ".join(f"{v.memory}: {v.what}" for v in self.violations) or None

    def repeated(self, repeat: int) -> "LayerResult":
        """The same result for a layer that occurs `repeat` times."""
        return replace(self, repeat=repeat)

    def to_json(self) -> dict[str, object]:
        """The layer's entry in the document of `map --json`."""
        cost = self.cost
        document: dict[str, object] = {
            "name": self.workload.name,
            "repeat": self.repeat,
            "mapping": None if cost is None else format_mapping(cost.mapping),
            "cost": None if cost is None else cost.to_json(),
            "status": self.status.value,
            "lower_bound": self.lower_bound,
            "gap": self.gap,
            "mapspace_size": self.mapspace_size,
            "evaluated": self.evaluated,
            "seconds": self.seconds,
            "dram_words": None if cost is None else cost.dram_words,
            "dram_limit_words": None if cost is None else cost.limit.words,
            "dram_bound_words": None if cost is None else cost.limit.bound_words,
            "interrupted": self.interrupted,
            "cached": self.is_from_cache,
        }
        if self.status is Status.INFEASIBLE:
            document["reason"] = self.reason
            document["violations"] = [violation.to_json() for violation in self.violations]
        return document


@dataclass(frozen=True, slots=True)
class NetworkResult:
    """The best mappings of a network's layers.

    Attributes:
        network: what was mapped.
        hardware: on what.
        convention: the rules that it was counted by.
        objective: what was minimised, layer by layer.
        mapspace: what was searched, in words.
        layers: results, in the order of the network; after an interruption, those that there are.
        seconds: that it took.
        seed: of the random choices.
        interrupted: whether it was stopped before its end.
        fix: what every mapping had to contain; `None` if nothing.
    """

    network: Network
    hardware: Hardware
    convention: Convention
    objective: Objective
    mapspace: str
    layers: tuple[LayerResult, ...]
    seconds: float
    seed: int
    interrupted: bool = False
    fix: Fix | None = None

    @property
    def feasible(self) -> bool:
        """Whether every layer that was looked at has a mapping."""
        return all(layer.status is not Status.INFEASIBLE for layer in self.layers)

    @property
    def energy_pj(self) -> float:
        """Energy of all layers that have a mapping, in pJ."""
        return math.fsum(c.energy_pj * layer.repeat for layer, c in self._priced())

    @property
    def cycles(self) -> int:
        """Cycles of all layers that have a mapping, one after the other."""
        return sum(c.cycles * layer.repeat for layer, c in self._priced())

    @property
    def dram_words(self) -> int:
        """Words to and from the outermost level."""
        return sum(c.dram_words * layer.repeat for layer, c in self._priced())

    @property
    def dram_limit_words(self) -> float:
        """The physical limit of those words."""
        return math.fsum(c.limit.words * layer.repeat for layer, c in self._priced())

    @property
    def dram_bound_words(self) -> float:
        """What no schedule goes below, by the tighter bound."""
        return math.fsum(c.limit.bound_words * layer.repeat for layer, c in self._priced())

    @property
    def utilization(self) -> float:
        """Multiply-accumulates over those that all units could do in the same cycles."""
        macs = sum(c.counts.macs * layer.repeat for layer, c in self._priced())
        return macs / (self.cycles * self.hardware.mac_units) if self.cycles else 0.0

    @property
    def latency_s(self) -> float:
        """Seconds that all layers take, one after the other."""
        return self.cycles / (self.hardware.clock_ghz * 1e9)

    def _priced(self) -> list[tuple[LayerResult, Cost]]:
        return [(layer, layer.cost) for layer in self.layers if layer.cost is not None]

    def to_json(self) -> dict[str, object]:
        """The document of `map --json` (`spec/formats.md`, Results)."""
        document: dict[str, object] = {
            "workload": self.network.name,
            "hardware": self.hardware.name,
            "convention": self.convention.name,
            "objective": self.objective.value,
            "mapspace": self.mapspace,
            "layers": [layer.to_json() for layer in self.layers],
            "total": {
                "energy_pj": self.energy_pj,
                "cycles": self.cycles,
                "edp": self.energy_pj * self.cycles,
                "latency_s": self.latency_s,
                "dram_words": self.dram_words,
                "dram_limit_words": self.dram_limit_words,
                "dram_bound_words": self.dram_bound_words,
                "utilization": self.utilization,
            },
            "not_costed": [{"op": op, "count": count} for op, count in self.network.not_costed],
            "seconds": self.seconds,
            "seed": self.seed,
            "status": "done" if self.feasible else "infeasible",
            "violations": [v.to_json() for layer in self.layers for v in layer.violations],
        }
        if self.fix is not None:
            document["fix"] = format_fix(self.fix)
        if self.interrupted:
            document["interrupted"] = True
        return document

    def to_frame(self) -> "pd.DataFrame":
        """One row per layer as a pandas frame: pJ, cycles, words.

        Raises: `MissingToolError` if pandas, an extra, is not installed.
        """
        return as_frame(self._rows())

    def _rows(self) -> list[Row]:
        return [
            {
                "layer": layer.workload.name,
                "repeat": layer.repeat,
                "macs": layer.workload.macs,
                "status": layer.status.value,
                "energy_pj": None if c is None else c.energy_pj,
                "cycles": None if c is None else c.cycles,
                "utilization": None if c is None else c.utilization,
                "dram_words": None if c is None else c.dram_words,
                "dram_limit_words": None if c is None else c.limit.words,
                "dram_bound_words": None if c is None else c.limit.bound_words,
                "gap": layer.gap,
                "mapping": None if c is None else format_mapping(c.mapping),
            }
            for layer in self.layers
            for c in [layer.cost]
        ]

    def __str__(self) -> str:
        columns = ["layer", "repeat", "energy_pj", "cycles", "dram_words", "dram_limit_words"]
        table = as_text([{name: row[name] for name in columns} for row in self._rows()])
        return f"{self.network.name} on {self.hardware.name}\n{table}"

    def _repr_html_(self) -> str:
        return as_html(self._rows())
