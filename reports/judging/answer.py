"""The answer of a batch size: what to use, where that is good, where the edges lie, and what to know about it."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from reports.judging.edges import COVERAGE, EDGES
from reports.judging.recommendation import TO_DIVERGENT
from reports.style import describe_edge, format_number


class Answer(NamedTuple):
    """What a study answers at one batch size.

    use: the recommended learning rate; NaN where none is good, and so are the three that follow.
    low, high: the interval around it. share: of new seeds on which a learning rate inside is good, at least.
    edges: the three rows of ``find_edges`` by their names, lowest first; empty where no run has a verdict.
    note: what to know or do, "" if nothing.
    """

    batch_size: int
    use: float
    low: float
    high: float
    share: float
    edges: Mapping[str, Mapping[str, Any]]
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
    def edges_in_short(self) -> list[str]:
        """The three edges with their intervals, or a dash each."""
        return [describe_edge(row, short=True) for row in self.edges.values()] or ["-"] * len(EDGES)

    @property
    def advice(self) -> str:
        """What to do in a few words: the first part of ``sentence``."""
        if not self.is_good:
            return "no learning rate is good" if self.edges else self.note
        half = ", where it is good on half of new seeds only" if self.on_half else ""
        return f"use {format_number(self.use)} ({self.interval}{half})"

    @property
    def aside(self) -> str:
        """The note, "" where ``sentence`` says it already."""
        return self.note if self.edges else ""

    @property
    def sentence(self) -> str:
        """Everything but the note; the note alone where no run has a verdict."""
        if not self.edges:
            return f"Batch size {self.batch_size}: {self.advice}."
        good_from, good_to, diverges = map(describe_edge, self.edges.values())
        good = f"good from {good_from} to {good_to}; " if self.is_good else ""
        at = "at " if self.edges[TO_DIVERGENT]["learning_rate"] > 0 else ""
        return f"Batch size {self.batch_size}: {self.advice}; {good}divergence begins {at}{diverges}."


def answer_all(ranges: pd.DataFrame, edges: pd.DataFrame, recommendations: pd.DataFrame) -> list[Answer]:
    """An answer for each row of ``good_ranges``, from ``find_edges`` and ``recommend``."""
    uses = recommendations.set_index("batch_size").to_dict("index")
    nothing = dict.fromkeys(("learning_rate", "low", "high", "interval_share"), math.nan)
    found = []
    for size, note in ranges[["batch_size", "note"]].itertuples(index=False):
        use = uses.get(size, nothing)
        rows = edges[edges["batch_size"] == size].set_index("edge", drop=False).to_dict("index")
        rate, low, high, share = (float(use[name]) for name in nothing)
        found.append(Answer(int(size), rate, low, high, share, rows, note))
    return found
