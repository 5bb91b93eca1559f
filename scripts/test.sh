#!/usr/bin/env bash
# Makes .venv if needed, installs the project with its dev extra and runs lint, types and tests.
# PYTHON names the interpreter (default: python3); further arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
make_environment '.[dev]'
echo "== lint";  .venv/bin/ruff check .; .venv/bin/ruff format --check .
echo "== types"; .venv/bin/mypy
echo "== tests"; .venv/bin/python -m pytest -n 2 "$@"
