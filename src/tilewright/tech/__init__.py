"""Energies and areas where a chip's description gives none: tables, their sources, their use.

Owns: `Technology`, the tables that come with the package, and `apply_technology`.

Non-goals: what accesses add up to (`model/cost.py`).
"""

from tilewright.tech.apply import Provenance, apply_technology
from tilewright.tech.tables import find_technology, technology_names
from tilewright.tech.technology import Quantity, Technology

__all__ = [
    "Provenance",
    "Quantity",
    "Technology",
    "apply_technology",
    "find_technology",
    "technology_names",
]
