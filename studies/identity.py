"""What makes two studies the same one: all that ``StudyConfig`` says, but for what changes no run."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from studies.config import StudyConfig
from studies.storage.stored import budget_of

# Where results are kept and runs are trained: a study may go on with others. ``per_decade`` has become ``points``.
ELSEWHERE = "name storage workers engine ray_address num_cpus num_gpus checkpoint per_decade exact".split()
ELSEWHERE += ["max_time", "max_epochs_in_all"]
# Options that are told at their defaults, too. Others are left out there: older studies, which lack them, stay the same.
ALWAYS = "learning_rate points batch_size seeds epochs sampler trials".split()
SEEDS = "seeds"  # may grow, as epochs or steps of a search: what was trained stays, and counts


def configuration(config: StudyConfig, workload: Mapping[str, Any]) -> dict[str, Any]:
    """All options that decide what is trained, as plain JSON; workload: those that ``Workload.as_dict`` tells."""
    found, default = dict(workload), StudyConfig()
    for option in (field.name for field in fields(StudyConfig)):
        value = getattr(config, option)
        if option not in (*ELSEWHERE, *found) and (option in ALWAYS or value != getattr(default, option)):
            found[option] = value
    if config.sampler == "edges":  # where it may look, which changes no run
        found.update(learning_rate=None, points=None)
    if config.steps is not None:  # which epochs and Trainer follow
        del found["epochs"]
        found["trainer"] = {name: value for name, value in found["trainer"].items() if name != "max_steps"}
    plain: dict[str, Any] = json.loads(json.dumps(found))  # as it will be read back: lists, and text for keys
    return plain


def is_same(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a study of the configuration ``stored`` may go on as ``wanted``: only seeds, or a search's budget, have grown."""
    grows = (SEEDS, budget_of(wanted)) if wanted["sampler"] == "edges" else (SEEDS,)
    return {**stored, **{option: max(stored[option], wanted[option]) for option in grows if option in stored}} == wanted


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Options, with dots where they are nested, in which two configurations differ, and what was and is now."""
    for key in sorted({*stored, *wanted}):
        was, now = stored.get(key), wanted.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from differences(was, now, f"{prefix}{key}.")
        elif was != now:
            yield f"{prefix}{key}", f"was {was!r}, now {now!r}"
