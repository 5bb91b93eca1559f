"""A study for MLflow: a parent run with the answer and the report, and a child each with its verdict, numbers and curves."""

import logging
import math
import os
import posixpath
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote  # which MLflow takes back

if TYPE_CHECKING:
    from reports.exports.exported import Exported, ExportedRun

FOLDER = "mlruns"
DATABASE, ARTIFACTS = "mlflow.db", "artifacts"  # in it; MLflow keeps no runs in files alone any more
OURS = "learning_rate_study"  # a tag of each run that we write, which names the study
MOST = 1_000  # metrics that MLflow takes at once
MOST_OPTIONS = 100  # parameters,
LONGEST = 8_000  # characters of a tag
STATUS = {"FAIL": "FAILED", "RUNNING": "RUNNING"}  # of a run; others are finished
THEIRS = f"SELECT COUNT(*) FROM runs WHERE run_uuid NOT IN (SELECT run_uuid FROM tags WHERE key = '{OURS}')"


def look(place: Path) -> tuple[list[str], str]:
    """The command that shows it, and the page of the runs: MLflow begins with one for language models."""
    page = "http://localhost:5000/#/experiments/1/runs?workflowType=machine_learning"
    return ["mlflow", "ui", "--backend-store-uri", f"sqlite:///{quote(str(place / DATABASE))}"], page


def strangers(place: Path) -> str:
    """What is there beside our database and artifacts, or runs in it that are not ours; "" where nothing is."""
    database = place / DATABASE
    names = (DATABASE, ARTIFACTS, *(f"{DATABASE}-{end}" for end in ("journal", "wal", "shm")))
    if others := sorted(path.name for path in place.iterdir() if path.name not in names):
        return repr(others[0])
    if not database.exists():
        return ""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as opened:
            (theirs,) = opened.execute(THEIRS).fetchone()
    except sqlite3.Error:
        return f"{DATABASE!r}, which is not MLflow's"
    return f"{theirs} runs in {DATABASE!r} that are of somebody else" if theirs else ""


def write(study: "Exported", place: Path) -> None:
    """Write a database of MLflow and the artifacts in place of those of an earlier export; a server may have them open."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would tell its makers of each run
    from mlflow.tracking import MlflowClient
    from sqlalchemy.event import listen

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it tells of each table
    artifacts = place / ARTIFACTS
    artifacts.mkdir(parents=True, exist_ok=True)
    earlier = list(artifacts.iterdir())
    with TemporaryDirectory(prefix="mlflow-") as folder:
        client = MlflowClient(f"sqlite:///{folder}/{DATABASE}")
        engine = client._tracking_client.store.engine
        listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))  # it is copied when whole
        engine.dispose()  # what is connected from here on has heard that
        _write_runs(client, study, artifacts.absolute().as_uri())
        engine.dispose()
        sys.audit("lr_study.write", DATABASE)
        with closing(sqlite3.connect(Path(folder) / DATABASE)) as new, closing(sqlite3.connect(place / DATABASE)) as old:
            new.backup(old)  # in one step, also for a server that has it open
    for each in earlier:
        shutil.rmtree(each, ignore_errors=True)


def _write_runs(client: Any, study: "Exported", artifacts: str) -> None:
    rest = "\n\n... The rest is in the artifact report.md."
    answer = study.answer if len(study.answer) <= LONGEST else study.answer[: LONGEST - len(rest)] + rest
    note = {"mlflow.note.content": answer}
    experiment = client.create_experiment(f"Learning rates of {study.title}"[:500], artifacts, tags=note)
    now = round(1000 * time.time())
    parent = client.create_run(
        experiment, now, tags=note | {OURS: study.title}, run_name=f"{study.title}: {study.headline}"
    ).info.run_id
    uses = {f"use at batch size {size}": rate for size, rate in study.uses.items()}
    _log(
        client, parent, [(name, rate, now, 0) for name, rate in uses.items()], dict(list(study.options.items())[:MOST_OPTIONS])
    )
    for path in sorted([*study.report.glob("report.*"), *study.report.glob("*.csv"), *study.report.glob("figures/*.png")]):
        if path.name != "curves.csv":  # which the runs hold
            client.log_artifact(parent, path, "figures" if path.parent != study.report else None)
    for run in study.runs:
        begin = now - round(1000 * run.seconds)
        tags = {"mlflow.parentRunId": parent, OURS: study.title, "verdict": run.settings["verdict"], "reason": run.reason}
        child = client.create_run(experiment, begin, tags=tags, run_name=", ".join(run.place)).info.run_id
        _log(client, child, _metrics(run, begin, now), {name: run.settings[name] for name in run.settings if name != "verdict"})
        if run.state != "RUNNING":
            client.set_terminated(child, STATUS.get(run.state, "FINISHED"), now)
    client.set_terminated(parent, end_time=now)


def _metrics(run: "ExportedRun", begin: int, end: int) -> list[tuple[str, float, int, int]]:
    """Name, value, time and step of each number; what is not finite is NaN, as MLflow draws infinity as 1.8e308."""
    last = max((steps[-1] for steps, _ in run.curves.values()), default=0)
    curves = run.curves | {name: ([last], [number]) for name, number in run.numbers.items()}
    return [
        (name, value if math.isfinite(value) else math.nan, begin + round((end - begin) * step / max(last, 1)), step)
        for name, (steps, values) in curves.items()
        for step, value in zip(steps, values, strict=True)
    ]


def _log(client: Any, run: str, metrics: list[tuple[str, float, int, int]], parameters: Mapping[str, Any]) -> None:
    from mlflow.entities import Metric, Param

    names = _plain({name for name, *_ in metrics} | set(parameters))
    values = [Metric(names[name], value, time, step) for name, value, time, step in metrics]
    client.log_batch(run, params=[Param(names[name], str(value)) for name, value in parameters.items()])
    for at in range(0, len(values), MOST):
        client.log_batch(run, values[at : at + MOST])


def _plain(names: set[str]) -> dict[str, str]:
    """What MLflow takes as a name, by the name it stands for; no two become the same."""
    found: dict[str, str] = {}
    for name in sorted(names):
        plain = re.sub(r"[^\w .:/-]", "_", name)[:200]
        if posixpath.normpath(plain) != plain or plain.startswith((".", "/")):  # it would be a path that leads elsewhere
            plain = re.sub(r"\W", "_", plain) or "unnamed"
        while plain in found.values():
            plain += "_"
        found[name] = plain
    return found
