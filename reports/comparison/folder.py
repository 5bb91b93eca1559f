"""A comparison of studies as a folder: one page to open, the same in Markdown, tables as CSV, figures as PNG and SVG."""

from collections.abc import Mapping
from pathlib import Path

from reports.comparison.answers import summarize
from reports.comparison.charts import draw_charts
from reports.comparison.figures import FIGURES, draw_figures
from reports.comparison.pages import render_html, render_markdown
from reports.comparison.tables import Comparison, find_not_good
from reports.errors import BadInput
from reports.figures.pictures import write_figures
from reports.judging.judged import Judged
from reports.judging.summary import SUMMARY, VERSION, Summary, records, to_json
from reports.pages.spreadsheet import to_csv
from reports.pages.written_file import write_file


def write_comparison(comparison: Comparison, judged: Mapping[str, Judged], folder: str | Path) -> Path:
    """Write a comparison of judged studies into ``folder`` (made if missing) and return the path of ``comparison.html``.

    judged: what was compared, by the same names. Written are ``comparison.html``, ``comparison.md``, ``answer.json``
    (``summarize_comparison``), ``differences.csv``, ``summary.csv``, ``tests.csv``, ``figures/*.png`` and ``*.svg``, each
    in one step, the page last; ``effective.csv`` where momentum differs, ``foretold.csv`` where a study has a law.
    """
    place, figures = Path(folder), draw_figures(judged, as_progress=not comparison.same_heights)
    (place / "figures").mkdir(parents=True, exist_ok=True)
    for name in ("differences", "summary", "tests", "effective", "foretold"):
        if len(table := getattr(comparison, name)) or name not in ("effective", "foretold"):
            write_file(place / f"{name}.csv", to_csv(table))
        else:
            (place / f"{name}.csv").unlink(missing_ok=True)
    write_file(place / SUMMARY, to_json(summarize_comparison(comparison)).encode(errors="backslashreplace"))
    pictures = write_figures(figures, place / "figures", names=FIGURES)
    paths = {name: f"figures/{name}.png" for name in pictures}
    write_file(place / "comparison.md", render_markdown(comparison, paths).encode(errors="backslashreplace"))
    html = render_html(comparison, pictures, draw_charts(judged, as_progress=not comparison.same_heights))
    return write_file(place / "comparison.html", html.encode(errors="backslashreplace"))


def _not_good(comparison: Comparison) -> list[str]:
    """Why the baseline's learning rates are not known to be good in the others, as where nothing can be compared."""
    try:
        return find_not_good(comparison)
    except BadInput as error:
        return [str(error)]


def summarize_comparison(comparison: Comparison) -> Summary:
    """What a comparison says."""
    return {
        "version": VERSION,
        "studies": list(comparison.studies),
        "thresholds": dict(vars(comparison.thresholds)),
        "sentences": summarize(comparison),
        "notes": comparison.notes,
        "not_good": _not_good(comparison),
        "summary": records(comparison.summary),
        "differences": records(comparison.differences),
        "tests": records(comparison.tests),
        "effective": records(comparison.effective),
        "foretold": records(comparison.foretold),
        "batch_sizes": comparison.batch_sizes,
    }
