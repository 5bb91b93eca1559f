"""What a comparison says in sentences: which learning rate to keep or change, and what differs beyond the seeds' spread."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from reports.comparison.effective_rates import tell_effective
from reports.comparison.seed_tests import ENDS, SHORTEST
from reports.comparison.tables import Comparison, by_study, short_names
from reports.style import GOOD, format_number

BEYOND, CHANCE = "beyond the seeds' spread", "may be chance"
MOVED = dict(zip(ENDS, ("good learning rates begin", "good learning rates end", "divergence begins"), strict=True))


class Answer(NamedTuple):
    """What one batch size says: what to use, then for each other study whether it is as before, and what differs.

    others: a study, the verdict of the baseline's recommended learning rate in it ("" if not known) with a sentence, and
    sentences on what differs. good: whether each study there has a learning rate to use, and the baseline's is good in all.
    """

    headline: str
    good: bool
    others: list[tuple[str, str, str, list[str]]]


def summarize(comparison: Comparison) -> list[str]:
    """What is read first, for each study: which learning rates to keep or change, then what differs beyond chance."""
    names, tests = short_names(comparison.studies), comparison.tests
    found = []
    for study in comparison.studies[1:]:
        found += _what_to_use(comparison, study, names) + _what_stands_out(tests[tests["study"] == study], names[study])
    return found + tell_effective(comparison.effective, names)


def _what_to_use(comparison: Comparison, study: str, names: Mapping[str, str]) -> list[str]:
    baseline, tables, tests = comparison.studies[0], by_study(comparison.summary), comparison.tests
    before, after = tables[baseline]["learning_rate"], tables[study]
    edges = tests[(tests["study"] == study) & tests["quantity"].isin(list(ENDS))]
    moved = set(edges.loc[edges["exceeds"].fillna(False).astype(bool), "batch_size"])
    sizes = before.index.intersection(after.index).tolist()
    advice: dict[str, list[int]] = {}
    for size in sizes:
        said = _advise(float(before[size]), after.loc[size], moved=size in moved)
        advice.setdefault(said, []).append(size)
    parts = [words + _where(at, sizes) for words, at in advice.items()]
    return [f"From {names[baseline]} to {names[study]}{_only(sizes)}: {'; '.join(parts)}."] if parts else []


def _advise(before: float, row: "pd.Series[Any]", *, moved: bool) -> str:
    """What to do with the learning rate recommended in the baseline.

    row: of ``Comparison.summary``, the other study's; moved: whether an edge moved beyond the seeds' spread, without which a
    good learning rate is not spoken against.
    """
    after, verdict = float(row["learning_rate"]), row["baseline_verdict"]
    old, new = format_number(before), format_number(after)
    if math.isnan(before):
        return "no learning rate is good in either" if math.isnan(after) else f"use {new}, where none was good before"
    if old == new:
        return f"keep {old}"
    if verdict == GOOD:
        outside = not row["low"] * (1 - 1e-3) <= before <= row["high"] * (1 + 1e-3)  # its ends are rounded
        return f"{old} is still good" + (f" ({new} is safer)" if moved and outside else "")
    if math.isnan(after):
        return f"no learning rate is good ({old} was {verdict if isinstance(verdict, str) else 'not tried'})"
    known = isinstance(verdict, str)  # a range that left the best out speaks for nothing
    return f"use {new} instead of {old} ({verdict})" if known else f"{old} was not tried ({new} is recommended)"


def _what_stands_out(tests: pd.DataFrame, name: str) -> list[str]:
    """Sentences on the differences of one study beyond the seeds' spread, edges first; tests: its rows."""
    if tests.empty:
        return []
    tested, sizes = tests[tests["exceeds"].notna()], tests["batch_size"].unique().tolist()
    if tested.empty:
        return [f"In {name} nothing could be tested: {tests['note'].iloc[0]}."]
    beyond = tested[tested["exceeds"].astype(bool)]
    n = len(beyond)
    counted = f"In {name}{_only(sizes)} {n or 'none'} of {len(tested)} differences tested {'are' if n > 1 else 'is'} {BEYOND}"
    edges, others = [], []
    for (quantity, _), rows in beyond.groupby(["quantity", (beyond["ratio"] > 1) | (beyond["difference"] > 0)], sort=False):
        change = describe_change(*rows.to_dict("records")) + _where(rows["batch_size"].tolist(), sizes)
        if quantity in MOVED:
            edges.append(f"{MOVED[quantity]} {change}")
        else:
            others.append(f"{_without_unit(quantity)} {change}")
    if edges and others:
        return [f"{counted}: {'; '.join(edges)}.", f"Also beyond it in {name}: {'; '.join(others)}."]
    if others:
        counted += ", none of them an edge"
    return [": ".join(filter(None, [counted, "; ".join(edges or others)])) + "."]


def _without_unit(quantity: str) -> str:
    return quantity.partition(" (")[0]


def _only(all_sizes: Sequence[int]) -> str:
    """The one batch size there is, said once for the sentence."""
    return f" at batch size {all_sizes[0]}" if len(all_sizes) == 1 else ""


def _where(sizes: Sequence[int], all_sizes: Sequence[int]) -> str:
    """At which batch sizes, of several."""
    if len(sizes) == len(all_sizes):
        return "" if len(sizes) == 1 else " at both batch sizes" if len(sizes) == 2 else " at every batch size"
    return f" at batch size{'s' * (len(sizes) > 1)} {listed(sizes)}"


def listed(words: Iterable[object]) -> str:
    """Words as a list in a sentence."""
    *first, last = map(str, words)
    return f"{', '.join(first)} and {last}" if first else last


def answers(comparison: Comparison) -> list[Answer]:
    """For each batch size what to use in each study, and what differs from the baseline."""
    names, found = short_names(comparison.studies), []
    for size, group in comparison.summary.groupby("batch_size"):
        rows = group.set_index("study")
        uses: dict[str, list[str]] = {}
        for study, rate in rows["learning_rate"].dropna().items():
            uses.setdefault(format_number(rate), []).append(names[str(study)])
        each = [f"{rate} in {listed(found_in)}" for rate, found_in in uses.items()]
        if len(rows) > 1 and [len(found_in) for found_in in uses.values()] == [len(rows)]:
            each = [f"{next(iter(uses))} in {'both' if len(rows) == 2 else 'all'}"]
        nothing = [names[study] for study in rows.index[rows["learning_rate"].isna()]]
        parts = [f"use {', '.join(each)}"] if each else []
        parts += [f"no learning rate is good in {listed(nothing)}"] if nothing else []
        others = []
        for study, tests in comparison.tests[comparison.tests["batch_size"] == size].groupby("study", sort=False):
            verdict, sentence = _verdict(rows, comparison.studies[0], str(study), names)
            others.append((names[str(study)], verdict, sentence, _what_differs(tests)))
        good = not nothing and all(verdict == GOOD for _, verdict, _, _ in others)
        found.append(Answer(f"Batch size {size}: {'; '.join(parts)}.", good, others))
    return found


def _verdict(rows: pd.DataFrame, baseline: str, study: str, names: Mapping[str, str]) -> tuple[str, str]:
    rate, verdict = rows["learning_rate"][baseline], rows["baseline_verdict"][study]
    if math.isnan(rate):
        return "", ""
    if not isinstance(verdict, str):
        return "", f"{format_number(rate)} is outside the range tried in {names[study]}."
    return verdict, f"in {names[study]} at {format_number(rate)}, the learning rate of {names[baseline]}."


def _what_differs(tests: pd.DataFrame) -> list[str]:
    """Sentences on every quantity of one study and batch size: what differs, what may be chance, what was not tested."""
    rows = tests.to_dict("records")
    beyond = [
        f"{_without_unit(row['quantity'])} {describe_change(row)}{_numbers(row)}" for row in rows if row["exceeds"] is True
    ]
    chance = [_without_unit(row["quantity"]) for row in rows if row["exceeds"] is False]
    untested: dict[str, list[str]] = {}
    for row in rows:
        if pd.isna(row["exceeds"]):
            untested.setdefault(row["note"], []).append(_without_unit(row["quantity"]))
    found = [f"{BEYOND[0].upper()}{BEYOND[1:]}: {'; '.join(beyond)}."] if beyond else []
    found += [f"{CHANCE[0].upper()}{CHANCE[1:]}: {listed(chance)}."] if chance else []
    why = "; ".join(f"{listed(quantities)} ({note})" for note, quantities in untested.items())
    return found + ([f"Not tested: {why}."] if why else [])


def _numbers(row: Mapping[str, Any]) -> str:
    digits = 2 if row["quantity"] in ENDS else 3
    now, before = (format_number(row[key], digits=digits) for key in ("value", "baseline"))
    return f" ({now} instead of {before})" if "-" not in (now, before) else ""


def describe_change(*rows: Mapping[str, Any]) -> str:
    """How a study differs from the baseline, "" where it is not known; rows: of ``Comparison.tests``.

    Several rows are of one quantity and differ in one direction; then the smallest and the largest change are given.
    """
    quantity, ratio, difference = (rows[0][key] for key in ("quantity", "ratio", "difference"))
    if ratio > 0:
        changes, unit, up = [max(row["ratio"], 1 / row["ratio"]) for row in rows], " times", ratio > 1
    elif math.isfinite(difference):
        changes, unit, up = [abs(row["difference"]) for row in rows], "", difference > 0
    else:
        return ""
    least = "at least " if "at least" in [row["note"] for row in rows] else ""
    ends = dict.fromkeys(format_number(change, digits=2) for change in (min(changes), max(changes)))
    if list(ends) == ["1" if unit else "0"] and not least:
        return "the same"
    more, less = ("longer", "shorter") if quantity == SHORTEST else ("higher", "lower")
    return f"{least}{' to '.join(ends)}{unit} {more if up else less}"
