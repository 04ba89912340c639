"""What an access costs and what a part takes, in one process or by one table.

Owns: the noun `Technology`, which answers for energies and areas from capacities and widths.

Non-goals: the tables themselves (`tech/tables.py`); which levels ask (`tech/apply.py`).
"""

from dataclasses import dataclass
from enum import Enum

from tilewright.tech.curve import Curve, PowerLaw

AS_RECALLED = " (as recalled)"


class Quantity(Enum):
    """What a table may know."""

    MEMORY_ENERGY = "energy of a memory access"
    MEMORY_AREA = "area of a memory"
    MAC_ENERGY = "energy of a MAC"
    MAC_AREA = "area of a MAC unit"


@dataclass(frozen=True, slots=True)
class Mac:
    """A quantity of a multiply-accumulate: that of the multiplier and that of the adder.

    The adder is as wide as the product, twice the width of the operands.
    """

    multiplier: PowerLaw
    adder: PowerLaw

    def at(self, bits: int) -> float:
        """Its value for operands of `bits` bits."""
        return self.multiplier.at(bits) + self.adder.at(2 * bits)

    def times(self, factor: float) -> "Mac":
        """The same, everywhere `factor` times as large."""
        return Mac(self.multiplier.times(factor), self.adder.times(factor))


@dataclass(frozen=True, slots=True)
class Technology:
    """A table of energies and areas.

    A read and a write of a memory cost the same in every table. Energies are proportional to the
    bits moved, so that a word of 8 bits costs half of one of 16.

    Attributes:
        name: what a hardware file calls it.
        title: one line about it.
        source: where its numbers come from, what is fitted, and how well.
        node_nm: the process, in nm; `None` if the source names none.
        dram_pj_per_bit: energy of a bit to or from memory off the chip.
        access: energy per bit of an access, in pJ, against capacity in bits, by width of the
            access in bits; between widths both axes are logarithmic, outside the nearest counts.
        largest_bits: a larger memory is taken to be off the chip; `None` for no such limit.
        memory_area: of a memory, in mm², against capacity in bits; `None` if not known.
        mac_energy: in pJ; `None` if not known.
        mac_area: of a unit, in µm²; `None` if not known.
        hop_pj_per_bit: energy of a bit over one hop of a network; `None` if not known.
        recalled: what was written down from memory and not checked against its source.
    """

    name: str
    title: str
    source: str
    node_nm: int | None
    dram_pj_per_bit: float
    access: tuple[tuple[int, Curve], ...]
    largest_bits: int | None = None
    memory_area: Curve | None = None
    mac_energy: Mac | None = None
    mac_area: Mac | None = None
    hop_pj_per_bit: float | None = None
    recalled: frozenset[Quantity] = frozenset()

    @property
    def as_recalled(self) -> bool:
        """Whether any of it was written down from memory."""
        return bool(self.recalled)

    def label(self, quantity: Quantity) -> str:
        """How results name this table as the source of a quantity."""
        return self.name + (AS_RECALLED if quantity in self.recalled else "")

    def access_pj(self, capacity_bits: int | None, word_bits: int) -> float:
        """Energy of one read or one write of a word, in pJ.

        Args:
            capacity_bits: of the memory; `None` is unlimited, memory off the chip.
            word_bits: of the word.

        A memory on the chip never costs more than one off the chip.

        >>> from tilewright.tech import find_technology
        >>> find_technology("yang2016").access_pj(8 * 1024 * 8, word_bits=16)
        3.19
        """
        off_chip = self.largest_bits is not None and (capacity_bits or 0) > self.largest_bits
        if capacity_bits is None or off_chip:
            return word_bits * self.dram_pj_per_bit
        widths = tuple((float(width), curve.at(capacity_bits)) for width, curve in self.access)
        per_bit = Curve(widths, below=0.0, above=0.0).at(word_bits)
        return word_bits * min(per_bit, self.dram_pj_per_bit)

    def memory_mm2(self, capacity_bits: int | None) -> float | None:
        """Area of a memory instance, in mm²; `None` off the chip, or if the table knows none."""
        if self.memory_area is None or capacity_bits is None:
            return None
        return self.memory_area.at(capacity_bits)

    def mac_pj(self, bits: int) -> float | None:
        """Energy of a multiply-accumulate of integers of `bits` bits, in pJ; `None` if not known.

        >>> from tilewright.tech import find_technology
        >>> round(find_technology("fitted45").mac_pj(8), 3)
        0.255
        """
        return None if self.mac_energy is None else self.mac_energy.at(bits)

    def mac_mm2(self, bits: int) -> float | None:
        """Area of a unit that multiplies and accumulates, in mm²; `None` if not known."""
        return None if self.mac_area is None else self.mac_area.at(bits) * 1e-6

    def hop_pj(self, word_bits: int) -> float | None:
        """Energy of a word over one hop of a network, in pJ; `None` if not known."""
        return None if self.hop_pj_per_bit is None else self.hop_pj_per_bit * word_bits
