"""U-Net: a picture is halved again and again, and doubled again beside what was there before each halving.

Sources: Ronneberger et al. 2015, arXiv:1505.04597 (the shape, and the skips); Zhang et al. 2018, arXiv:1711.10684
(blocks that add to what they were given); Odena et al. 2016, doi:10.23915/distill.00003 (doubling by repetition and a
convolution, where transposed convolutions leave a checkerboard).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks.activations import build_activation
from sounding.networks.initialization import initialize
from sounding.networks.normalization import build_normalization
from sounding.networks.residual import Block


class UNet(nn.Module):
    """A map of logits for each picture, as large as the picture.

    Pictures of any size: their border is repeated up to the next size that can be halved as often as is needed, and cut
    off again.

    Args:
        in_channels: 1 for grey pictures, 3 for coloured ones.
        out_features: classes.
        picture_size: height and width of the pictures; kept for what asks, as all sizes are read.
        hidden_size: channels before the first halving; each halving doubles them.
        widest: channels at most.
        levels: how often a picture is halved.
        depth: residual blocks before each halving, and after each doubling.
        stem_stride: 1, or 2 or 4: so much smaller enters the picture, and so much coarser is what is said of it before
            it is brought to the size of the picture. Time falls with the square.
        activation: a name from `ACTIVATIONS`.
        normalization: a name from `NORMALIZATIONS`, but for `none`.
        dropout: probability in [0, 1) that a channel is blanked at the bottom while training.
        initialization: a name from `INITIALIZATIONS`.

    >>> network = UNet(1, 2, picture_size=(30, 50), hidden_size=4, levels=3)
    >>> network(torch.zeros(2, 1, 30, 50)).shape
    torch.Size([2, 2, 30, 50])
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        *,
        picture_size: tuple[int, int],
        hidden_size: int = 32,
        widest: int = 256,
        levels: int = 4,
        depth: int = 1,
        stem_stride: int = 1,
        activation: str = "relu",
        normalization: str = "batch",
        dropout: float = 0.0,
        initialization: str = "default",
    ) -> None:
        super().__init__()
        if normalization == "none":
            raise ValueError('a residual network cannot do without normalization; take one, such as "batch" or "group"')
        if levels < 1 or depth < 1 or stem_stride not in (1, 2, 4):
            raise ValueError(f"levels {levels}, depth {depth}, stem_stride {stem_stride}: give 1 or more; 1, 2 or 4")
        self.picture_size, self.stem_stride, self.multiple = picture_size, stem_stride, stem_stride * 2**levels
        sizes = [min(hidden_size * 2**level, widest) for level in range(levels + 1)]
        options = True, activation, normalization, 0.0

        def blocks(before: int, channels: int, stride: int) -> nn.Sequential:
            first = Block(before, channels, stride, *options)
            return nn.Sequential(first, *(Block(channels, channels, 1, *options) for _ in range(depth - 1)))

        kernel = 3 if stem_stride == 1 else 2 * stem_stride + 1
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, sizes[0], kernel, stem_stride, padding=kernel // 2, bias=False),
            build_normalization(normalization, sizes[0], 2),
            build_activation(activation),
        )
        self.down = nn.ModuleList(
            [blocks(sizes[max(level - 1, 0)], sizes[level], 2 if level else 1) for level in range(levels + 1)]
        )
        self.dropout = nn.Dropout2d(dropout)
        # Fewer channels before a map is doubled: the same as after it, at a quarter of the cost.
        self.narrow = nn.ModuleList([nn.Conv2d(sizes[at + 1], sizes[at], 1, bias=False) for at in range(levels)])
        self.up = nn.ModuleList([blocks(2 * sizes[level], sizes[level], 1) for level in range(levels)])
        self.num_features = sizes[0]
        self.head = nn.Conv2d(sizes[0], out_features, 1)
        initialize(self, initialization)

    def forward_features(self, pictures: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, num_features, H / stem_stride, W / stem_stride), rounded up."""
        height, width = pictures.shape[2:]
        values, kept = self.stem(filled_up(pictures, self.multiple)), list[Tensor]()
        for level in self.down:
            values = level(values)
            kept.append(values)
        values = self.dropout(kept.pop())
        for narrow, level in zip(reversed(self.narrow), reversed(self.up), strict=True):
            doubled = F.interpolate(narrow(values), scale_factor=2.0, mode="nearest")
            values = level(torch.cat([doubled, kept.pop()], 1))
        features: Tensor = values[:, :, : -(-height // self.stem_stride), : -(-width // self.stem_stride)]
        return features

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, in_channels, H, W) float to logits (B, out_features, H, W)."""
        return self.resized(self.head(self.forward_features(pictures)), pictures)

    def resized(self, maps: Tensor, pictures: Tensor) -> Tensor:
        """Maps as large as those of the features, brought to the size of the pictures."""
        if self.stem_stride == 1:
            return maps
        larger = F.interpolate(maps, scale_factor=float(self.stem_stride), mode="bilinear", align_corners=False)
        return larger[:, :, : pictures.shape[2], : pictures.shape[3]]


def filled_up(pictures: Tensor, multiple: int) -> Tensor:
    """Pictures whose last row and column are repeated, until both sides are multiples: (B, C, H, W)."""
    height, width = pictures.shape[2:]
    below, right = -height % multiple, -width % multiple
    return F.pad(pictures, (0, right, 0, below), mode="replicate") if below or right else pictures
