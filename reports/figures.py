"""Judged tables in, matplotlib figures out: where learning rates work, how long they take, and how runs behave.

A verdict is always a colour and a shape (``reports.style``). Every ``plot_...`` returns the figure it drew in: a new one, or
the one of the ``ax`` it is given. Where a figure has a panel for each batch size, ``ax`` takes one and so must the table.
Nothing here shows, saves, or touches pyplot's global state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.batch_size import measure_bumpiness, minibatch_points
from reports.judged import Judged
from reports.marks import (
    FAINT,
    PANEL,
    RATE,
    height_axis,
    log_axis,
    mark_edges,
    mark_recommended,
    mark_verdicts,
    spans_decades,
    verdict_handles,
)
from reports.style import DIVERGENT, GOOD, STYLES, format_number, name_metric
from reports.verdicts import split_curves

FIGURES: dict[str, str] = {
    "map": "Every learning rate and batch size tried, with its verdict, and below each row its three edges with their"
    " 90 % intervals. The band is the interval of the recommended learning rate.",
    "time_to_bottom": "How long each learning rate takes to the bottom. The row “never” holds those that do not get there.",
    "final_height": "Where each run ends, a mark a seed; the line is the median. Marks on the top edge ended above it.",
    "learning_curves": "Every run on its way down, or as many as the title of its panel says."
    " A mark on the top edge shows where a run left the valley.",
    "loss_and_metric": "Validation at the end of training. Marks on the edge lie beyond it or turned non-finite.",
    "bumps": "What a step sees of the hill, at the smallest and the largest batch size: the height of one run, and a dot for"
    " the loss of each minibatch that was recorded. Bumpiness is how far the dots stray from the line.",
    "batch_time": "Seconds on the clock, by the runs at the recommended learning rate; of runs trained together, their share.",
}
"""Names of the figures, which are their file stems too, and what each shows."""

LINES = 300  # runs drawn in a panel of learning curves; more cover each other and take a millisecond each
DOTS = "#8C5A9E"  # of none of the verdicts


def draw_figures(judged: Judged) -> dict[str, Figure]:
    """The figures a judged study can fill, by the names in ``FIGURES``."""
    figures: dict[str, Figure] = {}
    runs, cells = judged.runs, judged.cells
    if cells.empty:
        return figures
    figures["map"] = plot_map(cells, judged.recommendations, judged.boundaries)
    figures["time_to_bottom"] = plot_time_to_bottom(cells)
    figures["final_height"] = plot_final_height(runs)
    figures["learning_curves"] = plot_learning_curves(runs, judged.curves)
    if _metrics(cells):
        figures["loss_and_metric"] = plot_loss_and_metric(cells)
    bumpy = judged.batch_sizes.dropna(subset=["bumpiness"])
    if len(bumpy):
        figures["bumps"] = plot_bumps(bumpy.iloc[[0, -1] if len(bumpy) > 1 else [0]], runs, judged.curves)
    if len(judged.batch_sizes) > 1:
        figures["batch_time"] = plot_batch_time(judged.batch_sizes)
    return figures


def plot_map(
    cells: pd.DataFrame,
    recommendations: pd.DataFrame | None = None,
    boundaries: pd.DataFrame | None = None,
    *,
    ax: Axes | None = None,
) -> Figure:
    """Verdicts over learning rate and batch size; where given, also the recommended learning rates and the edges.

    Of ``recommendations`` and ``boundaries`` only the batch sizes of ``cells`` are drawn.
    """
    sizes = sorted(cells["batch_size"].unique())
    ax = ax or Figure(figsize=(2 * PANEL[0], 2.1 + 0.75 * len(sizes)), layout="constrained").add_subplot()
    area = float(np.clip(3000 / cells["learning_rate"].nunique(), 45, 200))
    handles = mark_verdicts(ax, cells["learning_rate"], cells["batch_size"].map(sizes.index), cells["verdict"], area=area)
    if recommendations is not None:
        handles += mark_recommended(ax, recommendations[recommendations["batch_size"].isin(sizes)], sizes, area=area)
    if boundaries is not None:
        handles += mark_edges(ax, boundaries[boundaries["batch_size"].isin(sizes)], sizes)
    log_axis(ax, "x", cells["learning_rate"])
    ax.set(ylim=(-0.6, len(sizes) - 0.4), xlabel=RATE, ylabel="batch size (examples)")
    ax.set_yticks(range(len(sizes)), [str(size) for size in sizes])
    ax.set_title(_counted(cells["verdict"], "learning rate" if len(sizes) == 1 else "cell"))
    _legend_below(ax, handles)
    return _figure_of(ax)


def plot_time_to_bottom(cells: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Time to bottom in epochs over learning rate, a panel a batch size; cells that never get there stand at the top edge."""
    figure, panels = _panels(cells, "How long it takes to the bottom", "time to bottom (epochs)", into=ax)
    times = cells["time_to_bottom_epochs"].to_numpy(float)
    reached = times[np.isfinite(times) & (times > 0)]
    low, high = (reached.min(), reached.max()) if len(reached) else (1.0, 1.0)
    never = high * max(high / low, 10) ** 0.15
    for size, ax in panels.items():
        rows = cells[cells["batch_size"] == size].sort_values("learning_rate")
        arrived = rows[np.isfinite(rows["time_to_bottom_epochs"])]
        ax.plot(arrived["learning_rate"], arrived["time_to_bottom_epochs"].clip(low), color=FAINT, lw=1, zorder=1)
        shown = rows["time_to_bottom_epochs"].replace(math.inf, never).clip(low)
        mark_verdicts(ax, rows["learning_rate"], shown, rows["verdict"])
        good = rows[rows["verdict"] == GOOD].nsmallest(1, "time_to_bottom_epochs")
        best = [(format_number(row.time_to_bottom_epochs), format_number(row.learning_rate)) for row in good.itertuples()]
        _title(ax, size, "{} epochs at {}".format(*best[0]) if best else "none is good")
        log_axis(ax, "y", reached if len(reached) else [never], extra={never: "never"})
        ax.axhline(never, color=FAINT, lw=0.6, ls=":", zorder=0)
        ax.set_ylim(low / (never / high) ** 0.7, never * (never / high) ** 0.7)
    return figure


def plot_final_height(runs: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Final height over learning rate, a mark a run and a line for the median; above the untrained height it is cut off."""
    runs = runs[runs["verdict"].notna()]
    figure, panels = _panels(runs, "Where the runs end (dotted: untrained)", "final height (loss)", into=ax)
    for size, ax in panels.items():
        rows = runs[runs["batch_size"] == size]
        top = height_axis(ax, rows["final_height"], rows["first_height"])
        mark_verdicts(ax, rows["learning_rate"], rows["final_height"].clip(upper=top), rows["verdict"])
        median = rows["final_height"].clip(upper=top).groupby(rows["learning_rate"]).median()
        ax.plot(median.index, median, color=FAINT, lw=1, zorder=1)
        lowest = rows.groupby("learning_rate")["final_height"].median()
        where = f"lowest at {format_number(lowest.idxmin())}" if lowest.min() < math.inf else "none stays finite"
        _title(ax, size, where)
    return figure


def plot_learning_curves(runs: pd.DataFrame, curves: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Height over epochs, a thin line a run, a panel a batch size; a mark where a run leaves through the top for good.

    Of more than ``LINES`` runs in a panel that many are drawn, evenly over the learning rates, and its title says so.
    """
    runs = runs[runs["verdict"].notna()]
    title, xlabel = "The runs on their way down (dotted: untrained)", "time trained (epochs, log scale)"
    figure, panels = _panels(runs, title, "height (loss)", xlabel=xlabel, handles=verdict_handles(lines=True), into=ax)
    first = curves.loc[curves["epoch"] > 0, "epoch"].min()
    at_once = ~np.isfinite(curves["value"]) & (curves["epoch"] == 0)  # on a log scale as early as anything can be
    shown = curves.assign(epoch=curves["epoch"].mask(at_once, 1.0 if math.isnan(first) else first))
    paths = split_curves(shown[shown["epoch"] > 0], "height")
    for size, ax in panels.items():
        rows = runs[runs["batch_size"] == size]
        measured = rows[rows["trial"].isin(list(paths))]
        drawn = _spread(measured, LINES)
        values = [paths[trial][1] for trial in measured["trial"]]
        top = height_axis(ax, np.concatenate(values) if values else np.ones(1), rows["first_height"])
        for verdict, style in STYLES.items():
            inside, left = [], []
            for trial in drawn.loc[drawn["verdict"] == verdict, "trial"]:
                epochs, height = paths[trial]
                below = np.flatnonzero(height < top)
                end = int(below[-1]) + 1 if len(below) else 0  # first point of the last stay above the top edge
                inside.append(np.column_stack([epochs, height.clip(max=top)])[: end + 1])
                left += [epochs[end]] if end < len(height) else []
            look: dict[str, Any] = {"color": style.colour, "linestyle": style.dash, "linewidth": 0.9, "alpha": 0.7}
            ax.add_collection(LineCollection(inside, **look))
            mark: dict[str, Any] = {"marker": style.marker, "mec": "white", "mew": 0.5, "ms": 7, "clip_on": False, "zorder": 3}
            if left:  # a line without points would upset the layout
                ax.plot(left, [top] * len(left), color=style.colour, ls="", **mark)
        log_axis(ax, "x", np.concatenate([paths[trial][0] for trial in drawn["trial"]]) if len(drawn) else np.ones(1))
        _title(ax, size, _counted(rows["verdict"], "run") + (f"\n{LINES} of them drawn" if len(drawn) < len(measured) else ""))
    return figure


def _spread(runs: pd.DataFrame, n: int) -> pd.DataFrame:
    """At most ``n`` runs, evenly over the learning rates, in their order."""
    places = np.linspace(0, len(runs) - 1, min(n, len(runs))).round().astype(int)
    return runs.iloc[np.sort(np.argsort(runs["learning_rate"].to_numpy(), kind="stable")[places])]


def plot_loss_and_metric(cells: pd.DataFrame, *, metrics: Sequence[str] | None = None, ax: Axes | None = None) -> Figure:
    """Final validation metrics over learning rate, a row of panels a batch size.

    metrics: columns of ``cells``, of which ``ax`` takes one; the validation loss and up to two more unless given.
    """
    names, sizes = list(metrics or _metrics(cells)), sorted(cells["batch_size"].unique())
    if not names:
        ax = ax or Figure(figsize=PANEL, layout="constrained").add_subplot()
        ax.set_axis_off()
        ax.text(0.5, 0.5, "These runs recorded no validation metrics.", ha="center", va="center", transform=ax.transAxes)
        return _figure_of(ax)
    if unknown := [name for name in names if name not in cells]:
        raise ValueError(f"metrics must be columns of cells, such as {_names(_metrics(cells))}, got {_names(unknown)}")
    if ax is not None and len(names) > 1:
        raise ValueError(f"ax shows one metric, name it with metrics; got {_names(names)}")
    if ax is None:
        figure = _figure("What validation says at the end", verdict_handles(), rows=len(sizes), columns=len(names))
    else:
        figure = _use(ax, sizes, verdict_handles())
    for k, (size, name) in enumerate((size, name) for size in sizes for name in names):
        panel = ax or figure.add_subplot(len(sizes), len(names), k + 1, sharex=figure.axes[0] if k else None)
        rows = cells[cells["batch_size"] == size].sort_values("learning_rate")
        values = rows[name].astype(float).replace([-math.inf, math.inf], math.nan)
        kept = values[rows["verdict"] != DIVERGENT].dropna()
        kept = kept if len(kept) else values.dropna() if values.notna().any() else pd.Series([0.0, 1.0])
        low, high = kept.min(), kept.max()
        if spans_decades(low, high):
            panel.set_yscale("log")
            low, high = low * (low / high) ** 0.05, high * (high / low) ** 0.1
            log_axis(panel, "y", np.array([low, high]))
        else:
            margin = 0.08 * ((high - low) or abs(high) or 1.0)
            low, high = low - margin, high + margin
        panel.set_ylim(low, high)
        panel.plot(rows["learning_rate"], values.where(values.between(low, high)), color=FAINT, lw=1, zorder=1)
        good = rows["verdict"] == GOOD
        worse = low if values[good].median() > values[~good].median() else high
        mark_verdicts(panel, rows["learning_rate"], values.fillna(worse).clip(low, high), rows["verdict"])
        log_axis(panel, "x", cells["learning_rate"])
        panel.set_ylabel(name_metric(name), parse_math=False)
        _title(panel, size, "")
        panel.set_xlabel(RATE if size == sizes[-1] else "")
    return figure


def plot_bumps(batch_sizes: pd.DataFrame, runs: pd.DataFrame, curves: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """The height of one run, a line, and its minibatch losses, dots: what a step sees of the hill; a panel a batch size.

    batch_sizes: rows of ``reports.batch_size.batch_sizes``; the run drawn is the seed of middle bumpiness at the learning rate
    named there. All panels have the same range; dots on its top edge lie above it.
    """
    shapes: dict[str, dict[str, Any]] = {
        "height": {"color": "black", "lw": 1},
        "loss of a minibatch": {"color": DOTS, "marker": ".", "ls": "", "ms": 5},
    }
    handles = [Line2D([], [], **shape, label=label) for label, shape in shapes.items()]
    title, xlabel = "What a step sees of the hill", "time trained (epochs)"
    figure, panels = _panels(batch_sizes, title, "loss", xlabel=xlabel, handles=handles, into=ax)
    drawn: dict[int, pd.DataFrame] = {}
    for row in batch_sizes.to_dict("records"):
        size, rate, found = row["batch_size"], row["learning_rate"], "no minibatch losses"
        at = (runs["batch_size"] == size) & (runs["learning_rate"] == rate) & runs["verdict"].notna()
        points = minibatch_points(curves, runs.loc[at, "trial"])
        bumps = measure_bumpiness(points).sort_values(kind="stable")
        if len(bumps):
            drawn[size] = points[points["trial"] == bumps.index[(len(bumps) - 1) // 2]]
            found = f"bumpiness {format_number(row['bumpiness'])} at {format_number(rate)}"
        _title(panels[size], size, found)
    if drawn:
        points = pd.concat(drawn.values())
        low, high = points[["height", "minibatch_loss"]].min().min(), points["height"].max()
        room = (high - low) or 1.0
        top = min(points["minibatch_loss"].max(), high + room) + 0.05 * room
        limits: dict[str, Any] = {"ylim": (low - 0.05 * room, max(top, high + 0.05 * room)), "xlim": (0, points["epoch"].max())}
        for size, points in drawn.items():
            panels[size].set(**limits)
            panels[size].plot(points["epoch"], points["height"], **shapes["height"])
            losses = points["minibatch_loss"].clip(upper=limits["ylim"][1])
            panels[size].plot(points["epoch"], losses, **shapes["loss of a minibatch"], clip_on=False)
    return figure


def plot_batch_time(batch_sizes: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Seconds an epoch takes and seconds to the bottom over batch size, both axes logarithmic, each value written beside it.

    batch_sizes: as ``reports.batch_size.batch_sizes`` returns them, all drawn in one panel; those that never get to the
    bottom stand at the top edge.
    """
    ax = ax or Figure(figsize=(2 * PANEL[0], 3.6), layout="constrained").add_subplot()
    rows = batch_sizes.sort_values("batch_size")
    sizes, seconds = rows["batch_size"], rows[["time_to_bottom_seconds", "seconds_per_epoch"]].astype(float)
    known = seconds.to_numpy()[np.isfinite(seconds) & (seconds > 0)]
    low, high = (known.min(), known.max()) if len(known) else (1.0, 1.0)
    reach = max(high / low, 10) ** 0.2
    never = high * reach
    handles = []
    looks: tuple[dict[str, Any], ...] = (
        {"marker": "o", "ls": "-", "label": "to the bottom"},
        {"marker": "s", "ls": "--", "label": "an epoch"},
    )
    for name, look in zip(seconds, looks, strict=True):
        values, other = seconds[name], seconds.drop(columns=name).iloc[:, 0]
        shown = values.replace(math.inf, never).clip(lower=low)
        handles.append(Line2D([], [], color="black", mfc="white", lw=1, **look))
        ax.plot(sizes, shown.where(np.isfinite(values)), color="black", ls=look["ls"], lw=1)
        ax.plot(sizes, shown, color="black", mfc="white", ls="", marker=look["marker"])
        for size, value, y, above in zip(sizes, values, shown, values > other, strict=True):
            text = "never" if math.isinf(value) else f"{format_number(value)} s"
            place: dict[str, Any] = {"textcoords": "offset points", "xytext": (0, 6 if above else -6), "ha": "center"}
            if value == value:
                ax.annotate(text, (size, y), **place, va="bottom" if above else "top", fontsize=9)
    log_axis(ax, "y", known if len(known) else [low])
    ax.set_ylim(low / reach, (never if np.isinf(seconds).any(axis=None) else high) * reach)
    arrived = rows[np.isfinite(seconds["time_to_bottom_seconds"])].nsmallest(1, "time_to_bottom_seconds")
    best = [f"{row.batch_size}, {format_number(row.time_to_bottom_seconds)} s" for row in arrived.itertuples()]
    ax.set_title(f"Soonest at the bottom by the clock: batch size {best[0]}" if best else "None gets to the bottom")
    ax.set(xscale="log", xlabel="batch size (examples, log scale)", ylabel="seconds (log scale)")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.set_xticks([], minor=True)
    ax.margins(x=0.1)
    _legend_below(ax, handles)
    return _figure_of(ax)


def _metrics(cells: pd.DataFrame) -> list[str]:
    """Validation metrics with any value, not finite ones too, the loss first; at most three, the tables hold the others."""
    named = [name for name in cells if str(name).startswith("val_") and cells[name].notna().any()]
    return sorted(named, key=lambda name: name != "val_loss")[:3]


def _panels(
    table: pd.DataFrame,
    title: str,
    ylabel: str,
    *,
    xlabel: str = RATE,
    handles: Sequence[Line2D] | None = None,
    into: Axes | None = None,
) -> tuple[Figure, dict[int, Axes]]:
    """A figure with a panel for each batch size of the table, two in a row, over learning rate unless told otherwise.

    handles: of the legend, the verdicts unless given; into: where the one batch size of the table is drawn instead.
    """
    sizes = sorted(table["batch_size"].unique())
    handles = verdict_handles() if handles is None else handles
    panels: dict[int, Axes] = {}
    if into is not None:
        figure = _use(into, sizes, handles)
        panels[sizes[0]] = into
        into.set(xlabel=xlabel, ylabel=ylabel)
    else:
        columns = min(len(sizes), 2)
        n_rows = -(-len(sizes) // columns)
        figure = _figure(title, handles, rows=n_rows, columns=columns)
        for k, size in enumerate(sizes):
            shared = figure.axes[0] if k and xlabel == RATE else None
            ax = panels[size] = figure.add_subplot(n_rows, columns, k + 1, sharex=shared)
            ax.set(ylabel=ylabel if k % columns == 0 else "", xlabel=xlabel if k + columns >= len(sizes) else "")
    if xlabel == RATE:
        for ax in panels.values():
            log_axis(ax, "x", table["learning_rate"])
    return figure, panels


def _figure(title: str, handles: Sequence[Line2D], *, rows: int, columns: int) -> Figure:
    figure = Figure(figsize=(PANEL[0] * max(columns, 2), 1.1 + PANEL[1] * rows), layout="constrained")
    figure.suptitle(title)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _use(ax: Axes, sizes: Sequence[int], handles: Sequence[Line2D]) -> Figure:
    """The figure of the axes somebody gave, with the legend in them."""
    if len(sizes) != 1:
        raise ValueError(f"ax shows one batch size, choose rows of one; got {_names(sizes)}")
    _legend_below(ax, handles)
    return _figure_of(ax)


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None  # axes are made by a figure
    return figure


def _legend_below(ax: Axes, handles: Sequence[Any]) -> None:
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 4.2, "ncols": 6}
    ax.legend(handles=handles, **below, frameon=False, fontsize=9, columnspacing=1.2, handletextpad=0.4)


def _names(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values)) or "none"


def _title(ax: Axes, batch_size: int, found: str) -> None:
    ax.set_title(f"batch size {batch_size}" + (f": {found}" if found else ""), fontsize=9, pad=8)  # marks stand on the edge


def _counted(verdicts: pd.Series[Any], what: str) -> str:
    counts = verdicts.value_counts()
    return (
        f"{counts.get(GOOD, 0)} good, {counts.get(DIVERGENT, 0)} divergent of {len(verdicts)} {what}{'s' * (len(verdicts) > 1)}"
    )
