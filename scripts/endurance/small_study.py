"""What the endurance scripts share: a small study that takes a second to train, its launch, and its tables without seconds."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch is imported: results are the same to the bit, forks are safe

import optuna
import pandas as pd
import psutil
from optuna.storages import RDBStorage

from studies import curves_table, runs_table
from studies.storage import storage_url

NAME = "small"
N_RUNS = 24
OPTIONS = (  # each run alone: the same to the bit, wherever and how often it is trained
    f"--name {NAME} --model Parabola --data ParabolaData --data.n_examples 32 --data.noise 1 --fuse never --workers 1"
    " --learning-rate 0.03 10 --points 6 --batch-size 4 16 --seeds 2 --epochs 2"
).split()
LAUNCH = Path(__file__).parents[1] / "launch_study.py"
MARK = "LR_STUDY_ENDURANCE"  # environment variable of all processes of a launch: its folder
CELL = ["learning_rate", "batch_size", "seed"]
NOT_COMPARED = ["trial", "member_of", "seconds", "state", "error", "traceback"]  # what may differ, or is the same in all

Tables = tuple[pd.DataFrame, pd.DataFrame]


def storage_of(folder: Path) -> Path:
    """The SQLite file of the study in ``folder``."""
    return folder / "studies.db"


def arguments(folder: Path, *options: str) -> list[str]:
    """The command line of the study: results and report go into ``folder``; later options override ours."""
    return [*OPTIONS, "--storage", str(storage_of(folder)), "--out", str(folder), *options]


def launch(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """Launch the study, or go on with it, in a process of its own, the head of a session; what it prints is in ``log.txt``."""
    command = [sys.executable, str(LAUNCH), *arguments(folder, *options)]
    environment = os.environ | {MARK: str(folder)}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
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
    return (
        runs.set_index(CELL).sort_index(),
        curves.set_index([*CELL, "metric", "step"]).sort_index(),
    )


def equal(first: Tables, second: Tables) -> bool:
    """Whether two studies hold the same results to the bit."""
    return all(one.equals(other) for one, other in zip(first, second, strict=True))


def integrity(storage: Path | str) -> str:
    """What SQLite says of its file: "ok" when it is whole."""
    with contextlib.closing(sqlite3.connect(storage)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def processes_of(folder: Path) -> list[psutil.Process]:
    """The living processes of the launches in ``folder``: workers and what they started."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
