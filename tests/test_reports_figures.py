"""Figures: they draw every table a study can produce, and no run is missing from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import four_verdicts, tables
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

from reports.batch_size import minibatch_points
from reports.figures import (
    FIGURES,
    LINES,
    draw_figures,
    plot_batch_time,
    plot_bumps,
    plot_final_height,
    plot_learning_curves,
    plot_loss_and_metric,
    plot_map,
    plot_time_to_bottom,
)
from reports.judged import Judged, judge
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


def with_minibatches(*sizes: int) -> Tables:
    """Two seeds at two learning rates; the minibatch loss is the height and noise of 1/sqrt(batch size)."""
    random, heights = np.random.default_rng(0), [2.0, 1.5, 1.0, 0.5, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    runs, curves = tables({(size, rate): [heights, heights] for size in sizes for rate in (0.1, 0.2)})
    noise = random.normal(size=len(curves)) / np.sqrt(curves["trial"].map(runs.set_index("trial")["batch_size"]))
    return runs, pd.concat([curves, curves.assign(metric="minibatch_loss", value=curves["value"] + noise)], ignore_index=True)


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
    "minibatch losses": with_minibatches(16, 64, 256),
    "minibatch losses of one size": with_minibatches(16),
    "40 learning rates x 6 batch sizes": many_cells(),
}


@cache
def draw_case(case: str) -> dict[str, Figure]:
    return draw(*CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_every_study_can_be_drawn(case: str) -> None:
    figures = draw_case(case)
    for figure in figures.values():
        figure.savefig(BytesIO(), dpi=40)
    drawable = {
        "loss_and_metric": case not in ("no validation", "all divergent"),
        "bumps": "minibatch losses" in case,
        "batch_time": CASES[case][0]["batch_size"].nunique() > 1,
    }
    assert list(figures) == [name for name in FIGURES if drawable.get(name, True)]


def test_nothing_finished_draws_nothing() -> None:
    runs, curves = four_verdicts()
    assert draw(runs.assign(state="RUNNING"), curves.iloc[:0]) == {}


@pytest.mark.parametrize("case", ["four verdicts", "all divergent", "none good", "40 learning rates x 6 batch sizes"])
def test_no_cell_or_run_is_left_out(case: str) -> None:
    runs, curves = CASES[case]
    figures, n_cells = draw_case(case), len(classify_cells(runs, curves))
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
    paths = [sum((c.get_segments() for c in ax.collections if isinstance(c, LineCollection)), []) for ax in panels]
    assert [len(lines) for lines in paths] == [LINES, 2]
    assert "360 runs\n300 of them drawn" in panels[0].get_title() and "drawn" not in panels[1].get_title()
    ends = np.array([path[-1, 1] for path in paths[0]])
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
    assert [text.get_text() for text in figure.axes[0].texts] == ["These runs recorded no validation metrics."]


def test_a_metric_named_like_a_formula_is_drawn_as_it_is_written() -> None:
    runs, curves = four_verdicts()
    figure = draw(runs.rename(columns={"val_accuracy": r"val_$\evil$"}), curves)["loss_and_metric"]
    figure.savefig(BytesIO())
    assert figure.axes[1].get_ylabel() == r"validation $\evil$"


def test_colour_is_never_the_only_sign() -> None:
    for sign in ("marker", "sign", "letter", "dash", "colour"):
        assert len({getattr(style, sign) for style in STYLES.values()}) == len(STYLES)


PLOTS: dict[str, Callable[[Judged, Axes | None], Figure]] = {
    "map": lambda judged, ax: plot_map(judged.cells, judged.recommendations, judged.boundaries, ax=ax),
    "time_to_bottom": lambda judged, ax: plot_time_to_bottom(judged.cells, ax=ax),
    "final_height": lambda judged, ax: plot_final_height(judged.runs, ax=ax),
    "learning_curves": lambda judged, ax: plot_learning_curves(judged.runs, judged.curves, ax=ax),
    "loss_and_metric": lambda judged, ax: plot_loss_and_metric(judged.cells, metrics=["val_loss"], ax=ax),
    "bumps": lambda judged, ax: plot_bumps(judged.batch_sizes, judged.runs, judged.curves, ax=ax),
    "batch_time": lambda judged, ax: plot_batch_time(judged.batch_sizes, ax=ax),
}


def test_every_figure_has_a_plot_here() -> None:
    assert list(PLOTS) == list(FIGURES)


@pytest.mark.parametrize("name", PLOTS)
def test_a_figure_of_one_batch_size_is_drawn_into_given_axes_or_its_own(name: str) -> None:
    judged, figure = judge(*with_minibatches(16)), Figure(layout="constrained")
    ax = figure.subplots(1, 2)[0]
    assert PLOTS[name](judged, ax) is figure and len(figure.axes) == 2
    assert ax.get_xlabel() and ax.get_ylabel() and ax.get_title() and ax.get_legend() is not None
    own = PLOTS[name](judged, None)
    assert own is not figure and len(own.axes[0].lines) >= len(ax.lines) > 0
    figure.savefig(BytesIO())
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", [name for name in PLOTS if name not in ("map", "batch_time")])
def test_axes_for_one_batch_size_refuse_a_table_of_several(name: str) -> None:
    with pytest.raises(ValueError, match="ax shows one batch size, choose rows of one; got 16, 64$"):
        PLOTS[name](judge(*with_minibatches(16, 64)), Figure().add_subplot())


def test_axes_refuse_a_table_without_rows() -> None:
    with pytest.raises(ValueError, match="ax shows one batch size, choose rows of one; got none$"):
        plot_final_height(judge(*four_verdicts()).runs.iloc[:0], ax=Figure().add_subplot())


def test_axes_show_one_metric_and_the_figure_those_named() -> None:
    cells = judge(*four_verdicts()).cells
    with pytest.raises(ValueError, match="ax shows one metric, name it with metrics; got val_loss, val_accuracy$"):
        plot_loss_and_metric(cells, ax=Figure().add_subplot())
    with pytest.raises(ValueError, match="metrics must be columns of cells, such as val_loss, val_accuracy, got val_f1$"):
        plot_loss_and_metric(cells, metrics=["val_f1"])
    assert [ax.get_ylabel() for ax in plot_loss_and_metric(cells, metrics=["val_accuracy"]).axes] == ["validation accuracy"]


def test_the_map_shows_every_edge_with_its_interval() -> None:
    judged = judge(*four_verdicts())
    drawn = {tuple(np.ravel(line.get_xdata())) for line in plot_map(judged.cells, None, judged.boundaries).axes[0].lines}
    for row in judged.boundaries.to_dict("records"):
        assert {(row["low"], row["high"]), (row["learning_rate"],)} <= drawn


def test_the_map_of_some_batch_sizes_leaves_the_others_edges_out() -> None:
    judged = judge(*with_minibatches(16, 64))
    one = judged.cells[judged.cells["batch_size"] == 64]
    ax = plot_map(one, judged.recommendations, judged.boundaries).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["64"]
    others = [table[table["batch_size"] == 16] for table in (judged.recommendations, judged.boundaries)]
    ax = plot_map(one, *others).axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(STYLES)


def test_bumps_show_every_recorded_minibatch_of_one_seed_in_one_range() -> None:
    judged = judge(*with_minibatches(16, 64, 256))
    panels = draw_figures(judged)["bumps"].axes
    assert [ax.get_title().split(":")[0] for ax in panels] == ["batch size 16", "batch size 256"]
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in panels}) == 1
    points = minibatch_points(judged.curves, judged.runs["trial"])
    for ax in panels:
        height, losses = (np.asarray(line.get_ydata()) for line in ax.lines)
        recorded = [group.clip(upper=ax.get_ylim()[1]) for _, group in points.groupby("trial")["minibatch_loss"]]
        assert sum(np.allclose(values, losses) for values in recorded) == 1 and len(height) == len(losses) == 11


def test_a_minibatch_loss_far_above_the_hill_stands_on_the_top_edge() -> None:
    runs, curves = with_minibatches(16)
    curves.loc[curves.index[curves["metric"] == "minibatch_loss"][5::11], "value"] = 1e9
    judged = judge(runs, curves)
    ax = plot_bumps(judged.batch_sizes, judged.runs, judged.curves).axes[0]
    assert ax.get_ylim()[1] < 5 and max(ax.lines[1].get_ydata()) == ax.get_ylim()[1]


def test_batch_times_are_written_beside_their_marks_and_never_is_said() -> None:
    sizes = judge(*with_minibatches(16, 64)).batch_sizes.assign(time_to_bottom_seconds=[0.5, math.inf])
    ax = plot_batch_time(sizes).axes[0]
    assert {text.get_text() for text in ax.texts} == {"0.2 s", "0.5 s", "never"}
    assert ax.get_title() == "Soonest at the bottom by the clock: batch size 16, 0.5 s"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["16", "64"]
    never = plot_batch_time(sizes.assign(time_to_bottom_seconds=math.inf)).axes[0]
    assert never.get_title() == "None gets to the bottom"


def test_the_map_names_real_batch_sizes() -> None:
    ax = draw_case("40 learning rates x 6 batch sizes")["map"].axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["8", "16", "32", "64", "128", "256"]
