"""The probe holds what the loader serves, and heights on it are the loss that is trained, whatever a module does."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import QUIET
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lightning_modules import MLP, ConvNet, ImageClassifier, Recorder, Regressor
from lightning_modules.loaders import PROBE_SIZE, n_examples, split
from lightning_modules.probe import Chosen, choose_probe, draw_probe
from studies import Workload
from studies.training.fixed import look_at
from studies.training.runs import train

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
]


class Numbered(Dataset[tuple[Tensor, int]]):
    """Examples that say which they are; remembers which were asked for."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.asked.append(index)
        return torch.full((2,), float(index)), index


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(30))


def labels(probe: Sequence[Any]) -> list[int]:
    return torch.cat([batch[1] for batch in probe]).tolist()


def unread() -> Iterator[Any]:
    raise AssertionError("batches are not read where the loader picks indices")
    yield


# ---- which examples ----


def test_the_probe_is_batches_of_an_epoch_the_same_at_every_call_and_draws_nothing_from_a_run() -> None:
    loader = DataLoader(Numbered(5_000), 32, shuffle=True)
    torch.manual_seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    first = labels(draw_probe(loader, unread(), n_batches=157))
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[2]
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[index]
    torch.manual_seed(5)
    assert labels(draw_probe(DataLoader(Numbered(5_000), 32, shuffle=True), unread(), n_batches=157)) == first
    assert PROBE_SIZE == 2_048 and len(set(first)) == len(first) in (2_024, 2_048)  # the last batch holds 8
    assert abs(np.mean(first) - 2_500) < 150  # five standard errors


def test_of_examples_in_order_the_probe_is_batches_from_everywhere() -> None:
    probe = draw_probe(DataLoader(Numbered(10_000), 64), unread(), n_batches=157)
    assert [n_examples(batch) for batch in probe] in ([64] * 32, [64] * 31 + [16])
    assert abs(np.mean(labels(probe)) - 5_000) < 3 * 10_000 / np.sqrt(12 * 32)


def test_of_an_epoch_that_is_cut_short_only_its_batches_are_drawn() -> None:
    assert max(labels(draw_probe(DataLoader(Numbered(10_000), 64), unread(), n_batches=10))) == 639


SAMPLERS: dict[str, Any] = {
    "in order": lambda n: SequentialSampler(range(n)),
    "shuffled": lambda n: RandomSampler(range(n)),
    "with replacement": lambda n: RandomSampler(range(n), replacement=True, num_samples=2 * n),
    "weighted": lambda n: WeightedRandomSampler(torch.linspace(0, 1, n), n),
    "of a part": lambda n: SubsetRandomSampler(range(n // 2)),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("drop_last", [True, False])
def test_the_probe_of_a_small_data_set_is_what_its_sampler_serves_in_an_epoch(name: str, drop_last: bool) -> None:
    def loader() -> DataLoader[Any]:
        return DataLoader(Numbered(50), 8, sampler=SAMPLERS[name](50), drop_last=drop_last)

    probe = draw_probe(loader(), unread(), n_batches=100)
    served = [n_examples(batch) for batch in loader()]
    assert [n_examples(batch) for batch in probe] == served
    if name == "in order":
        assert labels(probe) == list(range(sum(served)))
    elif name == "of a part":
        assert max(labels(probe)) < 25
    elif name == "weighted":
        assert np.mean(labels(probe)) > 28  # 33 is expected, 24.5 without weights


class OwnPace(DataLoader[Any]):
    """Goes through its data in a way of its own."""

    def __iter__(self) -> Any:
        return reversed(list(super().__iter__()))


def counted(seen: list[int]) -> Iterator[Tensor]:
    for index in range(100):
        seen.append(index)
        yield torch.full((30,), index)


@pytest.mark.parametrize(
    "loader",
    [DataLoader(Stream(), 8), OwnPace(Numbered(40), 8), None, "no loader"],
    ids=["stream", "own pace", "several", "no loader"],
)
def test_where_no_indices_are_picked_the_probe_is_the_first_batches(loader: Any) -> None:
    seen: list[int] = []
    probe = draw_probe(loader, counted(seen), n_batches=100, size=100)
    assert [int(batch[0]) for batch in probe] == [0, 1, 2] and seen == [0, 1, 2, 3]  # the fourth would be more than 100


def test_a_batch_larger_than_the_probe_is_taken_whole() -> None:
    assert [n_examples(batch) for batch in draw_probe(DataLoader(Numbered(50), 40), unread(), n_batches=2, size=10)] == [40]


class Buckets(Sampler[list[int]]):
    def __iter__(self) -> Iterator[list[int]]:
        yield from ([0, 1, 2], [7], [8, 9, 10, 11])

    def __len__(self) -> int:
        return 3


def test_batches_chosen_by_the_user_and_collated_by_the_user_are_served_as_they_are() -> None:
    def collate(examples: list[tuple[Tensor, int]]) -> Tensor:
        return torch.tensor([-label for _, label in examples])

    probe = draw_probe(DataLoader(Numbered(50), batch_sampler=Buckets(), collate_fn=collate), unread(), n_batches=3)
    assert [batch.tolist() for batch in probe] == [[0, -1, -2], [-7], [-8, -9, -10, -11]]


@pytest.mark.parametrize(
    "batch",
    [{"x": torch.zeros(5, 2), "mask": torch.ones(3, 3)}, (torch.zeros(5), object()), [torch.zeros(5), {"y": torch.zeros(4)}]],
    ids=["a tensor of the batch", "an object", "of another length"],
)
def test_a_batch_whose_examples_cannot_be_told_apart_is_not_split(batch: Any) -> None:
    assert split(batch, 2) is None


def test_a_batch_is_split_by_example_in_one_random_order() -> None:
    batch = {"x": torch.arange(100), "pair": (torch.arange(100) * 2, [str(k) for k in range(100)]), "name": "a", "n": 3}
    parts = split(batch, 30)
    assert parts is not None and [len(part["x"]) for part in parts] == [30, 30, 30, 10]
    for part in parts:
        assert torch.equal(part["x"] * 2, part["pair"][0]) and [str(int(k)) for k in part["x"]] == part["pair"][1]
    assert sorted(torch.cat([part["x"] for part in parts]).tolist()) == list(range(100)) != parts[0]["x"].tolist()
    assert split(batch, 30)[0]["x"].tolist() == parts[0]["x"].tolist()  # type: ignore[index]


# ---- how it is measured ----


def rows(n: int = 64) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(n, 5, generator=torch.Generator().manual_seed(1))
    return inputs, inputs.sum(1, keepdim=True)


class Net(pl.LightningModule):
    """Regression; the others below change what they need."""

    def __init__(self) -> None:
        super().__init__()
        self.net: nn.Module = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))

    def loss(self, batch: Any) -> Tensor:
        return F.mse_loss(self.net(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*rows()), 16)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Choosing(pl.Callback):
    chosen: Chosen

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        batches = draw_probe(trainer.train_dataloader, iter(()), n_batches=trainer.num_training_batches)
        before = {name: value.clone() for name, value in pl_module.state_dict().items()}
        modes = [part.training for part in pl_module.modules()]
        self.chosen = choose_probe(trainer, pl_module, batches, smallest=4)
        after = pl_module.state_dict()
        assert before.keys() == after.keys() and all(torch.equal(value, after[name]) for name, value in before.items())
        assert modes == [part.training for part in pl_module.modules()]
        trainer.should_stop = True


def choose(module: pl.LightningModule, epochs: int = 10) -> Chosen:
    choosing = Choosing()
    torch.manual_seed(0)
    pl.Trainer(**QUIET, max_epochs=epochs, callbacks=[choosing], limit_train_batches=4).fit(module)
    return choosing.chosen


class Regularised(Net):
    """Everything that is meant to act in training alone: layers, functions, and a part without weights of the user's own."""

    class StochasticDepth(nn.Module):
        """Leaves out all of an example at times."""

        def forward(self, x: Tensor) -> Tensor:
            return x * (torch.rand(len(x), 1) > 0.5) * 2 if self.training else x

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), self.StochasticDepth(), nn.RReLU(), nn.Linear(8, 1)
        )
        self.attend = nn.MultiheadAttention(1, 1, dropout=0.5, batch_first=True)
        self.rnn = nn.LSTM(1, 1, num_layers=2, dropout=0.5, batch_first=True)

    def loss(self, batch: Any) -> Tensor:
        x = F.dropout(batch[0], 0.3, self.training)[..., None]
        x = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5 if self.training else 0.0)
        x, _ = self.attend(*[x] * 3)
        x, _ = self.rnn(x)
        return super().loss((batch[0] + x[..., 0], batch[1]))


class Variational(Net):
    """Draws random numbers in both modes."""

    def loss(self, batch: Any) -> Tensor:
        return super().loss((batch[0] + 0.1 * torch.randn_like(batch[0]), batch[1]))


class SpectrallyNormed(Net):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 1))


@pytest.mark.parametrize("kind", [Net, Regularised, Variational, SpectrallyNormed])
def test_what_evaluation_mode_is_made_for_is_measured_in_it(kind: type[Net]) -> None:
    chosen = choose(kind())
    assert chosen.probe.is_plain and not chosen.remarks
    assert chosen.any_size == (kind is not Variational)  # other batches draw other numbers


class Auxiliary(Net):
    """A second head that is there in training alone, and at zero weights makes no difference."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(5, 1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch) + (0.4 * self.second(batch[0]).square().mean() if self.training else 0)


class Losses(Net):
    """A network that gives losses in training and predictions otherwise."""

    class Detector(nn.Module):
        """The network."""

        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(5, 1)

        def forward(self, x: Tensor, y: Tensor) -> Any:
            return {"box": F.mse_loss(self.net(x), y)} if self.training else [{"box": box} for box in self.net(x)]

    def __init__(self) -> None:
        super().__init__()
        self.net = self.Detector()

    def loss(self, batch: Any) -> Tensor:
        return sum(self.net(*batch).values())  # type: ignore[no-any-return]


class NoneInEvaluation(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch) if self.training else None


@pytest.mark.parametrize(
    ("kind", "remark"),
    [
        (
            Auxiliary,
            "evaluation mode computes another loss than training mode at the same weights, .*: heights are measured in",
        ),
        (
            Losses,
            r"Losses.training_step \(.*\) fails in evaluation mode \(AttributeError: .*\): heights are measured in training",
        ),
        (NoneInEvaluation, r"fails in evaluation mode \(ValueError: .*\): heights are measured"),
    ],
)
def test_what_evaluation_mode_does_not_compute_is_measured_in_training_mode_and_said(kind: type[Net], remark: str) -> None:
    chosen = choose(kind())
    assert chosen.probe.training and not chosen.any_size
    with pytest.raises(AssertionError, match=remark):
        raise AssertionError(*chosen.remarks)


class Annealed(Net):
    """The second part of the loss is phased in, by a way that each child has."""

    by_hand = 0.0

    def weight(self) -> float:
        return min(1.0, self.current_epoch / 5)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch) + self.weight() * self.net(batch[0]).square().mean()


class ByStep(Annealed):
    def weight(self) -> float:
        return min(1.0, self.global_step / 20)


class ByHook(Annealed):
    def on_train_epoch_start(self) -> None:
        self.by_hand = min(1.0, self.current_epoch / 5)

    def weight(self) -> float:
        return self.by_hand


class ByCounter(Annealed):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def weight(self) -> float:
        if self.training:
            self.seen += 1  # type: ignore[operator]
        return min(1.0, float(self.seen) / 20)


@pytest.mark.parametrize("kind", [Annealed, ByStep, ByHook, ByCounter])
def test_a_loss_that_changes_is_measured_as_at_the_end_of_the_run_from_its_start_on(kind: type[Annealed]) -> None:
    chosen = choose(kind())
    assert "the loss changes during a run" in chosen.remarks[0] and "as at the end" in chosen.remarks[0]
    assert not chosen.probe.training
    recorder = Recorder(chosen.probe, steps=[0])
    torch.manual_seed(0)
    module = kind()
    start = [part.clone() for part in module.parameters()]
    pl.Trainer(**QUIET, max_epochs=10, callbacks=[recorder], limit_train_batches=4).fit(module)
    last = dict(recorder.record.curves["height"])
    for step, weights in ((0, start), (40, list(module.parameters()))):
        expected = kind()
        with torch.no_grad():
            for weight, value in zip(expected.parameters(), weights, strict=True):
                weight.copy_(value)
            inputs, targets = rows()
            by_hand = expected.loss((inputs, targets)) + expected.net(inputs).square().mean()
        assert last[step] == pytest.approx(float(by_hand), rel=1e-5)
    assert recorder.record.loss_as_at_start is None


class Ramp(pl.Callback):
    """Changes the module from outside, where nobody can know it beforehand."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.by_hand = min(1.0, trainer.current_epoch / 5)  # type: ignore[assignment]


class FromOutside(Annealed):
    def weight(self) -> float:
        return self.by_hand


def test_a_loss_that_a_callback_changes_is_noticed_at_the_end_of_the_run() -> None:
    recorder, plain = (Recorder([rows()], steps=[0]) for _ in range(2))
    module = FromOutside()
    pl.Trainer(**QUIET, max_epochs=10, callbacks=[recorder, Ramp()], limit_train_batches=4).fit(module)
    with torch.no_grad():
        at_start = float(module.loss(rows()))
        at_end = at_start + float(module.net(rows()[0]).square().mean())
    assert recorder.record.curves["height"][-1] == (40, pytest.approx(at_end, rel=1e-5))
    assert recorder.record.loss_as_at_start == pytest.approx(at_start, rel=1e-5)
    pl.Trainer(**QUIET, max_epochs=2, callbacks=[plain], limit_train_batches=4).fit(Net())
    assert plain.record.loss_as_at_start is None


class Recurrent(Net):
    """Carries its hidden state in an attribute from batch to batch; all batches must be of one size."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.state = nn.GRU(1, 4, batch_first=True), None
        self.net = nn.Linear(4, 1)

    def loss(self, batch: Any) -> Tensor:
        hidden, state = self.rnn(batch[0][..., None], self.state)
        self.state = state.detach()
        return F.mse_loss(self.net(hidden[:, -1]), batch[1])


class InBuffer(Recurrent):
    """The same in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        del self.state
        self.register_buffer("state", torch.zeros(1, 16, 4))


class Queue(Net):
    """A memory of earlier examples and a place in it, in buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("queue", torch.ones(64, 5))
        self.register_buffer("place", torch.zeros(1, dtype=torch.long))

    def loss(self, batch: Any) -> Tensor:
        place = int(self.place)  # type: ignore[arg-type]
        self.queue[place : place + len(batch[0])] = batch[0]  # type: ignore[index, operator]
        self.place[0] = (place + len(batch[0])) % 64  # type: ignore[index, operator]
        return super().loss(batch) + self.net(self.queue).square().mean()


class Bank(Net):
    """The same in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.bank: list[Tensor] = []

    def loss(self, batch: Any) -> Tensor:
        self.bank.append(batch[0].mean(0))
        return super().loss(batch) + self.net(torch.stack(self.bank)).square().mean()


@pytest.mark.parametrize(
    ("kind", "carried"), [(Recurrent, {"state"}), (InBuffer, {"state"}), (Queue, {"queue", "place"}), (Bank, {"bank"})]
)
def test_state_that_is_carried_on_starts_the_same_at_each_measurement_and_is_put_back(
    kind: type[Net], carried: set[str]
) -> None:
    chosen = choose(kind())
    assert {name for _, name in chosen.probe.carried} == carried and not chosen.any_size

    class Still(kind):  # type: ignore[valid-type, misc]
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    def fit(module: pl.LightningModule, steps: Sequence[int]) -> tuple[Recorder, list[Tensor]]:
        recorder = Recorder(chosen.probe, steps=steps)
        pl.Trainer(**QUIET, max_epochs=3, callbacks=[recorder], limit_train_batches=4).fit(module)
        return recorder, [weight.detach() for weight in module.parameters()]

    recorder, _ = fit(Still(), range(13))
    heights = [height for _, height in recorder.record.curves["height"]]
    assert len(heights) == 13 and len(set(heights)) == 1
    torch.manual_seed(3)
    often = fit(kind(), range(13))[1]
    torch.manual_seed(3)
    seldom = fit(kind(), [0])[1]
    assert all(map(torch.equal, often, seldom))


class Averages(Net):
    """A running average of its outputs, which is learned as weights are, is no state of the batch before."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(1, 8))
        self.net = nn.Linear(5, 8)

    def loss(self, batch: Any) -> Tensor:
        out = self.net(batch[0])
        self.centre = 0.9 * self.centre + 0.1 * out.detach().mean(0, keepdim=True)
        return (out - self.centre - 1).square().mean()


def test_averages_are_measured_as_they_are() -> None:
    assert choose(Averages()).probe.carried == ()


class Contrastive(Net):
    """Examples of a batch are told apart from each other, so the loss depends on how many they are."""

    def loss(self, batch: Any) -> Tensor:
        out = F.normalize(self.net(batch[0]) + batch[0])
        return F.cross_entropy(out @ out.T, torch.arange(len(out)))


def test_a_loss_that_depends_on_the_batch_size_is_noticed_and_each_size_gets_batches_of_its_own() -> None:
    assert not choose(Contrastive()).any_size and choose(Net()).any_size
    sizes = {size: look_at(Workload.of(Contrastive, batch_sizes=(8, 16)), size).probe.batches for size in (8, 16)}
    assert {size: {n_examples(batch) for batch in batches} for size, batches in sizes.items()} == {8: {8}, 16: {16}}
    shared = Workload.of(Net, batch_sizes=(8, 16))
    assert look_at(shared, 8).probe is look_at(shared, 16).probe


def test_of_one_large_batch_as_many_examples_are_measured_as_a_probe_has() -> None:
    class Whole(Net):
        def train_dataloader(self) -> Any:
            return DataLoader(TensorDataset(*rows(3_000)), 3_000)

    (batch,) = choose(Whole()).probe.batches
    assert n_examples(batch) == PROBE_SIZE


class Raising(Net):
    def loss(self, batch: Any) -> Tensor:
        raise KeyError("no such column")


def test_a_module_that_cannot_be_measured_at_all_is_left_to_the_run_which_says_why() -> None:
    choosing = Choosing()
    with pytest.raises(KeyError, match="no such column"):
        pl.Trainer(**QUIET, max_epochs=1, callbacks=[choosing, Recorder([rows()])]).fit(Raising())
    assert choosing.chosen.probe.is_plain


# ---- the height is the loss of a plain loop over the user's own loader ----


def network(kind: str) -> pl.LightningModule:
    if kind == "regressor":
        return Regressor(MLP(input_shape=(1, 8, 8), n_outputs=1, hidden=(4,)), learning_rate=0.01)
    if kind == "convnet":
        return ImageClassifier(ConvNet(input_shape=(1, 8, 8), n_outputs=3, width=2), learning_rate=0.01)
    return ImageClassifier(MLP(input_shape=(1, 8, 8), n_outputs=3, hidden=(4,)), learning_rate=0.01, momentum=0.9)


def swapped(examples: list[Any]) -> Any:
    """A collate function of the user's: darker images, and labels that are counted down."""
    return torch.stack([image for image, _ in examples]) / 2, torch.stack([2 - label for _, label in examples])


@st.composite
def loaders(draw: st.DrawFn) -> Any:
    """A loader of the user's, the same whenever it is made."""
    n, batch_size, seed = draw(st.integers(5, 60)), draw(st.integers(2, 12)), draw(st.integers(0, 99))
    drop_last = draw(st.booleans()) and n >= batch_size
    name, own = draw(st.sampled_from(sorted(SAMPLERS))), draw(st.booleans())
    drawn = torch.Generator().manual_seed(seed)
    images, labels = torch.rand(n, 1, 8, 8, generator=drawn), torch.randint(0, 3, (n,), generator=drawn)

    def make() -> DataLoader[Any]:
        torch.manual_seed(seed)
        indices = list(SAMPLERS[name](n))  # fixed, so that a loop of ours sees what the study saw
        served = BatchSampler(indices, batch_size, drop_last and len(indices) >= batch_size)
        return DataLoader(TensorDataset(images, labels), batch_sampler=served, collate_fn=swapped if own else None)

    return make


def by_loop(module: pl.LightningModule, loader: Any) -> float:
    total = count = 0.0
    module.eval()
    with torch.no_grad():
        for batch in loader:
            total += float(module.training_step(batch, 0)) * len(batch[1])
            count += len(batch[1])
    return total / count


@settings(max_examples=150, deadline=None, derandomize=True)
@given(make=loaders(), kind=st.sampled_from(["mlp", "convnet", "regressor"]), seed=st.integers(0, 3))
def test_heights_are_the_loss_of_a_plain_loop_over_the_users_own_loader(make: Any, kind: str, seed: int) -> None:
    if kind == "regressor":
        inner = make

        def make() -> Any:
            loader = inner()
            loader.collate_fn = lambda examples: (
                torch.stack([x for x, _ in examples]),
                torch.stack([y for _, y in examples]).float()[:, None],
            )
            return loader

    ends: list[pl.LightningModule] = []

    class Keep(pl.Callback):
        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            ends.append(pl_module)

    workload = Workload.of(
        lambda: network(kind), lambda: make(), {"callbacks": [Keep()], "logger": False}, own_batches=True, epochs=2
    )
    run = train(workload, [(0.01, seed)], batch_size=8, epochs=2)[0]
    steps, heights = run.curves["height"]
    pl.seed_everything(seed, verbose=False)
    assert heights[0] == pytest.approx(by_loop(network(kind), make()), rel=1e-4)
    assert heights[-1] == pytest.approx(by_loop(ends[-1], make()), rel=1e-4)


class Two(pl.LightningModule):
    """Trained on two loaders at once."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (x,), (u,) = batch["labelled"], batch["unlabelled"]
        return (self.net(x) - 1).square().mean() + 0.5 * self.net(u).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sizes=st.tuples(st.integers(1, 8), st.integers(1, 8)), n=st.tuples(st.integers(8, 30), st.integers(8, 30)))
def test_heights_on_two_loaders_are_the_loss_of_a_plain_loop_over_both(sizes: tuple[int, int], n: tuple[int, int]) -> None:
    def make() -> dict[str, DataLoader[Any]]:
        drawn = torch.Generator().manual_seed(0)
        data = [torch.randn(each, 3, generator=drawn) for each in n]
        return {
            name: DataLoader(TensorDataset(x), size)
            for name, x, size in zip(("labelled", "unlabelled"), data, sizes, strict=True)
        }

    def by_both(module: Two) -> float:
        total = count = 0.0
        for batch, *_ in CombinedLoader(make(), "max_size_cycle"):
            examples = len(batch["labelled"][0])
            total, count = total + float(module.training_step(batch, 0).detach()) * examples, count + examples
        return total / count

    ends: list[Any] = []

    class Keep(pl.Callback):
        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            ends.append(pl_module)

    workload = Workload.of(Two, make, {"callbacks": [Keep()], "logger": False}, own_batches=True)
    heights = train(workload, [(0.01, 0)], batch_size=8, epochs=1)[0].curves["height"][1]
    pl.seed_everything(0, verbose=False)
    assert heights[0] == pytest.approx(by_both(Two()), rel=1e-4)
    assert heights[-1] == pytest.approx(by_both(ends[-1]), rel=1e-4) != heights[0]


class FarOff(Net):
    """Batch norm over raw inputs: its averages are those of nothing until it has seen some."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 1))

    def loss(self, batch: Any) -> Tensor:
        return super().loss((batch[0] * 300 + 500, batch[1]))


def test_averages_that_have_seen_no_data_do_not_make_the_start_look_high() -> None:
    chosen = choose(FarOff())
    assert chosen.probe.training and "have seen no data at the start" in chosen.remarks[0]


class Settings:
    """A plain object of the user's."""

    def __init__(self) -> None:
        self.weight, self.steps, self.memory = 0.0, 0, {"last": torch.zeros(5)}


class HoldsObject(Net):
    def __init__(self) -> None:
        super().__init__()
        self.settings, self.cfg = Settings(), {"kl": {"weight": 0.0}}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.settings.steps += 1
        self.settings.memory["last"] += batch[0].mean(0)
        weight = self.settings.weight + self.cfg["kl"]["weight"]
        return self.loss(batch) + weight * self.net(batch[0]).square().mean()


class GrowsInside(pl.Callback):
    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        module.settings.weight += 0.1
        module.cfg["kl"]["weight"] += 0.1


def test_objects_of_the_users_are_put_back_and_numbers_inside_them_are_noticed() -> None:
    ends = []
    for steps in ([0], range(13)):
        torch.manual_seed(0)
        module, recorder = HoldsObject(), Recorder([rows()], steps=steps)
        pl.Trainer(**QUIET, max_epochs=3, callbacks=[recorder, GrowsInside()], limit_train_batches=4).fit(module)
        assert module.settings.steps == 12
        ends.append([*module.parameters(), module.settings.memory["last"]])
        last = recorder.record.curves["height"][-1][1]
        assert recorder.record.loss_as_at_start is not None and recorder.record.loss_as_at_start < last
    assert all(map(torch.equal, *ends))


class Growing(Net):
    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*rows(16 * 2**self.current_epoch)), 16)


def test_a_loader_that_grows_is_measured_to_the_end_and_its_last_batches_are_the_probe() -> None:
    recorder = Recorder([rows()])
    options = {**QUIET, "max_epochs": 4, "reload_dataloaders_every_n_epochs": 1}
    pl.Trainer(**options, callbacks=[recorder]).fit(Growing())
    steps = [step for step, _ in recorder.record.curves["height"]]
    assert steps == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15] and recorder.record.epochs == 4
    workload = Workload.of(Growing, None, {"reload_dataloaders_every_n_epochs": 1}, epochs=4, batch_sizes=(16,))
    assert sum(map(n_examples, look_at(workload, 16).probe.batches)) == 128
