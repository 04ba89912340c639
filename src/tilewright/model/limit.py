"""The physical limit: words that every schedule moves to and from the outermost memory.

Owns: the bound of `spec/model.md §6`, whose proof is `spec/physical-limit.md`; and what of a
workload the tighter bound of `model/small_dims.py` depends on.

Non-goals: what is attainable; that is the mappers' business. Numbers such as (F33) are those of
`docs/model-formulas.md`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tilewright.ir.hardware import Hardware
from tilewright.ir.workload import Operand, Rank, Workload
from tilewright.model.small_dims import Shape, phase_bound
from tilewright.model.tiles import touched


@dataclass(frozen=True, slots=True)
class DramLimit:
    """The least words to and from DRAM.

    Attributes:
        words: the limit; no schedule of any kind moves less.
        compulsory_words: every input, weight and output that is touched, once.
        on_chip_words: what the chip can hold, in words of the narrowest operand; `None` if
            unlimited.
        bound_words: the tighter of the limit and of `docs/small-dims-limit.md`; no schedule of any
            kind moves less than this either.
    """

    words: float
    compulsory_words: int
    on_chip_words: int | None
    bound_words: float


def dram_limit(workload: Workload, hardware: Hardware) -> DramLimit:
    """The physical limit of a workload on a chip.

    Args:
        workload: any; where its shape has no known bound, the compulsory words are the limit.
        hardware: counts by its on-chip capacity alone, however it is organised.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> from tilewright.ir.workload import conv2d
    >>> layer = conv2d("conv1_2", K=64, C=64, P=224, Q=224, R=3, S=3, padding=1)
    >>> chip = Hardware("chip", (Level("DRAM"), Level("SRAM", capacity=128 * 8192)))
    >>> round(dram_limit(layer, chip).words)
    6459392

    Source: `spec/model.md §6`, `docs/small-dims-limit.md`.
    """
    held = _on_chip_words(workload, hardware)
    return limit_for_words(workload, held)


def limit_for_words(workload: Workload, held: int | None) -> DramLimit:
    """The physical limit for a chip that can hold `held` words; unlimited if `None`."""
    compulsory = sum(operand_words(operand, workload) for operand in workload.operands)
    shapes = _shapes(workload)
    if held is None or not shapes:
        return DramLimit(compulsory, compulsory, held, compulsory)
    macs = real_macs(workload)
    overlap = min(math.prod(shape.taps) for shape in shapes)
    words = max(compulsory, _phase_bound(macs, overlap, held))
    tighter = max(phase_bound(shape, macs, held) for shape in shapes)
    return DramLimit(words, compulsory, held, max(words, tighter))


def operand_words(operand: Operand, workload: Workload, *, in_box: bool = False) -> int:
    """The distinct words of an operand that are touched, padding left out (F29).

    With `in_box`, those of the box around all that is touched, padding and all.
    """
    return math.prod(rank_words(rank, workload.sizes, in_box=in_box) for rank in operand.ranks)


def operand_touches(operand: Operand, workload: Workload) -> int:
    """How often iterations touch a word of an operand, padding left out."""
    own = math.prod(real_pairs(rank, workload.sizes) for rank in operand.ranks)
    return own * math.prod(size for dim, size in workload.sizes.items() if dim not in operand.dims)


def real_macs(workload: Workload) -> int:
    """The multiply-accumulates whose operands are no padding (F30)."""
    ranks = [rank for o in workload.operands for rank in o.ranks if rank.data is not None]
    dims = [term.dim for rank in ranks for term in rank.terms]
    if len(set(dims)) < len(dims):
        return 0  # padding of two operands in the same dims: no count is known, and 0 is from below
    macs = workload.macs
    for rank in ranks:
        pairs = math.prod(workload.sizes[term.dim] for term in rank.terms)
        macs = macs // pairs * real_pairs(rank, workload.sizes)
    return macs


def rank_words(rank: Rank, sizes: dict[str, int], *, in_box: bool = False) -> int:
    """The distinct coordinates of a rank that are touched, padding left out; or of its box."""
    coefficients = tuple(term.coefficient for term in rank.terms)
    coordinates = touched(coefficients, tuple(sizes[t.dim] for t in rank.terms), in_box)
    return (coordinates if in_box else coordinates & data_bits(rank)).bit_count()


def data_bits(rank: Rank) -> int:
    """The coordinates of a rank that are no padding, as a bit set."""
    return -1 if rank.data is None else (1 << rank.data[1]) - (1 << rank.data[0])


def real_pairs(rank: Rank, sizes: dict[str, int]) -> int:
    """The iterations of a rank's dims whose coordinate is no padding."""
    longest = max(rank.terms, key=lambda term: sizes[term.dim])
    row = touched((longest.coefficient,), (sizes[longest.dim],), False)
    starts = {0: 1}
    for term in rank.terms:
        if term is not longest:
            moved: dict[int, int] = {}
            for start, times in starts.items():
                for index in range(sizes[term.dim]):
                    key = start + index * term.coefficient
                    moved[key] = moved.get(key, 0) + times
            starts = moved
    data = data_bits(rank)
    return sum(times * (row << start & data).bit_count() for start, times in starts.items())


def _on_chip_words(workload: Workload, hardware: Hardware) -> int | None:
    """What fits on the chip and in flight (F31), in words of the narrowest operand."""
    bits = 0
    for index, level in enumerate(hardware.levels[1:], start=1):
        if level.capacity is None:
            return None
        shares = level.capacity if isinstance(level.capacity, tuple) else (("", level.capacity),)
        bits += hardware.instances(index) * sum(share for _, share in shares)
    widths = [operand.bits for operand in workload.inputs]
    widths.append(max(workload.output.bits, workload.psum_bits))
    in_flight = sum(widths) + max(widths) * (3 - len(widths))
    bits += hardware.mac_units * in_flight
    return bits // min(*widths, workload.output.bits)


def _shapes(workload: Workload) -> tuple[Shape, ...]:
    """What the bounds depend on, for every choice of the operand that holds the filter taps.

    None for workloads to which the lemmas do not apply.
    """
    if len(workload.inputs) != 2:
        return ()
    homes = {dim: {o.name for o in workload.operands if dim in o.dims} for dim in workload.sizes}
    if any(len(names) < 2 for names in homes.values()):
        return ()
    sliding = [o for o in workload.operands if any(len(rank.terms) > 1 for rank in o.ranks)]
    if len(sliding) > 1:
        return ()
    x = sliding[0] if sliding else workload.inputs[0]
    others = [operand for operand in workload.operands if operand != x]
    # Of a transposed convolution, whose output slides, either input may be the filter.
    filters = others if x == workload.output else others[:1]
    found = (_make_shape(x, weights, homes, workload) for weights in filters)
    return tuple(shape for shape in found if shape is not None)


def _make_shape(
    x: Operand, weights: Operand, homes: dict[str, set[str]], workload: Workload
) -> Shape | None:
    """The shape, if in every rank that slides one dim indexes the weights and one does not."""
    windows = [_Window.of(rank, weights, workload) for rank in x.ranks if len(rank.terms) > 1]
    if any(window is None for window in windows):
        return None
    known = [window for window in windows if window is not None]
    y = next(operand for operand in workload.operands if operand not in {x, weights})
    sizes, plain = workload.sizes, {r.terms[0].dim for r in x.ranks if len(r.terms) == 1}
    sliding = {term.dim for rank in x.ranks for term in rank.terms if len(rank.terms) > 1}
    groups = {dim for dim in plain - sliding if len(homes[dim]) == len(workload.operands)}
    loose = math.prod(sizes[dim] for dim in plain if weights.name not in homes[dim])
    taps = tuple(window.taps for window in known)

    def three(count: Callable[[Operand], int]) -> tuple[int, int, int]:
        return count(x), count(weights), count(y)

    by_x, by_w, by_y = three(lambda each: _outside(each, workload))
    return Shape(
        taps,
        compulsory=three(lambda each: operand_words(each, workload)),
        group_words=three(lambda each: _words_of_group(each, groups, workload)),
        macs_per_word=(by_x * math.prod(taps), by_w, by_y),
        pixels=(loose * math.prod(window.pixels for window in known), by_w),
    )


def _outside(operand: Operand, workload: Workload) -> int:
    """The iterations of the dims that do not index an operand."""
    return math.prod(size for dim, size in workload.sizes.items() if dim not in operand.dims)


def _words_of_group(operand: Operand, groups: set[str], workload: Workload) -> int:
    """The most words that share their index in the dims of all operands."""
    ranks = (rank for rank in operand.ranks if groups.isdisjoint(term.dim for term in rank.terms))
    return math.prod(rank_words(rank, workload.sizes) for rank in ranks)


@dataclass(frozen=True, slots=True)
class _Window:
    """A rank over which a filter slides.

    Attributes:
        taps: that share a word.
        pixels: the most coordinates that are reached by taps that share words.
    """

    taps: int
    pixels: int

    @classmethod
    def of(cls, rank: Rank, weights: Operand, workload: Workload) -> "_Window | None":
        """Of a rank with one dim that indexes the weights and one that does not (F32)."""
        taps = [term for term in rank.terms if term.dim in weights.dims]
        windows = [term for term in rank.terms if term.dim not in weights.dims]
        if len(taps) != 1 or len(windows) != 1:
            return None
        (tap,), (window,) = taps, windows
        common = math.gcd(tap.coefficient, window.coefficient)
        shared = -(-workload.sizes[tap.dim] * common // window.coefficient)
        pixels = workload.sizes[window.dim] + (shared - 1) * (tap.coefficient // common)
        if rank.data is not None:
            pixels = min(pixels, -(-(rank.data[1] - rank.data[0]) // window.coefficient))
        return cls(shared, pixels)


def _phase_bound(macs: int, overlap: int, held: int) -> float:
    """The greatest `X·(2V/(F(2M+X)+F(X)) − 2)` over whole X, words of traffic in a phase (F33)."""

    def bound(phase: int) -> float:
        macs_of_phase = math.sqrt(overlap) * (((2 * held + phase) / 3) ** 1.5 + (phase / 3) ** 1.5)
        return phase * (2 * macs / macs_of_phase - 2)

    low, high = 1, max(2, 8 * held)
    while high - low > 2:  # one peak: the bound rises with X, then falls
        third = (high - low) // 3
        if bound(low + third) < bound(high - third):
            low += third
        else:
            high -= third
    return max(bound(phase) for phase in range(low, high + 1))
