"""The parabola: Lightning's walk against the closed form."""

from __future__ import annotations

import math

import pytest
import pytorch_lightning as pl
import torch
from conftest import QUIET

from lightning_modules import Parabola, ParabolaData


def walk(module: Parabola, data: ParabolaData, *, epochs: int = 1) -> list[float]:
    trainer = pl.Trainer(max_epochs=epochs, **QUIET)
    trainer.fit(module, datamodule=data)
    return module.theta.tolist()


@pytest.mark.parametrize("learning_rate", [0.01, 0.25, 0.5, 0.75, 1.0, 1.25], ids="learning_rate={}".format)
def test_each_axis_is_multiplied_by_its_factor_every_step(learning_rate: float):
    eigenvalues, start = (2.0, 0.5, 1.0), (1.0, -3.0, 0.25)
    theta = walk(Parabola(eigenvalues, learning_rate, start=start), ParabolaData(16), epochs=2)
    expected = [s * (1 - learning_rate * eigenvalue) ** 32 for s, eigenvalue in zip(start, eigenvalues, strict=True)]
    assert theta == pytest.approx(expected, rel=1e-11)


def test_momentum_follows_the_heavy_ball_recurrence():
    theta, velocity = 1.0, 0.0
    for _ in range(8):
        velocity = 0.9 * velocity + 3.0 * theta
        theta -= 0.05 * velocity
    assert walk(Parabola((3.0,), 0.05, momentum=0.9), ParabolaData(8)) == pytest.approx([theta], rel=1e-12)


def test_one_start_serves_all_axes_and_the_loss_is_the_height_of_the_hill():
    module = Parabola((1.0, 4.0), start=3.0)
    [batch] = ParabolaData(5).probe_batches()
    assert module.theta.dtype == torch.float64
    assert module.training_step(batch, 0).item() == 0.5 * (1 + 4) * 9


def test_walking_off_the_hill_becomes_non_finite_without_an_error():
    [theta] = walk(Parabola((1.0,), 1e30), ParabolaData(16))
    assert not math.isfinite(theta)


@pytest.mark.parametrize("n_examples", [2, 3, 16, 1_001])
def test_noise_has_mean_zero_and_its_standard_deviation_exactly(n_examples: int):
    offsets = ParabolaData(n_examples, noise=0.7).splits.train.tensors[0]
    assert offsets.shape == (n_examples, 1)
    assert abs(offsets.mean().item()) < 1e-15
    assert offsets.std(correction=0).item() == pytest.approx(0.7, rel=1e-14)


def test_all_examples_together_are_the_hill_lifted_by_the_noise():
    module, data = Parabola((1.0, 4.0), start=(3.0, 0.5)), ParabolaData(64, noise=0.3)
    [batch] = data.probe_batches()
    expected = 0.5 * (9 + 4 * 0.25) + 0.5 * 0.3**2 * (1 + 4)
    assert module.training_step(batch, 0).item() == pytest.approx(expected, rel=1e-13)


def test_gradient_noise_shrinks_with_the_batch_size():
    spread = {}
    for batch_size in (4, 16):
        batches = ParabolaData(1_024, noise=1.0, batch_size=batch_size).train_dataloader()
        spread[batch_size] = torch.stack([offsets.mean() for _ in range(20) for offsets, _ in batches]).std().item()
        assert spread[batch_size] == pytest.approx(1 / math.sqrt(batch_size), rel=0.1)
    assert spread[4] > 1.5 * spread[16]


def test_parabola_data_have_nothing_to_validate_on_and_no_spread_without_noise():
    data = ParabolaData(4)
    assert list(data.val_dataloader()) == []
    assert torch.equal(data.splits.train.tensors[0], torch.zeros(4, 1, dtype=torch.float64))


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Parabola(()), r"eigenvalues must be above 0 and finite, got \(\)"),
        (lambda: Parabola((1.0, 0.0)), r"eigenvalues must be above 0 and finite, got \(1.0, 0.0\)"),
        (lambda: Parabola((math.inf,)), r"eigenvalues must be above 0 and finite, got \(inf,\)"),
        (lambda: Parabola((1.0, 2.0), start=(1.0,)), r"start must be one number or one an eigenvalue \(2\), got \(1.0,\)"),
        (lambda: Parabola(start=math.nan), r"start must be finite, got \(nan,\)"),
        (lambda: Parabola(learning_rate=-1.0), "learning_rate must be above 0 and finite, got -1.0"),
        (lambda: Parabola(momentum=-1.0), "momentum must be at least 0 and finite, got -1.0"),
        (lambda: ParabolaData(noise=-1.0), "noise must be at least 0 and finite, got -1.0"),
        (lambda: ParabolaData(0), r"n_examples must be at least 1 \(noise 0\), got 0"),
        (lambda: ParabolaData(1, noise=0.5), r"n_examples must be at least 2 \(noise 0.5\), got 1"),
        (lambda: ParabolaData(4, batch_size=5).train_dataloader(), r"between 1 and 4 \(the training set\), got 5"),
    ],
)
def test_what_is_no_hill_is_refused_in_one_sentence(build, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        build()
