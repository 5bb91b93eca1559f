"""What tensors free is kept for the next ones."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import pytest

from studies.training.memory import KEPT, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, MAPPED, keep_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="the GNU C library's malloc")
def test_library_takes_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    library, taken = ctypes.CDLL(None), {}

    class Watched:
        def mallopt(self, setting: int, value: int) -> None:
            taken[setting, value] = library.mallopt(setting, value)

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Watched())
    keep_freed_memory()
    assert taken == {(M_MMAP_THRESHOLD, MAPPED): 1, (M_TRIM_THRESHOLD, KEPT): 1}


def test_nothing_happens_without_that_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Any) -> None:
        raise TypeError("no such thing on this system")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    keep_freed_memory()
