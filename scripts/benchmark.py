"""Hold this project against the alternatives, side by side in one run: ``speed`` for the time, ``finders`` for the answer.
And against its own size: ``report`` for what judging a study of many runs takes, ``page`` for how long its page takes to open.

``speed`` trains the same runs (learning rates times seeds, with validation after each epoch) in several ways in turn and prints
the median and range of ``--repeats`` turns. The naive way is what a tutorial shows: Optuna, Lightning's defaults and a
DataLoader. The plain loop is written by hand over tensors in memory, run after run; with heights it also measures what this
project does. Ray Tune trains the naive runs, one a core. The ways that train run after run are timed on some of the runs and
multiplied. This project's times are of whole studies: preflight, measuring, storage, and the start of the workers where there
are two; the report is not included. The limit is the arithmetic of all training steps at the speed of one large matrix product.

``finders`` asks this project, Lightning's ``lr_find`` and torch-lr-finder for a learning rate and trains what each names on
fresh seeds. A study on seeds 0, 1, 2 names one learning rate a batch size; a finder names one for each fresh seed. All are
judged by the floor and the fastest of a grid that was trained on the fresh seeds alone.

``search`` trains grids of a tenth of a decade and replays on them the search and other ways of the same price: what they cost
in passes, how far off their edges are, and whether what they recommend is good on other seeds.

``report`` stores synthetic runs, whose verdicts are known from how they were made, as a study stores its own, and times the
way from the storage to the finished report, a process a size, with its peak memory.

``page`` opens such reports, and the comparison of two, from disk in Chromium, in turn, and prints the median and range of
the seconds until something is painted, until the table of runs can be used, and until the first chart can be pointed at.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studies.errors import BadInput

sys.path.insert(0, str(Path(__file__).parent))  # wherever this file is started from, in the processes it starts too

from benchmarks.finders import CASES, compare_answers
from benchmarks.own_process import quiet
from benchmarks.page import measure_pages
from benchmarks.report import measure_reports
from benchmarks.search import CASES as SEARCHED
from benchmarks.search import compare_searches
from benchmarks.speed import compare_speed
from benchmarks.ways import WAYS
from benchmarks.works import WORKS

from studies.commands.command_line import make_parser, parse, run

COMMANDS = {
    "speed": compare_speed,
    "finders": compare_answers,
    "search": compare_searches,
    "report": measure_reports,
    "page": measure_pages,
}
NAMES: dict[str, Mapping[str, Any]] = {"works": WORKS, "ways": dict.fromkeys(WAYS), "cases": CASES}  # options that take names
MEMBERS = "members trained in one fit, of which time and memory are told (default: 1 4 16 64 256)"
KEPT = "where to keep studies and pages (default: nowhere)"


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The options; ``subcommand`` says which benchmark."""
    speed, finders, search, report, page = (make_parser() for _ in COMMANDS)
    text = f"of {', '.join(SEARCHED)} (default: all)"
    search.add_argument("--cases", nargs="+", default=list(SEARCHED), metavar="NAME", help=text)
    search.add_argument(
        "--repeats", type=Any, default=5, metavar="N", help="searches of each case, on other seeds (default: 5)"
    )
    search.add_argument("--csv", default=None, metavar="FILE", help="also write a row a search (default: none)")
    for parser, option in ((speed, "works"), (speed, "ways"), (finders, "cases")):
        text = f"of {', '.join(NAMES[option])} (default: all)"
        parser.add_argument(f"--{option}", nargs="+", default=list(NAMES[option]), metavar="NAME", help=text)
    speed.add_argument("--data-root", default="data", metavar="FOLDER", help="the folder that holds MNIST/raw (default: data)")
    speed.add_argument("--repeats", type=Any, default=3, metavar="N", help="turns of each way (default: 3)")
    speed.add_argument("--members", nargs="*", default=[1, 4, 16, 64, 256], type=Any, metavar="N", help=MEMBERS)
    speed.add_argument("--out", default="outputs/speed", metavar="FOLDER", help="where the tables go (default: outputs/speed)")
    finders.add_argument("--seeds", type=Any, default=5, metavar="N", help="fresh seeds (default: 5)")
    finders.add_argument("--csv", default=None, metavar="FILE", help="also write a row a suggestion (default: none)")
    for parser, option, sizes, what in (
        (report, "trials", [1000, 3000, 10000], "runs of each study"),
        (page, "trials", [153, 2000, 10000], "runs of each study"),
        (page, "compared", [2000], "runs of both studies of each comparison"),
    ):
        text = f"{what} (default: {' '.join(map(str, sizes))})"
        parser.add_argument(f"--{option}", type=Any, nargs="+", default=sizes, metavar="N", help=text)
    page.add_argument("--repeats", type=Any, default=5, metavar="N", help="times each page is opened (default: 5)")
    for parser in (report, page):
        parser.add_argument("--folder", default=None, metavar="FOLDER", help=KEPT)
    parser = make_parser(__doc__)
    commands = parser.add_subcommands()
    commands.add_subcommand("speed", speed, help="time the same studies by this project, by hand, naively and by Ray Tune")
    commands.add_subcommand("finders", finders, help="compare learning rates with those of lr_find and torch-lr-finder")
    commands.add_subcommand("search", search, help="what the search costs and finds, beside other ways of the same price")
    commands.add_subcommand("report", report, help="time the report of synthetic studies of many runs")
    commands.add_subcommand("page", page, help="time how pages of many runs open in Chromium")
    return parse(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark that was asked for."""
    chosen = parse_args(argv)
    options = chosen[chosen["subcommand"]]
    for option in NAMES.keys() & options.keys():
        known = SEARCHED if chosen["subcommand"] == "search" else NAMES[option]
        for name in options[option]:
            if name not in known:
                raise BadInput(f"{option} must be of {', '.join(known)}, got {name!r}")
    quiet()
    COMMANDS[chosen["subcommand"]](options)
    return 0


if __name__ == "__main__":
    sys.exit(run(main, "benchmark"))
