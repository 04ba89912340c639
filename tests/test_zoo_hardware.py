"""The chips of the zoo against the numbers of their papers, and a layer on each."""

import re
from dataclasses import replace

import pytest

from tilewright import zoo
from tilewright.errors import InfeasibleError
from tilewright.ir.hardware import Hardware
from tilewright.ir.workload import Workload, conv2d
from tilewright.model.evaluate import evaluate
from tilewright.tech import apply_technology

B, KIB, MIB = 8, 8 * 1024, 8 * 1024**2

# MAC units, and by memory: instances, and bits of one instance (per operand where partitioned).
CHIPS: dict[str, tuple[int, dict[str, tuple[int, object]]]] = {
    # Skylake client core: 16 registers of 32 B, L1 32 KiB, L2 256 KiB, L3 8 MiB; 2 FMAs of 8 lanes
    "cpu": (
        2 * 8,
        {
            "DRAM": (1, None),
            "L3": (1, 8 * MIB),
            "L2": (1, 256 * KIB),
            "L1": (1, 32 * KIB),
            "REG": (1, 16 * 32 * B),
        },
    ),
    # ASPLOS 2014: 16×16 multipliers; 64 entries of 16, 16×16 and 16 words of 16 bits
    "diannao": (
        16 * 16,
        {
            "DRAM": (1, None),
            "NBin": (1, 64 * 16 * 16),
            "SB": (1, 64 * 16 * 16 * 16),
            "NBout": (1, 64 * 16 * 16),
        },
    ),
    # JSSC 2017: 168 PEs; 108 KB; filters 224, inputs 12, partial sums 24 words of 16 bits
    "eyeriss": (
        168,
        {
            "DRAM": (1, None),
            "GLB": (1, 108 * KIB),
            "RF": (168, (("W", 224 * 16), ("I", 12 * 16), ("O", 24 * 16))),
        },
    ),
    # DAC 2021 and Configs.scala: 16×16 mesh, 256 KiB scratchpad, 64 KiB accumulator
    "gemmini": (
        16 * 16,
        {
            "DRAM": (1, None),
            "SPAD": (1, 256 * KIB),
            "ACC": (1, 64 * KIB),
            "WREG": (256, 2 * B),
        },
    ),
    # 5×5 window; five lines of 32 pixels of 16 bits; 25 weights of 16 bits
    "hwce": (
        25,
        {"MEM": (1, None), "LINES": (1, 5 * 32 * 16), "WREG": (1, 25 * 16)},
    ),
    # nvdla.org, hardware manual: Atomic-C 64, Atomic-K 16, 16 banks of 32 KB; 256 entries of 16
    # sums of 34 bits
    "nvdla": (
        64 * 16,
        {
            "DRAM": (1, None),
            "CBUF": (1, 16 * 32 * KIB),
            "CACC": (1, 256 * 16 * 34),
            "WREG": (1024, 2 * B),
        },
    ),
    # MICRO 2019: 16 PEs of 8 lanes of 8; 64, 8, 32, 3 KiB
    "simba": (
        16 * 8 * 8,
        {
            "DRAM": (1, None),
            "GLB": (1, 64 * KIB),
            "IBUF": (16, 8 * KIB),
            "WBUF": (16, 32 * KIB),
            "ABUF": (16, 3 * KIB),
            "WREG": (1024, 2 * B),
        },
    ),
    # ISCA 2017: 65,536 MACs; 24 MiB; 4 MiB of accumulators; FIFO of four 64 KiB tiles
    "tpu": (
        65536,
        {
            "DRAM": (1, None),
            "UB": (1, 24 * MIB),
            "FIFO": (1, 4 * 64 * KIB),
            "ACC": (1, 4096 * 256 * 32),
            "WREG": (65536, 2 * B),
        },
    ),
}

# A 3×3 convolution with 64 channels as each chip runs it, and the share of the MACs that work.
RUNS: dict[str, tuple[str, float]] = {
    "cpu": (
        """
        DRAM[W I O]:
        L3[W I O]: K8 P56
        L2[W I O]: Q7
        L1[W I O]: C64 R3 S3
        REG[W I O]: Q4 | K8@x Q2@y
        """,
        1.0,
    ),
    "diannao": (
        """
        DRAM[W I O]: K4 P7 Q14 C4
        NBin[I]:
        SB[W]:
        NBout[O]: R3 S3 P8 Q4 | C16@x K16@y
        """,
        1.0,
    ),
    "eyeriss": (
        """
        DRAM[W I O]: K4 P4 C4
        GLB[I O]: C8 Q56 | K4@y R3@y P14@x
        RF[W I O]: C2 K4 S3
        """,
        1.0,
    ),
    "gemmini": (
        """
        DRAM[W I O]:
        SPAD[W I]: K4 P4
        ACC[O]: C4 R3 S3 | K16@x C16@y
        WREG[W]: P14 Q56
        """,
        1.0,
    ),
    # nine of the 25 multipliers
    "hwce": (
        """
        MEM[W I O]: K64 C64 Q2 P56
        LINES[I]: Q28
        WREG[W]: | S3@x R3@y
        """,
        9 / 25,
    ),
    "nvdla": (
        """
        DRAM[W I O]:
        CBUF[W I]: K4 P14
        CACC[O]: R3 S3 | C64@x K16@y
        WREG[W]: P4 Q56
        """,
        1.0,
    ),
    "simba": (
        """
        DRAM[W I O]: K2 P7
        GLB[I O]: P2 C2 | K4@x P4@y
        IBUF[I]:
        WBUF[W]: C4 R3 S3
        ABUF[O]: | C8@x K8@y
        WREG[W]: Q56
        """,
        1.0,
    ),
    # 64 of 256 columns, 192 of 256 rows: 3/16 of 9,408 cycles, but DRAM takes 9,845
    "tpu": (
        """
        DRAM[W I O]:
        UB[I O]:
        FIFO[W]:
        ACC[O]: S3 | K64@x C64@y R3@y
        WREG[W]: P56 Q56
        """,
        3 / 16 * 9408 / 9845,
    ),
}
BITS = {
    "cpu": {"W": 32, "I": 32, "O": 32},
    "diannao": {},
    "eyeriss": {},
    "hwce": {},
    "gemmini": {"W": 8, "I": 8, "O": 8, "psum": 32},
    "nvdla": {"W": 8, "I": 8, "O": 8, "psum": 34},
    "simba": {"W": 8, "I": 8, "O": 8, "psum": 24},
    "tpu": {"W": 8, "I": 8, "O": 8, "psum": 32},
}


def layer_of(bits: dict[str, int]) -> Workload:
    return conv2d("conv", K=64, C=64, P=56, Q=56, R=3, S=3, bits=bits)


def everything_outside(chip: Hardware, layer: Workload) -> str:
    """The mapping with all loops in the outermost memory, and one word in every other."""
    loops = " ".join(f"{dim}{size}" for dim, size in layer.sizes.items())
    lines: list[str] = []
    for level in chip.levels:
        kept = [o.name for o in layer.operands if level.may_keep(o.name)]
        lines.append(f"{level.memory}[{' '.join(kept)}]: {loops if not lines else ''}")
    return "\n".join(lines)


def test_every_chip_is_tested_here():
    assert set(zoo.hardware_names()) == set(CHIPS) == set(RUNS) == set(BITS)


@pytest.mark.parametrize("name", CHIPS)
def test_a_chip_has_its_paper_and_its_name(name: str):
    chip = zoo.load_hardware(name)
    assert chip.name == name
    assert len(chip.source) > 200, "the paper, and what is approximated"
    assert re.search(r"\b20[012]\d\b|nvdla\.org|Manual", chip.source)


@pytest.mark.parametrize("name", CHIPS)
def test_a_chip_has_the_units_and_memories_of_its_paper(name: str):
    units, memories = CHIPS[name]
    chip = zoo.load_hardware(name)
    assert chip.mac_units == units
    assert {
        level.memory: (chip.instances(index), level.capacity)
        for index, level in enumerate(chip.levels)
    } == memories


@pytest.mark.parametrize("name", CHIPS)
def test_every_access_and_mac_has_a_price(name: str):
    chip, origins = apply_technology(zoo.load_hardware(name))
    for level in chip.levels:
        assert level.read_pj, f"{level.memory} is free"
        assert level.write_pj, f"{level.memory} is free"
    assert chip.compute.pj
    assert all(origin.energy != "none" for origin in origins.values())
    # off-chip memory costs most, by the bit
    per_bit = [(level.read_pj or 0) / level.word_bits for level in chip.levels]
    assert max(per_bit) == per_bit[0]


@pytest.mark.parametrize("name", CHIPS)
def test_a_convolution_runs_as_the_chip_is_known_to_run_it(name: str):
    mapping, share = RUNS[name]
    cost = evaluate(layer_of(BITS[name]), zoo.load_hardware(name), mapping)
    assert cost.utilization == pytest.approx(share, rel=1e-3)


@pytest.mark.parametrize("name", CHIPS)
def test_a_chip_without_its_memory_does_not_run_it(name: str):
    """The runs above fill the chips: with a hundredth of the largest on-chip memory none fits."""
    chip = zoo.load_hardware(name)
    sizes = [level.usable_bits() or 0 for level in chip.levels]
    index = sizes.index(max(sizes))
    level = chip.levels[index]
    shrunk = (
        tuple((operand, max(1, bits // 100)) for operand, bits in level.capacity)
        if isinstance(level.capacity, tuple)
        else max(1, sizes[index] // 100)
    )
    levels = list(chip.levels)
    levels[index] = replace(level, capacity=shrunk)
    with pytest.raises(InfeasibleError):
        evaluate(layer_of(BITS[name]), replace(chip, levels=tuple(levels)), RUNS[name][0])


@pytest.mark.parametrize("name", CHIPS)
@pytest.mark.parametrize("network", ["alexnet", "mobilenetv2", "resnet18"])
def test_every_layer_has_a_mapping(name: str, network: str):
    chip = zoo.load_hardware(name)
    for entry in zoo.load_network(network).layers:
        layer = entry.workload
        if {operand.name for operand in layer.operands} == {"W", "I", "O"}:
            cost = evaluate(layer, chip, everything_outside(chip, layer))
            assert cost.counts.macs == layer.macs


def test_hwce_moves_what_such_a_block_moves():
    """Inputs once per output channel, sums in and out per input channel, every weight once."""
    layer = conv2d("conv", K=4, C=8, P=28, Q=28, R=5, S=5)
    mapping = "MEM[W I O]: K4 C8 P28\nLINES[I]: Q28\nWREG[W]: | S5@x R5@y"
    cost = evaluate(layer, zoo.load_hardware("hwce"), mapping)
    inputs, sums, weights = 8 * 4 * 32 * 32, (2 * 8 - 1) * 4 * 28 * 28, 8 * 4 * 25
    assert cost.dram_words == inputs + sums + weights
    assert cost.utilization == 1.0


def test_eyeriss_is_the_example_of_the_format():
    """The mapping and the footprints that `spec/model.md §2` gives."""
    layer = conv2d("res3_1", K=128, C=64, P=28, Q=28, R=3, S=3, stride=(2, 2))
    mapping = "DRAM[W I O]: K4 P2 C4\nGLB[I O]: C8 Q28 | K4@y R3@y P14@x\nRF[W I O]: C2 K8 S3"
    cost = evaluate(layer, zoo.load_hardware("eyeriss"), mapping)
    tiles = {
        (level.memory, name): o.tile_words
        for level in cost.levels
        for name, o in level.operands.items()
    }
    assert tiles["GLB", "I"] + tiles["GLB", "O"] == 38_992
    assert [tiles["RF", operand] for operand in "WIO"] == [48, 6, 8]


def test_every_chip_has_a_function_of_its_name() -> None:
    assert {name: getattr(zoo, name)().name for name in zoo.hardware_names()} == {
        name: zoo.load_hardware(name).name for name in zoo.hardware_names()
    }
