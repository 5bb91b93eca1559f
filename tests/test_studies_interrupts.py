"""Ctrl-C and SIGTERM interrupt a study, but no write."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from studies.commands.command_line import run
from studies.commands.ctrl_c import AGAIN, INTERRUPTED
from studies.errors import BadInput
from studies.storage import interrupts
from studies.storage.interrupts import interrupt_if_wanted, interruptible, uninterrupted


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def number(request: pytest.FixtureRequest) -> signal.Signals:
    if signal.getsignal(request.param) is signal.SIG_IGN:
        pytest.skip("it is ignored here, as by what a shell starts with &")
    return signal.Signals(request.param)


def test_interrupt_of_a_write_comes_at_its_end(number: signal.Signals) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        with uninterrupted():
            with uninterrupted():
                os.kill(os.getpid(), number)
                time.sleep(0.1)
                done.append("inner")
            done.append("outer")
        done.append("after")
    assert done == ["inner", "outer"]


def test_write_that_waits_may_be_given_up(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible(), uninterrupted():
        os.kill(os.getpid(), number)
        time.sleep(0.1)
        interrupt_if_wanted()
        raise AssertionError("the write went on")


def test_handlers_are_given_back_and_an_interrupt_is_not_kept_for_later(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(ZeroDivisionError), interruptible(), uninterrupted():
        os.kill(os.getpid(), number)
        time.sleep(0.1)
        raise ZeroDivisionError
    assert signal.getsignal(number) is before
    with interruptible(), uninterrupted():
        pass
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), number)
        time.sleep(1)
    assert signal.getsignal(number) is before


def test_of_a_watched_process_the_first_interrupt_is_raised_and_the_others_are_handed_on(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[int] = []
    monkeypatch.setattr(interrupts, "_watcher", lambda number, _: handed.append(number))
    monkeypatch.setattr(interrupts, "_came", False)
    with pytest.raises(KeyboardInterrupt), interruptible():
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)
            assert handed == [number] and interrupts.came()


def test_interrupt_that_was_swallowed_comes_at_the_end_of_the_next_write() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        interrupts.come_again()
        with uninterrupted():
            done.append("written")
        done.append("after")
    assert done == ["written"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BadInput("x"), ImportError("half of it"), SystemExit(1)], ids=repr)
def test_whatever_is_raised_after_an_interrupt_is_told_as_one(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> int:
        raise error

    monkeypatch.setattr(interrupts, "_came", True)
    monkeypatch.setattr(interrupts, "_watcher", print)
    assert run(interrupted, "launch_study") == INTERRUPTED
    assert capsys.readouterr().err == f"interrupted: {AGAIN}\n"


def test_module_that_fails_is_not_taken_for_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_came", True)  # of somebody's Ctrl-C in a notebook, say
    monkeypatch.setattr(interrupts, "_watcher", None)
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0, "launch_study")


def ended_by_itself(tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    """A command whose body is ``code``."""
    begin = "import os, signal, subprocess, sys, threading, time\nfrom studies.commands.ctrl_c import watch\nwatch()\n"
    script = tmp_path / "script.py"
    script.write_text("from studies.storage.interrupts import interruptible\n" + begin + code)
    restore = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # here it may be ignored
    command = [sys.executable, str(script)]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, preexec_fn=restore)


def test_ctrl_c_before_anything_began_ends_a_command_at_once(tmp_path: Path) -> None:
    done = ended_by_itself(tmp_path, "signal.raise_signal(signal.SIGINT)\ntime.sleep(50)\n")
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "", f"interrupted: {AGAIN}\n")


BUSY = """
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(50)"])
print(child.pid, flush=True)
try:
    with interruptible():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            {waits}
finally:
    print("not reached")
"""


@pytest.mark.parametrize("waits", ["time.sleep(50)", "threading.Thread(target=time.sleep, args=(50,)).start(); sys.exit(1)"])
def test_ctrl_c_again_ends_a_command_whose_end_is_held_up_and_what_it_started(waits: str, tmp_path: Path) -> None:
    done = ended_by_itself(tmp_path, BUSY.format(waits=waits))
    assert (done.returncode, done.stderr) == (INTERRUPTED, f"interrupted: {AGAIN}\n")
    child = int(done.stdout.split()[0])
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_ctrl_c_that_nothing_can_raise_leaves_no_traceback(tmp_path: Path) -> None:
    code = "class Dies:\n    def __del__(self):\n        signal.raise_signal(signal.SIGINT)\n"
    done = ended_by_itself(tmp_path, code + "with interruptible():\n    Dies()\nprint('went on')\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


def test_fork_of_a_command_is_interrupted_alone(tmp_path: Path) -> None:
    code = """
child = os.fork()
if not child:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = ended_by_itself(tmp_path, code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


def test_ctrl_c_stays_ignored_where_it_is(tmp_path: Path) -> None:
    begin = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nfrom studies.commands.ctrl_c import watch\nwatch()\n"
    code = [sys.executable, "-c", begin + "signal.raise_signal(signal.SIGINT)\nprint('went on')"]
    done = subprocess.run(code, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")
