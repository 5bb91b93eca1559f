"""What makes two studies the same one: each option of a study is on one side, and older studies stay what they were."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from studies import StudyConfig, Workload
from studies.identity import ELSEWHERE, configuration, differences, is_same

OTHER: dict[str, dict[str, Any]] = {  # for each option a value that is not its default, and what must stand beside it
    "model": {"model": {"class_path": "ImageClassifier", "init_args": {"momentum": 0.9}}},
    "data": {"data": {"class_path": "Digits", "init_args": {"seed": 3}}},
    "trainer": {"trainer": {"gradient_clip_val": 1.0}},
    "optimizer": {"optimizer": "SGD"},
    "lr_scheduler": {"lr_scheduler": "ExponentialLR", "optimizer": "SGD"},
    "learning_rate": {"learning_rate": (0.01, 30.0), "sampler": "grid"},
    "per_decade": {"per_decade": 4, "sampler": "grid"},  # 17 learning rates, as it is without
    "points": {"points": 5},
    "batch_size": {"batch_size": 64},
    "learning_rate_name": {"learning_rate_name": "learning_rate"},
    "constant": {"constant": True},
    "monitor": {"monitor": "val_accuracy"},
    "mode": {"mode": "max", "monitor": "val_accuracy"},
    "own_batches": {"own_batches": True, "batch_size": 64},
    "fuse": {"fuse": "never"},
    "seeds": {"seeds": 4},
    "seed_everything": {"seed_everything": 7},
    "epochs": {"epochs": 11},
    "steps": {"steps": 11},
    "sampler": {"sampler": "random"},
    "exact": {"exact": True},
    "max_time": {"max_time": "1h"},
    "max_epochs_in_all": {"max_epochs_in_all": 100},
    "trials": {"trials": 5, "sampler": "random"},
    "workers": {"workers": 2},
    "engine": {"engine": "ray"},
    "ray_address": {"ray_address": "auto", "engine": "ray"},
    "num_cpus": {"num_cpus": 2, "engine": "ray"},
    "num_gpus": {"num_gpus": 1, "engine": "ray"},
    "checkpoint": {"checkpoint": True},
    "name": {"name": "another"},
    "storage": {"storage": "elsewhere.db"},
}


def of(**options: Any) -> dict[str, Any]:
    config = StudyConfig(**options)
    return configuration(config, Workload.of_config(config).as_dict())


@pytest.mark.parametrize("option", [field.name for field in fields(StudyConfig)])
def test_an_option_makes_another_study_or_is_named_as_one_that_does_not(option: str) -> None:
    beside = {name: value for name, value in OTHER[option].items() if name != option}
    if "mode" in beside or option == "mode":
        beside = {"monitor": "val_accuracy"}
    changed = of(**OTHER[option]) != of(**beside)
    assert changed == (option not in ELSEWHERE)


def test_an_option_at_its_default_is_left_out_so_that_studies_which_lack_it_stay_the_same() -> None:
    always = {"model", "data", "trainer", "learning_rate", "points", "batch_size", "seeds", "epochs", "sampler", "trials"}
    assert set(of()) == always
    assert of(fuse="never").keys() - always == {"fuse"}


def test_a_search_is_the_same_wherever_and_however_finely_it_looks() -> None:
    assert of() == of(learning_rate=(0.01, 10.0)) == of(per_decade=20)


def test_only_seeds_may_grow() -> None:
    three, four = of(seeds=3), of(seeds=4)
    assert is_same(three, four) and is_same(three, three) and not is_same(four, three)
    assert not is_same(three, four | {"epochs": 11})


def test_differences_are_told_by_option_with_what_was_and_is() -> None:
    found = dict(differences(of(), of(epochs=11, model=OTHER["model"]["model"])))
    assert found.keys() == {"epochs", "model.init_args.momentum"}
    assert found["epochs"] == "was 24, now 11" and math.isclose(float(found["model.init_args.momentum"].split()[-1]), 0.9)
