"""Whatever would spoil every run is said in one sentence that names the user's class and line, before anything is made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from studies import StudyConfig, load_study, run_study
from studies.commands.command_line import BAD_INPUT

HERE = Path(__file__).name
INPUTS = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 3


class Blobs(pl.LightningDataModule):
    def __init__(self, batch_size: int = 8, n: int = 40, **options: Any) -> None:
        super().__init__()
        self.batch_size, self.n, self.options = batch_size, n, options

    def train_dataloader(self) -> Any:
        examples = TensorDataset(INPUTS[: self.n], LABELS[: self.n])
        return DataLoader(examples, self.batch_size, shuffle=self.n > 0, **self.options)


class Net(pl.LightningModule):
    """A module without fault; the others break one thing."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = lr
        self.layer = nn.Linear(6, 3)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        inputs, labels = batch
        return cross_entropy(self.layer(inputs), labels)

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=self.lr)


class Accuracy(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        inputs, labels = batch
        return (self.layer(inputs).argmax(dim=1) == labels).float().mean()


class Correct(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return (self.layer(batch[0]).argmax(dim=1) == batch[1]).sum()


class Detached(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx).detach()


class Nothing(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        super().training_step(batch, batch_idx)


class NoLossInDict(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"cost": super().training_step(batch, batch_idx)}


class Vector(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return cross_entropy(self.layer(batch[0]), batch[1], reduction="none")


class Number(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx).item()


class Complex(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) * 1j


class NotFinite(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) * torch.nan


class Frozen(Net):
    def __init__(self) -> None:
        super().__init__()
        self.layer.requires_grad_(False)


class OtherWeights(Net):
    def configure_optimizers(self) -> Any:
        return SGD([nn.Parameter(torch.zeros(3))], lr=self.lr)


class Still(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return 0 * super().training_step(batch, batch_idx)


class OwnRate(Net):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = 0.01


class ClassesMissing(Net):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)


class Elsewhere(Net):
    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.ones(3, device="meta")  # a plain attribute, which Lightning does not move

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return cross_entropy(self.layer(batch[0]), batch[1], weight=self.weights)


class Raising(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        raise KeyError("no such column")


class Leaving(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        sys.exit(0)


class TooLarge(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Gan(Net):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log_dict({"g_loss": loss.detach(), "d_loss": -loss.detach()})


class Tens:
    def __iter__(self) -> Any:
        return iter([(INPUTS[:10], LABELS[:10])] * 4)

    def __len__(self) -> int:
        return 4


class FixedBatches(Blobs):
    def train_dataloader(self) -> Any:
        return Tens()


class NoOptimizer(Net):
    def configure_optimizers(self) -> Any:
        return None


STEP = rf"{{}}\.training_step \(.*{HERE}:\d+\)"
METRIC = "a metric such as accuracy is not a loss: it cannot be differentiated, so SGD would have a step of size zero; return a"
CASES: list[tuple[Any, Any, str]] = [
    (Accuracy, Blobs, STEP.format("Accuracy") + rf" returned a number without gradient \(torch.float32\): {METRIC}"),
    (Correct, Blobs, STEP.format("Correct") + r" returned a number without gradient \(torch.int64\)"),
    (Detached, Blobs, STEP.format("Detached") + r" returned a number without gradient \(torch.float32\)"),
    (Nothing, Blobs, STEP.format("Nothing") + " must return the loss, got None"),
    (NoLossInDict, Blobs, STEP.format("NoLossInDict") + r" must return the loss, got a dict without 'loss' \(cost\)"),
    (Vector, Blobs, STEP.format("Vector") + r" returned a tensor of shape \(8,\): return one number, such as its mean"),
    (Number, Blobs, STEP.format("Number") + r" returned float 1\.\d+: return the loss as a tensor, before .item\(\)"),
    (Complex, Blobs, STEP.format("Complex") + r" returned a complex number \(torch.complex64\): return a real one"),
    (NotFinite, Blobs, STEP.format("NotFinite") + " returned nan before the first step: the loss of the untrained module must"),
    (Frozen, Blobs, "Frozen has nothing to train: none of its 2 parameters requires_grad"),
    (
        OtherWeights,
        Blobs,
        r"configure_optimizers \(.*:\d+\) must give an optimizer the parameters of the module, it gives none",
    ),
    (
        Still,
        Blobs,
        "no weight of Still moves in a step: " + STEP.format("Still") + " gives a gradient of zero, or the optimizer",
    ),
    (OwnRate, Blobs, "learning_rate has no effect: a step of OwnRate is the same at 0.316 and 0.158; name the attribute that"),
    (
        ClassesMissing,
        Blobs,
        r"tried and training_step \(.*\) failed: IndexError: Target 2 is out of bounds.; labels must be from 0",
    ),
    (Elsewhere, Blobs, r"training_step \(.*\) failed: RuntimeError: .*; register_buffer makes Lightning move a tensor"),
    (Raising, Blobs, rf"one batch was tried and training_step \(.*{HERE}:\d+\) failed: KeyError: 'no such column'"),
    (Leaving, Blobs, r"RuntimeError: the module left by sys.exit\(0\)"),
    (TooLarge, Blobs, "OutOfMemoryError: CUDA out of memory. .*; a smaller batch size needs less"),
    (Gan, Blobs, STEP.format("Gan") + " must return the loss, got None; or name a metric it logs with monitor: d_loss, g_loss"),
    (NoOptimizer, Blobs, r"configure_optimizers \(.*:\d+\) must give an optimizer the parameters of the module, it gives none"),
    (
        Net,
        FixedBatches,
        r"batch_size has no effect: FixedBatches.train_dataloader \(.*\) gives batches of 10 examples when asked",
    ),
    (Net, lambda: Blobs(n=0), r"Blobs.train_dataloader \(.*\) must give at least 1 batch of 8 examples, got none"),
    (
        Net,
        lambda: Blobs(n=7, drop_last=True),
        r"Blobs.train_dataloader \(.*\) must give at least 1 batch of 8 examples, got none",
    ),
    (Net, lambda: Blobs(n=7), "batch_size must be at most the training set of 7 examples, got 8"),
]


def small(folder: Path, model: Any, data: Any, **changes: Any) -> StudyConfig:
    values = {"learning_rate": (0.1, 1), "points": 2, "batch_size": 8, "seeds": 1, "epochs": 1, "name": "small"}
    return StudyConfig.from_mapping(values | {"model": model, "data": data, "storage": str(folder / "s.db")} | changes)


@pytest.mark.filterwarnings("ignore:.*configure_optimizers.* returned .None.:UserWarning")  # Lightning's, meant for the user
@pytest.mark.filterwarnings("ignore:Total length of .* is zero:UserWarning")
@pytest.mark.filterwarnings("ignore:.training_step. returned .None.:UserWarning")
@pytest.mark.parametrize(("model", "data", "sentence"), CASES, ids=lambda case: getattr(case, "__name__", None))
def test_what_spoils_every_run_is_said_before_anything_is_made(model: Any, data: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        run_study(small(tmp_path, model, data))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_module_without_fault_passes_and_its_runs_are_as_without_preflight(tmp_path: Path) -> None:
    study = run_study(small(tmp_path, Net, Blobs))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2


def test_smallest_batch_size_is_tried_too(tmp_path: Path) -> None:
    class Normed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))  # type: ignore[assignment]

    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        run_study(small(tmp_path, Normed, Blobs, batch_size=[1, 8]))


def test_monitor_must_be_logged(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"monitor must be a metric that LossAndLogs logs \(d_loss, g_loss\), got 'loss'"):
        run_study(small(tmp_path, LossAndLogs, Blobs, monitor="loss"))


class LossAndLogs(Gan):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        super().training_step(batch, batch_idx)
        return torch.zeros(())


def test_warm_up_from_zero_is_no_fault(tmp_path: Path) -> None:
    class WarmUp(Net):
        def configure_optimizers(self) -> Any:
            optimizer = SGD(self.parameters(), lr=self.lr)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 3))
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    assert len(run_study(small(tmp_path, WarmUp, Blobs)).trials) == 2


def test_manual_module_that_gathers_gradients_over_batches_is_no_fault(tmp_path: Path) -> None:
    class Gathering(Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss: Tensor = super().training_step(batch, batch_idx)
            self.manual_backward(loss)
            if batch_idx % 3 == 2:
                optimizer: Any = self.optimizers()
                optimizer.step()
                optimizer.zero_grad()
            return loss

    assert len(run_study(small(tmp_path, Gathering, Blobs)).trials) == 2


def test_sentence_of_a_process_has_exit_code_2_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(Path(__file__).read_text())
    script = Path(__file__).parents[1] / "scripts" / "launch_study.py"
    command = [sys.executable, str(script), *"--model mine.Accuracy --data mine.Blobs --batch-size 8".split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"})
    assert done.returncode == BAD_INPUT
    assert re.fullmatch(rf"launch_study: Accuracy.training_step \(mine.py:\d+\) returned .*{METRIC}.*\n", done.stderr), (
        done.stderr
    )
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["mine.py"]


def test_out_of_memory_leaves_out_larger_batch_sizes_and_goes_on_with_smaller(tmp_path: Path) -> None:
    steps = 0

    class Hungry(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            nonlocal steps
            steps += self.training and torch.is_grad_enabled()
            if self.training and len(batch[0]) == 8 and steps > 3:  # the preflight takes three
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().training_step(batch, batch_idx)

    study = run_study(small(tmp_path, Hungry, Blobs, batch_size=[4, 8], points=4))
    states = [(trial.params["batch_size"], trial.state.name) for trial in study.trials]
    assert states == [(4, "COMPLETE")] * 4 + [(8, "FAIL")]
    failed = load_study(str(tmp_path / "s.db"), "small").trials[-1].user_attrs
    assert failed["error"] == "out of memory at batch size 8" and "OutOfMemoryError" in failed["traceback"]
