# Sourced by quickstart.sh and test.sh: a virtual environment in .venv with the project installed.

# Runs of a study are small: two threads for one of them cost more than they gain.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

make_environment() { # $1: what pip installs, "." or ".[dev]"
  local python="${PYTHON:-python3}"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "$0: Python 3.11 or newer is needed, $python is $("$python" --version 2>&1): set PYTHON" >&2
    exit 2
  }
  SECONDS=0
  if [ ! -x .venv/bin/python ]; then
    echo "== making .venv with $("$python" --version)"
    "$python" -m venv .venv
  fi
  echo "== installing $1 into .venv (several minutes and 6 GB the first time: PyTorch)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable "$1"
  echo "== install: ${SECONDS} s"
}
