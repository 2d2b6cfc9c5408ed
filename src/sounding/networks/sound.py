"""Networks for recordings: residual convolutions over time, alone or with recurrent layers on top.

The bands of a spectrogram are channels, and convolutions move over time alone, which takes a fraction of the work of
convolutions over both: Choi et al. 2019, arXiv:1904.03814.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks._lengths import MaskedBatchNorm, mean_over_time
from sounding.networks.recurrent import RecurrentEncoder
from sounding.networks.spectrogram import HOP, LogMel, Masked


class SoundConvolution(nn.Module):
    """Residual convolutions over the bands of a spectrogram, and the mean and the largest over time.

    Padding never changes the result.

    Args:
        out_features: outputs for a recording, before any softmax.
        rate: samples a second.
        bands: of the spectrogram, see `LogMel`.
        stem_size: channels of the first convolution.
        hidden_sizes: channels of each residual block, each of which halves the frames.
        width: frames that a convolution sees, odd.
        masks: stretches of time and of bands that are hidden while training, see `Masked`.
        dropout: probability in [0, 1) that a feature is blanked before the head while training.

    >>> network = SoundConvolution(10, rate=8000)
    >>> network(torch.zeros(2, 4000, dtype=torch.int16)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        out_features: int,
        *,
        rate: int,
        bands: int = 40,
        stem_size: int = 64,
        hidden_sizes: Sequence[int] = (96, 128, 160),
        width: int = 9,
        masks: int = 1,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.spectrogram = LogMel(rate, bands=bands)
        self.masked = Masked(masks, bands=8, share=0.2)
        self.frames = _Frames(bands, stem_size, hidden_sizes, width, [2] * len(hidden_sizes))
        self.dropout = nn.Dropout(dropout)
        self.num_features = 2 * self.frames.num_features
        self.head = nn.Linear(self.num_features, out_features)

    def forward_features(self, samples: Tensor) -> Tensor:
        """(B, L) int16 samples, `SILENCE` behind the last of each, to (B, num_features)."""
        values, lengths = self.spectrogram(samples)
        values, real = self.frames(self.masked(values, lengths), lengths)
        largest = values.masked_fill(real == 0, float("-inf")).amax(2)
        features: Tensor = self.dropout(torch.cat([mean_over_time(values, real), largest], 1))
        return features

    def forward(self, samples: Tensor) -> Tensor:
        """(B, L) int16 samples, `SILENCE` behind the last of each, to logits (B, out_features)."""
        logits: Tensor = self.head(self.forward_features(samples))
        return logits


class SoundRecurrent(nn.Module):
    """Convolutions over the bands of a spectrogram, then recurrent layers that read the frames from both ends.

    Args:
        out_features: outputs for a recording, before any softmax.
        rate: samples a second.
        bands: of the spectrogram, see `LogMel`.
        stem_size: channels of the first convolution.
        convolution_sizes: channels of each residual block, of which each but the last halves the frames.
        width: frames that a convolution sees, odd.
        cell: `rnn`, `gru` or `lstm`.
        hidden_sizes: the state of each recurrent layer, in each direction.
        pooling: `last` answers from the last states, `mean` and `max` from the states at all frames.
        masks: stretches of time and of bands that are hidden while training, see `Masked`.
        dropout: probability in [0, 1) that an entry is blanked between layers and before the head while training.

    >>> network = SoundRecurrent(10, rate=8000)
    >>> network(torch.zeros(2, 4000, dtype=torch.int16)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        out_features: int,
        *,
        rate: int,
        bands: int = 40,
        stem_size: int = 64,
        convolution_sizes: Sequence[int] = (96, 96),
        width: int = 9,
        cell: str = "gru",
        hidden_sizes: Sequence[int] = (96,),
        pooling: str = "max",
        masks: int = 1,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.spectrogram = LogMel(rate, bands=bands)
        self.masked = Masked(masks, bands=8, share=0.2)
        strides = [2] * (len(convolution_sizes) - 1) + [1]
        self.frames = _Frames(bands, stem_size, convolution_sizes, width, strides)
        self.encoder = RecurrentEncoder(
            self.frames.num_features, cell=cell, hidden_sizes=hidden_sizes, pooling=pooling, dropout=dropout
        )
        self.dropout = nn.Dropout(dropout)
        self.num_features = self.encoder.num_features
        self.head = nn.Linear(self.num_features, out_features)

    def forward_features(self, samples: Tensor) -> Tensor:
        """(B, L) int16 samples, `SILENCE` behind the last of each, to (B, num_features)."""
        values, lengths = self.spectrogram(samples)
        values, real = self.frames(self.masked(values, lengths), lengths)
        features: Tensor = self.dropout(self.encoder(self.dropout(values.mT), real.sum((1, 2)).long()))
        return features

    def forward(self, samples: Tensor) -> Tensor:
        """(B, L) int16 samples, `SILENCE` behind the last of each, to logits (B, out_features)."""
        logits: Tensor = self.head(self.forward_features(samples))
        return logits


class Frames(NamedTuple):
    """What a network says of each frame of a recording."""

    logits: Tensor
    """(B, frames, out_features)."""
    lengths: Tensor
    """(B,) float: how many of these frames are there; what is behind means nothing."""


class SoundFrames(nn.Module):
    """Convolutions, then recurrent layers, which say something about every frame: to be trained by CTC.

    Args:
        out_features: outputs for a frame, before any softmax.
        rate: samples a second.
        bands: of the spectrogram, see `LogMel`.
        stem_size: channels of the first convolution.
        convolution_sizes: channels of each residual block, of which the first halves the frames: they come every 20 ms.
        width: frames that a convolution sees, odd.
        hidden_sizes: the state of each recurrent layer (LSTM), in each direction.
        masks: stretches of time and of bands that are hidden while training, see `Masked`.
        dropout: probability in [0, 1) that an entry is blanked between layers and before the head while training.

    >>> network = SoundFrames(28, rate=8000)
    >>> network(torch.zeros(2, 4000, dtype=torch.int16)).logits.shape
    torch.Size([2, 26, 28])
    """

    def __init__(
        self,
        out_features: int,
        *,
        rate: int,
        bands: int = 40,
        stem_size: int = 64,
        convolution_sizes: Sequence[int] = (64, 96, 96),
        width: int = 5,
        hidden_sizes: Sequence[int] = (96,),
        masks: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.spectrogram = LogMel(rate, bands=bands)
        self.masked = Masked(masks, bands=8, share=0.1)
        strides = [2] + [1] * (len(convolution_sizes) - 1)
        self.frames = _Frames(bands, stem_size, convolution_sizes, width, strides)
        sizes = [self.frames.num_features, *(2 * size for size in hidden_sizes)]
        self.layers = nn.ModuleList(_BothWays(before, size) for before, size in zip(sizes, hidden_sizes, strict=False))
        self.dropout = nn.Dropout(dropout)
        self.num_features = sizes[-1]
        self.head = nn.Linear(self.num_features, out_features)

    @staticmethod
    def frames_of(samples: Any, rate: int) -> Any:
        """How many frames it says something about, for so many samples: a number or an array of them."""
        return (1 + samples // max(round(HOP * rate), 1) + 1) // 2

    def forward_frames(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L) int16 samples to features (B, frames, num_features) and (B,) how many frames each row has."""
        values, lengths = self.spectrogram(samples)
        values, real = self.frames(self.masked(values, lengths), lengths)
        counts = real.sum((1, 2)).long()
        values = self.dropout(values.mT)
        for layer in self.layers:
            values = self.dropout(layer(values, counts))
        return values, counts

    def forward_features(self, samples: Tensor) -> Tensor:
        """(B, L) int16 samples, `SILENCE` behind the last of each, to (B, frames, num_features)."""
        return self.forward_frames(samples)[0]

    def forward(self, samples: Tensor) -> Frames:
        """(B, L) int16 samples, `SILENCE` behind the last of each, to what is said of each frame."""
        features, counts = self.forward_frames(samples)
        return Frames(self.head(features), counts.float())  # bfloat16 has no 287


class _BothWays(nn.Module):
    """An LSTM that reads from the first frame, and one that reads from the last: (B, L, before) to (B, L, 2 * size).

    Sequences are turned about by hand and not packed: PyTorch trains packed ones of several lengths in time that grows
    with the square of the length.
    """

    def __init__(self, before: int, size: int) -> None:
        super().__init__()
        self.onward = nn.LSTM(before, size, batch_first=True)
        self.back = nn.LSTM(before, size, batch_first=True)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        places = torch.arange(values.shape[1], device=values.device)
        turned = lengths[:, None] - 1 - places
        turned = torch.where(turned < 0, places, turned)[:, :, None]  # what is behind the end stays there
        back = self.back(values.gather(1, turned.expand_as(values)))[0]
        return torch.cat([self.onward(values)[0], back.gather(1, turned.expand_as(back))], 2)


class _Frames(nn.Module):
    """A convolution and residual blocks over time: (B, bands, L) to (B, num_features, frames), and which are there."""

    def __init__(
        self, bands: int, stem_size: int, hidden_sizes: Sequence[int], width: int, strides: Sequence[int]
    ) -> None:
        super().__init__()
        if width % 2 == 0:
            raise ValueError(f"width is {width}; give an odd number, which has a middle")
        self.stem = nn.Conv1d(bands, stem_size, 3, padding=1, bias=False)
        self.norm = MaskedBatchNorm(stem_size)
        sizes = [stem_size, *hidden_sizes]
        self.blocks = nn.ModuleList(
            _Block(before, size, width, stride)
            for before, size, stride in zip(sizes, hidden_sizes, strides, strict=False)
        )
        self.num_features = sizes[-1]

    def forward(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.arange(values.shape[2], device=values.device)
        real = (places < lengths[:, None])[:, None].to(values)  # (B, 1, L)
        values = F.relu(self.norm(self.stem(values), real)) * real
        for block in self.blocks:
            values, real = block(values, real)
        return values, real


class _Block(nn.Module):
    """Two convolutions and a shortcut around them; what is behind the end of a recording stays 0."""

    def __init__(self, before: int, after: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.first = nn.Conv1d(before, after, width, stride, padding=width // 2, bias=False)
        self.second = nn.Conv1d(after, after, width, padding=width // 2, bias=False)
        self.norms = nn.ModuleList(MaskedBatchNorm(after) for _ in range(2))
        same = before == after and stride == 1
        self.shortcut = None if same else nn.Conv1d(before, after, 1, stride, bias=False)
        self.shortcut_norm = None if same else MaskedBatchNorm(after)

    def forward(self, values: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        after = real[:, :, :: self.stride]
        short = values
        if self.shortcut is not None and self.shortcut_norm is not None:
            short = self.shortcut_norm(self.shortcut(values), after)
        values = F.relu(self.norms[0](self.first(values), after)) * after
        values = self.norms[1](self.second(values), after)
        return F.relu(values + short) * after, after
