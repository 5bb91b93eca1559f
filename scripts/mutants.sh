#!/usr/bin/env bash
# Changes reports/judging in small ways, one at a time, and says how many of these mutants its tests kill and which live.
# Arguments name modules, such as "verdicts edges" (default: those that make the answer); each is held against its own tests.
# SAMPLE=37 tries only mutants whose number ends in 3 or 7, a fifth; JOBS says how many at once (default: 2).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
modules=("$@")
[ $# -gt 0 ] || modules=(verdicts cells final_height edges recommendation trust self_check ranges next_range)
for module in "${modules[@]}"; do
  [ -f "reports/judging/$module.py" ] || { echo "$0: a module of reports/judging is needed, got $module" >&2; exit 2; }
done
[ -x .venv/bin/mutmut ] || make_environment '.[dev]'
bin="$PWD/.venv/bin"
# Left out, as they take seconds: many random examples, reference grids, training, pages.
slow='closed_form or shifting or another_unit or any_ or third or keep_their_order or reference or untrained or are_written'
copy=$(mktemp -d) # the tree itself stays as it is
trap 'rm -rf "$copy"' EXIT
cp -r reports studies lightning_modules tests pyproject.toml "$copy"
cd "$copy"
SECONDS=0
for module in "${modules[@]}"; do
  case $module in # tests of another name
    cells | final_height) tests=(verdicts) ;; self_check | judged) tests=(trust) ;; ranges) tests=(ranges next_range) ;;
    curve_*) tests=(single_run) ;; *) tests=("$module") ;;
  esac
  echo "== reports/judging/$module.py against the tests of ${tests[*]}"
  {
    printf '%s\n' '[mutmut]' "only_mutate = reports/judging/$module.py" 'source_paths = reports'
    printf '%s\n' 'also_copy =' ' studies' ' lightning_modules' 'pytest_add_cli_args_test_selection ='
    printf ' tests/test_reports_%s.py\n' "${tests[@]}"
    printf '%s\n' 'pytest_add_cli_args =' ' -p' ' no:cacheprovider' ' --hypothesis-seed=0' ' -k' " not ($slow)"
  } >setup.cfg
  rm -rf mutants
  "$bin/mutmut" run --max-children "${JOBS:-2}" ${SAMPLE:+"*__mutmut_*[$SAMPLE]"} >log 2>&1 || { tail -30 log >&2; exit 1; }
  "$bin/mutmut" results --all true | grep -v 'not checked' | tee -a results | { grep -vE ': (killed|timeout)$' || true; } |
    "$bin/python" -c 'import re, sys
from mutmut.mutation.diff_apply import get_diff_for_mutant
for name, status in (line.strip().split(": ") for line in sys.stdin):
    print(f"{name}: {status}", *re.findall(r"^[-+] .*", get_diff_for_mutant(name, path=sys.argv[1]), re.M), sep="\n")
' "reports/judging/$module.py"
done
echo "== killed: $(grep -cE ': (killed|timeout)$' results) of $(wc -l <results) mutants, $SECONDS s"
