"""What the scripts share of the command line: flags and files become options, bad input becomes one sentence."""

import functools
import logging
import re
import shlex
import sys
import traceback
from argparse import HelpFormatter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, set_loader
from yaml import YAMLError

from studies.commands.config_file import CLASSES, merge, normalise, read_options, require_classes
from studies.commands.ctrl_c import AGAIN, INTERRUPTED
from studies.commands.yaml_loader import MOST_DEEP, load_yaml
from studies.config import nearest
from studies.errors import BadInput, FailedAlike, NotWritten, StorageAway, StudyInUse
from studies.storage.database_url import without_password
from studies.storage.interrupts import came
from studies.training.user_folder import add_current_folder

STORAGE = "outputs/studies.db"
NOT_OPTIONS = ("help", "print_config", "print_shtab", "subcommand")
DOTTED = (*CLASSES, "trainer")
PLAIN_YAML = "plain yaml"  # our loader, by the name that a parser knows it by
GO_ON = "what finished is kept, and the same command goes on from there"
asked: dict[str, Any] = {}  # the model and data that the command asks for, from which ``run`` explains its errors
MOST_SAID = 2_000  # characters of a sentence; what came may be a whole file
FAILED = 1  # exit codes: the module failed, or we did,
BAD_INPUT = 2  # the caller's mistake,
IN_USE = 3  # another process has the study,


def make_parser(description: str | None = None, command: str = "") -> ArgumentParser:
    """A parser that raises for what it refuses, takes no abbreviations, and whose help is what the options say themselves.

    command: of ``lr-study``, which its help names when it was called so.
    """
    name = f"lr-study {command}" if Path(sys.argv[0]).stem == "lr-study" else None
    set_loader(PLAIN_YAML, load_yaml, (YAMLError,))
    return ArgumentParser(
        prog=name,
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=HelpFormatter,
        parser_mode=PLAIN_YAML,
    )


def add_storage(parser: ArgumentParser, what: str) -> None:
    """The option that says where studies are; what: they are, or the one that is asked for."""
    help = f"where {what}: SQLite file or database URL (default: {STORAGE})"
    parser.add_argument("--storage", default=STORAGE, metavar="FILE", help=help)


def add_json(parser: ArgumentParser) -> None:
    """The option that prints for programs."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout, which is then all that is there")


def add_thresholds(parser: ArgumentParser) -> None:
    """The options that say how strictly runs are judged; see ``reports.judging.verdicts.Thresholds``."""
    parser.add_argument(
        "--tau", type=float, default=0.1, metavar="X", help="share of the way that may be missing at the bottom (default: 0.1)"
    )
    parser.add_argument(
        "--rho", type=float, default=3.0, metavar="X", help="good takes at most X times as long as the fastest (default: 3)"
    )
    parser.add_argument(
        "--target-loss", type=float, default=None, metavar="X", help="height that counts as the floor (default: lowest reached)"
    )


def add_export(parser: ArgumentParser) -> None:
    """The option that says for which trackers of runs a study is written too; see ``reports.exports.family``."""
    help = "write the study for a tracker of runs too, into a folder beside the report: tensorboard, mlflow or both"
    parser.add_argument("--export", action="extend", nargs="+", metavar="NAME", help=help)


def tell_exports(names: Sequence[str], folder: Path) -> None:
    """Print how to look at each export."""
    from reports.exports.family import look_at

    for name in names:
        command, page = look_at(name, folder)
        print(f"{name}: {shlex.join(command)}  # then open {page}")


def parse(parser: ArgumentParser, argv: Sequence[str] | None) -> dict[str, Any]:
    """The options given, defaults filled in; ``--model.network.hidden [128]`` and the like end up inside ``model``.

    Flags override what the files of ``--config`` say, wherever they stand.

    Raises ValueError with one sentence for anything the parser refuses.
    """
    plain, dotted = _split(sys.argv[1:] if argv is None else argv)
    try:
        options: dict[str, Any] = parser.parse_args(plain).as_dict()
        files = options.pop("config", None)
        if files:
            flags = parser.parse_args(plain, defaults=False).as_dict()
            del flags["config"]
            said = functools.reduce(merge, [*map(read_options, files), normalise(flags)])
            require_classes(said)
            _require_known(said, parser)
            typed = {action.dest for action in parser._actions if getattr(action, "_typehint", Any) is not Any}
            options = parser.parse_object({key: value for key, value in said.items() if key in typed}).as_dict()
            del options["config"]
            options |= {key: value for key, value in said.items() if key not in typed}
    except ArgumentError as error:
        raise BadInput(_sentence(str(error), parser)) from error
    for path, value in dotted:
        owner, *keys = path
        if owner not in options:
            raise BadInput(f"--{'.'.join(path)} is not an option of this script")
        if owner == "trainer":
            options[owner] = {**(options[owner] or {}), ".".join(keys): value}
        else:
            options[owner] = _put(options[owner], keys, value)
    asked.update({name: options[name] for name in ("model", "data") if name in options})
    return options


def run(main: Callable[[], int], name: str) -> int:
    """The exit code of ``main``; what has its sentence is one line on stderr, everything else keeps its traceback.

    What is raised after Ctrl-C is its consequence, whatever it is: not all code passes KeyboardInterrupt on.
    """
    if logging.lastResort is not None:  # what writes to the terminal where nobody has chosen another place
        logging.lastResort.setFormatter(_PrintableFormatter())
    asked.clear()
    try:
        add_current_folder()
        return _interruption_told(main)
    except (BadInput, UnicodeError) as error:  # text that cannot be written came with an option
        code, sentence = BAD_INPUT, " ".join(_explained(error).split())
    except (StudyInUse, FailedAlike, StorageAway, NotWritten) as error:
        code, sentence = IN_USE if isinstance(error, StudyInUse) else FAILED, str(error)
    except OSError as error:  # such as of a folder that cannot be made
        code, sentence = BAD_INPUT, str(error)
    said = without_password(sentence)
    print(f"{name}: {printable(said if len(said) <= MOST_SAID else f'{said[:MOST_SAID]}...')}", file=sys.stderr)
    return code


def _interruption_told(main: Callable[[], int]) -> int:
    try:
        return main()
    except BaseException:
        if not came():
            raise
    print(f"interrupted: {AGAIN}", file=sys.stderr)
    return INTERRUPTED


def _explained(error: Exception) -> str:
    """The sentence of an error; the configuration has more to say of module and data, where they were asked for."""
    if "studies.training.sources" not in sys.modules:  # PyTorch: seconds
        return str(error)
    from studies.training.hints import explained

    return explained(error, asked)


def printable(text: str) -> str:
    """Text that does no more to a terminal than to stand there: names and exceptions may hold what moves its cursor."""
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)


class _PrintableFormatter(logging.Formatter):
    """What our packages log, which are the words of exceptions at times, as a terminal may show it."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def fail_at_work(error: Exception, *, folder: str, storage: str) -> int:
    """The exit code of an error that was met at work, which keeps its traceback.

    What has its sentence is raised for ``run`` to tell, an error of a file or database as NotWritten.

    Args:
        error: what was raised.
        folder: where we write files, for an error that does not say.
        storage: the database, which its errors do not say.
    """
    if isinstance(error, (BadInput, StudyInUse, FailedAlike, StorageAway)):
        raise error
    if came():
        raise error
    full = _database_failure(error)
    if full is not None:
        raise NotWritten(f"storage {storage!r} could not be read or written: {full}; {GO_ON}") from error
    if isinstance(error, OSError):
        where = "" if error.filename else f" (in {folder} or {storage})"
        raise NotWritten(f"{error}{where}; {GO_ON}") from error
    print(printable("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    return FAILED


def _database_failure(error: BaseException | None) -> BaseException | None:
    """What a database said when it could not do its work, where an error of SQLAlchemy or Optuna stands for that."""
    from sqlalchemy.exc import OperationalError

    while error is not None and not isinstance(error, OperationalError):
        error = error.__cause__
    return error and error.orig


def _split(argv: Sequence[str]) -> tuple[list[str], list[tuple[list[str], Any]]]:
    """Separate ``--model.a.b VALUE`` and ``--model.a.b=VALUE`` from the other arguments.

    Flags may be spelt with underscores, as LightningCLI spells them.
    """
    plain: list[str] = []
    dotted: list[tuple[list[str], Any]] = []
    arguments = iter(argv)
    for argument in arguments:
        flag, equals, given = argument.partition("=")
        owner, *keys = flag.removeprefix("--").split(".")
        if not argument.startswith("--"):
            plain.append(argument)
            continue
        if keys == ["class_path"]:  # --model.class_path is --model
            keys = []
        if not keys or owner.replace("-", "_") not in DOTTED:
            plain.append("--" + ".".join([owner.replace("_", "-"), *keys]) + equals + given)
            continue
        if len(keys) > MOST_DEEP:
            raise BadInput(f"--{owner} must be followed by at most {MOST_DEEP} names, got {len(keys)}")
        text = given if equals else next(arguments, None)
        if text is None:
            raise BadInput(f"{flag} must be followed by a value, got none")
        try:
            value = load_yaml(text)  # as in the configuration file, where 1e-3 is a number
        except YAMLError as error:
            raise BadInput(f"{flag} must be followed by a YAML value such as 0.9 or [128,64], got {text!r}: {error}") from error
        dotted.append(([owner.replace("-", "_"), *(key for key in keys if key != "init_args")], value))
    return plain, dotted


def _put(spec: Any, keys: Sequence[str], value: Any) -> dict[str, Any]:
    """The class spec with one argument set, at any depth: class names become mappings on the way."""
    spec = {"class_path": spec} if isinstance(spec, str) else dict(spec or {})
    key, *deeper = keys
    if key == "class_path":
        return {**spec, key: value}
    arguments = dict(spec.get("init_args") or {})
    arguments[key] = _put(arguments.get(key), deeper, value) if deeper else value
    return {**spec, "init_args": arguments}


def _sentence(message: str, parser: ArgumentParser) -> str:
    """The parser's complaint on one line, with the nearest option where a name is not known."""
    line = re.sub(r'Parser key "(\w+)":', r"\1:", " ".join(message.split()))
    unknown = re.match(r"Option '([^']+)' is not accepted|unrecognized arguments: --([\w.-]+)", line)
    if not unknown:
        return line
    return _unknown((unknown[1] or unknown[2]).replace("-", "_"), parser)


def _require_known(options: Mapping[Any, Any], parser: ArgumentParser) -> None:
    """Raise ValueError for an option of a file that the parser does not have; it would pass over one that holds nothing."""
    for key in options:
        if key not in _known(parser):
            raise BadInput(_unknown(key, parser))


def _unknown(key: Any, parser: ArgumentParser) -> str:
    return f"option {key!r} is not known{nearest(str(key), _known(parser))}"


def _known(parser: ArgumentParser) -> list[str]:
    parsers = [
        parser,
        *(sub for action in parser._actions for sub in (getattr(action, "_name_parser_map", None) or {}).values()),
    ]
    return [str(action.dest) for each in parsers for action in each._actions if action.dest not in NOT_OPTIONS]
