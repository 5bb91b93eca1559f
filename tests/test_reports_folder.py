"""The folder: all files there, tables complete, nothing half written."""

from __future__ import annotations

import errno
import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from conftest import four_verdicts, searched, tables

import reports.pages.written_file
from reports.figures import FIGURES
from reports.judging.judged import judge
from reports.judging.verdicts import Thresholds, classify, classify_cells
from reports.pages.folder import write_report
from reports.pages.spreadsheet import read_csv

TABLES = "runs cells ranges curves edges recommendations costs batch_sizes judgements self_check hold_out ledger".split()
DRAWN = [
    name for name in FIGURES if name not in ("search_order", "bumps", "batch_time", "batch_law")
]  # of a grid of one batch size, without minibatch losses
FILES = {"report.html", "report.md", "answer.json", *(f"{name}.csv" for name in TABLES)}


def write(folder: Path, runs: pd.DataFrame, curves: pd.DataFrame, thresholds: Thresholds | None = None) -> Path:
    return write_report(judge(runs, curves, thresholds), folder, title="digits", configuration={"epochs": 10})


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_pages_tables_and_figures_and_nothing_else(tmp_path: Path) -> None:
    page = write(tmp_path / "new" / "folder", *four_verdicts())
    assert page == tmp_path / "new" / "folder" / "report.html"
    assert files(page.parent) == FILES | {f"figures/{name}.{kind}" for name in DRAWN for kind in ("png", "svg")}
    assert all(matplotlib.image.imread(path).ndim == 3 for path in page.parent.glob("figures/*.png"))


def test_folder_of_a_search_has_the_order_of_its_runs_and_the_ledger_reads_back_from_both_files(tmp_path: Path) -> None:
    write(tmp_path, *searched())
    figures = {f"figures/{name}.{kind}" for name in [*DRAWN, "search_order"] for kind in ("png", "svg")}
    assert files(tmp_path) == FILES | figures
    ledger, told = read_csv(tmp_path / "ledger.csv"), json.loads((tmp_path / "answer.json").read_bytes())["cost"]
    pd.testing.assert_frame_equal(ledger, judge(*searched()).ledger, check_dtype=False)
    pd.testing.assert_frame_equal(ledger, pd.DataFrame(told["ways"]), check_dtype=False)


def test_pictures_can_be_read_whatever_a_metric_is_called(tmp_path: Path) -> None:
    runs, curves = four_verdicts()
    write(tmp_path, runs.rename(columns={"val_accuracy": "val_\x1b[2J\x07\0-->&<"}), curves)
    for path in tmp_path.glob("figures/*.svg"):
        assert ElementTree.fromstring(path.read_bytes()).tag.endswith("svg")


def test_the_markdown_points_at_figures_that_exist(tmp_path: Path) -> None:
    text = write(tmp_path, *four_verdicts()).with_suffix(".md").read_text(encoding="utf-8")
    assert all(f"](figures/{name}.png)" in text for name in DRAWN)


def test_the_markdown_goes_from_the_answer_over_the_map_and_the_trust_to_each_batch_size(tmp_path: Path) -> None:
    text = write(tmp_path, *four_verdicts()).with_suffix(".md").read_text(encoding="utf-8")
    order = [r"| 32 | \~0.1 |", "![map](", "## How far to trust this", "## Batch size 32", "## Figures"]
    order += ["## Every cell and why", "## What the words mean", "## How it was judged", "## Configuration"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall("^## (.*)$", text, re.MULTILINE)}
    assert (links := re.findall(r"\]\(#([^)]+)\)", text)) and set(links) <= anchors
    lines = text.splitlines()
    for at, line in enumerate(lines):  # pictures and their captions are paragraphs
        assert not line.startswith("![") or lines[at - 1] == lines[at + 1] == "" and lines[at + 2] in FIGURES.values()


def test_tables_come_back_as_they_were_judged(tmp_path: Path) -> None:
    runs, curves = four_verdicts()
    write(tmp_path, runs, curves)
    judged, cells = classify(runs, curves), classify_cells(runs, curves)
    read = {name: pd.read_csv(tmp_path / f"{name}.csv") for name in ("runs", "cells", "ranges", "curves")}
    assert list(read["runs"]) == list(judged)
    assert set(read["cells"]) == set(cells)
    first = ["batch_size", "learning_rate", "verdict", "reason", "progress", "time_to_bottom_epochs", "n_seeds"]
    assert list(read["cells"])[:7] == first
    pd.testing.assert_frame_equal(read["cells"][list(cells)], cells, check_dtype=False)
    pd.testing.assert_frame_equal(read["curves"], curves, check_dtype=False)
    assert read["runs"]["final_height"].tolist()[-1] == math.inf


def test_metrics_of_a_users_own_disturb_no_page_and_no_figure(tmp_path: Path) -> None:
    """Curves of metrics that do not begin with val_: the report is byte for byte the same, beside the curves themselves."""
    runs, curves = four_verdicts()
    validation = pd.concat([curves.assign(metric=name) for name in ("val_loss", "val_accuracy")])
    curves = pd.concat([curves, validation[np.isfinite(validation["value"])]], ignore_index=True)
    odd = ("train_acc", "lr-SGD", "Height", "my_val_loss", "</pre> <b> | `x` $\\evil$", "")
    values = [1e30, -5.0, math.inf, math.nan]
    own = [
        pd.DataFrame({"trial": 1, "step": [0, 3, 3, 80], "epoch": [0.0, 0.4, 0.4, 10.0], "metric": name, "value": values})
        for name in odd
    ]
    write(tmp_path / "plain", runs, curves)
    write(tmp_path / "own", runs, pd.concat([*own, curves], ignore_index=True))
    for name in files(tmp_path / "plain") - {"curves.csv"}:
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "own" / name).read_bytes(), name
    written = pd.read_csv(tmp_path / "own" / "curves.csv", keep_default_na=False)
    assert set(odd) < set(written["metric"])


def test_traceback_of_a_failed_trial_comes_back_from_its_table(tmp_path: Path) -> None:
    runs, curves = four_verdicts()
    texts = [None, None, None, 'Traceback:\n  File "a, b.py"\n\nError: "broken"']
    write(tmp_path, runs.assign(state=["COMPLETE"] * 3 + ["FAIL"], error="broken", traceback=texts), curves)
    read = pd.read_csv(tmp_path / "runs.csv")["traceback"]
    assert read.isna().tolist() == [True] * 3 + [False] and read[3] == texts[3]
    assert "Error: &#34;broken&#34;" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_thresholds_change_the_verdicts_without_new_runs(tmp_path: Path) -> None:
    runs, curves = four_verdicts()
    write(tmp_path, runs, curves, Thresholds(target_loss=-100.0))
    assert "good" not in set(pd.read_csv(tmp_path / "cells.csv")["verdict"])


def test_a_figure_that_can_no_longer_be_drawn_is_removed(tmp_path: Path) -> None:
    runs, curves = four_verdicts()
    write(tmp_path, runs, curves)
    write(tmp_path, runs.drop(columns=["val_loss", "val_accuracy"]), curves)
    assert "figures/loss_and_metric.png" not in files(tmp_path)
    assert "loss_and_metric" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_failed_write_leaves_the_earlier_page_and_no_scraps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write(tmp_path, *four_verdicts())
    before, names = page.read_bytes(), files(tmp_path)

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(reports.pages.written_file.os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path, *tables({(8, 0.1): [[2.0, 1.0, 0.5]]}))
    assert page.read_bytes() == before and files(tmp_path) == names


def test_a_study_without_finished_runs_still_gets_its_folder(tmp_path: Path) -> None:
    runs, curves = four_verdicts()
    write(tmp_path, runs.assign(state="FAIL", error="bad byte"), curves.iloc[:0])
    assert files(tmp_path) == FILES
