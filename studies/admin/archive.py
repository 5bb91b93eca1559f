"""A study as one file to carry elsewhere: tables for people, and all its trials, so that it can be gone on with there.

The file is a ZIP of text, of which the last two are there for studies of this project alone:

=========================  ======================================================================================
format.json                what this is, its version, and the SHA-256 of each other member
configuration.json         name, directions and attributes of the study, and those of its self-check or null
trials.jsonl               a trial a line, in order of number: floats to the last digit (``Infinity``), times in UTC
self_check_trials.jsonl    those of the self-check, where there is one
runs.csv, curves.csv       the tables of ``studies.tables``
=========================  ======================================================================================
"""

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from reports.pages.spreadsheet import to_csv
from reports.pages.written_file import write_file
from studies import trials
from studies.errors import BadInput
from studies.storage.beside import study_beside, system_attributes
from studies.storage.checksums import verified_trials
from studies.storage.stored import CONFIGURATION, OPTIONS, SELF_CHECK_OF, self_check_name
from studies.tables import curves_table, runs_table

FORMAT, VERSION = "learning-rate study", 1
ABOUT, STUDY = "format.json", "configuration.json"
TRIALS, CHECK_TRIALS = "trials.jsonl", "self_check_trials.jsonl"
RUNS, CURVES = "runs.csv", "curves.csv"
MOST_BYTES = 8 << 30  # of all members unpacked: a hundred times what 10,000 runs take
MOST_LINE = 64 << 20  # bytes of a trial, or of all attributes of a study
BLOCK = 1 << 20
IMPORTING = "importing:"  # before the name of a study whose import has not ended: no launch can give that name
# What ``zipfile`` raises of bytes that are no ZIP.
DAMAGED = (BadZipFile, zlib.error, EOFError, OSError, RuntimeError, UnicodeDecodeError)
NOT_OURS = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)  # JSON that holds something else
TRIAL_ID = re.compile(r"(?<=^dashboard:)\d+(?=:)")  # in the names of attributes that hold the notes of trials


def export_study(study: optuna.Study, path: Path) -> None:
    """Write a study, and its self-check where there is one, to ``path``, in one step; what runs meanwhile is not waited for."""
    buffer, digests = BytesIO(), {}
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        for name, parts in _members(study):
            digest = sha256()
            with archive.open(name, "w", force_zip64=True) as member:
                for part in parts:
                    member.write(part)
                    digest.update(part)
            digests[name] = digest.hexdigest()
        archive.writestr(ABOUT, json.dumps({"format": FORMAT, "version": VERSION, "sha256": digests}, indent=2))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, buffer.getvalue())


def _members(study: optuna.Study) -> Iterator[tuple[str, Iterable[bytes]]]:
    found = verified_trials(study)  # once: all members show the same moment
    about, checks = {"name": study.study_name, **_attributes(study, found), "self_check": None}, None
    if check := study_beside(study, self_check_name(study.study_name)):
        checks = verified_trials(check)
        about["self_check"] = _attributes(check, checks)
    yield STUDY, [json.dumps(about, indent=2).encode()]
    yield TRIALS, map(_as_line, found)
    if checks is not None:
        yield CHECK_TRIALS, map(_as_line, checks)
    if CONFIGURATION in study.user_attrs:
        moment = optuna.create_study()  # in memory
        moment.add_trials(found)
        yield RUNS, [to_csv(runs_table(moment))]
        yield CURVES, [to_csv(curves_table(moment))]


def _attributes(study: optuna.Study, found: Iterable[FrozenTrial]) -> dict[str, Any]:
    """What a study holds beside its trials; ids of trials, which belong to a storage, become numbers."""
    numbers = {trial._trial_id: trial.number for trial in found}
    return {
        "directions": [direction.name for direction in study.directions],
        "user_attrs": study.user_attrs,
        "system_attrs": _renamed(system_attributes(study), numbers),
    }


def _renamed(attributes: Mapping[str, Any], names: Mapping[int, int]) -> dict[str, Any]:
    """The attributes with each trial called by what ``names`` calls it; those of trials that are not there are left out."""
    found = {name: TRIAL_ID.search(name) for name in attributes}
    return {
        name if at is None else f"{name[: at.start()]}{names[int(at[0])]}{name[at.end() :]}": attributes[name]
        for name, at in found.items()
        if at is None or int(at[0]) in names
    }


def _as_line(trial: FrozenTrial) -> bytes:
    record = {
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "started": _utc(trial.datetime_start),
        "ended": _utc(trial.datetime_complete),
        "params": trial.params,
        "distributions": {name: json.loads(distribution_to_json(kind)) for name, kind in trial.distributions.items()},
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
        "intermediate_values": trial.intermediate_values,
    }
    return json.dumps(record).encode() + b"\n"


def _as_trial(line: bytes, number: int) -> FrozenTrial:
    record = json.loads(line)
    if record["number"] != number:
        raise ValueError(f"its number is {record['number']!r}")
    steps = record["intermediate_values"]
    trial = create_trial(  # checks what would make a storage unreadable, such as a value that is not a number
        state=TrialState[record["state"]],
        values=record["values"],
        params=dict(record["params"]),
        distributions={name: json_to_distribution(json.dumps(kind)) for name, kind in record["distributions"].items()},
        user_attrs=dict(record["user_attrs"]),
        system_attrs=dict(record["system_attrs"]),
        intermediate_values={int(step): float(value) for step, value in steps.items()},
    )
    trial.datetime_start, trial.datetime_complete = _local(record["started"]), _local(record["ended"])
    return trial


def _utc(time: datetime | None) -> str | None:
    """Optuna's times are local, without saying so."""
    return None if time is None else time.astimezone(UTC).isoformat()


def _local(time: str | None) -> datetime | None:
    return None if time is None else datetime.fromisoformat(time).astimezone().replace(tzinfo=None)


class Archive:
    """A file that ``export_study`` wrote, its checksums compared; get it from ``open_archive``.

    about: what ``configuration.json`` holds.
    """

    def __init__(self, file: ZipFile, path: str) -> None:
        self._file, self._path = file, path
        listed = file.infolist()
        self._members = {member.filename: member for member in listed}
        if ABOUT not in self._members:
            raise BadInput(f"archive must be a file that export wrote, {path!r} holds no {ABOUT}")
        size = sum(member.file_size for member in listed)
        if size > MOST_BYTES:
            raise BadInput(f"archive must unpack to at most {MOST_BYTES} bytes, {path!r} says {size}")
        digests = self._check_format()
        if len(listed) != len(digests) + 1 or set(self._members) != {ABOUT, *digests} or not {STUDY, TRIALS} <= set(digests):
            raise BadInput(f"archive {path!r} is damaged: it holds {sorted(self._members)}, not what its {ABOUT} must list")
        for name, wanted in digests.items():
            digest = sha256()
            for block in self._blocks(name):
                digest.update(block)
            if digest.hexdigest() != wanted:
                raise BadInput(f"archive {path!r} is damaged: the checksum of {name} is not the one it had")
        self.about = self._json(STUDY)
        try:
            for part in filter(None, (self.about, self.about["self_check"])):
                directions(part)
                ours = [part["user_attrs"].get(key, {}) for key in (OPTIONS, CONFIGURATION)]
                if not all(isinstance(each, dict) for each in (part["user_attrs"], part["system_attrs"], *ours)):
                    raise TypeError("attributes")
            if not isinstance(self.about["name"], str) or (CHECK_TRIALS in digests) != (self.about["self_check"] is not None):
                raise ValueError("name or self_check")
        except NOT_OURS as error:
            raise BadInput(f"archive {path!r} holds no study of format {VERSION}: {error!r} in {STUDY}") from error

    def trials(self, member: str) -> Iterator[FrozenTrial]:
        """The trials of ``trials.jsonl`` or ``self_check_trials.jsonl``, one after the other."""
        for number, line in enumerate(self._lines(member)):
            try:
                yield _as_trial(line, number)
            except NOT_OURS as error:
                reason = " ".join(str(error).split())
                raise BadInput(f"archive {self._path!r} holds no trial in line {number + 1} of {member}: {reason}") from error

    def _check_format(self) -> dict[str, str]:
        """The checksums of the other members, of a format that we read."""
        about = self._json(ABOUT)
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise BadInput(f"archive must be a file that export wrote, {self._path!r} says it is something else")
        if about.get("version") != VERSION:
            raise BadInput(f"archive must be of format {VERSION}, {self._path!r} is of format {about.get('version')!r}")
        digests = about.get("sha256")
        if not isinstance(digests, dict):
            raise BadInput(f"archive {self._path!r} is damaged: its {ABOUT} has no checksums")
        return digests

    def _json(self, member: str) -> Any:
        if self._members[member].file_size > MOST_LINE:
            raise BadInput(f"{member} of an archive must hold at most {MOST_LINE} bytes, {self._path!r} says more")
        try:
            return json.loads(b"".join(self._blocks(member)))
        except (ValueError, RecursionError) as error:
            raise BadInput(f"archive {self._path!r} is damaged: its {member} is no JSON ({error})") from error

    def _lines(self, member: str) -> Iterator[bytes]:
        with self._open(member) as file:
            while line := file.readline(MOST_LINE + 1):
                if len(line) > MOST_LINE:
                    raise BadInput(f"a line of {member} must hold at most {MOST_LINE} bytes, {self._path!r} has a longer one")
                yield line

    def _blocks(self, member: str) -> Iterator[bytes]:
        with self._open(member) as file:
            while block := file.read(BLOCK):  # never more than the size it says: a bomb is refused by that
                yield block

    @contextmanager
    def _open(self, member: str) -> Iterator[Any]:
        found = self._members[member]
        with readable(self._path):
            if found.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
                raise BadZipFile(f"{member} is packed in another way")
            with self._file.open(found) as file:
                yield file


@contextmanager
def readable(path: str) -> Iterator[None]:
    """What ``zipfile`` finds wrong with a file, as one sentence."""
    try:
        yield
    except DAMAGED as error:
        raise BadInput(f"archive {path!r} is damaged, or no ZIP file that export wrote: {error}") from error


@contextmanager
def open_archive(path: str) -> Iterator[Archive]:
    """A file that ``export_study`` wrote, checked against its checksums; nothing is unpacked to disk.

    Raises ValueError, with one sentence, for a file that is missing, damaged, too large, or something else.
    """
    if not Path(path).is_file():
        found = "a folder" if Path(path).is_dir() else "no file"
        raise BadInput(f"archive must be a file that export wrote, got {found} at {path!r}")
    with readable(path):
        file = ZipFile(path)
    with file:
        yield Archive(file, path)


def import_study(archive: Archive, storage: RDBStorage, name: str, *, place: str) -> None:
    """Put a study, and its self-check, into a storage as ``name``; nothing is there by that name before all of it is.

    The study must be held: ``locked``. place: the storage as its attributes shall tell it, without a password.

    Raises ValueError when the name is taken, and for an archive that holds something else.
    """
    parts = {name: (archive.about, TRIALS)}
    if archive.about["self_check"] is not None:
        parts[self_check_name(name)] = (archive.about["self_check"], CHECK_TRIALS)
    known = {study.study_name for study in storage.get_all_studies()}
    taken = sorted(known & {name, self_check_name(name)})
    if taken:
        raise BadInput(f"name must be new in {place!r}, there is a study {taken[0]!r}: give --name NEW")
    trials.delete(storage, [IMPORTING + each for each in (name, self_check_name(name))])  # of an import that was killed
    try:
        for each, (about, member) in parts.items():
            study = trials.create_study(storage, IMPORTING + each, directions(about))
            _fill(study, archive.trials(member), about, name=name, place=place)
        trials.rename(storage, {IMPORTING + each: each for each in parts})
    except BaseException:
        trials.delete(storage, [IMPORTING + each for each in parts])
        raise


def _fill(study: optuna.Study, found: Iterable[FrozenTrial], about: Mapping[str, Any], *, name: str, place: str) -> None:
    """Put trials and attributes into a study that is empty; those that tell its name or place tell the new ones."""
    ids = {number: trials.copy_trial(study, trial) for number, trial in enumerate(found)}
    for key, value in about["user_attrs"].items():
        trials.set_attribute(study, key, {**value, "name": name, "storage": place} if key == OPTIONS else value)
    for key, value in _renamed(about["system_attrs"], ids).items():
        trials.set_system_attribute(study, key, value)
    configuration = about["user_attrs"].get(CONFIGURATION, {})
    if configuration.get(SELF_CHECK_OF, name) != name:
        trials.write_configuration(study, configuration | {SELF_CHECK_OF: name})


def directions(about: Mapping[str, Any]) -> list[StudyDirection]:
    """Of the objectives of a study in an archive."""
    return [StudyDirection[direction] for direction in about["directions"]]
