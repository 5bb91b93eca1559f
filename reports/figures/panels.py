"""Where a figure's panels lie, one for each batch size, and what they share: scales, title and legend."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figures.marks import PANEL, RATE, log_axis
from reports.style import DIVERGENT, GOOD

LONGEST = 40  # characters of a label; a longer one leaves no room for what it names
LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 9, "columnspacing": 1.2, "handletextpad": 0.4}
Panels = dict[int, Axes]


def make_panels(
    sizes: "pd.Series[Any]",
    title: str,
    ylabels: Sequence[str],
    *,
    handles: Sequence[Any],
    xlabel: str = RATE,
    x: Any = None,
    into: Axes | None = None,
) -> tuple[Figure, list[Panels]]:
    """A figure with panels by batch size for each of ``ylabels``, below each other; all of these share one scale.

    sizes: batch sizes, any number of times each; handles: entries of the legend; x: values of the x axis, which is logarithmic
    then; into: where the one batch size and label are drawn instead.
    """
    order = sorted(int(size) for size in sizes.unique())
    if into is not None:
        if len(order) != 1:
            raise ValueError(f"ax shows one batch size, choose rows of one; got {name_all(order)}")
        legend_below(into, handles)
        figure, found = figure_of(into), [{order[0]: into}]
        into.set_xlabel(xlabel)
        into.set_ylabel(_short(ylabels[0]), parse_math=False)
    else:
        figure, found = _new(order, title, ylabels, xlabel, handles)
    if x is not None:
        for panels in found:
            for ax in panels.values():
                log_axis(ax, "x", x, at_most=6 if into is not None or max(len(order), len(ylabels)) < 3 else 4)
    return figure, found


def _new(
    sizes: Sequence[int], title: str, ylabels: Sequence[str], xlabel: str, handles: Sequence[Any]
) -> tuple[Figure, list[Panels]]:
    """Up to three panels in a row, but for four, which make a square; what a row shares is written at its left and below."""
    alone = len(sizes) == 1  # then what is shown of it goes from left to right
    n = len(ylabels) if alone else len(sizes)
    columns = 2 if n == 4 else min(n, 3)
    rows = -(-n // columns)
    n_rows = rows * (1 if alone else len(ylabels))
    end = (n_rows - rows) * columns + n
    high = PANEL[1] if columns < 3 else 0.9 * PANEL[1]
    figure = Figure(figsize=(2 * PANEL[0], 1.2 + high * n_rows), layout="constrained")
    figure.suptitle(title)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), **LEGEND)
    found: list[Panels] = [{} for _ in ylabels]
    for block, (ylabel, panels) in enumerate(zip(ylabels, found, strict=True)):
        for k, size in enumerate(sizes):
            place = block if alone else block * rows * columns + k
            sharex, sharey = next(iter(figure.axes), None), next(iter(panels.values()), None)
            ax = panels[size] = figure.add_subplot(n_rows, columns, place + 1, sharex=sharex, sharey=sharey)
            leftmost, lowest = alone or place % columns == 0, place + columns >= end
            ax.set_xlabel(xlabel if lowest else "")
            ax.set_ylabel(_short(ylabel) if leftmost else "", parse_math=False)
            ax.tick_params(labelleft=leftmost, labelbottom=lowest)
    return figure, found


def set_title(ax: Axes, batch_size: int, found: str) -> None:
    """The batch size and, below it, what was found there; marks that stand on the edge of the panel stay free."""
    ax.set_title(f"batch size {batch_size}" + (f"\n{found}" if found else ""), fontsize=9, pad=8)


def figure_of(ax: Axes) -> Figure:
    """The figure that axes are in."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # axes are made by a figure
    return figure


def write_instead(sentence: str, ax: Axes | None) -> Figure:
    """A figure that has nothing to show but why."""
    ax = ax or Figure(figsize=PANEL, layout="constrained").add_subplot()
    ax.set_axis_off()
    ax.text(0.5, 0.5, sentence, ha="center", va="center", transform=ax.transAxes)
    return figure_of(ax)


def legend_below(ax: Axes, handles: Sequence[Any]) -> None:
    """A legend below the label of the x axis, in two rows when it is long."""
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 4.2}
    ax.legend(handles=handles, **below, **LEGEND, ncols=3 if len(handles) > 4 else 4)


def count_verdicts(verdicts: "pd.Series[Any]", what: str) -> str:
    """How many are good and how many divergent, in words."""
    n, counts = len(verdicts), verdicts.value_counts()
    return f"{counts.get(GOOD, 0)} good, {counts.get(DIVERGENT, 0)} divergent of {n} {what}{'s' * (n > 1)}"


def name_all(values: Sequence[Any]) -> str:
    """Names for an error message."""
    return ", ".join(map(str, values)) or "none"


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"
