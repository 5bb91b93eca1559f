"""Classifier and regressor: the training they do and the metrics they log."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import QUIET
from sklearn.metrics import accuracy_score, r2_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import lightning_modules
from lightning_modules import MLP, Batches, ConvNet, Diabetes, Digits, ImageClassifier, Regressor


def validate(module: pl.LightningModule, inputs: Tensor, targets: Tensor, *, batch_size: int) -> dict[str, float]:
    batches = Batches(inputs, targets, batch_size=batch_size, shuffle=False)
    return dict(pl.Trainer(**QUIET).validate(module, batches, verbose=False)[0])


def test_classifier_trains_as_a_plain_loop_over_the_same_batches():
    torch.manual_seed(0)
    network = MLP(hidden=(8,))
    module = ImageClassifier(copy.deepcopy(network), 0.05, momentum=0.9, weight_decay=1e-3, nesterov=True)
    pl.Trainer(max_epochs=2, **QUIET).fit(module, datamodule=Digits(batch_size=256, seed=5))

    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True)
    batches = Digits(batch_size=256, seed=5).train_dataloader()
    for _ in range(2):
        for inputs, labels in batches:
            optimizer.zero_grad()
            cross_entropy(network(inputs), labels).backward()
            optimizer.step()
    for ours, theirs in zip(module.network.parameters(), network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_learning_rate_set_after_construction_is_the_one_used():
    module = ImageClassifier(MLP())
    module.learning_rate = 0.025
    assert module.configure_optimizers().param_groups[0]["lr"] == 0.025


def test_training_logs_nothing():
    module = ImageClassifier(MLP(hidden=()))
    trainer = pl.Trainer(max_epochs=1, limit_val_batches=0, **QUIET)
    trainer.fit(module, datamodule=Digits(batch_size=512))
    assert trainer.global_step == 2
    assert trainer.callback_metrics == {}


@pytest.mark.parametrize("batch_size", [1, 7, 10, 100])
def test_classifier_metrics_are_those_of_all_examples_at_once(batch_size: int):
    torch.manual_seed(1)
    module, inputs, labels = ImageClassifier(MLP((6,), 4)), torch.randn(10, 6), torch.randint(4, (10,))
    metrics = validate(module, inputs, labels, batch_size=batch_size)
    logits = module(inputs)
    assert metrics["val_loss"] == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-6)
    assert metrics["val_accuracy"] == pytest.approx(accuracy_score(labels, logits.argmax(1)), rel=1e-6)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 10, 100])
def test_regressor_metrics_are_those_of_all_examples_at_once(batch_size: int, n_outputs: int):
    torch.manual_seed(1)
    module, inputs, targets = Regressor(MLP((6,), n_outputs)), torch.randn(10, 6), torch.randn(10, n_outputs)
    metrics = validate(module, inputs, targets, batch_size=batch_size)
    predictions = module(inputs).detach()
    assert metrics["val_loss"] == pytest.approx((predictions - targets).square().mean().item(), rel=1e-6)
    assert metrics["val_r2"] == pytest.approx(r2_score(targets, predictions), rel=1e-5)


def test_r2_of_one_example_is_nan_and_a_second_validation_starts_afresh():
    module, inputs, targets = Regressor(MLP((2,), 1)), torch.randn(5, 2), torch.randn(5, 1)
    first = validate(module, inputs, targets, batch_size=2)
    assert math.isnan(validate(module, inputs[:1], targets[:1], batch_size=2)["val_r2"])
    assert validate(module, inputs, targets, batch_size=2) == first


def test_full_batch_regression_diverges_above_the_edge_of_its_hessian_and_not_below():
    train = Diabetes().splits.train.tensors[0]
    design = torch.cat([train, torch.ones(len(train), 1)], dim=1).double()
    edge = 2 / torch.linalg.eigvalsh(2 * design.T @ design / len(design)).max().item()
    assert edge == pytest.approx(0.2469, abs=5e-5)
    losses = []
    for learning_rate in (0.98 * edge, 1.02 * edge):
        torch.manual_seed(0)
        module, data = Regressor(MLP((10,), 1, hidden=()), learning_rate), Diabetes(batch_size=331)
        [batch] = data.probe_batches()
        before = module.training_step(batch, 0).item()
        pl.Trainer(max_epochs=250, limit_val_batches=0, **QUIET).fit(module, datamodule=data)
        losses.append(module.training_step(batch, 0).item() / before)
    assert losses[0] < 0.5 and losses[1] > 100


def test_convnet_with_batch_norm_learns_digits():
    torch.manual_seed(0)
    trainer = pl.Trainer(max_epochs=2, **QUIET)
    trainer.fit(ImageClassifier(ConvNet(width=8, batch_norm=True), 0.2), datamodule=Digits(batch_size=32))
    assert trainer.callback_metrics["val_accuracy"] > 0.9


def test_regressor_refuses_targets_that_would_be_broadcast():
    with pytest.raises(ValueError, match=r"targets must have the predictions' shape \(4, 1\), got \(4,\)"):
        Regressor(MLP((3,), 1)).training_step((torch.rand(4, 3), torch.rand(4)), 0)


@pytest.mark.parametrize("kind", [ImageClassifier, Regressor])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be above 0 and finite, got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0 and finite, got nan"),
        ({"momentum": -0.1}, "momentum must be at least 0 and finite, got -0.1"),
        ({"weight_decay": math.inf}, "weight_decay must be at least 0 and finite, got inf"),
        ({"nesterov": True}, "nesterov needs a momentum above 0, got 0.0"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(kind: type[pl.LightningModule], arguments: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        kind(nn.Identity(), **arguments)


def test_importing_the_package_imports_no_torch():
    code = "import sys, lightning_modules; assert 'torch' not in sys.modules; assert 'MLP' in dir(lightning_modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", lightning_modules.__all__)
def test_every_name_of_the_stub_can_be_imported(name: str):
    assert getattr(lightning_modules, name).__name__ == name
