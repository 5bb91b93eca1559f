"""Numbers, times and ticks as people read them."""

from __future__ import annotations

import math

import pytest

from reports.style import format_number, format_seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.3, "0.3"), (12345.6, "12,300"), (1e-7, "1e-7"), (0, "0"), (math.nan, "-"), (math.inf, "inf"), (-math.inf, "-inf")],
)
def test_a_number_has_three_digits_and_no_trailing_zeros(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.007738, "7.74 ms"),
        (0.0999, "99.9 ms"),
        (0.1, "0.1 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (math.inf, "never"),
        (math.nan, "-"),
    ],
)
def test_a_time_has_the_unit_that_keeps_it_readable(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
