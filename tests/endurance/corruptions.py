"""Damage the SQLite file of a small study at random: each time it must be refused in a sentence, or read and launched right.

Some rounds have a write-ahead log beside the file, which another process holds open.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import shutil
import sqlite3
import string
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch is imported

import optuna
import pandas as pd
from optuna.trial import TrialState

from studies import StudyConfig, curves_table, judge_study, load_study, run_study, runs_table
from studies.answers import fresh_tables
from studies.search import run_self_check
from studies.storage.stored import attributes_of_failure

NAME = "small"
PAGE = 4096  # bytes, as SQLite has them
SHARE_OF_SQL, SHARE_OF_WAL = 0.5, 0.2  # of the rounds
ERROR = {"error": "ValueError: broken", "traceback": "File 'model.py', line 3\nValueError: broken"}
OUTCOMES = ("refused", "right", "wrong", "overwritten", "traceback")
LETTERS = string.digits + string.ascii_letters

Tables = tuple[pd.DataFrame, ...]


def make_study(storage: Path) -> StudyConfig:
    """Runs that diverge and runs that do not, one that failed, and a self-check; a write-ahead log is kept as ``.wal``."""
    config = StudyConfig(
        model="Parabola",
        data={"class_path": "ParabolaData", "init_args": {"n_examples": 32, "noise": 1.0}},
        learning_rate=(0.03, 10.0),
        points=4,
        batch_size=[4, 16],
        seeds=1,
        epochs=2,
        workers=1,
        name=NAME,
        storage=str(storage),
    )
    study = run_study(config, out=storage.parent)
    failed = study.ask(study.trials[0].distributions)
    for name, value in attributes_of_failure(failed.params, ERROR).items():
        failed.set_user_attr(name, value)
    study.tell(failed, state=TrialState.FAIL)
    run_self_check(config, judge_study(study).recommendations, seeds=1, out=storage.parent)
    return config


def keep(storage: Path, clean: Path, logged: Path) -> None:
    """Copy the file without a write-ahead log to ``clean``, and with one, in which all values are, to ``logged``."""
    with closing(sqlite3.connect(storage, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(storage, clean)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("UPDATE trial_values SET value = value")
        for end in ("", "-wal"):
            shutil.copy(f"{storage}{end}", f"{logged}{end}")


def flip_bits(content: bytearray, rng: random.Random) -> None:
    """Up to eight, anywhere."""
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def zero_page(content: bytearray, rng: random.Random) -> None:
    """All of one page."""
    at = rng.randrange(len(content) // PAGE) * PAGE
    content[at : at + PAGE] = bytes(PAGE)


def truncate(content: bytearray, rng: random.Random) -> None:
    """At any byte, the first included."""
    del content[rng.randrange(len(content)) :]


def overwrite(content: bytearray, rng: random.Random) -> None:
    """Up to two pages with noise."""
    length = rng.randint(1, 2 * PAGE)
    at = rng.randrange(len(content) - length)
    content[at : at + length] = rng.randbytes(length)


def swap_pages(content: bytearray, rng: random.Random) -> None:
    """Two change places."""
    one, two = (page * PAGE for page in rng.sample(range(len(content) // PAGE), 2))
    content[one : one + PAGE], content[two : two + PAGE] = content[two : two + PAGE], content[one : one + PAGE]


def change_letter(content: bytearray, rng: random.Random) -> None:
    """A letter or digit of what is stored becomes another."""
    at = rng.randrange(len(content))
    while chr(content[at]) not in LETTERS:
        at = rng.randrange(len(content))
    content[at] = ord(rng.choice(LETTERS))


def change_value(connection: sqlite3.Connection, table: str, rng: random.Random) -> None:
    """A value of a row becomes another, often of the same kind; names of studies do not, as that is how a study is renamed."""
    columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})") if name != "study_name"]
    column = rng.choice(columns)
    row, old = rng.choice(connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall())
    new = rng.choice([None, 0, 1, "", "x", "NaN"])
    if isinstance(old, str) and old and rng.random() < 0.8:
        at = rng.randrange(len(old))
        new = old[:at] + rng.choice(LETTERS + '"[]{},.') + old[at + 1 :]
    elif isinstance(old, int | float) and rng.random() < 0.8:
        new = rng.choice([old + 1, old - 1, old * 1.001, -old, 0])
    connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, row))


def delete_row(connection: sqlite3.Connection, table: str, rng: random.Random) -> None:
    """One, of any table."""
    row = rng.choice(connection.execute(f"SELECT rowid FROM {table}").fetchall())
    connection.execute(f"DELETE FROM {table} WHERE rowid = ?", row)


OF_BYTES = (flip_bits, zero_page, truncate, overwrite, swap_pages, change_letter)
OF_ROWS = (change_value, change_value, delete_row)


def damage_bytes(path: Path, rng: random.Random) -> str:
    """Damage a file; returns how."""
    damage, content = rng.choice(OF_BYTES), bytearray(path.read_bytes())
    damage(content, rng)
    path.write_bytes(content)
    return damage.__name__


def damage_rows(path: Path, rng: random.Random) -> str:
    """Change a row by SQL, so that the database stays whole; returns how."""
    damage = rng.choice(OF_ROWS)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        full = [name for name in names if connection.execute(f"SELECT 1 FROM {name}").fetchone()]
        while connection.total_changes == 0:
            with contextlib.suppress(sqlite3.IntegrityError):
                damage(connection, table := rng.choice(full), rng)
    return f"{damage.__name__} of {table}"


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Another process reads the file, so that its write-ahead log stays; one that cannot read it holds nothing."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        with contextlib.suppress(sqlite3.DatabaseError):
            connection.execute("SELECT * FROM studies").fetchone()
        yield


def read(config: StudyConfig) -> Tables:
    """All that a report is made from, those of the self-check included."""
    study = load_study(config.storage, NAME)
    judge_study(study)
    return (runs_table(study), curves_table(study), *(fresh_tables(study) or ()))


def launch(config: StudyConfig) -> Tables:
    """The same after the launch command, which finds nothing to train."""
    run_study(config, out=Path(config.storage).parent)
    return read(config)


def attempt(use: Callable[[StudyConfig], Tables], config: StudyConfig, expected: Tables) -> tuple[str, str]:
    """What comes of it: refused, right, wrong, overwritten or traceback; and what was said."""
    path = Path(config.storage)
    before, told = path.read_bytes(), ""
    try:
        found = use(config)
        outcome = "right" if len(found) == len(expected) and all(map(pd.DataFrame.equals, found, expected)) else "wrong"
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        a_sentence = isinstance(error, ValueError) and "\n" not in told and (config.storage in told or repr(NAME) in told)
        outcome = "refused" if a_sentence else "traceback"
        told = told if a_sentence else traceback.format_exc()
    if (outcome == "refused" or use is read) and path.read_bytes() != before:
        outcome = "overwritten"
    return outcome, told


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, metavar="N", help="corruptions (default: 200)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is damaged (default: 0)")
    parser.add_argument("--verbose", action="store_true", help="tell what came of every round")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 when anything was wrong, overwritten, or not told in a sentence."""
    options = parse_args(argv)
    rng, outcomes = random.Random(options.seed), Counter[str]()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        home, clean, logged = Path(folder) / "home", Path(folder) / "clean.db", Path(folder) / "logged.db"
        home.mkdir()
        made = make_study(home / "studies.db")
        keep(home / "studies.db", clean, logged)
        expected = read(made)
        for number in range(options.rounds):
            by_sql, with_log = rng.random() < SHARE_OF_SQL, rng.random() < SHARE_OF_WAL
            place = Path(folder) / str(number)
            place.mkdir()
            damaged = place / "damaged.db"
            shutil.copy(clean, damaged)
            if by_sql:
                how = damage_rows(damaged, rng)
            else:
                if with_log:
                    shutil.copy(logged, damaged)
                    shutil.copy(f"{logged}-wal", f"{damaged}-wal")
                how = damage_bytes(damaged, rng) + (" beside a log" if with_log else "")
            for use in (read, launch):
                used = place / f"{use.__name__}.db"
                for end in ("", "-wal"):
                    if Path(f"{damaged}{end}").exists():
                        shutil.copy(f"{damaged}{end}", f"{used}{end}")
                holding = held(used) if Path(f"{used}-wal").exists() else nullcontext()
                with holding:
                    outcome, told = attempt(use, replace(made, storage=str(used)), expected)
                outcomes[outcome] += 1
                if outcome not in ("refused", "right") or options.verbose:
                    print(f"round {number}, {how}, {use.__name__}: {outcome}. {told}", file=sys.stderr)
            shutil.rmtree(place)
    counted = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in OUTCOMES)
    print(f"{options.rounds} corruptions, each read and launched: {counted}")
    return 0 if set(outcomes) <= {"refused", "right"} else 1


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.ERROR)  # what a broken study logs is not the point
    sys.exit(main())
