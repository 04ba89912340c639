"""The least traffic of a tiny workload over all schedules there are: what a bound is held to.

It knows the workload and the rules of the machine, and nothing of bounds or mappings.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from tilewright.ir.workload import Operand, Workload


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates that are no padding, each with the three words that it needs.

    Attributes:
        needs: by multiply-accumulate, a bit for every word.
        inputs: the bits of words that are read only.
        words: how many there are.
    """

    needs: tuple[int, ...]
    inputs: int
    words: int


def make_work(workload: Workload) -> Work:
    """Run the nest once and write down what every iteration touches."""
    numbers: dict[tuple[str, tuple[int, ...]], int] = {}
    needs: list[int] = []
    for point in product(*(range(dim.size) for dim in workload.dims)):
        at = dict(zip((dim.name for dim in workload.dims), point, strict=True))
        places = [_place(operand, at) for operand in workload.operands]
        if all(place is not None for place in places):
            keys = [
                (o.name, p) for o, p in zip(workload.operands, places, strict=True) if p is not None
            ]
            needs.append(sum(1 << numbers.setdefault(key, len(numbers)) for key in keys))
    read = sum(1 << n for (name, _), n in numbers.items() if name != workload.output.name)
    return Work(tuple(needs), read, len(numbers))


def _place(operand: Operand, at: dict[str, int]) -> tuple[int, ...] | None:
    """The coordinates of a word; `None` if it is padding."""
    place = tuple(sum(t.coefficient * at[t.dim] for t in rank.terms) for rank in operand.ranks)
    data = (rank.data for rank in operand.ranks)
    inside = all(d is None or d[0] <= p < d[1] for d, p in zip(data, place, strict=True))
    return place if inside else None


def least_traffic_of_all(work: Work, held: int, *, read_back: bool) -> int:
    """The least loads and stores with room for `held` words, over all orders of everything.

    With `read_back`, a partial sum that comes back is a load; without, memory adds by itself.
    """
    layers: dict[int, set[tuple[int, int]]] = {0: {(0, 0)}}
    seen: set[tuple[int, int]] = set()
    everything = (1 << len(work.needs)) - 1
    best = 3 * len(work.needs) * 2
    cost = 0
    while cost <= best:
        for state in _closed(layers.pop(cost, set()), seen):
            done, there = state
            if done == everything:
                best = min(best, cost + (there & ~work.inputs).bit_count())
                continue
            for price, following in _moves(work, held, done, there, read_back):
                if following not in seen:
                    layers.setdefault(cost + price, set()).add(following)
        if cost not in layers:
            cost += 1
    return best


def _closed(states: set[tuple[int, int]], seen: set[tuple[int, int]]) -> list[tuple[int, int]]:
    fresh = [state for state in states if state not in seen]
    seen.update(fresh)
    return fresh


def _moves(
    work: Work, held: int, done: int, there: int, read_back: bool
) -> list[tuple[int, tuple[int, int]]]:
    """Bring a word that is still needed, in place of another if there is no room."""
    wanted, begun = _wanted_and_begun(work, done)
    found: list[tuple[int, tuple[int, int]]] = []
    full = there.bit_count() == held
    useless = there & ~wanted  # its store, if it is an output, has to be paid in any case
    leaving = useless & -useless or there
    victims = [1 << n for n in range(work.words) if leaving >> n & 1] if full else [0]
    for number in range(work.words):
        word = 1 << number
        if there & word or not wanted & word:
            continue
        price = 1 if word & work.inputs else int(read_back and bool(begun & word))
        for victim in victims:
            store = int(bool(victim & ~work.inputs & begun))
            after = there & ~victim | word
            found.append((price + store, (_work_off(work, done, after), after)))
    return found


@lru_cache(maxsize=1 << 16)
def _wanted_and_begun(work: Work, done: int) -> tuple[int, int]:
    wanted = begun = 0
    for number, needs in enumerate(work.needs):
        if done >> number & 1:
            begun |= needs
        else:
            wanted |= needs
    return wanted, begun


def _work_off(work: Work, done: int, there: int) -> int:
    """Do what can be done: it costs nothing and is never in the way."""
    for number, needs in enumerate(work.needs):
        if needs & there == needs:
            done |= 1 << number
    return done


def least_words_touched(work: Work) -> list[int]:
    """By number of multiply-accumulates: the fewest words that so many of them touch."""
    count = len(work.needs)
    touched = np.zeros(1 << count, np.int64)
    size = np.zeros(1 << count, np.int8)
    for number, needs in enumerate(work.needs):
        half = 1 << number
        touched[half : 2 * half] = touched[:half] | needs
        size[half : 2 * half] = size[:half] + 1
    words = np.bitwise_count(touched)
    return [int(words[size == n].min()) for n in range(count + 1)]
