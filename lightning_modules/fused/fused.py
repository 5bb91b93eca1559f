"""Many members trained in one fit: their weights stacked, and one vectorised step for all of them.

A member is one network at one (learning rate, seed). Each keeps its own course: losses come from ``torch.func.vmap`` over the
stacked weights and are summed, so no gradient reaches another member. One that is no longer finite, or is cut,
leaves the stack.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import _init_optimizers_and_lr_schedulers
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from lightning_modules.fused.call import Call, Logged, NotFusable
from lightning_modules.fused.stacked_dropout import seed_dropout
from lightning_modules.fused.stacked_metrics import StackedMetrics, without_metrics
from lightning_modules.fused.stacked_optimizer import StackedOptimizer, StackedScheduler
from lightning_modules.fused.together import Together
from lightning_modules.height import Probe
from lightning_modules.learning_rate import LearningRate
from lightning_modules.loaders import n_examples
from lightning_modules.record import Record
from lightning_modules.recorder import all_finite
from lightning_modules.run_state import as_at_end
from lightning_modules.undisturbed import Still, same_random_numbers

# What a module may define and still be fused: the fit calls nothing else of it, so other hooks would go unheard.
CALLED = "training_step validation_step configure_optimizers forward train_dataloader val_dataloader".split()
AT_ONCE = 16  # members that see many examples at once: what they compute on the way should stay in the processor's cache


class Fused(pl.LightningModule):
    """Trains members of one class at one batch size in one fit, each as if it were alone.

    Args:
        members: a learning rate and a seed each.
        at: the module of a seed, its attribute set to a learning rate. It is the seed's initial weights and is asked for the
            optimizer of each member.
        loaders: of training batches, by seed: members of one seed see the same batches.
        validation: loader of validation batches, the same for all; None without.
        probe: on what the height is measured, and how.
        records: one a member, filled as in a fit of its own.
        monitor, mode: see ``height.mean_loss``.

    Raises:
        NotFusable: for a module that this cannot train as Lightning alone would; from the fit too.
    """

    def __init__(
        self,
        members: Sequence[tuple[LearningRate, int]],
        *,
        at: Callable[[float, int], pl.LightningModule],
        loaders: Mapping[int, Any],
        validation: Any,
        probe: Probe,
        records: Sequence[Record],
        monitor: str | None = None,
        mode: str = "min",
    ) -> None:
        super().__init__()
        self._members, self._at = members, at
        first = at(members[0][0].learning_rate, members[0][1])
        refuse_hooks(first)
        if not replace(probe, carried=without_metrics(first, probe.carried)).is_plain:
            raise NotFusable("its heights depend on more than its weights")
        self._together, self._validation, self._probe = Together(loaders), validation, probe.batches
        self._at_end = probe.at_end
        self._order = {seed: place for place, seed in enumerate(loaders)}
        skeleton = copy.deepcopy(first)
        self._metrics = StackedMetrics(skeleton, len(members))
        self._call = [Call(skeleton, self._metrics.heard)]  # in a list, so that it is no part of this module
        self._dropout = seed_dropout(skeleton, self._together.draw)
        parameters, buffers = stack_module_state([Call(at(members[0][0].learning_rate, seed)) for seed in loaders])
        self._names = list(parameters)
        needs_gradient = [weight.requires_grad for weight in first.parameters()]
        self._places = places = torch.tensor([self._order[seed] for _, seed in members])  # of the stacked members' seeds
        stacked = zip(parameters.values(), needs_gradient, strict=True)
        self.stacked = nn.ParameterList([nn.Parameter(weight.detach()[places], needs) for weight, needs in stacked])
        self.kept = {name: value.detach()[places] for name, value in buffers.items()}
        self.records = list(records)
        self.alive = list(range(len(members)))
        self._monitor, self._sign = monitor, -1 if mode == "max" else 1
        self.losses = torch.empty(0)
        self._logged = Logged()
        self._n_validated = 0
        self._plateau: Any = None  # configuration and schedules of members that look at a metric
        self._latest: dict[str, dict[int, float]] = {}  # of each metric, by member

    def train_dataloader(self) -> Any:
        """Batches of all seeds."""
        return self._together

    def val_dataloader(self) -> Any:
        """The validation batches, empty without validation."""
        return iter(()) if self._validation is None else self._together.alongside(self._validation)

    def configure_optimizers(self) -> Any:
        """The members' optimizer with their settings and a learning rate for each, and their schedules."""
        found = [self._optimizer_of(*member) for member in self._members]
        optimizers = [optimizer for optimizer, _ in found]
        first = self._at(self._members[0][0].learning_rate, self._members[0][1])
        by_name = zip(first.parameters(), self.stacked, strict=True)
        stacked = StackedOptimizer(optimizers, {id(weight): own for weight, own in by_name})
        config = found[0][1]
        if config is None:
            return stacked
        scheduler = StackedScheduler(stacked, [config.scheduler for _, config in found])
        if config.reduce_on_plateau:  # stepped by us: Lightning knows no metric of each member
            self._plateau = config, scheduler
            return stacked
        facts = {"interval": config.interval, "frequency": config.frequency, "name": config.name}
        return {"optimizer": stacked, "lr_scheduler": {"scheduler": scheduler, **facts}}

    def _optimizer_of(self, rate: LearningRate, seed: int) -> tuple[Optimizer, Any]:
        """The optimizer a member would have alone, and Lightning's configuration of its schedule, None without one."""
        module = self._at(rate.learning_rate, seed)
        module.trainer = self.trainer  # for one that asks how many steps there will be
        optimizers, configs = _init_optimizers_and_lr_schedulers(module)
        (optimizer,) = optimizers  # Lightning refuses several
        rate.set(optimizers, configs)
        for config in configs:
            scheduler: Any = config.scheduler
            watches_steps = config.reduce_on_plateau and config.interval != "epoch"
            if len(configs) > 1 or watches_steps or not isinstance(scheduler, (LRScheduler, Still)):
                raise NotFusable(f"its learning rate follows {type(scheduler).__name__}, which looks at one module")
        return optimizer, configs[0] if configs and not isinstance(configs[0].scheduler, Still) else None

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip as the Trainer would, the norm being each member's own."""
        if (gradient_clip_algorithm or "norm") == "norm" and (gradient_clip_val or 0) > 0:
            optimizer.clip_norms(gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_start(self) -> None:
        """Measure the heights before the first step."""
        self._call[0].to(self.device)
        self._metrics.to(self.device)
        self._call[0].module.trainer = self.trainer  # for a loss that looks at the epoch
        self.kept = tree_map(lambda value: value.to(self.device), self.kept)
        self._places = self._places.to(self.device)
        self._probe = [self.transfer_batch_to_device(batch, self.device, 0) for batch in self._probe]
        for record in self.records:
            most = math.inf if self.trainer.max_steps < 0 else self.trainer.max_steps
            record.plan(self.trainer.num_training_batches, self.trainer.max_epochs or 1, most=most)
        self._watched = [name for name, value in self.kept.items() if value.is_floating_point() and all_finite([value])]
        self._measure()

    def training_step(self, batch: dict[int, Any], batch_idx: int) -> Tensor:
        """The sum of the members' losses."""
        self._call[0].training_mode(True)
        columns, in_dims = self._by_member(batch)
        how = "same" if self._dropout else "error"
        losses, logged, heard = self._vectorised("training_step", columns, batch_idx, in_dims, how)
        self._metrics.give(heard, self.alive)
        self.losses = losses.detach()
        self._logged.add(logged, self._call[0].over_epoch, n_examples(next(iter(batch.values()))))
        return losses.sum()

    def on_train_batch_end(self, outputs: Any, batch: dict[int, Any], batch_idx: int) -> None:
        """Record the step just done, and measure where that is due."""
        finite = self._finite().tolist()
        losses = self.losses.tolist()
        count = n_examples(next(iter(batch.values())))
        for place, member in enumerate(self.alive):
            self.records[member].saw(count, losses[place])
            self.records[member].stepped(finite[place])
        self._leave()
        if self.alive and self.records[self.alive[0]].is_due:
            self._measure()

    def on_train_end(self) -> None:
        """Record what each member stepped with."""
        (optimizer,) = self.trainer.optimizers
        for record, highest in zip(self.records, optimizer.highest, strict=True):  # type: ignore[attr-defined]
            record.highest_learning_rates = highest

    def on_validation_epoch_start(self) -> None:
        """Forget the validation before."""
        self._validated, self._n_validated = Logged(), 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Keep what the members log."""
        if not self.alive:
            return
        self._call[0].training_mode(False)
        _, logged, heard = self._vectorised("validation_step", batch, batch_idx, None, "error")
        self._metrics.give(heard, self.alive)
        self._validated.add(logged, set(logged), n_examples(batch))
        self._n_validated += n_examples(batch)

    def on_validation_epoch_end(self) -> None:
        """Record the means over the validation examples."""
        self._keep("val", self._validated)
        for member in self.alive:
            self.records[member].validation_examples = self._n_validated

    def on_train_epoch_end(self) -> None:
        """Record what was logged in training, and let schedules look at it that do."""
        self._keep("train", self._logged)
        self._logged = Logged()
        if self._plateau is None or not self.alive:
            return
        config, scheduler = self._plateau
        if (self.current_epoch + 1) % config.frequency == 0:
            if config.monitor not in self._latest:
                raise NotFusable(f"its learning rate follows {config.monitor}, which it does not log")
            scheduler.look(self._latest[config.monitor])

    def _keep(self, stage: str, logged: Logged) -> None:
        if not self.alive:
            return
        method = "training_step" if stage == "train" else "validation_step"
        taken = self._metrics.take(self._call[0].objects[method], self.alive)
        for name, values in (logged.values() | taken).items():
            self._latest[name] = dict(zip(self.alive, values, strict=False))  # the last that is left stands there twice
            for place, member in enumerate(self.alive):
                self.records[member].keep(stage, name, values[place])

    def _vectorised(
        self, method: str, batch: Any, batch_idx: int, in_dims: Any, randomness: str
    ) -> tuple[Tensor, dict[str, Tensor], list[Any]]:
        """The losses of a method, shape (n_stacked,), and the rest of ``Call.forward`` likewise.

        in_dims: None for a batch all share.
        """
        call = self._call[0]

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], place: Tensor, batch: Any) -> Any:
            for dropout in self._dropout:
                dropout.place = place
            return functional_call(call, (parameters, buffers), (method, batch, batch_idx))

        parameters = dict(zip(self._names, self.stacked, strict=True))
        at_once = None if in_dims is not None else AT_ONCE + (len(self._places) % AT_ONCE == 1)  # none is left over: see _leave
        vectorised = vmap(one, in_dims=(0, 0, 0, in_dims), randomness=randomness, chunk_size=at_once)
        return vectorised(parameters, self.kept, self._places, batch)  # type: ignore[no-any-return]

    def _by_member(self, batch: dict[int, Any]) -> tuple[Any, Any]:
        """A batch for each member from one for each seed, and the axis of members in its parts, None where all share one."""
        leaves, shape = zip(*(tree_flatten(each) for each in batch.values()), strict=True)
        columns: list[Any] = []
        for column in zip(*leaves, strict=True):
            if not isinstance(column[0], Tensor):
                if any(part != column[0] for part in column):
                    raise NotFusable(f"its batches hold {type(column[0]).__name__} beside tensors")
                columns.append(column[0])
            elif len(batch) == 1:
                columns.append(column[0].expand(len(self._places), *column[0].shape))
            else:
                columns.append(torch.stack(column).index_select(0, self._places))
        axes = [0 if isinstance(column, Tensor) else None for column in columns]
        return tree_unflatten(columns, shape[0]), tree_unflatten(axes, shape[0])

    def _measure(self) -> None:
        self._call[0].training_mode(False)
        totals, count = torch.zeros(len(self._places), device=self.device), 0
        at_end = as_at_end(self.trainer) if self._at_end else contextlib.nullcontext()
        with torch.no_grad(), same_random_numbers(), at_end:
            for index, batch in enumerate(self._probe):
                losses, logged, _ = self._vectorised("training_step", batch, index, None, "same")
                if self._monitor in self._call[0].objects["training_step"]:
                    raise NotFusable(f"its height is {self._monitor}, a metric object")
                values = self._sign * logged[self._monitor] if self._monitor in logged else losses
                totals = totals + values * n_examples(batch)  # not in place: double where the losses are, single overflows
                count += n_examples(batch)
        heights = (totals / count).tolist()
        for place, member in enumerate(self.alive):
            self.records[member].measured(heights[place])
        self._leave()

    @torch.no_grad()
    def _finite(self) -> Tensor:
        """Whether all weights of each member are finite, and the buffers that were, shape (n_stacked,)."""
        held = [each.unsqueeze(-1).flatten(1) for each in (*self.stacked, *(self.kept[name] for name in self._watched))]
        finite = torch.stack([each.sum(1) for each in held]).sum(0).isfinite()
        if not finite.all():  # a sum may overflow where no weight does
            finite = torch.stack([each.isfinite().all(1) for each in held]).all(0)
        return finite

    @torch.no_grad()
    def _leave(self) -> None:
        """Take the members out of the stack that are no longer finite, or were cut."""
        stay = [place for place, member in enumerate(self.alive) if not self.records[member].ended]
        if len(stay) == len(self.alive):
            return
        self.alive = [self.alive[place] for place in stay]
        if not stay:
            self.trainer.should_stop = True
            stay = [0]  # a stack cannot be empty; nobody looks at it any more
        if len(stay) == 1:
            stay *= 2  # a stack of one may go through other kernels, whose rounding is another
        self._logged.forget(stay)
        keep = torch.tensor(stay, device=self.device)
        for weight in self.stacked:
            weight.data, weight.grad = weight.data[keep], None
        self.kept = {name: value[keep] for name, value in self.kept.items()}
        self._places = self._places[keep]
        (optimizer,) = self.trainer.optimizers
        optimizer.keep(stay)  # type: ignore[attr-defined]


def refuse_hooks(module: pl.LightningModule) -> None:
    """Raise NotFusable for a module that defines what the fit would not call."""
    own = {name for kind in type(module).__mro__ if _is_users(kind) for name in vars(kind)}
    unknown = (name for name in own - set(CALLED) if hasattr(pl.LightningModule, name) and not name.startswith("_"))
    heard = sorted(name for name in unknown if "test" not in name and "predict" not in name)
    if heard:
        raise NotFusable(f"it defines {', '.join(heard)}")
    if any(weight._backward_hooks or weight._post_accumulate_grad_hooks for weight in module.parameters()):
        raise NotFusable("its weights have hooks")
    if not module.automatic_optimization:
        raise NotFusable("it steps its optimizers itself")


def _is_users(kind: type) -> bool:
    """Whether a class stands between a module and Lightning."""
    names = [base.__name__ for base in kind.__mro__]
    return "LightningModule" in names and kind.__name__ != "LightningModule"
