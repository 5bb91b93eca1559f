"""The recorder tells what happened in a run and changes nothing about it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import QUIET
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_modules import ConvNet, Digits, ImageClassifier, Recorder
from lightning_modules.height import mean_loss
from lightning_modules.record import MAX_POINTS, metric_name, probe_steps
from lightning_modules.recorder import all_finite

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")  # where there are more than two CPUs

BATCH_SIZE, STEPS_PER_EPOCH = 256, 5


def fit(module: pl.LightningModule, steps: Sequence[int], *, epochs: int = 2) -> Recorder:
    data = Digits(batch_size=BATCH_SIZE)
    recorder = Recorder(data.probe_batches(), steps=steps)
    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=[recorder],
        logger=False,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=data)
    return recorder


def convnet() -> ImageClassifier:
    pl.seed_everything(0, verbose=False)
    return ImageClassifier(ConvNet(width=4, batch_norm=True), learning_rate=0.1)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


class Breaking(ImageClassifier):
    """Turns non-finite at step ``k``: its loss of the weights after k updates, or the weights themselves."""

    def __init__(self, k: int, what: str) -> None:
        super().__init__(linear(), learning_rate=0.1)
        self.k, self.what, self.n_batches = k, what, 0

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.training:
            self.n_batches += 1
            if self.what == "loss" and self.n_batches == self.k + 1:
                return loss * math.nan
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.what == "weights" and self.n_batches == self.k:
            with torch.no_grad():
                next(self.network.parameters())[0, 0] = math.inf


class Noise(nn.Module):
    """Draws random numbers in evaluation mode too."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + 0.1 * torch.randn_like(inputs)


@given(st.integers(1, 5_000), st.integers(1, 400))
def test_probe_steps_start_at_zero_end_at_the_last_and_ascend(steps_per_epoch: int, epochs: int) -> None:
    steps = probe_steps(steps_per_epoch, epochs)
    assert steps[0] == 0
    assert steps[-1] == steps_per_epoch * epochs
    assert all(before < after for before, after in zip(steps, steps[1:], strict=False))
    assert len(steps) <= MAX_POINTS


@given(st.integers(1, 5_000), st.integers(1, 45))
def test_height_is_measured_four_times_an_epoch(steps_per_epoch: int, epochs: int) -> None:
    steps = probe_steps(steps_per_epoch, epochs)
    for epoch in range(epochs):
        inside = [step for step in steps if epoch * steps_per_epoch < step <= (epoch + 1) * steps_per_epoch]
        assert len(inside) >= min(4, steps_per_epoch)


def test_first_height_is_the_mean_loss_in_evaluation_mode() -> None:
    module = convnet()
    data, by_hand = Digits(), copy.deepcopy(module).eval()
    with torch.no_grad():
        losses = [cross_entropy(by_hand(x), y, reduction="sum") for x, y in data.probe_batches()]
    recorder = fit(module, [0, 10])
    step, height = recorder.record.curves["height"][0]
    assert (step, height) == (0, pytest.approx(float(sum(losses)) / data.n_train, rel=1e-5))
    assert [step for step, _ in recorder.record.curves["height"]] == [0, 10]
    assert [step for step, _ in recorder.record.curves["minibatch_loss"]] == [0]


def test_batches_count_by_their_number_of_examples() -> None:
    module = ImageClassifier(linear())
    inputs, labels = Digits().probe_batches()[0]
    parts = [(inputs[:10], labels[:10]), (inputs[10:], labels[10:])]
    assert mean_loss(module, parts) == pytest.approx(mean_loss(module, [(inputs, labels)]), rel=1e-5)


def test_measuring_leaves_weights_buffers_modes_and_gradients() -> None:
    module = convnet()
    module.train()
    frozen = next(part for part in module.modules() if isinstance(part, nn.BatchNorm2d))
    frozen.eval()
    inputs, labels = Digits().probe_batches()[0]
    module.training_step((inputs[:32], labels[:32]), 0).backward()
    state = copy.deepcopy(module.state_dict())
    gradients = [weight.grad.clone() for weight in module.parameters() if weight.grad is not None]
    modes, random = [part.training for part in module.modules()], torch.get_rng_state()

    mean_loss(module, [(inputs, labels)])
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    after = [weight.grad for weight in module.parameters() if weight.grad is not None]
    assert len(gradients) == len(after) and all(map(torch.equal, gradients, after))
    assert [part.training for part in module.modules()] == modes
    assert not frozen.training
    assert torch.equal(torch.get_rng_state(), random)
    assert "log" not in vars(module) and "log_dict" not in vars(module)


def test_modes_are_restored_when_the_module_raises() -> None:
    module = convnet()
    module.train()
    with pytest.raises(RuntimeError):
        mean_loss(module, [(torch.zeros(2, 7), torch.zeros(2))])
    assert all(part.training for part in module.modules())


def test_measuring_a_module_that_draws_numbers_leaves_the_generator() -> None:
    module = ImageClassifier(nn.Sequential(Noise(), linear()))
    random = torch.get_rng_state()
    mean_loss(module, Digits().probe_batches())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("network", ["batch norm", "dropout"])
def test_dense_and_sparse_measuring_end_at_the_same_weights(network: str) -> None:
    ends = []
    for steps in (range(11), [0, 10]):
        module = convnet()
        if network == "dropout":
            module.network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), linear())
        recorder = fit(module, steps)
        assert recorder.record.step == 2 * STEPS_PER_EPOCH
        ends.append(module.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_validation_metrics_are_kept_an_epoch() -> None:
    recorder = fit(convnet(), probe_steps(STEPS_PER_EPOCH, 2))
    assert recorder.record.nonfinite_at is None
    assert set(recorder.record.curves) == {"height", "minibatch_loss", "val_loss", "val_accuracy"}
    assert [step for step, _ in recorder.record.curves["val_loss"]] == [5, 10]
    assert [step for step, _ in recorder.record.curves["height"]] == probe_steps(STEPS_PER_EPOCH, 2)


@pytest.mark.parametrize("k", [0, 1, 4, 5, 7])
def test_nan_loss_is_found_at_its_step_and_ends_the_run(k: int) -> None:
    recorder = fit(Breaking(k, "loss"), [0, 2, 10])
    assert recorder.record.nonfinite_at == k
    assert recorder.record.step == k + 1  # the update with the NaN loss is done before anyone can look
    assert recorder.record.curves["height"][-1] == (k, math.inf)
    assert all(step < k and math.isfinite(value) for step, value in recorder.record.curves["height"][:-1])
    step, loss = recorder.record.curves["minibatch_loss"][-1]
    assert step == k and math.isnan(loss)


@pytest.mark.parametrize("k", [1, 4, 5, 7, 10])
def test_infinite_weight_is_found_at_its_step_and_ends_the_run(k: int) -> None:
    recorder = fit(Breaking(k, "weights"), [0, 2, 10])
    assert recorder.record.nonfinite_at == recorder.record.step == k
    assert recorder.record.curves["height"][-1] == (k, math.inf)
    assert [step for step, _ in recorder.record.curves["height"]] == sorted({s for s in (0, 2, 10) if s < k} | {k})
    assert all(step < k for step, _ in recorder.record.curves.get("val_loss", []))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_weight_that_is_not_finite_is_seen_and_huge_finite_ones_are_not_mistaken_for_it(bad: float) -> None:
    huge = torch.full((3, 4), 3e38)  # finite each, their sum is not
    assert not torch.isfinite(huge.sum()) and all_finite([torch.ones(5), huge])
    spoilt = torch.ones(3, 4)
    spoilt[1, 2] = bad
    assert not all_finite([torch.ones(5), spoilt])
    assert not all_finite([torch.tensor([math.inf]), torch.tensor([-math.inf])])


class Holding(ImageClassifier):
    """Holds what no loss looks at: a mask, as attention has, a frozen and a trained weight, and an average of its own."""

    def __init__(self, spoil: str = "", k: int = 3) -> None:
        super().__init__(linear(), learning_rate=0.1)
        self.spoil, self.k = spoil, k
        self.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))
        self.register_buffer("average", torch.tensor(1.0))
        self.register_buffer("complex", torch.ones(2, dtype=torch.complex64))
        self.register_buffer("graph", torch.eye(3).to_sparse(), persistent=False)
        self.frozen = nn.Parameter(torch.full((2,), math.nan), requires_grad=False)
        self.spare = nn.Parameter(torch.tensor(math.nan if spoil == "made" else 1.0))

    def on_train_batch_end(self, *args: Any) -> None:
        if self.global_step == self.k:
            with torch.no_grad():
                if self.spoil in ("spare", "average", "complex"):
                    getattr(self, self.spoil).fill_(math.nan)
                if self.spoil == "data":
                    self.spare.data = torch.tensor(math.inf)
                if self.spoil == "replaced":
                    self.average = torch.tensor(-math.inf)
                if self.spoil == "removed":
                    del self.average


@pytest.mark.parametrize("spoil", ["spare", "average", "complex", "data", "replaced"])
@pytest.mark.parametrize("k", [1, 5, 7, 10])
def test_what_a_hook_spoils_between_batches_is_found_at_its_step_and_before_the_validation_after_it(spoil: str, k: int) -> None:
    recorder = fit(Holding(spoil, k), [0, 2, 10])
    assert recorder.record.nonfinite_at == k and recorder.record.step <= k + 1
    assert recorder.record.curves["height"][-1] == (k, math.inf)
    assert all(step < k for step, _ in recorder.record.curves.get("val_accuracy", []))


def test_a_weight_that_is_made_not_finite_is_found_at_step_0() -> None:
    recorder = fit(Holding("made"), [0, 10])
    assert recorder.record.nonfinite_at == 0 and recorder.record.curves["height"] == [(0, math.inf)]


@pytest.mark.parametrize("spoil", ["", "removed"])
def test_masks_and_frozen_weights_that_never_were_finite_are_no_divergence(spoil: str) -> None:
    assert fit(Holding(spoil), [0, 10]).record.nonfinite_at is None


N, SMALL = 24, 4  # examples and batch size of what follows: six batches an epoch


def table(n: int = N) -> TensorDataset:
    inputs = torch.randn(n, 3, generator=torch.Generator().manual_seed(2))
    return TensorDataset(inputs, inputs.sum(1, keepdim=True))


def line() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


class Line(pl.LightningModule):
    """A line fitted by gradient descent; ``skip`` says which batches are skipped."""

    def __init__(self, skip: Sequence[int] = ()) -> None:
        super().__init__()
        self.net, self.skip = line(), skip

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch_idx in self.skip and self.training else mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05)


def recorded(module: pl.LightningModule, *, epochs: int = 2, data: Any = None, val: Any = None, **options: Any) -> Recorder:
    """Of a fit in order, without shuffling."""
    given = {name: options.pop(name) for name in ("steps", "batch_size") if name in options}
    recorder = Recorder([table().tensors], **given)
    callbacks = [recorder, *options.pop("callbacks", [])]
    trainer = pl.Trainer(**QUIET, max_epochs=epochs, callbacks=callbacks, log_every_n_steps=1, **options)
    trainer.fit(module, DataLoader(table(), SMALL) if data is None else data, val)
    return recorder


def by_hand(updates: Sequence[Sequence[int]], *, accumulated: int = 1) -> tuple[list[float], list[float]]:
    """The height before every update and after the last, and the first loss of every update, a list of batches."""
    net, (inputs, labels) = line(), table().tensors
    heights, losses = [], []
    for batches in updates:
        heights.append(mse_loss(net(inputs), labels).item())
        net.zero_grad()
        for batch in batches:
            rows = slice(batch * SMALL, (batch + 1) * SMALL)
            loss = mse_loss(net(inputs[rows]), labels[rows])
            (loss / accumulated).backward()  # type: ignore[no-untyped-call]
            losses += [loss.item()] if batch == batches[0] else []
        for weight in net.parameters():
            weight.data -= 0.05 * weight.grad  # type: ignore[operator]
    return [*heights, mse_loss(net(inputs), labels).item()], losses


def curve(values: Sequence[float], start: int = 0) -> list[Any]:
    return [(step, pytest.approx(value, rel=1e-4)) for step, value in enumerate(values, start)]


def test_heights_and_losses_of_one_step_belong_to_the_same_weights() -> None:
    recorder = recorded(Line(), steps=range(13), batch_size=SMALL)
    heights, losses = by_hand([[batch] for batch in range(6)] * 2)
    assert recorder.record.curves == {"height": curve(heights), "minibatch_loss": curve(losses)}
    assert (recorder.record.step, recorder.record.batches, recorder.record.examples, recorder.record.epochs) == (
        12,
        12,
        48,
        2.0,
    )
    assert recorder.record.validation_examples == 0


def test_accumulated_batches_are_one_step_and_its_first_loss_is_kept() -> None:
    recorder = recorded(Line(), accumulate_grad_batches=4)
    updates = [[0, 1, 2, 3], [4, 5]]  # the epoch ends the second
    heights, losses = by_hand(updates * 2, accumulated=4)
    assert [step for step, _ in recorder.record.curves["height"]] == probe_steps(2, 2) == [0, 1, 2, 3, 4]
    assert recorder.record.curves == {"height": curve(heights), "minibatch_loss": curve(losses)}
    assert (recorder.record.step, recorder.record.batches, recorder.record.examples, recorder.record.epochs) == (4, 12, 48, 2.0)


@pytest.mark.filterwarnings("ignore:.training_step. returned .None.:UserWarning")  # Lightning's, meant for the user
def test_skipped_batches_are_no_steps() -> None:
    recorder = recorded(Line(skip=[0, 2, 5]), steps=range(13))
    heights, losses = by_hand([[1], [3], [4]] * 2)
    assert recorder.record.curves == {"height": curve(heights), "minibatch_loss": curve(losses)}
    assert (recorder.record.step, recorder.record.batches, recorder.record.epochs) == (6, 12, 2.0)


@pytest.mark.filterwarnings("ignore:.training_step. returned .None.:UserWarning")
def test_an_update_counts_when_any_of_its_batches_was_not_skipped() -> None:
    recorder = recorded(Line(skip=[1, 2, 3, 4]), steps=range(13), accumulate_grad_batches=2)  # 2, 3 is all skipped
    heights, losses = by_hand([[0], [5]] * 2, accumulated=2)
    assert recorder.record.curves == {"height": curve(heights), "minibatch_loss": curve(losses)}
    assert recorder.record.step == 4


class Two(Line):
    """Two optimizers that step in every batch, or every second."""

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        self.automatic_optimization, self.every = False, every

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = mse_loss(self.net(batch[0]), batch[1])
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers() if (batch_idx + 1) % self.every == 0 else ():
            optimizer.step()
        return loss

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD([weight], lr=0.05) for weight in self.parameters()]


def test_two_optimizers_that_step_in_one_batch_are_one_step() -> None:
    recorder = recorded(Two())
    heights, losses = by_hand([[batch] for batch in range(6)] * 2)
    steps = [step for step, _ in recorder.record.curves["height"]]
    assert steps == probe_steps(6, 2) and recorder.record.step == 12
    assert recorder.record.curves["height"] == [curve(heights)[step] for step in steps]
    assert recorder.record.curves["minibatch_loss"] == [curve(losses)[step] for step in steps[:-1]]


def test_a_module_that_accumulates_by_itself_is_counted_by_its_steps() -> None:
    recorder = recorded(Two(every=2), steps=range(13))
    heights, _ = by_hand([[1], [3], [5]] * 2)
    assert recorder.record.curves["height"] == curve(heights)
    assert (recorder.record.step, recorder.record.batches, recorder.record.epochs) == (6, 12, 2.0)


class Stream(IterableDataset[Any]):
    """Examples one by one, no one knows how many."""

    def __iter__(self) -> Any:
        return iter(zip(*table().tensors, strict=True))


@pytest.mark.parametrize(("epochs", "steps"), [(1, [0, 1, 2, 4, 6]), (3, [0, 1, 2, 4, 8, 9, 10, 12, 14, 15, 16, 18])])
def test_a_stream_is_measured_at_doubling_steps_first_and_by_its_length_after_an_epoch(epochs: int, steps: list[int]) -> None:
    recorder = recorded(Line(), epochs=epochs, data=DataLoader(Stream(), SMALL))
    heights, _ = by_hand([[batch] for batch in range(6)] * epochs)
    assert steps == sorted({0, 1, 2, 4, *(step for step in probe_steps(6, epochs) if step > 6), 6 * epochs})
    assert recorder.record.curves["height"] == [curve(heights)[step] for step in steps]
    assert (recorder.record.step, recorder.record.batches, recorder.record.epochs) == (6 * epochs, 6 * epochs, float(epochs))


def test_epochs_of_a_part_of_the_data_are_passes_over_that_part() -> None:
    recorder = recorded(Line(), limit_train_batches=3)
    assert (recorder.record.step, recorder.record.epochs) == (6, 2.0)
    assert [step for step, _ in recorder.record.curves["height"]] == probe_steps(3, 2)


class Validated(Line):
    """Logs its validation loss under a name, and what else ``log_more`` does."""

    name = "val_loss"

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log(self.name, mse_loss(self.net(batch[0]), batch[1]))


def test_a_run_that_ends_early_has_its_last_height() -> None:
    stop = EarlyStopping("val_loss", patience=1, stopping_threshold=1e9)  # reached at once
    recorder = recorded(Validated(), epochs=400, val=DataLoader(table(8), 4), callbacks=[stop])
    heights, _ = by_hand([[batch] for batch in range(6)])
    assert recorder.record.step == 6 and recorder.record.epochs == 1.0
    assert 6 not in probe_steps(6, 400)
    assert recorder.record.curves["height"][-1] == curve(heights)[-1]
    assert [step for step, _ in recorder.record.curves["val_loss"]] == [6]


def test_a_stop_inside_an_epoch_is_a_fraction_of_it() -> None:
    class Stopping(Line):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.trainer.should_stop = self.global_step == 9

    recorder = recorded(Stopping(), steps=[0, 1])
    assert (recorder.record.step, recorder.record.epochs) == (9, 1.5)
    assert [step for step, _ in recorder.record.curves["height"]] == [0, 1, 9]


@pytest.mark.parametrize(
    ("stage", "logged", "ours"),
    [
        ("val", "val_loss", "val_loss"),
        ("val", "loss", "val_loss"),
        ("val", "valid/loss", "val_loss"),
        ("val", "validation-loss", "val_loss"),
        ("val", "val.loss", "val_loss"),
        ("val", "value_loss", "val_value_loss"),
        ("val", "loss_epoch", "val_loss"),
        ("val", "loss_step", None),
        ("val", "acc/dataloader_idx_0", "val_acc"),
        ("val", "acc/dataloader_idx_1", "val_acc/dataloader_idx_1"),
        ("val", "val_acc_epoch/dataloader_idx_0", "val_acc"),
        ("val", "val_acc_step/dataloader_idx_0", None),
        ("val", "train_loss", "val_train_loss"),
        ("train", "train_loss", "train_loss"),
        ("train", "training/loss", "train_loss"),
        ("train", "loss", "train_loss"),
        ("train", "val_gap", "train_val_gap"),
    ],
)
def test_a_metric_has_the_name_of_its_stage(stage: str, logged: str, ours: str | None) -> None:
    assert metric_name(stage, logged) == ours


class Talking(Validated):
    """Logs in every way there is."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = mse_loss(self.net(batch[0]), batch[1])
        self.log("step", float(self.global_step))
        self.log("train_mean", float(batch_idx), on_step=False, on_epoch=True)
        self.log("both", float(batch_idx), on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        super().validation_step(batch, batch_idx, dataloader_idx)
        self.log_dict({"valid/index": float(batch_idx), "val_named_epoch": 1.0})
        self.log("val_twice", float(batch_idx), on_step=True, on_epoch=True)


def test_logged_metrics_become_curves_under_the_name_of_their_stage() -> None:
    recorder = recorded(Talking(), steps=[0, 12], val=DataLoader(table(12), 4))
    assert set(recorder.record.curves) == {
        "height",
        "minibatch_loss",
        *("val_loss", "val_index", "val_named", "val_twice"),
        *("train_step", "train_mean", "train_both"),
    }
    assert (
        recorder.record.curves["val_index"] == recorder.record.curves["val_twice"] == [(6, 1.0), (12, 1.0)]
    )  # the mean of 0, 1, 2
    assert recorder.record.curves["train_mean"] == recorder.record.curves["train_both"] == [(6, 2.5), (12, 2.5)]
    assert recorder.record.curves["train_step"] == [(6, 5.0), (12, 11.0)]
    assert recorder.record.validation_examples == 12


def test_validation_losses_are_those_after_the_epoch() -> None:
    recorder = recorded(Validated(), steps=range(13), val=DataLoader(table(), N))
    heights, _ = by_hand([[batch] for batch in range(6)] * 2)
    assert recorder.record.curves["val_loss"] == [curve(heights)[6], curve(heights)[12]]


def test_of_several_validation_loaders_the_first_has_no_suffix() -> None:
    recorder = recorded(Validated(), val=[DataLoader(table(), N), DataLoader(table(8), 4)])
    assert set(recorder.record.curves) == {"height", "minibatch_loss", "val_loss", "val_loss/dataloader_idx_1"}
    assert recorder.record.curves["val_loss"][-1][1] == pytest.approx(recorder.record.curves["height"][-1][1], rel=1e-5)
    assert recorder.record.validation_examples == N + 8


class SameName(Validated):
    """Calls its loss ``loss`` in training and validation."""

    name = "loss"

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("loss", -1.0, on_epoch=True)
        return super().training_step(batch, batch_idx)


def test_a_name_shared_by_training_and_validation_is_told_apart_by_its_stage() -> None:
    recorder = recorded(SameName(), val=DataLoader(table(), N))
    heights = dict(recorder.record.curves["height"])
    assert recorder.record.curves["val_loss"] == [(step, pytest.approx(heights[step], rel=1e-5)) for step in (6, 12)]
    assert recorder.record.curves["train_loss"] == [(6, -1.0), (12, -1.0)]


def test_a_sanity_check_before_the_fit_is_not_a_validation() -> None:
    recorder = Recorder([table().tensors])
    trainer = pl.Trainer(**QUIET | {"num_sanity_val_steps": 1}, max_epochs=1, callbacks=[recorder], log_every_n_steps=1)
    module = Validated()
    trainer.fit(module, DataLoader(table(), SMALL), DataLoader(table(8), 4))
    assert [step for step, _ in recorder.record.curves["val_loss"]] == [6]
    assert recorder.record.validation_examples == 8
    assert "log" not in vars(module)


class Fixed(Line):
    """A loader that reads nothing."""

    def train_dataloader(self) -> Any:
        return DataLoader(table(), SMALL)


def test_a_batch_size_that_has_no_effect_is_told_with_its_place() -> None:
    place = r"Fixed\.train_dataloader \(tests/test_lightning_modules_recorder\.py:\d+\)"
    rule = (
        rf"^batch_size has no effect: {place} gives batches of 4 examples when asked for 9; let it read an attribute"
        r" batch_size, return a torch DataLoader, or study batch size 4 alone$"
    )
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[Recorder([table().tensors], batch_size=9)], log_every_n_steps=1)
    with pytest.raises(ValueError, match=rule):
        trainer.fit(Fixed())


def test_a_batch_size_above_the_training_set_is_told() -> None:
    with pytest.raises(ValueError, match=r"^batch_size must be at most the training set of 24 examples, got 32$"):
        recorded(Line(), data=DataLoader(table(), 32), batch_size=32)
    recorded(Line(), data=DataLoader(table(), 24), batch_size=24)
    recorded(Line(), data=DataLoader(table(), 16), batch_size=16)  # the last batch is shorter


def test_sequences_with_time_first_have_the_batch_size_of_their_second_axis() -> None:
    class Sequences(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return mse_loss(self.net(batch), torch.zeros(7, len(batch[0]), 1))

    data = DataLoader(torch.randn(12, 7, 3), SMALL, collate_fn=lambda rows: torch.stack(rows, 1))  # type: ignore[arg-type]
    recorder = Recorder([torch.randn(7, 5, 3)], batch_size=SMALL)
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[recorder], log_every_n_steps=1)
    trainer.fit(Sequences(), data)
    assert recorder.record.step == 3
