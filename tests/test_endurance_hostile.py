"""The short form of ``tests/endurance/hostile.py``: one text of most that is nasty, and what the script would tell of."""

from __future__ import annotations

import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from conftest import HOSTILE
from hostile_texts import browser as pages
from hostile_texts import dashboard, files, markdown, study, terminal
from hostile_texts.terminal import Said
from hostile_texts.texts import ON_DISK, PLAIN, called, heading
from optuna_dashboard import get_note

from reports.pages.spreadsheet import to_csv
from studies.commands.command_line import BAD_INPUT

SCRIPTS = Path(__file__).parent / "endurance"
NASTY = (
    '</script><img src=x onerror=alert(1)>|`$\\evil$ {{ 7 * 7 }};=1+1\n# "x" \x1b[2J\u202e 🙂 [a](javascript:alert(1)) '
    + "y" * 300
)
FOREIGN, MISSING = "page with a foreign element", "page with a part missing"


def kinds(faults: Iterable[tuple[str, object]]) -> list[str]:
    return [kind for kind, _ in faults]


def test_nasty_text_goes_through_every_command_and_page_as_a_text() -> None:
    pytest.importorskip("playwright.sync_api")
    command = [sys.executable, str(SCRIPTS / "hostile.py"), "--text", NASTY]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if "no Chromium is installed" in ended.stderr:
        pytest.skip(ended.stderr)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "\n0 faults with 1 texts" in ended.stdout
    for read in ("files .html", "files .md", "files .csv", "files .svg", "files .zip", "studies in the dashboard"):
        assert f"| {read} | " in ended.stdout


def test_script_says_that_there_is_no_chromium(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import hostile

    monkeypatch.setenv("PATH", str(tmp_path))
    assert hostile.main([]) == BAD_INPUT
    assert capsys.readouterr().err == "hostile: no Chromium is installed: on Debian, apt-get install chromium\n"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<p>alert(1)</p>", set()),
        ("<p>x</p><script>alert(1)</script>", {"dialog", FOREIGN}),
        ("<p>x</p><script>nothing()</script>", {"page error", FOREIGN}),
        ("<p>x</p><script>console.error(1)</script>", {"console error", FOREIGN}),
        ("<p>x</p><script>open('about:blank')</script>", {"window opened", FOREIGN}),
        ("<p>x</p><img src='missing.png'>", {"console error", "request to elsewhere", "picture that is broken", FOREIGN}),
        ("<p onclick=x>x</p>", {FOREIGN, MISSING}),
        ("<p>x</p><a href='JavaScript:alert(1)'>x</a>", {FOREIGN}),
        ("<p style='width: 500px'>x</p>", {FOREIGN, MISSING, "page wider than a phone"}),
        ("<b>x</b>", {FOREIGN, MISSING}),
    ],
)
def test_page_that_is_broken_is_told(browser: Any, tmp_path: Path, page: str, expected: set[str]) -> None:
    path = tmp_path / "page.html"
    path.write_text(f"<meta name=viewport content=width=device-width>{page}")
    seen, faults = pages.open_page(browser, path, title="")
    assert {*kinds(faults), *kinds(pages.compare(seen, {"META content name", "P"}, PLAIN))} == expected


def test_page_about_a_text_that_cannot_be_pasted_shows_no_command() -> None:
    assert kinds(pages.compare({"P"}, {"P", "CODE"}, PLAIN)) == [MISSING]
    assert not kinds(pages.compare({"P"}, {"P", "CODE"}, "\x1b[2J"))


def test_report_without_charts_is_told(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PATIENCE", 500)
    (tmp_path / "report.html").write_text("<h1>x</h1>")
    assert kinds(pages.open_page(browser, tmp_path / "report.html", title="x")[1]) == [MISSING]


def test_report_that_lacks_a_run_or_says_another_name_is_told(browser: Any, tmp_path: Path) -> None:
    svg = "<svg class=main-svg><circle class=point r=9 cx=20 cy=20 /></svg>"
    row = "<tr><td><button>run</button></td></tr>"
    page = f"<html class=charts><h1>{{}}</h1><div data-chart=map>{svg}</div><table id=runs><tbody>{{}}"
    detail = f"<tr class=detail><td>{svg}</td></tr>"
    path = tmp_path / "report.html"
    for title, n_rows, expected in [
        (heading("a"), study.N_RUNS, []),
        (heading("a"), study.N_RUNS - 1, [MISSING]),
        (heading("b"), study.N_RUNS, ["page that says something else"]),
    ]:
        path.write_text(page.format(title, row * n_rows + detail))
        assert kinds(pages.open_page(browser, path, title="\0a")[1]) == expected


def test_refusal_that_writes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hostile

    hunt = hostile.Hunt(tmp_path, None)
    monkeypatch.setattr(terminal, "call", lambda *_: Said(BAD_INPUT, "no\n"))
    hunt.knock()
    assert not hunt.faults and hunt.counts["refused at the door"] == 2
    monkeypatch.setattr(terminal, "call", lambda *argv: (tmp_path / argv[-1][:7]).mkdir() or Said(BAD_INPUT, "no\n"))
    hunt.knock()
    assert hunt.faults == {"refusal that writes": 2}


def test_dashboard_that_is_broken_is_told(browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<link rel=icon href=data:><p>{PLAIN} &lt;b&gt;</p><iframe></iframe>".encode())

        def log_message(self, *_: Any) -> None: ...

    monkeypatch.setattr(dashboard, "PATIENCE", 500)
    with HTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert kinds(dashboard.look_at_list(browser, address, [PLAIN, "<b>", "</b>"])) == [FOREIGN, MISSING]
        assert kinds(dashboard.look_at_study(browser, address, 1)) == [MISSING]
        server.shutdown()


@pytest.mark.parametrize(
    ("cells", "n_faults"),
    [("a,'=1,-1.5,\"x;'=1\"\n", 0), ("a,=1\n", 1), ('a,"x;=1"\n', 1), ('a,"x\n+1a"\n', 1), ("@x,＝1\n", 2)],
)
def test_cells_that_start_a_formula_are_told(tmp_path: Path, cells: str, n_faults: int) -> None:
    (tmp_path / "runs.csv").write_bytes(cells.encode())
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        archive.write(tmp_path / "runs.csv", "runs.csv")
    for path in tmp_path.iterdir():
        assert kinds(files.FAULTS[path.suffix](path)) == ["cell that starts a formula"] * n_faults


def test_pictures_and_archives_that_are_broken_are_told(tmp_path: Path) -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg">{}</svg>'
    for inside, expected in [("<g/>", []), ("<a/>", ["picture with a foreign element"]), ("<g>", ["picture that is broken"])]:
        (tmp_path / "map.svg").write_text(svg.format(inside))
        assert kinds(files.FAULTS[".svg"](tmp_path / "map.svg")) == expected
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        archive.writestr("../runs.csv", "a\n")
    assert kinds(files.FAULTS[".zip"](tmp_path / "study.zip")) == ["archive that writes elsewhere"]


def test_table_that_is_read_back_otherwise_is_told(tmp_path: Path) -> None:
    table = pd.DataFrame({"error": ["=1", None, "a\nb"], "loss": [0.1, float("nan"), 2.0]})
    (tmp_path / "runs.csv").write_bytes(to_csv(table))
    assert not kinds(files.faults_in_tables(tmp_path, {"runs": table}))
    for other in (table.assign(loss=1.0), table[["loss"]], table.assign(reason="")):
        assert kinds(files.faults_in_tables(tmp_path, {"runs": other})) == ["table that is not read back the same"]


def test_writes_outside_the_folder_are_told(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    acts = (
        "import os, shutil, sys; from pathlib import Path; from hostile_texts.files import watch_writes\n"
        "inside, outside = map(Path, sys.argv[1:]); watch_writes(inside, print)\n"
        "for place in (inside / 'a', outside):\n"
        "    place.mkdir(); (place / 'b').write_text('x'); (place / 'b').read_text()\n"
        "    (place / 'b').rename(place / 'c'); (place / 'c').unlink(); place.rmdir()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", acts, str(inside), str(outside)], capture_output=True, text=True, check=True, cwd=SCRIPTS
    )
    told = [line.replace(str(outside), "outside") for line in ended.stdout.splitlines()]
    assert told == [
        "os.mkdir outside",
        "open outside/b",
        "os.rename outside/b",
        "os.rename outside/c",
        "os.remove outside/c",
        "os.rmdir outside",
    ]


def test_markdown_that_is_broken_is_told() -> None:
    foreign, other = "Markdown with a foreign element", "Markdown of another shape"
    usual = markdown.read_markdown("# plain\n\n## x\n\n    command\n")
    for page, text, expected in [
        ("# <b\n\n## x\n\n    a\n", PLAIN, []),
        ("# x\n\nx in full: x x\n\n## x\n\n    a\n", PLAIN, []),
        ("# x\n\nx\n\n## x\n\n    a\n", PLAIN, [foreign]),
        ("# <b>\n\n## x\n\n    a\n", PLAIN, [foreign]),
        ("# [a](b)\n\n## x\n\n    a\n", PLAIN, [foreign]),
        ("# a\n\n> b\n\n## x\n\n    a\n", PLAIN, [foreign]),
        ("# a\n\n## y\n\n    a\n", PLAIN, [other]),
        ("# a\n\n```\n\n## x\n", PLAIN, [foreign, other]),
        ("# a\n\n## x\n", PLAIN, [other]),
        ("# a\n\n## x\n", "\x1b[2J", []),  # nothing to paste
    ]:
        assert kinds(markdown.faults_of(markdown.read_markdown(page), usual, text)) == expected, page


def test_markdown_that_says_something_else_is_told() -> None:
    page = "# {}\n\n|text|\n|-|\n|{}|\n"
    for title, cell, expected in [
        (heading("\0a"), "\\<b>\\\\0", []),
        ("a", "\\<b>\\\\0", ["page that says something else"]),
        (heading("\0a"), "b", ["Markdown that says something else"]),
    ]:
        shape = markdown.read_markdown(page.format(title, cell))
        assert kinds(markdown.faults_of_words(shape, "<b>\0\n", title="\0a")) == expected


def test_commands_that_end_otherwise_or_write_more_than_text_are_told() -> None:
    for code, text, expected in [
        (0, "a\nb\n", []),
        (0, "\x1b[2J", ["control characters in the terminal"]),
        (1, "x\n", ["command that ends otherwise"]),
        (0, "Traceback\n", ["command that ends otherwise"]),
        (BAD_INPUT, "a\nb\n", ["refusal that is not one line"]),
    ]:
        assert kinds(terminal.faults_of(Said(code, text), (0, BAD_INPUT))) == expected


def test_all_that_reaches_the_terminal_is_heard() -> None:
    command = (
        "import os, sys; from hostile_texts.terminal import said_by\n"
        "def act():\n    print('a'); print('b', file=sys.stderr); os.write(2, b'\\xff'); os.system('echo c')\n    {}\n"
        "said = said_by(act); print(said.code, *sorted(ascii(said.text)[1:-1]), sep='')"
    )
    for end, code, text in [
        ("return 3", 3, "a\\nb\\n\\udcffc\\n"),
        ("sys.exit(4)", 4, "a\\nb\\n\\udcffc\\n"),
        ("raise ValueError", -1, "a\\nb\\n\\udcffc\\nTraceback ValueError()\\n"),
    ]:
        ended = subprocess.run([sys.executable, "-c", command.format(end)], capture_output=True, text=True, cwd=SCRIPTS)
        assert ended.stdout == f"{code}{''.join(sorted(text))}\n", ended  # what is held back comes later
        assert ended.stderr == ""


def test_classes_are_found_by_hostile_import_paths() -> None:
    for text in [*HOSTILE, *ON_DISK, "a.b..c"]:
        for (path, made), kind in zip(study.named(text), (study.Net, study.Data, study.Callback), strict=True):
            parent, _, last = path.rpartition(".")
            assert getattr(sys.modules[parent], last) is made and issubclass(made, kind)
            assert made.__name__ == called(text)


def test_study_that_is_not_trained_is_told_and_is_called_by_any_text(tmp_path: Path) -> None:
    storage = tmp_path / "studies.db"
    created = optuna.create_study(storage=f"sqlite:///{storage}", study_name="s0")
    created.add_trials([optuna.trial.create_trial(value=0.0) for _ in range(study.N_RUNS)])
    assert kinds(study.faults_of(storage, "s0")) == ["study that is not trained"]
    text = "'; DROP TABLE studies; --"
    assert study.rename(storage, "s0", to=text) == 1
    found = optuna.load_study(storage=f"sqlite:///{storage}", study_name=text)
    assert found.user_attrs[text] == text
    assert get_note(found) == text and text in get_note(optuna.Trial(found, found.trials[1]._trial_id))
