"""What every witness returns: exact words and steps.

Owns: the nouns `Tally`, `Group`, `Counts`. Counts are Python integers and never overflow.

Non-goals: how they are found (`walk`, `exact`, `timeloop`) and what they cost (`cost`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields


@dataclass(frozen=True, slots=True)
class Tally:
    """Words of one operand that one level moved, in words (`spec/model.md §1`).

    Attributes:
        reads: handed inwards, to the next memory or to a MAC.
        fills: entered from the parent.
        updates: words of output received from inside.
        drains: words of output sent outwards.
        finished_updates: those of the updates that are finished results, not partial sums.
        finished_drains: those of the drains.
    """

    reads: int = 0
    fills: int = 0
    updates: int = 0
    drains: int = 0
    finished_updates: int = 0
    finished_drains: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.reads + other.reads,
            self.fills + other.fills,
            self.updates + other.updates,
            self.drains + other.drains,
            self.finished_updates + other.finished_updates,
            self.finished_drains + other.finished_drains,
        )

    def __mul__(self, times: int) -> "Tally":
        return Tally(
            self.reads * times,
            self.fills * times,
            self.updates * times,
            self.drains * times,
            self.finished_updates * times,
            self.finished_drains * times,
        )


TALLY_FIELDS = tuple(item.name for item in fields(Tally))


@dataclass(frozen=True, slots=True)
class Group:
    """Instances of a level that all move the same: how many, and what each moves, by operand."""

    instances: int
    tallies: dict[str, Tally]


@dataclass(frozen=True, slots=True)
class Counts:
    """All words that a mapping moves.

    Attributes:
        macs: iterations, those on padding included.
        steps: temporal steps that exist; the compute cycles.
        tile_words: the largest tile of one instance, by (memory, operand).
        ramp_words: for an input, the first tile of the first instance; for the output, its last.
        groups: the used instances of every memory, grouped by what they move.
        hop_words: words times receivers (or senders) across the fan-out below a memory, by
            (memory, operand); only for fan-outs whose hops cost energy. Timeloop counts words times
            hops on the mesh, which may be halves.
    """

    macs: int
    steps: int
    tile_words: dict[tuple[str, str], int]
    ramp_words: dict[tuple[str, str], int]
    groups: dict[str, tuple[Group, ...]]
    hop_words: Mapping[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])

    def __getitem__(self, key: tuple[str, str]) -> Tally:
        """The total over all instances (F16), for a (memory, operand) that keeps it.

        Raises `KeyError` if the memory does not keep the operand.
        """
        memory, operand = key
        if key not in self.tile_words:
            raise KeyError(key)
        return total(
            group.tallies[operand] * group.instances
            for group in self.groups[memory]
            if operand in group.tallies
        )

    def kept(self) -> tuple[tuple[str, str], ...]:
        """Every (memory, operand) that has a block, outermost memory first."""
        return tuple(self.tile_words)


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of tallies."""
    return sum(tallies, Tally())
