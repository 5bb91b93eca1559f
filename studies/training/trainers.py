"""A fresh Trainer for every run: the only place that builds one."""

import copy
import importlib
import logging
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from studies.config import LENGTHS, count, nearest
from studies.errors import BadInput
from studies.training.classes import PACKAGES, full_spec, load_class
from studies.training.sources import Source, spec_source

# Everything Lightning does by default that costs time or disk and gives a short run nothing.
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "devices": 1,
}
REFUSED = {name: "every run of a study trains the same number of epochs; give epochs instead" for name in LENGTHS}
REFUSED |= dict.fromkeys(("fast_dev_run", "overfit_batches"), "every run of a study trains in full")
FINDERS = {  # callbacks that change what a study asks for, and what that is
    "LearningRateFinder": "the learning rate",
    "BatchSizeFinder": "the batch size",
}
STUDY = "LearningRateStudy"  # our callback, which is left out
TALKATIVE = ("ProgressBar", "ModelSummary")  # callbacks that print, which no one reads of hundreds of runs


def check_trainer(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from Lightning's defaults, which LightningCLI writes out in full.

    Raises ValueError for an unknown option and for one that would change behind the study's back what a run is.
    """
    parameters = signature(pl.Trainer).parameters
    chosen = {}
    for name, value in options.items():
        if name not in parameters:
            raise BadInput(f"trainer has no option {name!r}{nearest(str(name), list(parameters))}")
        if name == "callbacks":
            value = [each for each in _listed(value) if not _is_study(each)] or None
        if value is None or value == parameters[name].default or (name, value) == ("max_steps", -1):
            continue
        if name in REFUSED and value:
            raise BadInput(f"trainer.{name} cannot be set: {REFUSED[name]}")
        chosen[name] = value
    if "accumulate_grad_batches" in chosen:
        chosen["accumulate_grad_batches"] = count("trainer.accumulate_grad_batches", chosen["accumulate_grad_batches"])
    for name, base in (("callbacks", "Callback"), ("logger", "Logger")):
        for spec in _listed(chosen.get(name)):
            if isinstance(spec, (str, Mapping)):
                refuse_finders(_spec(name, spec).made)
            elif not _is(spec, base) and spec is not True:
                raise BadInput(f"trainer.{name} must be a {base}, its import path or spec, got {spec!r}")
            else:
                refuse_finders(spec)
    return chosen


def _is_study(callback: Any) -> bool:
    """Whether a callback, or its spec, asks for what a study does already."""
    made = _spec("callbacks", callback).made if isinstance(callback, (str, Mapping)) else type(callback)
    return made is not None and any(base.__name__ == STUDY for base in made.__mro__)


def refuse_finders(callbacks: Any) -> None:
    """Raise ValueError where a callback, or one of several, sets anew what the study asks for; classes count as well."""
    for each in _listed(callbacks):
        for base in (each if isinstance(each, type) else type(each)).__mro__:
            if base.__name__ in FINDERS:
                raise BadInput(
                    f"trainer.callbacks must leave {FINDERS[base.__name__]} to the study, got {base.__name__},"
                    " which would set it anew in every run: leave it out"
                )


def early_stopping(callbacks: Any) -> list[str]:
    """Names of those of some callbacks, one or several, or specs, that may end a run before its budget."""
    given = _listed(callbacks)
    kinds = [_spec("callbacks", each).made if isinstance(each, (str, Mapping)) else type(each) for each in given]
    return [kind.__name__ for kind in kinds if kind and any(base.__name__ == "EarlyStopping" for base in kind.__mro__)]


def build_trainer(
    options: Mapping[str, Any],
    *,
    epochs: int,
    callbacks: Sequence[pl.Callback] = (),
    package: str = "pytorch_lightning",
    folder: Path | None = None,
) -> pl.Trainer:
    """A fresh Trainer with the user's options, callbacks and loggers.

    Args:
        options: as ``check_trainer`` returns them; objects in them are copied, specs made anew.
        epochs: passes over the training set.
        callbacks: of ours, before the user's.
        package: whose Trainer: the module's.
        folder: of this run alone, where the user's loggers and checkpoints write; its name tells the runs apart.

    Raises ValueError with Lightning's complaint about an option.
    """
    for each in PACKAGES:  # either says which devices exist, at every fit; where both are imported, by the logger of the last
        logging.getLogger(each).setLevel(logging.WARNING)
    chosen = {name: _made(name, value, package) for name, value in options.items()}
    theirs = [callback for callback in _listed(chosen.pop("callbacks", None)) if not _is(callback, *TALKATIVE)]
    if any(_is(callback, "Checkpoint") for callback in theirs):
        chosen.setdefault("enable_checkpointing", True)
    if folder is not None:
        folder = Path(chosen.get("default_root_dir", folder.parent)) / folder.name
        chosen["default_root_dir"] = folder
        for callback in theirs:
            if getattr(callback, "dirpath", None):
                callback.dirpath = str(Path(callback.dirpath) / folder.name)
        # A callback such as LearningRateMonitor expects the logger that Lightning has by default.
        loggers = _listed(chosen.get("logger", True if theirs else None))
        if loggers:
            chosen["logger"] = [each for spec in loggers if (each := _logger(spec, package, folder)) is not None]
    try:
        made = {**QUIET, **chosen, "max_epochs": epochs, "callbacks": [*callbacks, *theirs]}
        trainer = importlib.import_module(package).Trainer(**made)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise BadInput(f"trainer was refused by Lightning: {error}") from error
    require_one_device(trainer)
    return trainer  # type: ignore[no-any-return]


def require_one_device(trainer: pl.Trainer) -> None:
    """Raise ValueError for a Trainer of several devices, whose steps take as many batches."""
    if trainer.world_size != 1:
        raise BadInput(f"trainer.devices must be 1: a study trains each run on one device, got {trainer.world_size}")


def device_of(options: Mapping[str, Any]) -> torch.device:
    """Where a Trainer of these options trains."""
    return build_trainer(
        {name: value for name, value in options.items() if name == "accelerator"}, epochs=1
    ).strategy.root_device


def _listed(value: Any) -> list[Any]:
    return [] if value is None or value is False else list(value) if isinstance(value, (list, tuple)) else [value]


def _made(name: str, value: Any, package: str) -> Any:
    """An option's value for one run: specs made, objects copied, so that no run leaves its state to the next."""
    if name == "logger":  # made with the run's own folder
        return value
    if name == "callbacks":
        return [_made("callback", each, package) for each in _listed(value)]
    if name == "callback" and isinstance(value, str) or isinstance(value, Mapping) and "class_path" in value:
        return _spec("callbacks" if name == "callback" else name, value, package).make()
    return copy.deepcopy(value)


def _spec(name: str, value: Any, package: str = "pytorch_lightning") -> Source:
    """The source of a callback or logger; a bare name is Lightning's."""
    given = dict(value) if isinstance(value, Mapping) else {"class_path": value}
    path = given.get("class_path")
    if isinstance(path, str) and "." not in path:
        given["class_path"] = f"{package}.{'loggers' if name == 'logger' else 'callbacks'}.{path}"
    return spec_source(f"trainer.{name}", full_spec(f"trainer.{name}", given, ()))


def _logger(value: Any, package: str, folder: Path) -> Any:
    """A logger that writes where no other run does."""
    if value is True:
        csv = importlib.import_module(f"{package}.loggers").CSVLogger
        return csv(folder.parent, name="", version=folder.name)
    if isinstance(value, (str, Mapping)):
        spec = _spec("logger", value, package)
        parameters = signature(load_class("trainer.logger", spec.facts["class_path"])).parameters
        arguments = spec.facts["init_args"]
        if "save_dir" in parameters:
            arguments.setdefault("save_dir", str(folder.parent))
        # What tells runs apart: a run's name on a server (whose version would be an id of its own), a version among folders.
        names = ("run_name", "name") if {"run_name", "id"} & set(parameters) else ("version", "name")
        key = next((name for name in names if name in parameters), None)
        if key:
            arguments[key] = folder.name
        return spec_source("trainer.logger", spec.facts).make()
    made = copy.deepcopy(value)
    if hasattr(made, "_version"):
        made._version = folder.name
    return made


def _is(callback: Any, *names: str) -> bool:
    return any(base.__name__ in names for base in type(callback).__mro__)
