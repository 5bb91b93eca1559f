"""Arrows between packages point one way, and importing a package is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from studies import StudyConfig, run_study

ROOT = Path(__file__).parents[1]
PACKAGES = ("studies", "reports", "lightning_modules")
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


HEAVY = (
    "torch",
    "pytorch_lightning",
    "matplotlib",
    "plotly",
    "optuna",
    "pandas",
    "scipy",
    "sqlalchemy",
    "mlflow",
    "tensorboard",
)
STORAGE = {"optuna", "pandas", "scipy", "sqlalchemy"}  # pandas and scipy: optuna.importance, which Optuna imports
MAY_IMPORT = {  # what each use of the project has to wait for
    "import studies, reports, lightning_modules": set[str](),
    "studies.StudyConfig()": set[str](),
    "lr-study --help": set[str](),
    "lr-study launch --help": set[str](),
    "lr-study launch --points nonsense": set[str](),
    "lr-study admin list": STORAGE,
    "lr-study admin export digits --overwrite": STORAGE,
    "lr-study compare digits nonsense": STORAGE,
    "lr-study admin show digits": STORAGE,
    "lr-study report": STORAGE | {"matplotlib", "plotly"},
    "lr-study compare digits wider": STORAGE | {"matplotlib", "plotly"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two finished studies."""
    folder = tmp_path_factory.mktemp("place")
    for name, points in (("digits", 3), ("wider", 4)):
        config = StudyConfig(
            points=points, batch_size=256, seeds=1, epochs=1, storage=f"{folder}/outputs/studies.db", name=name
        )
        run_study(config, out=folder / "outputs" / name)
    return folder


@pytest.mark.parametrize("use", MAY_IMPORT)
def test_a_command_imports_no_more_than_it_needs(use: str, place: Path) -> None:
    code = f"from studies.commands.lr_study import main; main({use.split()[1:]})" if "lr-study" in use else use
    at_exit = f"lambda: print(sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)"
    told = f"import atexit, sys, studies\natexit.register({at_exit})\n{code}"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=place)
    assert set(ast.literal_eval(done.stderr.splitlines()[-1])) <= MAY_IMPORT[use]


def test_no_modules_import_each_other_in_a_circle() -> None:
    """But for what shows a judged study, which shows itself in notebooks."""
    files = {_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    arrows = {name: _modules(path, set(files)) - {name} for name, path in files.items()}
    arrows["reports.judging.judged"].remove("reports.pages.notebook")
    while leaves := {name for name, found in arrows.items() if not found & set(arrows)}:
        arrows = {name: found for name, found in arrows.items() if name not in leaves}
    assert not arrows


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _modules(path: Path, known: set[str]) -> set[str]:
    """Which of the known modules a file imports, anywhere in it."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    named = {(node.module or "", f"{node.module}.{alias.name}") for node in nodes for alias in node.names}
    return {inner if inner in known else outer for outer, inner in named} & known


@pytest.mark.parametrize("package", ["studies", "reports", "lightning_modules"])
def test_stub_names_exist(package: str) -> None:
    module = __import__(package)
    assert module.__all__
    assert all(getattr(module, name) is not None for name in module.__all__)
