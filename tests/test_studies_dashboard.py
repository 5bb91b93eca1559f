"""Optuna Dashboard on a copy: what it shows, that the copy follows the storage, and that nothing done there reaches it."""

from __future__ import annotations

import io
import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from email.utils import formatdate
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from wsgiref.util import setup_testing_defaults

import numpy as np
import optuna
import pandas as pd
import pytest
from conftest import HOSTILE, tables
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial
from optuna_dashboard import get_note, save_note

from reports import judge
from reports.figures.landscape import PATHS, Landscape
from studies import Run, judge_study
from studies.commands.terminal import print_answer
from studies.dashboard import copied, snapshot
from studies.dashboard.cards_and_notes import CHARTS, MIRRORED, mirror, study_columns, trial_columns, trial_notes
from studies.dashboard.copied import COPY, Copied, fill
from studies.dashboard.first_look import STYLE, ours_first
from studies.dashboard.local_server import listen, refuse_strangers
from studies.dashboard.snapshot import Snapshot
from studies.storage.opening import open_storage, open_to_read
from studies.storage.stored import attributes_of
from studies.tables import runs_and_curves

ROOT = Path(__file__).parents[1]
DOWN = {0.01: [2.0, 1.95, 1.9, 1.85, 1.8, 1.75], 0.1: [2.0, 0.1, 0.0, 0.0, 0.0, 0.0]}  # too low, good
BEYOND = {1.0: [2.0, 1.0, 1.2, 0.9, 1.1, 1.0], 10.0: [2.0, 9.0, 400.0, math.inf]}  # too high, divergent
SPACE = {
    "learning_rate": FloatDistribution(1e-3, 100, log=True),
    "batch_size": CategoricalDistribution((32, 64)),
    "seed": IntDistribution(0, 9),
}


def add_runs(
    study: optuna.Study,
    curves: dict[float, Sequence[float]],
    *,
    batch_size: int = 32,
    seed: int = 0,
    value: float | None = None,
) -> None:
    """Store runs with these heights by learning rate, as a launch does; value: theirs, the final height unless given."""
    runs, points = tables({(batch_size, rate): [heights] for rate, heights in curves.items()})
    for row in runs.to_dict("records"):
        path = points[points["trial"] == row["trial"]]
        facts = {name: row[name] for name in ("learning_rate", "epochs", "steps", "examples", "seconds", "first_height")}
        run = Run(
            **facts,
            batch_size=batch_size,
            seed=seed,
            final_height=row["final_height"],
            nonfinite_at=3 if row["final_height"] == math.inf else None,
            validation_examples=450,
            value=row["final_height"] if value is None else value,
            metrics={} if row["final_height"] == math.inf else {"val_loss": row["val_loss"]},
            curves={"height": (path["step"].tolist(), path["value"].tolist())},
        )
        params = {"learning_rate": row["learning_rate"], "batch_size": batch_size, "seed": seed}
        trial = create_trial(params=params, distributions=SPACE, value=run.value, user_attrs=attributes_of(run))
        study.add_trial(trial)


def fail_run(study: optuna.Study, error: str, traceback: str) -> None:
    params = {"learning_rate": 0.5, "batch_size": 32, "seed": 0}
    attributes = {"error": error, "traceback": traceback}
    study.add_trial(create_trial(params=params, distributions=SPACE, state=TrialState.FAIL, user_attrs=attributes))


def new_study(path: Path, name: str = "digits") -> optuna.Study:
    storage = open_storage(f"sqlite:///{path}")
    study = optuna.create_study(study_name=name, storage=storage)
    study.set_user_attr("configuration", {"model": {"class_path": "my.Net"}, "epochs": 10})
    study.set_user_attr("options", {})  # all as by default
    return study


def bytes_of(path: Path) -> dict[str, str]:
    """What is stored: the database and what SQLite has not moved into it yet; its index of that is no data."""
    files = [path, path.with_name(f"{path.name}-wal")]
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in files}


def ask(app: Any, path: str, method: str = "GET", body: Any = None) -> Any:
    """The JSON that the application answers with; fails unless it succeeds."""
    content = json.dumps(body).encode()
    environ: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": method, "CONTENT_TYPE": "application/json"}
    environ |= {"wsgi.input": io.BytesIO(content), "CONTENT_LENGTH": str(len(content))}
    setup_testing_defaults(environ)
    said: list[str] = []
    answer = b"".join(app(environ, lambda status, headers, error=None: said.append(status)))
    assert said[0].startswith("2"), (said, answer)
    return json.loads(answer) if answer else None


def columns(trial: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: each["value"] for each in trial["user_attrs"]}


@contextmanager
def following(copy: Snapshot) -> Iterator[Snapshot]:
    stopped = threading.Event()
    thread = threading.Thread(target=copy.follow, args=[stopped])
    thread.start()
    try:
        yield copy
    finally:
        stopped.set()
        thread.join()


def wait_for(what: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
    return found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    monkeypatch.setattr(snapshot, "SECONDS", 0.05)
    monkeypatch.setattr(snapshot, "SHARE", 1.0)
    monkeypatch.setattr(snapshot, "SETTLED", 0.5)


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    """Four runs, a verdict each, and one that failed."""
    study = new_study(tmp_path / "studies.db")
    add_runs(study, DOWN | BEYOND)
    fail_run(study, "ValueError: *no*", "Traceback:\n  File 'model.py', line 1\nValueError: *no*\n")
    return study


@pytest.fixture
def copy(study: optuna.Study, tmp_path: Path) -> Iterator[Snapshot]:
    (tmp_path / "pictures").mkdir()
    source = open_to_read(f"sqlite:///{tmp_path / 'studies.db'}")
    with following(Snapshot(source, tmp_path / "pictures")) as copy:
        yield copy
    source.engine.dispose()


def test_page_of_a_study_has_its_answer_charts_notes_and_short_columns(copy: Snapshot) -> None:
    page = ask(copy, "/api/studies/1")
    assert page["name"] == "digits"
    note = page["note"]["body"]
    answer = "use ~0.1 (0.0326 to 0.306, where it is good on half of new seeds only)"
    escaped = answer.replace("~", r"\~")
    assert note.startswith(f"Runs: 4 complete, 1 failed.\n\n- **Batch size 32: {escaped}**; good from ")
    assert COPY in note and "checks passed" in note
    assert re.search(r"✗ failed \*\*seeds\*\*: ", note) and re.search(r"\nRun next: `\S.* --seeds 3 .*`\n", note)
    assert [chart["id"] for chart in page["plotly_graph_objects"]] == list(CHARTS)
    assert [(attribute["key"], attribute["value"]) for attribute in page["user_attrs"]] == [
        ("Batch size 32", answer),
        ("model.class_path", "my.Net"),
        ("epochs", "10"),
    ]
    shown = [columns(trial) for trial in page["trials"]]
    assert [each.get("verdict") for each in shown] == ["too low", "good", "too high", "divergent", None]
    assert shown[1] == {
        "verdict": "good",
        "reason": "the fastest",
        "time to bottom (epochs)": "1.895",
        "progress": "1",
        "final height": "0",
        "epochs": "10",
        "seconds (its share)": "2",
        "val_loss": "0",
    }
    assert shown[3]["reason"] == "turned non-finite at step 3" and shown[3]["non-finite at step"] == "3"
    assert shown[0]["time to bottom (epochs)"] == "inf"
    assert shown[4] == {"reason": "did not finish: ValueError: *no*"}
    notes = [trial["note"]["body"] for trial in page["trials"]]
    assert notes[0].startswith(
        "▼ **too low**: did not reach the bottom in 10 epochs: 10.0 % of the way to the floor at the end."
    )
    assert notes[4] == (
        "did not finish: ValueError: \\*no\\*\n\n`Traceback:`  \n`\u00a0\u00a0File 'model.py', line 1`  \n`ValueError: *no*`"
    )
    assert page["trials"][3]["values"] == ["inf"] and page["trials"][3]["state"] == "Complete"


def test_best_trials_are_runs_of_the_learning_rates_to_use_and_not_those_with_the_best_value(
    copy: Snapshot, study: optuna.Study
) -> None:
    page = ask(copy, "/api/studies/1")
    assert [trial["number"] for trial in page["best_trials"]] == [1] and page["objective_names"] == ["final val_loss"]
    assert "- The value of a trial is its final val_loss, one number of one seed." in page["note"]["body"]
    add_runs(study, {0.1: [2.0, 0.1, 0.1, 0.1, 0.1, 0.01], 0.01: [2.0, 1.9, 1.8, 1.7, 1.6, 1.5]}, batch_size=64)
    add_runs(study, {0.001: [2.0, 1.9, 1.9, 1.9, 1.9, 1.9]}, batch_size=64, value=-1.0)
    best = [1, 5]
    page = wait_for(lambda: found if len((found := ask(copy, "/api/studies/1"))["best_trials"]) == len(best) else None)
    assert [trial["number"] for trial in page["best_trials"]] == best and study.best_trial.number == 7


def test_best_trials_are_none_where_nothing_is_recommended(copy: Snapshot, study: optuna.Study, tmp_path: Path) -> None:
    add_runs(new_study(tmp_path / "studies.db", "bad"), {10.0: BEYOND[10.0], 100.0: BEYOND[10.0]})
    wait_for(lambda: len(ask(copy, "/api/studies")["study_summaries"]) == 2)
    page = wait_for(lambda: found if (found := ask(copy, "/api/studies/2"))["trials"] else None)
    assert page["best_trials"] == [] and len(page["trials"]) == 2


def test_note_shows_the_map_and_its_picture_is_there(copy: Snapshot) -> None:
    shown = r"!\[The map: .*\]\((/artifacts/1/[0-9a-f-]+)\)\n\n\*"
    note = wait_for(lambda: re.search(shown, ask(copy, "/api/studies/1")["note"]["body"]))
    environ: dict[str, Any] = {"PATH_INFO": note[1]}
    setup_testing_defaults(environ)
    with closing(copy(environ, lambda *_: None)) as picture:  # type: ignore[type-var]
        assert b"".join(picture).startswith(b"\x89PNG")


def test_first_page_is_the_study_where_there_is_one_and_the_list_where_there_are_more(
    copy: Snapshot, study: optuna.Study, tmp_path: Path
) -> None:
    new_study(tmp_path / "studies.db", "digits.self-check")
    wait_for(lambda: len(ask(copy, "/api/studies")["study_summaries"]) == 2)
    assert copy.first_page == "/dashboard/studies/1"
    new_study(tmp_path / "studies.db", "wine")
    wait_for(lambda: not copy.first_page)


def drawn(copy: Snapshot) -> dict[str, Any]:
    """The page of the study once its pictures are there, which come later where the machine is busy."""
    page: dict[str, Any] = wait_for(lambda: found if (found := ask(copy, "/api/studies/1"))["artifacts"] else None)
    return page


def test_pages_put_our_charts_first_whatever_the_browser_kept(copy: Snapshot) -> None:
    drawn(copy)
    environ: dict[str, Any] = {"PATH_INFO": "/dashboard/studies/1", "HTTP_IF_MODIFIED_SINCE": formatdate(time.time() + 1e6)}
    setup_testing_defaults(environ)
    said: list[Any] = []
    page = b"".join(ours_first(copy)(environ, lambda *answer: said.append(answer)))
    (status, headers), sent = said[0][:2], dict(said[0][1])
    assert status == "200 OK" and STYLE in page.partition(b"</head>")[0] and sent["Content-Length"] == str(len(page))
    assert "style-src 'self' data: 'unsafe-inline'" in sent["Content-Security-Policy"] and len(headers) == len(sent)
    assert ask(ours_first(copy), "/api/studies/1") == ask(copy, "/api/studies/1")


def test_heights_are_intermediate_values_up_to_twice_the_untrained_and_few_when_runs_are_many(
    copy: Snapshot, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = ask(copy, "/api/studies/1")["trials"]
    assert [point["value"] for point in trials[1]["intermediate_values"]] == DOWN[0.1]
    assert [point["value"] for point in trials[3]["intermediate_values"]] == [2.0]
    monkeypatch.setattr(copied, "POINTS", 10)
    add_runs(study, {0.2: [2.0 - step / 1000 for step in range(1000)]})
    trials = wait_for(lambda: found if len(found := ask(copy, "/api/studies/1")["trials"]) == 6 else None)
    assert [point["step"] for point in trials[5]["intermediate_values"]][-1] == 80
    assert 5 <= len(trials[5]["intermediate_values"]) <= 6


def test_study_that_grows_is_judged_again_and_so_are_its_earlier_runs(copy: Snapshot, study: optuna.Study) -> None:
    assert columns(ask(copy, "/api/studies/1")["trials"][1])["verdict"] == "good"
    add_runs(study, {0.1: [2.0, -9.0, -9.0, -9.0, -9.0, -9.0]}, seed=1)
    add_runs(study, {0.3: [2.0, -18.0, -18.0, -18.0, -18.0, -18.0]})
    trial = study.ask(SPACE)
    begun = "So far: 6 complete, 1 failed, 1 running.\n\n- **Batch size 32: "
    page = wait_for(lambda: found if (found := ask(copy, "/api/studies/1"))["note"]["body"].startswith(begun) else None)
    assert columns(page["trials"][1])["verdict"] == "too low" and columns(page["trials"][6])["verdict"] == "good"
    assert page["trials"][7]["state"] == "Running" and columns(page["trials"][7]) == {}
    assert "Run next" not in page["note"]["body"] and page["user_attrs"][0]["key"] == "Batch size 32, so far"
    study.tell(trial, state=TrialState.FAIL)
    wait_for(lambda: ask(copy, "/api/studies/1")["trials"][7]["state"] == "Fail")


def test_new_study_appears_and_a_deleted_one_goes(copy: Snapshot, study: optuna.Study, tmp_path: Path) -> None:
    other = new_study(tmp_path / "studies.db", "wine")
    wait_for(lambda: len(ask(copy, "/api/studies")["study_summaries"]) == 2)
    assert "nothing to judge" in ask(copy, "/api/studies/2")["note"]["body"]
    optuna.delete_study(study_name="digits", storage=study._storage)
    assert wait_for(lambda: [s["study_id"] for s in ask(copy, "/api/studies")["study_summaries"]] == [other._study_id])


def test_whatever_is_done_in_the_copy_the_storage_stays_as_it_is(copy: Snapshot, study: optuna.Study, tmp_path: Path) -> None:
    trial = study.ask(SPACE)
    wait_for(lambda: len(ask(copy, "/api/studies/1")["trials"]) == 6)
    before, trials = bytes_of(tmp_path / "studies.db"), study.get_trials()
    assert (tmp_path / "studies.db-wal").stat().st_size > 0  # nor is that moved into the database
    version = ask(copy, "/api/studies/1")["note"]["version"]
    ask(copy, "/api/studies/1/note", "PUT", {"version": version + 1, "body": "mine"})
    assert ask(copy, "/api/studies/1")["note"]["body"] == "mine"
    ask(copy, f"/api/trials/{trial._trial_id}/tell", "POST", {"state": "Fail"})
    ask(copy, "/api/studies/1/rename", "POST", {"study_name": "other"})
    assert len(ask(copy, "/api/studies/2")["trials"]) == 6
    ask(copy, "/api/studies/2", "DELETE", {})
    assert ask(copy, "/api/studies") == {"study_summaries": []}
    assert bytes_of(tmp_path / "studies.db") == before and study.get_trials() == trials
    study.set_user_attr("seen", True)
    wait_for(lambda: ask(copy, "/api/studies")["study_summaries"])
    assert COPY in ask(copy, "/api/studies/1")["note"]["body"]


def test_nothing_can_be_written_through_what_the_copy_reads(study: optuna.Study, tmp_path: Path) -> None:
    source = open_to_read(f"sqlite:///{tmp_path / 'studies.db'}")
    with pytest.raises(StorageInternalError):
        source.set_study_user_attr(study._study_id, "name", 1)
    source.engine.dispose()


def test_storage_of_any_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a b#c&d.db"
    study = new_study(path)
    study._storage._backend.engine.dispose()
    source = open_to_read(f"sqlite:///{path}")
    assert [study.study_name for study in source.get_all_studies()] == ["digits"]
    source.engine.dispose()


def test_database_without_tables_gets_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1")
    with pytest.raises(ValueError, match=r"^storage '.*empty.db' could not be opened: "):
        open_to_read(f"sqlite:///{path}")


def test_studies_of_others_and_their_notes_are_as_they_are(copy: Snapshot, study: optuna.Study) -> None:
    other = optuna.create_study(study_name="other", storage=study._storage)
    other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    save_note(other, "a note")
    wait_for(lambda: len(ask(copy, "/api/studies")["study_summaries"]) == 2)
    page = wait_for(lambda: found if (found := ask(copy, "/api/studies/2"))["note"]["body"] else None)
    assert page["note"]["body"] == "a note" and len(page["trials"]) == 2 and page["plotly_graph_objects"] == []
    assert [trial["trial_id"] for trial in page["trials"]] == [trial._trial_id for trial in other.trials]


def test_notes_that_people_wrote_are_kept(copy: Snapshot, study: optuna.Study) -> None:
    save_note(study, "by hand")
    study._storage.set_study_system_attr(study._study_id, "dashboard:1:note_ver", 3)
    study._storage.set_study_system_attr(study._study_id, "dashboard:1:note_str:0", "of a run")
    wait_for(lambda: ask(copy, "/api/studies/1")["trials"][0]["note"]["body"] == "of a run")
    page = ask(copy, "/api/studies/1")
    assert page["note"]["body"].startswith("by hand\n\n---\n\nRuns: 4 complete, 1 failed.\n\n- **Batch size 32: use \\~0.1 ")
    assert page["trials"][1]["note"]["body"].startswith("● **good**")


def test_self_check_is_judged_by_the_study_it_checks(copy: Snapshot, study: optuna.Study, tmp_path: Path) -> None:
    check = new_study(tmp_path / "studies.db", "digits.self-check")
    add_runs(check, {0.01: DOWN[0.01]}, seed=5)  # alone it would be the fastest there is
    page = wait_for(lambda: found if (found := _page(copy, 2)) and len(found["trials"]) else None)
    assert "too low" in columns(page["trials"][0])["verdict"]
    assert page["plotly_graph_objects"] == [] and "its note says what came of them" in page["note"]["body"]
    wait_for(lambda: "**self-check**" in ask(copy, "/api/studies/1")["note"]["body"])


def _page(copy: Snapshot, study_id: int) -> Any:
    known = [each["study_id"] for each in ask(copy, "/api/studies")["study_summaries"]]
    return ask(copy, f"/api/studies/{study_id}") if study_id in known else None


def test_study_that_cannot_be_judged_is_shown_as_it_is(
    copy: Snapshot, study: optuna.Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = new_study(tmp_path / "studies.db", "odd")
    odd.optimize(lambda trial: trial.suggest_float("learning_rate", 0, 1), n_trials=1)
    page = wait_for(lambda: found if (found := _page(copy, 2)) and found["trials"] else None)
    assert page["note"]["body"].startswith("This study cannot be judged, it is shown as it is. KeyError: ")
    assert columns(page["trials"][0]) == {}
    assert "study 'odd' cannot be judged, it is shown as it is: KeyError" in caplog.text
    assert columns(ask(copy, "/api/studies/1")["trials"][1])["verdict"] == "good"


def test_last_copy_is_shown_while_the_storage_is_away(
    copy: Snapshot, study: optuna.Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = drawn(copy)
    with closing(sqlite3.connect(tmp_path / "studies.db", isolation_level=None)) as connection:
        connection.execute("ALTER TABLE studies RENAME TO away")
        wait_for(lambda: "the storage cannot be read, its last copy is shown" in caplog.text)
        time.sleep(0.3)
        assert ask(copy, "/api/studies/1") == page
        assert caplog.text.count("its last copy is shown") == 1
        connection.execute("ALTER TABLE away RENAME TO studies")
    add_runs(study, {0.2: DOWN[0.1]})
    wait_for(lambda: len(ask(copy, "/api/studies/1")["trials"]) == 6)


def test_pictures_of_a_study_that_is_looked_at_come_and_outlive_its_deletion(
    copy: Snapshot, study: optuna.Study, tmp_path: Path
) -> None:
    study.set_user_attr("landscape", small_landscape().to_json())
    artifacts = wait_for(lambda: ask(copy, "/api/studies/1")["artifacts"])
    assert {"map.png", "time_to_bottom.png", "landscape.gif"} <= {each["filename"] for each in artifacts}
    kept = {each["artifact_id"] for each in artifacts}
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == kept
    ask(copy, "/api/studies/1", "DELETE", {})
    new_study(tmp_path / "studies.db", "wine")
    wait_for(lambda: _page(copy, 1))
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == kept
    add_runs(study, {0.2: DOWN[0.1]})
    wait_for(lambda: not {path.name for path in (tmp_path / "pictures").iterdir()} & kept)


def small_landscape() -> Landscape:
    points = [(1, 0.1, "good", step, float(step), 1.0 - step / 4, 0.1 * step, 1.0 - step / 4, True) for step in range(5)]
    grid = np.linspace(-1, 1, 5)
    paths = pd.DataFrame(points, columns=list(PATHS))
    return Landscape(32, 0, 100, (0.9, 0.05), grid, grid, np.add.outer(grid**2, grid**2), paths)


def test_runs_that_say_most_have_notes_first() -> None:
    runs, curves = tables({(32, rate): [heights] for rate, heights in (DOWN | {1.0: [2.0, *[1.0, 1.5] * 10]}).items()})
    judged = judge(runs, curves)
    notes = trial_notes(judged.runs, judged.judgements)
    told = judged.judgements["trial"].tolist()
    assert 0 < len(set(told)) < 3 and list(notes)[: len(set(told))] == sorted(set(told)) and set(notes) == {0, 1, 2}
    for row in judged.judgements.to_dict("records"):
        assert f"- **{row['judgement']}**: " in notes[row["trial"]]
        assert row["judgement"] in trial_columns(judged.runs, judged.judgements)[row["trial"]]["judgements"]


def test_runs_trained_together_name_their_fit_and_one_trained_alone_does_not() -> None:
    runs, curves = tables({(32, rate): [heights] for rate, heights in (DOWN | BEYOND).items()})
    runs["member_of"] = [0, 0, 2, 3]
    found = trial_columns(judge(runs, curves).runs)
    assert [each.get("trained with trial") for each in found.values()] == [0, 0, None, None]


def test_ids_are_kept_and_new_trials_come_after_all_others() -> None:
    source, served = InMemoryStorage(), InMemoryStorage()
    names = ("a", "b", "c")
    studies = {name: optuna.create_study(study_name=name, storage=source) for name in names}
    for name in (*names, *names, "a"):
        studies[name].add_trial(create_trial(value=1.0))
    optuna.delete_study(study_name="b", storage=source)
    for listed in source.get_all_studies():
        fill(served, listed, Copied({}, {}, source.get_all_trials(listed._study_id)))
    kept = {id: [trial._trial_id for trial in served.get_all_trials(id)] for id in (0, 2)}
    assert kept == {0: [0, 3, 6], 2: [2, 5]}
    assert served.create_new_trial(2) == 7


def test_run_that_ends_between_reading_and_judging_waits_for_the_next_copy(study: optuna.Study) -> None:
    (listed,) = study._storage.get_all_studies()
    early = Copied({}, {}, study.trials[:2])
    assert [trial.user_attrs["verdict"] for trial in copied._dress(study, listed, early).trials] == ["too low", "good"]


def test_mirror_writes_note_and_charts_and_replaces_its_own(study: optuna.Study) -> None:
    trials = study.get_trials()
    mirror(study, judge_study(study))
    first = get_note(study)
    assert (
        first.startswith("Runs: 4 complete, 1 failed.\n\n- **Batch size 32: use \\~0.1 ")
        and COPY not in first
        and f"\n*{MIRRORED}*\n" in first
    )
    add_runs(study, {0.2: DOWN[0.1]}, batch_size=64)
    mirror(study, judge_study(study))
    assert "Batch size 64" in get_note(study)
    from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

    charts = get_plotly_graph_objects(study._storage.get_study_system_attrs(study._study_id))
    assert set(charts) == set(CHARTS)
    for chart in charts.values():
        assert json.loads(chart, parse_constant=pytest.fail)["layout"]["title"]["text"]
    assert study.get_trials()[: len(trials)] == trials


def test_note_tells_how_the_study_was_measured(study: optuna.Study) -> None:
    judged = judge_study(study)
    mirror(study, judged._replace(remarks=[]))
    assert "How this was measured" not in get_note(study)
    mirror(study, judged._replace(remarks=["Its scheduler was *left* out."]))
    note = get_note(study)
    assert note.index("How far to trust this") < note.index("## How this was measured\n\n- Its scheduler was \\*left\\* out.\n")
    assert note.index("How this was measured") < note.index("## How to read this")


def test_runs_without_a_verdict_are_told_in_note_columns_and_notes_of_runs(study: optuna.Study) -> None:
    runs, curves = runs_and_curves(study)
    fixed = {0.01: "0.05", 0.1: "0.05", 1.0: "0.05", 10.0: "0.05"}
    judged = judge(runs.assign(highest_learning_rates=runs["learning_rate"].map(fixed), nonfinite_at=None), curves)
    mirror(study, judged)
    note = get_note(study)
    assert "- **Batch size 32: nothing is recommended: no run follows" in note and "No run has finished" not in note
    assert "✗ failed **learning rate**: 4 of 4 runs have no verdict" in note and "of 1 checks passed" in note
    assert trial_columns(judged.runs)[0]["reason"].startswith("no verdict: stepped with at most 0.05 where")
    assert trial_notes(judged.runs)[0].startswith("no verdict: stepped with at most 0.05 where 0.01 was asked (x5, ")
    name, use = next(iter(study_columns(study.user_attrs, judged).items()))
    assert name == "Batch size 32" and use.startswith("nothing is recommended")


def test_terminal_tells_remarks_a_line_each_as_they_are(study: optuna.Study, capsys: pytest.CaptureFixture[str]) -> None:
    remarks = ["Its scheduler was [bold]left[/bold] out.", "Its probe is small."]
    print_answer("digits", judge_study(study)._replace(remarks=remarks))
    assert capsys.readouterr().out.splitlines()[-2:] == remarks


def test_mirror_leaves_a_note_alone_that_somebody_edited(study: optuna.Study) -> None:
    judged = judge_study(study)
    mirror(study, judged)
    save_note(study, get_note(study) + "\nagreed")
    mirror(study, judged)
    assert get_note(study).endswith("agreed")


def test_mirror_of_a_study_without_finished_runs_has_no_charts(tmp_path: Path) -> None:
    study = new_study(tmp_path / "studies.db")
    mirror(study, judge_study(study))
    assert "No run has finished yet" in get_note(study)
    assert not [key for key in study._storage.get_study_system_attrs(study._study_id) if "plot_data" in key]


def test_command_in_a_note_is_code_of_one_line_whatever_is_in_it(study: optuna.Study) -> None:
    study.set_user_attr("options", {"model": "a``b`c"})
    mirror(study, judge_study(study))
    assert re.search(r"Run next: ``` \S.* --model 'a``b`c' .*--seeds 3 .*--name digits\S* ```$", get_note(study), re.MULTILINE)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"hello"]

    with listen(0) as server:
        server.set_app(refuse_strangers(hello))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:{port}", 200), ("localhost:9000", 200), ("LOCALHOST", 200), ("evil.example:{port}", 403), ("", 403)]
    + [("127.0.0.1.evil.example", 403), ("evil.example@127.0.0.1", 403), ("localhost.evil.example:{port}", 403)],
)
def test_only_requests_that_name_this_machine_are_answered(server: Any, host: str, status: int) -> None:
    with closing(HTTPConnection("127.0.0.1", server.server_port)) as connection:
        connection.putrequest("DELETE", "/api/studies/1", skip_host=True)
        connection.putheader("Host", host.format(port=server.server_port))
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, answer.read() == b"hello") == (status, status == 200)


OTHER = [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")]


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("DELETE", [], 200),
        ("DELETE", [("Origin", "http://LOCALHOST:{port}"), ("Sec-Fetch-Site", "same-origin")], 200),
        ("GET", [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Dest", "document")], 200),
        ("GET", [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Dest", "document")], 200),
        ("POST", OTHER, 403),
        ("POST", OTHER[:1], 403),
        ("POST", [("Origin", "null")], 403),
        ("POST", [("Origin", "http://localhost:1")], 403),
        ("POST", [("Origin", "http://localhost:{port}.evil.example")], 403),
        ("POST", [*OTHER[1:], ("Sec-Fetch-Dest", "document")], 403),
        ("GET", [*OTHER[1:], ("Sec-Fetch-Dest", "iframe")], 403),
        ("GET", [("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Dest", "image")], 403),
    ],
    ids=str,
)
def test_pages_of_other_sites_get_no_answer_but_may_link_here(
    server: Any, method: str, headers: list[tuple[str, str]], status: int
) -> None:
    host = f"localhost:{server.server_port}"
    with closing(HTTPConnection("127.0.0.1", server.server_port)) as connection:
        sent = {name: value.format(port=server.server_port) for name, value in headers}
        connection.request(method, "/api/studies", headers={"Host": host, **sent})
        answer = connection.getresponse()
        assert (answer.status, answer.read() == b"hello") == (status, status == 200)


def test_port_that_is_in_use_is_refused_with_a_way_out(server: Any) -> None:
    port = server.server_port
    with pytest.raises(ValueError, match=rf"^port must be one that is free, {port} is in use: --port 0 takes any free one$"):
        listen(port)


@contextmanager
def dashboard(folder: Path, *flags: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The script as a person runs it, and the address it prints; ends it by SIGTERM unless it has ended."""
    (folder / "tmp").mkdir(exist_ok=True)
    script = [sys.executable, str(ROOT / "scripts" / "open_dashboard.py")]
    flags = (*"--storage studies.db --port 0 --browser no".split(), *flags)
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    with subprocess.Popen([*script, *flags], cwd=folder, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            found = re.match(r"Optuna Dashboard: (http://127\.0\.0\.1:\d+) \(.*deleted there.*; Ctrl-C ends it\)$", line)
            assert found, line
            yield found[1], process
        finally:
            process.terminate()
            assert process.wait(20) == 0
    assert list((folder / "tmp").iterdir()) == []


def test_in_a_browser_a_study_is_seen_growing_and_what_is_deleted_there_is_whole_here(browser: Any, tmp_path: Path) -> None:
    study = new_study(tmp_path / "studies.db")
    add_runs(study, DOWN)
    context = browser.new_context(viewport={"width": 1500, "height": 1100})
    heard: list[str] = []
    context.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
    context.on("weberror", lambda error: heard.append(str(error.error)))
    page = context.new_page()
    with dashboard(tmp_path) as (address, _):
        page.goto(f"{address}/dashboard/studies/1")
        for chart in CHARTS:
            page.wait_for_selector(f"[id='user-defined-plot:{chart}'] .main-svg")
        add_runs(study, BEYOND)
        fail_run(study, f"ValueError: {' '.join(HOSTILE)}", "Traceback\n" + "\n".join(HOSTILE))
        marks = page.locator("[id='user-defined-plot:time-to-bottom'] .scatterlayer .point")
        wait_for(lambda: marks.count() == 4, 60)
        page.click("[title='Note'] a")
        page.wait_for_selector("text=This is a copy that follows the study")
        page.wait_for_selector("text=How far to trust this")
        page.click("[title='Trials (List)'] a")
        for number, reason in {3: "turned non-finite at step 3", 4: "did not finish: ValueError"}.items():
            page.click(f"text=Trial {number}")
            page.wait_for_selector(f"text={reason}")
        page.click("[title='Smart Selection'] a")
        page.wait_for_selector("text=UserAttribute time to bottom (epochs)")
        assert page.locator("td:text-is('too high')").count() == 1
        before, trials = bytes_of(tmp_path / "studies.db"), study.get_trials()
        page.goto(f"{address}/dashboard")
        page.click("[aria-label='delete study']")
        page.click("text=Yes")
        page.wait_for_selector("text=digits", state="detached")
        assert json.loads(urlopen(f"{address}/api/studies").read()) == {"study_summaries": []}
        assert bytes_of(tmp_path / "studies.db") == before and study.get_trials() == trials
    assert heard == []
    context.close()


def test_writable_dashboard_is_the_storage_itself_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    new_study(tmp_path / "studies.db")
    with dashboard(tmp_path, "--writable") as (address, process):
        with closing(HTTPConnection(address.removeprefix("http://"))) as connection:
            connection.request("DELETE", "/api/studies/1", "{}", {"Content-Type": "application/json"})
            assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert open_storage(f"sqlite:///{tmp_path / 'studies.db'}").get_all_studies() == []
