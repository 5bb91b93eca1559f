"""Walks on the hill of any module: weights kept along runs, the plane that lies nearest to them, heights in that plane."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_modules.height import Height, Probe
from lightning_modules.record import Record
from lightning_modules.recorder import make_lazy_layers

MOST_POINTS, FEWEST_POINTS = 64, 8  # of a path: more cannot be seen, fewer are no path
MOST_BYTES = 2e9  # of all weights that are kept: 11 points on each of four paths of a ResNet-18
MEMORY_SHARE = 0.5  # of what is free, at most; the rest is for training
ROUNDING = 1e-12  # of the largest sum of squares: a direction with less is none
CHUNK = 2**18  # weights taken from every point at once: with 256 points half a gigabyte in double precision

Floats = npt.NDArray[np.float64]


def points_that_fit(point: Tensor, n_paths: int) -> int:
    """How many points of each path can be kept; point: one of them, as ``PathKeeper`` keeps it.

    Raises ValueError when they are fewer than ``FEWEST_POINTS``, and when there are too few weights for a plane.
    """
    if len(point) < 2:
        raise ValueError(f"a landscape must have at least 2 weights that are trained, got {len(point)}")
    room = min(MOST_BYTES, MEMORY_SHARE * psutil.virtual_memory().available)
    found = int(room / (point.nbytes * n_paths))
    if found < FEWEST_POINTS:
        raise ValueError(
            f"a landscape must keep at least {FEWEST_POINTS} points of each path in {room / 1e9:.2g} GB, and the weights of"
            f" this module take {point.nbytes / 1e9:.2g} GB at each point of {n_paths} paths"
        )
    return min(found, MOST_POINTS)


def walk_steps(last: int, n_points: int) -> list[int]:
    """At most ``n_points`` steps from 0 to ``last``, both among them: all where they are so few, else half of them evenly
    spaced and half evenly on a log scale, because most of the way is gone in the first steps.

    >>> walk_steps(3, 8), walk_steps(100, 8)
    ([0, 1, 2, 3], [0, 1, 5, 22, 33, 67, 100])
    """
    if last < n_points:
        return list(range(last + 1))
    even, doubling = np.linspace(0, last, n_points // 2), np.geomspace(1, last, n_points - n_points // 2)
    return sorted({round(step) for step in (*even.tolist(), *doubling.tolist())})


class PathKeeper(pl.Callback):
    """Keeps the weights of a run wherever its height is measured and finite.

    Args:
        record: of a ``Recorder`` of the same fit that is called before.

    Attributes:
        steps: of the points, ascending from 0.
        points: the weights that are trained when the run starts, in one vector on the CPU each.
        names: of these weights, in their order.
        rest: by name the other weights and the buffers, such as averages of batch norm, as they are at the end of the run.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.steps: list[int] = []
        self.points: list[Tensor] = []
        self.names: list[str] = []
        self.rest: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the start."""
        self.names = [name for name, weight in pl_module.named_parameters() if weight.requires_grad]
        self._keep(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the point that was just measured, if one was."""
        self._keep(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the end, and what is not trained."""
        self._keep(pl_module)
        self.rest = {name: each.detach().cpu().clone() for name, each in _held(pl_module).items() if name not in self.names}

    def _keep(self, module: pl.LightningModule) -> None:
        step, height = self.record.curves["height"][-1]
        if step == self.record.step and math.isfinite(height) and (not self.steps or step > self.steps[-1]):
            weights = dict(module.named_parameters())
            self.steps.append(step)
            self.points.append(torch.cat([weights[name].detach().reshape(-1).cpu() for name in self.names]))


class Heights(pl.Callback):
    """Measures the height at given weights when a fit starts, and ends the fit before its first step.

    Args:
        probe: as for ``Recorder``; its batches are evaluated on the Trainer's device, in its precision.
        keeper: whose points and ``rest`` these are; it may begin in the same fit, before this.
        points: vectors as ``keeper`` keeps them.
        monitor, mode: see ``height.mean_loss``.

    Attributes:
        heights: in the order of ``points``, inf where they are not finite.
        seconds: that each of them took.
    """

    def __init__(
        self,
        probe: Probe | Sequence[Any],
        keeper: PathKeeper,
        points: Iterable[Tensor],
        *,
        monitor: str | None = None,
        mode: str = "min",
    ) -> None:
        self._height, self._keeper, self._points = Height(probe, monitor=monitor, mode=mode), keeper, points
        self.heights: list[float] = []
        self.seconds: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure them all."""
        self._height.begin(trainer, pl_module)
        make_lazy_layers(pl_module, self._height)
        held = _held(pl_module)
        _put(self._keeper.rest.values(), [held[name] for name in self._keeper.rest])
        weights = [held[name] for name in self._keeper.names]
        sizes = [weight.numel() for weight in weights]
        for point in self._points:
            began = time.perf_counter()
            _put(torch.split(point, sizes), weights)
            height = self._height(pl_module)
            self.heights.append(height if math.isfinite(height) else math.inf)
            self.seconds.append(time.perf_counter() - began)
        trainer.should_stop = True


def _held(module: pl.LightningModule) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@torch.no_grad()
def _put(values: Iterable[Tensor], places: Sequence[Tensor]) -> None:
    for value, place in zip(values, places, strict=True):
        place.copy_(value.view(place.shape))


@dataclass(frozen=True)
class Plane:
    """A plane in the space of weights.

    origin: the point at (0, 0), shape (n_weights,). directions: shape (2, n_weights), of length 1 and at right angles.
    shares: of the variance of the points it was fitted to, what lies along each direction.
    """

    origin: Tensor
    directions: Tensor
    shares: tuple[float, float]

    def at(self, x: float, y: float) -> Tensor:
        """The weights at a place in the plane, shape (n_weights,)."""
        first, second = self.directions
        return self.origin.add(first, alpha=x).add_(second, alpha=y)

    def locate(self, points: Sequence[Tensor]) -> Floats:
        """Places in the plane, shape (n_points, 2): of each point the nearest one."""
        places = np.zeros((len(points), 2))
        for part in _parts(len(self.origin)):
            places += (_differences(points, self.origin, part) @ self.directions[:, part].double().T).numpy()
        return places


def fit_plane(points: Sequence[Tensor], origin: Tensor) -> Plane:
    """The plane through ``origin`` that lies nearest to ``points``: their first two principal directions.

    As Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", section 7, who take the first two principal directions
    of the differences between the points of one path and its end. We differ in two things. Here are the points of several
    paths that start together, as differences to the end of one of them. And their mean is not taken out, so that the plane
    goes through ``origin`` exactly and lies nearest to the points among the planes that do; ``shares`` are of the variance
    all the same (their code centres the points, and plots the plane through the end). As there, filters are not normalised:
    that is for random directions, and these have the scale of the paths.

    It is found from the products of the points with each other, so that nothing larger than the points themselves is ever
    made. It is turned so that the first point lies to the left of the origin and most of the others above it.

    Args:
        points: vectors of one length, at least 2; origin: likewise.

    Raises ValueError when they are all the same.
    """
    n_weights = len(origin)
    products = torch.zeros(len(points), len(points), dtype=torch.float64)
    for part in _parts(n_weights):
        differences = _differences(points, origin, part)
        products += differences @ differences.T
    values, vectors = (found.flip(-1) for found in torch.linalg.eigh(products))  # largest first
    variance = products.trace() - products.sum() / len(points)  # times the number of points
    if not variance > 0:
        raise ValueError("a landscape must have a path that leads somewhere, got points that are all the same")
    lengths = values[: 1 + int(len(values) > 1 and values[1] > ROUNDING * values[0])].sqrt()
    kept = vectors[:, : len(lengths)] / lengths
    directions = torch.zeros(2, n_weights, dtype=torch.float64 if origin.dtype == torch.float64 else torch.float32)
    for part in _parts(n_weights):
        directions[: len(lengths), part] = (kept.T @ _differences(points, origin, part)).to(directions.dtype)
    if len(lengths) == 1:  # all points lie on one line: any direction at right angles to it will do
        axis = int(directions[0].abs().argmin())
        directions[1] = -directions[0, axis] * directions[0]
        directions[1, axis] += 1
        directions[1] /= directions[1].norm()
    if vectors[0, 0] > 0:
        directions[0] *= -1
    if len(lengths) == 2 and vectors[:, 1].sum() < 0:
        directions[1] *= -1
    places = vectors[:, : len(lengths)] * lengths
    first, second = (*((places - places.mean(0)).square().sum(0) / variance).tolist(), 0.0)[:2]
    return Plane(origin, directions, (first, second))


def _parts(n_weights: int) -> Iterable[slice]:
    return (slice(start, start + CHUNK) for start in range(0, n_weights, CHUNK))


def _differences(points: Sequence[Tensor], origin: Tensor, part: slice) -> Tensor:
    return torch.stack([point[part] for point in points]).double() - origin[part].double()
