"""A judged study shows itself: a few lines in a console, the answer, a table and the map in a notebook."""

from __future__ import annotations

import base64
import html
import math
import re
from html.parser import HTMLParser
from io import BytesIO

import pytest
from conftest import four_verdicts, tables
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from reports.judging.judged import Judged, judge
from reports.judging.trust import Check

DOWN, FLAT, BLOWN = [2.0, 0.1, 0.0, 0.0, 0.0], [2.0, 1.95, 1.9, 1.85, 1.8], [2.0, 9.0, math.inf]


def study(*sizes: int) -> Judged:
    return judge(*tables({(size, rate): [run, run] for size in sizes for rate, run in ((0.01, FLAT), (0.1, DOWN), (1, BLOWN))}))


class Page(HTMLParser):
    """Cells of the table by row, every attribute, and whether each tag that was opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.styles: list[str] = []
        self.source = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.styles.append(found.get("style") or "")
        self.source = found.get("src") or self.source
        if tag == "tr":
            self.rows.append([])
        if tag != "img":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_a_console_shows_a_few_lines_with_the_answer_and_the_names_of_the_tables() -> None:
    judged = study(8, 32)
    lines = repr(judged).splitlines()
    assert lines[0] == "12 runs: 4 too low, 4 good, 4 divergent"
    assert lines[1].startswith("Batch size 8: use ~0.1 (") and lines[2].startswith("Batch size 32: use ~0.1 (")
    assert re.fullmatch(r"\d of 6 checks passed; not to be trusted yet: .*seeds.*", lines[-2])
    assert lines[-1].startswith("tables: runs, curves, cells") and "batch_sizes" in lines[-1]
    assert len(lines) < 8 and str(judged) == repr(judged)


def test_a_notebook_shows_the_answer_a_row_a_batch_size_and_the_map() -> None:
    judged = study(8, 32)
    text = judged._repr_html_()
    page = Page(text)
    for check in judged.trust:
        assert (html.escape(check.sentence) in text) != check.passed
    assert judged.overall in text
    assert page.rows[0][:3] == ["batch size", "use", "safe"] and len(page.rows[0]) == 6
    assert [row[:2] for row in page.rows[1:]] == [["8", "~0.1"], ["32", "~0.1"]]
    picture = Image.open(BytesIO(base64.b64decode(page.source.removeprefix("data:image/png;base64,"))))
    assert picture.format == "PNG" and picture.width > 1000


def test_ipython_shows_the_html_and_the_lines_and_not_the_tuple() -> None:
    judged = study(8)
    shown, _ = DisplayFormatter().format(judged)
    assert shown["text/plain"] == repr(judged)
    assert "<table>" in shown["text/html"]


def test_only_the_card_of_the_map_has_a_colour_and_it_is_white() -> None:
    judged = study(8)
    coloured = [style for style in Page(judged._repr_html_()).styles if re.search(r"color|background|#", style)]
    assert len(coloured) == 1 and "background:#fff" in coloured[0]
    assert "<style" not in judged._repr_html_() and "<script" not in judged._repr_html_()


def test_what_users_named_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    judged = study(8)
    answers = [answer._replace(note=evil) for answer in judged.answers]
    judged = judged._replace(overall=evil, own=evil, answers=answers, trust=[Check(evil, False, evil)])
    text = judged._repr_html_()
    assert "<script" not in text and text.count(html.escape(evil)) == 5
    Page(text)


def test_remarks_are_shown_and_escaped() -> None:
    remarks = ["Its scheduler was left out.", "<script>alert(1)</script>"]
    judged = study(8)._replace(remarks=remarks)
    assert str(judged).splitlines()[-3:-1] == remarks
    text = judged._repr_html_()
    assert "<script" not in text and all(f"<p>{html.escape(remark)}</p>" in text for remark in remarks)
    Page(text)


def test_half_of_new_seeds_and_no_good_learning_rate_are_said_in_the_table() -> None:
    half = study(8)._repr_html_()
    assert Page(half).rows[1][1] == "~0.1" and "After a ~: good on half of new seeds only" in half
    none = judge(*tables({(8, 1.0): [BLOWN], (8, 2.0): [BLOWN]}))
    assert Page(none._repr_html_()).rows[1][1] == "none" and none.ranges["note"][0] in none._repr_html_()
    assert "no learning rate is good" in repr(none)


@pytest.mark.parametrize("curves", [True, False])
def test_a_study_without_a_finished_run_says_so(curves: bool) -> None:
    runs, heights = four_verdicts()
    judged = judge(runs.assign(state="RUNNING"), heights if curves else heights.iloc[:0])
    assert repr(judged).splitlines()[0] == "4 runs: 4 did not finish"
    text = judged._repr_html_()
    assert "No run has finished yet, so there is nothing to judge." in text and "<img" not in text
