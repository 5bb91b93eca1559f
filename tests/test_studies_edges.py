"""A study that searches for the edges: trained, killed and gone on with, alone, fused and in workers, without a range."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from test_studies_search import module
from torch import Tensor

from lightning_modules import Parabola
from reports import Judged, Thresholds
from reports.judging.batch_law import Centre
from reports.judging.decided import BY_SEARCH
from reports.judging.edges import EDGES
from studies import BadInput, FailedAlike, StudyConfig, judge_study, load_study, run_study, runs_table, trials
from studies.commands import admin, launch
from studies.commands.command_line import run
from studies.samplers.edges import expected_edges
from studies.storage.stored import BRACKET, PARAMS, ROUND
from studies.training.bracket import find_bracket
from studies.training.workload import Workload

HILL = {"model": {"class_path": "Parabola", "init_args": {"eigenvalues": [1.0, 10.0]}}}
HILL["data"] = {"class_path": "ParabolaData", "init_args": {"n_examples": 32, "noise": 0.02}}


def config(folder: Path, **changes: Any) -> StudyConfig:
    """A hill that diverges above 0.2, searched for in a second or two."""
    values = {**HILL, "batch_size": 8, "epochs": 30, "seeds": 1, "fuse": "never", "workers": 1, "sampler": "edges"}
    values |= {"learning_rate": (0.001, 10.0), "storage": str(folder / "studies.db"), "name": "hill"}
    return StudyConfig(**values | changes)


def asked(study: optuna.Study) -> list[tuple[Any, ...]]:
    """What was trained, in order, without what was interrupted."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [tuple(trial.params[name] for name in PARAMS) for trial in done]


def edges(judged: Judged) -> list[float]:
    return [math.log10(edge) for edge in judged.edges["learning_rate"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("searched")


@pytest.fixture(scope="module")
def searched(folder: Path) -> optuna.Study:
    return run_study(config(folder))


def test_the_edge_of_divergence_is_that_of_the_formula(searched: optuna.Study) -> None:
    judged = judge_study(searched)
    low, _, divergent = judged.edges.to_dict("records")
    assert abs(math.log10(divergent["learning_rate"] / 0.2)) < 0.1
    assert low["learning_rate"] < judged.answers[0].use < 0.2
    assert set(judged.runs["verdict"].dropna()) == {"too low", "good", "too high", "divergent"}


def test_most_runs_end_when_their_verdict_is_known_and_say_so(searched: optuna.Study) -> None:
    runs = judge_study(searched).runs
    cut = runs[runs["state"] == "PRUNED"]
    assert len(cut) > len(runs) / 2 and (cut["epochs"] < 30).all() and set(cut["ended_early"]) == {"the search"}
    assert cut.dropna(subset="verdict")["reason"].str.contains(r"; decided after [0-9.]+ of 30 epochs$").all()
    assert runs.loc[runs["verdict"].isna(), "reason"].str.startswith("not known: the search ended it after").all()
    assert runs["epochs"].sum() < 0.25 * 30 * 41  # of the grid of a tenth of a decade


def test_what_was_cut_has_no_value_and_is_no_best_trial(searched: optuna.Study) -> None:
    values = {trial.state.name: trial.value for trial in searched.trials}
    assert values["PRUNED"] is None
    assert searched.best_trial.state is TrialState.COMPLETE


def test_a_run_that_was_trained_further_stands_once_in_the_tables(searched: optuna.Study) -> None:
    assert len(set(asked(searched))) < len(asked(searched)), "the race trains its leaders again"
    assert not runs_table(searched).duplicated(list(PARAMS)).any()


def test_a_second_launch_trains_nothing(searched: optuna.Study, folder: Path) -> None:
    before = asked(searched)
    assert asked(run_study(config(folder))) == before


@pytest.mark.parametrize("after", [3, 9, 14])
def test_a_search_that_was_killed_asks_for_the_same_runs(searched: optuna.Study, tmp_path: Path, after: int) -> None:
    def end(study: optuna.Study, finished: int, planned: int) -> None:
        if finished == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(config(tmp_path), on_run=end)
    study = run_study(config(tmp_path))
    assert sorted(asked(study)) == sorted(asked(searched))
    assert edges(judge_study(study)) == edges(judge_study(searched))


def test_two_workers_ask_for_the_same_runs(searched: optuna.Study, tmp_path: Path) -> None:
    study = run_study(config(tmp_path, workers=2))
    assert sorted(asked(study)) == sorted(asked(searched))


def test_fused_a_search_finds_the_same_edges_and_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.training.fusing.Fusing._choose", lambda *_: (12, "12 fused"))  # whatever measuring would say
    study = run_study(config(tmp_path, fuse="auto", data={**HILL["data"], "init_args": {"n_examples": 128, "noise": 0.02}}))
    alone = run_study(config(tmp_path, data={**HILL["data"], "init_args": {"n_examples": 128, "noise": 0.02}}, name="alone"))
    runs = runs_table(study)
    assert set(runs["member_of"]) <= set(runs["trial"]) and len(study.trials) > len(runs)
    assert any(len(group) > 1 for _, group in runs.groupby("member_of"))
    fused, single = judge_study(study), judge_study(alone)
    both = fused.runs.merge(single.runs, on=list(PARAMS)).dropna(subset=["verdict_x", "verdict_y"])
    assert len(both) > 10 and (both["verdict_x"] == both["verdict_y"]).all()
    assert edges(fused) == pytest.approx(edges(single), abs=0.1)


def test_more_seeds_and_finer_steps_go_on_under_the_same_name(tmp_path: Path) -> None:
    first = asked(run_study(config(tmp_path, per_decade=5)))
    finer = asked(run_study(config(tmp_path, per_decade=10)))
    more = asked(run_study(config(tmp_path, per_decade=10, seeds=2)))
    assert finer[: len(first)] == first and more[: len(finer)] == finer
    assert len(first) < len(finer) < len(more) and {seed for *_, seed in more[len(finer) :]} >= {1}


def test_more_epochs_go_on_under_the_same_name_and_what_was_trained_counts(tmp_path: Path) -> None:
    first = runs_table(run_study(config(tmp_path, epochs=20)))
    before = runs_table(run_study(config(tmp_path, epochs=30, max_epochs_in_all=1)))
    full = first["state"] == "COMPLETE"
    assert full.any() and set(before.loc[full, "state"]) == {"PRUNED"} and set(before.loc[full, "ended_early"]) == {BY_SEARCH}
    same = run_study(config(tmp_path, epochs=20, name="other"))
    trials.give_longer_runs(same, 20)  # and killed before the longer runs were asked for
    assert set(runs_table(same)["state"]) == set(first["state"])
    study = run_study(config(tmp_path, epochs=30))
    judged, alone = judge_study(study), judge_study(run_study(config(tmp_path, name="alone")))
    assert edges(judged) == pytest.approx(edges(alone), abs=0.11)
    assert judged.runs.loc[judged.runs["state"] == "COMPLETE", "epochs"].max() == 30
    assert len(set(first["trial"]) & set(judged.runs["trial"])) > len(first) / 3
    assert judged.answers[0].use in set(judged.runs.loc[judged.runs["epochs"] == 30, "learning_rate"])
    again = run_study(config(tmp_path, epochs=30))
    assert len(asked(again)) == len(asked(study)) > len(first)
    with pytest.raises(BadInput, match="study 'hill' exists with other settings .epochs was 30, now 20.: give another name"):
        run_study(config(tmp_path, epochs=20))


class Annealed(Parabola):
    """Its weight decay is switched on along the run."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        along = self.current_epoch / (self.trainer.max_epochs or 1)
        return super().training_step(batch, batch_idx) + along * self.theta.square().sum()


SCHEDULE = {"optimizer": "SGD", "lr_scheduler": {"class_path": "CosineAnnealingLR", "init_args": {"T_max": 20}}}


@pytest.mark.parametrize("options, what", [(SCHEDULE, ".*CosineAnnealingLR.*"), ({"model": Annealed}, "its loss")])
def test_epochs_of_a_study_that_follows_its_length_must_stay(tmp_path: Path, options: dict[str, Any], what: str) -> None:
    study = run_study(config(tmp_path, epochs=10, **options))
    with pytest.raises(
        BadInput, match=f"epochs of study 'hill' must stay 10, as {what} may follow the length of a run, got 12"
    ):
        run_study(config(tmp_path, epochs=12, **options))
    assert judge_study(study).runs["epochs"].max() == 10


def test_a_search_looks_for_the_edges_of_the_thresholds_it_is_given(tmp_path: Path) -> None:
    strict = Thresholds(rho=1.2)
    study = run_study(config(tmp_path), thresholds=strict)
    judged = judge_study(study, strict)
    low = judged.edges.set_index("edge").loc["too low to good", "learning_rate"]
    tried = judged.runs.loc[judged.runs["verdict"].notna(), "learning_rate"]
    assert (tried / low).map(math.log10).abs().min() <= 0.11
    lax = judge_study(study).edges.set_index("edge").loc["too low to good", "learning_rate"]
    assert lax < 0.8 * low


def test_continue_goes_on_as_the_report_says_and_with_what_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = "--model Parabola --data ParabolaData --data.noise 0.02 --learning-rate 0.001 9 --per-decade 4 --batch-size 8"
    flags += " --epochs 20 --fuse never --workers 1"
    assert launch.main([*flags.split(), "--seeds", "1", "--name", "mine", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert any("1 seed at every edge" in check["sentence"] for check in told["checks"])
    assert "--seeds 3" in told["next"] and Path(told["report"]).is_file()
    assert launch.main(["--continue", "--name=mine", "--epochs", "22"]) == 0
    out, err = capsys.readouterr()
    assert "going on: " in err and "--seeds 3" in err and "seeds:" not in out
    runs = runs_table(load_study(f"{tmp_path}/outputs/studies.db", "mine"))
    assert sorted(runs["seed"].unique()) == [0, 1, 2] and runs["epochs"].max() == 22
    with pytest.raises(BadInput, match="name must be a study in 'outputs/studies.db': mine; got 'other'"):
        launch.main(["--continue", "--name", "other"])


def test_continue_of_a_study_that_nobody_launched_is_refused(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/other.db"
    optuna.create_study(study_name="theirs", storage=storage)
    with pytest.raises(BadInput, match="continue must name a study that was launched, got 'theirs', which does not say how"):
        launch.main(["--continue", "--name", "theirs", "--storage", str(tmp_path / "other.db")])


def test_an_exact_search_ends_no_run_early(tmp_path: Path) -> None:
    runs = runs_table(run_study(config(tmp_path, exact=True, epochs=10)))
    assert set(runs["state"]) == {"COMPLETE"} and (runs.loc[runs["nonfinite_at"].isna(), "epochs"] == 10).all()


def test_the_next_batch_size_begins_around_the_edges_of_the_last(tmp_path: Path) -> None:
    study = run_study(config(tmp_path, batch_size=(8, 16), learning_rate=None))
    runs = judge_study(study).runs
    first, second = (runs[runs["batch_size"] == size]["learning_rate"] for size in (16, 8))  # the largest first
    assert second.min() >= 0.001 and first.max() / first.min() > second.max() / second.min()
    assert set(judge_study(study).edges["batch_size"]) == {8, 16}


def test_edges_of_a_batch_size_are_expected_by_the_law_of_three_others_and_of_no_fewer() -> None:
    done = [{name: [Centre(size, place, 0.05)] for place, name in enumerate(EDGES)} for size in (256, 64, 16)]
    assert expected_edges(done[:2], 8) == ()
    found = expected_edges(done, 8)
    assert [(name, round(mean)) for name, mean, _ in found] == [(name, place) for place, name in enumerate(EDGES)]
    assert all(sd > 0.12 for *_, sd in found)  # no surer than a seed of the same size


@pytest.mark.parametrize("scale", [1e4, 1.0, 1e-3])
def test_without_a_range_the_edges_are_found_at_any_scale(tmp_path: Path, scale: float) -> None:
    hill = {"class_path": "Parabola", "init_args": {"eigenvalues": [scale, 10 * scale], "learning_rate": 0.02}}
    study = run_study(config(tmp_path, model=hill, learning_rate=None))
    low, high, _ = study.user_attrs[BRACKET]
    assert low < 0.1 / scale < high
    divergent = judge_study(study).edges["learning_rate"].iloc[2]
    assert abs(math.log10(divergent * scale / 0.2)) < 0.15


def test_the_bracket_holds_what_the_module_has_today_unless_it_is_far_away() -> None:
    for own, inside in ((0.0005, True), (1e-7, False)):
        model = {"class_path": "Parabola", "init_args": {"eigenvalues": [1.0, 10.0], "learning_rate": own}}
        low, _, why = find_bracket(Workload.of(model, HILL["data"]), 8, 0)
        assert (low <= own) is inside
        assert ("; the module has" in why) is inside


def test_a_search_that_a_limit_ended_says_so_and_goes_on_without_it(searched: optuna.Study, tmp_path: Path) -> None:
    limited = run_study(config(tmp_path, max_epochs_in_all=30))
    checks = {check.name: check for check in judge_study(limited).trust}
    assert not checks["search"].passed
    assert checks["search"].sentence == (
        "max_epochs_in_all, 30, ended the search at batch size 8 before it was done: without that limit it goes on from there"
    )
    whole = run_study(config(tmp_path))
    assert sorted(asked(whole)) == sorted(asked(searched))
    assert "search" not in {check.name for check in judge_study(whole).trust}


def test_a_search_whose_time_is_up_asks_for_nothing_more(tmp_path: Path) -> None:
    study = run_study(config(tmp_path, max_time=1e-9))
    assert asked(study) == [] and ROUND not in study.user_attrs
    assert study.user_attrs["unfinished"] == "max_time, 1e-6 ms, ended the search at batch size 8"


def test_runs_that_fail_are_not_asked_for_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = module(
        tmp_path,
        monkeypatch,
        "fails_at_times",
        "if counts['steps'] % 41 == 40 and counts['steps'] > 0: raise RuntimeError(f'no {counts}')",
    )
    few = {"data": "Digits", "model": broken, "batch_size": 256, "epochs": 8, "seeds": 1, "learning_rate": (0.01, 10.0)}
    study = run_study(config(tmp_path, **few))
    failed = [trial for trial in study.trials if trial.state is TrialState.FAIL]
    assert failed and len({tuple(trial.params.items()) for trial in failed}) == len(failed)
    always = module(tmp_path, monkeypatch, "fails_always", "if counts['steps'] > 0: raise RuntimeError('no')")
    with pytest.raises(FailedAlike, match="3 runs in a row failed alike"):
        run_study(config(tmp_path, **few | {"model": always}, name="always"))


def test_a_batch_size_without_memory_is_left_out_and_the_others_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = module(tmp_path, monkeypatch, "full", "if counts['steps'] > 0 and len(batch[0]) > 256: raise MemoryError('full')")
    few = {"data": "Digits", "model": full, "batch_size": (256, 512), "epochs": 8, "learning_rate": (0.03, 10.0)}
    study = run_study(config(tmp_path, **few))
    failed = [trial.params["batch_size"] for trial in study.trials if trial.state is TrialState.FAIL]
    assert failed == [512] and {size for _, size, _ in asked(study)} == {256}
    assert judge_study(study).answers[0].is_good


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"points": 5}, r"points belongs to the grid: edges takes per_decade, how fine it may look, got 5"),
        ({"per_decade": 1}, r"per_decade must be from 2 to 100 for the sampler edges, got 1"),
        ({"per_decade": 2.5}, r"per_decade must be a whole number of at least 1, got 2.5"),
        ({"trials": 5}, r"trials belongs to the samplers tpe, random and qmc; edges trains as many as it takes, got 5"),
        ({"exact": 1}, r"exact must be true or false, got 1"),
        ({"max_time": "soon"}, r"max_time must be a time above 0, such as 20min, 1.5h or seconds, got 'soon'"),
        ({"max_time": 0}, r"max_time must be a time above 0, such as 20min, 1.5h or seconds, got 0"),
        ({"max_epochs_in_all": -1}, r"max_epochs_in_all must be above 0, got -1"),
        ({"max_time": "1h", "sampler": "grid"}, r"max_time belongs to the sampler edges, got '1h' with sampler grid"),
        ({"exact": True, "sampler": "tpe"}, r"exact belongs to the sampler edges, got True with sampler tpe"),
    ],
)
def test_bad_options_of_a_search_are_refused(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        config(tmp_path, **options)


@pytest.mark.parametrize(
    ("given", "seconds"), [("20min", 1200), ("1.5h", 5400), ("90s", 90), ("1d", 86400), (30, 30), ("30", 30)]
)
def test_times_are_read_with_their_units(tmp_path: Path, given: Any, seconds: float) -> None:
    assert config(tmp_path, max_time=given).max_time == seconds


def test_an_archive_brings_a_search_back_and_it_goes_on_from_there(
    searched: optuna.Study, folder: Path, tmp_path: Path
) -> None:
    storage, copy, archive = str(folder / "studies.db"), str(tmp_path / "studies.db"), str(tmp_path / "hill.zip")
    assert run(lambda: admin.main(["export", "hill", "--storage", storage, "--out", archive]), "lr-study") == 0
    assert run(lambda: admin.main(["import", archive, "--storage", copy]), "lr-study") == 0
    pd.testing.assert_frame_equal(runs_table(load_study(copy, "hill")), runs_table(searched))
    assert asked(run_study(config(tmp_path))) == asked(searched)
