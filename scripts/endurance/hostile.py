"""Hostile texts everywhere a user's text is shown: HTML, Markdown, formulas, escape sequences, right-to-left, 600 characters.

Each text becomes the name of a module, of a model, data, callback and exception class, of a metric, an option and its value,
the text of that exception, the notes of a study and of a run, and the study's name, given as other tools can where the door
refuses it. Every study is trained, reported, compared, listed, shown, exported and served by the real commands; every page is
opened in Chromium; Markdown, tables and pictures are read by real parsers; all is compared with a study of plain texts.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import io
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import types
import warnings
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import optuna
import pandas as pd
import pytorch_lightning as pl
import torch
import yaml
from hostile_texts import HOSTILE
from markdown_it import MarkdownIt
from optuna_dashboard import save_note

import reports.folder
from lightning_modules import Parabola, ParabolaData
from reports import Thresholds
from reports.spreadsheet import read_csv
from studies import StudyConfig, run_study
from studies.command_line import BAD_INPUT, run
from studies.config import folder_name
from studies.dashboard.shown import mirror
from studies.progress import Progress, print_answer
from studies.storage import load_study
from studies.tables import judge_study

SCRIPTS = Path(__file__).parents[1]
CHROMIUM = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"  # asks nobody
PLAIN = "plain"
ON_DISK = ["\0 nul", "\ud800 half a character", "\x9b31m"]  # what no name of a class or study can hold
STUDY: dict[str, Any] = {
    "learning_rate": [0.1, 3.0],
    "points": 4,
    "batch_size": [4],
    "seeds": 3,
    "epochs": 2,
    "workers": 1,
    "fuse": "never",
}
N_RUNS = 12
STARTS = tuple("=+-@\t\r\n＝＋－＠")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|-inf", re.IGNORECASE)
# A spreadsheet whose separator is another reads a cell's lines and parts as cells of their own.
PART = re.compile(r"[;\t\r\n]")
SVG = "{http://www.w3.org/2000/svg}"
NOT_OURS = "iframe, object, embed, base, link, video, audio, math, marquee, a[href^='javascript' i], svg script, svg image"
SEEN = """() => [...new Set([...document.querySelectorAll('body *, head *')]
  .filter(each => !each.closest('.chart > *, #js-plotly-tester, .plotly-notifier, style[id]'))
  .map(each => [each.tagName, ...[...each.attributes].map(a => a.name).filter(n => n !== 'class').sort()].join(' ')))]"""
HANDLERS = (
    "() => [...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => a.name.startsWith('on')).length"
)
PATIENCE = 90_000  # ms, for what is there in one or two on a machine that has nothing else to do
CARDS = ("learning-rates", "time-to-bottom", "edges")


class Said(NamedTuple):
    """How a command ended, and everything that reached the terminal."""

    code: int
    text: str


class Net(Parabola):
    """A hill with options, that logs a metric of its name in training and validation and at times raises an exception of it."""

    def __init__(self, learning_rate: float = 0.1, notes: Any = None) -> None:
        super().__init__(learning_rate=learning_rate)
        self.notes = notes

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """The loss; the first learning rate fails with the second seed."""
        text = type(self).__name__
        if torch.initial_seed() == 1 and self.trainer.optimizers[0].param_groups[0]["lr"] < 0.2:
            raise type(text, (RuntimeError,), {})(self.notes["text"])
        loss = super().training_step(batch, batch_idx)
        self.log(f"seen {text}", loss.detach())
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss under a hostile name."""
        self.log(type(self).__name__, super().training_step(batch, batch_idx), batch_size=len(batch[0]))


class Data(ParabolaData):
    """A few offsets, to validate on too."""

    def __init__(self, notes: Any = None, batch_size: int = 4, seed: int = 0) -> None:
        super().__init__(n_examples=16, noise=1.0, batch_size=batch_size, seed=seed)

    def val_dataloader(self) -> Any:
        """The same."""
        return self.train_dataloader()


class Callback(pl.Callback):
    """Does nothing."""


def classes(text: str) -> dict[type, str]:
    """The import paths of our classes by another name, in a module of that name."""
    name = text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
    paths = {kind: f"users_{name}.{kind.__name__}_{name}" for kind in (Net, Data, Callback)}
    for kind, path in paths.items():
        parent, _, last = path.rpartition(".")
        for end in (*(match.start() for match in re.finditer(r"\.", parent)), len(parent)):
            sys.modules.setdefault(parent[:end], types.ModuleType(parent[:end]))
        setattr(sys.modules[parent], last, type(name, (kind,), {"__module__": parent}))
    return paths


def loaded(path: str) -> Any:
    """The class of an import path."""
    parent, _, last = path.rpartition(".")
    return getattr(sys.modules[parent], last)


def trained(config: StudyConfig, out: Path) -> int:
    """Train a study as a launch does, up to its report, which the command ``report`` writes again anyway."""
    with Progress(Thresholds()) as progress:
        study = run_study(config, out=out, on_run=progress)
    judged = judge_study(study)
    mirror(study, judged)
    print_answer(study.study_name, judged)
    return 0


def call(command: str, *argv: str) -> Said:
    """A command in this process, with all that it writes to the terminal."""
    return said_by(lambda: run(lambda: int(import_module(f"studies.commands.{command}").main(argv)), command))


def said_by(act: Callable[[], int]) -> Said:
    """What ``act`` returns and what reaches the terminal meanwhile, from loggers and libraries too."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        kept = os.dup(1), os.dup(2)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            code = act()
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException as error:  # which a process would show with its traceback
            code, _ = -1, print(f"Traceback {error!r}")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, place in enumerate(kept, 1):
                os.dup2(place, number)
                os.close(place)
        file.seek(0)
        return Said(code, file.read().decode(errors="surrogateescape"))


class Hunt:
    """Tries texts in a folder of its own and counts what is not as promised."""

    def __init__(self, folder: Path, browser: Any) -> None:
        self.folder, self.browser = folder, browser
        self.storage, self.out = folder / "studies.db", folder / "out"
        self.faults: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.names: dict[int, str] = {}
        self.usual: dict[str, Any] = {}  # what the pages of the plain study hold
        self.text = PLAIN

    def fault(self, kind: str, told: object = "") -> None:
        """Count one and tell it."""
        self.faults[kind] += 1
        print(f"{ascii(self.text[:40])}: {kind}: {ascii(str(told)[:600])}", file=sys.stderr, flush=True)

    def command(self, name: str, *argv: str, codes: Sequence[int] = (0,)) -> Said:
        """Call a command; what it says is plain text, and one line where it refuses."""
        self.counts["commands"] += 1
        said = call(name, *argv)
        return self.judge_said(f"{name} {argv[:1]}", said, codes)

    def judge_said(self, what: str, said: Said, codes: Sequence[int]) -> Said:
        """Whether a command ended as it may and wrote nothing but text."""
        if said.code not in codes or "Traceback" in said.text:
            self.fault("command that ends otherwise", f"{what}: code {said.code}, {said.text[-800:]!r}")
        if not all(letter.isprintable() or letter == "\n" for letter in said.text):
            self.fault("control characters in the terminal", f"{what}: {said.text!r}")
        if said.code == BAD_INPUT and said.text.count("\n") != 1:
            self.fault("refusal that is not one line", f"{what}: {said.text!r}")
        return said

    # --- training ---------------------------------------------------------------------------------------------------

    def door(self) -> None:
        """Launch by the text as a name and as a class: refused in one line with nothing written, or trained."""
        short = "--model Parabola --data ParabolaData --epochs 1 --points 2 --seeds 1 --batch-size 16".split()
        place = ["--storage", str(self.folder / "door.db"), "--out", str(self.folder / "door")]
        for options in ([f"--name={self.text}"], [f"--model={self.text}"]):
            before = listed(self.folder)
            said = self.command("launch", *short, *place, *options, codes=(0, BAD_INPUT))
            self.counts["refused at the door" if said.code else "taken at the door"] += 1
            if said.code == BAD_INPUT and listed(self.folder) != before:
                self.fault("refusal that writes", listed(self.folder) - before)

    def train(self) -> str:
        """The name of a study with the text in every place, written by a launch where that takes it, else from Python."""
        name, paths = f"s{len(self.names)}", classes(self.text)
        net, data, callback = map(loaded, paths.values())
        notes = {"text": self.text, "nested": {self.text: [self.text]}}
        options = STUDY | {"name": name, "monitor": net.__name__, "storage": str(self.storage)}
        specs = {
            "model": {"class_path": paths[Net], "init_args": {"notes": notes}},
            "data": {"class_path": paths[Data], "init_args": {"notes": notes}},
            "trainer": {"callbacks": [{"class_path": paths[Callback]}]},
        }
        file = self.folder / "study.yaml"
        file.write_text(yaml.safe_dump(options | specs))
        said = self.command("launch", "--config", str(file), "--out", str(self.out), codes=(1, BAD_INPUT))
        file.unlink()
        if said.code == BAD_INPUT:
            self.counts["classes refused, given from Python"] += 1
            given = {"model": functools.partial(net, notes=notes), "data": functools.partial(data, notes=notes)}
            config = StudyConfig(**options, **given, trainer={"callbacks": [callback()]})
            self.judge_said(
                "launch from Python", said_by(lambda: run(lambda: trained(config, self.out / name), "launch")), (0,)
            )
        study = load_study(str(self.storage), name)
        states = Counter(trial.state.name for trial in study.trials)
        if states != {"COMPLETE": N_RUNS - 1, "FAIL": 1}:
            self.fault("study that is not trained", states)
        return name

    def rename(self, name: str) -> None:
        """Call the study by the text, as other tools can, and write it into its notes and those of a run."""
        number = len(self.names)
        new = self.text.encode(errors="backslashreplace").decode()
        with contextlib.closing(sqlite3.connect(self.storage)) as connection, connection:
            connection.execute("UPDATE studies SET study_name = ? WHERE study_name = ?", (new, name))
            found = connection.execute("SELECT study_id FROM studies WHERE study_name = ?", (new,)).fetchone()
        self.names[number] = new
        study = optuna.load_study(study_name=new, storage=f"sqlite:///{self.storage}")
        save_note(study, new)
        save_note(optuna.Trial(study, study.trials[1]._trial_id), f"{new}\n\n- {new}\n")
        study.set_user_attr(new, new)
        self.usual.setdefault("ids", {})[new] = found[0]

    # --- what is written --------------------------------------------------------------------------------------------

    def commands(self, name: str) -> None:
        """Every command that reads the study, by its name, and what it writes."""
        place = ["--storage", str(self.storage)]
        self.command("report", f"--name={name}", *place, "--out", str(self.out))
        folder = self.out / folder_name(name)
        self.read_folder(folder, "report", title=name)
        judged = judge_study(load_study(str(self.storage), name))
        self.read_tables(folder, {k: v for k, v in judged._asdict().items() if isinstance(v, pd.DataFrame)})
        self.notebook(judged, folder)
        # What begins with a dash may be an option to a command, and what holds :// a storage.
        codes = (0, BAD_INPUT) if name.startswith("-") or "://" in name else (0,)
        self.command("admin", "show", name, *place, codes=codes)
        archive = self.folder / "study.zip"
        if self.command("admin", "export", name, "--out", str(archive), *place, codes=codes).code == 0:
            self.read_archive(archive)
            archive.unlink()
        if name != PLAIN:
            pair = [PLAIN, name] if len(self.names) % 2 else [name, PLAIN]
            said = self.command("compare", str(self.storage), *pair, "--out", str(self.out), codes=codes)
            if said.code == 0:
                self.read_folder(Path(said.text.rpartition("comparison: ")[2].strip()).parent, "comparison", title=name)

    def read_folder(self, folder: Path, page: str, *, title: str) -> None:
        """The page in Chromium, its Markdown, tables and pictures."""
        self.open(folder / f"{page}.html", page, title=title)
        self.read_markdown((folder / f"{page}.md").read_text(encoding="utf-8"), page, title=title)
        for path in folder.rglob("*.csv"):
            if path.is_relative_to(folder / "runs"):
                continue  # of the user's own logger
            self.read_cells(path.read_bytes().decode())
        for path in folder.rglob("*.svg"):
            self.counts["pictures"] += 1
            try:
                tags = {each.tag.removeprefix(SVG) for each in ElementTree.fromstring(path.read_bytes()).iter()}
            except ElementTree.ParseError as error:
                self.fault("picture that is broken", f"{path.name}: {error}")
                continue
            if tags & {"script", "a", "foreignObject", "iframe"}:
                self.fault("picture with a foreign element", f"{path.name}: {tags}")

    def read_tables(self, folder: Path, tables: dict[str, pd.DataFrame]) -> None:
        """Whether each table comes back as it was."""
        for name, table in tables.items():
            self.counts["tables read back"] += 1
            try:
                read = read_csv(folder / f"{name}.csv")
                expected = table[[*read.columns]].reset_index(drop=True).replace("", None)
                pd.testing.assert_frame_equal(read.replace({float("nan"): None}), expected, check_dtype=False, check_exact=True)
            except (AssertionError, KeyError) as error:
                self.fault("table that is not read back the same", f"{name}: {error}")

    def read_cells(self, text: str) -> None:
        """Whether no cell, nor what another separator makes of it, starts a formula."""
        for row in csv.reader(io.StringIO(text, newline="")):
            self.counts["cells"] += len(row)
            for cell in row:
                for part in PART.split(cell):
                    if part.startswith(STARTS) and not NUMBER.fullmatch(part):
                        self.fault("cell that starts a formula", cell)

    def no_command(self, element: str) -> set[str]:
        """The element of a command to run next, where there is none: its text is not to be pasted."""
        return set() if self.text.isprintable() else {element}

    def read_archive(self, path: Path) -> None:
        """The tables of an exported study, and where its members go."""
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(Path(name).is_absolute() or ".." in name or "/" in name for name in names):
                self.fault("archive that writes elsewhere", names)
            for name in names:
                if name.endswith(".csv"):
                    self.read_cells(archive.read(name).decode())

    def read_markdown(self, text: str, page: str, *, title: str) -> None:
        """Whether a renderer that lets HTML through finds the headings, tables and pictures of the plain page, and no more."""
        self.counts["Markdown pages"] += 1
        tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
        inline = [child for token in tokens for child in token.children or []]
        found = Counter(token.type for token in [*tokens, *inline])
        found["html"] = found["html_block"] + found["html_inline"]
        targets = {str(child.attrs.get("src") or child.attrs.get("href")) for child in inline if child.attrs}
        first, *headings = [tokens[k + 1] for k, token in enumerate(tokens) if token.type == "heading_open"]
        told = [token.content for token in headings]
        usual = self.usual.setdefault(f"{page}.md", (told, found, targets))
        more = {kind for kind in found if found[kind] > usual[1][kind]} - {"text", "softbreak"}
        if more or targets - usual[2]:
            self.fault("Markdown with a foreign element", f"{page}.md: {more}, {targets - usual[2]}")
        kinds = {"table_open", "th_open", "heading_open", "list_item_open", "image", "code_block"} - self.no_command(
            "code_block"
        )
        if told != usual[0] or any(found[kind] < usual[1][kind] for kind in kinds):
            self.fault("Markdown of another shape", f"{page}.md: {told}, {found}, plain {usual}")
        if page == "report":
            self.check_heading(page, "".join(child.content for child in first.children or []), title)
            cells = [tokens[k + 1].children or [] for k, token in enumerate(tokens) if token.type == "td_open"]
            wanted = one_line(self.text).encode(errors="backslashreplace").decode().replace("\0", "\ufffd")
            if wanted not in {"".join(child.content for child in cell) for cell in cells}:
                self.fault("Markdown that says something else", f"no cell {wanted!r}")

    def check_heading(self, page: str, heading: str, title: str) -> None:
        """Whether a page's heading says what that of the plain study does, with the title for its name."""
        usual = self.usual.setdefault("heading", heading)
        if heading != usual.replace(PLAIN, one_line(title)).replace("\0", "\ufffd"):
            self.fault("page that says something else", f"{page}: {heading!r}")

    # --- in Chromium ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def listening(self, allowed: str) -> Iterator[Any]:
        """A page whose dialogs, messages, errors and requests to elsewhere are faults."""
        context = self.browser.new_context(viewport={"width": 1200, "height": 900})
        page = context.new_page()

        def dismiss(dialog: Any) -> None:
            self.fault("dialog", dialog.message)
            dialog.dismiss()

        page.on("dialog", dismiss)
        page.on("console", lambda message: message.type == "error" and self.hear(message.text))
        page.on("pageerror", lambda error: self.fault("page error", error))
        local = ("data:", "blob:", allowed)
        page.on("requestfinished", lambda asked: asked.url.startswith(local) or self.fault("request to elsewhere", asked.url))
        blocked = "csp"  # by the page's own rules: it was not sent
        page.on(
            "requestfailed",
            lambda asked: (
                asked.url.startswith(local) or asked.failure == blocked or self.fault("request to elsewhere", asked.url)
            ),
        )
        context.on("page", lambda other: other is page or self.fault("window opened", other.url))
        try:
            yield page
        finally:
            context.close()

    def hear(self, message: str) -> None:
        """An error on the console: a picture in somebody's note, which the dashboard keeps from asking elsewhere, is none."""
        if re.match("Loading the image 'https?://.*violates the following Content Security Policy", message):
            self.counts["pictures in notes blocked"] += 1
        else:
            self.fault("console error", message)

    def open(self, path: Path, kind: str, *, title: str) -> None:
        """A page from disk: nothing of it runs, all of it is there."""
        self.counts["pages opened"] += 1
        with self.listening(path.as_uri()) as page:
            page.goto(path.as_uri())
            try:
                if kind == "report":
                    page.wait_for_selector("html.charts", timeout=PATIENCE)
                    page.locator("[data-chart=map]").scroll_into_view_if_needed()
                    page.locator("[data-chart=map] .main-svg").first.wait_for(timeout=PATIENCE)
                    for button in page.locator("#runs tbody button").all()[3:5]:
                        button.click()
                    page.locator(".detail .main-svg").first.wait_for(timeout=PATIENCE)
                    page.locator("[data-chart=map] .point").last.hover(force=True)
                    page.evaluate("document.querySelectorAll('summary').forEach(each => each.click())")
                    if page.locator("#runs tbody tr:not(.detail)").count() != N_RUNS:
                        self.fault("page with a part missing", "rows of the table of runs")
                    self.check_heading(path.name, page.text_content("h1"), title)
            except Exception as error:  # whatever playwright waited for in vain
                self.fault("page with a part missing", error)
            seen, usual = set(page.evaluate(SEEN)), self.usual.setdefault(kind, set(page.evaluate(SEEN)))
            if seen - usual:
                self.fault("page with a foreign element", seen - usual)
            if usual - seen - self.no_command("CODE"):
                self.fault("page with a part missing", usual - seen)
            broken = page.evaluate("[...document.images].filter(i => !i.naturalWidth || i.naturalHeight > 6000).length")
            if broken:
                self.fault("picture that is broken", f"{broken} of {path}")
            self.check_elements(page)
            page.set_viewport_size({"width": 390, "height": 844})
            with contextlib.suppress(Exception):  # it takes a moment
                page.wait_for_function("() => document.documentElement.scrollWidth <= 390", timeout=5_000)
            width = page.evaluate("document.documentElement.scrollWidth")
            if width > 390:
                self.fault("page wider than a phone", f"{kind}: {width}")

    def check_elements(self, page: Any) -> None:
        """Nothing that a text brought is an element or an event handler."""
        if found := page.locator(NOT_OURS).count() + page.evaluate(HANDLERS):
            self.fault("page with a foreign element", f"{found} on {page.url}")

    def notebook(self, judged: Any, folder: Path) -> None:
        """The result as a notebook shows it."""
        path = folder / "notebook.html"
        path.write_text(f"<!DOCTYPE html><meta charset=utf-8><title>x</title>{judged._repr_html_()}", encoding="utf-8")
        self.open(path, "notebook", title="")
        path.unlink()

    def dashboard(self) -> None:
        """The dashboard on all studies: the list, and of each study its page, its note and its trials."""
        command = [sys.executable, str(SCRIPTS / "open_dashboard.py"), "--storage", str(self.storage)]
        log = (self.folder / "dashboard.log").open("w+")
        with subprocess.Popen(
            [*command, "--port", "0", "--browser", "no"], stdout=subprocess.PIPE, stderr=log, text=True, cwd=self.folder
        ) as process:
            assert process.stdout
            said = process.stdout.readline()
            address = said.split()[2]
            try:
                self.browse(address)
            finally:
                process.terminate()
        log.seek(0)
        self.judge_said("dashboard", Said(process.returncode, said + log.read()), (0,))
        log.close()

    def browse(self, address: str) -> None:
        """Look at every page of the dashboard."""
        self.text = "list of studies"
        with self.listening(address) as page:
            page.goto(f"{address}/dashboard")
            page.wait_for_selector(f"text={PLAIN}")
            self.check_elements(page)
            content = one_line(page.text_content("body"))
            for name in self.names.values():
                if one_line(name).replace("\0", "") not in content.replace("\0", ""):
                    self.fault("page with a part missing", f"{name!r} in the list of studies")
        for name, study_id in self.usual["ids"].items():
            self.text, place = name, f"{address}/dashboard/studies/{study_id}"
            with self.listening(address) as page:
                page.route("**/param_importances*", lambda asked: asked.fulfill(json={"param_importances": [[]]}))  # slow
                try:
                    page.goto(place)
                    for card in CARDS:
                        page.wait_for_selector(f"[id='user-defined-plot:{card}'] .main-svg", timeout=PATIENCE)
                    self.look(page)
                    page.click("[title='Note'] a")
                    page.wait_for_selector("text=How far to trust this", timeout=PATIENCE)
                    self.look(page)
                    page.click("[title='Trials (List)'] a")
                    for number in (1, 4):
                        page.click(f"text=Trial {number}")
                        page.wait_for_selector("text=trial_id=", timeout=PATIENCE)
                        self.look(page)
                    page.click("[title='Smart Selection'] a")
                    page.wait_for_selector("text=UserAttribute verdict", timeout=PATIENCE)
                    self.look(page)
                except Exception as error:  # whatever playwright waited for in vain
                    self.fault("page with a part missing", f"{page.url}: {error}")

    def look(self, page: Any) -> None:
        """Count a page of the dashboard and look for what should not be there."""
        self.counts["pages of the dashboard"] += 1
        self.check_elements(page)


def one_line(text: str) -> str:
    """A text as pages write it."""
    return " ".join(text.split())


def listed(folder: Path) -> set[Path]:
    """Every file, but for locks and the journals of SQLite, which come and go."""
    return {path for path in folder.rglob("*") if not path.name.endswith(("-wal", "-shm", "-journal", ".lock"))}


def watch_writes(folder: Path, told: Callable[[str], None]) -> None:
    """Tell whatever this process opens for writing, makes, moves or removes outside ``folder``, for as long as it lives."""
    inside = (str(folder), "/dev/null", "/dev/shm", "/proc/self")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not (isinstance(mode, str) and set(mode) & set("wax+")) and not (flags or 0) & (
                os.O_WRONLY | os.O_RDWR | os.O_CREAT
            ):
                return
            paths = [path]
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.symlink", "os.link"):
            if arguments[-1] != -1:  # relative to an open folder: how folders are removed
                return
            paths = [each for each in arguments[:2] if isinstance(each, (str, bytes, os.PathLike))]
        else:
            return
        for each in paths:
            if not isinstance(each, int):
                place = os.path.abspath(os.fsdecode(each))
                if not place.startswith(inside) and not place.endswith(".pyc") and "__pycache__" not in place:
                    told(f"{event} {place}")

    sys.addaudithook(hook)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try every Nth text (default: 1, all)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="begin with the Nth text (default: 0)")
    parser.add_argument(
        "--minutes", type=float, default=1e9, metavar="N", help="begin with no text later (default: never stop)"
    )
    parser.add_argument("--text", default=None, metavar="TEXT", help="try this one alone")
    parser.add_argument("--keep", default=None, metavar="FOLDER", help="a new folder for all that is written (default: none)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Try the texts one after the other and print the counts."""
    from playwright.sync_api import sync_playwright

    options = parse_args(argv)
    path = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if path is None:
        print("hostile: no Chromium is installed: on Debian, apt-get install chromium", file=sys.stderr)
        return BAD_INPUT
    warnings.filterwarnings("ignore")
    reports.folder.DPI = 40  # fine print is not looked at here
    texts = [*HOSTILE, *ON_DISK][options.first :: options.every] if options.text is None else [options.text]
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        place = options.keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-"))
        folder = Path(place).resolve()
        for name in ("home", "tmp", "here"):
            (folder / name).mkdir(parents=True)
        browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=path, args=CHROMIUM.split())
        stack.callback(browser.close)
        os.environ |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "COLUMNS": "200"}
        tempfile.tempdir = None
        stack.callback(os.chdir, os.getcwd())
        os.chdir(folder / "here")
        hunt = Hunt(folder, browser)
        watch_writes(folder, lambda told: hunt.fault("file outside the folder", told))
        for text in (PLAIN, *texts):
            if time.monotonic() - begun > 60 * options.minutes:
                break
            hunt.text = text
            if text != PLAIN and text not in ON_DISK:
                hunt.door()
            hunt.rename(hunt.train())
            hunt.commands(hunt.names[len(hunt.names) - 1])
        hunt.text = "all"
        hunt.command("admin", "list", "--storage", str(hunt.storage))
        hunt.dashboard()
        left = listed(folder / "here") | listed(folder / "tmp") - {folder / "tmp"}
        if left:
            hunt.fault("file outside the output folder", left)
    print("| of texts | |\n|---|---|")
    print(f"| texts | {len(hunt.names) - 1} |")
    for name, number in hunt.counts.items():
        print(f"| {name} | {number:,} |")
    for name, number in hunt.faults.items():
        print(f"| fault: {name} | {number} |")
    print(f"{hunt.faults.total()} faults with {len(hunt.names) - 1} texts in {time.monotonic() - begun:.0f} s")
    return 1 if hunt.faults else 0


if __name__ == "__main__":
    sys.exit(main())
