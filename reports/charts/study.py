"""Judged tables in, charts for a browser out: plain JSON that plotly.js draws, so that points can be pointed at."""

from itertools import cycle
from typing import Any

from reports.charts.batch_law import law_chart
from reports.charts.marks import (
    DASHES,
    FAINT,
    SYMBOLS,
    Chart,
    draw_map,
    draw_times,
    log_axis,
    make_chart,
    mark_recommended,
    plain,
)
from reports.judging.edges import COVERAGE, EDGES
from reports.judging.judged import Judged
from reports.style import GOOD, STYLES, TOO_HIGH, describe_edge


def map_chart(judged: Judged) -> Chart:
    """Every cell over learning rate and batch size, the recommended learning rates and the edges, as in ``plot_map``."""
    sizes = sorted(judged.cells["batch_size"].unique())
    return draw_map({str(size): (judged, size) for size in sizes}, title="batch size")


def times_chart(judged: Judged, batch_size: int | None = None) -> Chart:
    """Time to bottom in epochs over learning rate, a line a batch size.

    batch_size: this one alone, with its recommended learning rate and the interval of that.
    """
    groups = {f"batch size {size}": cells for size, cells in judged.cells.groupby("batch_size") if batch_size in (None, size)}
    chart = draw_times(groups, ({"color": FAINT, "dash": dash} for dash in cycle(DASHES.values())))
    uses = judged.recommendations[judged.recommendations["batch_size"] == batch_size]
    for use in uses.to_dict("records"):
        across: dict[str, Any] = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
        band = {"type": "rect", "x0": use["low"], "x1": use["high"], "opacity": 0.2}
        band["fillcolor"] = STYLES[TOO_HIGH if use["interval_share"] < COVERAGE else GOOD].colour
        line = {"type": "line", "x0": use["learning_rate"], "x1": use["learning_rate"]}
        look = {"color": FAINT, "width": 1.5, "dash": "dash"}
        chart["layout"]["shapes"] += [across | band | {"line": {"width": 0}}, across | line | {"line": look}]
    return chart


def edges_chart(judged: Judged) -> Chart:
    """The three edges with their 90 % intervals against batch size, and the law through them or what is recommended."""
    if (axis := judged.batch_axis).foretells:
        return law_chart(axis)
    sizes = sorted(judged.cells["batch_size"].unique())
    data: list[dict[str, Any]] = []
    for shift, (edge, (_, above)) in zip((-0.12, 0, 0.12), EDGES.items(), strict=True):
        rows = judged.edges[judged.edges["edge"] == edge].dropna(subset=["learning_rate"])
        style, rate = STYLES[above], rows["learning_rate"]
        bars = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 4}
        bars |= {"array": plain(rows["high"] - rate), "arrayminus": plain(rate - rows["low"])}
        trace = {"type": "scatter", "mode": "lines+markers", "name": edge, "y": plain(rate)}
        trace["x"] = [sizes.index(size) + shift for size in rows["batch_size"]]
        marker = {"color": style.colour, "symbol": SYMBOLS[style.marker], "size": 10}
        look = {"marker": marker, "line": {"color": style.colour, "dash": DASHES[style.dash], "width": 1}}
        told = {"text": [f"{edge}: {describe_edge(row)}" for row in rows.to_dict("records")], "hoverinfo": "text"}
        data.append(trace | look | told | {"error_y": bars})
    uses = judged.recommendations.assign(x=judged.recommendations["batch_size"].map(sizes.index))
    data += mark_recommended(uses, x="x", y="learning_rate", size=14)
    ticks = {"tickvals": list(range(len(sizes))), "ticktext": [str(size) for size in sizes]}
    x_axis = {"title": {"text": "batch size"}, "zeroline": False, "range": [-0.5, len(sizes) - 0.5]} | ticks
    return make_chart(data, xaxis=x_axis, yaxis=log_axis("learning rate", judged.cells["learning_rate"]), height=380)
