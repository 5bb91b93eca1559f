#!/usr/bin/env bash
# Makes .venv, installs the project and runs the default study: digits, 3 batch sizes, 3 seeds.
# PYTHON names the interpreter (default: python3); further arguments go to launch_study.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
make_environment .
echo "== running the default study"
SECONDS=0
.venv/bin/python scripts/launch_study.py "$@"
echo "== study: ${SECONDS} s"
