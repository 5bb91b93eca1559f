"""Open Optuna Dashboard on the studies of a storage, on this machine only: the same as ``lr-study dashboard``."""

from __future__ import annotations

import sys

from studies.commands.ctrl_c import watch

if __name__ == "__main__":
    watch()  # what is imported below takes a second

from studies.commands.command_line import run
from studies.commands.dashboard import main as main
from studies.commands.dashboard import parse_args as parse_args

if __name__ == "__main__":
    sys.exit(run(main, "open_dashboard"))
