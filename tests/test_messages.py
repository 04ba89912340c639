"""What a user reads when something is wrong: every message whole, as it is printed."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tilewright.cli.main import run

Golden = Callable[[str, str], None]

LAYER = """\
name: small
einsum: "O[K,P] += W[K,C,R] * I[C,2P+R]"
sizes: {K: 8, C: 4, P: 6, R: 3}
"""
CHIP = """\
name: toy
levels:
  - memory: DRAM
    read_pj: 200
    write_pj: 200
  - memory: GLB
    capacity: 1KiB
    read_pj: 6
    write_pj: 6
    fanout: {x: 4}
  - memory: RF
    capacity: 32B
    read_pj: 1
    write_pj: 1
compute: {name: MAC, pj: 1}
"""
MAPPING = "DRAM[W I O]: K2 P3\nGLB[I O]: C4 | K4@x\nRF[W I O]: P2 R3"

WRONG_LAYERS = {
    "unknown-key": LAYER.replace("sizes:", "size:"),
    "zero-size": LAYER.replace("C: 4", "C: 0"),
    "negative-size": LAYER.replace("P: 6", "P: -6"),
    "nan-size": LAYER.replace("P: 6", "P: .nan"),
    "no-arrow": LAYER.replace("+=", "="),
    "bad-rank": LAYER.replace("2P+R", "2P-R"),
    "dim-without-size": LAYER.replace("R: 3", "S: 3"),
    "dim-in-two-ranks": LAYER.replace("W[K,C,R]", "W[K,C,K+R]"),
    "operand-twice": LAYER.replace("I[C,2P+R]", "W[C,2P+R]"),
    "key-twice": LAYER + "name: again\n",
    "both-forms": LAYER + "conv2d: {in_channels: 3, out_channels: 8, kernel: [3, 3]}\n",
    "neither-form": "name: nothing\n",
    "bad-groups": "conv2d: {in_channels: 6, out_channels: 8, kernel: [1, 1], out_height: 4, "
    "out_width: 4, groups: 4}\n",
    "contradiction": "conv2d: {in_channels: 6, out_channels: 8, kernel: [3, 3], out_height: 4, "
    "in_height: 4, out_width: 4}\n",
    "filter-too-large": "conv2d: {in_channels: 6, out_channels: 8, kernel: [9, 3], in_height: 4, "
    "in_width: 4}\n",
    "missing-fields": "conv2d: {in_channels: 6}\n",
    "wrong-bits": LAYER + "bits: {X: 8, W: 0}\n",
    "all-at-once": LAYER.replace("K: 8, C: 4", "K: zero, C: 0").replace("name", "nmae"),
    "not-yaml": "name: [1, 2\n",
    "a-list": "- 1\n- 2\n",
    "empty": "",
    "anchors": "name: &a x\nlayers: [*a, *a]\n",
    "too-deep": "a: " + "[" * 40 + "]" * 40,
    "version": "version: 9\n" + LAYER,
    "control-characters": LAYER.replace("small", '"sm\\x1b[31mall"').replace("sizes", '"\\e[1m"'),
}

WRONG_CHIPS = {
    "unknown-key": CHIP.replace("fanout:", "fanot:"),
    "nan-energy": CHIP.replace("read_pj: 6", "read_pj: .nan"),
    "infinite-energy": CHIP.replace("read_pj: 6", "read_pj: inf"),
    "negative-energy": CHIP.replace("write_pj: 200", "write_pj: -1"),
    "capacity-holds-nothing": CHIP.replace("1KiB", "0 words"),
    "double-buffer-holds-nothing": CHIP.replace("capacity: 32B", "capacity: 1words").replace(
        "  - memory: RF", "  - memory: RF\n    word_bits: 1\n    double_buffered: true"
    ),
    "unknown-unit": CHIP.replace("1KiB", "1KB"),
    "no-capacity": CHIP.replace("1KiB", "lots"),
    "zero-fanout": CHIP.replace("{x: 4}", "{x: 0}"),
    "zero-bandwidth": CHIP.replace("capacity: 32B", "capacity: 32B\n    bandwidth: 0"),
    "two-kinds-of-port": CHIP.replace("32B", "32B\n    bandwidth: 1\n    read_bandwidth: 1"),
    "memory-twice": CHIP.replace("memory: RF", "memory: GLB"),
    "bad-name": CHIP.replace("memory: GLB", "memory: G [B]"),
    "huge-fanout": CHIP.replace("{x: 4}", "{x: 1000000}"),
    "no-levels": "name: nothing\n",
    "outermost-keeps": CHIP.replace("memory: DRAM", "memory: DRAM\n    keeps: [W]"),
    "no-name": CHIP.replace("memory: RF", "mem: RF"),
    "zero-clock": CHIP + "clock_ghz: 0\n",
    "unknown-technology": CHIP.replace("capacity: 1KiB", "technology: yang2015"),
}

WRONG_MAPPINGS = {
    "misses-size": MAPPING.replace("K2", "K1"),
    "absent-axis": MAPPING.replace("K4@x", "K4@y"),
    "no-fanout": MAPPING.replace("P2 R3", "P2 | R3@x"),
    "kept-by-none": MAPPING.replace("DRAM[W I O]", "DRAM[W I]").replace("O]:", "]:"),
    "not-in-dram": MAPPING.replace("DRAM[W I O]", "DRAM[W I]"),
    "unknown-memory": MAPPING.replace("GLB", "GBL"),
    "unknown-operand": MAPPING.replace("[I O]", "[I X]"),
    "unknown-dim": MAPPING.replace("C4", "C4 Q2"),
    "zero-extent": MAPPING.replace("C4", "C0"),
    "order": "DRAM[W I O]: K8 P6 R3\nRF[W I O]: C4\nGLB[I O]:",
    "kept-twice": MAPPING + "\nRF[W]:",
    "not-spatial": MAPPING.replace("K4@x", "K4"),
    "not-temporal": MAPPING.replace("C4 |", "C4@x |"),
    "inside-out": "DRAM[W I O]: K2 P6\nGLB[I]: | K4@x\nGLB[O]: C4\nRF[W]: R3",
    "no-colon": "DRAM[W I O] K2",
    "not-a-loop": MAPPING.replace("C4", "4C"),
    "empty": "# nothing\n[",
    "missing-file": "no-such-mapping.txt",
}

NETWORK = """\
name: net
layers:
  - {name: first, einsum: "O[K,P] += W[K,C,R] * I[C,2P+R]", sizes: {K: 8, C: 4, P: 6, R: 3}}
  - {name: second, einsum: "O[K,P] += W[K,C,R] * I[C,P+R]", sizes: {K: 12, C: 8, P: 6, R: 1}}
  - {name: third, einsum: "O[K,N] += W[K,C] * I[C,N]", sizes: {K: 10, C: 8, N: 2}}
  - {name: sum, einsum: "O[K] += W[K,C]", sizes: {K: 10, C: 8}}
"""
ONLY_X = CHIP.replace("{x: 4}", "{x: 4, x_dims: [K]}")
WRONG_FIXES = {
    "unknown-names": "GBL: K4\nRF[X]: Q4\nRF: | M2@x",
    "not-a-loop": "GLB: 4C K4@x | K4 K@\nRF[W, I]:\nno colon",
    "empty": "# nothing\n\n",
    "misses-size": "GLB: K3 C4 | C2@x",
    "misses-size-together": "DRAM: K4\nRF: K4",
    "larger-than-size": "GLB: P20",
    "misses-what-is-left": "DRAM: K2\nGLB: K1 | C@x\nRF: K2",
    "out-of-order": "RF: K2\nGLB: P3\nDRAM: C4",
    "two-blocks": "GLB[I]: P3\nGLB: C4",
    "twice": "GLB: K2 C K | P2@x P@x",
    "axis": "GLB: | K@y C2@x K@x\nRF: | P2@x",
    "keeps": "DRAM[W]: K4\nGLB[I I]:",
    "neither": "no-such-fix.txt",
}
WRONG_FIXES_OF_NETWORKS = {
    "misses-sizes": "GLB: K4 C8",
    "missing-dims": "GLB: P2 | R@x P@x",
    "missing-operand": "GLB[I O]: K",
    "unknown-dim": "GLB: X2 K | X@x",
}
UNFIT_FIXES = {
    "capacity": "GLB[I O]: C2\nRF[W O]: K8 P6",
    "axis": "GLB: | K8@x",
    "left-over": "DRAM: K1 C1\nGLB: K1 C1\nRF: K1 C1",
    "combination": "DRAM: K1 P1\nGLB[I O]: K1\nRF[W I O]: P6",
}

TOO_LARGE = {
    "capacity": MAPPING.replace("GLB[I O]: C4", "GLB[I O]:").replace("P2 R3", "C4 P2 R3"),
    "axis": "DRAM[W I O]: P3\nGLB[I O]: C4 | K8@x\nRF[W I O]: P2 R3",
}


def message(capsys: pytest.CaptureFixture[str], tmp_path: Path, code: int, *arguments: str) -> str:
    """What a command prints on stderr; its exit code must be `code`, its stdout empty."""
    assert run(list(arguments)) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    return printed.err.replace(str(tmp_path) + "/", "")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "layer.yaml").write_text(LAYER)
    (tmp_path / "chip.yaml").write_text(CHIP)
    return tmp_path


@pytest.mark.parametrize("case", WRONG_LAYERS)
def test_wrong_layer(
    case: str, files: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    path = files / "layer.yaml"
    path.write_text(WRONG_LAYERS[case])
    golden(f"layer/{case}.txt", message(capsys, files, 2, "show", str(path)))


@pytest.mark.parametrize("case", WRONG_CHIPS)
def test_wrong_chip(
    case: str, files: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    path = files / "chip.yaml"
    path.write_text(WRONG_CHIPS[case])
    layer = str(files / "layer.yaml")
    golden(f"chip/{case}.txt", message(capsys, files, 2, "evaluate", layer, str(path), MAPPING))


@pytest.mark.parametrize("case", WRONG_MAPPINGS)
def test_wrong_mapping(
    case: str, files: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    nouns = [str(files / "layer.yaml"), str(files / "chip.yaml"), WRONG_MAPPINGS[case]]
    golden(f"mapping/{case}.txt", message(capsys, files, 2, "evaluate", *nouns))


@pytest.mark.parametrize("case", WRONG_FIXES)
def test_wrong_fix(
    case: str, files: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    (files / "chip.yaml").write_text(ONLY_X if case == "axis" else CHIP)
    nouns = [str(files / "layer.yaml"), str(files / "chip.yaml"), "--fix", WRONG_FIXES[case]]
    golden(f"fix/{case}.txt", message(capsys, files, 2, "map", *nouns))


@pytest.mark.parametrize("case", WRONG_FIXES_OF_NETWORKS)
def test_wrong_fix_of_a_network(
    case: str, files: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    (files / "net.yaml").write_text(NETWORK)
    fix = WRONG_FIXES_OF_NETWORKS[case]
    nouns = [str(files / "net.yaml"), str(files / "chip.yaml"), "--fix", fix]
    golden(f"fix/net-{case}.txt", message(capsys, files, 2, "map", *nouns))


@pytest.mark.parametrize(
    ("flag", "fix"),
    [("--uneven", "GLB[I]: K2\nGLB: C3\nRF: P2"), ("--imperfect", "GLB: K20\nRF: P7 C4")],
)
def test_wrong_fix_of_other_mapspaces(
    flag: str, fix: str, files: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    nouns = [str(files / "layer.yaml"), str(files / "chip.yaml"), "--fix", fix, flag]
    golden(f"fix/{flag.strip('-')}.txt", message(capsys, files, 2, "map", *nouns))


@pytest.mark.parametrize("case", UNFIT_FIXES)
def test_fix_that_does_not_fit(
    case: str, files: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    nouns = [str(files / "layer.yaml"), str(files / "chip.yaml"), "--fix", UNFIT_FIXES[case]]
    assert run(["map", *nouns, "--jobs", "1"]) == 1
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if "cannot be mapped" in line]
    golden(f"fix/unfit-{case}.txt", "\n".join(line.strip() for line in lines) + "\n")


@pytest.mark.parametrize("case", TOO_LARGE)
def test_does_not_fit(
    case: str, files: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    nouns = [str(files / "layer.yaml"), str(files / "chip.yaml"), TOO_LARGE[case]]
    golden(f"fit/{case}.txt", message(capsys, files, 1, "evaluate", *nouns))


WRONG_COMMANDS = {
    "unknown-network": ["show", "resnet81"],
    "unknown-layer": ["show", "vgg16:conv3_9"],
    "unknown-chip": ["map", "resnet18", "eyeris"],
    "missing-file": ["show", "nothing.yaml"],
    "missing-onnx": ["show", "nothing.onnx"],
    "several-layers": ["evaluate", "resnet18", "eyeriss", "DRAM[W I O]: K2"],
    "unknown-convention": [
        "evaluate",
        "vgg16:conv1_1",
        "eyeriss",
        "DRAM[W]: K2",
        "--convention=idea",
    ],
    "unknown-overlap": ["evaluate", "vgg16:conv1_1", "eyeriss", "DRAM[W]: K2", "--overlap=none"],
    "unknown-objective": ["map", "resnet18", "eyeriss", "--objective", "speed"],
    "bad-shape": ["show", "resnet18", "--shape", "x=a"],
    "svg-without-mapping": ["show", "resnet18", "--svg", "x.svg"],
    "chip-without-mapping": ["show", "vgg16:conv1_1", "eyeriss"],
    "unknown-entry": ["zoo", "eyeris"],
}


@pytest.mark.parametrize(
    "arguments", [["mapp"], ["show", "resnet18", "--jsn"], ["evaluate", "resnet18:conv1"]]
)
def test_usage(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The words are typer's own and change with its version."""
    printed = message(capsys, tmp_path, 2, *arguments)
    assert printed.startswith("error: ")
    assert printed.endswith("fix: see tilewright --help\n")


@pytest.mark.parametrize("case", WRONG_COMMANDS)
def test_wrong_command(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    golden(f"command/{case}.txt", message(capsys, tmp_path, 2, *WRONG_COMMANDS[case]))


def onnx_model(
    path: Path, shape: Sequence[int | str | None] | None, weights: Sequence[int]
) -> None:
    """A graph with one convolution, its input of the given shape."""
    from onnx import TensorProto, helper

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    kernel = helper.make_tensor_value_info("kernel", TensorProto.FLOAT, weights)
    node = helper.make_node("Conv", ["image", "kernel"], ["out"], name="conv")
    graph = helper.make_graph([node], "g", [image, kernel], [output])
    path.write_bytes(helper.make_model(graph).SerializeToString())


ONNX: dict[str, tuple[list[int | str | None] | None, list[int]]] = {
    "symbolic-batch": (["batch", 3, 8, 8], [4, 3, 3, 3]),
    "dynamic-shape": ([1, 3, "height", None], [4, 3, 3, 3]),
    "missing-shape": (None, [4, 3, 3, 3]),
    "filter-too-large": ([1, 3, 2, 2], [4, 3, 3, 3]),
}


@pytest.mark.parametrize("case", ONNX)
def test_onnx_graphs(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    path = tmp_path / "net.onnx"
    shape, weights = ONNX[case]
    onnx_model(path, shape, weights)
    golden(f"onnx/{case}.txt", message(capsys, tmp_path, 2, "show", str(path)))


@pytest.mark.parametrize("case", ["truncated", "no-onnx", "empty"])
def test_onnx_files(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    path = tmp_path / "net.onnx"
    onnx_model(path, [1, 3, 8, 8], [4, 3, 3, 3])
    whole = path.read_bytes()
    content = {"truncated": whole[: len(whole) * 2 // 3], "no-onnx": b"hello", "empty": b""}
    path.write_bytes(content[case])
    golden(f"onnx/{case}.txt", message(capsys, tmp_path, 2, "show", str(path)))


def test_binary_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], golden: Golden) -> None:
    path = tmp_path / "layer.yaml"
    path.write_bytes(bytes(range(256)))
    golden("file/binary.txt", message(capsys, tmp_path, 2, "show", str(path)))


def test_huge_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], golden: Golden) -> None:
    path = tmp_path / "layer.yaml"
    path.write_text("# " + "x" * 5_000_000)
    golden("file/huge.txt", message(capsys, tmp_path, 2, "show", str(path)))


def test_picture_that_cannot_be_written(
    files: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    nouns = [str(files / "layer.yaml"), str(files / "chip.yaml"), MAPPING]
    svg = str(files / "no" / "such" / "folder.svg")
    golden("file/unwritable.txt", message(capsys, files, 2, "show", *nouns, "--svg", svg))
