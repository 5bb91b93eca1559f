"""What the documents say is so: links, paths and names exist, command lines are accepted, examples print what they show."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_scripts import ROOT, script

import lightning_modules
from studies import StudyConfig
from studies.commands.compare import choose_studies

ROOMS = ("lightning_modules", "studies", "reports", "scripts", "tests")
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in sorted([*ROOT.glob("*.md"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.md"))])
}
README, REPORTS, STUDIES = (DOCUMENTS[name] for name in ("README.md", "reports/README.md", "studies/README.md"))
BIN = Path(sys.executable).parent
PROGRAM = '\nif __name__ == "__main__":\n'  # what a file holds that is started
OF_A_STUDY = {
    "config",
    "export",
    "out",
    "plan",
    "goes_on",
    "self_check",
    "hold_out",
    "tau",
    "rho",
    "target_loss",
    "json",
}  # options of a launch that StudyConfig does not take
of_each_document = pytest.mark.parametrize("name", DOCUMENTS)


def blocks(document: str, language: str) -> list[str]:
    """The code blocks in one language, "" for those that name none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)
    return [code for of, code in found if of == language]


def text_of(document: str) -> str:
    """The document without its code blocks."""
    return re.sub(r"^```.*?^```$", "", document, flags=re.DOTALL | re.MULTILINE)


def spans(document: str) -> list[str]:
    """What stands between backquotes in the text, which may go over the end of a line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text_of(document))]


def anchors(document: str) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.+)$", text_of(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run(folder: Path, *command: str) -> str:
    """What a command prints; the virtual environment's commands come first, as when it is activated."""
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    environment.pop("COLUMNS", None)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_is_read_in_a_few_minutes() -> None:
    assert README.count("\n") <= 150


def test_contributing_fits_on_a_screen() -> None:
    assert DOCUMENTS["CONTRIBUTING.md"].count("\n") <= 45


@of_each_document
def test_links_lead_to_files_and_headings_that_exist(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(DOCUMENTS[name])):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / name).parent / path if path else ROOT / name
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text()), target


@of_each_document
def test_paths_of_ours_exist(name: str) -> None:
    found = re.findall(rf"(?<![\w./@~-])(?:{'|'.join(ROOMS)})/[\w./*-]*", DOCUMENTS[name])
    assert [path for path in found if not list(ROOT.glob(path.rstrip("./")))] == []


@of_each_document
def test_names_of_ours_can_be_imported(name: str) -> None:
    for span in spans(DOCUMENTS[name]):
        if re.fullmatch(rf"(?:{'|'.join(ROOMS[:3])})(?:\.\w+)+", span):
            assert pkgutil.resolve_name(span) is not None


def test_each_room_that_has_a_document_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+)[^)\s]*\)", text_of(README)))
    rooms = {name for name in DOCUMENTS if name.endswith("/README.md")} - {"tests/reference/README.md"}
    assert rooms <= linked


def test_each_endurance_program_has_its_row_and_each_row_its_program() -> None:
    rows = re.findall(r"^\| `(\w+\.py)` \|", DOCUMENTS["tests/endurance/README.md"], re.MULTILINE)
    programs = [path.name for path in (ROOT / "tests" / "endurance").glob("*.py") if PROGRAM in path.read_text()]
    assert sorted(rows) == sorted(programs)


def test_names_without_a_path_are_those_of_our_classes() -> None:
    section = DOCUMENTS["lightning_modules/README.md"].partition("## Names without an import path\n")[2].partition("\n##")[0]
    named = set(re.findall(r"`(\w+)`", section))
    assert named <= set(lightning_modules.__all__)
    held = {
        name
        for name in lightning_modules.__all__
        if getattr(lightning_modules, name).__module__.endswith((".data", ".networks"))
    }
    assert held <= named


# Command lines ---------------------------------------------------------------------------------------------------------


def command_lines(document: str) -> Iterator[str]:
    """The lines of the shell's blocks, and the spans that begin with a program."""
    for block in blocks(document, "bash"):
        yield from filter(None, block.replace("\\\n", " ").splitlines())
    yield from (span for span in spans(document) if re.match(r"(?:[A-Z_]+=\S+ )*(?:lr-study|python|bash|uvx|pip|ray) ", span))


COMMAND_LINES = {
    f"{name}: {' '.join(line.partition(' #')[0].split())}": line.partition(" #")[0]
    for name, document in DOCUMENTS.items()
    for line in command_lines(document)
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the documents' command lines name."""
    (tmp_path / "study.yaml").write_text(blocks(STUDIES, "yaml")[0])
    shutil.copy(ROOT / "tests" / "cli_project" / "config.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parse_ours(command: str, arguments: list[str]) -> dict[str, Any]:
    """The options of a command of ``lr-study``, checked as far as its own checks go before it does anything."""
    assert (BIN / "lr-study").exists()
    options: dict[str, Any] = importlib.import_module(f"studies.commands.{command}").parse_args(arguments)
    if command == "launch":
        StudyConfig.from_mapping({name: value for name, value in options.items() if name not in OF_A_STUDY})
    if command == "compare":
        choose_studies(options["studies"])
    return options


def parse_script(path: str, arguments: list[str]) -> None:
    """A Python file that is a program, with its options where it has any."""
    assert PROGRAM in (ROOT / path).read_text()
    if path.startswith("scripts/"):
        script(Path(path).stem).parse_args(arguments)
    else:
        assert not arguments


def parse_ray(arguments: list[str]) -> None:
    """A command of Ray, by Ray's own parser."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.scripts.scripts import cli

        cli.commands[arguments[0]].make_context(arguments[0], arguments[1:])


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_line_is_accepted(line: str, folder: Path) -> None:
    for command in COMMAND_LINES[line].split("&&"):
        words = shlex.split(command)
        while re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words[:3] == ["uvx", "--from", "."]:
            del words[:3]
        program, *arguments = words
        match Path(program).name:
            case "lr-study":
                parse_ours(arguments[0], arguments[1:])
            case "python":
                parse_script(arguments[0], arguments[1:])
            case "bash":
                subprocess.run(["bash", "-n", str(ROOT / arguments[0])], check=True)
            case "ray":
                parse_ray(arguments)
            case "pre-commit":
                assert (BIN / "pre-commit").exists() and arguments == ["install"]
            case "git" | "cd" | "export" | "pip":
                assert subprocess.run(["bash", "-c", f"type {program}"], capture_output=True).returncode == 0
            case _:
                pytest.fail(f"{program} is not known here")


OPTIONS = {f"{name}: {span}": span for name in DOCUMENTS for span in spans(DOCUMENTS[name]) if span.startswith("--")}


@pytest.mark.parametrize("option", OPTIONS)
def test_option_is_known_to_a_command(option: str, folder: Path) -> None:
    words = shlex.split(OPTIONS[option])

    def accepted(command: str, arguments: list[str]) -> bool:
        try:
            importlib.import_module(f"studies.commands.{command}").parse_args(arguments)
        except ValueError:
            return False
        except SystemExit as end:  # --help
            return end.code == 0
        return True

    some = [(command, extra) for command in ("launch", "report", "dashboard") for extra in ([], ["1"])]
    ours = any(accepted(command, [*words, *extra]) for command, extra in some)
    adopt = any(accepted("admin", ["adopt", "logs", *words, *extra]) for extra in ([], ["1"]))
    assert ours or adopt or accepted("compare", ["a", "b", *words])


# Examples --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def default_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the default study was launched, and what it printed."""
    folder = tmp_path_factory.mktemp("default")
    return folder, run(folder, sys.executable, str(ROOT / "scripts" / "launch_study.py"))


def test_answer_in_the_readme_is_what_the_default_study_prints(default_study: tuple[Path, str]) -> None:
    """On another processor, whose rounding is another, a search may ask for a neighbouring learning rate."""
    (table,) = (block for block in blocks(README, "") if "Learning rates of" in block)
    shown, printed = (text.split("nine times in ten")[0].split() for text in (table, default_study[1]))
    number, drawn = re.compile("[0-9.]+"), re.compile("[━─┏┓┗┛┳┻┡┩╇├┤┼┴└┘]+")
    words, others = ([w for w in text if not number.fullmatch(w) and not drawn.fullmatch(w)] for text in (shown, printed))
    numbers, found = ([float(word) for word in text if number.fullmatch(word)] for text in (shown, printed))
    assert others == words and found == pytest.approx(numbers, rel=0.7)
    runs = pd.read_csv(default_study[0] / "outputs" / "digits" / "runs.csv")
    assert sorted(runs["batch_size"].unique()) == [16, 64, 256] and runs["seed"].nunique() == 3
    assert {"too low", "good", "too high", "divergent"} == set(runs["verdict"].dropna())
    assert "6 of 6 checks passed" in default_study[1]


def test_price_in_the_readme_is_about_what_the_default_study_cost(default_study: tuple[Path, str]) -> None:
    full, share = (
        float(number) for number in re.findall(r"cost (\d+) full runs' worth of training, (\d+) % of a grid", README)[0]
    )
    cost = re.findall(r"took (\d+) full runs' worth of training, ([0-9.]+) % of the full grid", default_study[1])[0]
    assert [float(number) for number in cost] == pytest.approx([full, share], rel=0.3)


def test_folder_holds_the_tables_that_the_document_names_and_its_python_reads_them(default_study: tuple[Path, str]) -> None:
    folder, _ = default_study
    tables = {path.stem for path in (folder / "outputs" / "digits").glob("*.csv")}
    paragraph = REPORTS.partition("and as CSV")[2].partition(".")[0]
    assert set(re.findall(r"`(\w+)`", paragraph)) == tables
    (code,) = blocks(REPORTS, "python")
    printed = run(folder, sys.executable, "-W", "ignore", "-c", code).splitlines()[1:]
    rows = [float(word) for line in printed for word in line.split()[1:3]]
    assert rows == pytest.approx([16, 0.316, 64, 0.316, 256, 1], rel=0.7)


def test_module_of_the_readme_is_studied_by_the_command_and_the_code_below_it(tmp_path: Path) -> None:
    before, code, after = README.partition("## Your own model\n")[2].partition("```python\n")
    assert code and "`mine.py`" in before
    module, python = blocks(README, "python")
    (command,) = blocks(README.partition("## Your own model\n")[2], "bash")
    assert after.index(module[:20]) < after.index(command) < after.index(python)
    (tmp_path / "mine.py").write_text(module)
    printed = run(tmp_path, *shlex.split(command))
    assert "report: outputs/mine/report.html" in printed
    runs = pd.read_csv(tmp_path / "outputs" / "mine" / "runs.csv")
    assert set(runs["state"]) == {"COMPLETE", "PRUNED"} and "val_loss" in runs
    assert set(runs["verdict"].dropna()) == {"too low", "good", "too high", "divergent"}
    said = run(tmp_path, sys.executable, "-W", "ignore", "-c", python).splitlines()
    assert said[0] == "outputs/from Python/report.html"
    use = re.match(r"use ~?([\d.e-]+) \([\d.e-]+ to [\d.e-]+", said[1])
    assert use and float(use[1]) == pytest.approx(float(said[-1].split()[-1]), rel=0.01)
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"mine.py", "outputs"}
