"""What to study, checked at the door."""

from __future__ import annotations

import difflib
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

SAMPLERS = ("grid", "tpe", "random", "qmc")
PER_DECADE = 4  # learning rates a decade: neighbours differ by x1.8, finer than the factor 3 that bounds *good*
PARTNERS = {"Regressor": "Diabetes", "Parabola": "ParabolaData", "ImageClassifier": "Digits"}  # model and its usual data
NAME_RULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,99}")

Spec = str | Mapping[str, Any]


@dataclass(frozen=True)
class StudyConfig:
    """A learning-rate study: what is trained, and which learning rates, batch sizes and seeds are tried.

    Args:
        model: a LightningModule by name (``ImageClassifier``), import path, or ``{"class_path": ..., "init_args": {...}}``.
            None picks the one that fits the data.
        data: a LightningDataModule, likewise. None picks the one that fits the model; the default is ``Digits``.
        trainer: options of Lightning's Trainer, as LightningCLI spells them.
        learning_rate: lowest and highest learning rate, both tried; tried rates are evenly spaced on a log scale.
        per_decade: learning rates a decade, 4 unless ``points`` is given.
        points: learning rates in all, instead of ``per_decade``.
        batch_size: examples a step, one or several sizes.
        seeds: runs of each cell, with seeds 0, 1, ...: initial weights and batch order belong to the seed.
        epochs: how long each run trains, in passes over the training set; 10 unless ``trainer`` names ``max_epochs``.
        sampler: ``grid`` trains every cell; ``tpe``, ``random`` and ``qmc`` sample learning rate and batch size freely.
        trials: runs in all for the free samplers; as many as the grid would have unless given.
        name: the study's name in the storage; the data set's name in lower case unless given.
        storage: an SQLite file or any URL Optuna takes.

    Raises:
        ValueError: with one sentence that says what, the rule, and what came.
    """

    model: Spec | None = None
    data: Spec | None = None
    trainer: Mapping[str, Any] | None = None
    learning_rate: Sequence[float] = (0.003, 30.0)
    per_decade: float | None = None
    points: int | None = None
    batch_size: int | Sequence[int] = (16, 64, 256)
    seeds: int = 3
    epochs: int | None = None
    sampler: str = "grid"
    trials: int | None = None
    name: str | None = None
    storage: str = "outputs/studies.db"

    def __post_init__(self) -> None:
        trainer = dict(_mapping("trainer", self.trainer or {}))
        epochs = trainer.pop("max_epochs", None)
        if self.epochs is not None and epochs is not None:
            raise ValueError(f"epochs and trainer.max_epochs are the same thing: give one, got {self.epochs} and {epochs}")
        low, high = _range(self.learning_rate)
        if self.points is not None and self.per_decade is not None:
            raise ValueError(f"points and per_decade exclude each other: give one, got {self.points} and {self.per_decade}")
        if self.points is not None:
            points = count("points", self.points)
        else:
            per_decade = _number("per_decade", PER_DECADE if self.per_decade is None else self.per_decade)
            if not per_decade > 0:
                raise ValueError(f"per_decade must be above 0, got {per_decade}")
            points = round((math.log10(high) - math.log10(low)) * per_decade) + 1
        sizes = self.batch_size if isinstance(self.batch_size, Sequence) else (self.batch_size,)
        if isinstance(self.batch_size, str) or not len(sizes):
            raise ValueError(f"batch_size must be one or more whole numbers, got {self.batch_size!r}")
        batch_sizes = tuple(count("batch_size", size) for size in sizes)
        if len(set(batch_sizes)) < len(batch_sizes):
            raise ValueError(f"batch_size must name each size once, got {list(batch_sizes)}")
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {self.sampler!r}")
        if self.trials is not None and self.sampler == "grid":
            raise ValueError(f"trials belongs to the samplers tpe, random and qmc; a grid trains every cell, got {self.trials}")
        data = class_name(self.data) or PARTNERS.get(class_name(self.model), "Digits")
        name = data.lower() if self.name is None else self.name
        if not isinstance(name, str) or not NAME_RULE.fullmatch(name):
            rule = "start with a letter or digit and hold at most 100 letters, digits, spaces and ._-"
            raise ValueError(f"name must {rule}, got {name!r}")
        if name.endswith(".self-check"):
            raise ValueError(f"name must not end with .self-check, which belongs to the self-check of a study, got {name!r}")
        checked = {
            "trainer": trainer,
            "learning_rate": (low, high),
            "points": points,
            "per_decade": None,
            "batch_size": batch_sizes,
            "seeds": count("seeds", self.seeds),
            "epochs": count("epochs", next((e for e in (self.epochs, epochs) if e is not None), 10)),
            "trials": None if self.trials is None else count("trials", self.trials),
            "name": name,
        }
        for key, value in checked.items():
            object.__setattr__(self, key, value)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> StudyConfig:
        """A configuration from a YAML file or a command line; unknown keys are refused with the nearest known one."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(f"configuration key {key!r} is not known{nearest(str(key), known)}")
        return cls(**values)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates of the grid, ascending, rounded to six digits so that they read the same everywhere."""
        low, high = self.learning_rate
        if self.points == 1:
            return (low,)
        inner = [float(f"{rate:.6g}") for rate in np.geomspace(low, high, self.points or 1)[1:-1]]
        return tuple(sorted({low, *inner, high}))

    @property
    def n_runs(self) -> int:
        """Runs the finished study holds."""
        sizes = self.batch_size if isinstance(self.batch_size, Sequence) else (self.batch_size,)
        return self.trials or len(self.learning_rates) * len(sizes) * self.seeds


def nearest(word: str, known: Sequence[str]) -> str:
    """The end of a sentence that helps with a misspelt name: the nearest known one, or all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"


def class_name(spec: Spec | None) -> str:
    """The bare class name a spec asks for, "" if it asks for none."""
    path = spec.get("class_path") if isinstance(spec, Mapping) else spec
    return str(path or "").rpartition(".")[2]


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a mapping of option to value, got {value!r}")
    return value


def _number(name: str, value: Any) -> float:
    """A finite float; text that reads as a number counts, because YAML reads 1e-3 as text."""
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return number


def count(name: str, value: Any) -> int:
    """A whole number of at least 1; raises ValueError with one sentence that names the option otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value)


def _range(value: Any) -> tuple[float, float]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"learning_rate must be two numbers LOW HIGH, got {value!r}")
    low, high = _number("learning_rate", value[0]), _number("learning_rate", value[1])
    if not 0 < low <= high:
        raise ValueError(f"learning_rate must be LOW HIGH with 0 < LOW <= HIGH, got {low:g} {high:g}")
    return low, high
