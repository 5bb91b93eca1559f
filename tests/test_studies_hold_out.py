"""Batch sizes that are held out of a study, and how far the law of the others is off there."""

import math
from pathlib import Path

import pytest

from reports.judging.at_batch_size import batch_axis
from reports.judging.hold_out import judge_hold_out, tell_hold_out
from reports.judging.recommendation import TO_TOO_HIGH
from studies import StudyConfig, judge_study, run_study
from studies.errors import BadInput
from studies.hold_out import held_out, hold_out_config
from tests.test_reports_batch_law import saturating, study


def config(tmp_path: Path, **changes: object) -> StudyConfig:
    values = {"data": "ParabolaData", "batch_size": [4, 8, 16], "epochs": 12, "seeds": 1, "points": 13, "fuse": "never"}
    values |= {"learning_rate": (0.001, 10.0), "name": "hill", "workers": 1, "storage": str(tmp_path / "studies.db")}
    return StudyConfig.from_mapping(values | changes)


def test_seeds_of_a_hold_out_follow_on_those_of_the_study_and_nothing_else_differs(tmp_path: Path) -> None:
    mine = config(tmp_path, seeds=3, seed_everything=5)
    other = hold_out_config(mine, [32, 64])
    assert (other.name, other.batch_sizes, other.seed_values) == ("hill-hold-out", (32, 64), (8, 9, 10))
    assert (other.epochs, other.learning_rates, other.storage) == (mine.epochs, mine.learning_rates, mine.storage)


def test_batch_size_that_the_study_trains_cannot_be_held_out(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="hold_out must name batch sizes that batch_size does not, got 8 in both"):
        hold_out_config(config(tmp_path), [8, 32])


def test_own_batches_have_no_other_size_to_hold_out(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"hold_out needs batches of other sizes, which own_batches forbids, got \[8\]"):
        hold_out_config(config(tmp_path, batch_size=4, own_batches=True), [8])


def test_study_is_told_how_its_law_held_where_a_hold_out_stands_beside_it(tmp_path: Path) -> None:
    mine = config(tmp_path)
    trained = run_study(mine, out=tmp_path / "out")
    assert held_out(trained) is None and judge_study(trained).hold_out.empty
    run_study(hold_out_config(mine, [6]), out=tmp_path / "out")
    judged = judge_study(trained)
    assert set(judged.hold_out["batch_size"]) <= {6}
    assert judged.batch_axis.foretells == bool(len(judged.hold_out))


def test_study_of_other_settings_is_no_hold_out_whatever_it_is_called(tmp_path: Path) -> None:
    mine = config(tmp_path)
    trained = run_study(mine, out=tmp_path / "out")
    run_study(config(tmp_path, batch_size=[6], epochs=6, seed_everything=1, name="hill-hold-out"), out=tmp_path / "out")
    assert held_out(trained) is None


def test_errors_are_the_distances_to_what_fresh_runs_show() -> None:
    known, fresh = study((8, 32, 128, 256)), study((64,))
    table = judge_hold_out(batch_axis(known), fresh).set_index("edge")
    row = table.loc[TO_TOO_HIGH]
    assert math.log10(row["measured"]) == pytest.approx(saturating(64), abs=0.08)
    assert row["off"] == pytest.approx(abs(math.log10(row["predicted"] / row["measured"])), abs=1e-6)
    assert row["off_nearest"] == pytest.approx(saturating(64) - saturating(32), abs=0.1)
    assert row["off_square_root"] == pytest.approx(abs(row["off_nearest"] - 0.5 * math.log10(2)), abs=1e-6)
    assert row["held"] == (row["low"] <= row["measured"] <= row["high"])
    assert tell_hold_out(table.reset_index())[0].startswith("Held out, batch size 64: good to too high at 1.3, foretold 1.2 ")


def test_batch_sizes_too_far_outside_are_not_held_against_the_law() -> None:
    assert set(judge_hold_out(batch_axis(study((8, 16, 32))), study((64, 256)))["batch_size"]) == {64}
