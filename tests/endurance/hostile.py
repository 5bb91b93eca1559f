"""Hostile texts everywhere a user's text is shown: HTML, Markdown, formulas, escape sequences, right-to-left, 600 characters.

Each text becomes the name of a module, of a model, data, callback and exception class, of a metric, an option and its value,
the text of that exception, the notes of a study and of a run, and the study's name, given as other tools can where the door
refuses it. Every study is trained, reported, compared, listed, shown, exported and served by the real commands; every page is
opened in Chromium; Markdown, tables and pictures are read by real parsers; all is compared with a study of plain texts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
from hostile_texts import browser, dashboard, files, markdown, study, terminal
from hostile_texts.terminal import Said
from hostile_texts.texts import HOSTILE, ON_DISK, PLAIN, stored

from reports.figures import pictures
from studies.answers import judge_study
from studies.commands.command_line import BAD_INPUT, run
from studies.config import folder_name
from studies.storage.opening import load_study

COARSE = 40  # dots per inch: fine print is not looked at here


class Hunt:
    """Tries texts in a folder of its own and counts what is not as promised."""

    def __init__(self, folder: Path, chromium: Any) -> None:
        self.folder, self.chromium = folder, chromium
        self.storage, self.out = folder / "studies.db", folder / "out"
        self.faults: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.studies: dict[str, int] = {}  # their ids by name
        self.usual: dict[str, Any] = {}  # what the pages of the plain study hold, by the page's name
        self.text = PLAIN

    def tell(self, where: str, faults: Iterable[tuple[str, object]]) -> None:
        """Count faults and tell them."""
        for kind, told in faults:
            self.faults[kind] += 1
            print(f"{ascii(self.text[:40])}: {kind}: {where}: {ascii(str(told)[:600])}", file=sys.stderr, flush=True)

    def command(self, name: str, *argv: str, codes: Collection[int] = (0,)) -> Said:
        """Call a command, which may end with one of ``codes``."""
        self.counts["commands"] += 1
        said = terminal.call(name, *argv)
        self.tell(f"{name} {argv[:1]}", terminal.faults_of(said, codes))
        return said

    def try_text(self, text: str) -> None:
        """All but the dashboard, with the text in every place."""
        self.text, name = text, f"s{len(self.studies)}"
        if text != PLAIN and text not in ON_DISK:
            self.knock()
        self.train(name)
        self.studies[stored(text)] = study.rename(self.storage, name, to=stored(text))
        self.read(stored(text))

    def knock(self) -> None:
        """Launch by the text as a name and as a class: refused in one line with nothing written, or trained."""
        short = "--model Parabola --data ParabolaData --epochs 1 --points 2 --seeds 1 --batch-size 16".split()
        place = ["--storage", str(self.folder / "door.db"), "--out", str(self.folder / "door")]
        for option in ("name", "model"):
            before = files.listed(self.folder)
            said = self.command("launch", *short, *place, f"--{option}={self.text}", codes=(0, BAD_INPUT))
            self.counts["refused at the door" if said.code else "taken at the door"] += 1
            if said.code == BAD_INPUT and (written := files.listed(self.folder) - before):
                self.tell("launch", [("refusal that writes", written)])

    def train(self, name: str) -> None:
        """Train a study by a launch where that takes its classes, else from Python."""
        config = self.folder / "study.yaml"
        study.write_config(self.text, config, name=name, storage=self.storage)
        said = self.command("launch", "--config", str(config), "--out", str(self.out), codes=(1, BAD_INPUT))
        config.unlink()
        if said.code == BAD_INPUT:
            self.counts["classes refused, given from Python"] += 1

            def train() -> int:
                return study.train_from_python(self.text, self.out / name, name=name, storage=self.storage)

            self.tell("launch from Python", terminal.faults_of(terminal.said_by(lambda: run(train, "launch"))))
        self.tell("launch", study.faults_of(self.storage, name))

    def read(self, name: str) -> None:
        """Every command that reads the study, by its name, and what it writes."""
        place = ["--storage", str(self.storage)]
        self.command("report", f"--name={name}", *place, "--out", str(self.out))
        folder = self.out / folder_name(name)
        self.read_folder(folder, "report", title=name)
        judged = judge_study(load_study(str(self.storage), name))
        tables = {key: value for key, value in judged._asdict().items() if isinstance(value, pd.DataFrame)}
        self.counts["tables read back"] += len(tables)
        self.tell("report", files.faults_in_tables(folder, tables))
        notebook = self.folder / "notebook.html"
        notebook.write_text(f"<!DOCTYPE html><meta charset=utf-8><title>x</title>{judged._repr_html_()}", encoding="utf-8")
        self.open(notebook, title=name)
        # What begins with a dash may be an option to a command, and what holds :// or is a file a storage.
        codes = (0, BAD_INPUT) if name.startswith("-") or "://" in name or os.path.isfile(name) else (0,)
        self.command("admin", "show", name, *place, codes=codes)
        archive = self.folder / "study.zip"
        if self.command("admin", "export", name, "--out", str(archive), *place, codes=codes).code == 0:
            self.read_file(archive)
            archive.unlink()
        if name != PLAIN:
            pair = [PLAIN, name] if len(self.studies) % 2 else [name, PLAIN]
            said = self.command("compare", str(self.storage), *pair, "--out", str(self.out), codes=codes)
            if said.code == 0:
                self.read_folder(Path(said.text.rpartition("comparison: ")[2].strip()).parent, "comparison", title=name)

    def read_folder(self, folder: Path, page: str, *, title: str) -> None:
        """The page in Chromium and as Markdown, the tables and the pictures."""
        self.open(folder / f"{page}.html", title=title)
        self.counts["files .md"] += 1
        shape = markdown.read_markdown((folder / f"{page}.md").read_text(encoding="utf-8"))
        self.tell(page, markdown.faults_of(shape, self.usual.setdefault(f"{page}.md", shape), self.text))
        if page == "report":
            self.tell(page, markdown.faults_of_words(shape, self.text, title=title))
        for path in folder.rglob("*"):
            if path.suffix in files.FAULTS and not path.is_relative_to(folder / "runs"):  # of the user's own logger
                self.read_file(path)

    def read_file(self, path: Path) -> None:
        """A table, a picture or an archive."""
        self.counts[f"files {path.suffix}"] += 1
        self.tell(path.name, files.FAULTS[path.suffix](path))

    def open(self, path: Path, *, title: str) -> None:
        """A page from disk, in Chromium."""
        self.counts["files .html"] += 1
        seen, faults = browser.open_page(self.chromium, path, title=title)
        self.tell(path.name, [*faults, *browser.compare(seen, self.usual.setdefault(path.name, seen), self.text)])

    def visit(self, address: str) -> None:
        """The pages of the dashboard."""
        self.tell("dashboard", dashboard.look_at_list(self.chromium, address, self.studies))
        for name, number in self.studies.items():
            self.text = name
            self.counts["studies in the dashboard"] += 1
            self.tell("dashboard", dashboard.look_at_study(self.chromium, address, number))


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
    options = parse_args(argv)
    texts = [*HOSTILE, *ON_DISK][options.first :: options.every] if options.text is None else [options.text]
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        try:
            chromium = stack.enter_context(browser.chromium())
        except FileNotFoundError as error:
            print(f"hostile: {error}", file=sys.stderr)
            return BAD_INPUT
        place = options.keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-"))
        folder = Path(place).resolve()
        for name in ("home", "tmp", "here"):
            (folder / name).mkdir(parents=True)
        os.environ |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "COLUMNS": "200"}
        tempfile.tempdir = None
        stack.enter_context(contextlib.chdir(folder / "here"))
        stack.enter_context(patch.object(pictures, "DPI", COARSE))
        warnings.filterwarnings("ignore")
        hunt = Hunt(folder, chromium)
        files.watch_writes(folder, lambda told: hunt.tell("", [("file outside the folder", told)]))
        for text in (PLAIN, *texts):
            if time.monotonic() - begun > 60 * options.minutes:
                break
            hunt.try_text(text)
        hunt.text = "all"
        hunt.command("admin", "list", "--storage", str(hunt.storage))
        hunt.tell("dashboard", terminal.faults_of(dashboard.serve(hunt.storage, folder, hunt.visit)))
        if left := files.listed(folder / "here") | files.listed(folder / "tmp"):
            hunt.tell("", [("file outside the output folder", left)])
    tried = len(hunt.studies) - 1
    print(f"| of texts | |\n|---|---|\n| texts | {tried} |")
    for name, number in hunt.counts.items():
        print(f"| {name} | {number:,} |")
    for name, number in hunt.faults.items():
        print(f"| fault: {name} | {number} |")
    print(f"{hunt.faults.total()} faults with {tried} texts in {time.monotonic() - begun:.0f} s")
    return 1 if hunt.faults else 0


if __name__ == "__main__":
    sys.exit(main())
