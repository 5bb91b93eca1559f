"""Networks: shapes in and out, and what each refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_modules import MLP, ConvNet, ResNet18


@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batch_norm"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 4, 5)], ids=str)
def test_convnet_takes_images_of_every_data_set(shape: tuple[int, ...], batch_norm: bool):
    network = ConvNet(shape, 7, width=4, batch_norm=batch_norm)
    assert network(torch.rand(5, *shape)).shape == (5, 7)
    assert any(isinstance(part, nn.BatchNorm2d) for part in network.modules()) == batch_norm


@pytest.mark.parametrize("shape", [(10,), (1, 8, 8), (3, 32, 32)], ids=str)
def test_mlp_flattens_inputs_of_any_shape(shape: tuple[int, ...]):
    assert MLP(shape, 3, hidden=(6, 5))(torch.rand(4, *shape)).shape == (4, 3)


def test_mlp_without_hidden_layers_is_linear():
    network = MLP((10,), 1, hidden=())
    a, b, zero = torch.rand(1, 10), torch.rand(1, 10), torch.zeros(1, 10)
    torch.testing.assert_close(network(a + b) - network(zero), network(a) + network(b) - 2 * network(zero))
    assert sum(parameter.numel() for parameter in network.parameters()) == 11


def test_mlp_has_a_relu_after_each_hidden_layer_and_none_at_the_end():
    layers = [type(layer).__name__ for layer in MLP((4,), 2, hidden=(3, 3)).layers]
    assert layers == ["Flatten", "Linear", "ReLU", "Linear", "ReLU", "Linear"]


@pytest.mark.parametrize("channels", [1, 3])
def test_resnet18_keeps_the_resolution_of_small_images_in_its_first_stage(channels: int):
    network = ResNet18((channels, 32, 32), 10)
    seen = []
    network.resnet.layer1.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    assert network(torch.rand(2, channels, 32, 32)).shape == (2, 10)
    assert seen == [(2, 64, 32, 32)]


@pytest.mark.parametrize("network", [MLP, ConvNet, ResNet18])
def test_networks_share_their_first_arguments_and_start_from_the_seed_alone(network: type[nn.Module]):
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(nn.utils.parameters_to_vector(network((1, 8, 8), 4).parameters()))
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: MLP(hidden=(64, 0)), r"hidden widths must be at least 1, got \(64, 0\)"),
        (lambda: MLP(n_outputs=0), "n_outputs must be at least 1, got 0"),
        (lambda: MLP(()), r"input_shape must hold sizes of at least 1, got \(\)"),
        (lambda: MLP((1, 0, 8)), r"input_shape must hold sizes of at least 1, got \(1, 0, 8\)"),
        (lambda: ConvNet(width=0), "width must be at least 1, got 0"),
        (lambda: ConvNet(n_outputs=-1), "n_outputs must be at least 1, got -1"),
        (lambda: ConvNet((1, 3, 8)), r"\(channels, height, width\) of at least 4 x 4 pixels, got \(1, 3, 8\)"),
        (lambda: ConvNet((10,)), r"\(channels, height, width\) of at least 4 x 4 pixels, got \(10,\)"),
        (lambda: ResNet18((10,)), r"\(channels, height, width\) of at least 4 x 4 pixels, got \(10,\)"),
        (lambda: ResNet18((3, 32, 32), 0), "n_outputs must be at least 1, got 0"),
    ],
)
def test_bad_sizes_are_refused_in_one_sentence(build, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        build()
