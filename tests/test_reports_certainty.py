"""A run that stops early changes no verdict: against every trick that runs still to come could play, and on recorded grids."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from conftest import REFERENCE_TRAIN, four_verdicts, reference_tables, tables
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reports.boundaries import find_boundaries, fit_edges
from reports.certainty import Deadline, find_deadline, may_stop
from reports.recommendation import recommend
from reports.verdicts import Thresholds, classify, classify_both, final_height, time_to_bottom

INF = math.inf
Key = tuple[float, int]  # learning rate, seed
Walks = Mapping[Key, Sequence[float]]  # heights at the first of TIMES; runs that failed are left out
TIMES = np.array([0, 0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
EPOCHS, STARTS = TIMES[-1], {seed: 10 + seed / 10 for seed in range(5)}


# Slow obvious code


def as_tables(walks: Walks) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``runs`` and ``curves`` of one batch size."""
    rows = []
    for trial, ((rate, seed), heights) in enumerate(walks.items()):
        times = TIMES[: len(heights)]
        rows.append(
            {"trial": trial, "learning_rate": rate, "batch_size": 8, "seed": seed, "state": "COMPLETE", "epochs": times[-1]}
            | {"steps": 4 * times[-1], "seconds": 1.0, "nonfinite_at": 4 * times[-1] if INF in heights else None}
            | {"first_height": heights[0], "final_height": final_height(times, np.array(heights))}
        )
    lengths = [len(heights) for heights in walks.values()]
    epochs = np.concatenate([TIMES[:n] for n in lengths])
    values = np.concatenate([np.asarray(heights, dtype=float) for heights in walks.values()])
    trials = np.repeat(np.arange(len(walks)), lengths)
    curves = {"trial": trials, "step": 4 * epochs, "epoch": epochs, "metric": "height", "value": values}
    return pd.DataFrame(rows).astype({"nonfinite_at": "Int64"}), pd.DataFrame(curves)


def judge(walks: Walks, thresholds: Thresholds) -> dict[Key | float, str]:
    """The verdict of every run and, by learning rate alone, of every cell."""
    cells: dict[float, list[Key]] = {}
    for key in walks:
        cells.setdefault(key[0], []).append(key)
    ends = {key: final_height(TIMES[: len(heights)], np.array(heights)) for key, heights in walks.items()}
    floor = thresholds.target_loss
    if floor is None:
        floor = min(statistics.median([ends[key] for key in keys]) for keys in cells.values())
    progress, times = {}, {}
    for key, heights in walks.items():
        way = heights[0] - floor
        path = [(heights[0] - h) / way if way > 0 and math.isfinite(h) else 0.0 if h <= heights[0] else -INF for h in heights]
        times[key] = time_to_bottom(TIMES[: len(heights)], np.array(path), level=1 - thresholds.tau)
        fallen = heights[0] - ends[key]
        progress[key] = fallen / way if way > 0 else 0.0 if fallen >= 0 else -INF
    found = {
        rate: (median([progress[k] for k in keys]), median([times[k] for k in keys]), [INF in walks[k] for k in keys])
        for rate, keys in cells.items()
    }
    arrived = [rate for rate, (p, t, _) in found.items() if p >= 1 - thresholds.tau and t < INF]
    fastest = min(arrived, key=lambda r: (found[r][1], r)) if arrived else max(found, key=lambda r: (found[r][0], -r))
    limit = thresholds.rho * found[fastest][1]

    def verdict(rate: float, end: float, time: float, gone: list[bool]) -> str:
        if sum(gone) > len(gone) / 2 or (rate > fastest and end <= 0):
            return "divergent"
        stays = end >= 1 - thresholds.tau
        if stays and time < INF and time <= limit and arrived:
            return "good"
        overshot = rate > fastest or (rate == fastest and (end < 0 or (time < INF and not stays)))
        return "too high" if overshot else "too low"

    of_runs = {key: verdict(key[0], progress[key], times[key], [INF in walks[key]]) for key in walks}
    return {**of_runs, **{rate: verdict(rate, *numbers) for rate, numbers in found.items()}}


def median(values: list[float]) -> float:
    low, high = sorted(values)[(len(values) - 1) // 2], sorted(values)[len(values) // 2]
    return low if low == high else (low + high) / 2


# Against every trick


class World(NamedTuple):
    """A plan of runs in the order they are trained, and what each would have done had it been well behaved."""

    walks: Walks
    n_known: int
    thresholds: Thresholds
    random: np.random.Generator


def draw_world(number: int) -> World:
    """A plausible batch size with one fastest learning rate, more or less noise, and any order of the runs of a seed."""
    random = np.random.default_rng(number)
    n_rates, n_seeds, noise = int(random.integers(2, 6)), int(random.choice([1, 2, 3, 3, 3, 4, 5])), random.choice([0.1, 0.5, 1, 2])
    best, slope, first = random.integers(n_rates), random.uniform(1.5, 6), random.uniform(0.1, 1)
    walks: dict[Key, Sequence[float]] = {}
    for seed in range(n_seeds):
        for i in random.permutation(n_rates) if random.random() < 0.5 else range(n_rates):
            pace = first * slope ** (abs(i - best) * random.uniform(0.5, 1.5) + random.normal() * noise / 3)
            end = max(0.0, i - best) * random.uniform(0, 4) + abs(random.normal()) * noise / 2
            walk = end + (STARTS[seed] - end) * np.exp(-TIMES / pace) + np.where(TIMES > 0, random.normal(size=16), 0) * noise / 8
            if random.random() < 0.1 * (i > best) or random.random() < 0.02 * noise:
                walk[int(random.integers(1, 16)) :] = INF
            walks[float(10.0**i), seed] = np.round(walk, int(random.integers(0, 4)))
    target = float(random.normal() * 0.3) if random.random() < 0.3 else None
    thresholds = Thresholds(tau=random.choice([0.05, 0.1, 0.3]), rho=random.choice([1.0, 1.5, 3.0]), target_loss=target)
    late = random.integers(len(walks)) if target is not None else len(walks) - 1 - random.integers(n_rates)
    return World(walks, int(late), thresholds, random)


def play_a_trick(random: np.random.Generator, start: Sequence[float], special: Sequence[float]) -> list[float]:
    """A run that goes on from ``start`` as it likes: up to three levels, some of them where a rule is about to turn."""
    rest = len(TIMES) - len(start)
    cuts = np.sort(random.integers(0, rest + 1, size=2))
    levels = [random.choice(special) if random.random() < 0.8 else random.normal() * 5 for _ in range(3)]
    return [*start, *np.repeat(levels, np.diff([0, *cuts, rest]))]


def completions(world: World, stopped: Sequence[float], n: int) -> list[tuple[Walks, Walks]]:
    """What may come of a world whose next run has done ``stopped``, each with that run to its end and with it stopped."""
    random, keys = world.random, list(world.walks)
    known = {key: as_recorded(world.walks[key]) for key in keys[: world.n_known]}
    running, to_come = keys[world.n_known], keys[world.n_known + 1 :]
    ends = [final_height(TIMES[: len(w)], np.array(w)) for w in known.values()]
    ends = [end for end in ends if end < INF] or [0.0]
    special = [-1000.0, *ends, *[0.1 * 10 + 0.9 * end for end in ends], min(ends) - 0.1, stopped[0], stopped[-1], 11.0, 1000.0]
    found = []
    for _ in range(n):
        rest: dict[Key, Sequence[float]] = {}
        for key in to_come:
            kind = random.random()
            if kind < 0.2:  # what a run of its kind does
                rest[key] = as_recorded(world.walks[key])
            elif kind < 0.3:
                rest[key] = as_recorded([*play_a_trick(random, [STARTS[key[1]]], special)[: random.integers(1, 15)], INF])
            elif kind < 0.95:  # the others fail
                rest[key] = play_a_trick(random, [STARTS[key[1]]], special)
        whole = play_a_trick(random, stopped, special) if random.random() < 0.9 else list(world.walks[running])
        if math.isfinite(max(whole)):  # the one assumption
            found.append(({**known, **rest, running: whole}, {**known, **rest, running: stopped}))
    return found


def as_recorded(heights: Sequence[float]) -> Sequence[float]:
    """Up to the first value that is not finite."""
    heights = list(heights)
    return heights[: heights.index(INF) + 1] if INF in heights else heights


def stop_of(world: World) -> Sequence[float] | None:
    """The heights of the next run up to where it stops; None if it does not."""
    keys = list(world.walks)
    known = {key: as_recorded(world.walks[key]) for key in keys[: world.n_known]}
    rates = [rate for rate, _ in keys[world.n_known :]]
    heights = world.walks[keys[world.n_known]]
    if not known:
        return None
    deadline = find_deadline(*as_tables(known), learning_rate=rates[0], to_come=rates[1:], thresholds=world.thresholds)
    for k in range(1, len(TIMES)):
        if may_stop(deadline, TIMES[:k], heights[:k]):
            return heights[:k]
    return None


STOPPED: set[int] = set()


@settings(deadline=None, derandomize=True, database=None, max_examples=600)
@given(number=st.integers(0, 10**9))
def check_no_trick_changes_a_verdict(number: int) -> None:
    world = draw_world(number)
    stopped = stop_of(world)
    if stopped is None:
        return
    STOPPED.add(number)
    for whole, short in completions(world, stopped, n=40):
        assert judge(whole, world.thresholds) == judge(short, world.thresholds)


def test_whatever_the_rest_of_a_run_and_the_runs_to_come_do_stopping_changes_no_verdict() -> None:
    check_no_trick_changes_a_verdict()
    assert len(STOPPED) >= 60
