"""A workload as the search for least traffic sees it, and the classes of mappings to be tried.

Owns: the checks that `docs/traffic.md` covers a workload; coordinates; order classes.

Non-goals: tile sizes (`mapper/traffic_options.py`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations

from tilewright.errors import InputError, Problem
from tilewright.ir.workload import Operand, Rank, Workload
from tilewright.mapper.traffic_ranks import RankShape, rank_tables
from tilewright.model.limit import operand_words

_LONGEST_RANK = 4_000_000
NOBODY = -1
"""The number of no operand."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A coordinate of the search: a dim on its own, or the two dims of a rank that slides.

    Attributes:
        dims: one or two; a rank of one dim with padding has one.
        shape: of the rank; `None` for a dim that only counts tiles.
    """

    dims: tuple[str, ...]
    shape: RankShape | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """A workload as the search sees it. Operands are numbers, the sliding one is `sliding`.

    Attributes:
        workload: as given.
        sizes: of the dims above 1.
        stranger: by dim, the operand that it does not index; `NOBODY` if it indexes all.
        axes: the coordinates.
        sliding: the operand whose tiles may overlap; the first if none does.
        base_words: by operand, its words without the ranks that are axes of their own.
    """

    workload: Workload
    sizes: dict[str, int]
    stranger: dict[str, int]
    axes: tuple[Axis, ...]
    sliding: int
    base_words: tuple[int, ...]

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The operands, in the order of their numbers."""
        return self.workload.operands

    def indexes(self, operand: int, dim: str) -> bool:
        """Whether a dim indexes an operand; all dims index the one that is not there."""
        return self.stranger[dim] != operand


def make_subject(workload: Workload) -> Subject:
    """See a workload as the search does.

    Raises: `InputError` if it is none that `docs/traffic.md` covers.
    """
    sizes = {dim: size for dim, size in workload.sizes.items() if size > 1}
    problems = list(_uncovered(workload, sizes))
    if problems:
        raise InputError(problems)
    operands = workload.operands
    uneasy = [i for i, o in enumerate(operands) if any(_is_uneasy(r, sizes) for r in o.ranks)]
    sliding = uneasy[0] if uneasy else 0
    stranger = {
        dim: next((i for i, o in enumerate(operands) if dim not in o.dims), NOBODY) for dim in sizes
    }
    ranks = [rank for rank in operands[sliding].ranks if _is_uneasy(rank, sizes)]
    axes = [_rank_axis(rank, sizes) for rank in ranks]
    taken = {dim for axis in axes for dim in axis.dims}
    axes += [Axis((dim,)) for dim in sizes if dim not in taken]
    words = [operand_words(operand, workload) for operand in operands]
    plain = replace(
        operands[sliding], ranks=tuple(r for r in operands[sliding].ranks if r not in ranks)
    )
    words[sliding] = operand_words(plain, workload)
    return Subject(workload, sizes, stranger, tuple(axes), sliding, tuple(words))


def _is_uneasy(rank: Rank, sizes: dict[str, int]) -> bool:
    """Whether a rank's tiles may overlap, or may reach into padding."""
    dims = [term.dim for term in rank.terms if term.dim in sizes]
    return len(dims) > 1 or (bool(dims) and rank.data is not None)


def _rank_axis(rank: Rank, sizes: dict[str, int]) -> Axis:
    terms = [term for term in rank.terms if term.dim in sizes]
    dims = tuple(term.dim for term in terms)
    lengths = [*(sizes[dim] for dim in dims), 1][:2]
    steps = [*(term.coefficient for term in terms), 1][:2]
    reach = 1 + sum(step * (length - 1) for step, length in zip(steps, lengths, strict=True))
    low, high = rank.data or (0, reach)
    shape = RankShape((lengths[0], lengths[1]), (steps[0], steps[1]), low, high)
    return Axis(dims, shape)


def _uncovered(workload: Workload, sizes: dict[str, int]) -> Iterator[Problem]:
    name, operands = workload.name, workload.operands
    fix = "search a mapping with `tilewright map` instead"
    if len(operands) > 3:
        what = f"{len(operands)} operands: least traffic is proved for 2 or 3"
        yield Problem(what, fix, name)
    for dim in sizes:
        absent = [operand.name for operand in operands if dim not in operand.dims]
        if len(absent) > 1:
            what = f"{dim} indexes neither {' nor '.join(absent)}: at most one may be left out"
            yield Problem(what, fix, name)
    uneasy = [o for o in operands if any(_is_uneasy(rank, sizes) for rank in o.ranks)]
    if len(uneasy) > 1 or workload.output in uneasy:
        names = " and ".join(operand.name for operand in uneasy)
        what = f"tiles of {names} slide: only one operand's may, and it must be an input"
        yield Problem(what, fix, name)
    for operand in uneasy:
        for rank in operand.ranks:
            lengths = [sizes[term.dim] for term in rank.terms if term.dim in sizes]
            if len(lengths) > 2:
                what = f"rank {rank} of {operand.name} sums {len(lengths)} dims: 2 are covered"
                yield Problem(what, fix, name)
            elif len(lengths) == 2 and math.prod(lengths) ** 2 > _LONGEST_RANK * 100:
                what = f"rank {rank} of {operand.name} has {math.prod(lengths):,} pairs of indices"
                yield Problem(f"{what}: 20,000 are covered", fix, name)


@dataclass(frozen=True, slots=True)
class OrderClass:
    """Mappings that differ in tile sizes only.

    Attributes:
        order: operands by the place of their block, outermost first.
        kept: the operands that have a block; they stand first in the order.
        even: whether they share one place.
        free: (operand, dim) whose tiles are not counted again, being in the innermost run.
        slides: which dims the innermost loop may be of that moves the sliding operand; `None` all.
        sweeps: (outer, inner) dim that sweep; `None` for any, if the class is not even.
    """

    order: tuple[int, ...]
    kept: frozenset[int]
    even: bool
    free: frozenset[tuple[int, str]] = frozenset()
    slides: frozenset[str] | None = None
    sweeps: tuple[str, str] | None = None


def order_classes(subject: Subject, *, uneven: bool) -> Iterator[OrderClass]:
    """The classes that need to be tried, those that keep more operands first."""
    numbers = range(len(subject.operands))
    for count in range(len(numbers), 0, -1):
        for order in permutations(numbers, count):
            rest = tuple(i for i in range(3) if i not in order)
            kept = frozenset(order)
            if uneven:
                yield OrderClass((*order, *rest), kept, even=False)
            elif order == tuple(sorted(order)):
                yield from _even_classes(subject, (*order, *rest), kept)


def _even_classes(
    subject: Subject, order: tuple[int, ...], kept: frozenset[int]
) -> Iterator[OrderClass]:
    """Which operand stays while the innermost loops run, and what slides meanwhile."""
    dims = set(subject.sizes)
    sliding = subject.sliding
    foreign = {i: frozenset(d for d in dims if subject.stranger[d] == i) for i in range(3)}
    for stays in (*sorted(kept), NOBODY):
        own = foreign.get(stays, frozenset(d for d in dims if subject.stranger[d] == NOBODY))
        free = frozenset((stays, dim) for dim in own)
        slides = frozenset(dims - own) if stays == sliding else own
        yield OrderClass(order, kept, True, free, slides)
    for axis in subject.axes:
        for outer, inner in permutations(axis.dims, 2):
            stays = subject.stranger[inner]
            run = foreign.get(stays, frozenset()) if subject.stranger[outer] == stays else {inner}
            free = frozenset((stays, dim) for dim in run)
            yield OrderClass(order, kept, True, free, frozenset(), (outer, inner))
            still = frozenset((sliding, dim) for dim in foreign[sliding])
            yield OrderClass(order, kept, True, still, frozenset(), (outer, inner))


def bypassed_words(subject: Subject, operand: int) -> int:
    """Words that an operand moves one way if it is not kept: one at every MAC, padding left out."""
    words = 1
    for axis in subject.axes:
        if axis.shape is not None and operand == subject.sliding:
            words *= int(rank_tables(axis.shape, False).visits[1, 1])
        else:
            words *= math.prod(subject.sizes[dim] for dim in axis.dims)
    return words
