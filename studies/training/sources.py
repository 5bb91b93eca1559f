"""Where a module or its data come from: a class path with arguments, or from Python an instance, a class or a factory."""

import copy
import functools
import hashlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from jsonargparse import ArgumentParser
from pytorch_lightning.utilities.seed import isolate_rng

from lightning_modules.user_code import told_in_line
from studies.errors import BadInput
from studies.training.classes import check_arguments, load_class
from studies.training.refusals import listed, parse_spec, raised_by

INSTANTIATOR, CLASS_PATH = "_instantiator", "_class_path"  # what LightningCLI adds to the arguments that a module keeps
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
    if inspect.isabstract(found):
        left = listed(sorted(getattr(found, "__abstractmethods__", ())))
        raise BadInput(f"{kind} must be a class that can be made, {found.__name__} is abstract: it does not define {left}")
    for name, parameter in parameters.items():
        if name in NOMINAL and parameter.default is parameter.empty:
            arguments.setdefault(name, NOMINAL[name])

    @functools.cache
    def parsed() -> tuple[ArgumentParser, Any]:
        return parse_spec(kind, found, spec)

    def make() -> Any:
        parser, values = parsed()
        try:
            return parser.instantiate(values)[kind]
        except (Exception, SystemExit) as error:  # whatever a constructor raises
            raised = raised_by(error)
            raise BadInput(f"{kind} {found.__name__} could not be made: {told_in_line(raised)}") from raised

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
        arguments, make = _constructor(module)
        return Source(facts | {"init_args": plain(arguments)}, make, kind)
    weights = hashlib.sha256()
    for name, value in given.state_dict().items():
        weights.update(name.encode() + value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    facts |= {"weights": weights.hexdigest()[:16], "note": "every run starts from the weights of the instance"}
    return Source(facts, functools.partial(_deep, given), kind)


def _constructor(module: Any) -> tuple[dict[str, Any], Callable[[], Any]]:
    """The arguments that ``save_hyperparameters`` kept, and what makes the module of them: of LightningCLI its own way."""
    arguments = dict(module.hparams_initial)
    path, kind = arguments.pop(INSTANTIATOR, None), type(module)
    if path is None:
        return arguments, lambda: kind(**arguments)
    return arguments, lambda: pkgutil.resolve_name(path)(kind, arguments)


def _untouched(module: Any) -> bool:
    """Whether ``save_hyperparameters`` kept all arguments and methods and weights are as the constructor made them.

    PyTorch counts the in-place changes of a tensor: training, loading and copying leave other counts than constructing.
    """
    arguments = [name for name in inspect.signature(type(module)).parameters if name not in ("args", "kwargs")]
    kept, make = _constructor(module)
    own_methods = [name for name, value in vars(module).items() if callable(value) and hasattr(type(module), name)]
    if not arguments or set(arguments) != set(kept) - {CLASS_PATH} or own_methods:
        return False
    try:
        with isolate_rng():
            again: Any = make()
    except Exception:  # whatever its constructor raises: then it cannot be made again
        return False
    return [(n, w._version) for n, w in module.named_parameters()] == [(n, w._version) for n, w in again.named_parameters()]


def _deep(module: Any) -> Any:
    """A copy that knows no Trainer; so are the optimizers in methods that were put into it, as LightningCLI does."""
    known = {id(getattr(module, "_trainer", None)): None}
    made = copy.deepcopy(module, known)
    for name, value in vars(module).items():
        if isinstance(value, MethodType) and value.__self__ is module and isinstance(value.__func__, functools.partial):
            setattr(made, name, MethodType(copy.deepcopy(value.__func__, known), made))
    return made


def _shallow(data: Any) -> Any:
    made = copy.copy(data)
    for name in ("_hparams", "_hparams_initial"):
        if hasattr(data, name):
            setattr(made, name, copy.copy(getattr(data, name)))
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
