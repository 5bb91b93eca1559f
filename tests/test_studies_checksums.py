"""Damage to what is stored is noticed before it is read or written to, and nothing that is whole is called damaged."""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from shutil import copy
from typing import Any

import optuna
import pandas as pd
import pytest
import torch
from optuna.trial import TrialState

from lightning_modules import Parabola
from studies import StudyConfig, curves_table, judge_study, load_study, run_study, runs_table
from studies.dashboard.cards_and_notes import mirror
from studies.search import run_self_check
from studies.storage.checksums import verified_trials
from studies.storage.database_url import storage_url
from studies.storage.opening import open_storage
from studies.storage.stored import CONFIGURATION, attributes_of_failure
from studies.training.fusing import Fusing
from studies.trials import write_configuration

SCRIPT = Path(__file__).parent / "endurance" / "corruptions.py"


class Breaks(Parabola):
    """Fails in the second step of its first training; one batch is tried before that."""

    already = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx and torch.is_grad_enabled() and not Breaks.already:
            Breaks.already = True
            raise ValueError("broken on purpose")
        return super().training_step(batch, batch_idx)


def small(folder: Path, **changes: Any) -> StudyConfig:
    """Four runs of less than a tenth of a second, of which those at learning rate 10 diverge."""
    values = {"model": "Parabola", "learning_rate": (0.1, 10.0), "points": 2, "batch_size": [4, 16], "seeds": 1, "epochs": 2}
    return StudyConfig.from_mapping(values | {"name": "small", "workers": 1, "storage": str(folder / "s.db")} | changes)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    """A study with a failed trial and a self-check; its file has no write-ahead log beside it."""
    config = small(tmp_path_factory.mktemp("checksums"))
    study = run_study(config)
    trial = study.ask(study.trials[0].distributions)
    for name, value in attributes_of_failure(trial.params, {"error": "ValueError: broken", "traceback": "in model.py"}).items():
        trial.set_user_attr(name, value)
    study.tell(trial, state=TrialState.FAIL)
    run_self_check(config, judge_study(study).recommendations, seeds=1)
    change(config, "PRAGMA wal_checkpoint(TRUNCATE)")
    return config


def change(config: StudyConfig, *statements: str) -> None:
    with closing(sqlite3.connect(config.storage, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def whole_tables(study: optuna.Study) -> Sequence[pd.DataFrame]:
    return runs_table(study), curves_table(study)


OF_RUN = "study 'small' in '.*s.db' is damaged .trial {} {}.: restore a copy of it, or train again under another name"
NO_MATCH = OF_RUN.format("0", "does not match its checksum")
FACTS = "UPDATE trial_user_attributes SET value_json = replace(value_json, {}, {}) WHERE trial_id = 1 AND key = 'facts'"
DAMAGE = {
    "learning rate": (
        "UPDATE trial_params SET param_value = 0.2 WHERE trial_id = 1 AND param_name = 'learning_rate'",
        NO_MATCH,
    ),
    "seed": ("UPDATE trial_params SET param_value = 7 WHERE trial_id = 1 AND param_name = 'seed'", NO_MATCH),
    "parameter lost": ("DELETE FROM trial_params WHERE trial_id = 1 AND param_name = 'learning_rate'", NO_MATCH),
    "value": ("UPDATE trial_values SET value = value * 1.000001 WHERE trial_id = 1", NO_MATCH),
    "value lost": ("DELETE FROM trial_values WHERE trial_id = 1", NO_MATCH),
    "fact": (FACTS.format("'\"steps\": '", "'\"steps\": 1'"), NO_MATCH),
    "name of a fact": (FACTS.format("'\"seconds\"'", "'\"secunds\"'"), NO_MATCH),
    "checksum": (FACTS.format("'\"checksum\": '", "'\"checksum\": 1'"), NO_MATCH),
    "checksum lost": (FACTS.format("'\"checksum\"'", "'\"checksun\"'"), OF_RUN.format("0", "has lost its checksum")),
    "facts lost": ("DELETE FROM trial_user_attributes WHERE trial_id = 1 AND key = 'facts'", "trial 0 has lost its checksum"),
    "facts no JSON": (FACTS.format("'{'", "'['"), "it cannot be read, JSONDecodeError"),
    "curves": (
        "UPDATE trial_user_attributes SET value_json = replace(value_json, '1', '2') WHERE trial_id = 1 AND key = 'curves'",
        NO_MATCH,
    ),
    "height": ("UPDATE trial_user_attributes SET value_json = '0.001' WHERE trial_id = 1 AND key = 'final_height'", NO_MATCH),
    "failed": ("UPDATE trials SET state = 'FAIL' WHERE trial_id = 1", OF_RUN.format("0", "failed and does not say why")),
    "running": ("UPDATE trials SET state = 'RUNNING' WHERE trial_id = 1", OF_RUN.format("0", "cannot be RUNNING")),
    "waiting": ("UPDATE trials SET state = 'WAITING' WHERE trial_id = 1", OF_RUN.format("0", "cannot be WAITING")),
    "pruned": ("UPDATE trials SET state = 'PRUNED' WHERE trial_id = 1", OF_RUN.format("0", "cannot be PRUNED")),
    "no state": ("UPDATE trials SET state = 'COMPLETED' WHERE trial_id = 1", "it cannot be read, LookupError"),
    "finished": ("UPDATE trials SET state = 'COMPLETE' WHERE trial_id = 5", OF_RUN.format("4", "has lost its checksum")),
    "error": (
        "UPDATE trial_user_attributes SET value_json = '\"all is well\"' WHERE key = 'error'",
        OF_RUN.format("4", "does not match its checksum"),
    ),
    "traceback lost": ("DELETE FROM trial_user_attributes WHERE key = 'traceback'", "trial 4 does not match its checksum"),
    "last trial lost": (
        "DELETE FROM trials WHERE number = 4 AND study_id = 1",
        "damaged .a row of trial_.* belongs to none of",
    ),
    "trial of another study": (
        "UPDATE trials SET study_id = 2, number = 99 WHERE trial_id = 5",
        "is damaged .trials are missing or twice there.",
    ),
    "number": ("UPDATE trials SET number = 2 WHERE trial_id = 1", "is damaged .trials are missing or twice there."),
    "configuration": (
        "UPDATE study_user_attributes SET value_json = replace(value_json, 'Parabola', 'Parabole') WHERE key = 'configuration'",
        "study 'small' in .* is damaged .its configuration does not match its checksum.: restore a copy",
    ),
    "configuration lost": (
        "DELETE FROM study_user_attributes WHERE study_id = 1 AND key = 'configuration'",
        "its configuration does not match its checksum",
    ),
    "direction": ("UPDATE study_directions SET direction = 'MAXIMIZE'", "its configuration does not match its checksum"),
    "no direction": ("UPDATE study_directions SET direction = 'UP'", "is damaged .LookupError"),
    "trial of the self-check": (
        "UPDATE trial_params SET param_value = 0.3 WHERE param_name = 'learning_rate' AND trial_id = 6",
        "study 'small.self-check' in .* is damaged .trial 0 does not match its checksum",
    ),
    "name of the self-check": (
        "UPDATE studies SET study_name = 'small.self-czeck' WHERE study_id = 2",
        "study 'small.self-czeck' is the self-check of 'small': give it its name again",
    ),
}


@pytest.mark.parametrize(("statement", "sentence"), DAMAGE.values(), ids=DAMAGE)
def test_changed_value_is_refused_to_readers_and_nothing_is_written(
    stored: StudyConfig, tmp_path: Path, statement: str, sentence: str
) -> None:
    config = replace(stored, storage=str(tmp_path / "s.db"))
    copy(stored.storage, config.storage)
    change(config, statement)
    before = Path(config.storage).read_bytes()
    with pytest.raises(ValueError, match=sentence):
        judge_study(load_study(config.storage, "small"))
    assert Path(config.storage).read_bytes() == before


@pytest.mark.parametrize("kind", ["learning rate", "failed", "configuration", "number"])
def test_launch_on_changed_values_is_refused_before_it_writes(stored: StudyConfig, tmp_path: Path, kind: str) -> None:
    statement, sentence = DAMAGE[kind]
    config = replace(stored, storage=str(tmp_path / "s.db"))
    copy(stored.storage, config.storage)
    change(config, statement)
    before = Path(config.storage).read_bytes()
    with pytest.raises(ValueError, match=sentence):
        run_study(config)
    assert Path(config.storage).read_bytes() == before


def test_launch_and_dashboard_on_a_whole_study_leave_it_whole(stored: StudyConfig, tmp_path: Path) -> None:
    config = replace(stored, storage=str(tmp_path / "s.db"))
    copy(stored.storage, config.storage)
    expected = whole_tables(load_study(config.storage, "small"))
    study = run_study(config)
    mirror(study, judge_study(study))
    assert study.best_trial.number < 4
    for found, table in zip(whole_tables(load_study(config.storage, "small")), expected, strict=True):
        pd.testing.assert_frame_equal(found, table)


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "tpe", "trials": 5, "fuse": "never"},
        {"model": Breaks, "data": "ParabolaData", "batch_size": 4, "fuse": "never"},
        {"model": None, "points": 4, "batch_size": 256},
    ],
    ids=["tpe", "failed", "fused"],
)
def test_runs_of_every_kind_match_their_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(Fusing, "_choose", lambda *_: (4, "4 fused"))  # whichever is faster on this machine today
    config = small(tmp_path, **changes)
    study = run_study(config)
    reread = load_study(config.storage, "small")
    trials = verified_trials(reread)
    assert all("checksum" in trial.user_attrs["facts"] for trial in trials if trial.state is TrialState.COMPLETE)
    assert [trial.state for trial in trials] == [trial.state for trial in study.trials]
    assert (TrialState.FAIL in {trial.state for trial in trials}) == (changes.get("model") is Breaks)
    assert runs_table(reread)["member_of"].eq(0).all() == ("points" in changes)


def test_study_older_than_checksums_is_read_and_gone_on_with(stored: StudyConfig, tmp_path: Path) -> None:
    config = replace(stored, storage=str(tmp_path / "s.db"))
    copy(stored.storage, config.storage)
    change(
        config,
        "DELETE FROM study_system_attributes WHERE key = 'learning_rates:checksums'",
        "UPDATE trial_user_attributes SET value_json = replace(value_json, '\"checksum\"', '\"old\"') WHERE key = 'facts'",
    )
    assert len(runs_table(load_study(config.storage, "small"))) == 5
    grown = run_study(replace(config, seeds=2))
    assert len(runs_table(grown)) == 9
    change(config, "UPDATE trial_user_attributes SET value_json = replace(value_json, '\"checksum\"', '\"old\"')")
    with pytest.raises(ValueError, match="trial 5 has lost its checksum"):
        runs_table(load_study(config.storage, "small"))


@pytest.mark.parametrize("stored", [None, {"seeds": 1}], ids=["new", "grown"])
def test_configuration_whose_writing_is_killed_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: dict[str, Any] | None
) -> None:
    study = optuna.create_study(storage=open_storage(storage_url(str(tmp_path / "s.db"))))
    if stored:
        write_configuration(study, stored)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(optuna.Study, "set_user_attr", killed)
        write_configuration(study, {"seeds": 2})
    assert study.user_attrs.get(CONFIGURATION) == stored
    assert verified_trials(study) == []
    write_configuration(study, {"seeds": 2})
    assert verified_trials(study) == [] and study.user_attrs[CONFIGURATION] == {"seeds": 2}


def test_launch_that_was_killed_before_it_wrote_its_configuration_is_gone_on_with(tmp_path: Path) -> None:
    config = small(tmp_path)
    optuna.create_study(study_name="small", storage=open_storage(storage_url(config.storage)))
    assert len(runs_table(run_study(config))) == 4


def test_random_corruptions_are_refused_or_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("corruptions", SCRIPT)
    assert spec and spec.loader
    corruptions = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(corruptions)
    assert corruptions.main(["--rounds", "12", "--seed", "0"]) == 0
    assert "12 corruptions" in capsys.readouterr().out
