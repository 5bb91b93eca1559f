"""Whether the promise held: the recommended learning rates and the ends of their intervals on seeds the study never saw."""

import numpy as np
import pandas as pd
from scipy.special import bdtr

from reports.judging.trust import Check
from reports.judging.verdicts import Thresholds, classify
from reports.style import GOOD, format_number

ROLES = {"recommended": "learning_rate", "low end": "low", "high end": "high"}
"""What is trained again, and the column of ``recommend`` that says at which learning rate."""

NAME = "self-check"
CHANCE = 0.05  # fewer good runs than this probability allows refute the share that was promised
SELF_CHECK = ("batch_size", "role", "learning_rate", "n_seeds", "n_good", "held")


def rates_to_check(recommendation: pd.Series) -> list[float]:
    """The learning rates of one row of ``recommend`` to train on fresh seeds, each once."""
    return sorted({float(recommendation[column]) for column in ROLES.values()})


def judge_self_check(
    recommendations: pd.DataFrame, cells: pd.DataFrame, runs: pd.DataFrame, curves: pd.DataFrame, thresholds: Thresholds
) -> pd.DataFrame:
    """Fresh runs judged by the floor and the fastest of the study they check.

    recommendations, cells: of the study; runs, curves: of the fresh seeds. One row a batch size and role: ``batch_size``,
    ``role`` (a key of ``ROLES``), ``learning_rate``, ``n_seeds`` (fresh runs at this learning rate), ``n_good`` of them,
    ``held``: every one good at the recommended learning rate; at the ends of its interval no fewer than chance allows, that
    is a binomial probability of at least 5 % if the share promised there (``interval_share``) is true.
    """
    sizes = set(recommendations["batch_size"]) & set(cells["batch_size"])
    judged = classify(runs[runs["batch_size"].isin(sizes)], curves, thresholds, against=cells)
    judged = judged[judged["verdict"].notna()]
    rows = []
    for use in recommendations.to_dict("records"):
        for role, column in ROLES.items():
            here = judged[(judged["batch_size"] == use["batch_size"]) & np.isclose(judged["learning_rate"], use[column])]
            n, good = len(here), int((here["verdict"] == GOOD).sum())
            held = 0 < n == good if role == "recommended" else bdtr(good, n, use["interval_share"]) >= CHANCE
            rows.append((use["batch_size"], role, use[column], n, good, bool(held)))
    return pd.DataFrame(rows, columns=list(SELF_CHECK))


def summarize_self_check(table: pd.DataFrame) -> Check:
    """The self-check as one line of the trust box; table as ``judge_self_check`` returns it, not empty."""
    if not table["n_seeds"].all():
        return Check(NAME, False, "it was made for another recommendation", {"self_check": 3})
    sums = table.assign(end=table["role"] != "recommended").groupby("end")[["n_good", "n_seeds"]].sum()
    (good, n), (good_ends, n_ends) = sums.loc[False], sums.loc[True]
    text = f"on {table['n_seeds'].max()} fresh seeds the recommended learning rate was good in {good} of {n} runs"
    text += f", the ends of its interval in {good_ends} of {n_ends}"
    failed = [
        f"{format_number(row.learning_rate)} at batch size {row.batch_size} in {row.n_good} of {row.n_seeds}"
        for row in table[~table["held"]].itertuples()
    ]
    return Check(NAME, not failed, text + (f"; not held: {', '.join(failed)}" if failed else ""), None)
