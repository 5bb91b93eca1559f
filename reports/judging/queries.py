"""Which runs to train next so that the edges are known for the least training: a pure function of what was trained.

The edges are thresholds with noise, each seed has its own, and a run tells on which side of all three it lies: threshold
estimation (QUEST+, Watson 2017), by the posterior of ``reports.judging.edges``. A run is worth the expected entropy of "this
seed's edge lies below here", summed over the edges, for each epoch that it takes. The order of things:

1. The race: a ladder of learning rates on the first seed, each for a sixteenth of the budget, the best quarter of them for a
   quarter (successive halving: Jamieson & Talwalkar 2016).
2. The best, later the fastest, on all seeds to the end: this gives a floor and a yardstick, which must not be a lucky seed's.
3. Until every seed's gap at every edge is narrow: the runs that are worth most, each until it is decided.
4. Controls beyond the divergent edge to the end, where runs above the fastest were cut; what may be recommended to the end.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import entr, ndtr

from reports.judging.decided import CUT, Query, Yardstick
from reports.judging.edges import EDGES, SPREAD_FACTOR, fit_edges, seed_gaps, weigh_centres
from reports.judging.followed import is_unfollowed
from reports.judging.recommendation import TO_GOOD, good_share, recommend
from reports.judging.verdicts import BEYOND, FINISHED, Thresholds, classify_both, find_yardsticks, was_cut
from reports.style import DIVERGENT, GOOD, TOO_LOW

RUNGS = 2  # of the ladder, a decade
HEATS = (1 / 16, 1 / 4)  # shares of the budget to which all rungs go, and then a quarter of them: with the last one to the
GOES_ON = 0.25  # end a race of twelve costs 2.5 full runs, though each heat is trained anew
GROWS = 10.0  # times, by which a range that may grow does so at an end
GAP = 2  # steps between the tried learning rates on both sides of an edge, at most
# Below the fastest the time to the bottom falls as 1 / learning rate, which tells where it is ``rho`` times the fastest's; in
# decades the standard error of that, and its growth a decade: chosen on MLPs on breast cancer, diabetes, iris and digits.
SLOWER = (0.1, 0.4)
SURER = 0.02  # share of new seeds: who is good on as many more is worth training to the end
DOUBT = 0.05  # how likely an edge is far from where the law of other batch sizes has it, against being right there
RARE = 1e-9  # a probability that counts as none
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Search:
    """What is looked for at one batch size.

    low, high: learning rates between which to look first; lowest, highest: ends to which that may grow, no further than it is
    unless given. per_decade: learning rates on a decade that may be tried. seeds: all of them. epochs: the budget of a run.
    exact: end no run early. thresholds: what the verdicts are given by. expected: where edges are likely by the law of other
    batch sizes: name, and mean and standard deviation in log10(learning rate).
    """

    low: float
    high: float
    seeds: Sequence[int]
    epochs: float
    lowest: float = math.inf
    highest: float = 0.0
    per_decade: int = 10
    exact: bool = False
    thresholds: Thresholds = Thresholds()
    expected: Sequence[tuple[str, float, float]] = ()

    @property
    def rates(self) -> Floats:
        """The learning rates that may be tried, ascending: both ends, and powers of ten between them."""
        first, last = (math.log10(end) * self.per_decade for end in (self.low, self.high))
        inner = 10 ** (np.arange(math.floor(first + 1e-6) + 1, math.ceil(last - 1e-6)) / self.per_decade)
        return np.array(sorted({float(f"{rate:.6g}") for rate in (self.low, *inner, self.high)}))

    def down(self) -> "Search":
        """With its lower end lowered, itself where that cannot be."""
        return replace(self, low=max(min(self.lowest, self.low), float(f"{self.low / GROWS:.6g}")))

    def up(self) -> "Search":
        """With its upper end raised, itself where that cannot be."""
        return replace(self, high=min(max(self.highest, self.high), float(f"{self.high * GROWS:.6g}")))


def next_queries(
    runs: pd.DataFrame, curves: pd.DataFrame, search: Search, *, n: int = 2, together: bool = False
) -> list[Query]:
    """What to train next, about ``n`` runs, none when the search is over.

    runs, curves: the tables of ``studies.tables`` of one batch size. The answer depends on them alone.
    together: they are trained in one fit, as long as its longest run: then those to the end have others beside them.
    """
    runs = runs[runs["state"].isin(FINISHED)].sort_values(["learning_rate", "seed"])
    if search.exact:
        runs = runs[~was_cut(runs)]
    yardstick = next(iter(find_yardsticks(runs, curves, search.thresholds).values()), None)
    if yardstick is None or not math.isfinite(yardstick.time):
        return _race(runs, curves, search, together)
    judged, cells = classify_both(runs, curves, search.thresholds)
    if is_unfollowed(judged).mean() > 0.5:  # whatever is asked, another learning rate is trained
        return []
    whole = judged[~was_cut(judged)]
    faster = cells[(cells["verdict"] == GOOD) & (cells["time_to_bottom_epochs"] < yardstick.time)]
    rates = yardstick.learning_rate, *faster.sort_values("time_to_bottom_epochs")["learning_rate"][:1]
    missing = next(filter(None, (_missing(whole, rate, search) for rate in rates)), [])
    if missing and not together:
        return missing
    search = _grown(judged, search)
    ends = None if search.exact else yardstick
    wanted = [Query(rate, seed, math.inf, ends) for rate, seed in _most_telling(judged, yardstick, search, n)]
    if missing or wanted:
        whole_ones = {query[:2] for query in missing}
        return [*missing, *(query for query in wanted if query[:2] not in whole_ones)]
    controls = [*_controls(judged, whole, yardstick, search)]
    if controls and not together:
        return controls
    return list(dict.fromkeys([*controls, *_confirm(judged, cells, whole, search)]))


def _missing(whole: pd.DataFrame, rate: float, search: Search) -> list[Query]:
    """The runs of a learning rate to the end that there are not."""
    done = set(whole.loc[np.isclose(whole["learning_rate"], rate, rtol=1e-9), "seed"])
    return [Query(float(rate), seed, math.inf) for seed in search.seeds if seed not in done]


def _race(runs: pd.DataFrame, curves: pd.DataFrame, search: Search, together: bool) -> list[Query]:
    """The next heat of the race; nothing where it is over and nobody has gone down."""
    rates, first = search.rates, search.seeds[0]
    rungs = sorted({*rates[:: max(search.per_decade // RUNGS, 1)].tolist(), float(rates[-1])})
    mine = runs.assign(whole=~was_cut(runs))[runs["seed"] == first].set_index("learning_rate")
    curves = curves[curves["metric"] == "height"].sort_values("step")
    heights = {rate: curves.loc[curves["trial"] == mine.loc[rate, "trial"], ["epoch", "value"]] for rate in mine.index}
    whole = set(mine.index[mine["whole"]])
    last = {rate: curve.iloc[-1] for rate, curve in heights.items() if rate not in whole and len(curve)}
    far = {rate: end["value"] for rate, end in last.items() if end["epoch"] >= HEATS[-1] * search.epochs * (1 - 1e-9)}
    if far:  # the last heat is over, or the budget was smaller before
        return _to_the_end(sorted(far, key=far.__getitem__)[: 1 + together], search)
    ahead, lost = rungs, list[float]()
    for share in HEATS[:1] if together else HEATS:
        until, at = (math.inf if search.exact else share * search.epochs), {}
        for rate in ahead:
            reached = heights[rate].query("epoch >= @until * (1 - 1e-9)") if rate in heights else pd.DataFrame()
            if len(reached) or rate in whole:  # or it ended by itself
                at[rate] = float(reached["value"].iloc[0] if len(reached) else heights[rate]["value"].iloc[-1])
        if short := [rate for rate in ahead if rate not in at]:
            return [Query(rate, first, until) for rate in short]
        ahead = sorted((rate for rate in ahead if math.isfinite(at[rate])), key=lambda rate: at[rate])
        if share == HEATS[0]:
            fell = [rate for rate in ahead if at[rate] < mine.loc[rate, "first_height"]]
            grown = search.down() if not fell or fell[0] == rungs[0] else search.up() if fell[0] == rungs[-1] else search
            if grown != search:
                return _race(runs, curves, grown, together)
            lost = [rate for rate in rungs if rate > max(fell, default=math.inf)][:2]
            ahead = ahead if together else ahead[: math.ceil(GOES_ON * len(rungs))]
    # One after the other until one has gone down; together two, and controls, as they cost little there.
    left = [rate for rate in ahead if rate not in whole][: 1 + together]
    return _to_the_end([*left, *(rate for rate in lost if together and left and rate not in whole)], search)


def _to_the_end(rates: Sequence[float], search: Search) -> list[Query]:
    return [Query(rate, seed, math.inf) for rate in rates for seed in search.seeds]


def _grown(judged: pd.DataFrame, search: Search) -> Search:
    """The search with its range grown where what was tried at an end does not show the verdict that is to be seen there."""
    tried = judged[judged["verdict"].notna()]
    low, high = tried["learning_rate"].min(), tried["learning_rate"].max()
    search = replace(search, low=min(search.low, low), high=max(search.high, high))
    if low == search.low and (tried.loc[tried["learning_rate"] == low, "verdict"] != TOO_LOW).any():
        search = search.down()
    if high == search.high and (tried.loc[tried["learning_rate"] == high, "verdict"] != DIVERGENT).any():
        search = search.up()
    return search


def _most_telling(judged: pd.DataFrame, yardstick: Yardstick, search: Search, n: int) -> Iterator[tuple[float, int]]:
    """Learning rates and seeds whose runs tell most of the edges for each epoch they take, best first, at most ``n``."""
    rates = search.rates
    logs, widest = np.log10(rates), (GAP + 1e-6) / search.per_decade
    known = judged[judged["verdict"].notna()]
    tried = judged[judged["verdict"].notna() | is_unfollowed(judged)]
    gaps = seed_gaps(known)[int(known["batch_size"].iloc[0])]
    seeds = sorted(known["seed"].unique())
    centres = np.linspace(logs[0] - 1, logs[-1] + 1, 300)
    below: dict[int, list[Floats]] = {seed: [] for seed in search.seeds}
    free = {seed: ~np.isin(rates, tried.loc[tried["seed"] == seed, "learning_rate"]) for seed in search.seeds}
    for name in EDGES:
        with np.errstate(divide="ignore"):
            ends = np.log10([gap[:2] for gap in gaps[name]])
        spreads, weights = weigh_centres(ends, centres, spread_factor=SPREAD_FACTOR)
        if name == TO_GOOD:
            weights = weights * _slower(known, yardstick, centres)[:, None]
            weights = weights / weights.sum()
        for expected, mean, sd in search.expected:
            if expected == name:  # no more than likely: an edge may lie elsewhere after all
                weights = weights * (DOUBT + np.exp(-0.5 * ((centres - mean) / sd) ** 2))[:, None]
                weights = weights / weights.sum()
        for seed in search.seeds:
            low, high = ends[seeds.index(seed)] if seed in seeds else (-math.inf, math.inf)
            inside = free[seed] & (logs > low + 1e-9) & (logs < high - 1e-9)
            if inside.any() and high - low > widest:
                shares = np.full(len(rates), math.nan)
                shares[inside] = _share_below(logs[inside], low, high, centres, spreads, weights)
                below[seed].append(shares)
    cost = _cost(rates, yardstick, search)
    chosen: dict[int, list[int]] = {seed: [] for seed in search.seeds}
    for _ in range(n):
        worth = {seed: (_gain(below[seed], chosen[seed], len(rates)) / cost).round(9) for seed in search.seeds}
        seed = max(worth, key=lambda seed: worth[seed].max())
        index = int(worth[seed].argmax())
        if worth[seed][index] <= 0:
            return
        chosen[seed].append(index)
        yield float(rates[index]), seed


def _slower(known: pd.DataFrame, yardstick: Yardstick, centres: Floats) -> Floats:
    """How likely each place is as the edge of too low by the slowest run that arrived, shape (n_centres,), at most 1."""
    arrived = known[np.isfinite(known["time_to_bottom"].astype(float)) & (known["learning_rate"] <= yardstick.learning_rate)]
    slowest = arrived.loc[arrived["learning_rate"].idxmin()]
    further = max(math.log10(yardstick.rho * yardstick.time / slowest["time_to_bottom"]), 0.0)
    z = (centres - (math.log10(slowest["learning_rate"]) - further)) / (SLOWER[0] + SLOWER[1] * further)
    likely: Floats = np.exp(-0.5 * np.clip(z, -8, 8) ** 2)
    return likely


def _share_below(logs: Floats, low: float, high: float, centres: Floats, spreads: Floats, weights: Floats) -> Floats:
    """The probability that a seed's edge lies below each place, as it lies between ``low`` and ``high``; shape (n_logs,)."""
    z = (logs[:, None, None] - centres[None, :, None]) / spreads
    lowest, highest = (ndtr((end - centres[:, None]) / spreads) for end in (low, high))
    mass = highest - lowest
    inside = (ndtr(z) - lowest) / np.where(mass > RARE, mass, 1.0)
    shares: Floats = (inside * np.where(mass > RARE, weights, 0.0)).sum((1, 2))
    return shares.clip(0.0, 1.0)


def _gain(below: Sequence[Floats], chosen: Sequence[int], n_rates: int) -> Floats:
    """What a run at each place adds to those chosen, in nats, shape (n_rates,): how it splits the edges' probabilities."""
    total: Floats = np.zeros(n_rates)
    for shares in below:
        places = sorted(index for index in chosen if not math.isnan(shares[index]))
        for left, right in zip([-1, *places], [*places, n_rates], strict=True):
            lowest, highest = shares[left] if left >= 0 else 0.0, shares[right] if right < n_rates else 1.0
            part, mass = shares[left + 1 : right], highest - lowest
            if mass > 0:
                split = np.clip((part - lowest) / mass, 0.0, 1.0)
                total[left + 1 : right] += np.nan_to_num(mass * (entr(split) + entr(1 - split)))
    return total


def _cost(rates: Floats, yardstick: Yardstick, search: Search) -> Floats:
    """Epochs that a run at each learning rate will take until it is decided, shape (n_rates,)."""
    if search.exact:
        return np.full(len(rates), float(search.epochs))
    slower = np.minimum(yardstick.time * yardstick.learning_rate / rates, yardstick.rho * yardstick.time)
    above = CUT * yardstick.time if yardstick.cuts_above else search.epochs
    return np.minimum(np.where(rates < yardstick.learning_rate, slower, above), search.epochs)


def _controls(judged: pd.DataFrame, whole: pd.DataFrame, yardstick: Yardstick, search: Search) -> Iterator[Query]:
    """The runs that must show that those above the fastest were not cut too soon: to the end, beyond the divergent edge.

    On every seed: with AdamW one seed alone misled in 1 of 4 searches, and with SGD most of them soon are not finite.
    """
    lost = judged[was_cut(judged) & (judged["verdict"] == DIVERGENT) & (judged["learning_rate"] > yardstick.learning_rate)]
    if lost.empty:
        return
    beyond = search.rates[search.rates >= BEYOND * 0.99 * lost["learning_rate"].min()]
    rate = float(beyond[0]) if len(beyond) else float(search.rates[-1])
    shown = set(whole.loc[whole["learning_rate"] >= rate * (1 - 1e-9), "seed"])
    yield from (Query(rate, seed, math.inf) for seed in search.seeds if seed not in shown)


def _confirm(judged: pd.DataFrame, cells: pd.DataFrame, whole: pd.DataFrame, search: Search) -> Iterator[Query]:
    """The recommended learning rate on all seeds to the end, and a surer one, if there is, with which it is compared."""
    edges = fit_edges(judged)
    for size, rate in recommend(judged, cells, edges)[["batch_size", "learning_rate"]].itertuples(index=False):
        rates = cells.loc[cells["verdict"] == GOOD, "learning_rate"]
        shares = [good_share(edges[size], each) for each in (rate, *rates)]
        surest = rates.iloc[int(np.argmax(shares[1:]))]
        yield from _missing(whole, rate, search)
        if max(shares) - shares[0] > SURER:
            yield from _missing(whole, surest, search)
