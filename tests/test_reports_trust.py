"""The trust box: each check passes and fails where a person would say so, and names what to run next; the self-check too."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from conftest import four_verdicts, tables

from reports.judging.judged import Judged, judge
from reports.judging.self_check import ROLES, SELF_CHECK, judge_self_check, rates_to_check, summarize_self_check
from reports.judging.trust import Check, check_trust
from reports.judging.verdicts import Thresholds, classify_cells

DOWN, FLAT, GONE = [2.0, 0.0, 0.0, 0.0, 0.0], [2.0, 1.9, 1.9, 1.9, 1.9], [2.0, 9.0, math.inf]
Cells = dict[tuple[int, float], list[list[float]]]


def hill(
    *, seeds: int = 3, step: float = 1.5, curves: tuple[list[float], ...] = (FLAT, FLAT, *[DOWN] * 7, GONE, GONE)
) -> Cells:
    return {(8, float(f"{0.01 * step**k:.6g}")): [curve] * seeds for k, curve in enumerate(curves)}


def judged(cells: Cells, thresholds: Thresholds | None = None, **columns: Any) -> Judged:
    runs, curves = tables(cells)
    return judge(runs.assign(**({"validation_examples": 1_000} | columns)), curves, thresholds)


def checks(cells: Cells, thresholds: Thresholds | None = None, **columns: Any) -> dict[str, Check]:
    return {check.name: check for check in judged(cells, thresholds, **columns).trust}


def test_study_that_deserves_trust_passes_every_check() -> None:
    found = checks(hill())
    assert list(found) == ["seeds", "range", "grid", "budget", "edges", "validation"]
    assert {name: check.sentence for name, check in found.items() if not check.passed} == {}
    assert all(check.changes is None for check in found.values())


def box(
    cells: list[tuple[int, float, str, int, float]],
    edges: list[tuple[int, str, float, float]],
    *,
    narrow: tuple[int, ...] = (),
    validation: int | None = None,
    reasons: tuple[str, ...] = (),
) -> list[Check]:
    """The trust box of hand-made tables, of runs of 10 epochs.

    cells: batch size, learning rate, verdict, seeds, epochs to the bottom; edges: batch size, edge, learning rate, share on the
    wrong side; narrow: batch sizes whose interval is for half of the seeds; reasons: of runs 7, 8, ... without a verdict.
    """
    verdicts = ["good"] * 2 + [None] * len(reasons)
    runs = pd.DataFrame({"trial": range(5, 5 + len(verdicts)), "state": "COMPLETE", "verdict": verdicts, "epochs": 10.0})
    sizes = sorted({size for size, *_ in cells})
    shares = [0.5 if size in narrow else 0.9 for size in sizes]
    return check_trust(
        runs.assign(reason=["", "", *reasons], validation_examples=validation),
        pd.DataFrame(cells, columns=["batch_size", "learning_rate", "verdict", "n_seeds", "time_to_bottom_epochs"]),
        pd.DataFrame(edges, columns=["batch_size", "edge", "learning_rate", "wrong_side"]).assign(n_seeds=4),
        pd.DataFrame({"batch_size": sizes, "interval_share": shares}),
        Thresholds(),
        nexts={},
    )


def test_every_check_that_fails_names_the_batch_sizes_and_what_would_mend_them_all() -> None:
    small = [(8, rate, "good", 3, 4.0) for rate in (0.1, 0.3, 1.0)]
    large = [(64, rate, "good", 2, 5.0) for rate in (0.1, 0.3, 1.0)]
    edges = [(8, "too low to good", math.nan, 0.0), (8, "good to too high", 0.5, 0.0)]
    edges += [(64, "too low to good", math.nan, 0.0), (64, "good to too high", math.nan, 0.1)]
    odd = ("no verdict: stepped with at most 0.1", "no verdict: no effect")
    assert box(small + large, edges, reasons=odd) == [
        Check(
            "learning rate",
            False,
            "2 of 4 runs have no verdict; run 7: stepped with at most 0.1. Look for what sets it: a scheduler, a callback, a"
            " limit, another attribute",
        ),
        Check("seeds", False, "2 seeds in some; at least 3 are needed to outvote one odd seed", {"seeds": 3}),
        Check(
            "range",
            False,
            "the good range may go on beyond 0.1 to 1: lower end at batch size 8, 64 and upper end at batch size 64",
            {"learning_rate": [0.01, 10.0]},
        ),
        Check(
            "grid",
            False,
            "neighbours at an edge differ by a factor 3.33 at batch size 8, at most 2 is fine enough",
            {"per_decade": 4},
        ),
        Check(
            "budget",
            False,
            "10 epochs are less than 3 x the time of the fastest at batch size 8, 64: slow cannot be told from too low there",
            {"epochs": 23},  # 1.5 x 3 x 5 and a bit
        ),
        Check(
            "edges",
            False,
            "10 % of the runs are on the wrong side of the worst edge (good to too high, batch size 64), at most 5 % is clean",
            {"seeds": 8},
        ),
        Check("validation", False, "no validation examples were counted: the recommendation rests on training heights alone"),
    ]


def test_every_check_that_passes_says_what_it_went_by() -> None:
    cells = [(8, rate, "good", 3, 2.0) for rate in (0.1, 0.2, 0.4)]
    edges = [(8, "too low to good", 0.15, 0.04), (8, "good to too high", 0.3, 0.0)]
    assert box(cells, edges, validation=400) == [
        Check("seeds", True, "3 seeds in every cell; at least 3 outvote one odd seed"),
        Check("range", True, "0.1 to 0.4 holds both ends of the good range at every batch size where there is one"),
        Check("grid", True, "neighbours at an edge differ by a factor 2, at most 2"),
        Check("budget", True, "10 epochs hold 3 x the time of the fastest: who is too slow had the time to show it"),
        Check("edges", True, "4 % of the runs are on the wrong side of the worst edge, at most 5 %"),
        Check(
            "validation",
            True,
            "400 validation examples: a share measured on them has a standard error of up to 2.5 points, at most 2.5",
        ),
    ]


def test_nothing_good_needs_more_epochs_unless_everything_diverged() -> None:
    """Edges outside of what was tried lie between no two neighbours."""
    outside = [(8, "too low to good", 0.05, 0.0), (8, "good to too high", 2.0, 0.0)]
    tried = (0.1, 1.0)
    slow = {check.name: check for check in box([(8, rate, "too low", 1, math.inf) for rate in tried], outside)}
    assert slow["budget"] == Check(
        "budget", False, "no learning rate reached the bottom in 10 epochs at batch size 8", {"epochs": 20}
    )
    assert slow["seeds"].sentence.startswith("1 seed in every cell; ")
    assert slow["grid"] == Check("grid", True, "neighbours at an edge differ by a factor 1, at most 2")
    clean = "clean: along the learning rate no run of any seed is on the wrong side of an edge"
    assert slow["edges"] == Check("edges", True, clean)
    gone = {check.name: check for check in box([(8, rate, "divergent", 1, math.inf) for rate in tried], outside)}
    told = "every learning rate diverged: more epochs would not help, lower learning rates would"
    assert gone["budget"] == Check("budget", False, told)


def test_narrow_good_range_asks_for_a_finer_grid_at_its_batch_sizes() -> None:
    cells = [(size, rate, "good", 3, 2.0) for size in (8, 16, 64) for rate in (0.1, 0.2)]
    edges = [(size, edge, 0.15, 0.0) for size in (8, 16, 64) for edge in ("too low to good", "good to too high")]
    [check] = [check for check in box(cells, edges, narrow=(8, 64)) if check.name == "grid"]
    text = "no learning rate tried is expected to be good on 90 % of new seeds at batch size 8, 64"
    assert check == Check(
        "grid", False, f"{text}: the edges' intervals are too wide for so narrow a good range", {"per_decade": 7}
    )


def test_too_few_seeds_fail_and_name_how_many() -> None:
    check = checks(hill(seeds=1))["seeds"]
    assert not check.passed and check.changes == {"seeds": 3}
    assert check.sentence == "1 seed in every cell; at least 3 are needed to outvote one odd seed"


@pytest.mark.parametrize(("seeds", "passed"), [(2, False), (3, True)], ids=str)
def test_three_seeds_are_enough(seeds: int, passed: bool) -> None:
    assert checks(hill(seeds=seeds))["seeds"].passed == passed


@pytest.mark.parametrize(
    ("curves", "wider"),
    [((DOWN, DOWN, DOWN, GONE), (0.001, None)), ((FLAT, DOWN, DOWN, DOWN), (None, 10)), ((DOWN, DOWN, DOWN), (0.001, 10))],
    ids=["open below", "open above", "open on both sides"],
)
def test_range_that_misses_an_edge_is_to_be_widened_on_that_side(
    curves: tuple[list[float], ...], wider: tuple[float | None, float | None]
) -> None:
    cells = hill(curves=curves)
    rates = [rate for _, rate in cells]
    check = checks(cells)["range"]
    assert not check.passed and check.changes is not None
    expected = [rates[0] if wider[0] is None else rates[0] / 10, rates[-1] if wider[1] is None else rates[-1] * 10]
    assert check.changes["learning_rate"] == pytest.approx(expected, rel=1e-5)
    assert "batch size 8" in check.sentence


def test_nothing_good_with_the_best_at_the_top_is_to_be_widened_upwards() -> None:
    check = checks(hill(curves=([2.0, 1.9, 1.8], [2.0, 1.6, 1.4])), Thresholds(target_loss=0.0))["range"]
    assert not check.passed and check.changes == {"learning_rate": [0.015, pytest.approx(0.15)]}
    assert check.sentence == "the good range may lie beyond 0.01 to 0.015: upper end at batch size 8"


def test_nothing_but_divergence_is_left_downwards_for_another_range() -> None:
    check = checks(hill(curves=(GONE, GONE, GONE)))["range"]
    assert (
        not check.passed
        and check.changes is not None
        and check.changes["learning_rate"] == [pytest.approx(1e-4, rel=0.02), 0.01]
    )


def stopped(n: int) -> pd.Series[Any]:
    """A column: the first n of the 33 runs of a hill were ended early."""
    return pd.Series(["EarlyStopping"] * n + [None] * (33 - n), dtype=object)


@pytest.mark.parametrize(("n", "said"), [(0, False), (1, False), (2, True), (33, True)], ids=str)
def test_more_than_a_few_runs_that_were_ended_early_are_told(n: int, said: bool) -> None:
    found = checks(hill(), ended_early=stopped(n))
    assert ("ended early" in found) == said
    if said:
        check = found["ended early"]
        assert not check.passed and check.changes is None
        assert check.sentence == (
            f"EarlyStopping ended {n} of 33 runs before the budget: they make no floor and slow runs may look better than they"
            " are; leave it out of a study"
        )


def test_coarse_grid_fails_and_asks_for_twice_the_density() -> None:
    check = checks(hill(step=4.0))["grid"]
    assert not check.passed and check.changes == {"per_decade": 4}
    assert check.sentence == "neighbours at an edge differ by a factor 4 at batch size 8, at most 2 is fine enough"


@pytest.mark.parametrize(("step", "passed"), [(2.0, True), (2.01, False)], ids=str)
def test_neighbours_may_differ_by_a_factor_two(step: float, passed: bool) -> None:
    assert checks(hill(step=step))["grid"].passed == passed


def test_grid_too_coarse_for_so_narrow_a_good_range_fails() -> None:
    check = checks(hill(step=1.9, curves=(FLAT, FLAT, DOWN, GONE, GONE)))["grid"]
    assert not check.passed and "too wide for so narrow a good range" in check.sentence


def test_budget_must_hold_three_times_the_fastest() -> None:
    slow = [2.0, 1.5, 1.0, 0.5, 0.0, 0.0]
    check = checks(hill(curves=(FLAT, FLAT, slow, slow, slow, GONE)))["budget"]
    assert not check.passed and check.changes == {"epochs": 33}  # 1.5 x 3 x 7.2, where it has come 90 % of the way
    assert "slow cannot be told from too low" in check.sentence
    none = checks(hill(curves=(FLAT, FLAT)), Thresholds(target_loss=0.0))["budget"]
    assert not none.passed and none.changes == {"epochs": 20}
    gone = checks(hill(curves=(GONE, GONE)))["budget"]
    assert not gone.passed and gone.changes is None


def test_edges_that_are_no_thresholds_fail() -> None:
    check = checks(hill(curves=(FLAT, FLAT, DOWN, FLAT, DOWN, FLAT, DOWN, DOWN, GONE)))["edges"]
    assert not check.passed and check.changes == {"seeds": 6}
    assert "on the wrong side of the worst edge (good to too high, batch size 8)" in check.sentence


@pytest.mark.parametrize(("odd", "passed"), [(0, True), (2, True), (3, False)], ids=str)
def test_one_run_in_twenty_may_be_on_the_wrong_side(odd: int, passed: bool) -> None:
    """Of 44 runs so many stay up between good ones: 4.5 or 6.8 %."""
    curves: list[list[list[float]]] = [[FLAT] * 4] * 2 + [[DOWN] * 4] * 7 + [[GONE] * 4] * 2
    curves[5] = [FLAT] * odd + [DOWN] * (4 - odd)
    check = checks({(8, float(f"{0.01 * 1.5**k:.6g}")): seeds for k, seeds in enumerate(curves)})["edges"]
    assert check.passed == passed


@pytest.mark.parametrize(("n", "passed"), [(0, False), (111, False), (399, False), (400, True)], ids=str)
def test_validation_needs_enough_examples(n: int, passed: bool) -> None:
    check = checks(hill(), validation_examples=n)["validation"]
    assert check.passed == passed and check.changes is None
    assert n == 0 or check.sentence.startswith(f"{n} validation examples: a share measured on them has a standard error of")


def test_tables_that_do_not_count_validation_examples_are_not_trusted_to_have_any() -> None:
    assert not {check.name: check for check in judge(*four_verdicts()).trust}["validation"].passed


def test_no_finished_run_has_no_trust_box() -> None:
    runs, curves = four_verdicts()
    assert judge(runs.assign(state="FAIL"), curves).trust == []


def self_check(good: dict[str, int], *, n: int = 3) -> Judged:
    """A study and its self-check, in which ``good[role]`` of ``n`` fresh runs go down and the others stay up."""
    runs, curves = tables(hill())
    use = judge(runs, curves).recommendations.iloc[0]
    fresh = {(8, use[column]): [DOWN] * good[role] + [FLAT] * (n - good[role]) for role, column in ROLES.items()}
    fresh_runs, fresh_curves = tables(fresh)
    return judge(runs, curves, fresh=(fresh_runs.assign(seed=fresh_runs["seed"] + 3), fresh_curves))


def test_promise_that_held_passes_with_its_numbers() -> None:
    found = self_check({"recommended": 3, "low end": 3, "high end": 2})
    assert list(found.self_check) == list(SELF_CHECK) and found.self_check["held"].tolist() == [True] * 3
    sentence = "on 3 fresh seeds the recommended learning rate was good in 3 of 3 runs, the ends of its interval in 5 of 6"
    assert found.trust[-1] == Check("self-check", True, sentence)


@pytest.mark.parametrize(
    ("good", "held"),
    [
        ({"recommended": 2, "low end": 3, "high end": 3}, [False, True, True]),
        ({"recommended": 3, "low end": 1, "high end": 3}, [True, False, True]),
    ],
    ids=["recommended", "low end"],
)
def test_promise_that_did_not_hold_fails_and_names_the_learning_rate(good: dict[str, int], held: list[bool]) -> None:
    found = self_check(good)
    assert found.self_check["held"].tolist() == held
    assert not found.trust[-1].passed and "; not held: " in found.trust[-1].sentence


@pytest.mark.parametrize(
    ("good", "n", "held"), [(2, 3, True), (1, 3, False), (7, 10, True), (6, 10, False), (16, 20, True), (15, 20, False)]
)
def test_ends_hold_their_promise_unless_so_few_good_runs_have_a_chance_below_5_percent(good: int, n: int, held: bool) -> None:
    """Of 10 runs that are good with 90 % probability 7 or fewer are in 7.0 % of cases, of 20 runs 15 or fewer in 4.3 %."""
    promised = pd.DataFrame({"batch_size": [8], "learning_rate": 1.0, "low": 0.5, "high": 2.0, "interval_share": 0.9})
    fresh = tables({(8, 0.5): [DOWN] * good + [FLAT] * (n - good), (8, 1.0): [DOWN] * n, (8, 2.0): [DOWN] * n})
    found = judge_self_check(promised, classify_cells(*tables({(8, 1.0): [DOWN]})), *fresh, Thresholds())
    assert found[["role", "n_seeds", "n_good", "held"]].to_numpy().tolist() == [
        ["recommended", n, n, True],
        ["low end", n, good, held],
        ["high end", n, n, True],
    ]


def test_fresh_runs_are_judged_by_the_floor_and_the_fastest_of_the_study_as_strictly_as_it_was() -> None:
    """By themselves the half-way ones are as good as it gets; they come half of the way to the study's floor."""
    half = [2.0, 1.0, 1.0, 1.0, 1.0]
    promised = pd.DataFrame({"batch_size": [8], "learning_rate": 1.0, "low": 1.0, "high": 2.0, "interval_share": 0.9})
    study = classify_cells(*tables({(8, 1.0): [DOWN]}))
    for tau, good in ((0.1, 0), (0.6, 1)):
        found = judge_self_check(promised, study, *tables({(8, 1.0): [half]}), Thresholds(tau=tau))
        assert found["n_good"].tolist() == [good, good, 0] and found["n_seeds"].tolist() == [1, 1, 0]
        assert found["held"].tolist()[0] == bool(good), "a single fresh run decides, too"


def test_promise_at_a_learning_rate_that_was_not_tried_again_did_not_hold() -> None:
    promised = pd.DataFrame({"batch_size": [8], "learning_rate": 1.0, "low": 0.5, "high": 2.0, "interval_share": 0.9})
    found = judge_self_check(
        promised, classify_cells(*tables({(8, 1.0): [DOWN]})), *tables({(8, 0.5): [DOWN], (8, 2.0): [DOWN]}), Thresholds()
    )
    assert found["n_seeds"].tolist() == [0, 1, 1] and found["held"].tolist() == [False, True, True]


def test_every_learning_rate_whose_promise_did_not_hold_is_named() -> None:
    rows = [(8, "recommended", 0.1, 3, 2, False), (8, "low end", 0.05, 3, 0, False), (8, "high end", 0.2, 3, 3, True)]
    rows += [(64, "recommended", 0.4, 4, 4, True), (64, "low end", 0.3, 4, 4, True), (64, "high end", 0.5, 4, 3, True)]
    assert summarize_self_check(pd.DataFrame(rows, columns=list(SELF_CHECK))) == Check(
        "self-check",
        False,
        "on 4 fresh seeds the recommended learning rate was good in 6 of 7 runs, the ends of its interval in 10 of 14;"
        " not held: 0.1 at batch size 8 in 2 of 3, 0.05 at batch size 8 in 0 of 3",
    )


def test_self_check_leaves_verdicts_and_recommendation_as_they_were() -> None:
    runs, curves = tables(hill())
    plain, checked = judge(runs, curves), self_check({"recommended": 0, "low end": 0, "high end": 0})
    pd.testing.assert_frame_equal(plain.cells, checked.cells)
    pd.testing.assert_frame_equal(plain.recommendations, checked.recommendations)


def test_self_check_of_another_recommendation_or_on_seeds_seen_since_is_to_be_run_again() -> None:
    runs, curves = tables(hill())
    other = tables({(8, 0.012345): [DOWN] * 3})
    for fresh in ((other[0].assign(seed=[7, 8, 9]), other[1]), (other[0], other[1])):
        check = judge(runs, curves, fresh=fresh).trust[-1]
        assert check == Check("self-check", False, "it was made for another recommendation", {"self_check": 3})


def test_each_learning_rate_is_checked_once() -> None:
    row = pd.Series({"learning_rate": 0.3, "low": 0.1, "high": 0.3})
    assert rates_to_check(row) == [0.1, 0.3]
