"""List, show, export, import and delete the studies of a storage: what ``lr-study admin`` does, once its options are known."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.study._frozen import FrozenStudy
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports.pages.templating import flat_options
from studies.admin.archive import IMPORTING, export_study, import_study, open_archive
from studies.admin.inventory import Runs, count_runs, plan_of
from studies.config import StudyConfig, folder_name, nearest
from studies.errors import BadInput, StudyInUse
from studies.storage.database_url import sqlite_path, without_password
from studies.storage.holder import noted
from studies.storage.lock import lock_files, locked
from studies.storage.opening import open_storage, open_to_read
from studies.storage.stored import ADOPTED, CONFIGURATION, self_check_name, split_name
from studies.storage.writable import check_storage, require_writable
from studies.trials import delete

COLUMNS = ("study", "runs", "learning\nrates", "batch\nsizes", "seeds", "last\nchange", "worked\non by")
NOT_FINISHED = "an import that did not end: import again, or delete it"
NOT_OURS = "made by something else"


def list_studies(storage: str) -> None:
    """Print a table with a row a study; self-checks stand under their studies."""
    url, opened = _open(storage)
    found = {study.study_name: study for study in opened.get_all_studies()}
    counts = count_runs(opened)
    table = Table(title=Text(f"Studies in {printable(without_password(storage))}", style="table.title"))
    for heading in COLUMNS:
        table.add_column(heading, overflow="fold")
    for name in sorted(found, key=split_name):
        study, check = split_name(name)
        label = "  self-check" if check and study in found else printable(name)
        row = _row(found[name], counts.get(found[name]._study_id, Runs()))
        table.add_row(*map(Text, (label, *row, _worked_on_by(url, name))))  # a Text means itself: no markup
    Console().print(table)


def show_study(name: str, storage: str) -> None:
    """Print a study's runs, its configuration, and what it answers."""
    url, opened = _open(storage)
    study = _find(opened, name, storage)
    counts = count_runs(opened)
    print(f"study: {printable(name)}")
    for what, each in _parts(opened, name).items():
        runs = counts.get(each._study_id, Runs())
        print(f"{what}: {', '.join(runs.describe(plan_of(each.user_attrs)))}; last change: {runs.changed or 'none'}")
    print(f"worked on by: {_worked_on_by(url, name) or 'nobody'}")
    if CONFIGURATION not in study.user_attrs:
        print(f"{NOT_OURS}, so there is nothing to judge")
        return
    print("configuration:")
    for option, value in flat_options(study.user_attrs[CONFIGURATION]):
        print(f"  {printable(option)}: {printable(value)}")
    from studies.answers import judge_study  # statistics: a second, which the other commands do without
    from studies.commands.terminal import print_answer

    print_answer(folder_name(name), judge_study(study))  # the name, where it is one that a launch could have given


def export_to_file(name: str, storage: str, out: str | None, overwrite: bool) -> None:
    """Write a study and its self-check to a file."""
    _, opened = _open(storage)
    study = _find(opened, name, storage)
    path = Path(out) if out is not None else Path("outputs") / f"{folder_name(name)}.zip"
    if path.is_dir():
        raise BadInput(f"out must be a file, {str(path)!r} is a folder")
    if path.exists() and not overwrite:
        raise BadInput(f"out must be a new file, {str(path)!r} exists: give another one, or --overwrite")
    require_writable(path.parent, "out")
    export_study(study, path)
    print(f"archive: {path}")


def import_from_file(archive: str, storage: str, name: str | None) -> None:
    """Put the study in a file, and its self-check, into a storage, which is made if missing."""
    with open_archive(archive) as opened:
        new = str(StudyConfig(name=opened.about["name"] if name is None else name).name)  # checked as that of a launch
        url = check_storage(storage)
        with _held(url, new):
            import_study(opened, open_storage(url), new, place=without_password(storage))
    print(f"study: {new} in {printable(without_password(storage))}")


def adopt_runs(
    sources: list[str], storage: str, name: str | None, study: str | None, format: str | None, **options: Any
) -> None:
    """Make a study of the runs in logs, and print what it answers."""
    from studies.admin.adopt import adopt, read_logs  # PyTorch
    from studies.answers import judge_study
    from studies.commands.terminal import print_answer

    new = str(StudyConfig(name=name or study or folder_name(Path(sources[0]).resolve().stem)).name)
    url = check_storage(storage)
    logs = read_logs(sources, study, format)
    with _held(url, new):
        adopted = adopt(logs, open_storage(url), new, sources=sources, **options)
    print_answer(new, judge_study(adopted))
    print(f"study: {new} in {printable(without_password(storage))}")


def delete_study(name: str, storage: str, yes: bool) -> None:
    """Delete a study, its self-check, and what a killed import of it left; asks before, unless ``yes``."""
    url, opened = _open(storage)
    _find(opened, name, storage)
    if not yes and not sys.stdin.isatty():
        raise BadInput("delete must be confirmed, and there is no terminal to ask at: give --yes; nothing was deleted")
    names = (name, self_check_name(name))
    with _held(url, name):
        counts = count_runs(opened)
        for what, study in _parts(opened, name).items():
            print(f"to delete: the {what} of {printable(name)}, {counts.get(study._study_id, Runs()).total} in all")
        if not yes:
            _ask(name)
        delete(open_storage(url), [*names, *(IMPORTING + each for each in names)])
        if sqlite_path(url) is not None:
            for each in names:
                lock_files(url, _lock_name(each))[0].unlink(missing_ok=True)
    print(f"deleted: {printable(name)}")


def _ask(name: str) -> None:
    """Raise ValueError unless a person types the name."""
    try:
        typed = input("type the study's name to delete it: ")
    except EOFError:
        typed = ""
    if typed != printable(name):
        raise BadInput(f"the study's name must be typed to delete it, got {typed!r}; nothing was deleted")


def printable(text: str) -> str:
    """Text that does no more to a terminal than to stand there: other tools give names with control characters, too."""
    return text if text.isprintable() else repr(text)


def _row(study: FrozenStudy, runs: Runs) -> Iterator[str]:
    """Runs, learning rates, batch sizes, seeds and last change of a study, as text."""
    plan = plan_of(study.user_attrs)
    yield "\n".join(runs.describe(plan))
    if plan is not None:
        ends = "" if plan.learning_rate is None else f"{plan.learning_rate[0]:g} to {plan.learning_rate[1]:g}\n"
        yield f"{ends}{f'{plan.points} values' if plan.sampler == 'grid' else plan.sampler}"
        yield ", ".join(map(str, plan.batch_sizes))
        yield str(plan.seeds)
    elif study.study_name.startswith(IMPORTING):
        yield from (NOT_FINISHED, "", "")
    else:
        configuration = study.user_attrs.get(CONFIGURATION)
        yield from (NOT_OURS if configuration is None else "adopted" if ADOPTED in configuration else "", "", "")
    yield runs.changed.replace(" ", "\n")


def _open(storage: str) -> tuple[str, RDBStorage]:
    """The URL of a storage that exists, and the storage, to read."""
    url = check_storage(storage, must_exist=True)
    return url, open_to_read(url) if sqlite_path(url) else open_storage(url)


def _find(opened: RDBStorage, name: str, storage: str) -> optuna.Study:
    """The study of this name. Raises ValueError that names the nearest, or all, when there is none."""
    names = [study.study_name for study in opened.get_all_studies()]
    if name not in names:
        known = nearest(name, names) if names else "; there are none"
        raise BadInput(f"name must be a study in {without_password(storage)!r}, got {name!r}{known}")
    return optuna.load_study(study_name=name, storage=opened)


def _parts(opened: RDBStorage, name: str) -> dict[str, FrozenStudy]:
    """What a study consists of, by what it is."""
    found = {study.study_name: study for study in opened.get_all_studies()}
    parts = {"runs": name, "self-check": self_check_name(name)}
    return {what: found[each] for what, each in parts.items() if each in found}


@contextmanager
def _held(url: str, name: str) -> Iterator[None]:
    """Hold a study and its self-check. Raises StudyInUse when somebody works on either."""
    with ExitStack() as stack:
        for each in (name, self_check_name(name)):
            stack.enter_context(locked(url, _lock_name(each)))
        yield


def _lock_name(name: str) -> str:
    """What a study is held by: its name, or where other tools named it, something that a file can be called."""
    study, check = split_name(name)
    return folder_name(study) + check


def _worked_on_by(url: str, name: str) -> str:
    """Who holds a study, "" when nobody does. Of an SQLite file by the note beside it: a launch meanwhile is not in the way."""
    if sqlite_path(url) is not None:
        return printable(noted(lock_files(url, _lock_name(name))[1]) or "")
    try:
        with locked(url, _lock_name(name)):
            return ""
    except StudyInUse as error:
        return str(error).partition("worked on by ")[2].partition(":")[0]
