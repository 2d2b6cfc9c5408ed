"""Layers that are fully connected, one after the other.

Sources: Rumelhart, Hinton and Williams 1986; skip connections: He et al. 2016, arXiv:1512.03385; batch
normalization: Ioffe and Szegedy 2015, arXiv:1502.03167; layer normalization: Ba et al. 2016, arXiv:1607.06450;
dropout: Srivastava et al. 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from sounding.networks.activations import build_activation
from sounding.networks.initialization import initialize
from sounding.networks.normalization import CENTRED, build_normalization


class FeedForward(nn.Module):
    """The plain network for rows of numbers; without hidden layers it is linear.

    Each hidden layer is linear, normalization, activation, dropout; with `skip_connections` its input is added to
    its output, through a linear map where their sizes differ.

    Args:
        in_features: numbers in a row.
        out_features: outputs for a row, before any softmax.
        hidden_sizes: outputs of each hidden layer.
        activation: a name from `ACTIVATIONS`.
        normalization: a name from `NORMALIZATIONS`, but for `instance`.
        dropout: probability in [0, 1) that a hidden output is blanked while training.
        skip_connections: whether each hidden layer only adds to its input.
        initialization: a name from `INITIALIZATIONS`.

    >>> network = FeedForward(4, 3, hidden_sizes=[16, 8], activation="tanh")
    >>> network(torch.zeros(5, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        normalization: str = "none",
        dropout: float = 0.0,
        skip_connections: bool = False,
        initialization: str = "default",
    ) -> None:
        super().__init__()
        sizes = [in_features, *hidden_sizes]
        self.layers = hidden_layers(sizes, activation, normalization, dropout, skip_connections)
        self.num_features = sizes[-1]
        self.head = nn.Linear(self.num_features, out_features)
        initialize(self, initialization)

    def forward_features(self, numbers: Tensor) -> Tensor:
        """(B, in_features) to (B, num_features)."""
        features: Tensor = self.layers(numbers)
        return features

    def forward(self, numbers: Tensor) -> Tensor:
        """(B, in_features) to logits (B, out_features)."""
        logits: Tensor = self.head(self.forward_features(numbers))
        return logits


class PictureFeedForward(FeedForward):
    """A feed-forward network that reads the pixels of a picture as one row of numbers.

    It takes the same options as `FeedForward`. Every pixel has its own weights, so nothing learnt in one corner is
    known in another: the convolutional networks show what that costs.

    >>> network = PictureFeedForward(1, 10, picture_size=(8, 8), hidden_sizes=[32])
    >>> network(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        *,
        picture_size: tuple[int, int],
        hidden_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        normalization: str = "batch",
        dropout: float = 0.2,
        skip_connections: bool = False,
        initialization: str = "default",
    ) -> None:
        super().__init__(
            in_channels * prod(picture_size),
            out_features,
            hidden_sizes=hidden_sizes,
            activation=activation,
            normalization=normalization,
            dropout=dropout,
            skip_connections=skip_connections,
            initialization=initialization,
        )

    def forward_features(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) to (B, num_features)."""
        return super().forward_features(pictures.flatten(1))


def hidden_layers(
    sizes: Sequence[int], activation: str, normalization: str, dropout: float, skip_connections: bool
) -> nn.Sequential:
    """The layers between each size and the next, from (B, first size) to (B, last size)."""
    return nn.Sequential(
        *(
            _Layer(before, after, activation, normalization, dropout, skip_connections)
            for before, after in pairwise(sizes)
        )
    )


class _Layer(nn.Module):
    def __init__(
        self, before: int, after: int, activation: str, normalization: str, dropout: float, skip: bool
    ) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Linear(before, after, bias=normalization not in CENTRED),
            build_normalization(normalization, after, 0),
            build_activation(activation),
            nn.Dropout(dropout),
        )
        self.shortcut: nn.Module | None = None
        if skip:
            self.shortcut = nn.Identity() if before == after else nn.Linear(before, after, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        change: Tensor = self.inner(values)
        return change if self.shortcut is None else torch.add(self.shortcut(values), change)
