"""Launch a learning-rate study, or go on with one, and write its report: the same as ``lr-study launch``."""

from __future__ import annotations

import sys

from studies.commands.ctrl_c import watch

if __name__ == "__main__":
    watch()  # what is imported below takes a second

from studies.commands.command_line import run
from studies.commands.launch import main as main
from studies.commands.launch import parse_args as parse_args

if __name__ == "__main__":
    sys.exit(run(main, "launch_study"))
