"""The facts of one run, and the names and steps under which they are kept."""

import math
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MAX_POINTS = 200  # heights of a run: enough for any curve on a page, small enough to store as one attribute
POINTS_PER_EPOCH = 4
EPOCHS_OF_STREAM = 10  # for that matter, of a run that is limited by steps alone
PREFIXES = {"val": r"^(val|valid|validation)[_/.-]", "train": r"^(train|training)[_/.-]"}


def probe_steps(steps_per_epoch: int, epochs: int, *, most: float = math.inf) -> list[int]:
    """Steps (updates done) at which the height is measured: 0, 1, 2, 4, 8, ..., then evenly to the last, inclusive.

    At least four times an epoch where an epoch has that many steps. A run keeps at most about 200 points, so runs of more
    than 45 epochs or so are measured less often than that. most: steps that a run may take.

    >>> probe_steps(8, 2), probe_steps(8, 100, most=10)
    ([0, 1, 2, 4, 6, 8, 10, 12, 14, 16], [0, 1, 2, 4, 5, 6, 8, 9, 10])
    """
    last = int(min(steps_per_epoch * epochs, most))
    doubling = [0] + [2**k for k in range(last.bit_length()) if 2**k <= last]
    even = min(last, POINTS_PER_EPOCH * math.ceil(last / steps_per_epoch), MAX_POINTS - len(doubling))
    return sorted({*doubling, *(round(last * (i + 1) / even) for i in range(even))})


def metric_name(stage: str, name: str) -> str | None:
    """What a logged metric is called in our tables, or None for one that repeats another.

    ``val_`` or ``train_`` says where it was logged, whatever prefix the module gave it; of a metric that is logged both for a
    step and for the epoch the epoch's is kept, of several validation loaders the first has no suffix.

    >>> metric_name("val", "valid/loss"), metric_name("val", "val_acc_epoch"), metric_name("train", "accuracy")
    ('val_loss', 'val_acc', 'train_accuracy')
    """
    bare = name.removesuffix("/dataloader_idx_0")
    if bare.endswith("_step"):
        return None
    bare = re.sub(PREFIXES[stage], "", bare.removesuffix("_epoch"))
    return f"{stage}_{bare}"


class Record:
    """The facts of one run, filled in the order they happen.

    Step t is the state after t updates: the height at step t and the minibatch loss at step t belong to the same weights, and
    what a batch leaves in weights and buffers belongs to the step after it. An update is a training batch that ended in a step
    of the optimizer, or of several.

    Attributes:
        curves: metric name to list of (step, value); ``height``, ``minibatch_loss``, and every metric the module logs, under
            the name ``metric_name`` gives it. A run that turned non-finite ends its ``height`` with inf at that step.
        nonfinite_at: the first step whose loss, weights (buffers too, such as the averages of batch norm) or height were not
            finite; None if all were.
        step, batches, examples: updates done, batches and examples seen.
        validation_examples: examples of the last validation, 0 when there was none.
        highest_learning_rates: that each parameter group stepped with, of those that there were at the start.
        ended_by: who ended the run before its budget, "" where nobody did or it turned non-finite.
        loss_as_at_start: the last height, with the numbers that the module had at the start in place of those it has at the
            end; None where that is the same.
        steps: at which the height is measured; ``plan`` sets them unless they were given.
        is_over: told the epochs and heights so far at each measurement but the first and the last, whether the run may end
            there; None lets it go on. was_cut: whether it said so.
    """

    is_over: Callable[[Floats, Floats], bool] | None = None
    was_cut = False

    def __init__(self, steps: Iterable[int] | None = None) -> None:
        self.curves: dict[str, list[tuple[int, float]]] = {"height": [], "minibatch_loss": []}
        self.nonfinite_at: int | None = None
        self.step = self.batches = self.examples = 0
        self.validation_examples = 0
        self.highest_learning_rates: list[float] = []
        self.ended_by = ""
        self.loss_as_at_start: float | None = None
        self.steps: frozenset[int] = frozenset(steps or ())
        self._given = steps is not None
        self._batches_per_epoch = math.inf
        self._before = (0, 0)  # batches and epochs of loaders that were of another length

    @property
    def epochs(self) -> float:
        """Passes over the training set; of a stream without length the first pass counts as one, however far it came."""
        batches, epochs = self._before
        here = self.batches - batches
        return epochs + here / (self._batches_per_epoch if math.isfinite(self._batches_per_epoch) else max(here, 1))

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come: it is not finite any more, or was cut."""
        return self.nonfinite_at is not None or self.was_cut

    @property
    def is_due(self) -> bool:
        """Whether the height is to be measured now."""
        return self.step in self.steps and self.nonfinite_at is None

    def plan(self, batches_per_epoch: float, epochs: int, *, accumulated: int = 1, most: float = math.inf) -> None:
        """Set when to measure.

        batches_per_epoch: inf while it is not known; accumulated: batches an update; most: updates that a run may take.
        """
        self._batches_per_epoch = batches_per_epoch
        if self._given:
            return
        if math.isfinite(batches_per_epoch):
            self.steps = frozenset(probe_steps(math.ceil(batches_per_epoch / accumulated), epochs, most=most))
        elif math.isfinite(most):
            self.steps = frozenset(probe_steps(math.ceil(most / EPOCHS_OF_STREAM), EPOCHS_OF_STREAM, most=most))
        else:
            self.steps = frozenset({0, *(2**k for k in range(40))})

    def plan_again(self, batches_per_epoch: int, epoch: int, epochs: int, *, accumulated: int = 1) -> None:
        """Set when to measure from here on, at the start of ``epoch``, where the loader is of another length than before."""
        self._before, self._batches_per_epoch = (self.batches, epoch), batches_per_epoch
        if not self._given:
            further = probe_steps(math.ceil(batches_per_epoch / accumulated), epochs - epoch)
            self.steps = frozenset({*(step for step in self.steps if step <= self.step), *(self.step + s for s in further)})

    def stepped_with(self, learning_rates: Sequence[float]) -> None:
        """Learning rates of a step, of the parameter groups that there were at the start."""
        self.highest_learning_rates = [*map(max, self.highest_learning_rates, learning_rates)]

    def saw(self, examples: int, loss: float | None) -> None:
        """A training batch was seen; loss: None when the module skipped it."""
        self.batches += 1
        self.examples += examples
        if loss is None or (self.step not in self.steps and math.isfinite(loss)):
            return
        points = self.curves["minibatch_loss"]
        if not points or points[-1][0] < self.step:  # of several batches accumulated into one update the first
            points.append((self.step, loss))
        if not math.isfinite(loss):
            self._stop(self.step)

    def stepped(self, finite: bool) -> None:
        """An update was done; finite: whether all weights are."""
        self.step += 1
        self.looked(finite)

    def looked(self, finite: bool) -> None:
        """The weights were looked at; finite: whether all are."""
        if not finite:
            self._stop(self.step)

    def measured(self, height: float) -> None:
        """The height of the weights as they are."""
        if not math.isfinite(height):
            self._stop(self.step)
            return
        points = self.curves["height"]
        points.append((self.step, height))
        if self.is_over is not None:
            steps, heights = np.array(points, dtype=float).T
            self.was_cut = 0 < self.step < max(self.steps) and self.is_over(steps * self.epochs / self.step, heights)

    def keep(self, stage: str, name: str, value: float) -> None:
        """A metric logged in ``val`` or ``train``; a run that is no longer finite has none (its accuracy would be a number)."""
        ours = metric_name(stage, name)
        if ours is not None and self.nonfinite_at is None:
            points = self.curves.setdefault(ours, [])
            if points and points[-1][0] == self.step:  # of loss and loss_epoch the latter
                points.pop()
            points.append((self.step, value))

    def _stop(self, step: int) -> None:
        if self.nonfinite_at is None:
            self.nonfinite_at = step
            self.curves["height"] = [point for point in self.curves["height"] if point[0] < step] + [(step, math.inf)]
