"""Write the report of a stored study, without training anything."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from studies.command_line import add_thresholds, parse, run


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The options."""
    parser = ArgumentParser(description=__doc__, exit_on_error=False, allow_abbrev=False)
    parser.add_argument(
        "--storage", default="outputs/studies.db", metavar="FILE", help="where the study is (default: outputs/studies.db)"
    )
    parser.add_argument("--name", default="digits", metavar="NAME", help="name of the study (default: digits)")
    parser.add_argument("--out", default="outputs", metavar="FOLDER", help="the report goes to FOLDER/NAME (default: outputs)")
    add_thresholds(parser)
    return parse(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the study, judge it, write the folder."""
    options = parse_args(argv)
    from reports import Thresholds
    from studies.progress import print_answer
    from studies.storage import load_study, require_writable
    from studies.tables import report_study

    thresholds = Thresholds(tau=options["tau"], rho=options["rho"], target_loss=options["target_loss"])
    study = load_study(options["storage"], options["name"])
    folder = Path(options["out"]) / options["name"]
    require_writable(folder, "out")
    page = report_study(study, folder, thresholds)
    print_answer(study, thresholds)
    print(f"report: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main, "write_report"))
