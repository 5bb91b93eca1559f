"""Draw the pictures of the README from real runs: the walk on a parabola in the four regimes, and the default study."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from reports.figures import draw_figures
from reports.landscape import Landscape, animate_landscape, plot_landscape
from reports.style import VERDICTS
from studies import StudyConfig, judge_study, run_study
from studies.landscape import survey

# Steepness 1 along one axis and 10 along the other: the walk grows for ever above a learning rate of 2 / 10.
PARABOLA = {"class_path": "Parabola", "init_args": {"eigenvalues": [1.0, 10.0], "start": [-4.0, 1.6]}}
WHOLE = {"class_path": "ParabolaData", "init_args": {"n_examples": 16}}  # with batch size 16: a step an epoch
DPI = 120  # 1,030 pixels across, and a small file


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


def draw_default_study() -> dict[str, Figure]:
    """The map of the default study and the walk of its runs."""
    with tempfile.TemporaryDirectory() as folder:
        config = StudyConfig(storage=f"{folder}/studies.db")
        study = run_study(config, out=folder)
        judged = judge_study(study)
        landscape = survey(study, config, judged, batch_size=64, out=folder)
    return {"map": draw_figures(judged)["map"], "landscape": plot_landscape(landscape)}


def save_small(figure: Figure, path: Path) -> None:
    """Save a PNG of 256 colours, half the size and the same to the eye."""
    buffer = BytesIO()
    figure.savefig(buffer, dpi=DPI)
    with Image.open(buffer) as image:
        image.convert("RGB").quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Train, draw, and say where the pictures are."""
    out: Path = parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    walk = walk_on_parabola()
    (out / "walk.gif").write_bytes(animate_landscape(walk))
    for name, figure in {"walk": plot_landscape(walk), **draw_default_study()}.items():
        save_small(figure, out / f"{name}.png")
    print(f"pictures: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
