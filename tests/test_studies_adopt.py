"""``lr-study admin adopt``: logs of runs trained elsewhere become a study, and nothing is assumed of them in silence."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from reports import classify, classify_cells
from reports.pages.spreadsheet import read_csv
from studies import curves_table, judge_study, load_study, report_study, runs_table
from studies.admin.adopt import adopt, read_logs
from studies.admin.adopted.choices import choose_loss
from studies.admin.adopted.log import Log, flat_yaml
from studies.commands.command_line import BAD_INPUT, run
from studies.commands.lr_study import main
from studies.dashboard.cards_and_notes import mirror
from studies.errors import BadInput
from studies.storage.opening import open_storage
from studies.storage.stored import CONFIGURATION, REMARKS

RATES = (0.01, 0.1, 1.0, 10.0)
WAYS = {0.01: 0.93, 0.1: 0.5, 1.0: 0.3}  # what is left of the loss after an epoch
VERDICTS = ["too low", "good", "good", "divergent"]
PER_EPOCH = 8  # steps


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in a folder of their own, their tables as wide as a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("COLUMNS", "200")


def losses(rate: float, epochs: int = 10) -> list[float]:
    """A hand-made curve, a value an epoch: above the start and then not finite at the highest learning rate."""
    if rate not in WAYS:
        return [5.0, 50.0, math.nan]
    return [2.0 * WAYS[rate] ** epoch + 0.1 for epoch in range(1, epochs + 1)]


def write_run(
    folder: Path, values: Sequence[float], hyperparameters: Mapping[str, Any] | str, name: str = "train_loss"
) -> None:
    """A run as CSVLogger writes it: a loss an epoch, in the row of its last batch."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{epoch},{(epoch + 1) * PER_EPOCH - 1},{value}" for epoch, value in enumerate(values)]
    (folder / "metrics.csv").write_text("\n".join([f"epoch,step,{name}", *rows, ""]))
    told = hyperparameters if isinstance(hyperparameters, str) else "".join(f"{k}: {v}\n" for k, v in hyperparameters.items())
    (folder / "hparams.yaml").write_text(told)


def write_runs(folder: Path, *, seeds: int = 1, **more: Any) -> Path:
    """A run of each learning rate."""
    for at, rate in enumerate(RATES):
        for seed in range(seeds):
            values = [value * (1 + 1e-3 * seed) for value in losses(rate)]
            write_run(folder / f"version_{at * seeds + seed}", values, {"lr": rate, "batch_size": 4, **more})
    return folder


def adopted(place: Path | str, name: str = "mine", **options: Any) -> optuna.Study:
    sources = [str(place)]
    chosen = {key: options.pop(key) for key in ("study", "format") if key in options}
    return adopt(read_logs(sources, **chosen), open_storage("sqlite:///studies.db"), name, sources=sources, **options)


def verdicts(study: optuna.Study) -> list[str]:
    cells: list[str] = classify_cells(runs_table(study), curves_table(study))["verdict"].tolist()
    return cells


def told(study: optuna.Study) -> str:
    return "\n".join(study.user_attrs[REMARKS])


def command(*arguments: str) -> int:
    return run(lambda: main(list(arguments)), "lr-study")


def test_logs_become_a_study_that_every_command_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "lightning_logs", seeds=2)
    assert command("admin", "adopt", "lightning_logs") == 0
    said = capsys.readouterr().out
    assert "adopted from 8 runs of lightning_logs" in said and "--untrained-loss" in said
    assert command("report", "--name", "lightning_logs") == 0
    page, text = (tmp_path / f"outputs/lightning_logs/report.{end}" for end in ("html", "md"))
    assert all("adopted from 8 runs of lightning_logs" in each.read_text() for each in (page, text))
    cells = read_csv(tmp_path / "outputs/lightning_logs/cells.csv")
    assert cells["verdict"].tolist() == VERDICTS and (cells["n_seeds"] == 2).all()
    assert command("admin", "adopt", "lightning_logs", "--name", "other", "--untrained-loss", "2.1") == 0
    assert command("compare", "lightning_logs", "other") == 0
    assert command("admin", "show", "other") == 0
    found = load_study("outputs/studies.db", "other")
    mirror(found, judge_study(found))  # what the dashboard shows
    capsys.readouterr()
    assert command("admin", "list") == 0
    assert capsys.readouterr().out.count("adopted") == 2
    assert command("admin", "export", "other", "--out", "other.zip") == 0
    assert command("admin", "import", "other.zip", "--name", "again") == 0
    assert verdicts(load_study("outputs/studies.db", "again")) == VERDICTS


def test_an_adopted_study_is_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "logs")
    assert command("admin", "adopt", "logs") == 0
    assert (
        command("launch", "--name", "logs", "--points", "2", "--epochs", "1", "--batch-size", "256", "--seeds", "1")
        == BAD_INPUT
    )
    assert "the runs of 'logs' were adopted: give another name" in capsys.readouterr().err
    assert command("launch", "--continue", "--name", "logs") == BAD_INPUT
    assert "continue must name a study that was launched, got 'logs'" in capsys.readouterr().err
    assert command("report", "--name", "logs", "--landscape") == BAD_INPUT
    assert "those of study 'logs' were adopted from their logs" in capsys.readouterr().err


def test_adopting_again_adds_what_is_new_and_doubles_nothing(tmp_path: Path) -> None:
    logs = write_runs(tmp_path / "logs")
    before = runs_table(adopted("logs"))
    pd.testing.assert_frame_equal(runs_table(adopted("logs")), before)
    write_run(logs / "version_10", losses(0.1), {"lr": 0.3, "batch_size": 4})
    after = runs_table(adopted("logs"))
    assert after["learning_rate"].tolist() == [*RATES, 0.3]
    assert {study.study_name for study in open_storage("sqlite:///studies.db").get_all_studies()} == {"mine"}


def test_a_name_that_is_taken_and_logs_that_are_gone_are_refused(tmp_path: Path) -> None:
    logs, other = write_runs(tmp_path / "logs"), write_runs(tmp_path / "others")
    adopted("logs")
    with pytest.raises(BadInput, match=r"study 'mine' was adopted from logs: give --name NEW"):
        adopted("others")
    (logs / "version_2/metrics.csv").unlink()
    with pytest.raises(BadInput, match=r"logs that study 'mine' was adopted from are gone \(logs/version_2\)"):
        adopted("logs")
    with pytest.raises(BadInput, match=r"where of study 'mine' must stay as it was adopted \(all of them\)"):
        adopted("logs", where=["lr=0.1"])
    assert len(runs_table(load_study("studies.db", "mine"))) == 4
    open_study = optuna.create_study(storage=open_storage("sqlite:///studies.db"), study_name="theirs")
    with pytest.raises(BadInput, match="name must be new or a study that was adopted, 'theirs' is another one"):
        adopted(other, name=open_study.study_name)


def test_a_mean_over_an_epoch_is_of_its_middle_and_begins_where_the_lowest_learning_rate_did(tmp_path: Path) -> None:
    write_runs(tmp_path / "logs")
    study = adopted("logs")
    curves, runs = curves_table(study), runs_table(study)
    heights = curves[(curves["trial"] == 1) & (curves["metric"] == "height")]
    assert heights["epoch"].tolist() == [0, *(epoch + 0.5 for epoch in range(10))]
    assert heights["value"].tolist() == pytest.approx([losses(0.01)[0], *losses(0.1)])
    assert runs["epochs"].tolist()[:3] == [10, 10, 10] and runs["steps"].tolist()[:3] == [80, 80, 80]
    assert "at batch size 4 heights begin at 1.96, which the lowest learning rate (0.01) had at step 4" in told(study)
    assert verdicts(study) == VERDICTS


def test_what_is_not_finite_diverged_there(tmp_path: Path) -> None:
    write_runs(tmp_path / "logs")
    runs = runs_table(adopted("logs"))
    assert runs["nonfinite_at"].tolist()[3] == 2.5 * PER_EPOCH and runs["final_height"].iloc[3] == math.inf
    assert runs["state"].tolist() == ["COMPLETE"] * 4


def test_an_untrained_loss_can_be_given(tmp_path: Path) -> None:
    write_runs(tmp_path / "logs")
    study = adopted("logs", untrained_loss=2.1)
    assert (runs_table(study)["first_height"] == 2.1).all() and "the untrained loss that was given, 2.1" in told(study)


def test_an_untrained_loss_must_be_given_where_it_decides_and_nothing_stands_for_it(tmp_path: Path) -> None:
    for at, way in enumerate((0.3, 0.5, 0.9)):  # the lowest learning rate is the fastest
        values = [2.0 * way**epoch for epoch in range(1, 7)]
        write_run(tmp_path / f"logs/version_{at}", values, {"lr": 10.0 ** (at - 2), "batch_size": 4})
    with pytest.raises(BadInput, match=r"untrained_loss must be given: at batch size 4 none was logged, runs ended above"):
        adopted("logs")
    assert verdicts(adopted("logs", untrained_loss=2.0)) == ["good", "good", "too high"]


def test_the_same_runs_given_twice_are_in_the_study_once(tmp_path: Path) -> None:
    write_runs(tmp_path / "logs")
    sources = ["logs", "logs/version_1"]
    study = adopt(read_logs(sources), open_storage("sqlite:///studies.db"), "mine", sources=sources)
    assert runs_table(study)["learning_rate"].tolist() == list(RATES)


def test_minibatch_losses_are_averaged_and_begin_at_step_0(tmp_path: Path) -> None:
    for at, rate in enumerate(RATES[:3]):
        rows = [f"{step // 100},{step},{2 * WAYS[rate] ** (step / 100) + 0.1 * (-1) ** step}" for step in range(800)]
        folder = tmp_path / f"logs/version_{at}"
        write_run(folder, [], {"lr": rate, "batch_size": 4})
        (folder / "metrics.csv").write_text("\n".join(["epoch,step,train_loss_step", *rows]))
    study = adopted("logs")
    heights = curves_table(study).query("trial == 1 and metric == 'height'")
    assert len(heights) == 41 and heights["value"].iloc[0] == pytest.approx(2.1)
    assert heights["value"].iloc[1:].is_monotonic_decreasing  # the noise is averaged out
    assert "minibatch losses, 20 averaged: they cannot tell" in told(study) and "logged at step 0" in told(study)
    assert runs_table(study)["epochs"].tolist() == [8, 8, 8]


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ("train_loss_step train_loss_epoch val_loss", ("train_loss_epoch", "epoch mean")),
        ("train_loss_step val_loss", ("val_loss", "validation")),
        ("train_loss_step val_acc", ("train_loss_step", "minibatch")),
        ("Train/Loss", ("Train/Loss", "minibatch")),
    ],
)
def test_the_loss_is_a_mean_of_training_else_of_validation_else_of_minibatches(columns: str, chosen: tuple[str, str]) -> None:
    at = {
        name: torch.arange(20 if name in ("train_loss_step", "Train/Loss") else 2).double().numpy() for name in columns.split()
    }
    epochs = torch.tensor([0.0, 1.0]).numpy()
    logs = [Log("a", {}, {name: (steps, steps) for name, steps in at.items()}, (epochs * 10, epochs))]
    assert choose_loss(logs, None) == chosen


def test_runs_that_differ_in_more_are_not_judged_together_in_silence(tmp_path: Path) -> None:
    logs = write_runs(tmp_path / "logs", width=32)
    write_run(logs / "wide", losses(0.1), {"lr": 0.1, "batch_size": 4, "width": 64})
    with pytest.raises(
        BadInput, match=r"they differ in width \(32, 64\): --where width=32 takes some of them, --regardless-of"
    ):
        adopted("logs")
    assert len(runs_table(adopted("logs", where=["width=32"]))) == 4
    study = adopted("logs", name="all", regardless_of=["wid*"])
    assert len(runs_table(study)) == 5 and "these runs differ in width (32, 64) too, and are judged together" in told(study)
    with pytest.raises(BadInput, match=r"where must be a value that some run has, got 'width=48'; of 'width' there are 32, 64"):
        adopted("logs", where=["width=48"])
    with pytest.raises(BadInput, match="where must be NAME=VALUE, got 'width'"):
        adopted("logs", where=["width"])
    with pytest.raises(BadInput, match="untrained_loss must be finite, got nan"):
        adopted("logs", where=["width=32"], untrained_loss=math.nan)
    with pytest.raises(BadInput, match="batch_size must be a whole number of at least 1, got 0"):
        adopted("logs", where=["width=32"], batch_size=0)


def test_hyperparameters_that_follow_the_learning_rate_or_name_the_run_are_no_difference(tmp_path: Path) -> None:
    for at, rate in enumerate(RATES):
        more = {"optimizer.lr": rate, "min_lr": rate / 10, "run_dir": f"there/{'abcd'[at]}"}
        write_run(tmp_path / f"logs/version_{at}", losses(rate), {"lr": rate, "batch_size": 4, **more})
    assert verdicts(adopted("logs")) == VERDICTS


def test_seeds_are_those_of_the_logs_and_the_longest_of_two_alike_stands(tmp_path: Path) -> None:
    logs = write_runs(tmp_path / "logs", seed=7)
    write_run(logs / "version_4", losses(0.1)[:2], {"lr": 0.1, "batch_size": 4, "seed": 7})  # crashed
    write_run(logs / "version_5", losses(0.1), {"lr": 0.1, "batch_size": 4, "seed": 8})
    study = adopted("logs")
    assert runs_table(study)[["learning_rate", "seed"]].to_numpy().tolist() == [[0.01, 7], [0.1, 7], [1, 7], [10, 7], [0.1, 8]]
    assert "left out, 1 in all, as they were trained again with the same learning rate, batch size and seed" in told(study)


def test_copies_are_left_out(tmp_path: Path) -> None:
    logs = write_runs(tmp_path / "logs")
    write_run(logs / "copy", losses(0.1), {"lr": 0.1, "batch_size": 4})
    study = adopted("logs")
    assert len(runs_table(study)) == 4 and "are copies of others: logs/version_1" in told(study)


def test_runs_that_ended_earlier_are_judged_where_that_tells(tmp_path: Path) -> None:
    logs = write_runs(tmp_path / "logs")
    write_run(logs / "crashed", [1.2, 0.7], {"lr": 0.05, "batch_size": 4})
    write_run(logs / "longer", [value + 0.01 for value in losses(0.1, epochs=30)], {"lr": 0.2, "batch_size": 4})
    write_run(logs / "empty", [], {"lr": 0.3, "batch_size": 4})
    (logs / "nothing").mkdir()
    (logs / "nothing/metrics.csv").write_text("")
    study = adopted("logs")
    runs = classify(runs_table(study), curves_table(study)).set_index("learning_rate")
    assert runs.loc[0.05, "state"] == "PRUNED" and runs.loc[0.05, "verdict"] is None
    assert "not known" in runs.loc[0.05, "reason"]
    assert runs.loc[0.2, "epochs"] == 10 and runs.loc[0.2, "verdict"] == "good"
    assert "1 of 5 runs ended before the 10 epochs of the others" in told(study)
    assert "1 of 5 runs went on after the 10 epochs of the others: that is not read" in told(study)
    assert "left out, 2 in all, as they logged no train_loss: logs/empty, logs/nothing" in told(study)


def test_runs_of_many_lengths_are_judged_by_where_each_ended(tmp_path: Path) -> None:
    for at, (rate, epochs) in enumerate(((0.01, 40), (0.02, 30), (0.1, 12), (1.0, 8))):
        values = [2.0 * {0.02: 0.86, **WAYS}[rate] ** epoch + 0.1 for epoch in range(1, epochs + 1)]
        write_run(tmp_path / f"logs/version_{at}", values, {"lr": rate, "batch_size": 4})
    study = adopted("logs")
    assert (runs_table(study)["state"] == "COMPLETE").all() and verdicts(study)[2:] == ["good", "good"]
    assert "runs ended after 8 to 40 epochs, and most lengths differ: each is judged by where it ended" in told(study)


@pytest.mark.parametrize(
    ("hyperparameters", "options", "sentence"),
    [
        ({"batch_size": 4}, {}, "learning_rate_name must be given: no hyperparameter is called lr or learning_rate"),
        ({"lr": 0.1}, {}, "batch_size must be given, examples a step: no hyperparameter is called batch_size"),
        (
            {"lr": 0.1, "batch_size": 4},
            {"learning_rate_name": "eta"},
            r"one of the hyperparameters \(lr, batch_size\), got 'eta'",
        ),
        ({"lr": 0.1, "batch_size": 4}, {"metric": "nll"}, r"metric must be one of what was logged \(train_loss\), got 'nll'"),
        (
            {"lr": "auto", "batch_size": 4},
            {},
            "runs must have a learning rate above 0 and a whole batch size, of 1 none has both",
        ),
        ("lr: 0.1\nbatch_size: 4\nlr: [", {}, "'logs/a/hparams.yaml' must be YAML"),
    ],
)
def test_what_cannot_be_known_is_asked_for(tmp_path: Path, hyperparameters: Any, options: Any, sentence: str) -> None:
    write_run(tmp_path / "logs/a", losses(0.1), hyperparameters)
    with pytest.raises(BadInput, match=sentence):
        adopted("logs", **options)


def test_two_learning_rates_that_differ_are_not_chosen_between(tmp_path: Path) -> None:
    for at, rate in enumerate(RATES):
        more = {"head.lr": 1 / (at + 1), "body.lr": rate}
        write_run(tmp_path / f"logs/version_{at}", losses(rate), {"batch_size": 4, **more})
    with pytest.raises(BadInput, match="learning_rate_name must be given: body.lr and head.lr may be it"):
        adopted("logs")
    study = adopted("logs", learning_rate_name="body.lr", regardless_of=["head.lr"])
    assert runs_table(study)["learning_rate"].tolist() == list(RATES)


def test_a_metric_of_which_more_is_better_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "logs/a", losses(0.1), {"lr": 0.1, "batch_size": 4}, name="val_acc")
    with pytest.raises(
        BadInput, match="metric must be given: no loss has a usual name in half of the runs; logged were val_acc"
    ):
        adopted("logs")
    with pytest.raises(BadInput, match="metric must be a loss, of which less is better, got 'val_acc'"):
        adopted("logs", metric="val_acc")


def test_tags_of_hyperparameters_run_no_code(tmp_path: Path) -> None:
    evil = "lr: 0.1\nbatch_size: 4\nact: !!python/object/apply:os.mkdir ['evil']\nfn: !!python/name:torch.nn.ReLU ''\n"
    write_run(tmp_path / "logs/a", losses(0.1), evil)
    assert len(runs_table(adopted("logs"))) == 1 and not (tmp_path / "evil").exists()


def test_aliases_that_multiply_are_refused() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 9)
    )
    with pytest.raises(BadInput, match="'there' must hold at most 10,000 hyperparameters, 50 levels deep; it holds more"):
        flat_yaml(bomb, "there")
    with pytest.raises(BadInput, match="it holds more"):
        flat_yaml("a: &a [*a]", "there")


def test_nothing_to_adopt_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="runs must be files or folders, there is nothing at 'nowhere'"):
        read_logs(["nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        BadInput, match=r"no log of a run is in 'empty': what is read is metrics.csv, tensorboard, mlflow, tables"
    ):
        read_logs(["empty"])
    with pytest.raises(BadInput, match="study must be given, the name of one in 'sqlite:///x.db'"):
        read_logs(["sqlite:///x.db"])
    with pytest.raises(BadInput, match="format must be one of metrics.csv, tensorboard, mlflow, tables, got 'csv'"):
        read_logs(["empty"], format="csv")


class AdoptedNet(pl.LightningModule):
    def __init__(self, learning_rate: float, batch_size: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch[0]).square().mean()
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.layer(batch[0]).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["learning_rate"])


def trained(folder: Path, logger: Callable[..., Any]) -> Path:
    """Four runs of Lightning's own, of 3 epochs of 5 steps."""
    loader = DataLoader(TensorDataset(torch.randn(20, 2, generator=torch.Generator().manual_seed(0))), batch_size=4)
    for rate in (1e-3, 0.03, 0.3, 30.0):
        pl.seed_everything(0, verbose=False)
        monitor = pl.callbacks.LearningRateMonitor()
        options: dict[str, Any] = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(
            max_epochs=3, accelerator="cpu", log_every_n_steps=2, logger=logger(folder), callbacks=[monitor], **options
        )
        trainer.fit(AdoptedNet(rate), loader, loader)
    return folder


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
def test_what_lightning_logs_is_read(tmp_path: Path) -> None:
    trained(tmp_path / "logs", pl.loggers.CSVLogger)
    study = adopted("logs")
    runs = runs_table(study)
    assert runs["learning_rate"].tolist() == [1e-3, 0.03, 0.3, 30] and (runs["batch_size"] == 4).all()
    assert runs["epochs"].tolist()[:3] == [3, 3, 3] and runs["steps"].tolist()[:3] == [15, 15, 15]
    assert runs["highest_learning_rates"].tolist() == ["0.001", "0.03", "0.3", "30"]
    assert runs["val_loss"].notna().tolist()[:3] == [True] * 3 and "train_loss_epoch" in told(study)


@pytest.mark.filterwarnings("ignore")
def test_event_files_say_what_metrics_csv_says(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    trained(tmp_path / "csv", pl.loggers.CSVLogger)
    trained(tmp_path / "tb", pl.loggers.TensorBoardLogger)
    both = [runs_table(adopted(place, name=place)) for place in ("csv", "tb")]
    for column in ("learning_rate", "epochs", "steps", "first_height", "final_height", "val_loss"):
        assert both[1][column].tolist() == pytest.approx(both[0][column].tolist(), nan_ok=True)
    assert both[0]["seconds"].isna().all() and (both[1]["seconds"] > 0).all()


def test_event_files_without_tensorboard_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.admin.adopted.event_files.find_spec", lambda name: None)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/events.out.tfevents.1.host.1.0").write_bytes(b"")
    with pytest.raises(
        BadInput, match=r"need TensorBoard, which is not installed: pip install 'learning-rate-studies\[tensorboard\]'"
    ):
        read_logs(["logs"])


def test_folders_and_the_learning_rate_monitor_say_what_hyperparameters_do_not(tmp_path: Path) -> None:
    for seed in (0, 1):
        for rate in RATES:
            folder = tmp_path / f"logs/batch_size=4,seed={seed}/run{rate:g}"
            write_run(folder, losses(rate), "{}")
            rows = [f"{e},{(e + 1) * PER_EPOCH - 1},{v},{rate}" for e, v in enumerate(losses(rate))]
            (folder / "metrics.csv").write_text("\n".join(["epoch,step,train_loss,lr-SGD", *rows]))
    study = adopted("logs")
    assert sorted(runs_table(study)["seed"]) == [0] * 4 + [1] * 4 and verdicts(study) == VERDICTS
    assert "the learning rate of a run is the highest that was logged" in told(study)


def test_what_mlflow_keeps_is_read(tmp_path: Path) -> None:
    for at, rate in enumerate(RATES):
        folder = tmp_path / f"mlruns/0/{at}"
        (folder / "metrics/train").mkdir(parents=True)
        (folder / "params").mkdir()
        (folder / "meta.yaml").write_text("status: 3\n")
        (folder / "params/lr").write_text(str(rate))
        (folder / "params/batch_size").write_text("4")
        rows = [f"{1000 * epoch} {value} {epoch}" for epoch, value in enumerate(losses(rate))]
        (folder / "metrics/train/loss").write_text("\n".join(rows))
    study = adopted("mlruns")
    assert verdicts(study) == VERDICTS and runs_table(study)["seconds"].tolist() == [9, 9, 9, 2]
    assert "the logs do not count epochs" in told(study) and runs_table(study)["epochs"].tolist()[:3] == [10, 10, 10]
    (tmp_path / "mlruns/0/0/metrics/train/loss").write_text("1 nothing 2")
    with pytest.raises(BadInput, match="must hold lines of timestamp, value and step, as MLflow writes them"):
        adopted("mlruns", name="broken")


def wandb(folder: Path) -> None:
    """A chart and the table of runs, as the pages of Weights & Biases download them."""
    steps = range(10)
    chart = {"Step": list(steps)}
    for at, rate in enumerate(RATES):
        column = [losses(rate)[step] if step < len(losses(rate)) else "" for step in steps]
        column = ["NaN" if value != value else value for value in column]
        for end in ("", "__MIN", "__MAX"):
            chart[f"fast - owl-{at} - train/loss{end}"] = column
    pd.DataFrame(chart).to_csv(folder / "chart.csv", index=False)
    told = {"Name": [f"fast - owl-{at}" for at in range(4)], "State": ["finished"] * 3 + ["crashed"], "Runtime": range(4)}
    table = pd.DataFrame({**told, "optimizer.lr": RATES, "batch_size": 4})
    table.to_csv(folder / "runs.csv", index=False)


def mlflow_page(folder: Path) -> None:
    rows = [(at, "train_loss", v, s, 1) for at, rate in enumerate(RATES) for s, v in enumerate(losses(rate))]
    named = pd.DataFrame(rows, columns=["run_id", "key", "value", "step", "timestamp"])
    named.assign(value=named["value"].map(str)).to_csv(folder / "metrics_of_page.csv", index=False)
    pd.DataFrame({"Start Time": "x", "Run ID": range(4), "Name": list("abcd"), "lr": RATES, "batch_size": 4}).to_csv(
        folder / "runs.csv", index=False
    )


def mlflow_page_without_steps(folder: Path) -> None:
    mlflow_page(folder)
    page = folder / "metrics_of_page.csv"
    pd.read_csv(page, dtype=str, keep_default_na=False).drop(columns="step").to_csv(page, index=False)


def rows_of_logs(folder: Path) -> None:
    rows = [(f"r{rate}", rate, 4, s, str(v)) for rate in RATES for s, v in enumerate(losses(rate))]
    pd.DataFrame(rows, columns=["run", "lr", "batch_size", "step", "loss"]).to_csv(folder / "all.csv", index=False, sep=";")


@pytest.mark.parametrize("write", [wandb, mlflow_page, mlflow_page_without_steps, rows_of_logs])
def test_tables_of_many_runs_are_read(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "logs").mkdir()
    write(tmp_path / "logs")
    study = adopted("logs")
    assert verdicts(study) == VERDICTS and runs_table(study)["learning_rate"].tolist() == list(RATES)
    assert runs_table(study)["nonfinite_at"].tolist()[3] == 3


def test_tables_that_tell_no_runs_apart_are_refused(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/a.csv").write_text("step,loss\n1,2\n")
    with pytest.raises(BadInput, match="'logs/a.csv' must be a chart of W&B, or name the run in a column"):
        read_logs(["logs"])
    (tmp_path / "logs/a.csv").write_text("Step,owl - loss,owl - loss\n1,2,3\n")
    with pytest.raises(BadInput, match="must name each column once, it has 'owl - loss' twice"):
        read_logs(["logs"])


@pytest.mark.parametrize("from_untrained", [True, False])
def test_an_optuna_study_with_intermediate_values_is_read(from_untrained: bool) -> None:
    theirs = optuna.create_study(storage=open_storage("sqlite:///theirs.db"), study_name="theirs")
    for rate in RATES:
        trial = theirs.ask({"lr": optuna.distributions.FloatDistribution(rate, rate, log=True)})
        values = [2.1 + 0.001 * rate] * from_untrained + losses(rate)
        for step, value in enumerate(values):
            trial.report(value, step)
        theirs.tell(
            trial,
            state=None if math.isfinite(values[-1]) else optuna.trial.TrialState.FAIL,
            values=None if not math.isfinite(values[-1]) else values[-1],
        )
    study = adopted("theirs.db", study="theirs", batch_size=4)
    runs = runs_table(study)
    assert verdicts(study) == VERDICTS and runs["epochs"].tolist()[:3] == [10, 10, 10]
    assert runs["first_height"].iloc[0] == pytest.approx(2.1, rel=1e-3) if from_untrained else losses(0.01)[0]
    assert ("logged at step 0" in told(study)) == from_untrained


def test_an_optuna_study_that_maximises_is_refused() -> None:
    optuna.create_study(storage=open_storage("sqlite:///theirs.db"), study_name="theirs", direction="maximize")
    with pytest.raises(BadInput, match="study 'theirs' must minimise one loss, its directions are maximize"):
        read_logs(["theirs.db"], study="theirs")
    with pytest.raises(BadInput, match="study must be in one storage, got 2"):
        read_logs(["theirs.db", "b"], study="theirs")


@pytest.mark.filterwarnings("ignore")
def test_the_same_runs_in_two_formats_are_asked_about(tmp_path: Path) -> None:
    write_runs(tmp_path / "logs")
    (tmp_path / "logs/all.csv").write_text("run,step,loss\na,1,2\na,2,1\n")
    with pytest.raises(
        BadInput, match="format must be given, as the same runs may be there twice: 4 as metrics.csv and 1 as tables"
    ):
        read_logs(["logs"])
    assert len(read_logs(["logs"], format="metrics.csv")) == 4


def test_runs_that_all_diverged_are_reported(tmp_path: Path) -> None:
    for at, rate in enumerate(RATES):
        write_run(tmp_path / f"logs/version_{at}", [math.nan] * 2, {"lr": rate, "batch_size": 4})
    study = adopted("logs")
    assert verdicts(study) == ["divergent"] * 4 and "no finite loss was logged" in told(study)
    assert report_study(study, tmp_path / "report").exists()
    assert study.user_attrs[CONFIGURATION]["adopted_from"] == ["logs"] and judge_study(study).recommendations.empty


def test_names_and_steps_of_strangers_do_no_harm(tmp_path: Path) -> None:
    evil = tmp_path / "logs/\x1b[2J[red]"
    write_run(evil, losses(0.1), {"lr": 0.1, "batch_size": 4})
    (tmp_path / "logs/\x1b[2J").mkdir()
    (tmp_path / "logs/\x1b[2J/metrics.csv").write_text("epoch,step,train_loss\n")
    study = adopted("logs")
    assert "\x1b" not in told(study) and "'logs/\\x1b[2J'" in told(study)
    (evil / "metrics.csv").write_text("epoch,step,train_loss\n0,1e300,1\n")
    with pytest.raises(BadInput, match=r"steps of a log must be numbers below 1e\+15, got 1e\+300"):
        adopted("logs")
    (evil / "metrics.csv").write_text("epoch,step\n0,1,2,3\n0,1,2,3,4\n")
    with pytest.raises(BadInput, match="must be a table that CSVLogger wrote"):
        adopted("logs")
