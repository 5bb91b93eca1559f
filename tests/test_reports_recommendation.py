"""The recommended learning rate: good on seeds the study never saw, away from the edges, for a reason that is said."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import reference_tables, tables

from reports.judging.edges import Edge, fit_edges
from reports.judging.judged import judge
from reports.judging.recommendation import (
    COSTS,
    RECOMMENDATIONS,
    good_share,
    judge_own,
    price_errors,
    recommend,
    recommend_overall,
    verdict_at,
)
from reports.judging.verdicts import Thresholds, classify

DOWN, SLOW, FLAT, GONE = [2.0, 0.0, 0.0, 0.0, 0.0], [2.0, 1.0, 0.4, 0.0, 0.0], [2.0, 1.9, 1.9, 1.9, 1.9], [2.0, 9.0, math.inf]
Cells = dict[tuple[int, float], list[list[float]]]


def hill(size: int = 8, *, low: int = 3, good: int = 7, start: float = 1e-3, step: float = 1.5, seeds: int = 3) -> Cells:
    """Learning rates a factor ``step`` apart: ``low`` too low, ``good`` good ones, three divergent."""
    curves = [FLAT] * low + [DOWN] * good + [GONE] * 3
    return {(size, float(f"{start * step**k:.6g}")): [curve] * seeds for k, curve in enumerate(curves)}


def recommended(cells: Cells, *, monitor: str = "val_loss", mode: str = "min", **changes: dict[float, float]) -> dict[str, Any]:
    runs, curves = tables(cells)
    for name, values in changes.items():
        runs[name] = runs["learning_rate"].map(values).fillna(runs.get(name, math.nan))
    table = judge(runs, curves, monitor=monitor, mode=mode).recommendations
    assert list(table) == list(RECOMMENDATIONS)
    return dict(table.iloc[0].to_dict())


def test_recommended_is_inside_its_interval_far_from_divergence_and_sure() -> None:
    row = recommended(hill())
    rates = sorted(rate for _, rate in hill())
    assert row["low"] <= row["learning_rate"] <= row["high"] and row["learning_rate"] in rates[3:10]
    assert row["divergence_factor"] >= 2 and row["good_share"] >= 0.95 and row["interval_share"] == 0.9
    assert rates[3] <= row["low"] and row["high"] <= rates[9] / 2 * 1.5
    assert row["reason"].startswith(f"expected to be good on {math.floor(100 * row['good_share'])} % of new seeds")


def test_ends_of_the_interval_are_good_on_nine_new_seeds_in_ten() -> None:
    judged = judge(*tables(hill()))
    edges = fit_edges(judged.runs)[8]
    row = judged.recommendations.iloc[0]
    assert good_share(edges, row["low"]) == pytest.approx(0.9, abs=0.02)
    assert good_share(edges, row["high"]) >= 0.88
    assert good_share(edges, row["low"] / 1.1) < 0.9


def test_better_validation_loss_is_preferred_among_those_that_are_safe() -> None:
    rates = sorted(rate for _, rate in hill(good=9))
    safe = rates[5:8]
    for best in safe:
        row = recommended(hill(good=9), val_loss=dict.fromkeys(rates, 1.0) | {best: 0.5})
        assert row["learning_rate"] == best
        assert "validation loss within one standard error of the lowest inside the interval, 0.5" in row["reason"]


@pytest.mark.parametrize(
    ("monitor", "mode", "values", "words"),
    [
        (
            "val_accuracy",
            "max",
            (0.7, 0.95),
            "validation accuracy within one standard error of the highest inside the interval, 0.95",
        ),
        ("val_error", "min", (0.3, 0.05), "validation error within one standard error of the lowest inside the interval, 0.05"),
        ("my/odd name", "max", (-2.0, 0.0), "my/odd name within one standard error of the highest inside the interval, 0"),
    ],
    ids=str,
)
def test_better_monitored_metric_is_preferred_whatever_the_validation_loss(
    monitor: str, mode: str, values: tuple[float, float], words: str
) -> None:
    rates = sorted(rate for _, rate in hill(good=9))
    loss = dict.fromkeys(rates, 1.0) | {rates[5]: 0.5}
    for best in rates[6:8]:
        metric = {monitor: dict.fromkeys(rates, values[0]) | {best: values[1]}}
        row = recommended(hill(good=9), monitor=monitor, mode=mode, val_loss=loss, **metric)
        assert row["learning_rate"] == best and words in row["reason"].split("; ")
        assert "validation loss" not in row["reason"]


def test_monitored_metric_changes_nothing_but_the_recommendation() -> None:
    runs, curves = tables(hill(good=9))
    runs["val_accuracy"] = runs["trial"] / len(runs)
    by_loss, by_accuracy = judge(runs, curves), judge(runs, curves, monitor="val_accuracy", mode="max")
    for name in ("runs", "cells", "ranges", "edges", "judgements"):
        pd.testing.assert_frame_equal(getattr(by_loss, name), getattr(by_accuracy, name))
    assert by_loss.recommendations["learning_rate"].tolist() != by_accuracy.recommendations["learning_rate"].tolist()


@pytest.mark.parametrize("monitor", ["val_missing", "train_acc", "error"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_monitored_metric_that_no_run_has_decides_nothing(monitor: str, mode: str) -> None:
    without = tables(hill())[0].drop(columns=["val_loss", "val_accuracy"]), tables(hill())[1]
    expected = judge(*without).recommendations
    pd.testing.assert_frame_equal(judge(*tables(hill()), monitor=monitor, mode=mode).recommendations, expected)
    assert "standard error" not in expected["reason"][0]


def test_monitored_column_of_words_decides_nothing() -> None:
    runs, curves = tables(hill())
    expected = judge(runs, curves, monitor="val_missing").recommendations
    pd.testing.assert_frame_equal(judge(runs.assign(level="low"), curves, monitor="level").recommendations, expected)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_monitored_value_that_is_not_finite_is_the_worst(mode: str) -> None:
    rates = sorted(rate for _, rate in hill(good=9))
    some = dict.fromkeys(rates, math.inf) | {rates[6]: 0.5}
    row = recommended(hill(good=9), monitor="val_score", mode=mode, val_score=some)
    assert row["learning_rate"] == rates[6] and "inside the interval, 0.5" in row["reason"]
    row = recommended(hill(good=9), monitor="val_score", mode=mode, val_score=dict.fromkeys(rates, math.inf))
    assert "validation score" not in row["reason"]


@pytest.mark.parametrize("cells", [hill(), {(8, 0.1): [FLAT], (8, 1.0): [GONE]}], ids=["good", "nothing good"])
def test_unknown_mode_is_refused(cells: Cells) -> None:
    with pytest.raises(ValueError, match=r"^mode must be min or max, got 'most'$"):
        judge(*tables(cells), mode="most")


def test_validation_loss_never_buys_an_unsafe_learning_rate() -> None:
    rates = sorted(rate for _, rate in hill())
    row = recommended(hill(), val_loss=dict.fromkeys(rates, 1.0) | {rates[9]: 0.01})
    assert row["learning_rate"] <= rates[9] / 2


def edges_of(
    rates: Sequence[float], shares: Sequence[float], *, divergent: tuple[float, float] = (1e3, 1e5)
) -> dict[str, Edge]:
    """Edges by which learning rates are good on these shares of new seeds, rising, then falling, straight lines between them.

    divergent: one seed in twenty diverges below the one, nineteen below the other, half below their geometric middle.
    """
    rising = np.maximum.accumulate(shares)
    return {
        "too low to good": Edge(np.log10(rates), rising),
        "good to too high": Edge(np.log10(rates), rising - shares),
        "too high to divergent": Edge(np.log10(divergent), np.array([0.05, 0.95])),
    }


def by_hand(
    shares: dict[float, float],
    *,
    divergent: tuple[float, float] = (1e3, 1e5),
    val_loss: dict[float, list[float]] | None = None,
    tried: Sequence[float] = (),
) -> dict[str, Any]:
    """What is recommended where learning rates are good on these shares of new seeds.

    val_loss: of their seeds, all 1 by default. tried: further learning rates, which are not good.
    """
    rates, losses = list(shares), val_loss or dict.fromkeys(shares, [1.0])
    edges = edges_of(rates, list(shares.values()), divergent=divergent)
    each = [(rate, "good") for rate in rates] + [(rate, "too low") for rate in tried]
    cells = pd.DataFrame(each, columns=["learning_rate", "verdict"]).assign(
        batch_size=8, time_to_bottom_epochs=1.0, time_to_bottom_seconds=1.0
    )
    values = [(rate, loss) for rate, seeds in losses.items() for loss in seeds]
    runs = pd.DataFrame(values, columns=["learning_rate", "val_loss"]).assign(batch_size=8, verdict="good")
    return dict(recommend(runs, cells, {8: edges}).iloc[0].to_dict())


@pytest.mark.parametrize(("excess", "use"), [(0.055, 1.0), (0.060, 0.1)])
def test_equals_are_within_one_standard_error_of_the_best_and_the_surest_of_them_is_taken(excess: float, use: float) -> None:
    """The best one's seeds have a standard deviation of 0.1, so a standard error of 0.0577; with n in place of n - 1 0.047."""
    losses = {0.1: [0.4, 0.5, 0.6], 1.0: [0.5 + excess] * 3}
    assert by_hand({0.1: 0.96, 1.0: 0.99}, val_loss=losses)["learning_rate"] == use


@pytest.mark.parametrize(("share", "use"), [(0.952, 0.1), (0.948, 1.0)])
def test_learning_rate_that_is_good_on_95_of_100_new_seeds_is_sure_enough_to_be_chosen_by_its_loss(
    share: float, use: float
) -> None:
    losses = {0.1: [0.1], 1.0: [0.9]}
    assert by_hand({0.1: share, 1.0: 0.99}, val_loss=losses)["learning_rate"] == use


@pytest.mark.parametrize(("share", "level"), [(0.91, 0.9), (0.89, 0.5)])
def test_interval_is_of_nine_new_seeds_in_ten_where_the_learning_rate_itself_is(share: float, level: float) -> None:
    assert by_hand({0.1: 0.0, 1.0: share, 10.0: 0.0})["interval_share"] == level


def test_learning_rate_that_is_good_on_fewer_than_half_of_new_seeds_is_its_own_interval() -> None:
    row = by_hand({0.1: 0.0, 1.0: 0.4, 10.0: 0.0})
    assert row["learning_rate"] == row["low"] == row["high"] == 1.0 and row["interval_share"] == 0.5


def test_loss_that_most_seeds_do_not_have_finite_is_the_worst() -> None:
    losses = {0.1: [0.1, math.inf, math.inf], 1.0: [0.5, 0.5, 0.5], 10.0: [math.nan, math.nan, 0.6]}
    assert by_hand({0.1: 0.99, 1.0: 0.96, 10.0: 0.95}, val_loss=losses)["learning_rate"] == 1.0


def test_distance_is_a_factor_2_from_the_low_end_of_where_divergence_may_begin() -> None:
    """The low end is 4, so the best is 1.9 and the interval ends at 2; the middle is 40 and would allow all that are tried."""
    losses = {rate: [1 / rate] for rate in (0.1, 1.9, 2.1, 15.0)}
    row = by_hand({rate: 0.99 for rate in losses}, divergent=(4.0, 400.0), val_loss=losses)
    assert row["learning_rate"] == 1.9
    assert row["high"] == pytest.approx(2.0) and row["divergence_factor"] == pytest.approx(4.0 / 1.9)


def test_too_near_to_divergence_the_lowest_sure_learning_rate_is_taken() -> None:
    """However good the loss of the highest and however sure the one in the middle; 0.05 is lower, yet not sure."""
    shares, losses = {0.05: 0.9, 0.1: 0.96, 0.2: 0.99, 0.3: 0.96}, {0.05: [0.4], 0.1: [0.9], 0.2: [0.5], 0.3: [0.1]}
    row = by_hand(shares, divergent=(0.15, 15.0), val_loss=losses)
    assert row["learning_rate"] == 0.1 and row["divergence_factor"] == pytest.approx(1.5)
    assert row["reason"].endswith("the good range is too near to divergence to stay a factor 2 below it")


@pytest.mark.parametrize("divergent", [(0.15, 15.0), (1e3, 1e5)], ids=["too near to divergence", "far from it"])
@pytest.mark.parametrize("use", [0.123449, 0.123451], ids=["rounded down", "rounded up"])
def test_interval_holds_the_recommended_learning_rate_to_the_last_digit(use: float, divergent: tuple[float, float]) -> None:
    """Its ends are rounded to four digits, outwards and inwards, and the next learning rates on both sides are not good."""
    row = by_hand({use / 1.001: 0.0, use: 0.99, use * 1.001: 0.0}, divergent=divergent, tried=[0.01, 1.0])
    assert row["low"] <= row["learning_rate"] == use <= row["high"] < 0.124


def test_good_range_next_to_divergence_says_that_it_cannot_keep_its_distance() -> None:
    row = recommended(hill(good=3, step=1.3, seeds=9))
    assert row["divergence_factor"] < 2
    assert "too near to divergence" in row["reason"] or "too narrow" in row["reason"]


def test_learning_rate_above_the_place_where_divergence_may_begin_is_said_to_lie_above_it() -> None:
    row = recommended(hill(good=1, step=1.3))
    assert row["divergence_factor"] < 1
    told = f"a factor {1 / row['divergence_factor']:.3g} above the place where divergence may begin"
    assert (
        f"; {told}: none below that place is as sure to be good; " in row["reason"] and "below divergence" not in row["reason"]
    )


def test_learning_rate_below_divergence_is_said_to_lie_below_it() -> None:
    row = recommended(hill())
    assert f"; a factor {row['divergence_factor']:.3g} below divergence" in row["reason"]


def test_good_cell_between_divergent_ones_has_divergence_below_it_too() -> None:
    gone = [[2.0, 999.0, 999.0, 999.0]]
    row = recommended({(8, 0.1): gone, (8, 1.0): [DOWN], (8, 10.0): gone})
    assert row["divergence_factor"] == 0 and "above all places where divergence may begin" in row["reason"]


def test_narrow_good_range_gives_its_surest_learning_rate_and_an_honest_interval() -> None:
    row = recommended(hill(good=1, step=1.78))
    assert row["good_share"] < 0.9 and row["interval_share"] == 0.5
    assert "too narrow for 95 % of new seeds, so it is the surest learning rate in it" in row["reason"]


def test_nothing_good_recommends_nothing() -> None:
    judged = judge(*tables({(8, 0.1): [FLAT], (8, 1.0): [GONE]}), Thresholds(target_loss=0.0))
    assert judged.recommendations.empty and judged.costs.empty and judged.overall == ""


def test_where_none_diverged_the_distance_is_unknown_and_said() -> None:
    row = recommended({(8, 0.01): [FLAT] * 3, (8, 0.1): [DOWN] * 3, (8, 0.2): [DOWN] * 3})
    assert row["divergence_factor"] == math.inf and "divergence was not met" in row["reason"].split("; ")
    assert row["high"] <= 0.2, "nothing above the highest learning rate tried is promised"


def test_one_learning_rate_serves_all_batch_sizes_where_the_intervals_overlap() -> None:
    overall = judge(*tables(hill(8) | hill(16))).overall
    assert overall.startswith("For every batch size: ") and "serves them all" in overall
    assert "Soonest at the bottom by the clock: batch size 8" in overall
    runs, curves = tables(hill(8) | hill(16))
    fused = judge(runs.assign(member_of=runs["trial"].where(runs["batch_size"] == 16, 0)), curves).overall
    together = (runs["batch_size"] == 8).sum()
    assert (
        fused.endswith(f"runs were trained {together} together at batch size 8, alone at batch size 16.")
        and "Soonest" not in fused
    )
    apart = judge(*tables(hill(8) | hill(16, start=1.0))).overall
    assert apart.startswith("No learning rate is inside the interval of every batch size: use each size's own.")
    assert judge(*tables(hill(8))).overall == ""


def test_one_learning_rate_for_all_is_the_one_that_does_best_at_the_batch_size_where_it_does_worst() -> None:
    """0.1 is good on 80 % of new seeds at both; 1 on 99 and 70 %, better at its best and on average; 10 is in no interval."""
    rates = [0.1, 1.0, 10.0]
    edges = {8: edges_of(rates, [0.8, 0.99, 0.99]), 64: edges_of(rates, [0.8, 0.7, 0.99])}
    cells = pd.concat(pd.DataFrame({"batch_size": size, "learning_rate": rates}) for size in edges)
    each = {"learning_rate": 1.0, "time_to_bottom_seconds": [2.0, 1.0]}
    recommendations = pd.DataFrame({"batch_size": [8, 64], "low": [0.05, 0.1], "high": [1.0, 9.0], **each})
    only_one = recommend_overall(recommendations.assign(low=1.0), cells, edges)
    assert only_one.startswith("For every batch size: 1 (1 to 1 serves them all)."), "the ends belong to an interval"
    told = recommend_overall(recommendations, cells, edges)
    assert told.startswith(
        "For every batch size: 0.1 (0.1 to 1 serves them all). Soonest at the bottom by the clock: batch size 64"
    )


def test_price_of_a_wrong_learning_rate_is_told_in_epochs_and_seconds() -> None:
    rates = [0.01, 0.1, 1.0, 10.0]
    cells = {(8, rate): [curve] * 3 for rate, curve in zip(rates, (FLAT, SLOW, DOWN, GONE), strict=True)}
    judged = judge(*tables(cells), Thresholds(rho=20))
    costs = judged.costs.set_index("factor")
    assert list(judged.costs) == list(COSTS)
    assert judged.recommendations["learning_rate"].tolist() == [0.1]
    assert costs["learning_rate"].tolist() == pytest.approx([0.01, 0.05, 0.1, 0.2, 1.0])
    assert costs["verdict"].tolist() == ["too low", "good", "good", "good", "good"]
    slow, down = judged.cells["time_to_bottom_epochs"].tolist()[1:3]
    assert costs.loc[[0.1, 1.0, 10.0], "epochs"].tolist() == pytest.approx([math.inf, slow, down])
    assert costs.loc[[0.1, 1.0, 10.0], "ratio"].tolist() == pytest.approx([math.inf, 1.0, down / slow])
    assert math.isnan(costs.loc[0.5, "epochs"]), "0.01 never arrives and 0.1 does: nobody knows about 0.05"
    assert costs.loc[1.0, "seconds"] == pytest.approx(slow * 2.0 / 10)  # 2 s for 10 epochs


def test_price_and_verdict_of_every_factor_by_hand() -> None:
    """Time falls as a power of the learning rate; at half and twice the edges of at least half of the seeds decide."""
    times = {"time_to_bottom_epochs": [4.0, 1.0, 0.25], "verdict": ["too low", "good", "divergent"]}
    cells = pd.DataFrame({"batch_size": 8, "learning_rate": [0.1, 1.0, 10.0], **times})
    edges = {
        "too low to good": Edge(np.log10([0.1, 1.0]), np.array([0.0, 1.0])),
        "good to too high": Edge(np.log10([1.0, 4.0]), np.array([0.0, 1.0])),  # at 2 exactly half
        "too high to divergent": Edge(np.log10([2.0, 10.0]), np.array([0.0, 1.0])),
    }
    use = {"batch_size": [8], "learning_rate": 1.0, "time_to_bottom_epochs": 1.0, "time_to_bottom_seconds": 3.0}
    costs = price_errors(cells, {8: edges}, pd.DataFrame(use))
    epochs = [4.0, 4.0 ** math.log10(2), 1.0, 0.25 ** math.log10(2), 0.25]
    assert costs["batch_size"].tolist() == [8] * 5 and costs["factor"].tolist() == [0.1, 0.5, 1.0, 2.0, 10.0]
    assert costs["verdict"].tolist() == ["too low", "good", "good", "too high", "divergent"]
    assert costs["epochs"].tolist() == costs["ratio"].tolist() == pytest.approx(epochs)
    assert costs["seconds"].tolist() == pytest.approx([3 * each for each in epochs])
    assert [verdict_at(rate, cells, edges) for rate in (0.09, 0.1, 3.0, 9.0, 10.0, 11.0)] == [
        None,
        "too low",
        "too high",
        "divergent",
        "divergent",
        None,
    ]


def test_price_between_two_tried_rates_is_interpolated_on_log_scales_and_outside_unknown() -> None:
    cells = {(8, 0.1): [SLOW] * 3, (8, 0.4): [DOWN] * 3}
    judged = judge(*tables(cells), Thresholds(rho=20))
    costs = judged.costs.set_index("factor")
    slow, fast = judged.cells["time_to_bottom_epochs"]
    assert judged.recommendations["learning_rate"].tolist() == [0.1]
    assert costs.loc[2.0, "epochs"] == pytest.approx(math.sqrt(slow * fast))
    assert pd.isna(costs.loc[10.0, "verdict"]) and math.isnan(costs.loc[10.0, "epochs"])


def test_recommendation_from_two_seeds_is_good_on_the_third() -> None:
    """18 recommendations on the reference grids; the label of all three seeds is good, and so is the third seed's own verdict.

    95 % are promised, so one odd seed is no refutation: wine at batch size 1, seed 0, whose good range begins late.
    """
    verdicts = []
    for case, third in itertools.product(("digits_mlp", "wine_b1", "diabetes_linear"), range(3)):
        runs, curves, labels = reference_tables(case)
        known, new = runs[runs["seed"] != third], runs[runs["seed"] == third]
        alone = classify(new, curves)
        for row in judge(known, curves).recommendations.to_dict("records"):
            assert labels[row["batch_size"], row["learning_rate"]] == "good"
            here = (new["batch_size"] == row["batch_size"]) & (new["learning_rate"] == row["learning_rate"])
            verdicts += alone.loc[here, "verdict"].tolist()
    assert len(verdicts) == 18 and verdicts.count("good") >= 17


OWN = [
    (0.1, "good at batch size 16; too low at batch size 64."),
    (0.05, "between too low and good at batch size 16; too low at batch size 64."),
    (0.001, "outside the range that was tried."),
    (20.0, "outside the range that was tried."),
    (10.0, "divergent."),
]


@pytest.mark.parametrize(("own", "told"), OWN)
def test_own_learning_rate_of_the_module_is_told_by_what_was_tried_beside_it(own: float, told: str) -> None:
    verdicts = {16: ["too low", "good", "good", "divergent"], 64: ["too low", "too low", "good", "divergent"]}
    cells = pd.concat(
        pd.DataFrame({"batch_size": size, "learning_rate": [0.01, 0.1, 1.0, 10.0], "verdict": names})
        for size, names in verdicts.items()
    )
    assert judge_own(own, cells) == f"The module's own learning rate, {own:g}, is {told}"
    assert judge_own(None, cells) == judge_own(own, cells.head(0)) == ""
