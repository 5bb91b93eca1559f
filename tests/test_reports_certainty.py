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
from conftest import REFERENCE_TRAIN, four_verdicts, reference_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.boundaries import find_boundaries, fit_edges
from reports.certainty import Deadline, find_deadline, may_stop
from reports.recommendation import recommend
from reports.verdicts import Thresholds, classify_both, final_height, time_to_bottom

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
    """A plan of runs in the order they are trained, and what each does of its own accord."""

    walks: Walks
    n_known: int  # the next one is the run in question
    thresholds: Thresholds
    random: np.random.Generator


def draw_world(number: int) -> World:
    """A batch size with one fastest learning rate, more or less noise, some odd runs, and any order of the runs of a seed."""
    random = np.random.default_rng(number)
    n_rates, n_seeds = int(random.integers(2, 5)), int(random.choice([1, 2, 3, 3, 3, 3, 4, 5]))
    best, noise, odd = int(random.integers(1, n_rates)), random.choice([0.1, 0.5, 1]), random.choice([0, 0.2, 0.5])
    slope, first = random.uniform(1.5, 6), random.uniform(0.1, 1)
    special = [10.0, 5.0, *(0.1 * 10 + 0.9 * random.normal(size=4) * noise / 2), *random.normal(size=4) * noise / 2]
    walks: dict[Key, Sequence[float]] = {}
    for seed in range(n_seeds):
        for i in random.permutation(n_rates) if random.random() < 0.5 else range(n_rates):
            pace = first * slope ** (abs(i - best) + random.normal() * noise / 4)
            end = max(0, i - best) * random.uniform(0, 4) + random.normal() * noise / 3
            jitter = np.where(TIMES > 0, random.normal(size=len(TIMES)), 0) * noise / 8
            walk = end + (STARTS[seed] - end) * np.exp(-TIMES / pace) + jitter
            if random.random() < odd:
                walk[1:] = play_a_trick(random, [STARTS[seed]], special)[1:]
            if random.random() < 0.1 * (i > best):
                walk[int(random.integers(1, len(TIMES))) :] = INF
            walks[float(10.0**i), seed] = walk.tolist()
    target = float(random.normal() * 0.3) if random.random() < 0.3 else None
    thresholds = Thresholds(tau=0.1, rho=random.choice([1.0, 1.5, 3.0]), target_loss=target)
    seed = random.integers(n_seeds) if target is not None else n_seeds - 1
    slow = [at for at, (rate, run) in enumerate(walks) if run == seed and rate < 10.0**best]
    return World(walks, int(random.choice(slow)), thresholds, random)


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
    bottoms = [0.1 * 10 + 0.9 * end for end in ends]
    special = [-1000.0, *ends, *bottoms, min(ends) - 0.1, stopped[0], stopped[-1], 11.0, 1000.0]
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


def test_whatever_the_rest_of_a_run_and_the_runs_to_come_do_stopping_changes_no_verdict() -> None:
    stopped: set[int] = set()

    @settings(deadline=None, derandomize=True, database=None, max_examples=250)
    @given(number=st.integers(0, 10**9))
    def compare(number: int) -> None:
        world = draw_world(number)
        short = stop_of(world)
        if short is None:
            return
        stopped.add(number)
        found = completions(world, short, n=40)
        for whole, cut in found:
            assert judge(whole, world.thresholds) == judge(cut, world.thresholds)
        for walks in found[0]:
            runs, cells = classify_both(*as_tables(walks), world.thresholds)
            judged = dict(zip(zip(runs["learning_rate"], runs["seed"], strict=True), runs["verdict"], strict=True))
            assert {**judged, **dict(zip(cells["learning_rate"], cells["verdict"], strict=True))} == judge(
                walks, world.thresholds
            )

    compare()
    assert len(stopped) >= 40


# What is not certain, by examples


FAST = [10.0, 10, 10, *[0.0] * 13]  # at the bottom after 0.95 epochs
SLOW = [10 - 0.3 * time for time in TIMES]
LATE = [*[10.0] * 12, *[-5.0] * 4]  # at the very end the lowest of all
BEFORE: Walks = {(rate, seed): walk for seed in range(2) for rate, walk in ((0.1, SLOW), (1.0, FAST))} | {(1.0, 2): FAST}
"""Two seeds of three, and the fastest of the third; next is the slow learning rate's third seed."""


def deadline_of(known: Walks, thresholds: Thresholds | None = None, to_come: Sequence[float] = ()) -> Deadline | None:
    return find_deadline(*as_tables(known), learning_rate=0.1, to_come=to_come, thresholds=thresholds)


def verdicts(walks: Walks, thresholds: Thresholds | None = None) -> dict[Key | float, str]:
    return judge(walks, thresholds or Thresholds())


def test_slow_run_in_the_last_seed_stops_at_rho_times_the_time_of_the_fastest() -> None:
    deadline = deadline_of(BEFORE)
    assert deadline == pytest.approx((3 * 0.95, 0.0, 0.9), rel=1e-5)
    assert [may_stop(deadline, TIMES[:k], SLOW[:k]) for k in (6, 7)] == [False, True]
    assert not may_stop(deadline, TIMES[:9], FAST[:9])  # got to the bottom
    assert not may_stop(deadline, TIMES[:9], [*SLOW[:8], INF]) and not may_stop(None, TIMES, SLOW)
    assert verdicts({**BEFORE, (0.1, 2): SLOW[:7]}) == verdicts({**BEFORE, (0.1, 2): SLOW})


def test_last_step_of_a_finite_run_may_be_non_finite_so_that_nothing_is_certain_without_the_assumption() -> None:
    ends = [verdicts({**BEFORE, (0.1, 2): [*SLOW[:15], last]})[0.1, 2] for last in (SLOW[15], INF)]
    assert ends == ["too low", "divergent"]


def test_above_the_fastest_the_last_heights_tell_too_high_from_divergent() -> None:
    above = {(100.0, 2): [10.0] * 7}
    ends = [verdicts({**BEFORE, (100.0, 2): [*above[100.0, 2], *[end] * 9]})[100.0, 2] for end in (9.0, 11.0)]
    assert ends == ["too high", "divergent"]
    known = BEFORE | {(0.1, 2): SLOW} | {(100.0, seed): [10.0] * 16 for seed in range(2)}
    assert find_deadline(*as_tables(known), learning_rate=100.0, to_come=[]) is None


def test_run_that_may_set_the_floor_does_not_stop() -> None:
    known = {**BEFORE, (0.1, 0): LATE}
    whole, cut = verdicts({**known, (0.1, 2): LATE}), verdicts({**known, (0.1, 2): LATE[:7]})
    assert (whole[1.0], cut[1.0]) == ("too high", "good")  # the fast ones never were at the bottom
    assert deadline_of(known) is None
    assert deadline_of(known, Thresholds(target_loss=0.0)) is not None


def test_fastest_must_stay_at_the_lowest_floor_there_may_be() -> None:
    back = [10.0, 10, 10, -2, *[0.0] * 12]  # soon at a bottom above -2, but it stays at one above 0 only
    known = {**BEFORE, **dict.fromkeys(product([1.0], range(3)), back)}
    third = {(0.3, 0): LATE, (0.3, 1): [10.0] * 16}  # its third seed decides whether the floor is 0 or below
    ends = [verdicts({**known, **third, (0.1, 2): SLOW, (0.3, 2): walk})[1.0] for walk in (SLOW, [10.0, *[-2.0] * 15])]
    assert ends == ["good", "too high"]
    assert deadline_of({**known, **third}, to_come=[0.3]) is None
    assert deadline_of({**known, **third, (0.3, 2): SLOW}) is not None


def test_lower_learning_rate_that_may_become_the_fastest_keeps_a_run_going() -> None:
    below = {(0.01, 0): [10.0, *[0.0] * 15], (0.01, 1): SLOW}
    ends = [verdicts({**BEFORE, **below, (0.1, 2): SLOW, (0.01, 2): walk})[0.1, 2] for walk in (SLOW, below[0.01, 0])]
    assert ends == ["too low", "too high"]
    assert deadline_of({**BEFORE, **below}, to_come=[0.01]) is None


def test_slow_run_that_makes_its_cell_stay_does_not_stop() -> None:
    left = [10.0, 10, 10, 10, *[0.0] * 8, *[5.0] * 4]  # at the bottom in time, and not at the end
    known = {**BEFORE, (0.1, 0): [*left[:12], *[0.0] * 4], (0.1, 1): left}
    arrives = [*[10.0] * 8, *[0.0] * 8]
    assert [verdicts({**known, (0.1, 2): walk})[0.1] for walk in (arrives, arrives[:7])] == ["good", "too low"]
    assert deadline_of(known) is None


def test_without_a_target_loss_nothing_is_certain_before_most_seeds_are_known() -> None:
    first = {(1.0, 0): FAST, (0.1, 0): SLOW, (1.0, 1): FAST}
    assert deadline_of(first, to_come=[1.0, 0.1]) is None
    assert deadline_of(first, Thresholds(target_loss=0.0), to_come=[1.0, 0.1]) is not None
    assert deadline_of({(1.0, 0): FAST}) is None  # one seed: the slow run may end lowest
    assert deadline_of({(1.0, 0): FAST}, Thresholds(target_loss=0.0)) is not None


def test_no_deadline_where_no_learning_rate_is_known_to_reach_the_bottom() -> None:
    assert find_deadline(as_tables(BEFORE)[0].iloc[:0], as_tables(BEFORE)[1], learning_rate=0.1, to_come=[1.0]) is None
    assert deadline_of(BEFORE, Thresholds(target_loss=-100.0)) is None


def test_runs_of_several_batch_sizes_are_refused() -> None:
    runs, curves = four_verdicts()
    with pytest.raises(ValueError, match=r"runs must be of one batch size, got \[32, 64\]"):
        find_deadline(pd.concat([runs, runs.assign(batch_size=64)]), curves, learning_rate=0.01, to_come=[])


# Recorded grids, in the order a study trains them


def replay(runs: pd.DataFrame, curves: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of a batch size had its runs stopped when they may: seeds outermost, learning rates ascending."""
    paths = {trial: path for trial, path in curves[curves["metric"] == "height"].groupby("trial")}
    plan = runs.sort_values(["seed", "learning_rate"], ignore_index=True)
    done, kept = plan.iloc[:0], []
    for at, row in plan.iterrows():
        path = paths[row["trial"]]
        epochs, heights = path["epoch"].to_numpy(), path["value"].to_numpy()
        deadline = None
        if row["seed"] == plan["seed"].max():
            to_come = plan["learning_rate"].iloc[int(at) + 1 :].tolist()
            deadline = find_deadline(done, pd.concat(kept), learning_rate=row["learning_rate"], to_come=to_come)
        for k in range(2, len(path)):
            if may_stop(deadline, epochs[:k], heights[:k]):
                path, end = path[:k], final_height(epochs[:k], heights[:k])
                stopped = {"epochs": epochs[k - 1], "steps": path["step"].iloc[-1], "final_height": end, "val_loss": math.nan}
                plan.loc[int(at), list(stopped)] = list(stopped.values())
                break
        kept.append(path)
        done = plan.iloc[: int(at) + 1]
    return plan, pd.concat(kept)


@pytest.mark.parametrize("case", REFERENCE_TRAIN)
def test_stopping_changes_no_verdict_edge_or_recommendation_of_the_reference_grids_and_saves_steps(case: str) -> None:
    runs, curves, _ = reference_tables(case)
    saved = 0
    for _, group in runs.groupby("batch_size"):
        whole = group.sort_values(["seed", "learning_rate"], ignore_index=True)
        cut, short = replay(group, curves[curves["trial"].isin(group["trial"])])
        (judged, cells), (judged_cut, cells_cut) = classify_both(whole, curves), classify_both(cut, short)
        assert judged["verdict"].tolist() == judged_cut["verdict"].tolist()
        assert cells["verdict"].tolist() == cells_cut["verdict"].tolist()
        edges = fit_edges(judged)
        pd.testing.assert_frame_equal(find_boundaries(judged, edges), find_boundaries(judged_cut))
        pd.testing.assert_frame_equal(
            recommend(judged, cells, edges).drop(columns="time_to_bottom_seconds"),
            recommend(judged_cut, cells_cut, edges).drop(columns="time_to_bottom_seconds"),
        )
        saved += whole["steps"].sum() - cut["steps"].sum()
    assert saved > 0.02 * runs["steps"].sum()
