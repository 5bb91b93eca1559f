"""Ctrl-C from the first line of a command to its last: once ends it in order, once more within a second, however busy it is.

Imports nothing heavy: what does comes after it.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from studies.storage import interrupts

INTERRUPTED = 130  # exit code of Ctrl-C, as shells count it
GRACE = 1.0  # seconds that an orderly end has left when Ctrl-C is pressed again
AGAIN = "what finished is kept; the same command goes on from there"
SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it
NOW, SOON = b"\0", b"\xff"  # told by handlers, beside the numbers of signals
_ending = threading.Event()  # nothing holds it up any more


def watch() -> None:
    """Have Ctrl-C end this process, which must be a command's own and nobody else's.

    Where nothing says otherwise, which is ``interruptible``, the first one ends it at once: nothing is written, perhaps only
    imported. Does nothing where Ctrl-C is ignored, as by what a shell starts with ``&``.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    heard, tell = os.pipe()
    os.set_blocking(tell, False)
    threading.Thread(target=_listen, args=(heard,), daemon=True, name="Ctrl-C").start()

    def press(number: int, frame: FrameType | None) -> None:
        os.write(tell, SOON if interrupts.came() else NOW)

    # A signal's number is written before any Python code runs, which may take long to come to its turn, or never does.
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, press)
    interrupts.watch(press)
    sys.unraisablehook = _without_interrupts(sys.unraisablehook)
    os.register_at_fork(after_in_child=_forget)
    atexit.register(_last)  # the first that is registered is the last that is called


def _listen(heard: int) -> None:
    presses = 0
    while said := os.read(heard, 1):
        presses += said[0] in (signal.SIGINT, signal.SIGTERM)
        if said == SOON or presses > 1:
            _ending.set()
            time.sleep(GRACE)
        elif said != NOW:
            continue
        end()


def end() -> None:
    """Say how to go on, kill every process that this one started, and end it; the database undoes what is half written."""
    with contextlib.suppress(OSError):
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + f"interrupted: {AGAIN}\n".encode())
    with contextlib.suppress(Exception):
        _kill_children()
    os._exit(INTERRUPTED)


def _kill_children() -> None:
    """All below this process, but the trackers that remove semaphores once everyone is dead."""
    import psutil

    this = psutil.Process()
    while children := [each for each in this.children(recursive=True) if not _tracks(each)]:  # while one dies another may start
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(children, timeout=0.2)


def _tracks(process: Any) -> bool:
    import psutil

    try:
        return "resource_tracker" in " ".join(process.cmdline()) or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:  # gone
        return True


def _without_interrupts(before: Any) -> Any:
    """An interrupt where nothing can be raised, as in ``__del__``, comes again at the end of the next write."""

    def hook(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            interrupts.come_again()
        else:
            before(unraisable)

    return hook


def _forget() -> None:
    """A fork is not the command: what it hears is not told to us."""
    signal.set_wakeup_fd(-1)
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, signal.SIG_DFL):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _last() -> None:
    """Nothing is left to be done, and Python takes itself apart: whoever presses now need not be answered."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _ending.is_set():
        end()
