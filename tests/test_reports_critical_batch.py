"""Times to one common target: read off curves by hand, and the critical batch size of simulated runs with a known one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from conftest import tables
from scipy.stats import multivariate_normal

from reports.judging.critical_batch import TimeToTarget, fit_critical_batch, near_fastest, tell, time_to_target
from reports.judging.decided import BY_SEARCH
from reports.judging.verdicts import Thresholds, classify

SIZES = (8, 32, 128, 512, 1024)
Tables = tuple[pd.DataFrame, pd.DataFrame]


def line(steps: float, *, floor: float = 0.0, start: float = 1.0, n: int = 81) -> list[float]:
    """Heights at 81 times of 80 steps: straight down, at 0.1 above ``floor`` of 1 after ``steps``; then on the floor."""
    at = np.arange(n) * 80 / (n - 1)
    return list(np.maximum(start - (start - floor) * 0.9 * at / steps, floor))


def times(by_size: dict[int, Sequence[float]], thresholds: Thresholds | None = None, **of_line: float) -> TimeToTarget:
    """Of runs at two learning rates that take so many steps to the target, a seed each; the second takes twice as many."""
    cells = {(size, 0.1): [line(s, **of_line) for s in steps] for size, steps in by_size.items()}
    cells |= {(size, 0.2): [line(2 * s, **of_line) for s in steps] for size, steps in by_size.items()}
    return found(cells, thresholds)


def found(cells: dict[tuple[int, float], list[list[float]]], thresholds: Thresholds | None = None) -> TimeToTarget:
    runs, curves = tables(cells)
    return time_to_target(classify(runs, curves, thresholds), curves, thresholds)


def law(s_min: float, b_crit: float) -> dict[int, float]:
    return {size: s_min * (1 + b_crit / size) for size in SIZES}


def test_steps_epochs_and_seconds_are_those_of_a_straight_line_to_the_target() -> None:
    table = times({8: [20.0], 32: [10.0]}).table.set_index("batch_size")
    assert list(table["steps"]) == pytest.approx([20, 10])
    assert list(table["epochs"]) == pytest.approx([2.5, 1.25])  # 80 steps are 10 epochs and 2 seconds
    assert list(table["seconds"]) == pytest.approx([0.5, 0.25])
    assert list(table["learning_rate"]) == [0.1, 0.1]


def test_target_is_ninety_percent_of_the_way_to_the_highest_floor_used() -> None:
    deep, shallow = line(10.0), line(10.0, floor=0.05)
    both = found({(8, 0.1): [deep], (32, 0.1): [shallow]})
    assert both.target == pytest.approx(1 - 0.9 * 0.95) and not both.left_out
    strict = found({(8, 0.1): [deep], (32, 0.1): [shallow]}, Thresholds(tau=0.02))
    assert strict.target == pytest.approx(1 - 0.98) and list(strict.left_out) == [32]


def test_size_that_is_starved_is_left_out_by_name_and_does_not_lift_the_target() -> None:
    starved = found({(8, 0.1): [line(10.0)], (32, 0.1): [line(20.0)], (512, 0.1): [line(200.0)]})
    assert starved.target == pytest.approx(0.1)
    assert list(starved.table["batch_size"]) == [8, 32]
    assert any("batch size 512, within its budget it comes 3" in sentence for sentence in tell(starved))


def test_size_that_does_not_get_to_a_given_target_loss_is_left_out_by_name() -> None:
    cells = {(8, 0.1): [line(10.0)], (32, 0.1): [line(10.0, floor=0.5)]}
    some = found(cells, Thresholds(target_loss=0.2))
    assert some.target == pytest.approx(1 - 0.9 * 0.8) and list(some.table["batch_size"]) == [8]
    assert any("batch size 32, no learning rate gets there within its budget" in sentence for sentence in tell(some))


def test_size_where_every_run_diverges_is_left_out_by_name() -> None:
    some = found({(8, 0.1): [line(10.0)], (32, 0.1): [[1.0, 5.0, math.inf]]})
    assert some.left_out == {32: "no run goes down there"}


def test_median_seed_counts_and_a_seed_that_never_arrives_is_no_number() -> None:
    some = found({(8, 0.1): [line(10.0), line(12.0), [1.0] * 81], (32, 0.1): [line(10.0)] * 3})
    assert list(some.table["steps"]) == pytest.approx([12, 10]) and list(some.table["n_seeds"]) == [2, 3]


def test_lucky_single_run_is_not_the_fastest_learning_rate() -> None:
    cells = {(size, 0.1): [line(20.0), line(22.0)] for size in (8, 32)}
    cells |= {(size, 0.2): [line(10.0)] for size in (8, 32)}
    assert list(found(cells).table["learning_rate"]) == [0.1, 0.1]


def test_run_cut_by_the_search_counts_only_where_it_got_there() -> None:
    cells = {(8, 0.1): [line(40.0)], (8, 0.2): [line(60.0)], (8, 0.3): [line(20.0)], (32, 0.1): [line(40.0)]}
    runs, curves = tables(cells)
    kept = {1: 30, 2: 25}  # steps that two of them had; the first was not there yet
    curves = curves[curves["step"] <= curves["trial"].map(kept).fillna(80)]
    judged = classify(runs, curves)
    judged.loc[judged["trial"].isin(list(kept)), "ended_early"] = BY_SEARCH
    table = time_to_target(judged, curves).table
    assert list(table["steps"]) == pytest.approx([20, 40]) and list(table["learning_rate"]) == [0.3, 0.1]


def test_untrained_heights_that_differ_have_no_common_target() -> None:
    some = found({(8, 0.1): [line(10.0)], (32, 0.1): [line(10.0, start=1.5)]})
    assert some.table.empty and tell(some) == [
        "Times of the batch sizes cannot be compared: untrained heights of the batch sizes differ (1 and 1.5), so they have no"
        " height in common."
    ]


def test_heights_below_zero_as_of_an_accuracy_are_timed_alike() -> None:
    some = times({8: [20.0], 32: [10.0]}, start=-0.1, floor=-0.9)
    assert list(some.table["steps"]) == pytest.approx([20, 10]) and some.target == pytest.approx(-0.82)


def test_posterior_is_that_of_a_slow_likelihood_over_all_numbers() -> None:
    rng = np.random.default_rng(1)
    sizes = np.array([8.0, 32.0, 128.0, 512.0])
    values = [np.log10(30 * (1 + 60 / size)) + rng.normal(0, 0.04, 3) for size in sizes]
    places, crits = np.linspace(1.2, 1.8, 61), np.linspace(0.8, 2.8, 81)
    place, crit = np.meshgrid(places, crits, indexing="ij")
    total = np.zeros(place.shape)
    for misfit in np.linspace(-2.5, 2.5, 11):
        for seed in np.linspace(-2.5, 2.5, 11):
            off, apart = 0.04 * math.exp(0.8 * misfit), 0.04 * math.exp(seed)
            log = np.full(place.shape, -0.5 * misfit**2 - 0.5 * seed**2)
            for size, value in zip(sizes, values, strict=True):
                residuals = value - (place + np.log10(1 + 10**crit / size))[..., None]
                log += multivariate_normal.logpdf(residuals, cov=apart**2 * np.eye(3) + off**2)
            total += np.exp(log - 20)
    slow = [
        np.interp((0.5, 0.05, 0.95), np.cumsum(w) / w.sum() - w / w.sum() / 2, grid)
        for w, grid in ((total.sum(axis=1), places), (total.sum(axis=0), crits))
    ]
    s_min, b_crit, _ = fit_critical_batch(sizes, values)
    assert np.log10(s_min) == pytest.approx(slow[0], abs=0.005)
    assert np.log10(b_crit) == pytest.approx(slow[1], abs=0.02)


@pytest.mark.parametrize("misfit", [0.0, 0.05])
def test_ninety_percent_intervals_hold_the_numbers_that_were_simulated(misfit: float) -> None:
    rng, inside = np.random.default_rng(0), []
    sizes = np.array([8.0, 32.0, 128.0, 512.0, 1024.0])
    for _ in range(100):
        least, crit = 10 ** rng.uniform(1, 2), 10 ** rng.uniform(1, 2.5)
        centres = np.log10(least * (1 + crit / sizes)) + rng.normal(0, misfit, len(sizes))
        s_min, b_crit, _ = fit_critical_batch(sizes, [centre + rng.normal(0, 0.04, 3) for centre in centres])
        inside.append([s_min[1] <= least <= s_min[2], b_crit[1] <= crit <= b_crit[2]])
    shares = np.mean(inside, axis=0)
    assert (shares >= 0.84).all(), shares


def test_known_law_is_found_and_told_with_its_target() -> None:
    some = times({size: [steps, 1.02 * steps, steps / 1.02] for size, steps in law(8.0, 30.0).items()})
    assert some.why_not == "" and some.misfit < 0.02
    assert some.s_min[0] == pytest.approx(8, rel=0.05) and some.b_crit[0] == pytest.approx(30, rel=0.1)
    told = tell(some)
    assert told[0].startswith("The common target is a height of 0.1, 90 % of the way from 1, untrained")
    assert "The critical batch size to this target is 30 [" in told[1]


def test_three_sizes_are_too_few_to_tell() -> None:
    some = times({size: [law(8.0, 30.0)[size]] for size in SIZES[:3]})
    assert math.isnan(some.b_crit[0]) and len(some.table) == 3
    assert "cannot tell a critical batch size to this target: 3 of 3 batch sizes get there, at least 4" in tell(some)[1]


@pytest.mark.parametrize(("b_crit", "words"), [(1e-3, "below"), (1e6, "above")])
def test_critical_batch_size_far_from_the_sizes_tried_is_not_told(b_crit: float, words: str) -> None:
    some = times({size: [30 * (1 + b_crit / size) / (1 + b_crit / 8)] * 3 for size in (8, 9, 10, 11, 12)})
    assert f"its 90 % interval, {words}" in tell(some)[1] or "its 90 % interval, anywhere" in tell(some)[1]


def test_steps_that_follow_another_form_are_said_to_be_off() -> None:
    some = times({8: [10.0] * 3, 32: [30.0] * 3, 128: [8.0] * 3, 512: [25.0] * 3})
    assert some.misfit > 0.15 and "do not fall as S_min (1 + B_crit / B), which is off by" in tell(some)[1]


def test_fastest_learning_rate_at_the_end_of_the_range_is_told() -> None:
    assert any("the last of its range at batch size 8, 32:" in sentence for sentence in tell(times({8: [9.0], 32: [9.0]})))


def test_batch_sizes_near_the_fastest_are_those_within_one_and_a_half_times() -> None:
    table = pd.DataFrame({"batch_size": [8, 32, 128, 512], "seconds": [3.1, 2.0, 2.9, 9.0]})
    assert near_fastest(table) == [32, 128]


def test_seconds_are_told_only_where_runs_were_trained_alone_and_are_known() -> None:
    runs, curves = tables({(8, 0.1): [line(20.0)], (32, 0.1): [line(15.0)]})
    assert tell(time_to_target(classify(runs, curves), curves))[-1] == (
        "By the clock batch sizes 8, 32 take no more than 1.5 times as long as the fastest, here."
    )
    unknown = classify(runs.assign(seconds=math.nan), curves)
    assert tell(time_to_target(unknown, curves))[-1].endswith("cannot be told here: how long runs took is not known.")
    runs, curves = tables({(8, 0.1): [line(20.0)] * 3, (32, 0.1): [line(15.0)] * 3})
    fused = classify(runs.assign(member_of=[0, 0, 0, 3, 4, 5]), curves)
    assert "runs were trained 3 together at batch size 8, alone at batch size 32" in tell(time_to_target(fused, curves))[-1]
    fused = classify(runs.assign(member_of=[0, 0, 0, 3, 3, 3]), curves)
    assert tell(time_to_target(fused, curves))[-1].endswith(
        "runs were trained together, and their seconds are shares of a fit."
    )


def test_one_batch_size_and_no_run_say_nothing() -> None:
    assert tell(times({8: [10.0]})) == []
    runs, curves = tables({(8, 0.1): [line(10.0)]})
    assert tell(time_to_target(classify(runs.iloc[:0], curves.iloc[:0]), curves.iloc[:0])) == []
