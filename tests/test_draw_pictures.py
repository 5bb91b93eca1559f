"""The pictures of the documents: small, in the verdicts' colours, and the four verdicts of the parabola are real."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image
from test_documents import DOCUMENTS
from test_scripts import ROOT, script

from reports.style import STYLES, VERDICTS


def test_walk_on_the_parabola_shows_the_four_verdicts_in_the_whole_plane() -> None:
    walk = script("draw_pictures").walk_on_parabola()
    assert list(walk.paths["verdict"].unique()) == list(VERDICTS)
    assert sum(walk.shares) == pytest.approx(1)


def test_small_pictures_keep_the_colours_of_the_verdicts(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 1))
    for k, style in enumerate(STYLES.values()):
        figure.patches.append(figure.add_subplot(1, 4, k + 1, facecolor=style.colour).patch)
    pictures = script("draw_pictures")
    pictures.save_small(pictures.to_png(figure), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        found = {colour for _, colour in image.convert("RGB").getcolors()}
    for style in STYLES.values():
        wanted = [int(style.colour[k : k + 2], 16) for k in (1, 3, 5)]
        assert min(sum(abs(a - b) for a, b in zip(colour, wanted, strict=True)) for colour in found) < 12


def test_pictures_of_the_documents_are_small_and_each_is_shown_once() -> None:
    shown = [name for text in DOCUMENTS.values() for name in re.findall(r"!\[[^\]]+\]\(\S*scripts/pictures/(\S+)\)", text)]
    pictures = list((ROOT / "scripts" / "pictures").iterdir())
    assert sorted(shown) == sorted(path.name for path in pictures)
    assert all(path.stat().st_size < 150_000 for path in pictures)
