"""SIGKILL at the write points of a launch, one by one: the next launch ends with the tables of an unbroken study.

Write points are the audit events ``lr_study.write``, which name what is about to be written, and before and after each commit
to the database, named by the call of Optuna's storage that makes it. Of each name the first, the middle and the last
occurrence are killed at. Further options are those of a launch, such as --checkpoint.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from small_study import PROMISES, broken_promises, fork_launch, storage_of, tables, unbroken
from sqlalchemy import event
from sqlalchemy.orm import Session

EVENT = "lr_study.write"
NOT_KILLED, FAILED = "points that were not reached", "launches after a kill that failed"

Point = tuple[str, int]  # its name, and which of its occurrences in a launch, from 1


def parse_args(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The options, and those of the launch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=None, metavar="N", help="kill at N of the points (default: all)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice of --rounds (default: 0)")
    return parser.parse_known_args(argv)


def watch(reached: Callable[[Point], object]) -> None:
    """From now on call ``reached`` at each write point of this process."""
    seen: Counter[str] = Counter()

    def at(name: str) -> None:
        seen[name] += 1
        reached((name, seen[name]))

    def audit(name: str, arguments: tuple[object, ...]) -> None:
        if name == EVENT:
            at(str(arguments[0]))

    def commit(moment: str) -> None:
        call = _storage_call()
        if not call.startswith("get_"):  # which writes nothing
            at(f"{moment} commit of {call}")

    sys.addaudithook(audit)
    for moment in ("before", "after"):
        event.listen(Session, f"{moment}_commit", lambda _, moment=moment: commit(moment))


def _storage_call() -> str:
    """The outermost method of Optuna's storage that is at work; those with an underscore are called by its cache."""
    frame, name = sys._getframe(), "?"
    while frame.f_back:
        frame = frame.f_back
        code = frame.f_code
        if code.co_filename.endswith("_rdb/storage.py"):
            name = code.co_name.lstrip("_")
    return name


def points_of(folder: Path, *options: str) -> list[Point]:
    """Every point an unbroken launch in ``folder`` comes by, in order."""
    lines = folder / "points.txt"

    def note(point: Point) -> None:
        with lines.open("a") as file:
            file.write(f"{point[1]} {point[0]}\n")

    unbroken(folder, *options, before=lambda: watch(note))
    return [(name, int(number)) for number, _, name in (line.partition(" ") for line in lines.read_text().splitlines())]


def chosen(points: Sequence[Point]) -> list[Point]:
    """The first, the middle and the last occurrence of each name, in the order of ``points``."""
    last = {name: number for name, number in points}
    return [(name, number) for name, number in points if number in {1, (1 + last[name]) // 2, last[name]}]


def kill_at(point: Point, folder: Path, *options: str) -> int | None:
    """Launch in a new ``folder`` and kill at the point; the exit code, which is -9 when it came by."""

    def kill(reached: Point) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    folder.mkdir()
    process = fork_launch(folder, *options, before=lambda: watch(kill))
    process.join()
    return process.exitcode


def main(argv: Sequence[str] | None = None) -> int:
    """Kill at each point and launch again; 1 when a promise was broken."""
    options, more = parse_args(argv)
    faults: Counter[str] = Counter()
    killed: dict[str, list[int]] = {}
    with TemporaryDirectory() as top:
        points = points_of(Path(top) / "unbroken", *more)
        expected = tables(storage_of(Path(top) / "unbroken"))
        at = chosen(points)
        if options.rounds is not None:
            at = random.Random(options.seed).sample(at, min(options.rounds, len(at)))
        for number, point in enumerate(at):
            folder = Path(top) / str(number)
            faults[NOT_KILLED] += kill_at(point, folder, *more) != -signal.SIGKILL
            again = fork_launch(folder, *more)
            again.join()
            broken = broken_promises(folder, expected) + Counter({FAILED: int(again.exitcode != 0)})
            faults += broken
            killed.setdefault(point[0], []).append(point[1])
            if broken:
                print(f"{point}: {dict(broken)}", file=sys.stderr)
    for name, numbers in sorted(killed.items()):
        print(f"{name}: killed at {', '.join(map(str, numbers))} of {sum(name == other for other, _ in points)}")
    counted = ", ".join(f"{faults[kind]} {kind}" for kind in (NOT_KILLED, FAILED, *PROMISES))
    print(f"{len(at)} kills at {len(killed)} of {len(dict(points))} named write points: {counted}")
    return int(faults.total() > 0)


if __name__ == "__main__":
    sys.exit(main())
