"""Products of choices: the least sum of products under a bound on another sum of products.

Owns: the search that `docs/traffic.md` reduces mappings to. Every *coordinate* offers options; an
option multiplies the tile and the cost of each operand. Wanted is, for several capacities at once,
the choice of one option per coordinate with the least `constant + Σ weight·Π f` of those with
`Σ bits·Π w ≤ capacity`.

Non-goals: what the numbers mean.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.mapper.compiled import compiled

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Factors:
    """The options of a coordinate: rows of three tile factors and three cost factors."""

    tiles: Ints
    costs: Ints


@dataclass(frozen=True, slots=True)
class Sums:
    """What products are weighed by, for each of three operands.

    Attributes:
        bits: of a word in the buffer; 0 for an operand that is not there.
        weights: words that one round of an operand's tiles costs; 0 where the cost is constant.
        constant: what is added.
    """

    bits: tuple[int, int, int]
    weights: tuple[int, int, int]
    constant: int


def undominated(factors: Factors) -> Ints:
    """The options that no other is at least as good as, in every factor; of equal ones the first.

    Returns: their rows, those with the least cost factors first.
    """
    both = np.hstack([factors.costs, factors.tiles])
    order = np.lexsort(both.T[::-1]).astype(np.int64)
    return order[_undominated(np.ascontiguousarray(both[order]))]


@compiled
def _undominated(rows: Ints) -> NDArray[np.bool_]:
    """Which of the sorted rows no earlier row undercuts."""
    kept = np.zeros(len(rows), np.bool_)
    chosen = np.zeros(len(rows), np.int64)
    count = 0
    for at in range(len(rows)):
        beaten = False
        for other in range(count - 1, -1, -1):
            beaten = True
            for column in range(rows.shape[1]):
                if rows[chosen[other], column] > rows[at, column]:
                    beaten = False
                    break
            if beaten:
                break
        if not beaten:
            kept[at] = True
            chosen[count] = at
            count += 1
    return kept


@dataclass(frozen=True, slots=True)
class Query:
    """A search made ready: coordinates in the order of the search, joined into arrays."""

    tiles: Ints
    costs: Ints
    starts: Ints
    least_tiles: Ints
    least_costs: Ints
    sums: Sums

    @property
    def width(self) -> int:
        """How many options the first coordinate has."""
        return int(self.starts[1])


def prepare(coordinates: list[Factors], sums: Sums) -> Query:
    """Make a search ready. There must be a coordinate, and every one must have an option."""
    count = len(coordinates)
    starts = np.cumsum([0, *(len(c.tiles) for c in coordinates)]).astype(np.int64)
    least_tiles, least_costs = (np.ones((count + 1, 3), np.int64) for _ in range(2))
    for place in range(count - 1, -1, -1):
        least_tiles[place] = least_tiles[place + 1] * coordinates[place].tiles.min(axis=0)
        least_costs[place] = least_costs[place + 1] * coordinates[place].costs.min(axis=0)
    tiles = np.vstack([c.tiles for c in coordinates])
    costs = np.vstack([c.costs for c in coordinates])
    return Query(tiles, costs, starts, least_tiles, least_costs, sums)


def search(query: Query, capacities: Ints, best: Ints, chosen: Ints, span: tuple[int, int]) -> int:
    """Improve on `best`, the least cost known for each of the rising `capacities`, in bits.

    Args:
        query: what to search.
        capacities: in bits.
        best: changed in place where something cheaper is found.
        chosen: `[capacity, coordinate]`, the options found; changed in place.
        span: of the first coordinate's options, where to begin and where to stop.

    Returns: how many complete choices were looked at.
    """
    sums = query.sums
    return _search(
        query.tiles,
        query.costs,
        query.starts,
        query.least_tiles,
        query.least_costs,
        (sums.bits, sums.weights, sums.constant),
        capacities,
        best,
        chosen,
        span,
    )


@compiled
def _search(  # noqa: PLR0913, PLR0917 - one loop, flat for the compiler
    tiles: Ints,
    costs: Ints,
    starts: Ints,
    least_tiles: Ints,
    least_costs: Ints,
    sums: tuple[tuple[int, int, int], tuple[int, int, int], int],
    capacities: Ints,
    best: Ints,
    chosen: Ints,
    span: tuple[int, int],
) -> int:
    (bits_0, bits_1, bits_2), (weight_0, weight_1, weight_2), constant = sums
    count, many = len(starts) - 1, len(capacities)
    tile = np.ones((count + 1, 3), np.int64)
    cost = np.ones((count + 1, 3), np.int64)
    option = np.zeros(count, np.int64)
    first = np.zeros(count + 1, np.int64)
    option[0] = span[0] - 1
    looked = depth = 0
    while depth >= 0:
        option[depth] += 1
        stop = span[1] if depth == 0 else starts[depth + 1]
        if option[depth] >= stop:
            depth -= 1
            continue
        at, below = option[depth], depth + 1
        tile_0 = tile[depth, 0] * tiles[at, 0]
        tile_1 = tile[depth, 1] * tiles[at, 1]
        tile_2 = tile[depth, 2] * tiles[at, 2]
        size = (
            bits_0 * tile_0 * least_tiles[below, 0]
            + bits_1 * tile_1 * least_tiles[below, 1]
            + bits_2 * tile_2 * least_tiles[below, 2]
        )
        place = first[depth]
        while place < many and capacities[place] < size:
            place += 1
        if place == many:
            continue
        cost_0 = cost[depth, 0] * costs[at, 0]
        cost_1 = cost[depth, 1] * costs[at, 1]
        cost_2 = cost[depth, 2] * costs[at, 2]
        total = (
            constant
            + weight_0 * cost_0 * least_costs[below, 0]
            + weight_1 * cost_1 * least_costs[below, 1]
            + weight_2 * cost_2 * least_costs[below, 2]
        )
        if total >= best[place]:  # and so for all larger capacities, whose best is no greater
            continue
        if below < count:
            tile[below, 0], tile[below, 1], tile[below, 2] = tile_0, tile_1, tile_2
            cost[below, 0], cost[below, 1], cost[below, 2] = cost_0, cost_1, cost_2
            first[below] = place
            option[below] = starts[below] - 1
            depth = below
            continue
        looked += 1
        while place < many and total < best[place]:
            best[place] = total
            for coordinate in range(count):
                chosen[place, coordinate] = option[coordinate] - starts[coordinate]
            place += 1
    return looked
