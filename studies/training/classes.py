"""Classes by import path, and which of Lightning's two packages they belong to."""

import copy
import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_modules.user_code import one_line, told_in_line
from studies.config import Spec, class_name, nearest
from studies.errors import BadInput

PACKAGES = ("pytorch_lightning", "lightning.pytorch")  # Lightning's two names: class trees of their own that do not mix


def full_spec(kind: str, spec: Spec | None, known: Sequence[str], *, default: str | None = None) -> dict[str, Any]:
    """A spec with its class path and arguments; ``known`` are names of ours that need no path.

    Raises ValueError when it does not name a class.
    """
    given: dict[str, Any] = dict(spec) if isinstance(spec, Mapping) else {"class_path": spec}
    for key in given:
        if key not in ("class_path", "init_args"):
            raise BadInput(f"{kind} takes class_path and init_args, got {key!r}")
    path = default if given.get("class_path") is None else given["class_path"]
    if path in known:
        path = f"lightning_modules.{path}"
    if not isinstance(path, str) or "." not in path or path.startswith("."):
        names = f"one of {', '.join(known)} or " if known else ""
        raise BadInput(f"{kind} must be {names}an import path such as my_package.MyClass, got {path!r}")
    return {"class_path": path, "init_args": copy.deepcopy(dict(given.get("init_args") or {}))}


def load_class(kind: str, path: str) -> type:
    """The class at an import path; raises ValueError when there is none."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"{kind} {path!r} could not be imported: {one_line(error)}") from error
    except Exception as error:  # whatever the user's file does when it is imported
        raise BadInput(f"{kind} {path!r} could not be imported: {told_in_line(error)}") from error
    if not isinstance(found, type):
        raise BadInput(f"{kind} must be a class, {path!r} is {type(found).__name__}")
    try:
        inspect.signature(found)
    except ValueError as error:  # of one that is written in C
        raise BadInput(f"{kind} must be a class whose arguments are known, {path!r} is built in") from error
    return found


def check_arguments(kind: str, spec: Mapping[str, Any]) -> None:
    """Raise ValueError for an argument the class of a spec does not have."""
    parameters = inspect.signature(load_class(kind, spec["class_path"])).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for name in spec["init_args"]:
        if not isinstance(name, str) or not (takes_any or name in parameters):
            raise BadInput(f"{kind} {class_name(spec)} has no argument {name!r}{nearest(str(name), list(parameters))}")


def package_of(kind: type, base_name: str = "LightningModule") -> str:
    """Which of Lightning's two packages a module (or ``LightningDataModule``) belongs to, "" for what is none."""
    for base in kind.__mro__:
        if base.__name__ == base_name:
            return next((package for package in PACKAGES if base.__module__.startswith(package)), "")
    return ""
