"""Filling in what a chip's description leaves out, and saying where everything came from.

Owns: which number wins (a given one, then the technology's, then 0 pJ and no area), and the noun
`Provenance`.

Non-goals: the numbers (`tech/tables.py`). Hops and leakage are 0 unless given
(`spec/model.md §4`): a table's hop energy is there to be read, not filled in.
"""

from dataclasses import dataclass, replace

from tilewright.errors import InputError, Problem, Span
from tilewright.ir.hardware import Compute, Hardware, Level
from tilewright.tech.tables import find_technology
from tilewright.tech.technology import Quantity, Technology

GIVEN, NONE = "given", "none"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the numbers of one part of a chip come from.

    Attributes:
        energy: `given`, a table's name, `none` (0 pJ), or each kind of access with its own.
        area: `given`, a table's name, or `none` (not known).
    """

    energy: str
    area: str

    def to_json(self) -> dict[str, object]:
        """The provenance as a JSON object."""
        return {"energy": self.energy, "area": self.area}


def apply_technology(hardware: Hardware) -> tuple[Hardware, dict[str, Provenance]]:
    """Fill in the energies and areas that a chip's description does not give.

    A given number always wins. What has neither a number nor a technology costs 0 pJ and has no
    area. A partitioned memory is one array per operand: its area is that of all of them, and its
    accesses cost what those of the largest cost, for a level has one energy.

    Args:
        hardware: the chip; `technology` of a level or of the compute unit names a table.

    Returns: the chip with every energy given, and where energy and area of every memory and of
    the compute unit come from, by name.

    Raises:
        InputError: a technology that there is no table of, with its place and the nearest name.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> chip = Hardware(
    ...     "toy", (Level("DRAM", read_pj=200), Level("GLB", 8192, technology="yang2016"))
    ... )
    >>> priced, origins = apply_technology(chip)
    >>> priced.levels[1].read_pj, origins["GLB"].energy, origins["DRAM"].energy
    (1.2, 'yang2016 (as recalled)', 'read given, write none')

    Source: `spec/formats.md`, Hardware; `spec/model.md §4`.
    """
    tables = _find_tables(hardware)
    levels = tuple(_fill_level(level, tables.get(level.technology)) for level in hardware.levels)
    compute = hardware.compute
    origins = {
        level.memory: _level_origin(level, tables.get(level.technology))
        for level in hardware.levels
    }
    unit = compute.name if compute.name not in origins else f"{compute.name} (compute)"
    origins[unit] = _compute_origin(compute, tables.get(compute.technology))
    units = _fill_compute(compute, tables.get(compute.technology))
    return replace(hardware, levels=levels, compute=units), origins


def _find_tables(hardware: Hardware) -> dict[str | None, Technology]:
    """Every technology that the chip names, each looked up and complained of once."""
    places: dict[str | None, Span | None] = {}
    for level in hardware.levels:
        places.setdefault(level.technology, level.where)
    places.setdefault(hardware.compute.technology, None)
    tables: dict[str | None, Technology] = {}
    problems: list[Problem] = []
    for name, where in places.items():
        if name is None:
            continue
        try:
            tables[name] = find_technology(name)
        except InputError as error:
            problems += [replace(p, where=where or hardware.name) for p in error.problems]
    if problems:
        raise InputError(problems)
    return tables


def _fill_level(level: Level, table: Technology | None) -> Level:
    access = 0.0 if table is None else table.access_pj(_largest_array(level), level.word_bits)
    return replace(
        level,
        read_pj=access if level.read_pj is None else level.read_pj,
        write_pj=access if level.write_pj is None else level.write_pj,
        area_mm2=_area(level, table) if level.area_mm2 is None else level.area_mm2,
    )


def _fill_compute(compute: Compute, table: Technology | None) -> Compute:
    energy = compute.pj if table is None or compute.pj is not None else table.mac_pj(compute.bits)
    area = compute.area_mm2
    if table is not None and area is None:
        area = table.mac_mm2(compute.bits)
    return replace(compute, pj=energy or 0.0, area_mm2=area)


def _arrays(level: Level) -> list[int | None]:
    """The capacities of the arrays that one instance consists of, in bits."""
    if isinstance(level.capacity, tuple):
        return [bits for _, bits in level.capacity]
    return [level.capacity]


def _largest_array(level: Level) -> int | None:
    limited = [bits for bits in _arrays(level) if bits is not None]
    return max(limited, default=None)


def _area(level: Level, table: Technology | None) -> float | None:
    if table is None:
        return None
    areas = [table.memory_mm2(bits) for bits in _arrays(level)]
    known = [area for area in areas if area is not None]
    return sum(known) if len(known) == len(areas) else None


def _level_origin(level: Level, table: Technology | None) -> Provenance:
    filled = NONE if table is None else table.label(Quantity.MEMORY_ENERGY)
    kinds = {
        "read": filled if level.read_pj is None else GIVEN,
        "write": filled if level.write_pj is None else GIVEN,
    }
    if level.update_pj is not None:
        kinds["update"] = GIVEN
    origins = set(kinds.values())
    mixed = ", ".join(f"{kind} {origin}" for kind, origin in kinds.items())
    energy = origins.pop() if len(origins) == 1 else mixed
    return Provenance(energy, _area_origin(level, table))


def _area_origin(level: Level, table: Technology | None) -> str:
    if level.area_mm2 is not None:
        return GIVEN
    if table is None or _area(level, table) is None:
        return NONE
    return table.label(Quantity.MEMORY_AREA)


def _compute_origin(compute: Compute, table: Technology | None) -> Provenance:
    energy = area = NONE
    if table is not None and table.mac_energy is not None:
        energy = table.label(Quantity.MAC_ENERGY)
    if table is not None and table.mac_area is not None:
        area = table.label(Quantity.MAC_AREA)
    return Provenance(
        energy if compute.pj is None else GIVEN, area if compute.area_mm2 is None else GIVEN
    )
