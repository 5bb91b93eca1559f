"""The words, colours and marks of the four verdicts: the one place text and pictures take them from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class VerdictStyle:
    """How one verdict looks and what it means.

    colour: hex, from the Okabe-Ito palette, told apart with any colour vision (Okabe & Ito 2008).
    marker: matplotlib marker; sign: the same shape as a character, for pages; letter: one character for tables; each
    carries the verdict in grey. dash: line style of a run. on_dark: the colour of lines on a dark page, a lighter shade.
    meaning: one sentence for people.
    """

    colour: str
    marker: str
    sign: str
    letter: str
    dash: str
    on_dark: str
    meaning: str


STILL_IMPROVING = "still improving"  # a judgement
TOO_LOW, GOOD, TOO_HIGH, DIVERGENT = "too low", "good", "too high", "divergent"

STYLES: dict[str, VerdictStyle] = {
    TOO_LOW: VerdictStyle("#0072B2", "v", "▼", "l", "--", "#5CB3E8", "tiny steps: it takes for ever to get to the bottom"),
    GOOD: VerdictStyle("#009E73", "o", "●", "G", "-", "#2BC79A", "it gets to the bottom quickly and stays there"),
    TOO_HIGH: VerdictStyle(
        "#E69F00", "^", "▲", "h", "-.", "#F2B63C", "steps jump over the bottom: it takes too long, or hovers above it"
    ),
    DIVERGENT: VerdictStyle(
        "#A5230E", "X", "✖", "D", ":", "#F0806A", "it leaves the valley: non-finite, or no better than untrained"
    ),
}

VERDICTS: tuple[str, ...] = tuple(STYLES)

GLOSSARY: dict[str, str] = {
    "learning rate": "the length of the stride: how far each step moves the weights, as a multiple of the slope",
    "loss": "how wrong the network is, which training walks down; non-finite means it became infinite or no number at all",
    "batch size": "training examples that each step looks at",
    "epoch": "one pass over all training examples",
    "validation": "measured on examples that are kept out of training",
    "seed": "the random numbers of a run: its first weights and the order of its examples; a new seed is a new run of yours",
    "run": "one training, at one learning rate, batch size and seed",
    "cell": "all seeds of one batch size and learning rate; its numbers are medians over the seeds",
    "height": "mean loss over a fixed set of training examples, in evaluation mode; the same examples for every run",
    "untrained height": "the height before the first step, where every run starts",
    "floor": "lowest final height that any learning rate reached at the same batch size, by runs that nobody ended early",
    "progress": "share of the way from the untrained height down to the floor: 0 at the start, 1 at the floor",
    "bottom": "the last part of the way, just above the floor",
    "time to bottom": "how long a run trains until it first gets to the bottom",
    "stays": "its last heights, the median of the last tenth of the run, are at the bottom too",
    "fastest": "the learning rate with the shortest time to bottom among those that stay there",
    "edge": "the learning rate at which one verdict gives way to the next; half of all seeds have it below the number given",
    "90 % interval": "in square brackets after an edge: the edge of another seed lies between its ends nine times in ten;"
    " it comes from the distance between the learning rates tried and from how far the seeds are apart",
    "recommended": "the learning rate to use; from the low to the high end of its interval a learning rate is expected to be"
    " good on nine new seeds in ten",
    "standard error": "how far a mean is off by chance: the standard deviation of the values over the root of their number",
    "sensitivity": "how much height is lost by not knowing the learning rate: the mean over all learning rates tried of the"
    " final height above the lowest, counted up to the untrained height (Wortsman et al. 2023); of a grid only",
}

BRACKETS = (
    "In round brackets after a learning rate to use: where one is expected to be good on nine new seeds in ten."
    " In square brackets after an edge: where the edge of another seed lies, nine times in ten."
)
"""How to read the sentence of an answer."""


JUDGEMENTS: dict[str, str] = {
    "catapult": "it rose above its untrained height, then recovered; not divergence",
    "oscillating": "it goes up and down between measurements: steps jump over the bottom",
    "died": "it stands still far above the bottom after steps that were too large: the network learns no more",
    STILL_IMPROVING: "it had not arrived when the epochs ran out, and was still on its way",
    "evaluation lags": "its loss is far lower in training mode than its height, as with batch norm in short runs",
    "changing loss": "its loss was another one at the end than at the start, so its heights cannot be compared over time",
    "validation not finite": "validation gave infinity or no number while training went on; the verdict is by the height",
    "overfitting": "the loss on validation examples, which are not trained on, rises again while the training height falls",
    "loss and metric disagree": "validation loss got worse while another validation metric got better: know which one you want",
}
"""What is said of a run beside its verdict, and what it means."""


def name_metric(column: str) -> str:
    """A metric's name for people: ``val_accuracy`` is "validation accuracy", any other stays as it is."""
    return f"validation {column.removeprefix('val_')}" if column.startswith("val_") else column


def format_number(value: float, *, digits: int = 3) -> str:
    """A number for people: three significant digits unless told otherwise, no trailing zeros; ``-`` for a missing one."""
    if value != value:
        return "-"
    if abs(value) == float("inf"):
        return "inf" if value > 0 else "-inf"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{float(f'{value:.{digits}g}'):,.10g}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def format_length(epochs: float, steps: float | None = None) -> str:
    """How long a run is, for people: by its steps where they are given, as its budget.

    >>> format_length(24), format_length(3.21, 500)
    ('24 epochs', '500 steps (3.21 epochs)')
    """
    passes = f"{format_number(epochs)} epochs"
    return passes if steps is None else f"{steps:,.0f} steps ({passes})"


def format_seconds(seconds: float) -> str:
    """A time for people, in the unit that keeps it readable: ``7.74 ms``, ``12.3 s``, ``5.2 min``, ``3.1 h``."""
    if not math.isfinite(seconds):
        return "never" if seconds > 0 else "-"
    if seconds == 0:
        return "0 s"
    units = (("ms", 1e-3, 0.1), ("s", 1, 120), ("min", 60, 7200), ("h", 3600, math.inf))
    unit, length = next((unit, length) for unit, length, below in units if seconds < below)
    return f"{format_number(seconds / length)} {unit}"


def describe_edge(row: Mapping[str, Any], *, short: bool = False) -> str:
    """A row of ``find_edges``: the edge with its interval in square brackets, or on which side of the range it is."""
    if row["learning_rate"] > 0:
        edge, low, high = (format_number(row[key], digits=2) for key in ("learning_rate", "low", "high"))
        return f"{edge} [{low} to {high}]"
    if row["low"] > 0:
        return f"above {format_number(row['low'])}" + ("" if short else " (the highest tried)")
    return f"below {format_number(row['high'])}" + ("" if short else " (the lowest tried)")


def log_ticks(low: float, high: float, *, at_most: int = 6) -> list[float]:
    """Where a log axis from ``low`` to ``high`` is labelled: decades; where they are few 1-2-5, then 1 to 9, then its ends."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for at_least, steps in ((3, (1,)), (2, (1, 2, 5)), (2, range(1, 10))):
        ticks = [m * 10.0**k for k in decades for m in steps if low <= m * 10.0**k * 1.001 and m * 10.0**k <= high * 1.001]
        if len(ticks) >= at_least:
            break
    else:
        ticks = [low] if high / low < 1.2 else [low, high]
    return ticks[:: -(-len(ticks) // at_most)]
