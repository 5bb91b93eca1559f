"""Comparisons: what moved is said to have moved and chance is called chance, in tables, figures and pages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import HOSTILE, four_verdicts, tables
from scipy.stats import false_discovery_control, ttest_ind
from test_reports_queries import Replay, searched

from reports.comparison.answers import _advise, answers, describe_change, summarize
from reports.comparison.figures import FIGURES, draw_figures, drawable_names, plot_curves
from reports.comparison.folder import write_comparison
from reports.comparison.pages import render_html, render_markdown
from reports.comparison.seed_tests import ENDS, measure_seeds
from reports.comparison.significance import compare_edges, compare_means
from reports.comparison.tables import Comparison, compare, find_not_good, short_names
from reports.figures.pictures import draw_picture
from reports.judging.judged import Judged, judge
from reports.judging.verdicts import Thresholds
from reports.pages.spreadsheet import read_csv

GRID = tuple(0.01 * 10 ** (k / 4) for k in range(13))  # 0.01 to 10
EDGES = (0.1, 1.0, 3.0)  # where good begins and ends, and divergence begins


@cache
def study(
    edges: tuple[float, float, float] = EDGES,
    *,
    seeds: int = 3,
    batch_sizes: tuple[int, ...] = (32,),
    grid: tuple[float, ...] = GRID,
    start: float = 2.0,
    random: int = 0,
    metric: str = "val_loss",
    thresholds: Thresholds | None = None,
) -> Judged:
    """A judged study whose seeds have their edges 0.05 decades around the ones given, and end a little apart."""
    rng = np.random.default_rng(random)
    cells: dict[tuple[int, float], list[list[float]]] = {(size, rate): [] for size in batch_sizes for rate in grid}
    for size in batch_sizes:
        for _ in range(seeds):
            begins, ends, diverges = np.array(edges) * 10 ** rng.normal(0, 0.05, 3)
            for rate in grid:
                low = abs(rng.normal(0, 0.005))
                slow = 1.1 + 0.1 * rng.random()
                way = [1, 0.95, 0.9, 0.85, 0.8, 0.75] if rate < begins else [1, 0.05 * slow, low, low, low, low]
                if rate >= ends:
                    way = [1, 0.5, 0.6, 0.45, 0.55, 0.5] if rate < diverges else [1, 4.0, 400.0, math.inf]
                cells[size, rate].append([start * height for height in way])
    runs, curves = tables(cells)
    runs["val_accuracy"] = 1 - runs["val_loss"] / (2 * start)
    return judge(runs.rename(columns={"val_loss": metric}), curves, thresholds)


@pytest.fixture(scope="module")
def moved() -> dict[str, Judged]:
    """Two studies, the second with all edges ten times lower."""
    return {"before": study(random=1), "after": study((0.01 * 1.5, 0.1, 0.3), random=2)}


def rows(comparison: Comparison, quantity: str) -> pd.DataFrame:
    return comparison.tests[comparison.tests["quantity"] == quantity]


# --- what is chance ---


def gaps_of(edges: Any, per_decade: int = 4) -> list[tuple[float, float]]:
    """The gap of a grid from 0.001 to 100 that each edge, in decades, lies in."""
    grid = np.arange(-3, 2.01, 1 / per_decade)
    ends = np.concatenate([[-np.inf], grid, [np.inf]])
    return [(float(10 ** ends[k]), float(10 ** ends[k + 1])) for k in np.searchsorted(grid, edges)]


def share_different(times: float, *, seeds: int = 3, repeats: int = 150) -> float:
    """How often studies whose edges are this many times apart differ at a p value of 0.05."""
    rng, found = np.random.default_rng(0), []
    for _ in range(repeats):
        centre, spread = rng.uniform(-2, 1), math.exp(rng.normal(math.log(0.1), 0.7))
        first, second = (gaps_of(rng.normal(centre + shift, spread, seeds)) for shift in (0, math.log10(times)))
        found.append(compare_edges(first, second) <= 0.05)
    return float(np.mean(found))


def test_equal_edges_seldom_differ_and_moved_ones_mostly_do() -> None:
    """Three seeds, four learning rates a decade, seeds as far apart as measured: 0.03, 0.6 and 0.9 over more repeats."""
    assert share_different(1) <= 0.06
    assert share_different(2) >= 0.45
    assert share_different(4) >= 0.85


def test_edge_p_value_is_what_drawing_from_the_prior_gives() -> None:
    first, second = [(0.1, 0.2), (0.2, 0.4)], [(0.2, 0.4), (0.4, 0.8)]
    rng = np.random.default_rng(0)
    centres = rng.uniform(-2.4, 1.4, 400_000)
    spreads = np.exp(rng.normal(math.log(0.12), 1.2, centres.size))
    edges = centres + spreads * rng.normal(size=(2, centres.size))

    def posterior(gaps: list[tuple[float, float]]) -> Any:
        inside = [(math.log10(low) < edge) & (edge <= math.log10(high)) for (low, high), edge in zip(gaps, edges, strict=True)]
        return centres[inside[0] & inside[1]]

    lower, higher = posterior(first), posterior(second)
    n = min(len(lower), len(higher))
    slow = 2 * float(np.mean(lower[:n] > rng.permutation(higher)[:n]))
    assert n > 1_000 and compare_edges(first, second) == pytest.approx(slow, abs=0.04)


def test_edge_p_value_has_no_side_and_is_one_for_equal_gaps() -> None:
    first, second = [(0.1, 0.2)] * 3, [(0.3, 0.5)] * 3
    assert compare_edges(first, second) == pytest.approx(compare_edges(second, first))
    assert compare_edges(first, second) < 0.05
    assert compare_edges(first, first) == pytest.approx(1)


def test_a_wider_range_is_no_difference_by_itself() -> None:
    beyond = [(30.0, math.inf)] * 3
    assert compare_edges(beyond, [(53.0, 100.0)] * 3) > 0.2
    assert compare_edges(beyond, [(17.0, 30.0), (30.0, 53.0), (17.0, 30.0)]) > 0.05
    assert compare_edges(beyond, [(1.0, 2.0)] * 3) < 0.01
    assert math.isnan(compare_edges(beyond, [(100.0, math.inf)] * 2))
    assert math.isnan(compare_edges([(0.0, 0.1)] * 2, [(0.0, 0.2)] * 2))


def test_means_are_compared_as_welch_does_where_seeds_are_as_many() -> None:
    first, second = np.array([1.0, 1.2, 0.9]), np.array([1.5, 2.5, 1.9])
    assert compare_means(first, second) == pytest.approx(ttest_ind(first, second, equal_var=False).pvalue)
    assert math.isnan(compare_means(np.array([0.5, 0.5]), np.array([0.7, 0.7])))


def test_few_seeds_that_agree_by_luck_are_not_told_from_many() -> None:
    rng, few = np.random.default_rng(0), np.full(3, 0.98)
    assert compare_means(few, rng.normal(0.976, 0.01, 36)) > 0.05 > compare_means(few, rng.normal(0.9, 0.01, 36))


# --- tables ---


def test_edges_that_moved_exceed_the_spread_and_the_ratio_is_that_of_the_edges(moved: dict[str, Judged]) -> None:
    comparison = compare(moved)
    for quantity, edge in [("good ends", "good to too high"), ("divergence begins", "too high to divergent")]:
        [row] = rows(comparison, quantity).to_dict("records")
        places = [judged.edges.set_index("edge")["learning_rate"][edge] for judged in moved.values()]
        assert row["exceeds"] is True and row["ratio"] == pytest.approx(places[1] / places[0]) == pytest.approx(0.1, rel=0.4)


def test_studies_that_differ_in_seeds_only_do_not_exceed_their_spread() -> None:
    sizes = (8, 64)
    comparison = compare({"one": study(batch_sizes=sizes, random=3), "two": study(batch_sizes=sizes, random=4)})
    assert comparison.tests["exceeds"].tolist() == [False] * len(comparison.tests) and len(comparison.tests) == 14
    assert comparison.tests["test"].ne("").all()
    kept, counted = summarize(comparison)
    assert "instead" not in kept and "safer" not in kept and kept.count("still good") + kept.count("keep") == 2
    assert counted == "In two none of 14 differences tested is beyond the seeds' spread."


def test_two_studies_differ_in_the_same_whatever_else_they_are_compared_with(moved: dict[str, Judged]) -> None:
    alone, together = compare(moved).tests, compare({**moved, "again": study(random=5)}).tests
    assert together["study"].unique().tolist() == ["after", "again"]
    pd.testing.assert_frame_equal(together[together["study"] == "after"], alone)
    for _, tests in together.groupby("study"):
        expected = false_discovery_control(tests["p_value"].astype(float), method="bh")
        assert tests["adjusted_p_value"].tolist() == pytest.approx(expected.tolist())
    assert (together["exceeds"] == (together["adjusted_p_value"] <= 0.05)).all()


def test_each_seed_is_judged_as_a_study_of_its_own() -> None:
    judged = study(batch_sizes=(8, 64), random=6)
    found = measure_seeds(judged, {"val_loss": -1, "val_accuracy": 1})
    assert len(found) == 6
    for row in found.to_dict("records"):
        mine = judged.runs[(judged.runs["batch_size"] == row["batch_size"]) & (judged.runs["seed"] == row["seed"])]
        alone = judge(mine, judged.curves[judged.curves["trial"].isin(mine["trial"])])
        assert row["shortest time to bottom (epochs)"] == alone.ranges["time_to_bottom_epochs"][0]
        assert row["lowest height (loss)"] == alone.cells["final_height"].min()
        assert row["val_loss"] == mine["val_loss"].min() and row["val_accuracy"] == mine["val_accuracy"].max()
        below = mine["learning_rate"][alone.runs["verdict"].to_numpy() == "too low"].max()
        assert row["good begins"][0] == below < row["good begins"][1]


def test_seeds_that_missed_a_learning_rate_are_left_out_of_the_tests() -> None:
    whole = study(random=7)
    judged = judge(whole.runs[~((whole.runs["seed"] == 1) & (whole.runs["learning_rate"] > 5))], whole.curves)
    assert measure_seeds(judged, {})["seed"].tolist() == [0, 2]
    tests = compare({"whole": whole, "part": judged}).tests
    assert set(tests["baseline_seeds"]) == {3} and set(tests["seeds"]) == {2}


def tables_of_search(replay: Replay) -> tuple[pd.DataFrame, pd.DataFrame]:
    runs, curves = replay.tables()
    return runs.assign(member_of=runs["trial"], examples=(1347 * runs["epochs"]).astype(int)), curves


def test_searches_are_compared_though_each_seed_tried_other_learning_rates() -> None:
    runs, curves = tables_of_search(searched("digits_mlp_16")[0])
    found, moved = judge(runs, curves), judge(runs.assign(learning_rate=runs["learning_rate"] / 10), curves)
    comparison = compare({"as it was": found, "moved": moved})
    edges = comparison.tests.set_index("quantity").loc[list(ENDS)]
    assert edges["exceeds"].tolist() == [True] * 3 and edges["ratio"].tolist() == pytest.approx([0.1] * 3, rel=0.05)
    assert set(edges["seeds"]) == {3} and not [note for note in comparison.notes if "ranges" in note]
    rest = comparison.tests[~comparison.tests["quantity"].isin(ENDS)]
    assert len(rest) and not rest["exceeds"].any() and (rest["p_value"] > 0.9).all()
    mine = measure_seeds(found, {}).set_index("seed")
    whole = found.runs[found.runs["state"] == "COMPLETE"].groupby("learning_rate").filter(lambda cell: len(cell) == 3)
    assert mine["lowest height (loss)"].to_dict() == whole.groupby("seed")["final_height"].min().to_dict()
    judged = found.runs[found.runs["verdict"].notna()]
    told = f"| runs | {len(judged)}, {(judged['state'] == 'PRUNED').sum()} ended when decided |"
    assert told in render_markdown(comparison, dict.fromkeys(FIGURES, "x"))


def test_searches_of_one_network_on_other_seeds_do_not_differ() -> None:
    replays = [Replay("digits_mlp_16", seeds) for seeds in ((0, 1), (2, 3))]
    first, second = (judge(*tables_of_search(replay.run(replay.search()))) for replay in replays)
    comparison = compare({"first": first, "second": second})
    assert not comparison.tests["exceeds"].any() and comparison.tests["p_value"].notna().all()


def test_nothing_is_tested_with_one_seed() -> None:
    comparison = compare({"one": study(seeds=1), "two": study(seeds=1, random=1)})
    assert comparison.tests["exceeds"].isna().all() and comparison.tests["p_value"].isna().all()
    assert set(comparison.tests["note"]) == {"fewer than two seeds tried every learning rate"}
    few = "In two nothing could be tested: fewer than two seeds tried every learning rate."
    assert summarize(comparison)[-1] == few
    assert "not tested: fewer than two seeds" in render_markdown(comparison, dict.fromkeys(FIGURES, "x"))


def test_differences_are_the_options_that_differ_by_their_dotted_names() -> None:
    judged = {"a": study(), "b": study(random=1), "c": study(random=2)}
    model: dict[str, Any] = {"class_path": "Net", "init_args": {"width": 3}}
    given: dict[str, Mapping[str, object]] = {
        "a": {"model": model, "epochs": 10},
        "b": {"model": {**model, "init_args": {"width": 3, "momentum": 0.9}}, "epochs": 10},
    }
    assert compare(judged, given).differences.to_numpy().tolist() == [
        ["model.class_path", "Net", "Net", "not given"],
        ["model.init_args.width", "3", "3", "not given"],
        ["epochs", "10", "10", "not given"],
        ["model.init_args.momentum", "not given", "0.9", "not given"],
    ]


def test_summary_repeats_what_each_study_says_alone(moved: dict[str, Judged]) -> None:
    summary = compare(moved).summary.set_index("study")
    for name, judged in moved.items():
        use, cell = judged.recommendations.iloc[0], judged.cells.set_index("learning_rate").loc[summary["learning_rate"][name]]
        for key in ("learning_rate", "low", "high"):
            assert summary[key][name] == use[key]
        for key in ("time_to_bottom_epochs", "time_to_bottom_steps", "final_height", "val_loss"):
            assert summary[key][name] == cell[key]
        assert summary["time_to_bottom_examples"][name] == pytest.approx(cell["time_to_bottom_steps"] * 32)
        edge = judged.edges.set_index("edge").loc["good to too high"]
        assert (
            summary.loc[name, ["good_ends", "good_ends_low", "good_ends_high"]].tolist()
            == edge[["learning_rate", "low", "high"]].tolist()
        )


def test_baselines_learning_rate_has_the_verdict_of_its_cell_or_by_the_edges_or_none() -> None:
    between = tuple(rate * 1.2 for rate in GRID)
    comparison = compare(
        {
            "first": study(),
            "lower": study((0.01 * 1.5, 0.03, 3.0)),
            "between": study(grid=between, random=1),
            "elsewhere": study((3e-5, 3e-4, 3e-3), grid=tuple(rate / 1000 for rate in GRID)),
        }
    )
    verdicts = comparison.summary.set_index("study")["baseline_verdict"]
    assert verdicts[["first", "lower", "between"]].tolist() == ["good", "too high", "good"] and pd.isna(verdicts["elsewhere"])
    use = f"{comparison.summary['learning_rate'][0]:.3g}"
    assert find_not_good(comparison) == [
        f"batch size 32: {use}, recommended in 'first', is too high in 'lower'",
        f"batch size 32: {use}, recommended in 'first', was not tried in 'elsewhere'",
    ]


def nothing_good() -> Judged:
    return judge(*tables({(32, rate): [[2.0, 1.0, math.inf]] * 3 for rate in GRID}))


def test_baseline_that_recommends_nothing_is_good_nowhere() -> None:
    comparison = compare({"bad": nothing_good(), "fine": study()})
    assert find_not_good(comparison) == ["batch size 32: nothing is recommended in 'bad'"]
    assert answers(comparison)[0].headline.endswith("in fine; no learning rate is good in bad.")
    use = f"{comparison.summary['learning_rate'][1]:.3g}"
    assert summarize(comparison)[0] == f"From bad to fine at batch size 32: use {use}, where none was good before."
    back = compare({"fine": study(), "bad": nothing_good()})
    assert summarize(back)[0] == f"From fine to bad at batch size 32: no learning rate is good ({use} was divergent)."
    neither = compare({"bad": nothing_good(), "worse": nothing_good()})
    assert summarize(neither)[0] == "From bad to worse at batch size 32: no learning rate is good in either."


def test_edge_outside_the_range_moved_at_least_to_its_end() -> None:
    comparison = compare({"first": study(), "stable": study((0.1, 100, 1000))})
    [row] = rows(comparison, "divergence begins").to_dict("records")
    assert math.isnan(row["value"]) and row["ratio"] == pytest.approx(10 / row["baseline"]) and row["exceeds"] is True
    assert "; divergence begins at least " in summarize(comparison)[1] and "(inf" not in answers(comparison)[0].others[0][3][0]
    both = compare({"first": study((0.1, 100, 1000)), "wider": study((0.1, 100, 1000), grid=(*GRID, 20.0, 40.0))})
    [row] = rows(both, "divergence begins").to_dict("records")
    assert pd.isna(row["exceeds"]) and row["note"] == "outside the range tried" and math.isnan(row["ratio"])
    assert both.notes == [
        "first and wider tried different ranges of learning rates, on which floor, edges and sensitivity depend"
    ]


def test_losses_of_other_size_are_not_compared_and_progress_is_drawn() -> None:
    judged = {"nats": study(), "squares": study(start=100.0, random=1)}
    comparison = compare(judged)
    assert not comparison.same_heights and "untrained heights differ (2 and 100)" in comparison.notes[0]
    assert not comparison.tests["quantity"].str.contains("loss").any()
    assert "best validation accuracy" in set(comparison.tests["quantity"])
    labels = {axes.get_ylabel() for axes in plot_curves(judged, as_progress=True).axes}
    assert labels == {"progress"}
    assert {axes.get_ylabel() for axes in plot_curves(judged).axes} == {"height (loss)"}


def test_only_metrics_that_both_studies_have_are_compared() -> None:
    comparison = compare({"a": study(), "b": study(metric="val_error")})
    assert [name for name in comparison.tests["quantity"] if name.startswith("best")] == ["best validation accuracy"]
    assert {"val_loss", "val_error", "val_accuracy"} <= set(comparison.summary)


def test_studies_without_a_common_batch_size_stand_for_themselves() -> None:
    judged = {"small": study(batch_sizes=(8,)), "large": study(batch_sizes=(64,))}
    comparison = compare(judged)
    assert comparison.tests.empty and len(comparison.summary) == 2
    assert comparison.notes == ["small and large have no batch size in common, so nothing is tested: each stands for itself"]
    assert summarize(comparison) == []
    assert [answer.headline[:14] for answer in answers(comparison)] == ["Batch size 8: ", "Batch size 64:"]
    with pytest.raises(ValueError, match="studies must have a batch size in common, 'small' and 'large' have none"):
        find_not_good(comparison)
    page = render_html(comparison, {name: draw_picture(figure) for name, figure in draw_figures(judged).items()}, {})
    assert "no batch size in common" in page and "The tests" not in page


def test_reader_is_told_what_else_differs_than_the_change() -> None:
    both, longer = study(batch_sizes=(8, 32)), study(batch_sizes=(32, 64), random=1, grid=GRID[1:])
    longer = judge(longer.runs.assign(epochs=20.0), longer.curves)
    epochs = study().runs["epochs"].max()
    assert compare({"a": both, "b": longer}).notes == [
        "only one of a and b tried batch size 8, 64, so nothing is compared there",
        f"a and b trained for {epochs:g} and 20 epochs: more epochs lower the floor, and all edges, times and heights are"
        " measured from it",
        "a and b tried different ranges of learning rates, on which floor, edges and sensitivity depend",
    ]
    assert compare({"a": both, "b": study(batch_sizes=(8, 32), random=1)}).notes == []


def test_other_data_and_several_options_at_once_are_told() -> None:
    def notes(**changes: object) -> list[str]:
        given: dict[str, object] = {"data": {"class_path": "Digits"}, "epochs": 10, "seeds": 3, "batch_size": [32]}
        return compare({"a": study(), "b": study(random=1)}, {"a": given, "b": given | changes}).notes

    assert notes() == notes(epochs=11) == notes(seeds=5, batch_size=[32, 64]) == notes(seeds=5, epochs=11) == []
    [other] = notes(data={"class_path": "Wine"})
    assert other.startswith("a and b were trained on other data (data.class_path)")
    both = "a and b differ in several options (epochs, optimizer): what moved cannot be put down to one of them"
    assert notes(epochs=11, optimizer="AdamW") == [both]
    assert len(notes(data={"class_path": "Wine"}, optimizer="AdamW")) == 2


def test_remarks_of_each_study_stand_in_a_line() -> None:
    told = study(random=1)._replace(remarks=["Its scheduler was left out.", "Its probe is small."])
    comparison = compare({"a": study(), "b": told})
    assert comparison.notes == ["b: Its scheduler was left out; Its probe is small"]
    assert "Note: b: Its scheduler was left out; Its probe is small.\n" in render_markdown(
        comparison, dict.fromkeys(FIGURES, "")
    )


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(ValueError, match="judged must hold at least two studies, got 1"):
        compare({"alone": study()})
    runs, curves = four_verdicts()
    with pytest.raises(ValueError, match="study 'new' must have a finished run, it has none"):
        compare({"old": study(), "new": judge(runs.assign(state="RUNNING"), curves)})
    with pytest.raises(ValueError, match="studies must be judged by the same thresholds, got 2 different ones"):
        compare({"a": study(), "b": study(thresholds=Thresholds(tau=0.2))})


# --- pages, figures, folder ---


def test_the_answer_is_what_to_use_then_what_differs_and_one_a_batch_size(moved: dict[str, Judged]) -> None:
    comparison = compare(moved)
    uses = [f"{rate:.3g}" for rate in comparison.summary["learning_rate"]]
    use, counted, *_ = summarize(comparison)
    assert use == f"From before to after at batch size 32: use {uses[1]} instead of {uses[0]} (divergent)."
    assert counted.startswith(
        f"In after at batch size 32 {comparison.tests['exceeds'].sum()} of 7 differences tested are beyond"
    )
    assert "seeds' spread: good learning rates begin " in counted and " times lower; good learning rates end " in counted
    [answer] = answers(comparison)
    assert answer.headline == f"Batch size 32: use {uses[0]} in before, {uses[1]} in after."
    [(name, verdict, sentence, differs)] = answer.others
    assert (name, verdict) == ("after", "divergent") and sentence == f"in after at {uses[0]}, the learning rate of before."
    assert differs[0].startswith("Beyond the seeds' spread: good begins") and differs[1].startswith("May be chance: ")
    before, after = (f"{comparison.summary['good_ends'][k]:.2g}" for k in (0, 1))
    assert f" times lower ({after} instead of {before});" in differs[0]


def test_sentences_name_the_batch_sizes_only_where_they_must() -> None:
    """Sizes 8 and 64: all edges move at both; or at one of them."""
    sizes, lower = (8, 64), (0.01 * 1.5, 0.1, 0.3)
    first, all_moved = study(batch_sizes=sizes, random=1), study(lower, batch_sizes=sizes, random=2)
    assert " times lower at both batch sizes; good learning rates end " in summarize(compare({"a": first, "b": all_moved}))[1]
    [large] = [study(lower, batch_sizes=(64,), random=3)]
    same = study(batch_sizes=(8,), random=4)
    runs = pd.concat([large.runs, same.runs.assign(trial=same.runs["trial"] + 1000)])
    curves = pd.concat([large.curves, same.curves.assign(trial=same.curves["trial"] + 1000)])
    use, counted, *_ = summarize(compare({"a": first, "b": judge(runs, curves)}))
    assert " is still good at batch size 8; use " in use and use.endswith(" (too high) at batch size 64.")
    assert " times lower at batch size 64; divergence begins " in counted and "batch size 8" not in counted


def test_a_good_learning_rate_is_spoken_against_only_where_an_edge_moved() -> None:
    """The first recommends about 0.3; in the second it is good, but near the end of the good range."""
    summary = {"learning_rate": 0.1, "low": 0.05, "high": 0.2, "baseline_verdict": "good"}
    cases = {
        (0.3, True): "0.3 is still good (0.1 is safer)",
        (0.3, False): "0.3 is still good",
        (0.15, True): "0.15 is still good",
        (0.1, True): "keep 0.1",
    }
    for (before, moved_edge), sentence in cases.items():
        assert _advise(before, pd.Series(summary), moved=moved_edge) == sentence
    lost = pd.Series(summary | {"baseline_verdict": None})
    assert _advise(3.0, lost, moved=False) == "3 was not tried (0.1 is recommended)"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("good ends", 0.1, math.nan, "")], "10 times lower"),
        ([("good ends", 2.0, math.nan, ""), ("good ends", 5.6, math.nan, "")], "2 to 5.6 times higher"),
        ([("good ends", 0.5, math.nan, "at least")], "at least 2 times lower"),
        ([("good ends", 1.001, math.nan, "")], "the same"),
        ([("shortest time to bottom (epochs)", 0.5, math.nan, "")], "2 times shorter"),
        ([("best validation loss", math.nan, -0.16, ""), ("best validation loss", math.nan, -0.161, "")], "0.16 lower"),
        ([("best validation loss", math.nan, 0.0, "")], "the same"),
        ([("good ends", math.nan, math.nan, "")], ""),
    ],
)
def test_change_in_words(rows: list[tuple[str, float, float, str]], words: str) -> None:
    assert describe_change(*(dict(zip(("quantity", "ratio", "difference", "note"), row, strict=True)) for row in rows)) == words


def test_texts_of_users_stay_texts_in_both_pages() -> None:
    """As names of studies, and as names and values of options."""
    judged = dict.fromkeys(HOSTILE[::4], judge(*four_verdicts()))
    given = {name: {text: name, "nested": {name: text}} for name, text in zip(judged, HOSTILE * 2, strict=False)}
    given[HOSTILE[0]] |= {text: HOSTILE[-1 - k] for k, text in enumerate(HOSTILE)}
    comparison = compare(judged, given)
    page = render_html(comparison, {}, {})
    assert page.count("<script") == 3, "ours: data, plotly and what draws"
    for tag in ("<img", "<svg", "<iframe", '<a href="javascript', "<b onmouse", "<details", "<textarea"):
        assert tag not in page
    widths: list[set[int]] = [set()]
    for line in render_markdown(comparison, dict.fromkeys(FIGURES, "x.png")).splitlines():
        assert "<script" not in line.replace("\\<", "")
        if line.startswith("|"):
            widths[-1].add(line.replace("\\|", "").count("|"))
        elif widths[-1]:
            widths.append(set())
    assert len(widths) > 3 and all(len(width) == 1 for width in widths if width)


def test_pictures_show_any_name() -> None:
    judged = dict.fromkeys(HOSTILE, judge(*four_verdicts()))
    names = drawable_names(judged)
    assert len(set(names.values())) >= len(judged) - 3 and max(map(len, names.values())) <= 36
    for name, figure in draw_figures(judged).items():
        if name != "curves":
            figure.savefig("/dev/null", format="png", dpi=20)
    figure = plot_curves({"_hidden": judged[HOSTILE[0]], "$\\frac{1}{$": judged[HOSTILE[0]]})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["_hidden", "$\\frac{1}{$"]


def test_long_names_are_short_in_sentences_and_stay_apart() -> None:
    names = ["a" * 600, "a" * 599 + "b", "a" * 300 + "c" + "a" * 299, "digits\n2"]
    short = short_names(names)
    assert len(set(short.values())) == 4 and max(map(len, short.values())) < 36 and short["digits\n2"] == "digits 2"
    page = render_html(compare({name: study(random=k) for k, name in enumerate(names)}), {}, {})
    assert all(name in page for name in names[:3])


def test_the_folder_holds_both_pages_tables_and_figures(tmp_path: Path, moved: dict[str, Judged]) -> None:
    judged = {"=cmd|' /C calc'!A0": moved["before"], "after": moved["after"]}
    comparison = compare(judged, {"after": {"epochs": "=1+1"}})
    page = write_comparison(comparison, judged, tmp_path / "new" / "folder")
    drawn = [name for name in FIGURES if name != "laws"]  # of three batch sizes or more
    figures = {f"figures/{name}.{kind}" for name in drawn for kind in ("png", "svg")}
    tables_of = {"differences.csv", "summary.csv", "tests.csv"}
    found = {path.relative_to(page.parent).as_posix() for path in page.parent.rglob("*") if path.is_file()}
    assert page == tmp_path / "new" / "folder" / "comparison.html"
    assert found == {"comparison.html", "comparison.md", "answer.json"} | tables_of | figures
    text = page.with_suffix(".md").read_text(encoding="utf-8")
    assert [name for name in FIGURES if f"](figures/{name}.png)" in text] == drawn
    assert page.with_name("differences.csv").read_text() == "option,'=cmd|' /C calc'!A0,after\nepochs,not given,'=1+1\n"
    read = read_csv(page.with_name("tests.csv"))
    pd.testing.assert_series_equal(read["p_value"], comparison.tests["p_value"].astype(float))
