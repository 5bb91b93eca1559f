"""How long each learning rate takes to the bottom."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figures import marks
from reports.figures.panels import make_panels, set_title
from reports.judging.judged import Judged
from reports.style import GOOD, format_number

CAPTION = (
    "How long each learning rate takes to the bottom: a mark for the median of the seeds, a bar from the soonest to the"
    " last of them. The row “never” holds those that do not get there."
)


def plot_time_to_bottom(
    cells: pd.DataFrame,
    runs: pd.DataFrame | None = None,
    *,
    recommendations: pd.DataFrame | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Time to bottom in epochs over learning rate, a panel a batch size; cells that never get there stand at the top edge.

    runs, recommendations: where given, the range of the seeds and the learning rates to use are drawn too.
    """
    handles = [*marks.verdict_handles(), *marks.seeds_handle(runs), *marks.use_handle(recommendations)]
    figure, [panels] = make_panels(
        cells["batch_size"],
        "How long it takes to the bottom",
        ["time to bottom (epochs)"],
        x=cells["learning_rate"],
        handles=handles,
        into=ax,
    )
    times = (
        cells["time_to_bottom_epochs"] if runs is None else pd.concat([cells["time_to_bottom_epochs"], runs["time_to_bottom"]])
    )
    reached = times[np.isfinite(times) & (times > 0)].to_numpy(float)
    low, high = (reached.min(), reached.max()) if len(reached) else (1.0, 1.0)
    never = high * max(high / low, 10) ** 0.15
    for size, panel in panels.items():
        rows = cells[cells["batch_size"] == size].sort_values("learning_rate")
        arrived = rows[np.isfinite(rows["time_to_bottom_epochs"])]
        panel.plot(arrived["learning_rate"], arrived["time_to_bottom_epochs"].clip(low), color=marks.FAINT, lw=1, zorder=1)
        if runs is not None:
            marks.mark_seeds(panel, rows, runs[runs["batch_size"] == size], "time_to_bottom", low, never)
        marks.mark_use(panel, size, recommendations)
        shown = rows["time_to_bottom_epochs"].clip(low, never)
        marks.mark_verdicts(panel, rows["learning_rate"], shown, rows["verdict"])
        good = rows[rows["verdict"] == GOOD].nsmallest(1, "time_to_bottom_epochs")
        best = [(format_number(row.time_to_bottom_epochs), format_number(row.learning_rate)) for row in good.itertuples()]
        set_title(panel, size, "fastest: {} epochs at {}".format(*best[0]) if best else "none is good")
        marks.log_axis(panel, "y", reached if len(reached) else [never], extra={never: "never"})
        panel.axhline(never, color=marks.FAINT, lw=0.6, ls=":", zorder=0)
        panel.set_ylim(low / (never / high) ** 0.7, never * (never / high) ** 0.7)
    return figure


def draw(judged: Judged) -> Figure:
    """The times of a study."""
    return plot_time_to_bottom(judged.cells, judged.runs, recommendations=judged.recommendations)
