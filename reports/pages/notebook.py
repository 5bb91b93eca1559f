"""A judged study as a notebook or a console shows it: the answer, a row a batch size, how far to trust it, the map."""

import base64

import pandas as pd

from reports.figures import FIGURES, plot_map
from reports.figures.pictures import draw_picture
from reports.judging.answer import HEADINGS, how_read
from reports.judging.judged import Judged
from reports.judging.verdicts import FINISHED
from reports.pages.templating import environment
from reports.style import STYLES


def to_text(judged: Judged) -> str:
    """A few lines: runs of each verdict, the answer for each batch size, the trust checks, remarks, names of the tables."""
    counts = ", ".join(f"{n} {verdict}" for verdict, n in _counts(judged).items())
    found = [f"{answer.sentence} {answer.aside and f'Note: {answer.aside}.'}".strip() for answer in judged.answers]
    tables = ", ".join(name for name, value in judged._asdict().items() if isinstance(value, pd.DataFrame))
    n_runs = len(judged.runs)
    lines = [
        f"{n_runs} run{'s' * (n_runs != 1)}: {counts}",
        *found,
        judged.overall,
        judged.own,
        *_batch_sizes(judged),
        _trust(judged),
        *judged.remarks,
        f"tables: {tables}",
    ]
    return "\n".join(filter(None, lines))


def to_html(judged: Judged) -> str:
    """The same as HTML, with a table a row a batch size and the map on white paper; all other colours are the notebook's."""
    picture = draw_picture(plot_map(judged.cells, judged.recommendations, judged.edges)) if len(judged.cells) else b""
    return (
        environment()
        .get_template("notebook.html.jinja")
        .render(
            n_runs=len(judged.runs),
            counts=[(STYLES[verdict].sign if verdict in STYLES else "", n, verdict) for verdict, n in _counts(judged).items()],
            headings=HEADINGS,
            rows=[answer.texts for answer in judged.answers],
            notes=[f"Batch size {answer.batch_size}: {answer.words}." for answer in judged.answers if answer.words],
            how_read=how_read(judged.answers, "In brackets after"),
            conditions=judged.conditions,
            sentences=list(filter(None, (judged.overall, judged.own, *_batch_sizes(judged)))),
            checks=judged.trust,
            remarks=judged.remarks,
            picture=base64.b64encode(picture).decode(),
            caption=FIGURES["map"],
        )
    )


def _batch_sizes(judged: Judged) -> list[str]:
    """How the edges move with the batch size, and where to ask for one that was not tried."""
    axis = judged.batch_axis
    ask = "of any batch size .batch_axis.at(192) says what to use"
    return [*judged.batch_sentences, ask] if axis.foretells else []


def _counts(judged: Judged) -> dict[str, int]:
    """Runs of each verdict, and those that have none."""
    runs = judged.runs
    without = runs["state"].isin(FINISHED).map({True: "without a verdict", False: "did not finish"})
    counts = runs["verdict"].fillna(without).value_counts()
    return {name: int(counts[name]) for name in (*STYLES, "without a verdict", "did not finish") if name in counts}


def _trust(judged: Judged) -> str:
    """How many checks passed, and the names of the others; "" when nothing was checked."""
    failed = [check.name for check in judged.trust if not check.passed]
    told = f"{len(judged.trust) - len(failed)} of {len(judged.trust)} checks passed" if judged.trust else ""
    return told + (f"; not to be trusted yet: {', '.join(failed)}" if failed else "")
