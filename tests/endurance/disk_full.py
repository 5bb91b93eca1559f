"""Fill the disk below a study at random moments: a sentence names the place, nothing is lost, and with space it goes on.

Needs to mount a small disk in memory, so root: ``unshare -rm .venv/bin/python tests/endurance/disk_full.py`` lends that.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from small_study import (
    PROMISES,
    Tables,
    broken_promises,
    fork_launch,
    integrity,
    lost,
    report_of,
    storage_of,
    stored,
    tables,
    unbroken,
    whole_copy,
)

from studies.commands.command_line import BAD_INPUT, FAILED

logger = logging.getLogger(__name__)

SIZE = "64m"  # of the disk: the report of the study takes 10 MB, most of it plotly.js
PAGE = 4096  # bytes, the least a file takes there
KINDS = ("storage", "checkpoint", "report")  # what is on the disk, and is being written when it fills
FAULTS = (
    "wrong exit codes",
    "sentences that did not name the place",
    "tracebacks",
    "acknowledged results lost",
    "launches that did not go on when there was space",
)
CODE, SENTENCE, TRACEBACK, LOST, STUCK = FAULTS
TEMPORARY = PROMISES[3]


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A disk in memory at ``place``. Raises OSError where this user may not mount one."""
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], capture_output=True, text=True)
    if made.returncode:
        raise OSError(f"a small disk must be mounted, which needs root, or `unshare -rm` before it, got: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> None:
    """Leave not a page of the disk."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        for size in (2**20, PAGE):
            with contextlib.suppress(OSError):
                while filler.write(bytes(size)) == size:
                    pass


def kind_of(write: str) -> str:
    """Which of ``KINDS`` a write point belongs to, by its name; "" for one that needs no space."""
    if write.endswith(" in place"):
        return ""
    if write == "checkpoint":
        return write
    return "report" if write.endswith(" beside") else "storage"


class Writes:
    """Listens to the write points of a launch in a fork: counts them by kind, calls ``then`` at number ``number`` of one."""

    def __init__(self, kind: str = "", number: int = 0, then: Callable[[], object] | None = None) -> None:
        self._kind, self._number, self._then = kind, number, then
        self._counts = multiprocessing.RawArray("i", len(KINDS))  # the fork counts, we read
        self._acknowledged = multiprocessing.RawValue("i")
        self._before, self._over = "", False

    def passed(self, kind: str) -> int:
        """Write points of a kind so far."""
        return self._counts[KINDS.index(kind)]

    @property
    def acknowledged(self) -> int:
        """Results that were stored before ``then`` was called: another write followed."""
        return self._acknowledged.value

    def listen(self) -> None:
        """From now on, in this process."""
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "lr_study.write" or self._over:
            return
        self._acknowledged.value += self._before == "value"
        self._before, kind = args[0], kind_of(args[0])
        if self._then is not None and kind == self._kind and self.passed(kind) == self._number:
            self._over = True
            self._then()
        if kind:
            self._counts[KINDS.index(kind)] += 1


class Study:
    """The small study in a new ``folder``, with what ``kind`` says on a small disk and all else beside it."""

    def __init__(self, kind: str, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.disk = folder, folder / "disk"
        self.home, self.out = (self.disk, folder) if kind == "storage" else (folder, self.disk)
        self._options = ["--checkpoint", "--storage", str(storage_of(self.home)), "--out", str(self.out)]

    def launch(self, before: Callable[[], object] | None = None) -> tuple[int | None, str]:
        """Launch it in a fork, ``before`` being called there first; the exit code and what was said."""
        log = self.folder / "log.txt"
        log.unlink(missing_ok=True)
        process = fork_launch(self.folder, *self._options, before=before)
        process.join()
        return process.exitcode, log.read_text()

    def stored(self) -> dict[int, Any]:
        """All that is stored of its complete trials, whether or not there is space; raises when its file is damaged."""
        with whole_copy(storage_of(self.home)) as copy:
            if copy.exists() and integrity(copy) != "ok":
                raise sqlite3.DatabaseError(f"{storage_of(self.home)} is damaged")
            return stored(copy)


def break_once(kind: str, number: int, folder: Path, expected: Tables) -> Counter[str]:
    """Fill the disk at a write point, launch again on the full disk, then with space; the faults that were seen."""
    study, faults = Study(kind, folder), Counter[str]()
    with small_disk(study.disk):
        writes = Writes(kind, number, lambda: fill(study.disk))
        known: dict[int, Any] = {}
        for before in (writes.listen, None):
            code, said = study.launch(before)
            sentences = [line for line in said.splitlines() if line.startswith("launch_study: ")]
            faults[CODE] += code not in ((FAILED,) if before else (FAILED, BAD_INPUT))
            faults[SENTENCE] += len(sentences) != 1 or str(study.disk) not in sentences[0]
            faults[TRACEBACK] += "Traceback" in said
            logger.info("%s, write %d: exit code %s, %s", kind, number, code, sentences)
            now = study.stored()
            faults[LOST] += lost(known, now) + max(0, writes.acknowledged - len(now))
            known = now
        (study.disk / "filler").unlink()
        code, said = study.launch()
        faults[STUCK] += code != 0
        if code:
            logger.warning("%s, write %d, with space again: exit code %s, %s", kind, number, code, said)
        else:
            faults[LOST] += lost(known, study.stored())
            faults += broken_promises(study.home, expected)
            faults[TEMPORARY] += len(list(report_of(study.out).rglob(".*")))
    return faults


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, metavar="N", help="times the disk is filled (default: 30)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random moments (default: 0)")
    parser.add_argument("--verbose", action="store_true", help="show how each launch ended, on stderr")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Fill, count, print a line; 1 when a promise was broken, 2 where no disk can be mounted."""
    options = parse_args(argv)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, format="%(message)s")
    moments, faults, done = random.Random(options.seed), Counter[str](), Counter[str]()
    with TemporaryDirectory() as top:
        try:
            with small_disk(Path(top) / "trial"):
                pass
        except OSError as error:
            print(f"disk_full: {error}", file=sys.stderr)
            return BAD_INPUT
        whole, writes = Path(top) / "unbroken", Writes()
        unbroken(whole, "--checkpoint", before=writes.listen)
        expected = tables(storage_of(whole))
        for number in range(options.rounds):
            kind = KINDS[number % len(KINDS)]
            faults += break_once(kind, moments.randrange(writes.passed(kind)), Path(top) / str(number), expected)
            done[kind] += 1
    told = ", ".join(f"{times} at a write of the {kind}" for kind, times in done.items())
    counted = ", ".join(f"{faults[kind]} {kind}" for kind in (*FAULTS, *PROMISES))
    print(f"disk full {done.total()} times ({told}): {counted}")
    return int(bool(faults.total()))


if __name__ == "__main__":
    sys.exit(main())
