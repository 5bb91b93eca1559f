"""A run that is killed goes on from its last whole epoch: what it has reached, kept in one file that Lightning resumes from."""

import io
import logging
import os
import random
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.serialization import get_unsafe_globals_in_checkpoint
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_modules.recorder import Recorder

logger = logging.getLogger(__name__)

KEY = "learning_rate_study"  # of what a file holds beside Lightning's own
ARGUMENTS = ("hyper_parameters", "datamodule_hyper_parameters")  # objects of any kind; a run builds its module anew
GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
HOLDERS = (nn.Module, DataLoader, Dataset, Sampler)  # whose attributes may be generators


class CheckpointNotWritten(OSError):
    """A checkpoint could not be written, such as to a full disk; ``filename`` is where. It is no fault of the module's."""


def checkpoint_file(folder: Path, learning_rate: float, batch_size: int, seed: int) -> Path:
    """Where the checkpoint of a run is.

    >>> print(checkpoint_file(Path("checkpoints"), 0.1 + 0.2, 32, 0))
    checkpoints/bs32_lr0.30000000000000004_s0.ckpt
    """
    return folder / f"bs{batch_size}_lr{float(learning_rate)!r}_s{seed}.ckpt"


class RunCheckpoint(pl.Callback):
    """Saves a run after each of its epochs but the last, and takes up one that was saved, as if it had never stopped.

    What a run draws at random, its order of examples and its record go on where they were, to the bit on a CPU. Not kept is
    what a module, loader or data set holds in attributes other than weights, buffers and generators of random numbers. It is
    to stand after the recorder and before the user's callbacks: they begin the epoch after it was saved, and again when it is
    taken up.

    Args:
        file: of this run alone.
        recorder: of the run.
        of: tells this run and its settings from all others; a file of another is not used.
        anew: do not look for a file.

    Attributes:
        resuming: whether ``file`` is to be given to ``Trainer.fit`` and has not been taken up yet.

    Fits raise CheckpointNotWritten when the file cannot be written.
    """

    def __init__(self, file: Path, recorder: Recorder, *, of: str, anew: bool = False) -> None:
        self.file = file
        self._recorder = recorder
        self._of = of
        self._began, self._seconds_before = time.perf_counter(), 0.0
        self._stored: dict[str, Any] = {}
        self._keeps = True
        self.resuming = not anew and self._is_usable()

    @property
    def seconds(self) -> float:
        """Spent on the run so far, also before it was taken up."""
        return self._seconds_before + time.perf_counter() - self._began

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Lightning takes up its own part; ours waits for the first epoch."""
        if self.resuming:
            self._stored = checkpoint[KEY]
            self._recorder.go_on_from(self._stored["record"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what the epochs before came to, all of whose metrics and schedulers are done only now; or take it up."""
        if self.resuming:
            self._take_up(trainer, pl_module)
        elif trainer.current_epoch > 0 and self._keeps:
            self._save(trainer)

    def _take_up(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: value.to(pl_module.device) for name, value in self._stored["metrics"].items()}
        trainer.callback_metrics.update(metrics)  # what plateau schedulers and early stopping may wait for
        for generator, state in zip(_generators(trainer), self._stored["random"], strict=True):
            put_state(generator, state)
        # Lightning has begun the epoch's pass over the data already, with other random numbers: let it begin again.
        trainer.fit_loop._resuming_from_checkpoint = False
        trainer.fit_loop._last_train_dl_reload_epoch = self._stored["loaders_made"]
        self._seconds_before = self._stored["seconds"]
        self._stored, self.resuming = {}, False

    def _save(self, trainer: pl.Trainer) -> None:
        content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        for name in ARGUMENTS:
            content.pop(name, None)
        for count in content["loops"]["fit_loop"]["epoch_progress"].values():
            count["ready"] = count["started"]  # of the epoch that begins nothing has happened
        content[KEY] = {
            "of": self._of,
            "seconds": self.seconds,
            "record": self._recorder.progress(),
            "loaders_made": trainer.fit_loop._last_train_dl_reload_epoch,
            "metrics": {name: value.detach().cpu() for name, value in trainer.callback_metrics.items()},
            "random": [state_of(generator) for generator in _generators(trainer)],
        }
        packed = io.BytesIO()
        try:
            torch.save(content, packed)
            packed.seek(0)
            unsafe = ", ".join(sorted(get_unsafe_globals_in_checkpoint(packed)))
        except Exception as error:  # whatever an object of the user's raises when it is to be pickled
            unsafe = f"{type(error).__name__}: {error}"
        if unsafe:
            self._keeps = False
            logger.warning("the run is not kept in checkpoints: its state holds what cannot be read back safely (%s)", unsafe)
        else:
            _write(self.file, packed)

    def _is_usable(self) -> bool:
        """Whether there is a file, whole and of this run; says so where it is not usable."""
        try:
            with zipfile.ZipFile(self.file) as parts:
                damaged = parts.testzip()  # PyTorch itself does not look at the checksums it writes
            reason = f"{damaged} is damaged" if damaged else ""
            if not reason and torch.load(self.file, map_location="cpu", weights_only=True)[KEY]["of"] != self._of:
                reason = "it is of other settings"
        except (FileNotFoundError, NotADirectoryError):
            return False
        except Exception as error:  # zipfile, pickle and PyTorch have many names for damage
            reason = f"{type(error).__name__}: {error}"
        if reason:
            logger.warning("checkpoint %s is not used, the run starts over: %s", self.file, reason)
        return not reason


def _write(file: Path, content: io.BytesIO) -> None:
    """Whole or not at all, whenever the process is killed.

    Raises CheckpointNotWritten.
    """
    part = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        sys.audit("lr_study.write", "checkpoint")
        with part.open("wb") as out:
            out.write(content.getbuffer())
            out.flush()
            os.fsync(out.fileno())
        sys.audit("lr_study.write", "checkpoint")
        os.replace(part, file)
    except OSError as error:
        raise CheckpointNotWritten(error.errno, error.strerror, str(file)) from error


def _generators(trainer: pl.Trainer) -> list[Any]:
    """Whatever a run may draw from, in the same order each time: what is global, and what module and data have of their own."""
    cuda = torch.cuda.default_generators  # none before its first use
    loaders = trainer.fit_loop._combined_loader
    assert loaders is not None  # made before the first epoch
    owners = [trainer.lightning_module, getattr(trainer, "datamodule", None), *loaders.flattened]
    return [torch.default_generator, *cuda, np.random, random, *own_generators(owners)]


def own_generators(owners: Iterable[Any]) -> list[Any]:
    """Generators of random numbers that modules, datamodules and loaders hold, and their data sets and samplers."""
    return [*_held_generators(owners, set())]


def _held_generators(values: Iterable[Any], seen: set[int]) -> Iterator[Any]:
    for value in values:
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, GENERATORS):
            yield value
        elif hasattr(value, "__dict__"):
            parts = [*vars(value).values(), *(value.children() if isinstance(value, nn.Module) else ())]
            yield from _held_generators([part for part in parts if isinstance(part, (*GENERATORS, *HOLDERS))], seen)


def state_of(generator: Any) -> Any:
    """Of a generator, or a module of them, in types that are safe to read back."""
    if isinstance(generator, np.random.Generator):
        return _plain(generator.bit_generator.state)
    return _plain((generator.get_state if hasattr(generator, "get_state") else generator.getstate)())


def put_state(generator: Any, state: Any) -> None:
    """Put a generator back to what ``state_of`` gave."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        (generator.set_state if hasattr(generator, "set_state") else generator.setstate)(state)


def _plain(state: Any) -> Any:
    """NumPy's arrays as lists, at any depth."""
    if isinstance(state, dict):
        return {name: _plain(part) for name, part in state.items()}
    if isinstance(state, tuple):
        return tuple(_plain(part) for part in state)
    return state.tolist() if isinstance(state, np.ndarray) else state
