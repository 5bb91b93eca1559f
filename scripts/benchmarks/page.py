"""How long pages take to open from disk in Chromium: the report of a study, the comparison of two."""

from __future__ import annotations

import contextlib
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.own_process import alone
from benchmarks.report import kept_in
from benchmarks.synthetic import store_synthetic
from studies.config import count
from studies.errors import BadInput

COLUMNS = "page | MB | first paint (s) | table usable (s) | first chart drawn (s) | processor (s) | chart / that of the first"
BROWSERS = ("chromium", "google-chrome", "chromium-browser")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")  # as root there is no sandbox
MARKS = """
  const note = (name, there) => {
    const look = () => there() ? setTimeout(() => performance.mark(name)) : requestAnimationFrame(look); // once it is painted
    requestAnimationFrame(look);
  };
  const there = selector => document.querySelector(selector) !== null;
  note("usable", () => document.readyState !== "loading" && (!there("#runs") || there("#runs tbody tr"))); // or no such table
  note("drawn", () => there("[data-chart] .point"));
"""
NAMES = ["first-contentful-paint", "usable", "drawn"]
READY = "names => names.every(name => performance.getEntriesByName(name).length)"
READ = "names => names.map(name => performance.getEntriesByName(name)[0].startTime / 1000)"


class Opened(NamedTuple):
    """Seconds from the start of the navigation; processor: that the page has used until then, however busy the machine is."""

    painted: float
    usable: float
    drawn: float
    processor: float


def measure_pages(options: dict[str, Any]) -> None:
    """Write pages of synthetic studies, open them in turn, and print a Markdown table: median and range of the turns."""
    sizes, compared = ([count(name, n) for n in options[name]] for name in ("trials", "compared"))
    repeats = count("repeats", options["repeats"])
    with kept_in(options["folder"]) as folder, chromium() as browser:
        pages = {f"report of {n:,} runs": alone(write_page, n, folder) for n in sizes}
        pages |= {f"comparison of two studies of {n:,} runs": alone(write_compared, n, folder) for n in compared}
        turns = [{name: open_page(browser, page) for name, page in pages.items()} for _ in range(repeats)]
        print(f"Chromium {browser.version}, median (range) of {repeats}\n\n| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}")
        first = statistics.median(turn[next(iter(pages))].drawn for turn in turns)
        for name, page in pages.items():
            times = [sorted(each) for each in zip(*(turn[name] for turn in turns), strict=True)]
            cells = [f"{statistics.median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})" for each in times]
            ratio = statistics.median(turn[name].drawn for turn in turns) / first
            print(f"| {name} | {page.stat().st_size / 1e6:.1f} | {' | '.join(cells)} | {ratio:.2f} |")


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A Chromium that is installed, driven by playwright. Raises ValueError when either is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise BadInput("playwright must be installed, got none: pip install playwright") from error
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise BadInput(f"one of {', '.join(BROWSERS)} must be installed, got none: on Debian, apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def open_page(browser: Any, path: Path) -> Opened:
    """Open a page as somebody does who has not opened it before."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.add_init_script(MARKS)
    tools = context.new_cdp_session(page)
    tools.send("Performance.enable")
    page.goto(path.absolute().as_uri(), wait_until="commit")
    page.wait_for_function(READY, arg=NAMES)
    metrics = {each["name"]: each["value"] for each in tools.send("Performance.getMetrics")["metrics"]}
    opened = Opened(*page.evaluate(READ, NAMES), metrics["ProcessTime"])
    context.close()
    return opened


def write_page(n: int, folder: Path) -> Path:
    """The report of a synthetic study of ``n`` runs."""
    from studies import load_study, report_study

    store_synthetic(n, folder)
    return report_study(load_study(str(folder / f"{n}.db"), str(n)), folder / str(n))


def write_compared(n: int, folder: Path) -> Path:
    """The comparison of two synthetic studies of ``n`` runs."""
    from reports.comparison.folder import write_comparison
    from reports.comparison.tables import compare
    from studies import judge_study, load_study

    names = [str(n), f"{n}-again"]
    for name in names:
        store_synthetic(n, folder, name=name)
    judged = {name: judge_study(load_study(str(folder / f"{n}.db"), name)) for name in names}
    return write_comparison(compare(judged, {name: {} for name in names}), judged, folder / f"compared-{n}")
