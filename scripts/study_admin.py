"""List, show, adopt, export, import and delete stored studies: the same as ``lr-study admin``."""

from __future__ import annotations

import sys

from studies.commands.ctrl_c import watch

if __name__ == "__main__":
    watch()  # what is imported below takes a second

from studies.commands.admin import main as main
from studies.commands.admin import parse_args as parse_args
from studies.commands.command_line import run

if __name__ == "__main__":
    sys.exit(run(main, "study_admin"))
