"""What of an optimizer changes with the batch size although nobody set it: spans that it counts in steps, not in examples."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports.style import format_number


def tell_scales(optimizer: Mapping[str, Any], recommendations: pd.DataFrame) -> list[str]:
    """Half-life of the average over squared gradients, in examples, and weight decay times learning rate, by batch size.

    optimizer: settings of a parameter group by their names in torch, with ``optimizer``, the name of its class, and
    ``learning_rate_factor``, how many times the learning rate it has, 1 where that is missing. recommendations: as
    ``recommend`` returns them. Nothing is said of fewer than two batch sizes, nor of settings that are not there or 0.

    >>> two = pd.DataFrame({"batch_size": [1, 100], "learning_rate": [0.01, 0.1]})
    >>> tell_scales({"optimizer": "Adam", "betas": [0.9, 0.5]}, two)[0]
    'Adam averages squared gradients with beta2 0.5, which forgets half in 1 step: 1 example at batch size 1, 100 at 100'
    """
    if recommendations["batch_size"].nunique() < 2:
        return []
    return [each for each in (_half_lives(optimizer, recommendations), _decays(optimizer, recommendations)) if each]


def _half_lives(optimizer: Mapping[str, Any], recommendations: pd.DataFrame) -> str:
    beta = (optimizer.get("betas") or [0.0])[-1]
    if not 0 < beta < 1:
        return ""
    steps = math.log(0.5) / math.log(beta)
    of = "averages squared gradients" if "Adam" in optimizer["optimizer"] else "averages"
    counted = f"{format_number(steps)} step{'s' * (format_number(steps) != '1')}"
    found = _by_size(recommendations["batch_size"], steps * recommendations["batch_size"], "example")
    return f"{optimizer['optimizer']} {of} with beta2 {beta:g}, which forgets half in {counted}: {found}"


def _decays(optimizer: Mapping[str, Any], recommendations: pd.DataFrame) -> str:
    """Of coupled weight decay only where it acts as if decoupled, in SGD: adaptive steps do not keep its size."""
    decay, times = optimizer.get("weight_decay") or 0.0, steps_in_all(optimizer)
    named = "AdamW" in optimizer["optimizer"]  # where settings do not tell, as in older versions of torch
    if not decay > 0 or (times is None and not optimizer.get("decoupled_weight_decay", named)):
        return ""
    shrinks = decay * (times or 1.0) * recommendations["learning_rate"] * optimizer.get("learning_rate_factor", 1.0)
    rate = "recommended learning rate" + (" / (1 - momentum)" if times not in (None, 1.0) else "")
    found = _by_size(recommendations["batch_size"], shrinks)
    return f"weight decay {format_number(decay)} times the {rate}, by which weights shrink in a step: {found}"


def steps_in_all(optimizer: Mapping[str, Any]) -> float | None:
    """How many times the learning rate a gradient moves the weights in all, by SGD with momentum: 1 / (1 - momentum).

    Times 1 - dampening. None for other optimizers, for momentum that a schedule changes, and where it is 1 or more.
    """
    is_sgd = {"momentum", "dampening"} <= set(optimizer) and not {"betas", "base_momentum"} & set(optimizer)
    if not is_sgd or not 0 <= optimizer["momentum"] < 1:
        return None
    return float((1 - optimizer["dampening"] * (optimizer["momentum"] > 0)) / (1 - optimizer["momentum"]))


def _by_size(sizes: "pd.Series[int]", values: "pd.Series[float]", unit: str = "") -> str:
    told = [format_number(value) for value in values]
    first = f"{told[0]} {unit}{'s' * (told[0] != '1')}".strip() if unit else told[0]
    return ", ".join(
        [f"{first} at batch size {sizes.iloc[0]}", *(f"{t} at {s}" for t, s in zip(told[1:], sizes[1:], strict=True))]
    )
