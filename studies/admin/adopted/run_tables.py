"""Tables of many runs as CSV: what the pages of Weights & Biases and MLflow download, and tables of one's own.

==================  ===========================================================================================
chart of W&B        a column of steps, then ``RUN - METRIC`` for each run, with ``__MIN``, ``__MAX`` and ``_step`` beside it
metrics of MLflow   ``run_id``, ``key``, ``value``, ``step``
rows of logs        columns that name the run, of steps, of metrics, and of hyperparameters: one value in all rows of a run
table of runs       a row a run, which names it: hyperparameters of those in the tables above
==================  ===========================================================================================
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from reports.judging.curve_file import COMPRESSIONS, key_of, read_cells
from studies.admin.adopted.lightning_csv import FILE, log_of
from studies.admin.adopted.log import Log, folders_of, number_of
from studies.errors import BadInput

RUN = ("run_id", "id", "run_uuid", "run", "run_name", "name", "trial")  # keys of columns that name a run, the best first
BETWEEN = " - "  # the name of a run and of a metric, in a chart of W&B
COMPANION = re.compile(r".*(__MIN|__MAX|_step)")
STEP = re.compile(r"(.+_)?global_steps?|_?steps?|iterations?")  # keys of columns of steps
# Keys of columns of a table of runs that say how a run went, and not what it was given.
TOLD = (
    "state status notes user tags created created_at runtime start_time duration source_type source_name source_version model"
)
TOLD += " models version hostname sweep end_time updated _runtime _timestamp _step _wandb experiment_id artifact_uri dataset"


def read_run_tables(places: list[str]) -> list[Log]:
    """A log for each run that some table has rows or columns of."""
    files = [Path(place) for place in places if Path(place).is_file()]
    files += [folder / name for folder, names in folders_of(places) for name in names if name.endswith(".csv") and name != FILE]
    rows: dict[str, list[pd.DataFrame]] = {}
    hyperparameters: dict[str, dict[str, str]] = {}
    for file in files:
        table = _read(file)
        for run, part in _runs_of(table, str(file)):
            rows.setdefault(run, []).append(part)
        hyperparameters |= _hyperparameters(table)
    return [
        log_of(run, hyperparameters.get(run, {}), pd.concat(parts).fillna("").reset_index(drop=True))
        for run, parts in rows.items()
    ]


def _read(file: Path) -> pd.DataFrame:
    try:
        cells, _ = read_cells(file.read_bytes(), COMPRESSIONS.get(file.suffix.lower()))
    except Exception as error:  # what pandas raises depends on where the file breaks
        raise BadInput(f"{str(file)!r} must be a CSV file with a line of column names: {error}") from error
    names = cells.iloc[0].str.strip().tolist()
    twice = [name for at, name in enumerate(names) if name in names[:at]]
    if twice:
        raise BadInput(f"{str(file)!r} must name each column once, it has {twice[0]!r} twice: give runs names of their own")
    return cells.iloc[1:].set_axis(names, axis=1).reset_index(drop=True)


def _runs_of(table: pd.DataFrame, file: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The runs of a table and their rows, with the columns ``step`` and those of metrics; none of a table of runs."""
    keys = {key_of(column): column for column in reversed(list(table)) if BETWEEN not in column}
    step = next((column for key, column in keys.items() if STEP.fullmatch(key)), None)
    wide = [column for column in table if BETWEEN in column and not COMPANION.fullmatch(column)]
    if wide:
        at = table.columns[0] if step is None else step
        for column in wide:
            run, _, metric = column.rpartition(BETWEEN)
            yield run, pd.DataFrame({"step": table[at], metric: table[column]})
        return
    run_column = _run_column(table)
    if run_column is None:
        raise BadInput(
            f"{file!r} must be a chart of W&B, or name the run in a column ({', '.join(RUN)}); it has {', '.join(table)}"
        )
    if table[run_column].is_unique:
        return
    for run, part in table.groupby(run_column, sort=False):
        if {"key", "value"} <= set(part):  # of MLflow
            for metric, points in part.groupby("key"):
                steps = points[step] if step else list(map(str, range(len(points))))
                yield str(run), pd.DataFrame({"step": steps, str(metric): points["value"]})
        else:
            told = [column for column in part if column in (step, keys.get("epoch")) or _varies(part[column])]
            yield str(run), part[told].rename(columns={step: "step"})


def _hyperparameters(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """By every name of a run what is one in all its rows."""
    found: dict[str, dict[str, str]] = {}
    column = _run_column(table)
    if column is None or {"key", "value"} <= set(table):
        return found
    names = [name for name in table if key_of(name) in RUN]
    for _, part in table.groupby(column, sort=False):
        ours = [name for name in part if name not in names and key_of(name) not in TOLD.split() and not _varies(part[name])]
        values = {name: number_of(part[name].iloc[0]) for name in ours if part[name].iloc[0].strip()}
        found |= {part[name].iloc[0]: values for name in names}
    return found


def _run_column(table: pd.DataFrame) -> str | None:
    keys = {key_of(column): column for column in reversed(list(table)) if BETWEEN not in column}
    return next((keys[key] for key in RUN if key in keys), None)


def _varies(cells: "pd.Series[str]") -> bool:
    return len(set(cells.str.strip()) - {""}) > 1
