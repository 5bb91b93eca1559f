"""What is stored of optimizers: their settings, whatever the module names them, and none that follow rate or batch size."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_studies_preflight import Blobs, Net

from studies import StudyConfig, Workload, judge_study, run_study
from studies.commands.compare import main
from studies.training.optimizers import optimizers_of


class Named(Net):
    """Momentum and all else under names of the module's own."""

    def __init__(self, lr: float = 0.1, kind: str = "sgd", inertia: float = 0.0) -> None:
        super().__init__(lr)
        self.kind, self.inertia, self.batch_size = kind, inertia, 8

    def configure_optimizers(self) -> Any:
        weights = list(self.parameters())
        if self.kind == "sgd":
            return torch.optim.SGD(weights, self.lr, momentum=self.inertia)
        if self.kind == "groups":
            groups = [{"params": weights[:1]}, {"params": weights[1:], "weight_decay": 0.0, "lr": 3 * self.lr}]
            return torch.optim.AdamW(groups, self.lr, weight_decay=0.1)
        if self.kind == "alike":
            return torch.optim.AdamW([{"params": [weight]} for weight in weights], self.lr)
        if self.kind == "of batch size":
            return torch.optim.AdamW(weights, self.lr, betas=(0.9, 1 - 0.001 * self.batch_size))
        return torch.optim.AdamW(weights, self.lr, weight_decay=1e-3 / self.lr)  # of learning rate


def read(**arguments: Any) -> list[dict[str, Any]]:
    workload = Workload.of(functools.partial(Named, **arguments), Blobs, batch_sizes=(4, 8))
    return optimizers_of(workload, 0.01, (4, 8))


def test_momentum_is_read_whatever_it_is_called() -> None:
    (found,) = read(inertia=0.9)
    assert found["optimizer"] == "SGD" and found["momentum"] == 0.9 and found["dampening"] == 0
    assert not {"lr", "params", "learning_rate_factor"} & set(found)
    assert json.loads(json.dumps(found)) == found


def test_groups_are_told_apart_with_their_share_of_the_learning_rate_and_alike_ones_once() -> None:
    first, second = read(kind="groups")
    assert (first["weight_decay"], second["weight_decay"]) == (0.1, 0.0)
    assert "learning_rate_factor" not in first and second["learning_rate_factor"] == 3
    assert first["betas"] == [0.9, 0.999] and first["decoupled_weight_decay"] is True
    assert len(read(kind="alike")) == 1


@pytest.mark.parametrize("kind", ["of batch size", "of learning rate"])
def test_settings_that_follow_batch_size_or_learning_rate_are_not_told(kind: str) -> None:
    assert read(kind=kind) == []


def study(folder: Path, name: str, model: Any, **options: Any) -> Any:
    told: dict[str, Any] = {"learning_rate": (0.01, 3), "points": 4, "batch_size": (4, 8), "seeds": 1, "epochs": 2}
    told |= {"workers": 1, "fuse": "never", "storage": str(folder / "studies.db"), "name": name}
    return run_study(StudyConfig(model=model, data=Blobs, **told | options), out=folder / name)


def test_study_stores_its_optimizers_and_a_comparison_tells_effective_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, inertia in (("plain", 0.0), ("heavy", 0.5)):
        found = study(tmp_path, name, functools.partial(Named, inertia=inertia)).user_attrs["optimizers"]
        assert [each["momentum"] for each in found] == [inertia]
    assert main(["studies.db", "plain", "heavy", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["effective"]
    assert rows and all(row["effective"] == pytest.approx(2 * row["value"]) for row in rows)


def test_report_remarks_on_beta2_and_weight_decay_of_several_batch_sizes(tmp_path: Path) -> None:
    optimizer = {"class_path": "AdamW", "init_args": {"betas": [0.9, 0.5], "weight_decay": 0.1}}
    remarks = judge_study(study(tmp_path, "adamw", Net, optimizer=optimizer)).remarks
    assert any("beta2 0.5, which forgets half in 1 step: 4 examples at batch size 4, 8 at 8" in remark for remark in remarks)
    assert any(remark.startswith("weight decay 0.1 times the recommended learning rate") for remark in remarks)


def test_module_whose_optimizers_cannot_be_looked_at_is_studied_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("studies.training.optimizers.see_start", broken)
    found = study(tmp_path, "broken", Net)
    assert found.user_attrs["optimizers"] == [] and len(found.trials) == 8


def test_settings_are_looked_at_once_for_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study(tmp_path, "once", Net)
    monkeypatch.setattr("studies.training.optimizers.optimizers_of", lambda *_: pytest.fail("looked again"))
    study(tmp_path, "once", Net, seeds=2)
