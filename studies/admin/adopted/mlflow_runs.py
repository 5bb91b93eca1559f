"""The folder ``mlruns`` that MLflow keeps, a folder a run: ``params/NAME`` holds a value, ``metrics/NAME`` a line a point."""

import math
from pathlib import Path

from studies.admin.adopted.log import Log, curve, folders_of, number_of
from studies.errors import BadInput


def read_mlflow_runs(places: list[str]) -> list[Log]:
    """A log for each run."""
    found = []
    for folder, files in folders_of(places):
        if "meta.yaml" in files and (folder / "params").is_dir():
            params = _files(folder / "params")
            hyperparameters = {name: number_of(path.read_text(errors="replace")) for name, path in params.items()}
            points = {name: _points(path) for name, path in _files(folder / "metrics").items()}
            times = [time for lines in points.values() for time, _, _ in lines]
            metrics = {name: curve([s for *_, s in lines], [v for _, v, _ in lines]) for name, lines in points.items()}
            epochs = metrics.pop("epoch", curve([], []))
            seconds = (max(times) - min(times)) / 1000 if times else math.nan
            found.append(Log(str(folder), hyperparameters, metrics, epochs, seconds))
    return found


def _files(folder: Path) -> dict[str, Path]:
    """By name, which may hold slashes: those are folders."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _points(path: Path) -> list[tuple[float, float, float]]:
    """Timestamps in milliseconds, values and steps."""
    lines = [line.split() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    try:
        return [(float(time), float(value), float(rest[0]) if rest else at) for at, (time, value, *rest) in enumerate(lines)]
    except ValueError as error:
        raise BadInput(f"{str(path)!r} must hold lines of timestamp, value and step, as MLflow writes them: {error}") from error
