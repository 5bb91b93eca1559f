"""A study as the copy of Optuna Dashboard shows it: read from its storage, judged, and put into a storage in memory."""

import copy
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pandas as pd
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from optuna_dashboard import save_note
from optuna_dashboard._note import get_note_from_system_attrs, note_ver_key, split_body
from sqlalchemy.exc import SQLAlchemyError

from reports.figures import draw_figures
from reports.figures.landscape import Landscape, animate_landscape
from reports.figures.pictures import draw_picture
from reports.judging.judged import Judged
from reports.judging.verdicts import classify
from reports.pages.templating import markdown_text
from studies.answers import judge_study
from studies.dashboard.cards_and_notes import (
    VALUE_NAME,
    others_note,
    save_charts,
    study_columns,
    study_note,
    trial_columns,
    trial_notes,
    value_name,
)
from studies.dashboard.first_look import RECOMMENDED
from studies.storage.beside import study_beside, system_attributes
from studies.storage.stored import ATTRIBUTES, CHECKSUM, CONFIGURATION, CURVES, SELF_CHECK
from studies.tables import curves_table, runs_table

logger = logging.getLogger(__name__)

OUR_FACTS = (*ATTRIBUTES, CHECKSUM)  # attributes the columns are made from
NOTES = 500  # runs with a note: the dashboard searches all notes for each one, which takes 6 s a page for 2,000
POINTS = 20_000  # of all learning curves of a study together: what a browser draws at once
TOP = 2.0  # untrained heights; above that a run has left the valley, and would press all others to the bottom of the plot
COPY = "This is a copy that follows the study. What is changed or deleted here is not kept, and the study itself stays whole."
READING = """
- **Best Trials** are runs of the learning rates to use, of each batch size the one with the best value. Another run may have a
  better value by luck of its seed.
- **Timeline**: runs with the same bar were trained together, each taking its share of those seconds.
- **Intermediate values** are heights, the loss on the same examples for every run, over steps, up to twice the untrained
  height.
- **Trials (List)** has a note for each run: its verdict and why. **Smart Selection** has a table with a column for each.
- While a study grows its floor may fall, and verdicts with it: reload the page to see those of earlier runs again.
"""
OF_SELF_CHECK = (
    "Fresh seeds of the study this one is named after, judged by what is known there; its note says what came of them."
)
MAP = "The map: every learning rate and batch size with its verdict"
UNREAD = "This study is being read: it is here in a moment."


class Copied(NamedTuple):
    """A study as the copy shows it.

    judged: what its pictures are drawn from, if there are to be any. pictures: their entries in the study's attributes, None
    before they are drawn. seen: what of the storage it was made from. since: when it was found changed, in seconds of
    ``time.monotonic``, -inf the first time.
    """

    user_attrs: Mapping[str, Any]
    system_attrs: Mapping[str, Any]
    trials: list[FrozenTrial]
    judged: Judged | None = None
    pictures: Mapping[str, str] | None = None
    seen: Any = None
    since: float = -math.inf


def unread(study: FrozenStudy) -> Copied:
    """What is shown of a study before it is read."""
    return Copied(study.user_attrs, _note(UNREAD, None), [])


def copy_study(source: BaseStorage, listed: FrozenStudy) -> Copied:
    """A study of ours with its note, charts, notes of runs and columns; a study of anybody else as it is."""
    study = optuna.load_study(study_name=listed.study_name, storage=source)
    attributes = {key: value for key, value in listed.system_attrs.items() if "artifacts:" not in key}  # the files are not here
    plain = Copied(listed.user_attrs, attributes, study.get_trials(deepcopy=False))
    if CONFIGURATION not in listed.user_attrs:
        return plain
    try:
        return _dress(study, listed, plain)
    except (SQLAlchemyError, StorageInternalError):
        raise
    except Exception as error:  # whatever is stored, the dashboard shows it
        logger.warning("study %r cannot be judged, it is shown as it is: %r", listed.study_name, error)
        note = f"This study cannot be judged, it is shown as it is. {markdown_text(f'{type(error).__name__}: {error}')}"
        return plain._replace(system_attrs=_written(listed, plain, note, None))


def _dress(study: optuna.Study, listed: FrozenStudy, plain: Copied) -> Copied:
    runs, judged = _judge(study)
    judgements = None if judged is None else judged.judgements
    note = f"{OF_SELF_CHECK}\n\n*{COPY}*" if judged is None else study_note(study, judged, COPY, READING)
    attributes = _written(listed, plain, note, judged)
    ids = {trial.number: trial._trial_id for trial in plain.trials}
    for number, text in list(trial_notes(runs, judgements).items())[:NOTES]:
        if number in ids and note_ver_key(ids[number]) not in attributes:  # else it is newer, or somebody wrote one
            attributes |= _note(text, ids[number])
    columns = trial_columns(runs, judgements)
    shown = [_shown(trial, columns.get(trial.number, {}), POINTS // len(plain.trials)) for trial in plain.trials]
    if judged is not None:
        attributes[RECOMMENDED] = _recommended(study, judged, shown)
        attributes[VALUE_NAME] = [value_name(listed.user_attrs, judged)]
    return Copied(study_columns(listed.user_attrs, judged), attributes, shown, judged)


def _recommended(study: optuna.Study, judged: Judged, shown: list[FrozenTrial]) -> list[FrozenTrial]:
    """Of each batch size the run of the recommended learning rate that has the best value."""
    ended = [trial for trial in shown if trial.state == TrialState.COMPLETE]
    ended.sort(key=lambda trial: trial.values[0], reverse=study.direction == StudyDirection.MAXIMIZE)
    found: dict[tuple[int, float], FrozenTrial] = {}
    for trial in ended:
        found.setdefault((trial.params["batch_size"], trial.params["learning_rate"]), trial)
    cells = [(use["batch_size"], use["learning_rate"]) for use in judged.recommendations.to_dict("records")]
    return [found[cell] for cell in cells if cell in found]


def _written(listed: FrozenStudy, plain: Copied, note: str, judged: Judged | None) -> dict[str, Any]:
    """The attributes of a study with our note, below one that somebody else wrote, and with our charts."""
    memory = InMemoryStorage()
    fill(memory, listed, plain._replace(trials=[]))
    page = optuna.load_study(study_name=listed.study_name, storage=memory)
    save_note(page, "\n\n---\n\n".join(filter(None, (others_note(page), note))))
    if judged is not None:
        save_charts(page, judged)
    return system_attributes(page)


def note_with_map(attributes: Mapping[str, Any], pictures: Mapping[str, str], study_id: int) -> dict[str, Any]:
    """The attributes of a study whose note shows the map, one of ``pictures``, as ``draw_artifacts`` gives them."""
    about, note = f"*{COPY}*", get_note_from_system_attrs(dict(attributes), None)
    for each in map(json.loads, pictures.values()):
        if each["filename"] == "map.png":
            shown = f"![{MAP}](/artifacts/{study_id}/{each['artifact_id']})\n\n{about}"
            body = shown.join(note["body"].rsplit(about, 1))
            return {note_ver_key(None): note["version"] + 1, **split_body(body, None)}
    return {}


def _note(text: str, trial_id: int | None) -> dict[str, Any]:
    """The attributes of a study that make a new note, of one of its trials or its own."""
    return {note_ver_key(trial_id): 1, **split_body(text, trial_id)}


def _judge(study: optuna.Study) -> tuple[pd.DataFrame, Judged | None]:
    """The runs with their verdicts, and all that was learnt; of a self-check the runs alone, judged by the study it checks."""
    name = study.study_name.removesuffix(SELF_CHECK)
    if name == study.study_name:
        judged = judge_study(study)
        return judged.runs, judged
    checked = study_beside(study, name)
    if checked is None:
        raise ValueError(f"there is no study {name!r} that it checks")
    cells = judge_study(checked).cells
    runs = runs_table(study)
    return classify(runs[runs["batch_size"].isin(cells["batch_size"])], curves_table(study), against=cells), None


def _shown(trial: FrozenTrial, columns: dict[str, Any], points: int) -> FrozenTrial:
    """A trial with short attributes instead of our JSON, and its heights as intermediate values, about so many of them."""
    shown = copy.copy(trial)
    shown.user_attrs = {name: value for name, value in trial.user_attrs.items() if name not in OUR_FACTS} | columns
    steps, heights = trial.user_attrs.get(CURVES, {}).get("height", ([], []))
    top = TOP * heights[0] if heights and heights[0] and heights[0] > 0 else math.inf
    low = [(step, height) for step, height in zip(steps, heights, strict=True) if height is not None and height <= top]
    shown.intermediate_values = dict(low[:: -max(len(low) // max(points, 5), 1)])
    return shown


def draw_artifacts(judged: Judged, landscape: Mapping[str, Any] | None, folder: Path) -> dict[str, str]:
    """Draw the figures, and the walk on the hill where there is one, into ``folder``; returns their entries for a study."""
    files = {f"{name}.png": draw_picture(figure) for name, figure in draw_figures(judged).items()}
    if landscape:
        files["landscape.gif"] = animate_landscape(Landscape.from_json(landscape).judged_as(judged.runs))
    memory, store = InMemoryStorage(), FileSystemArtifactStore(folder)
    page = optuna.create_study(storage=memory)
    for name, content in files.items():
        path = folder / name
        path.write_bytes(content)
        upload_artifact(study_or_trial=page, file_path=str(path), artifact_store=store)
        path.unlink()
    return system_attributes(page)


def fill(storage: InMemoryStorage, listed: FrozenStudy, shown: Copied) -> None:
    """Put a study into a storage in memory, under the ids it has, so that addresses and notes of runs are the same."""
    study_id = listed._study_id
    storage._max_study_id = study_id - 1
    storage.create_new_study(listed.directions, listed.study_name)
    for name, value in shown.user_attrs.items():
        storage.set_study_user_attr(study_id, name, value)
    for name, value in {**shown.system_attrs, **(shown.pictures or {})}.items():
        storage.set_study_system_attr(study_id, name, value)
    last = storage._max_trial_id
    for trial in shown.trials:
        storage._max_trial_id = trial._trial_id - 1
        last = max(last, storage.create_new_trial(study_id, template_trial=trial))
    storage._max_trial_id = last  # a study that is renamed in the dashboard gets new trials after all others
