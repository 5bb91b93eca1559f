"""Ranges from cells whose answer a person can see."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from conftest import four_verdicts, tables

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
    assert row["note"] == ""


def test_fastest_at_an_end_says_which_way_to_widen() -> None:
    assert ranges({(8, 0.1): [FLAT], (8, 1.0): [DOWN]})["note"] == (
        "the fastest lies at the upper end of the range: widen it upwards"
    )
    assert ranges({(8, 1.0): [DOWN], (8, 10.0): [GONE]})["note"] == (
        "the fastest lies at the lower end of the range: widen it downwards"
    )


def test_hole_in_the_good_range_is_counted() -> None:
    row = ranges({(8, 0.01): [FLAT], (8, 0.1): [DOWN], (8, 0.3): [FLAT], (8, 1.0): [DOWN], (8, 10.0): [GONE]})
    assert row["note"] == "1 of 3 learning rates inside the good range are not good"


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


def test_one_learning_rate_is_good_only_for_want_of_another() -> None:
    assert "only one learning rate was tried" in str(ranges({(8, 0.1): [DOWN]})["note"])


def test_batch_sizes_have_a_row_each_and_no_cells_have_none() -> None:
    runs, curves = four_verdicts()
    cells = classify_cells(runs, curves)
    assert good_ranges(pd.concat([cells, cells.assign(batch_size=64)]))["batch_size"].tolist() == [32, 64]
    assert good_ranges(cells.iloc[:0]).empty
