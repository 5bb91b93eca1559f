"""CSV files: no cell is a formula to a spreadsheet, and every cell comes back as it was."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pandas as pd
import pytest
from conftest import HOSTILE, four_verdicts
from hypothesis import given
from hypothesis import strategies as st

from reports.judging.judged import judge
from reports.pages.folder import write_report
from reports.pages.spreadsheet import read_csv, to_csv

STARTS = "=+-@\t\r\n＝＋－＠"
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "'=1", "''@x", '=HYPERLINK("javascript:alert(1)")']


def cells(table: pd.DataFrame) -> list[str]:
    """Every cell as a spreadsheet reads it, headings included."""
    return [cell for row in csv.reader(io.StringIO(to_csv(table).decode(), newline="")) for cell in row]


@pytest.mark.parametrize("text", [*FORMULAS, *HOSTILE])
def test_no_text_starts_a_formula_and_it_comes_back(text: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"reason": [text, None, "plain"], text or "empty": [-1.5, math.inf, 2.0]})
    assert not any(cell.startswith(tuple(STARTS)) for cell in cells(table) if cell != "-1.5")
    (tmp_path / "a.csv").write_bytes(to_csv(table))
    pd.testing.assert_frame_equal(read_csv(tmp_path / "a.csv"), table, check_dtype=False)


ANY = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(st.lists(ANY | st.text(alphabet="'=-;\t\r\n a", min_size=1), min_size=1))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("any") / "a.csv"
    path.write_bytes(to_csv(pd.DataFrame({"error": texts})))
    assert read_csv(path)["error"].tolist() == texts


@pytest.mark.parametrize("separator", [";", "\t", "\n", "\r"])
@pytest.mark.parametrize("text", ["=1+1", "'=1", "＝1"])
def test_no_formula_starts_where_another_separator_ends_a_cell(separator: str, text: str) -> None:
    """As in Excel where the comma is for decimals; quotes do not help there, as they stand in the middle of a cell."""
    said = f"ValueError: x{separator}{text}"
    cell = to_csv(pd.DataFrame({"trial": [3], "error": [said]})).decode().partition(f"x{separator}")[2]
    assert cell.startswith(f"'{text}")


def test_numbers_are_written_as_they_are() -> None:
    table = pd.DataFrame({"learning_rate": [-0.1, 1e-7], "nonfinite_at": pd.array([3, None], dtype="Int64")})
    assert to_csv(table).decode() == table.to_csv(index=False)


def test_tables_of_a_report_come_back_whatever_their_texts(tmp_path: Path) -> None:
    runs, curves = four_verdicts()
    failed = pd.concat([runs.tail(1)] * len(HOSTILE)).assign(state="FAIL", trial=range(4, 4 + len(HOSTILE)), error=HOSTILE)
    judged = judge(pd.concat([runs, failed], ignore_index=True), curves)
    write_report(judged, tmp_path, title="hostile", configuration={})
    read = read_csv(tmp_path / "runs.csv")
    assert read["error"].dropna().tolist() == [text for text in HOSTILE if text]
    assert read["reason"].tolist() == judged.runs["reason"].tolist()
