"""scripts/tour.ipynb runs as it stands, and holds what it shows; ``python tests/test_tour.py`` runs it and stores it anew."""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).parents[1] / "scripts" / "tour.ipynb"
MOST_BYTES = 500_000
WHERE = "import os, sys\nprint(sys.executable)\nprint(os.getcwd())"


def execute(notebook: Any, folder: Path) -> None:
    """Run all cells in ``folder`` with this Python, filling in their outputs; raises what a cell raises."""
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}, record_timing=False
    ).execute()


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def fingerprint(notebook: Any) -> str:
    """Of the code, so that outputs of other code are found out."""
    return hashlib.sha256("\0".join(cell.source for cell in code_cells(notebook)).encode()).hexdigest()


def kinds(cell: Any) -> set[str]:
    """What a cell shows: names of streams and types of data."""
    return {kind for output in cell.outputs for kind in ([output.name] if "name" in output else output.data)}


def text_of(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def store() -> None:
    """Execute the tour and write it with its outputs."""
    notebook = nbformat.read(TOUR, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, Path(folder))
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "outputs_of": fingerprint(notebook),
    }
    nbformat.validate(notebook)
    nbformat.write(notebook, TOUR)


@pytest.fixture(scope="module")
def stored() -> Any:
    return nbformat.read(TOUR, as_version=4)


def test_the_tour_runs_in_any_folder_each_cell_twice_and_shows_what_is_stored(stored: Any, tmp_path: Path) -> None:
    sources = [cell.source for cell in code_cells(stored) for _ in range(2)]
    fresh = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in [*sources, WHERE]])
    execute(fresh, tmp_path)
    *twice, where = code_cells(fresh)
    assert [kinds(cell) for cell in twice[::2]] == [kinds(cell) for cell in code_cells(stored)]
    assert text_of(where).splitlines() == [sys.executable, str(tmp_path.resolve())]
    assert (tmp_path / "outputs" / "tour" / "report.html").is_file()


def test_the_stored_tour_is_executed_whole_and_in_step_with_its_code(stored: Any) -> None:
    cells = code_cells(stored)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.outputs for cell in cells)
    assert stored.metadata["outputs_of"] == fingerprint(stored), "run python tests/test_tour.py"


def test_the_stored_tour_is_small_and_holds_no_warnings_and_no_paths_of_a_machine(stored: Any) -> None:
    text = TOUR.read_text(encoding="utf-8")
    assert len(text) < MOST_BYTES
    assert not any("stderr" in kinds(cell) or "Warning" in text_of(cell) for cell in code_cells(stored))
    words = re.sub(r"[A-Za-z0-9+/=]{100,}", "", text)  # without the pictures
    assert not re.search(r"(?<![\w.])/(bin|home|mnt|opt|private|root|tmp|usr|Users|var|work)/|[A-Z]:\\\\|site-packages", words)


if __name__ == "__main__":
    store()
