"""Whether a learning-rate schedule does what a study asks: a dry run of it, without training."""

import itertools
import math
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from torch.optim import lr_scheduler

from lightning_modules.learning_rate import LearningRate
from lightning_modules.loaders import PROBE_SEED
from lightning_modules.run_state import total_batches
from lightning_modules.undisturbed import Still
from lightning_modules.user_code import where
from studies.errors import BadInput
from studies.training.fitting import see_start
from studies.training.fixed import epochs_to_train, look_at
from studies.training.workload import Workload

MOST = 20_000  # batches that are gone through: half a second
FOLLOWS = 0.01  # relative difference between what was asked and what was reached
REMEDY = "make it for self.trainer.estimated_stepping_batches steps, or leave schedules out with constant"


class ScheduleTooShort(BadInput):
    """A schedule that cannot be stepped as often as a run takes; the message says what to do.

    Args:
        who: the schedule. error: what it said.
    """

    def __init__(self, who: str, error: Exception) -> None:
        said = " ".join(str(error).split())
        super().__init__(f"{who} was made for a run of another length ({said:.200}): {REMEDY}")


@dataclass(frozen=True)
class Reached:
    """What a dry run shows.

    highest: learning rate of each parameter group. asked: the same before any schedule. set_by: who sets them, with its place.
    """

    highest: tuple[float, ...]
    asked: tuple[float, ...]
    set_by: str


def as_too_short(error: Exception) -> ScheduleTooShort | None:
    """What a run raised, told with its remedy where it was a scheduler that did; else None."""
    frames = traceback.extract_tb(error.__traceback__)
    by_hand = frames[-1].filename == lr_scheduler.__file__ and frames[-1].name in ("step", "get_lr")
    if not by_hand and all(frame.name != "lr_scheduler_step" for frame in frames):  # the hook in which Lightning steps them
        return None
    return ScheduleTooShort("the learning-rate schedule", error)


def check_schedule(
    workload: Workload, learning_rates: Sequence[float], batch_sizes: Sequence[int]
) -> tuple[dict[int, str], list[str]]:
    """Why runs at some batch sizes would fail, by batch size; and what is to be known of the schedule, a sentence each.

    Raises ValueError when runs at all of them would, and when the learning rates that are stepped with do not follow those
    that are asked for.
    """
    low, high = min(learning_rates), max(learning_rates)
    failing: dict[int, ScheduleTooShort] = {}
    remarks = []
    for size in sorted(batch_sizes, reverse=True):
        try:
            at_high = dry_run(workload, high, size)
        except ScheduleTooShort as error:
            failing[size] = error
            continue
        if high > low:
            _check_followed(low, high, dry_run(workload, low, size), at_high)
        share = max(at_high.highest) / max(max(at_high.asked), 1e-300)
        if at_high.set_by and abs(share - 1) > FOLLOWS:
            remarks.append(
                f"{at_high.set_by} takes the learning rate to {share:.3g} times what is asked for at most, in a run at batch"
                f" size {size}"
            )
        if not at_high.set_by:
            break  # no schedule: other sizes are alike
    if len(failing) == len(batch_sizes):
        raise failing[max(failing)]
    return {size: str(error) for size, error in failing.items()}, remarks


def _check_followed(low: float, high: float, at_low: Reached, at_high: Reached) -> None:
    for lower, upper in zip(at_low.highest, at_high.highest, strict=False):
        if lower > 0 and not math.isclose(upper / lower, high / low, rel_tol=FOLLOWS):
            who = at_high.set_by or "configure_optimizers"
            raise BadInput(
                f"learning_rate has no effect, or not the one asked for: {who} goes up to {lower:.3g} where {low:.3g} is"
                f" asked for and to {upper:.3g} where {high:.3g} is; let its rates follow the module's learning rate, or leave"
                " schedules out with constant"
            )


def dry_run(workload: Workload, learning_rate: float, batch_size: int) -> Reached:
    """Step the schedulers of a run as often as it would.

    Raises ScheduleTooShort when one of them refuses.
    """
    fixed = look_at(workload, batch_size)
    built = workload.build(learning_rate=learning_rate, batch_size=batch_size, seed=PROBE_SEED)
    rate = LearningRate(learning_rate, fixed.proportions, constant=workload.constant)
    look = _DryRun(fixed.n_train / batch_size)
    see_start(look, workload, built, batch_size, rate, epochs=epochs_to_train(workload, batch_size, workload.epochs))
    return Reached(tuple(look.highest), tuple(rate.rates), ", ".join(look.names))


def _tell(trainer: pl.Trainer, *, epoch: int, step: int) -> None:
    """Have the Trainer say how far it is, for schedulers that are told; the fit ends before its first step."""
    trainer.fit_loop.epoch_progress.current.completed = epoch
    trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step


def _name(scheduler: Any) -> str:
    """A scheduler's class, with its place where that is not PyTorch's."""
    kind = type(scheduler)
    return kind.__name__ if kind.__module__.startswith("torch.") else where(scheduler, "get_lr")


class _DryRun(pl.Callback):
    """n_batches: of an epoch, where the Trainer does not know it."""

    def __init__(self, n_batches: float) -> None:
        self.n_batches = n_batches
        self.highest: list[float] = []
        self.names: list[str] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self.highest = [float(group["lr"]) for group in groups]
        configs = [each for each in trainer.lr_scheduler_configs if not each.reduce_on_plateau]
        configs = [each for each in configs if not isinstance(each.scheduler, Still)]
        self.names = [_name(each.scheduler) for each in configs]
        if configs and pl_module.automatic_optimization:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that no optimizer stepped before
                self._go_through(trainer, pl_module, groups, configs)

    def _go_through(
        self, trainer: pl.Trainer, module: pl.LightningModule, groups: Sequence[dict[str, Any]], configs: Sequence[Any]
    ) -> None:
        a_epoch = trainer.num_training_batches if math.isfinite(trainer.num_training_batches) else self.n_batches or math.inf
        total, accumulated = (
            min(total_batches(trainer), a_epoch * max(1, trainer.max_epochs or 1)),
            trainer.accumulate_grad_batches,
        )
        for batch in itertools.count():
            if batch >= total:
                return
            place = batch % a_epoch + 1
            _tell(trainer, epoch=int(batch // a_epoch), step=batch // accumulated)
            ends = place >= a_epoch
            if ends or place % accumulated == 0:
                self.highest = [*map(max, self.highest, (float(group["lr"]) for group in groups))]
                self._step(module, [each for each in configs if each.interval == "step" and place % each.frequency == 0])
            if ends:
                epoch = round((batch + 1) / a_epoch)
                self._step(module, [each for each in configs if each.interval == "epoch" and epoch % each.frequency == 0])

    def _step(self, module: pl.LightningModule, configs: Sequence[Any]) -> None:
        for config in configs:
            try:
                module.lr_scheduler_step(config.scheduler, None)
            except Exception as error:  # whatever a scheduler says to one step too many
                raise ScheduleTooShort(_name(config.scheduler), error) from error
