"""SIGKILL of the driver, of a worker, or of both at random moments: what was stored stays, and a study ends as if unbroken.

A study is launched, killed and launched again until it is complete, then the next one is begun, until there were enough kills.
Half of the moments are anywhere in a launch, half are while it trains: those are a small part of its time. Every third study
has two workers.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
from collections import Counter
from collections.abc import Sequence
from multiprocessing.context import ForkProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from small_study import (
    N_RUNS,
    PROMISES,
    Stored,
    Tables,
    broken_promises,
    fork_launch,
    integrity,
    lost,
    storage_of,
    stored,
    survivors,
    tables,
    unbroken,
    whole_copy,
    workers_of,
)

LOST, DAMAGED, LEFT, FAILED = (
    "acknowledged results lost",
    "databases damaged after a kill",
    "processes left 10 s after a kill",
    "launches that failed unkilled",
)
WORKERS_EVERY = 3  # studies: they take five seconds to start
MOST_RUNS = 6  # that are stored before a moment of training
JITTER = 0.1  # seconds after the last of them, at most: a run takes about half of that
WORKER_KILLS = 2  # of one launch at most: a run that takes three workers with it is given up, as it should be


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, metavar="N", help="kills (default: 200)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random moments and victims (default: 0)")
    return parser.parse_args(argv)


class Kills:
    """Counts what was killed and when, and the promises that were broken; ``rounds`` kills are left."""

    def __init__(self, rounds: int, seed: int) -> None:
        self.rounds, self.random = rounds, random.Random(seed)
        self.done: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    def study(self, folder: Path, workers: int, seconds: float, expected: Tables) -> None:
        """Break a study in ``folder`` until it is complete; a launch of it takes ``seconds`` when nothing breaks it."""
        folder.mkdir()
        known: Stored = {}
        complete = False
        while not complete:
            known, complete = self._launch(folder, workers, seconds, known)
        self.faults[LOST] += lost(known, stored(storage_of(folder)))
        self.faults += broken_promises(folder, expected)

    def _launch(self, folder: Path, workers: int, seconds: float, known: Stored) -> tuple[Stored, bool]:
        """Launch and kill; what is stored now, and whether the launch came to its end."""
        process = fork_launch(folder, "--workers", str(workers))
        at_start, worker_kills = len(known), 0
        while self.rounds and at_start < N_RUNS:  # else its report was broken once, which is enough
            self._wait(process, folder, seconds)
            if not process.is_alive():
                break
            whom = self.random.choice(("driver", "worker", "both"))
            at_work = workers_of(folder)
            if not at_work or (whom == "worker" and worker_kills == WORKER_KILLS):
                whom = "driver"
            known = self._still_there(known, storage_of(folder))
            if whom != "driver":
                worker_kills += 1
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.random.choice(at_work).kill()
            if whom == "worker":
                known = self._still_there(known, storage_of(folder))
            else:
                process.kill()
                process.join()
                with whole_copy(storage_of(folder)) as copy:
                    known = self._still_there(known, copy)
                    self.faults[DAMAGED] += integrity(copy) != "ok"
            self.rounds -= 1
            self.done[f"{whom} {_phase(at_start, len(known))}"] += 1
            if whom != "worker":
                self.faults[LEFT] += len(survivors(folder))
                return known, False
        process.join()
        self.faults[LEFT] += len(survivors(folder))
        if process.exitcode:
            self.faults[FAILED] += 1
            print((folder / "log.txt").read_text()[-2000:], file=sys.stderr)
        return known, True

    def _wait(self, process: ForkProcess, folder: Path, seconds: float) -> None:
        """Wait for the next moment."""
        if self.random.random() < 0.5:
            process.join(self.random.uniform(0, seconds))
            return
        wanted = len(stored(storage_of(folder))) + self.random.randint(0, MOST_RUNS)
        while process.is_alive() and len(stored(storage_of(folder))) < min(wanted, N_RUNS):
            process.join(0.01)
        process.join(self.random.uniform(0, JITTER))

    def _still_there(self, known: Stored, storage: Path) -> Stored:
        """What is stored now, by which the results lost are counted."""
        now = stored(storage)
        self.faults[LOST] += lost(known, now)
        return now


def _phase(at_start: int, now: int) -> str:
    """When a launch was killed, by how many runs were stored."""
    if now == N_RUNS:
        return "after the last run"
    return "between runs" if now > at_start else "before its first run"


def main(argv: Sequence[str] | None = None) -> int:
    """Kill, count, print a line; 1 when a promise was broken."""
    options = parse_args(argv)
    kills, number = Kills(options.rounds, options.seed), 0
    with TemporaryDirectory() as top:
        whole = Path(top) / "unbroken"
        seconds = {1: unbroken(whole)}
        expected = tables(storage_of(whole))
        while kills.rounds:
            number += 1
            workers = 1 if number % WORKERS_EVERY else 2
            if workers not in seconds:
                seconds[workers] = unbroken(Path(top) / "unbroken with workers", "--workers", str(workers))
            kills.study(Path(top) / f"study {number}", workers, seconds[workers], expected)
    told = ", ".join(f"{times} of the {what}" for what, times in sorted(kills.done.items()))
    counted = ", ".join(f"{kills.faults[kind]} {kind}" for kind in (LOST, DAMAGED, LEFT, FAILED, *PROMISES))
    print(f"{kills.done.total()} kills in {number} studies ({told}): {counted}")
    return int(kills.faults.total() > 0)


if __name__ == "__main__":
    sys.exit(main())
