"""Hands out what a plan of runs is missing and stores what comes back: the only one that writes to the study."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cloudpickle
import optuna
import psutil
from loky import cpu_count
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from lightning_modules.checkpoint import checkpoint_file
from studies.config import StudyConfig
from studies.errors import FailedAlike, StorageAway
from studies.storage.checksums import failure
from studies.storage.interrupts import interruptible, uninterrupted
from studies.tables import HOW_TRAINED, facts_of
from studies.training.fusing import Fusing
from studies.training.memory import keep_freed_memory
from studies.training.ray_actors import Actors
from studies.training.runs import Run
from studies.training.trainers import device_of
from studies.training.workers import Failure, Here, Job, Outcome, Place, Processes
from studies.training.workload import Workload

logger = logging.getLogger(__name__)

EQUAL_FAILURES = 3  # in a row: the module is broken, more runs would only repeat it
WORTH_WORKERS = 20.0  # seconds of training that are left: workers take about 5 to start
OF_WORKER = 1.5e9  # bytes of memory it must find: PyTorch and Lightning take 0.6, its data and activations the rest
REPEATS = 2  # of a member whose worker died: that may be another's fault, as what the kernel kills when memory is short
DIED = "its worker process died"
DIED_AGAIN = f"{DIED} {REPEATS + 1} times: memory is short, most likely, or the module ends it"

Point = dict[str, Any]  # parameters to fix: all three on a grid, the seed alone for the free samplers
OnRun = Callable[[optuna.Study, int, int], None]


@dataclass
class _Given:
    """A job handed out. trial: asked for, so that it shows as running; None for fused jobs, whose trials come when they end."""

    job: Job
    points: list[Point]
    trial: optuna.Trial | None = None


@dataclass
class Driver:
    """Works off the missing points of a plan of ``planned`` runs.

    missing: in the order they are to be trained. folder: where each run has a folder for the user's loggers.
    on_run: called as ``on_run(study, finished, planned)`` at the start and after every run.
    actors: of Ray, where there are some already.
    """

    study: optuna.Study
    config: StudyConfig
    workload: Workload
    missing: list[Point]
    planned: int
    folder: Path
    on_run: OnRun
    actors: Actors | None = None
    _given: dict[Future[Outcome], _Given] = field(default_factory=dict)
    _failures: list[str] = field(default_factory=list)
    _too_large: float = math.inf  # the smallest batch size that did not fit into memory
    _deaths: Counter[str] = field(default_factory=Counter)  # of workers, by the point they trained
    _moved: bool = False  # to workers
    _shares: dict[int, int] = field(default_factory=dict)  # of a batch size's fused members that one worker trains at most

    def __post_init__(self) -> None:
        decided = self.study.user_attrs.get(HOW_TRAINED)
        self._fusing = Fusing(self.workload, epochs=self.config.epochs or 1, decided=decided)
        assert isinstance(self.config.batch_size, tuple)
        self._sizes: tuple[int, ...] = self.config.batch_size
        low, high = self.config.learning_rate
        self._space = {
            "learning_rate": FloatDistribution(low, high, log=True),
            "batch_size": CategoricalDistribution(self._sizes),
            "seed": IntDistribution(0, max([point["seed"] for point in self.missing], default=0)),
        }
        self._chosen = all("learning_rate" in point for point in self.missing)  # else the sampler has yet to choose
        # Measured here, which says nothing about the GPUs of a cluster.
        self._may_fuse = self.config.fuse == "auto" and self._chosen and not self.config.num_gpus
        self._checkpoints = self.folder.parent / "checkpoints"
        self._place: Place = Here(self.workload)
        self._finished = self.planned - len(self.missing)

    def run(self) -> None:
        """Train until the plan is done.

        Raises:
            FailedAlike: the module failed three times in a row in the same way, or in every run. What a worker that died was
                training is trained again, at most twice; then it failed.
            KeyboardInterrupt: Ctrl-C; what finished is kept.
        """
        keep_freed_memory()
        if self.config.engine == "ray" and self.missing:
            self._place, self._moved = self.actors or Actors(self.config, len(self.missing)), True
        with interruptible(), self._closing():
            self.on_run(self.study, self._finished, self.planned)
            while self.missing or self._given:
                self._choose_place()
                while self.missing and len(self._given) < self._place.size:
                    self._hand_out()
                for future in wait(self._given, return_when=FIRST_COMPLETED).done:
                    self._take_in(future)
        if self._failures and not self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            raise FailedAlike(f"no run of the study finished, the last of {len(self._failures)}: {self._failures[-1]}")

    @contextlib.contextmanager
    def _closing(self) -> Iterator[None]:
        """However it ends, no worker goes on, no trial is left running, and what was decided is kept."""
        try:
            yield
        finally:
            self._place.close()
            with contextlib.suppress(OSError):  # there is none, or what is in it will be gone on from
                self._checkpoints.rmdir()
            with contextlib.suppress(StorageAway):  # then the next launch closes them
                close_orphans(self.study, "interrupted")
                self._keep_decisions()

    def _choose_place(self) -> None:
        """Move to worker processes where they are asked for, or where what is left is worth their start."""
        if self._moved or self._given or not self.missing:
            return
        size = self._wanted_workers()
        if size < 2:
            return
        if self._may_fuse:
            for batch_size in self._sizes:
                self._decide(batch_size)
        try:
            packed = cloudpickle.dumps(self.config)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            logger.warning("trained in this process alone: the study cannot be sent to a worker (%s)", reason)
            self.config = replace(self.config, workers=1)
            return
        self._shares.clear()
        self._place, self._moved = Processes(packed, size, max(1, cpu_count() // size)), True

    def _wanted_workers(self) -> int:
        if self.config.workers != "auto":
            return min(int(self.config.workers), len(self.missing))
        if not self._chosen or cpu_count() < 2 or device_of(self.workload.trainer).type != "cpu":
            return 1
        self._decide(self.missing[0]["batch_size"])
        known = self._fusing.seconds
        if not known:
            return 1
        usual = sum(known.values()) / len(known)
        left = sum(known.get(point["batch_size"], usual) for point in self.missing)
        room = int(psutil.virtual_memory().available / OF_WORKER)
        return max(1, min(cpu_count(), len(self.missing), room)) if left > WORTH_WORKERS else 1

    def _decide(self, batch_size: int) -> None:
        if self._may_fuse:
            self._fusing.decide([_member(point) for point in self._points_of(batch_size)], batch_size=batch_size)
            self._keep_decisions()

    @uninterrupted()
    def _keep_decisions(self) -> None:
        if self._fusing.decided != self.study.user_attrs.get(HOW_TRAINED, {}):
            sys.audit("lr_study.write", "how it is trained")
            self.study.set_user_attr(HOW_TRAINED, self._fusing.decided)

    def _points_of(self, batch_size: int) -> list[Point]:
        return [point for point in self.missing if point["batch_size"] == batch_size]

    def _hand_out(self) -> None:
        """Start the next job: the first point that is missing, with what can be trained beside it."""
        points, at_once = self.missing[:1], 1
        if self._may_fuse:
            batch_size = points[0]["batch_size"]
            self._decide(batch_size)
            alike = self._points_of(batch_size)
            at_once = self._fusing.at_once(batch_size)
            if at_once > 1:
                share = self._shares.setdefault(batch_size, -(-len(alike) // self._place.size))
                points = alike[: min(at_once, share)]
        taken = {id(point) for point in points}
        self.missing = [point for point in self.missing if id(point) not in taken]
        trial = None
        if at_once == 1:
            trial = self._start_trial(points[0])
        params = points if trial is None else [trial.params]
        job = Job(
            members=tuple(_member(each) for each in params),
            batch_size=params[0]["batch_size"],
            epochs=self.config.epochs or 1,
            fused=at_once > 1,
            folder=self.folder,
            checkpoint=self._checkpoints if self.config.checkpoint and trial is not None else None,
        )
        self._given[self._place.submit(job)] = _Given(job, points, trial)

    @uninterrupted()
    def _start_trial(self, point: Point) -> optuna.Trial:
        """A trial that shows as running."""
        sys.audit("lr_study.write", "running trial")
        if self._chosen:  # in one write: nothing waits that could be left behind
            template = create_trial(state=TrialState.RUNNING, params=point, distributions=self._space)
            storage = self.study._storage
            return optuna.Trial(self.study, storage.create_new_trial(self.study._study_id, template_trial=template))
        self.study.enqueue_trial(point)
        return self.study.ask(self._space)

    def _take_in(self, future: Future[Outcome]) -> None:
        """Store what became of a job."""
        given = self._given.pop(future)
        try:
            outcome = future.result()
        except self._place.died as error:
            keys = [str(point) for point in given.points]
            self._deaths.update(keys)
            if max(self._deaths[key] for key in keys) <= REPEATS:
                self._repeat(given, error)
                return
            self._deaths.subtract({key: self._deaths[key] for key in keys})
            outcome = Failure(DIED_AGAIN, "", DIED_AGAIN, out_of_memory=False)
        if not isinstance(outcome, Failure):
            self._store(given, outcome)
        elif given.trial is None:
            self._fusing.failed(given.job.batch_size, outcome.reason, out_of_memory=outcome.out_of_memory)
            self.missing = given.points + self.missing
        else:
            self._store_failure(given.job, given.trial, outcome)

    def _store(self, given: _Given, runs: Sequence[Run]) -> None:
        seconds = sum(run.seconds for run in runs) / len(runs)
        self._fusing.seconds[given.job.batch_size] = seconds
        self._failures.clear()
        first = len(self.study.get_trials(deepcopy=False)) if given.trial is None else 0
        for run, point in zip(runs, given.points, strict=True):
            if given.trial is not None:
                self._tell(given.trial, run)
            else:
                self._add_fused(point, run, member_of=first)
            self._finished += 1
            self._forget(given.job)
            self.on_run(self.study, self._finished, self.planned)

    @uninterrupted()
    def _tell(self, trial: optuna.Trial, run: Run) -> None:
        sys.audit("lr_study.write", "facts")
        for key, value in facts_of(run).items():
            trial.set_user_attr(key, value)  # first: a finished trial takes no more attributes
        sys.audit("lr_study.write", "value")
        self.study.tell(trial, run.value)

    @uninterrupted()
    def _add_fused(self, point: Point, run: Run, *, member_of: int) -> None:
        facts = facts_of(run, member_of=member_of)
        trial = create_trial(params=point, distributions=self._space, value=run.value, user_attrs=facts)
        sys.audit("lr_study.write", "fused trial")
        self.study.add_trial(trial)

    def _store_failure(self, job: Job, trial: optuna.Trial, failed: Failure) -> None:
        if failed.out_of_memory:  # not a fault of the module: smaller batches may still fit
            self._too_large = min(self._too_large, job.batch_size)
            _fail(self.study, trial, f"out of memory at batch size {job.batch_size}", failed.traceback)
            logger.warning(
                "batch size %d does not fit into memory: its runs, and those of larger ones, are left out", job.batch_size
            )
            self.missing = [point for point in self.missing if point.get("batch_size", 0) < self._too_large]
            return
        self._failures.append(failed.error)
        _fail(self.study, trial, failed.error, failed.traceback)
        if failed.of_schedule:  # of this batch size, at which a run has as many steps as it has
            self._failures[:-1] = []
            logger.warning("runs at batch size %d are left out: %s", job.batch_size, failed.error)
            self.missing = [point for point in self.missing if point.get("batch_size") != job.batch_size]
        self._forget(job)
        logger.warning("trial %d failed: %s", trial.number, failed.error)
        if Counter(self._failures[-EQUAL_FAILURES:])[failed.error] == EQUAL_FAILURES:
            raise FailedAlike(f"{EQUAL_FAILURES} runs in a row failed alike, so the study stopped: {failed.error}")
        self._finished += 1
        self.on_run(self.study, self._finished, self.planned)

    def _forget(self, job: Job) -> None:
        """What was told is stored: its checkpoint is of no use any more."""
        if job.checkpoint is not None:
            rate, seed = job.members[0]
            checkpoint_file(job.checkpoint, rate, job.batch_size, seed).unlink(missing_ok=True)

    def _repeat(self, given: _Given, error: Exception) -> None:
        """What the worker that died was training comes next."""
        if given.trial is not None:
            _fail(self.study, given.trial, DIED)
        self.missing = given.points + self.missing
        logger.warning("%s (%s): what it trained is trained again", DIED, str(error).partition("\n")[0])


@uninterrupted()
def close_orphans(study: optuna.Study, error: str) -> None:
    """Fail whatever trial is waiting or running: nothing trains it, as the study is locked and its driver not at work."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING)):
        _fail(study, trial, error)


@uninterrupted()
def _fail(study: optuna.Study, trial: optuna.Trial | FrozenTrial, error: str, trace: str = "") -> None:
    """End a trial with what went wrong."""
    sys.audit("lr_study.write", "failed trial")
    said = {"error": error} | ({"traceback": trace} if trace else {})
    for key, value in failure(trial.params, trial.user_attrs | said).items():
        study._storage.set_trial_user_attr(trial._trial_id, key, value)
    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def _member(point: Point) -> tuple[float, int]:
    return point["learning_rate"], point["seed"]
