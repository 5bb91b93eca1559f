"""From the logged losses of runs to heights as a study keeps them: when they were, where they begin, how long a run is."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lightning_modules.record import MAX_POINTS, PREFIXES, metric_name
from reports.judging.decided import BY_SEARCH
from reports.judging.final_height import final_height
from reports.style import format_number
from studies.admin.adopted.choices import EPOCH_MEAN, MINIBATCH, VALIDATION, Chosen, Loss, monitored
from studies.admin.adopted.log import Floats, Log
from studies.errors import BadInput
from studies.training.runs import Run

WINDOWS = 40  # that the minibatch losses of a run are averaged over, where it has as many
ALIKE = 0.1  # of the way down: values at step 0 that differ by no more are of untrained weights
MOVED = 0.2  # of the way down, from the first value to the second: who moves so far was elsewhere before the first
COMMON = 0.5  # of the runs that must have one length for it to be the budget
SAME_LENGTH = 0.01  # relative: the last rows of a log may be missing
CANNOT = {
    EPOCH_MEAN: "mean training losses of an epoch, each taken at its middle: what happened within an epoch they cannot tell",
    VALIDATION: "validation losses: they cannot tell a run that did not come down from one that came down on its training data"
    " alone",
    MINIBATCH: "minibatch losses, {k}: they cannot tell what is smaller than their noise, nor the loss in evaluation mode",
}
AS_THEY_ARE = "{name} as it was logged: whether it is of training or validation, and what it averages, the logs do not say"


class _Curve(NamedTuple):
    """Values of the loss in order of time, after step 0; steps: updates done; n: those of the whole run; bad: that of the first
    value that is not finite, with which the curve ends, or NaN.
    """

    steps: Floats
    values: Floats
    n: float
    bad: float


def runs_of(chosen: Sequence[Chosen], loss: Loss, untrained: float | None = None) -> tuple[list[Run], list[str]]:
    """The runs with their heights, and a sentence on each thing that had to be assumed of them.

    untrained: the loss before the first step, of all; else what was logged at step 0, else the first value that the run with
    the lowest learning rate of its batch size logged, which moved least.

    Raises BadInput where that one moved too far to stand for it, and it would decide what is divergent.
    """
    remarks: list[str] = []
    runs: list[Run] = []
    for size in sorted({each.batch_size for each in chosen}):
        found, said = _runs_of_size([each for each in chosen if each.batch_size == size], loss, untrained, size)
        runs += found
        remarks += said
    return runs, list(dict.fromkeys(remarks))


def _runs_of_size(chosen: Sequence[Chosen], loss: Loss, untrained: float | None, size: int) -> tuple[list[Run], list[str]]:
    logs = [each.log for each in chosen]
    counted = [found for log in logs if math.isfinite(found := _steps_per_epoch(log))]
    per_epoch = float(np.median(counted)) if counted else 1.0
    longest = max((log.metrics[loss.name] for log in logs), key=lambda points: len(points[0]))
    apart = float(np.median(np.diff(longest[0]))) if len(longest[0]) > 1 else per_epoch
    at_zero = [] if untrained is not None else _untrained(logs, loss)
    k = math.ceil(len(longest[0]) / (WINDOWS if loss.kind == MINIBATCH else MAX_POINTS))
    curves = [_averaged(_curve_of(log, loss, apart, fresh=bool(at_zero)), k) for log in logs]
    start, begins = _start(chosen, curves, untrained, at_zero)
    budget, lengths = _budget(curves, per_epoch)
    what = CANNOT.get(loss.kind, AS_THEY_ARE).format(
        k=f"{k} averaged" if k > 1 else "each as it was logged", name=repr(loss.name)
    )
    remarks = [f"heights are {what}", f"at batch size {size} {begins}", *(f"at batch size {size} {said}" for said in lengths)]
    if not counted:
        remarks.append("the logs do not count epochs: what is called an epoch is one of their steps")
    return [_run(*each, start, per_epoch, budget, loss) for each in zip(chosen, curves, strict=True)], remarks


def _steps_per_epoch(log: Log) -> float:
    """By the epochs that were logged: whole ones begin at 0; NaN where there are none."""
    steps, epochs = log.epochs
    if not len(steps) or not np.isfinite(epochs).all():
        return math.nan
    if (epochs % 1).any():
        return float(steps[-1] / epochs[-1])
    return float(((steps + 1) / (epochs + 1)).max()) if (epochs >= 0).all() else math.nan


def _untrained(logs: Sequence[Log], loss: Loss) -> list[float]:
    """What was logged at step 0, where that is before training: of minibatches, or as like for all learning rates."""
    points = [log.metrics[loss.name] for log in logs]
    found = [float(values[0]) for steps, values in points if steps[0] == 0 and math.isfinite(values[0])]
    if not found or loss.kind == MINIBATCH:
        return found
    lowest = min(float(values[np.isfinite(values)].min()) for _, values in points if np.isfinite(values).any())
    way = float(np.median(found)) - lowest
    return found if len(found) > 1 and max(found) - min(found) <= ALIKE * way else []


def _curve_of(log: Log, loss: Loss, apart: float, *, fresh: bool) -> _Curve:
    """The curve of a run whose losses are ``apart`` steps apart; fresh: what was logged at step 0 is before training.

    What is logged after an epoch has the number of its last batch, from 0; a minibatch loss is of the weights before its step.
    """
    steps, values = log.metrics[loss.name]
    late = float(steps[0] == apart - 1 and not (fresh and loss.kind != MINIBATCH))
    n = max(float(each[-1]) for each, _ in log.metrics.values()) + late
    if loss.kind != MINIBATCH:
        steps = steps + late - (apart / 2 if loss.kind == EPOCH_MEAN and apart > 1 else 0)
    steps, values = (steps[1:], values[1:]) if fresh and steps[0] == 0 else (np.maximum(steps, 1), values)
    bad = np.flatnonzero(~np.isfinite(values))
    return _Curve(steps, values, max(n, 1), float(steps[bad[0]]) if len(bad) else math.nan)


def _averaged(curve: _Curve, k: int) -> _Curve:
    """The curve with ``k`` neighbours at a time as one, up to the first that is not finite."""
    finite = curve.steps < curve.bad if math.isfinite(curve.bad) else np.ones(len(curve.steps), bool)
    parts = [slice(at, at + k) for at in range(0, int(finite.sum()), k)]
    means = [[float(of[finite][part].mean()) for part in parts] for of in (curve.steps, curve.values)]
    end = [] if math.isnan(curve.bad) else [(curve.bad, math.inf)]
    steps, values = ([*mean, *(point[at] for point in end)] for at, mean in enumerate(means))
    return curve._replace(steps=np.array(steps), values=np.array(values))


def _start(
    chosen: Sequence[Chosen], curves: Sequence[_Curve], untrained: float | None, at_zero: Sequence[float]
) -> tuple[float, str]:
    """The height before training, of all runs of a batch size, and where it is from."""
    if untrained is not None:
        return untrained, f"heights begin at the untrained loss that was given, {format_number(untrained)}"
    if at_zero:
        start = float(np.median(at_zero))
        return start, f"heights begin at what was logged at step 0, {format_number(start)} (median of {len(at_zero)} runs)"
    able = [(each.learning_rate, curve) for each, curve in zip(chosen, curves, strict=True) if math.isfinite(curve.values[0])]
    if not able:
        return math.inf, "no finite loss was logged"
    rate = min(rate for rate, _ in able)
    firsts = [(float(curve.values[0]), float(curve.steps[0])) for of, curve in able if of == rate]
    start, step = (float(np.median(column)) for column in zip(*firsts, strict=True))
    ends = [float(curve.values[-1]) for _, curve in able if math.isnan(curve.bad)]
    falls = [float(curve.values[0] - curve.values[1]) for of, curve in able if of == rate and len(curve.values) > 1]
    if falls and ends and max(ends) > start and np.median(falls) > MOVED * (start - min(ends)):
        size, least = chosen[0].batch_size, format_number(rate)
        raise BadInput(
            f"untrained_loss must be given: at batch size {size} none was logged, runs ended above the first of the lowest"
            f" learning rate ({least}), {format_number(start)}, and that one learned so fast that it began higher"
        )
    said = f"heights begin at {format_number(start)}, which the lowest learning rate ({format_number(rate)}) had at step"
    return start, f"{said} {round(step)}, as no untrained loss was logged: --untrained-loss X gives it"


def _budget(curves: Sequence[_Curve], per_epoch: float) -> tuple[float, list[str]]:
    """Steps of the whole runs, inf where there is no common length, and what is to be known of others."""
    lengths = [curve.n for curve in curves if math.isnan(curve.bad)]
    if not lengths:
        return math.inf, []
    counts = Counter(round(length) for length in lengths)
    common = float(max(counts, key=lambda length: (counts[length], length)))
    shorter, longer = (sum(side * (length / common - 1) > SAME_LENGTH for length in lengths) for side in (-1, 1))
    epochs = [f"{format_number(length / per_epoch)}" for length in (common, min(lengths), max(lengths))]
    if not shorter and not longer:
        return common, []
    if len(lengths) - shorter - longer < COMMON * len(lengths):
        how = f"runs ended after {epochs[1]} to {epochs[2]} epochs, and most lengths differ: each is judged by where it ended"
        return math.inf, [f"{how}, though it may have been stopped too early"]
    said = []
    if shorter:
        said += [f"{shorter} of {len(lengths)} runs ended before the {epochs[0]} epochs of the others: judged where that tells"]
    if longer:
        said += [f"{longer} of {len(lengths)} runs went on after the {epochs[0]} epochs of the others: that is not read"]
    return common, said


def _run(chosen: Chosen, curve: _Curve, start: float, per_epoch: float, budget: float, loss: Loss) -> Run:
    diverged = math.isfinite(curve.bad)
    n = min(curve.bad if diverged else curve.n, budget)
    read = curve.steps <= n * (1 + SAME_LENGTH)
    steps = np.array([0, *np.maximum(np.round(curve.steps[read]), 1)])
    heights = np.array([start, *curve.values[read]])
    once = [*np.flatnonzero(np.diff(steps) > 0), len(steps) - 1]
    steps, heights = steps[once], heights[once]
    ended = not diverged and n < budget * (1 - SAME_LENGTH) and math.isfinite(budget)
    final = final_height(steps, heights, ended_early=ended)
    curves = {"height": (steps.astype(int).tolist(), heights.tolist()), **_validation(chosen.log, n)}
    metrics = {name: values[-1] for name, (_, values) in curves.items() if name.startswith("val_")} if not diverged else {}
    return Run(
        learning_rate=chosen.learning_rate,
        batch_size=chosen.batch_size,
        seed=chosen.seed,
        epochs=n / per_epoch,
        steps=round(n),
        examples=round(n) * chosen.batch_size,
        seconds=chosen.log.seconds,
        nonfinite_at=round(curve.bad) if diverged else None,
        first_height=start,
        final_height=final,
        validation_examples=None,
        value=metrics.get("val_loss", final),
        metrics=metrics,
        curves=curves,
        highest_learning_rates=monitored(chosen.log),
        ended_by=BY_SEARCH if ended else "",
    )


def _validation(log: Log, n: float) -> dict[str, tuple[list[int], list[float]]]:
    """What was logged in validation, by our names, thinned where there is very much of it."""
    found = {}
    for name, (steps, values) in log.metrics.items():
        ours = metric_name("val", name) if re.match(PREFIXES["val"], name) else None
        thin = slice(None, None, -math.ceil(len(steps) / MAX_POINTS))  # from the last on
        at, kept = steps[steps <= n][thin][::-1], values[steps <= n][thin][::-1]
        if ours and len(at):
            found[ours] = (at.astype(int).tolist(), kept.tolist())
    return found
