"""A configuration file as options: one of ours, or LightningCLI's ``config.yaml`` as it was saved."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from yaml import YAMLError

from studies.commands.yaml_loader import load_yaml
from studies.errors import BadInput

CLASSES = {  # options that name a class: where one without a dot is from, and how one may look
    "model": ("lightning_modules", "my_package.MyClass"),
    "data": ("lightning_modules", "my_package.MyClass"),
    "optimizer": ("torch.optim", "SGD"),
    "lr_scheduler": ("torch.optim.lr_scheduler", "StepLR"),
}
MOST_BYTES = 10_000_000  # of a file
CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")
SUBCOMMANDS = ("fit", "validate", "test", "predict")  # of LightningCLI
HYDRA = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")  # its keys, of a mapping that says what to make
INTERPOLATION = re.compile(r"\$\{[^{}]+\}")  # what OmegaConf fills in
REFUSED = {
    "defaults": "is hydra's list of files, which are not read: put all options in one file, as LightningCLI takes them",
    "ckpt_path": "must be null: every run of a study starts anew; load the weights in the module's constructor",
    "config": "must be given on the command line, not in a file",
}


def read_options(path: str) -> dict[str, Any]:
    """What a YAML file says, of the subcommand ``fit`` where it is for several, in the form of ``normalise``.

    Raises ValueError with one sentence that names the file when there is none, it cannot be read or it is not plain YAML.
    """
    file = Path(path)
    try:
        if not file.is_file():  # reading a pipe or a device may never end
            found = "a folder" if file.is_dir() else "a pipe or device" if file.exists() else "no file"
            raise BadInput(f"config must be a YAML file, got {found} at {path!r}")
        with file.open("rb") as opened:
            held = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadInput(f"config must be a YAML file that can be read, got {path!r}: {error.strerror}") from error
    if len(held) > MOST_BYTES:
        raise BadInput(f"config must be a YAML file of at most {MOST_BYTES // 10**6} MB, got more in {path!r}")
    try:
        values = load_yaml(held.decode())
    except (YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"config must be a YAML file, got {path!r}: {error}") from error
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise BadInput(f"config must hold a mapping of option to value, {path!r} holds a {type(values).__name__}")
    if isinstance(values.get("fit"), dict):
        values = {key: value for key, value in values.items() if key not in SUBCOMMANDS} | values["fit"]
    _require_lightnings(values, path)
    said = normalise(values)
    for key, rule in REFUSED.items():
        if key in said:
            raise BadInput(f"{key} {rule}; got {said[key]!r}")
    return said


def normalise(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options without the nulls, which mean "not said", and classes as ``class_path`` and ``init_args``.

    Nulls among the arguments of a class stay: LightningCLI saves the default itself where nothing was said. Arguments
    without either key stay as they are, see ``require_classes``.
    """
    said = _without_nulls(values)
    if isinstance(said.get("trainer"), Mapping):
        said["trainer"] = _without_nulls(said["trainer"])
    return said | {key: _normal_class(key, said[key]) for key in CLASSES if isinstance(said.get(key), Mapping)}


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Normal options with what ``high`` says on top of ``low``.

    Options of the Trainer and arguments of one class are merged one by one; another class replaces all of the lower one.
    """
    merged = {**low, **high}
    for key in set(low) & set(high):
        if key == "trainer" and isinstance(low[key], Mapping) and isinstance(high[key], Mapping):
            merged[key] = {**low[key], **high[key]}
        elif key in CLASSES:
            merged[key] = _merge_class(low[key], high[key], home=CLASSES[key][0])
    return merged


def require_classes(options: Mapping[str, Any]) -> None:
    """Raise ValueError for what names no class, such as arguments alone: LightningCLI writes them where the class is fixed."""
    for key, (_, example) in CLASSES.items():
        value = options.get(key, example)
        if not isinstance(value, (str, Mapping)):
            raise BadInput(f"{key} must be a class such as {example}, or class_path and init_args, got {value!r}")
        if isinstance(value, Mapping) and _is_bare(value):
            raise BadInput(
                f"{key} must name its class: the file gives arguments alone ({', '.join(map(str, value))}), as LightningCLI "
                f"does for a fixed class; add --{key.replace('_', '-')} {example}"
            )


def _require_lightnings(values: Mapping[str, Any], path: str) -> None:
    """Raise ValueError for what hydra would make or OmegaConf would fill in: nobody does that here.

    Mappings that are an argument themselves are left to the class that takes them.
    """
    said = list(_entries(values))
    filled_in = [(place, value) for place, value in said if isinstance(value, str) and INTERPOLATION.search(value)]
    value = "".join(f"OmegaConf's {value!r} at {'.'.join(place)}" for place, value in filled_in[:1])
    not_done = "is not filled in: write the value itself"
    for (*owner, key), _ in said:
        if key in HYDRA:
            raise BadInput(
                f"config must name classes by class_path, with their arguments under init_args, got hydra's {key} at"
                f" {'.'.join(owner)} in {path!r}; {_factory(values)}{f'; {value} {not_done}' if value else ''}"
            )
    if value:
        raise BadInput(f"config must hold plain values, got {value} in {path!r}, which {not_done}")


def _factory(values: Mapping[str, Any]) -> str:
    """How to make in Python the model of a file of hydra's."""
    model = values.get("model")
    arguments = dict(model) if isinstance(model, Mapping) else {}
    name = str(arguments.get("_target_", "LitNet")).rpartition(".")[2]
    objects = [key for key, value in arguments.items() if isinstance(value, Mapping)] or ["net", "optimizer"]
    only = "what is _partial_ can only be made in Python" if "_partial_" in str(values) else "or in Python"
    call = ", ".join([name, *(f"{key}=..." for key in objects)])
    return f"{only}, with a factory: StudyConfig(model=functools.partial({call}))"


def _entries(values: Any, place: tuple[str, ...] = (), *, arguments: bool = False) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Places and values of options and of arguments of classes, the outer before the inner ones."""
    for key, value in values.items() if isinstance(values, Mapping) else enumerate(values):
        here = (*place, str(key))
        yield here, value
        bare = isinstance(value, Mapping) and _is_bare(value)
        if isinstance(value, list) or (isinstance(value, Mapping) and not (arguments and bare)):
            of_class = key in ("init_args", "dict_kwargs") or (here[0] in CLASSES and len(here) == 1 and bare)
            yield from _entries(value, here, arguments=of_class or (arguments and isinstance(value, list)))


def _normal_class(key: str, value: Mapping[str, Any]) -> dict[str, Any]:
    if _is_bare(value):
        return dict(value)
    spec = _without_nulls(value)
    for name in spec:
        if name not in CLASS_KEYS:
            raise BadInput(f"{key} takes class_path and init_args, got {name!r}")
        if name != "class_path" and not isinstance(spec[name], Mapping):
            raise BadInput(f"{key}.{name} must be a mapping of argument to value, got {spec[name]!r}")
    if "dict_kwargs" in spec:
        spec["init_args"] = {**spec.get("init_args", {}), **spec.pop("dict_kwargs")}
    return spec


def _merge_class(low: Any, high: Any, *, home: str) -> Any:
    if isinstance(low, str):
        low = {"class_path": low}
    if isinstance(high, str):
        high = {"class_path": high}
    if not isinstance(low, Mapping) or not isinstance(high, Mapping):
        return high
    was, now = low.get("class_path"), high.get("class_path")
    if was and now and str(was).removeprefix(f"{home}.") != str(now).removeprefix(f"{home}."):
        return high
    arguments = {**_arguments(low), **_arguments(high)}
    if now or was:
        return {"class_path": now or was, "init_args": arguments}
    return arguments if _is_bare(low) or _is_bare(high) else {"init_args": arguments}


def _arguments(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = spec if _is_bare(spec) else spec.get("init_args", {})
    return found


def _is_bare(spec: Mapping[str, Any]) -> bool:
    """Whether a mapping holds arguments alone."""
    return bool(spec) and not any(key in spec for key in CLASS_KEYS)


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
