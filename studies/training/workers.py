"""Where jobs are trained: in this process, or in worker processes. They only train; the driver alone speaks to Optuna."""

import os
import signal
from abc import ABC, abstractmethod
from concurrent.futures import BrokenExecutor, Future
from multiprocessing import resource_tracker
from typing import Any, Protocol

from loky import ProcessPoolExecutor

from studies.training.work import Job, Outcome, work, workload_here
from studies.training.worker_start import start
from studies.training.workload import Workload


class Pool(Protocol):
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
        # A process starts here, and has Ctrl-C blocked as we have it then: it is Python for a while before ``start`` is called.
        resource_tracker.ensure_running()  # its own start would unblock it
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            future: Future[Outcome] = worker.submit(work, workload_here, job)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return future

    def _kill(self, worker: ProcessPoolExecutor) -> None:
        worker.shutdown(kill_workers=True)
