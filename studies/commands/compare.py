"""Compare stored studies, the first with each other one: what moved, and what exceeds the spread of the seeds."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studies.commands.command_line import STORAGE, add_json, add_thresholds, fail_at_work, make_parser, parse
from studies.errors import BadInput
from studies.storage.database_url import without_password
from studies.storage.stored import CONFIGURATION, HOW_TRAINED, OPTIMIZERS

NOT_GOOD = 4  # exit code of --require-good; the others are in ``studies.commands.command_line``
ENDINGS = (".db", ".sqlite", ".sqlite3")
STUDIES = (
    "names of studies, the first is the one the others are compared with; a file or URL among them is the storage of those"
    f" that follow, as before.db digits after.db digits (default storage: {STORAGE})"
)


def parse_args(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The options."""
    parser = make_parser(__doc__, "compare")
    parser.add_argument("studies", nargs="+", metavar="STORAGE|NAME", help=STUDIES)
    parser.add_argument("--labels", nargs="+", metavar="LABEL", help="what to call the studies (default: their names)")
    parser.add_argument(
        "--out", default="outputs", metavar="FOLDER", help="the page goes to FOLDER/compare-NAME-NAME (default: outputs)"
    )
    parser.add_argument(
        "--require-good",
        action="store_true",
        help=f"exit with {NOT_GOOD} unless what the first recommends is good in the others, at every batch size they share",
    )
    add_thresholds(parser)
    add_json(parser)
    return parse(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the studies, judge and compare them, write the folder."""
    options = parse_args(argv)
    chosen = choose_studies(options["studies"])
    labels = label_studies(chosen, options["labels"])
    from reports import Thresholds
    from studies.config import folder_name
    from studies.storage.opening import load_study
    from studies.storage.writable import require_writable

    thresholds = Thresholds(tau=options["tau"], rho=options["rho"], target_loss=options["target_loss"])
    studies = {label: load_study(storage, name) for label, (storage, name) in zip(labels, chosen, strict=True)}
    folder = Path(options["out"]) / folder_name("-".join(["compare", *labels]).replace("(", "").replace(")", ""))
    require_writable(folder, "out")

    # figures: seconds, so only once the places are known
    from reports.comparison.answers import summarize
    from reports.comparison.folder import write_comparison
    from reports.comparison.tables import compare, find_not_good
    from studies.answers import judge_study
    from studies.commands.terminal import print_json

    storages = ", ".join(dict.fromkeys(without_password(storage) for storage, _ in chosen))
    try:
        judged = {label: judge_study(study, thresholds) for label, study in studies.items()}
        facts = {label: study.user_attrs for label, study in studies.items()}
        told = (
            {label: _configuration(each) for label, each in facts.items()},
            {k: v.get(OPTIMIZERS, []) for k, v in facts.items()},
        )
        comparison = compare(judged, *told)
        failures = find_not_good(comparison) if options["require_good"] else []
        page = write_comparison(comparison, judged, folder)
    except Exception as error:
        return fail_at_work(error, folder=str(folder), storage=storages)
    if options["json"]:
        print_json(page)
    else:
        notes = [f"note: {note}" for note in comparison.notes]
        print(*summarize(comparison), *notes, f"comparison: {page}", sep="\n")
    print("".join(f"require-good: {failure}\n" for failure in failures), end="", file=sys.stderr)
    return NOT_GOOD if failures else 0


def choose_studies(words: Sequence[str]) -> list[tuple[str, str]]:
    """Storage and name of each study; a word is a storage when it is a URL, a file, or ends as an SQLite file does.

    The word after a storage is a name, whatever it looks like.

    Raises ValueError for fewer than two studies, the same one twice, and a storage without names.

    >>> choose_studies(["before.db", "digits", "wine", "after.db", "digits"])
    [('before.db', 'digits'), ('before.db', 'wine'), ('after.db', 'digits')]
    """
    chosen: list[tuple[str, str]] = []
    storage, used = STORAGE, True
    for word in words:
        if used and ("://" in word or word.endswith(ENDINGS) or os.path.isfile(word)):
            storage, used = word, False
        else:
            chosen.append((storage, word))
            used = True
    if not used:
        raise BadInput(f"a storage must be followed by names of its studies, {without_password(storage)!r} is not")
    if len(chosen) < 2:
        raise BadInput(f"studies must be at least two to compare, got {', '.join(name for _, name in chosen)}")
    same = [study for k, study in enumerate(chosen) if _resolved(study) in map(_resolved, chosen[:k])]
    if same:
        raise BadInput(f"studies must differ, {same[0][1]!r} in {without_password(same[0][0])!r} was given twice")
    return chosen


def _resolved(study: tuple[str, str]) -> tuple[str, str]:
    storage, name = study
    return (storage if "://" in storage else f"sqlite:///{Path(storage).resolve()}", name)


def label_studies(chosen: Sequence[tuple[str, str]], labels: Sequence[str] | None = None) -> list[str]:
    """What each study is called: the labels given, or its name, with its storage where names are equal.

    Raises ValueError unless there is one label a study and no two are equal.

    >>> label_studies([("before.db", "digits"), ("after.db", "digits"), ("after.db", "wine")])
    ['digits (before)', 'digits (after)', 'wine']
    """
    names = [name for _, name in chosen]
    if labels is not None and len(labels) != len(chosen):
        raise BadInput(f"labels must be one a study, got {len(labels)} for {len(chosen)} studies")
    short = {place: Path(place.partition("?")[0]).stem for place, _ in chosen}  # of a URL the database
    found = list(labels or (name if names.count(name) == 1 else f"{name} ({short[place]})" for place, name in chosen))
    twice = [label for label in found if found.count(label) > 1]
    if twice:
        raise BadInput(f"labels must tell the studies apart, got {twice[0]!r} twice: give --labels")
    return found


def _configuration(facts: dict[str, Any]) -> dict[str, Any]:
    """What a study was set to, and whether its runs were trained together, which their seconds depend on."""
    trained = {size: "fused" if how["members"] > 1 else "alone" for size, how in facts.get(HOW_TRAINED, {}).items()}
    return {**facts.get(CONFIGURATION, {}), "trained at batch size": trained}
