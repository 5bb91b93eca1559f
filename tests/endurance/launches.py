"""Launch a fresh study four times at once, again and again: one trains it, the others say at once who that is and leave."""

from __future__ import annotations

import argparse
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from small_study import LAUNCH, PROMISES, Tables, arguments, broken_promises, storage_of, tables, unbroken

from studies.commands.command_line import IN_USE

AT_ONCE = 4
APART = 0.5  # seconds at most between the first and the last: a process starts within a tenth
PROMPT = 2.0  # seconds, by which who comes second has left
LOOK = 0.005  # seconds between two looks who has left
FAULTS = (
    "rounds in which not exactly one trained",
    "refusals that did not name process and host of the one",
    "refusals that took longer",
    "tracebacks",
)
NOT_ONE, NAMELESS, SLOW, TRACEBACK = FAULTS


class Ended(NamedTuple):
    """How a launch came to its end."""

    process: int
    code: int
    seconds: float
    cpu_seconds: float  # which a busy machine does not change
    said: str


def launch_at_once(folder: Path, delays: Sequence[float]) -> list[Ended]:
    """Launch the study in a new ``folder`` after each of the ``delays``, in seconds, ascending, in the order they ended."""
    folder.mkdir()
    command = [sys.executable, str(LAUNCH), *arguments(folder)]
    launched, began = [], []
    for number, delay in enumerate(delays):
        time.sleep(delay - (delays[number - 1] if number else 0))
        with (folder / f"{number}.txt").open("wb") as log:
            began.append(time.monotonic())
            launched.append(subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
    ended: dict[int, Ended] = {}
    while len(ended) < len(launched):
        for number, process in enumerate(launched):
            if number in ended:
                continue
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                seconds, said = time.monotonic() - began[number], (folder / f"{number}.txt").read_text()
                ended[number] = Ended(pid, process.returncode, seconds, usage.ru_utime + usage.ru_stime, said)
        time.sleep(LOOK)
    return list(ended.values())


def faults_of(launches: Sequence[Ended]) -> Counter[str]:
    """What was wrong with launches of one study at once, by ``FAULTS``."""
    trained = [each for each in launches if each.code == 0]
    refused = [each for each in launches if each.code == IN_USE]
    one = len(trained) == 1 and len(trained) + len(refused) == len(launches)
    holder = f"process {trained[0].process} on {socket.gethostname()}" if trained else "nobody"
    return Counter(
        {
            NOT_ONE: int(not one),
            NAMELESS: sum(holder not in each.said for each in refused),
            SLOW: sum(each.seconds > PROMPT for each in refused),
            TRACEBACK: sum("Traceback" in each.said for each in launches),
        }
    )


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, metavar="N", help="studies that are launched (default: 50)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments of the launches (default: 0)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Launch, count, print a line; 1 when a promise was broken."""
    options = parse_args(argv)
    moments, faults = random.Random(options.seed), Counter[str]()
    refused: list[Ended] = []
    with TemporaryDirectory() as top:
        whole = Path(top) / "unbroken"
        unbroken(whole)
        expected: Tables = tables(storage_of(whole))
        for number in range(options.rounds):
            folder = Path(top) / str(number)
            launches = launch_at_once(folder, sorted(moments.uniform(0, APART) for _ in range(AT_ONCE)))
            found = faults_of(launches)
            faults += found + broken_promises(folder, expected)
            refused += [each for each in launches if each.code == IN_USE]
            if found.total():
                print(f"round {number}: {dict(+found)}, exit codes {[each.code for each in launches]}", file=sys.stderr)
    seconds, cpu = [each.seconds for each in refused], [each.cpu_seconds for each in refused]
    told = f"{len(refused)} refused"
    if refused:
        told += f" after {median(seconds):.2f} s, at most {max(seconds):.2f} s, of which {median(cpu):.2f} s were of the CPU"
    counted = ", ".join(f"{faults[kind]} {kind}" for kind in (*FAULTS, *PROMISES))
    print(f"{AT_ONCE} launches at once of {options.rounds} fresh studies, {told}: {counted}")
    return int(bool(faults.total()))


if __name__ == "__main__":
    sys.exit(main())
