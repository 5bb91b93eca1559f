"""Ranges from cells whose answer a person can see."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from conftest import four_verdicts, tables

from reports.judging.next_range import NextRange
from reports.judging.ranges import RANGES, good_ranges
from reports.judging.verdicts import Thresholds, classify_cells

DOWN, FLAT, GONE = [2.0, 0.0, 0.0, 0.0], [2.0, 1.9, 1.9, 1.9], [2.0, 9.0, math.inf]


def ranges(cells: dict[tuple[int, float], list[list[float]]], thresholds: Thresholds | None = None) -> dict[str, Any]:
    table = good_ranges(classify_cells(*tables(cells), thresholds))
    assert list(table) == list(RANGES)
    return dict(table.iloc[0].to_dict())


def test_range_names_the_fastest_both_ends_and_where_divergence_begins() -> None:
    row = ranges({(8, 0.01): [FLAT], (8, 0.1): [DOWN], (8, 1.0): [DOWN], (8, 10.0): [DOWN], (8, 100.0): [GONE]})
    assert [row[key] for key in ("batch_size", "good_low", "good_high", "divergent_from")] == [8, 0.1, 10.0, 100.0]
    assert row["fastest"] == 0.1 and row["time_to_bottom_epochs"] == pytest.approx(3.0) and row["note"] == ""


def test_fastest_at_an_end_says_which_way_to_widen() -> None:
    assert ranges({(8, 0.1): [FLAT], (8, 1.0): [DOWN]})["note"] == (
        "the fastest lies at the upper end of the range: widen it upwards"
    )
    assert ranges({(8, 1.0): [DOWN], (8, 10.0): [GONE]})["note"] == (
        "the fastest lies at the lower end of the range: widen it downwards"
    )


def test_good_range_that_begins_or_ends_with_what_was_tried_may_go_on() -> None:
    slower = [2.0, 1.0, 0.0, 0.0]
    below = ranges({(8, 0.1): [slower], (8, 1.0): [DOWN], (8, 10.0): [GONE]})
    assert below["note"] == "the good range may go on below the lowest learning rate tried: widen it downwards"
    above = ranges({(8, 0.1): [FLAT], (8, 1.0): [DOWN], (8, 10.0): [slower]})
    assert above["note"] == "the good range may go on above the highest learning rate tried: widen it upwards"
    assert math.isnan(above["divergent_from"])


def test_hole_in_the_good_range_is_counted() -> None:
    row = ranges({(8, 0.01): [FLAT], (8, 0.1): [DOWN], (8, 0.3): [FLAT], (8, 1.0): [DOWN], (8, 10.0): [GONE]})
    assert row["note"] == "1 of 3 learning rates inside the good range are not good"
    row = ranges({(8, 0.1): [DOWN], (8, 0.3): [FLAT], (8, 1.0): [DOWN], (8, 10.0): [GONE]})
    assert row["note"] == (
        "the fastest lies at the lower end of the range: widen it downwards;"
        " 1 of 3 learning rates inside the good range are not good"
    )


def test_nothing_good_has_a_remedy() -> None:
    row = ranges({(8, 0.1): [FLAT], (8, 1.0): [FLAT]}, Thresholds(target_loss=0.0))
    assert math.isnan(row["good_low"]) and math.isnan(row["fastest"])
    assert (
        row["note"]
        == "no learning rate reached the bottom, so none is called good: try more epochs or a wider range of learning rates"
    )
    assert "try lower learning rates" in str(ranges({(8, 0.1): [GONE], (8, 1.0): [GONE]})["note"])
    assert "every learning rate diverged (heights rise from 0.1, the lowest tried, on)" in str(
        ranges({(8, 0.1): [[2.0, 3.0, 3.0, 3.0]], (8, 1.0): [[2.0, 4.0, 4.0, 4.0]]})["note"]
    )


def test_where_nothing_is_good_and_some_rise_it_is_said_from_where_on_only_if_none_falls() -> None:
    rising = {(8, 1.0): [[2.0, 3.0, 3.0, 3.0]], (8, 10.0): [[2.0, 4.0, 4.0, 4.0]]}
    assert "(heights rise from 1 on)" in ranges({(8, 0.1): [[2.0] * 4]} | rising)["note"]
    assert "rise" not in ranges({(8, 0.1): [FLAT]} | rising, Thresholds(target_loss=0.0))["note"]


@pytest.mark.parametrize(
    ("curve", "why", "remedy"),
    [
        (FLAT, "no learning rate reached the bottom", "try 1 to 10, or more epochs"),
        (GONE, "every learning rate diverged (heights rise from 0.1, the lowest tried, on)", "try 1 to 10"),
    ],
    ids=["too low", "divergent"],
)
def test_nothing_good_names_where_to_look_next(curve: list[float], why: str, remedy: str) -> None:
    """Where everything diverges more epochs are no remedy."""
    cells = classify_cells(*tables({(8, 0.1): [curve], (8, 1.0): [curve]}), Thresholds(target_loss=0.0))
    further = NextRange(1.0, 10.0, "the highest came furthest")
    [note] = good_ranges(cells, nexts={8: further})["note"]
    assert note == f"{why}, so none is called good; the highest came furthest: {remedy}"


def test_runs_that_do_not_follow_are_counted_and_batch_sizes_of_nothing_else_have_a_row() -> None:
    cells = classify_cells(*tables({(8, 0.1): [DOWN], (16, 0.1): [DOWN], (16, 1.0): [DOWN]}))
    found = [(8, "COMPLETE", "good"), (16, "COMPLETE", "good"), (16, "COMPLETE", None), (16, "COMPLETE", "good")]
    found += [(32, "COMPLETE", None), (32, "FAIL", None), (8, "FAIL", None), (64, "FAIL", None)]
    table = good_ranges(cells, runs=pd.DataFrame(found, columns=["batch_size", "state", "verdict"])).set_index("batch_size")
    assert table.index.tolist() == [8, 16, 32] and table.loc[32].drop("note").isna().all()
    assert table["note"].tolist() == [
        "only one learning rate was tried, so it is good only for want of another: widen it to a range",
        "1 of 3 runs do not follow the learning rate and are not judged;"
        " the good range may go on above the highest learning rate tried: widen it upwards;"
        " the fastest lies at the lower end of the range: widen it downwards",
        "nothing is recommended: no run follows the learning rate that was asked, so none is judged",
    ]


def test_one_learning_rate_is_good_only_for_want_of_another() -> None:
    assert "only one learning rate was tried" in str(ranges({(8, 0.1): [DOWN]})["note"])


def test_batch_sizes_have_a_row_each_and_no_cells_have_none() -> None:
    runs, curves = four_verdicts()
    cells = classify_cells(runs, curves)
    assert good_ranges(pd.concat([cells, cells.assign(batch_size=64)]))["batch_size"].tolist() == [32, 64]
    assert good_ranges(cells.iloc[:0]).empty
