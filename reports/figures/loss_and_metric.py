"""What validation says at the end of training."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figures import marks
from reports.figures.panels import make_panels, name_all, set_title, write_instead
from reports.judging.judged import Judged
from reports.style import DIVERGENT, GOOD, format_number, name_metric

CAPTION = (
    "Validation at the end of training: a mark for the median of the seeds, a bar from the lowest to the highest."
    " Marks on the edge lie beyond it or turned non-finite."
)


def plot_loss_and_metric(
    cells: pd.DataFrame,
    runs: pd.DataFrame | None = None,
    *,
    recommendations: pd.DataFrame | None = None,
    metrics: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Final validation metrics over learning rate, panels by batch size for each metric.

    runs, recommendations: where given, the range of the seeds and the learning rates to use are drawn too.
    metrics: columns of ``cells``, of which ``ax`` takes one; the validation loss and up to two more unless given.
    """
    runs = None if runs is None else runs[runs["verdict"].notna()]
    names = list(metrics or find_metrics(cells))
    if not names:
        return write_instead("These runs recorded no validation metrics.", ax)
    if unknown := [name for name in names if name not in cells]:
        raise ValueError(f"metrics must be columns of cells, such as {name_all(find_metrics(cells))}, got {name_all(unknown)}")
    if ax is not None and len(names) > 1:
        raise ValueError(f"ax shows one metric, name it with metrics; got {name_all(names)}")
    figure, blocks = make_panels(
        cells["batch_size"],
        "What validation says at the end",
        [name_metric(name) for name in names],
        x=cells["learning_rate"],
        handles=[*marks.verdict_handles(), *marks.seeds_handle(runs), *marks.use_handle(recommendations)],
        into=ax,
    )
    for name, panels in zip(names, blocks, strict=True):
        values = cells[name].astype(float).replace([-math.inf, math.inf], math.nan)
        good, others = (values[(cells["verdict"] == GOOD) == is_good].median() for is_good in (True, False))
        for size, panel in panels.items():
            low, high = _limit(panel, values, cells["verdict"])
            rows = cells[cells["batch_size"] == size].sort_values("learning_rate")
            worse = low if good > others else high
            own = values[rows.index]
            panel.plot(rows["learning_rate"], own.where(own.between(low, high)), color=marks.FAINT, lw=1, zorder=1)
            if runs is not None:
                seeds = runs[runs["batch_size"] == size]
                marks.mark_seeds(panel, rows, seeds.assign(**{name: seeds[name].astype(float).fillna(worse)}), name, low, high)
            marks.mark_use(panel, size, recommendations)
            marks.mark_verdicts(panel, rows["learning_rate"], own.fillna(worse).clip(low, high), rows["verdict"])
            set_title(panel, size, _extreme(rows["learning_rate"], own, highest=good > others) if good != others else "")
    return figure


def draw(judged: Judged) -> Figure | None:
    """The validation of a study that has one."""
    if not find_metrics(judged.cells):
        return None
    return plot_loss_and_metric(judged.cells, judged.runs, recommendations=judged.recommendations)


def find_metrics(cells: pd.DataFrame) -> list[str]:
    """Validation metrics with any value, not finite ones too, the loss first; at most three, the tables hold the others."""
    named = [name for name in cells if str(name).startswith("val_") and cells[name].notna().any()]
    return sorted(named, key=lambda name: name != "val_loss")[:3]


def _limit(ax: Axes, values: "pd.Series[float]", verdicts: "pd.Series[str]") -> tuple[float, float]:
    """Scale the y axis to all that did not diverge, with some room, and return its ends."""
    kept = values[verdicts != DIVERGENT].dropna()
    kept = kept if len(kept) else values.dropna() if values.notna().any() else pd.Series([0.0, 1.0])
    low, high = float(kept.min()), float(kept.max())
    if marks.spans_decades(low, high):
        ax.set_yscale("log")
        low, high = low * (low / high) ** 0.05, high * (high / low) ** 0.1
        marks.log_axis(ax, "y", np.array([low, high]))
    else:
        margin = 0.08 * ((high - low) or abs(high) or 1.0)
        low, high = low - margin, high + margin
    ax.set_ylim(low, high)
    return low, high


def _extreme(rates: "pd.Series[float]", values: "pd.Series[float]", *, highest: bool) -> str:
    if values.isna().all():
        return "none is finite"
    best = values.idxmax() if highest else values.idxmin()
    return f"{'highest' if highest else 'lowest'}: {format_number(values[best])} at {format_number(rates[best])}"
