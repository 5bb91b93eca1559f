"""Train members of one batch size."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_modules.checkpoint import RunCheckpoint, checkpoint_file
from lightning_modules.learning_rate import LearningRate, Proportions, base_rate, get_attribute, set_attribute
from lightning_modules.loaders import PROBE_SEED, draw_probe, n_examples
from lightning_modules.recorder import Record, Recorder, metric_name
from lightning_modules.user_code import where
from reports.verdicts import final_height
from studies.sources import package_of
from studies.trainers import build_trainer
from studies.workload import Built, Workload

logger = logging.getLogger(__name__)

# Of fits beside the runs: no callback, logger or validation of the user's sees them.
ASIDE: dict[str, Any] = {"callbacks": None, "logger": False, "limit_val_batches": 0, "enable_checkpointing": False}
LEAF_SPEC = r".isinstance\(treespec, LeafSpec\). is deprecated"  # Lightning 2.6 on torch 2.14, at every fit


@dataclass(frozen=True)
class Run:
    """What happened in one training; facts only, no judgement.

    epochs: trained, fractional when the run stopped; steps: updates done; examples: seen; seconds: wall clock, all of it.
    nonfinite_at: the first step whose loss, weights or height were not finite, or None.
    first_height, final_height: see ``reports.verdicts``; inf once non-finite.
    validation_examples: examples each validation looked at, 0 without validation.
    value: what the search optimises: the monitored metric of the last validation, ``val_loss`` unless another is named, else
        the final height; inf for a run that is not finite (-inf where more is better).
    metrics: last value of every ``val_...`` metric, empty for non-finite runs.
    curves: metric to (steps, values), each of shape (n_points,).
    """

    learning_rate: float
    batch_size: int
    seed: int
    epochs: float
    steps: int
    examples: int
    seconds: float
    nonfinite_at: int | None
    first_height: float
    final_height: float
    validation_examples: int
    value: float
    metrics: Mapping[str, float]
    curves: Mapping[str, tuple[Sequence[int], Sequence[float]]]


def train(
    workload: Workload,
    members: Sequence[tuple[float, int]],
    *,
    batch_size: int,
    epochs: int,
    folder: str | Path = "outputs/runs",
    checkpoint: Path | None = None,
) -> list[Run]:
    """Train each member, a (learning rate, seed), on fresh weights; runs come back in the order of ``members``.

    Members of one seed start from the same weights and see the same batches at every learning rate.
    A run that turns non-finite is a finding and comes back like any other, also when the module then raises, as distributions
    of NaN do in validation. What the user's module raises otherwise is passed on.

    folder: where the user's loggers and checkpoints write, in a folder for each run.
    checkpoint: a folder where each run keeps what it has reached after every epoch, in ``checkpoint_file``, and goes on from
        what it finds there of itself; the file stays. A file that is damaged or of other settings is not used, with a warning.

    Raises CheckpointNotWritten when that folder cannot be written, such as on a full disk.
    """
    alike: dict[str, Any] = {"batch_size": batch_size, "epochs": epochs, "folder": folder}
    if checkpoint is None:
        return [_train_alone(workload, rate, seed, **alike) for rate, seed in members]
    return [_train_kept(workload, rate, seed, checkpoint, **alike) for rate, seed in members]


def _train_alone(workload: Workload, learning_rate: float, seed: int, *, batch_size: int, **options: Any) -> Run:
    recorder = recorder_of(workload, batch_size)
    began = time.perf_counter()
    train_recorded(workload, recorder, learning_rate, seed, batch_size=batch_size, **options)
    return run_of(recorder.record, workload, learning_rate, batch_size, seed, time.perf_counter() - began)


def _train_kept(
    workload: Workload, learning_rate: float, seed: int, kept: Path, *, batch_size: int, anew: bool = False, **options: Any
) -> Run:
    """A run that goes on from its checkpoint in the folder ``kept``, and starts over where that cannot be, or if ``anew``."""
    recorder = recorder_of(workload, batch_size)
    file = checkpoint_file(kept, learning_rate, batch_size, seed)
    versions = [version(name) for name in ("torch", "pytorch-lightning")]  # another may go on with other numbers
    told = [workload.as_dict(), options["epochs"], batch_size, learning_rate, seed, versions]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
    checkpoint = RunCheckpoint(file, recorder, of=digest, anew=anew)
    given: dict[str, Any] = {"batch_size": batch_size, **options, "callbacks": [checkpoint]}
    try:
        train_recorded(workload, recorder, learning_rate, seed, **given, resume=file if checkpoint.resuming else None)
    except Exception as error:
        if not checkpoint.resuming:  # else the module has changed since, or whatever Lightning could not put back
            raise
        logger.warning("checkpoint %s is not used, the run starts over: %s: %s", file, type(error).__name__, error)
        return _train_kept(workload, learning_rate, seed, kept, batch_size=batch_size, anew=True, **options)
    return run_of(recorder.record, workload, learning_rate, batch_size, seed, checkpoint.seconds)


def recorder_of(workload: Workload, batch_size: int, steps: Sequence[int] | None = None) -> Recorder:
    """What watches a run at ``batch_size``; steps: at which it measures the height, its own choice unless given."""
    probe = fixed_of(workload, batch_size).probe
    return Recorder(probe, steps=steps, batch_size=batch_size, monitor=workload.monitor, mode=workload.mode)


def train_recorded(
    workload: Workload,
    recorder: Recorder,
    learning_rate: float,
    seed: int,
    *,
    batch_size: int,
    epochs: int,
    folder: str | Path,
    callbacks: Sequence[pl.Callback] = (),
    resume: Path | None = None,
) -> None:
    """Train one member as ``train`` does, what happens going to the record of ``recorder``; callbacks: called after it.

    resume: as in ``fit``.
    """
    proportions = fixed_of(workload, batch_size).proportions
    built = workload.build(learning_rate=learning_rate, batch_size=batch_size, seed=seed)
    rate = LearningRate(learning_rate, proportions, constant=workload.constant)
    place = Path(folder) / f"bs{batch_size}_lr{learning_rate:.6g}_s{seed}"
    try:
        fit(workload, built, seed=seed, callbacks=[rate, recorder, *callbacks], epochs=epochs, folder=place, resume=resume)
    except Exception:
        if recorder.record.nonfinite_at is None:  # else it is what the module makes of numbers that are not finite: divergence
            raise
    if recorder.record.step == 0 and recorder.record.nonfinite_at is None:
        raise RuntimeError("no step was taken: training_step returned no loss or the training loader is empty")


def run_of(record: Record, workload: Workload, learning_rate: float, batch_size: int, seed: int, seconds: float) -> Run:
    """The run a record tells of."""
    curves = {name: ([s for s, _ in points], [v for _, v in points]) for name, points in record.curves.items() if points}
    steps, heights = (np.array(column, dtype=float) for column in curves["height"])
    final = final_height(steps, heights)
    finite = record.nonfinite_at is None
    metrics = {name: values[-1] for name, (_, values) in curves.items() if name.startswith("val_")} if finite else {}
    return Run(
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        epochs=record.epochs,
        steps=record.step,
        examples=record.examples,
        seconds=seconds,
        nonfinite_at=record.nonfinite_at,
        first_height=float(heights[0]),
        final_height=final,
        validation_examples=record.validation_examples,
        value=_value(workload, metrics, final),
        metrics=metrics,
        curves=curves,
    )


def _value(workload: Workload, metrics: Mapping[str, float], height: float) -> float:
    """See ``Run.value``; the height of a metric of which more is better is its negative."""
    worst = math.inf if workload.mode == "min" else -math.inf
    value = metrics.get(metric_name("val", workload.monitor or "val_loss") or "", height if workload.mode == "min" else -height)
    return value if math.isfinite(value) and math.isfinite(height) else worst


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
        callbacks=[_Seed(seed), *callbacks],
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


class _Seed(pl.Callback):
    """From the end of the data's ``setup`` on, random numbers belong to the run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        pl.seed_everything(self.seed, verbose=False)


@dataclass(frozen=True)
class Fixed:
    """What all runs of a workload share and only a fit can tell.

    probe: batches on which the height is measured. proportions: how the optimizers share a learning rate.
    own: the learning rate the module has today, None where it has none yet.
    n_train: training examples of an epoch, roughly; 0 where that is not known.
    """

    probe: Sequence[Any]
    proportions: Proportions
    own: float | None
    n_train: float


_fixed: WeakKeyDictionary[Workload, Fixed] = WeakKeyDictionary()


def fixed_of(workload: Workload, batch_size: int) -> Fixed:
    """The probe set and proportions of a workload, found once by fits that end before their first step.

    batch_size: of these fits, and examples to evaluate at once, at most, where the probe set is collated here.
    """
    if workload not in _fixed:
        own = workload.build(learning_rate=None, batch_size=batch_size, seed=PROBE_SEED)
        today = _positive(get_attribute(own.owners, workload.rate_names))
        attribute = today or 1.0
        named = bool(set_attribute(own.owners, workload.rate_names, attribute))
        look = _Look(batch_size)
        look.at(workload, own)
        rates, twice = look.rates, None
        if named:
            double = workload.build(learning_rate=2 * attribute, batch_size=batch_size, seed=PROBE_SEED)
            look.at(workload, double)
            twice = look.rates
        proportions = Proportions.of(rates, attribute=attribute if named else None, twice=twice)
        _fixed[workload] = Fixed(
            probe=look.probe,
            proportions=proportions,
            own=today if proportions.followed else proportions.learning_rate,
            n_train=look.n_batches * batch_size if math.isfinite(look.n_batches) else 0,
        )
    return _fixed[workload]


def own_batch_size(workload: Workload) -> int:
    """Examples in the first training batch of a workload whose loaders are left as they are."""
    look = _Look(1)
    look.at(workload, workload.build(learning_rate=None, batch_size=None, seed=PROBE_SEED))
    return look.batch_size


def _positive(value: Any) -> float | None:
    """A learning rate as a module has it; None where it has none yet."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < math.inf else None


class _Seen(Exception):
    """Ends a fit that was only to be looked at."""


class _Look(pl.Callback):
    """Looks at what a fit has made before its first step: the groups' learning rates and, the first time, the training data."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.rates: list[float] = []
        self.probe: Sequence[Any] = ()
        self.batch_size = 0
        self.n_batches: float = 0

    def at(self, workload: Workload, built: Built) -> None:
        """Start a fit and end it."""
        with contextlib.suppress(_Seen):
            fit(workload, built, seed=PROBE_SEED, callbacks=[self], replaced=ASIDE)
            owner = next(iter(built.data.values()), built.model)
            raise ValueError(
                f"{where(owner, 'train_dataloader')} must give at least 1 batch of {self.at_once} examples, got none"
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rates = [base_rate(group) for optimizer in trainer.optimizers for group in optimizer.param_groups]
        if not self.probe:
            loader: Any = trainer.train_dataloader
            combined: Any = trainer.fit_loop._combined_loader
            self.n_batches = trainer.num_training_batches
            self.batch_size = getattr(loader, "batch_size", None) or n_examples(next(iter(combined))[0])
            own: Any = getattr(getattr(trainer, "datamodule", None), "probe_batches", None)
            self.probe = own() if own else draw_probe(loader, (b for b, _, _ in combined), at_once=self.at_once)
        raise _Seen
