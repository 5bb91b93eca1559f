"""What a person sees of a study in a terminal: progress while it runs, the answer at the end."""

import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import optuna
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Column, Table
from rich.text import Text

from reports.judging.answer import HEADINGS, how_read
from reports.judging.hold_out import tell_hold_out
from reports.judging.judged import Judged
from reports.judging.ledger import describe_ledger
from reports.judging.self_check import NAME as SELF_CHECKED
from reports.judging.summary import SUMMARY, to_json
from reports.judging.trust import failures, share_passed
from reports.judging.verdicts import Thresholds, classify
from reports.style import VERDICTS, format_seconds
from studies.plan import RunsInAll
from studies.tables import runs_and_curves

JUDGING_SHARE = 0.02  # at most this share of the time goes into verdicts so far
MOST_JUDGED = 2_000  # runs of a study that shows verdicts so far: they need the curves of all in memory
PLAIN_SECONDS = 10.0  # between two plain lines, where there is no terminal


class Progress:
    """Shows finished and planned runs, time left where it is known, and verdicts so far, these not of very large studies, on
    stderr; plain lines when that is no terminal.

    Use as a context manager and pass it to ``run_study(on_run=...)``; against: as in ``classify``.
    """

    def __init__(self, thresholds: Thresholds, *, against: pd.DataFrame | None = None) -> None:
        self._thresholds, self._against = thresholds, against
        self._console = Console(stderr=True)
        text = TextColumn("{task.description}", markup=False, table_column=Column())  # in two lines where one is too short
        columns = BarColumn(12), TimeElapsedColumn(), text
        self._bar = Bar(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task: Any = None
        self._judge_after = 0.0
        self._judged: Counter[str] = Counter()
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, study: optuna.Study, finished: int, planned: RunsInAll) -> None:
        """Show how far the study is."""
        now = time.monotonic()
        if self._task is None:
            self._task = self._bar.add_task("", total=None)
            if finished:
                self._console.print(f"going on: {finished} runs were finished before")
            return
        over = _is_over(finished, planned)
        if finished <= MOST_JUDGED and (now >= self._judge_after or over):
            judged = classify(*runs_and_curves(study), self._thresholds, against=self._against)
            self._judged = Counter(judged["verdict"].dropna())
            self._judge_after = time.monotonic() + (time.monotonic() - now) / JUDGING_SHARE
        line = self.line(finished, planned)
        self._bar.update(self._task, completed=finished, total=None if planned.at else planned, description=line)
        if not self._console.is_terminal and (now - self._said > PLAIN_SECONDS or over):
            self._said = now
            self._console.print(line, soft_wrap=True)

    def line(self, finished: int, planned: RunsInAll) -> str:
        """How far the study is, and what became of all runs that finished."""
        left = planned.seconds_left if finished < planned else None
        time_left = "" if left is None else f", about {format_seconds(round(left))} left"
        runs = f"{finished} runs so far, {planned.at}" if planned.at else f"{finished}/{planned} runs{time_left}"
        if finished > MOST_JUDGED:
            return runs
        unjudged = max(finished - planned.n_failed - self._judged.total(), 0)
        rest = {
            "failed": planned.n_failed,
            "without a verdict" if _is_over(finished, planned) else "still to be judged": unjudged,
        }
        told = [(self._judged[verdict], verdict) for verdict in VERDICTS] + [(n, what) for what, n in rest.items() if n]
        return f"{runs}; {', '.join(f'{n} {what}' for n, what in told)}"


def _is_over(finished: int, planned: RunsInAll) -> bool:
    return finished == planned and not planned.at


def print_report(page: Path, before: Mapping[str, Any], judged: Judged) -> None:
    """Say where the report is, and by which thresholds the one was judged that it replaces; before: ``judged_before``."""
    now = vars(judged.thresholds)
    changed = ", ".join(f"{name} {value}, now {now[name]}" for name, value in before.items() if value != now.get(name, value))
    print(f"report: {page}{changed and f' (instead of one judged by {changed})'}")


@contextlib.contextmanager
def stdout_to_stderr(wanted: bool) -> Iterator[None]:
    """Where it is wanted, what anybody prints inside, workers too, goes to stderr: stdout is for one JSON object."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def print_json(page: Path) -> None:
    """Print what stands in ``answer.json`` beside a page, and where the page is, as ``report``."""
    print(to_json(json.loads(page.with_name(SUMMARY).read_bytes()) | {"report": str(page)}), end="")


def print_answer(name: str, judged: Judged, *, following: str = "") -> None:
    """Print the answer on stdout: a row a batch size with what to use and the three edges, then what to know about it.

    following: a command that would mend what does not speak for the study, "" for none.
    """
    if not judged.answers:
        print("no run has finished yet, so there is nothing to judge")
        return
    title = Text(f"Learning rates of {name!r}", style="table.title")
    table = Table(title=title, caption=f"{how_read(judged.answers, 'Below')} {judged.conditions}.")
    size, use, safe, *edges = HEADINGS
    for heading in (size.replace(" ", "\n"), f"{use}\n{safe}", *(edge.replace(" ", "\n") for edge in edges)):
        table.add_column(heading, justify="right", no_wrap=True)
    for answer in judged.answers:
        (size, _), (use, _), (safe, _), *places = answer.row
        found = ["\n".join(filter(None, place)) for place in places]
        style = None if answer.is_good and not answer.on_half else "yellow"
        table.add_row(size, f"{use}\n{safe}" if answer.is_good else use, *found, end_section=True, style=style)
    console = Console()
    console.print(table)
    notes = [f"batch size {answer.batch_size}: {answer.words}" for answer in judged.answers if answer.words]
    failed, passed = failures(judged.trust), share_passed(judged.trust)
    held = [f"{check.name}: {check.sentence}" for check in judged.trust if check.passed and check.name == SELF_CHECKED]
    off = tell_hold_out(judged.hold_out)
    cost, following = describe_ledger(judged.ledger), following and f"run next: {following}"
    for line in filter(
        None, (judged.overall, judged.own, *notes, *off, passed, *held, *failed, cost, following, *judged.remarks)
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
