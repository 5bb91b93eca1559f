"""Figures as PNG and SVG files."""

import re
import warnings
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from reports.pages.written_file import write_file

NO_XML = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # control characters of a name, which no browser reads in a picture
DPI = 150  # 1,140 pixels across, sharp at the full width of the page


def write_figures(figures: Mapping[str, Figure], folder: Path, *, names: Iterable[str]) -> dict[str, bytes]:
    """Write each figure as PNG and SVG, remove those of ``names`` that are not among them, and return the PNGs."""
    pictures = {}
    for name in names:
        for kind in ("svg", "png"):
            path = folder / f"{name}.{kind}"
            if name in figures:
                pictures[name] = draw_picture(figures[name], kind)
                figures[name].set_layout_engine("none")  # it is laid out, which takes as long as drawing
                write_file(path, pictures[name])
            else:
                path.unlink(missing_ok=True)
    return pictures


def draw_picture(figure: Figure, kind: str = "png") -> bytes:
    """A figure as a file: ``png``, or ``svg`` that is the same each time."""
    buffer = BytesIO()
    with rc_context({"svg.hashsalt": "learning-rate-studies"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a name in a script our font has not: boxes
        figure.savefig(buffer, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    return NO_XML.sub("\ufffd".encode(), buffer.getvalue()) if kind == "svg" else buffer.getvalue()
