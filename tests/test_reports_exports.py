"""Exports for trackers, read back with each tracker's own reader: all runs, verdicts, numbers and curves, and the answer."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pandas as pd
import pytest
from conftest import HOSTILE, four_verdicts, tables

import reports.exports.family
from reports.errors import BadInput
from reports.exports.exported import MOST_POINTS, Exported, exported
from reports.exports.family import EXPORTS, require_exports, write_exports
from reports.judging.judged import judge
from reports.judging.verdicts import Thresholds
from reports.pages.folder import write_report

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
NAMES = ["seed 0 too low", "seed 0 good", "seed 0 too high", "seed 0 divergent"]
of_each_tracker = pytest.mark.parametrize("tracker", EXPORTS)


def study(folder: Path, runs: pd.DataFrame, curves: pd.DataFrame, *, title: str = "digits", **options: Any) -> Exported:
    """A judged study, in whose ``folder`` stands a page; options: of ``judge``."""
    judged, about = judge(runs, curves, **options), {"title": title, "configuration": {"epochs": 10, "model": {"width": 8}}}
    folder.mkdir(exist_ok=True)
    (folder / "report.html").write_text("")
    return exported(judged, folder, **about)  # type: ignore[arg-type]


def for_tracker(tracker: str, folder: Path, *args: Any, **options: Any) -> Path:
    """The same, written for a tracker; returns where."""
    pytest.importorskip(tracker)
    write_exports(study(folder, *args, **options), [tracker])
    assert require_exports(tracker, folder) == [tracker]  # what we wrote may be replaced
    return folder / EXPORTS[tracker].FOLDER


def tensorboard_runs(place: Path) -> dict[str, Any]:
    """What TensorBoard reads of each run, by the names it shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = sorted(place.rglob("*tfevents*"))
    found = {str(path.parent.relative_to(place)): EventAccumulator(str(path), {"scalars": 0}).Reload() for path in files}
    assert len(found) == len(files)
    return found


def scalars(run: Any, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in run.Scalars(tag)]


def text(run: Any, tag: str) -> str:
    (event,) = run.Tensors(tag)
    (said,) = event.tensor_proto.string_val
    return str(said.decode())


def mlflow_runs(place: Path) -> tuple[Any, Any, dict[str, Any]]:
    """A client of MLflow, the parent run, and its children by name."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{quote(str(place / 'mlflow.db'))}")
    (experiment,) = (found for found in client.search_experiments() if found.name != "Default")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = {run.info.run_name: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    assert len(children) == len(runs) - 1
    return client, parent, children


def close(client: Any) -> None:
    client._tracking_client.store.engine.dispose()


def history(client: Any, run: Any, metric: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, metric)]


def test_tensorboard_reads_the_curves_numbers_and_verdict_of_each_run(tmp_path: Path) -> None:
    runs, curves = four_verdicts()
    found = tensorboard_runs(for_tracker("tensorboard", tmp_path, runs, curves))
    rates = ["0.01", "0.1", "1", "10"]
    assert set(found) == {"answer", *(f"batch 32/lr {rate}/{name}" for rate, name in zip(rates, NAMES, strict=True))}
    for trial, (rate, name) in enumerate(zip(rates, NAMES, strict=True)):
        curve = curves[curves["trial"] == trial]
        run = found[f"batch 32/lr {rate}/{name}"]
        heights = scalars(run, "height")
        assert [step for step, _ in heights] == curve["step"].tolist()
        assert [value for _, value in heights] == pytest.approx(curve["value"].tolist())
        assert scalars(run, "verdict/final_height") == [(80, pytest.approx(runs["final_height"][trial]))]
    assert scalars(run, "height")[-1] == (80, math.inf)
    assert "verdict/epochs_to_bottom" not in run.scalars.Keys() and text(run, "reason").startswith("turned non-finite")


def test_tensorboard_compares_runs_by_learning_rate_batch_size_seed_and_verdict(tmp_path: Path) -> None:
    found = tensorboard_runs(for_tracker("tensorboard", tmp_path, *four_verdicts()))
    from tensorboard.plugins.hparams import metadata

    def content(run: Any) -> Any:
        return next(iter(run.PluginTagToContent(metadata.PLUGIN_NAME).values()))

    experiment = metadata.parse_experiment_plugin_data(content(found.pop("answer")))
    shown = {info.name.tag for info in experiment.metric_infos}
    assert shown == {"verdict/final_height", "verdict/progress", "verdict/epochs_to_bottom"}
    start = {name: metadata.parse_session_start_info_plugin_data(content(run)) for name, run in found.items()}
    settings = start["batch 32/lr 10/seed 0 divergent"].hparams
    numbers = {name: settings[name].number_value for name in ("learning_rate", "batch_size", "seed")}
    assert numbers == {"learning_rate": 10, "batch_size": 32, "seed": 0}
    assert settings["verdict"].string_value == "divergent"
    assert {info.name for info in experiment.hparam_infos} == set(settings)
    assert shown <= set(found["batch 32/lr 0.1/seed 0 good"].scalars.Keys())


def test_tensorboard_shows_the_answer_and_the_map_before_all_runs(tmp_path: Path) -> None:
    write_report(judge(*four_verdicts()), tmp_path, title="digits", configuration={})
    found = tensorboard_runs(for_tracker("tensorboard", tmp_path, *four_verdicts()))
    first = found["answer"].FirstEventTimestamp()
    assert all(first < run.FirstEventTimestamp() for name, run in found.items() if name != "answer")
    said = text(found["answer"], "answer")
    assert said.startswith("## Learning rates of digits\n") and "\n| 32 | \\~0.1 |" in said and "checks passed" in said
    (image,) = found["answer"].Images("answer/map")
    assert image.encoded_image_string == (tmp_path / "figures" / "map.png").read_bytes()
    assert image.width > image.height > 100


def test_mlflow_reads_the_curves_numbers_and_verdict_of_each_child_run(tmp_path: Path) -> None:
    runs, curves = four_verdicts()
    client, _, children = mlflow_runs(for_tracker("mlflow", tmp_path, runs, curves))
    rates = ["0.01", "0.1", "1", "10"]
    assert set(children) == {f"batch 32, lr {rate}, {name}" for rate, name in zip(rates, NAMES, strict=True)}
    for trial, (rate, name) in enumerate(zip(rates, NAMES, strict=True)):
        run = children[f"batch 32, lr {rate}, {name}"]
        assert run.data.params == {"learning_rate": str(float(rate)), "batch_size": "32", "seed": "0"}
        assert run.data.tags["verdict"] == name.removeprefix("seed 0 ") and run.data.tags["reason"]
        curve = curves[(curves["trial"] == trial) & curves["value"].map(math.isfinite)]
        told = [point for point in history(client, run, "height") if math.isfinite(point[1])]
        assert told == list(zip(curve["step"], curve["value"], strict=True))
        assert run.info.status == "FINISHED" and run.info.end_time - run.info.start_time == 2000
    assert math.isnan(run.data.metrics["final_height"]) and math.isnan(history(client, run, "height")[-1][1])
    found = client.search_runs(["1"], "tags.verdict = 'good'")
    assert [run.data.metrics["final_height"] for run in found] == [0.0]
    close(client)


def test_mlflow_has_the_answer_the_report_and_its_tables_at_the_parent_run(tmp_path: Path) -> None:
    write_report(judge(*four_verdicts()), tmp_path, title="digits", configuration={})
    client, parent, _ = mlflow_runs(for_tracker("mlflow", tmp_path, *four_verdicts()))
    assert parent.info.run_name == "digits: Use 0.1 at batch size 32"
    assert parent.data.metrics == {"use at batch size 32": 0.1}
    assert parent.data.params == {"epochs": "10", "model.width": "8"}
    assert "\n| 32 | \\~0.1 |" in parent.data.tags["mlflow.note.content"]
    assert client.get_experiment("1").tags["mlflow.note.content"] == parent.data.tags["mlflow.note.content"]
    files = {each.path for each in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "report.md", "runs.csv", "cells.csv", "figures"} < files and "curves.csv" not in files
    got = client.download_artifacts(parent.info.run_id, "figures/map.png", str(tmp_path))
    assert Path(got).read_bytes() == (tmp_path / "figures" / "map.png").read_bytes()
    close(client)


@of_each_tracker
def test_another_export_takes_the_place_of_the_first(tracker: str, tmp_path: Path) -> None:
    place = for_tracker(tracker, tmp_path, *four_verdicts())
    runs, curves = tables({(32, 0.1): [[2.0, 0.1, 0.0, 0.0, 0.0, 0.0]] * 2, (32, 10.0): [[2.0, 9.0, math.inf]]})
    for_tracker(tracker, tmp_path, runs, curves, thresholds=Thresholds(target_loss=-100.0))
    if tracker == "tensorboard":
        names = {name.replace("/", ", ") for name in tensorboard_runs(place)} - {"answer"}
    else:
        client, parent, children = mlflow_runs(place)
        names = set(children)
        assert [path.name for path in (place / "artifacts").iterdir()] == [parent.info.run_id]
        close(client)
    assert len(names) == 3 and not any(name.endswith("good") for name in names)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_client_of_mlflow_that_was_open_reads_what_was_exported_since(tmp_path: Path) -> None:
    place = for_tracker("mlflow", tmp_path, *four_verdicts())
    client, _, children = mlflow_runs(place)
    for_tracker("mlflow", tmp_path, *tables({(32, 0.1): [[2.0, 0.1, 0.0]]}))
    assert len(children) == 4 and len(client.search_runs(["1"])) == 2
    close(client)


def test_a_failed_export_for_tensorboard_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = for_tracker("tensorboard", tmp_path, *four_verdicts())
    before = {path: path.read_bytes() for path in place.rglob("*tfevents*")}
    monkeypatch.setattr("reports.exports.tensorboard._scalars", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        for_tracker("tensorboard", tmp_path, *four_verdicts())
    assert {path: path.read_bytes() for path in place.rglob("*tfevents*")} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".tensorboard.new.999999999"
    left.mkdir()
    (left / "half").write_text("")
    for_tracker("tensorboard", tmp_path, *four_verdicts())
    assert not left.exists()


def test_long_curves_are_thinned_and_keep_their_ends(tmp_path: Path) -> None:
    heights = [2.0 - 0.001 * at for at in range(1500)]
    (run,) = study(tmp_path, *tables({(32, 0.1): [heights]}, epochs=1000)).runs
    steps, values = run.curves["height"]
    assert len(steps) == MOST_POINTS and (values[0], values[-1]) == (heights[0], heights[-1])


@of_each_tracker
def test_runs_that_failed_run_or_were_tried_twice_each_have_a_name(tracker: str, tmp_path: Path) -> None:
    runs, curves = tables({(32, 0.1): [[2.0, 0.1, 0.0]], (32, 0.10001): [[2.0, 0.1, 0.0]], (32, 1.0): [[2.0]] * 2})
    runs.loc[2, ["state", "error"]] = "FAIL", "of the module"
    runs.loc[3, ["state", "seconds"]] = "RUNNING", None
    place = for_tracker(tracker, tmp_path, runs, curves[curves["trial"] < 2])
    expected = {"lr 0.1, seed 0 good (trial 0)", "lr 0.1, seed 0 good (trial 1)", "lr 1, seed 0 failed", "lr 1, seed 1 running"}
    if tracker == "tensorboard":
        found = tensorboard_runs(place)
        names = {name.replace("/", ", ") for name in found} - {"answer"}
        assert "of the module" in text(found["batch 32/lr 1/seed 0 failed"], "reason")
    else:
        client, _, children = mlflow_runs(place)
        names = set(children)
        assert children["batch 32, lr 1, seed 0 failed"].info.status == "FAILED"
        assert children["batch 32, lr 1, seed 1 running"].info.status == "RUNNING"
        close(client)
    assert names == {f"batch 32, {name}" for name in expected}


@of_each_tracker
def test_metrics_of_any_name_are_kept_apart(tracker: str, tmp_path: Path) -> None:
    runs, curves = four_verdicts()
    odd = ["train/loss", "Height", "", "a b", "a*b", "a?b", "../x", "/x", ".", "progress", "µ" * 300, "x\ny\0", *HOSTILE]
    own = [
        pd.DataFrame({"trial": 1, "step": [1], "epoch": [0.1], "metric": name, "value": float(at)})
        for at, name in enumerate(odd)
    ]
    place = for_tracker(tracker, tmp_path, runs, pd.concat([curves, *own], ignore_index=True))
    if tracker == "tensorboard":
        run = tensorboard_runs(place)["batch 32/lr 0.1/seed 0 good"]
        values = [scalars(run, tag)[0][1] for tag in run.scalars.Keys() if scalars(run, tag)[0][0] == 1]
    else:
        client, _, children = mlflow_runs(place)
        run = children["batch 32, lr 0.1, seed 0 good"]
        values = [value for name in run.data.metrics for step, value in history(client, run, name) if step == 1]
        assert {"train/loss", "a b", "a_b", "a_b_"} < set(run.data.metrics)
        close(client)
    assert sorted(values) == [float(at) for at in range(len(odd))]


@of_each_tracker
@pytest.mark.parametrize("title", ["", "../../etc/passwd" + " ".join(HOSTILE)], ids=["none", "hostile"])
def test_studies_of_any_name_are_exported(tracker: str, title: str, tmp_path: Path) -> None:
    place = for_tracker(tracker, tmp_path / "my #1 %20 folder", *tables({(32, 0.1): [[2.0, 0.1]]}), title=title)
    if tracker == "tensorboard":
        assert len(tensorboard_runs(place)) == 2
    else:
        client, parent, children = mlflow_runs(place)
        assert len(children) == 1 and client.list_artifacts(parent.info.run_id)
        close(client)


@of_each_tracker
def test_a_study_without_finished_runs_is_exported_and_says_so(tracker: str, tmp_path: Path) -> None:
    runs, curves = four_verdicts()
    place = for_tracker(tracker, tmp_path, runs.assign(state="FAIL", error="bad byte"), curves.iloc[:0])
    if tracker == "tensorboard":
        said = text(tensorboard_runs(place)["answer"], "answer")
    else:
        client, parent, _ = mlflow_runs(place)
        said = parent.data.tags["mlflow.note.content"]
        assert parent.info.run_name == "digits: Nothing to recommend"
        close(client)
    assert "No run has finished yet" in said


def test_an_answer_too_long_for_mlflow_says_where_the_rest_is(tmp_path: Path) -> None:
    cells = {(2 + size, 0.1): [[2.0, 0.1, 0.0]] for size in range(60)}
    client, parent, _ = mlflow_runs(for_tracker("mlflow", tmp_path, *tables(cells)))
    note = parent.data.tags["mlflow.note.content"]
    assert len(note) <= 8000 and note.endswith("... The rest is in the artifact report.md.")
    close(client)


@pytest.mark.parametrize("given", ["wandb", ["mlflow", "wandb"], 3, [None], {"mlflow": 1}])
def test_an_unknown_tracker_is_refused_with_the_names_of_all(given: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="^export must be one or more of tensorboard, mlflow, got "):
        require_exports(given, tmp_path)


def test_trackers_are_asked_for_by_name_or_names_and_each_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reports.exports.family, "find_spec", lambda name: SimpleNamespace(origin=name))
    assert require_exports(None, tmp_path) == [] and require_exports("mlflow", tmp_path) == ["mlflow"]
    assert require_exports(["mlflow", "tensorboard", "mlflow"], tmp_path) == ["mlflow", "tensorboard"]


@of_each_tracker
@pytest.mark.parametrize("found", [None, SimpleNamespace(origin=None)], ids=["nothing", "a folder of that name"])
def test_a_tracker_that_is_not_installed_is_refused_with_the_way_out(
    tracker: str, found: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reports.exports.family, "find_spec", lambda name: found)
    way = rf"^export {tracker} needs the package {tracker}: pip install 'learning-rate-studies\[{tracker}\]'$"
    with pytest.raises(BadInput, match=way):
        require_exports(tracker, tmp_path)


@of_each_tracker
def test_what_somebody_else_put_into_the_folder_of_an_export_is_not_lost(tracker: str, tmp_path: Path) -> None:
    place = for_tracker(tracker, tmp_path, *four_verdicts())
    (place / "events.out.tfevents.123.mine.0").write_text("")
    with pytest.raises(BadInput, match=rf"^export {tracker} replaces what is in .*, and there is 'events.out.*mine.0': move"):
        require_exports(tracker, tmp_path)


def test_runs_that_somebody_else_logged_into_our_database_are_not_lost(tmp_path: Path) -> None:
    client, _, _ = mlflow_runs(for_tracker("mlflow", tmp_path, *four_verdicts()))
    client.create_run("1")
    close(client)
    with pytest.raises(BadInput, match="and there is 1 runs in 'mlflow.db' that are of somebody else: move"):
        require_exports("mlflow", tmp_path)


def test_a_database_that_is_not_of_mlflow_is_not_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reports.exports.family, "find_spec", lambda name: SimpleNamespace(origin=name))
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("mine")
    with pytest.raises(BadInput, match="and there is 'mlflow.db', which is not MLflow's: move that away"):
        require_exports("mlflow", tmp_path)


@pytest.mark.parametrize("kind", ["file", "link"])
@of_each_tracker
def test_a_file_or_link_in_the_place_of_the_folder_is_left_alone(
    tracker: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reports.exports.family, "find_spec", lambda name: SimpleNamespace(origin=name))
    place = tmp_path / EXPORTS[tracker].FOLDER
    place.write_text("") if kind == "file" else place.symlink_to(tmp_path)
    with pytest.raises(BadInput, match=f"^export {tracker} writes a folder .*, and there is something else: move it away"):
        require_exports(tracker, tmp_path)
