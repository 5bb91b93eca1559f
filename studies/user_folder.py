"""Make the modules of the current folder importable, as they are for a script that lies there."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

OURS = ("studies", "reports", "lightning_modules")


def add_current_folder() -> None:
    """Append the current folder to ``sys.path``; where it has folders named like our packages, their modules are found too.

    It comes last, so that what is installed wins: a ``reports`` folder of the user's does not hide ours.
    ``studies/net.py`` of the user's is ``studies.net``, unless ours has a module of that name.
    """
    here = Path.cwd()
    if not {"", str(here)} & set(sys.path):
        sys.path.append(str(here))
    for name in OURS:
        theirs, places = here / name, importlib.import_module(name).__path__
        if theirs.is_dir() and theirs.resolve() not in {Path(place).resolve() for place in places}:
            places.append(str(theirs))
