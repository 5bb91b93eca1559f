"""The picture of the walk: what is drawn is what the table holds, still and moving, there and back through JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from PIL import Image

from reports.figures.landscape import FRAMES, PATHS, Landscape, animate_landscape, describe_landscape, plot_landscape
from reports.style import DIVERGENT, GOOD, STYLES, TOO_HIGH, TOO_LOW, VERDICTS

RATES = {GOOD: 0.1, DIVERGENT: 0.22, TOO_LOW: 0.01, TOO_HIGH: 0.199}  # not in the order of the verdicts
SIDE = 4.0


def height(x: float, y: float) -> float:
    return 0.5 * (x * x + 10 * y * y)


def walk(verdict: str, n_steps: int) -> pd.DataFrame:
    """Gradient descent on the parabola."""
    rate, steps = RATES[verdict], np.arange(n_steps + 1)
    x, y = -3 * (1 - rate) ** steps, 1.5 * (1 - 10 * rate) ** steps
    inside = np.abs(y) < SIDE
    table = pd.DataFrame({"step": steps, "epoch": steps / 2, "x": x, "y": y, "height": height(x, y), "inside": inside})
    return table.assign(trial=list(RATES).index(verdict), verdict=verdict, learning_rate=rate)


def leaving() -> pd.DataFrame:
    """The divergent walk up to its first point outside."""
    rows = walk(DIVERGENT, 20)
    assert list(rows["inside"].iloc[:8]) == [True] * 6 + [False] * 2
    return rows[:7]


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
    halo, path, mark, start = ax.lines
    assert np.array_equal(halo.get_xydata(), path.get_xydata())
    return path, mark, start


def profile(landscape: Landscape, verdict: str) -> Axes:
    """The panel below that of a verdict: of all lines the untrained height, the run, and the mark at its end."""
    axes = plot_landscape(landscape).axes
    (at,) = (k for k, ax in enumerate(axes) if f" {verdict}: " in ax.get_title())
    return axes[at + 1]


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


def test_description_says_how_far_the_plane_is_off_the_runs() -> None:
    landscape = parabola(verdicts=(GOOD, TOO_LOW))
    higher = landscape.paths.assign(height=landscape.paths["height"] + np.where(landscape.paths["step"] > 0, 3.0, 0.0))
    off = replace(landscape, paths=higher)
    assert landscape.error < 1e-3
    assert off.error == pytest.approx(3.0 / height(-3.0, 1.5), rel=0.01)
    assert describe_landscape(off).endswith("they are 19 % of the way down apart, in the median.")


def test_ground_between_the_places_that_were_measured_is_that_of_the_hill() -> None:
    landscape = parabola()
    x, y = np.random.default_rng(0).uniform(-SIDE, SIDE, size=(2, 200))
    assert landscape.ground(x, y) == pytest.approx(height(x, y), rel=0.02, abs=0.05)
    corners = np.array([-SIDE, SIDE])
    assert landscape.ground(corners, corners) == pytest.approx(height(corners, corners))
    landscape.heights[0, 0] = math.inf
    assert np.isfinite(landscape.ground(corners, corners)).all()


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
    rows = leaving()
    path, mark, _ = lines(parabola(), DIVERGENT)
    x, y = np.asarray(mark.get_xydata())[0]
    (x0, y0), (x1, y1) = rows[["x", "y"]].to_numpy()[-2:]
    assert len(np.asarray(path.get_xydata())) == len(rows)
    assert abs(y) == SIDE and np.sign(y) == np.sign(y1)
    assert (x - x0) / (x1 - x0) == pytest.approx((y - y0) / (y1 - y0))


def test_path_that_leaves_beside_the_plane_is_marked_on_the_edge_ahead() -> None:
    landscape = parabola()
    last = landscape.paths.index[landscape.paths["verdict"] == DIVERGENT][5:7]
    landscape.paths.loc[last, ["x", "y"]] = [[0.0, 0.0], [-0.5, 0.25]]
    _, mark, _ = lines(landscape, DIVERGENT)
    assert np.asarray(mark.get_xydata()) == pytest.approx(np.array([[-4.0, 2.0]]))


def test_path_that_turns_non_finite_is_marked_where_it_was_last() -> None:
    landscape = parabola()
    rows = landscape.paths.index[landscape.paths["verdict"] == DIVERGENT][:7]
    landscape = replace(landscape, paths=landscape.paths[: rows[-1] + 1])
    landscape.paths.loc[rows[-1], ["x", "y", "height"]] = math.nan, math.nan, math.inf
    _, mark, _ = lines(landscape, DIVERGENT)
    assert np.asarray(mark.get_xydata())[0] == pytest.approx(landscape.paths.loc[rows[-2], ["x", "y"]].to_numpy(float))


@pytest.mark.parametrize("verdict", VERDICTS)
def test_profile_is_the_height_of_the_whole_run_also_after_it_left_the_map(verdict: str) -> None:
    rows, ax = walk(verdict, 20), profile(parabola(), verdict)
    untrained, line, mark = ax.lines
    top = 2 * height(-3.0, 1.5)  # as far above the start as the lowest place lies below
    assert np.asarray(untrained.get_ydata()) == pytest.approx(height(-3.0, 1.5))
    assert ax.get_ylim() == pytest.approx((0.0, top))
    drawn = np.asarray(line.get_xydata())
    assert drawn == pytest.approx(np.column_stack([rows["epoch"], rows["height"].clip(upper=top)]))
    assert np.asarray(mark.get_xydata()) == pytest.approx(drawn[-1:])
    assert (mark.get_marker(), line.get_color()) == (STYLES[verdict].marker, STYLES[verdict].colour)


def test_profile_stands_on_the_ground_under_the_path() -> None:
    landscape = parabola()
    (grey,) = profile(replace(landscape, heights=landscape.heights + 1.0), TOO_LOW).collections
    rows = walk(TOO_LOW, 20)
    top = np.interp(rows["epoch"], *np.asarray(grey.get_paths()[0].vertices)[1 : len(rows) + 1].T)
    assert top == pytest.approx(rows["height"] + 1.0, rel=0.02)


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
    plot_landscape(replace(landscape, paths=landscape.paths.assign(height=2.0))).savefig(BytesIO(), dpi=40)


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
