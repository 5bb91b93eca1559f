"""What a person sees of a study in a terminal: progress while it runs, the answer at the end."""

from __future__ import annotations

import time
from typing import Any

import optuna
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from reports.ranges import good_ranges
from reports.style import VERDICTS, format_number
from reports.verdicts import Thresholds, classify, classify_cells
from studies.tables import curves_table, runs_table

JUDGING_SHARE = 0.02  # at most this share of the time goes into verdicts so far
PLAIN_SECONDS = 10.0  # between two plain lines, where there is no terminal


class Progress:
    """Shows finished and planned runs, time left and verdicts so far, on stderr; plain lines when that is no terminal.

    Use as a context manager and pass it to ``run_study(on_run=...)``.
    """

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._console = Console(stderr=True)
        columns = (
            TextColumn("runs"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = Bar(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task: Any = None
        self._judge_after = 0.0
        self._verdicts = ""
        self._began = self._said = time.monotonic()
        self._start = 0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, study: optuna.Study, finished: int, planned: int) -> None:
        """Show how far the study is."""
        now = time.monotonic()
        if self._task is None:
            self._task, self._start = self._bar.add_task("", total=planned, completed=finished), finished
            if finished:
                self._console.print(f"going on: {finished} of {planned} runs were finished before")
            return
        if now >= self._judge_after or finished == planned:
            counts = classify(runs_table(study), curves_table(study), self._thresholds)["verdict"].value_counts()
            self._verdicts = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS)
            self._judge_after = time.monotonic() + (time.monotonic() - now) / JUDGING_SHARE
        self._bar.update(self._task, completed=finished, description=self._verdicts)
        if not self._console.is_terminal and (now - self._said > PLAIN_SECONDS or finished == planned):
            self._said = now
            left = (now - self._began) / max(finished - self._start, 1) * (planned - finished)
            self._console.print(f"{finished}/{planned} runs, about {left:.0f} s left; {self._verdicts}", soft_wrap=True)


def print_answer(study: optuna.Study, thresholds: Thresholds) -> None:
    """Print the table a batch size per row, on stdout: too low below, good from-to, divergent from, recommended."""
    ranges = good_ranges(classify_cells(runs_table(study), curves_table(study), thresholds))
    table = Table(title=f"Learning rates of {study.study_name!r}")
    for heading in ("batch\nsize", "too low\nbelow", "good", "divergent\nfrom", "fastest", "recommended"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in ranges.to_dict("records"):
        good = f"{format_number(row['good_low'])} to {format_number(row['good_high'])}" if row["good_low"] > 0 else "none"
        cells = [str(row["batch_size"]), format_number(row["good_low"]), good]
        cells += [format_number(row[key]) for key in ("divergent_from", "fastest", "recommended_learning_rate")]
        table.add_row(*cells)
    console = Console()
    console.print(table)
    for row in ranges.to_dict("records"):
        if row["note"]:
            console.print(f"batch size {row['batch_size']}: {row['note']}", soft_wrap=True, highlight=False)
