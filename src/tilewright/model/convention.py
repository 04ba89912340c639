"""Conventions: named sets of the rules by which words are counted (`spec/model.md §5`).

Owns: the table of conventions. Non-goals: carrying the rules out; each witness does, for itself.
"""

from dataclasses import dataclass
from enum import Enum

from tilewright.errors import InputError, Problem, did_you_mean


class Reuse(Enum):
    """What is filled at a step that moved a tile."""

    SLIDING = "sliding"
    DELTA = "delta"
    REFETCH = "refetch"
    TIMELOOP = "timeloop"


class Footprint(Enum):
    """Which words a tile has: those that are touched, or the whole box around them."""

    WORDS = "words"
    BOX = "box"


@dataclass(frozen=True, slots=True)
class Convention:
    """A named set of counting rules.

    Attributes:
        name: what results call it.
        reuse: what is filled when a tile moves.
        footprint: which words a tile has; a box holds the padding, too.
        elides_first_read: an output word that was never updated is not read from the parent.
        charges_drains: a drain costs energy and port time like a read.
    """

    name: str
    reuse: Reuse = Reuse.SLIDING
    footprint: Footprint = Footprint.WORDS
    elides_first_read: bool = True
    charges_drains: bool = True


DEFAULT = Convention("default")
CONVENTIONS = {
    convention.name: convention
    for convention in (
        DEFAULT,
        Convention("ideal", reuse=Reuse.DELTA),
        Convention("blocking2016", Reuse.REFETCH, Footprint.BOX, elides_first_read=False),
        Convention("peemen2015", Reuse.SLIDING, Footprint.BOX),
        Convention("zhang2015", Reuse.REFETCH, Footprint.BOX),
        Convention("timeloop", Reuse.TIMELOOP, Footprint.BOX, charges_drains=False),
    )
}
"""Every convention, by name."""


def find_convention(convention: str | Convention) -> Convention:
    """The convention of that name. Raises `InputError`, with the nearest name, if there is none.

    >>> find_convention("ideal").reuse
    <Reuse.DELTA: 'delta'>
    """
    if isinstance(convention, Convention):
        return convention
    if convention not in CONVENTIONS:
        fix = did_you_mean(convention, list(CONVENTIONS))
        raise InputError(Problem(f"there is no convention `{convention}`", fix))
    return CONVENTIONS[convention]
