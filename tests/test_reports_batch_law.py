"""The law of the edges over batch size: against slow, obvious computations, and what a study says of any batch size."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq, minimize
from scipy.stats import norm

from reports.errors import BadInput
from reports.figures import plot_batch_law
from reports.judging.at_batch_size import BatchAxis, batch_axis
from reports.judging.batch_forms import compare_forms, tell_forms
from reports.judging.batch_law import BEYOND, MIDDLE, NOISE_SCALE, POWERS, SCATTER, BatchLaw, Centre, find_centres
from reports.judging.edges import EDGES
from reports.style import DIVERGENT, GOOD, TOO_HIGH, TOO_LOW

TO_GOOD, TO_TOO_HIGH, TO_DIVERGENT = EDGES
SIZES = (8, 16, 32, 64, 128, 256)


def saturating(size: float, *, top: float = 0.3, bend: float = 1.6) -> float:
    return top - math.log10(1 + 10**bend / size)


def centres(law: Callable[[float], float], sizes: Sequence[int] = SIZES, sd: float = 0.05) -> list[Centre]:
    return [Centre(size, law(size), sd) for size in sizes]


def study(sizes: Sequence[int] = SIZES, *, highest: float = 100.0) -> pd.DataFrame:
    """Runs with verdicts, eight learning rates a decade: good within a decade below the saturating law."""
    rows = []
    for size in sizes:
        for seed in range(3):
            shift = saturating(size) + 0.04 * (seed - 1)
            for rate in 10 ** np.arange(-3, math.log10(highest) + 1e-9, 1 / 8):
                place = math.log10(rate) - shift
                verdict = TOO_LOW if place < -1 else GOOD if place < 0 else TOO_HIGH if place < 0.5 else DIVERGENT
                rows.append((size, seed, float(f"{rate:.6g}"), verdict))
    return pd.DataFrame(rows, columns=["batch_size", "seed", "learning_rate", "verdict"])


def slow_prediction(known: Sequence[Centre], size: float) -> list[float]:
    """The 5, 50 and 95 % quantile of the edge, in log10, by loops over everything that is not known, ``a`` too."""
    parts = []
    for power, prior in POWERS.items():
        for scale in np.linspace(NOISE_SCALE[0] - 3 * NOISE_SCALE[1], NOISE_SCALE[0] + 3 * NOISE_SCALE[1], 31):
            for factor in np.linspace(-3, 3, 7):
                spread = SCATTER[0] * SCATTER[1] ** factor
                weight = prior * norm.pdf(scale, *NOISE_SCALE) * norm.pdf(factor)
                tops = np.linspace(-3, 4, 701)
                likely = np.full(len(tops), weight)
                for each in known:
                    at = tops - power * math.log10(1 + 10**scale / each.batch_size)
                    sd = math.hypot(spread, each.sd)
                    likely *= norm.cdf(each.side * (at - each.mean) / sd) if each.side else norm.pdf(each.mean, at, sd)
                keep = likely > likely.max() * 1e-6
                means = tops[keep] - power * math.log10(1 + 10**scale / size)
                parts += [(mean, spread, w) for mean, w in zip(means, likely[keep], strict=True)]
    means, spreads, weights = np.array(parts).T
    sizes = [each.batch_size for each in known]
    decades = max(math.log10(size / max(sizes)), math.log10(min(sizes) / size), 0)
    spreads = np.hypot(spreads, BEYOND * decades)
    keep = weights > weights.max() * 1e-5
    means, spreads, weights = means[keep], spreads[keep], weights[keep] / weights[keep].sum()
    return [
        brentq(lambda place, share=share: float(weights @ norm.cdf((place - means) / spreads)) - share, -6, 6)
        for share in (0.05, 0.5, 0.95)
    ]


@pytest.mark.parametrize("size", [32, 2])
def test_prediction_is_that_of_loops_over_all_that_is_not_known(size: int) -> None:
    known = centres(saturating, (8, 64, 256))
    found = BatchLaw(known).predict(size)
    assert [math.log10(each) for each in (found.low, found.learning_rate, found.high)] == pytest.approx(
        slow_prediction(known, size), abs=0.01
    )


def test_prediction_with_an_edge_above_all_that_was_tried_is_that_of_loops() -> None:
    known = [*centres(saturating, (8, 16, 64)), Centre(256, saturating(256) + 0.1, 0.07, side=1)]
    found = BatchLaw(known).predict(1024)
    assert [math.log10(each) for each in (found.low, found.learning_rate, found.high)] == pytest.approx(
        slow_prediction(known, 1024), abs=0.015
    )


def test_edge_above_the_highest_tried_moves_the_law_up() -> None:
    known = centres(saturating, (8, 16, 32))
    bound = Centre(256, saturating(256) + 0.5, 0.05, side=1)
    assert BatchLaw([*known, bound]).predict(512).learning_rate > 1.5 * BatchLaw(known).predict(512).learning_rate


@pytest.mark.parametrize("law", [saturating, lambda size: 0.3, lambda size: 0.5 * math.log10(size) - 1])
def test_left_out_sizes_are_foretold_inside_and_next_to_those_known(law: Callable[[float], float]) -> None:
    known = centres(law)
    for held in range(1, len(known) - 1):
        found = BatchLaw(known[:held] + known[held + 1 :]).predict(known[held].batch_size)
        assert math.log10(found.learning_rate) == pytest.approx(known[held].mean, abs=0.06)
        assert found.decades == 0
    for rest, end in ((known[1:], known[0]), (known[:-1], known[-1])):
        found = BatchLaw(rest).predict(end.batch_size)
        assert math.log10(found.learning_rate) == pytest.approx(end.mean, abs=0.15)
        assert math.log10(found.low) <= end.mean <= math.log10(found.high)
        assert found.decades == pytest.approx(math.log10(2))


def test_intervals_hold_as_often_as_they_say() -> None:
    random, held = np.random.default_rng(0), []
    for _ in range(200):
        bend, power = random.normal(*NOISE_SCALE), random.choice([*POWERS], p=[*POWERS.values()])
        made = [-power * math.log10(1 + 10**bend / size) + random.normal(0, SCATTER[0]) for size in (*SIZES, 90)]
        seen = [Centre(size, mean + random.normal(0, 0.05), 0.05) for size, mean in zip(SIZES, made, strict=False)]
        found = BatchLaw(seen).predict(90)
        held.append(math.log10(found.low) <= made[-1] <= math.log10(found.high))
    assert 0.84 <= np.mean(held) <= 0.98


def test_interval_grows_outside_the_sizes_known() -> None:
    law = BatchLaw(centres(saturating))
    widths = [math.log10(found.high / found.low) for found in map(law.predict, (64, 256, 512, 1024))]
    assert widths == sorted(widths)
    assert widths[-1] > 1.8 * widths[0]


def test_centres_are_where_the_verdicts_change() -> None:
    found = find_centres(study())
    for size, high, middle in zip(SIZES, found[TO_TOO_HIGH], found[MIDDLE], strict=True):
        assert (high.batch_size, high.side) == (size, 0)
        assert high.mean == pytest.approx(saturating(size), abs=0.08)
        assert middle.mean == pytest.approx(saturating(size) - 0.5, abs=0.08)


def test_edge_that_was_not_met_is_a_bound_and_has_no_middle() -> None:
    found = find_centres(study(highest=1.0))
    assert {centre.side for centre in found[TO_DIVERGENT]} == {0, 1}
    assert found[TO_TOO_HIGH][-1][:2] == (256, 0.0)
    assert found[TO_TOO_HIGH][-1].side == 1
    assert [centre.batch_size for centre in found[MIDDLE]] == [8, 16, 32]


def test_sizes_without_a_good_run_are_left_out() -> None:
    runs = study()
    runs.loc[runs["batch_size"] == 32, "verdict"] = TOO_LOW
    assert [centre.batch_size for centre in find_centres(runs)[TO_TOO_HIGH]] == [8, 16, 64, 128, 256]


def test_forms_have_the_misfit_of_a_general_minimizer() -> None:
    random = np.random.default_rng(1)
    known = [Centre(size, saturating(size) + random.normal(0, 0.05), 0.05) for size in SIZES]
    found = compare_forms(known).set_index("form")
    x, y = np.log10(SIZES), np.array([each.mean for each in known])

    def bent(a: float, bend: float) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        return a - np.log10(1 + 10 ** (bend - x))

    laws = {
        "constant": (lambda p: p[0] + 0 * x, [0.0]),
        "square root": (lambda p: p[0] + 0.5 * x, [0.0]),
        "linear": (lambda p: p[0] + x, [0.0]),
        "power": (lambda p: p[0] + p[1] * x, [0.0, 0.3]),
        "saturating": (lambda p: bent(*p), [0.3, 1.5]),
        "surge": (lambda p: p[0] - np.log10(10 ** ((p[1] - x) / 2) + 10 ** ((x - p[1]) / 2)), [0.3, 2.5]),
    }
    aic = {}
    for name, (law, start) in laws.items():
        misfit = minimize(lambda p, law=law: float((((y - law(p)) ** 2) / (0.05**2 + SCATTER[0] ** 2)).sum()), start).fun
        aic[name] = misfit + 2 * len(start)
    best = min(aic.values())
    assert found["aic"].to_dict() == pytest.approx({name: value - best for name, value in aic.items()}, abs=0.05)


def test_error_of_a_form_is_that_at_the_size_left_out() -> None:
    known = centres(lambda size: 0.0)
    assert compare_forms(known).set_index("form").loc["constant", "error"] == pytest.approx(0, abs=1e-9)
    off = []
    for held in range(len(SIZES)):
        rest = [math.log10(size) for index, size in enumerate(SIZES) if index != held]
        off.append(abs(math.log10(SIZES[held]) - np.mean(rest)))
    assert compare_forms(known).set_index("form").loc["linear", "error"] == pytest.approx(np.mean(off))


def test_words_name_what_is_as_good_and_the_rules_that_are_refuted() -> None:
    said = tell_forms(compare_forms(centres(saturating, (8, 16, 32, 64, 128, 256, 512, 1024), sd=0.02)))
    assert "saturating" in said
    assert "linear is off by 0." in said
    assert tell_forms(compare_forms(centres(saturating, (8, 32, 128)))) == ""


def test_any_batch_size_has_what_to_use_inside_its_good_range() -> None:
    axis = batch_axis(study())
    for size in (2, 48, 64, 1024):
        found = axis.at(size)
        assert (
            saturating(size) - 1 < math.log10(found.low) <= math.log10(found.use) <= math.log10(found.high) < saturating(size)
        )
        assert found.tried == (size == 64)
    assert axis.at(48).sentence.startswith("Batch size 48 (between those the law knows): use ")
    assert "a factor 4 outside those the law knows" in axis.at(1024).sentence


def test_use_is_what_is_recommended_where_it_was_tried_and_as_far_from_the_edges_between() -> None:
    runs = study()
    plain = batch_axis(runs)
    lower = {size: plain.at(size).use / 1.3 for size in SIZES}
    axis = batch_axis(runs, recommendations=pd.DataFrame({"batch_size": SIZES, "learning_rate": lower.values()}))
    for size in (*SIZES, 48, 1024):
        assert axis.at(size).use == pytest.approx(plain.at(size).use / 1.3)
    far_off = pd.DataFrame({"batch_size": SIZES, "learning_rate": 1e-6})
    assert batch_axis(runs, recommendations=far_off).at(48).use == plain.at(48).low  # what is foretold to be safe is not left


@pytest.mark.parametrize("size", [1, 1025, 3.5, True])
def test_batch_sizes_too_far_out_are_refused(size: float) -> None:
    with pytest.raises(BadInput, match=r"at_batch_size must be a whole number from 2 to 1024, within a factor 4 .*, got "):
        batch_axis(study()).at(size)


def test_two_batch_sizes_foretell_nothing() -> None:
    axis = batch_axis(study((8, 64)))
    assert not axis.foretells
    with pytest.raises(BadInput, match="at_batch_size needs a good range at 3 batch sizes or more, got 2: 8, 64"):
        axis.at(32)


def test_sizes_that_starve_are_left_out_by_name() -> None:
    axis = batch_axis(study(), left_out={256: 0.5})
    assert axis.sizes == [8, 16, 32, 64, 128]
    assert axis.tell()[-1] == "Left out: batch size 256, whose runs end before they have learned what others do."


def test_nothing_is_foretold_to_diverge_below_where_it_stops_being_good() -> None:
    axis = batch_axis(study())
    steep = BatchAxis(axis.centres | {TO_DIVERGENT: centres(lambda size: 1.5 * math.log10(size) - 2.2)}, {})
    for each in steep.choices:
        edges = each.edges
        assert edges[TO_DIVERGENT].learning_rate >= edges[TO_TOO_HIGH].learning_rate


def test_study_in_which_nothing_diverges_says_so_and_is_drawn() -> None:
    runs = study()
    axis = batch_axis(runs.assign(verdict=runs["verdict"].replace(DIVERGENT, TOO_HIGH)))
    assert axis.at(48).texts[-1] == "not known"
    assert "divergent" not in " ".join(axis.tell())
    assert plot_batch_law(axis).axes[0].lines


def test_figure_draws_each_edge_and_marks_what_is_foretold() -> None:
    axis = batch_axis(study())
    figure = plot_batch_law(axis)
    hollow = [line for line in figure.axes[0].lines if line.get_marker() == "o" and line.get_markerfacecolor() == "none"]
    outside = [each.batch_size for each in axis.choices if not each.tried]
    assert [list(line.get_xdata()) for line in hollow] == [outside, outside]
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][:3] == ["diverges from (unsure)", "good to", "good from"]
