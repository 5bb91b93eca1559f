"""A LightningCLI project in a folder of its own is studied from that folder, by the commands and the code of the README."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SECTION = README.partition("## Study your own model\n")[2].partition("\n##")[0]


def run(folder: Path, *command: str) -> str:
    """What a command prints; the virtual environment's commands come first, as when it is activated."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project; its folder ``studies`` is called as one of our packages."""
    folder = tmp_path_factory.mktemp("own") / "project"
    shutil.copytree(ROOT / "tests" / "cli_project", folder)
    return folder


def test_section_of_the_readme_is_short() -> None:
    assert 10 < SECTION.count("\n") < 25


def test_commands_of_the_readme_study_the_project(project: Path) -> None:
    (project / "reports").mkdir()
    (project / "reports" / "__init__.py").write_text("raise ImportError('the wrong reports')\n")
    commands = re.search(r"```bash\n(.*?)```", SECTION, re.DOTALL)
    assert commands
    lines = commands[1].splitlines()
    assert [line.split()[:2] for line in lines] == [["lr-study", "launch"]] * 2
    for name, line in zip(("digitsdata", "wide"), lines, strict=True):
        printed = run(project, *line.split())
        assert f"report: outputs/{name}/report.html" in printed
        runs = pd.read_csv(project / "outputs" / name / "runs.csv")
        assert len(runs) == 6 and set(runs["state"]) == {"COMPLETE"}
        assert {"val_loss", "val_acc"} <= set(runs.columns)
        assert {"too low", "good"} <= set(runs["verdict"])
    assert set(pd.read_csv(project / "outputs" / "wide" / "runs.csv")["epochs"]) == {2.0}
    assert set(pd.read_csv(project / "outputs" / "digitsdata" / "runs.csv")["epochs"]) == {3.0}, "max_epochs of config.yaml"
    shutil.rmtree(project / "reports")
    made = {path.name for path in project.iterdir()} - {path.name for path in (ROOT / "tests" / "cli_project").iterdir()}
    assert made - {"__pycache__"} == {"outputs"}


def test_python_of_the_readme_runs(project: Path) -> None:
    code = re.search(r"```python\n(.*?)```", SECTION, re.DOTALL)
    assert code
    before = "import pytorch_lightning as pl\n"
    before += "from data import DigitsData\nfrom models import LitNet\n"
    before += "trainer = pl.Trainer(max_epochs=1, accelerator='cpu', logger=False, enable_checkpointing=False)\n"
    printed = run(project, sys.executable, "-W", "ignore", "-c", before + code[1]).splitlines()
    assert printed[0] == "outputs/mine/report.html"
    assert re.fullmatch(r"[\d.e-]+ \([\d.e-]+, [\d.e-]+\) \{.*'good'.*\}", printed[-1])


def test_project_still_runs_on_its_own(project: Path) -> None:
    run(project, sys.executable, "-W", "ignore", "main.py", "fit", "--config", "config.yaml", "--trainer.fast_dev_run", "true")
