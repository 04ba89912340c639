"""Amounts as people write them: `108KiB`, `448B`, `55296 words`; `1.20 µJ`.

Owns: reading and printing capacities, printing energies. Memory is kept in bits, the one unit
that every word size divides.
"""

import re
from fractions import Fraction

BITS_PER_UNIT = {"B": 8, "KiB": 8 * 2**10, "MiB": 8 * 2**20, "GiB": 8 * 2**30}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")
EXPECTED = "a capacity such as 108KiB, 448B, 1MiB or `55296 words`"


def parse_capacity(text: str, word_bits: int) -> int:
    """Read a capacity and return it in bits.

    `word_bits` is the size of a word of the level that the capacity belongs to, in bits. Raises
    `ValueError`, with what was expected, if the text is no capacity or not a whole number of bits.

    >>> parse_capacity("2KiB", word_bits=16)
    16384
    >>> parse_capacity("55296 words", word_bits=16) // 8
    110592

    Source: `spec/formats.md`, Hardware.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"expected {EXPECTED}")
    number, unit = match.groups()
    unit_bits = word_bits if unit in ("words", "word") else BITS_PER_UNIT.get(unit)
    if unit_bits is None:
        raise ValueError(f"unknown unit `{unit}`: use B, KiB, MiB, GiB or words")
    bits = Fraction(number) * unit_bits
    if bits.denominator != 1:
        raise ValueError(f"{text.strip()} is not a whole number of bits")
    return int(bits)


def format_bytes(bits: int) -> str:
    """Print an amount of memory in the largest unit that keeps it short.

    >>> format_bytes(108 * 1024 * 8), format_bytes(448 * 8), format_bytes(12)
    ('108 KiB', '448 B', '12 bits')
    """
    if bits % 8:
        return f"{bits:,} bits"
    for unit in ("GiB", "MiB", "KiB"):
        if bits >= BITS_PER_UNIT[unit]:
            return f"{round(bits / BITS_PER_UNIT[unit], 2):g} {unit}"
    return f"{bits // 8} B"


def format_energy(pj: float) -> str:
    """Print an energy, given in pJ, in the unit that keeps it short.

    >>> format_energy(1.2e6), format_energy(3)
    ('1.20 µJ', '3.00 pJ')
    """
    for unit, scale in (("J", 1e12), ("mJ", 1e9), ("µJ", 1e6), ("nJ", 1e3)):
        if pj >= scale:
            return f"{pj / scale:,.2f} {unit}"
    return f"{pj:,.2f} pJ"
