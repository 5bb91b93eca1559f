"""What all runs of a workload share and only a fit can tell, found by fits that end before their first step."""

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import pytorch_lightning as pl
from lightning_fabric.utilities.data import sized_len
from pytorch_lightning.utilities.combined_loader import CombinedLoader

from lightning_modules.height import Probe
from lightning_modules.learning_rate import Proportions, base_rate, first_number, get_attribute, set_attribute
from lightning_modules.loaders import PROBE_SEED, flat_loaders, has_size, n_examples, own_size
from lightning_modules.probe import Chosen, choose_probe, draw_probe
from lightning_modules.run_state import as_at_end
from lightning_modules.user_code import where
from studies.errors import BadInput
from studies.training.fitting import see_start
from studies.training.workload import Built, Workload

MOST_COUNTED, COUNTED_SECONDS = 100_000, 10.0  # batches, and time, after which a stream counts as endless
MOST_SIZES = 64  # batches whose sizes are looked at
SHORT = 4  # times smaller than the others a last batch is much smaller


@dataclass(frozen=True)
class Fixed:
    """What all runs of a workload share at a batch size.

    probe: on what the height is measured, and how. any_size: whether it does for all batch sizes of the study.
    proportions: how the optimizers share a learning rate.
    own: the learning rate the module has today, None where it has none yet.
    n_train: training examples of an epoch, roughly; 0 where that is not known.
    checks_size: whether the first batch of a run must hold as many examples as were asked for.
    remarks: sentences on how the module is measured and fed, for whoever reads the report.
    """

    probe: Probe
    any_size: bool
    proportions: Proportions
    own: float | None
    n_train: float
    checks_size: bool
    remarks: tuple[str, ...]


_fixed: WeakKeyDictionary[Workload, dict[int, Fixed]] = WeakKeyDictionary()


def look_at(workload: Workload, batch_size: int) -> Fixed:
    """What is fixed at a batch size, found once.

    The probe is drawn at the largest batch size of the study, and at each of its own where the loss depends on that.
    """
    known = _fixed.setdefault(workload, {})
    if batch_size not in known:
        sizes = workload.batch_sizes or (batch_size,)
        largest = max(sizes)
        if largest not in known:
            known[largest] = _look(workload, largest, min(sizes))
        known[batch_size] = known[largest] if known[largest].any_size else _look(workload, batch_size, batch_size)
    return known[batch_size]


def _look(workload: Workload, batch_size: int, smallest: int) -> Fixed:
    own = workload.build(learning_rate=None, batch_size=batch_size, seed=PROBE_SEED)
    today = first_number(get_attribute(own.owners, workload.rate_names))
    attribute = today or 1.0
    named = bool(set_attribute(own.owners, workload.rate_names, attribute))
    look = _Look(workload, own, batch_size, smallest)
    see_start(look, workload, own, batch_size)
    twice = _Rates()
    if named:
        double = workload.build(learning_rate=2 * attribute, batch_size=batch_size, seed=PROBE_SEED)
        see_start(twice, workload, double, batch_size)
    told: dict[str, Any] = {"attribute": attribute, "twice": twice.rates} if named else {"attribute": None, "twice": None}
    proportions = Proportions.of(look.rates, **told)
    return Fixed(
        probe=look.chosen.probe,
        any_size=look.chosen.any_size,
        proportions=proportions,
        own=today if proportions.followed else proportions.learning_rate,
        n_train=look.n_batches * batch_size if math.isfinite(look.n_batches) else 0,
        checks_size=look.checks_size,
        remarks=(*look.chosen.remarks, *look.remarks),
    )


class _Rates(pl.Callback):
    """The learning rates of all parameter groups before any schedule."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rates = [base_rate(group) for optimizer in trainer.optimizers for group in optimizer.param_groups]


class _Look(_Rates):
    """The rates, and what of the training data heights can be measured on."""

    chosen: Chosen

    def __init__(self, workload: Workload, built: Built, batch_size: int, smallest: int) -> None:
        super().__init__()
        self.workload, self.built, self.batch_size, self.smallest = workload, built, batch_size, smallest
        self.n_batches: float = 0
        self.checks_size = True
        self.remarks: list[str] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        combined: Any = trainer.fit_loop._combined_loader
        self.n_batches = trainer.num_training_batches
        if math.isinf(self.n_batches) and trainer.max_steps < 0:
            self.n_batches = self._counted(batch for batch, _, _ in combined)
        own = _own_probe(getattr(trainer, "datamodule", None))
        if own:
            self.chosen = self._choose(trainer, pl_module, own, self.smallest)
        if not own or not (self.chosen.any_size and self.chosen.probe.is_plain):
            batches = self._drawn(trainer, combined)
            if not batches:
                raise BadInput(
                    f"{where(self.built.owner, 'train_dataloader')} must give batches whenever it is gone through, got none:"
                    " every run of a study goes through it anew"
                )
            self.chosen = self._choose(
                trainer, pl_module, batches, self.smallest if len(self.workload.batch_sizes) > 1 else None
            )
            self._look_at_sizes(flat_loaders(combined), batches)
        super().on_train_start(trainer, pl_module)

    def _choose(self, trainer: pl.Trainer, module: pl.LightningModule, batches: Sequence[Any], smallest: int | None) -> Chosen:
        told: dict[str, Any] = {"monitor": self.workload.monitor, "mode": self.workload.mode}
        return choose_probe(trainer, module, batches, smallest=smallest, **told)

    def _drawn(self, trainer: pl.Trainer, combined: Any) -> list[Any]:
        """Batches as of the last epoch, where loaders or samplers change with it."""
        n_batches = self.n_batches
        with as_at_end(trainer):
            if trainer.fit_loop._should_reload_train_dl and trainer.fit_loop._data_source.is_module():
                made: Any = trainer.fit_loop._data_source.dataloader()
                combined = made if isinstance(made, CombinedLoader) else CombinedLoader(made, "max_size_cycle")
                n_batches = max(sized_len(loader) or math.inf for loader in flat_loaders(combined))
            loaders, batches = flat_loaders(combined), (batch for batch, _, _ in combined)
            for loader in loaders:
                for sampler in (getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)):
                    if callable(getattr(sampler, "set_epoch", None)):
                        sampler.set_epoch(trainer.current_epoch)  # type: ignore[union-attr]
            return draw_probe(loaders[0] if len(loaders) == 1 else None, batches, n_batches=n_batches)

    def _counted(self, batches: Iterable[Any]) -> float:
        """Batches of a stream; raises ValueError for one that does not seem to end."""
        count, began = 0, time.perf_counter()
        for count, _ in enumerate(batches, start=1):
            if count >= MOST_COUNTED or time.perf_counter() - began > COUNTED_SECONDS:
                raise BadInput(
                    f"{where(self.built.owner, 'train_dataloader')} gives batches without end, {count:,} so far: say how many"
                    " make an epoch with trainer.limit_train_batches, or how many steps a run takes with trainer.max_steps"
                )
        return count

    def _look_at_sizes(self, loaders: Sequence[Any], batches: Sequence[Any]) -> None:
        """Whether batches hold what was asked for, and what to say where that varies."""
        counts = [n_examples(batch) for batch in batches]
        asked, mean = self.batch_size, sum(counts) / len(counts)
        whole = all(has_size(batch, asked) for batch in batches[:-1] or batches)
        varies = len(set(counts[:-1])) > 1
        nominal = asked in map(own_size, loaders) and not (len(batches) == 1 and counts[0] < asked)
        self.checks_size = not self.workload.own_batches
        if not whole and (nominal or self.workload.own_batches or (varies and len(self.workload.batch_sizes) == 1)):
            self.checks_size = False
            span = f"{min(counts)} to {max(counts)}" if varies else f"{counts[0]}"
            self.remarks.append(f"batches hold {span} examples, {mean:.3g} on average, at batch size {asked}")
        for loader in loaders[:1]:
            in_full = (sized_len(loader) or math.inf) <= self.n_batches < math.inf
            if own_size(loader) is not None and not loader.drop_last and in_full and sized_len(loader.sampler):
                self.remarks += _short_last(len(loader.sampler), [self.batch_size, *self.workload.batch_sizes])


def _short_last(n_train: int, sizes: Iterable[int]) -> Iterator[str]:
    left = {size: n_train % size for size in sizes if size < n_train}
    short = [f"{rest} where others hold {size}" for size, rest in left.items() if 0 < rest * SHORT < size]
    if short:
        yield (
            f"the last batch of an epoch holds {', '.join(short)}: its step is as long and far noisier, and may decide where"
            " divergence begins; drop_last=True leaves it out"
        )


def _own_probe(datamodule: Any) -> Sequence[Any]:
    """What a datamodule of ours says its probe is, unless a class made from it serves other batches."""
    ways = [base for base in type(datamodule).__mro__ if {"probe_batches", "train_dataloader"} & set(vars(base))]
    if not ways or "probe_batches" not in vars(ways[0]):
        return ()
    batches: Sequence[Any] = datamodule.probe_batches()
    return batches


_steps: WeakKeyDictionary[Workload, dict[int, float]] = WeakKeyDictionary()


def steps_per_epoch(workload: Workload, batch_size: int) -> float:
    """Optimizer steps of an epoch at a batch size, found once; inf for a stream of data, whose length nobody knows."""
    known = _steps.setdefault(workload, {})
    if batch_size not in known:
        look = _Sizes()
        built = workload.build(learning_rate=None, batch_size=batch_size, seed=PROBE_SEED)
        see_start(look, workload, built, batch_size)
        accumulated = workload.trainer.get("accumulate_grad_batches", 1)
        known[batch_size] = look.n_batches if math.isinf(look.n_batches) else math.ceil(look.n_batches / accumulated)
    return known[batch_size]


def epochs_to_train(workload: Workload, batch_size: int, epochs: int) -> int:
    """The ``max_epochs`` of a run: where ``max_steps`` alone ends it, what so many steps take, for schedules made for it."""
    steps = workload.trainer.get("max_steps", -1)
    per_epoch = steps_per_epoch(workload, batch_size) if steps == epochs else 0
    return math.ceil(steps / per_epoch) if 0 < per_epoch < math.inf else epochs


def own_batch_size(workload: Workload) -> int:
    """Examples in a training batch of a workload whose loaders are left as they are: what they ask for, else the mean."""
    built = workload.build(learning_rate=None, batch_size=None, seed=PROBE_SEED)
    sizes = _Sizes()
    see_start(sizes, workload, built, 1)
    return sizes.own or max(1, round(sum(sizes.counts) / len(sizes.counts)))


class _Sizes(pl.Callback):
    """How many examples the first batches hold, and how many the first loader asks for; batches of an epoch."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.own: int | None = None
        self.n_batches: float = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        combined: Any = trainer.fit_loop._combined_loader
        self.n_batches = trainer.num_training_batches
        self.own = own_size(flat_loaders(combined)[0])
        self.counts = [n_examples(batch) for batch, _, _ in itertools.islice(combined, MOST_SIZES)]
