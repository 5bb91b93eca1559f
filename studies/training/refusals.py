"""What jsonargparse or a constructor refuses, in one sentence: the class, the argument, the cause, and what to do."""

import contextlib
import functools
import inspect
import json
import re
import shlex
import sys
import traceback
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser

from lightning_modules.user_code import one_line
from studies.commands.config_file import HYDRA
from studies.config import nearest
from studies.errors import BadInput
from studies.training.classes import load_class

MISSING = r"the following arguments are required: (.+)|Key \"([\w.]+)\" is required"  # as jsonargparse says it
UNKNOWN = r"Option '([^']+)' is not accepted"
UNION = "Does not validate against any of the Union"
REPEATS = rf"{UNION}|Parser key|Problem with given class_path|- Expected a path but|Type .* expects a function or a callable"
UNION_RAISES = "raise_union_unexpected_value"  # where it says so
NOT_NONE = "Expected a <class 'NoneType'>"
MOST_SHOWN = 100  # characters of a value
TYPE_ALONE = (
    "Expected a <",
    "Expected a typing.",
    "Expected a dot",
    "Expected an import path",
    "Expected '",
    "Not a valid subclass",
)
PARTNER = {"model": "data", "data": "model"}  # whose arguments LightningCLI links with those of the other
MADE_OF_OTHERS = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)  # of parameters, of an optimizer
EMPTY = inspect.Parameter.empty


class MissingArguments(BadInput):
    """Required arguments that were not given.

    Args:
        kind: what is to be made, such as ``model``.
        found: its class.
        owner: the class that has no default for them: ``found``, or that of an argument.
        names: of the arguments, with dots where they are those of an argument.
    """

    def __init__(self, kind: str, found: type, owner: type, names: Sequence[str]) -> None:
        super().__init__(kind, found, owner, names)  # of which another process makes it again
        self.kind, self.found, self.owner, self.names = kind, found, owner, names

    def __str__(self) -> str:
        return self.told({}, "")

    def told(self, values: Mapping[str, Any], partner: str) -> str:
        """The sentence, where the class ``partner`` has values under the same names."""
        how = _how(self.kind, self.found, self.owner, self.names, values)
        wanted = f"{listed(self.names)}, for which {self.owner.__name__} has no default"
        sentence = f"{self.kind} {self.found.__name__} must be given {wanted}, got none: {how}"
        if not values:
            return sentence
        theirs = listed([f"{last_name(name)} {_shown(value)}" for name, value in values.items()])
        return f"{sentence}; {PARTNER[self.kind]} {partner} has {theirs}, which is likely what is meant"


@dataclass(frozen=True)
class _Refusal:
    """What jsonargparse refuses.

    path: names of arguments, the outermost first.
    owner: the class that has the last of them.
    inner: the class that is given for the last of them, or the owner.
    words: about that argument alone.
    """

    path: tuple[str, ...]
    owner: type
    inner: type
    words: str

    @property
    def missing(self) -> list[str]:
        """The arguments that the inner class needs, none where that is not what is wrong."""
        names = re.match(MISSING, self.words)
        return (names[1] or names[2]).split(", ") if names else []

    @property
    def unknown(self) -> str:
        """The argument that the inner class does not have, "" where that is not what is wrong."""
        name = re.match(UNKNOWN, self.words)
        return name[1] if name else ""


def parse_spec(kind: str, found: type, spec: Mapping[str, Any]) -> tuple[ArgumentParser, Any]:
    """A parser for a class, and a spec as it reads it; arguments that only ``**kwargs`` take are its ``dict_kwargs``.

    Raises ValueError for what it refuses, and for required arguments without a type, which it would fill with None.
    """
    arguments = spec["init_args"]
    parser = ArgumentParser(exit_on_error=False)
    try:
        parser.add_subclass_arguments(found, kind, fail_untyped=False, required=True)
        values = parser.parse_object({kind: dict(spec)})
    except (ArgumentError, TypeError, ValueError) as error:
        refused = _innermost(kind, found, error)
        if refused.unknown in arguments and not refused.path:
            known = {name: value for name, value in arguments.items() if name != refused.unknown}
            others = {**spec.get("dict_kwargs", {}), refused.unknown: arguments[refused.unknown]}
            return parse_spec(kind, found, {**spec, "init_args": known, "dict_kwargs": others})
        raise _as_error(kind, found, arguments, refused) from error
    if untyped := _untyped_missing(found, arguments):
        raise MissingArguments(kind, found, found, untyped)
    return parser, values


def _innermost(kind: str, found: type, error: BaseException | None) -> _Refusal:
    """What is wrong, without what is around it: an error of jsonargparse repeats its cause, which is about a smaller part."""
    path: list[str] = []
    owner = inner = found
    words = ""
    while error is not None:
        before, words = words, str(error).strip()
        if words == before:
            pass
        elif key := re.match(r'Parser key "([^"]+)"', words):
            path, owner = [*path, key[1]], inner
        elif of := re.match(
            r"Problem with given class_path '([^']+)':|Type .*Namespace\(class_path='([^']+)'", words, re.DOTALL
        ):
            with contextlib.suppress(ValueError):
                inner = load_class(kind, of[1] or of[2])
        elif len(_branches(words)) > 1:
            break
        error = _cause(error)
    return _Refusal(tuple(path[path[:1] == [kind] :]), owner, inner, words)


def _branches(words: str) -> list[str]:
    """What jsonargparse says about each type of a union, but for None."""
    said = words.partition("\nErrors:\n")[2].partition("\nGiven value type:")[0]
    branches = [branch.strip() for branch in re.split(r"^  - ", said, flags=re.MULTILINE)[1:]]
    return [branch for branch in branches if branch != NOT_NONE]


def _as_error(kind: str, found: type, arguments: Mapping[str, Any], refused: _Refusal) -> BadInput:
    """The error for what was refused, with its sentence."""
    path, inner, unknown, missing = refused.path, refused.inner, refused.unknown, refused.missing
    if unknown and unknown not in HYDRA:
        of, known = ".".join([kind, *path]), list(inspect.signature(inner).parameters)
        return BadInput(f"{of} {inner.__name__} has no argument {unknown!r}{nearest(unknown, known)}")
    if missing and not (path and form_of(annotation_of(found, path[0])) in ("function", "python")):
        untyped = [] if path else [name for name in _untyped_missing(found, arguments) if name not in missing]
        names = [".".join([*path, name]) for name in [*missing, *untyped]]
        return MissingArguments(kind, found, inner, names)
    if not path:
        return BadInput(f"{kind} {found.__name__} was refused: {one_line(refused.words)}")
    if missing:  # such as the parameters that an optimizer needs
        return _wrong_value(kind, found, found, arguments, path[:1], f", which cannot be made without {listed(missing)}")
    if annotation_of(refused.owner, path[-1]) is EMPTY or _value_at(arguments, path) is EMPTY:
        return BadInput(f"{kind} argument {'.'.join(path)}: {one_line(refused.words)}")
    return _wrong_value(kind, found, refused.owner, arguments, path, _why(refused.words))


def _wrong_value(kind: str, found: type, owner: type, arguments: Mapping[str, Any], path: Sequence[str], why: str) -> BadInput:
    """The error for a value that an argument does not take; ``why`` ends its sentence."""
    annotation, name, value = annotation_of(owner, path[-1]), ".".join(path), _value_at(arguments, path)
    if isinstance(value, Mapping) and set(HYDRA) & set(value):
        why = ": the keys of hydra are not read"
    if isinstance(value, str) and "${" in value:
        why += ": what OmegaConf would fill in must be given as it is"
    how = "" if form_of(annotation) in ("value", "") else f"; {_how(kind, found, owner, [name], {})}"
    wanted = re.sub(r"\b(?:\w+\.)+(?=\w)", "", inspect.formatannotation(annotation))
    return BadInput(f"{kind} argument {name}: {owner.__name__} takes {wanted}, got {cut(value)}{why}{how}")


def _how(kind: str, found: type, owner: type, names: Sequence[str], values: Mapping[str, Any]) -> str:
    """How to give arguments, in words that end a sentence; ``values`` are those of ``names`` that are known."""
    forms: dict[str, list[str]] = {}
    for name in names:
        first = name.partition(".")[0]
        if form_of(annotation_of(found, first)) == "python":
            forms.setdefault("python", []).append(first)
            continue
        form = form_of(annotation_of(owner, last_name(name)))
        forms.setdefault(form or "value", []).append(name)
        if not form and name not in values:
            forms.setdefault("object", []).append(name)
    valued = forms.get("value", [])
    if not valued:
        return ways_to_give(kind, found, forms)
    flags = " ".join(f"--{kind}.{name} {_shown(values[name]) if name in values else 'VALUE'}" for name in valued)
    linked = f"add {flags} (LightningCLI leaves linked arguments out of its config.yaml)"
    ways = ways_to_give(kind, found, forms)
    return (linked if kind in PARTNER else f"name {listed(valued)} among its init_args") + (f"; {ways}" if ways else "")


def ways_to_give(kind: str, found: type, forms: Mapping[str, Sequence[str]]) -> str:
    """How to give arguments that are no plain values, by the form of each: see ``form_of``."""
    parts = []
    if objects := forms.get("object"):
        parts.append(f"an object is given by its class, {_spelt(kind, objects[0], '.class_path')}")
    if classes := forms.get("class"):
        parts.append(f"give {listed(classes)} by class, {_spelt(kind, classes[0])}")
    if functions := forms.get("function"):
        parts.append(
            f"give {listed(functions)} by the import path of a function, as --{kind}.{functions[0]} my_package.my_function"
        )
    names = [name.partition(".")[0] for form, those in forms.items() if form != "value" for name in those]
    if names and kind in PARTNER:
        only = f"{listed(forms['python'])} can only be made in Python" if "python" in forms else "or in Python"
        call = ", ".join(f"{name}=..." for name in dict.fromkeys([*_required(found), *names]))
        parts.append(f"{only}, with a factory: StudyConfig({kind}=functools.partial({found.__name__}, {call}))")
    return "; ".join(parts)


def _spelt(kind: str, name: str, end: str = "") -> str:
    yaml = f"in YAML as {last_name(name)}: {{class_path: my_package.MyClass, init_args: {{...}}}}"
    return f"as --{kind}.{name}{end} my_package.MyClass or {yaml}" if kind in PARTNER else yaml


def form_of(annotation: Any) -> str:
    """How an argument of a type is given: by value, class or function, by "python" alone, "" where there is no type."""
    if annotation is EMPTY or annotation is Any or isinstance(annotation, str):
        return ""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    forms = {_form_of_one(part) for part in (typing.get_args(annotation) if union else [annotation]) if part is not type(None)}
    return next((form for form in ("value", "class", "function", "python") if form in forms), "value")


def _form_of_one(annotation: Any) -> str:
    kind, parts = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if kind is Callable:
        return "class" if parts and isinstance(parts[-1], type) and issubclass(parts[-1], MADE_OF_OTHERS) else "function"
    if not isinstance(kind, type):
        return "value"
    if issubclass(kind, (*MADE_OF_OTHERS, functools.partial, torch.Tensor)):
        return "python"
    return "value" if is_dataclass(kind) or kind.__module__.partition(".")[0] in sys.stdlib_module_names else "class"


def annotation_of(owner: type, name: str) -> Any:
    """The type of an argument, of the first base that has it where a class passes it on; EMPTY where there is none."""
    for base in owner.__mro__:
        made: Any = base.__dict__.get("__init__")
        with contextlib.suppress(TypeError, ValueError):  # of one that is written in C
            if made is not None and name in (parameters := inspect.signature(made).parameters):
                try:
                    return typing.get_type_hints(made).get(name, EMPTY)
                except Exception:  # a name that is not there when the program runs
                    return parameters[name].annotation
    return EMPTY


def _required(found: type) -> list[str]:
    """The arguments of a class that have no default."""
    several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = inspect.signature(found).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is EMPTY and parameter.kind not in several]


def _untyped_missing(found: type, arguments: Mapping[str, Any]) -> list[str]:
    return [name for name in _required(found) if name not in arguments and annotation_of(found, name) is EMPTY]


def raised_by(error: BaseException) -> BaseException:
    """What a constructor raised, of the error that jsonargparse made of it."""
    while cause := _cause(error):
        error = cause
    return error


def _cause(error: BaseException) -> BaseException | None:
    """The error that one of jsonargparse repeats, None for one of somebody else.

    Of those about the types of a union it names the first as its cause, which may be that None was expected; and over an
    exception without words it stumbles. All are in its frame.
    """
    if isinstance(error, IndexError) or str(error).startswith(UNION):
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_name == UNION_RAISES]
        for each in frames[-1].f_locals.get("exceptions", ()) if frames else ():
            if isinstance(each, BaseException) and not str(each).startswith(NOT_NONE):
                return each
    return error.__cause__ if re.match(REPEATS, str(error).lstrip()) else None


def _why(words: str) -> str:
    """What jsonargparse adds to the type that it wants, as the end of a sentence; "" where it adds nothing."""
    said = "; ".join(_branches(words)) or words
    if all(branch.startswith(TYPE_ALONE) for branch in _branches(words) or [words]):
        return ""
    return f": {one_line(said.partition('. Got value:')[0])}"


def _value_at(arguments: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The value at a path of arguments, EMPTY where it is inside a list."""
    value: Any = arguments
    for name in path:
        held = value.get("init_args", value) if isinstance(value, Mapping) else {}
        value = held.get(name, EMPTY)
    return value


def cut(value: Any) -> str:
    """A value in few words."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _shown(value: Any) -> str:
    """A value as it is typed in a shell."""
    return shlex.quote(value if isinstance(value, str) else json.dumps(value))


def last_name(name: str) -> str:
    """The last part of a dotted name."""
    return name.rpartition(".")[2]


def listed(names: Sequence[str]) -> str:
    """Words with commas and an and."""
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + list(names[-1:]))
