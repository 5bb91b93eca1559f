"""Where members train: in this process, or in worker processes. They only train; the driver alone speaks to Optuna."""

from __future__ import annotations

import functools
import os
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cloudpickle
import torch
from loky import ProcessPoolExecutor

from lightning_modules.checkpoint import CheckpointNotWritten
from studies.training.fusing import Member, reason_of, train_fused
from studies.training.memory import keep_freed_memory
from studies.training.runs import Run, train
from studies.training.schedule import ScheduleTooShort
from studies.training.user_folder import add_current_folder
from studies.training.worker_start import start
from studies.training.workload import Workload


@dataclass(frozen=True)
class Job:
    """Members of one batch size, to be trained in one fit or one after the other."""

    members: tuple[Member, ...]
    batch_size: int
    epochs: int
    fused: bool
    folder: Path
    checkpoint: Path | None = None  # where its runs are saved at the end of every epoch


@dataclass(frozen=True)
class Failure:
    """What a module raised, in words: an exception of the user's may not survive the way between processes."""

    error: str
    traceback: str
    reason: str
    out_of_memory: bool
    of_schedule: bool = False  # so that other batch sizes may work


Outcome = list[Run] | Failure


def work(workload: Callable[[], Workload], job: Job) -> Outcome:
    """Train the members of a job; what the user's code raises comes back as words.

    workload: builds it, or has it.

    Raises CheckpointNotWritten, which is not the module's fault; KeyboardInterrupt is passed on.
    """
    how: dict[str, Any] = {"batch_size": job.batch_size, "epochs": job.epochs}
    try:
        if job.fused:
            return train_fused(workload(), job.members, **how)
        return train(workload(), job.members, **how, folder=job.folder, checkpoint=job.checkpoint)
    except CheckpointNotWritten:
        raise
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> Failure:
    words = f"{type(error).__name__}: {error}"
    of_schedule = isinstance(error, ScheduleTooShort)
    return Failure(words, traceback.format_exc(), reason_of(error), _out_of_memory(error), of_schedule)


class Place(Protocol):
    """Somewhere jobs are trained, ``size`` of them at a time. died: what a future raises when whatever trained its job died."""

    size: int
    died: tuple[type[Exception], ...]

    def submit(self, job: Job) -> Future[Outcome]:
        """Start a job; at most ``size`` may be under way."""

    def close(self) -> None:
        """End whatever is under way."""


class Here:
    """This process: a job is done when ``submit`` returns."""

    size = 1
    died: tuple[type[Exception], ...] = ()

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def submit(self, job: Job) -> Future[Outcome]:
        """Train."""
        future: Future[Outcome] = Future()
        future.set_result(work(lambda: self._workload, job))
        return future

    def close(self) -> None:
        """Nothing is under way."""


class Workers(ABC):
    """Workers outside this process, which live as long as the study and build its workload and data once.

    Each trains one job at a time, so one that dies takes no other's job with it; its place is taken by a new one when the next
    job is handed out.
    """

    died: tuple[type[Exception], ...]

    def __init__(self, size: int) -> None:
        self.size = size
        self._workers = [self._new() for _ in range(size)]
        self._last: list[Future[Outcome] | None] = [None] * size

    def submit(self, job: Job) -> Future[Outcome]:
        """Hand a job to a free worker; the future raises one of ``died`` when that dies."""
        free = next(index for index, last in enumerate(self._last) if last is None or last.done())
        last = self._last[free]
        if last is not None and isinstance(last.exception(), self.died):
            self._replace(free)
        try:
            future = self._hand(self._workers[free], job)
        except self.died:  # while it had nothing to do
            self._replace(free)
            future = self._hand(self._workers[free], job)
        self._last[free] = future
        return future

    def close(self) -> None:
        """Kill the workers; once they are, it does nothing."""
        while self._workers:
            self._kill(self._workers.pop())

    def _replace(self, index: int) -> None:
        self._kill(self._workers[index])
        self._workers[index] = self._new()

    @abstractmethod
    def _new(self) -> Any:
        """A worker that is starting."""

    @abstractmethod
    def _hand(self, worker: Any, job: Job) -> Future[Outcome]:
        """Have it train a job."""

    @abstractmethod
    def _kill(self, worker: Any) -> None:
        """End it; it may be dead."""


class Processes(Workers):
    """Worker processes on this machine, each a pool of one. Nothing of the caller's script runs again in them.

    packed: a StudyConfig as ``cloudpickle`` packs it. threads: of each.
    """

    died: tuple[type[Exception], ...] = (BrokenExecutor,)

    def __init__(self, packed: bytes, size: int, threads: int) -> None:
        self._arguments = (packed, threads, os.getpid())
        super().__init__(size)

    def _new(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, initializer=start, initargs=self._arguments)

    def _hand(self, worker: ProcessPoolExecutor, job: Job) -> Future[Outcome]:
        future: Future[Outcome] = worker.submit(work, _workload, job)
        return future

    def _kill(self, worker: ProcessPoolExecutor) -> None:
        worker.shutdown(kill_workers=True)


_packed = b""


def begin(packed: bytes, threads: int) -> None:
    """What a worker does once; what may fail is left to its first job, which can say so."""
    global _packed
    _packed = packed
    torch.set_num_threads(threads)
    keep_freed_memory()
    add_current_folder()


@functools.cache
def _workload() -> Workload:
    return Workload.of_config(cloudpickle.loads(_packed))


def _out_of_memory(error: Any) -> bool:
    """PyTorch says so in one class on a GPU and in words on a CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
