"""What the README shows is what the program prints."""

import re
import shlex
from pathlib import Path

import pytest

from tilewright.cli.main import run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def consoles(page: str = README) -> list[tuple[str, str]]:
    """Every `tilewright` command of a page that stands with its output."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        command, _, output = _split(block)
        if command.startswith("tilewright ") and output.strip() and "$ " not in output:
            found.append((command, output))
    return found


def _split(block: str) -> tuple[str, str, str]:
    """The command may go on over lines while a quote is open."""
    text = block.removeprefix("$ ")
    lines = text.split("\n")
    for count in range(1, len(lines)):
        command = "\n".join(lines[:count])
        if command.count('"') % 2 == 0:
            return command, "", "\n".join(lines[count:])
    return text, "", ""


@pytest.mark.parametrize(("command", "output"), consoles())
def test_commands_print_what_the_readme_shows(
    command: str,
    output: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    assert run(shlex.split(command)[1:]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.strip().split("\n")]
    assert printed == output.strip().split("\n")


def test_there_are_commands_to_check() -> None:
    assert len(consoles()) >= 2


@pytest.mark.parametrize("name", ["my-layer.yaml", "my-chip.yaml"])
def test_the_files_shown_are_the_examples(name: str) -> None:
    assert (ROOT / "examples" / name).read_text("utf-8").strip() in README


def test_the_python_shown_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    head = code.split("best = ")[0]
    scope: dict[str, object] = {}
    exec(head + "reads = cost.counts['GLB', 'I'].reads", scope)
    assert f"{scope['reads']}, an exact integer" in code


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
