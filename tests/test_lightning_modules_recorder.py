"""The recorder tells what happened in a run and changes nothing about it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_modules import ConvNet, Digits, ImageClassifier, Recorder
from lightning_modules.recorder import MAX_POINTS, all_finite, mean_loss, probe_steps

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
    step, height = recorder.curves["height"][0]
    assert (step, height) == (0, pytest.approx(float(sum(losses)) / data.n_train, rel=1e-5))
    assert [step for step, _ in recorder.curves["height"]] == [0, 10]
    assert [step for step, _ in recorder.curves["minibatch_loss"]] == [0]


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
        assert recorder.step == 2 * STEPS_PER_EPOCH
        ends.append(module.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_validation_metrics_are_kept_an_epoch() -> None:
    recorder = fit(convnet(), probe_steps(STEPS_PER_EPOCH, 2))
    assert recorder.nonfinite_at is None
    assert set(recorder.curves) == {"height", "minibatch_loss", "val_loss", "val_accuracy"}
    assert [step for step, _ in recorder.curves["val_loss"]] == [5, 10]
    assert [step for step, _ in recorder.curves["height"]] == probe_steps(STEPS_PER_EPOCH, 2)


@pytest.mark.parametrize("k", [0, 1, 4, 5, 7])
def test_nan_loss_is_found_at_its_step_and_ends_the_run(k: int) -> None:
    recorder = fit(Breaking(k, "loss"), [0, 2, 10])
    assert recorder.nonfinite_at == k
    assert recorder.step == k + 1  # the update with the NaN loss is done before anyone can look
    assert recorder.curves["height"][-1] == (k, math.inf)
    assert all(step < k and math.isfinite(value) for step, value in recorder.curves["height"][:-1])
    step, loss = recorder.curves["minibatch_loss"][-1]
    assert step == k and math.isnan(loss)


@pytest.mark.parametrize("k", [1, 4, 5, 7, 10])
def test_infinite_weight_is_found_at_its_step_and_ends_the_run(k: int) -> None:
    recorder = fit(Breaking(k, "weights"), [0, 2, 10])
    assert recorder.nonfinite_at == recorder.step == k
    assert recorder.curves["height"][-1] == (k, math.inf)
    assert [step for step, _ in recorder.curves["height"]] == sorted({s for s in (0, 2, 10) if s < k} | {k})
    assert all(step < k for step, _ in recorder.curves.get("val_loss", []))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_weight_that_is_not_finite_is_seen_and_huge_finite_ones_are_not_mistaken_for_it(bad: float) -> None:
    huge = torch.full((3, 4), 3e38)  # finite each, their sum is not
    assert not torch.isfinite(huge.sum()) and all_finite([torch.ones(5), huge])
    spoilt = torch.ones(3, 4)
    spoilt[1, 2] = bad
    assert not all_finite([torch.ones(5), spoilt])
    assert not all_finite([torch.tensor([math.inf]), torch.tensor([-math.inf])])
