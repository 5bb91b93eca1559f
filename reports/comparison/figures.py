"""Judged studies in, matplotlib figures out that lay them over each other, a panel a batch size.

Verdicts keep their colours and shapes (``reports.style``); a study is a row, or a line in a colour of none of the verdicts.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D

from reports.comparison.curves import curves_at, recommended
from reports.comparison.tables import short_names
from reports.figures.marks import (
    FAINT,
    PANEL,
    RATE,
    height_axis,
    log_axis,
    mark_edges,
    mark_recommended,
    mark_verdicts,
    verdict_handles,
)
from reports.judging.judged import Judged
from reports.judging.recommendation import TO_TOO_HIGH
from reports.style import format_number

FIGURES: dict[str, str] = {
    "maps": "Every learning rate tried, with its verdict, a row a study; below each row its edges with their 90 % intervals."
    " The dashed line is the learning rate recommended in the first study.",
    "times": "How long each learning rate takes to the bottom of its own study, a line a study. The row “never”, or"
    " rows, one a study, hold those that do not get there.",
    "curves": "The way down: the median over the seeds, and a band from the lowest to the highest seed. On the left each study"
    " at its own recommended learning rate, on the right those that tried it at the one recommended in the first study.",
    "laws": "Up to where learning rates are good at each batch size, a colour a study: measured (with 90 % intervals), the"
    " law through it, and its 90 % band, as far out as it foretells.",
}
"""Names of the figures, which are their file stems too, and what each shows."""

PROGRESS = (-0.2, 1.1)  # what is shown of it
COLOURS, DASHES = ("#000000", "#8C5A9E", "#8A8A8A", "#6B4A2B"), ("-", "--", "-.", ":")


def draw_figures(judged: Mapping[str, Judged], *, as_progress: bool = False) -> dict[str, Figure]:
    """The figures that compare studies, by the names in ``FIGURES``; as_progress: as in ``plot_curves``."""
    found = {"maps": plot_maps(judged), "times": plot_times(judged), "curves": plot_curves(judged, as_progress=as_progress)}
    return found | ({"laws": plot_laws(judged)} if any(study.batch_axis.foretells for study in judged.values()) else {})


def plot_maps(judged: Mapping[str, Judged]) -> Figure:
    """Verdicts over learning rate, a panel a batch size and a row a study, with edges and what is recommended."""
    sizes, names = batch_sizes(judged), drawable_names(judged)
    having = {size: [name for name in judged if cells_of(judged[name], size) is not None][::-1] for size in sizes}
    rates = pd.concat([study.cells["learning_rate"] for study in judged.values()])
    area = float(np.clip(3000 / rates.nunique(), 45, 160))
    rows = [len(found) + 0.4 for found in having.values()]
    figure = Figure(figsize=(2 * PANEL[0], 1.4 + 0.55 * sum(rows)), layout="constrained")
    figure.suptitle("Which learning rates work")
    panels = figure.subplots(len(sizes), 1, sharex=True, squeeze=False, height_ratios=rows)[:, 0]
    handles: dict[str, Any] = {}
    for (size, found), ax in zip(having.items(), panels, strict=True):
        for y, name in enumerate(found):
            study = judged[name]
            cells, uses, edges = (  # the row of the study stands where a batch size does
                table[table["batch_size"] == size].assign(batch_size=y)
                for table in (study.cells, study.recommendations, study.edges)
            )
            mark_verdicts(ax, cells["learning_rate"], cells["batch_size"], cells["verdict"], area=area)
            marks = mark_recommended(ax, uses, list(range(y + 1)), area=area) if len(uses) else []
            marks += mark_edges(ax, edges, list(range(y + 1))) if edges["learning_rate"].notna().any() else []
            handles |= {str(mark.get_label()): mark for mark in marks}
        if (use := recommended(next(iter(judged.values())), size)) is not None:
            handles["recommended in the first"] = ax.axvline(use, color="black", lw=0.9, ls=(0, (4, 3)), zorder=0)
            handles["recommended in the first"].set_label("recommended in the first")
        log_axis(ax, "x", rates)
        ax.set_yticks(range(len(found)), [names[name] for name in found], parse_math=False)
        ax.set_ylim(-0.6, len(found) - 0.4)
        ax.set_title(f"batch size {size}", fontsize=9)
    panels[-1].set_xlabel(RATE)
    legend = [*verdict_handles(), *handles.values()]
    figure.legend(handles=legend, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def plot_times(judged: Mapping[str, Judged]) -> Figure:
    """Time to bottom in epochs over learning rate, a line a study, with the verdicts as marks; those without one are on top."""
    sizes = batch_sizes(judged)
    cells = pd.concat([study.cells for study in judged.values()])
    times = cells["time_to_bottom_epochs"].to_numpy(float)
    reached = times[np.isfinite(times) & (times > 0)]
    low, high = (reached.min(), reached.max()) if len(reached) else (1.0, 1.0)
    never = high * max(high / low, 10) ** 0.15
    figure, panels = _panels("How long it takes to the bottom", len(sizes), columns=min(len(sizes), 2))
    for size, ax in zip(sizes, panels, strict=False):
        for name, line in looks_of(judged).items():
            if (rows := cells_of(judged[name], size)) is not None:
                mine = never * (never / high) ** (0.25 * list(judged).index(name))  # rows of their own
                shown = rows["time_to_bottom_epochs"].replace(math.inf, mine).clip(low)
                ax.plot(rows["learning_rate"], shown, **line, zorder=1)
                mark_verdicts(ax, rows["learning_rate"], shown, rows["verdict"], area=30)
        log_axis(ax, "x", cells["learning_rate"])
        log_axis(ax, "y", reached if len(reached) else [never], extra={never: "never"})
        ax.set_ylim(low / (never / high) ** 0.7, never * (never / high) ** (0.4 + 0.25 * len(judged)))
        ax.set(xlabel=RATE, ylabel="time to bottom (epochs)")
        ax.set_title(f"batch size {size}", fontsize=9, pad=8)
    _legend(figure, judged, verdict_handles())
    return figure


def plot_curves(judged: Mapping[str, Judged], *, as_progress: bool = False) -> Figure:
    """Height over epochs at the recommended learning rates, each study's own and the first's: median and range of the seeds.

    as_progress: draw progress instead, for studies of different losses; its floor is each study's own.
    """
    sizes, lines = batch_sizes(judged), looks_of(judged)
    figure, panels = _panels("The way down at the recommended learning rates", 2 * len(sizes), columns=2)
    for k, ax in enumerate(panels):
        size = sizes[k // 2]
        first, drawn = curves_at(judged, size, own=k % 2 == 0, as_progress=as_progress)
        if drawn:
            starts = pd.concat([judged[name].runs["first_height"].astype(float) for name in drawn])
            values = np.concatenate([values.ravel() for _, values in drawn.values()])
            low, top = _progress_axis(ax) if as_progress else (-math.inf, height_axis(ax, values, starts))
            for name, (epochs, values) in drawn.items():
                lowest, middle, highest = (take(values, axis=0).clip(low, top) for take in (np.nanmin, np.nanmedian, np.nanmax))
                ax.fill_between(epochs, lowest, highest, color=lines[name]["color"], alpha=0.15, lw=0)
                ax.plot(epochs, middle, **lines[name])
            log_axis(ax, "x", np.concatenate([epochs for epochs, _ in drawn.values()]))
        else:
            ax.text(0.5, 0.5, "nothing recommended", ha="center", va="center", transform=ax.transAxes)
        where = f", all at {format_number(first)}" if k % 2 and first is not None else ", each at its own" if drawn else ""
        ax.set_title(f"batch size {size}{where}", fontsize=9)
        ax.set(xlabel="time trained (epochs, log scale)", ylabel="progress" if as_progress else "height (loss)")
    _legend(figure, judged, [])
    return figure


def plot_laws(judged: Mapping[str, Judged]) -> Figure:
    """Where learning rates stop being good over batch size: what each study measured, and the law of those that have one."""
    figure, (ax,) = _panels("Up to where learning rates are good, by batch size", 1, columns=1)
    sizes = batch_sizes(judged)
    for name, line in looks_of(judged).items():
        axis = judged[name].batch_axis
        exact = [centre for centre in axis.centres[TO_TOO_HIGH] if not centre.side]
        if exact:
            x, (low, middle, high) = [each.batch_size for each in exact], np.array([each.learning_rates for each in exact]).T
            ax.errorbar(x, middle, yerr=[middle - low, high - middle], color=line["color"], fmt="o", ms=5, lw=1.2, capsize=2)
        for xs, drawn in axis.stretches.values() if axis.foretells else ():
            middle, low, high = np.array([edges[TO_TOO_HIGH][1:4] for edges in drawn]).T
            ax.fill_between(xs, low, high, color=line["color"], alpha=0.12, lw=0)
            ax.plot(xs, middle, **line)
    log_axis(ax, "y", ax.dataLim.intervaly)
    ax.set(xscale="log", xlabel="batch size (examples, log scale)", ylabel=RATE)
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.set_xticks([], minor=True)
    _legend(figure, judged, [])
    return figure


def _progress_axis(ax: Axes) -> tuple[float, float]:
    ax.set_ylim(PROGRESS)
    ax.axhline(1, color=FAINT, lw=1, ls=(0, (1, 2)), zorder=0)
    return ax.get_ylim()


def batch_sizes(judged: Mapping[str, Judged]) -> list[int]:
    """All that any of the studies tried."""
    return sorted({int(size) for study in judged.values() for size in study.cells["batch_size"]})


def cells_of(study: Judged, size: int) -> pd.DataFrame | None:
    """The cells of a batch size by learning rate, if there are any."""
    cells = study.cells[study.cells["batch_size"] == size].sort_values("learning_rate")
    return cells if len(cells) else None


def looks_of(judged: Mapping[str, Judged]) -> dict[str, dict[str, Any]]:
    """How the line of each study looks; sixteen are told apart."""
    n = len(COLOURS)
    return {name: {"color": COLOURS[k % n], "ls": DASHES[(k + k // n) % n], "lw": 1.5} for k, name in enumerate(judged)}


def _panels(title: str, n: int, *, columns: int) -> tuple[Figure, Sequence[Axes]]:
    rows = -(-n // columns)
    figure = Figure(figsize=(2 * PANEL[0], 1.0 + PANEL[1] * rows), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in panels[n:]:
        ax.remove()
    return figure, list(panels[:n])


def _legend(figure: Figure, judged: Mapping[str, Judged], others: Sequence[Line2D]) -> None:
    names = list(drawable_names(judged).values())
    handles = [*(Line2D([], [], **line) for line in looks_of(judged).values()), *others]
    labels = [*map(str, range(len(names))), *(str(other.get_label()) for other in others)]
    columns = 4 if max(map(len, names)) < 20 else 2
    legend = figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9, handlelength=3
    )
    figure.set_figheight(figure.get_figheight() + 0.22 * math.ceil(len(handles) / columns))
    for text, name in zip(legend.get_texts(), names, strict=False):
        text.set(text=name, parse_math=False)  # afterwards: a label that begins with an underscore is left out


def drawable_names(studies: Iterable[str]) -> dict[str, str]:
    """Short names of studies in characters that pictures can show, a box for every other."""
    font = get_font(findfont(FontProperties()))
    return {
        name: "".join(c if font.get_char_index(ord(c)) else "\u25a1" for c in short)
        for name, short in short_names(studies).items()
    }
