"""The section on batch sizes of a comparison: what each study's law foretells at the sizes of the others."""

import json
from pathlib import Path

import pandas as pd
import pytest
from test_reports_comparison import study

from reports import Judged
from reports.comparison.batch_sizes import foretell, tabulate
from reports.comparison.folder import write_comparison
from reports.comparison.tables import compare


@pytest.fixture(scope="module")
def judged() -> dict[str, Judged]:
    """One whose law reaches from 4 to 1,024, one of two batch sizes, which has none, and one of other sizes."""
    sizes = {"three": (16, 64, 256), "two": (32, 2048), "others": (8, 32, 128)}
    return {name: study(batch_sizes=sizes[name], random=k) for k, name in enumerate(sizes)}


def test_each_law_tells_of_the_sizes_of_the_others_as_far_as_it_reaches(judged: dict[str, Judged]) -> None:
    table = foretell(judged)
    assert set(table["study"]) == {"three", "others"}
    assert set(table.loc[table["study"] == "three", "batch_size"]) == {8, 16, 32, 64, 128, 256}
    assert set(table.loc[table["tried"] & (table["study"] == "others"), "batch_size"]) == {8, 32, 128}
    one = table[(table["study"] == "three") & (table["batch_size"] == 32)].iloc[0]
    at = judged["three"].batch_axis.at(32)
    assert (one["use"], one["low"], one["high"]) == (at.use, at.low, at.high)
    assert one["good_to_low"] < one["good_to"] < one["good_to_high"]


def test_what_is_foretold_says_so_and_what_no_law_reaches_is_left_open(judged: dict[str, Judged]) -> None:
    rows = {row[0]: row[1:] for row in tabulate(foretell(judged), dict.fromkeys(judged, ""))}
    assert rows["8"][0].endswith(", foretold") and not rows["8"][2].endswith(", foretold")
    assert {each[1] for each in rows.values()} == {"-"} and rows["256"][2].endswith(", foretold")


def test_pages_tables_and_answer_hold_the_section(tmp_path: Path, judged: dict[str, Judged]) -> None:
    page = write_comparison(compare(judged), judged, tmp_path)
    text, html = page.with_suffix(".md").read_text(), page.read_text()
    assert "## Batch size\n" in text and "](figures/laws.png)" in text and "<h2>Batch size</h2>" in html
    assert "Up to where learning rates are good" in html and "three: too low to good: belongs to" in html
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert len(answer["foretold"]) == len(pd.read_csv(tmp_path / "foretold.csv")) > 6 and answer["batch_sizes"]
    two = {name: judged["two"] for name in ("before", "after")}
    page = write_comparison(compare(two), two, tmp_path)
    assert "<h2>Batch size</h2>" not in page.read_text() and "## Batch size\n" not in page.with_suffix(".md").read_text()
    assert not (tmp_path / "foretold.csv").exists() and not (tmp_path / "figures" / "laws.png").exists()
