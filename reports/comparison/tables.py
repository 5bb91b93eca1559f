"""Several studies side by side, the first the baseline: what was set, what came out, what exceeds the seeds' spread."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reports.comparison.batch_sizes import foretell, tell_batch_sizes
from reports.comparison.effective_rates import Settings, effective_edges, effective_factors
from reports.comparison.seed_tests import ENDS, adjust, compare_seeds, find_metrics, measure_seeds
from reports.errors import BadInput
from reports.judging.edges import fit_edges
from reports.judging.judged import Judged
from reports.judging.judgements import score_sensitivity
from reports.judging.recommendation import verdict_at
from reports.judging.verdicts import FINISHED, Thresholds, was_cut
from reports.pages.templating import flat_options
from reports.style import GOOD, format_number

SAME_START = 0.1  # of the way to the floor: untrained heights further apart are taken for two different losses
NOT_GIVEN = "not given"
OF_DATA = r"data(\.|$)"
HOW_LOOKED = r"(learning_rate|points|seeds|sampler|trials|batch_size|fuse|trained at batch size)(\.|$)"  # changes no run
NAME_LENGTH = 29  # characters; what fits beside a picture

SUMMARY = (
    "batch_size study learning_rate low high baseline_verdict good_begins good_begins_low good_begins_high good_ends"
    " good_ends_low good_ends_high divergence_begins divergence_begins_low divergence_begins_high time_to_bottom_epochs"
    " time_to_bottom_steps time_to_bottom_examples time_to_bottom_seconds final_height sensitivity n_seeds n_runs n_cut"
).split()
TESTS = (
    "batch_size study quantity baseline value ratio difference baseline_seeds seeds p_value adjusted_p_value test exceeds note"
).split()


class Comparison(NamedTuple):
    """What several studies say together.

    studies: their names, the baseline first.
    differences: a row an option that is not the same in all: ``option``, then its value in each study.
    summary: a row a batch size and study that tried it: what to use with its interval; ``baseline_verdict``, the verdict of
    the baseline's recommended learning rate there, missing where it was not tried; the edges with their intervals, as
    ``find_edges`` has them; then of the cell of the recommended learning rate the time to bottom, the final height and
    the metrics (medians over seeds); ``sensitivity``; ``n_seeds`` of that batch size.
    tests: a row a batch size, study other than the baseline, and quantity: its number in both (medians over seeds),
    ``ratio`` or ``difference`` of study to baseline, ``baseline_seeds`` and ``seeds``, how many were tested, ``p_value``, the
    same ``adjusted`` for the number of rows of the study, ``test``, ``exceeds``, whether the difference exceeds the seeds'
    spread (missing where it was not tested), ``note``.
    notes: what the reader must know before comparing. same_heights: whether heights can be compared, or progress only.
    thresholds: how strictly all of them were judged.
    effective: ``effective_edges`` of studies that differ in momentum.
    foretold: ``foretell``, with sentences in batch_sizes.
    """

    studies: tuple[str, ...]
    differences: pd.DataFrame
    summary: pd.DataFrame
    tests: pd.DataFrame
    notes: list[str]
    same_heights: bool
    thresholds: Thresholds
    effective: pd.DataFrame
    foretold: pd.DataFrame
    batch_sizes: list[str]


def compare(
    judged: Mapping[str, Judged],
    configurations: Mapping[str, Mapping[str, object]] | None = None,
    optimizers: Mapping[str, Settings] | None = None,
) -> Comparison:
    """Compare studies by name, each with the first; optimizers: settings of the parameter groups of each, where known.

    For the tests each seed is judged as a study of its own, by its own floor and its own fastest learning rate: only then are
    the seeds of a study independent. Those of a search have too few runs of their own for that (``measure_seeds``). Compared
    are the edges (``compare_edges``) and the best over the learning rates: shortest time to bottom (as logarithms), lowest
    final height, best metrics (``compare_means``). Seeds with the same number in two studies are not paired: another
    architecture draws other weights from them. The p values of each study are adjusted for their number (Benjamini & Hochberg
    1995), so two studies differ in the same whatever else they are compared with.

    Raises ValueError for fewer than two studies, one without a run that has a verdict, and studies judged by different
    thresholds.
    """
    if len(judged) < 2:
        raise BadInput(f"judged must hold at least two studies, got {len(judged)}")
    for name, study in judged.items():
        if study.cells.empty:
            needed = "run with a verdict" if study.runs["state"].isin(FINISHED).any() else "finished run"
            raise BadInput(f"study {name!r} must have a {needed}, it has none")
    thresholds = {study.thresholds for study in judged.values()}
    if len(thresholds) > 1:
        raise BadInput(f"studies must be judged by the same thresholds, got {len(thresholds)} different ones")
    given, names, (baseline, *others) = configurations or {}, short_names(judged), judged
    first = judged[baseline]
    metrics = find_metrics(first, [str(configuration.get("monitor") or "") for configuration in given.values()])
    seeds = {name: measure_seeds(study, metrics) for name, study in judged.items()}
    rows, notes, same_heights = [], _notes_of_each(judged, names), True
    for name in others:
        study, both = judged[name], f"{names[baseline]} and {names[name]}"
        why = _why_not_heights(first, study)
        found = compare_seeds((first, seeds[baseline]), (study, seeds[name]), list(metrics), losses=not why)
        rows += [row | {"study": name} for row in found]
        notes += _notes(both, first, study) + ([f"{both}: {why}"] if why else [])
        same_heights &= not why
    differences = _differences({name: given.get(name, {}) for name in judged})
    for name in others:
        notes += _notes_on_settings(f"{names[baseline]} and {names[name]}", differences, baseline, name)
    summary, factors = _summary(judged), effective_factors({name: (optimizers or {}).get(name, []) for name in judged})
    return Comparison(
        studies=tuple(judged),
        differences=differences,
        summary=summary,
        tests=adjust(pd.DataFrame(rows, columns=TESTS)),
        notes=notes,
        same_heights=same_heights,
        thresholds=thresholds.pop(),
        effective=effective_edges(summary, factors),
        foretold=foretell(judged),
        batch_sizes=tell_batch_sizes(judged, names),
    )


def short_names(studies: Iterable[str]) -> dict[str, str]:
    """What each study is called in sentences and pictures: its name in one line, its middle left out where it is long.

    >>> list(short_names(["digits", "a" * 40 + "1", "a" * 40 + "2" * 600, "a" * 40 + "3" * 600]).values())
    ['digits', 'aaaaaaaaaaaaaaaa…aaaaaaaaaaa1', 'aaaaaaaaaaaaaaaa…222222222222', 'aaaaaaaaaaaaaaaa…333333333333']
    """
    found: dict[str, str] = {}
    for study in studies:
        line = "".join(c if c.isprintable() else " " for c in study).strip() or "unnamed"
        short = line if len(line) <= NAME_LENGTH else f"{line[:16]}…{line[-12:]}"
        found[study] = short if short not in found.values() else f"{short} ({len(found) + 1})"
    return found


def is_metric(column: object) -> bool:
    """Whether a column holds the final values of a validation metric."""
    return str(column).startswith("val_")


def by_study(summary: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of ``Comparison.summary`` of each study, by batch size."""
    return {str(name): rows.set_index("batch_size") for name, rows in summary.groupby("study")}


def find_not_good(comparison: Comparison) -> list[str]:
    """A sentence for each batch size and study in which the learning rate the baseline recommends is not known to be good.

    Raises ValueError when a study has no batch size in common with the baseline.
    """
    baseline, *others = comparison.studies
    tables, found = by_study(comparison.summary), []
    for name in others:
        shared = tables[baseline].index.intersection(tables[name].index)
        if shared.empty:
            raise BadInput(f"studies must have a batch size in common, {baseline!r} and {name!r} have none")
        for size in shared:
            rate, verdict = tables[baseline]["learning_rate"][size], tables[name]["baseline_verdict"][size]
            if verdict == GOOD:
                continue
            use = f"{format_number(rate)}, recommended in {baseline!r},"
            said = f"{use} is {verdict} in {name!r}" if isinstance(verdict, str) else f"{use} was not tried in {name!r}"
            found.append(f"batch size {size}: " + (said if rate > 0 else f"nothing is recommended in {baseline!r}"))
    return found


def _differences(configurations: Mapping[str, Mapping[str, object]]) -> pd.DataFrame:
    flat = {name: dict(flat_options(configuration)) for name, configuration in configurations.items()}
    options = dict.fromkeys(option for options in flat.values() for option in options)
    values = {option: [options.get(option, NOT_GIVEN) for options in flat.values()] for option in options}
    rows = [[option, *found] for option, found in values.items() if len(set(found)) > 1]
    return pd.DataFrame(rows, columns=["option", *flat])


def _summary(judged: Mapping[str, Judged]) -> pd.DataFrame:
    edges = {name: fit_edges(study.runs) for name, study in judged.items()}
    baseline = next(iter(judged.values())).recommendations.set_index("batch_size")["learning_rate"]
    metrics = dict.fromkeys(str(column) for study in judged.values() for column in study.cells if is_metric(column))
    rows = []
    for size in sorted({int(size) for study in judged.values() for size in study.cells["batch_size"]}):
        for name, study in judged.items():
            cells = study.cells[study.cells["batch_size"] == size]
            if cells.empty:
                continue
            row: dict[str, Any] = {"batch_size": size, "study": name}
            if size in baseline.index:
                row["baseline_verdict"] = verdict_at(baseline[size], cells, edges[name][size])
            bounds = study.edges[study.edges["batch_size"] == size].set_index("edge")
            for quantity, edge in ENDS.items():
                key = quantity.replace(" ", "_")
                row |= {key: bounds["learning_rate"][edge]}
                row |= {f"{key}_{end}": bounds[end][edge] for end in ("low", "high")}
            runs = study.runs[(study.runs["batch_size"] == size) & study.runs["verdict"].notna()]
            use = study.recommendations[study.recommendations["batch_size"] == size]
            if len(use):
                row |= use.iloc[0][["learning_rate", "low", "high"]].to_dict()
                cell = cells[cells["learning_rate"] == row["learning_rate"]].iloc[0]
                row |= {key: cell[key] for key in cells if key in SUMMARY[6:] or is_metric(key)}
                an_epoch = float((runs["examples"] / runs["epochs"]).median())
                row["time_to_bottom_examples"] = row["time_to_bottom_epochs"] * an_epoch
            row |= {"sensitivity": score_sensitivity(runs)[size], "n_seeds": runs["seed"].nunique()}
            row |= {"n_runs": len(runs), "n_cut": int(was_cut(runs).sum())}
            rows.append(row)
    return pd.DataFrame(rows, columns=[*SUMMARY, *metrics])


def _why_not_heights(baseline: Judged, study: Judged) -> str:
    """Why heights, and so losses, cannot be compared; "" where they can."""
    starts = [float(s.runs["first_height"].dropna().median()) for s in (baseline, study)]
    ways = [start - float(s.cells["final_height"].min()) for start, s in zip(starts, (baseline, study), strict=True)]
    if not max(ways) > 0 or abs(starts[0] - starts[1]) <= SAME_START * max(ways):
        return ""
    return f"untrained heights differ ({' and '.join(map(format_number, starts))}), so losses are not compared, progress is"


def _notes_of_each(judged: Mapping[str, Judged], names: Mapping[str, str]) -> list[str]:
    """How each study was measured, and which of its runs have no verdict or were ended early."""
    found = []
    for name, study in judged.items():
        told = [check.sentence for check in study.trust if check.name in ("learning rate", "ended early")]
        found += [
            f"{names[name]}: {sentence.rstrip('.')}"
            for sentence in (*told, "; ".join(remark.rstrip(".") for remark in study.remarks))
            if sentence
        ]
    return found


def _notes_on_settings(both: str, differences: pd.DataFrame, baseline: str, study: str) -> Iterator[str]:
    """What to know where two studies have other data, or differ in several options that change what is trained."""
    options = differences.loc[differences[baseline] != differences[study], "option"].astype(str)
    options = options[~options.str.match(HOW_LOOKED)]
    if {"steps", "epochs"} <= set(options):  # one budget instead of the other
        options = options[options != "epochs"]
    if any(data := options.str.match(OF_DATA)):
        yield f"{both} were trained on other data ({', '.join(options[data])}): their losses and times are not of one task"
    if len(options) > 1:
        yield f"{both} differ in several options ({', '.join(options)}): what moved cannot be put down to one of them"


def _notes(both: str, baseline: Judged, study: Judged) -> list[str]:
    sizes = [set(s.cells["batch_size"]) for s in (baseline, study)]
    shared, alone = sorted(sizes[0] & sizes[1]), sorted(sizes[0] ^ sizes[1])
    if not shared:
        return [f"{both} have no batch size in common, so nothing is tested: each stands for itself"]
    notes = []
    if alone:
        notes.append(f"only one of {both} tried batch size {', '.join(map(str, alone))}, so nothing is compared there")
    pair, base = (baseline, study), "and all edges, times and heights are measured from it"
    unit = baseline.budget
    lengths = [float(s.runs.loc[s.runs["verdict"].notna() & s.runs["batch_size"].isin(shared), unit].max()) for s in pair]
    if baseline.budget != study.budget:
        told = [f"{s.runs.loc[s.runs['verdict'].notna(), s.budget].max():,.6g} {s.budget}" for s in pair]
        notes.append(
            f"{both} have different kinds of budget, {' and '.join(told)} a run: alike at one batch size, they differ at others"
            f", as does the floor, {base}"
        )
    elif not math.isclose(*lengths, rel_tol=0.01):
        told = [format_number(length) for length in lengths]
        notes.append(f"{both} trained for {' and '.join(told)} {unit}: more {unit} lower the floor, {base}")
    one, other = (s.cells.groupby("batch_size")["learning_rate"].agg(["min", "max"]).loc[shared] for s in (baseline, study))
    searched = any(was_cut(s.runs).any() for s in (baseline, study))  # which looks wherever an edge may be
    if not searched and not np.allclose(one, other, rtol=1e-5, atol=0):
        notes.append(f"{both} tried different ranges of learning rates, on which floor, edges and sensitivity depend")
    return notes
