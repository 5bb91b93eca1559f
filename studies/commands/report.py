"""Write the report of a stored study, or explain the curve of one finished run of any origin; trains for --landscape alone."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from studies.commands.command_line import (
    add_export,
    add_json,
    add_storage,
    add_thresholds,
    fail_at_work,
    make_parser,
    parse,
    tell_exports,
)
from studies.commands.ctrl_c import INTERRUPTED
from studies.errors import BadInput

AUTO = "auto"
AT_BATCH_SIZE = (
    "say only what to use at these batch sizes, tried or not, by the law of those tried: at least three, up to a factor 4"
    " outside"
)
LANDSCAPE = (
    "draw the walk on the hill of this batch size (default: the one with runs of the most verdicts): a run of each verdict is"
    " trained again and the loss around its path measured; says first what that costs"
)


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The options."""
    parser = make_parser(__doc__, "report")
    add_storage(parser, "the study is")
    parser.add_argument("--name", default="digits", metavar="NAME", help="name of the study (default: digits)")
    parser.add_argument("--out", default="outputs", metavar="FOLDER", help="the report goes to FOLDER/NAME (default: outputs)")
    parser.add_argument("--run", default=None, metavar="FILE.csv", help="explain this curve of one run instead: step and loss")
    parser.add_argument(
        "--loss-column", default=None, metavar="NAME", help="column of --run (default: loss, the only one, or train_loss...)"
    )
    parser.add_argument("--at-batch-size", type=Any, nargs="+", default=None, metavar="N", help=AT_BATCH_SIZE)
    parser.add_argument("--landscape", type=Any, nargs="?", const=AUTO, default=None, metavar="N", help=LANDSCAPE)
    add_thresholds(parser)
    add_json(parser)
    add_export(parser)
    return parse(parser, argv)


def _foretell(study: Any, thresholds: Any, sizes: Sequence[int], as_json: bool) -> int:
    """Say what to use at batch sizes that need not have been tried."""
    from reports.judging.summary import summarize_batch_sizes, to_json
    from studies.answers import judge_study

    axis = judge_study(study, thresholds).batch_axis
    found = [axis.at(size) for size in sizes]
    if as_json:
        print(to_json(summarize_batch_sizes(study.study_name, found)), end="")
    else:
        print("\n".join(each.sentence for each in found))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Read the study, judge it, write the folder; or print what one curve says."""
    options = parse_args(argv)
    landscape, at = options["landscape"], options["at_batch_size"]
    for name in ("run", "landscape", "export"):
        if at is not None and options[name]:
            raise BadInput(f"at_batch_size asks a question and writes nothing, so it must stand without {name}, got both")
    if options["run"] is not None:
        if landscape is not None:
            raise BadInput(f"landscape belongs to a study, not to --run FILE.csv, got {landscape!r}")
        if options["json"]:
            raise BadInput("json belongs to a study, not to --run FILE.csv, got both")
        if options["export"]:
            raise BadInput(f"export belongs to a study, not to --run FILE.csv, got {options['export']!r}")
        from reports import explain_run, read_curve

        print(explain_run(read_curve(options["run"], options["loss_column"])))
        return 0
    if options["loss_column"] is not None:
        raise BadInput(f"loss_column belongs to --run FILE.csv, got {options['loss_column']!r} alone")
    from reports import Thresholds
    from reports.exports.family import require_exports
    from studies.config import count, folder_name
    from studies.storage.database_url import without_password
    from studies.storage.opening import load_study
    from studies.storage.writable import require_writable

    thresholds = Thresholds(tau=options["tau"], rho=options["rho"], target_loss=options["target_loss"])
    batch_size = None if landscape in (None, AUTO) else count("landscape", landscape)
    study = load_study(options["storage"], options["name"])
    if at is not None:
        return _foretell(study, thresholds, [count("at_batch_size", size) for size in at], options["json"])
    folder = Path(options["out"]) / folder_name(options["name"])
    require_writable(folder, "out")
    export = require_exports(options["export"], folder)

    # figures: seconds, so only once the places are known
    from reports.pages.folder import judged_before
    from studies.answers import command_to_follow, export_study, judge_study, report_study
    from studies.commands.terminal import print_answer, print_json, print_report, stdout_to_stderr
    from studies.storage.interrupts import interruptible

    def tell(cost: str) -> None:
        print(cost, file=sys.stderr, flush=True)

    walk = ""
    try:
        with interruptible():
            with stdout_to_stderr(options["json"]):
                judged = judge_study(study, thresholds)
                if landscape is not None:
                    from reports.figures.landscape import describe_landscape
                    from studies.landscape import config_of, survey  # PyTorch: seconds

                    config = replace(config_of(study), storage=options["storage"])
                    walk = describe_landscape(survey(study, config, judged, batch_size=batch_size, out=folder, on_cost=tell))
                before = judged_before(folder)
                page = report_study(study, folder, judged)
            if options["json"]:
                print_json(page)
            else:
                print_answer(study.study_name, judged, following=command_to_follow(study, judged))
                if walk:
                    print(f"landscape: {walk}")
                print_report(page, before, judged)
            with stdout_to_stderr(options["json"]):
                export_study(study, folder, judged, export)
                tell_exports(export, folder)
    except KeyboardInterrupt:
        kept = "the study is as it was, and so is"
        if walk:
            kept = "the landscape is kept, the same command without --landscape writes"
        print(f"interrupted: {kept} its report", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return fail_at_work(error, folder=str(folder), storage=without_password(options["storage"]))
    return 0
