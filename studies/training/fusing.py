"""Whether members are fused, and how many at once: decided by measuring a few steps of each way before a batch size starts."""

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from torch.utils.data import IterableDataset

from lightning_modules.fused.call import NotFusable
from lightning_modules.fused.fused import Fused
from lightning_modules.learning_rate import LearningRate, set_attribute
from lightning_modules.loaders import PROBE_SEED
from lightning_modules.record import Record
from lightning_modules.recorder import Recorder
from reports.judging.decided import Query
from studies.plan import Planned
from studies.training.classes import package_of
from studies.training.fitting import ASIDE, fit
from studies.training.fixed import Fixed, epochs_to_train, look_at
from studies.training.runs import Run, run_of
from studies.training.trainers import device_of
from studies.training.workload import Built, Workload

SIZES = (64, 16, 4)  # members of one fit that are tried, as long as fewer are faster
ENOUGH = 2.0  # times as fast as alone: then fewer members are not tried
LONGEST = 120.0  # seconds that a fused fit may take: all its members are lost to a power cut
SHORT = 10  # times the steps of measuring: a batch size of fewer is not measured
WARM_UP = 3  # steps that are not timed: the first ones allocate
TIMED = (4, 12)  # steps that are: few where a study is short, at most so many
SHARE = 0.01  # of all steps of a batch size that measuring may take, roughly
GAIN = 0.95  # a fused member must take at most this share of the time of one alone
MEMORY_SHARE = 0.25  # of what is free, for the weights; the rest is for activations, which measuring would find too large
COPIES = 8  # of a weight: itself, gradient, direction, three moments (amsgrad), and two in the making
FAR = 2.0  # decades between the learning rates of two members that are compared, roughly
SAME = 1e-3  # relative difference of the first losses, fused and alone: more is another computation, not rounding
# Options of a Trainer that act on all members of a fit as on each alone.
TRAINER = "accelerator benchmark check_val_every_n_epoch deterministic limit_train_batches limit_val_batches max_steps".split()
TRAINER += ["gradient_clip_val", "gradient_clip_algorithm"]  # of each member's own gradients
# What moves a batch to its device, which a fused fit does not call.
TRANSFERS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class Fusing:
    """Which members of a batch size are trained in one fit, and how many at once.

    A fused member's results do not depend on the others, to the bit; fused and alone differ by rounding. So whether to fuse is
    decided once for the whole study.

    Attributes:
        decided: by batch size as text, ``{"members": trained at once, 1 when alone, "why": one line}``: plain JSON to be kept.
        seconds: by batch size, what a run takes, as far as it is known.
    """

    def __init__(self, workload: Workload, *, epochs: int, decided: Mapping[str, Any] | None = None) -> None:
        self._workload, self._epochs = workload, epochs
        self.decided: dict[str, dict[str, Any]] = dict(decided or {})
        self.seconds: dict[int, float] = {}

    def decide(self, members: Sequence[Planned]) -> None:
        """Decide for a batch size, unless that is done; members: all that are to be trained at it."""
        if len(members) > 1 and str(batch_size := members[0].batch_size) not in self.decided:
            self.keep(batch_size, *self._choose(members, batch_size))

    def at_once(self, batch_size: int) -> int:
        """Members of a batch size to train in one fit, 1 for alone."""
        size = int(self.decided.get(str(batch_size), {"members": 1})["members"])
        return size if size < 2 else max(2, min(size, int(LONGEST / self.seconds.get(batch_size, 1e-9))))

    def failed(self, batch_size: int, reason: str, *, out_of_memory: bool) -> None:
        """A fused fit failed: fewer at once where memory was short, else alone, where it will be seen whose failure it is."""
        size = self.at_once(batch_size) // 4 if out_of_memory else 1
        if size > 1:
            self.keep(batch_size, size, f"{size} fused: there is no memory for more at once")
        else:
            self.keep(batch_size, 1, f"alone: fused it failed ({reason})")

    def keep(self, batch_size: int, members: int, why: str) -> None:
        """Keep what was decided."""
        self.decided[str(batch_size)] = {"members": members, "why": why}

    def _choose(self, members: Sequence[Planned], batch_size: int) -> tuple[int, str]:
        steps = self._epochs * look_at(self._workload, batch_size).n_train / batch_size
        steps = min(steps, self._workload.trainer.get("max_steps", math.inf))
        n_timed = SHARE * steps * len(members) / (1 + min(len(members), SIZES[0]))
        n_steps = WARM_UP + int(min(max(n_timed, TIMED[0]), TIMED[1]))
        if steps * len(members) < SHORT * n_steps * (1 + min(len(members), SIZES[-1])):
            return 1, "alone: too few steps to measure which is faster"
        try:
            best, fused, alone = self._measure(members, batch_size, n_steps)
        except NotFusable as error:
            return 1, f"alone: {error}"
        except Exception as error:  # whatever vmap or the module says to being vectorised
            return 1, f"alone: it cannot be fused ({reason_of(error)})"
        self.seconds[batch_size] = steps * min(fused, alone)
        if fused > GAIN * alone:
            return 1, f"alone: {best} fused would take {fused / alone:.2g} times as long"
        return best, f"{best} fused, {alone / fused:.2g} times as fast as alone"

    def _measure(self, members: Sequence[Planned], batch_size: int, n_steps: int) -> tuple[int, float, float]:
        """The best number of members at once, its seconds a step and member, and those of one alone."""
        workload, fixed = self._workload, look_at(self._workload, batch_size)
        _refuse_options(workload)
        first = members[0]
        # Where it shows if either is forgotten: another seed, and another rate, as far away as training is not chaotic yet.
        unlike = [other for other in members if other.learning_rate != first.learning_rate]
        unlike = [other for other in unlike if other.seed != first.seed] or unlike
        unlike.sort(key=lambda other: abs(math.log10(other.learning_rate / first.learning_rate) - FAR))
        others = list(members[1:])
        for other in unlike[:1]:
            others.remove(other)
        members = [first, *unlike[:1], *others]
        most = min(len(members), _n_that_fit(workload, first))
        if most < 2:
            raise NotFusable("there is no memory for more at once")
        best, fused, alone = 0, math.inf, math.inf
        for size in sorted({min(size, most) for size in SIZES}, reverse=True):
            seconds, losses = time_fused(workload, members[:size], n_steps, fixed)
            if not best:
                alone, expected = time_alone(workload, members[1], n_steps, fixed)
                compared = list(zip(expected, losses, strict=True))[:WARM_UP]  # more of them may be chaotic
                if not all(abs(a - b) <= SAME * abs(a) for a, b in compared):
                    raise NotFusable("fused, its first losses differ")
            if seconds / size > fused:
                break
            best, fused = size, seconds / size
            if ENOUGH * fused < alone:
                break
        return best, fused, alone


class Timer(pl.Callback):
    """Times the first steps of a fit, ends it, and keeps their losses: of the second member where it is fused, as the first is
    the stack's skeleton, so that its attributes are right there even if the others' are not.
    """

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps
        self.losses: list[float] = []
        self._times: list[float] = []

    @property
    def seconds(self) -> float:
        """Of a step, the shortest: on a busy machine others are as long as it was waited for the processor."""
        return min(after - before for before, after in itertools.pairwise(self._times[WARM_UP:]))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Look at the clock."""
        self._times.append(time.perf_counter())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss, and stop after the last."""
        loss = pl_module.losses[1] if isinstance(pl_module, Fused) else outputs["loss"]
        self.losses.append(float(loss))
        trainer.should_stop |= len(self.losses) == self.n_steps


def train_fused(
    workload: Workload, members: Sequence[Planned], *, epochs: int, queries: Sequence[Query | None] = ()
) -> list[Run]:
    """Train members of one batch size in one fit; runs come back in their order, each with its share of the time by its steps.

    queries: of each member, where there are any: when it may end before its budget.

    Raises NotFusable where it cannot be fused, or whatever vectorising the module raises.
    """
    if len(members) == 1:  # a stack of one may go through other kernels, whose rounding is another
        return train_fused(workload, [*members, *members], epochs=epochs, queries=[*queries, *queries])[:1]
    fixed = look_at(workload, members[0].batch_size)
    began = time.perf_counter()
    records = _fit_fused(workload, members, fixed, epochs=epochs, queries=queries)
    seconds, steps = time.perf_counter() - began, sum(record.step for record in records) or 1
    return [
        run_of(record, workload, planned, seconds * record.step / steps)
        for record, planned in zip(records, members, strict=True)
    ]


def _fit_fused(
    workload: Workload,
    members: Sequence[Planned],
    fixed: Fixed,
    *,
    epochs: int,
    timer: Timer | None = None,
    queries: Sequence[Query | None] = (),
) -> list[Record]:
    """Fit members together; timer: only as many steps as it wants, without validation."""
    built: dict[int, Built] = {}
    loaders: dict[int, Any] = {}
    validation = None
    for member in members:
        if (seed := member.seed) not in built:
            built[seed] = workload.build(**member._asdict())
            loaders[seed], own_validation = _loaders(built[seed])
            validation = own_validation if validation is None else validation

    def at(learning_rate: float, seed: int) -> pl.LightningModule:
        set_attribute(built[seed].owners, workload.rate_names, learning_rate)
        return built[seed].model

    records = [Record(None if timer is None else [0]) for _ in members]
    for record, query in zip(records, queries, strict=False):
        record.is_over = None if query is None else query.is_over
    fused = Fused(
        [(LearningRate(each.learning_rate, fixed.proportions, constant=workload.constant), each.seed) for each in members],
        at=at,
        loaders=loaders,
        validation=validation if timer is None else None,
        probe=fixed.probe if timer is None else replace(fixed.probe, batches=fixed.probe.batches[:1]),
        records=records,
        monitor=workload.monitor,
        mode=workload.mode,
    )
    epochs = epochs_to_train(workload, members[0].batch_size, epochs)
    _fit(workload, Built(fused, {}), members[0].seed, [], epochs, timer)
    return records


def _fit(workload: Workload, built: Built, seed: int, callbacks: list[pl.Callback], epochs: int, timer: Timer | None) -> None:
    replaced = {} if timer is None else ASIDE
    fit(workload, built, seed=seed, callbacks=[*callbacks, *([timer] if timer else [])], epochs=epochs, replaced=replaced)


def time_alone(workload: Workload, member: Planned, n_steps: int, fixed: Fixed) -> tuple[float, list[float]]:
    """Seconds a step and the losses of the first steps of a member alone."""
    built = workload.build(**member._asdict())
    timer = Timer(n_steps)
    recorder = Recorder(fixed.probe.batches[:1], steps=[0], monitor=workload.monitor, mode=workload.mode)
    rate = LearningRate(member.learning_rate, fixed.proportions, constant=workload.constant)
    _fit(workload, built, member.seed, [rate, recorder], n_steps, timer)
    return timer.seconds, timer.losses


def time_fused(workload: Workload, members: Sequence[Planned], n_steps: int, fixed: Fixed) -> tuple[float, list[float]]:
    """Seconds a step of all members, and the losses of the second of them."""
    timer = Timer(n_steps)
    _fit_fused(workload, members, fixed, epochs=n_steps, timer=timer)
    return timer.seconds, timer.losses


def _n_that_fit(workload: Workload, member: Planned) -> int:
    """Members whose weights, gradients, momenta and their like fit into the memory of their device beside all else."""
    model = workload.build(**member._asdict()).model
    weights = sum(weight.nbytes for weight in model.parameters())
    device = device_of(workload.trainer)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return int(MEMORY_SHARE * free / (COPIES * max(weights, 1)))


def _refuse_options(workload: Workload) -> None:
    for name in workload.trainer:
        if name not in TRAINER:
            raise NotFusable(f"trainer.{name} acts on one module")


def _loaders(built: Built) -> tuple[Any, Any]:
    """Training and validation loader of what was built, made as a fit makes them."""
    is_overridden = import_module(f"{package_of(type(built.model))}.utilities.model_helpers").is_overridden
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


def reason_of(error: Exception) -> str:
    """One line of why a module cannot be fused."""
    message = " ".join(str(error).split())
    if "randomness" in message:
        return "it draws random numbers in training, as dropout does"
    return f"{type(error).__name__}: {message:.150}"
