"""Places that are missing, read-only or something else: each is told in one sentence within a second, before training.

Each command is a process of its own, in a folder of its own. What needs a read-only file system is mounted, which needs root
(``unshare -rm .venv/bin/python tests/endurance/places.py`` lends that); without, the modes of files take its place.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from studies.commands.command_line import BAD_INPUT, IN_USE
from studies.storage.lock import locked
from studies.storage.opening import open_storage

SCRIPTS = Path(__file__).parents[2] / "scripts"
LAUNCH, REPORT, COMPARE, DASHBOARD = "launch_study", "write_report", "compare_studies", "open_dashboard"
MOST_SECONDS = {BAD_INPUT: 1.0, IN_USE: 2.0}
CASES: list[tuple[str, str, str]] = [  # a script, its options, and a part of what it is to say
    (LAUNCH, "--storage read_only/new.db", "storage"),
    (LAUNCH, "--storage read_only/sub/new.db", "storage"),
    (LAUNCH, "--storage read_only/studies.db", "storage"),
    (LAUNCH, "--storage file/studies.db", "storage"),
    (LAUNCH, "--storage file", "storage"),
    (LAUNCH, "--storage empty", "storage"),
    (LAUNCH, "--storage read_only", "storage"),
    (LAUNCH, "--storage /proc/missing/studies.db", "storage"),
    (LAUNCH, "--storage postgresql://me:secret@127.0.0.1:9/studies", "storage"),
    (LAUNCH, "--out read_only", "out"),
    (LAUNCH, "--out read_only/sub", "out"),
    (LAUNCH, "--out file", "out"),
    (LAUNCH, "--out /proc/missing", "out"),
    (LAUNCH, "--config missing.yaml", "config"),
    (LAUNCH, "--config missing/study.yaml", "config"),
    (LAUNCH, "--config read_only", "config"),
    (LAUNCH, "--config pipe", "config"),
    (LAUNCH, "--config /dev/zero", "config"),
    (LAUNCH, "--config /proc/self/mem", "config"),
    (LAUNCH, "--storage held/studies.db --name held", "is being worked on by process"),
    (REPORT, "", "storage"),
    (REPORT, "--storage file", "storage"),
    (REPORT, "--storage read_only", "storage"),
    (REPORT, "--run missing.csv", "run"),
    (COMPARE, "missing.db a b", "storage"),
    (COMPARE, "file a b", "storage"),
    (DASHBOARD, "--storage missing.db", "storage"),
    (DASHBOARD, "--storage read_only", "storage"),
]


class Refusal(NamedTuple):
    """How a command ended: its exit code, what it said on stderr, how long it took, and what it left."""

    code: int
    said: str
    seconds: float
    left: set[str]


def refuse(script: str, options: str) -> Refusal:
    """Call a script in a folder of its own."""
    with TemporaryDirectory(prefix="places-") as name:
        folder = Path(name)
        with _places(folder):
            before = _listed(folder)
            command = [sys.executable, str(SCRIPTS / f"{script}.py"), *options.split()]
            begun = time.perf_counter()
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
            seconds = time.perf_counter() - begun
            return Refusal(done.returncode, done.stderr, seconds, _listed(folder) - before)


def broken(refusal: Refusal, sentence: str) -> str:
    """What is not as promised, times aside; "" when all is."""
    found = [] if refusal.code == (IN_USE if "worked on" in sentence else BAD_INPUT) else [f"exit code {refusal.code}"]
    if refusal.said.count("\n") != 1 or "Traceback" in refusal.said or sentence not in refusal.said or "secret" in refusal.said:
        found.append(f"said {refusal.said[-500:]!r}")
    if refusal.left:
        found.append(f"left {', '.join(sorted(refusal.left))}")
    return "; ".join(found)


@contextlib.contextmanager
def _places(folder: Path) -> Iterator[None]:
    (folder / "file").write_text("these are notes\n" * 4)
    (folder / "empty").touch()
    (folder / "held").mkdir()
    os.mkfifo(folder / "pipe")
    read_only = folder / "read_only"
    read_only.mkdir()
    open_storage(f"sqlite:///{read_only / 'studies.db'}").engine.dispose()
    with locked(f"sqlite:///{folder / 'held' / 'studies.db'}", "held"), _read_only(read_only):
        yield


@contextlib.contextmanager
def _read_only(place: Path) -> Iterator[None]:
    """Nothing in ``place`` can be written: mounted so, for root, whom modes do not stop."""
    mounted = os.geteuid() == 0
    if mounted:
        subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
    else:
        for path in (*place.iterdir(), place):
            path.chmod(path.stat().st_mode & 0o555)
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)
        else:
            place.chmod(0o755)


def _listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=3, metavar="N", help="calls of each, of which the median counts (default: 3)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Call each script at each place and print a row for it."""
    rounds, bad = parse_args(argv).rounds, 0
    print("| command | exit code | s | sentence |\n|---|---|---|---|")
    for script, options, sentence in CASES:
        refusals = [refuse(script, options) for _ in range(rounds)]
        seconds = statistics.median(refusal.seconds for refusal in refusals)
        faults = [fault for refusal in refusals if (fault := broken(refusal, sentence))]
        if seconds >= MOST_SECONDS.get(refusals[0].code, 0):
            faults.append(f"took {seconds:.2f} s")
        bad += bool(faults)
        said = refusals[-1].said.strip().partition(": ")[2]
        print(f"| {script} {options} | {refusals[-1].code} | {seconds:.2f} | {said[:300]} |", flush=True)
        for fault in faults:
            print(f"{script} {options}: {fault}", file=sys.stderr)
    print(f"{len(CASES)} places, {bad} not told as promised")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
