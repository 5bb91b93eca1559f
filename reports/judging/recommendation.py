"""One learning rate to use, for each batch size and overall, with an interval, the reason, and the price of being wrong."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports.judging.edges import COVERAGE, EDGES, Edge
from reports.judging.verdicts import was_cut
from reports.style import DIVERGENT, GOOD, TOO_HIGH, TOO_LOW, format_number, format_seconds, name_metric

DISTANCE = 2.0  # from the low end of the divergent edge's interval: a schedule's or a new data set's factor of safety
SURE = 0.95  # share of new seeds a recommended learning rate is expected to be good on, where the good range allows
FASTER = 1.25  # times as fast: a learning rate that is, is told with what it costs
FACTORS = (0.1, 0.5, 1.0, 2.0, 10.0)  # how wrong somebody may be
TO_GOOD, TO_TOO_HIGH, TO_DIVERGENT = EDGES

RECOMMENDATIONS = "batch_size learning_rate low high good_share interval_share divergence_factor".split()
RECOMMENDATIONS += "time_to_bottom_epochs time_to_bottom_seconds reason price".split()
COSTS = ("batch_size", "factor", "learning_rate", "verdict", "epochs", "seconds", "ratio")


def good_share(edges: Mapping[str, Edge], learning_rate: float) -> float:
    """The share of new seeds on which a learning rate is expected to be good: above one edge and below the other."""
    return max(edges[TO_GOOD].share_below(learning_rate) - edges[TO_TOO_HIGH].share_below(learning_rate), 0.0)


def recommend(
    runs: pd.DataFrame,
    cells: pd.DataFrame,
    edges: Mapping[int, Mapping[str, Edge]],
    *,
    monitor: str = "val_loss",
    mode: str = "min",
) -> pd.DataFrame:
    """One row a batch size that has a good cell; from ``classify``, ``classify_cells`` and ``fit_edges``.

    Columns: ``batch_size``; ``learning_rate`` to use, always one that was tried; ``low`` and ``high``, the interval in which
    a learning rate is good on at least ``interval_share`` of new seeds (0.9, or 0.5 where the good range is too narrow
    for that) and stays ``DISTANCE`` below divergence where the good range allows; ``good_share``, the share of new seeds
    on which it is expected to be good; ``divergence_factor``, how many times it would have to grow to meet the low end
    of the divergent edge's interval (inf if none tried was divergent); ``time_to_bottom_epochs`` and ``_seconds`` of its
    cell; ``reason``, one sentence; ``price``, what is given up for being sure, "" where that is little.

    Among the learning rates inside the interval those count as equal whose ``monitor``, a column of ``runs``, is by its
    median over the seeds within one standard error of the best (Breiman et al. 1984, section 3.4.3); of the equals the one
    with the largest ``good_share`` is taken. Best is the lowest, or the highest when ``mode`` is ``max``; a value that is not
    finite is the worst. Without that column all inside are equal.

    Raises ValueError when ``mode`` is neither ``min`` nor ``max``.
    """
    if mode not in ("min", "max"):
        raise ValueError(f"mode must be min or max, got {mode!r}")
    rows = []
    for size, group in cells.groupby("batch_size", sort=True):
        good = group[group["verdict"] == GOOD]
        if len(good):
            values = _values(runs[(runs["batch_size"] == size) & runs["verdict"].notna()], monitor)
            rows.append(_recommend(int(size), group, values, edges[int(size)], monitor=monitor, mode=mode))
    return pd.DataFrame(rows, columns=RECOMMENDATIONS)


def _values(runs: pd.DataFrame, monitor: str) -> "pd.Series[float]":
    """The monitored metric of each run that has one, by learning rate; a run that was cut has none to compare with others."""
    runs = runs[~was_cut(runs)]
    values = pd.to_numeric(runs[monitor], errors="coerce") if monitor in runs else pd.Series(math.nan, index=runs.index)
    return values.astype(float).set_axis(runs["learning_rate"]).dropna()


def _recommend(
    size: int, cells: pd.DataFrame, values: "pd.Series[float]", edges: Mapping[str, Edge], *, monitor: str, mode: str
) -> dict[str, Any]:
    good, starts = cells[cells["verdict"] == GOOD], _low_end(edges[TO_DIVERGENT])
    shares = good["learning_rate"].map(lambda rate: good_share(edges, rate))
    sure, far = shares >= SURE, good["learning_rate"] <= starts / DISTANCE
    if (sure & far).any():
        inside, why = good[sure & far], ""
    elif sure.any():
        inside = good[sure].nsmallest(1, "learning_rate")
        why = f"the good range is too near to divergence to stay a factor {DISTANCE:g} below it"
    else:
        inside = good.loc[[shares.idxmax()]]
        why = f"the good range is too narrow for {100 * SURE:g} % of new seeds, so it is the surest learning rate in it"
    equals, words = _equals(inside, values, monitor=monitor, mode=mode)
    row = good.loc[shares[equals.index].idxmax()]
    use, share = float(row["learning_rate"]), float(shares[row.name])
    level = COVERAGE if share >= COVERAGE else 0.5
    far_end = max(float(f"{starts / DISTANCE:.4g}"), use)
    lowest, highest = cells["learning_rate"].min(), min(cells["learning_rate"].max(), far_end)
    low, high = _interval(edges, use, level=level, lowest=lowest, highest=highest)
    factor = starts / use
    parts = [f"expected to be good on {math.floor(100 * share)} % of new seeds", _tell_distance(factor), words, why]
    return {
        "batch_size": size,
        "learning_rate": use,
        "low": low,
        "high": high,
        "good_share": share,
        "interval_share": level,
        "divergence_factor": factor,
        "time_to_bottom_epochs": row["time_to_bottom_epochs"],
        "time_to_bottom_seconds": row["time_to_bottom_seconds"],
        "reason": "; ".join(part for part in parts if part),
        "price": _price(good, shares, row, values, best={"min": 1, "max": -1}[mode]),
    }


def _price(
    good: pd.DataFrame, shares: "pd.Series[float]", row: "pd.Series[Any]", values: "pd.Series[float]", *, best: int
) -> str:
    """What is given up for being sure: the fastest good learning rate, where it is much faster; "" where it is not.

    best: 1 where less of the monitored ``values`` is better, -1 where more is.
    """
    fastest = good.loc[good["time_to_bottom_epochs"].idxmin()]
    if shares[fastest.name] >= shares[row.name] or fastest["time_to_bottom_epochs"] <= 0:
        return ""
    times = row["time_to_bottom_epochs"] / fastest["time_to_bottom_epochs"]
    medians = (best * values).groupby(level=0).median()
    of_fastest, of_use = (medians.get(each["learning_rate"], math.nan) for each in (fastest, row))
    better = " and validates better" if of_fastest < of_use else ""
    if times < FASTER:
        return ""
    share = f"good on {math.floor(100 * shares[fastest.name])} % of new seeds only"
    return f"{format_number(fastest['learning_rate'])} is {format_number(times, digits=2)} times as fast{better}, but {share}"


def _low_end(divergent: Edge) -> float:
    """Where divergence may begin: the low end of the edge's interval, or inf when none tried was divergent."""
    if divergent.inside:
        return divergent.quantile((1 - COVERAGE) / 2)
    return math.inf if not divergent.shares[0] else 0.0


def _tell_distance(factor: float) -> str:
    """How far below divergence a learning rate lies that would meet it ``factor`` times as high."""
    if factor >= 1:
        return f"a factor {format_number(factor)} below divergence" if math.isfinite(factor) else "divergence was not met"
    above = f"a factor {format_number(1 / factor)} above the place where" if factor else "above all places where"
    return f"{above} divergence may begin: none below that place is as sure to be good"


def _equals(inside: pd.DataFrame, values: "pd.Series[float]", *, monitor: str, mode: str) -> tuple[pd.DataFrame, str]:
    """The cells whose monitored metric is within one standard error of the best, and how to say so."""
    sign, best = {"min": (1, "lowest"), "max": (-1, "highest")}[mode]
    losses = (sign * values).where(np.isfinite(values), math.inf)
    medians = inside["learning_rate"].map(losses.groupby(level=0).median())
    if not np.isfinite(medians).any():
        return inside, ""
    lowest = float(medians.min())
    found = format_number(sign * lowest)
    if len(inside) == 1:
        return inside, f"{name_metric(monitor)} {found}"
    seeds = losses[losses.index == inside["learning_rate"][medians.idxmin()]]
    seeds = seeds[np.isfinite(seeds)]
    error = float(seeds.std(ddof=1) / math.sqrt(len(seeds))) if len(seeds) > 1 else 0.0
    words = f"{name_metric(monitor)} within one standard error of the {best} inside the interval, {found}"
    return inside[medians <= lowest + error], words


def _interval(edges: Mapping[str, Edge], use: float, *, level: float, lowest: float, highest: float) -> tuple[float, float]:
    """The learning rates around ``use`` that are good on at least ``level`` of new seeds, from ``lowest`` to ``highest``."""

    def last_inside(limit: float) -> float:
        rates = np.geomspace(use, limit, 400)
        outside = np.flatnonzero([good_share(edges, rate) < level for rate in rates])
        return float(f"{rates[outside[0] - 1]:.4g}") if len(outside) and outside[0] else use if len(outside) else limit

    return min(last_inside(lowest), use), max(last_inside(highest), use)


def recommend_overall(
    recommendations: pd.DataFrame,
    cells: pd.DataFrame,
    edges: Mapping[int, Mapping[str, Edge]],
    *,
    unlike: str = "",
    together: bool = False,
) -> str:
    """For all batch sizes: a learning rate that serves them all, if there is one, and the soonest to arrive.

    unlike: why their seconds cannot be compared, from ``tell_unlike``; "" where they can. together: whether runs were trained
    together, whose seconds are shares of a fit and not what one run takes.

    The learning rate must lie inside the interval of every batch size; of those tried at every size the one is taken that is
    good on the largest share of new seeds at the size where it does worst. "" for fewer than two batch sizes.
    """
    sizes = sorted(edges)
    if len(sizes) < 2 or recommendations.empty:
        return ""
    seconds = recommendations["time_to_bottom_seconds"].astype(float)
    soonest = recommendations.loc[seconds.fillna(math.inf).idxmin()]
    fast = (
        "How long they took is not known for all of them."
        if seconds.isna().any()
        else f"By the clock they cannot be compared: runs were trained {unlike}."
        if unlike
        else ""
        if together
        else f"Soonest at the bottom by the clock: batch size {soonest['batch_size']} with"
        f" {format_number(soonest['learning_rate'])}, {format_seconds(soonest['time_to_bottom_seconds'])}."
    )
    low, high = recommendations["low"].max(), recommendations["high"].min()
    tried = set.intersection(*(set(group["learning_rate"]) for _, group in cells.groupby("batch_size")))
    shares = {
        rate: min(good_share(edges[size], rate) for size in sizes)
        for rate in sorted(tried)
        if low * (1 - 1e-9) <= rate <= high * (1 + 1e-9)
    }
    if len(recommendations) < len(sizes) or not shares:
        return f"No learning rate is inside the interval of every batch size: use each size's own. {fast}".strip()
    use = max(shares, key=lambda rate: shares[rate])
    ends = f"{format_number(low)} to {format_number(high)}"
    return f"For every batch size: {format_number(use)} ({ends} serves them all). {fast}".strip()


def judge_own(own: float | None, cells: pd.DataFrame) -> str:
    """One sentence on the learning rate the module has today, by the verdicts of what was tried on both sides of it.

    "" when it is not known or nothing was judged.

    >>> judge_own(0.05, pd.DataFrame({"batch_size": 32, "learning_rate": [0.01, 0.1], "verdict": ["too low", "good"]}))
    "The module's own learning rate, 0.05, is between too low and good."
    """
    if own is None or cells.empty:
        return ""
    sizes: dict[str, list[str]] = {}
    for size, group in cells.sort_values("learning_rate").groupby("batch_size"):
        below, above = group[group["learning_rate"] <= own * (1 + 1e-9)], group[group["learning_rate"] >= own * (1 - 1e-9)]
        if below.empty or above.empty:
            found = "outside the range that was tried"
        else:
            ends = [below["verdict"].iloc[-1], above["verdict"].iloc[0]]
            found = ends[0] if ends[0] == ends[1] else f"between {ends[0]} and {ends[1]}"
        sizes.setdefault(found, []).append(str(size))
    told = [found + (f" at batch size {', '.join(where)}" if len(sizes) > 1 else "") for found, where in sizes.items()]
    return f"The module's own learning rate, {format_number(own)}, is {'; '.join(told)}."


def price_errors(cells: pd.DataFrame, edges: Mapping[int, Mapping[str, Edge]], recommendations: pd.DataFrame) -> pd.DataFrame:
    """What it costs to use a tenth, half, twice or ten times the recommended learning rate.

    Columns: ``batch_size``; ``factor`` times the recommended; ``learning_rate``; ``verdict`` by the edges (missing outside
    the range tried); ``epochs`` and ``seconds`` to the bottom, inf for never within the budget, between two tried
    learning rates interpolated on log scales, and missing where only one of the two arrives; ``ratio`` to the
    recommended's epochs.
    """
    rows = []
    for use in recommendations.to_dict("records"):
        group = cells[cells["batch_size"] == use["batch_size"]].sort_values("learning_rate")
        an_epoch = use["time_to_bottom_seconds"] / use["time_to_bottom_epochs"] if use["time_to_bottom_epochs"] else math.nan
        for factor in FACTORS:
            rate = use["learning_rate"] * factor
            verdict, epochs = verdict_at(rate, group, edges[use["batch_size"]]), _time_at(rate, group)
            rows.append(
                {
                    "batch_size": use["batch_size"],
                    "factor": factor,
                    "learning_rate": rate,
                    "verdict": verdict,
                    "epochs": epochs,
                    "seconds": epochs * an_epoch,
                    "ratio": epochs / use["time_to_bottom_epochs"] if use["time_to_bottom_epochs"] else math.nan,
                }
            )
    return pd.DataFrame(rows, columns=list(COSTS))


def verdict_at(rate: float, cells: pd.DataFrame, edges: Mapping[str, Edge]) -> str | None:
    """The verdict of a learning rate: of its cell where it was tried, otherwise by the edges; None outside the range tried."""
    tried = cells["learning_rate"]
    if not tried.min() * (1 - 1e-9) <= rate <= tried.max() * (1 + 1e-9):
        return None
    exact = cells[np.isclose(tried, rate, rtol=1e-5)]
    if len(exact):
        return str(exact["verdict"].iloc[0])
    passed = sum(edges[name].share_below(rate) >= 0.5 for name in EDGES)
    return (TOO_LOW, GOOD, TOO_HIGH, DIVERGENT)[passed]


def _time_at(rate: float, cells: pd.DataFrame) -> float:
    """Epochs to the bottom at a learning rate, from its two neighbours; NaN where only one of them arrives."""
    tried, times = np.log(cells["learning_rate"].to_numpy(float)), cells["time_to_bottom_epochs"].to_numpy(float)
    at = math.log(rate)
    if not tried[0] - 1e-6 <= at <= tried[-1] + 1e-6:
        return math.nan
    right = min(int(np.searchsorted(tried, at - 1e-6)), len(tried) - 1)
    left = max(right - 1, 0) if tried[right] > at + 1e-6 else right
    if left == right or times[left] == times[right]:
        return float(times[right])
    if not (0 < times[left] < math.inf and 0 < times[right] < math.inf):
        return math.nan
    return float(np.exp(np.interp(at, tried[[left, right]], np.log(times[[left, right]]))))
