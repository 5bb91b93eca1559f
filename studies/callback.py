"""The learning rate of a fit, studied before its first step: a callback of Lightning's Trainer."""

import contextlib
import importlib
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn

from lightning_modules.learning_rate import NAMES, LearningRate, set_attribute
from reports.judging.trust import share_passed
from reports.style import format_number
from studies.config import StudyConfig
from studies.finder import NOTHING, LearningRates, lr_find, settings_of
from studies.training.classes import PACKAGES, package_of
from studies.training.fitting import is_of_a_study

Other: Any = object  # the callback of Lightning's other package, where that is installed: each asks for its own
with contextlib.suppress(ImportError):
    Other = importlib.import_module(PACKAGES[1]).Callback


class LearningRateStudy(pl.Callback, Other):  # type: ignore[misc]
    """Studies the learning rates of a module when ``Trainer.fit`` begins, and has it trained with the one to use.

    Every group of every optimizer gets its share and schedules keep their shape, as if the module had been made with that
    learning rate; weights and random numbers are as they were. Where no learning rate is good, a warning says so and the
    module keeps its own. Nothing is studied in a fit that goes on from a checkpoint, in one with ``fast_dev_run``, or when
    the same module is fitted again, which gets the same learning rate: a new callback studies anew.

    Args:
        min_lr, max_lr, num_training, attr_name, epochs, seeds, max_time: as in ``lr_find``.
        monitor, mode: as in ``StudyConfig``.
        report: a folder to write the report into; none unless given.

    Attributes:
        found: what ``lr_find`` returned; None before.
        learning_rate: what was set; None where nothing was. Checkpoints keep it.

    Raises:
        ValueError: for bad input, in one sentence; in the fit, before anything is trained.
    """

    def __init__(
        self,
        min_lr: float | None = None,
        max_lr: float | None = None,
        num_training: int | None = None,
        attr_name: str = "",
        epochs: int | None = None,
        seeds: int = 3,
        monitor: str | None = None,
        mode: str = "min",
        max_time: str | float | None = None,
        report: str | Path | None = None,
    ) -> None:
        self._asked: dict[str, Any] = {"min_lr": min_lr, "max_lr": max_lr, "num_training": num_training, "seeds": seeds}
        self._asked |= {"attr_name": attr_name, "epochs": epochs, "monitor": monitor, "monitor_mode": mode}
        self._asked["max_time"] = max_time
        StudyConfig(**settings_of(**self._asked))  # which checks them
        self._names = (attr_name,) if attr_name else NAMES
        self._report = report
        self._module: pl.LightningModule | None = None  # that was studied
        self._resuming = False
        self.found: LearningRates | None = None
        self.learning_rate: float | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Until a checkpoint is loaded nothing is gone on from."""
        self._resuming = False

    def state_dict(self) -> dict[str, Any]:
        """What was set."""
        return {"learning_rate": self.learning_rate}

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Give the module the learning rate of the fit that it goes on with, which the optimizers have from the checkpoint."""
        self._resuming = True
        kept = checkpoint["callbacks"].get(self.state_key) or {}
        self.learning_rate = kept.get("learning_rate")
        if self.learning_rate is not None:
            set_attribute((pl_module, _datamodule(trainer)), self._names, self.learning_rate)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Study, and set what was found."""
        if is_of_a_study(trainer):
            return
        if self._resuming:
            _say("nothing is studied: the fit goes on from a checkpoint, with its learning rates")
            return
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            _say("nothing is studied with fast_dev_run")
            return
        again = self._module is pl_module
        if not again:
            self._study(trainer, pl_module)
        assert self.found is not None
        answer, judged = self.found.judged.answers[0], self.found.judged
        cautions = [caution for caution in self.found.cautions if caution not in judged.remarks]  # which were logged at once
        passed = f"{share_passed(judged.trust)}."
        if not answer.is_good:
            rank_zero_warn("LearningRateStudy: no learning rate tried is good, so the module keeps its own")
            _say("\n".join([f"{answer.advice}. {passed}", *cautions]))
            return
        self.learning_rate = answer.use
        rates = ", ".join(dict.fromkeys(map(format_number, self._set(trainer, pl_module, answer.use))))
        if again:
            _say(f"the module is fitted again with what was found before: learning rate {rates}")
            return
        told = [f"{answer.advice} at batch size {answer.batch_size}. The optimizers step with {rates} now.", judged.own, passed]
        _say("\n".join([" ".join(filter(None, told)), *cautions]))

    def _study(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        _say("studies before the fit")
        train, val = trainer.fit_loop._data_source.instance, trainer.fit_loop.epoch_loop.val_loop._data_source.instance
        given = [None if each is module else each for each in (train, val)]
        data = given if not package_of(type(train), "LightningDataModule") else given[:1]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", NOTHING)  # which is said here
            self.found = lr_find(trainer, module, *data, **self._asked)
        self._module = module
        if self._report is not None:
            _say(f"report: {self.found.report(self._report)}")

    def _set(self, trainer: pl.Trainer, module: pl.LightningModule, learning_rate: float) -> list[float]:
        """Make the optimizers anew with a learning rate, and give those of their groups."""
        assert self.found is not None
        set_attribute((module, _datamodule(trainer)), self._names, learning_rate)
        trainer.strategy.setup_optimizers(trainer)
        rate = LearningRate(learning_rate, self.found.proportions)
        rate.set(trainer.optimizers, trainer.lr_scheduler_configs)
        return rate.rates


def _datamodule(trainer: pl.Trainer) -> Any:
    """Of this fit: the Trainer keeps that of an earlier one, too."""
    given = trainer.fit_loop._data_source.instance
    return given if package_of(type(given), "LightningDataModule") else None


def _say(words: str) -> None:
    rank_zero_info(f"LearningRateStudy: {words}")
