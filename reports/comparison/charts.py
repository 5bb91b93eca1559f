"""Judged studies in, charts for a browser out that lay them over each other, a few for each batch size."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports.charts.marks import DASHES, FAINT, Chart, draw_line, draw_map, draw_times, log_axis, make_chart, plain_text
from reports.comparison.curves import curves_at, recommended
from reports.comparison.figures import COLOURS, PROGRESS, batch_sizes, cells_of, looks_of
from reports.comparison.tables import short_names
from reports.figures.marks import height_scale
from reports.judging.judged import Judged
from reports.style import format_number

ON_DARK = dict(zip(COLOURS, ("#E6E8EB", "#C79BD6", "#B4B4B4", "#C99A6B"), strict=True))
"""The colours of studies' lines, and what they are on a dark page."""


def draw_charts(judged: Mapping[str, Judged], *, as_progress: bool = False) -> dict[str, Chart]:
    """For each batch size ``maps/SIZE``, ``times/SIZE``, ``own/SIZE`` and ``first/SIZE``, the curves at the studies' own
    recommended learning rates and at the first's; curves are left out where nothing is recommended.

    as_progress: curves of progress instead of heights, for studies of different losses.
    """
    charts = {}
    for size in (sizes := batch_sizes(judged)):
        charts[f"maps/{size}"] = _map(judged, size, last=size == sizes[-1])
        charts[f"times/{size}"] = _times(judged, size)
        for name in ("own", "first"):
            if chart := _curves(judged, size, own=name == "own", as_progress=as_progress):
                charts[f"{name}/{size}"] = chart
    return charts


def _map(judged: Mapping[str, Judged], size: int, *, last: bool) -> Chart:
    """One of those that stand below each other: the page has the legend, the last names the axis."""
    names = short_names(judged)
    having = [name for name in judged if cells_of(judged[name], size) is not None]
    chart = draw_map({names[name]: (judged[name], size) for name in reversed(having)}, title="", named=True)
    layout = chart["layout"] | {"showlegend": False, "height": 35 + 70 * len(having) + 25 * last}
    layout["margin"] = layout["margin"] | {"b": 50 if last else 25, "t": 10}
    rates = np.log10(pd.concat([study.cells["learning_rate"] for study in judged.values()]).to_numpy(float))
    layout["xaxis"] = log_axis("learning rate" if last else "", 10**rates)
    layout["xaxis"]["range"] = [rates.min() - 0.06 * (np.ptp(rates) or 1), rates.max() + 0.06 * (np.ptp(rates) or 1)]
    if (use := recommended(next(iter(judged.values())), size)) is not None:
        line = {"color": FAINT, "width": 1.5, "dash": "dash"}
        layout["shapes"] = [{"type": "line", "yref": "paper", "x0": use, "x1": use, "y0": 0, "y1": 1, "line": line}]
    return chart | {"layout": layout}


def _times(judged: Mapping[str, Judged], size: int) -> Chart:
    names, looks = short_names(judged), _looks(judged)
    having = {name: cells for name in judged if (cells := cells_of(judged[name], size)) is not None}
    return draw_times({names[name]: cells for name, cells in having.items()}, [looks[name] for name in having], named=True)


def _curves(judged: Mapping[str, Judged], size: int, *, own: bool, as_progress: bool) -> Chart | None:
    first, found = curves_at(judged, size, own=own, as_progress=as_progress)
    if not found:
        return None
    names, looks, data = short_names(judged), _looks(judged), []
    of_progress = {"title": {"text": "progress"}, "range": list(PROGRESS)}
    axis, low, top = (of_progress, *PROGRESS) if as_progress else _height_axis(judged, found)
    for name, (epochs, values) in found.items():
        lowest, middle, highest = (take(values, axis=0).clip(low, top) for take in (np.nanmin, np.nanmedian, np.nanmax))
        rate = recommended(judged[name], size) if own else first
        said = f"{plain_text(names[name])} at {format_number(math.nan if rate is None else rate)}"
        band: dict[str, Any] = {"width": 0, "hoverinfo": "skip", "showlegend": False, "legendgroup": name}
        colour = looks[name]["color"]
        data.append(draw_line(epochs, lowest, color=colour, **band))
        data.append(draw_line(epochs, highest, color=colour, fill="tonexty", fillcolor=f"{colour}26", **band))
        data.append(draw_line(epochs, middle, **looks[name], name=said, legendgroup=name, text=said, hoverinfo="text+y"))
    times = np.concatenate([epochs for epochs, _ in found.values()])
    return make_chart(data, xaxis=log_axis("time trained (epochs)", times), yaxis=axis, height=340)


def _height_axis(judged: Mapping[str, Judged], found: Mapping[str, Any]) -> tuple[dict[str, Any], float, float]:
    starts = pd.concat([judged[name].runs["first_height"].astype(float) for name in found])
    scale = height_scale(np.concatenate([values.ravel() for _, values in found.values()]), starts)
    if scale.logarithmic:
        edges = {"range": [math.log10(scale.bottom), math.log10(scale.top)]}
        return log_axis("height (loss)", [scale.low, scale.start]) | edges, scale.bottom, scale.top
    return {"title": {"text": "height (loss)"}, "range": [scale.bottom, scale.top]}, scale.bottom, scale.top


def _looks(judged: Mapping[str, Judged]) -> dict[str, dict[str, Any]]:
    return {name: {"color": look["color"], "dash": DASHES[look["ls"]]} for name, look in looks_of(judged).items()}
