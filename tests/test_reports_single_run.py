"""One run on its own: findings on curves a person can judge by eye, on every reference run, and on every kind of file."""

from __future__ import annotations

import gzip
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import explain_run, read_curve
from reports.judging.single_run import (
    ADVICE,
    BAD_BATCH,
    DEAD,
    DIED,
    DIVERGENT,
    FASTER,
    FEW,
    FLAT,
    FLOOR,
    HIDDEN,
    NOISE,
    OSCILLATING,
    OVERFITTING,
    RECOVERS,
    SEED,
    START,
    STILL_FALLING,
    Explanation,
)

T = np.linspace(0, 1, 400)


def noise(scale: float, n: int = 400, seed: int = 0) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(size=n)


def explained(losses: object, *, first_step: int = 0) -> Explanation:
    values = np.asarray(losses, dtype=float)
    return explain_run(pd.DataFrame({"step": np.arange(len(values)) + first_step, "loss": values}))


SETTLED = 2 * np.exp(-20 * T) + 0.3
FALLING = 2.3 - T
CURVES: dict[str, tuple[np.ndarray, str]] = {
    "settled": (SETTLED, FLAT),
    "settled, noisy": (SETTLED + noise(0.1), FLAT),
    "settled, very noisy": (SETTLED + noise(0.4), FLAT),
    "falling": (FALLING, STILL_FALLING),
    "falling, noisy": (FALLING + noise(0.2), STILL_FALLING),
    "slow as an exponential": (2 * np.exp(-T), STILL_FALLING),
    "never moved": (2.3 + noise(0.05), FLAT),
    "constant": (np.full(400, 2.3), FLAT),
    "constant zero": (np.zeros(400), FLAT),
    "starts at zero and falls": (np.exp(-20 * T) - 1, FLAT),
    "negative and falling": (-5 - T, STILL_FALLING),
    "rising": (2.3 + T, DIVERGENT),
    "rising, noisy": (2.3 + T + noise(0.2), DIVERGENT),
    "exponential growth": (np.exp(50 * T), DIVERGENT),
    "swinging slowly": (0.5 * np.sin(60 * T) + 1 + np.exp(-50 * T), OSCILLATING),
    "swinging slowly, noisy": (0.5 * np.sin(60 * T) + 1 + np.exp(-50 * T) + noise(0.1), OSCILLATING),
    "falls and comes back up to its start": (2.3 - np.minimum(1, 10 * T) + np.clip(10 * T - 7, 0, 1), DIVERGENT),
    "dead at chance level after a spike": (2.3 + np.where(T < 0.02, 40, 0) * (T > 0) + noise(0.02), DIVERGENT),
    "catapult": (SETTLED + 50 * np.exp(-(((T - 0.02) / 0.01) ** 2)), FLAT),
    "huge": (1e308 * (1 - 2 * T), STILL_FALLING),
    "tiny": (5e-320 * (400 - np.arange(400)) // 1e-323 * 5e-324, STILL_FALLING),
    "one": (np.array([2.3]), FLAT),
    "two, falling": (np.array([2.3, 1.0]), STILL_FALLING),
    "two, rising": (np.array([1.0, 2.3]), DIVERGENT),
    "five epochs": (np.array([2.0, 1.5, 1.1, 0.8, 0.6]), STILL_FALLING),
    "five settled": (np.array([2.0, 0.3, 0.2, 0.21, 0.2]), FLAT),
    "a few heights that hover": (np.array([2.0, 1.0, 1.2, 0.9, 1.1, 1.0]), OSCILLATING),
}


@pytest.mark.parametrize("name", CURVES)
def test_finding_is_what_a_person_sees(name: str) -> None:
    curve, finding = CURVES[name]
    assert explained(curve).finding == finding, str(explained(curve))


@settings(deadline=None, max_examples=200)
@given(
    losses=st.lists(st.integers(-1000, 1000), min_size=1, max_size=60),
    shift=st.integers(-10_000, 10_000),
    scale=st.sampled_from([2.0**k for k in (-30, -3, 1, 5, 40)]),
)
def test_shifting_and_scaling_the_loss_changes_no_finding(losses: list[int], shift: int, scale: float) -> None:
    """Powers of two and whole numbers, so that the arithmetic is exact and no tie is broken by rounding."""
    assert explained((np.array(losses) + shift) * scale).finding == explained(losses).finding


@pytest.mark.parametrize("name", [name for name in CURVES if name not in ("huge", "tiny")])
@pytest.mark.parametrize(("shift", "scale"), [(1000.0, 0.37), (-3.3, 123.4)])
def test_shifting_and_scaling_a_clear_curve_changes_no_finding(name: str, shift: float, scale: float) -> None:
    curve, finding = CURVES[name]
    assert explained(curve * scale + shift).finding == finding


@settings(deadline=None, max_examples=200)
@given(losses=st.lists(st.floats(), min_size=1, max_size=50), steps=st.data())
def test_any_curve_is_explained(losses: list[float], steps: st.DataObject) -> None:
    """NaN, inf, huge, tiny, repeated and unsorted steps: no error, no warning, always a sentence and something unknown."""
    order = steps.draw(st.lists(st.integers(0, 100), min_size=len(losses), max_size=len(losses)))
    found = explain_run(pd.DataFrame({"step": order, "loss": losses}))
    assert found.finding in (DIVERGENT, OSCILLATING, STILL_FALLING, FLAT)
    assert (found.finding == DIVERGENT) or np.isfinite(losses).all()
    assert found.sentence.endswith(".") and SEED in found.cannot_know


def test_order_of_rows_does_not_matter_and_the_median_of_a_repeated_step_counts() -> None:
    curve = pd.DataFrame({"step": np.arange(400), "loss": SETTLED + noise(0.1)})
    before = curve.copy(deep=True)
    assert explain_run(curve.sample(frac=1, random_state=0)) == explain_run(curve)
    thrice = pd.concat([curve, curve.assign(loss=curve["loss"] + 9), curve.assign(loss=curve["loss"] - 9)])
    assert explain_run(thrice).sentence == explain_run(curve).sentence
    pd.testing.assert_frame_equal(curve, before)


def test_non_finite_loss_is_divergent_and_says_the_step() -> None:
    found = explained([2.0, 3.0, math.inf], first_step=7)
    assert (found.finding, found.sentence) == (DIVERGENT, "the loss was inf at step 9, 2 at the start.")
    assert (found.first_loss, found.final_loss, found.lowest_loss) == (2.0, math.inf, 2.0)
    assert BAD_BATCH not in found.cannot_know


def test_one_nan_that_the_run_got_over_is_said_to_be_one() -> None:
    found = explained([2.0, math.nan, 1.0, 0.5])
    assert found.sentence == "the loss was nan at step 1, 2 at the start; of the 2 losses after it 2 are finite."
    assert BAD_BATCH in found.cannot_know
    assert explained([math.nan]).sentence == "the loss was nan at step 0."


def test_spike_that_comes_back_is_mentioned_and_is_no_divergence() -> None:
    found = explained(np.where(np.arange(400) == 9, 50.0, SETTLED))
    assert found.finding == FLAT and found.sentence.endswith("; it rose to 50 at step 9 and came back.")
    assert DIED in found.cannot_know
    late = explained(np.where(np.arange(400) == 398, 50.0, SETTLED))
    assert late.sentence.endswith("; it rose to 50 at step 398, too near the end to tell whether it comes back.")


def test_explosion_in_the_first_steps_is_no_start_to_fall_from() -> None:
    """The median of the first five losses would be 9, and the run would have fallen from there."""
    dead = 2.35 + noise(0.05)
    dead[:6] = [2.3, 12.0, 31.0, 9.0, 6.0, 3.0]
    found = explained(dead)
    assert (found.finding, found.first_loss) == (DIVERGENT, 2.3)


def test_end_below_the_start_is_called_no_better_only_within_its_noise() -> None:
    dead = 2.3 + noise(0.05)
    dead[0], dead[9], dead[360:] = 2.3, 40.0, dead[360:] - 0.005
    sentence = explained(dead).sentence
    assert sentence.startswith("it ended no better than it started, within its noise: 2.3")
    assert "; single losses scatter by 0.05" in sentence
    assert "within its noise" not in explained(2.3 + T).sentence


def test_settled_and_never_moved_are_told_apart() -> None:
    settled, still = explained(SETTLED), explained(2.3 + noise(0.05))
    assert settled.finding == still.finding == FLAT
    assert settled.sentence == "it settled after falling 2: 2.3 at the start, 0.3 at the end."
    assert still.sentence.startswith("it never moved beyond its noise: 2.3")
    assert FLOOR in settled.cannot_know and DEAD not in settled.cannot_know
    assert DEAD in still.cannot_know and FLOOR not in still.cannot_know
    assert explained([2.3] * 9).sentence == "it never moved: 2.3 at the start, 2.3 at the end."


def test_run_that_left_the_bottom_did_not_settle() -> None:
    found = explained(np.where(T < 0.5, SETTLED, 1.5))
    assert found.sentence == "it came down to 0.3001 but did not stay: 2.3 at the start, 1.5 at the end."


def test_pace_is_the_fall_in_a_tenth_of_the_run() -> None:
    found = explained(FALLING)
    assert found.gain_per_tenth == pytest.approx(0.1)
    assert "it falls another 0.1 (10.5 % of its fall so far) each tenth of the run" in found.sentence


def test_pace_hidden_by_noise_is_said_to_be_hidden() -> None:
    found = explained(2 - 0.8 * T[::25] + noise(0.15, 16, seed=1))
    assert found.finding == FLAT and "and noise hides whether it still does" in found.sentence
    assert HIDDEN in found.cannot_know


def test_minibatch_noise_is_not_passed_off_as_oscillation() -> None:
    """A long curve is told from its noise; a short one cannot be, and the sentence says so."""
    assert NOISE in explained(SETTLED + noise(0.4)).cannot_know
    short = explained(SETTLED[::4] + noise(0.4, 100))
    assert short.finding == OSCILLATING and short.sentence.startswith("it, or its minibatch noise, swings over ")
    assert short.cannot_know[0] == NOISE


def test_only_what_applies_is_listed() -> None:
    assert START not in explained(SETTLED).cannot_know
    late = explained(SETTLED, first_step=49)
    assert START in late.cannot_know and "2.3 at the first value (step 49)" in late.sentence
    assert OVERFITTING in late.cannot_know and FASTER in late.cannot_know
    rising = explained(2.3 + T)
    assert not {OVERFITTING, FASTER, START, RECOVERS} & set(rising.cannot_know)
    assert RECOVERS in explained(2.3 + np.where(T < 0.3, 10 * T, 3 - T)).cannot_know
    assert FEW in explained([2.0, 1.0]).cannot_know and FEW not in rising.cannot_know


def test_text_ends_with_what_to_do() -> None:
    text = str(explained(SETTLED))
    assert text.startswith("flat: it settled after falling 2: ")
    assert "\n\nOne curve cannot tell:\n  - Whether this is the bottom" in text
    assert text.endswith(ADVICE) and "scripts/launch_study.py --learning-rate LOW HIGH" in ADVICE
    assert max(map(len, text.splitlines())) < 130


@pytest.mark.parametrize("case", ["digits_mlp", "wine_b1", "diabetes_linear"])
def test_reference_runs_agree_with_what_they_did(case: str) -> None:
    """A run that turned non-finite or ended clearly above its start is divergent; one that is most of the way down is not."""
    grid = np.load(Path(__file__).parent / "reference" / f"{case}.npz")
    labels = dict(zip(zip(grid["cell_batch"], grid["cell_lr"], strict=True), grid["label"], strict=True))
    wrong = []
    for batch, rate, times, heights in zip(grid["batch"], grid["lr"], grid["t"], grid["heights"].astype(float), strict=True):
        found = explain_run(pd.DataFrame({"step": np.r_[0, times], "loss": heights})).finding
        end = float(np.median(heights[-6:]))
        if labels[batch, rate] == "divergent" and not end < heights[0] and found != DIVERGENT:
            wrong.append((batch, rate, found))
        if labels[batch, rate] in ("good", "too low") and end < heights[0] and found not in (FLAT, STILL_FALLING):
            wrong.append((batch, rate, found))
    assert wrong == []


@pytest.mark.parametrize(
    ("curve", "sentence"),
    [
        (pd.DataFrame({"epoch": [0], "loss": [1.0]}), "curve must have the columns step and loss, got epoch, loss"),
        (pd.DataFrame(), "curve must have the columns step and loss, got none"),
        (pd.DataFrame({"step": [], "loss": []}), "curve must have at least one row, got none"),
        (pd.DataFrame({"step": [0.0, math.nan], "loss": [1.0, 2.0]}), "step must be finite, got nan"),
    ],
    ids=["no step", "empty", "no rows", "step nan"],
)
def test_tables_that_are_no_curve_are_refused(curve: pd.DataFrame, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        explain_run(curve)


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("step,loss\n0,2\n5,1\n", None, [(0, 2), (5, 1)]),
        ("epoch,loss\n0.5,2\n1,1\n", None, [(0.5, 2), (1, 1)]),
        ("loss\n2\n1\n", None, [(0, 2), (1, 1)]),
        ("\ufeffstep,cost\r\n0,2\r\n1,1\r\n", None, [(0, 2), (1, 1)]),
        ("step,other,loss\n0,9,2\n", None, [(0, 2)]),
        ("step,other,loss\n0,9,2\n", "other", [(0, 9)]),
        ("epoch,step,train_loss_epoch,train_loss_step,val\n0,9,,2,\n0,19,,1,\n0,19,1.5,,\n0,19,,,3\n", None, [(9, 2), (19, 1)]),
        ("epoch,step,train_loss,val\n0,9,2,\n0,9,,5\n", None, [(9, 2)]),
        ("epoch,step,train_loss_epoch,val\n0,9,2,\n", None, [(9, 2)]),
        ("step,train_acc,lr-SGD,train_loss\n0,,0.1,\n9,0.5,,2\n", None, [(9, 2)]),
        ("loss\n2\n\n1\n", None, [(0, 2), (1, 1)]),
        ("a,loss\n,2\n,\n, 1 \n", None, [(0, 2), (2, 1)]),
        ("step,loss\n0,2\n1,inf\n2,-inf\n", None, [(0, 2), (1, math.inf), (2, -math.inf)]),
    ],
    ids=lambda value: re.sub(r"\s+", " ", value)[:30] if isinstance(value, str) else "",
)
def test_columns_are_found(tmp_path: Path, text: str, column: str | None, expected: list[tuple[float, float]]) -> None:
    (tmp_path / "run.csv").write_text(text)
    curve = read_curve(tmp_path / "run.csv", column)
    assert list(curve.itertuples(index=False, name=None)) == expected


def test_blank_is_not_logged_and_the_text_nan_is_not_finite(tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_text("step,loss,other\n0,2,1\n1,,1\n2,NaN,1\n")
    curve = read_curve(tmp_path / "run.csv")
    assert curve["step"].tolist() == [0, 2] and np.isnan(curve["loss"]).tolist() == [False, True]


@pytest.mark.parametrize(
    ("content", "column", "sentence"),
    [
        (b"", None, "run must be a CSV file with a line of column names, got .*: No columns to parse from file"),
        (b"\n\n", None, "run must be a CSV file with a line of column names"),
        (bytes(range(256)), None, "run must be a CSV file with a line of column names, got .*run.csv"),
        (b'loss\n"1\n2\n', None, "run must be a CSV file with a line of column names"),
        (b"step,loss\n0,1\n1,2,3\n", None, "run must be a CSV file with a line of column names"),
        (b"step,loss\n0,1,\n1,2,\n", None, "run must be a CSV file with a line of column names"),
        (b"0,2.3\n1,2.1\n", None, "run must start with a line of column names, got 0, 2.3"),
        (b"step,loss\n", None, "column 'loss' must hold at least one number, got none in 0 rows"),
        (b"step,loss\n0,\n1, \n", None, "column 'loss' must hold at least one number, got none in 2 rows"),
        (b"step,loss\n0,abc\n", None, "column 'loss' must hold numbers, got 'abc'"),
        (b"step,loss\n,2\n", None, "column 'step' must hold numbers, got ''"),
        (b"step,a,b\n0,1,2\n", None, "loss_column must be given: no column is called loss, the columns are a, b"),
        (b"step\n0\n", None, "loss_column must be given: no column is called loss, the columns are none"),
        (b"step,a,b\n0,1,2\n", "c", "loss_column must be one of a, b; got 'c'"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path: Path, content: bytes, column: str | None, sentence: str) -> None:
    (tmp_path / "run.csv").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_curve(tmp_path / "run.csv", column)


# Two losses, 2 and then 1, at steps that are no row numbers, as each tool writes them.
TOOLS: dict[str, tuple[str, list[float]]] = {
    "TensorBoard": ("Wall time,Step,Value\n1.7e9,49,2\n1.7e9,99,1\n", [49, 99]),
    "W&B, panel": ('"Step","owl - train/loss","owl - train/loss__MIN","owl - train/loss__MAX"\n5,2,0,9\n7,1,0,9\n', [5, 7]),
    "W&B, panel with _step": ('"Step","owl - _step","owl - _step__MIN","owl - loss"\n5,0,0,2\n7,1,1,1\n', [5, 7]),
    "W&B, a dash in the run's name": ("Step,a - b - loss,a - b - acc\n5,2,0.5\n7,1,0.6\n", [5, 7]),
    "W&B, history": ("_runtime,train/loss,_timestamp,val/loss,_step\n1,2,1.7e9,,5\n2,,1.7e9,3,6\n3,1,1.7e9,,7\n", [5, 7]),
    "W&B, history of Lightning": ("_step,trainer/global_step,epoch,train/loss\n0,49,0,2\n1,99,0,1\n", [49, 99]),
    "W&B, history of Hugging Face": (",_step,train/global_step,train/loss\n0,8,100,2\n1,9,,\n2,10,200,1\n", [100, 200]),
    "Keras": ("epoch,accuracy,loss,val_accuracy,val_loss\n3,0.5,2,0.5,7\n4,0.5,1,0.5,7\n", [3, 4]),
    "Keras, semicolons": ("epoch;accuracy;loss;val_accuracy;val_loss\n3;0.5;2;0.5;7\n4;0.5;1;0.5;7\n", [3, 4]),
    "Keras, stopped at NaN": ("epoch,accuracy,loss\n3,0.5,2\n4,0.5,1\n5,NA,NA \n", [3, 4]),
    "fastai": ("epoch,train_loss,valid_loss,accuracy,time\n3,2,7,0.5,00:12\n4,1,7,0.5,00:12\n", [3, 4]),
    "YOLO, one loss": ("     epoch,    time,  train/loss,  lr/pg0\n    10,  9.5,   2,   1\n    11,  19,   1,   1\n", [10, 11]),
    "Lightning": ("epoch,step,train_loss_epoch,train_loss_step,val\n0,9,,2,\n0,19,,1,\n0,19,1.5,,\n0,19,,,3\n", [9, 19]),
    "Lightning, names with /": ("epoch,step,train/loss_epoch,train/loss_step\n0,9,,2\n0,19,,1\n0,19,1.5,\n", [9, 19]),
    "Hugging Face": ("loss,lr,epoch,step,eval_loss,train_loss\n2,1e-5,0.5,500,,\n1,1e-5,1,1000,,\n,,1,1000,,7\n", [500, 1000]),
    "Hugging Face, notebook": ("Step\tTraining Loss\tValidation Loss\n5\tNo log\t7\n10\t2\t7\n15\t1\t7\n", [10, 15]),
    "Stable-Baselines3": ("time/fps,time/total_timesteps,train/loss,train/std\n9,2048,2,1\n9,4096,1,1\n", [2048, 4096]),
    "pandas, index": (",loss\n500,2\n510,1\n", [500, 510]),
    "numpy, #": ("# step,loss\n500,2\n510,1\n", [500, 510]),
    "spreadsheet, an empty column": ("step,cost,\n5,2,\n6,1,\n", [5, 6]),
    "by hand, times beside": ("Iteration;Time (s);Cost\n5;0,1;2\n6;0,2;1\n", [5, 6]),
}


def curve_of(folder: Path, content: str | bytes, column: str | None = None) -> list[tuple[float, float]]:
    """Step and loss of a file with this content."""
    (folder / "run.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_curve(folder / "run.csv", column).itertuples(index=False, name=None))


@pytest.mark.parametrize("tool", TOOLS)
def test_files_of_other_tools_are_read_without_options(tmp_path: Path, tool: str) -> None:
    text, steps = TOOLS[tool]
    assert curve_of(tmp_path, text) == [(steps[0], 2), (steps[1], 1)]


@pytest.mark.parametrize(
    "name",
    (
        "step STEP Steps _step global_step trainer/global_step train/step timesteps iteration Iterations iter batch batch_idx"
        " num_updates epoch EPOCHS train/epoch"
    ).split(),
)
def test_steps_are_found_under_the_names_that_tools_use(tmp_path: Path, name: str) -> None:
    assert curve_of(tmp_path, f"loss,{name}\n2,500\n1,510\n") == [(500, 2), (510, 1)]


STEPS_BY_RANK = ("global_step", "step", "_step", "iteration", "batch", "epoch", "")


@pytest.mark.parametrize(("better", "worse"), list(zip(STEPS_BY_RANK, STEPS_BY_RANK[1:], strict=False)))
def test_the_finer_count_of_the_whole_run_is_the_step(tmp_path: Path, better: str, worse: str) -> None:
    assert curve_of(tmp_path, f"{worse},{better},loss\n3,500,2\n4,510,1\n") == [(500, 2), (510, 1)]


@pytest.mark.parametrize("useless", [("", "9"), ("64", "64")], ids=["gap", "constant"])
def test_a_count_that_tells_less_gives_way(tmp_path: Path, useless: tuple[str, str]) -> None:
    assert curve_of(tmp_path, "batch,epoch,loss\n{},3,2\n{},4,1\n".format(*useless)) == [(3, 2), (4, 1)]


@pytest.mark.parametrize(
    "content",
    [
        "step;loss;x\n5;0,5;1\n6;1e-1;1\n".encode("utf-8-sig"),
        b"step\tloss\tx\n5\t0,5\t\n6\t0,1\t1\n",
        b'step;loss;"a,b,c,d"\n5;0.5;\n6;0.1;\n',
        b"sep=;\r\nstep;loss\r\n5;0,5\r\n6;0,1\r\n",
        "\ufeffsep=,\nstep,loss\n5,0.5\n6,0.1\n".encode(),
        "\ufeffloss,step\n0.5,5\n0.1,6\n".encode(),
        "step\tloss\r\n5\t0,5\r\n6\t0,1\r\n".encode("utf-16"),
        b' step , "loss" ,"a, b"\n 5 , "0.5" ,\n6, 0.1 ,2\n',
        b"step,loss\n5,0.5\n6,0.1\n7\n",
    ],
    ids=[
        "semicolons and decimal commas",
        "tabs, decimal commas and a blank",
        "more commas, in quotes",
        "Excel's first line",
        "Excel's first line, commas, after a mark",
        "a mark before the loss",
        "Excel's UTF-16",
        "padded quotes",
        "a last line cut short",
    ],
)
def test_separators_marks_and_padding_do_not_matter(tmp_path: Path, content: bytes) -> None:
    assert curve_of(tmp_path, content) == [(5, 0.5), (6, 0.1)]


def test_words_for_what_is_not_finite_are_known_in_every_file(tmp_path: Path) -> None:
    comma, tab = (curve_of(tmp_path, text) for text in ("step,loss\n1,Infinity\n2,-inf\n", "step\tloss\n1\t0,5\n2\t NaN \n"))
    assert [loss for _, loss in comma] == [math.inf, -math.inf]
    assert tab[0] == (1, 0.5) and math.isnan(tab[1][1])


@pytest.mark.parametrize("name", ["run.csv.gz", "RUN.CSV.GZ"])
def test_compressed_file_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"step,loss\n5,2\n"))
    assert read_curve(tmp_path / name).to_numpy().tolist() == [[5, 2]]


@pytest.mark.parametrize(
    ("names", "given"),
    [
        ("step,   train/box_loss   ,val/box_loss", "train/box_loss"),
        ("step,train/box_loss,val/box_loss", "   Train/Box_Loss "),
        ("step,Loss,loss", "Loss"),
        ("step,owl - train/loss,owl - val/loss", "owl - train/loss"),
        ("step,Owl - Train/Loss,Owl - Val/Loss", "owl - train/loss"),
        ("step,owl - train/loss,owl - val/loss", "train/loss"),
        ("step,time,loss", "time"),
        ("step,accuracy,loss", "Accuracy"),
    ],
    ids=[
        "padded in the file",
        "padded and in capitals",
        "to the letter",
        "W&B",
        "W&B, in capitals",
        "W&B without the run",
        "time",
        "accuracy",
    ],
)
def test_the_column_that_is_named_is_read(tmp_path: Path, names: str, given: str) -> None:
    assert curve_of(tmp_path, f"{names}\n5,2,9\n", given) == [(5, 2)]


LOSSES_BY_RANK = ("loss", "train_loss_step", "loss_step", "Train Loss", "Loss (train)", "train/loss_epoch", "loss_epoch", "x")


@pytest.mark.parametrize(("better", "worse"), list(zip(LOSSES_BY_RANK, LOSSES_BY_RANK[1:], strict=False)))
def test_the_loss_of_training_is_found_the_finest_first(tmp_path: Path, better: str, worse: str) -> None:
    assert curve_of(tmp_path, f"step,{worse},val_loss,{better}\n5,9,9,2\n") == [(5, 2)]


WHEN = (
    "time,Wall time,_runtime,_timestamp,Relative Time (Process),Date,elapsed,duration,seconds,a - loss__MIN,a - loss__MAX,epoch"
)


@pytest.mark.parametrize("other", WHEN.split(","))
def test_what_says_when_or_how_far_is_never_the_loss(tmp_path: Path, other: str) -> None:
    assert curve_of(tmp_path, f"{other},step,cost\n9,5,2\n") == [(5, 2)]
    with pytest.raises(ValueError, match="loss_column must be given: no column is called loss"):
        curve_of(tmp_path, f"step,{other}\n5,2\n")


@pytest.mark.parametrize("other", ["val_acc", "Accuracy", "lr-SGD", "train/learning_rate"])
def test_rates_are_no_loss_even_alone(tmp_path: Path, other: str) -> None:
    with pytest.raises(ValueError, match=f"loss_column must be given: no column is called loss, the columns are {other};"):
        curve_of(tmp_path, f"step,{other}\n5,2\n")


def test_resumed_and_reversed_runs_are_read(tmp_path: Path) -> None:
    """Steps may go back, as after a restart from a checkpoint, and may come the last first."""
    resumed = [(0, 3), (50, 2), (99, 2), (149, 1), (99, 2), (149, 1)]
    lines = "".join(f"{step // 100},{step},{loss}\n" for step, loss in resumed)
    assert curve_of(tmp_path, f"epoch,step,loss\n{lines}") == resumed
    logged = "".join(f"{at},{step},{loss}\n" for at, (step, loss) in enumerate(resumed))
    assert curve_of(tmp_path, f"_step,global_step,loss\n{logged}") == resumed
    assert curve_of(tmp_path, "epoch,step,loss\n1,149,1\n0,99,2\n0,49,3\n") == [(149, 1), (99, 2), (49, 3)]


ONE_RUN = "must count through one run, got {} after {}: it counts within an epoch, or the file holds several runs"
MIXED = "with a decimal comma, as in '{}', and no mark between thousands, got '{}'"


@pytest.mark.parametrize(
    ("content", "column", "sentence"),
    [
        (
            b"epoch;train/box_loss;val/loss\n1;2;3\n",
            None,
            "no column is called loss, the columns are train/box_loss, val/loss; the file is read as separated by semicolons",
        ),
        (
            b"Step,a - loss,b - loss\n1,2,3\n",
            None,
            "a - loss and b - loss may be it, the columns are a - loss, b - loss; the file is read as separated by commas",
        ),
        (b"step\tval_acc\n1\t2\n", None, "the columns are val_acc; the file is read as separated by tabs"),
        (b"step,lr,grad_norm\n1,2,3\n", None, "no column is called loss, the columns are lr, grad_norm;"),
        (b"step,tag,value\n1,a,3\n", None, "no column is called loss, the columns are tag, value;"),
        (b"step,Loss,LOSS\n1,2,3\n", "loss", "loss_column must mean one column, got 'loss', which fits Loss and LOSS"),
        (b"step,loss, loss\n1,2,3\n", "loss", "loss_column must mean one column, got 'loss', which fits loss and loss"),
        (b"Step,a - loss,b - loss\n1,2,3\n", "loss", "got 'loss', which fits a - loss and b - loss"),
        (b"Wall time,Step,Value\n1,2,3\n", "Step", "loss_column must be one of Wall time, Value; got 'Step'"),
        (b"epoch,batch,loss\n0,0,3\n0,50,2\n1,0,2\n", None, f"column 'batch' {ONE_RUN.format(0, 50)}"),
        (b"epoch,iter,loss\n1,0,3\n1,50,2\n2,31,2\n2,81,1\n", None, f"column 'iter' {ONE_RUN.format(31, 50)}"),
        (b"epoch,loss\n0,3\n1,2\n0,3\n1,2\n", None, f"column 'epoch' {ONE_RUN.format(0, 1)}"),
        (b"batch,loss\n64,3\n64,2\n", None, "column 'batch' must count through one run, got 64 beside all 2 losses"),
        (b"step;loss\n999;0,5\n1.000;0,4\n", None, f"column 'step' must hold numbers {MIXED.format('0,5', '1.000')}"),
        (b"step\tloss\n999\t0.5\n1,000\t0.4\n", None, f"column 'loss' must hold numbers {MIXED.format('1,000', '0.5')}"),
        (b"step;loss\n999;1.002,5\n", None, f"column 'loss' must hold numbers {MIXED.format('1.002,5', '1.002,5')}"),
        (b'step,loss\n999,"1,002.5"\n', None, "column 'loss' must hold numbers, got '1,002.5'"),
        (b"step loss\n0 2\n", None, "column 'step loss' must hold numbers, got '0 2'"),
        (b"0,-2.3\n1,2e1\n", None, "run must start with a line of column names, got 0, -2.3"),
        (b",,\n1,2,3\n", None, "run must start with a line of column names, got , , "),
        (b"sep=;\n", None, "run must be a CSV file with a line of column names, got .*: No columns to parse from file"),
        (
            b"\x89PNG\r\n\x1a\n\0\0",
            None,
            "run must be a CSV file with a line of column names, got .*: there are zero bytes in it",
        ),
        ("Gr\xf6\xdfe;loss\n1;2\n".encode("latin-1"), None, "run must be a CSV file .*: 'utf-8' codec can't decode byte 0xf6"),
        (
            b"\0" * 99,
            None,
            "run must be a CSV file with a line of column names, got .*: there are zero bytes in it, as in no text",
        ),
        (b"step,loss\n1,2\n\0\0", None, "there are zero bytes in it, as in no text"),
        ("step,loss\n1,2\n".encode("utf-16-le"), None, "there are zero bytes in it, as in no text"),
        (b"hello", None, "column 'hello' must hold at least one number, got none in 0 rows"),
    ],
    ids=[
        "losses of parts",
        "two runs of W&B",
        "accuracy alone",
        "what is beside a rate",
        "text beside a value",
        "case",
        "twice",
        "two runs of W&B, named",
        "the step as the loss",
        "batches within epochs",
        "batches within epochs, not from 0 again",
        "two runs one after the other",
        "batch sizes",
        "German thousands",
        "English thousands",
        "thousands and a decimal comma",
        "thousands in quotes",
        "spaces separate",
        "no names, negative",
        "no names, blank",
        "Excel's first line alone",
        "PNG",
        "Latin-1",
        "zeros",
        "zeros at the end, as a crash leaves them",
        "UTF-16 without its mark",
        "a word",
    ],
)
def test_files_that_leave_a_doubt_are_refused_in_one_sentence(
    tmp_path: Path, content: bytes, column: str | None, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        curve_of(tmp_path, content, column)


def test_file_that_is_not_compressed_as_its_name_says_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.zip").write_text("step,loss\n")
    with pytest.raises(ValueError, match="run must be a CSV file with a line of column names, got .*: File is not a zip file"):
        read_curve(tmp_path / "run.zip")


@settings(deadline=None, max_examples=200)
@given(content=st.one_of(st.binary(max_size=200), st.text('step,loss;\t\n"01.5 -#\0', max_size=200).map(str.encode)))
def test_any_bytes_are_a_curve_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        curve = read_curve(path)
    except ValueError as error:
        assert re.match("run must|column|loss_column must", str(error))
    else:
        assert list(curve) == ["step", "loss"] and not curve.empty


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run must be a CSV file, got no file at .*none.csv"):
        read_curve(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="run must be a CSV file, got a folder at "):
        read_curve(tmp_path)
