"""Hold this project against the alternatives, side by side in one run: ``mnist`` for speed, ``finders`` for the answer.
And against its own size: ``report`` for what judging a study of many runs takes.

``mnist`` times one run of MNIST (MLP 784-128-10) four ways in turn; printed are median and range of ``--repeats`` runs, in
seconds an epoch, and the ratio to the plain loop. The naive way is what a tutorial shows: Lightning, torchvision's
transforms and a DataLoader. Times of a run include everything from building the data module on.

``finders`` asks this project, Lightning's ``lr_find`` and torch-lr-finder for a learning rate and trains what each names on
fresh seeds. A study on seeds 0, 1, 2 names one learning rate a batch size; a finder names one for each fresh seed. All are
judged by the floor and the fastest of a grid that was trained on the fresh seeds alone.

``report`` stores synthetic runs, whose verdicts are known from how they were made, as a study stores its own, and times the
way from the storage to the finished report, a process a size, with its peak memory.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from studies.command_line import make_parser, parse, run
from studies.config import count

LEARNING_RATE, SEED, BATCH_SIZE = 0.1, 0, 64
ARGUMENTS = {"input_shape": (1, 28, 28), "n_outputs": 10, "hidden": (128,)}


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The options; ``subcommand`` says which benchmark."""
    mnist = make_parser()
    mnist.add_argument("--data-root", default="data", metavar="FOLDER", help="the folder that holds MNIST/raw (default: data)")
    mnist.add_argument("--repeats", type=Any, default=3, metavar="N", help="turns of each way (default: 3)")
    mnist.add_argument("--epochs", type=Any, default=2, metavar="N", help="passes over the training set (default: 2)")
    finders = make_parser()
    finders.add_argument(
        "--cases", nargs="+", default=list(CASES), metavar="NAME", help=f"of {', '.join(CASES)} (default: all)"
    )
    finders.add_argument("--seeds", type=Any, default=5, metavar="N", help="fresh seeds (default: 5)")
    finders.add_argument("--csv", default=None, metavar="FILE", help="also write a row a suggestion (default: none)")
    report = make_parser()
    report.add_argument(
        "--trials", type=Any, nargs="+", default=[1000, 3000, 10000], metavar="N", help="runs of each study (1000 3000 10000)"
    )
    report.add_argument("--folder", default=None, metavar="FOLDER", help="where to keep studies and reports (default: nowhere)")
    alone = "do one part of it, in this process: what is started for each size"
    report.add_argument("--part", default=None, choices=("store", "time"), metavar="store|time", help=alone)
    parser = make_parser(__doc__)
    commands = parser.add_subcommands()
    commands.add_subcommand("mnist", mnist, help="time one run of MNIST four ways")
    commands.add_subcommand("finders", finders, help="compare learning rates with those of lr_find and torch-lr-finder")
    commands.add_subcommand("report", report, help="time the report of synthetic studies of many runs")
    return parse(parser, argv)


def project(root: str, epochs: int) -> None:
    """One run as a study trains it: heights, validation, checks for non-finite values."""
    from studies import Workload, train

    network = {"class_path": "MLP", "init_args": {"hidden": [128]}}
    model = {"class_path": "ImageClassifier", "init_args": {"network": network}}
    workload = Workload.of(model, {"class_path": "MNIST", "init_args": {"root": root}})
    train(workload, [(LEARNING_RATE, SEED)], batch_size=BATCH_SIZE, epochs=epochs)


def without_recorder(root: str, epochs: int) -> None:
    """The same fit by Lightning from the same tensors, with nothing recorded."""
    import pytorch_lightning as pl

    from lightning_modules import MLP, MNIST, ImageClassifier
    from studies.trainers import QUIET

    pl.seed_everything(SEED, verbose=False)
    model = ImageClassifier(MLP(**ARGUMENTS), learning_rate=LEARNING_RATE)
    pl.Trainer(**QUIET, max_epochs=epochs).fit(model, datamodule=MNIST(BATCH_SIZE, SEED, root=root))


def plain_loop(root: str, epochs: int) -> None:
    """A hand-written loop over float tensors, validation at the end of each epoch, nothing recorded."""
    import torch
    from torch.nn.functional import cross_entropy

    from lightning_modules import MLP, MNIST

    data = MNIST(root=root)
    data.batch_size = data.n_train
    inputs, labels = next(iter(data.train_dataloader()))
    held_out = list(data.val_dataloader())
    torch.manual_seed(SEED)
    network = MLP(**ARGUMENTS)
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    for _ in range(epochs):
        order = torch.randperm(len(labels))
        for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            loss = cross_entropy(network(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            sum(float(cross_entropy(network(x), y)) for x, y in held_out)


def naive(root: str, epochs: int) -> None:
    """Lightning's defaults (no logger or checkpoint files), torchvision's transforms, a DataLoader."""
    import pytorch_lightning as pl
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import MNIST

    from lightning_modules import MLP, ImageClassifier

    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    pl.seed_everything(SEED, verbose=False)
    loaders = [DataLoader(MNIST(root, train=part, transform=steps), BATCH_SIZE, shuffle=part) for part in (True, False)]
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(max_epochs=epochs, **quiet)
    trainer.fit(ImageClassifier(MLP(**ARGUMENTS), learning_rate=LEARNING_RATE), *loaders)


def compare_speed(options: dict[str, Any]) -> None:
    """Time all ways in turn and print a Markdown table."""
    repeats, epochs = count("repeats", options["repeats"]), count("epochs", options["epochs"])
    ways: dict[str, Callable[[str, int], None]] = {
        "plain loop over tensors": plain_loop,
        "this project": project,
        "this project without its recorder": without_recorder,
        "naive: DataLoader and transforms": naive,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    project(options["data_root"], 1)  # warm up: imports, the data
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way(options["data_root"], epochs)
            seconds[name].append((time.perf_counter() - began) / epochs)
    base = statistics.median(seconds["plain loop over tensors"])
    print("| way | s an epoch, median (range) | ratio |\n|---|---|---|")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"| {name} | {median:.2f} ({min(times):.2f} to {max(times):.2f}) | {median / base:.2f} |")


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

    from studies.trainers import QUIET

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
        raise ValueError("torch-lr-finder must be installed, got none: pip install 'torch-lr-finder>=0.2.2'") from error

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


def compare_answers(options: dict[str, Any]) -> None:
    """Ask every way in every case and print a Markdown table: how many of its suggestions are good, and what they cost."""
    import pandas as pd

    n_fresh = count("seeds", options["seeds"])
    for name in options["cases"]:
        if name not in CASES:
            raise ValueError(f"cases must be of {', '.join(CASES)}, got {name!r}")
    if options["csv"] is not None:
        from studies.storage import require_writable

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
        config = StudyConfig(**shape, learning_rate=case.learning_rates, seeds=fresh.stop, storage=f"{folder}/s.db", name=name)
        study = run_study(config)
        runs, curves = runs_table(study), curves_table(study)
    known = runs["seed"] < STUDY_SEEDS
    truth = classify_cells(runs[~known], curves)
    use = judge(runs[known], curves).recommendations["learning_rate"]
    found = [("this project", seed, use.iloc[0] if len(use) else None, runs.loc[known, "epochs"].sum()) for seed in fresh]
    for way, find in FINDERS.items():
        say(f"{name}: {way}")
        for seed in fresh:
            model_of_seed, built = workload.build(learning_rate=LEARNING_RATE, batch_size=case.batch_size, seed=seed)
            data = built["datamodule"]
            data.setup()
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                rate = find(model_of_seed, data)  # both print and draw a bar
            found.append((way, seed, rate, STEPS / len(data.train_dataloader())))
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


SEEDS, EPOCHS, N_TRAIN = 30, 10, 5_000  # of a synthetic study
FASTEST = {16: 0.1, 64: 0.2, 256: 0.4}  # middle of the good range, by batch size
START, FLOOR, TIME = 2.3, 0.1, 1.0  # untrained height, lowest height, and the epochs the fastest takes to the bottom
EDGES = (-0.2 - math.log10(3), 0.6, 1.2)  # in decades from the middle: three times the time; hovers; turns non-finite
WORDS = ("too low", "good", "too high", "divergent")
COLUMNS = "runs | tables (s) | judging (s) | report (s) | all (s) | figures alone (s) | peak (MB) | page (MB) | as made"


def measure_reports(options: dict[str, Any]) -> None:
    """Store and report a study of each size, each in a process of its own, and print a Markdown table."""
    sizes = [count("trials", n) for n in options["trials"]]
    if options["part"] is not None and options["folder"] is None:
        raise ValueError(f"folder must be given where one part is done alone, got none for {options['part']!r}")
    if options["folder"] is not None:
        from studies.storage import require_writable

        require_writable(Path(options["folder"]), "folder")
    if options["part"] is not None:
        {"store": store_synthetic, "time": time_report}[options["part"]](sizes[0], Path(options["folder"]))
        return
    print(f"| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}", flush=True)
    with tempfile.TemporaryDirectory() as nowhere:
        for n in sizes:
            arguments = ["report", "--trials", str(n), "--folder", options["folder"] or nowhere]
            for part in ("store", "time"):  # this process stays small: what it starts would inherit its peak memory
                subprocess.run([sys.executable, __file__, *arguments, "--part", part], check=True)


def store_synthetic(n: int, folder: Path) -> None:
    """Store what is missing of a study of ``n`` synthetic runs in ``folder``: about 20 ms a run."""
    import numpy as np
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.trial import create_trial

    from studies.storage import open_storage
    from studies.tables import facts_of

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(f"sqlite:///{folder / f'{n}.db'}")
    study = optuna.create_study(study_name=str(n), storage=storage, load_if_exists=True)
    rates = np.geomspace(0.001, 30, max(-(-n // (SEEDS * len(FASTEST))), 10)).tolist()
    cells = [(rate, size, seed) for seed in range(SEEDS) for size in FASTEST for rate in rates][:n]
    space = {"learning_rate": FloatDistribution(rates[0], rates[-1], log=True), "seed": IntDistribution(0, SEEDS - 1)}
    space |= {"batch_size": CategoricalDistribution(tuple(FASTEST))}
    random = np.random.default_rng(n)
    for rate, size, seed in cells[len(study.get_trials(deepcopy=False)) :]:
        run, verdict = synthetic_run(rate, size, seed, random=random)
        params = {"learning_rate": rate, "batch_size": size, "seed": seed}
        study.add_trial(
            create_trial(
                params=params,
                distributions=dict(space),
                value=run.value,
                user_attrs=facts_of(run),
                system_attrs={"fixed_params": params, "made": verdict},
            )
        )


def synthetic_run(rate: float, batch_size: int, seed: int, *, random: Any) -> tuple[Any, str]:
    """A run as training returns it, and the verdict it was made to get; its seed moves the edges by 0.05 decades or so."""
    import numpy as np

    from reports import final_height
    from studies import Run

    place = math.log10(rate / FASTEST[batch_size]) + random.normal(0, 0.05)
    verdict = WORDS[sum(place > edge for edge in EDGES)]
    an_epoch = N_TRAIN // batch_size
    total = EPOCHS * an_epoch
    steps = np.unique(np.concatenate([[0, 1, 2, 4, 8, 16], np.linspace(0, total, 45).round()]).astype(int))
    progress = 1 - 0.1 ** (steps / an_epoch / (TIME * 10 ** max(-0.2 - place, 0)))
    if verdict == "too high":
        progress = np.minimum(progress, 0.6) - random.uniform(0, 0.2, len(steps)) * (steps > 0)
    heights = (START - (START - FLOOR) * progress) * random.normal(1, 0.002, len(steps))
    bad = None
    if verdict == "divergent":
        bad = int(steps[random.integers(3, 12)])
        steps = steps[steps <= bad]
        heights = np.where(steps < bad, START * 10.0 ** np.arange(len(steps)), math.inf)
    done = bad or total
    validated = np.arange(an_epoch, done + 1, an_epoch)
    losses = np.interp(validated, steps, heights) + 0.05 + 0.01 * np.arange(len(validated))
    curves = {
        "height": (steps.tolist(), heights.tolist()),
        "minibatch_loss": (steps[:-1].tolist(), (heights[:-1] * random.normal(1, 0.1, len(steps) - 1)).tolist()),
        "val_accuracy": (validated.tolist(), np.exp(-losses / 2).tolist()),
        "val_loss": (validated.tolist(), losses.tolist()),
    }
    curves = {name: points for name, points in curves.items() if points[0]}
    final = final_height(steps.astype(float), heights)
    run = Run(
        learning_rate=rate,
        batch_size=batch_size,
        seed=seed,
        epochs=done / an_epoch,
        steps=done,
        examples=done * batch_size,
        seconds=0.001 * done,
        nonfinite_at=bad,
        first_height=float(heights[0]),
        final_height=final,
        validation_examples=450,
        value=math.inf if bad else float(losses[-1]),
        metrics={} if bad else {name: curves[name][1][-1] for name in ("val_accuracy", "val_loss")},
        curves=curves,
    )
    return run, verdict


def time_report(n: int, folder: Path) -> None:
    """Print a row of the table: the report of the study of ``n`` runs in ``folder``, of this process, by its parts."""
    import resource

    from reports import judge
    from reports.folder import draw_pictures
    from studies import curves_table, load_study, report_study, runs_table

    began = time.perf_counter()
    study = load_study(str(folder / f"{n}.db"), str(n))
    runs, curves = runs_table(study), curves_table(study)
    read = time.perf_counter()
    judged = judge(runs, curves)
    ready = time.perf_counter()
    page = report_study(study, folder / str(n), judged)
    written = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    draw_pictures(judged)
    drawn = time.perf_counter()
    made = [trial.system_attrs["made"] for trial in study.get_trials(deepcopy=False)]
    seconds = (read - began, ready - read, written - ready, written - began, drawn - written)
    numbers = [f"{value:.1f}" for value in seconds] + [f"{peak:.0f}", f"{page.stat().st_size / 1e6:.1f}"]
    print(f"| {n:,} | {' | '.join(numbers)} | {100 * (judged.runs['verdict'] == made).mean():.1f} % |", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark that was asked for."""
    options = parse_args(argv)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    commands = {"mnist": compare_speed, "finders": compare_answers, "report": measure_reports}
    commands[options["subcommand"]](options[options["subcommand"]])
    return 0


if __name__ == "__main__":
    sys.exit(run(main, "benchmark"))
