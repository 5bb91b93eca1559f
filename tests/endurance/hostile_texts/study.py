"""A small study with a text wherever a user's words can stand: in names, classes, metrics, options, an exception and notes."""

from __future__ import annotations

import contextlib
import functools
import re
import sqlite3
import sys
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytorch_lightning as pl
import torch
import yaml
from optuna_dashboard import save_note

from hostile_texts.texts import called
from lightning_modules import Parabola, ParabolaData
from reports import Thresholds
from studies import StudyConfig, run_study
from studies.answers import judge_study
from studies.commands.terminal import Progress, print_answer
from studies.dashboard.cards_and_notes import mirror
from studies.storage.opening import load_study

OPTIONS: dict[str, Any] = {
    "learning_rate": [0.1, 3.0],
    "points": 4,
    "batch_size": [4],
    "seeds": 3,
    "epochs": 2,
    "workers": 1,
    "fuse": "never",
}
N_RUNS = 12


class Net(Parabola):
    """A hill with options, that logs a metric of its name in training and validation and at times raises an exception of it."""

    def __init__(self, learning_rate: float = 0.1, notes: Any = None) -> None:
        super().__init__(learning_rate=learning_rate)
        self.notes = notes

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """The loss; the first learning rate fails with the second seed."""
        text = type(self).__name__
        if torch.initial_seed() == 1 and self.trainer.optimizers[0].param_groups[0]["lr"] < 0.2:
            raise type(text, (RuntimeError,), {})(self.notes["text"])
        loss = super().training_step(batch, batch_idx)
        self.log(f"seen {text}", loss.detach())
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss under a hostile name."""
        self.log(type(self).__name__, super().training_step(batch, batch_idx), batch_size=len(batch[0]))


class Data(ParabolaData):
    """A few offsets, to validate on too."""

    def __init__(self, notes: Any = None, batch_size: int = 4, seed: int = 0) -> None:
        super().__init__(n_examples=16, noise=1.0, batch_size=batch_size, seed=seed)

    def val_dataloader(self) -> Any:
        """The same."""
        return self.train_dataloader()


class Callback(pl.Callback):
    """Does nothing."""


def named(text: str) -> Iterator[tuple[str, Any]]:
    """Import path and class of our three, called by the text, in a module called by it."""
    name = called(text)
    for kind in (Net, Data, Callback):
        path = f"users_{name}.{kind.__name__}_{name}"
        parent, _, last = path.rpartition(".")
        for end in (*(match.start() for match in re.finditer(r"\.", parent)), len(parent)):  # dots: modules in modules
            sys.modules.setdefault(parent[:end], types.ModuleType(parent[:end]))
        made = type(name, (kind,), {"__module__": parent})
        setattr(sys.modules[parent], last, made)
        yield path, made


def notes_of(text: str) -> dict[str, Any]:
    """The option of a class that holds the text as a name and as a value."""
    return {"text": text, "nested": {text: [text]}}


def write_config(text: str, file: Path, *, name: str, storage: Path) -> None:
    """Write the study as a file for ``launch --config``."""
    (net, made), (data, _), (callback, _) = named(text)
    options = OPTIONS | {"name": name, "monitor": made.__name__, "storage": str(storage)}
    specs = {
        "model": {"class_path": net, "init_args": {"notes": notes_of(text)}},
        "data": {"class_path": data, "init_args": {"notes": notes_of(text)}},
        "trainer": {"callbacks": [{"class_path": callback}]},
    }
    file.write_text(yaml.safe_dump(options | specs))


def train_from_python(text: str, out: Path, *, name: str, storage: Path) -> int:
    """Train the study as a launch does, up to its report, which the command ``report`` writes again anyway."""
    net, data, callback = (made for _, made in named(text))
    given = {kind: functools.partial(made, notes=notes_of(text)) for kind, made in (("model", net), ("data", data))}
    options = OPTIONS | {"name": name, "monitor": net.__name__, "storage": str(storage)}
    with Progress(Thresholds()) as progress:
        study = run_study(StudyConfig(**options, **given, trainer={"callbacks": [callback()]}), out=out, on_run=progress)
    judged = judge_study(study)
    mirror(study, judged)
    print_answer(study.study_name, judged)
    return 0


def faults_of(storage: Path, name: str) -> Iterator[tuple[str, object]]:
    """Faults of a study that was trained: all runs are complete but the one that raises."""
    states = Counter(trial.state.name for trial in load_study(str(storage), name).trials)
    if states != {"COMPLETE": N_RUNS - 1, "FAIL": 1}:
        yield "study that is not trained", states


def rename(storage: Path, name: str, *, to: str) -> int:
    """Call the study ``to``, as other tools can, and write that into its notes and those of a run; returns its id."""
    with contextlib.closing(sqlite3.connect(storage)) as connection, connection:
        connection.execute("UPDATE studies SET study_name = ? WHERE study_name = ?", (to, name))
        found = connection.execute("SELECT study_id FROM studies WHERE study_name = ?", (to,)).fetchone()
    study = optuna.load_study(study_name=to, storage=f"sqlite:///{storage}")
    save_note(study, to)
    save_note(optuna.Trial(study, study.trials[1]._trial_id), f"{to}\n\n- {to}\n")
    study.set_user_attr(to, to)
    return int(found[0])
