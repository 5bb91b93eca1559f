"""Optuna Dashboard on studies of hostile texts: the list, and of each study its cards, its note, its trials and its table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hostile_texts.browser import PATIENCE, Faults, faults_of_elements, listening
from hostile_texts.terminal import Said
from hostile_texts.texts import PLAIN, one_line

SCRIPT = Path(__file__).parents[3] / "scripts" / "open_dashboard.py"
CARDS = ("learning-rates", "time-to-bottom", "edges")


def serve(storage: Path, folder: Path, visit: Callable[[str], None]) -> Said:
    """Serve the dashboard from ``folder`` for as long as ``visit`` takes, which is given its address."""
    command = [sys.executable, str(SCRIPT), "--storage", str(storage), "--port", "0", "--browser", "no"]
    with (
        (folder / "dashboard.log").open("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder) as process,
    ):
        assert process.stdout
        said = process.stdout.readline()
        try:
            visit(said.split()[2])
        finally:
            process.terminate()
            said += process.communicate()[0]
        log.seek(0)
        return Said(process.returncode, said + log.read())


def look_at_list(browser: Any, address: str, names: Iterable[str]) -> Faults:
    """Faults of the list of studies."""
    with listening(browser, address) as (page, faults):
        page.goto(f"{address}/dashboard")
        page.wait_for_selector(f"text={PLAIN}")
        faults += faults_of_elements(page)
        content = spaced(page.text_content("body"))
        faults += [("page with a part missing", f"{name!r} in the list") for name in names if spaced(name) not in content]
    return faults


def look_at_study(browser: Any, address: str, study_id: int) -> Faults:
    """Faults of the pages of a study, each opened and waited for."""
    with listening(browser, address) as (page, faults):
        page.route("**/param_importances*", lambda asked: asked.fulfill(json={"param_importances": [[]]}))  # slow
        page.goto(f"{address}/dashboard/studies/{study_id}")
        for card in CARDS:
            page.wait_for_selector(f"[id='user-defined-plot:{card}'] .main-svg", timeout=PATIENCE)
        faults += faults_of_elements(page)
        for clicks, awaited in (
            (["[title='Note'] a"], "How far to trust this"),
            (["[title='Trials (List)'] a", "text=Trial 1"], "trial_id="),
            (["text=Trial 4"], "trial_id="),
            (["[title='Smart Selection'] a"], "UserAttribute verdict"),
        ):
            for click in clicks:
                page.click(click)
            page.wait_for_selector(f"text={awaited}", timeout=PATIENCE)
            faults += faults_of_elements(page)
    return faults


def spaced(text: str) -> str:
    """A text without what the list of studies leaves out of it."""
    return one_line(text).replace("\0", "")
