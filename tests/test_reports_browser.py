"""Pages in a real browser: opened from disk, pointed at, sorted, filtered, printed, and given hostile texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import HOSTILE, four_verdicts, reference_tables

from reports.comparison.folder import write_comparison
from reports.comparison.tables import compare
from reports.judging.judged import judge
from reports.pages.folder import write_report

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1200, "height": 900}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs, curves, _ = reference_tables("digits_mlp")
    return write_report(judge(runs, curves), tmp_path_factory.mktemp("page"), title="digits", configuration={"epochs": 10})


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a study, the same with all its edges three times lower, and one of another batch size."""
    runs, curves, _ = reference_tables("digits_mlp")
    lower = judge(runs.assign(learning_rate=runs["learning_rate"] / 3), curves)
    judged = {"before": judge(runs, curves), "after": lower, HOSTILE[0]: judge(*four_verdicts())}
    return write_comparison(compare(judged), judged, tmp_path_factory.mktemp("comparison"))


@contextmanager
def opened(browser: Any, path: Path, *, live: bool = True, **options: Any) -> Iterator[Any]:
    """The page, once its script has run; fails on any message, error, dialog or request to the outside."""
    context = browser.new_context(**{"viewport": DESK, **options})
    page, heard = context.new_page(), []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: (heard.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda asked: asked.url.startswith(("data:", "blob:", path.as_uri())) or heard.append(asked.url))
    page.goto(path.as_uri())
    if live:
        page.wait_for_selector("html.charts")
    page.evaluate("for (const part of document.querySelectorAll('details.part')) part.open = true")
    yield page
    assert heard == []
    context.close()


def rows(page: Any) -> list[str]:
    found: list[str] = page.locator("#runs tbody tr").all_inner_texts()
    return found


def draw_all(page: Any) -> None:
    """Scroll to every chart, as each is drawn once it is near."""
    for chart in page.locator("[data-chart]").all():
        chart.scroll_into_view_if_needed()
        chart.locator(".main-svg").first.wait_for()


PLACE = """([chart, verdict, which]) => {
  const place = document.querySelector(`[data-chart="${chart}"]`), { xaxis, yaxis } = place._fullLayout;
  const marks = place.data.find(trace => trace.name === verdict && trace.mode === "markers");
  const box = place.getBoundingClientRect();
  return [box.x + xaxis._offset + xaxis.d2p(marks.x.at(which)), box.y + yaxis._offset + yaxis.d2p(marks.y.at(which))];
}"""


def point_at(page: Any, chart: str, verdict: str, which: int = 0) -> str:
    """What is said of a mark in a chart."""
    place = page.locator(f"[data-chart='{chart}']")
    place.scroll_into_view_if_needed()
    said = place.locator(".hoverlayer .hovertext").first
    page.mouse.move(1, 1)
    said.wait_for(state="detached")  # what was said of another mark
    page.mouse.move(*page.evaluate(PLACE, [chart, verdict, which]))
    said.wait_for()
    return str(said.text_content())


def test_every_chart_is_drawn_and_a_mark_that_is_pointed_at_says_its_verdict_and_reason(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        draw_all(page)
        assert page.locator("[data-chart] .main-svg").count() >= 8
        said = point_at(page, "map", "too low")
        assert said.startswith("batch size ") and "too low: did not reach the bottom" in said


def test_runs_without_a_verdict_are_in_the_table_with_their_reasons(browser: Any, tmp_path: Path) -> None:
    runs, curves = four_verdicts()
    fixed = runs.assign(highest_learning_rates=["0.05"] * 4, nonfinite_at=None)
    page_of_none = write_report(judge(fixed, curves, remarks=[HOSTILE[0]]), tmp_path, title="fixed", configuration={})
    with opened(browser, page_of_none, live=False) as page:
        page.wait_for_selector("html.live")
        assert page.locator("#filters select").first.inner_text().split() == ["any", "no", "verdict"]
        page.select_option("select >> nth=0", "no verdict")
        assert len(rows(page)) == 4 and "where 0.01 was asked (x5, " in rows(page)[0]
        page.click("#runs tbody button >> nth=0")
        assert page.locator("tr.detail p").first.inner_text().startswith("no verdict: stepped with at most 0.05 where 0.01")
        assert page.locator("section[aria-labelledby=measured] li").count() == 1


def test_table_is_sorted_and_filtered_and_a_click_on_the_map_shows_the_runs_of_a_cell(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        n_runs = int(page.inner_text("#count").split(" of ")[1].split()[0])
        page.click("th button:has-text('final height')")
        assert page.get_attribute("th:has-text('final height')", "aria-sort") == "ascending"
        heights = [float(row.split("\t")[8]) for row in rows(page)]
        assert heights == sorted(heights) and len(heights) == 20
        page.click("th button:has-text('final height')")
        assert page.get_attribute("th:has-text('final height')", "aria-sort") == "descending"
        page.select_option("select >> nth=0", "good")
        assert {row.split("\t")[4].split()[-1] for row in rows(page)} == {"good"}
        page.fill("input[type=search]", "no such run")
        assert page.inner_text("#count") == f"0 of {n_runs} runs"
        page.evaluate("document.getElementById('filters').reset()")
        page.fill("input[type=search]", "fastest")
        assert all("fastest" in row for row in rows(page))
        mark = page.locator("[data-chart=map] .point").last
        page.locator("[data-chart=map]").scroll_into_view_if_needed()
        mark.click(force=True)
        page.wait_for_function("() => document.getElementById('count').textContent.startsWith('3 of')")
        assert len({tuple(row.split("\t")[1:3]) for row in rows(page)}) == 1


def test_keyboard_opens_a_run_with_its_curve_and_closes_it(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        button = page.locator("#runs tbody button").first
        button.focus()
        page.keyboard.press("Enter")
        page.locator(".detail .main-svg").first.wait_for()
        assert button.get_attribute("aria-expanded") == "true"
        assert page.locator(".detail dt", has_text="learning rate").count() == 1
        page.keyboard.press("Enter")
        assert page.locator(".detail").count() == 0


def test_a_comparison_draws_its_charts_and_a_mark_names_its_study(browser: Any, comparison: Path) -> None:
    with opened(browser, comparison) as page:
        draw_all(page)
        shown = {chart.get_attribute("data-chart").partition("/")[0] for chart in page.locator("[data-chart]").all()}
        assert shown == {"maps", "times", "own", "first"} and not page.is_visible(".still >> nth=0")
        size = page.locator("[data-chart^='maps/']").first.get_attribute("data-chart").partition("/")[2]
        for chart in (f"maps/{size}", f"times/{size}"):
            named = {point_at(page, chart, "too low", which).partition("batch size")[0] for which in (0, -1)}
            assert named == {"before", "after"}


def test_a_comparison_is_whole_in_print_and_without_its_script(browser: Any, comparison: Path) -> None:
    with opened(browser, comparison, live=False, java_script_enabled=False) as page:
        assert all(picture.is_visible() for picture in page.locator("figure img").all())
        assert not page.is_visible("[data-chart] >> nth=0")
    with opened(browser, comparison) as page:
        page.emulate_media(media="print")
        assert all(picture.is_visible() for picture in page.locator("figure img").all())
        assert not page.is_visible("[data-chart] >> nth=0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["report", "comparison"])
def test_nothing_keeps_readers_with_other_needs_out(
    browser: Any, tmp_path: Path, comparison: Path, kind: str, scheme: str
) -> None:
    small = write_report(judge(*four_verdicts()), tmp_path, title="small", configuration={"epochs": 10})
    with opened(browser, small if kind == "report" else comparison, color_scheme=scheme) as page:
        draw_all(page)
        if kind == "report":
            page.locator("#runs tbody button").first.click()
        found = Axe().run(page).response["violations"]
        assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found] == []


def test_phone_shows_pages_without_scrolling_sideways(browser: Any, report: Path, comparison: Path) -> None:
    for path in (report, comparison):
        with opened(browser, path, viewport=PHONE) as page:
            draw_all(page)
            assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_folded_parts_open_for_a_link_and_for_paper(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = false")
        page.click("a[href='#words']")
        page.wait_for_function("document.getElementById('words').closest('details').open")
        assert page.evaluate("document.querySelectorAll('details:not([open])').length") > 3
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0


def test_print_has_pictures_where_the_screen_has_charts(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        assert not page.is_visible(".still img >> nth=0")
        page.emulate_media(media="print")
        assert all(picture.is_visible() for picture in page.locator("figure img").all())
        assert not page.is_visible("[data-chart=map]") and not page.is_visible("#filters")


def test_page_is_whole_without_its_script(browser: Any, report: Path) -> None:
    with opened(browser, report, live=False, java_script_enabled=False) as page:
        assert all(picture.is_visible() for picture in page.locator("figure img").all())
        assert "are in runs.csv" in page.inner_text("main") and not page.is_visible("#filters")


def test_hostile_texts_stay_texts(browser: Any, tmp_path: Path) -> None:
    """As the study's name, names and values of options, names of metrics, exceptions and tracebacks."""
    runs, curves = four_verdicts()
    n = len(HOSTILE)
    failed = pd.concat([runs.tail(1)] * n).assign(state="FAIL", trial=range(4, 4 + n), error=HOSTILE, traceback=HOSTILE)
    metrics = {f"val_{text}": [0.1, 0.2, 0.3, 0.4] for text in HOSTILE}
    runs = pd.concat([runs.join(pd.DataFrame(metrics)), failed], ignore_index=True)
    more = [pd.DataFrame({"trial": 1, "step": [0, 8], "epoch": [0, 1.0], "metric": name, "value": 1.0}) for name in metrics]
    judged = judge(runs, pd.concat([curves, *more], ignore_index=True))
    configuration = {text: HOSTILE[-1 - k] for k, text in enumerate(HOSTILE)}
    before = set(tmp_path.parent.rglob("*"))
    for k, title in enumerate(HOSTILE[:2]):
        page_path = write_report(judged, tmp_path / str(k), title=title, configuration=configuration)
        with opened(browser, page_path) as page:
            draw_all(page)
            for button in page.locator("#runs tbody button").all()[:6]:
                button.click()
            page.locator("[data-chart=map] .point").last.hover(force=True)
            assert page.locator("script").count() == 4, "ours: data, plotly packed and unpacked, page"
            assert page.locator("iframe, a[href^='javascript'], img[src='x'], [onload], [onerror], svg[onload]").count() == 0
            page.evaluate("document.querySelectorAll('summary').forEach(each => each.click())")
            assert page.locator("details[open]").count() > 10 and page.inner_text("h1").endswith(": which learning rates work")
    made = {path for path in tmp_path.parent.rglob("*")} - before
    assert all(tmp_path in (path, *path.parents) for path in made)
