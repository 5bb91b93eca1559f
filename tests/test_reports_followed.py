"""Runs that stepped with another learning rate than was asked have no verdict, count nowhere, and everything says so."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import tables

from reports.comparison import compare
from reports.figures import plot_final_height
from reports.judging.judged import Judged, judge
from reports.judging.verdicts import classify, classify_cells
from reports.pages.folder import write_report
from reports.pages.page_data import page_data
from reports.pages.spreadsheet import read_csv
from studies.commands.terminal import print_answer

INF = math.inf
RATES = (0.001, 0.01, 0.1, 1.0, 10.0)
FOLLOWS = "the learning rate does not follow what the study asks"
Tables = tuple[pd.DataFrame, pd.DataFrame]


def walk(share: float) -> list[float]:
    """A way down, another one for each share of the way that is left after a measurement."""
    return [2.0 * share**k for k in range(9)]


def study(steps: dict[float, str | None], *, seeds: int = 1, **curves: list[float]) -> Tables:
    """Runs that stepped with these highest learning rates by the ones that were asked; no two have the same curve.

    curves: by "at_RATE" instead of a way down that is faster at higher learning rates.
    """
    given = {float(name.removeprefix("at_").replace("_", ".")): curve for name, curve in curves.items()}
    cells = {
        (8, rate): [given.get(rate, walk(0.9 - 0.1 * number + 0.001 * seed)) for seed in range(seeds)]
        for number, rate in enumerate(steps)
    }
    runs, heights = tables(cells)
    return runs.assign(highest_learning_rates=runs["learning_rate"].map(steps).astype(object)), heights


def follows(factor: float = 1.0) -> dict[float, str | None]:
    return {rate: f"{rate * factor:.7g}" for rate in RATES}


def reasons(runs: pd.DataFrame, curves: pd.DataFrame) -> dict[float, str]:
    """Of the runs that have no verdict, by their learning rates."""
    judged = classify(runs, curves)
    assert judged["verdict"].isna().equals(judged["reason"].str.startswith("no verdict: "))
    cells = classify_cells(runs, curves)
    assert set(cells["learning_rate"]) == set(judged.loc[judged["verdict"].notna(), "learning_rate"])
    without = judged[judged["verdict"].isna()]
    return dict(zip(without["learning_rate"], without["reason"], strict=True))


@pytest.mark.parametrize("factor", [1.0, 0.1, 0.0], ids=["as asked", "a tenth, as of a layer", "frozen"])
def test_runs_that_share_a_factor_are_judged_whatever_it_is(factor: float) -> None:
    assert reasons(*study(follows(factor))) == {}


def test_a_cap_leaves_those_above_it_without_a_verdict_and_says_the_numbers() -> None:
    found = reasons(*study(follows() | {1.0: "0.05", 10.0: "0.05"}))
    assert found == {
        1.0: f"no verdict: stepped with at most 0.05 where 1 was asked (x0.05, others x1): {FOLLOWS}",
        10.0: f"no verdict: stepped with at most 0.05 where 10 was asked (x0.005, others x1): {FOLLOWS}",
    }


def test_one_percent_is_as_asked_and_two_are_not() -> None:
    assert reasons(*study(follows() | {10.0: "10.09"})) == {}
    assert list(reasons(*study(follows() | {10.0: "10.2"}))) == [10.0]
    assert list(reasons(*study(follows() | {10.0: "9.8"}))) == [10.0]


def test_a_peak_of_its_own_leaves_no_run_with_a_verdict() -> None:
    found = reasons(*study(dict.fromkeys(RATES, "0.05")))
    assert list(found) == list(RATES)
    told = "no verdict: stepped with at most 0.05 where 0.01 was asked (x5, and no two learning rates by the same factor)"
    assert found[0.01] == f"{told}: {FOLLOWS}"


def test_of_a_peak_of_its_own_only_what_turned_non_finite_is_judged() -> None:
    """It may be a warm-up that the run did not finish."""
    assert list(reasons(*study(dict.fromkeys(RATES, "0.05"), at_10=[2.0, 9.0, INF]))) == list(RATES[:4])


@pytest.mark.parametrize("steps", ["0.3", "0.0003"], ids=["far in", "hardly begun"])
def test_run_that_ended_in_its_warm_up_may_lie_below_and_a_whole_one_may_not(steps: str) -> None:
    warming = follows() | {10.0: steps}
    assert list(reasons(*study(warming))) == [10.0]
    assert reasons(*study(warming, at_10=[2.0, 9.0, INF])) == {}
    runs, curves = study(warming)
    runs["ended_early"] = runs["learning_rate"].map({10.0: "EarlyStopping"}).astype(object)
    assert reasons(runs, curves) == {}


def test_run_that_ended_early_never_lies_above() -> None:
    assert list(reasons(*study(follows() | {10.0: "30"}, at_10=[2.0, 9.0, INF]))) == [10.0]


def test_factor_of_whole_runs_counts_though_more_exploded_in_the_first_step_of_their_warm_up() -> None:
    steps = {0.001: "0.001", 0.01: "0.01", 0.1: "0.001", 1.0: "0.01", 10.0: "0.1"}
    gone = {"at_0_1": [2.0, 9.0, INF], "at_1": [2.0, 99.0, INF], "at_10": [2.0, INF]}
    assert reasons(*study(steps, **gone)) == {}


def test_of_one_learning_rate_nothing_can_be_said() -> None:
    assert reasons(*study({0.1: "5"}, seeds=3)) == {}
    assert reasons(*study({0.1: "5", 1.0: "1"}, at_1=[2.0, 9.0, INF])) == {}


def test_seeds_are_no_learning_rates() -> None:
    """Five runs of one capped learning rate share its factor, two runs of two learning rates another."""
    runs, curves = study({0.1: "0.1", 1.0: "1", 10.0: "1"}, seeds=5)
    assert set(reasons(runs[(runs["learning_rate"] == 10) | (runs["seed"] == 0)], curves)) == {10.0}


def test_every_group_must_follow_and_groups_are_compared_where_there_are() -> None:
    steps: dict[float, str | None] = {rate: f"{rate / 10:g}; {rate:g}" for rate in RATES}
    assert reasons(*study(steps)) == {}
    found = reasons(*study(steps | {10.0: "1; 0.5"}))
    assert found == {
        10.0: "no verdict: stepped with at most 0.5 in parameter group 2 where 10 was asked (x0.05, others x1): " + FOLLOWS
    }
    assert reasons(*study(steps | {10.0: "1"})) == {}, "one group fewer"
    assert list(reasons(*study(steps | {10.0: "10"}))) == [10.0]


def test_unknown_learning_rates_speak_for_nothing() -> None:
    assert reasons(*study(follows() | {10.0: None})) == {}
    assert reasons(*study(dict.fromkeys(RATES))) == {}
    runs, curves = study(dict.fromkeys(RATES, "0.05"))
    assert reasons(runs.drop(columns="highest_learning_rates"), curves) == {}


def test_equal_heights_of_two_learning_rates_are_of_none() -> None:
    same = walk(0.5)
    found = reasons(*study(dict.fromkeys(RATES), at_0_1=same, at_10=same))
    assert found == {
        0.1: "no verdict: its heights equal those at 10: the learning rate has no effect",
        10.0: "no verdict: its heights equal those at 0.1: the learning rate has no effect",
    }
    almost = [*same[:-1], same[-1] * 1.001]
    assert reasons(*study(dict.fromkeys(RATES), at_0_1=same, at_10=almost)) == {}


def test_equal_heights_that_did_not_move_or_of_another_seed_say_nothing() -> None:
    for still in ([2.0] * 9, [2.0 - 1e-7 * k for k in range(9)], [2.0] + [43.2] * 8, [2.0, INF]):
        assert reasons(*study(dict.fromkeys(RATES), at_0_1=still, at_10=still)) == {}
    runs, curves = study(dict.fromkeys(RATES), at_0_1=walk(0.5), at_10=walk(0.5))
    assert reasons(runs.assign(seed=np.arange(5)), curves) == {}
    assert reasons(runs.assign(batch_size=[8, 8, 8, 8, 16]), curves) == {}


def test_run_without_a_verdict_makes_no_floor() -> None:
    """The capped one ends lowest; without it the others are judged as if it had never been."""
    lowest = [2.0, 0.1] + [-9.0] * 7
    steps = follows() | {10.0: "0.05"}
    runs, curves = study(steps, at_10=lowest)
    alone = classify(runs[runs["learning_rate"] < 10], curves)
    pd.testing.assert_frame_equal(classify(runs, curves).iloc[:4], alone, check_dtype=False)
    assert judge(runs, curves).cells["floor"].tolist() == alone["final_height"].min().repeat(4).tolist()


# --- everything that shows a study ---


def some() -> Judged:
    """Three seeds at two batch sizes; the highest learning rate is capped, and a batch size has no verdict at all."""
    runs, curves = study(follows() | {10.0: "0.05"}, seeds=3)
    others, more = study(dict.fromkeys(RATES, "0.05"), seeds=3)
    others, more = others.assign(trial=others["trial"] + 15, batch_size=64), more.assign(trial=more["trial"] + 15)
    both = pd.concat([runs, others], ignore_index=True)
    return judge(both.assign(member_of=both["trial"]), pd.concat([curves, more], ignore_index=True))


def none() -> Judged:
    return judge(*study(dict.fromkeys(RATES, "0.05"), seeds=3))


def test_all_without_a_verdict_recommend_nothing_and_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    judged = none()
    assert judged.cells.empty and judged.recommendations.empty and judged.edges.empty
    sentence = "Batch size 8: nothing is recommended: no run follows the learning rate that was asked, so none is judged."
    assert [(answer.sentence, answer.aside, answer.is_good) for answer in judged.answers] == [(sentence, "", False)]
    [check] = judged.trust
    assert (check.name, check.passed, check.changes) == ("learning rate", False, None)
    assert check.sentence.startswith(
        "15 of 15 runs have no verdict; run 0: stepped with at most 0.05 where 0.001 was asked (x50, "
    )
    print_answer("field", judged)
    said = capsys.readouterr().out
    for text in (str(judged), judged._repr_html_()):
        assert "15 without a verdict" in text and "nothing is recommended" in text and "learning rate" in text
        assert "No run has finished" not in text
    assert "nothing is recommended" in said and "not to be trusted yet, learning rate: 15 of 15 runs" in said


def test_some_without_a_verdict_are_told_beside_the_answer() -> None:
    judged = some()
    [one, other] = judged.answers
    small, note, good, large, nothing = one.sentence, one.aside, one.is_good, other.sentence, other.is_good
    assert small.startswith("Batch size 8: use ") and good and not nothing
    assert note.startswith("3 of 15 runs do not follow the learning rate and are not judged")
    assert large.startswith("Batch size 64: nothing is recommended: ")
    assert judged.trust[0].name == "learning rate" and judged.trust[0].sentence.startswith(
        "18 of 30 runs have no verdict; run 12"
    )
    assert set(judged.recommendations["batch_size"]) == {8}


def test_no_check_of_the_learning_rate_where_all_follow() -> None:
    assert "learning rate" not in [check.name for check in judge(*study(follows())).trust]


@pytest.mark.parametrize("make", [some, none], ids=["some", "all"])
def test_reports_are_written_with_the_runs_and_their_reasons(make: Any, tmp_path: Path) -> None:
    judged = make()
    page = write_report(judged, tmp_path, title="field", configuration={}).read_text()
    for text in (page, (tmp_path / "report.md").read_text()):
        assert "Runs without a verdict" in text and "where 10 was asked (x0.005, " in text
        assert f"{judged.runs['verdict'].isna().sum()} of {len(judged.runs)} runs have no verdict" in text
        assert "did not finish" not in text and "nothing is recommended" in text
    assert 'id="runs"' in page
    runs = read_csv(tmp_path / "runs.csv")
    assert runs["highest_learning_rates"].tolist() == judged.runs["highest_learning_rates"].tolist()
    data = page_data(judged)
    assert ["highest_learning_rates", "highest learning rate", False] in data["columns"]


def test_figure_of_runs_without_a_verdict_says_so() -> None:
    figure = plot_final_height(none().runs)
    assert [text.get_text() for text in figure.axes[0].texts] == ["No run has a verdict."]


def test_comparison_tells_which_runs_have_no_verdict_and_refuses_a_study_of_nothing_else() -> None:
    fine = judge(*study(follows(), seeds=3))
    assert compare({"fine": fine, "capped": some()}).notes[0].startswith("capped: 18 of 30 runs have no verdict; run 12: ")
    with pytest.raises(ValueError, match="study 'fixed' must have a run with a verdict, it has none"):
        compare({"fine": fine, "fixed": none()})
