"""What the driver does with a plan: order, failures in a row, progress, and what a process that was killed left behind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from test_studies_preflight import Blobs, Net
from test_studies_search import small, states

from reports import Thresholds
from studies import FailedAlike, Run, StudyConfig, Workload, run_study, runs_table
from studies.commands.terminal import Progress
from studies.costs import Costs
from studies.driver import Driver, OnRun
from studies.plan import Planned, RunsInAll, missing
from studies.samplers import SAMPLERS, sampler_of
from studies.trials import close_orphans, space_of, start

RATES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
PLAN = [Planned(rate, 8, 0) for rate in RATES]


def run_of(planned: Planned) -> Run:
    heights = {"height": ([0, 1, 2], [1.0, 0.5, 0.2])}
    return Run(*planned, 1.0, 2, 16, 0.1, None, 1.0, 0.2, 0, 0.2, {}, heights)


def drive(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *outcomes: str, on_run: OnRun | None = None
) -> tuple[optuna.Study, list[tuple[int, int]]]:
    """A study whose runs end one after the other as ``outcomes`` say, "" for one that finishes; and what was told of it."""
    said = iter(outcomes)

    def train(workload: Any, planned: Planned, **_: Any) -> Run:
        if error := next(said):
            raise ValueError(error)
        return run_of(planned)

    monkeypatch.setattr("studies.training.work.train_alone", train)
    study, told = optuna.create_study(), list[tuple[int, int]]()
    config = StudyConfig(learning_rate=(RATES[0], RATES[-1]), batch_size=8, fuse="never", workers=1)
    plan = PLAN[: len(outcomes)]
    workload = Workload.of(Net, Blobs)

    def tell(study: optuna.Study, finished: int, n_runs: int) -> None:
        told.append((finished, n_runs))

    Driver(study, config, workload, list(plan), [], len(plan), folder / "runs", on_run or tell).run()
    return study, told


def test_three_failures_alike_that_are_not_in_a_row_do_not_end_the_study(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study, _ = drive(monkeypatch, tmp_path, "alike", "", "alike", "", "alike", "")
    assert states(study) == ["FAIL", "COMPLETE"] * 3


def test_another_failure_ends_the_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    study, _ = drive(monkeypatch, tmp_path, "alike", "alike", "other", "alike", "alike", "")
    assert states(study) == ["FAIL"] * 5 + ["COMPLETE"]


def test_three_failures_alike_in_a_row_end_the_study_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(FailedAlike, match="^3 runs in a row failed alike, so the study stopped: ValueError: alike$"):
        drive(monkeypatch, tmp_path, "", "alike", "alike", "alike", "", "")


def test_a_run_that_failed_counts_in_the_progress(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, told = drive(monkeypatch, tmp_path, "", "alike", "")
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_what_is_left_costs_nothing_before_a_run_of_each_batch_size_was_trained_twice() -> None:
    costs = Costs()
    costs.add(8, 100.0, n_members=1, n_workers=1)  # as all that is done once is done in it
    assert costs.left([8], n_workers=1) is None and costs.left([], n_workers=1) == 0
    costs.add(8, 2.0, n_members=1, n_workers=1)
    costs.add(8, 4.0, n_members=1, n_workers=1)
    assert costs.left([8, 8], n_workers=1) == 6 and costs.left([8, 16], n_workers=1) is None
    costs.add(16, 1.0, n_members=24, n_workers=1)
    assert costs.left([8, 16], n_workers=1) == 4 and costs.left([8, 16], n_workers=2) == 2


def test_each_worker_s_first_run_alone_tells_no_cost() -> None:
    costs = Costs()
    for seconds in (100.0, 100.0, 3.0):
        assert costs.left([8], n_workers=2) is None
        costs.add(8, seconds, n_members=1, n_workers=2)
    assert costs.left([8, 8], n_workers=2) == 3
    costs.start_anew()
    costs.add(8, 100.0, n_members=1, n_workers=2)
    assert costs.left([8, 8], n_workers=2) == 3


def told_of(in_all: int, finished: int, *, judged: int, **known: Any) -> str:
    """The line of progress of a study of which so many runs have a verdict, the first of them too low."""
    planned = RunsInAll(in_all)
    vars(planned).update(known)
    progress = Progress(Thresholds())
    progress._judged = Counter({"too low": judged})
    return progress.line(finished, planned)


def test_progress_tells_a_time_only_where_it_is_known_and_counts_that_add_up() -> None:
    assert told_of(9, 5, judged=2) == "5/9 runs; 2 too low, 0 good, 0 too high, 0 divergent, 3 still to be judged"
    assert told_of(9, 5, judged=5, seconds_left=80.2) == (
        "5/9 runs, about 80 s left; 5 too low, 0 good, 0 too high, 0 divergent"
    )
    assert told_of(9, 9, judged=7, n_failed=1, seconds_left=0.0) == (
        "9/9 runs; 7 too low, 0 good, 0 too high, 0 divergent, 1 failed, 1 without a verdict"
    )
    at = "batch size 64, 2 of 3"
    assert told_of(9, 9, judged=8, at=at) == (
        f"9 runs so far, {at}; 8 too low, 0 good, 0 too high, 0 divergent, 1 still to be judged"
    )


def test_progress_of_a_study_that_fails_and_ends_adds_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(Thresholds()) as progress:
        drive(monkeypatch, tmp_path, "", "alike", "", on_run=progress)
    counts = re.fullmatch(r"3/3 runs; (.*)\n", capsys.readouterr().err)
    assert counts and sum(int(count.split()[0]) for count in counts[1].split(", ")) == 3 and "1 failed" in counts[1]


def test_a_grid_has_all_of_its_first_seed_before_the_second_begins() -> None:
    config = StudyConfig(learning_rate=(0.1, 10), points=3, batch_size=(16, 64), seeds=2)
    first = [Planned(rate, size, 0) for size in (16, 64) for rate in (0.1, 1.0, 10.0)]
    assert sampler_of("grid").plan(config) == first + [planned._replace(seed=1) for planned in first]


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "grid"])
def test_nothing_is_planned_where_a_sampler_chooses(name: str) -> None:
    assert sampler_of(name).plan(StudyConfig(sampler=name)) == []


def test_what_is_missing_is_the_plan_without_what_is_complete_in_its_order() -> None:
    study, config = optuna.create_study(), StudyConfig(learning_rate=(0.1, 0.6), batch_size=8)
    for planned in (PLAN[1], PLAN[3]):
        study.tell(start(study, space_of(config, [0]), planned._asdict()), 1.0)
    assert missing(PLAN, study.trials) == [PLAN[0], PLAN[2], *PLAN[4:]]


def test_what_a_killed_process_left_running_is_closed_before_anything_is_trained(tmp_path: Path) -> None:
    config = small(tmp_path)
    study = run_study(config)
    start(study, space_of(config, [0]), Planned(0.1, 256, 0)._asdict())
    study.enqueue_trial({"seed": 0})
    at_start: list[list[str]] = []
    run_study(config, on_run=lambda study, *_: at_start.append(states(study)))
    assert at_start[0] == ["COMPLETE"] * 3 + ["FAIL"] * 2


def interrupted_after(n_parameters: int) -> Callable[..., Any]:
    """``Trial._suggest`` of a process that is killed after so many parameters of a trial."""
    suggest, left = optuna.Trial._suggest, iter(range(n_parameters))

    def suggest_until_then(trial: optuna.Trial, name: str, distribution: Any) -> Any:
        next(left)
        return suggest(trial, name, distribution)

    return suggest_until_then


@pytest.mark.parametrize("n_parameters", [0, 1, 2])
def test_a_trial_that_was_killed_while_it_began_is_no_run(n_parameters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    study, config = optuna.create_study(), StudyConfig(learning_rate=(0.1, 0.6), batch_size=8)
    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(optuna.Trial, "_suggest", interrupted_after(n_parameters))
        start(study, space_of(config, [0]), PLAN[0]._asdict())
    close_orphans(study, "the process ended before the run did")
    assert states(study) == ["FAIL"] and len(study.trials[0].params) == n_parameters
    assert runs_table(study).empty


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)
