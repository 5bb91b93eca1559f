"""Tables as CSV in which a spreadsheet finds no formula, and back."""

import csv
import re
from pathlib import Path
from typing import Any

import pandas as pd

# What starts a formula in Excel, LibreOffice or Google Sheets (OWASP, "CSV injection"), full-width forms included. A cell is
# what begins a text, and what follows a semicolon, tab or line in it to a spreadsheet whose separator is not the comma. Where
# one begins so, or has apostrophes before, it gets one more apostrophe, which reading takes away.
FORMULA = re.compile(r"^(?='*[=+\-@\t\r\n＝＋－＠])|(?<=[;\t\r\n])(?='*[=+\-@＝＋－＠])")
GUARDED = re.compile(FORMULA.pattern.replace("(?='*", "'(?='*"))
TEXT = "state verdict reason error traceback edge note metric judgement sentence way".split()  # columns of the report,
TEXT += "highest_learning_rates ended_early".split()
TEXT += "study option baseline_verdict quantity test".split()  # and of the comparison


def to_csv(table: pd.DataFrame) -> bytes:
    """The table as CSV in UTF-8; what a spreadsheet would run as a formula has an apostrophe before it.

    Numbers are written as they are. Characters that UTF-8 cannot hold are written as their escapes.
    """
    guarded = table.copy(deep=False)
    for name, column in table.items():
        if column.dtype.kind == "O":
            guarded[name] = pd.Series([_guarded(value) for value in column], index=table.index, dtype=object)
    broken = any(
        "\r" in str(value) for name, column in guarded.items() if column.dtype.kind == "O" for value in [name, *column]
    )
    quoting = csv.QUOTE_NONNUMERIC if broken else csv.QUOTE_MINIMAL  # pandas leaves a carriage return outside quotes
    text: str = guarded.rename(columns=_guarded).to_csv(index=False, quoting=quoting)
    return text.encode(errors="backslashreplace")


def read_csv(path: str | Path) -> pd.DataFrame:
    """A table of a report's folder as it was before it was written; a text of no characters is missing."""
    as_written: dict[str, Any] = {
        "keep_default_na": False,
        "na_values": [""],
        "skip_blank_lines": False,
        "lineterminator": "\n",
    }
    read = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), **as_written)
    for name, column in read.items():
        if column.dtype.kind == "O":
            read[name] = column.map(_bare, na_action="ignore")
    return read.rename(columns=_bare)


def _guarded(value: object) -> object:
    return FORMULA.sub("'", value) if isinstance(value, str) else value


def _bare(value: object) -> object:
    return GUARDED.sub("", value) if isinstance(value, str) else value
