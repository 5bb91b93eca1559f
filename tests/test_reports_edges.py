"""Edges whose place a person can see, against slow obvious sampling, and on the reference grids: do the intervals hold?"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import reference_tables, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.judging.edges import EDGE_COLUMNS, EDGES, find_edges, fit_edge, fit_edges, seed_gap
from reports.judging.verdicts import classify

DOWN, FLAT, HOVER, GONE = [2.0, 0.0, 0.0, 0.0], [2.0, 1.9, 1.9, 1.9], [2.0, 1.0, 1.0, 1.0], [2.0, 9.0, math.inf]
RATES = (0.01, 0.1, 1.0, 10.0)


def edges(cells: dict[tuple[int, float], list[list[float]]]) -> pd.DataFrame:
    table = find_edges(classify(*tables(cells)))
    assert list(table) == list(EDGE_COLUMNS)
    return table.set_index("edge")


def one_of_each(seeds: int) -> dict[tuple[int, float], list[list[float]]]:
    return {(8, rate): [curve] * seeds for rate, curve in zip(RATES, (FLAT, DOWN, HOVER, GONE), strict=True)}


def test_edges_lie_in_the_middle_of_their_gaps_when_seeds_agree() -> None:
    table = edges(one_of_each(3))
    assert table["learning_rate"].tolist() == pytest.approx([10**-1.5, 10**-0.5, 10**0.5], rel=0.02)
    assert (table["low"] < table["learning_rate"]).all() and (table["learning_rate"] < table["high"]).all()
    assert table["wrong_side"].tolist() == [0, 0, 0] and table["note"].tolist() == ["", "", ""]
    assert table["n_seeds"].tolist() == [3, 3, 3] and table["batch_size"].tolist() == [8, 8, 8]


def test_batch_sizes_have_their_own_edges_and_without_a_verdict_there_is_none() -> None:
    shifted = {(64, rate * 10): seeds for (_, rate), seeds in one_of_each(2).items()}
    judged = classify(*tables(one_of_each(3) | shifted))
    table = find_edges(judged)
    assert table["batch_size"].tolist() == [8] * 3 + [64] * 3 and table["n_seeds"].tolist() == [3] * 3 + [2] * 3
    assert table["learning_rate"].tolist() == pytest.approx([10 ** (k - 1.5) for k in (0, 1, 2, 1, 2, 3)], rel=0.02)
    nothing = find_edges(judged.assign(verdict=None))
    assert nothing.empty and list(nothing) == list(EDGE_COLUMNS)


def test_interval_holds_most_of_the_gap_however_many_seeds_agree() -> None:
    """Where in its gap of one decade the edge lies nobody has seen."""
    for seeds in (1, 3, 30):
        row = edges(one_of_each(seeds)).loc["too low to good"]
        assert math.log10(row["high"] / row["low"]) > 0.7
    assert math.log10(row["high"] / row["low"]) < 1.1


def test_interval_leaves_out_one_seed_in_twenty_on_either_side() -> None:
    judged = classify(*tables(one_of_each(3)))
    table = find_edges(judged).set_index("edge")
    for name, edge in fit_edges(judged)[8].items():
        shares = [edge.share_below(table.loc[name, end]) for end in ("low", "learning_rate", "high")]
        assert shares == pytest.approx([0.05, 0.5, 0.95], abs=1e-6)


def test_finer_grid_and_closer_seeds_narrow_the_interval() -> None:
    def width(gaps: list[tuple[float, float]]) -> float:
        edge = fit_edge(gaps)
        return math.log10(edge.quantile(0.95) / edge.quantile(0.05))

    assert width([(0.9, 1.1)] * 3) < width([(0.5, 2.0)] * 3) < width([(0.1, 10.0)] * 3)
    assert width([(0.9, 1.1)] * 3) < width([(0.3, 0.4), (0.9, 1.1), (2.7, 3.3)])
    assert width([(0.9, 1.1)] * 10) < width([(0.9, 1.1)] * 2) < width([(0.9, 1.1)])


@pytest.mark.parametrize("gaps", [[(0.1, 0.2)], [(0.1, 0.2), (0.4, 0.8)], [(0.1, 0.2), (0.1, 0.2), (0.2, 0.4)]], ids=str)
def test_fitted_edge_equals_sampling_from_the_model(gaps: list[tuple[float, float]]) -> None:
    """Slow and obvious: draw centre and spread from the prior, weigh by the gaps' probabilities, draw an edge from each."""
    random = np.random.default_rng(0)
    n = 400_000
    spread = 0.12 * np.exp(0.8 * random.standard_normal(n))
    centre = random.uniform(-3, 3, n)
    weight = np.ones(n)
    for low, high in gaps:
        below = [0.5 * (1 + np.vectorize(math.erf)((math.log10(end) - centre) / spread / math.sqrt(2))) for end in (low, high)]
        weight *= below[1] - below[0]
    kept = random.choice(n, size=100_000, p=weight / weight.sum())
    drawn = 10 ** (centre[kept] + spread[kept] * random.standard_normal(100_000))
    edge = fit_edge(gaps)
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert math.log10(edge.quantile(share)) == pytest.approx(math.log10(np.quantile(drawn, share)), abs=0.04)
        assert edge.share_below(edge.quantile(share)) == pytest.approx(share, abs=0.01)


@settings(deadline=None, max_examples=25)
@given(factor=st.floats(1e-3, 1e3))
def test_another_unit_of_the_learning_rate_moves_the_edge_and_changes_nothing_else(factor: float) -> None:
    gaps = [(0.1, 0.2), (0.2, 0.4)]
    edge, moved = fit_edge(gaps), fit_edge([(low * factor, high * factor) for low, high in gaps])
    for share in (0.05, 0.5, 0.95):
        assert moved.quantile(share) == pytest.approx(edge.quantile(share) * factor, rel=1e-6)


def test_gap_of_a_seed_stands_where_the_fewest_runs_are_on_the_wrong_side() -> None:
    rates = np.array([1.0, 2.0, 3.0, 4.0])
    assert seed_gap(rates, np.array([False, False, True, True])) == (2.0, 3.0, 0)
    assert seed_gap(rates, np.array([True, True, True, True])) == (0.0, 1.0, 0)
    assert seed_gap(rates, np.array([False, False, False, False])) == (4.0, math.inf, 0)
    assert seed_gap(rates, np.array([False, True, False, True])) == (1.0, 4.0, 1), "both places are equally good"
    assert seed_gap(rates, np.array([True, False, False, False])) == (4.0, math.inf, 1)


def test_gap_of_a_seed_is_that_of_trying_every_place() -> None:
    random = np.random.default_rng(0)
    for n in range(1, 12):
        rates, above = np.arange(1.0, n + 1), random.random(n) < random.random()
        wrong = [above[:k].sum() + (~above[k:]).sum() for k in range(n + 1)]
        best = [k for k in range(n + 1) if wrong[k] == min(wrong)]
        ends = [0.0, *rates, math.inf]
        assert seed_gap(rates, above) == (ends[best[0]], ends[best[-1] + 1], min(wrong))


def test_edge_outside_the_range_says_so_and_keeps_the_side_it_is_on() -> None:
    table = edges({(8, 0.1): [DOWN] * 3, (8, 1.0): [DOWN] * 3})
    assert table["learning_rate"].isna().all()
    assert table[["low", "high"]].to_numpy().tolist() == [[0.0, 0.1], [1.0, math.inf], [1.0, math.inf]]
    assert table["note"].tolist() == [
        "not inside the range: no run above the lowest learning rate tried is on the other side",
        *["not inside the range: no run below the highest learning rate tried is on the other side"] * 2,
    ]


def test_edge_that_is_no_clean_threshold_counts_the_runs_on_the_wrong_side() -> None:
    cells = {
        (8, rate): [curve] * 3 for rate, curve in ((0.01, FLAT), (0.1, DOWN), (0.2, FLAT), (0.4, DOWN), (0.8, DOWN), (9, GONE))
    }
    row = edges(cells).loc["good to too high"]
    assert row["wrong_side"] == pytest.approx(3 / 18)
    assert row["note"] == "not a clean threshold: 3 of 18 runs are on the wrong side"


def test_no_band_between_two_edges_is_said() -> None:
    cells = {(8, 0.01): [FLAT] * 2, (8, 0.1): [DOWN] * 2, (8, 1.0): [GONE] * 2}
    table = edges(cells)
    assert table.loc["too high to divergent", "note"] == "too high has no band of its own in 2 of 2 seeds"
    assert table.loc["good to too high", "learning_rate"] == pytest.approx(table.loc["too high to divergent", "learning_rate"])


def test_seed_without_a_good_run_has_no_band_above_the_lowest_edge_nor_below_the_next() -> None:
    """The third seed hovers where the others are good; too low and too high are there for every seed."""
    cells = {(8, 0.01): [FLAT] * 3, (8, 0.1): [DOWN, DOWN, HOVER], (8, 1.0): [HOVER] * 3, (8, 10.0): [GONE] * 3}
    missing = "good has no band of its own in 1 of 3 seeds"
    assert edges(cells)["note"].tolist() == [missing, missing, ""]


def test_seed_whose_edge_was_not_met_pulls_the_interval_outwards() -> None:
    met, not_met = fit_edge([(0.1, 0.2), (0.1, 0.2)]), fit_edge([(0.1, 0.2), (0.4, math.inf)])
    assert met.quantile(0.5) < not_met.quantile(0.5) < not_met.quantile(0.95) < math.inf
    assert not_met.quantile(0.95) > 0.4


@pytest.mark.parametrize("case", ["digits_mlp", "wine_b1", "diabetes_linear"])
def test_edges_keep_their_order(case: str) -> None:
    runs, curves, _ = reference_tables(case)
    for edges in fit_edges(classify(runs, curves)).values():
        at = np.geomspace(1e-5, 100, 200)
        shares = [np.array([edges[name].share_below(rate) for rate in at]) for name in EDGES]
        assert (shares[1] <= shares[0] + 5e-3).all() and (shares[2] <= shares[1] + 5e-3).all()


def test_divergent_edge_of_linear_regression_covers_the_known_one() -> None:
    """2 / lambda_max of the Hessian of the diabetes data is 0.2469."""
    runs, curves, _ = reference_tables("diabetes_linear")
    row = find_edges(classify(runs, curves)).set_index("edge").loc["too high to divergent"]
    assert row["low"] < 0.2469 < row["high"]
    assert row["learning_rate"] == pytest.approx(0.2469, rel=0.15)


def test_intervals_of_two_seeds_contain_the_edge_of_the_third() -> None:
    """On the shipped grids, which had no part in choosing the prior, 85 to 97 % of the 54 cases.

    The third seed is judged alone, by its own floor and fastest. Its edge is known only as a gap: counted once as the gap's
    geometric middle, and once as the share of the gap that the interval covers.
    """
    middles, shares = [], []
    for case, third in itertools.product(("digits_mlp", "wine_b1", "diabetes_linear"), range(3)):
        runs, curves, _ = reference_tables(case)
        known, new = runs[runs["seed"] != third], runs[runs["seed"] == third]
        intervals = find_edges(classify(known, curves)).set_index(["batch_size", "edge"])
        judged = classify(new, curves).sort_values("learning_rate")
        for size, group in judged.groupby("batch_size"):
            ranks = group["verdict"].map(["too low", "good", "too high", "divergent"].index).to_numpy()
            rates = group["learning_rate"].to_numpy()
            for rank, edge in enumerate(EDGES, start=1):
                first = int(np.argmax(ranks >= rank))
                assert (ranks[first:] >= rank).all() and first > 0, "each seed's edge is clean and inside the range"
                low, high = np.log10(rates[[first - 1, first]])
                row = np.log10(intervals.loc[(size, edge), ["low", "high"]].to_numpy(float))
                middles.append(row[0] <= (low + high) / 2 <= row[1])
                shares.append(max(0.0, min(high, row[1]) - max(low, row[0])) / (high - low))
    assert len(middles) == 54
    assert 0.85 <= np.mean(middles) <= 0.97, np.mean(middles)
    assert 0.85 <= np.mean(shares) <= 0.97, np.mean(shares)


def test_an_edge_that_is_no_threshold_says_so_and_its_interval_holds_where_runs_lie_on_both_sides() -> None:
    rates, words = [0.1, 1.0, 2.0, 4.0, 8.0, 16.0], {"g": "good", "h": "too high", "D": "divergent"}

    def edge(*seeds: str) -> dict[str, Any]:
        rows = [
            {"batch_size": 8, "seed": seed, "learning_rate": rate, "verdict": words[letter]}
            for seed, letters in enumerate(seeds)
            for rate, letter in zip(rates, letters, strict=True)
        ]
        return find_edges(pd.DataFrame(rows)).set_index("edge").loc["too high to divergent"].to_dict()

    clean, odd = edge("ghhDDD", "ghhDDD", "ghDDDD"), edge("ghhDDD", "ghhDDD", "gDhhDh")
    assert "no threshold" not in clean["note"] + odd["note"] and clean["high"] < 8
    none = edge("ghDhDh", "gDhhhD", "ghDhhh")
    assert none["note"].endswith("no threshold: from 2 on runs lie on both sides of it")
    assert none["low"] <= 2 and none["high"] == math.inf
    assert "from 1 to 8 runs" in edge("gDhhhD", "gDhhhD", "ghhhhD")["note"]
