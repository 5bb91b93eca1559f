"""The walk on the hill: the path of a run of each verdict over a slice of the loss, as a strip of stills and as a film."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from reports.style import STYLES, VERDICTS, format_number

PATHS = ("trial", "learning_rate", "verdict", "step", "epoch", "x", "y", "height", "inside")
LEVELS = 2.0 ** np.arange(-6, 3)  # contours, as shares of the way down: each twice as high above the lowest as the one before
HILL = LinearSegmentedColormap.from_list("hill", ["#ffffff", "#8d99a6"])  # the verdicts' colours stand out on it
STRIP, PANEL = 7.2, 2.4  # inches: of all panels, and of one at most; with the scales a strip is as wide as a page
FRAMES = 36  # of a film
FRAME_MS, LAST_MS = 110, 3_000  # how long each is shown, and the last
FILM_DPI = 100  # of a film: 860 pixels across

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Landscape:
    """A slice of the loss and the paths of some runs in it, as plain data.

    batch_size, seed: of the runs, which start from the same weights.
    examples: how many the heights of the grid were measured on.
    shares: how much of the variance of the points inside lies along x and along y, 0 to 1 each.
    x, y: places of the grid, ascending, shapes (n_x,) and (n_y,): distances in the space of weights from the end of the good
        run, which is at (0, 0). heights: of the grid, shape (n_y, n_x), inf where not finite.
    paths: a row a point, path by path, in order of the steps: ``trial``, ``learning_rate``, ``verdict``, ``step``, ``epoch``
        (fractional), ``x`` and ``y`` of the nearest place in the plane, ``height`` of the point itself, and ``inside``: whether
        it is still in the valley (see ``studies.landscape``). A path that leaves for good ends with its first point outside,
        whose place is missing when its weights were not finite.
    """

    batch_size: int
    seed: int
    examples: int
    shares: tuple[float, float]
    x: Floats
    y: Floats
    heights: Floats
    paths: pd.DataFrame

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; numbers to seven digits, null for what is not finite."""
        paths = {name: [_plain(value) for value in self.paths[name]] for name in PATHS}
        grid = {name: _lists(getattr(self, name)) for name in ("x", "y", "heights")}
        return {name: getattr(self, name) for name in ("batch_size", "seed", "examples")} | {
            "shares": list(self.shares),
            **grid,
            "paths": paths,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Landscape:
        """The landscape that ``to_json`` wrote."""
        grid = {name: np.array(values[name], dtype=float) for name in ("x", "y", "heights")}
        grid["heights"][np.isnan(grid["heights"])] = math.inf
        paths = pd.DataFrame(values["paths"], columns=list(PATHS)).astype({"x": float, "y": float, "height": float})
        paths["height"] = paths["height"].fillna(math.inf)
        first, second = values["shares"]
        return cls(**{**values, **grid, "shares": (first, second), "paths": paths})

    def judged_as(self, runs: pd.DataFrame) -> Landscape:
        """The same with the verdicts that ``runs``, as ``classify`` returns them, give the trials now."""
        verdicts = self.paths["trial"].map(runs.set_index("trial")["verdict"]).fillna(self.paths["verdict"])
        return replace(self, paths=self.paths.assign(verdict=verdicts))


def describe_landscape(landscape: Landscape) -> str:
    """What the picture shows, in three sentences."""
    first, second = (100 * share for share in landscape.shares)
    n_points, n_paths = int(landscape.paths["inside"].sum()), landscape.paths["trial"].nunique()
    return (
        f"The plane through the end of the good run that lies nearest to {n_points} points of {n_paths} runs, batch size"
        f" {landscape.batch_size}, seed {landscape.seed}: it holds {first + second:.0f} % of their variance ({first:.0f} %"
        f" along x, {second:.0f} % along y). Heights are means over {landscape.examples:,} training examples."
        " A ring is the start of a run; a mark on the edge is where it left the picture."
    )


def plot_landscape(landscape: Landscape) -> Figure:
    """A strip of stills, a panel a run in the order of the verdicts: its whole path, from a ring at the start to a mark at the
    end, or where it left the valley for good.
    """
    figure, panels = _backdrop(landscape)
    figure.suptitle(f"The walk on the hill: batch size {landscape.batch_size}, seed {landscape.seed}")
    for trial, ax in panels.items():
        _Walker(ax, landscape, trial).go(math.inf)
    return figure


def animate_landscape(landscape: Landscape) -> bytes:
    """The same as a GIF that plays for ever, all runs walking side by side; the last picture is held."""
    figure, panels = _backdrop(landscape)
    figure.suptitle(" ")  # keeps the room
    walkers = [_Walker(ax, landscape, trial, animated=True) for trial, ax in panels.items()]
    clock = figure.text(0.5, 0.985, "", ha="center", va="top", fontsize="large", animated=True)
    figure.set_dpi(FILM_DPI)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    backdrop = canvas.copy_from_bbox(figure.bbox)
    times = landscape.paths.drop_duplicates("step").sort_values("step")
    chosen = times.iloc[np.unique(np.linspace(0, len(times) - 1, FRAMES).round().astype(int))]
    frames = []
    for step, epoch in zip(chosen["step"], chosen["epoch"], strict=True):
        canvas.restore_region(backdrop)
        clock.set_text(f"step {step:,} of {times['step'].iloc[-1]:,} (epoch {format_number(epoch)})")
        figure.draw_artist(clock)
        for walker in walkers:
            walker.go(step)
            walker.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    palette = frames[-1].quantize(dither=Image.Dither.NONE)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    buffer = BytesIO()
    durations = [FRAME_MS] * len(others) + [LAST_MS]
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=durations, loop=0, optimize=True)
    return buffer.getvalue()


def _backdrop(landscape: Landscape) -> tuple[Figure, dict[int, Axes]]:
    """The hill in a panel for each run, by trial."""
    runs = landscape.paths.drop_duplicates("trial")
    runs = runs.iloc[np.lexsort([runs["learning_rate"], runs["verdict"].map(VERDICTS.index)])]
    width = min(PANEL, STRIP / len(runs))
    height = width * np.ptp(landscape.y) / np.ptp(landscape.x)
    figure = Figure(figsize=(1.4 + width * len(runs), 0.9 + height), layout="compressed")
    start, inside = landscape.paths["height"].iloc[0], landscape.paths.loc[landscape.paths["inside"], "height"]
    lowest = min(landscape.heights.min(), inside.min())
    levels = lowest + ((start - lowest) or 1.0) * LEVELS
    heights = np.minimum(landscape.heights, np.nextafter(4 * levels[-1] - 3 * lowest, math.inf))  # no inf to draw
    look: dict[str, Any] = {
        "levels": levels,
        "cmap": HILL,
        "norm": BoundaryNorm(levels, HILL.N, extend="both"),
        "extend": "both",
    }
    panels: dict[int, Axes] = {}
    for column, row in enumerate(runs.to_dict("records")):
        shared = figure.axes[0] if column else None
        ax = panels[row["trial"]] = figure.add_subplot(1, len(runs), column + 1, sharex=shared, sharey=shared)
        filled = ax.contourf(landscape.x, landscape.y, heights, **look)
        ax.contour(landscape.x, landscape.y, heights, levels=levels, colors="#4a5560", linewidths=0.4)
        style = STYLES[row["verdict"]]
        title = f"{style.sign} {row['verdict']}: {format_number(row['learning_rate'])}"
        ax.set_title(title, fontsize=9, color=style.colour, pad=7)
        ax.set(aspect="equal", xlim=landscape.x[[0, -1]], ylim=landscape.y[[0, -1]])
        ax.tick_params(labelsize=7, labelleft=column == 0)
    bar = figure.colorbar(filled, ax=list(panels.values()), pad=0.01, aspect=25)
    bar.set_label("height (loss)", fontsize=8)
    bar.set_ticks(levels[::2], labels=[format_number(level, digits=2) for level in levels[::2]])
    bar.ax.tick_params(labelsize=7)
    first, second = (f"{100 * share:.0f} % of variance" for share in landscape.shares)
    figure.supxlabel(f"first principal direction of the paths ({first})", fontsize=8)
    figure.supylabel(f"second ({second})", fontsize=8)
    return figure, panels


class _Walker:
    """One run on its way through a panel."""

    def __init__(self, ax: Axes, landscape: Landscape, trial: int, *, animated: bool = False) -> None:
        self._ax = ax
        self._path = landscape.paths[landscape.paths["trial"] == trial]
        style = STYLES[self._path["verdict"].iloc[0]]
        over: dict[str, Any] = {"clip_on": False, "zorder": 4, "ls": ""}
        (self._line,) = ax.plot([], [], color=style.colour, ls=style.dash, lw=1.4, marker=".", ms=2.5)
        (self._mark,) = ax.plot([], [], style.marker, color=style.colour, mec="white", mew=0.8, ms=8, **over)
        (start,) = ax.plot(*self._path[["x", "y"]].iloc[0], "o", mfc="white", mec="black", ms=4.5, **over)
        self._artists: list[Line2D] = [self._line, self._mark, start]
        for artist in self._artists:
            artist.set(animated=animated, in_layout=False)

    def go(self, step: float) -> None:
        """Walk as far as the run had come at ``step``."""
        done = self._path[self._path["step"] <= step]
        places = done[["x", "y"]].to_numpy(float, copy=True)
        if np.isnan(places[-1]).any():
            places = places[:-1]
        elif not done["inside"].iloc[-1]:  # also where it lies beside the plane, not beyond the panel
            places[-1] = _edge(places[-2], places[-1], self._ax)
        self._line.set_data(*places.T)
        self._mark.set_data(*places[-1:].T)

    def draw(self) -> None:
        """Draw it over what is there."""
        for artist in self._artists:
            self._ax.draw_artist(artist)


def _edge(here: Floats, there: Floats, ax: Axes) -> Floats:
    """Where the way from a place in the panel towards another, straight on past it, meets the edge of the panel."""
    ends = np.array([ax.get_xlim(), ax.get_ylim()])
    ahead = [(limits[int(way > 0)] - at) / way for at, way, limits in zip(here, there - here, ends, strict=True) if way]
    return np.clip(here + min(ahead, default=0.0) * (there - here), ends[:, 0], ends[:, 1])


def _plain(value: Any) -> Any:
    """A cell of a table as plain JSON."""
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, float):
        return value
    return float(f"{value:.7g}") if math.isfinite(value) else None


def _lists(values: Floats) -> Any:
    return [_lists(row) for row in values] if values.ndim > 1 else [_plain(value) for value in values]
