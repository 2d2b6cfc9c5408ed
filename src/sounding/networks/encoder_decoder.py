"""A light encoder-decoder: any encoder of pictures, and few layers that bring its maps of all sizes together.

Sources: Kirillov et al. 2019, arXiv:1901.02446 (one map from those of all stages, each enlarged by a convolution and a
doubling at a time); Lin et al. 2017, arXiv:1612.03144 (what is coarse is added to what is finer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks.activations import build_activation
from sounding.networks.initialization import initialize
from sounding.networks.normalization import build_normalization
from sounding.networks.residual import ResNet
from sounding.networks.unet import filled_up


class Stages(Protocol):
    """What an encoder offers."""

    stage_sizes: Sequence[int]
    """Channels of the map that each stage gives, from the finest to the coarsest."""
    multiple: int
    """Both sides of a picture are multiples of this."""

    def forward_stages(self, pictures: Tensor) -> list[Tensor]:
        """(B, C, H, W) to a map (B, stage_sizes[i], h, w) of each stage; each as large as the last, or a half."""


class EncoderDecoder(nn.Module):
    """A map of logits for each picture, as large as the picture, from the maps of an encoder.

    encoder:       any module with `forward_stages`, `stage_sizes` and `multiple`, such as `ResNet`; trained before, or
                   not.
    out_features:  classes.
    hidden_size:   channels of the decoder.

    >>> import torch
    >>> encoder = ResNet(3, 5, picture_size=(30, 50), hidden_sizes=(8, 16), depths=(1, 1))
    >>> EncoderDecoder(encoder, 2, hidden_size=8)(torch.zeros(1, 3, 30, 50)).shape
    torch.Size([1, 2, 30, 50])
    """

    def __init__(
        self,
        encoder: nn.Module,
        out_features: int,
        *,
        hidden_size: int = 64,
        activation: str = "relu",
        normalization: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        sizes = cast("Stages", encoder).stage_sizes
        self.narrow = nn.ModuleList([nn.Conv2d(size, hidden_size, 1) for size in sizes])
        self.mix = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(hidden_size, hidden_size, 3, padding=1, bias=False),
                    build_normalization(normalization, hidden_size, 2),
                    build_activation(activation),
                )
                for _ in sizes
            ]
        )
        self.dropout = nn.Dropout2d(dropout)
        self.num_features = hidden_size
        self.head = nn.Conv2d(hidden_size, out_features, 1)

    def forward_features(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) to (B, num_features, h, w), as large as the finest map of the encoder."""
        encoder = cast("Stages", self.encoder)
        maps = encoder.forward_stages(filled_up(pictures, encoder.multiple))
        narrow, mix = list(self.narrow), list(self.mix)
        values = mix.pop()(narrow.pop()(maps.pop()))
        while maps:
            finer = narrow.pop()(maps.pop())
            if finer.shape[2:] != values.shape[2:]:
                values = F.interpolate(values, scale_factor=2.0, mode="bilinear", align_corners=False)
            values = mix.pop()(finer + values)
        features: Tensor = self.dropout(values)
        return features

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) float to logits (B, out_features, H, W)."""
        return self.resized(self.head(self.forward_features(pictures)), pictures)

    def resized(self, maps: Tensor, pictures: Tensor) -> Tensor:
        """Maps as large as those of the features, brought to the size of the pictures."""
        height, width = pictures.shape[2:]
        multiple = cast("Stages", self.encoder).multiple
        whole = (height + -height % multiple, width + -width % multiple)
        if maps.shape[2:] != whole:
            maps = F.interpolate(maps, whole, mode="bilinear", align_corners=False)
        return maps[:, :, :height, :width]


def encoder_decoder(
    in_channels: int,
    out_features: int,
    *,
    picture_size: tuple[int, int],
    decoder_size: int = 64,
    stem_size: int = 32,
    hidden_sizes: Sequence[int] = (64, 128, 256, 256),
    depths: Sequence[int] = (1, 1, 1, 1),
    halve_first: bool = True,
    bottleneck: bool = False,
    average_shortcut: bool = True,
    activation: str = "relu",
    normalization: str = "batch",
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    initialization: str = "default",
) -> EncoderDecoder:
    """The same with a `ResNet` as its encoder: its options are those of that one, and `decoder_size`."""
    encoder = ResNet(
        in_channels,
        1,
        picture_size=picture_size,
        stem_size=stem_size,
        hidden_sizes=hidden_sizes,
        depths=depths,
        halve_first=halve_first,
        bottleneck=bottleneck,
        average_shortcut=average_shortcut,
        activation=activation,
        normalization=normalization,
        stochastic_depth=stochastic_depth,
        initialization=initialization,
    )
    encoder.head = nn.Identity()
    network = EncoderDecoder(
        encoder,
        out_features,
        hidden_size=decoder_size,
        activation=activation,
        normalization=normalization,
        dropout=dropout,
    )
    initialize(network, initialization)
    return network
