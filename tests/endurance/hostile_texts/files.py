"""Files that a command wrote, read by real parsers: cells that start a formula, pictures, archives, tables read back."""

from __future__ import annotations

import csv
import io
import os
import re
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from reports.pages.spreadsheet import read_csv

STARTS = tuple("=+-@\t\r\n＝＋－＠")  # of a formula
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|-inf", re.IGNORECASE)
# A spreadsheet whose separator is another reads a cell's lines and parts as cells of their own.
PART = re.compile(r"[;\t\r\n]")
SVG = "{http://www.w3.org/2000/svg}"


def faults_in_cells(text: str) -> Iterator[tuple[str, object]]:
    """Cells, or what another separator makes of them, that start a formula."""
    for row in csv.reader(io.StringIO(text, newline="")):
        for cell in row:
            for part in PART.split(cell):
                if part.startswith(STARTS) and not NUMBER.fullmatch(part):
                    yield "cell that starts a formula", cell


def faults_in_picture(data: bytes) -> Iterator[tuple[str, object]]:
    """Whether an SVG is whole and holds nothing that runs or leads elsewhere."""
    try:
        tags = {each.tag.removeprefix(SVG) for each in ElementTree.fromstring(data).iter()}
    except ElementTree.ParseError as error:
        yield "picture that is broken", error
    else:
        if tags & {"script", "a", "foreignObject", "iframe"}:
            yield "picture with a foreign element", tags


def faults_in_archive(path: Path) -> Iterator[tuple[str, object]]:
    """Where the members of an exported study go, and the cells of its tables."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(Path(name).is_absolute() or ".." in name or "/" in name for name in names):
            yield "archive that writes elsewhere", names
        for name in names:
            if name.endswith(".csv"):
                yield from faults_in_cells(archive.read(name).decode())


FAULTS: Mapping[str, Callable[[Path], Iterator[tuple[str, object]]]] = {
    ".csv": lambda path: faults_in_cells(path.read_bytes().decode()),
    ".svg": lambda path: faults_in_picture(path.read_bytes()),
    ".zip": faults_in_archive,
}


def faults_in_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, object]]:
    """Tables of a report that our reader does not give back as they were."""
    for name, table in tables.items():
        try:
            read = read_csv(folder / f"{name}.csv").replace({float("nan"): None})
            expected = table.reset_index(drop=True).replace("", None)
            pd.testing.assert_frame_equal(read, expected, check_dtype=False, check_exact=True, check_like=True)
        except AssertionError as error:
            yield "table that is not read back the same", f"{name}: {error}"


def listed(folder: Path) -> set[Path]:
    """Every file and folder, but for locks and the journals of SQLite, which come and go."""
    return {path for path in folder.rglob("*") if not path.name.endswith(("-wal", "-shm", "-journal", ".lock"))}


def watch_writes(folder: Path, told: Callable[[str], None]) -> None:
    """Tell whatever this process opens for writing, makes, moves or removes outside ``folder``, for as long as it lives."""
    inside = (str(folder), "/dev/null", "/dev/shm", "/proc/self")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            paths = [path] if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else []
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.symlink", "os.link"):
            relative = arguments[-1] != -1  # to an open folder: how folders are removed
            paths = [] if relative else [each for each in arguments[:2] if isinstance(each, (str, bytes, os.PathLike))]
        else:
            return
        for each in paths:
            if not isinstance(each, int):
                place = os.path.abspath(os.fsdecode(each))
                if not place.startswith(inside) and not place.endswith(".pyc") and "__pycache__" not in place:
                    told(f"{event} {place}")

    sys.addaudithook(hook)
