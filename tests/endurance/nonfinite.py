"""A number that is not finite, put into a run at a known step: is it seen there, and in database, CSV, report and figure?"""

from __future__ import annotations

import argparse
import logging
import math
import re
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import optuna
import pandas as pd
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_modules import Digits
from reports.figures import draw_figures
from reports.pages.spreadsheet import read_csv
from reports.style import DIVERGENT, STYLES
from studies import StudyConfig, judge_study, load_study, report_study, run_study
from studies.training.fusing import Fusing

BATCH_SIZE, EPOCHS, STEPS_PER_EPOCH = 256, 3, 5  # of Digits, 1,347 training examples
LAST = EPOCHS * STEPS_PER_EPOCH  # the step after the last batch
SEEDS, RATES = 3, (0.1, 0.3)  # seed 0 stays finite, the others do not


class Breaking(pl.LightningModule):
    """A classifier with batch norm in which, for two seeds of three, one thing turns non-finite in batch ``at``, from 0.

    Numbers alone decide, no hook and no ``if``, so that it can be fused.
    """

    def __init__(self, what: str, at: int, learning_rate: float = 0.1) -> None:
        super().__init__()
        self.what, self.at, self.learning_rate = what, at, learning_rate
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
        self.spare = nn.Parameter(torch.ones(3))  # that no loss looks at
        self.register_buffer("n_batches", torch.tensor(0))
        self.register_buffer("average", torch.tensor(1.0))
        self.register_buffer("unlucky", torch.tensor(torch.initial_seed() % SEEDS > 0))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Break what is to be broken."""
        inputs, labels = batch
        if not self.training:
            return cross_entropy(self.net(inputs), labels)
        now = self.unlucky & (self.n_batches == self.at)
        self.n_batches.add_(1)
        if self.what == "batch norm":  # whose variance is too large for a float, unlike the loss
            inputs = inputs * torch.where(now, 1e25, 1.0)
        loss = cross_entropy(self.net(inputs), labels)
        if self.what == "buffer":
            self.average.add_(torch.where(now, math.inf, 0.0))
        if self.what in ("nan", "inf"):
            loss = loss + torch.where(now, float(self.what), 0.0)
        if self.what == "gradient":  # as of a norm at zero
            loss = loss + 0 * torch.where(now, 0 * self.net[1].weight.sum(), 1.0).sqrt()
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log, of a broken validation no number."""
        loss = cross_entropy(self.net(batch[0]), batch[1])
        broken = self.unlucky & (self.n_batches > self.at)
        self.log("val_loss", torch.where(broken, math.nan, loss) if self.what == "validation" else loss)

    def configure_optimizers(self) -> Any:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)


class BreakingHooks(Breaking):
    """The same in hooks, which are heard only where a module is trained alone."""

    def _breaks(self, hook: str) -> bool:
        return hook == self.what and bool(self.unlucky) and int(self.n_batches) == self.at + 1

    def on_after_backward(self) -> None:
        """Spoil a gradient, and in one case leave it out again, as mixed precision does with the whole step."""
        if self._breaks("gradient hook") or self._breaks("left out"):
            self.net[1].weight.grad[0, 0] = math.nan

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave a spoilt gradient out."""
        if self._breaks("left out"):
            self.zero_grad()

    @torch.no_grad()
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Spoil a weight between two batches."""
        if self._breaks("weight"):
            self.spare[1] = math.nan
        if self._breaks("used weight"):
            self.net[4].weight.data[0, 0] = math.inf
        if self._breaks("new buffer"):
            self.average = torch.tensor(-math.inf)

    def on_train_epoch_end(self) -> None:
        """Spoil a weight after a validation."""
        if self._breaks("epoch end"):
            self.spare.data.fill_(math.nan)


@dataclass(frozen=True)
class Case:
    """What breaks in which batch, whether fused, and the first step that is not finite by the words of ``recorder.Record``.

    expected: None where nothing the verdicts look at breaks.
    """

    name: str
    what: str
    at: int
    expected: int | None
    fused: bool = False

    @property
    def model(self) -> partial[Breaking]:
        """Makes the module that breaks so."""
        return partial(Breaking if self.fused else BreakingHooks, self.what, self.at)

    @property
    def shown(self) -> int | None:
        """The first step that is not finite in what a run leaves, also where only validation is not."""
        return (self.at // STEPS_PER_EPOCH + 1) * STEPS_PER_EPOCH if self.what == "validation" else self.expected


def cases(middle: int) -> list[Case]:
    """All of them; middle: a batch between the first and the last."""
    both = [
        Case("loss NaN, first step", "nan", 0, 0),
        Case("loss NaN, in the middle", "nan", middle, middle),
        Case("loss NaN, last step", "nan", LAST - 1, LAST - 1),
        Case("loss inf, in the middle", "inf", middle, middle),
        Case("only validation", "validation", middle, None),
        Case("only gradients, first step", "gradient", 0, 1),
        Case("only gradients, in the middle", "gradient", middle, middle + 1),
        Case("only a buffer", "buffer", middle, middle + 1),
        Case("only averages of batch norm", "batch norm", middle, middle + 1),
        Case("only averages of batch norm, last step", "batch norm", LAST - 1, LAST),
    ]
    hooks = [
        Case("only a gradient, by a hook", "gradient hook", middle, middle + 1),
        Case("only gradients, step left out", "left out", middle, None),
        Case("only a weight that no loss uses", "weight", middle, middle + 1),
        Case("only a weight in use", "used weight", middle, middle + 1),
        Case("only a buffer, replaced", "new buffer", middle, middle + 1),
        Case("only a weight, after the last step", "epoch end", LAST - 1, LAST),
    ]
    return both + [replace(case, fused=True) for case in both] + hooks


def train_case(case: Case, folder: Path) -> optuna.Study:
    """The study of a case, read back from its database in ``folder``: two learning rates, three seeds."""
    config = StudyConfig(
        model=case.model,
        data=Digits,
        learning_rate=RATES,
        points=len(RATES),
        batch_size=BATCH_SIZE,
        seeds=SEEDS,
        epochs=EPOCHS,
        workers=1,
        name="breaking",
        storage=str(folder / "studies.db"),
    )
    members = SEEDS * len(RATES) if case.fused else 1
    with patch.object(Fusing, "_choose", return_value=(members, "as this script wants it")):
        run_study(config)
    return load_study(config.storage, "breaking")


class Outcome(NamedTuple):
    """What became of a case.

    found: the first step that is not finite, or all that were found where the broken runs disagree.
    late: steps trained beyond it. Others: whether it is there for every run that broke and no other.
    """

    found: str
    late: int
    database: bool
    csv: bool
    report: bool
    figure: bool

    def misses(self, case: Case) -> bool:
        """Whether anything is not as expected."""
        return self.found != str(case.shown) or self.late > 1 or not all(self[2:])


def look(case: Case, study: optuna.Study, folder: Path) -> Outcome:
    """Write the report of a study into ``folder`` and look everywhere."""
    trials, judged = study.get_trials(), judge_study(study)
    report_study(study, folder, judged)
    broken = [trial for trial in trials if breaks(trial.params["seed"])]
    if case.what == "validation":
        steps = {first_bad(judged.curves, trial.number, "val_loss") for trial in broken}
    else:
        steps = {trial.user_attrs["nonfinite_at"] for trial in broken}
    last = max(trial.user_attrs["facts"]["steps"] for trial in broken)
    return Outcome(
        found=", ".join(sorted(map(str, steps))),
        late=0 if case.expected is None else last - case.expected,
        database=len(trials) == SEEDS * len(RATES) and all(is_stored(case, trial) for trial in trials),
        csv=is_in_tables(case, read_csv(folder / "runs.csv"), read_csv(folder / "curves.csv")),
        report=all(is_told(case, (folder / name).read_text()) for name in ("report.html", "report.md")),
        figure=is_drawn(case, draw_figures(judged), len(broken)),
    )


def breaks(seed: int) -> bool:
    """Whether the runs of a seed break."""
    return seed % SEEDS > 0


def is_stored(case: Case, trial: FrozenTrial) -> bool:
    """Complete, with its step and the value inf where it broke."""
    broke = breaks(trial.params["seed"])
    lost = broke and case.shown is not None
    value = trial.value is not None and (trial.value == math.inf if lost else math.isfinite(trial.value))
    at = trial.user_attrs["nonfinite_at"]
    return trial.state is TrialState.COMPLETE and value and at == (case.expected if broke else None)


def is_in_tables(case: Case, runs: pd.DataFrame, curves: pd.DataFrame) -> bool:
    """In the row of each run that broke and in its curve; and they were trained as they should."""
    if runs["member_of"].nunique() != (1 if case.fused else len(runs)):
        return False
    for run in runs.to_dict("records"):
        expected, shown = (case.expected, case.shown) if breaks(run["seed"]) else (None, None)
        of_curves = {"height": expected, "val_loss": shown if expected is None else None}
        rows = {"final_height": expected is None, "val_loss": shown is None}
        if (
            (None if pd.isna(run["nonfinite_at"]) else run["nonfinite_at"]) != expected
            or any(first_bad(curves, run["trial"], metric) != step for metric, step in of_curves.items())
            or any(math.isfinite(run[column]) != finite for column, finite in rows.items())
        ):
            return False
    return True


def first_bad(curves: pd.DataFrame, trial: int, metric: str) -> int | None:
    """The first step at which a curve is not finite."""
    rows = curves[(curves["trial"] == trial) & (curves["metric"] == metric) & ~np.isfinite(curves["value"])]
    return int(rows["step"].min()) if len(rows) else None


def is_told(case: Case, page: str) -> bool:
    """With its step, and no other step."""
    found = set(
        re.findall(r"turned non-finite at step \d+ in \d|validation loss was not finite in [^(]* first at step \d+", page)
    )
    if case.what == "validation":
        bad = EPOCHS - case.at // STEPS_PER_EPOCH
        return found == {f"validation loss was not finite in {bad} of {EPOCHS} validations, first at step {case.shown}"}
    return found == (set() if case.expected is None else {f"turned non-finite at step {case.expected} in {SEEDS - 1}"})


def is_drawn(case: Case, figures: Mapping[str, Figure], n_broken: int) -> bool:
    """A divergent mark on the top edge of the learning curves for each run; of a validation a mark for each cell on its own."""
    curves, validation = figures["learning_curves"].axes[0], figures["loss_and_metric"].axes[0]
    marks = [line for line in curves.lines if line.get_marker() == STYLES[DIVERGENT].marker]
    heights = np.concatenate([np.empty(0), *(np.asarray(line.get_ydata(), dtype=float) for line in marks)])
    at_top = int(np.isclose(heights, curves.get_ylim()[1]).sum())
    cells = np.concatenate([np.asarray(marks.get_offsets())[:, 1] for marks in validation.collections])
    cells_at_top = int(np.isclose(cells, validation.get_ylim()[1]).sum())
    return at_top == (0 if case.expected is None else n_broken) and (case.what != "validation" or cells_at_top == len(RATES))


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="times that all cases are gone through, each with another step")
    parser.add_argument("--seed", type=int, default=0, help="of the steps in the middle")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Go through all cases; 1 when one was missed."""
    args = parse_args(argv)
    warnings.filterwarnings("ignore", ".*does not have many workers")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    missed = 0
    table = Table("case", "trained", "first step", "found", "late", "database", "CSV", "report", "figure")
    for middle in np.random.default_rng(args.seed).integers(1, LAST - 1, args.rounds).tolist():
        for case in cases(middle):
            with tempfile.TemporaryDirectory() as folder:
                outcome = look(case, train_case(case, Path(folder)), Path(folder) / "report")
            missed += outcome.misses(case)
            there = ["yes" if each else "MISSED" for each in outcome[2:]]
            trained = "fused" if case.fused else "alone"
            table.add_row(case.name, trained, str(case.shown), outcome.found, str(outcome.late), *there)
    Console(width=140).print(table)
    print(f"{table.row_count - missed} of {table.row_count} cases are seen within 1 step, at their step, everywhere")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
