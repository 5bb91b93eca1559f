"""Whether runs stepped with the learning rates that were asked for: where they did not, a verdict would be of another one."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports.style import format_number

HIGHEST = "highest_learning_rates"
NO_VERDICT = "no verdict: "  # how a reason begins that is none of a verdict
AGREE = 0.01  # relative: warm-ups that end one step apart do not differ by more, a cap or a peak of its own does
MOVED = 1e-6  # of the largest height: heights are stored with seven digits
SEVERAL = 3  # heights: a network that saturates in its first step stands at the same height whatever the step was

Floats = npt.NDArray[np.float64]


def find_unfollowed(runs: pd.DataFrame, heights: Mapping[Any, tuple[Floats, Floats]]) -> dict[Any, str]:
    """By their index the runs that have no verdict because of the learning rate they stepped with, and a sentence each.

    runs: finished ones of one study; heights: by trial its epochs and heights. Each group of parameters of a run has a
    factor: the highest learning rate it stepped with over the one that was asked. Runs of a batch size follow where their
    factors are the one that most learning rates share; one that ended early or turned non-finite may lie below it, as its
    warm-up may not have been over. Where no two learning rates share a factor none follows, non-finite runs left aside; where
    fewer than two were tried nothing is known. Nor has a learning rate an effect whose heights are those of another one, of
    the same seed.

    A table without the column ``highest_learning_rates`` says nothing of this, so nothing is found.
    """
    if HIGHEST not in runs:
        return {}
    found: dict[Any, str] = {}
    for _, group in runs.groupby("batch_size"):
        for index, sentence in _with_other_factors(group):
            found.setdefault(index, sentence)
    rest = runs.drop(index=list(found))
    return found | dict(_without_effect(rest, heights))


def is_unfollowed(runs: pd.DataFrame) -> "pd.Series[bool]":
    """Which finished runs, as ``classify`` returns them, have no verdict because of the learning rate they stepped with."""
    without = runs["verdict"].isna()
    return without & runs["reason"].astype(str).str.startswith(NO_VERDICT) if "reason" in runs else without


def _with_other_factors(runs: pd.DataFrame) -> Iterator[tuple[Any, str]]:
    steps = runs[HIGHEST].dropna().map(lambda text: [float(part) for part in str(text).split("; ")])
    n_groups = steps.map(len)
    for number in range(int(n_groups.max()) if len(steps) else 0):
        rows = runs.loc[n_groups.index[n_groups > number]]
        rates, highest = rows["learning_rate"].astype(float), steps[rows.index].str[number].astype(float)
        factors = (highest / rates).fillna(np.inf)
        finite = rows["nonfinite_at"].isna()
        whole = finite & (rows["ended_early"].isna() if "ended_early" in rows else True)
        asked = whole if rates[whole].nunique() > 1 else finite
        if rates[asked].nunique() < 2:
            continue
        shared = _shared(factors[asked].to_numpy(), rates[asked].to_numpy())
        if shared is None:
            astray, others = finite, "and no two learning rates by the same factor"
        else:
            astray = (factors > shared * (1 + AGREE)) | (whole & (factors < shared * (1 - AGREE)))
            others = f"others x{format_number(shared)}"
        where = f" in parameter group {number + 1}" if n_groups.max() > 1 else ""
        for index in rows.index[astray]:
            most, rate, factor = map(format_number, (highest[index], rates[index], factors[index]))
            told = f"{NO_VERDICT}stepped with at most {most}{where} where {rate} was asked (x{factor}, {others})"
            yield index, f"{told}: the learning rate does not follow what the study asks"


def _shared(factors: Floats, rates: Floats) -> float | None:
    """The factor that the most distinct learning rates have, None if no two have the same; of several the highest."""
    best, most = None, 2
    for factor in sorted({float(f"{factor:.4g}") for factor in factors if np.isfinite(factor)}):
        n = len(np.unique(rates[np.abs(factors - factor) <= AGREE * factor]))
        if n >= most:
            best, most = factor, n
    return best


def _without_effect(runs: pd.DataFrame, heights: Mapping[Any, tuple[Floats, Floats]]) -> Iterator[tuple[Any, str]]:
    alike: dict[tuple[Any, ...], dict[Any, float]] = {}
    for index, trial, size, seed, rate in runs[["trial", "batch_size", "seed", "learning_rate"]].itertuples():
        if trial not in heights:
            continue
        epochs, values = heights[trial]
        if not np.isfinite(values).all() or len(np.unique(values)) < SEVERAL:  # what diverges does so whatever else it does
            continue
        if float(values.max()) - float(values.min()) <= MOVED * np.abs(values).max():
            continue
        alike.setdefault((size, seed, epochs.tobytes(), values.tobytes()), {})[index] = float(rate)
    for rates in alike.values():
        for index, rate in rates.items():
            others = [other for other in rates.values() if other != rate]
            if others:
                equal = f"its heights equal those at {format_number(min(others))}"
                yield index, f"{NO_VERDICT}{equal}: the learning rate has no effect"
