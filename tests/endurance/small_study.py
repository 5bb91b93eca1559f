"""What the endurance scripts share: a small study that takes a second to train, its launch, and its tables without seconds."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from multiprocessing.context import ForkProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch is imported: results are the same to the bit, forks are safe

import optuna
import pandas as pd
import psutil
from optuna.storages import RDBStorage

from studies import curves_table, runs_table
from studies.commands.command_line import run
from studies.commands.launch import main
from studies.storage.database_url import storage_url

NAME = "small"
N_RUNS = 24
OPTIONS = (  # each run alone: the same to the bit, wherever and how often it is trained
    f"--name {NAME} --model Parabola --data ParabolaData --data.n_examples 32 --data.noise 1 --fuse never --workers 1"
    " --learning-rate 0.03 10 --points 6 --batch-size 4 16 --seeds 2 --epochs 2"
).split()
LAUNCH = Path(__file__).parents[2] / "scripts" / "launch_study.py"
MARK = "LR_STUDY_ENDURANCE"  # environment variable of all processes of a launch: its folder
CELL = ["learning_rate", "batch_size", "seed"]
NOT_COMPARED = ["trial", "member_of", "seconds", "state", "error", "traceback"]  # what may differ, or is the same in all

PROMISES = (  # what is counted at the end of a study that was broken
    "cells trained twice",
    "trials left running",
    "databases damaged",
    "temporary files left",
    "final tables that differ",
)

Tables = tuple[pd.DataFrame, pd.DataFrame]
Stored = dict[int, set[tuple[Any, ...]]]


def storage_of(folder: Path) -> Path:
    """The SQLite file of the study in ``folder``."""
    return folder / "studies.db"


def report_of(folder: Path) -> Path:
    """Where the report of the study in ``folder`` is written."""
    return folder / NAME


def arguments(folder: Path, *options: str) -> list[str]:
    """The command line of the study: results and report go into ``folder``; later options override ours."""
    return [*OPTIONS, "--storage", str(storage_of(folder)), "--out", str(folder), *options]


def launch(folder: Path, *options: str, **environment: str) -> subprocess.Popen[bytes]:
    """Launch the study, or go on with it, in a process of its own, the head of a session; what it prints is in ``log.txt``."""
    command = [sys.executable, str(LAUNCH), *arguments(folder, *options)]
    everything = os.environ | environment | {MARK: str(folder)}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            command, cwd=folder, env=everything, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )


def tables(storage: Path | str, name: str = NAME) -> Tables:
    """``runs`` and ``curves`` of the complete trials, without seconds and trial numbers, by cell, sorted.

    A cell that was trained to its end twice has two rows of runs.
    """
    opened = RDBStorage(storage_url(str(storage)))
    study = optuna.load_study(study_name=name, storage=opened)
    runs, curves = runs_table(study), curves_table(study)
    opened.remove_session()
    opened.engine.dispose()  # an open SQLite file must not be taken along into a fork
    runs = runs[runs["state"] == "COMPLETE"]
    curves = curves.merge(runs[["trial", *CELL]], on="trial").drop(columns="trial")
    runs = runs.drop(columns=NOT_COMPARED)
    return (runs.set_index(CELL).sort_index(), curves.set_index([*CELL, "metric", "step"]).sort_index())


def equal(first: Tables, second: Tables) -> bool:
    """Whether two studies hold the same results to the bit."""
    return all(one.equals(other) for one, other in zip(first, second, strict=True))


def integrity(storage: Path) -> str:
    """What SQLite says of its file: "ok" when it is whole."""
    with contextlib.closing(sqlite3.connect(storage)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


@contextlib.contextmanager
def whole_copy(storage: Path) -> Iterator[Path]:
    """A copy of the file and its write-ahead log, to look at: opening the original would tidy up before a launch does."""
    with TemporaryDirectory() as folder:
        for path in (storage, storage.with_name(f"{storage.name}-wal")):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(path, folder)
        yield Path(folder) / storage.name


def stored(storage: Path) -> Stored:
    """By trial id all that is stored of the complete trials; empty before there are any."""
    rows: Stored = {}
    for found in _select(
        storage,
        "SELECT trial_id, number, objective, value, value_type FROM trials JOIN trial_values USING (trial_id) {}",
        "SELECT trial_id, param_name, param_value, distribution_json FROM trials JOIN trial_params USING (trial_id) {}",
        "SELECT trial_id, key, value_json FROM trials JOIN trial_user_attributes USING (trial_id) {}",
    ):
        rows.setdefault(found[0], set()).add(found[1:])
    return rows


def lost(known: Stored, now: Stored) -> int:
    """How many complete trials that were known are gone, or not what they were."""
    return sum(now.get(trial) != facts for trial, facts in known.items())


def _select(storage: Path, *queries: str) -> list[tuple[Any, ...]]:
    """The rows of the queries at one moment, none before there are tables; ``{}`` stands for: of complete trials."""
    try:
        with contextlib.closing(sqlite3.connect(f"{storage.as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("BEGIN")
            return [row for query in queries for row in connection.execute(query.format("WHERE state = 'COMPLETE'"))]
    except sqlite3.OperationalError as error:
        if "unable to open" in str(error) or "no such table" in str(error):
            return []
        raise


def broken_promises(folder: Path, expected: Tables) -> Counter[str]:
    """By their names in ``PROMISES`` how often a study that came to its end breaks them.

    expected: the tables of an unbroken one.
    """
    runs, _ = ended = tables(storage_of(folder))
    running = _select(storage_of(folder), "SELECT trial_id FROM trials WHERE state IN ('RUNNING', 'WAITING')")
    twice, damaged = runs.index.duplicated().sum(), integrity(storage_of(folder)) != "ok"
    beside = list(report_of(folder).rglob(".*"))
    counts = (int(twice), len(running), int(damaged), len(beside), int(not equal(ended, expected)))
    return Counter(dict(zip(PROMISES, counts, strict=True)))


def processes_of(folder: Path) -> list[psutil.Process]:
    """The living processes that launches in ``folder`` started; a launch that was forked is none."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def workers_of(folder: Path) -> list[psutil.Process]:
    """Those of them that train; the tracker that loky keeps does not."""
    found = []
    for process in processes_of(folder):
        with contextlib.suppress(psutil.Error):
            if "popen_loky" in " ".join(process.cmdline()):
                found.append(process)
    return found


def survivors(folder: Path, seconds: float = 10) -> list[psutil.Process]:
    """The processes that are still there after ``seconds``; returns as soon as there are none."""
    deadline = time.monotonic() + seconds
    while (found := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def fork_launch(folder: Path, *options: str, before: Callable[[], object] | None = None) -> ForkProcess:
    """The same in a fork of this process, which imports PyTorch and the rest only once; not for a process with threads.

    before: called in the fork first.
    """
    import_module("lightning_modules.data")  # what a launch imports late, so that a fork need not
    import_module("studies.dashboard.cards_and_notes")
    import_module("studies.search")

    def work() -> None:
        os.setsid()
        os.environ[MARK] = str(folder)
        os.chdir(folder)
        with (folder / "log.txt").open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        if before:
            before()
        sys.exit(run(lambda: main(arguments(folder, *options)), "launch_study"))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def unbroken(folder: Path, *options: str, before: Callable[[], object] | None = None) -> float:
    """Launch the study in a new ``folder`` in a fork and let it finish; the seconds it took."""
    folder.mkdir()
    process = fork_launch(folder, *options, before=before)
    began = time.monotonic()
    process.join()
    if process.exitcode != 0:
        log = (folder / "log.txt").read_text()
        raise RuntimeError(f"an unbroken launch must end with code 0, got {process.exitcode}:\n{log}")
    return time.monotonic() - began
