"""The curve of one run from a CSV file, as Lightning, TensorBoard, Weights & Biases, Keras, fastai, YOLO and others write."""

import codecs
import csv
import re
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from reports.errors import BadInput

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
NEVER = "\x1f"  # a separator that no file has, so that a line is one cell
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zip": "zip", ".xz": "xz", ".zst": "zstd"}
NOT_LOGGED = ("", "na", "no log")  # NA: Keras; no log: the tables of Hugging Face in notebooks
OF_TRAINING = "(_|time_|train_|trainer_|training_)?"
STEP_COLUMNS = (  # patterns of keys, the best first
    "(.+_)?global_steps?",  # before W&B's _step, which counts what was logged
    "steps?",
    f"{OF_TRAINING}(steps?|(total_)?timesteps?)",
    f"{OF_TRAINING}(iterations?|iters?|(num_)?updates?)",
    "_?batch(es|_idx)?",
    f"{OF_TRAINING}epochs?",
)
LOSS_COLUMNS = (  # keys, the finest first; train_loss_step and the like are Lightning's
    "train_loss_step",
    "loss_step",
    "train_loss",
    "loss_train",
    "train_loss_epoch",
    "loss_epoch",
)
BESIDE = ".*(time(stamp)?(_.+)?|date|elapsed|duration|seconds?|_min|_max)"  # when it was; the companions of W&B's columns
NO_LOSS = "(.+_)?(acc|accuracy|lr|learning_rate)(_.+)?"


def read_curve(path: str | Path, loss_column: str | None = None) -> pd.DataFrame:
    """The columns ``step`` and ``loss`` of a CSV file that is separated by commas, semicolons or tabs: what line 1 has most of.

    A blank cell is a loss that was not logged and is left out; the text nan or inf is a loss that was not finite. The step is
    that of a column of steps, iterations or batches, else of epochs, else of an unnamed first column, as pandas writes its
    index, and without all of these the number of the row, from 0. A column with gaps beside losses comes after one without.

    loss_column: as it stands in the file; spaces around it, case and W&B's name of the run do not matter if one column is
    meant. By default ``loss``, the only column that can be one (times, accuracies, learning rates and what ends in min or max
    cannot), or the loss of training under its usual names.

    Raises ValueError, one sentence, for what is no such file, and if it is not clear which column is meant.
    """
    path = Path(path)
    if path.is_dir() or not path.exists():
        raise BadInput(f"run must be a CSV file, got {'a folder' if path.is_dir() else 'no file'} at '{path}'")
    content = path.read_bytes()  # once, it may be a pipe
    try:
        table, separator = read_cells(content, COMPRESSIONS.get(path.suffix.lower()))
    except Exception as error:  # what pandas raises depends on where the file breaks
        raise BadInput(f"run must be a CSV file with a line of column names, got '{path}': {error}") from error
    names = [name.strip() for name in table.iloc[0]]
    if all(name == "" or _is_number(name) for name in names):
        raise BadInput(f"run must start with a line of column names, got {', '.join(names)}")
    counters = _counters(names)
    loss = _loss_column(names, counters, given=loss_column, separator=separator)
    cells = table.loc[1:, [*counters, loss]].reset_index(drop=True).apply(lambda column: column.str.strip())
    logged = cells[~cells[loss].str.casefold().isin(NOT_LOGGED)]
    if logged.empty:
        raise BadInput(f"column {names[loss]!r} must hold at least one number, got none in {len(cells)} rows")
    step = min(counters, key=lambda at: ((logged[at] == "").any(), logged[at].nunique() == 1), default=None)
    used = [loss] if step is None else [step, loss]
    comma = None if separator == "," else next((cell for cell in logged[used].to_numpy().flat if "," in cell), None)
    numbers = pd.DataFrame({at: _numbers(logged[at], names[at], comma) for at in used})
    if step is None:
        return pd.DataFrame({"step": logged.index.astype(float), "loss": numbers[loss]})
    _require_one_run(numbers[step], logged[counters], names[step])
    return pd.DataFrame({"step": numbers[step], "loss": numbers[loss]})


def read_cells(content: bytes, compression: str | None) -> tuple[pd.DataFrame, str]:
    """All cells as text, the names as the first row, and the separator."""
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # Excel's "Unicode text"
    if b"\0" in content and not (utf16 or compression):
        raise BadInput("there are zero bytes in it, as in no text")

    def read(**options: Any) -> pd.DataFrame:
        return pd.read_csv(
            BytesIO(content),
            header=None,
            dtype=str,
            keep_default_na=False,
            skipinitialspace=True,
            encoding="utf-16" if utf16 else "utf-8-sig",
            compression=compression,
            **options,
        )

    line = read(sep=NEVER, quoting=csv.QUOTE_NONE, nrows=1).iloc[0, 0]
    separator = max(SEPARATORS, key=re.sub('"[^"]*"', "", line).count)
    said = line.startswith("sep=")  # Excel's line that says the separator
    return read(sep=separator, skiprows=int(said)), separator


def key_of(name: str) -> str:
    """The name in small letters without W&B's name of the run, every sign between words an underscore."""
    key = re.sub(r"[\W_]+", "_", _metric(name).casefold()).removesuffix("_")
    return re.sub("(^|_)training_loss", r"\1train_loss", key)


def _metric(name: str) -> str:
    return name.rpartition(" - ")[2]  # "fast-owl-7 - train/loss" in an export of W&B


def _counters(names: Sequence[str]) -> list[int]:
    """Where the columns that count steps are, the best first."""
    keys = [key_of(name) for name in names]
    found = [at for pattern in STEP_COLUMNS for at, key in enumerate(keys) if re.fullmatch(pattern, key)]
    return list(dict.fromkeys([*found, *([0] if names[0] == "" else [])]))


def _loss_column(names: Sequence[str], counters: Sequence[int], *, given: str | None, separator: str) -> int:
    """Where the loss is."""
    others = [at for at, name in enumerate(names) if name and at not in counters]
    found = _chosen(names, others) if given is None else _named(names, others, given)
    if len(found) == 1:
        return found[0]
    listed, meant = ", ".join(names[at] for at in others) or "none", " and ".join(names[at] for at in found)
    if given is None:
        why = f"{meant} may be it" if found else "no column is called loss"
        told = f"; the file is read as separated by {SEPARATORS[separator]}"
        raise BadInput(f"loss_column must be given: {why}, the columns are {listed}{told}")
    if found:
        raise BadInput(f"loss_column must mean one column, got {given!r}, which fits {meant}")
    raise BadInput(f"loss_column must be one of {listed}; got {given!r}")


def _chosen(names: Sequence[str], others: Iterable[int]) -> list[int]:
    """The columns that may be the loss as far as their names tell."""
    keys = {at: key_of(names[at]) for at in others}
    able = [at for at, key in keys.items() if not re.fullmatch(BESIDE, key)]
    alone = [at for at in able if len(able) == 1 and not re.fullmatch(NO_LOSS, keys[at])]
    loss, *others_called = ([at for at in able if keys[at] == key] for key in ("loss", *LOSS_COLUMNS))
    return next(filter(None, [loss, alone, *others_called]), [])


def _named(names: Sequence[str], others: Sequence[int], given: str) -> list[int]:
    """The columns that have the given name, to the letter if one has."""
    wanted = given.strip().casefold()
    exact = [at for at in others if names[at] == given]
    return exact or [at for at in others if wanted in (names[at].casefold(), _metric(names[at]).casefold())]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(cells: pd.Series, name: str, comma: str | None) -> list[float]:
    """The cells as numbers. comma: a cell with a decimal comma, so that a point is none."""
    swap = str.maketrans(",.", ".,") if comma else {}
    for cell in cells:
        if not _is_number(cell.translate(swap)):
            rule = f" with a decimal comma, as in {comma!r}, and no mark between thousands" if comma else ""
            raise BadInput(f"column {name!r} must hold numbers{rule}, got {cell!r}")
    return [float(cell.translate(swap)) for cell in cells]


def _require_one_run(steps: pd.Series, counters: pd.DataFrame, name: str) -> None:
    """Refuse steps that do not order the losses: all the same, or begun again, at their first value or whenever another rises.

    counters: the cells of all columns that count, of the rows of ``steps``.
    """
    must = f"column {name!r} must count through one run, got"
    if len(steps) > 1 and steps.nunique() == 1:
        raise BadInput(f"{must} {steps[0]:g} beside all {len(steps)} losses")
    falls = steps.diff() < 0
    again = falls & (steps == steps[0])
    for column in counters:
        rises = pd.to_numeric(counters[column].reset_index(drop=True), errors="coerce").diff() > 0
        if rises.any() and falls[rises].all():  # the epoch, beside a count of batches
            again |= rises
    if again.any():
        at = int(again.idxmax())
        why = "it counts within an epoch, or the file holds several runs"
        raise BadInput(f"{must} {steps[at]:g} after {steps[at - 1]:g}: {why}")
