"""The walk on the hill: the path of a run of each verdict on a map of the loss and in profile, as stills and as a film."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image
from scipy.ndimage import map_coordinates

from reports.style import STYLES, VERDICTS, format_number

PATHS = ("trial", "learning_rate", "verdict", "step", "epoch", "x", "y", "height", "inside")
LEVELS = 2.0 ** np.arange(-6, 3)  # contours, as shares of the way down: each twice as high above the lowest as the one before
HILL = LinearSegmentedColormap.from_list("hill", ["#ffffff", "#8d99a6"])  # the verdicts' colours stand out on it
STRIP, PANEL = 7.2, 2.4  # inches: of all panels, and of one at most; with the scales a strip is as wide as a page
PROFILE = 0.8  # inches: how high the profiles below the panels are
CUT, NEAR = 64.0, 2.0**-6  # ways down: above the highest level the ground is flat, below the lowest one linear
FINE = 2  # places drawn for each that was measured: contours are round
WIDE = "\N{FIGURE SPACE}"  # as wide as a digit, so that the words beside a number that grows stand still
HALO: dict[str, Any] = {"color": "white", "lw": 3.0, "alpha": 0.8}  # of a path: in grey it may be as dark as the hill
LINE, GROUND = "#4a5560", "#c9d0d6"
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
        it is in the valley (see ``studies.landscape``). The last point of a run that turned non-finite has no place.
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
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The landscape that ``to_json`` wrote."""
        grid = {name: np.array(values[name], dtype=float) for name in ("x", "y", "heights")}
        grid["heights"][np.isnan(grid["heights"])] = math.inf
        paths = pd.DataFrame(values["paths"], columns=list(PATHS)).astype({"x": float, "y": float, "height": float})
        paths["height"] = paths["height"].fillna(math.inf)
        first, second = values["shares"]
        return cls(**{**values, **grid, "shares": (first, second), "paths": paths})

    @property
    def start(self) -> float:
        """The untrained height, where all paths start."""
        return float(self.paths["height"].iloc[0])

    @property
    def lowest(self) -> float:
        """The least height of the grid and of the points inside."""
        return float(min(self.heights.min(), self.paths.loc[self.paths["inside"], "height"].min()))

    @property
    def way_down(self) -> float:
        """From the untrained height to the lowest, in units of the loss; 1 where all heights are the same."""
        return (self.start - self.lowest) or 1.0

    def ground(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
        """Heights of the plane at places in the grid, between those that were measured; flat far above the start.

        By cubic splines of the logarithm of the height above the lowest, as heights span many powers of ten.
        """
        logs = np.log(np.minimum((self.heights - self.lowest) / self.way_down, CUT) + NEAR)
        at = [(np.asarray(each, float) - axis[0]) / (axis[1] - axis[0]) for each, axis in ((y, self.y), (x, self.x))]
        between: Floats = map_coordinates(logs, np.broadcast_arrays(*at), mode="nearest")
        return self.lowest + self.way_down * (np.exp(between) - NEAR)

    @property
    def error(self) -> float:
        """How far the plane is off the paths in it: the median distance of the ground from the height of the run itself, over
        the points inside, as a share of the way down.
        """
        inside = self.paths[self.paths["inside"]]
        off = np.abs(self.ground(inside["x"], inside["y"]) - inside["height"]) / self.way_down
        return float(np.nanmedian(off))

    def judged_as(self, runs: pd.DataFrame) -> Self:
        """The same with the verdicts that ``runs``, as ``classify`` returns them, give the trials now."""
        verdicts = self.paths["trial"].map(runs.set_index("trial")["verdict"]).fillna(self.paths["verdict"])
        return replace(self, paths=self.paths.assign(verdict=verdicts))


def describe_landscape(landscape: Landscape) -> str:
    """What the picture shows and how far it is true, in a few sentences."""
    first, second = (100 * share for share in landscape.shares)
    n_points, n_paths = int(landscape.paths["inside"].sum()), landscape.paths["trial"].nunique()
    return (
        f"The plane through the end of the good run that lies nearest to {n_points} points of {n_paths} runs, batch size"
        f" {landscape.batch_size}, seed {landscape.seed}: it holds {first + second:.0f} % of their variance ({first:.0f} %"
        f" along x, {second:.0f} % along y). Heights of the plane are means over {landscape.examples:,} training examples, with"
        " the good run's averages where there is batch norm. A ring is the start of a run; a mark on the edge is where it left"
        " the picture. Below, each run's own height, over the ground under its path in grey: they are"
        f" {100 * landscape.error:.2g} % of the way down apart, in the median."
    )


def plot_landscape(landscape: Landscape) -> Figure:
    """A strip of stills, a panel a run in the order of the verdicts: above its path on the map of the hill, from a ring at the
    start to a mark at the end, or where it left the valley for good; below its profile, the height over the time trained.
    """
    figure, walkers = _strip(landscape)
    figure.suptitle(f"The walk on the hill by learning rate (batch size {landscape.batch_size}, seed {landscape.seed})")
    for walker in walkers:
        walker.go(math.inf)
    return figure


def animate_landscape(landscape: Landscape) -> bytes:
    """The same as a GIF that plays for ever, all runs walking side by side; the last picture is held."""
    figure, walkers = _strip(landscape, animated=True)
    clock = figure.suptitle(" ", animated=True)
    figure.set_dpi(FILM_DPI)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    backdrop = canvas.copy_from_bbox(figure.bbox)
    steps = np.unique(landscape.paths["step"])
    last = f"{steps[-1]:,}"
    frames = []
    for step in steps[np.unique(np.linspace(0, len(steps) - 1, FRAMES).round().astype(int))]:
        canvas.restore_region(backdrop)
        clock.set_text(f"The walk on the hill: step {f'{step:,}'.rjust(len(last), WIDE)} of {last}")
        figure.draw_artist(clock)
        for walker in walkers:
            walker.go(step)
            walker.draw(canvas.get_renderer())
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    palette = frames[-1].quantize(dither=Image.Dither.NONE)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    buffer = BytesIO()
    durations = [FRAME_MS] * len(others) + [LAST_MS]
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=durations, loop=0, optimize=True)
    return buffer.getvalue()


def _strip(landscape: Landscape, *, animated: bool = False) -> tuple[Figure, list[Any]]:
    """The hill and the profile of each run, and who walks there."""
    runs = landscape.paths.drop_duplicates("trial")
    runs = runs.iloc[np.lexsort([runs["learning_rate"], runs["verdict"].map(VERDICTS.index)])]
    width = min(PANEL, STRIP / len(runs))
    high = width * np.ptp(landscape.y) / np.ptp(landscape.x)
    figure = Figure(figsize=(1.4 + width * len(runs), 1.4 + high + PROFILE), layout="compressed")
    grid = figure.add_gridspec(2, len(runs), height_ratios=[high, PROFILE])
    levels = landscape.lowest + landscape.way_down * LEVELS
    x, y = (np.linspace(each[0], each[-1], FINE * (len(each) - 1) + 1) for each in (landscape.x, landscape.y))
    heights = landscape.ground(x[None, :], y[:, None])
    look: dict[str, Any] = {"cmap": HILL, "norm": BoundaryNorm(levels, HILL.N, extend="both"), "extend": "both"}
    first, second = (f"{100 * share:.0f} % of variance" for share in landscape.shares)
    maps: list[Axes] = []
    profiles: list[Axes] = []
    for column, (learning_rate, verdict) in enumerate(zip(runs["learning_rate"], runs["verdict"], strict=True)):
        over, below = (
            figure.add_subplot(grid[row, column], sharex=first_one, sharey=first_one)
            for row, first_one in enumerate((maps[0], profiles[0]) if column else (None, None))
        )
        filled = over.contourf(x, y, heights, levels, **look)
        over.contour(x, y, heights, levels, colors=LINE, linewidths=0.4)
        style = STYLES[verdict]
        over.set_title(f"{style.sign} {verdict}: {format_number(learning_rate)}", fontsize=10, color=style.colour, pad=7)
        over.set(aspect="equal", xlim=landscape.x[[0, -1]], ylim=landscape.y[[0, -1]])
        below.axhline(landscape.start, color=LINE, lw=0.6, ls=(0, (1, 2)))
        below.set(xlim=(0, landscape.paths["epoch"].max()), ylim=(landscape.lowest, landscape.start + landscape.way_down))
        below.spines[["top", "right"]].set_visible(False)
        for ax in (over, below):
            ax.tick_params(labelsize=7, labelleft=column == 0)
        maps.append(over)
        profiles.append(below)
    bar = figure.colorbar(filled, ax=maps, pad=0.01, aspect=25)
    bar.set_label("height (loss)", fontsize=8)
    bar.set_ticks(levels[::2].tolist(), labels=[format_number(level, digits=2) for level in levels[::2]])
    bar.ax.tick_params(labelsize=7)
    maps[0].set_xlabel(f"along x: {first}", fontsize=7)
    maps[0].set_ylabel(f"along y: {second}", fontsize=7)
    profiles[0].set_ylabel("height", fontsize=8)
    figure.supxlabel("time trained (epochs)", fontsize=8)
    places = zip(runs["trial"], maps, profiles, strict=True)
    return figure, [_Walker(landscape, *place, animated=animated) for place in places]


class _Walker:
    """One run on its way through a panel and along its profile."""

    def __init__(self, landscape: Landscape, trial: int, ax: Axes, below: Axes, *, animated: bool) -> None:
        self._path = landscape.paths[landscape.paths["trial"] == trial]
        self._ax, self._below = ax, below
        style = STYLES[self._path["verdict"].iloc[0]]
        over: dict[str, Any] = {"clip_on": False, "zorder": 4, "ls": ""}
        line: dict[str, Any] = {"color": style.colour, "ls": style.dash, "lw": 1.4, "marker": ".", "ms": 2.5}
        mark: dict[str, Any] = {"color": style.colour, "marker": style.marker, "mec": "white", "mew": 0.8, **over}
        ring: dict[str, Any] = {"marker": "o", "mfc": "white", "mec": "black", "ms": 4.5, **over}
        self._on_map = self._path[: int(np.flatnonzero(self._path["inside"])[-1]) + 2]  # till it leaves for good
        inside = self._path[self._path["inside"]]
        ground = landscape.ground(inside["x"], inside["y"])
        below.fill_between(inside["epoch"], ground, below.get_ylim()[0], color=GROUND, lw=0)
        (self._halo,) = ax.plot([], [], **HALO)
        (self._line,), (self._mark,) = ax.plot([], [], **line), ax.plot([], [], ms=8, **mark)
        (self._profile,), (self._at,) = below.plot([], [], **line), below.plot([], [], ms=6, **mark)
        starts = ax.plot(*self._path[["x", "y"]].iloc[0], **ring)
        self._artists: list[Line2D] = [self._halo, self._line, self._mark, *starts, self._profile, self._at]
        for artist in self._artists:
            artist.set(animated=animated, in_layout=False)

    def go(self, step: float) -> None:
        """Walk as far as the run had come at ``step``."""
        done = self._on_map[self._on_map["step"] <= step]
        places = done[["x", "y"]].to_numpy(float, copy=True)
        if np.isnan(places[-1]).any():
            places = places[:-1]
        elif not done["inside"].iloc[-1]:  # also where it lies beside the plane, not beyond the panel
            places[-1] = _edge(places[-2], places[-1], self._ax)
        self._halo.set_data(*places.T)
        self._line.set_data(*places.T)
        self._mark.set_data(*places[-1:].T)
        done = self._path[self._path["step"] <= step]
        heights = done["height"].clip(upper=self._below.get_ylim()[1])
        self._profile.set_data(done["epoch"], heights)
        self._at.set_data(done["epoch"].iloc[-1:], heights.iloc[-1:])

    def draw(self, renderer: RendererBase) -> None:
        """Draw it over what is there."""
        for artist in self._artists:
            artist.draw(renderer)


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
