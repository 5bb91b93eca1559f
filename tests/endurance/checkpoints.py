"""Kills a training run at random moments until it ends: it must end as the unbroken one, with at most one epoch lost a kill."""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from studies import Workload, train

EPOCHS = 40  # some two seconds of training
BATCH_SIZE = 64
LEARNING_RATE = 0.1
LONGEST = 1.5  # seconds until a kill, at most; a process is ready to train after some 0.2
NEVER = 10**9


class Notes(pl.Callback):
    """Notes each batch, a byte in the file ``batches``, and what the weights came to, in ``weights``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, *_: Any) -> None:
        """One more."""
        with (self.folder / "batches").open("ab") as notes:
            notes.write(b".")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The sum of all their bytes."""
        parts = [value.numpy().tobytes() for value in pl_module.state_dict().values()]
        (self.folder / "weights").write_text(hashlib.sha256(b"".join(parts)).hexdigest())


def train_once(folder: Path, seed: int, kept: Path | None, killed_at: int = NEVER) -> None:
    """Train the run, its facts going to ``folder``; killed_at: the write point of this process at which it is killed."""
    left = [killed_at]

    def kill(event: str, arguments: Any) -> None:
        if event == "lr_study.write":
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)
    torch.set_num_threads(1)
    workload = Workload.of(
        "ImageClassifier",
        "Digits",
        {"callbacks": [Notes(folder)], "logger": False},
        optimizer={"class_path": "SGD", "init_args": {"momentum": 0.9}},
        lr_scheduler={"class_path": "CosineAnnealingLR", "init_args": {"T_max": EPOCHS}},
    )
    (run,) = train(
        workload, [(LEARNING_RATE, seed)], batch_size=BATCH_SIZE, epochs=EPOCHS, folder=folder / "runs", checkpoint=kept
    )
    facts = json.dumps(asdict(run) | {"seconds": None, "weights": (folder / "weights").read_text()})
    (folder / "facts.part").write_text(facts)
    os.replace(folder / "facts.part", folder / "facts")


def kill_until_it_ends(folder: Path, seed: int, chance: random.Random) -> int:
    """The number of kills a run took; half of them hit a moment, half a write point."""
    kills = 0
    while not (folder / "facts").exists():
        at_write = chance.random() < 0.5
        point = chance.randint(1, EPOCHS) if at_write else NEVER
        process = _start(folder, seed, folder / "checkpoints", point)
        process.join(None if at_write else chance.uniform(0, LONGEST))
        process.kill()
        process.join()
        if process.exitcode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"the run ended with exit code {process.exitcode}")
        kills += process.exitcode != 0
    return kills


def _start(*arguments: Any) -> Any:
    # A fork of this process, which has imported PyTorch and never trained: it is at work at once.
    process = multiprocessing.get_context("fork").Process(target=train_once, args=arguments)
    process.start()
    return process


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="kills, at least (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the first run (default: 0)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run after run until there were as many kills as asked for."""
    args = parse_args(argv)
    chance = random.Random(args.seed)
    kills = runs = unequal = repeated = lost = 0
    with tempfile.TemporaryDirectory() as place:
        while kills < args.rounds:
            seed = args.seed + runs
            unbroken, broken = Path(place) / f"unbroken{runs}", Path(place) / f"broken{runs}"
            unbroken.mkdir()
            broken.mkdir()
            _start(unbroken, seed, None).join()
            n = kill_until_it_ends(broken, seed, chance)
            planned = (unbroken / "batches").stat().st_size
            extra = (broken / "batches").stat().st_size - planned
            unequal += (broken / "facts").read_text() != (unbroken / "facts").read_text()
            lost += extra * EPOCHS > n * planned
            kills, runs, repeated = kills + n, runs + 1, repeated + extra
    epochs = repeated * EPOCHS / planned
    print(
        f"{kills} kills of {runs} runs of {EPOCHS} epochs: {unequal} differ from the unbroken run; "
        f"{epochs:.1f} epochs trained again, {epochs / kills:.2f} a kill; {lost} runs lost more than an epoch a kill"
    )
    return 1 if unequal or lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
