"""Which hyperparameters of logs are learning rate, batch size and seed, which metric is the loss, and what else differs."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from reports.judging.curve_file import key_of
from studies.admin.adopted.log import Log, number_of
from studies.config import MOST
from studies.errors import BadInput

# Last parts of names, as ``key_of`` spells them, the best first.
LEARNING_RATES = "learning_rate lr learningrate base_lr init_lr initial_lr lr0 learning_rate_init".split()
BATCH_SIZES = "batch_size batchsize train_batch_size per_device_train_batch_size bs".split()
SEEDS = "seed seed_everything random_seed manual_seed random_state".split()
MONITORED = re.compile(r"lr-[^/-]+(-\d+)?(/\w+)?")  # what Lightning's LearningRateMonitor logs
EPOCH_MEAN, VALIDATION, MINIBATCH, AS_LOGGED = "epoch mean", "validation", "minibatch", "as logged"  # kinds of losses
TRAINING_LOSSES = "train_loss_epoch loss_epoch train_loss loss_train loss train_loss_step loss_step reported_loss".split()
VALIDATION_LOSSES = "val_loss val_loss_epoch valid_loss validation_loss eval_loss dev_loss loss_val".split()
MORE_IS_BETTER = re.compile(r"(.*_)?(acc|accuracy|f1|auc|auroc|ap|map|iou|dice|bleu|precision|recall|r2|psnr|reward)(_.*)?")
SHARE = 0.5  # of the runs that must have logged a metric for it to be the loss: those that crashed at once have none
FEWEST_NAMES = 4  # runs of which each has a text of its own: that is what they are called
SAID = 5  # values or names in a sentence


class Loss(NamedTuple):
    """The metric whose values are the heights, and of which kind it is."""

    name: str
    kind: str


@dataclass(frozen=True, eq=False)
class Chosen:
    """A log, and what its run was: learning rate, batch size and seed."""

    log: Log
    learning_rate: float
    batch_size: int
    seed: int


def choose_loss(logs: Sequence[Log], metric: str | None) -> Loss:
    """The loss: of training if its mean over an epoch was logged, else of validation, else of minibatches; or ``metric``.

    Raises BadInput where there is none, or where more of it would be better.
    """
    counts = {name: sum(name in log.metrics for log in logs) for name in dict.fromkeys(n for log in logs for n in log.metrics)}
    listed = shorten(counts) or "nothing"
    if metric is not None:
        found = [name for name in counts if name == metric] or [name for name in counts if key_of(name) == key_of(metric)]
        if len(found) != 1:
            raise BadInput(f"metric must be one of what was logged ({listed}), got {metric!r}")
        if MORE_IS_BETTER.fullmatch(key_of(metric)):
            raise BadInput(f"metric must be a loss, of which less is better, got {metric!r}")
        return Loss(found[0], _kind(found[0], logs))
    known = {name: key_of(name) for name, count in counts.items() if count >= SHARE * len(logs)}
    able = [name for wanted in (TRAINING_LOSSES, VALIDATION_LOSSES) for key in wanted for name in known if known[name] == key]
    kinds = {name: _kind(name, logs) for name in able}
    for kind in (EPOCH_MEAN, VALIDATION, AS_LOGGED, MINIBATCH):
        for name in able:
            if kinds[name] == kind:
                return Loss(name, kind)
    raise BadInput(f"metric must be given: no loss has a usual name in half of the runs; logged were {listed}")


def _kind(name: str, logs: Sequence[Log]) -> str:
    key = key_of(name)
    if key in VALIDATION_LOSSES or re.match(r"(val|valid|validation|eval|dev|test)_", key):
        return VALIDATION
    counted = [log for log in logs if name in log.metrics and len(log.epochs[0])]
    if key.endswith("_epoch"):
        return EPOCH_MEAN
    if not counted:
        return AS_LOGGED
    per_epoch = [len(log.metrics[name][0]) / (1 + float(log.epochs[1].max())) for log in counted]
    return EPOCH_MEAN if np.median(per_epoch) <= 1 and not key.endswith("_step") else MINIBATCH


def choose_runs(
    logs: Sequence[Log],
    loss: Loss,
    *,
    learning_rate_name: str | None = None,
    batch_size: int | None = None,
    regardless_of: Collection[str] = (),
) -> tuple[list[Chosen], list[str]]:
    """The runs that can be judged, one of each learning rate, batch size and seed, and a sentence on each choice made.

    learning_rate_name: of a hyperparameter. batch_size: of all runs, where their hyperparameters do not say it. regardless_of:
    names of hyperparameters in which runs may differ, with * and ?.

    Raises BadInput where learning rate or batch size is not known, and where the runs differ in something else.
    """
    remarks: list[str] = []
    with_loss = [log for log in logs if loss.name in log.metrics]
    remarks += _left_out([log.name for log in logs if loss.name not in log.metrics], f"logged no {loss.name}")
    names = dict.fromkeys(name for log in with_loss for name in log.hyperparameters)
    rate_name = _name_of(with_loss, LEARNING_RATES, "learning_rate_name", learning_rate_name)
    rates = {log.name: _positive(log.hyperparameters.get(rate_name or "")) for log in with_loss}
    if rate_name is None:
        rates = {log.name: max(monitored(log), default=None) for log in with_loss}
        if not any(rates.values()):
            told = f"the hyperparameters are {shorten(names) or 'none'}"
            raise BadInput(f"learning_rate_name must be given: no hyperparameter is called lr or learning_rate; {told}")
        remarks.append("the learning rate of a run is the highest that was logged: its hyperparameters do not say it")
    size_name = None if batch_size is not None else _name_of(with_loss, BATCH_SIZES, "batch_size", None)
    if batch_size is None and size_name is None:
        raise BadInput("batch_size must be given, examples a step: no hyperparameter is called batch_size")
    sizes = {log.name: batch_size or _whole(log.hyperparameters.get(size_name or "")) for log in with_loss}
    known = [log for log in with_loss if rates[log.name] and sizes[log.name]]
    if not known:
        raise BadInput(f"runs must have a learning rate above 0 and a whole batch size, of {len(with_loss)} none has both")
    remarks += _left_out([log.name for log in with_loss if log not in known], "have no learning rate above 0, or no batch size")
    apart = [name for name in names if name not in (rate_name, size_name)]
    remarks += _differences(known, apart, [[float(of[log.name] or 0) for log in known] for of in (rates, sizes)], regardless_of)
    found = [
        (log, float(rates[log.name] or 0), int(sizes[log.name] or 0)) for log in _without_copies(known, loss.name, remarks)
    ]
    return _with_seeds(found, loss.name, remarks), remarks


def take_where(logs: Sequence[Log], where: Sequence[str]) -> list[Log]:
    """The logs whose hyperparameters have these values, each as NAME=VALUE. Raises BadInput where none has."""
    found = list(logs)
    for pair in where:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadInput(f"where must be NAME=VALUE, got {pair!r}")
        values = dict.fromkeys(log.hyperparameters.get(name, "none") for log in found)
        found = [log for log in found if log.hyperparameters.get(name) == number_of(value)]
        if not found:
            raise BadInput(f"where must be a value that some run has, got {pair!r}; of {name!r} there are {shorten(values)}")
    return found


def monitored(log: Log) -> list[float]:
    """The highest learning rate that was logged of each group of parameters."""
    highest = [values[np.isfinite(values)] for name, (_, values) in log.metrics.items() if MONITORED.fullmatch(name)]
    return [float(f"{values.max():.6g}") for values in highest if len(values) and values.max() > 0]  # float32, in event files


def _name_of(logs: Sequence[Log], usual: Sequence[str], option: str, given: str | None) -> str | None:
    """The hyperparameter that has one of the usual names, or the given one; None where there is none.

    Names with the same values in all runs are one.
    """
    names = dict.fromkeys(name for log in logs for name in log.hyperparameters)
    if given is not None:
        if given not in names:
            raise BadInput(f"{option} must be one of the hyperparameters ({shorten(names) or 'none'}), got {given!r}")
        return given
    named = sorted((usual.index(_last(name)), len(name), name) for name in names if _last(name) in usual)
    columns: dict[tuple[str | None, ...], str] = {}
    for *_, name in named:
        columns.setdefault(tuple(log.hyperparameters.get(name) for log in logs), name)
    vary = [name for values, name in columns.items() if len(set(values)) > 1] or list(columns.values())
    if len(vary) > 1:
        raise BadInput(f"{option} must be given: {' and '.join(vary)} may be it")
    return vary[0] if vary else None


def _last(name: str) -> str:
    return key_of(re.split(r"[./]", name)[-1])


def _differences(
    logs: Sequence[Log], names: Iterable[str], chosen: Sequence[Sequence[float]], regardless_of: Collection[str]
) -> list[str]:
    """A remark on what runs differ in beside what was chosen, where they may. Raises BadInput where they may not."""
    remarks, other = [], {}
    for name in names:
        values = [log.hyperparameters.get(name, "none") for log in logs]
        called = len(set(values)) == len(logs) >= FEWEST_NAMES and not any(map(_is_number, values))
        follows = all(map(_is_number, values)) and any(_proportional([float(v) for v in values], column) for column in chosen)
        if len(set(values)) < 2 or _last(name) in SEEDS or called or follows:
            continue
        told = f"{name} ({shorten(dict.fromkeys(values))})"
        if any(fnmatchcase(name, pattern) for pattern in regardless_of):
            remarks.append(f"these runs differ in {told} too, and are judged together regardless of that")
        else:
            other[name] = told
    if other:
        first = next(iter(other))
        value = next(log.hyperparameters[first] for log in logs if first in log.hyperparameters)
        ways = f"--where {first}={_spelt(value)} takes some of them, --regardless-of {' '.join(map(repr, other))} all"
        raise BadInput(
            f"runs must differ in learning rate, batch size and seed alone; they differ in {shorten(other.values())}: {ways}"
        )
    return remarks


def _proportional(values: Sequence[float], to: Sequence[float]) -> bool:
    ratios = np.array(values) / np.array(to)
    return bool(np.allclose(ratios, ratios[0], rtol=1e-6, atol=0))


def _without_copies(logs: Sequence[Log], metric: str, remarks: list[str]) -> list[Log]:
    """The logs without those that hold what another one does, such as of a copied folder."""
    found: dict[tuple[object, ...], Log] = {}
    copies = []
    for log in logs:
        steps, values = log.metrics[metric]
        tells = len(np.unique(values[np.isfinite(values)])) > 2  # two that are not finite from the start may be two
        key = (tuple(sorted(log.hyperparameters.items())), steps.tobytes(), values.tobytes()) if tells else (log.name,)
        if found.setdefault(key, log) is not log:
            copies.append(log.name)
    remarks += _left_out(copies, "are copies of others")
    return list(found.values())


def _with_seeds(found: Sequence[tuple[Log, float, int]], metric: str, remarks: list[str]) -> list[Chosen]:
    """The runs with their seeds; of several of one learning rate, batch size and seed the longest, of those the last."""
    name = next((name for word in SEEDS for log, *_ in found for name in log.hyperparameters if _last(name) == word), None)
    seeds = [_whole(log.hyperparameters.get(name or ""), least=0) for log, *_ in found]
    if None in seeds:
        counts: dict[tuple[float, int], int] = {}
        for at, (_, rate, size) in enumerate(found):
            seeds[at] = counts[rate, size] = counts.get((rate, size), -1) + 1
        if max(counts.values(), default=0) > 0:
            remarks.append("the logs do not say the seeds: runs of one learning rate and batch size count as seeds 0, 1, ...")
    stand: dict[tuple[float, int, int], Chosen] = {}
    again = []
    for (log, rate, size), seed in zip(found, seeds, strict=True):
        key, run = (rate, size, int(seed or 0)), Chosen(log, rate, size, int(seed or 0))
        before = stand.get(key)
        if before is not None:
            shorter = before if before.log.metrics[metric][0][-1] <= log.metrics[metric][0][-1] else run
            again.append(shorter.log.name)
            run = run if shorter is before else before
        stand[key] = run
    remarks += _left_out(again, "were trained again with the same learning rate, batch size and seed")
    return list(stand.values())


def _left_out(names: Sequence[str], why: str) -> list[str]:
    return [f"left out, {len(names)} in all, as they {why}: {shorten(names)}"] if names else []


def shorten(words: Iterable[str] | Mapping[str, object]) -> str:
    """The first few of several words, numbers as people spell them.

    >>> shorten(["32.0", "a", "b", "c", "d", "e", "f"])
    '32, a, b, c, d and 2 more'
    """
    said = [_spelt(word) for word in words]
    return ", ".join(said[:SAID]) + (f" and {len(said) - SAID} more" if len(said) > SAID else "")


def _spelt(text: str) -> str:
    return f"{float(text):g}" if _is_number(text) else text if text.isprintable() else repr(text)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _positive(text: str | None) -> float | None:
    return float(text) if text and _is_number(text) and float(text) > 0 else None


def _whole(text: str | None, least: int = 1) -> int | None:
    number = float(text) if text and _is_number(text) else -1.0
    return int(number) if number.is_integer() and least <= number <= MOST else None
