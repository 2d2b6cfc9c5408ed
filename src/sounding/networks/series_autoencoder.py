"""Autoencoders for series: convolutions over time, which halve the series on the way to a code and double it back.

Sources: those of `autoencoder`; Shi et al. 2016, arXiv:1609.05158, for new points that come from channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sounding.networks.activations import build_activation
from sounding.networks.autoencoder import WARMUP, Autoencoder, VariationalAutoencoder
from sounding.networks.initialization import initialize

KERNEL = 5
"""Points that a convolution sees."""


class SeriesEncoder(nn.Module):
    """Convolutions that halve a series, one for each of `hidden_sizes`, and a linear map beside them.

    >>> SeriesEncoder(2, 4, 30, [8, 16], "silu")(torch.zeros(5, 2, 30)).shape
    torch.Size([5, 4])
    """

    def __init__(
        self, in_channels: int, out_features: int, length: int, hidden_sizes: Sequence[int], activation: str
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = in_channels
        for channels in hidden_sizes:
            layers += [nn.Conv1d(before, channels, KERNEL, 2, padding=KERNEL // 2), build_activation(activation)]
            before = channels
        last = _lengths(length, hidden_sizes)[-1]
        self.deep = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * last, out_features, bias=False))
        self.linear = nn.Linear(in_channels * length, out_features)

    def forward(self, series: Tensor) -> Tensor:
        """(B, in_channels, length) to (B, out_features)."""
        return torch.add(self.linear(series.flatten(1)), self.deep(series))


class SeriesDecoder(nn.Module):
    """A `SeriesEncoder` the other way.

    >>> SeriesDecoder(4, 2, 30, [8, 16], "silu")(torch.zeros(5, 4)).shape
    torch.Size([5, 2, 30])
    """

    def __init__(
        self, in_features: int, out_channels: int, length: int, hidden_sizes: Sequence[int], activation: str
    ) -> None:
        super().__init__()
        lengths = _lengths(length, hidden_sizes)
        before = hidden_sizes[-1] if hidden_sizes else out_channels
        layers: list[nn.Module] = [nn.Linear(in_features, before * lengths[-1]), nn.Unflatten(1, (before, lengths[-1]))]
        for stage in reversed(range(len(hidden_sizes))):
            after = hidden_sizes[stage - 1] if stage else out_channels
            layers += [
                build_activation(activation),
                nn.Conv1d(before, 2 * after, KERNEL, padding=KERNEL // 2),
                _Doubled(lengths[stage]),
            ]
            before = after
        self.deep = nn.Sequential(*layers)
        self.linear = nn.Sequential(
            nn.Linear(in_features, out_channels * length), nn.Unflatten(1, (out_channels, length))
        )

    def forward(self, code: Tensor) -> Tensor:
        """(B, in_features) to (B, out_channels, length)."""
        return torch.add(self.linear(code), self.deep(code))


class _Doubled(nn.Module):
    """(B, 2 * C, L) to (B, C, length), with length at most 2 * L: a pair of channels holds points that follow."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def forward(self, values: Tensor) -> Tensor:
        rows, channels, length = values.shape
        pairs = values.reshape(rows, channels // 2, 2, length).transpose(2, 3).flatten(2)
        return pairs[..., : self.length]


def series_autoencoder(
    in_channels: int,
    out_features: int,
    *,
    length: int,
    hidden_sizes: Sequence[int] = (32, 64),
    activation: str = "silu",
    noise: float = 0.0,
    masked: float = 0.0,
    nonzero: int = 0,
    initialization: str = "default",
) -> Autoencoder:
    """A convolutional autoencoder for series of one length: `hidden_sizes` are the channels of stages that halve it.

    >>> series_autoencoder(2, 8, length=50)(torch.zeros(5, 2, 50)).values.shape
    torch.Size([5, 2, 50])
    """
    encoder = SeriesEncoder(in_channels, out_features, length, hidden_sizes, activation)
    decoder = SeriesDecoder(out_features, in_channels, length, hidden_sizes, activation)
    network = Autoencoder(encoder, decoder, out_features, noise=noise, masked=masked, nonzero=nonzero)
    initialize(network, initialization)
    return network


def series_variational_autoencoder(
    in_channels: int,
    out_features: int,
    *,
    length: int,
    hidden_sizes: Sequence[int] = (32, 64),
    activation: str = "silu",
    noise: float = 0.0,
    masked: float = 0.0,
    beta: float = 1.0,
    warmup: int = WARMUP,
    free_bits: float = 0.0,
    initialization: str = "default",
) -> VariationalAutoencoder:
    """The variational `series_autoencoder`."""
    encoder = SeriesEncoder(in_channels, 2 * out_features, length, hidden_sizes, activation)
    decoder = SeriesDecoder(out_features, in_channels, length, hidden_sizes, activation)
    network = VariationalAutoencoder(
        encoder,
        decoder,
        out_features,
        noise=noise,
        masked=masked,
        beta=beta,
        warmup=warmup,
        free_bits=free_bits,
    )
    initialize(network, initialization)
    return network


def _lengths(length: int, stages: Sequence[int]) -> list[int]:
    """Before each stage, and after the last."""
    lengths = [length]
    for _ in stages:
        lengths.append(-(-lengths[-1] // 2))
    return lengths
