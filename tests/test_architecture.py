"""Arrows between packages point one way, and importing a package is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"studies", "lightning_modules", "reports", "scripts", "tests", "conftest"}
FORBIDDEN = {
    "lightning_modules": OURS - {"lightning_modules"} | {"optuna", "pandas"},
    "reports": OURS - {"reports"} | {"torch", "pytorch_lightning", "optuna"},
    "studies": {"scripts", "tests", "conftest"},
    "scripts": {"scripts", "tests", "conftest"},
}


def imports(path: Path) -> set[str]:
    """Top-level packages a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("package", FORBIDDEN)
def test_package_imports_only_what_it_may(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py")) + sorted((ROOT / package).rglob("*.pyi"))
    assert files
    assert {str(path.relative_to(ROOT)): imports(path) & FORBIDDEN[package] for path in files} == {
        str(path.relative_to(ROOT)): set() for path in files
    }


def test_importing_the_packages_is_light() -> None:
    code = "import studies, reports, lightning_modules, sys; print(sorted({'torch', 'optuna', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("package", ["studies", "reports", "lightning_modules"])
def test_stub_names_exist(package: str) -> None:
    module = __import__(package)
    assert module.__all__
    assert all(getattr(module, name) is not None for name in module.__all__)
