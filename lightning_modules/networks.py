"""Three small networks with one signature: the shape of an example in, the number of outputs out."""

import math
from collections.abc import Sequence

from torch import Tensor, nn


class MLP(nn.Module):
    """Fully connected layers with ReLU between them; ``hidden=()`` is a linear model.

    Args:
        input_shape: shape of one example, any number of axes; they are flattened.
        n_outputs: classes, or targets of a regression.
        hidden: width of each hidden layer.

    Raises ValueError for a shape, width or number of outputs below 1.
    """

    def __init__(self, input_shape: Sequence[int] = (1, 8, 8), n_outputs: int = 10, *, hidden: Sequence[int] = (64,)) -> None:
        super().__init__()
        _check(input_shape, n_outputs)
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden widths must be at least 1, got {tuple(hidden)}")
        widths = [math.prod(input_shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], n_outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs, shape (n_examples, n_outputs), of inputs, shape (n_examples, *input_shape)."""
        outputs: Tensor = self.layers(inputs)
        return outputs


class ConvNet(nn.Module):
    """Two blocks of 3 x 3 convolution, ReLU and 2 x 2 max pooling, then one linear layer.

    Args:
        input_shape: (channels, height, width) of one image, at least 4 x 4 so that two poolings leave something.
        n_outputs: classes, or targets of a regression.
        width: channels after the first block; the second has twice as many.
        batch_norm: normalise after each convolution, which keeps the loss finite at learning rates that ruin the network.

    Raises ValueError for a shape that is no image, and for a width or number of outputs below 1.
    """

    def __init__(
        self, input_shape: Sequence[int] = (1, 8, 8), n_outputs: int = 10, *, width: int = 16, batch_norm: bool = False
    ) -> None:
        super().__init__()
        _check_image(input_shape, n_outputs)
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        channels, rows, columns = input_shape
        layers: list[nn.Module] = []
        for before, after in ((channels, width), (width, 2 * width)):
            layers.append(nn.Conv2d(before, after, kernel_size=3, padding=1, bias=not batch_norm))
            layers += [nn.BatchNorm2d(after)] if batch_norm else []
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * width * (rows // 4) * (columns // 4), n_outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs, shape (n_examples, n_outputs), of images, shape (n_examples, channels, height, width)."""
        outputs: Tensor = self.layers(inputs)
        return outputs


class ResNet18(nn.Module):
    """torchvision's ResNet-18, untrained, with the stem for small images of He et al. 2016, section 4.2.

    The stem is one 3 x 3 convolution of stride 1 without max pooling; torchvision's own (7 x 7, stride 2, pooling) would
    leave 8 x 8 of a 32 x 32 image.

    Args:
        input_shape: (channels, height, width) of one image, at least 4 x 4.
        n_outputs: classes, or targets of a regression.

    Raises ValueError for a shape that is no image and for a number of outputs below 1.
    """

    def __init__(self, input_shape: Sequence[int] = (3, 32, 32), n_outputs: int = 10) -> None:
        super().__init__()
        _check_image(input_shape, n_outputs)
        from torchvision.models import resnet18  # 1.5 s to import, and only this network needs it

        self.resnet: nn.Module = resnet18(weights=None, num_classes=n_outputs)
        stem = nn.Conv2d(input_shape[0], 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision starts its convolutions
        self.resnet.conv1, self.resnet.maxpool = stem, nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs, shape (n_examples, n_outputs), of images, shape (n_examples, channels, height, width)."""
        outputs: Tensor = self.resnet(inputs)
        return outputs


def _check(input_shape: Sequence[int], n_outputs: int) -> None:
    if not input_shape or any(size < 1 for size in input_shape):
        raise ValueError(f"input_shape must hold sizes of at least 1, got {tuple(input_shape)}")
    if n_outputs < 1:
        raise ValueError(f"n_outputs must be at least 1, got {n_outputs}")


def _check_image(input_shape: Sequence[int], n_outputs: int) -> None:
    _check(input_shape, n_outputs)
    if len(input_shape) != 3 or min(input_shape[1:]) < 4:
        raise ValueError(f"input_shape must be (channels, height, width) of at least 4 x 4 pixels, got {tuple(input_shape)}")
