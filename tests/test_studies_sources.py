"""What a class does not take, or raises as it is made, is one sentence with class, argument, cause and way out."""

from __future__ import annotations

import abc
import functools
import pickle
import re
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_studies_preflight import Blobs
from test_studies_preflight import Net as Plain
from torch import nn

from studies import Workload
from studies.commands.lr_study import main
from studies.training.refusals import MissingArguments
from studies.training.sources import spec_source

HERE = __name__
SIZE = "--learning-rate 0.01 1 --points 2 --seeds 1 --epochs 1 --batch-size 8 --workers 1 --storage s.db".split()
LINKED = r"\(LightningCLI leaves linked arguments out of its config.yaml\)"


class Net(Plain):
    def __init__(self, n_classes: int, lr: float) -> None:
        super().__init__(lr)


class Two(Plain):
    def __init__(self, n_classes: int, depth: int, hidden: int = 3) -> None:
        super().__init__()


class Untyped(Plain):
    def __init__(self, n_classes, depth=3) -> None:  # type: ignore[no-untyped-def]
        super().__init__()


class PassesOn(Net):
    def __init__(self, hidden: int = 3, **kwargs: Any) -> None:
        super().__init__(lr=0.1, **kwargs)


class TakesAny(Plain):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.n_classes = kwargs["n_classes"]


class Body(nn.Module):
    def __init__(self, width: int, depth: int = 1) -> None:
        super().__init__()


class Abstract(nn.Module, abc.ABC):
    @abc.abstractmethod
    def widen(self) -> None: ...


class AbstractNet(Plain, abc.ABC):
    @abc.abstractmethod
    def widen(self) -> None: ...


class Nested(Plain):
    def __init__(
        self, model: nn.Module | None = None, widths: list[int] | None = None, p: int | float = 1, body: Abstract | None = None
    ) -> None:
        super().__init__()


class Hydra(Plain):
    """As templates for hydra are written: the optimizer is a partial whatever its type says."""

    def __init__(self, net: nn.Module, optimizer: torch.optim.Optimizer, compile: bool = False) -> None:
        super().__init__()


class Functions(Plain):
    def __init__(self, optimizer: Callable, scheduler: Callable[..., torch.optim.Optimizer], loss: functools.partial) -> None:  # type: ignore[type-arg]
        super().__init__()


class Objects(Plain):
    def __init__(self, net, optimizer=None) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.layer, self.optimizer = net, optimizer

    def configure_optimizers(self) -> Any:
        return self.optimizer(self.parameters())


def raising(error: BaseException, base: Any = Plain) -> type:
    class Raises(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            raise error

    return Raises


VALIDATION = "2 validation errors for Config\nwidth\n  Input should be a valid integer\ndepth\n  Field required"
Validates = raising(ValueError(VALIDATION))
Wordless = raising(NotImplementedError())
Asserts = raising(AssertionError())
Leaves = raising(SystemExit(3))
Refuses = raising(ValueError("no\nbody"), nn.Module)
Offline = raising(urllib.error.URLError("Name or service\nnot known"), Blobs)
Unavailable = raising(urllib.error.HTTPError("http://x/y", 503, "Service Unavailable", None, None), Blobs)  # type: ignore[arg-type]
Disconnected = raising(ConnectionError("Max retries\nexceeded"), Blobs)
for name, raises in {**globals()}.items():
    if getattr(raises, "__name__", "") == "Raises":
        raises.__name__ = raises.__qualname__ = name


class Loads(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.load_state_dict({"other": torch.zeros(1)})


class Downloads(Blobs):
    def prepare_data(self) -> None:
        raise urllib.error.URLError("Name or service\nnot known")


class Sized(Blobs):
    def __init__(self, n_classes: int = 5) -> None:
        super().__init__()


class Counts(Blobs):
    """Knows its classes once it is made, as data that are read do."""

    def __init__(self) -> None:
        super().__init__()
        self.n_classes, self.depth = 3, nn.Linear(1, 1)


class Remembers(Blobs):
    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters({"n_classes": classes})


class Needs(Blobs):
    def __init__(self, root: str, hidden: int) -> None:
        super().__init__()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a launch says on its one line; ``@Net`` is a class of this file. Nothing is trained or left."""
    arguments = re.sub(r"@(?=\w)", f"{HERE}.", line).split()
    data = [] if "--data" in arguments or "--config" in arguments else ["--data", f"{HERE}.Blobs"]
    assert main(["launch", *arguments, *data, *SIZE]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and not Path("s.db").exists()
    return printed.err.removeprefix("lr-study launch: ").rstrip()


MISSING: list[tuple[str, str]] = [
    (
        "--model @Net",
        "model Net must be given n_classes, for which Net has no default, got none: add --model.n_classes VALUE " + LINKED,
    ),
    (
        "--model @Two",
        "model Two must be given n_classes and depth, .*: add --model.n_classes VALUE --model.depth VALUE " + LINKED,
    ),
    ("--model @PassesOn", "model PassesOn must be given n_classes, .*: add --model.n_classes VALUE"),
    ("--model @Untyped", "model Untyped must be given n_classes, for which Untyped has no default, .*--model.n_classes VALUE"),
    ("--model @Untyped", r"an object is given by its class, as --model.n_classes.class_path my_package.MyClass or in YAML as"),
    ("--model @Nested --model.model @Body", "must be given model.width, for which Body has .*: add --model.model.width VALUE"),
    (
        "--model @Plain --data @Needs",
        "data Needs must be given root and hidden, .*--data.root VALUE --data.hidden VALUE " + LINKED,
    ),
    (
        "--model @Plain --trainer.callbacks EarlyStopping",
        "trainer.callbacks EarlyStopping must be given monitor, .* got none: name monitor among its init_args",
    ),
]


@pytest.mark.parametrize(("line", "sentence"), MISSING, ids=lambda value: value[:40])
def test_missing_arguments_are_named_with_their_flags(
    folder: Path, line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(sentence, refused(line, capsys))


PARTNERS: list[tuple[str, str]] = [
    (
        "--model @Net --data @Sized --data.n_classes 7",
        "add --model.n_classes 7 .*; data Sized has n_classes 7, which is likely",
    ),
    ("--model @Net --data @Sized", "add --model.n_classes 5 .*; data Sized has n_classes 5, which is likely what is meant"),
    ("--model @Net --data @Counts", "add --model.n_classes 3 .*; data Counts has n_classes 3, which is likely what is meant"),
    ("--model @Net --data @Remembers", "add --model.n_classes 4 .*; data Remembers has n_classes 4, which is likely"),
    ("--model @Two --data @Counts", "add --model.n_classes 3 --model.depth VALUE .*; data Counts has n_classes 3, which"),
    (
        "--model @Two --model.hidden 9 --data @Needs",
        "data Needs .*: add --data.root VALUE --data.hidden 9 .*; model Two has hidden 9",
    ),
]


@pytest.mark.parametrize(("line", "sentence"), PARTNERS, ids=[line for line, _ in PARTNERS])
def test_missing_argument_that_the_partner_has_comes_with_its_value(
    folder: Path, line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(sentence, refused(line, capsys))


def test_value_of_the_partner_is_said_and_not_taken() -> None:
    workload = Workload.of(f"{HERE}.Net", f"{HERE}.Sized")
    with pytest.raises(ValueError, match="model Net must be given n_classes"):
        workload.build(learning_rate=0.1, batch_size=8, seed=0)
    assert "n_classes" not in workload.model.facts["init_args"]


@pytest.mark.filterwarnings("ignore")  # LightningCLI uses what jsonargparse deprecates
def test_argument_that_lightning_cli_links_is_named_and_its_flag_is_enough(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pytorch_lightning.cli import LightningCLI

    class Linked(LightningCLI):
        def add_arguments_to_parser(self, parser: Any) -> None:
            parser.link_arguments("data.n_classes", "model.n_classes")

    monkeypatch.setattr(sys, "argv", ["main.py"])
    cli = Linked(Net, Sized, run=False, args=["--data.n_classes", "6", "--model.lr", "0.5"])
    Path("config.yaml").write_text(cli.parser.dump(cli.config, skip_none=False))
    line = "--config config.yaml --model @Net --data @Sized"
    told = "add --model.n_classes 6 .*; data Sized has n_classes 6, which is likely what is meant"
    assert re.search(told, refused(line, capsys))
    full = f"{line} --model.n_classes 6".replace("@", f"{HERE}.").split()
    assert main(["launch", *full, *SIZE]) == 0


VALUES: list[tuple[str, str]] = [
    ("--model @Net --model.n_classes three", "model argument n_classes: Net takes int, got 'three'"),
    ("--model @Nested --model.p much", r"model argument p: Nested takes int \| float, got 'much'"),
    ("--model @Nested --model.widths [1,a]", r"model argument widths: Nested takes list\[int\] \| None, got \[1, 'a'\]"),
    ("--model @Nested --model.model @Body --model.model.width big", "model argument model.width: Body takes int, got 'big'"),
    (
        "--model @Nested --model.model @Body --model.model.widht 3",
        "model.model Body has no argument 'widht'; did you mean 'width'",
    ),
    (
        "--model @Nested --model.model @Bdy",
        r"model argument model: Nested takes Module \| None, got '\w+.Bdy': .*has no attribute 'Bdy'; give model by class",
    ),
    (
        "--model @Nested --model.body @Abstract",
        "Nested takes Abstract .*got '.*': Expected an .* is abstract; give body by class",
    ),
    ("--model @AbstractNet", "model must be a class that can be made, AbstractNet is abstract: it does not define widen"),
    (
        "--model @Net --model.n_classes ${data.n}",
        "Net takes int, got '.*': what OmegaConf would fill in must be given as it is",
    ),
]


@pytest.mark.parametrize(("line", "sentence"), VALUES, ids=[line for line, _ in VALUES])
def test_value_that_an_argument_does_not_take_comes_with_its_class_and_type(
    folder: Path, line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(f"^{sentence}" if sentence.startswith("model") else sentence, refused(line, capsys))


PLACE = r"in __init__ \(\S*test_studies_sources.py:\d+\)"
RAISED: list[tuple[str, str]] = [
    ("--model @Validates", f"model Validates could not be made: ValueError {PLACE}: {' '.join(VALIDATION.split())}$"),
    ("--model @Wordless", f"model Wordless could not be made: NotImplementedError {PLACE}$"),
    ("--model @Asserts", f"model Asserts could not be made: AssertionError {PLACE}$"),
    ("--model @Leaves", f"model Leaves could not be made: SystemExit {PLACE}: 3$"),
    ("--model @TakesAny", f"model TakesAny could not be made: KeyError {PLACE}: 'n_classes'$"),
    ("--model @Nested --model.model @Refuses", f"model Nested could not be made: ValueError {PLACE}: no body$"),
    (
        "--model @Objects --model.net.class_path @Refuses",
        f"; model.net Refuses could not be made: ValueError {PLACE}: no body$",
    ),
    ("--model @Loads", f"model Loads could not be made: RuntimeError {PLACE}: .*Missing key.*layer.weight.*layer.bias.*other"),
    ("--model @Plain --data @Offline", f"data Offline could not be made: URLError {PLACE}: <.* Name or service not known>$"),
    (
        "--model @Plain --data @Unavailable",
        f"data Unavailable could not be made: HTTPError {PLACE}: HTTP Error 503: Service Un",
    ),
    ("--model @Plain --data @Disconnected", f"data Disconnected .*: ConnectionError {PLACE}: Max retries exceeded$"),
    ("--model @Plain --data @Downloads", "prepare_data .*failed: URLError: <.* Name or service not known>$"),
]


@pytest.mark.parametrize(("line", "sentence"), RAISED, ids=[line for line, _ in RAISED])
@pytest.mark.filterwarnings("ignore")  # of jsonargparse, about arguments without a type
def test_what_a_constructor_raises_is_told_whole(
    folder: Path, line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(sentence, refused(line, capsys))


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "raise NameError('odd\\nname')",
            r"model 'odd.Net' could not be imported: NameError in <module> \(odd.py:1\): odd name",
        ),
        ("def net(:", r"model 'odd.Net' could not be imported: SyntaxError: .*odd.py, line 1"),
        ("import torch,\\\n no_such_module", "model 'odd.Net' could not be imported: .*no_such_module"),
        ("raise ImportError('not\\nhere')", "model 'odd.Net' could not be imported: not here"),
    ],
    ids=["name", "syntax", "module", "lines"],
)
def test_file_that_fails_on_import_is_told(
    folder: Path, code: str, sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("odd.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    assert re.search(sentence, refused("--model odd.Net", capsys))


BY_CLASS = r"as --model.net my_package.MyClass or in YAML as net: \{class_path: my_package.MyClass, init_args: \{...\}\}"
FACTORY = r"with a factory: StudyConfig\(model=functools.partial\(Hydra, net=..., optimizer=...\)\)$"
FUNCTIONS = "--model @Functions --model.scheduler torch.optim.SGD"
OBJECTS: list[tuple[str, str]] = [
    (
        "--model @Hydra",
        f"must be given net and optimizer, .*: give net by class, {BY_CLASS}; optimizer can only be .*, {FACTORY}",
    ),
    (
        "--model @Hydra --model.net 3 --model.optimizer 3",
        f"net: Hydra takes Module, got 3; give net by class, {BY_CLASS}.*{FACTORY}",
    ),
    (
        "--model @Hydra --model.net torch.nn.ReLU --model.optimizer Adam",
        f"optimizer: Hydra takes Optimizer, got 'Adam', which cannot be made without params; optimizer can only .*, {FACTORY}",
    ),
    (
        f"{FUNCTIONS} --model.optimizer sgd --model.loss 3",
        "optimizer: Functions takes Callable, got 'sgd'; give optimizer by the",
    ),
    (
        f"{FUNCTIONS} --model.optimizer sgd --model.loss 3",
        "import path of a function, as --model.optimizer my_package.my_functi",
    ),
    (
        f"{FUNCTIONS} --model.loss 3 --model.optimizer torch.relu",
        "loss: Functions takes partial, got 3; loss can only be made in",
    ),
    (f"{FUNCTIONS} --model.scheduler.momentun 3", "model.scheduler SGD has no argument 'momentun'; did you mean 'momentum'"),
    (f"{FUNCTIONS} --model.scheduler.lr high", "model argument scheduler.lr: SGD takes float .*, got 'high'"),
    (
        "--model @Functions",
        "give scheduler by class, .*; give optimizer by the import path .*; loss can only be made in Python",
    ),
    ("--model @Objects --model.net @Body", "net came as '.*Body': an object is given by its class, as --model.net.class_path"),
    ("--model @Objects --model.net 3", "net came as 3: an object is given by its class, as --model.net.class_path"),
    (
        "--model @Objects --model.net.class_path torch.nn.ReLU",
        "'NoneType' object is not callable; optimizer came as None: an obj",
    ),
    (
        "--model @Objects --model.net.class_path torch.nn.ReLU --model.optimizer.class_path torch.optim.Adam",
        "optimizer came as {'class_path': 'torch.optim.Adam'.*}: optimizer can only be made in Python, with a factory",
    ),
    (
        "--model @Objects --model.net.class_path torch.nn.ReLU --model.optimizer torch.optim.Adam",
        "failed: TypeError: 'str' object is not callable; optimizer came as 'torch.optim.Adam': optimizer can only be made",
    ),
]


@pytest.mark.parametrize(("line", "sentence"), OBJECTS, ids=[f"{line[8:]}, {sentence[:12]}" for line, sentence in OBJECTS])
@pytest.mark.filterwarnings("ignore")  # of jsonargparse, about arguments without a type
def test_class_that_wants_objects_is_told_how_to_give_them(
    folder: Path, line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(sentence, refused(line, capsys))


def test_keys_of_hydra_in_an_argument_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = f"class_path: {HERE}.Hydra, init_args: {{net: {{_target_: a.B, width: 3}}, optimizer: {{_target_: c.D}}}}"
    Path("c.yaml").write_text(f"model: {{{lines}}}\ndata: {HERE}.Blobs\n")
    sentence = "net: Hydra takes Module, got {'_target_': 'a.B', 'width': 3}: the keys of hydra are not read; give net by class"
    assert sentence in refused("--config c.yaml", capsys)


def test_factory_of_the_sentence_is_what_python_takes() -> None:
    made = functools.partial(Hydra, net=nn.ReLU(), optimizer=functools.partial(torch.optim.Adam))
    assert Workload.of(made, Blobs).build(learning_rate=0.1, batch_size=8, seed=0)


def test_arguments_that_only_kwargs_take_arrive() -> None:
    spec: dict[str, Any] = {"class_path": f"{HERE}.TakesAny", "init_args": {"n_classes": 3}}
    assert spec_source("model", spec).make().n_classes == 3


def test_missing_arguments_survive_the_way_between_processes() -> None:
    error = MissingArguments("model", Net, Net, ["n_classes"])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
