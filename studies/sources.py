"""Where a module or its data come from: a class path with arguments, or from Python an instance, a class or a factory."""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser
from pytorch_lightning.utilities.seed import isolate_rng

from studies.config import Spec, class_name, nearest

PACKAGES = ("pytorch_lightning", "lightning.pytorch")  # Lightning's two names: class trees of their own that do not mix
NOMINAL = {"lr": 0.1, "learning_rate": 0.1, "batch_size": 32}  # of required arguments that a study sets anyway


@dataclass(frozen=True, eq=False)
class Source:
    """Something that can be made anew for every run.

    facts: what is made, as plain JSON; for a spec ``{"class_path": ..., "init_args": {...}}`` in full.
    make: makes one, with the random numbers of the moment.
    made: the class of what is made, where it is known beforehand.
    """

    facts: dict[str, Any]
    make: Callable[[], Any]
    made: type | None = None


def spec_source(kind: str, spec: Mapping[str, Any]) -> Source:
    """The source of a spec in full.

    Raises ValueError for a class that cannot be imported or an argument it does not have; ``make`` for arguments it refuses.
    """
    found = load_class(kind, spec["class_path"])
    parameters = inspect.signature(found).parameters
    arguments = spec["init_args"]
    check_arguments(kind, spec)
    for name, parameter in parameters.items():
        if name in NOMINAL and parameter.default is parameter.empty:
            arguments.setdefault(name, NOMINAL[name])

    @functools.cache
    def parsed() -> tuple[ArgumentParser, Any]:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(found, kind, fail_untyped=False, required=True)
        return parser, parser.parse_object({kind: dict(spec)})

    def make() -> Any:
        try:
            parser, values = parsed()
            return parser.instantiate(values)[kind]
        except (ArgumentError, TypeError, ValueError) as error:
            raise ValueError(f"{kind} {_complaint(str(error))}") from error

    return Source(dict(spec), make, found)


def object_source(given: Any) -> Source:
    """The source of an instance, a class or a factory.

    Modules: see ``StudyConfig``. Datamodules are copied without their data sets, which all runs share; loaders are shared.
    """
    if isinstance(given, type):
        return Source({"class_path": _path(given)}, given, given)
    if callable(given) and not isinstance(given, torch.nn.Module):
        made: Any = given.func if isinstance(given, functools.partial) else given
        told = {"factory": _path(made)}
        if isinstance(given, functools.partial):
            told |= {"arguments": plain([*given.args, given.keywords])}
        return Source(told, given, made if isinstance(made, type) else None)
    kind: type = type(given)
    facts: dict[str, Any] = {"class_path": _path(kind)}
    if not isinstance(given, torch.nn.Module):
        return Source(facts, functools.partial(_shallow, given), kind)
    module: Any = given
    if hasattr(module, "hparams_initial") and _untouched(module):
        arguments = dict(module.hparams_initial)
        return Source(facts | {"init_args": plain(arguments)}, functools.partial(kind, **arguments), kind)
    weights = hashlib.sha256()
    for name, value in given.state_dict().items():
        weights.update(name.encode() + value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    facts |= {"weights": weights.hexdigest()[:16], "note": "every run starts from the weights of the instance"}
    return Source(facts, functools.partial(_deep, given), kind)


def full_spec(kind: str, spec: Spec | None, known: Sequence[str], *, default: str | None = None) -> dict[str, Any]:
    """A spec with its class path and arguments; ``known`` are names of ours that need no path.

    Raises ValueError when it does not name a class.
    """
    given: dict[str, Any] = dict(spec) if isinstance(spec, Mapping) else {"class_path": spec}
    for key in given:
        if key not in ("class_path", "init_args"):
            raise ValueError(f"{kind} takes class_path and init_args, got {key!r}")
    path = default if given.get("class_path") is None else given["class_path"]
    if path in known:
        path = f"lightning_modules.{path}"
    if not isinstance(path, str) or "." not in path or path.startswith("."):
        names = f"one of {', '.join(known)} or " if known else ""
        raise ValueError(f"{kind} must be {names}an import path such as my_package.MyClass, got {path!r}")
    return {"class_path": path, "init_args": copy.deepcopy(dict(given.get("init_args") or {}))}


def load_class(kind: str, path: str) -> type:
    """The class at an import path; raises ValueError when there is none."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{kind} {path!r} could not be imported: {error}") from error
    if not isinstance(found, type):
        raise ValueError(f"{kind} must be a class, {path!r} is {type(found).__name__}")
    try:
        inspect.signature(found)
    except ValueError as error:  # of one that is written in C
        raise ValueError(f"{kind} must be a class whose arguments are known, {path!r} is built in") from error
    return found


def check_arguments(kind: str, spec: Mapping[str, Any]) -> None:
    """Raise ValueError for an argument the class of a spec does not have."""
    parameters = inspect.signature(load_class(kind, spec["class_path"])).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for name in spec["init_args"]:
        if not isinstance(name, str) or not (takes_any or name in parameters):
            raise ValueError(f"{kind} {class_name(spec)} has no argument {name!r}{nearest(str(name), list(parameters))}")


def package_of(kind: type, base_name: str = "LightningModule") -> str:
    """Which of Lightning's two packages a module (or ``LightningDataModule``) belongs to, "" for what is none."""
    for base in kind.__mro__:
        if base.__name__ == base_name:
            return next((package for package in PACKAGES if base.__module__.startswith(package)), "")
    return ""


def _untouched(module: Any) -> bool:
    """Whether ``save_hyperparameters`` kept all arguments and the weights are as the constructor made them.

    PyTorch counts the in-place changes of a tensor: training, loading and copying leave other counts than constructing.
    """
    arguments = [name for name in inspect.signature(type(module)).parameters if name not in ("args", "kwargs")]
    if not arguments or set(arguments) != set(module.hparams_initial):
        return False
    try:
        with isolate_rng():
            again = type(module)(**module.hparams_initial)
    except Exception:  # whatever its constructor raises: then it cannot be made again
        return False
    return [(n, w._version) for n, w in module.named_parameters()] == [(n, w._version) for n, w in again.named_parameters()]


def _deep(module: Any) -> Any:
    trainer = getattr(module, "_trainer", None)
    return copy.deepcopy(module, {id(trainer): None})


def _shallow(data: Any) -> Any:
    made = copy.copy(data)
    if hasattr(data, "_hparams"):
        made._hparams = copy.copy(data._hparams)
    return made


def _path(of: Any) -> str:
    return f"{getattr(of, '__module__', '')}.{getattr(of, '__qualname__', type(of).__qualname__)}"


def plain(value: Any) -> Any:
    """Plain JSON that tells values apart: objects by their type, which is the same in every process."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(part) for part in value]
    return _path(value if isinstance(value, type) or inspect.isfunction(value) else type(value))


def _complaint(message: str) -> str:
    """The part of jsonargparse's many lines that says what is wrong: the innermost argument, or what the class raised."""
    arguments = re.findall(r'Parser key "(\w+)":\s+([^\n]+)', message)
    if arguments and not arguments[-1][1].startswith("Does not validate"):
        return f"argument {arguments[-1][0]}: {arguments[-1][1].strip()}"
    causes = [line.strip().removeprefix("- ") for line in message.splitlines() if line.strip().startswith("- ")]
    return next((f"was refused: {cause}" for cause in causes if "NoneType" not in cause), " ".join(message.split()))
