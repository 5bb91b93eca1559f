"""``compare_studies``: which studies are meant, what is printed and written, and the exit code a pipeline can act on."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import tables
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import create_trial

from studies import Run
from studies.commands import report
from studies.commands.command_line import BAD_INPUT, run
from studies.commands.compare import NOT_GOOD, choose_studies, label_studies, main
from studies.storage.opening import open_storage
from studies.storage.stored import attributes_of

ROOT = Path(__file__).parents[1]
SLOW = [2.0, 1.9, 1.8, 1.7, 1.6, 1.5]
GOOD = [2.0, 0.1, 0.0, 0.0, 0.0, 0.0]
HOVERS = [2.0, 1.0, 1.2, 0.9, 1.1, 1.0]
LOST = [2.0, 9.0, 400.0, math.inf]
FOUR = {0.01: SLOW, 0.1: GOOD, 1.0: HOVERS, 10.0: LOST}
LOWER = {0.01: GOOD, 0.1: HOVERS, 1.0: LOST, 10.0: LOST}
SPACE = {
    "learning_rate": FloatDistribution(1e-3, 100, log=True),
    "batch_size": IntDistribution(1, 999),
    "seed": IntDistribution(0, 9),
}


def store(path: Path, name: str, curves: dict[float, Sequence[float]], *, size: int = 32, **configuration: Any) -> None:
    """A study of two seeds as a launch leaves it, without training."""
    study = optuna.create_study(study_name=name, storage=open_storage(f"sqlite:///{path}"))
    study.set_user_attr("configuration", configuration)
    study.set_user_attr("how_trained", {str(size): {"members": 8, "why": "8 fused, 2 times as fast as alone"}})
    by_rate = {
        rate: [heights[0], heights[1] + rate / 1e4, *heights[2:]] for rate, heights in curves.items()
    }  # none is another's
    runs, points = tables({(size, rate): [heights] * 2 for rate, heights in by_rate.items()})
    for row in runs.to_dict("records"):
        found = points[points["trial"] == row["trial"]]
        lost = row["final_height"] == math.inf
        kept = "learning_rate batch_size seed epochs steps examples seconds first_height final_height".split()
        facts = Run(
            **{key: row[key] for key in kept},
            nonfinite_at=3 if lost else None,
            validation_examples=450,
            value=row["final_height"],
            metrics={} if lost else {"val_loss": row["val_loss"] + 0.01 * row["seed"]},
            curves={"height": (found["step"].tolist(), found["value"].tolist())},
        )
        params = {key: row[key] for key in SPACE}
        study.add_trial(create_trial(params=params, distributions=SPACE, value=facts.value, user_attrs=attributes_of(facts)))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two storages."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "outputs").mkdir()
    for path in (folder / "outputs" / "studies.db", folder / "after.db"):
        store(path, "digits", FOUR if path.name == "studies.db" else LOWER, epochs=10 if path.name == "studies.db" else 5)
    store(folder / "after.db", "other size", FOUR, size=64)
    store(folder / "outputs" / "studies.db", "again", FOUR, epochs=10)
    store(folder / "outputs" / "studies.db", "elsewhere", {2.0: SLOW, 20.0: GOOD, 50.0: HOVERS, 90.0: LOST})
    store(folder / "outputs" / "studies.db", "lost", dict.fromkeys(FOUR, LOST))
    (folder / "notes.db").write_text("no database")
    unfinished = optuna.create_study(study_name="empty", storage=open_storage(f"sqlite:///{folder / 'after.db'}"))
    unfinished.set_user_attr("configuration", {})
    return folder


@pytest.fixture
def folder(stored: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(stored)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return stored


def call(*argv: str) -> int:
    return run(lambda: main(list(argv)), "compare_studies")


def test_json_is_all_that_stands_on_stdout_and_says_what_the_page_says(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path)]
    assert report.main(["--name", "digits", *out, "--json"]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    [answer] = told["answers"]
    assert (told["version"], told["study"], told["seeds"], answer["batch_size"], answer["use"]) == (1, "digits", 2, 32, 0.1)
    assert answer["good_from"]["low"] < answer["good_from"]["learning_rate"] < answer["safe"][0] <= answer["use"]
    assert told["thresholds"] == {"tau": 0.1, "rho": 3.0, "target_loss": None} and {"name", "passed"} < set(told["checks"][0])
    assert Path(told["report"]).is_file() and told["cost"]["sentence"].startswith("This study took 8 runs")
    assert told == json.loads(Path(told["report"]).with_name("answer.json").read_bytes()) | {"report": told["report"]}
    assert main(["digits", "after.db", "digits", *out, "--json"]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert told["studies"] == ["digits (studies)", "digits (after)"]
    assert told["sentences"] and told["not_good"] and told["tests"]
    assert run(lambda: report.main(["--run", "any.csv", "--json"]), "write_report") == BAD_INPUT
    assert re.search("json belongs to a study, not to --run FILE.csv", capsys.readouterr().err)


def test_report_that_is_judged_in_another_way_says_by_what_the_one_before_was(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--name", "digits", "--out", str(tmp_path)]
    ends = []
    for more in ([], [], ["--rho", "2"], []):
        assert report.main([*words, *more]) == 0
        ends.append(capsys.readouterr().out.splitlines()[-1].partition("report.html")[2])
    assert ends == ["", "", " (instead of one judged by rho 3.0, now 2.0)", " (instead of one judged by rho 2.0, now 3.0)"]


def test_page_is_written_and_the_answer_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("digits", "after.db", "digits") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "comparison: outputs/compare-digits studies-digits after/comparison.html"
    assert lines[0] == "From digits (studies) to digits (after) at batch size 32: use 0.01 instead of 0.1 (too high)."
    page = Path(lines[-1].removeprefix("comparison: "))
    assert page.exists() and "| epochs | 10 | 5 |" in page.with_suffix(".md").read_text(encoding="utf-8")
    assert "fused" not in page.with_name("differences.csv").read_text()  # both were


def test_pipeline_fails_when_the_learning_rate_is_no_longer_good(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["digits", "after.db", "digits", "--labels", "main", "branch", "--require-good", "--out", "ci"]
    assert call(*words) == NOT_GOOD == 4
    out, err = capsys.readouterr()
    assert err == "require-good: batch size 32: 0.1, recommended in 'main', is too high in 'branch'\n"
    assert out.endswith("comparison: ci/compare-main-branch/comparison.html\n")
    assert call("digits", "again", "--require-good") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("digits elsewhere", "0.1, recommended in 'digits', was not tried in 'elsewhere'"),
        ("lost digits", "nothing is recommended in 'lost'"),
    ],
)
def test_pipeline_fails_when_nothing_says_that_it_is_good(
    folder: Path, capsys: pytest.CaptureFixture[str], words: str, sentence: str
) -> None:
    assert call(*words.split(), "--require-good", "--out", "unknown") == NOT_GOOD
    out, err = capsys.readouterr()
    assert err == f"require-good: batch size 32: {sentence}\n" and Path(out.splitlines()[-1].partition(": ")[2]).exists()


def test_studies_are_compared_without_torch(folder: Path) -> None:
    code = (
        "import runpy, sys\nsys.argv[:] = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: print('code', end.code, 'torch' in sys.modules)"
    )
    words = [str(ROOT / "scripts" / "compare_studies.py"), "digits", "again", "--rho", "1.5", "--out", "light"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True)
    assert done.stdout.endswith("comparison: light/compare-digits-again/comparison.html\ncode 0 False\n"), done.stderr
    assert "rho = 1.5" in (folder / "light/compare-digits-again/comparison.md").read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("digits", "studies must be at least two to compare, got digits"),
        ("digits digits", "studies must differ, 'digits' in 'outputs/studies.db' was given twice"),
        ("digits ./outputs/studies.db digits", "studies must differ, 'digits' in './outputs/studies.db' was given twice"),
        ("digits nope", "name must be a study in 'outputs/studies.db': again, digits, elsewhere, lost; got 'nope'"),
        ("digits missing.db digits", "storage 'missing.db' does not exist"),
        ("digits again after.db", "a storage must be followed by names of its studies, 'after.db' is not"),
        (
            "after.db outputs/studies.db digits",
            "name must be a study in 'after.db': digits, empty, other size; got 'outputs/stu",
        ),
        ("digits notes.db digits", "storage 'notes.db' is"),
        ("digits after.db empty", "study 'empty' must have a finished run, it has none"),
        ("digits again --labels one", "labels must be one a study, got 1 for 2 studies"),
        ("digits again --labels one one", "labels must tell the studies apart, got 'one' twice: give --labels"),
        ("digits again --tau 2", "tau must be above 0 and below 1, got 2.0"),
        ("digits again --out after.db", "out must be a place that can be written"),
        ("", "studies"),
    ],
)
def test_mistakes_are_one_sentence(folder: Path, capsys: pytest.CaptureFixture[str], words: str, sentence: str) -> None:
    assert call(*words.split()) == BAD_INPUT
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and re.match(r"compare_studies: ", err) and sentence in err


def test_damaged_study_is_one_sentence_also_in_its_report(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "damaged.db"
    with (
        contextlib.closing(sqlite3.connect("outputs/studies.db")) as whole,
        contextlib.closing(sqlite3.connect(path)) as database,
    ):
        whole.backup(database)
        database.execute("UPDATE trial_values SET value = value + 1 WHERE value = 0")
        database.commit()
    assert call("after.db", "digits", str(path), "digits", "--out", "damaged") == BAD_INPUT
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and not Path("damaged").exists()
    assert re.match(
        r"compare_studies: study 'digits' in '.*damaged.db' is damaged \(trial \d does not match its checksum\)", err
    )
    words = ["--storage", str(path), "--out", "damaged"]
    assert run(lambda: report.main(words), "write_report") == BAD_INPUT
    assert capsys.readouterr().err == err.replace("compare_studies", "write_report")


def test_nothing_to_require_without_a_common_batch_size(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["digits", "after.db", "other size", "--out", "sizes"]
    assert call(*words) == 0
    assert call(*words, "--require-good") == BAD_INPUT
    assert "studies must have a batch size in common, 'digits' and 'other size' have none" in capsys.readouterr().err


def test_files_and_urls_are_storages_of_the_names_that_follow(folder: Path) -> None:
    Path("plain").write_text("a file")
    words = ["digits", "postgresql://host/db", "a", "b", "before.sqlite3", "digits", "plain", "x" * 600]
    assert choose_studies(words) == [
        ("outputs/studies.db", "digits"),
        ("postgresql://host/db", "a"),
        ("postgresql://host/db", "b"),
        ("before.sqlite3", "digits"),
        ("plain", "x" * 600),
    ]


def test_a_name_that_looks_like_a_file_is_a_name_behind_its_storage() -> None:
    assert choose_studies(["a", "x.db", "x.db", "b"]) == [("outputs/studies.db", "a"), ("x.db", "x.db"), ("x.db", "b")]


def test_equal_names_in_files_of_equal_names_need_labels() -> None:
    chosen = [("a/studies.db", "digits"), ("b/studies.db", "digits")]
    with pytest.raises(ValueError, match=r"labels must tell the studies apart, got 'digits \(studies\)' twice"):
        label_studies(chosen)
    assert label_studies(chosen, ["a", "b"]) == ["a", "b"]
