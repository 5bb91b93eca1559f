"""Make the modules of the current folder importable, as they are for a script that lies there."""

import importlib
import sys
from pathlib import Path
from pkgutil import extend_path

OURS = ("studies", "reports", "lightning_modules")


def add_current_folder() -> None:
    """Append the current folder to ``sys.path``; where it has folders named like our packages, their modules are found too.

    It comes last, so that what is installed wins: a ``reports`` folder of the user's does not hide ours.
    ``studies/net.py`` of the user's is ``studies.net``, unless ours has a module of that name.
    """
    here = str(Path.cwd())
    if not {"", here} & set(sys.path):
        sys.path.append(here)
    for name in OURS:
        package = importlib.import_module(name)
        package.__path__ = extend_path(package.__path__, name)
