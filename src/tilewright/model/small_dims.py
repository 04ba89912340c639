"""The words that schedules move at least, from the words that phases of equal work touch.

Owns: the bound of `docs/small-dims-limit.md`, where every step is proved; the numbers in brackets
are its formulas.

Non-goals: workloads, chips: who has these goes to `model/limit.py`. What a phase touches:
`model/touched_words.py`, which needs NumPy and is loaded when it is first asked.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

_RATIO = 1.12
"""From one number of phases to the next, among those that are tried."""

_SLACK = 1e-9
"""Relative; more than the rounding of all floating-point steps together."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a workload the bound depends on; operands in the order X, W, Y.

    X is the operand that slides, W holds the taps, Y is the third. Without sliding any order does.

    Attributes:
        taps: of each axis, those that share a word of X; R is their product.
        compulsory: words touched by all MACs.
        group_words: of those the most that belong to one index of the dims of all three operands.
        macs_per_word: the most MACs that one word takes part in.
        pixels: X, Y: the most words with the same channel.
    """

    taps: tuple[int, ...]
    compulsory: tuple[int, int, int]
    group_words: tuple[int, int, int]
    macs_per_word: tuple[int, int, int]
    pixels: tuple[int, int]


def phase_bound(shape: Shape, macs: int, held: int) -> int:
    """The least words to and from DRAM of any schedule (2), (F34) of `docs/model-formulas.md`.

    Args:
        shape: of the workload.
        macs: whose operands are no padding.
        held: words that fit on the chip.

    >>> product = Shape((), (4096,) * 3, (4096,) * 3, (64,) * 3, (64, 64))
    >>> phase_bound(product, 64**3, held=256), 2 * 64**3 // 16 + 256
    (33001, 33024)
    """
    phases, touched = _profile(shape, macs)
    pairs = zip(phases, touched, strict=True)
    return max((n * words - (n - 1) * held for n, words in pairs), default=0)


@lru_cache(maxsize=512)
def _profile(shape: Shape, macs: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Numbers of phases, and the least whole words that a phase touches if all are as long."""
    if macs < 1:
        return (), ()
    from tilewright.model.touched_words import least_touched

    phases = _phase_counts(macs)
    touched = least_touched(shape, [macs // n for n in phases]).tolist()
    return phases, tuple(math.ceil(words * (1 - _SLACK)) for words in touched)


def _phase_counts(macs: int) -> tuple[int, ...]:
    """From 1 to the MACs, whatever the chip holds: so the bound never rises with what it holds."""
    steps = math.ceil(math.log(macs) / math.log(_RATIO)) + 1
    counts = {min(macs, math.floor(_RATIO**step)) for step in range(steps)}
    return tuple(sorted(counts | {n for n in range(2, 17) if n <= macs}))
