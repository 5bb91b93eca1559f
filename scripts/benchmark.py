"""Time one run of MNIST (MLP 784-128-10) four ways, side by side.

The four take turns; printed are median and range of ``--repeats`` runs, in seconds an epoch, and the ratio to the
plain loop. The naive way is what a tutorial shows: Lightning, torchvision's transforms and a DataLoader. Times of a run
include everything from building the data module on.
"""

from __future__ import annotations

import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentParser

from studies.command_line import parse, run

LEARNING_RATE, SEED, BATCH_SIZE = 0.1, 0, 64
ARGUMENTS = {"input_shape": (1, 28, 28), "n_outputs": 10, "hidden": (128,)}


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The options."""
    parser = ArgumentParser(description=__doc__, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--data-root", default="data", metavar="FOLDER", help="the folder that holds MNIST/raw (default: data)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="turns of each way (default: 3)")
    parser.add_argument("--epochs", type=int, default=2, metavar="N", help="passes over the training set (default: 2)")
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
    from studies.training import QUIET

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


def main(argv: Sequence[str] | None = None) -> int:
    """Time all ways in turn and print a Markdown table."""
    options = parse_args(argv)
    for name in ("repeats", "epochs"):
        if options[name] < 1:
            raise ValueError(f"{name} must be at least 1, got {options[name]}")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    ways: dict[str, Callable[[str, int], None]] = {
        "plain loop over tensors": plain_loop,
        "this project": project,
        "this project without its recorder": without_recorder,
        "naive: DataLoader and transforms": naive,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    project(options["data_root"], 1)  # warm up: imports, the data
    for _ in range(options["repeats"]):
        for name, way in ways.items():
            began = time.perf_counter()
            way(options["data_root"], options["epochs"])
            seconds[name].append((time.perf_counter() - began) / options["epochs"])
    base = statistics.median(seconds["plain loop over tensors"])
    print("| way | s an epoch, median (range) | ratio |\n|---|---|---|")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"| {name} | {median:.2f} ({min(times):.2f} to {max(times):.2f}) | {median / base:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(run(main, "benchmark"))
