"""``lr_find`` has the shape of Lightning's, and answers from a study."""

from __future__ import annotations

import hashlib
import inspect
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from conftest import QUIET
from matplotlib.figure import Figure
from pytorch_lightning.tuner.tuning import Tuner
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import MLP, Digits, ImageClassifier
from studies import LearningRates, lr_find
from studies.commands.terminal import print_answer


def model() -> ImageClassifier:
    torch.manual_seed(0)
    return ImageClassifier(MLP(hidden=()), learning_rate=0.05)


def trainer(**options: Any) -> pl.Trainer:
    with warnings.catch_warnings():
        return pl.Trainer(**{**QUIET, "max_epochs": 2, **options})


def weights(module: torch.nn.Module) -> str:
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in module.state_dict().values())).hexdigest()


@pytest.fixture(scope="module")
def found() -> tuple[LearningRates, ImageClassifier, str]:
    studied = model()
    before = weights(studied)
    options: dict[str, Any] = {"min_lr": 1e-3, "max_lr": 100.0, "num_training": 6, "seeds": 2, "update_attr": True}
    return lr_find(trainer(), studied, datamodule=Digits(batch_size=128), **options), studied, before


def test_call_has_the_names_of_lightnings(found: object) -> None:
    theirs = set(inspect.signature(Tuner.lr_find).parameters) - {"self", "dataloaders", "method"}
    assert theirs <= set(inspect.signature(lr_find).parameters)


def test_suggestion_is_good_and_inside_its_interval(found: tuple[LearningRates, ImageClassifier, str]) -> None:
    rates = found[0]
    use = rates.suggestion()
    assert use is not None and rates.interval is not None
    assert rates.interval[0] <= use <= rates.interval[1]
    assert rates.verdicts[use] == "good"
    assert rates.results["lr"] == pytest.approx([0.001, 0.01, 0.1, 1, 10, 100])
    assert list(rates.verdicts.values())[0] == "too low" and set(list(rates.verdicts.values())[-1:]) <= {
        "too high",
        "divergent",
    }
    assert len(rates.results["loss"]) == 6 and min(rates.results["loss"]) > 0
    assert list(rates.boundaries["edge"]) == ["too low to good", "good to too high", "too high to divergent"]
    assert repr(rates).startswith((f"use {use:.3g} (", f"use ~{use:.3g} ("))
    assert rates._repr_html_() == rates.judged._repr_html_()


def test_model_keeps_its_weights_and_gets_the_suggestion_when_asked(found: tuple[LearningRates, ImageClassifier, str]) -> None:
    rates, studied, before = found
    assert weights(studied) == before
    assert studied.learning_rate == rates.suggestion()
    assert studied._trainer is None


def test_cautions_are_what_a_launch_prints(found: tuple[LearningRates, ImageClassifier, str], capsys: Any) -> None:
    rates = found[0]
    print_answer("lr_find", rates.judged)
    printed = capsys.readouterr().out
    assert any(caution.startswith("not to be trusted yet, seeds: 2 seeds") for caution in rates.cautions)
    assert all(caution in printed for caution in rates.cautions if not caution.startswith("every run starts from"))
    assert repr(rates).splitlines()[1:] == rates.cautions


def test_a_learning_rate_at_the_end_of_the_range_is_never_given_without_a_word() -> None:
    rates = lr_find(trainer(), model(), Digits(batch_size=256), min_lr=0.01, max_lr=0.1, num_training=2, seeds=1)
    said = (
        "learning rate 0.1 is at the end of the range that was tried: the fastest lies at the upper end of the range: widen it"
    )
    with pytest.warns(UserWarning, match=said):
        assert rates.suggestion() == 0.1
    assert any("widen it upwards" in caution for caution in rates.cautions) and "widen it upwards" in repr(rates)
    other = model()
    with pytest.warns(UserWarning, match=said):
        assert rates.apply(other) == 0.1
    assert other.learning_rate == 0.1
    with (
        pytest.warns(UserWarning, match=said),
        pytest.raises(ValueError, match="apply needs an attribute lr or learning_rate, M"),
    ):
        rates.apply(MLP())  # type: ignore[arg-type]


def test_plot_and_report_are_made(found: tuple[LearningRates, ImageClassifier, str], tmp_path: Path) -> None:
    rates = found[0]
    ax = Figure().add_subplot()
    assert rates.plot(suggest=True, ax=ax) is ax.figure
    assert f"use {rates.suggestion():.3g}" in [text.get_text() for text in ax.get_legend().get_texts()]  # type: ignore[union-attr]
    assert rates.plot() is not ax.figure
    page = rates.report(tmp_path / "report")
    assert page.name == "report.html" and len(pd.read_csv(page.with_name("runs.csv"))) == 12


def test_a_study_in_which_no_run_finished_in_time_suggests_nothing_but_a_sentence() -> None:
    examples = TensorDataset(torch.randn(64, 1, 8, 8), torch.arange(64) % 10)
    with pytest.raises(ValueError, match="max_time must leave time for a run of the study, none finished in it"):
        lr_find(trainer(), model(), DataLoader(examples, 16), DataLoader(examples, 64), max_time=1e-9, epochs=1, seeds=1)


def test_plain_loaders_are_studied_at_their_own_batch_size_and_may_suggest_nothing() -> None:
    examples = TensorDataset(torch.randn(64, 1, 8, 8), torch.arange(64) % 10)
    loader = DataLoader(examples, batch_size=16, shuffle=True)
    with pytest.warns(UserWarning, match="lr_find suggests nothing: no learning rate tried is good"):
        rates = lr_find(
            trainer(), model(), loader, DataLoader(examples, 64), min_lr=1e5, max_lr=1e6, num_training=2, seeds=1, epochs=1
        )
    assert set(rates.judged.runs["batch_size"]) == {16}
    assert rates.suggestion() is None and rates.interval is None
    assert repr(rates).startswith("no learning rate is good: see .verdicts and .boundaries\nevery learning rate diverged")


def test_options_of_the_trainer_apply() -> None:
    options: dict[str, Any] = {"limit_train_batches": 3, "accumulate_grad_batches": 3, "gradient_clip_val": 0.5}
    rates = lr_find(trainer(**options), model(), Digits(batch_size=64), min_lr=0.1, max_lr=1.0, num_training=2, seeds=1)
    assert rates.judged.runs["steps"].tolist() == [2, 2]  # 2 epochs of 3 batches, 3 batches a step
    assert rates._configuration["trainer"].items() >= (options | {"accelerator": "cpu"}).items()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mode": "linear"}, "mode must be exponential: learning rates lie evenly on a log scale, got 'linear'"),
        ({"train_dataloaders": [1], "datamodule": Digits()}, "data must be given once, got train_dataloaders and datamodule"),
        ({"update_attr": True, "attr_name": "rate"}, "update_attr needs an attribute rate, ImageClassifier has none"),
        ({"min_lr": 1.0, "max_lr": 0.1}, "learning_rate must be LOW HIGH with 0 < LOW <= HIGH, got 1 0.1"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        lr_find(trainer(), model(), **({"datamodule": Digits()} | options))
