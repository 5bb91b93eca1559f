"""The same runs by several ways: this project, a loop written by hand, Lightning as it comes under Optuna, Ray Tune."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.works import Work, make_data, make_network, specs
from studies.errors import BadInput


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

    from lightning_modules.record import probe_steps

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
        import ray.tune  # which needs more than Ray alone
    except ImportError as error:
        hint = "pip install 'ray[tune]>=2.40', or give --ways without ray-tune"
        raise BadInput(f"Ray Tune must be installed: {hint}") from error
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
