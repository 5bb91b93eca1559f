"""What a worker process does first: watch its driver, before it imports PyTorch, which takes seconds."""

import os
import signal
import threading
import time

PARENT_CHECK = 1.0  # seconds between two looks whether the driver is still there


def start(packed: bytes, threads: int, driver: int) -> None:
    """The initializer of a worker: it ends when the process ``driver`` does; the rest is as ``begin``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the driver ends the workers
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()
    from studies.training.work import begin

    begin(packed, threads)


def _end_with(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(PARENT_CHECK)
    os._exit(1)
