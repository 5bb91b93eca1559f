"""The self-check trains what was promised on fresh seeds, once, beside the study; and a study's seeds may grow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pandas as pd
import pytest

from studies import StudyConfig, StudyInUse, judge_study, load_study, report_study, run_study, runs_table
from studies.search import run_self_check
from studies.storage.database_url import storage_url
from studies.storage.lock import locked
from studies.storage.stored import self_check_name


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    """A finished study with one good learning rate in three."""
    storage = str(tmp_path_factory.mktemp("self_check") / "studies.db")
    config = StudyConfig(learning_rate=(0.005, 50), points=5, batch_size=64, seeds=1, epochs=2, storage=storage)
    run_study(config)
    return config


@pytest.fixture
def study(small: StudyConfig) -> optuna.Study:
    return load_study(small.storage, "digits")


def test_self_check_trains_the_promise_on_fresh_seeds_and_leaves_the_study_alone(
    small: StudyConfig, study: optuna.Study, tmp_path: Path
) -> None:
    before = runs_table(study)
    recommendations = judge_study(study).recommendations
    calls: list[tuple[int, int]] = []
    check = run_self_check(small, recommendations, seeds=2, on_run=lambda _, done, planned: calls.append((done, planned)))
    row = recommendations.iloc[0]
    rates = sorted({row["low"], row["learning_rate"], row["high"]})
    runs = runs_table(check)
    assert sorted(zip(runs["learning_rate"], runs["seed"], strict=True)) == [(rate, seed) for rate in rates for seed in (1, 2)]
    assert calls[-1] == (2 * len(rates), 2 * len(rates))
    pd.testing.assert_frame_equal(runs_table(study), before)

    judged = judge_study(study)
    assert judged.self_check["n_seeds"].tolist() == [2, 2, 2]
    assert judged.trust[-1].name == "self-check"
    page = report_study(study, tmp_path).read_text()
    assert "on 2 fresh seeds the recommended learning rate was good in" in page

    again: list[tuple[int, int]] = []
    run_self_check(small, recommendations, seeds=2, on_run=lambda _, done, planned: again.append((done, planned)))
    assert again == [(2 * len(rates), 2 * len(rates))], "nothing is trained twice"


def test_self_check_that_runs_already_is_refused(small: StudyConfig, study: optuna.Study) -> None:
    with (
        locked(storage_url(small.storage), self_check_name("digits")),
        pytest.raises(StudyInUse, match="study 'digits.self-check' is being worked on by process"),
    ):
        run_self_check(small, judge_study(study).recommendations, seeds=2)


def test_name_of_a_self_check_is_refused_for_a_study() -> None:
    with pytest.raises(ValueError, match=r"name must not end with .self-check, which belongs to .*, got 'a.self-check'"):
        StudyConfig(name="a.self-check")


def test_seeds_may_grow_and_only_the_new_ones_are_trained(small: StudyConfig, study: optuna.Study) -> None:
    calls: list[tuple[int, int]] = []
    run_study(replace(small, seeds=2), on_run=lambda _, done, planned: calls.append((done, planned)))
    assert calls[0] == (5, 10) and calls[-1] == (10, 10)
    assert sorted(runs_table(study)["seed"]) == [0] * 5 + [1] * 5
    with pytest.raises(ValueError, match="seeds was 2, now 1"):
        run_study(small)
