"""The storage refuses what is not its own and leaves it as it was; the lock names who holds a study."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from filelock import FileLock

from studies import StudyInUse, load_study
from studies.storage.database_url import storage_url
from studies.storage.lock import locked
from studies.storage.opening import open_storage, open_to_read
from studies.storage.writable import check_storage, require_writable

HOLD = """import sys
from studies.storage.lock import locked
with locked(sys.argv[1], "mine"):
    print("held", flush=True)
    sys.stdin.read()
"""


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def _text(path: Path) -> None:
    path.write_text("these are notes, not a database\n" * 10)


def _zero_bytes(path: Path) -> None:
    path.touch()


def _foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE photos (id INTEGER)")
    connection.commit()
    connection.close()


def _damaged(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\x00" + bytes(range(256)) * 20)


CASES: list[tuple[Callable[[Path], None], str]] = [
    (_text, "is not an SQLite database, or is damaged: restore a copy or give another file"),
    (_zero_bytes, "is an empty file: restore a copy, or remove it and launch again"),
    (Path.mkdir, "storage must be a file, .* is a folder"),
    (_foreign, "is a database of something else: give another file"),
    (_damaged, "is not an SQLite database, or is damaged"),
]


@pytest.mark.parametrize("must_exist", [False, True], ids=["launch", "read"])
@pytest.mark.parametrize(("make", "sentence"), CASES, ids=["text", "zero bytes", "folder", "foreign", "damaged"])
def test_what_is_not_ours_is_refused_and_untouched(
    tmp_path: Path, make: Callable[[Path], None], sentence: str, must_exist: bool
) -> None:
    make(tmp_path / "studies.db")
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        check_storage(str(tmp_path / "studies.db"), must_exist=must_exist)
    assert snapshot(tmp_path) == before


def test_missing_file_is_refused_to_a_reader_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "studies.db"
    with pytest.raises(ValueError, match="does not exist: give the file that launch_study wrote"):
        check_storage(str(path), must_exist=True)
    with pytest.raises(ValueError, match="does not exist"):
        load_study(str(path), "digits")
    assert check_storage(str(path)) == f"sqlite:///{path}"
    assert snapshot(tmp_path) == {}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc here")
def test_place_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="storage must be a place that can be written, got '/proc/x'"):
        check_storage("/proc/x/studies.db")


def test_path_below_a_regular_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for storage in ("file/studies.db", "file/deep/studies.db"):
        with pytest.raises(ValueError, match="storage must be a place that can be written"):
            check_storage(str(tmp_path / storage))
    with pytest.raises(ValueError, match="out must be a place that can be written, got .*file"):
        require_writable(tmp_path / "file" / "digits", "out")
    assert snapshot(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize("storage", ["", "  ", 3], ids=repr)
def test_empty_storage_is_refused(storage: str) -> None:
    with pytest.raises(ValueError, match="storage must be an SQLite file or a URL"):
        storage_url(storage)


def test_urls_pass_and_paths_become_sqlite() -> None:
    assert storage_url("mysql://host/name") == "mysql://host/name"
    assert storage_url("a/b.db") == "sqlite:///a/b.db"


def test_storage_is_in_write_ahead_mode_and_reopens(tmp_path: Path) -> None:
    url = check_storage(str(tmp_path / "new" / "studies.db"))
    optuna.create_study(storage=open_storage(url), study_name="first")
    connection = sqlite3.connect(tmp_path / "new" / "studies.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert check_storage(url, must_exist=True) == url


def test_unknown_study_is_refused_with_the_known(tmp_path: Path) -> None:
    storage = str(tmp_path / "studies.db")
    opened = open_storage(check_storage(storage))
    with pytest.raises(ValueError, match="there are none; got 'c'"):
        load_study(storage, "c")
    for name in ("b", "a"):
        optuna.create_study(storage=opened, study_name=name)
    with pytest.raises(ValueError, match="name must be a study in .*: a, b; got 'c'"):
        load_study(storage, "c")
    assert load_study(storage, "b").study_name == "b"


def test_held_study_is_refused_with_its_holder_and_free_after_a_kill(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    child = subprocess.Popen([sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin and child.stdout
    try:
        assert child.stdout.readline() == b"held\n"
        with (
            pytest.raises(StudyInUse, match=f"study 'mine' is being worked on by process {child.pid} on "),
            locked(url, "mine"),
        ):
            pass
        with pytest.raises(StudyInUse, match=f"by process {child.pid} on "), locked(url, "mine"):
            pass  # a refused launch leaves the holder's note
        with locked(url, "other"):
            pass
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
    with locked(url, "mine"):
        assert str(os.getpid()) in "".join(path.read_text() for path in tmp_path.glob("*.holder"))
    with locked(url, "mine"):
        pass


def test_study_is_held_against_the_process_that_holds_it_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    with locked(url, "mine"):
        for _ in range(2):
            with pytest.raises(StudyInUse, match=f"by process {os.getpid()} on "), locked(url, "mine"):
                pass
    with locked(url, "mine"):
        pass
    assert list(tmp_path.glob("*.holder")) == []


def test_holder_that_has_not_said_who_it_is_is_given_a_moment(tmp_path: Path) -> None:
    url, holder = f"sqlite:///{tmp_path / 'studies.db'}", tmp_path / "studies.db.mine.holder"
    refusal = pytest.raises(StudyInUse, match="by another process: wait for it")
    with FileLock(tmp_path / "studies.db.mine.lock"):
        with refusal, locked(url, "mine"):
            pass
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        holder.write_text(f"process {gone.pid} on {socket.gethostname()}")  # it was killed: the note is not the new holder's
        with refusal, locked(url, "mine"):
            pass
        late = threading.Timer(0.1, holder.write_text, ["process 1 on another host"])
        late.start()
        with pytest.raises(StudyInUse, match="by process 1 on another host: wait for it"), locked(url, "mine"):
            pass
        late.join()


ODD_NAMES = ["a%20b.db", "a{x}.db", "a{{SCHEMA_VERSION}}.db", "a?b=c.db", "a#b.db", "a b.db", "ä€.db", "a'b\"c.db", "a&b.db"]


def test_file_of_an_odd_name_is_the_one_that_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(ODD_NAMES):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        url = check_storage([name, f"sqlite:///{name}", str(folder / name)][number % 3])
        with locked(url, "mine"):
            optuna.create_study(study_name="mine", storage=open_storage(url))
        assert load_study(url, "mine").study_name == "mine"
        assert [study.study_name for study in open_to_read(url).get_all_studies()] == ["mine"]
        made = {path.name for path in folder.iterdir()}
        assert {name} <= made <= {f"{name}{end}" for end in ("", ".lock", ".mine.lock", "-wal", "-shm")}


def test_file_is_there_with_all_its_tables_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "studies.db"
    url = check_storage(str(path))
    (tmp_path / "studies.db.new").write_text("left behind by one that was killed")
    (tmp_path / "studies.db.new-journal").write_text("and this")

    def full(*_: object, **__: object) -> None:
        assert not path.exists()
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("optuna.storages._rdb.storage._VersionManager.__init__", full)
        with pytest.raises(ValueError, match=r"storage '.*studies.db' could not be opened: database or disk is full"):
            open_storage(url)
    assert {entry.name for entry in tmp_path.iterdir()} <= {"studies.db.lock"}
    assert open_storage(url).get_all_studies() == []
    assert check_storage(str(path), must_exist=True) == url


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_file_that_cannot_be_written_is_refused_to_a_launch_and_read(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    optuna.create_study(study_name="mine", storage=open_storage(check_storage(str(path))))
    path.chmod(0o444)
    with pytest.raises(ValueError, match="storage must be a file that can be written, '.*studies.db' is read-only"):
        check_storage(str(path))
    assert load_study(str(path), "mine").study_name == "mine"


def test_writes_are_announced_before_they_are_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    seen: list[tuple[str, bool]] = []
    files = {"tables": tmp_path / "studies.db", "holder": tmp_path / "studies.db.mine.holder"}
    listening = True

    def listen(what: str, arguments: tuple[str, ...]) -> None:
        if listening and what == "lr_study.write":
            seen.append((arguments[0], files[arguments[0]].exists()))

    sys.addaudithook(listen)  # stays for good
    try:
        with locked(url, "mine"):
            open_storage(url)
    finally:
        listening = False
    assert seen == [("holder", False), ("tables", False)]


def test_lock_is_light() -> None:
    code = "import studies.storage.lock, sys; print(sorted({'torch', 'optuna', 'pandas', 'sqlalchemy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("storage", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_database_in_memory_is_refused_because_its_results_would_be_lost(storage: str) -> None:
    with pytest.raises(ValueError, match="a database in memory would be lost, got 'sqlite"):
        check_storage(storage)


def test_unknown_kind_of_database_is_refused_without_its_password() -> None:
    with pytest.raises(ValueError, match="a database that can be reached from here, got one of kind 'nodb'") as refusal:
        check_storage("nodb://user:secret@host/name")
    assert "secret" not in str(refusal.value)
