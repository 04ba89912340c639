"""Pages in Chromium: every chart is drawn, every control works, nothing complains."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from browser_cases import DOCUMENTS, Json, codesigned, curved, hostile, mapped, needs_chromium
from browser_cases import open_page as open_in_browser
from hypothesis import Phase, given, settings
from strategies import Triple, triples

from tilewright.errors import InfeasibleError, InputError
from tilewright.ir.mapping import format_mapping
from tilewright.model.evaluate import evaluate
from tilewright.report.describe import describe_work
from tilewright.report.document import entry, read_document
from tilewright.report.page import build_page
from tilewright.report.view_layers import design_of, rules_of

pytestmark = [needs_chromium, pytest.mark.filterwarnings("ignore::ResourceWarning")]
NARROW, WIDE = {"width": 390, "height": 800}, {"width": 1280, "height": 900}


@contextmanager
def opened(folder: Path, document: Json, **how: Any) -> Generator[Any]:
    """A document's page, ready; afterwards the console must be without complaint."""
    path = folder / "page.html"
    path.write_text(build_page(read_document(json.dumps(document), "run")), encoding="utf-8")
    how.setdefault("viewport", WIDE)
    with open_in_browser(path, **how) as (page, complaints):
        while page.locator(".chart").count() != page.locator(".chart svg").count():
            page.wait_for_timeout(20)
        yield page
        assert complaints == []


def faults(page: Any) -> list[str]:
    """What axe-core finds serious or critical."""
    axe: Any = import_module("axe_playwright_python.sync_playwright").Axe()
    found: list[Json] = axe.run(page).response["violations"]
    return [
        f"{each['id']}: {node['html'][:120]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_charts_are_drawn_and_everybody_can_read_them(
    kind: str, scheme: str, tmp_path: Path
) -> None:
    with opened(tmp_path, DOCUMENTS[kind](), color_scheme=scheme) as page:
        for chart in page.query_selector_all(".chart"):
            marks = chart.query_selector_all(".mark-rect path, .mark-symbol path, .mark-line path")
            assert marks
            assert chart.bounding_box()["height"] > 40
        assert page.query_selector_all(".nest .block")
        assert faults(page) == []
        page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        page.wait_for_timeout(100)
        assert faults(page) == []


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_narrow_screen_scrolls_only_downwards(kind: str, tmp_path: Path) -> None:
    with opened(tmp_path, DOCUMENTS[kind](), viewport=NARROW) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        assert faults(page) == []


def test_hostile_names_do_nothing(tmp_path: Path) -> None:
    for viewport in (WIDE, NARROW):
        with opened(tmp_path, hostile(mapped()), viewport=viewport) as page:
            assert not page.query_selector_all("#report img")
            assert "<img src=x onerror" in page.inner_text("h1")
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_nothing_is_asked_of_the_network(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(build_page(mapped()), encoding="utf-8")
    with open_in_browser(path) as (page, _):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(str(request.url)))  # pyright: ignore
        page.reload()
        page.wait_for_selector("html[data-ready]", state="attached")
        page.wait_for_timeout(300)
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_layers_are_chosen_by_list_by_table_by_chart_and_by_keyboard(tmp_path: Path) -> None:
    with opened(tmp_path, mapped()) as page:

        def chosen() -> str:
            return page.inner_text("tr.picked button")

        assert chosen() == "conv"
        page.select_option("#nest select", "1")
        assert chosen() == "small"
        assert "2P+R" in page.inner_text("#nest")
        page.click("#layers button >> text=conv")
        assert chosen() == "conv"
        page.focus("#layers button >> text=small")
        page.keyboard.press("Enter")
        assert chosen() == "small"
        assert page.evaluate("document.activeElement.textContent") == "small"
        page.locator("#energy .mark-rect path").first.click()
        assert chosen() == "conv"
        page.locator("#roofline .mark-symbol path").last.click()
        assert chosen() == "small"


def test_the_colours_change(tmp_path: Path) -> None:
    with opened(tmp_path, mapped(), color_scheme="light") as page:

        def ground() -> str:
            return page.evaluate("getComputedStyle(document.body).backgroundColor")

        light = ground()
        page.click("button.theme")
        assert ground() == light
        page.click("button.theme")
        assert ground() != light
        assert "dark" in page.get_attribute("button.theme", "aria-label")
        page.emulate_media(color_scheme="dark")
        page.click("button.theme")
        assert ground() != light


def test_a_point_of_the_front_shows_its_chip(tmp_path: Path) -> None:
    with opened(tmp_path, codesigned()) as page:
        assert "4 KiB" in page.inner_text("#chip")
        page.select_option("#choice .control:nth-of-type(1) select", "1")
        assert "8 KiB" in page.inner_text("#chip")
        assert "larger" in page.inner_text("#choice .chosen")
        page.locator("#choice .mark-symbol path").first.click()
        assert "4 KiB" in page.inner_text("#chip")
        page.select_option("#choice .control:nth-of-type(2) select", "edp")
        page.wait_for_selector("#choice svg >> text=EDP")
        page.select_option("#choice .control:nth-of-type(3) select", "power_w")
        page.wait_for_selector("#choice svg >> text=power in W")


def test_a_point_of_the_curve_shows_its_nest(tmp_path: Path) -> None:
    document = curved()
    with opened(tmp_path, document) as page:
        texts: set[str] = set()
        for number, point in enumerate(p for c in document["curves"] for p in c["points"]):
            page.select_option("#choice select", str(number))
            words = f"{point['dram_words']:,}"
            assert words in page.inner_text("#choice .chosen")
            page.click("#nest summary")
            texts.add(page.inner_text("#nest pre"))
        assert len(texts) > 1


def test_figures_as_tables(tmp_path: Path) -> None:
    with opened(tmp_path, mapped()) as page:
        summary = page.locator("#energy summary")
        summary.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#energy table tbody tr")
        assert page.locator("#energy tbody tr").count() == 8
        assert "share" in page.inner_text("#energy thead")


def test_the_nest_runs_step_by_step(tmp_path: Path) -> None:
    with opened(tmp_path, mapped()) as page:

        def said() -> str:
            return page.inner_text(".said")

        steps = page.get_attribute("input[type=range]", "max")
        assert "Step 1 of" in said()
        page.click("button[aria-label='Step on']")
        assert "Step 2 of" in said()
        page.click("button[aria-label='Step back']")
        assert "Step 1 of" in said()
        page.click("button[aria-label='Next step of an outer loop']")
        assert "loop over P" in said()
        page.focus("input[type=range]")
        page.keyboard.press("End")
        assert f"Step {int(steps) + 1} of" in said()
        page.click("button[aria-label='First step']")
        assert "Step 1 of" in said()
        page.select_option("#steps .control:nth-of-type(2) select", "16")
        page.click("button[aria-label='Play']")
        page.wait_for_selector(".said:not(:has-text('Step 1 of'))")
        page.click("button[aria-label='Pause']")
        stopped = said()
        page.wait_for_timeout(200)
        assert said() == stopped
        page.select_option("#steps .control:nth-of-type(1) select", "RF")
        assert "into RF" in said()
        before = page.inner_text(".buffers")
        page.fill("#steps input[type=number]", "3")
        page.keyboard.press("Tab")
        assert page.inner_text(".sharing .map:nth-of-type(1) figcaption").endswith("1 of 4 hold it")
        assert page.inner_text(".buffers") != before


def test_a_printed_page_has_no_controls(tmp_path: Path) -> None:
    with opened(tmp_path, mapped(), color_scheme="dark") as page:
        page.emulate_media(media="print")
        assert (
            page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        )
        assert not page.is_visible("button.theme")
        assert not page.is_visible("input[type=range]")
        assert page.is_visible("#energy svg")
        assert len(page.pdf()) > 10_000


def walked(page: Any, found: Json, memory: str) -> Json:
    """Fills and drains of a memory by the page's own walk, over all its instances."""
    return page.evaluate(
        """([layer, rules, memory]) => {
          const { loops } = tilewright.flatten(layer.blocks);
          const spatial = loops.map((loop, place) => place).filter((place) => loops[place].axis);
          let copies = [{}];
          for (const place of spatial) {
            copies = copies.flatMap((copy) =>
              [...Array(loops[place].extent).keys()].map((at) => ({ ...copy, [place]: at })));
          }
          const depths = {};
          const sums = {};
          let complete = true;
          const seen = new Set();
          for (const copy of copies) {
            const { work, blocks } = layer;
            const found = tilewright.walk(work, blocks, rules, memory, copy);
            complete = complete && found.complete;
            if (!found.steps.length) continue;
            const used = spatial.filter((place) => place < found.depth);
            const key = used.map((place) => copy[place]).join();
            if (seen.has(key)) continue;
            seen.add(key);
            for (const place of found.places) {
              if (place.memory !== memory) continue;
              const sum = (sums[place.operand.name] = sums[place.operand.name] || [0, 0]);
              sum[0] += place.filled;
              sum[1] += place.drained;
            }
          }
          return { sums, complete };
        }""",
        [found["layer"], found["rules"], memory],
    )


def subject(triple: Triple) -> Json | None:
    """A layer as a page has it; none if the mapping does not fit or is one the walk leaves out."""
    workload, mapping = triple.workload, triple.mapping
    try:
        cost = evaluate(workload, triple.hardware, mapping)
    except (InfeasibleError, InputError):
        return None
    if any(len(rank.terms) > 1 for rank in workload.output.ranks):
        return None  # overlapping output tiles: the page only knows tiles that it saw whole
    text = format_mapping(mapping)
    entry = {"name": "x", "mapping": text, "work": describe_work(workload), "cost": cost.to_json()}
    layer = design_of({}, None, [entry])["layers"][0]
    return {"layer": layer, "rules": rules_of({}), "memories": _uniform(cost)}


def _uniform(cost: Any) -> list[str]:
    """On-chip memories of which every operand kept stands at one place of the nest."""
    blocks = cost.mapping.blocks
    names = [block.memory for block in blocks]
    return [name for name in names[1:] if names.count(name) == 1 and name != names[0]]


def test_the_page_moves_the_words_that_the_model_counts(tmp_path: Path) -> None:
    """The page's walk is written anew, in another language: its sums are those of the document."""
    compared = 0
    with opened(tmp_path, mapped()) as page:

        @settings(max_examples=60, phases=[Phase.generate])
        @given(triples())
        def compare(triple: Triple) -> None:
            nonlocal compared
            found = subject(triple) or Json(memories=[])
            for memory in found["memories"]:
                ours = walked(page, found, memory)
                if not ours["complete"]:
                    continue
                levels: list[Json] = found["layer"]["levels"]
                (level,) = [v for v in levels if v["memory"] == memory]
                counted = {
                    operand: [cost["fills"], cost["drains"]]
                    for operand, cost in entry(level, "operands").items()
                }
                assert ours["sums"] == counted
                compared += 1

        compare()
    assert compared > 20


def test_a_fault_in_the_page_is_seen(tmp_path: Path) -> None:
    """The comparison above fails when words in common are forgotten."""
    with opened(tmp_path, mapped()) as page:
        page.evaluate("tilewright.wordsInCommon = () => 0")
        layer = mapped()["layers"][1]
        found: Json = {"layer": design_of({}, None, [layer])["layers"][0], "rules": rules_of({})}
        ours = walked(page, found, "GLB")
        glb = layer["cost"]["levels"][1]["operands"]
        assert ours["sums"]["I"][0] != glb["I"]["fills"]
