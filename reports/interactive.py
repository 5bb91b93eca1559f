"""Judged tables in, charts for a browser out: plain JSON that plotly.js draws, so that points can be pointed at."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports.boundaries import EDGES
from reports.judged import Judged
from reports.style import GOOD, STYLES, format_number, log_ticks

Chart = dict[str, Any]
"""A figure as plotly.js takes it: ``{"data": [...], "layout": {...}}``, numbers finite or None."""

SYMBOLS = {"v": "triangle-down", "o": "circle", "^": "triangle-up", "X": "x"}  # matplotlib's markers in plotly's words
DASHES = {"--": "dash", "-": "solid", "-.": "dashdot", ":": "dot"}
FAINT = "#808a94"  # seen on white and on the dark page


def map_chart(judged: Judged) -> Chart:
    """Every cell over learning rate and batch size, the recommended learning rates and the edges, as in ``plot_map``."""
    cells = judged.cells
    sizes = sorted(cells["batch_size"].unique())
    rows = cells["batch_size"].map(sizes.index)
    data = []
    for use in judged.recommendations.to_dict("records"):
        y: float = sizes.index(use["batch_size"])
        band = {"color": STYLES[GOOD].colour, "width": 18}
        data.append(_lines([use["low"], use["high"]], [y, y], line=band, opacity=0.25, hoverinfo="skip"))
    for row in judged.boundaries.dropna(subset=["learning_rate"]).to_dict("records"):
        below, colour = 0.24 + 0.08 * list(EDGES).index(row["edge"]), STYLES[EDGES[row["edge"]][1]].colour
        y, text = sizes.index(row["batch_size"]) - below, f"{row['edge']}: {_edge(row)}"
        line = _lines([row["low"], row["learning_rate"], row["high"]], [y] * 3, line={"color": colour, "width": 2})
        data.append(line | {"mode": "lines+markers", "marker": {"symbol": "line-ns-open", "size": [0, 9, 0]}, "text": text})
    data += _by_verdict(cells, cells["learning_rate"], rows, size=_size(cells), text=_tell_cells(cells))
    data += _rings(judged, lambda use: sizes.index(use["batch_size"]), size=_size(cells) + 8)
    ticks = {"tickvals": list(range(len(sizes))), "ticktext": [str(size) for size in sizes]}
    y_axis = {"title": {"text": "batch size"}, "range": [-0.7, len(sizes) - 0.5], "zeroline": False, "showgrid": False} | ticks
    return _chart(data, xaxis=_log_axis("learning rate", cells["learning_rate"]), yaxis=y_axis, height=190 + 70 * len(sizes))


def times_chart(judged: Judged, batch_size: int | None = None) -> Chart:
    """Time to bottom in epochs over learning rate, a line a batch size; what never arrives stands in the row "never".

    batch_size: this one alone.
    """
    cells = judged.cells if batch_size is None else judged.cells[judged.cells["batch_size"] == batch_size]
    times = cells["time_to_bottom_epochs"].astype(float)
    reached = times[np.isfinite(times) & (times > 0)]
    low, high = (reached.min(), reached.max()) if len(reached) else (1.0, 1.0)
    never = high * max(high / low, 10) ** 0.2
    data = []
    for dash, (size, group) in zip(_endless(DASHES.values()), cells.groupby("batch_size"), strict=False):
        arrived = group[np.isfinite(group["time_to_bottom_epochs"])].sort_values("learning_rate")
        line = _lines(arrived["learning_rate"], arrived["time_to_bottom_epochs"].clip(lower=low), line={"dash": dash})
        line["line"] |= {"color": FAINT, "width": 1.5}
        data.append(line | {"name": f"batch size {size}", "showlegend": batch_size is None, "hoverinfo": "skip"})
    shown = times.replace(math.inf, never).clip(lower=low)
    data += _by_verdict(cells, cells["learning_rate"], shown, size=11, text=_tell_cells(cells))
    y_axis = _log_axis("time to bottom (epochs)", reached if len(reached) else [never])
    edge = np.log10([low / (never / high) ** 0.5, never * (never / high) ** 0.5])
    layout = {"yaxis": y_axis | {"range": edge.tolist()}, "shapes": [_level(never)], "annotations": [_label("never", never)]}
    return _chart(data, xaxis=_log_axis("learning rate", cells["learning_rate"]), height=360, **layout)


def edges_chart(judged: Judged) -> Chart:
    """The three edges with their 90 % intervals, and the recommended learning rate, against batch size."""
    sizes = sorted(judged.cells["batch_size"].unique())
    data = []
    for shift, (edge, (_, above)) in zip((-0.12, 0, 0.12), EDGES.items(), strict=True):
        rows = judged.boundaries[judged.boundaries["edge"] == edge].dropna(subset=["learning_rate"])
        style = STYLES[above]
        places = [sizes.index(size) + shift for size in rows["batch_size"]]
        bars = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 4}
        bars |= {
            "array": _plain(rows["high"] - rows["learning_rate"]),
            "arrayminus": _plain(rows["learning_rate"] - rows["low"]),
        }
        text = [f"{edge}: {_edge(row)}" for row in rows.to_dict("records")]
        trace = {"type": "scatter", "mode": "lines+markers", "name": edge, "x": places, "y": _plain(rows["learning_rate"])}
        marker = {"color": style.colour, "symbol": SYMBOLS[style.marker], "size": 10}
        look = {"marker": marker, "line": {"color": style.colour, "dash": DASHES[style.dash], "width": 1}}
        data.append(trace | look | {"error_y": bars, "text": text, "hoverinfo": "text"})
    swap = _rings(judged, lambda use: sizes.index(use["batch_size"]), size=14)
    data += [ring | {"x": ring["y"], "y": ring["x"]} for ring in swap]
    ticks = {"tickvals": list(range(len(sizes))), "ticktext": [str(size) for size in sizes]}
    x_axis = {"title": {"text": "batch size"}, "zeroline": False} | ticks
    return _chart(data, xaxis=x_axis, yaxis=_log_axis("learning rate", judged.cells["learning_rate"]), height=380)


def plain_text(text: object) -> str:
    """Text that means itself in a chart, whose labels plotly reads as a little HTML, and between dollars as mathematics."""
    return html.escape(" ".join(str(text).split()), quote=False).replace("$", "&#36;")


def _chart(data: list[dict[str, Any]], **layout: Any) -> Chart:
    shared: dict[str, Any] = {"margin": {"l": 60, "r": 20, "t": 20, "b": 50}, "hovermode": "closest"}
    shared |= {"legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}, "hoverlabel": {"align": "left"}}
    return {"data": data, "layout": shared | layout}


def _log_axis(title: str, values: Iterable[float]) -> dict[str, Any]:
    ticks = log_ticks(min(values), max(values))
    named = {"tickvals": ticks, "ticktext": [format_number(tick) for tick in ticks]}
    return {"type": "log", "title": {"text": title}, "automargin": True} | named


def _by_verdict(
    table: pd.DataFrame, x: pd.Series[Any], y: pd.Series[Any], *, size: float, text: pd.Series[Any]
) -> list[dict[str, Any]]:
    """A trace of marks for each verdict; customdata tells the page which cell a mark is."""
    traces = []
    for verdict, style in STYLES.items():
        rows = table["verdict"] == verdict
        marker = {
            "color": style.colour,
            "symbol": SYMBOLS[style.marker],
            "size": size,
            "line": {"color": "white", "width": 0.7},
        }
        trace: dict[str, Any] = {"type": "scatter", "mode": "markers", "name": verdict}
        trace |= {"x": _plain(x[rows]), "y": _plain(y[rows])}
        which = [[row.batch_size, float(f"{row.learning_rate:.6g}")] for row in table[rows].itertuples()]
        trace |= {"marker": marker, "text": text[rows].tolist(), "hoverinfo": "text", "customdata": which}
        traces.append(trace | ({} if which else {"x": [None], "y": [None]}))  # an empty trace has no place in the legend
    return traces


def _rings(judged: Judged, place: Any, *, size: float) -> list[dict[str, Any]]:
    uses = judged.recommendations.to_dict("records")
    if not uses:
        return []
    text = [
        f"recommended at batch size {use['batch_size']}: {format_number(use['learning_rate'])}"
        f" ({format_number(use['low'])} to {format_number(use['high'])})"
        for use in uses
    ]
    marker = {"symbol": "circle-open", "size": size, "color": FAINT, "line": {"width": 2.5}}
    trace = {"type": "scatter", "mode": "markers", "name": "recommended", "marker": marker, "text": text, "hoverinfo": "skip"}
    return [trace | {"x": [use["learning_rate"] for use in uses], "y": [place(use) for use in uses]}]


def _tell_cells(cells: pd.DataFrame) -> pd.Series[Any]:
    lines = [
        f"batch size {row['batch_size']}, learning rate {format_number(row['learning_rate'])}, {row['n_seeds']} seeds<br>"
        f"<b>{row['verdict']}</b>: {'<br>'.join(_wrapped(row['reason']))}"
        for row in cells.to_dict("records")
    ]
    return pd.Series(lines, index=cells.index, dtype=object)


def _wrapped(text: str, width: int = 60) -> Iterable[str]:
    line = ""
    for word in plain_text(text).split():
        if line and len(line) + len(word) > width:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    yield line


def _edge(row: Mapping[str, Any]) -> str:
    edge, low, high = (format_number(row[key], digits=2) for key in ("learning_rate", "low", "high"))
    return f"{edge} [{low} to {high}]"


def _lines(x: Any, y: Any, *, line: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "scatter", "mode": "lines", "x": _plain(x), "y": _plain(y), "line": line, "showlegend": False} | more


def _plain(values: Iterable[Any]) -> list[float | None]:
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in map(float, values)]


def _endless(values: Iterable[str]) -> Iterable[str]:
    while True:
        yield from values


def _size(cells: pd.DataFrame) -> float:
    return float(np.clip(260 / cells["learning_rate"].nunique(), 7, 16))


def _level(y: float) -> dict[str, Any]:
    line = {"color": FAINT, "width": 1, "dash": "dot"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line, "layer": "below"}


def _label(text: str, y: float) -> dict[str, Any]:
    place = {"xref": "paper", "x": 0, "xanchor": "left", "y": math.log10(y), "yanchor": "bottom", "showarrow": False}
    return {"text": text, "font": {"size": 11}} | place
