"""Whether members are fused, and how many at once: decided by measuring a few steps of each way before a batch size starts."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.utils.data import IterableDataset

from lightning_modules.fused import Fused, NotFusable, only_sgd
from lightning_modules.learning_rate import LearningRate
from lightning_modules.loaders import PROBE_SEED
from lightning_modules.recorder import Record, Recorder
from studies.sources import PACKAGES, package_of
from studies.training import ASIDE, Fixed, Run, fit, fixed_of, run_of
from studies.workload import Built, Workload

Member = tuple[float, int]  # learning rate, seed

MOST = 64  # members of one fit: more gain little, and all of them are lost to a power cut
WARM_UP = 3  # steps that are not timed: the first ones allocate
TIMED = (4, 12)  # steps that are: few where a study is short, at most so many
SHARE = 0.01  # of all steps of a batch size that measuring may take, roughly
GAIN = 0.95  # a fused member must take at most this share of the time of one alone
MEMORY_SHARE = 0.25  # of what is free, for the weights; the rest is for activations, which measuring would find too large
COPIES = 4  # of a weight: itself, gradient, momentum, and one in the making
SAME = 1e-3  # relative difference of the first losses, fused and alone: more is another computation, not rounding
# Options of a Trainer that act on all members of a fit as on one.
TRAINER = ("accelerator", "benchmark", "check_val_every_n_epoch", "deterministic", "limit_train_batches", "limit_val_batches")
# What moves a batch to its device, which a fused fit does not call.
TRANSFERS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class Fusing:
    """Trains members of one batch size ahead, in one fit, where that is faster; else leaves them to be trained alone.

    A fused member's results do not depend on the others, to the bit; fused and alone differ by rounding. So what was decided
    once holds for the whole study.

    Attributes:
        decided: by batch size as text, ``{"members": trained at once, 1 when alone, "why": one line}``: plain JSON to be kept.
    """

    def __init__(self, workload: Workload, *, epochs: int, decided: Mapping[str, Any] | None = None) -> None:
        self._workload, self._epochs = workload, epochs
        self.decided: dict[str, dict[str, Any]] = dict(decided or {})

    def is_alone(self, batch_size: int) -> bool:
        """Whether it is decided that members of this batch size are trained alone."""
        return bool(self.decided.get(str(batch_size), {}).get("members") == 1)

    def decide(self, members: Sequence[Member], *, batch_size: int, n_runs: int) -> bool:
        """Decide for a batch size, unless that is done; True when something was decided.

        members: that are to be trained next, in this order. n_runs: that this batch size holds in all.
        """
        if str(batch_size) in self.decided or len(members) < 2:
            return False
        self._keep(batch_size, *self._choose(members[:MOST], batch_size, n_runs))
        return True

    def ahead(self, members: Sequence[Member], *, batch_size: int) -> list[Run]:
        """The runs of the first so many ``members`` as are trained at once; empty where they are trained alone."""
        size = self.decided.get(str(batch_size), {"members": 1})["members"]
        if size < 2 or not members:
            return []
        try:
            return train_fused(self._workload, members[:size], batch_size=batch_size, epochs=self._epochs)
        except Exception as error:  # alone, whose failure it is will be seen
            self._keep(batch_size, 1, f"alone: fused it failed ({_line(error)})")
            return []

    def _keep(self, batch_size: int, members: int, why: str) -> None:
        self.decided[str(batch_size)] = {"members": members, "why": why}

    def _choose(self, members: Sequence[Member], batch_size: int, n_runs: int) -> tuple[int, str]:
        try:
            _refuse_options(self._workload)
            fixed = fixed_of(self._workload, batch_size)
            model = self._workload.build(learning_rate=members[0][0], batch_size=batch_size, seed=members[0][1]).model
            if package_of(type(model)) != PACKAGES[0]:
                raise NotFusable(f"it is a module of {package_of(type(model))}")
            only_sgd(model)
            members = members[: _n_that_fit(model)]
            if len(members) < 2:
                return 1, "alone: there is no memory for more at once"
            n_steps = self._n_steps(members, batch_size, n_runs, fixed)
            alone, losses = _time_alone(self._workload, members[1], batch_size, n_steps, fixed)
            per_member = {}
            for size in sorted({len(members), -(-len(members) // 3)}):
                if size > 1:
                    seconds, fused_losses = _time_fused(self._workload, members[:size], batch_size, n_steps, fixed)
                    per_member[size] = seconds / size
                    if any(abs(a - b) > SAME * abs(a) for a, b in zip(losses, fused_losses, strict=True)):
                        return 1, "alone: fused, its first losses differ"
        except NotFusable as error:
            return 1, f"alone: {error}"
        except Exception as error:  # whatever vmap or the module says to being vectorised
            return 1, f"alone: it cannot be fused ({_line(error)})"
        best = min(per_member, key=lambda size: per_member[size])
        factor = alone / per_member[best]
        if per_member[best] > GAIN * alone:
            return 1, f"alone: {best} fused would take {1 / factor:.2g} times as long"
        return best, f"{best} fused, {factor:.2g} times as fast as alone"

    def _n_steps(self, members: Sequence[Member], batch_size: int, n_runs: int, fixed: Fixed) -> int:
        steps = self._epochs * fixed.n_train / batch_size
        return WARM_UP + int(min(max(SHARE * steps * n_runs / (1 + len(members)), TIMED[0]), TIMED[1]))


def train_fused(workload: Workload, members: Sequence[Member], *, batch_size: int, epochs: int) -> list[Run]:
    """Train members in one fit; runs come back in their order, each with its share of the time by the steps it took.

    Raises NotFusable, or whatever vectorising the module raises.
    """
    if len(members) == 1:  # a stack of one may go through other kernels, whose rounding is another
        return train_fused(workload, [*members, *members], batch_size=batch_size, epochs=epochs)[:1]
    fixed = fixed_of(workload, batch_size)
    began = time.perf_counter()
    records = _fit_fused(workload, members, batch_size, fixed, epochs=epochs)
    seconds, steps = time.perf_counter() - began, sum(record.step for record in records) or 1
    return [
        run_of(record, workload, rate, batch_size, seed, seconds * record.step / steps)
        for record, (rate, seed) in zip(records, members, strict=True)
    ]


def _fit_fused(
    workload: Workload,
    members: Sequence[Member],
    batch_size: int,
    fixed: Fixed,
    *,
    epochs: int,
    timer: Timer | None = None,
) -> list[Record]:
    """Fit members together; timer: only as many steps as it wants, without validation."""
    built = [workload.build(learning_rate=rate, batch_size=batch_size, seed=seed) for rate, seed in members]
    rates = [LearningRate(rate, fixed.proportions, constant=workload.constant) for rate, _ in members]
    loaders: dict[int, Any] = {}
    validation = None
    for each, (_, seed) in zip(built, members, strict=True):
        if seed not in loaders:
            loaders[seed], own_validation = _loaders(each)
            validation = own_validation if validation is None else validation
    records = [Record(None if timer is None else [0]) for _ in members]
    fused = Fused(
        [each.model for each in built],
        set_rates=[rate.set for rate in rates],
        seeds=[seed for _, seed in members],
        loaders=loaders,
        validation=validation if timer is None else None,
        probe=fixed.probe if timer is None else fixed.probe[:1],
        records=records,
        monitor=workload.monitor,
        mode=workload.mode,
    )
    _fit(workload, Built(fused, {}), members[0][1], [], epochs, timer)
    return records


def _fit(workload: Workload, built: Built, seed: int, callbacks: list[pl.Callback], epochs: int, timer: Timer | None) -> None:
    replaced = {} if timer is None else ASIDE | {"limit_train_batches": timer.n_steps}
    fit(workload, built, seed=seed, callbacks=[*callbacks, *([timer] if timer else [])], epochs=epochs, replaced=replaced)


class Timer(pl.Callback):
    """Times the first steps of a fit and keeps their losses, of the second member where it is fused: the first is the stack's
    skeleton, so that its attributes are right there even if the others' are not.
    """

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps
        self.losses: list[float] = []
        self._times: list[float] = []

    @property
    def seconds(self) -> float:
        """Of a step, the median; raises NotFusable where an epoch ended before two of them could be timed."""
        times = self._times[WARM_UP:]
        if len(times) < 2:
            raise NotFusable("an epoch has too few steps to be timed")
        return statistics.median(after - before for before, after in itertools.pairwise(times))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Look at the clock."""
        self._times.append(time.perf_counter())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss."""
        loss = pl_module.losses[1] if isinstance(pl_module, Fused) else outputs["loss"]
        self.losses.append(float(loss))


def _time_alone(workload: Workload, member: Member, batch_size: int, n_steps: int, fixed: Fixed) -> tuple[float, list[float]]:
    """Seconds a step and the losses of the first steps of a member alone."""
    rate, seed = member
    built = workload.build(learning_rate=rate, batch_size=batch_size, seed=seed)
    timer = Timer(n_steps)
    recorder = Recorder(fixed.probe[:1], steps=[0], monitor=workload.monitor, mode=workload.mode)
    _fit(workload, built, seed, [LearningRate(rate, fixed.proportions, constant=workload.constant), recorder], 1, timer)
    return timer.seconds, timer.losses


def _time_fused(
    workload: Workload, members: Sequence[Member], batch_size: int, n_steps: int, fixed: Fixed
) -> tuple[float, list[float]]:
    """Seconds a step of all members, and the losses of the second of them."""
    timer = Timer(n_steps)
    _fit_fused(workload, members, batch_size, fixed, epochs=1, timer=timer)
    return timer.seconds, timer.losses


def _n_that_fit(model: pl.LightningModule) -> int:
    """Members whose weights, gradients, momenta and their like fit into memory beside all else."""
    weights = sum(weight.nbytes for weight in model.parameters())
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available
    return int(MEMORY_SHARE * free / (COPIES * max(weights, 1)))


def _refuse_options(workload: Workload) -> None:
    for name in workload.trainer:
        if name not in TRAINER:
            raise NotFusable(f"trainer.{name} acts on one module")


def _loaders(built: Built) -> tuple[Any, Any]:
    """Training and validation loader of what was built, made as a fit makes them."""
    validated = is_overridden("validation_step", built.model)
    if "train_dataloaders" in built.data:
        train, validation = built.data["train_dataloaders"], built.data["val_dataloaders"]
    else:
        owner: Any = built.data.get("datamodule", built.model)
        changed = [name for name in TRANSFERS if is_overridden(name, owner)]
        if changed:
            raise NotFusable(f"{type(owner).__name__} defines {changed[0]}")
        pl.seed_everything(PROBE_SEED, verbose=False)
        owner.prepare_data()
        owner.setup("fit")
        train = owner.train_dataloader()
        validation = owner.val_dataloader() if is_overridden("val_dataloader", owner) else None
    for loader in (train, validation if validated else None):
        if isinstance(loader, (list, tuple, dict)):
            raise NotFusable("it has several loaders")
        if getattr(loader, "num_workers", 0):
            raise NotFusable("its loader has workers")
    if not hasattr(train, "__len__") or isinstance(getattr(train, "dataset", None), IterableDataset):
        raise NotFusable("its data have no length")
    return train, validation if validated else None


def _line(error: Exception) -> str:
    message = " ".join(str(error).split())
    if "randomness" in message:
        return "it draws random numbers in training, as dropout does"
    return f"{type(error).__name__}: {message:.150}"
