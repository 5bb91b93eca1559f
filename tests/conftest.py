"""Small tables and studies the tests share."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reports.judging.decided import BY_SEARCH
from reports.judging.final_height import final_height
from studies import Run, Workload
from studies.plan import Planned
from studies.training import trainers
from studies.training.fusing import train_fused

sys.path.append(str(Path(__file__).parent / "endurance"))
from hostile_texts.texts import HOSTILE as HOSTILE

collect_ignore_glob = ["endurance/*", "cli_project/*"]  # programs, and a user's project, which import from their own folders
QUIET: dict[str, Any] = {**trainers.QUIET, "accelerator": "cpu"}


def tables(
    cells: dict[tuple[int, float], Sequence[Sequence[float]]], *, epochs: float = 10
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``runs`` and ``curves`` from heights by (batch size, learning rate), a list of heights a seed, evenly over ``epochs``."""
    runs, curves = [], []
    for (batch_size, learning_rate), seeds in cells.items():
        for seed, heights in enumerate(seeds):
            trial, times = len(runs), np.linspace(0, epochs, len(heights))
            bad = np.flatnonzero(~np.isfinite(heights))
            runs.append(
                {
                    "trial": trial,
                    "learning_rate": learning_rate,
                    "batch_size": batch_size,
                    "seed": seed,
                    "state": "COMPLETE",
                    "epochs": float(epochs),
                    "steps": int(epochs * 8),
                    "examples": int(epochs * 8 * batch_size),
                    "seconds": 2.0,
                    "nonfinite_at": int(bad[0]) if len(bad) else None,
                    "first_height": float(heights[0]),
                    "final_height": final_height(times, np.asarray(heights, dtype=float)),
                    "val_loss": float(heights[-1]) if not len(bad) else None,
                    "val_accuracy": 0.9 if not len(bad) else None,
                    "member_of": trial,
                    "error": None,
                }
            )
            curves.append(
                pd.DataFrame({"trial": trial, "step": times * 8, "epoch": times, "metric": "height", "value": heights})
            )
    table = pd.DataFrame(runs).astype({"nonfinite_at": "Int64"})
    return table, pd.concat(curves, ignore_index=True).astype({"step": int})


def four_verdicts() -> tuple[pd.DataFrame, pd.DataFrame]:
    """One batch size, one seed: a run of each verdict that a person can see, at rates 0.01, 0.1, 1 and 10."""
    return tables(
        {
            (32, 0.01): [[2.0, 1.95, 1.9, 1.85, 1.8, 1.75]],
            (32, 0.1): [[2.0, 0.1, 0.0, 0.0, 0.0, 0.0]],
            (32, 1.0): [[2.0, 1.0, 1.2, 0.9, 1.1, 1.0]],
            (32, 10.0): [[2.0, 9.0, 400.0, float("inf")]],
        }
    )


def searched() -> tuple[pd.DataFrame, pd.DataFrame]:
    """One batch size, two seeds and 10 epochs, of which a search spared what it could; 0.1 is the fastest, in 0.95 epochs.

    In order: 0.001 on one seed for an epoch, which tells nothing; 0.1 to the end; 0.01 for 4 epochs, too low; 1 for 5, too
    high; 10, divergent on both seeds, one for 5 epochs and one to the end.
    """
    hovers, lost = [2.0, 1.0, 1.2, 0.9, 1.1, 1.0], [2.0, 3.0, 4.0, 3.0, 3.0, 3.0]
    parts: list[tuple[float, float, list[list[float]]]] = [
        (1, 0.001, [[2.0, 1.99]]),
        (10, 0.1, [[2.0, 0.1] + [0.0] * 9] * 2),
        (4, 0.01, [[2.0, 1.9, 1.8, 1.7, 1.6]] * 2),
        (5, 1.0, [hovers] * 2),
        (5, 10.0, [lost]),
        (10, 10.0, [[], lost + [3.0] * 5]),
    ]
    made: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    for epochs, rate, seeds in parts:
        runs, curves = tables({(32, rate): [heights or [2.0, 1.0] for heights in seeds]}, epochs=epochs)
        runs = runs[[bool(heights) for heights in seeds]]
        curves, n = curves[curves["trial"].isin(runs["trial"])], 2 * len(made)
        cut = {"state": "PRUNED", "ended_early": BY_SEARCH} if epochs < 10 else {"ended_early": None}
        numbers = {name: runs[name] + n for name in ("trial", "member_of")}
        made.append((runs.assign(**numbers, **cut), curves.assign(trial=curves["trial"] + n)))
    runs, curves = (pd.concat(tables, ignore_index=True) for tables in zip(*made, strict=True))
    return runs, curves


REFERENCE_TRAIN = {"digits_mlp": 1_347, "wine_b1": 133, "diabetes_linear": 331}  # training examples; a short batch is left out


@cache
def reference_tables(case: str) -> tuple[pd.DataFrame, pd.DataFrame, dict[tuple[int, float], str]]:
    """``runs``, ``curves`` and the label of each (batch size, learning rate) of a reference grid; see tests/reference."""
    grid = np.load(Path(__file__).parent / "reference" / f"{case}.npz")
    cells: dict[tuple[int, float], list[Sequence[float]]] = {}
    for size, rate, heights in zip(grid["batch"].tolist(), grid["lr"].tolist(), grid["heights"], strict=True):
        cells.setdefault((size, rate), []).append(heights)
    runs, curves = tables(cells)  # the rows of a cell stand together, in order of their seeds
    times = np.column_stack([np.zeros(len(runs)), grid["t"]])
    steps = np.rint(times * (REFERENCE_TRAIN[case] // grid["batch"][:, None])).astype(int)
    curves = curves.assign(epoch=times.ravel(), step=steps.ravel())
    curves = curves.drop_duplicates(["trial", "step"], ignore_index=True)  # one step may stand for several quarter epochs
    runs["final_height"] = [final_height(c["epoch"].to_numpy(), c["value"].to_numpy()) for _, c in curves.groupby("trial")]
    runs["val_loss"] = np.where(np.isfinite(grid["val"]), grid["val"], np.nan)
    runs["epochs"], runs["steps"], runs["examples"] = times[:, -1], steps[:, -1], steps[:, -1] * grid["batch"]
    runs["nonfinite_at"] = curves[np.isinf(curves["value"])].groupby("trial")["step"].min().astype("Int64")
    labels = zip(zip(grid["cell_batch"].tolist(), grid["cell_lr"].tolist(), strict=True), grid["label"].tolist(), strict=True)
    return runs.drop(columns=["val_accuracy"]), curves, dict(labels)


# Chromium asks for nothing on its own; as root it has no sandbox.
QUIET_CHROMIUM = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium that is installed on this machine, driven by playwright; tests are skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium is installed: on Debian, apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=QUIET_CHROMIUM.split())
        yield chromium
        chromium.close()


def planned(members: Sequence[tuple[float, int]], batch_size: int) -> list[Planned]:
    """Members of a batch size, by learning rate and seed."""
    return [Planned(rate, batch_size, seed) for rate, seed in members]


def together(workload: Workload, members: Sequence[tuple[float, int]], *, batch_size: int, epochs: int) -> list[Run]:
    """What ``studies.train`` does, in one fit."""
    return train_fused(workload, planned(members, batch_size), epochs=epochs)
