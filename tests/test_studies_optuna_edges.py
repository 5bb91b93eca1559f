"""The search in anybody's Optuna study: it keeps Optuna's contract, finds edges that are known, and remembers nothing."""

from __future__ import annotations

import math
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase
from optuna.trial import FrozenTrial, TrialState, create_trial

from reports import classify, judge
from reports.errors import BadInput
from studies import EdgePruner, EdgeSampler, tables_of_reports
from studies.samplers.reports_of_trials import ASKED

EPOCHS = 32
RANGE = (1e-5, 10.0)
NARROW = (1e-2, 10.0)
RATE = FloatDistribution(*RANGE, log=True)
SEED = IntDistribution(0, 2)
CURVATURES = (1.0, 1.1, 1.2)  # by seed

Train = Callable[[optuna.Trial], Sequence[float]]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def heights(rate: float, curvature: float, epochs: int = EPOCHS) -> list[float]:
    """Of a parabola, on which a step of gradient descent multiplies the way to the bottom by ``1 - rate * curvature``."""
    return (0.5 * curvature * (1 - rate * curvature) ** (2 * np.arange(epochs + 1))).tolist()


def parabola(trial: optuna.Trial) -> Sequence[float]:
    rate = trial.suggest_float("learning_rate", *RANGE, log=True)
    return heights(rate, CURVATURES[trial.suggest_int("seed", 0, 2)])


def of_one_seed(trial: optuna.Trial) -> Sequence[float]:
    return heights(trial.suggest_float("learning_rate", *NARROW, log=True), 1.0)


def finish(study: optuna.Study, trial: optuna.Trial, values: Sequence[float]) -> None:
    """Report heights, told as pruned where the pruner says so."""
    for step, height in enumerate(values):
        trial.report(height, step)
        if trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return
    study.tell(trial, values[-1])


def new_study(**options: Any) -> tuple[optuna.Study, EdgeSampler]:
    sampler = EdgeSampler(**{"epochs": EPOCHS} | options)
    return optuna.create_study(sampler=sampler, pruner=EdgePruner(epochs=EPOCHS)), sampler


def search(study: optuna.Study, sampler: EdgeSampler, train: Train, *, at_most: int = 80) -> None:
    for _ in range(at_most):
        trial = study.ask()
        finish(study, trial, train(trial))
        if sampler.is_over(study):
            return
    raise AssertionError(f"the search is not over after {at_most} trials")


def points(study: optuna.Study) -> list[tuple[float, int]]:
    """What was trained, in order."""
    trained = [trial for trial in study.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    return [(trial.params["learning_rate"], trial.params["seed"]) for trial in trained]


def asked_of(study: optuna.Study, trial: optuna.Trial) -> Any:
    """What the sampler wants of a trial, as it is stored."""
    return study.trials[trial.number].system_attrs.get(ASKED)


def run(rate: float, values: Sequence[float], *, state: TrialState = TrialState.COMPLETE, **options: Any) -> FrozenTrial:
    """A trial of seed 0 that reported these heights."""
    given: dict[str, Any] = {"value": float(values[-1])} if state is TrialState.COMPLETE else {}
    given |= {"params": {"learning_rate": rate, "seed": 0}, "distributions": {"learning_rate": RATE, "seed": SEED}}
    given |= {"intermediate_values": {step: float(value) for step, value in enumerate(values)}}
    return create_trial(state=state, **given | options)


@pytest.fixture(scope="module")
def searched() -> optuna.Study:
    """A finished search on the parabola, one trial after the other."""
    study, sampler = new_study()
    search(study, sampler, parabola)
    return study


class TestContract(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: EdgeSampler(epochs=4)


@pytest.mark.filterwarnings("ignore:trial . reported no height at step 0:UserWarning")
class TestContractOfTheParametersThatAreSearched(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: EdgeSampler(epochs=4, learning_rate="x", seed="y")


def fine_edges(curvature: float) -> tuple[float, float, float]:
    """Too low to good, good to too high, and divergence of a parabola, by the rule itself on ten thousand rates."""
    rates = np.geomspace(*RANGE, 10_000)
    times = np.array([_time(heights(rate, curvature)) for rate in rates])
    good = rates[times <= 3 * np.nanmin(times)]
    return good[0], good[-1], 2 / curvature


def _time(values: Sequence[float]) -> float:
    """Epochs until nine tenths of the way to the bottom are behind, linear between two; missing if never."""
    bottom = 0.1 * values[0]
    below = [step for step, value in enumerate(values) if value <= bottom]
    if not below:
        return math.nan
    left, right = values[below[0] - 1], values[below[0]]
    return below[0] - 1 + (left - bottom) / (left - right)


def test_edges_are_found_for_a_tenth_of_the_grid(searched: optuna.Study) -> None:
    found = judge(*tables_of_reports(searched)).edges["learning_rate"]
    assert np.log10(found.to_numpy()) == pytest.approx(np.log10(fine_edges(CURVATURES[1])), abs=0.1)
    grid = (10 * math.log10(RANGE[1] / RANGE[0]) + 1) * 3 * EPOCHS
    assert sum(trial.last_step or 0 for trial in searched.trials) <= 0.1 * grid


def test_a_search_that_is_over_gives_what_is_recommended(searched: optuna.Study) -> None:
    recommended = judge(*tables_of_reports(searched)).recommendations["learning_rate"].item()
    again = optuna.create_study(sampler=EdgeSampler(epochs=EPOCHS))
    again.add_trials(searched.trials)
    trial = again.ask({"learning_rate": RATE, "seed": SEED})
    assert trial.params == {"learning_rate": recommended, "seed": 0}


def test_the_middle_of_the_range_where_nothing_is_good() -> None:
    study, sampler = new_study()
    search(study, sampler, lambda trial: [1.0, math.nan] if of_one_seed(trial) else [])
    trial = study.ask({"learning_rate": FloatDistribution(*NARROW, log=True)})
    assert trial.params["learning_rate"] == pytest.approx(math.sqrt(0.1), rel=1e-5)


def test_a_study_killed_between_trials_asks_for_the_same_points(searched: optuna.Study, tmp_path: Path) -> None:
    """Whose unfinished trial somebody told to have failed."""
    known = searched.trials
    for done in range(0, len(known), 5):
        study = optuna.create_study(
            study_name="parabola",
            storage=f"sqlite:///{tmp_path}/optuna.db",
            load_if_exists=True,
            sampler=EdgeSampler(epochs=EPOCHS),
        )
        study.add_trials(known[max(done - 5, 0) : done])
        orphan = study.ask()
        orphan.report(parabola(orphan)[0], 0)
        study.tell(orphan.number, state=TrialState.FAIL)
        again = study.ask({"learning_rate": RATE, "seed": SEED})
        assert orphan.params == again.params == known[done].params
        assert asked_of(study, orphan) == asked_of(study, again) == known[done].system_attrs[ASKED]
        study.tell(again, state=TrialState.FAIL)
        study._storage._backend.engine.dispose()


def test_trials_asked_in_a_row_are_spread_and_find_the_edges() -> None:
    space = {"learning_rate": FloatDistribution(*NARROW, log=True), "seed": IntDistribution(0, 1)}
    study, sampler = new_study()
    while not sampler.is_over(study):
        asked = [study.ask(space) for _ in range(5)]
        times = Counter(tuple(trial.params.values()) for trial in asked)
        assert max(times.values()) == 1 or (max(times.values()) == 2 and len(times) >= 3)  # one that is waited for, once more
        for trial in asked:
            finish(study, trial, heights(trial.params["learning_rate"], CURVATURES[trial.params["seed"]]))
        assert len(study.trials) < 60
    found = judge(*tables_of_reports(study)).edges["learning_rate"]
    assert np.log10(found.to_numpy()) == pytest.approx(np.log10(fine_edges(1.05)), abs=0.1)


def test_more_trials_in_a_row_than_there_are_rungs_go_to_other_seeds() -> None:
    study, _ = new_study()
    asked = [study.ask({"learning_rate": RATE, "seed": SEED}).params for _ in range(3 * 13)]
    assert len({tuple(params.values()) for params in asked}) == 3 * 13
    assert [params["seed"] for params in asked] == [0] * 13 + [1] * 13 + [2] * 13
    again = [study.ask({"learning_rate": RATE, "seed": SEED}).params for _ in range(15)]
    assert again[:13] == asked[:13]  # one of them may have been killed
    assert [params["learning_rate"] for params in again[13:]] == [1.25893e-05, 1.25893e-05]


def test_threads_are_given_different_points() -> None:
    study, _ = new_study()
    barrier = threading.Barrier(4)

    def together(trial: optuna.Trial) -> float:
        value = parabola(trial)[0]
        barrier.wait(timeout=300)
        return value

    with pytest.warns(UserWarning, match="trial . reported no height at step 0"):
        study.optimize(together, n_trials=4, n_jobs=4)
        study.ask({"learning_rate": RATE})
    assert len(set(points(study))) == 4


def test_an_orphan_that_runs_for_ever_does_not_hold_the_search_up() -> None:
    study, sampler = new_study()
    orphan = study.ask({"learning_rate": FloatDistribution(*NARROW, log=True)})
    search(study, sampler, of_one_seed)
    assert orphan.params["learning_rate"] in [trial.params["learning_rate"] for trial in study.trials[1:]]


def test_a_learning_rate_without_effect_ends_the_search() -> None:
    study, sampler = new_study(per_decade=2)
    search(study, sampler, lambda trial: heights(0.5, 1.0) if of_one_seed(trial) else [])
    runs = classify(*tables_of_reports(study))
    assert runs["reason"].str.contains("the learning rate has no effect").any()


def test_a_study_without_pruner_is_searched_too() -> None:
    sampler = EdgeSampler(epochs=EPOCHS)
    study = optuna.create_study(sampler=sampler, pruner=optuna.pruners.NopPruner())
    search(study, sampler, of_one_seed)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert math.log10(judge(*tables_of_reports(study)).edges["learning_rate"].iloc[2] / 2) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("returned", [math.nan, math.inf], ids=str)
def test_a_run_that_ends_without_a_number_is_divergent_and_not_trained_again(returned: float) -> None:
    study, _ = new_study()

    def explode(trial: optuna.Trial) -> float:
        trial.suggest_float("learning_rate", *RANGE, log=True)
        for step, height in enumerate((1.0, returned)):
            trial.report(height, step)
        return returned

    study.optimize(explode, 2)
    first, second = (trial.params["learning_rate"] for trial in study.trials)
    assert first != second
    runs, curves = tables_of_reports(study)
    assert runs["nonfinite_at"].tolist() == [1, 1]
    assert curves["value"].tolist() == [1.0, math.inf] * 2


def test_no_first_height_is_said_and_how_to_report_one() -> None:
    study, _ = new_study()
    study.tell(study.ask({"learning_rate": RATE}), 1.0)
    with pytest.warns(
        UserWarning, match="trial 0 reported no height at step 0 .*: report the height before training as step 0"
    ):
        study.ask({"learning_rate": RATE})


def test_rates_are_inside_a_range_of_many_digits() -> None:
    low, high = 0.0123456749, 9.8765451
    study, sampler = new_study()
    search(study, sampler, lambda trial: heights(trial.suggest_float("learning_rate", low, high, log=True), 1.0))
    rates = [trial.params["learning_rate"] for trial in study.trials]
    assert (min(rates), max(rates)) == (0.0123457, 9.87654)


def test_a_range_that_was_another_before_is_kept_to() -> None:
    study, _ = new_study()
    for trial in (study.ask({"learning_rate": RATE}) for _ in range(3)):
        finish(study, trial, heights(trial.params["learning_rate"], 1.0))
    inner = FloatDistribution(0.1, 1.0, log=True)
    rates = [study.ask({"learning_rate": inner}).params["learning_rate"] for _ in range(3)]
    assert rates == [0.1, 0.316228, 1.0]


@pytest.mark.parametrize(
    ("distribution", "options", "wanted"),
    [
        (IntDistribution(4, 100, step=2), {}, [4, 6, 8]),
        (IntDistribution(7, 8), {}, [7, 8]),
        (CategoricalDistribution([30, 10, 20, 40]), {}, [30, 10, 20]),
        (CategoricalDistribution([30, 10, 20, 40]), {"seeds": (40, 10)}, [40, 10]),
    ],
    ids=str,
)
@pytest.mark.parametrize("first", ["learning_rate", "seed"])
def test_seeds_are_the_first_of_the_parameter_or_those_given(
    distribution: IntDistribution, options: dict[str, Any], wanted: list[int], first: str
) -> None:
    study, _ = new_study(**options)
    space = {"learning_rate": FloatDistribution(*NARROW, log=True), "seed": distribution}
    space = {first: space[first], **space}
    asked = [study.ask(space).params["seed"] for _ in range(7 * len(wanted))]
    assert asked == [seed for seed in wanted for _ in range(7)]


def test_an_objective_without_seed_has_one_unless_several_are_given() -> None:
    space = {"learning_rate": FloatDistribution(0.1, 1.0, log=True)}
    told: dict[Any, list[Any]] = {}
    for seeds in (None, (0, 1)):
        study, _ = new_study(seeds=seeds)
        trial = study.ask(space)
        finish(study, trial, heights(trial.params["learning_rate"], 1.0))
        told[seeds] = [asked_of(study, study.ask(space))[:2] for _ in range(4)]
    assert told[0, 1] == [[0.316228, 0], [1.0, 0], [0.316228, 1], [1.0, 1]]
    assert told[None] == [[0.316228, 0], [1.0, 0], [0.316228, 0], [1.0, 0]]
    assert tables_of_reports(study)[0]["seed"].tolist() == [0]


def test_runs_chosen_by_others_count_and_are_not_asked_for() -> None:
    study, sampler = new_study()
    study.add_trial(create_trial(value=1.0))
    study.add_trial(create_trial(params={"seed": 0}, distributions={"seed": SEED}, value=1.0))
    study.add_trial(create_trial(params={"learning_rate": 0.5}, distributions={"learning_rate": RATE}, value=1.0))
    study.add_trial(run(0.01, heights(0.01, 1.0), params={"learning_rate": 0.01}, distributions={"learning_rate": RATE}))
    study.enqueue_trial({"learning_rate": 0.1})
    search(study, sampler, of_one_seed)
    rates = [trial.params.get("learning_rate") for trial in study.trials[4:]]
    assert study.trials[4].params == {"learning_rate": 0.1} and asked_of(study, study.trials[4]) is None
    assert not {0.01, 0.1} & set(rates[1:])
    found = judge(*tables_of_reports(study)).edges["learning_rate"]
    assert np.log10(found.to_numpy()) == pytest.approx(np.log10(fine_edges(1.0)), abs=0.1)


def test_a_running_trial_that_others_chose_is_left_to_them() -> None:
    study, _ = new_study()
    study.enqueue_trial({"learning_rate": RANGE[0], "seed": 0})
    asked = [study.ask({"learning_rate": RATE, "seed": SEED}).params["learning_rate"] for _ in range(3)]
    assert asked == [1e-5, 3.16228e-05, 0.0001]


def test_an_enqueued_learning_rate_is_given_a_seed_that_it_lacks() -> None:
    study, _ = new_study()
    study.add_trial(run(0.01, heights(0.01, 1.0)))
    study.enqueue_trial({"learning_rate": 0.01})
    assert study.ask({"learning_rate": RATE, "seed": SEED}).params["seed"] == 1


def test_a_fixed_seed_is_searched_alone() -> None:
    study, sampler = new_study()
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.sampler = PartialFixedSampler({"seed": 2}, sampler)
    asked = [study.ask({"seed": SEED, "learning_rate": RATE}) for _ in range(3)]
    assert [asked_of(study, trial)[:2] for trial in asked] == [[1e-05, 2], [3.16228e-05, 2], [0.0001, 2]]


def test_other_parameters_and_studies_are_left_to_the_independent_sampler() -> None:
    spaces: list[dict[str, Any]] = [
        {"momentum": FloatDistribution(0, 1), "seed": IntDistribution(0, 10**6)},
        {"learning_rate": FloatDistribution(0, 1), "seed": IntDistribution(0, 10**6)},
        {"learning_rate": IntDistribution(1, 100, log=True), "seed": CategoricalDistribution(["a", "b"])},
    ]
    for space in spaces:
        drawn = []
        for sampler in (EdgeSampler(epochs=4, independent_sampler=RandomSampler(seed=1)), RandomSampler(seed=1)):
            study = optuna.create_study(sampler=sampler)
            study.tell(study.ask({"momentum": FloatDistribution(0, 1)}), 1.0)
            drawn.append([study.ask(space).params for _ in range(3)])
        assert drawn[0] == drawn[1]


def test_several_objectives_are_left_to_the_independent_sampler() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=EdgeSampler(epochs=4))
    trial = study.ask({"learning_rate": RATE, "seed": SEED})
    assert asked_of(study, trial) is None
    study.tell(trial, [1.0, 2.0])
    assert not study.sampler.is_over(study)


def test_sampler_and_pruner_can_be_sent_to_another_process(searched: optuna.Study) -> None:
    study, sampler = new_study()
    study.add_trials(searched.trials)
    assert sampler.is_over(study)
    sent: tuple[EdgeSampler, EdgePruner] = pickle.loads(pickle.dumps((sampler, study.pruner)))
    assert sent[0].is_over(study)
    assert sent[1].prune(study, run(0.01, heights(0.01, 1.0)[:4], state=TrialState.RUNNING))


def test_reseeding_reaches_the_independent_sampler_and_nothing_else() -> None:
    drawn = []
    for reseed in (False, True):
        study, sampler = new_study(independent_sampler=RandomSampler(seed=1))
        if reseed:
            sampler.reseed_rng()
        drawn.append(study.ask({"learning_rate": RATE, "other": FloatDistribution(0, 1)}).params)
    assert drawn[0]["other"] != drawn[1]["other"]
    assert drawn[0]["learning_rate"] == drawn[1]["learning_rate"] == RANGE[0]


@pytest.fixture(scope="module")
def known() -> optuna.Study:
    """A study whose floor is 0 and whose fastest is 1, at the bottom after 0.9 epochs; a full run is 32."""
    study = optuna.create_study(pruner=EdgePruner(epochs=EPOCHS))
    for rate in (0.1, 1.0):
        study.add_trial(run(rate, heights(rate, 1.0)))
    return study


@pytest.mark.parametrize(
    ("rate", "values", "asked", "wanted"),
    [
        (0.01, 2, None, False),
        (0.01, 3, None, True),  # not at the bottom after 3 x 0.9 epochs: too low
        (0.5, 1, None, False),
        (0.5, 2, None, True),  # at the bottom: good
        (3.0, 4, None, False),
        (3.0, 5, None, True),  # after 4.5 x 0.9 epochs
        (1.0, 31, None, False),  # the fastest must show that it stays
        (3.0, 0, None, False),
        (3.0, 32, None, False),
        (3.0, 31, None, True),
        (0.01, 3, [0.01, 0, None, True], True),
        (3.0, 31, [3.0, 0, None, False], False),  # to the end
        (0.01, 7, [0.01, 0, 8.0, False], False),
        (0.01, 8, [0.01, 0, 8.0, False], True),
        (0.01, 3, [0.02, 0, None, False], True),  # chosen by somebody else after all
        (3.0, [1.0, math.nan], [3.0, 0, None, False], True),
        (3.0, [1.0, math.inf], None, True),
        (3.0, [math.nan], None, False),
        (3.0, [], None, False),
    ],
    ids=str,
)
def test_a_run_is_pruned_when_its_verdict_is_known_or_it_is_as_long_as_asked(
    known: optuna.Study, rate: float, values: int | list[float], asked: list[Any] | None, wanted: bool
) -> None:
    found = values if isinstance(values, list) else heights(rate, 1.0)[: values + 1]
    attributes = {} if asked is None else {ASKED: asked}
    trial = run(rate, found, state=TrialState.RUNNING, system_attrs=attributes)
    assert known.pruner.prune(known, trial) is wanted


def test_nothing_is_pruned_that_has_no_learning_rate_or_no_first_height(known: optuna.Study) -> None:
    other = create_trial(state=TrialState.RUNNING, intermediate_values={0: 1.0, 1: 2.0})
    linear = {"params": {"learning_rate": 0.01}, "distributions": {"learning_rate": FloatDistribution(0, 1)}}
    late = {"intermediate_values": dict.fromkeys(range(1, 9), 1.0)}
    assert not known.pruner.prune(known, other)
    assert not known.pruner.prune(known, run(0.01, [1.0] * 9, state=TrialState.RUNNING, **linear))
    assert not known.pruner.prune(known, run(0.01, [], state=TrialState.RUNNING, **late))


def test_nothing_is_pruned_before_anything_is_known() -> None:
    study = optuna.create_study(pruner=EdgePruner(epochs=EPOCHS))
    assert not study.pruner.prune(study, run(0.01, [1.0] * 31, state=TrialState.RUNNING))


def test_the_yardstick_moves_with_what_has_finished() -> None:
    study = optuna.create_study(pruner=EdgePruner(epochs=EPOCHS))
    study.add_trial(run(0.1, heights(0.1, 1.0)))
    trial = run(0.01, heights(0.01, 1.0)[:5], state=TrialState.RUNNING)
    assert not study.pruner.prune(study, trial)
    study.add_trial(run(1.0, heights(1.0, 1.0)))
    assert study.pruner.prune(study, trial)


def test_tables_are_those_of_a_study_of_ours() -> None:
    study = optuna.create_study()
    study.add_trials(
        [
            run(0.1, [4.0, 3.0, 2.0, 1.0]),
            run(0.2, [4.0, 1.0], state=TrialState.PRUNED),
            run(0.3, [4.0, 5.0, math.nan, 3.0], state=TrialState.PRUNED),
            run(0.4, [4.0, 5.0, 6.0], value=math.inf),
            run(0.5, [4.0, 2.0, 1.5]),
            run(0.6, [4.0, 3.0], state=TrialState.FAIL),
            run(0.7, [4.0, math.nan], state=TrialState.FAIL),
            run(0.2, [4.0, 1.0, 0.5], state=TrialState.PRUNED),
            run(0.1, [4.0, 3.0], state=TrialState.PRUNED),
            run(0.8, [4.0]),
            create_trial(value=1.0, intermediate_values={0: 1.0, 1: 1.0}),
        ]
    )
    runs, curves = tables_of_reports(study, batch_size=8)
    wanted = pd.DataFrame(
        [
            (0, 0.1, "COMPLETE", 3.0, None, 2.0, None),
            (2, 0.3, "PRUNED", 3.0, 2, math.inf, None),
            (3, 0.4, "COMPLETE", 3.0, 3, math.inf, None),
            (4, 0.5, "COMPLETE", 2.0, None, 2.0, "the objective"),
            (6, 0.7, "COMPLETE", 1.0, 1, math.inf, None),
            (7, 0.2, "PRUNED", 2.0, None, 1.0, "the search"),
        ],
        columns=["trial", "learning_rate", "state", "epochs", "nonfinite_at", "final_height", "ended_early"],
    ).astype({"nonfinite_at": "Int64", "ended_early": object})
    pd.testing.assert_frame_equal(runs[list(wanted)], wanted)
    assert set(runs["batch_size"]) == {8} and set(runs["first_height"]) == {4.0} and set(runs["seed"]) == {0}
    assert list(curves) == ["trial", "step", "epoch", "metric", "value"]
    assert curves.loc[curves["trial"] == 2, "value"].tolist() == [4.0, 5.0, math.inf, math.inf]
    assert curves.loc[curves["trial"] == 3, "value"].tolist() == [4.0, 5.0, 6.0, math.inf]
    assert curves.loc[curves["trial"] == 7, "epoch"].tolist() == [0.0, 1.0, 2.0]


def test_tables_of_nothing_are_empty_and_can_be_judged() -> None:
    runs, curves = tables_of_reports(optuna.create_study())
    assert runs.empty and curves.empty
    assert classify(runs, curves).empty


def test_parameters_may_have_other_names() -> None:
    study = optuna.create_study(sampler=EdgeSampler(epochs=4, learning_rate="lr", seed="fold"))
    trial = study.ask({"lr": RATE, "fold": IntDistribution(1, 3)})
    finish(study, trial, heights(1.0, 1.0, 4))
    runs, _ = tables_of_reports(study, learning_rate="lr", seed="fold")
    assert runs[["learning_rate", "seed"]].to_dict("records") == [{"learning_rate": 1e-05, "seed": 1}]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"epochs": 2.5}, "epochs must be a whole number of at least 1, got 2.5"),
        ({"epochs": 4, "per_decade": 0}, "per_decade must be a whole number of at least 1, got 0"),
        ({"epochs": 4, "seeds": ()}, r"seeds must be different whole numbers, at least one, got \[\]"),
        ({"epochs": 4, "seeds": (1, 1)}, r"seeds must be different whole numbers, at least one, got \[1, 1\]"),
        ({"epochs": 4, "seeds": ("a",)}, r"seeds must be different whole numbers, at least one, got \['a'\]"),
        ({"epochs": 4, "seed": "learning_rate"}, "must be the names of two parameters, got 'learning_rate' for both"),
    ],
    ids=str,
)
def test_a_sampler_of_something_else_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        EdgeSampler(**options)


def test_a_pruner_of_something_else_is_refused() -> None:
    with pytest.raises(BadInput, match="epochs must be a whole number of at least 1, got True"):
        EdgePruner(epochs=True)


def test_a_study_that_maximizes_is_refused() -> None:
    study = optuna.create_study(direction="maximize", sampler=EdgeSampler(epochs=4))
    with pytest.raises(BadInput, match="the study must minimize, as its objective returns a height, got one that maximizes"):
        study.ask({"learning_rate": RATE})


@pytest.mark.parametrize("distribution", [SEED, CategoricalDistribution([0, 1, 2])], ids=str)
def test_a_seed_that_its_parameter_cannot_take_is_refused(distribution: IntDistribution) -> None:
    study, _ = new_study(seeds=(0, 5))
    with pytest.raises(BadInput, match=r"seeds must be values of the parameter 'seed', .*Distribution\(.*\), got 5"):
        study.ask({"learning_rate": RATE, "seed": distribution})
