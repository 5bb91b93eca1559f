"""Pages: the answer first, every reason there, nothing fetched, nothing a user wrote taken for markup."""

from __future__ import annotations

import gzip
import math
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pandas as pd
import pytest
from conftest import HOSTILE, four_verdicts, searched, tables
from matplotlib.figure import Figure

from reports.charts.study import map_chart
from reports.figures import FIGURES
from reports.figures.pictures import draw_picture
from reports.judging.judged import Judged, judge
from reports.judging.ledger import NOTE, describe_ledger
from reports.judging.summary import summarize_study
from reports.judging.verdicts import Thresholds
from reports.pages.page_data import page_data
from reports.pages.study import TRACEBACK_LINES, render_html, render_markdown
from reports.style import STYLES, VERDICTS

DOWN = [2.0, 0.0, 0.0, 0.0]
DOT = draw_picture(Figure(figsize=(0.1, 0.1)))
OUR_SCRIPTS = [("text/plain", "data"), ("text/plain", "plotly"), (None, None)]
EVIL = "<script>alert(1)</script> | a `b` $\\evil$ \n# c & 'd' \"e\""


def html(judged: Judged, *, title: str = "digits", **configuration: object) -> str:
    return render_html(judged, dict.fromkeys(FIGURES, DOT), title=title, configuration=configuration)


def markdown(judged: Judged, *, title: str = "digits", **configuration: object) -> str:
    pictures = {name: f"figures/{name}.png" for name in FIGURES}
    return render_markdown(judged, pictures, title=title, configuration=configuration)


def with_crash(error: str) -> Judged:
    runs, curves = four_verdicts()
    return judge(pd.concat([runs, runs.tail(1).assign(trial=4, state="FAIL", error=error)], ignore_index=True), curves)


def with_tracebacks(*texts: str | None) -> Judged:
    """A failed trial for each traceback, numbered from 4."""
    runs, curves = four_verdicts()
    failed = [runs.tail(1).assign(trial=4 + k, state="FAIL", error="broken", traceback=text) for k, text in enumerate(texts)]
    return judge(pd.concat([runs.assign(traceback=None), *failed], ignore_index=True), curves)


class Reader(HTMLParser):
    """Collects tags, attributes and visible text, and checks that tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.within: dict[str, list[str]] = {"summary": [], "pre": []}
        self.scripts: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)
        if tag in self.within:
            self.within[tag].append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
            return
        self.text += data
        if self.open and self.open[-1] in self.within:
            self.within[self.open[-1]][-1] += data

    @property
    def headings(self) -> list[str]:
        """Of tracebacks that can be opened."""
        return [text for text in self.within["summary"] if text.startswith("trial")]


def test_the_answer_is_one_row_a_batch_size_at_the_top_and_looks_as_sure_as_it_is() -> None:
    judged = judge(*four_verdicts())
    sure = judge(*tables({(32, rate): [DOWN] * 3 for rate in (0.1, 0.2, 0.4, 0.8)} | {(32, 1e-4): [[2.0] * 4] * 3}))
    assert judged.answers[0].on_half and not sure.answers[0].on_half
    for each, use, looks in ((judged, "~0.1", 1), (sure, sure.answers[0].to_use, 0)):
        [answer], page = each.answers, html(each)
        assert answer.to_use == use and answer.sentence.startswith(f"Batch size 32: use {use} (")
        row = [word for place in answer.row for word in place if word]
        for text in (Reader(page).text, markdown(each)):
            places = [text.index(word) for word in row]
            assert places == sorted(places) and places[-1] < text.index("What the words mean")
            assert ("on half of new seeds only, as" in text) == bool(looks)
        assert page.count('<tr role="row" class="half">') == looks
        assert page.index("3 seeds" if not looks else "1 seed,") < page.index("How far to trust this")


def test_seeds_under_the_answer_are_those_of_runs_that_have_a_verdict() -> None:
    runs, curves = four_verdicts()
    judged = judge(pd.concat([runs, runs.tail(1).assign(trial=4, seed=1, state="FAIL", error="broken")]), curves)
    assert judged.conditions == "1 seed, tau 0.1, rho 3, 10 epochs" and summarize_study("digits", judged)["seeds"] == 1


def test_bands_that_hold_on_half_of_new_seeds_are_hatched_in_another_colour() -> None:
    bands = [band for band in map_chart(judge(*four_verdicts()))["data"] if band.get("fill")]
    assert [band["fillpattern"]["shape"] for band in bands] == ["/"] and bands[0]["line"]["color"] == STYLES["too high"].colour
    sure = judge(*tables({(32, rate): [DOWN] * 3 for rate in (0.1, 0.2, 0.4, 0.8)} | {(32, 1e-4): [[2.0] * 4] * 3}))
    bands = [band for band in map_chart(sure)["data"] if band.get("fill")]
    assert [band["line"]["color"] for band in bands] == [STYLES["good"].colour] and "fillpattern" not in bands[0]


def test_learning_rates_that_are_simply_too_low_share_a_row_beside_the_verdict() -> None:
    slow = {(32, rate): [[2.0 - 0.05 * k for k in range(21)]] * 3 for rate in (0.001, 0.002, 0.003)}
    judged = judge(*tables(slow | {(32, 0.1): [[2.0, 0.1] + [0.0] * 19] * 3}))
    assert (judged.judgements["judgement"] == "still improving").sum() == 9
    assert [line for line in markdown(judged).splitlines() if line.startswith("| still improving")] == [
        "| still improving | 32 | 0.001 to 0.003 | - | as too low says |"
    ]


def test_an_edge_that_was_not_met_says_on_which_side_it_is() -> None:
    judged = judge(*tables({(64, 0.1): [DOWN] * 3, (64, 0.2): [DOWN] * 3}))
    [answer] = judged.answers
    sentence = answer.sentence
    assert "good from below 0.1 (the lowest tried) to above 0.2 (the highest tried)" in sentence
    assert sentence.endswith("divergence begins above 0.2 (the highest tried).")


def test_no_good_learning_rate_is_said_with_its_remedy() -> None:
    judged = judge(*tables({(32, 1.0): [[2.0, math.inf]], (32, 2.0): [[2.0, math.inf]]}))
    page = Reader(html(judged)).text
    assert judged.answers[0].sentence == (
        "Batch size 32: no learning rate is good; divergence begins below 1 (the lowest tried)."
    )
    assert [place for place, _ in judged.answers[0].row] == ["32", "none", "-", "below 1", "below 1", "below 1"]
    assert '<tr role="row" class="none">' in html(judged)
    assert judged.ranges["note"][0] in page


def test_remarks_stand_after_the_trust_and_nothing_does_without_them() -> None:
    remarks = ["The probe was evaluated in batches as trained.", f"{EVIL} was left out."]
    plain, told = judge(*four_verdicts()), judge(*four_verdicts(), remarks=remarks)
    assert plain.remarks == [] and told.remarks == remarks
    for render in (html, markdown):
        assert "How this was measured" not in render(plain)
        page = render(told)
        assert (
            page.index("How far to trust this") < page.index("How this was measured") < page.index("What it costs to be wrong")
        )
        assert remarks[0] in page and "<script>alert" not in page
    assert " ".join(remarks[1].split()) in " ".join(Reader(html(told)).text.split())


def test_what_a_search_cost_is_compared_with_other_ways_and_a_grid_says_its_totals() -> None:
    judged, grid = judge(*searched()), judge(*four_verdicts())
    page, reader = markdown(judged), Reader(html(judged))
    for text in (page, reader.text):
        assert text.index("How far to trust this") < text.index("What it cost") < text.index("What it costs to be wrong")
        assert describe_ledger(judged.ledger) in text and NOTE in text
    assert "| full grid as fine | 54 % | 10 | 25,600 | about 20 s | 1 |" in page
    assert "| one full run | 5.4 x | 1 | 2,560 | about 3.33 s | - |" in page
    for text in (markdown(grid), Reader(html(grid)).text):
        assert describe_ledger(grid.ledger) in text
        assert "default grid" not in text and NOTE not in text
    without = searched()[0].query("state == 'PRUNED'")
    assert "| full grid as fine | - | - | - | - | - |" in markdown(judge(without, searched()[1]))
    running = judge(four_verdicts()[0].assign(state="RUNNING"), four_verdicts()[1].iloc[:0])
    assert all("This study took" not in render(running) for render in (html, markdown))


def test_run_that_was_ended_early_says_by_whom_in_the_table_of_runs() -> None:
    runs, curves = four_verdicts()
    assert "ended_early" not in [key for key, _, _ in page_data(judge(runs, curves))["columns"]]
    data = page_data(judge(runs.assign(ended_early=["EarlyStopping", None, None, None]), curves))
    keys = [key for key, _, _ in data["columns"]]
    assert ["ended_early", "ended early by", True] in data["columns"]
    assert [row[keys.index("ended_early")] for row in data["rows"]] == ["EarlyStopping", None, None, None]
    assert data["rows"][0][keys.index("reason")].endswith("; stopped by EarlyStopping after 10 epochs")


def floor_shown(judged: Judged) -> str:
    """The floor of the first batch size in the table of ranges."""
    row = next(line for line in markdown(judged).partition("## Ranges, as tried")[2].splitlines() if line.startswith("| 32 |"))
    return row.split(" | ")[6]


def test_floor_in_the_table_is_the_one_that_runs_are_judged_by() -> None:
    runs, curves = tables({(32, 0.1): [[2.0, 0.5, 0.5, 0.5]], (32, 1.0): [[2.0, 0.25, 0.25, 0.25]]})
    assert floor_shown(judge(runs, curves)) == "0.25"
    assert floor_shown(judge(runs.assign(ended_early=[None, "Timer"]), curves)) == "0.5"
    assert floor_shown(judge(runs, curves, Thresholds(target_loss=0.125))) == "0.125"


def test_every_cell_stands_with_verdict_and_reason() -> None:
    judged = judge(*four_verdicts())
    assert set(judged.cells["verdict"]) == set(VERDICTS)
    for page in (Reader(html(judged)).text, markdown(judged)):
        for reason in judged.cells["reason"]:
            assert reason in page


def hashed(script: str) -> str:
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


def test_the_page_fetches_nothing_and_runs_its_own_two_scripts_alone() -> None:
    reader = Reader(html(judge(*four_verdicts())))
    assert not {"link", "iframe", "object"} & {tag for tag, _ in reader.tags}
    sources = [attrs for tag, attrs in reader.tags if tag == "img"]
    assert len(sources) == len(FIGURES) - 1  # that of the batch sizes, which are too few
    assert all(str(attrs["src"]).startswith("data:image/webp;base64,") and attrs["alt"] for attrs in sources)
    assert [(attrs.get("type"), attrs.get("id")) for tag, attrs in reader.tags if tag == "script"] == OUR_SCRIPTS
    plotly = gzip.decompress(b64decode(reader.scripts[1])).decode()
    [policy] = [attrs["content"] for _, attrs in reader.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    scripts = f"{hashed(reader.scripts[2])} {hashed(plotly)}"
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}"


def test_text_of_users_is_text_in_html() -> None:
    reader = Reader(html(with_crash(EVIL), title=EVIL, option=EVIL, nested={EVIL: EVIL}))
    assert [attrs.get("id") for tag, attrs in reader.tags if tag == "script"] == [name for _, name in OUR_SCRIPTS]
    assert reader.text.count("<script>alert(1)</script>") == 6  # title twice, option, nested name and value, error


def test_text_of_users_is_text_in_markdown() -> None:
    page = markdown(with_crash(EVIL), title=EVIL, option=EVIL)
    assert "<script" not in page.replace("\\<", "")
    rows = [line for line in page.splitlines() if line.startswith("| option | ")]
    assert [line.replace("\\|", "").count("|") for line in rows] == [3, 3]
    assert "\n# c" not in page


def test_crashed_trials_are_listed_with_their_error_and_only_then() -> None:
    page = Reader(html(with_crash("out of memory"))).text
    assert "1 of 5 trials did not finish." in page and "did not finish: out of memory" in page
    assert "did not finish" not in Reader(html(judge(*four_verdicts()))).text


def indented_blocks(page: str) -> list[str]:
    """The code blocks of a Markdown page: lines indented by four, after a blank line, up to the next line that is not."""
    blocks: list[list[str]] = []
    inside, before = False, ""
    for line in page.splitlines():
        if line.startswith("    ") and (inside or not before):
            blocks = blocks if inside else [*blocks, []]
            blocks[-1].append(line[4:])
            inside = True
        elif not inside or line:
            inside = False
        else:
            blocks[-1].append("")
        before = line
    return ["\n".join(block).strip("\n") for block in blocks]


def test_equal_tracebacks_stand_once_under_the_list_of_their_trials() -> None:
    first, second = "Traceback:\n  File 'a.py', line 1\n\nValueError: broken", "Traceback:\nKeyError: 'b'"
    judged = with_tracebacks(first, None, second, first, "")
    reader, page = Reader(html(judged)), markdown(judged)
    assert reader.headings == ["trials 4, 7: broken", "trial 6: broken"] and reader.within["pre"] == [first, second]
    assert indented_blocks(page) == [first, second]
    for heading in reader.headings:
        assert f"\n\n{heading}\n\n    Traceback:\n" in page


def test_hostile_titles_are_text_and_nothing_else() -> None:
    judged = judge(*four_verdicts())
    for title in HOSTILE:
        reader = Reader(render_html(judged, {}, title=title, configuration={"option": title}))
        assert len(reader.scripts) == len(OUR_SCRIPTS) and " ".join(title.split()) in reader.text, title


def test_long_traceback_keeps_its_last_lines_and_says_so() -> None:
    lines = [f"line {k}" for k in range(TRACEBACK_LINES + 17)]
    judged = with_tracebacks("\n".join(lines), "\n".join(lines[17:]))
    reader = Reader(html(judged))
    assert reader.headings == ["trial 4: broken (the last 40 of 57 lines)", "trial 5: broken"]
    assert reader.within["pre"] == ["\n".join(lines[17:])] * 2 == indented_blocks(markdown(judged))
    assert "trial 4: broken (the last 40 of 57 lines)" in markdown(judged)


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", "\n\n\n", "\x0c", "\u2028"], ids=ascii)
def test_hostile_traceback_stays_inside_its_block(line_break: str) -> None:
    evil = [
        "</pre></details><script>alert(1)</script>",
        "```",
        "~~~~",
        "# heading",
        "- item",
        "{{ 1 + 1 }} {% raw %}",
        "| a | b |",
    ]
    judged = with_tracebacks(line_break.join(evil))
    reader = Reader(html(judged))
    assert len(reader.scripts) == len(OUR_SCRIPTS) and len(reader.within["pre"]) == 1
    for [block] in (reader.within["pre"], indented_blocks(markdown(judged))):
        assert [line for line in block.splitlines() if line] == evil
    assert all(line.startswith("    ") for line in markdown(judged).splitlines() if set(line) & set("`{"))


def test_tables_without_a_traceback_column_have_pages() -> None:
    judged = with_crash("out of memory")
    assert "traceback" not in judged.runs
    assert Reader(html(judged)).headings == [] and indented_blocks(markdown(judged)) == []


def test_configuration_is_flat_with_dotted_names() -> None:
    page = markdown(judge(*four_verdicts()), model={"class_path": "mine.Model", "init_args": {"width": 64}}, data=None)
    for line in ("| model.class_path | mine.Model |", "| model.init_args.width | 64 |", "| data | null |"):
        assert line in page


@pytest.mark.parametrize("target", [None, 0.5])
def test_the_page_says_how_it_was_judged(target: float | None) -> None:
    page = Reader(html(judge(*four_verdicts(), Thresholds(tau=0.2, rho=4, target_loss=target)))).text
    assert "tau = 0.2" in page and "rho = 4" in page
    assert ("the target loss, 0.5" in page) == (target is not None)


def test_a_study_without_finished_runs_has_a_page_that_says_so() -> None:
    runs, curves = four_verdicts()
    judged = judge(runs.assign(state="RUNNING"), curves)
    for page in (Reader(html(judged)).text, markdown(judged)):
        assert "No run has finished yet" in page


def test_markdown_tables_have_as_many_columns_in_every_row() -> None:
    widths: list[set[int]] = [set()]
    for line in markdown(with_crash("a | b")).splitlines():
        if line.startswith("|"):
            widths[-1].add(line.replace("\\|", "").count("|"))
        elif widths[-1]:
            widths.append(set())
    assert len(widths) == 7 and all(len(width) == 1 for width in widths[:-1])
