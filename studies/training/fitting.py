"""Fit a module once, with whatever it draws belonging to a seed: every fit of this project begins here."""

import contextlib
import signal
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_modules.loaders import PROBE_SEED
from lightning_modules.user_code import where
from studies.errors import BadInput
from studies.training.classes import package_of
from studies.training.trainers import build_trainer
from studies.training.workload import Built, Workload

# Of fits beside the runs: no callback, logger or validation of the user's sees them.
ASIDE: dict[str, Any] = {"callbacks": None, "logger": False, "limit_val_batches": 0, "enable_checkpointing": False}
LEAF_SPEC = r".isinstance\(treespec, LeafSpec\). is deprecated"  # Lightning 2.6 on torch 2.14, at every fit


def fit(
    workload: Workload,
    built: Built,
    *,
    seed: int,
    callbacks: Sequence[pl.Callback],
    epochs: int = 1,
    folder: Path | None = None,
    replaced: Mapping[str, Any] = MappingProxyType({}),
    resume: Path | None = None,
) -> pl.Trainer:
    """Fit a module that was built, everything it draws belonging to ``seed``, and return the Trainer.

    replaced: Trainer options in place of the workload's. resume: a checkpoint of Lightning's to go on from.

    Raises KeyboardInterrupt for Ctrl-C and SIGTERM, RuntimeError when the user's code calls ``sys.exit``.
    """
    trainer = build_trainer(
        {**workload.trainer, **replaced},
        epochs=epochs,
        callbacks=[_StaysInterruptible(), _Seed(seed), *callbacks],
        package=package_of(type(built.model)),
        folder=folder,
    )
    pl.seed_everything(PROBE_SEED, verbose=False)  # a datamodule that splits its data at random splits it alike in all runs
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", LEAF_SPEC, FutureWarning)
            trainer.fit(built.model, **built.data, ckpt_path=resume, weights_only=True if resume else None)
    except SystemExit as error:
        # How Lightning passes on Ctrl-C, and SIGTERM, by which Slurm and Docker stop a process.
        if isinstance(error, SIGTERMException) or isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise RuntimeError(f"the module left by sys.exit({error.code!r})") from error
    return trainer


def is_of_a_study(trainer: pl.Trainer) -> bool:
    """Whether a Trainer is one of ours, in the midst of its fit."""
    return any(isinstance(callback, _Seed) for callback in trainer.callbacks)  # type: ignore[attr-defined]


class Seen(Exception):
    """Ends a fit that was only to be looked at."""


def see_start(
    look: pl.Callback, workload: Workload, built: Built, batch_size: int, *before: pl.Callback, epochs: int | None = None
) -> None:
    """Have ``look`` see a fit as it stands before its first step, and end it there.

    before: callbacks of the fit before ``look``. epochs: of the fit, the workload's unless given.

    Raises ValueError when there is no training batch.
    """
    with contextlib.suppress(Seen):
        told: dict[str, Any] = {"epochs": epochs or workload.epochs, "replaced": ASIDE}
        fit(workload, built, seed=PROBE_SEED, callbacks=[*before, look, _End()], **told)
        place = where(built.owner, "train_dataloader")
        raise BadInput(f"{place} must give at least 1 batch of {batch_size} examples, got none")


class _End(pl.Callback):
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        raise Seen


class _StaysInterruptible(pl.Callback):
    """Lightning has Ctrl-C ignored from the first one on, for good; a user's ``on_exception`` may take long."""

    def __init__(self) -> None:
        self.before = signal.getsignal(signal.SIGINT)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt):
            signal.signal(signal.SIGINT, self.before)


class _Seed(pl.Callback):
    """From the end of the data's ``setup`` on, random numbers belong to the run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        pl.seed_everything(self.seed, verbose=False)
