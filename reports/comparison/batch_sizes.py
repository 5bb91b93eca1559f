"""What the laws of several studies foretell at the batch sizes that any of them tried."""

from collections.abc import Mapping

import pandas as pd

from reports.judging.edges import COVERAGE
from reports.judging.judged import Judged
from reports.judging.recommendation import TO_TOO_HIGH
from reports.style import format_number

FORETOLD = "batch_size study tried use low high share good_to good_to_low good_to_high".split()


def foretell(judged: Mapping[str, Judged]) -> pd.DataFrame:
    """A row a batch size that any study tried, and study whose law reaches it.

    ``tried``: whether the law rests on it; what to ``use``, ``low`` to ``high`` the interval that is good on at least ``share``
    of new seeds; ``good_to`` with its 90 % interval.
    """
    rows = []
    for size in sorted({int(size) for study in judged.values() for size in study.cells["batch_size"]}):
        for name, study in judged.items():
            if study.batch_axis.foretells and study.batch_axis.reaches(size):
                found = study.batch_axis.at(size)
                edge = found.edges[TO_TOO_HIGH]
                rows.append((size, name, found.tried, *found[1:5], edge.learning_rate, edge.low, edge.high))
    return pd.DataFrame(rows, columns=FORETOLD)


def tell_batch_sizes(judged: Mapping[str, Judged], names: Mapping[str, str]) -> list[str]:
    """How the edges of each study move with the batch size, sentences."""
    return [f"{names[name]}: {told}" for name, study in judged.items() for told in study.batch_axis.tell()]


def tabulate(foretold: pd.DataFrame, names: Mapping[str, str]) -> list[list[str]]:
    """A row a batch size and a column a study of ``names``, as text: what to use, and where that is safe."""
    cells = {
        (row.batch_size, row.study): f"{'~' * (row.share < COVERAGE)}{format_number(row.use)} ({format_number(row.low)} to"
        f" {format_number(row.high)}){'' if row.tried else ', foretold'}"
        for row in foretold.itertuples()
    }
    return [[str(size), *(cells.get((size, name), "-") for name in names)] for size in foretold["batch_size"].unique()]
