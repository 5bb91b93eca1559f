"""Train members of one batch size."""

import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from lightning_modules.checkpoint import RunCheckpoint, checkpoint_file
from lightning_modules.learning_rate import LearningRate
from lightning_modules.record import Record, metric_name
from lightning_modules.recorder import Recorder
from reports.judging.decided import BY_SEARCH, Query
from reports.judging.final_height import final_height
from studies.plan import Planned
from studies.training.fitting import fit
from studies.training.fixed import epochs_to_train, look_at
from studies.training.schedule import as_too_short
from studies.training.workload import Workload

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What happened in one training; facts only, no judgement.

    epochs: trained, fractional when the run stopped; steps: updates done; examples: seen; seconds: wall clock, all of it.
    nonfinite_at: the first step whose loss, weights or height were not finite, or None.
    first_height, final_height: see ``reports.judging.verdicts``; inf once non-finite.
    validation_examples: examples each validation looked at, 0 without validation, None where that is not known.
    highest_learning_rates: that each parameter group stepped with.
    ended_by: who ended it before its budget, such as ``EarlyStopping``, or ``BY_SEARCH``; "" where nobody did.
    loss_as_at_start: see ``Record``.
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
    validation_examples: int | None
    value: float
    metrics: Mapping[str, float]
    curves: Mapping[str, tuple[Sequence[int], Sequence[float]]]
    highest_learning_rates: Sequence[float] = ()
    ended_by: str = ""
    loss_as_at_start: float | None = None


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
    planned = [Planned(rate, batch_size, seed) for rate, seed in members]
    return [train_alone(workload, each, epochs=epochs, folder=folder, checkpoint=checkpoint) for each in planned]


def train_alone(workload: Workload, planned: Planned, *, checkpoint: Path | None, **options: Any) -> Run:
    """One run, as ``train`` describes it; options: its ``epochs``, ``folder``, and ``query``, which may end it earlier."""
    if checkpoint is not None:
        return _train_kept(workload, planned, checkpoint, **options)
    recorder = recorder_of(workload, planned.batch_size)
    began = time.perf_counter()
    train_recorded(workload, recorder, planned, **options)
    return run_of(recorder.record, workload, planned, time.perf_counter() - began)


def _train_kept(workload: Workload, planned: Planned, kept: Path, *, anew: bool = False, **options: Any) -> Run:
    """A run that goes on from its checkpoint in the folder ``kept``, and starts over where that cannot be, or if ``anew``."""
    recorder = recorder_of(workload, planned.batch_size)
    file = checkpoint_file(kept, *planned)
    versions = [version(name) for name in ("torch", "pytorch-lightning")]  # another may go on with other numbers
    told = [workload.as_dict(), options["epochs"], planned.batch_size, planned.learning_rate, planned.seed, versions]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
    checkpoint = RunCheckpoint(file, recorder, of=digest, anew=anew)
    resume = file if checkpoint.resuming else None
    try:
        train_recorded(workload, recorder, planned, **options, callbacks=[checkpoint], resume=resume)
    except Exception as error:
        if not checkpoint.resuming:  # else the module has changed since, or whatever Lightning could not put back
            raise
        logger.warning("checkpoint %s is not used, the run starts over: %s: %s", file, type(error).__name__, error)
        return _train_kept(workload, planned, kept, anew=True, **options)
    return run_of(recorder.record, workload, planned, checkpoint.seconds)


def recorder_of(workload: Workload, batch_size: int, steps: Sequence[int] | None = None) -> Recorder:
    """What watches a run at ``batch_size``; steps: at which it measures the height, its own choice unless given."""
    fixed = look_at(workload, batch_size)
    checked = batch_size if fixed.checks_size else None
    return Recorder(fixed.probe, steps=steps, batch_size=checked, monitor=workload.monitor, mode=workload.mode)


def train_recorded(
    workload: Workload,
    recorder: Recorder,
    planned: Planned,
    *,
    epochs: int,
    folder: str | Path,
    query: Query | None = None,
    callbacks: Sequence[pl.Callback] = (),
    resume: Path | None = None,
) -> None:
    """Train one run as ``train`` does, what happens going to the record of ``recorder``; callbacks: called after it.

    resume: as in ``fit``.

    Raises ScheduleTooShort for a schedule that was made for another length.
    """
    learning_rate, batch_size, seed = planned
    recorder.record.is_over = None if query is None else query.is_over
    proportions = look_at(workload, batch_size).proportions
    built = workload.build(learning_rate=learning_rate, batch_size=batch_size, seed=seed)
    rate = LearningRate(learning_rate, proportions, constant=workload.constant)
    place, epochs = (
        Path(folder) / f"bs{batch_size}_lr{learning_rate:.6g}_s{seed}",
        epochs_to_train(workload, batch_size, epochs),
    )
    try:
        fit(workload, built, seed=seed, callbacks=[rate, recorder, *callbacks], epochs=epochs, folder=place, resume=resume)
    except Exception as error:
        if recorder.record.nonfinite_at is None:  # else it is what the module makes of numbers that are not finite: divergence
            raise (as_too_short(error) or error) from error.__cause__
    if recorder.record.step == 0 and recorder.record.nonfinite_at is None:
        raise RuntimeError("no step was taken: training_step returned no loss or the training loader is empty")


def run_of(record: Record, workload: Workload, planned: Planned, seconds: float) -> Run:
    """The run a record tells of."""
    curves = {name: ([s for s, _ in points], [v for _, v in points]) for name, points in record.curves.items() if points}
    steps, heights = (np.array(column, dtype=float) for column in curves["height"])
    ended_by = BY_SEARCH if record.was_cut else record.ended_by
    final = final_height(steps, heights, ended_early=bool(ended_by))
    finite = record.nonfinite_at is None
    metrics = {name: values[-1] for name, (_, values) in curves.items() if name.startswith("val_")} if finite else {}
    return Run(
        **planned._asdict(),
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
        highest_learning_rates=tuple(record.highest_learning_rates),
        ended_by=ended_by,
        loss_as_at_start=record.loss_as_at_start,
    )


def _value(workload: Workload, metrics: Mapping[str, float], height: float) -> float:
    """See ``Run.value``; the height of a metric of which more is better is its negative."""
    worst = math.inf if workload.mode == "min" else -math.inf
    value = metrics.get(metric_name("val", workload.monitor or "val_loss") or "", height if workload.mode == "min" else -height)
    return value if math.isfinite(value) and math.isfinite(height) else worst
