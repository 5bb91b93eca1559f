"""What the batch size does: how bumpy the hill looks to each step, how long an epoch takes, and how long the way down."""

import math
from typing import Any

import numpy as np
import pandas as pd

BATCH_SIZES = "batch_size learning_rate bumpiness expected_bumpiness steps_per_epoch runs_together seconds_per_epoch".split()
BATCH_SIZES += "time_to_bottom_epochs time_to_bottom_steps time_to_bottom_seconds".split()
FEWEST = 5  # points that a spread is worth telling of
TO_DEVIATION = 1.4826  # a normal distribution's standard deviation over its median distance from the median


def batch_sizes(runs: pd.DataFrame, cells: pd.DataFrame, curves: pd.DataFrame, recommendations: pd.DataFrame) -> pd.DataFrame:
    """One row a batch size, by the runs at one learning rate; from ``classify``, ``classify_cells`` and ``recommend``.

    Columns: ``batch_size``; ``learning_rate``, the recommended one, or the one with the most progress where none is;
    ``bumpiness``, in units of the loss, missing where fewer than five points were recorded; ``expected_bumpiness``, that of
    the smallest batch size falling as 1/sqrt(batch_size), as the mean of that many independent examples would;
    ``steps_per_epoch``; ``runs_together``, how many were trained in one fit, 1 for alone; ``seconds_per_epoch``, of runs
    trained together their share of the fit, so that only sizes with as many together can be compared by the clock;
    ``time_to_bottom_epochs``, ``_steps`` and ``_seconds`` (inf for never). All are medians over the seeds.

    Bumpiness is how far the minibatch loss strays from the height at the same step: the median distance of their
    differences from the median difference, times 1.4826, which is the standard deviation where they are normal. A few
    spikes do not count, nor does a constant distance, such as evaluation mode often makes; what changes from step to step does,
    the random numbers of dropout and augmentation included. It is read over the whole run, from the same steps as the height.
    """
    if cells.empty:
        return pd.DataFrame(columns=BATCH_SIZES)
    most = cells.sort_values("progress", ascending=False, kind="stable").drop_duplicates("batch_size")
    use = most.set_index("batch_size")["learning_rate"].astype(float).sort_index()
    use.update(recommendations.set_index("batch_size")["learning_rate"].astype(float))
    at = ["batch_size", "learning_rate"]
    together = runs.assign(runs_together=runs.groupby("member_of")["trial"].transform("size"))
    seeds = use.reset_index().merge(together[runs["verdict"].notna()], on=at)
    epochs = seeds["epochs"].astype(float)
    per_seed = seeds[at].assign(
        bumpiness=seeds["trial"].map(measure_bumpiness(minibatch_points(curves, seeds["trial"]))).astype(float),
        steps_per_epoch=seeds["steps"].astype(float) / epochs,
        runs_together=seeds["runs_together"].astype(float),
        seconds_per_epoch=seeds["seconds"].astype(float) / epochs,
    )
    table = per_seed.groupby(at, as_index=False).median().merge(cells, on=at)
    known = table.dropna(subset=["bumpiness"])[["bumpiness", "batch_size"]].to_numpy(float)
    bumps, size = known[0] if len(known) else (math.nan, 1.0)
    return table.assign(expected_bumpiness=bumps * np.sqrt(size / table["batch_size"].astype(float)))[BATCH_SIZES]


def tell_unlike(table: pd.DataFrame) -> str:
    """How the runs of each batch size were trained, where that makes their seconds unlike; "" where they can be compared.

    table: as ``batch_sizes`` returns it. Shares of a fit are alike where as many runs, up to a factor 2, were trained in it.
    """
    together = table.set_index("batch_size")["runs_together"].astype(float)
    if table.empty or together.max() <= 2 * together.min():
        return ""
    return ", ".join(f"{f'{n:g} together' if n > 1 else 'alone'} at batch size {size}" for size, n in together.items())


def minibatch_points(curves: pd.DataFrame, trials: "pd.Series[Any]") -> pd.DataFrame:
    """Height and minibatch loss of these trials where both are known and finite.

    Columns: ``trial``, ``step``, ``epoch``, ``height``, ``minibatch_loss``, in order of trial and step.
    """
    rows = curves[curves["trial"].isin(trials) & np.isfinite(curves["value"].astype(float))]
    at = ["trial", "step"]
    heights = rows[rows["metric"] == "height"].rename(columns={"value": "height"})
    losses = rows[rows["metric"] == "minibatch_loss"].rename(columns={"value": "minibatch_loss"})
    both = heights[[*at, "epoch", "height"]].merge(losses[[*at, "minibatch_loss"]], on=at)
    return both.sort_values(at, ignore_index=True)


def measure_bumpiness(points: pd.DataFrame) -> "pd.Series[float]":
    """Bumpiness of each trial, from its ``minibatch_points``; trials with fewer than five of them are left out."""
    return pd.Series(
        {
            trial: TO_DEVIATION * float((off - off.median()).abs().median())
            for trial, off in (points["minibatch_loss"] - points["height"]).groupby(points["trial"])
            if len(off) >= FEWEST
        },
        dtype=float,
    )
