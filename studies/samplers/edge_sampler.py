"""The search for edges for anybody's Optuna study: a sampler, a pruner, and the tables of what its objective reported.

The objective suggests a learning rate on a log scale and, if it likes, a seed; reports the height (the loss on the same
examples each time) before training as step 0 and then after each epoch, or part of one; and returns the last. Which learning
rates are too low, good, too high and divergent is known after about a tenth of a grid's training
(``reports.judging.queries``). Nothing but the storage is remembered: a sampler that is made anew asks for the same points.

A parabola, on which steps diverge from learning rate 2 on, for the training of five full runs:

>>> import optuna
>>> from studies import EdgePruner, EdgeSampler, tables_of_reports
>>> def train(trial):
...     rate = trial.suggest_float("learning_rate", 1e-3, 10, log=True)
...     for step in range(17):
...         height = 0.5 * (1 - rate) ** (2 * step)
...         trial.report(height, step)
...         if trial.should_prune():
...             raise optuna.TrialPruned
...     return height
>>> sampler = EdgeSampler(epochs=16)
>>> study = optuna.create_study(sampler=sampler, pruner=EdgePruner(epochs=16))
>>> study.optimize(train, 100, callbacks=[lambda study, trial: sampler.is_over(study) and study.stop()])
>>> len(study.trials), sum(trial.last_step for trial in study.trials) / 16
(19, 4.6875)
>>> from reports import judge
>>> judge(*tables_of_reports(study)).edges[["edge", "learning_rate", "low", "high"]].round(2)
                    edge  learning_rate   low  high
0        too low to good           0.40  0.14  1.10
1       good to too high           1.78  0.65  4.84
2  too high to divergent           2.24  0.82  6.10
"""

import math
import threading
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from reports.errors import BadInput
from reports.judging.decided import Query
from reports.judging.edges import fit_edges
from reports.judging.queries import Search, next_queries
from reports.judging.recommendation import recommend
from reports.judging.verdicts import classify_both, split_curves, was_cut
from studies.samplers.reports_of_trials import (
    ASKED,
    FINISHED,
    Asked,
    Ends,
    Last,
    Objective,
    Tables,
    asked_of,
    check_whole,
    curve_of,
    ends_of,
    is_whole,
    yardstick_of,
)

N_SEEDS = 3  # that are taken of those an objective has
_ASKING = threading.Lock()  # threads of ``optimize(n_jobs=...)`` choose one after the other, so that they choose differently


class EdgeSampler(BaseSampler):
    """Chooses the learning rates and seeds whose runs tell most of the edges for each epoch they take.

    epochs: the step at which a full run reports last, at least 1. seeds: at least one; by default the first three values of
    the parameter ``seed``, or a single one where the objective has none. Given seeds where it has none say that its runs
    differ though their learning rate is the same: each is another seed. per_decade: learning rates on a decade that may be
    tried. learning_rate, seed: names of parameters, a FloatDistribution on a log scale, and an IntDistribution or a
    CategoricalDistribution of whole numbers. independent_sampler: chooses all other parameters, which had better be fixed, and
    everything in a study of several objectives; at random by default.

    It goes with ``EdgePruner``, or with no pruner: where another one ends runs before their verdict is known it asks for the
    same ones again. Runs that a trial trains already are left to it, and others chosen: the next best, or other seeds; where
    there are none such a run is chosen once more, and then its neighbours. When the search is over (``is_over``) the learning
    rate is the recommended one, and where none is good the middle of the range.

    Raises BadInput for other arguments, in a study that maximizes, and for a seed that its parameter cannot take.
    """

    def __init__(
        self,
        *,
        epochs: int,
        seeds: Sequence[int] | None = None,
        per_decade: int = 10,
        learning_rate: str = "learning_rate",
        seed: str = "seed",
        independent_sampler: BaseSampler | None = None,
    ) -> None:
        self._objective = Objective(epochs, learning_rate, seed)
        check_whole("per_decade", per_decade)
        if seeds is not None and not (len(seeds) == len(set(seeds)) > 0 and all(map(is_whole, seeds))):
            raise BadInput(f"seeds must be different whole numbers, at least one, got {list(seeds)}")
        self._per_decade = int(per_decade)
        self._seeds = None if seeds is None else [int(each) for each in seeds]
        self._independent_sampler = independent_sampler or RandomSampler()
        self._last = Last()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: the range of a parameter is known when it is asked for."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The learning rate or the seed of the next run, or what the independent sampler chooses."""
        found: float | None = None
        if len(study.directions) == 1:
            if param_name == self._objective.learning_rate and (ends := ends_of(param_distribution)):
                found = self._ask(study, trial, ends).learning_rate
            elif param_name == self._objective.seed and _first_seeds(param_distribution):
                found = self._ask_seed(study, trial, param_distribution)
        if found is not None:
            return found
        return self._independent_sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """What the independent sampler does then."""
        self._independent_sampler.before_trial(study, trial)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """What the independent sampler does then."""
        self._independent_sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Reseed the independent sampler; nothing else here is random."""
        self._independent_sampler.reseed_rng()

    def is_over(self, study: optuna.Study) -> bool:
        """Whether the edges are known, so that further trials train what is recommended.

        False before the first trial.
        """
        ends = self._last_ends(study)
        return ends is not None and not self._queries(study, self._objective.tables(study, ends), self._search(study, ends))

    def _ask_seed(self, study: optuna.Study, trial: FrozenTrial, distribution: BaseDistribution) -> int | None:
        """None where no learning rate goes with it."""
        asked = self._objective.learning_rate in trial.params
        ends = self._objective.ends(trial) if asked else self._last_ends(study)
        if ends is None and (asked or study.get_trials(deepcopy=False, states=FINISHED)):
            return None
        seeds = self._seeds or _first_seeds(distribution)
        for each in seeds:
            if not _takes(distribution, each):
                raise BadInput(f"seeds must be values of the parameter {self._objective.seed!r}, {distribution}, got {each}")
        if ends is None:  # of the first trial: the search begins with the first seed wherever it does
            return seeds[0]
        if asked and asked_of(trial) is None:  # somebody else chose it
            runs, _ = self._objective.tables(study, ends)
            rate = trial.params[self._objective.learning_rate]
            done = set(runs.loc[(runs["learning_rate"] == rate) & ~was_cut(runs), "seed"])
            return next((each for each in seeds if each not in done), seeds[0])
        found = self._ask(study, trial, ends, seeds).seed
        return found if found in seeds else seeds[0]

    def _ask(self, study: optuna.Study, trial: FrozenTrial, ends: Ends, seeds: Sequence[int] | None = None) -> Asked:
        """What a trial is to train, which is written down for its pruner and for those who choose next."""
        if study.direction == StudyDirection.MAXIMIZE:
            raise BadInput("the study must minimize, as its objective returns a height, got one that maximizes")
        asked, given = asked_of(trial), trial.params.get(self._objective.seed)
        if asked is not None and ends[0] <= asked.learning_rate <= ends[1]:
            return asked
        with _ASKING:
            asked = self._choose(study, trial, self._search(study, ends, [int(given)] if is_whole(given) else seeds), ends)
            study._storage.set_trial_system_attr(trial._trial_id, ASKED, list(asked))
        return asked

    def _choose(self, study: optuna.Study, trial: FrozenTrial, search: Search, ends: Ends) -> Asked:
        """The best that no other trial trains; what is recommended where nothing is left to ask for."""
        self._warn(study)
        tables, all_seeds = self._objective.tables(study, ends), search.seeds
        tried = _points(tables[0])
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        busy = Counter(self._objective.point(each) for each in running if each.number != trial.number)
        n = 1 + busy.total()
        queries = best = self._queries(study, tables, search, n=n)
        if not best:
            return Asked(_recommended(tables, search), all_seeds[0], None, False)
        while queries:
            others = [query._replace(seed=seed) for seed in search.seeds for query in queries]
            for query in (*queries, *(other for other in others if other[:2] not in tried)):
                if query[:2] not in busy:
                    return Asked.of(query)
            # As if there were only those seeds that nothing is waited for.
            search = replace(search, seeds=_without(search.seeds, queries))
            queries = self._queries(study, tables, search, n=n) if search.seeds else []
        awaited = min(best, key=lambda query: busy[query[:2]])
        free = [(rate, seed) for seed in all_seeds for rate in search.rates if (rate, seed) not in tried | set(busy)]
        if busy[awaited[:2]] == 1 or not free:  # who trains it may be dead and have left a trial that runs for ever
            return Asked.of(awaited)
        rate, seed = min(free, key=lambda point: (abs(math.log(point[0] / awaited.learning_rate)), point[1] != awaited.seed))
        return Asked(float(rate), seed, None, True)

    def _queries(self, study: optuna.Study, tables: Tables, search: Search, *, n: int = 1) -> list[Query]:
        found: list[Query] = self._last(study, (search, n), lambda: _open_queries(tables, search, n=n))
        return found

    def _search(self, study: optuna.Study, ends: Ends, seeds: Sequence[int] | None = None) -> Search:
        seeds = seeds or self._seeds or self._seeds_of(study)
        return Search(*ends, seeds=tuple(seeds), epochs=self._objective.epochs, per_decade=self._per_decade)

    def _seeds_of(self, study: optuna.Study) -> Sequence[int]:
        """The first that the objective chose from last, or one where it has none."""
        for trial in reversed(study.get_trials(deepcopy=False)):
            if seeds := _first_seeds(trial.distributions.get(self._objective.seed)):
                return seeds
            if trial.state in FINISHED and self._objective.learning_rate in trial.params:
                return range(1)
        return range(N_SEEDS)

    def _last_ends(self, study: optuna.Study) -> Ends | None:
        found = map(self._objective.ends, reversed(study.get_trials(deepcopy=False)))
        return next((ends for ends in found if ends), None)

    def _warn(self, study: optuna.Study) -> None:
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if asked_of(trial) and curve_of(trial, self._objective.epochs) is None:
                told = f"trial {trial.number} reported no height at step 0 or none after it, so it tells nothing of the edges"
                way_out = "report the height before training as step 0 and then one after each epoch"
                warnings.warn(f"{told}: {way_out}", stacklevel=2)
                return


def _open_queries(tables: Tables, search: Search, *, n: int) -> list[Query]:
    """What to train next, but for what was trained as far and has no verdict even so: it would have none again."""
    runs, curves = tables
    heights = split_curves(curves, "height")
    points = zip(runs["learning_rate"], runs["seed"], runs["trial"], was_cut(runs), strict=True)
    tried = {(rate, seed): (cut, heights[trial]) for rate, seed, trial, cut in points}

    def is_open(query: Query) -> bool:
        cut, curve = tried.get(query[:2], (True, None))
        return cut and (curve is None or not query.is_over(*curve))

    if search.seeds[0] not in set(runs["seed"]):
        yardstick = yardstick_of(tables)
        if yardstick is None or not math.isfinite(yardstick.time):
            runs = runs[:0]  # the race is one seed's alone, and ``next_queries`` fails where others have runs and it has none
    while True:
        queries = next_queries(runs, curves, search, n=n)
        found = [query for query in queries if is_open(query)]
        if found or len(queries) < n:
            return found
        n *= 2


def _without(seeds: Sequence[int], queries: Sequence[Query]) -> Sequence[int]:
    waited_for = {query.seed for query in queries}
    return tuple(seed for seed in seeds if seed not in waited_for)


def _recommended(tables: Tables, search: Search) -> float:
    """The learning rate to use, the middle of the range where none is good."""
    judged, cells = classify_both(*tables, search.thresholds)
    found = recommend(judged, cells, fit_edges(judged))["learning_rate"]
    middle = float(f"{math.sqrt(search.low * search.high):.6g}")
    return float(found.iloc[0]) if len(found) else min(max(middle, search.low), search.high)


def _points(runs: pd.DataFrame) -> set[tuple[float, int]]:
    return set(runs[["learning_rate", "seed"]].itertuples(index=False, name=None))


def _first_seeds(distribution: BaseDistribution | None) -> Sequence[int]:
    """The first seeds that a parameter can be, none where they are no whole numbers."""
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)[:N_SEEDS]
    if isinstance(distribution, CategoricalDistribution) and all(map(is_whole, distribution.choices)):
        return [int(choice) for choice in distribution.choices[:N_SEEDS] if is_whole(choice)]
    return ()


def _takes(distribution: BaseDistribution, seed: int) -> bool:
    if isinstance(distribution, IntDistribution):
        return seed in range(distribution.low, distribution.high + 1, distribution.step)
    return isinstance(distribution, CategoricalDistribution) and seed in distribution.choices
