"""Write the report of a stored study, or explain the curve of one finished run of any origin; trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studies.command_line import add_thresholds, fail_at_work, make_parser, parse


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The options."""
    parser = make_parser(__doc__, "report")
    parser.add_argument(
        "--storage", default="outputs/studies.db", metavar="FILE", help="where the study is (default: outputs/studies.db)"
    )
    parser.add_argument("--name", default="digits", metavar="NAME", help="name of the study (default: digits)")
    parser.add_argument("--out", default="outputs", metavar="FOLDER", help="the report goes to FOLDER/NAME (default: outputs)")
    parser.add_argument("--run", default=None, metavar="FILE.csv", help="explain this curve of one run instead: step and loss")
    parser.add_argument(
        "--loss-column", default=None, metavar="NAME", help="column of --run (default: loss, the only one, or train_loss...)"
    )
    add_thresholds(parser)
    return parse(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the study, judge it, write the folder; or print what one curve says."""
    options = parse_args(argv)
    if options["run"] is not None:
        from reports import explain_run, read_curve

        print(explain_run(read_curve(options["run"], options["loss_column"])))
        return 0
    if options["loss_column"] is not None:
        raise ValueError(f"loss_column belongs to --run FILE.csv, got {options['loss_column']!r} alone")
    from reports import Thresholds
    from studies.progress import print_answer
    from studies.storage import load_study, require_writable
    from studies.tables import judge_study, report_study

    thresholds = Thresholds(tau=options["tau"], rho=options["rho"], target_loss=options["target_loss"])
    study = load_study(options["storage"], options["name"])
    folder = Path(options["out"]) / options["name"]
    require_writable(folder, "out")
    try:
        judged = judge_study(study, thresholds)
        page = report_study(study, folder, judged)
        print_answer(study.study_name, judged)
        print(f"report: {page}")
    except Exception as error:
        return fail_at_work(error, str(folder))
    return 0
