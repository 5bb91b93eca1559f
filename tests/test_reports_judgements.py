"""Judgements beside the verdict, on curves whose answer a person can see."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from conftest import reference_tables, tables

from reports.judging.decided import BY_SEARCH
from reports.judging.judged import judge
from reports.judging.judgements import JUDGEMENT_COLUMNS, LOOKS, judge_curves, score_sensitivity
from reports.judging.verdicts import classify
from reports.style import JUDGEMENTS

DOWN = [2.0, 0.5] + [0.0] * 19
Cells = dict[tuple[int, float], list[list[float]]]


def judged(cells: Cells, **validation: list[float]) -> pd.DataFrame:
    """Judgements of these heights over 20 epochs; validation metrics are recorded once an epoch for trial 1."""
    runs, curves = tables(cells, epochs=20)
    extra = [
        pd.DataFrame({"trial": 1, "step": np.arange(1, 21) * 8, "epoch": np.arange(1.0, 21.0), "metric": name, "value": values})
        for name, values in validation.items()
    ]
    return judge_curves(classify(runs, curves), pd.concat([curves, *extra], ignore_index=True))


def of(table: pd.DataFrame, trial: int) -> dict[str, str]:
    return dict(zip(*table.loc[table["trial"] == trial, ["judgement", "sentence"]].to_numpy().T, strict=True))


def test_a_plain_walk_down_has_no_judgement_and_the_columns_are_there() -> None:
    table = judged({(8, 0.1): [DOWN], (8, 1.0): [[2.0] + [0.0] * 20]})
    assert table.empty and list(table) == list(JUDGEMENT_COLUMNS)
    assert list(LOOKS) == list(JUDGEMENTS)


def test_catapult_is_a_rise_that_recovered_with_its_number() -> None:
    found = judged({(8, 0.1): [DOWN], (8, 1.0): [[2.0, 4.0, 0.1] + [0.0] * 18]})
    assert of(found, 1) == {
        "catapult": "rose 100 % of the way above its start at epoch 1, then recovered and ended 100 % of the way down"
    }
    assert found["number"].tolist() == [1.0]


def test_rise_that_did_not_recover_is_no_catapult() -> None:
    for end in ([2.0, 4.0] + [3.0] * 19, DOWN[:-1] + [9.0]):
        assert "catapult" not in of(judged({(8, 0.1): [DOWN], (8, 1.0): [end]}), 1)


def test_oscillation_is_told_with_its_size() -> None:
    found = of(judged({(8, 0.1): [DOWN], (8, 1.0): [[2.0] + [0.4, 0.8] * 10]}), 1)
    assert found == {"oscillating": "goes up and down by 20 % of the way between measurements in its second half"}


def test_ripples_and_a_steady_way_down_are_no_oscillation() -> None:
    steady = list(np.linspace(2.0, 0.0, 21))
    for curve in ([2.0] + [0.40, 0.44] * 10, steady):
        assert "oscillating" not in of(judged({(8, 0.1): [DOWN], (8, 1.0): [curve]}), 1)


def test_network_that_died_above_the_fastest_stands_still_and_one_below_it_does_not_die() -> None:
    dead = [2.0, 2.3, 1.8] + [2.01, 2.0] * 9
    above, below = judged({(8, 0.1): [DOWN], (8, 1.0): [dead]}), judged({(8, 0.1): [DOWN], (8, 0.01): [dead]})
    assert of(above, 1) == {"died": "stands still at height 2 since epoch 3 (untrained: 2): it learns no more"}
    assert "died" not in of(below, 1)


def test_slow_run_is_still_improving_and_says_how_far_the_bottom_is() -> None:
    slow = list(np.linspace(2.0, 1.0, 21))  # 2.5 % of the way an epoch, half of the way in 20
    sentence = of(judged({(8, 0.1): [DOWN], (8, 0.01): [slow]}), 1)["still improving"]
    assert sentence.startswith("still improves by 2.") and sentence.endswith(
        "so the budget is too short to tell slow from stuck"
    )
    table = judged({(8, 0.1): [DOWN], (8, 0.01): [slow]})
    assert table["number"].tolist() == pytest.approx([16.0], rel=0.15)


def test_runs_that_the_search_ended_have_no_judgement_and_no_sensitivity() -> None:
    slow = [2.0 - 0.05 * k for k in range(21)]
    runs, curves = tables({(8, 0.01): [slow], (8, 0.1): [DOWN], (8, 1.0): [[2.0] + [0.0] * 20]}, epochs=20)
    assert judge_curves(classify(runs, curves), curves)["judgement"].tolist() == ["still improving"]
    cut = runs.assign(ended_early=[BY_SEARCH, None, None], state=["PRUNED", "COMPLETE", "COMPLETE"])
    judged = classify(cut, curves)
    assert judged["verdict"].notna().all() and judge_curves(judged, curves).empty
    assert math.isnan(score_sensitivity(judged)[8]) and score_sensitivity(classify(runs, curves))[8] > 0


def test_run_that_stands_still_or_has_arrived_is_not_improving() -> None:
    for curve in ([2.0] + [1.0] * 20, DOWN):
        assert "still improving" not in of(judged({(8, 0.1): [DOWN], (8, 0.01): [curve]}), 1)


def test_overfitting_tells_the_gap_and_since_when() -> None:
    rising = [1.0, 0.5, 0.3, *np.linspace(0.31, 0.6, 17)]
    found = of(judged({(8, 0.1): [DOWN], (8, 1.0): [DOWN]}, val_loss=rising), 1)
    gap = "validation loss is 0.6 above the training height; that gap grew by 0.3 since epoch 3"
    assert found == {"overfitting": f"{gap}, where validation loss was lowest"}
    assert of(judged({(8, 0.1): [DOWN], (8, 1.0): [DOWN]}, val_loss=sorted(rising, reverse=True)), 1) == {}


def test_validation_that_rises_with_the_training_height_is_no_overfitting() -> None:
    back_up = [2.0, 0.6, 0.2, 0.2, *np.linspace(0.25, 1.0, 17)]
    found = of(judged({(8, 0.1): [DOWN], (8, 1.0): [back_up]}, val_loss=back_up[1:]), 1)
    assert "overfitting" not in found


@pytest.mark.parametrize(("metric", "finals"), [("val_accuracy", (0.1, 0.9, 0.8)), ("val_error", (0.9, 0.1, 0.2))], ids=str)
def test_loss_and_metric_disagree_whichever_way_the_metric_improves(metric: str, finals: tuple[float, ...]) -> None:
    """What is better for a metric is learnt from the study: the way it goes where heights are low."""
    cells: Cells = {(8, 0.1): [DOWN], (8, 1.0): [DOWN], (8, 0.01): [[2.0] * 21]}
    runs, curves = tables(cells, epochs=20)
    runs = runs.drop(columns=["val_accuracy"]).assign(**{metric: [finals[1], finals[2], finals[0]]})
    rising = [1.0, 0.5, 0.3, *np.linspace(0.31, 0.6, 17)]
    better = np.linspace(0.5, finals[1], 20)
    extra = [
        pd.DataFrame({"trial": 1, "step": np.arange(1, 21) * 8, "epoch": np.arange(1.0, 21.0), "metric": name, "value": values})
        for name, values in (("val_loss", rising), (metric, better))
    ]
    found = judge_curves(classify(runs, curves), pd.concat([curves, *extra], ignore_index=True))
    sentence = of(found, 1)["loss and metric disagree"]
    assert sentence.startswith(f"since epoch 3 validation loss got worse by 0.3 while validation {metric[4:]} improved from ")
    worse = [extra[0], extra[1].assign(value=better[::-1])]
    found = judge_curves(classify(runs, curves), pd.concat([curves, *worse], ignore_index=True))
    assert "loss and metric disagree" not in of(found, 1)


def test_evaluation_lags_where_batches_are_learnt_and_the_height_is_not() -> None:
    cells: Cells = {(8, 0.1): [DOWN], (8, 1.0): [list(np.linspace(2.0, 2.9, 21))]}
    found = of(judged(cells, minibatch_loss=list(np.linspace(2.0, 0.4, 20))), 1)
    assert found["evaluation lags"].startswith(
        "its batches end at a loss of 0.653 in training mode, its height at 2.77 in evaluat"
    )
    for losses in (list(np.linspace(2.0, 2.0, 20)), [2.0] * 15 + [math.inf] * 5):
        assert "evaluation lags" not in of(judged(cells, minibatch_loss=losses), 1)
    hovering: Cells = {(8, 0.1): [DOWN], (8, 1.0): [[2.0] + [1.0, 1.4] * 10]}
    assert "evaluation lags" not in of(judged(hovering, minibatch_loss=[0.8, 1.6] * 10), 1)


def changed(by: float, *, down: list[float] = DOWN) -> dict[str, str]:
    """Judgements of a run whose final weights have a height by the loss of the start that is so much higher."""
    runs, curves = tables({(8, 0.1): [DOWN], (8, 1.0): [down]}, epochs=20)
    runs["loss_as_at_start"] = [math.nan, down[-1] + by]
    return of(judge_curves(classify(runs, curves), curves), 1)


@pytest.mark.parametrize("by", [0.05, -0.05, 1e30], ids=str)
def test_loss_that_changed_is_told_by_the_two_heights_of_the_final_weights(by: float) -> None:
    found = changed(by)
    assert list(found) == ["changing loss"]
    if by == 0.05:
        assert found["changing loss"] == (
            "its loss changed during the run: the final weights have height 0.05 by the loss of the start and 0 by that of the"
            " end, so heights of different times cannot be compared"
        )


def test_loss_that_changed_by_a_ripple_or_is_not_known_to_have_is_not_spoken_of() -> None:
    """The way is 2, tau a tenth of it, and a fifth of that is 0.04."""
    assert changed(0.039) == changed(-0.039) == changed(math.nan) == {}
    last = [*DOWN[:-1], 0.03]  # above the median of the last heights, which is 0
    assert list(changed(0.038, down=last)) == [] and list(changed(-0.045, down=last)) == ["changing loss"]


def test_validation_that_is_not_finite_is_told_with_its_first_step_and_disturbs_no_other_judgement() -> None:
    cells: Cells = {(8, 0.1): [DOWN], (8, 1.0): [[2.0, 4.0, 0.1] + [0.0] * 18]}
    rising = [1.0, 0.5, 0.3, *np.linspace(0.31, 0.6, 17)]
    for bad in (math.inf, math.nan, -math.inf):
        for losses in ([*rising[:6], bad, *rising[7:]], [bad] * 20):
            found = of(judged(cells, val_loss=losses, val_accuracy=rising), 1)
            assert set(found) == {"catapult", "validation not finite"}
            count, step, epoch = (1, 56, 7) if losses[0] == 1 else (20, 8, 1)
            expected = f"validation loss was not finite in {count} of 20 validations, first at step {step} (epoch {epoch})"
            assert found["validation not finite"] == expected
        other = of(judged(cells, val_loss=rising, val_accuracy=[*rising[:19], bad]), 1)
        assert set(other) == {"catapult", "validation not finite", "overfitting"}
        assert other["validation not finite"].startswith("validation accuracy was not finite in 1 of 20")


def test_metrics_of_a_users_own_disturb_no_judgement() -> None:
    cells: Cells = {(8, 0.1): [DOWN], (8, 1.0): [[2.0, 4.0, 0.1] + [0.0] * 18]}
    rising = [1.0, 0.5, 0.3, *np.linspace(0.31, 0.6, 17)]
    own = {name: list(np.tile([math.inf, -1e30, math.nan, 3.0], 5)) for name in ("train_acc", "lr-SGD", "my_val_loss")}
    plain = judged(cells, val_loss=rising)
    assert set(plain["judgement"]) == {"catapult", "overfitting"}
    pd.testing.assert_frame_equal(judged(cells, val_loss=rising, **own), plain)


def test_runs_without_a_way_down_have_no_judgement() -> None:
    table = judged({(8, 0.1): [[2.0, 2.0, 2.0, 2.0]], (8, 1.0): [[2.0, 9.0, math.inf]], (8, 2.0): [[0.0, 0.0, 0.0]]})
    assert table.empty


def test_shifting_and_scaling_the_loss_changes_no_judgement() -> None:
    runs, curves, _ = reference_tables("digits_mlp")
    moved = runs.assign(**{name: runs[name] * 3 - 50 for name in ("first_height", "final_height")})
    before = judge_curves(classify(runs, curves), curves)
    after = judge_curves(
        classify(moved, curves.assign(value=curves["value"] * 3 - 50)), curves.assign(value=curves["value"] * 3 - 50)
    )
    assert before[["trial", "judgement"]].equals(after[["trial", "judgement"]]) and len(before) > 50


def test_sensitivity_is_the_mean_excess_over_the_lowest_clipped_at_the_start() -> None:
    """By hand: excesses 1.9, 0, 1 and, clipped at the untrained height of 2, 2."""
    cells = {(8, 0.01): [[2.0, 1.9, 1.9, 1.9]], (8, 0.1): [[2.0, 0.0, 0.0, 0.0]], (8, 1.0): [[2.0, 1.0, 1.0, 1.0]]}
    runs, curves = tables(cells | {(8, 10.0): [[2.0, 9.0, math.inf]]})
    assert score_sensitivity(classify(runs, curves)) == {8: pytest.approx((1.9 + 0 + 1 + 2) / 4)}


def test_a_loss_that_changed_is_a_remark_also_where_no_run_has_a_way_down() -> None:
    runs, curves = tables({(8, 0.1): [[1.0, 2.0, 3.0]], (8, 1.0): [[1.0, 3.0, 4.0]]})
    judged = judge(runs.assign(loss_as_at_start=[0.5, None]), curves, remarks=["as it was"])
    assert judged.remarks[0] == "as it was"
    assert "the loss changed during 1 of 2 runs, such as run 0 (at the end 0.5 by the loss of its start" in judged.remarks[1]
    assert judge(runs, curves).remarks == []
