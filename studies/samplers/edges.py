"""What tells most of where the verdicts change (``reports.judging.queries``), in rounds that are kept in the storage."""

import math
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import optuna
from optuna.samplers import BaseSampler, RandomSampler

from reports.judging.at_batch_size import FEWEST
from reports.judging.batch_law import BatchLaw, Centre, Z, find_centres
from reports.judging.decided import Query, Yardstick
from reports.judging.edges import EDGES, SPREAD, find_edges
from reports.judging.queries import Search, next_queries
from reports.judging.recommendation import TO_DIVERGENT, TO_GOOD
from reports.judging.verdicts import FINISHED, Thresholds, classify
from reports.style import format_number, format_seconds
from studies import trials
from studies.config import LIMITS, StudyConfig
from studies.plan import Asked, Planned
from studies.storage.stored import BRACKET, HOW_TRAINED, ROUND, UNFINISHED, facts_of
from studies.tables import runs_and_curves

AROUND = 10**0.5  # times, around the edges of the batch size before, where the next one begins to look
# Of a study the batch sizes that need no more, by how many runs each had, where the next one begins, and where its edges lie.
Centres = dict[str, list[Centre]]
_done: WeakKeyDictionary[optuna.Study, dict[int, tuple[int, tuple[float, float], Centres]]] = WeakKeyDictionary()
LeftOut = Callable[[Planned], bool]
PerEpoch = Callable[[int], float]  # optimizer steps of an epoch at a batch size
BY_SIZE = 0.5  # power of the batch size by which edges move until it is known (LAW: between 0 and 1)


def plan(config: StudyConfig) -> list[Planned]:
    """Nothing is known beforehand."""
    return []


def make(name: str, n_trials: int) -> BaseSampler:
    """One that has nothing to choose: all that is asked for is fixed."""
    return RandomSampler(seed=n_trials)


def more(
    study: optuna.Study,
    config: StudyConfig,
    thresholds: Thresholds,
    steps_per_epoch: PerEpoch,
    n: int,
    seconds: float,
    is_left_out: LeftOut,
) -> list[Asked]:
    """What is left of the last round, or the next one; nothing where a limit of ``config`` is reached.

    A round is written down before it is trained, so that a study that was killed in its midst asks for the same runs again.
    """
    asked = _left(study, is_left_out) or _next(study, config, thresholds, steps_per_epoch, n, is_left_out)
    limit = _limit(study, config, seconds) if asked else ""
    if not limit and asked:
        _write(study, asked)
    trials.set_attribute(study, UNFINISHED, f"{limit} ended the search at batch size {asked[0][0].batch_size}" if limit else "")
    return [] if limit else asked


def _limit(study: optuna.Study, config: StudyConfig, seconds: float) -> str:
    """The limit that is reached, "" if none is."""
    if config.max_time is not None and seconds >= float(config.max_time):
        return f"max_time, {format_seconds(float(config.max_time))},"
    finished = study.get_trials(deepcopy=False)
    if config.max_epochs_in_all is not None and sum(facts_of(t).get("epochs", 0) for t in finished) >= config.max_epochs_in_all:
        return f"max_epochs_in_all, {format_number(config.max_epochs_in_all)},"
    return ""


def _next(
    study: optuna.Study, config: StudyConfig, thresholds: Thresholds, steps_per_epoch: PerEpoch, n: int, is_left_out: LeftOut
) -> list[Asked]:
    runs, curves = runs_and_curves(study)
    decided: Any = study.user_attrs.get(HOW_TRAINED, {})
    done = _done.setdefault(study, {})
    low, high = config.learning_rate or study.user_attrs[BRACKET][:2]
    sizes = sorted(config.batch_sizes, reverse=True)  # the largest has the fewest steps: who learns from it has the most
    for size, following in zip(sizes, (*sizes[1:], 0), strict=True):
        mine = runs[runs["batch_size"] == size]
        if (known := done.get(size)) and known[0] == len(mine):
            low, high = known[1]
            continue
        search = Search(
            low,
            high,
            seeds=config.seed_values,
            epochs=_budget(config, mine, size, steps_per_epoch),
            lowest=math.inf if config.learning_rate else LIMITS[0],
            highest=0.0 if config.learning_rate else LIMITS[1],
            per_decade=int(config.per_decade or 1),
            exact=config.exact,
            thresholds=thresholds,
            expected=expected_edges([done[other][2] for other in sizes if other > size], size),
        )
        together = int(decided.get(str(size), {"members": 1})["members"]) > 1
        queries = next_queries(mine, curves[curves["trial"].isin(mine["trial"])], search, n=n, together=together)
        asked = [(Planned(query.learning_rate, size, query.seed), query) for query in queries]
        if asked := [each for each in asked if not is_left_out(each[0])]:
            return asked
        if following:
            judged = classify(mine, curves, thresholds)
            low, high = range_at_next_size(judged, search, following / size)
            done[size] = len(mine), (low, high), find_centres(judged)
    return []


def _budget(config: StudyConfig, runs: Any, batch_size: int, steps_per_epoch: PerEpoch) -> float:
    """Epochs of a run that is trained to its end, which limits in steps may make fewer than was asked."""
    whole = runs[(runs["state"] == FINISHED[0]) & runs["nonfinite_at"].isna()]
    if config.steps and not len(whole) and math.isfinite(an_epoch := steps_per_epoch(batch_size)):
        return config.steps / an_epoch
    return float(min(config.epochs or 1, whole["epochs"].max() if len(whole) else math.inf))


def expected_edges(done: Sequence[Centres], batch_size: int) -> tuple[tuple[str, float, float], ...]:
    """Where the law of the batch sizes that are done has the edges of another one; nothing for fewer than three."""
    found = []
    for edge in EDGES:
        centres = [centre for each in done for centre in each[edge]]
        if sum(not centre.side for centre in centres) >= FEWEST:
            foretold = BatchLaw(centres).predict(batch_size)
            mean, sd = math.log10(foretold.learning_rate), math.log10(foretold.high / foretold.low) / (2 * Z)
            found.append((edge, mean, math.hypot(sd, SPREAD)))
    return tuple(found)


def range_at_next_size(judged: Any, search: Search, factor: float) -> tuple[float, float]:
    """Where to begin at a batch size ``factor`` times that of runs that ``classify`` returned: around their edges, moved."""
    edges = find_edges(judged).set_index("edge")
    low, high = (edges["learning_rate"].get(edge, math.nan) * factor**BY_SIZE for edge in (TO_GOOD, TO_DIVERGENT))
    low = low / AROUND if math.isfinite(low) else search.low
    high = high * AROUND if math.isfinite(high) else search.high
    # Outward to the powers of ten that the ladder has, and no further than the search may go.
    low, high = (10 ** (to(2 * math.log10(end)) / 2) for to, end in ((math.floor, low), (math.ceil, high)))
    ends = min(search.lowest, search.low), max(search.highest, search.high)
    return float(f"{max(low, ends[0]):.6g}"), float(f"{min(high, ends[1]):.6g}")


def _write(study: optuna.Study, asked: list[Asked]) -> None:
    rows = [[*planned, _number(query.epochs), query.yardstick and [*map(_number, query.yardstick)]] for planned, query in asked]
    if [row for row in study.user_attrs.get(ROUND, {"runs": []})["runs"] if row in rows] != rows:  # else what is left of it
        trials.set_attribute(study, ROUND, {"since": len(study.get_trials(deepcopy=False)), "runs": rows})


def _left(study: optuna.Study, is_left_out: LeftOut) -> list[Asked]:
    """Runs of the last round that have not finished since."""
    told: Any = study.user_attrs.get(ROUND, {"since": 0, "runs": []})
    since = study.get_trials(deepcopy=False)[told["since"] :]
    done = {Planned(**trial.params) for trial in since if trial.state.name in FINISHED}
    asked = []
    for rate, size, seed, epochs, given in told["runs"]:
        yardstick = None
        if given is not None:
            floor, rate_of_fastest, time, level, rho = (math.inf if each is None else each for each in given[:5])
            yardstick = Yardstick(floor, rate_of_fastest, time, level, rho, cuts_above=given[5])
        planned = Planned(rate, size, seed)
        if planned not in done and not is_left_out(planned):
            asked.append((planned, Query(rate, seed, math.inf if epochs is None else epochs, yardstick)))
    return asked


def _number(value: float | bool) -> float | bool | None:
    """As plain JSON, which has no infinity."""
    return value if isinstance(value, bool) else float(value) if math.isfinite(value) else None
