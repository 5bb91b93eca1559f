"""A function in a process of its own, so that neither its time nor its memory depends on what ran before it."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a module returns in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=quiet) as process:
        return process.submit(function, *arguments).result()


def quiet() -> None:
    """What libraries would say between the rows is left out."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def peak_memory() -> float:
    """The most memory this process has held, in MB."""
    import resource

    if sys.platform == "linux":  # where the other figure begins with that of the parent
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
