"""The edges over batch size and the law through them, for a browser: pointing at a batch size says what is foretold there."""

from typing import Any

from reports.charts.marks import FAINT, SYMBOLS, Chart, Trace, draw_line, log_axis, make_chart, plain
from reports.judging.at_batch_size import BatchAxis
from reports.judging.recommendation import TO_DIVERGENT, TO_GOOD, TO_TOO_HIGH
from reports.style import DIVERGENT, STYLES, TOO_HIGH, TOO_LOW

LOOKS = {
    TO_DIVERGENT: (DIVERGENT, "diverges from (unsure)"),
    TO_TOO_HIGH: (TOO_HIGH, "good to"),
    TO_GOOD: (TOO_LOW, "good from"),
}
BAND = 0.18  # opacity; half as much outside


def law_chart(axis: BatchAxis) -> Chart:
    """As ``reports.figures.batch_law.plot_batch_law``; axis: one that foretells."""
    uses, choices = axis.choices, [each.batch_size for each in axis.choices]
    data: list[Trace] = []
    for name, (verdict, label) in LOOKS.items():
        style, exact = STYLES[verdict], [centre for centre in axis.centres[name] if not centre.side]
        places = [each.learning_rates for each in exact]
        rates = [middle for _, middle, _ in places]
        if not exact:
            continue
        for part, (xs, drawn) in axis.stretches.items() if name != TO_GOOD and name in axis.laws else ():
            edges = [each[name] for each in drawn]
            look: dict[str, Any] = {
                "color": style.colour,
                "showlegend": False,
                "hoverinfo": "skip",
                "opacity": 1 if part == "inside" else 0.4,
            }
            data.append(draw_line(xs, [edge.low for edge in edges], width=0, **look))
            band = {"fill": "tonexty", "fillcolor": _faint(style.colour, BAND if part == "inside" else BAND / 2)}
            data.append(draw_line(xs, [edge.high for edge in edges], width=0, **look, **band))
            data.append(draw_line(xs, [edge.learning_rate for edge in edges], **look))
        bars = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 4}
        bars["array"] = plain(high - middle for _, middle, high in places)
        bars["arrayminus"] = plain(middle - low for low, middle, _ in places)
        marker = {"color": style.colour, "symbol": SYMBOLS[style.marker], "size": 9}
        trace: Trace = {"type": "scatter", "mode": "markers", "name": label, "marker": marker, "hoverinfo": "skip"}
        data.append(trace | {"x": [each.batch_size for each in exact], "y": plain(rates), "error_y": bars})
    told: dict[str, Any] = {
        "text": [each.sentence.replace(": ", "<br>").replace("; ", "<br>") for each in uses],
        "hoverinfo": "text",
    }
    tried = ["circle" if each.tried else "circle-open" for each in uses]
    of_use: dict[str, Any] = {"mode": "lines+markers", "name": "use", "marker": {"color": FAINT, "size": 9, "symbol": tried}}
    data.append(draw_line(choices, [each.use for each in uses], color=FAINT, dash="dash", **of_use, **told))
    ticks = {"tickvals": choices[:: -(-len(choices) // 12)]}
    x_axis: dict[str, Any] = (
        {"type": "log", "title": {"text": "batch size"}} | ticks | {"ticktext": [*map(str, ticks["tickvals"])]}
    )
    ends = [edges[name].learning_rate for _, drawn in axis.stretches.values() for edges in drawn for name in edges]
    return make_chart(data, xaxis=x_axis, yaxis=log_axis("learning rate", ends), height=420)


def _faint(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity:g})"
