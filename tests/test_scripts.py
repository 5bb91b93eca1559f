"""The scripts from the command line: a whole launch, a report judged again, and every mistake in one sentence."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

import studies
from studies import FailedAlike
from studies.commands.command_line import BAD_INPUT, FAILED, IN_USE, run
from studies.storage.lock import locked

ROOT = Path(__file__).parents[1]
SMALL = "--learning-rate 0.03 10 --points 3 --batch-size 256 --seeds 1 --epochs 2".split()
TABLES = "runs cells ranges curves edges recommendations costs batch_sizes judgements self_check hold_out ledger".split()
FILES = {"report.html", "report.md", "answer.json", *(f"{name}.csv" for name in TABLES)}


def script(name: str) -> ModuleType:
    """The script as a module; ``scripts`` is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(name: str, *argv: str) -> int:
    module = script(name)
    return run(lambda: module.main(list(argv)), name)


@pytest.fixture(autouse=True)
def same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes back what a command adds to the path."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which ``launch_study`` ran with its default places."""
    folder = tmp_path_factory.mktemp("launched")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call("launch_study", *SMALL) == 0
    return folder


def test_launch_writes_the_database_and_all_files_of_the_report(launched: Path) -> None:
    assert {path.name for path in launched.iterdir()} == {"outputs"}
    assert (launched / "outputs" / "studies.db").exists()
    report = launched / "outputs" / "digits"
    assert {path.name for path in report.iterdir()} == FILES | {"figures"}
    assert all(path.suffix in (".png", ".svg") and path.stat().st_size for path in (report / "figures").iterdir())
    assert len(list((report / "figures").glob("*.png"))) >= 3
    assert len(pd.read_csv(report / "runs.csv")) == 3


@pytest.mark.parametrize("options", ["--batch-size 64 256 --epochs 4", f"{' '.join(SMALL)} --fuse never"])
def test_plan_says_what_a_study_will_cost_and_leaves_nothing(
    options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("launch_study", "--plan", *options.split()) == 0
    head, *sizes, total = capsys.readouterr().out.splitlines()
    assert head == "'digits', before anything is spent:" and not list(tmp_path.iterdir())
    cost = r"about \d+ runs of at most \d+ epochs, [\d.]+ (million|thousand) example passes, [\d.]+ \w+ here on one core \(.+\)"
    assert all(re.fullmatch(rf"batch size (64|256): {cost}", line) for line in sizes)
    counts = [int(line.split("about ")[1].split()[0]) for line in (*sizes, total)]
    assert sum(counts[:-1]) == counts[-1] and (counts == [3, 3]) == ("points" in options)


def test_second_launch_trains_nothing_and_prints_the_answer(
    launched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(launched)
    monkeypatch.setenv("COLUMNS", "120")
    assert call("launch_study", *SMALL) == 0
    out, err = capsys.readouterr()
    assert (
        "Learning rates of 'digits'" in out
        and "Safe: good on nine new seeds" in " ".join(out.split())
        and "checks passed" in out
    )
    assert "report: outputs/digits/report.html\n" in out
    assert re.search(r"^look closer: \S*lr-study dashboard --storage outputs/studies.db$", out, flags=re.MULTILINE)
    assert "going on: 3 runs were finished before" in err
    assert len(pd.read_csv("outputs/digits/runs.csv")) == 3


def test_report_is_exported_for_each_tracker_asked_for_and_says_how_to_look_at_it(
    launched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    monkeypatch.chdir(launched)
    assert call("write_report", "--export", "tensorboard", "--export", "mlflow", "--out", "exported") == 0
    out = capsys.readouterr().out
    assert "\ntensorboard: tensorboard --logdir exported/digits/tensorboard  # then open http://localhost:6006/#text" in out
    assert "\nmlflow: mlflow ui --backend-store-uri sqlite:///exported/digits/mlruns/mlflow.db  # then open http" in out
    assert len(list((launched / "exported/digits/tensorboard").rglob("*tfevents*"))) == 4
    assert (launched / "exported/digits/mlruns/mlflow.db").exists()


def test_launch_exports_what_its_file_asks_for(launched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(launched)
    (launched / "export.yaml").write_text("export: tensorboard\n")
    assert call("launch_study", *SMALL, "--config", "export.yaml", "--out", "from file") == 0
    assert len(list((launched / "from file/digits/tensorboard").rglob("*tfevents*"))) == 4


def test_self_check_is_written_into_the_report(
    launched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(launched)
    assert call("launch_study", *SMALL, "--self-check", "1", "--out", "checked") == 0
    assert (
        "fresh seeds the recommended learning rate was good in" in (launched / "checked" / "digits" / "report.md").read_text()
    )
    assert len(pd.read_csv("checked/digits/self_check.csv")) == 3 and len(pd.read_csv("checked/digits/runs.csv")) == 3
    assert re.search(r"([1-3])/\1 runs", capsys.readouterr().err)


def test_same_name_with_other_settings_is_refused(
    launched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(launched)
    assert call("launch_study", *SMALL, "--epochs", "3") == BAD_INPUT
    assert "epochs was 2, now 3): give another name\n" in capsys.readouterr().err


def test_launch_of_a_held_study_has_its_own_exit_code(
    launched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(launched)
    with locked("sqlite:///outputs/studies.db", "digits"):
        assert call("launch_study", *SMALL) == IN_USE
    assert capsys.readouterr().err.startswith("launch_study: study 'digits' is being worked on by process ")


def test_report_is_judged_again_without_torch(launched: Path) -> None:
    code = (
        "import runpy, sys\nsys.argv[:] = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: print('code', end.code, 'torch' in sys.modules)"
    )
    arguments = [str(ROOT / "scripts" / "write_report.py"), "--out", "again", "--rho", "1.5"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=launched, capture_output=True, text=True)
    assert done.stdout.endswith("report: again/digits/report.html\ncode 0 False\n"), done.stderr
    again = launched / "again" / "digits"
    assert {path.name for path in again.iterdir()} == FILES | {"figures"}
    pd.testing.assert_series_equal(
        pd.read_csv(again / "runs.csv")["final_height"], pd.read_csv(launched / "outputs/digits/runs.csv")["final_height"]
    )
    assert "1.5" in (again / "report.md").read_text()


def test_curve_of_any_run_is_explained_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("metrics.csv").write_text("epoch,step,train_loss,val_loss\n0,0,2.0,\n0,1,0.5,\n0,1,,0.7\n1,2,nan,\n")
    assert call("write_report", "--run", "metrics.csv") == 0
    assert capsys.readouterr().out.startswith("divergent: the loss was nan at step 2, 2 at the start.\n\nOne curve cannot tell")
    assert call("write_report", "--run", "metrics.csv", "--loss-column", "val_loss") == 0
    assert capsys.readouterr().out.startswith("flat: it never moved: 0.7 at the first value (step 1), 0.7 at the end.")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_finders_are_compared_on_the_same_fresh_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("benchmark", *f"finders --cases diabetes-linear-331 --seeds 1 --csv {tmp_path / 'rows.csv'}".split()) == 0
    lines = capsys.readouterr().out.splitlines()
    ways = ["this project", "lr_find", "lr_find, max_lr 10", "torch-lr-finder"]
    assert lines[2] == f"| case | good, by the fresh grid | {' | '.join(ways)} |"
    assert re.match(r"\| diabetes-linear-331 \| [\d.]+ to [\d.]+ \| 1 of 1: [\d.]+ \| 0 of 1 \(1 too low\): ", lines[4])
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert rows["way"].tolist() == ways and rows["seed"].tolist() == [3] * 4
    assert lines[5].startswith(f"| good runs, in all | | **{(rows['verdict'] == 'good')[0]:d}** of 1 |")


def test_same_runs_are_timed_in_several_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, ways = script("benchmark"), ["naive", "plain-loop", "plain-loop-heights", "alone", "auto"]
    small = module.WORKS["digits-mlp"]._replace(points=2, seeds=1, epochs=1, timed=1)
    monkeypatch.setitem(module.WORKS, "digits-mlp", small)
    options = ["speed", "--works", "digits-mlp", "--ways", *ways, "--repeats", "1", "--members", "4", "--out", str(tmp_path)]
    assert run(lambda: module.main(options), "benchmark") == 0
    out = capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| digits-mlp")]
    assert [row[1] for row in rows] == [*ways, "limit", "4"]
    assert float(rows[1][4]) == 1 and 0 <= float(rows[-2][2]) < 1  # the loop beside itself; the limit in seconds
    assert float(rows[-1][2]) > 0 and 100 < float(rows[-1][3]) < 10_000  # ms and MB
    assert (tmp_path / "speed.md").read_text() == out
    assert pd.read_csv(tmp_path / "speed.csv")["way"].tolist() == ways


def test_ray_is_asked_for_where_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))  # the real one remembers the home it was imported in
    monkeypatch.setitem(sys.modules, "ray.tune", None)
    assert call("benchmark", "speed", "--ways", "ray-tune", "--out", str(tmp_path)) == 2
    assert "must be installed: pip install 'ray[tune]>=2.40', or give --ways without ray-tune" in capsys.readouterr().err


def test_report_of_synthetic_runs_gives_them_the_verdicts_they_were_made_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("benchmark", *"report --trials 150".split()) == 0
    heads, _, row = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines())
    found = dict(zip(heads, row, strict=True))
    assert found["runs"] == "150" and float(found["as made"].removesuffix(" %")) > 97
    assert float(found["all (s)"]) > 0 and float(found["page (MB)"]) < 10


def test_pages_are_opened_in_turn_until_their_maps_are_drawn(
    browser: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = script("benchmark")
    monkeypatch.setattr("benchmarks.page.chromium", lambda: contextlib.nullcontext(browser))
    assert run(lambda: module.main("page --trials 90 --compared 90 --repeats 1".split()), "benchmark") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Chromium {browser.version}, median (range) of 1"
    rows = [line.strip("| ").split(" | ") for line in lines[4:]]
    assert [row[0] for row in rows] == ["report of 90 runs", "comparison of two studies of 90 runs"]
    painted, usable, drawn = (float(cell.split()[0]) for cell in rows[0][2:5])
    assert 0 < painted and 0 < usable < drawn and rows[0][-1] == "1.00"


def test_searches_are_replayed_on_a_grid_beside_other_ways_of_their_price(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    module = script("benchmark")
    small = module.SEARCHED["wine-32"]._replace(batch_size=64, epochs=8, learning_rates=(-2, 1.5))
    monkeypatch.setitem(module.SEARCHED, "wine-32", small)
    line = f"search --cases wine-32 --repeats 1 --csv {tmp_path / 'rows.csv'}"
    assert run(lambda: module.main(line.split()), "benchmark") == 0
    table, cases = capsys.readouterr().out.split("\n\n")[1:3]
    ways = ["search", "grid of the same price", "random", "TPE", "ASHA", "constant cut"]
    ways += ["lr_find", "lr_find, max_lr 10", "torch-lr-finder"]
    assert [row.split(" | ")[0].strip("| ") for row in table.splitlines()[2:]] == ways and "wine-32" in cases
    rows = pd.read_csv(tmp_path / "rows.csv").set_index("way")
    assert rows.loc["search", ["low", "high"]].max() < 0.3 and rows.loc["search", "good"] == 1
    assert (rows.loc[ways[:6], "passes"] > 0.5 * rows.loc["search", "passes"]).all()
    assert rows.loc[ways[6:], "low"].isna().all() and rows.loc[ways[6:], "good"].between(0, 1).all()


def test_browser_is_asked_for_where_none_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert call("benchmark", "page") == BAD_INPUT
    assert "one of chromium, google-chrome, chromium-browser must be installed, got none: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["launch_study", "write_report", "open_dashboard", "benchmark"])
def test_help_lists_the_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        script(name).main(["--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out.lower()
    assert "usage:" in said and "type: any" not in said


LAUNCH: list[tuple[str, str]] = [
    ("--model Nope", "model must be one of ImageClassifier, Parabola, Regressor or"),
    ("--data Nope", "data must be one of CIFAR10, Diabetes, Digits,"),
    ("--model.network Nope", "model.network must be one of ConvNet, MLP, ResNet18 or"),
    ("--model.momentun 0.9", "did you mean 'momentum'?"),
    ("--model.momentum much", "model argument momentum"),
    ("--model.momentum -1", "momentum must be at least 0 and finite, got -1"),
    ("--learning-rate 1 0.1", "learning_rate must be LOW HIGH with 0 < LOW <= HIGH, got 1 0.1"),
    ("--learning-rate nan 1", "learning_rate must be a finite number, got"),
    ("--learning-rate 0.1", "expected 2 arguments"),
    ("--batch-size 0", "batch_size must be a whole number of at least 1, got 0"),
    ("--batch-size 64 many", "batch_size must be a whole number of at least 1, got 'many'"),
    ("--batch-size 100000", "batch_size must be between 1 and 1347 (the training set), got 100000"),
    ("--epochs 0", "epochs must be a whole number of at least 1, got 0"),
    ("--tau 2", "tau must be above 0 and below 1, got 2"),
    ("--rho abc", "rho"),
    ("--out given/file", "out must be a place that can be written"),
    ("--storage given/file", "is not an SQLite database"),
    ("--storage given", "storage must be a file"),
    ("--storage given/file/studies.db", "storage must be a place that can be written"),
    ("--name a/b", "name must start with a letter or digit"),
    ("--config given/study.yaml", "option 'batchsize' is not known; did you mean 'batch_size'?"),
    ("--config given/missing.yaml", "config must be a YAML file, got no file at 'given/missing.yaml'"),
    ("--config given/broken.yaml", "config must be a YAML file, got 'given/broken.yaml': while parsing"),
    ("--config given", "config must be a YAML file, got a folder at 'given'"),
    ("--mode max", "mode max needs monitor"),
    ("--mode best", "mode must be min or max, got 'best'"),
    ("--monitor 5", "monitor must be a name, got 5"),
    ("--learning-rate-name 5", "learning_rate_name must be a name, got 5"),
    ("--seed-everything -1", "seed_everything must be a whole number from 0"),
    ("--constant yes", "yes"),
    ("--optimizer Nope", "optimizer"),
    ("--lr-scheduler StepLR", "lr_scheduler needs optimizer beside it"),
    ("--epoch 3", "option 'epoch' is not known; did you mean 'epochs'?"),
    ("--model.momentum", "--model.momentum must be followed by a value, got none"),
    ("--trainer.min_steps 3", "trainer.min_steps cannot be set"),
    ("--trainer.max_steps 0", "trainer.max_steps must be a whole number of at least 1, got 0"),
    ("--trainer.accelerator abacus", "accelerator"),
    ("surplus", "surplus"),
    ("--model.network.hidden [128", "hidden"),
    ("--model.network.hidden wide", "hidden"),
    ("--model.network.hidden [0]", "hidden widths must be at least 1, got (0,)"),
    ("--model 5", "model must be a LightningModule, got int"),
    ("--data 5", "data must be a LightningDataModule or a DataLoader, got int"),
    ("--trainer fast", "trainer must be a mapping of option to value, got 'fast'"),
    ("--seeds many", "seeds must be a whole number of at least 1, got 'many'"),
    ("--seeds 2.5", "seeds must be a whole number of at least 1, got 2.5"),
    ("--sampler best", "sampler must be one of edges, grid, tpe, random, qmc, got 'best'"),
    ("--trials 5", "trials belongs to the samplers tpe, random and qmc"),
    ("--points 3 --per-decade 3", "points and per_decade exclude each other"),
    ("--storage nodb://host/name", "storage"),
    ("--model torch.nn.Linear", "model"),
    ("--data MNIST", "download"),
    ("--name 5", "name must"),
    ("--name digits.self-check", "name must not end with .self-check"),
    ("--self-check 0", "self_check must be a whole number of at least 1, got 0"),
    ("--self-check many", "self_check must be a whole number of at least 1, got 'many'"),
    ("--plan --json", "plan trains nothing, so it must stand without --json and --export"),
    ("--continue --config any.yaml", "continue takes the options of the study, so it must stand without --config"),
]
OTHERS: list[tuple[str, str, str]] = [
    ("launch_study", "--data MNIST --data.root nowhere", "MNIST was not found in 'nowhere': give data.root the folder"),
    ("write_report", "--storage postgresql://host:port/name", "storage must be a database that can be reached from here, got"),
    ("write_report", "", "storage 'outputs/studies.db' does not exist"),
    ("write_report", "--storage given/file", "is not an SQLite database"),
    ("write_report", "--rho 0.5", "rho must be at least 1 and finite, got 0.5"),
    ("write_report", "--nam x", "option 'nam' is not known; did you mean 'name'?"),
    ("write_report", "--model.momentum 3", "--model.momentum is not an option of this script"),
    ("write_report", "--run given/missing.csv", "run must be a CSV file, got no file at 'given/missing.csv'"),
    ("write_report", "--run given", "run must be a CSV file, got a folder at 'given'"),
    ("write_report", "--run given/file", "column 'these are notes' must hold numbers, got 'these are notes'"),
    ("write_report", "--run given/file --loss-column loss", "loss_column must be one of these are notes; got 'loss'"),
    ("write_report", "--run given/file --export mlflow", "export belongs to a study, not to --run FILE.csv, got ['mlflow']"),
    ("launch_study", "--export wandb", "export must be one or more of tensorboard, mlflow, got ['wandb']"),
    ("write_report", "--loss-column loss", "loss_column belongs to --run FILE.csv, got 'loss' alone"),
    ("open_dashboard", "--storage none.db", "storage 'none.db' does not exist"),
    ("open_dashboard", "--port 65536", "port must be between 0 and 65535, got 65536"),
    ("open_dashboard", "--browser maybe", "browser"),
    ("benchmark", "search --cases nothing", "cases must be of digits-mlp-16, digits-mlp-64,"),
    ("benchmark", "", 'expected "subcommand" to be one of {speed,finders,search,report,page}'),
    ("benchmark", "speed --repeats 0", "repeats must be a whole number of at least 1, got 0"),
    (
        "benchmark",
        "speed --works digits",
        "works must be of digits-mlp, digits-mlp-long, mnist-mlp, mnist-mlp-long, mnist-conv",
    ),
    ("benchmark", "speed --ways by-hand", "got 'by-hand'"),
    ("benchmark", "speed --members 0", "members must be a whole number of at least 1, got 0"),
    ("benchmark", "finders --seeds 0", "seeds must be a whole number of at least 1, got 0"),
    ("benchmark", "finders --cases wine-2", "got 'wine-2'"),
    ("benchmark", "finders --seed 3", "option 'seed' is not known; did you mean 'seeds'?"),
    ("benchmark", "finders --csv given/file/x.csv", "csv must be a place that can be written, got 'given/file'"),
    ("benchmark", "report --trials 0", "trials must be a whole number of at least 1, got 0"),
    ("benchmark", "report --folder given/file", "folder must be a place that can be written, got 'given/file'"),
    ("benchmark", "page --repeats 0", "repeats must be a whole number of at least 1, got 0"),
]
BAD = [("launch_study", line, sentence) for line, sentence in LAUNCH] + OTHERS


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a folder ``given`` with a text file, a configuration with a misspelt key and a broken one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "file").write_text("these are notes\n" * 4)
    (tmp_path / "given" / "study.yaml").write_text("epochs: 2\nbatchsize: 64\n")
    (tmp_path / "given" / "broken.yaml").write_text("epochs: [2\n")
    return tmp_path


def _check(place: Path, name: str, code: int, out: str, err: str, sentence: str) -> None:
    assert code == BAD_INPUT, err
    assert out == ""
    assert re.fullmatch(rf"{name}: [^\n]+\n", err), err
    assert "Traceback" not in err
    assert sentence in err
    assert {str(path.relative_to(place)) for path in place.rglob("*")} == {
        "given",
        "given/file",
        "given/study.yaml",
        "given/broken.yaml",
    }


@pytest.mark.parametrize(("name", "line", "sentence"), BAD, ids=[f"{name} {line}" for name, line, _ in BAD])
def test_bad_input_is_one_sentence_and_leaves_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], name: str, line: str, sentence: str
) -> None:
    code = call(name, *line.split())
    _check(place, name, code, *capsys.readouterr(), sentence)


@pytest.mark.parametrize(
    ("line", "sentence"), [("--learning-rate 1 0.1", "0 < LOW <= HIGH"), ("--data Nope", "data must be one of")], ids=str
)
def test_bad_input_of_a_process_is_one_sentence(place: Path, line: str, sentence: str) -> None:
    arguments = [sys.executable, str(ROOT / "scripts" / "launch_study.py"), *line.split()]
    done = subprocess.run(arguments, cwd=place, capture_output=True, text=True)
    _check(place, "launch_study", done.returncode, done.stdout, done.stderr, sentence)


def test_unknown_study_lists_the_known(
    launched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(launched)
    assert call("write_report", "--name", "nope") == BAD_INPUT
    assert "name must be a study in 'outputs/studies.db': digits; got 'nope'" in capsys.readouterr().err
    assert not (launched / "outputs" / "nope").exists()


def test_dotted_flags_and_files_mean_the_same(place: Path) -> None:
    (place / "study.yaml").write_text(
        "model:\n  class_path: ImageClassifier\n  init_args:\n"
        "    momentum: 0.9\n    network: {class_path: MLP, init_args: {hidden: [16]}}\n"
        "learning_rate: [1e-3, 10]\nepochs: 5\n"
    )
    launch = script("launch_study")
    flags = "--model ImageClassifier --model.momentum=0.9 --model.network MLP --model.network.hidden [16] --epochs 5"
    from_flags = launch.parse_args([*flags.split(), "--learning-rate", "1e-3", "10"])
    from_file = launch.parse_args(["--config", "study.yaml"])
    from studies import StudyConfig, Workload

    def meaning(options: dict[str, object]) -> object:
        options = {
            key: value
            for key, value in options.items()
            if key not in ("export", "out", "plan", "goes_on", "self_check", "hold_out", "tau", "rho", "target_loss", "json")
        }
        config = StudyConfig.from_mapping(options)
        return Workload.of_config(config).as_dict(), config.learning_rates, config.epochs

    assert meaning(from_flags) == meaning(from_file)
    assert launch.parse_args(["--config", "study.yaml", "--epochs", "7"])["epochs"] == 7


def test_errors_of_the_study_have_exit_code_one(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> int:
        raise FailedAlike("3 runs in a row failed alike")

    assert run(broken, "launch_study") == 1
    assert capsys.readouterr().err == "launch_study: 3 runs in a row failed alike\n"


@pytest.mark.parametrize(
    ("place", "kind"), [("judge_study", ValueError), ("report_study", RuntimeError), ("judge_study", AttributeError)]
)
def test_error_of_ours_after_training_keeps_its_traceback(
    launched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str, kind: type[Exception]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise kind("ours")

    monkeypatch.chdir(launched)
    monkeypatch.setattr(f"studies.answers.{place}", broken)
    monkeypatch.setattr(studies, place, broken)
    for name, arguments in (("launch_study", SMALL), ("write_report", [])):
        assert call(name, *arguments) == FAILED
        said = capsys.readouterr().err
        assert "Traceback" in said and said.endswith(f"\n{kind.__name__}: ours\n")


def test_error_of_ours_between_two_runs_keeps_its_traceback(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("ours")

    monkeypatch.setattr("studies.commands.terminal.classify", broken)  # called after a run
    assert call("launch_study", *SMALL) == FAILED
    said = capsys.readouterr().err
    assert "Traceback" in said and said.endswith("\nValueError: ours\n")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device"), "No space left on device (in outputs/digits or outputs/studies.db);"),
        (OSError(28, "No space left on device", "outputs/x.csv"), "No space left on device: 'outputs/x.csv';"),
    ],
    ids=["nameless", "named"],
)
def test_full_disk_is_one_sentence_that_names_the_place(
    launched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, sentence: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.chdir(launched)
    monkeypatch.setattr("reports.pages.folder.write_report", full)
    assert call("launch_study", *SMALL) == FAILED
    kept = "what finished is kept, and the same command goes on from there"
    assert capsys.readouterr().err.endswith(f"\nlaunch_study: [Errno 28] {sentence} {kept}\n")


def test_study_whose_runs_did_not_all_finish_says_so_in_its_exit_code_and_its_command_tries_them_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from studies.training.runs import train_alone

    def broken(workload: Any, planned: Any, **how: Any) -> Any:
        if planned.learning_rate == 10:
            raise RuntimeError("of the module")
        return train_alone(workload, planned, **how)

    with monkeypatch.context() as patch:
        patch.setattr("studies.training.work.train_alone", broken)
        assert call("launch_study", *SMALL, "--fuse", "never", "--workers", "1") == FAILED
    said = capsys.readouterr().err
    assert said.endswith("1 of 3 runs did not finish: the report says why, and the same command tries them again\n")
    assert call("launch_study", *SMALL, "--fuse", "never", "--workers", "1") == 0


def test_module_that_fails_alike_is_one_sentence(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("of the module")

    monkeypatch.setattr("studies.training.work.train_alone", broken)
    assert call("launch_study", *SMALL, "--fuse", "never") == FAILED
    printed, said = capsys.readouterr()
    assert said.endswith("3 runs in a row failed alike, so the study stopped: RuntimeError: of the module\n")
    assert "Traceback" not in said
    assert printed.endswith("report of what was done, with the traceback: outputs/digits/report.html\n")
    assert 'raise RuntimeError("of the module")' in (place / "outputs" / "digits" / "report.md").read_text()


def test_self_check_that_is_held_has_the_exit_code_of_a_study_in_use(
    launched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(launched)
    with locked("sqlite:///outputs/studies.db", "digits.self-check"):
        assert call("launch_study", *SMALL, "--self-check", "2") == IN_USE
    assert "launch_study: study 'digits.self-check' is being worked on by process " in capsys.readouterr().err


def test_programming_errors_are_not_hidden() -> None:
    def broken() -> int:
        raise AttributeError("ours")

    with pytest.raises(AttributeError, match="ours"):
        run(broken, "launch_study")


def test_parse_reads_numbers_as_the_file_does() -> None:
    options = script("launch_study").parse_args(["--model.weight_decay", "1e-3", "--trainer.precision", "bf16-mixed"])
    assert options["model"] == {"init_args": {"weight_decay": 1e-3}}
    assert options["trainer"] == {"precision": "bf16-mixed"}
