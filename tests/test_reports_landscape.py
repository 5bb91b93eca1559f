"""The picture of the walk: what is drawn is what the table holds, still and moving, there and back through JSON."""

from __future__ import annotations

import json
import math
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from PIL import Image

from reports.landscape import FRAMES, PATHS, Landscape, animate_landscape, describe_landscape, plot_landscape
from reports.style import DIVERGENT, GOOD, STYLES, TOO_HIGH, TOO_LOW, VERDICTS

RATES = {GOOD: 0.1, DIVERGENT: 0.22, TOO_LOW: 0.01, TOO_HIGH: 0.199}  # not in the order of the verdicts
SIDE = 4.0


def height(x: float, y: float) -> float:
    return 0.5 * (x * x + 10 * y * y)


def walk(verdict: str, n_steps: int) -> pd.DataFrame:
    """Gradient descent on the parabola, until it is outside the picture."""
    rate, steps = RATES[verdict], np.arange(n_steps + 1)
    x, y = -3 * (1 - rate) ** steps, 1.5 * (1 - 10 * rate) ** steps
    inside = np.abs(y) < SIDE
    table = pd.DataFrame({"step": steps, "epoch": steps / 2, "x": x, "y": y, "height": height(x, y), "inside": inside})
    return table[: int(np.flatnonzero(inside)[-1]) + 2].assign(
        trial=list(RATES).index(verdict), verdict=verdict, learning_rate=rate
    )


def parabola(*, n_steps: int = 20, verdicts: tuple[str, ...] = tuple(RATES)) -> Landscape:
    places = np.linspace(-SIDE, SIDE, 21)
    return Landscape(
        batch_size=16,
        seed=3,
        examples=1_347,
        shares=(0.75, 0.25),
        x=places,
        y=places,
        heights=height(places[None, :], places[:, None]),
        paths=pd.concat([walk(verdict, n_steps) for verdict in verdicts], ignore_index=True)[list(PATHS)],
    )


def lines(landscape: Landscape, verdict: str) -> tuple[Line2D, Line2D, Line2D]:
    """The path, the mark at its end and the ring at its start, in the panel of a verdict."""
    figure = plot_landscape(landscape)
    (ax,) = (ax for ax in figure.axes if f" {verdict}: " in ax.get_title())
    path, mark, start = ax.lines
    return path, mark, start


def same(one: Landscape, other: Landscape) -> None:
    for name in ("x", "y", "heights"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-6)
    assert (one.batch_size, one.seed, one.examples, one.shares) == (other.batch_size, other.seed, other.examples, other.shares)
    pd.testing.assert_frame_equal(one.paths, other.paths, check_dtype=False, rtol=1e-6)


def test_landscape_comes_back_from_json_with_what_is_not_finite() -> None:
    landscape = parabola()
    landscape.heights[0, 0] = math.inf
    landscape.paths.loc[landscape.paths.index[-1], ["x", "y", "height"]] = math.nan, math.nan, math.inf
    text = json.dumps(landscape.to_json(), allow_nan=False)
    same(Landscape.from_json(json.loads(text)), landscape)


def test_runs_that_are_judged_anew_change_their_verdict() -> None:
    runs = pd.DataFrame({"trial": [0, 1, 7], "verdict": [TOO_LOW, DIVERGENT, GOOD]})
    judged = parabola().judged_as(runs).paths.drop_duplicates("trial").set_index("trial")["verdict"]
    assert judged.to_dict() == {0: TOO_LOW, 1: DIVERGENT, 2: TOO_LOW, 3: TOO_HIGH}


def test_description_says_how_much_of_the_variance_the_plane_holds() -> None:
    sentence = describe_landscape(parabola())
    assert "batch size 16, seed 3: it holds 100 % of their variance (75 % along x, 25 % along y)" in sentence
    assert "of 4 runs" in sentence and "1,347 training examples" in sentence


def test_each_run_has_a_panel_in_the_order_of_the_verdicts() -> None:
    titles = [ax.get_title() for ax in plot_landscape(parabola()).axes if ax.get_title()]
    assert titles == [f"{STYLES[verdict].sign} {verdict}: {RATES[verdict]:g}" for verdict in VERDICTS]


@pytest.mark.parametrize("verdict", [TOO_LOW, GOOD, TOO_HIGH])
def test_path_is_drawn_whole_from_its_start_to_its_end(verdict: str) -> None:
    rows = walk(verdict, 20)
    path, mark, start = lines(parabola(), verdict)
    assert np.asarray(path.get_xydata()) == pytest.approx(rows[["x", "y"]].to_numpy())
    assert np.asarray(start.get_xydata()) == pytest.approx(rows[["x", "y"]].to_numpy()[:1])
    assert np.asarray(mark.get_xydata()) == pytest.approx(rows[["x", "y"]].to_numpy()[-1:])
    assert (path.get_color(), path.get_linestyle()) == (STYLES[verdict].colour, STYLES[verdict].dash)
    assert mark.get_marker() == STYLES[verdict].marker


def test_path_that_leaves_is_marked_on_the_edge_where_it_leaves() -> None:
    rows = walk(DIVERGENT, 20)
    assert list(rows["inside"].iloc[-2:]) == [True, False]
    _, mark, _ = lines(parabola(), DIVERGENT)
    x, y = np.asarray(mark.get_xydata())[0]
    (x0, y0), (x1, y1) = rows[["x", "y"]].to_numpy()[-2:]
    assert abs(y) == SIDE and np.sign(y) == np.sign(y1)
    assert (x - x0) / (x1 - x0) == pytest.approx((y - y0) / (y1 - y0))


def test_path_that_leaves_beside_the_plane_is_marked_on_the_edge_ahead() -> None:
    landscape = parabola()
    last = landscape.paths.index[landscape.paths["verdict"] == DIVERGENT][-2:]
    landscape.paths.loc[last, ["x", "y"]] = [[0.0, 0.0], [-0.5, 0.25]]
    _, mark, _ = lines(landscape, DIVERGENT)
    assert np.asarray(mark.get_xydata()) == pytest.approx(np.array([[-4.0, 2.0]]))


def test_path_that_turns_non_finite_is_marked_where_it_was_last() -> None:
    landscape = parabola()
    rows = landscape.paths.index[landscape.paths["verdict"] == DIVERGENT]
    landscape.paths.loc[rows[-1], ["x", "y", "height"]] = math.nan, math.nan, math.inf
    _, mark, _ = lines(landscape, DIVERGENT)
    assert np.asarray(mark.get_xydata())[0] == pytest.approx(landscape.paths.loc[rows[-2], ["x", "y"]].to_numpy(float))


@pytest.mark.parametrize("verdicts", [(GOOD,), (TOO_LOW, GOOD), tuple(RATES)], ids=len)
def test_any_number_of_runs_can_be_drawn(verdicts: tuple[str, ...]) -> None:
    plot_landscape(parabola(verdicts=verdicts)).savefig(BytesIO(), dpi=40)
    assert plt.get_fignums() == []


def test_hill_of_which_most_is_not_finite_can_be_drawn() -> None:
    landscape = parabola()
    landscape.heights[:, 5:] = math.inf
    plot_landscape(landscape).savefig(BytesIO(), dpi=40)


def test_hill_without_a_way_down_can_be_drawn() -> None:
    landscape = parabola(verdicts=(GOOD,))
    landscape.heights[:] = 2.0
    plot_landscape(Landscape(**{**vars(landscape), "paths": landscape.paths.assign(height=2.0)})).savefig(BytesIO(), dpi=40)


def test_film_plays_for_ever_and_holds_its_last_picture() -> None:
    film = Image.open(BytesIO(animate_landscape(parabola(n_steps=90))))
    durations = []
    for frame in range(film.n_frames):
        film.seek(frame)
        durations.append(film.info["duration"])
    assert film.format == "GIF" and film.info["loop"] == 0
    assert 30 < film.n_frames <= FRAMES
    assert durations[-1] > 10 * max(durations[:-1])


def test_film_ends_with_every_verdict_in_its_colour() -> None:
    film = Image.open(BytesIO(animate_landscape(parabola())))
    film.seek(film.n_frames - 1)
    pixels = np.asarray(film.convert("RGB")).reshape(-1, 3).astype(int)
    for style in STYLES.values():
        away = np.abs(pixels - np.round(255 * np.array(to_rgb(style.colour)))).max(axis=1)
        assert (away <= 12).sum() > 20
