"""Everything a study taught, from its two tables: the one way from runs and curves to what pages and terminals show."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from reports.judging.answer import Answer, answer_all
from reports.judging.at_batch_size import BatchAxis, batch_axis
from reports.judging.batch_size import batch_sizes, tell_unlike
from reports.judging.critical_batch import tell as tell_time_to_target
from reports.judging.critical_batch import time_to_target
from reports.judging.edges import find_edges, fit_edges
from reports.judging.hold_out import HOLD_OUT, judge_hold_out, tell_hold_out
from reports.judging.judgements import judge_curves
from reports.judging.ledger import keep_ledger
from reports.judging.next_range import next_ranges
from reports.judging.ranges import good_ranges
from reports.judging.recommendation import judge_own, price_errors, recommend, recommend_overall
from reports.judging.self_check import SELF_CHECK, judge_self_check, summarize_self_check
from reports.judging.starved import starved_sizes
from reports.judging.trust import Check, check_trust
from reports.judging.verdicts import Thresholds, classify, classify_both
from reports.style import format_number


class Judged(NamedTuple):
    """What a study taught, as tables whose columns are described by the function that makes each.

    runs: ``classify``; curves: as recorded; cells: ``classify_cells``; ranges: ``good_ranges``; edges:
    ``find_edges``; recommendations: ``recommend``; costs: ``price_errors``; batch_sizes: ``batch_sizes``;
    judgements: ``judge_curves``; self_check: ``judge_self_check``, and hold_out: ``judge_hold_out``, empty without one;
    ledger: ``keep_ledger``; overall: ``recommend_overall``, own: ``judge_own``, a sentence each; trust: ``check_trust``;
    thresholds: how strictly it was judged; remarks: what is to be known of how the module was studied, sentences; answers:
    ``Answer``, one a batch size; batch_axis: how the learning rate moves with the batch size; budget: ``epochs`` or ``steps``,
    by which its runs were made as long as they are.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    cells: pd.DataFrame
    ranges: pd.DataFrame
    edges: pd.DataFrame
    recommendations: pd.DataFrame
    costs: pd.DataFrame
    batch_sizes: pd.DataFrame
    judgements: pd.DataFrame
    self_check: pd.DataFrame
    hold_out: pd.DataFrame
    ledger: pd.DataFrame
    overall: str
    own: str
    trust: list[Check]
    thresholds: Thresholds
    remarks: list[str]
    answers: list[Answer]
    batch_axis: BatchAxis
    budget: str = "epochs"

    @property
    def n_seeds(self) -> int:
        """Seeds of runs that have a verdict."""
        return int(self.runs.loc[self.runs["verdict"].notna(), "seed"].nunique())

    @property
    def conditions(self) -> str:
        """How many seeds the verdicts rest on, by what thresholds, and after how long a run, in words."""
        seeds, given = self.n_seeds, self.thresholds
        floor = "" if given.target_loss is None else f", floor {format_number(given.target_loss)}"
        judged_by = f"tau {format_number(given.tau)}, rho {format_number(given.rho)}{floor}"
        length = self.length and f", {self.length}"
        return f"{seeds} seed{'s' * (seeds != 1)}, {judged_by}{length}"

    @property
    def length(self) -> str:
        """How long a run is that nobody ended, in words."""
        return _length(self.runs, self.budget)

    @property
    def batch_sentences(self) -> list[str]:
        """How edges and times move with the batch size, and how far the law is off where sizes were held out."""
        times = tell_time_to_target(time_to_target(self.runs, self.curves, self.thresholds))
        return [*self.batch_axis.tell(), *tell_hold_out(self.hold_out), *times]

    @property
    def trained_together(self) -> bool:
        """Whether runs shared a fit, so that their seconds are shares of it and not what one of them takes."""
        return trained_together(self.runs)

    def __repr__(self) -> str:
        from reports.pages.notebook import to_text  # pictures and pages, which tables do without

        return to_text(self)

    def _repr_html_(self) -> str:
        """What notebooks show."""
        from reports.pages.notebook import to_html

        return to_html(self)


def judge(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    thresholds: Thresholds | None = None,
    *,
    fresh: tuple[pd.DataFrame, pd.DataFrame] | None = None,
    held_out: tuple[pd.DataFrame, pd.DataFrame] | None = None,
    monitor: str = "val_loss",
    mode: str = "min",
    height_is_loss: bool = True,
    own_learning_rate: float | None = None,
    unfinished: str = "",
    remarks: Sequence[str] = (),
    budget: str = "epochs",
) -> Judged:
    """Judge a study.

    runs, curves: the tables of ``studies.tables``; of the metrics in ``curves`` only ``height``, ``minibatch_loss`` and
    ``val_...`` are looked at.
    fresh: the tables of its self-check; held_out: those of batch sizes that were held out of it. monitor, mode: as in
    ``recommend``, which raises ValueError for an unknown mode.
    height_is_loss: whether the minibatch losses are of the same kind as the heights; where not, they are not compared.
    own_learning_rate: what the module has today, if that is known. unfinished: what ended the search before it was done.
    remarks: on how it was studied, a sentence each. budget: ``epochs``, or ``steps`` where all runs took as many.
    """
    thresholds = thresholds or Thresholds()
    judged, cells = classify_both(runs, curves, thresholds, budget=budget)
    fitted = fit_edges(judged)
    edges = find_edges(judged, fitted)
    recommendations = recommend(judged, cells, fitted, monitor=monitor, mode=mode)
    nexts = next_ranges(judged, cells, curves)
    trust = check_trust(judged, cells, edges, recommendations, thresholds, nexts=nexts, budget=budget, curves=curves)
    if unfinished:
        trust.append(Check("search", False, f"{unfinished} before it was done: without that limit it goes on from there"))
    self_check = pd.DataFrame(columns=list(SELF_CHECK))
    if fresh is not None and len(recommendations):
        unseen = fresh[0][~fresh[0]["seed"].isin(runs["seed"])]  # the study may have grown since
        self_check = judge_self_check(recommendations, cells, unseen, fresh[1], thresholds)
        trust.append(summarize_self_check(self_check))
    hold_out = pd.DataFrame(columns=HOLD_OUT)
    starved, length = starved_sizes(judged, curves), _length(judged, budget)
    axis = batch_axis(judged, recommendations=recommendations, left_out=starved, budget=length)
    if held_out is not None and axis.foretells:
        hold_out = judge_hold_out(axis, classify(*held_out, thresholds))
    comparable = curves if height_is_loss else curves[curves["metric"] != "minibatch_loss"]
    sizes = batch_sizes(judged, cells, comparable, recommendations)
    ranges = good_ranges(cells, nexts=nexts, runs=judged)
    return Judged(
        runs=judged,
        curves=curves,
        cells=cells,
        ranges=ranges,
        edges=edges,
        recommendations=recommendations,
        costs=price_errors(cells, fitted, recommendations),
        batch_sizes=sizes,
        judgements=judge_curves(judged, comparable, thresholds),
        self_check=self_check,
        hold_out=hold_out,
        ledger=keep_ledger(judged),
        overall=recommend_overall(recommendations, cells, fitted, unlike=tell_unlike(sizes), together=trained_together(judged)),
        own=judge_own(own_learning_rate, cells),
        trust=trust,
        thresholds=thresholds,
        remarks=[*remarks, *_changing(judged)],
        answers=answer_all(ranges, edges, recommendations),
        batch_axis=axis,
        budget=budget,
    )


def _length(runs: pd.DataFrame, budget: str) -> str:
    longest = runs.loc[runs["verdict"].notna(), budget].max()
    return "" if pd.isna(longest) else f"{longest:,.6g} {budget.removesuffix('s') if longest == 1 else budget}"


def trained_together(runs: pd.DataFrame) -> bool:
    """Whether any run shared its fit with another."""
    return "member_of" in runs and bool(runs["member_of"].dropna().duplicated().any())


def _changing(runs: pd.DataFrame) -> list[str]:
    """What to know where the loss changed during runs, which also those are told by that have no way down to judge."""
    changed = runs["loss_as_at_start"].notna() if "loss_as_at_start" in runs else pd.Series(dtype=bool)
    if not changed.any():
        return []
    row = runs[changed].iloc[0]
    losses = f"{row['loss_as_at_start']:.4g} by the loss of its start, {row['final_height']:.4g} by that of its end"
    return [
        f"the loss changed during {int(changed.sum())} of {len(runs)} runs, such as run {row['trial']} (at the end {losses}):"
        " heights of different times cannot be compared, and verdicts rest on that"
    ]
