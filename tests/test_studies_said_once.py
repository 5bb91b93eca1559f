"""A warning comes once in a launch, from whichever of its processes, and again in the next one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from studies.training import said_once
from studies.training.said_once import FOLDER, warnings_once

logger = logging.getLogger("somebody's")
WORKER = """
import logging, warnings
from studies.training.said_once import listen
listen()
for again in range(2):
    logging.getLogger("somebody's").warning("it is %s", "hot")
    logging.getLogger("somebody's").warning("of a worker")
    logging.getLogger("somebody's").error("broken")
    warnings.warn_explicit("old", UserWarning, "model.py", 3)
"""


def say() -> None:
    for _ in range(3):
        logger.warning("it is %s", "hot")
        with warnings.catch_warnings():  # which makes Python forget what it has said
            warnings.simplefilter("always")
            warnings.warn_explicit("old", UserWarning, "model.py", 3)


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is logged goes to the terminal alone."""
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [logging.lastResort])


@pytest.mark.usefixtures("handler")
def test_warning_of_every_run_comes_once_a_launch(capsys: pytest.CaptureFixture[str]) -> None:
    show = warnings.showwarning
    for _ in range(2):
        with pytest.warns(UserWarning) as shown, warnings_once(), warnings_once():
            say()
        assert capsys.readouterr().err.count("it is hot") == 1 and [str(each.message) for each in shown] == ["old"]
    assert warnings.showwarning is show and FOLDER not in os.environ
    with pytest.warns(UserWarning) as shown:
        say()
    assert capsys.readouterr().err.count("it is hot") == len(shown) == 3


@pytest.mark.usefixtures("handler")
def test_workers_do_not_say_again_what_was_said_and_errors_always_come() -> None:
    with warnings_once():
        logger.warning("it is %s", "hot")
        workers = [
            subprocess.run([sys.executable, "-W", "always", "-c", WORKER], capture_output=True, text=True, check=True).stderr
            for _ in range(2)
        ]
    said = "".join(workers)
    assert "hot" not in said and said.count("of a worker") == 1 and said.count("UserWarning: old") == 1
    assert said.count("broken") == 4


@pytest.mark.usefixtures("handler")
def test_what_cannot_be_looked_up_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(said_once, "MOST", 2)
    with warnings_once():
        for number in (1, 2, 3, 3, 3):
            logger.warning("step %d", number)
        os.environ[FOLDER] = str(tmp_path / "gone")
        said_once._seen.clear()
        logger.warning("step 1")
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("step")] == [
        f"step {number}" for number in (1, 2, 3, 3, 3, 1)
    ]


def test_a_message_that_cannot_be_made_is_left_to_who_shows_it() -> None:
    with warnings_once():
        assert said_once._is_new(logging.makeLogRecord({"msg": "%d", "args": ("no number",), "levelno": logging.WARNING}))


def test_nothing_is_left_out_where_no_folder_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryDirectory", full)
    with warnings_once():
        assert FOLDER not in os.environ
