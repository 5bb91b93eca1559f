"""Launch configurations that are wrong by construction: each must be refused in one sentence that names what is wrong.

The table counts those that were refused with exit code 2 in one line on stderr, without a traceback, with the key in it (for
what is not plain YAML, the file), and with nothing written. The fault of round N is drawn with seed + N.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import string
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from studies.commands.command_line import BAD_INPUT, run
from studies.commands.launch import OPTIONS
from studies.commands.launch import main as launch

FILE = "study.yaml"
VALID: dict[str, Any] = {  # what faults are put into: a study of a second, so that one which is accepted shows itself soon
    "name": "quick",
    "learning_rate": [0.1, 1.0],
    "points": 2,
    "batch_size": [256],
    "seeds": 1,
    "epochs": 1,
    "workers": 1,
    "fuse": "never",
}
NAN, INF, HUGE = float("nan"), float("inf"), 10**30
NOT_WHOLE = [0, -1, -HUGE, 2.5, 1e300, NAN, INF, -INF, "many", "3", "", True, False, [[]], {}, {"a": 1}, HUGE]
NOT_NUMBER = ["much", "", True, [], [1], {}, {"a": 1}, NAN, INF, -INF, "\x1b[31m"]
NOT_NAME = [5, 0.5, True, [], ["a"], {}, {"a": 1}, "", " ", NAN]
NOT_CHOICE = ["best", "", 5, True, [], ["grid"], {"grid": 1}, NAN]
NOT_CLASS = [5, 0.5, True, [], ["Digits"], "", " ", ".", "..", "a..b", ".a", "a.", ".a.b", "Nope", "no.such.Class", "math.pi"]
NOT_CLASS += [
    "os.system",
    "os.path.join",
    "\x1b[31m",
    "a\nb",
    "\u202e",
    "x" * 5000,
    "Digits ",
    "builtins.dict",
    "torch.nn.Linear",
]
VALUES: dict[str, list[Any]] = {  # what an option may not be
    **dict.fromkeys(("epochs", "seeds", "points", "self_check", "batch_size"), NOT_WHOLE),
    **dict.fromkeys(("per_decade", "tau", "rho"), [0, -1, -1e300, *NOT_NUMBER]),
    "target_loss": NOT_NUMBER,
    **dict.fromkeys(("monitor", "learning_rate_name", "ray_address"), NOT_NAME),
    **dict.fromkeys(("sampler", "fuse", "mode", "engine"), NOT_CHOICE),
    **dict.fromkeys(("model", "data", "optimizer", "lr_scheduler"), NOT_CLASS),
    "trainer": [5, "fast", True, ["a"], "precision", NAN],
    **dict.fromkeys(("constant", "checkpoint"), ["no", 0, 1, [], {}, "true ", NAN]),
    **dict.fromkeys(("num_cpus", "num_gpus"), [1, 0.5, -1, 1.5, *NOT_NUMBER]),  # of Ray alone
    "trials": [5, *NOT_WHOLE],  # of other samplers
    "workers": [0, -1, 257, 2.5, HUGE, True, "all", [], {}, NAN],
    "seed_everything": [-1, 2**31, 2.5, HUGE, "first", [], {}, NAN],
    "learning_rate": [
        *(5, "0.1 1", [], [0.1], [0.1, 1, 10], [10, 0.1], [0, 1], [-1, 1], [NAN, 1], [0.1, INF], [0.1, 10**400], {}),
        *([True, 1], [[0.1], 1], [None, 1], ["a", "b"], [{}, {}], "\x1b[31m"),
    ],
    "name": [
        *("a/b", "../up", "/etc/passwd", "a\\b", "", " ", ".hidden", "-a", "a\nb", "a\tb", "a\x00b", "a\x1b[31mb", "x" * 101),
        *("naïve", "零", "🙂", "quick.self-check", "a:b", "a?b", "<b>", "$x", 5, 0.5, True, [], ["a"], {}, {"a": 1}, NAN),
        "x" * 10**6,
    ],
    "storage": [5, [], {}, "", " ", ":memory:", "sqlite://", "nodb://host/name", "a://", "/proc/none/studies.db", "a\x00.db"],
    "out": [5, True, [], {}, "/proc/none", f"{FILE}/out", "a\x00b"],
    "config": ["other.yaml", [], 5],
    "ckpt_path": ["last.ckpt", 5],
}
INSTEAD = {"per_decade": "points"}  # what excludes it
TRAINER: dict[str, list[Any]] = {
    **dict.fromkeys(("min_epochs", "min_steps", "fast_dev_run", "overfit_batches"), [3]),
    "max_time": ["00:00:01:00"],
    "max_epochs": NOT_WHOLE,
    "precision": ["bananas", 7],
    "accelerator": ["abacus", 5],
    "devices": [2, -5, "many"],
    "num_nodes": [2],
    "strategy": ["magic"],
    "gradient_clip_val": ["much"],
    "gradient_clip_algorithm": ["cut"],
    "accumulate_grad_batches": [0, "many"],
    "limit_train_batches": [-1, 1.5],
    "limit_val_batches": [-1, 1.5],
    "callbacks": ["Nope", "no.such.Callback", [{"class_path": "EarlyStopping"}], 5],
    "logger": ["no.such.Logger", 5],
    "profiler": ["nope"],
}
MODEL: dict[str, list[Any]] = {
    "momentum": ["much", -1, [], INF],
    "momentun": [0.9],
    "network": ["Nope", 5, "no.such.Net", "math.pi", {"class_path": "MLP", "init_args": {"hidden": [0]}}],
}
OPTIMIZERS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {"momentun": 0.9},
        {"momentum": "much"},
        {"momentum": -1},
        {"momentum": []},
        {"weight_decay": -1},
        {"nesterov": True},
    ],
    "Adam": [{"betas": [2, 0]}, {"betas": 0.9}, {"eps": -1}, {"rate": 1}, {5: 5}],
}
NOT_YAML: list[str | bytes] = [  # each of which the file is to be named for
    *"epochs: [2|epochs: {2|epochs: 'two|\tepochs: 2|epochs: 2\n seeds: 3|epochs: 2: 3|@epochs: 2|epochs: *none|&a [*a]".split(
        "|"
    ),
    *"- epochs|[]|5|epochs|'epochs: 2'|true|epochs: 2\n---\nepochs: 3|? [a, b]\n: 3|%YAML 9.9\n|epochs: 0b_|a: \u0001".split(
        "|"
    ),
    *"epochs: 2\nepochs: 3|epochs: 2\n'epochs': 2|trainer: {a: 1, a: 2}|model: {init_args: {a: [{b: 1, b: 1}]}}".split("|"),
    *"epochs: !!python/name:os.system|!!python/object/apply:os.system ['ls']|name: !!binary aGk=|epochs: !!int 3".split("|"),
    *"!study {epochs: 3}|epochs: ! 3|storage: !!python/module:os|name: !!str x|data: !!set {a, b}".split("|"),
    "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join(9 * [f'*{a}'])}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    *("epochs: " + 10_000 * "[", 10_000 * "- ", "epochs: " + 10_000 * "{a: ", f"epochs: {'9' * 5_000}"),
    *(b"epochs: \xff\xfe", b"\x00", b"epochs: 2\x00", b"\x1b[31m: 3", b"\x89PNG\r\n\x1a\n", b"#" * 10_000_001),
]

Fault = tuple[Any, list[str]]  # the options, or what the file holds, and the words of which the sentence must hold one


def wrong_value(rng: random.Random) -> Fault:
    """An option that is what it may not be."""
    key = rng.choice(sorted(VALUES))
    value = rng.choice(VALUES[key])
    if key == "batch_size" and rng.random() < 0.5:
        value = [16, value]
    return {k: v for k, v in VALID.items() if k != INSTEAD.get(key)} | {key: value}, [key]


def unknown_key(rng: random.Random) -> Fault:
    """A key of chance, or one that lacks a letter."""
    known = [flag.removeprefix("--").replace("-", "_") for flag, *_ in OPTIONS]
    word = "".join(rng.choices(string.ascii_lowercase + "_-. é零", k=rng.randint(1, 12)))
    name = rng.choice(known)
    at = rng.randrange(len(name))
    key: Any = rng.choice([f"x{word}", name[:at] + name[at + 1 :], f"{name} ", name.upper(), 5, 0.5, True, "", "\x1b[31m"])
    return VALID | {key: rng.choice([1, "a", [], {}, {"epochs": 1}])}, [str(key)] if str(key).isprintable() else [repr(key)]


def wrong_nesting(rng: random.Random) -> Fault:
    """Options one level too deep, or a class that is spelt in another way."""
    key = rng.choice(sorted(VALID))
    owner = rng.choice(["model", "data", "optimizer", "lr_scheduler"])
    return rng.choice(
        [
            ({"study": VALID}, ["study"]),
            ({"fit": [VALID]}, ["fit"]),
            ({"fit": VALID, "validate": 3, "study": 3}, ["study"]),
            (VALID | {key: {key: VALID[key]}}, [key]),
            (VALID | {owner: {"class_path": "a.B", "width": 3}}, [owner]),
            (VALID | {owner: {"class_path": "a.B", "init_args": rng.choice([3, "a", [1]])}}, [owner]),
            (VALID | {owner: {"init_args": {"width": 3}}}, [owner]),
            (VALID | {owner: {"width": 3}}, [owner]),
            (VALID | {owner: {"class_path": rng.choice([5, [], {}, "", True])}}, [owner]),
            (VALID | {owner: {5: 5}}, [owner]),
            (VALID | {owner: {"class_path": "a.B", "dict_kwargs": 5}}, [owner]),
        ]
    )


def wrong_trainer(rng: random.Random) -> Fault:
    """An option that Lightning's Trainer does not have, does not take, or that a study forbids."""
    key: Any = rng.choice([*sorted(TRAINER), "presicion", "", 5])
    config = VALID | {"trainer": {key: rng.choice(TRAINER.get(key, [1]))}}
    if key == "max_epochs":  # which epochs would override
        return {k: v for k, v in config.items() if k != "epochs"}, ["epochs"]
    return {k: v for k, v in config.items() if k != "epochs"}, ["trainer"]


def wrong_argument(rng: random.Random) -> Fault:
    """An argument that the model, the data or the optimizer does not have or does not take."""
    key = rng.choice(sorted(MODEL))
    name = rng.choice(sorted(OPTIMIZERS))
    model = {"class_path": "ImageClassifier", "init_args": {key: rng.choice(MODEL[key])}}
    optimizer = {"class_path": name, "init_args": rng.choice(OPTIMIZERS[name])}
    return rng.choice(
        [
            (VALID | {"model": model}, ["model", key]),
            (VALID | {"optimizer": optimizer}, ["optimizer"]),
            (
                VALID | {"optimizer": "SGD", "lr_scheduler": {"class_path": "StepLR", "init_args": {"step": 1}}},
                ["lr_scheduler"],
            ),
            (VALID | {"optimizer": "SGD", "lr_scheduler": "StepLR"}, ["lr_scheduler"]),
            (
                VALID | {"data": {"class_path": "Digits", "init_args": rng.choice([{"sead": 1}, {"seed": "x"}, {5: 5}])}},
                ["data"],
            ),
            (VALID | {"data": {"class_path": "MNIST", "init_args": {"root": "/proc/none"}}}, ["data"]),
            (VALID | {"batch_size": 100_000}, ["batch_size"]),
            (VALID | {"batch_size": [16, 16]}, ["batch_size"]),
            (VALID | {"mode": "max"}, ["mode"]),
            (VALID | {"per_decade": 3}, ["per_decade"]),
            (VALID | {"monitor": "nothing_logs_this"}, ["monitor"]),
            (VALID | {"learning_rate_name": "nothing_has_this"}, ["learning_rate_name"]),
        ]
    )


def not_yaml(rng: random.Random) -> Fault:
    """A file that is no mapping, no YAML, or more than plain YAML; at times after options that are fine."""
    text = rng.choice(NOT_YAML)
    if isinstance(text, str) and text[0].isalpha() and ":" in text and rng.random() < 0.5:
        text = f"name: quick\n{text}" if not text.startswith("name") else text
    return text, [FILE]


KINDS: list[Callable[[random.Random], Fault]] = [
    *(wrong_value, wrong_value, wrong_value, unknown_key, wrong_nesting, wrong_trainer, wrong_argument, not_yaml)
]


def launched(config: Any, words: Sequence[str]) -> str | None:
    """What is not as promised when a configuration is launched, None when all is."""
    held = config if isinstance(config, (str, bytes)) else yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path(FILE).write_bytes(held if isinstance(held, bytes) else held.encode())
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code: object = run(lambda: launch(["--config", FILE]), "launch")
            except BaseException as error:  # which a process would show with its traceback
                code = f"{type(error).__name__}: {error}"
        written = sorted(os.listdir())
    said = err.getvalue()
    found = [] if code == BAD_INPUT else [f"exit code {code}"]
    if said.count("\n") != 1 or not said[:-1].isprintable() or out.getvalue():
        found.append("not one line")
    if not any(" ".join(word.split()) in said for word in words):
        found.append(f"names none of {', '.join(words)}")
    if written != [FILE]:
        found.append(f"left {', '.join(written)}")
    return f"{', '.join(found)}; it said {said[-300:]!r}" if found else None


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, metavar="N", help="configurations (default: 300)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first configuration (default: 0)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Launch them one after the other in this process, and count."""
    options = parse_args(argv)
    begun, bad = time.monotonic(), 0
    for seed in range(options.seed, options.seed + options.rounds):
        rng = random.Random(seed)
        config, words = rng.choice(KINDS)(rng)
        fault = launched(config, words)
        if fault is not None:
            wrong = {k: v for k, v in config.items() if v != VALID.get(k)} if isinstance(config, dict) else config
            print(f"seed {seed}: {str(wrong)[:200]!r}: {fault}", file=sys.stderr)
            bad += 1
    print("| malformed configurations | not refused as promised | s |\n|---|---|---|")
    print(f"| {options.rounds} | {bad} | {time.monotonic() - begun:.0f} |")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
