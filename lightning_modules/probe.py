"""The probe: which training examples heights are measured on, and how, so that it is the loss that is trained."""

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, IterableDataset

from lightning_modules.as_evaluated import as_evaluated
from lightning_modules.height import Height, Probe, stepper, to_device, without_gradient
from lightning_modules.loaders import PROBE_SEED, PROBE_SIZE, n_examples, split
from lightning_modules.run_state import Slot, as_at_end, find_carried, numbers, start_epoch, total_batches
from lightning_modules.undisturbed import same_random_numbers, undisturbed
from lightning_modules.user_code import where

FEW, ENOUGH = 8, 256  # batches that tell how a module is to be measured at most, and examples that do, in 2 batches at least
SAME = 1e-5  # relative difference of two losses that are one number but for rounding, and
SAME_HALF = 1e-2  # in half precision
FAR_OFF = 2.0  # times the loss: untrained ConvNets, ResNet-18 and DenseNet differ by 0 to 0.2, ResNet-50 by 3 to 5
SHAKE = 0.1  # of the spread of each weight: untrained weights may hide a difference, such as zeros do


def draw_probe(loader: Any, batches: Iterable[Any], *, n_batches: float = math.inf, size: int = PROBE_SIZE) -> list[Any]:
    """At most ``size`` training examples, at least a batch, as batches that the loader serves; the same at every call.

    Where the loader picks indices of a data set they are random batches of an epoch as its sampler serves it, else the first
    of ``batches``. Random transforms are drawn once, here.

    Args:
        loader: what ``train_dataloader`` returned.
        batches: of an epoch of it.
        n_batches: of an epoch, inf where that is not known; of more only so many are trained on.
    """
    with same_random_numbers():
        if _picks_indices(loader) and math.isfinite(n_batches):
            batches = _random_batches(loader, int(n_batches), size)
        chosen: list[Any] = []
        found = 0
        for batch in batches:
            found += n_examples(batch)
            if chosen and found > size:
                break
            chosen.append(batch)
    return chosen


def _picks_indices(loader: Any) -> bool:
    if not isinstance(loader, DataLoader) or type(loader).__iter__ is not DataLoader.__iter__:
        return False
    return loader.batch_sampler is not None and not isinstance(loader.dataset, IterableDataset)


def _random_batches(loader: DataLoader[Any], n_batches: int, size: int) -> Iterable[Any]:
    batches: Any = loader.batch_sampler
    epoch = [list(indices) for indices in itertools.islice(batches, n_batches)]
    order = torch.randperm(len(epoch), generator=torch.Generator().manual_seed(PROBE_SEED)).tolist()
    counts = itertools.accumulate(len(epoch[place]) for place in order)
    enough = max(1, sum(count <= size for count in counts))
    chosen = [epoch[place] for place in sorted(order[:enough])]
    return DataLoader(loader.dataset, batch_sampler=chosen, collate_fn=loader.collate_fn)


def first_few(batches: Sequence[Any]) -> Sequence[Any]:
    """As many of the first batches as tell how a module is to be measured."""
    counts = itertools.accumulate(map(n_examples, batches[:FEW]))
    return batches[: max(2, 1 + sum(count < ENOUGH for count in counts))]


@dataclass(frozen=True)
class Chosen:
    """A probe, and what was found on the way.

    any_size: whether the loss is the same when the same examples come in batches of ``smallest``.
    remarks: sentences for whoever reads the report.
    """

    probe: Probe
    any_size: bool
    remarks: tuple[str, ...]


def choose_probe(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    batches: Sequence[Any],
    *,
    smallest: int | None,
    monitor: str | None = None,
    mode: str = "min",
) -> Chosen:
    """Find out how the loss that a module is trained on can be measured on these batches, by measuring it in several ways.

    Each way is measured on the first few batches at the same weights, those the module has and others near them:

    - with the epoch and step of the start and of the end, with what the module's hooks do then and with its counters grown: a
      loss that depends on them is measured as at the end of the run;
    - in training mode, with dropout and batch norm as in evaluation: if that is another loss than in evaluation mode, or if
      evaluation mode fails, heights are measured in training mode;
    - the same examples in one batch and in several of ``smallest``.

    A module that cannot be measured at all is left to the run, which will say why.

    Args:
        trainer, module: in a fit that has not begun to train; everything is put back.
        batches: that the loader serves, on the CPU.
        smallest: batch size of the study that is measured on these batches too, None where there is no other.
        monitor, mode: as for ``mean_loss``.
    """
    return _Choice(trainer, module, batches, monitor, mode).made(smallest)


class _Choice:
    def __init__(
        self, trainer: pl.Trainer, module: pl.LightningModule, batches: Sequence[Any], monitor: str | None, mode: str
    ) -> None:
        self.trainer, self.module, self.batches = trainer, module, batches
        self.told: dict[str, Any] = {"monitor": monitor, "mode": mode}
        with same_random_numbers():
            self.few = [to_device(trainer, module, batch) for batch in first_few(batches)]
        self.tolerance = SAME_HALF if "16" in str(trainer.precision) else SAME
        self.remarks: list[str] = []

    def made(self, smallest: int | None) -> Chosen:
        probe = self._probe(training=False)
        try:
            self._losses(probe)
        except Exception as error:  # whatever the user's code says to evaluation mode
            probe = self._probe(training=True)
            try:
                self._losses(probe)
            except Exception:
                return Chosen(Probe(self.batches), False, ())
            self.remarks.append(
                f"{where(self.module, 'training_step')} fails in evaluation mode"
                f" ({type(error).__name__}: {' '.join(str(error).split()):.100}): heights are measured in training mode"
            )
        found = self._as_at_end(probe)
        if not probe.training and (losses := self._modes_differ(replace(found, at_end=True))):
            probe = self._probe(training=True)
            found = self._as_at_end(probe)
            self.remarks.append(
                "evaluation mode computes another loss than training mode at the same weights, dropout and batch norm aside"
                f" ({losses}): heights are measured in training mode"
            )
        elif not probe.training and (losses := self._averages_off(probe)):
            probe = self._probe(training=True)
            found = self._as_at_end(probe)
            self.remarks.append(
                f"averages such as batch norm's have seen no data at the start ({losses} in evaluation and training mode):"
                " heights are measured in training mode"
            )
        if found is not probe:
            self.remarks.append(
                f"the loss changes during a run ({_pair(self._losses(probe), self._losses(found))} as at the end, at the same"
                " weights): all heights are measured as at the end"
            )
        any_size = self._any_size(found, smallest)
        if any_size is False:
            self.remarks.append(
                "the loss depends on how many examples are in a batch: heights are measured in batches as trained, and cannot"
                " be compared between batch sizes"
            )
        if n_examples(self.few[0]) > PROBE_SIZE and self._any_size(found, PROBE_SIZE):
            found = replace(found, batches=(split(self.batches[0], PROBE_SIZE) or self.batches)[:1])
        return Chosen(found, bool(any_size), tuple(self.remarks))

    def _probe(self, *, training: bool) -> Probe:
        """The probe in one of the modes, with what the module carries from batch to batch in it."""
        step = stepper(self.module)

        def evaluate() -> None:
            for index, batch in enumerate(self.few[:2]):
                step(batch, index)

        def find() -> tuple[Slot, ...]:
            with undisturbed(self.module, training=training):
                return find_carried(self.module, evaluate, n_examples(self.few[0]))

        with contextlib.suppress(Exception):  # whatever the user's code says: it is measured next
            return Probe(self.batches, training=training, carried=without_gradient(self.module, find))
        return Probe(self.batches, training=training)

    def _modes_differ(self, probe: Probe) -> str:
        """The losses of evaluation and training mode where they differ, "" else; a module may refuse to be asked."""
        with contextlib.suppress(Exception):
            training = self._losses(replace(probe, training=True), quiet=True)
            if not self._same(self._losses(probe), training):
                evaluation = self._losses(probe, quiet=True)
                return "" if self._same(evaluation, training) else _pair(evaluation, training)
        return ""

    def _averages_off(self, probe: Probe) -> str:
        """The losses of evaluation and training mode where averages that have seen no data make another by far, "" else."""
        with contextlib.suppress(Exception):
            there, here = Height(probe, **self.told), Height(replace(probe, training=True), **self.told)
            for height in (there, here):
                height.begin(self.trainer, self.module, self.few)
            with as_evaluated(self.module, averages=False):
                training = here(self.module)
            evaluation = there(self.module)
            return _pair([evaluation], [training]) if abs(evaluation - training) > FAR_OFF * abs(training) else ""
        return ""

    def _counters(self) -> dict[Slot, float]:
        """Numbers that grow by the same with each batch that is trained on."""
        step = stepper(self.module)

        def count() -> list[dict[Slot, float]]:
            with undisturbed(self.module, training=True):
                return [(step(self.few[index % len(self.few)], index), numbers(self.module))[1] for index in range(3)]

        try:
            first, second, third = without_gradient(self.module, count)
        except Exception:  # the user's code, which the run will meet as well
            return {}
        grown = {slot: value - first[slot] for slot, value in second.items() if slot in first}
        return {slot: by for slot, by in grown.items() if by and third.get(slot, math.nan) - second[slot] == by}

    def _as_at_end(self, probe: Probe) -> Probe:
        """The probe, with what makes it measure the loss of the end of the run where that is another than at the start."""
        found, losses = probe, self._losses(probe)
        steps: list[dict[str, Any]] = [{"at_end": True}]
        if any(_is_own(self.module, name) for name in ("on_train_epoch_start", "on_train_batch_start")):
            steps += [{"at_end": True, "hooks": True}] if self._hooks_repeat() else []
        if math.isfinite(total_batches(self.trainer)) and (counters := self._counters()):
            steps.append({"counters": counters})
        for changes in steps:
            candidate = replace(found, **changes)
            with contextlib.suppress(Exception):  # such as a pointer that grows and starts over
                now = self._losses(candidate)
                if not self._same(now, losses) and all(map(math.isfinite, now)):
                    found, losses = candidate, now
        return found

    def _hooks_repeat(self) -> bool:
        """Whether the hooks set numbers by epoch and step alone, and not by what they were before."""
        with contextlib.suppress(Exception), undisturbed(self.module), as_at_end(self.trainer):
            start_epoch(self.module, self.few[0])
            once = numbers(self.module)
            start_epoch(self.module, self.few[0])
            return once == numbers(self.module)
        return False

    def _any_size(self, probe: Probe, smallest: int | None) -> bool | None:
        """Whether the loss is the same in batches of ``smallest``, or of all there are; None where that cannot be told."""
        batch = self.few[0]
        if smallest is None or n_examples(batch) <= smallest:
            return True
        whole = (split(batch, FEW * smallest) or [])[:1]
        if probe.training or probe.carried or not whole:
            return None
        with contextlib.suppress(Exception):  # whatever the user's code says to other batches than its own
            if self._same(self._losses(probe, whole), self._losses(probe, split(whole[0], smallest))):
                return True
            return None if without_gradient(self.module, self._draws) else False
        return None

    def _draws(self) -> bool:
        """Whether a step draws random numbers: then other batches have another loss for that alone."""
        with undisturbed(self.module):
            before = torch.get_rng_state()
            stepper(self.module)(self.few[0], 0)
            return not torch.equal(before, torch.get_rng_state())

    def _losses(self, probe: Probe, batches: Sequence[Any] | None = None, *, quiet: bool = False) -> tuple[float, float]:
        """The height on the first few batches, or others, at the weights as they are and at others."""
        measure = Height(probe, **self.told)
        measure.begin(self.trainer, self.module, batches or self.few)
        with as_evaluated(self.module) if quiet else contextlib.nullcontext():
            there = measure(self.module)
        with _shaken(self.module), as_evaluated(self.module) if quiet else contextlib.nullcontext():
            return there, measure(self.module)

    def _same(self, some: Sequence[float], others: Sequence[float]) -> bool:
        def one(a: float, b: float) -> bool:
            return a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= self.tolerance * max(abs(a), abs(b))

        return all(map(one, some, others))


def _is_own(module: pl.LightningModule, hook: str) -> bool:
    return not getattr(type(module), hook).__module__.endswith("core.hooks")


def _pair(some: Sequence[float], others: Sequence[float]) -> str:
    """Two losses that differ, of the same weights."""
    one, other = max(zip(some, others, strict=True), key=lambda pair: abs(pair[0] - pair[1]) if pair[0] != pair[1] else 0.0)
    return f"{one:.4g} against {other:.4g}"


@contextlib.contextmanager
def _shaken(module: nn.Module) -> Iterator[None]:
    """Weights near those the module has, which are put back."""
    generator = torch.Generator().manual_seed(PROBE_SEED)
    weights = [weight for weight in module.parameters() if weight.is_floating_point() and not is_lazy(weight)]
    held = [(weight, weight.detach().clone()) for weight in weights]
    try:
        with torch.no_grad():
            for weight, before in held:
                spread = float(before.std()) if before.numel() > 1 else 0.0
                by = torch.randn(before.shape, generator=generator).to(before)
                weight.add_(by, alpha=SHAKE * (spread or 1.0))
        yield
    finally:
        with torch.no_grad():
            for weight, before in held:
                weight.copy_(before)
