"""What a run did beside its verdict: catapult, oscillation, death, slowness, overfitting, validation gone wrong."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports.judging.verdicts import Thresholds, find_floors, split_curves, was_cut
from reports.style import DIVERGENT, TOO_HIGH, format_number, name_metric

Floats = npt.NDArray[np.float64]
Curve = tuple[Floats, Floats]  # epochs, values; ascending in time
Found = tuple[float, str]  # the number and the sentence that holds it

SWING = 0.5  # in tau: a typical step up or down of half of what may be missing at the bottom is more than a ripple
REVERSALS = 1 / 3  # of the neighbouring changes; a straight way down has none, white noise two thirds
GAIN = 0.2  # in tau, over the last third: less is not told from standing still
STILL = 0.5  # in tau: a run whose second half stays within this band stands still
LAG = 0.5  # of the way down: twice what separates training from evaluation mode where nothing is wrong
RISE = 0.2  # in tau, of the way down or of a metric's span in the study: a smaller change is not spoken of
JUDGEMENT_COLUMNS = ("trial", "batch_size", "learning_rate", "seed", "judgement", "number", "sentence")


class Direction(NamedTuple):
    """Which way a metric improves, 1 for up and -1 for down, and how far apart its values lie in the study."""

    sign: int
    span: float


@dataclass(frozen=True)
class FiniteRun:
    """One finite run as the judgements see it.

    heights: (epochs, heights); progress: at the same times, 0 at the start and 1 at the floor; way: start minus floor,
    above 0; end: final progress; minibatches: (epochs, losses) in training mode, empty where none were kept; validation:
    metric to (epochs, values); directions: by metric; steps_per_epoch; loss_as_at_start: height of the final weights by the
    loss of the start, NaN where the loss did not change; tau as in ``Thresholds``.
    """

    heights: Curve
    minibatches: Curve
    progress: Floats
    way: float
    end: float
    verdict: str
    validation: Mapping[str, Curve]
    directions: Mapping[str, Direction]
    steps_per_epoch: float
    loss_as_at_start: float
    tau: float

    @property
    def second_half(self) -> Floats:
        """Progress in the second half of the run."""
        half: Floats = self.progress[self.heights[0] >= 0.5 * self.heights[0][-1]]
        return half


def judge_curves(runs: pd.DataFrame, curves: pd.DataFrame, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """A row for every judgement that holds of a run; runs as ``classify`` returns them, curves as recorded.

    Columns: ``trial``, ``batch_size``, ``learning_rate``, ``seed``, ``judgement`` (a name in ``JUDGEMENTS``), ``number``
    (its unit is in the sentence), ``sentence``. Runs that turned non-finite, that the search ended, or that have no way down to
    the floor have none: their verdict's reason says it all.
    """
    thresholds = thresholds or Thresholds()
    floors = find_floors(runs, thresholds)
    directions = metric_directions(runs)
    metrics = ["val_loss", *(str(name) for name in runs if str(name).startswith("val_") and name != "val_loss")]
    paths = {name: split_curves(curves, name) for name in ("height", "minibatch_loss", *metrics)}
    rows = []
    for row in runs[runs["verdict"].notna() & ~was_cut(runs)].to_dict("records"):
        way = row["first_height"] - floors[row["batch_size"]]
        heights = paths["height"].get(row["trial"])
        if heights is None or not (0 < way < math.inf) or not np.isfinite(heights[1]).all():
            continue
        validation = {name: paths[name][row["trial"]] for name in metrics if row["trial"] in paths[name]}
        progress = (row["first_height"] - heights[1]) / way
        minibatches = paths["minibatch_loss"].get(row["trial"], (np.empty(0), np.empty(0)))
        run = FiniteRun(
            heights=heights,
            minibatches=minibatches,
            progress=progress,
            way=way,
            end=row["progress"],
            verdict=row["verdict"],
            validation=validation,
            directions=directions,
            steps_per_epoch=row["steps"] / row["epochs"],
            loss_as_at_start=float(row.get("loss_as_at_start", math.nan)),
            tau=thresholds.tau,
        )
        for name, look in LOOKS.items():
            if found := look(run):
                same = {key: row[key] for key in JUDGEMENT_COLUMNS[:4]}
                rows.append(same | {"judgement": name, "number": found[0], "sentence": found[1]})
    return pd.DataFrame(rows, columns=list(JUDGEMENT_COLUMNS))


def _catapult(run: FiniteRun) -> Found | None:
    """Rose above the start, then recovered (Lewkowycz et al. 2020)."""
    top = int(np.argmin(run.progress))
    rise = -float(run.progress[top])
    epochs = run.heights[0]
    if rise < run.tau or run.end < run.tau or epochs[top] > 0.9 * epochs[-1]:
        return None
    rose = f"rose {_percent(rise)} of the way above its start at epoch {format_number(epochs[top])}"
    return rise, f"{rose}, then recovered and ended {_percent(run.end)} of the way down"


def _oscillating(run: FiniteRun) -> Found | None:
    changes = np.diff(run.second_half)
    if len(changes) < 3:
        return None
    swing, reversals = float(np.median(np.abs(changes))), float(np.mean(changes[1:] * changes[:-1] < 0))
    if swing < SWING * run.tau or reversals < REVERSALS:
        return None
    return swing, f"goes up and down by {_percent(swing)} of the way between measurements in its second half"


def _died(run: FiniteRun) -> Found | None:
    stands = len(run.second_half) > 2 and np.ptp(run.second_half) <= STILL * run.tau
    if run.verdict not in (TOO_HIGH, DIVERGENT) or not stands or run.end >= 0.5:
        return None
    last = float(run.heights[1][-1])
    away = np.flatnonzero(np.abs(run.progress - run.progress[-1]) > STILL * run.tau)
    since = format_number(run.heights[0][min(int(away[-1]) + 1 if len(away) else 0, len(run.progress) - 1)])
    start = format_number(float(run.heights[1][0]))
    return last, f"stands still at height {format_number(last)} since epoch {since} (untrained: {start}): it learns no more"


def _still_improving(run: FiniteRun) -> Found | None:
    epochs, last = run.heights[0], run.heights[0][-1]
    if run.verdict == DIVERGENT or run.end >= 1 - run.tau:
        return None
    around = np.abs(epochs - last * 2 / 3) <= last / 20  # as wide as the last tenth, that the end is measured on
    if not around.any():
        return None
    gain = run.end - float(np.median(run.progress[around]))
    if gain < GAIN * run.tau or (found := _oscillating(run)) and gain < found[0]:
        return None
    pace = gain / (last * (0.95 - 2 / 3))
    more = (1 - run.tau - run.end) / pace
    sentence = (
        f"still improves by {_percent(pace)} of the way an epoch; at that pace the bottom is {format_number(more)} epochs"
    )
    return more, f"{sentence} further on, so the budget is too short to tell slow from stuck"


def _evaluation_lags(run: FiniteRun) -> Found | None:
    """In training mode the loss came down, and the height stayed far above it, in the last third of the run."""
    in_training, height = (values[epochs >= run.heights[0][-1] * 2 / 3] for epochs, values in (run.minibatches, run.heights))
    if len(in_training) < 3 or not np.isfinite(in_training).all():
        return None
    low, high = float(np.median(in_training)), float(np.median(height))
    if (high - low) / run.way < LAG or low >= run.heights[1][0]:
        return None
    ends = f"its batches end at a loss of {format_number(low)} in training mode, its height at {format_number(high)}"
    return (
        high - low,
        f"{ends} in evaluation mode: the averages batch norm keeps lag behind; the verdict may change in a longer run",
    )


def _changing_loss(run: FiniteRun) -> Found | None:
    """The final weights have another height by the loss of the start than by that of the end (a missing one is not apart)."""
    before, after = run.loss_as_at_start, float(run.heights[1][-1])
    if not abs(after - before) > RISE * run.tau * run.way:
        return None
    both = f"height {format_number(before)} by the loss of the start and {format_number(after)} by that of the end"
    sentence = (
        f"its loss changed during the run: the final weights have {both}, so heights of different times cannot be compared"
    )
    return after - before, sentence


def _validation_not_finite(run: FiniteRun) -> Found | None:
    """Of the metrics that were not finite the one that was so first, the loss before others."""
    bad = {name: epochs[~np.isfinite(values)] for name, (epochs, values) in run.validation.items()}
    name = min((name for name in bad if len(bad[name])), key=lambda name: bad[name][0], default=None)
    if name is None:
        return None
    first, count = bad[name][0], f"{len(bad[name])} of {len(run.validation[name][0])} validations"
    step = round(first * run.steps_per_epoch)
    return step, f"{name_metric(name)} was not finite in {count}, first at step {step} (epoch {format_number(first)})"


def _overfit(run: FiniteRun) -> Found | None:
    """Validation loss rose from its lowest, and its gap to the training height grew since."""
    if not (lowest := _validation_rose(run)):
        return None
    epochs, values = run.validation["val_loss"]
    gaps = values - np.interp(epochs, *run.heights)
    growth = float(gaps[-1] - gaps[lowest.at])
    if growth < RISE * run.tau * run.way:
        return None
    text = f"validation loss is {format_number(gaps[-1])} above the training height; that gap grew by {format_number(growth)}"
    return float(gaps[-1]), f"{text} since epoch {format_number(lowest.epoch)}, where validation loss was lowest"


def _disagreement(run: FiniteRun) -> Found | None:
    """Validation loss got worse from its lowest to the end while another metric got better."""
    if not (lowest := _validation_rose(run)):
        return None
    for name, direction in run.directions.items():
        values = run.validation[name][1] if name in run.validation else np.empty(0)
        if len(values) != len(run.validation["val_loss"][1]) or not np.isfinite(values).all():
            continue
        before, after = values[[lowest.at, -1]]
        if direction.sign * (after - before) >= RISE * run.tau * direction.span:
            since = f"since epoch {format_number(lowest.epoch)} validation loss got worse by {format_number(lowest.rise)}"
            improved = f"improved from {format_number(before)} to {format_number(after)}"
            return lowest.rise, f"{since} while {name_metric(name)} {improved}"
    return None


class Lowest(NamedTuple):
    """Where the validation loss was lowest: which validation, at which epoch, and how much it rose from there to the end."""

    at: int
    epoch: float
    rise: float


def _validation_rose(run: FiniteRun) -> Lowest | None:
    if run.verdict == DIVERGENT or "val_loss" not in run.validation:
        return None
    epochs, values = run.validation["val_loss"]
    if not np.isfinite(values).all():
        return None
    at = int(np.argmin(values))
    lowest = Lowest(at, float(epochs[at]), float(values[-1] - values[at]))
    return lowest if lowest.rise >= RISE * run.tau * run.way else None


LOOKS: dict[str, Callable[[FiniteRun], Found | None]] = {
    "catapult": _catapult,
    "oscillating": _oscillating,
    "died": _died,
    "still improving": _still_improving,
    "evaluation lags": _evaluation_lags,
    "changing loss": _changing_loss,
    "validation not finite": _validation_not_finite,
    "overfitting": _overfit,
    "loss and metric disagree": _disagreement,
}


def score_sensitivity(runs: pd.DataFrame) -> dict[int, float]:
    """Learning-rate sensitivity of each batch size, in units of the loss; 0 if every learning rate ends at the floor.

    The mean over the learning rates tried of the final height's excess over the lowest, each clipped at the untrained
    height: Wortsman et al. 2023, "Small-scale proxies for large-scale Transformer training instabilities", section 2.2.
    It depends on the range: compare studies of the same one. Runs as ``classify`` returns them. Missing where a search ended
    some of them: then learning rates are dense where an edge is, and most heights are not those of the end.
    """
    finished = runs[runs["verdict"].notna()]
    ends = finished["final_height"].clip(upper=finished["first_height"]).mask(was_cut(finished))
    ends = ends.mask(ends.isna().groupby(finished["batch_size"]).transform("any"))
    medians = ends.groupby([finished["batch_size"], finished["learning_rate"]]).median()
    return {int(size): float((group - group.min()).mean()) for size, group in medians.groupby(level=0)}


def metric_directions(runs: pd.DataFrame) -> dict[str, Direction]:
    """Which way each validation metric but the loss improves: the way it goes where the final height falls."""
    finite = runs[np.isfinite(runs["final_height"].astype(float))]
    found = {}
    for name in (str(name) for name in runs if str(name).startswith("val_") and name != "val_loss"):
        values = finite[[name, "final_height"]].astype(float).replace(math.inf, math.nan).dropna()
        if (values.nunique() > 1).all():
            correlation = values[name].rank().corr(values["final_height"].rank())
            found[name] = Direction(-1 if correlation > 0 else 1, float(np.ptp(values[name])))
    return found


def _percent(share: float) -> str:
    return f"{format_number(100 * share)} %"
