"""The ledger: each number is a plain sum, and what is not known is missing."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest
from conftest import four_verdicts, searched, tables

from reports.judging.decided import BY_SEARCH
from reports.judging.judged import judge
from reports.judging.ledger import LEDGER, PER_DECADE, describe_ledger, keep_ledger
from reports.judging.summary import records, summarize_study, to_json
from reports.judging.verdicts import classify
from reports.style import DIVERGENT, GOOD, TOO_HIGH, TOO_LOW

WAYS = ["this study", "full grid as fine", "default grid", "one full run", "range test"]


def runs(*rows: tuple[float, int, str | None, str, int, float]) -> pd.DataFrame:
    """Judged runs at batch size 8, from learning rate, seed, verdict, who ended it ("" for nobody), examples and seconds."""
    names = ["learning_rate", "seed", "verdict", "ended_early", "examples", "seconds"]
    table = pd.DataFrame(rows, columns=names).assign(batch_size=8, final_height=1.0, nonfinite_at=None)
    cut = table["ended_early"] == BY_SEARCH
    ended = table["ended_early"].where(table["ended_early"] != "", None)
    return table.assign(trial=range(len(table)), state=cut.map({True: "PRUNED", False: "COMPLETE"}), ended_early=ended)


def search() -> pd.DataFrame:
    """Over two decades, two seeds; every seed's edge of good lies in a gap of 0.5 decades, and the others in one of 1.5."""
    low, middle, high = 0.01, 10**-1.5, 1.0
    return runs(
        (low, 0, TOO_LOW, BY_SEARCH, 100, 1.0),
        (low, 1, TOO_LOW, BY_SEARCH, 140, 1.0),
        (middle, 0, GOOD, "", 800, 6.0),
        (middle, 1, GOOD, "", 1000, 6.0),
        (high, 0, DIVERGENT, BY_SEARCH, 60, 0.5),
        (high, 1, DIVERGENT, BY_SEARCH, 100, 0.5),
    )


def test_every_way_is_a_plain_sum() -> None:
    ledger = keep_ledger(search()).set_index("way").astype(float)
    assert list(ledger.index) == WAYS and [ledger.index.name, *ledger.columns] == list(LEDGER)
    examples, seconds, full = 100 + 140 + 800 + 1000 + 60 + 100, 15.0, 900
    each = seconds / examples
    fine = 1 / ((2 * 0.5 + 4 * 1.5) / 6)  # 0.86 a decade
    expected = {
        "this study": (math.nan, 6, examples, seconds),
        "full grid as fine": (fine, 2 * 3, 2 * 3 * full, 2 * 3 * full * each),
        "default grid": (4, 2 * 9, 2 * 9 * full, 2 * 9 * full * each),
        "one full run": (math.nan, 1, full, full * each),
        "range test": (math.nan, 1, 100 * 8, 100 * 8 * each),
    }
    for way, (density, n, seen, took) in expected.items():
        found = ledger.loc[way]
        assert found["per_decade"] == pytest.approx(density, nan_ok=True), way
        assert (found["runs"], found["examples"]) == (n, seen), way
        assert found["seconds"] == pytest.approx(took), way
        assert found["share"] == pytest.approx(examples / seen), way
    assert keep_ledger(search(), per_decade=10).set_index("way").loc["full grid as fine", "runs"] == 2 * 21


def test_sentence_says_full_runs_and_the_share_of_the_grid() -> None:
    assert describe_ledger(keep_ledger(search(), per_decade=10)) == (
        "This study took 2.44 full runs' worth of training, 5.82 % of the full grid of the same resolution"
        " (10 learning rates a decade)."
    )


def test_ledger_of_a_search_is_that_of_its_table_alone() -> None:
    judged = judge(*searched())
    pd.testing.assert_frame_equal(judged.ledger, keep_ledger(classify(*searched())))
    assert judged.ledger["examples"].tolist() == [54 * 256, 10 * 2560, 34 * 2560, 2560, 3200]


def test_batch_sizes_have_their_own_ranges_full_runs_and_seconds() -> None:
    small, large = search(), search().query("learning_rate < 1").assign(batch_size=16)
    large = large.assign(trial=large["trial"] + 6, examples=large["examples"] * 2, seconds=large["seconds"] * 4)
    ledger = keep_ledger(pd.concat([small, large], ignore_index=True), per_decade=2).set_index("way")
    assert ledger.loc["full grid as fine", "runs"] == 2 * 5 + 2 * 2
    assert ledger.loc["full grid as fine", "examples"] == 2 * 5 * 900 + 2 * 2 * 1800
    assert ledger.loc["full grid as fine", "seconds"] == pytest.approx(9000 * 15 / 2200 + 7200 * 56 / 4080)
    assert ledger.loc["one full run", ["runs", "examples"]].tolist() == [1, (900 + 1800) / 2]
    assert ledger.loc["range test", ["runs", "examples"]].tolist() == [2, 100 * 8 + 100 * 16]


@pytest.mark.parametrize("n_sizes", [3, 6, 7, 10, 49])
def test_one_full_run_is_one_whatever_the_number_of_batch_sizes(n_sizes: int) -> None:
    """The parts of a run by batch size do not add up to one in floats: six sixths are less."""
    table = pd.concat([search().assign(batch_size=8 * size) for size in range(1, n_sizes + 1)], ignore_index=True)
    assert keep_ledger(table.assign(trial=range(len(table)))).set_index("way")["runs"]["one full run"] == 1


def test_grids_take_the_seconds_of_the_fastest_fit_and_one_run_the_mean() -> None:
    table = search().assign(member_of=[0, 0, 2, 2, 4, 4])  # 2 s for 240 examples, 12 for 1800, 1 for 160
    ledger = keep_ledger(table, per_decade=10).set_index("way")
    assert ledger.loc["default grid", "seconds"] == pytest.approx(18 * 900 / 160)
    assert ledger.loc["one full run", "seconds"] == pytest.approx(900 * 15 / 2200)


def test_what_a_run_took_before_it_was_trained_again_counts() -> None:
    plain = keep_ledger(search()).set_index("way")
    again = search().assign(examples_before=[0, 0, 50, 30, 0, 0], seconds_before=[0, 0, 0.5, 0.25, 0, 0])
    ledger = keep_ledger(again).set_index("way")
    assert ledger.loc["this study", ["examples", "seconds"]].tolist() == [2280, 15.75]
    for way in WAYS[1:]:
        assert (
            ledger.loc[way, ["runs", "examples", "seconds"]].tolist()
            == plain.loc[way, ["runs", "examples", "seconds"]].tolist()
        )
        assert ledger.loc[way, "share"] == pytest.approx(plain.loc[way, "share"] * 2280 / 2200)


def test_grid_tells_its_totals_alone() -> None:
    judged = judge(*four_verdicts())
    assert judged.ledger["way"].tolist() == ["this study"]
    assert describe_ledger(judged.ledger) == "This study took 4 runs: 10,240 examples seen in training, 8 s."
    one = judge(*tables({(32, 0.1): [[2.0, 0.0, 0.0]]}))
    assert describe_ledger(one.ledger) == "This study took 1 run: 2,560 examples seen in training, 2 s."


def test_nothing_finished_is_an_empty_ledger() -> None:
    for table in (search().iloc[:0], search().assign(state="RUNNING"), search().assign(state="FAIL")):
        ledger = keep_ledger(table)
        assert ledger.empty and list(ledger) == list(LEDGER) and describe_ledger(ledger) == ""
        assert records(ledger) == []


def test_full_run_is_one_that_nobody_ended_where_there_is_one() -> None:
    def full(**changes: object) -> float:
        return float(keep_ledger(search().assign(**changes)).set_index("way").loc["one full run", "examples"])

    ends = search()["ended_early"]
    assert full(ended_early=ends.where(ends.index != 3, "EarlyStopping")) == 800
    assert full(ended_early=ends.where(ends.notna(), "EarlyStopping")) == 900
    assert full(nonfinite_at=[None, None, 7, None, None, None]) == 1000
    assert full(final_height=[1, 1, 1, math.inf, 1, 1]) == 800


def test_batch_size_without_a_full_run_has_those_of_the_others() -> None:
    lost = search().query("verdict == 'divergent'").assign(batch_size=16, trial=[6, 7])
    ledger = keep_ledger(pd.concat([search(), lost], ignore_index=True), per_decade=1).set_index("way")
    assert ledger.loc["full grid as fine", "examples"] == (2 * 3 + 2 * 1) * 900


@pytest.mark.parametrize(
    "changes", [{"nonfinite_at": 3, "final_height": math.inf}, {"state": "PRUNED", "ended_early": BY_SEARCH}]
)
def test_without_a_full_run_only_totals_are_known(changes: dict[str, object]) -> None:
    ledger = keep_ledger(search().assign(**changes))
    assert ledger["examples"].isna().tolist() == [False, True, True, True, False]
    assert describe_ledger(ledger) == "This study took 6 runs: 2,200 examples seen in training, 15 s."
    assert records(ledger)[2] == {
        "way": "default grid",
        "per_decade": PER_DECADE,
        "runs": 18,
        "examples": None,
        "seconds": None,
        "share": None,
    }


def test_edges_that_were_not_met_leave_the_fine_grid_unknown() -> None:
    ledger = keep_ledger(search().assign(verdict=TOO_HIGH)).set_index("way")
    assert ledger.loc["full grid as fine"].isna().all() and ledger.loc["default grid"].notna().all()
    assert "full grid" not in describe_ledger(ledger.reset_index())


def test_tables_of_users_need_no_more_than_verdicts_do() -> None:
    counted = keep_ledger(search().assign(steps=search()["examples"] / 8).drop(columns="examples"))
    pd.testing.assert_frame_equal(counted, keep_ledger(search()))
    bare = keep_ledger(search().drop(columns=["examples", "seconds", "nonfinite_at", "trial"])).set_index("way")
    assert bare.loc["this study", ["runs", "examples"]].tolist() == [6, 0]
    some = search().assign(seconds=search()["seconds"].mask(search().index == 0))
    assert pd.isna(keep_ledger(some)["seconds"][0]) and keep_ledger(some)["seconds"][3] > 0  # of one full run, an estimate
    assert bare["seconds"].isna().all()
    assert keep_ledger(search().drop(columns="ended_early"))["way"].tolist() == ["this study"]
    text = keep_ledger(search().astype({"examples": str, "learning_rate": object}))
    pd.testing.assert_frame_equal(text, keep_ledger(search()))


def test_json_is_plain_and_reads_back() -> None:
    told = json.loads(to_json(summarize_study("digits", judge(*searched()))), parse_constant=pytest.fail)["cost"]
    assert [way["way"] for way in told["ways"]] == WAYS and told["sentence"].startswith("This study took 5.4 full runs")
    assert told["ways"][0] == {
        "way": "this study",
        "per_decade": None,
        "runs": 9,
        "examples": 13824,
        "seconds": 18.0,
        "share": 1.0,
    }
