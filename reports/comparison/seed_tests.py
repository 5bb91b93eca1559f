"""Tests of what differs between two studies: what each seed found by itself, then the seeds of both compared."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import false_discovery_control

from reports.comparison.significance import Gap, compare_edges, compare_means
from reports.judging.edges import EDGES, seed_gaps
from reports.judging.followed import HIGHEST
from reports.judging.judged import Judged
from reports.judging.judgements import metric_directions
from reports.judging.verdicts import classify_both, was_cut
from reports.style import GOOD, name_metric

FALSE_DISCOVERIES = 0.05  # of the differences said to exceed the seeds' spread, the share expected to be chance
METRICS = 3  # validation metrics compared: the monitored ones and the loss first

ENDS = dict(zip(("good begins", "good ends", "divergence begins"), EDGES, strict=True))
"""The three edges as they are called in comparisons, and in ``EDGES``."""

SHORTEST, LOWEST = "shortest time to bottom (epochs)", "lowest height (loss)"


def find_metrics(baseline: Judged, monitored: Sequence[str]) -> dict[str, int]:
    """Validation metrics of the baseline, the monitored and the loss first, with 1 where more is better, otherwise -1."""
    signs = {"val_loss": -1} | {name: direction.sign for name, direction in metric_directions(baseline.runs).items()}
    order = sorted(signs, key=lambda name: not any(words and words.endswith(name.removeprefix("val_")) for words in monitored))
    return {name: signs[name] for name in order}


def measure_seeds(judged: Judged, metrics: Mapping[str, int]) -> pd.DataFrame:
    """What every seed found: judged as a study of its own where it tried all learning rates of its batch size, as a grid does.

    A search tries others on each seed, around its own edges, so there the verdicts are the study's, and times, heights and
    metrics those of learning rates that all seeds were trained with to the end.

    Columns: ``batch_size``; ``seed``; by the quantities of the tests, the gap (two learning rates) that each edge lies
    in, the shortest time to bottom, the lowest final height and the best of each metric.
    metrics: by column of ``runs``, 1 where more is better and -1 where less is.
    """
    runs = judged.runs[judged.runs["verdict"].notna()]
    searched = bool(was_cut(runs).any())
    if not searched:
        tried = runs.groupby(["batch_size", "seed"])["learning_rate"].transform("nunique")
        runs = runs[tried == runs.groupby("batch_size")["learning_rate"].transform("nunique")]
    names = [*ENDS, SHORTEST, LOWEST, *metrics]
    if runs.empty:
        return pd.DataFrame(columns=["batch_size", "seed", *names])
    number = runs.groupby(["batch_size", "seed"]).ngroup()
    alone = runs.assign(batch_size=number)  # a seed stands where a batch size does
    if searched:
        whole = runs[~was_cut(runs)]
        on = whole.groupby(["batch_size", "learning_rate"])["seed"].transform("nunique")
        on_all = on == whole["batch_size"].map(runs.groupby("batch_size")["seed"].nunique())
        cells = alone.loc[whole.index[on_all]].rename(columns={"time_to_bottom": "time_to_bottom_epochs"})
    else:  # its cells are judged by each other only; all follow their learning rates
        curves = judged.curves[(judged.curves["metric"] == "height") & judged.curves["trial"].isin(runs["trial"])]
        alone, cells = classify_both(alone.drop(columns=HIGHEST, errors="ignore"), curves, judged.thresholds)
    rows = []
    for k, gaps in seed_gaps(alone).items():
        mine = cells[cells["batch_size"] == k]
        row: dict[str, Any] = runs.loc[number == k, ["batch_size", "seed"]].iloc[0].to_dict()
        row |= {name: gaps[edge][0][:2] for name, edge in ENDS.items()}
        row[SHORTEST] = mine.loc[mine["verdict"] == GOOD, "time_to_bottom_epochs"].min()
        row[LOWEST] = mine["final_height"].min()
        for metric in set(metrics) & set(mine):
            values = metrics[metric] * mine[metric].astype(float)
            row[metric] = metrics[metric] * values[np.isfinite(values)].max()
        rows.append(row)
    return pd.DataFrame(rows, columns=["batch_size", "seed", *names])


def compare_seeds(
    baseline: tuple[Judged, pd.DataFrame], study: tuple[Judged, pd.DataFrame], metrics: Sequence[str], *, losses: bool
) -> list[dict[str, Any]]:
    """The rows of ``Comparison.tests`` for one study, without its name.

    baseline, study: each with its ``measure_seeds``; metrics: columns there, of which the first ``METRICS`` that both have are
    compared; losses: whether those of the two are of one kind.
    """
    both = [name for name in metrics if baseline[1][name].notna().any() and study[1][name].notna().any()][:METRICS]
    numbers = {SHORTEST: SHORTEST, LOWEST: LOWEST} | {name: f"best {name_metric(name)}" for name in both}
    if not losses:
        numbers = {name: quantity for name, quantity in numbers.items() if name not in (LOWEST, "val_loss")}
    rows = []
    for size in sorted(set(baseline[0].cells["batch_size"]) & set(study[0].cells["batch_size"])):
        seeds = [found[found["batch_size"] == size] for _, found in (baseline, study)]
        bounds = [s.edges[s.edges["batch_size"] == size].set_index("edge") for s, _ in (baseline, study)]
        few = "fewer than two seeds tried every learning rate" if min(map(len, seeds)) < 2 else ""
        same = {"batch_size": size, "baseline_seeds": len(seeds[0]), "seeds": len(seeds[1])}
        for quantity, edge in ENDS.items():
            places, gaps = [table.loc[edge] for table in bounds], [list(table[quantity]) for table in seeds]
            rows.append(same | {"quantity": quantity} | _edge_row(places, gaps, few))
        for name, quantity in numbers.items():
            values = [table[name].to_numpy(float) for table in seeds]
            rows.append(same | {"quantity": quantity} | _number_row(values, few, as_ratio=name == SHORTEST))
    return rows


def _edge_row(places: Sequence["pd.Series[Any]"], gaps: Sequence[Sequence[Gap]], few: str) -> dict[str, Any]:
    """From an edge's rows of ``find_edges`` and its gaps; the ratio is the least it can be with an edge out of range."""
    baseline, value = (float(place["learning_rate"]) for place in places)
    row: dict[str, Any] = {"baseline": baseline, "value": value, "ratio": value / baseline, "note": few}
    if few:
        return row
    if math.isnan(row["ratio"]):
        (low, high), (other_low, other_high) = (
            (p["low"], p["high"]) if math.isnan(p["learning_rate"]) else (p["learning_rate"],) * 2 for p in places
        )
        least, most = other_low / high, other_high / low if low else math.inf
        row |= {"ratio": least if least > 1 else most if most < 1 else math.nan, "note": "at least"}
    p_value = compare_edges(*gaps)
    if math.isnan(row["ratio"]) or math.isnan(p_value):
        return row | {"note": "outside the range tried"}
    return row | {"p_value": p_value, "test": "edge posteriors"}


def _number_row(values: Sequence[npt.NDArray[np.float64]], few: str, *, as_ratio: bool) -> dict[str, Any]:
    baseline, value = (float(np.median(found)) if len(found) else math.nan for found in values)
    row: dict[str, Any] = {"baseline": baseline, "value": value, "note": few}
    row |= {"ratio": value / baseline if baseline else math.nan} if as_ratio else {"difference": value - baseline}
    missing = [int((~np.isfinite(found)).sum()) for found in values]
    if few or any(missing):
        which = " and ".join(f"{n} of {len(found)}" for n, found in zip(missing, values, strict=True))
        return row | {"note": few or f"no number in {which} seeds"}
    if as_ratio and min(found.min() for found in values) <= 0:
        return row | {"note": "at the bottom from the start"}
    p_value = compare_means(*(np.log(found) if as_ratio else found for found in values))
    if math.isnan(p_value):
        return row | {"note": "the same number in every seed of a study: there is no spread to compare with"}
    return row | {"p_value": p_value, "test": "t test" + (" of logarithms" if as_ratio else "")}


def adjust(tests: pd.DataFrame) -> pd.DataFrame:
    """``Comparison.tests``: p values adjusted for the number of rows of their study, and what exceeds the seeds' spread."""
    adjusted = tests["p_value"].astype(float)
    for _, found in adjusted.dropna().groupby(tests["study"]):
        adjusted[found.index] = false_discovery_control(found, method="bh")
    exceeds = (adjusted <= FALSE_DISCOVERIES).astype("boolean").where(adjusted.notna())
    return tests.assign(adjusted_p_value=adjusted, exceeds=exceeds, test=tests["test"].astype(object).fillna(""))
