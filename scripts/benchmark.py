"""Hold this project against the alternatives, side by side in one run: ``speed`` for the time, ``finders`` for the answer.
And against its own size: ``report`` for what judging a study of many runs takes.

``speed`` trains the same runs (learning rates times seeds, with validation after each epoch) in several ways in turn and prints
the median and range of ``--repeats`` turns. The naive way is what a tutorial shows: Optuna, Lightning's defaults and a
DataLoader. The plain loop is written by hand over tensors in memory, run after run; with heights it also measures what this
project does. Ray Tune trains the naive runs, one a core. The ways that train run after run are timed on some of the runs and
multiplied. This project's times are of whole studies: preflight, measuring, storage, and the start of the workers where there
are two; the report is not included. The limit is the arithmetic of all training steps at the speed of one large matrix product.

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
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from studies.command_line import make_parser, parse, run
from studies.config import count

LEARNING_RATE = 0.1


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The options; ``subcommand`` says which benchmark."""
    speed = make_parser()
    speed.add_argument("--works", nargs="+", default=list(WORKS), metavar="NAME", help=f"of {', '.join(WORKS)} (default: all)")
    speed.add_argument("--ways", nargs="+", default=list(WAYS), metavar="NAME", help=f"of {', '.join(WAYS)} (default: all)")
    speed.add_argument("--data-root", default="data", metavar="FOLDER", help="the folder that holds MNIST/raw (default: data)")
    speed.add_argument("--repeats", type=Any, default=3, metavar="N", help="turns of each way (default: 3)")
    speed.add_argument("--members", nargs="*", default=[1, 4, 16, 64, 256], type=Any, metavar="N", help=HELP_MEMBERS)
    speed.add_argument("--out", default="outputs/speed", metavar="FOLDER", help="where the tables go (default: outputs/speed)")
    speed.add_argument("--part", default=None, type=Any, metavar="N", help="only train N members of the first work in one fit")
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
    commands.add_subcommand("speed", speed, help="time the same studies by this project, by hand, naively and by Ray Tune")
    commands.add_subcommand("finders", finders, help="compare learning rates with those of lr_find and torch-lr-finder")
    commands.add_subcommand("report", report, help="time the report of synthetic studies of many runs")
    return parse(parser, argv)


class Work(NamedTuple):
    """Runs that every way trains: learning rates from 0.001 to 0.3, at which none diverges and so none stops early."""

    data: str
    network: str
    arguments: dict[str, Any]
    batch_size: int
    points: int
    seeds: int
    epochs: int
    timed: int  # runs a way that trains one after the other is timed on

    @property
    def members(self) -> list[tuple[float, int]]:
        """Learning rate and seed of each run."""
        rates = [0.001 * 300 ** (k / (self.points - 1)) for k in range(self.points)]
        return [(rate, seed) for rate in rates for seed in range(self.seeds)]


WORKS = {
    "digits-mlp": Work("Digits", "MLP", {"hidden": (64,)}, 32, points=16, seeds=3, epochs=10, timed=12),
    "digits-mlp-long": Work("Digits", "MLP", {"hidden": (64,)}, 32, points=16, seeds=3, epochs=50, timed=3),
    "mnist-mlp": Work("MNIST", "MLP", {"hidden": (128,)}, 64, points=16, seeds=1, epochs=2, timed=2),
    "mnist-mlp-long": Work("MNIST", "MLP", {"hidden": (128,)}, 64, points=16, seeds=1, epochs=10, timed=1),
    "mnist-conv": Work("MNIST", "ConvNet", {"width": 8}, 64, points=8, seeds=1, epochs=1, timed=1),
}
HELP_MEMBERS = "members trained in one fit, of which time and memory are told (default: 1 4 16 64 256)"


def make_data(work: Work, root: str) -> Any:
    """The data module of a work."""
    import lightning_modules

    kind = getattr(lightning_modules, work.data)
    return kind(work.batch_size, **({"root": root} if work.data == "MNIST" else {}))


def make_network(work: Work) -> Any:
    """The network of a work, with the weights of the moment."""
    import lightning_modules

    shape = (1, 28, 28) if work.data == "MNIST" else (1, 8, 8)
    return getattr(lightning_modules, work.network)(shape, 10, **work.arguments)


def specs(work: Work, root: str) -> dict[str, Any]:
    """Model and data of a work, as a study takes them."""
    arguments = {name: list(value) if isinstance(value, tuple) else value for name, value in work.arguments.items()}
    network = {"class_path": work.network, "init_args": arguments}
    data = {"class_path": work.data, "init_args": {"root": root} if work.data == "MNIST" else {}}
    return {"model": {"class_path": "ImageClassifier", "init_args": {"network": network}}, "data": data}


def study(work: Work, root: str, **options: Any) -> None:
    """This project: a whole study, its storage in a file."""
    from studies import StudyConfig, run_study

    rates = [rate for rate, _ in work.members]
    with tempfile.TemporaryDirectory() as folder:
        config = StudyConfig(
            **specs(work, root),
            learning_rate=(rates[0], rates[-1]),
            points=work.points,
            seeds=work.seeds,
            batch_size=work.batch_size,
            epochs=work.epochs,
            storage=f"{folder}/studies.db",
            **options,
        )
        run_study(config, out=folder)


def plain_loop(work: Work, root: str, members: Sequence[tuple[float, int]], *, heights: bool = False) -> None:
    """A hand-written loop over float tensors, run after run."""
    import torch
    from torch.nn.functional import cross_entropy

    from lightning_modules.recorder import probe_steps

    data = make_data(work, root)
    data.batch_size = data.n_train
    inputs, labels = next(iter(data.train_dataloader()))
    held_out, probe = list(data.val_dataloader()), data.probe_batches()
    steps = set(probe_steps(len(labels) // work.batch_size, work.epochs)) if heights else set()
    for learning_rate, seed in members:
        torch.manual_seed(seed)
        network = make_network(work)
        optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
        step = 0
        for _ in range(work.epochs):
            order = torch.randperm(len(labels))
            for start in range(0, len(order) - work.batch_size + 1, work.batch_size):
                rows = order[start : start + work.batch_size]
                loss = cross_entropy(network(inputs[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
                if step in steps:
                    with torch.no_grad():
                        sum(float(cross_entropy(network(x), y)) for x, y in probe)
            with torch.no_grad():
                sum(float(cross_entropy(network(x), y)) for x, y in held_out)


def naive_run(work: Work, root: str, learning_rate: float, seed: int) -> float:
    """Lightning as it comes, with logger, checkpoints and bar, and a DataLoader; of MNIST with torchvision's transforms."""
    import pytorch_lightning as pl
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import MNIST

    from lightning_modules import ImageClassifier

    pl.seed_everything(seed, verbose=False)
    if work.data == "MNIST":
        steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
        parts: list[Any] = [MNIST(root, train=part, transform=steps) for part in (True, False)]
    else:
        parts = list(make_data(work, root).splits)
    loaders = [DataLoader(part, work.batch_size, shuffle=part is parts[0]) for part in parts]
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        trainer = pl.Trainer(max_epochs=work.epochs, default_root_dir=folder)
        trainer.fit(ImageClassifier(make_network(work), learning_rate=learning_rate), *loaders)
    return float(trainer.callback_metrics["val_loss"])


def naive(work: Work, root: str, members: Sequence[tuple[float, int]]) -> None:
    """The naive runs driven by Optuna."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    left = iter(members)

    def objective(trial: Any) -> float:
        rate, seed = next(left)
        return naive_run(work, root, trial.suggest_float("learning_rate", rate, rate), seed)

    with tempfile.TemporaryDirectory() as folder:
        optuna.create_study(storage=f"sqlite:///{folder}/studies.db").optimize(objective, n_trials=len(members))


def ray_tune(work: Work, root: str, members: Sequence[tuple[float, int]]) -> None:
    """The naive runs by Ray Tune, a core each; Ray is running already."""
    from ray import tune

    where = str(Path(root).resolve())

    def trainable(config: dict[str, Any]) -> None:
        tune.report({"val_loss": naive_run(work, where, *config["member"])})

    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"run_config": tune.RunConfig(verbose=0, storage_path=folder)}
        options |= {"tune_config": tune.TuneConfig(reuse_actors=True)}  # else each run imports PyTorch anew
        tune.Tuner(trainable, param_space={"member": tune.grid_search(list(members))}, **options).fit()


def start_ray() -> None:
    """Start Ray on this machine, workers that import from here."""
    try:
        import ray
    except ImportError as error:
        raise ValueError("ray must be installed, got none: pip install 'ray[tune]>=2.40', or give --ways without it") from error
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}  # what is imported here is there too
    quiet = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
    ray.init(num_cpus=os.cpu_count(), runtime_env=environment, **quiet)


ONE_BY_ONE: dict[str, Callable[..., None]] = {
    "naive": naive,
    "ray-tune": ray_tune,
    "plain-loop": plain_loop,
    "plain-loop-heights": partial(plain_loop, heights=True),
}
STUDIES: dict[str, dict[str, Any]] = {
    "alone": {"fuse": "never", "workers": 1},
    "fused": {"workers": 1},
    "fused-2-workers": {"workers": 2},
    "auto": {},
}
WAYS = (*ONE_BY_ONE, *STUDIES)


def time_way(way: str, work: Work, root: str) -> float:
    """Seconds of all runs of a work."""
    timed = work.timed * 2 if way == "ray-tune" else work.timed  # two at a time
    members = work.members[: min(timed, len(work.members))]
    began = time.perf_counter()
    if way in STUDIES:
        study(work, root, **STUDIES[way])
        return time.perf_counter() - began
    ONE_BY_ONE[way](work, root, members)
    return (time.perf_counter() - began) * len(work.members) / len(members)


def matmul_speed() -> float:
    """Floating-point operations a second of one matrix product, on as many threads as everything else here."""
    import torch

    n = 1024
    a, b = torch.randn(n, n), torch.randn(n, n)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - began)
    return 2 * n**3 / statistics.median(times)


def operations(work: Work, root: str) -> float:
    """Floating-point operations of all training steps of a work, as PyTorch counts them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    data, network = make_data(work, root), make_network(work)
    batches = data.train_dataloader()
    inputs, labels = next(iter(batches))
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.cross_entropy(network(inputs), labels).backward()
    return counter.get_total_flops() * len(batches) * work.epochs * len(work.members)


def compare_speed(options: dict[str, Any]) -> None:
    """Time all ways in turn; print Markdown tables and write them, and a row a turn as CSV."""
    import pandas as pd

    from studies.places import require_writable

    repeats, root = count("repeats", options["repeats"]), options["data_root"]
    for name, known in (("works", WORKS), ("ways", WAYS)):
        for value in options[name]:
            if value not in known:
                raise ValueError(f"{name} must be of {', '.join(known)}, got {value!r}")
    members = [count("members", value) for value in options["members"]]
    if options["part"] is not None:
        time_members(count("part", options["part"]), WORKS[options["works"][0]], root)
        return
    require_writable(Path(options["out"]), "out")
    if "ray-tune" in options["ways"]:
        start_ray()
    peak, rows = matmul_speed(), []
    warm_up = WORKS["digits-mlp"]._replace(epochs=1, points=2, seeds=1)
    for way in options["ways"]:  # imports
        if way != "fused-2-workers":
            time_way(way, warm_up, root)
    for name in options["works"]:
        for turn in range(repeats):
            for way in options["ways"]:
                rows.append({"work": name, "way": way, "turn": turn, "seconds": time_way(way, WORKS[name], root)})
                print(f"{name} {way} {rows[-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "pytorch-lightning", "optuna"))
    threads = os.environ.get("OMP_NUM_THREADS", "any number of")
    lines = [
        f"{os.cpu_count()} cores, {threads} threads a process, one matrix product {peak / 1e9:.0f} GFLOP/s; {versions}",
        "",
        "| work | way | seconds, median (range) | naive / it | plain loop / it |",
        "|---|---|---|---|---|",
    ]
    for name, of_work in table.groupby("work", sort=False):
        seconds = of_work.groupby("way", sort=False)["seconds"]
        medians = seconds.median()
        for way, times in seconds:
            cells = [f"{medians[base] / medians[way]:.2f}" if base in medians else "" for base in ("naive", "plain-loop")]
            lines.append(
                f"| {name} | {way} | {medians[way]:.1f} ({times.min():.1f} to {times.max():.1f}) | {' | '.join(cells)} |"
            )
        limit = operations(WORKS[str(name)], root) / peak
        cells = [f"{medians[base] / limit:.2f}" if base in medians else "" for base in ("naive", "plain-loop")]
        lines.append(f"| {name} | limit | {limit:.2f} | {' | '.join(cells)} |")
    lines += ["", "| work | members in one fit | ms a step and member | peak memory, MB |", "|---|---|---|---|"]
    for name in [name for name in options["works"] if not name.endswith("-long")]:
        for n in members:
            command = [sys.executable, __file__, "speed", "--works", name, "--part", str(n), "--data-root", root]
            lines.append(f"| {name} " + subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    print("\n".join(lines))
    Path(options["out"]).mkdir(parents=True, exist_ok=True)
    (Path(options["out"]) / "speed.md").write_text("\n".join(lines) + "\n")
    table.to_csv(Path(options["out"]) / "speed.csv", index=False)


def peak_memory() -> float:
    """The most memory this process has held, in MB."""
    import resource

    if sys.platform == "linux":  # where the other figure begins with that of the parent
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def time_members(n: int, work: Work, root: str) -> None:
    """Print a row of the table of members: training steps of n of them in one fit by this process."""
    from studies import Workload
    from studies.fusing import time_alone, time_fused
    from studies.memory import keep_freed_memory
    from studies.training import fixed_of

    keep_freed_memory()
    workload = Workload.of(**specs(work, root))
    fixed, members = fixed_of(workload, work.batch_size), [(0.01 + 0.0001 * k, 0) for k in range(n)]
    if n == 1:
        seconds, _ = time_alone(workload, members[0], work.batch_size, STEPS, fixed)
    else:
        seconds, _ = time_fused(workload, members, work.batch_size, STEPS, fixed)
    peak = peak_memory()
    print(f"| {n} | {1000 * seconds / n:.3f} | {peak:.0f} |", flush=True)


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
        from studies.places import require_writable

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
        from studies.places import require_writable

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
    peak = peak_memory()
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
    commands = {"speed": compare_speed, "finders": compare_answers, "report": measure_reports}
    commands[options["subcommand"]](options[options["subcommand"]])
    return 0


if __name__ == "__main__":
    sys.exit(run(main, "benchmark"))
