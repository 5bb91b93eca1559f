"""Studies of many runs without training: each run is made to get a verdict, and stored as a study stores its own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

SEEDS, EPOCHS, N_TRAIN = 30, 10, 5_000  # of a synthetic study
FASTEST = {16: 0.1, 64: 0.2, 256: 0.4}  # middle of the good range, by batch size
START, FLOOR, TIME = 2.3, 0.1, 1.0  # untrained height, lowest height, and the epochs the fastest takes to the bottom
EDGES = (-0.2 - math.log10(3), 0.6, 1.2)  # in decades from the middle: three times the time; hovers; turns non-finite
WORDS = ("too low", "good", "too high", "divergent")


def store_synthetic(n: int, folder: Path, *, name: str = "") -> None:
    """Store what is missing of a study of ``n`` synthetic runs in ``folder``: about 20 ms a run. name: ``n`` unless given."""
    import numpy as np
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.trial import create_trial

    from studies.storage.opening import open_storage
    from studies.storage.stored import attributes_of

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(f"sqlite:///{folder / f'{n}.db'}")
    study = optuna.create_study(study_name=name or str(n), storage=storage, load_if_exists=True)
    rates = np.geomspace(0.001, 30, max(-(-n // (SEEDS * len(FASTEST))), 10)).tolist()
    cells = [(rate, size, seed) for seed in range(SEEDS) for size in FASTEST for rate in rates][:n]
    space = {"learning_rate": FloatDistribution(rates[0], rates[-1], log=True), "seed": IntDistribution(0, SEEDS - 1)}
    space |= {"batch_size": CategoricalDistribution(tuple(FASTEST))}
    random = np.random.default_rng([n, *name.encode()])
    for rate, size, seed in cells[len(study.get_trials(deepcopy=False)) :]:
        run, verdict = synthetic_run(rate, size, seed, random=random)
        params = {"learning_rate": rate, "batch_size": size, "seed": seed}
        study.add_trial(
            create_trial(
                params=params,
                distributions=dict(space),
                value=run.value,
                user_attrs=attributes_of(run),
                system_attrs={"fixed_params": params, "made": verdict},
            )
        )


def synthetic_run(rate: float, batch_size: int, seed: int, *, random: Any) -> tuple[Any, str]:
    """A run as training returns it, and the verdict it was made to get; its seed moves the edges by 0.05 decades or so."""
    import numpy as np

    from reports import final_height
    from studies import Run

    place = math.log10(rate / FASTEST[batch_size]) + random.normal(0, 0.05)
    verdict = WORDS[sum(place > edge for edge in EDGES)]
    an_epoch = N_TRAIN // batch_size
    total = EPOCHS * an_epoch
    steps = np.unique(np.concatenate([[0, 1, 2, 4, 8, 16], np.linspace(0, total, 45).round()]).astype(int))
    progress = 1 - 0.1 ** (steps / an_epoch / (TIME * 10 ** max(-0.2 - place, 0)))
    if verdict == "too high":
        progress = np.minimum(progress, 0.6) - random.uniform(0, 0.2, len(steps)) * (steps > 0)
    heights = (START - (START - FLOOR) * progress) * random.normal(1, 0.002, len(steps))
    bad = None
    if verdict == "divergent":
        bad = int(steps[random.integers(3, 12)])
        steps = steps[steps <= bad]
        heights = np.where(steps < bad, START * 10.0 ** np.arange(len(steps)), math.inf)
    done = bad or total
    validated = np.arange(an_epoch, done + 1, an_epoch)
    losses = np.interp(validated, steps, heights) + 0.05 + 0.01 * np.arange(len(validated))
    curves = {
        "height": (steps.tolist(), heights.tolist()),
        "minibatch_loss": (steps[:-1].tolist(), (heights[:-1] * random.normal(1, 0.1, len(steps) - 1)).tolist()),
        "val_accuracy": (validated.tolist(), np.exp(-losses / 2).tolist()),
        "val_loss": (validated.tolist(), losses.tolist()),
    }
    curves = {name: points for name, points in curves.items() if points[0]}
    final = final_height(steps.astype(float), heights)
    run = Run(
        learning_rate=rate,
        batch_size=batch_size,
        seed=seed,
        epochs=done / an_epoch,
        steps=done,
        examples=done * batch_size,
        seconds=0.001 * done,
        nonfinite_at=bad,
        first_height=float(heights[0]),
        final_height=final,
        validation_examples=450,
        value=math.inf if bad else float(losses[-1]),
        metrics={} if bad else {name: curves[name][1][-1] for name in ("val_accuracy", "val_loss")},
        curves=curves,
    )
    return run, verdict
