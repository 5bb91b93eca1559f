"""Ray on two hosts, which are two network namespaces of this machine: a study on both, and a stranger without their token.

Needs Linux, root and ``ip`` of iproute2. Head and worker have one address each, on a link of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from small_study import LAUNCH, N_RUNS, arguments, equal, storage_of, tables

HEAD, WORKER = "10.213.7.1", "10.213.7.2"
PORT = 6379
BIN = Path(sys.executable).parent
SETUP = f"""
ip netns add lr-head
ip netns add lr-worker
ip link add lr-head0 type veth peer name lr-worker0
ip link set lr-head0 netns lr-head
ip link set lr-worker0 netns lr-worker
ip -n lr-head addr add {HEAD}/24 dev lr-head0
ip -n lr-worker addr add {WORKER}/24 dev lr-worker0
ip -n lr-head link set lr-head0 up
ip -n lr-worker link set lr-worker0 up
ip -n lr-head link set lo up
ip -n lr-worker link set lo up
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """No options."""
    return argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None).parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Start a head and a worker, let a stranger try, run the study, compare it with one trained here."""
    parse_args(argv)
    if not shutil.which("ip") or os.geteuid() != 0:
        print("two_hosts needs root and ip of iproute2, which makes network namespaces", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="hosts-") as place, _namespaces():
        home, refused, there, alone = (Path(place) / name for name in ("home", "refused", "there", "alone"))
        for folder in (home, refused, there, alone):
            folder.mkdir()
        member = {"HOME": str(home), "RAY_AUTH_MODE": "token"}
        _call("", [BIN / "ray", "get-auth-token", "--generate"], member)  # a copy of it goes to every host: here both read one
        strangers = {
            "with a wrong token": {"HOME": str(refused), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
            "without a token": {"HOME": str(refused), "RAY_AUTH_MODE": "disabled"},
        }
        address = f"{HEAD}:{PORT}"
        start = [BIN / "ray", "start", "--num-cpus", "1", "--temp-dir", f"{place}/ray"]
        try:
            _call(
                "lr-head",
                [*start, "--head", f"--port={PORT}", f"--node-ip-address={HEAD}", "--include-dashboard=false"],
                member,
            )
            _call("lr-worker", [*start, f"--address={address}", f"--node-ip-address={WORKER}"], member)
            study = ["--engine", "ray", "--ray-address", address, "--workers", "2"]
            launch = [sys.executable, LAUNCH, *arguments(refused, *study)]
            tried = {name: _call("lr-worker", launch, who, check=False) for name, who in strangers.items()}
            with _Hosts() as hosts:
                done = _call("lr-head", [sys.executable, LAUNCH, *arguments(there, *study)], member, check=False)
        finally:
            _call("", [BIN / "ray", "stop", "--force"], member, check=False)
        _call("", [sys.executable, LAUNCH, *arguments(alone)], member)
        found = tables(storage_of(there))
        same = len(found[0]) == N_RUNS and equal(found, tables(storage_of(alone)))
    for name, outcome in tried.items():
        print(f"stranger {name}: exit code {outcome.returncode}, {outcome.stderr.strip().splitlines()[-1:]}")
    print(
        f"study: exit code {done.returncode}, trained on {len(hosts.found)} hosts, "
        f"tables {'equal' if same else 'DIFFER FROM'} those of a study trained in one process"
    )
    shut = all(outcome.returncode == 2 and "Traceback" not in outcome.stderr for outcome in tried.values())
    return 0 if same and shut and len(hosts.found) == 2 and done.returncode == 0 else 1


class _Hosts:
    """Looks on which hosts actors train while it is entered: the network namespaces of their processes."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _Hosts:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.02):
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error, OSError):
                    if process.cmdline()[:1] == ["ray::_Actor.work"]:
                        self.found.add(os.readlink(f"/proc/{process.pid}/ns/net"))


def _call(
    namespace: str, command: Sequence[object], environment: dict[str, str], *, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """A command in a network namespace, "" for none."""
    inside = ["ip", "netns", "exec", namespace] if namespace else []
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [*inside, *map(str, command)], env=clean | environment, capture_output=True, text=True, timeout=600, check=False
    )
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


@contextlib.contextmanager
def _namespaces() -> Iterator[None]:
    """Two hosts, removed in the end."""
    _remove()
    try:
        for line in SETUP.strip().splitlines():
            subprocess.run(line.split(), check=True)
        yield
    finally:
        _remove()


def _remove() -> None:
    for name in ("lr-head", "lr-worker"):
        subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    raise SystemExit(main())
