"""What a study holds fixed: model, data and trainer, written down as plain JSON and built anew for every run."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentError, ArgumentParser

from studies.config import PARTNERS, Spec, class_name, nearest

MODELS = ("ImageClassifier", "Parabola", "Regressor")
DATA = ("CIFAR10", "Diabetes", "Digits", "FashionMNIST", "MNIST", "ParabolaData", "Wine")
NETWORKS = ("ConvNet", "MLP", "ResNet18")
LEARNING_RATE_NAMES = ("lr", "learning_rate")  # where Lightning's own finder looks, in its order
# What would change how long a run trains behind the study's back.
RESERVED = "max_steps max_time min_epochs min_steps fast_dev_run overfit_batches limit_train_batches accumulate_grad_batches"


@dataclass(frozen=True)
class Workload:
    """A model, its data and trainer options; ``model`` and ``data`` are ``{"class_path": ..., "init_args": {...}}``.

    It is plain JSON, so whoever has it can rebuild the same training. Use ``Workload.of`` to fill in names and defaults.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    trainer: dict[str, Any]

    @classmethod
    def of(cls, model: Spec | None = None, data: Spec | None = None, trainer: Mapping[str, Any] | None = None) -> Workload:
        """A workload from names or specs; checks every name and argument name.

        Raises ValueError for an unknown class, argument or trainer option, with the known ones or the nearest.
        """
        models = {theirs: ours for ours, theirs in PARTNERS.items()}
        full_model = _spec("model", model, MODELS, default=models.get(class_name(data), "ImageClassifier"))
        full_data = _spec("data", data, DATA, default=PARTNERS.get(class_name(full_model), "Digits"))
        _fill_network(full_model, _load("data", full_data["class_path"]))
        _check_arguments("model", full_model)
        _check_arguments("data", full_data)
        return cls(full_model, full_data, _check_trainer(trainer or {}))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def build_data(self, *, batch_size: int, seed: int) -> pl.LightningDataModule:
        """A fresh datamodule with this batch size and order of batches.

        Raises ValueError when it has no attribute ``batch_size``; ``seed`` is set where there is one.
        """
        data: pl.LightningDataModule = _instantiate("data", self.data, pl.LightningDataModule)
        if not hasattr(data, "batch_size"):
            raise ValueError(f"data must have an attribute batch_size that its loaders read, {type(data).__name__} has none")
        settings = {"batch_size": batch_size} | ({"seed": seed} if hasattr(data, "seed") else {})
        for name, value in settings.items():
            setattr(data, name, value)
        return data

    def build_model(self, *, learning_rate: float, seed: int) -> pl.LightningModule:
        """A fresh module: its initial weights depend on the seed alone.

        Raises ValueError when it has neither ``lr`` nor ``learning_rate``.
        """
        pl.seed_everything(seed, verbose=False)
        model: pl.LightningModule = _instantiate("model", self.model, pl.LightningModule)
        names = [name for name in LEARNING_RATE_NAMES if hasattr(model, name)]
        if not names:
            raise ValueError(f"model must have an attribute lr or learning_rate, {type(model).__name__} has neither")
        for name in names:
            setattr(model, name, learning_rate)
        return model


def _spec(kind: str, spec: Spec | None, known: tuple[str, ...], *, default: str) -> dict[str, Any]:
    """A spec in full; raises ValueError when it does not name a class."""
    given: dict[str, Any] = dict(spec) if isinstance(spec, Mapping) else {"class_path": spec}
    for key in given:
        if key not in ("class_path", "init_args"):
            raise ValueError(f"{kind} takes class_path and init_args, got {key!r}")
    path = default if given.get("class_path") is None else given["class_path"]
    if path in known:
        path = f"lightning_modules.{path}"
    if not isinstance(path, str) or "." not in path:
        raise ValueError(f"{kind} must be one of {', '.join(known)} or an import path such as my_package.MyClass, got {path!r}")
    return {"class_path": path, "init_args": dict(given.get("init_args") or {})}


def _fill_network(model: dict[str, Any], data_class: type) -> None:
    """Name the network in full and give it the shapes of the data, where the model takes a network."""
    if "network" not in inspect.signature(_load("model", model["class_path"])).parameters:
        return
    arguments = model["init_args"]
    network = _spec("model.network", arguments.get("network"), NETWORKS, default="MLP")
    accepted = inspect.signature(_load("model.network", network["class_path"])).parameters
    for name in ("input_shape", "n_outputs"):
        if name in accepted and hasattr(data_class, name):
            value = getattr(data_class, name)
            network["init_args"].setdefault(name, list(value) if isinstance(value, tuple) else value)
    _check_arguments("model.network", network)
    arguments["network"] = network


def _load(kind: str, path: str) -> type:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{kind} {path!r} could not be imported: {error}") from error
    if not isinstance(found, type):
        raise ValueError(f"{kind} must be a class, {path!r} is {type(found).__name__}")
    return found


def _check_arguments(kind: str, spec: Mapping[str, Any]) -> None:
    parameters = inspect.signature(_load(kind, spec["class_path"])).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for name in spec["init_args"]:
        if name not in parameters:
            owner = spec["class_path"].rpartition(".")[2]
            raise ValueError(f"{kind} {owner} has no argument {name!r}{nearest(name, list(parameters))}")


def _check_trainer(options: Mapping[str, Any]) -> dict[str, Any]:
    known = list(inspect.signature(pl.Trainer).parameters)
    for name in options:
        if name in RESERVED.split():
            raise ValueError(f"trainer.{name} cannot be set: every run of a study trains the same number of epochs")
        if name not in known:
            raise ValueError(f"trainer has no option {name!r}{nearest(name, known)}")
    return dict(options)


def _instantiate(kind: str, spec: Mapping[str, Any], base: type) -> Any:
    """The object a spec describes, its arguments converted and checked by their annotations."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, kind, fail_untyped=False, required=True)
    try:
        return parser.instantiate(parser.parse_object({kind: dict(spec)}))[kind]
    except (ArgumentError, TypeError, ValueError) as error:
        raise ValueError(f"{kind} {_complaint(str(error))}") from error


def _complaint(message: str) -> str:
    """The part of jsonargparse's many lines that says what is wrong: the innermost argument, or what the class raised."""
    arguments = re.findall(r'Parser key "(\w+)":\s+([^\n]+)', message)
    if arguments and not arguments[-1][1].startswith("Does not validate"):
        return f"argument {arguments[-1][0]}: {arguments[-1][1].strip()}"
    causes = [line.strip().removeprefix("- ") for line in message.splitlines() if line.strip().startswith("- ")]
    return next((f"was refused: {cause}" for cause in causes if "NoneType" not in cause), " ".join(message.split()))
