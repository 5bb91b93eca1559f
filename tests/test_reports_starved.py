"""Batch sizes that a budget starves are named, with what would mend them; others are not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import tables

from reports.judging.judged import Judged, judge
from reports.judging.starved import starved_sizes
from reports.judging.trust import Check
from reports.judging.verdicts import Thresholds, classify

TIMES = np.linspace(0, 1, 11)
FAST = tuple(0.02 + 0.98 * np.exp(-20 * TIMES))  # at its floor after a fifth of the budget
SLOW = tuple(1 - 0.3 * TIMES)  # falls all the time, and comes 30 % of the way
FLAT = tuple(0.7 + 0.3 * np.exp(-20 * TIMES))  # comes as far, and stays there
LOST = (1.0, *[math.inf] * 10)
SLOWER = tuple(1 - 0.05 * TIMES)


def made(small: Sequence[float] = FAST, large: Sequence[float] = SLOW, *, others: Sequence[float] = SLOWER) -> Any:
    """Tables of batch sizes 16 and 1024, a learning rate below the best of each; the large one has a tenth of the steps."""
    cells = {(16, 0.1): [SLOWER] * 3, (16, 1.0): [small] * 3, (1024, 0.1): [others] * 3, (1024, 1.0): [large] * 3}
    runs, curves = tables(cells)
    runs["steps"] = np.where(runs["batch_size"] == 16, 800, 80)
    return runs, curves


def check_of(judged: Judged) -> Check | None:
    return next((check for check in judged.trust if check.name == "batch sizes"), None)


def test_a_size_that_comes_less_far_and_still_falls_is_starved() -> None:
    runs, curves = made()
    shares = starved_sizes(classify(runs, curves), curves)
    assert shares == starved_sizes(classify(runs, curves)) and list(shares) == [1024]
    assert shares[1024] == pytest.approx(0.3, abs=0.03)


def test_the_check_names_sizes_share_and_the_budget_that_would_mend_it() -> None:
    check = check_of(judge(*made()))
    assert check is not None and not check.passed
    assert "in 10 epochs the best runs at batch size 1024 (28 %) come less than 90 % of the way" in check.sentence
    # The best size is at its bottom after 0.12 of 800 steps, and half as many again are less than twice the 80 of the other,
    # whose epochs have 8.
    assert "may need 20 epochs, or 800 steps at every size" in check.sentence and check.changes == {"epochs": 20}
    in_steps = check_of(judge(*made(), budget="steps"))
    assert in_steps is not None and in_steps.changes == {"steps": 160} and "may need 160 steps" in in_steps.sentence


@pytest.mark.parametrize(
    ("small", "large", "others"),
    [(FAST, FAST, SLOWER), (FAST, LOST, LOST), (FAST, FLAT, SLOWER), (SLOW, SLOW, SLOWER), (LOST, LOST, LOST)],
    ids=["as far", "all diverge", "has stopped to fall", "all come as far", "nothing falls"],
)
def test_no_check_where_nothing_is_starved(small: Any, large: Any, others: Any) -> None:
    assert check_of(judge(*made(small, large, others=others))) is None


def test_no_check_of_a_single_size_of_other_losses_or_without_runs() -> None:
    runs, curves = made()
    assert check_of(judge(runs[runs["batch_size"] == 1024], curves)) is None
    double = runs["batch_size"] == 1024  # a loss that is a sum over the batch
    heights = curves["trial"].isin(runs.loc[double, "trial"]) & (curves["metric"] == "height")
    summed = runs.copy()
    summed.loc[double, ["first_height", "final_height"]] *= 64
    assert check_of(judge(summed, curves.assign(value=curves["value"].where(~heights, curves["value"] * 64)))) is None
    failed = classify(runs.assign(state="FAIL"), curves)
    assert starved_sizes(failed) == starved_sizes(failed, curves) == {}


def test_a_floor_that_is_given_hides_nobody() -> None:
    runs, curves = made()
    assert list(starved_sizes(classify(runs, curves, Thresholds(target_loss=0.5)), curves)) == [1024]


def test_runs_that_the_search_ended_make_no_floor() -> None:
    runs, curves = made()
    runs["ended_early"] = pd.Series(["the search" if rate == 0.1 else None for rate in runs["learning_rate"]], dtype=object)
    assert list(starved_sizes(classify(runs, curves), curves)) == [1024]
