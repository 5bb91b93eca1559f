"""A command of ours with everything that it writes to the terminal, and whether that is text and no more."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from importlib import import_module
from typing import NamedTuple

from studies.commands.command_line import BAD_INPUT, run


class Said(NamedTuple):
    """How a command ended, and all that reached the terminal."""

    code: int
    text: str


def call(command: str, *argv: str) -> Said:
    """A command in this process."""
    return said_by(lambda: run(lambda: int(import_module(f"studies.commands.{command}").main(argv)), command))


def said_by(act: Callable[[], int]) -> Said:
    """What ``act`` returns and what reaches the terminal meanwhile, from loggers and libraries too."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        kept = os.dup(1), os.dup(2)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            code = act()
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException as error:  # which a process would show with its traceback
            code, _ = -1, print(f"Traceback {error!r}")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, place in enumerate(kept, 1):
                os.dup2(place, number)
                os.close(place)
        file.seek(0)
        return Said(code, file.read().decode(errors="surrogateescape"))


def faults_of(said: Said, codes: Collection[int] = (0,)) -> Iterator[tuple[str, object]]:
    """Faults of a command that may end with one of ``codes``: what it says is plain text, one line where it refuses."""
    if said.code not in codes or "Traceback" in said.text:
        yield "command that ends otherwise", f"code {said.code}, {said.text[-800:]!r}"
    if not all(letter.isprintable() or letter == "\n" for letter in said.text):
        yield "control characters in the terminal", repr(said.text)
    if said.code == BAD_INPUT and said.text.count("\n") != 1:
        yield "refusal that is not one line", repr(said.text)
