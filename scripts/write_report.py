"""Write the report of a stored study, or explain the curve of one finished run: the same as ``lr-study report``."""

from __future__ import annotations

import sys

from studies.commands.ctrl_c import watch

if __name__ == "__main__":
    watch()  # what is imported below takes a second

from studies.commands.command_line import run
from studies.commands.report import main as main
from studies.commands.report import parse_args as parse_args

if __name__ == "__main__":
    sys.exit(run(main, "write_report"))
