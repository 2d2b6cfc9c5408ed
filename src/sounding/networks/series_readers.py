"""Networks that read a series point by point, and networks whose stretches of points look at each other.

Sources: those of `recurrent` and `transformer`; stretches of points as words: Nie et al. 2023, arXiv:2211.14730.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks._lengths import apart, shortened
from sounding.networks.initialization import initialize
from sounding.networks.recurrent import RecurrentEncoder
from sounding.networks.transformer import TransformerEncoder


class SeriesRecurrent(nn.Module):
    """Reads a series point by point, from both ends, exactly as far as it goes.

    Args:
        in_channels: channels of the series.
        out_features: outputs for a series, before any softmax.
        length: points of the longest series; it changes nothing here.
        varying: whether series have several lengths: then a last channel is 1 where there are points.
        cell: `rnn`, `gru` or `lstm`.
        hidden_sizes: the state of each layer (in each direction), from the points up.
        bidirectional: whether every layer also reads from the end.
        pooling: `last` answers from the state after the last point, `mean` and `max` from the states at all points.
        dropout: probability in [0, 1) that an entry of a state is blanked between layers and before the head.
        initialization: a name from `INITIALIZATIONS`.

    >>> SeriesRecurrent(2, 3, length=50)(torch.zeros(5, 2, 50)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        *,
        length: int,
        varying: bool = False,
        cell: str = "gru",
        hidden_sizes: Sequence[int] = (64,),
        bidirectional: bool = True,
        pooling: str = "max",
        dropout: float = 0.1,
        initialization: str = "default",
    ) -> None:
        super().__init__()
        self.varying = varying
        self.encoder = RecurrentEncoder(
            in_channels,
            cell=cell,
            hidden_sizes=hidden_sizes,
            bidirectional=bidirectional,
            pooling=pooling,
            dropout=dropout,
        )
        self.dropout = nn.Dropout(dropout)
        self.num_features = self.encoder.num_features
        self.head = nn.Linear(self.num_features, out_features)
        initialize(self, initialization)

    def forward_features(self, series: Tensor) -> Tensor:
        """(B, in_channels, L), with a last channel more where lengths vary, to (B, num_features)."""
        values, real = apart(series, self.varying)
        rows, _, length = values.shape
        lengths = torch.full((rows,), length) if real is None else real.sum((1, 2)).long()
        features: Tensor = self.dropout(self.encoder(values.mT, lengths))
        return features

    def forward(self, series: Tensor) -> Tensor:
        """(B, in_channels, L), with a last channel more where lengths vary, to logits (B, out_features)."""
        logits: Tensor = self.head(self.forward_features(series))
        return logits


class SeriesTransformer(nn.Module):
    """Cuts a series into stretches of points that follow each other, and lets these look at each other.

    Args:
        in_channels: channels of the series.
        out_features: outputs for a series, before any softmax.
        length: points of the longest series; stretches are so long that there are about `stretches` of them.
        varying: whether series have several lengths: then a last channel is 1 where there are points.
        stretches: about how many there are.
        hidden_size: numbers that stand for a stretch, in every layer.
        depth: layers.
        heads: ways of attending in each layer; `hidden_size` is a multiple of it.
        positions: how a stretch knows its place: see `TransformerNetwork`.
        dropout: probability in [0, 1) that an entry is blanked while training.
        initialization: a name from `INITIALIZATIONS`.

    >>> SeriesTransformer(2, 3, length=50)(torch.zeros(5, 2, 50)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        *,
        length: int,
        varying: bool = False,
        stretches: int = 32,
        hidden_size: int = 64,
        depth: int = 2,
        heads: int = 4,
        positions: str = "rotary",
        dropout: float = 0.1,
        initialization: str = "xavier",
    ) -> None:
        super().__init__()
        self.varying, self.points = varying, max(round(length / stretches), 1)
        self.embedding = nn.Conv1d(in_channels + varying, hidden_size, self.points, self.points)
        self.encoder = TransformerEncoder(hidden_size, depth=depth, heads=heads, positions=positions, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.num_features = hidden_size
        self.head = nn.Linear(hidden_size, out_features)
        initialize(self, initialization)

    def forward_features(self, series: Tensor) -> Tensor:
        """(B, in_channels, L), with a last channel more where lengths vary, to (B, num_features)."""
        series = shortened(series) if self.varying else series
        missing = -series.shape[2] % self.points
        series = F.pad(series, (0, missing))  # zeros, the mean, behind the last point
        words = self.embedding(series).mT  # (B, stretches, hidden_size)
        real = torch.ones(words.shape[:2], dtype=torch.bool, device=words.device)
        if self.varying:
            real = F.max_pool1d(series[:, -1:], self.points).squeeze(1) > 0
        words = self.encoder(words, real)
        weights = real.to(words)[..., None]  # (B, stretches, 1)
        features: Tensor = self.dropout((words * weights).sum(1) / weights.sum(1))
        return features

    def forward(self, series: Tensor) -> Tensor:
        """(B, in_channels, L), with a last channel more where lengths vary, to logits (B, out_features)."""
        logits: Tensor = self.head(self.forward_features(series))
        return logits
