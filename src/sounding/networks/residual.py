"""Residual networks: each block only adds to what it was given, so that depth never hinders the gradient.

Sources: He et al. 2016, arXiv:1512.03385 (the networks: table 1; for small pictures: section 4.2); He et al. 2019,
arXiv:1812.01187, section 4 (the stride on the 3x3 convolution of a bottleneck; the averaging shortcut); Goyal et al.
2017, arXiv:1706.02677, section 5.1 (each block begins as the identity); Huang et al. 2016, arXiv:1603.09382
(stochastic depth).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from sounding.networks.activations import build_activation
from sounding.networks.initialization import initialize
from sounding.networks.normalization import build_normalization
from sounding.networks.stochastic_depth import StochasticDepth, linear_decay


class ResNet(nn.Module):
    """Stages of residual blocks, with the picture halved between them, and the average over what is left.

    Pictures with more than 64 pixels on their shorter side enter through a 7x7 convolution and a maximum that leave
    a quarter of each side; smaller ones through a 3x3 convolution that leaves all of it. What measured best on small
    pictures, in the time it takes: a narrow convolution of the whole picture, then a first stage that halves it.

    Args:
        in_channels: 1 for grey pictures, 3 for coloured ones.
        out_features: outputs for a picture, before any softmax.
        picture_size: height and width of the pictures, in pixels.
        stem_size: channels of the convolution through which a picture enters; those of the first stage if 0.
        hidden_sizes: channels of each stage.
        depths: blocks in each stage.
        halve_first: whether the first stage halves the picture too: only one that entered whole, and has 16 pixels.
        bottleneck: whether a block is 1x1, 3x3 and 1x1 to four times the channels, instead of two 3x3.
        average_shortcut: whether a shortcut that halves the picture averages four pixels, instead of taking one.
        activation: a name from `ACTIVATIONS`.
        normalization: a name from `NORMALIZATIONS`, but for `none`: the blocks begin as the identity by its weights.
        dropout: probability in [0, 1) that a feature is blanked before the head while training.
        stochastic_depth: probability in [0, 1) that the last block is left out for an example while training; it falls
            evenly towards the first.
        initialization: a name from `INITIALIZATIONS`.

    >>> import torch
    >>> network = ResNet(1, 10, picture_size=(28, 28))
    >>> network(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        *,
        picture_size: tuple[int, int],
        stem_size: int = 32,
        hidden_sizes: Sequence[int] = (64, 128, 256),
        depths: Sequence[int] = (1, 1, 1),
        halve_first: bool = True,
        bottleneck: bool = False,
        average_shortcut: bool = True,
        activation: str = "relu",
        normalization: str = "batch",
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        initialization: str = "default",
    ) -> None:
        super().__init__()
        if normalization == "none":
            raise ValueError('a residual network cannot do without normalization; take one, such as "batch" or "group"')
        if len(hidden_sizes) != len(depths):
            raise ValueError(f"hidden_sizes has {len(hidden_sizes)} stages and depths {len(depths)}; give as many")
        large = min(picture_size) > 64
        whole_first = large or min(picture_size) < 16 or not halve_first
        before = stem_size or hidden_sizes[0]
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, before, 7, 2, padding=3, bias=False)
            if large
            else nn.Conv2d(in_channels, before, 3, padding=1, bias=False),
            build_normalization(normalization, before, 2),
            build_activation(activation),
            nn.MaxPool2d(3, 2, padding=1) if large else nn.Identity(),
        )
        build = Bottleneck if bottleneck else Block
        drops = iter(linear_decay(stochastic_depth, sum(depths)))
        blocks: list[nn.Module] = []
        self._ends, halved = list[int](), 2 if large else 0
        for stage, (channels, depth) in enumerate(zip(hidden_sizes, depths, strict=True)):
            for place in range(depth):
                stride = 1 if place or (whole_first and not stage) else 2
                options = average_shortcut, activation, normalization, next(drops)
                blocks.append(build(before, channels, stride, *options))
                before = channels * build.expansion
                halved += stride == 2
            self._ends.append(len(blocks))
        self.multiple = 2**halved
        self.stage_sizes = (stem_size or hidden_sizes[0], *(channels * build.expansion for channels in hidden_sizes))
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.num_features = before
        self.head: nn.Module = nn.Linear(before, out_features)
        initialize(self, initialization)

    def forward_maps(self, pictures: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, num_features, h, w): the features of each place."""
        maps: Tensor = self.blocks(self.stem(pictures))
        return maps

    def forward_stages(self, pictures: Tensor) -> list[Tensor]:
        """The maps from which others decode: of the first convolution, before any maximum, and of each stage.

        Those of pictures whose sides are no multiples of `multiple` are not halves of each other.
        """
        maps: list[Tensor] = [self.stem[:-1](pictures)]
        values, begin = self.stem[-1](maps[0]), 0
        for end in self._ends:
            values = self.blocks[begin:end](values)
            maps.append(values)
            begin = end
        return maps

    def forward_features(self, pictures: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, num_features)."""
        features: Tensor = self.dropout(self.forward_maps(pictures).mean((2, 3)))
        return features

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, in_channels, H, W) float to logits (B, out_features)."""
        logits: Tensor = self.head(self.forward_features(pictures))
        return logits


class Block(nn.Module):
    """Two 3x3 convolutions, and what came in added to what comes out."""

    expansion = 1

    def __init__(
        self,
        before: int,
        channels: int,
        stride: int,
        average_shortcut: bool,
        activation: str,
        normalization: str,
        stochastic_depth: float,
    ) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.Conv2d(before, channels, 3, stride, padding=1, bias=False),
            build_normalization(normalization, channels, 2),
            build_activation(activation),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            _silent_norm(normalization, channels),
        )
        self.stochastic_depth = StochasticDepth(stochastic_depth)
        self.shortcut = _shortcut(before, channels, stride, average_shortcut, normalization)
        self.activation = build_activation(activation)

    def forward(self, values: Tensor) -> Tensor:
        """(B, before, H, W) to (B, channels, H / stride, W / stride), rounded up."""
        after: Tensor = self.activation(self.shortcut(values) + self.stochastic_depth(self.change(values)))
        return after


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1 that narrow and widen, and what came in added to what comes out."""

    expansion = 4

    def __init__(
        self,
        before: int,
        channels: int,
        stride: int,
        average_shortcut: bool,
        activation: str,
        normalization: str,
        stochastic_depth: float,
    ) -> None:
        super().__init__()
        after = channels * self.expansion
        self.change = nn.Sequential(
            nn.Conv2d(before, channels, 1, bias=False),
            build_normalization(normalization, channels, 2),
            build_activation(activation),
            nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False),
            build_normalization(normalization, channels, 2),
            build_activation(activation),
            nn.Conv2d(channels, after, 1, bias=False),
            _silent_norm(normalization, after),
        )
        self.stochastic_depth = StochasticDepth(stochastic_depth)
        self.shortcut = _shortcut(before, after, stride, average_shortcut, normalization)
        self.activation = build_activation(activation)

    def forward(self, values: Tensor) -> Tensor:
        """(B, before, H, W) to (B, 4 * channels, H / stride, W / stride), rounded up."""
        after: Tensor = self.activation(self.shortcut(values) + self.stochastic_depth(self.change(values)))
        return after


def _silent_norm(normalization: str, channels: int) -> nn.Module:
    """A normalization whose output is zero at first: its block begins as the identity."""
    norm = build_normalization(normalization, channels, 2)
    nn.init.zeros_(cast("nn.Parameter", norm.weight))
    return norm


def _shortcut(before: int, after: int, stride: int, average: bool, normalization: str) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    norm = build_normalization(normalization, after, 2)
    if stride == 1 or not average:
        return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), norm)
    pool = nn.AvgPool2d(stride, ceil_mode=True)
    return nn.Sequential(pool, nn.Conv2d(before, after, 1, bias=False), norm)


Size = tuple[int, int]


def resnet18(in_channels: int, out_features: int, *, picture_size: Size, dropout: float = 0.0) -> ResNet:
    """ResNet-18: 11.7 million parameters for 1000 classes."""
    return _of_the_paper(in_channels, out_features, picture_size, (2, 2, 2, 2), False, dropout)


def resnet34(in_channels: int, out_features: int, *, picture_size: Size, dropout: float = 0.0) -> ResNet:
    """ResNet-34: 21.8 million parameters for 1000 classes."""
    return _of_the_paper(in_channels, out_features, picture_size, (3, 4, 6, 3), False, dropout)


def resnet50(in_channels: int, out_features: int, *, picture_size: Size, dropout: float = 0.0) -> ResNet:
    """ResNet-50: 25.6 million parameters for 1000 classes."""
    return _of_the_paper(in_channels, out_features, picture_size, (3, 4, 6, 3), True, dropout)


def _of_the_paper(
    in_channels: int, out_features: int, size: Size, depths: Sequence[int], bottleneck: bool, dropout: float
) -> ResNet:
    return ResNet(
        in_channels,
        out_features,
        picture_size=size,
        stem_size=64,
        hidden_sizes=(64, 128, 256, 512),
        depths=depths,
        halve_first=False,
        bottleneck=bottleneck,
        average_shortcut=False,
        dropout=dropout,
        initialization="he",
    )
