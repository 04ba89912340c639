"""What the site has that no page under docs/ says: pages made from the code and from elsewhere.

Owns: the command reference (from `--help`), the index of the Python reference (from
`tilewright.__all__`), notebooks as pages, and files outside docs/ that pages link to. Links stay
written as a reader of the repository needs them (`../benchmarks/CPU.md`); here they are turned.

Non-goals: any text of its own beyond headings. MkDocs calls the `on_…` functions.
"""

import base64
import os
import posixpath
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
OUTSIDE = ("benchmarks/*.md", "benchmarks/data/README.md", "CONTRIBUTING.md", "CHANGELOG.md")
"""Pages of the site that lie outside docs/."""

ATTACHED = ("examples/*.yaml", "LICENSE")
"""Files that pages link to as they are."""

LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
_HELP_WIDTH = "96"


COMING = {
    "report.md": "Reports",
    "serve.md": "The explorer",
    "compare.md": "Comparing and explaining",
    "interchange.md": "Files of other tools",
}
"""Guides that the nav has where they exist."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put guides that exist, and that mkdocs.yml does not name, at the end of the guides."""
    guides = next(entry["Guides"] for entry in config.nav or [] if "Guides" in entry)
    named = {page for entry in guides for page in entry.values()}
    here = [page for page in COMING if (ROOT / "docs" / page).exists() and page not in named]
    guides += [{COMING[page]: page} for page in here]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made, and what lies outside docs/."""
    made = {
        "reference/commands.md": command_reference(),
        "reference/python.md": python_reference(),
        **{
            f"notebooks/{path.stem}.md": notebook_page(path)
            for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
        },
    }
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    for pattern in (*OUTSIDE, *ATTACHED):
        for path in sorted(ROOT.glob(pattern)):
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Turn links out of docs/ into links within the site; code is left as it is."""
    uri = page.file.src_uri
    home = posixpath.dirname(uri if _is_outside(uri) else f"docs/{uri}")

    def turn(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(home, match[2]))
        inside = target.removeprefix("docs/")
        if target.startswith("docs/") and not _is_outside(uri):
            return match[0]
        there = posixpath.relpath(inside, posixpath.dirname(uri) or ".")
        return f"{match[1]}{there}{match[3]}"

    parts = re.split(r"(^```.*?^```|`[^`\n]+`)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(
        part if number % 2 else LINK.sub(turn, part) for number, part in enumerate(parts)
    )


def _is_outside(uri: str) -> bool:
    return (ROOT / uri).exists() and not (ROOT / "docs" / uri).exists()


def command_reference() -> str:
    """Every command's `--help`, as the program prints it."""
    from tilewright.cli.main import app

    parts = [
        "# Commands\n",
        "What `tilewright COMMAND --help` prints. Results as JSON and exit codes: "
        "[Files, results, exit codes](../spec/formats.md).\n",
        "`tilewright --install-completion` teaches your shell (bash, zsh, fish, PowerShell) to "
        "complete commands and options; `tilewright --show-completion` prints what it would "
        "install, to copy it yourself.\n",
        _section("tilewright", ["--help"]),
    ]
    names = [command.name for command in app.registered_commands if command.name]
    parts += [_section(f"tilewright {name}", [name, "--help"]) for name in names]
    return "\n".join(parts)


def _section(title: str, arguments: list[str]) -> str:
    return f"## {title}\n\n```text\n{printed_help(arguments)}\n```\n"


def printed_help(arguments: list[str]) -> str:
    """What the program prints for `--help`."""
    from contextlib import redirect_stdout

    from tilewright.cli.main import run

    os.environ["TERMINAL_WIDTH"] = os.environ["COLUMNS"] = _HELP_WIDTH
    printed = StringIO()
    with redirect_stdout(printed):
        code = run(arguments)
    if code:
        raise RuntimeError(f"tilewright {' '.join(arguments)} left with {code}")
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


GROUPS = {
    "Workloads, chips, mappings": (
        "conv2d einsum load load_layer load_hardware load_mapping load_space parse_mapping "
        "format_mapping verify_mapping parse_fix format_fix parse_blocking format_blocking "
        "Workload Operand Network Layer Hardware Level Fanout Compute Mapping Block Loop Fix"
    ),
    "Counting and pricing": (
        "evaluate compare_with_walk dram_limit Cost Counts Tally DramLimit Convention CONVENTIONS"
    ),
    "Finding": (
        "find_mapping map_network map_on_cores spread_over_cores codesign LayerResult "
        "NetworkResult CoreStudy Objective Status Split Buffers Space Variable Field"
    ),
    "Programs": "compile compile_network cpu",
    "Built in": "zoo tech",
    "Errors": "TilewrightError InputError InfeasibleError MissingToolError Problem Violation",
}
"""Where each public name stands; names that are not listed stand at the end."""


def python_reference() -> str:
    """A page that shows everything in `tilewright.__all__`, by what it is for."""
    import tilewright

    groups = {title: names.split() for title, names in GROUPS.items()}
    listed = {name for names in groups.values() for name in names}
    groups["More"] = [name for name in tilewright.__all__ if name not in listed]
    parts = [
        "# Python\n",
        "Everything in `tilewright.__all__`. `import tilewright as tw` loads nothing heavy; what "
        "needs NumPy, Numba or JAX is loaded when it is used.\n",
    ]
    for title, names in groups.items():
        here = [name for name in names if name in tilewright.__all__]
        if here:
            parts.append(f"## {title}\n")
            parts += [f"::: tilewright.{name}\n" for name in here]
    return "\n".join(parts)


def notebook_page(path: Path) -> str:
    """A notebook as Markdown: its text, its code, and the output that it was kept with."""
    notebook: Any = nbformat.read(path, as_version=4)
    parts: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code" and cell.source.strip():
            parts.append(f"```python\n{cell.source}\n```")
            parts += _outputs(cell)
    parts.append(f"*This page is the notebook `docs/notebooks/{path.name}`; CI runs it.*")
    return "\n\n".join(parts) + "\n"


def _outputs(cell: Any) -> Iterator[str]:
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/svg+xml" in data:
            picture = base64.b64encode(data["image/svg+xml"].encode()).decode()
            alt = data.get("text/plain", "figure")
            label = re.search(r'aria-label="([^"]*)"', data["image/svg+xml"])
            yield f"![{label[1] if label else alt}](data:image/svg+xml;base64,{picture})"
            continue
        text = output.get("text") or data.get("text/plain", "")
        if text.strip():
            yield '```text title="prints"\n' + text.rstrip() + "\n```"
