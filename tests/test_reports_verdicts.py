"""Verdicts on hand-made curves whose answer a person can see, and on curves of the parabola, where it is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from conftest import four_verdicts, reference_tables, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.verdicts import Thresholds, classify, classify_cells, final_height, split_curves, time_to_bottom

INF = math.inf


def verdicts(runs: pd.DataFrame, curves: pd.DataFrame, thresholds: Thresholds | None = None) -> list[str]:
    return classify_cells(runs, curves, thresholds)["verdict"].tolist()


def test_each_of_the_four_curves_gets_its_verdict() -> None:
    judged = classify(*four_verdicts())
    assert judged["verdict"].tolist() == ["too low", "good", "too high", "divergent"]
    assert verdicts(*four_verdicts()) == judged["verdict"].tolist()


def test_reasons_carry_the_numbers() -> None:
    reasons = classify(*four_verdicts())["reason"].tolist()
    assert reasons == [
        "did not reach the bottom in 10 epochs: 10.0 % of the way to the floor at the end",
        "the fastest: reached the bottom after 1.89 epochs and stayed",
        "did not reach the bottom in 10 epochs: 50.0 % of the way to the floor at the end",
        "turned non-finite at step 3",
    ]


@pytest.mark.parametrize("named", [False, True], ids=["numbers", "names"])
def test_curves_are_split_into_those_that_grouping_by_trial_gives(named: bool) -> None:
    curves = reference_tables("digits_mlp")[1].sample(frac=1, random_state=0)
    curves = pd.concat([curves, curves.assign(metric="val_loss"), curves.head(3).assign(trial=None)])
    curves["trial"] = "t" + curves["trial"].astype(str) if named else curves["trial"].astype(float)
    found = split_curves(curves, "height")
    groups = dict(list(curves[curves["metric"] == "height"].sort_values("step", kind="stable").groupby("trial")))
    assert list(found) == list(groups)
    for trial, group in groups.items():
        np.testing.assert_array_equal(found[trial], group[["epoch", "value"]].to_numpy(float).T)
    assert split_curves(curves, "nothing") == split_curves(curves.head(0), "height") == {}


def test_classify_keeps_every_row_in_its_order_and_leaves_its_input_alone() -> None:
    runs, curves = four_verdicts()
    shuffled = runs.sample(frac=1, random_state=0)
    before = shuffled.copy(deep=True)
    judged = classify(shuffled, curves)
    assert judged["trial"].tolist() == shuffled["trial"].tolist() and judged.index.equals(shuffled.index)
    pd.testing.assert_frame_equal(shuffled, before)


def test_time_to_bottom_is_interpolated() -> None:
    assert time_to_bottom(np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.5, 1.0]), level=0.9) == pytest.approx(1.8)
    assert time_to_bottom(np.array([0.0, 1.0]), np.array([0.0, 0.5]), level=0.9) == INF


def test_final_height_is_the_median_of_the_last_tenth_and_at_least_three() -> None:
    assert final_height(np.arange(5.0), np.array([9.0, 8.0, 1.0, 5.0, 2.0])) == 2.0
    assert final_height(np.arange(101.0), np.arange(101.0)) == 95.0
    assert final_height(np.arange(3.0), np.array([1.0, INF, 1.0])) == INF


def test_slow_run_at_the_bottom_is_too_low_beyond_rho_times_the_fastest() -> None:
    slow = [2.0, 1.6, 1.2, 0.8, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    fast = [2.0] + [0.0] * 10
    cells = tables({(1, 0.1): [slow], (1, 1.0): [fast]})
    assert verdicts(*cells) == ["too low", "good"]
    assert verdicts(*cells, Thresholds(rho=5)) == ["good", "good"]


def test_run_that_leaves_the_bottom_did_not_stay() -> None:
    runs, curves = tables({(1, 0.1): [[2.0] + [0.0] * 9], (1, 1.0): [[2.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]]})
    assert verdicts(runs, curves) == ["good", "too high"]
    assert "did not stay" in classify(runs, curves)["reason"].tolist()[1]


def test_dead_network_above_the_fastest_is_divergent_and_the_same_curve_below_is_too_low() -> None:
    dead, good = [2.0, 2.1, 2.1, 2.1, 2.1], [2.0, 0.0, 0.0, 0.0, 0.0]
    assert verdicts(*tables({(1, 0.1): [dead], (1, 1.0): [good], (1, 10.0): [dead]})) == ["too low", "good", "divergent"]


def test_spike_that_recovers_is_not_divergent() -> None:
    catapult = [2.0, 50.0, 0.0, 0.0, 0.0, 0.0]
    assert verdicts(*tables({(1, 0.1): [[2.0, 0.1, 0.0, 0.0, 0.0, 0.0]], (1, 1.0): [catapult]})) == ["good", "good"]


def test_most_seeds_decide_and_one_bad_seed_does_not() -> None:
    fine, gone = [2.0, 0.0, 0.0, 0.0], [2.0, 9.0, INF]
    runs, curves = tables({(1, 0.1): [fine, fine, gone], (1, 1.0): [gone, gone, fine]})
    assert verdicts(runs, curves) == ["good", "divergent"]
    assert classify(runs, curves)["verdict"].tolist() == ["good", "good", "divergent", "divergent", "divergent", "good"]


def test_batch_sizes_are_judged_apart() -> None:
    runs, curves = tables(
        {(1, 0.1): [[2.0, 0.0, 0.0, 0.0]], (64, 0.1): [[2.0, 1.0, 1.0, 1.0]], (64, 1.0): [[2.0, 0.1, 0.1, 0.1]]}
    )
    assert verdicts(runs, curves) == ["good", "too low", "good"]


def test_crashed_trials_stay_without_a_verdict_and_say_why() -> None:
    runs, curves = four_verdicts()
    runs.loc[0, ["state", "error"]] = ["FAIL", "ValueError: no such label"]
    runs.loc[1, ["state", "first_height", "final_height"]] = ["RUNNING", None, None]
    judged = classify(runs, curves)
    assert judged["verdict"].isna().tolist() == [True, True, False, False]
    assert judged["reason"].tolist()[:2] == ["did not finish: ValueError: no such label", "did not finish: running"]


def test_all_divergent_and_no_finished_run_are_answered() -> None:
    runs, curves = tables({(1, 1.0): [[2.0, INF]], (1, 10.0): [[2.0, INF]]})
    assert verdicts(runs, curves) == ["divergent", "divergent"]
    assert classify_cells(runs.assign(state="FAIL"), curves).empty


def test_no_learning_rate_is_good_when_none_reaches_the_target() -> None:
    runs, curves = tables({(1, 0.1): [[2.0, 1.9, 1.8, 1.8]], (1, 1.0): [[2.0, 1.5, 1.5, 1.5]]})
    judged = classify_cells(runs, curves, Thresholds(target_loss=0.0))
    assert judged["verdict"].tolist() == ["too low", "too low"]
    assert "made the most progress" in judged["reason"].tolist()[1]


def test_constant_loss_never_counts_as_the_bottom() -> None:
    assert "good" not in verdicts(*tables({(1, 0.1): [[2.0, 2.0, 2.0]], (1, 1.0): [[2.0, 2.0, 2.0]]}))


@settings(deadline=None, max_examples=50)
@given(shift=st.floats(-1e3, 1e3), scale=st.floats(1e-2, 1e2))
def test_shifting_and_scaling_the_loss_changes_no_verdict(shift: float, scale: float) -> None:
    runs, curves = four_verdicts()
    moved = {name: runs[name] * scale + shift for name in ("first_height", "final_height")}
    judged = classify(runs.assign(**moved), curves.assign(value=curves["value"] * scale + shift))
    assert judged["verdict"].tolist() == ["too low", "good", "too high", "divergent"]


@settings(deadline=None, max_examples=100)
@given(eigenvalue=st.floats(1e-2, 1e2), start=st.floats(0.1, 10))
def test_parabola_gets_the_verdict_of_the_closed_form(eigenvalue: float, start: float) -> None:
    """Height of step k is lambda/2 theta^2 (1 - rate lambda)^(2k); rates are given as rate x lambda."""
    stability = [0.02, 0.5, 1.0, 1.9, 1.999, 2.02, 3.0]
    steps = np.arange(41)
    heights = {(1, x / eigenvalue): [eigenvalue / 2 * start**2 * np.abs(1 - x) ** (2.0 * steps)] for x in stability}
    expected = ["too low", "good", "good", "too high", "too high", "divergent", "divergent"]
    assert verdicts(*tables(heights, epochs=40)) == expected


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"tau": 0.0}, "tau must be above 0 and below 1, got 0"),
        ({"tau": math.nan}, "tau must be above 0 and below 1, got nan"),
        ({"rho": 0.5}, "rho must be at least 1 and finite, got 0.5"),
        ({"target_loss": INF}, "target_loss must be finite, got inf"),
    ],
)
def test_thresholds_out_of_range_are_refused(wrong: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Thresholds(**wrong)
