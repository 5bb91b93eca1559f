"""The command that runs a study with some options changed, to paste into a terminal."""

import contextlib
import json
import math
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from jsonargparse import get_loader
from yaml import YAMLError

from studies.commands.config_file import CLASSES
from studies.config import RANGE, StudyConfig, folder_name
from studies.storage.database_url import without_password

SCRIPTS = {"launch": "launch_study.py", "dashboard": "open_dashboard.py"}  # what a command is called in the folder ``scripts``
# What a changed study is called: new settings need a new name. Seeds may grow under the old one, which trains only those.
FREE = ("tpe", "random", "qmc")
NAMES = {"learning_rate": "wider", "per_decade": "finer", "epochs": "longer", "steps": "longer"}


def given_options(config: StudyConfig) -> dict[str, Any]:
    """What differs from the defaults of ``StudyConfig``, as plain JSON; model or data given as an object is left out."""
    default = StudyConfig(model=config.model, data=config.data)
    values = {name: getattr(config, name) for name in StudyConfig.__dataclass_fields__}
    for name in ("model", "data"):
        if not isinstance(values[name], (str, Mapping)):
            values[name] = None
    if config.steps is not None:  # which the others follow
        values["epochs"], values["trainer"] = None, {k: v for k, v in (config.trainer or {}).items() if k != "max_steps"}
    changed = {name: value for name, value in values.items() if value and value != getattr(default, name, None)}
    changed |= {name: value for name in ("model", "data") if (value := values[name]) is not None}
    if "storage" in changed:
        changed["storage"] = without_password(config.storage)
    plain: dict[str, Any] = json.loads(json.dumps(changed, default=str))
    return plain


def launch_command(name: str, options: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    """A line for a shell: the launch with the options of a study and some of them changed.

    "" where an option holds a line or another character that is not to be pasted.
    """
    line = shlex.join([*program("launch"), *launch_arguments(name, options, changes)])
    return line if line.isprintable() else ""


def launch_arguments(name: str, options: Mapping[str, Any], changes: Mapping[str, Any]) -> list[str]:
    """What such a launch is given.

    Where a change makes it another study it gets another name; a search goes on. A new range of a grid keeps the density of
    learning rates, and a new density the range. More seeds or a finer grid of a study that was sampled freely is a grid.

    >>> " ".join(launch_arguments("wine", {"model": {"init_args": {"momentum": 0.9}}}, {"epochs": 30}))
    '--model.momentum 0.9 --epochs 30 --name wine'
    """
    wanted = {key: value for key, value in options.items() if key != "name"}
    if wanted.get("sampler") and {"learning_rate", "per_decade"} & set(changes):
        low, high = wanted.get("learning_rate", RANGE)
        points = wanted.pop("points", None)
        if points and points > 1 and high > low:
            wanted.setdefault("per_decade", math.ceil((points - 1) / math.log10(high / low)))
    anew = NAMES if wanted.get("sampler") else {}
    suffix = next((suffix for key, suffix in anew.items() if key in changes), None)
    if wanted.get("sampler") in FREE and {"seeds", "per_decade"} & set(changes):  # which try each learning rate once
        suffix, wanted = "grid", {key: value for key, value in wanted.items() if key != "trials"} | {"sampler": "grid"}
    wanted |= changes
    known = folder_name(name)  # which is the name, unless other tools gave one that a launch would refuse
    return [*_flags(wanted), "--name", known if suffix is None else f"{known}-{suffix}"]


def program(command: str) -> list[str]:
    """What a person types for ``launch`` or ``dashboard``: the script beside the one that runs, otherwise ``lr-study``."""
    script = os.path.abspath(os.path.join(os.path.dirname(sys.argv[0]), SCRIPTS[command]))
    if os.path.exists(script):
        return [_typed(sys.executable), _typed(script)]
    installed = os.path.join(os.path.dirname(sys.executable), "lr-study")
    return [_typed(installed) if os.path.exists(installed) else "lr-study", command]


def _typed(path: str) -> str:
    """A path relative when it is below the current folder, as it is otherwise."""
    return os.path.relpath(path) if path.startswith(os.getcwd() + os.sep) else path


def _flags(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if name in (*CLASSES, "trainer") and isinstance(value, Mapping):
            yield from _dotted(flag, value)
        elif value is True:
            yield flag
        elif isinstance(value, list):
            yield from (flag, *(f"{item:.6g}" if isinstance(item, float) else str(item) for item in value))
        else:
            yield from (flag, str(value))


def _dotted(flag: str, spec: Mapping[str, Any]) -> Iterator[str]:
    """A class spec as flags: ``--model ConvNet --model.width 16``."""
    if "class_path" in spec:
        yield from (flag, str(spec["class_path"]))
    for name, value in (spec.get("init_args", {}) if {"class_path", "init_args"} & set(spec) else spec).items():
        if isinstance(value, Mapping):
            yield from _dotted(f"{flag}.{name}", value)
        else:
            yield from (f"{flag}.{name}", _as_yaml(value))


def _as_yaml(value: Any) -> str:
    """A value as its flag reads it: text that would be read as something else is quoted, and what is not to be pasted."""
    with contextlib.suppress(YAMLError):
        if isinstance(value, str) and value.isprintable() and get_loader("yaml")(value) == value:
            return value
    return json.dumps(value)
