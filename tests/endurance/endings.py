"""Every way a study ends too soon: results stay, the exit code is not 0, no process is left, and the same command goes on.

One line an ending: signals to the driver, and a module that ends its process.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from small_study import Tables, broken_promises, fork_launch, launch, lost, storage_of, stored, survivors, tables, unbroken

MODULE = """
import os
import sys
import time

from lightning_modules import Parabola


class Culprit(Parabola):
    def training_step(self, batch, batch_idx):
        if 2 < self.learning_rate < 5 and len(batch[0]) == 4:  # not the rates that are tried beforehand
            exec(os.environ.get("CULPRIT", ""))
        time.sleep(float(os.environ.get("PAUSE", "0")))
        return super().training_step(batch, batch_idx)
"""
PAUSE = "0.03"  # seconds a step: a study of 240 steps can be met in its middle
STORED = 3  # runs, when a signal is sent
PATIENCE = 600.0  # seconds, for what takes some twenty: two runs end three workers each, which start anew

Send = Callable[[subprocess.Popen[bytes]], None]


@dataclass(frozen=True)
class Ending:
    """How a launch is ended: by ``send`` once runs are stored, or by what the module executes."""

    workers: int
    send: Send | None = None
    culprit: str = ""


def to_driver(*numbers: signal.Signals) -> Send:
    """Signals to the process that was launched, half a second apart."""

    def send(process: subprocess.Popen[bytes]) -> None:
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.5)

    return send


def to_all(process: subprocess.Popen[bytes]) -> None:
    """SIGINT to the launch and its workers, as a terminal sends it."""
    os.killpg(process.pid, signal.SIGINT)


ENDINGS = {
    "SIGINT, trained in the driver": Ending(1, to_driver(signal.SIGINT)),
    "SIGINT to all, as Ctrl-C in a terminal": Ending(2, to_all),
    "SIGINT twice": Ending(2, to_driver(signal.SIGINT, signal.SIGINT)),
    "SIGTERM, trained in the driver": Ending(1, to_driver(signal.SIGTERM)),
    "SIGTERM": Ending(2, to_driver(signal.SIGTERM)),
    "SIGHUP, as a terminal that is closed": Ending(2, to_driver(signal.SIGHUP)),
    "SIGKILL of the driver": Ending(2, to_driver(signal.SIGKILL)),
    "sys.exit(0) in training_step, in the driver": Ending(1, culprit="sys.exit(0)"),
    "sys.exit(0) in training_step, in a worker": Ending(2, culprit="sys.exit(0)"),
    "os._exit(0) in training_step, in a worker": Ending(2, culprit="os._exit(0)"),
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=len(ENDINGS), metavar="N", help="try N of the endings (default: all)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice of --rounds (default: 0)")
    return parser.parse_args(argv)


def end(ending: Ending, folder: Path) -> tuple[list[str], str]:
    """Launch in a new ``folder`` and end it so; what was found, and which promises were broken, in words."""
    folder.mkdir()
    (folder / "culprit.py").write_text(MODULE)
    broken = []
    process = launch(folder, *_options(ending), CULPRIT=ending.culprit, PAUSE=PAUSE if ending.send else "0")
    known = stored(storage_of(folder))
    if ending.send:
        while len(known) < STORED and process.poll() is None:
            time.sleep(0.05)
            known = stored(storage_of(folder))
        ending.send(process)
    try:
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        broken.append(f"still there after {PATIENCE:g} s")
        process.kill()
        code = process.wait()
    if code == 0:
        broken.append("exit code 0")
    left = survivors(folder)
    if left:
        broken.append(f"{len(left)} processes left after 10 s")
        for each in left:
            each.kill()
    kept = stored(storage_of(folder))
    if not kept:
        broken.append("nothing was stored")
    if gone := lost(known, kept):
        broken.append(f"{gone} acknowledged results lost")
    return broken, f"exit code {code}, {len(kept)} results kept"


def go_on(ending: Ending, folder: Path, expected: Tables) -> list[str]:
    """Give the same command again, with a module that ends nothing; which promises were broken."""
    known = stored(storage_of(folder))
    process = fork_launch(folder, *_options(ending))
    process.join()
    broken = [f"{times} {kind}" for kind, times in broken_promises(folder, expected).items() if times]
    if process.exitcode != 0:
        broken.append(f"the next launch ended with code {process.exitcode}")
    if gone := lost(known, stored(storage_of(folder))):
        broken.append(f"{gone} results lost by the next launch")
    return broken


def _options(ending: Ending) -> tuple[str, ...]:
    return "--model", "culprit.Culprit", "--workers", str(ending.workers)


def main(argv: Sequence[str] | None = None) -> int:
    """End launches, launch again, print a line each; 1 when a promise was broken."""
    options = parse_args(argv)
    for number in (signal.SIGINT, signal.SIGHUP):  # what a shell starts with & or nohup would ignore them, its children too
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    names = random.Random(options.seed).sample(list(ENDINGS), min(options.rounds, len(ENDINGS)))
    failed = 0
    with TemporaryDirectory() as top:
        unbroken(Path(top) / "unbroken")
        expected = tables(storage_of(Path(top) / "unbroken"))
        for number, name in enumerate(name for name in ENDINGS if name in names):
            folder = Path(top) / str(number)
            broken, found = end(ENDINGS[name], folder)
            broken += go_on(ENDINGS[name], folder, expected)
            failed += bool(broken)
            print(f"{name}: {found}: {'; '.join(broken) or 'all promises kept'}", flush=True)
            if broken:
                print((folder / "log.txt").read_text()[-3000:], file=sys.stderr)
    print(f"{len(names)} endings, {failed} of them with a broken promise")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
