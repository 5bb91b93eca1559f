"""The words, colours and marks of the four verdicts: the one place text and pictures take them from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VerdictStyle:
    """How one verdict looks and what it means.

    colour: hex, from the Okabe-Ito palette, told apart with any colour vision (Okabe & Ito 2008).
    marker: matplotlib marker; sign: the same shape as a character, for pages; letter: one character for tables; each
    carries the verdict in grey. dash: line style of a run.
    meaning: one sentence for people.
    """

    colour: str
    marker: str
    sign: str
    letter: str
    dash: str
    meaning: str


TOO_LOW, GOOD, TOO_HIGH, DIVERGENT = "too low", "good", "too high", "divergent"

STYLES: dict[str, VerdictStyle] = {
    TOO_LOW: VerdictStyle("#0072B2", "v", "▼", "l", "--", "tiny steps: it takes for ever to get to the bottom"),
    GOOD: VerdictStyle("#009E73", "o", "●", "G", "-", "it gets to the bottom quickly and stays there"),
    TOO_HIGH: VerdictStyle("#E69F00", "^", "▲", "h", "-.", "steps jump over the bottom: it takes too long, or hovers above it"),
    DIVERGENT: VerdictStyle("#A5230E", "X", "✖", "D", ":", "it leaves the valley: non-finite, or no better than untrained"),
}

VERDICTS: tuple[str, ...] = tuple(STYLES)

GLOSSARY: dict[str, str] = {
    "height": "mean loss over a fixed set of training examples, in evaluation mode; the same examples for every run",
    "floor": "lowest final height that any learning rate reached at the same batch size",
    "progress": "share of the way from the untrained height down to the floor: 0 at the start, 1 at the floor",
    "bottom": "the last part of the way, just above the floor",
    "time to bottom": "how long a run trains until it first gets to the bottom",
    "cell": "all seeds of one batch size and learning rate; its numbers are medians over the seeds",
    "fastest": "the learning rate with the shortest time to bottom among those that stay there",
}


def format_number(value: float) -> str:
    """A number for people: three significant digits, no trailing zeros; ``-`` for a missing one."""
    if value != value:
        return "-"
    if abs(value) == float("inf"):
        return "inf" if value > 0 else "-inf"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{float(f'{value:.3g}'):,.10g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
