"""The command to paste: it means the study it came from with the change asked for, and nothing secret is in it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import HOSTILE
from test_scripts import script

from studies import StudyConfig
from studies.config import folder_name
from studies.next_run import given_options, launch_command, program

CONFIGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "a model with arguments": {
        "model": {"class_path": "ImageClassifier", "init_args": {"momentum": 0.9, "network": {"class_path": "ConvNet"}}},
        "batch_size": 64,
        "epochs": 3,
    },
    "arguments alone": {"model": {"init_args": {"network": {"class_path": "MLP", "init_args": {"hidden": [16, 8]}}}}},
    "points and a name with a space": {"points": 5, "learning_rate": (0.01, 10), "name": "five lines", "seeds": 1},
    "text that reads as a number or as nothing": {"trainer": {"precision": "32", "default_root_dir": "[a"}},
    "trainer options and another storage": {"trainer": {"precision": "bf16-mixed"}, "storage": "other folder/x.db"},
    "a free sampler": {"sampler": "tpe", "trials": 40, "data": "Diabetes"},
    "an optimizer by name": {"optimizer": "Adam", "learning_rate_name": "learning_rate", "constant": True},
    "optimizer and scheduler": {
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}},
        "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 3}},
    },
    "a metric and other seeds": {"monitor": "val_accuracy", "mode": "max", "seed_everything": 7},
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
    for field in ("learning_rates", "batch_size", "seed_values", "epochs", "sampler", "trials", "name", "storage"):
        assert getattr(again, field) == getattr(config, field), field
    assert Workload.of_config(again).as_dict() == Workload.of_config(config).as_dict()


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
    config = StudyConfig(sampler="grid")
    again = parsed(launch_command("digits", given_options(config), changes))
    assert again.name == name
    assert (again.epochs, again.learning_rate[0]) == (changes.get("epochs", 10), changes.get("learning_rate", [0.003])[0])
    assert len(again.learning_rates) == {"longer": 17, "finer": 33, "wider": 23}[name.partition("-")[2]]


@pytest.mark.parametrize(
    "changes", [{"per_decade": 20}, {"learning_rate": [0.001, 300.0]}, {"seeds": 5}, {"epochs": 60}], ids=str
)
def test_a_search_goes_on_under_its_name_finer_wider_longer_and_on_more_seeds(changes: dict[str, Any]) -> None:
    again = parsed(launch_command("digits", given_options(StudyConfig()), changes))
    assert (again.name, again.sampler, again.points) == ("digits", "edges", None)
    assert {name: getattr(again, name) for name in changes} == {
        name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()
    }


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


def test_model_and_data_given_as_objects_are_left_out() -> None:
    from torch.utils.data import DataLoader, IterableDataset

    from lightning_modules import Digits, ImageClassifier

    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(3))

    loader = DataLoader(Stream())  # has no length, so it is neither true nor false
    for model, data in ((ImageClassifier, loader), (ImageClassifier, (loader, loader)), (lambda: None, Digits())):
        assert given_options(StudyConfig(model=model, data=data, seeds=5, name="objects")) == {"seeds": 5, "name": "objects"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with an interpreter and ``lr-study`` below it and scripts beside it."""
    for path in (
        "here/bin/lr-study",
        "here/bin/python",
        "project/scripts/launch_study.py",
        "project/scripts/open_dashboard.py",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "here/bin/python"))
    return tmp_path


@pytest.mark.parametrize("text", ["a\n\n<script>alert(1)</script>", "\x1b[2J", "\u202egnp.exe", "a\rb"])
def test_no_command_holds_what_is_not_to_be_pasted(text: str) -> None:
    options: list[dict[str, Any]] = [{"monitor": text}, {"model": {"class_path": text}}, {"model": {"init_args": {text: 1}}}]
    assert [launch_command("digits", each, {"seeds": 5}) for each in options] == ["", "", ""]
    assert parsed(launch_command("digits", {"model": {"init_args": {"a": text}}}, {})).model["init_args"] == {"a": text}


@pytest.mark.parametrize("name", [name for name in HOSTILE if not name.isalnum()])
def test_command_names_a_study_that_can_be_launched_where_other_tools_named_it(name: str) -> None:
    assert parsed(launch_command(name, {}, {"epochs": 30})).name == folder_name(name)
    grid = launch_command(name, {"sampler": "grid"}, {"epochs": 30})
    assert parsed(grid).name == f"{folder_name(name)}-longer"


def test_script_names_the_script_beside_it(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = installed / "project/scripts"
    monkeypatch.setattr(sys, "argv", ["../project/scripts/write_report.py"])
    assert program("launch") == ["bin/python", str(scripts / "launch_study.py")]
    monkeypatch.chdir(installed / "project")
    monkeypatch.setattr(sys, "argv", ["scripts/launch_study.py"])
    assert program("dashboard") == [sys.executable, "scripts/open_dashboard.py"]


@pytest.mark.parametrize("argument", ["", "-c", "bin/lr-study", "notebook.py"])
def test_others_name_lr_study(installed: Path, monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    monkeypatch.setattr(sys, "argv", [argument])
    assert launch_command("x", {"seeds": 5}, {}) == "bin/lr-study launch --seeds 5 --name x"
    monkeypatch.chdir(installed)
    assert program("dashboard") == ["here/bin/lr-study", "dashboard"]
    monkeypatch.chdir("project")
    assert program("dashboard") == [str(installed / "here/bin/lr-study"), "dashboard"]


def test_environment_without_lr_study_names_it_bare(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.remove("bin/lr-study")
    monkeypatch.setattr(sys, "argv", ["notebook.py"])
    assert program("launch") == ["lr-study", "launch"]
