"""A study trains its plan once, whatever interrupts it: kills, Ctrl-C, broken modules, second launches."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from reports import classify_cells
from studies import FailedAlike, StudyConfig, StudyInUse, curves_table, load_study, run_study, runs_table
from studies.storage.database_url import storage_url
from studies.storage.lock import locked

ROOT = Path(__file__).parents[1]
HEAD = """import os, sys, torch
from lightning_modules import ImageClassifier
counts = {'steps': -2}
class Model(ImageClassifier):
"""
# counts from the first run on: the preflight takes two steps before. A hook of its own has it trained alone.
STEP = """    def on_train_end(self): pass
    def training_step(self, batch, batch_idx):
        if self.training and torch.is_grad_enabled():
            counts['steps'] += 1
            %s
        return super().training_step(batch, batch_idx)
"""


def small(folder: Path, **changes: object) -> StudyConfig:
    values = {"data": "Digits", "learning_rate": (0.1, 10), "points": 3, "batch_size": 256, "seeds": 1, "epochs": 1}
    return StudyConfig.from_mapping(values | {"storage": str(folder / "studies.db")} | changes)


def module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, line: str) -> str:
    """The import path of a module whose training step does ``line`` first; 5 steps are a run of ``small``."""
    (folder / f"{name}.py").write_text(HEAD + STEP % line)
    monkeypatch.syspath_prepend(folder)
    return f"{name}.Model"


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyConfig, optuna.Study, list[tuple[int, int]]]:
    """A finished study of learning rates 0.1, about 3e14 and 1e30: the last diverges."""
    config = small(tmp_path_factory.mktemp("trained"), learning_rate=(0.1, 1e30))
    calls: list[tuple[int, int]] = []
    study = run_study(config, on_run=lambda _, finished, planned: calls.append((finished, planned)))
    return config, study, calls


def test_plan_is_trained_once_and_progress_is_told(trained: tuple[StudyConfig, optuna.Study, list[tuple[int, int]]]) -> None:
    config, study, calls = trained
    assert [trial.params["learning_rate"] for trial in study.trials] == list(config.learning_rates)
    assert states(study) == ["COMPLETE"] * 3
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_value_is_the_final_validation_loss(trained: tuple[StudyConfig, optuna.Study, object]) -> None:
    trial = trained[1].trials[0]
    assert trial.value is not None and math.isfinite(trial.value)
    assert trial.value == pytest.approx(trial.user_attrs["facts"]["metrics"]["val_loss"], rel=1e-6)
    assert trial.user_attrs["nonfinite_at"] is None


def test_divergent_run_is_complete_with_value_inf(trained: tuple[StudyConfig, optuna.Study, object]) -> None:
    trial = trained[1].trials[-1]
    assert trial.state is TrialState.COMPLETE
    assert trial.value == math.inf
    assert 1 <= trial.user_attrs["nonfinite_at"] <= 2
    assert trial.user_attrs["facts"]["metrics"] == {}


def test_second_call_trains_nothing(trained: tuple[StudyConfig, optuna.Study, object]) -> None:
    calls: list[int] = []
    again = run_study(trained[0], on_run=lambda _, finished, __: calls.append(finished))
    assert (len(again.trials), calls) == (3, [3])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epochs": 2}, "epochs was 1, now 2"),
        ({"seeds": 2, "points": 4}, "points was 3, now 4; seeds was 1, now 2"),
        ({"batch_size": (64, 256)}, r"batch_size was \[256\], now \[64, 256\]"),
        (
            {"model": {"class_path": "ImageClassifier", "init_args": {"momentum": 0.5}}},
            r"model.init_args.momentum was None, now 0.5",
        ),
    ],
    ids=str,
)
def test_other_settings_are_refused_with_the_difference(
    trained: tuple[StudyConfig, optuna.Study, object], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=rf"study 'digits' exists with other settings \({sentence}\): give another name"):
        run_study(replace(trained[0], **changes))
    assert len(load_study(trained[0].storage, "digits").trials) == 3


def test_study_of_something_else_is_refused(tmp_path: Path) -> None:
    optuna.create_study(study_name="digits", storage=f"sqlite:///{tmp_path / 'studies.db'}").ask()
    with pytest.raises(ValueError, match="name must be new or a study of this project, 'digits' was made by something else"):
        run_study(small(tmp_path))


def test_batch_size_above_the_training_set_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"batch_size must be between 1 and 1347 \(the training set\), got 1348"):
        run_study(small(tmp_path, batch_size=[64, 1348]))
    assert not list(tmp_path.iterdir())


def test_second_launch_is_refused_naming_the_process(tmp_path: Path) -> None:
    config = small(tmp_path)
    with (
        locked(storage_url(config.storage), "digits"),
        pytest.raises(StudyInUse, match=f"study 'digits' is being worked on by process {os.getpid()} on"),
    ):
        run_study(config)


def _complete(path: Path) -> int:
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0])
        except sqlite3.OperationalError:  # no tables yet
            return 0


def _verdicts(study: optuna.Study) -> pd.DataFrame:
    cells = classify_cells(runs_table(study), curves_table(study))
    return cells.drop(columns="time_to_bottom_seconds").sort_values(["batch_size", "learning_rate"], ignore_index=True)


def test_killed_study_goes_on_to_the_table_of_an_unbroken_one(tmp_path: Path) -> None:
    config = small(tmp_path, points=6, batch_size=(64, 256), epochs=2, seeds=2, fuse="never")
    storage = Path(config.storage)
    command = "scripts/launch_study.py --learning-rate 0.1 10 --points 6 --batch-size 64 256 --seeds 2 --epochs 2".split()
    command += ["--fuse", "never"]
    arguments = [sys.executable, *command, "--storage", str(storage), "--out", str(tmp_path / "outputs")]
    child = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while _complete(storage) < 3 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = load_study(str(storage), "digits")
    kept = [trial.number for trial in before.trials if trial.state is TrialState.COMPLETE]
    assert 3 <= len(kept) < config.n_runs, "the child was not killed in the middle"

    study = run_study(config)
    complete = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    cells = [tuple(trial.params[key] for key in ("learning_rate", "batch_size", "seed")) for trial in complete]
    assert len(cells) == len(set(cells)) == config.n_runs
    assert set(states(study)) <= {"COMPLETE", "FAIL"}
    assert [trial.number for trial in complete][: len(kept)] == kept
    for trial in study.trials:
        if trial.state is TrialState.FAIL and trial.params:
            assert trial.user_attrs["error"] == "the process ended before the run did"

    whole = run_study(replace(config, storage=str(tmp_path / "whole.db")))
    pd.testing.assert_frame_equal(_verdicts(study), _verdicts(whole))


def test_running_trial_of_a_dead_process_is_failed_and_trained_again(tmp_path: Path) -> None:
    config = small(tmp_path, points=2)

    def die(study: optuna.Study, finished: int, _: int) -> None:
        if finished == 1:
            study.ask()  # RUNNING, never told
            study.enqueue_trial({"learning_rate": 10.0})  # WAITING
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(config, on_run=die)
    study = run_study(config)
    assert states(study) == ["COMPLETE", "FAIL", "FAIL", "COMPLETE"]


@pytest.mark.parametrize(("name", "action"), [("pressed", "raise KeyboardInterrupt"), ("sigterm", "os.kill(os.getpid(), 15)")])
def test_interrupt_fails_the_run_in_flight_and_keeps_the_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, action: str
) -> None:
    line = f"if counts['steps'] == 8: {action}"
    config = small(tmp_path, model=module(tmp_path, monkeypatch, name, line))
    with pytest.raises(KeyboardInterrupt):
        run_study(config)
    study = load_study(config.storage, "digits")
    assert states(study) == ["COMPLETE", "FAIL"]
    assert study.trials[1].user_attrs["error"] == "interrupted"
    resumed = run_study(config)
    assert states(resumed) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert resumed.trials[0].values == study.trials[0].values


def test_three_equal_failures_stop_the_study_and_keep_their_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(
        tmp_path,
        points=5,
        model=module(tmp_path, monkeypatch, "broken", "if counts['steps'] > 0: raise ValueError('broken on purpose')"),
    )
    sentence = "3 runs in a row failed alike, so the study stopped: ValueError: broken on purpose"
    with pytest.raises(RuntimeError, match=sentence):
        run_study(config)
    study = load_study(config.storage, "digits")
    assert states(study) == ["FAIL"] * 3
    for trial in study.trials:
        assert trial.user_attrs["error"] == "ValueError: broken on purpose"
        assert "broken.py" in trial.user_attrs["traceback"]


def test_study_of_which_every_run_fails_ends_with_the_last_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "if counts['steps'] > 0: raise ValueError(counts['steps'])"
    config = small(tmp_path, points=2, model=module(tmp_path, monkeypatch, "always_broken", line))
    with pytest.raises(FailedAlike, match="no run of the study finished, the last of 2: ValueError: 2"):
        run_study(config)
    assert states(load_study(config.storage, "digits")) == ["FAIL"] * 2


def test_single_failure_is_skipped_and_trained_at_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "if counts['steps'] == 3: raise ValueError('once')"
    config = small(tmp_path, model=module(tmp_path, monkeypatch, "failing_once", line))
    assert states(run_study(config)) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert states(run_study(config)) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]


def test_exit_inside_the_module_is_a_failure_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(tmp_path, model=module(tmp_path, monkeypatch, "leaving", "if counts['steps'] > 0: sys.exit(3)"))
    with pytest.raises(RuntimeError, match=r"failed alike.*the module left by sys.exit\(3\)"):
        run_study(config)
    assert states(load_study(config.storage, "digits")) == ["FAIL"] * 3


@pytest.mark.filterwarnings("ignore:.training_step. returned .None.:UserWarning")  # Lightning's, meant for the user
def test_module_that_never_steps_is_a_failure_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(tmp_path, model=module(tmp_path, monkeypatch, "lossless", "if counts['steps'] > 0: return None"))
    with pytest.raises(RuntimeError, match="no step was taken: training_step returned no loss"):
        run_study(config)


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_free_sampler_resumes_without_repeating_draws(tmp_path: Path, sampler: str) -> None:
    config = small(tmp_path, sampler=sampler, trials=5, points=None, batch_size=(128, 256), seeds=2)

    def stop(_: optuna.Study, finished: int, planned: int) -> None:
        assert planned == 5
        if finished == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(config, on_run=stop)
    study = run_study(config)
    assert states(study) == ["COMPLETE"] * 5
    rates = [trial.params["learning_rate"] for trial in study.trials]
    assert len(set(rates)) == 5
    assert all(0.1 <= rate <= 10 for rate in rates)
    assert [trial.params["seed"] for trial in study.trials] == [0, 1, 0, 1, 0]
    assert {trial.params["batch_size"] for trial in study.trials} <= {128, 256}
