"""Ray actors as a pool to train in: on this machine, or on every machine of a cluster. Needs the extra ``ray``."""

import contextlib
import functools
import logging
import os
import socket
from concurrent.futures import Future
from typing import Any

import cloudpickle
import psutil
import torch

from studies.config import StudyConfig
from studies.errors import BadInput
from studies.training.memory import keep_freed_memory
from studies.training.user_folder import add_current_folder
from studies.training.work import Job, Outcome, work
from studies.training.workers import Workers
from studies.training.workload import Workload

ANSWER = 10.0  # seconds within which a cluster must answer


class Actors(Workers):
    """Ray actors, on this machine or a cluster.

    A cluster that runs already is used and left as it is. Without an address Ray is started on this machine, for this study
    alone, and whoever wants to use it needs the token in ``~/.ray/auth_token``, unless ``RAY_AUTH_MODE`` says otherwise.

    config: with ``ray_address``, ``num_cpus``, ``num_gpus`` and ``workers``. most: jobs there are, at most.

    Raises ValueError when the study cannot be sent, the cluster cannot be reached, or an actor does not fit into it.
    """

    def __init__(self, config: StudyConfig, most: int) -> None:
        try:
            packed = cloudpickle.dumps(config)
        except Exception as error:
            raise BadInput(
                f"engine ray needs a study that can be sent to another process, got {type(error).__name__}: {error}"
            ) from error
        self._ray, self._began = _connected(config.ray_address)
        self.died = (self._ray.exceptions.RayActorError,)
        num_cpus, num_gpus = 1 if config.num_cpus is None else config.num_cpus, config.num_gpus or 0
        try:
            room = _room(self._ray.cluster_resources(), num_cpus, num_gpus)
        except ValueError:
            self._end()
            raise
        wanted = room if config.workers == "auto" else int(config.workers)
        actor = self._ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=0)(_Actor)
        self._make = functools.partial(actor.remote, packed, os.getcwd(), max(1, int(num_cpus)))
        super().__init__(max(1, min(wanted, room, most)) if config.sampler in ("grid", "edges") else 1)

    def close(self) -> None:
        """Kill the actors, and end Ray where it was started for them."""
        super().close()
        self._end()

    def _end(self) -> None:
        if self._began:
            self._began = False
            _kill_actors()
            self._ray.shutdown()

    def _new(self) -> Any:
        return self._make()

    def _hand(self, worker: Any, job: Job) -> Future[Outcome]:
        future: Future[Outcome] = worker.work.remote(job).future()
        return future

    def _kill(self, worker: Any) -> None:
        self._ray.kill(worker)


class _Actor:
    """What Ray makes on some machine: a folder of the same name is its own where there is one, as relative paths mean it."""

    def __init__(self, packed: bytes, folder: str, threads: int) -> None:
        self._packed = packed
        if os.path.isdir(folder):
            os.chdir(folder)
        add_current_folder()
        torch.set_num_threads(threads)
        keep_freed_memory()

    @functools.cached_property
    def _workload(self) -> Workload:
        return Workload.of_config(cloudpickle.loads(self._packed))

    def work(self, job: Job) -> Outcome:
        """Train a job."""
        return work(lambda: self._workload, job)


def _kill_actors() -> None:
    """Those of the Ray that this process started: they die late otherwise, when nobody knows whose they were."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::"):
                process.kill()


def _connected(address: str | None) -> tuple[Any, bool]:
    """Ray, and whether it was connected here: one that the caller connected is used as it is."""
    import ray

    if ray.is_initialized():
        return ray, False
    if address not in (None, "auto"):
        _require_answer(str(address))
    here: dict[str, Any] = {"include_dashboard": False} if address is None else {}
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        line = " ".join(str(error).split())
        raise BadInput(f"ray_address must be of a cluster that can be reached, got {address!r}: {line:.300}") from error
    return ray, True


def _require_answer(address: str) -> None:
    """Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER).close()
    except (OSError, ValueError, OverflowError) as error:
        raise BadInput(f"ray_address must be HOST:PORT of a cluster that answers, or auto, got {address!r}: {error}") from error


def _room(resources: dict[str, float], num_cpus: float, num_gpus: float) -> int:
    """Actors that fit into a cluster."""
    wanted = {"num_cpus": ("CPU", num_cpus), "num_gpus": ("GPU", num_gpus)}
    for option, (kind, share) in wanted.items():
        if share > resources.get(kind, 0):
            raise BadInput(f"{option} must fit into the cluster, which has {resources.get(kind, 0):g}, got {share:g}")
    return min([int(resources[kind] / share) for kind, share in wanted.values() if share], default=1)
