"""Figures: they draw every table a study can produce, and no run is missing from them."""

from __future__ import annotations

import math
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import four_verdicts, tables
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from reports.figures import FIGURES, LINES, draw_figures, plot_loss_and_metric, plot_map, plot_time_to_bottom
from reports.judged import judge
from reports.style import DIVERGENT, GOOD, STYLES
from reports.verdicts import classify_cells

Tables = tuple[pd.DataFrame, pd.DataFrame]
DOWN, FLAT, BLOWN = [2.0, 0.1, 0.0, 0.0, 0.0], [2.0, 1.95, 1.9, 1.85, 1.8], [2.0, 9.0, math.inf]


def draw(runs: pd.DataFrame, curves: pd.DataFrame) -> dict[str, Figure]:
    return draw_figures(judge(runs, curves))


def marks(figure: Figure) -> int:
    return sum(len(c.get_offsets()) for ax in figure.axes for c in ax.collections if isinstance(c, PathCollection))


def many_cells() -> Tables:
    sizes, rates = [2**k for k in range(3, 9)], np.geomspace(1e-5, 100, 40)
    return tables({(size, rate): [[2.0, 2.0 / (1 + rate), 2.0 / (1 + 9 * rate)]] for size in sizes for rate in rates})


def crashed() -> Tables:
    runs, curves = four_verdicts()
    missing = {"trial": 4, "state": "FAIL", "error": "no memory", "first_height": math.nan, "final_height": math.nan}
    return pd.concat([runs, runs.tail(1).assign(**missing)], ignore_index=True), curves


def no_validation() -> Tables:
    runs, curves = four_verdicts()
    return runs.drop(columns=["val_loss", "val_accuracy"]), curves


CASES: dict[str, Tables] = {
    "four verdicts": four_verdicts(),
    "one cell": tables({(32, 0.1): [DOWN]}),
    "one learning rate": tables({(8, 0.1): [DOWN, FLAT], (32, 0.1): [FLAT]}),
    "two close learning rates": tables({(8, 0.11): [DOWN], (8, 0.12): [DOWN]}),
    "all divergent": tables({(32, 1.0): [BLOWN, BLOWN], (32, 2.0): [BLOWN, BLOWN]}),
    "none divergent": tables({(32, 0.01): [FLAT], (32, 0.1): [DOWN]}),
    "none good": tables({(32, 0.1): [[2.0, 2.1, 2.1, 2.1]], (32, 1.0): [[2.0, 2.2, 2.2, 2.2]]}),
    "a loss of zero throughout": tables({(32, 0.1): [[0.0, 0.0, 0.0]]}),
    "negative heights": tables({(32, 0.1): [[-1.0, -2.0, -3.0, -3.0]], (32, 1.0): [[-1.0, 5.0, 1e30]]}),
    "a trial that crashed": crashed(),
    "no validation": no_validation(),
    "40 learning rates x 6 batch sizes": many_cells(),
}


@pytest.mark.parametrize("case", CASES)
def test_every_study_can_be_drawn(case: str) -> None:
    figures = draw(*CASES[case])
    for figure in figures.values():
        figure.savefig(BytesIO(), dpi=40)
    assert set(FIGURES) - set(figures) == ({"loss_and_metric"} if case in ("no validation", "all divergent") else set())


def test_nothing_finished_draws_nothing() -> None:
    runs, curves = four_verdicts()
    assert draw(runs.assign(state="RUNNING"), curves.iloc[:0]) == {}


@pytest.mark.parametrize("case", ["four verdicts", "all divergent", "none good", "40 learning rates x 6 batch sizes"])
def test_no_cell_or_run_is_left_out(case: str) -> None:
    runs, curves = CASES[case]
    figures, n_cells = draw(runs, curves), len(classify_cells(runs, curves))
    assert marks(figures["map"]) == marks(figures["time_to_bottom"]) == n_cells
    assert marks(figures["final_height"]) == len(runs)


def test_a_divergent_cell_stands_at_the_top_of_the_time_to_bottom() -> None:
    ax = plot_time_to_bottom(classify_cells(*four_verdicts())).axes[0]
    heights = {c.get_label(): c.get_offsets()[0][1] for c in ax.collections if len(c.get_offsets())}
    assert heights[DIVERGENT] == max(heights.values()) > heights[GOOD]
    assert "never" in [label.get_text() for label in ax.get_yticklabels()]


def test_of_many_runs_some_of_every_learning_rate_are_drawn_and_the_panel_says_how_many() -> None:
    rates = np.geomspace(0.001, 1, 40)
    cells = {(8, rate): [[2.0, 2.0 - rate * (1 + k / 100), 2.0 - rate * (1 + k / 100)] for k in range(9)] for rate in rates}
    panels = draw(*tables(cells | {(16, 0.1): [DOWN, FLAT]}))["learning_curves"].axes
    paths = [[line for line in ax.lines if line.get_linewidth() == 0.9] for ax in panels]
    assert [len(lines) for lines in paths] == [LINES, 2]
    assert "360 runs\n300 of them drawn" in panels[0].get_title() and "drawn" not in panels[1].get_title()
    ends = np.array([line.get_ydata()[-1] for line in paths[0]])
    assert {int(np.argmin(np.abs(np.log((2 - end) / 1.04 / rates)))) for end in ends} == set(range(40))


def test_a_divergent_run_is_marked_where_it_leaves_the_picture() -> None:
    ax = draw(*four_verdicts())["learning_curves"].axes[0]
    left = [line for line in ax.lines if line.get_marker() == STYLES[DIVERGENT].marker]
    assert [float(np.ravel(line.get_ydata())[0]) for line in left] == [ax.get_ylim()[1]]


def test_non_finite_cells_stand_on_the_worse_edge_of_a_metric() -> None:
    cells = classify_cells(*four_verdicts()).assign(val_accuracy=[0.2, 0.9, 0.5, math.nan])
    loss, accuracy = plot_loss_and_metric(cells).axes
    edges = {ax: next(c for c in ax.collections if c.get_label() == DIVERGENT).get_offsets()[0][1] for ax in (loss, accuracy)}
    assert edges[loss] == pytest.approx(loss.get_ylim()[1])
    assert edges[accuracy] == pytest.approx(accuracy.get_ylim()[0])


def test_without_validation_metrics_the_figure_says_so() -> None:
    figure = plot_loss_and_metric(classify_cells(*no_validation()))
    assert [text.get_text() for text in figure.texts] == ["These runs recorded no validation metrics."]


def test_a_metric_named_like_a_formula_is_drawn_as_it_is_written() -> None:
    runs, curves = four_verdicts()
    figure = draw(runs.rename(columns={"val_accuracy": r"val_$\evil$"}), curves)["loss_and_metric"]
    figure.savefig(BytesIO())
    assert figure.axes[1].get_ylabel() == r"validation $\evil$"


def test_colour_is_never_the_only_sign() -> None:
    for sign in ("marker", "sign", "letter", "dash", "colour"):
        assert len({getattr(style, sign) for style in STYLES.values()}) == len(STYLES)


def test_the_map_draws_into_given_axes_and_leaves_pyplot_alone() -> None:
    judged = judge(*four_verdicts())
    ax = Figure().add_subplot()
    assert plot_map(judged.cells, judged.recommendations, judged.boundaries, ax=ax) is ax
    assert plot_map(judged.cells).get_figure() is not None
    assert plt.get_fignums() == []


def test_the_map_shows_every_edge_with_its_interval() -> None:
    judged = judge(*four_verdicts())
    ax = plot_map(judged.cells, None, judged.boundaries)
    drawn = {tuple(np.ravel(line.get_xdata())) for line in ax.lines}
    for row in judged.boundaries.to_dict("records"):
        assert {(row["low"], row["high"]), (row["learning_rate"],)} <= drawn


def test_the_map_names_real_batch_sizes() -> None:
    ax = draw(*many_cells())["map"].axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["8", "16", "32", "64", "128", "256"]
