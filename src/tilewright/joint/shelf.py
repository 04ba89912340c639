"""The mappings of one layer that a study keeps, with what they use.

Owns: the noun `Shelf`, `best_for`: the best mapping on it for every chip and every worth.

Non-goals: making mappings (`joint/local.py`), choosing chips (`joint/population.py`).
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from tilewright.joint.genome import Genes, join_genes
from tilewright.joint.goal import EXCESS_WEIGHT, Numbers
from tilewright.joint.uses import Uses, join_uses, price_uses
from tilewright.model.batch import Chips

MOST = 384
"""Mappings of one layer that are kept."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Mappings of one layer, M of them.

    Attributes:
        genes: the mappings.
        uses: what each uses.
        number: [M], which no other has had.
        chosen: [M], the last round in which one was the best for a chip.
    """

    genes: Genes
    uses: Uses
    number: np.ndarray
    chosen: np.ndarray

    @property
    def count(self) -> int:
        """M."""
        return len(self.number)

    def take(self, places: Any) -> "Shelf":
        """Some of them."""
        return Shelf(
            self.genes.take(places),
            self.uses.take(places),
            self.number[places],
            self.chosen[places],
        )


def make_shelf(genes: Genes, uses: Uses, round_: int, first: int = 0) -> Shelf:
    """A shelf with new mappings, numbered from `first`."""
    numbers = np.arange(first, first + uses.count)
    return Shelf(genes, uses, numbers, np.full(uses.count, round_))


def join_shelves(old: Shelf, new: Shelf) -> Shelf:
    """Both, without those of the new ones that use what another uses."""
    whole = Shelf(
        join_genes([old.genes, new.genes]),
        join_uses([old.uses, new.uses]),
        np.concatenate([old.number, new.number]),
        np.concatenate([old.chosen, new.chosen]),
    )
    return whole.take(_different(whole.uses))


def _different(uses: Uses) -> np.ndarray:
    """Places of mappings that use something else than those before them."""
    leaves = [np.asarray(leaf, dtype=np.float32) for leaf in jax.tree.leaves(uses)]
    rows = np.concatenate([leaf.reshape(-1, uses.count) for leaf in leaves]).T.copy()
    first: dict[bytes, int] = {}
    for place, row in enumerate(rows):
        first.setdefault(row.tobytes(), place)
    return np.array(list(first.values()))


def swept(shelf: Shelf, taken: np.ndarray, round_: int) -> Shelf:
    """The shelf with those `taken` marked, and without those that were not for the longest."""
    chosen = shelf.chosen.copy()
    chosen[np.unique(taken)] = round_
    marked = Shelf(shelf.genes, shelf.uses, shelf.number, chosen)
    if shelf.count <= MOST:
        return marked
    newest = np.lexsort((shelf.number, chosen))[-MOST:]
    return marked.take(np.sort(newest))


def best_for(
    uses: Uses, chips: Chips, there: np.ndarray, worths: Sequence[tuple[float, float]]
) -> tuple[np.ndarray, Numbers, Numbers, Numbers]:
    """The best of M mappings for every chip of C and every one of W worths of energy and cycles.

    Returns: [W, C] each: its place, energy, cycles and excess.
    """
    energy, cycles, excess = price_uses(uses, chips, there)
    over = EXCESS_WEIGHT * np.log(np.maximum(excess, 1))
    logs = np.log(energy), np.log(cycles)
    columns = np.arange(energy.shape[1])
    found: list[tuple[np.ndarray, ...]] = []
    for of_energy, of_cycles in worths:
        at = (of_energy * logs[0] + of_cycles * logs[1] + over).argmin(axis=0)
        found.append((at, energy[at, columns], cycles[at, columns], excess[at, columns]))
    at, *prices = (np.stack(parts) for parts in zip(*found, strict=True))
    return at, prices[0].astype(float), prices[1].astype(float), prices[2].astype(float)
