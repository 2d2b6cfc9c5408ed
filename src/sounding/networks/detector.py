"""A detector without anchor boxes: every place of three feature maps says what is there, and how far its edges are.

Sources: Tian et al. 2019, arXiv:1904.01355 (FCOS: distances to four edges at each place of a pyramid, no anchor boxes);
Lin et al. 2017, arXiv:1612.03144 (feature pyramid) and arXiv:1708.02002, section 3.3 (the prior of the classes); Liu et
al. 2018, arXiv:1803.01534 (the second way, from fine maps back to coarse ones); He et al. 2016, arXiv:1512.03385
(residual blocks).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks.activations import build_activation
from sounding.networks.normalization import build_normalization
from sounding.networks.residual import Block

PRIOR = 0.01
"""The probability of every class at every place before training: most places are background."""
STRIDES = (8, 16, 32)
"""Pixels from one place to the next, of each map."""


class Detections(NamedTuple):
    """What a detector says at all places A of its maps, the finest first, row by row."""

    logits: Tensor
    """(B, A, classes): of each class on its own, before a sigmoid."""
    boxes: Tensor
    """(B, A, 4) float32: left, top, right, bottom in pixels of the picture that was seen; they may reach out of it."""
    places: Tensor
    """(B, A, 3) float32: x and y of the middle of each place in pixels, and the stride of its map; all rows alike."""


class Detector(nn.Module):
    """Residual stages, a pyramid of their maps at strides 8, 16 and 32, and one head for all of them.

    Args:
        in_channels: 1 for grey pictures, 3 for coloured ones.
        out_features: classes.
        picture_size: height and width of the pictures, in pixels; those of any other size are taken as well.
        stem_size: channels of the convolution through which a picture enters, which halves it.
        hidden_sizes: channels of the stages at strides 4, 8, 16 and 32.
        depths: residual blocks of each stage.
        pyramid_size: channels of the maps of the pyramid and of the head.
        head_depth: convolutions of the head before it speaks, of classes and of edges apart.
        activation: a name from `ACTIVATIONS`.
        normalization: a name from `NORMALIZATIONS`, but for `none`.
        dropout: probability in [0, 1) that a channel of the pyramid is blanked while training.

    >>> network = Detector(3, 2, picture_size=(64, 96))
    >>> found = network(torch.zeros(1, 3, 64, 96))
    >>> found.logits.shape, found.boxes.shape  # 8 x 12 + 4 x 6 + 2 x 3 places
    (torch.Size([1, 126, 2]), torch.Size([1, 126, 4]))
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        *,
        picture_size: tuple[int, int],
        stem_size: int = 16,
        hidden_sizes: Sequence[int] = (32, 64, 128, 192),
        depths: Sequence[int] = (1, 2, 2, 1),
        pyramid_size: int = 64,
        head_depth: int = 2,
        activation: str = "silu",
        normalization: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if normalization == "none":
            raise ValueError('a detector cannot do without normalization; take one, such as "batch" or "group"')
        if len(hidden_sizes) != 4 or len(depths) != 4:
            raise ValueError("a detector has four stages; give four hidden_sizes and four depths")

        def layer(before: int, after: int, width: int, stride: int = 1) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(before, after, width, stride, padding=width // 2, bias=False),
                build_normalization(normalization, after, 2),
                build_activation(activation),
            )

        self.stem = layer(in_channels, stem_size, 3, 2)
        before, stages = stem_size, list[nn.Module]()
        for channels, depth in zip(hidden_sizes, depths, strict=True):
            blocks = list[nn.Module]()
            for place in range(depth):
                blocks.append(Block(before, channels, 1 if place else 2, True, activation, normalization, 0.0))
                before = channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        size = pyramid_size
        self.lateral = nn.ModuleList(layer(channels, size, 1) for channels in hidden_sizes[1:])
        self.down = nn.ModuleList(layer(size, size, 3) for _ in STRIDES[:-1])  # from coarse maps to fine ones
        self.up = nn.ModuleList(layer(size, size, 3, 2) for _ in STRIDES[:-1])  # and back
        self.dropout = nn.Dropout2d(dropout)
        self.num_features = size
        self.head = Head(size, out_features, head_depth, layer)

    def forward_features(self, pictures: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) to three maps (B, num_features, H / stride, W / stride), rounded up."""
        values, maps = self.stem(pictures), list[Tensor]()
        for stage in self.stages:
            values = stage(values)
            maps.append(values)
        fine, middle, coarse = (change(values) for change, values in zip(self.lateral, maps[1:], strict=True))
        middle = self.down[0](middle + _like(coarse, middle))
        fine = self.down[1](fine + _like(middle, fine))
        middle = middle + self.up[0](fine)
        coarse = coarse + self.up[1](middle)
        return [self.dropout(values) for values in (fine, middle, coarse)]

    def forward(self, pictures: Tensor) -> Detections:
        """(B, in_channels, H, W) float to what is found at every place."""
        found: Detections = self.head(self.forward_features(pictures))
        return found


class Head(nn.Module):
    """What is there, and where its edges are, at every place; the same weights for all maps.

    An edge is softplus(output) strides away from the middle of its place, so that no box is inverted.
    """

    def __init__(self, size: int, classes: int, depth: int, layer: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.of_classes = nn.Sequential(*(layer(size, size, 3) for _ in range(depth)))
        self.of_edges = nn.Sequential(*(layer(size, size, 3) for _ in range(depth)))
        self.classes, self.edges = nn.Conv2d(size, classes, 1), nn.Conv2d(size, 4, 1)
        self.scales = nn.Parameter(torch.ones(len(STRIDES)))
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.constant_(self.classes.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]
        nn.init.normal_(self.edges.weight, std=0.01)
        nn.init.constant_(self.edges.bias, 2.0)  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> Detections:
        """From maps (B, size, h, w), the finest first."""
        logits, boxes, places = list[Tensor](), list[Tensor](), list[Tensor]()
        for stride, scale, values in zip(STRIDES, self.scales, maps, strict=True):
            logits.append(self.classes(self.of_classes(values)).flatten(2).transpose(1, 2))
            edges = _whole(self.edges(self.of_edges(values)).flatten(2).transpose(1, 2))
            distances = F.softplus(edges * scale) * stride
            middle = middles(values.shape[2], values.shape[3], stride, distances)
            boxes.append(torch.cat([middle - distances[..., :2], middle + distances[..., 2:]], 2))
            strides = torch.full_like(middle[:, :1], stride)
            places.append(torch.cat([middle, strides], 1).expand(values.shape[0], -1, -1))
        return Detections(_whole(torch.cat(logits, 1)), torch.cat(boxes, 1), torch.cat(places, 1))


def middles(height: int, width: int, stride: int, like: Tensor) -> Tensor:
    """(height * width, 2): x and y of the middle of each place of a map, in pixels.

    >>> middles(1, 2, 8, torch.zeros(1)).tolist()
    [[4.0, 4.0], [12.0, 4.0]]
    """
    down, right = (torch.arange(count, dtype=like.dtype, device=like.device) for count in (height, width))
    y, x = torch.meshgrid(down, right, indexing="ij")
    return (torch.stack([x.flatten(), y.flatten()], 1) + 0.5) * stride


def _whole(values: Tensor) -> Tensor:
    """At least float32: pixels of a picture have more digits than a half has."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _like(values: Tensor, other: Tensor) -> Tensor:
    """A coarse map as large as a finer one, by the nearest place."""
    return F.interpolate(values, size=other.shape[2:], mode="nearest")
