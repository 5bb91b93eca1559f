"""Hands out what a plan of runs is missing, and has what comes back stored: the only one that works on a study."""

import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import cloudpickle
import optuna
import psutil
from loky import cpu_count

from lightning_modules.checkpoint import checkpoint_file
from reports.judging.decided import Query
from studies import trials
from studies.config import StudyConfig
from studies.costs import Costs
from studies.errors import FailedAlike, StorageAway
from studies.plan import Asked, Planned, RunsInAll
from studies.storage.interrupts import interruptible, uninterrupted
from studies.storage.stored import HOW_TRAINED
from studies.tables import FINISHED
from studies.training.fusing import Fusing
from studies.training.memory import keep_freed_memory
from studies.training.ray_actors import Actors
from studies.training.runs import Run
from studies.training.trainers import device_of
from studies.training.work import Failure, Job, Outcome
from studies.training.workers import Here, Pool, Processes
from studies.training.workload import Workload

logger = logging.getLogger(__name__)

EQUAL_FAILURES = 3  # in a row: the module is broken, more runs would only repeat it
WORTH_WORKERS = 20.0  # seconds of training that are left: workers take about 5 to start
OF_WORKER = 1.5e9  # bytes of memory it must find: PyTorch and Lightning take 0.6, its data and activations the rest
ROUND, FUSED_ROUND = 2, 24  # runs of a round of a search, alone and where they are fused: more at once are asked knowing less
CUT_SHARE = 0.3  # of its budget a run of a search takes, roughly
REPEATS = 2  # of a member whose worker died: that may be another's fault, as what the kernel kills when memory is short
DIED = "its worker process died"
DIED_AGAIN = f"{DIED} {REPEATS + 1} times: memory is short, most likely, or the module ends it"

OnRun = Callable[[optuna.Study, int, RunsInAll], None]


class UnderWay(NamedTuple):
    """A job handed out. trial: asked for, so that it shows as running; None for fused jobs, whose trials come when they end."""

    job: Job
    trial: optuna.Trial | None


@dataclass
class Driver:
    """Works off what is missing of a study of ``n_runs`` runs.

    missing: runs that are planned, in the order they are to be trained. seeds: of runs whose learning rate and batch size the
    study's sampler chooses, each by those before; where there are any, nothing is missing at first.
    more: asked for runs when there are none left, about as many as it is told, after so many seconds, without those that
        are left out as they failed; when it gives none, the study is finished.
    folder: where each run has a folder for the user's loggers.
    on_run: called as ``on_run(study, finished, runs_in_all)`` at the start and after every run.
    actors: of Ray, where there are some already.
    """

    study: optuna.Study
    config: StudyConfig
    workload: Workload
    missing: list[Planned]
    seeds: list[int]
    n_runs: int
    folder: Path
    on_run: OnRun
    actors: Actors | None = None
    more: Callable[[int, float, Callable[[Planned], bool]], list[Asked]] = lambda n, seconds, is_left_out: []
    jobs_under_way: dict[Future[Outcome], UnderWay] = field(default_factory=dict)
    in_workers: bool = False
    members_per_worker: dict[int, int] = field(default_factory=dict)  # of a batch size's fused members, at most
    _failures: list[str] = field(default_factory=list)
    _too_large: float = math.inf  # the smallest batch size that did not fit into memory
    _queries: dict[Planned, Query] = field(default_factory=dict)  # how far runs are to be trained, where not to their end
    _given_up: set[Planned] = field(default_factory=set)  # as they failed
    _too_short: set[int] = field(default_factory=set)  # batch sizes for whose runs the schedule was not made
    _costs: Costs = field(default_factory=Costs)
    _n_failed: int = 0
    _at: str = ""  # where a search is, in words
    _deaths: Counter[Planned] = field(default_factory=Counter)  # of workers, by what they trained

    def __post_init__(self) -> None:
        decided = self.study.user_attrs.get(HOW_TRAINED)
        self._fusing = Fusing(self.workload, epochs=self.config.epochs or 1, decided=decided)
        seeds = [*self.config.seed_values, *self.seeds, *(planned.seed for planned in self.missing)]
        self._space = trials.space_of(self.config, seeds)
        # Measured here, which says nothing about the GPUs of a cluster.
        self._may_fuse = self.config.fuse == "auto" and not self.seeds and not self.config.num_gpus
        self._checkpoints = self.folder.parent / "checkpoints"
        self._pool: Pool = Here(self.workload)
        self._began = time.monotonic()
        self._finished = self.n_runs - self._n_left
        self._is_search = self.config.sampler == "edges" and not self.missing  # else a plan beside one, as of a self-check
        if self._is_search:
            self._finished = len(self.study.get_trials(deepcopy=False, states=FINISHED))

    @property
    def _n_left(self) -> int:
        return len(self.missing) + len(self.seeds)

    def run(self) -> None:
        """Train until nothing is missing.

        Raises:
            FailedAlike: the module failed three times in a row in the same way, or in every run. What a worker that died was
                training is trained again, at most twice; then it failed.
            KeyboardInterrupt: Ctrl-C; what finished is kept.
        """
        keep_freed_memory()
        if self.config.engine == "ray" and self._n_left:
            self._pool, self.in_workers = self.actors or Actors(self.config, self._n_left), True
        with interruptible(), self._closing():
            self._tell()
            while self._n_left or self.jobs_under_way or self._go_on():
                self._choose_pool()
                while self._n_left and len(self.jobs_under_way) < self._pool.size:
                    self._hand_out()
                for future in wait(self.jobs_under_way, return_when=FIRST_COMPLETED).done:
                    self._take_in(future)
            if self._at:
                self._at = ""
                self._tell()
        if self._failures and not self.study.get_trials(deepcopy=False, states=FINISHED):
            raise FailedAlike(f"no run of the study finished, the last of {len(self._failures)}: {self._failures[-1]}")

    def _go_on(self) -> bool:
        """Whether there is more to train after what was trained so far, which is missing now."""
        seconds = time.monotonic() - self._began
        asked = self.more(self._at_once(), seconds, self._is_left_out)
        self._queries, self.missing = dict(asked), [planned for planned, _ in asked]
        self.members_per_worker.clear()
        if asked:
            size, sizes = self.missing[0].batch_size, sorted(self.config.batch_sizes, reverse=True)
            self._at = f"batch size {size}, {sizes.index(size) + 1} of {len(sizes)}"
        return bool(asked)

    def _is_left_out(self, planned: Planned) -> bool:
        return planned in self._given_up or planned.batch_size >= self._too_large or planned.batch_size in self._too_short

    def _at_once(self) -> int:
        """Runs of a round: as many as are cheap together, the same for few workers and however many fit into one fit."""
        fused = any(int(how["members"]) > 1 for how in self._fusing.decided.values())
        return max(FUSED_ROUND if fused else ROUND, self._pool.size)

    def _tell(self, *, n_to_store: int = 0) -> None:
        """n_to_store: runs that are trained and not stored yet."""
        under_way = (member for under_way in self.jobs_under_way.values() for member in under_way.job.members)
        sizes = [planned.batch_size for planned in (*self.missing, *under_way)]
        in_all = RunsInAll(self._finished + n_to_store + len(sizes) if self._is_search else self.n_runs)
        in_all.n_failed, in_all.at = self._n_failed, self._at
        if not self._is_search:
            sizes += islice(cycle(self.config.batch_sizes), len(self.seeds))  # the sampler chooses them, alike at first
            in_all.seconds_left = self._costs.left(sizes, n_workers=self._pool.size)
        self.on_run(self.study, self._finished, in_all)

    @contextlib.contextmanager
    def _closing(self) -> Iterator[None]:
        """However it ends, no worker goes on, no trial is left running, and what was decided is kept.

        A pool that is half closed would be waited for at the exit of the process, for ever.
        """
        try:
            yield
        finally:
            with uninterrupted():
                self._pool.close()
                with contextlib.suppress(OSError):  # there is none, or what is in it will be gone on from
                    self._checkpoints.rmdir()
                with contextlib.suppress(StorageAway):  # then the next launch closes them
                    trials.close_orphans(self.study, "interrupted")
                    self._keep_decisions()

    def _choose_pool(self) -> None:
        """Move to worker processes where they are asked for, or where what is left is worth their start."""
        if self.in_workers or self.jobs_under_way or not self.missing:
            return
        size = self._wanted_workers()
        if size < 2:
            return
        if self._may_fuse:
            for batch_size in dict.fromkeys(planned.batch_size for planned in self.missing):
                self._decide(batch_size)
        try:
            packed = cloudpickle.dumps(self.config)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            logger.warning("trained in this process alone: the study cannot be sent to a worker (%s)", reason)
            self.config = replace(self.config, workers=1)
            return
        self.members_per_worker.clear()
        self._costs.start_anew()
        self._pool, self.in_workers = Processes(packed, size, max(1, cpu_count() // size)), True

    def _wanted_workers(self) -> int:
        if self.config.workers != "auto":
            return min(int(self.config.workers), len(self.missing))
        if self.seeds or cpu_count() < 2 or device_of(self.workload.trainer).type != "cpu":
            return 1
        self._decide(self.missing[0].batch_size)
        known = self._fusing.seconds
        if not known:
            return 1
        usual = sum(known.values()) / len(known)
        left = sum(known.get(planned.batch_size, usual) for planned in self.missing)
        if self._queries:  # the round at hand is a part of the search
            left = max(self.n_runs - self._finished, 0) * CUT_SHARE * usual
        room = int(psutil.virtual_memory().available / OF_WORKER)
        return max(1, min(cpu_count(), len(self.missing), room)) if left > WORTH_WORKERS else 1

    def _decide(self, batch_size: int) -> None:
        if self._may_fuse:
            members = self._missing_at(batch_size)
            if self._queries:  # rounds that follow may be larger than the first
                members = (members * FUSED_ROUND)[: max(FUSED_ROUND, len(members))]
            self._fusing.decide(members)
            self._keep_decisions()

    def _keep_decisions(self) -> None:
        if self._fusing.decided:
            trials.set_attribute(self.study, HOW_TRAINED, self._fusing.decided)

    def _missing_at(self, batch_size: int) -> list[Planned]:
        return [planned for planned in self.missing if planned.batch_size == batch_size]

    def _hand_out(self) -> None:
        """Start the next job: the first run that is missing, with what can be trained beside it."""
        members, trial = self._members_of_fit(), None
        if not members:
            fixed = self.missing.pop(0)._asdict() if self.missing else {"seed": self.seeds.pop(0)}
            trial = trials.start(self.study, self._space, fixed)
            members = [Planned(**trial.params)]
        taken = set(members)
        self.missing = [planned for planned in self.missing if planned not in taken]
        job = Job(
            members=tuple(members),
            epochs=self.config.epochs or 1,
            fused=trial is None,
            folder=self.folder,
            checkpoint=self._checkpoints if self.config.checkpoint and trial is not None else None,
            queries=tuple(self._queries.get(member) for member in members),
        )
        self.jobs_under_way[self._pool.submit(job)] = UnderWay(job, trial)

    def _members_of_fit(self) -> list[Planned]:
        """What is trained together next, nothing where the next run is trained alone."""
        if not self._may_fuse:
            return []
        batch_size = self.missing[0].batch_size
        self._decide(batch_size)
        at_once, alike = self._fusing.at_once(batch_size), self._missing_at(batch_size)
        if at_once < 2:
            return []
        share = self.members_per_worker.setdefault(batch_size, -(-len(alike) // self._pool.size))
        return alike[: min(at_once, share)]

    def _take_in(self, future: Future[Outcome]) -> None:
        """Store what became of a job."""
        job, trial = self.jobs_under_way.pop(future)
        try:
            outcome = future.result()
        except self._pool.died as error:
            self._deaths.update(job.members)
            if max(self._deaths[member] for member in job.members) <= REPEATS:
                self._repeat(job, trial, error)
                return
            for member in job.members:
                del self._deaths[member]
            outcome = Failure(DIED_AGAIN, "", DIED_AGAIN, out_of_memory=False)
        if not isinstance(outcome, Failure):
            self._store(job, trial, outcome)
        elif trial is None:
            self._fusing.failed(job.batch_size, outcome.reason, out_of_memory=outcome.out_of_memory)
            self.missing = [*job.members, *self.missing]
        else:
            self._store_failure(job, trial, outcome)

    def _store(self, job: Job, trial: optuna.Trial | None, runs: Sequence[Run]) -> None:
        seconds, now = sum(run.seconds for run in runs), datetime.now()
        cost = self._fusing.seconds[job.batch_size] = seconds / len(runs)
        self._costs.add(job.batch_size, cost, n_members=len(runs), n_workers=self._pool.size)
        self._failures.clear()
        first = len(self.study.get_trials(deepcopy=False)) if trial is None else 0
        for n_left, planned, run in zip(reversed(range(len(runs))), job.members, runs, strict=True):
            if trial is not None:
                trials.tell(self.study, trial, run)
            else:
                together = now - timedelta(seconds=seconds), now
                trials.add_finished(self.study, self._space, planned, run, time=together, member_of=first)
            self._finished += 1
            self._forget(job)
            self._tell(n_to_store=n_left)

    def _store_failure(self, job: Job, trial: optuna.Trial, failed: Failure) -> None:
        if failed.out_of_memory:  # not a fault of the module: smaller batches may still fit
            self._too_large = min(self._too_large, job.batch_size)
            trials.fail(self.study, trial, f"out of memory at batch size {job.batch_size}", failed.traceback)
            logger.warning(
                "batch size %d does not fit into memory: its runs, and those of larger ones, are left out", job.batch_size
            )
            self.missing = [planned for planned in self.missing if planned.batch_size < self._too_large]
            return
        self._failures.append(failed.error)
        self._given_up.update(job.members)
        trials.fail(self.study, trial, failed.error, failed.traceback)
        if failed.of_schedule:  # of this batch size, at which a run has as many steps as it has
            self._failures[:-1] = []
            self._too_short.add(job.batch_size)
            logger.warning("runs at batch size %d are left out: %s", job.batch_size, failed.error)
            self.missing = [planned for planned in self.missing if planned.batch_size != job.batch_size]
        self._forget(job)
        logger.warning("trial %d failed: %s", trial.number, failed.error)
        if Counter(self._failures[-EQUAL_FAILURES:])[failed.error] == EQUAL_FAILURES:
            raise FailedAlike(f"{EQUAL_FAILURES} runs in a row failed alike, so the study stopped: {failed.error}")
        self._finished += 1
        self._n_failed += 1
        self._tell()

    def _forget(self, job: Job) -> None:
        """What was told is stored: its checkpoint is of no use any more."""
        if job.checkpoint is not None:
            checkpoint_file(job.checkpoint, *job.members[0]).unlink(missing_ok=True)

    def _repeat(self, job: Job, trial: optuna.Trial | None, error: Exception) -> None:
        """What the worker that died was training comes next."""
        if trial is not None:
            trials.fail(self.study, trial, DIED)
        self.missing = [*job.members, *self.missing]
        logger.warning("%s (%s): what it trained is trained again", DIED, str(error).partition("\n")[0])
