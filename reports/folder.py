"""The report of a study as a folder: one page to open, the same in Markdown, the tables as CSV, the figures as PNG."""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from reports.figures import FIGURES, draw_figures
from reports.judged import Judged
from reports.pages import Command, no_command, render_html, render_markdown

DPI = 150  # 1,140 pixels across, sharp at the full width of the page
FIRST_COLUMNS = ["batch_size", "learning_rate", "verdict", "reason", "progress", "time_to_bottom_epochs", "n_seeds"]


def write_report(
    judged: Judged,
    folder: str | Path,
    *,
    title: str,
    configuration: Mapping[str, object],
    command: Command = no_command,
) -> Path:
    """Write the report of a judged study into ``folder`` (made if missing) and return the path of ``report.html``.

    Written are ``report.html``, ``report.md``, every table of ``Judged`` as CSV and ``figures/*.png``. Each file is replaced
    in one step, the page last: a reader never sees half a file, and earlier files stay when something fails. A figure that
    cannot be drawn any more is removed.
    """
    pictures = draw_pictures(judged)
    place = Path(folder)
    (place / "figures").mkdir(parents=True, exist_ok=True)
    first = [*FIRST_COLUMNS, *judged.cells.columns.difference(FIRST_COLUMNS, sort=False)]
    for name, table in judged._replace(cells=judged.cells[first])._asdict().items():
        if isinstance(table, pd.DataFrame):
            _write(place / f"{name}.csv", table.to_csv(index=False).encode(errors="backslashreplace"))
    for name in FIGURES:
        if name in pictures:
            _write(place / "figures" / f"{name}.png", pictures[name])
        else:
            (place / "figures" / f"{name}.png").unlink(missing_ok=True)
    paths = {name: f"figures/{name}.png" for name in pictures}
    about: dict[str, Any] = {"title": title, "configuration": configuration, "command": command}
    _write(place / "report.md", render_markdown(judged, paths, **about).encode(errors="backslashreplace"))
    return _write(place / "report.html", render_html(judged, pictures, **about).encode(errors="backslashreplace"))


def draw_pictures(judged: Judged) -> dict[str, bytes]:
    """The figures as PNG files, by the names in ``FIGURES``."""
    pictures: dict[str, bytes] = {}
    for name, figure in draw_figures(judged).items():
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
        pictures[name] = buffer.getvalue()
    return pictures


def _write(path: Path, content: bytes) -> Path:
    """Write beside the file, then put it in place in one step."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path
