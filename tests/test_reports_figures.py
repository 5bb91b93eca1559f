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
from conftest import four_verdicts, searched, tables
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

from reports.figures import (
    FIGURES,
    draw_figures,
    plot_batch_time,
    plot_bumps,
    plot_final_height,
    plot_learning_curves,
    plot_loss_and_metric,
    plot_map,
    plot_search_order,
    plot_time_to_bottom,
)
from reports.figures.learning_curves import LINES
from reports.figures.search_order import find_agreed, order_runs
from reports.judging.batch_size import minibatch_points
from reports.judging.judged import Judged, judge
from reports.judging.verdicts import classify_cells
from reports.style import DIVERGENT, GOOD, STYLES, TOO_HIGH, TOO_LOW, log_ticks

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
    "a search": searched(),
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
        "search_order": case == "a search",
        "loss_and_metric": case not in ("no validation", "all divergent"),
        "bumps": "minibatch losses" in case,
        "batch_time": CASES[case][0]["batch_size"].nunique() > 1,
        "batch_law": False,  # tests/test_reports_batch_law.py
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


def layout(figure: Figure) -> list[tuple[int, int]]:
    """Row and column of each panel."""
    where = [ax.get_subplotspec() for ax in figure.axes]
    return [(spec.rowspan.start, spec.colspan.start) for spec in where if spec is not None]


@pytest.mark.parametrize(
    ("n", "places"),
    [
        (1, [(0, 0)]),
        (2, [(0, 0), (0, 1)]),
        (3, [(0, 0), (0, 1), (0, 2)]),
        (4, [(0, 0), (0, 1), (1, 0), (1, 1)]),
        (5, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]),
    ],
)
def test_panels_of_batch_sizes_lie_in_rows_of_three_and_four_make_a_square(n: int, places: list[tuple[int, int]]) -> None:
    cells = judge(*tables({(2**k, rate): [DOWN] for k in range(3, 3 + n) for rate in (0.1, 1)})).cells
    figure = plot_time_to_bottom(cells)
    assert layout(figure) == places
    written = [ax.yaxis.get_tick_params()["labelleft"] for ax in figure.axes]
    assert written == [column == 0 for _, column in places]
    lowest = {column: row for row, column in places}
    assert [bool(ax.get_xlabel()) for ax in figure.axes] == [row == lowest[column] for row, column in places]


def test_metrics_lie_below_each_other_and_beside_each_other_for_one_batch_size() -> None:
    judged = judge(*with_minibatches(16, 64, 256))
    assert layout(plot_loss_and_metric(judged.cells)) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert layout(plot_loss_and_metric(judged.cells[judged.cells["batch_size"] == 16])) == [(0, 0), (0, 1)]


@pytest.mark.parametrize("name", ["time_to_bottom", "final_height", "learning_curves", "loss_and_metric"])
def test_panels_of_batch_sizes_can_be_compared_they_have_the_same_scales(name: str) -> None:
    cells = {(8, 0.1): [[2.0, 0.01, 0.005, 0.005]], (64, 0.1): [[2.0, 1.9, 1.5, 1.0]], (64, 10.0): [[2.0, 1.2, 1.1, 1.0]]}
    first, second, *_ = draw(*tables(cells))[name].axes
    assert (first.get_xlim(), first.get_ylim()) == (second.get_xlim(), second.get_ylim())
    assert (first.get_xscale(), first.get_yscale()) == (second.get_xscale(), second.get_yscale())


def bars(ax: Axes) -> dict[float, tuple[float, float]]:
    """Lower and upper end of the bar at each learning rate."""
    lines = [path for c in ax.collections if isinstance(c, LineCollection) for path in c.get_segments()]
    return {round(float(x), 6): (float(low), float(high)) for (x, low), (_, high) in lines}


def test_a_bar_spans_the_seeds_of_a_cell_and_ends_at_the_row_of_those_that_never_arrive() -> None:
    judged = judge(*tables({(8, 0.1): [DOWN, FLAT, DOWN], (8, 0.2): [DOWN, [2.0, 1.0, 0.0, 0.0, 0.0], DOWN]}))
    assert set(bars(plot_time_to_bottom(judged.cells).axes[0])) == set()
    figure = plot_time_to_bottom(judged.cells, judged.runs)
    assert "range of the seeds" in [text.get_text() for text in figure.legends[0].get_texts()]
    spans, ax = bars(figure.axes[0]), figure.axes[0]
    never = dict(zip([label.get_text() for label in ax.get_yticklabels()], ax.get_yticks(), strict=True))["never"]
    times = judged.runs.groupby("learning_rate")["time_to_bottom"]
    assert spans[0.2] == pytest.approx((times.min()[0.2], times.max()[0.2]))
    assert spans[0.1] == pytest.approx((times.min()[0.1], never))


def test_a_bar_of_validation_ends_at_the_worse_edge_where_a_seed_is_not_finite() -> None:
    runs, curves = tables({(8, 0.1): [DOWN, DOWN], (8, 1.0): [[2.0, 1.0, 1.0], [2.0, 1.5, 1.5], BLOWN]})
    judged = judge(runs, curves)
    ax = plot_loss_and_metric(judged.cells, judged.runs, metrics=["val_loss"]).axes[0]
    assert bars(ax)[1.0] == pytest.approx((1.0, ax.get_ylim()[1]))


@pytest.mark.parametrize("name", ["time_to_bottom", "final_height", "loss_and_metric"])
def test_what_to_use_is_a_line_in_each_panel_and_its_interval_a_band(name: str) -> None:
    judged = judge(*with_minibatches(16, 64))
    for ax, use in zip(draw_figures(judged)[name].axes, judged.recommendations.to_dict("records"), strict=False):
        upright = [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2]
        assert upright == [use["learning_rate"]]
        assert [(band.get_x(), band.get_x() + band.get_width()) for band in ax.patches] == [
            pytest.approx((use["low"], use["high"]))
        ]


def test_the_map_says_what_to_use() -> None:
    def title(*sizes: int, bad: int | None = None) -> str:
        good = {(size, rate): [run, run] for size in sizes for rate, run in ((0.01, FLAT), (0.1, DOWN), (1, BLOWN))}
        none = {} if bad is None else {(bad, rate): [BLOWN, BLOWN] for rate in (0.01, 0.1)}
        judged = judge(*tables(good | none))
        return str(plot_map(judged.cells, judged.recommendations).axes[0].get_title())

    assert title(8) == "Use 0.1 at batch size 8"
    assert title(8, 16, 32) == "Use 0.1 at batch size 8, 0.1 at 16, 0.1 at 32"
    assert title(8, 16, bad=32) == "Use 0.1 at batch size 8, 0.1 at 16; nothing is good at 1 of 3"
    assert title(8, 16, 32, 64) == "Use 0.1"
    assert title(bad=8) == "Nothing to recommend: 0 good, 2 divergent of 2 learning rates"
    assert plot_map(classify_cells(*four_verdicts())).axes[0].get_title() == "1 good, 1 divergent of 4 learning rates"


def test_the_title_of_bumps_compares_the_two_batch_sizes() -> None:
    judged = judge(*with_minibatches(16, 256))
    small, large = judged.batch_sizes["bumpiness"]
    title = draw_figures(judged)["bumps"].get_suptitle()
    assert title == f"A step at batch size 16 sees a hill {small / large:.2g} times as bumpy as at 256"
    assert plot_bumps(judged.batch_sizes.iloc[:1], judged.runs, judged.curves).get_suptitle() == "What a step sees of the hill"


def test_a_long_name_of_a_metric_is_cut_and_dollars_in_it_are_no_formula() -> None:
    name = "val_$\\evil$ " + "long " * 100
    cells = classify_cells(*four_verdicts()).assign(**{name: 0.5})
    figure = plot_loss_and_metric(cells, metrics=[name])
    figure.savefig(BytesIO(), dpi=40)
    assert figure.axes[0].get_ylabel().startswith("validation $\\evil$ long") and len(figure.axes[0].get_ylabel()) == 40


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.003, 30, [0.01, 0.1, 1, 10]),
        (3, 30, [5, 10, 20]),
        (1.78, 4.42, [2, 3, 4]),
        (2, 3.2, [2, 3]),
        (2.6, 2.7, [2.6]),
        (1e-5, 100, [1e-5, 1e-3, 0.1, 10]),
    ],
)
def test_ticks_of_a_log_axis_are_the_roundest_numbers_in_it(low: float, high: float, ticks: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(ticks)


def test_colour_is_never_the_only_sign() -> None:
    for sign in ("marker", "sign", "letter", "dash", "colour"):
        assert len({getattr(style, sign) for style in STYLES.values()}) == len(STYLES)


PLOTS: dict[str, Callable[[Judged, Axes | None], Figure]] = {
    "map": lambda judged, ax: plot_map(judged.cells, judged.recommendations, judged.edges, ax=ax),
    "search_order": lambda judged, ax: plot_search_order(judged.runs, judged.edges, ax=ax),
    "time_to_bottom": lambda judged, ax: plot_time_to_bottom(
        judged.cells, judged.runs, recommendations=judged.recommendations, ax=ax
    ),
    "final_height": lambda judged, ax: plot_final_height(judged.runs, judged.recommendations, ax=ax),
    "learning_curves": lambda judged, ax: plot_learning_curves(judged.runs, judged.curves, ax=ax),
    "loss_and_metric": lambda judged, ax: plot_loss_and_metric(
        judged.cells, judged.runs, recommendations=judged.recommendations, metrics=["val_loss"], ax=ax
    ),
    "bumps": lambda judged, ax: plot_bumps(judged.batch_sizes, judged.runs, judged.curves, ax=ax),
    "batch_time": lambda judged, ax: plot_batch_time(judged.batch_sizes, ax=ax),
}


def test_order_of_a_search_is_that_of_its_trials_with_what_each_took() -> None:
    runs = judge(*searched()).runs
    shuffled = runs.sample(frac=1, random_state=0)
    rows = order_runs(pd.concat([shuffled, runs.tail(1).assign(trial=99, state="RUNNING")]))
    assert rows["order"].tolist() == list(range(9)) and rows["learning_rate"].tolist() == runs["learning_rate"].tolist()
    assert rows["share"].tolist() == [0.1, 1, 1, 0.4, 0.4, 0.5, 0.5, 0.5, 1]
    assert rows["whole"].tolist() == (runs["state"] == "COMPLETE").tolist()
    assert rows["verdict"].isna().tolist() == [True] + [False] * 8 and rows["seed"].tolist() == runs["seed"].tolist()
    two = order_runs(pd.concat([runs, runs.assign(batch_size=8)]))
    assert two["batch_size"].is_monotonic_increasing and two["order"].tolist() == [*range(9), *range(9)]


def agreed(*runs: tuple[float, int, str | None]) -> list[dict[str, tuple[float, float]]]:
    """By the order of runs (learning rate, seed, verdict) what ``find_agreed`` says of each verdict."""
    rows = pd.DataFrame(runs, columns=["learning_rate", "seed", "verdict"]).rename_axis("order").reset_index()
    found: list[dict[str, tuple[float, float]]] = [{} for _ in runs]
    for order, verdict, low, high in find_agreed(rows).itertuples(index=False):
        found[order][verdict] = (low, high)
    return found


def test_agreed_is_what_every_seed_tried_so_far_says() -> None:
    assert agreed(
        (1.0, 0, None),
        (0.1, 0, GOOD),
        (0.01, 0, TOO_LOW),
        (1.0, 0, TOO_HIGH),
        (3.0, 0, TOO_HIGH),
        (0.3, 0, GOOD),
        (0.2, 1, GOOD),
        (0.03, 1, TOO_LOW),
        (0.5, 1, DIVERGENT),
    ) == [
        {},
        {},
        {TOO_LOW: (0, 0.01)},
        {TOO_LOW: (0, 0.01)},
        {TOO_LOW: (0, 0.01), TOO_HIGH: (1.0, 3.0)},
        {TOO_LOW: (0, 0.01), GOOD: (0.1, 0.3), TOO_HIGH: (1.0, 3.0)},
        {},
        {TOO_LOW: (0, 0.01)},
        {TOO_LOW: (0, 0.01)},
    ]


def test_a_search_shows_every_run_a_bar_for_each_and_the_edges_with_their_intervals() -> None:
    judged = judge(*searched())
    figure = draw_figures(judged)["search_order"]
    [panel], [strip] = figure.axes, figure.axes[0].child_axes
    assert figure.get_suptitle() == "How 9 runs, 3 of them to the end, closed in on the edges"
    assert marks(figure) == 8
    hollow = next(line for line in panel.lines if line.get_markerfacecolor() == "white")
    assert (list(hollow.get_xdata()), list(hollow.get_ydata())) == ([0.001], [0])
    first, last = (panel.transData.transform((1, y))[1] for y in (0, 8))
    assert first > last  # the first run stands at the top
    drawn = {tuple(np.ravel(line.get_xdata())) for line in panel.lines}
    for row in judged.edges.to_dict("records"):
        assert {(row["low"], row["high"]), (row["learning_rate"],)} <= drawn
    tracks, bars = strip.patches[:9], strip.patches[9:]
    assert [bar.get_y() for bar in bars] == [track.get_y() for track in tracks] == pytest.approx([k - 0.4 for k in range(9)])
    widths = [bar.get_width() / track.get_width() for bar, track in zip(bars, tracks, strict=True)]
    assert widths == pytest.approx(order_runs(judged.runs)["share"].tolist())
    assert [int(track.get_x()) for track in tracks] == judged.runs["seed"].tolist()
    assert [label.get_text() for label in strip.get_xticklabels()] == ["0", "1"]


def test_every_figure_has_a_plot_here() -> None:
    assert [*PLOTS, "batch_law"] == list(FIGURES)


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
    drawn = {tuple(np.ravel(line.get_xdata())) for line in plot_map(judged.cells, None, judged.edges).axes[0].lines}
    for row in judged.edges.to_dict("records"):
        assert {(row["low"], row["high"]), (row["learning_rate"],)} <= drawn


def test_the_map_of_some_batch_sizes_leaves_the_others_edges_out() -> None:
    judged = judge(*with_minibatches(16, 64))
    one = judged.cells[judged.cells["batch_size"] == 64]
    ax = plot_map(one, judged.recommendations, judged.edges).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["64"]
    others = [table[table["batch_size"] == 16] for table in (judged.recommendations, judged.edges)]
    ax = plot_map(one, *others).axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(STYLES)


def test_bumps_show_every_recorded_minibatch_of_one_seed_in_one_range() -> None:
    judged = judge(*with_minibatches(16, 64, 256))
    panels = draw_figures(judged)["bumps"].axes
    assert [ax.get_title().split("\n")[0] for ax in panels] == ["batch size 16", "batch size 256"]
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
    unlike = plot_batch_time(sizes.assign(runs_together=[24.0, 1.0])).axes[0]
    assert unlike.get_title() == "Not to be compared: trained 24 together at batch size 16, alone at batch size 64"


def test_the_map_names_real_batch_sizes() -> None:
    ax = draw_case("40 learning rates x 6 batch sizes")["map"].axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["8", "16", "32", "64", "128", "256"]
