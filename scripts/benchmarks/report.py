"""What judging and reporting a study of many runs takes, from its storage to the finished folder."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.own_process import alone, peak_memory
from benchmarks.synthetic import store_synthetic
from studies.config import count
from studies.storage.writable import require_writable

COLUMNS = "runs | tables (s) | judging (s) | report (s) | all (s) | peak (MB) | page (MB) | as made"


def measure_reports(options: dict[str, Any]) -> None:
    """Store and report a study of each size, each in a process of its own, and print a Markdown table."""
    sizes = [count("trials", n) for n in options["trials"]]
    with kept_in(options["folder"]) as folder:
        print(f"| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}", flush=True)
        for n in sizes:
            alone(store_synthetic, n, folder)
            print(alone(time_report, n, folder), flush=True)


@contextlib.contextmanager
def kept_in(folder: str | None) -> Iterator[Path]:
    """Where studies and reports go: a folder, or for None one that is removed. Raises ValueError when it cannot be written."""
    if folder is None:
        with tempfile.TemporaryDirectory() as nowhere:
            yield Path(nowhere)
    else:
        require_writable(Path(folder), "folder")
        yield Path(folder)


def time_report(n: int, folder: Path) -> str:
    """A row of the table: the report of the study of ``n`` runs in ``folder`` by this process, by its parts."""
    from reports import judge
    from studies import load_study, report_study
    from studies.tables import runs_and_curves

    began = time.perf_counter()
    study = load_study(str(folder / f"{n}.db"), str(n))
    runs, curves = runs_and_curves(study)
    read = time.perf_counter()
    judged = judge(runs, curves)
    ready = time.perf_counter()
    page = report_study(study, folder / str(n), judged)
    written = time.perf_counter()
    made = [trial.system_attrs["made"] for trial in study.get_trials(deepcopy=False)]
    seconds = (read - began, ready - read, written - ready, written - began)
    numbers = [f"{value:.1f}" for value in seconds] + [f"{peak_memory():.0f}", f"{page.stat().st_size / 1e6:.1f}"]
    return f"| {n:,} | {' | '.join(numbers)} | {100 * (judged.runs['verdict'] == made).mean():.1f} % |"
