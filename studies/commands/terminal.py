"""What a person sees of a study in a terminal: progress while it runs, the answer at the end."""

import time
from typing import Any, Self

import optuna
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from reports.judging.edges import EDGES
from reports.judging.judged import Judged
from reports.judging.ledger import describe_ledger
from reports.judging.trust import failures, share_passed
from reports.judging.verdicts import FINISHED, Thresholds, classify
from reports.style import VERDICTS, format_number, format_seconds
from studies.tables import runs_and_curves

JUDGING_SHARE = 0.02  # at most this share of the time goes into verdicts so far
MOST_JUDGED = 2_000  # runs of a study that shows verdicts so far: they need the curves of all in memory
PLAIN_SECONDS = 10.0  # between two plain lines, where there is no terminal


class Progress:
    """Shows finished and planned runs, time left and verdicts so far, these not of very large studies, on stderr; plain lines
    when that is no terminal.

    Use as a context manager and pass it to ``run_study(on_run=...)``; against: as in ``classify``.
    """

    def __init__(self, thresholds: Thresholds, *, against: pd.DataFrame | None = None) -> None:
        self._thresholds, self._against = thresholds, against
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

    def __enter__(self) -> Self:
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
                self._console.print(f"going on: {finished} runs were finished before")
            return
        if planned <= MOST_JUDGED and (now >= self._judge_after or finished == planned):
            judged = classify(*runs_and_curves(study), self._thresholds, against=self._against)
            counts = judged["verdict"].value_counts()
            self._verdicts = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS)
            if without := int((judged["verdict"].isna() & judged["state"].isin(FINISHED)).sum()):
                self._verdicts += f", {without} without a verdict"
            self._judge_after = time.monotonic() + (time.monotonic() - now) / JUDGING_SHARE
        self._bar.update(self._task, completed=finished, description=self._verdicts)
        if not self._console.is_terminal and (now - self._said > PLAIN_SECONDS or finished == planned):
            self._said = now
            left = (now - self._began) / max(finished - self._start, 1) * (planned - finished)
            line = f"{finished}/{planned} runs" + (f", about {format_seconds(round(left))} left" if finished < planned else "")
            self._console.print("; ".join(filter(None, (line, self._verdicts))), soft_wrap=True)


def print_answer(name: str, judged: Judged, *, following: str = "") -> None:
    """Print the answer on stdout: a row a batch size with what to use and the three edges, then what to know about it.

    following: a command that would mend what does not speak for the study, "" for none.
    """
    title = Text(f"Learning rates of {name!r}", style="table.title")
    table = Table(title=title, caption="below an edge: where it lies on another seed, nine times in ten")
    for heading in ("batch\nsize", "use\ngood on new seeds", *(edge.replace(" to ", "\nto ") for edge in EDGES)):
        table.add_column(heading, justify="right", no_wrap=True)
    for answer in judged.answers:
        use = f"{format_number(answer.use)}\n{answer.interval}" if answer.is_good else "none"
        found = [edge.rstrip("]").replace(" [", "\n") for edge in answer.edges_in_short]
        table.add_row(str(answer.batch_size), use, *found, end_section=True)
    console = Console()
    console.print(table)
    notes = [f"batch size {answer.batch_size}: {answer.note}" for answer in judged.answers if answer.note]
    failed = failures(judged.trust)
    cost, following = describe_ledger(judged.ledger), following and f"run next: {following}"
    for line in filter(
        None, (judged.overall, judged.own, *notes, share_passed(judged.trust), *failed, cost, following, *judged.remarks)
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
