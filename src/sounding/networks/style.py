"""Pictures in the style of others: what layers of a convolutional network say of them, and a network that paints.

Sources: Gatys et al. 2016, "Image style transfer using convolutional neural networks" (content are the features of a
layer, style their Gram matrices); Johnson et al. 2016, arXiv:1603.08155 (a network that paints in one pass); Ulyanov et
al. 2017, arXiv:1701.02096 (instance normalization in it); Odena et al. 2016, "Deconvolution and checkerboard artifacts"
(enlarged by the nearest pixel, then convolved); Ustyuzhaninov et al. 2016, arXiv:1606.00021 (shallow random filters of
several sizes tell textures apart).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SMALLEST = 4
"""Pixels a side of the maps that are looked at; smaller ones hold no texture."""


class StyleNetwork(nn.Module):
    """Paints a picture of any size in the one style that it was trained for.

    Args:
        in_channels: 1 for grey pictures, 3 for coloured ones; the painting has as many.
        out_features: not used: a painting is as large as its picture.
        picture_size: not used: any size of 8 pixels or more is painted.
        hidden_sizes: channels of the whole picture, of one half of its sides and of one quarter.
        depth: residual blocks at a quarter of the sides.

    >>> StyleNetwork(3, hidden_sizes=(8, 16, 16), depth=1)(torch.zeros(2, 3, 24, 21)).shape
    torch.Size([2, 3, 24, 21])
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int = 0,
        *,
        picture_size: tuple[int, int] = (0, 0),
        hidden_sizes: Sequence[int] = (16, 32, 64),
        depth: int = 3,
    ) -> None:
        super().__init__()
        whole, half, quarter = hidden_sizes
        self.shrink = nn.Sequential(
            _convolution(in_channels, whole, 9), _convolution(whole, half, 3, 2), _convolution(half, quarter, 3, 2)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(_convolution(quarter, quarter, 3), _convolution(quarter, quarter, 3, last=True))
            for _ in range(depth)
        )
        self.to_half, self.to_whole = _convolution(quarter, half, 3), _convolution(half, whole, 3)
        self.paint = nn.Conv2d(whole, in_channels, 9, padding=4, padding_mode="reflect")
        nn.init.zeros_(self.paint.weight)  # the first painting is the picture itself
        nn.init.zeros_(self.paint.bias)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, in_channels, H, W) float, standardised, to the same shape and space."""
        height, width = pictures.shape[2:]
        x = self.shrink(pictures)
        for block in self.blocks:
            x = x + block(x)
        half = ((height + 1) // 2, (width + 1) // 2)
        x = self.to_half(nn.functional.interpolate(x, size=half, mode="nearest"))
        x = self.to_whole(nn.functional.interpolate(x, size=(height, width), mode="nearest"))
        painting: Tensor = pictures + self.paint(x)
        return painting


def _convolution(before: int, after: int, size: int, stride: int = 1, *, last: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(before, after, size, stride, padding=size // 2, padding_mode="reflect", bias=False),
        nn.InstanceNorm2d(after, affine=True),
    ]
    return nn.Sequential(*layers, *([] if last else [nn.ReLU()]))


class RandomFeatures(nn.Module):
    """Convolutions of several sizes that were never trained, at several sizes of the picture.

    What there is to look with where no network was trained: enough for colours, strokes and textures, too little for
    what is in a picture.

    Args:
        in_channels: of the pictures.
        hidden_size: channels of each convolution.
        sizes: of the convolutions that look at a picture, in pixels.
        scales: how often the picture is halved.
        seed: of the weights.

    >>> [tuple(maps.shape[1:]) for maps in RandomFeatures(3, hidden_size=8, scales=2).maps(torch.zeros(1, 3, 16, 16))]
    [(24, 16, 16), (24, 8, 8)]
    """

    def __init__(
        self,
        in_channels: int,
        *,
        hidden_size: int = 32,
        sizes: Sequence[int] = (3, 5, 9),
        scales: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.scales = scales
        generator = torch.Generator().manual_seed(seed)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(in_channels, hidden_size, size, padding=size // 2, padding_mode="reflect") for size in sizes
        )
        for layer in self.convolutions:
            for parameter in layer.parameters():
                nn.init.normal_(parameter, std=(2 / max(parameter[0].numel(), 1)) ** 0.5, generator=generator)
        self.requires_grad_(False)

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) to maps (B, channels, h, w), the largest first."""
        found = []
        for scale in range(self.scales):
            if scale:
                pictures = nn.functional.avg_pool2d(pictures, 2)
            if min(pictures.shape[2:]) < max(SMALLEST, 5):
                break
            found.append(torch.cat([torch.relu(layer(pictures)) for layer in self.convolutions], 1))
        return found


class LayerFeatures(nn.Module):
    """What a network for pictures says of each place: for each size of its maps, the last layer that gives such maps.

    Of a network of stages these are the ends of its stages, before the picture is halved.

    Args:
        network: any module that is called with pictures (B, C, H, W); it is set to evaluation, and its weights get no
            gradient.

    >>> from sounding.networks import ConvolutionalNetwork
    >>> network = ConvolutionalNetwork(3, 2, picture_size=(32, 32), hidden_sizes=(4, 8))
    >>> [tuple(maps.shape[1:]) for maps in LayerFeatures(network).maps(torch.zeros(1, 3, 32, 32))]
    [(4, 32, 32), (8, 16, 16)]
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """(B, C, H, W) to maps (B, channels, h, w), the largest first."""
        found: dict[tuple[int, int], Tensor] = {}

        def keep(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) >= SMALLEST:
                size = (output.shape[2], output.shape[3])
                found[size] = output

        leaves = [module for module in self.network.modules() if not any(module.children())]
        handles = [leaf.register_forward_hook(keep) for leaf in leaves]
        try:
            self.network(pictures)
        finally:
            for handle in handles:
                handle.remove()
        return [found[size] for size in sorted(found, reverse=True)]


def gram(maps: Tensor) -> Tensor:
    """How the features of (B, C, h, w) go together, whatever the place: (B, C, C), means of their products.

    >>> gram(torch.tensor([[[[1.0, 2.0]], [[0.0, 4.0]]]])).tolist()
    [[[2.5, 4.0], [4.0, 8.0]]]
    """
    flat = maps.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def content_distance(maps: Tensor, wanted: Tensor) -> Tensor:
    """(B,) the squared distance of features, over their mean square in the picture that is wanted."""
    size = wanted.square().mean((1, 2, 3)).clamp(min=1e-8)
    return (maps - wanted).square().mean((1, 2, 3)) / size


def style_distance(maps: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """(B,) the squared distance of Gram matrices over the squared size of those that are wanted, mean over layers.

    maps:   of each layer (B, C, h, w).
    wanted: of each layer (1, C, C) or (B, C, C).
    """
    each = [
        (gram(one) - matrix).square().sum((1, 2)) / matrix.square().sum((1, 2)).clamp(min=1e-8)
        for one, matrix in zip(maps, wanted, strict=True)
    ]
    return torch.stack(each).mean(0)


def roughness(pictures: Tensor) -> Tensor:
    """(B,) the mean squared step from pixel to pixel (total variation), which is large where there is noise."""
    across, down = pictures.diff(dim=3).square().mean((1, 2, 3)), pictures.diff(dim=2).square().mean((1, 2, 3))
    return across + down
