"""What speaks for a study and what against it: one line a check, passed or failed, and what to run next."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reports.judging.edges import COVERAGE
from reports.judging.followed import NO_VERDICT, is_unfollowed
from reports.judging.next_range import NextRange
from reports.judging.starved import FAR, starved_sizes, steps_to_come_as_far
from reports.judging.verdicts import FINISHED, Thresholds, ended_early, was_cut
from reports.style import DIVERGENT, GOOD, format_number

SEEDS = 3  # with three, the median verdict of a cell is not decided by one odd seed
STEP = 2.0  # between neighbouring learning rates near an edge: below rho = 3, so that a good range holds more than one
LONGER = 1.5  # what is needed now, times this: a longer run finds a lower floor, and it takes longer to get there
WRONG_SIDE = 0.05  # share of runs: more than an odd run or two of a default study's 51 a batch size
FEW_EARLY = 0.05  # share of the runs that were judged: as many may be odd
VALIDATION = 400  # examples: the standard error of a share is at most 0.5 / sqrt(n), 2.5 percentage points


class Check(NamedTuple):
    """One line of the trust box.

    sentence: what was found and the rule. changes: options of ``StudyConfig`` that would mend it, or None when no run would.
    """

    name: str
    passed: bool
    sentence: str
    changes: Mapping[str, Any] | None = None


def check_trust(
    runs: pd.DataFrame,
    cells: pd.DataFrame,
    edges: pd.DataFrame,
    recommendations: pd.DataFrame,
    thresholds: Thresholds,
    *,
    nexts: Mapping[int, NextRange],
    budget: str = "epochs",
    curves: pd.DataFrame | None = None,
) -> list[Check]:
    """The trust box of a study, from the tables of ``classify``, ``classify_cells``, ``find_edges`` and ``recommend``.

    nexts: from ``next_ranges``. budget: as in ``classify_both``. curves: without them nobody looks for starved batch sizes.
    Empty when no run has finished; when none that did has a verdict it says only why.
    """
    unjudged = [*_learning_rate(runs)]
    if cells.empty:
        return unjudged
    return [
        *unjudged,
        _seeds(cells, edges, bool(was_cut(runs).any())),
        _range(cells, edges, nexts),
        _grid(cells, edges, recommendations),
        _budget(runs, cells, thresholds, budget),
        *_starved(runs, cells, curves, budget),
        *_ended_early(runs),
        _edges(edges),
        _validation(runs),
    ]


def failures(checks: Sequence[Check]) -> list[str]:
    """What speaks against a study, a sentence for each check that failed."""
    return [f"not to be trusted yet, {check.name}: {check.sentence}" for check in checks if not check.passed]


def share_passed(checks: Sequence[Check]) -> str:
    """How many checks passed, in words."""
    return f"{sum(check.passed for check in checks)} of {len(checks)} checks passed"


def next_changes(checks: Sequence[Check]) -> dict[str, Any]:
    """Options of the study to run next that mends all failed checks together: of each the furthest that one of them asks for.

    >>> next_changes([Check("a", False, "", {"learning_rate": [0.1, 1]}), Check("b", False, "", {"learning_rate": [0.2, 9]})])
    {'learning_rate': [0.1, 9]}
    """
    found: dict[str, Any] = {}
    for check in checks:
        for option, value in (check.changes or {}).items():
            known = found.get(option, value)
            far = [min(known[0], value[0]), max(known[1], value[1])] if isinstance(value, list) else max(known, value)
            found[option] = far
    return found


def _learning_rate(runs: pd.DataFrame) -> Iterator[Check]:
    """Failed where finished runs have no verdict, as they stepped with another learning rate; there is nothing to pass."""
    finished = runs[runs["state"].isin(FINISHED)]
    without = finished[is_unfollowed(finished)]
    if len(without):
        first = without["reason"].iloc[0].removeprefix(NO_VERDICT)
        text = f"{len(without)} of {len(finished)} runs have no verdict; run {without['trial'].iloc[0]}: {first}"
        text += ". Look for what sets it: a scheduler, a callback, a limit, another attribute"
        yield Check("learning rate", False, text)


def _ended_early(runs: pd.DataFrame) -> Iterator[Check]:
    """Failed where more than a few runs were ended before their budget; there is nothing to pass."""
    judged = runs[runs["verdict"].notna()]
    early = judged[ended_early(judged) & ~was_cut(judged)]
    if len(early) > FEW_EARLY * len(judged):
        names = " and ".join(sorted(early["ended_early"].unique()))
        text = f"{names} ended {len(early)} of {len(judged)} runs before the budget"
        text += ": they make no floor and slow runs may look better than they are; leave it out of a study"
        yield Check("ended early", False, text)


def _seeds(cells: pd.DataFrame, edges: pd.DataFrame, searched: bool) -> Check:
    counts = edges["n_seeds"] if searched else cells["n_seeds"]  # a search trains each seed elsewhere, around its own edges
    fewest, place = int(counts.min()), "at every edge" if searched else "in every cell"
    seeds = f"{fewest} seed{'s' * (fewest != 1)} {place}" if fewest == counts.max() else f"{fewest} seeds in some"
    if fewest >= SEEDS:
        return Check("seeds", True, f"{seeds}; at least {SEEDS} outvote one odd seed")
    return Check("seeds", False, f"{seeds}; at least {SEEDS} are needed to outvote one odd seed", {"seeds": SEEDS})


def _range(cells: pd.DataFrame, edges: pd.DataFrame, nexts: Mapping[int, NextRange]) -> Check:
    tried = cells["learning_rate"]
    low, high = tried.min(), tried.max()
    down, up, wanted = [], [], []
    for size in sorted(cells["batch_size"].unique()):
        places = edges[edges["batch_size"] == size].set_index("edge")["learning_rate"]
        if size in nexts:
            lower, higher = nexts[size].low < low, nexts[size].high > high
            wanted.append(nexts[size][:2])
        else:
            good = (cells.loc[cells["batch_size"] == size, "verdict"] == GOOD).any()
            lower, higher = (good and math.isnan(places[edge]) for edge in ("too low to good", "good to too high"))
            wanted.append((low / 10 if lower else low, high * 10 if higher else high))
        down += [size] if lower else []
        up += [size] if higher else []
    span = f"{format_number(low)} to {format_number(high)}"
    if not (down or up):
        return Check("range", True, f"{span} holds both ends of the good range at every batch size where there is one")
    ends = [f"{side} at {_sizes(sizes)}" for side, sizes in (("lower end", down), ("upper end", up)) if sizes]
    goes_on = "go on" if (cells["verdict"] == GOOD).any() else "lie"
    sentence = f"the good range may {goes_on} beyond {span}: {' and '.join(ends)}"
    wider = [min(low for low, _ in wanted), max(high for _, high in wanted)]
    return Check("range", False, sentence, {"learning_rate": [float(f"{end:.6g}") for end in wider]})


def _grid(cells: pd.DataFrame, edges: pd.DataFrame, recommendations: pd.DataFrame) -> Check:
    steps = dict(_steps_at_edges(cells, edges))
    widest = max(steps.values(), default=1.0)
    narrow = recommendations.loc[recommendations["interval_share"] < COVERAGE, "batch_size"].tolist()
    apart = np.diff(np.log10(np.sort(cells["learning_rate"].unique())))
    finer = {"per_decade": math.ceil(2 / float(np.median(apart)) - 1e-3) if len(apart) else 2}
    if widest > STEP * 1.001:
        where = _sizes([size for size, step in steps.items() if step > STEP * 1.001])
        text = f"neighbours at an edge differ by a factor {format_number(widest)} at {where}, at most {STEP:g} is fine enough"
        return Check("grid", False, text, finer)
    if narrow:
        text = f"no learning rate tried is expected to be good on {100 * COVERAGE:g} % of new seeds at {_sizes(narrow)}"
        return Check("grid", False, f"{text}: the edges' intervals are too wide for so narrow a good range", finer)
    return Check("grid", True, f"neighbours at an edge differ by a factor {format_number(widest)}, at most {STEP:g}")


def _steps_at_edges(cells: pd.DataFrame, edges: pd.DataFrame) -> Iterator[tuple[int, float]]:
    """For each batch size the largest factor between two neighbours that an edge lies between."""
    for size, group in cells.groupby("batch_size"):
        tried = np.sort(group["learning_rate"].to_numpy(float))
        places = edges.loc[edges["batch_size"] == size, "learning_rate"].dropna()
        above = [int(np.searchsorted(tried, edge)) for edge in places]
        factors = [float(tried[k] / tried[k - 1]) for k in above if 0 < k < len(tried)]
        if factors:
            yield int(size), max(factors)


def _budget(runs: pd.DataFrame, cells: pd.DataFrame, thresholds: Thresholds, budget: str) -> Check:
    good = cells[cells["verdict"] == GOOD]
    fastest = good.groupby("batch_size")[f"time_to_bottom_{budget}"].min()
    length = float(runs.loc[runs["verdict"].notna(), budget].max())
    slow = fastest[thresholds.rho * fastest > length]
    had = f"{format_number(length)} {budget}"
    rule = f"{format_number(thresholds.rho)} x the time of the fastest"
    never = sorted(set(cells.loc[cells["verdict"] != DIVERGENT, "batch_size"]) - set(fastest.index))
    if never:
        text = f"no learning rate reached the bottom in {had} at {_sizes(never)}"
        return Check("budget", False, text, {budget: math.ceil(2 * length)})
    if good.empty:
        return Check("budget", False, f"every learning rate diverged: more {budget} would not help, lower learning rates would")
    if slow.empty:
        return Check("budget", True, f"{had} hold {rule}: who is too slow had the time to show it")
    needed = math.ceil(LONGER * thresholds.rho * slow.max())
    text = f"{had} are less than {rule} at {_sizes(slow.index.tolist())}"
    return Check("budget", False, f"{text}: slow cannot be told from too low there", {budget: needed})


def _starved(runs: pd.DataFrame, cells: pd.DataFrame, curves: pd.DataFrame | None, budget: str) -> Iterator[Check]:
    """Failed where the budget leaves batch sizes far above the floor of another one; there is nothing to pass."""
    shares = {} if curves is None else starved_sizes(runs, curves)
    if not shares:
        return
    steps, per_epoch = steps_to_come_as_far(runs, cells, list(shares))
    needed = steps if budget == "steps" else math.ceil(steps / per_epoch)
    judged = runs[runs["verdict"].notna()]
    names = ", ".join(f"{size} ({100 * share:.0f} %)" for size, share in sorted(shares.items()))
    text = (
        f"in {format_number(judged[budget].max())} {budget} the best runs at batch size {names} come less than {100 * FAR:g} %"
    )
    text += f" of the way of the best size and still fall: good means less there; they may need {needed:,} {budget}"
    text += "" if budget == "steps" else f", or {max(steps, int(judged['steps'].max())):,} steps at every size"
    yield Check("batch sizes", False, text, {budget: needed})


def _edges(edges: pd.DataFrame) -> Check:
    worst = edges.loc[edges["wrong_side"].idxmax()]
    share = f"{100 * worst['wrong_side']:.0f} % of the runs are on the wrong side of the worst edge"
    if worst["wrong_side"] == 0:
        return Check("edges", True, "clean: along the learning rate no run of any seed is on the wrong side of an edge")
    if worst["wrong_side"] <= WRONG_SIDE:
        return Check("edges", True, f"{share}, at most {100 * WRONG_SIDE:g} %")
    text = f"{share} ({worst['edge']}, batch size {worst['batch_size']}), at most {100 * WRONG_SIDE:g} % is clean"
    return Check("edges", False, text, {"seeds": 2 * int(edges["n_seeds"].max())})


def _validation(runs: pd.DataFrame) -> Check:
    counts = runs["validation_examples"].dropna() if "validation_examples" in runs else pd.Series(dtype=float)
    n = int(counts.max()) if len(counts) else 0
    if n == 0:
        text = "no validation examples were counted: the recommendation rests on training heights alone"
        return Check("validation", False, text)
    error = f"{n} validation examples: a share measured on them has a standard error of up to {50 / math.sqrt(n):.1f} points"
    if n >= VALIDATION:
        return Check("validation", True, f"{error}, at most 2.5")
    text = f"{error}, at most 2.5 is enough: hold out at least {VALIDATION} examples in your datamodule"
    return Check("validation", False, text)


def _sizes(sizes: list[int]) -> str:
    return f"batch size {', '.join(str(size) for size in sorted(sizes))}"
