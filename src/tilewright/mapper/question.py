"""What is asked of a mapper.

Owns: `Question`.

Non-goals: answering it (`mapper/layer.py`), remembering answers (`mapper/solved.py`).
"""

from dataclasses import dataclass

from tilewright.ir.fix import Fix
from tilewright.ir.hardware import Hardware
from tilewright.ir.workload import Workload
from tilewright.mapper.result import Objective
from tilewright.model.convention import DEFAULT, Convention


@dataclass(frozen=True, slots=True)
class Question:
    """All that decides the answer for a layer: the arguments of `find_mapping`.

    Attributes:
        workload: the layer.
        hardware: the chip.
        objective: what is minimised.
        convention: the rules to count by.
        imperfect: whether tiles may be clipped.
        uneven: whether operands may be kept at different loops of a level.
        fix: what the mapping must contain; verified by who asks.
        seconds: for the search; `None` until it is proved.
        seed: of the random choices.
    """

    workload: Workload
    hardware: Hardware
    objective: Objective = Objective.ENERGY
    convention: Convention = DEFAULT
    imperfect: bool = False
    uneven: bool = False
    fix: Fix | None = None
    seconds: float | None = None
    seed: int = 0
