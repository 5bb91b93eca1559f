"""Verdicts: tables of finished runs in, one of *too low, good, too high, divergent* per run and per cell out.

The words. *Height* is the mean loss over the fixed probe set in evaluation mode; the *floor* is the lowest final height any
learning rate reached at the same batch size (median over seeds); *progress* is ``(h(0) - h(t)) / (h(0) - floor)``; a run is at
the *bottom* where progress is at least ``1 - tau``, its *time to bottom* is the first such time in epochs, and it *stays* when
its final height is there too. A *cell* is all seeds of one (batch size, learning rate). The *fastest* is the cell that reaches
the bottom and stays with the smallest time; if none does, the one with the most final progress; none where no cell made any.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports.errors import BadInput
from reports.judging.cells import CELLS, cells_of, metrics_of
from reports.judging.decided import BY_SEARCH, CUT, Yardstick
from reports.judging.final_height import final_height
from reports.judging.followed import find_unfollowed
from reports.style import DIVERGENT, GOOD, TOO_HIGH, TOO_LOW, format_length, format_number

FINISHED = ("COMPLETE", "PRUNED")  # to the end of their budget or of their own, and until their verdict was known
# Ways to the floor, above the start: steps too small walk down and steps a little too large hover about the valley, so who
# ends as far above the start as ten valleys are deep has left it, whichever learning rate made the most progress.
FAR_ABOVE = 10.0
RECOVERED = 0.1  # of the way to the floor: less is a network that stands where it stood, by a hair below or above
BEYOND = 2.0  # times the lowest learning rate that is divergent as cut: nearer to it runs may differ by their seeds alone
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Thresholds:
    """How strict the judgement is; changing it re-reads recorded curves, nothing is trained again.

    tau: share of the way to the floor that may be missing at the bottom, above 0 and below 1.
    rho: a good run needs at most rho times the fastest cell's time to bottom, at least 1.
    target_loss: a height that counts as the floor at every batch size; None means the lowest height reached.
    """

    tau: float = 0.1
    rho: float = 3.0
    target_loss: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.tau < 1:
            raise BadInput(f"tau must be above 0 and below 1, got {self.tau}")
        if not 1 <= self.rho < math.inf:
            raise BadInput(f"rho must be at least 1 and finite, got {self.rho}")
        if self.target_loss is not None and not math.isfinite(self.target_loss):
            raise BadInput(f"target_loss must be finite, got {self.target_loss}")


def time_to_bottom(epochs: Floats, progress: Floats, *, level: float) -> float:
    """First time, in epochs, at which progress reaches ``level``; linear between two measurements; inf if never."""
    reached = np.flatnonzero(progress >= level)
    if not len(reached):
        return math.inf
    k = int(reached[0])
    if k == 0 or not math.isfinite(progress[k - 1]):
        return float(epochs[k])
    share = (level - progress[k - 1]) / (progress[k] - progress[k - 1])
    return float(epochs[k - 1] + share * (epochs[k] - epochs[k - 1]))


def split_curves(curves: pd.DataFrame, metric: str) -> dict[Any, tuple[Floats, Floats]]:
    """The curves of one metric by trial: epochs and values, each of shape (n_points,), in order of the steps."""
    rows = curves[(curves["metric"] == metric) & curves["trial"].notna()].sort_values(["trial", "step"])
    trials, first = np.unique(rows["trial"].to_numpy(), return_index=True)
    epochs, values = (np.split(rows[name].to_numpy(float), first[1:]) for name in ("epoch", "value"))
    return dict(zip(trials.tolist(), zip(epochs, values, strict=True), strict=False))  # no rows split into one empty part


def classify(
    runs: pd.DataFrame, curves: pd.DataFrame, thresholds: Thresholds | None = None, *, against: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Every run with its verdict and the reason for it.

    runs, curves: the tables of ``studies.tables`` (columns there). Returned are all rows of ``runs`` in their order with
    ``progress`` (final, 1 at the floor, -inf when non-finite), ``time_to_bottom`` (epochs, inf if never), ``verdict`` and
    ``reason`` (one sentence). Trials that did not finish keep their row, with no verdict and the reason why, and so do runs
    that stepped with another learning rate than was asked (``reports.judging.followed``), and runs that the search ended and
    whose verdict is not known by what they have become (``reports.judging.decided``): nothing else counts them.

    against: cells of another study (``classify_cells``) whose floor and fastest learning rate are the yardstick; for a few
    more runs that are to be judged by what is known already. By default the runs are their own yardstick.

    Raises ValueError when ``against`` has no cell of a batch size of ``runs``.
    """
    return classify_both(runs, curves, thresholds, against=against)[0]


def classify_cells(runs: pd.DataFrame, curves: pd.DataFrame, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Every cell (batch size, learning rate) with its verdict, sorted by both; its columns: see ``reports.judging.cells``."""
    return classify_both(runs, curves, thresholds)[1]


def classify_both(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    thresholds: Thresholds | None = None,
    *,
    against: pd.DataFrame | None = None,
    budget: str = "epochs",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What ``classify`` and ``classify_cells`` return, for the price of one.

    budget: ``epochs`` or ``steps``, by which the runs were made as long as they are; reasons tell it.
    """
    thresholds = thresholds or Thresholds()
    judged = runs.reset_index(drop=True).assign(progress=math.nan, time_to_bottom=math.nan, verdict=None, reason=None)
    finished = judged["state"].isin(FINISHED)
    judged.loc[~finished, "reason"] = [_unfinished(row) for row in judged[~finished].to_dict("records")]
    heights = split_curves(curves, "height")
    unfollowed = find_unfollowed(judged[finished], heights)
    judged.loc[list(unfollowed), "reason"] = list(unfollowed.values())
    finished &= ~judged.index.isin(list(unfollowed))
    order = [*CELLS, *metrics_of(runs)]
    cells = [pd.DataFrame(columns=order)]
    for batch_size, group in judged[finished].groupby("batch_size", sort=True):
        known = None if against is None else against[against["batch_size"] == batch_size]
        if known is not None and known.empty:
            sizes = sorted(set(against["batch_size"].tolist())) if against is not None else []
            raise ValueError(f"against must hold cells of every batch size of the runs, got {sizes} for {batch_size}")
        floor = _floor(group, thresholds) if known is None else float(known["floor"].iloc[0])
        measured = group.assign(**_measure(group, heights, floor, thresholds))
        cut = was_cut(measured)
        fastest = _fastest(cells_of(measured[~cut]) if known is None else known, thresholds)
        if cut.any():
            yardstick = _yardstick(measured, heights, floor, fastest, thresholds)
            measured, open_ = _decide(measured, heights, yardstick)
            judged.loc[open_.index, "reason"] = [_undecided(row, budget) for row in open_.to_dict("records")]
            if measured.empty:
                continue
        table = cells_of(measured).assign(floor=floor)
        table[["verdict", "reason"]] = _verdicts(
            table.rename(columns={"time_to_bottom_epochs": "time_to_bottom"}), fastest, thresholds, budget
        )
        cells.append(table[order])
        measured[["verdict", "reason"]] = _verdicts(measured, fastest, thresholds, budget)
        measured["reason"] += _ends(measured, budget)
        found = ["progress", "time_to_bottom", "verdict", "reason"]
        judged.loc[measured.index, found] = measured[found]
    joined = pd.concat(cells[1:], ignore_index=True) if len(cells) > 1 else cells[0]
    return judged.set_axis(runs.index), joined


def find_floors(runs: pd.DataFrame, thresholds: Thresholds) -> dict[int, float]:
    """The floor of each batch size; inf where every learning rate turned non-finite. runs: as ``classify`` returns them."""
    judged = runs[runs["verdict"].notna()]
    return {int(size): _floor(group, thresholds) for size, group in judged.groupby("batch_size")}


def _verdicts(rows: pd.DataFrame, fastest: dict[str, Any], thresholds: Thresholds, budget: str) -> list[tuple[str, str]]:
    return [_verdict(row, fastest, thresholds, budget) for row in rows.to_dict("records")]


def _floor(group: pd.DataFrame, thresholds: Thresholds) -> float:
    """The floor of one batch size; inf when every learning rate turned non-finite.

    Only runs of the full budget make it, and non-finite ones; all do where no finite one has the full budget, or none that
    went down, but those that the search ended.
    """
    if thresholds.target_loss is not None:
        return thresholds.target_loss
    group = group if was_cut(group).all() else group[~was_cut(group)]
    whole = group[~ended_early(group)]
    fell = whole["final_height"] < whole["first_height"]
    counted = whole if fell.any() else group
    return float(counted.groupby("learning_rate")["final_height"].median().min())


def ended_early(runs: pd.DataFrame) -> "pd.Series[bool]":
    """Which runs somebody ended before their budget."""
    return runs["ended_early"].notna() if "ended_early" in runs else pd.Series(False, index=runs.index)


def was_cut(runs: pd.DataFrame) -> "pd.Series[bool]":
    """Which runs the search ended before their budget."""
    return runs["ended_early"] == BY_SEARCH if "ended_early" in runs else pd.Series(False, index=runs.index)


def _ends(runs: pd.DataFrame, unit: str) -> list[str]:
    """What is added to the reason of each run: who ended it before its budget, if anybody did."""
    names = runs["ended_early"].where(ended_early(runs), "") if "ended_early" in runs else [""] * len(runs)
    said = zip(names, runs[unit], strict=True)
    budget = format_number(runs[unit].max())
    return [
        f"; decided after {format_number(length)} of {budget} {unit}"
        if name == BY_SEARCH
        else f"; stopped by {name} after {format_number(length)} {unit}"
        if name
        else ""
        for name, length in said
    ]


def _measure(
    group: pd.DataFrame, heights: dict[Any, tuple[Floats, Floats]], floor: float, thresholds: Thresholds
) -> dict[str, list[float]]:
    ends, times = [], []
    for trial, start, end in zip(group["trial"], group["first_height"], group["final_height"], strict=True):
        epochs, values = heights.get(trial, (np.zeros(1), np.array([start])))
        ends.append(float(_progress(np.array([end]), start, floor)[0]))
        times.append(time_to_bottom(epochs, _progress(values, start, floor), level=1 - thresholds.tau))
    return {"progress": ends, "time_to_bottom": times}


def find_yardsticks(runs: pd.DataFrame, curves: pd.DataFrame, thresholds: Thresholds | None = None) -> dict[int, Yardstick]:
    """By batch size, what tells whether the verdict of a run is known; without those where nothing is the fastest yet.

    runs, curves: as ``classify`` takes them. Only runs that the search did not end are a yardstick.
    """
    thresholds, heights, found = thresholds or Thresholds(), split_curves(curves, "height"), {}
    for size, group in runs[runs["state"].isin(FINISHED)].groupby("batch_size"):
        if (~was_cut(group)).any():
            floor = _floor(group, thresholds)
            measured = group.assign(**_measure(group, heights, floor, thresholds))
            fastest = _fastest(cells_of(measured[~was_cut(group)]), thresholds)
            found[int(size)] = _yardstick(measured, heights, floor, fastest, thresholds)
    return found


def _yardstick(
    measured: pd.DataFrame,
    heights: dict[Any, tuple[Floats, Floats]],
    floor: float,
    fastest: dict[str, Any],
    thresholds: Thresholds,
) -> Yardstick:
    """Of one batch size; measured: its finished runs with their progress."""
    rate, time = fastest["learning_rate"], fastest["time_to_bottom"] if fastest["reached"] else math.inf
    above = measured[measured["learning_rate"] > rate]
    ends = []
    for trial, start in zip(above["trial"], above["first_height"], strict=True):
        epochs, values = heights[trial]
        first = max(int(np.searchsorted(epochs, CUT * time)) + 1, 1)  # measured up to there, as a run that is cut is
        ends.append(float(_progress(np.array([final_height(epochs[:first], values[:first])]), start, floor)[0]))
    whole = above["progress"].where(~was_cut(above))
    holds = _cuts_hold(pd.DataFrame({"learning_rate": above["learning_rate"], "progress_cut": ends, "progress": whole}))
    return Yardstick(floor, float(rate), float(time), 1 - thresholds.tau, thresholds.rho, holds)


def _cuts_hold(as_cut: pd.DataFrame) -> bool:
    """Whether no run above the fastest recovers late, so that cutting them changes no verdict.

    as_cut: runs above the fastest, a row each: ``learning_rate``; ``progress_cut``, when they are judged after ``CUT`` times
    the fastest's time; ``progress`` at the end of those trained to it, NaN for others.
    """
    lost = as_cut.loc[as_cut["progress_cut"] <= 0, "learning_rate"]
    if lost.empty:
        return True
    beyond = as_cut["learning_rate"] >= BEYOND * 0.99 * lost.min()
    return not (beyond & (as_cut["progress_cut"] <= 0) & (as_cut["progress"] > RECOVERED)).any()


def _decide(
    measured: pd.DataFrame, heights: dict[Any, tuple[Floats, Floats]], yardstick: Yardstick
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs whose verdict is known, and those whose is not.

    A run below the fastest that was ended at the bottom counts by where it was then: that it stays needs no showing.
    """
    known = []
    for trial, rate, cut in zip(measured["trial"], measured["learning_rate"], was_cut(measured), strict=True):
        known.append(not cut or yardstick.decides(rate, *heights[trial]))
    decided = measured[known].copy()
    arrived = was_cut(decided) & (decided["learning_rate"] < yardstick.learning_rate) & np.isfinite(decided["time_to_bottom"])
    decided.loc[arrived, "progress"] = decided.loc[arrived, "progress"].clip(lower=yardstick.level)
    return decided, measured[~np.array(known, dtype=bool)]


def _undecided(row: dict[str, Any], budget: str) -> str:
    return f"not known: the search ended it after {_length(row, budget)}, which do not tell yet"


def _length(row: dict[str, Any], budget: str) -> str:
    return format_length(row["epochs"], row["steps"] if budget == "steps" else None)


def _progress(heights: Floats, start: float, floor: float) -> Floats:
    """Share of the way from the start to the floor, shape (n_points,); -inf where the height is not finite.

    Where the floor is no lower than the start there is no way down: 0 for heights up to the start, -inf above it.
    """
    finite = np.isfinite(heights) & math.isfinite(start)
    fallen = np.where(finite, start - np.where(finite, heights, 0.0), -math.inf)
    way = start - floor
    if math.isfinite(way) and way > 0:
        with np.errstate(over="ignore"):  # a height of 1e300 is far above, yet finite
            return np.where(finite, np.maximum(fallen / way, -np.finfo(float).max), -math.inf)
    return np.where(fallen < 0, -math.inf, 0.0)


def _fastest(cells: pd.DataFrame, thresholds: Thresholds) -> dict[str, Any]:
    """The fastest cell of one batch size; ``reached`` tells whether it got to the bottom and stayed.

    Where no cell ends below where it began nothing is the fastest, and its learning rate is inf.
    """
    if not (cells["progress"] > 0).any():
        return {"learning_rate": math.inf, "time_to_bottom": math.inf, "reached": False}
    stays = cells[(cells["progress"] >= 1 - thresholds.tau) & np.isfinite(cells["time_to_bottom_epochs"])]
    row = stays.loc[stays["time_to_bottom_epochs"].idxmin()] if len(stays) else cells.loc[cells["progress"].idxmax()]
    return {"learning_rate": row["learning_rate"], "time_to_bottom": row["time_to_bottom_epochs"], "reached": len(stays) > 0}


def _verdict(row: dict[str, Any], fastest: dict[str, Any], thresholds: Thresholds, budget: str) -> tuple[str, str]:
    """Verdict and reason of one run or one cell (which alone carries ``n_seeds``)."""
    seeds = int(row.get("n_seeds", 1))
    nonfinite = int(row.get("n_nonfinite", not pd.isna(row["nonfinite_at"])))
    above = row["learning_rate"] > fastest["learning_rate"]
    progress, time, limit = row["progress"], row["time_to_bottom"], thresholds.rho * fastest["time_to_bottom"]
    fast = f"the fastest ({format_number(fastest['learning_rate'])})"

    if nonfinite > seeds / 2 or (above and nonfinite and progress == -math.inf):
        who = f" in {nonfinite} of {seeds} seeds" if seeds > 1 else ""
        return DIVERGENT, f"turned non-finite at step {int(row['nonfinite_at'])}{who}"
    heights = f"height {row['final_height']:.4g} against {row['first_height']:.4g} at the start"
    if progress <= 0 and above:
        return DIVERGENT, f"ended no better than untrained: {heights}"
    if progress < 0 and fastest["learning_rate"] == math.inf:
        return DIVERGENT, f"ended above where it began, and no learning rate went down: {heights}"
    if -math.inf < progress < -FAR_ABOVE:
        return DIVERGENT, f"ended more than {FAR_ABOVE:g} times the way to the floor above untrained: {heights}"
    reached, stays = math.isfinite(time), progress >= 1 - thresholds.tau
    if reached and stays and fastest["reached"] and time <= limit:
        if time == fastest["time_to_bottom"] and row["learning_rate"] == fastest["learning_rate"]:
            return GOOD, f"the fastest: reached the bottom after {format_number(time)} epochs and stayed"
        ratio = f"{time / fastest['time_to_bottom']:.1f} x the time of {fast}" if fastest["time_to_bottom"] > 0 else "at once"
        return GOOD, f"reached the bottom after {format_number(time)} epochs, {ratio}, and stayed"

    # At the fastest learning rate itself only an unlucky seed fails: one that is below the start or left the bottom overshot.
    overshot = above or (row["learning_rate"] == fastest["learning_rate"] and (progress < 0 or (reached and not stays)))
    verdict = TOO_HIGH if overshot else TOO_LOW
    if reached and stays:
        allowed = f"more than {format_number(thresholds.rho)} x the {format_number(fastest['time_to_bottom'])} of {fast}"
        return verdict, f"needed {format_number(time)} epochs to the bottom, {allowed}"
    if reached:
        return verdict, f"reached the bottom after {format_number(time)} epochs but did not stay: {_share(progress)} at the end"
    if not fastest["reached"] and row["learning_rate"] == fastest["learning_rate"]:
        return (
            verdict,
            f"made the most progress, yet only {_share(progress)} in {_length(row, budget)}: train longer or widen the range",
        )
    return verdict, f"did not reach the bottom in {_length(row, budget)}: {_share(progress)} at the end"


def _share(progress: float) -> str:
    """Progress in words; rounded down so that a miss never reads as 90 %."""
    if progress == -math.inf:
        return "non-finite"
    if progress < 0:
        return "worse than untrained"
    return f"{math.floor(progress * 1000 + 1e-6) / 10:.1f} % of the way to the floor"


def _unfinished(row: dict[str, Any]) -> str:
    error = row.get("error")
    return f"did not finish: {row['state'].lower() if error is None or pd.isna(error) else error}"
