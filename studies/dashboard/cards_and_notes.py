"""What Optuna Dashboard shows of a study: its note, three charts, a note a run, and short columns instead of our long JSON."""

import json
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import optuna
import pandas as pd
from optuna_dashboard import get_note, save_note, save_plotly_graph_object
from optuna_dashboard._named_objectives import SYSTEM_ATTR_NAME
from optuna_dashboard._note import note_ver_key

from lightning_modules.record import metric_name
from reports.charts.marks import Chart
from reports.charts.study import edges_chart, map_chart, times_chart
from reports.judging.followed import NO_VERDICT
from reports.judging.judged import Judged
from reports.judging.trust import next_changes
from reports.pages.study import TRACEBACK_LINES
from reports.pages.templating import flat_options, markdown_text
from reports.style import BRACKETS, STYLES
from studies.admin.inventory import Runs, plan_of
from studies.next_run import launch_command
from studies.storage.beside import system_attributes
from studies.storage.stored import (
    BRACKET,
    BUDGETS,
    CONFIGURATION,
    HOW_TRAINED,
    LANDSCAPE,
    OPTIMIZERS,
    OPTIONS,
    OUR_NOTE,
    REMARKS,
    ROUND,
    UNFINISHED,
)
from studies.trials import set_system_attribute

CHARTS = {  # by their ids in the dashboard, which has no titles of its own for them
    "learning-rates": ("Every learning rate and batch size, with its verdict", map_chart),
    "time-to-bottom": ("How long each learning rate takes to the bottom", times_chart),
    "edges": ("The edges, with 90 % intervals, against batch size", edges_chart),
}
COLUMNS = {  # of ``runs``, as the dashboard's table of trials calls them, in its order
    "verdict": "verdict",
    "reason": "reason",
    "time_to_bottom": "time to bottom (epochs)",
    "progress": "progress",
    "final_height": "final height",
    "nonfinite_at": "non-finite at step",
    "epochs": "epochs",
    "seconds": "seconds (its share)",
    "member_of": "trained with trial",
    "judgements": "judgements",
}
NO_BREAK = "\u00a0"  # a space that is kept where a line of code begins
GRID = "rgba(128, 128, 128, 0.25)"
CARD = {  # of the layout of a chart: a card is light or dark, 450 pixels high, and has no title
    "paper_bgcolor": "rgba(0, 0, 0, 0)",
    "plot_bgcolor": "rgba(0, 0, 0, 0)",
    "font": {"color": "#7d7d7d"},  # four times as light or dark as either
    "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
    "margin": {"l": 60, "r": 20, "t": 50, "b": 90},
    "modebar": {"remove": "zoom2d pan2d select2d lasso2d zoomIn2d zoomOut2d autoScale2d".split()},  # they would hide the title
}
# Attributes of a study that are long, or for programs, or told in the note.
OUR_JSON = (CONFIGURATION, OPTIONS, HOW_TRAINED, LANDSCAPE, OPTIMIZERS, REMARKS, BRACKET, ROUND, BUDGETS, UNFINISHED)
NOTE_VERSION = note_ver_key(None)
VALUE_NAME = SYSTEM_ATTR_NAME  # Optuna's own names of metrics would also be columns of its ``trials_dataframe``
READING = """## How to read this

- **History**, the first page, has what to use and three charts of ours beside Optuna's: the map of verdicts, the time to the
  bottom, the edges. Optuna's own leave things out: a divergent run has no point there, its value being infinite, and one that
  failed or was ended early has none either.
- The value of a trial is {value}.
"""
BEST_VALUE = """
- **Best Trial** is the run with the best value of all, which may be luck of its seed and is no advice. What to use is said
  above.
"""
MIRRORED = (
    "This note and the charts are of the last launch that ended. `lr-study dashboard` shows them while a study runs, too,"
    " and the verdict of each run."
)


def mirror(study: optuna.Study, judged: Judged) -> None:
    """Write the note and the charts into the storage of the study, for a dashboard that serves it as it is.

    A note that somebody else wrote or edited is left alone.
    """
    if not others_note(study):
        save_note(study, study_note(study, judged, MIRRORED, BEST_VALUE))
        set_system_attribute(study, OUR_NOTE, system_attributes(study)[NOTE_VERSION])
    set_system_attribute(study, VALUE_NAME, [value_name(study.user_attrs, judged)])
    save_charts(study, judged)


def others_note(study: optuna.Study) -> str:
    """The note of the study, unless it is the one that we wrote last and nobody has edited since."""
    attributes = system_attributes(study)
    return "" if attributes.get(NOTE_VERSION) == attributes.get(OUR_NOTE) else get_note(study)


def save_charts(study: optuna.Study, judged: Judged) -> None:
    """Write the charts, each a card of its own, in place of earlier ones; none before a run has finished."""
    if judged.cells.empty:
        return
    for name, (title, draw) in CHARTS.items():
        save_plotly_graph_object(study, _Figure(draw(judged), title), graph_object_id=name)


def study_note(study: optuna.Study, judged: Judged, about: str, reading: str = "") -> str:
    """The answer, how far to trust it with the commands to run next, and how to read the dashboard; Markdown.

    about: what is to be known of the note itself. reading: more on how to read the dashboard, as items of a list.
    """
    value = f"its {markdown_text(value_name(study.user_attrs, judged))}, one number of one seed"
    return "\n".join([*_study_note(study, judged, about), READING.format(value=value) + reading.strip()])


def value_name(attributes: Mapping[str, Any], judged: Judged) -> str:
    """What the value of a run is, as ``Run.value`` says: the metric that is monitored, where it is logged, or the height."""
    facts = attributes.get(CONFIGURATION) or {}
    named = facts.get("monitor") or "val_loss"
    if metric_name("val", named) in judged.runs:
        return f"final {named}"
    return "final height" if facts.get("mode") != "max" else "negative final height"


def _study_note(study: optuna.Study, judged: Judged, about: str) -> Iterator[str]:
    count = Counter(judged.runs["state"])
    runs = Runs(complete=count["COMPLETE"], cut=count["PRUNED"], failed=count["FAIL"], running=count["RUNNING"])
    yield f"{'So far' if runs.running else 'Runs'}: {', '.join(runs.describe(plan_of(study.user_attrs)))}.\n"
    for answer in judged.answers:
        use, semicolon, edges = answer.sentence.partition("; ")
        note = f" Note: {markdown_text(answer.aside)}." if answer.aside else ""
        yield f"- **{markdown_text(use)}**{semicolon}{markdown_text(edges)}{note}"
    if judged.ranges.empty:
        yield "No run has finished yet, so there is nothing to judge."
    for sentence in filter(None, (judged.overall, judged.own)):
        yield f"\n{markdown_text(sentence)}"
    if told := judged.batch_sentences:
        yield "\n## Batch size\n"
        yield from (f"- {markdown_text(sentence)}" for sentence in told)
    yield f"\n*{about}*\n"
    if judged.trust:
        yield f"{BRACKETS}\n" if len(judged.cells) else ""
        passed = sum(check.passed for check in judged.trust)
        yield f"## How far to trust this: {passed} of {len(judged.trust)} checks passed\n"
    options = None if runs.running else study.user_attrs.get(OPTIONS)  # another launch would be refused
    for check in judged.trust:
        sign = "✓ passed" if check.passed else "✗ failed"
        yield f"- {sign} **{markdown_text(check.name)}**: {markdown_text(check.sentence)}."
    changes = next_changes(judged.trust)
    if options is not None and changes and (command := launch_command(study.study_name, options, changes)):
        yield f"\nRun next: {_code(command)}"
    if judged.remarks:
        yield "\n## How this was measured\n"
    yield from (f"- {markdown_text(remark)}" for remark in judged.remarks)
    yield ""


def _code(line: str) -> str:
    """A line as code that wraps: a block of code would make the page as wide as itself, and cut off all other lines."""
    text = line.strip()
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    indented = NO_BREAK * (len(line) - len(line.lstrip())) + text
    return f"{fence} {indented} {fence}" if "`" in text else f"{fence}{indented}{fence}"


def trial_notes(runs: pd.DataFrame, judgements: pd.DataFrame | None = None) -> dict[int, str]:
    """By trial number the verdict of a run, why, and what else it did; Markdown. Those that say most come first.

    runs, judgements: as for ``trial_columns``.
    """
    beside = defaultdict(list)
    for row in [] if judgements is None else judgements.to_dict("records"):
        beside[row["trial"]].append(row)
    told = runs["trial"].isin(beside) | runs["verdict"].isna()
    ended = runs.assign(told=told)[runs["state"] != "RUNNING"].sort_values("told", ascending=False, kind="stable")
    return {run["trial"]: "\n".join(_trial_note(run, beside[run["trial"]])) for run in ended.to_dict("records")}


def _trial_note(run: Mapping[str, Any], judgements: list[dict[str, Any]]) -> Iterator[str]:
    if isinstance(run["verdict"], str):
        yield f"{STYLES[run['verdict']].sign} **{run['verdict']}**: {markdown_text(run['reason'])}.\n"
    else:
        yield f"{markdown_text(run['reason'])}\n"
    for row in judgements:
        yield f"- **{row['judgement']}**: {markdown_text(row['sentence'])}"
    if isinstance(run.get("traceback"), str):
        lines = run["traceback"].strip().splitlines()[-TRACEBACK_LINES:]
        yield "  \n".join(_code(line) for line in lines if line.strip())


def trial_columns(runs: pd.DataFrame, judgements: pd.DataFrame | None = None) -> dict[int, dict[str, Any]]:
    """By trial number what the dashboard shows in columns: short text and numbers; what is missing is left out.

    runs: as ``classify`` returns them; judgements: as ``judge_curves`` does.
    """
    beside = {} if judgements is None else judgements.groupby("trial")["judgement"].agg(", ".join).to_dict()
    alone = ~runs["member_of"].duplicated(keep=False)
    runs = runs.assign(member_of=runs["member_of"].mask(alone), judgements=runs["trial"].map(beside))
    names = COLUMNS | {name: str(name) for name in runs if str(name).startswith("val_")}
    return {
        row["trial"]: {name: _short(row[column]) for column, name in names.items() if not pd.isna(row[column])}
        | {"reason": _first_part(row["reason"])}
        for row in runs[runs["state"] != "RUNNING"].to_dict("records")
    }


def study_columns(attributes: Mapping[str, Any], judged: Judged | None = None) -> dict[str, str]:
    """The learning rate to use at each batch size, then the configuration, an option each, instead of our JSON; others stay."""
    found = [] if judged is None else [(f"Batch size {each.batch_size}", each.advice) for each in judged.answers]
    kept = {name: value for name, value in attributes.items() if name not in OUR_JSON}
    trained = {f"trained, batch size {size}": how["why"] for size, how in attributes.get(HOW_TRAINED, {}).items()}
    so_far = "" if judged is None or "RUNNING" not in judged.runs["state"].values else ", so far"
    return (
        {f"{size}{so_far}": use for size, use in found} | kept | dict(flat_options(attributes.get(CONFIGURATION, {}))) | trained
    )


def _first_part(reason: str) -> str:
    """A reason for a narrow column: without its numbers after the first, which the note of the run has; an error is cut."""
    if reason.startswith(("did not finish", NO_VERDICT)):
        return textwrap.shorten(reason, 80, placeholder=" ...")
    return re.split("[:,] ", reason)[0]


def _short(value: Any) -> Any:
    """A number of four digits, which the dashboard sorts by; whole numbers and text as they are."""
    if isinstance(value, str):
        return value
    return int(value) if float(value).is_integer() else float(f"{value:.4g}")


class _Figure(NamedTuple):
    """A chart as ``save_plotly_graph_object`` takes it: with a title inside, of the height of the dashboard's card."""

    chart: Chart
    title: str

    def to_json(self) -> str:
        """What plotly.js draws; refuses NaN, which no browser reads."""
        layout = {name: value for name, value in self.chart["layout"].items() if name != "height"} | CARD
        layout |= {"title": {"text": self.title, "font": {"size": 15}, "x": 0, "xref": "paper"}}
        for axis in ("xaxis", "yaxis"):
            layout[axis] = {**layout[axis], "gridcolor": GRID, "automargin": True}
        return json.dumps({"data": self.chart["data"], "layout": layout}, allow_nan=False)
