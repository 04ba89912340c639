"""Files of ZigZag and AccelForge in, our own files out, and the verbs `import` and `export`."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from strategies import Triple, triples
from test_timeloop_files import BY_HAND, ERT, NEST, PROBLEM

from tilewright import zoo
from tilewright.cli.main import run
from tilewright.errors import InputError, Source
from tilewright.frontend.accelforge import read_accelforge
from tilewright.frontend.zigzag import read_zigzag_hardware, read_zigzag_workload
from tilewright.ir.files import parse_hardware, parse_network
from tilewright.ir.workload import Layer, Network, conv2d
from tilewright.ir.write import format_hardware, format_network
from tilewright.model.evaluate import evaluate

Json = dict[str, Any]

ZIGZAG_CHIP = """
name: array
memories:
  rf_w:
    size: 1024
    r_cost: 0.1
    w_cost: 0.2
    area: 0
    latency: 1
    operands: [I2]
    ports:
      - {name: r_port_1, type: read, bandwidth_min: 8, bandwidth_max: 8, allocation: ["I2, tl"]}
      - {name: w_port_1, type: write, bandwidth_min: 8, bandwidth_max: 16, allocation: ["I2, fh"]}
    served_dimensions: []
  rf_o:
    size: 32
    r_cost: 0.02
    w_cost: 0.02
    latency: 1
    operands: [O]
    ports:
      - {name: r_port_1, type: read, bandwidth_min: 16, bandwidth_max: 16, allocation: ["O, tl"]}
      - {name: r_port_2, type: read, bandwidth_min: 16, bandwidth_max: 16, allocation: ["O, th"]}
      - {name: w_port_1, type: write, bandwidth_min: 16, bandwidth_max: 16, allocation: ["O, fh"]}
    served_dimensions: []
  sram:
    size: 65536
    r_cost: 40
    w_cost: 30
    latency: 2
    operands: [I1, O]
    force_double_buffering: true
    ports:
      - {name: rw_port_1, type: read_write, bandwidth_min: 64, bandwidth_max: 128, allocation: []}
    served_dimensions: [D1, D2]
  dram:
    size: 10000000000
    r_cost: 700
    w_cost: 750
    latency: 1
    operands: [I1, I2, O]
    ports:
      - {name: rw_port_1, type: read_write, bandwidth_min: 64, bandwidth_max: 64, allocation: []}
    served_dimensions: [D1, D2]
operational_array:
  unit_energy: 0.04
  unit_area: 1
  dimensions: [D1, D2]
  sizes: [8, 4]
"""


def test_an_accelerator_of_zigzag() -> None:
    found = read_zigzag_hardware(Source("array.yaml", ZIGZAG_CHIP))
    chip = found.hardware
    assert chip is not None
    assert [level.memory for level in chip.levels] == ["dram", "sram", "rf_o", "rf_w"]
    dram, sram, rf_o, rf_w = chip.levels
    assert (dram.keeps, sram.keeps, rf_o.keeps, rf_w.keeps) == (None, {"I", "O"}, {"O"}, {"W"})
    assert (sram.fanout.x, sram.fanout.y, chip.mac_units) == (8, 4, 32)
    assert sram.usable_bits() == 32768  # half of it, double-buffered
    # An access of 128 bits costs 40 pJ to read: so does a word of 128 bits here.
    assert (sram.word_bits, sram.read_pj, sram.bandwidth) == (128, 40.0, 1.0)
    # Two read ports of 16 bits: two words a cycle, at the price of one port's access.
    assert (rf_o.word_bits, rf_o.read_bandwidth, rf_o.write_bandwidth) == (16, 2.0, 1.0)
    # A write moves 16 bits for 0.2 pJ, so that a word of 8 bits costs half of it.
    assert (rf_w.word_bits, rf_w.write_pj, rf_w.write_bandwidth) == (8, 0.1, 2.0)
    assert chip.compute.pj == 0.04
    said = "\n".join(map(str, found.warnings))
    for words in ("bandwidth_min: is not read", "sram.latency: is not read", "unit_area"):
        assert words in said


WRONG_CHIPS = {
    "in-memory compute": (("unit_energy: 0.04", "is_imc: true"), "in-memory compute cannot be"),
    "no chain": (
        ("served_dimensions: []", "served_dimensions: [D1]"),
        "serve the array in different ways",
    ),
    "not all operands": (("operands: [I1, I2, O]", "operands: [I1, O]"), "does not keep every"),
    "unknown operand": (("operands: [I2]", "operands: [I3]"), "operand `I3`"),
    "unknown dimension": (("served_dimensions: [D1, D2]", "served_dimensions: [D1, D2, D9]"), "D9"),
    "no size": (("size: 65536", "sizes: 65536"), "a memory needs `size`"),
}


@pytest.mark.parametrize("name", WRONG_CHIPS)
def test_what_is_no_chain_of_levels_is_refused(name: str) -> None:
    (old, new), message = WRONG_CHIPS[name]
    with pytest.raises(InputError, match=message):
        read_zigzag_hardware(Source("array.yaml", ZIGZAG_CHIP.replace(old, new, 1)))


ZIGZAG_NET = """
- id: 0
  operator_type: Conv
  equation: O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]
  dimension_relations: [ix=2*ox+1*fx, iy=2*oy+1*fy]
  loop_dims: [B, K, C, OY, OX, FY, FX]
  loop_sizes: [1, 64, 3, 112, 112, 7, 7]
  pr_loop_dims: [IY, IX]
  pr_loop_sizes: [224, 224]
  padding: [[3, 2], [3, 2]]
  operand_precision: {W: 8, I: 8, O: 16, O_final: 8}
  operand_source: {I: 0, W: 0}
- id: 1
  operator_type: Pooling
  equation: O[b][g][oy][ox]+=W[fx][fy]*I[b][g][iy][ix]
  dimension_relations: [ix=2*ox+1*fx, iy=2*oy+1*fy]
  loop_dims: [B, G, OY, OX, FX, FY]
  loop_sizes: [1, 64, 56, 56, 3, 3]
  operand_precision: {I: 8, W: 0, O: 16, O_final: 8}
  operand_source: {I: 0, W: 1}
- id: 2
  operator_type: Add
  equation: O[b][g][oy][ox]=W[b][g][oy][ox]+I[b][g][oy][ox]
  loop_dims: [B, G, OY, OX]
  loop_sizes: [1, 64, 56, 56]
  operand_precision: {W: 8, I: 8, O: 16, O_final: 8}
- id: 3
  name: fc
  operator_type: Gemm
  equation: O[b][k]+=W[k][c]*I[b][c]
  loop_dims: [B, K, C]
  loop_sizes: [1, 1000, 512]
  operand_precision: {W: 8, I: 8, O: 16, O_final: 8}
"""


def test_a_workload_of_zigzag() -> None:
    found = read_zigzag_workload(Source("net.yaml", ZIGZAG_NET)).network
    assert found is not None
    conv, pool, fc = (layer.workload for layer in found.layers)
    ours = conv2d(
        "layer0",
        K=64,
        C=3,
        R=7,
        S=7,
        stride=2,
        padding=(3, 3, 2, 2),
        in_height=224,
        in_width=224,
        bits={"W": 8, "I": 8, "O": 8, "psum": 16},
    )
    assert conv.einsum == ours.einsum
    assert conv.sizes == ours.sizes
    assert conv.operand("I").ranks == ours.operand("I").ranks
    assert (conv.output.bits, conv.psum_bits) == (8, 16)
    assert conv.macs == 64 * 3 * 112 * 112 * 49
    assert pool.einsum == "O[N,G,P,Q] += I[N,G,2P+R,2Q+S]"
    assert not pool.multiplies
    assert (fc.name, fc.einsum, fc.macs) == ("fc", "O[N,K] += W[K,C] * I[N,C]", 512_000)
    assert found.not_costed == (("Add", 1),)
    again = parse_network(Source("net.yaml", format_network(found)))
    assert again.layers == found.layers


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ix=2*ox+1*fx", "ix=2*ox-fx", "relation `ix=2"),
        ("[1, 64, 3, 112, 112, 7, 7]", "[1, 64, 3]", "7 loop dims have 3 sizes"),
        ("I[b][c][iy][ix]\n  dim", "I[b][c][iy][iz]\n  dim", "`iz` is no loop dim"),
        ("equation: O[b][k]+=W[k][c]*I[b][c]", "equation: nothing", "names no operands"),
        ("loop_sizes: [1, 1000, 512]", "loop_sizes: [1, -4, 512]", "at least 1, found -4"),
        ("operand_precision: {W", "precision: {W", "a layer needs equation"),
    ],
)
def test_a_wrong_workload_of_zigzag_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_zigzag_workload(Source("net.yaml", ZIGZAG_NET.replace(old, new, 1)))


ACCELFORGE = """
workload:
  rank_sizes:
    {% set BATCH = BATCH | default(2) %}
    B: {{BATCH}}
    M: 4 * 16
    N0: 32
    N1: 48
    H: 30
  bits_per_value: {All: 8}
  einsums:
  - name: Product
    tensor_accesses:
    - {name: T0, projection: [b, m, n0]}
    - {name: W0, projection: [n0, n1], bits_per_value: 4}
    - {name: T1, projection: [b, m, n1], output: True}
    renames: {input: T0}
  - einsum: "QK[b, m, p] = T1[b, m, n1] * T1b[b, M: p, n1]"
    iteration_space_shape: [0 <= p < 64]
  - einsum: "C0[p0, k] = I0[c, H: p0 * 2 + r0] * W1[k, c, r0]"
    iteration_space_shape: [0 <= p0 < 15, 0 <= r0 < 3, 0 <= c < 3, 0 <= k < 8]
  - einsum: "S[b, m] = T1[b, m, n1]"
  - einsum: "T[b, m] = S[b, m]"
    is_copy_operation: True
  - "E[b, m] = S[b, m] + T[b, m]"
  - "F[b, m] = S[b, m]"
renames: {einsums: []}
"""


def test_a_workload_of_accelforge() -> None:
    found = read_accelforge(Source("net.yaml", ACCELFORGE))
    network = found.network
    assert network is not None
    product, scores, conv, total = (layer.workload for layer in network.layers)
    assert product.einsum == "T1[B,M,N_b] += T0[B,M,N_a] * W0[N_a,N_b]"
    assert product.macs == 2 * 64 * 32 * 48
    assert {operand.name: operand.bits for operand in product.operands} == {
        "T0": 8,
        "W0": 4,
        "T1": 8,
    }
    assert scores.einsum == "QK[B,M,P] += T1[B,M,N] * T1b[B,P,N]"
    assert scores.macs == 2 * 64 * 64 * 48
    assert conv.einsum == "C0[P,K] += I0[C,2P+R] * W1[K,C,R]"
    assert conv.macs == 15 * 8 * 3 * 3
    assert total.einsum == "S[B,M] += T1[B,M,N]"
    assert network.not_costed == (("Add", 1), ("Copy", 1), ("Elementwise", 1))
    said = "\n".join(map(str, found.warnings))
    assert "BATCH is 2, its default" in said
    assert "I0[H: p0 * 2 + r0] reaches 31 of 30 coordinates" in said
    again = read_accelforge(Source("net.yaml", ACCELFORGE), {"BATCH": "5"}).network
    assert again is not None
    assert again.layers[0].workload.macs == 5 * 64 * 32 * 48


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{% set BATCH = BATCH | default(2) %}", "", "the template's `BATCH` has no value"),
        ("renames:", "{% for i in x %}\nrenames:", "this is a template"),
        ("0 <= p < 64", "1 <= p < 64", "is no range from 0"),
        ("N1: 48", "N9: 48", "has no size"),
        ("p0 * 2 + r0", "p0 * 2 - r0", "is no sum of rank variables"),
        (", output: True", "", "one tensor is the output"),
        ('"F[b, m] = S[b, m]"', '"F[b, m]"', "is no einsum"),
        ("M: 4 * 16", "M: 4 ** 99", "expected a number, found `4 \\*\\* 99`"),
    ],
)
def test_a_wrong_workload_of_accelforge_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_accelforge(Source("net.yaml", ACCELFORGE.replace(old, new, 1)))


def text_of(network: Network) -> str | None:
    """The file, or nothing if there is padding that no file can say."""
    try:
        return format_network(network)
    except InputError:
        return None


@given(triples())
def test_our_own_files_read_back(triple: Triple) -> None:
    text = format_hardware(triple.hardware)
    assert parse_hardware(Source("chip.yaml", text)) == triple.hardware
    network = Network("net", (Layer(triple.workload),))
    text = text_of(network)
    if text is None:
        ranks = [rank for operand in triple.workload.operands for rank in operand.ranks]
        assert any(rank.data is not None for rank in ranks)
        return
    again = parse_network(Source("net.yaml", text)).layers
    assert [layer.workload for layer in again] == [triple.workload]


@pytest.mark.parametrize("name", zoo.hardware_names())
def test_chips_of_the_zoo_read_back(name: str) -> None:
    chip = zoo.load_hardware(name)
    assert parse_hardware(Source("chip.yaml", format_hardware(chip))) == chip


@pytest.mark.parametrize("name", zoo.network_names())
def test_networks_of_the_zoo_read_back(name: str) -> None:
    network = zoo.load_network(name)
    again = parse_network(Source("net.yaml", format_network(network)))
    assert again.layers == network.layers


def test_import_writes_our_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {"arch": BY_HAND, "problem": PROBLEM, "ert": ERT, "mapping": NEST}
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    files = [str(tmp_path / f"{name}.yaml") for name in texts]
    out = tmp_path / "out"
    assert run(["import", *files, "--out", str(out), "--json"]) == 0
    found: Json = json.loads(capsys.readouterr().out)
    assert found["tool"] == "timeloop"
    assert set(found["files"]) == {"chip.yaml", "layer.yaml", "mapping.txt"}
    ours = [str(out / name) for name in ("layer.yaml", "chip.yaml", "mapping.txt")]
    assert run(["evaluate", *ours, "--convention", "timeloop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["macs"] == 10368


def test_export_and_import_price_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mapping = "DRAM[W I O]: K4 P2 C4\nGLB[I O]: C8 Q28 | K4@y R3@y P14@x\nRF[W I O]: C2 K8 S3"
    nouns = ["resnet18:layer2.0.conv1", "eyeriss", mapping]
    assert run(["export", *nouns, "--to", "timeloop", "--out", str(tmp_path), "--json"]) == 0
    found: Json = json.loads(capsys.readouterr().out)
    assert set(found["files"]) == {"arch.yaml", "problem.yaml", "mapping.yaml"}
    assert any("padding is not written" in warning for warning in found["warnings"])
    files = [str(tmp_path / name) for name in found["files"]]
    assert run(["import", *files, "--out", str(tmp_path)]) == 0
    ours = [str(tmp_path / name) for name in ("layer.yaml", "chip.yaml", "mapping.txt")]
    capsys.readouterr()
    assert run(["evaluate", *ours, "--convention", "timeloop", "--json"]) == 0
    theirs = json.loads(capsys.readouterr().out)
    assert run(["evaluate", *nouns, "--convention", "timeloop", "--json"]) == 0
    own = json.loads(capsys.readouterr().out)
    assert theirs["energy_pj"] == pytest.approx(own["energy_pj"])
    assert theirs["cycles"] == own["cycles"]


def test_nothing_is_written_of_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "arch.yaml").write_text(BY_HAND)
    (tmp_path / "problem.yaml").write_text(PROBLEM.replace("C: 4,", ""))
    files = [str(tmp_path / "arch.yaml"), str(tmp_path / "problem.yaml")]
    assert run(["import", *files, "--out", str(tmp_path / "out")]) == 2
    assert "dim C has no size" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    uneven = "DRAM[W I O]: K128 C64 P28 Q28 R3 S3\nGLB[I]:\nGLB[O]:\nRF[W]:"
    nouns = ["resnet18:layer2.0.conv1", "eyeriss", uneven]
    assert run(["export", *nouns, "--out", str(tmp_path / "out")]) == 2
    assert "GLB heads 2 blocks" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_import_of_strangers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("hello: 1\n")
    (tmp_path / "b.yaml").write_text(ZIGZAG_NET)
    (tmp_path / "c.yaml").write_text(ZIGZAG_CHIP)
    assert run(["import", str(tmp_path / "a.yaml")]) == 2
    assert "no file of Timeloop, Accelergy, ZigZag or AccelForge" in capsys.readouterr().err
    both = [str(tmp_path / "b.yaml"), str(tmp_path / "c.yaml")]
    assert run(["import", *both]) == 2
    assert "import them one by one" in capsys.readouterr().err
    assert run(["import", both[0]]) == 0
    shown = capsys.readouterr().out
    assert parse_network(Source("net.yaml", shown)).macs == 64 * 3 * 112 * 112 * 49 + 512_000
    assert run(["import", both[1], "--set", "x"]) == 2
    assert "expected a name and a value" in capsys.readouterr().err
    assert run(["export", "resnet18:conv1", "eyeriss", "--to", "timelop"]) == 2
    assert "did you mean `timeloop`?" in capsys.readouterr().err


def test_an_energy_table_is_put_into_a_chip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ert.yaml").write_text(ERT.replace("glb", "GLB"))
    assert run(["import", str(tmp_path / "ert.yaml"), "--hardware", "eyeriss"]) == 0
    printed = capsys.readouterr()
    chip = parse_hardware(Source("chip.yaml", printed.out))
    assert chip.levels[1].read_pj == 18.5
    assert "has no energies of RF: they stay as they are" in printed.err


def test_imported_chips_are_priced() -> None:
    chip = read_zigzag_hardware(Source("array.yaml", ZIGZAG_CHIP)).hardware
    assert chip is not None
    layer = conv2d("l", K=8, C=4, P=4, Q=4, bits={"W": 8, "I": 8, "O": 16})
    nest = "dram[W I O]:\nsram[I O]: P4 Q4 | K8@x C4@y\nrf_o[O]:\nrf_w[W]:"
    cost = evaluate(layer, chip, nest)
    # 64 inputs of 8 bits leave the DRAM in words of 64 bits at 700 pJ.
    assert cost.levels[0].operands["I"].energy_pj == 64 * 8 / 64 * 700
