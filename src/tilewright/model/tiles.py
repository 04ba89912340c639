"""How the tiles of a dim follow one another, and how many words two tiles share.

Owns: the arithmetic under the closed form. A dim of size `room` is cut into tiles by its loops;
the bases of the tiles are the values of a mixed-radix number, so the tiles that exist are a prefix
in the order of the loops. That is why nothing here runs through steps: almost all tiles follow one
another in the same way and are counted at once; the few at the ends are looked at one by one.

Non-goals: which steps matter, and for whom (`model/exact.py`). Numbers such as (F2) are those of
`docs/model-formulas.md`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

Digit = tuple[int, int]
"""A loop as a digit of a tile's base: (extent, step)."""

Entry = tuple[int, int, int, int]
"""A tile and the one before it: (first index before, length before, first index, length)."""

UNBOUNDED = (-(10**30), 10**30)


@dataclass(frozen=True, slots=True)
class Row:
    """Tiles that instances hold at the same step, one entry per instance of a group.

    `None` stands for an instance with no iteration there. `count` rows are alike. Indices are
    relative to the row's own base unless `absolute`.
    """

    count: int
    entries: tuple[Entry | None, ...]
    absolute: bool


class Line:
    """A dim, as seen from the place where instances meet.

    Attributes:
        origin: the index at which the place's share of the dim begins.
        room: how many indices there are from `origin` to the end of the dim.
        span: the length of a full tile.
        temporal: (position in the nest, extent, step) of its temporal loops outside the tile.
        apart: its spatial loops whose instances are counted one by one.
        together: its spatial loops whose instances are served at once if their tiles are equal.
    """

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        origin: int,
        room: int,
        span: int,
        temporal: tuple[tuple[int, int, int], ...],
        apart: tuple[Digit, ...],
        together: tuple[Digit, ...],
    ) -> None:
        self.origin, self.room, self.span = origin, room, span
        self.temporal, self.apart, self.together = temporal, apart, together
        self.is_whole = not (temporal or apart)
        """Whether the one tile that meets here spans all that the dim's loops reach."""
        reach = span
        for _, extent, step in temporal:
            reach += (extent - 1) * step
        for extent, step in (*apart, *together):
            reach += (extent - 1) * step
        self.is_even = reach <= room
        """Whether all tiles exist in full length."""
        self._rows: dict[tuple[int, tuple[int, int], bool, bool], list[Row]] = {}

    def covered(self) -> int:
        """The indices in all tiles, of all instances (F2)."""
        if self.is_even:
            words = self.span
            for _, extent, _ in self.temporal:
                words *= extent
            for extent, _ in (*self.apart, *self.together):
                words *= extent
            return words
        digits = self.digits(len(self.temporal), stepping=False, spread=True)
        full = count_up_to(digits, self.room - self.span)
        last = count_up_to(digits, self.room - 1)
        rest = sum(self.room - nth(digits, rank) for rank in range(full, last))
        return full * self.span + rest

    def outside(self, position: int) -> int:
        """How many of its temporal loops stand outside a position of the nest."""
        count = 0
        for place, _, _ in self.temporal:
            count += place < position
        return count

    def moves_always(self, outer: int, *, stepping: bool) -> bool:
        """Whether no tile is where the one before was, at the steps of a loop; see `rows`."""
        return stepping or (self.is_even and outer < len(self.temporal))

    def digits(self, outer: int, *, stepping: bool, spread: bool) -> list[Digit]:
        """The digits that vary from row to row, most significant first.

        They are the first `outer` temporal loops, the next one without its first step if
        `stepping`, the loops `apart`, and those `together` too if `spread`.
        """
        loops = [(extent, step) for _, extent, step in self.temporal[:outer]]
        if stepping:
            _, extent, step = self.temporal[outer]
            loops.append((extent - 1, step))
        loops += self.apart
        loops += self.together if spread else ()
        if len(loops) > 1:
            loops.sort(key=_significance)
        return loops

    def combinations(self, outer: int, *, stepping: bool) -> int:
        """How many rows exist; instances `together` count as one."""
        digits = self.digits(outer, stepping=stepping, spread=False)
        if self.is_even:
            return _product(digits)
        shift = self.temporal[outer][2] if stepping else 0
        return count_up_to(digits, self.room - 1 - shift)

    def rows(
        self, outer: int, window: tuple[int, int], *, stepping: bool, grouped: bool
    ) -> list[Row]:
        """All rows of tiles at the steps that a loop takes; each moves by its part of (F4).

        Args:
            outer: how many of the dim's temporal loops stand outside the loop that steps.
            window: indices between which a tile touches no padding, whatever the other dims do;
                `UNBOUNDED` where there is none.
            stepping: whether the loop is of this dim; else the dim's inner loops rewind.
            grouped: whether the instances `together` form the entries of one row.
        """
        key = (outer, window, stepping, grouped)
        if key not in self._rows:
            self._rows[key] = self._make_rows(outer, window, stepping=stepping, grouped=grouped)
        return self._rows[key]

    def _make_rows(
        self, outer: int, window: tuple[int, int], *, stepping: bool, grouped: bool
    ) -> list[Row]:
        inner = [(extent, step) for _, extent, step in self.temporal[outer + stepping :]]
        swing = sum((extent - 1) * step for extent, step in inner)
        shift = self.temporal[outer][2] if stepping else 0
        back = shift - swing if stepping else -swing
        members = offsets(self.together) if grouped else (0,)
        digits = self.digits(outer, stepping=stepping, spread=not grouped)
        alike = tuple((m - back, self.span, m, self.span) for m in members)
        if self.is_even and window == UNBOUNDED:
            return [Row(_product(digits), alike, absolute=False)]

        reach = members[-1]
        lowest, highest = window[0] - self.origin, window[1] - self.origin
        ahead = self.span + reach + (0 if stepping else swing)
        last_full = min(self.room - ahead, highest - self.span - reach - max(0, -back)) - shift
        first_full = lowest + max(0, back) - shift
        stop = count_up_to(digits, last_full)
        start = min(stop, count_up_to(digits, first_full - 1))
        end = count_up_to(digits, self.room - 1 - shift)

        rows: dict[tuple[Entry | None, ...], int] = {}
        if stop > start:
            rows[alike] = stop - start
        absolute = window != UNBOUNDED
        edges: dict[tuple[Entry | None, ...], int] = {} if absolute else rows
        for rank in (*range(start), *range(stop, end)):
            base = nth(digits, rank) + shift
            origin = self.origin + base if absolute else 0
            row = tuple(self._entry(base, m, back, inner, origin, stepping) for m in members)
            edges[row] = edges.get(row, 0) + 1
        found = [Row(count, entries, absolute=False) for entries, count in rows.items()]
        if absolute:
            found += [Row(count, entries, absolute=True) for entries, count in edges.items()]
        return found

    def _entry(  # noqa: PLR0913, PLR0917
        self, base: int, member: int, back: int, inner: list[Digit], origin: int, stepping: bool
    ) -> Entry | None:
        """The entry of one instance at a row that is not like most; `origin` is where 0 is."""
        first = base + member
        if first >= self.room:
            return None
        before = first - back if stepping else first + greatest(inner, self.room - 1 - first)
        return (
            before - base + origin,
            min(self.span, self.room - before),
            member + origin,
            min(self.span, self.room - first),
        )


def _product(digits: Sequence[Digit]) -> int:
    product_of_extents = 1
    for extent, _ in digits:
        product_of_extents *= extent
    return product_of_extents


def _significance(digit: Digit) -> int:
    return -digit[1]


def offsets(digits: Sequence[Digit]) -> tuple[int, ...]:
    """All values of a mixed-radix number, in order."""
    values = (
        sum(index * step for index, (_, step) in zip(indices, digits, strict=True))
        for indices in product(*(range(extent) for extent, _ in digits))
    )
    return tuple(sorted(values))


def count_up_to(digits: Sequence[Digit], limit: int) -> int:
    """How many values of a mixed-radix number are at most `limit`.

    >>> count_up_to([(3, 10), (4, 2)], 13)
    6
    """
    if limit < 0:
        return 0
    below = _product(digits)
    found = 0
    for extent, step in digits:
        if extent == 0:
            return 0
        below //= extent
        index = limit // step
        if index >= extent:
            return found + extent * below
        found += index * below
        limit -= index * step
    return found + 1


def nth(digits: Sequence[Digit], rank: int) -> int:
    """The value with `rank` smaller ones.

    >>> nth([(3, 10), (4, 2)], 5)
    12
    """
    value = 0
    for extent, step in reversed(digits):
        rank, index = divmod(rank, extent)
        value += index * step
    return value


def greatest(digits: Sequence[Digit], limit: int) -> int:
    """The greatest value that is at most `limit`, which is not negative."""
    value = 0
    for extent, step in digits:
        value += min(extent - 1, (limit - value) // step) * step
    return value


@lru_cache(maxsize=1 << 14)
def touched(coefficients: tuple[int, ...], lengths: tuple[int, ...], in_box: bool) -> int:
    """The coordinates `Σ coefficient · index`, each index below its length, as a bit set (F3)."""
    if in_box:
        pairs = zip(coefficients, lengths, strict=True)
        return (1 << (1 + sum(c * (length - 1) for c, length in pairs))) - 1
    bits = 1
    for coefficient, length in zip(coefficients, lengths, strict=True):
        bits = _repeat(bits, coefficient, length)
    return bits


def _repeat(bits: int, step: int, times: int) -> int:
    """The union of `times` copies, each `step` further."""
    if times == 1:
        return bits
    half = _repeat(bits, step, times // 2)
    double = half | half << step * (times // 2)
    return double | bits << step * (times - 1) if times % 2 else double


@lru_cache(maxsize=1 << 16)
def overlap(
    coefficients: tuple[int, ...],
    before: tuple[int, ...],
    now: tuple[int, ...],
    move: int,
    in_box: bool,
) -> tuple[int, int, bool]:
    """A tile of a rank and the one before it: words now, shared (F5), whether they are equal.

    Args:
        coefficients: of the rank's dims.
        before: lengths of the tile before, by dim.
        now: lengths of the tile.
        move: by how many coordinates its first lies after the first before.
        in_box: whether a tile has all coordinates between its first and its last.
    """
    new, old = touched(coefficients, now, in_box), touched(coefficients, before, in_box)
    shared = new & (old >> move if move >= 0 else old << -move)
    return new.bit_count(), shared.bit_count(), move == 0 and new == old


def all_tiles(digits: Sequence[Digit], span: int, room: int) -> Iterator[tuple[int, int]]:
    """Every tile that exists, as (first index, length)."""
    for base in offsets(digits):
        if base < room:
            yield base, min(span, room - base)
