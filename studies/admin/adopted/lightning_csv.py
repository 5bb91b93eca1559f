"""What Lightning's CSVLogger writes: a folder a run, with ``metrics.csv`` and ``hparams.yaml``."""

from collections.abc import Mapping
from contextlib import suppress

import pandas as pd

from reports.judging.curve_file import NOT_LOGGED
from studies.admin.adopted.log import Floats, Log, curve, folders_of, read_hyperparameters
from studies.errors import BadInput

FILE = "metrics.csv"


def read_lightning_csv(places: list[str]) -> list[Log]:
    """A log for each ``metrics.csv``."""
    found = []
    for folder, files in folders_of(places):
        if FILE not in files:
            continue
        try:
            table = pd.read_csv(folder / FILE, dtype=str, keep_default_na=False)
        except pd.errors.EmptyDataError:  # of a run that ended before it logged anything
            table = pd.DataFrame()
        except (ValueError, pd.errors.ParserError) as error:
            raise BadInput(f"{str(folder / FILE)!r} must be a table that CSVLogger wrote: {error}") from error
        found.append(log_of(str(folder), read_hyperparameters(folder), table))
    return found


def log_of(name: str, hyperparameters: Mapping[str, str], table: pd.DataFrame) -> Log:
    """The log of one run from a table of text, a row a logged step; columns that hold anything but numbers are left out."""
    points = {}
    for column in table:
        cells = table[column].str.strip()
        with suppress(ValueError):
            points[str(column)] = cells[~cells.str.casefold().isin(NOT_LOGGED)].astype(float)
    names = {column.casefold(): column for column in points}
    steps = points.pop(names.get("step", ""), None)
    epochs = points.pop(names.get("epoch", ""), None)
    if steps is None:  # each row counts as one
        steps = pd.Series(range(len(table)), index=table.index, dtype=float)

    def of_steps(values: "pd.Series[float]") -> tuple[Floats, Floats]:
        at = values.index.intersection(steps.index)
        return curve(steps[at], values[at])

    metrics = {column: of_steps(values) for column, values in points.items() if len(values)}
    return Log(name, hyperparameters, metrics, curve([], []) if epochs is None else of_steps(epochs))
