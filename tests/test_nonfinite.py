"""A number that is not finite, put into a run at a known step, is seen there and kept in everything a study leaves."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import QUIET, together

from studies.training.runs import train
from studies.training.workload import Workload

SCRIPT = Path(__file__).parent / "endurance" / "nonfinite.py"


def loaded() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("nonfinite", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["nonfinite"] = module  # where its dataclasses are looked for
    spec.loader.exec_module(module)
    return module


nonfinite = loaded()
CASES = nonfinite.cases(7)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}, {'fused' if case.fused else 'alone'}")
def test_first_step_that_is_not_finite_is_exact_and_ends_the_run_within_one_step(case: Any) -> None:
    workload = Workload.of(case.model, nonfinite.Digits, QUIET)
    trained = together if case.fused else train
    lucky, broken = trained(workload, [(0.1, 0), (0.1, 1)], batch_size=nonfinite.BATCH_SIZE, epochs=nonfinite.EPOCHS)
    assert lucky.nonfinite_at is None and lucky.steps == nonfinite.LAST and math.isfinite(lucky.value)
    assert broken.nonfinite_at == case.expected
    assert broken.value == math.inf if case.shown is not None else math.isfinite(broken.value)
    steps, heights = broken.curves["height"]
    if case.expected is None:
        assert broken.steps == nonfinite.LAST and all(map(math.isfinite, heights))
    else:
        assert broken.steps - case.expected in (0, 1) and (steps[-1], heights[-1]) == (case.expected, math.inf)
        assert all(map(math.isfinite, heights[:-1])) and not broken.metrics
    if case.what == "validation":
        steps, losses = broken.curves["val_loss"]
        assert [step for step, loss in zip(steps, losses, strict=True) if math.isnan(loss)] == [10, 15] and steps[0] == 5


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The cases the script goes through, to be filled."""
    chosen: list[Any] = []
    monkeypatch.setattr(nonfinite, "cases", lambda middle: chosen)
    yield chosen


def test_script_finds_each_case_in_database_tables_pages_and_figures(few: list[Any], capsys: Any) -> None:
    few += [case for case in CASES if (case.name, case.fused) in {("only validation", False), ("loss NaN, first step", True)}]
    assert nonfinite.main(["--rounds", "1"]) == 0
    assert "2 of 2 cases are seen within 1 step, at their step, everywhere" in capsys.readouterr().out


def test_script_fails_when_a_case_is_missed(few: list[Any], capsys: Any) -> None:
    few.append(nonfinite.replace(CASES[1], expected=6))
    assert nonfinite.main(["--rounds", "1"]) == 1
    shown = capsys.readouterr().out
    assert "0 of 1 cases" in shown and shown.count("MISSED") == 3  # the figure shows no step
