"""Every refusal of a study's configuration, and the grid and workload that follow from what is accepted."""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from studies import StudyConfig, Workload
from studies.config import NAME_RULE
from studies.next_run import given_options

REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"learning_rate": (10, 0.1)}, "learning_rate must be LOW HIGH with 0 < LOW <= HIGH, got 10 0.1"),
    ({"learning_rate": (0, 0.1)}, "learning_rate must be LOW HIGH with 0 < LOW <= HIGH, got 0 0.1"),
    ({"learning_rate": (-1, 0.1)}, "learning_rate must be LOW HIGH with 0 < LOW <= HIGH, got -1 0.1"),
    ({"learning_rate": (math.nan, 1)}, "learning_rate must be a finite number, got nan"),
    ({"learning_rate": (0.1, math.inf)}, "learning_rate must be a finite number, got inf"),
    ({"learning_rate": (0.1, 10**400)}, "learning_rate must be a finite number, got 1000"),
    ({"learning_rate": ("small", 1)}, "learning_rate must be a finite number, got 'small'"),
    ({"learning_rate": (True, 1)}, "learning_rate must be a finite number, got True"),
    ({"learning_rate": "0.1 1"}, "learning_rate must be two numbers LOW HIGH, got '0.1 1'"),
    ({"learning_rate": 0.1}, "learning_rate must be two numbers LOW HIGH, got 0.1"),
    ({"learning_rate": (0.1,)}, r"learning_rate must be two numbers LOW HIGH, got (0.1,)"),
    ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
    ({"batch_size": [16, 2.5]}, "batch_size must be a whole number of at least 1, got 2.5"),
    ({"batch_size": True}, "batch_size must be a whole number of at least 1, got True"),
    ({"batch_size": "16"}, "batch_size must be one or more whole numbers, got '16'"),
    ({"batch_size": []}, "batch_size must be one or more whole numbers, got []"),
    ({"batch_size": [16, 16]}, "batch_size must name each size once, got [16, 16]"),
    ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
    ({"trainer": {"max_epochs": 0}}, "epochs must be a whole number of at least 1, got 0"),
    ({"seeds": 0}, "seeds must be a whole number of at least 1, got 0"),
    ({"points": 0}, "points must be a whole number of at least 1, got 0"),
    ({"per_decade": 0, "sampler": "grid"}, "per_decade must be above 0, got 0"),
    ({"per_decade": "many", "sampler": "grid"}, "per_decade must be a finite number, got 'many'"),
    ({"sampler": "cmaes"}, "sampler must be one of edges, grid, tpe, random, qmc, got 'cmaes'"),
    ({"trials": 5, "sampler": "grid"}, "trials belongs to the samplers tpe, random and qmc; a grid trains every cell, got 5"),
    ({"trials": 0, "sampler": "tpe"}, "trials must be a whole number of at least 1, got 0"),
    ({"name": "a/b"}, "name must start with a letter or digit"),
    ({"name": ""}, "100 letters, digits, spaces and ._-, got ''"),
    ({"name": "../up"}, "name must start with a letter or digit"),
    ({"name": "a" * 101}, "name must start with a letter or digit and hold at most 100"),
    ({"points": 3, "per_decade": 2}, "points and per_decade exclude each other: give one, got 3 and 2"),
    ({"trainer": {"max_epochs": -1}}, "epochs must be given: trainer.max_epochs is -1, which never ends"),
    ({"learning_rate_name": 3}, "learning_rate_name must be a name, got 3"),
    ({"constant": "no"}, "constant must be true or false, got 'no'"),
    ({"monitor": " "}, "monitor must be a name, got ' '"),
    ({"monitor": "val_acc", "mode": "up"}, "mode must be min or max, got 'up'"),
    ({"fuse": True}, "fuse must be auto or never, got True"),
    ({"mode": "max"}, "mode max needs monitor, the metric of which more is better, got none"),
    ({"seed_everything": -1}, "seed_everything must be a whole number from 0 to 2147483647, got -1"),
    ({"trainer": "cpu"}, "trainer must be a mapping of option to value, got 'cpu'"),
]


@pytest.mark.parametrize(("values", "sentence"), REFUSALS, ids=[str(values)[:60] for values, _ in REFUSALS])
def test_configuration_refuses_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        StudyConfig(**values)


def test_unknown_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="configuration key 'batchsize' is not known; did you mean 'batch_size'?"):
        StudyConfig.from_mapping({"batchsize": 3})


def test_widest_range_of_floats_is_refused_or_gridded_but_not_an_overflow() -> None:
    config = StudyConfig(learning_rate=(1e-300, 1e300), per_decade=0.01, sampler="grid")
    assert all(math.isfinite(rate) for rate in config.learning_rates)


def test_text_that_reads_as_a_number_counts() -> None:
    assert StudyConfig(learning_rate=("1e-3", "10")).learning_rate == (1e-3, 10.0)


@pytest.mark.parametrize("points", [2, 3, 7, 17])
def test_learning_rates_are_log_spaced_and_hold_both_ends(points: int) -> None:
    rates = StudyConfig(learning_rate=(0.0031234567, 29.87654321), points=points).learning_rates
    assert (rates[0], rates[-1], len(rates)) == (0.0031234567, 29.87654321, points)
    assert np.diff(np.log(rates)) == pytest.approx(np.log(rates[-1] / rates[0]) / (points - 1), abs=1e-5)


def test_per_decade_counts_both_ends() -> None:
    assert len(StudyConfig(learning_rate=(0.01, 10), per_decade=2, sampler="grid").learning_rates) == 7
    assert len(StudyConfig(sampler="grid").learning_rates) == 17


def test_one_learning_rate_makes_one_point() -> None:
    assert StudyConfig(learning_rate=(0.1, 0.1), points=5).learning_rates == (0.1,)
    assert StudyConfig(learning_rate=(0.1, 10), points=1).learning_rates == (0.1,)


def test_n_runs_counts_cells_or_trials() -> None:
    assert StudyConfig(learning_rate=(0.1, 1), points=3, batch_size=[8, 16], seeds=2).n_runs == 12
    assert StudyConfig(sampler="tpe", trials=7).n_runs == 7
    assert StudyConfig(sampler="random", learning_rate=(0.1, 1), points=3, batch_size=8, seeds=2).n_runs == 6


def test_name_is_the_data_in_lower_case() -> None:
    assert StudyConfig().name == "digits"
    assert StudyConfig(data={"class_path": "lightning_modules.Diabetes"}).name == "diabetes"


def test_max_epochs_of_the_trainer_is_epochs() -> None:
    config = StudyConfig(trainer={"max_epochs": 4, "precision": "32-true"})
    assert (config.epochs, config.trainer) == (4, {"precision": "32-true"})
    assert StudyConfig().epochs == 24 and StudyConfig(sampler="grid").epochs == StudyConfig(points=3).epochs == 10


WORKLOADS: list[tuple[dict[str, Any], str]] = [
    ({"model": "Nope"}, "model must be one of ImageClassifier, Parabola, Regressor or an import path"),
    ({"data": "Nope"}, "data must be one of CIFAR10, Diabetes, Digits, FashionMNIST, MNIST, ParabolaData, Wine or"),
    (
        {"model": {"class_path": "ImageClassifier", "init_args": {"network": "Nope"}}},
        "model.network must be one of ConvNet, MLP, ResNet18 or",
    ),
    ({"model": "no_such_package.Model"}, "model 'no_such_package.Model' could not be imported"),
    ({"model": "math.pi"}, "model must be a class, 'math.pi' is float"),
    ({"model": {"class_name": "MLP"}}, "model takes class_path and init_args, got 'class_name'"),
    (
        {"model": {"class_path": "ImageClassifier", "init_args": {"momentun": 0.9}}},
        "model ImageClassifier has no argument 'momentun'; did you mean 'momentum'?",
    ),
    (
        {
            "model": {
                "class_path": "ImageClassifier",
                "init_args": {"network": {"class_path": "MLP", "init_args": {"hiden": [8]}}},
            }
        },
        "model.network MLP has no argument 'hiden'; did you mean 'hidden'?",
    ),
    ({"data": {"class_path": "Digits", "init_args": {"sead": 1}}}, "data Digits has no argument 'sead'; did you mean 'seed'?"),
    ({"trainer": {"presicion": "32"}}, "trainer has no option 'presicion'; did you mean 'precision'?"),
    ({"trainer": {"min_steps": 3}}, "trainer.min_steps cannot be set: every run of a study trains the same number of epochs"),
]


@pytest.mark.parametrize(("values", "sentence"), WORKLOADS, ids=[str(values)[:60] for values, _ in WORKLOADS])
def test_workload_refuses_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Workload.of(**values)


def test_argument_of_the_wrong_type_is_refused_by_name() -> None:
    workload = Workload.of({"class_path": "ImageClassifier", "init_args": {"momentum": "much"}})
    with pytest.raises(ValueError, match="model argument momentum: .*float"):
        workload.build(learning_rate=0.1, batch_size=8, seed=0)


@pytest.mark.parametrize(
    ("model", "data", "full"),
    [
        (None, None, ("ImageClassifier", "Digits")),
        (None, "Diabetes", ("Regressor", "Diabetes")),
        ("Regressor", None, ("Regressor", "Diabetes")),
        ("Parabola", None, ("Parabola", "ParabolaData")),
        (None, {"class_path": "lightning_modules.ParabolaData"}, ("Parabola", "ParabolaData")),
        (None, "MNIST", ("ImageClassifier", "MNIST")),
        (None, "Wine", ("ImageClassifier", "Wine")),
    ],
    ids=str,
)
def test_partner_is_the_one_that_fits(model: Any, data: Any, full: tuple[str, str]) -> None:
    workload = Workload.of(model, data)
    assert (workload.model.facts["class_path"], workload.data.facts["class_path"]) == tuple(
        f"lightning_modules.{name}" for name in full
    )


@pytest.mark.parametrize(("data", "shape", "n_outputs"), [("MNIST", [1, 28, 28], 10), ("Diabetes", [10], 1)], ids=str)
def test_network_gets_the_shapes_of_the_data(data: str, shape: list[int], n_outputs: int) -> None:
    arguments = Workload.of(data=data).model.facts["init_args"]["network"]["init_args"]
    assert arguments == {"input_shape": shape, "n_outputs": n_outputs}


def test_shapes_that_are_given_are_kept() -> None:
    network = {"class_path": "MLP", "init_args": {"n_outputs": 12}}
    model = Workload.of({"class_path": "ImageClassifier", "init_args": {"network": network}}).model.facts
    assert model["init_args"]["network"]["init_args"] == {"input_shape": [1, 8, 8], "n_outputs": 12}
    assert network == {"class_path": "MLP", "init_args": {"n_outputs": 12}}, "the caller's mapping was changed"


def _fingerprint(module: torch.nn.Module) -> str:
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in module.state_dict().values())).hexdigest()


def test_initial_weights_belong_to_the_seed_alone() -> None:
    workload = Workload.of()
    same = {_fingerprint(workload.build(learning_rate=rate, batch_size=8, seed=3).model) for rate in (0.01, 1.0, 1e30)}
    assert len(same) == 1
    assert _fingerprint(workload.build(learning_rate=0.01, batch_size=8, seed=4).model) not in same
    assert workload.build(learning_rate=0.25, batch_size=8, seed=0).model.learning_rate == 0.25


def test_batch_order_belongs_to_the_seed_alone() -> None:
    def labels(seed: int) -> list[int]:
        data: Any = Workload.of().build(learning_rate=0.1, batch_size=64, seed=seed).data["datamodule"]
        return [int(label) for _, targets in data.train_dataloader() for label in targets]

    assert labels(1) == labels(1)
    assert labels(1) != labels(2)


@pytest.mark.parametrize("kind", ["Größe", "零一二三四五六七八九", "X" * 600, "_"])
def test_class_may_be_called_what_no_study_can(kind: str) -> None:
    """With a name of its own, as that without one is asked for too: what differs from the defaults is kept."""
    assert given_options(StudyConfig(model=type(kind, (), {}), name="mine"))["name"] == "mine"
    assert NAME_RULE.fullmatch(StudyConfig(data=type(kind, (), {})).name or "")


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "digits"),
        ({"model": "Regressor"}, "diabetes"),
        ({"data": "MNIST"}, "mnist"),
        ({"data": "pkg.mod.MyData"}, "mydata"),
    ],
)
def test_study_is_named_after_its_data_unless_told_otherwise(values: dict[str, Any], name: str) -> None:
    assert StudyConfig(**values).name == name
