"""A learning rate in one call, in the shape of Lightning's ``lr_find``, from a whole study instead of one sweep."""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_modules.learning_rate import NAMES, Proportions, get_attribute, set_attribute
from lightning_modules.loaders import flat_loaders
from lightning_modules.user_code import where
from reports.figures import plot_final_height
from reports.figures.marks import FAINT
from reports.judging.judged import Judged
from reports.judging.trust import failures
from reports.judging.verdicts import Thresholds
from reports.pages.folder import write_report
from reports.style import format_number
from studies.answers import judge_study
from studies.commands.terminal import Progress
from studies.config import StudyConfig
from studies.errors import BadInput
from studies.search import train_study
from studies.storage.door import entered
from studies.storage.stored import CONFIGURATION
from studies.training.classes import package_of
from studies.training.fixed import look_at, own_batch_size
from studies.training.traceless import traceless
from studies.training.trainers import require_one_device
from studies.training.workload import Workload

LOWEST, HIGHEST = 1e-4, 10.0  # learning rates, where one of them is given, or their number
# Options of a Trainer that decide what a step is, or that a study refuses.
OF_TRAINER = "accumulate_grad_batches gradient_clip_val gradient_clip_algorithm precision"
OF_TRAINER += " limit_train_batches limit_val_batches max_steps reload_dataloaders_every_n_epochs"
OF_TRAINER += " overfit_batches fast_dev_run"
NOTHING = "lr_find suggests nothing: no learning rate tried is good; see .verdicts"
UNSAID = 1000  # epochs a Trainer takes where it is told none, so that something else ends the fit
# Callbacks that decide what a step is, too. All are left out, as Lightning's finder does, and these not without a word.
DECIDING = ("BaseFinetuning", "GradientAccumulationScheduler", "StochasticWeightAveraging")


class LearningRates:
    """What ``lr_find`` found.

    Attributes:
        judged: all tables; see ``reports.Judged``.
        results: ``{"lr": [...], "loss": [...]}``, learning rates ascending and the median final height of each.
        verdicts: learning rate to verdict.
        interval: lowest and highest learning rate expected to be good on new seeds; None when nothing is recommended.
        boundaries: the edges between verdicts with their 90 % intervals, a row each; see ``find_edges``.
        cautions: what speaks against the answer, or is to be known of it, a sentence each, as ``lr-study launch`` says them.
        proportions: how the module's optimizers share the learning rate.
    """

    def __init__(
        self,
        judged: Judged,
        configuration: dict[str, Any],
        proportions: Proportions,
        *,
        names: Sequence[str] = NAMES,
        remarks: Sequence[str] = (),
    ) -> None:
        self.judged, self.proportions = judged, proportions
        self._configuration, self._names = configuration, names
        cells = judged.cells.sort_values("learning_rate")
        rates = cells["learning_rate"].tolist()
        self.results: dict[str, list[float]] = {"lr": rates, "loss": cells["final_height"].tolist()}
        self.verdicts: dict[float, str] = dict(zip(rates, cells["verdict"], strict=True))
        self.boundaries: pd.DataFrame = judged.edges
        if not judged.answers:
            raise BadInput("max_time must leave time for a run of the study, none finished in it")
        self._answer = judged.answers[0]
        self.interval: tuple[float, float] | None = (self._answer.low, self._answer.high) if self._answer.is_good else None
        self.cautions = [*filter(None, [self._answer.aside]), *failures(judged.trust), *judged.remarks, *remarks]

    def suggestion(self) -> float | None:
        """The recommended learning rate; None when no learning rate is good. Warns where it lies at an end of the range."""
        return self._suggested()

    def apply(self, model: pl.LightningModule, datamodule: Any = None) -> float:
        """Set the suggestion on ``model``, or on its datamodule where that has the learning rate, and return it.

        Raises ValueError where there is none to set, and where the optimizers do not follow an attribute in which to set it.
        """
        use = self._suggested()
        if use is None:
            raise BadInput(f"apply needs a learning rate to set, got none: {self._answer.advice}")
        owners = (model, datamodule)
        _require_followed("apply", model, self.proportions, use)
        if not set_attribute(owners, self._names, use):
            raise BadInput(f"apply needs an attribute {' or '.join(self._names)}, {type(model).__name__} has none")
        return use

    def _suggested(self) -> float | None:
        if self._answer.is_good and self._answer.use in (self.results["lr"][0], self.results["lr"][-1]):
            use = format_number(self._answer.use)
            warnings.warn(f"learning rate {use} is at the end of the range that was tried: {self._answer.note}", stacklevel=3)
        return self._answer.use if self._answer.is_good else None

    def plot(self, suggest: bool = False, show: bool = False, ax: Axes | None = None) -> Figure:
        """Final height over learning rate, each run with the mark of its verdict.

        suggest: mark the recommended learning rate and its interval; show: open a window; ax: draw here.
        """
        ax = ax or Figure(figsize=(6.4, 4.2), layout="constrained").add_subplot()
        figure = plot_final_height(self.judged.runs, ax=ax)
        if suggest and self._answer.is_good:
            ax.axvspan(self._answer.low, self._answer.high, color=FAINT, alpha=0.15, lw=0, zorder=0)
            ax.axvline(self._answer.use, color="black", lw=1, zorder=0, label=f"use {format_number(self._answer.use)}")
        ax.legend(fontsize=8, frameon=False)
        if show:
            import matplotlib.pyplot as plt

            plt.figure(figure)
            plt.show()
        return figure

    def report(self, folder: str | Path = "outputs/lr_find") -> Path:
        """Write the report into ``folder`` and return the path of its page."""
        return write_report(self.judged, folder, title="lr_find", configuration=self._configuration)

    def __repr__(self) -> str:
        """The answer in one line, and one for each caution."""
        answer = self._answer.advice + ("" if self._answer.is_good else ": see .verdicts and .boundaries")
        return "\n".join([answer, *self.cautions])

    def _repr_html_(self) -> str:
        """What notebooks show."""
        return self.judged._repr_html_()


def lr_find(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    datamodule: Any = None,
    *,
    min_lr: float | None = None,
    max_lr: float | None = None,
    num_training: int | None = None,
    mode: str = "exponential",
    early_stop_threshold: float | None = None,
    update_attr: bool = False,
    attr_name: str = "",
    epochs: int | None = None,
    seeds: int = 3,
    monitor: str | None = None,
    monitor_mode: str = "min",
    max_time: str | float | None = None,
) -> LearningRates:
    """Study the learning rates of ``model`` at its own batch size; nothing given is changed, but for ``update_attr``.

    Where Lightning's finder makes one sweep of 100 steps, this searches for the edges between the verdicts on several seeds,
    worth about 18 full runs of ``epochs``; with ``num_training`` it trains a grid in full.

    Args:
        trainer: its precision, accumulation, clipping, limits and ``max_epochs`` apply; it is not used itself. Its callbacks
            are left out.
        model, train_dataloaders, val_dataloaders, datamodule: as ``trainer.fit`` takes them. How a model given as an instance
            is built anew for each run: see ``StudyConfig``.
        min_lr, max_lr: lowest and highest learning rate, found out unless both are given.
        num_training: learning rates to try, evenly on a log scale, each on all seeds; from 1e-4 to 10 unless given otherwise.
        mode: ``exponential``, even on a log scale; there is no other.
        early_stop_threshold: taken for the call's shape and not used: a loss that rises may come down again, so a run ends
            early only when it is no longer finite.
        update_attr: set the model's learning rate to the suggestion, as ``LearningRates.apply`` does.
        attr_name: the attribute that holds it; ``lr`` or ``learning_rate`` unless given.
        epochs: of each run; the Trainer's ``max_epochs`` unless given. Where that is not said either, which Lightning takes for
            1000, it is 24, or 10 of a grid.
        seeds: runs of each learning rate.
        monitor, monitor_mode, max_time: as ``monitor``, ``mode`` and ``max_time`` of ``StudyConfig``.

    Raises:
        ValueError: for bad input, in one sentence, before anything is trained.
    """
    if mode != "exponential":
        raise BadInput(f"mode must be exponential: learning rates lie evenly on a log scale, got {mode!r}")
    if datamodule is None and package_of(type(train_dataloaders), "LightningDataModule"):
        datamodule, train_dataloaders = train_dataloaders, None
    if datamodule is not None and train_dataloaders is not None:
        raise BadInput("data must be given once, got train_dataloaders and datamodule")
    require_one_device(trainer)
    data = datamodule if train_dataloaders is None else (train_dataloaders, val_dataloaders)
    options = {name: getattr(trainer, name) for name in OF_TRAINER.split()}
    options["accelerator"] = trainer.accelerator.name() if hasattr(trainer.accelerator, "name") else "auto"
    asked: dict[str, Any] = {
        "min_lr": min_lr,
        "max_lr": max_lr,
        "num_training": num_training,
        "attr_name": attr_name,
        "seeds": seeds,
    }
    asked |= {"epochs": epochs, "monitor": monitor, "monitor_mode": monitor_mode, "max_time": max_time}
    settings = settings_of(**asked) | {"model": model, "data": data, "trainer": options}
    if epochs is None and 0 < (trainer.max_epochs or 0) != UNSAID:
        settings["epochs"] = trainer.max_epochs
    names = (attr_name,) if attr_name else NAMES
    if update_attr and get_attribute((model, datamodule), names) is None:
        raise BadInput(f"update_attr needs an attribute {' or '.join(names)}, {type(model).__name__} has none")
    owners = [model, datamodule, *flat_loaders(train_dataloaders), *flat_loaders(val_dataloaders)]
    with tempfile.TemporaryDirectory() as folder, traceless(owners):
        config = StudyConfig(**settings, storage=f"{folder}/studies.db")
        config = replace(config, batch_size=own_batch_size(Workload.of_config(config)))
        workload, (batch_size,) = Workload.of_config(config), config.batch_sizes
        if update_attr:
            _require_followed("update_attr", model, look_at(workload, batch_size).proportions)
        with entered(config, folder), Progress(Thresholds()) as progress:
            study = train_study(config, out=folder, on_run=progress, workload=workload)
        proportions = look_at(workload, batch_size).proportions
        told: dict[str, Any] = {"names": names, "remarks": [*_start(workload), *_left_out(trainer)]}
        found = LearningRates(judge_study(study), study.user_attrs[CONFIGURATION], proportions, **told)
    if not found.interval:
        warnings.warn(NOTHING, stacklevel=2)
    elif update_attr:
        found.apply(model, datamodule)
    return found


def settings_of(
    *,
    min_lr: float | None,
    max_lr: float | None,
    num_training: int | None,
    attr_name: str,
    epochs: int | None,
    seeds: int,
    monitor: str | None,
    monitor_mode: str,
    max_time: str | float | None,
) -> dict[str, Any]:
    """Options of ``StudyConfig`` for what ``lr_find`` is asked, but for model, data, Trainer and storage."""
    ends = LOWEST if min_lr is None else min_lr, HIGHEST if max_lr is None else max_lr
    given = None if min_lr is max_lr is num_training is None else ends
    settings: dict[str, Any] = {"learning_rate": given, "points": num_training, "seeds": seeds, "epochs": epochs}
    settings |= {"learning_rate_name": attr_name or None, "monitor": monitor, "mode": monitor_mode, "max_time": max_time}
    return settings | {"name": "lr_find", "own_batches": True, "batch_size": 1}


def _require_followed(what: str, model: pl.LightningModule, proportions: Proportions, use: float | None = None) -> None:
    """Raise ValueError where an attribute does not set all learning rates; use: what would be set."""
    if proportions.followed:
        return
    rates = ", ".join(map(format_number, proportions.rates))
    scaled = [rate * (use or 0) / proportions.learning_rate for rate in proportions.rates]
    instead = f"set {', '.join(map(format_number, scaled))} there, or " if use else ""
    raise BadInput(
        f"{what} needs optimizers that follow an attribute, {where(model, 'configure_optimizers')} has learning rates of its"
        f" own ({rates}): {instead}fit with the callback LearningRateStudy, which sets them"
    )


def _start(workload: Workload) -> Iterator[str]:
    if "weights" in workload.model.facts:
        yield (
            "every run starts from the weights that the module has now, and seeds differ in the order of batches alone: only a"
            " module that keeps all its arguments by save_hyperparameters, and is not trained, is made anew for each seed"
        )


def _left_out(trainer: pl.Trainer) -> Iterator[str]:
    callbacks: list[Any] = getattr(trainer, "callbacks", [])
    kinds = [type(each) for each in callbacks if {base.__name__ for base in type(each).__mro__} & {*DECIDING}]
    if kinds:
        names = ", ".join(kind.__name__ for kind in kinds)
        yield f"studied without {names}, as callbacks of the Trainer are left out: it decides what a step is, too"
