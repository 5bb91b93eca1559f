"""Judged tables in, one page out: HTML that opens offline, or Markdown with pictures beside it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from reports.figures import FIGURES
from reports.style import GLOSSARY, STYLES, format_number
from reports.verdicts import Thresholds


class Judged(NamedTuple):
    """The tables of a report: ``classify``, the recorded curves, ``classify_cells`` and ``good_ranges``."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    cells: pd.DataFrame
    ranges: pd.DataFrame


def render_html(
    judged: Judged, pictures: Mapping[str, bytes], *, title: str, configuration: Mapping[str, object], thresholds: Thresholds
) -> str:
    """The page as one HTML file without scripts or requests; pictures: PNG files by the names in ``FIGURES``."""
    sources = {name: "data:image/png;base64," + base64.b64encode(picture).decode() for name, picture in pictures.items()}
    context = _context(judged, title=title, configuration=configuration, thresholds=thresholds)
    return _environment().get_template("report.html.jinja").render(**context, pictures=sources)


def render_markdown(
    judged: Judged, pictures: Mapping[str, str], *, title: str, configuration: Mapping[str, object], thresholds: Thresholds
) -> str:
    """The page as Markdown; pictures: relative paths by the names in ``FIGURES``."""
    context = _context(judged, title=title, configuration=configuration, thresholds=thresholds)
    environment = _environment(finalize=_markdown_text)
    return environment.get_template("report.md.jinja").render(**context, pictures=pictures)


def answer(row: Mapping[str, Any]) -> str:
    """One row of ``good_ranges`` as a sentence: what to use, what is good, where it diverges."""
    divergent, use = format_number(row["divergent_from"]), format_number(row["recommended_learning_rate"])
    ends = f"divergent from {divergent}." if divergent != "-" else "none tried was divergent."
    if use == "-":
        return f"Batch size {row['batch_size']}: no learning rate is good; {ends}"
    low, high = format_number(row["good_low"]), format_number(row["good_high"])
    good = f"good from {low} to {high}" if low != high else f"the only good one is {low}"
    return f"Batch size {row['batch_size']}: use {use}; {good}; {ends}"


def _context(judged: Judged, *, title: str, configuration: Mapping[str, object], thresholds: Thresholds) -> dict[str, Any]:
    runs, cells, ranges = judged.runs, judged.cells, judged.ranges
    lowest = cells.groupby("batch_size")["final_height"].min()
    metrics = [str(name) for name in cells if str(name).startswith("val_")]
    return {
        "title": " ".join(title.split()) or "Learning-rate study",
        "styles": STYLES,
        "glossary": GLOSSARY,
        "captions": FIGURES,
        "thresholds": {name: format_number(getattr(thresholds, name)) for name in ("tau", "rho")},
        "target_loss": None if thresholds.target_loss is None else format_number(thresholds.target_loss),
        "answers": [(answer(row), row["note"], row["good_low"] > 0) for row in ranges.to_dict("records")],
        "ranges": [
            [
                row["batch_size"],
                *(format_number(row[key]) for key in ("recommended_learning_rate", "good_low", "good_high", "divergent_from")),
                *(format_number(row[key]) for key in ("fastest", "time_to_bottom_epochs")),
                format_number(lowest[row["batch_size"]] if thresholds.target_loss is None else thresholds.target_loss),
            ]
            for row in ranges.to_dict("records")
        ],
        "metrics": [name.replace("val_", "validation ", 1) for name in metrics],
        "cells": [
            {
                "verdict": row["verdict"],
                "reason": row["reason"],
                "cell": [row["batch_size"], format_number(row["learning_rate"])],
                "numbers": [
                    format_number(row["progress"]),
                    format_number(row["time_to_bottom_epochs"]).replace("inf", "never"),
                    format_number(row["final_height"]),
                    *(format_number(row[key]) for key in metrics),
                    row["n_seeds"],
                ],
            }
            for row in cells.to_dict("records")
        ],
        "crashed": [
            [row["trial"], row["batch_size"], format_number(row["learning_rate"]), row["seed"], row["reason"]]
            for row in runs[runs["verdict"].isna()].to_dict("records")
        ],
        "configuration": list(_flat(configuration)),
        "n_runs": len(runs),
    }


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested options as pairs, with dotted names as on a command line."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _environment(**options: Any) -> Environment:
    escaped = select_autoescape(enabled_extensions=("html.jinja",))
    loader = PackageLoader("reports")
    kept: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    return Environment(loader=loader, autoescape=escaped, undefined=StrictUndefined, **kept, **options)


def _markdown_text(value: Any) -> Any:
    """Text that means itself in Markdown, in a table too: no tags, no new columns or lines, no formulas."""
    if isinstance(value, Markup):
        return value
    line = " ".join(str(value).split()).replace("&", "&amp;")
    return re.sub(r"([\\`*\[\]<>|$~]|(?<!\w)_|_(?!\w))", r"\\\1", line)
