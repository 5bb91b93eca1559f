"""What kills and other endings leave behind: short forms of the endurance scripts, and what they count by."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import optuna
import pytest

from reports.pages.written_file import write_file
from studies import StudyConfig, run_study

ENDURANCE = Path(__file__).parent / "endurance"
SHORT = """
import endings, kills, write_points
codes = [kills.main(["--rounds", "2"]), write_points.main(["--rounds", "1"]), endings.main(["--rounds", "1"])]
raise SystemExit(any(codes))
"""
DEAD = 2**22 + 1  # above the highest number a process can have


@pytest.fixture
def small_study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ENDURANCE)
    import small_study

    return small_study


@pytest.fixture
def finished(small_study: ModuleType, tmp_path: Path) -> Path:
    """A folder with a finished study of two runs under the name of the small one, without a report."""
    storage = small_study.storage_of(tmp_path)
    options = {"model": "Parabola", "data": "ParabolaData", "points": 2, "batch_size": 4, "seeds": 1, "epochs": 1}
    study = run_study(StudyConfig(**options, fuse="never", workers=1, storage=str(storage), name=small_study.NAME))
    study._storage._backend.engine.dispose()
    return tmp_path


def test_short_forms_of_the_scripts_keep_every_promise() -> None:
    done = subprocess.run([sys.executable, "-c", SHORT], cwd=ENDURANCE, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    kills, *points, summary, ending, endings = done.stdout.splitlines()
    assert kills.startswith("2 kills in ") and ": 0 acknowledged results lost, " in kills
    assert len(points) == 1 and re.search(r"^1 kills at 1 of \d+ named write points: 0 points", summary)
    assert ending.endswith("all promises kept") and endings == "1 endings, 0 of them with a broken promise"


def test_results_that_are_gone_or_changed_count_as_lost(small_study: ModuleType, finished: Path) -> None:
    before = small_study.stored(small_study.storage_of(finished))
    assert len(before) == 2 and small_study.lost(before, before) == 0
    first, second = before
    assert small_study.lost(before, {first: before[first]}) == 1
    assert small_study.lost(before, {first: before[first], second: before[first]}) == 1
    assert small_study.lost({}, before) == 0


def test_broken_promises_of_a_study_are_counted(small_study: ModuleType, finished: Path) -> None:
    storage = small_study.storage_of(finished)
    expected = small_study.tables(storage)
    assert not +small_study.broken_promises(finished, expected)
    study = optuna.load_study(study_name=small_study.NAME, storage=f"sqlite:///{storage}")
    study.add_trial(study.trials[0])
    study.ask()
    study._storage._backend.engine.dispose()
    small_study.report_of(finished).mkdir()
    (small_study.report_of(finished) / ".report.html.1").touch()
    assert +small_study.broken_promises(finished, expected) == {
        "cells trained twice": 1,
        "trials left running": 1,
        "temporary files left": 1,
        "final tables that differ": 1,
    }


def test_first_middle_and_last_occurrence_of_each_point_are_chosen(small_study: ModuleType) -> None:
    import write_points

    points = [("tell", 1), ("page", 1), *(("tell", number) for number in range(2, 8))]
    assert write_points.chosen(points) == [("tell", 1), ("page", 1), ("tell", 4), ("tell", 7)]


def test_next_writer_of_a_file_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    left, living, other = (tmp_path / name for name in (f".a[1].csv.{DEAD}", f".a[1].csv.{os.getppid()}", f".b.csv.{DEAD}"))
    for path in (left, living, other):
        path.write_text("half a fi")
    assert write_file(tmp_path / "a[1].csv", b"whole").read_bytes() == b"whole"
    assert {path.name for path in tmp_path.iterdir()} == {"a[1].csv", living.name, other.name}


def test_each_file_has_two_named_points_at_which_the_earlier_one_is_still_whole(tmp_path: Path) -> None:
    path = write_file(tmp_path / "report.md", b"earlier")
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ENDURANCE.parents[1])!r})
from reports.pages.written_file import write_file
path = Path({str(path)!r})
sys.addaudithook(lambda name, what: name == "lr_study.write" and print(*what, path.read_text(), sep=": "))
write_file(path, b"later")
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert found == ["report.md beside: earlier", "report.md in place: earlier"]
    assert path.read_bytes() == b"later"
