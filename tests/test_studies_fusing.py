"""Members trained in one fit are what they are alone, and are fused only where that is faster and the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import planned, together
from test_studies_preflight import Blobs, Gan, Net
from test_studies_workload import Both, Logging
from test_zoo import ZOO
from torch import nn
from torch.nn.functional import cross_entropy, dropout
from torch.optim import LBFGS, SGD
from torch.optim.lr_scheduler import OneCycleLR, StepLR

from lightning_modules.fused.call import NotFusable
from studies import Run, StudyConfig, Workload, judge_study, load_study, run_study, runs_table, train
from studies.storage.stored import facts_of
from studies.training.fusing import Fusing, train_fused


@pytest.fixture(autouse=True)
def measured_however_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.training.fusing.SHORT", 0)


def classifier(network: str, *, data: str = "Digits", arguments: dict[str, Any] | None = None, **sgd: Any) -> Workload:
    inner = {"class_path": network, "init_args": arguments or {}}
    return Workload.of({"class_path": "ImageClassifier", "init_args": {"network": inner, **sgd}}, data)


class Everything(Net):
    """SGD with all it has, in two groups of their own rates; logs in training, once a step and once an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))  # type: ignore[assignment]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = cross_entropy(self.layer(batch[0]), batch[1]) * (1 + 0.1 * self.current_epoch)
        self.log("train/last", loss)
        self.log("train/mean", loss, on_step=False, on_epoch=True, batch_size=len(batch[1]))
        return {"loss": loss}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log_dict({"valid/loss": cross_entropy(self.layer(batch[0]), batch[1])})

    def configure_optimizers(self) -> Any:
        first, last = self.layer[0], self.layer[3]  # type: ignore[index]
        options: dict[str, Any] = {"momentum": 0.9, "weight_decay": 0.01}
        groups: list[dict[str, Any]] = [
            {"params": first.parameters(), "lr": self.lr / 10, "dampening": 0.3, "nesterov": False},
            {"params": last.parameters(), "nesterov": True},
        ]
        return SGD(groups, lr=self.lr, **options)


class Dropouts(Net):
    """Dropout of single values and of whole channels, and a learning rate that falls at each epoch."""

    def __init__(self) -> None:
        super().__init__()
        channels = (nn.Unflatten(1, (3, 2)), nn.Dropout1d(0.3), nn.Flatten())
        self.layer = nn.Sequential(*channels, nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.4), nn.Linear(8, 3))  # type: ignore[assignment]

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return [optimizer], [StepLR(optimizer, step_size=1, gamma=0.5)]


class OneCycle(Net):
    """A schedule of every step that moves the momentum too and asks the trainer how many steps there will be."""

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=self.lr, momentum=0.9)
        steps = self.trainer.estimated_stepping_batches
        scheduler = OneCycleLR(optimizer, max_lr=self.lr, total_steps=int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class HalfFrozen(Net):
    """Gives its optimizer a weight that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.layer.bias.requires_grad_(False)


# Lightning says so of a datamodule that also serves modules without validation.
pytestmark = pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader` but have no `validation_step`:UserWarning")

FROM_ZOO = "fine-tuned, layer rates, batch norm and dropout, loaders, instance, pretrained, partial, factory".split(", ")
FROM_ZOO += ["other package", "silent", "cosine"]
FUSED: dict[str, tuple[Workload, int, list[float]]] = {
    "MLP": (classifier("MLP"), 128, [0.01, 0.1, 1.0]),
    "ConvNet": (classifier("ConvNet", arguments={"width": 4}, momentum=0.9), 128, [0.001, 0.01, 0.1]),
    "batch norm": (classifier("ConvNet", arguments={"width": 4, "batch_norm": True}), 128, [0.01, 0.1, 0.3]),
    "wine": (classifier("MLP", data="Wine", momentum=0.9, nesterov=True), 16, [0.01, 0.1, 0.3]),
    "Regressor": (Workload.of("Regressor", "Diabetes"), 64, [0.001, 0.01, 0.1]),
    "Parabola": (Workload.of("Parabola"), 16, [0.01, 0.1, 0.5]),
    "half frozen": (Workload.of(HalfFrozen, Blobs), 8, [0.01, 0.1, 0.3]),
    "dropouts": (Workload.of(Dropouts, Blobs), 8, [0.01, 0.1, 0.3]),
    "one cycle": (Workload.of(OneCycle, Blobs), 8, [0.01, 0.1, 0.3]),
    "everything": (Workload.of(Everything, Both), 8, [0.01, 0.1, 0.3]),
    **{
        name: (
            Workload.of_config(ZOO[name].config(Path("unused"))),
            ZOO[name].batch_size,
            list(ZOO[name].rates()[: 1 if name == "resnet18" else 4]),
        )
        for name in FROM_ZOO
    },
}


def assert_same(alone: Run, fused: Run, steps: int = 30) -> None:
    """All facts are equal, and all losses of the first steps up to rounding."""
    facts = "learning_rate batch_size seed epochs steps examples nonfinite_at validation_examples".split()
    assert [getattr(alone, name) for name in facts] == [getattr(fused, name) for name in facts]
    assert {name: list(steps) for name, (steps, _) in alone.curves.items()} == {
        name: list(steps) for name, (steps, _) in fused.curves.items()
    }
    for name, (at, values) in alone.curves.items():
        for step, one, other in zip(at, values, fused.curves[name][1], strict=True):
            near = 0.01 if "acc" in name else 1e-6  # an example on the border may be counted on either side
            assert step > steps or one == pytest.approx(other, rel=1e-4, abs=near, nan_ok=True), (name, step)


@pytest.mark.parametrize("name", FUSED)
def test_fused_members_are_what_they_are_alone(name: str) -> None:
    workload, batch_size, rates = FUSED[name]
    members = [(rate, seed) for seed in (0, 1) for rate in rates]
    fused = train_fused(workload, planned(members, batch_size), epochs=3)
    for one, other in zip(train(workload, members, batch_size=batch_size, epochs=3), fused, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("seeds", [(0, 0, 0), (0, 1, 2)])
def test_member_that_diverges_leaves_its_neighbours_as_they_are_to_the_bit(seeds: tuple[int, ...]) -> None:
    workload = FUSED["MLP"][0]
    members = [(0.1, seeds[0]), (1e30, seeds[1]), (0.3, seeds[2])]
    with_it = train_fused(workload, planned(members, 64), epochs=2)
    assert with_it[1].nonfinite_at is not None and with_it[1].final_height == math.inf and not with_it[1].metrics
    without = train_fused(workload, planned([members[0], members[2]], 64), epochs=2)
    assert [with_it[0].curves, with_it[2].curves] == [without[0].curves, without[1].curves]


@pytest.mark.parametrize("name", ["MLP", "batch norm"])
def test_last_member_that_is_left_goes_on_as_it_would_in_any_company_to_the_bit(name: str) -> None:
    workload, batch_size, rates = FUSED[name]
    members = [(rates[0], 0), (1e30, 0)]
    survivor, _ = train_fused(workload, planned(members, batch_size), epochs=2)
    (alone,) = train_fused(workload, planned(members[:1], batch_size), epochs=2)
    *_, of_many = train_fused(workload, planned([(rates[1], 1)] * 16 + members[:1], batch_size), epochs=2)
    assert survivor.curves == alone.curves == of_many.curves


def test_huge_weights_are_not_mistaken_for_infinite_ones() -> None:
    class Huge(Net):
        def __init__(self) -> None:
            super().__init__()
            self.spare = nn.Parameter(torch.full((4,), 3e38))  # finite each, their sum is not

    runs = train_fused(Workload.of(Huge, Blobs), planned([(0.1, 0), (0.2, 0)], 8), epochs=1)
    assert [run.nonfinite_at for run in runs] == [None, None]


def test_no_more_members_than_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.training.fusing.GAIN", math.inf)
    monkeypatch.setattr("studies.training.fusing._n_that_fit", lambda *_: 2)
    fusing, members = Fusing(FUSED["MLP"][0], epochs=1), [(0.1, 0), (0.2, 0), (0.3, 0)]
    fusing.decide(planned(members, 64))
    assert fusing.at_once(64) == 2
    monkeypatch.setattr("studies.training.fusing._n_that_fit", lambda *_: 1)
    fusing = Fusing(FUSED["MLP"][0], epochs=1)
    fusing.decide(planned(members, 64))
    assert fusing.decided["64"] == {"members": 1, "why": "alone: there is no memory for more at once"}


def test_fit_takes_no_longer_than_may_be_lost() -> None:
    fusing = Fusing(FUSED["MLP"][0], epochs=1, decided={"64": {"members": 64, "why": "measured"}})
    sizes = []
    for fusing.seconds[64] in (0.1, 10.0, 1000.0):
        sizes.append(fusing.at_once(64))
    assert sizes == [64, 12, 2]


def test_fit_ends_when_no_member_is_left() -> None:
    runs = train_fused(FUSED["MLP"][0], planned([(1e30, 0), (1e35, 0)], 64), epochs=50)
    assert all(run.nonfinite_at is not None and run.steps < 21 for run in runs)


@pytest.mark.parametrize("name", ["MLP", "batch norm", "everything"])
def test_result_of_a_member_does_not_depend_on_its_company_to_the_bit(name: str) -> None:
    workload, batch_size, rates = FUSED[name]
    member, others = (rates[0], 1), [(rate, seed) for seed in (0, 1) for rate in rates]
    *_, of_many = train_fused(workload, planned([*others, member], batch_size), epochs=2)
    (alone,) = train_fused(workload, planned([member], batch_size), epochs=2)
    assert alone.curves == of_many.curves


def test_what_was_decided_once_holds() -> None:
    decided = {"64": {"members": 2, "why": "measured before"}}
    fusing = Fusing(FUSED["MLP"][0], epochs=1, decided=decided)
    fusing.decide(planned([(0.1, 0), (0.2, 0)], 64))
    assert fusing.decided == decided and fusing.at_once(64) == 2 and fusing.at_once(16) == 1


class Hooked(Logging):
    def on_train_epoch_end(self) -> None:
        pass


class Dropping(Net):
    """Drops without a layer for it."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return cross_entropy(dropout(self.layer(batch[0])), batch[1])


class WholeGradients(Net):
    def configure_optimizers(self) -> Any:
        return LBFGS(self.parameters(), lr=self.lr)


class Branching(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return loss if loss > 0.5 else 2 * loss


class Setting(Net):
    def setup(self, stage: str) -> None:
        self.layer = nn.Linear(6, 3)


class Moving(Blobs):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] + 1, batch[1]


class KnowsItsRate(Net):
    """Its loss depends on an attribute of the member, which a stack does not have."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) * (1 + self.lr)


ALONE: list[tuple[Any, dict[str, Any], str]] = [
    (Hooked, {}, "alone: it defines on_train_epoch_end"),
    (Gan, {"monitor": "g_loss"}, "alone: it steps its optimizers itself"),
    (WholeGradients, {}, "alone: configure_optimizers gives LBFGS, not one of torch.optim's Adadelta, Adagrad, Adam, "),
    (Setting, {}, "alone: it defines setup"),
    (Net, {"data": Moving}, "alone: Moving defines on_after_batch_transfer"),
    (Dropping, {}, "alone: it cannot be fused (it draws random numbers in training, as dropout does)"),
    (Branching, {}, "alone: it cannot be fused (RuntimeError: vmap: It looks like you're attempting to use a Tensor in"),
    (Net, {"trainer": {"accumulate_grad_batches": 2}}, "alone: trainer.accumulate_grad_batches acts on one module"),
]


@pytest.mark.parametrize(("model", "options", "reason"), ALONE, ids=lambda case: getattr(case, "__name__", None))
def test_module_that_cannot_be_fused_is_trained_alone_and_the_reason_is_kept(
    model: Any, options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    values = {"learning_rate": (0.1, 1), "points": 3, "batch_size": 8, "seeds": 1, "epochs": 1, "name": "alone"}
    data = Both if model is Hooked else Blobs
    study = run_study(
        StudyConfig.from_mapping(values | {"model": model, "data": data, "storage": str(tmp_path / "s.db")} | options)
    )
    assert study.user_attrs["how_trained"]["8"]["why"].startswith(reason)
    assert runs_table(study)["member_of"].tolist() == [0, 1, 2]
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}


def test_batch_size_of_few_steps_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    fusing = Fusing(FUSED["MLP"][0], epochs=5)
    fusing.decide(planned([(0.1, 0), (0.2, 0)], 1_347))
    assert fusing.decided["1347"] == {"members": 1, "why": "alone: too few steps to measure which is faster"}


def test_module_whose_losses_differ_when_fused_is_trained_alone() -> None:
    fusing, members = Fusing(Workload.of(KnowsItsRate, Blobs), epochs=3), [(1.0, 0), (0.1, 0), (0.01, 0)]
    fusing.decide(planned(members, 8))
    assert fusing.decided == {"8": {"members": 1, "why": "alone: fused, its first losses differ"}}


def test_module_whose_data_are_drawn_anew_for_each_seed_is_trained_alone() -> None:
    member = ZOO["boring"]
    fusing = Fusing(Workload.of_config(member.config(Path("unused"))), epochs=1)
    fusing.decide(planned([(rate, seed) for seed in (0, 1) for rate in member.rates()], member.batch_size))
    assert [how["why"] for how in fusing.decided.values()] == ["alone: fused, its first losses differ"]


def test_study_tells_which_runs_were_trained_together_and_has_the_cells_of_one_trained_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"learning_rate": (0.003, 30), "points": 9, "batch_size": 128, "seeds": 2, "epochs": 3}
    monkeypatch.setattr("studies.training.fusing.GAIN", math.inf)  # whichever is faster on this machine today
    fused = run_study(StudyConfig.from_mapping(values | {"storage": str(tmp_path / "fused.db")}))
    assert "fused" in fused.user_attrs["how_trained"]["128"]["why"]
    assert runs_table(fused)["member_of"].nunique() < 18
    times = {(facts_of(trial)["member_of"], trial.datetime_start, trial.datetime_complete) for trial in fused.trials}
    assert len(times) == runs_table(fused)["member_of"].nunique()  # all members of a fit have its time
    for number, began, ended in times:
        shares = [facts_of(trial)["seconds"] for trial in fused.trials if facts_of(trial)["member_of"] == number]
        assert (ended - began).total_seconds() == pytest.approx(sum(shares), abs=1e-3)
    alone = run_study(StudyConfig.from_mapping(values | {"storage": str(tmp_path / "alone.db"), "fuse": "never"}))
    assert runs_table(alone)["member_of"].nunique() == 18
    assert judge_study(fused).cells["verdict"].tolist() == judge_study(alone).cells["verdict"].tolist()
    assert load_study(str(tmp_path / "fused.db"), "digits").user_attrs["how_trained"]


def test_study_that_was_interrupted_goes_on_to_the_runs_of_an_unbroken_one_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Any, finished: int, __: int) -> None:
        if finished == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Fusing, "_choose", lambda *_: (5, "5 fused"))  # measuring may choose otherwise the next time
    values = {"learning_rate": (0.1, 10), "points": 5, "batch_size": 256, "seeds": 1, "epochs": 2}
    config = StudyConfig.from_mapping(values | {"storage": str(tmp_path / "broken.db")})
    with pytest.raises(KeyboardInterrupt):
        run_study(config, on_run=interrupt)
    broken = runs_table(run_study(config))
    whole = runs_table(run_study(StudyConfig.from_mapping(values | {"storage": str(tmp_path / "whole.db")})))
    columns = ["learning_rate", "seed", "steps", "nonfinite_at", "first_height", "final_height", "val_loss", "val_accuracy"]
    assert broken["member_of"].tolist() == [0, 0, 0, 0, 4] and whole["member_of"].tolist() == [0] * 5
    pd.testing.assert_frame_equal(broken[columns], whole[columns])


def test_modules_in_double_precision_are_fused_in_it() -> None:
    hill = {"class_path": "Parabola", "init_args": {"eigenvalues": [2.0, 0.5], "start": [1e150, -3e150]}}
    workload = Workload.of(hill, {"class_path": "ParabolaData", "init_args": {"n_examples": 4}})
    members = [(0.1, 0), (0.99, 0), (2.0, 0)]
    fused, alone = (trainer(workload, members, batch_size=1, epochs=9) for trainer in (together, train))
    assert [run.nonfinite_at for run in fused] == [run.nonfinite_at for run in alone] and fused[0].nonfinite_at is None
    assert [run.curves["height"] for run in fused] == [run.curves["height"] for run in alone]


def test_study_that_is_never_to_be_fused_is_not_measured(tmp_path: Path) -> None:
    values = {"learning_rate": (0.1, 10), "points": 2, "batch_size": 256, "seeds": 1, "epochs": 1, "fuse": "never"}
    study = run_study(StudyConfig.from_mapping(values | {"storage": str(tmp_path / "s.db")}))
    assert "how_trained" not in study.user_attrs and runs_table(study)["member_of"].tolist() == [0, 1]


def test_fit_that_fails_fused_is_trained_alone_or_with_fewer_where_memory_was_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[Exception] = [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("of vmap")]

    def broken(*_: Any, **__: Any) -> list[Run]:
        raise raised.pop(0)

    monkeypatch.setattr(Fusing, "_choose", lambda *_: (8, "8 fused"))
    monkeypatch.setattr("studies.training.work.train_fused", broken)
    values = {"learning_rate": (0.1, 1), "points": 8, "batch_size": 256, "seeds": 1, "epochs": 1}
    study = run_study(StudyConfig.from_mapping(values | {"storage": str(tmp_path / "s.db")}))
    assert study.user_attrs["how_trained"]["256"] == {"members": 1, "why": "alone: fused it failed (RuntimeError: of vmap)"}
    assert not raised and runs_table(study)["member_of"].tolist() == list(range(8))
    assert runs_table(study)["learning_rate"].tolist() == list(study_rates(values))


def study_rates(values: dict[str, Any]) -> tuple[float, ...]:
    return StudyConfig.from_mapping(values).learning_rates


def test_reason_of_a_module_is_an_error_where_members_must_be_fused() -> None:
    with pytest.raises(NotFusable, match="it defines on_train_epoch_end"):
        train_fused(Workload.of(Hooked, Both), planned([(0.1, 0), (0.2, 0)], 8), epochs=1)
