"""The family of exports: what of a study goes to which tracker, asked for by name and checked before anything is trained.

A new one is a file with what ``Member`` names, and an entry here. Its import is light: ``write`` alone imports the tracker's
package, which is called as the export is.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from reports.errors import BadInput
from reports.exports import mlflow, tensorboard

if TYPE_CHECKING:
    from reports.exports.exported import Exported


class Member(Protocol):
    """A module of this package that writes for one tracker."""

    FOLDER: str
    """Where in the folder of the report."""

    def look(self, place: Path, /) -> tuple[list[str], str]:
        """The command that shows what is in ``place``, and the page to open then."""

    def strangers(self, place: Path, /) -> str:
        """What is in ``place``, a folder, that we did not write, in a few words; "" where there is nothing."""

    def write(self, study: "Exported", place: Path, /) -> None:
        """Write a study; what we wrote into ``place`` before is replaced as a whole."""


EXPORTS: dict[str, Member] = {"tensorboard": tensorboard, "mlflow": mlflow}


def require_exports(given: Any, folder: Path) -> list[str]:
    """The exports asked for, each once; folder: of the report.

    Raises BadInput for a name that is not known, a tracker that is not installed, and a place that holds what is not ours.
    """
    names = [] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name in EXPORTS for name in names):
        raise BadInput(f"export must be one or more of {', '.join(EXPORTS)}, got {given!r}")
    for name in names:
        if getattr(find_spec(name), "origin", None) is None:  # a folder of that name is no package
            raise BadInput(f"export {name} needs the package {name}: pip install 'learning-rate-studies[{name}]'")
        place = folder / EXPORTS[name].FOLDER
        if place.is_symlink() or place.exists() and not place.is_dir():
            raise BadInput(f"export {name} writes a folder {str(place)!r}, and there is something else: move it away")
        if place.exists() and (found := EXPORTS[name].strangers(place)):
            raise BadInput(f"export {name} replaces what is in {str(place)!r}, and there is {found}: move that away")
    return list(dict.fromkeys(names))


def look_at(name: str, folder: Path) -> tuple[list[str], str]:
    """The command that shows an export, and the page to open then; folder: of the report."""
    return EXPORTS[name].look(folder / EXPORTS[name].FOLDER)


def write_exports(study: "Exported", names: Sequence[str]) -> None:
    """Write a study for each tracker, beside its report, which is there already."""
    for name in names:
        EXPORTS[name].write(study, study.report / EXPORTS[name].FOLDER)
