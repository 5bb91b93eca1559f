"""Compare stored studies, the first with each other one: the same as ``lr-study compare``."""

from __future__ import annotations

import sys

from studies.commands.ctrl_c import watch

if __name__ == "__main__":
    watch()  # what is imported below takes a second

from studies.commands.command_line import run
from studies.commands.compare import main as main
from studies.commands.compare import parse_args as parse_args

if __name__ == "__main__":
    sys.exit(run(main, "compare_studies"))
