"""The few numbers that say what shape one loss curve has; robust to minibatch noise, and alike for a shifted or scaled loss."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import theilslopes

from reports.judging.final_height import final_height

N_FIRST = 5  # losses whose median is the first loss of a long curve: one minibatch may be a lucky one
LONG = 200  # losses, as minibatch losses are; in a shorter curve five are too large a part of the way down
HALVES = 20  # losses whose second half alone tells the noise; of fewer the last two thirds do
N_BINS = 200  # medians the trend is fitted to: 67 in the last third, 2,211 slopes
N_TREND = 5  # medians a trend needs: noise alone falls five times running in 1 of 120 curves
N_SWING = 40  # medians whose swings are judged, of at least four losses each; a shorter curve is judged loss by loss
BEYOND = 3.0  # times the noise that is no accident: 1 in 370 for normal noise
PERCENTILES = 2.56  # standard deviations from the 10th to the 90th percentile of normal noise
MEDIAN = 1.25  # standard error of a median over that of a mean, sqrt(pi / 2)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CurveShape:
    """Numbers of one finite curve, in units of the loss.

    first: median of the first few losses, or the first alone where the curve jumps away from it; final: median of the last
    tenth, at least three; lowest: of medians; noise: scatter of a single loss in the second half; pace: fall in a whole run at
    the slope of the last third, and ``falling`` whether noise cannot explain it; swing: ups and downs in the second half, 0
    where noise explains them; peak: highest loss, at peak_step, peak_last if in the last tenth; begin: first step.
    worse: it ended higher than it started, beyond noise; returned: it went three times further from its start than it moves in
    its last tenth, and ended no lower than the start is known; small: noise explains what it fell.
    """

    first: float
    final: float
    lowest: float
    noise: float
    pace: float
    swing: float
    falling: bool
    worse: bool
    returned: bool
    small: bool
    peak: float
    peak_step: float
    peak_last: bool
    begin: float


def measure(steps: Floats, losses: Floats) -> CurveShape:
    """The shape of a curve of finite losses; steps in order, each once, shape (n_points,), at least one."""
    unit = 2.0 ** min(math.frexp(np.abs(losses).max())[1], 1023)  # a power of two: no digit is lost, no difference overflows
    times, y = (steps - steps[0]) / ((steps[-1] - steps[0]) or 1.0), losses / unit
    half = len(y) // 2 if len(y) >= HALVES else len(y) // 3 if len(y) >= N_TREND else 0
    end = min(int(np.searchsorted(times, 0.9)), max(len(y) - 3, 0))
    noise = _noise(y[half:])
    early = min(noise, _noise(y[:half])) if len(y) >= HALVES else noise  # an explosion in one half is no noise at the start
    late = min(early, _noise(y[end:])) if len(y) - end >= 5 else early

    n_first = N_FIRST if len(y) >= LONG else 1
    first = float(np.median(y[:n_first]))
    if abs(first - y[0]) > BEYOND * early:  # the first steps changed more than noise does: only the first value is untrained
        first, n_first = float(y[0]), 1
    final = final_height(times[1:], y[1:]) if len(y) > 1 else first  # the untrained loss is no part of the end
    error, known = MEDIAN * early / math.sqrt(n_first), MEDIAN * late / math.sqrt(n_first)
    both = math.hypot(error, MEDIAN * noise / math.sqrt(len(y) - end))

    slope, falling = _trend(*_medians(times, y, N_BINS))
    smooth = _smooth(times, y)
    top, fall, middle = int(np.argmax(y)), first - final, len(y) // 2
    away = BEYOND * max(np.abs(y[end:] - final).max(), 2 * noise)
    spiked = np.abs(y[: middle or 1] - first).max() > BEYOND * max(np.abs(y[middle:] - final).max(), 2 * noise)
    moved = spiked or np.abs(smooth - first).max() > away  # a single loss counts only against as many others
    worse = fall < -BEYOND * both or float(np.percentile(y[end:], 10)) > first + BEYOND * error
    above = fall < -2 * both and bool(y[half:].min() > first)  # 1 in 44 for normal noise, fewer with a whole half above
    return CurveShape(
        first=first * unit,
        final=final * unit,
        lowest=float(smooth.min()) * unit,
        noise=noise * unit,
        pace=-slope * unit,
        swing=_swing(times, y, noise) * unit,
        falling=falling,
        worse=worse or above,
        returned=bool(moved and fall <= known),
        small=fall <= BEYOND * both,
        peak=float(losses[top]),
        peak_step=float(steps[top]),
        peak_last=top >= end,
        begin=float(steps[0]),
    )


def _medians(times: Floats, y: Floats, n: int) -> tuple[Floats, Floats]:
    """At most ``n`` medians of equally many neighbours, each at the median of their times."""
    parts = np.array_split(np.arange(len(y)), min(n, len(y)))
    return np.array([np.median(times[part]) for part in parts]), np.array([np.median(y[part]) for part in parts])


def _noise(y: Floats) -> float:
    """Scatter of a single value: typical distance from the middle of its two neighbours, so that a trend is no noise."""
    if len(y) < 3:
        return 0.0
    return float(1.4826 * np.median(np.abs(y[1:-1] - (y[:-2] + y[2:]) / 2)) / math.sqrt(1.5))  # MAD to standard deviation


def _trend(times: Floats, y: Floats) -> tuple[float, bool]:
    """Slope a whole run of the last third (Theil and Sen), and whether its 95 % confidence interval lies below zero."""
    last = min(int(np.searchsorted(times, 2 / 3)), max(len(y) - N_TREND, 0))
    if len(y) < 2:
        return math.nan, False
    slope, _, _, highest = theilslopes(y[last:], times[last:])
    return float(slope), bool(highest < 0)


def _smooth(times: Floats, y: Floats) -> Floats:
    """The losses without single lucky and unlucky ones: medians of many or, in a shorter curve, of three neighbours."""
    if len(y) >= 4 * N_SWING:
        return _medians(times, y, N_SWING)[1]
    if len(y) >= 10:
        return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(y, 3), axis=1))
    return y


def _swing(times: Floats, y: Floats, noise: float) -> float:
    """Height of the ups and downs of the second half about its own trend, from the 10th to the 90th percentile.

    The medians of a long curve scatter by its noise over the root of their size; swings up to 1.5 times that are noise. In a
    short curve (fewer than four losses a median) noise and swings cannot be told apart, so all of it counts.
    """
    explained = 0.0
    if len(y) >= 4 * N_SWING:
        explained = 1.5 * PERCENTILES * MEDIAN * noise / math.sqrt(len(y) / N_SWING)
        times, y = _medians(times, y, N_SWING)
    half = min(int(np.searchsorted(times, 0.5)), max(len(y) - N_TREND, 0))
    slope = theilslopes(y[half:], times[half:])[0] if len(y) - half > 2 else 0.0
    low, high = np.percentile(about := y[half:] - slope * times[half:], [10, 90])
    turns = int(np.diff(about > (low + high) / 2).sum())  # a fall that bends turns twice about its straight line
    return float(high - low) if turns > 2 and high - low > explained else 0.0
