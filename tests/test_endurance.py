"""The short form of what ``tests/endurance`` does for hours: four launches at once, a full disk, thousands of runs."""

from __future__ import annotations

import importlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pytest

from studies.commands.command_line import BAD_INPUT

SCRIPTS = Path(__file__).parent / "endurance"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A script by its name, as a module."""
    monkeypatch.syspath_prepend(SCRIPTS)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def in_process(name: str, *argv: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own: it forks, which a process with threads must not."""
    command = [*before, sys.executable, str(SCRIPTS / f"{name}.py"), *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_four_launches_at_once_train_a_study_once(script: Any, tmp_path: Path) -> None:
    launches = script("launches")
    small_study = script("small_study")
    ended = launches.launch_at_once(tmp_path / "fresh", [0, 0, 0.1, 0.2])
    faults = launches.faults_of(ended)
    del faults["refusals that took longer"]  # this machine may be busy
    assert faults.total() == 0, ended
    runs, _ = small_study.tables(small_study.storage_of(tmp_path / "fresh"))
    assert len(runs) == small_study.N_RUNS and runs.index.is_unique


def test_launches_that_break_a_promise_are_counted(script: Any) -> None:
    launches = script("launches")
    holder = f"process 7 on {socket.gethostname()}"
    one = launches.Ended(7, 0, 9.0, 9.0, "report")
    refused = launches.Ended(8, 3, 0.5, 0.5, f"study is being worked on by {holder}")
    assert launches.faults_of([one, refused, refused]).total() == 0
    assert launches.faults_of([one, one, refused])["rounds in which not exactly one trained"] == 1
    assert launches.faults_of([refused, refused])["rounds in which not exactly one trained"] == 1
    assert launches.faults_of([one, refused._replace(code=1)])["rounds in which not exactly one trained"] == 1
    nameless = "refusals that did not name process and host of the one"
    assert launches.faults_of([one, refused._replace(said="by another process")])[nameless] == 1
    assert launches.faults_of([one, refused._replace(seconds=2.1)])["refusals that took longer"] == 1
    assert launches.faults_of([one, refused._replace(said=f"Traceback {holder}")])["tracebacks"] == 1


def test_full_disk_loses_nothing_and_the_study_goes_on() -> None:
    if os.geteuid() != 0 and shutil.which("unshare") is None:
        pytest.skip("a small disk must be mounted, which needs root or unshare")
    ended = in_process("disk_full", "--rounds", "1", before=() if os.geteuid() == 0 else ("unshare", "-rm"))
    if ended.returncode == BAD_INPUT or "unshare" in ended.stderr:
        pytest.skip(ended.stderr)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("disk full 1 times (1 at a write of the storage): 0 ")


def test_full_disk_script_says_that_it_may_not_mount(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing = tmp_path / "mount"
    refusing.write_text("#!/bin/sh\necho 'mount: must be superuser' >&2\nexit 32\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert script("disk_full").main([]) == BAD_INPUT
    said = capsys.readouterr().err
    assert re.fullmatch(r"disk_full: a small disk must be mounted, which needs root.*, got: mount: must be superuser\n", said)


def test_soak_tells_what_processes_hold_as_a_study_grows(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert script("soak").main("--trials 60 --workers 1 --every 10 --after 20".split()) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"│ {measure} +│ +[\d.]", printed) for measure in ("driver", "workers", "files", "threads"))
    assert re.search(r"60 runs, 1 workers: \w+ grew most, by [\d.]+ % after the first 20 \(5 % allowed\)", printed)


def test_soak_fails_when_more_has_grown_than_is_allowed(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    soak = script("soak")
    monkeypatch.setattr(soak, "ALLOWED", -1.0)  # what has not grown at all is too much
    assert soak.main("--trials 20 --workers 1 --every 5 --after 5".split()) == 1


def test_soak_sees_memory_files_and_threads_that_are_not_let_go(script: Any, tmp_path: Path) -> None:
    soak = script("soak")
    watch, study, held, stop = soak.Watch(10), optuna.create_study(), [], threading.Event()
    for finished in range(41):
        if finished > 20:
            thread = threading.Thread(target=stop.wait)
            thread.start()
            held.append((bytearray(os.urandom(2**20)) * 8, (tmp_path / str(finished)).open("w"), thread))
        watch(study, finished, 40)
    grown = soak.growth(watch.samples, after=20)
    stop.set()
    for _, file, thread in held:
        file.close()
        thread.join()
    assert [sample.finished for sample in watch.samples] == [0, 10, 20, 30, 40]
    assert grown["files"][1] - grown["files"][0] == 20 and grown["threads"][1] - grown["threads"][0] == 20
    assert grown["driver"][1] - grown["driver"][0] > 100e6 and grown["driver"][2] > 5


def test_growth_is_of_medians_after_the_first_runs(script: Any) -> None:
    soak = script("soak")
    samples = [
        soak.Usage(finished, seconds=finished, cpu_seconds=0, driver=driver, workers=0, files=10, threads=2)
        for finished, driver in [(0, 1), (10, 100), (20, 900), (30, 100), (40, 110), (50, 110), (60, 500)]
    ]
    grown = soak.growth(samples, after=10)
    assert grown["driver"] == (100, 110, 10.0)
    assert grown["workers"] == (0, 0, 0.0) and grown["files"] == (10, 10, 0.0)
    with pytest.raises(ValueError, match="after must leave at least 2 samples, got 60 with 1 behind it"):
        soak.growth(samples, after=60)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--trials 30", "--trials must be a multiple of 20, got 30"),
        ("--trials 0", "--trials must be a multiple of 20, got 0"),
        ("--every 0", "--every must be at least 1, got 0"),
        ("--trials 1000", "--after and --every together must be at most --trials, got 1000 and 100"),
    ],
)
def test_soak_refuses_what_it_cannot_count(script: Any, capsys: pytest.CaptureFixture[str], argv: str, sentence: str) -> None:
    with pytest.raises(SystemExit):
        script("soak").main(argv.split())
    assert capsys.readouterr().err.endswith(f"error: {sentence}\n")


PRESSES = """
import sys, shutil, tempfile
from pathlib import Path
import ctrl_c
from ctrl_c import Timeline, Try

usual = Timeline(study=2, trained=4, told=6)
top = Path(tempfile.mkdtemp())
tries = [
    Try("alone", "start-up", 0.4, 1, 0.1),
    Try("fused", "preflight", 0.3, 3, 0.12),
    Try("workers", "training", 0.6, 5, 0.12),
    Try("alone", "report", 0.0, 2, 0.5),
]
try:
    ctrl_c.timeline(top / "whole", "alone", "training")
    expected = ctrl_c.tables(ctrl_c.storage_of(top / "whole"))
    broken = [ctrl_c.attempt(each, top / str(number), usual, expected).faults for number, each in enumerate(tries)]
finally:
    shutil.rmtree(top)
for each in broken:
    del each["later than 5 s after the second press"]  # this machine may be busy
sys.exit(any(each.total() for each in broken))
"""


def test_ctrl_c_at_any_moment_ends_a_launch_and_leaves_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", PRESSES], cwd=SCRIPTS, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 4


def test_random_presses_meet_every_way_and_phase(script: Any) -> None:
    ctrl_c = script("ctrl_c")
    made = ctrl_c.tries(100, 15, random.Random(0))
    assert len(made) == 100 and sum(each.way == "ray" for each in made) == 15
    assert {(each.way, each.phase) for each in made} == {(way, phase) for way in ctrl_c.WAYS for phase in ctrl_c.PHASES}
    assert {each.presses for each in made} == {1, 2, 3, 4, 5} and all(0.02 <= each.apart <= 2 for each in made)
