"""Batch sizes that are held out: trained on fresh seeds in a study of their own, to see how far the law of others is off."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna

from studies.config import StudyConfig, count
from studies.errors import BadInput
from studies.storage.beside import study_beside
from studies.storage.stored import CONFIGURATION

ENDING = "-hold-out"  # of the name of that study, which is like any other
APART = ("batch_size", "seeds", "seed_everything")  # in which its configuration differs


def hold_out_config(config: StudyConfig, batch_sizes: Sequence[Any]) -> StudyConfig:
    """The study of the batch sizes that are held out of ``config``: its seeds follow on those of ``config``.

    Raises BadInput where a batch size is one of ``config`` or no whole number, and where batches are the loader's own.
    """
    sizes = [count("hold_out", size) for size in batch_sizes]
    if known := sorted({*sizes} & {*config.batch_sizes}):
        raise BadInput(f"hold_out must name batch sizes that batch_size does not, got {', '.join(map(str, known))} in both")
    if config.own_batches:
        raise BadInput(f"hold_out needs batches of other sizes, which own_batches forbids, got {sizes}")
    first = config.seed_values[-1] + 1
    return replace(config, name=f"{config.name}{ENDING}", batch_size=sizes, seed_everything=first)


def held_out(study: optuna.Study) -> optuna.Study | None:
    """The study beside another one whose batch sizes were held out of it; None where there is none of the same settings."""
    other = study_beside(study, f"{study.study_name}{ENDING}")
    if other is None or CONFIGURATION not in study.user_attrs or CONFIGURATION not in other.user_attrs:
        return None
    mine, its = (each.user_attrs[CONFIGURATION] for each in (study, other))
    fresh = not {*_seeds(mine)} & {*_seeds(its)} and not {*mine["batch_size"]} & {*its["batch_size"]}
    return other if fresh and _shared(mine) == _shared(its) else None


def _seeds(configuration: Mapping[str, Any]) -> range:
    first = int(configuration.get("seed_everything") or 0)
    return range(first, first + int(configuration["seeds"]))


def _shared(configuration: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in configuration.items() if name not in APART}
