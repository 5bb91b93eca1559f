"""One finished run on its own: what its curve shows, *divergent, oscillating, still falling* or *flat*, and what it cannot.

The verdicts compare learning rates; here there is only one, so nothing is called good. Every rule
compares the curve with itself: adding a constant to the loss or scaling it changes no finding.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports.errors import BadInput
from reports.judging.curve_file import read_curve as read_curve
from reports.judging.curve_shape import N_TREND, CurveShape, Floats, measure
from reports.judging.verdicts import Thresholds

DIVERGENT, OSCILLATING, STILL_FALLING, FLAT = "divergent", "oscillating", "still falling", "flat"
TAU = Thresholds().tau  # who is nearer than a tenth of the way is at the bottom
FAR = 4.0  # times the noise: so far below their middle lies the lowest of thousands of losses

ADVICE = "To find out: python scripts/launch_study.py --learning-rate LOW HIGH, yours in between, trains and compares several."
BAD_BATCH = "Whether it was one bad batch that the run got over, as mixed precision does by leaving out a step."
CAUSE = "Whether the learning rate is the cause: bad data, half precision or batch norm do the same; a lower one would tell."
DEAD = "Whether the learning rate is too low or the network is dead (stuck at chance level, often after too high a rate)."
DIED = "Whether the network died on the way: it may sit at chance level now."
END = "Where it would end: the pace of one third seldom lasts."
FASTER = "Whether another learning rate gets there sooner: too low, good and too high only mean something beside others."
FEW = f"Whether any of this is more than noise: fewer than {N_TREND} losses cannot tell."
FLOOR = "Whether this is the bottom: a flat end is the lowest loss this run found, not the lowest there is."
HIDDEN = "Whether it is still falling: at the pace of its last third it would, but noise can look like that pace."
LUCKY = "Whether the first value is typical of the untrained network: the loss of one small batch may be low by luck."
NOISE = "Whether it jumps over the bottom: minibatch noise looks the same; losses on a fixed set of examples would tell."
OVERFITTING = "Whether the training loss is what you care about: only a validation loss shows overfitting."
RECOVERS = "Whether it comes back with more epochs: it was falling in its last third."
SEED = "Whether another seed would do the same."
START = "What came before the first value: a run that exploded or settled before it looks like this too; log every step to see."


@dataclass(frozen=True)
class Explanation:
    """What one curve shows.

    finding: one of the four constants of this module. sentence: the same with the numbers. cannot_know: what no single curve
    tells, one sentence each. first_loss: median of the first few; final_loss: median of the last tenth, at least three, inf
    when the run turned non-finite; lowest_loss: of all finite losses; noise: typical scatter of a single loss in the second
    half; gain_per_tenth: fall in a tenth of the run at the pace of its last third, negative when rising. NaN if unknown.
    """

    finding: str
    sentence: str
    cannot_know: tuple[str, ...]
    first_loss: float
    final_loss: float
    lowest_loss: float
    noise: float
    gain_per_tenth: float

    def __str__(self) -> str:
        unknown = "\n".join(f"  - {line}" for line in self.cannot_know)
        return f"{self.finding}: {self.sentence}\n\nOne curve cannot tell:\n{unknown}\n\n{ADVICE}"


def explain_run(curve: pd.DataFrame) -> Explanation:
    """What the curve of one finished run shows, and what it cannot.

    curve: columns ``step`` (finite, any order; of losses at the same step the median counts) and ``loss`` (any unit; NaN
    and inf mean that the run had such a loss, so leave out what was not logged).

    >>> explain_run(pd.DataFrame({"step": [0, 1, 2, 3, 4], "loss": [2.0, 1.8, 1.6, 1.4, 1.2]})).finding
    'still falling'
    """
    steps, losses = _points(curve)
    finite = np.isfinite(losses)
    if not finite.all():
        return _non_finite(steps, losses, finite)
    once = pd.Series(losses / 2).groupby(steps).median() * 2  # a median of two is their half sum, which must not overflow
    shape = measure(once.index.to_numpy(float), once.to_numpy(float))
    finding, sentence, unknown = _judge(shape)
    if len(once) < N_TREND:
        unknown = [FEW, *unknown]
    numbers = (shape.first, shape.final, float(losses.min()), shape.noise, shape.pace / 10)
    return Explanation(finding, f"{sentence}.", tuple(unknown), *numbers)


def _judge(s: CurveShape) -> tuple[str, str, list[str]]:
    """Finding, sentence and what is unknown."""
    fall, way = s.first - s.final, s.first - s.lowest
    begin = f"at the first value (step {_step(s.begin)})" if s.begin > 0 else "at the start"
    ends = f"{s.first:.4g} {begin}, {s.final:.4g} at the end"
    scatter = f"; single losses scatter by {s.noise:.2g}" if s.noise > 0 else ""
    spike = s.peak - s.first > max(fall, 10 * s.noise)
    high = f"; it rose to {s.peak:.4g} at step {_step(s.peak_step)}" if spike else ""
    if s.worse or s.returned:
        low = f"; it had been down to {s.lowest:.4g}" if way > max(FAR * s.noise, -fall) else ""
        back = [RECOVERS] * s.falling
        what = f"it ended no better than it started{', within its noise' * (fall > 0)}: {ends}{scatter * (fall > 0)}"
        return DIVERGENT, f"{what}{high}{low}", [*back, CAUSE, LUCKY, SEED]
    if spike:
        high += ", too near the end to tell whether it comes back" if s.peak_last else " and came back"
    if s.falling and s.pace >= TAU * fall > 0:
        share = f" ({10 * s.pace / fall:.3g} % of its fall so far)" if not s.small else ""
        what = f"at the pace of its last third it falls another {s.pace / 10:.2g}{share} each tenth of the run"
        return STILL_FALLING, f"{what}: {ends}{high}", [END, FASTER, OVERFITTING, SEED]
    start = [START] * (s.begin > 0)
    hidden = [HIDDEN] * (s.pace >= TAU * fall > 0)
    if s.swing > max(2 * TAU * way, s.pace / 2) and way > FAR * s.noise:  # a tenth to either side, more than its trend
        share = f"{100 * s.swing / way:.0f} % of its way down"
        what = f"it, or its minibatch noise, swings over {s.swing:.2g} in its second half, {share}"
        return OSCILLATING, f"{what}: {ends}{high}", [NOISE, *start, *hidden, FASTER, SEED]
    if s.final - s.lowest > max(TAU * way, FAR * s.noise):
        return FLAT, f"it came down to {s.lowest:.4g} but did not stay: {ends}{high}", [DIED, *start, FASTER, SEED]
    if s.small:
        what = "ended within its noise of where it started" if spike else f"never moved{' beyond its noise' * bool(scatter)}"
        return FLAT, f"it {what}: {ends}{scatter}{high}", [DEAD, *start, *[NOISE] * (s.noise > 0), SEED]
    what = f"fell {fall:.3g}, and noise hides whether it still does" if hidden else f"settled after falling {fall:.3g}"
    unknown = [*hidden, *[NOISE] * (s.noise > TAU * way), *[DIED] * spike, *start, FLOOR, FASTER, OVERFITTING, SEED]
    return FLAT, f"it {what}: {ends}{high}", unknown


def _non_finite(steps: Floats, losses: Floats, finite: npt.NDArray[np.bool_]) -> Explanation:
    at = int(np.argmin(finite))
    first, lowest = (float(losses[finite][0]), float(losses[finite].min())) if finite.any() else (math.nan, math.nan)
    start, unknown = f", {first:.4g} at the start" if finite[0] else "", [CAUSE, SEED]
    if finite[at:].any():
        start += f"; of the {len(losses) - at - 1} losses after it {int(finite[at:].sum())} are finite"
        unknown.insert(0, BAD_BATCH)
    sentence = f"the loss was {losses[at]} at step {_step(steps[at])}{start}."
    return Explanation(DIVERGENT, sentence, tuple(unknown), first, math.inf, lowest, math.nan, math.nan)


def _step(step: float) -> str:
    return f"{step:.0f}" if step == int(step) else f"{step:.4g}"  # epochs may be fractions


def _points(curve: pd.DataFrame) -> tuple[Floats, Floats]:
    """Steps in order and their losses."""
    if not {"step", "loss"} <= set(curve.columns):
        raise BadInput(f"curve must have the columns step and loss, got {', '.join(map(str, curve.columns)) or 'none'}")
    if curve.empty:
        raise BadInput("curve must have at least one row, got none")
    steps, losses = curve["step"].to_numpy(float), curve["loss"].to_numpy(float)
    if not np.isfinite(steps).all():
        raise BadInput(f"step must be finite, got {steps[~np.isfinite(steps)][0]}")
    order = np.argsort(steps, kind="stable")
    return steps[order], losses[order]
