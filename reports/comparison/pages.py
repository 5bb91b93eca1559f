"""A comparison in, one page out: HTML that opens offline, or Markdown with pictures beside it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports.charts.marks import Chart
from reports.comparison.answers import BEYOND, CHANCE, answers, describe_change, listed, summarize
from reports.comparison.batch_sizes import tabulate
from reports.comparison.charts import ON_DARK
from reports.comparison.figures import FIGURES
from reports.comparison.seed_tests import ENDS, FALSE_DISCOVERIES
from reports.comparison.tables import Comparison, is_metric, short_names
from reports.pages.page_scripts import page_scripts, reserved_pixels
from reports.pages.templating import environment, markdown_text, picture_source
from reports.style import GLOSSARY, STYLES, describe_edge, format_number, name_metric

SIGNS = {True: "≠", False: "≈"}  # before a difference in a table, so that it is read without colour
WORDS = {
    BEYOND: f"{SIGNS[True]} a difference that other seeds alone would hardly make: of those called so at most"
    f" {100 * FALSE_DISCOVERIES:g} in 100 are expected to be chance",
    CHANCE: f"{SIGNS[False]} the difference is no larger than seeds alone make it; more seeds may tell",
} | {
    word: GLOSSARY[word]
    for word in "recommended,edge,90 % interval,bottom,time to bottom,floor,height,progress,sensitivity,seed".split(",")
}
HOW_READ = (
    f"{SIGNS[True]} exceeds the seeds' spread, {SIGNS[False]} may be chance. The shortest time, the lowest height and the best"
    " metric are the best over the learning rates, found for each seed alone; medians over the seeds. The bottom is each"
    " study's own: the time to it compares how fast a study is, the height how deep it gets. Compare seconds only of runs on"
    " one machine that were trained in the same way."
)
HOW_TESTED = (
    "For the tests each seed is judged as a study of its own, as the seeds of a study share a floor otherwise; but not those of"
    " a search, which tries other learning rates on each: they stand as they are judged in the study, with times, heights and"
    " metrics of the learning rates on which all seeds were trained to the end. An edge of a"
    " seed is known to lie between two learning rates only: compared are the posteriors of its centre in two studies, by the"
    " model behind the intervals, with a wider prior on the spread; an edge outside the range is taken to lie just beyond it."
    " Numbers are compared by a t test (the larger p value of Welch's and Student's). Seeds are not paired. The p values of"
    " each study are adjusted for their number (Benjamini and Hochberg 1995); beyond the seeds' spread are those of at most"
    f" {FALSE_DISCOVERIES:g}."
)
AT_USE = {
    "time_to_bottom_epochs": "time to bottom (epochs)",
    "time_to_bottom_steps": "time to bottom (steps)",
    "time_to_bottom_examples": "time to bottom (examples)",
    "time_to_bottom_seconds": "time to bottom (s)",
    "final_height": "final height (loss)",
}


def render_html(comparison: Comparison, pictures: Mapping[str, bytes], charts: Mapping[str, Chart]) -> str:
    """The page as one HTML file that asks for nothing from outside and is whole without its scripts.

    pictures: PNG files by the names in ``FIGURES``. charts: from ``draw_charts``.
    """
    sources = {name: picture_source(picture) for name, picture in pictures.items()}
    on_dark = {style.colour: style.on_dark for style in STYLES.values()} | ON_DARK
    context = _context(comparison) | page_scripts({"charts": charts, "on_dark": on_dark}, "charts.js", "comparison.js")
    context |= {"pictures": sources, "charts": reserved_pixels(charts), "drawn": list(FIGURES)}
    return environment().get_template("comparison.html.jinja").render(**context)


def render_markdown(comparison: Comparison, pictures: Mapping[str, str]) -> str:
    """The page as Markdown; pictures: relative paths by the names in ``FIGURES``."""
    template = environment(finalize=markdown_text).get_template("comparison.md.jinja")
    return template.render(**_context(comparison), pictures=pictures)


def _context(comparison: Comparison) -> dict[str, Any]:
    names, thresholds = short_names(comparison.studies), comparison.thresholds
    long = [(short, study) for study, short in names.items() if short != study]
    return {
        "title": f"{names[comparison.studies[0]]} against {listed(list(names.values())[1:])}",
        "studies": long,
        "styles": STYLES,
        "words": WORDS,
        "captions": FIGURES,
        "summary": summarize(comparison),
        "answers": answers(comparison),
        "notes": comparison.notes,
        "differences": comparison.differences.to_numpy().tolist(),
        "difference_columns": ["option", *names.values()],
        "side_by_side": [_side_by_side(comparison, int(size), names) for size in comparison.summary["batch_size"].unique()],
        "batch": [] if comparison.foretold.empty else tabulate(comparison.foretold, names),
        "batch_columns": ["batch size", *names.values()],
        "batch_told": comparison.batch_sizes,
        "tests": [_test_row(row, names) for row in comparison.tests.to_dict("records")],
        "thresholds": {name: format_number(getattr(thresholds, name)) for name in ("tau", "rho")},
        "target_loss": None if thresholds.target_loss is None else format_number(thresholds.target_loss),
        "how_read": HOW_READ,
        "how_tested": HOW_TESTED,
    }


def _test_row(row: Mapping[str, Any], names: Mapping[str, str]) -> list[Any]:
    numbers = [format_number(row[key], digits=2) for key in ("p_value", "adjusted_p_value")]
    seeds = f"{row['baseline_seeds']} and {row['seeds']}"
    return [row["batch_size"], names[row["study"]], row["quantity"], _marked(row), *numbers, seeds, row["test"] or "none"]


def _side_by_side(comparison: Comparison, size: int, names: Mapping[str, str]) -> dict[str, Any]:
    """The table of one batch size: a row a quantity, a column a study, and after each but the baseline what differs."""
    baseline = comparison.studies[0]
    rows = comparison.summary[comparison.summary["batch_size"] == size].set_index("study")
    tests = comparison.tests[comparison.tests["batch_size"] == size].set_index(["study", "quantity"]).to_dict("index")
    tested = {study for study, _ in tests}
    effective = comparison.effective[comparison.effective["batch_size"] == size]
    columns = ["quantity"]
    for study in rows.index:
        columns += [names[study], f"against {names[baseline]}"] if study in tested else [names[study]]
    quantities = list(dict.fromkeys(quantity for _, quantity in tests))
    lines: list[list[str]] = []

    def add(head: str, values: Mapping[str, str], quantity: str = "") -> None:
        line = [head]
        for study in rows.index:
            line.append(values.get(study, "-"))
            if study in tested:
                row = tests.get((study, quantity))
                line.append(_marked(row | {"quantity": quantity}) if row else "")
        lines.append(line)

    records = rows.to_dict("index")
    uses = {
        s: f"{format_number(r['learning_rate'])} ({format_number(r['low'])} to {format_number(r['high'])})"
        for s, r in records.items()
        if r["learning_rate"] > 0
    }
    add("learning rate to use", uses)
    for key in [*AT_USE, *filter(is_metric, rows.columns)]:
        if rows[key].notna().any():
            values = {s: format_number(r[key]) for s, r in records.items()}
            add(f"its {AT_USE.get(key) or name_metric(key)}", values)
    if baseline in uses:
        found = {s: r["baseline_verdict"] for s, r in records.items()}
        signed = {s: f"{STYLES[verdict].sign} {verdict}" for s, verdict in found.items() if isinstance(verdict, str)}
        add(f"verdict of {format_number(records[baseline]['learning_rate'])}", signed)
    for quantity in ENDS:
        key = quantity.replace(" ", "_")
        places = {s: {"learning_rate": r[key], "low": r[f"{key}_low"], "high": r[f"{key}_high"]} for s, r in records.items()}
        add(quantity, {s: describe_edge(place, short=True) for s, place in places.items()}, quantity)
        if len(rates := effective[effective["quantity"] == quantity]):
            found = {baseline: rates["baseline_effective"].iloc[0]} | dict(zip(rates["study"], rates["effective"], strict=True))
            add(f"{quantity}, learning rate / (1 - momentum)", {s: format_number(rate, digits=2) for s, rate in found.items()})
    for quantity in quantities:
        if quantity not in ENDS:
            values = {s: format_number(tests[s, quantity]["value"]) for s in rows.index if (s, quantity) in tests}
            first = next(row["baseline"] for (_, q), row in tests.items() if q == quantity)
            add(quantity, {baseline: format_number(first)} | values, quantity)
    add("sensitivity (loss)", {s: format_number(r["sensitivity"]) for s, r in records.items()})
    add("seeds", {s: str(r["n_seeds"]) for s, r in records.items()})
    ended = {s: f", {r['n_cut']} ended when decided" if r["n_cut"] else "" for s, r in records.items()}
    add("runs", {s: f"{r['n_runs']}{ended[s]}" for s, r in records.items()})
    return {"size": size, "columns": columns, "rows": lines}


def _marked(row: Mapping[str, Any]) -> str:
    change = describe_change(row)
    if pd.isna(row["exceeds"]):
        return f"{change}; not tested: {row['note']}".removeprefix("; ")
    return f"{SIGNS[bool(row['exceeds'])]} {change}"
