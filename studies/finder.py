"""A learning rate in one call, in the shape of Lightning's ``lr_find``, from a whole study instead of one sweep."""

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_modules.learning_rate import NAMES, get_attribute, set_attribute
from reports.figures import plot_final_height
from reports.figures.marks import FAINT
from reports.judging.judged import Judged
from reports.judging.verdicts import Thresholds
from reports.pages.folder import write_report
from reports.style import format_number
from studies.answers import judge_study
from studies.commands.terminal import Progress
from studies.config import StudyConfig
from studies.errors import BadInput
from studies.search import run_study
from studies.storage.stored import CONFIGURATION
from studies.training.classes import package_of
from studies.training.fixed import own_batch_size
from studies.training.workload import Workload

# Options of a Trainer that decide what a step is; its callbacks and loggers are left out, as Lightning's finder does.
LOWEST, HIGHEST = 1e-4, 10.0  # learning rates, where one of them is given, or their number
OF_TRAINER = "accumulate_grad_batches gradient_clip_val gradient_clip_algorithm precision"
OF_TRAINER += " limit_train_batches limit_val_batches max_steps reload_dataloaders_every_n_epochs"


class LearningRates:
    """What ``lr_find`` found.

    Attributes:
        judged: all tables; see ``reports.Judged``.
        results: ``{"lr": [...], "loss": [...]}``, learning rates ascending and the median final height of each.
        verdicts: learning rate to verdict.
        interval: lowest and highest learning rate expected to be good on new seeds; None when nothing is recommended.
        boundaries: the edges between verdicts with their 90 % intervals, a row each; see ``find_edges``.
    """

    def __init__(self, judged: Judged, configuration: dict[str, Any]) -> None:
        self.judged = judged
        self._configuration = configuration
        cells = judged.cells.sort_values("learning_rate")
        rates = cells["learning_rate"].tolist()
        self.results: dict[str, list[float]] = {"lr": rates, "loss": cells["final_height"].tolist()}
        self.verdicts: dict[float, str] = dict(zip(rates, cells["verdict"], strict=True))
        self.boundaries: pd.DataFrame = judged.edges
        self._answer = judged.answers[0]
        self.interval: tuple[float, float] | None = (self._answer.low, self._answer.high) if self._answer.is_good else None

    def suggestion(self) -> float | None:
        """The recommended learning rate; None when no learning rate is good."""
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
        """The answer in one line."""
        return self._answer.advice + ("" if self._answer.is_good else ": see .verdicts and .boundaries")

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
) -> LearningRates:
    """Study the learning rates of ``model`` at its own batch size; nothing given is changed, but for ``update_attr``.

    Where Lightning's finder makes one sweep of 100 steps, this searches for the edges between the verdicts on several seeds,
    worth about 18 full runs of ``epochs``; with ``num_training`` it trains a grid in full.

    Args:
        trainer: its precision, accumulation, clipping, limits and ``max_epochs`` apply; it is not used itself.
        model, train_dataloaders, val_dataloaders, datamodule: as ``trainer.fit`` takes them. How a model given as an instance
            is built anew for each run: see ``StudyConfig``.
        min_lr, max_lr: lowest and highest learning rate, found out unless both are given.
        num_training: learning rates to try, evenly on a log scale, each on all seeds; from 1e-4 to 10 unless given otherwise.
        mode: ``exponential``, even on a log scale; there is no other.
        early_stop_threshold: taken for the call's shape and not used: a loss that rises may come down again, so a run ends
            early only when it is no longer finite.
        update_attr: set the model's learning rate to the suggestion.
        attr_name: the attribute that holds it; ``lr`` or ``learning_rate`` unless given.
        epochs: of each run; the Trainer's ``max_epochs``, or 10, unless given.
        seeds: runs of each learning rate.

    Raises:
        ValueError: for bad input, in one sentence, before anything is trained.
    """
    if mode != "exponential":
        raise BadInput(f"mode must be exponential: learning rates lie evenly on a log scale, got {mode!r}")
    if datamodule is None and package_of(type(train_dataloaders), "LightningDataModule"):
        datamodule, train_dataloaders = train_dataloaders, None
    if datamodule is not None and train_dataloaders is not None:
        raise BadInput("data must be given once, got train_dataloaders and datamodule")
    data = datamodule if train_dataloaders is None else (train_dataloaders, val_dataloaders)
    options = {name: getattr(trainer, name) for name in OF_TRAINER.split()}
    options["accelerator"] = trainer.accelerator.name() if hasattr(trainer.accelerator, "name") else "auto"
    settings: dict[str, Any] = {"model": model, "data": data, "trainer": options, "learning_rate_name": attr_name or None}
    ends = LOWEST if min_lr is None else min_lr, HIGHEST if max_lr is None else max_lr
    given = None if min_lr is max_lr is num_training is None else ends
    settings |= {"learning_rate": given, "points": num_training, "seeds": seeds, "name": "lr_find"}
    settings["epochs"] = epochs or (trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None)
    names = (attr_name,) if attr_name else NAMES
    if update_attr and get_attribute((model, datamodule), names) is None:
        raise BadInput(f"update_attr needs an attribute {' or '.join(names)}, {type(model).__name__} has none")
    with tempfile.TemporaryDirectory() as folder:
        settings["storage"] = f"{folder}/studies.db"
        settings |= {"own_batches": True, "batch_size": 1}
        config = StudyConfig(**settings)
        config = replace(config, batch_size=own_batch_size(Workload.of_config(config)))
        with Progress(Thresholds()) as progress:
            study = run_study(config, on_run=progress)
        found = LearningRates(judge_study(study), study.user_attrs[CONFIGURATION])
    use = found.suggestion()
    if use is None:
        warnings.warn("lr_find suggests nothing: no learning rate tried is good; see .verdicts", stacklevel=2)
    elif update_attr:
        set_attribute((model, datamodule), names, use)
    return found
