"""What the page's script shows of a judged study, packed into one text: charts, the table of runs, their curves."""

import math
import re
from typing import Any

import numpy as np
import pandas as pd

from reports.charts.marks import DASHES, Chart, plain_text
from reports.charts.study import edges_chart, map_chart, times_chart
from reports.judging.followed import HIGHEST
from reports.judging.judged import Judged
from reports.judging.verdicts import ended_early, split_curves
from reports.style import STYLES, name_metric

CURVES = 2_000  # runs whose curves the page holds, evenly over the table: about 0.5 kB each
SHOWN = ("batch_size", "learning_rate", "seed", "verdict", "reason", "progress", "time_to_bottom", "final_height")
CURVES_HEIGHT = 380  # pixels, of the chart of the curves of a batch size, which the page's script makes
LABELS = {
    "trial": "run",
    "batch_size": "batch size",
    "learning_rate": "learning rate",
    "time_to_bottom": "time to bottom (epochs)",
    "final_height": "final height",
    "first_height": "untrained height",
    "nonfinite_at": "not finite at step",
    "validation_examples": "validation examples",
    "ended_early": "ended early by",
    HIGHEST: "highest learning rate",
    "loss_as_at_start": "height by the loss of the start",
    "member_of": "trained in the fit of run",
}


def page_data(judged: Judged) -> dict[str, Any]:
    """Everything the page's script needs, as plain JSON; numbers that are not finite are None or "inf".

    ``charts``: by name; ``columns`` and ``rows``: the table of runs, columns as [key, heading, whether the table shows it];
    ``curves``: trial to metric to [index of its epochs in ``epochs``, values]; ``curves_height``: of their chart;
    ``judgements``: trial to sentences; ``styles``: verdict to colour, dash and sign; ``on_dark``: colours to those that are
    seen on a dark page.
    """
    columns = ["trial", *SHOWN] + ["ended_early"] * bool(ended_early(judged.runs).any())
    metrics = [str(name) for name in judged.runs if str(name).startswith("val_")]
    others = ("first_height", "epochs", "steps", "examples", "seconds", "nonfinite_at", "validation_examples", "member_of")
    told = [name for name in (HIGHEST, "loss_as_at_start") if name in judged.runs and judged.runs[name].notna().any()]
    kept = [*columns, *metrics, *(name for name in others if name in judged.runs), *told]
    rows = [[_cell(row[name]) for name in kept] for row in judged.runs[kept].to_dict("records")]
    epochs, curves = _curves(judged)
    sentences: dict[int, list[str]] = {}
    for row in judged.judgements.to_dict("records"):
        sentences.setdefault(row["trial"], []).append(f"{row['judgement']}: {row['sentence']}")
    return {
        "charts": _charts(judged),
        "columns": [[name, LABELS.get(name, name_metric(name)), name in columns or name in metrics[:2]] for name in kept],
        "rows": rows,
        "epochs": epochs,
        "curves": curves,
        "curves_height": CURVES_HEIGHT,
        "names": {name: plain_text(name_metric(name).replace("_", " ")) for name in sorted(set().union(*curves.values()))},
        "judgements": sentences,
        "styles": {
            name: {"colour": style.colour, "dash": DASHES[style.dash], "sign": style.sign} for name, style in STYLES.items()
        },
        "on_dark": {style.colour: style.on_dark for style in STYLES.values()},
    }


def _charts(judged: Judged) -> dict[str, Chart]:
    if judged.cells.empty:
        return {}
    sizes = sorted(judged.cells["batch_size"].unique().tolist())
    charts = {"map": map_chart(judged), **{f"times/{size}": times_chart(judged, size) for size in sizes}}
    return charts | ({"edges": edges_chart(judged)} if len(sizes) > 1 else {})


def _curves(judged: Judged) -> tuple[list[list[float | None]], dict[int, dict[str, list[Any]]]]:
    """Distinct lists of epochs, and for each trial its curves by metric; minibatch losses, heights and what validation says."""
    trials = judged.runs["trial"].to_numpy()
    if len(trials) > CURVES:
        trials = trials[np.linspace(0, len(trials) - 1, CURVES).round().astype(int)]
    rows = judged.curves[judged.curves["trial"].isin(trials)]
    epochs: dict[tuple[float | None, ...], int] = {}
    curves: dict[int, dict[str, list[Any]]] = {}
    for metric in filter(re.compile("height$|minibatch_loss$|val_").match, rows["metric"].unique()):
        for trial, (times, values) in split_curves(rows, metric).items():
            at = epochs.setdefault(tuple(_rounded(time) for time in times), len(epochs))
            curves.setdefault(trial, {})[metric] = [at, [_rounded(value) for value in values]]
    return [list(times) for times in epochs], curves


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _cell(value: Any) -> Any:
    """A cell of the table: text, a number, "inf", or None where there is nothing."""
    if value is None or pd.isna(value):
        return None
    if isinstance(value, str):
        return value
    return ("inf" if value > 0 else "-inf") if math.isinf(value) else float(f"{float(value):.6g}")
