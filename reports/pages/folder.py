"""The report of a study as a folder: one page to open, the same in Markdown, the tables as CSV, the figures as PNG and SVG."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from reports.figures import FIGURES, draw_figures
from reports.figures.landscape import Landscape, animate_landscape, describe_landscape, plot_landscape
from reports.figures.pictures import write_figures
from reports.judging.judged import Judged
from reports.judging.summary import SUMMARY, summarize_study, to_json
from reports.judging.trust import next_changes
from reports.pages.spreadsheet import to_csv
from reports.pages.study import Command, no_command, render_html, render_markdown
from reports.pages.written_file import write_file

FIRST_COLUMNS = ["batch_size", "learning_rate", "verdict", "reason", "progress", "time_to_bottom_epochs", "n_seeds"]


def write_report(
    judged: Judged,
    folder: str | Path,
    *,
    title: str,
    configuration: Mapping[str, object],
    command: Command = no_command,
    landscape: Landscape | None = None,
) -> Path:
    """Write the report of a judged study into ``folder`` (made if missing) and return the path of ``report.html``.

    Written are ``report.html``, ``report.md``, every table of ``Judged`` as CSV (``read_csv`` gives it back), ``answer.json``
    (``summarize_study``), and ``figures/*.png`` and ``*.svg``, with a landscape also ``figures/landscape.gif``. Each file is
    replaced in one step, the page last: a reader never sees half a file, and earlier files stay when something fails. A
    figure that cannot be drawn any more is removed.
    """
    place, figures, walk = Path(folder), draw_figures(judged), ""
    film = place / "figures" / "landscape.gif"
    (place / "figures").mkdir(parents=True, exist_ok=True)
    first = [*FIRST_COLUMNS, *judged.cells.columns.difference(FIRST_COLUMNS, sort=False)]
    for name, table in judged._replace(cells=judged.cells[first])._asdict().items():
        if isinstance(table, pd.DataFrame):
            write_file(place / f"{name}.csv", to_csv(table))
    changes = next_changes(judged.trust)
    summary = summarize_study(title, judged, following=command(changes) if changes else "")
    write_file(place / SUMMARY, to_json(summary).encode(errors="backslashreplace"))
    if landscape is None:
        film.unlink(missing_ok=True)
    else:
        landscape = landscape.judged_as(judged.runs)
        figures["landscape"], walk = plot_landscape(landscape), describe_landscape(landscape)
        write_file(film, animate_landscape(landscape))
    pictures = write_figures(figures, place / "figures", names=(*FIGURES, "landscape"))
    paths = {name: f"figures/{name}.png" for name in pictures}
    about: dict[str, Any] = {"title": title, "configuration": configuration, "command": command, "walk": walk}
    write_file(place / "report.md", render_markdown(judged, paths, **about).encode(errors="backslashreplace"))
    return write_file(place / "report.html", render_html(judged, pictures, **about).encode(errors="backslashreplace"))


def judged_before(folder: str | Path) -> dict[str, Any]:
    """The thresholds by which the report in a folder was judged, empty where there is none that says so."""
    try:
        return dict(json.loads((Path(folder) / SUMMARY).read_bytes())["thresholds"])
    except (OSError, ValueError, TypeError, KeyError):
        return {}
