"""The tables that come with the package: their points, their sources, and the fits through them.

Owns: `yang2016`, `interstellar`, `fitted45`, `fitted28`, and finding one by name. The fits are made
here, when the module is loaded, from the points that stand here; the residuals in `source` are
computed, not typed.

Non-goals: interpolation and fitting (`tech/curve.py`).
"""

import math

from tilewright.errors import InputError, Problem, did_you_mean
from tilewright.tech.curve import Curve, Point, PowerLaw, fit_power_law
from tilewright.tech.technology import Mac, Quantity, Technology

BYTE = 8
KIB = 1024 * BYTE

YANG_KIB = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
YANG_PJ_PER_16_BITS = {
    64: (1.20, 1.54, 2.11, 3.19, 4.36, 5.82, 8.10, 11.66, 15.60, 23.37, 36.32),
    128: (0.93, 1.37, 1.68, 2.71, 3.57, 4.80, 7.51, 11.50, 15.51, 23.24, 32.81),
    256: (0.69, 0.91, 1.34, 2.21, 2.66, 3.52, 5.79, 8.46, 13.09, 17.93, 28.88),
    512: (0.57, 0.68, 0.90, 1.33, 2.19, 2.64, 4.67, 6.15, 8.99, 15.76, 25.22),
}
"""By width of the access in bits: pJ per 16 bits, for the capacities of `YANG_KIB`."""
YANG_EXPONENT = 0.49

INTERSTELLAR_BYTES = (32, 512, 32 * 1024, 64 * 1024, 128 * 1024)
INTERSTELLAR_PJ_PER_16_BITS = (0.06, 0.96, 9.0, 13.5, 20.0)

HOROWITZ_PJ_PER_64_BITS = ((8 * KIB, 10.0), (32 * KIB, 20.0), (1024 * KIB, 100.0))
HOROWITZ_DRAM_PJ_PER_64_BITS = (1300.0, 2600.0)
HOROWITZ_MULTIPLY_PJ = ((8, 0.2), (32, 3.1))
HOROWITZ_ADD_PJ = ((8, 0.03), (32, 0.1))
HOROWITZ_MULTIPLY_UM2 = ((8, 282.0), (32, 3495.0))
HOROWITZ_ADD_UM2 = ((8, 36.0), (32, 137.0))

CACTI_SMALL_BYTES = (64, 128, 256, 512)
CACTI_LARGE_KIB = (8, 32, 128, 512, 2048)
CACTI_SMALL_PJ_PER_16_BITS = {
    45: (0.3780, 0.4677, 0.6317, 0.9055),
    28: (0.1384, 0.1754, 0.2356, 0.3483),
}
CACTI_LARGE_PJ_PER_64_BITS = {28: (2.8315, 5.7812, 11.5556, 23.3474, 48.0143)}
CACTI_SMALL_MM2 = {
    45: (0.0003225, 0.0005682, 0.0010206, 0.0018576),
    28: (0.0001239, 0.0002198, 0.0003944, 0.0007167),
}
CACTI_LARGE_MM2 = {
    45: (0.0262673, 0.0948597, 0.429589, 1.64463, 6.46596),
    28: (0.0101522, 0.0432518, 0.192541, 0.716375, 2.49921),
}
"""By node in nm; energies are the mean of a read and a write."""

CACTI_RUN = (
    "CACTI: version 7.0 (the source that zigzag-dse 3.9.1 carries), RAM, one bank, one read-write "
    "port, itrs-lstp cells and periphery, 360 K, no ECC, least cycle time."
)

STILLMAKER_ENERGY = {
    45: (1.103, -0.362, 0.2767),
    32: (0.9559, -0.7823, 0.471),
    20: (0.373, -0.1582, 0.04104),
}
"""By node in nm: the coefficients of V², V and 1 of the energy of the same logic."""
STILLMAKER_AREA_FROM_45 = {32: 0.46, 20: 0.21}
SUPPLY_V = 0.9

ALADDIN_REGISTER_PJ_PER_BIT = 0.009
ALADDIN_REGISTER_UM2_PER_BIT = 5.98
REGISTER_BITS = 32
"""A memory up to this size is made of flip-flops."""

LPDDR4_PJ_PER_BIT = 8.0


def technology_names() -> list[str]:
    """The names of all tables, in alphabetical order.

    >>> technology_names()
    ['fitted28', 'fitted45', 'interstellar', 'yang2016']
    """
    return sorted(_TABLES)


def find_technology(name: str) -> Technology:
    """The table of that name. Raises `InputError`, with the nearest name, if there is none.

    >>> find_technology("fitted45").node_nm
    45
    """
    if name not in _TABLES:
        fix = did_you_mean(name, technology_names())
        raise InputError(Problem(f"there is no technology `{name}`", fix))
    return _TABLES[name]


def _per_bit(
    sizes: tuple[int, ...], unit: int, values: tuple[float, ...], bits: int
) -> list[Point]:
    """Points of energy per bit against capacity in bits."""
    return [(size * unit, value / bits) for size, value in zip(sizes, values, strict=True)]


def _yang2016() -> Technology:
    access = tuple(
        (width, Curve(tuple(_per_bit(YANG_KIB, KIB, row, 16)), YANG_EXPONENT, YANG_EXPONENT))
        for width, row in YANG_PJ_PER_16_BITS.items()
    )
    return Technology(
        name="yang2016",
        title="45 nm memories of the CNN blocking paper, per 16-bit access",
        source=(
            "X. Yang et al., A Systematic Approach to Blocking Convolutional Neural Networks, "
            "arXiv 1606.04209, 2016: the table of energy per 16-bit access, as recalled. Between "
            "its sizes and widths both axes are logarithmic; below 1 KiB and above 1 MiB energy "
            f"follows size^{YANG_EXPONENT}; above 16 MiB it is DRAM's. Accesses narrower than 64 "
            "bits use the column of 64. It knows no areas and no MACs."
        ),
        node_nm=45,
        dram_pj_per_bit=320 / 16,
        access=access,
        largest_bits=16384 * KIB,
        recalled=frozenset({Quantity.MEMORY_ENERGY}),
    )


def _interstellar() -> Technology:
    points = _per_bit(INTERSTELLAR_BYTES, BYTE, INTERSTELLAR_PJ_PER_16_BITS, 16)
    # A doubling of the size doubles a register file's energy and makes an SRAM's 1.5 times.
    curve = Curve(tuple(points), below=1.0, above=math.log2(1.5))
    return Technology(
        name="interstellar",
        title="the constants of Interstellar, per 16-bit access",
        source=(
            "X. Yang et al., Interstellar, ASPLOS 2020, and its tool (CNN-blocking, commit "
            "ed38e1e). Read in the tool's files: 512 B 0.96, 128 KB 20, DRAM 200, hop 0.035 pJ; "
            "as recalled: 32 B 0.06, 32 KiB 9, 64 KiB 13.5 pJ, x2 per doubling of a register "
            "file and x1.5 of an SRAM. From 512 B to 32 KiB both axes are logarithmic. It knows "
            "no areas and no MACs."
        ),
        node_nm=None,
        dram_pj_per_bit=200 / 16,
        access=((16, curve),),
        hop_pj_per_bit=0.035 / 16,
        recalled=frozenset({Quantity.MEMORY_ENERGY}),
    )


def _small_law(node: int) -> PowerLaw:
    row = CACTI_SMALL_PJ_PER_16_BITS[node]
    return fit_power_law(_per_bit(CACTI_SMALL_BYTES, BYTE, row, 16))


def _memory_curve(register: float, small: PowerLaw, large: PowerLaw, below: float) -> Curve:
    """Flip-flops up to a few bytes, then register files, then SRAMs, and lines between them."""
    first, last = CACTI_SMALL_BYTES[0] * BYTE, CACTI_SMALL_BYTES[-1] * BYTE
    sram = CACTI_LARGE_KIB[0] * KIB
    points = (
        (float(REGISTER_BITS), register),
        (float(first), small.at(first)),
        (float(last), small.at(last)),
        (float(sram), large.at(sram)),
    )
    return Curve(points, below, large.exponent)


def _energy_curve(small: PowerLaw, large: PowerLaw, factor: float = 1.0) -> Curve:
    return _memory_curve(ALADDIN_REGISTER_PJ_PER_BIT * factor, small, large, below=0.0)


def _area_curve(laws: tuple[PowerLaw, PowerLaw], factor: float = 1.0) -> Curve:
    register = REGISTER_BITS * ALADDIN_REGISTER_UM2_PER_BIT * 1e-6 * factor
    return _memory_curve(register, *laws, below=1.0)


def _area_laws(node: int) -> tuple[PowerLaw, PowerLaw]:
    small = [(b * BYTE, a) for b, a in zip(CACTI_SMALL_BYTES, CACTI_SMALL_MM2[node], strict=True)]
    large = [(k * KIB, a) for k, a in zip(CACTI_LARGE_KIB, CACTI_LARGE_MM2[node], strict=True)]
    return fit_power_law(small), fit_power_law(large)


def _mac_energy() -> Mac:
    return Mac(fit_power_law(HOROWITZ_MULTIPLY_PJ), fit_power_law(HOROWITZ_ADD_PJ))


def _mac_area() -> Mac:
    return Mac(fit_power_law(HOROWITZ_MULTIPLY_UM2), fit_power_law(HOROWITZ_ADD_UM2))


def _arrays_text(small: PowerLaw, areas: tuple[PowerLaw, PowerLaw]) -> str:
    return (
        "Register files: CACTI as below, 16-bit words, 64 to 512 B, mean of read and write: "
        f"size^{small.exponent:.2f}, within {small.residual:.1%}. Up to 4 B: flip-flops, 0.009 pJ "
        "and 5.98 µm² per bit (Aladdin, ISCA 2014, 40 nm). Between flip-flops, register files and "
        "SRAMs, lines on logarithmic axes. Areas, with periphery: CACTI, "
        f"size^{areas[0].exponent:.2f} within {areas[0].residual:.1%} for 64 to 512 B, "
        f"size^{areas[1].exponent:.2f} within {areas[1].residual:.1%} for 8 KiB to 2 MiB. "
    )


def _fitted45() -> Technology:
    small, areas = _small_law(45), _area_laws(45)
    large = fit_power_law([(size, value / 64) for size, value in HOROWITZ_PJ_PER_64_BITS])
    low, high = HOROWITZ_DRAM_PJ_PER_64_BITS
    return Technology(
        name="fitted45",
        title="45 nm: power laws through published points",
        source=(
            "SRAM: M. Horowitz, Computing's Energy Problem, ISSCC 2014 (45 nm, 0.9 V), 8 KB 10, "
            "32 KB 20, 1 MB 100 pJ per 64-bit access, least squares in log space: "
            f"size^{large.exponent:.2f}, within {large.residual:.1%}. {_arrays_text(small, areas)}"
            "DRAM: the geometric mean of his 1.3 and 2.6 nJ per 64 bits. MAC: his multiplier "
            "(8 bit 0.2, 32 bit 3.1 pJ) and an adder of twice the width (8 bit 0.03, 32 bit 0.1 "
            "pJ), two points for two coefficients, so exact; areas of units the same way from "
            f"282, 3495, 36 and 137 µm², as recalled. {CACTI_RUN}"
        ),
        node_nm=45,
        dram_pj_per_bit=(low * high) ** 0.5 / 64,
        access=((64, _energy_curve(small, large)),),
        memory_area=_area_curve(areas),
        mac_energy=_mac_energy(),
        mac_area=_mac_area(),
        recalled=frozenset({Quantity.MAC_AREA}),
    )


def _logic_scaling() -> tuple[float, float]:
    """Energy and area of the same logic at 28 nm, in those at 45 nm."""
    energy = {
        node: a * SUPPLY_V**2 + b * SUPPLY_V + c for node, (a, b, c) in STILLMAKER_ENERGY.items()
    }
    energies = Curve(((20, energy[20]), (32, energy[32])), 0.0, 0.0)
    areas = Curve(tuple(sorted(STILLMAKER_AREA_FROM_45.items())), 0.0, 0.0)
    return energies.at(28) / energy[45], areas.at(28)


def _fitted28() -> Technology:
    small, areas = _small_law(28), _area_laws(28)
    large = fit_power_law(_per_bit(CACTI_LARGE_KIB, KIB, CACTI_LARGE_PJ_PER_64_BITS[28], 64))
    energy_factor, area_factor = _logic_scaling()
    return Technology(
        name="fitted28",
        title="28 nm: power laws through CACTI runs, logic scaled from 45 nm",
        source=(
            "SRAM: CACTI as below, 64-bit words, 8 KiB to 2 MiB, mean of read and write, least "
            f"squares in log space: size^{large.exponent:.2f}, within {large.residual:.1%}. "
            f"{_arrays_text(small, areas)}DRAM: LPDDR4, 8 pJ per bit, the constant of Accelergy's "
            "CACTI plug-in. MACs and flip-flops: those of fitted45 times "
            f"{energy_factor:.3f} in energy and {area_factor:.3f} in area, from A. Stillmaker and "
            "B. Baas, Scaling equations for the accurate prediction of CMOS device performance, "
            "Integration 58, 2017 (coefficients as Accelergy carries them), at "
            f"{SUPPLY_V} V, 28 nm on the line between 32 and 20 nm, both axes logarithmic; areas "
            "of MAC units are as recalled as fitted45's. CACTI interpolates 28 nm between 32 and "
            "22 nm and packs densely: 20.73 mm² for 10 MB "
            "(DaDianNao, MICRO 2014, as recalled) is half as much again. {CACTI_RUN}"
        ),
        node_nm=28,
        dram_pj_per_bit=LPDDR4_PJ_PER_BIT,
        access=((64, _energy_curve(small, large, energy_factor)),),
        memory_area=_area_curve(areas, area_factor),
        mac_energy=_mac_energy().times(energy_factor),
        mac_area=_mac_area().times(area_factor),
        recalled=frozenset({Quantity.MAC_AREA}),
    )


_TABLES = {table.name: table for table in (_yang2016(), _interstellar(), _fitted45(), _fitted28())}
