"""Worker processes: what is trained does not depend on them, and whatever ends, nothing of theirs is left."""

from __future__ import annotations

import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import pandas as pd
import psutil
import pytest
import torch
from test_studies_preflight import Blobs, Net
from test_studies_search import module, small, states

from studies import FailedAlike, StudyConfig, load_study, run_study, runs_table
from studies.plan import Planned
from studies.training.work import Failure, Job, work
from studies.training.workers import Here, Processes
from studies.training.workload import Workload

ROOT = Path(__file__).parents[1]
VALUES: dict[str, Any] = {"learning_rate": (0.03, 30), "points": 4, "batch_size": [128, 256], "seeds": 2, "epochs": 2}
FACTS = "learning_rate batch_size seed steps nonfinite_at first_height final_height val_loss val_accuracy".split()
# A study of two workers that sleeps in every step, by a script that does not guard its own lines.
SCRIPT = """
import time
import pytorch_lightning as pl
from lightning_modules import MLP, ImageClassifier
from studies import StudyConfig, run_study

class Model(ImageClassifier):
    def __init__(self, learning_rate=0.1):
        super().__init__(MLP(), learning_rate)
    def on_train_end(self): pass
    def training_step(self, batch, batch_idx):
        time.sleep({pause})
        return super().training_step(batch, batch_idx)

print("started", flush=True)
config = StudyConfig(model=Model, data="Digits", learning_rate=(0.1, 1), points={points}, batch_size=256, seeds=1, epochs=1,
                     workers=2, storage="studies.db", name="scripted")
study = run_study(config, on_run=lambda study, finished, planned: print(finished, flush=True))
print(sorted(trial.state.name for trial in study.trials))
"""


def facts(study: Any) -> pd.DataFrame:
    return runs_table(study)[FACTS].sort_values(["batch_size", "seed", "learning_rate"], ignore_index=True)


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Its worker processes; the tracker that loky keeps for all pools is none, nor is a browser of other tests."""
    return [child for child in process.children(recursive=True) if "popen_loky" in " ".join(child.cmdline())]


def wait_until(is_true: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (found := bool(is_true())) and time.monotonic() < end:
        time.sleep(0.1)
    return found


@pytest.fixture
def one_thread() -> Any:
    """As a worker on this machine has: with more threads sums are rounded otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("fuse", ["auto", "never"])
def test_results_do_not_depend_on_the_number_of_workers_to_the_bit(
    fuse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setattr("studies.training.fusing.Fusing._choose", lambda *_: (16, "16 fused"))
    config = {"fuse": fuse} | VALUES
    one = run_study(StudyConfig(**config, workers=1, storage=str(tmp_path / "one.db")))
    two = run_study(StudyConfig(**config, workers=2, storage=str(tmp_path / "two.db")))
    pd.testing.assert_frame_equal(facts(one), facts(two))
    assert runs_table(one)["member_of"].nunique() == (2 if fuse == "auto" else 16)
    assert runs_table(two)["member_of"].nunique() == (4 if fuse == "auto" else 16)  # a batch size is shared among the workers
    assert wait_until(lambda: not workers_of(psutil.Process()), 5)


def test_module_that_fails_in_a_worker_ends_the_study_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path, model=module(tmp_path, monkeypatch, "raising", "if counts['steps'] > 0: raise OSError('no tape')"))
    with pytest.raises(FailedAlike, match="3 runs in a row failed alike, so the study stopped: OSError: no tape"):
        run_study(StudyConfig(**{**vars(config), "points": 6, "per_decade": None, "workers": 2}))
    table = runs_table(load_study(config.storage, str(config.name)))
    failed = table[table["error"] == "OSError: no tape"]
    assert len(failed) == 3 and failed["traceback"].str.contains("raising.py").all()
    assert set(table["error"]) <= {"OSError: no tape", "interrupted"} and set(table["state"]) == {"FAIL"}


def test_study_that_cannot_be_made_in_a_worker_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(tmp_path, model=module(tmp_path, monkeypatch, "vanishing", "pass"), workers=2)

    def vanish(*_: Any) -> None:
        (tmp_path / "vanishing.py").unlink(missing_ok=True)

    with pytest.raises(FailedAlike, match="model 'vanishing.Model' could not be imported: No module named 'vanishing'"):
        run_study(config, on_run=vanish)


def test_what_a_dead_worker_trained_is_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    died = str(tmp_path / "died")
    line = f"counts['steps'] < 3 or os.path.exists({died!r}) or (open({died!r}, 'w'), os._exit(9))"
    config = small(tmp_path, model=module(tmp_path, monkeypatch, "dying", line), workers=2)
    study = run_study(config)
    assert Path(died).exists()
    assert states(study).count("COMPLETE") == 3 and set(states(study)) == {"COMPLETE", "FAIL"}
    assert {trial.user_attrs["error"] for trial in study.trials if trial.state.name == "FAIL"} == {"its worker process died"}


def test_worker_that_died_is_replaced_and_the_others_go_on(tmp_path: Path) -> None:
    place = Processes(cloudpickle.dumps(StudyConfig(workers=2)), 2, 1)
    job = Job((Planned(0.1, 256, 0),), 1, False, tmp_path)
    try:
        first, second = place.submit(job), place.submit(replace(job, epochs=1_000_000))
        first.result(timeout=60)
        idle = next(worker for worker in workers_of(psutil.Process()) if worker.pid == first_pid(place))
        idle.kill()
        idle.wait(10)
        futures = [place.submit(job)]
        if isinstance(futures[0].exception(timeout=60), BrokenExecutor):  # its death had not been seen yet
            futures.append(place.submit(job))
        assert isinstance(futures[-1].result(timeout=60), list)
        assert not second.done()
    finally:
        place.close()


def first_pid(place: Processes) -> int:
    return next(iter(place._workers[0]._processes))


def test_member_whose_workers_die_is_tried_three_times_and_the_others_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "counts['steps'] < 3 or self.learning_rate < 5 or os._exit(9)"
    config = small(tmp_path, model=module(tmp_path, monkeypatch, "choosy", line), workers=2)
    table = runs_table(run_study(config))
    died = table[table["state"] == "FAIL"]
    assert list(died["error"]) == ["its worker process died"] * 2 + [
        "its worker process died 3 times: memory is short, most likely, or the module ends it"
    ]
    assert died["learning_rate"].nunique() == 1 and (table["state"] == "COMPLETE").sum() == 2


def test_workers_that_die_again_and_again_end_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.driver.REPEATS", 0)
    config = small(tmp_path, model=module(tmp_path, monkeypatch, "deadly", "counts['steps'] < 3 or os._exit(9)"), workers=2)
    with pytest.raises(FailedAlike, match="3 runs in a row failed alike, so the study stopped: its worker process died"):
        run_study(config)


def test_study_that_cannot_be_sent_to_a_worker_is_trained_here_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lock = threading.Lock()

    def locked() -> Net:
        with lock:
            return Net()

    with caplog.at_level(logging.WARNING):
        study = run_study(small(tmp_path, model=locked, data=Blobs, batch_size=8, workers=2))
    assert states(study) == ["COMPLETE"] * 3
    assert "trained in this process alone: the study cannot be sent to a worker (TypeError: cannot pickle" in caplog.text


@pytest.mark.parametrize(("left", "place"), [(0.0, "Processes"), (1e9, "Here")])
def test_auto_takes_workers_where_what_is_left_is_worth_their_start(
    left: float, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    class Watched(Here):
        size = 2

        def __init__(self, packed: bytes, size: int, threads: int) -> None:
            super().__init__(Workload.of_config(cloudpickle.loads(packed)))
            assert (size, threads) == (2, 4)
            used.append("Processes")

    monkeypatch.setattr("studies.driver.cpu_count", lambda: 8)
    monkeypatch.setattr("studies.driver.Processes", Watched)
    monkeypatch.setattr("studies.driver.WORTH_WORKERS", left)
    study = run_study(small(tmp_path, fuse="never"))  # the first run is trained here, to learn what one takes
    assert (used or ["Here"]) == [place] and states(study) == ["COMPLETE"] * 3


def test_script_with_a_module_of_its_own_is_not_run_again_in_the_workers(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(pause=0, points=4))
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["started", "0", "1", "2", "3", "4", "['COMPLETE', 'COMPLETE', 'COMPLETE', 'COMPLETE']"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_driver(number: signal.Signals, tmp_path: Path) -> None:
    if number == signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("SIGINT is ignored here, as by what a shell starts with &")
    (tmp_path / "script.py").write_text(SCRIPT.format(pause=0.2, points=20))  # ten seconds
    command = [sys.executable, "script.py"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as driver:
        process = psutil.Process(driver.pid)
        assert driver.stdout is not None
        assert wait_until(lambda: driver.stdout and driver.stdout.readline() == b"1\n", 60)  # both workers train
        workers = workers_of(process)
        assert len(workers) == 2
        time.sleep(0.3)  # both are in the midst of a run, which takes a second
        if number == signal.SIGINT:  # a terminal sends it to every process
            os.killpg(driver.pid, number)
        else:
            driver.send_signal(number)
        driver.communicate(timeout=20)
        assert driver.returncode != 0
    assert wait_until(lambda: not any(worker.is_running() for worker in workers), 10)
    if number != signal.SIGKILL:
        study = load_study(str(tmp_path / "studies.db"), "scripted")
        assert set(states(study)) == {"COMPLETE", "FAIL"}
        assert {trial.user_attrs.get("error") for trial in study.trials} == {None, "interrupted"}


def test_ctrl_c_three_times_ends_a_script_and_its_workers(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(pause=0.2, points=20))
    restore = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # here it may be ignored
    command = [sys.executable, "script.py"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=restore
    ) as driver:
        assert driver.stdout is not None
        assert wait_until(lambda: driver.stdout and driver.stdout.readline() == b"1\n", 60)  # both workers train
        workers = workers_of(psutil.Process(driver.pid))
        blocked = Path(f"/proc/{workers[0].pid}/status").read_text().partition("SigBlk:")[2].split()[0]
        assert int(blocked, 16) & 1 << (signal.SIGINT - 1)  # from its first line on
        for _ in range(3):
            os.killpg(driver.pid, signal.SIGINT)
            time.sleep(0.12)
        driver.communicate(timeout=60)
    assert driver.returncode != 0
    assert wait_until(lambda: not any(worker.is_running() for worker in workers), 10)
    assert set(states(load_study(str(tmp_path / "studies.db"), "scripted"))) == {"COMPLETE", "FAIL"}


def test_what_a_job_raises_comes_back_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr("studies.training.work.train_alone", broken)
    failure = work(lambda: Workload.of(Net, Blobs), Job((Planned(0.1, 8, 0),), 1, False, tmp_path))
    assert isinstance(failure, Failure) and failure.out_of_memory
    assert failure.error.startswith("RuntimeError: DefaultCPUAllocator") and "Traceback" in failure.traceback


@pytest.mark.parametrize("workers", [0, -1, 1.5, "many", True, 1000, None])
def test_number_of_workers_is_checked(workers: Any) -> None:
    with pytest.raises(ValueError, match=f"workers must be auto or a whole number from 1 to 256, got {workers!r}"):
        StudyConfig(workers=workers)


def test_free_samplers_train_one_run_after_the_other() -> None:
    assert StudyConfig(sampler="tpe").workers == "auto" and StudyConfig(sampler="tpe", workers=1).workers == 1
    with pytest.raises(ValueError, match="workers belong to edges and grid: tpe chooses each run by those before, got 2"):
        StudyConfig(sampler="tpe", workers=2)
