"""How studies go down at a learning rate: the heights of every seed of a cell on common epochs, for pictures and charts."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports.judging.judged import Judged
from reports.judging.verdicts import find_floors, split_curves

Floats = npt.NDArray[np.float64]


def curves_at(
    judged: Mapping[str, Judged], size: int, *, own: bool, as_progress: bool = False
) -> tuple[float | None, dict[str, tuple[Floats, Floats]]]:
    """The learning rate recommended in the first study, and by study the epochs and the curves of all seeds, one a row.

    own: each study at the learning rate recommended there, else all at the first's. as_progress: progress instead of heights.
    Studies that recommend none, or did not try it, are left out.
    A curve is inf once it is not finite, and missing after its end.
    """
    first = recommended(next(iter(judged.values())), size)
    found = {}
    for name, study in judged.items():
        rate = recommended(study, size) if own else first
        if rate is not None and (curves := _seeds_at(study, size, rate, as_progress=as_progress)) is not None:
            found[name] = curves
    return first, found


def recommended(study: Judged, size: int) -> float | None:
    """The learning rate to use at a batch size, if there is one."""
    found = study.recommendations.loc[study.recommendations["batch_size"] == size, "learning_rate"]
    return float(found.iloc[0]) if len(found) else None


def _seeds_at(study: Judged, size: int, rate: float, *, as_progress: bool) -> tuple[Floats, Floats] | None:
    runs = study.runs[(study.runs["batch_size"] == size) & study.runs["verdict"].notna()]
    runs = runs[np.isclose(runs["learning_rate"], rate, rtol=1e-5)]
    recorded = study.curves[study.curves["trial"].isin(runs["trial"]) & (study.curves["epoch"] > 0)]
    paths = split_curves(recorded[np.isfinite(recorded["value"])], "height")
    if not paths:
        return None
    epochs = np.unique(np.concatenate([at for at, _ in paths.values()]))
    rows, floor = [], find_floors(study.runs, study.thresholds)[size]
    for run in runs[runs["trial"].isin(list(paths))].to_dict("records"):
        at, heights = paths[run["trial"]]
        row = np.interp(epochs, at, heights, right=math.nan if pd.isna(run["nonfinite_at"]) else math.inf)
        rows.append((run["first_height"] - row) / max(run["first_height"] - floor, 1e-12) if as_progress else row)
    return epochs, np.array(rows)
