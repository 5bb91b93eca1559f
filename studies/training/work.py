"""What a worker is given and what it gives back: a job of members, and their runs or what went wrong in words."""

import functools
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from lightning_modules.checkpoint import CheckpointNotWritten
from reports.judging.decided import Query
from studies.plan import Planned
from studies.training.fusing import reason_of, train_fused
from studies.training.memory import keep_freed_memory
from studies.training.runs import Run, train_alone
from studies.training.said_once import listen
from studies.training.schedule import ScheduleTooShort
from studies.training.user_folder import add_current_folder
from studies.training.workload import Workload


@dataclass(frozen=True)
class Job:
    """Members of one batch size, to be trained in one fit or one after the other."""

    members: tuple[Planned, ...]
    epochs: int
    fused: bool
    folder: Path
    queries: tuple[Query | None, ...] = ()  # of each member: when it may end before its budget
    checkpoint: Path | None = None  # where its runs are saved at the end of every epoch

    @property
    def batch_size(self) -> int:
        """Of all members."""
        return self.members[0].batch_size


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
    try:
        if job.fused:
            return train_fused(workload(), job.members, epochs=job.epochs, queries=job.queries)
        alike: dict[str, Any] = {"epochs": job.epochs, "folder": job.folder, "checkpoint": job.checkpoint}
        queries = job.queries or [None] * len(job.members)
        return [train_alone(workload(), each, query=query, **alike) for each, query in zip(job.members, queries, strict=True)]
    except CheckpointNotWritten:
        raise
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        # PyTorch says so in one class on a GPU and in words on a CPU.
        out_of_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in words
        of_schedule = isinstance(error, ScheduleTooShort)
        return Failure(words, traceback.format_exc(), reason_of(error), out_of_memory, of_schedule)


_packed = b""


def begin(packed: bytes, threads: int) -> None:
    """What a worker process does once; what may fail is left to its first job, which can say so."""
    global _packed
    _packed = packed
    torch.set_num_threads(threads)
    keep_freed_memory()
    add_current_folder()
    listen()


@functools.cache
def workload_here() -> Workload:
    """The workload of this worker process, made once."""
    return Workload.of_config(cloudpickle.loads(_packed))
