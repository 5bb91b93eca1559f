"""Learning rates that this project, Lightning's ``lr_find`` and torch-lr-finder name, judged by a grid on fresh seeds."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from studies.config import count
from studies.errors import BadInput
from studies.storage.writable import require_writable

LEARNING_RATE = 0.1  # of the modules the finders are given, which choose their own


class Case(NamedTuple):
    """A network on its data, at one batch size, by plain SGD."""

    model: str
    network: dict[str, Any]
    data: str
    batch_size: int
    epochs: int
    learning_rates: tuple[float, float]


def mlp(*hidden: int) -> dict[str, Any]:
    """An MLP with these widths."""
    return {"class_path": "MLP", "init_args": {"hidden": list(hidden)}}


CONV = {"class_path": "ConvNet", "init_args": {"width": 8}}
CASES = {  # the reference grids of tests/reference, and two networks of our own
    "digits-mlp-16": Case("ImageClassifier", mlp(64), "Digits", 16, 20, (0.003, 30)),
    "digits-mlp-64": Case("ImageClassifier", mlp(64), "Digits", 64, 20, (0.003, 30)),
    "digits-mlp-256": Case("ImageClassifier", mlp(64), "Digits", 256, 20, (0.003, 30)),
    "wine-1": Case("ImageClassifier", mlp(16), "Wine", 1, 15, (0.001, 10)),
    "wine-32": Case("ImageClassifier", mlp(16), "Wine", 32, 15, (0.003, 30)),
    "diabetes-linear-331": Case("Regressor", mlp(), "Diabetes", 331, 60, (0.001, 3)),
    "digits-conv-64": Case("ImageClassifier", CONV, "Digits", 64, 8, (0.003, 30)),
    "diabetes-mlp-16": Case("Regressor", mlp(32), "Diabetes", 16, 15, (0.001, 10)),
}
STUDY_SEEDS = 3
STEPS = 100  # of a range test, by default in both libraries


def lightning_lr_find(model: Any, data: Any, *, max_lr: float) -> float | None:
    """What Lightning suggests, or None."""
    import pytorch_lightning as pl
    from pytorch_lightning.tuner.tuning import Tuner

    from studies.training.trainers import QUIET

    with tempfile.TemporaryDirectory() as folder:  # it saves the weights there and restores them
        epochs = -(-STEPS // len(data.train_dataloader())) + 1
        trainer = pl.Trainer(**QUIET, max_epochs=epochs, accelerator="cpu", default_root_dir=folder)
        finder = Tuner(trainer).lr_find(model, datamodule=data, max_lr=max_lr)
    return finder.suggestion() if finder else None


def torch_lr_finder(model: Any, data: Any) -> float | None:
    """Where the loss falls most steeply, as its ``plot`` suggests: without the first ten and the last five steps."""
    import numpy as np
    import torch
    from torch.nn.functional import cross_entropy, mse_loss
    from torch.utils.data import DataLoader

    try:
        from torch_lr_finder import LRFinder
    except ImportError as error:
        raise BadInput("torch-lr-finder must be installed, got none: pip install 'torch-lr-finder>=0.2.2'") from error

    batches = DataLoader(data.splits.train, data.batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(model.network.parameters(), lr=1e-7)  # where its README begins
    finder = LRFinder(model.network, optimizer, mse_loss if data.n_outputs == 1 else cross_entropy, device="cpu")
    finder.range_test(batches, end_lr=10, num_iter=STEPS)
    rates, losses = finder.history["lr"][10:-5], finder.history["loss"][10:-5]
    return float(rates[int(np.gradient(np.array(losses)).argmin())]) if len(losses) > 1 else None


FINDERS: dict[str, Callable[[Any, Any], float | None]] = {
    "lr_find": lambda model, data: lightning_lr_find(model, data, max_lr=1),
    "lr_find, max_lr 10": lambda model, data: lightning_lr_find(model, data, max_lr=10),
    "torch-lr-finder": torch_lr_finder,
}


def suggestion(way: str, workload: Any, batch_size: int, seed: int) -> float | None:
    """What a finder names for the module of a seed."""
    model, built = workload.build(learning_rate=LEARNING_RATE, batch_size=batch_size, seed=seed)
    data = built["datamodule"]
    data.setup()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        return FINDERS[way](model, data)  # both print and draw a bar


def compare_answers(options: dict[str, Any]) -> None:
    """Ask every way in every case and print a Markdown table: how many of its suggestions are good, and what they cost."""
    import pandas as pd

    n_fresh = count("seeds", options["seeds"])
    if options["csv"] is not None:
        require_writable(Path(options["csv"]).parent, "csv")
    rows = pd.concat([suggestions(name, CASES[name], n_fresh) for name in options["cases"]], ignore_index=True)
    if options["csv"] is not None:
        rows.to_csv(options["csv"], index=False)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "pytorch-lightning", "torch-lr-finder"))
    print(f"{libraries}; {os.cpu_count()} cores; study seeds 0 to {STUDY_SEEDS - 1}, {n_fresh} fresh seeds\n")
    ways = ["this project", *FINDERS]
    print(f"| case | good, by the fresh grid | {' | '.join(ways)} |\n|---|---|{'---|' * len(ways)}")
    for name, case in rows.groupby("case", sort=False):
        cells = [_summary(case[case["way"] == way]) for way in ways]
        print(f"| {name} | {case['good_range'].iloc[0]} | {' | '.join(cells)} |")
    for title, column in (("good runs, in all", "verdict"), ("nearest cell of the fresh grid is good", "label")):
        good = (rows[column] == "good").groupby(rows["way"])
        print(f"| {title} | | {' | '.join(f'**{good.sum()[way]}** of {good.size()[way]}' for way in ways)} |")
    epochs = rows.groupby("way")["epochs"].median()
    print(f"| epochs trained for an answer, median | | {' | '.join(f'{epochs[way]:.3g}' for way in ways)} |")


def suggestions(name: str, case: Case, n_fresh: int) -> Any:
    """A row a suggestion: the learning rate, the ``epochs`` it took, ``verdict`` and ``reason`` of its run on its own seed.

    ``label`` is the verdict of the nearest cell of the fresh grid, so of all fresh seeds; ``good_range`` what is good there.
    """
    import numpy as np
    import pandas as pd
    from rich.console import Console

    from reports import classify, classify_cells, judge
    from studies import StudyConfig, Workload, curves_table, run_study, runs_table, tables_of, train

    model = {"class_path": case.model, "init_args": {"network": case.network}}
    shape: dict[str, Any] = {"model": model, "data": case.data, "batch_size": case.batch_size, "epochs": case.epochs}
    workload, fresh = Workload.of(model, case.data), range(STUDY_SEEDS, STUDY_SEEDS + n_fresh)
    say = Console(stderr=True, highlight=False).print
    say(f"{name}: a grid on {STUDY_SEEDS} + {n_fresh} seeds")
    with tempfile.TemporaryDirectory() as folder:
        config = StudyConfig(
            **shape, sampler="grid", learning_rate=case.learning_rates, seeds=fresh.stop, storage=f"{folder}/s.db", name=name
        )
        study = run_study(config)
        runs, curves = runs_table(study), curves_table(study)
    known = runs["seed"] < STUDY_SEEDS
    truth = classify_cells(runs[~known], curves)
    use = judge(runs[known], curves).recommendations["learning_rate"]
    found = [("this project", seed, use.iloc[0] if len(use) else None, runs.loc[known, "epochs"].sum()) for seed in fresh]
    for way in FINDERS:
        say(f"{name}: {way}")
        for seed in fresh:
            rate = suggestion(way, workload, case.batch_size, seed)
            found.append((way, seed, rate, STEPS / (runs["steps"] / runs["epochs"]).max()))
    table = pd.DataFrame(found, columns=["way", "seed", "learning_rate", "epochs"])
    asked = table.dropna(subset=["learning_rate"])
    pairs = list(zip(asked["learning_rate"].astype(float), asked["seed"], strict=True))
    judged = classify(*tables_of(train(workload, pairs, batch_size=case.batch_size, epochs=case.epochs)), against=truth)
    table.loc[asked.index, ["verdict", "reason"]] = judged[["verdict", "reason"]].to_numpy()
    tried = np.log(truth["learning_rate"].to_numpy())
    for row in asked.itertuples():
        nearest = int(np.abs(tried - math.log(row.learning_rate)).argmin())
        table.loc[row.Index, "label"] = truth["verdict"].iloc[nearest]
    good = truth.loc[truth["verdict"] == "good", "learning_rate"]
    ends = f"{good.min():.3g} to {good.max():.3g}" if len(good) else "none"
    return table.assign(case=name, good_range=ends, verdict=table["verdict"].fillna("no suggestion"))


def _summary(rows: Any) -> str:
    """Such as "3 of 5 (2 too low): 0.001 to 0.3"."""
    counts = rows["verdict"].value_counts()
    others = ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if verdict != "good")
    low, high = rows["learning_rate"].min(), rows["learning_rate"].max()
    ends = f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"
    return f"{counts.get('good', 0)} of {len(rows)}{f' ({others})' * bool(others)}: {ends}"
