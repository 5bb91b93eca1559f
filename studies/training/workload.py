"""What a study holds fixed: model, data, optimizer and trainer, told as plain JSON and built anew for every run."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from inspect import signature
from typing import Any, NamedTuple, Self

import pytorch_lightning as pl

from lightning_modules.learning_rate import NAMES, set_attribute
from lightning_modules.loaders import PROBE_SEED, at_batch_size
from studies.config import PARTNERS, Given, Spec, StudyConfig, class_name
from studies.errors import BadInput
from studies.training.classes import check_arguments, full_spec, load_class, package_of
from studies.training.sources import Source, object_source, plain, spec_source
from studies.training.trainers import check_trainer

MODELS = ("ImageClassifier", "Parabola", "Regressor")
DATA = ("CIFAR10", "Diabetes", "Digits", "FashionMNIST", "MNIST", "ParabolaData", "Wine")
NETWORKS = ("ConvNet", "MLP", "ResNet18")


class Loaders(NamedTuple):
    """Data given as loaders."""

    train: Any
    val: Any = None


class Built(NamedTuple):
    """A module and what ``Trainer.fit`` takes beside it."""

    model: pl.LightningModule
    data: dict[str, Any]

    @property
    def owners(self) -> tuple[Any, ...]:
        """Where an attribute such as the learning rate may be."""
        return self.model, self.data.get("datamodule")

    @property
    def owner(self) -> Any:
        """What has the training loader, or is it."""
        return next(iter(self.data.values()), self.model)


@dataclass(frozen=True, eq=False)
class Workload:
    """What is trained, but for learning rate, batch size and seed; made by ``Workload.of`` or ``Workload.of_config``.

    data: None when the loaders are the model's own.
    trainer: options of Lightning's Trainer that differ from its defaults.
    epochs, batch_sizes: of the study, which look alike in all runs; none of them tells two workloads apart.
    Others: as in ``StudyConfig``.
    """

    model: Source
    data: Source | None
    trainer: dict[str, Any]
    optimizer: dict[str, Any] | None = None
    lr_scheduler: dict[str, Any] | None = None
    learning_rate_name: str | None = None
    constant: bool = False
    monitor: str | None = None
    mode: str = "min"
    own_batches: bool = False
    epochs: int = 10
    batch_sizes: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        model: Given = None,
        data: Given = None,
        trainer: Mapping[str, Any] | None = None,
        *,
        optimizer: Spec | None = None,
        lr_scheduler: Spec | None = None,
        **options: Any,
    ) -> Self:
        """A workload from what ``StudyConfig`` takes; checks every name and argument name.

        Raises ValueError for an unknown class, argument or trainer option, with the known ones or the nearest.
        """
        model_source, data_source = _sources(model, data)
        if lr_scheduler is not None and optimizer is None:
            raise BadInput(f"lr_scheduler needs optimizer beside it, got {class_name(lr_scheduler)} alone")
        return cls(
            model_source,
            data_source,
            check_trainer(trainer or {}),
            _torch_spec("optimizer", optimizer, "torch.optim"),
            _torch_spec("lr_scheduler", lr_scheduler, "torch.optim.lr_scheduler"),
            **options,
        )

    @classmethod
    def of_config(cls, config: StudyConfig) -> Self:
        """The workload of a study."""
        names = "model data trainer optimizer lr_scheduler learning_rate_name constant monitor mode own_batches epochs"
        return cls.of(**{name: getattr(config, name) for name in names.split()}, batch_sizes=config.batch_size)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: what tells two workloads apart. Options that were not given are left out."""
        facts: dict[str, Any] = {"model": self.model.facts, "data": self.data.facts if self.data else None}
        facts["trainer"] = plain(self.trainer)
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in (*facts, "epochs", "batch_sizes")}
        return facts | {name: value for name, value in given.items() if value != getattr(Workload, name)}

    @property
    def is_ours(self) -> bool:
        """Whether the model is one of this project's."""
        return self.model.made is not None and self.model.made.__module__.startswith("lightning_modules.")

    @property
    def rate_names(self) -> tuple[str, ...]:
        """Attributes that may hold the learning rate."""
        return NAMES if self.learning_rate_name is None else (self.learning_rate_name,)

    def build(self, *, learning_rate: float | None, batch_size: int | None, seed: int) -> Built:
        """A fresh module and its data at this learning rate and batch size, as far as attributes and loaders decide them.

        The module's initial weights depend on the seed alone. None leaves the module, or the loaders, as they were made.

        Raises ValueError when module and data belong to different packages of Lightning, or there is no training data.
        """
        made = None
        if self.data is not None:
            pl.seed_everything(PROBE_SEED, verbose=False)  # what data draw belongs to the study, not to the run
            made = self.data.make()
        pl.seed_everything(seed, verbose=False)
        model = self.model.make()
        _check_kinds(model, made)
        if self.optimizer is not None:
            model.configure_optimizers = partial(_configure, model, self.optimizer, self.lr_scheduler)
        built = Built(model, _fit_arguments(made))
        if learning_rate is not None:
            found = set_attribute(built.owners, self.rate_names, learning_rate)
            if self.learning_rate_name is not None and not found:
                raise BadInput(
                    f"learning_rate_name must be an attribute of the module, its hparams or its datamodule,"
                    f" {type(model).__name__} has no {self.learning_rate_name!r}"
                )
        if batch_size is not None and not self.own_batches:
            set_attribute(built.owners, ("batch_size",), batch_size)
        if batch_size is not None:
            _request(built, None if self.own_batches else batch_size, seed)
        return built


def _request(built: Built, batch_size: int | None, seed: int) -> None:
    """Have the training loaders come at this batch size, None for their own, in an order that belongs to the seed."""
    if "train_dataloaders" in built.data:
        loaders = built.data["train_dataloaders"]
        built.data["train_dataloaders"] = at_batch_size(loaders, batch_size, seed=seed)
        return
    owner = built.data.get("datamodule", built.model)
    if hasattr(owner, "seed") and owner is not built.model:
        owner.seed = seed
    make = owner.train_dataloader
    owner.train_dataloader = lambda: at_batch_size(make(), batch_size, seed=seed)


def _fit_arguments(made: Any) -> dict[str, Any]:
    if made is None:
        return {}
    if isinstance(made, Loaders):
        return {"train_dataloaders": made.train, "val_dataloaders": made.val}
    return {"datamodule": made}


def _check_kinds(model: Any, data: Any) -> None:
    """Raise ValueError unless model and data are Lightning's, of one package, and there is something to train on."""
    package = package_of(type(model))
    if not package:
        raise BadInput(f"model must be a LightningModule, got {type(model).__name__}")
    if isinstance(data, Loaders):
        return
    if data is None:
        if not has_loaders(type(model)):
            raise BadInput(f"data must be given: {type(model).__name__} has no train_dataloader of its own")
        return
    other = package_of(type(data), "LightningDataModule")
    if not other:
        raise BadInput(f"data must be a LightningDataModule or a DataLoader, got {type(data).__name__}")
    if other != package:
        raise BadInput(
            f"model and data must come from one of Lightning's two packages, {type(model).__name__} is of {package}"
            f" and {type(data).__name__} of {other}: import both from the same"
        )


def has_loaders(model: type) -> bool:
    """Whether a module class has a ``train_dataloader`` of its own."""
    return not model.train_dataloader.__module__.endswith("core.hooks")  # type: ignore[attr-defined]


def _sources(model: Given, data: Given) -> tuple[Source, Source | None]:
    """The sources of both, each filled in by the other where it is not given."""
    data_source = None if data is None or _is_spec(data) else _given_data(data)
    if _is_spec(model) or model is None:
        models = {theirs: ours for ours, theirs in PARTNERS.items()}
        spec = full_spec("model", model, MODELS, default=models.get(class_name(data), "ImageClassifier"))
        kind: type | None = load_class("model", spec["class_path"])
    else:
        spec, kind = {}, object_source(model).made
    if data_source is None and (data is not None or (kind is not None and not _own_data(kind))):
        bases = [base.__name__ for base in kind.__mro__] if kind else []
        partner = next((PARTNERS[name] for name in bases if name in PARTNERS), "Digits")
        data_source = spec_source("data", full_spec("data", data, DATA, default=partner))
    if not spec:
        return object_source(model), data_source
    _fill_network(spec, data_source.made if data_source else None)
    return spec_source("model", spec), data_source


def _own_data(model: type) -> bool:
    """Whether to leave the data to the module; raises ValueError for a module of the user's that has none."""
    if _is_ours(model):
        return False
    if not package_of(model) or has_loaders(model):
        return True
    raise BadInput(f"data must be given: {model.__name__} has no train_dataloader of its own")


def _is_ours(model: type) -> bool:
    return any(base.__module__.startswith("lightning_modules.") for base in model.__mro__)


def _is_spec(given: Given) -> bool:
    return isinstance(given, (str, Mapping))


def _given_data(data: Any) -> Source:
    """Data given from Python: a datamodule, its class, a factory, or loaders."""
    if isinstance(data, type) or package_of(type(data), "LightningDataModule"):
        return object_source(data)
    if callable(data):
        factory = object_source(data)
        return Source(factory.facts, lambda: _as_loaders(factory.make()), factory.made)
    loaders = _as_loaders(data)
    facts = [
        {"loader": type(part).__name__, "dataset": type(getattr(part, "dataset", part)).__name__}
        for part in loaders
        if part is not None
    ]
    return Source({"loaders": facts}, lambda: loaders)


def _as_loaders(data: Any) -> Any:
    if package_of(type(data), "LightningDataModule"):
        return data
    loaders = Loaders(*data) if isinstance(data, tuple) and len(data) == 2 else Loaders(data)
    if not hasattr(loaders.train, "__iter__"):
        raise BadInput(f"data must be a LightningDataModule or a DataLoader, got {type(data).__name__}")
    return loaders


def _fill_network(model: dict[str, Any], data_class: type | None) -> None:
    """Name the network in full and give it the shapes of the data, where a model of ours takes a network."""
    kind = load_class("model", model["class_path"])
    if not _is_ours(kind) or "network" not in signature(kind).parameters:
        return
    arguments = model["init_args"]
    network = full_spec("model.network", arguments.get("network"), NETWORKS, default="MLP")
    accepted = signature(load_class("model.network", network["class_path"])).parameters
    for name in ("input_shape", "n_outputs"):
        if name in accepted and hasattr(data_class, name):
            value = getattr(data_class, name)
            network["init_args"].setdefault(name, list(value) if isinstance(value, tuple) else value)
    check_arguments("model.network", network)
    arguments["network"] = network


def _torch_spec(kind: str, spec: Spec | None, package: str) -> dict[str, Any] | None:
    """A spec of an optimizer or scheduler; a bare name is torch's."""
    if spec is None:
        return None
    given = dict(spec) if isinstance(spec, Mapping) else {"class_path": spec}
    if isinstance(path := given.get("class_path"), str) and "." not in path:
        given["class_path"] = f"{package}.{path}"
    full = full_spec(kind, given, ())
    check_arguments(kind, full)
    return full


def _configure(model: pl.LightningModule, optimizer: dict[str, Any], lr_scheduler: dict[str, Any] | None) -> Any:
    """What ``configure_optimizers`` returns under LightningCLI."""
    made = _made("optimizer", optimizer, model.parameters())
    if lr_scheduler is None:
        return made
    scheduler = _made("lr_scheduler", lr_scheduler, made)
    monitor = {"monitor": scheduler.monitor} if hasattr(scheduler, "monitor") else {}
    return {"optimizer": made, "lr_scheduler": {"scheduler": scheduler, **monitor}}


def _made(kind: str, spec: Mapping[str, Any], first: Any) -> Any:
    try:
        return load_class(kind, spec["class_path"])(first, **spec["init_args"])
    except (TypeError, ValueError) as error:
        raise BadInput(f"{kind} {class_name(spec)} was refused: {error}") from error
