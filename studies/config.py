"""What to study, checked at the door."""

import difflib
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from importlib.util import find_spec
from typing import Any, Self

import numpy as np

from studies.errors import BadInput
from studies.samplers import SAMPLERS

MODES = ("min", "max")
DEFAULT = "edges"  # sampler
FUSES = ("auto", "never")
ENGINES = ("processes", "ray")
MOST_WORKERS = 256
MOST_RUNS = 1_000_000  # of a study: its plan is a list
MOST = 10**9  # of whatever is counted
LENGTHS = ("max_epochs", "min_epochs", "min_steps", "max_time")  # Trainer options that say when a run ends, beside max_steps
RANGE = (0.003, 30.0)  # of samplers that look for no range of their own
LIMITS = (1e-8, 1e4)  # to which a search may widen its range
PER_DECADE = 4  # learning rates a decade of a grid: neighbours differ by x1.8, finer than the factor 3 that bounds *good*
FINE = 10  # learning rates a decade of a search, which trains few of them: edges are known to two steps
EPOCHS, SEARCHED_EPOCHS = 10, 24  # of a run: the search ends most of them early
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
A_SIZE = 45  # runs that a search takes at a batch size, roughly
PARTNERS = {"Regressor": "Diabetes", "Parabola": "ParabolaData", "ImageClassifier": "Digits"}  # model and its usual data
NAME_RULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,99}")

Spec = str | Mapping[str, Any]
Given = Any  # a spec, or from Python an instance, a class or a factory: see ``studies.training.sources``


@dataclass(frozen=True)
class StudyConfig:
    """A learning-rate study: what is trained, and which learning rates, batch sizes and seeds are tried.

    Args:
        model: a LightningModule by name (``ImageClassifier``), import path, or ``{"class_path": ..., "init_args": {...}}``;
            from Python also a class, a factory such as ``functools.partial(Net, width=128)``, or an instance. An instance is
            built anew for each seed when ``save_hyperparameters()`` kept all its arguments and its weights are as they were
            made; otherwise every run starts from its weights, and seeds differ in the order of batches only.
            None picks the one that fits the data.
        data: a LightningDataModule, likewise; from Python also a training DataLoader, or a pair of one for training and one
            for validation. None takes the loaders of the model or what fits it; the default is ``Digits``.
        trainer: options of Lightning's Trainer, as LightningCLI spells them.
        learning_rate: lowest and highest learning rate, both tried; tried rates are evenly spaced on a log scale. Unless given,
            ``edges`` finds out where to look, and widens that up to 1e-8 to 1e4; the others try 0.003 to 30.
        per_decade: learning rates a decade, 4 of a grid unless ``points`` is given; those that ``edges`` may try, 10.
        points: learning rates of a grid in all, instead of ``per_decade``.
        batch_size: examples a step, one or several sizes.
        optimizer, lr_scheduler: used instead of the module's own, by import path or spec, as LightningCLI does.
        learning_rate_name: the attribute that holds the learning rate, on module, hparams or datamodule; ``lr`` or
            ``learning_rate`` unless given. Without such an attribute the optimizer's learning rates are scaled.
        constant: leave out the module's learning-rate schedulers.
        monitor: a metric the module logs. Logged by ``training_step``, it is the height, instead of the loss returned; logged
            in validation, it is what the search minimises and what decides among learning rates that are equal otherwise.
        mode: ``min``, or ``max`` when more of ``monitor`` is better.
        own_batches: leave the batches as the training loader gives them; ``batch_size``, one, is then what they are called.
        fuse: ``auto`` trains members of one batch size together where measuring says that is faster; ``never`` trains each
            alone, so that a study made again is the same to the bit.
        seeds: runs of each cell, with seeds 0, 1, ...: initial weights and batch order belong to the seed.
        seed_everything: the first seed, as LightningCLI spells it; 0 unless given.
        epochs: how long each run trains, in passes over the training set; ``max_epochs`` of ``trainer``, or unless given 10,
            or 24 with ``edges``, which ends most runs early.
            ``max_steps`` of ``trainer`` ends a run that is longer, and is the only limit where it stands alone.
        steps: how long each run trains, instead of ``epochs``: optimizer steps, as many at every batch size, whatever
            ``trainer`` says.
        sampler: ``edges`` trains what tells most of where the verdicts change, and each run until its verdict is known;
            ``grid`` trains every cell; ``tpe``, ``random`` and ``qmc`` sample learning rate and batch size freely. It is
            ``grid`` where ``points`` says which learning rates, else ``edges``, unless given.
        exact: have ``edges`` train every run to its end.
        max_time: after which ``edges`` asks for no more runs, such as ``20min``, ``1.5h`` or seconds; what it has is judged.
        max_epochs_in_all: the same, in epochs of all runs that are stored.
        trials: runs in all for the free samplers; as many as the grid would have unless given.
        workers: processes that train; ``auto`` takes one a core where what is to be trained is worth their start. What is
            trained does not depend on it. The free samplers choose each run by those before, in one process.
        engine: ``processes`` of this machine, or ``ray``: actors of a Ray cluster, which needs the extra ``ray``.
        ray_address: of the cluster, ``HOST:PORT``, or ``auto`` for one that was started on this machine; Ray is started for
            the study alone, on this machine, unless given.
        num_cpus, num_gpus: of each Ray actor, 1 and 0 unless given; parts of a GPU are shared. ``workers`` is their number,
            as many as the cluster has room for unless given.
        checkpoint: save each run at the end of every epoch, so that one that was killed goes on from there; for long runs.
        name: the study's name in the storage; the data set's name in lower case unless given.
        storage: an SQLite file or any URL Optuna takes.

    Raises:
        ValueError: with one sentence that says what, the rule, and what came.
    """

    model: Given = None
    data: Given = None
    trainer: Mapping[str, Any] | None = None
    optimizer: Spec | None = None
    lr_scheduler: Spec | None = None
    learning_rate: Sequence[float] | None = None
    per_decade: float | None = None
    points: int | None = None
    batch_size: int | Sequence[int] = (16, 64, 256)
    learning_rate_name: str | None = None
    constant: bool = False
    monitor: str | None = None
    mode: str = "min"
    own_batches: bool = False
    fuse: str = "auto"
    seeds: int = 3
    seed_everything: int | bool | None = None
    epochs: int | None = None
    steps: int | None = None
    sampler: str | None = None
    exact: bool = False
    max_time: str | float | None = None
    max_epochs_in_all: float | None = None
    trials: int | None = None
    workers: int | str = "auto"
    engine: str = "processes"
    ray_address: str | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    checkpoint: bool = False
    name: str | None = None
    storage: str = field(default="outputs/studies.db", repr=False)  # it may hold a password

    def __post_init__(self) -> None:
        trainer = dict(_mapping("trainer", self.trainer or {}))
        epochs = trainer.pop("max_epochs", None)
        asked = None if self.steps is None else count("steps", self.steps)
        if asked is not None:
            if self.epochs is not None and (self.epochs, trainer.get("max_steps")) != (asked, asked):  # else it was made of one
                raise BadInput(f"steps and epochs exclude each other: give one, got {asked} and {self.epochs}")
            trainer["max_steps"], epochs = asked, asked  # a step an epoch at least, so that steps are the only limit
        if self.epochs is not None or asked is not None:  # says how long, whatever a configuration written for one run says
            trainer = {name: value for name, value in trainer.items() if name not in LENGTHS}
        steps = trainer.get("max_steps")
        steps = None if steps in (None, -1) else count("trainer.max_steps", steps)
        if epochs == -1 and steps is None:
            raise BadInput("epochs must be given: trainer.max_epochs is -1, which never ends")
        sampler = self.sampler or (DEFAULT if self.points is None else "grid")
        if sampler not in SAMPLERS:
            raise BadInput(f"sampler must be one of {', '.join(SAMPLERS)}, got {self.sampler!r}")
        rates = None if self.learning_rate is None and sampler == "edges" else _range(self.learning_rate or RANGE)
        if self.points is not None and self.per_decade is not None:
            raise BadInput(f"points and per_decade exclude each other: give one, got {self.points} and {self.per_decade}")
        points, per_decade = _density(sampler, self.points, self.per_decade, rates)
        sizes = self.batch_size if isinstance(self.batch_size, Sequence) else (self.batch_size,)
        if isinstance(self.batch_size, str) or not len(sizes):
            raise BadInput(f"batch_size must be one or more whole numbers, got {self.batch_size!r}")
        batch_sizes = tuple(count("batch_size", size) for size in sizes)
        if len(set(batch_sizes)) < len(batch_sizes):
            raise BadInput(f"batch_size must name each size once, got {list(batch_sizes)}")
        if self.own_batches and len(batch_sizes) > 1:
            raise BadInput(f"own_batches needs one batch_size, which says what they are called, got {list(batch_sizes)}")
        if self.trials is not None and sampler in ("grid", "edges"):
            of = "a grid trains every cell" if sampler == "grid" else "edges trains as many as it takes"
            raise BadInput(f"trials belongs to the samplers tpe, random and qmc; {of}, got {self.trials}")
        for option in ("learning_rate_name", "monitor", "ray_address"):
            value = getattr(self, option)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise BadInput(f"{option} must be a name, got {value!r}")
        for option in ("constant", "checkpoint", "own_batches", "exact"):
            if not isinstance(getattr(self, option), bool):
                raise BadInput(f"{option} must be true or false, got {getattr(self, option)!r}")
        if self.mode not in MODES:
            raise BadInput(f"mode must be min or max, got {self.mode!r}")
        if self.fuse not in FUSES:
            raise BadInput(f"fuse must be auto or never, got {self.fuse!r}")
        workers = self.workers if self.workers == "auto" else _workers(self.workers)
        if workers not in ("auto", 1) and sampler not in ("grid", "edges"):
            raise BadInput(f"workers belong to edges and grid: {sampler} chooses each run by those before, got {workers}")
        for option in ("exact", "max_time", "max_epochs_in_all"):
            if getattr(self, option) and sampler != "edges":
                raise BadInput(f"{option} belongs to the sampler edges, got {getattr(self, option)!r} with sampler {sampler}")
        longest = None if self.max_epochs_in_all is None else _number("max_epochs_in_all", self.max_epochs_in_all)
        if longest is not None and not longest > 0:
            raise BadInput(f"max_epochs_in_all must be above 0, got {longest:g}")
        if self.engine not in ENGINES:
            raise BadInput(f"engine must be one of {', '.join(ENGINES)}, got {self.engine!r}")
        for option in ("ray_address", "num_cpus", "num_gpus"):
            if self.engine != "ray" and getattr(self, option) is not None:
                raise BadInput(f"{option} needs engine ray, got {getattr(self, option)!r} with engine {self.engine}")
        num_cpus, num_gpus = _share("num_cpus", self.num_cpus), _share("num_gpus", self.num_gpus)
        if self.engine == "ray" and find_spec("ray") is None:
            raise BadInput("engine ray needs Ray, which is not installed: pip install 'learning-rate-studies[ray]'")
        if self.mode == "max" and self.monitor is None:
            raise BadInput("mode max needs monitor, the metric of which more is better, got none")
        model, data = class_name(self.model), class_name(self.data)
        name = self.name  # a class may be called what no study can
        if name is None:
            name = folder_name((data or PARTNERS.get(model) or model or "Digits").lower())
        if not isinstance(name, str) or not NAME_RULE.fullmatch(name):
            rule = "start with a letter or digit and hold at most 100 letters, digits, spaces and ._-"
            raise BadInput(f"name must {rule}, got {name!r}")
        if name.endswith(".self-check"):
            raise BadInput(f"name must not end with .self-check, which belongs to the self-check of a study, got {name!r}")
        seeds, trials = count("seeds", self.seeds), None if self.trials is None else count("trials", self.trials)
        usual = SEARCHED_EPOCHS if sampler == "edges" else EPOCHS
        checked = {
            "trainer": trainer,
            "learning_rate": rates,
            "sampler": sampler,
            "points": points,
            "per_decade": per_decade,
            "batch_size": batch_sizes,
            "seeds": seeds,
            "seed_everything": _first_seed(self.seed_everything),
            "epochs": count("epochs", next((e for e in (self.epochs, epochs, steps) if e not in (None, -1)), usual)),
            "steps": asked,
            "max_time": None if self.max_time is None else _seconds("max_time", self.max_time),
            "max_epochs_in_all": longest,
            "workers": workers,
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "trials": trials,
            "name": name,
        }
        n_runs = trials or (points or 1) * len(batch_sizes) * seeds
        if n_runs > MOST_RUNS:
            what = "trials" if trials else "points or per_decade, batch_size and seeds"
            raise BadInput(f"{what} must make at most {MOST_RUNS:,} runs, got {n_runs:,}")
        for key, value in checked.items():
            object.__setattr__(self, key, value)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """A configuration from a YAML file or a command line; unknown keys are refused with the nearest known one."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise BadInput(f"configuration key {key!r} is not known{nearest(str(key), known)}")
        return cls(**values)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates of a grid, ascending, rounded to six digits so that they read the same everywhere."""
        low, high = self.learning_rate or RANGE
        if self.points == 1:
            return (low,)
        inner = [float(f"{rate:.6g}") for rate in np.geomspace(low, high, self.points or 1)[1:-1]]
        return tuple(sorted({low, *inner, high}))

    @property
    def seed_values(self) -> tuple[int, ...]:
        """The seeds of every cell, ascending."""
        first = _first_seed(self.seed_everything)
        return tuple(range(first, first + self.seeds))

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes, also where one was given."""
        return tuple(self.batch_size) if isinstance(self.batch_size, Sequence) else (self.batch_size,)

    @property
    def n_runs(self) -> int:
        """Runs the finished study holds; of a search, which trains as many as it takes, roughly."""
        if self.sampler == "edges":
            return A_SIZE * len(self.batch_sizes)
        return self.trials or len(self.learning_rates) * len(self.batch_sizes) * self.seeds


def nearest(word: str, known: Sequence[str]) -> str:
    """The end of a sentence that helps with a misspelt name: the nearest known one, or all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"


def folder_name(name: str) -> str:
    """What the folder of a study is called: as the study, or where other tools named that, something a folder can be called.

    >>> folder_name("digits"), folder_name("../../etc/passwd")
    ('digits', 'etc_passwd-3754d6cb')
    """
    if NAME_RULE.fullmatch(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:60] or "study"
    return f"{plain}-{sha256(name.encode(errors='backslashreplace')).hexdigest()[:8]}"


def class_name(source: Given) -> str:
    """The bare class name a source asks for, "" if it asks for none."""
    path = source.get("class_path") if isinstance(source, Mapping) else source
    if path is None or isinstance(path, str):
        return (path or "").rpartition(".")[2]
    path = getattr(path, "func", path)  # functools.partial
    return re.sub(r"\W", "", getattr(path, "__name__", type(path).__name__))


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadInput(f"{name} must be a mapping of option to value, got {value!r}")
    return value


def _number(name: str, value: Any) -> float:
    """A finite float; text that reads as a number counts, because YAML reads 1e-3 as text."""
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise BadInput(f"{name} must be a finite number, got {value!r}")
    return number


def _seconds(name: str, value: Any) -> float:
    """A time as a number of seconds, or with its unit."""
    found = re.fullmatch(rf"\s*([0-9.]+)\s*({'|'.join(SECONDS)})\s*", value) if isinstance(value, str) else None
    try:
        number = float(found[1]) * SECONDS[found[2]] if found else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not 0 < number < math.inf:
        raise BadInput(f"{name} must be a time above 0, such as 20min, 1.5h or seconds, got {value!r}")
    return number


def count(name: str, value: Any) -> int:
    """A whole number from 1 to ``MOST``; raises ValueError with one sentence that names the option otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise BadInput(f"{name} must be a whole number of at least 1, got {value!r}")
    if int(value) > MOST:
        raise BadInput(f"{name} must be at most {MOST:,}, got {value!r}")
    return int(value)


def _density(sampler: str, points: Any, per_decade: Any, rates: tuple[float, float] | None) -> tuple[int | None, float | None]:
    """``points`` of a grid, which stand for ``per_decade``; of a search ``per_decade`` alone."""
    if sampler == "edges":
        if points is not None:
            raise BadInput(f"points belongs to the grid: edges takes per_decade, how fine it may look, got {points}")
        fine = count("per_decade", FINE if per_decade is None else per_decade)
        if not 2 <= fine <= 100:
            raise BadInput(f"per_decade must be from 2 to 100 for the sampler edges, got {fine}")
        return None, fine
    if points is not None:
        return count("points", points), None
    density = _number("per_decade", PER_DECADE if per_decade is None else per_decade)
    if not density > 0:
        raise BadInput(f"per_decade must be above 0, got {density}")
    low, high = rates or RANGE
    return round((math.log10(high) - math.log10(low)) * density) + 1, None


def _workers(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 1 <= int(value) <= MOST_WORKERS:
        raise BadInput(f"workers must be auto or a whole number from 1 to {MOST_WORKERS}, got {value!r}")
    return int(value)


def _share(name: str, value: Any) -> float | None:
    """Of a machine's processors, for one actor: parts of one are shared, more are whole."""
    if value is None:
        return None
    number = _number(name, value)
    if number < 0 or (number > 1 and number != int(number)):
        raise BadInput(f"{name} must be a whole number or a part of 1, got {value!r}")
    return number


def _first_seed(value: Any) -> int:
    """``seed_everything`` as LightningCLI takes it: true, false and null leave the choice to us."""
    if value is None or isinstance(value, bool):
        return 0
    if not isinstance(value, numbers.Integral) or not 0 <= int(value) < 2**31:
        raise BadInput(f"seed_everything must be a whole number from 0 to {2**31 - 1}, got {value!r}")
    return int(value)


def _range(value: Any) -> tuple[float, float]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise BadInput(f"learning_rate must be two numbers LOW HIGH, got {value!r}")
    low, high = _number("learning_rate", value[0]), _number("learning_rate", value[1])
    if not 0 < low <= high:
        raise BadInput(f"learning_rate must be LOW HIGH with 0 < LOW <= HIGH, got {low:g} {high:g}")
    return low, high
