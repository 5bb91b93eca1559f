"""What the batch size does: bumpiness is the spread of the minibatch loss around the height, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pandas as pd
import pytest
from conftest import four_verdicts, tables
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import create_trial

from reports.judging.batch_size import BATCH_SIZES, batch_sizes, measure_bumpiness, minibatch_points, tell_unlike
from reports.judging.judged import judge
from studies import Workload, judge_study, tables_of, train

Tables = tuple[pd.DataFrame, pd.DataFrame]
DOWN = [2.0, *np.geomspace(1.5, 0.1, 79)]


def hill(noise: dict[int, float], *, rates: tuple[float, ...] = (0.1,), seeds: int = 3) -> Tables:
    """Runs that all go down alike; the minibatch loss strays from the height by a normal ``noise``, by batch size."""
    runs, curves = tables({(size, rate): [DOWN] * seeds for size in noise for rate in rates})
    spread = curves["trial"].map(runs.set_index("trial")["batch_size"].map(noise))
    losses = curves["value"] + spread * np.random.default_rng(0).normal(size=len(curves))
    return runs, pd.concat([curves, curves.assign(metric="minibatch_loss", value=losses)], ignore_index=True)


def change(curves: pd.DataFrame, metric: str, by: np.ndarray | float) -> pd.DataFrame:
    rows = curves["metric"] == metric
    return curves.assign(
        value=curves["value"].where(~rows, curves["value"] + (by if np.isscalar(by) else np.resize(by, len(rows))))
    )


def bumpiness(runs: pd.DataFrame, curves: pd.DataFrame) -> list[float]:
    return list(judge(runs, curves).batch_sizes["bumpiness"])


def test_bumpiness_is_the_standard_deviation_of_normal_noise() -> None:
    assert bumpiness(*hill({16: 0.4, 64: 0.2, 256: 0.1})) == pytest.approx([0.4, 0.2, 0.1], rel=0.15)


def test_bumpiness_is_the_median_over_the_seeds_of_a_plain_formula() -> None:
    runs, curves = hill({16: 0.4}, seeds=5)
    off = curves.pivot(index=["trial", "step"], columns="metric", values="value").eval("minibatch_loss - height")
    each = [1.4826 * np.median(np.abs(d - np.median(d))) for _, d in off.groupby("trial")]
    assert bumpiness(runs, curves) == pytest.approx([np.median(each)])


def test_a_constant_distance_does_not_change_bumpiness_and_spikes_hardly() -> None:
    runs, curves = hill({16: 0.4})
    before = bumpiness(runs, curves)
    assert bumpiness(runs, change(curves, "minibatch_loss", 3.0)) == pytest.approx(before)
    assert bumpiness(runs, change(curves, "minibatch_loss", np.array([100.0] + [0.0] * 39))) == pytest.approx(before, rel=0.1)


def test_expected_bumpiness_falls_as_the_root_of_the_smallest_batch_size() -> None:
    table = judge(*hill({16: 0.4, 64: 0.4, 256: 0.4})).batch_sizes
    assert list(table["expected_bumpiness"] / table["bumpiness"].iloc[0]) == pytest.approx([1, 1 / 2, 1 / 4])


def test_untrained_digits_are_as_bumpy_as_the_mean_of_independent_examples() -> None:
    # a stride of nothing keeps the weights, so both batch sizes see one place on the hill; 1,347 examples without replacement
    seeds = [(1e-9, seed) for seed in range(6)]
    runs = [run for size in (32, 256) for run in train(Workload.of(), seeds, batch_size=size, epochs=8)]
    table = judge(*tables_of(runs)).batch_sizes
    of_sample = math.sqrt((1 - 256 / 1347) / (1 - 32 / 1347))
    assert table["bumpiness"][1] == pytest.approx(table["expected_bumpiness"][1] * of_sample, rel=0.25)


def test_rows_are_about_the_recommended_learning_rate_or_the_one_with_the_most_progress() -> None:
    judged = judge(*hill({16: 0.1, 64: 0.1}, rates=(0.1, 0.2, 0.3)))
    assert list(judged.batch_sizes["learning_rate"]) == list(judged.recommendations["learning_rate"])
    cells = judged.cells.assign(progress=[0.1, 0.9, 0.2, 0.5, 0.1, 0.2])
    table = batch_sizes(judged.runs, cells, judged.curves, judged.recommendations.iloc[:0])
    assert list(table["learning_rate"]) == [0.2, 0.1]
    diverged = judge(*tables({(32, rate): [[2.0, 9.0, math.inf]] for rate in (1.0, 2.0)})).batch_sizes
    assert diverged["learning_rate"].tolist() == [1.0] and diverged["bumpiness"].isna().all()


def test_times_are_those_of_the_cell_and_an_epoch_is_a_share_of_the_run() -> None:
    judged = judge(*hill({16: 0.1}))
    runs = judged.runs.assign(seconds=[1.0, 5.0, 9.0])
    row = batch_sizes(runs, judged.cells, judged.curves, judged.recommendations).iloc[0]
    assert (row["seconds_per_epoch"], row["steps_per_epoch"]) == (5.0 / 10, 8.0)
    cell = judged.cells.iloc[0]
    for unit in ("epochs", "steps", "seconds"):
        assert row[f"time_to_bottom_{unit}"] == cell[f"time_to_bottom_{unit}"] > 0


def test_runs_that_were_trained_in_one_fit_are_counted() -> None:
    judged = judge(*hill({16: 0.1, 64: 0.1}, rates=(0.1, 0.2)))
    small = judged.runs["batch_size"] == 16
    runs = judged.runs.assign(member_of=judged.runs["trial"].where(~small, judged.runs["trial"].min()))
    table = batch_sizes(runs, judged.cells, judged.curves, judged.recommendations)
    assert table["runs_together"].tolist() == [6, 1]


def test_points_are_the_steps_at_which_both_losses_are_finite() -> None:
    runs, curves = hill({16: 0.1}, seeds=2)
    curves.loc[curves["step"] == 3, "value"] = [math.inf, 1.0, 1.0, math.nan]
    points = minibatch_points(curves, runs["trial"])
    assert set(points[points["trial"] == 0]["step"]) == set(points[points["trial"] == 1]["step"]) == set(curves["step"]) - {3}
    assert minibatch_points(curves, runs["trial"][1:])["trial"].unique().tolist() == [1]
    assert list(measure_bumpiness(points[points["step"] < 4])) == []  # of four points


def test_a_height_that_is_another_metric_has_no_minibatches_to_compare_with() -> None:
    runs, curves = hill({16: 0.1})
    assert judge(runs, curves, height_is_loss=False).batch_sizes["bumpiness"].isna().all()
    assert judge(runs, curves, monitor="val_accuracy", mode="max").batch_sizes["bumpiness"].notna().all()


def test_a_study_without_minibatch_losses_or_without_runs_has_the_columns_all_the_same() -> None:
    runs, curves = four_verdicts()
    table = judge(runs, curves).batch_sizes
    assert list(table) == BATCH_SIZES and table["bumpiness"].isna().all() and table["seconds_per_epoch"].tolist() == [0.2]
    empty = judge(runs.assign(state="RUNNING"), curves.iloc[:0]).batch_sizes
    assert list(empty) == BATCH_SIZES and empty.empty


@pytest.mark.parametrize(
    ("monitor", "compared"),
    [(None, True), ("val_loss", True), ("val_acc", True), ("valid/acc", True), ("acc", False), ("train_acc", False)],
)
def test_minibatch_losses_are_compared_with_heights_only_where_the_height_is_the_loss(
    monitor: str | None, compared: bool
) -> None:
    study = optuna.create_study()
    space = {"learning_rate": FloatDistribution(0.1, 0.2), "batch_size": IntDistribution(8, 8), "seed": IntDistribution(0, 2)}
    steps = list(range(10))
    losses = [steps, [2.0 + k % 2 for k in steps]]
    facts = {"epochs": 1, "steps": 9, "examples": 72, "seconds": 1.0, "first_height": 2.0, "final_height": 0.2}
    facts |= {"metrics": {"val_acc": 0.5, "val_loss": 0.5}}
    for rate in (0.1, 0.2):
        facts |= {"curves": {"height": [steps, [2.0 - rate * k for k in steps]], "minibatch_loss": losses}}
        params = {"learning_rate": rate, "batch_size": 8, "seed": 0}
        study.add_trial(create_trial(params=params, distributions=dict(space), value=0.0, user_attrs=facts))
    study.set_user_attr("configuration", {"monitor": monitor})
    assert judge_study(study).batch_sizes["bumpiness"].notna().all() == compared


@pytest.mark.parametrize(
    ("together", "said"),
    [
        ([1, 1], ""),
        ([51, 26], ""),
        ([24, 1], "24 together at batch size 4, alone at batch size 16"),
        ([51, 20], "51 together at batch size 4, 20 together at batch size 16"),
    ],
)
def test_seconds_are_alike_where_about_as_many_runs_were_trained_in_one_fit(together: list[int], said: str) -> None:
    assert tell_unlike(pd.DataFrame({"batch_size": [4, 16], "runs_together": together})) == said
