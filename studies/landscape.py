"""The walk on the hill of a stored study: one run of each verdict trained again, its path kept, the loss around it measured."""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_modules.landscape import Heights, PathKeeper, Plane, fit_plane, points_that_fit, walk_steps
from lightning_modules.loaders import n_examples
from lightning_modules.recorder import Recorder
from reports.figures.landscape import PATHS, Landscape
from reports.judging.judged import Judged
from reports.style import GOOD, VERDICTS
from studies.answers import judge_study
from studies.config import StudyConfig
from studies.errors import BadInput, as_bad_input
from studies.identity import SEEDS, configuration, differences
from studies.plan import Planned
from studies.search import runs_folder
from studies.storage.database_url import storage_url
from studies.storage.interrupts import interruptible
from studies.storage.lock import locked
from studies.storage.stored import ADOPTED, CONFIGURATION, HOW_TRAINED, LANDSCAPE, OPTIONS
from studies.training.fitting import ASIDE, fit
from studies.training.fixed import look_at
from studies.training.runs import recorder_of, train_recorded
from studies.training.workload import Workload
from studies.trials import set_attribute

SIDE = 31  # places of the grid along each direction
EXAMPLES = 512  # of the probe set, at least where it has as many, that the grid is measured on: whole batches of it
ROOM = 1.0  # ways down that a point may lie above its start to be inside the valley still
REACH = 2.0  # farthest distances of the good run from its end at which a point is inside still
VALLEY = 0.5  # extents of the good path that are shown around it, so that the valley is seen to close
MARGIN = 1.1  # times as much is shown as that and the points inside need
NARROWEST = 0.8  # the shorter side of the picture as a share of the longer
TIMED_SECONDS = 0.4  # that steps, and heights, are timed to say what it will cost

Floats = npt.NDArray[np.float64]
OnCost = Callable[[str], None]
Row = Any  # a row of ``runs``


def survey(
    study: optuna.Study,
    config: StudyConfig,
    judged: Judged | None = None,
    *,
    batch_size: int | None = None,
    out: str | Path | None = None,
    on_cost: OnCost | None = None,
) -> Landscape:
    """Train one run of each verdict again and measure the loss around their paths; kept as the study's attribute.

    The runs are those of one seed, so that all start from the same weights and see the same batches: the recommended learning
    rate, and of each other verdict the learning rate that has a third of that verdict's between itself and the good one: at
    the edges verdicts look alike, far from them a path is a point. A verdict that the seed has no run of is left out. Along
    each path the weights are kept, at most 64 times.

    The plane goes through the end of the good run and lies nearest to the points of all paths that are inside the valley (see
    ``lightning_modules.landscape.fit_plane``, which names the method). A point is inside when its height is no farther above
    the untrained height than the lowest lies below it, and its distance from the end of the good run at most twice the
    longest that the good run itself had: a run that leaves, perhaps a million times as far, would otherwise decide the plane
    and be all there is to see.

    Heights are measured on a grid of 31 x 31 places on the first batches of the probe set, as many as hold 512 examples; what
    is not trained, and averages such as batch norm's, are those of the end of the good run at all of them.

    Args:
        study: with at least one good run.
        config: what it was made with.
        judged: what ``judge_study`` returned.
        batch_size: of the runs; by default that with runs of the most verdicts, the smallest of equals.
        out: as in ``run_study``; loggers and checkpoints of the user's write into its ``landscape``.
        on_cost: told in one sentence what will be trained and measured and how long that takes, before it begins.

    Raises:
        ValueError: a batch size that is not the study's, no good run, another configuration than the study's, weights too
            large to keep 8 points of each path or fewer than two of them.
        StudyInUse: another process works on this study.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the study is as it was.
    """
    with locked(storage_url(config.storage), study.study_name), interruptible():
        landscape = _survey(study, config, choose_runs(judged or judge_study(study), batch_size), out, on_cost)
        set_attribute(study, LANDSCAPE, landscape.to_json())
    return landscape


def _survey(
    study: optuna.Study, config: StudyConfig, runs: pd.DataFrame, out: str | Path | None, on_cost: OnCost | None
) -> Landscape:
    workload = Workload.of_config(config)
    if others := _differences(study, config, workload):
        raise BadInput(f"config must be what study {study.study_name!r} was made with, got another {', '.join(others)}")
    assert config.epochs is not None
    probe = look_at(workload, max(config.batch_sizes)).probe  # as in the study itself
    first = replace(probe, batches=_first(probe.batches))
    good = runs[runs["verdict"] == GOOD].iloc[0]
    measured: dict[str, Any] = {"monitor": workload.monitor, "mode": workload.mode}
    recorder = Recorder(first, steps=[0], **measured)
    begun = PathKeeper(recorder.record)
    timed = Heights(first, begun, _for_a_while(lambda: begun.points[0]), **measured)
    _begin(workload, good, [recorder, begun, timed])
    with as_bad_input():
        steps = walk_steps(int(good["steps"]), points_that_fit(begun.points[0], len(runs)))
    if on_cost is not None:
        height = statistics.fmean(timed.seconds)
        along_paths = len(steps) * len(runs) * height * _examples(probe.batches) / _examples(first.batches)
        training = _training_seconds(study, workload, runs) + along_paths
        on_cost(
            f"landscape: {len(runs)} run{'s' * (len(runs) > 1)}, about {max(training, 1):,.0f} s, and {SIDE**2} heights of"
            f" {_examples(first.batches):,} examples, about {max(SIDE**2 * height, 1):,.0f} s"
        )
    folder = runs_folder(config, out).with_name("landscape")
    walks = {run["trial"]: _walk(workload, run, steps, config.epochs, folder) for _, run in runs.iterrows()}
    plane, paths = _paths(runs, walks)
    x, y = _frame(paths)
    places = (plane.at(across, up) for up in y.tolist() for across in x.tolist())
    grid = Heights(first, walks[good["trial"]], places, **measured)
    _begin(workload, good, [grid])
    return Landscape(
        batch_size=int(good["batch_size"]),
        seed=int(good["seed"]),
        examples=_examples(first.batches),
        shares=plane.shares,
        x=x,
        y=y,
        heights=np.array(grid.heights).reshape(SIDE, SIDE),
        paths=paths,
    )


def config_of(study: optuna.Study) -> StudyConfig:
    """The configuration of a study that was launched with names alone.

    Raises ValueError when something in it was given as a Python object, from which nothing can be made again here.
    """
    options = study.user_attrs.get(OPTIONS)
    if ADOPTED in study.user_attrs.get(CONFIGURATION, {}):
        raise BadInput(f"landscape must train runs again, and those of study {study.study_name!r} were adopted from their logs")
    config = StudyConfig.from_mapping(options or {})
    if options is None or _differences(study, config, Workload.of_config(config)):
        raise BadInput(
            f"landscape must train runs again, and study {study.study_name!r} was given its model, data or trainer as Python"
            " objects: call studies.landscape.survey(study, config) with its configuration from Python"
        )
    return config


def choose_runs(judged: Judged, batch_size: int | None = None) -> pd.DataFrame:
    """The runs to walk again, one a verdict, in the order of the verdicts: rows of ``judged.runs`` of one batch size and seed.

    See ``survey``, also for what it raises.
    """
    runs = judged.runs[judged.runs["verdict"].notna()]
    sizes = sorted({int(size) for size in runs["batch_size"]})
    if batch_size is not None and batch_size not in sizes:
        known = ", ".join(map(str, sizes)) or "it has none"
        raise BadInput(f"landscape must be of a batch size of the study ({known}), got {batch_size}")
    if batch_size is not None:
        runs = runs[runs["batch_size"] == batch_size]
    groups = [group for _, group in runs.groupby(["batch_size", "seed"], sort=True) if (group["verdict"] == GOOD).any()]
    if not groups:
        where = "" if batch_size is None else f" at batch size {batch_size}"
        raise BadInput(f"landscape must have a good run to stand on, the study has none{where} among {len(runs)} finished")
    runs = max(groups, key=lambda group: group["verdict"].nunique())
    good = runs[runs["verdict"] == GOOD]
    recommended = judged.recommendations.set_index("batch_size")["learning_rate"].get(runs["batch_size"].iloc[0])
    at = good.index[good["learning_rate"] == recommended]
    chosen = {GOOD: at[0] if len(at) else good["time_to_bottom"].idxmin()}
    for verdict, group in runs[runs["verdict"] != GOOD].groupby("verdict"):
        distance = np.log(group["learning_rate"] / runs.loc[chosen[GOOD], "learning_rate"]).abs().sort_values(kind="stable")
        chosen[verdict] = distance.index[(len(distance) - 1) // 3]
    return runs.loc[[chosen[verdict] for verdict in VERDICTS if verdict in chosen]]


def _differences(study: optuna.Study, config: StudyConfig, workload: Workload) -> list[str]:
    """In what a configuration is not that of the study; seeds may have grown."""
    found = differences(study.user_attrs.get(CONFIGURATION, {}), configuration(config, workload.as_dict()))
    return list(dict.fromkeys(name.partition(".")[0] for name, _ in found if name != SEEDS))


def _first(batches: Sequence[Any]) -> Sequence[Any]:
    """As many of the first batches as hold ``EXAMPLES``."""
    counts = list(itertools.accumulate(map(n_examples, batches)))
    return batches[: 1 + sum(count < EXAMPLES for count in counts)]


def _examples(batches: Sequence[Any]) -> int:
    return sum(map(n_examples, batches))


def _begin(workload: Workload, run: Row, callbacks: Sequence[pl.Callback]) -> None:
    """Start a run for callbacks that end it."""
    planned = _planned(run)
    built = workload.build(**planned._asdict())
    fit(workload, built, seed=planned.seed, callbacks=callbacks, epochs=workload.epochs, replaced=ASIDE)


def _planned(run: Row) -> Planned:
    return Planned(float(run["learning_rate"]), int(run["batch_size"]), int(run["seed"]))


def _for_a_while(make: Callable[[], Any]) -> Iterator[Any]:
    """The same again and again for as long as measuring takes."""
    until = time.perf_counter() + TIMED_SECONDS
    yield make()
    while time.perf_counter() < until:
        yield make()


def _training_seconds(study: optuna.Study, workload: Workload, runs: pd.DataFrame) -> float:
    """What training the runs takes, heights aside: what it took, or as many steps of one alone where they were fused."""
    how = study.user_attrs.get(HOW_TRAINED, {}).get(str(runs["batch_size"].iloc[0]), {})
    if how.get("members", 1) == 1:
        return float(runs["seconds"].sum())
    good = runs[runs["verdict"] == GOOD].iloc[0]
    pace = _Pace()
    _begin(workload, good, [recorder_of(workload, int(good["batch_size"]), [0]), pace])
    return pace.seconds * float(runs["steps"].sum())


class _Pace(pl.Callback):
    """Times the steps of a fit for a while and ends it.

    Attributes:
        seconds: a step, the mean: what else the machine does meanwhile counts, as it will.
    """

    seconds = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look again."""
        passed = time.perf_counter() - self._began
        self.seconds = passed / max(trainer.global_step, 1)
        trainer.should_stop |= passed > TIMED_SECONDS


def _walk(workload: Workload, run: Row, steps: Sequence[int], epochs: int, folder: Path) -> PathKeeper:
    """Train a run again and keep its weights at ``steps``."""
    planned = _planned(run)
    recorder = recorder_of(workload, planned.batch_size, steps)
    walk = PathKeeper(recorder.record)
    train_recorded(workload, recorder, planned, epochs=epochs, folder=folder, callbacks=[walk])
    return walk


def _paths(runs: pd.DataFrame, walks: Mapping[int, PathKeeper]) -> tuple[Plane, pd.DataFrame]:
    """The plane of some walks, by trial, and the table of their paths in it; see ``Landscape``."""
    good, steps, epochs = runs.loc[runs["verdict"] == GOOD, ["trial", "steps", "epochs"]].iloc[0]
    end = walks[good].points[-1]
    tables = {trial: _table(walk, end) for trial, walk in walks.items()}
    height, distance = tables[good]["height"], tables[good]["distance"]
    highest = height.iloc[0] + ROOM * (height.iloc[0] - height.min())
    for trial, table in tables.items():
        near = (table["height"] <= highest) & (table["distance"] <= REACH * distance.max())
        table["inside"] = near | (trial == good)
    inside = [p for trial, walk in walks.items() for p, near in zip(walk.points, tables[trial]["inside"], strict=True) if near]
    with as_bad_input():
        plane = fit_plane(inside, end)
    parts = []
    for run in runs.to_dict("records"):
        walk, table = walks[run["trial"]], tables[run["trial"]]
        table[["x", "y"]] = plane.locate(walk.points)
        if walk.record.nonfinite_at is not None:
            end_of_it = {"step": walk.record.nonfinite_at, "height": math.inf, "inside": False}
            table = pd.concat([table, pd.DataFrame([end_of_it])], ignore_index=True)
        of_run = {name: run[name] for name in ("trial", "learning_rate", "verdict")}
        parts.append(table.assign(**of_run, epoch=table["step"] * epochs / steps))
    return plane, pd.concat(parts, ignore_index=True)[list(PATHS)]


def _table(walk: PathKeeper, end: Tensor) -> pd.DataFrame:
    heights = dict(walk.record.curves["height"])
    table = pd.DataFrame({"step": walk.steps, "height": [heights[step] for step in walk.steps]})
    return table.assign(distance=[float(torch.dist(point, end)) for point in walk.points])


def _frame(paths: pd.DataFrame) -> tuple[Floats, Floats]:
    """The places of the grid along both directions, shape (SIDE,) each: what is inside, and the valley around the good path."""
    good = _box(paths[paths["verdict"] == GOOD])
    around = VALLEY * np.ptp(good, axis=0).max()
    ends = np.concatenate([good - around, good + around, _box(paths[paths["inside"]])])
    middle, extent = (ends.min(axis=0) + ends.max(axis=0)) / 2, MARGIN * np.ptp(ends, axis=0)
    half = np.maximum(extent, NARROWEST * extent.max()) / 2
    x, y = np.linspace(middle - half, middle + half, SIDE).T
    return x, y


def _box(paths: pd.DataFrame) -> Floats:
    places = paths[["x", "y"]].to_numpy(float)
    return np.array([places.min(axis=0), places.max(axis=0)])
