"""The documentation says what is there: formulas, commands, links, consoles, figures."""

import re
import runpy
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from experiments.concept_figures import DRAWN, FIGURES
from test_readme import consoles

import tilewright
from tilewright.cli.main import run

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MODEL = ROOT / "src" / "tilewright" / "model"
FORMULA = re.compile(r"^\*\*\((F\d+)\)\*\* `model/([a-z_]+\.py)`", re.MULTILINE)
CITED = re.compile(r"\((F\d+)\)")


def formulas() -> dict[str, str]:
    """The numbers of the page on formulas, and the file that each is said to be in."""
    return dict(FORMULA.findall((DOCS / "model-formulas.md").read_text("utf-8")))


def citations() -> dict[str, set[str]]:
    """The numbers that every file of the model cites."""
    files = MODEL.rglob("*.py")
    return {path.name: set(CITED.findall(path.read_text("utf-8"))) for path in files}


def uncited(numbered: dict[str, str], cited: dict[str, set[str]]) -> set[str]:
    return {number for number, file in numbered.items() if number not in cited.get(file, set())}


def unknown(numbered: dict[str, str], cited: dict[str, set[str]]) -> set[str]:
    return {number for numbers in cited.values() for number in numbers} - set(numbered)


def test_every_formula_is_cited_where_it_is_said_to_be() -> None:
    assert uncited(formulas(), citations()) == set()


def test_every_citation_is_of_a_formula() -> None:
    assert unknown(formulas(), citations()) == set()


def test_formulas_are_numbered_in_order_and_once() -> None:
    numbers = [int(number[1:]) for number, _ in FORMULA.findall(_formula_page())]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 30
    assert set(CITED.findall(_formula_page())) == set(formulas())


def _formula_page() -> str:
    return (DOCS / "model-formulas.md").read_text("utf-8")


def test_the_check_of_citations_sees_faults() -> None:
    numbered, cited = {"F1": "a.py", "F2": "b.py"}, {"a.py": {"F1", "F9"}, "b.py": set[str]()}
    assert uncited(numbered, cited) == {"F2"}
    assert unknown(numbered, cited) == {"F9"}
    assert uncited({"F1": "b.py"}, {"a.py": {"F1"}}) == {"F1"}, "cited, but in another file"


TOUR = [
    console
    for page in ("index.md", "concepts/mapping.md")
    for console in consoles((DOCS / page).read_text("utf-8"))
]


@pytest.mark.parametrize(("command", "output"), TOUR)
def test_commands_print_what_the_pages_show(
    command: str,
    output: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    assert run(shlex.split(command)[1:]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.strip().split("\n")]
    assert_shown(printed, output.strip().split("\n"))


def assert_shown(printed: list[str], shown: list[str]) -> None:
    """Whether what is shown was printed; a line ` ...` stands for any lines, times may differ."""
    rest = [_without_seconds(line) for line in printed]
    skipping = False
    for line in shown:
        if line.strip() == "...":
            skipping = True
            continue
        wanted = _without_seconds(line)
        while skipping and rest and rest[0] != wanted:
            rest.pop(0)
        assert rest, f"not printed: {line}"
        assert rest.pop(0) == wanted
        skipping = False
    assert skipping or not rest, f"printed, and not shown: {rest}"


def _without_seconds(line: str) -> str:
    return re.sub(r"\d+\.\d+ s\b", "… s", line)


def test_what_is_not_shown_is_seen() -> None:
    assert_shown(["a", "b", "c 1.0 s"], ["a", " ...", "c 2.5 s"])
    for shown in (["a", "c"], ["a", "..."[:0], "b"], ["a", "b"], ["b", " ..."], [" ...", "x"]):
        with pytest.raises(AssertionError):
            assert_shown(["a", "b", "c"], shown)


def test_the_tour_has_commands_to_check() -> None:
    assert len(TOUR) >= 4


def test_the_shell_can_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "--install-completion" in printed
    assert "--show-completion" in printed


LINK = re.compile(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)")
MADE_BY_THE_SITE = re.compile(r"(^|/)(reference/(commands|python)|notebooks/\d-[a-z-]+)\.md$")


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda p: str(p.name))
def test_links_lead_somewhere_in_the_repository(page: Path) -> None:
    """As a reader of the repository follows them; the site's own build checks them once more."""
    text = re.sub(r"^```.*?^```|`[^`\n]+`", "", page.read_text("utf-8"), flags=re.S | re.M)
    for target in LINK.findall(text):
        made = MADE_BY_THE_SITE.search(target)
        assert made or (page.parent / target).exists(), f"{page.name}: {target}"


def test_everything_public_is_in_the_reference() -> None:
    pytest.importorskip("mkdocs")
    page: str = runpy.run_path(str(DOCS / "hooks.py"))["python_reference"]()
    shown = set(re.findall(r"^::: tilewright\.(\w+)$", page, re.MULTILINE))
    assert shown == set(tilewright.__all__)


def test_links_out_of_the_documentation_are_turned() -> None:
    pytest.importorskip("mkdocs")
    turn = runpy.run_path(str(DOCS / "hooks.py"))["on_page_markdown"]
    page = SimpleNamespace(file=SimpleNamespace(src_uri="spec/formats.md"))
    text = "[a](../../benchmarks/CPU.md#x) [b](../fix.md) `[c](../../LICENSE)` [d](#here)"
    want = "[a](../benchmarks/CPU.md#x) [b](../fix.md) `[c](../../LICENSE)` [d](#here)"
    assert turn(text, page=page) == want
    page = SimpleNamespace(file=SimpleNamespace(src_uri="benchmarks/CPU.md"))
    assert turn("[e](../docs/fix.md)", page=page) == "[e](../fix.md)"


def test_docstrings_become_markdown() -> None:
    pytest.importorskip("griffe")
    turn = runpy.run_path(str(DOCS / "griffe_docstrings.py"))["as_markdown"]
    text = "One.\n\nReturns: a,\n    b.\n\n>>> [1 + 1]\n[2]"
    assert turn(text) == "One.\n\n**Returns:** a,\nb.\n\n```pycon\n>>> [1 + 1]\n[2]\n```"


@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_what_the_library_counts_and_proves(name: str) -> None:
    """If a figure moved, look at it, run `make figures`, and say so in CHANGELOG."""
    assert DRAWN[name]() + "\n" == (FIGURES / f"{name}.svg").read_text("utf-8")


ROW = re.compile(r"^\|.*\]\(([^)#]+)(?:#[^)]*)?\) \|$", re.MULTILINE)


def misquoted(claims: str, folder: Path) -> list[str]:
    """The bold numbers of a row that do not stand in the page that its last cell links to."""
    wrong: list[str] = []
    for row in ROW.finditer(claims):
        page = (folder / row[1]).read_text("utf-8")
        wrong += [n for n in re.findall(r"\*\*(.+?)\*\*", row[0]) if not _stands_in(page, n)]
    return wrong


def _stands_in(page: str, number: str) -> bool:
    return re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d]|[.,]\d)", page) is not None


def test_claims_quote_the_pages_that_they_link_to() -> None:
    claims = (DOCS / "claims.md").read_text("utf-8")
    assert len(ROW.findall(claims)) > 15
    assert misquoted(claims, DOCS) == []


def test_a_misquotation_is_seen(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("18.62 and 7,165")
    row = "| claim | **{}** | [page](page.md) |"
    assert misquoted(row.format("18.62"), tmp_path) == []
    for number in ("8.62", "18.6", "165", "18.63"):
        assert misquoted(row.format(number), tmp_path) == [number]
