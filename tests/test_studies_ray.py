"""Ray actors: the same results as in this process, replaced when they die, and the cluster is not open to others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
from test_studies_search import small, states
from test_studies_workers import facts

from studies import StudyConfig, run_study, runs_table


def actors() -> list[psutil.Process]:
    """The actor processes of this test's own Ray."""
    return [child for child in psutil.Process().children(recursive=True) if "_Actor" in " ".join(child.cmdline())]


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of its own, where Ray makes its token, although it was imported before it was told to."""
    import ray  # noqa: F401

    home, before = tmp_path_factory.mktemp("home"), dict(os.environ)
    os.environ["HOME"] = str(home)
    yield home / ".ray" / "auth_token"
    os.environ.clear()
    os.environ.update(before)


def test_actors_train_the_same_and_one_that_dies_is_replaced(tmp_path: Path, token: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as an actor has
    here = run_study(small(tmp_path, name="here", fuse="never", workers=1))
    torch.set_num_threads(threads)
    killed: list[int] = []

    def kill_one(study: Any, finished: int, planned: int) -> None:
        if finished == 1:
            killed.append(actors()[0].pid)
            actors()[0].kill()

    there = run_study(small(tmp_path, name="there", fuse="never", workers=1, engine="ray"), on_run=kill_one)
    assert killed and not actors()
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(token.read_text()) > 20
    done = facts(there)[lambda table: table["final_height"].notna()].reset_index(drop=True)
    pd.testing.assert_frame_equal(facts(here), done)
    failed = runs_table(there).query("state == 'FAIL'")
    assert set(failed["error"]) <= {"its worker process died"} and states(there).count("COMPLETE") == 3


def test_actor_that_does_not_fit_is_refused_before_the_study_is_made(tmp_path: Path, token: Path) -> None:
    with pytest.raises(ValueError, match="num_gpus must fit into the cluster, which has 0, got 4"):
        run_study(small(tmp_path, engine="ray", num_gpus=4))
    assert [path for path in tmp_path.iterdir() if path.name.startswith("studies")] == []


def test_finished_study_needs_no_cluster(tmp_path: Path) -> None:
    study = run_study(small(tmp_path))
    assert facts(run_study(small(tmp_path, engine="ray", ray_address="127.0.0.1:9"))).equals(facts(study))


def test_study_that_cannot_be_sent_is_refused(tmp_path: Path) -> None:
    import threading

    from test_studies_preflight import Blobs, Net

    lock = threading.Lock()

    def locked() -> Net:
        with lock:
            return Net()

    with pytest.raises(ValueError, match="engine ray needs a study that can be sent to another process, got TypeError: cannot"):
        run_study(small(tmp_path, model=locked, data=Blobs, batch_size=8, engine="ray"))


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere", "127.0.0.1:many", "127.0.0.1:99999999"])
def test_cluster_that_does_not_answer_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(
        ValueError, match=f"ray_address must be HOST:PORT of a cluster that answers, or auto, got {address!r}: "
    ):
        run_study(small(tmp_path, engine="ray", ray_address=address))


def test_cluster_of_this_machine_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(
        ValueError, match="ray_address must be of a cluster that can be reached, got 'auto': Could not find any"
    ):
        run_study(small(tmp_path, engine="ray", ray_address="auto"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"engine": "dask"}, "engine must be one of processes, ray, got 'dask'"),
        ({"ray_address": "auto"}, "ray_address needs engine ray, got 'auto' with engine processes"),
        ({"num_gpus": 1}, "num_gpus needs engine ray, got 1 with engine processes"),
        ({"engine": "ray", "ray_address": " "}, "ray_address must be a name, got ' '"),
        ({"engine": "ray", "num_cpus": 1.5}, "num_cpus must be a whole number or a part of 1, got 1.5"),
        ({"engine": "ray", "num_gpus": -1}, "num_gpus must be a whole number or a part of 1, got -1"),
        ({"engine": "ray", "num_gpus": "all"}, "num_gpus must be a finite number, got 'all'"),
        ({"checkpoint": "yes"}, "checkpoint must be true or false, got 'yes'"),
    ],
)
def test_options_of_places_are_checked(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        StudyConfig(**options)


def test_ray_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.config.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"engine ray needs Ray, which is not installed: pip install 'learning-rate-studies\[ray"
    ):
        StudyConfig(engine="ray")
