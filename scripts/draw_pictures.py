"""Draw the pictures of the documents from real runs: the walk on a parabola, the default study and its page.

The page is photographed in a Chromium that is installed, with playwright (extra ``dev``).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import sync_playwright

from reports.figures import draw_figures
from reports.figures.landscape import Landscape, animate_landscape, plot_landscape
from reports.style import VERDICTS
from studies import StudyConfig, judge_study, report_study, run_study
from studies.landscape import survey

# Steepness 1 along one axis and 10 along the other: the walk grows for ever above a learning rate of 2 / 10.
PARABOLA = {"class_path": "Parabola", "init_args": {"eigenvalues": [1.0, 10.0], "start": [-4.0, 1.6]}}
WHOLE = {"class_path": "ParabolaData", "init_args": {"n_examples": 16}}  # with batch size 16: a step an epoch
DPI = 120  # 1,030 pixels across, and a small file
WINDOW = {"width": 1240, "height": 860}  # pixels of the page: the answer and the map


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("scripts/pictures"), metavar="FOLDER", help="where they go (default: scripts/pictures)"
    )
    return parser.parse_args(argv)


def walk_on_parabola() -> Landscape:
    """The walk at a learning rate of each of the four verdicts.

    Raises RuntimeError when one is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = StudyConfig(
            model=PARABOLA,
            data=WHOLE,
            learning_rate=(0.002, 0.22),
            points=50,
            batch_size=16,
            seeds=1,
            epochs=30,
            storage=f"{folder}/studies.db",
        )
        landscape = survey(run_study(config, out=folder), config, out=folder)
    found = list(landscape.paths["verdict"].unique())
    if found != list(VERDICTS):
        raise RuntimeError(f"the parabola must show {', '.join(VERDICTS)}, its runs are {', '.join(found)}")
    return landscape


def draw_default_study() -> dict[str, bytes]:
    """The map of the default study, the walk of its runs, and the top of its page, as PNG files."""
    with tempfile.TemporaryDirectory() as folder:
        config = StudyConfig(storage=f"{folder}/studies.db")
        study = run_study(config, out=folder)
        judged = judge_study(study)
        landscape = survey(study, config, judged, batch_size=64, out=folder)
        page = photograph(report_study(study, f"{folder}/report", judged))
    return {"map": to_png(draw_figures(judged)["map"]), "landscape": to_png(plot_landscape(landscape)), "page": page}


def photograph(page: Path) -> bytes:
    """What is seen of a page when it opens, once its map is drawn."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport=WINDOW)
        tab.goto(page.absolute().as_uri())
        tab.wait_for_selector("[data-chart=map] .point", state="attached")
        return tab.screenshot()


def to_png(figure: Figure) -> bytes:
    """A figure as a file."""
    buffer = BytesIO()
    figure.savefig(buffer, dpi=DPI)
    return buffer.getvalue()


def save_small(png: bytes, path: Path) -> None:
    """Save a PNG with 256 colours, half the size and the same to the eye."""
    with Image.open(BytesIO(png)) as image:
        image.convert("RGB").quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Train, draw, and say where the pictures are."""
    out: Path = parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    walk = walk_on_parabola()
    (out / "walk.gif").write_bytes(animate_landscape(walk))
    for name, png in {"walk": to_png(plot_landscape(walk)), **draw_default_study()}.items():
        save_small(png, out / f"{name}.png")
    print(f"pictures: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
