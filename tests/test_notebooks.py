"""The notebooks run, and print what they are kept with. `make notebooks` keeps them anew."""

import copy
import os
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECONDS = 300
"""For all cells: a first run compiles the search for a minute or two."""

# Jupyter's own libraries warn about one another.
pytestmark = pytest.mark.filterwarnings("ignore")


def execute(notebook: Any) -> Any:
    """A copy of a notebook that has been run, its outputs tidied. A failed assertion is raised."""
    fresh = copy.deepcopy(notebook)
    client = nbclient.NotebookClient(
        fresh, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    client.execute()
    for cell in fresh.cells:
        if cell.cell_type == "code":
            tidy(cell)
    fresh.metadata = notebook.metadata
    return fresh


def tidy(cell: Any) -> None:
    """Leave of outputs what readers see: text and pictures; streams are joined."""
    cell.execution_count = None
    cell.metadata = {}
    kept: list[Any] = []
    for output in cell.outputs:
        assert output.output_type != "stream" or output.name == "stdout", output.text
        if kept and output.output_type == kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output if output.output_type == "stream" else _shown(output))
    cell.outputs = kept


def _shown(output: Any) -> Any:
    data = {kind: value for kind, value in output.data.items() if kind != "text/html"}
    return nbformat.v4.new_output("display_data", data=data)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_it_was_kept_with(
    path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = nbformat.read(path, as_version=4)
    done = execute(notebook)
    if request.config.getoption("--update-golden"):
        nbformat.write(done, path)
        return
    for cell, before in zip(done.cells, notebook.cells, strict=True):
        assert cell.get("outputs") == before.get("outputs"), before.source


def test_a_wrong_number_is_seen() -> None:
    cells = [nbformat.v4.new_code_cell("import tilewright as tw\nassert 1 + 1 == 3")]
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="AssertionError"):
        execute(nbformat.v4.new_notebook(cells=cells))


def test_there_are_five_and_none_names_a_machine() -> None:
    assert len(NOTEBOOKS) == 5
    for path in NOTEBOOKS:
        text = path.read_text("utf-8")
        assert "assert " in text
        for private in ("/home/", "/root/", "/tmp/", "Users\\\\", os.fspath(FOLDER)):
            assert private not in text, path.name
