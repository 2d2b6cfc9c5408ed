"""Convolutions of several widths over time: InceptionTime, and an ensemble of such networks.

Sources: Ismail Fawaz et al. 2020, arXiv:1909.04939 (there five networks of six blocks with 32 filters of each width);
the average over time before the head: Wang et al. 2017, arXiv:1611.06455.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tabm import LinearEnsemble
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks._lengths import MaskedBatchNorm, apart, blanked, mean_over_time

RESIDUAL = 3
"""Blocks that one shortcut spans."""


class SeriesConvolution(nn.Module):
    """Members that each look for patterns of several widths in a series, wherever these are.

    Members have nothing in common but the series: each is trained with its own loss, and their probabilities are
    averaged to predict. Padding never changes the result.

    Args:
        in_channels: channels of the series.
        out_features: outputs for a series, before any softmax.
        length: points of the longest series; it changes nothing here.
        varying: whether series have several lengths: then a last channel is 1 where there are points.
        members: how many networks there are.
        hidden_size: filters of each width.
        widths: points that the filters of a block see, odd.
        depth: blocks; a shortcut goes around every three.
        dropout: probability in [0, 1) that a feature is blanked before the head while training.

    >>> network = SeriesConvolution(2, 3, length=50)
    >>> network(torch.zeros(5, 2, 50)).shape
    torch.Size([5, 2, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        *,
        length: int,
        varying: bool = False,
        members: int = 2,
        hidden_size: int = 8,
        widths: Sequence[int] = (9, 19, 39),
        depth: int = 6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if any(width % 2 == 0 for width in widths):
            raise ValueError(f"widths are {list(widths)}; give odd ones, which have a middle")
        self.varying, self.members = varying, members
        self.networks = nn.ModuleList(_Inception(in_channels, hidden_size, widths, depth) for _ in range(members))
        self.dropout = nn.Dropout(dropout)
        self.num_features = hidden_size * (len(widths) + 1)
        self.head = LinearEnsemble(self.num_features, out_features, k=members)

    def forward_features(self, series: Tensor) -> Tensor:
        """(B, in_channels, L), with a last channel more where lengths vary, to (B, members, num_features)."""
        values, real = apart(series, self.varying)
        features = [mean_over_time(network(values, real), real) for network in self.networks]
        stacked: Tensor = self.dropout(torch.stack(features, 1))
        return stacked

    def forward(self, series: Tensor) -> Tensor:
        """(B, in_channels, L), with a last channel more where lengths vary, to logits (B, members, out_features)."""
        logits: Tensor = self.head(self.forward_features(series))
        return logits


class _Inception(nn.Module):
    """Blocks, and a shortcut around every three: (B, in_channels, L) to (B, features, L)."""

    def __init__(self, in_channels: int, hidden_size: int, widths: Sequence[int], depth: int) -> None:
        super().__init__()
        features = hidden_size * (len(widths) + 1)
        self.blocks = nn.ModuleList(
            _Block(features if block else in_channels, hidden_size, widths) for block in range(depth)
        )
        self.shortcuts = nn.ModuleList(
            nn.Conv1d(features if span else in_channels, features, 1, bias=False) for span in range(depth // RESIDUAL)
        )
        self.norms = nn.ModuleList(MaskedBatchNorm(features) for _ in self.shortcuts)

    def forward(self, values: Tensor, real: Tensor | None) -> Tensor:
        before = values
        for at, block in enumerate(self.blocks):
            values = block(values, real)
            span, place = divmod(at, RESIDUAL)
            if place == RESIDUAL - 1:
                values = values + self.norms[span](self.shortcuts[span](before), real)
            values = blanked(F.relu(values), real)
            if place == RESIDUAL - 1:
                before = values
        return values


class _Block(nn.Module):
    """Filters of each width on a few mixtures of the channels, and the largest of three points beside them."""

    def __init__(self, in_channels: int, hidden_size: int, widths: Sequence[int]) -> None:
        super().__init__()
        several = in_channels > 1
        self.mixtures = nn.Conv1d(in_channels, hidden_size, 1, bias=False) if several else nn.Identity()
        mixed = hidden_size if several else 1
        self.filters = nn.ModuleList(
            nn.Conv1d(mixed, hidden_size, width, padding=width // 2, bias=False) for width in widths
        )
        self.pooled = nn.Conv1d(in_channels, hidden_size, 1, bias=False)
        self.norm = MaskedBatchNorm(hidden_size * (len(widths) + 1))

    def forward(self, values: Tensor, real: Tensor | None) -> Tensor:
        mixed = self.mixtures(values)
        largest = F.max_pool1d(values if real is None else values.masked_fill(real == 0, -torch.inf), 3, 1, 1)
        if real is not None:
            largest = largest.masked_fill(real == 0, 0.0)
        parts = [*(found(mixed) for found in self.filters), self.pooled(largest)]
        normed: Tensor = self.norm(torch.cat(parts, 1), real)
        return normed
