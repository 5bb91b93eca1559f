"""What momentum, beta2 and weight decay do along the batch axis: effective rates of two studies, and scales told of one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_reports_comparison import study

from reports.comparison.answers import summarize
from reports.comparison.effective_rates import effective_edges, effective_factors, tell_effective
from reports.comparison.folder import write_comparison
from reports.comparison.pages import render_markdown
from reports.comparison.tables import Comparison, compare
from reports.judging.optimizer_scales import steps_in_all, tell_scales

SGD: dict[str, Any] = {"optimizer": "SGD", "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False}
HEAVY = SGD | {"momentum": 0.9}
ADAMW: dict[str, Any] = {"optimizer": "AdamW", "betas": [0.9, 0.999], "weight_decay": 0.01, "decoupled_weight_decay": True}
TWO = pd.DataFrame({"batch_size": [16, 256], "learning_rate": [0.001, 0.004]})


def compared(*settings: list[dict[str, Any]]) -> Comparison:
    """Two studies whose edges are ten times apart at batch size 32 and equal at 256."""
    before, low = study(batch_sizes=(32, 256), random=1), study((0.01, 0.1, 0.3), batch_sizes=(32,), random=2)
    same = study(batch_sizes=(256,), random=3)
    after = low._replace(
        **{
            name: pd.concat([getattr(low, name), getattr(same, name)], ignore_index=True)
            for name in ("runs", "cells", "edges", "recommendations")
        }
    )
    return compare({"before": before, "after": after}, optimizers=dict(zip(("before", "after"), settings, strict=True)))


@pytest.fixture(scope="module")
def momentum() -> Comparison:
    return compared([SGD], [HEAVY])


def test_effective_edges_are_the_edges_over_one_minus_momentum(momentum: Comparison) -> None:
    table = momentum.effective
    assert len(table) == 6
    assert list(table["effective"] / table["value"]) == pytest.approx([10] * 6)
    assert list(table["baseline_effective"]) == pytest.approx(list(table["baseline"]))
    first = momentum.summary.set_index(["study", "batch_size"])["good_ends"]
    row = table[(table["batch_size"] == 32) & (table["quantity"] == "good ends")].iloc[0]
    assert (row["baseline"], row["value"]) == (first["before", 32], first["after", 32])


def test_which_of_both_lines_up_better_is_told_at_each_batch_size(momentum: Comparison) -> None:
    told = summarize(momentum)[-1]
    assert told.startswith("SGD has another momentum in after. Edges line up better, as learning rates or as effective rates,")
    assert "at batch size 32 as effective rates, 0." in told and "; at batch size 256 as learning rates, 0." in told
    assert told.count("decades apart instead of") == 2


def test_decades_apart_are_a_mean_of_plain_logarithms() -> None:
    rows = [[8, "b", "good begins", 0.1, 0.05, 0.1, 0.5], [8, "b", "good ends", 1.0, 0.2, 1.0, 2.0]]
    columns = "batch_size study quantity baseline value baseline_effective effective".split()
    table = pd.DataFrame(rows, columns=columns)
    raw = np.mean([math.log10(2), math.log10(5)])
    effective = np.mean([math.log10(5), math.log10(2)])
    assert raw == pytest.approx(effective)  # by chance of these numbers, so neither is better
    assert tell_effective(table, {"b": "b"})[0].endswith(
        "at batch size 8 neither way, 0.5 decades apart as learning rates and 0.5 as effective rates."
    )


def test_both_stand_side_by_side_in_page_table_and_answer(momentum: Comparison, tmp_path: Path) -> None:
    text = render_markdown(momentum, dict.fromkeys(("maps", "times", "curves"), ""))
    assert text.count("good ends, learning rate / (1 - momentum)") == 2
    judged = {"before": study(batch_sizes=(32,), random=1), "after": study((0.01, 0.1, 0.3), batch_sizes=(32,), random=2)}
    some = compare(judged, optimizers={"before": [SGD], "after": [HEAVY]})
    page = write_comparison(some, judged, tmp_path)
    assert "good ends, learning rate / (1 - momentum)" in page.read_text()
    assert len(pd.read_csv(tmp_path / "effective.csv")) == 3
    assert len(json.loads((tmp_path / "answer.json").read_text())["effective"]) == 3
    write_comparison(compare(judged), judged, tmp_path)
    assert not (tmp_path / "effective.csv").exists()
    assert json.loads((tmp_path / "answer.json").read_text())["effective"] == []


@pytest.mark.parametrize(
    "settings",
    [
        [[SGD], [SGD]],
        [[SGD], []],
        [[], []],
        [[SGD], [HEAVY | {"weight_decay": 0.1}]],
        [[SGD], [HEAVY | {"dampening": 0.9}]],
        [[SGD], [HEAVY | {"base_momentum": 0.85, "max_momentum": 0.95}]],
        [[SGD], [HEAVY, HEAVY | {"momentum": 0.5}]],
        [[SGD], [HEAVY | {"momentum": 1.0}]],
        [[ADAMW], [ADAMW | {"betas": [0.5, 0.999]}]],
        [[{"optimizer": "RMSprop", "momentum": 0.0, "alpha": 0.9}], [{"optimizer": "RMSprop", "momentum": 0.9, "alpha": 0.9}]],
    ],
)
def test_nothing_is_said_unless_momentum_of_sgd_alone_differs(settings: list[list[dict[str, Any]]]) -> None:
    assert effective_factors(dict(zip("ab", settings, strict=True))) == {}


def test_nesterov_which_needs_momentum_and_groups_that_share_it_are_no_other_difference() -> None:
    assert effective_factors({"a": [SGD], "b": [HEAVY | {"nesterov": True}]}) == pytest.approx({"a": 1, "b": 10})
    two = [SGD, SGD | {"weight_decay": 0.1}]
    assert effective_factors({"a": two, "b": [each | {"momentum": 0.5} for each in two]}) == pytest.approx({"a": 1, "b": 2})


def test_of_several_studies_those_with_another_momentum_are_told() -> None:
    factors = effective_factors({"a": [HEAVY], "b": [HEAVY], "c": [SGD], "d": [ADAMW]})
    assert factors == pytest.approx({"a": 10, "c": 1})
    summary = pd.DataFrame({"batch_size": 8, "study": list("abcd"), "good_begins": 0.1, "good_ends": 1.0})
    table = effective_edges(summary.assign(divergence_begins=[math.nan, 1.0, 2.0, 3.0]), factors)
    assert list(table["study"]) == ["c", "c"] and list(table["quantity"]) == ["good begins", "good ends"]
    assert list(table["baseline_effective"]) == pytest.approx([1, 10])


def test_steps_in_all_is_what_a_constant_gradient_moves_in_the_long_run() -> None:
    for momentum, dampening in ((0.9, 0.0), (0.9, 0.5), (0.5, 0.5), (0.0, 0.5)):
        velocity = 1.0
        for _ in range(2000):
            velocity = momentum * velocity + (1 - dampening if momentum else 1)
        settings = SGD | {"momentum": momentum, "dampening": dampening}
        assert steps_in_all(settings) == pytest.approx(velocity if momentum else 1)


def test_half_life_and_weight_decay_are_told_at_each_batch_size() -> None:
    assert tell_scales(ADAMW, TWO) == [
        "AdamW averages squared gradients with beta2 0.999, which forgets half in 693 steps:"
        " 11,100 examples at batch size 16, 1.77e5 at 256",
        "weight decay 0.01 times the recommended learning rate, by which weights shrink in a step:"
        " 1e-5 at batch size 16, 4e-5 at 256",
    ]


def test_half_life_is_the_steps_after_which_half_is_left() -> None:
    first = tell_scales(ADAMW | {"betas": [0.9, 0.5 ** (1 / 7)]}, TWO)[0]
    assert "forgets half in 7 steps: 112 examples at batch size 16, 1,790 at 256" in first


def test_weight_decay_is_told_with_the_learning_rate_of_its_group_and_the_momentum() -> None:
    assert tell_scales(ADAMW | {"learning_rate_factor": 100.0}, TWO)[1].endswith("0.001 at batch size 16, 0.004 at 256")
    heavy = tell_scales(HEAVY | {"weight_decay": 0.1}, TWO)
    assert heavy == [
        "weight decay 0.1 times the recommended learning rate / (1 - momentum), by which weights shrink in a step:"
        " 0.001 at batch size 16, 0.004 at 256"
    ]


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD,
        ADAMW | {"betas": [0.9, 0.0], "weight_decay": 0.0},
        {"optimizer": "Adam", "betas": [0.9, 1.0], "weight_decay": 0.1, "decoupled_weight_decay": False},
        {"optimizer": "Adagrad", "weight_decay": 0.1},
    ],
)
def test_what_is_not_there_or_has_no_scale_is_not_told(optimizer: dict[str, Any]) -> None:
    assert tell_scales(optimizer, TWO) == []


def test_one_batch_size_has_no_axis_to_tell_of() -> None:
    assert tell_scales(ADAMW, TWO[:1]) == tell_scales(ADAMW, TWO[:0]) == []
