"""Studies nobody hopes for: each gets a sensible verdict or a plain sentence, from verdicts to pages, and nothing raises."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from conftest import tables

from reports.judging.judged import judge
from reports.pages.folder import write_report

NAN, INF = math.nan, math.inf
DOWN, FLAT = [2.0, 0.1, 0.0, 0.0, 0.0], [2.0, 1.95, 1.9, 1.9, 1.9]
Cells = dict[tuple[int, float], list[list[float]]]

# name: cells, their verdicts by learning rate, what the first answer must say
CASES: dict[str, tuple[Cells, list[str], str]] = {
    "NaN in a curve": ({(8, 0.1): [DOWN], (8, 1.0): [[2.0, 1.0, NAN, NAN, NAN]]}, ["good", "divergent"], "use 0.1"),
    "inf in a curve": ({(8, 0.1): [DOWN], (8, 1.0): [[2.0, INF, INF, INF, INF]]}, ["good", "divergent"], "use 0.1"),
    "NaN from the start": ({(8, 0.1): [DOWN], (8, 1.0): [[NAN, NAN, NAN]]}, ["good", "divergent"], "use 0.1"),
    "negative losses": (
        {(8, 0.01): [[-1.0, -1.1, -1.2, -1.2]], (8, 0.1): [[-1.0, -5.0, -5.0, -5.0]], (8, 1.0): [[-1.0, 0.0, 4.0, 4.0]]},
        ["too low", "good", "divergent"],
        "use 0.1",
    ),
    "losses that start at exactly zero": (
        {(8, 0.1): [[0.0, -1.0, -1.0, -1.0]], (8, 1.0): [[0.0, 3.0, 3.0, 3.0]]},
        ["good", "divergent"],
        "use 0.1",
    ),
    "all losses exactly zero": (
        {(8, 0.1): [[0.0] * 4], (8, 1.0): [[0.0] * 4]},
        ["too low", "too low"],
        "no learning rate is good",
    ),
    "constant losses": ({(8, 0.1): [[2.0] * 4], (8, 1.0): [[2.0] * 4]}, ["too low", "too low"], "no learning rate is good"),
    "one learning rate": ({(8, 0.1): [DOWN] * 3}, ["good"], "good from below 0.1 (the lowest tried)"),
    "one learning rate that diverges": ({(8, 0.1): [[2.0, INF]] * 3}, ["divergent"], "no learning rate is good"),
    "one seed": ({(8, 0.01): [FLAT], (8, 0.1): [DOWN], (8, 1.0): [[2.0, INF]]}, ["too low", "good", "divergent"], "use 0.1"),
    "one run": ({(8, 0.1): [DOWN]}, ["good"], "use 0.1"),
    "all divergent": (
        {(8, 0.1): [[2.0, INF]] * 3, (8, 1.0): [[2.0, INF]] * 3},
        ["divergent", "divergent"],
        "no learning rate is good; divergence begins below 0.1 (the lowest tried)",
    ),
    "none divergent": (
        {(8, 0.01): [FLAT] * 3, (8, 0.1): [DOWN] * 3},
        ["too low", "good"],
        "divergence begins above 0.1 (the highest tried)",
    ),
    "none good": (
        {(8, 0.1): [[2.0, 2.1, 2.1, 2.1]] * 3, (8, 1.0): [[2.0, 2.2, 2.2, 2.2]] * 3},
        ["divergent", "divergent"],
        "no learning rate is good",
    ),
    "a curve of one point": ({(8, 0.1): [DOWN], (8, 1.0): [[2.0]]}, ["good", "divergent"], "use 0.1"),
    "two batch sizes, one of them all divergent": (
        {(8, 0.1): [DOWN] * 3, (64, 0.1): [[2.0, INF]] * 3},
        ["good", "divergent"],
        "Batch size 8: use 0.1",
    ),
    "seeds that disagree about everything": (
        {(8, 0.01): [DOWN, FLAT, [2.0, INF]], (8, 0.1): [[2.0, INF], DOWN, FLAT], (8, 1.0): [FLAT, [2.0, INF], DOWN]},
        ["good", "good", "good"],  # one seed each goes down, stays up and explodes: by medians
        "Batch size 8: use ",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_odd_study_is_judged_and_its_report_written(case: str, tmp_path: Path) -> None:
    cells, verdicts, words = CASES[case]
    judged = judge(*tables(cells))
    assert judged.cells.sort_values(["batch_size", "learning_rate"])["verdict"].tolist() == verdicts
    assert judged.runs["verdict"].notna().all() and judged.runs["reason"].str.len().gt(10).all()
    assert words in judged.answers[0].sentence.replace("~", "")
    assert len(judged.edges) == 3 * len({size for size, _ in cells})
    write_report(judged, tmp_path, title="odd", configuration={})
    assert not re.search(r"\bnan\b", (tmp_path / "report.md").read_text())


def test_nothing_good_names_the_remedy() -> None:
    remedies = {
        "all divergent": "try 1e-5 to 0.1",
        "none good": "try 0.001 to 0.1",
        "constant losses": "try 1 to 1,000, or more",
    }
    for case, remedy in remedies.items():
        judged = judge(*tables(CASES[case][0]))
        assert remedy in judged.answers[0].aside
        assert any(not check.passed and check.changes for check in judged.trust)
