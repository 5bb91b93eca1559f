"""The runs that every way trains, and what their arithmetic alone would cost."""

from __future__ import annotations

from typing import Any, NamedTuple


class Work(NamedTuple):
    """Runs that every way trains: learning rates from 0.001 to 0.3, at which none diverges and so none stops early."""

    data: str
    network: str
    arguments: dict[str, Any]
    batch_size: int
    points: int
    seeds: int
    epochs: int
    timed: int  # runs a way that trains one after the other is timed on

    @property
    def members(self) -> list[tuple[float, int]]:
        """Learning rate and seed of each run."""
        rates = [0.001 * 300 ** (k / (self.points - 1)) for k in range(self.points)]
        return [(rate, seed) for rate in rates for seed in range(self.seeds)]


WORKS = {
    "digits-mlp": Work("Digits", "MLP", {"hidden": (64,)}, 32, points=16, seeds=3, epochs=10, timed=12),
    "digits-mlp-long": Work("Digits", "MLP", {"hidden": (64,)}, 32, points=16, seeds=3, epochs=50, timed=3),
    "mnist-mlp": Work("MNIST", "MLP", {"hidden": (128,)}, 64, points=16, seeds=1, epochs=2, timed=2),
    "mnist-mlp-long": Work("MNIST", "MLP", {"hidden": (128,)}, 64, points=16, seeds=1, epochs=10, timed=1),
    "mnist-conv": Work("MNIST", "ConvNet", {"width": 8}, 64, points=8, seeds=1, epochs=1, timed=1),
}


def make_data(work: Work, root: str) -> Any:
    """The data module of a work."""
    import lightning_modules

    kind = getattr(lightning_modules, work.data)
    return kind(work.batch_size, **({"root": root} if work.data == "MNIST" else {}))


def make_network(work: Work) -> Any:
    """The network of a work, with the weights of the moment."""
    import lightning_modules

    shape = (1, 28, 28) if work.data == "MNIST" else (1, 8, 8)
    return getattr(lightning_modules, work.network)(shape, 10, **work.arguments)


def specs(work: Work, root: str) -> dict[str, Any]:
    """Model and data of a work, as a study takes them."""
    arguments = {name: list(value) if isinstance(value, tuple) else value for name, value in work.arguments.items()}
    network = {"class_path": work.network, "init_args": arguments}
    data = {"class_path": work.data, "init_args": {"root": root} if work.data == "MNIST" else {}}
    return {"model": {"class_path": "ImageClassifier", "init_args": {"network": network}}, "data": data}


def operations(work: Work, root: str) -> float:
    """Floating-point operations of all training steps of a work, as PyTorch counts them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    data, network = make_data(work, root), make_network(work)
    batches = data.train_dataloader()
    inputs, labels = next(iter(batches))
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.cross_entropy(network(inputs), labels).backward()
    return counter.get_total_flops() * len(batches) * work.epochs * len(work.members)
