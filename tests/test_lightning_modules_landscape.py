"""Walks: weights kept where heights are measured, the plane against numpy's SVD, heights against formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import QUIET

from lightning_modules import ConvNet, Digits, ImageClassifier, Parabola, ParabolaData, Recorder, landscape
from lightning_modules.landscape import FEWEST_POINTS, MOST_POINTS, Heights, PathKeeper, fit_plane, points_that_fit, walk_steps

STEEP = (1.0, 10.0)


def walk(
    module: pl.LightningModule, data: pl.LightningDataModule, *, epochs: int, steps: list[int] | None = None
) -> PathKeeper:
    recorder = Recorder(data.probe_batches(), steps=steps)
    kept = PathKeeper(recorder.record)
    pl.Trainer(max_epochs=epochs, callbacks=[recorder, kept], **QUIET).fit(module, datamodule=data)
    return kept


def heights(
    module: pl.LightningModule, data: pl.LightningDataModule, of: PathKeeper, points: list[torch.Tensor]
) -> list[float]:
    measured = Heights(data.probe_batches(), of, points)
    trainer = pl.Trainer(max_epochs=1, callbacks=[measured], **QUIET)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 0
    assert len(measured.seconds) == len(points)
    return measured.heights


def points(n_points: int, n_weights: int) -> list[torch.Tensor]:
    scales = torch.logspace(0, -2, n_weights, dtype=torch.float64)
    noise = torch.randn(n_points, n_weights, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return list(noise * scales)


@pytest.mark.parametrize(("last", "n_points"), [(0, 8), (7, 8), (8, 8), (210, 64), (100_000, 64)])
def test_steps_of_a_walk_run_from_the_start_to_the_end(last: int, n_points: int) -> None:
    steps = walk_steps(last, n_points)
    assert (steps[0], steps[-1]) == (0, last)
    assert steps == sorted(set(steps)) and len(steps) <= n_points
    if last:
        assert steps[1] == 1


def nothing(n_weights: int) -> torch.Tensor:
    return torch.empty(n_weights, device="meta")


def test_points_are_as_many_as_fit() -> None:
    assert points_that_fit(nothing(2), 4) == MOST_POINTS
    assert FEWEST_POINTS <= points_that_fit(nothing(10_000_000), 4) < MOST_POINTS


@pytest.mark.parametrize(
    ("n_weights", "sentence"),
    [
        (10**11, r"a landscape must keep at least 8 points .* this module take 4e\+02 GB at each point of 4 paths"),
        (1, "a landscape must have at least 2 weights that are trained, got 1"),
    ],
    ids=["large", "one weight"],
)
def test_module_too_large_or_too_small_for_a_landscape_is_refused(n_weights: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        points_that_fit(nothing(n_weights), 4)


def test_walk_keeps_the_weights_wherever_the_height_was_measured() -> None:
    kept = walk(Parabola(STEEP, 0.05, start=(3.0, -2.0)), ParabolaData(8), epochs=2, steps=[0, 1, 5, 16])
    assert kept.steps == [0, 1, 5, 16]
    for step, point in zip(kept.steps, kept.points, strict=True):
        assert point.tolist() == pytest.approx([3 * 0.95**step, -2 * 0.5**step], rel=1e-12)
    assert {name: value.tolist() for name, value in kept.rest.items()} == {"eigenvalues": [1.0, 10.0]}


def test_walk_that_turns_non_finite_ends_before() -> None:
    kept = walk(Parabola((1.0, 10.0), 1e100), ParabolaData(8), epochs=1)
    assert kept.record.nonfinite_at is not None
    assert kept.steps[-1] < kept.record.nonfinite_at
    assert all(point.isfinite().all() for point in kept.points)


def test_weights_that_are_not_trained_stay_apart() -> None:
    module = ImageClassifier(ConvNet(batch_norm=True, width=2))
    frozen = next(module.parameters()).requires_grad_(False)
    kept = walk(module, Digits(batch_size=256), epochs=1, steps=[0])
    assert kept.names == [name for name, weight in module.named_parameters() if weight is not frozen]
    assert len(kept.points[0]) == sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
    assert any(value.shape == frozen.shape and torch.equal(value, frozen) for value in kept.rest.values())


def test_heights_follow_the_formula_and_no_step_is_taken() -> None:
    data, places = ParabolaData(8), [(1.0, 1.0), (0.0, 0.0), (-3.0, 0.5)]
    kept = walk(Parabola(STEEP), data, epochs=1)
    found = heights(Parabola(STEEP), data, kept, [torch.tensor(place, dtype=torch.float64) for place in places])
    assert found == pytest.approx([0.5 * (x * x + 10 * y * y) for x, y in places])


def test_height_that_is_not_finite_is_infinite() -> None:
    data = ParabolaData(8)
    kept = walk(Parabola(STEEP), data, epochs=1)
    assert heights(Parabola(STEEP), data, kept, [torch.tensor([1e200, math.nan], dtype=torch.float64)]) == [math.inf]


def test_height_at_the_end_of_a_walk_is_the_run_s_own_with_its_averages_of_batch_norm() -> None:
    data = Digits(batch_size=256)
    kept = walk(ImageClassifier(ConvNet(batch_norm=True, width=2), learning_rate=0.1), data, epochs=2)
    fresh = ImageClassifier(ConvNet(batch_norm=True, width=2), learning_rate=0.1)
    assert heights(fresh, data, kept, kept.points[-1:]) == pytest.approx([kept.record.curves["height"][-1][1]], rel=1e-6)


@pytest.mark.parametrize(("n_points", "n_weights"), [(5, 40), (40, 5), (2, 2), (30, 2)])
def test_plane_is_that_of_a_singular_value_decomposition(
    n_points: int, n_weights: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landscape, "CHUNK", 7)
    cloud = points(n_points, n_weights)
    origin = cloud[-1]
    differences = (torch.stack(cloud) - origin).numpy()
    _, _, directions = np.linalg.svd(differences, full_matrices=False)
    plane = fit_plane(cloud, origin)
    n_directions = min(n_points - 1, 2)  # the origin is one of the points
    around = differences - differences.mean(axis=0)
    variances = (around @ directions[:n_directions].T).var(axis=0) / around.var(axis=0).sum()
    assert plane.shares == pytest.approx((variances.tolist() + [0.0])[:2], abs=1e-12)
    places = plane.locate(cloud)
    assert np.abs(places[:, :n_directions]) == pytest.approx(
        np.abs(differences @ directions[:n_directions].T), rel=1e-9, abs=1e-9
    )
    assert (plane.directions @ plane.directions.T).numpy() == pytest.approx(np.eye(2), abs=1e-9)
    assert places[0, 0] < 0 <= places[:, 1].sum() + 1e-9


def test_plane_goes_through_its_origin_and_a_place_in_it_is_found_again() -> None:
    cloud = points(6, 20)
    plane = fit_plane(cloud, cloud[-1])
    assert torch.equal(plane.at(0.0, 0.0), cloud[-1])
    assert plane.locate([plane.at(0.3, -2.0)]) == pytest.approx(np.array([[0.3, -2.0]]))


def test_points_on_a_line_have_a_second_direction_at_right_angles() -> None:
    line = [torch.tensor([1.0, 2.0, 2.0]) * length for length in (1.0, 0.5, 0.0)]
    plane = fit_plane(line, line[-1])
    assert plane.shares == pytest.approx((1.0, 0.0))
    assert plane.locate(line) == pytest.approx(np.array([[-3.0, 0.0], [-1.5, 0.0], [0.0, 0.0]]), abs=1e-6)
    assert plane.directions[1].norm() == pytest.approx(1.0)


def test_points_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(ValueError, match="a landscape must have a path that leads somewhere, got points that are all the same"):
        fit_plane([torch.ones(3)] * 4, torch.ones(3))
