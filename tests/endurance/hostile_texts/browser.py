"""A page opened in Chromium and listened to: nothing that a text brought runs, asks elsewhere or becomes an element."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hostile_texts.study import N_RUNS
from hostile_texts.texts import heading, left_out

FLAGS = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"  # asks nobody
NOT_OURS = "iframe, object, embed, base, link, video, audio, math, marquee, a[href^='javascript' i], svg script, svg image"
HANDLERS = (
    "() => [...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => a.name.startsWith('on')).length"
)
# Elements with the names of their attributes, but for what charts are drawn with.
SEEN = """() => [...new Set([...document.querySelectorAll('body *, head *')]
  .filter(each => !each.closest('.chart > *, #js-plotly-tester, .plotly-notifier, style[id]'))
  .map(each => [each.tagName, ...[...each.attributes].map(a => a.name).filter(n => n !== 'class').sort()].join(' ')))]"""
# A picture in somebody's note, which the dashboard keeps from asking elsewhere.
BLOCKED = re.compile("Loading the image 'https?://.*violates the following Content Security Policy")
PATIENCE = 90_000  # ms, for what is there in one or two on a machine that has nothing else to do
PHONE = 390  # pixels across

Faults = list[tuple[str, object]]


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A Chromium that is installed, driven by playwright. Raises FileNotFoundError where there is none."""
    path = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if path is None:
        raise FileNotFoundError("no Chromium is installed: on Debian, apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield browser
        browser.close()


@contextlib.contextmanager
def listening(browser: Any, allowed: str) -> Iterator[tuple[Any, Faults]]:
    """A new page, and the list of its faults: dialogs, errors, windows, and requests to what does not begin as ``allowed``.

    What is waited for in vain is a fault of the page, too, and ends the block.
    """
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page, faults = context.new_page(), []
    local = ("data:", "blob:", allowed)

    def answer(dialog: Any) -> None:
        faults.append(("dialog", dialog.message))
        dialog.dismiss()

    def hear(message: Any) -> None:
        if message.type == "error" and not BLOCKED.match(message.text):
            faults.append(("console error", message.text))

    def asked(request: Any) -> None:
        if not request.url.startswith(local) and request.failure != "csp":  # which the page's own rules kept from being sent
            faults.append(("request to elsewhere", request.url))

    page.on("dialog", answer)
    page.on("console", hear)
    page.on("pageerror", lambda error: faults.append(("page error", error)))
    page.on("requestfinished", asked)
    page.on("requestfailed", asked)
    context.on("page", lambda other: other is page or faults.append(("window opened", other.url)))
    try:
        yield page, faults
    except Exception as error:  # playwright's, of many kinds
        faults.append(("page with a part missing", f"{page.url}: {error}"))
    finally:
        context.close()


def faults_of_elements(page: Any) -> Iterator[tuple[str, object]]:
    """What no page of ours holds: certain elements, and event handlers."""
    if found := page.locator(NOT_OURS).count() + page.evaluate(HANDLERS):
        yield "page with a foreign element", f"{found} on {page.url}"


def open_page(browser: Any, path: Path, *, title: str) -> tuple[set[str], Faults]:
    """The kinds of elements of a page opened from disk, and its faults; a report is used, as a reader does."""
    seen: set[str] = set()
    with listening(browser, path.as_uri()) as (page, faults):
        page.goto(path.as_uri())
        if path.name == "report.html":
            faults += use_report(page, title)
        seen |= set(page.evaluate(SEEN))
        faults += faults_of_elements(page)
        if broken := page.evaluate("[...document.images].filter(i => !i.naturalWidth || i.naturalHeight > 6000).length"):
            faults.append(("picture that is broken", f"{broken} of {path}"))
        page.set_viewport_size({"width": PHONE, "height": 844})
        with contextlib.suppress(Exception):  # it takes a moment
            page.wait_for_function(f"() => document.documentElement.scrollWidth <= {PHONE}", timeout=5_000)
        if (width := page.evaluate("document.documentElement.scrollWidth")) > PHONE:
            faults.append(("page wider than a phone", width))
    return seen, faults


def use_report(page: Any, title: str) -> Iterator[tuple[str, object]]:
    """See the charts, open the details of two runs, one of which failed, point at a run, open whatever can be opened."""
    page.wait_for_selector("html.charts", timeout=PATIENCE)
    page.locator("[data-chart=map]").scroll_into_view_if_needed()
    page.locator("[data-chart=map] .main-svg").first.wait_for(timeout=PATIENCE)
    page.evaluate("document.querySelectorAll('details.part').forEach(part => part.open = true)")
    for button in page.locator("#runs tbody button").all()[3:5]:
        button.click()
    page.locator(".detail .main-svg").first.wait_for(timeout=PATIENCE)
    page.locator("[data-chart=map] .point").last.hover(force=True)
    page.evaluate("document.querySelectorAll('details:not(.part) > summary').forEach(each => each.click())")
    if (rows := page.locator("#runs tbody tr:not(.detail)").count()) != N_RUNS:
        yield "page with a part missing", f"{rows} rows in the table of runs"
    if (said := page.text_content("h1")) != heading(title).replace("\0", ""):  # HTML leaves it out
        yield "page that says something else", repr(said)


def compare(seen: set[str], usual: set[str], text: str) -> Iterator[tuple[str, object]]:
    """Kinds of elements that the page of ``text`` has and that of the plain study has not, or the other way round."""
    if seen - usual:
        yield "page with a foreign element", seen - usual
    if missing := usual - seen - left_out(text, "CODE"):
        yield "page with a part missing", missing
