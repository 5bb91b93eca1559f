"""``lr-study`` and what its commands share: the user's folder, LightningCLI's file read as it is, flags that override it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from studies import StudyConfig
from studies.commands.launch import parse_args
from studies.commands.lr_study import COMMANDS, main

ENTRY = "import sys; sys.argv[0] = 'lr-study'; from studies.commands.lr_study import main; "


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in; what a command adds to the path is taken back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def python(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A process in a folder that is not on its path, as under ``lr-study``."""
    return subprocess.run([sys.executable, "-P", "-c", code, *arguments], cwd=cwd, capture_output=True, text=True)


def said(config: str, *flags: str) -> dict[str, Any]:
    """The options of a file and flags that differ from what nothing gives."""
    Path("config.yaml").write_text(config)
    before = parse_args([])
    return {key: value for key, value in parse_args([*flags, "--config", "config.yaml"]).items() if value != before[key]}


def test_no_command_lists_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err == "lr-study: command must be one of launch, report, compare, dashboard, admin, got none\n"


def test_unknown_command_names_the_nearest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lauch", "--help"]) == 2
    assert capsys.readouterr().err == "lr-study: command 'lauch' is not known; did you mean 'launch'?\n"


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)], ids=" ".join)
def test_help_is_light_and_names_the_command(folder: Path, arguments: list[str]) -> None:
    code = (
        f"{ENTRY}\ntry: code = main()\nexcept SystemExit as end: code = end.code\n"
        "print(code, sorted({'torch', 'optuna', 'pandas'} & set(sys.modules)))"
    )
    done = python(code, *arguments, cwd=folder)
    assert done.stdout.endswith("\n0 []\n"), done.stderr
    command = arguments[0] if arguments[1:] else "{launch,report,compare,dashboard,admin}"
    assert done.stdout.startswith(f"usage: lr-study {command} [")


def test_errors_name_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 2
    assert capsys.readouterr().err.startswith("lr-study report: storage 'outputs/studies.db' does not exist")


def test_package_has_the_entry_point() -> None:
    from importlib.metadata import entry_points

    (entry,) = entry_points(group="console_scripts", name="lr-study")
    assert entry.load() is main


def test_what_is_logged_moves_no_cursor(folder: Path) -> None:
    """An exception of the user's in a warning of ours, or in a traceback."""
    code = (
        "import logging, sys\n"
        "from studies.commands.command_line import fail_at_work, run\n"
        "def main():\n"
        "    logging.getLogger('studies.driver').warning('trial 1 failed: %s', chr(27) + '[2J' + chr(0x202e) + 'é')\n"
        "    return fail_at_work(RuntimeError(chr(7)), folder='', storage='')\n"
        "sys.exit(run(main, 'x'))"
    )
    done = python(code, cwd=folder)
    assert done.stderr == "trial 1 failed: \\x1b[2J\\u202eé\nRuntimeError: \\x07\n"
    assert all(letter.isprintable() or letter == "\n" for letter in done.stderr)
    assert done.returncode == 1


def test_modules_of_the_current_folder_are_found_and_ours_are_not_hidden(folder: Path) -> None:
    for path, text in {
        "net.py": "where = 'net'",
        "reports/__init__.py": "raise ImportError('of the user')",
        "reports/plots.py": "where = 'reports.plots'",
        "studies/net.py": "from studies.layers import where",
        "studies/layers.py": "where = 'studies.net'",
        "studies/config.py": "raise ImportError('of the user')",
    }.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    code = (
        "from studies.commands.command_line import run\n"
        "def main():\n"
        "    import net, reports.plots, studies.net\n"
        "    from reports import Thresholds\n"
        "    from studies.config import StudyConfig\n"
        "    print(net.where, reports.plots.where, studies.net.where)\n"
        "    return 0\n"
        "run(main, 'x'), run(main, 'x')\n"
        "import sys, os, studies\n"
        "print(sys.path[-1] == os.getcwd(), sys.path.count(os.getcwd()), len(studies.__path__))"
    )
    done = python(code, cwd=folder)
    assert done.stdout.splitlines() == ["net reports.plots studies.net"] * 2 + ["True 1 2"], done.stderr


def test_our_own_folder_is_not_added_to_itself() -> None:
    code = "from studies.commands.command_line import run; import studies; run(lambda: 0, 'x'); print(len(studies.__path__))"
    assert python(code, cwd=Path(__file__).parents[1]).stdout == "1\n"


def test_importing_studies_adds_nothing(folder: Path) -> None:
    done = python("import studies.commands.command_line, sys, os; print(os.getcwd() in sys.path)", cwd=folder)
    assert done.stdout == "False\n", done.stderr


SAVED = """# pytorch_lightning==2.6.6
seed_everything: 7
trainer: {accelerator: auto, precision: null, max_epochs: 4, max_steps: -1}
model:
  class_path: my.Net
  init_args: {width: 128, dropout: null, rate: 1e-3}
data:
  class_path: my.Data
  init_args: {root: data}
optimizer: null
lr_scheduler: null
ckpt_path: null
weights_only: null
"""
AS_SAID = {
    "seed_everything": 7,
    "trainer": {"accelerator": "auto", "max_epochs": 4, "max_steps": -1},
    "model": {"class_path": "my.Net", "init_args": {"width": 128, "dropout": None, "rate": 0.001}},
    "data": {"class_path": "my.Data", "init_args": {"root": "data"}},
}


def test_saved_file_means_what_it_says_and_nulls_are_not_said_but_as_arguments(folder: Path) -> None:
    assert said(SAVED) == AS_SAID


def test_file_for_several_subcommands_is_read_for_fit(folder: Path) -> None:
    assert said(yaml.safe_dump({"fit": yaml.safe_load(SAVED), "test": {"verbose": True}})) == said(SAVED)


@pytest.mark.filterwarnings("ignore")  # LightningCLI uses what jsonargparse deprecates
def test_file_that_lightning_saves_is_a_study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytorch_lightning.cli import LightningCLI

    from lightning_modules import Digits, ImageClassifier
    from studies import Workload

    arguments = "--model ImageClassifier --model.momentum 0.9 --model.network lightning_modules.MLP --data.batch_size 32"
    arguments += " --model.network.input_shape [1,8,8] --model.network.n_outputs 10 --trainer.max_epochs 4 --optimizer Adam"
    monkeypatch.setattr(sys, "argv", ["main.py"])
    cli = LightningCLI(
        ImageClassifier, Digits, run=False, subclass_mode_model=True, args=arguments.split(), seed_everything_default=3
    )
    options = said(cli.parser.dump(cli.config, skip_none=False), "--data", "Digits")
    config = StudyConfig.from_mapping(options)
    workload = Workload.of_config(config).as_dict()
    assert (config.epochs, config.seed_everything) == (4, 3)
    assert workload["model"]["init_args"]["momentum"] == 0.9
    assert workload["data"]["init_args"]["batch_size"] == 32
    assert workload["optimizer"]["class_path"] == "torch.optim.Adam"


def test_flags_override_the_file_wherever_they_stand(folder: Path) -> None:
    Path("c.yaml").write_text(SAVED)
    flags = "--seed_everything 9 --trainer.max_epochs 5 --model.width 64 --model.class_path=my.Net".split()
    for line in ([*flags, "--config", "c.yaml"], ["--config=c.yaml", *flags]):
        options = parse_args(line)
        assert options["seed_everything"] == 9
        assert options["trainer"] == {**AS_SAID["trainer"], "max_epochs": 5}
        assert options["model"] == {"class_path": "my.Net", "init_args": {"width": 64, "dropout": None, "rate": 0.001}}


def test_default_that_is_said_overrides_the_file(folder: Path) -> None:
    assert said("seeds: 5\nconstant: true\n", "--seeds", "3") == {"constant": True}


def test_later_file_overrides_an_earlier_one(folder: Path) -> None:
    Path("first.yaml").write_text("model: my.Net\nepochs: 3\nseeds: 4\n")
    options = said("model: {init_args: {width: 3}}\nepochs: 5\n", "--config", "first.yaml")
    assert options == {"model": {"class_path": "my.Net", "init_args": {"width": 3}}, "epochs": 5, "seeds": 4}


@pytest.mark.parametrize(
    ("file", "flag", "meaning"),
    [
        ("{class_path: my.Net, init_args: {width: 3}}", "my.Other", "my.Other"),
        ("{class_path: my.Net, init_args: {width: 3}}", "my.Net", {"class_path": "my.Net", "init_args": {"width": 3}}),
        ("{class_path: lightning_modules.MLP, init_args: {a: 3}}", "MLP", {"class_path": "MLP", "init_args": {"a": 3}}),
        ("{width: 3, depth: null}", "my.Net", {"class_path": "my.Net", "init_args": {"width": 3, "depth": None}}),
        ("{init_args: {width: 3}}", "my.Net", {"class_path": "my.Net", "init_args": {"width": 3}}),
        ("my.Net", "my.Other", {"class_path": "my.Other"}),
        ("my.Net", "my.Net", {"class_path": "my.Net", "init_args": {}}),
    ],
)
def test_class_of_a_flag_replaces_another_and_completes_bare_arguments(
    folder: Path, file: str, flag: str, meaning: object
) -> None:
    for key in ("model", "data"):
        found = said(f"{key}: {file}", f"--{key}", flag)[key]
        assert found == meaning or found == {"class_path": meaning}


def test_optimizer_and_scheduler_are_spelt_like_the_model(folder: Path) -> None:
    flags = "--optimizer SGD --optimizer.momentum 0.9 --lr-scheduler StepLR --lr_scheduler.step_size 3 --constant"
    options = parse_args(flags.split())
    assert options["optimizer"] == {"class_path": "SGD", "init_args": {"momentum": 0.9}}
    assert options["lr_scheduler"] == {"class_path": "StepLR", "init_args": {"step_size": 3}}
    assert options["constant"] is True


def test_keyword_arguments_of_lightning_join_the_others(folder: Path) -> None:
    spec = "{class_path: my.Net, init_args: {a: 1}, dict_kwargs: {b: 2}}"
    assert said(f"model: {spec}") == {"model": {"class_path": "my.Net", "init_args": {"a": 1, "b": 2}}}


HYDRA = """
model:
  _target_: my_package.Lit
  net: {_target_: my_package.Net, width: 64}
  optimizer: {_target_: torch.optim.Adam, _partial_: true}
data: {_target_: my_package.Data, n: "${n}"}
"""


def test_mapping_that_is_an_argument_is_left_to_the_class_that_takes_it(folder: Path) -> None:
    arguments = {"net": {"_target_": "my.Body", "width": "${width}"}, "layers": [{"_target_": "my.Layer"}]}
    spec = {"class_path": "my.Net", "init_args": arguments}
    assert said(yaml.safe_dump({"model": spec})) == {"model": spec}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("ckpt_path: last.ckpt", "ckpt_path must be null: every run of a study starts anew; load the weights in the module's"),
        ("ckpt_path: last.ckpt", "constructor; got 'last.ckpt'"),
        ("config: other.yaml", "config must be given on the command line, not in a file; got 'other.yaml'"),
        ("verbose: true", "option 'verbose' is not known"),
        ("weights_only: true", "option 'weights_only' is not known"),
        ("batchsize: 3", "option 'batchsize' is not known; did you mean 'batch_size'?"),
        ("tau: much", "tau"),
        ("epochs: [2", "config must be a YAML file, got 'config.yaml': while parsing a flow sequence"),
        ("- epochs", "config must hold a mapping of option to value, 'config.yaml' holds a list"),
        ("model: {init_args: 3}", "model.init_args must be a mapping of argument to value, got 3"),
        ("model: {class_path: my.Net, width: 3}", "model takes class_path and init_args, got 'width'"),
        ("model: {width: 3}", "model must name its class: the file gives arguments alone (width), as LightningCLI does for"),
        ("model: {width: 3}", "a fixed class; add --model my_package.MyClass"),
        ("data: {root: x, n: 3}", "data must name its class: the file gives arguments alone (root, n), as LightningCLI does"),
        ("optimizer: {lr: 3}", "add --optimizer SGD"),
        ("lr_scheduler: {gamma: 3}", "add --lr-scheduler StepLR"),
        ("defaults: [data: mnist]", "defaults is hydra's list of files, which are not read: put all options in one file"),
        (
            HYDRA,
            "config must name classes by class_path, with their arguments under init_args, got hydra's _target_ at model in",
        ),
        (HYDRA, "in 'config.yaml'; what is _partial_ can only be made in Python, with a factory: StudyConfig(model="),
        (
            HYDRA,
            "functools.partial(Lit, net=..., optimizer=...)); OmegaConf's '${n}' at data.n is not filled in: write the value",
        ),
        (
            "trainer: {callbacks: [{_target_: a.B}]}",
            "got hydra's _target_ at trainer.callbacks.0 in 'config.yaml'; or in Python, with",
        ),
        ("fit: {model: {_target_: my.Net}}", "got hydra's _target_ at model in 'config.yaml'"),
        (
            "model: {class_path: my.Net, init_args: {n: '${data.n}'}}",
            "config must hold plain values, got OmegaConf's '${data.n}' at model.init_args.n in 'config.yaml', which is not",
        ),
        ("data: {root: '${oc.env:HOME}/data'}", "got OmegaConf's '${oc.env:HOME}/data' at data.root in 'config.yaml'"),
        (
            "model: {class_path: a.B, init_args: {net: {class_path: c.D, init_args: {n: ['${n}']}}}}",
            "OmegaConf's '${n}' at model.init_args.net.init_args.n.0",
        ),
    ],
)
def test_file_that_is_refused_gets_one_sentence(folder: Path, config: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as error:
        said(config)
    assert "\n" not in str(error.value)


def test_file_that_is_not_text_is_refused(folder: Path) -> None:
    Path("config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=re.escape("config must be a YAML file, got 'config.yaml'")):
        parse_args(["--config", "config.yaml"])


@pytest.mark.parametrize(("path", "found"), [("missing.yaml", "no file"), (".", "a folder")])
def test_missing_file_is_named(folder: Path, path: str, found: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"config must be a YAML file, got {found} at {path!r}")):
        parse_args(["--config", path])


def test_empty_file_says_nothing(folder: Path) -> None:
    assert said("") == {}


def test_checks_of_a_file_import_nothing_heavy(folder: Path) -> None:
    Path("c.yaml").write_text(SAVED.replace("my.Net", "torch.nn.Linear"))
    code = (
        "import sys\nfrom studies.commands.launch import parse_args\n"
        "parse_args(['--config', 'c.yaml'])\nprint('torch' in sys.modules)"
    )
    done = python(code, cwd=folder)
    assert done.stdout == "False\n", done.stderr
    assert os.listdir(folder) == ["c.yaml"]


def test_nothing_but_json_comes_to_stdout_whatever_a_module_or_its_worker_prints(folder: Path) -> None:
    code = "import os\nfrom studies.commands.terminal import stdout_to_stderr\n"
    code += "with stdout_to_stderr(True):\n    print('from Python')\n    os.system('echo from a process')\nprint('{}')"
    done = python(code, cwd=folder)
    assert done.stdout == "{}\n" and sorted(done.stderr.splitlines()) == ["from Python", "from a process"]
