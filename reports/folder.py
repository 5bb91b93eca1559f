"""The report of a study as a folder: one page to open, the same in Markdown, the tables as CSV, the figures as PNG and SVG."""

from __future__ import annotations

import contextlib
import glob
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from matplotlib import rc_context
from matplotlib.figure import Figure

from reports.figures import FIGURES, draw_figures
from reports.judged import Judged
from reports.landscape import Landscape, animate_landscape, describe_landscape, plot_landscape
from reports.pages import Command, no_command, render_html, render_markdown
from reports.spreadsheet import to_csv

DPI = 150  # 1,140 pixels across, sharp at the full width of the page
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

    Written are ``report.html``, ``report.md``, every table of ``Judged`` as CSV (``read_csv`` gives it back) and
    ``figures/*.png`` and ``*.svg``, with a landscape also ``figures/landscape.gif``. Each file is replaced in one step, the
    page last: a reader never sees half a file, and earlier files stay when something fails. A figure that cannot be drawn any
    more is removed.
    """
    place, figures, walk = Path(folder), draw_figures(judged), ""
    film = place / "figures" / "landscape.gif"
    (place / "figures").mkdir(parents=True, exist_ok=True)
    first = [*FIRST_COLUMNS, *judged.cells.columns.difference(FIRST_COLUMNS, sort=False)]
    for name, table in judged._replace(cells=judged.cells[first])._asdict().items():
        if isinstance(table, pd.DataFrame):
            write_file(place / f"{name}.csv", to_csv(table))
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


def write_figures(figures: Mapping[str, Figure], folder: Path, *, names: Iterable[str]) -> dict[str, bytes]:
    """Write each figure as PNG and SVG, remove those of ``names`` that are not among them, and return the PNGs."""
    pictures = {}
    for name in names:
        for kind in ("svg", "png"):
            path = folder / f"{name}.{kind}"
            if name in figures:
                pictures[name] = draw_picture(figures[name], kind)
                write_file(path, pictures[name])
            else:
                path.unlink(missing_ok=True)
    return pictures


def draw_pictures(judged: Judged) -> dict[str, bytes]:
    """The figures of a judged study as PNG files, by the names in ``FIGURES``."""
    return {name: draw_picture(figure) for name, figure in draw_figures(judged).items()}


def draw_picture(figure: Figure, kind: str = "png") -> bytes:
    """A figure as a file: ``png``, or ``svg`` that is the same each time."""
    buffer = BytesIO()
    with rc_context({"svg.hashsalt": "learning-rate-studies"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a name in a script our font has not: boxes
        figure.savefig(buffer, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def write_file(path: Path, content: bytes) -> Path:
    """Write beside the file, then put it in place in one step, on the disk before it is seen; its folder is left tidy."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    _remove_left_over(path)
    sys.audit("lr_study.write", f"{path.name} beside")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        sys.audit("lr_study.write", f"{path.name} in place")
        os.replace(beside, path)
    except OSError as error:  # of a full disk it does not say where
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return path


def _remove_left_over(path: Path) -> None:
    """Remove what writers of this file left that were killed; one that lives is about to put its own in place."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        number = left.suffix[1:]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            left.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """The new name is on the disk too; systems that cannot sync a folder keep names in their own way."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
