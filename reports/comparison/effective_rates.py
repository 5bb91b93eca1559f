"""Edges of studies that differ in the momentum of SGD, as they are and as effective rates: learning rate / (1 - momentum).

A gradient moves the weights by so much in all. At small batch sizes effective rates line the edges up, at large ones the
learning rates themselves do, so both are given.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.comparison.seed_tests import ENDS
from reports.judging.optimizer_scales import steps_in_all
from reports.style import format_number

Settings = Sequence[Mapping[str, Any]]
EFFECTIVE = "batch_size study quantity baseline value baseline_effective effective".split()
ALIKE = 0.1  # decades, about the spread of the seeds: of two that differ by less neither lines up better
PAIRS = (("value", "baseline"), ("effective", "baseline_effective"))
MOMENTUM = ("momentum", "nesterov")  # which is nothing without momentum


def effective_factors(optimizers: Mapping[str, Settings]) -> dict[str, float]:
    """By study, how many times its learning rates the effective ones are; empty unless momentum alone differs.

    optimizers: settings of each parameter group, as stored; the first study is the baseline. Studies that are as it is, and
    those that differ in other settings, are left out.
    """
    (baseline, first), *others = optimizers.items()
    factors = {name: _factor(settings) for name, settings in optimizers.items()}
    found: dict[str, float] = {}
    for name, settings in others:
        ours, theirs = factors[baseline], factors[name]
        if ours and theirs and not math.isclose(ours, theirs) and _without_momentum(first) == _without_momentum(settings):
            found |= {baseline: ours, name: theirs}
    return found


def _factor(settings: Settings) -> float | None:
    factors = {steps_in_all(each) for each in settings}
    return factors.pop() if len(factors) == 1 else None


def _without_momentum(settings: Settings) -> list[dict[str, Any]]:
    return [{name: value for name, value in each.items() if name not in MOMENTUM} for each in settings]


def effective_edges(summary: pd.DataFrame, factors: Mapping[str, float]) -> pd.DataFrame:
    """The edges of each study beside those of the first, as learning rates and as effective ones.

    summary: of ``Comparison``; factors: from ``effective_factors``. Columns: ``batch_size``, ``study``, ``quantity``, of
    ``ENDS``; ``baseline``, ``value``: the edge in the first and in this study; the same ``effective``. Edges that one of both
    does not have inside its range are left out.
    """
    rows = []
    baseline, *others = factors or [""]
    for size, group in summary.groupby("batch_size"):
        edges = group.set_index("study")
        for study in (name for name in others if {baseline, name} <= set(edges.index)):
            for quantity in ENDS:
                first, value = (float(edges[quantity.replace(" ", "_")][name]) for name in (baseline, study))
                if first > 0 and value > 0:
                    rows.append([size, study, quantity, first, value, first * factors[baseline], value * factors[study]])
    return pd.DataFrame(rows, columns=EFFECTIVE)


def tell_effective(table: pd.DataFrame, names: Mapping[str, str]) -> list[str]:
    """A sentence for each study: which of the two lines up better at each batch size; table: from ``effective_edges``."""
    told = []
    for study, rows in table.groupby("study", sort=False):
        raw, effective = (np.abs(np.log10(rows[a] / rows[b])) for a, b in PAIRS)
        parts = []
        apart = pd.DataFrame({"raw": raw, "effective": effective}).groupby(rows["batch_size"]).mean()
        for size, one, other in apart.itertuples():
            first, second = (format_number(each, digits=2) for each in (one, other))
            if abs(one - other) < ALIKE:
                way = f"neither way, {first} decades apart as learning rates and {second} as effective rates"
            elif one < other:
                way = f"as learning rates, {first} decades apart instead of {second}"
            else:
                way = f"as effective rates, {second} decades apart instead of {first}"
            parts.append(f"at batch size {size} {way}")
        told.append(
            f"SGD has another momentum in {names[str(study)]}. Edges line up better, as learning rates or as effective rates,"
            f" learning rate / (1 - momentum): {'; '.join(parts)}."
        )
    return told
