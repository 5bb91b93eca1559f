"""The two tables of a study: what stands in them, and that nothing of a failed or divergent run is lost."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from studies import StudyConfig, curves_table, judge_study, report_study, run_study, runs_table

COLUMNS = (
    "trial learning_rate batch_size seed state epochs steps examples seconds nonfinite_at first_height final_height "
    "validation_examples val_accuracy val_loss highest_learning_rates ended_early loss_as_at_start member_of error traceback"
).split()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> optuna.Study:
    """Learning rates 0.1 and 1e30, two epochs of five steps; and one failed trial, one that never began."""
    storage = str(tmp_path_factory.mktemp("tables") / "studies.db")
    config = StudyConfig(learning_rate=(0.1, 1e30), points=2, batch_size=256, seeds=1, epochs=2, storage=storage)
    study = run_study(config)
    study.enqueue_trial({"learning_rate": 0.5, "batch_size": 256, "seed": 0})
    trial = study.ask(study.trials[0].distributions)
    trial.set_user_attr("error", "ValueError: broken")
    trial.set_user_attr("traceback", "Traceback:\n  File 'model.py', line 1\nValueError: broken\n")
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    return study


def test_runs_have_the_documented_columns(study: optuna.Study) -> None:
    runs = runs_table(study)
    assert list(runs.columns) == COLUMNS
    kinds = runs.dtypes.astype(str)
    assert {name: kinds[name] for name in ("trial", "batch_size", "seed", "member_of")} == dict.fromkeys(
        ("trial", "batch_size", "seed", "member_of"), "int64"
    )
    assert kinds["nonfinite_at"] == "Int64"
    assert {kinds[name] for name in ("learning_rate", "epochs", "seconds", "first_height", "final_height")} == {"float64"}


def test_runs_say_what_was_trained(study: optuna.Study) -> None:
    good, divergent, _ = runs_table(study).to_dict("records")
    assert (good["epochs"], good["steps"], good["examples"], good["state"]) == (2.0, 10, 2560, "COMPLETE")
    assert pd.isna(good["nonfinite_at"]) and pd.isna(good["error"]) and good["member_of"] == good["trial"] == 0
    assert 0 < good["final_height"] < good["first_height"]
    assert divergent["final_height"] == math.inf
    assert divergent["nonfinite_at"] <= 2 and pd.isna(divergent["val_loss"])
    assert divergent["epochs"] == pytest.approx(divergent["steps"] / 5)


def test_failed_trial_stays_and_one_that_never_began_does_not(study: optuna.Study) -> None:
    runs = runs_table(study)
    assert runs["trial"].tolist() == [0, 1, 2]
    assert runs["state"].tolist() == ["COMPLETE", "COMPLETE", "FAIL"]
    assert runs["error"].tolist()[2] == "ValueError: broken"
    assert runs["traceback"].tolist()[2] == "Traceback:\n  File 'model.py', line 1\nValueError: broken\n"
    assert runs["traceback"].isna().tolist() == [True, True, False]


def test_curves_are_tidy_and_epochs_are_steps_over_steps_per_epoch(study: optuna.Study) -> None:
    curves = curves_table(study)
    assert list(curves.columns) == ["trial", "step", "epoch", "metric", "value"]
    assert set(curves["metric"]) == {"height", "minibatch_loss", "val_loss", "val_accuracy"}
    assert curves["epoch"].tolist() == pytest.approx((curves["step"] / 5).tolist())
    for _, curve in curves.groupby(["trial", "metric"]):
        assert curve["step"].is_monotonic_increasing and curve["step"].is_unique
    assert not curves["value"].isna().any()


def test_curves_are_those_of_each_trial_one_after_the_other(study: optuna.Study) -> None:
    parts = []
    for trial in study.trials:
        facts = trial.user_attrs | trial.user_attrs.get("facts", {})
        for metric, (steps, values) in facts.get("curves", {}).items():
            values = [math.inf if value is None else value for value in values]
            part = pd.DataFrame({"trial": trial.number, "step": steps, "epoch": 0.0, "metric": metric, "value": values})
            parts.append(part.assign(epoch=part["step"] / (facts["steps"] / facts["epochs"])))
    pd.testing.assert_frame_equal(curves_table(study), pd.concat(parts, ignore_index=True), check_exact=True)


def test_curve_of_a_divergent_run_ends_with_inf(study: optuna.Study) -> None:
    curves, runs = curves_table(study), runs_table(study)
    heights = curves[(curves["trial"] == 1) & (curves["metric"] == "height")]
    assert heights["value"].tolist()[-1] == math.inf
    assert heights["value"].map(math.isfinite).tolist()[:-1] == [True] * (len(heights) - 1)
    assert heights["step"].tolist()[-1] == runs["nonfinite_at"][1]


def test_tables_of_runs_are_those_of_a_study_of_them(study: optuna.Study) -> None:
    from studies import Workload, tables_of, train

    runs, curves = tables_of(train(Workload.of(), [(0.1, 0), (1e30, 0)], batch_size=256, epochs=2))
    stored = runs_table(study)
    stored = stored[stored["state"] == "COMPLETE"]
    other = ["seconds", "error", "traceback"]
    pd.testing.assert_frame_equal(runs.drop(columns=other), stored.drop(columns=other))
    pd.testing.assert_frame_equal(curves, curves_table(study))


def test_study_without_trials_gives_empty_tables() -> None:
    empty = optuna.create_study()
    assert len(runs_table(empty)) == len(curves_table(empty)) == 0
    assert "learning_rate" in runs_table(empty) and list(curves_table(empty)) == ["trial", "step", "epoch", "metric", "value"]


def test_report_names_every_run_that_failed(study: optuna.Study, tmp_path: Path) -> None:
    page = report_study(study, tmp_path / "report")
    assert page == tmp_path / "report" / "report.html"
    assert len(pd.read_csv(tmp_path / "report" / "runs.csv")) == 3
    assert "ValueError: broken" in page.read_text()
    assert "<summary>trial 2: ValueError: broken</summary>" in page.read_text()


def test_study_is_judged_by_the_metric_its_configuration_monitors() -> None:
    """Heights are the same at both learning rates; validation loss is better at 0.1, accuracy at 0.2."""
    study = optuna.create_study()
    space = {"learning_rate": FloatDistribution(0.1, 0.2), "batch_size": IntDistribution(8, 8), "seed": IntDistribution(0, 2)}
    for seed, (rate, loss, accuracy) in itertools.product(range(3), ((0.1, 0.2, 0.7), (0.2, 0.3, 0.9))):
        facts = {"epochs": 3, "steps": 30, "examples": 240, "seconds": 1.0, "first_height": 2.0, "final_height": 0.0}
        facts |= {"metrics": {"val_loss": loss, "val_accuracy": accuracy}}
        facts |= {"curves": {"height": [[0, 10, 20, 30], [2.0, 0.0, 0.0, 0.0]], "train_acc": [[0, 30], [0.1, None]]}}
        params = {"learning_rate": rate, "batch_size": 8, "seed": seed}
        study.add_trial(create_trial(params=params, distributions=dict(space), value=0.0, user_attrs=facts))
    assert set(curves_table(study)["metric"]) == {"height", "train_acc"}

    def answer() -> tuple[float, str]:
        use = judge_study(study).recommendations.iloc[0]
        return use["learning_rate"], use["reason"]

    for configuration in (None, {}, {"monitor": None, "mode": None}, {"monitor": "val_loss", "mode": "min"}):
        if configuration is not None:
            study.set_user_attr("configuration", configuration)
        rate, reason = answer()
        assert rate == 0.1 and "validation loss within" in reason and "the lowest inside the interval, 0.2" in reason
    for monitor in ("val_accuracy", "accuracy", "valid/accuracy"):  # as a module may log it
        study.set_user_attr("configuration", {"monitor": monitor, "mode": "max"})
        rate, reason = answer()
        assert rate == 0.2 and "validation accuracy within" in reason and "the highest inside the interval, 0.9" in reason
    study.set_user_attr("configuration", {"monitor": "train_acc", "mode": "max"})
    assert "within one standard error" not in answer()[1]


def test_halves_of_characters_in_an_exception_are_written_as_escapes() -> None:
    study = optuna.create_study()
    space = {"batch_size": IntDistribution(8, 8), "seed": IntDistribution(0, 0)}
    trial = study.ask({"learning_rate": FloatDistribution(0.1, 0.2), **space})
    trial.set_user_attr("error", "no file caf\udce9.csv")
    study.tell(trial, state=TrialState.FAIL)
    assert runs_table(study)["error"].tolist() == ["no file caf\\udce9.csv"]


def test_what_a_run_took_before_the_search_trained_it_again_stands_beside_it() -> None:
    study = optuna.create_study()
    space = {"learning_rate": FloatDistribution(0.1, 0.2), "batch_size": IntDistribution(8, 8), "seed": IntDistribution(0, 1)}

    def add(rate: float, seed: int, epochs: int, *, cut: bool = True) -> None:
        facts = {"epochs": epochs, "steps": 10 * epochs, "examples": 80 * epochs, "seconds": epochs / 4, "metrics": {}}
        facts |= {"first_height": 2.0, "final_height": 1.0, "curves": {"height": [[0, 10 * epochs], [2.0, 1.0]]}}
        ended = {"state": TrialState.PRUNED} if cut else {"value": 1.0}
        params = {"learning_rate": rate, "batch_size": 8, "seed": seed}
        study.add_trial(create_trial(params=params, distributions=dict(space), user_attrs=facts, **ended))

    for rate, seed in ((0.1, 0), (0.2, 0), (0.2, 1)):
        add(rate, seed, 1)
    assert "examples_before" not in runs_table(study)
    add(0.1, 0, 2)
    add(0.2, 0, 3)
    add(0.1, 0, 4, cut=False)
    runs = runs_table(study)
    assert runs["trial"].tolist() == [2, 4, 5] and set(curves_table(study)["trial"]) == {2, 4, 5}
    assert runs["examples"].tolist() == [80, 240, 320]
    assert runs["examples_before"].tolist() == [0, 80, 80 + 160]
    assert runs["seconds_before"].tolist() == [0, 0.25, 0.25 + 0.5]
