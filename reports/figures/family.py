"""The family of figures: what each shows, and all that a judged study can fill.

A new one is a file with a ``CAPTION`` and a ``draw``, and an entry here.
"""

from typing import Protocol

from matplotlib.figure import Figure

from reports.figures import (
    batch_law,
    batch_time,
    bumps,
    final_height,
    learning_curves,
    loss_and_metric,
    search_order,
    time_to_bottom,
    verdict_map,
)
from reports.judging.judged import Judged


class Member(Protocol):
    """A module of this package that draws a figure."""

    CAPTION: str

    def draw(self, judged: Judged, /) -> Figure | None:
        """The figure of a study that has cells; None where the study has nothing to fill it with."""


MEMBERS: dict[str, Member] = {
    "map": verdict_map,
    "search_order": search_order,
    "time_to_bottom": time_to_bottom,
    "final_height": final_height,
    "learning_curves": learning_curves,
    "loss_and_metric": loss_and_metric,
    "bumps": bumps,
    "batch_time": batch_time,
    "batch_law": batch_law,
}

FIGURES: dict[str, str] = {name: member.CAPTION for name, member in MEMBERS.items()}
"""Names of the figures, which are their file stems too, and what each shows."""


def draw_figures(judged: Judged) -> dict[str, Figure]:
    """The figures a judged study can fill, by the names in ``FIGURES``."""
    if judged.cells.empty:
        return {}
    drawn = {name: member.draw(judged) for name, member in MEMBERS.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}
