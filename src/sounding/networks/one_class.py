"""Deep one-class networks: what they were trained on lies close to one point, and what lies far from it is strange.

Source: Ruff et al. 2018, "Deep one-class classification", ICML (Deep SVDD), equations 4 and 5 and section 3.3: no
biases, no bounded activations, and a centre that no all-zero network reaches, or all rows would be mapped onto it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from sounding.networks.tabular import TableColumns

NEAR_ZERO = 0.1
"""Entries of the centre are at least this far from 0, for weights of 0 to be no solution."""
SLOPE = 0.1
"""Of the leaky ReLU below 0."""


class OneClass(nn.Module):
    """Squared distances of features from their centre; train it with their mean as the loss.

    The centre is the mean of the features of an untrained network over training rows, and stays: `centre_on` sets it.

    Args:
        layers: from the inputs to (B, code_size), without biases.
        code_size: features of a row.

    >>> network = OneClass(nn.Linear(6, 2, bias=False), 2)
    >>> centre_on(network, torch.randn(50, 6))
    >>> network(torch.zeros(5, 6)).shape
    torch.Size([5, 2])
    """

    def __init__(self, layers: nn.Module, code_size: int) -> None:
        super().__init__()
        self.layers, self.num_features = layers, code_size
        self.head = SquaredDistances(code_size)

    def forward_features(self, *inputs: Tensor) -> Tensor:
        """The inputs to features (B, code_size)."""
        features: Tensor = self.layers(*inputs)
        return features

    def forward(self, *inputs: Tensor) -> Tensor:
        """The inputs to squared distances from the centre (B, code_size), feature by feature."""
        distances: Tensor = self.head(self.forward_features(*inputs))
        return distances


class SquaredDistances(nn.Module):
    """Squared distances from a centre, which is a part of the state and no parameter."""

    centre: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.ones(size))

    def centre_on(self, features: Tensor) -> None:
        """Take the mean of features (N, size) as the centre."""
        mean = features.mean(0)
        away = torch.where(mean < 0, -NEAR_ZERO, NEAR_ZERO)
        self.centre.copy_(torch.where(mean.abs() < NEAR_ZERO, away, mean))

    def forward(self, features: Tensor) -> Tensor:
        """(B, size) to (B, size)."""
        return (features - self.centre).square()


def centre_on(network: nn.Module, *inputs: Tensor) -> None:
    """Centre the `OneClass` network that this is, or wraps, on training rows; any other network stays as it is.

    inputs: as the network takes them.
    """
    for module in network.modules():
        if isinstance(module, SquaredDistances):
            hook = module.register_forward_pre_hook(lambda head, features: head.centre_on(*features))
            training = network.training
            with torch.no_grad():
                network.eval()(*inputs)
            network.train(training)
            hook.remove()


class _TableLayers(nn.Module):
    def __init__(self, columns: TableColumns, layers: nn.Module) -> None:
        super().__init__()
        self.columns, self.layers = columns, layers

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        features: Tensor = self.layers(self.columns(numbers, categories))
        return features


def table_one_class(
    number_features: int,
    cardinalities: Sequence[int],
    out_features: int,
    *,
    bins: Sequence[Tensor] | None = None,
    one_hot_limit: int = 100,
    hidden_sizes: Sequence[int] = (128,),
) -> OneClass:
    """A one-class network for numbers, as they are, and categories.

    >>> network = table_one_class(2, [3], 8)
    >>> network(torch.zeros(5, 2), torch.zeros(5, 1, dtype=torch.int64)).shape
    torch.Size([5, 8])
    """
    columns = TableColumns(number_features, cardinalities, None, 0, one_hot_limit)
    return OneClass(_TableLayers(columns, _layers([sum(columns.sizes), *hidden_sizes, out_features])), out_features)


def picture_one_class(
    in_channels: int,
    out_features: int,
    *,
    picture_size: tuple[int, int],
    hidden_sizes: Sequence[int] = (32, 64),
) -> OneClass:
    """A one-class network of convolutions for pictures: each of `hidden_sizes` halves the picture.

    >>> picture_one_class(1, 8, picture_size=(9, 8))(torch.zeros(5, 1, 9, 8)).shape
    torch.Size([5, 8])
    """
    layers: list[nn.Module] = []
    size = picture_size
    for before, after in pairwise([in_channels, *hidden_sizes]):
        layers += [
            nn.Conv2d(before, after, 3, 2, padding=1, bias=False),
            nn.BatchNorm2d(after, affine=False),  # without shift or scale: these would be biases
            nn.LeakyReLU(SLOPE),
        ]
        size = (-(-size[0] // 2), -(-size[1] // 2))
    layers += [nn.Flatten(), nn.Linear(hidden_sizes[-1] * prod(size), out_features, bias=False)]
    return OneClass(nn.Sequential(*layers), out_features)


def _layers(sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after, bias=False), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers[:-1])
