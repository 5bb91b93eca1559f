"""Ctrl-C, pressed once to five times at random moments of a launch: it ends, says how to go on, and leaves nothing behind.

A press is what a terminal makes of it: SIGINT to every process of the launch's group. After each try the database must be whole
and the same command must come to the end of the study.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil
from small_study import (
    LAUNCH,
    MARK,
    NAME,
    Tables,
    broken_promises,
    fork_launch,
    integrity,
    lost,
    processes_of,
    storage_of,
    stored,
    tables,
)

from studies import StudyConfig, run_study
from studies.commands.command_line import run
from studies.commands.ctrl_c import INTERRUPTED
from studies.commands.launch import main as main_of_launch
from studies.commands.launch import parse_args as parse_launch
from studies.training.user_folder import add_current_folder

MODULE = """
import os
import time

from lightning_modules import Parabola


class Slow(Parabola):
    def training_step(self, batch, batch_idx):
        time.sleep(float(os.environ.get("PAUSE", "0")))
        return super().training_step(batch, batch_idx)
"""
COMMON = "--model slow.Slow --data ParabolaData --data.n_examples 32 --data.noise 1 --seeds 1 --epochs 2".split()
FEW = "--fuse never --workers 1 --learning-rate 0.03 10 --points 3 --batch-size 4 16".split()  # 6 runs, 60 steps together
WAYS = {  # how it trains: options on top of the small study's, and seconds that a step waits while training is to be met
    "alone": (FEW, 0.1),
    "fused": ([*FEW, "--fuse", "auto"], 0.2),
    "search": ("--fuse never --workers 1 --batch-size 16 --per-decade 2".split(), 0.02),
    "workers": ([*FEW, "--workers", "2"], 0.2),
    "ray": ([*FEW, *"--engine ray --workers 2".split()], 0.2),
}
PHASES = ("start-up", "preflight", "training", "report", "exit")
EXIT = 0.5  # seconds after its last line within which its exit is met
MOST_PRESSES, APART = 5, (0.02, 2.0)  # seconds between two presses
IN_TIME = 5.0  # seconds from the second press, by which all is over
PATIENCE = 60.0  # seconds after the last press: what goes on then hangs
GO_ON = "the same command"
FAULTS = (
    "hangs",
    "later than 5 s after the second press",
    "exit codes that are not 130",
    "tracebacks",
    "processes left",
    "sentences missing",
    "databases damaged",
    "results lost",
    "next launches that failed",
)
HANG, LATE, CODE, TRACEBACK, LEFT, SENTENCE, DAMAGED, LOST, NEXT = FAULTS


class Try(NamedTuple):
    """What is pressed: ``presses`` times, ``apart`` seconds between them, the first at ``moment`` (0 to 1) of a phase."""

    way: str
    phase: str
    moment: float
    presses: int
    apart: float


class Timeline(NamedTuple):
    """Seconds of an unbroken launch: from its start to the study, to its last run, to its answer."""

    study: float
    trained: float
    told: float


def command(folder: Path, way: str, *options: str) -> list[str]:
    """The arguments of the launch."""
    place = ["--name", NAME, "--storage", str(storage_of(folder)), "--out", str(folder)]
    return [*COMMON, *WAYS[way][0], *place, *options]


@dataclass(frozen=True)
class Launched:
    """A launch, the head of a session. code: its exit code, None while it runs."""

    pid: int
    code: Callable[[], int | None]

    def wait(self, seconds: float) -> bool:
        """Whether it ended within ``seconds``."""
        return _until(lambda: self.code() is not None, seconds)


def start(folder: Path, way: str, phase: str) -> Launched:
    """Launch in a new ``folder``: for the start-up a process that begins with nothing, else a fork that has imported it all."""
    folder.mkdir()
    (folder / "slow.py").write_text(MODULE)
    (folder / "log.txt").touch()
    pause = str(WAYS[way][1] if phase == "training" else 0)
    if phase == "start-up":
        environment = os.environ | {MARK: str(folder), "PAUSE": pause}
        with (folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(LAUNCH), *command(folder, way)],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return Launched(process.pid, process.poll)

    def script() -> None:
        os.environ["PAUSE"] = pause
        sys.path.insert(0, str(LAUNCH.parent))
        sys.argv = [str(LAUNCH), *command(folder, way)]
        code = 0
        try:
            runpy.run_path(str(LAUNCH), run_name="__main__")
        except SystemExit as ended:
            code = int(ended.code or 0)
        ctypes.pythonapi.Py_Exit(code)  # exit hooks and all, as at the end of any script

    forked = fork_launch(folder, before=script)
    assert forked.pid is not None
    return Launched(forked.pid, lambda: forked.exitcode)


def _until(is_reached: Callable[[], bool], seconds: float = 600) -> bool:
    end = time.monotonic() + seconds
    while not (reached := is_reached()) and time.monotonic() < end:
        time.sleep(0.01)
    return reached


def has_study(folder: Path) -> bool:
    """Whether the study is in the database: what is tried beforehand was."""
    path = storage_of(folder)
    return path.exists() and path.stat().st_size > 0


def reports(folder: Path) -> bool:
    """Whether files of the report are written."""
    place = folder / NAME
    return place.is_dir() and any(path.is_file() for path in place.iterdir())


def told(folder: Path) -> bool:
    """Whether all that a launch says was said."""
    return "look closer: " in (folder / "log.txt").read_text()


def timeline(folder: Path, way: str, phase: str) -> Timeline:
    """Launch and let it finish, to know how long it takes."""
    began, launched, seconds = time.monotonic(), start(folder, way, phase), list[float]()
    for is_reached in (has_study, reports, told):
        _until(lambda reached=is_reached: reached(folder) or launched.code() is not None)  # type: ignore[misc]
        seconds.append(time.monotonic() - began)
        if phase == "start-up":  # the others are of no interest
            os.killpg(launched.pid, signal.SIGKILL)
            launched.wait(600)
            return Timeline(seconds[0], 0, 0)
    launched.wait(600)
    if launched.code() != 0:
        raise RuntimeError(
            f"an unbroken launch must end with code 0, got {launched.code()}: {(folder / 'log.txt').read_text()}"
        )
    return Timeline(*seconds)


def wait_for(tried: Try, folder: Path, launched: Launched, usual: Timeline) -> None:
    """Wait for the moment of the first press, or until the launch has ended."""
    begins, lasts = {
        "start-up": (lambda _: True, usual.study),
        "preflight": (lambda _: True, usual.study),
        "training": (has_study, usual.trained - usual.study),
        "report": (reports, usual.told - usual.trained),
        "exit": (told, EXIT),
    }[tried.phase]
    _until(lambda: begins(folder) or launched.code() is not None)
    launched.wait(tried.moment * lasts)


def left_of(folder: Path, session: int) -> list[psutil.Process]:
    """Living processes that the launch started: by their environment or by their session."""
    found = {each.pid: each for each in processes_of(folder)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process
    return list(found.values())


class Ended(NamedTuple):
    """How a launch ended. seconds: from its second press, or the only one. pressed: how often, before it had ended."""

    code: int
    seconds: float
    pressed: int
    faults: Counter[str]
    said: str


def press(tried: Try, folder: Path, usual: Timeline) -> Ended:
    """Launch, press, wait for the end, look what is left."""
    launched = start(folder, tried.way, tried.phase)
    wait_for(tried, folder, launched, usual)
    faults, moments = Counter[str](), list[float]()
    for number in range(tried.presses):
        if launched.wait(tried.apart if number else 0):
            break
        os.killpg(launched.pid, signal.SIGINT)
        moments.append(time.monotonic())
    if not launched.wait(PATIENCE):
        faults[HANG] += 1
    since = moments[1:2] or moments or [time.monotonic()]
    seconds = time.monotonic() - since[0]
    if len(moments) > 1 and seconds > IN_TIME:
        faults[LATE] += 1
    deadline = time.monotonic() + max(IN_TIME - seconds, 1.0)
    while (left := left_of(folder, launched.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    names = [_name(each) for each in left]
    faults[LEFT] += len(left)
    for each in left:
        with contextlib.suppress(psutil.Error):
            each.kill()
    launched.wait(10)
    code = launched.code() or 0
    if code == -signal.SIGINT:  # as shells count it
        code = INTERRUPTED
    said = (folder / "log.txt").read_text() + "".join(f"\nleft: {name}" for name in names)
    if moments and not faults[HANG] and code != INTERRUPTED:
        faults[CODE] += 1
    faults[TRACEBACK] += "Traceback" in said or "Exception ignored" in said
    faults[SENTENCE] += bool(moments) and code == INTERRUPTED and GO_ON not in said and not told(folder)
    return Ended(code, seconds, len(moments), +faults, said)


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} {' '.join(process.cmdline())[:120]}"
    return str(process.pid)


def go_on(tried: Try, folder: Path, expected: Tables) -> Counter[str]:
    """Look at the database, and give the same command again; what it trains alone is compared with an unbroken study."""
    faults = Counter[str]()
    known = stored(storage_of(folder))
    if known and integrity(storage_of(folder)) != "ok":
        faults[DAMAGED] += 1
    line = command(folder, tried.way, "--engine", "processes", "--workers", "1")

    def again() -> None:
        if tried.phase == "report":
            sys.exit(run(lambda: main_of_launch(line), "launch_study"))
        add_current_folder()
        parsed = parse_launch(line)  # the rest of the command, its report, takes longer than all of this
        for name in ("goes_on", "tau", "rho", "target_loss", "out", "self_check", "hold_out", "plan", "json", "export"):
            del parsed[name]
        run_study(StudyConfig.from_mapping(parsed), out=folder / NAME)
        sys.exit(0)

    process = fork_launch(folder, before=again)
    process.join()
    if process.exitcode != 0:
        faults[NEXT] += 1
        return faults
    faults[LOST] += lost(known, stored(storage_of(folder)))
    broken = broken_promises(folder, expected)
    if tried.way in ("fused", "search"):  # rounding, and what was asked meanwhile
        del broken["final tables that differ"]
    return +(faults + broken)


def tries(n: int, n_ray: int, chance: random.Random) -> list[Try]:
    """``n`` of them, ``n_ray`` on Ray; ways and phases in turn, everything else at random."""
    ways = [way for way in WAYS if way != "ray"]
    chosen = ["ray"] * n_ray + [ways[number % len(ways)] for number in range(n - n_ray)]
    phases = [PHASES[(number + number // len(PHASES)) % len(PHASES)] for number in range(n)]
    made = []
    for way, phase in zip(chosen, phases, strict=True):
        apart = APART[0] * (APART[1] / APART[0]) ** chance.random()
        made.append(Try(way, phase, chance.random(), chance.randint(1, MOST_PRESSES), apart))
    chance.shuffle(made)
    return made


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=100, metavar="N", help="launches that are interrupted (default: 100)")
    parser.add_argument("--ray", type=int, default=15, metavar="N", help="of them on Ray (default: 15)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of moments and presses (default: 0)")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="tries at the same time (default: 1)")
    parser.add_argument("--seconds", type=float, default=1e9, metavar="S", help="begin no try after S seconds (default: never)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Press, look, go on; a line a try and the sums at the end; 1 when a promise was broken."""
    options = parse_args(argv)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # what a shell starts with & ignores it, its children too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    chosen = tries(options.tries, options.ray, random.Random(options.seed))
    end, fork = time.monotonic() + options.seconds, multiprocessing.get_context("fork")
    top = Path(tempfile.mkdtemp())  # no TemporaryDirectory, which forks would remove at their exit
    try:
        kinds = {_kind(tried): None for tried in chosen} | {("alone", "training"): None}
        usual = {kind: timeline(top / "-".join(kind), *kind) for kind in kinds}
        expected = tables(storage_of(top / "alone-training"))
        found = fork.SimpleQueue()

        def work(part: int) -> None:
            for number in range(part, len(chosen), options.at_once):
                if time.monotonic() < end:
                    found.put(attempt(chosen[number], top / str(number), usual[_kind(chosen[number])], expected))

        parts = [fork.Process(target=work, args=(part,)) for part in range(options.at_once)]
        for each in parts:
            each.start()
        for each in parts:
            each.join()
        ended = []
        while not found.empty():
            ended.append(found.get())
    finally:
        shutil.rmtree(top, ignore_errors=True)
    faults = sum((each.faults for each in ended), Counter[str]())
    slowest = max((each.seconds for each in ended if each.pressed > 1), default=0)
    counted = ", ".join(f"{faults[kind]} {kind}" for kind in FAULTS)
    others = "".join(f", {times} {kind}" for kind, times in faults.items() if kind not in FAULTS)
    pressed = sum(each.pressed > 0 for each in ended)
    print(f"{pressed} launches, at most {slowest:.1f} s from the second press to the end: {counted}{others}")
    return int(bool(faults.total()))


def _kind(tried: Try) -> tuple[str, str]:
    """What a launch is timed as."""
    return ("alone", "start-up") if tried.phase == "start-up" else (tried.way, "training")


def attempt(tried: Try, folder: Path, usual: Timeline, expected: Tables) -> Ended:
    """Press, go on, and say how it went."""
    ended = press(tried, folder, usual)
    found = ended.faults + go_on(tried, folder, expected)
    told = "; ".join(f"{times} {kind}" for kind, times in found.items()) or "all promises kept"
    how = f"{ended.pressed} of {tried.presses} presses {tried.apart:.2f} s apart"
    print(f"{tried.way}, {tried.phase}, {how}: code {ended.code} after {ended.seconds:.1f} s: {told}", flush=True)
    if found:
        print(ended.said[-3000:], file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return ended._replace(faults=found, said="")


if __name__ == "__main__":
    sys.exit(main())
