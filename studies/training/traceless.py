"""A study in the midst of somebody's program, which finds its random numbers, environment and logs as it left them."""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.utilities.seed import isolate_rng

from lightning_modules.checkpoint import own_generators, put_state, state_of
from studies.training.classes import PACKAGES

OF_SEEDS = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")  # where Lightning keeps what its ``seed_everything`` was told


@contextmanager
def traceless(owners: Iterable[Any]) -> Iterator[None]:
    """Put back what a study changes beside its own: random numbers, Lightning's seeds and how much Lightning logs.

    owners: modules, datamodules and loaders, whose generators of random numbers are put back too.
    """
    generators = [(generator, state_of(generator)) for generator in own_generators(owners)]
    levels = [(log, log.level) for log in map(logging.getLogger, PACKAGES)]
    seeds = {name: os.environ.get(name) for name in OF_SEEDS}
    try:
        with isolate_rng():
            yield
    finally:
        for generator, state in generators:
            put_state(generator, state)
        for log, level in levels:
            log.setLevel(level)
        for name, value in seeds.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
