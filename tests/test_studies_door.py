"""What is refused at the door: unsafe YAML, an unsafe environment, places that cannot be written, and a full disk at work."""

from __future__ import annotations

import importlib.util
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import optuna
import pytest
from sqlalchemy import event
from yaml import YAMLError

from lightning_modules.checkpoint import CheckpointNotWritten
from studies import StudyConfig, run_study
from studies.commands.command_line import FAILED, fail_at_work, run
from studies.commands.config_file import MOST_BYTES, read_options
from studies.commands.launch import main, parse_args
from studies.commands.yaml_loader import load_yaml
from studies.errors import BadInput
from studies.storage.door import UNSAFE, entered
from studies.storage.opening import open_storage

ROOT = Path(__file__).parents[1]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(10 * [f'*{a}'])}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 60))
REFUSED = [
    (
        "a: !!python/object/apply:os.system ['touch made']",
        "tags are not read, got 'tag:yaml.org,2002:python/object/apply:os.system'",
    ),
    ("a: 1\nb: !!binary aGk=", "tags are not read, got 'tag:yaml.org,2002:binary' in line 2, column 4"),
    ("a: !mine 3", "tags are not read, got '!mine'"),
    ("! 3", "tags are not read, got '!'"),
    ("a: 1\nb: 2\na: 3", "key 'a' stands twice, first in line 1, again in line 3, column 1"),
    ("a: [{b: {c: 1, 'c': 2}}]", "key 'c' stands twice"),
    ("a: &a {x: 1}\nb: {<<: *a, <<: *a}", "key '<<' stands twice"),
    (
        "a: &a {x: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b}",
        "a merge key (<<) must name one mapping, which has none itself, in line 3",
    ),
    ("a: &a {x: 1}\nb: &b {x: 2}\nc: {<<: [*a, *b]}", "a merge key (<<) must name one mapping"),
    (BOMB, "aliases stand for more than 10,000 values in line 4"),
    ("a: &a [*a]", "alias 'a' stands inside what it stands for"),
    (CHAIN, "lists and mappings are nested deeper than 50 levels in line 50"),
    (51 * "[" + 51 * "]", "lists and mappings are nested deeper than 50 levels in line 1, column 51"),
    (100_000 * "[", "exceeded maximum nesting depth"),
    (100_000 * "- ", "nested deeper than 50 levels"),
    (f"a: {'9' * 5_000}", "4300 digits"),
    (f"a: 0x{'f' * 5_000}", "4300 digits"),
    ("a: 0b_", "invalid literal"),
    ("a: \x00", "control characters are not allowed"),
    ("a: \ud800", "surrogates not allowed"),
    ("a: 1\n---\nb: 2", "expected a single document"),
]


@pytest.mark.parametrize(("text", "fault"), REFUSED, ids=[text[:40] for text, _ in REFUSED])
def test_yaml_that_is_more_than_plain_is_refused_in_one_line(text: str, fault: str) -> None:
    with pytest.raises(YAMLError, match=re.escape(fault)) as error:
        load_yaml(text)
    assert "\n" not in str(error.value)


def test_plain_yaml_is_read_with_its_anchors_and_numbers() -> None:
    assert load_yaml("a: &a {x: 1, y: 1e-3}\nb: {<<: *a, x: 2}\nc: {x: 3, <<: *a}\nd: {<<: *a}\ne: [*a, *a]") == {
        "a": {"x": 1, "y": 0.001},
        "b": {"x": 2, "y": 0.001},
        "c": {"x": 3, "y": 0.001},
        "d": {"x": 1, "y": 0.001},
        "e": [{"x": 1, "y": 0.001}] * 2,
    }
    numbers = {"1e-3": 1e-3, "-1E5": -1e5, "1.5e3": 1500.0, ".5e3": 500.0, "0.1": 0.1, "3": 3, "0xff": 255}
    assert {text: load_yaml(text) for text in numbers} == numbers
    assert [load_yaml(text) for text in ("2024-01-01", "'1e-3'", "e3", "1e", "null")] == [
        "2024-01-01",
        "1e-3",
        "e3",
        "1e",
        None,
    ]
    assert load_yaml(50 * "[" + 50 * "]") is not None


FILES: list[tuple[str, Callable[[Path], object], str]] = [
    ("pipe", os.mkfifo, "config must be a YAML file, got a pipe or device at 'pipe'"),
    ("/dev/zero", lambda path: None, "config must be a YAML file, got a pipe or device at '/dev/zero'"),
    (
        "/proc/self/mem",
        lambda path: None,
        "config must be a YAML file that can be read, got '/proc/self/mem': Input/output error",
    ),
    ("a" * 300, lambda path: None, f"config must be a YAML file that can be read, got {'a' * 300!r}: File name too long"),
    (
        "long",
        lambda path: path.write_bytes(b"#" * (MOST_BYTES + 1)),
        "config must be a YAML file of at most 10 MB, got more in 'long'",
    ),
    ("twice", lambda path: path.write_text("epochs: 2\nepochs: 3"), "got 'twice': key 'epochs' stands twice, first in line 1"),
    ("tagged", lambda path: path.write_text("name: !!python/name:os.system"), "got 'tagged': tags are not read"),
]


@pytest.mark.parametrize(("name", "make", "sentence"), FILES, ids=[name[:20] for name, *_ in FILES])
def test_file_that_is_no_plain_text_of_reasonable_size_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[[Path], object], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path(name))
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read_options(name)


def test_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"epochs: 2\n#".ljust(MOST_BYTES, b"#"))
    assert read_options(str(tmp_path / "long")) == {"epochs": 2}


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            "--model.momentum !!python/name:os.system",
            "--model.momentum must be followed by a YAML value such as 0.9 or [128,64]",
        ),
        ("--model.momentum {a:&a,b:[*a,*a],b:3}", "--model.momentum must be followed by a YAML value"),
        (f"--model{'.a' * 51} 3", "--model must be followed by at most 50 names, got 51"),
    ],
)
def test_flag_is_read_as_the_file_is(flags: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        parse_args(flags.split())


def test_tag_in_a_flag_that_takes_any_value_is_text() -> None:
    assert parse_args(["--name", "!!python/name:os.system"])["name"] == "!!python/name:os.system"
    assert parse_args(["--trainer", "{max_epochs: 3, max_epochs: 4}"])["trainer"] == "{max_epochs: 3, max_epochs: 4}"


@pytest.mark.parametrize("key", ["unknown", "help", 5, True, None])
@pytest.mark.parametrize("value", ["{}", "[]", "3"])
def test_option_that_is_not_known_is_refused_whatever_it_holds(tmp_path: Path, key: object, value: str) -> None:
    (tmp_path / "c.yaml").write_text(f"{'null' if key is None else str(key).lower()}: {value}\n")
    with pytest.raises(ValueError, match=f"option {key!r} is not known; "):
        parse_args(["--config", str(tmp_path / "c.yaml")])


def test_one_batch_size_in_a_file_needs_no_list(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("batch_size: 64\n")
    assert StudyConfig(batch_size=parse_args(["--config", str(tmp_path / "c.yaml")])["batch_size"]).batch_size == (64,)


@pytest.mark.parametrize("said", ["1", "y", "YES", "true"])
def test_environment_that_has_pytorch_unpickle_checkpoints_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(UNSAFE, said)
    with pytest.raises(ValueError, match="TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD must not be set: PyTorch would run code that a"):
        run_study(StudyConfig())
    assert run(lambda: main([]), "launch") == 2
    assert capsys.readouterr().err.startswith("launch: TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD must not be set")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("said", ["0", "", "no", "on"])
def test_environment_that_pytorch_takes_for_safe_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv(UNSAFE, said)
    with entered(StudyConfig(storage=str(tmp_path / "studies.db")), tmp_path):
        pass


def test_study_that_is_not_begun_leaves_nothing(tmp_path: Path) -> None:
    config = StudyConfig(storage=str(tmp_path / "new" / "sub" / "studies.db"))
    with pytest.raises(ValueError, match="of the model"), entered(config, tmp_path / "out"):
        assert (tmp_path / "new" / "sub" / "studies.db.digits.lock").exists()
        raise ValueError("of the model")
    assert not list(tmp_path.iterdir())


def test_study_that_was_begun_stays_and_so_does_what_others_put_beside_it(tmp_path: Path) -> None:
    begun, other = (StudyConfig(storage=str(tmp_path / name / "studies.db")) for name in ("begun", "other"))
    with entered(begun, tmp_path):
        open_storage(f"sqlite:///{begun.storage}").engine.dispose()
    with entered(other, tmp_path):
        (tmp_path / "other" / "notes").touch()
    assert (tmp_path / "begun" / "studies.db").exists()
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["notes"]


def test_launch_checks_its_storage_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checked: list[Path] = []
    monkeypatch.setattr("studies.storage.sqlite_file.check_database", checked.append)
    options = "--learning-rate 0.1 1 --points 2 --batch-size 256 --seeds 1 --epochs 1 --self-check 1 --storage studies.db"
    assert main(options.split()) == 0 and checked == []  # there was none
    assert main(options.split()) == 0 and checked == [Path("studies.db")]


HELD = """
import sys
from studies.commands.command_line import run
from studies.commands.launch import main
from studies.storage.lock import locked
with locked("sqlite:///studies.db", "digits"):
    print(run(lambda: main(["--storage", "studies.db"]), "launch"), sorted({"torch", "optuna"} & set(sys.modules)))
"""


def test_second_launch_and_places_are_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", HELD], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.stdout == "3 []\n", done.stderr
    assert re.fullmatch(r"launch: study 'digits' is being worked on by process \d+ on .*\n", done.stderr)


def test_full_database_is_one_sentence_that_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'studies.db'}")
    study = optuna.create_study(study_name="mine", storage=storage)
    event.listen(storage.engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 40"))
    storage.engine.dispose()
    _refused(lambda: study.set_user_attr("much", ["x" * 2_000] * 500), "database or disk is full", capsys)


def test_database_that_became_read_only_is_one_sentence_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'studies.db'}")
    study = optuna.create_study(study_name="mine", storage=storage)
    event.listen(storage.engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only = 1"))
    storage.engine.dispose()
    _refused(lambda: study.set_user_attr("a", 1), "attempt to write a readonly database", capsys)


def _refused(write: Callable[[], object], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        try:
            write()
        except Exception as error:
            return fail_at_work(error, folder="outputs/mine", storage="outputs/studies.db")
        return 0

    assert run(work, "launch") == FAILED
    assert capsys.readouterr().err == (
        f"launch: storage 'outputs/studies.db' could not be read or written: {reason};"
        " what finished is kept, and the same command goes on from there\n"
    )


def test_full_disk_and_checkpoint_that_was_not_written_name_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    def work(write: Callable[[], object]) -> int:
        try:
            write()
        except OSError as error:
            return fail_at_work(error, folder="outputs/mine", storage="outputs/studies.db")
        return 0

    def not_written() -> None:
        raise CheckpointNotWritten(28, "No space left on device", "outputs/mine/checkpoints/0.ckpt")

    for write, place in (
        (lambda: Path("/dev/full").write_text("x"), "No space left on device (in outputs/mine or outputs/studies.db);"),
        (not_written, "No space left on device: 'outputs/mine/checkpoints/0.ckpt';"),
    ):
        assert run(partial(work, write), "launch") == FAILED
        said = capsys.readouterr().err
        assert said == f"launch: [Errno 28] {place} what finished is kept, and the same command goes on from there\n"


def test_mistake_in_our_sql_keeps_its_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        sqlite3.connect(tmp_path / "a.db").execute("SELECT nonsense")
    except sqlite3.OperationalError as error:
        assert fail_at_work(error, folder="a", storage="b") == FAILED
    assert "Traceback" in capsys.readouterr().err


def test_long_and_odd_input_is_shown_as_one_short_line(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> int:
        raise BadInput(f"name must be short, got \x1b[31m\u202e\ud800 {'x' * 10_000}")

    assert run(refuse, "launch") == 2
    said = capsys.readouterr().err
    assert said.startswith(r"launch: name must be short, got \x1b[31m\u202e\ud800 xxx") and said.endswith("x...\n")
    assert said[:-1].isprintable() and len(said) < 2_100


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "endurance" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_malformed_configurations_are_refused_with_their_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert _script("malformed").main(["--rounds", "40"]) == 0, capsys.readouterr().err


def test_places_are_told_in_one_sentence_and_nothing_is_left() -> None:
    places = _script("places")
    told = [case for case in places.CASES if "read_only" not in case[1]]  # which needs a mount or an ordinary user
    cases = told[::6]
    assert {f"{script} {options}": places.broken(places.refuse(script, options), said) for script, options, said in cases} == {
        f"{script} {options}": "" for script, options, _ in cases
    }
