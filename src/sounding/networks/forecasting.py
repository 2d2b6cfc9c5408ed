"""Networks that forecast series: linear, recurrent, convolutional, residual fully connected, and attending to patches.

Each takes windows (B, in_channels, length), of which the first `targets` channels are forecast, and answers with
(B, targets, horizon, out_features). Each of these channels goes through the same body by itself, beside all channels
that are not forecast, and is brought to mean 0 and deviation 1 within its window before, and back behind it.

A covariate that is known in the future comes shifted by the horizon: its last `horizon` points are those of the steps
that are forecast.

Sources: the reversible normalisation: Kim et al. 2022, "Reversible Instance Normalization"; channels by themselves:
Nie et al. 2023, arXiv:2211.14730; of the bodies see each.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks.transformer import TransformerEncoder

EPSILON = 1e-5
"""Added to the variance of a window, which may be constant."""


class Forecaster(nn.Module):
    """A body between a reversible normalisation and its inverse.

    Args:
        body: takes (N, 1 + covariates, length), the series first, and answers with (N, horizon * out_features).
        targets: how many of the first channels are forecast.
        horizon: steps that are forecast.
        out_features: numbers for each step, such as a mean and some quantiles.
        normalization: `reversible` by mean and deviation of each window, `last` by its last point alone, or `none`.

    Raises:
        ValueError: for another normalisation.

    >>> network = linear_forecaster(3, 2, length=24, targets=2, horizon=6)
    >>> network(torch.zeros(5, 3, 24)).shape
    torch.Size([5, 2, 6, 2])
    """

    def __init__(
        self, body: nn.Module, targets: int, horizon: int, out_features: int, normalization: str = "reversible"
    ) -> None:
        super().__init__()
        if normalization not in ("reversible", "last", "none"):
            raise ValueError(f'there is no normalization "{normalization}"; take reversible, last or none')
        self.body, self.normalization = body, normalization
        self.targets, self.horizon, self.out_features = targets, horizon, out_features

    def forward(self, series: Tensor) -> Tensor:
        """(B, in_channels, length) to (B, targets, horizon, out_features)."""
        own, others = series[:, : self.targets], series[:, self.targets :]
        centre, scale = self._statistics(own)
        own = (own - centre) / scale
        beside = others[:, None].expand(-1, self.targets, -1, -1)  # (B, targets, covariates, length)
        rows = torch.cat([own[:, :, None], beside], 2).flatten(0, 1)
        values = self.body(rows).view(-1, self.targets, self.horizon, self.out_features)
        forecast: Tensor = values * scale[..., None] + centre[..., None]
        return forecast

    def _statistics(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """What is subtracted from each window, and by what it is divided: (B, targets, 1) each."""
        if self.normalization == "reversible":
            variance, mean = torch.var_mean(own, 2, correction=0, keepdim=True)
            return mean, (variance + EPSILON).sqrt()
        last = own[..., -1:]
        return (last if self.normalization == "last" else torch.zeros_like(last)), torch.ones_like(last)


class Linear(nn.Module):
    """Straight from the window to the forecast: one linear map of its moving mean, one of the rest.

    Source: DLinear, Zeng et al. 2023, arXiv:2205.13504, section 4.
    """

    def __init__(self, covariates: int, length: int, out: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.trend, self.rest = nn.Linear(length, out), nn.Linear(length, out)
        self.beside = nn.Linear(covariates * length, out, bias=False) if covariates else None
        if self.beside is not None:
            nn.init.zeros_(self.beside.weight)

    def forward(self, rows: Tensor) -> Tensor:
        """(N, 1 + covariates, length) to (N, out)."""
        own = rows[:, :1]
        before = (self.window - 1) // 2
        padded = F.pad(own, (before, self.window - 1 - before), mode="replicate")
        trend = F.avg_pool1d(padded, self.window, 1)
        values: Tensor = self.trend(trend[:, 0]) + self.rest((own - trend)[:, 0])
        return values if self.beside is None else values + self.beside(rows[:, 1:].flatten(1))


class Lstm(nn.Module):
    """Reads the window step by step, and says all steps ahead from the last state: Hochreiter and Schmidhuber 1997."""

    def __init__(self, covariates: int, out: int, hidden_size: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.reader = nn.LSTM(
            1 + covariates, hidden_size, depth, batch_first=True, dropout=dropout if depth > 1 else 0.0
        )
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(hidden_size, out)

    def forward(self, rows: Tensor) -> Tensor:
        """(N, 1 + covariates, length) to (N, out)."""
        states, _ = self.reader(rows.mT)
        values: Tensor = self.head(self.dropout(states[:, -1]))
        return values


class TemporalConvolution(nn.Module):
    """Causal convolutions whose reach doubles from block to block: TCN, Bai et al. 2018, arXiv:1803.01271."""

    def __init__(self, covariates: int, length: int, out: int, hidden_size: int, width: int, dropout: float) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before, reach, dilation = 1 + covariates, 1, 1
        while reach < length:
            blocks.append(_Causal(before, hidden_size, width, dilation, dropout))
            reach += 2 * (width - 1) * dilation
            before, dilation = hidden_size, 2 * dilation
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(hidden_size, out)

    def forward(self, rows: Tensor) -> Tensor:
        """(N, 1 + covariates, length) to (N, out)."""
        values: Tensor = self.head(self.blocks(rows)[..., -1])
        return values


class _Causal(nn.Module):
    """Two convolutions that see no later point, and a shortcut."""

    def __init__(self, before: int, after: int, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.reach = (width - 1) * dilation
        self.first = nn.Conv1d(before, after, width, dilation=dilation)
        self.second = nn.Conv1d(after, after, width, dilation=dilation)
        self.shortcut = nn.Conv1d(before, after, 1) if before != after else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor) -> Tensor:
        found = self.dropout(F.relu(self.first(F.pad(values, (self.reach, 0)))))
        found = self.dropout(F.relu(self.second(F.pad(found, (self.reach, 0)))))
        return F.relu(found + self.shortcut(values))


class Residual(nn.Module):
    """Blocks that each explain a part of the window and say what follows from it; the next one sees what is left.

    Source: N-BEATS, Oreshkin et al. 2020, arXiv:1905.10437, section 3.1 and 3.2, with its generic blocks.
    """

    def __init__(self, covariates: int, length: int, out: int, hidden_size: int, blocks: int, layers: int) -> None:
        super().__init__()
        self.length, sizes = length, [(1 + covariates) * length, *(hidden_size,) * layers]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())),
                nn.Linear(hidden_size, length + out),
            )
            for _ in range(blocks)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """(N, 1 + covariates, length) to (N, out)."""
        left, beside = rows[:, 0], rows[:, 1:].flatten(1)
        total: Tensor | float = 0.0
        for block in self.blocks:
            backward, forward = block(torch.cat([left, beside], 1)).tensor_split([self.length], 1)
            left, total = left - backward, total + forward
        assert isinstance(total, Tensor)
        return total


class PatchTransformer(nn.Module):
    """Patches of points that follow each other attend to each other: PatchTST, Nie et al. 2023, arXiv:2211.14730."""

    def __init__(
        self,
        covariates: int,
        length: int,
        out: int,
        patch: int,
        stride: int,
        hidden_size: int,
        depth: int,
        heads: int,
        feed_forward_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        patch = min(patch, length)
        self.stride = min(stride, patch)
        self.patches = nn.Conv1d(1 + covariates, hidden_size, patch, self.stride)
        count = (length + self.stride - patch) // self.stride + 1
        self.encoder = TransformerEncoder(
            hidden_size,
            depth=depth,
            heads=heads,
            feed_forward_size=feed_forward_size,
            positions="learned",
            longest=count,
            dropout=dropout,
        )
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(count * hidden_size, out)

    def forward(self, rows: Tensor) -> Tensor:
        """(N, 1 + covariates, length) to (N, out)."""
        padded = F.pad(rows, (0, self.stride), mode="replicate")  # the last point is in two patches, as others are
        words = self.patches(padded).mT  # (N, patches, hidden_size)
        real = torch.ones(words.shape[:2], dtype=torch.bool, device=words.device)
        values: Tensor = self.head(self.dropout(self.encoder(words, real).flatten(1)))
        return values


def linear_forecaster(
    in_channels: int,
    out_features: int,
    *,
    length: int,
    targets: int,
    horizon: int,
    window: int = 25,
    normalization: str = "reversible",
) -> Forecaster:
    """Linear maps from the window to the forecast, of its moving mean over `window` points and of the rest."""
    body = Linear(in_channels - targets, length, horizon * out_features, window)
    return Forecaster(body, targets, horizon, out_features, normalization)


def lstm_forecaster(
    in_channels: int,
    out_features: int,
    *,
    length: int,
    targets: int,
    horizon: int,
    hidden_size: int = 64,
    depth: int = 1,
    dropout: float = 0.1,
    normalization: str = "reversible",
) -> Forecaster:
    """A recurrent network with `depth` layers.

    >>> lstm_forecaster(1, 1, length=24, targets=1, horizon=6)(torch.zeros(5, 1, 24)).shape
    torch.Size([5, 1, 6, 1])
    """
    body = Lstm(in_channels - targets, horizon * out_features, hidden_size, depth, dropout)
    return Forecaster(body, targets, horizon, out_features, normalization)


def tcn_forecaster(
    in_channels: int,
    out_features: int,
    *,
    length: int,
    targets: int,
    horizon: int,
    hidden_size: int = 32,
    width: int = 3,
    dropout: float = 0.1,
    normalization: str = "reversible",
) -> Forecaster:
    """Causal convolutions over `width` points, in as many blocks as it takes to see the whole window.

    >>> tcn_forecaster(1, 1, length=24, targets=1, horizon=6)(torch.zeros(5, 1, 24)).shape
    torch.Size([5, 1, 6, 1])
    """
    body = TemporalConvolution(in_channels - targets, length, horizon * out_features, hidden_size, width, dropout)
    return Forecaster(body, targets, horizon, out_features, normalization)


def nbeats_forecaster(
    in_channels: int,
    out_features: int,
    *,
    length: int,
    targets: int,
    horizon: int,
    hidden_size: int = 128,
    blocks: int = 3,
    layers: int = 3,
    normalization: str = "reversible",
) -> Forecaster:
    """Residual `blocks` of fully connected `layers`.

    >>> nbeats_forecaster(1, 1, length=24, targets=1, horizon=6)(torch.zeros(5, 1, 24)).shape
    torch.Size([5, 1, 6, 1])
    """
    body = Residual(in_channels - targets, length, horizon * out_features, hidden_size, blocks, layers)
    return Forecaster(body, targets, horizon, out_features, normalization)


def patch_transformer_forecaster(
    in_channels: int,
    out_features: int,
    *,
    length: int,
    targets: int,
    horizon: int,
    patch: int = 16,
    stride: int = 8,
    hidden_size: int = 16,
    depth: int = 3,
    heads: int = 4,
    feed_forward_size: int = 128,
    dropout: float = 0.3,
    normalization: str = "reversible",
) -> Forecaster:
    """Attention over patches of `patch` points, one every `stride` points.

    >>> patch_transformer_forecaster(1, 1, length=24, targets=1, horizon=6)(torch.zeros(5, 1, 24)).shape
    torch.Size([5, 1, 6, 1])
    """
    body = PatchTransformer(
        in_channels - targets,
        length,
        horizon * out_features,
        patch,
        stride,
        hidden_size,
        depth,
        heads,
        feed_forward_size,
        dropout,
    )
    return Forecaster(body, targets, horizon, out_features, normalization)
