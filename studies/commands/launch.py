"""Launch a learning-rate study, or go on with one, and write its report."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studies.commands.command_line import (
    FAILED,
    add_export,
    add_json,
    add_thresholds,
    fail_at_work,
    make_parser,
    parse,
    printable,
    tell_exports,
)
from studies.commands.ctrl_c import AGAIN, INTERRUPTED
from studies.errors import BadInput

MODEL = "LightningModule, its arguments as --model.momentum 0.9, its network as --model.network ConvNet (default: by the data)"
DATA = "LightningDataModule, its arguments as --data.root FOLDER: Digits, Diabetes, MNIST, ... (default: Digits)"
SCHEDULER = "scheduler of --optimizer, as --lr-scheduler StepLR --lr-scheduler.step_size 10"
CONFIG = "YAML file with any of these options, or LightningCLI's config.yaml as it is; flags override it"
OPTIONS: list[tuple[str, Any, Any, str]] = [
    ("--model", None, "CLASS", MODEL),
    ("--data", None, "CLASS", DATA),
    ("--trainer", None, "OPTIONS", "options of Lightning's Trainer, as --trainer.precision bf16-mixed"),
    ("--optimizer", None, "CLASS", "used instead of the module's own, as --optimizer SGD --optimizer.momentum 0.9"),
    ("--lr-scheduler", None, "CLASS", SCHEDULER),
    ("--learning-rate", None, ("LOW", "HIGH"), "lowest and highest learning rate to try (default: found out)"),
    ("--per-decade", None, "N", "learning rates per factor of 10 (default: 10; of a grid 4)"),
    ("--points", None, "N", "learning rates of a grid in all, instead of --per-decade; makes --sampler grid the default"),
    ("--batch-size", [16, 64, 256], "N", "examples a step, one or several sizes (default: 16 64 256)"),
    ("--learning-rate-name", None, "NAME", "attribute that holds the learning rate (default: lr or learning_rate)"),
    ("--monitor", None, "NAME", "a metric the module logs, to decide by (default: the loss, and val_loss where it is logged)"),
    ("--mode", "min", "min|max", "max when more of --monitor is better (default: min)"),
    ("--fuse", "auto", "auto|never", "auto: runs together where faster; never: each alone, repeatable to the bit (auto)"),
    ("--seeds", 3, "N", "runs of each learning rate and batch size (default: 3)"),
    ("--seed-everything", None, "N", "first seed (default: 0)"),
    ("--epochs", None, "N", "passes over the training set in each run, most of which end early (default: 24, or 10)"),
    ("--steps", None, "N", "optimizer steps in each run instead of --epochs, as many at every batch size"),
    ("--sampler", None, "NAME", "edges looks for where verdicts change, grid trains all, tpe, random, qmc sample (edges)"),
    ("--max-time", None, "TIME", "end the search after this time, such as 20min, and judge what there is"),
    ("--max-epochs-in-all", None, "N", "end the search after as many epochs of all runs"),
    ("--trials", None, "N", "runs in all for tpe, random, qmc (default: as many as the grid has)"),
    ("--workers", "auto", "auto|N", "processes that train (default: auto, one a core where that is worth their start)"),
    ("--engine", "processes", "processes|ray", "where runs are trained: on this machine, or by Ray on a cluster (extra ray)"),
    ("--ray-address", None, "HOST:PORT", "Ray's cluster, auto for one on this machine (default: one for the study alone)"),
    ("--num-cpus", None, "N", "processors of each Ray actor (default: 1)"),
    ("--num-gpus", None, "N", "GPUs of each Ray actor, 0.5 shares one (default: 0)"),
    ("--storage", "outputs/studies.db", "FILE", "SQLite file or database URL (default: outputs/studies.db)"),
    ("--name", None, "NAME", "name of the study (default: the data's name in lower case)"),
    ("--self-check", None, "N", "then train the recommended learning rates and their intervals' ends on N fresh seeds (3)"),
    ("--hold-out", None, "N", "then study these other batch sizes on fresh seeds, and say how far the law of the rest is off"),
    ("--out", "outputs", "FOLDER", "the report goes to FOLDER/NAME (default: outputs)"),
]


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The options; values are checked by ``StudyConfig``, so that a file, a flag and Python meet the same rules."""
    parser = make_parser(__doc__, "launch")
    for flag, default, metavar, text in OPTIONS:
        many: dict[str, Any] = {}
        if isinstance(metavar, tuple):
            many = {"nargs": len(metavar)}
        elif isinstance(default, list) or flag == "--hold-out":
            many = {"nargs": "+"}
        elif flag == "--self-check":
            many = {"nargs": "?", "const": 3}
        parser.add_argument(flag, type=Any, default=default, metavar=metavar, help=text, **many)
    plan = "say what the study will cost, by a few measured steps, and train nothing"
    parser.add_argument("--plan", action="store_true", help=plan)
    parser.add_argument("--exact", action="store_true", help="train every run to its end")
    constant = "keep the learning rate constant: the module's schedulers are left out"
    parser.add_argument("--constant", action="store_true", help=constant)
    own = "leave the batches as the training loader gives them; --batch-size N is then only their name in the report"
    parser.add_argument("--own-batches", action="store_true", help=own)
    saved = "save each run at the end of every epoch, so that one that was killed goes on from there: for long runs"
    parser.add_argument("--checkpoint", action="store_true", help=saved)
    parser.add_argument("--config", action="append", metavar="FILE.yaml", help=CONFIG)
    goes_on = (
        "go on with the study --name (default: digits) as its report says in Run next; other options given here come on top"
    )
    parser.add_argument("--continue", dest="goes_on", action="store_true", help=goes_on)
    add_thresholds(parser)
    add_json(parser)
    add_export(parser)
    return parse(parser, argv)


def _going_on(options: dict[str, Any], argv: Sequence[str]) -> list[str]:
    """The arguments of the launch that mends what failed in a study, and those of ``argv`` after them.

    Raises BadInput where there is no such study, or nothing says how it was launched.
    """
    name, storage = options["name"] or "digits", options["storage"]
    from reports import Thresholds
    from reports.judging.trust import next_changes
    from studies.answers import judge_study
    from studies.next_run import launch_arguments
    from studies.storage.opening import load_study
    from studies.storage.stored import OPTIONS as STORED

    study = load_study(storage, name)
    if STORED not in study.user_attrs:
        raise BadInput(f"continue must name a study that was launched, got {name!r}, which does not say how it was")
    judged = judge_study(study, Thresholds(**{each: options[each] for each in ("tau", "rho", "target_loss")}))
    going_on = launch_arguments(name, study.user_attrs[STORED], next_changes(judged.trust))
    print(printable(f"going on: {shlex.join(going_on)}"), file=sys.stderr)
    rest = [each for each in argv if each != "--continue"]
    if "--name" in rest:
        at = rest.index("--name")
        del rest[at : at + 2]
    rest = [each for each in rest if not each.startswith("--name=")]
    return [*going_on, *rest]


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing, print the answer, write the report."""
    words = sys.argv[1:] if argv is None else argv
    if "--continue" in words and any(word.partition("=")[0] == "--config" for word in words):
        raise BadInput("continue takes the options of the study, so it must stand without --config")
    options = parse_args(argv)
    if options.pop("goes_on"):
        options = parse_args(_going_on(options, words))
        del options["goes_on"]
    from studies import StudyConfig
    from studies.config import count

    chosen = {name: options.pop(name) for name in ("tau", "rho", "target_loss")}
    out, fresh_seeds, only_plan = (options.pop(name) for name in ("out", "self_check", "plan"))
    export, as_json, sizes = options.pop("export"), options.pop("json"), options.pop("hold_out")
    if not isinstance(out, str) or not out.strip() or "\0" in out:
        raise BadInput(f"out must be a folder, got {out!r}")
    if fresh_seeds is not None:
        fresh_seeds = count("self_check", fresh_seeds)
    config = StudyConfig.from_mapping(options)
    folder = Path(out) / str(config.name)
    others = None
    if sizes is not None:
        from studies.hold_out import hold_out_config  # Optuna

        others = hold_out_config(config, sizes if isinstance(sizes, list) else [sizes])
    from reports.exports.family import require_exports

    export = require_exports(export, folder)
    from studies.storage.door import check_door, entered

    if only_plan and (as_json or export):
        raise BadInput("plan trains nothing, so it must stand without --json and --export")
    if only_plan:
        check_door(config, folder)
        from studies.bill import expected_bills, tell_bills  # PyTorch

        print("\n".join([f"{config.name!r}, before anything is spent:", *tell_bills(expected_bills(config))]))
        return 0
    if others is not None:
        check_door(others, folder.parent / str(others.name))
    with entered(config, folder):
        from reports import Thresholds  # pandas

        return _study(config, folder, Thresholds(**chosen), fresh_seeds, others, export, as_json)


def _study(
    config: Any, folder: Path, thresholds: Any, fresh_seeds: int | None, others: Any, export: Sequence[str], as_json: bool
) -> int:
    # PyTorch: seconds, so only once the options make sense and the study is ours
    from reports.pages.folder import judged_before
    from studies import FailedAlike, judge_study, load_study, report_study
    from studies.answers import command_to_follow, export_study
    from studies.commands.terminal import Progress, print_answer, print_json, print_report, stdout_to_stderr
    from studies.dashboard.cards_and_notes import mirror
    from studies.next_run import program
    from studies.search import run_self_check, run_study, train_study
    from studies.storage.database_url import without_password
    from studies.storage.interrupts import interruptible
    from studies.storage.stored import PARAMS

    try:
        with interruptible():
            with stdout_to_stderr(as_json):
                with Progress(thresholds) as progress:
                    study = train_study(config, out=folder, on_run=progress, thresholds=thresholds)
                judged = judge_study(study, thresholds)
                if fresh_seeds and len(judged.recommendations):
                    with Progress(thresholds, against=judged.cells) as progress:
                        run_self_check(config, judged.recommendations, seeds=fresh_seeds, out=folder, on_run=progress)
                    judged = judge_study(study, thresholds)
                elif fresh_seeds:
                    print("self-check: nothing is recommended, so there is nothing to check", file=sys.stderr)
                if others is not None:
                    with Progress(thresholds) as progress:
                        run_study(others, out=folder.parent / str(others.name), on_run=progress, thresholds=thresholds)
                    judged = judge_study(study, thresholds)
                before = judged_before(folder)
                page = report_study(study, folder, judged)
                mirror(study, judged)
            if as_json:
                print_json(page)
            else:
                print_answer(study.study_name, judged, following=command_to_follow(study, judged))
                print_report(page, before, judged)
            with stdout_to_stderr(as_json):
                export_study(study, folder, judged, export)
                tell_exports(export, folder)
            if not as_json:
                print(f"look closer: {shlex.join([*program('dashboard'), '--storage', without_password(config.storage)])}")
    except KeyboardInterrupt:
        print(f"interrupted: {AGAIN}", file=sys.stderr)
        return INTERRUPTED
    except FailedAlike:
        page = report_study(load_study(config.storage, str(config.name)), folder)
        told = sys.stderr if as_json else sys.stdout
        print(f"report of what was done, with the traceback: {page}", file=told)
        raise
    except Exception as error:
        return fail_at_work(error, folder=str(folder), storage=without_password(config.storage))
    finished = judged.runs["state"].isin(("COMPLETE", "PRUNED"))
    again = judged.runs[~finished].merge(judged.runs[finished], on=list(PARAMS), how="left", indicator=True)
    searched = config.sampler == "edges"  # which takes as many runs as it takes
    left = int((again["_merge"] == "left_only").sum()) if searched else config.n_runs - int(finished.sum())
    if left > 0:
        runs = f"{left} of {int(finished.sum()) + left if searched else config.n_runs} runs did not finish"
        print(f"{runs}: the report says why, and the same command tries them again", file=sys.stderr)
        return FAILED
    return 0
