"""What the scripts share of the command line: flags and files become options, bad input becomes one sentence."""

from __future__ import annotations

import functools
import re
import sys
import traceback
from argparse import HelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, get_loader
from yaml import YAMLError

from studies.config import nearest
from studies.config_file import CLASSES, merge, normalise, read_options, require_classes
from studies.errors import FailedAlike, StudyInUse
from studies.user_folder import add_current_folder

NOT_OPTIONS = ("help", "print_config", "print_shtab", "subcommand")
DOTTED = (*CLASSES, "trainer")
FAILED = 1  # exit codes: the module failed, or we did,
BAD_INPUT = 2  # the caller's mistake,
IN_USE = 3  # another process has the study,
INTERRUPTED = 130  # Ctrl-C, as shells count it


def make_parser(description: str | None = None, command: str = "") -> ArgumentParser:
    """A parser that raises for what it refuses, takes no abbreviations, and whose help is what the options say themselves.

    command: of ``lr-study``, which its help names when it was called so.
    """
    name = f"lr-study {command}" if Path(sys.argv[0]).stem == "lr-study" else None
    return ArgumentParser(
        prog=name, description=description, exit_on_error=False, allow_abbrev=False, formatter_class=HelpFormatter
    )


def add_thresholds(parser: ArgumentParser) -> None:
    """The options that say how strictly runs are judged; see ``reports.verdicts.Thresholds``."""
    parser.add_argument(
        "--tau", type=float, default=0.1, metavar="X", help="share of the way that may be missing at the bottom (default: 0.1)"
    )
    parser.add_argument(
        "--rho", type=float, default=3.0, metavar="X", help="good takes at most X times as long as the fastest (default: 3)"
    )
    parser.add_argument(
        "--target-loss", type=float, default=None, metavar="X", help="height that counts as the floor (default: lowest reached)"
    )


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
            options = parser.parse_object({key: value for key, value in said.items() if key not in DOTTED}).as_dict()
            del options["config"]
            options |= {key: said[key] for key in DOTTED if key in said}  # the parser would import them and add defaults
    except ArgumentError as error:
        raise ValueError(_sentence(str(error), parser)) from error
    for path, value in dotted:
        owner, *keys = path
        if owner not in options:
            raise ValueError(f"--{'.'.join(path)} is not an option of this script")
        if owner == "trainer":
            options[owner] = {**(options[owner] or {}), ".".join(keys): value}
        else:
            options[owner] = _put(options[owner], keys, value)
    return options


def run(main: Callable[[], int], name: str) -> int:
    """The exit code of ``main``; what a person did wrong is one line on stderr, not a traceback."""
    try:
        add_current_folder()
        return main()
    except (ValueError, OSError) as error:
        code, sentence = BAD_INPUT, " ".join(str(error).split())
    except RuntimeError as error:
        code, sentence = IN_USE if isinstance(error, StudyInUse) else FAILED, str(error)
    print(f"{name}: {sentence}", file=sys.stderr)
    return code


def fail_at_work(error: Exception, places: str) -> int:
    """The exit code of an error met after all checks of what a person gave: no mistake of theirs, so it keeps its traceback.

    What has its sentence is raised instead: a study in use, a module that fails alike in run after run, and a file or database
    that could not be written, such as on a full disk. places: where we write, for an error that does not say.
    """
    if isinstance(error, (StudyInUse, FailedAlike)):
        raise error
    if isinstance(error, OSError):
        where = "" if error.filename else f" (in {places})"
        raise RuntimeError(f"{error}{where}") from error
    traceback.print_exception(error)
    return FAILED


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
        text = given if equals else next(arguments, None)
        if text is None:
            raise ValueError(f"{flag} must be followed by a value, got none")
        try:
            value = get_loader("yaml")(text)  # as in the configuration file, where 1e-3 is a number
        except YAMLError as error:
            raise ValueError(f"{flag} must be followed by a YAML value such as 0.9 or [128,64], got {text!r}") from error
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
    key = (unknown[1] or unknown[2]).replace("-", "_")
    parsers = [
        parser,
        *(sub for action in parser._actions for sub in (getattr(action, "_name_parser_map", None) or {}).values()),
    ]
    known = [str(action.dest) for each in parsers for action in each._actions if action.dest not in NOT_OPTIONS]
    return f"option {key!r} is not known{nearest(key, known)}"
