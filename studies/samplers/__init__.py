"""The family of samplers: who chooses the learning rates and batch sizes of a study. A new one is a file and an entry here.

Each file has ``plan(config)``, the runs of the finished study in the order in which they are trained, none where they are
chosen as it goes; ``more(study, config, thresholds, steps_per_epoch, n, seconds, is_left_out)``, what to train next by what was
trained, for one that plans so, about ``n`` runs, after so many seconds of this launch, without those that failed in it; and
``make(name, n_trials)``, Optuna's sampler, which is asked for whatever is not planned.
"""

from importlib import import_module
from typing import Any

SAMPLERS = {"edges": "edges", "grid": "grid", "tpe": "free", "random": "free", "qmc": "free"}
"""Names, and the file of each."""


def sampler_of(name: str) -> Any:
    """The file behind a name."""
    return import_module(f"{__name__}.{SAMPLERS[name]}")
