"""What a study teaches: its tables judged, its self-check included, and the report of that."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from lightning_modules.record import metric_name
from reports.judging.judged import Judged, judge
from reports.judging.optimizer_scales import tell_scales
from reports.judging.trust import next_changes
from reports.judging.verdicts import Thresholds
from studies.errors import BadInput
from studies.hold_out import held_out
from studies.next_run import launch_command
from studies.storage.beside import studies_beside, study_beside
from studies.storage.stored import (
    CONFIGURATION,
    HOW_TRAINED,
    LANDSCAPE,
    OPTIMIZERS,
    OPTIONS,
    OWN_LEARNING_RATE,
    REMARKS,
    SELF_CHECK_OF,
    UNFINISHED,
    budget_of,
    self_check_name,
)
from studies.tables import runs_and_curves


def judge_study(study: optuna.Study, thresholds: Thresholds | None = None) -> Judged:
    """Everything a study taught, its self-check included where there is one, by the metric its configuration monitors."""
    attributes = study.user_attrs
    facts = attributes.get(CONFIGURATION) or {}
    named, mode = facts.get("monitor") or "val_loss", facts.get("mode") or "min"
    monitor = named if named == "val_loss" else metric_name("val", named) or named  # its column in ``runs``
    options: dict[str, Any] = {"monitor": monitor, "mode": mode, "own_learning_rate": attributes.get(OWN_LEARNING_RATE)}
    # A name that does not say validation may be logged in training too, and is the height then.
    options["height_is_loss"] = named == "val_loss" or monitor != f"val_{named}"
    options["budget"] = budget_of(facts)
    options["remarks"] = attributes.get(REMARKS) or []
    options["unfinished"] = attributes.get(UNFINISHED) or ""
    if (other := held_out(study)) is not None:
        options["held_out"] = runs_and_curves(other)
    judged = judge(*runs_and_curves(study), thresholds, fresh=fresh_tables(study), **options)
    scales = [each for group in attributes.get(OPTIMIZERS) or [] for each in tell_scales(group, judged.recommendations)]
    return judged._replace(remarks=[*judged.remarks, *dict.fromkeys(scales)])


def report_study(study: optuna.Study, folder: str | Path, judged: Judged | None = None) -> Path:
    """Write the report of a study into ``folder`` and return the path of its page; judged: what ``judge_study`` returned."""
    from reports.figures.landscape import Landscape  # pictures and pages: seconds, which judging does without
    from reports.pages.folder import write_report

    judged, landscape = judged or judge_study(study), study.user_attrs.get(LANDSCAPE)
    return write_report(
        judged, folder, landscape=Landscape.from_json(landscape) if landscape else None, **_about(study, judged)
    )


def export_study(study: optuna.Study, folder: str | Path, judged: Judged, export: str | Sequence[str]) -> None:
    """Write a study for trackers, of ``reports.exports.family.EXPORTS``, beside its report, which is in ``folder`` already.

    Raises BadInput, with nothing written, for a tracker that is not known or installed, or whose folder holds what is not ours.
    """
    from reports.exports.family import require_exports, write_exports

    names = require_exports(export, Path(folder))
    if names:
        from reports.exports.exported import exported

        write_exports(exported(judged, Path(folder), **_about(study, judged)), names)


def _about(study: optuna.Study, judged: Judged) -> dict[str, Any]:
    """What a report says of a study beside what it taught."""
    from reports.pages.study import no_command

    facts = study.user_attrs
    command = partial(launch_command, study.study_name, _options(study, judged)) if OPTIONS in facts else no_command
    configuration = dict(facts.get(CONFIGURATION, {}))
    if HOW_TRAINED in facts:
        configuration["trained"] = {f"batch size {size}": how["why"] for size, how in facts[HOW_TRAINED].items()}
    return {"title": study.study_name, "configuration": configuration, "command": command}


def command_to_follow(study: optuna.Study, judged: Judged) -> str:
    """The command that mends all checks that failed, "" where there is none."""
    changes = next_changes(judged.trust)
    known = changes and OPTIONS in study.user_attrs
    return launch_command(study.study_name, _options(study, judged), changes) if known else ""


def _options(study: optuna.Study, judged: Judged) -> dict[str, Any]:
    """With which options a study was launched, and by which thresholds it was judged where they are others."""
    given, usual = vars(judged.thresholds), vars(Thresholds())
    return {**study.user_attrs[OPTIONS], **{name: value for name, value in given.items() if value != usual[name]}}


def fresh_tables(study: optuna.Study) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """``runs`` and ``curves`` of the study's self-check, or None when there was none.

    Raises BadInput when there is one by another name than it has.
    """
    if check := study_beside(study, self_check_name(study.study_name)):
        return runs_and_curves(check)
    for other in studies_beside(study):
        if (other.user_attrs.get(CONFIGURATION) or {}).get(SELF_CHECK_OF) == study.study_name:
            raise BadInput(f"study {other.study_name!r} is the self-check of {study.study_name!r}: give it its name again")
    return None
