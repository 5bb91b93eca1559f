"""Judged tables in, one page out: HTML that opens offline, or Markdown with pictures beside it."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from reports.figures import FIGURES
from reports.judging.answer import HEADINGS, how_read
from reports.judging.at_batch_size import HEADINGS as AT_BATCH_SIZE
from reports.judging.followed import NO_VERDICT, is_unfollowed
from reports.judging.judged import Judged
from reports.judging.judgements import score_sensitivity
from reports.judging.ledger import NOTE, THIS, describe_ledger
from reports.judging.trust import next_changes
from reports.judging.verdicts import FINISHED
from reports.pages.page_data import CURVES_HEIGHT, page_data
from reports.pages.page_scripts import page_scripts, reserved_pixels
from reports.pages.templating import environment, flat_options, markdown_text, picture_source
from reports.style import (
    GLOSSARY,
    JUDGEMENTS,
    STILL_IMPROVING,
    STYLES,
    TOO_LOW,
    describe_edge,
    format_number,
    format_seconds,
    name_metric,
)

DRAWN = ("map", "time_to_bottom", "learning_curves", "batch_law")  # pictures that charts stand for on a page that is live
TRACEBACK_LINES = 40  # the last ones name the error and the place; the page stays small

Command = Callable[[Mapping[str, Any]], str]
"""From options to change to the command that runs the study with them; "" where there is none."""


def no_command(changes: Mapping[str, Any]) -> str:
    """For studies that were not launched from a command line."""
    return ""


def render_html(judged: Judged, pictures: Mapping[str, bytes], **about: Any) -> str:
    """The page as one HTML file that asks for nothing from outside; pictures: PNG files by the names in ``FIGURES``.

    about: ``title`` and ``configuration``; ``command``, of type Command, where there is one; ``walk``, what the picture
    ``landscape`` shows, where there is one.

    Its scripts, ours and plotly.js, are inside and the only ones its Content-Security-Policy allows; it is whole without them.
    """
    sources = {name: picture_source(picture) for name, picture in pictures.items()}
    data = page_data(judged)
    charts = reserved_pixels(data["charts"]) | {f"curves/{size}": CURVES_HEIGHT for size in judged.cells["batch_size"].unique()}
    context = _context(judged, **about) | {"pictures": sources, "charts": charts, "drawn": DRAWN}
    scripts = page_scripts(data, "charts.js", "curves.js", "runs.js")
    return environment().get_template("report.html.jinja").render(**context, **scripts)


def render_markdown(judged: Judged, pictures: Mapping[str, str], **about: Any) -> str:
    """The page as Markdown; pictures: relative paths by the names in ``FIGURES``; about: as in ``render_html``."""
    template = environment(finalize=markdown_text).get_template("report.md.jinja")
    return template.render(**_context(judged, **about), pictures=pictures)


def _context(
    judged: Judged, *, title: str, configuration: Mapping[str, object], command: Command = no_command, walk: str = ""
) -> dict[str, Any]:
    runs, cells, thresholds = judged.runs, judged.cells, judged.thresholds
    without = runs["verdict"].isna()
    crashed, unjudged = runs[without & ~runs["state"].isin(FINISHED)], runs[is_unfollowed(runs)]
    metrics = [str(name) for name in cells if str(name).startswith("val_")]
    return {
        "title": " ".join(title.split()) or "Learning-rate study",
        "styles": STYLES,
        "glossary": GLOSSARY,
        "meanings": JUDGEMENTS,
        "captions": FIGURES | ({"landscape": f"{walk} The same as a film: figures/landscape.gif."} if walk else {}),
        "thresholds": {name: format_number(getattr(thresholds, name)) for name in ("tau", "rho")},
        "target_loss": None if thresholds.target_loss is None else format_number(thresholds.target_loss),
        "answers": judged.answers,
        "headings": HEADINGS,
        "conditions": judged.conditions,
        "overall": " ".join(filter(None, (judged.overall, judged.own))),
        "how_read": {where: how_read(judged.answers, where) for where in ("Below", "In brackets after")},
        "trust": [(check.name, check.passed, check.sentence) for check in judged.trust],
        "next": command(changes) if (changes := next_changes(judged.trust)) else "",
        "batch": _batch(judged),
        "ranges": _ranges(judged),
        "sizes": _sizes(judged),
        "judgements": _judgements(judged),
        "metrics": [name_metric(name) for name in metrics],
        "cells": [
            {
                "verdict": row["verdict"],
                "reason": row["reason"],
                "cell": [row["batch_size"], format_number(row["learning_rate"])],
                "numbers": [
                    format_number(row["progress"]),
                    _time(row["time_to_bottom_epochs"]),
                    format_number(row["final_height"]),
                    *(format_number(row[key]) for key in metrics),
                    row["n_seeds"],
                ],
            }
            for row in cells.to_dict("records")
        ],
        "remarks": judged.remarks,
        "cost": {"sentence": describe_ledger(judged.ledger), "ways": _ways(judged.ledger), "note": NOTE},
        "crashed": [
            [row["trial"], row["batch_size"], format_number(row["learning_rate"]), row["seed"], row["reason"]]
            for row in crashed.to_dict("records")
        ],
        "unjudged": [
            [size, format_number(rate), len(group), reason.removeprefix(NO_VERDICT)]
            for (size, rate, reason), group in unjudged.groupby(["batch_size", "learning_rate", "reason"])
        ],
        "n_unjudged": len(unjudged),
        "tracebacks": _tracebacks(crashed),
        "configuration": list(flat_options(configuration)),
        "n_runs": len(runs),
    }


def _sizes(judged: Judged) -> list[dict[str, Any]]:
    """What the page says of each batch size that has a verdict, in a section of its own."""
    uses = judged.recommendations.set_index("batch_size").to_dict("index")
    costs = judged.costs[judged.costs["factor"] != 1]
    found = []
    for answer in judged.answers:
        use, rows = None, answer.edges.values()
        if answer.is_good:
            row = uses[answer.batch_size]
            seconds = row["time_to_bottom_seconds"]
            use = {
                "learning_rate": format_number(answer.use),
                "interval": f"{answer.interval}, good on {100 * answer.share:.0f} % of new seeds",
                "reason": "; ".join(filter(None, (row["reason"], row["price"]))),
                "epochs": _count(row["time_to_bottom_epochs"], "epoch"),
                "seconds": "" if judged.trained_together or pd.isna(seconds) else format_seconds(seconds),
            }
        noted = any(row["note"] for row in rows)
        size = {
            "batch_size": answer.batch_size,
            "use": use,
            "edges": [[row["edge"], describe_edge(row), *([row["note"]] if noted else [])] for row in rows],
            "costs": [_cost(row) for row in costs[costs["batch_size"] == answer.batch_size].to_dict("records")],
        }
        found += [size] if rows else []
    return found


def _batch(judged: Judged) -> dict[str, Any]:
    """What the page says of the batch sizes together; empty where they foretell nothing."""
    if not (axis := judged.batch_axis).foretells:
        return {}
    rows = [each.texts for each in axis.choices]
    return {"headings": AT_BATCH_SIZE, "rows": rows, "told": judged.batch_sentences, "tried": ", ".join(map(str, axis.sizes))}


def _ways(ledger: pd.DataFrame) -> list[list[str]]:
    """What each way costs, where there are others than the study itself."""
    return [
        [
            row["way"],
            f"{format_number(row['share'])} x" if row["share"] > 1 else _percent(row["share"]),
            *("-" if pd.isna(row[key]) else f"{row[key]:,}" for key in ("runs", "examples")),
            "about " * (row["way"] != THIS and row["seconds"] > 0) + format_seconds(row["seconds"]),
            format_number(row["per_decade"], digits=2),
        ]
        for row in (ledger.to_dict("records") if len(ledger) > 1 else [])
    ]


def _percent(share: float) -> str:
    return f"{format_number(100 * share)} %" if share == share else "-"


def _ranges(judged: Judged) -> list[list[Any]]:
    floors, sensitivity = judged.cells.groupby("batch_size")["floor"].first(), score_sensitivity(judged.runs)
    return [
        [
            row["batch_size"],
            *(format_number(row[key]) for key in ("good_low", "good_high", "divergent_from")),
            *(format_number(row[key]) for key in ("fastest", "time_to_bottom_epochs")),
            format_number(floors[row["batch_size"]]),
            format_number(sensitivity[row["batch_size"]]),
        ]
        for row in judged.ranges.to_dict("records")
        if row["batch_size"] in sensitivity
    ]


def _cost(row: Mapping[str, Any]) -> list[str]:
    factor = {0.1: "a tenth", 0.5: "half", 2: "twice", 10: "ten times"}[row["factor"]]
    if not isinstance(row["verdict"], str):
        return [factor, format_number(row["learning_rate"]), "not tried", "-", "-", "-"]
    ratio = f"{format_number(row['ratio'])} x as long" if math.isfinite(row["ratio"]) else "never arrives"
    times = [_time(row["epochs"]), _time(row["seconds"])]
    return [factor, format_number(row["learning_rate"]), row["verdict"], *times, ratio if row["ratio"] == row["ratio"] else "-"]


def _judgements(judged: Judged) -> list[list[Any]]:
    """A row a cell and judgement: how many seeds, and the sentence of the seed with the middle number.

    That learning rates which are too low were still improving stands in one row, as it is what the verdict says.
    """
    cells, found = judged.cells.set_index(["batch_size", "learning_rate"]), judged.judgements
    verdicts = cells["verdict"].reindex(pd.MultiIndex.from_frame(found[cells.index.names]))
    slow = found[(found["judgement"] == STILL_IMPROVING) & (verdicts.to_numpy() == TOO_LOW)]
    rows = [
        [STILL_IMPROVING, size, f"{format_number(group.min())} to {format_number(group.max())}", "-", "as too low says"]
        for size, group in slow.groupby("batch_size")["learning_rate"]
    ]
    for (name, size, rate), group in found.drop(slow.index).groupby(["judgement", "batch_size", "learning_rate"], sort=True):
        middle = group.sort_values("number").iloc[(len(group) - 1) // 2]
        rows.append([name, size, format_number(rate), f"{len(group)} of {cells['n_seeds'][size, rate]}", middle["sentence"]])
    return sorted(rows, key=lambda row: list(JUDGEMENTS).index(row[0]))


def _tracebacks(crashed: pd.DataFrame) -> list[tuple[str, str]]:
    """A heading and the last lines of every traceback; equal ones stand once, under all their trials."""
    if "traceback" not in crashed:
        return []
    found = []
    for text, group in crashed.dropna(subset=["traceback"]).groupby("traceback", sort=False):
        if lines := str(text).strip().splitlines():
            trials = f"trial{'s' * (len(group) > 1)} {', '.join(str(trial) for trial in group['trial'])}"
            error = group["reason"].iloc[0].removeprefix("did not finish: ")
            cut = f" (the last {TRACEBACK_LINES} of {len(lines)} lines)" if len(lines) > TRACEBACK_LINES else ""
            found.append((f"{trials}: {error}{cut}", "\n".join(lines[-TRACEBACK_LINES:])))
    return found


def _count(value: float, word: str) -> str:
    """A number of things: "1 epoch", "1.5 epochs"."""
    return f"{format_number(value)} {word}{'s' * (value != 1)}"


def _time(value: float) -> str:
    return format_number(value).replace("inf", "never")
