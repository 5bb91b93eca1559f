"""A budget in steps: every run takes as many optimizer steps at every batch size, however it is trained."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from lightning_modules import MLP, ImageClassifier
from reports.comparison.tables import compare
from reports.judging.decided import BY_SEARCH
from studies import StudyConfig, Workload, judge_study, run_study, runs_table
from studies.bill import expected_bills, tell_bills
from studies.identity import configuration, is_same
from studies.next_run import given_options, launch_arguments
from studies.plan import Planned
from studies.tables import short_runs
from studies.training.fixed import epochs_to_train, steps_per_epoch
from studies.training.fusing import train_fused
from studies.training.runs import train

SIZES = (64, 512)


def small(folder: Path, **changes: object) -> StudyConfig:
    values = {"learning_rate": (0.1, 1.0), "points": 2, "batch_size": SIZES, "seeds": 1, "steps": 30}
    return StudyConfig.from_mapping(values | {"storage": str(folder / "studies.db")} | changes)


def searched(folder: Path, **changes: object) -> StudyConfig:
    return small(folder, **{"points": None, "learning_rate": (0.01, 10.0), "per_decade": 2, "batch_size": 256} | changes)


def of(**options: Any) -> dict[str, Any]:
    config = StudyConfig(**options)
    return configuration(config, Workload.of_config(config).as_dict())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"steps": "many"}, "steps must be a whole number of at least 1, got 'many'"),
        ({"steps": 2.5}, "steps must be a whole number of at least 1, got 2.5"),
        ({"steps": 10**10}, "steps must be at most 1,000,000,000, got 10000000000"),
        ({"steps": 30, "epochs": 5}, "steps and epochs exclude each other: give one, got 30 and 5"),
        ({"steps": 30, "epochs": 30}, "steps and epochs exclude each other: give one, got 30 and 30"),
    ],
)
def test_a_budget_that_is_none_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        StudyConfig(**options)


def test_steps_win_over_a_configuration_that_was_written_for_one_run() -> None:
    lengths = {"max_epochs": 3, "max_steps": 7, "min_steps": 2, "max_time": "00:00:01:00"}
    config = StudyConfig(steps=30, trainer=lengths)
    assert config == StudyConfig(steps=30) == StudyConfig(steps=30, trainer={"max_epochs": -1})
    assert replace(config, workers=1).steps == 30


def test_a_study_in_steps_is_another_than_one_in_epochs_and_grows_in_a_search_alone() -> None:
    assert of(steps=30)["steps"] == 30 and "epochs" not in of(steps=30) and of(steps=30)["trainer"] == {}
    assert "steps" not in of() and of(trainer={"max_steps": 30})["trainer"] == {"max_steps": 30}
    assert is_same(of(steps=30), of(steps=40)) and not is_same(of(steps=40), of(steps=30))
    assert not is_same(of(steps=30, points=2), of(steps=40, points=2))
    assert not is_same(of(epochs=30), of(steps=30)) and not is_same(of(steps=30), of(epochs=30))


def test_the_command_to_paste_says_steps_and_makes_the_same_study() -> None:
    config = StudyConfig(steps=30, points=2, trainer={"gradient_clip_val": 1.0})
    told = given_options(config)
    assert StudyConfig.from_mapping(told) == config and not {"epochs"} & set(told)
    assert "max_steps" not in told["trainer"] and "trainer" not in given_options(StudyConfig(steps=30))
    line = " ".join(launch_arguments("digits", told, {"steps": 90}))
    assert "--steps 90" in line and "epochs" not in line and line.endswith("--name digits-longer")


def test_every_run_of_a_grid_takes_as_many_steps_at_every_batch_size(tmp_path: Path) -> None:
    config = small(tmp_path, fuse="never", steps=45)
    judged = judge_study(run_study(config, out=tmp_path / "out"))
    assert (judged.runs["steps"] == 45).all() and judged.runs["ended_early"].isna().all()
    assert judged.runs.groupby("batch_size")["epochs"].first().is_monotonic_increasing
    assert judged.curves.query("metric == 'height'").groupby("trial")["step"].max().tolist() == [45] * 4
    for size in SIZES:
        together = train_fused(
            Workload.of_config(config), [Planned(rate, size, 0) for rate in (0.1, 1.0)], epochs=config.epochs or 1
        )
        assert [run.steps for run in together] == [45, 45] and not any(run.ended_by for run in together)
        alone = judged.runs.loc[judged.runs["batch_size"] == size, "final_height"].tolist()
        assert [run.final_height for run in together] == pytest.approx(alone, rel=1e-3)


def test_a_random_study_in_steps_takes_them(tmp_path: Path) -> None:
    study = run_study(small(tmp_path, points=None, sampler="random", trials=3), out=tmp_path / "out")
    assert runs_table(study)["steps"].tolist() == [30] * 3


def test_a_study_that_was_killed_goes_on_with_as_many_steps(tmp_path: Path) -> None:
    def kill(study: optuna.Study, finished: int, planned: int) -> None:
        if finished == 1:
            raise KeyboardInterrupt

    config = small(tmp_path, fuse="never", checkpoint=True)
    with pytest.raises(KeyboardInterrupt):
        run_study(config, out=tmp_path / "out", on_run=kill)
    runs = runs_table(run_study(config, out=tmp_path / "out"))
    assert runs.query("state == 'COMPLETE'")["steps"].tolist() == [30] * 4


def test_a_search_races_within_its_steps_and_goes_on_with_more(tmp_path: Path) -> None:
    study = run_study(searched(tmp_path, fuse="never", steps=40), out=tmp_path / "out")
    runs = runs_table(study)
    whole = runs[runs["ended_early"].isna()]
    assert (whole["steps"] == 40).all() and len(whole)
    n_before = len(study.trials)
    facts = study.trials[0].user_attrs["facts"]  # the race begins with a sixteenth of the budget, before any run is whole
    assert facts["ended_early"] == BY_SEARCH and facts["steps"] < 10

    study = run_study(searched(tmp_path, fuse="never", steps=80), out=tmp_path / "out")
    longer = judge_study(study)
    ended = longer.runs["ended_early"].isna()
    assert (longer.runs.loc[ended, "steps"] == 80).all() and (longer.runs.loc[~ended, "steps"] < 80).all()
    assert study.user_attrs["budgets"] == [[n_before, 40]]
    assert len(short_runs(study, study.trials)) == len(whole)  # they count as ended early
    with pytest.raises(ValueError, match="exists with other settings .*steps was 80, now 40"):
        run_study(searched(tmp_path, fuse="never", steps=40), out=tmp_path / "out")
    with pytest.raises(ValueError, match="exists with other settings .*epochs was None, now 24"):
        run_study(searched(tmp_path, fuse="never", steps=None), out=tmp_path / "out")


def test_an_answer_says_which_budget_it_was(tmp_path: Path) -> None:
    of_steps = judge_study(run_study(small(tmp_path, learning_rate=(0.001, 1.0)), out=tmp_path / "out"))
    assert of_steps.conditions == "1 seed, tau 0.1, rho 3, 30 steps"
    budget = next(check for check in of_steps.trust if check.name == "budget")
    assert "30 steps are less than 3 x" in budget.sentence and set(budget.changes or {}) == {"steps"}
    an_epoch = steps_per_epoch(Workload.of(), 512)
    reasons = of_steps.runs.query("batch_size == 512 and learning_rate == 0.001")["reason"]
    assert f"did not reach the bottom in 30 steps ({30 / an_epoch:g} epochs)" in reasons.iloc[0]
    of_epochs = judge_study(run_study(small(tmp_path, steps=None, epochs=2, name="epochs"), out=tmp_path / "out"))
    assert of_epochs.conditions == "1 seed, tau 0.1, rho 3, 2 epochs"
    notes = compare({"a": of_steps, "b": of_epochs}).notes
    assert any("different kinds of budget, 30 steps and 2 epochs a run" in note for note in notes)


def test_a_plan_tells_steps_and_the_epochs_that_they_are(tmp_path: Path) -> None:
    config = small(tmp_path, fuse="never")
    bills = expected_bills(config)
    an_epoch = steps_per_epoch(Workload.of_config(config), 512)
    assert bills[1].length == f"30 steps ({30 / an_epoch:.3g} epochs)" and bills[1].examples == 2 * 30 * 512
    assert "runs of at most 30 steps (" in tell_bills(bills)[0]


def test_steps_of_an_epoch_are_those_that_a_run_takes(tmp_path: Path) -> None:
    for accumulated in (1, 4):
        config = small(tmp_path, trainer={"accumulate_grad_batches": accumulated}, fuse="never", name=f"by{accumulated}")
        workload = Workload.of_config(config)
        runs = runs_table(run_study(replace(config, steps=None, epochs=1, trainer=workload.trainer | {"max_steps": -1})))
        assert runs.groupby("batch_size")["steps"].first().tolist() == [steps_per_epoch(workload, size) for size in SIZES]


class Annealed(ImageClassifier):
    """Its schedule is made for the epochs of the Trainer, as most are."""

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=self.learning_rate)
        return [optimizer], [CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs or 1)]


@pytest.mark.parametrize("together", [False, True])
def test_a_schedule_made_for_max_epochs_ends_with_the_steps(tmp_path: Path, monkeypatch: Any, together: bool) -> None:
    rates: list[float] = []
    step = CosineAnnealingLR.step

    def look(schedule: CosineAnnealingLR, epoch: int | None = None) -> None:
        step(schedule, epoch)
        rates.extend(map(float, schedule.get_last_lr()))

    monkeypatch.setattr(CosineAnnealingLR, "step", look)
    workload = Workload.of_config(small(tmp_path, model=Annealed(MLP()), steps=40, batch_size=128))
    assert steps_per_epoch(workload, 128) == 10 and epochs_to_train(workload, 128, 40) == 4
    if together:
        train_fused(workload, [Planned(0.4, 128, seed) for seed in (0, 1)], epochs=40)
    else:
        train(workload, [(0.4, 0)], batch_size=128, epochs=40, folder=tmp_path)
    assert {0.0, 0.06, 0.2, 0.34, 0.4} <= {round(rate, 2) for rate in rates}  # beside the rate that the module has by itself
