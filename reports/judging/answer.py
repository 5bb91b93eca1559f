"""The answer of a batch size: what to use, where that is good, where the edges lie, and what to know about it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from reports.judging.edges import COVERAGE, EDGES
from reports.judging.recommendation import TO_DIVERGENT
from reports.style import describe_edge, format_number

HEADINGS = ("batch size", "use", "safe", "good from", "good to", "diverges from")
"""Of a table with a row an answer."""


class Answer(NamedTuple):
    """What a study answers at one batch size.

    use: the recommended learning rate; NaN where none is good, and so are the three that follow.
    low, high: the interval around it. share: of new seeds on which a learning rate inside is good, at least.
    edges: the three rows of ``find_edges`` by their names, lowest first; empty where no run has a verdict.
    price: what is given up for being sure, "" where that is little. note: what to know or do, "" if nothing.
    """

    batch_size: int
    use: float
    low: float
    high: float
    share: float
    edges: Mapping[str, Mapping[str, Any]]
    price: str
    note: str

    @property
    def is_good(self) -> bool:
        """Whether there is a learning rate to use."""
        return not math.isnan(self.use)

    @property
    def on_half(self) -> bool:
        """Whether the interval holds on half of new seeds only, as the good range is narrow."""
        return self.share < COVERAGE

    @property
    def interval(self) -> str:
        """The interval in words; "" where there is none."""
        return f"{format_number(self.low)} to {format_number(self.high)}" if self.is_good else ""

    @property
    def to_use(self) -> str:
        """The recommended learning rate, after a ``~`` where it is good on half of new seeds only; "none" where none is."""
        return f"{'~' * self.on_half}{format_number(self.use)}" if self.is_good else "none"

    @property
    def row(self) -> list[tuple[str, str]]:
        """What stands under ``HEADINGS``, each with the interval it lies in, "" where it has none."""
        edges = [describe_edge(row, short=True) for row in self.edges.values()] or ["-"] * len(EDGES)
        places = [edge.rstrip("]").partition(" [") for edge in edges]
        first = [(str(self.batch_size), ""), (self.to_use, ""), (self.interval or "-", "")]
        return first + [(place, interval) for place, _, interval in places]

    @property
    def texts(self) -> list[str]:
        """The same as plain text, intervals in square brackets."""
        return [f"{place} [{interval}]" if interval else place for place, interval in self.row]

    @property
    def advice(self) -> str:
        """What to do in a few words: the first part of ``sentence``."""
        if not self.is_good:
            return "no learning rate is good" if self.edges else self.note
        half = ", where it is good on half of new seeds only" if self.on_half else ""
        return f"use {self.to_use} ({self.interval}{half})"

    @property
    def words(self) -> str:
        """The price and the note, which stand beside ``row``."""
        return "; ".join(filter(None, (self.price, self.note)))

    @property
    def aside(self) -> str:
        """The same beside ``sentence``, "" where that says it already."""
        return self.words if self.edges else ""

    @property
    def sentence(self) -> str:
        """Everything but the note; the note alone where no run has a verdict."""
        if not self.edges:
            return f"Batch size {self.batch_size}: {self.advice}."
        good_from, good_to, diverges = map(describe_edge, self.edges.values())
        good = f"good from {good_from} to {good_to}; " if self.is_good else ""
        at = "at " if self.edges[TO_DIVERGENT]["learning_rate"] > 0 else ""
        return f"Batch size {self.batch_size}: {self.advice}; {good}divergence begins {at}{diverges}."


def how_read(answers: Sequence[Answer], where: str) -> str:
    """How to read a table of answers; where its intervals stand: "Below", or "In brackets after"."""
    half = " After a ~: good on half of new seeds only, as the range is narrow." * any(each.on_half for each in answers)
    return f"Safe: good on nine new seeds in ten.{half} {where} an edge: where it lies on another seed, nine times in ten."


def answer_all(ranges: pd.DataFrame, edges: pd.DataFrame, recommendations: pd.DataFrame) -> list[Answer]:
    """An answer for each row of ``good_ranges``, from ``find_edges`` and ``recommend``."""
    uses = recommendations.set_index("batch_size").to_dict("index")
    numbers = ("learning_rate", "low", "high", "interval_share")
    nothing = dict.fromkeys(numbers, math.nan) | {"price": ""}
    found = []
    for size, note in ranges[["batch_size", "note"]].itertuples(index=False):
        use = uses.get(size, nothing)
        rows = edges[edges["batch_size"] == size].set_index("edge", drop=False).to_dict("index")
        rate, low, high, share = (float(use[name]) for name in numbers)
        found.append(Answer(int(size), rate, low, high, share, rows, use["price"], note))
    return found
