"""Two Ray actors on this machine, one of them killed every 20 seconds for 5 minutes: the study must end as an unbroken one."""

from __future__ import annotations

import argparse
import contextlib
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from small_study import equal, tables

from lightning_modules import Parabola
from studies import StudyConfig, runs_table
from studies.search import run_study

PAUSE = 0.5  # seconds that a step waits: a run is short beside the time between two kills, and costs no processor
RUN = 9 * PAUSE  # seconds of a run of 4 steps: the height is measured by steps, too
POINTS = 6


class Slow(Parabola):
    """A parabola whose steps take their time on the actors."""

    def __init__(self, learning_rate: float = 0.1, pause: float = PAUSE) -> None:
        super().__init__(learning_rate=learning_rate)
        self.pause = pause

    def training_step(self, batch: object, batch_idx: int) -> object:
        """Wait, then the parabola's own."""
        time.sleep(self.pause)
        return super().training_step(batch, batch_idx)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="how long actors are killed (default: 300)")
    parser.add_argument("--every", type=float, default=20, help="seconds between two kills (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="which actor is killed (default: 0)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study twice, with and without kills, and compare."""
    options = parse_args(argv)
    seeds = max(2, round(2 * options.seconds / RUN / POINTS))
    with TemporaryDirectory() as folder:
        common = {
            "data": {"class_path": "ParabolaData", "init_args": {"n_examples": 32, "noise": 1}},
            "learning_rate": (0.03, 10.0),
            "points": POINTS,
            "batch_size": 16,
            "seeds": seeds,
            "epochs": 2,
            "fuse": "never",
        }
        whole = StudyConfig(model=Parabola, name="whole", workers=1, storage=f"{folder}/whole.db", **common)
        run_study(whole, out=folder)
        broken = StudyConfig(model=Slow, name="broken", workers=2, engine="ray", storage=f"{folder}/broken.db", **common)
        done, kills = threading.Event(), []
        killer = threading.Thread(target=_kill, args=(options, done, kills))
        began = time.monotonic()
        killer.start()
        try:
            study = run_study(broken, out=folder)
        finally:
            done.set()
            killer.join()
        seconds = time.monotonic() - began
        states = runs_table(study)["state"].value_counts().to_dict()
        same = equal(tables(Path(folder) / "whole.db", "whole"), tables(Path(folder) / "broken.db", "broken"))
    print(
        f"{len(kills)} actors killed in {seconds:.0f} s, {whole.n_runs} runs planned, trials {states}; "
        f"tables {'equal' if same else 'DIFFER FROM'} the unbroken study's"
    )
    return 0 if same and kills and states.get("RUNNING", 0) == 0 else 1


def _kill(options: argparse.Namespace, done: threading.Event, kills: list[int]) -> None:
    """Kill one of the actors now and then, from when they are there."""
    choose = random.Random(options.seed)
    while not _actors() and not done.wait(0.2):
        pass
    end = time.monotonic() + options.seconds
    while not done.wait(options.every) and time.monotonic() <= end:
        if actors := _actors():
            victim = choose.choice(actors)
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
                kills.append(victim.pid)


def _actors() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if _is_actor(child)]


def _is_actor(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "_Actor" in " ".join(process.cmdline())
    return False


if __name__ == "__main__":
    raise SystemExit(main())
