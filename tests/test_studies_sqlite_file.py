"""An SQLite file that is damaged or of another version is refused by reading alone, also while somebody writes to it."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import create_trial

from studies.storage.database_url import storage_url
from studies.storage.opening import open_storage
from studies.storage.sqlite_file import check_database


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A study of thirty trials with long attributes, on some forty pages."""
    path = tmp_path_factory.mktemp("made") / "s.db"
    study = optuna.create_study(study_name="first", storage=open_storage(storage_url(str(path))))
    space: dict[str, BaseDistribution] = {"learning_rate": FloatDistribution(0, 1)}
    for number in range(30):
        curves = {"curves": [number / 7] * 200}
        study.add_trial(create_trial(params={"learning_rate": 0.5}, distributions=space, value=0.5, user_attrs=curves))
    change(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, made: bytes) -> Path:
    path = tmp_path / "50% off?" / "a {b} #c.db"
    path.parent.mkdir()
    path.write_bytes(made)
    return path


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def test_whole_file_passes_also_at_a_path_of_odd_letters(path: Path) -> None:
    before = path.read_bytes()
    check_database(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("DELETE FROM trials WHERE number = 29", "is damaged .a row of trial_.* belongs to none of trials.: restore a copy or"),
        ("UPDATE trials SET number = 30 WHERE number = 29", "is damaged .trials are missing or twice there."),
        ("UPDATE trials SET number = 3 WHERE number = 29", "is damaged .trials are missing or twice there."),
        ("UPDATE trial_user_attributes SET value_json = CAST(x'22ff22' AS TEXT)", "is damaged .Could not decode to UTF-8"),
        ("UPDATE study_directions SET direction = 'UP'", "is damaged .LookupError: 'UP' is not among the defined enum values"),
        ("DROP TABLE trial_heartbeats", "is damaged .table trial_heartbeats is missing."),
        ("DELETE FROM version_info", "is damaged .version_info is empty."),
        ("UPDATE alembic_version SET version_num = 'v3.0.0.d'", "is of another version of Optuna: .* optuna storage upgrade"),
        ("UPDATE alembic_version SET version_num = 'v9'", "is of another version of Optuna: .* updating optuna to the latest"),
    ],
)
def test_database_that_is_not_as_optuna_leaves_it_is_refused(path: Path, statement: str, sentence: str) -> None:
    change(path, statement)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"storage '.*c.db' {sentence}"):
        check_database(path)
    assert path.read_bytes() == before


def test_each_page_that_is_overwritten_is_noticed(path: Path) -> None:
    content, rng = path.read_bytes(), random.Random(0)
    pages = len(content) // 4096
    assert pages > 30
    for page in rng.sample(range(1, pages), 12):
        path.write_bytes(content[: page * 4096] + rng.randbytes(4096) + content[(page + 1) * 4096 :])
        with pytest.raises(ValueError, match="is damaged"):
            check_database(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_file_that_was_cut_off_is_refused(path: Path, share: float) -> None:
    content = path.read_bytes()[: int(path.stat().st_size * share)]
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        check_database(path)
    assert path.read_bytes() == content


def test_what_a_writer_has_in_its_log_is_read_and_left(path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("UPDATE trials SET state = 'COMPLETE'")
        before = path.read_bytes(), log.read_bytes()
        check_database(path)
        writer.execute("BEGIN IMMEDIATE")
        check_database(path)
        writer.execute("ROLLBACK")
        assert (path.read_bytes(), log.read_bytes()) == before
        writer.execute("UPDATE trials SET number = 3 WHERE number = 29")
        before = path.read_bytes(), log.read_bytes()
        with pytest.raises(ValueError, match="trials are missing or twice there"):
            check_database(path)
        assert (path.read_bytes(), log.read_bytes()) == before


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="storage must be a file that can be read, got '.*': Is a directory"):
        check_database(tmp_path)


def test_a_file_that_is_checked_stays_locked_by_the_study_that_is_open_beside(path: Path) -> None:
    """The last to close a file in write-ahead mode takes the log away, unless others hold it: this process does."""
    storage = open_storage(storage_url(str(path)))
    study = optuna.load_study(study_name="first", storage=storage)
    check_database(path)
    other = "import sys, sqlite3; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM trials').fetchone(); c.close()"
    subprocess.run([sys.executable, "-c", other, str(path)], check=True)
    assert path.with_name(f"{path.name}-wal").exists()
    study.add_trial(create_trial(value=0.5))
    check_database(path)
    assert len(study.trials) == 31
