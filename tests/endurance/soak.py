"""Train thousands of tiny runs in one study and see whether the memory, open files or threads of its processes grow.

OMP_NUM_THREADS=1 .venv/bin/python tests/endurance/soak.py --trials 10000 --workers 2
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import optuna
import psutil
from rich.console import Console
from rich.table import Table

from reports import Thresholds
from studies import StudyConfig, run_study
from studies.commands.terminal import Progress
from studies.errors import BadInput

CELLS = 20  # 10 learning rates at 2 batch sizes
WINDOW = 5  # samples whose median stands for a moment: what is being made just then comes and goes
ALLOWED = 5.0  # percent


class Usage(NamedTuple):
    """What processes hold at one moment. files, threads: open in all of them together."""

    finished: int
    seconds: float
    cpu_seconds: float  # of the driver, whatever else the machine does
    driver: int  # bytes that are resident
    workers: int  # of all workers together
    files: int
    threads: int


MEASURES = ("driver", "workers", "files", "threads")


class Watch:
    """Looks at this process and those it started, each time ``every`` runs more are finished."""

    def __init__(self, every: int) -> None:
        self._every, self._process = every, psutil.Process()
        self._began = time.monotonic()
        self.samples: list[Usage] = []

    def __call__(self, study: optuna.Study, finished: int, planned: int) -> None:
        """To be told of every finished run."""
        if finished % self._every:
            return
        children = self._process.children(recursive=True)
        everyone = [self._process, *children]
        self.samples.append(
            Usage(
                finished,
                time.monotonic() - self._began,
                time.process_time(),
                self._process.memory_info().rss,
                sum(child.memory_info().rss for child in children),
                sum(process.num_fds() for process in everyone),
                sum(process.num_threads() for process in everyone),
            )
        )


def growth(samples: Sequence[Usage], *, after: int) -> dict[str, tuple[float, float, float]]:
    """By measure, what was held after the first ``after`` runs and at the end, and how much more that is in percent."""
    settled = [sample for sample in samples if sample.finished >= after]
    if len(settled) < 2:
        raise BadInput(f"after must leave at least 2 samples, got {after} with {len(settled)} behind it")
    window = min(WINDOW, len(settled) // 2)
    grown = {}
    for measure in MEASURES:
        values = [getattr(sample, measure) for sample in settled]
        first, last = statistics.median(values[:window]), statistics.median(values[-window:])
        grown[measure] = first, last, 100 * (last - first) / first if first else 0.0
    return grown


def paces(samples: Sequence[Usage], field: str, every: int) -> str:
    """What 1,000 runs took of ``seconds`` or ``cpu_seconds``, again and again; a study must not slow down as it grows."""
    marks = samples[:: max(1, 1_000 // every)]
    per_run = [
        (getattr(b, field) - getattr(a, field)) / (b.finished - a.finished) for a, b in zip(marks, marks[1:], strict=False)
    ]
    return ", ".join(f"{1_000 * seconds:.1f}" for seconds in per_run)


def soak(trials: int, workers: int, every: int, folder: Path) -> list[Usage]:
    """Train a study of so many runs of four steps at most, shown as a launch shows it; the samples."""
    config = StudyConfig(
        model="Parabola",
        data={"class_path": "ParabolaData", "init_args": {"n_examples": 32}},
        learning_rate=(0.05, 1.5),
        points=10,
        batch_size=(16, 32),
        seeds=trials // CELLS,
        epochs=2,
        fuse="never",
        workers=workers,
        name="soak",
        storage=str(folder / "studies.db"),
    )
    watch = Watch(every)
    with Progress(Thresholds()) as progress:

        def see(study: optuna.Study, finished: int, planned: int) -> None:
            progress(study, finished, planned)
            watch(study, finished, planned)

        run_study(config, out=folder / "soak", on_run=see)
    return watch.samples


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000, help=f"runs in all, a multiple of {CELLS} (default: 10000)")
    parser.add_argument("--workers", type=int, default=2, help="processes that train; 1 trains in the driver (default: 2)")
    parser.add_argument("--every", type=int, default=100, help="runs between two samples (default: 100)")
    parser.add_argument("--after", type=int, default=1_000, help="runs after which nothing may grow (default: 1000)")
    options = parser.parse_args(argv)
    if options.trials < CELLS or options.trials % CELLS:
        parser.error(f"--trials must be a multiple of {CELLS}, got {options.trials}")
    if options.every < 1:
        parser.error(f"--every must be at least 1, got {options.every}")
    if options.after + options.every > options.trials:
        parser.error(f"--after and --every together must be at most --trials, got {options.after} and {options.every}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Train, then print what grew and how long each thousand took; 1 when something grew by more than is allowed."""
    options = parse_args(argv)
    with TemporaryDirectory() as folder:
        samples = soak(options.trials, options.workers, options.every, Path(folder))
    table = Table("of", f"after {options.after:,} runs", f"after {options.trials:,}", "growth")
    grown = growth(samples, after=options.after)
    for measure, (first, last, percent) in grown.items():
        unit, text = (1e6, "{:.1f} MB") if measure in ("driver", "workers") else (1, "{:.0f}")
        table.add_row(measure, text.format(first / unit), text.format(last / unit), f"{percent:+.1f} %")
    console = Console()
    console.print(table)
    for what, field in (("seconds", "seconds"), ("of the driver's CPU", "cpu_seconds")):
        console.print(
            f"{what} per 1,000 runs, as the study grows: {paces(samples, field, options.every)}",
            soft_wrap=True,
            highlight=False,
        )
    worst = max(grown, key=lambda measure: grown[measure][2])
    console.print(
        f"{options.trials:,} runs, {options.workers} workers: {worst} grew most, by {grown[worst][2]:.1f} % "
        f"after the first {options.after:,} ({ALLOWED:g} % allowed)",
        soft_wrap=True,
        highlight=False,
    )
    return int(grown[worst][2] > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
