"""What the log of one run holds, whoever wrote it, and how hyperparameters are read from YAML."""

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from studies.errors import BadInput

Floats = npt.NDArray[np.float64]
MOST_VALUES = 10_000  # of one file: aliases of a few lines can stand for billions
MOST_DEEP = 50
MOST_STEPS = 1e15  # above a clock in microseconds nothing is counted


@dataclass(frozen=True, eq=False)  # arrays have no one answer
class Log:
    """The log of one run.

    name: of the run, or where it is kept; hyperparameters: by their names, with dots where they are nested, as text, numbers as
    ``number_of`` spells them. metrics: by name, steps as they were logged and values, each of shape (n_points,), in order of
    the steps; a value that was not finite is inf. epochs: steps and the epochs that they belong to, empty where those were not
    logged; seconds: how long it took, NaN where nothing says so.
    """

    name: str
    hyperparameters: Mapping[str, str]
    metrics: Mapping[str, tuple[Floats, Floats]]
    epochs: tuple[Floats, Floats] = field(default=(np.zeros(0), np.zeros(0)))
    seconds: float = math.nan


def curve(steps: object, values: object) -> tuple[Floats, Floats]:
    """Steps and values in order of the steps, of equal steps the last; inf for what is not finite.

    Raises BadInput for steps that cannot be counted.
    """
    at, found = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if len(at) and not (np.abs(at) < MOST_STEPS).all():
        raise BadInput(f"steps of a log must be numbers below {MOST_STEPS:g}, got {at[~(np.abs(at) < MOST_STEPS)][0]:g}")
    known = dict(zip(at.tolist(), np.where(np.isfinite(found), found, math.inf).tolist(), strict=True))
    ordered = sorted(known)
    return np.array(ordered, dtype=float), np.array([known[step] for step in ordered], dtype=float)


def number_of(text: str) -> str:
    """Text, or where it is a number, that number as Python spells it, so that 1e-3 and 0.001 are the same."""
    try:
        return repr(float(text))
    except ValueError:
        return text.strip()


def folders_of(places: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """All folders at and below the given ones, and the names of their files; version_10 comes after version_9."""
    for place in places:
        found = sorted(os.walk(place), key=lambda each: _natural(each[0]))
        yield from ((Path(folder), sorted(files, key=_natural)) for folder, _, files in found)


def _natural(name: str) -> list[tuple[str, int]]:
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def read_hyperparameters(folder: Path) -> dict[str, str]:
    """What Lightning, its CLI and Hydra keep beside a log, and what stands as name=value in the names of its folders."""
    found = {}
    for part in folder.parts:
        for pair in part.split(","):
            key, equals, value = pair.partition("=")
            if equals and key.strip() and value.strip():
                found[key.strip()] = number_of(value)
    for name in (".hydra/config.yaml", "config.yaml", "hparams.yaml"):
        if (folder / name).is_file():
            found |= flat_yaml((folder / name).read_text(encoding="utf-8", errors="replace"), str(folder / name))
    return found


def flat_yaml(text: str, place: str) -> dict[str, str]:
    """All values of a YAML text by their dotted names, as text. Nothing is made of its tags, such as ``!!python/object``.

    Raises BadInput for what is not YAML, and for more values than a run can have hyperparameters.
    """
    found: dict[str, str] = {}

    def put(name: str, node: yaml.Node, deep: int) -> None:
        if len(found) > MOST_VALUES or deep > MOST_DEEP:
            raise BadInput(
                f"{place!r} must hold at most {MOST_VALUES:,} hyperparameters, {MOST_DEEP} levels deep; it holds more"
            )
        if isinstance(node, yaml.ScalarNode):
            found[name] = number_of(node.value)
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = key.value if isinstance(key, yaml.ScalarNode) else "?"
                put(f"{name}.{inner}" if name else inner, value, deep + 1)
        else:
            for at, value in enumerate(node.value):
                put(f"{name}.{at}", value, deep + 1)

    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise BadInput(f"{place!r} must be YAML: {' '.join(str(error).split())}") from error
    if root is not None:
        put("", root, 0)
    return found
