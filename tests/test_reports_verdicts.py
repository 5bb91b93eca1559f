"""Verdicts on hand-made curves whose answer a person can see, and on curves of the parabola, where it is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from conftest import four_verdicts, reference_tables, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.judging.final_height import final_height
from reports.judging.verdicts import Thresholds, classify, classify_cells, find_floors, split_curves, time_to_bottom

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


@pytest.mark.parametrize(("end", "share"), [(0.2001, "89.9"), (0.2019, "89.9"), (0.2, "90.0"), (1.8, "10.0"), (2.0, "0.0")])
def test_a_share_of_the_way_is_rounded_down_so_that_a_miss_never_reads_as_90_percent(end: float, share: str) -> None:
    """By a stricter tau, so that 90 % is a miss too and told."""
    cells = tables({(1, 0.1): [[2.0, *[end] * 10]], (1, 1.0): [[2.0, *[0.0] * 10]]})
    reason = classify(*cells, Thresholds(tau=0.05))["reason"][0]
    assert reason == f"did not reach the bottom in 10 epochs: {share} % of the way to the floor at the end"


def test_reasons_of_those_at_the_bottom_compare_them_with_the_fastest() -> None:
    fast, twice, slow = [2.0, *[0.0] * 10], [2.0, 1.0, *[0.0] * 9], [2.0, 1.6, 1.2, 0.8, 0.4, *[0.0] * 6]
    left, rose, gone = [2.0, 0.0, *[0.5] * 9], [2.0, 0.0, *[2.1] * 9], [2.0, 0.0, INF]
    reasons = classify_cells(*tables({(1, 0.1): [slow], (1, 0.5): [twice], (1, 1.0): [fast], (1, 2.0): [fast]}))["reason"]
    assert reasons.tolist() == [
        "needed 4.5 epochs to the bottom, more than 3 x the 0.9 of the fastest (1)",
        "reached the bottom after 1.8 epochs, 2.0 x the time of the fastest (1), and stayed",
        "the fastest: reached the bottom after 0.9 epochs and stayed",
        "reached the bottom after 0.9 epochs, 1.0 x the time of the fastest (1), and stayed",
    ]
    unlucky = classify(*tables({(1, 1.0): [*[fast] * 4, left, rose, gone]}))["reason"].tolist()[4:]
    assert unlucky == [
        "reached the bottom after 0.9 epochs but did not stay: 75.0 % of the way to the floor at the end",
        "reached the bottom after 0.9 epochs but did not stay: worse than untrained at the end",
        "turned non-finite at step 2",
    ]
    half_gone = classify_cells(*tables({(1, 0.1): [fast, [2.0, INF]], (1, 1.0): [fast, fast]}))["reason"][0]
    assert half_gone == "did not reach the bottom in 10 epochs: non-finite at the end"


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
    assert list(judged) == [*shuffled, "progress", "time_to_bottom", "verdict", "reason"]
    pd.testing.assert_frame_equal(shuffled, before)


def test_time_to_bottom_is_interpolated() -> None:
    assert time_to_bottom(np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.5, 1.0]), level=0.9) == pytest.approx(1.8)
    assert time_to_bottom(np.array([0.0, 1.0]), np.array([0.0, 0.5]), level=0.9) == INF
    assert time_to_bottom(np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.9, 0.0]), level=0.9) == 1.0


def test_time_to_bottom_after_a_height_that_is_not_finite_is_that_of_the_next_measurement() -> None:
    assert time_to_bottom(np.array([0.0, 1.0, 2.0]), np.array([0.0, -INF, 1.0]), level=0.9) == 2.0


def test_time_to_bottom_of_a_cell_is_told_in_steps_and_seconds_of_its_epochs() -> None:
    """80 steps and 2 seconds for 10 epochs, at the bottom after 0.9 of one; 6 seconds at the other batch size."""
    runs, curves = tables({(1, 0.1): [[2.0, *[0.0] * 10]], (64, 0.1): [[2.0, *[0.0] * 10]]})
    cells = classify_cells(runs.assign(seconds=[2.0, 6.0]), curves)
    assert cells["time_to_bottom_epochs"].tolist() == pytest.approx([0.9, 0.9])
    assert cells["time_to_bottom_steps"].tolist() == pytest.approx([7.2, 7.2])
    assert cells["time_to_bottom_seconds"].tolist() == pytest.approx([0.18, 0.54])


def test_final_height_is_the_median_of_the_last_tenth_and_at_least_three() -> None:
    assert final_height(np.arange(5.0), np.array([9.0, 8.0, 1.0, 5.0, 2.0])) == 2.0
    assert final_height(np.arange(101.0), np.arange(101.0)) == 95.0
    assert final_height(np.arange(3.0), np.array([9.0, 1.0, 5.0])) == 5.0
    long_last_step = np.array([0.0, 8.5, 9.0, 9.2, 9.4, 9.6, 20.0])
    assert final_height(long_last_step, np.array([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 1.0])) == 4.0
    assert final_height(np.arange(3.0), np.array([1.0, INF, 1.0])) == INF


def test_slow_run_at_the_bottom_is_too_low_beyond_rho_times_the_fastest() -> None:
    slow = [2.0, 1.6, 1.2, 0.8, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    fast = [2.0] + [0.0] * 10
    cells = tables({(1, 0.1): [slow], (1, 1.0): [fast]})
    assert verdicts(*cells) == ["too low", "good"]
    assert verdicts(*cells, Thresholds(rho=5)) == ["good", "good"]


@pytest.mark.parametrize(("height", "verdict"), [(0.6, "good"), (0.8, "too low")])
def test_good_run_needs_at_most_three_times_the_fastest(height: float, verdict: str) -> None:
    """The fastest is at the bottom after 0.9 epochs, so good are 2.7: from these heights at 2 epochs it takes 2.67 or 2.75."""
    slow, fast = [2.0, 1.2, height, *[0.0] * 8], [2.0, *[0.0] * 10]
    assert verdicts(*tables({(1, 0.1): [slow], (1, 1.0): [fast]})) == [verdict, "good"]


@pytest.mark.parametrize(("end", "verdict"), [(0.199, "good"), (0.201, "too low")])
def test_bottom_is_the_last_tenth_of_the_way(end: float, verdict: str) -> None:
    assert verdicts(*tables({(1, 0.1): [[2.0, *[end] * 10]], (1, 1.0): [[2.0, *[0.0] * 10]]})) == [verdict, "good"]


def test_fastest_must_stay_at_the_bottom() -> None:
    """Were the one that is there first and leaves again the fastest, the other would be six times too slow."""
    stays, leaves = [2.0, 1.7, 1.4, 1.1, 0.8, 0.5, *[0.0] * 5], [2.0, *[0.0] * 5, *[0.5] * 5]
    runs, curves = tables({(1, 0.1): [stays], (1, 1.0): [leaves]})
    assert verdicts(runs, curves) == ["good", "too high"]
    assert classify(runs, curves)["reason"][0].startswith("the fastest: ")


def test_run_that_leaves_the_bottom_did_not_stay() -> None:
    runs, curves = tables({(1, 0.1): [[2.0] + [0.0] * 9], (1, 1.0): [[2.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]]})
    assert verdicts(runs, curves) == ["good", "too high"]
    assert "did not stay" in classify(runs, curves)["reason"].tolist()[1]


def test_dead_network_above_the_fastest_is_divergent_and_the_same_curve_below_is_too_low() -> None:
    dead, good = [2.0, 2.1, 2.1, 2.1, 2.1], [2.0, 0.0, 0.0, 0.0, 0.0]
    assert verdicts(*tables({(1, 0.1): [dead], (1, 1.0): [good], (1, 10.0): [dead]})) == ["too low", "good", "divergent"]


def test_where_nothing_goes_down_all_that_rose_diverged_and_what_stood_still_did_not() -> None:
    """By the most progress the lowest would be the fastest, and too high; nor is what stands still above it divergent."""
    up, higher, still = [2.0, 2.1, 2.1, 2.1], [2.0, 3.0, 3.0, 3.0], [2.0, 2.0, 2.0, 2.0]
    runs, curves = tables({(1, 0.1): [up], (1, 1.0): [still], (1, 10.0): [higher]})
    assert verdicts(runs, curves) == ["divergent", "too low", "divergent"]
    assert classify(runs, curves)["verdict"].tolist() == ["divergent", "too low", "divergent"]
    assert verdicts(runs, curves, Thresholds(target_loss=0.0)) == ["divergent", "too low", "divergent"]
    reason = "ended above where it began, and no learning rate went down: height 2.1 against 2 at the start"
    assert classify(runs, curves)["reason"][0] == reason


def test_as_soon_as_one_goes_down_what_rose_a_little_below_it_is_too_low() -> None:
    up, down = [2.0, 2.1, 2.1, 2.1], [2.0, 1.99, 1.99, 1.99]
    assert verdicts(*tables({(1, 0.1): [up], (1, 1.0): [down], (1, 10.0): [up]})) == ["too low", "good", "divergent"]


@pytest.mark.parametrize(
    ("end", "verdict"), [(21.9, "too low"), (22.1, "divergent"), (1e30, "divergent"), (1e300, "divergent")]
)
def test_ten_times_the_way_above_the_start_is_divergent_below_the_fastest_too(end: float, verdict: str) -> None:
    good = [2.0, 0.0, 0.0, 0.0]
    runs, curves = tables({(1, 0.1): [[2.0, end, end, end]], (1, 1.0): [good]})
    assert verdicts(runs, curves) == [verdict, "good"]
    assert classify(runs, curves)["verdict"].tolist() == [verdict, "good"]


def test_height_too_large_for_its_ratio_to_the_way_is_still_finite() -> None:
    judged = classify(*tables({(1, 0.1): [[0.2, *[1.7e308] * 3]], (1, 1.0): [[0.2, *[0.1] * 3]]}))
    assert judged["progress"][0] == -np.finfo(float).max and judged["verdict"].tolist() == ["divergent", "good"]


def test_unlucky_seed_of_the_fastest_that_is_far_above_the_start_is_divergent() -> None:
    good = [2.0, 0.0, 0.0, 0.0]
    runs, curves = tables({(1, 0.1): [good, good, [2.0, 99.0, 99.0, 99.0], [2.0, 9.0, 9.0, 9.0], good]})
    assert classify(runs, curves)["verdict"].tolist() == ["good", "good", "divergent", "too high", "good"]
    assert "ended more than 10 times the way to the floor above untrained: height 99" in classify(runs, curves)["reason"][2]


def early(cells: dict[tuple[int, float], list[list[float]]], *trials: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of runs of which these were ended early."""
    runs, curves = tables(cells)
    return runs.assign(ended_early=runs["trial"].map(dict.fromkeys(trials, "EarlyStopping")).astype(object)), curves


def test_run_that_was_ended_early_makes_no_floor_and_says_who_ended_it() -> None:
    """By a floor of 0 the whole run would have come 75 % of the way; by its own it is at the bottom."""
    runs, curves = early({(1, 0.1): [[2.0, 0.5, 0.5, 0.5]], (1, 1.0): [[2.0, 0.0, 0.0, 0.0]]}, 1)
    assert classify_cells(runs, curves)["floor"].tolist() == [0.5, 0.5]
    judged = classify(runs, curves)
    assert judged["verdict"].tolist() == ["good", "good"]
    assert judged["reason"][1].endswith("; stopped by EarlyStopping after 10 epochs") and "stopped" not in judged["reason"][0]
    assert verdicts(runs.drop(columns="ended_early"), curves) == ["too low", "good"]


@pytest.mark.parametrize(
    "whole",
    [[], [[2.0, INF]], [[2.0, 3.0, 3.0, 3.0]], [[2.0, 2.0, 2.0, 2.0]]],
    ids=["none", "non-finite ones", "one that went up", "one that stood still"],
)
def test_where_no_whole_run_went_down_all_make_the_floor(whole: list[list[float]]) -> None:
    stopped = {(1, 0.1): [[2.0, 0.5, 0.5, 0.5]], (1, 1.0): [[2.0, 0.0, 0.0, 0.0]]}
    runs, curves = early(stopped | ({(1, 10.0): whole} if whole else {}), 0, 1)
    assert classify_cells(runs, curves)["floor"].eq(0.0).all()
    assert verdicts(runs, curves) == ["too low", "good", "divergent"][: len(runs)]


def test_non_finite_seeds_count_in_a_floor_of_whole_runs() -> None:
    """Two of three seeds exploded at the lowest learning rate, so its median is inf and the other makes the floor."""
    down = [2.0, 0.0, 0.0, 0.0]
    runs, curves = early({(1, 0.1): [down, [2.0, INF], [2.0, INF]], (1, 1.0): [[2.0, 0.5, 0.5, 0.5]] * 3})
    assert classify_cells(runs, curves)["floor"].tolist() == [0.5, 0.5]


def test_yardstick_keeps_the_floor_it_was_judged_by() -> None:
    runs, curves = early({(1, 0.1): [[2.0, 0.5, 0.5, 0.5]], (1, 1.0): [[2.0, 0.0, 0.0, 0.0]]}, 1)
    cells = classify_cells(runs, curves)
    fresh = tables({(1, 0.1): [[2.0, 0.6, 0.6, 0.6]]})
    assert classify(*fresh, against=cells)["verdict"].tolist() == ["good"]


def test_yardstick_is_the_floor_and_the_fastest_of_the_other_study() -> None:
    """By itself the run would be the best there is; the other study's fastest is above it and twice as low."""
    cells = classify_cells(*tables({(1, 0.01): [[2.0, 1.9, 1.9, 1.9]], (1, 1.0): [[2.0, 0.0, 0.0, 0.0]]}))
    fresh = tables({(1, 0.1): [[2.0, 1.0, 1.0, 1.0]]})
    judged = classify(*fresh, against=cells)
    assert judged["verdict"].tolist() == ["too low"] and judged["progress"].tolist() == [0.5]
    with pytest.raises(ValueError, match=r"^against must hold cells of every batch size of the runs, got \[1\] for 64$"):
        classify(fresh[0].assign(batch_size=64), fresh[1], against=cells)


def test_yardstick_may_have_a_single_cell() -> None:
    cells = classify_cells(*tables({(1, 1.0): [[2.0, 0.0, 0.0, 0.0]]}))
    assert classify(*tables({(1, 2.0): [[2.0, 1.0, 1.0, 1.0]]}), against=cells)["verdict"].tolist() == ["too high"]


def test_run_ended_early_by_its_explosion_ends_at_its_last_height() -> None:
    epochs, exploding = np.arange(6.0), np.array([2.0, 0.4, 0.1, 0.1, 0.1, 1.2])
    assert final_height(epochs, exploding) == 0.1
    assert final_height(epochs, exploding, ended_early=True) == 1.2
    settled = np.array([2.0, 0.4, 0.1, 0.1, 0.1, 0.28])  # less than a tenth of the way from 2 to 0.1 above it
    assert final_height(epochs, settled, ended_early=True) == 0.1
    assert final_height(epochs, np.array([2.0, 1.0, 1.0, 1.0, 1.0, 1.2]), ended_early=True) == 1.2
    assert final_height(epochs, np.array([10.0, 0.0, 0.0, 0.0, 0.0, 1.0]), ended_early=True) == 0.0  # just a tenth
    assert final_height(epochs, np.array([10.0, 0.0, 0.0, 0.0, 0.0, 1.1]), ended_early=True) == 1.1
    hovering = np.array([2.0, 0.0, 0.9, 0.8, 1.0, 0.5])  # above its lowest, yet below its median
    assert final_height(epochs, hovering, ended_early=True) == 0.8
    assert final_height(epochs, np.array([2.0, 3.0, 3.0, 4.0, 5.0, 9.0]), ended_early=True) == 9.0
    assert final_height(epochs, np.array([2.0, 3.0, 3.0, 4.0, 5.0, INF]), ended_early=True) == INF


@pytest.mark.parametrize(
    ("gone", "seeds", "verdict"), [(1, 2, "too low"), (2, 4, "too low"), (2, 3, "divergent"), (3, 4, "divergent")]
)
def test_divergent_is_a_cell_of_which_most_seeds_turned_non_finite_and_half_are_not_most(
    gone: int, seeds: int, verdict: str
) -> None:
    down = [2.0, 0.0, 0.0, 0.0]
    cell = [[2.0, INF]] * gone + [down] * (seeds - gone)
    assert verdicts(*tables({(1, 0.1): [*cell], (1, 1.0): [down] * seeds})) == [verdict, "good"]


def test_spike_that_recovers_is_not_divergent() -> None:
    catapult = [2.0, 50.0, 0.0, 0.0, 0.0, 0.0]
    assert verdicts(*tables({(1, 0.1): [[2.0, 0.1, 0.0, 0.0, 0.0, 0.0]], (1, 1.0): [catapult]})) == ["good", "good"]


def test_most_seeds_decide_and_one_bad_seed_does_not() -> None:
    fine, gone = [2.0, 0.0, 0.0, 0.0], [2.0, 9.0, INF]
    runs, curves = tables({(1, 0.1): [fine, fine, gone], (1, 1.0): [gone, gone, fine]})
    assert verdicts(runs, curves) == ["good", "divergent"]
    assert classify(runs, curves)["verdict"].tolist() == ["good", "good", "divergent", "divergent", "divergent", "good"]


def test_above_the_fastest_one_bad_seed_in_three_decides_nothing_and_one_in_two_does() -> None:
    """Of two the median is not finite."""
    fine, gone = [2.0, 0.0, 0.0, 0.0], [2.0, 9.0, INF]
    judged = classify_cells(*tables({(1, 0.1): [fine] * 3, (1, 1.0): [fine, fine, gone], (1, 2.0): [fine, gone]}))
    assert judged["verdict"].tolist() == ["good", "good", "divergent"]
    assert judged["reason"][2] == "turned non-finite at step 2 in 1 of 2 seeds"


def test_numbers_of_a_cell_are_medians_over_its_seeds() -> None:
    down, half, gone = [2.0, *[0.0] * 10], [2.0, *[1.0] * 10], [2.0, *[INF] * 10]
    seeds = {(64, 1.0): [down], (64, 0.1): [down, half], (8, 2.0): [gone, gone], (8, 1.0): [down] * 2, (8, 3.0): [gone, half]}
    runs, curves = tables(seeds)
    cells = classify_cells(runs.assign(val_loss=[0.0, 0.2, 0.6, *[None] * 2, 1.0, 3.0, 4.0, None]), curves)
    assert cells.index.tolist() == [0, 1, 2, 3, 4]
    assert cells["batch_size"].tolist() == [8, 8, 8, 64, 64] and cells["learning_rate"].tolist() == [1.0, 2.0, 3.0, 0.1, 1.0]
    assert cells["final_height"].tolist() == [0.0, INF, INF, 0.5, 0.0]
    assert cells["progress"].tolist() == [1.0, -INF, -INF, 0.75, 1.0]
    assert cells["time_to_bottom_epochs"].tolist() == pytest.approx([0.9, INF, INF, INF, 0.9])
    assert cells["val_loss"].tolist() == pytest.approx([2.0, math.nan, 4.0, 0.4, 0.0], nan_ok=True)
    counts = cells[["n_seeds", "n_nonfinite"]]
    assert counts.to_numpy().tolist() == [[2, 0], [2, 2], [2, 1], [2, 0], [1, 0]] and set(counts.dtypes) == {np.dtype(int)}


@pytest.mark.parametrize(
    ("unlucky", "verdict"),
    [
        ([2.0, *[2.0] * 10], "too low"),
        ([2.0, *[2.1] * 10], "too high"),
        ([2.0, 0.0, *[0.5] * 9], "too high"),
        ([2.0, 1.6, 1.2, 0.8, 0.4, *[0.0] * 6], "too low"),
    ],
    ids=["stands still", "below its start", "left the bottom", "slow"],
)
def test_unlucky_seed_of_the_fastest_overshot_only_if_it_rose_or_left_the_bottom(unlucky: list[float], verdict: str) -> None:
    down = [2.0, *[0.0] * 10]
    assert classify(*tables({(1, 0.1): [down, down, unlucky]}))["verdict"].tolist() == ["good", "good", verdict]


def test_standing_still_above_the_fastest_is_divergent_as_it_is_no_better_than_untrained() -> None:
    still = [2.0, 2.0, 2.0, 2.0]
    assert verdicts(*tables({(1, 0.1): [still], (1, 1.0): [[2.0, *[0.0] * 3]], (1, 2.0): [still]})) == [
        "too low",
        "good",
        "divergent",
    ]


def test_exactly_a_tenth_of_the_way_is_at_the_bottom() -> None:
    """9 of 10: as good as it gets here, measured once exactly there."""
    assert verdicts(*tables({(1, 0.1): [[10.0, 5.0, 1.0, 1.0, 1.0]]}), Thresholds(target_loss=0.0)) == ["good"]


def test_run_without_a_curve_is_judged_by_its_end() -> None:
    runs, curves = tables({(1, 0.1): [[2.0, 0.0, 0.0, 0.0]], (1, 1.0): [[2.0, 1.0, 1.0, 1.0]]})
    judged = classify(runs, curves[curves["trial"] == 0])
    assert judged["verdict"].tolist() == ["good", "too high"]
    assert judged["progress"].tolist() == [1.0, 0.5] and judged["time_to_bottom"][1] == INF


def test_floor_of_each_batch_size_is_known() -> None:
    runs, curves = tables({(1, 0.1): [[2.0, *[0.3] * 3]], (1, 1.0): [[2.0, *[0.5] * 3]], (64, 0.1): [[2.0, *[1.0] * 3]]})
    judged = classify(runs, curves)
    assert find_floors(judged, Thresholds()) == {1: 0.3, 64: 1.0}
    assert find_floors(judged, Thresholds(target_loss=0.1)) == {1: 0.1, 64: 0.1}
    assert find_floors(classify(runs.assign(state=["FAIL", "COMPLETE", "COMPLETE"]), curves), Thresholds()) == {1: 0.5, 64: 1.0}


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
    assert judged[["progress", "time_to_bottom"]].dtypes.tolist() == [float, float]
    assert judged["reason"].tolist()[:2] == ["did not finish: ValueError: no such label", "did not finish: running"]


def test_all_divergent_and_no_finished_run_are_answered() -> None:
    runs, curves = tables({(1, 1.0): [[2.0, INF]], (1, 10.0): [[2.0, INF]]})
    assert verdicts(runs, curves) == ["divergent", "divergent"]
    assert classify(runs, curves)["progress"].tolist() == [-INF, -INF]
    assert list(classify_cells(runs.assign(state="FAIL"), curves)) == list(classify_cells(runs, curves))
    assert classify_cells(runs.assign(state="FAIL"), curves).empty
    assert classify(runs.assign(state="FAIL", error=math.nan), curves)["reason"].tolist() == ["did not finish: fail"] * 2


def test_no_learning_rate_is_good_when_none_reaches_the_target() -> None:
    runs, curves = tables({(1, 0.1): [[2.0, 1.9, 1.8, 1.8]], (1, 1.0): [[2.0, 1.5, 1.5, 1.5]]})
    judged = classify_cells(runs, curves, Thresholds(target_loss=0.0))
    assert judged["verdict"].tolist() == ["too low", "too low"]
    assert "made the most progress" in judged["reason"].tolist()[1]
    assert judged["reason"][0].startswith("did not reach the bottom in 10 epochs: 10.0 % of the way")


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
        ({"tau": 1.0}, "tau must be above 0 and below 1, got 1"),
        ({"tau": math.nan}, "tau must be above 0 and below 1, got nan"),
        ({"rho": 0.5}, "rho must be at least 1 and finite, got 0.5"),
        ({"rho": INF}, "rho must be at least 1 and finite, got inf"),
        ({"target_loss": INF}, "target_loss must be finite, got inf"),
    ],
)
def test_thresholds_out_of_range_are_refused(wrong: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Thresholds(**wrong)


def test_fastest_alone_may_be_called_good() -> None:
    cells = tables({(1, 0.1): [[2.0, 0.5, *[0.0] * 9]], (1, 1.0): [[2.0, *[0.0] * 10]]})
    assert verdicts(*cells, Thresholds(rho=1)) == ["too low", "good"]
