"""A judged study as a notebook or a console shows it: the answer, a row a batch size, how far to trust it, the map."""

from __future__ import annotations

import base64

import pandas as pd

from reports.figures import FIGURES, plot_map
from reports.figures.pictures import draw_picture
from reports.judging.edges import COVERAGE, EDGES
from reports.judging.judged import Judged
from reports.judging.verdicts import FINISHED
from reports.pages.study import answers
from reports.pages.templating import environment
from reports.style import STYLES, describe_edge, format_number


def to_text(judged: Judged) -> str:
    """A few lines: runs of each verdict, the answer for each batch size, the trust checks, remarks, names of the tables."""
    counts = ", ".join(f"{n} {verdict}" for verdict, n in _counts(judged).items())
    found = [sentence + (f" Note: {note}." if note else "") for sentence, note, _ in answers(judged)]
    tables = ", ".join(name for name, value in judged._asdict().items() if isinstance(value, pd.DataFrame))
    n_runs = len(judged.runs)
    lines = [
        f"{n_runs} run{'s' * (n_runs != 1)}: {counts}",
        *found,
        judged.overall,
        judged.own,
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
            headings=["batch size", "use", "good on new seeds", *EDGES],
            rows=_rows(judged),
            notes=[f"Batch size {row.batch_size}: {row.note}." for row in judged.ranges.itertuples() if row.note],
            sentences=list(filter(None, (judged.overall, judged.own))),
            checks=judged.trust,
            remarks=judged.remarks,
            picture=base64.b64encode(picture).decode(),
            caption=FIGURES["map"],
        )
    )


def _counts(judged: Judged) -> dict[str, int]:
    """Runs of each verdict, and those that have none."""
    runs = judged.runs
    without = (runs["state"] == FINISHED).map({True: "without a verdict", False: "did not finish"})
    counts = runs["verdict"].fillna(without).value_counts()
    return {name: int(counts[name]) for name in (*STYLES, "without a verdict", "did not finish") if name in counts}


def _rows(judged: Judged) -> list[list[str]]:
    """What to use, where that is good, and the three edges of each batch size."""
    uses, rows = judged.recommendations.set_index("batch_size").to_dict("index"), []
    for size in judged.ranges["batch_size"]:
        edges = judged.edges[judged.edges["batch_size"] == size].to_dict("records")
        use = ["none", ""]
        if size in uses:
            rate, low, high = (format_number(uses[size][name]) for name in ("learning_rate", "low", "high"))
            use = [rate, f"{low} to {high}" + (" (on half)" if uses[size]["interval_share"] < COVERAGE else "")]
        rows.append([str(size), *use, *([describe_edge(row, short=True) for row in edges] or ["-"] * len(EDGES))])
    return rows


def _trust(judged: Judged) -> str:
    """How many checks passed, and the names of the others; "" when nothing was checked."""
    failed = [check.name for check in judged.trust if not check.passed]
    told = f"{len(judged.trust) - len(failed)} of {len(judged.trust)} checks passed" if judged.trust else ""
    return told + (f"; not to be trusted yet: {', '.join(failed)}" if failed else "")
