"""A comparison of studies as a folder: one page to open, the same in Markdown, tables as CSV, figures as PNG and SVG."""

from collections.abc import Mapping
from pathlib import Path

from reports.comparison.charts import draw_charts
from reports.comparison.figures import FIGURES, draw_figures
from reports.comparison.pages import render_html, render_markdown
from reports.comparison.tables import Comparison
from reports.figures.pictures import write_figures
from reports.judging.judged import Judged
from reports.pages.spreadsheet import to_csv
from reports.pages.written_file import write_file


def write_comparison(comparison: Comparison, judged: Mapping[str, Judged], folder: str | Path) -> Path:
    """Write a comparison of judged studies into ``folder`` (made if missing) and return the path of ``comparison.html``.

    judged: what was compared, by the same names. Written are ``comparison.html``, ``comparison.md``, ``differences.csv``,
    ``summary.csv``, ``tests.csv`` and ``figures/*.png`` and ``*.svg``, each in one step, the page last.
    """
    place, figures = Path(folder), draw_figures(judged, as_progress=not comparison.same_heights)
    (place / "figures").mkdir(parents=True, exist_ok=True)
    for name in ("differences", "summary", "tests"):
        write_file(place / f"{name}.csv", to_csv(getattr(comparison, name)))
    pictures = write_figures(figures, place / "figures", names=FIGURES)
    paths = {name: f"figures/{name}.png" for name in pictures}
    write_file(place / "comparison.md", render_markdown(comparison, paths).encode(errors="backslashreplace"))
    page = render_html(comparison, pictures, draw_charts(judged, as_progress=not comparison.same_heights))
    return write_file(place / "comparison.html", page.encode(errors="backslashreplace"))
