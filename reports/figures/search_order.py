"""Where a search looked, one run after the other, what was known by then, and how far each run was trained."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.figures import marks
from reports.figures.panels import make_panels, set_title
from reports.judging.edges import EDGES, seed_gap
from reports.judging.judged import Judged
from reports.judging.verdicts import FINISHED, was_cut
from reports.style import STYLES, VERDICTS

CAPTION = (
    "Where the search looked, the first run at the top: shaded is what all seeds tried by then agree on, white what was left"
    " to find, and below lie the edges with their 90 % intervals. Bars tell how much of the budget a run was trained, in the"
    " column of its seed; one that was trained again, further, stands where it was last."
)
ROW, TALLEST = 0.09, 8.0  # inches a run, and a panel at most: of very many runs the rows are lower
INTERVAL = 0.13  # inches from an edge's interval to the next one's
STRIP = 0.32  # width of the columns of the seeds, in widths of the panel
NAMED = 8  # seeds whose numbers have room below their columns
SHADE = 0.22  # opacity of what is known
UNKNOWN: dict[str, Any] = {"marker": "o", "mfc": "white", "mec": marks.FAINT, "ls": ""}
LIGHT = {"bar": "#b0b0b0", "track": "#eeeeee", "line": "#dddddd"}


def order_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """The finished runs in the order of their trials; runs as ``classify`` returns them.

    Columns: ``batch_size``; ``order``, from 0 at each batch size; ``learning_rate``; ``seed``; ``verdict``, missing where it is
    not known; ``share`` of the budget that was trained, the longest run of the batch size being all of it; ``whole``, whether
    the search let it go to its end.
    """
    done = runs[runs["state"].isin(FINISHED)].sort_values(["batch_size", "trial"])
    epochs = done["epochs"].astype(float)
    longest = epochs.groupby(done["batch_size"]).transform("max")
    return pd.DataFrame(
        {
            "batch_size": done["batch_size"],
            "order": done.groupby("batch_size").cumcount(),
            "learning_rate": done["learning_rate"].astype(float),
            "seed": done["seed"],
            "verdict": done["verdict"],
            "share": (epochs / longest).fillna(1.0),
            "whole": ~was_cut(done),
        }
    ).reset_index(drop=True)


def find_agreed(rows: pd.DataFrame) -> pd.DataFrame:
    """Which learning rates have the same verdict on all seeds tried so far, after each run; rows: of one batch size.

    rows: as ``order_runs`` returns them. Columns: ``order``, ``verdict``, and ``low`` and ``high``, between which it holds, 0
    and inf where nothing was tried beyond; a verdict without such learning rates has no row.
    """
    found: list[dict[str, Any]] = []
    gaps: dict[Any, list[tuple[float, float]]] = {}
    judged = rows[rows["verdict"].notna()]
    ranks = judged["verdict"].map(VERDICTS.index).astype(int)
    for order, seed in rows[["order", "seed"]].itertuples(index=False):
        mine = judged[(judged["order"] <= order) & (judged["seed"] == seed)].sort_values("learning_rate")
        if len(mine):
            rates, above = mine["learning_rate"].to_numpy(float), ranks[mine.index].to_numpy()
            gaps[seed] = [seed_gap(rates, above >= rank)[:2] for rank in range(1, len(VERDICTS))]
        lows = [max(gap[k][1] for gap in gaps.values()) for k in range(len(EDGES))] if gaps else []
        highs = [min(gap[k][0] for gap in gaps.values()) for k in range(len(EDGES))] if gaps else []
        for verdict, low, high in zip(VERDICTS, [0.0, *lows], [*highs, math.inf], strict=False):
            if gaps and low < high:
                found.append({"order": order, "verdict": verdict, "low": low, "high": high})
    return pd.DataFrame(found, columns=["order", "verdict", "low", "high"])


def plot_search_order(runs: pd.DataFrame, edges: pd.DataFrame | None = None, *, ax: Axes | None = None) -> Figure:
    """Runs over learning rate in the order they were trained, a panel a batch size, with a bar for how far each was trained.

    edges: where given, they are lines through the runs, and their intervals stand below the last.
    """
    rows = order_runs(runs)
    n_whole, longest = int(rows["whole"].sum()), int(rows.groupby("batch_size").size().max() or 0)
    handles = [*marks.verdict_handles(), Line2D([], [], **UNKNOWN, ms=6, label="not known")]
    handles += [marks.edge_handle()] if edges is not None and edges["learning_rate"].notna().any() else []
    figure, [panels] = make_panels(
        rows["batch_size"],
        f"How {len(rows)} runs, {n_whole} of them to the end, closed in on the edges",
        ["runs, the first at the top"],
        x=rows["learning_rate"],
        handles=handles,
        into=ax,
    )
    high = float(np.clip(ROW * longest, marks.PANEL[1] - 0.8, TALLEST))
    area = float(np.clip(72 * 0.8 * high / longest, 2, 6)) ** 2
    if ax is None and (spec := figure.axes[0].get_subplotspec()):
        figure.set_figheight(1.2 + (high + 0.8) * spec.get_gridspec().nrows)
    lowest, highest = rows["learning_rate"].min(), rows["learning_rate"].max()
    room = max(highest / lowest, 1.5) ** 0.05
    for size, panel in panels.items():
        mine = rows[rows["batch_size"] == size].reset_index(drop=True)
        panel.set(xlim=(lowest / room, highest * room), ylim=(longest - 0.5, -1.0), yticks=[])
        _shade(panel, find_agreed(mine), len(mine))
        _mark_runs(panel, mine, area)
        if edges is not None:
            _mark_edges(panel, edges[edges["batch_size"] == size], longest, step=INTERVAL * longest / high)
        _draw_shares(panel, mine)
        set_title(panel, size, f"{len(mine)} runs, {int(mine['whole'].sum())} to the end")
    if ax is None:
        figure.draw_without_rendering()  # the columns grow with the panels: the layout needs one time more to leave them room
    return figure


def draw(judged: Judged) -> Figure | None:
    """The runs of a study whose search ended some."""
    return plot_search_order(judged.runs, judged.edges) if was_cut(judged.runs).any() else None


def _shade(panel: Axes, agreed: pd.DataFrame, n_runs: int) -> None:
    """In the colour of each verdict the learning rates that are known to have it, from the run on since which they are."""
    sides = (np.arange(n_runs)[:, None] + [-0.5, 0.5]).ravel()  # the upper and the lower one of each row
    for verdict, known in agreed.groupby("verdict"):
        ends = known.set_index("order")[["low", "high"]].clip(*panel.get_xlim()).reindex(range(n_runs))
        low, high = np.repeat(ends.to_numpy(float), 2, axis=0).T
        look: dict[str, Any] = {"color": STYLES[str(verdict)].colour, "alpha": SHADE, "lw": 0, "zorder": 0}
        panel.fill_betweenx(sides, low, high, where=np.isfinite(low), **look)


def _mark_runs(panel: Axes, rows: pd.DataFrame, area: float) -> None:
    across: Any = {"transform": panel.get_yaxis_transform(), "color": LIGHT["line"], "lw": 0.4, "zorder": 0.5}
    panel.hlines(rows["order"], 0, 1, **across)
    known, unknown = rows[rows["verdict"].notna()], rows[rows["verdict"].isna()]
    marks.mark_verdicts(panel, known["learning_rate"], known["order"], known["verdict"], area=area)
    panel.plot(unknown["learning_rate"], unknown["order"], **UNKNOWN, ms=0.8 * math.sqrt(area), mew=0.8, zorder=3)


def _mark_edges(panel: Axes, edges: pd.DataFrame, longest: int, *, step: float) -> None:
    """A line at each edge, and below all runs, in a row of its own, ``step`` from the next, its interval."""
    for row in edges.dropna(subset=["learning_rate"]).to_dict("records"):
        colour = STYLES[EDGES[row["edge"]][1]].colour
        y = longest - 0.5 + step * (list(EDGES).index(row["edge"]) + 0.7)
        panel.axvline(row["learning_rate"], color=colour, lw=1.1, zorder=0.6)
        panel.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.5, zorder=2, scalex=False)
        panel.plot(row["learning_rate"], y, marker="|", color=colour, ms=7, mew=2, ls="", zorder=2)
    panel.set_ylim(longest - 0.5 + step * (len(EDGES) + 0.3), -1.0)


def _draw_shares(panel: Axes, rows: pd.DataFrame) -> None:
    """To the right of a panel a column for each seed, in it the share of the budget that each of its runs was trained."""
    seeds = sorted(rows["seed"].unique())
    strip = panel.inset_axes((1.02, 0, STRIP, 1), sharey=panel)
    places = rows["seed"].map(seeds.index) + 0.07
    colours = [STYLES[verdict].colour if isinstance(verdict, str) else LIGHT["bar"] for verdict in rows["verdict"]]
    strip.barh(rows["order"], 0.86, left=places, height=0.8, color=LIGHT["track"], lw=0)
    strip.barh(rows["order"], 0.86 * rows["share"], left=places, height=0.8, color=colours, lw=0)
    named = seeds if len(seeds) <= NAMED else []
    strip.set(xlim=(0, len(seeds)), xlabel="seed" if panel.get_xlabel() else "")
    strip.set_xticks([k + 0.5 for k in range(len(named))], [str(seed) for seed in named])
    strip.tick_params(axis="x", length=0, labelbottom=bool(panel.get_xlabel()))
    strip.tick_params(axis="y", left=False, labelleft=False)
    strip.set_title("trained", fontsize=9, pad=8)
