"""The entry point ``lr-study``: finds the command and passes the other arguments on to it."""

import importlib
import sys
from collections.abc import Sequence

from studies.commands.ctrl_c import watch

COMMANDS = {  # the name of a file beside this one, which has ``main``, and what it does
    "launch": "train a study, or go on with one, and write its report",
    "report": "write the report of a stored study again, or explain the curve of one run",
    "compare": "compare stored studies: what moved, and what exceeds the spread of the seeds",
    "dashboard": "open Optuna Dashboard on the studies of a storage",
    "admin": "list, show, adopt, export, import and delete stored studies",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command; imports nothing heavy before it is known.

    argv: its arguments, None where the process is this command's own, which Ctrl-C then ends.
    """
    if argv is None:
        watch()
    command, *arguments = (sys.argv[1:] if argv is None else argv) or [""]
    if command in ("-h", "--help"):
        print(f"usage: lr-study {{{','.join(COMMANDS)}}} [OPTIONS]\n")
        for name, text in COMMANDS.items():
            print(f"  {name:<11}{text}")
        print("\nlr-study COMMAND --help lists the options of a command.")
        return 0
    from studies.commands.command_line import BAD_INPUT, run
    from studies.config import nearest

    if command in COMMANDS:
        found = importlib.import_module(f"studies.commands.{command}")
        return run(lambda: found.main(arguments), f"lr-study {command}")
    known = ", ".join(COMMANDS)
    wrong = f"{command!r} is not known{nearest(command, list(COMMANDS))}" if command else f"must be one of {known}, got none"
    print(f"lr-study: command {wrong}", file=sys.stderr)
    return BAD_INPUT
