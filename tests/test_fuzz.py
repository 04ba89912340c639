"""Whatever is fed to the parsers, the answer is a noun or an `InputError`, and no file is left."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_messages import CHIP, LAYER, MAPPING

from tilewright.cli.main import run
from tilewright.errors import InputError, Problem, Source
from tilewright.ir.files import parse_hardware, parse_network
from tilewright.ir.mapping import format_mapping, parse_mapping

CONV = """\
name: net
layers:
  - name: a
    repeat: 2
    conv2d: {in_channels: 8, out_channels: 8, kernel: [3, 3], stride: [2, 2], padding: [1, 1],
             in_height: 9, in_width: 9, groups: 2}
    bits: {W: 8, psum: 24}
"""
SNIPPETS = [
    "", "0", "-1", "1e999", ".nan", ".inf", "99999999999999999999", "[]", "{}", "[[[", "{{{", ": :",
    "null", "~", "!!python/object:os.system", "&a", "*a", "<<: *a", "\t", "\x00", "\x1b[31m", "é",
    "\u202e", "\ud7ff", "\U0001f600", "'", '"', "|", ">", "---", "...", "#", "%", "@", "`",
    "K" * 300, "+=", "2P+", "*", "W[", "]", "@x", "| K4@x", "K0", "K18446744073709551616", "KiB",
    "1 words",
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    """A valid text with pieces cut out, doubled, or replaced by trouble."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 12)))
        middle = draw(
            st.sampled_from(SNIPPETS) | st.text(max_size=6) | st.just(text[start:stop] * 2)
        )
        text = text[:start] + middle + text[stop:]
    return text


def answers(parse: Callable[[Source], object], text: str) -> None:
    """Parsing ends, soon, with a noun or with problems that can be shown."""
    began = time.monotonic()
    problems: tuple[Problem, ...] = ()
    try:
        parse(Source("fuzz.yaml", text))
    except InputError as error:
        problems = error.problems or (Problem("\x1b refused without a reason"),)
    assert not any("\x1b" in str(problem) for problem in problems)
    json.dumps([problem.to_json() for problem in problems])
    assert time.monotonic() - began < 5


def parse_text(source: Source) -> None:
    mapping = parse_mapping(source.text)
    assert parse_mapping(format_mapping(mapping)) == mapping


@settings(max_examples=600)
@given(damaged(LAYER) | damaged(CONV) | st.text(max_size=200))
def test_workloads(text: str) -> None:
    answers(parse_network, text)


@settings(max_examples=600)
@given(damaged(CHIP) | st.text(max_size=200))
def test_hardware(text: str) -> None:
    answers(parse_hardware, text)


@settings(max_examples=600)
@given(damaged(MAPPING) | st.text(max_size=200))
def test_mappings(text: str) -> None:
    answers(parse_text, text)


@settings(max_examples=60)
@given(damaged(LAYER), damaged(CHIP), damaged(MAPPING))
def test_the_program(
    tmp_path_factory: pytest.TempPathFactory, layer: str, chip: str, mapping: str
) -> None:
    """Whole commands on damaged files: an answer or exit code 1 or 2, and nothing written."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "layer.yaml").write_text(layer, encoding="utf-8", errors="surrogatepass")
    (folder / "chip.yaml").write_text(chip, encoding="utf-8", errors="surrogatepass")
    (folder / "mapping.txt").write_text(mapping, encoding="utf-8", errors="surrogatepass")
    before = {path.name for path in folder.iterdir()}
    files = [str(folder / name) for name in ("layer.yaml", "chip.yaml", "mapping.txt")]
    assert run(["show", *files, "--svg", str(folder / "nest.svg")]) in (0, 1, 2)
    after = {path.name for path in folder.iterdir()} - before
    assert after <= {"nest.svg"}


@pytest.mark.parametrize("size", [10, 1000, 100_000])
def test_long_inputs_end(size: int) -> None:
    answers(parse_text, "DRAM[W]: " + "K2 " * size)
    answers(parse_network, f"einsum: O[{'+'.join(['P'] * size)}] += I[P]\nsizes: {{P: 3}}")
    answers(parse_hardware, "levels:\n" + "  - {memory: M, capacity: 1B}\n" * min(size, 2000))


def test_no_yaml_bomb(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(rows))
    assert run(["show", str(path)]) == 2
