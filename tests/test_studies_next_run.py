"""The command to paste: it means the study it came from with the change asked for, and nothing secret is in it."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from test_scripts import script

from studies import StudyConfig
from studies.next_run import given_options, launch_command

CONFIGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "a model with arguments": {
        "model": {"class_path": "ImageClassifier", "init_args": {"momentum": 0.9, "network": {"class_path": "ConvNet"}}},
        "batch_size": 64,
        "epochs": 3,
    },
    "arguments alone": {"model": {"init_args": {"network": {"class_path": "MLP", "init_args": {"hidden": [16, 8]}}}}},
    "points and a name with a space": {"points": 5, "learning_rate": (0.01, 10), "name": "five lines", "seeds": 1},
    "trainer options and another storage": {"trainer": {"precision": "bf16-mixed"}, "storage": "other folder/x.db"},
    "a free sampler": {"sampler": "tpe", "trials": 40, "data": "Diabetes"},
}


def parsed(command: str) -> StudyConfig:
    """The configuration that launch_study.py would see."""
    arguments = shlex.split(command)[2:]
    options = script("launch_study").parse_args(arguments)
    return StudyConfig.from_mapping({key: value for key, value in options.items() if key in StudyConfig.__dataclass_fields__})


@pytest.mark.parametrize("case", CONFIGS)
def test_command_without_a_change_means_the_same_study(case: str) -> None:
    from studies import Workload

    config = StudyConfig(**CONFIGS[case])
    again = parsed(launch_command(config.name or "", given_options(config), {}))
    for field in ("learning_rates", "batch_size", "seeds", "epochs", "sampler", "trials", "name", "storage"):
        assert getattr(again, field) == getattr(config, field), field
    assert Workload.of(again.model, again.data, again.trainer) == Workload.of(config.model, config.data, config.trainer)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"epochs": 30}, "digits-longer"),
        ({"per_decade": 8}, "digits-finer"),
        ({"learning_rate": [0.001, 300.0]}, "digits-wider"),
    ],
    ids=str,
)
def test_change_that_makes_another_study_gets_another_name(changes: dict[str, Any], name: str) -> None:
    config = StudyConfig()
    again = parsed(launch_command("digits", given_options(config), changes))
    assert again.name == name
    assert (again.epochs, again.learning_rate[0]) == (changes.get("epochs", 10), changes.get("learning_rate", [0.003])[0])
    assert len(again.learning_rates) == {"longer": 17, "finer": 33, "wider": 23}[name.partition("-")[2]]


def test_more_seeds_go_on_under_the_same_name() -> None:
    assert parsed(launch_command("digits", {}, {"seeds": 5})).name == "digits"


def test_finer_or_repeated_free_sampling_is_a_grid() -> None:
    options = given_options(StudyConfig(sampler="tpe", trials=40))
    for changes in ({"seeds": 3}, {"per_decade": 8}):
        again = parsed(launch_command("digits", options, changes))
        assert (again.sampler, again.trials, again.name) == ("grid", None, "digits-grid")
    assert parsed(launch_command("digits", options, {"epochs": 30})).sampler == "tpe"


def test_wider_range_keeps_the_density_that_points_gave() -> None:
    config = StudyConfig(points=7, learning_rate=(0.01, 10))
    again = parsed(launch_command("digits", given_options(config), {"learning_rate": [0.001, 10.0]}))
    assert len(again.learning_rates) == 9


def test_password_of_a_database_is_not_in_the_options() -> None:
    options = given_options(StudyConfig(storage="postgresql://me:secret@host/name"))
    assert "secret" not in str(options) and options["storage"] == "postgresql://me:***@host/name"
