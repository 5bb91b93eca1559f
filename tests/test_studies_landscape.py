"""The survey of a real study: which runs walk again, what is measured around them, what is kept, and what is refused."""

from __future__ import annotations

import functools
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from conftest import four_verdicts, tables

from lightning_modules import Parabola, ParabolaData
from reports.figures.landscape import Landscape
from reports.judging.judged import Judged, judge
from reports.style import DIVERGENT, GOOD, TOO_LOW, VERDICTS
from studies import StudyConfig, StudyInUse, load_study, run_study
from studies.commands.command_line import IN_USE, INTERRUPTED, run
from studies.commands.report import main
from studies.landscape import LANDSCAPE, choose_runs, config_of, survey
from studies.storage.database_url import storage_url
from studies.storage.lock import locked

STEEP, START = (1.0, 10.0), (-4.0, 1.6)
PARABOLA = {"class_path": "Parabola", "init_args": {"eigenvalues": list(STEEP), "start": list(START)}}
FLAT, DOWN = [2.0, 1.95, 1.9, 1.85, 1.8], [2.0, 0.1, 0.0, 0.0, 0.0]

Surveyed = tuple[StudyConfig, optuna.Study, Landscape]


def parabola(folder: Path, **changes: Any) -> StudyConfig:
    """From 0.02 to 0.22, an epoch a step; above 0.2 the parabola has no bottom."""
    values = {"model": PARABOLA, "learning_rate": (0.02, 0.22), "points": 24, "batch_size": 16, "seeds": 1, "epochs": 30}
    return StudyConfig.from_mapping(values | {"storage": str(folder / "studies.db"), "name": "parabola"} | changes)


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory: pytest.TempPathFactory) -> Surveyed:
    folder = tmp_path_factory.mktemp("parabola")
    config = parabola(folder)
    study = run_study(config, out=folder)
    return config, study, survey(study, config, out=folder)


def hill(x: Any, y: Any, rotation: Any) -> Any:
    """Heights of the parabola at places of the plane: the space of its two weights, turned."""
    theta = np.stack([x, y], axis=-1) @ rotation
    return 0.5 * (theta**2 @ np.array(STEEP))


def rotation_of(landscape: Landscape) -> Any:
    """The directions of the plane in the space of weights, from two points of the good run whose weights are known."""
    path = landscape.paths[landscape.paths["verdict"] == GOOD]
    steps, rate = path["step"].to_numpy()[:, None], path["learning_rate"].iloc[0]
    weights = np.array(START) * (1 - rate * np.array(STEEP)) ** steps
    solved, *_ = np.linalg.lstsq(path[["x", "y"]].to_numpy(float), weights - weights[-1], rcond=None)
    return solved


def test_one_run_of_each_verdict_walks_from_the_same_start(surveyed: Surveyed) -> None:
    paths = surveyed[2].paths
    assert list(paths["verdict"].unique()) == list(VERDICTS)
    starts = paths[paths["step"] == 0]
    assert len(starts) == 4 and len(starts[["x", "y", "height"]].round(9).drop_duplicates()) == 1
    assert starts["height"].iloc[0] == pytest.approx(0.5 * (16 + 10 * 1.6**2))


def test_plane_of_two_weights_is_their_whole_space(surveyed: Surveyed) -> None:
    landscape = surveyed[2]
    rotation = rotation_of(landscape)
    assert sum(landscape.shares) == pytest.approx(1.0)
    assert rotation @ rotation.T == pytest.approx(np.eye(2), abs=1e-6)


def test_heights_of_grid_and_paths_are_those_of_the_parabola(surveyed: Surveyed) -> None:
    landscape = surveyed[2]
    rotation, paths = rotation_of(landscape), landscape.paths
    end = np.array(START) * (1 - paths[paths["verdict"] == GOOD]["learning_rate"].iloc[0] * np.array(STEEP)) ** 30
    x, y = np.meshgrid(landscape.x, landscape.y)
    moved = end @ np.linalg.inv(rotation)
    assert landscape.heights == pytest.approx(hill(x + moved[0], y + moved[1], rotation), rel=1e-5)
    on_paths = hill(paths["x"] + moved[0], paths["y"] + moved[1], rotation)
    assert paths["height"].to_numpy(float) == pytest.approx(on_paths, rel=1e-5)
    assert landscape.error < 0.01


def test_points_are_inside_that_are_near_and_low_enough_and_none_is_left_out(surveyed: Surveyed) -> None:
    paths = surveyed[2].paths
    good = paths[paths["verdict"] == GOOD]
    lowest, start = good["height"].min(), paths["height"].iloc[0]
    distance = np.hypot(paths["x"], paths["y"])  # the plane is the whole space, and the good path ends at 0
    inside = (paths["height"] <= 2 * start - lowest) & (distance <= 2 * distance[good.index].max())
    assert list(paths["inside"]) == list(inside)
    for verdict, path in paths.groupby("verdict"):
        assert (path["step"].iloc[0], path["step"].iloc[-1]) == (0, 30)
        assert path["inside"].all() == (verdict != DIVERGENT)


def test_picture_holds_every_point_inside_and_room_around_the_good_path(surveyed: Surveyed) -> None:
    landscape = surveyed[2]
    inside = landscape.paths[landscape.paths["inside"]]
    for name, places in (("x", landscape.x), ("y", landscape.y)):
        assert places[0] < inside[name].min() and inside[name].max() < places[-1]
    assert landscape.x[-1] > 1.0 and landscape.heights.shape == (31, 31)  # the good path ends at 0


def test_study_keeps_the_landscape(surveyed: Surveyed) -> None:
    config, _, landscape = surveyed
    kept = Landscape.from_json(load_study(config.storage, "parabola").user_attrs[LANDSCAPE])
    assert kept.heights == pytest.approx(landscape.heights, rel=1e-6)
    pd.testing.assert_frame_equal(kept.paths, landscape.paths, check_dtype=False, rtol=1e-6, atol=1e-6)


def test_cost_is_told_before_anything_is_trained(surveyed: Surveyed, tmp_path: Path) -> None:
    config, study, _ = surveyed

    def refuse(cost: str) -> None:
        raise RuntimeError(cost)

    with pytest.raises(RuntimeError, match=r"^landscape: 4 runs, about \d+ s, and 961 heights of 16 examples, about \d+ s$"):
        survey(study, config, out=tmp_path, on_cost=refuse)
    assert not list(tmp_path.iterdir())


def test_run_that_turns_non_finite_ends_without_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.landscape.SIDE", 3)
    config = parabola(tmp_path, learning_rate=(0.1, 1e200), points=2)
    path = survey(run_study(config, out=tmp_path), config, out=tmp_path).paths.groupby("verdict").get_group(DIVERGENT)
    assert list(path["inside"]) == [True, False]
    assert path["step"].iloc[-1] <= 2


def test_path_of_a_network_starts_and_ends_at_the_heights_of_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.landscape.SIDE", 3)
    values: dict[str, Any] = {"learning_rate": (0.01, 1), "points": 2, "batch_size": 256, "seeds": 1, "epochs": 4}
    network = {"class_path": "ConvNet", "init_args": {"width": 2, "batch_norm": True}}
    config = StudyConfig(model={"init_args": {"network": network}}, storage=str(tmp_path / "studies.db"), **values)
    study = run_study(config, out=tmp_path)
    landscape = survey(study, config, out=tmp_path)
    assert list(landscape.paths["verdict"].unique()) == [TOO_LOW, GOOD]
    for trial, path in landscape.paths.groupby("trial"):
        steps, heights = study.trials[trial].user_attrs["curves"]["height"]
        assert (path["step"].iloc[0], path["step"].iloc[-1]) == (steps[0], steps[-1])
        assert path["height"].iloc[[0, -1]].tolist() == pytest.approx([heights[0], heights[-1]], rel=1e-3)
    end = landscape.paths[landscape.paths["verdict"] == GOOD].iloc[-1]
    assert (end["x"], end["y"]) == pytest.approx((0, 0), abs=1e-6)


def judged(cells: dict[tuple[int, float], Any]) -> Judged:
    return judge(*tables(cells))


def test_batch_size_and_seed_with_the_most_verdicts_are_chosen() -> None:
    cells = {(8, 0.1): [DOWN, DOWN], (32, 0.01): [FLAT, DOWN], (32, 0.1): [DOWN, DOWN]}
    chosen = choose_runs(judged(cells))
    assert chosen[["batch_size", "seed", "learning_rate", "verdict"]].to_numpy().tolist() == [
        [32, 0, 0.01, TOO_LOW],
        [32, 0, 0.1, GOOD],
    ]
    assert choose_runs(judged(cells), 8)[["batch_size", "verdict"]].to_numpy().tolist() == [[8, GOOD]]


def test_verdicts_come_in_their_order_and_a_missing_one_is_left_out() -> None:
    assert list(choose_runs(judge(*four_verdicts()))["verdict"]) == list(VERDICTS)
    runs, curves = four_verdicts()
    assert list(choose_runs(judge(runs[runs["learning_rate"] != 1.0], curves))["verdict"]) == [TOO_LOW, GOOD, DIVERGENT]


def test_learning_rate_a_third_of_the_way_from_the_good_one_stands_for_its_verdict() -> None:
    rates = {0.001 * 2**k: FLAT for k in range(7)}
    chosen = choose_runs(judged({(32, rate): [heights] for rate, heights in (rates | {0.1: DOWN}).items()}))
    assert chosen["learning_rate"].tolist() == [0.016, 0.1]


def test_recommended_learning_rate_is_the_good_one() -> None:
    found = judge(*four_verdicts())
    slower = tables({(32, rate): [[2.0, height, 0.0, 0.0, 0.0, 0.0]] for rate, height in ((0.1, 0.3), (0.2, 0.1), (0.4, 0.2))})
    found = judge(*slower)
    assert choose_runs(found)["learning_rate"].tolist() == found.recommendations["learning_rate"].tolist()


def test_batch_size_that_is_not_the_study_s_is_refused(surveyed: Surveyed) -> None:
    config, study, _ = surveyed
    with pytest.raises(ValueError, match=r"landscape must be of a batch size of the study \(16\), got 5"):
        survey(study, config, batch_size=5)


@pytest.mark.parametrize(("size", "where"), [(None, ""), (32, " at batch size 32")], ids=["any", "32"])
def test_study_without_a_good_run_is_refused(size: int | None, where: str) -> None:
    none_good = judged({(32, 0.1): [[2.0, 2.1, 2.1, 2.1]], (32, 1.0): [[2.0, 2.2, 2.2, 2.2]]})
    sentence = f"landscape must have a good run to stand on, the study has none{where} among 2 finished"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        choose_runs(none_good, size)


def test_other_configuration_is_refused(surveyed: Surveyed) -> None:
    config, study, _ = surveyed
    sentence = "config must be what study 'parabola' was made with, got another constant, epochs$"
    with pytest.raises(ValueError, match=sentence):
        survey(study, replace(config, epochs=7, constant=True))


def test_configuration_is_made_again_from_names(surveyed: Surveyed) -> None:
    config, study, _ = surveyed
    again = config_of(study)
    assert replace(again, storage=config.storage) == config


def test_study_of_objects_is_surveyed_from_python_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.landscape.SIDE", 2)
    model = functools.partial(Parabola, eigenvalues=STEEP)
    config = parabola(tmp_path, model=model, data=ParabolaData(16), learning_rate=(0.1, 0.1), points=1)
    study = run_study(config, out=tmp_path)
    sentence = (
        r"study 'parabola' was given its model, data or trainer as Python objects: call studies.landscape.survey\(study, co"
    )
    with pytest.raises(ValueError, match=sentence):
        config_of(study)
    assert survey(study, config, out=tmp_path).heights.shape == (2, 2)


def test_report_with_a_landscape_says_what_it_costs_and_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("studies.landscape.SIDE", 5)
    config = parabola(tmp_path, learning_rate=(0.1, 0.3), points=2)
    run_study(config, out=tmp_path)
    arguments = ["--storage", config.storage, "--name", "parabola", "--out", str(tmp_path), "--landscape"]
    assert main([*arguments, "16"]) == 0
    said = capsys.readouterr()
    assert re.match(r"landscape: 2 runs, about \d+ s, and 25 heights of 16 examples, about \d+ s\n", said.err)
    assert "landscape: The plane through the end of the good run" in said.out and "it holds 100 % of their" in said.out
    with pytest.raises(ValueError, match=r"landscape must be of a batch size of the study \(16\), got 8"):
        main([*arguments, "8"])
    with pytest.raises(ValueError, match="landscape must be a whole number of at least 1, got 'big'"):
        main([*arguments, "big"])
    with pytest.raises(ValueError, match=r"landscape belongs to a study, not to --run FILE.csv, got 'auto'"):
        main(["--run", "curve.csv", "--landscape"])


def command(config: StudyConfig, folder: Path) -> int:
    """The exit code of the report's command with a landscape."""
    arguments = ["--storage", config.storage, "--name", "parabola", "--out", str(folder), "--landscape"]
    return run(functools.partial(main, arguments), "report")


def test_study_that_is_being_worked_on_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("studies.landscape.SIDE", 3)
    config = parabola(tmp_path, learning_rate=(0.1, 0.3), points=2)
    study = run_study(config, out=tmp_path)
    with ThreadPoolExecutor(1) as another, locked(storage_url(config.storage), "parabola"):
        assert another.submit(command, config, tmp_path / "out").result() == IN_USE
        assert "study 'parabola' is being worked on by process" in capsys.readouterr().err
        with pytest.raises(StudyInUse, match="study 'parabola' is being worked on by process"):
            another.submit(survey, study, config, out=tmp_path / "out").result()
    assert LANDSCAPE not in load_study(config.storage, "parabola").user_attrs
    assert not list((tmp_path / "out").rglob("report.*"))
    assert command(config, tmp_path / "out") == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("where", ["studies.landscape._walk", "studies.landscape._frame"])
def test_interrupted_landscape_leaves_study_and_report_as_they_were(
    where: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("studies.landscape.SIDE", 3)
    config = parabola(tmp_path, learning_rate=(0.1, 0.3), points=2)
    run_study(config, out=tmp_path)
    monkeypatch.setattr(where, lambda *_: os.kill(os.getpid(), number))
    assert command(config, tmp_path / "out") == INTERRUPTED
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted: the study is as it was, and so is its report"
    assert LANDSCAPE not in load_study(config.storage, "parabola").user_attrs
    assert not list((tmp_path / "out").rglob("report.*"))


def test_landscape_is_kept_when_the_report_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("studies.landscape.SIDE", 3)
    config = parabola(tmp_path, learning_rate=(0.1, 0.3), points=2)
    run_study(config, out=tmp_path)
    monkeypatch.setattr("studies.answers.report_study", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert command(config, tmp_path / "out") == INTERRUPTED
    sentence = "interrupted: the landscape is kept, the same command without --landscape writes its report"
    assert capsys.readouterr().err.splitlines()[-1] == sentence
    assert LANDSCAPE in load_study(config.storage, "parabola").user_attrs


def test_study_without_a_verdict_beside_good_still_has_a_landscape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.landscape.SIDE", 3)
    config = parabola(tmp_path, learning_rate=(0.1, 0.1), points=1)
    landscape = survey(run_study(config, out=tmp_path), config, out=tmp_path)
    assert list(landscape.paths["verdict"].unique()) == [GOOD]


def test_module_of_one_weight_is_refused(tmp_path: Path) -> None:
    one = {"class_path": "Parabola", "init_args": {"eigenvalues": [1.0]}}
    config = parabola(tmp_path, model=one, learning_rate=(0.1, 1.0), points=2)
    with pytest.raises(ValueError, match="a landscape must have at least 2 weights"):
        survey(run_study(config, out=tmp_path), config, out=tmp_path, on_cost=pytest.fail)
