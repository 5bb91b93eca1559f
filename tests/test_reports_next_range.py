"""Where to look next when nothing is good: on parabolas, whose edge is known, and on curves a person can see."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from conftest import tables

from reports.judging.judged import Judged, judge
from reports.judging.next_range import NextRange, divergence_begins, next_ranges
from reports.judging.verdicts import Thresholds, classify_both

INF = math.inf
Cells = dict[tuple[int, float], list[list[float]]]
STEPS = (0, 1, 2, 4, 8, 16)
TARGET = Thresholds(target_loss=0.0)


def at_steps(cells: Cells) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Heights at the steps that training measures; epochs of 8 steps."""
    runs, curves = tables(cells, epochs=2)
    number = curves.groupby("trial").cumcount()
    steps = number.map(dict(enumerate(STEPS)))
    return runs, curves.assign(step=steps, epoch=steps / 8)


def found(cells: Cells, thresholds: Thresholds | None = None, *, size: int = 8) -> NextRange | None:
    runs, curves = at_steps(cells)
    return next_ranges(*classify_both(runs, curves, thresholds), curves).get(size)


def parabola(curvature: float, rate: float, *, power: int = 2, start: float = 3.0) -> list[float]:
    with np.errstate(over="ignore"):
        return [float(start * np.abs(1 - rate * curvature) ** float(power * step)) for step in STEPS]


@pytest.mark.parametrize("rate", [0.3, 3.0, 3e4, 3e9], ids=str)
def test_edge_of_a_parabola_is_found_from_one_learning_rate_however_far_away(rate: float) -> None:
    edge = divergence_begins({rate: math.log(abs(1 - rate * 10.0)) * 2})
    assert edge == pytest.approx(2 / 10.0, rel=1e-9)


def test_range_holds_a_hundredth_and_four_times_the_edge_and_nothing_above_the_lowest_tried() -> None:
    further = found({(8, rate): [parabola(10.0, rate)] for rate in (2.0, 20.0, 200.0)})
    assert further is not None and further[:2] == (0.002, 0.8)
    assert further.why == "by how far the first step rose, heights begin to fall near 0.2"
    near = found({(8, rate): [parabola(10.0, rate)] for rate in (0.3, 3.0)})
    assert near is not None and near[:2] == (0.002, 0.3)


@pytest.mark.parametrize("power", [4, 6], ids=["two layers", "three layers"])
def test_power_of_a_deep_network_is_read_from_the_next_learning_rate(power: int) -> None:
    """By the square alone the edge would be thought to lie at 2e-5 or 2e-8 instead of at 0.2."""
    far = {rate: [parabola(10.0, rate, power=power)] for rate in (1e3, 1e4)}
    further = found({(8, rate): curves for rate, curves in far.items()})
    assert further is not None and further.low == pytest.approx(0.002, rel=0.1) and further.high == pytest.approx(0.8, rel=0.1)
    alone = found({(8, 1e3): far[1e3]})
    assert alone is not None and alone.high < 1e-3


def test_learning_rates_beside_each_other_tell_no_power() -> None:
    """Two seeds' noise, 1 % apart in the learning rate, would be read as a power of 200."""
    assert divergence_begins({1.0: math.log(81.0), 1.01: math.log(81.0) + 2}) == pytest.approx(0.2)


def test_learning_rate_twice_as_high_tells_the_power() -> None:
    assert divergence_begins({1.0: math.log(9.0**4), 2.0: math.log(19.0**4)}) == pytest.approx(0.2)


def test_edge_just_below_the_lowest_is_found_from_a_small_rise_and_told_in_two_digits() -> None:
    """The curvature is 7, so the edge lies at 0.2857, and a step at 0.3 raises the height by a fifth."""
    further = found({(8, rate): [parabola(7.0, rate)] for rate in (0.3, 3.0)})
    assert further == NextRange(0.0029, 0.3, "by how far the first step rose, heights begin to fall near 0.29")


def test_growth_over_several_steps_is_shared_by_them() -> None:
    runs, curves = at_steps({(8, rate): [parabola(10.0, rate)] for rate in (2.0, 20.0)})
    later = curves[curves["step"] != 1]
    assert next_ranges(*classify_both(runs, later), later)[8][:2] == (0.002, 0.8)


def test_batch_sizes_are_looked_at_apart() -> None:
    """The one in the middle is good where it began with a leap, at a learning rate at which the others only rise."""
    rises = {(size, rate): [parabola(10.0, rate)] for size in (8, 64) for rate in (2.0, 20.0)}
    leaps = {(16, 2.0): [[3.0, 1e9, 0.0, 0.0, 0.0, 0.0]], (16, 20.0): [parabola(10.0, 20.0)]}
    runs, curves = at_steps(rises | leaps)
    ranges = next_ranges(*classify_both(runs, curves), curves)
    assert {size: further[:2] for size, further in ranges.items()} == {8: (0.002, 0.8), 64: (0.002, 0.8)}


def test_single_learning_rate_that_only_fell_leads_up() -> None:
    bent = [3.0, 2.9, 2.8, 2.7, 2.62, 2.6]
    assert found({(8, 1.0): [bent]}, TARGET) == NextRange(1.0, 10.0, "the highest learning rate tried came furthest")


@pytest.mark.parametrize(("end", "high"), [(1.12, 10.0), (1.08, 1000.0)], ids=["bent", "straight"])
def test_run_is_straight_that_falls_nine_tenths_as_far_in_its_second_half(end: float, high: float) -> None:
    """By 1 in the first half, which ends at step 8, and by 0.88 or 0.92 in the second."""
    curve = [3.0, 2.875, 2.75, 2.5, 2.0, end]
    further = found({(8, 0.1): [[3.0, *[2.99] * 5]], (8, 1.0): [curve]}, TARGET)
    assert further is not None and further.high == high


def test_of_several_seeds_the_steepest_counts() -> None:
    further = found({(8, 2.0): [parabola(1.5, 2.0), parabola(10.0, 2.0), parabola(3.0, 2.0)]})
    assert further is not None and further[:2] == (0.002, 0.8)


def test_heights_that_fell_at_first_and_rose_later_lead_a_factor_100_below() -> None:
    further = found({(8, rate): [[3.0, 2.0, 1.0, 9.0, 99.0, 999.0]] for rate in (0.5, 5.0)})
    assert further == NextRange(0.005, 0.5, "heights fell at first and rose later")


def test_first_step_that_is_not_finite_leads_four_decades_below_unless_a_seed_survived() -> None:
    gone = [3.0, INF]
    further = found({(8, 0.5): [gone, gone], (8, 5.0): [gone, gone]})
    assert further == NextRange(0.5 / 1e4, 0.5, "the first height after the start is not finite already")
    survived = found({(8, 2.0): [gone, parabola(10.0, 2.0)], (8, 20.0): [gone, gone]})
    assert survived is not None and survived[:2] == (0.002, 0.8)


def test_losses_below_zero_have_no_ratio_and_lead_a_factor_100_below() -> None:
    rising = [9.0, 99.0, 999.0, 9999.0]
    for heights in ([-3.0, 5.0, *rising], [3.0, -1.0, *rising], [0.0, 5.0, *rising], [3.0, 0.0, *rising]):
        further = found({(8, 0.5): [heights], (8, 5.0): [heights]})
        assert further == NextRange(0.005, 0.5, "lower ones were not tried")


@pytest.mark.parametrize("scale", [1e-300, 1e10, 1e30, 1e300], ids=str)
def test_no_height_is_too_large(scale: float) -> None:
    cells = {(8, rate): [parabola(1e4, rate, start=scale)] for rate in (1e-2, 1.0)}
    further = found(cells)
    assert further is not None and further[:2] == (2e-6, 8e-4)
    judged = judge(*at_steps(cells))
    assert judged.trust[1].changes == {"learning_rate": [2e-6, 8e-4]}
    assert judged.ranges["note"][0].endswith("near 2e-4: try 2e-6 to 8e-4")
    assert 0 < divergence_begins({1e-4: math.log(1e308) - math.log(5e-324)}) < 1e-300


def test_straight_way_down_at_the_top_leads_three_decades_up_and_a_bent_one_one() -> None:
    straight = [3.0 - 0.01 * step for step in STEPS]
    bent = [3.0, 2.9, 2.8, 2.7, 2.62, 2.6]
    flat = [3.0, *[2.99] * 5]
    up = found({(8, 0.1): [flat], (8, 1.0): [straight]}, TARGET)
    assert up == NextRange(1.0, 1000.0, "heights still fall along a straight line at the highest")
    assert found({(8, 0.1): [flat], (8, 1.0): [bent]}, TARGET) == NextRange(
        1.0, 10.0, "the highest learning rate tried came furthest"
    )


def test_best_at_the_bottom_that_only_fell_leads_a_factor_100_below() -> None:
    further = found({(8, 0.5): [[3.0, 2.0, 1.5, 1.4, 1.4, 1.4]], (8, 5.0): [[3.0, 9.0, 99.0, 999.0, 1e4, 1e5]]}, TARGET)
    assert further == NextRange(0.005, 0.5, "lower ones were not tried")


def test_seed_that_turned_non_finite_is_no_straight_line() -> None:
    straight = [3.0 - 0.01 * step for step in STEPS]
    further = found({(8, 0.1): [[3.0, *[2.99] * 5]] * 3, (8, 1.0): [straight, straight, [3.0, 9.0, INF]]}, TARGET)
    assert further is not None and further.high == 1000.0


def test_heights_that_moved_nowhere_lead_up() -> None:
    further = found({(8, 0.1): [[3.0] * 6], (8, 1.0): [[3.0] * 6]})
    assert further is not None and further[:2] == (1.0, 1000.0)


def test_best_inside_the_range_and_good_ones_lead_nowhere() -> None:
    half, flat = [3.0, 2.0, 1.5, 1.5, 1.5, 1.5], [3.0, *[2.99] * 5]
    assert found({(8, 0.1): [flat], (8, 1.0): [half], (8, 10.0): [flat]}, TARGET) is None
    assert found({(8, 0.1): [flat], (8, 1.0): [half]}) is None


def several() -> Judged:
    """At batch size 8 every learning rate diverges, at 64 the highest are good."""
    good = {(64, 2.0): [[3.0, *[2.9] * 5]], (64, 20.0): [[3.0, *[0.1] * 5]], (64, 200.0): [[3.0, *[0.0] * 5]]}
    return judge(*at_steps({(8, rate): [parabola(10.0, rate)] for rate in (2.0, 20.0, 200.0)} | good))


def test_command_covers_what_every_batch_size_needs() -> None:
    judged = several()
    [check] = [check for check in judged.trust if check.name == "range"]
    assert check.changes == {"learning_rate": [0.002, 2000.0]}
    assert (
        check.sentence == "the good range may go on beyond 2 to 200: lower end at batch size 8 and upper end at batch size 64"
    )


def test_note_says_from_where_heights_rise_and_what_to_try() -> None:
    assert several().ranges["note"][0] == (
        "every learning rate diverged (heights rise from 2, the lowest tried, on), so none is called good;"
        " by how far the first step rose, heights begin to fall near 0.2: try 0.002 to 0.8"
    )
    still = judge(*at_steps({(8, 0.1): [[3.0] * 6], (8, 1.0): [[3.0] * 6], (8, 10.0): [[3.0, *[4.0] * 5]]}))
    assert still.ranges["note"][0] == (
        "no learning rate reached the bottom (heights rise from 10 on), so none is called good: try more epochs or a wider"
        " range of learning rates"
    )
