"""What trackers are given of a judged study: its answer as Markdown, and its runs with verdicts, numbers and curves."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reports.figures.verdict_map import describe_uses
from reports.judging.answer import HEADINGS, how_read
from reports.judging.judged import Judged
from reports.judging.ledger import describe_ledger
from reports.judging.trust import next_changes
from reports.pages.study import Command, no_command
from reports.pages.templating import environment, flat_options, markdown_text
from reports.style import format_number

MOST_POINTS = 100  # of a curve: pages are as wide as some hundred pixels a chart, and MLflow stores 2,000 points a second
NO_VERDICT = {"FAIL": "failed", "RUNNING": "running"}
NEVER = "epochs_to_bottom"  # may be infinite
FINAL = {"final_height": "final_height", "progress": "progress", "time_to_bottom": NEVER}  # columns of ``runs``


class ExportedRun(NamedTuple):
    """One run.

    place: three names, of its batch size, learning rate, and seed with verdict; no two runs have the same.
    state, seconds: as in ``runs``, 0 seconds where they are not known.
    settings: learning_rate, batch_size, seed and verdict, which says "failed", "running" or "no verdict" where there is none.
    reason: for the verdict. numbers: its last ones; what it has not is left out, such as a time to the bottom it never reached.
    curves: by metric, of any text, steps and values, of which at most ``MOST_POINTS``, first and last among them.
    """

    place: tuple[str, str, str]
    state: str
    seconds: float
    settings: dict[str, Any]
    reason: str
    numbers: dict[str, float]
    curves: dict[str, tuple[list[int], list[float]]]


class Exported(NamedTuple):
    """A study.

    title: its name. headline: what to use, in a few words. answer: Markdown, with the learning rates to use as a table.
    uses: the same as numbers, by batch size.
    options: how it was configured, by dotted names. report: the folder that ``write_report`` wrote.
    """

    title: str
    headline: str
    answer: str
    uses: dict[int, float]
    options: dict[str, str]
    runs: list[ExportedRun]
    report: Path


def exported(
    judged: Judged, report: Path, *, title: str, configuration: Mapping[str, object], command: Command = no_command
) -> Exported:
    """A judged study for trackers; report: the folder of its report; the rest as for ``write_report``."""
    name = " ".join(title.split()) or "Learning-rate study"
    uses = {answer.batch_size: answer.use for answer in judged.answers if answer.is_good}
    changes = next_changes(judged.trust)
    answer = environment(finalize=markdown_text).get_template("answer.md.jinja")
    text = answer.render(
        title=name,
        headings=HEADINGS,
        answers=[each.texts for each in judged.answers],
        how_read=how_read(judged.answers, "In brackets after"),
        conditions=judged.conditions,
        sentences=[
            *filter(None, (judged.overall, judged.own)),
            *(f"Batch size {each.batch_size}: {each.words}." for each in judged.answers if each.words),
            describe_ledger(judged.ledger),
        ],
        trust=judged.trust,
        next=command(changes) if changes else "",
        remarks=judged.remarks,
    )
    headline = describe_uses(judged.recommendations, len(judged.answers)) or "Nothing to recommend"
    return Exported(name, headline, text, uses, dict(flat_options(configuration)), _runs(judged), report)


def _runs(judged: Judged) -> list[ExportedRun]:
    curves: dict[int, dict[str, tuple[list[int], list[float]]]] = {}
    for (trial, metric), curve in judged.curves.groupby(["trial", "metric"], sort=False):
        curve = curve.drop_duplicates("step", keep="last").sort_values("step")
        shown = np.unique(np.linspace(0, len(curve) - 1, MOST_POINTS).round().astype(int))
        points = curve.iloc[shown]
        name = f"{metric} (logged)" if metric in FINAL.values() else str(metric)
        curves.setdefault(trial, {})[name] = points["step"].tolist(), points["value"].tolist()
    rows = judged.runs.to_dict("records")
    places = [_place(row) for row in rows]
    twice = {place for place, n in Counter(places).items() if n > 1}
    return [
        _run(row, (*place[:2], f"{place[2]} (trial {row['trial']})") if place in twice else place, curves.get(row["trial"], {}))
        for row, place in zip(rows, places, strict=True)
    ]


def _verdict(row: Mapping[Any, Any]) -> str:
    return row["verdict"] if isinstance(row["verdict"], str) else NO_VERDICT.get(row["state"], "no verdict")


def _place(row: Mapping[Any, Any]) -> tuple[str, str, str]:
    rate = format_number(row["learning_rate"])
    return f"batch {row['batch_size']}", f"lr {rate}", f"seed {row['seed']} {_verdict(row)}"


def _run(row: Mapping[Any, Any], place: tuple[str, str, str], curves: dict[str, tuple[list[int], list[float]]]) -> ExportedRun:
    metrics = {str(name): str(name) for name in row if str(name).startswith("val_") and name not in curves}
    seconds, numbers = row["seconds"], {to: row[name] for name, to in (FINAL | metrics).items()}
    return ExportedRun(
        place=place,
        state=row["state"],
        seconds=0.0 if pd.isna(seconds) else float(seconds),
        settings={
            "learning_rate": float(row["learning_rate"]),
            "batch_size": int(row["batch_size"]),
            "seed": int(row["seed"]),
            "verdict": _verdict(row),
        },
        reason=row["reason"],
        numbers={to: number for to, number in numbers.items() if not (pd.isna(number) or to == NEVER and math.isinf(number))},
        curves=curves,
    )
