"""A module of the user's in a folder that happens to be called as one of our packages."""

from torch import nn


def block(inputs: int, width: int, dropout: float) -> nn.Sequential:
    """Linear, batch norm, ReLU, dropout."""
    return nn.Sequential(nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout))
