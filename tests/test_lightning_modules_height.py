"""Measuring the height changes nothing, whatever the module does in ``training_step``, and gives the same number again."""

from __future__ import annotations

import copy
import pickle
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import QUIET
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric
from torchmetrics.regression import MeanSquaredError

from lightning_modules.height import mean_loss
from lightning_modules.recorder import Recorder
from lightning_modules.undisturbed import Still, undisturbed

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),  # where there are more than two CPUs
    pytest.mark.filterwarnings("ignore:Found 1 module.s. in eval mode"),  # of a module that keeps a part so
]
ROWS, BATCH_SIZE, EPOCHS = 24, 4, 2
STEPS = EPOCHS * ROWS // BATCH_SIZE


def rows(n: int = ROWS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(n, 5, generator=generator)
    return inputs, inputs.sum(1, keepdim=True)


class Net(pl.LightningModule):
    """Linear regression; what the kinds below have in common."""

    def __init__(self) -> None:
        super().__init__()
        self.net: nn.Module = nn.Linear(5, 1)

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        return mse_loss(self.net(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.03)


class BatchNormAndDropout(Net):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.net[1].eval()  # kept so by the module: its mode differs from its neighbours'


class Sampling(Net):
    """Draws in evaluation mode too, from everything there is to draw from."""

    def __init__(self) -> None:
        super().__init__()
        self.own = {"torch": torch.Generator().manual_seed(3), "old": np.random.RandomState(3)}
        self.new, self.python = np.random.default_rng(3), random.Random(3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        noise = torch.randn_like(batch[0]) + float(np.random.rand()) + random.random()
        noise = noise * torch.rand(1, generator=self.own["torch"]) + self.own["old"].rand() + self.new.random()
        return self.loss((batch[0] + 0.1 * noise * self.python.random(), batch[1]))


class GradientPenalty(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs = batch[0].requires_grad_()
        (slope,) = torch.autograd.grad(self.net(inputs).sum(), inputs, create_graph=True)
        return self.loss(batch) + (slope.norm(dim=1) - 1).square().mean()


class Adversaries(Net):
    """Manual optimisation with two optimizers, two schedulers, toggling and clipping."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.judge = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.norms: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        ours, theirs = self.optimizers()
        total = torch.zeros(())
        for optimizer, wanted in ((ours, 1.0), (theirs, 0.0)):
            self.toggle_optimizer(optimizer)
            verdict = self.judge(self.net(batch[0]) + 0.1 * torch.randn(len(batch[0]), 1))
            loss = binary_cross_entropy_with_logits(verdict, torch.full_like(verdict, wanted))
            optimizer.zero_grad()
            self.manual_backward(loss)
            self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
            weight = optimizer.param_groups[0]["params"][0]
            self.norms.append(float(weight.grad.norm()))
            optimizer.step()
            self.untoggle_optimizer(optimizer)
            total = total + loss.detach()
        for scheduler in self.lr_schedulers():
            assert isinstance(scheduler, torch.optim.lr_scheduler.StepLR)
            scheduler.step()
        self.logger.experiment.log_metrics({"total": float(total)}, step=self.global_step)  # type: ignore[union-attr]
        return total

    def configure_optimizers(self) -> Any:
        pair = [torch.optim.Adam(self.net.parameters(), 0.03), torch.optim.SGD(self.judge.parameters(), 0.1, momentum=0.9)]
        return pair, [torch.optim.lr_scheduler.StepLR(each, 2, 0.8) for each in pair]


class Closure(Net):
    """Manual optimisation in which the optimizer asks for the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        optimizer = self.optimizers()

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.loss(batch)
            self.manual_backward(loss)
            return loss

        optimizer.step(closure=closure)
        return self.loss(batch).detach()

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


class BesideLightning(Net):
    """Steps the bare optimizer too, after a bare backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        bare: Any = self.optimizers(use_pl_optimizer=False)
        loss = self.loss(batch)
        loss.backward()
        self.trainer.optimizers[0].step()
        self.optimizers().step()  # what Lightning counts
        bare.param_groups[0]["lr"] *= 0.99
        self.zero_grad()
        return {"loss": loss, "inputs": batch[0]}


class NoIndexAndDict(Net):
    def training_step(self, batch: Any) -> dict[str, Any]:
        return {"loss": self.loss(batch), "seen": batch[0]}


class Clipping(Net):
    """As a Wasserstein critic: weights are put into a box in place, and a teacher follows them."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(self.net).requires_grad_(False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        for weight, taught in zip(self.net.parameters(), self.teacher.parameters(), strict=True):
            weight.data.clamp_(-0.3, 0.3)
            taught.data = 0.9 * taught.data + 0.1 * weight.data
        return self.loss(batch) + 0.1 * mse_loss(self.net(batch[0]), self.teacher(batch[0]))


class Remembering(Net):
    """Everything a module may keep between steps."""

    lazy: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.count, self.lazy, self.names = 0, None, {"start"}
        self.outputs: list[Tensor] = []
        self.by_name: dict[str, list[float]] = {"loss": []}
        self.recent: deque[float] = deque(maxlen=3)
        self.nested = ([0], {"deep": [torch.zeros(2)]})
        self.array, self.grows = np.zeros(3), torch.zeros(1)
        self.register_buffer("running", torch.zeros(1))
        self.register_buffer("adjacency", torch.eye(5).to_sparse())
        self.error, self.mean = MeanSquaredError(), MeanMetric()
        self.hidden = {"error": MeanSquaredError()}  # not a part of the module

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(((self.adjacency @ batch[0].T).T, batch[1]))
        self.count += 1
        self.outputs.append(loss)
        self.by_name["loss"].append(float(loss.detach()))
        self.by_name.setdefault(f"batch {batch_idx}", []).append(self.count)
        self.recent.append(float(loss.detach()))
        self.names.add(f"step {self.count}")
        self.nested[0][0] += 1
        self.nested[1]["deep"][0] += loss.detach()  # type: ignore[operator]
        self.array[batch_idx % 3] += 1
        self.running += 1  # type: ignore[operator]
        self.grows.resize_(self.count).fill_(self.count)
        self.lazy = loss.detach() if self.lazy is None else 0.5 * (self.lazy + loss.detach())
        self.new_one = self.count
        self.error(self.net(batch[0]).detach(), batch[1])
        self.mean.update(loss.detach())
        self.hidden["error"].update(self.net(batch[0]).detach(), batch[1])
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log_dict({"error": self.error, "mean": self.mean})
        self.logger.experiment.log_metrics({"count": self.count}, step=self.global_step)  # type: ignore[union-attr]
        self.logger.log_metrics({"again": self.count}, step=self.global_step)  # type: ignore[union-attr]
        return loss


class Freezing(Net):
    """Freezes in turn, and changes the learning rate of its optimizer itself."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(5, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.other.weight.requires_grad_(not self.other.weight.requires_grad)
        self.optimizers().param_groups[0]["lr"] *= 0.9
        return self.loss(batch) + mse_loss(self.other(batch[0]), batch[1])


class Stopping(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.global_step >= 7:
            self.trainer.should_stop = True
        return self.loss(batch)


class Consuming(Net):
    """Takes labels out of its batch and scales its inputs in place."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss((batch["inputs"].mul_(2), batch.pop("labels")))

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return {"inputs": batch[0].clone(), "labels": batch[1]}


class Averaging(Net):
    """Back through the loss itself, in automatic optimisation: adds to gradients in place."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.loss(batch).backward()
        return self.loss(batch)


KINDS = [
    BatchNormAndDropout,
    Sampling,
    GradientPenalty,
    Adversaries,
    Closure,
    BesideLightning,
    NoIndexAndDict,
    Clipping,
    Remembering,
    Freezing,
    Stopping,
    Consuming,
    Averaging,
]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


class Counting(pl.Callback):
    """Counts what it hears."""

    def __init__(self) -> None:
        self.heard: dict[str, int] = {}
        for name in (
            "on_train_batch_start",
            "on_train_batch_end",
            "on_before_backward",
            "on_after_backward",
            "on_before_zero_grad",
        ):
            setattr(self, name, lambda *args, name=name, **kwargs: self.heard.update({name: self.heard.get(name, 0) + 1}))


def fit(module: pl.LightningModule, recorder: Recorder | None, folder: Path) -> dict[str, Any]:
    """Everything a fit leaves behind."""
    counting = Counting()
    loader = DataLoader(TensorDataset(*rows()), BATCH_SIZE, shuffle=True)
    options = QUIET | {"logger": CSVLogger(folder, name=None, version=""), "log_every_n_steps": 1}
    trainer = pl.Trainer(**options, max_epochs=EPOCHS, callbacks=[counting, *([recorder] if recorder else [])])
    trainer.fit(module, loader)
    metrics = folder / "metrics.csv"
    return {
        "heard": counting.heard,
        "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "schedulers": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
        "module": kept(module),
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
        "steps": trainer.global_step,
        "stop": trainer.should_stop,
        "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
        "logged": metrics.read_text() if metrics.exists() else "",
    }


def kept(module: nn.Module) -> dict[str, Any]:
    """Every attribute of a module and its parts, copied."""
    skipped = {*vars(nn.Module()), "_trainer"} - {"_parameters", "_buffers", "training"}
    found: dict[str, Any] = {}
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name not in skipped and not name.startswith("_jit") and not callable(value):
                found[f"{path}.{name}"] = frozen(value)
    for name, weight in module.named_parameters():
        found[name] = [frozen(weight), weight.requires_grad, frozen(weight.grad)]
    return found


def frozen(value: Any) -> Any:
    """A value as plain data that can be compared by ==."""
    if isinstance(value, Tensor):
        return ("tensor", tuple(value.shape), value.detach().to_dense().tolist())
    if isinstance(value, np.ndarray):
        return ("array", value.tolist())
    if isinstance(value, torch.Generator):
        return frozen(value.get_state())
    if isinstance(value, np.random.Generator):
        return frozen(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return frozen(value.get_state())
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, nn.Module):
        return kept(value)
    if isinstance(value, dict):
        return [(frozen(key), frozen(each)) for key, each in value.items()]
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, (list, tuple, deque)):
        return (type(value).__name__, [frozen(each) for each in value])
    return value if isinstance(value, (int, float, str, type(None))) else type(value).__name__


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [name for name in {**one, **other} if frozen(one.get(name)) != frozen(other.get(name))]


def seeded(kind: type[Net]) -> Net:
    pl.seed_everything(0, verbose=False)
    return kind()


def probe() -> list[list[Tensor]]:
    inputs, labels = rows(10)
    return [[inputs[:7], labels[:7]], [inputs[7:], labels[7:]]]


@kinds
def test_a_fit_measured_at_every_step_ends_as_one_never_measured(kind: type[Net], tmp_path: Path) -> None:
    module = seeded(kind)
    expected, attributes = fit(module, None, tmp_path / "never"), kept(module)
    for name, steps in {"every step": range(STEPS + 1), "ends": [0, STEPS]}.items():
        module, recorder = seeded(kind), Recorder(probe(), steps=steps)
        found = fit(module, recorder, tmp_path / name)
        assert differing(found, expected) == []
        assert differing(kept(module), attributes) == []
        last = STEPS if kind is not Stopping else 8
        assert [step for step, _ in recorder.record.curves["height"]] == sorted(
            {*(step for step in steps if step < last), last}
        )


@kinds
def test_the_same_weights_have_the_same_height(kind: type[Net], tmp_path: Path) -> None:
    heights: list[float] = []

    class Twice(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
            batches = [pl_module.on_before_batch_transfer(batch, 0) for batch in probe()]
            heights.extend(mean_loss(pl_module, batches) for _ in range(2))
            torch.rand(1), np.random.rand(), random.random()

    options = QUIET | {"logger": CSVLogger(tmp_path)}
    trainer = pl.Trainer(**options, max_epochs=1, limit_train_batches=2, callbacks=[Twice()], log_every_n_steps=1)
    trainer.fit(seeded(kind), DataLoader(TensorDataset(*rows()), BATCH_SIZE))
    assert heights[0] == heights[1] and heights[2] == heights[3]
    assert heights[0] != heights[2]


def test_the_height_is_the_mean_over_examples_in_evaluation_mode() -> None:
    module = seeded(BatchNormAndDropout)
    module.train()
    by_hand = copy.deepcopy(module).eval()
    with torch.no_grad():
        each = [float(by_hand.loss([x[None], y[None]])) for batch in probe() for x, y in zip(*batch, strict=True)]
    assert mean_loss(module, probe()) == pytest.approx(np.mean(each), rel=1e-5)


def test_a_derivative_in_the_loss_is_part_of_the_height() -> None:
    module = seeded(GradientPenalty)
    slope = float(module.net.weight.detach().norm())  # type: ignore[union-attr, operator]
    expected = mean_loss(seeded(Net), probe()) + (slope - 1) ** 2
    assert mean_loss(module, probe()) == pytest.approx(expected, rel=1e-5)


@dataclass
class Pair:
    """A batch that is neither tuple nor mapping."""

    inputs: Tensor
    labels: Tensor


@pytest.mark.parametrize("shape", ["tuple", "dict", "nested", "dataclass", "sentences"])
def test_batches_of_any_shape_count_by_their_examples(shape: str) -> None:
    class Counted(Net):
        def training_step(self, batch: Any) -> Tensor:
            return torch.tensor(10.0 if "long" in str(batch) else 1.0)

    def batch(n: int, text: str) -> Any:
        inputs, labels = rows(n)
        return {
            "tuple": (inputs, labels, text),
            "dict": {"name": text, "inputs": inputs, "labels": labels},
            "nested": {"name": text, "all": [(inputs, {"labels": labels})]},
            "dataclass": [Pair(inputs, labels), text],
            "sentences": [f"{text} {index}" for index in range(n)],
        }[shape]

    expected = (3 * 10 + 1 * 1) / 4
    assert mean_loss(Counted(), [batch(3, "long"), batch(1, "short")]) == pytest.approx(expected)


def test_a_batch_the_module_skips_does_not_count() -> None:
    class Skipping(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.loss(batch) if batch_idx else None

    module = seeded(Skipping)
    assert mean_loss(module, probe()) == pytest.approx(float(module.loss(probe()[1]).detach()))


class Logging(Net):
    """Logs its loss, an error and the same error as a metric object."""

    def __init__(self) -> None:
        super().__init__()
        self.metric = MeanSquaredError()
        self.other = MeanSquaredError()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.metric(self.net(batch[0]).detach(), batch[1])
        self.other.update(self.net(batch[0]).detach(), batch[1])
        self.log("loss", loss)
        self.log_dict({"twice": 2 * loss, "metric": self.metric, "updated": self.other, "plain": 3})
        return self.outcome(loss)

    def outcome(self, loss: Tensor) -> Any:
        return loss


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
@pytest.mark.parametrize(("monitor", "factor"), [("loss", 1), ("twice", 2), ("metric", 1), ("updated", 1)])
def test_a_monitored_metric_is_the_height_and_its_negative_where_more_is_better(
    monitor: str, factor: int, mode: str, sign: int
) -> None:
    module = seeded(Logging)
    assert mean_loss(module, probe(), monitor="val_loss", mode=mode) == mean_loss(module, probe())  # logged elsewhere
    expected = sign * factor * mean_loss(module, probe())
    module.metric.update(torch.full((9, 1), 100.0), torch.zeros(9, 1))  # the epoch so far
    module.other.update(torch.full((9, 1), 100.0), torch.zeros(9, 1))
    epoch = module.metric.compute()
    assert mean_loss(module, probe(), monitor=monitor, mode=mode) == pytest.approx(expected, rel=1e-5)
    assert module.metric.compute() == epoch and module.other.compute() == epoch


class ReturnsNothing(Logging):
    def outcome(self, loss: Tensor) -> Any:
        return None


def test_a_module_without_a_loss_is_told_what_it_could_name() -> None:
    place = r"ReturnsNothing\.training_step \(tests/test_lightning_modules_height\.py:\d+\)"
    rule = (
        rf"^{place} must return the loss, got None; or name a metric it logs with monitor: loss, metric, plain, twice, updated$"
    )
    with pytest.raises(ValueError, match=rule):
        mean_loss(seeded(ReturnsNothing), probe())
    assert mean_loss(seeded(ReturnsNothing), probe(), monitor="loss") == mean_loss(seeded(Net), probe())

    class Other(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return {"Loss": self.loss(batch), "n": 1}

    with pytest.raises(
        ValueError, match=r"Other\.training_step .* must return the loss, got a dict without 'loss' \(Loss, n\)$"
    ):
        mean_loss(Other(), probe())


def test_what_the_module_raises_is_passed_on_and_all_is_put_back() -> None:
    class Raising(Remembering):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.outputs.append(torch.zeros(1))
            self.running += torch.randn(1)  # type: ignore[operator]
            if batch_idx:
                raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
            return self.loss(batch)

    module = seeded(Raising)
    before, numbers = kept(module), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        mean_loss(module, probe())
    assert differing(kept(module), before) == [] and torch.equal(torch.get_rng_state(), numbers)
    assert module.training and module.log.__func__ is pl.LightningModule.log  # type: ignore[attr-defined]


def test_batches_stay_as_they_were_even_where_the_step_changes_them() -> None:
    inputs, labels = rows(6)
    batch = {"inputs": inputs.clone(), "labels": labels.clone(), "more": [inputs[:, :2], {"a": 1}]}
    before = frozen(batch)
    first = mean_loss(seeded(Consuming), [batch])
    assert frozen(batch) == before
    assert mean_loss(seeded(Consuming), [batch]) == first

    inputs, labels = rows(6)
    mean_loss(seeded(GradientPenalty), [(inputs, labels)])
    assert not inputs.requires_grad


def test_more_parts_than_a_list_is_looked_into_are_put_back_too() -> None:
    module = seeded(Net)
    module.many = nn.ParameterList(torch.zeros(1) for _ in range(1_200))
    module.layers = nn.ModuleList(nn.Identity() for _ in range(1_200))
    module.training_step = lambda batch: sum(weight.data.add_(1).sum() for weight in module.many)  # type: ignore
    assert mean_loss(module, probe()) > 0
    assert all(float(weight.detach()) == 0 for weight in module.many.parameters())
    assert all(layer.training for layer in module.layers)


def test_tensors_without_values_to_copy_are_left_alone() -> None:
    module = seeded(Net)
    module.lazy, module.meta = nn.LazyLinear(2), torch.zeros(3, device="meta")
    module.sparse, module.graph = torch.eye(3).to_sparse(), module.net.weight * 2  # type: ignore[union-attr, operator]
    with torch.inference_mode():
        module.inference = torch.zeros(2)
    assert mean_loss(module, probe()) == mean_loss(seeded(Net), probe())


def test_inside_it_the_module_knows_its_folders_and_its_loggers_hear_nothing(tmp_path: Path) -> None:
    heard: list[Any] = []

    class Looking(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            logger: Any = self.logger
            logger.experiment.log_metrics({"inside": 1})
            heard.append((self.training, logger.log_dir, logger.save_dir, logger.name, logger.version))
            return self.loss(batch)

    options = QUIET | {"logger": CSVLogger(tmp_path, name="name", version="v1")}
    trainer = pl.Trainer(
        **options, max_epochs=1, callbacks=[Recorder(probe(), steps=[0])], limit_train_batches=1, log_every_n_steps=1
    )
    trainer.fit(seeded(Looking), DataLoader(TensorDataset(*rows()), BATCH_SIZE))
    where = (str(tmp_path / "name" / "v1"), str(tmp_path), "name", "v1")
    assert [modes for modes, *_ in heard] == [False, False, True, False, False]  # two batches of the probe, the step, again
    assert all(tuple(map(str, rest)) == where for _, *rest in heard)


def test_what_stands_still_is_taken_for_what_it_stands_for() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    still, twice = Still(optimizer), Still(Still(scheduler))
    assert isinstance(still, torch.optim.SGD) and isinstance(twice, torch.optim.lr_scheduler.StepLR)
    assert copy.deepcopy(twice).gamma == pickle.loads(pickle.dumps(twice)).gamma == scheduler.gamma
    weight.grad = torch.ones(1)
    assert still.step(lambda: 3) == 3 and still.step(closure=lambda: 4) == 4 and still.step() is None
    still.zero_grad()
    twice.step()
    assert float(weight.detach()) == 1 and float(weight.grad) == 1 and optimizer.param_groups[0]["lr"] == 0.5


def test_what_is_logged_inside_is_given_by_name() -> None:
    module = seeded(Net)
    with undisturbed(module) as logged:
        module.log("a", 1.0, prog_bar=True)
        module.log_dict({"b": 2.0, "c": 3.0}, on_step=True)
        module.net = nn.Identity()
    assert logged == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert isinstance(module.net, nn.Linear)
