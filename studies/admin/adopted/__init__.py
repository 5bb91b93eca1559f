"""Logs of runs that were trained elsewhere: each way of keeping them is a file here and a line in ``FORMATS``."""

from collections.abc import Callable

from studies.admin.adopted.event_files import read_event_files
from studies.admin.adopted.lightning_csv import read_lightning_csv
from studies.admin.adopted.log import Log as Log
from studies.admin.adopted.mlflow_runs import read_mlflow_runs
from studies.admin.adopted.run_tables import read_run_tables

# By what a person calls them: told files and folders, they return the logs in there, none where there are none of theirs.
FORMATS: dict[str, Callable[[list[str]], list[Log]]] = {
    "metrics.csv": read_lightning_csv,
    "tensorboard": read_event_files,
    "mlflow": read_mlflow_runs,
    "tables": read_run_tables,
}
