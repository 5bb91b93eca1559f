"""How long it takes to one common height at each batch size, and the critical batch size that follows.

A floor of its own at each batch size cannot be compared between them, so all are timed to one height, the *target*. Steps to it
fall with the batch size as S(B) = s_min (1 + b_crit / B) (McCandlish et al. 2018, where (S / s_min - 1)(E / e_min - 1) = 1 for
the examples E = S B): below the critical batch size twice the batch takes nearly half the steps, above it nearly as many. On
SGD this holds within 0.15 decade; b_crit moves up to 25 times with the target, so the target is always told with it.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr

from reports.judging.batch_size import tell_unlike
from reports.judging.edges import COVERAGE
from reports.judging.followed import is_unfollowed
from reports.judging.verdicts import FINISHED, Thresholds, find_floors, split_curves, time_to_bottom, was_cut
from reports.style import format_number

TIMES = "batch_size learning_rate n_seeds steps epochs seconds runs_together fitted_steps at_end".split()
FEWEST_SIZES = 4  # for two numbers and how far the form is off
TOLD = 2.0  # decades: a wider interval tells nothing to act on
OFF = 0.15  # decades: where the form is off by more it is not the law of these runs
SAME_START = 0.1  # of the way to the target: untrained heights further apart are of different losses
NEAR = 1.5  # times the least seconds: the best size moves by as much from one timing to the next
BEYOND = 4.0  # decades beyond the sizes in which b_crit is looked for: an interval that is open there spans more than TOLD
# Log-normal priors (median, factor of one standard deviation) in decades: how far the form is off, and seeds from each other.
MISFIT, SEEDS = (0.04, math.exp(0.8)), (0.04, math.exp(1.0))

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float, float]
UNKNOWN: Interval = (math.nan, math.nan, math.nan)


class TimeToTarget(NamedTuple):
    """What ``time_to_target`` found.

    table: a row a batch size that gets there, ascending: ``batch_size``; ``learning_rate``, that takes the fewest steps by the
    median over the seeds, of which ``n_seeds`` get there; medians of ``steps``, ``epochs``, ``seconds`` to the target, missing
    where not known; ``runs_together``, trained in one fit; ``fitted_steps``, by the fit, missing without one; ``at_end``,
    whether that learning rate is the lowest or highest tried, so that others may be faster.
    start: the untrained height of all; target: the height timed to; share: of the way to the highest floor of the sizes used.
    s_min, b_crit: steps of an endless batch, and examples: median and both ends of the 90 % interval, missing without a fit.
    misfit: decades between the fit and the batch size furthest from it. why_not: why b_crit cannot be told, "" where it can.
    left_out: by batch size, why it has no row.
    """

    table: pd.DataFrame
    start: float
    target: float
    share: float
    s_min: Interval
    b_crit: Interval
    misfit: float
    why_not: str
    left_out: dict[int, str]


def time_to_target(runs: pd.DataFrame, curves: pd.DataFrame, thresholds: Thresholds | None = None) -> TimeToTarget:
    """Steps, epochs and seconds to one height at each batch size, and the critical batch size by them.

    runs: as ``classify`` returns them; curves: as recorded. Batch sizes that come less than ``1 - tau`` of the way of the best
    one within their budget are left out; the target is ``1 - tau`` of the way from the untrained height to the highest floor of
    the others (to ``target_loss`` where that is given). Runs that the search cut count if they got there.
    """
    thresholds = thresholds or Thresholds()
    share = 1 - thresholds.tau
    judged = runs[runs["state"].isin(FINISHED) & ~is_unfollowed(runs)]
    floors = find_floors(runs, thresholds)
    starts = judged.groupby("batch_size")["first_height"].median()
    start = float(judged["first_height"].median())
    ways = {size: start - floor if math.isfinite(floor) else 0.0 for size, floor in floors.items()}
    most = max(ways.values(), default=0.0)
    left_out = dict.fromkeys(map(int, runs["batch_size"].unique()), "no run there has a verdict")
    left_out |= {size: "" if way > 0 else "no run goes down there" for size, way in ways.items()}
    left_out |= {
        size: f"within its budget it comes {100 * way / most:.0f} % of the way of the best size, less than {100 * share:g} %"
        for size, way in ways.items()
        if 0 < way < share * most
    }
    used = sorted(size for size, why in left_out.items() if not why)
    way = min((ways[size] for size in used), default=math.nan)
    target, empty = start - share * way, pd.DataFrame(columns=TIMES)
    found = TimeToTarget(empty, start, target, share, UNKNOWN, UNKNOWN, math.nan, "no batch size goes down", left_out)
    if not used:
        return found
    if starts[used].max() - starts[used].min() > SAME_START * way:
        told = " and ".join(format_number(each) for each in (starts[used].min(), starts[used].max()))
        why_not = f"untrained heights of the batch sizes differ ({told}), so they have no height in common"
        return found._replace(why_not=why_not, left_out={size: why or why_not for size, why in left_out.items()})
    times = _times(judged[judged["batch_size"].isin(used)], curves, target)
    rows, values = [], []
    for size in used:
        group = times[times["batch_size"] == size]
        if np.isfinite(group["to_target"]).any() and math.isfinite((best := _best(group))[0]["steps"]):
            rows.append(best[0])
            values.append(np.log10(best[1]))
        else:
            left_out[size] = "no learning rate gets there within its budget"
    found = found._replace(table=pd.DataFrame(rows, columns=TIMES), left_out={s: why for s, why in left_out.items() if why})
    if len(rows) < FEWEST_SIZES:
        return found._replace(
            why_not=f"{len(rows)} of {len(left_out)} batch sizes get there, at least {FEWEST_SIZES} are needed"
        )
    s_min, b_crit, fitted = fit_critical_batch(found.table["batch_size"].to_numpy(float), values)
    misfits = np.abs(np.log10(fitted) - [value.mean() for value in values])
    worst = int(misfits.argmax())
    low, high = np.log10(b_crit[1:])
    why_not = ""
    if misfits[worst] > OFF:
        off, where = format_number(misfits[worst], digits=2), found.table["batch_size"][worst]
        why_not = f"the steps do not fall as S_min (1 + B_crit / B), which is off by {off} decades at batch size {where}"
    elif high - low > TOLD:
        why_not = f"its 90 % interval, {_span(b_crit, found.table['batch_size'])}, is wider than {TOLD:g} decades"
    table = found.table.assign(fitted_steps=fitted)
    return found._replace(table=table, s_min=s_min, b_crit=b_crit, misfit=float(misfits[worst]), why_not=why_not)


def _times(runs: pd.DataFrame, curves: pd.DataFrame, target: float) -> pd.DataFrame:
    """The runs with ``to_target``, steps (at least 1) to the target, inf if never; without those cut before they got there."""
    heights = split_curves(curves.assign(epoch=curves["step"]), "height")
    runs = runs[runs["trial"].isin(list(heights))]
    together = runs.groupby("member_of")["trial"].transform("size") if "member_of" in runs else 1.0
    steps = [
        max(time_to_bottom(at, np.where(np.isfinite(values), -values, -math.inf), level=-target), 1.0)
        for at, values in (heights[trial] for trial in runs["trial"])
    ]
    timed = runs.assign(to_target=steps, runs_together=together)
    return timed[~was_cut(timed) | np.isfinite(timed["to_target"])].assign(
        tried_low=timed.groupby("batch_size")["learning_rate"].transform("min"),
        tried_high=timed.groupby("batch_size")["learning_rate"].transform("max"),
    )


def _best(runs: pd.DataFrame) -> tuple[dict[str, Any], Floats]:
    """The row of ``TimeToTarget.table`` of one batch size, and the steps of the seeds that got there at its learning rate.

    Only learning rates count that as many seeds have been trained with as any: of single runs the fastest is a lucky one.
    """
    seeds = runs.groupby("learning_rate")["seed"].nunique()
    medians = runs.groupby("learning_rate")["to_target"].median()[seeds == seeds.max()]
    rate = float(medians.idxmin())
    group = runs[(runs["learning_rate"] == rate) & np.isfinite(runs["to_target"])]
    steps, done = group["to_target"].to_numpy(float), group["steps"].astype(float)
    row = {"batch_size": int(runs["batch_size"].iloc[0]), "learning_rate": rate, "n_seeds": len(group)}
    row |= {"steps": float(medians[rate]), "runs_together": float(group["runs_together"].median())}
    row |= {name: float((steps * group[name].astype(float) / done).median()) for name in ("epochs", "seconds")}
    row |= {"fitted_steps": math.nan, "at_end": rate in (runs["tried_low"].iloc[0], runs["tried_high"].iloc[0])}
    return row, steps


def fit_critical_batch(batch_sizes: Floats, values: Sequence[Floats]) -> tuple[Interval, Interval, Floats]:
    """``s_min`` and ``b_crit``, each its median and 90 % interval, and the steps by the fit, shape (n_sizes,).

    values: log10 of the steps of each batch size, shape (n_seeds,). Seeds of a size lie normally about one place, and these
    places about the form: both spreads have log-normal priors, log s_min and log b_crit flat ones, the first in closed form.
    """
    means, counts = np.array([v.mean() for v in values]), np.array([len(v) for v in values], dtype=float)
    squares = sum(float(((v - v.mean()) ** 2).sum()) for v in values)
    crits = np.linspace(np.log10(batch_sizes.min()) - BEYOND, np.log10(batch_sizes.max()) + BEYOND, 500)
    fall = np.log10(1 + 10 ** crits[:, None] / batch_sizes)  # shape (n_crits, n_sizes)
    places, spreads, logs = [], [], []
    for misfit, of_misfit in _grid(*MISFIT):
        for seed, of_seed in _grid(*SEEDS):
            weights = 1 / (misfit**2 + seed**2 / counts)
            place = ((means - fall) * weights).sum(axis=1) / weights.sum()
            off = ((means - fall - place[:, None]) ** 2 * weights).sum(axis=1)
            log = of_misfit + of_seed - 0.5 * (off - np.log(weights).sum() + np.log(weights.sum()))
            log -= 0.5 * squares / seed**2 + (counts - 1).sum() * math.log(seed)
            places.append(place)
            spreads.append(np.full(len(crits), weights.sum() ** -0.5))
            logs.append(log)
    posterior = np.exp(np.array(logs) - np.max(logs))
    posterior /= posterior.sum()
    ends = (0.5, (1 - COVERAGE) / 2, (1 + COVERAGE) / 2)
    of_crit = posterior.sum(axis=0)
    middle = np.cumsum(of_crit) - of_crit / 2
    b_crit = [float(10 ** np.interp(end, middle, crits)) for end in ends]
    kept = posterior > 1e-6 * posterior.max()
    centres, widths, shares = np.array(places)[kept], np.array(spreads)[kept], posterior[kept] / posterior[kept].sum()
    at = np.linspace((centres - 4 * widths).min(), (centres + 4 * widths).max(), 400)
    below = np.array([shares @ ndtr((each - centres) / widths) for each in at])
    s_min = [float(10 ** np.interp(end, below, at)) for end in ends]
    by_median = np.log10(1 + b_crit[0] / batch_sizes)
    fitted = 10 ** (by_median + (means - by_median).mean())
    return (s_min[0], s_min[1], s_min[2]), (b_crit[0], b_crit[1], b_crit[2]), fitted


def _grid(median: float, factor: float) -> list[tuple[float, float]]:
    """Spreads two and a half standard deviations to either side, with the logarithm of their prior."""
    return [(median * factor**k, -0.5 * k**2) for k in np.linspace(-2.5, 2.5, 11)]


def near_fastest(table: pd.DataFrame) -> list[int]:
    """The batch sizes that get to the target within ``NEAR`` times the least seconds; table: of ``TimeToTarget``."""
    seconds = table["seconds"].astype(float)
    return [int(size) for size in table.loc[seconds <= NEAR * seconds.min(), "batch_size"]]


def tell(found: TimeToTarget) -> list[str]:
    """Sentences on what ``time_to_target`` found; none for a study of one batch size."""
    table = found.table
    if len(table) + len(found.left_out) < 2:
        return []
    target = f"The common target is a height of {format_number(found.target)}, {100 * found.share:g} % of the way from"
    target += f" {format_number(found.start)}, untrained, to the highest floor of the batch sizes used."
    if table.empty:
        return [f"Times of the batch sizes cannot be compared: {found.why_not}."]
    told = [target]
    if found.why_not:
        told.append(f"The data cannot tell a critical batch size to this target: {found.why_not}.")
    else:
        crit, least = format_number(found.b_crit[0], digits=2), format_number(found.s_min[0], digits=2)
        told.append(
            f"The critical batch size to this target is {crit} [{_span(found.b_crit, table['batch_size'])}]: well below it"
            f" twice the batch takes half the steps, well above it as many, and no batch size takes fewer than {least} steps"
            f" [{' to '.join(format_number(end, digits=2) for end in found.s_min[1:])}]."
        )
    if found.left_out:
        told.append("Left out: " + "; ".join(f"batch size {size}, {why}" for size, why in found.left_out.items()) + ".")
    ends = [str(size) for size in table.loc[table["at_end"].astype(bool), "batch_size"]]
    if ends:
        told.append(
            f"The fastest learning rate tried is the last of its range at batch size {', '.join(ends)}: beyond it"
            " others may be faster."
        )
    return [*told, _tell_seconds(table)] if len(table) > 1 else told


def _tell_seconds(table: pd.DataFrame) -> str:
    cannot = "By the clock the fastest batch size cannot be told here:"
    if not np.isfinite(table["seconds"].astype(float)).all():
        return f"{cannot} how long runs took is not known."
    if unlike := tell_unlike(table):
        return f"{cannot} runs were trained {unlike}."
    if table["runs_together"].max() > 1:
        return f"{cannot} runs were trained together, and their seconds are shares of a fit."
    near = near_fastest(table)
    if len(near) == 1:
        return f"By the clock batch size {near[0]} is the fastest, by more than {NEAR:g} times."
    return (
        f"By the clock batch sizes {', '.join(map(str, near))} take no more than {NEAR:g} times as long as the fastest, here."
    )


def _span(interval: Interval, sizes: "pd.Series[int]") -> str:
    """An interval in words, open where it goes on for more than half of where was looked."""
    _, low, high = interval
    far = 10 ** (BEYOND / 2)
    if high > far * sizes.max():
        return f"above {format_number(low, digits=2)}" if low > sizes.min() / far else "anywhere"
    return (
        f"{format_number(low, digits=2)} to {format_number(high, digits=2)}"
        if low > sizes.min() / far
        else (f"below {format_number(high, digits=2)}")
    )
