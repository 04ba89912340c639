"""The tables of energies and areas, and what fills a chip's gaps."""

import math
import re

import numpy as np
import pytest

from tilewright.errors import InputError, Source, Span
from tilewright.ir.files import parse_hardware
from tilewright.ir.hardware import Compute, Fanout, Hardware, Level
from tilewright.tech import (
    Provenance,
    Quantity,
    Technology,
    apply_technology,
    find_technology,
    technology_names,
)
from tilewright.tech.curve import Curve, Point, fit_power_law

KIB = 8 * 1024
ALL = ("fitted28", "fitted45", "interstellar", "yang2016")

# The table of the blocking paper, as recalled: KiB, then pJ per 16-bit access by access width.
YANG = """
KiB 1    2    4    8    16   32   64   128   256   512   1024
64  1.20 1.54 2.11 3.19 4.36 5.82 8.10 11.66 15.60 23.37 36.32
128 0.93 1.37 1.68 2.71 3.57 4.80 7.51 11.50 15.51 23.24 32.81
256 0.69 0.91 1.34 2.21 2.66 3.52 5.79 8.46  13.09 17.93 28.88
512 0.57 0.68 0.90 1.33 2.19 2.64 4.67 6.15  8.99  15.76 25.22
"""

# CACTI 7.0, bytes, read pJ, write pJ, mm²: 16-bit words up to 512 B, 64-bit words above.
CACTI = {
    45: """
        64      0.3293   0.4267   0.0003225
        128     0.3593   0.5761   0.0005682
        256     0.5453   0.7181   0.0010206
        512     0.7200   1.0909   0.0018576
        8192    6.1370   7.8781   0.0262673
        32768   17.0418  15.3975  0.0948597
        131072  32.2859  26.0650  0.4295890
        524288  68.3493  51.3460  1.6446300
        2097152 127.5270 110.1900 6.4659600
    """,
    28: """
        64      0.1192   0.1577   0.0001239
        128     0.1326   0.2181   0.0002198
        256     0.2034   0.2678   0.0003944
        512     0.2790   0.4176   0.0007167
        8192    2.5796   3.0833   0.0101522
        32768   6.1745   5.3878   0.0432518
        131072  12.4272  10.6839  0.1925410
        524288  25.6235  21.0714  0.7163750
        2097152 52.3701  43.6585  2.4992100
    """,
}


def rows(text: str) -> list[list[float]]:
    return [[float(word) for word in line.split()] for line in text.split("\n") if line.strip()]


def stated(table: Technology, pattern: str) -> float:
    """The residual that a table's source states, as a share."""
    match = re.search(pattern + r"[^%]*?within (\d+\.\d)%", table.source)
    assert match, table.source
    return float(match.group(1)) / 100


def worst(found: list[float], published: list[float]) -> float:
    return max(abs(a / b - 1) for a, b in zip(found, published, strict=True))


def test_the_tables_are_those_and_each_says_where_it_comes_from():
    assert tuple(technology_names()) == ALL
    for name in ALL:
        table = find_technology(name)
        assert table.name == name
        assert table.title
        assert re.search(r"20[012]\d", table.source), "a source has a year"
        assert ("as recalled" in table.source) == table.as_recalled


def test_an_unknown_table_is_named_with_its_nearest():
    with pytest.raises(InputError, match="there is no technology `yang2015`") as caught:
        find_technology("yang2015")
    assert caught.value.problems[0].fix == "did you mean `yang2016`?"


def test_yang2016_is_the_table_of_the_paper():
    lines = [line.split() for line in YANG.split("\n") if line]
    table = find_technology("yang2016")
    for width, *values in lines[1:]:
        for size, value in zip(lines[0][1:], values, strict=True):
            # a word of the column's width moves width/16 pieces of 16 bits
            word = table.access_pj(int(size) * KIB, int(width))
            assert word * 16 / int(width) == pytest.approx(float(value), rel=1e-12)


def test_yang2016_between_and_beyond_its_points():
    table = find_technology("yang2016")
    assert 8.10 < table.access_pj(90 * KIB, 16) < 11.66
    assert 2.71 * 6 < table.access_pj(8 * KIB, 96) < 3.19 * 6
    assert table.access_pj(2 * KIB, 4096) == pytest.approx(0.68 * 256), "the widest column"
    assert table.access_pj(2 * KIB, 8) == pytest.approx(1.54 / 2), "the narrowest, by the bit"
    assert table.access_pj(KIB // 4, 16) == pytest.approx(1.20 * 0.25**0.49)
    assert table.access_pj(4096 * KIB, 16) == pytest.approx(36.32 * 4**0.49)
    assert table.access_pj(16384 * KIB, 16) < 320
    assert table.access_pj(16384 * KIB + 1, 16) == 320
    assert table.access_pj(None, 16) == 320
    assert table.label(Quantity.MEMORY_ENERGY) == "yang2016 (as recalled)"
    assert (table.memory_mm2(KIB), table.mac_pj(16), table.mac_mm2(16)) == (None, None, None)


@pytest.mark.parametrize(
    ("size_bytes", "picojoules"),
    [
        (32, 0.06),
        (64, 0.12),
        (512, 0.96),
        (32 * 1024, 9.0),
        (64 * 1024, 13.5),
        (128 * 1024, 20.0),
        (256 * 1024, 30.0),
        (16, 0.03),
        (None, 200.0),
    ],
)
def test_interstellar_is_the_constants_of_its_tool(size_bytes: int | None, picojoules: float):
    capacity = None if size_bytes is None else size_bytes * 8
    table = find_technology("interstellar")
    # between 32 and 512 B the doubling rule holds exactly: 0.06 · 2⁴ = 0.96
    assert table.access_pj(capacity, 16) == pytest.approx(picojoules, rel=1e-9)
    assert table.hop_pj(16) == pytest.approx(0.035)


def test_fitted45_goes_through_horowitz_as_well_as_it_says():
    table = find_technology("fitted45")
    published = [10.0, 20.0, 100.0]  # per 64 bits at 8 KB, 32 KB, 1 MB
    found = [table.access_pj(size * KIB, 64) for size in (8, 32, 1024)]
    assert worst(found, published) == pytest.approx(stated(table, "SRAM"), abs=0.0005)
    assert 1300 < table.access_pj(None, 64) < 2600
    assert table.mac_energy
    multiplier, adder = table.mac_energy.multiplier, table.mac_energy.adder
    assert [multiplier.at(8), multiplier.at(32)] == pytest.approx([0.2, 3.1])
    assert [adder.at(8), adder.at(32)] == pytest.approx([0.03, 0.1])
    assert table.mac_pj(16) == pytest.approx(multiplier.at(16) + 0.1), "a 32-bit adder"
    assert table.mac_area
    assert table.mac_area.multiplier.at(32) == pytest.approx(3495)
    assert table.mac_mm2(8) == pytest.approx((282 + table.mac_area.adder.at(16)) * 1e-6), (
        "mm², not µm²"
    )


@pytest.mark.parametrize("node", [45, 28])
def test_fitted_tables_go_through_cacti_as_well_as_they_say(node: int):
    table = find_technology(f"fitted{node}")
    points = rows(CACTI[node])
    files, srams = points[:4], points[4:]

    def residual(chosen: list[list[float]], word_bits: int) -> float:
        means = [(read + write) / 2 for _, read, write, _ in chosen]
        return worst([table.access_pj(int(size) * 8, word_bits) for size, *_ in chosen], means)

    def area_residual(chosen: list[list[float]]) -> float:
        areas = [table.memory_mm2(int(size) * 8) or 0.0 for size, *_ in chosen]
        return worst(areas, [row[3] for row in chosen])

    assert residual(files, 16) == pytest.approx(stated(table, "Register files"), abs=0.0006)
    small, large = re.findall(r"within (\d+\.\d)% for", table.source)
    assert area_residual(files) == pytest.approx(float(small) / 100, abs=0.0006)
    assert area_residual(srams) == pytest.approx(float(large) / 100, abs=0.0006)
    if node == 28:
        assert residual(srams, 64) == pytest.approx(stated(table, "SRAM"), abs=0.0006)
    else:
        assert residual(srams, 64) < 0.5, "CACTI and Horowitz agree on what 45 nm is like"


def test_the_fit_is_that_of_numpy():
    points = [(row[0] * 8, row[3]) for row in rows(CACTI[28])]
    sizes, values = np.log([size for size, _ in points]), np.log([value for _, value in points])
    slope, offset = np.polyfit(sizes, values, 1)
    law = fit_power_law(points)
    assert law.exponent == pytest.approx(slope, rel=1e-9)
    assert law.scale == pytest.approx(math.exp(offset), rel=1e-9)
    assert law.residual == pytest.approx(
        worst([law.at(s) for s, _ in points], [v for _, v in points])
    )


def test_fitted28_is_scaled_by_the_published_factors():
    # energy at 0.9 V: 45 nm 0.844, 32 nm 0.541, 20 nm 0.201; 28 nm lies 0.284 of the way, in logs
    energy = 0.5412 * (0.2008 / 0.5412) ** 0.2841 / 0.8443
    area = 0.46 * (0.21 / 0.46) ** 0.2841
    now, before = find_technology("fitted28"), find_technology("fitted45")
    for bits in (4, 8, 16, 32):
        assert now.mac_pj(bits) == pytest.approx(energy * (before.mac_pj(bits) or 0), rel=1e-3)
        assert now.mac_mm2(bits) == pytest.approx(area * (before.mac_mm2(bits) or 0), rel=1e-3)
    assert now.access_pj(None, 16) == 8 * 16, "LPDDR4, 8 pJ per bit"
    for size in (2, 64, 1024, 65536, 2**20):
        assert now.access_pj(size * 8, 16) < before.access_pj(size * 8, 16)


def test_a_few_bytes_are_flip_flops():
    table = find_technology("fitted45")
    assert table.access_pj(16, 16) == pytest.approx(16 * 0.009)
    assert table.memory_mm2(16) == pytest.approx(16 * 5.98e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("word_bits", [8, 16, 64, 200, 512])
def test_a_larger_memory_never_costs_less(name: str, word_bits: int):
    table = find_technology(name)
    capacities = [*(round(2 ** (step / 3)) for step in range(9, 100)), None]
    energies = [table.access_pj(capacity, word_bits) for capacity in capacities]
    assert energies == sorted(energies)
    assert energies[0] > 0
    areas = [table.memory_mm2(capacity) for capacity in capacities[:-1]]
    known = [area for area in areas if area is not None]
    assert known == sorted(known)
    assert len(known) in (0, len(areas))


def test_a_curve_with_a_dent_is_found_out():
    points: tuple[Point, ...] = ((8.0, 1.0), (64.0, 0.5), (512.0, 2.0))
    dented = Technology("dent", "", "", None, 1e9, ((16, Curve(points, 0.5, 0.5)),))
    energies = [dented.access_pj(2**step, 16) for step in range(2, 12)]
    assert energies != sorted(energies)


@pytest.mark.parametrize("name", ALL)
def test_between_two_sizes_lies_between_their_energies(name: str):
    table = find_technology(name)
    for low in (64, 1024, 20_000, 700_000):
        below, above = table.access_pj(low * 8, 16), table.access_pj(low * 16, 16)
        assert below < table.access_pj(low * 12, 16) < above


def chip_of(*levels: Level, compute: Compute | None = None) -> Hardware:
    return Hardware(
        "chip", (Level("DRAM", read_pj=200, write_pj=200), *levels), compute or Compute()
    )


def test_a_given_number_wins_and_the_result_says_so():
    level = Level("GLB", 8 * KIB, read_pj=7.5, technology="yang2016", area_mm2=0.5)
    chip, origins = apply_technology(chip_of(level))
    assert (chip.levels[1].read_pj, chip.levels[1].write_pj) == (7.5, 3.19)
    assert chip.levels[1].area_mm2 == 0.5
    assert origins["GLB"].energy == "read given, write yang2016 (as recalled)"
    assert origins["GLB"].area == "given"
    assert origins["DRAM"] == Provenance("given", "none")
    assert origins["GLB"].to_json() == {
        "energy": "read given, write yang2016 (as recalled)",
        "area": "given",
    }


def test_a_given_zero_is_given():
    level = Level("GLB", 8 * KIB, read_pj=0.0, write_pj=0.0, technology="fitted45")
    chip, origins = apply_technology(chip_of(level, compute=Compute(pj=0.0, technology="fitted45")))
    assert (chip.levels[1].read_pj, chip.levels[1].write_pj, chip.compute.pj) == (0.0, 0.0, 0.0)
    assert origins["GLB"] == Provenance("given", "fitted45")
    assert origins["MAC"] == Provenance("given", "fitted45 (as recalled)")


def test_a_table_fills_what_is_left_out():
    level = Level("GLB", 32 * KIB, word_bits=64, technology="fitted45")
    chip, origins = apply_technology(chip_of(level, compute=Compute(bits=8, technology="fitted45")))
    filled = chip.levels[1]
    assert filled.read_pj == filled.write_pj == pytest.approx(20, rel=0.023)
    assert filled.update_pj is None, "that of a write"
    assert filled.area_mm2 == pytest.approx(0.0948597, rel=0.08)
    assert chip.compute.pj == pytest.approx(0.255, abs=0.001)
    assert origins["GLB"] == Provenance("fitted45", "fitted45")
    assert origins["MAC"] == Provenance("fitted45", "fitted45 (as recalled)")


def test_an_update_with_a_price_of_its_own_is_told_apart():
    level = Level("GLB", 8 * KIB, update_pj=9.0, technology="fitted28")
    chip, origins = apply_technology(chip_of(level))
    assert chip.levels[1].update_pj == 9.0
    assert origins["GLB"].energy == "read fitted28, write fitted28, update given"


def test_without_number_or_technology_it_costs_nothing_and_says_none():
    chip, origins = apply_technology(chip_of(Level("GLB", 8 * KIB, write_pj=3.0)))
    assert (chip.levels[1].read_pj, chip.levels[1].write_pj) == (0.0, 3.0)
    assert chip.levels[1].area_mm2 is None
    assert chip.compute.pj == 0.0
    assert origins["GLB"] == Provenance("read none, write given", "none")
    assert origins["MAC"] == Provenance("none", "none")


def test_what_a_table_does_not_know_is_none():
    level = Level("GLB", 8 * KIB, technology="yang2016")
    chip, origins = apply_technology(chip_of(level, compute=Compute(technology="yang2016")))
    assert chip.compute.pj == 0.0
    assert chip.levels[1].area_mm2 is None
    assert origins["MAC"] == Provenance("none", "none")
    assert origins["GLB"] == Provenance("yang2016 (as recalled)", "none")


def test_a_partitioned_memory_is_one_array_per_operand():
    shares = (("W", 448 * 8), ("I", 24 * 8), ("O", 48 * 8))
    chip, _ = apply_technology(chip_of(Level("RF", shares, technology="fitted45")))
    table = find_technology("fitted45")
    areas = [table.memory_mm2(bits) or 0.0 for _, bits in shares]
    assert chip.levels[1].read_pj == table.access_pj(448 * 8, 16)
    assert chip.levels[1].area_mm2 == pytest.approx(sum(areas))


def test_nothing_but_energies_and_areas_changes():
    level = Level("GLB", 8 * KIB, technology="fitted45", fanout=Fanout(x=4), bandwidth=2.0)
    before = chip_of(level)
    after, _ = apply_technology(before)
    assert after.levels[1].fanout == level.fanout, "hops are 0 unless given"
    assert after.levels[1].bandwidth == 2.0
    assert before.levels[1].read_pj is None
    again, _ = apply_technology(after)
    assert again == after


def test_a_compute_unit_named_like_a_memory_keeps_its_own_entry():
    _, origins = apply_technology(chip_of(compute=Compute(name="DRAM", pj=1.0)))
    assert origins == {
        "DRAM": Provenance("given", "none"),
        "DRAM (compute)": Provenance("given", "none"),
    }


def test_an_unknown_technology_points_at_its_level():
    text = (
        "name: toy\nlevels:\n  - memory: DRAM\n  - memory: GLB\n    capacity: 8KiB\n"
        "    technology: fited45\n  - memory: RF\n    capacity: 64B\n    technology: fited45\n"
        "compute: {technology: cmos}\n"
    )
    with pytest.raises(InputError) as caught:
        apply_technology(parse_hardware(Source("toy.yaml", text)))
    first, second = list(caught.value.problems)
    assert isinstance(first.where, Span)
    assert first.where.line == 4, "the level, and the first that names it"
    assert str(first) == (
        "toy.yaml:4:13: there is no technology `fited45`\n"
        "    4 |   - memory: GLB\n"
        "                    ^^^\n"
        "      fix: did you mean `fitted45`?"
    )
    assert str(second).startswith("toy: there is no technology `cmos`")
