"""Train members of one batch size: the only place that builds a Trainer."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_modules.recorder import Recorder, probe_steps
from reports.verdicts import final_height
from studies.workload import Workload

# Everything Lightning does by default that costs time or disk and gives a short run nothing.
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
LEAF_SPEC = r".isinstance\(treespec, LeafSpec\). is deprecated"  # Lightning 2.6 on torch 2.14, at every fit


@dataclass(frozen=True)
class Run:
    """What happened in one training; facts only, no judgement.

    epochs: trained, fractional when the run stopped; steps: updates done; examples: seen; seconds: wall clock, all of it.
    nonfinite_at: the first step whose loss, weights or height were not finite, or None.
    first_height, final_height: see ``reports.verdicts``; inf once non-finite.
    validation_examples: examples each validation looked at, 0 without validation.
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
    metrics: Mapping[str, float]
    curves: Mapping[str, tuple[Sequence[int], Sequence[float]]]

    @property
    def value(self) -> float:
        """What the search minimises: final validation loss, else final height; inf for a run that is not finite."""
        value = self.final_height if self.nonfinite_at is not None else self.metrics.get("val_loss", self.final_height)
        return value if math.isfinite(value) else math.inf


def train(workload: Workload, members: Sequence[tuple[float, int]], *, batch_size: int, epochs: int) -> list[Run]:
    """Train each member, a (learning rate, seed), on fresh weights; runs come back in the order of ``members``.

    Members of one seed start from the same weights and see the same batches at every learning rate.
    A run that turns non-finite is a finding and comes back like any other. What the user's module raises is passed on.
    """
    return [_train_alone(workload, rate, seed, batch_size, epochs) for rate, seed in members]


def build_trainer(workload: Workload, *, epochs: int, recorder: Recorder | None = None) -> pl.Trainer:
    """A fresh Trainer with the workload's options; raises ValueError with Lightning's complaint about one."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # it says which devices exist, at every fit
    try:
        return pl.Trainer(**{**QUIET, **workload.trainer}, max_epochs=epochs, callbacks=recorder)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ValueError(f"trainer was refused by Lightning: {error}") from error


def _train_alone(workload: Workload, learning_rate: float, seed: int, batch_size: int, epochs: int) -> Run:
    began = time.perf_counter()
    data: Any = workload.build_data(batch_size=batch_size, seed=seed)
    model = workload.build_model(learning_rate=learning_rate, seed=seed)
    probe_batches = data.probe_batches()
    steps_per_epoch = len(data.train_dataloader())
    recorder = Recorder(probe_batches, steps=probe_steps(steps_per_epoch, epochs))
    trainer = build_trainer(workload, epochs=epochs, recorder=recorder)
    pl.seed_everything(seed, verbose=False)  # dropout and the like start alike, whatever building the module drew
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", LEAF_SPEC, FutureWarning)
            trainer.fit(model, datamodule=data)
    except SystemExit as error:
        # How Lightning passes on Ctrl-C, and SIGTERM, by which Slurm and Docker stop a process.
        if isinstance(error, SIGTERMException) or isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise RuntimeError(f"the module left by sys.exit({error.code!r})") from error
    if recorder.step == 0 and recorder.nonfinite_at is None:
        raise RuntimeError("no step was taken: training_step returned no loss or the training loader is empty")

    curves = {name: ([s for s, _ in points], [v for _, v in points]) for name, points in recorder.curves.items() if points}
    steps, heights = (np.array(column, dtype=float) for column in curves["height"])
    finite = recorder.nonfinite_at is None
    return Run(
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        epochs=recorder.step / steps_per_epoch,
        steps=recorder.step,
        examples=recorder.step * batch_size,
        seconds=time.perf_counter() - began,
        nonfinite_at=recorder.nonfinite_at,
        first_height=float(heights[0]),
        final_height=final_height(steps, heights),
        validation_examples=recorder.validation_examples,
        metrics={name: values[-1] for name, (_, values) in curves.items() if name.startswith("val_")} if finite else {},
        curves=curves,
    )
