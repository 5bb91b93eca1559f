"""How far the law of the batch sizes was off at sizes that it never saw, against rules that need no law."""

import math
from collections.abc import Callable, Sequence

import pandas as pd

from reports.judging.at_batch_size import BatchAxis
from reports.judging.batch_law import MIDDLE, BatchLaw, Centre, find_centres
from reports.judging.recommendation import TO_DIVERGENT, TO_TOO_HIGH
from reports.style import format_number

HOLD_OUT = "batch_size edge measured predicted low high held off off_nearest off_square_root".split()
NAMED = (TO_TOO_HIGH, MIDDLE, TO_DIVERGENT)


def judge_hold_out(axis: BatchAxis, runs: pd.DataFrame) -> pd.DataFrame:
    """What was foretold against what fresh runs at other batch sizes showed; runs: as ``classify`` returns them.

    A row for each batch size and each edge that has a law, and the middle of the good range: ``measured``, where it lies by the
    fresh runs; ``predicted`` with its 90 % interval, ``low`` to ``high``, and whether it ``held``; and how far, in decades of
    learning rate, the prediction was ``off``, as well as *keep the nearest size's* (on a log scale) and the square-root rule
    from there. Edges that the fresh runs did not meet are left out, and batch sizes too far outside to foretell.
    """
    rows = []
    for name in NAMED:
        law = axis.laws.get(name)
        for centre in find_centres(runs)[name] if law else ():
            if law is None or centre.side or not axis.reaches(centre.batch_size):
                continue
            found = law.predict(centre.batch_size)
            off = {rule: abs(rate(axis.centres[name], law, centre.batch_size) - centre.mean) for rule, rate in RULES.items()}
            held = found.low <= 10**centre.mean <= found.high
            rows.append((centre.batch_size, name, 10**centre.mean, *found[1:4], held, *off.values()))
    return pd.DataFrame(rows, columns=HOLD_OUT)


def tell_hold_out(table: pd.DataFrame) -> list[str]:
    """A sentence a batch size; table as ``judge_hold_out`` returns it."""
    found = []
    for size, rows in table.groupby("batch_size"):
        told = [
            f"{row.edge} at {_short(row.measured)}, foretold {_short(row.predicted)} [{_short(row.low)} to {_short(row.high)}]"
            f"{'' if row.held else ', which did not hold'}: off by {row.off:.2f} decades (nearest size's {row.off_nearest:.2f},"
            f" square-root rule {row.off_square_root:.2f})"
            for row in rows.itertuples()
        ]
        found.append(f"Held out, batch size {size}: {'; '.join(told)}.")
    return found


def _short(rate: float) -> str:
    return format_number(rate, digits=2)


def _nearest(centres: Sequence[Centre], size: int) -> Centre:
    return min((each for each in centres if not each.side), key=lambda each: abs(math.log(each.batch_size / size)))


def _predicted(centres: Sequence[Centre], law: BatchLaw, size: int) -> float:
    return math.log10(law.predict(size).learning_rate)


def _kept(centres: Sequence[Centre], law: BatchLaw, size: int) -> float:
    return _nearest(centres, size).mean


def _square_root(centres: Sequence[Centre], law: BatchLaw, size: int) -> float:
    nearest = _nearest(centres, size)
    return nearest.mean + 0.5 * math.log10(size / nearest.batch_size)


RULES: dict[str, Callable[[Sequence[Centre], BatchLaw, int], float]] = {
    "off": _predicted,
    "off_nearest": _kept,
    "off_square_root": _square_root,
}
