"""Places in the user's code are named, those of ours, of Python and of installed packages are not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from lightning_modules.user_code import STANDARD_LIBRARY, is_ours, last_line_of, where


class Mine:
    """Of the user."""

    def method(self) -> None:
        """Fails deep inside Python."""
        json.loads("{")


def test_the_innermost_line_of_the_user_is_named_whatever_it_called() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        Mine().method()
    line = Mine.method.__code__.co_firstlineno + 2
    assert last_line_of(caught.value.__traceback__) == f"method (tests/test_lightning_modules_user_code.py:{line})"
    trace = caught.value.__traceback__
    while trace is not None and not Path(trace.tb_frame.f_code.co_filename).is_relative_to(STANDARD_LIBRARY):
        trace = trace.tb_next
    assert trace is not None and last_line_of(trace) == ""
    assert last_line_of(None) == ""


def test_a_method_is_named_with_its_place_if_it_has_one() -> None:
    line = Mine.method.__code__.co_firstlineno
    assert where(Mine(), "method") == f"Mine.method (tests/test_lightning_modules_user_code.py:{line})"
    assert where(Mine(), "missing") == "Mine"
    assert where([], "append") == "list.append"  # made without a file


def test_files_of_our_packages_are_ours_at_any_depth() -> None:
    here = Path(__file__).parents[1]
    assert is_ours(str(here / "lightning_modules" / "height.py")) and is_ours(str(here / "studies" / "commands" / "any.py"))
    assert not is_ours(__file__) and not is_ours(torch.__file__) and not is_ours(os.__file__)
