"""What else the configuration tells about a class that was refused: a value the other class has, objects it wants."""

import contextlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytorch_lightning.utilities.seed import isolate_rng

from studies.config import class_name
from studies.training.classes import full_spec, load_class
from studies.training.refusals import (
    EMPTY,
    MADE_OF_OTHERS,
    PARTNER,
    MissingArguments,
    annotation_of,
    cut,
    form_of,
    last_name,
    listed,
    ways_to_give,
)
from studies.training.sources import spec_source


def explained(error: BaseException, given: Mapping[str, Any]) -> str:
    """The sentence of an error, with what the specs under ``model`` and ``data`` tell about it."""
    if isinstance(error, MissingArguments):
        partner = PARTNER.get(error.kind, "")
        values = dict(_likely(partner, given.get(partner), error.names))
        return error.told(values, class_name(given.get(partner)))
    if not isinstance(error.__cause__, (AttributeError, TypeError)) or not isinstance(given.get("model"), Mapping):
        return str(error)
    with contextlib.suppress(ValueError):
        return f"{error}{_hint_of_values(full_spec('model', given['model'], ()), str(error.__cause__))}"
    return str(error)


def _hint_of_values(spec: Mapping[str, Any], words: str) -> str:
    """The end of a sentence about a module that failed, where the exception is about values of the kind that it was given.

    Of arguments without a type, and of those that want an object and have None.
    """
    about = re.search(r"'(?:\w+\.)*(\w+)' (?:object|as child module)", words)
    if not about:
        return ""
    found, forms, came = load_class("model", spec["class_path"]), dict[str, list[str]](), []
    for name, parameter in inspect.signature(found).parameters.items():
        annotation = annotation_of(found, name)
        value, form = spec["init_args"].get(name, None if parameter.default is None else EMPTY), form_of(annotation)
        path = value.get("class_path") if isinstance(value, Mapping) else value
        with contextlib.suppress(ValueError):
            if isinstance(path, str) and issubclass(load_class(name, path), MADE_OF_OTHERS):
                form = form or "python"
        kind = "Namespace" if isinstance(value, Mapping) and path else type(value).__name__
        if kind != about[1] or (form == "value" if value is None else annotation is not EMPTY):
            continue
        if kind == "Namespace" and form != "python":  # jsonargparse hands on what it could not make
            why = _why_not_made(f"model.{name}", value)
            came += [why] if why else []
            continue
        forms.setdefault(form or "object", []).append(name)
        came.append(f"{name} came as {cut(value)}")
    ways = ways_to_give("model", found, forms)
    return f"; {listed(came)}{f': {ways}' if ways else ''}" if came else ""


def _why_not_made(kind: str, spec: Mapping[str, Any]) -> str:
    try:
        spec_source(kind, full_spec(kind, spec, ())).make()
    except ValueError as error:
        return str(error)
    return ""


def _likely(kind: str, spec: Any, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Names, and the plain values that the class of a spec has under their last parts.

    As an argument in the spec, as an attribute of data, which are made for that, or as the default of an argument.
    """
    if spec is None:
        return
    with contextlib.suppress(Exception):  # whatever a constructor raises: it is asked for a hint
        full = full_spec(kind, spec, (class_name(spec),))
        found = load_class(kind, full["class_path"])
        arguments, parameters = dict(full["init_args"]), inspect.signature(found).parameters
        made: Any = found
        if kind == "data" and not all(last_name(name) in arguments for name in names):
            with contextlib.suppress(Exception), isolate_rng():
                made = spec_source(kind, full).make()
        for name in names:
            last = last_name(name)
            default = parameters[last].default if last in parameters else None
            kept = getattr(made, "hparams", {}).get(last) if made is not found else None
            for value in (arguments.get(last), getattr(made, last, None), kept, default):
                if _is_plain(value):
                    yield name, value
                    break


def _is_plain(value: Any) -> bool:
    """Whether a value can be typed: a number, text, or some of them."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_is_plain, value))
    return isinstance(value, (bool, int, float, str))
