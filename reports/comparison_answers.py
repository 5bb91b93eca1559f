"""What a comparison says in sentences: what to use, whether the baseline's learning rate is still good, what moved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from reports.comparison import Comparison, short_names
from reports.seed_tests import ENDS, SHORTEST
from reports.style import GOOD, format_number

BEYOND, CHANCE = "beyond the seeds' spread", "may be chance"


class Answer(NamedTuple):
    """What one batch size says: what to use, then for each other study whether it is as before, and what moved.

    others: a study, the verdict of the baseline's recommended learning rate in it ("" if not known) with a sentence, and
    sentences on what differs.
    """

    headline: str
    others: list[tuple[str, str, str, list[str]]]


def summarize(comparison: Comparison) -> list[str]:
    """What is read first: is the baseline's learning rate still good, which edges moved, how much exceeds the seeds' spread."""
    names, tests = short_names(comparison.studies), comparison.tests
    found = []
    for study in comparison.studies[1:]:
        found += [_carries_over(comparison, study, names), _what_moved(tests[tests["study"] == study], names[study])]
    tested = tests["exceeds"].dropna()
    if len(tested):
        n = int(tested.sum())
        found.append(f"{n or 'None'} of {len(tested)} differences tested {'is' if n == 1 else 'are'} {BEYOND}.")
    elif len(tests):
        found.append(f"Nothing could be tested: {tests['note'].iloc[0]}.")
    return list(filter(None, found))


def _carries_over(comparison: Comparison, study: str, names: Mapping[str, str]) -> str:
    tables = {name: group.set_index("batch_size") for name, group in comparison.summary.groupby("study")}
    baseline, rows = comparison.studies[0], tables[study]
    verdicts: dict[str, list[int]] = {}
    sizes = tables[baseline]["learning_rate"].dropna().index.intersection(rows.index).tolist()
    for size in sizes:
        verdict = rows["baseline_verdict"][size]
        verdicts.setdefault(verdict if isinstance(verdict, str) else "not tried", []).append(size)
    said = [verdict + _at(at, sizes) for verdict, at in sorted(verdicts.items(), key=lambda item: item[0] != GOOD)]
    return f"In {names[study]} the learning rate recommended in {names[baseline]} is {listed(said)}." if said else ""


def _what_moved(tests: pd.DataFrame, name: str) -> str:
    edges = tests[tests["quantity"].isin(list(ENDS)) & tests["exceeds"].notna()]
    moved = edges[edges["exceeds"].astype(bool)]
    parts = []
    for (quantity, up), rows in moved.groupby(["quantity", moved["ratio"] > 1], sort=False):
        ratios = rows["ratio"] if up else 1 / rows["ratio"]
        ends = dict.fromkeys(format_number(ratio, digits=2) for ratio in (ratios.min(), ratios.max()))
        least = "at least " if (rows["note"] == "at least").any() else ""
        where = _at(rows["batch_size"].tolist(), tests["batch_size"].unique().tolist())
        parts.append(f"{quantity} {least}{' to '.join(ends)} times {'higher' if up else 'lower'}{where}")
    if parts:
        return f"In {name} {'; '.join(parts)}."
    return f"In {name} no edge moved {BEYOND}." if len(edges) else ""


def _at(sizes: Sequence[int], all_sizes: Sequence[int]) -> str:
    if len(sizes) == len(all_sizes) > 1:
        return " at every batch size"
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
        found.append(Answer(f"Batch size {size}: {'; '.join(parts)}.", others))
    return found


def _verdict(rows: pd.DataFrame, baseline: str, study: str, names: Mapping[str, str]) -> tuple[str, str]:
    rate, verdict = rows["learning_rate"][baseline], rows["baseline_verdict"][study]
    if math.isnan(rate):
        return "", ""
    if not isinstance(verdict, str):
        return "", f"{format_number(rate)} is outside the range tried in {names[study]}."
    return verdict, f"in {names[study]} at {format_number(rate)}, the learning rate of {names[baseline]}."


def _what_differs(tests: pd.DataFrame) -> list[str]:
    rows = tests.to_dict("records")
    name = {row["quantity"]: row["quantity"].partition(" (")[0] for row in rows}  # without its unit
    beyond = [f"{name[row['quantity']]} {describe_change(row)}" for row in rows if row["exceeds"] is True]
    chance = [name[row["quantity"]] for row in rows if row["exceeds"] is False]
    notes = dict.fromkeys(row["note"] for row in rows if pd.isna(row["exceeds"]))
    untested = [
        f"{listed(name[row['quantity']] for row in rows if pd.isna(row['exceeds']) and row['note'] == note)} ({note})"
        for note in notes
    ]
    found = [f"{BEYOND[0].upper()}{BEYOND[1:]}: {'; '.join(beyond)}."] if beyond else []
    found += [f"{CHANCE[0].upper()}{CHANCE[1:]}: {listed(chance)}."] if chance else []
    return found + ([f"Not tested: {'; '.join(untested)}."] if untested else [])


def describe_change(row: Mapping[str, Any]) -> str:
    """How a study differs from the baseline, from a row of ``Comparison.tests``; "" where it is not known."""
    ratio, difference = row["ratio"], row["difference"]
    more, less = ("longer", "shorter") if row["quantity"] == SHORTEST else ("higher", "lower")
    if ratio > 0:
        times = format_number(max(ratio, 1 / ratio), digits=2)
        least = "at least " if row["note"] == "at least" else ""
        return "the same" if times == "1" and not least else f"{least}{times} times {more if ratio > 1 else less}"
    if math.isfinite(difference):
        return f"{format_number(abs(difference), digits=2)} {more if difference > 0 else less}" if difference else "the same"
    return ""
