"""Timeloop's files in and out: what is written reads back, and is priced as Timeloop priced it."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from conftest import Json
from test_timeloop import PERFECT, differences_of, nouns_of

from tilewright.errors import InputError, Source
from tilewright.frontend import timeloop_write
from tilewright.frontend.foreign import Imported
from tilewright.frontend.timeloop_files import read_timeloop
from tilewright.frontend.timeloop_write import write_timeloop
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Mapping, parse_mapping
from tilewright.ir.workload import Workload, conv2d
from tilewright.loading import load_hardware
from tilewright.model.evaluate import evaluate
from tilewright.tech import apply_technology

Nouns = tuple[Workload, Hardware, Mapping]


def read_files(files: dict[str, str]) -> Imported:
    return read_timeloop([Source(name, text) for name, text in files.items()])


def there_and_back(workload: Workload, hardware: Hardware, mapping: Mapping) -> Nouns:
    found = read_files(write_timeloop(workload, hardware, mapping).files)
    assert found.network is not None
    assert found.hardware is not None
    assert found.mapping is not None
    return found.network.layers[0].workload, found.hardware, found.mapping


def test_recorded_runs_written_and_read_back_are_priced_as_timeloop_priced_them() -> None:
    wrong: Json = {}
    for record in PERFECT:
        if found := differences_of(record, there_and_back(*nouns_of(record))):
            wrong[record["id"]] = found
    assert wrong == {}


def test_a_loop_written_out_of_order_is_seen() -> None:
    """Fault injection: permutations outermost first, as one might take them to be."""
    whole = timeloop_write._loops

    def turned(*given: object) -> Json:
        written = whole(*given)  # type: ignore[arg-type]
        order = written["permutation"]
        assert isinstance(order, list)
        return {**written, "permutation": order[::-1]}

    with patch.object(timeloop_write, "_loops", turned):
        seen = sum(
            bool(differences_of(record, there_and_back(*nouns_of(record))))
            for record in PERFECT[:100]
        )
    assert seen > 50


@pytest.mark.parametrize("record", PERFECT[::9], ids=lambda record: str(record["id"]))
def test_what_is_written_reads_back(record: Json) -> None:
    layer, chip, mapping = nouns_of(record)
    work, hardware, nest = there_and_back(layer, chip, mapping)
    assert nest == mapping
    assert work.einsum == layer.einsum
    assert work.sizes == layer.sizes
    assert [level.memory for level in hardware.levels] == [level.memory for level in chip.levels]
    for level, other in zip(hardware.levels, chip.levels, strict=True):
        assert (level.read_pj, level.write_pj) == (other.read_pj, other.write_pj)
        assert (level.word_bits, level.block_words) == (other.word_bits, other.block_words)
        assert level.usable_bits() == other.usable_bits()
        assert level.fanout == other.fanout
        ports = ("bandwidth", "read_bandwidth", "write_bandwidth")
        assert [getattr(level, port) for port in ports] == [getattr(other, port) for port in ports]


LAYER = conv2d("small", K=8, C=4, P=6, Q=6, R=3, S=3, stride=2)
MAPPING = parse_mapping("DRAM[W I O]: K2 P3\nGLB[I O]: C4 Q2 P2 | K4@y R3@x\nRF[W I O]: Q3 S3")


def test_a_partitioned_memory_becomes_several_storages() -> None:
    chip, _ = apply_technology(load_hardware("eyeriss"))
    written = write_timeloop(LAYER, chip, MAPPING)
    assert "RF is partitioned: written as the storages RF_W, RF_I, RF_O" in written.warnings
    work, hardware, nest = there_and_back(LAYER, chip, MAPPING)
    assert [level.memory for level in hardware.levels] == ["DRAM", "GLB", "RF_W", "RF_I", "RF_O"]
    shares = [level.usable_bits() for level in hardware.levels[2:]]
    assert shares == [448 * 8, 24 * 8, 48 * 8]
    ours = evaluate(LAYER, chip, MAPPING, convention="timeloop")
    theirs = evaluate(work, hardware, nest, convention="timeloop")
    assert theirs.energy_pj == pytest.approx(ours.energy_pj)
    assert theirs.cycles == ours.cycles
    for operand in "WIO":
        assert theirs.counts[f"RF_{operand}", operand] == ours.counts["RF", operand]
        assert theirs.counts["DRAM", operand] == ours.counts["DRAM", operand]


def test_keeps_double_buffers_ports_and_hops_read_back() -> None:
    chip, _ = apply_technology(load_hardware("eyeriss"))
    glb = replace(
        chip.levels[1],
        double_buffered=True,
        read_bandwidth=8.0,
        write_bandwidth=4.0,
        leak_pj_per_cycle=0.25,
        update_pj=7.0,
        fanout=replace(chip.levels[1].fanout, hop_pj=2.0),
    )
    rf = replace(chip.levels[2], capacity=4096)
    whole = replace(chip, levels=(chip.levels[0], glb, rf), clock_ghz=0.2)
    _, found, _ = there_and_back(LAYER, whole, MAPPING)
    assert found.clock_ghz == 0.2
    for level, other in zip(found.levels, whole.levels, strict=True):
        assert replace(level, update_pj=None) == replace(other, update_pj=None)
        update = other.write_pj if other.update_pj is None else other.update_pj
        assert level.update_pj == update
    assert found.compute == whole.compute


REFUSED = {
    "uneven": "DRAM[W I O]: K8 C4 P6 Q6 R3 S3\nGLB[I]:\nGLB[O]:\nRF[W I O]:",
    "clipped": "DRAM[W I O]: K8 C4 P4 Q6 R3 S3\nGLB[I O]:\nRF[W I O]: P2",
    "one dim twice": "DRAM[W I O]: K4 C4 K2 P6 Q6 R3 S3\nGLB[I O]:\nRF[W I O]:",
    "one dim on both axes": "DRAM[W I O]: C4 P6 Q6 R3 S3\nGLB[I O]: | K4@x K2@y\nRF[W I O]:",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_timeloop_cannot_say_is_refused(name: str) -> None:
    chip, _ = apply_technology(load_hardware("eyeriss"))
    messages = {
        "uneven": "GLB heads 2 blocks",
        "clipped": "tiles are clipped",
        "one dim twice": "K stands twice in one block",
        "one dim on both axes": "K is unrolled on both axes of a fan-out",
    }
    with pytest.raises(InputError, match=messages[name]):
        write_timeloop(LAYER, chip, parse_mapping(REFUSED[name]))


def test_what_is_not_written_is_named() -> None:
    chip, _ = apply_technology(load_hardware("eyeriss"))
    fanout = replace(chip.levels[1].fanout, multicast=False, x_dims=("K",))
    glb = replace(chip.levels[1], fanout=fanout, area_mm2=2.0, bandwidth=4.0)
    odd = replace(chip, levels=(chip.levels[0], glb, replace(chip.levels[2], word_bits=8)))
    padded = conv2d("padded", K=2, C=2, R=3, S=3, padding=1, in_height=4, in_width=4)
    said = "\n".join(write_timeloop(padded, odd).warnings)
    for words in (
        "its fan-out has no multicast",
        "`x_dims` and `y_dims` are not written",
        "GLB: its area is not written",
        "`shared_bandwidth`",
        "padding is not written",
        "its word sizes are not written",
    ):
        assert words in said


BY_HAND = """
architecture:
  version: 0.4
  nodes:
  - !Container
    name: system
    attributes: {technology: 45nm, global_cycle_seconds: 5e-9}
  - !Component
    name: DRAM
    class: DRAM
    attributes: {type: LPDDR4, width: 64, datawidth: 16}
  - !Component
    name: glb
    class: smartbuffer_SRAM
    attributes: &sram
      depth: 8 * 1024
      width: 64
      datawidth: 16
      n_banks: 32
      read_bandwidth: 16
      write_bandwidth: 8
    constraints:
      dataspace: {keep: [Inputs, Outputs], bypass: [Weights]}
  - !Container
    name: column
    spatial: {meshX: 14}
  - !Container
    name: pe
    spatial: {meshY: 12}
  - !Parallel
    nodes:
    - !Component
      name: ifmap_spad
      class: smartbuffer_RF
      attributes: {<<: *sram, depth: 12, width: 16}
      constraints:
        dataspace: {keep: [Inputs]}
    - !Component
      name: weights_spad
      class: smartbuffer_RF
      attributes: {depth: 192, width: 16, datawidth: 16}
      constraints:
        dataspace: {keep: [Weights]}
    - !Component
      name: psum_spad
      class: smartbuffer_RF
      attributes: {depth: 16, width: 16, datawidth: 16}
      constraints:
        dataspace: {keep: [Outputs]}
  - !Component
    name: mac
    class: intmac
    attributes: {multiplier_width: 16, adder_width: 16}
"""
PROBLEM = """
problem:
  version: 0.4
  shape:
    name: conv
    dimensions: [C, M, R, S, N, P, Q]
    coefficients:
    - {name: Wstride, default: 1}
    - {name: Hstride, default: 1}
    - {name: Wdilation, default: 1}
    - {name: Hdilation, default: 1}
    data_spaces:
    - name: Weights
      projection: [[[C]], [[M]], [[R]], [[S]]]
    - name: Inputs
      projection: [[[N]], [[C]], [[R, Wdilation], [P, Wstride]], [[S, Hdilation], [Q, Hstride]]]
    - name: Outputs
      projection: [[[N]], [[M]], [[Q]], [[P]]]
      read_write: True
  instance: {C: 4, M: 8, R: 3, S: 3, N: 1, P: 6, Q: 6, Wstride: 2, Hstride: 2}
"""
ERT = """
ERT:
  version: 0.4
  tables:
  - name: system_top_level.DRAM[1..1]
    actions:
    - {name: read, arguments: {}, energy: 512}
    - {name: write, arguments: {}, energy: 512}
    - {name: update, arguments: {}, energy: 256}
  - name: system_top_level.glb[1..1]
    actions:
    - {name: read, arguments: {}, energy: 18.5}
    - {name: write, arguments: {}, energy: 14.25}
    - {name: leak, arguments: {}, energy: 0.005}
  - name: system_top_level.ifmap_spad[1..168]
    actions: [{name: read, arguments: {}, energy: 0.2}, {name: write, arguments: {}, energy: 0.1}]
  - name: system_top_level.weights_spad[1..168]
    actions:
    - {name: read, arguments: {address_delta: 0}, energy: 1.0}
    - {name: read, arguments: {address_delta: 1}, energy: 2.0}
  - name: system_top_level.psum_spad[1..168]
    actions: [{name: read, arguments: {}, energy: 0.25}]
  - name: system_top_level.mac[1..168]
    actions: [{name: compute, arguments: {}, energy: 0.2}, {name: leak, arguments: {}, energy: 0}]
"""
NEST = """
mapping:
- {target: DRAM, type: temporal, factors: "M=2 P=3", permutation: PM}
- {target: glb, type: temporal, factors: [C=4, Q=2, P=2], permutation: [P, Q, C, M, R, S, N]}
- {target: glb, type: bypass, keep: [Inputs, Outputs], bypass: [Weights]}
- {target: column, type: spatial, factors: R=3, permutation: R, split: 1}
- {target: pe, type: spatial, factors: M=0, permutation: M, split: 0}
- {target: ifmap_spad, type: bypass, bypass: [Weights, Outputs]}
- {target: weights_spad, type: bypass, bypass: [Inputs, Outputs]}
- {target: psum_spad, type: bypass, bypass: [Inputs, Weights]}
- {target: psum_spad, type: temporal, factors: S3 Q3, permutation: SQ}
"""


def by_hand(**changed: str) -> Imported:
    texts = {"arch": BY_HAND, "problem": PROBLEM, "ert": ERT, "mapping": NEST} | changed
    return read_timeloop([Source(f"{name}.yaml", text) for name, text in texts.items() if text])


def test_a_file_written_by_hand() -> None:
    """In the style of Timeloop's own examples for version 0.4 (the figures are ours)."""
    found = by_hand()
    chip = found.hardware
    assert chip is not None
    names = ["DRAM", "glb", "ifmap_spad", "weights_spad", "psum_spad"]
    assert [level.memory for level in chip.levels] == names
    dram, glb, ifmap, weights, psum = chip.levels
    assert chip.clock_ghz == 0.2
    assert (glb.capacity, glb.block_words) == (8 * 1024 * 64, 4)
    assert (glb.read_pj, glb.write_pj) == (18.5 / 4, 14.25 / 4)
    assert (dram.read_pj, dram.update_pj, dram.capacity) == (128.0, 64.0, None)
    assert (glb.read_bandwidth, glb.write_bandwidth) == (16.0, 8.0)
    assert glb.leak_pj_per_cycle == 0.005
    assert glb.keeps == {"I", "O"}
    assert (ifmap.keeps, weights.keeps, psum.keeps) == ({"I"}, {"W"}, {"O"})
    assert (glb.fanout.x, glb.fanout.y, ifmap.fanout.copies) == (14, 12, 1)
    assert (ifmap.capacity, ifmap.read_bandwidth) == (12 * 16, 16.0)  # through the anchor
    assert weights.read_pj == 2.0
    assert (chip.compute.pj, chip.compute.bits, chip.mac_units) == (0.2, 16, 168)
    assert found.network is not None
    layer = found.network.layers[0].workload
    assert layer.einsum == "O[N,M,Q,P] += W[C,M,R,S] * I[N,C,R+2P,S+2Q]"
    assert str(found.mapping) == (
        "DRAM[W I O]: M2 P3\nglb[I O]: C4 Q2 P2 | R3@x M4@y\nifmap_spad[I]:\nweights_spad[W]:\n"
        "psum_spad[O]: Q3 S3"
    )
    assert evaluate(layer, chip, found.mapping or "", convention="timeloop").counts.macs == 10368


def test_an_energy_table_alone_prices_our_own_chip() -> None:
    table = ERT.replace("glb", "GLB").replace("psum_spad", "RF").replace("mac", "MAC")
    found = read_timeloop([Source("ert.yaml", table)], load_hardware("eyeriss"))
    assert found.hardware is not None
    glb = found.hardware.levels[1]
    assert (glb.read_pj, glb.write_pj, glb.update_pj) == (18.5, 14.25, 14.25)
    assert found.hardware.compute.pj == 0.2
    said = "\n".join(warning.what for warning in found.warnings)
    assert "the energies of `ifmap_spad` are not used" in said


WRONG = {
    "no shape": ({"problem": "problem: {instance: {C: 4}}"}, "has no `shape`"),
    "version": ({"arch": BY_HAND.replace("0.4", "0.9")}, "version 0.9 is not known"),
    "name for a number": (
        {"arch": BY_HAND.replace("8 * 1024", "depth_of_buffer")},
        "expected a number, found `depth_of_buffer`",
    ),
    "branch": (
        {
            "arch": BY_HAND.replace(
                "name: weights_spad\n", "name: weights_spad\n      spatial: {meshX: 2}\n"
            )
        },
        "a branch with a fan-out of its own",
    ),
    "two outputs": (
        {"problem": PROBLEM.replace("[[S]]]", "[[S]]]\n      read_write: true", 1)},
        "one data space is written here, found: Weights, Outputs",
    ),
    "factors miss": ({"mapping": NEST.replace("P=2", "P=4")}, "the factors of P give 12"),
    "residual": ({"mapping": NEST.replace("S3 Q3", "'S3 Q=3,1'")}, "residual factors are not read"),
    "unknown target": ({"mapping": NEST.replace("column", "row")}, "has no `row`"),
    "no order": ({"mapping": NEST.replace("SQ}", "S}")}, "the permutation does not place Q"),
    "mapping alone": ({"arch": "", "ert": "", "problem": ""}, "needs its problem and its arch"),
    "table alone": ({"arch": "", "mapping": "", "problem": ""}, "a table of energies alone"),
    "twice": ({"mapping": NEST + PROBLEM}, "`problem` stands in two files"),
    "size": ({"problem": PROBLEM.replace("C: 4,", "")}, "dim C has no size"),
    "dim that is no dim": (
        {"problem": PROBLEM.replace("[[C]], [[M]]", "[[C]], [[X]]", 1)},
        "term `X` names no dim",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_refused_with_its_place(name: str) -> None:
    changed, message = WRONG[name]
    with pytest.raises(InputError, match=message) as caught:
        by_hand(**changed)
    assert all(problem.where is not None for problem in caught.value.problems)


def test_what_is_not_read_is_named() -> None:
    text = BY_HAND.replace("n_banks: 32", "n_banks: 32\n      nonsense: 3")
    text = text.replace("meshX: 14}", "meshX: 14}\n    constraints: {spatial: {split: 0}}")
    extra = "mapper: {algorithm: random}\nsparse_optimizations: {targets: []}\nodd: 1\n"
    problem = PROBLEM.replace("Hstride: 2}", "Hstride: 2, Wpad: 1, densities: {Inputs: 0.5}}")
    found = by_hand(arch=text + extra, problem=problem, ert="")
    said = "\n".join(f"{warning}" for warning in found.warnings)
    for words in (
        "nonsense: is not read",
        "constraint that is not read",
        "mapper: is not read",
        "sparse_optimizations: is not read: words and MACs are those of dense data",
        "odd: is not read",
        "Wpad: is not read",
        "densities: is not read",
        "no energies of `glb` are given: 0 pJ",
    ):
        assert words in said


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "with its aliases written out this has"),
        ("a: &a\n  b: *a\n", "an alias that contains itself|undefined alias"),
        ("problem: " + "[" * 60 + "]" * 60, "nested deeper"),
        ("problem: {[1, 2]: 3}", "stands as a key"),
        ("a: &a [1]\nproblem: {<<: *a}", "`<<` of a"),
        ("just text", "found a text"),
        ("a: 1\n---\nb: 1", "found 2 documents"),
        ("a: [1", "this is not YAML"),
    ],
)
def test_hostile_files_end_in_a_message(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_timeloop([Source("hostile.yaml", text)])


def test_the_written_files_are_yaml_without_tags(tmp_path: Path) -> None:
    chip, _ = apply_technology(load_hardware("eyeriss"))
    for text in write_timeloop(LAYER, chip, MAPPING).files.values():
        assert isinstance(yaml.safe_load(text), dict)
