"""List, show, adopt, export, import and delete the studies of a storage."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from studies.commands.command_line import add_storage, fail_at_work, make_parser, parse
from studies.commands.ctrl_c import INTERRUPTED
from studies.storage.database_url import without_password
from studies.storage.interrupts import interruptible

COMMANDS = {
    "list": "all studies: runs, what they try, last change, and who works on them",
    "show": "one study: its runs, its configuration and its answer",
    "adopt": "make a study of runs that were trained before: from their logs, or an Optuna study with intermediate values",
    "export": "write a study and its self-check to one file, to carry elsewhere",
    "import": "put the study in such a file into a storage",
    "delete": "delete a study and its self-check",
}

ADOPT = [
    ("--name", "NEW", "what to call the study (default: as the folder)"),
    ("--format", "NAME", "of the logs: metrics.csv, tensorboard, mlflow or tables (default: the one that is there)"),
    ("--study", "NAME", "the Optuna study to adopt, of the storage LOGS"),
    ("--metric", "NAME", "the loss (default: mean training loss of an epoch, else validation loss, else minibatch loss)"),
    ("--learning-rate-name", "NAME", "hyperparameter that is the learning rate (default: lr or learning_rate)"),
    ("--batch-size", "N", "examples a step of all runs (default: their hyperparameter batch_size)"),
    (
        "--untrained-loss",
        "X",
        "loss before the first step (default: as logged at step 0, else as the lowest learning rate began)",
    ),
]


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The options; ``subcommand`` says what to do."""
    parsers = {command: make_parser(text) for command, text in COMMANDS.items()}
    for command in ("show", "export", "delete"):
        parsers[command].add_argument("name", metavar="NAME", help="name of the study")
    parsers["import"].add_argument("archive", metavar="FILE.zip", help="what export wrote")
    _add_adopt(parsers["adopt"])
    for parser in parsers.values():
        add_storage(parser, "studies are")
    parsers["export"].add_argument("--out", default=None, metavar="FILE.zip", help="where (default: outputs/NAME.zip)")
    parsers["export"].add_argument("--overwrite", action="store_true", help="replace a file that is there already")
    parsers["import"].add_argument("--name", default=None, metavar="NEW", help="what to call it (default: as it was)")
    parsers["delete"].add_argument("--yes", action="store_true", help="do not ask")
    parser = make_parser(__doc__, "admin")
    commands = parser.add_subcommands()
    for command, text in COMMANDS.items():
        commands.add_subcommand(command, parsers[command], help=text)
    return parse(parser, argv)


def _add_adopt(parser: Any) -> None:
    what = "folders or CSV files that hold the logs, or the storage of --study"
    parser.add_argument("sources", nargs="+", metavar="LOGS", help=what)
    for flag, metavar, text in ADOPT:
        kinds = {"--batch-size": int, "--untrained-loss": float}
        parser.add_argument(flag, type=kinds.get(flag, str), default=None, metavar=metavar, help=text)
    only = "only runs with this hyperparameter, may be given again"
    parser.add_argument("--where", action="append", default=[], metavar="NAME=VALUE", help=only)
    regardless = "hyperparameters in which the runs may differ, * stands for anything"
    parser.add_argument("--regardless-of", nargs="+", default=[], metavar="NAME", help=regardless)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what was asked for."""
    parsed = parse_args(argv)
    options = parsed[parsed["subcommand"]]
    import optuna

    from studies.admin import housekeeping

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # each study that is made would be told
    do: dict[str, Callable[..., None]] = {
        "list": housekeeping.list_studies,
        "show": housekeeping.show_study,
        "adopt": housekeeping.adopt_runs,
        "export": housekeeping.export_to_file,
        "import": housekeeping.import_from_file,
        "delete": housekeeping.delete_study,
    }
    try:
        with interruptible():
            do[parsed["subcommand"]](**options)
    except KeyboardInterrupt:
        print("interrupted: the studies are as they were", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        written, storage = str(options.get("out") or "outputs"), without_password(options["storage"])
        return fail_at_work(error, folder=written, storage=storage)
    return 0
