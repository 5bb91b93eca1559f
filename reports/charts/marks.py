"""What charts of one study and of several are drawn with: maps, times to the bottom, marks by verdict, log axes."""

import html
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports.judging.edges import COVERAGE, EDGES
from reports.judging.judged import Judged
from reports.style import GOOD, STYLES, TOO_HIGH, describe_edge, format_number, log_ticks

Chart = dict[str, Any]
"""A figure as plotly.js takes it: ``{"data": [...], "layout": {...}}``, numbers finite or None."""

Trace = dict[str, Any]
"""An item of a chart's data."""

SYMBOLS = {"v": "triangle-down", "o": "circle", "^": "triangle-up", "X": "x"}  # matplotlib's markers in plotly's words
DASHES = {"--": "dash", "-": "solid", "-.": "dashdot", ":": "dot"}
BAND = 0.15  # half the height of a band, of the distance between two rows
FAINT = "#808a94"  # seen on white and on the dark page


def draw_map(rows: Mapping[str, tuple[Judged, int]], *, title: str, named: bool = False) -> Chart:
    """Verdicts over learning rate with recommended learning rates and edges, a row each, the first at the bottom.

    rows: by their labels the study and the batch size each shows. title: what the labels are. named: whether what is said of
    a mark begins with the label of its row.
    """
    all_cells, all_uses, bands, edges = [], [], [], []
    for y, (label, (judged, batch_size)) in enumerate(rows.items()):
        cells, uses, found = (
            table[table["batch_size"] == batch_size] for table in (judged.cells, judged.recommendations, judged.edges)
        )
        all_cells.append(cells.assign(y=y, row=label if named else ""))
        all_uses.append(uses.assign(y=y))
        bands += _bands(uses, y)
        edges += _edges(found, y)
    cells = pd.concat(all_cells)
    size = float(np.clip(260 / cells["learning_rate"].nunique(), 7, 16))  # of marks, in pixels
    rings = mark_recommended(pd.concat(all_uses), x="learning_rate", y="y", size=size + 8)
    data = [*bands, *edges, *mark_verdicts(cells, size=size), *rings]
    if edges:
        tick = {"symbol": "line-ns-open", "size": 9, "color": FAINT, "line": {"width": 2}}
        data.append(draw_line([None], [None], color=FAINT, mode="lines+markers", marker=tick, name="edge, 90 % interval"))
    axis = {"title": {"text": title}, "range": [-0.7, len(rows) - 0.5], "zeroline": False, "showgrid": False}
    axis |= {"tickvals": list(range(len(rows))), "ticktext": [plain_text(label) for label in rows], "automargin": True}
    return make_chart(data, xaxis=log_axis("learning rate", cells["learning_rate"]), yaxis=axis, height=150 + 60 * len(rows))


def draw_times(groups: Mapping[str, pd.DataFrame], looks: Iterable[Mapping[str, Any]], *, named: bool = False) -> Chart:
    """Time to bottom in epochs over learning rate, a line each; what never arrives stands in rows at the top, one each.

    groups: cells by the names of their lines. looks: of the lines, in plotly's words. named: as for ``draw_map``.
    """
    times = pd.concat([cells["time_to_bottom_epochs"] for cells in groups.values()]).astype(float)
    reached = times[np.isfinite(times) & (times > 0)]
    low, high = (reached.min(), reached.max()) if len(reached) else (1.0, 1.0)
    step = max(high / low, 10) ** 0.2
    never = [high * step ** (1 + 0.3 * k) for k in range(len(groups))]
    found, data = [], []
    for top, look, (name, cells) in zip(never, looks, groups.items(), strict=False):
        shown = cells.assign(y=cells["time_to_bottom_epochs"].clip(low).replace(math.inf, top), row=name if named else "")
        arrived = shown[shown["y"] < top].sort_values("learning_rate")
        more: dict[str, Any] = {"name": plain_text(name), "showlegend": len(groups) > 1}
        data.append(draw_line(arrived["learning_rate"], arrived["y"], width=1.5, hoverinfo="skip", **more, **look))
        found.append(shown)
    cells = pd.concat(found)
    bottom = low / step**0.5
    axis = log_axis("time to bottom (epochs)", [bottom, high]) | ({} if len(reached) else {"tickvals": []})
    axis["range"] = [math.log10(bottom), math.log10(never[-1] * step**0.5)]
    layout = {"shapes": [_level(y) for y in never], "annotations": [_label("never", never[-1])]}
    height = 340 + 20 * len(groups)
    data += mark_verdicts(cells, size=11)
    return make_chart(data, xaxis=log_axis("learning rate", cells["learning_rate"]), yaxis=axis, height=height, **layout)


def mark_verdicts(cells: pd.DataFrame, *, size: float) -> list[Trace]:
    """Marks at learning rate and ``y``, a trace a verdict; customdata tells the page which cell a mark is.

    cells: also with ``row``, what is said first of a mark, or "". size: in pixels.
    """
    traces = []
    for verdict, style in STYLES.items():
        rows = cells[cells["verdict"] == verdict]
        edge = {"color": "white", "width": 0.7}
        marker = {"color": style.colour, "symbol": SYMBOLS[style.marker], "size": size, "line": edge}
        trace: Trace = {"type": "scatter", "mode": "markers", "name": verdict, "marker": marker, "hoverinfo": "text"}
        trace |= {"x": plain(rows["learning_rate"]), "y": plain(rows["y"])}
        trace["text"] = [_tell(row) for row in rows.to_dict("records")]
        trace["customdata"] = [[row.batch_size, float(f"{row.learning_rate:.6g}")] for row in rows.itertuples()]
        traces.append(trace if len(rows) else trace | {"x": [None], "y": [None]})  # an empty trace has no place in the legend
    return traces


def mark_recommended(uses: pd.DataFrame, *, x: str, y: str, size: float) -> list[Trace]:
    """A ring around each recommended learning rate; x and y: the columns of its place; size: in pixels."""
    marker = {"symbol": "circle-open", "size": size, "color": FAINT, "line": {"width": 2.5}}
    ring = {"type": "scatter", "mode": "markers", "name": "recommended", "marker": marker, "hoverinfo": "skip"}
    return [ring | {"x": plain(uses[x]), "y": plain(uses[y])}] if len(uses) else []


def draw_line(x: Iterable[Any], y: Iterable[Any], *, color: str, width: float = 2, dash: str = "solid", **more: Any) -> Trace:
    """A line; more: of its trace."""
    line = {"color": color, "width": width, "dash": dash}
    return {"type": "scatter", "mode": "lines", "x": plain(x), "y": plain(y), "line": line} | more


def make_chart(data: list[Trace], **layout: Any) -> Chart:
    """A chart that fits the page."""
    shared: dict[str, Any] = {"margin": {"l": 60, "r": 20, "t": 20, "b": 50}, "hovermode": "closest"}
    shared |= {"legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}, "hoverlabel": {"align": "left"}}
    return {"data": data, "layout": shared | layout}


def log_axis(title: str, values: Iterable[float]) -> dict[str, Any]:
    """An axis with few, plainly written ticks that cover the values."""
    ticks = log_ticks(min(values), max(values))
    named = {"tickvals": ticks, "ticktext": [format_number(tick) for tick in ticks]}
    return {"type": "log", "title": {"text": title}, "automargin": True} | named


def plain_text(text: object) -> str:
    """Text that means itself in a chart, whose labels plotly reads as a little HTML, and between dollars as mathematics."""
    return html.escape(" ".join(str(text).split()), quote=False).replace("$", "&#36;")


def plain(values: Iterable[Any]) -> list[float | None]:
    """Numbers of six digits; None for those that are missing or not finite."""
    numbers = (math.nan if value is None else float(value) for value in values)
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in numbers]


def _bands(uses: pd.DataFrame, y: float) -> list[Trace]:
    """Over the intervals of recommended learning rates, hatched where they hold on half of new seeds only."""
    found = []
    for use in uses.to_dict("records"):
        low, high, half = use["low"], use["high"], use["interval_share"] < COVERAGE
        look: dict[str, Any] = {"color": STYLES[TOO_HIGH if half else GOOD].colour, "width": 0, "hoverinfo": "skip"}
        look |= {"fill": "toself", "showlegend": False, "fillcolor": f"{look['color']}40"}
        if half:
            look["fillpattern"] = {"shape": "/", "size": 7, "solidity": 0.25, "fillmode": "overlay"}
        found.append(draw_line([low, high, high, low], [y - BAND, y - BAND, y + BAND, y + BAND], **look))
    return found


def _edges(edges: pd.DataFrame, y: float) -> list[Trace]:
    """Below the row of their batch size, in the colour of the upper verdict."""
    traces = []
    for row in edges.dropna(subset=["learning_rate"]).to_dict("records"):
        number, (_, above) = list(EDGES).index(row["edge"]), EDGES[row["edge"]]
        x, place = [row["low"], row["learning_rate"], row["high"]], [y - 0.24 - 0.08 * number] * 3
        look: dict[str, Any] = {"marker": {"symbol": "line-ns-open", "size": [0, 9, 0]}, "showlegend": False}
        look |= {"mode": "lines+markers", "text": f"{row['edge']}: {describe_edge(row)}", "hoverinfo": "text"}
        traces.append(draw_line(x, place, color=STYLES[above].colour, **look))
    return traces


def _tell(cell: Mapping[str, Any]) -> str:
    which = f"batch size {cell['batch_size']}, learning rate {format_number(cell['learning_rate'])}, {cell['n_seeds']} seeds"
    reason = "<br>".join(_wrapped(cell["reason"]))
    return "<br>".join(filter(None, (plain_text(cell["row"]), which, f"<b>{cell['verdict']}</b>: {reason}")))


def _wrapped(text: str, width: int = 60) -> Iterable[str]:
    line = ""
    for word in plain_text(text).split():
        if line and len(line) + len(word) > width:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    yield line


def _level(y: float) -> dict[str, Any]:
    line = {"color": FAINT, "width": 1, "dash": "dot"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line, "layer": "below"}


def _label(text: str, y: float) -> dict[str, Any]:
    place = {"xref": "paper", "x": 0, "xanchor": "left", "y": math.log10(y), "yanchor": "bottom", "showarrow": False}
    return {"text": text, "font": {"size": 11}} | place
