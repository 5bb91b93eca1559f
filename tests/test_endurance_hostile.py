"""The short form of ``scripts/endurance/hostile.py``: one text of most that is nasty, and what the script would tell of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts" / "endurance"
NASTY = (
    '</script><img src=x onerror=alert(1)>|`$\\evil$ {{ 7 * 7 }};=1+1\n# "x" \x1b[2J\u202e 🙂 [a](javascript:alert(1)) '
    + "y" * 300
)


def test_nasty_text_goes_through_every_command_and_page_as_a_text() -> None:
    pytest.importorskip("playwright.sync_api")
    command = [sys.executable, str(SCRIPTS / "hostile.py"), "--text", NASTY]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if "no Chromium is installed" in ended.stderr:
        pytest.skip(ended.stderr)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "\n0 faults with 1 texts" in ended.stdout


@pytest.fixture
def hunt(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A hunt that has seen a plain page."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import hostile

    found = hostile.Hunt(tmp_path, browser)
    (tmp_path / "page.html").write_text("<p>plain</p>")
    found.open(tmp_path / "page.html", "page", title="")
    assert not found.faults
    yield found


@pytest.mark.parametrize(
    ("page", "kinds"),
    [
        ("<p>alert(1)</p>", set()),
        ("<p>x</p><script>alert(1)</script>", {"dialog", "page with a foreign element"}),
        ("<p>x</p><script>nothing()</script>", {"page error", "page with a foreign element"}),
        ("<p>x</p><script>console.error(1)</script>", {"console error", "page with a foreign element"}),
        ("<p onclick=x>x</p>", {"page with a foreign element", "page with a part missing"}),
        ("<p>x</p><a href='JavaScript:alert(1)'>x</a>", {"page with a foreign element"}),
        (
            "<p style='width: 500px'>x</p>",
            {"page with a foreign element", "page with a part missing", "page wider than a phone"},
        ),
        ("<b>x</b>", {"page with a foreign element", "page with a part missing"}),
    ],
)
def test_page_that_is_broken_is_counted(hunt: Any, tmp_path: Path, page: str, kinds: set[str]) -> None:
    (tmp_path / "page.html").write_text(f"<meta name=viewport content=width=device-width>{page}")
    hunt.usual["page"] |= {"META content name"}
    hunt.open(tmp_path / "page.html", "page", title="")
    assert set(hunt.faults) == kinds


def test_formulas_markdown_and_terminals_that_are_broken_are_counted(hunt: Any) -> None:
    hunt.read_cells("a,'=1,-1.5,\"x;'=1\"\n")
    hunt.read_markdown("# plain\n\n## x\n", "page", title="")
    hunt.read_markdown("# <b\n\n## x\n", "page", title="")
    assert not hunt.faults
    for cells in ("a,=1\n", 'a,"x;=1"\n', 'a,"x\n+1a"\n', "@x\n"):
        hunt.read_cells(cells)
    assert hunt.faults.pop("cell that starts a formula") == 4
    for page in ("# <b>\n\n## x\n", "# [a](b)\n\n## x\n", "# a\n\n> b\n\n## x\n", "# a\n\n```\n\n## x\n"):
        hunt.read_markdown(page, "page", title="")
    assert hunt.faults.pop("Markdown with a foreign element") == 4
    hunt.faults.clear()
    hunt.read_markdown("# a\n\n## y\n", "page", title="")
    assert hunt.faults.pop("Markdown of another shape") == 1
    for code, text, kind in [
        (0, "\x1b[2J", "control characters in the terminal"),
        (1, "x\n", "command that ends otherwise"),
        (2, "a\nb\n", "refusal that is not one line"),
    ]:
        hunt.judge_said("x", type("Said", (), {"code": code, "text": text}), (0, 2))
        assert hunt.faults.pop(kind) == 1
    assert not hunt.faults
