"""A LightningCLI project in a folder of its own is studied from that folder, by a command and by code of the documents."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from test_documents import README, STUDIES, blocks, run
from test_scripts import ROOT

WIDE = (
    "--model models.LitNet --model.width 64 --data data.DigitsData --points 6 --batch-size 32 --seeds 1 --epochs 2 --name wide"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project; its folder ``studies`` is called as one of our packages."""
    folder = tmp_path_factory.mktemp("own") / "project"
    shutil.copytree(ROOT / "tests" / "cli_project", folder)
    return folder


def test_project_is_studied_with_and_without_its_configuration(project: Path) -> None:
    (project / "reports").mkdir()
    (project / "reports" / "__init__.py").write_text("raise ImportError('the wrong reports')\n")
    (shown,) = (line for block in blocks(STUDIES, "bash") for line in block.splitlines() if "--config config.yaml" in line)
    for name, line in {"digitsdata": shown, "wide": f"lr-study launch {WIDE}"}.items():
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


def test_python_of_the_readme_studies_the_project(project: Path) -> None:
    code = blocks(README, "python")[-1]
    assert "from mine import Data, Net\n" in code
    code = code.replace(
        "from mine import Data, Net\n", "from data import DigitsData as Data\nfrom models import LitNet as Net\n"
    )
    printed = run(project, sys.executable, "-W", "ignore", "-c", code).splitlines()
    assert printed[0] == "outputs/from Python/report.html"
    use = re.match(r"use ~?([\d.e-]+) \([\d.e-]+ to [\d.e-]+", printed[1])
    assert use and float(use[1]) == pytest.approx(float(printed[-1].split()[-1]), rel=0.01)


def test_project_still_runs_on_its_own(project: Path) -> None:
    run(project, sys.executable, "-W", "ignore", "main.py", "fit", "--config", "config.yaml", "--trainer.fast_dev_run", "true")
