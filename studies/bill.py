"""What a study will cost, told before anything is spent: runs, examples, time on this machine, disk."""

import math
from typing import NamedTuple

from reports.style import format_length, format_number, format_seconds
from studies.config import A_SIZE, RANGE, StudyConfig
from studies.plan import Planned
from studies.training.fixed import look_at, steps_per_epoch
from studies.training.fusing import WARM_UP, Fusing, time_alone
from studies.training.preflight import preflight
from studies.training.workload import Workload

FULL_RUNS, FUSED = 18, 35  # that a search is worth at a batch size alone (``scripts/benchmark.py search``: 7 to 40) and fused
A_RUN = 12_000  # bytes in the storage, roughly
TIMED = 8  # steps


class Bill(NamedTuple):
    """Of one batch size.

    runs, examples, seconds: in all; length: of a full run, in words; how: its runs are trained, likewise.
    """

    batch_size: int
    runs: int
    examples: float
    seconds: float
    length: str
    how: str


def expected_bills(config: StudyConfig) -> list[Bill]:
    """What each batch size will cost where nothing is stored yet, by a few measured steps of one core.

    Raises ValueError as ``run_study`` does before it trains.
    """
    workload, rates = Workload.of_config(config), config.learning_rate or RANGE
    preflight(workload, learning_rates=rates, batch_sizes=config.batch_sizes, seed=config.seed_values[0])
    epochs, bills = config.epochs or 1, []
    fusing = Fusing(workload, epochs=epochs)
    searched = config.sampler == "edges"
    for size in config.batch_sizes:
        fixed = look_at(workload, size)
        steps = config.steps or min(epochs * fixed.n_train / size, workload.trainer.get("max_steps", math.inf))
        middle = math.sqrt(rates[0] * rates[1])
        members = [Planned(middle * 2**-power, size, seed) for power in range(4) for seed in config.seed_values]
        if config.fuse == "auto":
            fusing.decide(members)
        seconds = fusing.seconds.get(size) or steps * time_alone(workload, members[0], WARM_UP + TIMED, fixed)[0]
        how = fusing.decided.get(str(size), {"why": "alone"})["why"]
        runs = A_SIZE if searched else config.n_runs // len(config.batch_sizes)
        full = (FUSED if fusing.at_once(size) > 1 else FULL_RUNS) if searched else runs
        length = (
            format_length(config.steps / steps_per_epoch(workload, size), config.steps) if config.steps else f"{epochs} epochs"
        )
        bills.append(Bill(size, runs, full * steps * size, full * seconds, length, how))
    return bills


def tell_bills(bills: list[Bill]) -> list[str]:
    """Lines for a terminal: one a batch size, and one for all."""
    lines = [
        f"batch size {bill.batch_size}: about {bill.runs} runs of at most {bill.length}, {_count(bill.examples)} example"
        f" passes, {format_seconds(bill.seconds)} here on one core ({bill.how})"
        for bill in bills
    ]
    runs, examples, seconds = (sum(column) for column in list(zip(*bills, strict=True))[1:4])
    megabytes = format_number(runs * A_RUN / 1e6, digits=1)
    total = f"in all: about {runs} runs, {_count(examples)} example passes, {format_seconds(seconds)}, {megabytes} MB of disk"
    return [*lines, f"{total}; what is stored already costs nothing again"]


def _count(examples: float) -> str:
    """A number of examples, to be read rather than compared.

    >>> _count(1_234_567), _count(45_678)
    ('1.2 million', '46 thousand')
    """
    return f"{examples / 1e6:.2g} million" if examples >= 1e6 else f"{examples / 1e3:.0f} thousand"
