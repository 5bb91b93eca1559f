"""What a study cost, and what other ways to an answer would have: runs, examples seen and seconds, side by side."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.judging.edges import seed_gaps
from reports.judging.verdicts import FINISHED, ended_early, was_cut
from reports.style import format_number, format_seconds

THIS, AS_FINE, COARSE, ONCE, RANGE_TEST = "this study", "full grid as fine", "default grid", "one full run", "range test"
LEDGER = {"way": object, "per_decade": float, "runs": "Int64", "examples": "Int64", "seconds": float, "share": float}
PER_DECADE = 4  # of a grid whose density nobody said, as in ``StudyConfig``
STEPS = 100  # of a range test, by default in Lightning and in torch-lr-finder
NOTE = (
    "Examples are counted each time they were seen, but for those of what was measured before the first run. The grid as fine"
    " would leave the same gaps, on average, around the edges of the seeds; both grids span what was tried here, on as many"
    f" seeds, each run to the end; a range test takes {STEPS} steps at each batch size. Times of other ways are estimates from"
    " this study's seconds an example, for grids from its fastest fit: where runs are fused a grid trains more of them together"
    " and may be several times faster."
)


def keep_ledger(runs: pd.DataFrame, *, per_decade: float | None = None) -> pd.DataFrame:
    """A row a way to an answer: this study, and where a search ended runs early four others; runs as ``classify`` returns them.

    Columns: ``way``; ``per_decade``, learning rates a decade of a grid; ``runs``; ``examples`` seen in training, each time;
    ``seconds``; ``share``, the examples of this study over those of that way. The ways: this study; a full grid as fine; one
    of ``PER_DECADE`` a decade; one full run, the mean of the batch sizes; a range test of ``STEPS`` steps a batch size.

    A full run sees the median of the examples of finite runs that nobody ended, or that only others than the search did where
    there is no such run; at a batch size without one as many as at others. What is not known is missing, such as the examples
    of a grid where no run is full. Without a finished run the table is empty.

    per_decade: of the grid as fine. By default the mean gap between two learning rates tried that a seed's edge lies in (those
    of a clean threshold), as a grid so fine would leave the same gaps. The smallest gap would flatter the search, whose gaps
    are not all that small, and two learning rates may be neighbours by chance where the range ends.
    """
    done = _trained(runs)
    rows: list[dict[str, Any]] = []
    if len(done):
        own = {"runs": len(done), "examples": done["all_examples"].sum(), "seconds": done["all_seconds"].sum(skipna=False)}
        rows.append({"way": THIS, **own, "share": 1.0})
        if was_cut(done).any():
            density = _density(runs) if per_decade is None else per_decade
            rows += _other_ways(done, own["examples"], density)
    return pd.DataFrame(rows, columns=list(LEDGER)).astype(LEDGER)


def describe_ledger(ledger: pd.DataFrame) -> str:
    """What the study cost in a sentence, compared with a grid where it was a search; "" where nothing has finished."""
    ways = ledger.set_index("way").astype(float)
    if ways.empty:
        return ""
    if not ways["share"].reindex([AS_FINE, ONCE]).notna().all():
        n, examples, seconds = ways.loc[THIS, ["runs", "examples", "seconds"]]
        runs = "1 run" if n == 1 else f"{n:.0f} runs"
        took = f", {format_seconds(seconds)}" if seconds > 0 else ""  # else nobody knows
        return f"This study took {runs}: {examples:,.0f} examples seen in training{took}."
    full, share, density = ways.loc[ONCE, "share"], ways.loc[AS_FINE, "share"], ways.loc[AS_FINE, "per_decade"]
    return (
        f"This study took {format_number(full)} full runs' worth of training, {format_number(100 * share)} % of the full grid"
        f" of the same resolution ({format_number(density, digits=2)} learning rates a decade)."
    )


def _trained(runs: pd.DataFrame) -> pd.DataFrame:
    """The finished runs with what each took, as floats; examples that are not known are 0, seconds missing.

    ``examples`` and ``seconds``; ``all_examples`` and ``all_seconds``, with what it took before it was trained again; ``full``,
    the examples of those that are full.
    """
    done = runs[runs["state"].isin(FINISHED)]
    examples = _number(done, "examples").fillna(_number(done, "steps") * done["batch_size"])
    took = done.assign(examples=examples.fillna(0.0), seconds=_number(done, "seconds"))
    return took.assign(
        all_examples=took["examples"] + _number(done, "examples_before").fillna(0.0),
        all_seconds=took["seconds"] + _number(done, "seconds_before").fillna(0.0),
        full=examples.where(_is_full(done)),
    )


def _is_full(done: pd.DataFrame) -> "pd.Series[bool]":
    """Which runs saw as many examples as the budget holds."""
    finite = np.isfinite(_number(done, "final_height")) & _number(done, "nonfinite_at").isna() & ~was_cut(done)
    whole = finite & ~ended_early(done)
    return whole | (finite & ~whole.groupby(done["batch_size"]).transform("any"))


def _number(runs: pd.DataFrame, name: str) -> "pd.Series[float]":
    """A column as floats, all missing where there is none."""
    column = runs[name] if name in runs else pd.Series(math.nan, index=runs.index)
    return pd.to_numeric(column, errors="coerce").astype(float)


def _density(runs: pd.DataFrame) -> float:
    """Learning rates a decade of a grid that leaves the same gaps around the edges of the seeds; NaN where none is known."""
    gaps = [gap for edges in seed_gaps(runs).values() for found in edges.values() for gap in found]
    widths = [math.log10(high / low) for low, high, wrong in gaps if not wrong and 0 < low < high < math.inf]
    return 1 / float(np.mean(widths)) if widths else math.nan


def _other_ways(done: pd.DataFrame, own: float, density: float) -> Iterator[dict[str, Any]]:
    """A row each; own: the examples of this study."""
    sizes = done.groupby("batch_size")
    rates = np.log10(sizes["learning_rate"].agg(["min", "max"]).astype(float))
    full = sizes["full"].median().fillna(sizes["full"].median().median())
    mean = _seconds_each(done, ["batch_size"])
    least = _seconds_each(done, ["batch_size", *(["member_of"] if "member_of" in done else [])]).groupby(level=0).min()

    def row(
        way: str, runs: "pd.Series[float]", examples: "pd.Series[float]", each: "pd.Series[float]", per_decade: float = math.nan
    ) -> dict[str, Any]:
        seen = examples.sum(skipna=False)
        return {
            "way": way,
            "per_decade": per_decade,
            "runs": np.round(runs.sum(skipna=False)),  # the sixths of a run make no whole one
            "examples": round(seen) if seen == seen else seen,
            "seconds": (examples * each).sum(skipna=False),
            "share": own / seen if seen else math.nan,
        }

    for way, fine in ((AS_FINE, density), (COARSE, float(PER_DECADE))):
        runs = (((rates["max"] - rates["min"]) * fine).round() + 1) * sizes["seed"].nunique()
        yield row(way, runs, runs * full, least, fine)
    one = pd.Series(1.0, index=full.index)
    yield row(ONCE, one / len(one), full / len(one), mean)
    yield row(RANGE_TEST, one, one * STEPS * full.index.to_numpy(float), mean)


def _seconds_each(done: pd.DataFrame, by: Sequence[str]) -> "pd.Series[float]":
    """Seconds an example, of all runs of a group whose time was kept; missing where none was."""
    sums = done[done["seconds"].notna()].groupby(list(by))[["seconds", "examples"]].sum()
    return (sums["seconds"] / sums["examples"]).where((sums > 0).all(axis=1))
